//! The declaration of a table as its users write it: names and types, no Iceberg ids.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_schema::{DataType, Field, Fields, Schema, TimeUnit};

use crate::names::TableName;
use crate::table::TableError;

/// Zone text of `ts` columns: Iceberg's readers know this spelling of UTC.
pub const UTC: &str = "+00:00";

/// The column every table is partitioned and sorted by.
pub const TS: &str = "ts";

/// What a column holds. Nanoseconds are plain [`ColumnType::Long`]: `timestamptz_ns` hides a table from DuckDB.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ColumnType {
    /// True or false.
    Boolean,
    /// 32-bit signed.
    Int,
    /// 64-bit signed.
    Long,
    /// 32-bit float.
    Float,
    /// 64-bit float.
    Double,
    /// Decimal; `precision` 20 and `scale` 0 hold any u64.
    Decimal {
        /// Digits in all, 1..=38.
        precision: u8,
        /// Digits after the point, 0..=`precision`.
        scale: i8,
    },
    /// Days since 1970.
    Date,
    /// UTC microseconds.
    Timestamptz,
    /// UTF-8 text.
    String,
    /// Bytes.
    Binary,
    /// Named members.
    Struct(Vec<ColumnSpec>),
    /// Any number of one type; elements may be null.
    List(Box<ColumnType>),
}

impl ColumnType {
    /// The Arrow type in which batches bring this column.
    pub fn arrow(&self) -> DataType {
        match self {
            ColumnType::Boolean => DataType::Boolean,
            ColumnType::Int => DataType::Int32,
            ColumnType::Long => DataType::Int64,
            ColumnType::Float => DataType::Float32,
            ColumnType::Double => DataType::Float64,
            ColumnType::Decimal { precision, scale } => DataType::Decimal128(*precision, *scale),
            ColumnType::Date => DataType::Date32,
            ColumnType::Timestamptz => DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
            ColumnType::String => DataType::Utf8,
            ColumnType::Binary => DataType::Binary,
            ColumnType::Struct(members) => DataType::Struct(arrow_fields(members)),
            ColumnType::List(element) => {
                DataType::List(Arc::new(Field::new("element", element.arrow(), true)))
            }
        }
    }
}

/// One column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnSpec {
    /// Name, unique in its table or struct.
    pub name: String,
    /// What it holds.
    pub column_type: ColumnType,
    /// Never null. Only columns a table is created with can be required.
    pub required: bool,
    /// For people: meaning and unit.
    pub doc: Option<String>,
}

impl ColumnSpec {
    /// A column that is never null.
    pub fn required(name: impl Into<String>, column_type: ColumnType) -> ColumnSpec {
        ColumnSpec { name: name.into(), column_type, required: true, doc: None }
    }

    /// A column that may be null.
    pub fn optional(name: impl Into<String>, column_type: ColumnType) -> ColumnSpec {
        ColumnSpec { name: name.into(), column_type, required: false, doc: None }
    }

    /// The same column with a text for people.
    #[must_use]
    pub fn with_doc(mut self, doc: impl Into<String>) -> ColumnSpec {
        self.doc = Some(doc.into());
        self
    }

    /// The same column with its unit, which readers find in the doc text. A table's unit never changes.
    #[must_use]
    pub fn with_unit(self, unit: &str) -> ColumnSpec {
        self.with_doc(format!("{UNIT}{unit}"))
    }

    /// The unit, if the column says one.
    #[must_use]
    pub fn unit(&self) -> Option<&str> {
        unit_of(self.doc.as_deref())
    }
}

/// How a doc text begins that says a unit.
const UNIT: &str = "unit: ";

pub(crate) fn unit_of(doc: Option<&str>) -> Option<&str> {
    doc?.strip_prefix(UNIT)
}

/// A table as its writer declares it. The first commit that brings rows for it creates it; later declarations may add
/// optional columns and widen types, and never take anything away: columns left out are written as null.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSpec {
    /// `<namespace>.<table>`.
    pub name: TableName,
    /// Columns in order; one is `ts`, [`ColumnType::Timestamptz`], required.
    pub columns: Vec<ColumnSpec>,
    /// Columns rows are sorted by in each file, ascending, nulls first; end with what makes a row unique, so that the
    /// order of arrival cannot show.
    pub sort: Vec<String>,
    /// Paths of columns of large bytes, e.g. `[["image", "bytes"]]`: stored without compression and statistics.
    pub blob_columns: Vec<Vec<String>>,
    /// Further table properties, `hw.kind` among them.
    pub properties: BTreeMap<String, String>,
}

impl TableSpec {
    /// A declaration without blobs and further properties.
    pub fn new(name: TableName, columns: Vec<ColumnSpec>, sort: &[&str]) -> TableSpec {
        TableSpec {
            name,
            columns,
            sort: sort.iter().map(|&column| column.to_owned()).collect(),
            blob_columns: Vec::new(),
            properties: BTreeMap::new(),
        }
    }

    /// The Arrow schema batches of this declaration have.
    pub fn arrow_schema(&self) -> Arc<Schema> {
        Arc::new(Schema::new(arrow_fields(&self.columns)))
    }

    /// Checks the declaration by itself.
    ///
    /// # Errors
    /// [`TableError::Declaration`] naming the table, the column and what is wrong.
    pub fn check(&self) -> Result<(), TableError> {
        check_members(&self.name, &self.columns)?;
        let refuse = |column: &str, reason: &str| {
            Err(TableError::Declaration {
                table: self.name.clone(),
                column: column.to_owned(),
                reason: reason.to_owned(),
            })
        };
        match self.columns.iter().find(|column| column.name == TS) {
            Some(ts) if ts.required && ts.column_type == ColumnType::Timestamptz => {}
            _ => {
                return refuse(
                    TS,
                    "every table has a required `ts` of type timestamptz: it is partitioned by its day",
                );
            }
        }
        for name in &self.sort {
            let Some(column) = self.columns.iter().find(|column| &column.name == name) else {
                return refuse(name, "rows are to be sorted by it but it is not declared");
            };
            if matches!(column.column_type, ColumnType::Struct(_) | ColumnType::List(_)) {
                return refuse(name, "rows cannot be sorted by a struct or list");
            }
        }
        Ok(())
    }
}

fn check_members(table: &TableName, members: &[ColumnSpec]) -> Result<(), TableError> {
    let refuse = |column: &str, reason: &str| {
        Err(TableError::Declaration {
            table: table.clone(),
            column: column.to_owned(),
            reason: reason.to_owned(),
        })
    };
    let mut seen = std::collections::BTreeSet::new();
    for member in members {
        if member.name.is_empty() || member.name.contains('.') {
            return refuse(&member.name, "a column name is not empty and has no dot");
        }
        if member.name == "ts_day" {
            return refuse(&member.name, "the name belongs to the partition");
        }
        if !seen.insert(&member.name) {
            return refuse(&member.name, "it is declared twice");
        }
        check_type(table, &member.name, &member.column_type)?;
    }
    Ok(())
}

fn check_type(table: &TableName, column: &str, column_type: &ColumnType) -> Result<(), TableError> {
    match column_type {
        ColumnType::Struct(members) if members.is_empty() => Err(TableError::Declaration {
            table: table.clone(),
            column: column.to_owned(),
            reason: "a struct needs a member".to_owned(),
        }),
        ColumnType::Struct(members) => check_members(table, members),
        ColumnType::List(element) => check_type(table, column, element),
        ColumnType::Decimal { precision, scale }
            if !(1..=38).contains(precision) || *scale < 0 || i16::from(*scale) > i16::from(*precision) =>
        {
            Err(TableError::Declaration {
                table: table.clone(),
                column: column.to_owned(),
                reason: format!(
                    "decimal({precision}, {scale}) is out of range: precision 1..=38, scale 0..=precision"
                ),
            })
        }
        _ => Ok(()),
    }
}

fn arrow_fields(members: &[ColumnSpec]) -> Fields {
    members
        .iter()
        .map(|member| Field::new(&member.name, member.column_type.arrow(), !member.required))
        .collect()
}

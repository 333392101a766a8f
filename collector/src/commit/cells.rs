//! Rows by column name, for tables that are small: readable where they are made, columns where they are written.

use arrow_array::builder::{
    BinaryBuilder, BooleanBuilder, Decimal128Builder, Float32Builder, Float64Builder, Int32Builder,
    Int64Builder, StringBuilder, TimestampMicrosecondBuilder,
};
use arrow_array::{ArrayRef, RecordBatch, StructArray};
use arrow_buffer::NullBuffer;
use arrow_schema::{ArrowError, DataType};
use headwater_lake::{ColumnSpec, ColumnType, TableAppend, TableSpec, UTC};
use std::sync::Arc;

/// One value of one column. Integers stand for every integer type, `Int` included.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// Missing.
    Null,
    /// True or false.
    Bool(bool),
    /// Integers and timestamps (µs).
    Long(i64),
    /// Single.
    Float(f32),
    /// Double.
    Double(f64),
    /// Any u64.
    Decimal(i128),
    /// Text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// Members in the order of the declaration.
    Struct(Vec<Cell>),
}

macro_rules! cell_from {
    ($($type:ty => $variant:ident),* $(,)?) => {
        $(impl From<$type> for Cell {
            fn from(value: $type) -> Cell {
                Cell::$variant(value.into())
            }
        })*
    };
}
cell_from!(bool => Bool, i64 => Long, u32 => Long, i32 => Long, f32 => Float, f64 => Double, &str => Text, String => Text, Vec<u8> => Bytes);

impl From<u64> for Cell {
    /// Counts and seqs stay below 2^63; what does not saturates.
    fn from(value: u64) -> Cell {
        Cell::Long(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Cell {
        value.map_or(Cell::Null, Into::into)
    }
}

/// Rows of one table on their way to a commit.
#[derive(Debug, Clone)]
pub struct TableRows {
    spec: TableSpec,
    rows: Vec<Vec<Cell>>,
}

impl TableRows {
    /// No rows yet.
    #[must_use]
    pub fn new(spec: TableSpec) -> Self {
        Self { spec, rows: Vec::new() }
    }

    /// Adds a row; columns not named are null.
    ///
    /// # Panics
    /// In debug builds when a column is not declared, which only a bug does.
    pub fn push<'a>(&mut self, cells: impl IntoIterator<Item = (&'a str, Cell)>) {
        let mut row = vec![Cell::Null; self.spec.columns.len()];
        for (name, cell) in cells {
            let place = self.spec.columns.iter().position(|column| column.name == name);
            debug_assert!(place.is_some(), "{} has no column {name}", self.spec.name);
            if let Some(slot) = place.and_then(|place| row.get_mut(place)) {
                *slot = cell;
            }
        }
        self.rows.push(row);
    }

    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// True without rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The append of a commit.
    ///
    /// # Errors
    /// When a cell is of another type than its column, which only a bug does.
    pub fn to_append(&self) -> Result<TableAppend, ArrowError> {
        let columns = (0..self.spec.columns.len())
            .map(|place| {
                let cells: Vec<&Cell> =
                    self.rows.iter().map(|row| row.get(place).unwrap_or(&Cell::Null)).collect();
                let column = self.spec.columns.get(place).ok_or_else(|| wrong("a column", &Cell::Null))?;
                array(column, &cells)
            })
            .collect::<Result<Vec<ArrayRef>, ArrowError>>()?;
        let batch = RecordBatch::try_new(self.spec.arrow_schema(), columns)?;
        Ok(TableAppend { spec: self.spec.clone(), batches: vec![batch] })
    }
}

fn wrong(column: &str, cell: &Cell) -> ArrowError {
    ArrowError::InvalidArgumentError(format!("column {column} cannot hold {cell:?}"))
}

macro_rules! build {
    ($builder:expr, $column:expr, $cells:expr, $($pattern:pat => $value:expr),+) => {{
        let mut builder = $builder;
        for cell in $cells {
            match cell {
                Cell::Null => builder.append_null(),
                $($pattern => builder.append_value($value),)+
                other => return Err(wrong(&$column.name, other)),
            }
        }
        Arc::new(builder.finish())
    }};
}

fn array(column: &ColumnSpec, cells: &[&Cell]) -> Result<ArrayRef, ArrowError> {
    Ok(match &column.column_type {
        ColumnType::Boolean => build!(BooleanBuilder::new(), column, cells, Cell::Bool(b) => *b),
        ColumnType::Int => {
            let mut builder = Int32Builder::new();
            for cell in cells {
                match cell {
                    Cell::Null => builder.append_null(),
                    Cell::Long(n) => {
                        builder.append_value(i32::try_from(*n).map_err(|_| wrong(&column.name, cell))?);
                    }
                    other => return Err(wrong(&column.name, other)),
                }
            }
            Arc::new(builder.finish())
        }
        ColumnType::Long => build!(Int64Builder::new(), column, cells, Cell::Long(n) => *n),
        ColumnType::Float => build!(Float32Builder::new(), column, cells, Cell::Float(x) => *x),
        ColumnType::Double => {
            build!(Float64Builder::new(), column, cells, Cell::Double(x) => *x, Cell::Float(x) => f64::from(*x))
        }
        ColumnType::Decimal { precision, scale } => {
            let builder = Decimal128Builder::new().with_data_type(DataType::Decimal128(*precision, *scale));
            build!(builder, column, cells, Cell::Decimal(n) => *n)
        }
        ColumnType::Timestamptz => {
            let builder = TimestampMicrosecondBuilder::new().with_timezone(UTC);
            build!(builder, column, cells, Cell::Long(us) => *us)
        }
        ColumnType::String => build!(StringBuilder::new(), column, cells, Cell::Text(text) => text),
        ColumnType::Binary => build!(BinaryBuilder::new(), column, cells, Cell::Bytes(bytes) => bytes),
        ColumnType::Struct(members) => {
            let columns = members
                .iter()
                .enumerate()
                .map(|(place, member)| {
                    let inner = cells
                        .iter()
                        .map(|cell| match cell {
                            Cell::Null => Ok(&Cell::Null),
                            Cell::Struct(inner) => inner.get(place).ok_or_else(|| wrong(&member.name, cell)),
                            other => Err(wrong(&column.name, other)),
                        })
                        .collect::<Result<Vec<&Cell>, ArrowError>>()?;
                    array(member, &inner)
                })
                .collect::<Result<Vec<ArrayRef>, ArrowError>>()?;
            let DataType::Struct(fields) = column.column_type.arrow() else {
                return Err(wrong(&column.name, &Cell::Null));
            };
            let valid = NullBuffer::from_iter(cells.iter().map(|cell| **cell != Cell::Null));
            Arc::new(StructArray::try_new(fields, columns, Some(valid))?)
        }
        other => return Err(ArrowError::NotYetImplemented(format!("column {} of {other:?}", column.name))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::Array;
    use arrow_array::cast::AsArray;
    use arrow_array::types::Int64Type;
    use headwater_lake::TableName;

    fn spec() -> TableSpec {
        let members =
            vec![ColumnSpec::optional("a", ColumnType::Long), ColumnSpec::optional("b", ColumnType::String)];
        let columns = vec![
            ColumnSpec::required("ts", ColumnType::Timestamptz),
            ColumnSpec::optional("n", ColumnType::Long),
            ColumnSpec::optional("s", ColumnType::Struct(members)),
        ];
        TableSpec::new(TableName::new("ops.x").unwrap(), columns, &["ts"])
    }

    #[test]
    fn cells_become_columns_and_what_is_not_named_is_null() {
        let mut rows = TableRows::new(spec());
        rows.push([("ts", Cell::Long(5)), ("n", 7_u64.into())]);
        rows.push([("s", Cell::Struct(vec![1_i64.into(), "x".into()])), ("ts", 6_i64.into())]);
        let batch = &rows.to_append().unwrap().batches[0];
        assert_eq!(batch.column(1).as_primitive::<Int64Type>().iter().collect::<Vec<_>>(), [Some(7), None]);
        let s = batch.column(2).as_struct();
        assert!(s.is_null(0) && s.is_valid(1));
        assert_eq!(s.column(1).as_string::<i32>().value(1), "x");
    }

    #[test]
    fn a_cell_of_another_type_is_an_error() {
        let mut rows = TableRows::new(spec());
        rows.push([("ts", Cell::Long(5)), ("n", "seven".into())]);
        assert!(rows.to_append().unwrap_err().to_string().contains("column n cannot hold"));
    }
}

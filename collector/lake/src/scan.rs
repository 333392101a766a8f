//! Reading rows back: Iceberg's own scan over one commit's snapshot of a table.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::ready;
use futures::{StreamExt, TryStreamExt, stream};
use iceberg::arrow::ArrowReaderBuilder;
use iceberg::expr::{Predicate, Reference};
use iceberg::spec::{Datum, PrimitiveType, SchemaRef, TableMetadata, Type};
use iceberg::table::Table;
use iceberg::{Runtime, TableIdent};

use crate::error::LakeError;
use crate::lake::{BatchStream, ScanOptions};
use crate::names::TableName;
use crate::repo::TableEntry;
use crate::store::LakeStore;
use crate::table::{TS, TableError};

/// Bytes of manifests a scan may keep in memory; it reads each once.
const MANIFEST_CACHE_BYTES: u64 = 32 << 20;

/// How a column is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compare {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

/// One column against one value. A null meets no condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// The column: boolean, number, decimal, date, time or text.
    pub column: String,
    /// How.
    pub compare: Compare,
    /// The value as text; it is read in the column's type. Times as RFC 3339.
    pub value: String,
}

impl Condition {
    fn predicate(&self, table: &TableName, schema: &SchemaRef) -> Result<Predicate, LakeError> {
        let refuse = |reason: String| -> LakeError {
            TableError::Arrow { table: table.clone(), column: self.column.clone(), reason }.into()
        };
        let field = schema.as_struct().field_by_name(&self.column);
        let field = field.ok_or_else(|| refuse("the table has no such column".to_owned()))?;
        let Type::Primitive(kind) = field.field_type.as_ref() else {
            return Err(refuse("a struct or list cannot be compared; name a plain column".to_owned()));
        };
        let value = datum(kind, &self.value)
            .ok_or_else(|| refuse(format!("{:?} is no value of its type, {kind}", self.value)))?;
        let column = Reference::new(&self.column);
        Ok(match self.compare {
            Compare::Equal => column.equal_to(value),
            // Iceberg counts a null as not equal; people who write it do not expect rows without a value.
            Compare::NotEqual => column.clone().not_equal_to(value).and(column.is_not_null()),
            Compare::Less => column.less_than(value),
            Compare::LessOrEqual => column.less_than_or_equal_to(value),
            Compare::Greater => column.greater_than(value),
            Compare::GreaterOrEqual => column.greater_than_or_equal_to(value),
        })
    }
}

fn datum(kind: &PrimitiveType, text: &str) -> Option<Datum> {
    match kind {
        PrimitiveType::Boolean => text.parse::<bool>().ok().map(Datum::bool),
        PrimitiveType::Int => text.parse::<i32>().ok().map(Datum::int),
        PrimitiveType::Long => text.parse::<i64>().ok().map(Datum::long),
        PrimitiveType::Float => text.parse::<f32>().ok().map(Datum::float),
        PrimitiveType::Double => text.parse::<f64>().ok().map(Datum::double),
        PrimitiveType::Date => Datum::date_from_str(text).ok(),
        PrimitiveType::Timestamptz => Datum::timestamptz_from_str(text).ok(),
        PrimitiveType::String => Some(Datum::string(text)),
        _ => None,
    }
}

/// Everything the options ask of a row, as one predicate; none asks nothing.
fn predicate(
    table: &TableName,
    schema: &SchemaRef,
    options: &ScanOptions,
) -> Result<Option<Predicate>, LakeError> {
    let mut asked = Vec::new();
    if let Some(device) = &options.device {
        asked.push(Reference::new("device").equal_to(Datum::string(device)));
    }
    if let Some(from) = options.from_us {
        asked.push(Reference::new(TS).greater_than_or_equal_to(Datum::timestamptz_micros(from)));
    }
    if let Some(to) = options.to_us {
        asked.push(Reference::new(TS).less_than(Datum::timestamptz_micros(to)));
    }
    for condition in &options.conditions {
        asked.push(condition.predicate(table, schema)?);
    }
    Ok(asked.into_iter().reduce(Predicate::and))
}

/// Reads rows of one state of a table; with `only`, those of these data files, named by URL.
pub(crate) async fn scan(
    store: &LakeStore,
    name: &TableName,
    entry: &TableEntry,
    options: ScanOptions,
    only: Option<BTreeSet<String>>,
) -> Result<BatchStream, LakeError> {
    let fail = || LakeError::iceberg(format!("scan {name}"));
    let file_io = store.file_io();
    let metadata = TableMetadata::read_from(&file_io, &entry.metadata_location).await.map_err(fail())?;
    let schema = Arc::clone(metadata.current_schema());
    let asked =
        options.columns.iter().flatten().map(String::as_str).chain(options.device.as_ref().map(|_| "device"));
    for column in asked {
        if schema.as_struct().field_by_name(column).is_none() {
            let reason = "the table has no such column".to_owned();
            return Err(TableError::Arrow { table: name.clone(), column: column.to_owned(), reason }.into());
        }
    }
    let table_order: Vec<String> =
        schema.as_struct().fields().iter().map(|field| field.name.clone()).collect();
    let Some(snapshot_id) = entry.snapshot_id else { return Ok(stream::empty().boxed()) };

    let table = Table::builder()
        .file_io(file_io.clone())
        .metadata(metadata)
        .metadata_location(entry.metadata_location.clone())
        .identifier(TableIdent::from_strs([name.namespace(), name.table()]).map_err(fail())?)
        .cache_size_bytes(MANIFEST_CACHE_BYTES)
        .readonly(true)
        .runtime(Runtime::try_current().map_err(fail())?)
        .build()
        .map_err(fail())?;
    let mut scan = table.scan().snapshot_id(snapshot_id);
    if let Some(columns) = &options.columns {
        // In the table's own order: the reader hands out a file's columns in that order, and in iceberg 0.10 a selection
        // in another one puts the names of some on the values of others of the same type.
        let mut columns = columns.clone();
        columns.sort_by_key(|column| table_order.iter().position(|name| name == column));
        columns.dedup();
        scan = scan.select(&columns);
    }
    if let Some(filter) = predicate(name, &schema, &options)? {
        scan = scan.with_filter(filter);
    }
    if options.in_order {
        scan = scan.with_concurrency_limit(1);
    }
    let scan = scan.build().map_err(fail())?;
    let rows = match only {
        None => scan.to_arrow().await.map_err(fail())?,
        Some(files) => {
            let tasks = scan.plan_files().await.map_err(fail())?;
            let tasks = tasks.try_filter(move |task| ready(files.contains(task.data_file_path())));
            let runtime = Runtime::try_current().map_err(fail())?;
            let reader = ArrowReaderBuilder::new(file_io, runtime).build();
            reader.read(tasks.boxed()).map_err(fail())?.stream()
        }
    };
    let name = name.clone();
    let rows = rows.map_err(move |e| LakeError::iceberg(format!("read rows of {name}"))(e));
    let Some(limit) = options.limit else { return Ok(rows.boxed()) };
    let limited = rows.scan(limit, |left, batch| {
        let taken = match batch {
            _ if *left == 0 => None,
            Ok(batch) => {
                let batch = batch.slice(0, batch.num_rows().min(*left));
                *left -= batch.num_rows();
                Some(Ok(batch))
            }
            Err(e) => Some(Err(e)),
        };
        ready(taken)
    });
    Ok(limited.boxed())
}

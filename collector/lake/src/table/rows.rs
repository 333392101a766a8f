//! Rows on their way into files: columns matched by name, sorted, and split by UTC day.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{Array, ArrayRef, RecordBatch, StructArray, UInt32Array, make_array, new_null_array};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_ord::sort::{SortColumn, SortOptions, lexsort_to_indices};
use arrow_schema::{ArrowError, DataType, Field, SchemaRef};
use arrow_select::concat::concat_batches;
use arrow_select::take::take_record_batch;

use super::{ColumnSpec, ColumnType, TS, TableError, TableSpec};

/// Microseconds of a UTC day.
pub(crate) const DAY_US: i64 = 86_400_000_000;

/// Brings `batches` into the table's columns `target` (which carry the field ids): widened where the table is wider,
/// null where the writer has no such column.
pub(super) fn align(
    spec: &TableSpec,
    target: &SchemaRef,
    batches: &[RecordBatch],
) -> Result<RecordBatch, TableError> {
    let aligned: Vec<RecordBatch> = batches
        .iter()
        .filter(|batch| batch.num_rows() > 0)
        .map(|batch| align_one(spec, target, batch))
        .collect::<Result<_, _>>()?;
    concat_batches(target, &aligned).map_err(|e| failed(spec, "*", e))
}

/// Rows read from the table as the columns of `target`: the same but for how Arrow lays them out.
pub(crate) fn conform(
    spec: &TableSpec,
    target: &SchemaRef,
    batch: &RecordBatch,
) -> Result<RecordBatch, TableError> {
    let columns = target
        .fields()
        .iter()
        .map(|field| match batch.column_by_name(field.name()) {
            Some(column) => convert(spec, field.name(), column, field),
            None => null_column(spec, field.name(), field, batch.num_rows()),
        })
        .collect::<Result<Vec<ArrayRef>, TableError>>()?;
    RecordBatch::try_new(Arc::clone(target), columns).map_err(|e| failed(spec, "*", e))
}

/// Rows by UTC day of `ts`, each part in the order of `sort`. Ties are broken by all other plain columns, so that equal
/// rows in any order of arrival give equal files.
pub(crate) fn by_day(
    spec: &TableSpec,
    sort: &[String],
    rows: &RecordBatch,
) -> Result<BTreeMap<i32, RecordBatch>, TableError> {
    let schema = rows.schema_ref();
    let rest = schema.fields().iter().map(|field| field.name()).filter(|name| !sort.contains(name));
    let options = Some(SortOptions { descending: false, nulls_first: true });
    let keys: Vec<SortColumn> = sort
        .iter()
        .chain(rest)
        .filter_map(|name| rows.column_by_name(name))
        .filter(|column| !column.data_type().is_nested())
        .map(|column| SortColumn { values: Arc::clone(column), options })
        .collect();
    let order = lexsort_to_indices(&keys, None).map_err(|e| failed(spec, TS, e))?;

    let ts = rows.column_by_name(TS).and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>());
    let ts = ts.ok_or_else(|| failed(spec, TS, ArrowError::SchemaError("it is no timestamp".to_owned())))?;
    let mut days: BTreeMap<i32, Vec<u32>> = BTreeMap::new();
    for &row in order.values() {
        let day = ts.value(usize::try_from(row).expect("a row number is an index")).div_euclid(DAY_US);
        let day = i32::try_from(day).expect("64 bits of microseconds are less than 2^27 days");
        days.entry(day).or_default().push(row);
    }
    days.into_iter()
        .map(|(day, order)| {
            let part = take_record_batch(rows, &UInt32Array::from(order)).map_err(|e| failed(spec, TS, e))?;
            Ok((day, part))
        })
        .collect()
}

pub(crate) fn failed(spec: &TableSpec, column: &str, source: ArrowError) -> TableError {
    TableError::Arrow { table: spec.name.clone(), column: column.to_owned(), reason: source.to_string() }
}

fn align_one(spec: &TableSpec, target: &SchemaRef, batch: &RecordBatch) -> Result<RecordBatch, TableError> {
    for field in batch.schema_ref().fields() {
        let column = spec.columns.iter().find(|column| &column.name == field.name());
        let Some(column) = column else {
            return Err(TableError::UndeclaredColumn {
                table: spec.name.clone(),
                column: field.name().clone(),
            });
        };
        if !fits(field.data_type(), &column.column_type) {
            return Err(TableError::ColumnType {
                table: spec.name.clone(),
                column: field.name().clone(),
                expected: column.column_type.arrow().to_string(),
                found: field.data_type().to_string(),
            });
        }
    }
    conform(spec, target, batch)
}

/// Whether a batch's type is the declared one, give or take how Arrow lays it out.
fn fits(found: &DataType, declared: &ColumnType) -> bool {
    match (found, declared) {
        (DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View, ColumnType::String)
        | (DataType::Binary | DataType::LargeBinary | DataType::BinaryView, ColumnType::Binary) => true,
        (DataType::Dictionary(_, value), ColumnType::String) => fits(value, declared),
        (DataType::Timestamp(arrow_schema::TimeUnit::Microsecond, Some(zone)), ColumnType::Timestamptz) => {
            matches!(zone.as_ref(), "UTC" | "+00:00")
        }
        (DataType::Struct(fields), ColumnType::Struct(members)) => fields.iter().all(|field| {
            let member = members.iter().find(|member: &&ColumnSpec| &member.name == field.name());
            member.is_some_and(|member| fits(field.data_type(), &member.column_type))
        }),
        (DataType::List(field), ColumnType::List(element)) => fits(field.data_type(), element),
        (found, declared) => found == &declared.arrow(),
    }
}

fn null_column(spec: &TableSpec, path: &str, field: &Field, rows: usize) -> Result<ArrayRef, TableError> {
    if field.is_nullable() {
        Ok(new_null_array(field.data_type(), rows))
    } else {
        Err(TableError::RequiredNull { table: spec.name.clone(), column: path.to_owned(), nulls: rows })
    }
}

fn convert(spec: &TableSpec, path: &str, column: &ArrayRef, field: &Field) -> Result<ArrayRef, TableError> {
    if !field.is_nullable() && column.logical_null_count() > 0 {
        let nulls = column.logical_null_count();
        return Err(TableError::RequiredNull { table: spec.name.clone(), column: path.to_owned(), nulls });
    }
    match field.data_type() {
        found if found == column.data_type() => Ok(Arc::clone(column)),
        DataType::Struct(members) => {
            let Some(column) = column.as_struct_opt() else {
                return Err(failed(spec, path, ArrowError::CastError("it is no struct".to_owned())));
            };
            let children = members
                .iter()
                .map(|member| {
                    let path = format!("{path}.{}", member.name());
                    match column.column_by_name(member.name()) {
                        // A null struct has null members whatever they claim to be.
                        Some(child) if column.null_count() > 0 => {
                            let nullable = Field::clone(member).with_nullable(true);
                            convert(spec, &path, child, &nullable)
                        }
                        Some(child) => convert(spec, &path, child, member),
                        None => null_column(spec, &path, member, column.len()),
                    }
                })
                .collect::<Result<Vec<_>, _>>()?;
            let built = StructArray::try_new(members.clone(), children, column.nulls().cloned());
            built.map(|array| Arc::new(array) as ArrayRef).map_err(|e| failed(spec, path, e))
        }
        DataType::List(element) => {
            let Some(list) = column.as_list_opt::<i32>() else {
                return Err(failed(spec, path, ArrowError::CastError("it is no list".to_owned())));
            };
            let values = convert(spec, &format!("{path}.element"), list.values(), element)?;
            let data = list.to_data().into_builder().data_type(field.data_type().clone());
            let data = data.child_data(vec![values.to_data()]).build().map_err(|e| failed(spec, path, e))?;
            Ok(make_array(data))
        }
        wanted => {
            // Only widenings and other layouts of the same values get here; an overflow is an error, not a null.
            let options = CastOptions { safe: false, ..CastOptions::default() };
            cast_with_options(column, wanted, &options).map_err(|e| failed(spec, path, e))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::TableName;
    use arrow_array::{Int32Array, Int64Array, TimestampMicrosecondArray};

    fn spec() -> TableSpec {
        let columns = vec![
            ColumnSpec::required(TS, ColumnType::Timestamptz),
            ColumnSpec::optional("x", ColumnType::Int),
            ColumnSpec::optional("y", ColumnType::Long),
        ];
        TableSpec::new(TableName::new("raw.imu").unwrap(), columns, &[TS])
    }

    fn stamps(us: Vec<i64>) -> ArrayRef {
        Arc::new(TimestampMicrosecondArray::from(us).with_timezone("UTC"))
    }

    #[test]
    fn days_are_utc_days_also_before_1970() {
        let spec = spec();
        let batch = RecordBatch::try_from_iter([("ts", stamps(vec![DAY_US, -1, 0, DAY_US - 1]))]).unwrap();
        let rows = align(&spec, &spec.arrow_schema(), &[batch]).unwrap();
        let days = by_day(&spec, &spec.sort, &rows).unwrap();
        let counts: Vec<(i32, usize)> = days.iter().map(|(day, rows)| (*day, rows.num_rows())).collect();
        assert_eq!(counts, [(-1, 1), (0, 2), (1, 1)]);
    }

    #[test]
    fn misfits_are_named() {
        let spec = spec();
        let check = |columns: Vec<(&str, ArrayRef)>| {
            align(&spec, &spec.arrow_schema(), &[RecordBatch::try_from_iter(columns).unwrap()])
                .unwrap_err()
                .to_string()
        };
        let ts = || ("ts", stamps(vec![1]));
        let long = || Arc::new(Int64Array::from(vec![1])) as ArrayRef;
        assert_eq!(
            check(vec![ts(), ("x", long())]),
            "write raw.imu.x: expected Int32, the batch brings Int64"
        );
        assert_eq!(
            check(vec![ts(), ("z", long())]),
            "write raw.imu.z: the batch brings it but the declaration does not"
        );
        let text = check(vec![("x", Arc::new(Int32Array::from(vec![1])))]);
        assert_eq!(text, "write raw.imu.ts: it is required, the batch leaves it null in 1 rows");
    }
}

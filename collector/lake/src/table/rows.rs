//! Rows on their way into files: columns matched by name, sorted, and split by UTC day.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{
    Array, ArrayRef, RecordBatch, StructArray, UInt32Array, make_array, new_empty_array, new_null_array,
};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{ArrowError, DataType, Field, FieldRef, SchemaRef};
use arrow_select::concat::concat;
use arrow_select::take::take;

use super::sorting::{self, Order};
use super::{ColumnSpec, ColumnType, TS, TableError, TableSpec, parallel};

/// Microseconds of a UTC day.
pub(crate) const DAY_US: i64 = 86_400_000_000;

/// Brings `batches` into the table's columns `target` (which carry the field ids): widened where the table is wider,
/// null where the writer has no such column. Batches of one form are put together first: a commit may bring thousands of
/// them, and what is done once a batch and column is then done once a column.
pub(super) fn align(
    spec: &TableSpec,
    target: &SchemaRef,
    batches: &[RecordBatch],
) -> Result<RecordBatch, TableError> {
    let mut forms: Vec<(&SchemaRef, Vec<&RecordBatch>)> = Vec::new();
    for batch in batches.iter().filter(|batch| batch.num_rows() > 0) {
        let schema = batch.schema_ref();
        match forms.last_mut() {
            Some((form, of_it)) if Arc::ptr_eq(form, schema) || *form == schema => of_it.push(batch),
            _ => forms.push((schema, vec![batch])),
        }
    }
    for (form, _) in &forms {
        check_form(spec, form)?;
    }
    let count = batches.iter().map(RecordBatch::num_rows).sum();
    let columns = parallel::map(count, target.fields().iter().collect(), |field: &FieldRef| {
        let mut parts = Vec::with_capacity(forms.len());
        for (form, of_it) in &forms {
            parts.push(match form.index_of(field.name()) {
                Ok(place) => {
                    convert(spec, field.name(), &together(spec, field.name(), of_it, place)?, field)?
                }
                Err(_) => {
                    let rows = of_it.iter().map(|batch| batch.num_rows()).sum();
                    null_column(spec, field.name(), field, rows)?
                }
            });
        }
        match parts.as_slice() {
            [] => Ok(new_empty_array(field.data_type())),
            [one] => Ok(Arc::clone(one)),
            many => joined(spec, field.name(), many),
        }
    })?;
    RecordBatch::try_new(Arc::clone(target), columns).map_err(|e| failed(spec, "*", e))
}

/// Column `place` of all `batches`, which are of one form.
fn together(
    spec: &TableSpec,
    name: &str,
    batches: &[&RecordBatch],
    place: usize,
) -> Result<ArrayRef, TableError> {
    match batches {
        [one] => Ok(Arc::clone(one.column(place))),
        many => {
            let parts: Vec<&dyn Array> = many.iter().map(|batch| batch.column(place).as_ref()).collect();
            concat(&parts).map_err(|e| failed(spec, name, e))
        }
    }
}

fn joined(spec: &TableSpec, name: &str, parts: &[ArrayRef]) -> Result<ArrayRef, TableError> {
    let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
    concat(&parts).map_err(|e| failed(spec, name, e))
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
    let plain =
        |name: &String| rows.column_by_name(name).filter(|column| !column.data_type().is_nested()).cloned();
    let keys: Vec<ArrayRef> = sort.iter().filter_map(plain).collect();
    let ties: Vec<ArrayRef> = rest.filter_map(plain).collect();
    let order = sorting::order(&keys, &ties).map_err(|e| failed(spec, TS, e))?;

    let ts = rows.column_by_name(TS).and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>());
    let ts = ts.ok_or_else(|| failed(spec, TS, ArrowError::SchemaError("it is no timestamp".to_owned())))?;
    let day_of = |us: i64| {
        i32::try_from(us.div_euclid(DAY_US)).expect("64 bits of microseconds are less than 2^27 days")
    };
    let Some(&first) = ts.values().first() else { return Ok(BTreeMap::new()) };
    let day = day_of(first);
    if ts.values().iter().all(|us| day_of(*us) == day) {
        let sorted = match order {
            Order::Kept => rows.clone(),
            Order::Rows(order) => gathered(spec, rows, order)?,
        };
        return Ok(BTreeMap::from([(day, sorted)]));
    }
    let mut days: BTreeMap<i32, Vec<u32>> = BTreeMap::new();
    let mut sort_in = |row: u32| {
        let at = ts.value(usize::try_from(row).expect("a row number is an index"));
        days.entry(day_of(at)).or_default().push(row);
    };
    match order {
        Order::Kept => (0..).take(rows.num_rows()).for_each(&mut sort_in),
        Order::Rows(order) => order.into_iter().for_each(&mut sort_in),
    }
    days.into_iter().map(|(day, order)| Ok((day, gathered(spec, rows, order)?))).collect()
}

/// The rows of these numbers.
fn gathered(spec: &TableSpec, rows: &RecordBatch, order: Vec<u32>) -> Result<RecordBatch, TableError> {
    let order = UInt32Array::from(order);
    let columns = parallel::map(order.len(), rows.columns().iter().collect(), |column: &ArrayRef| {
        take(column, &order, None)
    });
    let columns = columns.map_err(|e| failed(spec, "*", e))?;
    RecordBatch::try_new(rows.schema(), columns).map_err(|e| failed(spec, "*", e))
}

pub(crate) fn failed(spec: &TableSpec, column: &str, source: ArrowError) -> TableError {
    TableError::Arrow { table: spec.name.clone(), column: column.to_owned(), reason: source.to_string() }
}

/// Whether the batches of this form bring what was declared and nothing else.
fn check_form(spec: &TableSpec, form: &SchemaRef) -> Result<(), TableError> {
    for field in form.fields() {
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
    Ok(())
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

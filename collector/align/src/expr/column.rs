//! Columns of a batch as values of a formula.

use super::ExprError;
use super::ast::{Kind, Node};
use super::eval::Values;
use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float32Type, Int8Type, Int16Type, Int32Type, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, ArrowPrimitiveType, RecordBatch};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, TimeUnit};
use std::sync::Arc;

/// The array a path names; nulls of the structs on the way are its own.
pub(super) fn find(path: &[String], at: usize, rows: &RecordBatch) -> Result<ArrayRef, ExprError> {
    let missing = || ExprError::new(at, format!("no column is called {}", path.join(".")));
    let (first, members) = path.split_first().ok_or_else(missing)?;
    let mut array = Arc::clone(rows.column_by_name(first).ok_or_else(missing)?);
    for member in members {
        let outer = array.as_struct_opt().ok_or_else(missing)?;
        let inner = outer.column_by_name(member).ok_or_else(missing)?;
        let nulls = NullBuffer::union(outer.nulls(), inner.nulls());
        let data = inner.to_data().into_builder().nulls(nulls).build();
        array = arrow_array::make_array(data.map_err(|_| missing())?);
    }
    Ok(array)
}

fn integers<T: ArrowPrimitiveType>(array: &ArrayRef) -> Values
where
    i64: TryFrom<T::Native>,
{
    Values::Int(
        array
            .as_primitive::<T>()
            .iter()
            .map(|value| value.and_then(|value| i64::try_from(value).ok()))
            .collect(),
    )
}

/// What the column at `node` holds. Unsigned integers beyond 63 bits are null.
pub(super) fn values(path: &[String], node: &Node, rows: &RecordBatch) -> Result<Values, ExprError> {
    let array = find(path, node.at, rows)?;
    Ok(match array.data_type() {
        DataType::Boolean => Values::Bool(array.as_boolean().clone()),
        DataType::Int8 => integers::<Int8Type>(&array),
        DataType::Int16 => integers::<Int16Type>(&array),
        DataType::Int32 => integers::<Int32Type>(&array),
        DataType::Int64 => Values::Int(array.as_primitive().clone()),
        DataType::UInt8 => integers::<UInt8Type>(&array),
        DataType::UInt16 => integers::<UInt16Type>(&array),
        DataType::UInt32 => integers::<UInt32Type>(&array),
        DataType::UInt64 => integers::<UInt64Type>(&array),
        DataType::Timestamp(unit, _) => match unit {
            TimeUnit::Second => integers::<TimestampSecondType>(&array),
            TimeUnit::Millisecond => integers::<TimestampMillisecondType>(&array),
            TimeUnit::Microsecond => integers::<TimestampMicrosecondType>(&array),
            TimeUnit::Nanosecond => integers::<TimestampNanosecondType>(&array),
        },
        DataType::Float32 => Values::Float(
            array.as_primitive::<Float32Type>().iter().map(|value| value.map(f64::from)).collect(),
        ),
        DataType::Float64 => Values::Float(array.as_primitive().clone()),
        DataType::Utf8 => Values::Text(array.as_string::<i32>().clone()),
        DataType::LargeUtf8 => Values::Text(array.as_string::<i64>().iter().collect()),
        other => {
            return Err(ExprError::new(
                node.at,
                format!("{} of type {other} has no value here", path.join(".")),
            ));
        }
    })
}

/// Which rows of any expression are null; a column of any type can be asked.
pub(super) fn nulls_of(node: &Node, rows: &RecordBatch) -> Option<Result<ArrayRef, ExprError>> {
    match &node.kind {
        Kind::Column(path) => Some(find(path, node.at, rows)),
        _ => None,
    }
}

//! Rows of any table as JSON values.

use super::QueryError;
use arrow_array::cast::AsArray;
use arrow_array::types::{
    Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType,
};
use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, TimeUnit};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

/// How bytes become JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bytes {
    /// By their number only.
    Length,
    /// Whole.
    Base64,
}

/// The rows of a batch, each as an object. Bytes are shown by their number only.
///
/// # Errors
/// [`QueryError::Column`] for a type no table of ours has.
pub fn row_values(batch: &RecordBatch) -> Result<Vec<Map<String, Value>>, QueryError> {
    values(batch, Bytes::Length)
}

/// The rows of a batch, each as an object.
///
/// # Errors
/// As [`row_values`].
pub(super) fn values(batch: &RecordBatch, bytes: Bytes) -> Result<Vec<Map<String, Value>>, QueryError> {
    let schema = batch.schema();
    (0..batch.num_rows())
        .map(|row| {
            let mut object = Map::new();
            for (field, column) in schema.fields().iter().zip(batch.columns()) {
                let value = cell(column, row, bytes)
                    .map_err(|reason| QueryError::Column { column: field.name().clone(), reason })?;
                object.insert(field.name().clone(), value);
            }
            Ok(object)
        })
        .collect()
}

/// UTC text of microseconds since 1970, or the number where no calendar reaches.
fn utc(micros: i64) -> Value {
    chrono::DateTime::from_timestamp_micros(micros)
        .map_or_else(|| json!(micros), |t| json!(t.to_rfc3339_opts(chrono::SecondsFormat::Micros, true)))
}

/// JSON has no NaN and no infinities: they are shown as text.
fn float(x: f64) -> Value {
    serde_json::Number::from_f64(x).map_or_else(|| json!(x.to_string()), Value::Number)
}

fn shown(found: &[u8], bytes: Bytes) -> Value {
    match bytes {
        Bytes::Length => json!({"bytes": found.len()}),
        Bytes::Base64 => json!(STANDARD.encode(found)),
    }
}

fn cell(array: &dyn Array, row: usize, bytes: Bytes) -> Result<Value, String> {
    if array.is_null(row) {
        return Ok(Value::Null);
    }
    Ok(match array.data_type() {
        DataType::Boolean => json!(array.as_boolean().value(row)),
        DataType::Int32 => json!(array.as_primitive::<Int32Type>().value(row)),
        DataType::Int64 => json!(array.as_primitive::<Int64Type>().value(row)),
        DataType::Float32 => float(array.as_primitive::<Float32Type>().value(row).into()),
        DataType::Float64 => float(array.as_primitive::<Float64Type>().value(row)),
        DataType::Decimal128(_, scale) => {
            let digits = array.as_primitive::<Decimal128Type>().value(row);
            if *scale == 0 { json!(digits.to_string()) } else { json!(format!("{digits}e-{scale}")) }
        }
        DataType::Utf8 => json!(array.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => json!(array.as_string::<i64>().value(row)),
        DataType::Binary => shown(array.as_binary::<i32>().value(row), bytes),
        DataType::LargeBinary => shown(array.as_binary::<i64>().value(row), bytes),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            utc(array.as_primitive::<TimestampMicrosecondType>().value(row))
        }
        DataType::Struct(fields) => {
            let parts = array.as_struct();
            let mut object = Map::new();
            for (field, column) in fields.iter().zip(parts.columns()) {
                object.insert(field.name().clone(), cell(column, row, bytes)?);
            }
            Value::Object(object)
        }
        DataType::List(_) => {
            let list = array.as_list::<i32>().value(row);
            Value::Array((0..list.len()).map(|at| cell(&list, at, bytes)).collect::<Result<_, _>>()?)
        }
        other => return Err(other.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{
        ArrayRef, Float64Array, Int64Array, LargeBinaryArray, StringArray, StructArray,
        TimestampMicrosecondArray,
    };
    use arrow_schema::Field;
    use std::sync::Arc;

    #[test]
    fn rows_become_objects_and_bytes_their_length() {
        let picture = StructArray::from(vec![(
            Arc::new(Field::new("bytes", DataType::LargeBinary, true)),
            Arc::new(LargeBinaryArray::from(vec![Some(b"abc".as_slice())])) as ArrayRef,
        )]);
        let batch = RecordBatch::try_from_iter_with_nullable([
            (
                "ts",
                Arc::new(TimestampMicrosecondArray::from(vec![1_490_958_084_250_000]).with_timezone("+00:00"))
                    as ArrayRef,
                false,
            ),
            ("n", Arc::new(Int64Array::from(vec![None::<i64>])) as ArrayRef, true),
            ("x", Arc::new(Float64Array::from(vec![f64::NAN])) as ArrayRef, true),
            ("name", Arc::new(StringArray::from(vec!["a"])) as ArrayRef, true),
            ("image", Arc::new(picture) as ArrayRef, true),
        ])
        .unwrap();
        let rows = row_values(&batch).unwrap();
        assert_eq!(
            Value::Object(rows[0].clone()),
            json!({"ts": "2017-03-31T11:01:24.250000Z", "n": null, "x": "NaN", "name": "a", "image": {"bytes": {"bytes": 3}}})
        );
    }
}

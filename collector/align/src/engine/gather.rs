//! Typed gather: rows of the store to one column of output.

use super::cursor::NONE;
use super::prepare::{canonical, canonical_f32};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type};
use arrow_array::{
    Array, ArrayRef, ArrowPrimitiveType, Float64Array, PrimitiveArray, UInt32Array, downcast_primitive_array,
};
use arrow_buffer::{BooleanBuffer, NullBuffer};
use arrow_schema::{ArrowError, DataType};
use std::sync::Arc;

/// Bytes of text or of lists that one column of a chunk may take; a chunk with more is halved. A row may be 64 MB, and
/// meet every row of the spine.
pub(super) const CHUNK_BYTES_MAX: u64 = 64 << 20;

/// Why a chunk has no column.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It would take more than [`CHUNK_BYTES_MAX`].
    TooLarge,
    /// Arrow refused.
    Arrow(ArrowError),
}

impl From<ArrowError> for Trouble {
    fn from(error: ArrowError) -> Self {
        Self::Arrow(error)
    }
}

/// The values at `rows`; null at [`NONE`]. Floats come out canonical.
pub(super) fn gather(array: &ArrayRef, rows: &[u32]) -> Result<ArrayRef, Trouble> {
    Ok(match array.data_type() {
        DataType::Float64 => Arc::new(pick(array.as_primitive::<Float64Type>(), rows, canonical)),
        DataType::Float32 => Arc::new(pick(array.as_primitive::<Float32Type>(), rows, canonical_f32)),
        _ => downcast_primitive_array! {
            array => Arc::new(pick(array, rows, |x| x)),
            _ => return taken(array, rows),
        },
    })
}

fn pick<T: ArrowPrimitiveType>(
    array: &PrimitiveArray<T>,
    rows: &[u32],
    finish: impl Fn(T::Native) -> T::Native,
) -> PrimitiveArray<T> {
    let values = array.values();
    let at = |row: &u32| values.get(*row as usize).map_or_else(T::Native::default, |value| finish(*value));
    let out: Vec<T::Native> = rows.iter().map(at).collect();
    PrimitiveArray::new(out.into(), validity(array.nulls(), rows)).with_data_type(array.data_type().clone())
}

/// Which of `rows` are there and not null; `None` if all.
pub(super) fn validity(nulls: Option<&NullBuffer>, rows: &[u32]) -> Option<NullBuffer> {
    match nulls {
        None if rows.iter().all(|row| *row != NONE) => None,
        None => Some(NullBuffer::new(BooleanBuffer::collect_bool(rows.len(), |place| rows[place] != NONE))),
        Some(nulls) => {
            let valid = |place: usize| rows[place] != NONE && nulls.is_valid(rows[place] as usize);
            let nulls = NullBuffer::new(BooleanBuffer::collect_bool(rows.len(), valid));
            (nulls.null_count() > 0).then_some(nulls)
        }
    }
}

fn taken(array: &ArrayRef, rows: &[u32]) -> Result<ArrayRef, Trouble> {
    if rows.len() > 1 && bytes(array, rows) > CHUNK_BYTES_MAX {
        return Err(Trouble::TooLarge);
    }
    let places: UInt32Array = rows.iter().map(|row| (*row != NONE).then_some(*row)).collect();
    Ok(arrow_select::take::take(array, &places, None)?)
}

/// Bytes the rows' values take, where that depends on them.
fn bytes(array: &ArrayRef, rows: &[u32]) -> u64 {
    let sum = |length: &dyn Fn(usize) -> u64| {
        rows.iter()
            .filter(|row| **row != NONE)
            .fold(0_u64, |sum, row| sum.saturating_add(length(*row as usize)))
    };
    match array.data_type() {
        DataType::Utf8 => sum(&|row| array.as_string::<i32>().value_length(row).unsigned_abs().into()),
        DataType::LargeUtf8 => sum(&|row| array.as_string::<i64>().value_length(row).unsigned_abs()),
        DataType::Binary => sum(&|row| array.as_binary::<i32>().value_length(row).unsigned_abs().into()),
        DataType::LargeBinary => sum(&|row| array.as_binary::<i64>().value_length(row).unsigned_abs()),
        DataType::List(_) => {
            let lists = array.as_list::<i32>();
            let each = lists.values().get_array_memory_size() as u64 / (lists.values().len() as u64).max(1);
            sum(&|row| u64::from(lists.value_length(row).unsigned_abs()).saturating_mul(each))
        }
        _ => 0,
    }
}

/// Numbers computed from two rows each; null where a row or a value is missing.
pub(super) fn computed(
    from: [&Float64Array; 2],
    rows: [&[u32]; 2],
    compute: impl Fn(usize, f64, f64) -> f64,
) -> Float64Array {
    let [a, b] = from.map(Float64Array::values);
    let places = rows[0].iter().zip(rows[1]).enumerate();
    let values: Vec<f64> = places
        .map(|(place, (lo, hi))| match (a.get(*lo as usize), b.get(*hi as usize)) {
            (Some(a), Some(b)) => canonical(compute(place, *a, *b)),
            _ => 0.0,
        })
        .collect();
    let nulls = NullBuffer::union(
        validity(from[0].nulls(), rows[0]).as_ref(),
        validity(from[1].nulls(), rows[1]).as_ref(),
    );
    Float64Array::new(values.into(), nulls)
}

/// The constant where `rows` has none, the column's own value elsewhere.
pub(super) fn with_constant(
    column: ArrayRef,
    constant: &ArrayRef,
    rows: &[u32],
) -> Result<ArrayRef, Trouble> {
    if rows.iter().all(|row| *row != NONE) {
        return Ok(column);
    }
    let places: Vec<(usize, usize)> =
        rows.iter().enumerate().map(|(place, row)| if *row == NONE { (1, 0) } else { (0, place) }).collect();
    Ok(arrow_select::interleave::interleave(&[column.as_ref(), constant.as_ref()], &places)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{Int16Array, StringArray};

    #[test]
    fn rows_are_gathered_by_type_and_none_is_null() {
        let rows = [2, NONE, 0];
        let whole: ArrayRef = Arc::new(Int16Array::from(vec![Some(7), Some(8), None]));
        assert_eq!(gather(&whole, &rows).unwrap().as_ref(), &Int16Array::from(vec![None, None, Some(7)]));
        let floats: ArrayRef =
            Arc::new(Float64Array::from(vec![-0.0, 1.0, f64::from_bits(0xfff8_0000_0000_0001)]));
        let found = gather(&floats, &rows).unwrap();
        let found = found.as_primitive::<Float64Type>();
        assert_eq!((found.value(0).to_bits(), found.value(2).to_bits()), (f64::NAN.to_bits(), 0));
        let text: ArrayRef = Arc::new(StringArray::from(vec!["a", "b", "c"]));
        assert_eq!(
            gather(&text, &rows).unwrap().as_ref(),
            &StringArray::from(vec![Some("c"), None, Some("a")])
        );
        let constant: ArrayRef = Arc::new(StringArray::from(vec!["-"]));
        let filled = with_constant(gather(&text, &rows).unwrap(), &constant, &rows).unwrap();
        assert_eq!(filled.as_ref(), &StringArray::from(vec!["c", "-", "a"]));
    }

    #[test]
    fn a_row_of_64_mb_that_meets_many_rows_has_the_chunk_halved() {
        let giant: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(64_000_000)]));
        assert!(matches!(gather(&giant, &[0; 8]), Err(Trouble::TooLarge)));
        assert_eq!(gather(&giant, &[0]).unwrap().len(), 1);
    }
}

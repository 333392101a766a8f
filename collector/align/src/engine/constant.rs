//! Constants of a recipe as values of an output column: fallbacks.

use super::error::PlanError;
use crate::recipe::{Column, Constant, Fallback};
use arrow_array::{
    ArrayRef, BooleanArray, Float32Array, Float64Array, Int8Array, Int16Array, Int32Array, Int64Array,
    LargeStringArray, StringArray, UInt8Array, UInt16Array, UInt32Array, UInt64Array,
};
use arrow_schema::{DataType, Field};
use headwater_core::id::FieldName;
use std::sync::Arc;

/// The constant that stands in `out` where nothing matched, as one row; `None` without one.
pub(super) fn constant(
    column: &Column,
    selected: &FieldName,
    out: &Field,
) -> Result<Option<ArrayRef>, PlanError> {
    let Fallback::Const(constants) = &column.fallback else { return Ok(None) };
    let Some(constant) = constants.get(selected) else { return Ok(None) };
    match value(constant, out.data_type()) {
        Some(array) => Ok(Some(array)),
        None => Err(PlanError::Constant {
            column: column.name.to_string(),
            field: selected.to_string(),
            given: out.data_type().clone(),
        }),
    }
}

fn value(constant: &Constant, data_type: &DataType) -> Option<ArrayRef> {
    Some(match (constant, data_type) {
        (Constant::Bool(truth), DataType::Boolean) => Arc::new(BooleanArray::from(vec![*truth])),
        (Constant::Text(text), DataType::Utf8) => Arc::new(StringArray::from(vec![text.as_str()])),
        (Constant::Text(text), DataType::LargeUtf8) => Arc::new(LargeStringArray::from(vec![text.as_str()])),
        (Constant::Number(x), DataType::Float64) => {
            Arc::new(Float64Array::from(vec![super::prepare::canonical(*x)]))
        }
        (Constant::Number(x), DataType::Float32) => Arc::new(Float32Array::from(vec![narrow(*x)?])),
        (Constant::Number(x), _) => return whole(*x, data_type),
        _ => return None,
    })
}

fn narrow(x: f64) -> Option<f32> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "rounds to the field's own precision; a finite stays finite"
    )]
    let near = x as f32;
    (near.is_finite() == x.is_finite()).then(|| super::prepare::canonical_f32(near))
}

fn whole(x: f64, data_type: &DataType) -> Option<ArrayRef> {
    // i64 holds every whole f64 below 2^63.
    if x.fract() != 0.0 || x.abs() >= 9.2e18 {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "whole and within i64, as checked above")]
    let x = x as i64;
    Some(match data_type {
        DataType::Int8 => Arc::new(Int8Array::from(vec![i8::try_from(x).ok()?])),
        DataType::Int16 => Arc::new(Int16Array::from(vec![i16::try_from(x).ok()?])),
        DataType::Int32 => Arc::new(Int32Array::from(vec![i32::try_from(x).ok()?])),
        DataType::Int64 => Arc::new(Int64Array::from(vec![x])),
        DataType::UInt8 => Arc::new(UInt8Array::from(vec![u8::try_from(x).ok()?])),
        DataType::UInt16 => Arc::new(UInt16Array::from(vec![u16::try_from(x).ok()?])),
        DataType::UInt32 => Arc::new(UInt32Array::from(vec![u32::try_from(x).ok()?])),
        DataType::UInt64 => Arc::new(UInt64Array::from(vec![u64::try_from(x).ok()?])),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_is_of_the_columns_type_or_refused() {
        let fits = |constant: Constant, data_type: DataType| value(&constant, &data_type).is_some();
        assert!(
            fits(Constant::Number(255.0), DataType::UInt8) && !fits(Constant::Number(256.0), DataType::UInt8)
        );
        assert!(
            !fits(Constant::Number(0.5), DataType::Int32)
                && !fits(Constant::Number(1e300), DataType::Float32)
        );
        assert!(
            !fits(Constant::Number(1e300), DataType::Int64)
                && fits(Constant::Number(1e300), DataType::Float64)
        );
        assert!(
            fits(Constant::Text("a".into()), DataType::Utf8) && !fits(Constant::Bool(true), DataType::Utf8)
        );
    }
}

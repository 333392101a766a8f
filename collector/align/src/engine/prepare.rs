//! Fields made ready as they come in: numbers as f64 in the wanted unit, so that each sample is converted once, in one
//! step, however many rows it meets.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, ArrowPrimitiveType, Float64Array, PrimitiveArray};
use arrow_schema::{DataType, Schema};
use headwater_core::schema::Conversion;
use std::sync::Arc;

/// What becomes of one field of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// As it is.
    AsIs,
    /// A number.
    Number(Option<Conversion>),
}

/// One field held for a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Preparation {
    /// Its place in the input.
    pub(super) input: usize,
    pub(super) form: Form,
}

impl Preparation {
    /// Type of what it makes.
    pub(super) fn gives(self, input: &Schema) -> DataType {
        match self.form {
            Form::AsIs => {
                input.fields().get(self.input).map_or(DataType::Null, |field| field.data_type().clone())
            }
            Form::Number(_) => DataType::Float64,
        }
    }

    /// The field of these values, if it is there and of its kind.
    pub(super) fn apply(self, values: &[ArrayRef]) -> Option<ArrayRef> {
        let array = values.get(self.input)?;
        match self.form {
            Form::AsIs => Some(Arc::clone(array)),
            Form::Number(None) if *array.data_type() == DataType::Float64 => Some(Arc::clone(array)),
            Form::Number(conversion) => Some(Arc::new(numbers(array, conversion)?)),
        }
    }
}

/// True if [`numbers`] takes it.
pub(super) fn is_number(data_type: &DataType) -> bool {
    data_type.is_integer() || data_type.is_floating()
}

/// The array as f64, converted; `None` if it holds no numbers.
pub(super) fn numbers(array: &ArrayRef, conversion: Option<Conversion>) -> Option<Float64Array> {
    #[expect(clippy::cast_precision_loss, reason = "integers beyond 2^53 are rounded once, as any f64")]
    let wide = match array.data_type() {
        DataType::Float64 => mapped::<Float64Type>(array, conversion, |x| x),
        DataType::Float32 => mapped::<Float32Type>(array, conversion, f64::from),
        DataType::Float16 => mapped::<Float16Type>(array, conversion, f64::from),
        DataType::Int8 => mapped::<Int8Type>(array, conversion, f64::from),
        DataType::Int16 => mapped::<Int16Type>(array, conversion, f64::from),
        DataType::Int32 => mapped::<Int32Type>(array, conversion, f64::from),
        DataType::Int64 => mapped::<Int64Type>(array, conversion, |x| x as f64),
        DataType::UInt8 => mapped::<UInt8Type>(array, conversion, f64::from),
        DataType::UInt16 => mapped::<UInt16Type>(array, conversion, f64::from),
        DataType::UInt32 => mapped::<UInt32Type>(array, conversion, f64::from),
        DataType::UInt64 => mapped::<UInt64Type>(array, conversion, |x| x as f64),
        _ => return None,
    };
    Some(wide)
}

fn mapped<T: ArrowPrimitiveType>(
    array: &ArrayRef,
    conversion: Option<Conversion>,
    widen: impl Fn(T::Native) -> f64,
) -> Float64Array {
    let array: &PrimitiveArray<T> = array.as_primitive();
    match conversion {
        Some(conversion) => array.unary(|x| conversion.apply(widen(x))),
        None => array.unary(widen),
    }
}

/// One NaN, one zero: the bits of equal values are equal.
#[inline]
pub(super) fn canonical(x: f64) -> f64 {
    // -0.0 + 0.0 is 0.0.
    if x.is_nan() { f64::NAN } else { x + 0.0 }
}

/// As [`canonical`], for the narrow.
#[inline]
pub(super) fn canonical_f32(x: f32) -> f32 {
    if x.is_nan() { f32::NAN } else { x + 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::Int64Array;
    use headwater_core::schema::conversion;

    #[test]
    fn a_unit_is_converted_in_one_step_and_nulls_stay() {
        let celsius: ArrayRef = Arc::new(arrow_array::Float32Array::from(vec![Some(21.5), None]));
        let kelvin = numbers(&celsius, conversion("Cel", "K")).unwrap();
        assert_eq!(kelvin.iter().collect::<Vec<_>>(), [Some(294.65), None]);
        let text: ArrayRef = Arc::new(arrow_array::StringArray::from(vec!["a"]));
        assert!(numbers(&text, None).is_none() && !is_number(text.data_type()));
        let whole: ArrayRef = Arc::new(Int64Array::from(vec![i64::MAX]));
        assert_eq!(numbers(&whole, None).unwrap().value(0), 9_223_372_036_854_775_807_i64 as f64);
    }

    #[test]
    fn there_is_one_nan_and_one_zero() {
        let odd = f64::from_bits(0xfff8_0000_0000_0001);
        assert_eq!(canonical(odd).to_bits(), f64::NAN.to_bits());
        assert_eq!(canonical(-0.0).to_bits(), 0);
        assert_eq!(canonical(-1.5), -1.5);
        assert_eq!(canonical_f32(-0.0).to_bits(), 0);
    }
}

//! Event spines: a sample counts when it meets a condition that its predecessor did not.

use super::error::PlanError;
use super::prepare::{is_number, numbers};
use crate::recipe::{CompareOp, Condition, Constant};
use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, Schema};
use std::cmp::Ordering;

/// Finds out at once whether the condition can be asked.
pub(super) fn check(when: &Condition, spine: &Schema) -> Result<(), PlanError> {
    let given = spine.column_with_name(when.field.as_str()).map(|(_, field)| field.data_type());
    let (fits, wanted) = match &when.value {
        Constant::Number(_) => (given.is_some_and(is_number), "a number"),
        Constant::Text(_) => (given == Some(&DataType::Utf8), "text"),
        Constant::Bool(_) => (given == Some(&DataType::Boolean), "a truth"),
    };
    let refuse = || PlanError::Condition { field: when.field.to_string(), wanted };
    if fits { Ok(()) } else { Err(refuse()) }
}

/// One truth a sample: whether it meets the condition. A null meets none, and a NaN only `!=`.
fn meets(when: &Condition, values: &RecordBatch) -> Vec<bool> {
    let Some(array) = values.column_by_name(when.field.as_str()) else {
        return vec![false; values.num_rows()];
    };
    let holds = |order: Option<Ordering>| match when.op {
        CompareOp::Eq => order == Some(Ordering::Equal),
        CompareOp::Ne => order != Some(Ordering::Equal),
        CompareOp::Lt => order == Some(Ordering::Less),
        CompareOp::Le => matches!(order, Some(Ordering::Less | Ordering::Equal)),
        CompareOp::Gt => order == Some(Ordering::Greater),
        CompareOp::Ge => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
    };
    let valid = |place: usize| array.is_valid(place);
    let places = 0..array.len();
    match &when.value {
        Constant::Number(x) => match numbers(array, None) {
            Some(numbers) => {
                places.map(|place| valid(place) && holds(numbers.value(place).partial_cmp(x))).collect()
            }
            None => vec![false; array.len()],
        },
        Constant::Text(text) => {
            let strings = array.as_string::<i32>();
            places.map(|place| valid(place) && holds(Some(strings.value(place).cmp(text)))).collect()
        }
        Constant::Bool(truth) => {
            let truths = array.as_boolean();
            places.map(|place| valid(place) && holds(Some(truths.value(place).cmp(truth)))).collect()
        }
    }
}

/// One truth a sample: whether it meets the condition and the one before did not. `met` is the state before and after.
pub(super) fn rises(when: &Condition, values: &RecordBatch, met: &mut bool) -> Vec<bool> {
    let mut now = meets(when, values);
    for sample in &mut now {
        let rises = *sample && !*met;
        *met = *sample;
        *sample = rises;
    }
    now
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::Float64Array;
    use arrow_schema::Field;
    use std::sync::Arc;

    #[test]
    fn a_sample_counts_when_its_predecessor_did_not_meet_the_condition() {
        let schema = Arc::new(Schema::new(vec![Field::new("speed", DataType::Float64, true)]));
        let speeds = vec![Some(3.0), Some(5.0), None, Some(6.0), Some(7.0), Some(f64::NAN), Some(5.0)];
        let values = RecordBatch::try_new(schema, vec![Arc::new(Float64Array::from(speeds))]).unwrap();
        let when =
            Condition { field: "speed".parse().unwrap(), op: CompareOp::Ge, value: Constant::Number(5.0) };
        let whole = rises(&when, &values, &mut false);
        assert_eq!(whole, [false, true, false, true, false, false, true]);
        let mut met = false;
        let parts = [values.slice(0, 2), values.slice(2, 3), values.slice(5, 2)];
        let pieces: Vec<bool> = parts.iter().flat_map(|part| rises(&when, part, &mut met)).collect();
        assert_eq!(pieces, whole);
    }
}

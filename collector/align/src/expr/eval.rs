//! The value of a formula, a column at a time.

use super::ast::{Kind, Node, Operator};
use super::{ExprError, call, column};
use arrow_array::{Array, ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray};
use std::cmp::Ordering;
use std::sync::Arc;

/// Values of one part of a formula, one a row.
#[derive(Debug, Clone)]
pub(super) enum Values {
    /// Nothing but nulls.
    Null(usize),
    Bool(BooleanArray),
    Int(Int64Array),
    Float(Float64Array),
    Text(StringArray),
}

/// One NaN, and no negative zero: equal values have equal bytes (L2).
pub(super) fn canonical(value: f64) -> f64 {
    if value.is_nan() { f64::NAN } else { value + 0.0 }
}

impl Values {
    pub(super) fn into_array(self) -> ArrayRef {
        match self {
            Self::Null(rows) => Arc::new(Float64Array::new_null(rows)),
            Self::Bool(values) => Arc::new(values),
            Self::Int(values) => Arc::new(values),
            Self::Float(values) => {
                Arc::new(values.iter().map(|v| v.map(canonical)).collect::<Float64Array>())
            }
            Self::Text(values) => Arc::new(values),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Null(rows) => *rows,
            Self::Bool(values) => values.len(),
            Self::Int(values) => values.len(),
            Self::Float(values) => values.len(),
            Self::Text(values) => values.len(),
        }
    }

    pub(super) fn is_null(&self, row: usize) -> bool {
        match self {
            Self::Null(_) => true,
            Self::Bool(values) => values.is_null(row),
            Self::Int(values) => values.is_null(row),
            Self::Float(values) => values.is_null(row),
            Self::Text(values) => values.is_null(row),
        }
    }

    /// As doubles; what is no number is null.
    #[expect(clippy::cast_precision_loss, reason = "integers beyond 2^53 are rounded, as the language says")]
    pub(super) fn floats(&self) -> Float64Array {
        match self {
            Self::Float(values) => values.clone(),
            Self::Int(values) => values.iter().map(|v| v.map(|v| v as f64)).collect(),
            other => Float64Array::new_null(other.len()),
        }
    }

    pub(super) fn bools(&self) -> BooleanArray {
        match self {
            Self::Bool(values) => values.clone(),
            other => BooleanArray::new_null(other.len()),
        }
    }

    pub(super) fn ints(&self) -> Int64Array {
        match self {
            Self::Int(values) => values.clone(),
            other => Int64Array::new_null(other.len()),
        }
    }

    pub(super) fn texts(&self) -> StringArray {
        match self {
            Self::Text(values) => values.clone(),
            other => StringArray::new_null(other.len()),
        }
    }
}

/// The value of a checked formula.
pub(super) fn evaluate(node: &Node, rows: &RecordBatch) -> Result<Values, ExprError> {
    let n = rows.num_rows();
    Ok(match &node.kind {
        Kind::Null => Values::Null(n),
        Kind::Bool(value) => Values::Bool(BooleanArray::from(vec![*value; n])),
        Kind::Int(value) => Values::Int(Int64Array::from_value(*value, n)),
        Kind::Float(value) => Values::Float(Float64Array::from_value(*value, n)),
        Kind::Text(text) => Values::Text(StringArray::from_iter_values(std::iter::repeat_n(text, n))),
        Kind::Column(path) => column::values(path, node, rows)?,
        Kind::Negate(inner) => match evaluate(inner, rows)? {
            Values::Int(values) => Values::Int(values.iter().map(|v| v.and_then(i64::checked_neg)).collect()),
            other => Values::Float(other.floats().unary(|v| -v)),
        },
        Kind::Not(inner) => {
            Values::Bool(evaluate(inner, rows)?.bools().iter().map(|v| v.map(|v| !v)).collect())
        }
        Kind::Binary(operator, left, right) => {
            binary(*operator, &evaluate(left, rows)?, &evaluate(right, rows)?)
        }
        Kind::Call(function, arguments) => call::call(*function, arguments, rows)?,
    })
}

fn binary(operator: Operator, left: &Values, right: &Values) -> Values {
    match operator {
        Operator::And => Values::Bool(truths(left, right, |a, b| match (a, b) {
            (Some(false), _) | (_, Some(false)) => Some(false),
            (Some(true), Some(true)) => Some(true),
            _ => None,
        })),
        Operator::Or => Values::Bool(truths(left, right, |a, b| match (a, b) {
            (Some(true), _) | (_, Some(true)) => Some(true),
            (Some(false), Some(false)) => Some(false),
            _ => None,
        })),
        Operator::Add => arithmetic(left, right, i64::checked_add, |a, b| a + b),
        Operator::Subtract => arithmetic(left, right, i64::checked_sub, |a, b| a - b),
        Operator::Multiply => arithmetic(left, right, i64::checked_mul, |a, b| a * b),
        Operator::Remainder => arithmetic(left, right, i64::checked_rem, |a, b| a % b),
        Operator::Divide => Values::Float(floats(&left.floats(), &right.floats(), |a, b| a / b)),
        Operator::Equal => compare(left, right, |order| order == Some(Ordering::Equal)),
        Operator::NotEqual => compare(left, right, |order| order != Some(Ordering::Equal)),
        Operator::Less => compare(left, right, |order| order == Some(Ordering::Less)),
        Operator::LessEqual => compare(left, right, |order| order.is_some_and(Ordering::is_le)),
        Operator::Greater => compare(left, right, |order| order == Some(Ordering::Greater)),
        Operator::GreaterEqual => compare(left, right, |order| order.is_some_and(Ordering::is_ge)),
    }
}

fn truths(left: &Values, right: &Values, of: fn(Option<bool>, Option<bool>) -> Option<bool>) -> BooleanArray {
    left.bools().iter().zip(right.bools().iter()).map(|(a, b)| of(a, b)).collect()
}

pub(super) fn floats(
    left: &Float64Array,
    right: &Float64Array,
    of: impl Fn(f64, f64) -> f64,
) -> Float64Array {
    left.iter().zip(right).map(|(a, b)| Some(of(a?, b?))).collect()
}

/// Integers stay integers; what overflows, or divides by zero, is null.
fn arithmetic(
    left: &Values,
    right: &Values,
    of_ints: fn(i64, i64) -> Option<i64>,
    of_floats: fn(f64, f64) -> f64,
) -> Values {
    match (left, right) {
        (Values::Int(a), Values::Int(b)) => {
            Values::Int(a.iter().zip(b).map(|(a, b)| of_ints(a?, b?)).collect())
        }
        (Values::Int(a), Values::Null(_)) | (Values::Null(_), Values::Int(a)) => {
            Values::Int(Int64Array::new_null(a.len()))
        }
        _ => Values::Float(floats(&left.floats(), &right.floats(), of_floats)),
    }
}

/// `holds` is given the order of two values; none between a NaN and anything.
fn compare(left: &Values, right: &Values, holds: fn(Option<Ordering>) -> bool) -> Values {
    let values: BooleanArray = match (left, right) {
        (Values::Text(a), b) | (b, Values::Text(a)) if matches!(b, Values::Null(_)) => {
            BooleanArray::new_null(a.len())
        }
        (Values::Text(a), Values::Text(b)) => {
            a.iter().zip(b).map(|(a, b)| Some(holds(Some(a?.cmp(b?))))).collect()
        }
        (Values::Bool(_), _) | (_, Values::Bool(_)) => left
            .bools()
            .iter()
            .zip(right.bools().iter())
            .map(|(a, b)| Some(holds(Some(a?.cmp(&b?)))))
            .collect(),
        (Values::Int(a), Values::Int(b)) => {
            a.iter().zip(b).map(|(a, b)| Some(holds(Some(a?.cmp(&b?))))).collect()
        }
        _ => left
            .floats()
            .iter()
            .zip(right.floats().iter())
            .map(|(a, b)| Some(holds(a?.partial_cmp(&b?))))
            .collect(),
    };
    Values::Bool(values)
}

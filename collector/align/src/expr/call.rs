//! Functions of a formula. Sines and powers are libm's: the platform's differ in their last bits (L2).

use super::ast::{Function, Node};
use super::eval::{Values, evaluate, floats};
use super::{ExprError, column};
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, Float64Array, Int64Array, RecordBatch};
use arrow_schema::DataType;

pub(super) fn call(function: Function, arguments: &[Node], rows: &RecordBatch) -> Result<Values, ExprError> {
    match (function, arguments) {
        (Function::IsNull, [argument]) => return is_null(argument, rows),
        (Function::Length, [argument]) => return length(argument, rows),
        _ => {}
    }
    let values = arguments.iter().map(|argument| evaluate(argument, rows)).collect::<Result<Vec<_>, _>>()?;
    Ok(match (function, values.as_slice()) {
        (Function::If, [condition, yes, no]) => {
            let condition = condition.bools();
            choose(&[yes.clone(), no.clone()], rows.num_rows(), |row| {
                usize::from(!(condition.is_valid(row) && condition.value(row)))
            })
        }
        (Function::Coalesce, values) => {
            choose(values, rows.num_rows(), |row| values.iter().position(|of| !of.is_null(row)).unwrap_or(0))
        }
        (Function::Min, values) => extreme(values, |new, old| new < old, |new, old| new < old),
        (Function::Max, values) => extreme(values, |new, old| new > old, |new, old| new > old),
        (Function::Clamp, [x, lo, hi]) => clamp(x, lo, hi),
        (Function::HasBits, [a, b]) => {
            Values::Bool(a.ints().iter().zip(b.ints().iter()).map(|(a, b)| Some(a? & b? == b?)).collect())
        }
        (Function::IsFinite, [x]) => Values::Bool(x.floats().iter().map(|x| x.map(f64::is_finite)).collect()),
        (_, [x]) => one(function, x),
        (_, [a, b]) => Values::Float(floats(&a.floats(), &b.floats(), |a, b| two(function, a, b))),
        _ => Values::Null(rows.num_rows()),
    })
}

fn is_null(argument: &Node, rows: &RecordBatch) -> Result<Values, ExprError> {
    let array: ArrayRef = match column::nulls_of(argument, rows) {
        Some(found) => found?,
        None => {
            let values = evaluate(argument, rows)?;
            return Ok(Values::Bool((0..values.len()).map(|row| Some(values.is_null(row))).collect()));
        }
    };
    let nulls = array.logical_nulls();
    Ok(Values::Bool(
        (0..array.len()).map(|row| Some(nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)))).collect(),
    ))
}

fn length(argument: &Node, rows: &RecordBatch) -> Result<Values, ExprError> {
    let items = |n: Option<usize>| n.and_then(|n| i64::try_from(n).ok());
    if let Some(array) = column::nulls_of(argument, rows) {
        let array = array?;
        match array.data_type() {
            DataType::List(_) => {
                return Ok(Values::Int(
                    array.as_list::<i32>().iter().map(|l| items(l.map(|l| l.len()))).collect(),
                ));
            }
            DataType::LargeList(_) => {
                return Ok(Values::Int(
                    array.as_list::<i64>().iter().map(|l| items(l.map(|l| l.len()))).collect(),
                ));
            }
            _ => {}
        }
    }
    let texts = evaluate(argument, rows)?.texts();
    Ok(Values::Int(texts.iter().map(|text| items(text.map(|text| text.chars().count()))).collect()))
}

fn one(function: Function, x: &Values) -> Values {
    if let Values::Int(values) = x {
        match function {
            Function::Abs => {
                return Values::Int(values.iter().map(|v| v.and_then(i64::checked_abs)).collect());
            }
            Function::Sign => return Values::Int(values.unary(i64::signum)),
            Function::Floor | Function::Ceil | Function::Round => return x.clone(),
            _ => {}
        }
    }
    let of: fn(f64) -> f64 = match function {
        Function::Abs => f64::abs,
        Function::Sign => |x| {
            if x == 0.0 {
                0.0
            } else if x.is_nan() {
                x
            } else {
                x.signum()
            }
        },
        Function::Floor => f64::floor,
        Function::Ceil => f64::ceil,
        Function::Round => f64::round,
        Function::Sqrt => f64::sqrt,
        Function::Exp => libm::exp,
        Function::Ln => libm::log,
        Function::Log10 => libm::log10,
        Function::Sin => libm::sin,
        Function::Cos => libm::cos,
        Function::Tan => libm::tan,
        Function::Asin => libm::asin,
        Function::Acos => libm::acos,
        Function::Radians => |x| x * (std::f64::consts::PI / 180.0),
        Function::Degrees => |x| x * (180.0 / std::f64::consts::PI),
        _ => |_| f64::NAN,
    };
    Values::Float(x.floats().unary(of))
}

fn two(function: Function, a: f64, b: f64) -> f64 {
    match function {
        Function::Pow => libm::pow(a, b),
        Function::Hypot => libm::hypot(a, b),
        Function::Atan2 => libm::atan2(a, b),
        _ => f64::NAN,
    }
}

/// Of every row the value of the column that `of` names.
fn choose(columns: &[Values], rows: usize, of: impl Fn(usize) -> usize) -> Values {
    let has = |is: fn(&Values) -> bool| columns.iter().any(is);
    if has(|values| matches!(values, Values::Text(_))) {
        let columns: Vec<_> = columns.iter().map(Values::texts).collect();
        let pick = |row| columns.get(of(row)).filter(|c| c.is_valid(row)).map(|c| c.value(row));
        return Values::Text((0..rows).map(pick).collect());
    }
    if has(|values| matches!(values, Values::Bool(_))) {
        let columns: Vec<_> = columns.iter().map(Values::bools).collect();
        let pick = |row| columns.get(of(row)).filter(|c| c.is_valid(row)).map(|c| c.value(row));
        return Values::Bool((0..rows).map(pick).collect());
    }
    if has(|values| matches!(values, Values::Float(_))) {
        let columns: Vec<_> = columns.iter().map(Values::floats).collect();
        let pick = |row| columns.get(of(row)).filter(|c| c.is_valid(row)).map(|c| c.value(row));
        return Values::Float((0..rows).map(pick).collect());
    }
    if has(|values| matches!(values, Values::Int(_))) {
        let columns: Vec<_> = columns.iter().map(Values::ints).collect();
        let pick = |row| columns.get(of(row)).filter(|c| c.is_valid(row)).map(|c| c.value(row));
        return Values::Int((0..rows).map(pick).collect());
    }
    Values::Null(rows)
}

/// Nulls and NaN are left out; of nothing but NaN it is NaN.
fn extreme(columns: &[Values], ints: fn(i64, i64) -> bool, of: fn(f64, f64) -> bool) -> Values {
    let rows = columns.first().map_or(0, Values::len);
    if columns.iter().all(|values| matches!(values, Values::Int(_) | Values::Null(_))) {
        let columns: Vec<Int64Array> = columns.iter().map(Values::ints).collect();
        let best = |row: usize| {
            let values = columns.iter().filter(|c| c.is_valid(row)).map(|c| c.value(row));
            values.reduce(|old, new| if ints(new, old) { new } else { old })
        };
        return Values::Int((0..rows).map(best).collect());
    }
    let columns: Vec<Float64Array> = columns.iter().map(Values::floats).collect();
    let best = |row: usize| {
        let values = columns.iter().filter(|c| c.is_valid(row)).map(|c| c.value(row));
        values.reduce(|old, new| if of(new, old) || old.is_nan() { new } else { old })
    };
    Values::Float((0..rows).map(best).collect())
}

/// Null where a bound is null, or the lower one is above the upper one.
fn clamp(x: &Values, lo: &Values, hi: &Values) -> Values {
    if let (Values::Int(x), Values::Int(lo), Values::Int(hi)) = (x, lo, hi) {
        let held = x.iter().zip(lo).zip(hi).map(|((x, lo), hi)| {
            let (lo, hi) = (lo?, hi?);
            if lo <= hi { x.map(|x| x.clamp(lo, hi)) } else { None }
        });
        return Values::Int(held.collect());
    }
    let (x, lo, hi) = (x.floats(), lo.floats(), hi.floats());
    let held = x.iter().zip(lo.iter()).zip(hi.iter()).map(|((x, lo), hi)| {
        let (lo, hi) = (lo?, hi?);
        // Not `lo > hi`: bounds that are NaN hold nothing.
        if lo <= hi { x.map(|x| x.clamp(lo, hi)) } else { None }
    });
    Values::Float(held.collect())
}

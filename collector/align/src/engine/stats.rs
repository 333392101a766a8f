//! Statistics of a window: sums in total order with compensation, so that they are the same however rows were cut.

use super::cursor::{NONE, row};
use super::window::Held;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, UInt64Type};
use arrow_array::{Array, ArrayRef, Float64Array};
use arrow_schema::DataType;

/// Adds with the rounding error carried beside: Neumaier, Zeitschrift für Angewandte Mathematik und Mechanik 54 (1974).
/// The error of a sum of two is found without a branch (Knuth, TAOCP 2, 4.2.2, theorem B); it is the same number.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sum {
    sum: f64,
    lost: f64,
}

impl Sum {
    #[inline]
    pub(super) fn add(&mut self, x: f64) {
        let sum = self.sum + x;
        let part = sum - self.sum;
        self.lost += (self.sum - (sum - part)) + (x - part);
        self.sum = sum;
    }

    #[inline]
    pub(super) fn value(self) -> f64 {
        // With an infinity among them the carried error is NaN, the sum is what it is.
        let value = self.sum + self.lost;
        if value.is_nan() { self.sum } else { value }
    }
}

/// Values of one field in a window, nulls left out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Values<'a> {
    pub(super) numbers: &'a Float64Array,
    pub(super) held: Held<'a>,
}

impl Values<'_> {
    fn for_each(&self, mut each: impl FnMut(f64)) {
        let values = self.numbers.values();
        match (self.held, self.numbers.nulls()) {
            (Held::Stretch(from, to), None) => values[from..to].iter().for_each(|x| each(*x)),
            (held, nulls) => {
                let valid = |row: &usize| nulls.is_none_or(|nulls| nulls.is_valid(*row));
                (0..held.len()).map(|place| held.get(place)).filter(valid).for_each(|row| each(values[row]));
            }
        }
    }

    pub(super) fn sum(&self) -> f64 {
        let mut sum = Sum::default();
        self.for_each(|x| sum.add(x));
        sum.value()
    }

    /// Squares of the distances to `mean`.
    pub(super) fn squares(&self, mean: f64) -> f64 {
        let mut sum = Sum::default();
        self.for_each(|x| sum.add((x - mean) * (x - mean)));
        sum.value()
    }
}

/// Number of values that are not null.
pub(super) fn count(array: &ArrayRef, held: Held<'_>) -> usize {
    match (array.nulls(), held) {
        (None, held) => held.len(),
        (Some(nulls), Held::Stretch(from, to)) => {
            nulls.slice(from, to - from).len() - nulls.slice(from, to - from).null_count()
        }
        (Some(nulls), Held::Listed(rows)) => rows.iter().filter(|row| nulls.is_valid(**row as usize)).count(),
    }
}

/// Row of the first value that is not null.
pub(super) fn first(array: &ArrayRef, held: Held<'_>) -> u32 {
    let place = (0..held.len()).find(|place| array.is_valid(held.get(*place)));
    place.map_or(NONE, |place| row(held.get(place)))
}

/// Row of the last value that is not null.
pub(super) fn last(array: &ArrayRef, held: Held<'_>) -> u32 {
    let place = (0..held.len()).rev().find(|place| array.is_valid(held.get(*place)));
    place.map_or(NONE, |place| row(held.get(place)))
}

/// Row of the least value, or with `GREATEST` the greatest; the first of equals; a NaN before all others.
pub(super) fn extreme<const GREATEST: bool>(array: &ArrayRef, numbers: &Float64Array, held: Held<'_>) -> u32 {
    match array.data_type() {
        DataType::Int64 => {
            let values = array.as_primitive::<Int64Type>().values();
            pick(
                array,
                held,
                |row, best| if GREATEST { values[row] > values[best] } else { values[row] < values[best] },
            )
        }
        DataType::UInt64 => {
            let values = array.as_primitive::<UInt64Type>().values();
            pick(
                array,
                held,
                |row, best| if GREATEST { values[row] > values[best] } else { values[row] < values[best] },
            )
        }
        _ => {
            let values = numbers.values();
            pick(array, held, |row, best| {
                let (x, best) = (values[row], values[best]);
                let better = if GREATEST { x > best } else { x < best };
                better || (x.is_nan() && !best.is_nan())
            })
        }
    }
}

fn pick(array: &ArrayRef, held: Held<'_>, better: impl Fn(usize, usize) -> bool) -> u32 {
    let valid = |row: &usize| array.is_valid(*row);
    let rows = (0..held.len()).map(|place| held.get(place)).filter(valid);
    rows.reduce(|best, row| if better(row, best) { row } else { best }).map_or(NONE, row)
}

/// The array as numbers, if it is one.
pub(super) fn as_numbers(array: &ArrayRef) -> Option<&Float64Array> {
    array.as_primitive_opt::<Float64Type>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_keeps_what_plain_addition_loses() {
        let mut sum = Sum::default();
        [1.0, 1e100, 1.0, -1e100].into_iter().for_each(|x| sum.add(x));
        assert_eq!(sum.value(), 2.0);
        sum.add(f64::INFINITY);
        assert_eq!(sum.value(), f64::INFINITY);
    }
}

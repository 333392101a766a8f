//! The order of a table's rows in its files. Keys are brought into integers first, texts by their rank: rows are then
//! compared by a few machine words, and rows that come in order, as those of one stream do, are only looked at once.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::hash::Hash;

use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, BooleanArray};
use arrow_ord::sort::{LexicographicalComparator, SortColumn, SortOptions, lexsort_to_indices};
use arrow_schema::{ArrowError, DataType, TimeUnit};

/// Nulls come first, as everywhere in the lake.
const OPTIONS: SortOptions = SortOptions { descending: false, nulls_first: true };

/// How rows are to be taken to stand in order.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// As they are.
    Kept,
    /// By these numbers.
    Rows(Vec<u32>),
}

/// The order of rows by `sort`, ties broken by `rest`.
pub(super) fn order(sort: &[ArrayRef], rest: &[ArrayRef]) -> Result<Order, ArrowError> {
    let rows = sort.iter().chain(rest).map(|column| column.len()).next().unwrap_or(0);
    let rows = u32::try_from(rows).map_err(|e| ArrowError::ComputeError(e.to_string()))?;
    let Some(words) = sort.iter().map(words).collect::<Option<Vec<Vec<u64>>>>() else {
        let all: Vec<SortColumn> = sort.iter().chain(rest).map(column).collect();
        return Ok(Order::Rows(lexsort_to_indices(&all, None)?.values().to_vec()));
    };
    let ties: Vec<SortColumn> = rest.iter().map(column).collect();
    let ties = if ties.is_empty() { None } else { Some(LexicographicalComparator::try_new(&ties)?) };
    let keys = Keys::new(&words);
    let compare = |a: usize, b: usize| {
        keys.of(a)
            .cmp(keys.of(b))
            .then_with(|| ties.as_ref().map_or(Ordering::Equal, |ties| ties.compare(a, b)))
    };
    let index = |row: u32| row as usize;
    if (1..rows).all(|row| compare(index(row - 1), index(row)) != Ordering::Greater) {
        return Ok(Order::Kept);
    }
    let mut order: Vec<u32> = (0..rows).collect();
    // Stable: batches of a stream are runs, which it finds and merges.
    order.sort_by(|a, b| compare(index(*a), index(*b)));
    Ok(Order::Rows(order))
}

fn column(column: &ArrayRef) -> SortColumn {
    SortColumn { values: std::sync::Arc::clone(column), options: Some(OPTIONS) }
}

/// Keys of all rows, one row's words beside each other.
struct Keys {
    width: usize,
    words: Vec<u64>,
}

impl Keys {
    fn new(columns: &[Vec<u64>]) -> Keys {
        let rows = columns.first().map_or(0, Vec::len);
        let mut words = vec![0; rows * columns.len()];
        for (place, column) in columns.iter().enumerate() {
            for (word, value) in words.iter_mut().skip(place).step_by(columns.len()).zip(column) {
                *word = *value;
            }
        }
        Keys { width: columns.len(), words }
    }

    fn of(&self, row: usize) -> &[u64] {
        self.words.get(row * self.width..(row + 1) * self.width).unwrap_or_default()
    }
}

/// Words that stand in the order of the column's values; none for types that are not sorted by in a hurry.
fn words(column: &ArrayRef) -> Option<Vec<u64>> {
    match column.data_type() {
        DataType::Int32 => {
            Some(longs(column, column.as_primitive::<Int32Type>().values().iter().map(|n| i64::from(*n))))
        }
        DataType::Date32 => {
            Some(longs(column, column.as_primitive::<Date32Type>().values().iter().map(|n| i64::from(*n))))
        }
        DataType::Int64 => Some(longs(column, column.as_primitive::<Int64Type>().values().iter().copied())),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            Some(longs(column, column.as_primitive::<TimestampMicrosecondType>().values().iter().copied()))
        }
        DataType::Utf8 => Some(ranks(column.as_string::<i32>().iter())),
        DataType::Boolean => {
            let values: &BooleanArray = column.as_boolean();
            Some(values.iter().map(|value| value.map_or(0, |value| 1 + u64::from(value))).collect())
        }
        _ => None,
    }
}

/// Signed numbers in the order of unsigned ones; by rank where some are null, for no number is left over for those.
fn longs(column: &ArrayRef, values: impl Iterator<Item = i64>) -> Vec<u64> {
    if column.null_count() == 0 {
        return values.map(|n| n.cast_unsigned() ^ (1 << 63)).collect();
    }
    ranks(values.enumerate().map(|(row, n)| column.is_valid(row).then_some(n)))
}

/// Each value's place among the different ones, from 1; 0 is null.
fn ranks<T: Ord + Hash + Copy>(values: impl Iterator<Item = Option<T>>) -> Vec<u64> {
    let mut seen: HashMap<T, u64> = HashMap::new();
    let mut last: Option<(T, u64)> = None;
    let mut words: Vec<u64> = values
        .map(|value| {
            let Some(value) = value else { return 0 };
            if let Some((_, number)) = last.filter(|(last, _)| *last == value) {
                return number;
            }
            let next = seen.len() as u64 + 1;
            let number = *seen.entry(value).or_insert(next);
            last = Some((value, number));
            number
        })
        .collect();
    let mut different: Vec<(T, u64)> = seen.into_iter().collect();
    different.sort_unstable();
    let mut rank_of = vec![0; different.len() + 1];
    for (rank, (_, number)) in (1..).zip(&different) {
        if let Some(place) = usize::try_from(*number).ok().and_then(|number| rank_of.get_mut(number)) {
            *place = rank;
        }
    }
    for word in &mut words {
        *word = usize::try_from(*word).ok().and_then(|number| rank_of.get(number)).copied().unwrap_or(0);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{Float64Array, Int64Array, StringArray, TimestampMicrosecondArray, UInt32Array};
    use proptest::prelude::*;
    use std::sync::Arc;

    /// What the order has to be, by the slow way.
    fn plain(sort: &[ArrayRef], rest: &[ArrayRef]) -> Vec<u32> {
        let all: Vec<SortColumn> = sort.iter().chain(rest).map(column).collect();
        lexsort_to_indices(&all, None).unwrap().values().to_vec()
    }

    fn taken(columns: &[ArrayRef], order: &[u32]) -> Vec<ArrayRef> {
        let order = UInt32Array::from(order.to_vec());
        columns.iter().map(|column| arrow_select::take::take(column, &order, None).unwrap()).collect()
    }

    proptest! {
        #[test]
        fn any_rows_stand_as_arrow_would_put_them(
            rows in prop::collection::vec(
                (prop::option::of("[ab]{0,2}"), any::<i8>(), prop::option::of(-2_i64..2), 0_i64..3, any::<bool>()), 0..60),
        ) {
            let text = StringArray::from_iter(rows.iter().map(|row| row.0.clone()));
            let ts = TimestampMicrosecondArray::from_iter_values(rows.iter().map(|row| i64::from(row.1)));
            let seq = Int64Array::from_iter(rows.iter().map(|row| row.2));
            let flag = BooleanArray::from_iter(rows.iter().map(|row| Some(row.4)));
            let rest = Int64Array::from_iter_values(rows.iter().map(|row| row.3));
            let sort: Vec<ArrayRef> = vec![Arc::new(text), Arc::new(seq), Arc::new(ts), Arc::new(flag)];
            let rest: Vec<ArrayRef> = vec![Arc::new(rest)];
            let wanted = plain(&sort, &rest);
            let found = match order(&sort, &rest).unwrap() {
                Order::Kept => (0..u32::try_from(rows.len()).unwrap()).collect(),
                Order::Rows(order) => order,
            };
            // Rows that are equal in everything may change places.
            for columns in [&sort, &rest] {
                prop_assert_eq!(taken(columns, &found), taken(columns, &wanted));
            }
        }
    }

    #[test]
    fn rows_in_order_are_left_alone_and_other_types_are_sorted_too() {
        let up: ArrayRef = Arc::new(Int64Array::from(vec![i64::MIN, -1, -1, 0, i64::MAX]));
        assert_eq!(order(&[Arc::clone(&up)], &[]).unwrap(), Order::Kept);
        let ties: ArrayRef = Arc::new(Int64Array::from(vec![9, 2, 1, 0, 0]));
        assert_eq!(order(&[up], &[ties]).unwrap(), Order::Rows(vec![0, 2, 1, 3, 4]));
        let floats: ArrayRef = Arc::new(Float64Array::from(vec![2.0, -1.0, f64::NAN]));
        assert_eq!(order(&[floats], &[]).unwrap(), Order::Rows(vec![1, 0, 2]));
    }
}

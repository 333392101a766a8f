//! Statistics of lists.

use super::ListStat;
use super::numbers::{canonical, floats};
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, Float64Array, Int64Array};
use arrow_schema::DataType;
use std::sync::Arc;

/// True if its items are numbers.
pub(super) fn is_list_of_numbers(data_type: &DataType) -> bool {
    match data_type {
        DataType::List(item) | DataType::LargeList(item) => super::numbers::is_number(item.data_type()),
        _ => false,
    }
}

/// The items of every row; `None` for a null row, and everywhere if the column is no list of numbers.
pub(super) fn items(column: &ArrayRef) -> Vec<Option<Float64Array>> {
    let one = |row: Option<ArrayRef>| row.and_then(|row| floats(&row));
    match column.data_type() {
        DataType::List(_) => column.as_list::<i32>().iter().map(one).collect(),
        DataType::LargeList(_) => column.as_list::<i64>().iter().map(one).collect(),
        _ => vec![None; column.len()],
    }
}

/// The type of a statistic.
pub(super) fn type_of(stat: ListStat) -> DataType {
    if stat == ListStat::Count { DataType::Int64 } else { DataType::Float64 }
}

/// A statistic of every row; null of a null row.
pub(super) fn stats(column: &ArrayRef, stat: ListStat) -> ArrayRef {
    let rows = items(column);
    let values = rows.iter().map(|row| row.as_ref().map(values_of));
    if stat == ListStat::Count {
        let counts = values.map(|values| values.and_then(|values| i64::try_from(values.len()).ok()));
        return Arc::new(counts.collect::<Int64Array>());
    }
    Arc::new(
        values
            .map(|values| values.and_then(|values| of(stat, &values)).map(canonical))
            .collect::<Float64Array>(),
    )
}

/// What is neither null nor NaN.
fn values_of(row: &Float64Array) -> Vec<f64> {
    row.iter().flatten().filter(|x| !x.is_nan()).collect()
}

fn of(stat: ListStat, values: &[f64]) -> Option<f64> {
    let (first, last) = (*values.first()?, *values.last()?);
    let least = || values.iter().copied().reduce(|a, b| if b < a { b } else { a });
    let greatest = || values.iter().copied().reduce(|a, b| if b > a { b } else { a });
    let squares = || sum(values.iter().map(|x| x * x));
    Some(match stat {
        ListStat::Mean => mean(values),
        ListStat::Min => least()?,
        ListStat::Max => greatest()?,
        ListStat::Std => std(values)?,
        ListStat::Sum => sum(values.iter().copied()),
        #[expect(clippy::cast_precision_loss, reason = "items of a list")]
        ListStat::Count => values.len() as f64,
        ListStat::First => first,
        ListStat::Last => last,
        ListStat::Median => super::prepare::median_of(values),
        #[expect(clippy::cast_precision_loss, reason = "items of a list")]
        ListStat::Rms => (squares() / values.len() as f64).sqrt(),
        ListStat::Range => greatest()? - least()?,
        ListStat::Energy => squares(),
    })
}

/// Neumaier's sum (ZAMM 54:39-51, 1974), in the order of the items.
pub(super) fn sum(values: impl Iterator<Item = f64>) -> f64 {
    let (mut sum, mut lost) = (0.0_f64, 0.0_f64);
    for x in values {
        let next = sum + x;
        lost += if sum.abs() >= x.abs() { (sum - next) + x } else { (x - next) + sum };
        sum = next;
    }
    // What is lost of an infinite sum is NaN; the sum is what counts then.
    if sum.is_finite() { sum + lost } else { sum }
}

#[expect(clippy::cast_precision_loss, reason = "items of a list")]
pub(super) fn mean(values: &[f64]) -> f64 {
    sum(values.iter().copied()) / values.len() as f64
}

/// Two passes; `None` below two values.
#[expect(clippy::cast_precision_loss, reason = "items of a list")]
fn std(values: &[f64]) -> Option<f64> {
    if values.len() < 2 {
        return None;
    }
    let middle = mean(values);
    Some((sum(values.iter().map(|x| (x - middle) * (x - middle))) / (values.len() - 1) as f64).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::derive::reference::{agree, section};
    use arrow_array::ListArray;
    use arrow_array::types::{Float64Type, Int32Type};

    const STATS: [(&str, ListStat); 12] = [
        ("mean", ListStat::Mean),
        ("min", ListStat::Min),
        ("max", ListStat::Max),
        ("std", ListStat::Std),
        ("sum", ListStat::Sum),
        ("count", ListStat::Count),
        ("first", ListStat::First),
        ("last", ListStat::Last),
        ("median", ListStat::Median),
        ("rms", ListStat::Rms),
        ("range", ListStat::Range),
        ("energy", ListStat::Energy),
    ];

    fn list(rows: Vec<Option<Vec<Option<f64>>>>) -> ArrayRef {
        Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>(rows))
    }

    fn one(column: &ArrayRef, stat: ListStat, row: usize) -> Option<f64> {
        let stats = stats(column, stat);
        assert_eq!(stats.data_type(), &type_of(stat));
        floats(&stats).unwrap().iter().nth(row).unwrap()
    }

    #[test]
    fn statistics_are_numpys() {
        for case in section("lists").as_array().unwrap() {
            let values = case["values"].as_array().unwrap().iter().map(|x| x.as_f64()).collect();
            let column = list(vec![Some(values)]);
            for (name, stat) in STATS {
                let (found, wanted) = (one(&column, stat, 0), case[name].as_f64());
                assert!(agree(found, wanted, 4e-16), "{name}: {found:?}, numpy has {wanted:?}");
            }
        }
    }

    #[test]
    fn nulls_nan_and_nothing() {
        let holed = list(vec![
            Some(vec![None, Some(2.0), Some(f64::NAN), Some(-4.0), None]),
            Some(vec![None]),
            Some(vec![]),
            None,
            Some(vec![Some(f64::INFINITY), Some(1.0)]),
        ]);
        let of = |stat| (0..5).map(|row| one(&holed, stat, row)).collect::<Vec<_>>();
        assert_eq!(of(ListStat::Count), [Some(2.0), Some(0.0), Some(0.0), None, Some(2.0)]);
        assert_eq!(of(ListStat::Mean), [Some(-1.0), None, None, None, Some(f64::INFINITY)]);
        assert_eq!(of(ListStat::First), [Some(2.0), None, None, None, Some(f64::INFINITY)]);
        assert_eq!(of(ListStat::Range)[0], Some(6.0));
        let whole: ArrayRef =
            Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(vec![Some(vec![Some(1), Some(2)])]));
        assert_eq!(one(&whole, ListStat::Rms, 0), Some(2.5f64.sqrt()));
    }
}

//! What differs between a row as it stands in a table and the same row made again (pure).

use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch, StructArray};
use std::collections::BTreeSet;

/// Columns and members that say when, and not what.
const TIMES: [&str; 6] = ["ts", "ts_ns", "ts_err_ns", "grade", "dt_ns", "err_ns"];

/// How two rows of one key differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// In nothing.
    Nothing,
    /// Only in when things were.
    Times,
    /// In values or sources.
    Values,
}

/// What is different in a row; both batches are of one row. A column that one of them lacks is null there.
#[must_use]
pub fn change(new: &RecordBatch, old: &RecordBatch) -> Change {
    let names: BTreeSet<&str> = [new, old]
        .iter()
        .flat_map(|rows| rows.schema_ref().fields())
        .map(|field| field.name().as_str())
        .collect();
    let mut change = Change::Nothing;
    for name in names {
        let (new, old) = (new.column_by_name(name), old.column_by_name(name));
        let same = match (new, old) {
            (Some(new), Some(old)) => is_same(new.as_ref(), old.as_ref()),
            (Some(one), None) | (None, Some(one)) => one.is_null(0),
            (None, None) => true,
        };
        if same {
            continue;
        }
        let only_times = match (new, old) {
            (Some(new), Some(old)) => differs_in_times(new.as_ref(), old.as_ref()),
            _ => false,
        };
        if TIMES.contains(&name) || only_times {
            change = Change::Times;
        } else {
            return Change::Values;
        }
    }
    change
}

/// True if two cells are equal, whatever nullability and names of members their types say.
fn is_same(new: &dyn Array, old: &dyn Array) -> bool {
    match (new.as_struct_opt(), old.as_struct_opt()) {
        (Some(new), Some(old)) => {
            members(new, old).iter().all(|(_, same)| *same) && new.is_null(0) == old.is_null(0)
        }
        _ if new.data_type() == old.data_type() => new.to_data() == old.to_data(),
        _ => arrow_cast::cast(new, old.data_type()).is_ok_and(|new| new.to_data() == old.to_data()),
    }
}

fn members<'a>(new: &'a StructArray, old: &StructArray) -> Vec<(&'a str, bool)> {
    let member = |(name, new): (&'a str, &arrow_array::ArrayRef)| {
        let same = match old.column_by_name(name) {
            Some(old) => is_same(new.as_ref(), old.as_ref()),
            None => new.is_null(0),
        };
        (name, same)
    };
    new.column_names().into_iter().zip(new.columns()).map(member).collect()
}

/// True if two sources differ in distance and uncertainty alone.
fn differs_in_times(new: &dyn Array, old: &dyn Array) -> bool {
    let (Some(new), Some(old)) = (new.as_struct_opt(), old.as_struct_opt()) else { return false };
    members(new, old).iter().all(|(name, same)| *same || TIMES.contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{ArrayRef, Int64Array};
    use std::sync::Arc;

    fn row(ts: i64, x: Option<i64>, dt: i64, seq: i64) -> RecordBatch {
        let long = |n: Option<i64>| -> ArrayRef { Arc::new(Int64Array::from(vec![n])) };
        let source =
            StructArray::try_from(vec![("dt_ns", long(Some(dt))), ("seq_lo", long(Some(seq)))]).unwrap();
        let mut columns = vec![("ts_ns", long(Some(ts))), ("m_src", Arc::new(source) as ArrayRef)];
        columns.extend(x.map(|x| ("m_x", long(Some(x)))));
        RecordBatch::try_from_iter(columns).unwrap()
    }

    #[test]
    fn times_are_told_from_values() {
        let old = row(1, Some(5), -3, 9);
        let cases = [
            (row(1, Some(5), -3, 9), Change::Nothing),
            (row(2, Some(5), -3, 9), Change::Times),
            (row(1, Some(5), -4, 9), Change::Times),
            (row(1, Some(6), -4, 9), Change::Values),
            (row(1, Some(5), -3, 10), Change::Values),
            (row(1, None, -3, 9), Change::Values),
        ];
        for (new, wanted) in cases {
            assert_eq!(change(&new, &old), wanted, "{new:?}");
        }
    }
}

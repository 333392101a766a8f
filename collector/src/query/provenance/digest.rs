//! The canonical digest of aligned rows: the same for the same rows, however they lie in files and batches.

use arrow_array::{Array, RecordBatch};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::ArrowError;
use headwater_core::id::Sha256;
use headwater_core::time::NS_PER_S;
use std::collections::BTreeMap;

const NS_PER_DAY: i64 = 86_400 * NS_PER_S;

/// A row's place in its day: device, time, key.
type Order = (String, i64, String);

/// Rows by day since 1970, each as text that says all of it.
#[derive(Debug, Default)]
pub(super) struct Days(BTreeMap<i64, BTreeMap<Order, String>>);

impl Days {
    /// Takes final rows in; columns without a value are left out, so that a column declared later changes nothing.
    pub(super) fn add(&mut self, rows: &RecordBatch) -> Result<(), ArrowError> {
        let options = FormatOptions::new();
        let mut columns = Vec::new();
        for (field, column) in rows.schema_ref().fields().iter().zip(rows.columns()) {
            columns.push((
                field.name().as_str(),
                column,
                ArrayFormatter::try_new(column.as_ref(), &options)?,
            ));
        }
        columns.sort_by_key(|(name, ..)| *name);
        for at in 0..rows.num_rows() {
            let value = |name: &str| {
                let found = columns.iter().find(|(known, ..)| *known == name);
                found.map(|(.., shown)| shown.value(at).to_string()).unwrap_or_default()
            };
            if value("provisional") != "false" {
                continue;
            }
            let ts_ns: i64 = value("ts_ns").parse().unwrap_or_default();
            let order = (value("device"), ts_ns, value("row_key"));
            let mut text = String::new();
            for (name, column, shown) in columns.iter().filter(|(_, column, _)| column.is_valid(at)) {
                debug_assert!(column.len() > at);
                text.push_str(name);
                text.push('=');
                text.push_str(&shown.value(at).to_string());
                text.push('\n');
            }
            self.0.entry(ts_ns.div_euclid(NS_PER_DAY)).or_default().insert(order, text);
        }
        Ok(())
    }

    /// Holds the rows of a table against those made anew.
    pub(super) fn compare(&self, anew: &Days) -> Vec<Partition> {
        self.0
            .iter()
            .map(|(day, stored)| {
                let empty = BTreeMap::new();
                let made = anew.0.get(day).unwrap_or(&empty);
                // What was made and is not in the table is final since and not aligned yet.
                let matching: BTreeMap<&Order, &String> =
                    made.iter().filter(|(order, _)| stored.contains_key(*order)).collect();
                let differing = stored.iter().filter(|(order, text)| made.get(*order) != Some(*text));
                Partition {
                    day: *day,
                    rows: stored.len(),
                    stored: digest(stored.values()),
                    anew: digest(matching.into_values()),
                    differing: differing.map(|((_, _, key), _)| key.clone()).collect(),
                }
            })
            .collect()
    }

    /// Rows that are here and not in the table.
    pub(super) fn beyond(&self, stored: &Days) -> usize {
        let known = |day: &i64, order: &Order| stored.0.get(day).is_some_and(|rows| rows.contains_key(order));
        self.0.iter().map(|(day, rows)| rows.keys().filter(|order| !known(day, order)).count()).sum()
    }
}

/// A day of a table beside the same made anew.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Partition {
    /// Days since 1970.
    pub(super) day: i64,
    pub(super) rows: usize,
    /// Digest of the rows as they are stored.
    pub(super) stored: Sha256,
    /// Digest of the same rows made anew.
    pub(super) anew: Sha256,
    /// Keys of rows that differ, or could not be made.
    pub(super) differing: Vec<String>,
}

fn digest<'a>(rows: impl Iterator<Item = &'a String>) -> Sha256 {
    let mut all = String::new();
    for row in rows {
        all.push_str(row);
        all.push('\n');
    }
    Sha256::of(all.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray};
    use std::sync::Arc;

    fn rows(ts: &[i64], x: &[Option<f64>]) -> RecordBatch {
        let n = ts.len();
        let keys: StringArray = ts.iter().map(|ts| Some(format!("k{ts}"))).collect();
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("device", Arc::new(StringArray::from(vec!["pi-1"; n]))),
            ("ts_ns", Arc::new(Int64Array::from(ts.to_vec()))),
            ("row_key", Arc::new(keys)),
            ("provisional", Arc::new(BooleanArray::from(vec![false; n]))),
            ("x", Arc::new(Float64Array::from(x.to_vec()))),
        ];
        RecordBatch::try_from_iter(columns).unwrap()
    }

    fn days(batches: &[RecordBatch]) -> Days {
        let mut days = Days::default();
        batches.iter().for_each(|batch| days.add(batch).unwrap());
        days
    }

    #[test]
    fn the_digest_does_not_see_batches_and_order_and_sees_every_value() {
        let one = days(&[rows(&[5, 1, NS_PER_DAY], &[Some(0.1), None, Some(3.0)])]);
        let other =
            days(&[rows(&[NS_PER_DAY], &[Some(3.0)]), rows(&[1, 5, 7], &[None, Some(0.1), Some(9.0)])]);
        let compared = one.compare(&other);
        assert_eq!(compared.iter().map(|day| (day.day, day.rows)).collect::<Vec<_>>(), [(0, 2), (1, 1)]);
        assert!(compared.iter().all(|day| day.stored == day.anew && day.differing.is_empty()));
        assert_eq!(other.beyond(&one), 1, "a row that is not in the table yet is no difference");
        let third = days(&[rows(&[5, 1, NS_PER_DAY], &[Some(0.100_000_000_000_000_02), None, Some(3.0)])]);
        assert_eq!(one.compare(&third)[0].differing, ["k5"]);
        assert_ne!(one.compare(&third)[0].stored, one.compare(&third)[0].anew);
    }
}

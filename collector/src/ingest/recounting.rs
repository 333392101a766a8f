//! Rows done again for late data or better times, held against those in the table: only what changed is written.

use crate::align::window::{AlignedWindow, Recount};
use arrow_array::cast::AsArray;
use arrow_array::{Array, BooleanArray, RecordBatch, StructArray};
use arrow_schema::ArrowError;
use futures::TryStreamExt;
use headwater_core::time::NS_PER_S;
use headwater_lake::{CommitId, Lake, LakeError, ScanOptions, TableName};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Around the rows' own time, µs: better tracks may have moved them by as much without a longer look.
const AROUND_US: i64 = 86_400 * NS_PER_S / 1_000;
/// Columns and members that say when, and not what.
const TIMES: [&str; 6] = ["ts", "ts_ns", "ts_err_ns", "grade", "dt_ns", "err_ns"];

/// Stored rows by device and row key.
type Stored = HashMap<(String, String), RecordBatch>;

/// Takes out of a window the rows that stand in the table already as they are, and counts the others.
///
/// # Errors
/// When the table cannot be read.
pub(super) async fn recount(
    lake: &Lake,
    head: &CommitId,
    table: &TableName,
    window: &mut AlignedWindow,
) -> Result<(), LakeError> {
    let redone: BTreeSet<(String, String)> = window.redone.iter().cloned().collect();
    if redone.is_empty() {
        return Ok(());
    }
    let stored = stored(lake, head, table, window, &redone).await?;
    let failed =
        |error: ArrowError| LakeError::Corrupt { path: table.to_string(), reason: error.to_string() };
    let mut counts: BTreeMap<String, Recount> = BTreeMap::new();
    let mut rows = std::mem::take(&mut window.rows).into_iter();
    for batch in std::mem::take(&mut window.batches) {
        let mut keep = Vec::with_capacity(batch.num_rows());
        for at in 0..batch.num_rows() {
            let Some(row) = rows.next() else { break };
            let name = (row.device.clone(), row.row_key.clone());
            let change = match (redone.contains(&name), stored.get(&name)) {
                (false, _) => None,
                (true, None) => Some(Change::Values),
                (true, Some(stored)) => Some(change(&batch.slice(at, 1), stored)),
            };
            let count = counts.entry(row.device.clone()).or_default();
            match change {
                Some(Change::Nothing) => {
                    count.same += 1;
                    window.same.push((row.key, row.seq));
                    window.replaced.retain(|replaced| *replaced != name);
                    keep.push(false);
                    continue;
                }
                Some(Change::Times) => count.times += 1,
                Some(Change::Values) => count.values += 1,
                None => {}
            }
            keep.push(true);
            window.rows.push(row);
        }
        if keep.iter().any(|keep| *keep) {
            let kept = arrow_select::filter::filter_record_batch(&batch, &BooleanArray::from(keep));
            window.batches.push(kept.map_err(failed)?);
        }
    }
    window.recount = counts;
    Ok(())
}

async fn stored(
    lake: &Lake,
    head: &CommitId,
    table: &TableName,
    window: &AlignedWindow,
    redone: &BTreeSet<(String, String)>,
) -> Result<Stored, LakeError> {
    let mut stored = Stored::new();
    if !lake.tables(head).await?.contains_key(table) {
        return Ok(stored);
    }
    let around = window.replaced_ts.map(|(lo, hi)| {
        (lo.div_euclid(1_000).saturating_sub(AROUND_US), hi.div_euclid(1_000).saturating_add(AROUND_US))
    });
    let (from_us, to_us) = around.unzip();
    let options = ScanOptions { from_us, to_us, ..ScanOptions::default() };
    let mut batches = lake.scan(head, table, options).await?;
    while let Some(batch) = batches.try_next().await? {
        let text = |name: &str| batch.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
        let (Some(device), Some(key)) = (text("device"), text("row_key")) else { continue };
        for at in 0..batch.num_rows() {
            let name = (device.value(at).to_owned(), key.value(at).to_owned());
            if redone.contains(&name) {
                stored.insert(name, batch.slice(at, 1));
            }
        }
    }
    Ok(stored)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Nothing,
    Times,
    Values,
}

/// What is different in a row. A column that one of them lacks is null there.
fn change(new: &RecordBatch, old: &RecordBatch) -> Change {
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

//! Rows done again for late data or better times, held against those in the table: only what changed is written.

use crate::align::change::{Change, change};
use crate::align::window::{AlignedWindow, Recount};
use arrow_array::cast::AsArray;
use arrow_array::{BooleanArray, RecordBatch};
use arrow_schema::ArrowError;
use futures::TryStreamExt;
use headwater_core::time::NS_PER_S;
use headwater_lake::{CommitId, Lake, LakeError, ScanOptions, TableName};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Around the rows' own time, µs: better tracks may have moved them by as much without a longer look.
const AROUND_US: i64 = 86_400 * NS_PER_S / 1_000;
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

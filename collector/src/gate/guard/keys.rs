//! Whether a row came twice: by (device, row key), over the whole table as it would be.

use super::rows::Offenders;
use crate::gate::{Judged, Verdict};
use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch};
use futures::TryStreamExt;
use headwater_core::id::Sha256;
use headwater_lake::{BatchStream, CommitId, Lake, LakeError, ScanOptions, TableName};
use std::collections::HashMap;

/// Keys held in memory at once, some 200 MB; more are looked at in that many passes over the two columns.
const KEYS_MAX: u64 = 4_000_000;

/// Says which of the `rows` rows that came to `table` from `base` to `staged` are in it more than once.
///
/// # Errors
/// When the store fails.
pub(super) async fn duplicates(
    lake: &Lake,
    (base, staged): (&CommitId, &CommitId),
    table: &TableName,
    rows: u64,
) -> Result<Judged, LakeError> {
    let columns = Some(vec!["device".to_owned(), "row_key".to_owned()]);
    let options = || ScanOptions { columns: columns.clone(), ..ScanOptions::default() };
    let passes = rows.div_ceil(KEYS_MAX).max(1);
    let mut twice = Offenders::default();
    for pass in 0..passes {
        let mut seen: HashMap<u128, u32> = HashMap::new();
        let mine = |key: u128| key % u128::from(passes) == u128::from(pass);
        each(lake.scan_added(base, staged, table, options()).await?, |key, _| {
            if mine(key) {
                seen.insert(key, 0);
            }
        })
        .await?;
        // Of a table that is new all of it came; of others what was there counts as well.
        each(lake.scan(staged, table, options()).await?, |key, row_key| {
            if let Some(times) = seen.get_mut(&key).filter(|_| mine(key)) {
                *times = times.saturating_add(1);
                if *times == 2 {
                    twice.add(row_key);
                }
            }
        })
        .await?;
    }
    Ok(twice.judged("duplicates", Verdict::Fail, rows))
}

async fn each(mut batches: BatchStream, mut row: impl FnMut(u128, &str)) -> Result<(), LakeError> {
    while let Some(batch) = batches.try_next().await? {
        of_batch(&batch, &mut row);
    }
    Ok(())
}

fn of_batch(batch: &RecordBatch, row: &mut impl FnMut(u128, &str)) {
    let text = |name| batch.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
    let (Some(device), Some(row_key)) = (text("device"), text("row_key")) else { return };
    for n in 0..batch.num_rows() {
        // A row without a key offends the rule of the table's shape already.
        if !device.is_null(n) && !row_key.is_null(n) {
            let (device, row_key) = (device.value(n), row_key.value(n));
            row(number(device, row_key), row_key);
        }
    }
}

/// The first 128 bits of a digest: two keys that fall together by chance are out of reach.
fn number(device: &str, row_key: &str) -> u128 {
    let digest = Sha256::of(format!("{device}\0{row_key}").as_bytes()).0;
    digest.iter().take(16).fold(0, |number, byte| number << 8 | u128::from(*byte))
}

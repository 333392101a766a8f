//! Whether a row came twice: by (device, row key), over the whole table as it would be.

use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch};
use futures::TryStreamExt;
use headwater_core::id::Sha256;
use headwater_lake::{BatchStream, CommitId, Lake, LakeError, ScanOptions, TableName};
use std::collections::{HashMap, HashSet};

/// Keys held in memory at once, some 200 MB; more are looked at in that many passes over the two columns.
const KEYS_MAX: u64 = 4_000_000;
/// Doubled keys that are noted, some 40 MB: rows beyond them change no verdict.
const DOUBLED_MAX: usize = 1_000_000;
/// What a row is known by.
const COLUMNS: [&str; 2] = ["device", "row_key"];

/// Keys that would be in a table more than once.
#[derive(Debug, Default)]
pub(super) struct Doubled(HashSet<u128>);

impl Doubled {
    /// Keys of rows that came to `table` from `base` to `staged` and are in it more than once then.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) async fn find(
        lake: &Lake,
        (base, staged): (&CommitId, &CommitId),
        table: &TableName,
    ) -> Result<Self, LakeError> {
        let mut doubled = Self::default();
        let known = lake.columns(staged, table).await?;
        if !COLUMNS.iter().all(|name| known.iter().any(|column| column.name == *name)) {
            // Another rule's business.
            return Ok(doubled);
        }
        let columns = COLUMNS.map(str::to_owned).to_vec();
        let options = || ScanOptions { columns: Some(columns.clone()), ..ScanOptions::default() };
        let mut rows = 0_u64;
        let mut came = lake.scan_added(base, staged, table, options()).await?;
        while let Some(batch) = came.try_next().await? {
            rows = rows.saturating_add(batch.num_rows() as u64);
        }
        let passes = rows.div_ceil(KEYS_MAX);
        for pass in 0..passes {
            let mut seen: HashMap<u128, bool> = HashMap::new();
            let mine = |key: u128| key % u128::from(passes) == u128::from(pass);
            each(lake.scan_added(base, staged, table, options()).await?, |key| {
                if mine(key) {
                    seen.insert(key, false);
                }
            })
            .await?;
            // Of a table that is new all of it came; of others what was there counts as well.
            each(lake.scan(staged, table, options()).await?, |key| {
                if let Some(once) = seen.get_mut(&key).filter(|_| mine(key))
                    && std::mem::replace(once, true)
                    && doubled.0.len() < DOUBLED_MAX
                {
                    doubled.0.insert(key);
                }
            })
            .await?;
        }
        Ok(doubled)
    }

    /// Which of these rows are among them, by place.
    pub(super) fn of(&self, batches: &[RecordBatch]) -> Vec<bool> {
        let mut found = Vec::with_capacity(batches.iter().map(RecordBatch::num_rows).sum());
        for batch in batches {
            of_batch(batch, |key| found.push(key.is_some_and(|key| self.0.contains(&key))));
        }
        found
    }
}

async fn each(mut batches: BatchStream, mut row: impl FnMut(u128)) -> Result<(), LakeError> {
    while let Some(batch) = batches.try_next().await? {
        of_batch(&batch, |key| key.into_iter().for_each(&mut row));
    }
    Ok(())
}

/// The key of each row; none of a row without one, which offends the rule of the table's shape.
fn of_batch(batch: &RecordBatch, mut row: impl FnMut(Option<u128>)) {
    let text = |name| batch.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
    let columns = text("device").zip(text("row_key"));
    for n in 0..batch.num_rows() {
        let there = columns.filter(|(device, row_key)| !device.is_null(n) && !row_key.is_null(n));
        row(there.map(|(device, row_key)| number(device.value(n), row_key.value(n))));
    }
}

/// The first 128 bits of a digest: two keys that fall together by chance are out of reach.
fn number(device: &str, row_key: &str) -> u128 {
    let digest = Sha256::of(format!("{device}\0{row_key}").as_bytes()).0;
    digest.iter().take(16).fold(0, |number, byte| number << 8 | u128::from(*byte))
}

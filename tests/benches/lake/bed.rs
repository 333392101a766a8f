//! What the parts lay out first: lakes, and the usual small commit.

use anyhow::{Context, Result};
use headwater_lake::{CommitRequest, Lake, TableAppend, testing};
use headwater_tests::lakes::{
    Key, Meter, Recording, imu, imu_batch, ledger, ledger_batch, small, small_batch,
};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use std::path::Path;
use std::sync::Arc;

/// 2026-11-23T00:00:00Z, ns.
pub(super) const MIDNIGHT_NS: i64 = 1_795_392_000_000_000_000;
/// Its day, counted from 1970.
pub(super) const MIDNIGHT_DAY: i32 = 20_780;
/// Default cadence on a local disk, s.
pub(super) const CADENCE_LOCAL_S: i64 = 10;
/// Default cadence on an object store, s.
pub(super) const CADENCE_REMOTE_S: i64 = 30;
/// Rows of `raw.imu` in the usual small commit.
const ROWS: i64 = 100;

pub(super) async fn local(folder: &Path) -> Result<Lake> {
    let text = folder.to_str().context("the folder is not UTF-8")?;
    Ok(Lake::init(text).await?)
}

/// A lake in memory, seen through a meter.
pub(super) async fn metered() -> Result<(Arc<Meter>, Lake)> {
    let meter = Arc::new(Meter::new(Arc::new(InMemory::new())));
    let store: Arc<dyn ObjectStore> = Arc::<Meter>::clone(&meter);
    Ok((meter, testing::init_on(store).await?))
}

/// `n` rows of one device from `first`, `step_ns` apart from `start_ns`.
pub(super) fn keys(device: u32, first: i64, n: i64, start_ns: i64, step_ns: i64) -> Vec<Key> {
    (0..n).map(|at| Key { device, seq: first + at, at_ns: start_ns + at * step_ns }).collect()
}

/// The `n`-th commit of a history: rows for `tables` tables, a ledger row among them, ten seconds after the last.
pub(super) fn request(recording: &Recording, tables: usize, n: u64) -> Result<CommitRequest> {
    let n = i64::try_from(n)?;
    let start_ns = MIDNIGHT_NS + n * CADENCE_LOCAL_S * 1_000_000_000;
    let keys = keys(0, n * ROWS, ROWS, start_ns, 5_000_000);
    let first = *keys.first().context("a commit has rows")?;
    let mut appends = vec![
        TableAppend { spec: imu("imu"), batches: vec![imu_batch(recording, &keys)?] },
        TableAppend { spec: ledger(), batches: vec![ledger_batch("imu", "imu", &[(first, ROWS)])?] },
    ];
    for further in 2..tables {
        let kind = format!("s{further:02}");
        appends.push(TableAppend { spec: small(&kind), batches: vec![small_batch(&kind, &keys[..10])?] });
    }
    appends.truncate(tables.max(1));
    let time_us = start_ns / 1_000 + CADENCE_LOCAL_S * 1_000_000;
    Ok(CommitRequest { message: format!("rows {n}"), time_us, appends, ..CommitRequest::default() })
}

/// Middle of a list; zero of none.
pub(super) fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// The value below which `share` of a list lies; zero of none.
pub(super) fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a length is one of its indices"
    )]
    let at = (sorted.len().saturating_sub(1) as f64 * share) as usize;
    sorted.get(at).copied().unwrap_or_default()
}

/// Mean of a list; zero of none.
pub(super) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

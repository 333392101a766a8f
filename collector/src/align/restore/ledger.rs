//! What `ops` says of a recipe's streams: held seqs and their times, gaps, promises, units of stamps.

use super::super::StreamKinds;
use super::super::aligner::Aligner;
use super::super::buffer::Dropped;
use super::super::promise::Promise;
use super::super::raw_rows::StampUnits;
use crate::commit::read::ScannedRows;
use crate::commit::tables::Ops;
use crate::commit::withdrawn::withdrawn;
use crate::dedup::{Ledger, StreamKey};
use futures::TryStreamExt;
use headwater_core::id::{BootOrdinal, Seq, StreamName};
use headwater_core::time::{BootNanos, stamp_unit_ns};
use headwater_lake::{CommitId, Lake, LakeError, ScanOptions};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A run of held seqs and its UTC, ns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LedgerRun {
    pub(super) seqs: (u64, u64),
    pub(super) t_ns: (i64, i64),
    /// When the collector said so: of two runs of the same seqs the later is right.
    said: i64,
    /// When it first said so, UTC ns: they came then.
    arrived: i64,
}

impl LedgerRun {
    pub(super) fn rows(&self) -> u64 {
        self.seqs.1.saturating_sub(self.seqs.0).saturating_add(1)
    }
}

/// Held runs by stream.
#[derive(Debug, Clone, Default)]
pub(super) struct Runs(BTreeMap<StreamKey, Arc<Vec<LedgerRun>>>);

impl Runs {
    pub(super) fn of<'a>(
        &'a self,
        stream: &'a StreamName,
    ) -> impl Iterator<Item = (&'a StreamKey, &'a [LedgerRun])> + 'a {
        let of = self.0.iter().filter(move |(key, _)| key.stream == *stream);
        of.map(|(key, runs)| (key, runs.as_slice()))
    }

    /// Newest seq of which it is known that it lies before a UTC, ns.
    pub(super) fn newest_below(&self, key: &StreamKey, ts_ns: i64) -> Option<u64> {
        let runs = self.0.get(key)?.iter().filter(|run| run.t_ns.0 < ts_ns);
        runs.map(|run| if run.t_ns.1 < ts_ns { run.seqs.1 } else { run.seqs.0 }).max()
    }

    fn add(&mut self, key: &StreamKey, run: LedgerRun) {
        Arc::make_mut(self.0.entry(key.clone()).or_default()).push(run);
    }

    /// All runs: whose, seqs, UTC and when they came, ns.
    pub(super) fn all(&self) -> impl Iterator<Item = (&StreamKey, (u64, u64), (i64, i64), i64)> {
        let of = |(key, runs)| (key, Arc::as_ref(runs));
        self.0.iter().map(of).flat_map(|(key, runs): (&StreamKey, &Vec<LedgerRun>)| {
            runs.iter().map(move |run| (key, run.seqs, run.t_ns, run.arrived))
        })
    }

    /// The newest held seq of each stream, and its UTC.
    pub(super) fn newest(&self) -> impl Iterator<Item = (&StreamKey, Dropped)> {
        self.0.iter().filter_map(|(key, runs)| {
            let seq = runs.iter().map(|run| run.seqs.1).max()?;
            let ts_ns = runs.iter().map(|run| run.t_ns.1).max()?;
            Some((key, Dropped { seq, ts_ns }))
        })
    }

    /// Where two runs tell of the same seqs, the later one is right: times were corrected.
    fn settle(&mut self) {
        for runs in self.0.values_mut() {
            let runs = Arc::make_mut(runs);
            runs.sort_by_key(|run| (run.seqs, run.said));
            let mut kept: Vec<LedgerRun> = Vec::with_capacity(runs.len());
            for run in runs.drain(..) {
                match kept.last_mut() {
                    Some(last) if last.seqs == run.seqs => {
                        *last = LedgerRun { arrived: last.arrived.min(run.arrived), ..run };
                    }
                    _ => kept.push(run),
                }
            }
            *runs = kept;
        }
    }
}

/// What `ops` says of a recipe's streams at a commit: read once, told to any number of aligners.
#[derive(Debug, Default)]
pub(crate) struct Books {
    pub(super) kinds_of: StreamKinds,
    pub(super) runs: Runs,
    pub(super) units: StampUnits,
    ledger: Ledger,
    promises: BTreeMap<StreamKey, Promise>,
}

impl Books {
    /// Reads what is said of `streams`.
    ///
    /// # Errors
    /// When a table cannot be read.
    pub(crate) async fn read(
        streams: &BTreeSet<StreamName>,
        lake: &Lake,
        head: &CommitId,
    ) -> Result<Self, LakeError> {
        let mut books = Self { units: stamp_units(lake, head).await?, ..Self::default() };
        let tables = lake.tables(head).await?;
        for ops in [Ops::Ledger, Ops::Gaps, Ops::Clock] {
            if !tables.contains_key(&ops.table()) {
                continue;
            }
            let mut batches = lake.scan(head, &ops.table(), ScanOptions::default()).await?;
            while let Some(batch) = batches.try_next().await? {
                let rows = ScannedRows(&batch);
                for row in 0..rows.len() {
                    if let Some(key) = key_of(rows, row).filter(|key| streams.contains(&key.stream)) {
                        books.note(ops, &key, rows, row);
                    }
                }
            }
        }
        books.runs.settle();
        // What was taken out of the tables will not come: it counts as a gap, not as a sample that is there.
        for (key, seqs) in withdrawn(lake, head).await? {
            if streams.contains(&key.stream) {
                books.ledger.release(&key, seqs.clone());
                books.ledger.declare_missing(&key, seqs);
            }
        }
        Ok(books)
    }

    fn note(&mut self, ops: Ops, key: &StreamKey, rows: ScannedRows<'_>, row: usize) {
        if ops == Ops::Clock {
            if let Some(promise) = promise_of(rows, row) {
                let known = self.promises.entry(key.clone()).or_insert(promise);
                if promise.is_after(known) {
                    *known = promise;
                }
            }
            return;
        }
        let Some((lo, hi)) = rows.count("seq_lo", row).zip(rows.count("seq_hi", row)) else { return };
        let seqs = lo..hi.saturating_add(1);
        if ops == Ops::Gaps {
            let small = |name: &str| rows.count(name, row).unwrap_or(0);
            self.ledger.declare_gap(key, seqs, small("stride"), small("phase"));
            return;
        }
        self.ledger.hold(key, seqs);
        if let Some(Ok(kind)) = rows.text("kind", row).map(|kind| kind.parse()) {
            self.kinds_of.entry(key.stream.clone()).or_default().insert(kind);
        }
        if let Some(t_ns) = rows.long("t_min_ns", row).zip(rows.long("t_max_ns", row)) {
            let said = rows.long("ts_ns", row).unwrap_or(i64::MIN);
            self.runs.add(key, LedgerRun { seqs: (lo, hi), t_ns, said, arrived: said });
        }
    }

    /// Kinds of the streams.
    pub(crate) fn kinds_of(&self) -> &StreamKinds {
        &self.kinds_of
    }

    /// Runs of held seqs: whose, how many rows, and their UTC, ns.
    pub(crate) fn held(&self) -> impl Iterator<Item = (&StreamKey, u64, (i64, i64))> {
        self.runs.0.iter().flat_map(|(key, runs)| runs.iter().map(move |run| (key, run.rows(), run.t_ns)))
    }

    /// Tells an aligner what it reads of this; gives the runs of that.
    pub(super) fn tell(&self, aligner: &mut Aligner) -> Runs {
        let devices = aligner.scope().and_then(|scope| scope.devices(aligner.recipe()));
        let reads = |key: &StreamKey| devices.as_ref().is_none_or(|devices| devices.contains(&key.device));
        let promises = self.promises.iter().filter(|(key, _)| reads(key));
        aligner.know(self.ledger.only(reads), promises.map(|(key, of)| (key.clone(), *of)).collect());
        let runs = self.runs.0.iter().filter(|(key, _)| reads(key));
        Runs(runs.map(|(key, runs)| (key.clone(), Arc::clone(runs))).collect())
    }
}

/// Units that stamps were floored to, by fingerprint of the declaration.
async fn stamp_units(lake: &Lake, head: &CommitId) -> Result<StampUnits, LakeError> {
    let mut units = StampUnits::new();
    let table = Ops::Schemas.table();
    if !lake.tables(head).await?.contains_key(&table) {
        return Ok(units);
    }
    let names = ["schema_fp", "time_exp"].map(str::to_owned).to_vec();
    let options = ScanOptions { columns: Some(names), ..ScanOptions::default() };
    let mut batches = lake.scan(head, &table, options).await?;
    while let Some(batch) = batches.try_next().await? {
        let rows = ScannedRows(&batch);
        for row in 0..rows.len() {
            let unit = rows.long("time_exp", row).and_then(|exp| stamp_unit_ns(u8::try_from(exp).ok()?));
            if let Some((fingerprint, unit)) = rows.long("schema_fp", row).zip(unit) {
                units.insert(fingerprint, unit);
            }
        }
    }
    Ok(units)
}

fn key_of(rows: ScannedRows<'_>, row: usize) -> Option<StreamKey> {
    Some(StreamKey {
        device: rows.text("device", row)?.parse().ok()?,
        epoch: rows.text("epoch", row)?.parse().ok()?,
        stream: rows.text("stream", row)?.parse().ok()?,
    })
}

fn promise_of(rows: ScannedRows<'_>, row: usize) -> Option<Promise> {
    (rows.text("row_kind", row)? == "heartbeat").then_some(())?;
    Some(Promise {
        boot: BootOrdinal(u32::try_from(rows.long("boot_ordinal", row)?).ok()?),
        next_seq: Seq(rows.count("next_seq", row)?),
        promise_b: BootNanos(rows.long("promise_b_ns", row)?),
    })
}

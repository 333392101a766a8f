//! What must be true, whatever goes wrong: what gateways captured, what collectors said, what the lake holds.

use super::mutant::Mutant;
use headwater_collector::dedup::StreamKey;
use headwater_collector::ingest::rehearsal::{Kept, Rehearsed};
use headwater_core::batch::Rows;
use headwater_core::gap::GapRecord;
use headwater_core::id::{DeviceId, Epoch, Sha256, StreamId, StreamName};
use headwater_core::interval::IntervalSet;
use headwater_core::sample::{BlobRef, Value};
use headwater_core::wire::{Ack, AckStream};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Things told of one broken world; more say nothing new.
const TOLD_MAX: usize = 12;

/// One stream as its gateway knows it.
#[derive(Debug, Default)]
pub(super) struct Truth {
    pub(super) id: Option<StreamId>,
    /// Row of each seq as it was given last; a seq that was given again after a crash took the place of one that was lost.
    pub(super) offered: BTreeMap<u64, Rows>,
    /// Seqs that were appended and not yet synced.
    pub(super) pending: IntervalSet,
    /// Seqs whose sync was confirmed (A1).
    pub(super) captured: IntervalSet,
    /// One past the newest seq.
    pub(super) next: u64,
}

/// What was said of a stream to its gateway, whether it arrived or not.
#[derive(Debug, Default, Clone)]
pub(super) struct Told {
    pub(super) durable: IntervalSet,
    pub(super) committed: IntervalSet,
}

/// The lake as readers would see it.
#[derive(Debug, Default)]
pub(super) struct Lake {
    pub(super) kept: Kept,
    rows: BTreeMap<StreamKey, BTreeMap<u64, Rows>>,
    gaps: BTreeMap<StreamKey, Vec<GapRecord>>,
    pub(super) commits: u64,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) truth: BTreeMap<StreamKey, Truth>,
    pub(super) told: BTreeMap<(DeviceId, Epoch, StreamId), Told>,
    pub(super) lake: Lake,
    violations: Vec<String>,
    pub(super) captured_rows: u64,
    pub(super) evicted_rows: u64,
    /// When alarms were captured that are not called durable yet, ms.
    pub(super) alarms: BTreeMap<(StreamKey, u64), u64>,
    /// Longest that one took, ms.
    pub(super) alarm_ms_max: u64,
}

/// Shared by all parts of a world.
#[derive(Debug, Clone, Default)]
pub(super) struct Oracle(Arc<Mutex<State>>);

impl Oracle {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn violated(&self, what: String) {
        self.lock().violated(what);
    }

    pub(super) fn violations(&self) -> Vec<String> {
        self.lock().violations.clone()
    }
}

fn contents(ack: &AckStream) -> (IntervalSet, IntervalSet) {
    let set = |upto: u64, ranges: &[std::ops::Range<u64>]| {
        let mut set = IntervalSet::below(upto);
        ranges.iter().for_each(|range| set.insert(range.clone()));
        set
    };
    (set(ack.durable_upto.0, &ack.durable), set(ack.committed_upto.0, &ack.committed))
}

impl State {
    pub(super) fn violated(&mut self, what: String) {
        if self.violations.len() < TOLD_MAX {
            self.violations.push(what);
        }
    }

    pub(super) fn name_of(&self, device: &DeviceId, epoch: Epoch, id: StreamId) -> Option<StreamKey> {
        let of = |key: &StreamKey| key.device == *device && key.epoch == epoch;
        self.truth.iter().find(|(key, truth)| of(key) && truth.id == Some(id)).map(|(key, _)| key.clone())
    }

    /// A collector says this to a gateway. *committed* must be in the lake by now (S1).
    pub(super) fn says(&mut self, now_ms: u64, device: &DeviceId, epoch: Epoch, ack: &Ack) {
        for stream in &ack.streams {
            let (durable, committed) = contents(stream);
            if let Some(key) = self.name_of(device, epoch, stream.id) {
                let of_stream = (key.clone(), 0)..=(key.clone(), u64::MAX);
                let told = |seq: &u64| durable.contains(*seq);
                let told: Vec<u64> =
                    self.alarms.range(of_stream).map(|((_, seq), _)| *seq).filter(told).collect();
                for seq in told {
                    let since = self.alarms.remove(&(key.clone(), seq)).unwrap_or(now_ms);
                    self.alarm_ms_max = self.alarm_ms_max.max(now_ms.saturating_sub(since));
                }
                for range in committed.iter() {
                    if !self.lake.kept.ledger.accounts_for(&key, range.clone()) {
                        self.violated(format!(
                            "S1: {key} {range:?} is called committed and is not in the lake"
                        ));
                    }
                }
            }
            let told = self.told.entry((device.clone(), epoch, stream.id)).or_default();
            told.durable.union_with(&durable);
            told.durable.union_with(&committed);
            told.committed.union_with(&committed);
        }
    }

    /// A new life of the collector found this much of a stream durable: all that any life called so must be in it (S1).
    pub(super) fn found(&mut self, device: &DeviceId, epoch: Epoch, id: StreamId, durable: &IntervalSet) {
        let Some(told) = self.told.get(&(device.clone(), epoch, id)).cloned() else { return };
        for range in told.durable.iter() {
            for missing in durable.missing_in(range) {
                self.violated(format!(
                    "S1: {device} {id:?} {missing:?} was called durable and no landing log holds it"
                ));
            }
        }
    }

    /// A gateway lets go of what it was told (A1): that must be at least where its setting says.
    pub(super) fn lets_go(&mut self, key: &StreamKey, id: StreamId, acked: &IntervalSet, durable: bool) {
        let told = self.told.get(&(key.device.clone(), key.epoch, id)).cloned().unwrap_or_default();
        let allowed = if durable { told.durable } else { told.committed };
        for range in acked.iter() {
            for early in allowed.missing_in(range) {
                self.violated(format!("A1: {key} {early:?} was let go of before the collector's word"));
            }
        }
    }

    /// A commit is there.
    pub(super) fn commits(&mut self, commit: &Rehearsed, mutant: Option<Mutant>) {
        self.lake.commits += 1;
        if commit.quarantined > 0 {
            self.violated(format!("{} items went to quarantine", commit.quarantined));
        }
        for (key, rows) in &commit.rows {
            for (place, seq) in rows.seqs().enumerate() {
                let row = rows.slice(place..place + 1);
                let of_stream = self.lake.rows.entry(key.clone()).or_default();
                if of_stream.insert(seq, row).is_some() {
                    self.violated(format!("D1: {key} {seq} is in the lake twice"));
                }
            }
        }
        for (key, gap) in &commit.gaps {
            self.lake.gaps.entry(key.clone()).or_default().push(gap.clone());
        }
        commit.keep(&mut self.lake.kept);
        if mutant == Some(Mutant::LedgerForgotten) {
            self.lake.kept.ledger = headwater_collector::dedup::Ledger::default();
        }
    }

    /// Everything that was emitted, against the lake; to be asked when nothing is under way any more.
    pub(super) fn judge(&mut self) {
        let truth = std::mem::take(&mut self.truth);
        for (key, truth) in &truth {
            self.judge_stream(key, truth);
        }
        let strange: Vec<StreamKey> =
            self.lake.rows.keys().filter(|key| !truth.contains_key(*key)).cloned().collect();
        for key in strange {
            self.violated(format!("D1: the lake has {key}, which nobody captured"));
        }
        self.truth = truth;
    }

    fn judge_stream(&mut self, key: &StreamKey, truth: &Truth) {
        let rows = self.lake.rows.remove(key).unwrap_or_default();
        let gaps = self.lake.gaps.get(key).cloned().unwrap_or_default();
        let (mut evicted, mut explained) = (IntervalSet::new(), IntervalSet::new());
        for gap in &gaps {
            for seqs in gap.explained() {
                explained.insert(seqs.clone());
                if gap.cause.reason() == "evicted" {
                    evicted.insert(seqs);
                }
            }
        }
        if let Some(beyond) = rows.keys().find(|seq| **seq >= truth.next) {
            self.violated(format!("D1: the lake has {key} {beyond}, which was never given out"));
        }
        for seq in 0..truth.next {
            match rows.get(&seq) {
                Some(row) => {
                    if truth.offered.get(&seq).is_none_or(|offered| !offered.same_bits(row)) {
                        self.violated(format!("D1: {key} {seq} has other content than was captured"));
                    }
                    let lacking = lacking_object(row, &self.lake.kept.objects);
                    if lacking && !explained.contains(seq) {
                        self.violated(format!("D1: the picture of {key} {seq} is not in the lake"));
                    }
                }
                None if !explained.contains(seq) => {
                    self.violated(format!("D2: {key} {seq} is missing and no gap record says why"));
                }
                None if truth.captured.contains(seq) && !evicted.contains(seq) => {
                    self.violated(format!("A1: {key} {seq} was captured and is called lost, not evicted"));
                }
                None => self.evicted_rows += u64::from(evicted.contains(seq)),
            }
        }
        self.captured_rows += truth.captured.count();
    }

    /// Streams of which something is neither in the lake nor explained.
    pub(super) fn open(&self) -> Vec<String> {
        let missing = |(key, truth): (&StreamKey, &Truth)| {
            let done = self.lake.kept.ledger.accounts_for(key, 0..truth.next);
            (!done).then(|| format!("{key} below {}", truth.next))
        };
        self.truth.iter().filter_map(missing).collect()
    }
}

fn lacking_object(row: &Rows, objects: &BTreeSet<Sha256>) -> bool {
    row.fields.iter().any(|column| match column.value(0) {
        Value::Bytes(bytes) => {
            BlobRef::from_bytes(&bytes).is_some_and(|reference| !objects.contains(&reference.sha256))
        }
        _ => false,
    })
}

/// A stream's key in the lake.
pub(super) fn key(device: &DeviceId, epoch: Epoch, stream: &StreamName) -> StreamKey {
    StreamKey { device: device.clone(), epoch, stream: stream.clone() }
}

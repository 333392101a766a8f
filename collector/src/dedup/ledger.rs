//! The ledger: which seqs of which stream the lake holds, and which will never come.

use headwater_core::gap::explained;
use headwater_core::id::{DeviceId, Epoch, StreamName};
use headwater_core::interval::IntervalSet;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

/// Whose samples: the dedup key without the seq.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamKey {
    /// Gateway.
    pub device: DeviceId,
    /// Life of its spool.
    pub epoch: Epoch,
    /// Stream.
    pub stream: StreamName,
}

impl fmt::Display for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.device, self.epoch, self.stream)
    }
}

/// A run of seqs, told apart.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sorted {
    /// Never seen: they go to the lake.
    pub new: Vec<Range<u64>>,
    /// Held already: first copy wins.
    pub known: Vec<Range<u64>>,
}

#[derive(Debug, Clone, Default)]
struct StreamLedger {
    held: IntervalSet,
    declared: IntervalSet,
    withdrawn: IntervalSet,
}

/// What is held and what is declared missing, per stream. Memory grows with the holes only.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    streams: BTreeMap<StreamKey, StreamLedger>,
}

impl Ledger {
    /// Tells new from known. Seqs that were declared missing and come after all are new: data wins over a gap.
    #[must_use]
    pub fn sort(&self, key: &StreamKey, seqs: Range<u64>) -> Sorted {
        match self.streams.get(key) {
            Some(stream) => {
                Sorted { new: stream.held.missing_in(seqs.clone()), known: stream.held.present_in(seqs) }
            }
            None => Sorted { new: vec![seqs], known: Vec::new() },
        }
    }

    /// Notes that seqs are held. Called once their rows are in the group to be committed.
    pub fn hold(&mut self, key: &StreamKey, seqs: Range<u64>) {
        self.stream(key).held.insert(seqs);
    }

    /// Takes back a hold: the rows were not committed after all.
    pub fn release(&mut self, key: &StreamKey, seqs: Range<u64>) {
        self.stream(key).held.remove(seqs);
    }

    /// Notes that held seqs were taken out of the lake: still known, so that a resend does not bring them back.
    pub fn withdraw(&mut self, key: &StreamKey, seqs: Range<u64>) {
        let stream = self.stream(key);
        stream.held.insert(seqs.clone());
        stream.withdrawn.insert(seqs);
    }

    /// True if `seq` was taken out of the lake.
    #[must_use]
    pub fn is_withdrawn(&self, key: &StreamKey, seq: u64) -> bool {
        self.streams.get(key).is_some_and(|stream| stream.withdrawn.contains(seq))
    }

    /// Adds all that `other` holds; what it withdrew is withdrawn here, and nothing else.
    pub fn follow(&mut self, other: &Ledger) {
        self.streams.values_mut().for_each(|stream| stream.withdrawn = IntervalSet::new());
        for (key, theirs) in &other.streams {
            let stream = self.stream(key);
            stream.held.union_with(&theirs.held);
            stream.declared.union_with(&theirs.declared);
            stream.withdrawn = theirs.withdrawn.clone();
        }
    }

    /// Notes that seqs will never come.
    pub fn declare_missing(&mut self, key: &StreamKey, seqs: Range<u64>) {
        self.stream(key).declared.insert(seqs);
    }

    /// Notes a gap record: the seqs that [`explained`] gives will never come.
    pub fn declare_gap(&mut self, key: &StreamKey, seqs: Range<u64>, stride: u64, phase: u64) {
        explained(seqs, stride, phase).for_each(|run| self.declare_missing(key, run));
    }

    /// The seqs of a range that were declared missing and are not held.
    #[must_use]
    pub fn declared_in(&self, key: &StreamKey, seqs: Range<u64>) -> Vec<Range<u64>> {
        let Some(stream) = self.streams.get(key) else { return Vec::new() };
        let missing = stream.held.missing_in(seqs);
        missing.into_iter().flat_map(|hole| stream.declared.present_in(hole)).collect()
    }

    /// True if data came for a seq of the range that was declared missing.
    #[must_use]
    pub fn came_after_all(&self, key: &StreamKey, seqs: Range<u64>) -> bool {
        self.streams.get(key).is_some_and(|stream| {
            let held = stream.held.present_in(seqs);
            held.into_iter().any(|run| !stream.declared.present_in(run).is_empty())
        })
    }

    /// The held seqs of a range that were declared missing first.
    #[must_use]
    pub fn came_in(&self, key: &StreamKey, seqs: Range<u64>) -> Vec<Range<u64>> {
        let Some(stream) = self.streams.get(key) else { return Vec::new() };
        let held = stream.held.present_in(seqs);
        held.into_iter().flat_map(|run| stream.declared.present_in(run)).collect()
    }

    /// True if `seq` was declared missing.
    #[must_use]
    pub fn is_declared(&self, key: &StreamKey, seq: u64) -> bool {
        self.streams.get(key).is_some_and(|stream| stream.declared.contains(seq))
    }

    /// True if `seq` is held.
    #[must_use]
    pub fn holds(&self, key: &StreamKey, seq: u64) -> bool {
        self.streams.get(key).is_some_and(|stream| stream.held.contains(seq))
    }

    /// True if every seq of the range is held or declared missing.
    #[must_use]
    pub fn accounts_for(&self, key: &StreamKey, seqs: Range<u64>) -> bool {
        let Some(stream) = self.streams.get(key) else { return seqs.is_empty() };
        stream.held.missing_in(seqs).into_iter().all(|hole| stream.declared.covers(hole))
    }

    /// True if a declared gap lies in the range and no data came for it.
    #[must_use]
    pub fn has_gap_in(&self, key: &StreamKey, seqs: Range<u64>) -> bool {
        self.streams.get(key).is_some_and(|stream| {
            stream.held.missing_in(seqs).into_iter().any(|hole| !stream.declared.present_in(hole).is_empty())
        })
    }

    /// Seqs below the newest that are neither held nor declared missing: not yet arrived, or in flight.
    #[must_use]
    pub fn unexplained(&self, key: &StreamKey) -> Vec<Range<u64>> {
        let Some(stream) = self.streams.get(key) else { return Vec::new() };
        let holes = stream.held.missing_in(0..stream.held.end());
        holes.into_iter().flat_map(|hole| stream.declared.missing_in(hole)).collect()
    }

    /// What it says of some streams.
    #[must_use]
    pub fn only(&self, wanted: impl Fn(&StreamKey) -> bool) -> Self {
        let streams = self.streams.iter().filter(|(key, _)| wanted(key));
        Self { streams: streams.map(|(key, stream)| (key.clone(), stream.clone())).collect() }
    }

    /// Every stream there is.
    pub fn keys(&self) -> impl Iterator<Item = &StreamKey> {
        self.streams.keys()
    }

    /// Samples held of a stream.
    #[must_use]
    pub fn count(&self, key: &StreamKey) -> u64 {
        self.streams.get(key).map_or(0, |stream| stream.held.count())
    }

    fn stream(&mut self, key: &StreamKey) -> &mut StreamLedger {
        self.streams.entry(key.clone()).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn key(n: u64) -> StreamKey {
        StreamKey { device: "pi-1".parse().unwrap(), epoch: Epoch(n), stream: "imu".parse().unwrap() }
    }

    fn one(range: Range<u64>) -> Vec<Range<u64>> {
        std::iter::once(range).collect()
    }

    #[test]
    fn data_wins_over_a_gap_and_a_gap_explains_a_hole() {
        let mut ledger = Ledger::default();
        ledger.hold(&key(1), 0..10);
        ledger.hold(&key(1), 20..30);
        assert_eq!(ledger.unexplained(&key(1)), one(10..20));
        ledger.declare_missing(&key(1), 10..20);
        assert!(ledger.unexplained(&key(1)).is_empty());
        assert!(ledger.accounts_for(&key(1), 0..30) && ledger.has_gap_in(&key(1), 5..11));
        let late = ledger.sort(&key(1), 12..14);
        assert_eq!(late, Sorted { new: one(12..14), known: vec![] });
        ledger.hold(&key(1), 10..20);
        assert!(!ledger.has_gap_in(&key(1), 0..30));
        assert_eq!(ledger.sort(&key(2), 0..3).new, one(0..3), "another epoch is another key");
    }

    #[test]
    fn a_thinned_gap_leaves_the_kept_rows_open() {
        let mut ledger = Ledger::default();
        ledger.declare_gap(&key(1), 10..20, 4, 1);
        ledger.hold(&key(1), 0..10);
        ledger.hold(&key(1), 20..21);
        assert_eq!(ledger.unexplained(&key(1)), [11..12, 15..16, 19..20]);
    }

    proptest! {
        #[test]
        fn each_sample_is_new_exactly_once(runs in proptest::collection::vec((0_u64..3, 0_u64..80, 1_u64..15), 1..60)) {
            let (mut ledger, mut model) = (Ledger::default(), BTreeSet::new());
            for (epoch, start, n) in runs {
                let sorted = ledger.sort(&key(epoch), start..start + n);
                let new: BTreeSet<u64> = sorted.new.iter().cloned().flatten().collect();
                let known: BTreeSet<u64> = sorted.known.iter().cloned().flatten().collect();
                prop_assert!(new.is_disjoint(&known));
                prop_assert_eq!(new.len() + known.len(), usize::try_from(n).unwrap());
                for seq in new {
                    prop_assert!(model.insert((epoch, seq)), "new twice");
                }
                for seq in known {
                    prop_assert!(model.contains(&(epoch, seq)));
                }
                sorted.new.into_iter().for_each(|range| ledger.hold(&key(epoch), range));
            }
            let held: u64 = (0..3).map(|epoch| ledger.count(&key(epoch))).sum();
            prop_assert_eq!(held, model.len() as u64);
        }
    }
}

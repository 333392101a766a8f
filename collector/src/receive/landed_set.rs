//! The landed set: which seqs are durable, which are committed, per device, epoch and stream.
//!
//! It is what acks are made of (invariant S1), so it learns only of records that were synced. A row with
//! a blob is durable once its blob is; a row of an undeclared stream once its declaration is; a row of
//! `hw/gaps` makes the seqs it explains as good as durable (D2). A row is committed once everything it
//! needed lies below the newest commit's cursors. Rebuilt from the landing logs at start.

use super::reassemble::DeviceEpoch;
use super::summary::RowRun;
use crate::land::{CommitMark, LandingPosition};
use crate::registry::DeclaredStream;
use headwater_core::batch::StreamRef;
use headwater_core::id::{Seq, StreamId, StreamName};
use headwater_core::interval::IntervalSet;
use headwater_core::invariant::Invariant;
use headwater_core::sample::BlobRef;
use headwater_core::schema::{Fingerprint, Schema, builtin};
use headwater_core::wire::{AckStream, RANGES_MAX, Refusal, RefusalReason, Refused};
use headwater_core::{check_invariant, gap::GapRecord};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;

/// Runs of undeclared streams remembered per device and epoch. One is a few hundred bytes; beyond it runs
/// are forgotten and counted, the device sends their rows again and they are known to the committer.
pub const WITHHELD_RUNS_MAX: usize = 4096;
/// Rows that wait for their blob, per device and epoch; beyond it the same holds.
pub const BLOBLESS_ROWS_MAX: usize = 65_536;
/// Landed blobs whose rows are not durable yet, per device and epoch; beyond it the same holds.
pub const BLOBS_MAX: usize = 65_536;

/// Records a row needs below the commit's cursors: itself, its blob, its declaration.
type Needs = Vec<LandingPosition>;

/// A blob of one row. The same picture taken twice is two blobs: each row is committed with a copy that was
/// landed for it, so another row's copy must not make it durable.
type RowBlob = (StreamId, u64, BlobRef);

#[derive(Debug, Default)]
struct StreamSet {
    durable: IntervalSet,
    committed: IntervalSet,
}

#[derive(Debug)]
struct Declared {
    name: StreamName,
    schema: Arc<Schema>,
    /// `None`: known from an older life, so committed long ago.
    at: Option<LandingPosition>,
}

#[derive(Debug)]
struct Uncommitted {
    stream: StreamId,
    seqs: Range<u64>,
    needs: Needs,
}

#[derive(Debug, Default)]
struct EpochSet {
    streams: BTreeMap<StreamId, StreamSet>,
    names: BTreeMap<StreamName, StreamId>,
    declared: BTreeMap<(StreamId, Fingerprint), Declared>,
    withheld: Vec<(RowRun, LandingPosition)>,
    /// Landed blobs whose rows are not durable yet.
    blobs: HashMap<RowBlob, LandingPosition>,
    /// Landed rows whose blobs are not.
    blobless: HashMap<RowBlob, Needs>,
    /// Gaps of streams whose names are not declared yet.
    nameless_gaps: Vec<(StreamName, Range<u64>, Needs)>,
    uncommitted: Vec<Uncommitted>,
}

/// Watermarks of every device.
#[derive(Debug, Default)]
pub struct LandedSet {
    epochs: HashMap<DeviceEpoch, EpochSet>,
    mark: CommitMark,
    forgotten: u64,
}

impl LandedSet {
    /// Nothing landed yet. `mark`: what the newest commit holds.
    #[must_use]
    pub fn new(mark: CommitMark) -> Self {
        Self { mark, ..Self::default() }
    }

    /// Runs and rows forgotten because a bound was hit; their devices send them again.
    #[must_use]
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Forgets an epoch: what it holds is in the log, and its device sends again what it is not told of.
    pub fn forget(&mut self, owner: &DeviceEpoch) {
        self.epochs.remove(owner);
    }

    /// Takes a declaration known from an older life.
    pub fn preload(&mut self, owner: &DeviceEpoch, declared: &DeclaredStream) {
        self.declare(owner, declared, None);
    }

    /// Takes a declaration that was synced at `end`. Rows withheld for it become durable, or are refused
    /// if they do not follow it.
    pub fn land_declaration(
        &mut self,
        owner: &DeviceEpoch,
        declared: &DeclaredStream,
        end: LandingPosition,
    ) -> Vec<Refused> {
        self.declare(owner, declared, Some(end));
        let Some(epoch) = self.epochs.get_mut(owner) else { return Vec::new() };
        let mut refused = Vec::new();
        let withheld = std::mem::take(&mut epoch.withheld);
        for (run, at) in withheld {
            refused.extend(self.land_run(owner, run, at));
        }
        if let Some(epoch) = self.epochs.get_mut(owner) {
            let (named, nameless): (Vec<_>, Vec<_>) = std::mem::take(&mut epoch.nameless_gaps)
                .into_iter()
                .partition(|(name, ..)| *name == declared.name);
            epoch.nameless_gaps = nameless;
            for (_, seqs, needs) in named {
                epoch.durable(&self.mark, declared.stream, seqs, needs);
            }
        }
        refused
    }

    /// Takes rows that were synced at `end`. Gives those that cannot be taken as they are.
    pub fn land_run(&mut self, owner: &DeviceEpoch, run: RowRun, end: LandingPosition) -> Option<Refused> {
        let epoch = self.epochs.entry(owner.clone()).or_default();
        let stream = match &run.stream {
            StreamRef::Id(id) => Some(*id),
            StreamRef::Name(name) => epoch.names.get(name).copied(),
        };
        let declared =
            stream.and_then(|stream| Some((stream, epoch.declared.get(&(stream, run.fingerprint))?)));
        let Some((stream, declared)) = declared else {
            if epoch.withheld.len() < WITHHELD_RUNS_MAX {
                epoch.withheld.push((run, end));
            } else {
                self.forgotten = self.forgotten.saturating_add(1);
            }
            return None;
        };
        if !run.follows(&declared.schema) {
            let text = format!("rows do not have the columns of schema {}", run.fingerprint);
            return Some(refusal(stream, &run.seqs, RefusalReason::SchemaMismatch, text));
        }
        let mut needs = vec![end];
        needs.extend(declared.at);
        let is_gaps = declared.name.as_str() == builtin::GAPS_STREAM;
        match declared.schema.blob_field().and_then(|field| run.blobs.get(&field)) {
            None => epoch.durable(&self.mark, stream, run.seqs.clone(), needs.clone()),
            Some(references) => {
                for (seq, reference) in run.seqs.clone().zip(references) {
                    self.forgotten = self
                        .forgotten
                        .saturating_add(epoch.land_blob_row(&self.mark, stream, seq, *reference, &needs));
                }
            }
        }
        if is_gaps {
            for gap in &run.gaps {
                self.forgotten = self.forgotten.saturating_add(epoch.land_gap(&self.mark, gap, &needs));
            }
        }
        None
    }

    /// Takes a blob that was synced at `end`; rows that waited for it become durable.
    pub fn land_blob(
        &mut self,
        owner: &DeviceEpoch,
        reference: BlobRef,
        row: (StreamId, Seq),
        end: LandingPosition,
    ) {
        let epoch = self.epochs.entry(owner.clone()).or_default();
        let (stream, seq) = row;
        let blob = (stream, seq.0, reference);
        if let Some(mut needs) = epoch.blobless.remove(&blob) {
            needs.push(end);
            epoch.durable(&self.mark, stream, seq.0..seq.0.saturating_add(1), needs);
        } else if epoch.streams.get(&stream).is_some_and(|set| set.durable.contains(seq.0)) {
            // Sent again: the row has its copy, or a gap record explains it.
        } else if epoch.blobs.len() >= BLOBS_MAX {
            self.forgotten = self.forgotten.saturating_add(1);
        } else {
            epoch.blobs.entry(blob).or_insert(end);
        }
    }

    /// Takes what a new commit holds. Gives the owners whose committed set grew.
    pub fn commit(&mut self, mark: &CommitMark) -> BTreeSet<DeviceEpoch> {
        for (incarnation, cursor) in &mark.cursors {
            let mine = self.mark.cursors.entry(*incarnation).or_insert(*cursor);
            // The landing cursor never goes back.
            if *mine < *cursor {
                *mine = *cursor;
            }
        }
        self.mark.waiting.clone_from(&mark.waiting);
        let mut grown = BTreeSet::new();
        for (owner, epoch) in &mut self.epochs {
            let mut left = Vec::with_capacity(epoch.uncommitted.len());
            for entry in std::mem::take(&mut epoch.uncommitted) {
                if entry.needs.iter().all(|end| self.mark.holds(end)) {
                    epoch.streams.entry(entry.stream).or_default().committed.insert(entry.seqs);
                    grown.insert(owner.clone());
                } else {
                    left.push(entry);
                }
            }
            epoch.uncommitted = left;
            // A gap record may have explained a row whose other half never came.
            let streams = &epoch.streams;
            let open = |(stream, seq, _): &RowBlob| {
                !streams.get(stream).is_some_and(|set| set.durable.contains(*seq))
            };
            epoch.blobs.retain(|blob, _| open(blob));
            epoch.blobless.retain(|blob, _| open(blob));
        }
        grown
    }

    /// Watermarks of every stream of an owner, each with ranges beyond them: the first, or by `turn` the next ones.
    #[must_use]
    pub fn watermarks(&self, owner: &DeviceEpoch, turn: u64) -> Vec<AckStream> {
        let Some(epoch) = self.epochs.get(owner) else { return Vec::new() };
        epoch
            .streams
            .iter()
            .map(|(id, set)| {
                let durable_upto = set.durable.upto();
                let committed_upto = set.committed.upto();
                check_invariant!(
                    Invariant::S1,
                    committed_upto <= durable_upto,
                    "stream {id:?}: committed {committed_upto}, durable {durable_upto}"
                );
                AckStream {
                    id: *id,
                    durable_upto: Seq(durable_upto),
                    committed_upto: Seq(committed_upto),
                    durable: beyond(&set.durable, durable_upto, turn),
                    committed: beyond(&set.committed, committed_upto, turn),
                }
            })
            .collect()
    }

    /// Every seq of a stream below this is durable.
    #[must_use]
    pub fn durable_upto(&self, owner: &DeviceEpoch, stream: StreamId) -> u64 {
        self.set(owner, stream).map_or(0, |set| set.durable.upto())
    }

    /// What is durable of a stream.
    #[must_use]
    pub fn durable(&self, owner: &DeviceEpoch, stream: StreamId) -> IntervalSet {
        self.set(owner, stream).map(|set| set.durable.clone()).unwrap_or_default()
    }

    /// What is committed of a stream.
    #[must_use]
    pub fn committed(&self, owner: &DeviceEpoch, stream: StreamId) -> IntervalSet {
        self.set(owner, stream).map(|set| set.committed.clone()).unwrap_or_default()
    }

    /// Declarations that rows wait for.
    #[must_use]
    pub fn needed_schemas(&self, owner: &DeviceEpoch) -> BTreeSet<(StreamId, Fingerprint)> {
        let withheld = self.epochs.get(owner).map(|epoch| epoch.withheld.as_slice()).unwrap_or_default();
        withheld
            .iter()
            .filter_map(|(run, _)| match run.stream {
                StreamRef::Id(id) => Some((id, run.fingerprint)),
                StreamRef::Name(_) => None,
            })
            .collect()
    }

    fn set(&self, owner: &DeviceEpoch, stream: StreamId) -> Option<&StreamSet> {
        self.epochs.get(owner)?.streams.get(&stream)
    }

    fn declare(&mut self, owner: &DeviceEpoch, declared: &DeclaredStream, at: Option<LandingPosition>) {
        let epoch = self.epochs.entry(owner.clone()).or_default();
        epoch.names.insert(declared.name.clone(), declared.stream);
        epoch.streams.entry(declared.stream).or_default();
        epoch.declared.entry((declared.stream, declared.fingerprint)).or_insert_with(|| Declared {
            name: declared.name.clone(),
            schema: Arc::clone(&declared.schema),
            at,
        });
    }
}

impl EpochSet {
    fn durable(&mut self, mark: &CommitMark, stream: StreamId, seqs: Range<u64>, needs: Needs) {
        let set = self.streams.entry(stream).or_default();
        set.durable.insert(seqs.clone());
        if needs.iter().all(|end| mark.holds(end)) {
            set.committed.insert(seqs);
        } else if !set.committed.covers(seqs.clone()) {
            self.uncommitted.push(Uncommitted { stream, seqs, needs });
        }
    }

    /// Gives the number of rows forgotten (0 or 1).
    fn land_blob_row(
        &mut self,
        mark: &CommitMark,
        stream: StreamId,
        seq: u64,
        reference: Option<BlobRef>,
        needs: &Needs,
    ) -> u64 {
        let one = seq..seq.saturating_add(1);
        if self.streams.get(&stream).is_some_and(|set| set.durable.contains(seq)) {
            return 0;
        }
        let Some(reference) = reference else {
            self.durable(mark, stream, one, needs.clone());
            return 0;
        };
        let blob = (stream, seq, reference);
        if let Some(landed) = self.blobs.remove(&blob) {
            let needs = needs.iter().copied().chain([landed]).collect();
            self.durable(mark, stream, one, needs);
            return 0;
        }
        if self.blobless.len() >= BLOBLESS_ROWS_MAX && !self.blobless.contains_key(&blob) {
            return 1;
        }
        self.blobless.entry(blob).or_insert_with(|| needs.clone());
        0
    }

    /// Gives the number of runs forgotten.
    fn land_gap(&mut self, mark: &CommitMark, gap: &GapRecord, needs: &Needs) -> u64 {
        let mut forgotten = 0_u64;
        for seqs in gap.explained() {
            match self.names.get(&gap.stream) {
                Some(stream) => self.durable(mark, *stream, seqs, needs.clone()),
                None if self.nameless_gaps.len() < WITHHELD_RUNS_MAX => {
                    self.nameless_gaps.push((gap.stream.clone(), seqs, needs.clone()));
                }
                None => forgotten = forgotten.saturating_add(1),
            }
        }
        forgotten
    }
}

/// Ranges beyond the watermark, as many as an ack holds; of more than that each ack tells the next ones. The
/// device adds up what it hears, so none of them waits for the holes below to close.
fn beyond(set: &IntervalSet, upto: u64, turn: u64) -> Vec<Range<u64>> {
    let ranges: Vec<Range<u64>> = set.iter().filter(|range| range.start > upto).collect();
    let turns = ranges.len().div_ceil(RANGES_MAX).max(1) as u64;
    let first = usize::try_from(turn % turns).unwrap_or(0).saturating_mul(RANGES_MAX);
    ranges.into_iter().skip(first).take(RANGES_MAX).collect()
}

/// A refusal as an ack carries it.
pub(super) fn refusal(stream: StreamId, seqs: &Range<u64>, reason: RefusalReason, text: String) -> Refused {
    Refused {
        stream,
        seq_lo: Seq(seqs.start),
        seq_hi: Seq(seqs.end.saturating_sub(1)),
        refusal: Refusal { reason, text },
    }
}

#[cfg(test)]
#[path = "landed_set_tests.rs"]
mod tests;

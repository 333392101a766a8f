//! What the spool keeps in memory of its streams and segments.

use super::frame::FrameMeta;
use super::payload::{Summary, TableEntry};
use headwater_core::interval::IntervalSet;
use headwater_core::ports::StreamPolicy;
use headwater_core::schema::Schema;
use std::collections::BTreeMap;
use std::ops::Range;

/// A stream as the spool knows it.
#[derive(Debug, Clone)]
pub(super) struct Stream {
    pub(super) entry: TableEntry,
    /// How it is treated; what suits its lane until it is declared.
    pub(super) policy: StreamPolicy,
    /// Unknown for a stream remembered from a table, until it is declared again.
    pub(super) schema: Option<Schema>,
    pub(super) acked: IntervalSet,
    /// Seqs that a durable row of `hw/gaps` accounts for, as long as a segment here holds or misses them.
    pub(super) explained: IntervalSet,
    /// Seqs consumed without rows in this life of the process, whose record is not stored yet: a power cut
    /// takes that record, so segments must tell of them.
    pub(super) skipped: IntervalSet,
}

impl Stream {
    /// A stream of which only its table entry is known.
    pub(super) fn new(entry: TableEntry, schema: Option<Schema>) -> Self {
        let none = IntervalSet::new;
        let policy = entry.lane.into();
        Self { entry, policy, schema, acked: none(), explained: none(), skipped: none() }
    }
}

/// A segment that is not written any more.
#[derive(Debug)]
pub(super) struct Closed {
    /// Bytes that may be read.
    pub(super) len: u64,
    pub(super) summary: Summary,
    /// Damage found in it.
    pub(super) bad: Vec<Range<u64>>,
    /// Given up for room: not read any more, unlinked once the record of it is durable.
    pub(super) evicted: bool,
    /// Some of it could not be read when the spool was opened, so the summary may not tell all of it.
    pub(super) unreadable: bool,
    /// It could not be synced when the spool was opened: a power cut may take rows that still read. It is not read, nor
    /// what came after it in its series, until a copy of it is durable.
    pub(super) doubtful: bool,
}

impl Closed {
    /// A segment of which nothing bad is known.
    pub(super) fn new(len: u64, summary: Summary) -> Self {
        Self { len, summary, bad: Vec::new(), evicted: false, unreadable: false, doubtful: false }
    }
}

/// The segment being written.
#[derive(Debug)]
pub(super) struct Open<F> {
    pub(super) segno: u64,
    pub(super) file: F,
    /// Bytes written, synced or not.
    pub(super) len: u64,
    /// Readable part; `body.summary` covers just that.
    pub(super) body: Closed,
}

/// A slab as it was written, kept until its sync returned.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) meta: FrameMeta,
    pub(super) payload: Vec<u8>,
    /// For rows of `hw/gaps`: what they account for once they are durable.
    pub(super) gaps: Vec<headwater_core::gap::GapRecord>,
}

/// The segments of one lane and worth.
#[derive(Debug)]
pub(super) struct Series<F> {
    pub(super) next_segno: u64,
    /// All segments that were ever complete have lower numbers.
    pub(super) created_upto: u64,
    pub(super) closed: BTreeMap<u64, Closed>,
    pub(super) open: Option<Open<F>>,
    /// Written to `open` if there is one; else waiting for one.
    pub(super) pending: Vec<Pending>,
    pub(super) reader: Option<(u64, F)>,
}

impl<F> Default for Series<F> {
    fn default() -> Self {
        Self {
            next_segno: 1,
            created_upto: 1,
            closed: BTreeMap::new(),
            open: None,
            pending: Vec::new(),
            reader: None,
        }
    }
}

impl<F> Series<F> {
    pub(super) fn summaries(&self) -> impl Iterator<Item = &Summary> {
        let open = self.open.as_ref().map(|open| &open.body.summary);
        self.closed.values().map(|closed| &closed.summary).chain(open)
    }

    /// Summaries of segments that are not given up.
    pub(super) fn held(&self) -> impl Iterator<Item = &Summary> {
        let open = self.open.as_ref().map(|open| &open.body.summary);
        self.closed.values().filter(|closed| !closed.evicted).map(|closed| &closed.summary).chain(open)
    }

    /// What a segment holds that is not written any more.
    pub(super) fn closed(&self, segno: u64) -> Option<&Summary> {
        self.closed.get(&segno).map(|closed| &closed.summary)
    }

    /// The segment with the newest synced table: never unlinked.
    pub(super) fn newest(&self) -> Option<u64> {
        self.open.as_ref().map(|open| open.segno).or_else(|| self.closed.keys().next_back().copied())
    }
}

pub(super) fn segment_name(segno: u64) -> String {
    format!("{segno:016x}.seg")
}

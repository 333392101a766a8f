//! What the shipper knows of each stream: names and schemas of the spool, sets of the collector.

use headwater_core::id::{Seq, StreamId, StreamName};
use headwater_core::interval::IntervalSet;
use headwater_core::ports::StreamState;
use headwater_core::schema::{Fingerprint, Schema};
use headwater_core::time::BootNanos;
use headwater_core::wire::AckStream;
use std::collections::BTreeMap;
use std::ops::Range;

/// What became of a declaration.
#[derive(Debug, Clone, Copy)]
pub(super) struct Declared {
    /// The link it was last sent on.
    pub(super) link: u64,
    /// When.
    pub(super) at: BootNanos,
    /// The collector acked rows of it.
    pub(super) known: bool,
}

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) name: StreamName,
    pub(super) next_seq: Seq,
    pub(super) held: IntervalSet,
    newest: Schema,
    pub(super) schemas: BTreeMap<Fingerprint, Schema>,
    pub(super) declared: BTreeMap<Fingerprint, Declared>,
    /// In a synced landing log.
    pub(super) durable: IntervalSet,
    /// In a published commit.
    pub(super) committed: IntervalSet,
    /// Given up, with a gap record.
    pub(super) refused: IntervalSet,
    /// Taken from the spool and not yet durable.
    pub(super) taken: IntervalSet,
    /// Members of the set last given to `trim`.
    pub(super) trimmed: u64,
}

#[derive(Debug, Default)]
pub(super) struct Streams {
    by_id: BTreeMap<StreamId, Stream>,
}

impl Streams {
    /// Takes the spool's state; older schemas stay known.
    pub(super) fn update(&mut self, states: Vec<StreamState>) {
        for state in states {
            match self.by_id.get_mut(&state.id) {
                Some(stream) => {
                    stream.next_seq = stream.next_seq.max(state.next_seq);
                    stream.held = state.held;
                    if stream.newest != state.schema {
                        stream.schemas.insert(state.schema.fingerprint(), state.schema.clone());
                        stream.newest = state.schema;
                    }
                }
                None => {
                    let schemas = [(state.schema.fingerprint(), state.schema.clone())];
                    let stream = Stream {
                        name: state.name,
                        next_seq: state.next_seq,
                        held: state.held,
                        newest: state.schema,
                        schemas: schemas.into_iter().collect(),
                        declared: BTreeMap::new(),
                        durable: IntervalSet::new(),
                        committed: IntervalSet::new(),
                        refused: IntervalSet::new(),
                        taken: IntervalSet::new(),
                        trimmed: 0,
                    };
                    self.by_id.insert(state.id, stream);
                }
            }
        }
    }

    pub(super) fn get(&self, id: StreamId) -> Option<&Stream> {
        self.by_id.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: StreamId) -> Option<&mut Stream> {
        self.by_id.get_mut(&id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (StreamId, &Stream)> {
        self.by_id.iter().map(|(id, stream)| (*id, stream))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (StreamId, &mut Stream)> {
        self.by_id.iter_mut().map(|(id, stream)| (*id, stream))
    }

    /// True if every row of `seqs` is durable or given up.
    pub(super) fn settled(&self, id: StreamId, seqs: Range<u64>) -> bool {
        self.by_id.get(&id).is_some_and(|stream| stream.settled(seqs))
    }
}

impl Stream {
    pub(super) fn settled(&self, seqs: Range<u64>) -> bool {
        self.durable.covers(seqs.clone())
            || self.durable.missing_in(seqs).into_iter().all(|hole| self.refused.covers(hole))
    }

    /// True if some row of `seqs` is neither durable, given up nor on its way.
    pub(super) fn lacks(&self, seqs: Range<u64>) -> bool {
        self.durable
            .missing_in(seqs)
            .into_iter()
            .flat_map(|hole| self.refused.missing_in(hole))
            .any(|hole| !self.taken.covers(hole))
    }

    /// One past the greatest seq an ack names.
    pub(super) fn end_of(ack: &AckStream) -> u64 {
        let ranges = ack.durable.iter().chain(&ack.committed).map(|range| range.end);
        ranges.chain([ack.durable_upto.0, ack.committed_upto.0]).max().unwrap_or(0)
    }

    /// Takes watermarks; `anew` forgets what another receiver called durable.
    pub(super) fn absorb(&mut self, ack: &AckStream, anew: bool) {
        self.committed.insert(0..ack.committed_upto.0);
        ack.committed.iter().for_each(|range| self.committed.insert(range.clone()));
        if anew {
            self.durable = IntervalSet::new();
        }
        self.durable.union_with(&self.committed.clone());
        self.durable.insert(0..ack.durable_upto.0);
        ack.durable.iter().for_each(|range| self.durable.insert(range.clone()));
    }
}

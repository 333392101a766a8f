//! What was taken from the spool and is not yet durable at the collector: units, their queues, their timers.

use crate::batch::{Hold, SealedBlob};
use headwater_core::id::{ObjectId, StreamId};
use headwater_core::interval::IntervalSet;
use headwater_core::time::{BootNanos, NS_PER_S};
use headwater_core::wire::{Lane, Unsigned};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

/// Least wait before un-acked data are sent again.
const RESEND_NS_MIN: i64 = 5 * NS_PER_S;
/// Longest such wait.
const RESEND_NS_MAX: i64 = 300 * NS_PER_S;
/// Least age of a part's PUBACK before its absence in an ack is believed: the ack may have been built before it came.
const MISSING_NS_MIN: i64 = NS_PER_S / 2;

/// What a unit carries.
#[derive(Debug)]
pub(super) enum Load {
    /// A batch: framed and hashed once, signed at each hand-over.
    Batch(Unsigned),
    /// A blob: cut at each hand-over, since the broker's limit may change.
    Blob {
        id: ObjectId,
        object: Arc<[u8]>,
        /// Byte ranges to hand over.
        to_send: IntervalSet,
        /// Ranges the broker took, with the time.
        took: Vec<(Range<u64>, BootNanos)>,
        /// Ranges in the pipe.
        piped: IntervalSet,
    },
    /// The broker has all of it, and the spool gives it again if that was not enough: it takes no memory.
    Away {
        /// Id and length of the blob it was; `None` for a batch.
        object: Option<(ObjectId, u64)>,
    },
}

#[derive(Debug)]
pub(super) struct Unit {
    pub(super) lane: Lane,
    pub(super) holds: Vec<Hold>,
    pub(super) load: Load,
    bytes: usize,
    /// Times it was wholly handed over.
    pub(super) attempts: u32,
    /// Messages of it in the pipe.
    piped: u32,
    queued: bool,
    /// Last hand-over.
    pub(super) sent_at: Option<BootNanos>,
    /// Since when all of it is out of the pipe.
    idle_since: Option<BootNanos>,
    /// The attempt that was answered by a refusal which asked for another try; 0 for none.
    pub(super) complained: u32,
}

#[derive(Debug, Default)]
pub(super) struct Flight {
    units: BTreeMap<u64, Unit>,
    next: u64,
    /// Units with something to hand over, in order; those to be repeated go before fresh ones.
    again: BTreeMap<Lane, VecDeque<u64>>,
    fresh: BTreeMap<Lane, VecDeque<u64>>,
    held: BTreeMap<Lane, usize>,
    /// What the last hello's answer said the collector lacks of staged objects (length, ranges).
    hints: BTreeMap<ObjectId, (u64, Vec<Range<u64>>)>,
    /// Units that are away and have to be read from the spool again.
    lost: BTreeSet<u64>,
    /// Rows of such units that were complained of before.
    complained: BTreeMap<StreamId, IntervalSet>,
    /// Rows of units that were lost, with how often a unit of their stream was tried: they wait ever longer until
    /// they land.
    tried: BTreeMap<StreamId, (IntervalSet, u32)>,
}

/// Units on their way at once: beyond it no more is read.
pub(super) const UNITS_MAX: usize = 4096;

impl Flight {
    pub(super) fn add_batch(&mut self, lane: Lane, holds: Vec<Hold>, message: Unsigned) {
        let bytes = message.message_len();
        self.add(lane, holds, Load::Batch(message), bytes);
    }

    /// Takes a blob, unless it is on its way already.
    pub(super) fn add_blob(&mut self, lane: Lane, blob: SealedBlob) {
        let there = self.units.values().any(|unit| {
            unit.holds.first() == Some(&blob.hold)
                && match &unit.load {
                    Load::Blob { id, .. } => *id == blob.id,
                    Load::Away { object } => object.is_some_and(|(id, _)| id == blob.id),
                    Load::Batch(_) => false,
                }
        });
        if there {
            return;
        }
        let bytes = blob.object.len();
        let to_send = match self.hints.get(&blob.id) {
            Some((len, lacking)) if *len == bytes as u64 => within(lacking, *len),
            _ => IntervalSet::below(bytes as u64),
        };
        let load = Load::Blob {
            id: blob.id,
            object: blob.object,
            to_send,
            took: Vec::new(),
            piped: IntervalSet::new(),
        };
        self.add(lane, vec![blob.hold], load, bytes);
    }

    fn add(&mut self, lane: Lane, holds: Vec<Hold>, load: Load, bytes: usize) {
        let id = self.next;
        self.next = self.next.saturating_add(1);
        let again = holds.iter().any(|hold| {
            self.complained
                .get(&hold.stream)
                .is_some_and(|rows| !rows.present_in(hold.seqs.clone()).is_empty())
        });
        let lost = holds.iter().filter_map(|hold| {
            let (rows, tries) = self.tried.get(&hold.stream)?;
            (!rows.present_in(hold.seqs.clone()).is_empty()).then_some(*tries)
        });
        // Read again, it does not go for the first time.
        let tried = lost.max().unwrap_or(0).max(u32::from(again));
        let unit = Unit {
            lane,
            holds,
            load,
            bytes,
            attempts: tried,
            piped: 0,
            queued: true,
            sent_at: None,
            idle_since: None,
            complained: if again { tried } else { 0 },
        };
        self.units.insert(id, unit);
        self.fresh.entry(lane).or_default().push_back(id);
        let held = self.held.entry(lane).or_default();
        *held = held.saturating_add(bytes);
    }

    /// The next unit of a lane with something to hand over.
    pub(super) fn head(&self, lane: Lane) -> Option<u64> {
        let first = |queues: &BTreeMap<Lane, VecDeque<u64>>| queues.get(&lane)?.front().copied();
        first(&self.again).or_else(|| first(&self.fresh))
    }

    pub(super) fn get(&self, id: u64) -> Option<&Unit> {
        self.units.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: u64) -> Option<&mut Unit> {
        self.units.get_mut(&id)
    }

    pub(super) fn units(&self) -> impl Iterator<Item = (u64, &Unit)> {
        self.units.iter().map(|(id, unit)| (*id, unit))
    }

    /// A message of unit `id` went into the pipe; `range` for a part.
    pub(super) fn handed(&mut self, id: u64, now: BootNanos, range: Option<Range<u64>>) {
        let Some(unit) = self.units.get_mut(&id) else { return };
        unit.piped = unit.piped.saturating_add(1);
        unit.sent_at = Some(now);
        unit.idle_since = None;
        let done = match (&mut unit.load, range) {
            (Load::Blob { to_send, piped, .. }, Some(range)) => {
                to_send.remove(range.clone());
                piped.insert(range);
                to_send.is_empty()
            }
            _ => true,
        };
        if done {
            unit.attempts = unit.attempts.saturating_add(1);
            unit.queued = false;
            let lane = unit.lane;
            for queues in [&mut self.again, &mut self.fresh] {
                if let Some(queue) = queues.get_mut(&lane) {
                    queue.retain(|other| *other != id);
                }
            }
        }
    }

    /// The broker took a message of unit `id`.
    pub(super) fn took(&mut self, id: u64, now: BootNanos, range: Option<Range<u64>>) {
        let Some(unit) = self.units.get_mut(&id) else { return };
        unit.piped = unit.piped.saturating_sub(1);
        if let (Load::Blob { took, piped, .. }, Some(range)) = (&mut unit.load, range) {
            piped.remove(range.clone());
            took.retain(|(other, _)| *other != range);
            took.push((range, now));
        }
        if unit.piped == 0 && !unit.queued {
            unit.idle_since = Some(now);
            // What is live stays in memory: a lost message of it should not wait for the spool to be read again.
            if matches!(unit.lane, Lane::BacklogTelemetry | Lane::BacklogMedia) {
                let object = match &unit.load {
                    Load::Blob { id, object, .. } => Some((*id, object.len() as u64)),
                    Load::Batch(_) => None,
                    Load::Away { object } => *object,
                };
                unit.load = Load::Away { object };
                let held = self.held.entry(unit.lane).or_default();
                *held = held.saturating_sub(std::mem::take(&mut unit.bytes));
            }
        }
    }

    /// A message of unit `id` was in the pipe when the link went.
    pub(super) fn dropped(&mut self, id: u64, range: Option<Range<u64>>) {
        let Some(unit) = self.units.get_mut(&id) else { return };
        unit.piped = unit.piped.saturating_sub(1);
        if let (Load::Blob { to_send, piped, .. }, Some(range)) = (&mut unit.load, range) {
            piped.remove(range.clone());
            to_send.insert(range);
        }
        self.requeue(id, false);
    }

    /// Puts a unit into the queue again; `whole` repeats all of a blob, and what is away is lost.
    pub(super) fn requeue(&mut self, id: u64, whole: bool) {
        let Some(unit) = self.units.get_mut(&id) else { return };
        if let Load::Away { object } = &unit.load {
            if whole {
                object.and_then(|(object, _)| self.hints.remove(&object));
                self.lost.insert(id);
            }
            return;
        }
        if let Load::Blob { object, to_send, took, .. } = &mut unit.load {
            if whole {
                took.clear();
                *to_send = IntervalSet::below(object.len() as u64);
            }
            if to_send.is_empty() {
                return;
            }
        }
        unit.idle_since = None;
        if !std::mem::replace(&mut unit.queued, true) {
            self.again.entry(unit.lane).or_default().push_back(id);
        }
    }

    /// After a hello was answered: batches go again; of a blob what the broker never took, unless the
    /// receiver is another one (`all`).
    pub(super) fn requeue_all(&mut self, all: bool) {
        let ids: Vec<u64> = self.units.keys().copied().collect();
        ids.into_iter().for_each(|id| self.requeue(id, all));
    }

    /// Units whose rows were not acked in time go into the queue again; gives their number.
    pub(super) fn requeue_due(&mut self, now: BootNanos, rtt_ns: i64) -> u64 {
        let due: Vec<u64> = self
            .units
            .iter()
            .filter(|(id, unit)| !self.lost.contains(id) && unit.due_at(rtt_ns).is_some_and(|at| now >= at))
            .map(|(id, _)| *id)
            .collect();
        let n = due.len() as u64;
        due.into_iter().for_each(|id| self.requeue(id, true));
        n
    }

    pub(super) fn deadline(&self, rtt_ns: i64) -> Option<BootNanos> {
        self.units.values().filter_map(|unit| unit.due_at(rtt_ns)).min()
    }

    /// The collector lacks byte ranges of an object: they go again at once, less what is on its way.
    pub(super) fn ask(
        &mut self,
        object: ObjectId,
        total_len: u64,
        asked: &[Range<u64>],
        now: BootNanos,
        rtt_ns: i64,
    ) {
        let guard = MISSING_NS_MIN.max(rtt_ns);
        let away = self.units.iter().find(|(_, unit)| {
            matches!(unit.load, Load::Away { object: Some(of) } if of == (object, total_len))
                && unit.idle_since.is_some_and(|since| now.since(since) >= guard)
        });
        if let Some((id, _)) = away {
            self.lost.insert(*id);
            self.hints.insert(object, (total_len, asked.to_vec()));
            return;
        }
        let wanted: Vec<u64> = self
            .units
            .iter()
            .filter(|(_, unit)| {
                matches!(&unit.load, Load::Blob { id, object: bytes, .. }
                    if *id == object && bytes.len() as u64 == total_len)
            })
            .map(|(id, _)| *id)
            .collect();
        for id in wanted {
            let Some(unit) = self.units.get_mut(&id) else { continue };
            if let Load::Blob { to_send, took, piped, .. } = &mut unit.load {
                let mut young: IntervalSet = took
                    .iter()
                    .filter(|(_, at)| now.since(*at) < guard)
                    .map(|(range, _)| range.clone())
                    .collect();
                young.union_with(piped);
                for range in asked.iter().filter(|range| range.end <= total_len) {
                    young.missing_in(range.clone()).into_iter().for_each(|hole| to_send.insert(hole));
                }
            }
            self.requeue(id, false);
        }
    }

    /// A fresh answer says what the collector lacks of objects it holds in part: the rest is there, so
    /// only that is sent, now or when the blob comes out of the spool again.
    pub(super) fn narrow(&mut self, hints: BTreeMap<ObjectId, (u64, Vec<Range<u64>>)>) {
        self.hints = hints;
        let mut touched = Vec::new();
        for (number, unit) in &mut self.units {
            if let Load::Blob { id, object, to_send, .. } = &mut unit.load
                && let Some((len, lacking)) = self.hints.get(id)
                && *len == object.len() as u64
            {
                *to_send = within(lacking, *len);
                touched.push(*number);
            }
        }
        touched.into_iter().for_each(|id| self.requeue(id, false));
    }

    /// Lets go of units that have to be read from the spool again.
    pub(super) fn take_lost(&mut self) -> Vec<Unit> {
        let lost = std::mem::take(&mut self.lost);
        if lost.is_empty() {
            return Vec::new();
        }
        let units = self.release_those(|id, _| lost.contains(&id));
        for unit in &units {
            for hold in &unit.holds {
                let (rows, tries) = self.tried.entry(hold.stream).or_default();
                rows.insert(hold.seqs.clone());
                *tries = (*tries).max(unit.attempts);
            }
        }
        units
    }

    /// Remembers that rows of a unit that is away were complained of, and has them read again.
    pub(super) fn complain_away(&mut self, id: u64) {
        let Some(unit) = self.units.get(&id) else { return };
        for hold in &unit.holds {
            self.complained.entry(hold.stream).or_default().insert(hold.seqs.clone());
        }
        self.requeue(id, true);
    }

    /// Lets go of units that landed.
    pub(super) fn landed(&mut self, over: impl Fn(&Unit) -> bool) -> Vec<Unit> {
        let landed = self.release(over);
        for hold in landed.iter().flat_map(|unit| &unit.holds) {
            if let Some(rows) = self.complained.get_mut(&hold.stream) {
                rows.remove(hold.seqs.clone());
            }
            if let Some((rows, _)) = self.tried.get_mut(&hold.stream) {
                rows.remove(hold.seqs.clone());
                if rows.is_empty() {
                    self.tried.remove(&hold.stream);
                }
            }
        }
        landed
    }

    /// Lets go of units for which `over` holds.
    pub(super) fn release(&mut self, over: impl Fn(&Unit) -> bool) -> Vec<Unit> {
        self.release_those(|_, unit| over(unit))
    }

    fn release_those(&mut self, over: impl Fn(u64, &Unit) -> bool) -> Vec<Unit> {
        let ids: Vec<u64> =
            self.units.iter().filter(|(id, unit)| over(**id, unit)).map(|(id, _)| *id).collect();
        self.lost.retain(|id| !ids.contains(id));
        for queues in [&mut self.again, &mut self.fresh] {
            for queue in queues.values_mut() {
                queue.retain(|id| !ids.contains(id));
            }
        }
        let mut gone = Vec::with_capacity(ids.len());
        for id in ids {
            if let Some(unit) = self.units.remove(&id) {
                let held = self.held.entry(unit.lane).or_default();
                *held = held.saturating_sub(unit.bytes);
                gone.push(unit);
            }
        }
        gone
    }

    /// Bytes of a lane held in memory.
    pub(super) fn held(&self, lane: Lane) -> usize {
        self.held.get(&lane).copied().unwrap_or(0)
    }

    /// True if nothing waits to be handed over.
    pub(super) fn nothing_queued(&self) -> bool {
        Lane::ALL.into_iter().all(|lane| self.head(lane).is_none())
    }

    pub(super) fn len(&self) -> usize {
        self.units.len()
    }
}

/// The ranges inside an object of `len` bytes; all of it if there are none.
fn within(ranges: &[Range<u64>], len: u64) -> IntervalSet {
    let set: IntervalSet = ranges.iter().filter(|range| range.end <= len).cloned().collect();
    if set.is_empty() { IntervalSet::below(len) } else { set }
}

impl Unit {
    /// When it is sent again, if no ack comes: it is out of the pipe, so only the collector can have it.
    fn due_at(&self, rtt_ns: i64) -> Option<BootNanos> {
        let first = RESEND_NS_MIN.max(rtt_ns.saturating_mul(4));
        let tries = self.attempts.saturating_sub(1);
        let doubled = first.saturating_mul(1 << tries.min(10));
        self.idle_since.map(|since| since.plus_ns(doubled.min(RESEND_NS_MAX.max(first))))
    }

    /// True if the broker has all of it and memory does not.
    pub(super) fn is_away(&self) -> bool {
        matches!(self.load, Load::Away { .. })
    }

    /// True if it was wholly handed over and does not wait to go again.
    pub(super) fn is_out(&self) -> bool {
        !self.queued
    }

    /// The bytes that would go next: a range of a blob, or `None` for a batch.
    pub(super) fn next_range(&self, part_bytes: u64) -> Option<Range<u64>> {
        let Load::Blob { to_send, .. } = &self.load else { return None };
        let first = to_send.iter().next()?;
        Some(first.start..first.end.min(first.start.saturating_add(part_bytes.max(1))))
    }
}

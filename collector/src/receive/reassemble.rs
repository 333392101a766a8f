//! Reassembly: objects from their parts, by byte range, in any order.
//!
//! Held in memory and losable: what is dropped here is asked for again. Only bytes that arrived are
//! held, never the length a part claims, so a small message cannot claim a large buffer.

use headwater_core::id::{DevicePath, Epoch, ObjectId, Seq, StreamId};
use headwater_core::interval::IntervalSet;
use headwater_core::sample::BlobRef;
use headwater_core::time::BootNanos;
use headwater_core::wire::object::{BlobObject, Part, object_id};
use headwater_core::wire::primitives::Reader;
use headwater_core::wire::{MISSING_RANGES_MAX, Missing};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

/// How much may be unfinished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StagingLimits {
    /// Unfinished objects per device; one camera sends a few at a time.
    pub objects_per_device_max: usize,
    /// Bytes per device: two of the largest blobs.
    pub bytes_per_device_max: usize,
    /// Bytes in all.
    pub bytes_max: usize,
}

impl StagingLimits {
    /// 64 objects and 128 MiB per device, 256 MiB in all.
    pub const V1: StagingLimits =
        StagingLimits { objects_per_device_max: 64, bytes_per_device_max: 128 << 20, bytes_max: 256 << 20 };
}

/// What a piece costs beside its bytes (map nodes, allocation), so that tiny parts are not free.
const PIECE_OVERHEAD_BYTES: usize = 96;
/// Ids of finished objects remembered per device, so that a late duplicate part does not start the object
/// anew: about ten minutes of a camera that takes a picture each half second.
const FINISHED_PER_DEVICE_MAX: usize = 1024;
/// After this many false completions of one object its row is refused: its bytes are not what it names.
const FAILURES_MAX: u8 = 3;
/// Holes are reported once no part came for this long: parts still on their way are not missing.
const MISSING_QUIET_NS: i64 = 2_000_000_000;
/// The pause between two reports of the same holes doubles up to 2^7 times that, about four minutes.
const MISSING_DOUBLINGS_MAX: u32 = 7;
/// An object without a new part for this long is dropped.
const PARTIAL_IDLE_NS_MAX: i64 = 600_000_000_000;
/// Objects named in one ack; the next one names others once these are mended.
const MISSING_OBJECTS_MAX: usize = 16;

/// Whose objects.
pub type DeviceEpoch = (DevicePath, Epoch);

/// What a part did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartOutcome {
    /// It is held.
    Held,
    /// It was known.
    Known,
    /// The object is finished and checked.
    Finished(FinishedBlob),
    /// The collected bytes contradict each other or the id; they are dropped and asked for again.
    Discarded,
    /// That happened too often: the row it names (if it can be read) is refused.
    GivenUp(Option<(StreamId, Seq)>),
}

/// A finished object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinishedBlob {
    /// Its id.
    pub object: ObjectId,
    /// Its bytes.
    pub bytes: Arc<[u8]>,
    /// Stream of the row it belongs to.
    pub stream: StreamId,
    /// Seq of that row.
    pub seq: Seq,
    /// Digest and length of the original.
    pub reference: BlobRef,
}

#[derive(Debug)]
struct Partial {
    total_len: u64,
    have: IntervalSet,
    pieces: BTreeMap<u64, Box<[u8]>>,
    cost: usize,
    failures: u8,
    /// Order of first arrival, for dropping the oldest.
    age: u64,
    touched: BootNanos,
    /// How often its holes were reported since its last part.
    asks: u32,
    /// When they are to be reported next.
    ask_at: BootNanos,
}

#[derive(Debug, Default)]
struct DeviceStaging {
    partials: HashMap<(Epoch, ObjectId), Partial>,
    finished: VecDeque<(Epoch, ObjectId)>,
    cost: usize,
}

/// Unfinished objects of all devices.
#[derive(Debug)]
pub struct Reassembler {
    limits: StagingLimits,
    devices: HashMap<DevicePath, DeviceStaging>,
    cost: usize,
    next_age: u64,
    dropped: u64,
}

impl Reassembler {
    /// Nothing staged yet.
    #[must_use]
    pub fn new(limits: StagingLimits) -> Self {
        Self { limits, devices: HashMap::new(), cost: 0, next_age: 0, dropped: 0 }
    }

    /// Bytes held, overhead included.
    #[must_use]
    pub fn cost(&self) -> usize {
        self.cost
    }

    /// Unfinished objects dropped for room so far; their ranges are asked for again.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Takes a part that was admitted.
    pub fn take(&mut self, owner: &DeviceEpoch, part: &Part<'_>, now: BootNanos) -> PartOutcome {
        let (device, epoch) = owner;
        let key = (*epoch, part.object);
        let age = self.next_age;
        self.expire(device, now);
        let staging = self.devices.entry(device.clone()).or_default();
        if staging.finished.contains(&key) {
            return PartOutcome::Known;
        }
        let partial = staging.partials.entry(key).or_insert_with(|| {
            self.next_age = age.saturating_add(1);
            Partial {
                total_len: part.total_len,
                have: IntervalSet::new(),
                pieces: BTreeMap::new(),
                cost: 0,
                failures: 0,
                age,
                touched: now,
                asks: 0,
                ask_at: now,
            }
        });
        partial.touched = now;
        partial.asks = 0;
        partial.ask_at = now.plus_ns(MISSING_QUIET_NS);
        let before = partial.cost;
        let outcome = partial.add(part);
        let after = partial.cost;
        staging.cost = staging.cost.saturating_sub(before).saturating_add(after);
        self.cost = self.cost.saturating_sub(before).saturating_add(after);
        match outcome {
            PartOutcome::Finished(_) | PartOutcome::GivenUp(_) => {
                staging.partials.remove(&key);
                staging.cost = staging.cost.saturating_sub(after);
                self.cost = self.cost.saturating_sub(after);
                if matches!(outcome, PartOutcome::Finished(_)) {
                    if staging.finished.len() >= FINISHED_PER_DEVICE_MAX {
                        staging.finished.pop_front();
                    }
                    staging.finished.push_back(key);
                }
            }
            _ => self.make_room(device),
        }
        outcome
    }

    /// Holes of the device's objects that have been quiet, oldest object first. Each is told once, then again
    /// after twice the time, until a part comes.
    pub fn missing(&mut self, owner: &DeviceEpoch, now: BootNanos) -> Vec<Missing> {
        let Some(staging) = self.devices.get_mut(&owner.0) else { return Vec::new() };
        let mut quiet: Vec<_> = staging
            .partials
            .iter_mut()
            .filter(|((epoch, _), partial)| *epoch == owner.1 && partial.ask_at <= now)
            .collect();
        quiet.sort_by_key(|(_, partial)| partial.age);
        quiet
            .into_iter()
            .take(MISSING_OBJECTS_MAX)
            .map(|((_, object), partial)| {
                partial.asks = partial.asks.saturating_add(1);
                partial.ask_at = now.plus_ns(MISSING_QUIET_NS << partial.asks.min(MISSING_DOUBLINGS_MAX));
                let mut ranges = partial.have.missing_in(0..partial.total_len);
                ranges.truncate(MISSING_RANGES_MAX);
                Missing { object: *object, total_len: partial.total_len, ranges }
            })
            .collect()
    }

    /// When holes of the device's objects are next to be told, if it has unfinished ones.
    #[must_use]
    pub fn ask_at(&self, owner: &DeviceEpoch) -> Option<BootNanos> {
        let staging = self.devices.get(&owner.0)?;
        staging.partials.iter().filter(|((epoch, _), _)| *epoch == owner.1).map(|(_, p)| p.ask_at).min()
    }

    /// Drops objects that got no part for ten minutes: their device has given them up or starts them again.
    fn expire(&mut self, device: &DevicePath, now: BootNanos) {
        let Some(staging) = self.devices.get_mut(device) else { return };
        let mut freed = 0_usize;
        let dropped = &mut self.dropped;
        staging.partials.retain(|_, partial| {
            let keep = now.since(partial.touched) < PARTIAL_IDLE_NS_MAX;
            if !keep {
                freed = freed.saturating_add(partial.cost);
                *dropped = dropped.saturating_add(1);
            }
            keep
        });
        staging.cost = staging.cost.saturating_sub(freed);
        self.cost = self.cost.saturating_sub(freed);
    }

    /// Drops oldest unfinished objects until every bound holds: first the device's own, then anyone's.
    fn make_room(&mut self, device: &DevicePath) {
        loop {
            let own = self.devices.get(device).is_some_and(|staging| {
                staging.partials.len() > self.limits.objects_per_device_max
                    || staging.cost > self.limits.bytes_per_device_max
            });
            let victim = if own {
                Some(device.clone())
            } else if self.cost > self.limits.bytes_max {
                let oldest = |staging: &DeviceStaging| staging.partials.values().map(|p| p.age).min();
                self.devices
                    .iter()
                    .filter_map(|(device, staging)| Some((oldest(staging)?, device)))
                    .min()
                    .map(|(_, device)| device.clone())
            } else {
                None
            };
            let Some(staging) = victim.and_then(|victim| self.devices.get_mut(&victim)) else { return };
            let Some(key) =
                staging.partials.iter().min_by_key(|(_, partial)| partial.age).map(|(key, _)| *key)
            else {
                return;
            };
            if let Some(partial) = staging.partials.remove(&key) {
                staging.cost = staging.cost.saturating_sub(partial.cost);
                self.cost = self.cost.saturating_sub(partial.cost);
                self.dropped = self.dropped.saturating_add(1);
            }
        }
    }
}

impl Partial {
    fn add(&mut self, part: &Part<'_>) -> PartOutcome {
        if part.total_len != self.total_len || !self.agrees(part) {
            self.discard();
            self.total_len = part.total_len;
            return self.failed(None);
        }
        let end = part.offset.saturating_add(part.bytes.len() as u64);
        let new = self.have.missing_in(part.offset..end);
        if new.is_empty() {
            return PartOutcome::Known;
        }
        if new.contains(&(0..self.total_len)) {
            return self.finish(part.object, part.bytes);
        }
        for range in new {
            let Some(piece) = slice(part.bytes, part.offset, &range) else { continue };
            self.cost = self.cost.saturating_add(piece.len()).saturating_add(PIECE_OVERHEAD_BYTES);
            self.pieces.insert(range.start, piece.into());
            self.have.insert(range);
        }
        if self.have.covers(0..self.total_len) {
            let mut bytes = Vec::with_capacity(usize::try_from(self.total_len).unwrap_or(0));
            self.pieces.values().for_each(|piece| bytes.extend_from_slice(piece));
            self.finish(part.object, &bytes)
        } else {
            PartOutcome::Held
        }
    }

    /// True if every byte both have is the same.
    fn agrees(&self, part: &Part<'_>) -> bool {
        let end = part.offset.saturating_add(part.bytes.len() as u64);
        let from = self.pieces.range(..=part.offset).next_back().map_or(part.offset, |(start, _)| *start);
        self.pieces.range(from..end).all(|(start, piece)| {
            let piece_end = start.saturating_add(piece.len() as u64);
            let both = part.offset.max(*start)..end.min(piece_end);
            both.is_empty() || slice(part.bytes, part.offset, &both) == slice(piece, *start, &both)
        })
    }

    /// Checks all of an object's bytes.
    fn finish(&mut self, object: ObjectId, bytes: &[u8]) -> PartOutcome {
        let read = (object_id(bytes) == object).then(|| BlobObject::from_bytes(bytes));
        let Some(Ok(blob)) = read else {
            let row = claimed_row(bytes);
            self.discard();
            return self.failed(row);
        };
        let (stream, seq, reference) = (blob.stream, blob.seq, blob.reference);
        PartOutcome::Finished(FinishedBlob { object, bytes: bytes.into(), stream, seq, reference })
    }

    fn discard(&mut self) {
        self.have = IntervalSet::new();
        self.pieces.clear();
        self.cost = 0;
    }

    fn failed(&mut self, row: Option<(StreamId, Seq)>) -> PartOutcome {
        self.failures = self.failures.saturating_add(1);
        if self.failures >= FAILURES_MAX { PartOutcome::GivenUp(row) } else { PartOutcome::Discarded }
    }
}

/// The bytes of `range` out of `bytes` that start at `at`.
fn slice<'a>(bytes: &'a [u8], at: u64, range: &Range<u64>) -> Option<&'a [u8]> {
    let start = usize::try_from(range.start.checked_sub(at)?).ok()?;
    let end = usize::try_from(range.end.checked_sub(at)?).ok()?;
    bytes.get(start..end)
}

/// The row that an object of form 1 says it belongs to, without believing anything else of it.
fn claimed_row(bytes: &[u8]) -> Option<(StreamId, Seq)> {
    let mut reader = Reader::new(bytes);
    reader.take(2).ok()?;
    let stream = u16::try_from(reader.uv().ok()?).ok().filter(|id| *id > 0)?;
    Some((StreamId(stream), Seq(reader.uv().ok()?)))
}

#[cfg(test)]
#[path = "reassemble_tests.rs"]
mod tests;

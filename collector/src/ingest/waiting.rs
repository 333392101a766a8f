//! What was landed and cannot go to the lake yet: rows whose blob is still on its way, blobs whose row is, and sections
//! whose declaration is. The landing cursor stays below all of them, so a restart finds them again.
//!
//! Waiting is bounded by room and by time. What gives way is the oldest of the device that holds most, so a gateway that
//! sends halves without end crowds out nobody else's; nothing is lost by it: rows go in without their blob, blobs are
//! kept by their digest, sections go to quarantine and come back with their declaration.

use super::group::HeldRows;
use crate::land::{LandedMessage, LandingCursors, LandingPosition};
use headwater_core::batch::Rows;
use headwater_core::id::{DeviceId, Epoch, Sha256, StreamId};
use headwater_core::time::{NS_PER_S, UtcNanos};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// Most bytes that may wait: four of the largest blobs beside what a group holds.
pub const WAITING_BYTES_MAX: usize = 256 << 20;
/// Most rows, blobs and sections that may wait: a picture a second of a hundred cameras for ten minutes.
pub const WAITING_ITEMS_MAX: usize = 65_536;
/// Longest a row waits for its blob and a blob for its row: as long as landing logs are kept, since both hold the cursor
/// below which a log can be trimmed.
pub const HALF_WAIT_NS_MAX: i64 = 7 * 86_400 * NS_PER_S;
/// Longest a section waits for its declaration, which its device is asked for with every ack.
pub const UNDECLARED_WAIT_NS_MAX: i64 = 3_600 * NS_PER_S;

/// One row's object: rows and blobs name each other by it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct BlobKey {
    pub(super) device: DeviceId,
    pub(super) epoch: Epoch,
    pub(super) stream: StreamId,
    pub(super) seq: u64,
    pub(super) sha256: Sha256,
}

/// A blob that came before its row.
#[derive(Debug, Clone)]
pub(super) struct WaitingBlob {
    pub(super) position: LandingPosition,
    pub(super) received: UtcNanos,
    pub(super) bytes: Arc<[u8]>,
}

/// A section whose stream or fingerprint nobody declared yet.
#[derive(Debug, Clone)]
pub(super) struct Undeclared {
    pub(super) message: Arc<LandedMessage>,
    pub(super) rows: Rows,
}

impl Undeclared {
    fn device(&self) -> &DeviceId {
        &self.message.device.device
    }
}

/// Something that waits, with its age: a number that only grows.
#[derive(Debug)]
struct Aged<T> {
    age: u64,
    what: T,
    /// Whether the lake was asked for its object.
    looked: bool,
}

/// What lies at an age.
#[derive(Debug, Clone)]
enum Item {
    Row(BlobKey),
    Blob(BlobKey),
    Undeclared,
}

#[derive(Debug, Default)]
struct Share {
    items: BTreeMap<u64, Item>,
    bytes: usize,
}

/// All of it, bounded.
#[derive(Debug)]
pub(super) struct Waiting {
    rows: BTreeMap<BlobKey, Aged<HeldRows>>,
    blobs: BTreeMap<BlobKey, Aged<WaitingBlob>>,
    undeclared: BTreeMap<u64, Undeclared>,
    /// Halves by age, with when they were received.
    halves: BTreeMap<u64, (Item, UtcNanos)>,
    shares: BTreeMap<DeviceId, Share>,
    born: u64,
    bytes: usize,
    bytes_max: usize,
    items_max: usize,
}

impl Default for Waiting {
    fn default() -> Self {
        Self::bounded(WAITING_BYTES_MAX, WAITING_ITEMS_MAX)
    }
}

/// What had to give way to the bound.
#[derive(Debug, Default)]
pub(super) struct Overflow {
    /// Rows to be committed without their blob.
    pub(super) rows: Vec<HeldRows>,
    /// Blobs to be kept in the lake by their digest.
    pub(super) blobs: Vec<(Sha256, Arc<[u8]>)>,
    /// Sections to be quarantined.
    pub(super) undeclared: Vec<Undeclared>,
}

impl Waiting {
    pub(super) fn bounded(bytes_max: usize, items_max: usize) -> Self {
        Self {
            rows: BTreeMap::new(),
            blobs: BTreeMap::new(),
            undeclared: BTreeMap::new(),
            halves: BTreeMap::new(),
            shares: BTreeMap::new(),
            born: 0,
            bytes: 0,
            bytes_max,
            items_max,
        }
    }

    pub(super) fn row(&mut self, blob: BlobKey, row: HeldRows) {
        let age = self.enter(&blob.device, Item::Row(blob.clone()), row.bytes, Some(row.received));
        self.rows.insert(blob, Aged { age, what: row, looked: false });
    }

    pub(super) fn blob(&mut self, blob: BlobKey, waiting: WaitingBlob) {
        // A resend: the first copy is as good, and its place is the one to read again from.
        if self.blobs.contains_key(&blob) {
            return;
        }
        let bytes = waiting.bytes.len();
        let age = self.enter(&blob.device, Item::Blob(blob.clone()), bytes, Some(waiting.received));
        self.blobs.insert(blob, Aged { age, what: waiting, looked: false });
    }

    pub(super) fn undeclared(&mut self, section: Undeclared) {
        let age = self.enter(section.device(), Item::Undeclared, section.message.message.len(), None);
        self.undeclared.insert(age, section);
    }

    fn enter(&mut self, device: &DeviceId, item: Item, bytes: usize, half: Option<UtcNanos>) -> u64 {
        let age = self.born;
        self.born += 1;
        self.bytes += bytes;
        if let Some(received) = half {
            self.halves.insert(age, (item.clone(), received));
        }
        let share = self.shares.entry(device.clone()).or_default();
        share.bytes += bytes;
        share.items.insert(age, item);
        age
    }

    fn leave(&mut self, device: &DeviceId, age: u64, bytes: usize) {
        self.bytes -= bytes;
        self.halves.remove(&age);
        if let Some(share) = self.shares.get_mut(device) {
            share.bytes -= bytes;
            share.items.remove(&age);
            if share.items.is_empty() {
                self.shares.remove(device);
            }
        }
    }

    pub(super) fn take_row(&mut self, blob: &BlobKey) -> Option<HeldRows> {
        let Aged { age, what: row, .. } = self.rows.remove(blob)?;
        self.leave(&blob.device, age, row.bytes);
        Some(row)
    }

    pub(super) fn take_blob(&mut self, blob: &BlobKey) -> Option<Arc<[u8]>> {
        let Aged { age, what: waiting, .. } = self.blobs.remove(blob)?;
        self.leave(&blob.device, age, waiting.bytes.len());
        Some(waiting.bytes)
    }

    /// The sections that match, to be tried again.
    pub(super) fn take_undeclared(&mut self, matches: impl Fn(&Undeclared) -> bool) -> Vec<Undeclared> {
        let found: Vec<u64> =
            self.undeclared.iter().filter(|(_, section)| matches(section)).map(|(age, _)| *age).collect();
        found.into_iter().filter_map(|age| self.take_section(age)).collect()
    }

    fn take_section(&mut self, age: u64) -> Option<Undeclared> {
        let section = self.undeclared.remove(&age)?;
        self.leave(section.device(), age, section.message.message.len());
        Some(section)
    }

    /// Rows for whose object the lake was not asked yet.
    pub(super) fn not_looked(&self) -> Vec<BlobKey> {
        self.rows.iter().filter(|(_, row)| !row.looked).map(|(blob, _)| blob.clone()).collect()
    }

    /// The lake has no object for this row, and will have none before its blob comes here.
    pub(super) fn looked(&mut self, blob: &BlobKey) {
        if let Some(row) = self.rows.get_mut(blob) {
            row.looked = true;
        }
    }

    /// Takes out the rows of these seqs: their blobs will never come.
    pub(super) fn release(
        &mut self,
        (device, epoch, stream): (&DeviceId, Epoch, StreamId),
        seqs: std::ops::Range<u64>,
    ) -> Vec<HeldRows> {
        let at = |seq| BlobKey { device: device.clone(), epoch, stream, seq, sha256: Sha256([0; 32]) };
        if seqs.is_empty() {
            return Vec::new();
        }
        let found: Vec<BlobKey> =
            self.rows.range(at(seqs.start)..at(seqs.end)).map(|(blob, _)| blob.clone()).collect();
        found.iter().filter_map(|blob| self.take_row(blob)).collect()
    }

    /// Takes out the blobs of these seqs: their rows are in without them, or will never be.
    pub(super) fn release_blobs(
        &mut self,
        (device, epoch, stream): (&DeviceId, Epoch, StreamId),
        seqs: std::ops::Range<u64>,
    ) -> Vec<(Sha256, Arc<[u8]>)> {
        let at = |seq| BlobKey { device: device.clone(), epoch, stream, seq, sha256: Sha256([0; 32]) };
        if seqs.is_empty() {
            return Vec::new();
        }
        let found: Vec<BlobKey> =
            self.blobs.range(at(seqs.start)..at(seqs.end)).map(|(blob, _)| blob.clone()).collect();
        found.into_iter().filter_map(|blob| Some((blob.sha256, self.take_blob(&blob)?))).collect()
    }

    /// Ends of the messages of which something waits: their rows are not all in the lake.
    pub(super) fn messages(&self) -> HashSet<LandingPosition> {
        let rows = self.rows.values().map(|row| row.what.end);
        rows.chain(self.undeclared.values().map(|section| section.message.end)).collect()
    }

    /// The waiting row of a seq, to compare a second copy with.
    pub(super) fn find_row(
        &self,
        device: &DeviceId,
        epoch: Epoch,
        stream: StreamId,
        seq: u64,
    ) -> Option<&HeldRows> {
        let from = BlobKey { device: device.clone(), epoch, stream, seq, sha256: Sha256([0; 32]) };
        let (blob, row) = self.rows.range(from..).next()?;
        (blob.device == *device && blob.epoch == epoch && blob.stream == stream && blob.seq == seq)
            .then_some(&row.what)
    }

    /// Per incarnation the first record that must be read again after a restart.
    pub(super) fn floor(&self) -> LandingCursors {
        let rows = self.rows.values().map(|row| row.what.position);
        let blobs = self.blobs.values().map(|blob| blob.what.position);
        let undeclared = self.undeclared.values().map(|section| section.message.position);
        let mut floor = LandingCursors::new();
        for position in rows.chain(blobs).chain(undeclared) {
            let lowest = floor.entry(position.incarnation).or_insert(position);
            if position < *lowest {
                *lowest = position;
            }
        }
        floor
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len() + self.blobs.len() + self.undeclared.len()
    }

    /// Gives up what is above the bounds or has waited too long by `now`.
    pub(super) fn overflow(&mut self, now: UtcNanos) -> Overflow {
        let mut out = Overflow::default();
        while let Some((age, section)) = self.undeclared.first_key_value() {
            if now.since(section.message.received) <= UNDECLARED_WAIT_NS_MAX {
                break;
            }
            let age = *age;
            out.undeclared.extend(self.take_section(age));
        }
        while let Some((age, (item, received))) = self.halves.first_key_value() {
            if now.since(*received) <= HALF_WAIT_NS_MAX {
                break;
            }
            let (age, item) = (*age, item.clone());
            self.give_up(age, &item, &mut out);
        }
        while self.bytes > self.bytes_max || self.len() > self.items_max {
            let too_heavy = self.bytes > self.bytes_max;
            let weight = |share: &Share| if too_heavy { share.bytes } else { share.items.len() };
            let greatest = self.shares.values().max_by_key(|share| weight(share));
            let oldest = greatest.and_then(|share| share.items.first_key_value());
            let Some((age, item)) = oldest.map(|(age, item)| (*age, item.clone())) else { break };
            self.give_up(age, &item, &mut out);
        }
        out
    }

    fn give_up(&mut self, age: u64, item: &Item, out: &mut Overflow) {
        match item {
            Item::Row(blob) => out.rows.extend(self.take_row(blob)),
            Item::Blob(blob) => out.blobs.extend(self.take_blob(blob).map(|bytes| (blob.sha256, bytes))),
            Item::Undeclared => out.undeclared.extend(self.take_section(age)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_core::id::IncarnationId;

    fn key(device: &str, seq: u64) -> BlobKey {
        BlobKey {
            device: device.parse().unwrap(),
            epoch: Epoch(7),
            stream: StreamId(2),
            seq,
            sha256: Sha256::of(&seq.to_le_bytes()),
        }
    }

    fn blob(second: i64, bytes: usize) -> WaitingBlob {
        let position = LandingPosition { incarnation: IncarnationId([1; 16]), segment: 0, offset: 64 };
        WaitingBlob { position, received: UtcNanos(second * NS_PER_S), bytes: Arc::from(vec![0; bytes]) }
    }

    fn given_up(waiting: &mut Waiting, second: i64) -> Vec<Sha256> {
        waiting.overflow(UtcNanos(second * NS_PER_S)).blobs.into_iter().map(|(sha256, _)| sha256).collect()
    }

    #[test]
    fn the_oldest_of_the_device_that_holds_most_gives_way() {
        let mut waiting = Waiting::bounded(1_000, 100);
        // The quiet gateway's blob is the oldest of all, and its key the first; the loud one's ages are against its keys.
        waiting.blob(key("a-quiet", 0), blob(0, 100));
        for seq in (1..=9).rev() {
            waiting.blob(key("b-loud", seq), blob(1, 100));
        }
        assert_eq!(given_up(&mut waiting, 2), []);
        waiting.blob(key("a-quiet", 1), blob(2, 100));
        waiting.blob(key("a-quiet", 2), blob(2, 100));
        let of = |seqs: &[u64]| seqs.iter().map(|seq| key("b-loud", *seq).sha256).collect::<Vec<_>>();
        assert_eq!(given_up(&mut waiting, 2), of(&[9, 8]));
        assert!(waiting.take_blob(&key("a-quiet", 0)).is_some());
        assert_eq!((waiting.bytes, waiting.len()), (900, 9));
        // Too many rather than too heavy: again the one with most of them.
        waiting.items_max = 8;
        assert_eq!(given_up(&mut waiting, 2), of(&[7]));
        for seq in 0..10 {
            waiting.take_blob(&key("b-loud", seq));
            waiting.take_blob(&key("a-quiet", seq));
        }
        assert!(waiting.shares.is_empty() && waiting.halves.is_empty() && waiting.bytes == 0);
    }

    #[test]
    fn nothing_waits_for_ever() {
        let mut waiting = Waiting::default();
        waiting.blob(key("pi-1", 1), blob(0, 10));
        waiting.blob(key("pi-1", 1), blob(50, 10));
        waiting.blob(key("pi-1", 2), blob(100, 10));
        let week = HALF_WAIT_NS_MAX / NS_PER_S;
        assert_eq!(given_up(&mut waiting, week), []);
        assert_eq!(given_up(&mut waiting, week + 1), [key("pi-1", 1).sha256], "a resend makes it no younger");
        assert_eq!(waiting.len(), 1);
    }
}

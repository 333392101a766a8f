//! What was landed and cannot go to the lake yet: rows whose blob is still on its way, blobs whose row is, and sections
//! whose declaration is. The landing cursor stays below all of them, so a restart finds them again.

use super::group::HeldRows;
use crate::land::{LandedMessage, LandingCursors, LandingPosition};
use headwater_core::batch::Rows;
use headwater_core::id::{DeviceId, Epoch, Sha256, StreamId};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// Most bytes that may wait: four of the largest blobs beside what a group holds.
pub const WAITING_BYTES_MAX: usize = 256 << 20;
/// Most rows, blobs and sections that may wait: a picture a second of a hundred cameras for ten minutes.
pub const WAITING_ITEMS_MAX: usize = 65_536;

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
    pub(super) bytes: Arc<[u8]>,
}

/// A section whose stream or fingerprint nobody declared yet.
#[derive(Debug, Clone)]
pub(super) struct Undeclared {
    pub(super) message: Arc<LandedMessage>,
    pub(super) rows: Rows,
}

/// All of it, bounded.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    rows: BTreeMap<BlobKey, HeldRows>,
    blobs: BTreeMap<BlobKey, WaitingBlob>,
    undeclared: Vec<Undeclared>,
    bytes: usize,
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
    pub(super) fn row(&mut self, blob: BlobKey, row: HeldRows) {
        self.bytes += row.bytes;
        self.rows.insert(blob, row);
    }

    pub(super) fn blob(&mut self, blob: BlobKey, waiting: WaitingBlob) {
        self.bytes += waiting.bytes.len();
        if let Some(old) = self.blobs.insert(blob, waiting) {
            self.bytes -= old.bytes.len();
        }
    }

    pub(super) fn undeclared(&mut self, section: Undeclared) {
        self.bytes += section.message.message.len();
        self.undeclared.push(section);
    }

    pub(super) fn take_row(&mut self, blob: &BlobKey) -> Option<HeldRows> {
        let row = self.rows.remove(blob)?;
        self.bytes -= row.bytes;
        Some(row)
    }

    pub(super) fn take_blob(&mut self, blob: &BlobKey) -> Option<Arc<[u8]>> {
        let waiting = self.blobs.remove(blob)?;
        self.bytes -= waiting.bytes.len();
        Some(waiting.bytes)
    }

    /// Every section that waits for a declaration, to be tried again.
    pub(super) fn take_undeclared(&mut self) -> Vec<Undeclared> {
        let sections = std::mem::take(&mut self.undeclared);
        self.bytes -= sections.iter().map(|section| section.message.message.len()).sum::<usize>();
        sections
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
        let rows = self.rows.values().map(|row| row.end);
        rows.chain(self.undeclared.iter().map(|section| section.message.end)).collect()
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
            .then_some(row)
    }

    /// Per incarnation the first record that must be read again after a restart.
    pub(super) fn floor(&self) -> LandingCursors {
        let rows = self.rows.values().map(|row| row.position);
        let blobs = self.blobs.values().map(|blob| blob.position);
        let undeclared = self.undeclared.iter().map(|section| section.message.position);
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

    /// Gives up what is above the bounds. In the order of keys, not of age: what gives way loses nothing, it only goes
    /// to the lake in a less handy form.
    pub(super) fn overflow(&mut self) -> Overflow {
        let mut out = Overflow::default();
        while self.bytes > WAITING_BYTES_MAX || self.len() > WAITING_ITEMS_MAX {
            if let Some((blob, waiting)) = self.blobs.pop_first() {
                self.bytes -= waiting.bytes.len();
                out.blobs.push((blob.sha256, waiting.bytes));
            } else if let Some((_, row)) = self.rows.pop_first() {
                self.bytes -= row.bytes;
                out.rows.push(row);
            } else {
                out.undeclared.extend(self.take_undeclared());
                break;
            }
        }
        out
    }
}

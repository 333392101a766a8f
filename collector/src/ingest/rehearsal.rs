//! Ingest without a lake: the same fold, whose groups go to whoever asks instead of into tables. For tests that need
//! thousands of lives of a collector, each with its crashes, and for which Iceberg files would say nothing more.

use super::IngestSettings;
use super::cursors::Part;
use super::cursors::{from_commit, part_of, to_commit};
use super::fold::Folder;
use super::group::Group;
use crate::commit::raw::StoredBlob;
use crate::dedup::{Ledger, StreamKey};
use crate::land::{CommitMark, Landed, LandingCursors};
use crate::registry::Registry;
use headwater_core::batch::Rows;
use headwater_core::gap::GapRecord;
use headwater_core::id::Sha256;
use headwater_lake::LandingCursor;
use std::collections::{BTreeMap, BTreeSet};

/// What commits would hold of it: all that a restart has to go on from.
#[derive(Debug, Clone, Default)]
pub struct Kept {
    /// What is committed and what is explained.
    pub ledger: Ledger,
    /// Digests of the objects that were stored.
    pub objects: BTreeSet<Sha256>,
    landing: BTreeMap<String, LandingCursor>,
}

impl Kept {
    /// From where a restart reads again.
    #[must_use]
    pub fn cursors(&self) -> LandingCursors {
        from_commit(&self.landing)
    }
}

/// One commit that was not made.
#[derive(Debug)]
pub struct Rehearsed {
    /// New rows.
    pub rows: Vec<(StreamKey, Rows)>,
    /// New gaps, by the stream they name.
    pub gaps: Vec<(StreamKey, GapRecord)>,
    /// Digests of the objects it brings.
    pub objects: BTreeSet<Sha256>,
    /// What was set aside: stage, reason and detail are in the log.
    pub quarantined: usize,
    /// What the receiver is told once the commit is there.
    pub mark: CommitMark,
    landing: BTreeMap<String, LandingCursor>,
}

impl Rehearsed {
    /// Adds it to what commits hold, as the tables would.
    pub fn keep(&self, kept: &mut Kept) {
        for (key, rows) in &self.rows {
            kept.ledger.hold(key, rows.seqs());
        }
        for (key, gap) in &self.gaps {
            let seqs = gap.seq_first.0..gap.seq_last.0.saturating_add(1);
            kept.ledger.declare_gap(key, seqs, gap.stride.into(), gap.phase.into());
        }
        kept.objects.extend(self.objects.iter().copied());
        kept.landing.extend(self.landing.iter().map(|(log, cursor)| (log.clone(), *cursor)));
    }
}

/// The fold of one life.
#[derive(Debug)]
pub struct Rehearsal {
    folder: Folder,
}

impl Rehearsal {
    /// Goes on from what commits hold; `registry` is the receiver's.
    #[must_use]
    pub fn new(settings: IngestSettings, registry: Registry, kept: &Kept) -> Self {
        let mut folder = Folder::new(settings, registry);
        folder.ledger = kept.ledger.clone();
        folder.read = part_of(&kept.landing, Part::Data);
        folder.noted = part_of(&kept.landing, Part::Ops);
        Self { folder }
    }

    /// How far it has read.
    #[must_use]
    pub fn read(&self) -> &LandingCursors {
        &self.folder.read
    }

    /// What the receiver may be told when nothing was left to commit.
    #[must_use]
    pub fn mark(&self) -> CommitMark {
        CommitMark {
            cursors: self.folder.read.clone(),
            waiting: self.folder.waiting_messages(),
            ..CommitMark::default()
        }
    }

    /// Takes one landed record in.
    pub fn take(&mut self, landed: Landed) {
        self.folder.take(landed);
    }

    /// Everything since the last one, as one commit; `None` if there is nothing a reader would see.
    pub fn commit(&mut self, kept: &Kept) -> Option<Rehearsed> {
        for blob in self.folder.waiting.not_looked() {
            if kept.objects.contains(&blob.sha256) {
                self.folder.found(&blob, blob.sha256.to_string());
            } else {
                self.folder.waiting.looked(&blob);
            }
        }
        let half_ns = self.folder.settings.clock_half_ns;
        let group = std::mem::replace(&mut self.folder.group, Group::new(half_ns));
        if group.is_empty() {
            return None;
        }
        let inline = group.blobs.iter().filter(|(_, blob)| matches!(blob, StoredBlob::Inline(_)));
        let objects = group.objects.iter().map(|(sha256, _)| sha256).chain(inline.map(|(sha256, _)| sha256));
        let objects = objects.copied().collect();
        let gaps = group.gaps.iter().map(|gap| {
            let stream = gap.gap.stream.clone();
            (StreamKey { device: gap.device.clone(), epoch: gap.epoch, stream }, gap.gap.clone())
        });
        let mark = self.mark();
        let receiver = &self.folder.settings.receiver;
        Some(Rehearsed {
            gaps: gaps.collect(),
            objects,
            quarantined: group.quarantine.len(),
            mark,
            landing: to_commit(receiver, &self.folder.read, &self.folder.waiting_floor()),
            rows: group.rows.into_iter().map(|held| (held.key, held.rows)).collect(),
        })
    }
}

//! Opening a spool: proves that seqs and stream ids go on where they stood, or starts a new epoch.

use super::disk_spool::{DiskSpool, Settings, failed};
use super::gaps::GapList;
use super::ident;
use super::index::{Index, NoIndex, Remembered, SpoolIndex};
use super::payload::LostRange;
use super::read::QUARANTINE_BYTES_MAX;
use super::series::{Closed, Series};
use super::series_id::SeriesId;
use super::sled_index::SledIndex;
use super::survey::{Lost, Survey};
use headwater_core::gap::{GapCause, GapRecord};
use headwater_core::id::{BootId, BootOrdinal, Epoch, Seq, StreamId};
use headwater_core::interval::IntervalSet;
use headwater_core::ports::{Disk, DiskFile, SpoolError, SpoolLane};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// What an open found and decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// Life of the spool.
    pub epoch: Epoch,
    /// This boot.
    pub boot_ordinal: BootOrdinal,
    /// True if the life begins with this open.
    pub new_epoch: bool,
    /// Segment files found.
    pub segments: u64,
    /// Of these, gone through frame by frame.
    pub scanned: u64,
    /// Of these, set aside as unreadable.
    pub quarantined: u64,
}

/// What a survey found that was and is not, or may not be.
struct Found {
    lost: Vec<Lost>,
    torn_off: Vec<Lost>,
    gap_rows: Vec<GapRecord>,
}

impl<D: Disk> DiskSpool<D> {
    /// Opens the spool in `dir` of the real file system, with its index.
    ///
    /// # Errors
    /// [`SpoolError::Io`] only where the directory itself cannot be read or written: damage is repaired,
    /// set aside, told as gaps, or answered with a new epoch.
    pub fn open(
        disk: D,
        dir: &Path,
        boot_id: BootId,
        settings: Settings,
    ) -> Result<(Self, Opened), SpoolError> {
        disk.create_dir_all(dir).map_err(failed("create its directory"))?;
        let index: Box<dyn SpoolIndex> = match SledIndex::open(dir) {
            Ok(index) => Box::new(index),
            Err(error) => {
                tracing::warn!(%error, "spool goes on without an index");
                Box::new(NoIndex)
            }
        };
        let mut random = [0; 8];
        ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut random).map_err(|_| {
            SpoolError::Io { what: "draw an epoch", source: io::Error::other("no randomness") }
        })?;
        Self::open_with(disk, dir, boot_id, settings, Epoch(u64::from_le_bytes(random)), index)
    }

    /// [`DiskSpool::open`] with an index of the caller's and the epoch to take if a new one is due.
    ///
    /// # Errors
    /// As [`DiskSpool::open`].
    pub fn open_with(
        disk: D,
        dir: &Path,
        boot_id: BootId,
        settings: Settings,
        fresh: Epoch,
        index: Box<dyn SpoolIndex>,
    ) -> Result<(Self, Opened), SpoolError> {
        prepare(&disk, dir).map_err(failed("create its directories"))?;
        let known_ident = ident::load(&disk, dir).map_err(failed("read its identity"))?;
        let mut index = Index::new(index);
        let mut known = index.load();
        if known.epoch.is_none() || known.epoch != known_ident.epoch {
            known.segments.clear();
            known.streams.clear();
        }
        let mut survey = Survey {
            disk: &disk,
            dir,
            epoch: known_ident.epoch,
            known: &known,
            tables: Vec::new(),
            found_upto: BTreeMap::new(),
            lost: Vec::new(),
            gap_rows: Vec::new(),
            unproven: None,
            boot_max: 0,
            index_changes: Vec::new(),
            torn_off: Vec::new(),
            torn: Vec::new(),
            aside: Vec::new(),
            opened: (0, 0, 0),
        };
        let series = survey.all().map_err(failed("list its segments"))?;
        let declared = survey.declarations(&series);
        let streams = survey.streams(&series, &declared);
        let proven =
            match (&streams, survey.unproven, known_ident.epoch, known_ident.boot, settings.new_epoch) {
                (_, _, None, None, _) if survey.opened.0 == 0 => Err("nothing was here"),
                (_, _, None, _, _) | (_, _, _, None, _) => Err("its identity files are missing or damaged"),
                (_, _, _, _, true) => Err("the collector knows more than it"),
                (_, Some(why), _, _, _) => Err(why),
                (None, None, _, _, _) => Err("no stream table is left"),
                (Some(_), None, Some(epoch), Some(_), false) => Ok(epoch),
            };
        let epoch = proven.unwrap_or(fresh);
        if let Err(why) = proven {
            tracing::warn!(epoch = %fresh, why, "spool starts a new epoch");
            ident::store_epoch(&disk, dir, fresh).map_err(failed("write its epoch"))?;
        }
        let boot_ordinal = match known_ident.boot {
            Some((ordinal, id)) if id == boot_id => ordinal,
            Some((ordinal, _)) => BootOrdinal(ordinal.0.max(survey.boot_max).saturating_add(1)),
            None => BootOrdinal(survey.boot_max.saturating_add(1)),
        };
        if known_ident.boot != Some((boot_ordinal, boot_id)) {
            ident::store_boot(&disk, dir, boot_ordinal, boot_id).map_err(failed("write its boot"))?;
        }
        let (segments, scanned, quarantined) = survey.opened;
        let (lost, gap_rows, changes) = (survey.lost, survey.gap_rows, survey.index_changes);
        let (aside, torn_off) = (survey.aside, survey.torn_off);
        let opened =
            Opened { epoch, boot_ordinal, new_epoch: proven.is_err(), segments, scanned, quarantined };
        let streams = streams.filter(|_| proven.is_ok()).unwrap_or_default();
        if known.epoch != Some(epoch) {
            index.restart(&known, epoch);
        }
        let mut spool = DiskSpool {
            disk: disk.clone(),
            dir: dir.to_owned(),
            settings,
            epoch,
            boot_ordinal,
            boot_id,
            streams,
            acked_older: BTreeMap::new(),
            series,
            gaps: GapList::default(),
            index,
            index_ticks: 0,
            written_bytes: 0,
            payload_bytes: 0,
            free_checked_at: None,
            disk_short: false,
            encoder: super::payload::slab_encoder(),
            reserve_out: false,
            evictions: super::disk_spool::Evictions::default(),
            quarantined_bytes: 0,
        };
        let proven: Vec<(StreamId, Seq)> = spool.next_seqs();
        let untold_losses = spool.settle(&known, Found { lost, torn_off, gap_rows });
        let durable = match untold_losses.is_empty() {
            true if spool.next_seqs() == proven => Ok(()),
            true => spool.create_segment(SeriesId::home(&SpoolLane::Control.into())),
            false => spool.record_losses(untold_losses),
        };
        if let Err(error) = durable {
            // What raised them is read again at the next start, unless the index is lost by then.
            tracing::warn!(%error, "raised next seqs are not durable yet");
        }
        for (from, to) in &aside {
            if let Err(error) = disk.rename(from, to) {
                tracing::error!(%error, path = %from.display(), "broken segment could not be set aside");
            }
        }
        for (id, segno) in changes {
            // What could not be read is looked at again at the next start.
            let looked_at = |closed: &&Closed| !closed.unreadable && !closed.doubtful;
            let closed = spool.series(id).closed.get(&segno).filter(looked_at);
            if let Some((len, summary)) = closed.map(|closed| (closed.len, closed.summary.clone())) {
                spool.index.put_segment(id, segno, len, &summary);
            }
        }
        // Losses are on disk by now, so the index may forget of what they were read.
        for (id, segno) in known.segments.keys() {
            if spool.series.get(id).is_none_or(|series| !series.closed.contains_key(segno)) {
                spool.index.remove_segment(*id, *segno);
            }
        }
        spool.free_segments();
        Ok((spool, opened))
    }

    /// Seqs that were given and never became durable, in the last boot there are rows of.
    fn hole(&self, stream: StreamId, seqs: std::ops::Range<u64>) -> Lost {
        let ours = self.series.values().flat_map(Series::summaries).filter(|s| s.epoch == self.epoch);
        let boot_ordinal = ours.map(|summary| summary.boot_ordinal).max().unwrap_or(self.boot_ordinal);
        Lost { epoch: self.epoch, boot_ordinal, stream, seqs, cause: GapCause::Overrun }
    }

    fn next_seqs(&self) -> Vec<(StreamId, Seq)> {
        self.streams.iter().map(|(id, stream)| (*id, stream.entry.next_seq)).collect()
    }

    /// Raises next seqs to what is known elsewhere, takes over acks, and tells what is lost. Gives back those
    /// losses that no segment tells.
    fn settle(&mut self, known: &Remembered, found: Found) -> Vec<LostRange> {
        let Found { lost, torn_off, gap_rows } = found;
        let stood = self.next_seqs();
        let mut explained: BTreeMap<StreamId, IntervalSet> = BTreeMap::new();
        for gap in &gap_rows {
            let found = self.streams.iter_mut().find(|(_, stream)| stream.entry.name == gap.stream);
            if let Some((id, stream)) = found {
                gap.explained().for_each(|seqs| explained.entry(*id).or_default().insert(seqs));
                stream.entry.next_seq = stream.entry.next_seq.max(gap.seq_last.plus(1));
            }
        }
        let mut lost = lost;
        for summary in self.series.values().flat_map(Series::summaries) {
            let (epoch, boot_ordinal) = (summary.epoch, summary.boot_ordinal);
            lost.extend(summary.lost.iter().cloned().map(|range| Lost {
                epoch,
                boot_ordinal,
                stream: range.stream,
                seqs: range.seqs,
                cause: range.cause,
            }));
        }
        for loss in &lost {
            if let Some(stream) = self.streams.get_mut(&loss.stream).filter(|_| loss.epoch == self.epoch) {
                stream.entry.next_seq = stream.entry.next_seq.max(Seq(loss.seqs.end));
            }
        }
        let mut holes = Vec::new();
        // A record may speak of seqs beyond rows that waited in memory for a disk that refused them.
        for (id, from) in stood {
            let upto = self.streams.get(&id).map_or(from, |stream| stream.entry.next_seq);
            holes.extend((from < upto).then(|| self.hole(id, from.0..upto.0)));
        }
        let mut beyond = Vec::new();
        for (id, mark) in &known.streams {
            let Some(stream) = self.streams.get_mut(id).filter(|stream| stream.entry.name == mark.name)
            else {
                continue;
            };
            let next = stream.entry.next_seq;
            if mark.next_seq > next {
                beyond.push((*id, next.0..mark.next_seq.0));
                stream.entry.next_seq = mark.next_seq;
            }
            let end = stream.entry.next_seq.0;
            let within = mark.acked.present_in(0..end);
            within.into_iter().for_each(|range| stream.acked.insert(range));
        }
        let told = |lost: &Lost| {
            let told = explained.get(&lost.stream).filter(|_| lost.epoch == self.epoch);
            told.is_some_and(|told| told.covers(lost.seqs.clone()))
        };
        let vanished = self.vanished(known, torn_off.into_iter().filter(|lost| !told(lost)).collect());
        for Lost { epoch, boot_ordinal, stream, seqs, cause } in vanished.iter().cloned() {
            self.lose(epoch, boot_ordinal, stream, seqs, cause, "rows of a segment are gone with it");
        }
        let boot = self.boot_ordinal;
        let mut untold_losses = Vec::new();
        for (stream, seqs) in beyond {
            // What vanished segments held of it is told already.
            let mut untold = IntervalSet::new();
            untold.insert(seqs);
            vanished.iter().filter(|lost| lost.stream == stream).for_each(|l| untold.remove(l.seqs.clone()));
            for seqs in untold.iter() {
                let (cause, note) = (GapCause::TornTail, "synced rows are missing from the end");
                self.lose(self.epoch, boot, stream, seqs.clone(), cause, note);
                untold_losses.push(LostRange { stream, seqs, cause });
            }
        }
        let of_us = vanished.into_iter().filter(|lost| lost.epoch == self.epoch);
        untold_losses.extend(of_us.map(|l| LostRange { stream: l.stream, seqs: l.seqs, cause: l.cause }));
        for (id, told) in &explained {
            if let Some(stream) = self.streams.get_mut(id) {
                stream.explained.union_with(told);
            }
        }
        let epoch = self.epoch;
        for loss in lost.into_iter().filter(|loss| loss.epoch == epoch) {
            let told = explained.entry(loss.stream).or_default();
            let untold = told.missing_in(loss.seqs.clone());
            told.insert(loss.seqs);
            for seqs in untold {
                self.lose(loss.epoch, loss.boot_ordinal, loss.stream, seqs, loss.cause, note(loss.cause));
            }
        }
        for Lost { epoch, boot_ordinal, stream, seqs, cause } in holes {
            let told = explained.entry(stream).or_default();
            let untold = told.missing_in(seqs.clone());
            told.insert(seqs);
            for seqs in untold {
                let missing = self.lose(epoch, boot_ordinal, stream, seqs, cause, note(cause));
                untold_losses.extend(missing.into_iter().map(|seqs| LostRange { stream, seqs, cause }));
            }
        }
        untold_losses
    }
}

fn prepare<D: Disk>(disk: &D, dir: &Path) -> io::Result<()> {
    let seg = dir.join("seg");
    disk.create_dir_all(&seg)?;
    rename_plain(disk, &seg)?;
    let quarantine = dir.join("quarantine");
    disk.create_dir_all(&quarantine)?;
    prune(disk, &quarantine)?;
    disk.sync_dir(&seg)?;
    disk.sync_dir(dir)?;
    if matches!(disk.open(&dir.join("epoch")), Err(error) if error.kind() == io::ErrorKind::NotFound) {
        // At the first start the folder itself may be new, and those it lies in; not all of them are ours to open.
        for above in dir.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()) {
            if let Err(error) = disk.sync_dir(above) {
                tracing::debug!(%error, dir = %above.display(), "folder above the spool cannot be synced");
            }
        }
    }
    Ok(())
}

/// Folders of version 1 have the name of their lane alone.
fn rename_plain<D: Disk>(disk: &D, seg: &Path) -> io::Result<()> {
    let there = disk.list(seg)?;
    for lane in SpoolLane::ALL {
        let (from, to) = (seg.join(lane.as_str()), seg.join(SeriesId::plain(lane).dir_name()));
        if there.contains(&from) && !there.contains(&to) {
            disk.rename(&from, &to)?;
        }
    }
    Ok(())
}

/// Keeps what damage left behind within its bound: the lowest segment numbers, which are the oldest, go first.
fn prune<D: Disk>(disk: &D, quarantine: &Path) -> io::Result<()> {
    let mut kept: Vec<(u64, PathBuf, u64)> = Vec::new();
    for path in disk.list(quarantine)? {
        // Others keep folders here, with bounds of their own.
        let Some(segno) = segno_aside(&path) else { continue };
        // What cannot be looked at cannot be counted; it is no reason not to start.
        match disk.open(&path).and_then(|file| file.len()) {
            Ok(len) => kept.push((segno, path, len)),
            Err(error) => tracing::warn!(%error, path = %path.display(), "quarantined file cannot be read"),
        }
    }
    kept.sort();
    let mut bytes: u64 = kept.iter().map(|(_, _, len)| len).sum();
    for (_, path, len) in kept {
        if bytes <= QUARANTINE_BYTES_MAX {
            break;
        }
        tracing::warn!(path = %path.display(), len, "quarantine is full; its oldest file is removed");
        disk.unlink(&path)?;
        bytes = bytes.saturating_sub(len);
    }
    Ok(())
}

/// The segment number in the name of a file of ours in quarantine, such as `rot-media-000000000000000a-64`.
fn segno_aside(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    let ours = ["rot-", "tail-"].iter().any(|kind| name.starts_with(kind))
        || SpoolLane::ALL.iter().any(|lane| name.starts_with(lane.as_str()));
    let digits = name.split(['-', '.']).find(|part| part.len() == 16)?;
    u64::from_str_radix(digits, 16).ok().filter(|_| ours)
}

fn note(cause: GapCause) -> &'static str {
    match cause {
        GapCause::TornTail => "the end of a segment was torn off",
        GapCause::Overrun => "seqs were consumed without rows just before a power cut",
        _ => "a stored record failed its check",
    }
}

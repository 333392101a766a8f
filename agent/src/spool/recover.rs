//! Opening a spool: proves that seqs and stream ids go on where they stood, or starts a new epoch.

use super::disk_spool::{Closed, DiskSpool, Series, Settings, Stream, failed, segment_name};
use super::frame::{FrameKind, HEADER_BYTES, SegmentHeader};
use super::gaps::GapList;
use super::ident;
use super::index::{Index, NoIndex, Remembered, SpoolIndex};
use super::payload::{Declared, StreamTable, Summary, TableEntry, read_declaration};
use super::salvage::{Salvaged, salvage};
use super::scan::{FrameReader, read_footer, read_header, read_table, scan};
use super::sled_index::SledIndex;
use headwater_core::gap::{GapCause, GapRecord};
use headwater_core::id::{BootId, BootOrdinal, Epoch, Seq, StreamId};
use headwater_core::interval::IntervalSet;
use headwater_core::ports::{Disk, DiskFile, SpoolError, SpoolLane};
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::Path;

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

/// Rows that were in the spool and are not any more.
#[derive(Debug, Clone)]
struct Lost {
    epoch: Epoch,
    boot_ordinal: BootOrdinal,
    stream: StreamId,
    seqs: Range<u64>,
    cause: GapCause,
}

/// What the segments say, before anything is decided.
pub(super) struct Survey<'a, D: Disk> {
    disk: &'a D,
    dir: &'a Path,
    epoch: Option<Epoch>,
    known: &'a Remembered,
    tables: Vec<StreamTable>,
    /// Per lane: highest sound segment, plus one.
    found_upto: [u64; 3],
    lost: Vec<Lost>,
    gap_rows: Vec<GapRecord>,
    /// Why seqs or ids may have gone on further than can be seen.
    unproven: Option<&'static str>,
    boot_max: u32,
    index_changes: Vec<(SpoolLane, u64)>,
    opened: (u64, u64, u64),
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
            found_upto: [0; 3],
            lost: Vec::new(),
            gap_rows: Vec::new(),
            unproven: None,
            boot_max: 0,
            index_changes: Vec::new(),
            opened: (0, 0, 0),
        };
        let mut series = [Series::new(), Series::new(), Series::new()];
        for (lane, series) in SpoolLane::ALL.into_iter().zip(&mut series) {
            survey.lane(lane, series).map_err(failed("list its segments"))?;
        }
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
            free_checked_at: None,
            quarantined_bytes: 0,
        };
        spool.settle(&known, lost, &gap_rows);
        for (lane, segno) in changes {
            if let Some(closed) = spool.series(lane).closed.get(&segno).map(|c| (c.len, c.summary.clone())) {
                spool.index.put_segment(lane, segno, closed.0, &closed.1);
            }
        }
        for (lane, segno) in known.segments.keys() {
            let lane = super::frame::lane_from_code(*lane);
            if let Some(lane) = lane.filter(|lane| !spool.series(*lane).closed.contains_key(segno)) {
                spool.index.remove_segment(lane, *segno);
            }
        }
        SpoolLane::ALL.into_iter().for_each(|lane| spool.free_segments(lane));
        Ok((spool, opened))
    }

    /// Raises next seqs to what is known elsewhere, takes over acks, and tells what is lost.
    fn settle(&mut self, known: &Remembered, lost: Vec<Lost>, gap_rows: &[GapRecord]) {
        let mut explained: BTreeMap<StreamId, IntervalSet> = BTreeMap::new();
        for gap in gap_rows {
            let found = self.streams.iter_mut().find(|(_, stream)| stream.entry.name == gap.stream);
            if let Some((id, stream)) = found {
                explained.entry(*id).or_default().insert(gap.seq_first.0..gap.seq_last.plus(1).0);
                stream.entry.next_seq = stream.entry.next_seq.max(gap.seq_last.plus(1));
            }
        }
        let mut lost = lost;
        for summary in self.series.iter().flat_map(Series::summaries) {
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
        let boot = self.boot_ordinal;
        for (id, seqs) in beyond {
            self.lose(self.epoch, boot, id, seqs, GapCause::TornTail, "synced rows are missing from the end");
        }
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
    }
}

fn prepare<D: Disk>(disk: &D, dir: &Path) -> io::Result<()> {
    let seg = dir.join("seg");
    for lane in SpoolLane::ALL {
        disk.create_dir_all(&seg.join(lane.as_str()))?;
    }
    disk.create_dir_all(&dir.join("quarantine"))?;
    disk.sync_dir(&seg)?;
    disk.sync_dir(dir)
}

fn segno_of(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?.strip_suffix(".seg")?;
    (name.len() == 16).then(|| u64::from_str_radix(name, 16).ok())?
}

impl<D: Disk> Survey<'_, D> {
    /// Looks at the segments of a lane, newest first: only those that are not sealed are gone through.
    fn lane(&mut self, lane: SpoolLane, series: &mut Series<D::File>) -> io::Result<()> {
        let dir = self.dir.join("seg").join(lane.as_str());
        let mut segnos: Vec<u64> = self.disk.list(&dir)?.iter().filter_map(|path| segno_of(path)).collect();
        segnos.sort_unstable();
        let newest_any = segnos.last().copied().unwrap_or(0);
        series.next_segno = newest_any.saturating_add(1);
        let mut have_table = false;
        for segno in segnos.into_iter().rev() {
            self.opened.0 = self.opened.0.saturating_add(1);
            let path = dir.join(segment_name(segno));
            let file = match self.disk.open(&path) {
                Ok(file) => file,
                Err(error) => {
                    tracing::error!(%error, segno, "segment cannot be opened and is left alone");
                    self.unproven = Some("a segment cannot be opened");
                    continue;
                }
            };
            let Ok(len) = file.len() else {
                self.unproven = Some("a segment cannot be read");
                continue;
            };
            let remembered = self.known.segments.get(&(super::frame::lane_code(lane), segno));
            if let Some((_, summary)) = remembered.filter(|(known, _)| have_table && *known == len) {
                self.boot_max = self.boot_max.max(summary.boot_ordinal.0);
                series.closed.insert(segno, Closed { len, summary: summary.clone(), bad: Vec::new() });
                continue;
            }
            let header = match read_header(&file, len) {
                Ok(header) => header.filter(|header| header.lane == lane && header.segno == segno),
                Err(error) => {
                    tracing::error!(%error, segno, "segment cannot be read and is left alone");
                    self.unproven = self.unproven.or(Some("a segment cannot be read"));
                    continue;
                }
            };
            let table = header.and_then(|_| read_table(&file, segno, len));
            let (Some(header), Some(table)) = (header, table) else {
                self.broken(lane, segno, &file, len, have_table);
                drop(file);
                let aside =
                    self.dir.join("quarantine").join(format!("{}-{}", lane.as_str(), segment_name(segno)));
                match self.disk.rename(&path, &aside) {
                    Ok(()) => self.disk.sync_dir(&dir)?,
                    Err(error) => tracing::error!(%error, segno, "broken segment could not be set aside"),
                }
                self.opened.2 = self.opened.2.saturating_add(1);
                continue;
            };
            self.boot_max = self.boot_max.max(header.boot_ordinal.0);
            let ours = Some(header.epoch) == self.epoch;
            let newest = ours && !have_table;
            let closed = match read_footer(&file, segno, len) {
                Some(summary) => Closed { len, summary, bad: Vec::new() },
                None => self.unsealed(&file, header, &table, newest, len)?,
            };
            series.closed.insert(segno, closed);
            self.index_changes.push((lane, segno));
            if ours {
                have_table = true;
                self.tables.push(table);
            }
        }
        // Segments that were set aside do not count: tables never named one that was not finished.
        series.created_upto = series.closed.keys().next_back().map_or(1, |last| last.saturating_add(1));
        if let Some(upto) = self.found_upto.get_mut(usize::from(super::frame::lane_code(lane))) {
            *upto = series.created_upto;
        }
        Ok(())
    }

    /// A segment without a sound header or table. Without a single sound frame it was never finished,
    /// so nothing was in it; else its rows are lost, and if it was the newest, so is what proved the ids.
    fn broken(&mut self, lane: SpoolLane, segno: u64, file: &D::File, len: u64, have_table: bool) {
        let found = scan(file, segno, len, |_, _, _| ());
        let slabs: Vec<_> =
            found.frames.iter().filter(|(_, head)| head.meta.kind == FrameKind::Slab).collect();
        if !have_table && !slabs.is_empty() {
            self.unproven = Some("the newest segment of a lane lost its stream table");
        }
        tracing::error!(
            lane = lane.as_str(),
            segno,
            slabs = slabs.len(),
            "segment without header or table is set aside"
        );
        let Some(epoch) = self.epoch else { return };
        for (_, head) in slabs {
            self.lost.push(Lost {
                epoch,
                boot_ordinal: BootOrdinal(self.boot_max),
                stream: head.meta.stream,
                seqs: head.meta.seqs(),
                cause: GapCause::Corrupt,
            });
        }
    }

    /// A segment without a footer: its torn end is cut off and set aside, and it is sealed.
    fn unsealed(
        &mut self,
        file: &D::File,
        header: SegmentHeader,
        table: &StreamTable,
        newest: bool,
        len: u64,
    ) -> io::Result<Closed> {
        self.opened.1 = self.opened.1.saturating_add(1);
        let Salvaged { mut closed, gap_rows, unproven, torn, may_seal } = salvage(file, header, table, len);
        if let Some(torn) = torn {
            let name = format!("tail-{}-{}", header.lane.as_str(), segment_name(header.segno));
            if let Err(error) = write_torn(self.disk, self.dir, &name, file, &torn) {
                tracing::warn!(%error, name, "torn tail could not be set aside");
            }
        }
        if may_seal {
            closed = super::salvage::seal(file, header.segno, closed);
        }
        if newest {
            self.unproven = self.unproven.or(unproven);
        }
        self.gap_rows.extend(gap_rows);
        Ok(closed)
    }

    /// The newest declaration of each stream of this epoch.
    fn declarations(&self, series: &[Series<D::File>; 3]) -> BTreeMap<StreamId, Declared> {
        let mut newest: BTreeMap<StreamId, (BootOrdinal, u64, SpoolLane, u64)> = BTreeMap::new();
        for (lane, series) in SpoolLane::ALL.into_iter().zip(series) {
            for (segno, closed) in &series.closed {
                if Some(closed.summary.epoch) != self.epoch {
                    continue;
                }
                for (id, offset) in &closed.summary.declared {
                    let this = (closed.summary.boot_ordinal, *segno, lane, *offset);
                    let kept = newest.entry(*id).or_insert(this);
                    *kept = this.max(*kept);
                }
            }
        }
        let mut found = BTreeMap::new();
        for (id, (_, segno, lane, offset)) in newest {
            let path = self.dir.join("seg").join(lane.as_str()).join(segment_name(segno));
            let declared = self.disk.open(&path).and_then(|file| {
                let len = file.len()?;
                let mut frames = FrameReader::new(&file, segno, len);
                Ok(match frames.frame(offset.max(HEADER_BYTES)) {
                    Ok((head, payload)) if head.meta.kind == FrameKind::Stream => read_declaration(payload),
                    _ => None,
                })
            });
            match declared {
                Ok(Some(declared)) if declared.id == id => {
                    found.insert(id, declared);
                }
                // The stream goes on by its table entry; its schema comes with its next declaration.
                other => tracing::warn!(stream = id.0, ?other, "declaration cannot be read"),
            }
        }
        found
    }

    /// The stream table as of now, if there is one and nothing speaks against it.
    fn streams(
        &mut self,
        series: &[Series<D::File>; 3],
        declared: &BTreeMap<StreamId, Declared>,
    ) -> Option<BTreeMap<StreamId, Stream>> {
        let mut streams: BTreeMap<StreamId, Stream> = BTreeMap::new();
        if self.tables.is_empty() {
            return None;
        }
        for table in std::mem::take(&mut self.tables) {
            if self.found_upto.iter().zip(&table.next_segno).any(|(found, upto)| found < upto) {
                self.unproven = self.unproven.or(Some("the newest segment of a lane is gone"));
            }
            for (id, entry) in table.streams {
                let known = streams.entry(id).or_insert_with(|| Stream {
                    entry: entry.clone(),
                    schema: None,
                    acked: IntervalSet::new(),
                    explained: IntervalSet::new(),
                });
                if known.entry.name != entry.name {
                    self.unproven = self.unproven.or(Some("two stream tables contradict each other"));
                }
                if entry.next_seq > known.entry.next_seq {
                    known.entry = entry;
                }
            }
        }
        for (id, found) in declared {
            let stream = streams.entry(*id).or_insert_with(|| Stream {
                entry: TableEntry {
                    name: found.name.clone(),
                    lane: found.lane,
                    fingerprint: found.schema.fingerprint(),
                    next_seq: Seq(0),
                },
                schema: None,
                acked: IntervalSet::new(),
                explained: IntervalSet::new(),
            });
            if stream.entry.name == found.name {
                stream.schema = Some(found.schema.clone());
            }
        }
        let ours = series.iter().flat_map(Series::summaries).filter(|s| Some(s.epoch) == self.epoch);
        for summary in ours {
            raise(&mut streams, summary);
        }
        Some(streams)
    }
}

fn note(cause: GapCause) -> &'static str {
    match cause {
        GapCause::TornTail => "the end of a segment was torn off",
        GapCause::Overrun => "seqs were consumed without rows just before a power cut",
        _ => "a stored record failed its check",
    }
}

fn raise(streams: &mut BTreeMap<StreamId, Stream>, summary: &Summary) {
    for (id, part) in &summary.streams {
        let end = part.seqs.iter().last().map_or(0, |range| range.end);
        if let Some(stream) = streams.get_mut(id) {
            stream.entry.next_seq = stream.entry.next_seq.max(Seq(end));
        }
    }
}

fn write_torn<D: Disk>(
    disk: &D,
    dir: &Path,
    name: &str,
    file: &D::File,
    range: &std::ops::Range<u64>,
) -> io::Result<()> {
    match super::read::copy(file, range) {
        Some((at, bytes)) => super::read::write_aside(disk, dir, &format!("{name}-{at}"), &bytes),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

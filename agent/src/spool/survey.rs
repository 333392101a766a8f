//! What the files of a spool say, before anything is decided.

use super::adopt::{COPY_SUFFIX, seal, synced};
use super::frame::{FrameKind, HEADER_BYTES, SegmentHeader};
use super::ident::set_folder_aside;
use super::index::Remembered;
use super::payload::{Declared, StreamTable, Summary, TableEntry, read_declaration};
use super::read::{copy, write_aside};
use super::salvage::{Salvaged, salvage, stored_gap_rows};
use super::scan::{FOOTER_BYTES_MAX, FrameReader, read_footer, read_header, read_table, scan};
use super::series::{Closed, Series, Stream, segment_name};
use super::series_id::{Rank, SeriesId};
use headwater_core::gap::{GapCause, GapRecord};
use headwater_core::id::{BootOrdinal, Epoch, Seq, StreamId};
use headwater_core::ports::{Disk, DiskFile, SpoolLane};
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Rows that were in the spool and are not any more.
#[derive(Debug, Clone)]
pub(super) struct Lost {
    pub(super) epoch: Epoch,
    pub(super) boot_ordinal: BootOrdinal,
    pub(super) stream: StreamId,
    pub(super) seqs: Range<u64>,
    pub(super) cause: GapCause,
}

/// What the segments say.
pub(super) struct Survey<'a, D: Disk> {
    pub(super) disk: &'a D,
    pub(super) dir: &'a Path,
    pub(super) epoch: Option<Epoch>,
    pub(super) known: &'a Remembered,
    pub(super) tables: Vec<StreamTable>,
    /// Per series: highest sound segment, plus one.
    pub(super) found_upto: BTreeMap<SeriesId, u64>,
    pub(super) lost: Vec<Lost>,
    pub(super) gap_rows: Vec<GapRecord>,
    /// Why seqs or ids may have gone on further than can be seen.
    pub(super) unproven: Option<&'static str>,
    pub(super) boot_max: u32,
    pub(super) index_changes: Vec<(SeriesId, u64)>,
    /// Rows that were synced into a newest segment before its end was torn off, as tables of other series attest.
    pub(super) torn_off: Vec<Lost>,
    pub(super) torn: Vec<Torn>,
    /// Broken segments and where to put them, once what they have lost is recorded.
    pub(super) aside: Vec<(PathBuf, PathBuf)>,
    pub(super) opened: (u64, u64, u64),
}

/// The series of a spool.
pub(super) type SeriesMap<F> = BTreeMap<SeriesId, Series<F>>;

/// How far the newest segment of a series reaches for each of its streams, its end being torn off or a part of it
/// damaged.
pub(super) struct Torn {
    series: SeriesId,
    boot_ordinal: BootOrdinal,
    reached: BTreeMap<StreamId, u64>,
    cause: GapCause,
}

impl Torn {
    fn new(header: SegmentHeader, table: &StreamTable, summary: &Summary, cause: GapCause) -> Self {
        let usual = SeriesId::home(&header.series.lane.into()) == header.series;
        let of_lane = table.streams.iter().filter(|(_, entry)| usual && entry.lane == header.series.lane);
        let ids = summary.declared.keys().chain(of_lane.map(|(id, _)| id));
        let stood = |id: &StreamId| table.streams.get(id).map_or(0, |entry| entry.next_seq.0);
        let mut reached: BTreeMap<StreamId, u64> = ids.map(|id| (*id, stood(id))).collect();
        let held = summary.streams.iter().flat_map(|(id, part)| part.seqs.iter().map(|seqs| (*id, seqs.end)));
        for (id, end) in held.chain(summary.lost.iter().map(|lost| (lost.stream, lost.seqs.end))) {
            let upto = reached.entry(id).or_default();
            *upto = end.max(*upto);
        }
        Self { series: header.series, boot_ordinal: header.boot_ordinal, reached, cause }
    }
}

/// Where a table is, if there is one.
const TABLE_LOOK_BYTES: u64 = 64 << 10;

fn segno_of(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?.strip_suffix(".seg")?;
    (name.len() == 16).then(|| u64::from_str_radix(name, 16).ok())?
}

impl<D: Disk> Survey<'_, D> {
    /// Looks at all series there are folders of.
    pub(super) fn all(&mut self) -> io::Result<SeriesMap<D::File>> {
        let seg = self.dir.join("seg");
        let mut found = BTreeMap::new();
        for path in self.disk.list(&seg)? {
            let name = path.file_name().and_then(|name| name.to_str());
            match name.and_then(SeriesId::from_dir_name) {
                Some(id) => {
                    let mut series = Series::default();
                    self.series(id, &mut series)?;
                    found.insert(id, series);
                }
                None => tracing::warn!(path = %path.display(), "is no folder of segments and is left alone"),
            }
        }
        Ok(found)
    }

    /// Looks at the segments of a series, newest first: only those that are not sealed are gone through.
    fn series(&mut self, id: SeriesId, series: &mut Series<D::File>) -> io::Result<()> {
        let dir = self.dir.join("seg").join(id.dir_name());
        let there = self.disk.list(&dir)?;
        for path in there.iter().filter(|path| path.extension().is_some_and(|end| end == COPY_SUFFIX)) {
            if let Err(error) = self.disk.unlink(path) {
                tracing::warn!(%error, path = %path.display(), "incomplete copy of a segment stays");
            }
        }
        let mut segnos: Vec<u64> = there.iter().filter_map(|path| segno_of(path)).collect();
        segnos.sort_unstable();
        let newest_any = segnos.last().copied().unwrap_or(0);
        series.next_segno = newest_any.saturating_add(1);
        let mut have_table = false;
        let mut broken = Vec::new();
        for segno in segnos.into_iter().rev() {
            self.opened.0 = self.opened.0.saturating_add(1);
            let path = dir.join(segment_name(segno));
            let file = match self.disk.open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
                    set_folder_aside(self.disk, self.dir, &path)?;
                    broken.push(segno);
                    self.opened.2 = self.opened.2.saturating_add(1);
                    continue;
                }
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
            let remembered = self.known.segments.get(&(id, segno));
            if let Some((_, summary)) = remembered.filter(|(known, _)| have_table && *known == len) {
                self.boot_max = self.boot_max.max(summary.boot_ordinal.0);
                series.closed.insert(segno, Closed::new(len, summary.clone()));
                continue;
            }
            // A footer says all of a sealed segment; only of the newest of a life the table is needed. Without an index
            // this halves what is read of a thousand cold files.
            let sealed = have_table.then(|| read_footer(&file, segno, len)).flatten();
            if let Some(summary) = sealed.filter(|summary| Some(summary.epoch) == self.epoch) {
                self.boot_max = self.boot_max.max(summary.boot_ordinal.0);
                series.closed.insert(segno, Closed::new(len, summary));
                self.index_changes.push((id, segno));
                continue;
            }
            let header = match read_header(&file, len) {
                Ok(header) => header.filter(|header| header.series == id && header.segno == segno),
                Err(error) => {
                    tracing::error!(%error, segno, "segment cannot be read and is left alone");
                    self.unproven = self.unproven.or(Some("a segment cannot be read"));
                    continue;
                }
            };
            let mut table = header.and_then(|_| read_table(&file, segno, len));
            if header.is_some() && table.is_none() {
                // A read error is no damage: what cannot be read now is left for the next start.
                if copy(&file, &(HEADER_BYTES..len.min(TABLE_LOOK_BYTES))).is_none() {
                    tracing::error!(segno, "segment cannot be read and is left alone");
                    self.unproven = self.unproven.or(Some("a segment cannot be read"));
                    continue;
                }
                table = read_table(&file, segno, len);
            }
            let (Some(header), Some(table)) = (header, table) else {
                self.broken(id, segno, &file, len, have_table);
                drop(file);
                let aside =
                    self.dir.join("quarantine").join(format!("{}-{}", id.dir_name(), segment_name(segno)));
                self.aside.push((path, aside));
                self.opened.2 = self.opened.2.saturating_add(1);
                broken.push(segno);
                continue;
            };
            self.boot_max = self.boot_max.max(header.boot_ordinal.0);
            let ours = Some(header.epoch) == self.epoch;
            let newest = ours && !have_table;
            let closed = match read_footer(&file, segno, len) {
                Some(summary) => {
                    // A start that sealed it may have ended before a table said what these rows raise.
                    if newest && id.lane == SpoolLane::Control {
                        self.gap_rows.extend(stored_gap_rows(&file, segno, len));
                    }
                    Closed::new(len, summary)
                }
                None => self.unsealed(&file, header, &table, newest, len, series)?,
            };
            series.closed.insert(segno, closed);
            self.index_changes.push((id, segno));
            if ours {
                have_table = true;
                self.tables.push(table);
            }
        }
        // A process that was killed may have left a file whose name is in the page cache only: what is read from it now
        // is shipped, and must not go with the power.
        if let Err(error) = self.disk.sync_dir(&dir) {
            tracing::warn!(%error, series = id.dir_name(), "names of segments may not outlive a power cut");
        }
        broken.into_iter().for_each(|segno| self.between(id, segno, series));
        // Segments that were set aside do not count: tables never named one that was not finished.
        series.created_upto = series.closed.keys().next_back().map_or(1, |last| last.saturating_add(1));
        self.found_upto.insert(id, series.created_upto);
        Ok(())
    }

    /// A segment without a sound header or table. Without a single sound frame it was never finished,
    /// so nothing was in it; else its rows are lost, and if it was the newest, so is what proved the ids.
    fn broken(&mut self, id: SeriesId, segno: u64, file: &D::File, len: u64, have_table: bool) {
        let found = scan(file, segno, len, |_, _, _| ());
        let slabs: Vec<_> =
            found.frames.iter().filter(|(_, head)| head.meta.kind == FrameKind::Slab).collect();
        if !have_table && !slabs.is_empty() {
            self.unproven = Some("the newest segment of a series lost its stream table");
        }
        tracing::error!(
            series = id.dir_name(),
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

    /// A segment without a footer: its torn end is cut off and set aside, and it is sealed. On a full disk a torn end
    /// stays: it is all that tells of the rows in it, and cutting it off would not make room for sure.
    fn unsealed(
        &mut self,
        file: &D::File,
        header: SegmentHeader,
        table: &StreamTable,
        newest: bool,
        len: u64,
        series: &Series<D::File>,
    ) -> io::Result<Closed> {
        self.opened.1 = self.opened.1.saturating_add(1);
        let Salvaged { mut closed, gap_rows, unproven, torn } = salvage(file, header, table, len);
        if let Some(torn) = &torn {
            let name = format!("tail-{}-{}", header.series.dir_name(), segment_name(header.segno));
            if let Err(error) = write_torn(self.disk, self.dir, &name, file, torn) {
                tracing::warn!(%error, name, "torn tail could not be set aside");
            }
        }
        let damaged = !closed.bad.is_empty() || closed.unreadable;
        if !newest && (torn.is_some() || damaged) {
            self.complete(header.series, header.segno, table, &mut closed, series);
        }
        let room = || self.disk.free_bytes(self.dir).is_ok_and(|free| free >= FOOTER_BYTES_MAX as u64);
        closed = match &torn {
            Some(_) if !room() => synced(file.sync(), header.segno, closed),
            torn => seal(file, header.segno, closed, torn.as_ref()),
        };
        if newest {
            self.unproven = self.unproven.or(unproven);
            // Damage may have taken a declaration with all rows under it: only another series' table knows of them.
            if torn.is_some() || damaged {
                let cause = if torn.is_some() { GapCause::TornTail } else { GapCause::Corrupt };
                self.torn.push(Torn::new(header, table, &closed.summary, cause));
            }
        }
        self.gap_rows.extend(gap_rows);
        Ok(closed)
    }

    /// The newest declaration of each stream of this epoch.
    pub(super) fn declarations(&self, series: &SeriesMap<D::File>) -> BTreeMap<StreamId, Declared> {
        // Series count their segments each by itself: rows tell which of two declarations is the newer one.
        let mut newest: BTreeMap<StreamId, (BootOrdinal, u64, u64, SeriesId, u64)> = BTreeMap::new();
        for (of, series) in series {
            for (segno, closed) in &series.closed {
                if Some(closed.summary.epoch) != self.epoch {
                    continue;
                }
                for (id, offset) in &closed.summary.declared {
                    let end = closed.summary.streams.get(id).map_or(0, |part| part.seqs.end());
                    let this = (closed.summary.boot_ordinal, end, *segno, *of, *offset);
                    let kept = newest.entry(*id).or_insert(this);
                    *kept = this.max(*kept);
                }
            }
        }
        let mut found = BTreeMap::new();
        for (id, (_, _, segno, of, offset)) in newest {
            let path = self.dir.join("seg").join(of.dir_name()).join(segment_name(segno));
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
    pub(super) fn streams(
        &mut self,
        series: &SeriesMap<D::File>,
        declared: &BTreeMap<StreamId, Declared>,
    ) -> Option<BTreeMap<StreamId, Stream>> {
        let mut streams: BTreeMap<StreamId, Stream> = BTreeMap::new();
        if self.tables.is_empty() {
            return None;
        }
        for table in std::mem::take(&mut self.tables) {
            let found = |id: &SeriesId| self.found_upto.get(id).copied().unwrap_or(1);
            if table.next_segno.iter().any(|(id, upto)| found(id) < *upto) {
                self.unproven = self.unproven.or(Some("the newest segment of a series is gone"));
            }
            for (id, entry) in table.streams {
                let known = streams.entry(id).or_insert_with(|| Stream::new(entry.clone(), None));
                if known.entry.name != entry.name {
                    self.unproven = self.unproven.or(Some("two stream tables contradict each other"));
                }
                if entry.next_seq > known.entry.next_seq {
                    known.entry = entry;
                }
            }
        }
        for (id, found) in declared {
            let entry = || TableEntry {
                name: found.name.clone(),
                lane: found.lane,
                fingerprint: found.schema.fingerprint(),
                next_seq: Seq(0),
            };
            let stream = streams.entry(*id).or_insert_with(|| Stream::new(entry(), None));
            if stream.entry.name == found.name {
                // One declared last and without rows yet may be passed over; its agent declares it again.
                stream.entry.fingerprint = found.schema.fingerprint();
                stream.schema = Some(found.schema.clone());
            }
        }
        let ours = series.values().flat_map(Series::summaries).filter(|s| Some(s.epoch) == self.epoch);
        for summary in ours {
            raise(&mut streams, summary);
        }
        for Torn { series: of, boot_ordinal, reached, cause } in std::mem::take(&mut self.torn) {
            // What a temporal layer lacks may be in another one; that shows when all are looked at.
            let layered = |other: &SeriesId| {
                *other != of
                    && other.lane == of.lane
                    && matches!((other.rank, of.rank), (Rank::Thin(_), Rank::Thin(_)))
            };
            if series.keys().any(layered) {
                continue;
            }
            let usual = SeriesId::home(&of.lane.into()) == of;
            for (id, stream) in &streams {
                // Declarations may be damaged too; then a lane's usual series is taken to hold all of the lane.
                let unnamed = (usual && stream.entry.lane == of.lane).then_some(0);
                let Some(upto) = reached.get(id).copied().or(unnamed) else { continue };
                if let Some(epoch) = self.epoch.filter(|_| upto < stream.entry.next_seq.0) {
                    let seqs = upto..stream.entry.next_seq.0;
                    self.torn_off.push(Lost { epoch, boot_ordinal, stream: *id, seqs, cause });
                }
            }
        }
        Some(streams)
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
    range: &Range<u64>,
) -> io::Result<()> {
    match copy(file, range) {
        Some((at, bytes)) => write_aside(disk, dir, &format!("{name}-{at}"), &bytes),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

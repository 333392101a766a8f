//! The spool on a disk: what it keeps in memory, and how slabs become durable.

use super::frame::{FrameKind, FrameMeta, Place, SegmentHeader, frame_bytes, put_frame};
use super::gaps::GapList;
use super::index::Index;
use super::payload::{LostRange, StreamTable, Summary, TableEntry, declaration_bytes, slab_payload};
use super::salvage::{gap_rows, is_gap_rows};
use super::task::span;
use headwater_core::batch::{Rows, StreamRef};
use headwater_core::gap::GapRecord;
use headwater_core::id::{BootId, BootOrdinal, Epoch, STREAMS_MAX, Seq, StreamId, StreamName};
use headwater_core::interval::IntervalSet;
use headwater_core::ports::{
    Cursor, Disk, DiskFile, Slab, Spool, SpoolError, SpoolLane, SpoolUsage, SpooledSlab, StreamState,
};
use headwater_core::schema::Schema;
use headwater_core::time::ClockDomain;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::PathBuf;

/// Size and budget of a spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// A segment is sealed when the next slab would pass this, bytes.
    pub segment_bytes: u64,
    /// Most bytes of segment files.
    pub bytes_max: u64,
    /// Bytes of the file system left to others.
    pub free_bytes_min: u64,
    /// Start a new epoch whatever is found: the collector knows seqs beyond ours (R7).
    pub new_epoch: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { segment_bytes: 8 << 20, bytes_max: 4 << 30, free_bytes_min: 64 << 20, new_epoch: false }
    }
}

/// Part of the budget only lane control may use, so that gap records fit when data does not.
pub(super) const CONTROL_RESERVE_BYTES: u64 = 1 << 20;
/// Most bytes appended and not synced; the next append syncs by itself. Bounds memory when a disk fails.
const PENDING_BYTES_MAX: u64 = 4 << 20;
/// Syncs and trims between two flushes of the index.
const INDEX_FLUSH_EVERY: u32 = 16;
/// Bytes written between two looks at the file system's free space.
const FREE_CHECK_BYTES: u64 = 1 << 20;

/// A stream as the spool knows it.
#[derive(Debug, Clone)]
pub(super) struct Stream {
    pub(super) entry: TableEntry,
    /// Unknown for a stream remembered from a table, until it is declared again.
    pub(super) schema: Option<Schema>,
    pub(super) acked: IntervalSet,
    /// Seqs a stored row of `hw/gaps` accounts for.
    pub(super) explained: IntervalSet,
}

/// A segment that is not written any more.
#[derive(Debug)]
pub(super) struct Closed {
    /// Bytes that may be read.
    pub(super) len: u64,
    pub(super) summary: Summary,
    /// Damage found in it.
    pub(super) bad: Vec<Range<u64>>,
}

/// The segment being written.
#[derive(Debug)]
pub(super) struct Open<F> {
    pub(super) segno: u64,
    pub(super) file: F,
    len: u64,
    /// Readable part; `body.summary` covers just that.
    pub(super) body: Closed,
}

/// A slab as it was written, kept until its sync returned.
#[derive(Debug)]
struct Pending {
    meta: FrameMeta,
    payload: Vec<u8>,
}

/// The segments of one lane.
#[derive(Debug)]
pub(super) struct Series<F> {
    pub(super) next_segno: u64,
    /// All segments that were ever complete have lower numbers.
    pub(super) created_upto: u64,
    pub(super) closed: BTreeMap<u64, Closed>,
    pub(super) open: Option<Open<F>>,
    /// Written to `open` if there is one; else waiting for one.
    pending: Vec<Pending>,
    pub(super) reader: Option<(u64, F)>,
}

impl<F> Series<F> {
    pub(super) fn new() -> Self {
        Self {
            next_segno: 1,
            created_upto: 1,
            closed: BTreeMap::new(),
            open: None,
            pending: Vec::new(),
            reader: None,
        }
    }

    pub(super) fn summaries(&self) -> impl Iterator<Item = &Summary> {
        let open = self.open.as_ref().map(|open| &open.body.summary);
        self.closed.values().map(|closed| &closed.summary).chain(open)
    }

    /// The segment with the newest synced table: never unlinked.
    fn newest(&self) -> Option<u64> {
        self.open.as_ref().map(|open| open.segno).or_else(|| self.closed.keys().next_back().copied())
    }
}

/// The spool on a [`Disk`].
#[derive(Debug)]
pub struct DiskSpool<D: Disk> {
    pub(super) disk: D,
    pub(super) dir: PathBuf,
    pub(super) settings: Settings,
    pub(super) epoch: Epoch,
    pub(super) boot_ordinal: BootOrdinal,
    pub(super) boot_id: BootId,
    pub(super) streams: BTreeMap<StreamId, Stream>,
    pub(super) acked_older: BTreeMap<(Epoch, StreamId), IntervalSet>,
    pub(super) series: [Series<D::File>; 3],
    pub(super) gaps: GapList,
    pub(super) index: Index,
    pub(super) index_ticks: u32,
    pub(super) written_bytes: u64,
    pub(super) free_checked_at: Option<u64>,
    pub(super) quarantined_bytes: u64,
}

pub(super) fn failed(what: &'static str) -> impl FnOnce(io::Error) -> SpoolError {
    move |source| SpoolError::Io { what, source }
}

pub(super) fn slot(lane: SpoolLane) -> usize {
    usize::from(super::frame::lane_code(lane))
}

pub(super) fn segment_name(segno: u64) -> String {
    format!("{segno:016x}.seg")
}

impl<D: Disk> DiskSpool<D> {
    pub(super) fn lane_dir(&self, lane: SpoolLane) -> PathBuf {
        self.dir.join("seg").join(lane.as_str())
    }

    #[expect(clippy::indexing_slicing, reason = "three lanes, three series")]
    pub(super) fn series(&mut self, lane: SpoolLane) -> &mut Series<D::File> {
        &mut self.series[slot(lane)]
    }

    /// The stream table as far as it is durable: slabs not yet synced may vanish in a power cut, and the
    /// seqs of vanished slabs are given again, not left out.
    fn table(&self) -> StreamTable {
        let [control, telemetry, media] = &self.series;
        let mut streams: BTreeMap<StreamId, TableEntry> =
            self.streams.iter().map(|(id, stream)| (*id, stream.entry.clone())).collect();
        for item in self.series.iter().flat_map(|series| &series.pending) {
            if let Some(entry) = streams.get_mut(&item.meta.stream) {
                entry.next_seq = entry.next_seq.min(item.meta.seq_first);
            }
        }
        let next_segno = [control.created_upto, telemetry.created_upto, media.created_upto];
        StreamTable { next_segno, streams }
    }

    fn used_bytes(&self) -> u64 {
        self.series
            .iter()
            .map(|series| {
                let closed: u64 = series.closed.values().map(|closed| closed.len).sum();
                closed.saturating_add(series.open.as_ref().map_or(0, |open| open.len))
            })
            .fold(0, u64::saturating_add)
    }

    fn full(&self) -> SpoolError {
        SpoolError::Full { used: self.used_bytes(), budget: self.settings.bytes_max }
    }

    fn refuse(&self, what: &'static str, error: io::Error) -> SpoolError {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => self.full(),
            _ => SpoolError::Io { what, source: error },
        }
    }

    fn check_room(&mut self, lane: SpoolLane, need: u64) -> Result<(), SpoolError> {
        let reserve = match lane {
            SpoolLane::Control => 0,
            _ => CONTROL_RESERVE_BYTES.min(self.settings.bytes_max / 8),
        };
        if self.used_bytes().saturating_add(need).saturating_add(reserve) > self.settings.bytes_max {
            return Err(self.full());
        }
        let look = self
            .free_checked_at
            .is_none_or(|at| self.written_bytes.saturating_add(need).saturating_sub(at) >= FREE_CHECK_BYTES);
        if look && lane != SpoolLane::Control {
            let free = self.disk.free_bytes(&self.dir).map_err(failed("ask for free space"))?;
            if free < self.settings.free_bytes_min.saturating_add(need) {
                return Err(self.full());
            }
            self.free_checked_at = Some(self.written_bytes);
        }
        Ok(())
    }

    /// Creates the next segment of a lane: header, table and declarations, all durable with its name
    /// before any slab. Slabs waiting for a segment are written to it.
    fn create_segment(&mut self, lane: SpoolLane) -> Result<(), SpoolError> {
        let dir = self.lane_dir(lane);
        let series = self.series(lane);
        let segno = series.next_segno;
        series.next_segno = segno.saturating_add(1);
        let mut summary = Summary::new(self.epoch, self.boot_ordinal);
        let header = SegmentHeader {
            lane,
            segno,
            epoch: self.epoch,
            boot_ordinal: self.boot_ordinal,
            boot_id: self.boot_id,
        };
        let mut bytes = header.to_bytes();
        let place = |bytes: &Vec<u8>| Place { segno, offset: bytes.len() as u64 };
        let at = place(&bytes);
        let none = FrameMeta::plain(FrameKind::Table, StreamId(0));
        put_frame(&mut bytes, at, &none, 0, &self.table().to_bytes());
        for (id, stream) in self.streams.iter().filter(|(_, stream)| stream.entry.lane == lane) {
            if let Some(schema) = &stream.schema {
                let at = place(&bytes);
                summary.declared.insert(*id, at.offset);
                let payload = declaration_bytes(*id, &stream.entry.name, lane, schema);
                put_frame(&mut bytes, at, &FrameMeta::plain(FrameKind::Stream, *id), 0, &payload);
            }
        }
        let path = dir.join(segment_name(segno));
        let made = self.disk.create(&path).and_then(|file| {
            file.write_at(&bytes, 0)?;
            file.sync()?;
            self.disk.sync_dir(&dir)?;
            Ok(file)
        });
        let file = match made {
            Ok(file) => file,
            Err(error) => {
                if let Err(error) = self.disk.unlink(&path) {
                    tracing::debug!(%error, segno, "half-made segment stays until the next start");
                }
                return Err(self.refuse("create a segment", error));
            }
        };
        let len = bytes.len() as u64;
        self.written_bytes = self.written_bytes.saturating_add(len);
        let series = self.series(lane);
        series.created_upto = segno.saturating_add(1);
        series.open = Some(Open { segno, file, len, body: Closed { len, summary, bad: Vec::new() } });
        self.write_waiting(lane)?;
        self.free_segments(lane);
        Ok(())
    }

    fn write_waiting(&mut self, lane: SpoolLane) -> Result<(), SpoolError> {
        let waiting = std::mem::take(&mut self.series(lane).pending);
        let wrote = waiting.iter().try_for_each(|pending| self.write_frame(lane, pending));
        self.series(lane).pending = waiting;
        wrote.map_err(|error| {
            self.abandon(lane);
            self.refuse("write waiting slabs", error)
        })
    }

    /// Writes a slab (and before the first of its stream the declaration) to the open segment.
    fn write_frame(&mut self, lane: SpoolLane, item: &Pending) -> io::Result<()> {
        let id = item.meta.stream;
        let declaration = self.streams.get(&id).and_then(|stream| {
            Some(declaration_bytes(id, &stream.entry.name, lane, stream.schema.as_ref()?))
        });
        let Some(open) = self.series(lane).open.as_mut() else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let mut bytes = Vec::with_capacity(item.payload.len().saturating_add(64));
        let mut declared = None;
        if let Some(payload) = declaration.filter(|_| !open.body.summary.declared.contains_key(&id)) {
            declared = Some(open.len);
            let place = Place { segno: open.segno, offset: open.len };
            let meta = FrameMeta::plain(FrameKind::Stream, id);
            put_frame(&mut bytes, place, &meta, open.body.len, &payload);
        }
        let place = Place { segno: open.segno, offset: open.len.saturating_add(bytes.len() as u64) };
        put_frame(&mut bytes, place, &item.meta, open.body.len, &item.payload);
        open.file.write_at(&bytes, open.len)?;
        open.len = open.len.saturating_add(bytes.len() as u64);
        if let Some(offset) = declared {
            open.body.summary.declared.insert(id, offset);
        }
        self.written_bytes = self.written_bytes.saturating_add(bytes.len() as u64);
        Ok(())
    }

    /// Writes the declaration of a stream to its lane and syncs it.
    fn write_declaration(&mut self, lane: SpoolLane, id: StreamId) -> Result<(), SpoolError> {
        let payload = self.streams.get(&id).and_then(|stream| {
            Some(declaration_bytes(id, &stream.entry.name, lane, stream.schema.as_ref()?))
        });
        let series = self.series(lane);
        let (Some(open), Some(payload)) = (series.open.as_mut(), payload) else {
            return self.create_segment(lane);
        };
        let mut bytes = Vec::new();
        let place = Place { segno: open.segno, offset: open.len };
        put_frame(&mut bytes, place, &FrameMeta::plain(FrameKind::Stream, id), open.body.len, &payload);
        match open.file.write_at(&bytes, open.len).and_then(|()| open.file.sync()) {
            Ok(()) => {
                open.body.summary.declared.insert(id, open.len);
                open.len = open.len.saturating_add(bytes.len() as u64);
                self.written_bytes = self.written_bytes.saturating_add(bytes.len() as u64);
                self.promote(lane);
                Ok(())
            }
            Err(error) => {
                tracing::warn!(%error, "declaration goes to a new segment");
                self.abandon(lane);
                self.sync_lane(lane)?;
                if self.series(lane).open.is_none() { self.create_segment(lane) } else { Ok(()) }
            }
        }
    }

    /// A stored row of `hw/gaps` accounts for seqs whose segment may then go.
    fn note_gap_rows(&mut self, rows: &Rows) {
        for gap in gap_rows(rows) {
            if let Some(stream) = self.streams.values_mut().find(|s| s.entry.name == gap.stream) {
                stream.explained.insert(gap.seq_first.0..gap.seq_last.plus(1).0);
            }
        }
    }

    /// A segment whose sync or write failed is never written or synced again: what was proven durable
    /// stays readable, what was not is still in memory and goes to another segment.
    fn abandon(&mut self, lane: SpoolLane) {
        let series = self.series(lane);
        if let Some(open) = series.open.take() {
            tracing::error!(lane = lane.as_str(), segno = open.segno, "segment given up after a disk error");
            series.closed.insert(open.segno, open.body);
        }
    }

    /// Makes a lane durable. `true` if there was something to do.
    fn sync_lane(&mut self, lane: SpoolLane) -> Result<bool, SpoolError> {
        if self.series(lane).pending.is_empty() {
            return Ok(false);
        }
        for last_try in [false, true] {
            if self.series(lane).open.is_none() {
                self.create_segment(lane)?;
            }
            match self.series(lane).open.as_ref().map_or(Ok(()), |open| open.file.sync()) {
                Ok(()) => {
                    self.promote(lane);
                    return Ok(true);
                }
                Err(error) => {
                    self.abandon(lane);
                    if last_try {
                        return Err(self.refuse("sync a segment", error));
                    }
                }
            }
        }
        Ok(true)
    }

    /// What was pending is durable now.
    fn promote(&mut self, lane: SpoolLane) {
        let series = self.series(lane);
        if let Some(open) = series.open.as_mut() {
            for item in series.pending.drain(..) {
                open.body.summary.add(&item.meta, frame_bytes(item.payload.len()));
            }
            open.body.len = open.len;
        }
    }

    /// Seals the open segment of a lane with a footer.
    fn seal(&mut self, lane: SpoolLane) -> Result<(), SpoolError> {
        self.sync_lane(lane)?;
        let Some(open) = self.series(lane).open.take() else { return Ok(()) };
        let (segno, mut body) = (open.segno, open.body);
        let mut bytes = Vec::new();
        put_footer(&mut bytes, Place { segno, offset: open.len }, &body.summary);
        match open.file.write_at(&bytes, open.len).and_then(|()| open.file.sync()) {
            Ok(()) => {
                body.len = open.len.saturating_add(bytes.len() as u64);
                self.written_bytes = self.written_bytes.saturating_add(bytes.len() as u64);
                self.index.put_segment(lane, segno, body.len, &body.summary);
            }
            // Its slabs are durable; only the shortcut of the footer is missing.
            Err(error) => tracing::warn!(%error, segno, "segment stays without a footer"),
        }
        self.series(lane).closed.insert(segno, body);
        Ok(())
    }

    /// An open segment with room for `need` more bytes.
    fn make_room(&mut self, lane: SpoolLane, need: u64) -> Result<(), SpoolError> {
        let limit = self.settings.segment_bytes;
        let series = self.series(lane);
        let holds_slabs = |open: &Open<D::File>| open.body.summary.frames > 0 || !series.pending.is_empty();
        let full = series
            .open
            .as_ref()
            .is_some_and(|open| open.len.saturating_add(need) > limit && holds_slabs(open));
        if full {
            self.seal(lane)?;
        }
        if self.series(lane).open.is_none() { self.create_segment(lane) } else { Ok(()) }
    }

    /// True if the collector has every row of a segment, and what it lost is accounted for.
    fn released(&self, summary: &Summary) -> bool {
        let told = |lost: &LostRange| {
            self.streams.get(&lost.stream).is_none_or(|stream| {
                let untold = stream.acked.missing_in(lost.seqs.clone());
                untold.into_iter().all(|range| stream.explained.covers(range))
            })
        };
        if summary.epoch == self.epoch && !summary.lost.iter().all(told) {
            return false;
        }
        summary.streams.iter().all(|(id, part)| {
            let acked = self.acked(summary.epoch, *id);
            part.seqs.iter().all(|range| acked.is_some_and(|acked| acked.covers(range)))
        })
    }

    pub(super) fn acked(&self, epoch: Epoch, id: StreamId) -> Option<&IntervalSet> {
        if epoch == self.epoch {
            self.streams.get(&id).map(|stream| &stream.acked)
        } else {
            self.acked_older.get(&(epoch, id))
        }
    }

    /// Unlinks every released segment of a lane but the newest, whose table remembers ids and seqs.
    pub(super) fn free_segments(&mut self, lane: SpoolLane) {
        let newest = self.series(lane).newest();
        let [control, telemetry, media] = &self.series;
        let series = match lane {
            SpoolLane::Control => control,
            SpoolLane::Telemetry => telemetry,
            SpoolLane::Media => media,
        };
        let done: Vec<u64> = series
            .closed
            .iter()
            .filter(|(segno, closed)| Some(**segno) != newest && self.released(&closed.summary))
            .map(|(segno, _)| *segno)
            .collect();
        for segno in done {
            match self.disk.unlink(&self.lane_dir(lane).join(segment_name(segno))) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(%error, segno, "released segment could not be removed; tried again later");
                    continue;
                }
                _ => {}
            }
            let series = self.series(lane);
            series.closed.remove(&segno);
            series.reader.take_if(|(open, _)| *open == segno);
            self.index.remove_segment(lane, segno);
        }
    }

    pub(super) fn tick_index(&mut self) {
        self.index_ticks = self.index_ticks.saturating_add(1);
        if self.index_ticks >= INDEX_FLUSH_EVERY {
            self.flush_index();
        }
    }

    /// Brings the index up to date. Only called with nothing pending, so that it never runs ahead of segments.
    fn flush_index(&mut self) {
        if self.series.iter().any(|series| !series.pending.is_empty()) {
            return;
        }
        self.index_ticks = 0;
        for (id, stream) in &self.streams {
            self.index.put_stream(*id, &stream.entry.name, stream.entry.next_seq, &stream.acked);
        }
        self.index.flush();
    }

    fn held(&self, id: StreamId) -> IntervalSet {
        let mut held = IntervalSet::new();
        let of_us = self.series.iter().flat_map(Series::summaries).filter(|s| s.epoch == self.epoch);
        for part in of_us.filter_map(|summary| summary.streams.get(&id)) {
            held.union_with(&part.seqs);
        }
        if let Some(stream) = self.streams.get(&id) {
            stream.acked.iter().for_each(|range| held.remove(range));
        }
        held
    }
}

/// Appends the footer frame of a segment.
pub(super) fn put_footer(out: &mut Vec<u8>, place: Place, summary: &Summary) {
    let mut payload = summary.to_bytes();
    let len = frame_bytes(payload.len().saturating_add(8));
    payload.extend_from_slice(&len.to_le_bytes());
    put_frame(out, place, &FrameMeta::plain(FrameKind::Footer, StreamId(0)), place.offset, &payload);
}

fn slab_meta(id: StreamId, rows: &Rows) -> FrameMeta {
    FrameMeta {
        kind: FrameKind::Slab,
        stream: id,
        rows: u32::try_from(rows.len()).unwrap_or(u32::MAX),
        seq_first: rows.first_seq,
        times: (rows.domain == ClockDomain::BOOT).then(|| span(rows)),
    }
}

impl<D: Disk> Spool for DiskSpool<D> {
    fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn declare(
        &mut self,
        name: &StreamName,
        schema: &Schema,
        lane: SpoolLane,
    ) -> Result<StreamId, SpoolError> {
        let known = self.streams.iter().find(|(_, stream)| stream.entry.name == *name).map(|(id, _)| *id);
        let fingerprint = schema.fingerprint();
        let id = match known {
            Some(id) => id,
            None => {
                let last = self.streams.keys().next_back().map_or(0, |id| id.0);
                if last >= STREAMS_MAX {
                    return Err(SpoolError::Streams { name: name.clone(), limit: STREAMS_MAX });
                }
                StreamId(last.saturating_add(1))
            }
        };
        let before = self.streams.get(&id).cloned();
        if let Some(stream) = &before
            && stream.schema.as_ref() == Some(schema)
            && stream.entry.lane == lane
        {
            return Ok(id);
        }
        let next_seq = before.as_ref().map_or(Seq(0), |stream| stream.entry.next_seq);
        let entry = TableEntry { name: name.clone(), lane, fingerprint, next_seq };
        let acked = before.as_ref().map(|stream| stream.acked.clone()).unwrap_or_default();
        let explained = before.as_ref().map(|stream| stream.explained.clone()).unwrap_or_default();
        let moved = before.as_ref().is_some_and(|stream| stream.entry.lane != lane);
        // Durable before this returns, so that an id is never given twice. A stream that changed lanes
        // starts a segment: its table tells where it goes on.
        let sealed = if moved { self.seal(lane) } else { Ok(()) };
        self.streams.insert(id, Stream { entry, schema: Some(schema.clone()), acked, explained });
        if let Err(error) = sealed.and_then(|()| self.write_declaration(lane, id)) {
            match before {
                Some(before) => self.streams.insert(id, before),
                None => self.streams.remove(&id),
            };
            return Err(error);
        }
        Ok(id)
    }

    fn streams(&self) -> Vec<StreamState> {
        let known = self.streams.iter().filter_map(|(id, stream)| {
            Some(StreamState {
                id: *id,
                name: stream.entry.name.clone(),
                schema: stream.schema.clone()?,
                lane: stream.entry.lane,
                next_seq: stream.entry.next_seq,
                held: self.held(*id),
                acked: stream.acked.clone(),
            })
        });
        known.collect()
    }

    fn append(&mut self, slab: Slab) -> Result<(), SpoolError> {
        let found = match &slab.rows.stream {
            StreamRef::Id(id) => Some(*id),
            StreamRef::Name(name) => {
                self.streams.iter().find(|(_, stream)| stream.entry.name == *name).map(|(id, _)| *id)
            }
        };
        let id = found.unwrap_or(StreamId(0));
        let stream = self.streams.get(&id).filter(|stream| stream.schema.is_some());
        let (lane, next_seq) =
            stream.map(|stream| (stream.entry.lane, stream.entry.next_seq)).ok_or(SpoolError::Unknown(id))?;
        let seqs = slab.rows.seqs();
        if slab.rows.first_seq != next_seq {
            return Err(SpoolError::OutOfOrder {
                stream: id,
                found: slab.rows.first_seq,
                expected: next_seq,
            });
        }
        if seqs.is_empty() {
            return Ok(());
        }
        let meta = slab_meta(id, &slab.rows);
        let rows = is_gap_rows(&slab.rows).then(|| slab.rows.clone());
        let payload = slab_payload(&Slab { rows: Rows { stream: StreamRef::Id(id), ..slab.rows }, ..slab })
            .map_err(|(bytes, limit)| SpoolError::TooLarge { bytes, limit })?;
        let need = frame_bytes(payload.len());
        self.check_room(lane, need)?;
        if self.usage_unsynced() > PENDING_BYTES_MAX {
            self.sync()?;
        }
        self.make_room(lane, need)?;
        let item = Pending { meta, payload };
        if let Err(error) = self.write_frame(lane, &item) {
            if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
                return Err(self.full());
            }
            self.abandon(lane);
            self.create_segment(lane)?;
            self.write_frame(lane, &item).map_err(failed("write a slab"))?;
        }
        self.series(lane).pending.push(item);
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.entry.next_seq = Seq(seqs.end);
        }
        if let Some(rows) = rows {
            self.note_gap_rows(&rows);
        }
        Ok(())
    }

    fn skip(&mut self, stream: StreamId, n: u64) -> Result<(), SpoolError> {
        let stream = self.streams.get_mut(&stream).ok_or(SpoolError::Unknown(stream))?;
        stream.entry.next_seq = stream.entry.next_seq.plus(n);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), SpoolError> {
        let mut outcome = Ok(());
        let mut any = false;
        for lane in SpoolLane::ALL {
            match self.sync_lane(lane) {
                Ok(did) => any |= did,
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        if any && outcome.is_ok() {
            self.tick_index();
        }
        outcome
    }

    fn read(
        &mut self,
        lane: SpoolLane,
        after: Cursor,
        limit_bytes: usize,
    ) -> Result<Vec<SpooledSlab>, SpoolError> {
        self.read_lane(lane, after, limit_bytes)
    }

    fn trim(&mut self, stream: StreamId, acked: &IntervalSet) -> Result<(), SpoolError> {
        let known = self.streams.get_mut(&stream).ok_or(SpoolError::Unknown(stream))?;
        let end = acked.iter().last().map_or(0, |range| range.end);
        if end > known.entry.next_seq.0 {
            return Err(SpoolError::BeyondNext { stream, acked: end, next: known.entry.next_seq });
        }
        known.acked.union_with(acked);
        SpoolLane::ALL.into_iter().for_each(|lane| self.free_segments(lane));
        self.tick_index();
        Ok(())
    }

    fn trim_older(&mut self, epoch: Epoch, stream: StreamId, acked: &IntervalSet) -> Result<(), SpoolError> {
        let held = self.series.iter().flat_map(Series::summaries);
        if epoch != self.epoch && held.into_iter().any(|summary| summary.epoch == epoch) {
            self.acked_older.entry((epoch, stream)).or_default().union_with(acked);
            SpoolLane::ALL.into_iter().for_each(|lane| self.free_segments(lane));
        }
        Ok(())
    }

    fn take_gaps(&mut self) -> Vec<GapRecord> {
        self.gaps.take()
    }

    fn usage(&self) -> SpoolUsage {
        let ids: BTreeSet<StreamId> = self.streams.keys().copied().collect();
        let of_boot = self
            .series
            .iter()
            .flat_map(Series::summaries)
            .filter(|summary| summary.epoch == self.epoch && summary.boot_ordinal == self.boot_ordinal);
        let unreleased = of_boot.flat_map(|summary| summary.streams.iter()).filter(|(id, part)| {
            let acked = self.acked(self.epoch, **id);
            !part.seqs.iter().all(|range| acked.is_some_and(|acked| acked.covers(range)))
        });
        SpoolUsage {
            bytes: self.used_bytes(),
            segments: self
                .series
                .iter()
                .map(|series| series.closed.len().saturating_add(usize::from(series.open.is_some())) as u64)
                .sum(),
            rows: ids.into_iter().map(|id| self.held(id).count()).sum(),
            oldest: unreleased.filter_map(|(_, part)| part.times).map(|(first, _)| first).min(),
            unsynced_bytes: self.usage_unsynced(),
            written_bytes: self.written_bytes,
        }
    }
}

impl<D: Disk> DiskSpool<D> {
    fn usage_unsynced(&self) -> u64 {
        let waiting = self.series.iter().flat_map(|series| &series.pending);
        waiting.map(|item| frame_bytes(item.payload.len())).sum()
    }
}

//! How slabs become durable: segments created, written, synced, given up and sealed.

use super::disk_spool::{DiskSpool, failed};
use super::frame::{FrameKind, FrameMeta, Place, SegmentHeader, frame_bytes, put_frame};
use super::payload::{LostRange, StreamTable, Summary, TableEntry, declaration_bytes};
use super::series::{Closed, Open, Pending, segment_name};
use headwater_core::gap::GapCause;
use headwater_core::id::{Seq, StreamId};
use headwater_core::ports::{Disk, DiskFile, SpoolError, SpoolLane};
use std::collections::BTreeMap;
use std::io;

/// Part of the budget only lane control may use, so that gap records fit when data does not.
const CONTROL_RESERVE_BYTES: u64 = 1 << 20;
/// No room is set aside for a segment if less than this stays free: three open segments and their successors.
const RESERVE_FREE_BYTES_MIN: u64 = 64 << 20;
/// Bytes written between two looks at the file system's free space.
const FREE_CHECK_BYTES: u64 = 1 << 20;

impl<D: Disk> DiskSpool<D> {
    /// The stream table as far as it is durable: slabs not yet synced may vanish in a power cut, and the
    /// seqs of vanished slabs are given again, not left out. So are skipped seqs at the end whose record would
    /// vanish; those before rows are told by the segment of these rows.
    pub(super) fn table(&self) -> StreamTable {
        let [control, telemetry, media] = &self.series;
        let mut streams: BTreeMap<StreamId, TableEntry> =
            self.streams.iter().map(|(id, stream)| (*id, stream.entry.clone())).collect();
        for item in self.series.iter().flat_map(|series| &series.pending) {
            if let Some(entry) = streams.get_mut(&item.meta.stream) {
                entry.next_seq = entry.next_seq.min(item.meta.seq_first);
            }
        }
        for (id, entry) in &mut streams {
            let skipped = self.streams.get(id).into_iter().flat_map(|stream| stream.skipped.iter());
            let at_end = skipped.into_iter().find(|seqs| (seqs.start..=seqs.end).contains(&entry.next_seq.0));
            entry.next_seq = at_end.map_or(entry.next_seq, |seqs| Seq(seqs.start));
        }
        let next_segno = [control.created_upto, telemetry.created_upto, media.created_upto];
        StreamTable { next_segno, streams }
    }

    pub(super) fn used_bytes(&self) -> u64 {
        self.series
            .iter()
            .map(|series| {
                let closed: u64 = series.closed.values().map(|closed| closed.len).sum();
                closed.saturating_add(series.open.as_ref().map_or(0, |open| open.len))
            })
            .fold(0, u64::saturating_add)
    }

    pub(super) fn full(&self) -> SpoolError {
        SpoolError::Full { used: self.used_bytes(), budget: self.settings.bytes_max }
    }

    pub(super) fn refuse(&self, what: &'static str, error: io::Error) -> SpoolError {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => self.full(),
            _ => SpoolError::Io { what, source: error },
        }
    }

    pub(super) fn check_room(&mut self, lane: SpoolLane, need: u64) -> Result<(), SpoolError> {
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

    /// True while the file system has room enough that setting some aside takes it from nobody: neither from
    /// others nor from lane control, which may use the last of it.
    fn has_room_to_reserve(&self) -> bool {
        let others = self.settings.free_bytes_min.max(RESERVE_FREE_BYTES_MIN);
        let least = others.saturating_add(self.settings.segment_bytes);
        self.disk.free_bytes(&self.dir).is_ok_and(|free| free >= least)
    }

    /// Creates the next segment of a lane: header, table and declarations, all durable with its name
    /// before any slab. Slabs waiting for a segment are written to it.
    pub(super) fn create_segment(&mut self, lane: SpoolLane) -> Result<(), SpoolError> {
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
        let roomy = self.has_room_to_reserve();
        let segment_bytes = self.settings.segment_bytes;
        let made = self.disk.create(&path).and_then(|file| {
            if roomy && let Err(error) = file.reserve(segment_bytes) {
                tracing::debug!(%error, segno, "no room is set aside for a segment; its syncs write more");
            }
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

    pub(super) fn write_waiting(&mut self, lane: SpoolLane) -> Result<(), SpoolError> {
        let waiting = std::mem::take(&mut self.series(lane).pending);
        let wrote = waiting.iter().try_for_each(|pending| self.write_frame(lane, pending));
        self.series(lane).pending = waiting;
        wrote.map_err(|error| {
            self.abandon(lane);
            self.refuse("write waiting slabs", error)
        })
    }

    /// Writes a slab (and before the first of its stream the declaration) to the open segment.
    pub(super) fn write_frame(&mut self, lane: SpoolLane, item: &Pending) -> io::Result<()> {
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
    pub(super) fn write_declaration(&mut self, lane: SpoolLane, id: StreamId) -> Result<(), SpoolError> {
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

    /// A segment whose sync or write failed is never written or synced again: what was proven durable
    /// stays readable, what was not is still in memory and goes to another segment.
    pub(super) fn abandon(&mut self, lane: SpoolLane) {
        let skips = self.untold_skips(lane);
        let series = self.series(lane);
        if let Some(mut open) = series.open.take() {
            open.body.summary.lost.extend(skips);
            tracing::error!(lane = lane.as_str(), segno = open.segno, "segment given up after a disk error");
            series.closed.insert(open.segno, open.body);
        }
    }

    /// Makes a lane durable. `true` if there was something to do.
    pub(super) fn sync_lane(&mut self, lane: SpoolLane) -> Result<bool, SpoolError> {
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
    pub(super) fn promote(&mut self, lane: SpoolLane) {
        let series = self.series(lane);
        let mut payload_bytes = 0_u64;
        if let Some(open) = series.open.as_mut() {
            for item in series.pending.drain(..) {
                open.body.summary.add(&item.meta, frame_bytes(item.payload.len()));
                payload_bytes = payload_bytes.saturating_add(item.payload.len() as u64);
            }
            open.body.len = open.len;
        }
        self.payload_bytes = self.payload_bytes.saturating_add(payload_bytes);
    }

    /// What a sealed segment tells of seqs that were skipped: nobody goes through it again to find the holes.
    fn untold_skips(&self, lane: SpoolLane) -> Vec<LostRange> {
        let of_lane = self.streams.iter().filter(|(_, stream)| stream.entry.lane == lane);
        let skips = of_lane.flat_map(|(id, stream)| stream.skipped.iter().map(|seqs| (*id, seqs)));
        skips.map(|(stream, seqs)| LostRange { stream, seqs, cause: GapCause::Overrun }).collect()
    }

    /// Seals the open segment of a lane with a footer.
    pub(super) fn seal(&mut self, lane: SpoolLane) -> Result<(), SpoolError> {
        self.sync_lane(lane)?;
        let Some(open) = self.series(lane).open.take() else { return Ok(()) };
        let (segno, mut body) = (open.segno, open.body);
        body.summary.lost.extend(self.untold_skips(lane));
        let mut bytes = Vec::new();
        put_footer(&mut bytes, Place { segno, offset: open.len }, &body.summary);
        let wrote = open.file.write_at(&bytes, open.len);
        if let Err(error) = open.file.unreserve() {
            tracing::debug!(%error, segno, "room set aside stays taken until the segment goes");
        }
        match wrote.and_then(|()| open.file.sync()) {
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
    pub(super) fn make_room(&mut self, lane: SpoolLane, need: u64) -> Result<(), SpoolError> {
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
}

/// Appends the footer frame of a segment.
pub(super) fn put_footer(out: &mut Vec<u8>, place: Place, summary: &Summary) {
    let mut payload = summary.to_bytes();
    let len = frame_bytes(payload.len().saturating_add(8));
    payload.extend_from_slice(&len.to_le_bytes());
    put_frame(out, place, &FrameMeta::plain(FrameKind::Footer, StreamId(0)), place.offset, &payload);
}

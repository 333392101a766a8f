//! The spool on a disk, as its port has it.

use super::frame::{FrameKind, FrameMeta, frame_bytes};
use super::gaps::GapList;
use super::index::Index;
use super::payload::{LostRange, Summary, TableEntry, slab_payload};
use super::salvage::{gap_rows, is_gap_rows};
use super::series::{Pending, Series, Stream, segment_name, slot};
use super::task::span;
use headwater_core::batch::{Rows, StreamRef};
use headwater_core::gap::GapRecord;
use headwater_core::id::{BootId, BootOrdinal, Epoch, STREAMS_MAX, Seq, StreamId, StreamName};
use headwater_core::interval::IntervalSet;
use headwater_core::ports::{
    Cursor, Disk, Slab, Spool, SpoolError, SpoolLane, SpoolUsage, SpooledSlab, StreamState,
};
use headwater_core::schema::Schema;
use headwater_core::time::ClockDomain;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
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

/// Most bytes appended and not synced; the next append syncs by itself. Bounds memory when a disk fails.
const PENDING_BYTES_MAX: u64 = 4 << 20;
/// Syncs and trims between two flushes of the index.
const INDEX_FLUSH_EVERY: u32 = 16;

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
    pub(super) payload_bytes: u64,
    pub(super) free_checked_at: Option<u64>,
    pub(super) quarantined_bytes: u64,
}

pub(super) fn failed(what: &'static str) -> impl FnOnce(io::Error) -> SpoolError {
    move |source| SpoolError::Io { what, source }
}

impl<D: Disk> DiskSpool<D> {
    pub(super) fn lane_dir(&self, lane: SpoolLane) -> PathBuf {
        self.dir.join("seg").join(lane.as_str())
    }

    #[expect(clippy::indexing_slicing, reason = "three lanes, three series")]
    pub(super) fn series(&mut self, lane: SpoolLane) -> &mut Series<D::File> {
        &mut self.series[slot(lane)]
    }

    /// A stored row of `hw/gaps` accounts for seqs whose segment may then go.
    fn note_gap_rows(&mut self, rows: &Rows) {
        for gap in gap_rows(rows) {
            if let Some(stream) = self.streams.values_mut().find(|s| s.entry.name == gap.stream) {
                let seqs = gap.seq_first.0..gap.seq_last.plus(1).0;
                stream.skipped.remove(seqs.clone());
                stream.explained.insert(seqs);
            }
        }
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
    pub(crate) fn flush_index(&mut self) {
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
        let stream = match &before {
            Some(before) => Stream { entry, schema: Some(schema.clone()), ..before.clone() },
            None => Stream::new(entry, Some(schema.clone())),
        };
        let moved = before.as_ref().is_some_and(|stream| stream.entry.lane != lane);
        let changed = before.as_ref().is_some_and(|stream| stream.schema.is_some());
        // Durable before this returns, so that an id is never given twice. A stream that changed lanes
        // starts a segment: its table tells where it goes on. So does one that changed its schema: a segment
        // holds one schema per stream, with which its rows can be declared again years later.
        let sealed = if moved || changed { self.seal(lane) } else { Ok(()) };
        self.streams.insert(id, stream);
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
        let next = stream.entry.next_seq.plus(n);
        stream.skipped.insert(stream.entry.next_seq.0..next.0);
        stream.entry.next_seq = next;
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
        let nothing = IntervalSet::new();
        let oldest = of_boot
            .flat_map(|summary| summary.streams.iter())
            .filter_map(|(id, part)| part.oldest_lacking(self.acked(self.epoch, *id).unwrap_or(&nothing)));
        SpoolUsage {
            bytes: self.used_bytes(),
            segments: self
                .series
                .iter()
                .map(|series| series.closed.len().saturating_add(usize::from(series.open.is_some())) as u64)
                .sum(),
            rows: ids.into_iter().map(|id| self.held(id).count()).sum(),
            oldest: oldest.min(),
            unsynced_bytes: self.usage_unsynced(),
            written_bytes: self.written_bytes,
            payload_bytes: self.payload_bytes,
        }
    }
}

impl<D: Disk> DiskSpool<D> {
    fn usage_unsynced(&self) -> u64 {
        let waiting = self.series.iter().flat_map(|series| &series.pending);
        waiting.map(|item| frame_bytes(item.payload.len())).sum()
    }
}

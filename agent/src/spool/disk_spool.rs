//! The spool on a disk, as its port has it.

use super::frame::{FrameKind, FrameMeta, frame_bytes};
use super::gaps::GapList;
use super::index::Index;
use super::payload::{LostRange, StreamPart, Summary, TableEntry, slab_payload};
use super::salvage::{gap_rows, is_gap_rows};
use super::series::Closed;
use super::series::{Pending, Series, Stream, segment_name};
use super::series_id::SeriesId;
use super::survey::SeriesMap;
use headwater_core::batch::{Encoder, Rows, StreamRef};
use headwater_core::gap::GapRecord;
use headwater_core::id::{BootId, BootOrdinal, Epoch, STREAMS_MAX, Seq, StreamId, StreamName};
use headwater_core::interval::IntervalSet;
use headwater_core::ports::{
    Cursor, Disk, DiskFile, Slab, SlabTime, Spool, SpoolError, SpoolLane, SpoolUsage, SpooledSlab,
    StreamPolicy, StreamState,
};
use headwater_core::schema::Schema;

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
    /// Start a new epoch whatever is found: the collector knows seqs beyond ours.
    pub new_epoch: bool,
}

/// Segments into which a budget should go, so that one more or less is no matter.
const SEGMENTS_MIN: u64 = 64;

impl Settings {
    /// For a budget, with segments of a size that suits it.
    #[must_use]
    pub fn within(bytes_max: u64, free_bytes_min: u64) -> Self {
        let usual = Self::default();
        let segment_bytes = usual.segment_bytes.min(bytes_max / SEGMENTS_MIN);
        Self { segment_bytes, bytes_max, free_bytes_min, ..usual }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self { segment_bytes: 8 << 20, bytes_max: 4 << 30, free_bytes_min: 64 << 20, new_epoch: false }
    }
}

/// Syncs and trims between two flushes of the index.
const INDEX_FLUSH_EVERY: u32 = 16;

/// What was given up for want of room since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Evictions {
    /// Segments.
    pub(super) segments: u64,
    /// Captured rows in them that the collector had not.
    pub(super) rows: u64,
    /// Rows that waited in memory for a disk that refused them.
    pub(super) shed: u64,
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
    pub(super) series: SeriesMap<D::File>,
    pub(super) gaps: GapList,
    pub(super) index: Index,
    pub(super) index_ticks: u32,
    pub(super) written_bytes: u64,
    pub(super) payload_bytes: u64,
    pub(super) free_checked_at: Option<u64>,
    /// The file system has less room than is left to others, and nothing of ours can make more.
    pub(super) disk_short: bool,
    pub(super) evictions: Evictions,
    pub(super) encoder: Encoder,
    /// The reserve was given up, and its room is for lane control.
    pub(super) reserve_out: bool,
    pub(super) quarantined_bytes: u64,
}

pub(super) fn failed(what: &'static str) -> impl FnOnce(io::Error) -> SpoolError {
    move |source| SpoolError::Io { what, source }
}

impl<D: Disk> DiskSpool<D> {
    pub(super) fn series_dir(&self, id: SeriesId) -> PathBuf {
        self.dir.join("seg").join(id.dir_name())
    }

    /// A series, which begins when it is first asked for.
    pub(super) fn series(&mut self, id: SeriesId) -> &mut Series<D::File> {
        self.series.entry(id).or_default()
    }

    /// Durable rows of `hw/gaps` account for seqs whose segment may then go.
    pub(super) fn note_gaps(&mut self, gaps: &[GapRecord]) {
        for gap in gaps {
            if let Some(stream) = self.streams.values_mut().find(|s| s.entry.name == gap.stream) {
                for seqs in gap.explained() {
                    stream.skipped.remove(seqs.clone());
                    stream.explained.insert(seqs);
                }
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
        summary.streams.iter().all(|(id, part)| self.settled(summary.epoch, *id, part))
    }

    /// True if the collector has all rows of a part, or has been told that it will not get them.
    pub(super) fn settled(&self, epoch: Epoch, id: StreamId, part: &StreamPart) -> bool {
        let acked = self.acked(epoch, id);
        let explained = self.streams.get(&id).filter(|_| epoch == self.epoch).map(|stream| &stream.explained);
        part.seqs.iter().all(|range| {
            let untold = match acked {
                Some(acked) => acked.missing_in(range),
                None => vec![range],
            };
            untold.into_iter().all(|range| explained.is_some_and(|explained| explained.covers(range)))
        })
    }

    pub(super) fn acked(&self, epoch: Epoch, id: StreamId) -> Option<&IntervalSet> {
        if epoch == self.epoch {
            self.streams.get(&id).map(|stream| &stream.acked)
        } else {
            self.acked_older.get(&(epoch, id))
        }
    }

    /// Unlinks every released segment but the newest of each series, whose table remembers ids and seqs.
    pub(super) fn free_segments(&mut self) {
        let mut done = Vec::new();
        for (id, series) in &self.series {
            let newest = series.newest();
            // What could not be read may be read at another start.
            let may_go = |closed: &Closed| !closed.unreadable && self.released(&closed.summary);
            let old =
                series.closed.iter().filter(|(segno, closed)| Some(**segno) != newest && may_go(closed));
            done.extend(old.map(|(segno, _)| (*id, *segno)));
        }
        if done.is_empty() {
            return;
        }
        // Forgotten before they are gone: a segment the index knows and nobody finds has lost its rows.
        done.iter().for_each(|(id, segno)| self.index.remove_segment(*id, *segno));
        self.index.flush();
        for (id, segno) in done {
            match self.disk.unlink(&self.series_dir(id).join(segment_name(segno))) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(%error, segno, "released segment could not be removed; tried again later");
                    continue;
                }
                _ => {}
            }
            let series = self.series(id);
            let closed = series.closed.remove(&segno);
            series.reader.take_if(|(open, _)| *open == segno);
            closed.into_iter().for_each(|closed| self.forget_explained(&closed.summary));
        }
    }

    /// What a segment that is gone held or missed needs no account any more.
    fn forget_explained(&mut self, summary: &Summary) {
        if summary.epoch != self.epoch {
            return;
        }
        for (id, part) in &summary.streams {
            if let Some(stream) = self.streams.get_mut(id).filter(|stream| !stream.explained.is_empty()) {
                part.seqs.iter().for_each(|seqs| stream.explained.remove(seqs));
            }
        }
        for lost in &summary.lost {
            if let Some(stream) = self.streams.get_mut(&lost.stream) {
                stream.explained.remove(lost.seqs.clone());
            }
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
        if self.series.values().any(|series| !series.pending.is_empty()) {
            return;
        }
        self.index_ticks = 0;
        // As the tables have it: without skipped seqs at the end, whose record a power cut may still take. An
        // index that knew of them would raise the next seq over a hole nobody tells.
        for (id, entry) in self.table().streams {
            if let Some(stream) = self.streams.get(&id) {
                self.index.put_stream(id, &entry.name, entry.next_seq, &stream.acked);
            }
        }
        self.index.flush();
    }

    fn held(&self, id: StreamId) -> IntervalSet {
        let mut held = IntervalSet::new();
        let of_us = self.series.values().flat_map(Series::held).filter(|s| s.epoch == self.epoch);
        for part in of_us.filter_map(|summary| summary.streams.get(&id)) {
            held.union_with(&part.seqs);
        }
        if let Some(stream) = self.streams.get(&id) {
            stream.acked.iter().for_each(|range| held.remove(range));
        }
        held
    }
}

fn slab_meta(id: StreamId, slab: &Slab) -> FrameMeta {
    let rows = &slab.rows;
    FrameMeta {
        kind: FrameKind::Slab,
        stream: id,
        rows: u32::try_from(rows.len()).unwrap_or(u32::MAX),
        seq_first: rows.first_seq,
        times: slab.span(),
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
        policy: StreamPolicy,
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
            && stream.policy == policy
            && stream.entry.lane == policy.lane
        {
            return Ok(id);
        }
        let next_seq = before.as_ref().map_or(Seq(0), |stream| stream.entry.next_seq);
        let lane = policy.lane;
        let entry = TableEntry { name: name.clone(), lane, fingerprint, next_seq };
        let stream = match &before {
            Some(before) => Stream { entry, policy, schema: Some(schema.clone()), ..before.clone() },
            None => Stream { policy, ..Stream::new(entry, Some(schema.clone())) },
        };
        // Durable before this returns, so that an id is never given twice. A stream that changed series
        // starts a segment: its table tells where it goes on. So does one that changed its schema: a segment
        // holds one schema per stream, with which its rows can be declared again years later.
        let sealed = match &before {
            Some(before) if before.schema.is_some() || before.policy != policy => {
                self.seal_for(&[before.policy, policy])
            }
            _ => Ok(()),
        };
        self.streams.insert(id, stream);
        if let Err(error) = sealed.and_then(|()| self.write_declaration(SeriesId::home(&policy), id)) {
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
                policy: stream.policy,
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
        let (policy, next_seq) =
            stream.map(|stream| (stream.policy, stream.entry.next_seq)).ok_or(SpoolError::Unknown(id))?;
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
        let meta = slab_meta(id, &slab);
        let series = SeriesId::of(&policy, &slab, self.is_crowded());
        let gaps = if is_gap_rows(&slab.rows) { gap_rows(&slab.rows) } else { Vec::new() };
        let slab = Slab { rows: Rows { stream: StreamRef::Id(id), ..slab.rows }, ..slab };
        let payload = slab_payload(slab, &mut self.encoder)
            .map_err(|(bytes, limit)| SpoolError::TooLarge { bytes, limit })?;
        self.store(series, Pending { meta, payload, gaps })?;
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.entry.next_seq = Seq(seqs.end);
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
        let waiting = || self.series.iter().filter(|(_, series)| !series.pending.is_empty());
        let bytes = |series: &Series<D::File>| -> u64 {
            series.pending.iter().map(|item| frame_bytes(item.payload.len())).sum()
        };
        let groups: BTreeMap<SeriesId, u64> = waiting().map(|(id, series)| (*id, bytes(series))).collect();
        let ids: Vec<SeriesId> = groups.keys().copied().collect();
        if ids.len() > 1 {
            waiting().filter_map(|(_, series)| series.open.as_ref()).for_each(|open| open.file.sync_soon());
        }
        for id in ids {
            match self.sync_series(id) {
                Ok(did) => {
                    any |= did;
                    if did && id.lane == SpoolLane::Control {
                        // Gap records are durable: what they speak of makes room for the other lanes.
                        self.free_evicted();
                    }
                }
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        if any && outcome.is_ok() {
            groups.into_iter().for_each(|(id, group)| self.seal_if_full(id, group));
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

    fn seek(&mut self, lane: SpoolLane, since: SlabTime) -> Result<Cursor, SpoolError> {
        self.seek_lane(lane, since)
    }

    fn stretch_before(&self, lane: SpoolLane, before: Cursor, bytes: u64) -> Cursor {
        self.lane_stretch_before(lane, before, bytes)
    }

    fn note(&mut self, key: &str, value: Vec<u8>) {
        self.index.note(key, value);
    }

    fn noted(&self, key: &str) -> Option<Vec<u8>> {
        self.index.noted(key)
    }

    fn bytes_between(&self, lane: SpoolLane, from: Cursor, until: Cursor) -> u64 {
        self.lane_bytes_between(lane, from, until)
    }

    fn trim(&mut self, stream: StreamId, acked: &IntervalSet) -> Result<(), SpoolError> {
        let known = self.streams.get_mut(&stream).ok_or(SpoolError::Unknown(stream))?;
        let end = acked.iter().last().map_or(0, |range| range.end);
        if end > known.entry.next_seq.0 {
            return Err(SpoolError::BeyondNext { stream, acked: end, next: known.entry.next_seq });
        }
        known.acked.union_with(acked);
        self.free_segments();
        self.tick_index();
        Ok(())
    }

    fn trim_older(&mut self, epoch: Epoch, stream: StreamId, acked: &IntervalSet) -> Result<(), SpoolError> {
        let held = self.series.values().flat_map(Series::summaries);
        if epoch != self.epoch && held.into_iter().any(|summary| summary.epoch == epoch) {
            self.acked_older.entry((epoch, stream)).or_default().union_with(acked);
            self.free_segments();
        }
        Ok(())
    }

    fn take_gaps(&mut self) -> Vec<GapRecord> {
        self.gaps.take()
    }

    fn maintain(&mut self) {
        self.free_checked_at = None;
        self.prove_doubtful();
        self.keep_reserve();
        self.find_room(0);
        self.free_evicted();
    }

    fn usage(&self) -> SpoolUsage {
        let ids: BTreeSet<StreamId> = self.streams.keys().copied().collect();
        let of_boot = self
            .series
            .values()
            .flat_map(Series::held)
            .filter(|summary| summary.epoch == self.epoch && summary.boot_ordinal == self.boot_ordinal);
        let nothing = IntervalSet::new();
        let oldest = of_boot
            .flat_map(|summary| summary.streams.iter())
            .filter_map(|(id, part)| part.oldest_lacking(self.acked(self.epoch, *id).unwrap_or(&nothing)));
        SpoolUsage {
            bytes: self.used_bytes(),
            segments: self
                .series
                .values()
                .map(|series| series.closed.len().saturating_add(usize::from(series.open.is_some())) as u64)
                .sum(),
            rows: ids.into_iter().map(|id| self.held(id).count()).sum(),
            oldest: oldest.min(),
            unsynced_bytes: self.usage_unsynced(),
            written_bytes: self.written_bytes,
            payload_bytes: self.payload_bytes,
            evicted_segments: self.evictions.segments,
            evicted_rows: self.evictions.rows,
            refused_rows: self.evictions.shed,
        }
    }
}

impl<D: Disk> DiskSpool<D> {
    /// Seals the segments of all series that streams of these policies are written to.
    fn seal_for(&mut self, policies: &[StreamPolicy]) -> Result<(), SpoolError> {
        let open = self.series.iter().filter(|(_, series)| series.open.is_some());
        let ids: Vec<SeriesId> =
            open.map(|(id, _)| *id).filter(|id| policies.iter().any(|policy| id.takes(policy))).collect();
        ids.into_iter().try_for_each(|id| self.seal(id))
    }

    pub(super) fn usage_unsynced(&self) -> u64 {
        let waiting = self.series.values().flat_map(|series| &series.pending);
        waiting.map(|item| frame_bytes(item.payload.len())).sum()
    }
}

//! Reading slabs back, and what happens when a stored frame is damaged.

use super::disk_spool::{DiskSpool, failed};
use super::frame::{FrameKind, FrameMeta, HEAD_BYTES, HEADER_BYTES, frame_bytes};
use super::gaps::LostRows;
use super::payload::{LostRange, Summary, read_declaration, read_slab};
use super::scan::{FrameReader, WINDOW_BYTES, scan};
use super::series::{Closed, Series, segment_name};
use super::series_id::SeriesId;
use headwater_core::batch::StreamRef;
use headwater_core::gap::GapCause;
use headwater_core::id::{BootOrdinal, Epoch, StreamId};
use headwater_core::interval::IntervalSet;
use headwater_core::ports::{Cursor, Disk, DiskFile, Position, Slab, SpoolError, SpoolLane, SpooledSlab};
use headwater_core::schema::{Fingerprint, Schema};
use headwater_core::time::BootNanos;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Most bytes of damaged segments and ranges kept in `quarantine/`. Kept to at each start, and between two
/// starts no more than this is added for rot; what is beyond is only told.
pub(super) const QUARANTINE_BYTES_MAX: u64 = 64 << 20;

/// Schemas found in the segment that is read.
type OlderSchemas = BTreeMap<(StreamId, Fingerprint), Option<Arc<Schema>>>;

/// When the next slab of a series was taken: series of a lane are read in this order. Slabs of other clocks come
/// at once.
type Turn = (BootOrdinal, BootNanos);

const AT_ONCE: Turn = (BootOrdinal(0), BootNanos(i64::MIN));

/// Least that is read of a series before another one has its turn: slabs of a second may be small, and each turn
/// costs a read.
const RUN_BYTES_MIN: usize = 64 << 10;

/// How far to read a series.
#[derive(Clone, Copy)]
struct Run {
    /// About this many bytes; at least one slab.
    bytes: usize,
    /// Up to where another series has its turn.
    until: Option<Turn>,
    /// Where the reader stands in the other series of the lane.
    cursor: Cursor,
}

/// What reading gave.
#[derive(Default)]
struct Found {
    slabs: Vec<SpooledSlab>,
    bytes: usize,
    /// The limit is reached, or another series has its turn.
    over: bool,
}

/// What reading one segment gave.
enum Step {
    /// Slabs up to the end or the limit.
    Done(Found),
    /// The frame at this offset is damaged.
    Damaged(u64),
}

impl<D: Disk> DiskSpool<D> {
    pub(super) fn read_lane(
        &mut self,
        lane: SpoolLane,
        after: Cursor,
        limit_bytes: usize,
    ) -> Result<Vec<SpooledSlab>, SpoolError> {
        let ids: Vec<SeriesId> = self.series.keys().filter(|id| id.lane == lane).copied().collect();
        let (mut slabs, mut left, mut cursor) = (Vec::new(), limit_bytes.max(1), after);
        let alone = ids.len() == 1;
        let mut turns: BTreeMap<SeriesId, Turn> = BTreeMap::new();
        for id in ids {
            let turn = if alone { Some(AT_ONCE) } else { self.turn(id, cursor.at(id.slot()))? };
            turn.and_then(|turn| turns.insert(id, turn));
        }
        while left > 0 {
            let Some((id, _)) = turns.iter().min_by_key(|(_, turn)| **turn).map(|(id, turn)| (*id, *turn))
            else {
                break;
            };
            let until = turns.iter().filter(|(other, _)| **other != id).map(|(_, turn)| *turn).min();
            let found = self.read_series(id, Run { bytes: left, until, cursor })?;
            left = left.saturating_sub(found.bytes);
            if let Some(last) = found.slabs.last() {
                cursor = last.next;
            }
            let more = if found.over && left > 0 { self.turn(id, cursor.at(id.slot()))? } else { None };
            match more {
                Some(turn) => turns.insert(id, turn),
                None => turns.remove(&id),
            };
            slabs.extend(found.slabs);
        }
        // Nothing to read now is not nothing to read: a reader that was told so would look no further.
        if slabs.is_empty() && self.lane_waits(lane, after) {
            let source = std::io::ErrorKind::WouldBlock.into();
            return Err(SpoolError::Io { what: "read rows that are not proven durable yet", source });
        }
        Ok(slabs)
    }

    fn lane_waits(&self, lane: SpoolLane, after: Cursor) -> bool {
        let of_lane = self.series.keys().filter(|id| id.lane == lane);
        let mut segments = of_lane.flat_map(|id| {
            let segnos = self.readable(*id, after.at(id.slot()).segno);
            segnos.into_iter().map(|segno| (*id, segno))
        });
        segments.any(|(id, segno)| self.waits(id, segno))
    }

    /// Segments of a series that are there for readers, from one on. One that only another start can look at again holds
    /// up nobody.
    pub(super) fn readable(&self, id: SeriesId, from: u64) -> Vec<u64> {
        let Some(series) = self.series.get(&id) else { return Vec::new() };
        let open = series.open.as_ref().map(|open| open.segno).filter(|segno| *segno >= from);
        let hidden = |closed: &Closed| closed.evicted || (closed.doubtful && closed.unreadable);
        let closed = series.closed.range(from..).filter(|(_, closed)| !hidden(closed));
        closed.map(|(segno, _)| *segno).chain(open).collect()
    }

    /// True if a segment is not read yet, and what follows it waits with it: a reader passes over nothing that comes
    /// later.
    fn waits(&self, id: SeriesId, segno: u64) -> bool {
        let body = self.body(id, segno).filter(|body| body.doubtful);
        body.is_some_and(|Closed { summary, .. }| {
            summary.streams.iter().any(|(stream, part)| !self.settled(summary.epoch, *stream, part))
        })
    }

    /// When the next slab of a series has its turn; `None` without one.
    fn turn(&mut self, id: SeriesId, from: Position) -> Result<Option<Turn>, SpoolError> {
        for segno in self.readable(id, from.segno) {
            if self.waits(id, segno) {
                return Ok(None);
            }
            self.open_reader(id, segno)?;
            let (Some(body), Some((_, file))) = (self.body(id, segno), self.reader(id)) else { continue };
            let mut frames = FrameReader::with_window(file, segno, body.len, HEAD_BYTES);
            let mut at = if segno == from.segno { from.offset.max(HEADER_BYTES) } else { HEADER_BYTES };
            while at < body.len {
                if let Some(bad) = body.bad.iter().find(|bad| bad.contains(&at)) {
                    at = bad.end;
                    continue;
                }
                // What cannot be read is found to be damaged when it is read.
                let Ok(head) = frames.head(at) else { return Ok(Some(AT_ONCE)) };
                if self.wants(&body.summary, &head.meta) {
                    let time =
                        head.meta.times.map_or(AT_ONCE, |(first, _)| (body.summary.boot_ordinal, first));
                    return Ok(Some(time));
                }
                at = at.saturating_add(frame_bytes(head.len));
            }
        }
        Ok(None)
    }

    fn wants(&self, summary: &Summary, meta: &FrameMeta) -> bool {
        meta.kind == FrameKind::Slab
            && !self.acked(summary.epoch, meta.stream).is_some_and(|acked| acked.covers(meta.seqs()))
    }

    fn read_series(&mut self, id: SeriesId, run: Run) -> Result<Found, SpoolError> {
        let after = run.cursor.at(id.slot());
        let mut all = Found::default();
        for segno in self.readable(id, after.segno) {
            if self.waits(id, segno) {
                break;
            }
            let from = if segno == after.segno { after.offset.max(HEADER_BYTES) } else { HEADER_BYTES };
            let bytes = run.bytes.saturating_sub(all.bytes);
            let found = self.read_segment(id, segno, from, Run { bytes, ..run })?;
            all.bytes = all.bytes.saturating_add(found.bytes);
            all.slabs.extend(found.slabs);
            all.over = found.over;
            if all.over {
                break;
            }
        }
        Ok(all)
    }

    fn read_segment(&mut self, id: SeriesId, segno: u64, from: u64, run: Run) -> Result<Found, SpoolError> {
        self.open_reader(id, segno)?;
        loop {
            match self.step(id, segno, from, run)? {
                Step::Done(found) => return Ok(found),
                Step::Damaged(at) => {
                    self.audit(id, segno)?;
                    // A read that failed once and then did not leaves no damage behind: the caller tries again.
                    let known =
                        self.body(id, segno).is_some_and(|body| body.bad.iter().any(|bad| bad.contains(&at)));
                    if !known {
                        let source = std::io::ErrorKind::Interrupted.into();
                        return Err(SpoolError::Io { what: "read a segment", source });
                    }
                }
            }
        }
    }

    pub(super) fn body(&self, id: SeriesId, segno: u64) -> Option<&Closed> {
        let series = self.series.get(&id)?;
        match &series.open {
            Some(open) if open.segno == segno => Some(&open.body),
            _ => series.closed.get(&segno),
        }
    }

    fn body_mut(&mut self, id: SeriesId, segno: u64) -> Option<&mut Closed> {
        let series = self.series(id);
        match &mut series.open {
            Some(open) if open.segno == segno => Some(&mut open.body),
            _ => series.closed.get_mut(&segno),
        }
    }

    pub(super) fn reader(&self, id: SeriesId) -> Option<&(u64, D::File)> {
        self.series.get(&id)?.reader.as_ref()
    }

    pub(super) fn open_reader(&mut self, id: SeriesId, segno: u64) -> Result<(), SpoolError> {
        let path = self.series_dir(id).join(segment_name(segno));
        let series = self.series(id);
        if series.reader.as_ref().is_none_or(|(open, _)| *open != segno) {
            series.reader = None;
            let file = self.disk.open(&path).map_err(failed("open a segment"))?;
            self.series(id).reader = Some((segno, file));
        }
        Ok(())
    }

    fn step(&self, id: SeriesId, segno: u64, from: u64, run: Run) -> Result<Step, SpoolError> {
        let mut found = Found::default();
        let (Some(body), Some((_, file))) = (self.body(id, segno), self.reader(id)) else {
            return Ok(Step::Done(found));
        };
        let ahead = if run.until.is_some() { RUN_BYTES_MIN } else { WINDOW_BYTES };
        let mut frames = FrameReader::with_window(file, segno, body.len, ahead);
        let mut at = from;
        let mut schemas = OlderSchemas::default();
        while at < body.len && !found.over {
            if let Some(bad) = body.bad.iter().find(|bad| bad.contains(&at)) {
                at = bad.end;
                continue;
            }
            let Ok(head) = frames.head(at) else { return Ok(damaged(found, at)) };
            let next = at.saturating_add(frame_bytes(head.len));
            if self.wants(&body.summary, &head.meta) {
                let turn = head.meta.times.map(|(first, _)| (body.summary.boot_ordinal, first));
                if found.bytes >= RUN_BYTES_MIN && run.until.is_some_and(|until| turn > Some(until)) {
                    found.over = true;
                    break;
                }
                let slab = match frames.frame(at) {
                    Ok((_, payload)) => read_slab(payload)
                        .filter(|slab| agrees(slab, &head.meta))
                        .map(|slab| slab.dated(head.meta.times)),
                    Err(_) => None,
                };
                let Some(slab) = slab else { return Ok(damaged(found, at)) };
                found.bytes = found.bytes.saturating_add(head.len);
                found.over = found.bytes >= run.bytes;
                let next = run.cursor.moved(id.slot(), Position { segno, offset: next });
                let older_schema = self.older_schema(&mut schemas, &mut frames, &body.summary, &slab);
                found.slabs.push(SpooledSlab { epoch: body.summary.epoch, slab, older_schema, next });
            }
            at = next;
        }
        Ok(Step::Done(found))
    }

    /// What a slab was declared with, if its stream has another schema by now: from the segment's own
    /// declaration, since each segment holds one schema per stream.
    fn older_schema<F: DiskFile>(
        &self,
        known: &mut OlderSchemas,
        frames: &mut FrameReader<'_, F>,
        summary: &Summary,
        slab: &Slab,
    ) -> Option<Arc<Schema>> {
        let StreamRef::Id(id) = slab.rows.stream else { return None };
        let fingerprint = slab.rows.fingerprint;
        let newest = self.streams.get(&id).filter(|stream| stream.schema.is_some());
        if summary.epoch == self.epoch && newest.is_some_and(|s| s.entry.fingerprint == fingerprint) {
            return None;
        }
        let found = known.entry((id, fingerprint)).or_insert_with(|| {
            let (_, payload) = frames.frame(*summary.declared.get(&id)?).ok()?;
            let schema = read_declaration(payload)?.schema;
            (schema.fingerprint() == fingerprint).then(|| Arc::new(schema))
        });
        found.clone()
    }

    /// Goes through a damaged segment: what is missing from it becomes gap records, the damaged bytes are
    /// set aside, and reading passes over them from now on.
    fn audit(&mut self, id: SeriesId, segno: u64) -> Result<(), SpoolError> {
        let dir = self.dir.clone();
        let (Some(body), Some((_, file))) = (self.body(id, segno), self.reader(id)) else { return Ok(()) };
        let len = body.len;
        let mut present: BTreeMap<StreamId, IntervalSet> = BTreeMap::new();
        let mut unfit: Vec<Range<u64>> = Vec::new();
        let found = scan(file, segno, len, |at, head, payload| {
            if head.meta.kind != FrameKind::Slab {
                return;
            }
            // Sound bytes that are no slab of ours: a bug or a forged sum, and lost either way.
            if read_slab(payload).is_some_and(|slab| agrees(&slab, &head.meta)) {
                present.entry(head.meta.stream).or_default().insert(head.meta.seqs());
            } else {
                unfit.push(at..at.saturating_add(frame_bytes(head.len)));
            }
        });
        let mut unreadable = false;
        let mut bad = unfit;
        for damage in found.holes.iter().chain(&found.tail) {
            unreadable |= damage.unreadable;
            bad.push(damage.at.clone());
        }
        let cause = if unreadable { GapCause::MediaError } else { GapCause::Corrupt };
        let copies: Vec<(u64, Vec<u8>)> = bad.iter().filter_map(|range| copy(file, range)).collect();
        let (epoch, boot) = (body.summary.epoch, body.summary.boot_ordinal);
        let mut lost = Vec::new();
        for (stream, part) in &body.summary.streams {
            for range in part.seqs.iter() {
                let holes = present
                    .get(stream)
                    .map_or_else(|| vec![range.clone()], |set| set.missing_in(range.clone()));
                lost.extend(holes.into_iter().map(|hole| (*stream, hole)));
            }
        }
        for (at, bytes) in copies {
            self.set_aside(&dir, &format!("rot-{}-{segno:016x}-{at}", id.dir_name()), &bytes);
        }
        for (stream, range) in lost {
            if let Some(part) =
                self.body_mut(id, segno).and_then(|body| body.summary.streams.get_mut(&stream))
            {
                part.seqs.remove(range.clone());
            }
            if let Some(body) = self.body_mut(id, segno) {
                body.summary.lost.push(LostRange { stream, seqs: range.clone(), cause });
            }
            self.lose(epoch, boot, stream, range, cause, "stored rows failed their check");
        }
        if let Some(body) = self.body_mut(id, segno) {
            body.bad = bad;
        }
        Ok(())
    }

    /// Records captured rows as lost, but for those the collector has and those that stand in a sound frame
    /// elsewhere: slabs of a failed sync are written again. The collector takes a recorded row for settled, so
    /// a record that covers a row still here would keep it from ever being shipped.
    pub(super) fn lose(
        &mut self,
        epoch: Epoch,
        boot_ordinal: BootOrdinal,
        id: StreamId,
        seqs: Range<u64>,
        cause: GapCause,
        note: &str,
    ) -> Vec<Range<u64>> {
        tracing::warn!(%epoch, stream = id.0, ?seqs, cause = cause.cause(), note, "rows of the spool are lost");
        let Some(stream) = self.streams.get(&id).filter(|_| epoch == self.epoch) else {
            // A gap record speaks of the present life only; of an older one the log must do.
            return Vec::new();
        };
        let mut here = stream.acked.clone();
        let ours = self.series.values().flat_map(Series::summaries).filter(|s| s.epoch == epoch);
        ours.filter_map(|summary| summary.streams.get(&id)).for_each(|part| here.union_with(&part.seqs));
        let waiting = self.series.values().flat_map(|series| &series.pending);
        waiting.filter(|item| item.meta.stream == id).for_each(|item| here.insert(item.meta.seqs()));
        let (name, missing) = (stream.entry.name.clone(), here.missing_in(seqs));
        for seqs in missing.clone() {
            let span = (BootNanos(0), BootNanos(0));
            self.gaps.record(
                LostRows { stream: name.clone(), boot_ordinal, seqs, bytes: 0, span },
                cause,
                note,
            );
        }
        missing
    }

    /// Keeps damaged bytes for a look, within a bound; failing at it is no reason to stop.
    pub(super) fn set_aside(&mut self, dir: &Path, name: &str, bytes: &[u8]) {
        let total = self.quarantined_bytes.saturating_add(bytes.len() as u64);
        if total > QUARANTINE_BYTES_MAX {
            tracing::warn!(name, bytes = bytes.len(), "quarantine is full; damaged bytes are not kept");
            return;
        }
        match write_aside(&self.disk, dir, name, bytes) {
            Ok(()) => self.quarantined_bytes = total,
            Err(error) => tracing::warn!(%error, name, "damaged bytes could not be set aside"),
        }
    }
}

/// Slabs before the damage are handed out first; the damage is met again at their end.
fn damaged(found: Found, at: u64) -> Step {
    if found.slabs.is_empty() { Step::Damaged(at) } else { Step::Done(Found { over: true, ..found }) }
}

pub(super) fn agrees(slab: &Slab, meta: &FrameMeta) -> bool {
    slab.rows.seqs() == meta.seqs() && slab.rows.stream == headwater_core::batch::StreamRef::Id(meta.stream)
}

/// Largest damaged range that is copied at once.
const COPY_BYTES_MAX: u64 = 8 << 20;

pub(super) fn copy<F: DiskFile>(file: &F, range: &Range<u64>) -> Option<(u64, Vec<u8>)> {
    let len = range.end.saturating_sub(range.start).min(COPY_BYTES_MAX);
    let mut bytes = vec![0; usize::try_from(len).ok()?];
    file.read_at(&mut bytes, range.start).ok()?;
    Some((range.start, bytes))
}

pub(super) fn write_aside<D: Disk>(disk: &D, dir: &Path, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let quarantine = dir.join("quarantine");
    disk.create_dir_all(&quarantine)?;
    let path = quarantine.join(name);
    let file = match disk.create(&path) {
        Ok(file) => file,
        // The same damage seen again: it is kept already.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) => return Err(error),
    };
    file.write_at(bytes, 0)?;
    file.sync()?;
    disk.sync_dir(&quarantine)
}

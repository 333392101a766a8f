//! Places in a lane: where rows of an age begin, what lies before a place, how much lies between two.

use super::disk_spool::DiskSpool;
use super::frame::{FrameKind, HEADER_BYTES, frame_bytes};
use super::payload::Summary;
use super::scan::FrameReader;
use super::series_id::SeriesId;
use headwater_core::ports::{Cursor, Disk, Position, SlabTime, SpoolError, SpoolLane};
use headwater_core::time::BootNanos;

/// Bytes read at once while frame headers are gone through.
const AHEAD_BYTES: usize = 64 << 10;

impl<D: Disk> DiskSpool<D> {
    fn series_of(&self, lane: SpoolLane) -> Vec<SeriesId> {
        self.series.keys().filter(|id| id.lane == lane).copied().collect()
    }

    pub(super) fn seek_lane(&mut self, lane: SpoolLane, since: SlabTime) -> Result<Cursor, SpoolError> {
        let mut cursor = Cursor::default();
        for id in self.series_of(lane) {
            cursor = cursor.moved(id.slot(), self.seek_series(id, since)?);
        }
        Ok(cursor)
    }

    /// The place in a series before which everything is older.
    fn seek_series(&mut self, id: SeriesId, since: SlabTime) -> Result<Position, SpoolError> {
        for segno in self.readable(id, 0).into_iter().rev() {
            let Some(body) = self.body(id, segno) else { continue };
            match ends(&body.summary) {
                Some((first, _)) if first >= since => {}
                Some((_, last)) if last >= since => return self.seek_segment(id, segno, since),
                _ => return Ok(Position { segno, offset: body.len }),
            }
        }
        Ok(Position::default())
    }

    fn seek_segment(&mut self, id: SeriesId, segno: u64, since: SlabTime) -> Result<Position, SpoolError> {
        self.open_reader(id, segno)?;
        let (Some(body), Some((_, file))) = (self.body(id, segno), self.reader(id)) else {
            return Ok(Position { segno, offset: HEADER_BYTES });
        };
        let boot = body.summary.boot_ordinal;
        let mut frames = FrameReader::with_window(file, segno, body.len, AHEAD_BYTES);
        let mut at = HEADER_BYTES;
        while at < body.len {
            if let Some(bad) = body.bad.iter().find(|bad| bad.contains(&at)) {
                at = bad.end;
                continue;
            }
            // Damage is found, and told, when it is read; all behind it counts as young.
            let Ok(head) = frames.head(at) else { break };
            let young = head.meta.times.is_some_and(|(_, last)| (boot, last) >= since);
            if head.meta.kind == FrameKind::Slab && young {
                break;
            }
            at = at.saturating_add(frame_bytes(head.len));
        }
        Ok(Position { segno, offset: at })
    }

    pub(super) fn lane_stretch_before(&self, lane: SpoolLane, before: Cursor, bytes: u64) -> Cursor {
        let (mut start, mut left) = (before, bytes.max(1));
        while left > 0 {
            let youngest = self
                .series_of(lane)
                .into_iter()
                .filter_map(|id| self.segment_before(id, start.at(id.slot())).map(|found| (id, found)))
                .max_by_key(|(_, found)| found.time);
            let Some((id, found)) = youngest else { break };
            start = start.moved(id.slot(), Position { segno: found.segno, offset: 0 });
            left = left.saturating_sub(found.bytes);
        }
        start
    }

    /// The segment that holds the bytes just before a place, and how many of them.
    fn segment_before(&self, id: SeriesId, place: Position) -> Option<Before> {
        let segno = self
            .readable(id, 0)
            .into_iter()
            .rfind(|segno| *segno < place.segno || (*segno == place.segno && place.offset > HEADER_BYTES))?;
        let body = self.body(id, segno)?;
        let bytes = if segno == place.segno { body.len.min(place.offset) } else { body.len };
        let time = ends(&body.summary).map(|(_, last)| last);
        Some(Before { segno, bytes, time })
    }

    pub(super) fn lane_bytes_between(&self, lane: SpoolLane, from: Cursor, until: Cursor) -> u64 {
        let of_series = |id: SeriesId| -> u64 {
            let (from, until) = (from.at(id.slot()), until.at(id.slot()));
            let segments = self.readable(id, from.segno).into_iter().filter(|segno| *segno <= until.segno);
            let bytes = segments.map(|segno| {
                let len = self.body(id, segno).map_or(0, |body| body.len);
                let end = if segno == until.segno { until.offset.min(len) } else { len };
                end.saturating_sub(if segno == from.segno { from.offset } else { 0 })
            });
            bytes.fold(0, u64::saturating_add)
        };
        self.series_of(lane).into_iter().map(of_series).fold(0, u64::saturating_add)
    }
}

struct Before {
    segno: u64,
    bytes: u64,
    time: Option<SlabTime>,
}

/// Times of the oldest and the newest row of a segment, if any are known.
fn ends(summary: &Summary) -> Option<(SlabTime, SlabTime)> {
    let times = || summary.streams.values().filter_map(|part| part.times);
    let first: BootNanos = times().map(|(first, _)| first).min()?;
    let last: BootNanos = times().map(|(_, last)| last).max()?;
    Some(((summary.boot_ordinal, first), (summary.boot_ordinal, last)))
}

//! Room: what is given up before it runs out, what only lane control may use, and what is held in memory while the
//! disk refuses.

use super::disk_spool::DiskSpool;
use super::evict::{Candidate, Stock, choose, tell};
use super::frame::frame_bytes;
use super::gaps::{GAPS_HELD_MAX, LostRows};
use super::payload::Summary;
use super::series::{Closed, Pending, Series};
use super::series_id::{LAYERS, Rank, SeriesId};
use headwater_core::gap::GapCause;
use headwater_core::id::StreamId;
use headwater_core::interval::IntervalSet;
use headwater_core::ports::{Disk, DiskFile, Spool, SpoolError, SpoolLane};
use headwater_core::time::BootNanos;
use std::collections::BTreeMap;
use std::io;

/// Part of the budget only lane control may use, so that gap records fit when data does not.
const CONTROL_RESERVE_BYTES: u64 = 1 << 20;
/// Bytes written between two looks at the file system's free space.
const FREE_CHECK_BYTES: u64 = 1 << 20;
/// Most bytes appended and not synced: when a disk fails, this much is held in memory until it is back, and the
/// least valuable goes first. Four seconds of a camera at 1 MB/s, hours of a station.
pub(super) const PENDING_BYTES_MAX: u64 = 4 << 20;
/// Most bytes of the file that is given up for lane control on a full disk: days of gap records and clock samples.
const RESERVE_BYTES_MAX: u64 = 1 << 20;

/// No room is set aside for a segment if less than this stays free: some open segments and their successors.
const SET_ASIDE_FREE_BYTES_MIN: u64 = 64 << 20;
/// Share of the budget from which on blobs of class thin are split into temporal layers.
const CROWDED_SHARE: u64 = 8;

/// Why room is made, as gap records tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Short {
    /// The budget.
    Budget,
    /// The disk, which others fill too.
    Disk,
}

pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl<D: Disk> DiskSpool<D> {
    /// Writes a slab where it belongs. While the disk refuses, it waits in memory; what is too much for memory is
    /// given up by worth.
    pub(super) fn store(&mut self, id: SeriesId, item: Pending) -> Result<(), SpoolError> {
        let need = frame_bytes(item.payload.len());
        self.find_room(need);
        self.check_room(id, need)?;
        if self.usage_unsynced().saturating_add(need) > PENDING_BYTES_MAX
            && let Err(error) = self.sync()
            && !self.shed(id, need, &error)
        {
            return Err(error);
        }
        if let Err(error) = self.write_or_make_room(id, &item) {
            tracing::debug!(error = &error as &dyn std::error::Error, "slab waits in memory for the disk");
        }
        self.series(id).pending.push(item);
        Ok(())
    }

    fn write_or_make_room(&mut self, id: SeriesId, item: &Pending) -> Result<(), SpoolError> {
        let first = match self.write_now(id, item) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        if matches!(first, SpoolError::Full { .. }) {
            // What goes already is free as soon as its gap record is durable.
            let need = frame_bytes(item.payload.len()).max(FREE_CHECK_BYTES);
            self.evict(need.saturating_sub(self.evicted_bytes()), Short::Disk);
            self.free_evicted();
            if id.lane == SpoolLane::Control {
                self.give_up_reserve();
            }
        }
        self.write_now(id, item).inspect_err(|_| {
            // What was written before may still become durable; nothing may follow a frame that is not there.
            if self.series(id).open.is_some() {
                if let Err(error) = self.sync_series(id) {
                    tracing::debug!(error = &error as &dyn std::error::Error, "nor does it sync");
                }
                self.abandon(id);
            }
        })
    }

    fn write_now(&mut self, id: SeriesId, item: &Pending) -> Result<(), SpoolError> {
        self.spare_reserve(id, frame_bytes(item.payload.len()))?;
        self.make_room(id, frame_bytes(item.payload.len()))?;
        let wrote = self.write_frame(id, item);
        wrote.map_err(|error| {
            if !is_full(&error) {
                self.abandon(id);
            }
            self.refuse("write a slab", error)
        })
    }

    pub(super) fn used_bytes(&self) -> u64 {
        self.series
            .values()
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
        if is_full(&error) { self.full() } else { SpoolError::Io { what, source: error } }
    }

    /// A gateway that drains needs no thinning; one that fills up will.
    pub(super) fn is_crowded(&self) -> bool {
        self.used_bytes() > self.settings.bytes_max / CROWDED_SHARE
    }

    /// True while the file system has room enough that setting some aside takes it from nobody: neither from
    /// others nor from lane control, which may use the last of it.
    pub(super) fn has_room_to_set_aside(&self) -> bool {
        let others = self.settings.free_bytes_min.max(SET_ASIDE_FREE_BYTES_MIN);
        let least = others.saturating_add(self.settings.segment_bytes);
        self.disk.free_bytes(&self.dir).is_ok_and(|free| free >= least)
    }

    fn reserve_bytes(&self) -> u64 {
        CONTROL_RESERVE_BYTES.min(self.settings.bytes_max / 8)
    }

    fn check_room(&self, id: SeriesId, need: u64) -> Result<(), SpoolError> {
        let reserve = if id.lane == SpoolLane::Control { 0 } else { self.reserve_bytes() };
        let used = self.used_bytes().saturating_add(self.usage_waiting()).saturating_add(need);
        if used.saturating_add(reserve) > self.settings.bytes_max || (self.disk_short && reserve > 0) {
            return Err(self.full());
        }
        Ok(())
    }

    /// Bytes that wait in memory for a segment.
    fn usage_waiting(&self) -> u64 {
        let waiting = self.series.values().filter(|series| series.open.is_none());
        waiting.flat_map(|series| &series.pending).map(|item| frame_bytes(item.payload.len())).sum()
    }

    /// Gives up what is worth least before the budget or the disk is at its end, so that a gap record is durable
    /// before its rows go and capture goes on meanwhile. From a disk that others fill, the spool takes no more than
    /// its own new rows need: giving way to a runaway neighbour would lose everything and help nobody.
    pub(super) fn find_room(&mut self, need: u64) {
        let (max, segment) = (self.settings.bytes_max, self.settings.segment_bytes);
        let headroom = (max / 20).max(segment.saturating_mul(2)).min(max / 4);
        let high = max.saturating_sub(self.reserve_bytes()).saturating_sub(headroom);
        let used = self.used_bytes().saturating_sub(self.evicted_bytes()).saturating_add(need);
        if used > high {
            let step = (max / 20).max(segment).min(max / 8);
            self.evict(used.saturating_sub(high).saturating_add(step), Short::Budget);
        }
        let look = self
            .free_checked_at
            .is_none_or(|at| self.written_bytes.saturating_add(need).saturating_sub(at) >= FREE_CHECK_BYTES);
        if look {
            self.look_at_disk(need);
        }
    }

    fn look_at_disk(&mut self, need: u64) {
        let free = match self.disk.free_bytes(&self.dir) {
            Ok(free) => free.saturating_add(self.evicted_bytes()),
            Err(error) => {
                tracing::warn!(%error, "free space of the disk is unknown");
                return;
            }
        };
        let wanted = self.settings.free_bytes_min.saturating_add(need);
        self.disk_short = free < wanted;
        // A disk that is short is looked at for every slab.
        self.free_checked_at = Some(self.written_bytes).filter(|_| !self.disk_short);
        if self.disk_short && need > 0 {
            let freed = self.evict(need.max(FREE_CHECK_BYTES), Short::Disk);
            self.disk_short = freed < need;
        }
    }

    fn evicted_bytes(&self) -> u64 {
        let closed = self.series.values().flat_map(|series| series.closed.values());
        closed.filter(|closed| closed.evicted).map(|closed| closed.len).sum()
    }

    /// Gives up segments for at least `need` bytes, if there are any that may go. Gives how many bytes that is.
    fn evict(&mut self, need: u64, short: Short) -> u64 {
        let mut freed = 0;
        for seal in [false, true] {
            if seal && freed < need {
                self.seal_evictable();
            }
            let victims = choose(&self.candidates(), &self.stock(), need.saturating_sub(freed));
            for (id, segno) in victims {
                freed = freed.saturating_add(self.give_up(id, segno, short));
            }
            if freed >= need {
                break;
            }
        }
        freed
    }

    /// Segments that are written may hold all there is of little worth.
    fn seal_evictable(&mut self) {
        let worth = |(id, series): (&SeriesId, &Series<D::File>)| {
            let rows = series.open.as_ref().is_some_and(|open| open.body.summary.frames > 0);
            (rows && id.rank != Rank::Keep).then_some(*id)
        };
        let open: Vec<SeriesId> = self.series.iter().filter_map(worth).collect();
        // One at a time, the least first: the others go on.
        if let Some(id) = open.into_iter().min_by_key(|id| id.rank)
            && let Err(error) = self.seal(id)
        {
            tracing::debug!(%error, series = id.dir_name(), "could not be sealed for eviction");
        }
    }

    fn candidates(&self) -> BTreeMap<SeriesId, Vec<Candidate>> {
        // Of an older life no gap record can speak.
        let may = |closed: &Closed| {
            !closed.evicted && closed.summary.epoch == self.epoch && closed.summary.frames > 0
        };
        let all = self.series.iter().map(|(id, series)| {
            let newest = series.newest();
            let sealed =
                series.closed.iter().filter(|(segno, closed)| may(closed) && Some(**segno) != newest);
            (*id, sealed.map(|(segno, closed)| candidate(*segno, closed)).collect())
        });
        all.collect()
    }

    fn stock(&self) -> BTreeMap<StreamId, Stock> {
        let mut stock: BTreeMap<StreamId, Stock> = BTreeMap::new();
        if self.streams.values().all(|stream| stream.policy.keep_bytes_min == 0) {
            return stock;
        }
        for (id, stream) in &self.streams {
            stock.entry(*id).or_default().keep_min = stream.policy.keep_bytes_min;
        }
        let held = self.series.values().flat_map(Series::held).filter(|summary| summary.epoch == self.epoch);
        for (id, part) in held.flat_map(|summary| &summary.streams) {
            let stock = stock.entry(*id).or_default();
            stock.held = stock.held.saturating_add(part.bytes);
        }
        stock
    }

    /// Rows of a segment are not handed out any more, and told as evicted. Its file goes when that is durable.
    fn give_up(&mut self, id: SeriesId, segno: u64, short: Short) -> u64 {
        let Some(closed) = self.series.get(&id).and_then(|series| series.closed.get(&segno)) else {
            return 0;
        };
        let (len, summary) = (closed.len, closed.summary.clone());
        if self.gaps.len().saturating_add(summary.streams.len()) > GAPS_HELD_MAX {
            tracing::warn!("too many gap records wait; nothing is evicted until they are stored");
            return 0;
        }
        tracing::warn!(series = id.dir_name(), segno, bytes = len, ?short, "segment evicted");
        if let Some(closed) = self.series(id).closed.get_mut(&segno) {
            closed.evicted = true;
        }
        self.series(id).reader.take_if(|(open, _)| *open == segno);
        self.evictions.segments = self.evictions.segments.saturating_add(1);
        for (stream, part) in &summary.streams {
            let mut gone = part.seqs.clone();
            let Some(known) = self.streams.get(stream) else { continue };
            known.acked.iter().for_each(|seqs| gone.remove(seqs));
            known.explained.iter().for_each(|seqs| gone.remove(seqs));
            let name = known.entry.name.clone();
            let (total, rows) = (part.seqs.count().max(1), gone.count());
            self.evictions.rows = self.evictions.rows.saturating_add(rows);
            let layer = if let Rank::Thin(layer) = id.rank { layer } else { LAYERS };
            for told in tell(&gone, &self.here(*stream), layer) {
                let cause = match (told.stride, short) {
                    (2.., _) => GapCause::EvictedThinned,
                    (_, Short::Budget) => GapCause::EvictedPolicy,
                    (_, Short::Disk) => GapCause::EvictedDiskFull,
                };
                let bytes = u128::from(part.bytes) * u128::from(told.rows) / u128::from(total);
                let lost = LostRows {
                    stream: name.clone(),
                    boot_ordinal: summary.boot_ordinal,
                    seqs: told.seqs.clone(),
                    bytes: u64::try_from(bytes).unwrap_or(u64::MAX),
                    span: part.times.unwrap_or((BootNanos(0), BootNanos(0))),
                };
                let note = match short {
                    Short::Budget => "no room in the spool's budget",
                    Short::Disk => "no room on the disk",
                };
                self.gaps.record_thinned(lost, cause, note, told.stride, told.phase, told.rows);
            }
        }
        len
    }

    /// Seqs of a stream that stand in a segment or wait for one.
    fn here(&self, stream: StreamId) -> IntervalSet {
        let mut here = IntervalSet::new();
        let held = self.series.values().flat_map(Series::held).filter(|summary| summary.epoch == self.epoch);
        held.filter_map(|summary| summary.streams.get(&stream)).for_each(|part| here.union_with(&part.seqs));
        let waiting = self.series.values().flat_map(|series| &series.pending);
        waiting.filter(|item| item.meta.stream == stream).for_each(|item| here.insert(item.meta.seqs()));
        here
    }

    /// Unlinks what was given up and is accounted for.
    pub(super) fn free_evicted(&mut self) {
        if self.series.values().flat_map(|series| series.closed.values()).any(|closed| closed.evicted) {
            self.free_segments();
        }
    }

    /// Makes room in memory for a slab of `need` bytes while the disk refuses: the least valuable and of it the
    /// oldest goes. False if nothing is worth less than the slab itself.
    fn shed(&mut self, id: SeriesId, need: u64, why: &SpoolError) -> bool {
        let cause = match why {
            SpoolError::Full { .. } => GapCause::EvictedDiskFull,
            _ => GapCause::MediaError,
        };
        while self.usage_unsynced().saturating_add(need) > PENDING_BYTES_MAX {
            // Written to an open segment is as good as synced: it cannot be taken back.
            let waiting = self.series.iter().filter(|(_, s)| s.open.is_none() && !s.pending.is_empty());
            let Some(least) =
                waiting.map(|(id, _)| *id).min_by_key(|id| id.rank).filter(|least| least.rank <= id.rank)
            else {
                return self.usage_unsynced() == 0;
            };
            let item = self.series(least).pending.remove(0);
            self.evictions.shed = self.evictions.shed.saturating_add(u64::from(item.meta.rows));
            let Some(stream) = self.streams.get_mut(&item.meta.stream) else { continue };
            stream.skipped.insert(item.meta.seqs());
            let lost = LostRows {
                stream: stream.entry.name.clone(),
                boot_ordinal: self.boot_ordinal,
                seqs: item.meta.seqs(),
                bytes: item.payload.len() as u64,
                span: item.meta.times.unwrap_or((BootNanos(0), BootNanos(0))),
            };
            self.gaps.record(lost, cause, "the disk refused it and memory was full");
            // Gap records are not forgotten with the slab that held them.
            self.gaps.put_back(item.gaps);
        }
        true
    }

    /// A file that is given up when the disk is full, so that gap records and alarms still find room.
    pub(super) fn keep_reserve(&mut self) {
        let bytes = self.reserve_file_bytes();
        let path = self.dir.join("reserve");
        let there = self.disk.open(&path).and_then(|file| file.len()).is_ok_and(|len| len >= bytes);
        let free = self.disk.free_bytes(&self.dir).unwrap_or(0);
        if there || free < self.settings.free_bytes_min.saturating_add(bytes.saturating_mul(2)) {
            return;
        }
        let made = self.remove_reserve().and_then(|()| {
            let file = self.disk.create(&path)?;
            file.write_at(&vec![0; usize::try_from(bytes).unwrap_or(0)], 0)?;
            file.sync()
        });
        match made {
            Ok(()) => self.reserve_out = false,
            Err(error) => tracing::debug!(%error, "reserve could not be made"),
        }
    }

    fn reserve_file_bytes(&self) -> u64 {
        RESERVE_BYTES_MAX.min(self.settings.segment_bytes / 8)
    }

    fn remove_reserve(&self) -> io::Result<()> {
        match self.disk.unlink(&self.dir.join("reserve")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The room of a reserve that was given up is for lane control alone.
    pub(super) fn spare_reserve(&self, id: SeriesId, need: u64) -> Result<(), SpoolError> {
        let free = || self.disk.free_bytes(&self.dir).unwrap_or(u64::MAX);
        let spared = id.lane == SpoolLane::Control || !self.reserve_out;
        if spared || free() >= self.reserve_file_bytes().saturating_mul(2).saturating_add(need) {
            Ok(())
        } else {
            Err(self.full())
        }
    }

    fn give_up_reserve(&mut self) {
        self.reserve_out = true;
        match self.remove_reserve() {
            Ok(()) => tracing::warn!("the disk is full: the reserve is given up for lane control"),
            Err(error) => tracing::warn!(%error, "the reserve could not be given up"),
        }
    }
}

fn candidate(segno: u64, closed: &Closed) -> Candidate {
    let Summary { boot_ordinal, streams, .. } = &closed.summary;
    let oldest = streams.values().filter_map(|part| part.times).map(|(first, _)| first).min();
    Candidate {
        segno,
        len: closed.len,
        age: (*boot_ordinal, oldest.unwrap_or(BootNanos(i64::MIN))),
        streams: streams.iter().map(|(id, part)| (*id, part.bytes)).collect(),
    }
}

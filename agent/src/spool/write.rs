//! How slabs become durable: segments created, written, synced, given up and sealed.

use super::disk_spool::DiskSpool;
use super::frame::{FrameKind, FrameMeta, Place, SegmentHeader, frame_bytes, put_frame, put_head};
use super::payload::{LostRange, StreamTable, Summary, TableEntry, declaration_bytes};
use super::series::{Closed, Open, Pending, segment_name};
use super::series_id::{Rank, SeriesId};
use headwater_core::gap::GapCause;
use headwater_core::id::{Seq, StreamId};
use headwater_core::ports::{Disk, DiskFile, SpoolError};
use std::collections::BTreeMap;
use std::io;

/// Payloads below it are copied behind their header and written at once; above it two writes cost less.
const COPIED_BYTES_MAX: usize = 16 << 10;

impl<D: Disk> DiskSpool<D> {
    /// The stream table as far as it is durable: slabs not yet synced may vanish in a power cut, those of doubtful
    /// segments among them, and the seqs of vanished slabs are given again, not left out. So are skipped seqs at the end whose record would
    /// vanish; those before rows are told by the segment of these rows.
    pub(super) fn table(&self) -> StreamTable {
        let mut streams: BTreeMap<StreamId, TableEntry> =
            self.streams.iter().map(|(id, stream)| (*id, stream.entry.clone())).collect();
        for item in self.series.values().flat_map(|series| &series.pending) {
            if let Some(entry) = streams.get_mut(&item.meta.stream) {
                entry.next_seq = entry.next_seq.min(item.meta.seq_first);
            }
        }
        for (id, seqs) in self.doubtful_seqs() {
            if let Some(entry) = streams.get_mut(&id) {
                entry.next_seq = entry.next_seq.min(Seq(seqs.start));
            }
        }
        for (id, entry) in &mut streams {
            let skipped = self.streams.get(id).into_iter().flat_map(|stream| stream.skipped.iter());
            let at_end = skipped.into_iter().find(|seqs| (seqs.start..=seqs.end).contains(&entry.next_seq.0));
            entry.next_seq = at_end.map_or(entry.next_seq, |seqs| Seq(seqs.start));
        }
        let next_segno = self.series.iter().map(|(id, series)| (*id, series.created_upto)).collect();
        StreamTable { next_segno, streams }
    }

    /// Creates the next segment of a series: header, table and declarations, all durable with its name
    /// before any slab. Slabs waiting for a segment are written to it.
    pub(super) fn create_segment(&mut self, id: SeriesId) -> Result<(), SpoolError> {
        let dir = self.series_dir(id);
        let series = self.series(id);
        let first = series.created_upto == 1;
        let segno = series.next_segno;
        series.next_segno = segno.saturating_add(1);
        let mut summary = Summary::new(self.epoch, self.boot_ordinal);
        let header = SegmentHeader {
            series: id,
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
        for (stream_id, stream) in self.streams.iter().filter(|(_, stream)| id.takes(&stream.policy)) {
            if let Some(schema) = &stream.schema {
                let at = place(&bytes);
                summary.declared.insert(*stream_id, at.offset);
                let payload = declaration_bytes(*stream_id, &stream.entry.name, id.lane, schema);
                put_frame(&mut bytes, at, &FrameMeta::plain(FrameKind::Stream, *stream_id), 0, &payload);
            }
        }
        let path = dir.join(segment_name(segno));
        let roomy = self.has_room_to_set_aside();
        let segment_bytes = self.settings.segment_bytes;
        let folder = || {
            self.disk.create_dir_all(&dir)?;
            self.disk.sync_dir(&self.dir.join("seg"))
        };
        let made =
            if first { folder() } else { Ok(()) }.and_then(|()| self.disk.create(&path)).and_then(|file| {
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
        let series = self.series(id);
        series.created_upto = segno.saturating_add(1);
        series.open = Some(Open { segno, file, len, body: Closed::new(len, summary) });
        self.write_waiting(id)?;
        self.free_segments();
        Ok(())
    }

    fn write_waiting(&mut self, id: SeriesId) -> Result<(), SpoolError> {
        let waiting = std::mem::take(&mut self.series(id).pending);
        let wrote = waiting.iter().try_for_each(|pending| self.write_frame(id, pending));
        self.series(id).pending = waiting;
        wrote.map_err(|error| {
            self.abandon(id);
            self.refuse("write waiting slabs", error)
        })
    }

    /// Writes a slab (and before the first of its stream the declaration) to the open segment.
    pub(super) fn write_frame(&mut self, series: SeriesId, item: &Pending) -> io::Result<()> {
        let id = item.meta.stream;
        let declared_here = self
            .series(series)
            .open
            .as_ref()
            .is_some_and(|open| open.body.summary.declared.contains_key(&id));
        let declaration = self.streams.get(&id).filter(|_| !declared_here).and_then(|stream| {
            Some(declaration_bytes(id, &stream.entry.name, series.lane, stream.schema.as_ref()?))
        });
        let Some(open) = self.series(series).open.as_mut() else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let mut bytes = Vec::with_capacity(item.payload.len().min(COPIED_BYTES_MAX).saturating_add(64));
        let mut declared = None;
        if let Some(payload) = declaration {
            declared = Some(open.len);
            let place = Place { segno: open.segno, offset: open.len };
            let meta = FrameMeta::plain(FrameKind::Stream, id);
            put_frame(&mut bytes, place, &meta, open.body.len, &payload);
        }
        let place = Place { segno: open.segno, offset: open.len.saturating_add(bytes.len() as u64) };
        put_head(&mut bytes, place, &item.meta, open.body.len, &item.payload);
        let mut written = bytes.len() as u64;
        if item.payload.len() >= COPIED_BYTES_MAX {
            open.file.write_at(&item.payload, open.len.saturating_add(written))?;
            written = written.saturating_add(item.payload.len() as u64);
            open.file.write_at(&bytes, open.len)?;
        } else {
            bytes.extend_from_slice(&item.payload);
            written = bytes.len() as u64;
            open.file.write_at(&bytes, open.len)?;
        }
        open.len = open.len.saturating_add(written);
        if let Some(offset) = declared {
            open.body.summary.declared.insert(id, offset);
        }
        self.written_bytes = self.written_bytes.saturating_add(written);
        Ok(())
    }

    /// Writes the declaration of a stream to its series and syncs it.
    pub(super) fn write_declaration(&mut self, home: SeriesId, id: StreamId) -> Result<(), SpoolError> {
        let payload = self.streams.get(&id).and_then(|stream| {
            Some(declaration_bytes(id, &stream.entry.name, home.lane, stream.schema.as_ref()?))
        });
        let open = self.series.get_mut(&home).and_then(|series| series.open.as_mut());
        let (Some(open), Some(payload)) = (open, payload) else {
            return self.create_segment(home);
        };
        let mut bytes = Vec::new();
        let place = Place { segno: open.segno, offset: open.len };
        put_frame(&mut bytes, place, &FrameMeta::plain(FrameKind::Stream, id), open.body.len, &payload);
        match open.file.write_at(&bytes, open.len).and_then(|()| open.file.sync()) {
            Ok(()) => {
                open.body.summary.declared.insert(id, open.len);
                open.len = open.len.saturating_add(bytes.len() as u64);
                self.written_bytes = self.written_bytes.saturating_add(bytes.len() as u64);
                self.promote(home);
                Ok(())
            }
            Err(error) => {
                tracing::warn!(%error, "declaration goes to a new segment");
                self.abandon(home);
                self.sync_series(home)?;
                if self.series(home).open.is_none() { self.create_segment(home) } else { Ok(()) }
            }
        }
    }

    /// A segment whose sync or write failed is never written or synced again: what was proven durable
    /// stays readable, what was not is still in memory and goes to another segment.
    pub(super) fn abandon(&mut self, id: SeriesId) {
        let skips = self.untold_skips(id);
        let series = self.series(id);
        if let Some(mut open) = series.open.take() {
            open.body.summary.lost.extend(skips);
            tracing::error!(
                series = id.dir_name(),
                segno = open.segno,
                "segment given up after a disk error"
            );
            // A start after this one would read what was not synced, and could not tell that it is only in memory.
            if let Err(error) = open.file.truncate(open.body.len) {
                tracing::warn!(%error, segno = open.segno, "what was not synced stays behind the sound part");
            }
            series.closed.insert(open.segno, open.body);
        }
    }

    /// Makes a series durable. `true` if there was something to do.
    pub(super) fn sync_series(&mut self, id: SeriesId) -> Result<bool, SpoolError> {
        if self.series(id).pending.is_empty() {
            return Ok(false);
        }
        for last_try in [false, true] {
            if self.series(id).open.is_none() {
                let waiting =
                    self.series(id).pending.iter().map(|item| frame_bytes(item.payload.len())).sum();
                self.spare_reserve(id, waiting)?;
                self.create_segment(id)?;
            }
            match self.series(id).open.as_ref().map_or(Ok(()), |open| open.file.sync()) {
                Ok(()) => {
                    self.promote(id);
                    return Ok(true);
                }
                Err(error) => {
                    self.abandon(id);
                    if last_try {
                        return Err(self.refuse("sync a segment", error));
                    }
                }
            }
        }
        Ok(true)
    }

    /// What was pending is durable now.
    pub(super) fn promote(&mut self, id: SeriesId) {
        let series = self.series(id);
        let mut payload_bytes = 0_u64;
        let mut gaps = Vec::new();
        if let Some(open) = series.open.as_mut() {
            for item in series.pending.drain(..) {
                open.body.summary.add(&item.meta, frame_bytes(item.payload.len()));
                payload_bytes = payload_bytes.saturating_add(item.payload.len() as u64);
                gaps.extend(item.gaps);
            }
            open.body.len = open.len;
        }
        self.payload_bytes = self.payload_bytes.saturating_add(payload_bytes);
        self.note_gaps(&gaps);
    }

    /// What a sealed segment tells of seqs that were skipped, or stand where a power cut may still take them: nobody goes
    /// through it again to find the holes. What is here after all is not told as lost.
    fn untold_skips(&self, series: SeriesId) -> Vec<LostRange> {
        let of_series = || self.streams.iter().filter(|(_, stream)| series.takes(&stream.policy));
        let skips = of_series().flat_map(|(id, stream)| stream.skipped.iter().map(|seqs| (*id, seqs)));
        let mut lost: Vec<LostRange> =
            skips.map(|(stream, seqs)| LostRange { stream, seqs, cause: GapCause::Overrun }).collect();
        let doubtful =
            self.doubtful_seqs().into_iter().filter(|(id, _)| of_series().any(|(known, _)| known == id));
        lost.extend(doubtful.map(|(stream, seqs)| LostRange { stream, seqs, cause: GapCause::TornTail }));
        lost
    }

    /// Seals the open segment of a series with a footer.
    pub(super) fn seal(&mut self, id: SeriesId) -> Result<(), SpoolError> {
        self.sync_series(id)?;
        self.sync_layers(id)?;
        let Some(open) = self.series(id).open.take() else { return Ok(()) };
        let (segno, mut body) = (open.segno, open.body);
        body.summary.lost.extend(self.untold_skips(id));
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
                self.index.put_segment(id, segno, body.len, &body.summary);
            }
            // Its slabs are durable; only the shortcut of the footer is missing.
            Err(error) => tracing::warn!(%error, segno, "segment stays without a footer"),
        }
        self.series(id).closed.insert(segno, body);
        Ok(())
    }

    /// A footer ends the search for what is missing before its rows. So before a temporal layer has one, the rows of
    /// the other layers are durable.
    fn sync_layers(&mut self, id: SeriesId) -> Result<(), SpoolError> {
        let is_layer = |id: &SeriesId| matches!(id.rank, Rank::Thin(_));
        let layers =
            self.series.keys().filter(|other| is_layer(&id) && is_layer(other) && other.lane == id.lane);
        let layers: Vec<SeriesId> = layers.copied().collect();
        layers.into_iter().try_for_each(|layer| self.sync_series(layer).map(drop))
    }

    /// Seals a segment that was just synced if another group like the last would not fit: then its end costs no sync
    /// of its own.
    pub(super) fn seal_if_full(&mut self, id: SeriesId, group: u64) {
        let limit = self.settings.segment_bytes;
        let open = self.series.get(&id).and_then(|series| series.open.as_ref());
        if open.is_some_and(|open| open.body.summary.frames > 0 && open.len.saturating_add(group) > limit)
            && let Err(error) = self.seal(id)
        {
            tracing::debug!(%error, series = id.dir_name(), "segment is sealed later");
        }
    }

    /// An open segment with room for `need` more bytes.
    pub(super) fn make_room(&mut self, id: SeriesId, need: u64) -> Result<(), SpoolError> {
        let limit = self.settings.segment_bytes;
        if self.series(id).open.is_none() && !self.untold_skips(id).is_empty() {
            self.seal_siblings(id)?;
        }
        let series = self.series(id);
        let holds_slabs = |open: &Open<D::File>| open.body.summary.frames > 0 || !series.pending.is_empty();
        let full = series
            .open
            .as_ref()
            .is_some_and(|open| open.len.saturating_add(need) > limit && holds_slabs(open));
        if full {
            self.seal(id)?;
        }
        if self.series(id).open.is_none() { self.create_segment(id) } else { Ok(()) }
    }

    /// Skipped seqs are told by the footer of a segment that was open when they were skipped. A layer without one
    /// would begin with a table that is beyond them, so its siblings tell of them now.
    fn seal_siblings(&mut self, id: SeriesId) -> Result<(), SpoolError> {
        let is_sibling = |other: &SeriesId| other.lane == id.lane && *other != id;
        let siblings: Vec<SeriesId> = self
            .series
            .iter()
            .filter(|(id, s)| is_sibling(id) && s.open.is_some())
            .map(|(id, _)| *id)
            .collect();
        siblings.into_iter().try_for_each(|sibling| self.seal(sibling))
    }
}

/// Appends the footer frame of a segment.
pub(super) fn put_footer(out: &mut Vec<u8>, place: Place, summary: &Summary) {
    let mut payload = summary.to_bytes();
    let len = frame_bytes(payload.len().saturating_add(8));
    payload.extend_from_slice(&len.to_le_bytes());
    put_frame(out, place, &FrameMeta::plain(FrameKind::Footer, StreamId(0)), place.offset, &payload);
}

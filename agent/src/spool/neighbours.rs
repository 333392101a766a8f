//! What a damaged segment held, told by the segments around it: the table of the next one says how far its streams had
//! come by then. Only without an index, which knows it exactly.

use super::payload::{LostRange, StreamTable, Summary};
use super::scan::read_table;
use super::series::{Closed, Series, segment_name};
use super::series_id::SeriesId;
use super::survey::{Lost, Survey};
use headwater_core::gap::GapCause;
use headwater_core::id::{BootOrdinal, Epoch, StreamId};
use headwater_core::interval::IntervalSet;
use headwater_core::ports::{Disk, DiskFile};

/// Where the rows and losses of a stream end in a segment.
fn end(summary: &Summary, id: StreamId) -> Option<u64> {
    let held = summary.streams.get(&id).into_iter().flat_map(|part| part.seqs.iter().map(|seqs| seqs.end));
    let lost = summary.lost.iter().filter(|lost| lost.stream == id).map(|lost| lost.seqs.end);
    held.chain(lost).max()
}

impl<D: Disk> Survey<'_, D> {
    fn table_of(&self, id: SeriesId, segno: u64) -> Option<StreamTable> {
        let path = self.dir.join("seg").join(id.dir_name()).join(segment_name(segno));
        let file = self.disk.open(&path).ok()?;
        let len = file.len().ok()?;
        read_table(&file, segno, len)
    }

    /// What the table of the first sound segment after `segno` says of the streams of the series, unless the index knows that one anyway.
    fn next_table(
        &self,
        id: SeriesId,
        segno: u64,
        epoch: Epoch,
        series: &Series<D::File>,
    ) -> Option<StreamTable> {
        if self.known.segments.contains_key(&(id, segno)) {
            return None;
        }
        let mut newer = series.closed.range(segno.saturating_add(1)..);
        let (next, closed) = newer.find(|(_, closed)| closed.summary.epoch == epoch)?;
        let mut table = self.table_of(id, *next)?;
        // Declarations may be damaged too; then a lane's usual series is taken to hold all of the lane.
        let usual = SeriesId::home(&id.lane.into()) == id;
        let Summary { declared, streams, .. } = &closed.summary;
        table.streams.retain(|stream, entry| {
            let named = declared.contains_key(stream) || streams.contains_key(stream);
            named || (usual && entry.lane == id.lane)
        });
        Some(table)
    }

    /// Adds to what is left of a damaged segment what it must have held beside: from its own table to the next one.
    pub(super) fn complete(
        &self,
        id: SeriesId,
        segno: u64,
        own: &StreamTable,
        closed: &mut Closed,
        series: &Series<D::File>,
    ) {
        let Some(next) = self.next_table(id, segno, closed.summary.epoch, series) else { return };
        for (id, entry) in &next.streams {
            let mut gone = IntervalSet::new();
            gone.insert(own.streams.get(id).map_or(0, |entry| entry.next_seq.0)..entry.next_seq.0);
            let held = closed.summary.streams.get(id).into_iter().flat_map(|part| part.seqs.iter());
            held.for_each(|seqs| gone.remove(seqs));
            let lost = closed.summary.lost.iter().filter(|lost| lost.stream == *id);
            lost.for_each(|lost| gone.remove(lost.seqs.clone()));
            let lost = gone.iter().map(|seqs| LostRange { stream: *id, seqs, cause: GapCause::Corrupt });
            closed.summary.lost.extend(lost);
        }
    }

    /// What a segment must have held of which nothing can be read: from the one before to the one after it.
    pub(super) fn between(&mut self, id: SeriesId, segno: u64, series: &Series<D::File>) {
        let Some(epoch) = self.epoch else { return };
        let Some(next) = self.next_table(id, segno, epoch, series) else { return };
        let mut older = series.closed.range(..segno).rev();
        let before = older.find(|(_, closed)| closed.summary.epoch == epoch);
        let table = before.and_then(|(segno, _)| self.table_of(id, *segno));
        for (id, entry) in &next.streams {
            let had = before.and_then(|(_, closed)| end(&closed.summary, *id));
            let stood = table.as_ref().and_then(|table| table.streams.get(id)).map(|entry| entry.next_seq.0);
            let from = had.max(stood).unwrap_or(0);
            let told = self.lost.iter().filter(|lost| lost.epoch == epoch && lost.stream == *id);
            let mut gone = IntervalSet::new();
            gone.insert(from..entry.next_seq.0.max(from));
            told.for_each(|lost| gone.remove(lost.seqs.clone()));
            let boot_ordinal = BootOrdinal(self.boot_max);
            let cause = GapCause::Corrupt;
            let lost = gone.iter().map(|seqs| Lost { epoch, boot_ordinal, stream: *id, seqs, cause });
            self.torn_off.extend(lost);
        }
    }
}

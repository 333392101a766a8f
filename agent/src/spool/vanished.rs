//! Rows that were in a segment and are not any more, of which only the index or another series tells: the file was
//! removed, emptied or cut behind the spool's back.

use super::disk_spool::DiskSpool;
use super::index::Remembered;
use super::payload::LostRange;
use super::series::Series;
use super::series_id::SeriesId;
use super::survey::Lost;
use headwater_core::gap::GapCause;
use headwater_core::interval::IntervalSet;
use headwater_core::ports::{Disk, SpoolError, SpoolLane};

impl<D: Disk> DiskSpool<D> {
    /// `torn_off`, and what sealed segments held by the index and do not hold by themselves. Nothing of what the spool removed is
    /// among it: the index forgets a segment before that is unlinked.
    pub(super) fn vanished(&self, known: &Remembered, torn_off: Vec<Lost>) -> Vec<Lost> {
        let mut lost = torn_off;
        for ((id, segno), (_, was)) in &known.segments {
            let series = self.series.get(id);
            let is = series.and_then(|series| series.closed(*segno)).filter(|is| is.epoch == was.epoch);
            for (stream, part) in &was.streams {
                let here = is.and_then(|is| is.streams.get(stream));
                let mut gone = part.seqs.clone();
                here.into_iter().flat_map(|part| part.seqs.iter()).for_each(|seqs| gone.remove(seqs));
                lost.extend(gone.iter().map(|seqs| Lost {
                    epoch: was.epoch,
                    boot_ordinal: was.boot_ordinal,
                    stream: *stream,
                    seqs,
                    cause: GapCause::Corrupt,
                }));
            }
            // And what it told of before.
            if is.is_none() {
                lost.extend(was.lost.iter().map(|range| Lost {
                    epoch: was.epoch,
                    boot_ordinal: was.boot_ordinal,
                    stream: range.stream,
                    seqs: range.seqs.clone(),
                    cause: range.cause,
                }));
            }
        }
        lost.retain(|lost| lost.epoch != self.epoch || !self.is_elsewhere(lost));
        lost
    }

    /// True if every row is acked or stands in another segment: then nothing is missing.
    fn is_elsewhere(&self, lost: &Lost) -> bool {
        let mut here = self.acked(lost.epoch, lost.stream).cloned().unwrap_or_default();
        let ours = self.series.values().flat_map(Series::summaries).filter(|is| is.epoch == lost.epoch);
        ours.filter_map(|is| is.streams.get(&lost.stream)).for_each(|part| here.union_with(&part.seqs));
        here.covers(lost.seqs.clone())
    }

    /// Writes losses into the footer of a segment of their own, which tells them at every start until they are
    /// acked or stored. Until it stands, the table in it does not reach beyond them: then they are found again.
    pub(super) fn record_losses(&mut self, lost: Vec<LostRange>) -> Result<(), SpoolError> {
        let mut before: Vec<(_, IntervalSet)> = Vec::new();
        for range in &lost {
            if let Some(stream) = self.streams.get_mut(&range.stream) {
                before.push((range.stream, stream.skipped.clone()));
                stream.skipped.insert(range.seqs.clone());
            }
        }
        let home = SeriesId::home(&SpoolLane::Control.into());
        let made = self.create_segment(home);
        for (id, skipped) in before.into_iter().rev() {
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.skipped = skipped;
            }
        }
        made?;
        if let Some(open) = &mut self.series(home).open {
            open.body.summary.lost.extend(lost);
        }
        self.seal(home)
    }
}

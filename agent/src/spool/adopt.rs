//! Segments that another life of the process left unsealed, adopted: what is read from one is shipped, so it must be
//! on the disk first, not in a page cache that goes with the power.

use super::disk_spool::DiskSpool;
use super::frame::Place;
use super::read::copy;
use super::scan::WINDOW_BYTES;
use super::series::{Closed, segment_name};
use super::series_id::SeriesId;
use super::write::put_footer;
use headwater_core::id::StreamId;
use headwater_core::interval::IntervalSet;
use headwater_core::ports::{Disk, DiskFile};
use std::io;
use std::ops::Range;
use std::path::Path;

/// Ending of the copy of a segment that is not complete yet. One that a crash left is removed at the next open.
pub(super) const COPY_SUFFIX: &str = "copy";

/// Cuts a segment to what is sound and seals it, so that the next open need not look again. A disk that does not sync
/// what was found leaves it [doubtful](Closed::doubtful); one that has no room for the footer leaves it with its torn
/// end, which is all that tells of the rows in it.
pub(super) fn seal<F: DiskFile>(file: &F, segno: u64, closed: Closed, torn: Option<&Range<u64>>) -> Closed {
    if closed.unreadable {
        return synced(file.sync(), segno, closed);
    }
    let evidence = torn.and_then(|torn| copy(file, torn));
    let mut closed = synced(file.truncate(closed.len).and_then(|()| file.sync()), segno, closed);
    if closed.doubtful {
        return closed;
    }
    let bytes = footer(segno, &closed);
    match file.write_at(&bytes, closed.len).and_then(|()| file.sync()) {
        Ok(()) => closed.len = closed.len.saturating_add(bytes.len() as u64),
        Err(error) => {
            tracing::warn!(%error, segno, "segment could not be sealed");
            let back = file.truncate(closed.len).and_then(|()| {
                evidence.map_or(Ok(()), |(at, bytes)| file.write_at(&bytes, at))?;
                file.sync()
            });
            if let Err(error) = back {
                tracing::warn!(%error, segno, "torn end of a segment could not be put back");
            }
        }
    }
    closed
}

/// What a sync of it says of a segment.
pub(super) fn synced(outcome: io::Result<()>, segno: u64, closed: Closed) -> Closed {
    if let Err(error) = &outcome {
        tracing::error!(%error, segno, "segment cannot be synced; its rows wait until it can");
    }
    Closed { doubtful: outcome.is_err(), ..closed }
}

fn footer(segno: u64, closed: &Closed) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_footer(&mut bytes, Place { segno, offset: closed.len }, &closed.summary);
    bytes
}

impl<D: Disk> DiskSpool<D> {
    /// Tries again to make doubtful segments durable. After a sync that failed, a later one that succeeds proves nothing
    /// of what was written before it (the kernel marks those pages clean), so the segment is copied, and the copy takes
    /// its place once it is synced. One that cannot be read whole is left for the next start.
    pub(super) fn prove_doubtful(&mut self) {
        let doubtful: Vec<(SeriesId, u64)> = self
            .series
            .iter()
            .flat_map(|(id, series)| series.closed.iter().map(move |(segno, closed)| (*id, *segno, closed)))
            .filter(|(_, _, closed)| closed.doubtful && !closed.unreadable && !closed.evicted)
            .map(|(id, segno, _)| (id, segno))
            .collect();
        for (id, segno) in doubtful {
            match self.replace_with_copy(id, segno) {
                Ok(()) => {
                    tracing::info!(series = id.dir_name(), segno, "segment is durable; its rows are read")
                }
                Err(error) => {
                    tracing::warn!(%error, series = id.dir_name(), segno, "segment cannot be made durable yet");
                }
            }
        }
    }

    /// Rows of this life in doubtful segments that the collector has not.
    pub(super) fn doubtful_seqs(&self) -> Vec<(StreamId, Range<u64>)> {
        let closed = self.series.values().flat_map(|series| series.closed.values());
        let doubtful =
            closed.filter(|closed| closed.doubtful && !closed.evicted && closed.summary.epoch == self.epoch);
        let parts = doubtful.flat_map(|closed| &closed.summary.streams);
        let nothing = IntervalSet::new();
        parts
            .flat_map(|(id, part)| {
                let acked = self.acked(self.epoch, *id).unwrap_or(&nothing);
                part.seqs.iter().flat_map(|seqs| acked.missing_in(seqs)).map(|seqs| (*id, seqs))
            })
            .collect()
    }

    fn replace_with_copy(&mut self, id: SeriesId, segno: u64) -> io::Result<()> {
        let dir = self.series_dir(id);
        let Some(closed) = self.series.get(&id).and_then(|series| series.closed.get(&segno)) else {
            return Ok(());
        };
        let (path, copy) =
            (dir.join(segment_name(segno)), dir.join(segment_name(segno)).with_extension(COPY_SUFFIX));
        let end = footer(segno, closed);
        let len = write_copy(&self.disk, &path, &copy, closed.len, &end)?;
        self.disk.rename(&copy, &path)?;
        self.disk.sync_dir(&dir)?;
        self.written_bytes = self.written_bytes.saturating_add(len);
        let series = self.series(id);
        series.reader.take_if(|(open, _)| *open == segno);
        if let Some(closed) = series.closed.get_mut(&segno) {
            closed.doubtful = false;
            closed.len = len;
            let summary = closed.summary.clone();
            self.index.put_segment(id, segno, len, &summary);
        }
        Ok(())
    }
}

/// Writes the first `len` bytes of a file and `end` to another one and syncs it. Gives back its length.
fn write_copy<D: Disk>(disk: &D, from: &Path, to: &Path, len: u64, end: &[u8]) -> io::Result<u64> {
    match disk.unlink(to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let (from, to) = (disk.open(from)?, disk.create(to)?);
    let mut at = 0;
    let mut window = vec![0; WINDOW_BYTES];
    while at < len {
        let left = usize::try_from(len.saturating_sub(at)).unwrap_or(usize::MAX);
        window.truncate(left);
        from.read_at(&mut window, at)?;
        to.write_at(&window, at)?;
        at = at.saturating_add(window.len() as u64);
    }
    to.write_at(end, len)?;
    to.sync()?;
    Ok(len.saturating_add(end.len() as u64))
}

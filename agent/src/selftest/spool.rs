//! Does what was synced survive a kill? The folder of an open spool is copied while it is open, which is what a kill
//! leaves; half a frame is put at the end, as a power cut leaves it; and the copy is opened.

use super::rows::{rows, schema};
use super::{Found, because};
use crate::spool::disk::RealDisk;
use crate::spool::{DiskSpool, Settings};
use headwater_core::batch::Rows;
use headwater_core::id::{BootId, StreamId};
use headwater_core::interval::IntervalSet;
use headwater_core::ports::{Cursor, Slab, Spool, SpoolLane};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Small segments, so that there are several; and it runs on a disk that is nearly full.
const SIZES: Settings =
    Settings { segment_bytes: 16 << 10, bytes_max: 4 << 20, free_bytes_min: 0, new_epoch: false };
/// Rows of a slab.
const SLAB_ROWS: u64 = 50;
/// Slabs that are synced.
const SLABS: u64 = 20;
/// Rows that are synced.
pub(super) const ROWS: u64 = SLAB_ROWS * SLABS;
/// Rows the collector would have acknowledged.
pub(super) const ACKED: u64 = 120;
/// Bytes of one read.
const READ_BYTES: usize = 64 << 10;
/// Folders in folders that are copied: a spool's have three.
const DEPTH_MAX: usize = 8;

pub(super) fn open(dir: &Path, boot: u8) -> Result<DiskSpool<RealDisk>, String> {
    let opened = DiskSpool::open(RealDisk, dir, BootId([boot; 16]), SIZES);
    opened.map(|(spool, _)| spool).map_err(because("the spool does not open"))
}

fn append(spool: &mut DiskSpool<RealDisk>, stream: StreamId, first: u64) -> Result<(), String> {
    let rows = rows(stream, first, SLAB_ROWS)?;
    spool.append(Slab { rows, blob: None, arrived: None }).map_err(because("rows cannot be appended"))
}

/// A spool with [`ROWS`] synced rows and some that are not, still open.
pub(super) fn filled(dir: &Path) -> Result<DiskSpool<RealDisk>, String> {
    let mut spool = open(dir, 1)?;
    let name = "selftest".parse().map_err(|_| "selftest is no name".to_owned())?;
    let stream = spool.declare(&name, &schema()?, SpoolLane::Telemetry.into());
    let stream = stream.map_err(because("a stream cannot be declared"))?;
    for slab in 0..SLABS {
        append(&mut spool, stream, slab.saturating_mul(SLAB_ROWS))?;
        spool.sync().map_err(because("the disk does not sync"))?;
    }
    spool.trim(stream, &IntervalSet::below(ACKED)).map_err(because("an ack cannot be kept"))?;
    append(&mut spool, stream, ROWS)?;
    Ok(spool)
}

/// Every row that is not acknowledged reads back as it was, and capture goes on behind them.
pub(super) fn holds_all(spool: &mut DiskSpool<RealDisk>) -> Result<(), String> {
    let mut found = IntervalSet::new();
    let mut at = Cursor::default();
    loop {
        let slabs = spool.read(SpoolLane::Telemetry, at, READ_BYTES).map_err(because("it cannot be read"))?;
        let Some(last) = slabs.last() else { break };
        at = last.next;
        for slab in &slabs {
            is_as_written(&slab.slab.rows)?;
            found.insert(slab.slab.rows.seqs());
        }
    }
    if !found.covers(ACKED..ROWS) {
        return Err(format!("rows are lost: {:?} are there", found.iter().collect::<Vec<_>>()));
    }
    let state = spool.streams().into_iter().next().ok_or("the stream is lost")?;
    if state.next_seq.0 < ROWS {
        return Err(format!("a seq would be given twice: the next is {}", state.next_seq.0));
    }
    append(spool, state.id, state.next_seq.0)?;
    spool.sync().map_err(because("it cannot go on"))
}

fn is_as_written(found: &Rows) -> Result<(), String> {
    let count = u64::try_from(found.len()).unwrap_or(u64::MAX);
    let written = rows(StreamId(1), found.first_seq.0, count)?;
    match found.same_bits(&written) {
        true => Ok(()),
        false => Err(format!("rows from {} on are not as written", found.first_seq.0)),
    }
}

/// Copies a folder with what is in it.
pub(super) fn copy(from: &Path, to: &Path, depth: usize) -> io::Result<()> {
    if depth > DEPTH_MAX {
        return Err(io::Error::other("folders are nested too deep"));
    }
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target, depth.saturating_add(1))?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// The newest segment of the lane.
fn newest_segment(dir: &Path) -> io::Result<PathBuf> {
    let mut found = Vec::new();
    for series in fs::read_dir(dir.join("seg"))? {
        let series = series?;
        if series.file_name().to_string_lossy().starts_with("telemetry") {
            for file in fs::read_dir(series.path())? {
                found.push(file?.path());
            }
        }
    }
    found.retain(|path| path.extension().is_some_and(|ext| ext == "seg"));
    found.into_iter().max().ok_or_else(|| io::Error::other("no segment was written"))
}

/// The check.
pub(super) fn survives_a_kill(dir: &Path) -> Found {
    let (live, killed) = (dir.join("live"), dir.join("killed"));
    let spool = filled(&live)?;
    copy(&live, &killed, 0).map_err(because("its folder cannot be copied"))?;
    drop(spool);
    let torn = newest_segment(&killed).and_then(|path| {
        let begun = fs::read(&path)?;
        let half = begun.get(..begun.len().min(100)).unwrap_or_default();
        fs::OpenOptions::new().append(true).open(path)?.write_all(half)
    });
    torn.map_err(because("its segment cannot be torn"))?;
    // As a later boot, and once more as the same one: what the first open repaired is repaired.
    for boot in [2, 2] {
        holds_all(&mut open(&killed, boot)?)?;
    }
    Ok(format!("{ROWS} rows synced, killed, torn: every row that was not acknowledged is back"))
}

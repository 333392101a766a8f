//! The spool that is hurt, and what a start finds of it.

use super::harm::files_below;
use super::spool_world::{blob_slab, boot, declare, next_seq, read_all, slab};
use headwater_agent::spool::disk::RealDisk;
use headwater_agent::spool::frame::FrameKind;
use headwater_agent::spool::scan::{read_header, scan};
use headwater_agent::spool::{DiskSpool, Settings};
use headwater_core::batch::StreamRef;
use headwater_core::id::{Epoch, StreamId};
use headwater_core::interval::IntervalSet;
use headwater_core::ports::{Disk, DiskFile, Spool, SpoolLane};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

/// A start that takes longer hangs.
const START_MAX: Duration = Duration::from_secs(60);
const SETTINGS: Settings =
    Settings { segment_bytes: 16 << 10, bytes_max: 1 << 30, free_bytes_min: 0, new_epoch: false };
/// Streams of the spool, ids from 1 on; the last one with blobs.
pub(crate) const STREAMS: [(&str, SpoolLane); 4] = [
    ("imu", SpoolLane::Telemetry),
    ("gps", SpoolLane::Telemetry),
    ("alarm", SpoolLane::Control),
    ("camera/front", SpoolLane::Media),
];
/// Seqs of each stream.
type Sets = [IntervalSet; 4];

/// What was in it.
pub(crate) struct Base {
    pub(crate) epoch: Epoch,
    pub(crate) durable: Sets,
    pub(crate) acked: Sets,
    /// Rows in each segment file.
    pub(crate) files: BTreeMap<PathBuf, Sets>,
}

fn of(stream: usize) -> StreamId {
    StreamId(stream as u16 + 1)
}

fn work(spool: &mut DiskSpool<RealDisk>, rounds: u64, durable: &mut Sets) {
    for _ in 0..rounds {
        for (stream, durable) in durable.iter_mut().enumerate() {
            let first = next_seq(spool, of(stream));
            let made = match stream {
                3 => blob_slab(of(3), first, 3_000),
                _ => slab(of(stream), first, 10 + 4 * stream as u64),
            };
            durable.insert(made.rows.seqs());
            spool.append(made).unwrap();
        }
        spool.sync().unwrap();
    }
}

impl Base {
    /// Two boots, sealed and open segments in each lane, acked and unacked ones, an index, and something in
    /// quarantine.
    pub(crate) fn make(dir: &Path) -> Self {
        let (mut spool, opened) = DiskSpool::open(RealDisk, dir, boot(1), SETTINGS).unwrap();
        for (name, lane) in STREAMS {
            declare(&mut spool, name, lane);
        }
        let (mut durable, mut acked) = (Sets::default(), Sets::default());
        work(&mut spool, 40, &mut durable);
        drop(spool);
        let (mut spool, _) = DiskSpool::open(RealDisk, dir, boot(2), SETTINGS).unwrap();
        for (stream, upto) in [(0, 95), (2, 40), (3, 12)] {
            acked[stream] = IntervalSet::below(upto);
            spool.trim(of(stream), &acked[stream]).unwrap();
        }
        work(&mut spool, 23, &mut durable);
        // Often enough that the index is flushed and knows all of it.
        (0..16).for_each(|_| spool.trim(of(0), &acked[0]).unwrap());
        drop(spool);
        for n in 1..3 {
            let name = format!("rot-media-{n:016x}-64");
            std::fs::write(dir.join("quarantine").join(name), "set aside once").unwrap();
        }
        let mut files = BTreeMap::new();
        for file in files_below(dir).into_iter().filter(|file| file.extension().is_some_and(|e| e == "seg")) {
            files.insert(file.clone(), rows_in(&dir.join(file)));
        }
        Self { epoch: opened.epoch, durable, acked, files }
    }
}

fn rows_in(path: &Path) -> Sets {
    let file = RealDisk.open(path).unwrap();
    let len = file.len().unwrap();
    let header = read_header(&file, len).unwrap().unwrap();
    let mut rows = Sets::default();
    scan(&file, header.segno, len, |_, head, _| {
        if head.meta.kind == FrameKind::Slab {
            rows[usize::from(head.meta.stream.0) - 1].insert(head.meta.seqs());
        }
    });
    rows
}

/// What a start found.
pub(crate) struct Found {
    pub(crate) epoch: Epoch,
    /// Rows of the first epoch that read back as they were.
    pub(crate) back: Sets,
    /// Rows told lost.
    pub(crate) told: Sets,
    pub(crate) next: [u64; 4],
    /// Rows written after the harm, in the epoch of then.
    pub(crate) appended: Sets,
}

impl Found {
    /// Opens the spool in a thread of its own, looks, and captures a little if `works`.
    ///
    /// # Errors
    /// Why it did not start.
    pub(crate) fn open(dir: &Path, base: &Base, life: u8, works: bool) -> Result<Self, String> {
        let (tell, found) = sync_channel(1);
        let (dir, epoch) = (dir.to_owned(), base.epoch);
        let ends: [u64; 4] =
            std::array::from_fn(|at| base.durable[at].iter().last().map_or(0, |range| range.end));
        std::thread::spawn(move || drop(tell.send(look(&dir, epoch, &ends, life, works))));
        match found.recv_timeout(START_MAX) {
            Ok(found) => found,
            Err(error) => Err(format!("it panicked or hangs: {error}")),
        }
    }
}

fn look(dir: &Path, base: Epoch, ends: &[u64; 4], life: u8, works: bool) -> Result<Found, String> {
    let (mut spool, opened) = DiskSpool::open(RealDisk, dir, boot(life), SETTINGS)
        .map_err(|error| format!("it does not start: {error}: {:?}", std::error::Error::source(&error)))?;
    let mut found = Found {
        epoch: opened.epoch,
        back: Sets::default(),
        told: Sets::default(),
        next: [0; 4],
        appended: Sets::default(),
    };
    for read in SpoolLane::ALL.into_iter().flat_map(|lane| read_all(&mut spool, lane)) {
        let StreamRef::Id(id) = read.slab.rows.stream else {
            return Err("a slab without a stream id".into());
        };
        let (stream, seqs) = (usize::from(id.0) - 1, read.slab.rows.seqs());
        let expected = match &read.slab.blob {
            Some(blob) => blob_slab(id, seqs.start, blob.bytes.len()),
            None => slab(id, seqs.start, seqs.end - seqs.start),
        };
        if !read.slab.rows.same_bits(&expected.rows) || read.slab.blob != expected.blob {
            return Err(format!("{id:?} {seqs:?} changed"));
        }
        let new = read.epoch != base || seqs.start >= ends[stream];
        let set = if new { &mut found.appended[stream] } else { &mut found.back[stream] };
        if !set.present_in(seqs.clone()).is_empty() {
            return Err(format!("{id:?} {seqs:?} is here twice"));
        }
        set.insert(seqs);
    }
    // Reading tells of damage too.
    for gap in spool.take_gaps() {
        if let Some(at) = STREAMS.iter().position(|(name, _)| *name == gap.stream.as_str()) {
            found.told[at].insert(gap.seq_first.0..gap.seq_last.0 + 1);
        }
    }
    for (at, (name, lane)) in STREAMS.iter().enumerate() {
        let id = declare(&mut spool, name, *lane);
        if id != of(at) {
            return Err(format!("{name} has another id"));
        }
        found.next[at] = next_seq(&spool, id);
        if works {
            spool.append(slab(id, found.next[at], 5)).map_err(|error| format!("append: {error}"))?;
            found.appended[at].insert(found.next[at]..found.next[at] + 5);
        }
    }
    spool.sync().map_err(|error| format!("sync: {error}"))?;
    Ok(found)
}

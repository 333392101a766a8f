//! Far more than the disk could hold goes through a spool of constant depth: neither disk nor memory grow.
//!
//! Two gibibytes, a minute on two busy cores; `HEADWATER_SOAK_MIB` says another number.
#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "helpers of tests: a failure is a failed test, and numbers are small"
)]

#[expect(dead_code, reason = "shared by the tests of the spool; each uses its part")]
mod spool_world;

use headwater_agent::spool::disk::RealDisk;
use headwater_agent::spool::{DiskSpool, Settings};
use headwater_core::id::StreamId;
use headwater_core::interval::IntervalSet;
use headwater_core::ports::{Cursor, Spool, SpoolLane};
use headwater_core::sample::Blob;
use spool_world::{blob_slab, boot, declare, next_seq, slab};
use std::collections::VecDeque;
use std::path::Path;

const MIB: u64 = 1 << 20;
/// Bytes of rows and blobs that stay in the spool.
const DEPTH_BYTES: u64 = 64 * MIB;
const SEGMENT_BYTES: u64 = 8 * MIB;
/// Segments beside those the depth fills: of the big series the oldest one, partly released, and all of the small
/// one. After a drain it is what each series keeps at most.
const SEGMENTS_OVER: u64 = 2;
/// Frame headers, footers and tables come to less than this part of rows and blobs.
const OVERHEAD_SHARE: u64 = 50;
/// Growth of the resident memory between the tenth part and the end: what an allocator keeps at most, and far
/// below what one entry per slab would come to.
const RSS_GROWTH_BYTES_MAX: u64 = 12 * MIB;
/// Goes through it in all.
const SOAK_MIB: u64 = 2048;
const BLOB_BYTES: usize = 192 << 10;
const ROWS: u64 = 400;
const LANES: [SpoolLane; 2] = [SpoolLane::Telemetry, SpoolLane::Media];

fn rss_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() * 1024
}

/// Segment files of each series: how many, and their bytes.
fn series(dir: &Path) -> Vec<(u64, u64)> {
    let folders = std::fs::read_dir(dir.join("seg")).unwrap();
    let of = |folder: std::fs::DirEntry| {
        let files = std::fs::read_dir(folder.path()).unwrap();
        files.fold((0, 0), |(n, bytes), file| (n + 1, bytes + file.unwrap().metadata().unwrap().len()))
    };
    folders.map(|folder| of(folder.unwrap())).filter(|(n, _)| *n > 0).collect()
}

struct Soak {
    spool: DiskSpool<RealDisk>,
    imu: StreamId,
    cam: StreamId,
    /// What is held, oldest first: stream, end of its seqs, bytes.
    held: VecDeque<(StreamId, u64, u64)>,
    held_bytes: u64,
    passed: u64,
    cursors: [Cursor; 2],
    read: [u64; 2],
}

impl Soak {
    fn start(dir: &Path) -> Self {
        let settings = Settings {
            segment_bytes: SEGMENT_BYTES,
            bytes_max: 2 * DEPTH_BYTES,
            free_bytes_min: 0,
            new_epoch: false,
        };
        let (mut spool, _) = DiskSpool::open(RealDisk, dir, boot(1), settings).unwrap();
        let imu = declare(&mut spool, "imu", LANES[0]);
        let cam = declare(&mut spool, "camera/front", LANES[1]);
        let (cursors, read) = ([Cursor::default(); 2], [0; 2]);
        Self { spool, imu, cam, held: VecDeque::new(), held_bytes: 0, passed: 0, cursors, read }
    }

    /// Writes about a mebibyte, syncs, reads what is new, and lets go of what is beyond the depth.
    fn round(&mut self, picture: &Blob) {
        let before = self.spool.usage().payload_bytes;
        for _ in 0..4 {
            let first = next_seq(&self.spool, self.imu);
            self.spool.append(slab(self.imu, first, ROWS)).unwrap();
            self.held.push_back((self.imu, first + ROWS, 0));
            let seq = next_seq(&self.spool, self.cam);
            let mut shot = blob_slab(self.cam, seq, 0);
            shot.blob = Some(picture.clone());
            self.spool.append(shot).unwrap();
            self.held.push_back((self.cam, seq + 1, 0));
        }
        self.spool.sync().unwrap();
        let bytes = self.spool.usage().payload_bytes - before;
        self.held.back_mut().unwrap().2 = bytes;
        (self.passed, self.held_bytes) = (self.passed + bytes, self.held_bytes + bytes);
        for (at, lane) in LANES.into_iter().enumerate() {
            for found in self.spool.read(lane, self.cursors[at], 8 << 20).unwrap() {
                let seqs = found.slab.rows.seqs();
                assert_eq!(seqs.start, self.read[at], "read in order, each once");
                assert!(found.slab.blob.is_none_or(|blob| blob == *picture));
                (self.read[at], self.cursors[at]) = (seqs.end, found.next);
            }
        }
        assert_eq!(self.read, [next_seq(&self.spool, self.imu), next_seq(&self.spool, self.cam)]);
        let mut upto = [None; 2];
        while self.held_bytes > DEPTH_BYTES {
            let (stream, end, bytes) = self.held.pop_front().unwrap();
            upto[usize::from(stream == self.cam)] = Some((stream, end));
            self.held_bytes -= bytes;
        }
        for (stream, end) in upto.into_iter().flatten() {
            self.spool.trim(stream, &IntervalSet::below(end)).unwrap();
        }
    }
}

#[test]
fn fifo_soak() {
    let total = std::env::var("HEADWATER_SOAK_MIB").map_or(SOAK_MIB, |mib| mib.parse().unwrap()) * MIB;
    let home = tempfile::tempdir().unwrap();
    let mut soak = Soak::start(home.path());
    let picture = blob_slab(soak.cam, 0, BLOB_BYTES).blob.unwrap();
    let (mut rss_early, mut disk_most) = (0, 0);
    while soak.passed < total {
        soak.round(&picture);
        let series = series(home.path());
        let disk: u64 = series.iter().map(|(_, bytes)| bytes).sum();
        let allowed = soak.held_bytes + soak.held_bytes / OVERHEAD_SHARE + SEGMENTS_OVER * SEGMENT_BYTES;
        assert!(disk <= allowed, "{disk} bytes on disk for {} held", soak.held_bytes);
        disk_most = disk.max(disk_most);
        if rss_early == 0 && soak.passed >= total / 10 {
            rss_early = rss_bytes();
        }
    }
    let rss_end = rss_bytes();
    assert!(soak.spool.take_gaps().is_empty());
    let ends = [(soak.imu, soak.read[0]), (soak.cam, soak.read[1])];
    ends.iter().for_each(|(stream, end)| soak.spool.trim(*stream, &IntervalSet::below(*end)).unwrap());
    println!(
        "{} MiB through {} MiB: disk at most {} MiB, memory {} to {} KiB, {} MiB written; drained: {:?}",
        soak.passed / MIB,
        DEPTH_BYTES / MIB,
        disk_most / MIB,
        rss_early / 1024,
        rss_end / 1024,
        soak.spool.usage().written_bytes / MIB,
        series(home.path())
    );
    assert!(series(home.path()).iter().all(|(segments, _)| *segments <= SEGMENTS_OVER));
    assert!(rss_end <= rss_early + RSS_GROWTH_BYTES_MAX, "memory grew from {rss_early} to {rss_end}");
}

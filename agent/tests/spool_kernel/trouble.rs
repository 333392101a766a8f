//! Disks that fill up, turn read-only or go away while a capture runs: it lives, says what it could not keep, and
//! goes on by itself once it can.

use super::spool_world::{boot, read_all, schema, slab};
use super::writer::SETTINGS;
use headwater_agent::spool::disk::RealDisk;
use headwater_agent::spool::{DegradedMode, DiskSpool, Settings, SpoolHandle, SyncPolicy, TaskSettings};
use headwater_core::batch::StreamRef;
use headwater_core::gap::{GapCause, GapRecord};
use headwater_core::id::StreamId;
use headwater_core::interval::IntervalSet;
use headwater_core::ports::{Cursor, Spool, SpoolLane};
use headwater_sim::loop_disk::LoopDisk;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

const T: SpoolLane = SpoolLane::Telemetry;
const DISK_BYTES: u64 = 24 << 20;
/// Rows of a slab: about 8 KiB.
const ROWS: u64 = 200;

/// A capture of one stream through the handle, as the agent's stages use it.
struct Capture {
    spool: SpoolHandle,
    thread: JoinHandle<()>,
    imu: StreamId,
    next: u64,
    gaps: Vec<GapRecord>,
}

impl Capture {
    async fn start(dir: &Path, settings: Settings) -> Self {
        let spool = DiskSpool::open(RealDisk, dir, boot(1), settings).unwrap().0;
        let patient = TaskSettings {
            sync: SyncPolicy { interval: Duration::from_secs(3600), bytes: 1 << 30 },
            queue_bytes: 1 << 20,
        };
        let (spool, thread) = SpoolHandle::start(spool, patient).unwrap();
        let imu = spool.declare("imu".parse().unwrap(), schema(), T.into()).await.unwrap();
        Self { spool, thread, imu, next: 0, gaps: Vec::new() }
    }

    /// Captures slabs and syncs after each fourth; true if all of them were kept.
    async fn captures(&mut self, slabs: u64) -> bool {
        let (mut well, before) = (true, self.gaps.len());
        for n in 1..=slabs {
            self.spool.append(slab(self.imu, self.next, ROWS)).await.unwrap();
            self.next += ROWS;
            if n % 4 == 0 || n == slabs {
                well &= self.spool.sync().await.is_ok();
            }
        }
        self.gaps.extend(self.spool.take_gaps().await.unwrap());
        well && self.gaps.len() == before
    }

    fn told(&self) -> IntervalSet {
        self.gaps.iter().map(|gap| gap.seq_first.0..gap.seq_last.0 + 1).collect()
    }

    async fn reads(&self) -> IntervalSet {
        let mut set = IntervalSet::new();
        let mut at = Cursor::default();
        loop {
            let some = self.spool.read(T, at, 1 << 20).await.unwrap();
            let Some(last) = some.last() else { return set };
            at = last.next;
            for found in some {
                assert_eq!(found.slab.rows.stream, StreamRef::Id(self.imu));
                let seqs = found.slab.rows.seqs();
                assert!(found.slab.rows.same_bits(&slab(self.imu, seqs.start, ROWS).rows));
                assert!(set.present_in(seqs.clone()).is_empty(), "{seqs:?} is here twice");
                set.insert(seqs);
            }
        }
    }

    async fn tells_nothing_that_is_here(&self) {
        let (back, told) = (self.reads().await, self.told());
        assert!(told.iter().all(|seqs| back.present_in(seqs).is_empty()), "a row is told lost and here");
    }

    /// Every seq given so far is either readable or told as a gap, and none is both.
    async fn accounts_for_all(&self) {
        let (back, told) = (self.reads().await, self.told());
        assert!(told.iter().all(|seqs| back.present_in(seqs).is_empty()), "a row is told lost and here");
        let mut all = back;
        all.union_with(&told);
        assert_eq!(all.missing_in(0..self.next), [], "rows are missing in silence");
    }

    fn ends(self) {
        drop(self.spool);
        self.thread.join().unwrap();
    }
}

/// A new process finds every row of `kept`, and never gives its seqs again.
fn holds(dir: &Path, kept: &IntervalSet) -> u64 {
    let (mut spool, opened) = DiskSpool::open(RealDisk, dir, boot(2), SETTINGS).unwrap();
    assert!(!opened.new_epoch);
    let back: IntervalSet = read_all(&mut spool, T).into_iter().map(|found| found.slab.rows.seqs()).collect();
    let mut missing = kept.clone();
    back.iter().for_each(|seqs| missing.remove(seqs));
    assert!(missing.is_empty(), "{missing:?} are lost");
    let next = spool.streams()[0].next_seq.0;
    assert!(next >= kept.iter().last().unwrap().end);
    next
}

fn disk(what: &str) -> Option<(tempfile::TempDir, LoopDisk)> {
    if let Some(why) = LoopDisk::why_not() {
        println!("{what} is not tested on a real file system: {why}");
        return None;
    }
    let home = tempfile::tempdir().unwrap();
    let disk = LoopDisk::make(home.path(), DISK_BYTES).unwrap();
    Some((home, disk))
}

async fn a_full_disk(free_bytes_min: u64) {
    let Some((_home, disk)) = disk("a full disk") else { return };
    let dir = disk.path().join("spool");
    let mut capture = Capture::start(&dir, Settings { free_bytes_min, ..SETTINGS }).await;
    assert!(capture.captures(50).await);
    for _ in 0..3 {
        disk.fill().unwrap();
        assert!(!capture.captures(60).await, "a full disk takes nothing");
        assert!(capture.gaps.iter().all(|gap| gap.cause == GapCause::EvictedDiskFull), "{:?}", capture.gaps);
        capture.tells_nothing_that_is_here().await;
        disk.free().unwrap();
        assert!(capture.captures(50).await, "it goes on by itself: {:?}", capture.gaps.last());
        capture.accounts_for_all().await;
    }
    let kept = capture.reads().await;
    capture.ends();
    disk.remount().unwrap();
    holds(&dir, &kept);
}

#[tokio::test]
async fn capture_outlives_a_full_disk_and_goes_on() {
    a_full_disk(0).await;
}

#[tokio::test]
async fn capture_leaves_others_their_space_and_goes_on() {
    a_full_disk(2 << 20).await;
}

/// Names turn read-only, as they do under an operator's read-only mount: no segment can be made, removed or
/// renamed. The one that is open is still written, so the capture first fills it.
#[tokio::test]
async fn capture_outlives_a_read_only_disk_and_goes_on() {
    let Some((_home, disk)) = disk("a read-only disk") else { return };
    let dir = disk.path().join("spool");
    let mut capture = Capture::start(&dir, SETTINGS).await;
    assert!(capture.captures(50).await);
    for _ in 0..3 {
        let guard = disk.read_only().unwrap();
        assert!(!capture.captures(60).await, "a read-only disk takes nothing new");
        let health = capture.spool.health().await.unwrap();
        assert!(health.degraded.iter().any(|(mode, _)| *mode == DegradedMode::ReadOnly), "{health:?}");
        let upto = capture.next / 2 / ROWS * ROWS;
        capture.spool.trim(vec![(capture.imu, IntervalSet::below(upto))]).await.unwrap();
        drop(guard);
        assert!(capture.captures(50).await, "it goes on by itself: {:?}", capture.gaps.last());
        assert!(capture.spool.health().await.unwrap().degraded.is_empty());
    }
    assert!(capture.gaps.is_empty(), "what came meanwhile waited in memory");
    let mut back = capture.reads().await;
    let kept = back.clone();
    back.union_with(&capture.told());
    assert_eq!(back.missing_in(capture.next / 2..capture.next), [], "rows are missing in silence");
    capture.ends();
    disk.remount().unwrap();
    holds(&dir, &kept);
}

/// The disk goes away for good: every call fails. The capture lives with bounded memory; what was acknowledged
/// before is there when the disk is.
#[tokio::test]
async fn capture_outlives_a_disk_that_goes_away() {
    let Some((_home, disk)) = disk("a disk that goes away") else { return };
    let dir = disk.path().join("spool");
    let mut capture = Capture::start(&dir, SETTINGS).await;
    assert!(capture.captures(50).await);
    let kept = capture.reads().await;
    assert_eq!(kept, IntervalSet::below(50 * ROWS));
    disk.cut_power().unwrap();
    for _ in 0..10 {
        assert!(!capture.captures(500).await, "nothing can be kept");
    }
    let usage = capture.spool.usage().await.unwrap();
    assert!(usage.unsynced_bytes < 5 << 20, "{} bytes wait in memory", usage.unsynced_bytes);
    assert!(!capture.gaps.is_empty() && capture.gaps.iter().all(|gap| gap.cause == GapCause::MediaError));
    let told = capture.told();
    assert!(
        told.iter().all(|seqs| seqs.start >= 50 * ROWS && seqs.end < capture.next),
        "the oldest goes first"
    );
    let modes = capture.spool.health().await.unwrap().degraded;
    assert!(modes.iter().any(|(mode, _)| matches!(mode, DegradedMode::IoErrors | DegradedMode::ReadOnly)));
    capture.ends();
    disk.remount().unwrap();
    holds(&dir, &kept);
}

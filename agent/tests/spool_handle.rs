//! The spool behind its handle: durability told, seqs left out and slabs refused become gaps.
#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "helpers of tests: a failure is a failed test, and numbers are small"
)]

#[expect(dead_code, reason = "shared by the tests of the spool; each uses its part")]
mod spool_world;

use headwater_agent::spool::{DegradedMode, DiskSpool, Settings, SpoolHandle, SyncPolicy, TaskSettings};
use headwater_core::gap::{GapCause, GapRecord};
use headwater_core::id::{Epoch, Seq, StreamId, StreamName};
use headwater_core::interval::IntervalSet;
use headwater_core::ports::{
    Cursor, Slab, Spool, SpoolError, SpoolLane, SpoolUsage, SpooledSlab, StreamClass, StreamPolicy,
    StreamState,
};
use headwater_core::schema::Schema;
use headwater_sim::disk::SimDisk;
use spool_world::*;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

/// Syncs only when asked to, or at once for lane control.
fn patient() -> TaskSettings {
    TaskSettings {
        sync: SyncPolicy { interval: Duration::from_secs(3600), bytes: 1 << 30 },
        queue_bytes: 1 << 20,
    }
}

async fn declared(spool: &SpoolHandle, name: &str, lane: SpoolLane) -> StreamId {
    spool.declare(name.parse().unwrap(), schema(), lane.into()).await.unwrap()
}

#[tokio::test]
async fn slabs_are_durable_when_told_and_the_last_handle_syncs_the_rest() {
    let (disk, index) = (SimDisk::new(), MemIndex::default());
    let (spool, thread) = SpoolHandle::start(open(&disk, 1, &index).0, patient()).unwrap();
    let imu = declared(&spool, "imu", SpoolLane::Telemetry).await;
    let alarm = declared(&spool, "alarm", SpoolLane::Control).await;
    let mut synced = spool.synced();
    spool.append(slab(imu, 0, 5)).await.unwrap();
    assert_eq!(spool.usage().await.unwrap().rows, 0, "not captured yet");
    spool.append(slab(alarm, 0, 1)).await.unwrap();
    synced.changed().await.unwrap();
    let read = spool.read(SpoolLane::Telemetry, Cursor::default(), 1 << 20).await.unwrap();
    assert_eq!(read.len(), 1, "lane control takes the others along");
    spool.trim(vec![(imu, IntervalSet::below(5))]).await.unwrap();
    assert!(spool.read(SpoolLane::Telemetry, Cursor::default(), 1 << 20).await.unwrap().is_empty());
    let beyond = spool.trim(vec![(imu, IntervalSet::below(9)), (alarm, IntervalSet::below(1))]).await;
    assert!(matches!(beyond, Err(SpoolError::BeyondNext { .. })));
    let states = spool.streams().await.unwrap();
    assert_eq!(
        states.iter().find(|s| s.id == alarm).unwrap().acked,
        IntervalSet::below(1),
        "others are tried"
    );
    spool.append(slab(imu, 5, 5)).await.unwrap();
    drop(spool);
    thread.join().unwrap();
    let (mut after, opened) = open(&disk.crash(1), 2, &index);
    assert!(readable(&mut after, SpoolLane::Telemetry, opened.epoch, imu).covers(5..10));
}

#[tokio::test]
async fn what_cannot_be_kept_is_a_gap_and_seqs_go_on() {
    let (disk, index) = (SimDisk::new(), MemIndex::default());
    let budget = Settings { bytes_max: 32 << 10, ..SMALL };
    let (spool, thread) = SpoolHandle::start(open_with(&disk, 1, &index, budget).0, patient()).unwrap();
    let keep = StreamPolicy { class: StreamClass::Keep, ..SpoolLane::Telemetry.into() };
    let imu = spool.declare("imu".parse().unwrap(), schema(), keep).await.unwrap();
    // Seqs left out, as after a refused try_append.
    spool.append(slab(imu, 3, 2)).await.unwrap();
    // Skipped with a gap of the caller's.
    spool.skip(imu, 5).await.unwrap();
    spool.append(slab(imu, 10, 5)).await.unwrap();
    // Repeated seqs are no gap.
    spool.append(slab(imu, 10, 5)).await.unwrap();
    let gaps = spool.take_gaps().await.unwrap();
    assert_eq!(gaps.len(), 1);
    assert_eq!((gaps[0].seq_first.0, gaps[0].seq_last.0, gaps[0].cause), (0, 2, GapCause::Overrun));
    let mut next = 15;
    let full = loop {
        spool.append(slab(imu, next, 10)).await.unwrap();
        next += 10;
        if let Some(gap) = spool.take_gaps().await.unwrap().pop() {
            break gap;
        }
        assert!(next < 100_000, "a budget of 32 KiB fills up");
    };
    assert_eq!(
        (full.seq_first.0, full.seq_last.0, full.cause),
        (next - 10, next - 1, GapCause::EvictedDiskFull)
    );
    let degraded = spool.health().await.unwrap().degraded;
    assert_eq!(degraded.iter().map(|(mode, _)| *mode).collect::<Vec<_>>(), [DegradedMode::DiskFull]);
    spool.sync().await.unwrap();
    spool.trim(vec![(imu, IntervalSet::below(next - 10))]).await.unwrap();
    spool.append(slab(imu, next, 10)).await.unwrap();
    spool.sync().await.unwrap();
    let state = spool.streams().await.unwrap().pop().unwrap();
    assert_eq!(state.held, std::iter::once(next..next + 10).collect());
    assert!(spool.take_gaps().await.unwrap().is_empty());
    drop(spool);
    thread.join().unwrap();
}

/// Rows of `hw/gaps` that find a full disk speak of losses nobody else knows: they wait in memory, and are there
/// once there is room.
#[tokio::test]
async fn a_gap_record_without_room_waits_for_it() {
    let (disk, index) = (SimDisk::new(), MemIndex::default());
    let (spool, thread) = SpoolHandle::start(open(&disk, 1, &index).0, patient()).unwrap();
    let imu = declared(&spool, "imu", SpoolLane::Telemetry).await;
    let gaps =
        spool.declare("hw/gaps".parse().unwrap(), gaps_schema(), SpoolLane::Control.into()).await.unwrap();
    spool.append(slab(imu, 3, 2)).await.unwrap();
    let left_out = spool.take_gaps().await.unwrap().pop().unwrap();
    disk.set_capacity(0);
    spool.append(gap_slab(gaps, 0, &left_out)).await.unwrap();
    assert!(matches!(spool.sync().await, Err(SpoolError::Full { .. })));
    assert!(spool.take_gaps().await.unwrap().is_empty(), "it is not told twice");
    disk.set_capacity(1 << 30);
    spool.append(slab(imu, 5, 5)).await.unwrap();
    spool.sync().await.unwrap();
    let stored = spool.read(SpoolLane::Control, Cursor::default(), 1 << 20).await.unwrap();
    assert_eq!(stored.len(), 1);
    assert_eq!(stored[0].slab.rows.first_seq, Seq(0));
    drop(spool);
    thread.join().unwrap();
}

#[tokio::test]
async fn a_failing_sync_keeps_slabs_and_is_told() {
    let (disk, index) = (SimDisk::new(), MemIndex::default());
    let (spool, thread) = SpoolHandle::start(open(&disk, 1, &index).0, patient()).unwrap();
    let imu = declared(&spool, "imu", SpoolLane::Telemetry).await;
    spool.append(slab(imu, 0, 5)).await.unwrap();
    disk.fail_syncs(u32::MAX);
    assert!(matches!(spool.sync().await, Err(SpoolError::Io { .. })));
    assert_eq!(*spool.synced().borrow(), 0);
    disk.fail_syncs(0);
    spool.sync().await.unwrap();
    assert_eq!(*spool.synced().borrow(), 1);
    assert_eq!(spool.usage().await.unwrap().rows, 5);
    drop(spool);
    thread.join().unwrap();
}

/// A spool whose disk is as slow as the test wants: each append waits for a word.
struct Slow {
    spool: DiskSpool<SimDisk>,
    word: Receiver<()>,
}

impl Spool for Slow {
    fn append(&mut self, slab: Slab) -> Result<(), SpoolError> {
        self.word.recv().expect("the test says when");
        self.spool.append(slab)
    }
    fn epoch(&self) -> Epoch {
        self.spool.epoch()
    }
    fn declare(
        &mut self,
        name: &StreamName,
        schema: &Schema,
        policy: StreamPolicy,
    ) -> Result<StreamId, SpoolError> {
        self.spool.declare(name, schema, policy)
    }
    fn streams(&self) -> Vec<StreamState> {
        self.spool.streams()
    }
    fn skip(&mut self, stream: StreamId, n: u64) -> Result<(), SpoolError> {
        self.spool.skip(stream, n)
    }
    fn sync(&mut self) -> Result<(), SpoolError> {
        self.spool.sync()
    }
    fn read(&mut self, lane: SpoolLane, after: Cursor, limit: usize) -> Result<Vec<SpooledSlab>, SpoolError> {
        self.spool.read(lane, after, limit)
    }
    fn trim(&mut self, stream: StreamId, acked: &IntervalSet) -> Result<(), SpoolError> {
        self.spool.trim(stream, acked)
    }
    fn trim_older(&mut self, epoch: Epoch, stream: StreamId, acked: &IntervalSet) -> Result<(), SpoolError> {
        self.spool.trim_older(epoch, stream, acked)
    }
    fn take_gaps(&mut self) -> Vec<GapRecord> {
        self.spool.take_gaps()
    }
    fn usage(&self) -> SpoolUsage {
        self.spool.usage()
    }
}

#[tokio::test]
async fn capture_is_refused_and_never_waits_when_the_queue_is_full() {
    let (disk, index) = (SimDisk::new(), MemIndex::default());
    let (say, word) = sync_channel(8);
    let slow = Slow { spool: open(&disk, 1, &index).0, word };
    let (spool, thread) = SpoolHandle::start(slow, patient()).unwrap();
    let cam = declared(&spool, "camera/front", SpoolLane::Media).await;
    // A slab above the whole queue still passes, alone.
    spool.try_append(blob_slab(cam, 0, 2 << 20)).unwrap();
    let (back, full) = spool.try_append(blob_slab(cam, 1, 10)).unwrap_err();
    assert_eq!((back.rows.first_seq.0, full.to_string().as_str()), (1, "the spool's queue is full"));
    say.send(()).unwrap();
    say.send(()).unwrap();
    spool.append(back).await.unwrap();
    spool.sync().await.unwrap();
    assert_eq!(spool.usage().await.unwrap().rows, 2);
    assert!(spool.take_gaps().await.unwrap().is_empty());
    drop(spool);
    thread.join().unwrap();
}

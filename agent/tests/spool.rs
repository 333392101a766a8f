//! The spool against power cuts, rot, full and failing disks, and losing parts of itself.
#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::single_range_in_vec_init,
    reason = "helpers of tests: a failure is a failed test, and numbers are small"
)]

mod spool_world;

use headwater_agent::spool::disk::RealDisk;
use headwater_agent::spool::index::VALUE_BYTES_MAX;
use headwater_agent::spool::series_id::SeriesId;
use headwater_agent::spool::{DiskSpool, Settings};
use headwater_core::gap::GapCause;
use headwater_core::id::{Epoch, StreamId};
use headwater_core::interval::IntervalSet;
use headwater_core::ports::{
    Cursor, Disk, DiskFile, Position, Spool, SpoolError, SpoolLane, StreamClass, StreamPolicy,
};
use headwater_core::schema::Schema;
use headwater_sim::disk::{Dice, SimDisk, conformance};
use spool_world::*;
use std::path::{Path, PathBuf};

const T: SpoolLane = SpoolLane::Telemetry;

#[test]
fn the_real_disk_conforms() {
    let dir = tempfile::tempdir().unwrap();
    conformance(&RealDisk, dir.path());
}

#[test]
fn what_is_synced_reads_back_and_what_is_not_does_not() {
    let (disk, index) = (SimDisk::new(), MemIndex::default());
    let (mut spool, opened) = open(&disk, 1, &index);
    assert!(opened.new_epoch);
    let imu = declare(&mut spool, "imu", T);
    let cam = declare(&mut spool, "camera/front", SpoolLane::Media);
    assert_eq!((imu, cam), (StreamId(1), StreamId(2)));
    spool.append(slab(imu, 0, 10)).unwrap();
    spool.append(blob_slab(cam, 0, 20_000)).unwrap();
    assert!(read_all(&mut spool, T).is_empty(), "unsynced rows are never handed out");
    spool.sync().unwrap();
    assert_eq!(readable(&mut spool, T, opened.epoch, imu), IntervalSet::below(10));
    let pictures = read_all(&mut spool, SpoolLane::Media);
    assert_eq!(pictures.len(), 1);
    assert_eq!(pictures[0].slab.blob, blob_slab(cam, 0, 20_000).blob);
    let refused = spool.append(slab(imu, 11, 1)).unwrap_err();
    assert!(matches!(refused, SpoolError::OutOfOrder { .. }), "{refused}");
    assert!(matches!(spool.append(slab(StreamId(9), 0, 1)), Err(SpoolError::Unknown(StreamId(9)))));
    let usage = spool.usage();
    assert_eq!((usage.rows, usage.unsynced_bytes), (11, 0));
    assert_eq!(usage.oldest.map(|at| at.0), Some(1_000_000));
}

/// A segment stays until all of it is released, and may hold hours: what was released of it is held no longer.
#[test]
fn the_oldest_row_is_one_that_is_still_held() {
    let (disk, index) = (SimDisk::new(), MemIndex::default());
    let (mut spool, _) = open(&disk, 1, &index);
    let imu = declare(&mut spool, "imu", T);
    for first in [0, 10, 20] {
        spool.append(slab(imu, first, 10)).unwrap();
        spool.sync().unwrap();
    }
    let at = |seq: i64| Some(1_000_000 + seq * 1_000);
    for (upto, oldest) in [(0, at(0)), (1, at(1)), (10, at(10)), (29, at(29)), (30, None)] {
        spool.trim(imu, &IntervalSet::below(upto)).unwrap();
        assert_eq!(spool.usage().oldest.map(|at| at.0), oldest, "below {upto}");
    }
    assert_eq!(spool.usage().rows, 0);
}

/// Three slabs of one stream in one segment, synced one by one; the frames' borders.
fn three_slabs() -> (SimDisk, PathBuf, Vec<u64>, Epoch) {
    let (disk, index) = (SimDisk::new(), MemIndex::default());
    let (mut spool, opened) = open(&disk, 1, &index);
    let imu = declare(&mut spool, "imu", T);
    let path = segments(&disk, T).pop().unwrap();
    let mut borders = vec![disk.bytes(&path).unwrap().len() as u64];
    for n in 0..3 {
        spool.append(slab(imu, n * 5, 5)).unwrap();
        spool.sync().unwrap();
        borders.push(disk.bytes(&path).unwrap().len() as u64);
    }
    (disk, path, borders, opened.epoch)
}

#[test]
fn torn_tail_every_byte() {
    let (disk, path, borders, epoch) = three_slabs();
    for (at, flip) in (borders[2]..borders[3]).flat_map(|at| [(at, false), (at, true)]) {
        let hurt = disk.crash(0);
        if flip {
            hurt.flip(&path, at * 8 + at % 8);
        } else {
            hurt.edit(&path, |data| data.truncate(at as usize));
        }
        let (mut spool, opened) = open(&hurt, 2, &MemIndex::default());
        assert_eq!(opened.epoch, epoch);
        assert_eq!(readable(&mut spool, T, epoch, StreamId(1)), IntervalSet::below(10), "byte {at} {flip}");
        let aside = hurt.files().into_iter().any(|file| file.starts_with("/spool/quarantine"));
        assert!(aside || at == borders[2] && !flip, "byte {at} {flip}: the tail is kept aside");
        let gaps = spool.take_gaps();
        let next = next_seq(&spool, StreamId(1));
        match next {
            10 => assert!(gaps.is_empty()),
            15 => assert_eq!(
                (gaps[0].seq_first.0, gaps[0].seq_last.0, gaps[0].cause),
                (10, 14, GapCause::TornTail)
            ),
            other => panic!("byte {at}: next seq {other}"),
        }
        spool.append(slab(StreamId(1), next, 2)).unwrap();
        spool.sync().unwrap();
        drop(spool);
        let (mut again, _) = open(&hurt.crash(1), 3, &MemIndex::default());
        assert!(readable(&mut again, T, epoch, StreamId(1)).covers(next..next + 2), "byte {at} {flip}");
        assert_eq!(again.take_gaps(), gaps, "a loss is told until it is stored or acked");
    }
}

#[test]
fn bit_rot_middle() {
    let (disk, path, borders, epoch) = three_slabs();
    for at in borders[1]..borders[2] {
        let hurt = disk.crash(0);
        hurt.flip(&path, at * 8 + at % 8);
        let (mut spool, opened) = open(&hurt, 2, &MemIndex::default());
        assert_eq!(opened.epoch, epoch, "byte {at}");
        let back = readable(&mut spool, T, epoch, StreamId(1));
        assert_eq!(back.iter().collect::<Vec<_>>(), [0..5, 10..15], "byte {at}");
        let gaps = spool.take_gaps();
        assert_eq!(gaps.len(), 1, "byte {at}");
        assert_eq!((gaps[0].seq_first.0, gaps[0].seq_last.0, gaps[0].cause), (5, 9, GapCause::Corrupt));
        assert_eq!(next_seq(&spool, StreamId(1)), 15);
    }
}

#[test]
fn bit_rot_in_a_sealed_segment_is_found_when_it_is_read() {
    let (disk, index) = (SimDisk::new(), MemIndex::default());
    let (mut spool, opened) = open(&disk, 1, &index);
    let imu = declare(&mut spool, "imu", T);
    let path = segments(&disk, T).pop().unwrap();
    let start = disk.bytes(&path).unwrap().len() as u64;
    for n in 0..100 {
        spool.append(slab(imu, n * 5, 5)).unwrap();
    }
    spool.sync().unwrap();
    assert!(segments(&disk, T).len() > 3);
    disk.flip(&path, (start + 60) * 8);
    assert_eq!(readable(&mut spool, T, opened.epoch, imu).iter().collect::<Vec<_>>(), [5..500]);
    let gaps = spool.take_gaps();
    assert_eq!((gaps.len(), gaps[0].seq_first.0, gaps[0].seq_last.0), (1, 0, 4));
    assert!(disk.files().iter().any(|file| file.starts_with("/spool/quarantine")));
    assert_eq!(readable(&mut spool, T, opened.epoch, imu).count(), 495, "and is passed over from then on");
    assert!(spool.take_gaps().is_empty());
    let mut acked = IntervalSet::new();
    acked.insert(5..500);
    spool.trim(imu, &acked).unwrap();
    assert_eq!(segments(&disk, T).len(), 2, "the loss is not forgotten with its segment");
    let told = spool.declare(&"hw/gaps".parse().unwrap(), &gaps_schema(), SpoolLane::Control.into()).unwrap();
    spool.append(gap_slab(told, 0, &gaps[0])).unwrap();
    spool.sync().unwrap();
    spool.trim(imu, &acked).unwrap();
    assert_eq!(segments(&disk, T).len(), 1, "a stored gap record accounts for it");
}

/// A window of 256 KiB that holds one bad sector cannot be read at once; what lies around the sector can.
#[test]
fn a_bad_sector_takes_only_the_rows_that_lie_in_it() {
    let (disk, index) = (SimDisk::new(), MemIndex::default());
    let settings = Settings { segment_bytes: 1 << 20, ..SMALL };
    let (mut spool, opened) = open_with(&disk, 1, &index, settings);
    let imu = declare(&mut spool, "imu", T);
    let path = segments(&disk, T).pop().unwrap();
    for n in 0..2_000 {
        spool.append(slab(imu, n * 5, 5)).unwrap();
    }
    spool.sync().unwrap();
    let len = disk.bytes(&path).unwrap().len();
    assert!(segments(&disk, T).len() == 1 && len > 200_000, "{len}");
    disk.spoil(&path, 81_920..86_016);
    drop(spool);
    let disk = disk.crash(3);
    let (mut spool, _) = open_with(&disk, 2, &index, settings);
    let left = readable(&mut spool, T, opened.epoch, imu);
    let lost = 10_000 - left.count();
    let frame = (len / 2_000) as u64;
    assert!((1..=(4_096 / frame + 2) * 5).contains(&lost), "{lost} rows lost, {frame} bytes a slab of 5");
}

#[test]
fn seq_never_reused() {
    let (disk, index) = (SimDisk::new(), MemIndex::default());
    let (mut spool, first) = open(&disk, 1, &index);
    let imu = declare(&mut spool, "imu", T);
    let old_index = index.copy();
    for n in 0..200 {
        spool.append(slab(imu, n * 5, 5)).unwrap();
    }
    spool.sync().unwrap();
    spool.trim(imu, &IntervalSet::below(1000)).unwrap();
    assert!(segments(&disk, T).len() <= 2, "a drained spool keeps at most two segments");
    assert_eq!(spool.usage().rows, 0);
    drop(spool);
    for index in [index.copy(), MemIndex::default(), old_index.copy()] {
        let (spool, opened) = open(&disk.crash(3), 2, &index);
        assert_eq!((opened.epoch, next_seq(&spool, imu)), (first.epoch, 1000), "after drain, any index");
        assert_eq!(opened.boot_ordinal.0, 2);
    }
    let wiped = disk.crash(4);
    wiped.wipe(Path::new("/spool/seg"));
    let (mut spool, opened) = open(&wiped, 2, &index.copy());
    assert!(opened.new_epoch && opened.epoch != first.epoch, "ids cannot be proven");
    let imu_again = declare(&mut spool, "imu", T);
    assert_eq!(next_seq(&spool, imu_again), 0);
    let lost_epoch = disk.crash(5);
    lost_epoch.wipe(Path::new("/spool/epoch"));
    let (mut spool, opened) = open(&lost_epoch, 2, &index.copy());
    assert!(opened.new_epoch);
    declare(&mut spool, "imu", T);
    drop(spool);
    let (_, again) = open(&lost_epoch.crash(6), 2, &index.copy());
    assert!(!again.new_epoch, "the new life goes on");
    assert_eq!(again.epoch, opened.epoch);
}

#[test]
fn segments_of_an_older_life_stay_readable_until_they_are_acked() {
    let (disk, _, _, epoch) = three_slabs();
    disk.wipe(Path::new("/spool/boot"));
    let (mut spool, opened) = open(&disk.crash(0), 2, &MemIndex::default());
    assert!(opened.new_epoch);
    let imu = declare(&mut spool, "imu", T);
    spool.append(slab(imu, 0, 3)).unwrap();
    spool.sync().unwrap();
    assert_eq!(readable(&mut spool, T, epoch, imu), IntervalSet::below(15));
    assert_eq!(readable(&mut spool, T, opened.epoch, imu), IntervalSet::below(3));
    spool.trim_older(epoch, imu, &IntervalSet::below(15)).unwrap();
    assert_eq!(readable(&mut spool, T, epoch, imu), IntervalSet::new());
}

#[test]
fn a_new_epoch_can_be_asked_for() {
    let (disk, _, _, epoch) = three_slabs();
    let asked = Settings { new_epoch: true, ..SMALL };
    let (spool, opened) = open_with(&disk.crash(0), 2, &MemIndex::default(), asked);
    assert!(opened.new_epoch && opened.epoch != epoch);
    assert!(spool.streams().is_empty());
}

#[test]
fn fsync_error_not_retried() {
    let (disk, index) = (SimDisk::new(), MemIndex::default());
    let (mut spool, opened) = open(&disk, 1, &index);
    let imu = declare(&mut spool, "imu", T);
    spool.append(slab(imu, 0, 5)).unwrap();
    spool.sync().unwrap();
    spool.append(slab(imu, 5, 5)).unwrap();
    disk.fail_syncs(1);
    spool.sync().unwrap();
    assert_eq!(segments(&disk, T).len(), 2, "the slab went to another segment");
    assert_eq!(readable(&mut spool, T, opened.epoch, imu), IntervalSet::below(10));
    for seed in 0..30 {
        let (mut after, _) = open(&disk.crash(seed), 2, &MemIndex::default());
        assert_eq!(readable(&mut after, T, opened.epoch, imu), IntervalSet::below(10), "seed {seed}");
    }
    spool.append(slab(imu, 10, 5)).unwrap();
    disk.fail_syncs(u32::MAX);
    assert!(spool.sync().is_err());
    assert_eq!(readable(&mut spool, T, opened.epoch, imu), IntervalSet::below(10), "not proven, not shown");
    disk.fail_syncs(0);
    spool.sync().unwrap();
    assert_eq!(
        readable(&mut spool, T, opened.epoch, imu),
        IntervalSet::below(15),
        "kept in memory until then"
    );
}

#[test]
fn trim_in_any_order_frees_whole_segments() {
    for seed in 0..20 {
        let (disk, index) = (SimDisk::new(), MemIndex::default());
        let (mut spool, opened) = open(&disk, 1, &index);
        let (imu, gps) = (declare(&mut spool, "imu", T), declare(&mut spool, "gps", T));
        for n in 0..60 {
            spool.append(slab(imu, n * 5, 5)).unwrap();
            spool.append(slab(gps, n * 2, 2)).unwrap();
        }
        spool.sync().unwrap();
        let before = segments(&disk, T).len();
        let mut dice = Dice::new(seed);
        let mut todo: Vec<(StreamId, u64, u64)> =
            (0..60).flat_map(|n| [(imu, n * 5, 5), (gps, n * 2, 2)]).collect();
        while !todo.is_empty() {
            let (stream, first, n) = todo.swap_remove(dice.below(todo.len()));
            let mut acked = IntervalSet::new();
            acked.insert(first..first + n);
            spool.trim(stream, &acked).unwrap();
            spool.trim(stream, &acked).unwrap();
            if dice.below(10) == 0 {
                let held: Vec<_> = todo.iter().filter(|t| t.0 == imu).collect();
                let back = readable(&mut spool, T, opened.epoch, imu);
                assert!(held.iter().all(|(_, first, n)| back.covers(*first..first + n)));
                assert_eq!(back.count(), 5 * held.len() as u64, "released slabs are not handed out again");
            }
        }
        assert!(before > 2 && segments(&disk, T).len() <= 2, "seed {seed}");
        let beyond = spool.trim(imu, &IntervalSet::below(301)).unwrap_err();
        assert!(matches!(beyond, SpoolError::BeyondNext { acked: 301, .. }), "{beyond}");
    }
}

#[test]
fn full_is_an_answer_and_lane_control_has_a_reserve() {
    let (disk, index) = (SimDisk::new(), MemIndex::default());
    let budget = Settings { bytes_max: 64 << 10, ..SMALL };
    let (mut spool, opened) = open_with(&disk, 1, &index, budget);
    let keep = StreamPolicy { class: StreamClass::Keep, ..T.into() };
    let imu = spool.declare(&"imu".parse().unwrap(), &schema(), keep).unwrap();
    let alarm = declare(&mut spool, "alarm", SpoolLane::Control);
    let mut next = 0;
    let full = loop {
        match spool.append(slab(imu, next, 5)) {
            Ok(()) => next += 5,
            Err(error) => break error,
        }
    };
    assert!(matches!(full, SpoolError::Full { .. }), "{full}");
    spool.append(slab(alarm, 0, 5)).unwrap();
    spool.sync().unwrap();
    assert!(spool.usage().bytes <= budget.bytes_max);
    spool.trim(imu, &IntervalSet::below(next)).unwrap();
    spool.append(slab(imu, next, 5)).unwrap();
    spool.sync().unwrap();
    assert_eq!(readable(&mut spool, T, opened.epoch, imu).iter().collect::<Vec<_>>(), [next..next + 5]);
    // The disk itself is full: nothing is torn, what comes waits in memory, and it goes on once there is room.
    let room = disk.files().iter().filter_map(|f| disk.bytes(f)).map(|b| b.len() as u64).sum::<u64>();
    disk.set_capacity(room + 100);
    spool.append(slab(imu, next + 5, 5)).unwrap();
    let refused = spool.sync().unwrap_err();
    assert!(matches!(refused, SpoolError::Full { .. }), "{refused}");
    assert!(!readable(&mut spool, T, opened.epoch, imu).contains(next + 5), "and is not handed out");
    disk.set_capacity(1 << 30);
    spool.append(slab(imu, next + 10, 5)).unwrap();
    spool.sync().unwrap();
    assert!(readable(&mut spool, T, opened.epoch, imu).covers(next..next + 15));
    assert!(spool.take_gaps().is_empty());
}

#[test]
fn open_fast() {
    let (disk, index) = (SimDisk::new(), MemIndex::default());
    let big = Settings { segment_bytes: 1 << 20, ..SMALL };
    let (mut spool, _) = open_with(&disk, 1, &index, big);
    let cam = declare(&mut spool, "camera/front", SpoolLane::Media);
    for n in 0..400 {
        spool.append(blob_slab(cam, n, 100_000)).unwrap();
    }
    spool.sync().unwrap();
    drop(spool);
    let segments = segments(&disk, SpoolLane::Media).len() as u64;
    assert!(segments >= 36);
    for (index, name) in [(index.copy(), "index"), (MemIndex::default(), "footers")] {
        let disk = disk.crash(1);
        let (_, opened) = open_with(&disk, 2, &index, big);
        assert!(opened.scanned <= 1, "only an unsealed tail is gone through");
        let read = disk.counts().read_bytes;
        // The tails, and of each sealed segment at most header, table, footer.
        assert!(read < 7 * (1 << 20) + segments * 300 * 1024 && read < 17 << 20, "{name}: {read} bytes read");
    }
    let disk = disk.crash(2);
    let (_, _) = open_with(&disk, 2, &index.copy(), big);
    assert!(disk.counts().read_bytes < 7 << 20, "with an index: {} bytes read", disk.counts().read_bytes);
}

#[test]
fn the_257th_stream_is_refused_and_256_names_survive_a_drain() {
    let (disk, index) = (SimDisk::new(), MemIndex::default());
    let (mut spool, _) = open_with(&disk, 1, &index, Settings { segment_bytes: 1 << 20, ..SMALL });
    for n in 0..256 {
        declare(&mut spool, &format!("{n:0>127}"), T);
    }
    let refused = spool.declare(&"one/more".parse().unwrap(), &schema(), T.into()).unwrap_err();
    assert!(matches!(refused, SpoolError::Streams { .. }), "{refused}");
    drop(spool);
    let (spool, opened) = open(&disk.crash(1), 2, &MemIndex::default());
    assert!(!opened.new_epoch);
    assert_eq!(spool.streams().len(), 256);
    assert!(spool.streams().iter().all(|s| s.schema == schema()));
}

/// Rows written before an update of a device stay in the spool through the update and a restart. Their schema
/// must come with them, since the stream has another one by then.
#[test]
fn rows_of_an_older_schema_come_with_it_after_a_restart() {
    let (disk, index) = (SimDisk::new(), MemIndex::default());
    let (mut spool, _) = open(&disk, 1, &index);
    let imu = declare(&mut spool, "imu", T);
    spool.append(slab(imu, 0, 5)).unwrap();
    let mut newer = schema();
    newer.fields[0].unit = "m/s2".into();
    assert_eq!(spool.declare(&"imu".parse().unwrap(), &newer, T.into()).unwrap(), imu);
    let mut second = slab(imu, 5, 5);
    second.rows.fingerprint = newer.fingerprint();
    spool.append(second).unwrap();
    spool.sync().unwrap();
    let told = |spool: &mut DiskSpool<SimDisk>| -> Vec<_> {
        let slabs = read_all(spool, T).into_iter();
        slabs.map(|s| (s.slab.rows.first_seq.0, s.older_schema.map(|s| Schema::clone(&s)))).collect()
    };
    assert_eq!(told(&mut spool), [(0, Some(schema())), (5, None)]);
    drop(spool);
    let disk = disk.crash(1);
    let (mut spool, _) = open(&disk, 2, &index.copy());
    assert_eq!(told(&mut spool), [(0, Some(schema())), (5, None)]);
    // And if the device goes back to what it said before, it is the other one that is old.
    spool.declare(&"imu".parse().unwrap(), &schema(), T.into()).unwrap();
    assert_eq!(told(&mut spool), [(0, None), (5, Some(newer))]);
}

// The index is sled's, on the real disk.

fn real(dir: &Path, n: u8) -> DiskSpool<RealDisk> {
    DiskSpool::open(RealDisk, dir, boot(n), Settings { segment_bytes: 64 << 10, ..SMALL }).unwrap().0
}

fn state(spool: &DiskSpool<RealDisk>) -> Vec<(StreamId, String, u64)> {
    spool.streams().into_iter().map(|s| (s.id, s.name.to_string(), s.next_seq.0)).collect()
}

#[test]
fn index_rebuild_equals() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = real(dir.path(), 1);
    let epoch = spool.epoch();
    let imu = declare(&mut spool, "imu", T);
    for n in 0..200 {
        spool.append(slab(imu, n * 50, 50)).unwrap();
    }
    spool.sync().unwrap();
    for n in 0..20 {
        spool.trim(imu, &IntervalSet::below(n * 10)).unwrap();
    }
    let before = state(&spool);
    let all = readable(&mut spool, T, epoch, imu);
    drop(spool);
    let idx = dir.path().join("idx");
    let hurt: [(&str, &dyn Fn()); 6] = [
        ("untouched", &|| ()),
        ("deleted", &|| std::fs::remove_dir_all(&idx).unwrap()),
        ("garbage", &|| {
            for entry in std::fs::read_dir(&idx).unwrap() {
                let path = entry.unwrap().path();
                if path.is_file() {
                    let len = std::fs::metadata(&path).unwrap().len() as usize;
                    let mut dice = Dice::new(5);
                    let bytes: Vec<u8> = (0..len.min(1 << 20)).map(|_| dice.roll() as u8).collect();
                    std::fs::write(&path, bytes).unwrap();
                }
            }
        }),
        ("idx.opening", &|| std::fs::write(dir.path().join("idx.opening"), "").unwrap()),
        ("generating", &|| std::fs::write(idx.join("snap.0000000000000001.generating"), "half").unwrap()),
        ("a file", &|| {
            std::fs::remove_dir_all(&idx).unwrap();
            std::fs::write(&idx, "not a folder").unwrap();
        }),
    ];
    for (what, hurt) in hurt {
        hurt();
        let mut spool = real(dir.path(), 1);
        assert_eq!(spool.epoch(), epoch, "{what}");
        assert_eq!(state(&spool), before, "{what}");
        assert!(readable(&mut spool, T, epoch, imu).covers(200..10_000), "{what}");
        assert!(all.covers(200..10_000) && spool.take_gaps().is_empty(), "{what}");
        assert!(!dir.path().join("idx.opening").exists(), "{what}");
        spool.trim(imu, &IntervalSet::below(190)).unwrap();
    }
    assert!(
        std::fs::read_dir(dir.path().join("quarantine")).unwrap().count() >= 2,
        "bad indexes are kept aside"
    );
    // A locked index: the spool opens without it.
    let held = real(dir.path(), 1);
    let second = real(dir.path(), 1);
    assert_eq!(state(&second), before);
    drop((held, second));
}

#[test]
fn sled_value_bound() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = real(dir.path(), 1);
    let ids: Vec<StreamId> = (0..64).map(|n| declare(&mut spool, &format!("s{n:0>100}"), T)).collect();
    for round in 0..40 {
        for id in &ids {
            // A hole after each slab: summaries of many ranges.
            spool.append(slab(*id, round * 10, 5)).unwrap();
            spool.skip(*id, 5).unwrap();
        }
        spool.sync().unwrap();
        let mut acked = IntervalSet::new();
        (0..round).for_each(|r| acked.insert(r * 10..r * 10 + 1));
        spool.trim(ids[0], &acked).unwrap();
    }
    drop(spool);
    assert!(
        !dir.path().join("idx/blobs").exists()
            || std::fs::read_dir(dir.path().join("idx/blobs")).unwrap().count() == 0
    );
    let db = sled::open(dir.path().join("idx")).unwrap();
    let mut values = 0;
    for name in db.tree_names() {
        for item in &db.open_tree(name).unwrap() {
            assert!(item.unwrap().1.len() <= VALUE_BYTES_MAX);
            values += 1;
        }
    }
    assert!(values >= 64, "{values} values");
}

#[test]
fn quarantine_is_bounded_and_keeps_the_newest() {
    let (disk, _, _, _) = three_slabs();
    let aside = Path::new("/spool/quarantine");
    let name = |n: u64| aside.join(format!("tail-telemetry-{n:016x}.seg-64"));
    for n in 0..20 {
        disk.create(&name(n)).unwrap().write_at(&vec![0; 5 << 20], 0).unwrap();
    }
    disk.create(&aside.join("not ours")).unwrap().write_at(&vec![0; 1 << 20], 0).unwrap();
    drop(open(&disk, 1, &MemIndex::default()));
    let kept = disk.list(aside).unwrap();
    assert_eq!(kept.len(), 12 + 1, "64 MiB of five each, and what is not ours");
    assert!(kept.contains(&name(19)) && !kept.contains(&name(7)));
}

#[test]
fn a_cursor_past_the_end_reads_nothing() {
    let (disk, _, _, _) = three_slabs();
    let (mut spool, _) = open(&disk, 1, &MemIndex::default());
    let at = SeriesId::home(&T.into()).slot();
    let past = Cursor::default().moved(at, Position { segno: 99, offset: 0 });
    assert!(spool.read(T, past, 1000).unwrap().is_empty());
}

//! Faults of the spool that were found once, each by its name.
#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "helpers of tests: a failure is a failed test"
)]

#[expect(dead_code, reason = "shared by the tests of the spool; each uses its part")]
mod spool_world;

use headwater_agent::spool::DiskSpool;
use headwater_agent::spool::frame::{FrameKind, HEAD_BYTES, Place, read_head};
use headwater_core::gap::{GapCause, GapRecord};
use headwater_core::id::{BootOrdinal, Epoch, Seq, StreamId};
use headwater_core::interval::IntervalSet;
use headwater_core::ports::{Cursor, Spool, SpoolError, SpoolLane};
use headwater_core::time::BootNanos;
use headwater_sim::disk::{Call, SimDisk};
use spool_world::*;
use std::path::{Path, PathBuf};

const T: SpoolLane = SpoolLane::Telemetry;

fn told(gaps: &[GapRecord]) -> IntervalSet {
    gaps.iter().map(|gap| gap.seq_first.0..gap.seq_last.0 + 1).collect()
}

/// Three hundred rows of one stream in some sealed segments and an open one.
fn many_segments(disk: &SimDisk, index: &MemIndex) -> (DiskSpool<SimDisk>, StreamId, Vec<PathBuf>) {
    let (mut spool, _) = open(disk, 1, index);
    let imu = declare(&mut spool, "imu", T);
    for n in 0..60 {
        spool.append(slab(imu, n * 5, 5)).unwrap();
        spool.sync().unwrap();
    }
    let files = segments(disk, T);
    assert!(files.len() > 3, "{files:?}");
    (spool, imu, files)
}

/// The index knew of a seq that was skipped last, no segment did. The next start raised the next seq over it and
/// told the hole once; if that record was not stored either, the start after it passed over the hole in silence.
#[test]
fn a_skip_at_the_end_is_told_until_it_is_stored_or_its_seq_is_given() {
    let (disk, index) = (SimDisk::new(), MemIndex::default());
    let (mut spool, _) = open(&disk, 1, &index);
    let imu = declare(&mut spool, "imu", SpoolLane::Telemetry);
    spool.append(slab(imu, 0, 5)).unwrap();
    spool.sync().unwrap();
    spool.skip(imu, 1).unwrap();
    // Enough to have the index flushed.
    (0..40).for_each(|_| spool.trim(imu, &IntervalSet::below(1)).unwrap());
    drop(spool);
    let mut disk = disk;
    for life in 2..5 {
        disk = disk.crash(u64::from(life));
        let (mut spool, opened) = open(&disk, life, &index);
        let mut told = readable(&mut spool, SpoolLane::Telemetry, opened.epoch, imu);
        told.union_with(&IntervalSet::below(1));
        spool.take_gaps().iter().for_each(|gap| told.insert(gap.seq_first.0..gap.seq_last.0 + 1));
        assert_eq!(told.missing_in(0..next_seq(&spool, imu)), [], "life {life}");
    }
}

/// Rows whose segment was removed, or emptied, behind the spool's back were missing in silence.
#[test]
fn a_segment_that_vanished_is_told_until_that_is_stored() {
    for emptied in [false, true] {
        let (disk, index) = (SimDisk::new(), MemIndex::default());
        let (spool, imu, files) = many_segments(&disk, &index);
        drop(spool);
        let mut disk = disk.crash(1);
        if emptied {
            disk.edit(&files[1], Vec::clear);
        } else {
            disk.wipe(&files[1]);
        }
        for life in 2..5 {
            let (mut spool, opened) = open(&disk, life, &index);
            assert!(!opened.new_epoch);
            let back = readable(&mut spool, T, opened.epoch, imu);
            let gaps = spool.take_gaps();
            let mut all = back.clone();
            all.union_with(&told(&gaps));
            assert_eq!(all, IntervalSet::below(300), "life {life}");
            assert!(back.count() > 100 && back.count() < 300);
            if life == 4 {
                let records = spool
                    .declare(&"hw/gaps".parse().unwrap(), &gaps_schema(), SpoolLane::Control.into())
                    .unwrap();
                for (seq, gap) in gaps.iter().enumerate() {
                    spool.append(gap_slab(records, seq as u64, gap)).unwrap();
                }
                spool.trim(imu, &back).unwrap();
                spool.sync().unwrap();
            }
            drop(spool);
            disk = disk.crash(u64::from(life));
        }
        let (mut spool, _) = open(&disk, 5, &index);
        assert_eq!(spool.take_gaps(), [], "told once it was stored");
    }
}

/// A segment of which a start could read nothing looked empty, thus released, and was unlinked.
#[test]
fn a_read_error_at_a_start_frees_nothing() {
    for (after, n) in (0..60).flat_map(|after| [(after, 2), (after, 5), (after, 40)]) {
        let (disk, index) = (SimDisk::new(), MemIndex::default());
        let (spool, imu, _) = many_segments(&disk, &index);
        let epoch = spool.epoch();
        drop(spool);
        let disk = disk.crash(1);
        disk.fail(Call::Read, after, n);
        let (dir, fresh, none) = (Path::new(DIR), Epoch(7), Box::new(MemIndex::default()));
        // A start that cannot read who it is ends with an error, which is right.
        if let Ok((mut spool, _)) = DiskSpool::open_with(disk.clone(), dir, boot(2), SMALL, fresh, none) {
            declare(&mut spool, "imu", T);
        }
        let disk = disk.crash(2);
        let (mut spool, _) = open(&disk, 3, &MemIndex::default());
        assert_eq!(readable(&mut spool, T, epoch, imu), IntervalSet::below(300), "{after} {n}");
    }
}

/// Without an index, what stood in the damaged end of a sealed segment was missing in silence.
#[test]
fn the_next_table_tells_what_a_damaged_segment_held() {
    let (disk, index) = (SimDisk::new(), MemIndex::default());
    let (spool, imu, files) = many_segments(&disk, &index);
    drop(spool);
    for len in [0, 100, 900, 2_000] {
        let mut disk = disk.crash(1);
        disk.edit(&files[1], |data| data.truncate(len));
        for life in 2..4 {
            let (mut spool, opened) = open(&disk, life, &MemIndex::default());
            let mut all = readable(&mut spool, T, opened.epoch, imu);
            assert!(!opened.new_epoch && all.count() > 100);
            all.union_with(&told(&spool.take_gaps()));
            assert_eq!(all, IntervalSet::below(300), "{len}, life {life}");
            drop(spool);
            disk = disk.crash(u64::from(life));
        }
    }
}

/// The name of the spool's own folder was never synced: a power cut after the first hour took all of it.
#[test]
fn a_new_spool_outlives_a_power_cut_with_its_folder() {
    let (disk, index) = (SimDisk::new(), MemIndex::default());
    let (spool, imu, _) = many_segments(&disk, &index);
    drop(spool);
    for seed in 0..20 {
        let (mut spool, opened) = open(&disk.crash(seed), 2, &MemIndex::default());
        assert!(!opened.new_epoch);
        assert_eq!(readable(&mut spool, T, opened.epoch, imu), IntervalSet::below(300));
    }
}

/// The ordinal of a new boot found no room, so the agent did not start until somebody made some.
#[test]
fn a_full_disk_is_no_reason_not_to_start() {
    let (disk, index) = (SimDisk::new(), MemIndex::default());
    let (spool, imu, _) = many_segments(&disk, &index);
    let epoch = spool.epoch();
    drop(spool);
    let disk = disk.crash(1);
    disk.set_capacity(disk.used());
    let (mut spool, opened) = open(&disk, 2, &index);
    assert_eq!((opened.epoch, opened.boot_ordinal.0), (epoch, 2));
    assert_eq!(readable(&mut spool, T, epoch, imu), IntervalSet::below(300));
    drop(spool);
    let (_, again) = open(&disk.crash(2), 3, &index);
    assert_eq!((again.epoch, again.boot_ordinal.0), (epoch, 3));
}

/// Two frames in a row were damaged behind sound headers: the search for the next whole frame passed over the second
/// one, and nobody told of its rows.
#[test]
fn each_of_two_damaged_frames_in_a_row_is_told() {
    let (disk, index) = (SimDisk::new(), MemIndex::default());
    let (mut spool, opened) = open(&disk, 1, &index);
    let imu = declare(&mut spool, "imu", T);
    for n in 0..4 {
        spool.append(slab(imu, n * 5, 5)).unwrap();
        spool.sync().unwrap();
    }
    drop(spool);
    let file = segments(&disk, T).pop().unwrap();
    let bytes = disk.bytes(&file).unwrap();
    let frames: Vec<usize> = (64..bytes.len() - HEAD_BYTES)
        .filter(|at| {
            let place = Place { segno: 1, offset: *at as u64 };
            read_head(&bytes[*at..], place).is_some_and(|head| head.meta.kind == FrameKind::Slab)
        })
        .collect();
    let disk = disk.crash(1);
    for at in &frames[1..3] {
        disk.flip(&file, (at + HEAD_BYTES + 3) as u64 * 8);
    }
    let (mut spool, _) = open(&disk, 2, &MemIndex::default());
    assert_eq!(told(&spool.take_gaps()), std::iter::once(5..15).collect());
    assert_eq!(readable(&mut spool, T, opened.epoch, imu).iter().collect::<Vec<_>>(), [0..5, 15..20]);
}

/// A start whose syncs failed read, and shipped, rows that a killed process had left in the page cache. A power cut took
/// them, so the collector knew more than the card.
#[test]
fn rows_of_an_unsealed_segment_are_read_once_they_are_proven_durable() {
    for failing in 1..6 {
        let (disk, index) = (SimDisk::new(), MemIndex::default());
        let (mut spool, _) = open(&disk, 1, &index);
        let imu = declare(&mut spool, "imu", T);
        spool.append(slab(imu, 0, 5)).unwrap();
        spool.sync().unwrap();
        spool.append(slab(imu, 5, 5)).unwrap();
        drop(spool);
        disk.fail(Call::Sync, 0, failing);
        let (mut spool, opened) = open(&disk, 1, &index);
        declare(&mut spool, "imu", T);
        // A reader is told to come again: one that was told of nothing would look no further.
        let refused = spool.read(T, Cursor::default(), usize::MAX);
        assert!(matches!(refused, Err(SpoolError::Io { .. })), "{failing} failed syncs: {refused:?}");
        for seed in 0..20 {
            let (mut after, again) = open(&disk.crash(seed), 3, &MemIndex::default());
            declare(&mut after, "imu", T);
            let here = readable(&mut after, T, again.epoch, imu);
            assert!(!again.new_epoch && here.covers(0..5), "{failing} failed syncs, seed {seed}");
        }
        // The disk works again: a copy takes the place of what may be in memory only.
        disk.fail(Call::Sync, 0, 0);
        spool.append(slab(imu, 10, 5)).unwrap();
        spool.sync().unwrap();
        for seed in 0..20 {
            let (mut after, again) = open(&disk.crash(seed), 3, &MemIndex::default());
            declare(&mut after, "imu", T);
            let mut all = readable(&mut after, T, again.epoch, imu);
            all.union_with(&told(&after.take_gaps()));
            assert_eq!(all, IntervalSet::below(15), "what a power cut takes is told, seed {seed}");
        }
        spool.maintain();
        assert_eq!(readable(&mut spool, T, opened.epoch, imu), IntervalSet::below(15));
        for seed in 0..20 {
            let (mut after, again) = open(&disk.crash(seed), 3, &MemIndex::default());
            declare(&mut after, "imu", T);
            assert_eq!(readable(&mut after, T, again.epoch, imu), IntervalSet::below(15), "seed {seed}");
        }
    }
}

/// What a failed sync left in a segment that was given up was in the page cache only. The next start of the process
/// could not tell, and adopted it.
#[test]
fn what_a_failed_sync_left_behind_is_not_adopted() {
    let (disk, index) = (SimDisk::new(), MemIndex::default());
    let (mut spool, _) = open(&disk, 1, &index);
    let imu = declare(&mut spool, "imu", T);
    spool.append(slab(imu, 0, 5)).unwrap();
    spool.sync().unwrap();
    spool.append(slab(imu, 5, 5)).unwrap();
    disk.fail_syncs(40);
    spool.sync().unwrap_err();
    drop(spool);
    disk.fail_syncs(0);
    let (mut spool, opened) = open(&disk, 1, &index);
    declare(&mut spool, "imu", T);
    let before = readable(&mut spool, T, opened.epoch, imu);
    for seed in 0..20 {
        let (mut after, again) = open(&disk.crash(seed), 3, &MemIndex::default());
        declare(&mut after, "imu", T);
        let here = readable(&mut after, T, again.epoch, imu);
        assert!(before.iter().all(|seqs| here.covers(seqs)), "seed {seed}: {before:?} and then {here:?}");
    }
}

/// A gap record told of seqs that no table knew yet. The start after it sealed the record's segment, lost its power before
/// a table was written, and the next one did not read sealed segments: it gave seqs again that had been shipped.
#[test]
fn a_record_of_seqs_beyond_the_table_is_read_by_every_start() {
    let (disk, index) = (SimDisk::new(), MemIndex::default());
    let (mut spool, _) = open(&disk, 1, &index);
    let imu = declare(&mut spool, "imu", T);
    let records =
        spool.declare(&"hw/gaps".parse().unwrap(), &gaps_schema(), SpoolLane::Control.into()).unwrap();
    spool.append(slab(imu, 0, 5)).unwrap();
    spool.sync().unwrap();
    spool.skip(imu, 5).unwrap();
    let gap = GapRecord {
        stream: "imu".parse().unwrap(),
        boot_ordinal: BootOrdinal(1),
        seq_first: Seq(5),
        seq_last: Seq(9),
        cause: GapCause::Overrun,
        stride: 0,
        phase: 0,
        rows: 5,
        bytes: 0,
        b_first: BootNanos(0),
        b_last: BootNanos(0),
        policy_version: 0,
        note: String::new(),
    };
    spool.append(gap_slab(records, 0, &gap)).unwrap();
    spool.sync().unwrap();
    drop(spool);
    for cut in 0..60 {
        let cut_short = disk.crash(cut);
        cut_short.cut_power_after(cut);
        let (dir, none) = (Path::new(DIR), Box::new(MemIndex::default()));
        let first = DiskSpool::open_with(cut_short.clone(), dir, boot(2), SMALL, Epoch(7), none);
        drop(first);
        let (spool, opened) = open(&cut_short.crash(cut), 3, &MemIndex::default());
        assert!(!opened.new_epoch, "power cut after {cut} changes");
        assert_eq!(next_seq(&spool, imu), 10, "power cut after {cut} changes");
    }
}

/// A start on a full disk cut off a torn end, had no room for the footer that tells of its rows, and raised the next seq
/// past them all the same. The start after it knew of the seq, but not of the hole.
#[test]
fn a_torn_end_stays_until_something_tells_of_it() {
    let mut torn = 0;
    for seed in 0..200 {
        let (disk, index) = (SimDisk::new(), MemIndex::default());
        let (mut spool, _) = open(&disk, 1, &index);
        let imu = declare(&mut spool, "imu", T);
        spool.append(slab(imu, 0, 5)).unwrap();
        spool.sync().unwrap();
        spool.append(slab(imu, 5, 5)).unwrap();
        drop(spool);
        let disk = disk.crash(seed);
        // Room for a new segment, but not for a footer too.
        disk.set_capacity(disk.used() + seed * 4);
        let (dir, none) = (Path::new(DIR), Box::new(MemIndex::default()));
        let Ok((mut spool, _)) = DiskSpool::open_with(disk.clone(), dir, boot(2), SMALL, Epoch(7), none)
        else {
            continue;
        };
        disk.set_capacity(1 << 40);
        let next = next_seq(&spool, imu);
        torn += u64::from(next > 5);
        declare(&mut spool, "imu", T);
        spool.append(slab(imu, next, 5)).unwrap();
        spool.sync().unwrap();
        drop(spool);
        let (mut spool, opened) = open(&disk.crash(seed), 3, &MemIndex::default());
        let mut all = readable(&mut spool, T, opened.epoch, imu);
        all.union_with(&told(&spool.take_gaps()));
        assert_eq!(all, IntervalSet::below(next + 5), "seed {seed}");
    }
    assert!(torn > 10, "{torn}");
}

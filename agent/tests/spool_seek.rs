//! Finding a place in a lane: by age, by stretches of segments, and how much lies between two; over several segments,
//! series and boots.
#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "helpers of tests: a failure is a failed test, and numbers are small"
)]

#[expect(dead_code, reason = "shared by the tests of the spool; each uses its part")]
mod spool_world;

use headwater_agent::spool::DiskSpool;
use headwater_core::batch::StreamRef;
use headwater_core::id::{BootOrdinal, StreamId};
use headwater_core::ports::{Cursor, Spool, SpoolLane, StreamClass, StreamPolicy};
use headwater_core::time::BootNanos;
use headwater_sim::disk::SimDisk;
use proptest::prelude::*;
use spool_world::*;

const T: SpoolLane = SpoolLane::Telemetry;

/// When row `seq` of `slab()` was captured.
fn time(boot: u32, seq: u64) -> (BootOrdinal, BootNanos) {
    (BootOrdinal(boot), BootNanos((1_000 + seq as i64) * 1_000))
}

/// First seqs of the slabs of a stream between two places.
fn firsts(
    spool: &mut DiskSpool<SimDisk>,
    lane: SpoolLane,
    stream: StreamId,
    from: Cursor,
    until: Option<Cursor>,
) -> Vec<u64> {
    let (mut at, mut all) = (from, Vec::new());
    loop {
        let some = spool.read(lane, at, 3_000).unwrap();
        if some.is_empty() {
            return all;
        }
        for found in some {
            let series = found.next.series_moved(&at);
            at = found.next;
            let inside = until.zip(series).is_none_or(|(until, s)| found.next.at(s) <= until.at(s));
            if inside && found.slab.rows.stream == StreamRef::Id(stream) {
                all.push(found.slab.rows.first_seq.0);
            }
        }
    }
}

#[test]
fn seeks_by_age_over_segments_and_boots() {
    let (disk, index) = (SimDisk::new(), MemIndex::default());
    let (mut spool, _) = open(&disk, 1, &index);
    let imu = declare(&mut spool, "imu", T);
    for n in 0..100 {
        spool.append(slab(imu, n * 10, 10)).unwrap();
        spool.sync().unwrap();
    }
    assert!(segments(&disk, T).len() > 3);
    for seq in [0, 1, 9, 10, 333, 500, 989, 995] {
        let at = spool.seek(T, time(1, seq)).unwrap();
        let first = firsts(&mut spool, T, imu, at, None)[0];
        // The slab that holds the row, so that nothing younger is left out.
        assert_eq!(first, seq / 10 * 10, "row {seq}");
    }
    let end = spool.seek(T, time(1, 1_000)).unwrap();
    assert!(firsts(&mut spool, T, imu, end, None).is_empty());
    let start = spool.seek(T, time(1, 0)).unwrap();
    assert_eq!(spool.bytes_between(T, start, end), spool.bytes_between(T, Cursor::default(), end));
    // What is appended later lies behind the end that was found.
    spool.append(slab(imu, 1_000, 10)).unwrap();
    spool.sync().unwrap();
    assert_eq!(firsts(&mut spool, T, imu, end, None), [1_000]);
    drop(spool);
    // In the next boot every row of this one is old, whatever its boot time says.
    let (mut spool, opened) = open(&disk, 2, &index);
    let at = spool.seek(T, (opened.boot_ordinal, BootNanos(0))).unwrap();
    assert!(firsts(&mut spool, T, imu, at, None).is_empty());
}

#[test]
fn stretches_go_back_to_the_start_and_cover_everything() {
    let (disk, index) = (SimDisk::new(), MemIndex::default());
    let (mut spool, _) = open(&disk, 1, &index);
    let normal = declare(&mut spool, "imu", T);
    let policy = StreamPolicy { class: StreamClass::Keep, ..T.into() };
    let keep = spool.declare(&"keep".parse().unwrap(), &schema(), policy).unwrap();
    for n in 0..80 {
        spool.append(slab(normal, n * 10, 10)).unwrap();
        if n % 2 == 0 {
            spool.append(slab(keep, n * 5, 10)).unwrap();
        }
        spool.sync().unwrap();
    }
    let end = spool.seek(T, time(2, 0)).unwrap();
    let (mut until, mut parts) = (end, 0);
    let (mut of_normal, mut of_keep) = (Vec::new(), Vec::new());
    while until != Cursor::default() {
        let from = spool.stretch_before(T, until, 8_192);
        assert_ne!(from, until, "each goes back");
        assert!(spool.bytes_between(T, from, until) > 0);
        let mut part = firsts(&mut spool, T, normal, from, Some(until));
        part.append(&mut of_normal);
        of_normal = part;
        let mut part = firsts(&mut spool, T, keep, from, Some(until));
        part.append(&mut of_keep);
        of_keep = part;
        (until, parts) =
            (if from == spool.stretch_before(T, from, 1) { Cursor::default() } else { from }, parts + 1);
    }
    assert!(parts > 3, "{parts}");
    assert_eq!(of_normal, (0..80).map(|n| n * 10).collect::<Vec<_>>());
    assert_eq!(of_keep, (0..40).map(|n| n * 10).collect::<Vec<_>>());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Nothing at least as young as asked for lies before the place that is found, and nothing wholly older behind it.
    #[test]
    fn a_place_by_age_parts_old_from_young(
        sizes in proptest::collection::vec(1_u64..40, 1..60),
        since in 0_u64..1_200,
    ) {
        let (disk, index) = (SimDisk::new(), MemIndex::default());
        let (mut spool, _) = open(&disk, 1, &index);
        let imu = declare(&mut spool, "imu", T);
        let mut slabs = Vec::new();
        let mut next = 0;
        for size in sizes {
            spool.append(slab(imu, next, size)).unwrap();
            slabs.push((next, next + size - 1));
            next += size;
        }
        spool.sync().unwrap();
        let at = spool.seek(T, time(1, since)).unwrap();
        let found = firsts(&mut spool, T, imu, at, None);
        let expected: Vec<u64> =
            slabs.iter().filter(|(_, last)| *last >= since).map(|(first, _)| *first).collect();
        prop_assert_eq!(found, expected);
    }
}

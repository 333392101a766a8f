//! Faults of the spool that were found once, each by its name.
#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "helpers of tests: a failure is a failed test"
)]

#[expect(dead_code, reason = "shared by the tests of the spool; each uses its part")]
mod spool_world;

use headwater_core::interval::IntervalSet;
use headwater_core::ports::{Spool, SpoolLane};
use headwater_sim::disk::SimDisk;
use spool_world::*;

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

//! The spool against a simple model of it on a simulated disk that loses, tears and reorders what was not synced,
//! fails, fills up, turns read-only and rots: more than ten thousand random lives in an ordinary run.
#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "helpers of tests: a failure is a failed test, and numbers are small"
)]

mod life;
#[path = "../spool_world/mod.rs"]
#[expect(dead_code, reason = "shared by the tests of the spool; each uses its part")]
mod spool_world;

use headwater_agent::spool::DiskSpool;
use headwater_core::id::Epoch;
use headwater_core::ports::Spool;
use headwater_sim::disk::{Call, Dice, SimDisk};
use life::{Life, Op, op};
use proptest::prelude::*;
use spool_world::{DIR, MemIndex, SMALL, boot, open};
use std::path::Path;

/// Lives per test. Each property is split in tests that run side by side.
const CASES: u32 = 1_750;

fn config() -> ProptestConfig {
    ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() }
}

/// Invariants A1 and D2: whatever was synced before a power cut at any change of the disk is read back unless
/// acked; no seq is given twice; what is missing below the next seq is a gap record.
fn power_cut(ops: &[Op], cut: u64, seed: u64, keep_index: bool, again: u64) -> Result<(), TestCaseError> {
    let (disk, index) = (SimDisk::new(), MemIndex::default());
    let mut life = Life::begin(&disk, &index);
    disk.cut_power_after(cut);
    ops.iter().for_each(|op| life.acts(&disk, op));
    let (mut model, epoch) = life.ends();
    let index = if keep_index { index } else { MemIndex::default() };
    let mut crashed = disk.crash(seed);
    // A start on a full disk cannot write down what it found torn, so it tells that once only.
    crashed.set_capacity(1 << 40);
    if again < 20 {
        // A second cut, in the middle of recovery.
        crashed.cut_power_after(again);
        let half = DiskSpool::open_with(
            crashed.clone(),
            Path::new(DIR),
            boot(2),
            SMALL,
            Epoch(7),
            Box::new(index.copy()),
        );
        drop(half);
        crashed = crashed.crash(seed ^ 1);
    }
    for life in 3..5 {
        let (mut spool, opened) = open(&crashed, life, &index);
        prop_assert_eq!(opened.epoch, epoch, "a power cut alone never costs the epoch");
        // In the second life what is lost must be told again: nobody stored it.
        model.holds(&mut spool, epoch, true)?;
        life::goes_on(&mut spool, epoch)?;
        model.has_gone_on(&spool);
        drop(spool);
        crashed = crashed.crash(seed ^ u64::from(life));
    }
    Ok(())
}

/// Bits of stored files flip, anywhere: what is read is still right, and what is not read is told.
fn rot(ops: &[Op], seed: u64, keep_index: bool, flips: usize) -> Result<(), TestCaseError> {
    let (disk, index) = (SimDisk::new(), MemIndex::default());
    let mut life = Life::begin(&disk, &index);
    ops.iter().for_each(|op| life.acts(&disk, op));
    let (mut model, epoch) = life.ends();
    let index = if keep_index { index } else { MemIndex::default() };
    let hurt = disk.crash(seed);
    hurt.set_capacity(1 << 40);
    let mut dice = Dice::new(seed ^ 77);
    for _ in 0..flips {
        let files = hurt.files();
        let file = &files[dice.below(files.len())];
        let bits = hurt.bytes(file).map_or(0, |bytes| bytes.len() * 8);
        hurt.flip(file, dice.below(bits) as u64);
    }
    let (mut spool, opened) = open(&hurt, 3, &index);
    // A stream whose declaration rotted is known again once it is declared.
    life::declares(&mut spool);
    if opened.epoch == epoch {
        model.holds(&mut spool, epoch, false)?;
    } else {
        model.reads_what_was_written(&mut spool, epoch)?;
    }
    life::goes_on(&mut spool, opened.epoch)
}

/// The disk fails while the spool is opened: the start after it finds everything.
fn errors_at_open(ops: &[Op], seed: u64, call: Call, after: u32, n: u32) -> Result<(), TestCaseError> {
    let (disk, index) = (SimDisk::new(), MemIndex::default());
    let mut life = Life::begin(&disk, &index);
    ops.iter().for_each(|op| life.acts(&disk, op));
    let (model, epoch) = life.ends();
    let crashed = disk.crash(seed);
    crashed.set_capacity(1 << 40);
    crashed.fail(call, after, n);
    match n % 5 {
        0 => crashed.set_capacity(crashed.used() + u64::from(after) * 64),
        1 => crashed.set_read_only(true),
        _ => {}
    }
    let fresh = Epoch(7);
    let store = Box::new(index.clone());
    let tried = DiskSpool::open_with(crashed.clone(), Path::new(DIR), boot(2), SMALL, fresh, store);
    if let Ok((mut spool, _)) = tried {
        drop(spool.sync());
        drop(spool);
    }
    let crashed = crashed.crash(seed ^ 1);
    crashed.set_capacity(1 << 40);
    crashed.set_read_only(false);
    let (mut spool, opened) = open(&crashed, 3, &index.copy());
    model.reads_all_synced(&mut spool, epoch)?;
    life::goes_on(&mut spool, opened.epoch)
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![Just(Call::Read), Just(Call::Write), Just(Call::Sync), Just(Call::Name)]
}

macro_rules! shards {
    ($($power:ident $rot:ident $open:ident)*) => {
        proptest! {
            #![proptest_config(config())]
            $(
                #[test]
                fn $power(
                    ops in proptest::collection::vec(op(), 1..60),
                    cut in 0..260_u64, seed: u64, keep_index: bool, again in 0..30_u64
                ) {
                    power_cut(&ops, cut, seed, keep_index, again)?;
                }

                #[test]
                fn $rot(
                    ops in proptest::collection::vec(op(), 1..60), seed: u64, keep_index: bool, flips in 1..4_usize
                ) {
                    rot(&ops, seed, keep_index, flips)?;
                }

                #[test]
                fn $open(
                    ops in proptest::collection::vec(op(), 1..60), seed: u64, call in call(), after in 0..40_u32, n in 1..20_u32
                ) {
                    errors_at_open(&ops, seed, call, after, n)?;
                }
            )*
        }
    };
}

shards! {
    spool_power_cut_model_1 spool_rot_model_1 spool_errors_at_open_1
    spool_power_cut_model_2 spool_rot_model_2 spool_errors_at_open_2
}

/// Regression: a declaration and all rows under it rotted in a segment whose end is sound. The table of another series
/// tells of them.
#[test]
fn a_rotten_declaration_and_the_rows_under_it_are_told() {
    let ops = [
        Op::Append { stream: 0, rows: 5 },
        Op::Append { stream: 1, rows: 4 },
        Op::Sync,
        Op::Blob { bytes: 1 },
        Op::Blob { bytes: 3591 },
    ];
    rot(&ops, 17_303_232_129_453_532_243, false, 2).unwrap();
}

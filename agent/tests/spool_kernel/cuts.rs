//! Rounds that end in a power cut or a kill: the next one must find everything that was acknowledged.

use super::witness::Witness;
use super::writer::Writer;
use headwater_sim::disk::Dice;
use headwater_sim::loop_disk::LoopDisk;
use std::path::Path;

/// Power cuts of each pattern in the ordinary run; `HEADWATER_POWER_CUTS` says another number.
const CUTS: u64 = 15;
/// Kills in the ordinary run.
const KILLS: u64 = 100;
/// Things a writer says before it is stopped, at most.
const SAID_MAX: usize = 160;
/// Room for all rounds of a pattern that never trims.
const DISK_BYTES: u64 = 160 << 20;

/// One life of a writer, ended by `end` at some point of its work.
fn round(dir: &Path, witness: &mut Witness, round: u64, fifo: bool, end: impl FnOnce()) {
    let writer = Writer::start(dir, round, fifo);
    // Some lives end while the spool is still being opened.
    let said_max = Dice::new(!round).below(SAID_MAX);
    for _ in 0..said_max {
        let Some(said) = writer.next() else { break };
        witness.hears(round, said);
    }
    end();
    writer.kill().into_iter().for_each(|said| witness.hears(round, said));
}

fn power_cuts(fifo: bool) {
    if let Some(why) = LoopDisk::why_not() {
        println!("power cuts of a real ext4 are not tested: {why}");
        return;
    }
    let cuts = std::env::var("HEADWATER_POWER_CUTS").map_or(CUTS, |n| n.parse().unwrap());
    let home = tempfile::tempdir().unwrap();
    let disk = LoopDisk::make(home.path(), DISK_BYTES).unwrap();
    let dir = disk.path().join("spool");
    let mut witness = Witness::default();
    for n in 1..=cuts {
        round(&dir, &mut witness, n, fifo, || disk.cut_power().unwrap());
        disk.remount().unwrap();
        witness.checks(&dir, n);
    }
    println!(
        "{cuts} power cuts, {} rows acknowledged, none lost; {} syncs returned after the cut",
        witness.rows, witness.late
    );
    assert!(witness.rows > cuts, "the writers did something");
}

#[test]
fn spool_power_cut_ext4_load() {
    power_cuts(false);
}

#[test]
fn spool_power_cut_ext4_fifo() {
    power_cuts(true);
}

#[test]
fn spool_kill9_loop() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("spool");
    let mut witness = Witness::default();
    for n in 1..=KILLS {
        // Every fourth life trims nothing.
        round(&dir, &mut witness, n, n % 4 != 0, || ());
        witness.checks(&dir, n);
    }
    println!("{KILLS} kills, {} rows acknowledged, none lost", witness.rows);
    assert!(witness.rows > KILLS, "the writers did something");
}

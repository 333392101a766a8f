//! Every file of a spool hurt in every way, one at a time: the spool starts, keeps all that is intact, and tells
//! what is not.
#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "helpers of tests: a failure is a failed test, and numbers are small"
)]

mod base;
mod harm;
#[path = "../spool_world/mod.rs"]
#[expect(dead_code, reason = "shared by the tests of the spool; each uses its part")]
mod spool_world;

use base::{Base, Found, STREAMS};
use harm::{Harm, copy_tree, files_below};
use headwater_core::interval::IntervalSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

fn minus(set: &IntervalSet, other: &IntervalSet) -> IntervalSet {
    let mut left = set.clone();
    other.iter().for_each(|range| left.remove(range));
    left
}

/// What must hold of a start after harm, as a list of what does not.
fn complaints(base: &Base, hurt: &[PathBuf], found: &Found) -> Vec<String> {
    let mut wrong = Vec::new();
    let is_payload = hurt.iter().any(|file| file.extension().is_some_and(|ext| ext == "seg"));
    let is_identity = hurt.iter().any(|file| file.ends_with("epoch") || file.ends_with("boot"));
    if found.epoch != base.epoch && !is_payload && !is_identity {
        wrong.push("costs the epoch, and nothing was in it that proves seqs".to_owned());
    }
    for (at, (name, _)) in STREAMS.iter().enumerate() {
        let held = minus(&base.durable[at], &base.acked[at]);
        let mut intact = held.clone();
        for file in hurt {
            let in_file = base.files.get(file).and_then(|streams| streams.get(at));
            in_file.into_iter().for_each(|seqs| intact = minus(&intact, seqs));
        }
        let lost = minus(&intact, &found.back[at]);
        if !lost.is_empty() {
            wrong.push(format!("{name} lost {lost:?}, which are in other files"));
        }
        if found.epoch != base.epoch {
            continue;
        }
        let end = base.durable[at].iter().last().map_or(0, |range| range.end);
        if found.next[at] < end {
            wrong.push(format!("{name} goes on at {} and gives seqs up to {end} again", found.next[at]));
        }
        let silent = minus(&minus(&held, &found.back[at]), &found.told[at]);
        if !silent.is_empty() {
            wrong.push(format!("{name} misses {silent:?} in silence"));
        }
        let both = found.told[at].iter().flat_map(|range| found.back[at].present_in(range)).count();
        if both > 0 {
            wrong.push(format!("{name} tells rows lost that are here"));
        }
    }
    wrong
}

/// One start after harm, work, and another start.
fn trial(base: &Base, dir: &Path, hurt: &[PathBuf]) -> Vec<String> {
    let first = match Found::open(dir, base, 3, true) {
        Ok(found) => found,
        Err(why) => return vec![why],
    };
    let mut wrong = complaints(base, hurt, &first);
    let again = match Found::open(dir, base, 4, false) {
        Ok(found) => found,
        Err(why) => return vec![format!("second start: {why}")],
    };
    if again.epoch != first.epoch {
        wrong.push("the second start costs the epoch again".to_owned());
    }
    for (at, (name, _)) in STREAMS.iter().enumerate() {
        let new = minus(&first.appended[at], &again.appended[at]);
        if !new.is_empty() {
            wrong.push(format!("{name} lost {new:?}, written after the harm"));
        }
        let old = minus(&first.back[at], &again.back[at]);
        if !old.is_empty() {
            wrong.push(format!("{name} lost {old:?} at the second start"));
        }
        let untold = minus(&minus(&first.told[at], &again.told[at]), &again.back[at]);
        if first.epoch == base.epoch && !untold.is_empty() {
            wrong.push(format!("{name} tells the loss of {untold:?} once and never again"));
        }
    }
    wrong
}

/// Files that are not there after a clean end, and what a cut or a mistake may leave under their names.
const STRAY: [&str; 5] =
    ["idx.opening", "epoch.tmp", "boot.tmp", "idx/snap.0000000000000001.generating", "quarantine/idx-1"];

#[test]
fn every_file_hurt_in_every_way() {
    let home = tempfile::tempdir().unwrap();
    let origin = home.path().join("origin");
    let base = Base::make(&origin);
    let mut files = files_below(&origin);
    assert!(files.iter().filter(|file| file.extension().is_some_and(|ext| ext == "seg")).count() >= 12);
    files.extend(STRAY.map(PathBuf::from));
    let jobs: Vec<(&PathBuf, Harm)> =
        files.iter().flat_map(|file| Harm::ALL.map(|harm| (file, harm))).collect();
    let (taken, trials, wrong) = (AtomicUsize::new(0), AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = &|worker: usize| {
        let dir = home.path().join(format!("hurt-{worker}"));
        while let Some((file, harm)) = jobs.get(taken.fetch_add(1, Ordering::Relaxed)) {
            copy_tree(&origin, &dir);
            if STRAY.iter().any(|stray| file.ends_with(stray)) {
                std::fs::write(dir.join(file), "left behind").unwrap();
            }
            if let Some(hurt) = harm.does(&dir, file, &files) {
                trials.fetch_add(1, Ordering::Relaxed);
                let found = trial(&base, &dir, &hurt).into_iter();
                let named = found.map(|what| format!("{harm:?} of {}: {what}", file.display()));
                wrong.lock().unwrap().extend(named);
            }
            std::fs::remove_dir_all(&dir).unwrap();
        }
    };
    // Each mostly waits for the disk.
    std::thread::scope(|scope| (0..WORKERS).for_each(|worker| drop(scope.spawn(move || work(worker)))));
    let (trials, mut wrong) = (trials.into_inner(), wrong.into_inner().unwrap());
    wrong.sort();
    println!("{} files, {trials} trials", files.len());
    assert!(trials > 200);
    assert!(wrong.is_empty(), "{} faults:\n{}", wrong.len(), wrong.join("\n"));
}

const WORKERS: usize = 8;

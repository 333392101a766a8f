//! Runs a target: mutates what it knows, keeps what does something new, stops at the first finding.

use crate::mutate::{Dice, mutate};
use crate::probe::Probe;
use crate::{INPUT_BYTES_MAX, Target};
use rustix::time::{ClockId, clock_gettime};
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

/// Most inputs kept.
const CORPUS_MAX: usize = 4_096;
/// Most bytes of an input that is kept for what it does: short ones are quick to change.
const KEPT_BYTES_MAX: usize = 8 * 1024;
/// One input in this many pays for the dear checks.
const THOROUGH_EVERY: u64 = 32;

/// How long to run.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Most executions.
    pub runs: u64,
    /// Most seconds.
    pub seconds: u64,
    /// Seed of the mutator.
    pub seed: u64,
}

/// What a run came to.
#[derive(Debug, Clone)]
pub struct Report {
    /// Executions.
    pub runs: u64,
    /// Kinds of outcome seen.
    pub outcomes: usize,
    /// Seconds it took.
    pub seconds: u64,
    /// Most CPU time of one input, ns.
    pub cpu_ns: u64,
    /// Most bytes held by decoding one input.
    pub bytes: usize,
    /// Panics of libraries that were caught below the decoder.
    pub caught: u64,
    /// The first input that broke a promise, and how.
    pub finding: Option<(Vec<u8>, String)>,
}

static PANICS: AtomicU64 = AtomicU64::new(0);

/// Counts panics instead of printing them: some are caught where they belong.
pub fn quiet_panics() {
    std::panic::set_hook(Box::new(|_| {
        PANICS.fetch_add(1, Ordering::Relaxed);
    }));
}

fn seconds() -> u64 {
    u64::try_from(clock_gettime(ClockId::Monotonic).tv_sec).unwrap_or(0)
}

/// Runs `target` within `bounds`.
#[must_use]
pub fn run(target: &Target, bounds: Bounds, probe: Probe) -> Report {
    let panics = PANICS.load(Ordering::Relaxed);
    let mut dice = Dice::new(bounds.seed);
    let mut probe = probe;
    let mut corpus = (target.seeds)();
    if corpus.is_empty() {
        corpus.push(Vec::new());
    }
    let seeds = corpus.len();
    let started = seconds();
    let mut outcomes = BTreeSet::new();
    let (mut runs, mut finding) = (0_u64, None);
    let mut input = Vec::new();
    while runs < bounds.runs && (runs % 64 != 0 || seconds().saturating_sub(started) < bounds.seconds) {
        input.clear();
        match corpus.get(usize::try_from(runs).unwrap_or(usize::MAX)).filter(|_| runs < seeds as u64) {
            Some(seed) => input.extend_from_slice(seed),
            None => {
                // The newest know the most: half of all inputs come from the last 64.
                let recent = corpus.len().min(64);
                let pick = |dice: &mut Dice| match dice.below(2) {
                    0 => corpus.len() - 1 - dice.below(recent),
                    _ => dice.below(corpus.len()),
                };
                let (one, two) = (pick(&mut dice), dice.below(corpus.len()));
                input.extend_from_slice(&corpus[one]);
                mutate(&mut input, &corpus[two], &mut dice, INPUT_BYTES_MAX);
            }
        }
        probe.thorough = runs % THOROUGH_EVERY == 0;
        runs += 1;
        match catch_unwind(AssertUnwindSafe(|| (target.run)(&input, &mut probe))) {
            Ok(outcome) => {
                if outcomes.insert(outcome) && input.len() <= KEPT_BYTES_MAX && runs > seeds as u64 {
                    if corpus.len() < CORPUS_MAX {
                        corpus.push(input.clone());
                    } else {
                        let at =
                            seeds.min(CORPUS_MAX - 1) + dice.below(CORPUS_MAX - seeds.min(CORPUS_MAX - 1));
                        corpus[at].clone_from(&input);
                    }
                }
            }
            Err(panic) => {
                let why = panic
                    .downcast_ref::<String>()
                    .cloned()
                    .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                    .unwrap_or_else(|| "a panic without words".to_owned());
                finding = Some((input.clone(), why));
                break;
            }
        }
    }
    let panics = PANICS.load(Ordering::Relaxed).saturating_sub(panics);
    Report {
        runs,
        outcomes: outcomes.len(),
        seconds: seconds().saturating_sub(started),
        cpu_ns: probe.cpu_ns,
        bytes: probe.bytes,
        caught: panics.saturating_sub(u64::from(finding.is_some())),
        finding,
    }
}

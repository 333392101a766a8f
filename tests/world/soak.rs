//! Many seeds on all cores, until they are done or time is up.

use super::{Mutant, Outcome, Plan, Scale, happen};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Failures kept; a soak ends when it has so many.
const FAILURES_MAX: usize = 20;

/// Which seeds.
#[derive(Debug, Clone, Copy)]
pub struct Soak {
    /// The first seed.
    pub from: u64,
    /// How many.
    pub seeds: u64,
    /// Minutes or weeks.
    pub scale: Scale,
    /// A mistake in all of them; then the first failure ends it.
    pub mutant: Option<Mutant>,
}

/// A world in which something was not true.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Its seed.
    pub seed: u64,
    /// What was not true.
    pub violations: Vec<String>,
}

/// What all worlds of a soak did.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Worlds that happened.
    pub worlds: u64,
    /// Simulated time of all of them, ms.
    pub lasted_ms: u64,
    /// Longest time after the last fault, ms.
    pub settled_ms_max: u64,
    /// Messages of gateways.
    pub messages: u64,
    /// Connections tried.
    pub tries: u64,
    /// Rows captured.
    pub captured: u64,
    /// Of these, evicted.
    pub evicted: u64,
    /// Commits.
    pub commits: u64,
    /// How near a gateway came to what it may connect and send, %.
    pub fullest: u64,
    /// Worlds in which something was not true.
    pub failures: Vec<Failure>,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { worlds, captured, evicted, commits, messages, tries, fullest, .. } = self;
        let hours = self.lasted_ms / 3_600_000;
        write!(
            f,
            "{worlds} worlds of {hours} simulated hours: {captured} rows captured, {evicted} of them evicted, {commits} commits, \
             {messages} messages, {tries} connections tried; at most {} s after the last fault and {fullest} % of what may be \
             connected and sent; {} failed",
            self.settled_ms_max / 1_000,
            self.failures.len()
        )
    }
}

impl Tally {
    fn add(&mut self, seed: u64, outcome: &Outcome) {
        self.worlds += 1;
        self.lasted_ms += outcome.lasted_ms;
        self.settled_ms_max = self.settled_ms_max.max(outcome.settled_ms);
        self.messages += outcome.messages;
        self.tries += outcome.tries;
        self.captured += outcome.captured;
        self.evicted += outcome.evicted;
        self.commits += outcome.commits;
        self.fullest = self.fullest.max(outcome.fullest);
        if !outcome.violations.is_empty() {
            self.failures.push(Failure { seed, violations: outcome.violations.clone() });
        }
    }
}

/// One world; a panic in it is a violation.
fn one(plan: &Plan, mutant: Option<Mutant>) -> Outcome {
    match catch_unwind(AssertUnwindSafe(|| happen(plan, mutant, false))) {
        Ok(outcome) => outcome,
        Err(cause) => {
            let said = cause.downcast_ref::<String>().cloned();
            let said = said.or_else(|| cause.downcast_ref::<&str>().map(|said| (*said).to_owned()));
            let violations = vec![format!("panicked: {}", said.unwrap_or_default())];
            Outcome { violations, ..Outcome::default() }
        }
    }
}

impl Soak {
    /// Lets all worlds happen. `progress` is told how many have, and says whether to go on.
    pub fn run(&self, progress: impl Fn(u64) -> bool + Sync) -> Tally {
        let next = AtomicU64::new(0);
        let stop = AtomicBool::new(false);
        let tally = Mutex::new(Tally::default());
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        let n = next.fetch_add(1, Ordering::Relaxed);
                        if n >= self.seeds {
                            return;
                        }
                        let seed = self.from.wrapping_add(n);
                        let outcome = one(&Plan::of(seed, self.scale), self.mutant);
                        let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
                        tally.add(seed, &outcome);
                        if self.mutant.is_none() && !outcome.violations.is_empty() {
                            // At once: a soak of millions may be stopped before its end.
                            eprintln!("seed {seed} failed: {}", outcome.violations.join("; "));
                        }
                        let enough = if self.mutant.is_some() { 1 } else { FAILURES_MAX };
                        if tally.failures.len() >= enough || !progress(tally.worlds) {
                            stop.store(true, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        let mut tally = tally.into_inner().unwrap_or_else(PoisonError::into_inner);
        tally.failures.sort_by_key(|failure| failure.seed);
        tally
    }
}

/// A failure for a person: plan, what was not true, the smallest plan found, and how to see it again.
#[must_use]
pub fn report(failure: &Failure, scale: Scale) -> String {
    let plan = Plan::of(failure.seed, scale);
    let weeks = if scale == Scale::Weeks { " --weeks" } else { "" };
    let small = shrunk(&plan, None);
    let violations = failure.violations.join("\n  ");
    format!(
        "{plan}  {violations}\nof {} faults these are enough:\n{small}see it again: cargo measure world --from {} --seeds 1{weeks} --trace\n",
        plan.faults.len(),
        failure.seed
    )
}

/// The smallest plan found that still fails: faults are left out one by one while it does.
#[must_use]
pub fn shrunk(plan: &Plan, mutant: Option<Mutant>) -> Plan {
    let mut plan = plan.clone();
    let mut place = 0;
    while place < plan.faults.len() {
        let fewer = plan.without(place);
        if one(&fewer, mutant).violations.is_empty() {
            place += 1;
        } else {
            plan = fewer;
        }
    }
    plan
}

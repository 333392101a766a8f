//! Ten thousand worlds of minutes and twenty of weeks, and the mistakes that the oracle must find.
//!
//! A failing world prints its plan, the smallest plan that still fails, and the command that replays it.

mod scenes;

use headwater_tests::simulated::{Mutant, Plan, Scale, Soak, Tally, happen, report};

/// Worlds of a run: all seeds from 0 on.
const MINUTES: u64 = 10_000;
const WEEKS: u64 = 20;
/// A mistake must be found within so many seeds.
const MUTANT_SEEDS: u64 = 200;

/// Other numbers of worlds for a look: `HEADWATER_WORLDS=500,2 cargo test -p headwater-tests --test world`.
fn worlds(place: usize, usual: u64) -> u64 {
    let asked = std::env::var("HEADWATER_WORLDS").unwrap_or_default();
    asked.split(',').nth(place).and_then(|n| n.parse().ok()).unwrap_or(usual)
}

fn soak(seeds: u64, scale: Scale) -> Tally {
    let tally = Soak { from: 0, seeds, scale, mutant: None }.run(|done| {
        if done.is_multiple_of(1_000) {
            println!("{done} worlds");
        }
        true
    });
    println!("{tally}");
    for failure in &tally.failures {
        println!("{}", report(failure, scale));
    }
    assert!(tally.failures.is_empty(), "{} worlds failed; see above", tally.failures.len());
    tally
}

#[test]
fn ten_thousand_worlds_of_minutes() {
    let n = worlds(0, MINUTES);
    let tally = soak(n, Scale::Minutes);
    assert_eq!(tally.worlds, n);
    // They are worth something only if a lot happens in them.
    assert!(tally.captured > 30 * n && tally.evicted > n / 10, "{tally}");
    assert!(tally.lasted_ms / n < 10 * 60_000, "{tally}");
}

#[test]
fn twenty_worlds_of_weeks() {
    let n = worlds(1, WEEKS);
    let tally = soak(n, Scale::Weeks);
    assert_eq!(tally.worlds, n);
    assert!(tally.lasted_ms > n * 7 * 86_400_000 && tally.evicted > 0, "{tally}");
}

#[test]
fn a_seed_is_one_world() {
    for scale in [Scale::Minutes, Scale::Weeks] {
        for seed in 0..if scale == Scale::Minutes { 40 } else { 2 } {
            let plan = Plan::of(seed, scale);
            assert_eq!(plan, Plan::of(seed, scale));
            let (first, second) = (happen(&plan, None, false), happen(&plan, None, false));
            assert_eq!(first, second, "{plan}");
        }
    }
}

#[test]
fn each_mistake_is_found() {
    let mut unfound = Vec::new();
    for mutant in Mutant::ALL {
        let soak = Soak { from: 0, seeds: MUTANT_SEEDS, scale: Scale::Minutes, mutant: Some(mutant) };
        let tally = soak.run(|_| true);
        match tally.failures.first() {
            Some(found) => println!("{mutant:?}: after {} worlds: {}", tally.worlds, found.violations[0]),
            None => unfound.push(mutant),
        }
    }
    assert!(unfound.is_empty(), "not found in {MUTANT_SEEDS} worlds each: {unfound:?}");
}

#[test]
fn a_failing_plan_is_made_smaller() {
    let mutant = Some(Mutant::GapDropped);
    let soak = Soak { from: 0, seeds: MUTANT_SEEDS, scale: Scale::Minutes, mutant };
    let seed = soak.run(|_| true).failures[0].seed;
    let plan = Plan::of(seed, Scale::Minutes);
    let small = headwater_tests::simulated::shrunk(&plan, mutant);
    assert!(small.faults.len() <= plan.faults.len());
    assert!(!happen(&small, mutant, false).violations.is_empty());
    assert!((0..small.faults.len()).all(|n| happen(&small.without(n), mutant, false).violations.is_empty()));
}

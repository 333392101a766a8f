//! Simulated clocks: the truth is known, so every interval can be judged by it.

use super::*;
use crate::resolve::Constraint;
use crate::resolve::Receipt;
use headwater_core::id::{DeviceId, Epoch};
use proptest::prelude::*;

const S: i64 = NS_PER_S;
/// UTC at the start of the simulated boot.
const START: i64 = 1_700_000_000 * S;

fn device() -> DeviceId {
    "pi-1".parse().unwrap()
}

fn whose(device: &DeviceId, boot: u32) -> Incoming<'_> {
    Incoming { device, epoch: Epoch(7), boot: BootOrdinal(boot) }
}

/// A crystal that runs at a constant rate within the datasheet's bound.
#[derive(Debug, Clone, Copy)]
struct Crystal {
    ppb: i64,
}

impl Crystal {
    fn utc(self, b: i64) -> i64 {
        let drift = i128::from(b) * i128::from(self.ppb) / 1_000_000_000;
        START + b + i64::try_from(drift).unwrap()
    }
}

fn exchange(crystal: Crystal, at: i64, there: i64, back: i64, grade: Grade) -> Constraint {
    let turn = S / 5;
    Constraint::Exchange {
        sent: Some((BootNanos(at), UtcNanos(crystal.utc(at) + there))),
        answered: Some((BootNanos(at + there + turn + back), UtcNanos(crystal.utc(at + there + turn) - 1))),
        e_c_ns: 1_000_000,
        grade,
    }
}

fn at(seconds: i64) -> Query {
    Query { event: BootNanos(seconds * S), half_ns: 0 }
}

#[test]
fn three_exchanges_guarantee_and_two_only_estimate() {
    let (device, crystal) = (device(), Crystal { ppb: 20_000 });
    let mut tracks = ClockTracks::default();
    let mut grades = Vec::new();
    for n in 0..3 {
        let constraint = exchange(crystal, n * 16 * S, 10_000_000, 10_000_000, Grade::Guaranteed);
        tracks.observe(whose(&device, 1), constraint);
        grades.push(tracks.resolve(whose(&device, 1), &[at(60)])[0].grade);
    }
    assert_eq!(grades, [Grade::Estimated, Grade::Estimated, Grade::Guaranteed]);
}

#[test]
fn a_boot_without_any_clock_still_has_a_finite_interval_and_order() {
    let device = device();
    let mut tracks = ClockTracks::default();
    let received = UtcNanos(START + 500 * S);
    tracks.receipt(whose(&device, 1), Receipt { at: BootNanos(90 * S), received });
    let answers = tracks.resolve(whose(&device, 1), &[at(90), at(10), at(50)]);
    assert!(answers.iter().all(|a| a.grade == Grade::OrderingOnly && !a.conflict));
    assert!(answers[1].ts < answers[2].ts && answers[2].ts < answers[0].ts);
    for answer in &answers {
        assert!(answer.ts.0 + answer.err_ns <= received.0 + 10_000_000);
        assert!(answer.ts.0 - answer.err_ns >= FLOOR.0 - S);
    }
}

#[test]
fn boots_before_and_after_bracket_one_that_met_no_clock() {
    let (device, crystal) = (device(), Crystal { ppb: 0 });
    let mut tracks = ClockTracks::default();
    for n in 0..4 {
        let constraint = exchange(crystal, n * 16 * S, 5_000_000, 5_000_000, Grade::Guaranteed);
        tracks.observe(whose(&device, 1), constraint);
        // Boot 3 began 1000 s after boot 1.
        let Constraint::Exchange { sent, answered, e_c_ns, grade } = constraint else { unreachable!() };
        let later = |(b, utc): (BootNanos, UtcNanos)| (b, utc.plus_ns(1_000 * S));
        let constraint =
            Constraint::Exchange { sent: sent.map(later), answered: answered.map(later), e_c_ns, grade };
        tracks.observe(whose(&device, 3), constraint);
    }
    tracks.receipt(
        whose(&device, 2),
        Receipt { at: BootNanos(100 * S), received: UtcNanos(START + 5_000 * S) },
    );
    let answer = tracks.resolve(whose(&device, 2), &[at(100)])[0];
    assert_eq!(answer.grade, Grade::OrderingOnly);
    // After boot 1's last moment plus 100 s, before boot 3's start.
    assert!(answer.ts.0 - answer.err_ns >= START + 147 * S);
    assert!(answer.ts.0 + answer.err_ns <= START + 1_001 * S);
}

#[test]
fn a_contradiction_is_a_hull_with_a_flag_and_never_guaranteed() {
    let device = device();
    let mut tracks = ClockTracks::default();
    for (n, shift) in (0..12).map(|n| (n, if n % 2 == 0 { 0 } else { 10 * S })) {
        let real = UtcNanos(START + n * 16 * S + shift);
        let b = BootNanos(n * 16 * S);
        let sample = Constraint::Sample { b1: b, real, b2: b, half_ns: 1_000_000, grade: Grade::Guaranteed };
        tracks.observe(whose(&device, 1), sample);
    }
    let answer = tracks.resolve(whose(&device, 1), &[at(60)])[0];
    assert!(answer.conflict);
    assert_eq!(answer.grade, Grade::Estimated);
    assert!(answer.err_ns >= 4 * S);
}

#[test]
fn the_track_id_knows_constraints_and_not_their_order() {
    let (device, crystal) = (device(), Crystal { ppb: 0 });
    let all: Vec<Constraint> =
        (0..5).map(|n| exchange(crystal, n * S, 1_000, 1_000, Grade::Estimated)).collect();
    let id = |constraints: &[Constraint]| {
        let mut tracks = ClockTracks::default();
        constraints.iter().for_each(|c| tracks.observe(whose(&device, 1), *c));
        tracks.track_id(whose(&device, 1))
    };
    let reversed: Vec<Constraint> = all.iter().rev().chain(&all).copied().collect();
    assert_eq!(id(&all), id(&reversed));
    assert_ne!(id(&all), id(&all[..4]));
}

fn constraints() -> impl Strategy<Value = Vec<(i64, i64, i64, bool)>> {
    proptest::collection::vec(
        (0_i64..3_000, 1_000_i64..80_000_000, 1_000_i64..80_000_000, any::<bool>()),
        1..60,
    )
}

proptest! {
    #[test]
    fn truth_lies_inside_for_honest_clocks_and_order_is_kept(
        constraints in constraints(), ppb in -50_000_i64..=50_000, events in proptest::collection::vec(0_i64..3_500, 1..50)
    ) {
        let (device, crystal) = (device(), Crystal { ppb });
        let mut tracks = ClockTracks::default();
        for (second, there, back, guaranteed) in constraints {
            let grade = if guaranteed { Grade::Guaranteed } else { Grade::Estimated };
            tracks.observe(whose(&device, 1), exchange(crystal, second * S, there, back, grade));
        }
        let queries: Vec<Query> = events.iter().map(|s| at(*s)).collect();
        let answers = tracks.resolve(whose(&device, 1), &queries);
        for (query, answer) in queries.iter().zip(&answers) {
            prop_assert!(!answer.conflict);
            let truth = crystal.utc(query.event.0);
            prop_assert!((truth - answer.ts.0).abs() <= answer.err_ns, "{truth} {answer:?}");
        }
        let mut by_event: Vec<(BootNanos, UtcNanos)> =
            queries.iter().zip(&answers).map(|(q, a)| (q.event, a.ts)).collect();
        by_event.sort_unstable();
        prop_assert!(by_event.windows(2).all(|pair| pair[0].1 <= pair[1].1));
    }

    #[test]
    fn two_liars_do_not_move_a_guaranteed_interval_off_the_truth(
        ppb in -40_000_i64..=40_000, lies in proptest::collection::vec((0_i64..1_000, -500_000_000_i64..500_000_000), 0..=2), query in 0_i64..1_000
    ) {
        let (device, crystal) = (device(), Crystal { ppb });
        let mut tracks = ClockTracks::default();
        for n in 0..12 {
            tracks.observe(whose(&device, 1), exchange(crystal, n * 64 * S, 20_000_000, 30_000_000, Grade::Guaranteed));
        }
        for (second, off) in lies {
            let (b, real) = (BootNanos(second * S), UtcNanos(crystal.utc(second * S) + off));
            tracks.observe(whose(&device, 1), Constraint::Sample { b1: b, real, b2: b, half_ns: 0, grade: Grade::Guaranteed });
        }
        let answer = tracks.resolve(whose(&device, 1), &[at(query)])[0];
        let truth = crystal.utc(query * S);
        prop_assert_eq!(answer.grade, Grade::Guaranteed);
        prop_assert!((truth - answer.ts.0).abs() <= answer.err_ns);
    }
}

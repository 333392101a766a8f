//! Boots with and without clocks, by hand.

use super::*;
use crate::time::statement::ClockSource;
use crate::time::{NS_PER_S, UtcNanos};
use proptest::prelude::*;

const S: i64 = NS_PER_S;
const START: i64 = 1_700_000_000 * S;

fn exchange(b: i64, utc: i64, there: i64, back: i64) -> Statement {
    let turn = S / 5;
    Statement::Constraint(Constraint::Exchange {
        sent: Some((BootNanos(b), UtcNanos(utc + there))),
        answered: Some((BootNanos(b + there + turn + back), UtcNanos(utc + there + turn))),
        e_c_ns: 1_000_000,
        grade: Grade::Guaranteed,
    })
}

fn at(second: i64) -> Query {
    Query { event: BootNanos(second * S), half_ns: 0 }
}

fn inside(answer: &Resolved, truth: i64) -> bool {
    (answer.ts.0 - truth).abs() <= answer.err_ns
}

#[test]
fn three_exchanges_guarantee_and_two_only_estimate() {
    let mut boots = Boots::default();
    let mut grades = Vec::new();
    for n in 0..3 {
        boots.observe(BootOrdinal(1), exchange(n * 16 * S, START + n * 16 * S, 10_000_000, 10_000_000), None);
        grades.push(boots.resolve(BootOrdinal(1), &[at(60)])[0].grade);
    }
    assert_eq!(grades, [Grade::Estimated, Grade::Estimated, Grade::Guaranteed]);
}

#[test]
fn a_boot_without_any_clock_still_has_a_finite_interval_and_order() {
    let mut boots = Boots::default();
    let received = UtcNanos(START + 500 * S);
    boots.receipt(BootOrdinal(1), Receipt { at: BootNanos(90 * S), received });
    let answers = boots.resolve(BootOrdinal(1), &[at(90), at(10), at(50)]);
    assert!(answers.iter().all(|a| a.grade == Grade::OrderingOnly && !a.conflict));
    assert!(answers[1].ts < answers[2].ts && answers[2].ts < answers[0].ts);
    for answer in &answers {
        assert!(answer.ts.0 + answer.err_ns <= received.0 + 10_000_000);
        assert!(answer.ts.0 - answer.err_ns >= Params::default().floor.0 - S);
    }
}

/// Boots 2 to 4 met no clock, between 1 and 5 that did; each ran for 100 s, and the gateway was off for 50 s between.
fn five_boots() -> Boots {
    let mut boots = Boots::default();
    for boot in [1, 5] {
        for n in 0..4 {
            let utc = START + i64::from(boot - 1) * 150 * S + n * 25 * S;
            boots.observe(BootOrdinal(boot), exchange(n * 25 * S, utc, 5_000_000, 5_000_000), None);
        }
    }
    for boot in 2..5 {
        let received = UtcNanos(START + 10_000 * S);
        boots.receipt(BootOrdinal(boot), Receipt { at: BootNanos(100 * S), received });
    }
    boots
}

#[test]
fn unsynced_boots_keep_order() {
    let boots = five_boots();
    let mut last = i64::MIN;
    for boot in 2..5_u32 {
        let answers = boots.resolve(BootOrdinal(boot), &[at(0), at(50), at(100)]);
        for (answer, second) in answers.iter().zip([0, 50, 100]) {
            let truth = START + i64::from(boot - 1) * 150 * S + second * S;
            assert!(inside(answer, truth), "{boot} {second} {answer:?}");
            assert_eq!(answer.grade, Grade::OrderingOnly);
            // Boots between take their own length away: 600 s less what is known to have passed.
            assert!(answer.err_ns < 160 * S, "{answer:?}");
            assert!(answer.ts.0 >= last, "order holds over boots");
            last = answer.ts.0;
        }
    }
}

#[test]
fn one_gps_second_pins_a_boot() {
    let mut boots = five_boots();
    let second = UtcNanos(START + 300 * S + 70 * S);
    let edge = Constraint::Edge {
        source: ClockSource::GpsSerial,
        at: BootNanos(70 * S + 400_000_000),
        second,
        latency_ns: None,
        grade: Grade::Estimated,
    };
    assert_eq!(boots.observe(BootOrdinal(3), Statement::Constraint(edge), None), Heard::Taken(0));
    let answer = boots.resolve(BootOrdinal(3), &[at(10)])[0];
    assert_eq!(answer.grade, Grade::Estimated);
    assert!(inside(&answer, START + 310 * S) && answer.err_ns < 600_000_000, "{answer:?}");
    // And its neighbours profit.
    let before = boots.resolve(BootOrdinal(2), &[at(100)])[0];
    assert!(inside(&before, START + 250 * S) && before.ts.0 + before.err_ns <= START + 301 * S, "{before:?}");
}

#[test]
fn dates_that_cannot_be_are_refused() {
    let mut boots = Boots::default();
    let week = 7 * 86_400 * S;
    let gps = |second: i64| {
        let (at, second) = (BootNanos(60 * S), UtcNanos(second));
        let source = ClockSource::GpsSerial;
        Statement::Constraint(Constraint::Edge {
            source,
            at,
            second,
            latency_ns: None,
            grade: Grade::Estimated,
        })
    };
    let received = Some(UtcNanos(START + 100 * S));
    // A receiver whose ten bits of weeks rolled over, either way.
    assert_eq!(boots.observe(BootOrdinal(1), gps(START - 1_024 * week), received), Heard::TooEarly);
    assert_eq!(boots.observe(BootOrdinal(1), gps(START + 1_024 * week), received), Heard::TooLate);
    assert_eq!(boots.observe(BootOrdinal(1), gps(START + 60 * S), received), Heard::Taken(0));
    assert_eq!(boots.observe(BootOrdinal(1), gps(START + 60 * S), received), Heard::Known);
    // A collector whose own clock is wrong judges nobody.
    assert_eq!(boots.observe(BootOrdinal(1), gps(START + 90 * S), None), Heard::Taken(0));
}

#[test]
fn what_is_kept_is_bounded() {
    let mut boots = Boots::default();
    for n in 0..=i64::try_from(STATEMENTS_MAX).unwrap() {
        boots.observe(BootOrdinal(1), exchange(n * S, START + n * S, 1_000, 1_000), None);
    }
    let known = &boots.boots[&BootOrdinal(1)];
    assert_eq!(known.evidence.constraints.len(), STATEMENTS_MAX);
    assert_eq!(known.evidence.constraints[0].reach().0, BootNanos(S), "the oldest went");
    for n in 0..EVENTS_MAX {
        let at = BootNanos(i64::try_from(n).unwrap());
        boots.observe(BootOrdinal(1), Statement::Event { at, event: ClockEvent::Step }, None);
    }
    let one_more = Statement::Event { at: BootNanos(-1), event: ClockEvent::Step };
    assert_eq!(boots.observe(BootOrdinal(1), one_more, None), Heard::Full);
    for boot in 0..=u32::try_from(BOOTS_MAX).unwrap() {
        boots.observe(BootOrdinal(boot), one_more, None);
    }
    assert_eq!(boots.boots.len(), BOOTS_MAX);
}

#[test]
fn a_device_without_pings_lies_between_its_boot_and_its_receipt() {
    let boots = five_boots();
    let received = UtcNanos(START + 500 * S);
    let answer = boots.resolve_device(BootOrdinal(5), crate::time::ClockDomain(1), received, &[at(7)])[0];
    assert_eq!(answer.grade, Grade::OrderingOnly);
    assert!(answer.ts.0 + answer.err_ns <= received.0 + 1);
}

proptest! {
    #[test]
    fn the_order_of_arrival_changes_nothing(
        list in proptest::collection::vec((0_i64..3_000, 1_000_i64..80_000_000, 1_000_i64..80_000_000), 1..40),
        keys in proptest::collection::vec(any::<u64>(), 40)
    ) {
        let statement = |(second, there, back): &(i64, i64, i64)| exchange(second * S, START + second * S, *there, *back);
        let mut shuffled: Vec<(u64, usize)> = (0..list.len()).map(|n| (keys[n], n)).collect();
        shuffled.sort_unstable();
        let (mut one, mut other) = (Boots::default(), Boots::default());
        for item in &list {
            one.observe(BootOrdinal(1), statement(item), None);
        }
        for (_, place) in shuffled.iter().chain(&shuffled) {
            other.observe(BootOrdinal(1), statement(&list[*place]), None);
        }
        prop_assert_eq!(one.track(BootOrdinal(1)).id(), other.track(BootOrdinal(1)).id());
        let asked: Vec<Query> = (0..50).map(|n| at(n * 70)).collect();
        prop_assert_eq!(one.resolve(BootOrdinal(1), &asked), other.resolve(BootOrdinal(1), &asked));
    }
}

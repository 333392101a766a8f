//! Tracks of hand-made evidence; simulated clocks are in the simulated world.

use super::*;

const S: i64 = NS_PER_S;
const START: i64 = 1_700_000_000 * S;

fn sample(source: ClockSource, second: i64, off_ns: i64) -> Constraint {
    let b = BootNanos(second * S);
    Constraint::Sample {
        source,
        b1: b,
        real: UtcNanos(START + second * S + off_ns),
        b2: b,
        half_ns: 1_000_000,
        grade: Grade::Guaranteed,
    }
}

fn evidence(constraints: impl IntoIterator<Item = Constraint>) -> Evidence {
    let mut constraints: Vec<Constraint> = constraints.into_iter().collect();
    constraints.sort_by_key(|one| (one.reach().0, *one));
    Evidence { constraints, ..Evidence::default() }
}

fn at(track: &Track, second: i64) -> Placed {
    track.place(BootNanos(second * S))
}

#[test]
fn a_liar_among_three_is_outvoted_and_among_two_a_conflict() {
    let honest = (0..12).map(|n| sample(ClockSource::Chrony, n * 16, 0));
    let lying = (0..12).map(|n| sample(ClockSource::CollectorExchange, n * 16, 80_000_000));
    let two = Track::new(&evidence(honest.clone().chain(lying.clone())), &Params::default());
    let placed = at(&two, 60);
    assert_eq!((placed.grade, placed.conflict), (Grade::Estimated, true));
    assert!(placed.span.lo <= START + 60 * S && START + 60 * S <= placed.span.hi);
    let third = (0..12).map(|n| sample(ClockSource::GpsPps, n * 16, 0));
    let three = Track::new(&evidence(honest.chain(lying).chain(third)), &Params::default());
    let placed = at(&three, 60);
    assert_eq!((placed.grade, placed.conflict, placed.outvoted), (Grade::Guaranteed, false, 1));
    assert!(placed.span.lo <= START + 60 * S && START + 60 * S <= placed.span.hi);
}

#[test]
fn a_leap_lets_nothing_through_and_its_neighbourhood_is_either() {
    let before = (0..12).map(|n| sample(ClockSource::Chrony, n * 16, 0));
    let after = (60..72).map(|n| sample(ClockSource::Chrony, n * 16, -S));
    let mut evidence = evidence(before.chain(after));
    evidence.events.insert((BootNanos(600 * S), ClockEvent::Leap));
    let track = Track::new(&evidence, &Params::default());
    assert_eq!(track.segments().len(), 2);
    assert!((at(&track, 100).ts - (START + 100 * S)).abs() < 2_000_000);
    assert!((at(&track, 1_000).ts - (START + 999 * S)).abs() < 2_000_000);
    let within = at(&track, 550);
    assert!(within.span.lo <= START + 549 * S && START + 550 * S <= within.span.hi, "{within:?}");
}

#[test]
fn the_id_knows_evidence_and_parameters() {
    let all = evidence((0..5).map(|n| sample(ClockSource::Chrony, n, 0)));
    let id = |evidence: &Evidence, params: &Params| Track::new(evidence, params).id();
    let params = Params::default();
    assert_eq!(id(&all, &params), id(&all.clone(), &params));
    let fewer = Evidence { constraints: all.constraints[..4].to_vec(), ..Evidence::default() };
    assert_ne!(id(&all, &params), id(&fewer, &params));
    let eventful = Evidence { events: [(BootNanos(0), ClockEvent::Step)].into(), ..all.clone() };
    assert_ne!(id(&all, &params), id(&eventful, &params));
    assert_ne!(id(&all, &params), id(&all, &Params { residual_ppb: 16_000, ..params.clone() }));
}

#[test]
fn a_smear_widens_its_source() {
    let all = evidence((0..12).map(|n| sample(ClockSource::Chrony, n, 0)));
    let smears = vec![(ClockSource::Chrony, 500_000_000)];
    let smeared = Track::new(&all, &Params { smears, ..Params::default() });
    let plain = Track::new(&all, &Params::default());
    assert_eq!(at(&smeared, 5).span.hi - at(&plain, 5).span.hi, 500_000_000);
}

#[test]
fn a_boot_may_say_that_its_crystal_is_better_or_worse() {
    let mut all = evidence((0..12).map(|n| sample(ClockSource::Chrony, n, 0)));
    let width = |evidence: &Evidence| {
        let span = at(&Track::new(evidence, &Params::default()), 1_000).span;
        span.hi - span.lo
    };
    let datasheet = width(&all);
    all.rates.insert(2_000);
    assert!(width(&all) < datasheet);
    all.rates.insert(6_000_000);
    assert!(width(&all) > datasheet);
}

#[test]
fn nothing_known_is_open_on_both_sides() {
    let track = Track::new(&Evidence::default(), &Params::default());
    assert_eq!(at(&track, 5), Placed::UNKNOWN);
    let upper = Constraint::Exchange {
        sent: Some((BootNanos(0), UtcNanos(START))),
        answered: None,
        e_c_ns: 0,
        grade: Grade::Guaranteed,
    };
    let half = at(&Track::new(&evidence([upper]), &Params::default()), 0);
    assert_eq!((half.span, half.grade), (Span { lo: i64::MIN, hi: START }, Grade::OrderingOnly));
}

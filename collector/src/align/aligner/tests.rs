//! Aligned rows against a brute force, in any order and batching of arrival (L2).

use super::*;
use crate::align::asof::{FLAG_CROSS_BOOT, FLAG_GAP, FLAG_NONE, FLAG_TOLERANCE, distance};
use headwater_core::id::Seq;
use headwater_core::time::Grade;
use proptest::prelude::*;

const TOLERANCE_NS: i64 = 1_000;

fn recipe() -> OnlineRecipe {
    OnlineRecipe::parse(
        "headwater_recipe = 1\nname = 'r'\n[spine]\nstream = 'cam'\nmin_grade = 'ordering_only'\n[[column]]\nname = 'm'\nstream = 'imu'\nselect = ['x']\nmethod = 'previous'\ntolerance = '1us'\n",
    )
    .unwrap()
}

fn key(stream: &str) -> StreamKey {
    StreamKey { device: "pi-1".parse().unwrap(), epoch: Epoch(1), stream: stream.parse().unwrap() }
}

fn at(boot: u32, event_ns: i64, seq: u64) -> Instant {
    Instant {
        place: Place { boot: BootOrdinal(boot), event_ns, seq },
        half_ns: 3,
        // Boots a second apart, each placed within 200 ns.
        ts_ns: i64::from(boot) * 1_500 + event_ns,
        err_ns: 200,
        grade: Grade::Estimated,
    }
}

/// One thing that may arrive: a run of samples, a gap, a spine row.
#[derive(Debug, Clone)]
enum Arrival {
    Sample(Instant, Cell),
    Gap(u64),
    Spine(Instant),
}

/// A column whose seqs follow its event times, with holes that gaps explain; nulls here and there; spine rows anywhere.
fn world() -> impl Strategy<Value = Vec<Arrival>> {
    let steps = proptest::collection::vec((0_i64..400, 0_u8..10, 0_u8..12), 1..60);
    let spine = proptest::collection::vec((1_u32..3, 0_i64..6_000), 1..30);
    (steps, spine).prop_map(|(steps, spine)| {
        let mut arrivals = Vec::new();
        let (mut boot, mut event) = (1, 0);
        for (seq, (step, what, reboot)) in (0_u64..).zip(steps) {
            if reboot == 0 && boot == 1 {
                (boot, event) = (2, 0);
            }
            event += step;
            arrivals.push(match what {
                0 => Arrival::Gap(seq),
                1 => Arrival::Sample(at(boot, event, seq), Cell::Null),
                _ => Arrival::Sample(at(boot, event, seq), Cell::Long(seq.cast_signed())),
            });
        }
        let rows = (0_u64..).zip(spine).map(|(seq, (boot, event))| Arrival::Spine(at(boot, event, seq)));
        arrivals.extend(rows);
        arrivals
    })
}

fn arrive(aligner: &mut Aligner, arrival: &Arrival) {
    match arrival {
        Arrival::Sample(at, value) => {
            let seq = at.place.seq;
            aligner.hold(&key("imu"), seq..seq + 1);
            aligner.add_sample(&key("imu"), *at, |_| vec![value.clone()]);
        }
        Arrival::Gap(seq) => aligner.declare_gap(&key("imu"), *seq..*seq + 1, 0, 0),
        Arrival::Spine(at) => aligner.add_spine(&key("cam"), *at, Vec::new(), BootNanos(0)),
    }
}

/// By definition: of all samples at or before the instant that hold a value, the last in order, if it is near enough.
fn brute(arrivals: &[Arrival], spine: &Instant) -> (Option<u64>, Cell, i32) {
    let before = arrivals.iter().filter_map(|arrival| match arrival {
        Arrival::Sample(at, value) if *value != Cell::Null => Some((at, value)),
        _ => None,
    });
    let last = Place { seq: u64::MAX, ..spine.place };
    let found = before.filter(|(at, _)| at.place <= last).max_by_key(|(at, _)| at.place);
    let Some((at, value)) = found else { return (None, Cell::Null, FLAG_NONE) };
    let (dt, _, same) = distance(spine, at);
    if dt.abs() > TOLERANCE_NS {
        return (None, Cell::Null, FLAG_TOLERANCE);
    }
    (Some(at.place.seq), value.clone(), if same { 0 } else { FLAG_CROSS_BOOT })
}

fn finish(aligner: &mut Aligner, window: AlignedWindow) -> Vec<AlignedRow> {
    let done = aligner.covered_with(&window);
    aligner.finish(done);
    window.rows
}

proptest! {
    #[test]
    fn rows_equal_brute_force_in_any_order_of_arrival(
        arrivals in world(), order in proptest::collection::vec(any::<prop::sample::Index>(), 0..80), every in 1_usize..9
    ) {
        let mut shuffled = arrivals.clone();
        for (place, with) in order.iter().enumerate() {
            let (a, b) = (place % shuffled.len(), with.index(shuffled.len()));
            shuffled.swap(a, b);
        }
        let mut aligner = Aligner::new(recipe(), Coverage::default());
        let mut rows = Vec::new();
        for (n, arrival) in shuffled.iter().enumerate() {
            arrive(&mut aligner, arrival);
            if n % every == 0 {
                let window = aligner.step(BootNanos(1));
                rows.extend(finish(&mut aligner, window));
            }
        }
        // A promise beyond everything makes the rest final.
        let seqs = arrivals.iter().filter(|a| !matches!(a, Arrival::Spine(_))).count() as u64;
        let promise = Promise { boot: BootOrdinal(9), next_seq: Seq(seqs), promise_b: BootNanos(0) };
        aligner.promise(&key("imu"), promise);
        let window = aligner.step(BootNanos(1));
        rows.extend(finish(&mut aligner, window));

        let spine: Vec<&Instant> =
            arrivals.iter().filter_map(|a| if let Arrival::Spine(at) = a { Some(at) } else { None }).collect();
        prop_assert_eq!(rows.len(), spine.len(), "each spine row once");
        for row in rows {
            prop_assert!(!row.provisional);
            let (seq, value, flag) = brute(&arrivals, &row.at);
            let column = &row.columns[0];
            prop_assert_eq!(column.source.seq, seq);
            prop_assert_eq!(&column.values[0], &value);
            let kept = FLAG_NONE | FLAG_TOLERANCE | FLAG_CROSS_BOOT;
            if seq.is_some() {
                prop_assert_eq!(column.source.flag & kept, flag);
            } else {
                prop_assert_eq!(column.source.flag & (FLAG_NONE | FLAG_TOLERANCE), flag);
            }
        }
    }
}

#[test]
fn a_row_waits_for_what_may_still_come_and_a_gap_ends_the_waiting() {
    let mut aligner = Aligner::new(recipe(), Coverage::default());
    arrive(&mut aligner, &Arrival::Sample(at(1, 100, 0), Cell::Long(0)));
    arrive(&mut aligner, &Arrival::Spine(at(1, 500, 0)));
    assert!(aligner.step(BootNanos(0)).is_empty(), "seq 1 may lie before 500");
    arrive(&mut aligner, &Arrival::Sample(at(1, 900, 2), Cell::Long(2)));
    assert!(aligner.step(BootNanos(0)).is_empty(), "seq 1 is still missing");
    arrive(&mut aligner, &Arrival::Gap(1));
    let window = aligner.step(BootNanos(0));
    assert_eq!(window.rows.len(), 1);
    let source = window.rows[0].columns[0].source;
    assert_eq!((source.seq, source.dt_ns), (Some(0), Some(-400)));
    assert_eq!(source.flag & FLAG_GAP, FLAG_GAP);
}

#[test]
fn tolerance_is_inclusive_and_of_equal_times_the_last_wins() {
    let mut aligner = Aligner::new(recipe(), Coverage::default());
    for (seq, event) in [(0, 0), (1, 0), (2, 5_000)] {
        arrive(&mut aligner, &Arrival::Sample(at(1, event, seq), Cell::Long(seq.cast_signed())));
    }
    for (seq, event) in [(0, TOLERANCE_NS), (1, TOLERANCE_NS + 1)] {
        arrive(&mut aligner, &Arrival::Spine(at(1, event, seq)));
    }
    let sources: Vec<Option<u64>> =
        aligner.step(BootNanos(0)).rows.iter().map(|row| row.columns[0].source.seq).collect();
    assert_eq!(sources, [Some(1), None]);
}

#[test]
fn rows_that_are_too_uncertain_are_left_out_and_done() {
    let mut strict = recipe();
    strict.min_grade = Grade::Guaranteed;
    let mut aligner = Aligner::new(strict, Coverage::default());
    arrive(&mut aligner, &Arrival::Spine(at(1, 500, 3)));
    let window = aligner.step(BootNanos(0));
    assert_eq!((window.rows.len(), window.left_out.clone()), (0, vec![(key("cam"), 3)]));
    finish(&mut aligner, window);
    arrive(&mut aligner, &Arrival::Spine(at(1, 500, 3)));
    assert_eq!(aligner.waiting(), 0, "done is done");
}

#[test]
fn a_row_older_than_what_was_let_go_is_fetched_from_the_raw_tables() {
    let mut aligner = Aligner::new(recipe(), Coverage::default());
    aligner.samples_max = 3;
    for seq in 0..10_i64 {
        arrive(&mut aligner, &Arrival::Sample(at(1, seq * 1_000, seq.cast_unsigned()), Cell::Long(seq)));
    }
    arrive(&mut aligner, &Arrival::Spine(at(1, 9_500, 0)));
    assert!(!aligner.is_behind());
    arrive(&mut aligner, &Arrival::Spine(at(1, 2_500, 1)));
    assert!(aligner.is_behind());
    let fresh = aligner.emptied();
    assert!(!fresh.is_behind() && fresh.waiting() == 0);
}

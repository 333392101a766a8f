//! The clock resolver against clocks whose truth is known.

use super::chance::Chance;
use super::*;
use crate::disk::Dice;
use headwater_core::time::boots::{Boots, Query, Resolved};
use headwater_core::time::cone::{FALSE_MAX, WINDOW};
use headwater_core::time::statement::{Constraint, Receipt, Statement};
use headwater_core::time::track::Params;
use headwater_core::time::{BootNanos, ClockDomain, Grade, NS_PER_MS, NS_PER_S, UtcNanos};
use proptest::prelude::*;

const HOUR: i64 = 3_600 * NS_PER_S;

fn learn(device: &SimulatedDevice) -> Boots {
    let mut boots = Boots::new(Params::default());
    for boot in &device.boots {
        for told in &boot.told {
            boots.observe(boot.ordinal, told.statement, Some(told.received));
        }
        let receipt = Receipt {
            at: BootNanos(boot.length_ns),
            received: UtcNanos(boot.utc(boot.length_ns) + 3_600 * NS_PER_S),
        };
        boots.receipt(boot.ordinal, receipt);
    }
    boots
}

fn every(boot: &SimulatedBoot, step_ns: i64) -> Vec<Query> {
    (0..boot.length_ns / step_ns)
        .map(|n| n * step_ns)
        .filter(|b| !boot.asleep.iter().any(|(from, to)| from <= b && b < to))
        .map(|b| Query { event: BootNanos(b), half_ns: 0 })
        .collect()
}

fn misses(boot: &SimulatedBoot, query: &Query, answer: &Resolved) -> bool {
    let truth = boot.utc(query.event.0);
    (i128::from(answer.ts.0) - i128::from(truth)).abs() > i128::from(answer.err_ns)
}

/// False points of each kind among those used at `b`, the more of the two; by the truth, and apart from the resolver.
fn false_used(boot: &SimulatedBoot, b: i64) -> usize {
    let mut upper = Vec::new();
    let mut lower = Vec::new();
    for told in &boot.told {
        if let Statement::Constraint(constraint) = told.statement {
            let claims = constraint.claims(0);
            let judged =
                |point: headwater_core::time::cone::Point| (point.at.0, point.utc.0, boot.utc(point.at.0));
            upper.extend(
                claims.upper.map(|claim| judged(claim.point)).map(|(at, utc, truth)| (at, utc < truth)),
            );
            lower.extend(
                claims.lower.map(|claim| judged(claim.point)).map(|(at, utc, truth)| (at, utc > truth)),
            );
        }
    }
    let used = |points: &mut Vec<(i64, bool)>| {
        points.sort_unstable();
        let split = points.partition_point(|(at, _)| *at <= b);
        let window = split.saturating_sub(WINDOW)..(split + WINDOW).min(points.len());
        points[window].iter().filter(|(_, lies)| *lies).count()
    };
    used(&mut upper).max(used(&mut lower))
}

fn any_plan() -> impl Strategy<Value = Plan> {
    let sources = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    let links = prop_oneof![Just(Link::LTE), Just(Link::BUSY), Just(Link::LAN)];
    (sources, links, 0_i64..=2, 0_i64..90, 0_usize..3, 0_usize..3).prop_map(
        |((exchange, chrony, timesyncd, pps, gps_serial), link, unsynced, outage, steps, suspends)| Plan {
            crystal: None,
            boots: 2,
            boot_ns: 3 * HOUR,
            link,
            sources: Sources {
                exchange,
                chrony,
                timesyncd,
                pps_latency_ns: pps.then_some(20_000),
                gps_serial,
            },
            lies: Lies::None,
            trouble: Trouble {
                unsynced_ns: unsynced * 600 * NS_PER_S,
                outage_ns: outage * 60 * NS_PER_S,
                steps,
                suspends,
                off_ns: 1_000 * NS_PER_S,
                clockless_every: 0,
            },
            e_c_ns: NS_PER_MS,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn t1_truth_inside_interval(seed in any::<u64>(), plan in any_plan()) {
        let device = SimulatedDevice::new(seed, &plan);
        let boots = learn(&device);
        for boot in &device.boots {
            prop_assert!(boot.worst_ppb() <= 50_000, "the crystal keeps its datasheet");
            let queries = every(boot, 97 * NS_PER_S);
            for (query, answer) in queries.iter().zip(boots.resolve(boot.ordinal, &queries)) {
                prop_assert!(!misses(boot, query, &answer), "{query:?} {answer:?} {}", boot.utc(query.event.0));
            }
        }
    }

    #[test]
    fn t1_with_up_to_f_false_points_per_window(seed in any::<u64>(), permille in 1_u32..40) {
        let lies = Lies::Sparse(permille);
        let device = SimulatedDevice::new(seed, &Plan { lies, boot_ns: 6 * HOUR, trouble: Trouble::default(), ..Plan::lte_day() });
        let (boots, boot) = (learn(&device), &device.boots[0]);
        let queries = every(boot, 301 * NS_PER_S);
        for (query, answer) in queries.iter().zip(boots.resolve(boot.ordinal, &queries)) {
            let within = false_used(boot, query.event.0) <= FALSE_MAX;
            let promised = answer.grade == Grade::Guaranteed;
            prop_assert!(!(within && promised && misses(boot, query, &answer)), "{query:?} {answer:?}");
        }
    }

    #[test]
    fn ts_monotone_in_boot_time(seed in any::<u64>(), plan in any_plan(), asked in proptest::collection::vec(0_i64..10_800, 2..60)) {
        let device = SimulatedDevice::new(seed, &plan);
        let boots = learn(&device);
        let boot = &device.boots[0];
        let mut queries: Vec<Query> = asked.iter().map(|s| Query { event: BootNanos(s * NS_PER_S), half_ns: 0 }).collect();
        queries.sort_by_key(|query| query.event);
        queries.retain(|query| !boot.asleep.iter().any(|(from, to)| *from <= query.event.0 && query.event.0 <= *to));
        // Each asked alone, so that no answer leans on another.
        let alone: Vec<Resolved> = queries.iter().map(|query| boots.resolve(boot.ordinal, &[*query])[0]).collect();
        let segment = |query: &Query| boot.asleep.iter().filter(|(from, _)| *from <= query.event.0).count();
        for (pair, asked) in alone.windows(2).zip(queries.windows(2)) {
            let same = segment(&asked[0]) == segment(&asked[1]);
            prop_assert!(!same || pair[0].conflict || pair[1].conflict || pair[0].ts <= pair[1].ts, "{asked:?} {pair:?}");
        }
        let together = boots.resolve(boot.ordinal, &queries);
        prop_assert!(together.windows(2).all(|pair| pair[0].ts <= pair[1].ts));
    }

    #[test]
    fn exchange_queueing_only_widens(seed in any::<u64>(), queued in 0_u32..1_000, lost in 0_u32..1_000, seconds in 1_i64..600) {
        let link = Link { queued_permille: queued, queue_ns: seconds * NS_PER_S, lost_permille: lost, ..Link::LTE };
        let device = SimulatedDevice::new(seed, &Plan { link, boot_ns: 4 * HOUR, trouble: Trouble::default(), ..Plan::lte_day() });
        let (boots, boot) = (learn(&device), &device.boots[0]);
        let queries = every(boot, 211 * NS_PER_S);
        for (query, answer) in queries.iter().zip(boots.resolve(boot.ordinal, &queries)) {
            prop_assert!(!misses(boot, query, &answer), "{query:?} {answer:?}");
            prop_assert!(!answer.conflict);
        }
    }

    #[test]
    fn mcu_exchange_bound(seed in any::<u64>(), ppb in -30_000_i64..=30_000, ftdi in any::<bool>()) {
        let line = if ftdi { SerialLine::FTDI_16MS } else { SerialLine::USB_1MS };
        let mcu = SimulatedMcu::new(seed, line, ppb, 30_000, 5_000 * NS_PER_S, 60 * NS_PER_S);
        let mut boots = Boots::default();
        for exchange in &mcu.exchanges {
            boots.observe(headwater_core::id::BootOrdinal(1), Statement::Device(*exchange), None);
        }
        let track = headwater_core::time::device::DeviceTrack::new(&mcu.exchanges, 50_000, &Params::default());
        for d in (5..55).map(|s| s * NS_PER_S) {
            let placed = track.place(d);
            let truth = mcu.boot(d);
            prop_assert!(placed.promised && !placed.conflict);
            prop_assert!(placed.span.lo <= truth && truth <= placed.span.hi, "{placed:?} {truth}");
            // Half the width: better than 0.3 ms once the wire time is subtracted, where stamps on arrival are 2 to 10 ms late.
            let most = if ftdi { 1_200_000 } else { 300_000 };
            prop_assert!((placed.span.hi - placed.span.lo) / 2 <= most, "{}", placed.span.hi - placed.span.lo);
        }
    }
}

#[test]
fn an_unpaced_or_rc_clocked_device_is_still_true() {
    let usb = SerialLine { paced: false, ..SerialLine::USB_1MS };
    for (line, ppb, rho) in [(usb, 12_000, 30_000), (SerialLine::USB_1MS, 5_000_000, 6_000_000)] {
        let mcu = SimulatedMcu::new(4, line, ppb, rho, 0, 120 * NS_PER_S);
        let track =
            headwater_core::time::device::DeviceTrack::new(&mcu.exchanges, 50_000, &Params::default());
        for d in (5..115).map(|s| s * NS_PER_S) {
            let (placed, truth) = (track.place(d), mcu.boot(d));
            assert!(placed.span.lo <= truth && truth <= placed.span.hi);
            assert!(placed.span.hi - placed.span.lo < 4 * NS_PER_MS, "{placed:?}");
        }
    }
}

/// A device that was heard but never asked: its stamps may be late by more than anybody vouches for.
#[test]
fn a_device_heard_by_arrival_alone_promises_nothing() {
    let mut mcu = SimulatedMcu::new(4, SerialLine::USB_1MS, 0, 30_000, 0, 60 * NS_PER_S);
    mcu.exchanges.iter_mut().for_each(|one| one.grade = Grade::Estimated);
    let track = headwater_core::time::device::DeviceTrack::new(&mcu.exchanges, 50_000, &Params::default());
    assert!((5..55).all(|s| !track.place(s * NS_PER_S).promised));
}

#[test]
fn a_device_is_placed_in_utc_through_its_gateway() {
    let plan = Plan { boot_ns: 3 * HOUR, trouble: Trouble::default(), ..Plan::lte_day() };
    let device = SimulatedDevice::new(9, &plan);
    let (mut boots, boot) = (learn(&device), &device.boots[0]);
    let mcu = SimulatedMcu::new(10, SerialLine::USB_1MS, -20_000, 30_000, HOUR, 600 * NS_PER_S);
    for exchange in &mcu.exchanges {
        boots.observe(boot.ordinal, Statement::Device(*exchange), None);
    }
    let queries: Vec<Query> =
        (10..590).map(|s| Query { event: BootNanos(s * NS_PER_S), half_ns: 0 }).collect();
    let answers = boots.resolve_device(boot.ordinal, ClockDomain(1), UtcNanos(0), &queries);
    for (query, answer) in queries.iter().zip(&answers) {
        let truth = boot.utc(mcu.boot(query.event.0));
        assert_eq!(answer.grade, Grade::Guaranteed);
        assert!((answer.ts.0 - truth).abs() <= answer.err_ns, "{answer:?}");
        assert!(answer.err_ns < 50 * NS_PER_MS);
    }
    assert!(answers.windows(2).all(|pair| pair[0].ts <= pair[1].ts));
    // A restarted device has a new domain, of which nothing is known yet.
    let unknown = boots.resolve_device(boot.ordinal, ClockDomain(2), UtcNanos(boot.utc(4 * HOUR)), &queries);
    assert!(unknown.iter().all(|answer| answer.grade == Grade::OrderingOnly));
}

#[test]
fn pre_sync_boot_is_corrected() {
    let device = SimulatedDevice::new(3, &Plan::lte_day());
    let (boots, boot) = (learn(&device), &device.boots[0]);
    let early: Vec<Query> = (0..600).map(|s| Query { event: BootNanos(s * NS_PER_S), half_ns: 0 }).collect();
    for (query, answer) in early.iter().zip(boots.resolve(boot.ordinal, &early)) {
        assert_eq!(answer.grade, Grade::Guaranteed);
        assert!(!misses(boot, query, &answer) && answer.err_ns < 100 * NS_PER_MS, "{answer:?}");
        // The wall clock was off by an hour at least.
        assert!(boot.wall.error_ns(query.event.0).abs() > 3_000 * NS_PER_S);
    }
}

#[test]
fn t1_beyond_f_is_not_claimed() {
    // A wrong server for three and a half hours, and an honest chrony beside it.
    let sources = Sources { exchange: true, chrony: true, ..Sources::default() };
    let plan = Plan { lies: Lies::Run(200), sources, trouble: Trouble::default(), ..Plan::lte_day() };
    let (mut beyond, mut dropped) = (0, 0);
    for seed in 0..6 {
        let device = SimulatedDevice::new(seed, &plan);
        let (boots, boot) = (learn(&device), &device.boots[0]);
        let queries = every(boot, 300 * NS_PER_S);
        for (query, answer) in queries.iter().zip(boots.resolve(boot.ordinal, &queries)) {
            let wrong = misses(boot, query, &answer);
            assert!(!(wrong && answer.grade == Grade::Guaranteed), "seed {seed} {query:?} {answer:?}");
            if answer.conflict {
                assert!(answer.grade < Grade::Guaranteed);
                dropped += 1;
            }
            beyond += usize::from(false_used(boot, query.event.0) > 2 * FALSE_MAX);
        }
    }
    assert!(beyond > 100 && dropped > 100, "{beyond} beyond, {dropped} dropped");
}

#[test]
fn with_a_third_source_the_majority_wins() {
    let sources =
        Sources { exchange: true, chrony: true, pps_latency_ns: Some(20_000), ..Sources::default() };
    let plan = Plan { lies: Lies::Run(200), sources, trouble: Trouble::default(), ..Plan::lte_day() };
    let device = SimulatedDevice::new(5, &plan);
    let (boots, boot) = (learn(&device), &device.boots[0]);
    let queries = every(boot, 300 * NS_PER_S);
    for (query, answer) in queries.iter().zip(boots.resolve(boot.ordinal, &queries)) {
        assert_eq!((answer.grade, answer.conflict), (Grade::Guaranteed, false));
        assert!(!misses(boot, query, &answer) && answer.err_ns < 100 * NS_PER_MS);
    }
}

#[test]
fn late_pulses_are_outvoted_by_their_neighbours() {
    let sources = Sources { pps_latency_ns: Some(20_000), ..Sources::default() };
    let plan = Plan { lies: Lies::LatePulses(6), sources, trouble: Trouble::default(), ..Plan::lte_day() };
    for seed in 0..3 {
        let device = SimulatedDevice::new(seed, &plan);
        let (boots, boot) = (learn(&device), &device.boots[0]);
        let queries = every(boot, 60 * NS_PER_S);
        for (query, answer) in queries.iter().zip(boots.resolve(boot.ordinal, &queries)) {
            let within = false_used(boot, query.event.0) <= FALSE_MAX;
            assert!(!(within && misses(boot, query, &answer)), "{answer:?}");
            // Two edges may be false: the third lies up to 40 s away, at 50 ppm.
            assert!(answer.err_ns < 4_000_000, "{answer:?}");
        }
    }
}

#[test]
fn steps_of_the_wall_clock_leave_no_trace() {
    let sources = Sources { exchange: true, chrony: true, ..Sources::default() };
    let trouble = Trouble { steps: 12, ..Trouble::default() };
    let plan = Plan { sources, trouble, boot_ns: 8 * HOUR, ..Plan::lte_day() };
    let device = SimulatedDevice::new(21, &plan);
    let (boots, boot) = (learn(&device), &device.boots[0]);
    assert_eq!(boots.track(boot.ordinal).segments().len(), 1, "boot time does not step");
    let queries = every(boot, 60 * NS_PER_S);
    for (query, answer) in queries.iter().zip(boots.resolve(boot.ordinal, &queries)) {
        assert_eq!((answer.grade, answer.conflict), (Grade::Guaranteed, false));
        assert!(!misses(boot, query, &answer) && answer.err_ns < 80 * NS_PER_MS);
    }
}

#[test]
fn a_sample_across_a_step_is_void_and_others_are_not() {
    let device = SimulatedDevice::new(
        22,
        &Plan {
            sources: Sources { chrony: true, ..Sources::default() },
            trouble: Trouble::default(),
            boot_ns: HOUR,
            ..Plan::lte_day()
        },
    );
    let (mut boots, boot) = (learn(&device), &device.boots[0]);
    // Two days off, read while the clock was being set; three of them, more than may be false.
    for n in 0..3 {
        let b1 = BootNanos(1_800 * NS_PER_S + n);
        let sample = Constraint::Sample {
            source: headwater_core::time::statement::ClockSource::Chrony,
            b1,
            real: UtcNanos(boot.utc(b1.0) + 172_800 * NS_PER_S),
            b2: b1.plus_ns(1_000),
            half_ns: NS_PER_MS,
            grade: Grade::Guaranteed,
        };
        boots.observe(boot.ordinal, Statement::Constraint(sample), None);
    }
    let asked = [Query { event: BootNanos(1_800 * NS_PER_S), half_ns: 0 }];
    assert!(boots.resolve(boot.ordinal, &asked)[0].conflict);
    let at = BootNanos(1_800 * NS_PER_S + 500);
    let step = Statement::Event { at, event: headwater_core::time::statement::ClockEvent::Step };
    boots.observe(boot.ordinal, step, None);
    let answer = boots.resolve(boot.ordinal, &asked)[0];
    assert!(!answer.conflict && answer.grade == Grade::Guaranteed && !misses(boot, &asked[0], &answer));
}

#[test]
fn step_leap_suspend_open_segments() {
    use headwater_core::time::statement::ClockEvent;
    let trouble = Trouble { suspends: 3, ..Trouble::default() };
    let device = SimulatedDevice::new(30, &Plan { trouble, boot_ns: 12 * HOUR, ..Plan::lte_day() });
    let (mut boots, boot) = (learn(&device), &device.boots[0]);
    assert_eq!(boots.track(boot.ordinal).segments().len(), boot.asleep.len() + 1);
    let queries = every(boot, 60 * NS_PER_S);
    for (query, answer) in queries.iter().zip(boots.resolve(boot.ordinal, &queries)) {
        assert!(!misses(boot, query, &answer), "{answer:?}");
    }
    // Off by up to a second after waking, and still right to a tenth of it.
    let woke = boot.asleep[0].1 + 60 * NS_PER_S;
    let answer = boots.resolve(boot.ordinal, &[Query { event: BootNanos(woke), half_ns: 0 }])[0];
    assert!(answer.err_ns < 100 * NS_PER_MS && answer.grade == Grade::Guaranteed, "{answer:?}");
    let segments = boots.track(boot.ordinal).segments().len();
    for (event, more) in [(ClockEvent::Step, 0), (ClockEvent::SourceChange, 0), (ClockEvent::Leap, 1)] {
        let at = BootNanos(HOUR / 2);
        boots.observe(boot.ordinal, Statement::Event { at, event }, None);
        assert_eq!(boots.track(boot.ordinal).segments().len(), segments + more, "{event:?}");
    }
}

#[test]
fn clockless_boots_lie_between_their_neighbours() {
    let trouble = Trouble { off_ns: 900 * NS_PER_S, clockless_every: 3, ..Trouble::default() };
    let device = SimulatedDevice::new(40, &Plan { boots: 6, boot_ns: 2 * HOUR, trouble, ..Plan::lte_day() });
    let boots = learn(&device);
    let mut last = i64::MIN;
    let mut clockless = 0;
    for boot in &device.boots {
        let queries = every(boot, 120 * NS_PER_S);
        for (query, answer) in queries.iter().zip(boots.resolve(boot.ordinal, &queries)) {
            assert!(!misses(boot, query, &answer), "{answer:?}");
            assert!(answer.ts.0 >= last, "order holds over boots");
            assert!(answer.err_ns < 2 * HOUR);
            last = answer.ts.0;
            clockless += usize::from(answer.grade == Grade::OrderingOnly);
        }
    }
    assert_eq!(clockless, 2 * 60);
}

#[test]
fn wrong_wall_clocks_of_every_kind_change_nothing() {
    // 1970, 2038, two days ahead, backwards: told as samples of a clock that claims nothing, and of one that lies.
    let device =
        SimulatedDevice::new(50, &Plan { boot_ns: 2 * HOUR, trouble: Trouble::default(), ..Plan::lte_day() });
    let boot = &device.boots[0];
    let clean = learn(&device);
    let mut troubled = learn(&device);
    let mut dice = Dice::new(51);
    for n in 0..40 {
        let b1 = BootNanos(n * 150 * NS_PER_S);
        let wrong =
            [0, 2_147_483_648 * NS_PER_S, boot.utc(b1.0) + 172_800 * NS_PER_S, boot.utc(b1.0) - n * HOUR];
        for (source, grade) in [
            (headwater_core::time::statement::ClockSource::Rtc, Grade::Guaranteed),
            (headwater_core::time::statement::ClockSource::Kernel, Grade::OrderingOnly),
            (headwater_core::time::statement::ClockSource::Timesyncd, Grade::Estimated),
        ] {
            let real = UtcNanos(wrong[dice.below(4)]);
            let sample =
                Constraint::Sample { source, b1, real, b2: b1.plus_ns(200), half_ns: NS_PER_S, grade };
            let received = Some(UtcNanos(boot.utc(b1.0) + NS_PER_S));
            troubled.observe(boot.ordinal, Statement::Constraint(sample), received);
        }
    }
    let queries = every(boot, 60 * NS_PER_S);
    let pairs =
        clean.resolve(boot.ordinal, &queries).into_iter().zip(troubled.resolve(boot.ordinal, &queries));
    for ((before, after), query) in pairs.zip(&queries) {
        assert_eq!(after.grade, Grade::Guaranteed);
        assert!(!misses(boot, query, &after));
        // The interval is the guaranteed one; at most the guess inside it moves.
        assert!((before.ts.0 - after.ts.0).abs() <= before.err_ns && !after.conflict);
    }
}

#[test]
fn a_seed_is_one_device() {
    let plan = Plan { lies: Lies::Sparse(50), ..Plan::lte_day() };
    let told =
        |seed| SimulatedDevice::new(seed, &plan).boots.into_iter().flat_map(|b| b.told).collect::<Vec<_>>();
    assert_eq!(told(1), told(1));
    assert_ne!(told(1), told(2));
    let mut dice = Dice::new(1);
    let mean = (0..10_000).map(|_| dice.exponential(15.0)).sum::<f64>() / 10_000.0;
    assert!((mean - 15.0).abs() < 0.5, "{mean}");
}

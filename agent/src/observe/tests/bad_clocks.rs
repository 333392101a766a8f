//! Wall clocks of 1970, 2038 and the day after tomorrow, set back and forth; daemons whose word is worth little.

use super::*;
use crate::clock::Leap;
use crate::observe::{Report, Tracking};
use crate::ship::ClockExchange;
use headwater_core::id::BootOrdinal;
use headwater_core::time::Grade;
use proptest::prelude::*;

const DAY: i64 = 86_400 * NS_PER_S;

fn tracking(offset_ns: i64) -> Report {
    let line = "7F000001,192.0.2.1,3,1795860209.567333534,-0.000001219,-0.0,0.0,0.0,0.0,0.0,0.004000000,0.001000000,64.0,Normal";
    let tracking = Tracking { offset_ns, ..Tracking::parse(line).unwrap() };
    Report::Chrony { tracking, asked: BootNanos(10 * NS_PER_S), guaranteed: true }
}

fn chrony(gateway: &Gateway, follows: &str) -> Report {
    let Report::Chrony { tracking, guaranteed, .. } = tracking(0) else { panic!() };
    let tracking = Tracking { name: follows.to_owned(), ..tracking };
    Report::Chrony { tracking, asked: BootNanos(gateway.now), guaranteed }
}

#[test]
fn a_clock_that_nobody_set_claims_nothing_whatever_it_shows() {
    // 1970, 2038 and beyond, two days ahead, and as restored from disk: plausible, and a week behind.
    for wrong in [-ON_S * NS_PER_S, 2_147_483_648 * NS_PER_S - ON_S * NS_PER_S, 2 * DAY, -7 * DAY] {
        let mut gateway = Gateway::unsynchronised(wrong);
        gateway.pass(700);
        let rows = gateway.rows();
        assert!(rows.len() > 30, "16 s for ten minutes, then 64 s: {}", rows.len());
        for row in &rows {
            assert_eq!((row.told().as_str(), row.int("half")), ("sample kernel 0", None));
            let (b1, real, b2) = (row.int("b1"), row.int("real"), row.int("b2"));
            assert!(b1 <= b2 && real == b1.map(|b1| ON_S * NS_PER_S + wrong + b1 + WIDTH / 2));
        }
        let status = gateway.observer.status();
        assert_eq!((status.grade, status.steps), (Grade::OrderingOnly, 0));
    }
}

#[test]
fn samples_come_every_16_s_for_ten_minutes_and_every_64_s_after() {
    let mut gateway = Gateway::unsynchronised(0);
    gateway.pass(1_400);
    let at: Vec<i64> = gateway.rows().iter().map(|row| row.int("b1").unwrap() / NS_PER_S).collect();
    let steps: Vec<i64> = at.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(steps[..37].iter().all(|step| *step == 16), "{steps:?}");
    assert!(steps[39..].iter().all(|step| *step == 64) && steps.len() > 45, "{steps:?}");
}

#[test]
fn timesyncd_zero_maxerror_is_estimated() {
    let mut gateway = Gateway::new(0, timesyncd(), SETTINGS);
    gateway.timesyncd = true;
    gateway.pass(1);
    let rows = gateway.rows();
    assert_eq!(rows[0].told(), "sample timesyncd 1");
    assert_eq!(rows[0].int("half"), Some(200_000_000 + WIDTH), "errors of zero are no bound");
    assert_eq!(rows[0].int("freq_ppb"), Some(1_000));
    assert!(rows[0].text().contains("tai unset"), "{}", rows[0].text());
    // Half an hour after its last adjustment the kernel lets maxerror grow by 500 ppm.
    gateway.kernel.max_error_us = 900_000;
    gateway.pass(17);
    assert_eq!(gateway.rows()[0].int("half"), Some(1_100_000_000 + WIDTH));
    // Without its file nobody knows who set the flag.
    gateway.timesyncd = false;
    gateway.pass(17);
    assert_eq!(gateway.told(), ["sample kernel 1"]);
}

#[test]
fn chrony_unsync_flag_ignored() {
    // Without rtcsync the kernel's flag says that nothing is synchronised; chronyd knows better.
    let mut gateway = Gateway::unsynchronised(3_000);
    gateway.pass(20);
    gateway.rows();
    let report = chrony(&gateway, "192.0.2.1");
    gateway.report(report);
    let rows = gateway.rows();
    assert_eq!(rows[0].told(), "sample chrony 2");
    assert_eq!(rows[0].int("half"), Some(1_000_000 + 2_000_000 + WIDTH + 1));
    assert_eq!(gateway.observer.status().grade, Grade::Guaranteed);
    // The kernel's own word is chronyd's once more: no row for it while chronyd answers.
    gateway.pass(150);
    assert_eq!(gateway.told(), [""; 0]);
    gateway.pass(120);
    assert_eq!(gateway.told()[0], "sample kernel 0", "chronyd is silent for more than three rounds");
}

#[test]
fn an_old_answer_is_wider() {
    let mut gateway = Gateway::unsynchronised(0);
    let report = tracking(-1_219);
    gateway.pass(100);
    gateway.rows();
    gateway.report(report);
    let half = gateway.rows()[0].int("half").unwrap();
    assert!(half >= 1_219 + 1_000_000 + 2_000_000 + 100 * 50_000, "{half}");
}

#[test]
fn steps_back_and_forth_are_told_and_bounded() {
    let mut gateway = Gateway::unsynchronised(-ON_S * NS_PER_S);
    gateway.pass(1);
    gateway.rows();
    gateway.wrong = 2 * DAY;
    gateway.pass(1);
    let rows = gateway.rows();
    assert_eq!(rows[0].told(), "step none 0");
    let step = rows[0].int("step").unwrap();
    assert!((step - (2 * DAY + ON_S * NS_PER_S)).abs() <= WIDTH, "{step}");
    // Set ten times a second for an hour.
    let mut told = 0;
    let mut sum = 0;
    for n in 0..36_000 {
        gateway.now += NS_PER_S / 10;
        gateway.wrong = if n % 2 == 0 { 0 } else { 2 * DAY };
        gateway.look();
        for row in gateway.rows() {
            if row.name("row_kind") == "event" {
                told += 1;
                sum += row.int("step").unwrap();
            }
        }
    }
    assert!((60..400).contains(&told), "one with each sample and one a minute: {told}");
    assert_eq!(gateway.observer.status().steps, 36_001);
    gateway.pass(120);
    sum += gateway.rows().iter().filter_map(|row| row.int("step")).sum::<i64>();
    assert!((sum - gateway.wrong + 2 * DAY).abs() <= 400 * WIDTH, "what was told adds up");
}

#[test]
fn a_step_is_told_before_what_was_read_after_it() {
    let mut gateway = Gateway::unsynchronised(0);
    gateway.pass(16);
    gateway.rows();
    // All of the budget is used.
    for n in 0..40 {
        gateway.now += 1_000_000;
        gateway.wrong = if n % 2 == 0 { DAY } else { 0 };
        gateway.look();
    }
    gateway.rows();
    gateway.wrong = 5 * DAY;
    let report = chrony(&gateway, "192.0.2.1");
    gateway.report(report);
    assert_eq!(gateway.told(), ["step none 0", "sample chrony 2"]);
}

#[test]
fn a_suspend_is_told_with_when_it_may_have_begun_and_samples_are_quick_after() {
    let mut gateway = Gateway::unsynchronised(0);
    gateway.pass(1_000);
    gateway.rows();
    let before = gateway.now;
    gateway.now += 3_600 * NS_PER_S;
    gateway.asleep += 3_599 * NS_PER_S;
    gateway.look();
    let rows = gateway.rows();
    assert_eq!(rows[0].told(), "suspend none 0");
    assert_eq!(rows[1].told(), "resume none 0");
    assert_eq!(rows[0].int("b1"), Some(before + WIDTH / 2));
    assert_eq!(rows[1].int("b1"), Some(gateway.now - WIDTH / 2));
    assert_eq!(rows[2].told(), "sample kernel 0");
    assert!(rows[0].text().contains("3599000 ms"));
    assert_eq!((gateway.observer.status().suspends, gateway.observer.status().steps), (1, 0));
    gateway.pass(33);
    assert_eq!(gateway.told().len(), 2, "every 16 s again");
}

#[test]
fn a_leap_second_breaks_the_line_when_it_comes_and_not_before() {
    let mut gateway = Gateway::new(0, timesyncd(), SETTINGS);
    gateway.pass(1);
    gateway.rows();
    gateway.kernel.leap = Leap::Insert;
    gateway.pass(1);
    assert_eq!(gateway.told(), ["source_change kernel 0"]);
    assert_eq!(gateway.observer.status().leap, "insert");
    gateway.wrong -= NS_PER_S;
    gateway.pass(1);
    let rows = gateway.rows();
    assert_eq!(rows[0].told(), "leap none 0");
    assert_eq!(rows[0].int("step"), Some(-NS_PER_S));
    gateway.kernel.leap = Leap::None;
    gateway.pass(1);
    gateway.rows();
    gateway.wrong -= NS_PER_S;
    gateway.pass(1);
    assert_eq!(gateway.told()[0], "step none 0", "a second that nobody announced");
}

#[test]
fn a_source_that_follows_another_or_goes_away_is_told_now_and_then() {
    let mut gateway = Gateway::unsynchronised(0);
    for follows in ["192.0.2.1", "192.0.2.2", "192.0.2.1", "192.0.2.2"] {
        gateway.pass(16);
        let report = chrony(&gateway, follows);
        gateway.report(report);
    }
    let told = gateway.told();
    assert!(!told.iter().any(|row| row.starts_with("source_change")), "pools wander: {told:?}");
    gateway.pass(64);
    let report = chrony(&gateway, "192.0.2.3");
    gateway.report(report);
    let rows = gateway.rows();
    assert_eq!(rows.last().unwrap().told(), "source_change chrony 0");
    assert!(rows.last().unwrap().text().contains("192.0.2.3"), "{}", rows.last().unwrap().text());
    let silence = || Report::Silent { source: TimeSource::Chrony, why: "no answer".into(), wanted: false };
    for _ in 0..5 {
        gateway.pass(1);
        gateway.report(silence());
    }
    let told = gateway.told();
    assert_eq!(told.iter().filter(|row| row.starts_with("source_change")).count(), 1, "{told:?}");
    assert_eq!(
        gateway.observer.status().grade,
        Grade::OrderingOnly,
        "the last word of one that is away is old"
    );
    let report = chrony(&gateway, "192.0.2.3");
    gateway.report(report);
    assert_eq!(gateway.told(), ["sample chrony 2", "source_change chrony 0"]);
}

#[test]
fn conflicting_sources_are_all_told_and_never_merged() {
    let mut gateway = Gateway::new(0, timesyncd(), SETTINGS);
    gateway.timesyncd = true;
    gateway.pass(1);
    let report = chrony(&gateway, "192.0.2.1");
    gateway.report(report);
    assert_eq!(gateway.observer.status().conflict, None);
    // The collector says it is an hour later.
    let (t1, t4) = (BootNanos(gateway.now - 40_000_000), BootNanos(gateway.now));
    let utc = gateway.utc().plus_ns(3_600 * NS_PER_S - 20_000_000);
    let exchange = ClockExchange {
        boot_ordinal: BootOrdinal(1),
        t1,
        t2: utc,
        t3: utc,
        t4,
        e_c_ns: 1_000_000,
        grade: Grade::Guaranteed,
        source_id: 7,
    };
    gateway.look();
    gateway.observer.exchanged(exchange);
    assert_eq!(gateway.told(), ["sample timesyncd 1", "sample chrony 2", "exchange collector_exchange 2"]);
    let status = gateway.observer.status();
    let conflict = status.conflict.unwrap();
    assert!(conflict.contains("collector_exchange"), "{conflict}");
    let offset = heard(&gateway, TimeSource::CollectorExchange).offset_ns.unwrap();
    assert!((offset - 3_600 * NS_PER_S).abs() < 1_000, "{offset}");
    assert_eq!(heard(&gateway, TimeSource::CollectorExchange).half_ns, Some(21_000_001));
}

#[test]
fn a_hardware_clock_is_placed_between_its_reads_and_counts_tai_only_if_that_is_known() {
    let hardware = |gateway: &Gateway, tai: bool, shift: i64| Report::Hardware {
        from: "/dev/ptp0".into(),
        before: gateway.wall().plus_ns(-1_000_000),
        shown: gateway.utc().plus_ns(shift - 500_000),
        after: gateway.wall(),
        tai,
    };
    let mut gateway = Gateway::unsynchronised(-DAY);
    gateway.pass(2);
    gateway.rows();
    let report = hardware(&gateway, false, 0);
    gateway.report(report);
    let rows = gateway.rows();
    assert_eq!(rows[0].told(), "sample ptp 1");
    let truth = gateway.now - 500_000;
    assert!(rows[0].int("b1").unwrap() <= truth && truth <= rows[0].int("b2").unwrap());
    assert_eq!(rows[0].int("real"), Some(ON_S * NS_PER_S + truth));
    assert!(rows[0].int("half") == Some(100_000_000) && rows[0].int("raw").is_none());
    let report = hardware(&gateway, true, 37 * NS_PER_S);
    gateway.report(report.clone());
    assert_eq!(gateway.told(), [""; 0], "TAI − UTC is unset, not 0");
    gateway.kernel.tai_s = Some(37);
    gateway.report(report);
    assert_eq!(gateway.rows()[0].int("real"), Some(ON_S * NS_PER_S + truth));
    gateway.wrong = 0;
    gateway.pass(1);
    gateway.rows();
    let report = Report::Hardware {
        from: "/dev/ptp0".into(),
        before: gateway.wall().plus_ns(-5 * NS_PER_S),
        shown: gateway.utc(),
        after: gateway.wall(),
        tai: false,
    };
    gateway.report(report);
    assert_eq!(gateway.told(), [""; 0], "the wall clock was set meanwhile");
    assert_eq!(gateway.observer.status().refused, 2);
}

#[test]
fn a_declared_smear_widens_daemons() {
    let settings = ObserverSettings { smear_ns: 500_000_000, ..SETTINGS };
    let mut gateway = Gateway::new(0, timesyncd(), settings);
    gateway.pass(1);
    assert_eq!(gateway.rows()[0].int("half"), Some(700_000_000 + WIDTH));
}

proptest! {
    /// Whatever the wall clock does, rows are in order, nothing is lost in silence, and each event says the wall clock of
    /// its moment.
    #[test]
    fn rows_stay_sane_whatever_the_clock_does(
        moves in proptest::collection::vec((0_u8..5, -4_000_000_000_000_000_000_i64..4_000_000_000_000_000_000), 1..80)
    ) {
        let mut gateway = Gateway::unsynchronised(0);
        let mut last = 0;
        for (what, by) in moves {
            match what {
                0 => gateway.wrong = by,
                1 => gateway.asleep += by.abs() % DAY,
                2 => gateway.kernel.leap = if by > 0 { Leap::Insert } else { Leap::None },
                3 => { let report = tracking(by); gateway.report(report); }
                _ => {}
            }
            gateway.now += by.abs() % (40 * NS_PER_S);
            gateway.look();
            for row in gateway.rows() {
                let at = row.0.t.0;
                prop_assert!(at >= last || row.name("event") == "suspend");
                last = at.max(last);
                prop_assert!(row.int("grade") != Some(2) || row.name("source") == "chrony");
                prop_assert!(row.int("half").is_none_or(|half| half >= 0));
            }
            prop_assert!(gateway.observer.status().sources.len() <= 3);
        }
    }
}

//! GPS receivers: late, lying about the year, in doubt about the second, and with pulses that come later than declared.

use super::*;
use crate::observe::{Arrival, Report, Tracking};
use headwater_core::time::NS_PER_MS;
use proptest::prelude::*;

const DECLARED: ObserverSettings = ObserverSettings { pps_latency_ns: Some(20_000), ..SETTINGS };
/// 1024 weeks.
const ROLLOVER: i64 = 1_024 * 7 * 86_400 * NS_PER_S;

impl Gateway {
    /// A sentence of the second that began last, which came `late_ns` after it.
    fn sentence(&mut self, late_ns: i64, wrong_by: i64) {
        let second = self.now.div_euclid(NS_PER_S) * NS_PER_S;
        self.now = self.now.max(second + late_ns);
        let at = Arrival::Boot(BootNanos(second + late_ns));
        let utc = UtcNanos(ON_S * NS_PER_S + second + wrong_by);
        self.report(Report::Sentence { from: "gps".into(), at, utc });
    }

    /// The kernel's stamp of the pulse of the second that began last.
    fn pulse(&mut self, late_ns: i64, utc: Option<UtcNanos>) {
        let second = self.now.div_euclid(NS_PER_S) * NS_PER_S;
        let wall = UtcNanos(ON_S * NS_PER_S + second + late_ns + self.wrong);
        self.now = self.now.max(second + late_ns + 1_000);
        self.report(Report::Pulse { from: "/dev/pps0".into(), wall, utc });
    }

    fn second(&self) -> UtcNanos {
        UtcNanos(ON_S * NS_PER_S + self.now.div_euclid(NS_PER_S) * NS_PER_S)
    }

    fn synchronise(&mut self) {
        let line = "7F000001,192.0.2.1,3,1795860209.5,0.0,0.0,0.0,0.0,0.0,0.0,0.004,0.001,64.0,Normal";
        let tracking = Tracking::parse(line).unwrap();
        let asked = BootNanos(self.now);
        self.report(Report::Chrony { tracking, asked, guaranteed: true });
    }

    fn edges(&mut self) -> Vec<Row> {
        self.rows().into_iter().filter(|row| row.name("row_kind") == "edge").collect()
    }
}

/// Whether an edge row is true: its UTC had come, and no longer ago than it says.
fn is_true(row: &Row) -> bool {
    let since = ON_S * NS_PER_S + row.int("b1").unwrap() - row.int("real").unwrap();
    since >= 0 && row.int("half").is_none_or(|half| since <= half)
}

#[test]
fn the_least_late_sentence_of_a_window_is_told_and_bounds_from_below_only() {
    let mut gateway = Gateway::unsynchronised(-86_400 * NS_PER_S);
    gateway.pass(90);
    gateway.rows();
    let lates = [400, 300, 120, 500, 350, 420, 410, 405, 399, 380, 370, 360, 350, 340, 330, 320, 310, 300];
    for late in lates {
        gateway.now += NS_PER_S;
        gateway.look();
        gateway.sentence(late * NS_PER_MS, 0);
    }
    let edges = gateway.edges();
    assert_eq!(edges.len(), 2, "the first at once, then the best of 16 s");
    for row in &edges {
        assert_eq!((row.told().as_str(), row.int("half")), ("edge gps_serial 2", None));
        assert!(is_true(row));
    }
    let late = ON_S * NS_PER_S + edges[1].int("b1").unwrap() - edges[1].int("real").unwrap();
    assert_eq!(late, 120 * NS_PER_MS);
}

#[test]
fn sentences_of_an_impossible_date_are_refused() {
    let mut gateway = Gateway::unsynchronised(0);
    gateway.pass(12);
    for wrong in [-ROLLOVER, ROLLOVER, -2 * ROLLOVER, -ON_S * NS_PER_S] {
        gateway.sentence(100 * NS_PER_MS, wrong);
        gateway.pulse(4_000, Some(gateway.second().plus_ns(wrong)));
    }
    assert_eq!(gateway.edges().len(), 0);
    let status = gateway.observer.status();
    assert_eq!(status.refused, 8);
    assert!(status.last_refused.unwrap().contains("a date that cannot be"));
    // What is certainly past raises the floor.
    let floor = UtcNanos((ON_S + 3_600) * NS_PER_S);
    let mut gateway = Gateway::new(0, KernelSync::UNKNOWN, ObserverSettings { floor, ..SETTINGS });
    gateway.pass(12);
    gateway.sentence(100 * NS_PER_MS, 0);
    assert_eq!((gateway.edges().len(), gateway.observer.status().refused), (0, 1));
}

#[test]
fn a_pulse_is_guaranteed_if_its_latency_is_declared_and_two_say_which_second_it_is() {
    let mut gateway = Gateway::new(0, KernelSync::UNKNOWN, DECLARED);
    gateway.pass(12);
    gateway.pulse(4_000, None);
    assert_eq!(gateway.edges().len(), 0, "nobody knows its second");
    gateway.sentence(300 * NS_PER_MS, 0);
    gateway.pass(1);
    gateway.pulse(4_000, None);
    let edges = gateway.edges();
    let pulse = edges.last().unwrap();
    assert_eq!(
        (pulse.told().as_str(), pulse.text().as_str()),
        ("edge gps_pps 1", "/dev/pps0 numbered by sentences")
    );
    assert!(is_true(pulse));
    gateway.synchronise();
    gateway.pass(1);
    gateway.pulse(4_000, None);
    let edges = gateway.edges();
    assert_eq!(edges[0].told(), "edge gps_pps 2");
    assert!(is_true(&edges[0]) && edges[0].int("half").unwrap() < 20_000 + 2 * WIDTH + 2_000);
    // The clock alone tells seconds apart too, but only as well as it is right.
    let mut gateway = Gateway::new(0, KernelSync::UNKNOWN, DECLARED);
    gateway.pass(12);
    gateway.synchronise();
    gateway.pulse(4_000, None);
    assert_eq!(gateway.edges()[0].told(), "edge gps_pps 1");
    let mut gateway = Gateway::new(0, KernelSync::UNKNOWN, SETTINGS);
    gateway.pass(12);
    gateway.synchronise();
    gateway.pulse(4_000, Some(gateway.second()));
    assert_eq!(gateway.edges()[0].told(), "edge gps_pps 1", "nobody declared a latency");
}

#[test]
fn who_disagrees_about_the_second_is_told_and_nobody_is_sure() {
    let mut gateway = Gateway::new(0, KernelSync::UNKNOWN, DECLARED);
    gateway.pass(12);
    gateway.synchronise();
    // A receiver whose sentences are more than a second late: gpsd numbers its pulses one too low.
    gateway.pulse(4_000, Some(gateway.second().plus_ns(-NS_PER_S)));
    let edges = gateway.edges();
    assert_eq!(edges.len(), 2);
    assert!(edges.iter().all(|row| row.told() == "edge gps_pps 1"));
    assert_eq!(edges.iter().filter(|row| is_true(row)).count(), 1);
}

#[test]
fn a_pulse_later_than_declared_is_told_all_the_same() {
    let mut gateway = Gateway::new(0, KernelSync::UNKNOWN, DECLARED);
    gateway.pass(12);
    gateway.pulse(900_000, Some(gateway.second()));
    let edges = gateway.edges();
    assert_eq!(edges[0].told(), "edge gps_pps 2", "the resolver outvotes it");
    assert!(!is_true(&edges[0]));
}

#[test]
fn a_pulse_with_a_step_behind_it_is_dropped() {
    let mut gateway = Gateway::new(0, KernelSync::UNKNOWN, DECLARED);
    gateway.pass(12);
    let second = gateway.second();
    let wall = second.plus_ns(4_000);
    gateway.wrong = 30 * NS_PER_MS;
    gateway.now += 100 * NS_PER_MS;
    gateway.report(Report::Pulse { from: "/dev/pps0".into(), wall, utc: Some(second) });
    assert_eq!(gateway.edges().len(), 0);
    assert!(gateway.observer.status().last_refused.unwrap().contains("was set since"));
    gateway.pass(5);
    gateway.pulse(4_000, Some(gateway.second()));
    assert_eq!(gateway.edges().len(), 0, "a word may be of before the step for ten seconds");
    gateway.pass(6);
    gateway.pulse(4_000, Some(gateway.second()));
    let edges = gateway.edges();
    assert!(edges.len() == 1 && is_true(&edges[0]), "later ones are good again");
}

#[test]
fn lies_about_the_wall_clock_are_refused() {
    let mut gateway = Gateway::new(0, KernelSync::UNKNOWN, DECLARED);
    gateway.pass(60);
    let wall = gateway.wall();
    for off in [i64::MIN / 2, -86_400 * NS_PER_S, -30 * NS_PER_S, NS_PER_S, 86_400 * NS_PER_S, i64::MAX / 2] {
        let report =
            Report::Pulse { from: "/dev/pps0".into(), wall: wall.plus_ns(off), utc: Some(gateway.second()) };
        gateway.report(report);
        let at = Arrival::Wall(wall.plus_ns(off));
        let utc = gateway.second();
        gateway.report(Report::Sentence { from: "/dev/ttyS0".into(), at, utc });
    }
    assert_eq!(gateway.edges().len(), 0);
    assert_eq!(gateway.observer.status().refused, 12);
}

#[test]
fn pulses_are_told_each_second_at_first_and_rarely_later_and_gpsds_are_not_told_twice() {
    let mut gateway = Gateway::new(0, KernelSync::UNKNOWN, DECLARED);
    gateway.pass(11);
    for _ in 0..45 {
        gateway.pass(1);
        gateway.pulse(4_000, Some(gateway.second()));
        gateway.pulse(4_000, None);
    }
    assert_eq!(gateway.edges().len(), 45);
    for _ in 0..640 {
        gateway.pass(1);
        gateway.pulse(4_000, Some(gateway.second()));
    }
    let later = gateway.edges();
    assert!((40..=52).contains(&later.len()), "{}", later.len());
}

#[test]
fn a_crowd_of_receivers_is_bounded() {
    let mut gateway = Gateway::unsynchronised(0);
    gateway.pass(12);
    for n in 0..1_000 {
        let at = Arrival::Boot(BootNanos(gateway.now));
        let utc = gateway.second();
        gateway.report(Report::Sentence { from: format!("gps{n}"), at, utc });
    }
    assert_eq!(gateway.edges().len(), 8);
}

proptest! {
    /// Every edge told of an honest receiver is true, whatever the wall clock showed and whenever it was set.
    #[test]
    fn edges_of_an_honest_receiver_are_true(
        plays in proptest::collection::vec((1_i64..850_000_000, 0_i64..20_000, any::<bool>(), any::<bool>(), -1_000_000_000_000_000_i64..1_000_000_000_000_000), 1..60)
    ) {
        let mut gateway = Gateway::new(0, KernelSync::UNKNOWN, DECLARED);
        let mut told = 0;
        for (late, pulse_late, set, quiet, wrong) in plays {
            gateway.now = (gateway.now / NS_PER_S + 1) * NS_PER_S + pulse_late + 1_000;
            if set {
                gateway.wrong = wrong;
            }
            gateway.look();
            if quiet {
                gateway.pass(11);
                gateway.now += pulse_late;
            }
            gateway.pulse(pulse_late, None);
            gateway.sentence(late.max(pulse_late), 0);
            for row in gateway.edges() {
                prop_assert!(is_true(&row), "{row:?}");
                told += 1;
            }
        }
        prop_assert!(told > 0, "sentences at least");
    }
}

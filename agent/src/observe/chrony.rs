//! chronyd, asked itself with `chronyc`: what it says of its synchronisation, and what that is worth.
//!
//! The kernel's flag is not asked: without `rtcsync` chronyd leaves STA_UNSYNC set (chrony 4.3, `sys_timex.c`). The bound
//! is NTP's (RFC 5905, root synchronisation distance): |offset| + root dispersion + root delay / 2. chronyd lets its
//! dispersion grow by `maxclockerror`, 1 ppm by default, while crystals are off by 50: the bound holds only where the
//! configuration says so.

use super::decimal::billionths;
use crate::stamp::track::{Claim, TimeSource};
use headwater_core::time::Grade;

/// Longest answer read, bytes; a line of tracking has some 150.
pub(super) const ANSWER_BYTES_MAX: u64 = 4_096;
/// Least `maxclockerror` for which chronyd's bound holds for the crystals gateways have, billionths of ppm.
const MAX_CLOCK_ERROR_MIN: i64 = 50_000_000_000;
/// Longest name of an upstream that is kept.
const NAME_BYTES_MAX: usize = 64;
/// Reference id of a chronyd that serves its own clock for want of a better one (`local`).
const LOCAL: u32 = 0x7F7F_0101;
/// Of a clock that a person set (`settime`): ASCII.
const MANUAL: u32 = u32::from_be_bytes(*b"MANU");
/// Largest of its numbers that is believed, ns: an hour.
const NS_MAX: i64 = 3_600_000_000_000;

/// An answer of `chronyc -c tracking`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tracking {
    /// Reference id of its upstream.
    pub ref_id: u32,
    /// Its name or address.
    pub name: String,
    /// Hops to a reference clock; 0 if it is not synchronised.
    pub stratum: u8,
    /// UTC less wall clock, as far as chronyd knows, ns.
    pub offset_ns: i64,
    /// Round trip to the reference clock, ns.
    pub root_delay_ns: i64,
    /// Dispersion to it, ns.
    pub root_dispersion_ns: i64,
    /// What it says of leap seconds.
    pub leap: ChronyLeap,
}

/// The last field of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChronyLeap {
    /// Synchronised.
    Normal,
    /// A second will be inserted.
    Insert,
    /// One will be left out.
    Delete,
    /// Not synchronised.
    Unsynchronised,
}

impl Tracking {
    /// Reads an answer.
    ///
    /// # Errors
    /// What is wrong with it, for a person.
    pub fn parse(answer: &str) -> Result<Self, String> {
        let line = answer.lines().next().unwrap_or_default();
        let fields: Vec<&str> = line.split(',').collect();
        if fields.len() != 14 {
            return Err(format!("chronyc printed {} fields where tracking has 14", fields.len()));
        }
        let at = |i: usize| fields.get(i).copied().unwrap_or_default();
        let number = |i: usize, what: &str| {
            billionths(at(i))
                .filter(|ns| ns.abs() <= NS_MAX)
                .ok_or_else(|| format!("chronyc printed {:?} for {what}", cut(at(i))))
        };
        let positive = |i: usize, what: &str| {
            number(i, what).and_then(|ns| {
                if ns < 0 { Err(format!("chronyc printed a negative {what}")) } else { Ok(ns) }
            })
        };
        let leap = match at(13).trim_end() {
            "Normal" => ChronyLeap::Normal,
            "Insert second" => ChronyLeap::Insert,
            "Delete second" => ChronyLeap::Delete,
            "Not synchronised" => ChronyLeap::Unsynchronised,
            other => return Err(format!("chronyc printed {:?} for the leap status", cut(other))),
        };
        Ok(Self {
            ref_id: u32::from_str_radix(at(0), 16)
                .map_err(|_| format!("chronyc printed {:?} for the reference id", cut(at(0))))?,
            name: cut(at(1)),
            stratum: at(2)
                .parse()
                .ok()
                .filter(|stratum| *stratum <= 16)
                .ok_or_else(|| format!("chronyc printed {:?} for the stratum", cut(at(2))))?,
            offset_ns: number(4, "the system time")?,
            root_delay_ns: positive(10, "root delay")?,
            root_dispersion_ns: positive(11, "root dispersion")?,
            leap,
        })
    }

    /// What it is worth: `bracket_ns` and `age_ns` are what our own reading adds, `guaranteed` whether chronyd is
    /// configured to bound its own clock ([`bounds_its_clock`]).
    #[must_use]
    pub fn claim(&self, bracket_ns: i64, age_ns: i64, guaranteed: bool) -> Claim {
        let Self { ref_id, name, stratum, .. } = self;
        let detail = format!("{name} ({ref_id:08X}) stratum {stratum}");
        let source = if self.ref_id == MANUAL { TimeSource::Manual } else { TimeSource::Chrony };
        if self.leap == ChronyLeap::Unsynchronised || *stratum == 0 || *stratum >= 16 {
            return Claim::new(source, None, Grade::OrderingOnly, format!("not synchronised: {detail}"));
        }
        if self.ref_id == LOCAL {
            return Claim::new(source, None, Grade::OrderingOnly, format!("serves its own clock: {detail}"));
        }
        let half = self
            .offset_ns
            .saturating_abs()
            .saturating_add(self.root_dispersion_ns)
            .saturating_add(self.root_delay_ns.saturating_add(1) / 2)
            .saturating_add(bracket_ns)
            // Since it answered, its dispersion grew; 50 ppm of the time, rounded up.
            .saturating_add(age_ns.saturating_abs() / 20_000 + 1);
        let grade = if guaranteed { Grade::Guaranteed } else { Grade::Estimated };
        Claim::new(source, Some(half), grade, detail)
    }
}

fn cut(text: &str) -> String {
    headwater_core::gap::truncated(text.trim(), NAME_BYTES_MAX)
}

/// What a chrony.conf says that matters here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct ChronyConf {
    /// The smallest `maxclockerror`, billionths of ppm: which one holds depends on how files take each other in.
    max_clock_error: Option<i64>,
    /// Other files and folders of files it takes in, in order.
    pub(super) includes: Vec<Include>,
}

/// A file, or a folder of `*.conf`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Include {
    File(String),
    Folders(Vec<String>),
}

impl ChronyConf {
    /// Reads a file, adding to what was read before. What is not known is passed over, as it is none of ours.
    pub(super) fn read(&mut self, text: &str) {
        for line in text.lines() {
            let line = line.trim_start();
            if line.starts_with(['#', '%', '!', ';']) {
                continue;
            }
            let mut words = line.split_whitespace();
            // Directives are known without regard to case.
            match (words.next().map(str::to_ascii_lowercase).as_deref(), words.next()) {
                (Some("maxclockerror"), Some(ppm)) => {
                    // chronyd refuses a number that it cannot read; for us it bounds nothing.
                    let ppm = billionths(ppm).unwrap_or(0);
                    self.max_clock_error = Some(self.max_clock_error.map_or(ppm, |least| least.min(ppm)));
                }
                (Some("include"), Some(file)) => self.includes.push(Include::File(file.to_owned())),
                (Some("confdir"), Some(first)) => {
                    let folders = std::iter::once(first).chain(words).take(10).map(str::to_owned);
                    self.includes.push(Include::Folders(folders.collect()));
                }
                _ => {}
            }
        }
    }

    /// Whether its bound covers a crystal of 50 ppm.
    pub(super) fn bounds_its_clock(&self) -> bool {
        self.max_clock_error.is_some_and(|error| error >= MAX_CLOCK_ERROR_MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As chrony 4.3 printed it, a loopback away from its server.
    const ANSWER: &str = "7F000001,127.0.0.1,9,1795860209.567333534,-0.000001219,-0.000000000,0.000001564,0.015,0.000,0.072,0.000006489,0.000053358,0.3,Normal\n";

    #[test]
    fn an_answer_is_read_and_bounded() {
        let tracking = Tracking::parse(ANSWER).unwrap();
        assert_eq!((tracking.ref_id, tracking.stratum, tracking.leap), (0x7F00_0001, 9, ChronyLeap::Normal));
        let claim = tracking.claim(200, 0, true);
        assert_eq!(claim.half_ns, Some(1_219 + 53_358 + 3_245 + 200 + 1));
        assert_eq!(claim.grade, Grade::Guaranteed);
        assert_eq!(tracking.claim(200, 0, false).grade, Grade::Estimated);
        assert!(tracking.claim(0, 1_000_000_000, true).half_ns > Some(1_219 + 53_358 + 3_245 + 50_000));
    }

    #[test]
    fn a_chrony_that_follows_nobody_claims_nothing() {
        let with =
            |from: &str, to: &str| Tracking::parse(&ANSWER.replace(from, to)).unwrap().claim(0, 0, true);
        for claim in [
            with("Normal", "Not synchronised"),
            with(",9,", ",0,"),
            with(",9,", ",16,"),
            with("7F000001", "7F7F0101"),
            with("7F000001", "4D414E55"),
        ] {
            assert_eq!(claim.grade, Grade::OrderingOnly, "{claim:?}");
        }
        assert_eq!(with("7F000001", "4D414E55").source, TimeSource::Manual);
    }

    #[test]
    fn garbled_answers_say_what_is_wrong() {
        for (bad, why) in [
            (String::new(), "1 fields"),
            ("506 Cannot talk to daemon".into(), "1 fields"),
            (ANSWER.replace("0.000053358", "-0.000053358"), "negative root dispersion"),
            (ANSWER.replace("0.000053358", "nan"), "root dispersion"),
            (ANSWER.replace("0.000053358", "99999"), "root dispersion"),
            (ANSWER.replace("Normal", "Perhaps"), "leap status"),
            (ANSWER.replace(",9,", ",-9,"), "stratum"),
            (ANSWER.replace("7F000001", "zz"), "reference id"),
        ] {
            let error = Tracking::parse(&bad).unwrap_err();
            assert!(error.contains(why), "{error} for {bad:?}");
        }
    }

    #[test]
    fn only_a_declared_max_clock_error_guarantees() {
        let conf = |text: &str| {
            let mut conf = ChronyConf::default();
            conf.read(text);
            conf
        };
        assert!(conf("rtcsync\n  MaxClockError 50 # ppm\n").bounds_its_clock());
        assert!(conf("maxclockerror 100.5").bounds_its_clock());
        for text in [
            "",
            "maxclockerror 1",
            "#maxclockerror 50",
            "! maxclockerror 50",
            "maxclockerror fifty",
            "maxclockerror",
        ] {
            assert!(!conf(text).bounds_its_clock(), "{text}");
        }
        assert!(!conf("maxclockerror 50\nmaxclockerror 1").bounds_its_clock(), "the smallest holds");
        let conf =
            conf("confdir /etc/chrony/conf.d /run/chrony\ninclude /etc/chrony/more.conf\nsourcedir /x");
        assert_eq!(
            conf.includes,
            [
                Include::Folders(vec!["/etc/chrony/conf.d".into(), "/run/chrony".into()]),
                Include::File("/etc/chrony/more.conf".into())
            ]
        );
    }

    proptest! {
        #[test]
        fn no_answer_panics_or_claims_less_than_it_says(junk in "\\PC{0,300}", at in 0_usize..200, byte: u8) {
            if let Ok(tracking) = Tracking::parse(&junk) {
                prop_assert!(tracking.claim(0, 0, true).half_ns.is_none_or(|half| half > 0));
            }
            let mut bytes = ANSWER.as_bytes().to_vec();
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            if let Ok(tracking) = Tracking::parse(&String::from_utf8_lossy(&bytes)) {
                let claim = tracking.claim(0, 0, true);
                let least = tracking.root_dispersion_ns.saturating_add(tracking.root_delay_ns / 2);
                prop_assert!(claim.half_ns.is_none_or(|half| half >= least));
            }
            let mut conf = ChronyConf::default();
            conf.read(&junk);
        }
    }
}

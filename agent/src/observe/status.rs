//! What the observer knows, for the status page.

use headwater_core::time::{BootNanos, Grade, NS_PER_MS, NS_PER_S};
use serde::{Deserialize, Serialize};

/// Age from which a source that is not heard is worth a word, s: three of its rounds.
const QUIET_S: i64 = 200;

/// How the gateway's clocks are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockStatus {
    /// Best grade a source heard of late may claim.
    pub grade: Grade,
    /// Sources that were heard in this run of the agent.
    pub sources: Vec<TimeSourceStatus>,
    /// Times the wall clock was set.
    pub steps: u64,
    /// By how much the last time, ns.
    pub last_step_ns: Option<i64>,
    /// Times the system slept.
    pub suspends: u64,
    /// A leap second that was announced: `none`, `insert` or `delete`.
    pub leap: String,
    /// Reports of sources that were not used.
    pub refused: u64,
    /// Why the last of them was not.
    pub last_refused: Option<String>,
    /// Two sources that cannot both be right.
    pub conflict: Option<String>,
}

impl Default for ClockStatus {
    fn default() -> Self {
        Self {
            grade: Grade::OrderingOnly,
            sources: Vec::new(),
            steps: 0,
            last_step_ns: None,
            suspends: 0,
            leap: "none".to_owned(),
            refused: 0,
            last_refused: None,
            conflict: None,
        }
    }
}

/// One source of time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeSourceStatus {
    /// Its name, as in `ops.clock`.
    pub source: String,
    /// What its last word was worth.
    pub grade: Grade,
    /// UTC by it less the wall clock, ns. Of sentences a lower bound.
    pub offset_ns: Option<i64>,
    /// Half width it claimed, ns.
    pub half_ns: Option<i64>,
    /// Boot time of its last word, ns.
    pub at_boot_ns: i64,
    /// What it said of itself.
    pub detail: String,
    /// Why it says nothing now.
    pub problem: Option<String>,
}

impl ClockStatus {
    /// One line for people, then one for each source.
    #[must_use]
    pub fn lines(&self, now: BootNanos) -> Vec<String> {
        let mut first = self.grade.as_str().to_owned();
        if self.steps > 0 {
            let last = self.last_step_ns.map(|ns| format!(", last by {}", span(ns))).unwrap_or_default();
            first.push_str(&format!("; set {} times{last}", self.steps));
        }
        if self.suspends > 0 {
            first.push_str(&format!("; slept {} times", self.suspends));
        }
        if self.leap != "none" {
            first.push_str(&format!("; leap second: {}", self.leap));
        }
        let sources = self.sources.iter().map(|source| source.line(now));
        std::iter::once(first).chain(sources).collect()
    }

    /// What is wrong and what to do.
    #[must_use]
    pub fn problems(&self, now: BootNanos) -> Vec<String> {
        let mut problems = Vec::new();
        if let Some(conflict) = &self.conflict {
            problems.push(format!(
                "time sources disagree ({conflict}): all of them are recorded, but mend the wrong one or switch it off in \
                 [clock]"
            ));
        }
        for source in &self.sources {
            let quiet_s = now.since(BootNanos(source.at_boot_ns)) / NS_PER_S;
            if let Some(why) = source.problem.as_ref().filter(|_| quiet_s > QUIET_S) {
                problems.push(format!("time source {} is silent for {quiet_s} s: {why}", source.source));
            }
        }
        problems
    }
}

impl TimeSourceStatus {
    fn line(&self, now: BootNanos) -> String {
        let age_s = now.since(BootNanos(self.at_boot_ns)) / NS_PER_S;
        let offset = self.offset_ns.map_or_else(String::new, |ns| format!(", UTC − wall clock {}", span(ns)));
        let half = match self.half_ns {
            Some(ns) => format!(" ± {}", span(ns)),
            None if self.source == "gps_serial" => " or more".to_owned(),
            None => String::new(),
        };
        let detail = self.problem.as_ref().map_or(&self.detail, |problem| problem);
        format!("{} ({}){offset}{half}, {age_s} s ago: {detail}", self.source, self.grade.as_str())
    }
}

/// A span of time in a unit that suits it.
fn span(ns: i64) -> String {
    let magnitude = ns.saturating_abs();
    let (unit, per) = match magnitude {
        0..=9_999 => return format!("{ns} ns"),
        10_000..=9_999_999 => ("µs", 1_000),
        10_000_000..=9_999_999_999 => ("ms", NS_PER_MS),
        _ => ("s", NS_PER_S),
    };
    format!("{} {unit}", ns / per)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_is_known_and_what_to_do() {
        let source = TimeSourceStatus {
            source: "chrony".into(),
            grade: Grade::Guaranteed,
            offset_ns: Some(-12_345_678),
            half_ns: Some(4_000_000),
            at_boot_ns: 5 * NS_PER_S,
            detail: "ntp.example stratum 2".into(),
            problem: None,
        };
        let mut status = ClockStatus {
            grade: Grade::Guaranteed,
            sources: vec![source],
            steps: 2,
            last_step_ns: Some(1_700_000_000 * NS_PER_S),
            ..ClockStatus::default()
        };
        let now = BootNanos(9 * NS_PER_S);
        assert_eq!(
            status.lines(now),
            [
                "guaranteed; set 2 times, last by 1700000000 s",
                "chrony (guaranteed), UTC − wall clock -12 ms ± 4000 µs, 4 s ago: ntp.example stratum 2"
            ]
        );
        assert!(status.problems(now).is_empty());
        status.sources[0].problem = Some("no answer".into());
        status.conflict = Some("chrony and gps_pps".into());
        let problems = status.problems(BootNanos(900 * NS_PER_S));
        assert!(problems[0].contains("switch it off in [clock]") && problems[1].contains("no answer"));
        let text = serde_json::to_string(&status).unwrap();
        assert_eq!(serde_json::from_str::<ClockStatus>(&text).unwrap(), status);
    }
}

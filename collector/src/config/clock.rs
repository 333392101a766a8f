//! `[clock]`, what this host's own UTC is worth, and `[[time]]`, how well streams must be timed.

use super::read::{Mistakes, Section};
use crate::ingest::{Beyond, HOLD_MS_MAX, NamePattern, TimeDemand};
use headwater_core::time::{Grade, NS_PER_MS};

/// Default of `clock.alarm_ms`: a host that follows a server over any network is within it.
const ALARM_MS: u64 = 100;
/// Default of `time.hold_ms`: two windows of exchanges.
const HOLD_MS: u64 = 120_000;

/// `[clock]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockSettings {
    /// `assume` with `bound_ms`: greatest error of this host's UTC, ns, and whether that is a promise. None asks the host.
    pub assumed: Option<(i64, Grade)>,
    /// `alarm_ms`, ns: an own bound beyond it is an alarm.
    pub alarm_ns: i64,
}

fn ns(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX).saturating_mul(NS_PER_MS)
}

pub(super) fn read_clock(root: &mut Section, mistakes: &mut Mistakes) -> ClockSettings {
    let default = ClockSettings { assumed: None, alarm_ns: ns(ALARM_MS) };
    let Some(mut table) = root.section("clock", mistakes) else { return default };
    let bound = table.number("bound_ms", 1..=60_000, "milliseconds", mistakes);
    let alarm = table.number("alarm_ms", 1..=60_000, "milliseconds", mistakes);
    let assume = table.text("assume", mistakes);
    let grade = match assume.as_deref() {
        None => None,
        Some("estimated") => Some(Grade::Estimated),
        Some("guaranteed") => Some(Grade::Guaranteed),
        Some(other) => {
            let hint = "leave it out and chrony or the kernel is asked";
            let expected = "\"guaranteed\" or \"estimated\"";
            mistakes.add(&table.path_of("assume"), expected, &format!("{other:?}"), hint);
            None
        }
    };
    match (assume.is_some(), bound) {
        (true, None) => {
            let hint = "what the host's provider promises, such as 5; without a number nothing is assumed";
            mistakes.add(&table.path_of("bound_ms"), "a bound that always holds", "nothing", hint);
        }
        (false, Some(found)) => {
            let hint = "write assume = \"guaranteed\" beside it, or leave both out and the host is asked";
            mistakes.add(&table.path_of("bound_ms"), "clock.assume beside it", &found.to_string(), hint);
        }
        _ => {}
    }
    table.finish(mistakes);
    ClockSettings { assumed: bound.map(ns).zip(grade), alarm_ns: alarm.map_or(default.alarm_ns, ns) }
}

pub(super) fn read_time(root: &mut Section, mistakes: &mut Mistakes) -> Vec<TimeDemand> {
    let tables = root.sections("time", mistakes);
    tables.into_iter().filter_map(|table| read_demand(table, mistakes)).collect()
}

fn read_demand(mut table: Section, mistakes: &mut Mistakes) -> Option<TimeDemand> {
    let expected = "a stream's name, or one with * for anything";
    let stream: Option<NamePattern> =
        table.needed("stream", expected, "such as \"imu\" or \"camera/*\"", mistakes);
    let device: Option<NamePattern> =
        table.parsed("device", "a device's name, or one with *", "such as \"pi-*\"", mistakes);
    let missing = !table.has("require_err_ms");
    let require = table.number("require_err_ms", 1..=86_400_000, "milliseconds", mistakes);
    if missing {
        let hint = "the greatest ts_err_ns its rows should have, in ms";
        mistakes.add(&table.path_of("require_err_ms"), "milliseconds", "nothing", hint);
    }
    let hold =
        table.number("hold_ms", 1..=i64::try_from(HOLD_MS_MAX).unwrap_or(i64::MAX), "milliseconds", mistakes);
    let beyond = match table.text("beyond", mistakes).as_deref() {
        None | Some("mark") => Some(Beyond::Mark),
        Some("hold") => Some(Beyond::Hold { ms: hold.unwrap_or(HOLD_MS) }),
        Some(other) => {
            let hint = "mark notes them in ops.verdicts; hold keeps them back up to hold_ms";
            mistakes.add(&table.path_of("beyond"), "\"mark\" or \"hold\"", &format!("{other:?}"), hint);
            None
        }
    };
    if let (Some(found), Some(Beyond::Mark)) = (hold, beyond) {
        let hint = "it is for beyond = \"hold\"";
        mistakes.add(&table.path_of("hold_ms"), "no hold_ms", &found.to_string(), hint);
    }
    table.finish(mistakes);
    Some(TimeDemand { device, stream: stream?, require_ns: ns(require?), beyond: beyond? })
}

//! What gpsd made of a log: the JSON reports in its `.log.chk`, by time.

use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Reports of one class at one time.
pub(crate) type Reports = Vec<Map<String, Value>>;

/// gpsd's decoding of one log.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    /// TPV and SKY by time, ms of UTC since 1970: gpsd repeats a report and adds to it.
    pub(crate) at: BTreeMap<i64, Reports>,
    /// LOG reports, by their number.
    pub(crate) logged: BTreeMap<i64, Map<String, Value>>,
    /// ATT reports, in order.
    pub(crate) attitudes: Reports,
}

impl Truth {
    /// Reads the lines that are JSON; the others are sentences gpsd makes up from binary logs.
    pub(crate) fn read(text: &str) -> Self {
        let mut truth = Self::default();
        for line in text.lines() {
            let Ok(Value::Object(report)) = serde_json::from_str::<Value>(line) else { continue };
            match report.get("class").and_then(Value::as_str) {
                Some("TPV" | "SKY") => {
                    if let Some(ms) = report.get("time").and_then(Value::as_str).and_then(utc_ms) {
                        truth.at.entry(ms).or_default().push(report);
                    }
                }
                Some("LOG") => {
                    if let Some(number) = report.get("idx").and_then(Value::as_i64) {
                        truth.logged.insert(number, report);
                    }
                }
                Some("ATT") => truth.attitudes.push(report),
                _ => {}
            }
        }
        truth
    }
}

/// ms since 1970 of `2017-12-01T17:22:37.000Z`.
pub(crate) fn utc_ms(text: &str) -> Option<i64> {
    chrono::DateTime::parse_from_rfc3339(text).ok().map(|time| time.timestamp_millis())
}

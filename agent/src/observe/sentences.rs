//! What the gateway's own GPS receivers say of the time, on its way past: fixes of the serial source.

use super::report::{Arrival, Report};
use headwater_core::id::StreamName;
use headwater_core::sample::{Reading, Value};
use headwater_core::schema::builtin;
use headwater_core::time::{ClockDomain, UtcNanos};
use tokio::sync::mpsc;

/// Watches the fixes of one receiver; never waits, and changes nothing.
#[derive(Debug, Clone)]
pub struct SentenceTap {
    from: String,
    out: mpsc::Sender<Report>,
}

impl SentenceTap {
    /// A tap on `stream`.
    #[must_use]
    pub fn new(stream: &StreamName, out: mpsc::Sender<Report>) -> Self {
        Self { from: stream.to_string(), out }
    }

    /// Tells of a fix, if it is one and has a time. What finds no room is not told: the next fix comes in a second.
    pub fn see(&self, fix: &Reading) {
        if let Some(utc) = time_of(fix) {
            let report = Report::Sentence { from: self.from.clone(), at: Arrival::Boot(fix.t), utc };
            if self.out.try_send(report).is_err() {
                tracing::trace!(from = self.from, "a fix is not told to the clock observer");
            }
        }
    }
}

/// UTC of a fix that the receiver calls valid and dates. Without a position it has only its own clock's time.
fn time_of(fix: &Reading) -> Option<UtcNanos> {
    let schema = builtin::gps_fix();
    let value = |name: &str| {
        let place = schema.fields.iter().position(|field| field.name.as_str() == name)?;
        fix.values.get(place)
    };
    let fits = fix.values.len() == schema.fields.len() && fix.domain == ClockDomain::BOOT;
    let positioned = matches!((value("lat"), value("lon")), (Some(Value::F64(_)), Some(Value::F64(_))));
    let valid = !matches!(value("quality"), Some(Value::I64(0)));
    match value("utc") {
        Some(Value::I64(utc)) if fits && positioned && valid => Some(UtcNanos(*utc)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_core::time::{BootNanos, Latency, StampKind};

    fn fix(quality: Value, lat: Value, utc: Value) -> Reading {
        let mut values = vec![Value::Null; builtin::gps_fix().fields.len()];
        let place =
            |name: &str| builtin::gps_fix().fields.iter().position(|f| f.name.as_str() == name).unwrap();
        values[place("quality")] = quality;
        values[place("lat")] = lat.clone();
        values[place("lon")] = lat;
        values[place("utc")] = utc;
        let (kind, domain) = (StampKind::Arrival, ClockDomain::BOOT);
        Reading { t: BootNanos(7), latency: Latency::NONE, kind, domain, values, blob: None }
    }

    #[test]
    fn only_a_valid_dated_fix_tells_the_time() {
        let (time, place) = (Value::I64(1_800_000_000_000_000_000), Value::F64(55.0));
        let utc = |fix: &Reading| time_of(fix).map(|utc| utc.0);
        assert_eq!(utc(&fix(Value::I64(1), place.clone(), time.clone())), Some(1_800_000_000_000_000_000));
        assert_eq!(utc(&fix(Value::Null, place.clone(), time.clone())), Some(1_800_000_000_000_000_000));
        assert_eq!(utc(&fix(Value::I64(0), place.clone(), time.clone())), None, "no fix");
        assert_eq!(utc(&fix(Value::I64(1), Value::Null, time)), None, "its own clock's time");
        assert_eq!(utc(&fix(Value::I64(1), place, Value::Null)), None, "no date");
        let mut other = fix(Value::I64(1), Value::F64(1.0), Value::I64(5));
        other.values.pop();
        assert_eq!(utc(&other), None, "of another kind");
    }

    #[tokio::test]
    async fn never_waits_for_room() {
        let (out, mut reports) = mpsc::channel(1);
        let tap = SentenceTap::new(&"gps".parse().unwrap(), out);
        for _ in 0..3 {
            tap.see(&fix(Value::I64(1), Value::F64(1.0), Value::I64(5)));
        }
        let at = Arrival::Boot(BootNanos(7));
        let told = Report::Sentence { from: "gps".into(), at, utc: UtcNanos(5) };
        assert_eq!(reports.recv().await, Some(told));
        assert!(reports.try_recv().is_err(), "the others found no room");
    }
}

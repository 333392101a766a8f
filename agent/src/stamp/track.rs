//! Rows of `hw/clock`: what this gateway knows of UTC, for the collector to make intervals of.

use crate::ship::ClockExchange;
use headwater_core::id::BootId;
use headwater_core::sample::{Reading, Value};
use headwater_core::schema::builtin;
use headwater_core::time::{BootNanos, ClockDomain, ClockReading, Grade, Latency, StampKind, UtcNanos};
use std::collections::BTreeMap;

/// Between samples at first, ms: ten minutes in which clocks settle after boot, a step or a suspend.
pub const SAMPLE_FIRST_MS: u64 = 16_000;
/// Between samples later, ms.
pub const SAMPLE_LATER_MS: u64 = 64_000;
/// How long "at first" is, ms.
pub const FIRST_MS: u64 = 600_000;

/// What a row of `hw/clock` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RowKind {
    Boot,
    Sample,
    Exchange,
    Event,
    Edge,
}

/// Where time comes from. Its codes are the schema's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TimeSource {
    /// Nobody.
    Nobody,
    /// The kernel's own word, set by whoever disciplines it.
    Kernel,
    /// chronyd, asked itself.
    Chrony,
    /// systemd-timesyncd.
    Timesyncd,
    /// Stamps of a collector.
    CollectorExchange,
    /// A GPS receiver's sentences, late by an unknown time.
    GpsSerial,
    /// A GPS receiver's pulse per second.
    GpsPps,
    /// The clock with a battery.
    Rtc,
    /// A person.
    Manual,
    /// A hardware clock of the kernel (`/dev/ptp*`).
    Ptp,
}

impl TimeSource {
    /// Code in rows.
    #[must_use]
    pub fn code(self) -> i64 {
        match self {
            Self::Nobody => 0,
            Self::Kernel => 1,
            Self::Chrony => 2,
            Self::Timesyncd => 3,
            Self::CollectorExchange => 4,
            Self::GpsSerial => 5,
            Self::GpsPps => 6,
            Self::Rtc => 7,
            Self::Manual => 8,
            Self::Ptp => 9,
        }
    }

    /// Name in rows and status.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nobody => "none",
            Self::Kernel => "kernel",
            Self::Chrony => "chrony",
            Self::Timesyncd => "timesyncd",
            Self::CollectorExchange => "collector_exchange",
            Self::GpsSerial => "gps_serial",
            Self::GpsPps => "gps_pps",
            Self::Rtc => "rtc",
            Self::Manual => "manual",
            Self::Ptp => "ptp",
        }
    }

    /// Best grade it may ever claim. A sentence's is that of its one bound: it came after the second it names.
    #[must_use]
    pub fn best_grade(self) -> Grade {
        match self {
            Self::Chrony | Self::CollectorExchange | Self::GpsPps | Self::GpsSerial => Grade::Guaranteed,
            Self::Kernel | Self::Timesyncd | Self::Ptp => Grade::Estimated,
            Self::Nobody | Self::Rtc | Self::Manual => Grade::OrderingOnly,
        }
    }
}

/// What a source claims of a clock it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Who.
    pub source: TimeSource,
    /// UTC lies within this of the clock, ns; none if it claims nothing.
    pub half_ns: Option<i64>,
    /// What the claim is worth; never above [`TimeSource::best_grade`].
    pub grade: Grade,
    /// For people.
    pub detail: String,
}

impl Claim {
    /// A claim, capped at what its source may claim; without a half width it is worth nothing.
    #[must_use]
    pub fn new(source: TimeSource, half_ns: Option<i64>, grade: Grade, detail: String) -> Self {
        let half_ns = half_ns.filter(|half| *half >= 0);
        let most = if half_ns.is_some() { source.best_grade() } else { Grade::OrderingOnly };
        Self { source, half_ns, grade: grade.min(most), detail }
    }
}

/// A clock that is not the wall clock, or the wall clock itself, between two reads of boot time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bracket {
    /// Before.
    pub b1: BootNanos,
    /// What it showed.
    pub real: UtcNanos,
    /// After.
    pub b2: BootNanos,
    /// `CLOCK_MONOTONIC_RAW` between them, ns, if it was read.
    pub raw_ns: Option<i64>,
}

impl From<ClockReading> for Bracket {
    fn from(reading: ClockReading) -> Self {
        let ClockReading { b1, real, b2, raw_ns } = reading;
        Self { b1, real, b2, raw_ns: Some(raw_ns) }
    }
}

/// A pulse, or a sentence: its UTC had come at `at`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// Boot time of the pulse, or of the sentence's arrival.
    pub at: BootNanos,
    /// UTC it names.
    pub utc: UtcNanos,
    /// Whose; its half width is how long before `at` that UTC was at most, none if nobody knows.
    pub claim: Claim,
}

/// What opens a segment of the track. Its codes are the schema's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventKind {
    /// The wall clock was set.
    Step,
    /// A leap second happened: UTC told a second twice, or left one out.
    Leap,
    /// The system went to sleep at or after this.
    Suspend,
    /// It was awake again at this.
    Resume,
    /// A source follows another one now, went away, came back, or announces a leap second.
    SourceChange,
}

impl EventKind {
    fn code(self) -> i64 {
        match self {
            Self::Step => 0,
            Self::Leap => 1,
            Self::Suspend => 2,
            Self::Resume => 3,
            Self::SourceChange => 4,
        }
    }
}

/// An event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// Whose source changed; [`TimeSource::Nobody`] for all else.
    pub source: TimeSource,
    /// When it was seen, boot time.
    pub at: BootNanos,
    /// The wall clock then.
    pub real: UtcNanos,
    /// Wall clock after minus before, ns.
    pub step_ns: Option<i64>,
    /// For people.
    pub detail: String,
}

/// When the next sample is due, if one was made at `now` and clocks began to settle at `since`.
#[must_use]
pub fn next_sample(since: BootNanos, now: BootNanos) -> BootNanos {
    let settled = now >= since.plus_ms(FIRST_MS);
    now.plus_ms(if settled { SAMPLE_LATER_MS } else { SAMPLE_FIRST_MS })
}

/// Fields by name; what is not given is unknown, never 0.
pub(super) fn row(t: BootNanos, given: &[(&str, Value)]) -> Reading {
    let given: BTreeMap<&str, &Value> = given.iter().map(|(name, value)| (*name, value)).collect();
    let schema = builtin::clock();
    debug_assert!(given.keys().all(|name| schema.fields.iter().any(|field| field.name.as_str() == *name)));
    let values = schema
        .fields
        .iter()
        .map(|field| given.get(field.name.as_str()).map_or(Value::Null, |v| (*v).clone()));
    let values = values.collect();
    let (latency, kind, domain) = (Latency::NONE, StampKind::Instant, ClockDomain::BOOT);
    Reading { t, latency, kind, domain, values, blob: None }
}

fn row_of(kind: RowKind, t: BootNanos, source: TimeSource, grade: Grade, more: &[(&str, Value)]) -> Reading {
    let code = match kind {
        RowKind::Boot => 0,
        RowKind::Sample => 1,
        RowKind::Exchange => 2,
        RowKind::Event => 3,
        RowKind::Edge => 4,
    };
    let mut given = vec![
        ("row_kind", Value::I64(code)),
        ("source", Value::I64(source.code())),
        ("grade", Value::I64(grade.code().into())),
    ];
    given.extend_from_slice(more);
    row(t, &given)
}

fn known(value: Option<i64>) -> Value {
    value.map_or(Value::Null, Value::I64)
}

/// The row that opens a boot (or another run of the agent in it). `rtc` says whether a clock with a battery set the
/// wall clock; else it was restored from disk or is unset, and looks as plausible. `rho_ppb` is the most by which this
/// board's crystal is declared to be off.
#[must_use]
pub fn boot(reading: ClockReading, boot_id: BootId, rtc: bool, rho_ppb: Option<i64>) -> Reading {
    let origin = if rtc { "a clock with a battery" } else { "disk, a person or nobody" };
    row_of(
        RowKind::Boot,
        reading.b1,
        if rtc { TimeSource::Rtc } else { TimeSource::Nobody },
        Grade::OrderingOnly,
        &[
            ("b1", Value::I64(reading.b1.0)),
            ("real", Value::I64(reading.real.0)),
            ("b2", Value::I64(reading.b2.0)),
            ("raw", Value::I64(reading.raw_ns)),
            ("boot_id", Value::Bytes(boot_id.0.to_vec())),
            ("rho_ppb", known(rho_ppb)),
            (
                "detail",
                Value::Utf8(format!(
                    "headwater-agent {}; wall clock from {origin}",
                    env!("CARGO_PKG_VERSION")
                )),
            ),
        ],
    )
}

/// A bracketed read of a clock with what its source claims of it. `freq_ppb` is [`crate::clock::KernelSync::freq_ppb`].
#[must_use]
pub fn sample(bracket: Bracket, claim: &Claim, freq_ppb: Option<i64>) -> Reading {
    row_of(
        RowKind::Sample,
        bracket.b1,
        claim.source,
        claim.grade,
        &[
            ("b1", Value::I64(bracket.b1.0)),
            ("real", Value::I64(bracket.real.0)),
            ("b2", Value::I64(bracket.b2.0)),
            ("raw", known(bracket.raw_ns)),
            ("half", known(claim.half_ns)),
            ("freq_ppb", known(freq_ppb)),
            ("detail", Value::Utf8(claim.detail.clone())),
        ],
    )
}

/// A pulse or a sentence.
#[must_use]
pub fn edge(edge: &Edge) -> Reading {
    let claim = &edge.claim;
    row_of(
        RowKind::Edge,
        edge.at,
        claim.source,
        claim.grade,
        &[
            ("b1", Value::I64(edge.at.0)),
            ("real", Value::I64(edge.utc.0)),
            ("half", known(claim.half_ns)),
            ("detail", Value::Utf8(claim.detail.clone())),
        ],
    )
}

/// An event.
#[must_use]
pub fn event(event: &Event) -> Reading {
    row_of(
        RowKind::Event,
        event.at,
        event.source,
        Grade::OrderingOnly,
        &[
            ("event", Value::I64(event.kind.code())),
            ("b1", Value::I64(event.at.0)),
            ("real", Value::I64(event.real.0)),
            ("step", known(event.step_ns)),
            ("detail", Value::Utf8(event.detail.clone())),
        ],
    )
}

/// An exchange with a collector.
#[must_use]
pub fn exchange(exchange: ClockExchange) -> Reading {
    row_of(
        RowKind::Exchange,
        exchange.t4,
        TimeSource::CollectorExchange,
        exchange.grade,
        &[
            ("t1", Value::I64(exchange.t1.0)),
            ("t2", Value::I64(exchange.t2.0)),
            ("t3", Value::I64(exchange.t3.0)),
            ("t4", Value::I64(exchange.t4.0)),
            ("e_c", Value::I64(exchange.e_c_ns)),
            ("source_id", Value::I64(exchange.source_id.cast_signed())),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_core::schema::Logical;

    /// The names of an enumeration of the schema, by code.
    fn names(field: &str) -> Vec<String> {
        let schema = builtin::clock();
        let field = schema.fields.iter().find(|f| f.name.as_str() == field).unwrap();
        match &field.logical {
            Logical::Enum(names) => names.clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn codes_are_the_schemas() {
        use TimeSource::*;
        for source in
            [Nobody, Kernel, Chrony, Timesyncd, CollectorExchange, GpsSerial, GpsPps, Rtc, Manual, Ptp]
        {
            assert_eq!(names("source")[usize::try_from(source.code()).unwrap()], source.as_str());
        }
        // What a collector reads is what is written here.
        let read = headwater_core::time::statement::ClockSource::ALL.map(|source| source.as_str());
        assert_eq!(read.map(str::to_owned).to_vec(), names("source")[1..=read.len()]);
        assert_eq!(names("row_kind")[..5], ["boot", "sample", "exchange", "event", "edge"]);
        let events = [
            EventKind::Step,
            EventKind::Leap,
            EventKind::Suspend,
            EventKind::Resume,
            EventKind::SourceChange,
        ];
        let of = |kind: EventKind| names("event")[usize::try_from(kind.code()).unwrap()].clone();
        assert_eq!(events.map(of), ["step", "leap", "suspend", "resume", "source_change"]);
    }

    #[test]
    fn nobody_claims_more_than_it_may() {
        let claim = |source, half| Claim::new(source, half, Grade::Guaranteed, String::new()).grade;
        assert_eq!(claim(TimeSource::Chrony, Some(1)), Grade::Guaranteed);
        assert_eq!(claim(TimeSource::Timesyncd, Some(1)), Grade::Estimated);
        assert_eq!(claim(TimeSource::Rtc, Some(1)), Grade::OrderingOnly);
        assert_eq!(claim(TimeSource::Chrony, None), Grade::OrderingOnly);
        assert_eq!(claim(TimeSource::Chrony, Some(-1)), Grade::OrderingOnly, "no width is negative");
    }
}

//! Reads rows of `hw/clock`: what a gateway says of its clock, and what of that may bound UTC.

use super::track::Constraint;
use headwater_core::sample::Value;
use headwater_core::schema::{Logical, Schema};
use headwater_core::time::{BootNanos, Grade, UtcNanos};

/// What a row of `hw/clock` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockRowKind {
    /// A boot began.
    Boot,
    /// The wall clock was read.
    Sample,
    /// A reply of the collector closed an exchange.
    Exchange,
    /// A step, leap, suspend or the like.
    Event,
}

impl ClockRowKind {
    /// Name in `ops.clock`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Boot => "boot",
            Self::Sample => "sample",
            Self::Exchange => "exchange",
            Self::Event => "event",
        }
    }
}

/// One row of `hw/clock`, fields by name; what is missing is `None`, never 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClockRow {
    /// What it is.
    pub kind: ClockRowKind,
    /// Boot time before the wall clock was read, ns.
    pub b1: Option<i64>,
    /// Wall clock, ns.
    pub real: Option<i64>,
    /// Boot time after it, ns.
    pub b2: Option<i64>,
    /// `CLOCK_MONOTONIC_RAW`, ns.
    pub raw: Option<i64>,
    /// Half width claimed, ns.
    pub half: Option<i64>,
    /// Where the time came from.
    pub source: String,
    /// Grade claimed.
    pub grade: Grade,
    /// Boot time of sending, ns.
    pub t1: Option<i64>,
    /// UTC of receipt at the collector, ns.
    pub t2: Option<i64>,
    /// UTC of the collector's answer, ns.
    pub t3: Option<i64>,
    /// Boot time of its arrival, ns.
    pub t4: Option<i64>,
    /// The collector's own bound, ns.
    pub e_c: Option<i64>,
    /// Which clock of which replica answered.
    pub source_id: Option<i64>,
    /// The kernel's boot id.
    pub boot_id: Option<Vec<u8>>,
    /// For a person.
    pub detail: Option<String>,
}

impl ClockRow {
    /// Reads one row by field names, so that a later schema with more fields still reads; `None` if it is not one.
    #[must_use]
    pub fn from_values(schema: &Schema, values: &[Value]) -> Option<Self> {
        let at = |name: &str| schema.fields.iter().position(|field| field.name.as_str() == name);
        let value = |name: &str| at(name).and_then(|place| values.get(place));
        let int = |name: &str| match value(name) {
            Some(Value::I64(n)) => Some(*n),
            _ => None,
        };
        let named = |name: &str| {
            let place = at(name)?;
            let (Logical::Enum(names), Value::I64(n)) =
                (&schema.fields.get(place)?.logical, values.get(place)?)
            else {
                return None;
            };
            names.get(usize::try_from(*n).ok()?).cloned()
        };
        let kind = match named("row_kind")?.as_str() {
            "boot" => ClockRowKind::Boot,
            "sample" => ClockRowKind::Sample,
            "exchange" => ClockRowKind::Exchange,
            "event" => ClockRowKind::Event,
            _ => return None,
        };
        Some(Self {
            kind,
            b1: int("b1"),
            real: int("real"),
            b2: int("b2"),
            raw: int("raw"),
            half: int("half"),
            source: named("source")?,
            grade: Grade::from_code(u8::try_from(int("grade")?).ok()?)?,
            t1: int("t1"),
            t2: int("t2"),
            t3: int("t3"),
            t4: int("t4"),
            e_c: int("e_c"),
            source_id: int("source_id"),
            boot_id: match value("boot_id") {
                Some(Value::Bytes(bytes)) => Some(bytes.clone()),
                _ => None,
            },
            detail: match value("detail") {
                Some(Value::Utf8(text)) => Some(text.clone()),
                _ => None,
            },
        })
    }
}

/// The constraint a row gives, or none: boots and events bound nothing, an rtc or a hand may say anything.
///
/// The grade a source may claim is capped here: the kernel and timesyncd publish no bound one can trust.
#[must_use]
pub fn constraint_of(row: &ClockRow) -> Option<Constraint> {
    let grade = row.grade.min(grade_max(&row.source));
    if grade == Grade::OrderingOnly {
        return None;
    }
    match row.kind {
        ClockRowKind::Sample => Some(Constraint::Sample {
            b1: BootNanos(row.b1?),
            real: UtcNanos(row.real?),
            b2: BootNanos(row.b2?),
            half_ns: row.half.filter(|half| *half >= 0)?,
            grade,
        }),
        ClockRowKind::Exchange => {
            let sent = row.t1.zip(row.t2).map(|(t1, t2)| (BootNanos(t1), UtcNanos(t2)));
            let answered = row.t4.zip(row.t3).map(|(t4, t3)| (BootNanos(t4), UtcNanos(t3)));
            (sent.is_some() || answered.is_some()).then_some(Constraint::Exchange {
                sent,
                answered,
                e_c_ns: row.e_c.filter(|e_c| *e_c >= 0)?,
                grade,
            })
        }
        ClockRowKind::Boot | ClockRowKind::Event => None,
    }
}

/// The best grade a source may claim.
#[must_use]
pub fn grade_max(source: &str) -> Grade {
    match source {
        "gps_pps" | "chrony" | "collector_exchange" => Grade::Guaranteed,
        "kernel" | "timesyncd" | "gps_serial" | "ptp" => Grade::Estimated,
        _ => Grade::OrderingOnly,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_core::schema::builtin;

    fn values(kind: i64, source: i64, grade: i64) -> Vec<Value> {
        let mut values = vec![Value::Null; 16];
        values[0] = Value::I64(kind);
        for (place, n) in [(1, 10), (2, 1_000), (3, 12), (5, 7)] {
            values[place] = Value::I64(n);
        }
        values[6] = Value::I64(source);
        values[7] = Value::I64(grade);
        values
    }

    #[test]
    fn a_kernel_sample_is_estimated_whatever_it_claims() {
        let row = ClockRow::from_values(&builtin::clock(), &values(1, 1, 2)).unwrap();
        assert_eq!(
            constraint_of(&row),
            Some(Constraint::Sample {
                b1: BootNanos(10),
                real: UtcNanos(1_000),
                b2: BootNanos(12),
                half_ns: 7,
                grade: Grade::Estimated
            })
        );
    }

    #[test]
    fn an_rtc_a_hand_and_a_boot_bound_nothing() {
        for (kind, source) in [(1, 7), (1, 8), (1, 0), (0, 1), (3, 1)] {
            let row = ClockRow::from_values(&builtin::clock(), &values(kind, source, 2)).unwrap();
            assert_eq!(constraint_of(&row), None, "{kind} {source}");
        }
    }

    #[test]
    fn what_is_missing_is_none_and_not_zero() {
        let mut sample = values(1, 2, 2);
        sample[5] = Value::Null;
        let row = ClockRow::from_values(&builtin::clock(), &sample).unwrap();
        assert_eq!((row.half, constraint_of(&row)), (None, None));
        assert_eq!(ClockRow::from_values(&builtin::clock(), &values(9, 0, 0)), None);
        assert_eq!(ClockRow::from_values(&builtin::gps_fix(), &[]), None);
    }
}

//! One look at all devices of a kind: what each is, what it said, when it was asked, and what went wrong.

use super::tree::stream_part;
use headwater_core::id::{FieldName, KindName};
use headwater_core::ports::Clock;
use headwater_core::sample::Value;
use headwater_core::schema::{Field, Logical, Modality, Schema};
use headwater_core::time::BootNanos;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::io;

/// Most devices of one source: a 1-Wire bus of so many takes 24 s to read.
pub(super) const DEVICES_MAX: usize = 32;
/// Most values of one device: the largest chips have some forty.
pub(super) const CHANNELS_MAX: usize = 64;
/// Stamps travel in µs: a read takes longer.
const TIME_EXP: u8 = 3;

/// What a fault is counted as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FaultKind {
    /// A file could not be read, or says what is no value.
    Read,
    /// A checksum on the wire was wrong.
    Crc,
    /// A thermometer did not convert.
    PowerOn,
    /// Nobody answered, though the driver says so.
    NoAnswer,
}

/// A value that is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) kind: FaultKind,
    /// Why, for a person; the same words for the same fault.
    pub(super) told: String,
}

impl Fault {
    pub(super) fn of(kind: FaultKind, told: &str) -> Self {
        Self { kind, told: told.to_owned() }
    }

    pub(super) fn told(told: String) -> Self {
        Self { kind: FaultKind::Read, told }
    }

    pub(super) fn garbled(file: impl Display) -> Self {
        Self::told(format!("{file} says what is no value"))
    }

    pub(super) fn read(file: impl Display, error: &io::Error) -> Self {
        Self::told(format!("{file}: {error}"))
    }
}

/// One field of a device.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Gauge {
    name: String,
    logical: Logical,
    unit: &'static str,
}

impl Gauge {
    /// A number.
    pub(super) fn number(name: &str, unit: &'static str) -> Self {
        Self::of(name, Logical::F64, unit)
    }

    /// Something else.
    pub(super) fn of(name: &str, logical: Logical, unit: &'static str) -> Self {
        Self { name: name.to_owned(), logical, unit }
    }
}

/// What a device said. Every field may be missing.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Seen {
    pub(super) schema: Schema,
    /// Just before it was asked.
    pub(super) from: BootNanos,
    /// Just after.
    pub(super) to: BootNanos,
    pub(super) values: Vec<Value>,
    pub(super) faults: Vec<Fault>,
    /// Values that were left out: too many, or of a name taken.
    pub(super) refused: usize,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Looked {
    /// By name; an empty one stands for the source's own stream.
    pub(super) seen: Vec<(String, Seen)>,
    /// Devices that were not read, because there are too many.
    pub(super) refused: usize,
}

impl Looked {
    /// Reads another device, unless there are enough. Its name gets a number if another has it.
    pub(super) fn add(&mut self, name: String, read: impl FnOnce() -> Seen) {
        if self.seen.len() >= DEVICES_MAX {
            self.refused = self.refused.saturating_add(1);
            return;
        }
        let taken = |name: &str| self.seen.iter().any(|(other, _)| other == name);
        let twin = || (2_usize..).map(|n| format!("{name}.{n}")).find(|name| !taken(name));
        let name = if taken(&name) { twin().unwrap_or_default() } else { name };
        self.seen.push((name, read()));
    }
}

/// What a device is called: its chip and where that sits, neither of which changes from boot to boot as numbers do.
pub(super) fn device_name(called: &str, owner: Option<&str>, device: &str) -> String {
    let chip = stream_part(if called.trim().is_empty() { device } else { called });
    match owner.map(stream_part) {
        Some(owner) if owner != chip && !owner.is_empty() => format!("{chip}.{owner}"),
        _ => chip,
    }
}

/// Asks devices, and looks at the clock before and after.
#[derive(Debug, Clone)]
pub(super) struct Reader<C> {
    pub(super) clock: C,
}

impl<C: Clock> Reader<C> {
    /// Asks for the value of each gauge by its place.
    pub(super) fn device(
        &self,
        kind: &str,
        gauges: Vec<Gauge>,
        mut read: impl FnMut(usize) -> Result<Value, Fault>,
    ) -> Seen {
        let (mut places, mut fields, mut taken) = (Vec::new(), Vec::new(), BTreeSet::new());
        let all = gauges.len();
        for (at, gauge) in gauges.into_iter().enumerate() {
            let Ok(name) = gauge.name.parse::<FieldName>() else { continue };
            if fields.len() < CHANNELS_MAX && taken.insert(name.clone()) {
                places.push(at);
                fields.push(Field {
                    name,
                    logical: gauge.logical,
                    nullable: true,
                    unit: gauge.unit.to_owned(),
                });
            }
        }
        let refused = all.saturating_sub(fields.len());
        let mut faults = Vec::new();
        let from = self.clock.boot();
        let mut value = |at: &usize| {
            read(*at).unwrap_or_else(|fault| {
                faults.push(fault);
                Value::Null
            })
        };
        let values = places.iter().map(&mut value).collect();
        let to = self.clock.boot();
        let kind: KindName = kind.parse().expect("built-in kinds follow the rule");
        let schema = Schema { salt: 0, kind, modality: Modality::Scalars, time_exp: TIME_EXP, fields };
        Seen { schema, from, to, values, faults, refused }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::BootClock;

    fn seen(gauges: Vec<Gauge>) -> Seen {
        Reader { clock: BootClock }.device("iio", gauges, |at| match at {
            1 => Err(Fault::garbled("in_temp_raw")),
            at => Ok(Value::I64(i64::try_from(at).unwrap())),
        })
    }

    #[test]
    fn a_value_that_failed_is_missing_and_the_others_are_there() {
        let gauges = ["a", "b", "a", "", "c"].map(|name| Gauge::number(name, "1"));
        let seen = seen(gauges.to_vec());
        assert_eq!(seen.values, [Value::I64(0), Value::Null, Value::I64(4)]);
        assert_eq!((seen.faults.len(), seen.refused), (1, 2), "one name twice, one that is none");
        assert!(seen.from <= seen.to && seen.schema.check().is_ok());
    }

    #[test]
    fn values_and_devices_are_bounded_and_what_is_left_out_is_counted() {
        let gauges: Vec<Gauge> =
            (0..CHANNELS_MAX + 7).map(|n| Gauge::number(&format!("v{n}"), "1")).collect();
        let full = seen(gauges);
        assert_eq!((full.values.len(), full.refused), (CHANNELS_MAX, 7));
        let mut looked = Looked::default();
        for n in 0..DEVICES_MAX + 3 {
            looked.add("same".to_owned(), || seen(vec![Gauge::number(&format!("v{n}"), "1")]));
        }
        assert_eq!((looked.seen.len(), looked.refused), (DEVICES_MAX, 3));
        let names: BTreeSet<&str> = looked.seen.iter().map(|(name, _)| name.as_str()).collect();
        assert!(names.len() == DEVICES_MAX && names.contains("same") && names.contains("same.2"));
    }

    #[test]
    fn chips_are_called_by_what_they_are_and_where() {
        assert_eq!(device_name("bme280", Some("1-0076"), "iio:device0"), "bme280.1-0076");
        assert_eq!(device_name("", None, "iio:device0"), "iio-device0");
        assert_eq!(device_name("cpu_thermal", Some("thermal_zone0"), "hwmon0"), "cpu_thermal.thermal_zone0");
    }
}

//! The devices of one source over time: which streams they are, which of them are away, what is wrong with them. Pure.

use super::super::arrival::{Arrivals, ReadAt};
use super::super::framing::{Decoded, Notice};
use super::look::{FaultKind, Looked, Seen};
use crate::telemetry::Counter;
use headwater_core::id::StreamName;
use headwater_core::ports::SourceEvent;
use headwater_core::sample::{Reading, Value};
use headwater_core::schema::Schema;
use headwater_core::time::{ClockDomain, StampKind};
use std::collections::BTreeMap;

/// Most streams of one source while it runs: twice what may be there at once, for chips that were changed.
const STREAMS_MAX: usize = 64;
/// Troubles told at once.
const TROUBLES_MAX: usize = 3;

#[derive(Debug)]
struct Known {
    stream: StreamName,
    schema: Schema,
    here: bool,
}

/// Who was ever there.
#[derive(Debug)]
pub(super) struct Roster {
    stream: StreamName,
    arrivals: Arrivals,
    known: BTreeMap<String, Known>,
    told: Option<String>,
}

impl Roster {
    pub(super) fn new(stream: StreamName, arrivals: Arrivals) -> Self {
        Self { stream, arrivals, known: BTreeMap::new(), told: None }
    }

    /// Takes what one look found: declares what is new before the first reading of any.
    pub(super) fn take(&mut self, looked: Looked, out: &mut Decoded) {
        let (mut troubles, mut readings) = (Vec::new(), Vec::new());
        count(out, Counter::SysDevicesRefused, looked.refused);
        let before: Vec<String> =
            self.known.iter().filter(|(_, known)| known.here).map(|(name, _)| name.clone()).collect();
        self.known.values_mut().for_each(|known| known.here = false);
        for (name, seen) in looked.seen {
            count(out, Counter::SysChannelsRefused, seen.refused);
            for fault in &seen.faults {
                out.notices.push(Notice::Count(counter(fault.kind), 1));
            }
            if let Some(fault) = seen.faults.first() {
                troubles.push(if name.is_empty() {
                    fault.told.clone()
                } else {
                    format!("{name}: {}", fault.told)
                });
            }
            let Some(stream) = self.declared(name, &seen.schema, out) else {
                count(out, Counter::SysDevicesRefused, 1);
                continue;
            };
            // Nothing but failures is no sample.
            if seen.values.iter().any(|value| *value != Value::Null) {
                readings.push((stream, self.reading(seen)));
            }
        }
        let gone =
            before.iter().filter(|name| self.known.get(*name).is_some_and(|known| !known.here)).count();
        count(out, Counter::SysDevicesGone, gone);
        let away = self.known.iter().filter(|(_, known)| !known.here);
        troubles.extend(away.map(|(name, _)| format!("{name} is gone")));
        readings.into_iter().for_each(|(stream, reading)| out.reading(stream, reading));
        self.tell(&troubles, out);
    }

    /// The stream of a device, declared if it is new or was changed; `None` if there are too many.
    fn declared(&mut self, name: String, schema: &Schema, out: &mut Decoded) -> Option<StreamName> {
        let full = self.known.len() >= STREAMS_MAX;
        match self.known.get_mut(&name) {
            Some(known) if known.schema == *schema => {
                known.here = true;
                return Some(known.stream.clone());
            }
            None if full => return None,
            _ => {}
        }
        let stream = match name.as_str() {
            "" => self.stream.clone(),
            name => format!("{}/{name}", self.stream).parse().ok()?,
        };
        self.known.insert(name, Known { stream: stream.clone(), schema: schema.clone(), here: true });
        out.events.push_back(SourceEvent::Stream { name: stream.clone(), schema: schema.clone() });
        Some(stream)
    }

    /// Stamped at the end of the read. The event was at most as long before as the read took, and as the device may hold a
    /// value: the middle of the read is the middle of that interval.
    fn reading(&self, seen: Seen) -> Reading {
        let took = ReadAt { away_ns: seen.to.since(seen.from).max(0), ..ReadAt::prompt(seen.to) };
        Reading {
            t: seen.to,
            latency: self.arrivals.latency(took, 0, 0),
            kind: StampKind::Arrival,
            domain: ClockDomain::BOOT,
            values: seen.values,
            blob: None,
        }
    }

    /// Says what is wrong, once, until it changes.
    fn tell(&mut self, troubles: &[String], out: &mut Decoded) {
        let shown = troubles.iter().take(TROUBLES_MAX).cloned().collect::<Vec<_>>().join("; ");
        let more = troubles.len().saturating_sub(TROUBLES_MAX);
        let told = match more {
            _ if troubles.is_empty() => None,
            0 => Some(shown),
            more => Some(format!("{shown}; and {more} more")),
        };
        if told != self.told {
            out.notices.push(Notice::Trouble(told.clone()));
            self.told = told;
        }
    }
}

fn counter(kind: FaultKind) -> Counter {
    match kind {
        FaultKind::Read => Counter::SysReadErrors,
        FaultKind::Crc => Counter::W1CrcErrors,
        FaultKind::PowerOn => Counter::W1PowerOn,
        FaultKind::NoAnswer => Counter::W1NoAnswer,
    }
}

fn count(out: &mut Decoded, counter: Counter, n: usize) {
    if n > 0 {
        out.notices.push(Notice::Count(counter, n as u64));
    }
}

#[cfg(test)]
mod tests {
    use super::super::look::{Fault, Gauge};
    use super::*;
    use crate::source::arrival::{Declared, WAKE_NS};
    use headwater_core::time::BootNanos;

    fn seen(field: &str, value: Value) -> Seen {
        let schema = super::super::look::Reader { clock: crate::clock::BootClock }
            .device("iio", vec![Gauge::number(field, "1")], |_| Ok(Value::Null))
            .schema;
        Seen {
            schema,
            from: BootNanos(1_000_000),
            to: BootNanos(3_000_000),
            values: vec![value],
            faults: vec![],
            refused: 0,
        }
    }

    fn roster() -> Roster {
        let arrivals = Arrivals::of_program(Declared::default(), 0);
        Roster::new("sensors".parse().unwrap(), arrivals)
    }

    fn take(roster: &mut Roster, seen: Vec<(&str, Seen)>) -> Decoded {
        let mut out = Decoded::default();
        let seen = seen.into_iter().map(|(name, seen)| (name.to_owned(), seen)).collect();
        roster.take(Looked { seen, refused: 0 }, &mut out);
        out
    }

    fn told(out: &Decoded) -> Option<Option<String>> {
        out.notices.iter().find_map(|notice| match notice {
            Notice::Trouble(why) => Some(why.clone()),
            _ => None,
        })
    }

    #[test]
    fn streams_are_declared_once_and_before_any_reading() {
        let mut roster = roster();
        let two = || vec![("a", seen("x", Value::F64(1.0))), ("b", seen("x", Value::F64(2.0)))];
        let events = take(&mut roster, two()).events;
        let shape: Vec<&str> = events
            .iter()
            .map(|event| match event {
                SourceEvent::Stream { name, .. } => name.as_str(),
                SourceEvent::Reading { .. } => "reading",
                _ => "another",
            })
            .collect();
        assert_eq!(shape, ["sensors/a", "sensors/b", "reading", "reading"]);
        assert_eq!(take(&mut roster, two()).events.len(), 2);
        let changed = take(&mut roster, vec![("a", seen("y", Value::F64(1.0)))]).events;
        assert!(matches!(&changed[0], SourceEvent::Stream { name, .. } if name.as_str() == "sensors/a"));
    }

    #[test]
    fn a_read_is_as_old_as_it_took() {
        let events = take(&mut roster(), vec![("", seen("x", Value::F64(1.0)))]).events;
        let SourceEvent::Reading { stream, reading } = &events[1] else { panic!("{events:?}") };
        assert_eq!((stream.as_str(), reading.t), ("sensors", BootNanos(3_000_000)));
        assert_eq!((reading.latency.lo_ns, i64::from(reading.latency.hi_ns)), (0, 2_000_000 + WAKE_NS));
    }

    #[test]
    fn a_device_that_vanishes_is_told_and_counted_once_and_may_come_back() {
        let mut roster = roster();
        let gone = Notice::Count(Counter::SysDevicesGone, 1);
        let here = || vec![("a", seen("x", Value::F64(1.0)))];
        assert_eq!(told(&take(&mut roster, here())), None);
        let out = take(&mut roster, vec![]);
        assert_eq!(told(&out), Some(Some("a is gone".to_owned())));
        assert!(out.notices.contains(&gone));
        assert!(take(&mut roster, vec![]).notices.is_empty(), "told once");
        let out = take(&mut roster, here());
        assert_eq!((told(&out), out.events.len()), (Some(None), 1), "no second declaration");
    }

    #[test]
    fn failures_are_counted_and_are_no_sample() {
        let mut roster = roster();
        let faulty = Seen {
            faults: vec![Fault::of(FaultKind::Crc, "checksum is wrong")],
            ..seen("temperature", Value::Null)
        };
        let out = take(&mut roster, vec![("28-1", faulty)]);
        assert!(out.notices.contains(&Notice::Count(Counter::W1CrcErrors, 1)));
        assert_eq!(told(&out), Some(Some("28-1: checksum is wrong".to_owned())));
        assert_eq!(out.events.len(), 1, "declared, and no row");
    }

    #[test]
    fn streams_are_bounded() {
        let mut roster = roster();
        let names: Vec<String> = (0..STREAMS_MAX + 2).map(|n| format!("d{n}")).collect();
        let out =
            take(&mut roster, names.iter().map(|name| (name.as_str(), seen("x", Value::F64(0.0)))).collect());
        let streams = out.events.iter().filter(|event| matches!(event, SourceEvent::Stream { .. })).count();
        assert_eq!(streams, STREAMS_MAX);
        let refused =
            out.notices.iter().filter(|n| **n == Notice::Count(Counter::SysDevicesRefused, 1)).count();
        assert_eq!(refused, 2);
    }
}

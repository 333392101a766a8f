//! Gateways whose clocks and sources misbehave, and what their observers make of it.

mod bad_clocks;
mod gps_rules;
mod shell;

use super::look::Look;
use super::observer::{Observer, ObserverSettings};
use crate::clock::{KernelSync, Timex};
use crate::stamp::track::TimeSource;
use headwater_core::sample::{Reading, Value};
use headwater_core::schema::{Logical, builtin};
use headwater_core::time::{BootNanos, ClockReading, NS_PER_S, UtcNanos};

/// True UTC less boot time, s: the gateway was switched on at this Unix time.
const ON_S: i64 = 1_800_000_000;
/// Width of brackets, ns.
const WIDTH: i64 = 200;

const SETTINGS: ObserverSettings = ObserverSettings {
    smear_ns: 0,
    pps_latency_ns: None,
    ptp_half_ns: 100_000_000,
    floor: UtcNanos(i64::MIN),
};

/// What timesyncd makes of the kernel: synchronised, with errors of zero.
fn timesyncd() -> KernelSync {
    KernelSync::of(&Timex { state: 0, status: 0x2001, freq: 65_536, tick: 10_000, ..Timex::default() })
}

/// A gateway: its boot line, its wall clock, and its observer.
struct Gateway {
    now: i64,
    /// Wall clock less true UTC, ns.
    wrong: i64,
    asleep: i64,
    kernel: KernelSync,
    timesyncd: bool,
    observer: Observer,
}

/// A row of `hw/clock` by field names.
#[derive(Debug, Clone)]
struct Row(Reading);

impl Row {
    fn value(&self, name: &str) -> Value {
        let place = builtin::clock().fields.iter().position(|f| f.name.as_str() == name).unwrap();
        self.0.values[place].clone()
    }

    fn int(&self, name: &str) -> Option<i64> {
        match self.value(name) {
            Value::I64(n) => Some(n),
            Value::Null => None,
            other => panic!("{other:?}"),
        }
    }

    fn name(&self, name: &str) -> String {
        let schema = builtin::clock();
        let field = schema.fields.iter().find(|f| f.name.as_str() == name).unwrap();
        let Logical::Enum(names) = &field.logical else { panic!("{name}") };
        self.int(name).map_or(String::new(), |n| names[usize::try_from(n).unwrap()].clone())
    }

    fn text(&self) -> String {
        match self.value("detail") {
            Value::Utf8(text) => text,
            _ => String::new(),
        }
    }

    /// `event` or kind, source and grade code: what a row is at a glance.
    fn told(&self) -> String {
        let kind = self.name("row_kind");
        let what = if kind == "event" { self.name("event") } else { kind };
        format!("{what} {} {}", self.name("source"), self.int("grade").unwrap())
    }
}

impl Gateway {
    fn new(wrong: i64, kernel: KernelSync, settings: ObserverSettings) -> Self {
        let now = 10 * NS_PER_S;
        let first = look(now, wrong, 0, kernel, false);
        Self { now, wrong, asleep: 0, kernel, timesyncd: false, observer: Observer::new(settings, first) }
    }

    fn unsynchronised(wrong: i64) -> Self {
        Self::new(wrong, KernelSync::UNKNOWN, SETTINGS)
    }

    /// True UTC now.
    fn utc(&self) -> UtcNanos {
        UtcNanos(ON_S * NS_PER_S + self.now)
    }

    fn wall(&self) -> UtcNanos {
        self.utc().plus_ns(self.wrong)
    }

    fn look(&mut self) {
        let look = look(self.now, self.wrong, self.asleep, self.kernel, self.timesyncd);
        self.observer.look(look);
    }

    /// Lets time pass, with a look each second.
    fn pass(&mut self, seconds: i64) {
        for _ in 0..seconds {
            self.now += NS_PER_S;
            self.look();
        }
    }

    fn report(&mut self, report: super::Report) {
        self.look();
        self.observer.report(report);
    }

    fn rows(&mut self) -> Vec<Row> {
        self.observer.rows().drain(..).map(Row).collect()
    }

    fn told(&mut self) -> Vec<String> {
        self.rows().iter().map(Row::told).collect()
    }
}

fn look(now: i64, wrong: i64, asleep_ns: i64, kernel: KernelSync, timesyncd: bool) -> Look {
    let reading = ClockReading {
        b1: BootNanos(now - WIDTH / 2),
        real: UtcNanos(ON_S * NS_PER_S + now + wrong),
        b2: BootNanos(now + WIDTH / 2),
        raw_ns: now - asleep_ns,
    };
    Look { reading, asleep_ns, kernel, timesyncd }
}

fn heard(gateway: &Gateway, source: TimeSource) -> super::TimeSourceStatus {
    let sources = gateway.observer.status().sources;
    sources.into_iter().find(|of| of.source == source.as_str()).unwrap()
}

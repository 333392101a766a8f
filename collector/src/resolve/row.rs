//! Reads rows of `hw/clock`, from messages and from `ops.clock`: what a gateway says of its clock.

#[cfg(test)]
mod tests;

use headwater_core::sample::Value;
use headwater_core::schema::{Logical, Schema};
use headwater_core::time::statement::{
    ClockEvent, ClockSource, Constraint, DeviceExchange, RawReading, Statement,
};
use headwater_core::time::{BootNanos, ClockDomain, Grade, UtcNanos};

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
    /// A pulse, or a sentence that named a second.
    Edge,
    /// An attached device answered a ping.
    DeviceExchange,
}

impl ClockRowKind {
    const ALL: [ClockRowKind; 6] =
        [Self::Boot, Self::Sample, Self::Exchange, Self::Event, Self::Edge, Self::DeviceExchange];

    /// Name in `hw/clock` and `ops.clock`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Boot => "boot",
            Self::Sample => "sample",
            Self::Exchange => "exchange",
            Self::Event => "event",
            Self::Edge => "edge",
            Self::DeviceExchange => "device_exchange",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
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
    /// Half width claimed, ns; of an edge its greatest latency.
    pub half: Option<i64>,
    /// Where the time came from.
    pub source: String,
    /// Grade claimed.
    pub grade: Grade,
    /// Boot time of sending, ns.
    pub t1: Option<i64>,
    /// UTC of receipt at the collector, ns; of a device its own time.
    pub t2: Option<i64>,
    /// UTC of the collector's answer, ns; of a device its own time.
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
    /// Name of an event.
    pub event: Option<String>,
    /// Wall clock after a step minus before, ns.
    pub step: Option<i64>,
    /// The kernel's frequency correction, ppb.
    pub freq_ppb: Option<i64>,
    /// Clock of an attached device: N of `device:N`.
    pub domain: Option<u32>,
    /// Least time of a ping on the wire, ns.
    pub w_ping: Option<i64>,
    /// Least time of an answer on the wire, ns.
    pub w_pong: Option<i64>,
    /// Largest deviation of the crystal, or of the device's clock, ppb.
    pub rho_ppb: Option<i64>,
}

impl ClockRow {
    /// Reads one row by field names, so that a later schema with more fields still reads, and an earlier one with fewer;
    /// `None` if it is not one.
    #[must_use]
    pub fn from_values(schema: &Schema, values: &[Value]) -> Option<Self> {
        let at = |name: &str| schema.fields.iter().position(|field| field.name.as_str() == name);
        let value = |name: &str| at(name).and_then(|place| values.get(place));
        let int = |name: &str| match value(name) {
            Some(Value::I64(n)) => Some(*n),
            _ => None,
        };
        let text = |name: &str| {
            let field = schema.fields.get(at(name)?)?;
            match (&field.logical, value(name)?) {
                (Logical::Enum(names), Value::I64(n)) => names.get(usize::try_from(*n).ok()?).cloned(),
                (_, Value::Utf8(text)) => Some(text.clone()),
                _ => None,
            }
        };
        let grade = Grade::from_code(u8::try_from(int("grade")?).ok()?)?;
        let boot_id = match value("boot_id") {
            Some(Value::Bytes(bytes)) => Some(bytes.clone()),
            _ => None,
        };
        let domain = int("domain").and_then(|n| u32::try_from(n).ok());
        Some(Self { boot_id, domain, ..Self::read(grade, text, int)? })
    }

    /// Reads one row of `ops.clock` by its column names; `None` if a gateway's clock is not what it is about.
    #[must_use]
    pub fn from_table(
        text: impl Fn(&str) -> Option<String>,
        long: impl Fn(&str) -> Option<i64>,
    ) -> Option<Self> {
        let claimed = text("grade")?;
        let grades = [Grade::OrderingOnly, Grade::Estimated, Grade::Guaranteed];
        let grade = grades.into_iter().find(|grade| grade.as_str() == claimed)?;
        let plain = ["source_id", "freq_ppb", "rho_ppb"];
        let int = |name: &str| if plain.contains(&name) { long(name) } else { long(&format!("{name}_ns")) };
        let domain = text("domain").and_then(|domain| domain.strip_prefix("device:")?.parse().ok());
        Some(Self { domain, ..Self::read(grade, &text, int)? })
    }

    fn read(
        grade: Grade,
        text: impl Fn(&str) -> Option<String>,
        int: impl Fn(&str) -> Option<i64>,
    ) -> Option<Self> {
        Some(Self {
            kind: ClockRowKind::from_name(&text("row_kind")?)?,
            b1: int("b1"),
            real: int("real"),
            b2: int("b2"),
            raw: int("raw"),
            half: int("half"),
            source: text("source")?,
            grade,
            t1: int("t1"),
            t2: int("t2"),
            t3: int("t3"),
            t4: int("t4"),
            e_c: int("e_c"),
            source_id: int("source_id"),
            boot_id: None,
            detail: text("detail"),
            event: text("event"),
            step: int("step"),
            freq_ppb: int("freq_ppb"),
            domain: None,
            w_ping: int("w_ping"),
            w_pong: int("w_pong"),
            rho_ppb: int("rho_ppb"),
        })
    }
}

/// What a row says of its boot's clock: nothing, or several things.
#[must_use]
pub fn statements_of(row: &ClockRow) -> Vec<Statement> {
    let rate = row.rho_ppb.filter(|rho| *rho > 0 && row.kind != ClockRowKind::DeviceExchange);
    let mut out: Vec<Statement> = rate.map(Statement::Rate).into_iter().collect();
    match row.kind {
        ClockRowKind::Boot => out.extend(raw(row)),
        ClockRowKind::Sample => {
            out.extend(raw(row));
            out.extend(sample(row).map(Statement::Constraint));
        }
        ClockRowKind::Exchange => out.extend(exchange(row).map(Statement::Constraint)),
        ClockRowKind::Edge => out.extend(edge(row).map(Statement::Constraint)),
        ClockRowKind::Event => out.extend(event(row)),
        ClockRowKind::DeviceExchange => out.extend(device(row).map(Statement::Device)),
    }
    out
}

fn raw(row: &ClockRow) -> Option<Statement> {
    let at = row.b1?;
    let width_ns = row.b2.map_or(0, |b2| b2.saturating_sub(at).max(0));
    (row.raw.is_some() || row.freq_ppb.is_some()).then_some(Statement::Raw(RawReading {
        at: BootNanos(at),
        width_ns,
        raw_ns: row.raw,
        freq_ppb: row.freq_ppb,
    }))
}

fn sample(row: &ClockRow) -> Option<Constraint> {
    let (b1, b2) = (row.b1?, row.b2?);
    (b1 <= b2).then_some(Constraint::Sample {
        source: ClockSource::from_name(&row.source)?,
        b1: BootNanos(b1),
        real: UtcNanos(row.real?),
        b2: BootNanos(b2),
        half_ns: row.half.filter(|half| *half >= 0)?,
        grade: row.grade,
    })
}

fn exchange(row: &ClockRow) -> Option<Constraint> {
    let sent = row.t1.zip(row.t2).map(|(t1, t2)| (BootNanos(t1), UtcNanos(t2)));
    let answered = row.t4.zip(row.t3).map(|(t4, t3)| (BootNanos(t4), UtcNanos(t3)));
    let ours = row.source == ClockSource::CollectorExchange.as_str();
    (ours && (sent.is_some() || answered.is_some())).then_some(Constraint::Exchange {
        sent,
        answered,
        e_c_ns: row.e_c.filter(|e_c| *e_c >= 0)?,
        grade: row.grade,
    })
}

fn edge(row: &ClockRow) -> Option<Constraint> {
    let source = ClockSource::from_name(&row.source)?;
    let sharp = matches!(source, ClockSource::GpsPps | ClockSource::GpsSerial);
    sharp.then_some(Constraint::Edge {
        source,
        at: BootNanos(row.b1?),
        second: UtcNanos(row.real?),
        latency_ns: row.half.filter(|half| *half >= 0),
        grade: row.grade,
    })
}

fn event(row: &ClockRow) -> Option<Statement> {
    let event = match row.event.as_deref()? {
        "step" => ClockEvent::Step,
        "leap" => ClockEvent::Leap,
        "suspend" => ClockEvent::Suspend,
        "resume" => ClockEvent::Resume,
        "source_change" => ClockEvent::SourceChange,
        "device_restart" => ClockEvent::DeviceRestart,
        _ => return None,
    };
    Some(Statement::Event { at: BootNanos(row.b1?), event })
}

fn device(row: &ClockRow) -> Option<DeviceExchange> {
    Some(DeviceExchange {
        domain: ClockDomain(row.domain.filter(|n| *n > 0)?),
        t1: BootNanos(row.t1?),
        t2: row.t2?,
        t3: row.t3?,
        t4: BootNanos(row.t4?),
        w_ping_ns: row.w_ping.unwrap_or(0).max(0),
        w_pong_ns: row.w_pong.unwrap_or(0).max(0),
        rho_ppb: row.rho_ppb,
        grade: row.grade,
    })
}

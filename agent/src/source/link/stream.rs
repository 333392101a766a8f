//! One stream of an attached board: its schema, what is missing of it, and its rows as readings.

use super::super::framing::{Decoded, Notice};
use super::device::Evidence;
use headwater_core::gap::GapCause;
use headwater_core::id::StreamName;
use headwater_core::ports::SourceEvent;
use headwater_core::sample::{Reading, Value};
use headwater_core::schema::{Field, Logical, Modality, Schema};
use headwater_core::time::{BootNanos, ClockDomain, Latency, StampKind};
use headwater_shims::link::{
    Field as LinkField, FieldType, Flags, Header, Sample, StreamDescriptor, Value as LinkValue,
};
use headwater_shims::rx::{LinkStreamState, Missing, SeqStep, Settled};

/// Stamps travel in µs, the unit of the link.
const TIME_EXP: u8 = 3;
/// Silence of a stream on the board's own clock that is a stall: so many periods, and at least this long, µs.
const STALL_PERIODS: u64 = 8;
const STALL_US_MIN: u64 = 1_000_000;
/// Powers of ten that an `i64` numerator or denominator holds.
const SCALE_MAX: u32 = 18;

/// One stream.
#[derive(Debug)]
pub(super) struct LinkStream {
    name: StreamName,
    schema: Schema,
    types: Vec<FieldType>,
    /// Factor of scaled floats.
    factors: Vec<f64>,
    period_us: u32,
    state: LinkStreamState,
    seen: Evidence,
    /// Device time of the newest row.
    newest_us: Option<u64>,
}

/// How a SAMPLE's rows are stamped.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stamping {
    /// When it came.
    pub(super) at: BootNanos,
    /// How much earlier its newest row was taken, as far as its arrival tells.
    pub(super) arrival: Latency,
    /// How the board stamped them, if it did.
    pub(super) device: Option<DeviceStamping>,
}

/// Stamps of the board's own clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct DeviceStamping {
    pub(super) domain: ClockDomain,
    pub(super) kind: StampKind,
    /// How much earlier than its stamp a row was taken, with `cut_ns`.
    pub(super) latency: Latency,
    /// Ticks cut a time by up to this, ns: it is added to stamps, so that their event lies before them.
    pub(super) cut_ns: u32,
}

impl LinkStream {
    /// A stream as described; the error says what is wrong with the description.
    pub(super) fn new(
        name: StreamName,
        descriptor: &StreamDescriptor<'_>,
        seen: Evidence,
    ) -> Result<Self, String> {
        let fields: Vec<Field> = descriptor.fields.iter().map(field).collect::<Result<_, _>>()?;
        let kind =
            descriptor.kind.parse().map_err(|error: headwater_core::id::NameError| error.to_string())?;
        let schema = Schema { salt: 0, kind, modality: Modality::Scalars, time_exp: TIME_EXP, fields };
        schema.check().map_err(|error| error.to_string())?;
        Ok(Self {
            name,
            schema,
            types: descriptor.fields.iter().map(|field| field.field_type).collect(),
            factors: descriptor.fields.iter().map(|field| 10_f64.powi(field.scale10.into())).collect(),
            period_us: descriptor.period_us,
            state: LinkStreamState::new(descriptor.period_us),
            seen,
            newest_us: None,
        })
    }

    /// Takes over what was counted under the same number; true if name and schema are the same too.
    pub(super) fn continues(&mut self, before: LinkStream) -> bool {
        self.state = before.state;
        self.state.set_period_us(self.period_us);
        (self.seen, self.newest_us) = (before.seen, before.newest_us);
        self.name == before.name && self.schema == before.schema
    }

    pub(super) fn event(&self) -> SourceEvent {
        SourceEvent::Stream { name: self.name.clone(), schema: self.schema.clone() }
    }

    pub(super) fn is_unsettled(&self) -> bool {
        self.state.is_unsettled()
    }

    pub(super) fn restart(&mut self) {
        self.state.restart();
        self.newest_us = None;
    }

    /// A descriptor told the next number: settles what was open.
    pub(super) fn mark(&mut self, next_seq: u32, t_us: u64, at: BootNanos, now: Evidence, out: &mut Decoded) {
        if let Some(Settled::Samples(rows)) = self.state.hello(next_seq, t_us) {
            let cause = self.cause(now, false);
            self.lost(rows.into(), cause, at, "counted after a long silence", out);
        }
    }

    /// Looks for missing rows before a frame.
    pub(super) fn step(
        &mut self,
        header: Header,
        count: u8,
        at: BootNanos,
        now: Evidence,
        overflowed: bool,
        out: &mut Decoded,
    ) {
        let first = header.flags.contains(Flags::FIRST_SINCE_BOOT);
        let step = self.state.sample(header.seq, header.t_us, first, count);
        self.stalled(header.t_us, step, out);
        if let Missing::Samples(rows) = step.missing {
            let (cause, note) = if overflowed {
                (GapCause::Overrun, "the device's schema was not known in time".to_owned())
            } else {
                let cause = self.cause(now, step.restarted);
                (cause, format!("numbers jump to {} on the link", header.seq))
            };
            self.lost(rows.into(), cause, at, &note, out);
        }
        // What is unsettled keeps its evidence until a HELLO settles it.
        if !matches!(step.missing, Missing::Unsettled(_)) {
            self.seen = now;
        }
    }

    /// Time that passed on the board without samples and without numbers for them: it was held up before it took any.
    fn stalled(&mut self, t_us: u64, step: SeqStep, out: &mut Decoded) {
        let before = self.newest_us.filter(|_| !step.restarted && matches!(step.missing, Missing::None));
        let Some(silent_us) = before.and_then(|before| t_us.checked_sub(before)) else { return };
        let usual = u64::from(self.period_us).saturating_mul(STALL_PERIODS);
        if self.period_us > 0 && silent_us > usual.max(STALL_US_MIN) {
            out.notices.push(Notice::Stall { stream: self.name.clone(), ms: silent_us / 1_000 });
        }
    }

    /// The likeliest cause by what happened since the last sample.
    fn cause(&self, now: Evidence, restarted: bool) -> GapCause {
        if now.opened != self.seen.opened {
            GapCause::SourceDown
        } else if restarted || now.restarted != self.seen.restarted {
            GapCause::DeviceReset
        } else if now.dropped != self.seen.dropped {
            GapCause::LinkDropped
        } else {
            // Bytes lost on the way damage a frame or swallow it whole.
            GapCause::LinkCorrupt
        }
    }

    pub(super) fn lost(&self, rows: u64, cause: GapCause, at: BootNanos, note: &str, out: &mut Decoded) {
        let (stream, note) = (self.name.clone(), note.to_owned());
        out.events.push_back(SourceEvent::Lost { stream, rows, cause, at, note });
    }

    /// The rows of a SAMPLE; the last of them is the newest.
    pub(super) fn readings(&mut self, t_us: u64, payload: &[u8], stamping: Stamping, out: &mut Decoded) {
        let at = stamping.at;
        let rows = Sample::parse(payload).and_then(|sample| {
            let dt_ns = i64::from(sample.dt_us()).saturating_mul(1_000);
            sample.rows(&self.types).map(|rows| (rows, dt_ns, sample.count()))
        });
        let (rows, dt_ns, count) = match rows {
            Ok(rows) => rows,
            Err(error) => {
                let why = format!("SAMPLE frame: {error}");
                let (stream, bytes) = (self.name.clone(), payload.to_vec());
                out.events.push_back(SourceEvent::SetAside { stream, why: why.clone(), bytes, at });
                let count = payload.get(1).copied().unwrap_or(1);
                return self.lost(count.into(), GapCause::RejectedQuarantine, at, &why, out);
            }
        };
        let mut newest_us = t_us;
        for row in rows {
            let row_us = t_us.saturating_add(row.offset_us.into());
            newest_us = newest_us.max(row_us);
            let (t, latency, kind, domain) = match stamping.device {
                Some(DeviceStamping { domain, kind, latency, cut_ns }) => {
                    let ns = i64::try_from(row_us).unwrap_or(i64::MAX).saturating_mul(1_000);
                    (BootNanos(ns.saturating_add(cut_ns.into())), latency, kind, domain)
                }
                None => {
                    let after = i64::from(count.saturating_sub(1).saturating_sub(row.index));
                    let t = at.plus_ns(after.saturating_mul(dt_ns).saturating_neg());
                    (t, stamping.arrival, StampKind::Arrival, ClockDomain::BOOT)
                }
            };
            let values =
                row.values().zip(&self.factors).zip(&self.schema.fields).map(|((v, f), s)| value(v, *f, s));
            let reading = Reading { t, latency, kind, domain, values: values.collect(), blob: None };
            out.reading(self.name.clone(), reading);
        }
        self.newest_us = Some(newest_us);
    }
}

fn field(field: LinkField<'_>) -> Result<Field, String> {
    let name = field.name.parse().map_err(|error: headwater_core::id::NameError| error.to_string())?;
    let unit = field.unit;
    headwater_core::schema::check_unit(unit).map_err(|error| error.to_string())?;
    let scale = field.scale10;
    let logical = match field.field_type {
        FieldType::F32 if scale == 0 => Logical::F32,
        FieldType::F32 | FieldType::F64 => Logical::F64,
        _ if scale != 0 => {
            let power = u32::from(scale.unsigned_abs());
            if power > SCALE_MAX {
                return Err(format!("field {} is scaled by 10^{scale}", field.name));
            }
            let power = 10_i64.pow(power);
            let (num, den) = if scale > 0 { (power, 1) } else { (1, power) };
            Logical::Scaled { num, den, offset: 0 }
        }
        FieldType::U8 => Logical::U8,
        FieldType::U16 => Logical::U16,
        FieldType::U32 => Logical::U32,
        FieldType::U64 => Logical::U64,
        FieldType::I8 => Logical::I8,
        FieldType::I16 => Logical::I16,
        FieldType::I32 => Logical::I32,
        FieldType::I64 => Logical::I64,
    };
    Ok(Field { name, logical, nullable: false, unit: unit.to_owned() })
}

fn value(value: LinkValue, factor: f64, field: &Field) -> Value {
    match value {
        LinkValue::U8(v) => Value::I64(v.into()),
        LinkValue::U16(v) => Value::I64(v.into()),
        LinkValue::U32(v) => Value::I64(v.into()),
        LinkValue::U64(v) => Value::I64(v.cast_signed()),
        LinkValue::I8(v) => Value::I64(v.into()),
        LinkValue::I16(v) => Value::I64(v.into()),
        LinkValue::I32(v) => Value::I64(v.into()),
        LinkValue::I64(v) => Value::I64(v),
        LinkValue::F32(v) if field.logical == Logical::F32 => Value::F32(v),
        LinkValue::F32(v) => Value::F64(f64::from(v) * factor),
        LinkValue::F64(v) if factor == 1.0 => Value::F64(v),
        LinkValue::F64(v) => Value::F64(v * factor),
    }
}

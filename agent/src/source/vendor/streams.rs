//! Streams out of messages: a kind's first message declares its stream, every message is a row of it.

use super::super::framing::Decoded;
use headwater_core::id::StreamName;
use headwater_core::ports::SourceEvent;
use headwater_core::sample::{Reading, Value};
use headwater_core::schema::{Field, Logical, Modality, Schema};
use headwater_core::time::{BootNanos, ClockDomain, Latency, StampKind};
use headwater_shims::vendor::{Field as VendorField, Form, Message, Value as VendorValue};
use std::collections::BTreeMap;

/// Stamps travel in µs: arrival is not known better.
const TIME_EXP: u8 = 3;

/// The streams of one device.
#[derive(Debug)]
pub struct Streams {
    base: StreamName,
    /// All messages are of one kind: its stream is the base itself.
    one: bool,
    /// By kind; `None` for a kind that can be no stream, which was said once.
    known: BTreeMap<String, Option<Declared>>,
}

#[derive(Debug)]
struct Declared {
    name: StreamName,
    fields: Vec<Field>,
}

impl Streams {
    /// Streams named `base/kind`, or `base` alone if there is but `one` kind.
    #[must_use]
    pub fn new(base: StreamName, one: bool) -> Self {
        Self { base, one, known: BTreeMap::new() }
    }

    pub(super) fn is_one(&self) -> bool {
        self.one
    }

    /// Whether there is a stream already.
    pub(super) fn is_declared(&self) -> bool {
        self.known.values().any(Option::is_some)
    }

    /// Makes a row of a message that arrived, and whose event was so much earlier.
    pub fn message(&mut self, message: &dyn Message, (at, latency): (BootNanos, Latency), out: &mut Decoded) {
        let kind = message.kind();
        if !self.known.contains_key(kind) {
            let declared = self.declare(message, out);
            self.known.insert(kind.to_owned(), declared);
        }
        let Some(Some(declared)) = self.known.get(kind) else { return };
        let values = declared.fields.iter().enumerate().map(|(at, field)| value(message.value(at), field));
        let (kind, domain) = (StampKind::Arrival, ClockDomain::BOOT);
        let reading = Reading { t: at, latency, kind, domain, values: values.collect(), blob: None };
        out.reading(declared.name.clone(), reading);
    }

    fn declare(&self, message: &dyn Message, out: &mut Decoded) -> Option<Declared> {
        let declared = self.schema(message);
        match declared {
            Ok((name, schema)) => {
                let fields = schema.fields.clone();
                out.events.push_back(SourceEvent::Stream { name: name.clone(), schema });
                Some(Declared { name, fields })
            }
            Err(why) => {
                tracing::error!(stream = %self.base, kind = message.kind(), why, "messages of this kind are no stream");
                None
            }
        }
    }

    fn schema(&self, message: &dyn Message) -> Result<(StreamName, Schema), String> {
        let kind = message.kind();
        let name = if self.one { self.base.to_string() } else { format!("{}/{kind}", self.base) };
        let name = name.parse().map_err(|error: headwater_core::id::NameError| error.to_string())?;
        let fields = (0..).map_while(|at| message.field(at).map(field)).collect::<Result<_, _>>()?;
        let kind = kind.parse().map_err(|error: headwater_core::id::NameError| error.to_string())?;
        let schema = Schema { salt: 0, kind, modality: Modality::Scalars, time_exp: TIME_EXP, fields };
        schema.check().map_err(|error| error.to_string())?;
        Ok((name, schema))
    }
}

fn field(field: VendorField<'_>) -> Result<Field, String> {
    let logical = match field.form {
        Form::Bool => Logical::Bool,
        Form::U8 => Logical::U8,
        Form::U16 => Logical::U16,
        Form::U32 => Logical::U32,
        Form::U64 => Logical::U64,
        Form::I8 => Logical::I8,
        Form::I16 => Logical::I16,
        Form::I32 => Logical::I32,
        Form::I64 => Logical::I64,
        Form::F32 => Logical::F32,
        Form::F64 => Logical::F64,
        Form::Text => Logical::Utf8,
    };
    let name = field.name.parse().map_err(|error: headwater_core::id::NameError| error.to_string())?;
    Ok(Field { name, logical, nullable: field.nullable, unit: field.unit.into() })
}

/// A value as its field holds it. Devices write "unknown" as NaN too: missing, where that may be.
fn value(value: VendorValue<'_>, field: &Field) -> Value {
    match value {
        VendorValue::Missing => Value::Null,
        VendorValue::Bool(value) => Value::I64(value.into()),
        VendorValue::Unsigned(value) => Value::I64(value.cast_signed()),
        VendorValue::Signed(value) => Value::I64(value),
        VendorValue::F32(value) if value.is_nan() && field.nullable => Value::Null,
        VendorValue::F32(value) => Value::F32(value),
        VendorValue::F64(value) if value.is_nan() && field.nullable => Value::Null,
        VendorValue::F64(value) => Value::F64(value),
        VendorValue::Text(text) => Value::Utf8(text.to_owned()),
    }
}

//! Registers as typed values with a name and a unit.

use crate::vendor::spec::SpecField;
use crate::vendor::{Field, Message, Value};

/// What the registers of an answer mean. Offsets of its slots are bytes: two to a register.
///
/// `S` holds names (`&str`, `String`), `F` the fields (`&[SpecField<S>]`, `Vec<SpecField<S>>`).
#[derive(Debug, Clone, PartialEq)]
pub struct RegisterMap<S, F> {
    /// Kind of the rows.
    pub kind: S,
    /// What is read of the data.
    pub fields: F,
}

impl<S: AsRef<str>, F: AsRef<[SpecField<S>]>> RegisterMap<S, F> {
    /// The answer's data behind the view all messages share.
    pub fn message<'a>(&'a self, data: &'a [u8]) -> RegisterReading<'a, S> {
        RegisterReading { kind: self.kind.as_ref(), fields: self.fields.as_ref(), data }
    }
}

/// One answer.
#[derive(Debug, Clone, Copy)]
pub struct RegisterReading<'a, S> {
    kind: &'a str,
    fields: &'a [SpecField<S>],
    data: &'a [u8],
}

impl<S: AsRef<str>> Message for RegisterReading<'_, S> {
    fn kind(&self) -> &str {
        self.kind
    }

    fn field(&self, at: usize) -> Option<Field<'_>> {
        self.fields.get(at).map(SpecField::field)
    }

    fn value(&self, at: usize) -> Value<'_> {
        self.fields.get(at).map_or(Value::Missing, |field| field.slot.value(self.data))
    }
}

//! What the fleet declares: the streams a recipe can be checked against.

use headwater_core::id::{DeviceId, FieldName, KindName, StreamName};
use headwater_core::schema::{Logical, Schema};
use headwater_core::time::{StampKind, stamp_unit_ns};
use std::collections::{BTreeMap, BTreeSet};

/// Every stream, by the kinds under which devices declare it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Declared {
    /// By name; several kinds where devices disagree.
    pub streams: BTreeMap<StreamName, BTreeMap<KindName, DeclaredStream>>,
}

/// A stream as declared under one kind.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DeclaredStream {
    /// Who sends it.
    pub devices: BTreeSet<DeviceId>,
    /// Its fields.
    pub fields: BTreeMap<FieldName, DeclaredField>,
    /// How its samples are stamped, as far as known; empty if nobody looked.
    pub stamps: BTreeSet<StampKind>,
    /// What its stamps were floored to where that is more than 1 ns, by fingerprint of the declaration.
    pub units_ns: BTreeMap<i64, i64>,
}

/// A field, as its kind's table has it.
#[derive(Debug, Clone, PartialEq)]
pub struct DeclaredField {
    /// Type as declared.
    pub logical: Logical,
    /// UCUM unit of the table's column.
    pub unit: String,
    /// Name of the table's column.
    pub column: String,
}

/// What a field's values can be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Can be computed with.
    Number,
    /// True or false.
    Truth,
    /// Text.
    Text,
    /// Bytes in the row.
    Bytes,
    /// A picture or another object, matched by key only.
    Object,
    /// A 64-bit unsigned number, which tables hold as a decimal.
    Decimal,
}

impl Class {
    /// Of a type.
    #[must_use]
    pub fn of(logical: &Logical) -> Self {
        match logical {
            Logical::Bool => Self::Truth,
            Logical::U64 => Self::Decimal,
            Logical::Utf8 | Logical::Enum(_) => Self::Text,
            Logical::Bytes | Logical::Fixed(_) | Logical::Keyed(_) => Self::Bytes,
            Logical::Blob => Self::Object,
            _ => Self::Number,
        }
    }
}

impl Declared {
    /// Adds a declaration of a device.
    pub fn add(&mut self, device: &DeviceId, stream: &StreamName, schema: &Schema) {
        let kinds = self.streams.entry(stream.clone()).or_default();
        let of_kind = kinds.entry(schema.kind.clone()).or_default();
        of_kind.devices.insert(device.clone());
        if let Some(unit_ns) = stamp_unit_ns(schema.time_exp).filter(|unit_ns| *unit_ns > 1) {
            of_kind.units_ns.insert(schema.fingerprint().0.into(), unit_ns);
        }
        for field in &schema.fields {
            of_kind.fields.entry(field.name.clone()).or_insert_with(|| DeclaredField {
                logical: field.logical.clone(),
                unit: field.unit.clone(),
                column: field.name.to_string(),
            });
        }
    }

    /// Every declaration of a field of a stream.
    pub fn fields<'a>(
        &'a self,
        stream: &StreamName,
        field: &'a FieldName,
    ) -> impl Iterator<Item = (&'a KindName, &'a DeclaredField)> + 'a {
        let kinds = self.streams.get(stream).into_iter().flatten();
        kinds.filter_map(move |(kind, of)| Some((kind, of.fields.get(field)?)))
    }

    /// Devices that declare a stream.
    #[must_use]
    pub fn devices(&self, stream: &StreamName) -> BTreeSet<&DeviceId> {
        self.streams.get(stream).into_iter().flatten().flat_map(|(_, of)| &of.devices).collect()
    }
}

//! The canonical bytes of a schema: equal schemas give equal bytes, and the bytes read back.
//!
//! `u8 version=1 | u8 salt | kind | modality | u8 time_exp | uv n_fields | fields`, a field being
//! `name | u8 logical | u8 flags (1 nullable) | unit | extra`; strings are `uv` length + ASCII.

use super::{FIELDS_MAX, Field, Logical, Modality, Schema, UNIT_BYTES_MAX, check_unit};
use crate::id::{KIND_BYTES_MAX, NameError};
use crate::wire::primitives::{PrimitiveError, Reader, put_bytes, put_uv, put_zz};
use std::collections::BTreeSet;

/// Longest canonical form, bytes.
pub const CANONICAL_BYTES_MAX: usize = 64 * 1024;
/// Most names of one enum.
const ENUM_NAMES_MAX: usize = 4_096;
const VERSION: u8 = 1;

/// A schema that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// The bytes end early or are malformed.
    #[error("schema is malformed")]
    Primitive(#[from] PrimitiveError),
    /// A name breaks its rule.
    #[error("schema names something it may not")]
    Name(#[from] NameError),
    /// The canonical form's version is not known.
    #[error("schema version {0} is not known")]
    Version(u8),
    /// A code has no meaning.
    #[error("schema has {what} code {code}")]
    Code {
        /// Of what.
        what: &'static str,
        /// Found.
        code: u64,
    },
    /// Two fields of one name.
    #[error("field {0} appears twice")]
    Duplicate(String),
    /// The unit is not UCUM.
    #[error("field {field} has no valid unit")]
    Unit {
        /// Field.
        field: String,
        /// Why.
        #[source]
        source: super::UnitError,
    },
    /// Above a limit.
    #[error("schema has {found} {what}, limit {limit}")]
    Limit {
        /// Of what.
        what: &'static str,
        /// Found.
        found: usize,
        /// Limit.
        limit: usize,
    },
    /// A parameter of a type makes no sense.
    #[error("field {field} is {what}")]
    Parameter {
        /// Field.
        field: String,
        /// What is wrong.
        what: &'static str,
    },
}

impl Schema {
    /// The canonical bytes.
    #[must_use]
    pub fn canonical(&self) -> Vec<u8> {
        let mut out = vec![VERSION, self.salt];
        put_bytes(&mut out, self.kind.as_str().as_bytes());
        put_bytes(&mut out, self.modality.as_str().as_bytes());
        out.push(self.time_exp);
        put_uv(&mut out, self.fields.len() as u64);
        for field in &self.fields {
            put_bytes(&mut out, field.name.as_str().as_bytes());
            out.push(logical_code(&field.logical));
            out.push(u8::from(field.nullable));
            put_bytes(&mut out, field.unit.as_bytes());
            put_extra(&mut out, &field.logical);
        }
        out
    }

    /// Reads canonical bytes and checks every rule of a schema.
    ///
    /// # Errors
    /// [`SchemaError`] names the first rule broken.
    pub fn from_canonical(bytes: &[u8]) -> Result<Self, SchemaError> {
        if bytes.len() > CANONICAL_BYTES_MAX {
            return Err(SchemaError::Limit { what: "bytes", found: bytes.len(), limit: CANONICAL_BYTES_MAX });
        }
        let mut reader = Reader::new(bytes);
        let version = reader.u8()?;
        if version != VERSION {
            return Err(SchemaError::Version(version));
        }
        let salt = reader.u8()?;
        let kind = reader.text(KIND_BYTES_MAX)?.parse()?;
        let modality =
            Modality::from_name(reader.text(16)?).ok_or(SchemaError::Code { what: "modality", code: 0 })?;
        let time_exp = reader.u8()?;
        let n = reader.len(FIELDS_MAX)?;
        let mut fields = Vec::with_capacity(n.min(reader.remaining()));
        for _ in 0..n {
            let name = reader.text(KIND_BYTES_MAX)?.parse()?;
            let code = reader.u8()?;
            let flags = reader.u8()?;
            if flags > 1 {
                return Err(SchemaError::Code { what: "field flag", code: flags.into() });
            }
            let unit = reader.text(UNIT_BYTES_MAX)?.to_owned();
            let logical = read_logical(code, &mut reader)?;
            fields.push(Field { name, logical, nullable: flags == 1, unit });
        }
        reader.finish()?;
        let schema = Self { salt, kind, modality, time_exp, fields };
        schema.check()?;
        Ok(schema)
    }

    /// Checks what the types alone do not promise: units, distinct names, parameters.
    ///
    /// # Errors
    /// [`SchemaError`] names the first rule broken.
    pub fn check(&self) -> Result<(), SchemaError> {
        if self.time_exp > 9 {
            return Err(SchemaError::Code { what: "time exponent", code: self.time_exp.into() });
        }
        if self.fields.len() > FIELDS_MAX {
            return Err(SchemaError::Limit { what: "fields", found: self.fields.len(), limit: FIELDS_MAX });
        }
        let mut names = BTreeSet::new();
        for (place, field) in self.fields.iter().enumerate() {
            if !names.insert(&field.name) {
                return Err(SchemaError::Duplicate(field.name.to_string()));
            }
            check_unit(&field.unit)
                .map_err(|source| SchemaError::Unit { field: field.name.to_string(), source })?;
            let refuse = |what| SchemaError::Parameter { field: field.name.to_string(), what };
            match &field.logical {
                Logical::Scaled { den, .. } if *den <= 0 => {
                    return Err(refuse("scaled by a denominator below 1"));
                }
                Logical::Enum(values) if values.is_empty() => return Err(refuse("an enum without names")),
                Logical::Keyed(key) => {
                    let key = usize::try_from(*key).ok().and_then(|id| id.checked_sub(1));
                    let integer = key
                        .and_then(|at| self.fields.get(at))
                        .is_some_and(|f| f.logical.integer_range().is_some());
                    if !integer || key.is_none_or(|at| at >= place) {
                        return Err(refuse("keyed by no earlier integer field"));
                    }
                }
                _ => {}
            }
        }
        if self.fields.iter().filter(|field| field.logical == Logical::Blob).count() > 1 {
            return Err(SchemaError::Parameter {
                field: self.kind.to_string(),
                what: "a kind with two blobs",
            });
        }
        Ok(())
    }
}

fn logical_code(logical: &Logical) -> u8 {
    match logical {
        Logical::Bool => 0,
        Logical::I8 => 1,
        Logical::I16 => 2,
        Logical::I32 => 3,
        Logical::I64 => 4,
        Logical::U8 => 5,
        Logical::U16 => 6,
        Logical::U32 => 7,
        Logical::U64 => 8,
        Logical::F32 => 9,
        Logical::F64 => 10,
        Logical::Utf8 => 11,
        Logical::Bytes => 12,
        Logical::Enum(_) => 13,
        Logical::Scaled { .. } => 14,
        Logical::Fixed(_) => 15,
        Logical::Keyed(_) => 16,
        Logical::Blob => 17,
    }
}

fn put_extra(out: &mut Vec<u8>, logical: &Logical) {
    match logical {
        Logical::Enum(names) => {
            put_uv(out, names.len() as u64);
            names.iter().for_each(|name| put_bytes(out, name.as_bytes()));
        }
        Logical::Scaled { num, den, offset } => {
            [*num, *den, *offset].into_iter().for_each(|n| put_zz(out, n))
        }
        Logical::Fixed(n) | Logical::Keyed(n) => put_uv(out, u64::from(*n)),
        _ => {}
    }
}

fn read_logical(code: u8, reader: &mut Reader<'_>) -> Result<Logical, SchemaError> {
    let small = |n: u64| u32::try_from(n).map_err(|_| PrimitiveError::Range(n));
    Ok(match code {
        0 => Logical::Bool,
        1 => Logical::I8,
        2 => Logical::I16,
        3 => Logical::I32,
        4 => Logical::I64,
        5 => Logical::U8,
        6 => Logical::U16,
        7 => Logical::U32,
        8 => Logical::U64,
        9 => Logical::F32,
        10 => Logical::F64,
        11 => Logical::Utf8,
        12 => Logical::Bytes,
        13 => {
            let n = reader.len(ENUM_NAMES_MAX)?;
            let mut names = Vec::with_capacity(n.min(reader.remaining()));
            for _ in 0..n {
                names.push(reader.text(KIND_BYTES_MAX)?.to_owned());
            }
            Logical::Enum(names)
        }
        14 => Logical::Scaled { num: reader.zz()?, den: reader.zz()?, offset: reader.zz()? },
        15 => Logical::Fixed(small(reader.uv()?)?),
        16 => Logical::Keyed(small(reader.uv()?)?),
        17 => Logical::Blob,
        code => return Err(SchemaError::Code { what: "type", code: code.into() }),
    })
}

#[cfg(test)]
mod tests {
    use super::super::builtin;
    use super::*;

    fn field(name: &str, logical: Logical) -> Field {
        Field { name: name.parse().unwrap(), logical, nullable: true, unit: "m/s2".to_owned() }
    }

    fn every_type() -> Schema {
        let mut fields: Vec<Field> = [
            "bool", "i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64", "f32", "f64", "utf8", "bytes",
            "blob",
        ]
        .iter()
        .map(|name| field(&format!("x_{name}"), Logical::from_name(name).unwrap()))
        .collect();
        fields.push(field("mode", Logical::Enum(vec!["off".into(), "on".into()])));
        fields.push(field("raw", Logical::Scaled { num: 1, den: 418, offset: -3 }));
        fields.push(field("mac", Logical::Fixed(6)));
        fields.push(field("frame", Logical::Keyed(2)));
        Schema { salt: 0, kind: "all".parse().unwrap(), modality: Modality::Scalars, time_exp: 3, fields }
    }

    #[test]
    fn canonical_form_reads_back() {
        for schema in [every_type(), builtin::image(), builtin::gaps(), builtin::clock(), builtin::gps_fix()]
        {
            schema.check().unwrap();
            assert_eq!(Schema::from_canonical(&schema.canonical()), Ok(schema));
        }
    }

    #[test]
    fn fingerprints_are_pinned() {
        let got: Vec<String> =
            [builtin::clock(), builtin::gaps(), builtin::gps_fix(), builtin::image(), every_type()]
                .iter()
                .map(|schema| format!("{} {}", schema.kind, schema.fingerprint()))
                .collect();
        assert_eq!(got.join("\n"), include_str!("../../../tests/golden/schema/v1/fingerprints.txt").trim());
    }

    #[test]
    fn every_truncation_and_every_flip_is_an_error_or_another_schema() {
        let schema = every_type();
        let bytes = schema.canonical();
        for cut in 0..bytes.len() {
            assert!(Schema::from_canonical(&bytes[..cut]).is_err());
        }
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut other = bytes.clone();
                other[at] ^= 1 << bit;
                if let Ok(read) = Schema::from_canonical(&other) {
                    assert_ne!(read, schema);
                    assert_eq!(read.canonical(), other);
                }
            }
        }
    }

    #[test]
    fn senseless_parameters_are_named() {
        let mut schema = every_type();
        schema.fields.push(field("mode", Logical::I8));
        assert_eq!(schema.check(), Err(SchemaError::Duplicate("mode".into())));
        for (logical, what) in [
            (Logical::Scaled { num: 1, den: 0, offset: 0 }, "denominator"),
            (Logical::Enum(vec![]), "without names"),
            (Logical::Keyed(1), "keyed"),
            (Logical::Keyed(0), "keyed"),
        ] {
            let schema = Schema { fields: vec![field("x", logical)], ..every_type() };
            assert!(schema.check().unwrap_err().to_string().contains(what));
        }
    }
}

//! Schemas: typed fields with units, one canonical form, one fingerprint.
//!
//! A stream has a *kind*; the kind's table in the lake is the union of the fields its devices
//! declare. Field ids are the places in one declaration and local to it; across the fleet a field is
//! (kind, name). The canonical bytes are what a declaration carries and what the fingerprint hashes.

pub mod builtin;
mod canonical;
mod convert;
mod unit;

pub use canonical::{CANONICAL_BYTES_MAX, SchemaError};
pub use convert::{Conversion, conversion};
pub use unit::{UNIT_BYTES_MAX, UnitError, check_unit};

use crate::id::{FieldName, KindName, Sha256};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Most fields of a schema: 3 stamp columns beside them stay below 4096 columns of a section.
pub const FIELDS_MAX: usize = 4_000;

/// First four bytes of SHA-256(canonical form), little-endian; scope (tenant, device, epoch).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Fingerprint(pub u32);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// Class of data of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Modality {
    /// Numbers and short text.
    Scalars,
    /// A position.
    Fix,
    /// A picture.
    Image,
    /// Opaque bytes.
    Bytes,
}

impl Modality {
    /// Name in the canonical form and in tables.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scalars => "scalars",
            Self::Fix => "fix",
            Self::Image => "image",
            Self::Bytes => "bytes",
        }
    }
    /// Reads the name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Scalars, Self::Fix, Self::Image, Self::Bytes].into_iter().find(|m| m.as_str() == name)
    }
}

/// What a field's values mean; [`Logical::physical`] says how they are stored.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Logical {
    /// 0 or 1.
    Bool,
    /// Signed integers.
    I8,
    /// 16-bit.
    I16,
    /// 32-bit.
    I32,
    /// 64-bit.
    I64,
    /// Unsigned integers.
    U8,
    /// 16-bit.
    U16,
    /// 32-bit.
    U32,
    /// 64-bit, carried by wrapping.
    U64,
    /// IEEE single.
    F32,
    /// IEEE double.
    F64,
    /// Text of at most 64 KiB.
    Utf8,
    /// Bytes of at most 64 KiB.
    Bytes,
    /// Index into a list of names.
    Enum(Vec<String>),
    /// Integer; value = raw × num / den + offset.
    Scaled {
        /// Numerator.
        num: i64,
        /// Denominator, > 0.
        den: i64,
        /// Offset in units of the value.
        offset: i64,
    },
    /// Bytes of exactly this length.
    Fixed(u32),
    /// Bytes that compress well when grouped by an earlier integer field (its id, from 1).
    Keyed(u32),
    /// Reference to a blob: SHA-256 (32 B) and length (u64 LE).
    Blob,
}

/// How values are held and encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Physical {
    /// Every integer, bool, enum, scaled integer.
    I64,
    /// Double.
    F64,
    /// Single.
    F32,
    /// Bytes.
    Bytes,
    /// Text.
    Utf8,
}

impl Logical {
    /// Storage of this type.
    #[must_use]
    pub fn physical(&self) -> Physical {
        match self {
            Self::F32 => Physical::F32,
            Self::F64 => Physical::F64,
            Self::Utf8 => Physical::Utf8,
            Self::Bytes | Self::Fixed(_) | Self::Keyed(_) | Self::Blob => Physical::Bytes,
            _ => Physical::I64,
        }
    }

    /// Inclusive range of an integer type; `None` for others. `U64` is carried by wrapping.
    #[must_use]
    pub fn integer_range(&self) -> Option<(i64, i64)> {
        Some(match self {
            Self::Bool => (0, 1),
            Self::I8 => (i8::MIN.into(), i8::MAX.into()),
            Self::I16 => (i16::MIN.into(), i16::MAX.into()),
            Self::I32 => (i32::MIN.into(), i32::MAX.into()),
            Self::U8 => (0, u8::MAX.into()),
            Self::U16 => (0, u16::MAX.into()),
            Self::U32 => (0, u32::MAX.into()),
            Self::I64 | Self::U64 | Self::Scaled { .. } => (i64::MIN, i64::MAX),
            Self::Enum(names) => (0, i64::try_from(names.len()).unwrap_or(i64::MAX).saturating_sub(1)),
            _ => return None,
        })
    }

    /// Short name, as in config files and `ops.schemas`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::I8 => "i8",
            Self::I16 => "i16",
            Self::I32 => "i32",
            Self::I64 => "i64",
            Self::U8 => "u8",
            Self::U16 => "u16",
            Self::U32 => "u32",
            Self::U64 => "u64",
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::Utf8 => "utf8",
            Self::Bytes => "bytes",
            Self::Enum(_) => "enum",
            Self::Scaled { .. } => "scaled",
            Self::Fixed(_) => "fixed",
            Self::Keyed(_) => "keyed",
            Self::Blob => "blob",
        }
    }

    /// Reads the name of a type without parameters.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        use Logical::{Blob, Bool, Bytes, F32, F64, I8, I16, I32, I64, U8, U16, U32, U64, Utf8};
        [Bool, I8, I16, I32, I64, U8, U16, U32, U64, F32, F64, Utf8, Bytes, Blob]
            .into_iter()
            .find(|logical| logical.name() == name)
    }
}

/// One field of a kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Field {
    /// Identifies it within the kind, across the fleet.
    pub name: FieldName,
    /// Type.
    pub logical: Logical,
    /// May be missing in a row.
    pub nullable: bool,
    /// UCUM unit, case-sensitive; `1` for none.
    pub unit: String,
}

/// A kind as one stream declares it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Schema {
    /// Raised only to escape a fingerprint collision.
    pub salt: u8,
    /// Table of the lake.
    pub kind: KindName,
    /// Class of data.
    pub modality: Modality,
    /// Stamps travel in units of 10^`time_exp` ns (0 ns, 3 µs, …, 9 s).
    pub time_exp: u8,
    /// Ordered fields; ids are places from 1.
    pub fields: Vec<Field>,
}

impl Schema {
    /// Full hash of the canonical form.
    #[must_use]
    pub fn hash(&self) -> Sha256 {
        Sha256::of(&self.canonical())
    }

    /// The 32-bit fingerprint of the wire.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint(u32::from_le_bytes(self.hash().head::<4>()))
    }

    /// Place of the blob field, if the kind has one.
    #[must_use]
    pub fn blob_field(&self) -> Option<usize> {
        self.fields.iter().position(|field| field.logical == Logical::Blob)
    }
}

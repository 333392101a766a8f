//! What flows through the agent: readings, stamped samples, their values and blobs.

use crate::id::{Seq, Sha256, StreamId};
use crate::schema::{Field, Logical, Physical};
use crate::time::{BootNanos, ClockDomain, Latency, Stamp, StampKind};
use std::sync::Arc;

/// One value of one field, in its physical form.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Missing.
    Null,
    /// Integer, bool, enum index or raw count of a scaled field.
    I64(i64),
    /// Double.
    F64(f64),
    /// Single.
    F32(f32),
    /// Bytes; a blob field holds a [`BlobRef`] in its 40-byte form.
    Bytes(Vec<u8>),
    /// Text.
    Utf8(String),
}

impl Value {
    /// True if a field of this type may hold the value (type, nullability, integer range, length).
    #[must_use]
    pub fn fits(&self, field: &Field) -> bool {
        match (self, field.logical.physical()) {
            (Value::Null, _) => field.nullable,
            (Value::I64(n), Physical::I64) => {
                field.logical.integer_range().is_some_and(|(low, high)| (low..=high).contains(n))
            }
            (Value::F64(_), Physical::F64) | (Value::F32(_), Physical::F32) => true,
            (Value::Bytes(bytes), Physical::Bytes) => match field.logical {
                Logical::Fixed(n) => u64::try_from(bytes.len()).is_ok_and(|len| len == u64::from(n)),
                Logical::Blob => bytes.len() == BlobRef::BYTES,
                _ => bytes.len() <= VALUE_BYTES_MAX,
            },
            (Value::Utf8(text), Physical::Utf8) => text.len() <= VALUE_BYTES_MAX,
            _ => false,
        }
    }

    /// Equality by bits: NaN equals itself, -0.0 differs from 0.0.
    #[must_use]
    pub fn same_bits(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::F64(a), Value::F64(b)) => a.to_bits() == b.to_bits(),
            (Value::F32(a), Value::F32(b)) => a.to_bits() == b.to_bits(),
            (a, b) => a == b,
        }
    }
}

/// Longest bytes or text value inside a row; longer ones are blobs.
pub const VALUE_BYTES_MAX: usize = 64 * 1024;
/// Largest blob.
pub const BLOB_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What a row holds of its blob: digest and length of the original bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlobRef {
    /// SHA-256 of the original bytes.
    pub sha256: Sha256,
    /// Their number.
    pub len: u64,
}

impl BlobRef {
    /// Bytes of the row form: digest, then length as u64 LE.
    pub const BYTES: usize = 40;

    /// The reference to `bytes`.
    #[must_use]
    pub fn to(bytes: &[u8]) -> Self {
        Self { sha256: Sha256::of(bytes), len: bytes.len() as u64 }
    }

    /// Row form.
    #[must_use]
    pub fn to_value(self) -> Value {
        let mut out = self.sha256.0.to_vec();
        out.extend_from_slice(&self.len.to_le_bytes());
        Value::Bytes(out)
    }

    /// Reads the row form.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (digest, len) = bytes.split_first_chunk::<32>()?;
        Some(Self { sha256: Sha256(*digest), len: u64::from_le_bytes(len.try_into().ok()?) })
    }
}

/// A large object beside its row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// Media type, such as `image/jpeg`.
    pub mime: String,
    /// The original bytes.
    pub bytes: Arc<[u8]>,
}

/// One raw value set from a source, not yet stamped or numbered.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// When the adapter observed it.
    pub t: BootNanos,
    /// How much earlier the event may be.
    pub latency: Latency,
    /// What `t` refers to.
    pub kind: StampKind,
    /// Whose clock `t` is.
    pub domain: ClockDomain,
    /// One value per field of the stream's schema, in order.
    pub values: Vec<Value>,
    /// The object a blob field refers to.
    pub blob: Option<Blob>,
}

/// A numbered, stamped reading: what the spool takes.
#[derive(Debug, Clone, PartialEq)]
pub struct StampedSample {
    /// Stream.
    pub stream: StreamId,
    /// Place in it.
    pub seq: Seq,
    /// When and how.
    pub stamp: Stamp,
    /// One value per field.
    pub values: Vec<Value>,
    /// The object a blob field refers to.
    pub blob: Option<Blob>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_reference_is_forty_bytes_and_back() {
        let reference = BlobRef::to(b"picture");
        let Value::Bytes(bytes) = reference.to_value() else { panic!("bytes") };
        assert_eq!(bytes.len(), BlobRef::BYTES);
        assert_eq!(BlobRef::from_bytes(&bytes), Some(reference));
        assert_eq!(BlobRef::from_bytes(&bytes[1..]), None);
    }

    #[test]
    fn values_fit_their_fields_only() {
        let field =
            |logical, nullable| Field { name: "x".parse().unwrap(), logical, nullable, unit: "1".into() };
        assert!(Value::I64(255).fits(&field(Logical::U8, false)));
        assert!(!Value::I64(256).fits(&field(Logical::U8, false)));
        assert!(!Value::I64(-1).fits(&field(Logical::U32, false)));
        assert!(Value::I64(1).fits(&field(Logical::Enum(vec!["a".into(), "b".into()]), false)));
        assert!(!Value::I64(2).fits(&field(Logical::Enum(vec!["a".into(), "b".into()]), false)));
        assert!(Value::Null.fits(&field(Logical::F64, true)));
        assert!(!Value::Null.fits(&field(Logical::F64, false)));
        assert!(!Value::F64(1.0).fits(&field(Logical::F32, false)));
        assert!(!Value::Bytes(vec![0; 5]).fits(&field(Logical::Fixed(6), false)));
        assert!(Value::F64(f64::NAN).same_bits(&Value::F64(f64::NAN)));
        assert!(!Value::F64(0.0).same_bits(&Value::F64(-0.0)));
    }
}

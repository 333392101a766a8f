//! Objects and their parts: what is too large for a batch travels by byte range.
//!
//! An object is `u8 form | …`. Form 1 is a blob: `u8 1 | u8 blob_codec | uv stream | uv seq | u64
//! original_len | SHA-256 of the original | mime (uv len) | payload`, the payload in the form that
//! `blob_codec` names (0 the original, 1 zstd, 2 Lepton). Its id is the first 16 bytes of
//! the SHA-256 of the object's bytes, so the same object cut again after a restart meets the ranges
//! already there. A part body is `object_id 16 B | u64 total_len | u64 offset | bytes`.

use super::blob::BlobCodec;
use super::primitives::{PrimitiveError, Reader, put_bytes, put_uv};
use crate::id::{ObjectId, Seq, Sha256, StreamId};
use crate::sample::{BLOB_BYTES_MAX, BlobRef};
use std::borrow::Cow;

/// Bytes of a part body before its payload.
pub const PART_HEADER_BYTES: usize = 32;
/// Largest object: a blob and its header.
pub const OBJECT_BYTES_MAX: usize = BLOB_BYTES_MAX + 1024;
/// Longest media type, bytes.
pub const MIME_BYTES_MAX: usize = 127;
const FORM_BLOB: u8 = 1;

/// An object or part that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ObjectError {
    /// Malformed.
    #[error("object is malformed")]
    Primitive(#[from] PrimitiveError),
    /// A form this version does not know.
    #[error("object form {0} is not known")]
    Form(u8),
    /// A blob codec this version does not know.
    #[error("blob codec {0} is not known")]
    Codec(u8),
    /// Above the limit.
    #[error("object of {found} bytes is above the limit {limit}")]
    TooLarge {
        /// Found.
        found: u64,
        /// Limit.
        limit: u64,
    },
    /// A part lies outside its object or is empty.
    #[error("part at {offset} of {len} bytes is not inside an object of {total_len}")]
    Range {
        /// Where it starts.
        offset: u64,
        /// Its bytes.
        len: u64,
        /// The object's bytes.
        total_len: u64,
    },
    /// The bytes are not what the header promises.
    #[error("object does not hold the bytes it names")]
    Digest,
}

/// Form 1: the blob of one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobObject<'a> {
    /// Stream of the row.
    pub stream: StreamId,
    /// Seq of the row.
    pub seq: Seq,
    /// Digest and length of the original bytes.
    pub reference: BlobRef,
    /// Media type.
    pub mime: &'a str,
    /// The original bytes.
    pub bytes: Cow<'a, [u8]>,
}

/// What an object says of itself, its payload unread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobHead<'a> {
    /// Stream of the row.
    pub stream: StreamId,
    /// Seq of the row.
    pub seq: Seq,
    /// Digest and length of the original bytes, as claimed.
    pub reference: BlobRef,
    /// Media type.
    pub mime: &'a str,
    codec: u8,
    payload: &'a [u8],
}

impl<'a> BlobHead<'a> {
    /// Reads the header. The payload is neither unpacked nor checked: for objects that were, once.
    ///
    /// # Errors
    /// [`ObjectError`] names what is wrong.
    pub fn from_bytes(object: &'a [u8]) -> Result<Self, ObjectError> {
        let mut reader = Reader::new(object);
        let form = reader.u8()?;
        if form != FORM_BLOB {
            return Err(ObjectError::Form(form));
        }
        let codec = reader.u8()?;
        let stream = reader.uv()?;
        let stream = StreamId(u16::try_from(stream).map_err(|_| PrimitiveError::Range(stream))?);
        let seq = Seq(reader.uv()?);
        let len = reader.u64()?;
        let sha256 = Sha256(reader.array()?);
        let mime = reader.text(MIME_BYTES_MAX)?;
        let payload = reader.take_rest();
        Ok(Self { stream, seq, reference: BlobRef { sha256, len }, mime, codec, payload })
    }
}

impl<'a> BlobObject<'a> {
    /// The object's bytes, the payload as it is.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.with_payload(BlobCodec::Raw, &self.bytes)
    }

    /// The object's bytes, the payload as [`BlobCodec::pack`] made it.
    #[must_use]
    pub fn with_payload(&self, codec: BlobCodec, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(payload.len().saturating_add(256));
        out.extend_from_slice(&[FORM_BLOB, codec.code()]);
        put_uv(&mut out, self.stream.0.into());
        put_uv(&mut out, self.seq.0);
        out.extend_from_slice(&self.reference.len.to_le_bytes());
        out.extend_from_slice(&self.reference.sha256.0);
        put_bytes(&mut out, self.mime.as_bytes());
        out.extend_from_slice(payload);
        out
    }

    /// Reads a complete object, unpacks it and checks the original's digest.
    ///
    /// # Errors
    /// [`ObjectError`] names what is wrong.
    pub fn from_bytes(object: &'a [u8]) -> Result<Self, ObjectError> {
        let head = BlobHead::from_bytes(object)?;
        let BlobHead { stream, seq, reference, mime, codec, payload } = head;
        let bytes = BlobCodec::from_code(codec)?.unpack(payload, reference.len)?;
        if BlobRef::to(&bytes) != reference {
            return Err(ObjectError::Digest);
        }
        Ok(Self { stream, seq, reference, mime, bytes })
    }
}

/// The id of an object's bytes.
#[must_use]
pub fn object_id(object: &[u8]) -> ObjectId {
    ObjectId(Sha256::of(object).head())
}

/// A byte range of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part<'a> {
    /// Object.
    pub object: ObjectId,
    /// Its bytes in all.
    pub total_len: u64,
    /// Where this part starts.
    pub offset: u64,
    /// Its bytes.
    pub bytes: &'a [u8],
}

impl<'a> Part<'a> {
    /// Body bytes.
    #[must_use]
    pub fn to_body(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.bytes.len().saturating_add(PART_HEADER_BYTES));
        out.extend_from_slice(&self.object.0);
        out.extend_from_slice(&self.total_len.to_le_bytes());
        out.extend_from_slice(&self.offset.to_le_bytes());
        out.extend_from_slice(self.bytes);
        out
    }

    /// Reads a body and checks that the range lies inside the object.
    ///
    /// # Errors
    /// [`ObjectError`] names what is wrong.
    pub fn from_body(body: &'a [u8]) -> Result<Self, ObjectError> {
        let mut reader = Reader::new(body);
        let object = ObjectId(reader.array()?);
        let (total_len, offset) = (reader.u64()?, reader.u64()?);
        if total_len > OBJECT_BYTES_MAX as u64 {
            return Err(ObjectError::TooLarge { found: total_len, limit: OBJECT_BYTES_MAX as u64 });
        }
        let bytes = reader.take_rest();
        let len = bytes.len() as u64;
        if len == 0 || offset.checked_add(len).is_none_or(|end| end > total_len) {
            return Err(ObjectError::Range { offset, len, total_len });
        }
        Ok(Self { object, total_len, offset, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_is_cut_and_put_together_in_any_order() {
        let original: Vec<u8> = (0..10_000_u32).map(|i| i.to_le_bytes()[0] ^ i.to_le_bytes()[1]).collect();
        let blob = BlobObject {
            stream: StreamId(3),
            seq: Seq(17),
            reference: BlobRef::to(&original),
            mime: "image/jpeg",
            bytes: Cow::Borrowed(&original),
        };
        let object = blob.to_bytes();
        let id = object_id(&object);
        let mut together = vec![0; object.len()];
        let mut offsets: Vec<usize> = (0..object.len()).step_by(997).collect();
        offsets.reverse();
        for offset in offsets {
            let end = (offset + 997).min(object.len());
            let part = Part {
                object: id,
                total_len: object.len() as u64,
                offset: offset as u64,
                bytes: &object[offset..end],
            };
            let body = part.to_body();
            let part = Part::from_body(&body).unwrap();
            let at = usize::try_from(part.offset).unwrap();
            together[at..][..part.bytes.len()].copy_from_slice(part.bytes);
        }
        assert_eq!(object_id(&together), id);
        assert_eq!(BlobObject::from_bytes(&together), Ok(blob));
        together[9_000] ^= 1;
        assert_eq!(BlobObject::from_bytes(&together), Err(ObjectError::Digest));
    }

    #[test]
    fn ranges_outside_the_object_are_refused() {
        let part = |total_len, offset, n: usize| {
            let bytes = vec![0; n];
            Part::from_body(&Part { object: ObjectId([0; 16]), total_len, offset, bytes: &bytes }.to_body())
                .map(|_| ())
        };
        assert!(part(10, 5, 5).is_ok());
        assert!(matches!(part(10, 5, 6), Err(ObjectError::Range { .. })));
        assert!(matches!(part(10, 5, 0), Err(ObjectError::Range { .. })));
        assert!(matches!(part(10, u64::MAX, 2), Err(ObjectError::Range { .. })));
        assert!(matches!(part(1 << 40, 0, 1), Err(ObjectError::TooLarge { .. })));
    }
}

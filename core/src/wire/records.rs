//! Records: the tagged fields of hello and ack, read in any order, unknown tags skipped.

use super::primitives::{PrimitiveError, Reader, put_bytes, put_uv};
use crate::id::StreamId;
use std::ops::Range;

pub(super) const TAG_BOOT: u64 = 1;
pub(super) const TAG_CAPABILITIES: u64 = 2;
pub(super) const TAG_MESSAGE_MAX: u64 = 3;
pub(super) const TAG_HELLO_STREAM: u64 = 4;
pub(super) const TAG_DEVICE_CHAIN: u64 = 5;
pub(super) const TAG_NONCE: u64 = 6;
pub(super) const TAG_NONCE_ECHO: u64 = 17;
pub(super) const TAG_ACK_STREAM: u64 = 18;
pub(super) const TAG_MISSING: u64 = 19;
pub(super) const TAG_REFUSED: u64 = 20;
pub(super) const TAG_CREDIT: u64 = 21;
pub(super) const TAG_COMMIT: u64 = 22;
pub(super) const TAG_CLOCK_REPLY: u64 = 23;
pub(super) const TAG_NEED_SCHEMA: u64 = 24;
pub(super) const TAG_COLLECTOR_CHAIN: u64 = 25;
pub(super) const TAG_INCARNATION: u64 = 26;
pub(super) const TAG_NEED_HELLO: u64 = 27;
pub(super) const TAG_CREDIT_WAIT: u64 = 28;
pub(super) const TAG_REVOKED: u64 = 30;
pub(super) const TAG_REVOCATIONS: u64 = 31;

/// Most certificates of a signing chain.
pub(super) const CHAIN_CERTIFICATES_MAX: usize = 4;
/// Most bytes of a signing chain.
pub(super) const CHAIN_BYTES_MAX: usize = 8 * 1024;
/// Most ranges beyond a watermark, per stream or object.
pub(super) const RANGES_MAX: usize = 16;

/// A hello or ack that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// Malformed.
    #[error("record is malformed")]
    Primitive(#[from] PrimitiveError),
    /// A record that must be there is not.
    #[error("record {0} is missing")]
    Missing(&'static str),
    /// More of something than its limit.
    #[error("more than {limit} {what}")]
    Limit {
        /// Of what.
        what: &'static str,
        /// Limit.
        limit: usize,
    },
}

/// Ranges above a watermark, ascending and disjoint; at most 16 travel.
pub type WatermarkRanges = Vec<Range<u64>>;

pub(super) fn put_record(out: &mut Vec<u8>, tag: u64, body: &[u8]) {
    put_uv(out, tag);
    put_bytes(out, body);
}

/// Calls `take` with each record.
pub(super) fn for_each<'a>(
    body: &'a [u8],
    mut take: impl FnMut(u64, Reader<'a>) -> Result<(), RecordError>,
) -> Result<(), RecordError> {
    let mut reader = Reader::new(body);
    while reader.remaining() > 0 {
        let tag = reader.uv()?;
        let len = reader.len(reader.remaining())?;
        take(tag, Reader::new(reader.take(len)?))?;
    }
    Ok(())
}

/// The first record of `tag`.
pub(super) fn find(body: &[u8], tag: u64) -> Result<Option<&[u8]>, RecordError> {
    let mut found = None;
    for_each(body, |this, mut record| {
        if this == tag && found.is_none() {
            found = Some(record.take_rest());
        }
        Ok(())
    })?;
    Ok(found)
}

pub(super) fn put_chain(out: &mut Vec<u8>, tag: u64, chain: &[Vec<u8>]) {
    let mut body = Vec::new();
    put_uv(&mut body, chain.len() as u64);
    chain.iter().for_each(|certificate| put_bytes(&mut body, certificate));
    put_record(out, tag, &body);
}

pub(super) fn read_chain(body: &[u8]) -> Result<Vec<Vec<u8>>, RecordError> {
    if body.len() > CHAIN_BYTES_MAX {
        return Err(RecordError::Limit { what: "bytes of a signing chain", limit: CHAIN_BYTES_MAX });
    }
    let mut reader = Reader::new(body);
    let n = reader.len(CHAIN_CERTIFICATES_MAX)?;
    let mut chain = Vec::with_capacity(n);
    for _ in 0..n {
        chain.push(reader.bytes(CHAIN_BYTES_MAX)?.to_vec());
    }
    reader.finish()?;
    Ok(chain)
}

/// `uv n`, then `uv gap, uv length` from `upto` on. Ranges beyond the sixteenth are left out: the next
/// message carries them once the first are settled.
pub(super) fn put_ranges(out: &mut Vec<u8>, upto: u64, ranges: &[Range<u64>]) {
    let sent = ranges.get(..ranges.len().min(RANGES_MAX)).unwrap_or_default();
    put_uv(out, sent.len() as u64);
    let mut at = upto;
    for range in sent {
        put_uv(out, range.start.saturating_sub(at));
        put_uv(out, range.end.saturating_sub(range.start));
        at = range.end;
    }
}

pub(super) fn read_ranges(reader: &mut Reader<'_>, upto: u64) -> Result<WatermarkRanges, RecordError> {
    let n = reader.len(RANGES_MAX)?;
    let mut ranges = Vec::with_capacity(n);
    let mut at = upto;
    for _ in 0..n {
        let (gap, length) = (reader.uv()?, reader.uv()?);
        let start = at.checked_add(gap).ok_or(PrimitiveError::Range(gap))?;
        let end = start.checked_add(length).filter(|_| length > 0).ok_or(PrimitiveError::Range(length))?;
        ranges.push(start..end);
        at = end;
    }
    Ok(ranges)
}

pub(super) fn read_stream_id(reader: &mut Reader<'_>) -> Result<StreamId, RecordError> {
    let id = reader.uv()?;
    match u16::try_from(id) {
        Ok(id) if id > 0 => Ok(StreamId(id)),
        _ => Err(PrimitiveError::Range(id).into()),
    }
}

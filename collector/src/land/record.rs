//! One record as bytes: what a receiver lands, and what a reader finds.

use super::{Landed, LandedBlob, LandedMessage, LandingPosition};
use headwater_core::id::{DevicePath, Epoch, ObjectId};
use headwater_core::time::UtcNanos;
use headwater_core::wire::object::{OBJECT_BYTES_MAX, Part};
use headwater_core::wire::primitives::{PrimitiveError, Reader};
use headwater_core::wire::{Envelope, EnvelopeError, Lane, MESSAGE_BYTES_ACCEPTED_MAX};
use std::sync::Arc;

/// Bytes before a record's body.
pub(super) const RECORD_HEAD_BYTES: usize = 8;
/// Largest body: an object, one part of it and at most 1 KiB of names.
pub const RECORD_BYTES_MAX: usize = OBJECT_BYTES_MAX + MESSAGE_BYTES_ACCEPTED_MAX + 1024;

const KIND_MESSAGE: u8 = 1;
const KIND_BLOB: u8 = 2;
/// A blob that came in one part: its bytes are those of the part, and stand here once.
const KIND_WHOLE_BLOB: u8 = 3;

/// A message to land.
#[derive(Debug, Clone)]
pub struct MessageRecord {
    /// Whose.
    pub device: DevicePath,
    /// Lane of its topic.
    pub lane: Lane,
    /// Serial of the signer's certificate; at most 255 bytes are kept.
    pub key_serial: String,
    /// When it was received.
    pub received: UtcNanos,
    /// The whole signed message.
    pub message: Arc<[u8]>,
}

/// A completed object to land.
#[derive(Debug, Clone)]
pub struct BlobRecord {
    /// Whose, and one part of it as a whole signed message.
    pub part: MessageRecord,
    /// Life of the device's spool.
    pub epoch: Epoch,
    /// Its id.
    pub object: ObjectId,
    /// Its bytes.
    pub bytes: Arc<[u8]>,
}

/// What a receiver lands.
#[derive(Debug, Clone)]
pub enum LandRecord {
    /// A message.
    Message(MessageRecord),
    /// A blob.
    Blob(BlobRecord),
}

/// Why bytes are no record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordFault {
    /// The file ends inside it.
    #[error("record is cut short")]
    Short,
    /// Longer than any record.
    #[error("record claims {0} bytes")]
    TooLong(u32),
    /// The checksum does not fit.
    #[error("record's checksum does not fit")]
    Crc,
    /// The body is malformed.
    #[error("record is malformed")]
    Body(#[from] PrimitiveError),
    /// A kind without meaning.
    #[error("record kind {0} is not known")]
    Kind(u8),
    /// A field that is no valid name or lane.
    #[error("record holds no valid {0}")]
    Field(&'static str),
    /// The message in it is none.
    #[error("record holds no message of ours")]
    Message(#[from] EnvelopeError),
}

impl LandRecord {
    /// Bytes of the payload, for budgets.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        match self {
            Self::Message(record) => record.message.len(),
            Self::Blob(record) => record.bytes.len().saturating_add(record.part.message.len()),
        }
    }

    /// Appends the record's bytes, head included.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; RECORD_HEAD_BYTES]);
        match self {
            Self::Message(record) => {
                put_head(out, KIND_MESSAGE, record);
                out.extend_from_slice(&record.message);
            }
            Self::Blob(record) if whole(&record.part.message) == Some(&record.bytes) => {
                put_head(out, KIND_WHOLE_BLOB, &record.part);
                out.extend_from_slice(&record.epoch.0.to_le_bytes());
                out.extend_from_slice(&record.object.0);
                out.extend_from_slice(&record.part.message);
            }
            Self::Blob(record) => {
                put_head(out, KIND_BLOB, &record.part);
                out.extend_from_slice(&record.epoch.0.to_le_bytes());
                out.extend_from_slice(&record.object.0);
                let part_len = u32::try_from(record.part.message.len()).unwrap_or(u32::MAX);
                out.extend_from_slice(&part_len.to_le_bytes());
                out.extend_from_slice(&record.part.message);
                out.extend_from_slice(&record.bytes);
            }
        }
        let body = out.get(start.saturating_add(RECORD_HEAD_BYTES)..).unwrap_or_default();
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes();
        let crc = crc32c::crc32c_append(crc32c::crc32c(&length), body);
        for (to, from) in out.iter_mut().skip(start).zip(length.into_iter().chain(crc.to_le_bytes())) {
            *to = from;
        }
    }

    /// The record's bytes, head included.
    #[cfg(test)]
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.put(&mut out);
        out
    }
}

/// The object in a part that holds all of it.
fn whole(message: &[u8]) -> Option<&[u8]> {
    let part = Part::from_body(Envelope::body_of(message)?).ok()?;
    (part.offset == 0 && part.total_len == part.bytes.len() as u64).then_some(part.bytes)
}

fn put_head(out: &mut Vec<u8>, kind: u8, record: &MessageRecord) {
    out.extend_from_slice(&[kind, record.lane.digit()]);
    for text in [record.device.tenant.as_str(), record.device.device.as_str(), short(&record.key_serial)] {
        out.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
        out.extend_from_slice(text.as_bytes());
    }
    out.extend_from_slice(&record.received.0.to_le_bytes());
}

/// Serials are at most 20 bytes by RFC 5280, 40 digits; anything longer is cut to what the length byte holds.
fn short(serial: &str) -> &str {
    serial.get(..serial.len().min(usize::from(u8::MAX))).unwrap_or_default()
}

/// Body length and checksum of a record's head.
pub(super) fn read_head(head: [u8; RECORD_HEAD_BYTES]) -> Result<(usize, u32), RecordFault> {
    let [l0, l1, l2, l3, crc @ ..] = head;
    let length = u32::from_le_bytes([l0, l1, l2, l3]);
    let n = usize::try_from(length).map_err(|_| RecordFault::TooLong(length))?;
    if n > RECORD_BYTES_MAX { Err(RecordFault::TooLong(length)) } else { Ok((n, u32::from_le_bytes(crc))) }
}

/// Checks a body against its head.
pub(super) fn check_body(body: &[u8], crc: u32) -> Result<(), RecordFault> {
    let length = u32::try_from(body.len()).map_err(|_| RecordFault::Short)?;
    let found = crc32c::crc32c_append(crc32c::crc32c(&length.to_le_bytes()), body);
    if found == crc { Ok(()) } else { Err(RecordFault::Crc) }
}

/// Reads a body whose checksum was right.
pub(super) fn read_body(
    body: &[u8],
    position: LandingPosition,
    end: LandingPosition,
) -> Result<Landed, RecordFault> {
    let mut reader = Reader::new(body);
    let kind = reader.u8()?;
    let digit = reader.u8()?;
    let lane = Lane::ALL.into_iter().find(|lane| lane.digit() == digit).ok_or(RecordFault::Field("lane"))?;
    let tenant = text(&mut reader)?.parse().map_err(|_| RecordFault::Field("tenant"))?;
    let device = text(&mut reader)?.parse().map_err(|_| RecordFault::Field("device"))?;
    let key_serial = text(&mut reader)?.to_owned();
    let device = DevicePath { tenant, device };
    let received = UtcNanos(reader.i64()?);
    match kind {
        KIND_MESSAGE => {
            let message = reader.take_rest();
            let envelope = Envelope::parse(message)?;
            Ok(Landed::Message(LandedMessage {
                position,
                end,
                device,
                epoch: envelope.epoch,
                kind: envelope.kind,
                lane,
                sent: envelope.sent,
                received,
                key_id: envelope.key_id,
                key_serial,
                imported: false,
                digest: envelope.digest,
                signature: envelope.signature,
                message: message.into(),
            }))
        }
        KIND_BLOB => {
            let epoch = Epoch(reader.u64()?);
            let object = ObjectId(reader.array()?);
            let claimed = reader.u32()?;
            let part_len = usize::try_from(claimed).map_err(|_| RecordFault::TooLong(claimed))?;
            let part = reader.take(part_len)?.into();
            let bytes = reader.take_rest().into();
            Ok(Landed::Blob(LandedBlob {
                position,
                end,
                device,
                epoch,
                received,
                object,
                key_serial,
                part,
                bytes,
            }))
        }
        KIND_WHOLE_BLOB => {
            let epoch = Epoch(reader.u64()?);
            let object = ObjectId(reader.array()?);
            let part = reader.take_rest();
            let bytes = whole(part).ok_or(RecordFault::Field("part"))?.into();
            let part = part.into();
            let blob = LandedBlob { position, end, device, epoch, received, object, key_serial, part, bytes };
            Ok(Landed::Blob(blob))
        }
        kind => Err(RecordFault::Kind(kind)),
    }
}

fn text<'a>(reader: &mut Reader<'a>) -> Result<&'a str, RecordFault> {
    let n = usize::from(reader.u8()?);
    std::str::from_utf8(reader.take(n)?).map_err(|_| RecordFault::Field("text"))
}

/// A record as a reader gives it, for models without files.
#[cfg(test)]
pub(crate) fn read_back(record: &LandRecord, span: super::Span) -> Landed {
    let bytes = record.to_bytes();
    read_body(&bytes[RECORD_HEAD_BYTES..], span.position, span.end).unwrap()
}

#![doc = include_str!("FORMAT.md")]

mod read;
mod write;

pub use read::{ExportError, ExportReader};
pub use write::ExportWriter;

use crate::id::{DevicePath, Epoch};
use crate::wire::{Lane, MESSAGE_BYTES_ACCEPTED_MAX, MessageKind, Sent};

/// First bytes of every export.
pub const MAGIC: [u8; 8] = *b"HWEXPORT";
/// Version that is written and read.
pub const VERSION: u16 = 1;
/// Bytes of the header.
const HEADER_BYTES: usize = 16;
/// Bytes before a record's payload.
const HEAD_BYTES: usize = 9;
/// Longest payload: the largest message and what says where it belongs. Checked before anything is allocated.
pub const PAYLOAD_BYTES_MAX: usize = MESSAGE_BYTES_ACCEPTED_MAX + 64;
/// Longest name of the software that wrote an export, bytes.
const SOFTWARE_BYTES_MAX: usize = 128;

const KIND_ORIGIN: u8 = 1;
const KIND_MESSAGE: u8 = 2;
const KIND_UNSIGNED: u8 = 3;
const KIND_END: u8 = 4;

/// Whose spool an export holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The gateway.
    pub device: DevicePath,
    /// Name and version of what wrote it, for people.
    pub software: String,
    /// Messages are signed by the gateway's own key.
    pub signed: bool,
}

/// One message of an export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exported {
    /// Signed by the gateway.
    Message {
        /// Lane of its topic.
        lane: Lane,
        /// The whole signed message.
        message: Vec<u8>,
    },
    /// To be signed by whoever imports it.
    Unsigned {
        /// Lane of its topic.
        lane: Lane,
        /// What it carries.
        kind: MessageKind,
        /// Life of the spool it comes from.
        epoch: Epoch,
        /// A time before which it cannot have been sent.
        sent: Sent,
        /// Its body.
        body: Vec<u8>,
    },
}

/// What a whole export holds, as its end says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Messages.
    pub messages: u64,
    /// Rows.
    pub rows: u64,
    /// Blobs.
    pub blobs: u64,
}

/// Sum of a record.
fn crc(number: u64, kind: u8, length: u32, payload: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&number.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &[kind]);
    crc32c::crc32c_append(crc32c::crc32c_append(crc, &length.to_le_bytes()), payload)
}

#[cfg(test)]
mod tests;

#![doc = include_str!("FORMAT.md")]

mod body;
mod codec;
mod column;
mod section;

pub use body::{Batch, BatchError, decode_batch, encode_batch};
pub use codec::{CODECS_SUPPORTED, CodecError};
pub use column::{Column, Values};
pub use section::{Heartbeat, Refused, Rows, SEQ_END_MAX, Section, StreamRef};

/// How much work encoding may spend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// For slabs on disk: cheap to write.
    Spool,
    /// For messages: small.
    Wire,
}

/// Everything a decoder checks before it allocates; one over is a named error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Unpacked small region, bytes. 96 KiB messages of real streams unpack to less than 1 MiB.
    pub small_raw_bytes_max: usize,
    /// Sections of a batch: one for each of a device's 256 streams.
    pub sections_max: usize,
    /// Columns of a section.
    pub columns_max: usize,
    /// Rows × columns of a message: 8 MiB decoded, within 50 ms.
    pub values_max: usize,
    /// Bytes and text decoded from one message; bounds constant columns of long values.
    pub decoded_bytes_max: usize,
    /// One bytes or text value.
    pub value_bytes_max: usize,
}

impl Limits {
    /// The limits of protocol version 1.
    pub const V1: Limits = Limits {
        small_raw_bytes_max: 4 << 20,
        sections_max: 256,
        columns_max: 4096,
        values_max: 1 << 20,
        decoded_bytes_max: 16 << 20,
        value_bytes_max: crate::sample::VALUE_BYTES_MAX,
    };
}

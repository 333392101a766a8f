//! Columns, sections and batches: the one codec of spool and wire. [`crate::wire`] draws the bytes.

mod body;
mod codec;
mod column;
mod encoder;
mod explain;
mod pack;
mod section;

pub use body::{Batch, BatchError, PACKINGS_SUPPORTED, decode_batch};
pub use codec::{CODECS_BASELINE, CODECS_SUPPORTED, CodecError, codec_name, type_name};
pub use column::{Column, Values};
pub use encoder::{Announced, Encoder, encode_batch};
pub use explain::{Layout, SectionLayout, explain};
pub use section::{ColumnLayout, Heartbeat, Refused, Rows, SEQ_END_MAX, Section, StreamRef};

/// How much work encoding may spend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// For slabs on disk: cheap to write.
    Spool,
    /// For messages: small.
    Wire,
    /// For messages on a link that is paid by the byte: a little smaller, at two to three times the work.
    Metered,
}

impl Effort {
    /// Compression level of pco columns.
    fn pco_level(self) -> usize {
        match self {
            Self::Spool | Self::Wire => 4,
            Self::Metered => 8,
        }
    }
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
    /// Rows × columns of a message, fewer than eight rows counted as eight: 8 MiB decoded, within 50 ms.
    pub values_max: usize,
    /// Bytes and text decoded from one message, 48 bytes added for each value; bounds constant columns.
    pub decoded_bytes_max: usize,
    /// One bytes or text value.
    pub value_bytes_max: usize,
    /// States of the tables that pco columns of a message make a decoder build. pco plans for at most
    /// max(128, rows) in each of three tables a column, so four a value are never reached.
    pub pco_states_max: usize,
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
        pco_states_max: 4 << 20,
    };
}

//! The frames that travel between a microcontroller and the agent.
//!
#![doc = include_str!("FORMAT.md")]

mod control;
mod decoder;
mod field;
mod frame;
mod header;
mod hello;
mod payload;
mod sample;

pub use control::{HelloReq, LOG_TEXT_BYTES_MAX, Log, LogLevel, Ping, Pong};
pub use decoder::{LinkDecoder, LinkError, LinkStats};
pub use field::{Field, FieldList, FieldType, Fields, Value};
pub use frame::{CRC_BYTES, LinkFrame, PAYLOAD_BYTES_MAX, RAW_BYTES_MAX, WIRE_BYTES_MAX, encode};
pub use header::{Flags, HEADER_BYTES, Header, LinkType};
pub use hello::{
    Caps, Hello, HelloBody, Identity, LINK_VERSION, MAX_RX_MIN, STREAM_DEVICE, SchemaCrc, StreamDescriptor,
    T2Point, schema_crc,
};
pub use payload::{BuildError, PayloadError};
pub use sample::{Row, RowValues, Rows, Sample, SampleWriter};

pub use crate::bytes::NoRoom;

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
mod request;
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
pub use request::{
    COMMAND_IDENTIFY, COMMAND_RESET, COMMAND_RESET_COUNTERS, COMMAND_SAMPLE_ONCE, COMMAND_SELF_TEST, Command,
    Config, KEY_AVERAGING, KEY_ENABLED, KEY_PERIOD_US, KEY_RANGE, Knob, OWN_FROM, REQUEST_DATA_BYTES_MAX,
    Reply, ReplyCode, RequestData,
};
pub use sample::{Row, RowValues, Rows, Sample, SampleWriter};

pub(crate) use frame::{FrameWriter, raw_bytes};

pub use crate::bytes::NoRoom;

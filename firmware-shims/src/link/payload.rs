//! What can be wrong with a payload, in one place, so that every codec says it the same way.

use core::fmt;

use crate::bytes::NoRoom;

/// Why bytes with a right checksum are still not the payload they claim to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PayloadError {
    /// The bytes end inside a field.
    Truncated,
    /// Bytes are left over after the last field.
    Trailing,
    /// A text is not UTF-8.
    NotUtf8,
    /// A text is longer than its limit.
    TextTooLong,
    /// The device speaks another version of the link.
    Version(u8),
    /// A field type of no known code.
    FieldType(u8),
    /// A SAMPLE without rows.
    NoRows,
    /// The values do not fill `count` rows of the stream's fields.
    RowBytes {
        /// What rows and fields ask for.
        expected: usize,
        /// What the payload holds.
        found: usize,
    },
    /// A HELLO whose index is not below its total.
    HelloIndex {
        /// The index.
        index: u8,
        /// The total.
        total: u8,
    },
    /// A `t2_point` of no known code.
    T2Point(u8),
    /// A device that cannot take the smallest host frame.
    MaxRx(u16),
    /// A stream number that stands for the device itself.
    ReservedStream,
    /// Arguments or data longer than their limit.
    DataTooLong,
}

impl fmt::Display for PayloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("payload ends inside a field"),
            Self::Trailing => f.write_str("payload has bytes after its last field"),
            Self::NotUtf8 => f.write_str("text is not utf-8"),
            Self::TextTooLong => f.write_str("text is longer than its limit"),
            Self::Version(version) => write!(f, "link version {version} is not known"),
            Self::FieldType(code) => write!(f, "field type {code:#04x} is not known"),
            Self::NoRows => f.write_str("sample frame has no rows"),
            Self::RowBytes { expected, found } => {
                write!(f, "rows ask for {expected} bytes but {found} are there")
            }
            Self::HelloIndex { index, total } => {
                write!(f, "hello {index} is not below its total of {total}")
            }
            Self::T2Point(code) => write!(f, "t2 point {code} is not known"),
            Self::MaxRx(bytes) => write!(f, "device takes only {bytes} bytes"),
            Self::ReservedStream => f.write_str("stream number stands for the device"),
            Self::DataTooLong => f.write_str("arguments or data are longer than their limit"),
        }
    }
}

impl core::error::Error for PayloadError {}

/// Why a payload cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildError {
    /// It does not fit the buffer, or one frame.
    NoRoom,
    /// A text is longer than its limit.
    TextTooLong,
    /// More than 255 fields.
    TooManyFields,
    /// A row of another length than the first one.
    RowBytes,
    /// A SAMPLE without rows.
    NoRows,
    /// Index 0 is the identity, the others are streams, and all are below the total.
    HelloIndex,
    /// A device must take at least [`MAX_RX_MIN`](super::MAX_RX_MIN) bytes.
    MaxRx,
    /// Stream 255 stands for the device itself.
    ReservedStream,
    /// No stream of the device has this number.
    UnknownStream,
    /// A value of another type than its field.
    ValueType,
    /// Data longer than [`REQUEST_DATA_BYTES_MAX`](super::REQUEST_DATA_BYTES_MAX).
    DataTooLong,
    /// No request waits for an answer.
    NoRequest,
    /// The queue could never hold one of the device's HELLO frames: make it larger.
    QueueTooSmall,
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoRoom => "payload does not fit",
            Self::TextTooLong => "text is longer than its limit",
            Self::TooManyFields => "stream has more than 255 fields",
            Self::RowBytes => "row has another length than the first one",
            Self::NoRows => "sample frame has no rows",
            Self::HelloIndex => "hello index does not fit its body or total",
            Self::MaxRx => "device takes less than the smallest host frame",
            Self::ReservedStream => "stream number stands for the device",
            Self::UnknownStream => "no stream of the device has this number",
            Self::ValueType => "value has another type than its field",
            Self::DataTooLong => "data are longer than their limit",
            Self::NoRequest => "no request waits for an answer",
            Self::QueueTooSmall => "queue is too small for a HELLO frame of this device: make it larger",
        })
    }
}

impl core::error::Error for BuildError {}

impl From<NoRoom> for BuildError {
    fn from(_: NoRoom) -> Self {
        Self::NoRoom
    }
}

//! Turns a header and a payload into bytes for the wire, straight into the sender's buffer.

use super::header::{HEADER_BYTES, Header};
use crate::bytes::NoRoom;
use crate::cobs::{Stuffer, encoded_bytes_max};
use crate::crc::Crc16;

/// Bytes of the checksum at the end of a raw frame.
pub const CRC_BYTES: usize = 2;

/// The most bytes of header, payload and checksum together that a host accepts: 89 ms of a line
/// at 115200 baud, and small enough for a board to hold one.
pub const RAW_BYTES_MAX: usize = 1024;

/// The most bytes of one payload.
pub const PAYLOAD_BYTES_MAX: usize = RAW_BYTES_MAX - HEADER_BYTES - CRC_BYTES;

/// The most bytes one frame takes on the wire: a buffer of this size always suffices.
pub const WIRE_BYTES_MAX: usize = encoded_bytes_max(RAW_BYTES_MAX);

/// One whole link frame whose checksum was right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkFrame<'a> {
    /// Its head.
    pub header: Header,
    /// What it carries; its form depends on `header.link_type`.
    pub payload: &'a [u8],
}

/// Writes one frame, delimiter included, to the front of `out`; returns the bytes written.
///
/// Refuses a payload above [`PAYLOAD_BYTES_MAX`], which every host would skip.
pub fn encode(out: &mut [u8], header: Header, payload: &[u8]) -> Result<usize, NoRoom> {
    if payload.len() > PAYLOAD_BYTES_MAX {
        return Err(NoRoom);
    }
    let mut crc = Crc16::new();
    let mut stuffer = Stuffer::new(out);
    for byte in header.to_bytes().iter().chain(payload) {
        crc.push(*byte);
        stuffer.push(*byte)?;
    }
    for byte in crc.value().to_le_bytes() {
        stuffer.push(byte)?;
    }
    stuffer.finish()
}

//! Turns a header and a payload into bytes for the wire, straight into the sender's buffer.

use super::header::{HEADER_BYTES, Header};
use crate::bytes::NoRoom;
use crate::cobs::{Room, Stuffer, encoded_bytes_max};
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
    let mut frame = FrameWriter::new(out, header)?;
    frame.bytes(payload)?;
    frame.finish(0)
}

/// Raw bytes of a frame with so many bytes of payload.
pub(crate) const fn raw_bytes(payload_bytes: usize) -> usize {
    payload_bytes.saturating_add(HEADER_BYTES).saturating_add(CRC_BYTES)
}

/// Writes one frame piece by piece, so that its payload needs no buffer of its own.
#[derive(Debug)]
pub(crate) struct FrameWriter<R> {
    stuffer: Stuffer<R>,
    crc: Crc16,
}

impl<R: Room> FrameWriter<R> {
    pub(crate) fn new(out: R, header: Header) -> Result<Self, NoRoom> {
        let mut frame = Self { stuffer: Stuffer::new(out), crc: Crc16::new() };
        frame.bytes(&header.to_bytes())?;
        Ok(frame)
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), NoRoom> {
        for byte in bytes {
            self.crc.push(*byte);
            self.stuffer.push(*byte)?;
        }
        Ok(())
    }

    /// Ends the frame; returns its bytes on the wire. `damage` is 0 but in a test build that lies.
    pub(crate) fn finish(mut self, damage: u16) -> Result<usize, NoRoom> {
        for byte in (self.crc.value() ^ damage).to_le_bytes() {
            self.stuffer.push(byte)?;
        }
        self.stuffer.finish()
    }
}

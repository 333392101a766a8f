//! SBUS of radio control receivers (Futaba and others).
//!
//! ```text
//! 0F | 16 channels of 11 bits, least significant first | flags u8 | 00
//! ```
//!
//! Flags: bit 0 channel 17, 1 channel 18, 2 frame lost, 3 failsafe. The last byte is 00, of SBUS2 also 04, 14, 24
//! or 34. There is no checksum: outside a run of frames one is believed when the next begins right behind it, so the
//! first of a run is given out with the first byte of its second.
//!
//! Source: no public specification; as documented in Bolder Flight Systems SBUS, version 8, README, "Description".
//! 100000 baud, 8E2, inverted level.

use super::feed::{FrameError, Look, Protocol};
use super::num::Bytes;
use super::view::message;
use super::{Message, Read};

/// Every frame has so many bytes.
pub const FRAME_BYTES: usize = 25;
const HEADER: u8 = 0x0F;

/// The protocol.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sbus;

impl Protocol for Sbus {
    fn look(&self, bytes: &[u8], in_sync: bool) -> Look {
        let Some(frame) = bytes.first_chunk::<FRAME_BYTES>() else {
            return if bytes.first() == Some(&HEADER) { Look::More(FRAME_BYTES) } else { Look::Noise };
        };
        let [header, .., flags, footer] = frame;
        if *header != HEADER {
            return Look::Noise;
        }
        if flags & 0xF0 != 0 || !matches!(*footer, 0x00 | 0x04 | 0x14 | 0x24 | 0x34) {
            return Look::Bad(FrameError::Malformed, FRAME_BYTES);
        }
        match bytes.get(FRAME_BYTES) {
            _ if in_sync => Look::Frame(FRAME_BYTES),
            Some(&HEADER) => Look::Frame(FRAME_BYTES),
            Some(_) => Look::Bad(FrameError::Malformed, FRAME_BYTES),
            None => Look::More(FRAME_BYTES.saturating_add(1)),
        }
    }
}

impl Read for Sbus {
    fn read(&self, frame: &[u8], sink: &mut dyn FnMut(&dyn Message)) -> bool {
        let message = SbusFrame::new(frame);
        if let Some(message) = &message {
            sink(message);
        }
        message.is_some()
    }
}

message! {
    /// One frame. Channels run from 0 to 2047; sticks mostly use 172 … 1811.
    SbusFrame = "sbus" {
        channel_1: u16, "1", "Channel 1.";
        channel_2: u16, "1", "Channel 2.";
        channel_3: u16, "1", "Channel 3.";
        channel_4: u16, "1", "Channel 4.";
        channel_5: u16, "1", "Channel 5.";
        channel_6: u16, "1", "Channel 6.";
        channel_7: u16, "1", "Channel 7.";
        channel_8: u16, "1", "Channel 8.";
        channel_9: u16, "1", "Channel 9.";
        channel_10: u16, "1", "Channel 10.";
        channel_11: u16, "1", "Channel 11.";
        channel_12: u16, "1", "Channel 12.";
        channel_13: u16, "1", "Channel 13.";
        channel_14: u16, "1", "Channel 14.";
        channel_15: u16, "1", "Channel 15.";
        channel_16: u16, "1", "Channel 16.";
        channel_17: bool, "1", "Digital channel 17.";
        channel_18: bool, "1", "Digital channel 18.";
        frame_lost: bool, "1", "The receiver lost a frame of the transmitter.";
        failsafe: bool, "1", "The receiver gives its failsafe values.";
    }
}

impl SbusFrame {
    /// The channels of a frame that [`Sbus`] found; `None` if it has another length.
    pub fn new(frame: &[u8]) -> Option<Self> {
        let b = Bytes(frame);
        let channel = |number: usize| {
            let bit = number.saturating_mul(11);
            let [low, mid, high] = b.array::<3>((bit >> 3).saturating_add(1));
            let word = u32::from_le_bytes([low, mid, high, 0]).checked_shr(u32::try_from(bit & 7).ok()?)?;
            u16::try_from(word & 0x7FF).ok()
        };
        (frame.len() == FRAME_BYTES).then_some(())?;
        Some(Self {
            channel_1: channel(0)?,
            channel_2: channel(1)?,
            channel_3: channel(2)?,
            channel_4: channel(3)?,
            channel_5: channel(4)?,
            channel_6: channel(5)?,
            channel_7: channel(6)?,
            channel_8: channel(7)?,
            channel_9: channel(8)?,
            channel_10: channel(9)?,
            channel_11: channel(10)?,
            channel_12: channel(11)?,
            channel_13: channel(12)?,
            channel_14: channel(13)?,
            channel_15: channel(14)?,
            channel_16: channel(15)?,
            channel_17: b.bit(23, 0),
            channel_18: b.bit(23, 1),
            frame_lost: b.bit(23, 2),
            failsafe: b.bit(23, 3),
        })
    }
}

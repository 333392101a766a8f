//! Winsen MH-Z19 and MH-Z14A carbon dioxide sensors, asked over their UART.
//!
//! ```text
//! FF | 01 | command | arguments 5 | check        to the sensor
//! FF | command | values 6 | check                its answer; check: two's complement of the sum of bytes 1 .. 7
//! ```
//!
//! Source: Winsen, Intelligent Infrared CO2 Module (Model: MH-Z19), User's Manual V1.0, section "UART", and
//! MH-Z19B manual V1.6. 9600 baud, 8N1. The bytes behind the concentration are undocumented and not read.

use super::feed::{FrameError, Look, Protocol};
use super::num::Bytes;
use super::sum::twos_complement8;
use super::view::message;
use super::{Message, Read};

/// Bytes of requests and answers.
pub const FRAME_BYTES: usize = 9;
const READ: u8 = 0x86;

/// The request for the concentration.
pub const READ_REQUEST: [u8; FRAME_BYTES] = [0xFF, 0x01, READ, 0, 0, 0, 0, 0, 0x79];

/// The request that turns the automatic baseline correction on or off: off where air is never fresh.
pub const fn self_calibration_request(on: bool) -> [u8; FRAME_BYTES] {
    if on { [0xFF, 0x01, 0x79, 0xA0, 0, 0, 0, 0, 0xE6] } else { [0xFF, 0x01, 0x79, 0, 0, 0, 0, 0, 0x86] }
}

/// The protocol: answers to [`READ_REQUEST`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Mhz19;

impl Protocol for Mhz19 {
    fn look(&self, bytes: &[u8], _: bool) -> Look {
        match bytes {
            [0xFF] => return Look::More(2),
            [0xFF, READ, ..] => {}
            _ => return Look::Noise,
        }
        let Some(frame) = bytes.first_chunk::<FRAME_BYTES>() else { return Look::More(FRAME_BYTES) };
        let [_, body @ .., check] = frame;
        if twos_complement8(body) == *check {
            Look::Frame(FRAME_BYTES)
        } else {
            Look::Bad(FrameError::Checksum, FRAME_BYTES)
        }
    }
}

impl Read for Mhz19 {
    fn read(&self, frame: &[u8], sink: &mut dyn FnMut(&dyn Message)) -> bool {
        let fits = frame.len() == FRAME_BYTES;
        if fits {
            sink(&Mhz19Reading { co2_ppm: Bytes(frame).u16_be(2) });
        }
        fits
    }
}

message! {
    /// One reading.
    Mhz19Reading = "mhz19" {
        co2_ppm: u16, "[ppm]", "Carbon dioxide.";
    }
}

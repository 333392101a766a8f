//! Nova SDS011 particulate sensors.
//!
//! ```text
//! AA C0 | PM2.5 u16 | PM10 u16 | device id 2 | sum u8 | AB        little-endian; tenths of µg/m3
//! ```
//!
//! Source: Nova Fitness, Laser PM2.5 Sensor specification, SDS011, V1.3, section "communication protocol", and
//! Laser Dust Sensor Control Protocol V1.3 (answers to commands: `C5` for `C0`). 9600 baud, 8N1.

use super::feed::{FrameError, Look, Protocol};
use super::num::Bytes;
use super::sum::sum8;
use super::view::message;
use super::{Message, Read};

/// Every frame has so many bytes.
pub const FRAME_BYTES: usize = 10;

/// The protocol.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sds011;

impl Protocol for Sds011 {
    fn look(&self, bytes: &[u8], _: bool) -> Look {
        match bytes {
            [0xAA] => return Look::More(2),
            [0xAA, 0xC0 | 0xC5, ..] => {}
            _ => return Look::Noise,
        }
        let Some(frame) = bytes.first_chunk::<FRAME_BYTES>() else { return Look::More(FRAME_BYTES) };
        let [_, _, data @ .., sum, tail] = frame;
        if *tail != 0xAB {
            Look::Bad(FrameError::Malformed, FRAME_BYTES)
        } else if sum8(data) != *sum {
            Look::Bad(FrameError::Checksum, FRAME_BYTES)
        } else {
            Look::Frame(FRAME_BYTES)
        }
    }
}

impl Read for Sds011 {
    fn read(&self, frame: &[u8], sink: &mut dyn FnMut(&dyn Message)) -> bool {
        let message = Sds011Reading::new(frame);
        if let Some(message) = &message {
            sink(message);
        }
        message.is_some()
    }
}

message! {
    /// One reading.
    Sds011Reading = "sds011" {
        pm2_5_ug_m3: f64, "ug/m3", "PM2.5.";
        pm10_ug_m3: f64, "ug/m3", "PM10.";
        device_id: u16, "1", "Number of the sensor, its first byte the high one.";
    }
}

impl Sds011Reading {
    /// The reading in a frame that [`Sds011`] found; `None` for answers to commands.
    pub fn new(frame: &[u8]) -> Option<Self> {
        let b = Bytes(frame);
        (frame.len() == FRAME_BYTES && b.u8(1) == 0xC0).then(|| Self {
            pm2_5_ug_m3: f64::from(b.u16(2)) / 10.0,
            pm10_ug_m3: f64::from(b.u16(4)) / 10.0,
            device_id: b.u16_be(6),
        })
    }
}

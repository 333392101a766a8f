//! Plantower particulate sensors: PMS3003, PMS5003, PMS7003, PMSA003, PMS5003ST.
//!
//! ```text
//! 42 4D | length u16 | values u16 ... | sum u16        big-endian; length counts what follows it
//! ```
//!
//! Source: Plantower, PMS5003 series data manual, English V2.3 and V2.5, appendix I "transport protocol";
//! the lengths of others from their data manuals (PMS3003: 20, PMS5003ST: 36). 9600 baud, 8N1.

use super::feed::{FrameError, Look, Protocol};
use super::num::Bytes;
use super::sum::sum16;
use super::view::message;
use super::{Message, Read};

/// Longest frame, bytes: that of the PMS5003ST. A sync in noise that claims more is none.
pub const FRAME_BYTES_MAX: usize = 40;
/// What the length does not count.
const HEAD_BYTES: usize = 4;

/// The protocol.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pms;

impl Protocol for Pms {
    fn look(&self, bytes: &[u8], _: bool) -> Look {
        match bytes {
            [0x42] => return Look::More(2),
            [0x42, 0x4D, ..] => {}
            _ => return Look::Noise,
        }
        let Some(head) = bytes.first_chunk::<HEAD_BYTES>() else { return Look::More(HEAD_BYTES) };
        let [_, _, high, low] = *head;
        let len = usize::from(u16::from_be_bytes([high, low])).saturating_add(HEAD_BYTES);
        // Four bytes behind the length are the answer to a command, the shortest there is.
        if !(8..=FRAME_BYTES_MAX).contains(&len) {
            return Look::Bad(FrameError::Length, HEAD_BYTES);
        }
        match bytes.get(..len).map(<[u8]>::split_last_chunk) {
            None => Look::More(len),
            Some(Some((body, sum))) if sum16(body) == u16::from_be_bytes(*sum) => Look::Frame(len),
            Some(_) => Look::Bad(FrameError::Checksum, len),
        }
    }
}

impl Read for Pms {
    fn read(&self, frame: &[u8], sink: &mut dyn FnMut(&dyn Message)) -> bool {
        let message = PmsReading::new(frame);
        if let Some(message) = &message {
            sink(message);
        }
        message.is_some()
    }
}

message! {
    /// One reading. Fields a model lacks are missing.
    PmsReading = "pms" {
        pm1_0_factory_ug_m3: u16, "ug/m3", "PM1.0 by the factory's calibration (CF = 1).";
        pm2_5_factory_ug_m3: u16, "ug/m3", "PM2.5 by the factory's calibration.";
        pm10_factory_ug_m3: u16, "ug/m3", "PM10 by the factory's calibration.";
        pm1_0_ug_m3: u16, "ug/m3", "PM1.0 under atmospheric conditions.";
        pm2_5_ug_m3: u16, "ug/m3", "PM2.5 under atmospheric conditions.";
        pm10_ug_m3: u16, "ug/m3", "PM10 under atmospheric conditions.";
        above_0_3_um_dl: Option<u16>, "/dL", "Particles beyond 0.3 µm in 0.1 L.";
        above_0_5_um_dl: Option<u16>, "/dL", "Particles beyond 0.5 µm in 0.1 L.";
        above_1_0_um_dl: Option<u16>, "/dL", "Particles beyond 1.0 µm in 0.1 L.";
        above_2_5_um_dl: Option<u16>, "/dL", "Particles beyond 2.5 µm in 0.1 L.";
        above_5_0_um_dl: Option<u16>, "/dL", "Particles beyond 5.0 µm in 0.1 L.";
        above_10_um_dl: Option<u16>, "/dL", "Particles beyond 10 µm in 0.1 L.";
        formaldehyde_ug_m3: Option<u16>, "ug/m3", "Formaldehyde (PMS5003ST).";
        temperature_cel: Option<f64>, "Cel", "Temperature (PMS5003ST).";
        humidity_percent: Option<f64>, "%", "Relative humidity (PMS5003ST).";
        error_code: Option<u8>, "1", "The sensor's own error code, 0 for none.";
    }
}

impl PmsReading {
    /// The reading in a frame that [`Pms`] found; `None` for answers to commands.
    pub fn new(frame: &[u8]) -> Option<Self> {
        let b = Bytes(frame);
        let word = |number: usize| b.u16_be(number.saturating_mul(2).saturating_add(2));
        let (counts, full) = match frame.len() {
            24 => (false, false),
            32 => (true, false),
            40 => (true, true),
            _ => return None,
        };
        let count = |number: usize| counts.then(|| word(number));
        Some(Self {
            pm1_0_factory_ug_m3: word(1),
            pm2_5_factory_ug_m3: word(2),
            pm10_factory_ug_m3: word(3),
            pm1_0_ug_m3: word(4),
            pm2_5_ug_m3: word(5),
            pm10_ug_m3: word(6),
            above_0_3_um_dl: count(7),
            above_0_5_um_dl: count(8),
            above_1_0_um_dl: count(9),
            above_2_5_um_dl: count(10),
            above_5_0_um_dl: count(11),
            above_10_um_dl: count(12),
            formaldehyde_ug_m3: full.then(|| word(13)),
            temperature_cel: full.then(|| f64::from(word(14).cast_signed()) / 10.0),
            humidity_percent: full.then(|| f64::from(word(15)) / 10.0),
            error_code: counts.then(|| b.u8(frame.len().saturating_sub(3))),
        })
    }
}

//! Modbus over a serial line, framed as RTU.

use super::{ReadRequest, Reply, reply_in};
use crate::vendor::feed::{FrameError, Look, Protocol};
use crate::vendor::sum::crc16_modbus;

const CRC_BYTES: usize = 2;
/// Unit, function, code and checksum.
const EXCEPTION_BYTES: usize = 5;

/// The protocol: answers to one request. The request itself, echoed by a two-wire adapter, is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rtu(pub ReadRequest);

impl Rtu {
    /// The request's bytes.
    pub fn request(self) -> [u8; 8] {
        let [a, b, c, d, e] = self.0.body();
        let [low, high] = crc16_modbus(&[self.0.unit, a, b, c, d, e]).to_le_bytes();
        [self.0.unit, a, b, c, d, e, low, high]
    }

    /// What a frame that was found says.
    pub fn reply(self, frame: &[u8]) -> Option<Reply<'_>> {
        let (unit_and_body, _) = frame.split_last_chunk::<CRC_BYTES>()?;
        let (unit, body) = unit_and_body.split_first()?;
        (*unit == self.0.unit).then(|| reply_in(self.0, body)).flatten()
    }
}

impl Protocol for Rtu {
    fn look(&self, bytes: &[u8], _: bool) -> Look {
        let Self(request) = self;
        let function = request.function.code();
        if bytes.first() != Some(&request.unit) {
            return Look::Noise;
        }
        let len = match bytes.get(1..) {
            Some([]) | None => return Look::More(2),
            Some([code, ..]) if *code == function | 0x80 => EXCEPTION_BYTES,
            Some([code, rest @ ..]) if *code == function => match rest.first() {
                None => return Look::More(3),
                Some(count) if usize::from(*count) == request.data_bytes() => {
                    request.data_bytes().saturating_add(EXCEPTION_BYTES)
                }
                Some(_) => return Look::Noise,
            },
            Some(_) => return Look::Noise,
        };
        match bytes.get(..len).map(<[u8]>::split_last_chunk) {
            None => Look::More(len),
            Some(Some((body, crc))) if crc16_modbus(body) == u16::from_le_bytes(*crc) => Look::Frame(len),
            Some(_) => Look::Bad(FrameError::Checksum, len),
        }
    }
}

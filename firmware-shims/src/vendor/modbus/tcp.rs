//! Modbus over TCP: the same body behind a header of its own, without a checksum.

use super::{ReadRequest, Reply, reply_in};
use crate::vendor::feed::{FrameError, Look, Protocol};

/// Transaction, protocol, length.
const HEAD_BYTES: usize = 6;
/// Unit and body.
const BODY_BYTES_MAX: usize = 254;

/// The protocol: the answer to one request, known by its transaction. Late answers to others are frames too, but say
/// nothing ([`Tcp::reply`] is `None`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tcp {
    /// What is asked.
    pub request: ReadRequest,
    /// A number that comes back in the answer.
    pub transaction: u16,
}

impl Tcp {
    /// The request's bytes.
    pub fn request(self) -> [u8; 12] {
        let ([high, low], [a, b, c, d, e]) = (self.transaction.to_be_bytes(), self.request.body());
        [high, low, 0, 0, 0, 6, self.request.unit, a, b, c, d, e]
    }

    /// What a frame that was found says to this request.
    pub fn reply(self, frame: &[u8]) -> Option<Reply<'_>> {
        let (head, unit_and_body) = frame.split_first_chunk::<HEAD_BYTES>()?;
        let [high, low, ..] = *head;
        let (unit, body) = unit_and_body.split_first()?;
        let mine = u16::from_be_bytes([high, low]) == self.transaction && *unit == self.request.unit;
        mine.then(|| reply_in(self.request, body)).flatten()
    }
}

impl Protocol for Tcp {
    fn look(&self, bytes: &[u8], _: bool) -> Look {
        let Some(head) = bytes.first_chunk::<HEAD_BYTES>() else { return Look::More(HEAD_BYTES) };
        let [_, _, 0, 0, high, low] = *head else { return Look::Bad(FrameError::Malformed, 1) };
        let body = usize::from(u16::from_be_bytes([high, low]));
        if !(3..=BODY_BYTES_MAX).contains(&body) {
            return Look::Bad(FrameError::Length, 1);
        }
        let len = body.saturating_add(HEAD_BYTES);
        if bytes.len() < len { Look::More(len) } else { Look::Frame(len) }
    }
}

//! Decodes the link protocol of attached boards with the very code the boards use.
//!
//! A board names its streams itself (HELLO), so nothing but the port stands in the configuration.
//! Frames that arrive before the board introduced itself wait in a small buffer.

mod device;
mod stream;

use super::framing::{Decoded, Notice};
use device::Device;
use headwater_core::id::StreamName;
use headwater_core::time::{BootNanos, Latency};
use headwater_shims::link::{Flags, Header, LinkDecoder, LinkType, RAW_BYTES_MAX, WIRE_BYTES_MAX, encode};

/// Between two frames to the board, ms: it repeats HELLO every 2 s until it hears a PING.
const TALK_MS: u64 = 1_000;

/// State of one link.
#[derive(Debug)]
pub struct LinkDecoding {
    frames: LinkDecoder<RAW_BYTES_MAX>,
    device: Device,
    talk_at: BootNanos,
    sent: u16,
    opened: bool,
}

impl LinkDecoding {
    /// A link whose device's streams are called `base`, or hang below it if there are several.
    #[must_use]
    pub fn new(base: StreamName, latency: Latency) -> Self {
        Self {
            frames: LinkDecoder::new(),
            device: Device::new(base, latency),
            talk_at: BootNanos(i64::MIN),
            sent: 0,
            opened: true,
        }
    }

    /// Takes bytes that arrived at `at`.
    pub fn push(&mut self, bytes: &[u8], at: BootNanos, out: &mut Decoded) {
        for byte in bytes {
            match self.frames.push(*byte) {
                None => {}
                Some(Ok(frame)) => self.device.frame(frame, at, out),
                Some(Err(_)) => {
                    self.device.frame_failed();
                    out.notices.push(Notice::LinkError);
                }
            }
        }
        if self.device.take_hello_wanted() {
            self.talk_at = at;
        }
    }

    /// The port was opened again: hunts for the next frame, and asks who is there.
    pub fn reopened(&mut self, now: BootNanos) {
        self.frames.hunt();
        self.device.reopened();
        self.talk_at = now;
        self.opened = true;
    }

    /// Writes HELLO_REQ until the device is known, then PING.
    pub fn poll(&mut self, now: BootNanos, outbox: &mut Vec<u8>) {
        if now < self.talk_at {
            return;
        }
        self.talk_at = now.plus_ms(TALK_MS);
        // A delimiter first, so that line noise cannot swallow our first frame.
        if std::mem::take(&mut self.opened) {
            outbox.push(0);
        }
        let link_type = if self.device.is_known() { LinkType::Ping } else { LinkType::HelloReq };
        let t_us = u64::try_from(now.0 / 1_000).unwrap_or(0);
        let header = Header { link_type, flags: Flags::NONE, seq: self.sent, t_us };
        self.sent = self.sent.wrapping_add(1);
        let mut wire = [0; WIRE_BYTES_MAX];
        if let Ok(len) = encode(&mut wire, header, &[]) {
            outbox.extend_from_slice(wire.get(..len).unwrap_or_default());
        }
    }

    /// When [`LinkDecoding::poll`] has something to send.
    #[must_use]
    pub fn deadline(&self) -> BootNanos {
        self.talk_at
    }
}

#[cfg(test)]
mod tests;

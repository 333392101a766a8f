//! Decodes the link protocol of attached boards with the very code the boards use.
//!
//! A board names its streams itself (HELLO), so nothing but the port stands in the configuration.
//! Frames that arrive before the board introduced itself wait in a small buffer.

mod clock;
mod device;
mod stream;

pub use clock::ClockUse;

use super::arrival::{Arrivals, ReadAt};
use super::framing::{Decoded, Notice};
use device::{Device, Place};
use headwater_core::id::StreamName;
use headwater_core::time::BootNanos;
use headwater_shims::link::{
    CRC_BYTES, Flags, HEADER_BYTES, Header, LinkDecoder, LinkType, RAW_BYTES_MAX, WIRE_BYTES_MAX, encode,
};

/// Between two requests for a HELLO, ms: a board repeats it every 2 s until it hears a PING.
const TALK_MS: u64 = 1_000;

/// State of one link.
#[derive(Debug)]
pub struct LinkDecoding {
    frames: LinkDecoder<RAW_BYTES_MAX>,
    device: Device,
    /// Bytes since the last delimiter.
    open_bytes: usize,
    hello_at: BootNanos,
    sent: u16,
    opened: bool,
}

impl LinkDecoding {
    /// A link whose device's streams are called `base`, or hang below it if there are several.
    #[must_use]
    pub fn new(base: StreamName, arrivals: Arrivals, uses: ClockUse) -> Self {
        Self {
            frames: LinkDecoder::new(),
            device: Device::new(base, arrivals, uses),
            open_bytes: 0,
            hello_at: BootNanos(i64::MIN),
            sent: 0,
            opened: true,
        }
    }

    /// The port holds bytes back for up to `hold_ns`.
    pub fn port(&mut self, hold_ns: i64) {
        self.device.arrivals.hold_ns = hold_ns;
    }

    /// Takes the bytes of a read.
    pub fn push(&mut self, bytes: &[u8], read: ReadAt, out: &mut Decoded) {
        for (at, byte) in bytes.iter().enumerate() {
            let own = self.open_bytes.saturating_add(1);
            self.open_bytes = if *byte == 0 { 0 } else { own };
            match self.frames.push(*byte) {
                None => {}
                Some(Ok(frame)) => {
                    let after = bytes.len().saturating_sub(at).saturating_sub(1);
                    self.device.frame(frame, Place { read, own, after }, out);
                }
                Some(Err(_)) => {
                    self.device.frame_failed();
                    out.notices.push(Notice::LinkError);
                }
            }
        }
        if self.device.take_hello_wanted() {
            self.hello_at = read.at;
        }
    }

    /// The port was opened again: hunts for the next frame, and asks who is there.
    pub fn reopened(&mut self, now: BootNanos, out: &mut Decoded) {
        self.frames.hunt();
        self.open_bytes = 0;
        self.device.reopened(now, out);
        self.hello_at = now;
        self.opened = true;
    }

    /// Writes HELLO_REQ until the device is known, then PING; gives out exchanges that are complete.
    pub fn poll(&mut self, now: BootNanos, outbox: &mut Vec<u8>, out: &mut Decoded) {
        self.device.clock.poll(now, out);
        if !self.device.is_known() {
            if now >= self.hello_at {
                self.hello_at = now.plus_ms(TALK_MS);
                self.sent = self.sent.wrapping_add(1);
                let t_us = u64::try_from(now.0 / 1_000).unwrap_or(0);
                self.say(LinkType::HelloReq, self.sent, t_us, outbox);
            }
        } else if let Some((seq, t_us)) = self.device.clock.ask(now, PING_BYTES, out) {
            self.say(LinkType::Ping, seq, t_us, outbox);
        }
    }

    fn say(&mut self, link_type: LinkType, seq: u16, t_us: u64, outbox: &mut Vec<u8>) {
        // A delimiter first, so that line noise cannot swallow our first frame.
        if std::mem::take(&mut self.opened) {
            outbox.push(0);
        }
        let header = Header { link_type, flags: Flags::NONE, seq, t_us };
        let mut wire = [0; WIRE_BYTES_MAX];
        if let Ok(len) = encode(&mut wire, header, &[]) {
            outbox.extend_from_slice(wire.get(..len).unwrap_or_default());
        }
    }

    /// When [`LinkDecoding::poll`] has something to do.
    #[must_use]
    pub fn deadline(&self) -> BootNanos {
        let talk = if self.device.is_known() { self.device.clock.ask_at() } else { self.hello_at };
        self.device.clock.window_ends().map_or(talk, |ends| talk.min(ends))
    }
}

/// Bytes a PING takes on the wire: a header, a checksum, the byte stuffing of both and the delimiter.
const PING_BYTES: usize = HEADER_BYTES + CRC_BYTES + 2;

#[cfg(test)]
mod pty_tests;
#[cfg(test)]
mod tests;

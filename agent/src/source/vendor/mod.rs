//! Devices that speak a protocol of their own: frames become rows, and those that want to be asked are asked.
//!
//! Nothing here knows a device: `headwater_shims::vendor` finds frames and names the fields of messages,
//! [`Streams`] declares a stream per kind of message and [`Polling`] asks. A protocol that is added there needs a
//! word in the configuration and a row in [`VendorProtocol`].

mod fix;
mod polling;
mod protocol;
mod streams;

pub use polling::{ANSWER_MS_MAX, Polling};
pub use protocol::{ModbusRead, Requests, VendorProtocol};
pub use streams::Streams;

use super::arrival::{Arrivals, ReadAt};
use super::framing::{Decoded, Notice};
use fix::Fixes;
use headwater_core::gap::GapCause;
use headwater_core::id::StreamName;
use headwater_core::ports::SourceEvent;
use headwater_core::time::BootNanos;
use headwater_shims::vendor::{FeedStats, Feeder, Message, Read, ubx};
use protocol::Shared;

/// Longest frame of any protocol: that of u-blox.
const FRAME_BYTES_MAX: usize = ubx::FRAME_BYTES_MAX;
/// Silence after which a frame that is open is cut, ms: a frame comes without a pause, and no adapter holds bytes back
/// for so long.
const SILENCE_MS: u64 = 500;

/// State of one device.
#[derive(Debug)]
pub struct VendorDecoding {
    stream: StreamName,
    arrivals: Arrivals,
    feeder: Feeder<Shared, FRAME_BYTES_MAX>,
    streams: Streams,
    /// Of receivers.
    fixes: Option<Fixes>,
    polling: Option<Polling>,
    seen: FeedStats,
    /// When bytes last came, if a frame may be open since.
    open_since: Option<BootNanos>,
    /// Frames that failed since the last good one.
    failed: u64,
}

impl VendorDecoding {
    /// A device that speaks `protocol`, with its streams at or below `stream`.
    #[must_use]
    pub fn new(stream: StreamName, arrivals: Arrivals, protocol: VendorProtocol) -> Self {
        let polling = protocol.requests().map(Polling::new);
        let streams = Streams::new(stream.clone(), protocol.has_one_kind());
        let fixes = (protocol == VendorProtocol::Ubx).then(|| Fixes::new(stream.clone()));
        let first = polling.as_ref().map_or(protocol, Polling::expected);
        Self {
            stream,
            arrivals,
            feeder: Feeder::new(Shared::new(first)),
            streams,
            fixes,
            polling,
            seen: FeedStats::default(),
            open_since: None,
            failed: 0,
        }
    }

    /// The port holds bytes back for up to `hold_ns`.
    pub fn port(&mut self, hold_ns: i64) {
        self.arrivals.hold_ns = hold_ns;
    }

    /// Takes the bytes of a read.
    pub fn push(&mut self, bytes: &[u8], read: ReadAt, out: &mut Decoded) {
        self.drain(bytes, read, out);
        let pending = self.feeder.stats().pending_bytes > 0;
        self.open_since = pending.then_some(read.at);
    }

    /// The port was opened again: what was half read is worth nothing, and what was asked is forgotten.
    pub fn reopened(&mut self, now: BootNanos, out: &mut Decoded) {
        self.silent(now, out);
        self.failed = 0;
        if let Some(polling) = &mut self.polling {
            polling.reopened(now);
        }
    }

    /// Cuts a frame that stays open, and asks when it is time: what to say goes to `outbox`.
    pub fn poll(&mut self, now: BootNanos, outbox: &mut Vec<u8>, out: &mut Decoded) {
        if self.cut_at().is_some_and(|at| at <= now) {
            self.silent(now, out);
        }
        if self.polling.as_ref().is_some_and(|polling| polling.deadline() <= now) {
            // What still comes of an answer is none to the next question.
            self.silent(now, out);
        }
        let expected = self.polling.as_mut().and_then(|polling| polling.poll(now, outbox, out));
        if let Some(expected) = expected {
            self.feeder.set_protocol(Shared::new(expected));
        }
    }

    /// When [`VendorDecoding::poll`] has something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<BootNanos> {
        let asks = self.polling.as_ref().map(Polling::deadline);
        [self.cut_at(), asks].into_iter().flatten().min()
    }

    fn cut_at(&self) -> Option<BootNanos> {
        self.open_since.map(|at| at.plus_ms(SILENCE_MS))
    }

    fn silent(&mut self, now: BootNanos, out: &mut Decoded) {
        self.feeder.close();
        self.drain(&[], ReadAt::prompt(now), out);
        self.open_since = None;
    }

    fn drain(&mut self, bytes: &[u8], read: ReadAt, out: &mut Decoded) {
        let mut input = bytes;
        let protocol = self.feeder.protocol().clone();
        while let Some(found) = self.feeder.next_frame(&mut input) {
            let Ok(found) = found else {
                self.failed = self.failed.saturating_add(1);
                out.notices.push(Notice::LinkError);
                continue;
            };
            let after = found.behind.saturating_add(input.len());
            let latency = self.arrivals.latency(read, found.bytes.len(), after);
            if std::mem::take(&mut self.failed) > 0 && self.streams.is_declared() {
                lost(&self.stream, read.at, self.streams.is_one(), out);
            }
            if let Some(polling) = &mut self.polling {
                polling.answered(protocol.refusal(found.bytes), &self.stream, read.at, out);
            }
            if let Some(fixes) = &mut self.fixes {
                fixes.frame(found.bytes, (read.at, latency), out);
            }
            let streams = &mut self.streams;
            protocol.read(found.bytes, &mut |message: &dyn Message| {
                streams.message(message, (read.at, latency), out);
            });
        }
        self.account(out);
    }

    /// Counts what was no frame since the last look.
    fn account(&mut self, out: &mut Decoded) {
        let stats = self.feeder.stats();
        let none = |stats: FeedStats| {
            stats.noise_bytes.wrapping_add(stats.rejected_bytes).wrapping_add(stats.unknown_bytes)
        };
        out.noise(none(stats).wrapping_sub(none(self.seen)));
        self.seen = stats;
    }
}

/// Frames failed between two good ones: of a device with one kind of message at least one row is missing; of others
/// nobody can say of which stream.
fn lost(stream: &StreamName, at: BootNanos, one: bool, out: &mut Decoded) {
    if one {
        let (stream, cause) = (stream.clone(), GapCause::LinkCorrupt);
        let note = "frames failed their check: one row at least".to_owned();
        out.events.push_back(SourceEvent::Lost { stream, rows: 1, cause, at, note });
    }
}

#[cfg(test)]
mod pty_tests;
#[cfg(test)]
mod tests;

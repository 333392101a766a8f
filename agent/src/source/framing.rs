//! From bytes to events: what every decoder of a byte stream has in common.
//!
//! Decoders are pure: bytes and times come in as arguments, events and notices go out as values.
//! The shells around them wait for ports and programs.

use super::arrival::ReadAt;
use super::lines::LineDecoder;
use super::link::LinkDecoding;
use super::nmea::NmeaDecoding;
use super::vendor::VendorDecoding;
use crate::telemetry::{self, Counter, DeviceLog, DeviceMet, SourceStall, count};
use headwater_core::id::StreamName;
use headwater_core::ports::SourceEvent;
use headwater_core::sample::Reading;
use headwater_core::time::{BootNanos, ClockDomain};
use std::collections::VecDeque;

/// What a decoder made of some bytes.
#[derive(Debug, Default)]
pub struct Decoded {
    /// Events, in order.
    pub events: VecDeque<SourceEvent>,
    /// What is worth a log line or a count, and is no event.
    pub notices: Vec<Notice>,
}

/// Something a decoder noticed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// An attached device logged a line; level 1 error … 5 trace.
    DeviceLog {
        /// Level.
        level: u8,
        /// Line.
        text: String,
    },
    /// Bytes that belong to nothing.
    Noise(u64),
    /// A frame that failed its check.
    LinkError,
    /// Something worth a count and nothing more.
    Count(Counter, u64),
    /// The clock of a device met ours.
    ClockMet {
        /// Its name.
        domain: ClockDomain,
        /// How long the exchange was under way, ns.
        rtt_ns: i64,
        /// When.
        at: BootNanos,
    },
    /// A stream's device let time pass without samples and without numbers for them.
    Stall {
        /// The stream.
        stream: StreamName,
        /// How long, ms of the device's clock.
        ms: u64,
    },
    /// What is wrong with a source that works, for people; `None` once it is not.
    Trouble(Option<String>),
}

impl Decoded {
    /// Logs and counts the notices.
    pub(super) fn tell(&mut self, stream: &StreamName) {
        for notice in self.notices.drain(..) {
            match notice {
                Notice::DeviceLog { level, text } => DeviceLog { stream, level, text: &text }.emit(),
                Notice::Noise(bytes) => count(Counter::NoiseBytes, bytes),
                Notice::LinkError => count(Counter::LinkErrors, 1),
                Notice::Count(counter, n) => count(counter, n),
                Notice::ClockMet { domain, rtt_ns, at } => DeviceMet { stream, domain, rtt_ns, at }.emit(),
                Notice::Stall { stream, ms } => SourceStall { stream: &stream, ms }.emit(),
                Notice::Trouble(why) => telemetry::trouble(stream, why.as_deref()),
            }
        }
    }

    /// Hands a reading on; a latency that fits no stamp is cut, and counted.
    pub(super) fn reading(&mut self, stream: StreamName, reading: Reading) {
        if reading.latency.hi_ns == u32::MAX {
            self.notices.push(Notice::Count(Counter::LatencyCut, 1));
        }
        self.events.push_back(SourceEvent::Reading { stream, reading });
    }

    /// Counts bytes of noise, joining neighbours.
    pub(super) fn noise(&mut self, bytes: u64) {
        match self.notices.last_mut() {
            Some(Notice::Noise(sum)) => *sum = sum.saturating_add(bytes),
            _ if bytes > 0 => self.notices.push(Notice::Noise(bytes)),
            _ => {}
        }
    }
}

/// A decoder of a serial port.
#[derive(Debug)]
pub enum Decoder {
    /// Link frames.
    Link(Box<LinkDecoding>),
    /// NMEA sentences.
    Nmea(Box<NmeaDecoding>),
    /// Lines of fields.
    Lines(LineDecoder),
    /// Frames of a vendor's protocol.
    Vendor(Box<VendorDecoding>),
}

impl Decoder {
    /// The port holds bytes back for up to `hold_ns`.
    pub fn port(&mut self, hold_ns: i64) {
        match self {
            Self::Link(link) => link.port(hold_ns),
            Self::Nmea(nmea) => nmea.port(hold_ns),
            Self::Lines(lines) => lines.port(hold_ns),
            Self::Vendor(vendor) => vendor.port(hold_ns),
        }
    }

    /// Takes the bytes of a read.
    pub fn push(&mut self, bytes: &[u8], read: ReadAt, out: &mut Decoded) {
        match self {
            Self::Link(link) => link.push(bytes, read, out),
            Self::Nmea(nmea) => nmea.push(bytes, read, out),
            Self::Lines(lines) => lines.push(bytes, read, out),
            Self::Vendor(vendor) => vendor.push(bytes, read, out),
        }
    }

    /// The port was opened (again): what was half read is worth nothing, and rows may be missing.
    pub fn reopened(&mut self, now: BootNanos, out: &mut Decoded) {
        match self {
            Self::Link(link) => link.reopened(now, out),
            Self::Nmea(nmea) => nmea.reopened(out),
            Self::Lines(lines) => lines.reopened(out),
            Self::Vendor(vendor) => vendor.reopened(now, out),
        }
    }

    /// Does what is due: bytes to send go to `outbox`.
    pub fn poll(&mut self, now: BootNanos, outbox: &mut Vec<u8>, out: &mut Decoded) {
        match self {
            Self::Link(link) => link.poll(now, outbox, out),
            Self::Nmea(nmea) => nmea.poll(now, out),
            Self::Lines(_) => {}
            Self::Vendor(vendor) => vendor.poll(now, outbox, out),
        }
    }

    /// When [`Decoder::poll`] has something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<BootNanos> {
        match self {
            Self::Link(link) => Some(link.deadline()),
            Self::Nmea(nmea) => nmea.deadline(),
            Self::Lines(_) => None,
            Self::Vendor(vendor) => vendor.deadline(),
        }
    }
}

//! From bytes to events: what every decoder of a byte stream has in common.
//!
//! Decoders are pure: bytes and times come in as arguments, events and notices go out as values.
//! The shells around them wait for ports and programs.

use super::lines::LineDecoder;
use super::link::LinkDecoding;
use super::nmea::NmeaDecoding;
use crate::telemetry::{Counter, DeviceLog, count};
use headwater_core::id::StreamName;
use headwater_core::ports::SourceEvent;
use headwater_core::time::BootNanos;
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
    /// A link frame that failed its check.
    LinkError,
}

impl Decoded {
    /// Logs and counts the notices.
    pub(super) fn tell(&mut self, stream: &StreamName) {
        for notice in self.notices.drain(..) {
            match notice {
                Notice::DeviceLog { level, text } => DeviceLog { stream, level, text: &text }.emit(),
                Notice::Noise(bytes) => count(Counter::NoiseBytes, bytes),
                Notice::LinkError => count(Counter::LinkErrors, 1),
            }
        }
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
}

impl Decoder {
    /// Takes bytes that arrived at `at`.
    pub fn push(&mut self, bytes: &[u8], at: BootNanos, out: &mut Decoded) {
        match self {
            Self::Link(link) => link.push(bytes, at, out),
            Self::Nmea(nmea) => nmea.push(bytes, at, out),
            Self::Lines(lines) => lines.push(bytes, at, out),
        }
    }

    /// The port was opened (again): what was half read is worth nothing, and rows may be missing.
    pub fn reopened(&mut self, now: BootNanos, out: &mut Decoded) {
        match self {
            Self::Link(link) => link.reopened(now),
            Self::Nmea(nmea) => nmea.reopened(out),
            Self::Lines(lines) => lines.reopened(out),
        }
    }

    /// Does what is due: bytes to send go to `outbox`.
    pub fn poll(&mut self, now: BootNanos, outbox: &mut Vec<u8>, out: &mut Decoded) {
        match self {
            Self::Link(link) => link.poll(now, outbox),
            Self::Nmea(nmea) => nmea.poll(now, out),
            Self::Lines(_) => {}
        }
    }

    /// When [`Decoder::poll`] has something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<BootNanos> {
        match self {
            Self::Link(link) => Some(link.deadline()),
            Self::Nmea(nmea) => nmea.deadline(),
            Self::Lines(_) => None,
        }
    }
}

//! Decodes the sentences of GPS receivers (NMEA 0183): RMC, GGA, VTG, GSA and ZDA become fixes, proprietary ones that
//! `headwater_shims::vendor::nmea` knows rows of a stream per kind.
//!
//! Receivers send much that is no sentence: binary messages between, halves of lines, noise at the
//! wrong baud rate. All of it is counted; a sentence that fails its checksum is set aside.

mod cycle;
mod sentence;

use super::arrival::{Arrivals, ReadAt};
use super::framing::Decoded;
use super::vendor::Streams;
use cycle::Cycle;
use headwater_core::id::StreamName;
use headwater_core::ports::SourceEvent;
use headwater_core::schema::builtin;
use headwater_core::time::BootNanos;
use headwater_shims::vendor::nmea::Proprietary;

/// Longest sentence, bytes: the standard says 82, receivers with many satellites send several hundred.
pub const SENTENCE_BYTES_MAX: usize = 1_024;

/// Whether a line, without its `$` and end, is a sentence with a right checksum.
#[must_use]
pub fn is_sentence(line: &[u8]) -> bool {
    sentence::checked(line).is_ok()
}

/// State of one receiver.
#[derive(Debug)]
pub struct NmeaDecoding {
    stream: StreamName,
    arrivals: Arrivals,
    declared: bool,
    /// Bytes since `$`; `None` between sentences.
    open: Option<Vec<u8>>,
    cycle: Cycle,
    proprietary: Streams,
}

impl NmeaDecoding {
    /// A receiver whose fixes go to `stream`.
    #[must_use]
    pub fn new(stream: StreamName, arrivals: Arrivals) -> Self {
        let (cycle, proprietary) = (Cycle::new(stream.clone()), Streams::new(stream.clone(), false));
        Self { cycle, proprietary, stream, arrivals, declared: false, open: None }
    }

    /// The port holds bytes back for up to `hold_ns`.
    pub fn port(&mut self, hold_ns: i64) {
        self.arrivals.hold_ns = hold_ns;
    }

    /// Takes the bytes of a read.
    pub fn push(&mut self, bytes: &[u8], read: ReadAt, out: &mut Decoded) {
        if !std::mem::replace(&mut self.declared, true) {
            let (name, schema) = (self.stream.clone(), builtin::gps_fix());
            out.events.push_back(SourceEvent::Stream { name, schema });
        }
        for (place, byte) in bytes.iter().enumerate() {
            let after = bytes.len().saturating_sub(place).saturating_sub(1);
            self.byte(*byte, read, after, out);
        }
    }

    fn byte(&mut self, byte: u8, read: ReadAt, after: usize, out: &mut Decoded) {
        match (byte, &mut self.open) {
            (b'$', open) => {
                let cut = open.replace(Vec::new()).map_or(0, |cut| cut.len().saturating_add(1));
                out.noise(cut as u64);
            }
            (b'\r' | b'\n', open) => {
                if let Some(line) = open.take() {
                    self.line(&line, read, after, out);
                }
            }
            (0x20..=0x7e, Some(line)) if line.len() < SENTENCE_BYTES_MAX => line.push(byte),
            // Binary, or longer than any sentence: this was none.
            (_, open @ Some(_)) => {
                let cut = open.take().map_or(0, |cut| cut.len());
                out.noise(cut.saturating_add(2) as u64);
            }
            (_, None) => out.noise(1),
        }
    }

    fn line(&mut self, line: &[u8], read: ReadAt, after: usize, out: &mut Decoded) {
        let at = read.at;
        match sentence::checked(line) {
            Ok(body) => {
                // The `$` and the line end are its own too.
                let latency = self.arrivals.latency(read, line.len().saturating_add(2), after);
                match Proprietary::parse(body) {
                    Some(sentence) => self.proprietary.message(sentence.view(), (at, latency), out),
                    None => self.cycle.sentence(&sentence::parse(body), (at, latency), out),
                }
            }
            Err(why) => {
                self.cycle.damaged(line);
                let mut bytes = vec![b'$'];
                bytes.extend_from_slice(line);
                out.events.push_back(SourceEvent::SetAside { stream: self.stream.clone(), why, bytes, at });
            }
        }
    }

    /// The port was opened again: a half sentence is worth nothing.
    pub fn reopened(&mut self, out: &mut Decoded) {
        let cut = self.open.take().map_or(0, |cut| cut.len().saturating_add(1));
        out.noise(cut as u64);
    }

    /// Gives out a fix for which nothing more came.
    pub fn poll(&mut self, now: BootNanos, out: &mut Decoded) {
        self.cycle.poll(now, out);
    }

    /// When [`NmeaDecoding::poll`] has something to give.
    #[must_use]
    pub fn deadline(&self) -> Option<BootNanos> {
        self.cycle.deadline()
    }
}

#[cfg(test)]
mod tests;

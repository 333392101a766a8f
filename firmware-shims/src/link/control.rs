//! The small payloads that keep a link alive: clock exchanges, the request for HELLO, log lines.

use super::payload::{BuildError, PayloadError};
use crate::bytes::{Reader, Writer};

/// The most bytes of text in one LOG: a line for a person, not a channel for samples.
pub const LOG_TEXT_BYTES_MAX: usize = 64;

/// PING: no payload; its header's `t_us` is t1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ping;

impl Ping {
    /// Reads an empty payload.
    pub const fn parse(payload: &[u8]) -> Result<Self, PayloadError> {
        match Reader::new(payload).end() {
            Ok(()) => Ok(Self),
            Err(error) => Err(error),
        }
    }
}

/// HELLO_REQ: no payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HelloReq;

impl HelloReq {
    /// Reads an empty payload.
    pub const fn parse(payload: &[u8]) -> Result<Self, PayloadError> {
        match Reader::new(payload).end() {
            Ok(()) => Ok(Self),
            Err(error) => Err(error),
        }
    }
}

/// PONG: the device's half of a clock exchange; its header's `t_us` is t3, its `seq` the ping's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pong {
    /// t1 of the ping, given back: host clock.
    pub t1_us: u64,
    /// When the ping arrived: device clock.
    pub t2_us: u64,
    /// Differs between consecutive boots.
    pub boot_nonce: u32,
    /// Checksum of the stream descriptors in force.
    pub schema_crc: u16,
    /// Frames the device dropped since boot, wrapping.
    pub dropped: u16,
}

impl Pong {
    /// Writes the payload to the front of `out`; returns the bytes written.
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, BuildError> {
        let mut writer = Writer::new(out);
        writer.u64(self.t1_us)?;
        writer.u64(self.t2_us)?;
        writer.u32(self.boot_nonce)?;
        writer.u16(self.schema_crc)?;
        writer.u16(self.dropped)?;
        Ok(writer.len())
    }

    /// Reads a payload.
    pub fn parse(payload: &[u8]) -> Result<Self, PayloadError> {
        let mut reader = Reader::new(payload);
        let pong = Self {
            t1_us: reader.u64()?,
            t2_us: reader.u64()?,
            boot_nonce: reader.u32()?,
            schema_crc: reader.u16()?,
            dropped: reader.u16()?,
        };
        reader.end()?;
        Ok(pong)
    }
}

/// How much a log line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// Code 1.
    Error,
    /// Code 2.
    Warn,
    /// Code 3.
    Info,
    /// Code 4.
    Debug,
    /// Code 5.
    Trace,
    /// Another code: the text is still worth reading.
    Unknown(u8),
}

impl LogLevel {
    /// The level with this code on the wire.
    pub const fn from_code(code: u8) -> Self {
        match code {
            1 => Self::Error,
            2 => Self::Warn,
            3 => Self::Info,
            4 => Self::Debug,
            5 => Self::Trace,
            other => Self::Unknown(other),
        }
    }

    /// The code of this level on the wire.
    pub const fn code(self) -> u8 {
        match self {
            Self::Error => 1,
            Self::Warn => 2,
            Self::Info => 3,
            Self::Debug => 4,
            Self::Trace => 5,
            Self::Unknown(code) => code,
        }
    }
}

/// LOG: one line of text for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Log<'a> {
    /// How much it matters.
    pub level: LogLevel,
    /// The line, at most [`LOG_TEXT_BYTES_MAX`] bytes.
    pub text: &'a str,
}

impl<'a> Log<'a> {
    /// A line cut to what fits, at a character's edge: on a device half a line beats none.
    pub fn cut(level: LogLevel, text: &'a str) -> Self {
        let end = text.floor_char_boundary(LOG_TEXT_BYTES_MAX);
        Self { level, text: text.get(..end).unwrap_or_default() }
    }

    /// Writes the payload to the front of `out`; returns the bytes written.
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, BuildError> {
        if self.text.len() > LOG_TEXT_BYTES_MAX {
            return Err(BuildError::TextTooLong);
        }
        let mut writer = Writer::new(out);
        writer.u8(self.level.code())?;
        writer.bytes(self.text.as_bytes())?;
        Ok(writer.len())
    }

    /// Reads a payload.
    pub fn parse(payload: &'a [u8]) -> Result<Self, PayloadError> {
        let mut reader = Reader::new(payload);
        let level = LogLevel::from_code(reader.u8()?);
        let text = reader.rest();
        if text.len() > LOG_TEXT_BYTES_MAX {
            return Err(PayloadError::TextTooLong);
        }
        let text = core::str::from_utf8(text).map_err(|_| PayloadError::NotUtf8)?;
        Ok(Self { level, text })
    }
}

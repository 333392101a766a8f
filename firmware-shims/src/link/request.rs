//! What a host asks of a device, and how the device answers: CONFIG, COMMAND, REPLY, KNOB.

use super::payload::{BuildError, PayloadError};
use crate::bytes::{Reader, Writer};

/// The most bytes of a COMMAND's arguments and of a REPLY's data.
pub const REQUEST_DATA_BYTES_MAX: usize = 16;

/// CONFIG key: 1 on, 0 off.
pub const KEY_ENABLED: u8 = 1;
/// CONFIG key: microseconds between samples.
pub const KEY_PERIOD_US: u8 = 2;
/// CONFIG key: measuring range, in the sensor's own steps.
pub const KEY_RANGE: u8 = 3;
/// CONFIG key: samples averaged into one.
pub const KEY_AVERAGING: u8 = 4;
/// CONFIG keys and COMMAND codes from here on belong to the sensor.
pub const OWN_FROM: u8 = 128;

/// COMMAND: restart.
pub const COMMAND_RESET: u8 = 1;
/// COMMAND: show a person which board it is.
pub const COMMAND_IDENTIFY: u8 = 2;
/// COMMAND: test itself.
pub const COMMAND_SELF_TEST: u8 = 3;
/// COMMAND: take one sample now.
pub const COMMAND_SAMPLE_ONCE: u8 = 4;
/// COMMAND: set the device's own counters to 0; sample numbers and `dropped` go on.
pub const COMMAND_RESET_COUNTERS: u8 = 5;

/// Up to [`REQUEST_DATA_BYTES_MAX`] bytes, held by value so that they outlive the frame they came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RequestData {
    bytes: [u8; REQUEST_DATA_BYTES_MAX],
    len: u8,
}

impl RequestData {
    /// A copy of `bytes`, or `None` if there are too many.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let mut data = Self { len: u8::try_from(bytes.len()).ok()?, ..Self::default() };
        data.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(data)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    fn parse(reader: Reader<'_>) -> Result<Self, PayloadError> {
        Self::new(reader.rest()).ok_or(PayloadError::DataTooLong)
    }
}

/// CONFIG: one value that a device keeps until it restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// The boot it is meant for; another one ignores it.
    pub boot_nonce: u32,
    /// Names the request: a repeat of it is answered, not done again.
    pub token: u16,
    /// The stream, or [`STREAM_DEVICE`](super::STREAM_DEVICE).
    pub stream: u8,
    /// What is set: [`KEY_ENABLED`] and so on.
    pub key: u8,
    /// To what.
    pub value: i32,
}

impl Config {
    /// Writes the payload to the front of `out`; returns the bytes written.
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, BuildError> {
        let mut writer = Writer::new(out);
        writer.u32(self.boot_nonce)?;
        writer.u16(self.token)?;
        writer.u8(self.stream)?;
        writer.u8(self.key)?;
        writer.bytes(&self.value.to_le_bytes())?;
        Ok(writer.len())
    }

    /// Reads a payload.
    pub fn parse(payload: &[u8]) -> Result<Self, PayloadError> {
        let mut reader = Reader::new(payload);
        let config = Self {
            boot_nonce: reader.u32()?,
            token: reader.u16()?,
            stream: reader.u8()?,
            key: reader.u8()?,
            value: i32::from_le_bytes(reader.array()?),
        };
        reader.end()?;
        Ok(config)
    }
}

/// COMMAND: something a device does once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Command {
    /// The boot it is meant for; another one ignores it.
    pub boot_nonce: u32,
    /// Names the request: a repeat of it is answered, not done again.
    pub token: u16,
    /// The stream, or [`STREAM_DEVICE`](super::STREAM_DEVICE).
    pub stream: u8,
    /// What is to be done: [`COMMAND_RESET`] and so on.
    pub command: u8,
    /// With what.
    pub args: RequestData,
}

impl Command {
    /// Writes the payload to the front of `out`; returns the bytes written.
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, BuildError> {
        let mut writer = Writer::new(out);
        writer.u32(self.boot_nonce)?;
        writer.u16(self.token)?;
        writer.u8(self.stream)?;
        writer.u8(self.command)?;
        writer.bytes(self.args.as_bytes())?;
        Ok(writer.len())
    }

    /// Reads a payload.
    pub fn parse(payload: &[u8]) -> Result<Self, PayloadError> {
        let mut reader = Reader::new(payload);
        Ok(Self {
            boot_nonce: reader.u32()?,
            token: reader.u16()?,
            stream: reader.u8()?,
            command: reader.u8()?,
            args: RequestData::parse(reader)?,
        })
    }
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyCode {
    /// Code 0: done.
    Ok,
    /// Code 1: no such stream, key or command.
    Unknown,
    /// Code 2: known, but not now or not here.
    Refused,
    /// Code 3: something else is being done; try again with a new token.
    Busy,
    /// Code 4: the value cannot be taken.
    BadValue,
    /// Another code.
    Other(u8),
}

impl ReplyCode {
    /// The meaning of this code on the wire.
    pub const fn from_code(code: u8) -> Self {
        match code {
            0 => Self::Ok,
            1 => Self::Unknown,
            2 => Self::Refused,
            3 => Self::Busy,
            4 => Self::BadValue,
            other => Self::Other(other),
        }
    }

    /// The code on the wire.
    pub const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Unknown => 1,
            Self::Refused => 2,
            Self::Busy => 3,
            Self::BadValue => 4,
            Self::Other(code) => code,
        }
    }
}

/// REPLY: the answer to one CONFIG or COMMAND; its header's `t_us` is when that took effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    /// That of the request.
    pub token: u16,
    /// What became of it.
    pub code: ReplyCode,
    /// To a CONFIG: the value now in force, or nothing if there is none. To a COMMAND: what it found.
    pub data: RequestData,
}

impl Reply {
    /// The value in force that a REPLY to a CONFIG carries.
    pub fn value(&self) -> Option<i32> {
        self.data.as_bytes().try_into().ok().map(i32::from_le_bytes)
    }

    /// Writes the payload to the front of `out`; returns the bytes written.
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, BuildError> {
        let mut writer = Writer::new(out);
        writer.u16(self.token)?;
        writer.u8(self.code.code())?;
        writer.bytes(self.data.as_bytes())?;
        Ok(writer.len())
    }

    /// Reads a payload.
    pub fn parse(payload: &[u8]) -> Result<Self, PayloadError> {
        let mut reader = Reader::new(payload);
        Ok(Self {
            token: reader.u16()?,
            code: ReplyCode::from_code(reader.u8()?),
            data: RequestData::parse(reader)?,
        })
    }
}

/// KNOB: makes a test build misbehave; others do not know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Knob {
    /// The device's clock runs this much too fast from now on, parts per million.
    pub ppm: i32,
    /// Every so many SAMPLE frames one is dropped as if the queue were full; 0 never.
    pub drop_every: u16,
    /// Every so many queued frames one is sent with a wrong checksum; 0 never.
    pub corrupt_every: u16,
    /// Nothing is sent for this long from now on.
    pub stall_ms: u16,
}

impl Knob {
    /// Writes the payload to the front of `out`; returns the bytes written.
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, BuildError> {
        let mut writer = Writer::new(out);
        writer.bytes(&self.ppm.to_le_bytes())?;
        writer.u16(self.drop_every)?;
        writer.u16(self.corrupt_every)?;
        writer.u16(self.stall_ms)?;
        Ok(writer.len())
    }

    /// Reads a payload.
    pub fn parse(payload: &[u8]) -> Result<Self, PayloadError> {
        let mut reader = Reader::new(payload);
        let knob = Self {
            ppm: i32::from_le_bytes(reader.array()?),
            drop_every: reader.u16()?,
            corrupt_every: reader.u16()?,
            stall_ms: reader.u16()?,
        };
        reader.end()?;
        Ok(knob)
    }
}

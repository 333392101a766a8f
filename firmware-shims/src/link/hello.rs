//! How a device introduces itself, so that the host needs no table of boards to read its samples.

use core::ops::BitOr;

use super::field::{FieldList, emit_text};
use super::payload::{BuildError, PayloadError};
use crate::bytes::{Reader, Writer};
use crate::crc::Crc16;

/// The version of the link this crate speaks.
pub const LINK_VERSION: u8 = 1;

/// The fewest raw bytes a device must be able to receive: a COMMAND with all its arguments fits.
pub const MAX_RX_MIN: u16 = 40;

/// Stands for the device itself where a stream number is asked for; no stream has it.
pub const STREAM_DEVICE: u8 = 255;

/// What a device can do beside sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Caps(u8);

impl Caps {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Bit 0: understands CONFIG.
    pub const CONFIG: Self = Self(1);
    /// Bit 1: understands COMMAND.
    pub const COMMAND: Self = Self(2);

    /// The capabilities with these bits; unknown ones are carried.
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits)
    }

    /// The bits of these capabilities.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Whether every capability of `other` is there.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Caps {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Which byte of a PING the device's t2 belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum T2Point {
    /// Code 0: its first byte.
    FirstByte,
    /// Code 1: its delimiter.
    Delimiter,
}

impl T2Point {
    /// The code on the wire.
    pub const fn code(self) -> u8 {
        match self {
            Self::FirstByte => 0,
            Self::Delimiter => 1,
        }
    }

    /// The point with this code on the wire.
    pub const fn from_code(code: u8) -> Result<Self, PayloadError> {
        match code {
            0 => Ok(Self::FirstByte),
            1 => Ok(Self::Delimiter),
            other => Err(PayloadError::T2Point(other)),
        }
    }
}

/// Who a device is: HELLO with index 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity<'a> {
    /// What it can do beside sending.
    pub caps: Caps,
    /// Which byte of a PING its t2 belongs to.
    pub t2_point: T2Point,
    /// Differs between consecutive boots.
    pub boot_nonce: u32,
    /// Raw bytes it can receive in one frame, at least [`MAX_RX_MIN`].
    pub max_rx: u16,
    /// Nanoseconds of one tick of its clock.
    pub tick_ns: u32,
    /// How far its clock may run off, in parts per million.
    pub clock_ppm: u16,
    /// Checksum of its stream descriptors: see [`SchemaCrc`].
    pub schema_crc: u16,
    /// Which board it is.
    pub uid: &'a str,
    /// Which firmware it runs.
    pub firmware: &'a str,
}

impl Identity<'_> {
    fn emit(&self, mut put: impl FnMut(&[u8]) -> Result<(), BuildError>) -> Result<(), BuildError> {
        if self.max_rx < MAX_RX_MIN {
            return Err(BuildError::MaxRx);
        }
        put(&[LINK_VERSION, self.caps.bits(), self.t2_point.code()])?;
        put(&self.boot_nonce.to_le_bytes())?;
        put(&self.max_rx.to_le_bytes())?;
        put(&self.tick_ns.to_le_bytes())?;
        put(&self.clock_ppm.to_le_bytes())?;
        put(&self.schema_crc.to_le_bytes())?;
        emit_text(self.uid, &mut put)?;
        emit_text(self.firmware, &mut put)
    }
}

/// What one stream of a device carries: HELLO with an index above 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamDescriptor<'a> {
    /// Its number on this device.
    pub stream: u8,
    /// Number of the next sample; its low 16 bits are the next SAMPLE's `seq`.
    pub next_seq: u32,
    /// Its schema family, e.g. `climate`.
    pub kind: &'a str,
    /// Microseconds between samples, 0 if irregular.
    pub period_us: u32,
    /// What a row holds.
    pub fields: FieldList<'a>,
}

impl StreamDescriptor<'_> {
    /// Hands the descriptor to `put` without `next_seq`: what the schema checksum covers.
    fn emit<E: From<BuildError>>(
        &self,
        next_seq: Option<[u8; 4]>,
        mut put: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.stream == STREAM_DEVICE {
            return Err(BuildError::ReservedStream.into());
        }
        put(&[self.stream])?;
        if let Some(next_seq) = next_seq {
            put(&next_seq)?;
        }
        emit_text(self.kind, &mut put)?;
        put(&self.period_us.to_le_bytes())?;
        self.fields.emit(put)
    }
}

/// One HELLO frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello<'a> {
    /// 0 for the identity, then one for each stream.
    pub index: u8,
    /// HELLO frames in all: the identity and every stream.
    pub total: u8,
    /// What this one says.
    pub body: HelloBody<'a>,
}

/// What one HELLO frame says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HelloBody<'a> {
    /// Who the device is.
    Identity(Identity<'a>),
    /// What one stream carries.
    Stream(StreamDescriptor<'a>),
}

impl<'a> Hello<'a> {
    /// Writes the payload to the front of `out`; returns the bytes written.
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, BuildError> {
        let mut writer = Writer::new(out);
        self.emit(|bytes| writer.bytes(bytes).map_err(BuildError::from))?;
        Ok(writer.len())
    }

    /// Bytes of the payload.
    pub(crate) fn payload_bytes(&self) -> Result<usize, BuildError> {
        let mut sum: usize = 0;
        self.emit(|bytes| {
            sum = sum.saturating_add(bytes.len());
            Ok(())
        })?;
        Ok(sum)
    }

    /// Hands the payload to `put`, piece by piece.
    pub(crate) fn emit(
        &self,
        mut put: impl FnMut(&[u8]) -> Result<(), BuildError>,
    ) -> Result<(), BuildError> {
        let is_identity = matches!(self.body, HelloBody::Identity(_));
        if self.index >= self.total || is_identity != (self.index == 0) {
            return Err(BuildError::HelloIndex);
        }
        put(&[self.index, self.total])?;
        match &self.body {
            HelloBody::Identity(identity) => identity.emit(put),
            HelloBody::Stream(stream) => stream.emit(Some(stream.next_seq.to_le_bytes()), put),
        }
    }

    /// Reads a payload.
    pub fn parse(payload: &'a [u8]) -> Result<Self, PayloadError> {
        let mut reader = Reader::new(payload);
        let (index, total) = (reader.u8()?, reader.u8()?);
        if index >= total {
            return Err(PayloadError::HelloIndex { index, total });
        }
        let body = if index == 0 {
            HelloBody::Identity(parse_identity(&mut reader)?)
        } else {
            HelloBody::Stream(parse_stream(&mut reader)?)
        };
        reader.end()?;
        Ok(Self { index, total, body })
    }
}

fn parse_identity<'a>(reader: &mut Reader<'a>) -> Result<Identity<'a>, PayloadError> {
    // Before anything else: another version may mean other bytes from here on.
    let version = reader.u8()?;
    if version != LINK_VERSION {
        return Err(PayloadError::Version(version));
    }
    let identity = Identity {
        caps: Caps::from_bits(reader.u8()?),
        t2_point: T2Point::from_code(reader.u8()?)?,
        boot_nonce: reader.u32()?,
        max_rx: reader.u16()?,
        tick_ns: reader.u32()?,
        clock_ppm: reader.u16()?,
        schema_crc: reader.u16()?,
        uid: reader.text()?,
        firmware: reader.text()?,
    };
    if identity.max_rx < MAX_RX_MIN {
        return Err(PayloadError::MaxRx(identity.max_rx));
    }
    Ok(identity)
}

fn parse_stream<'a>(reader: &mut Reader<'a>) -> Result<StreamDescriptor<'a>, PayloadError> {
    let stream = StreamDescriptor {
        stream: reader.u8()?,
        next_seq: reader.u32()?,
        kind: reader.text()?,
        period_us: reader.u32()?,
        fields: FieldList::parse(reader)?,
    };
    if stream.stream == STREAM_DEVICE {
        return Err(PayloadError::ReservedStream);
    }
    Ok(stream)
}

/// The checksum over all stream descriptors in the order of their index, without `next_seq`:
/// it changes exactly when a host has to read the descriptors again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SchemaCrc(Crc16);

impl SchemaCrc {
    /// The checksum of no streams.
    pub const fn new() -> Self {
        Self(Crc16::new())
    }

    /// Takes in the next descriptor.
    pub fn push(&mut self, stream: &StreamDescriptor<'_>) -> Result<(), BuildError> {
        stream.emit(None, |bytes| {
            self.0.extend(bytes);
            Ok(())
        })
    }

    /// The checksum of what was taken in so far.
    pub const fn value(self) -> u16 {
        self.0.value()
    }
}

/// The checksum of `streams`, as a device states it in HELLO and PONG.
pub fn schema_crc(streams: &[StreamDescriptor<'_>]) -> Result<u16, BuildError> {
    let mut crc = SchemaCrc::new();
    for stream in streams {
        crc.push(stream)?;
    }
    Ok(crc.value())
}

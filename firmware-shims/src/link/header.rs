//! The twelve bytes that open every link frame, so that a receiver can route before it understands.

use core::ops::BitOr;

/// Bytes of a [`Header`] on the wire.
pub const HEADER_BYTES: usize = 12;

/// What a link frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LinkType {
    /// `0x01`, device to host: rows of one stream.
    Sample,
    /// `0x02`, device to host: a line of text.
    Log,
    /// `0x03`, device to host: who the device is and what it measures.
    Hello,
    /// `0x10`, host to device: first half of a clock exchange.
    Ping,
    /// `0x11`, device to host: second half of a clock exchange.
    Pong,
    /// `0x12`, host to device: asks for HELLO.
    HelloReq,
    /// `0x13`, host to device: sets one value.
    Config,
    /// `0x14`, host to device: does one thing once.
    Command,
    /// `0x15`, device to host: answers CONFIG and COMMAND.
    Reply,
    /// `0x7E`, host to device: makes a test build misbehave.
    Knob,
    /// A type this version does not know: to be counted and skipped.
    Unknown(u8),
}

impl LinkType {
    /// The type with this code on the wire.
    pub const fn from_code(code: u8) -> Self {
        match code {
            0x01 => Self::Sample,
            0x02 => Self::Log,
            0x03 => Self::Hello,
            0x10 => Self::Ping,
            0x11 => Self::Pong,
            0x12 => Self::HelloReq,
            0x13 => Self::Config,
            0x14 => Self::Command,
            0x15 => Self::Reply,
            0x7E => Self::Knob,
            other => Self::Unknown(other),
        }
    }

    /// The code of this type on the wire.
    pub const fn code(self) -> u8 {
        match self {
            Self::Sample => 0x01,
            Self::Log => 0x02,
            Self::Hello => 0x03,
            Self::Ping => 0x10,
            Self::Pong => 0x11,
            Self::HelloReq => 0x12,
            Self::Config => 0x13,
            Self::Command => 0x14,
            Self::Reply => 0x15,
            Self::Knob => 0x7E,
            Self::Unknown(code) => code,
        }
    }
}

/// The flag bits of a link frame; bits without a name are carried and ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Flags(u8);

impl Flags {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// Bit 0: the first since boot; on a SAMPLE, the first of its stream.
    pub const FIRST_SINCE_BOOT: Self = Self(1);
    /// Bit 1: the device dropped something before this frame.
    pub const DROPPED_BEFORE: Self = Self(2);
    /// Bit 2: `t_us` is when the frame was queued, not when the event was.
    pub const ENQUEUE_TIME: Self = Self(4);

    /// The flags with these bits.
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits)
    }

    /// The bits of these flags.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Whether every flag of `other` is set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Flags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The head of a link frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What the payload is.
    pub link_type: LinkType,
    /// What else is to be known about the frame.
    pub flags: Flags,
    /// SAMPLE: number of the first row in its stream. PONG: that of the ping. Else the sender's own count.
    pub seq: u16,
    /// Microseconds of the sender's clock: since boot on a device, `CLOCK_BOOTTIME` on a host.
    pub t_us: u64,
}

impl Header {
    /// The header as it stands on the wire.
    pub const fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let [s0, s1] = self.seq.to_le_bytes();
        let [t0, t1, t2, t3, t4, t5, t6, t7] = self.t_us.to_le_bytes();
        let (code, flags) = (self.link_type.code(), self.flags.bits());
        [code, flags, s0, s1, t0, t1, t2, t3, t4, t5, t6, t7]
    }

    /// The header these bytes stand for; there are no wrong ones.
    pub const fn from_bytes(bytes: [u8; HEADER_BYTES]) -> Self {
        let [code, flags, s0, s1, t0, t1, t2, t3, t4, t5, t6, t7] = bytes;
        Self {
            link_type: LinkType::from_code(code),
            flags: Flags::from_bits(flags),
            seq: u16::from_le_bytes([s0, s1]),
            t_us: u64::from_le_bytes([t0, t1, t2, t3, t4, t5, t6, t7]),
        }
    }
}

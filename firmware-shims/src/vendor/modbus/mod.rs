//! Modbus: requests that read, their answers over RTU and TCP, and registers as typed values.
//!
//! ```text
//! RTU:  unit u8 | function u8 | data ... | CRC u16 (low byte first)
//! TCP:  transaction u16 | 0000 | length u16 | unit u8 | function u8 | data ...        big-endian
//! ```
//!
//! A host asks and waits; an RTU frame has no sync and no length of its own, so what is looked for is the
//! answer to one request: its unit, function and byte count, or the exception in its place.
//!
//! Source: MODBUS Application Protocol Specification V1.1b3, sections 6.1 to 6.4 and 7; MODBUS over Serial Line
//! V1.02, section 2.5.1; MODBUS Messaging on TCP/IP Implementation Guide V1.0b, section 3.1.3.

mod registers;
mod rtu;
mod tcp;

pub use registers::{RegisterMap, RegisterReading};
pub use rtu::Rtu;
pub use tcp::Tcp;

use core::fmt;

/// Most registers in one answer.
pub const REGISTERS_MAX: u16 = 125;
/// Most coils or discrete inputs in one answer.
pub const BITS_MAX: u16 = 2_000;
/// Buffer of a [`Feeder`](super::Feeder) that holds every answer over either way.
pub const FRAME_BYTES_MAX: usize = 260;

/// What is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ReadFunction {
    /// Outputs of one bit.
    Coils = 1,
    /// Inputs of one bit.
    DiscreteInputs = 2,
    /// Registers that can be written too.
    HoldingRegisters = 3,
    /// Registers that can only be read.
    InputRegisters = 4,
}

impl ReadFunction {
    /// The function's code.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// Most items of one request.
    pub const fn count_max(self) -> u16 {
        match self {
            Self::Coils | Self::DiscreteInputs => BITS_MAX,
            Self::HoldingRegisters | Self::InputRegisters => REGISTERS_MAX,
        }
    }
}

/// A request that reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadRequest {
    /// Address of the device, 1 to 247; some vendors answer to others.
    pub unit: u8,
    /// What to read.
    pub function: ReadFunction,
    /// First register or bit, as in the protocol: register 40001 of a manual is 0.
    pub start: u16,
    /// How many, at most [`ReadFunction::count_max`].
    pub count: u16,
}

/// Why a request can never be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestError {
    /// None, or more than one answer holds.
    Count,
    /// Beyond the last address, 65535.
    Range,
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Count => "modbus request reads no item, or more than one answer holds",
            Self::Range => "modbus request reads beyond address 65535",
        })
    }
}

impl core::error::Error for RequestError {}

impl ReadRequest {
    /// Checks what devices would refuse.
    ///
    /// # Errors
    /// [`RequestError::Count`] and [`RequestError::Range`].
    pub const fn check(self) -> Result<Self, RequestError> {
        if self.count == 0 || self.count > self.function.count_max() {
            return Err(RequestError::Count);
        }
        if self.start.checked_add(self.count.saturating_sub(1)).is_none() {
            return Err(RequestError::Range);
        }
        Ok(self)
    }

    /// Bytes of data in its answer.
    pub const fn data_bytes(self) -> usize {
        let count = self.count as usize;
        match self.function {
            ReadFunction::Coils | ReadFunction::DiscreteInputs => count.div_ceil(8),
            ReadFunction::HoldingRegisters | ReadFunction::InputRegisters => count.saturating_mul(2),
        }
    }

    /// Function, start and count.
    const fn body(self) -> [u8; 5] {
        let ([start_high, start_low], [count_high, count_low]) =
            (self.start.to_be_bytes(), self.count.to_be_bytes());
        [self.function.code(), start_high, start_low, count_high, count_low]
    }
}

/// What a device answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply<'a> {
    /// Registers, big-endian, or bits, the first one lowest.
    Data(&'a [u8]),
    /// It refused.
    Exception(Exception),
}

/// Why a device refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Exception {
    /// 1: it does not know the function.
    IllegalFunction,
    /// 2: it has no such register.
    IllegalAddress,
    /// 3: it does not like the count.
    IllegalValue,
    /// 4: it failed.
    DeviceFailure,
    /// 5: it is at it, ask later.
    Acknowledge,
    /// 6: it is busy.
    Busy,
    /// 10: the gateway has no way to it.
    GatewayPath,
    /// 11: the gateway got no answer from it.
    GatewayTarget,
    /// Any other code.
    Other(u8),
}

impl Exception {
    /// The exception of a code.
    pub const fn from_code(code: u8) -> Self {
        match code {
            1 => Self::IllegalFunction,
            2 => Self::IllegalAddress,
            3 => Self::IllegalValue,
            4 => Self::DeviceFailure,
            5 => Self::Acknowledge,
            6 => Self::Busy,
            10 => Self::GatewayPath,
            11 => Self::GatewayTarget,
            other => Self::Other(other),
        }
    }
}

impl fmt::Display for Exception {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::IllegalFunction => "device does not know the function: read the other kind of register",
            Self::IllegalAddress => "device has no such register: check start and count against its manual",
            Self::IllegalValue => "device refuses the count of registers: read fewer at once",
            Self::DeviceFailure => "device reports a failure of its own",
            Self::Acknowledge => "device needs more time for the answer",
            Self::Busy => "device is busy",
            Self::GatewayPath => "gateway has no path to the device: check the unit",
            Self::GatewayTarget => "gateway got no answer from the device: check unit and wiring",
            Self::Other(code) => return write!(f, "device refuses with exception {code}"),
        })
    }
}

/// Function, byte count and data, or the exception, after the unit.
fn reply_in(request: ReadRequest, body: &[u8]) -> Option<Reply<'_>> {
    match body {
        [function, code] if *function == request.function.code() | 0x80 => {
            Some(Reply::Exception(Exception::from_code(*code)))
        }
        [function, count, data @ ..] => {
            let fits = *function == request.function.code()
                && usize::from(*count) == data.len()
                && data.len() == request.data_bytes();
            fits.then_some(Reply::Data(data))
        }
        _ => None,
    }
}

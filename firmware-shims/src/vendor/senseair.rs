//! Senseair S8 and K30 carbon dioxide sensors, asked over Modbus.
//!
//! Source: Senseair, Modbus on Senseair S8, TDE2067, revision 1 (input registers 1 meter status … 4 space CO2), and
//! Modbus on CO2 Engine K30, TDE0047, whose first four input registers are the same. 9600 baud, 8N1.

use super::feed::{Look, Protocol};
use super::modbus::{ReadFunction, ReadRequest, Reply, Rtu};
use super::num::Bytes;
use super::view::message;
use super::{Message, Read};

/// The address every sensor answers to when it is alone on the line.
pub const UNIT_ANY: u8 = 0xFE;

/// The request for status and concentration: input registers 1 to 4.
pub const READ_REQUEST: ReadRequest =
    ReadRequest { unit: UNIT_ANY, function: ReadFunction::InputRegisters, start: 0, count: 4 };

/// The protocol: answers to [`READ_REQUEST`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Senseair;

impl Protocol for Senseair {
    fn look(&self, bytes: &[u8], in_sync: bool) -> Look {
        Rtu(READ_REQUEST).look(bytes, in_sync)
    }
}

impl Read for Senseair {
    fn read(&self, frame: &[u8], sink: &mut dyn FnMut(&dyn Message)) -> bool {
        let Some(Reply::Data(data)) = Rtu(READ_REQUEST).reply(frame) else { return false };
        let b = Bytes(data);
        let status = b.u16_be(0);
        // Bits 0 fatal, 1 offset regulation, 2 algorithm, 3 output, 4 self-diagnostics, 5 out of range, 6 memory: with
        // any of the first, fourth or sixth there is no reading to believe.
        let unreliable = status & 0b10_1001 != 0;
        sink(&SenseairReading { co2_ppm: (!unreliable).then(|| b.u16_be(6).cast_signed()), status });
        true
    }
}

message! {
    /// One reading.
    SenseairReading = "senseair" {
        co2_ppm: Option<i16>, "[ppm]", "Carbon dioxide; missing while the sensor reports an error.";
        status: u16, "1", "Meter status, a bit per error.";
    }
}

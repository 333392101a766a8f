//! Sensirion SCD30 carbon dioxide, temperature and humidity sensors, asked over Modbus.
//!
//! Source: Sensirion, Interface Description SCD30 Sensor Module, version 1.0 (May 2020), section 1.3
//! "Modbus protocol" (readings as three IEEE 754 singles, high word first). 19200 baud, 8N1.

use super::feed::{Look, Protocol};
use super::modbus::{ReadFunction, ReadRequest, Reply, Rtu};
use super::spec::{ByteOrder, Raw, Slot};
use super::view::message;
use super::{Message, Read};

/// Its Modbus address, which is fixed.
pub const UNIT: u8 = 0x61;

/// The request for the newest reading.
pub const READ_REQUEST: ReadRequest =
    ReadRequest { unit: UNIT, function: ReadFunction::HoldingRegisters, start: 0x0028, count: 6 };

/// The request whether there is one that was not read yet: register value 1.
pub const READY_REQUEST: ReadRequest =
    ReadRequest { unit: UNIT, function: ReadFunction::HoldingRegisters, start: 0x0027, count: 1 };

/// The protocol: answers to [`READ_REQUEST`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Scd30;

impl Protocol for Scd30 {
    fn look(&self, bytes: &[u8], in_sync: bool) -> Look {
        Rtu(READ_REQUEST).look(bytes, in_sync)
    }
}

impl Read for Scd30 {
    fn read(&self, frame: &[u8], sink: &mut dyn FnMut(&dyn Message)) -> bool {
        let Some(Reply::Data(data)) = Rtu(READ_REQUEST).reply(frame) else { return false };
        let value = |at: u16| Slot { order: ByteOrder::Big, ..Slot::new(at, Raw::F32) }.float(data);
        let (Some(co2_ppm), Some(temperature_cel), Some(humidity_percent)) = (value(0), value(4), value(8))
        else {
            return false;
        };
        sink(&Scd30Reading { co2_ppm, temperature_cel, humidity_percent });
        true
    }
}

message! {
    /// One reading.
    Scd30Reading = "scd30" {
        co2_ppm: f64, "[ppm]", "Carbon dioxide.";
        temperature_cel: f64, "Cel", "Temperature.";
        humidity_percent: f64, "%", "Relative humidity.";
    }
}

//! How it is, and what powers it.

use super::Origin;
use crate::vendor::num::Bytes;
use crate::vendor::view::message;

/// Voltages of the cells there are, mV: ten, and four more in the extension, where 0 is none. A pack that is measured as
/// one is the first "cell"; beyond 65 V it goes on in the next, after a first of 65534.
fn cells(b: Bytes<'_>) -> impl Iterator<Item = u16> {
    let first = (0..10_usize).map(move |cell| b.u16(cell.saturating_mul(2).saturating_add(10)));
    let more = (0..4_usize).map(move |cell| b.u16(cell.saturating_mul(2).saturating_add(41)));
    first.filter(|mv| *mv != u16::MAX).chain(more.filter(|mv| !matches!(*mv, 0 | u16::MAX)))
}

fn pack_v(b: Bytes<'_>) -> Option<f64> {
    let mv = cells(b).fold(None, |sum: Option<u32>, mv| Some(sum.unwrap_or(0).saturating_add(mv.into())))?;
    Some(f64::from(mv) / 1e3)
}

message! {
    /// SYS_STATUS (1): load, battery and errors of the system.
    SysStatus = "mavlink_sys_status" {
        system_id: u8, "1", "Sending system.";
        component_id: u8, "1", "Sending component.";
        sensors_present: u32, "1", "MAV_SYS_STATUS_SENSOR, a bit each.";
        sensors_enabled: u32, "1", "Those switched on.";
        sensors_healthy: u32, "1", "Those that work.";
        load_percent: f64, "%", "Load of the main loop.";
        battery_v: Option<f64>, "V", "Battery voltage.";
        battery_a: Option<f64>, "A", "Battery current.";
        battery_percent: Option<i8>, "%", "Battery left.";
        drop_rate_percent: f64, "%", "Packets dropped on all links.";
        packet_errors: u16, "1", "Packets dropped on all links, count.";
    }
}

impl SysStatus {
    pub(super) fn read(from: Origin, b: Bytes<'_>) -> Self {
        Self {
            system_id: from.system,
            component_id: from.component,
            sensors_present: b.u32(0),
            sensors_enabled: b.u32(4),
            sensors_healthy: b.u32(8),
            load_percent: f64::from(b.u16(12)) / 10.0,
            battery_v: Some(b.u16(14)).filter(|value| *value != u16::MAX).map(|value| f64::from(value) / 1e3),
            battery_a: Some(b.i16(16)).filter(|value| *value != -1).map(|value| f64::from(value) / 1e2),
            battery_percent: Some(b.i8(30)).filter(|value| *value != -1),
            drop_rate_percent: f64::from(b.u16(18)) / 1e2,
            packet_errors: b.u16(20),
        }
    }
}

message! {
    /// BATTERY_STATUS (147): one battery.
    BatteryStatus = "mavlink_battery_status" {
        system_id: u8, "1", "Sending system.";
        component_id: u8, "1", "Sending component.";
        battery_id: u8, "1", "Which one.";
        battery_function: u8, "1", "MAV_BATTERY_FUNCTION.";
        battery_type: u8, "1", "MAV_BATTERY_TYPE.";
        temperature_cel: Option<f64>, "Cel", "Temperature.";
        pack_v: Option<f64>, "V", "Voltage of the pack: the sum of its cells.";
        cells: u8, "1", "Cells with a voltage.";
        current_a: Option<f64>, "A", "Current.";
        consumed_ah: Option<f64>, "A.h", "Charge drawn.";
        consumed_j: Option<f64>, "J", "Energy drawn.";
        remaining_percent: Option<i8>, "%", "Charge left.";
        remaining_s: Option<i32>, "s", "Time left.";
        charge_state: u8, "1", "MAV_BATTERY_CHARGE_STATE, 0 if not told.";
    }
}

impl BatteryStatus {
    pub(super) fn read(from: Origin, b: Bytes<'_>) -> Self {
        Self {
            system_id: from.system,
            component_id: from.component,
            battery_id: b.u8(32),
            battery_function: b.u8(33),
            battery_type: b.u8(34),
            temperature_cel: Some(b.i16(8))
                .filter(|value| *value != i16::MAX)
                .map(|value| f64::from(value) / 1e2),
            pack_v: pack_v(b),
            cells: cells(b).fold(0, |sum, _| sum.saturating_add(1)),
            current_a: Some(b.i16(30)).filter(|value| *value != -1).map(|value| f64::from(value) / 1e2),
            consumed_ah: Some(b.i32(0)).filter(|value| *value != -1).map(|value| f64::from(value) / 1e3),
            consumed_j: Some(b.i32(4)).filter(|value| *value != -1).map(|value| f64::from(value) * 100.0),
            remaining_percent: Some(b.i8(35)).filter(|value| *value != -1),
            remaining_s: Some(b.i32(36)).filter(|value| *value != 0),
            charge_state: b.u8(40),
        }
    }
}

//! UBX-LOG: fixes a receiver gathered while its host slept.

use crate::vendor::num::{Bytes, utc_ns};
use crate::vendor::view::message;

message! {
    /// UBX-LOG-BATCH (0x21 0x11): one fix out of the receiver's batch.
    LogBatch = "ubx_log_batch" {
        count: u16, "1", "Number within the batch.";
        itow_ms: u32, "ms", "GPS time of week of the epoch.";
        utc_ns: Option<i64>, "ns", "UTC since 1970, if date and time are valid.";
        fix_type: u8, "1", "0 none, 2 2D, 3 3D.";
        fix_ok: bool, "1", "The fix is within the limits of the receiver's configuration.";
        satellites: u8, "1", "Satellites used.";
        lat_deg: f64, "deg", "Latitude.";
        lon_deg: f64, "deg", "Longitude.";
        height_m: f64, "m", "Height above the ellipsoid.";
        height_msl_m: f64, "m", "Height above mean sea level.";
        horizontal_accuracy_m: f64, "m", "Horizontal accuracy, estimated.";
        vertical_accuracy_m: f64, "m", "Vertical accuracy, estimated.";
        velocity_north_m_s: f64, "m/s", "Velocity to the north.";
        velocity_east_m_s: f64, "m/s", "Velocity to the east.";
        velocity_down_m_s: f64, "m/s", "Velocity downwards.";
        ground_speed_m_s: f64, "m/s", "Speed over ground.";
        heading_deg: f64, "deg", "Heading of motion.";
        pdop: f64, "1", "Position dilution of precision.";
        distance_m: u32, "m", "Ground distance since the last reset of it.";
        distance_total_m: u32, "m", "Ground distance in all.";
    }
}

impl LogBatch {
    pub(super) fn read(b: Bytes<'_>) -> Self {
        let milli = |at: usize| f64::from(b.i32(at)) / 1e3;
        let valid = b.bit(15, 0) && b.bit(15, 1);
        let utc = utc_ns((b.u16(8), b.u8(10), b.u8(11)), (b.u8(12), b.u8(13), b.u8(14)), b.i32(20));
        Self {
            count: b.u16(2),
            itow_ms: b.u32(4),
            utc_ns: utc.filter(|_| valid),
            fix_type: b.u8(24),
            fix_ok: b.bit(25, 0),
            satellites: b.u8(27),
            lon_deg: f64::from(b.i32(28)) / 1e7,
            lat_deg: f64::from(b.i32(32)) / 1e7,
            height_m: milli(36),
            height_msl_m: milli(40),
            horizontal_accuracy_m: f64::from(b.u32(44)) / 1e3,
            vertical_accuracy_m: f64::from(b.u32(48)) / 1e3,
            velocity_north_m_s: milli(52),
            velocity_east_m_s: milli(56),
            velocity_down_m_s: milli(60),
            ground_speed_m_s: milli(64),
            heading_deg: f64::from(b.i32(68)) / 1e5,
            pdop: f64::from(b.u16(80)) / 1e2,
            distance_m: b.u32(84),
            distance_total_m: b.u32(88),
        }
    }
}

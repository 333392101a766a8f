//! UBX-NAV: position, velocity, time and quality. Scaled integers are given in the unit of their name.

use crate::vendor::num::{Bytes, utc_ns};
use crate::vendor::view::message;

/// Degrees of 1e-7.
fn deg_e7(value: i32) -> f64 {
    f64::from(value) / 1e7
}

fn deg_e5(value: i32) -> f64 {
    f64::from(value) / 1e5
}

fn milli(value: i32) -> f64 {
    f64::from(value) / 1e3
}

fn milli_u(value: u32) -> f64 {
    f64::from(value) / 1e3
}

fn centi(value: i32) -> f64 {
    f64::from(value) / 1e2
}

fn centi_u(value: u32) -> f64 {
    f64::from(value) / 1e2
}

/// Dilutions in hundredths.
fn dop(value: u16) -> f64 {
    f64::from(value) / 1e2
}

message! {
    /// UBX-NAV-PVT (0x01 0x07): position, velocity and time of one epoch.
    NavPvt = "ubx_nav_pvt" {
        itow_ms: u32, "ms", "GPS time of week of the epoch.";
        utc_ns: Option<i64>, "ns", "UTC since 1970, if date and time are valid.";
        time_accuracy_ns: u32, "ns", "Accuracy of the time, estimated.";
        fully_resolved: bool, "1", "No uncertainty of whole seconds is left.";
        fix_type: u8, "1", "0 none, 1 dead reckoning, 2 2D, 3 3D, 4 both, 5 time only.";
        fix_ok: bool, "1", "The fix is within the limits of the receiver's configuration.";
        differential: bool, "1", "Differential corrections were applied.";
        carrier_solution: u8, "1", "Carrier phase range solution: 0 none, 1 float, 2 fixed.";
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
        speed_accuracy_m_s: f64, "m/s", "Accuracy of the speed, estimated.";
        heading_accuracy_deg: f64, "deg", "Accuracy of the heading, estimated.";
        pdop: f64, "1", "Position dilution of precision.";
    }
}

impl NavPvt {
    pub(super) fn read(b: Bytes<'_>) -> Self {
        let valid = b.bit(11, 0) && b.bit(11, 1);
        let utc = utc_ns((b.u16(4), b.u8(6), b.u8(7)), (b.u8(8), b.u8(9), b.u8(10)), b.i32(16));
        Self {
            itow_ms: b.u32(0),
            utc_ns: utc.filter(|_| valid),
            time_accuracy_ns: b.u32(12),
            fully_resolved: b.bit(11, 2),
            fix_type: b.u8(20),
            fix_ok: b.bit(21, 0),
            differential: b.bit(21, 1),
            carrier_solution: b.u8(21) >> 6,
            satellites: b.u8(23),
            lon_deg: deg_e7(b.i32(24)),
            lat_deg: deg_e7(b.i32(28)),
            height_m: milli(b.i32(32)),
            height_msl_m: milli(b.i32(36)),
            horizontal_accuracy_m: milli_u(b.u32(40)),
            vertical_accuracy_m: milli_u(b.u32(44)),
            velocity_north_m_s: milli(b.i32(48)),
            velocity_east_m_s: milli(b.i32(52)),
            velocity_down_m_s: milli(b.i32(56)),
            ground_speed_m_s: milli(b.i32(60)),
            heading_deg: deg_e5(b.i32(64)),
            speed_accuracy_m_s: milli_u(b.u32(68)),
            heading_accuracy_deg: f64::from(b.u32(72)) / 1e5,
            pdop: dop(b.u16(76)),
        }
    }
}

message! {
    /// UBX-NAV-SOL (0x01 0x06): navigation solution in earth-centred coordinates, of receivers up to M8.
    NavSol = "ubx_nav_sol" {
        itow_ms: u32, "ms", "GPS time of week of the epoch.";
        itow_rest_ns: i32, "ns", "What the time of week lacks, ±500 000.";
        week: i16, "1", "GPS week.";
        time_valid: bool, "1", "Week and time of week are valid.";
        fix_type: u8, "1", "0 none, 1 dead reckoning, 2 2D, 3 3D, 4 both, 5 time only.";
        fix_ok: bool, "1", "The fix is within the limits of the receiver's configuration.";
        differential: bool, "1", "Differential corrections were applied.";
        ecef_x_m: f64, "m", "X coordinate.";
        ecef_y_m: f64, "m", "Y coordinate.";
        ecef_z_m: f64, "m", "Z coordinate.";
        position_accuracy_m: f64, "m", "Accuracy of the position, estimated.";
        ecef_vx_m_s: f64, "m/s", "X velocity.";
        ecef_vy_m_s: f64, "m/s", "Y velocity.";
        ecef_vz_m_s: f64, "m/s", "Z velocity.";
        speed_accuracy_m_s: f64, "m/s", "Accuracy of the speed, estimated.";
        pdop: f64, "1", "Position dilution of precision.";
        satellites: u8, "1", "Satellites used.";
    }
}

impl NavSol {
    pub(super) fn read(b: Bytes<'_>) -> Self {
        Self {
            itow_ms: b.u32(0),
            itow_rest_ns: b.i32(4),
            week: b.i16(8),
            time_valid: b.bit(11, 2) && b.bit(11, 3),
            fix_type: b.u8(10),
            fix_ok: b.bit(11, 0),
            differential: b.bit(11, 1),
            ecef_x_m: centi(b.i32(12)),
            ecef_y_m: centi(b.i32(16)),
            ecef_z_m: centi(b.i32(20)),
            position_accuracy_m: centi_u(b.u32(24)),
            ecef_vx_m_s: centi(b.i32(28)),
            ecef_vy_m_s: centi(b.i32(32)),
            ecef_vz_m_s: centi(b.i32(36)),
            speed_accuracy_m_s: centi_u(b.u32(40)),
            pdop: dop(b.u16(44)),
            satellites: b.u8(47),
        }
    }
}

message! {
    /// UBX-NAV-POSLLH (0x01 0x02): geodetic position.
    NavPosllh = "ubx_nav_posllh" {
        itow_ms: u32, "ms", "GPS time of week of the epoch.";
        lat_deg: f64, "deg", "Latitude.";
        lon_deg: f64, "deg", "Longitude.";
        height_m: f64, "m", "Height above the ellipsoid.";
        height_msl_m: f64, "m", "Height above mean sea level.";
        horizontal_accuracy_m: f64, "m", "Horizontal accuracy, estimated.";
        vertical_accuracy_m: f64, "m", "Vertical accuracy, estimated.";
    }
}

impl NavPosllh {
    pub(super) fn read(b: Bytes<'_>) -> Self {
        Self {
            itow_ms: b.u32(0),
            lon_deg: deg_e7(b.i32(4)),
            lat_deg: deg_e7(b.i32(8)),
            height_m: milli(b.i32(12)),
            height_msl_m: milli(b.i32(16)),
            horizontal_accuracy_m: milli_u(b.u32(20)),
            vertical_accuracy_m: milli_u(b.u32(24)),
        }
    }
}

message! {
    /// UBX-NAV-HPPOSLLH (0x01 0x14): geodetic position with high precision.
    NavHpposllh = "ubx_nav_hpposllh" {
        itow_ms: u32, "ms", "GPS time of week of the epoch.";
        valid: bool, "1", "The position is valid.";
        lat_deg: f64, "deg", "Latitude.";
        lon_deg: f64, "deg", "Longitude.";
        height_m: f64, "m", "Height above the ellipsoid.";
        height_msl_m: f64, "m", "Height above mean sea level.";
        horizontal_accuracy_m: f64, "m", "Horizontal accuracy, estimated.";
        vertical_accuracy_m: f64, "m", "Vertical accuracy, estimated.";
    }
}

impl NavHpposllh {
    pub(super) fn read(b: Bytes<'_>) -> Self {
        let fine_deg =
            |coarse: usize, fine: usize| (f64::from(b.i32(coarse)) * 100.0 + f64::from(b.i8(fine))) / 1e9;
        let fine_m =
            |coarse: usize, fine: usize| (f64::from(b.i32(coarse)) * 10.0 + f64::from(b.i8(fine))) / 1e4;
        Self {
            itow_ms: b.u32(4),
            valid: !b.bit(3, 0),
            lon_deg: fine_deg(8, 24),
            lat_deg: fine_deg(12, 25),
            height_m: fine_m(16, 26),
            height_msl_m: fine_m(20, 27),
            horizontal_accuracy_m: f64::from(b.u32(28)) / 1e4,
            vertical_accuracy_m: f64::from(b.u32(32)) / 1e4,
        }
    }
}

message! {
    /// UBX-NAV-VELNED (0x01 0x12): velocity to north, east and down.
    NavVelned = "ubx_nav_velned" {
        itow_ms: u32, "ms", "GPS time of week of the epoch.";
        velocity_north_m_s: f64, "m/s", "Velocity to the north.";
        velocity_east_m_s: f64, "m/s", "Velocity to the east.";
        velocity_down_m_s: f64, "m/s", "Velocity downwards.";
        speed_m_s: f64, "m/s", "Speed in three dimensions.";
        ground_speed_m_s: f64, "m/s", "Speed over ground.";
        heading_deg: f64, "deg", "Heading of motion.";
        speed_accuracy_m_s: f64, "m/s", "Accuracy of the speed, estimated.";
        heading_accuracy_deg: f64, "deg", "Accuracy of the heading, estimated.";
    }
}

impl NavVelned {
    pub(super) fn read(b: Bytes<'_>) -> Self {
        Self {
            itow_ms: b.u32(0),
            velocity_north_m_s: centi(b.i32(4)),
            velocity_east_m_s: centi(b.i32(8)),
            velocity_down_m_s: centi(b.i32(12)),
            speed_m_s: centi_u(b.u32(16)),
            ground_speed_m_s: centi_u(b.u32(20)),
            heading_deg: deg_e5(b.i32(24)),
            speed_accuracy_m_s: centi_u(b.u32(28)),
            heading_accuracy_deg: f64::from(b.u32(32)) / 1e5,
        }
    }
}

message! {
    /// UBX-NAV-POSECEF (0x01 0x01): position in earth-centred coordinates.
    NavPosecef = "ubx_nav_posecef" {
        itow_ms: u32, "ms", "GPS time of week of the epoch.";
        ecef_x_m: f64, "m", "X coordinate.";
        ecef_y_m: f64, "m", "Y coordinate.";
        ecef_z_m: f64, "m", "Z coordinate.";
        position_accuracy_m: f64, "m", "Accuracy of the position, estimated.";
    }
}

impl NavPosecef {
    pub(super) fn read(b: Bytes<'_>) -> Self {
        Self {
            itow_ms: b.u32(0),
            ecef_x_m: centi(b.i32(4)),
            ecef_y_m: centi(b.i32(8)),
            ecef_z_m: centi(b.i32(12)),
            position_accuracy_m: centi_u(b.u32(16)),
        }
    }
}

message! {
    /// UBX-NAV-VELECEF (0x01 0x11): velocity in earth-centred coordinates.
    NavVelecef = "ubx_nav_velecef" {
        itow_ms: u32, "ms", "GPS time of week of the epoch.";
        ecef_vx_m_s: f64, "m/s", "X velocity.";
        ecef_vy_m_s: f64, "m/s", "Y velocity.";
        ecef_vz_m_s: f64, "m/s", "Z velocity.";
        speed_accuracy_m_s: f64, "m/s", "Accuracy of the speed, estimated.";
    }
}

impl NavVelecef {
    pub(super) fn read(b: Bytes<'_>) -> Self {
        Self {
            itow_ms: b.u32(0),
            ecef_vx_m_s: centi(b.i32(4)),
            ecef_vy_m_s: centi(b.i32(8)),
            ecef_vz_m_s: centi(b.i32(12)),
            speed_accuracy_m_s: centi_u(b.u32(16)),
        }
    }
}

message! {
    /// UBX-NAV-TIMEUTC (0x01 0x21): UTC.
    NavTimeutc = "ubx_nav_timeutc" {
        itow_ms: u32, "ms", "GPS time of week of the epoch.";
        utc_ns: Option<i64>, "ns", "UTC since 1970, if the leap seconds are known.";
        time_accuracy_ns: u32, "ns", "Accuracy of the time, estimated.";
    }
}

impl NavTimeutc {
    pub(super) fn read(b: Bytes<'_>) -> Self {
        let utc = utc_ns((b.u16(12), b.u8(14), b.u8(15)), (b.u8(16), b.u8(17), b.u8(18)), b.i32(8));
        Self { itow_ms: b.u32(0), utc_ns: utc.filter(|_| b.bit(19, 2)), time_accuracy_ns: b.u32(4) }
    }
}

message! {
    /// UBX-NAV-TIMEGPS (0x01 0x20): GPS time.
    NavTimegps = "ubx_nav_timegps" {
        itow_ms: u32, "ms", "GPS time of week of the epoch.";
        itow_rest_ns: i32, "ns", "What the time of week lacks, ±500 000.";
        week: i16, "1", "GPS week.";
        leap_s: Option<i8>, "s", "GPS time minus UTC, if valid.";
        time_valid: bool, "1", "Week and time of week are valid.";
        time_accuracy_ns: u32, "ns", "Accuracy of the time, estimated.";
    }
}

impl NavTimegps {
    pub(super) fn read(b: Bytes<'_>) -> Self {
        Self {
            itow_ms: b.u32(0),
            itow_rest_ns: b.i32(4),
            week: b.i16(8),
            leap_s: b.bit(11, 2).then(|| b.i8(10)),
            time_valid: b.bit(11, 0) && b.bit(11, 1),
            time_accuracy_ns: b.u32(12),
        }
    }
}

message! {
    /// UBX-NAV-TIMELS (0x01 0x26): leap seconds, now and announced.
    NavTimels = "ubx_nav_timels" {
        itow_ms: u32, "ms", "GPS time of week of the epoch.";
        leap_s: Option<i8>, "s", "Leap seconds since 1980, if valid.";
        leap_change_s: Option<i8>, "s", "The announced change, if valid.";
        until_change_s: Option<i32>, "s", "Time until that change, negative after it, if valid.";
    }
}

impl NavTimels {
    pub(super) fn read(b: Bytes<'_>) -> Self {
        let announced = b.bit(23, 1);
        Self {
            itow_ms: b.u32(0),
            leap_s: b.bit(23, 0).then(|| b.i8(9)),
            leap_change_s: announced.then(|| b.i8(11)),
            until_change_s: announced.then(|| b.i32(12)),
        }
    }
}

message! {
    /// UBX-NAV-CLOCK (0x01 0x22): the receiver's clock against GPS time.
    NavClock = "ubx_nav_clock" {
        itow_ms: u32, "ms", "GPS time of week of the epoch.";
        bias_ns: i32, "ns", "Clock bias.";
        drift_ns_s: i32, "ns/s", "Clock drift.";
        time_accuracy_ns: u32, "ns", "Accuracy of the time, estimated.";
        frequency_accuracy_ps_s: u32, "ps/s", "Accuracy of the frequency, estimated.";
    }
}

impl NavClock {
    pub(super) fn read(b: Bytes<'_>) -> Self {
        Self {
            itow_ms: b.u32(0),
            bias_ns: b.i32(4),
            drift_ns_s: b.i32(8),
            time_accuracy_ns: b.u32(12),
            frequency_accuracy_ps_s: b.u32(16),
        }
    }
}

message! {
    /// UBX-NAV-STATUS (0x01 0x03): fix and start-up.
    NavStatus = "ubx_nav_status" {
        itow_ms: u32, "ms", "GPS time of week of the epoch.";
        fix_type: u8, "1", "0 none, 1 dead reckoning, 2 2D, 3 3D, 4 both, 5 time only.";
        fix_ok: bool, "1", "The fix is within the limits of the receiver's configuration.";
        differential: bool, "1", "Differential corrections were applied.";
        time_valid: bool, "1", "Week and time of week are valid.";
        first_fix_ms: u32, "ms", "Time to first fix.";
        uptime_ms: u32, "ms", "Time since start-up or reset.";
    }
}

impl NavStatus {
    pub(super) fn read(b: Bytes<'_>) -> Self {
        Self {
            itow_ms: b.u32(0),
            fix_type: b.u8(4),
            fix_ok: b.bit(5, 0),
            differential: b.bit(5, 1),
            time_valid: b.bit(5, 2) && b.bit(5, 3),
            first_fix_ms: b.u32(8),
            uptime_ms: b.u32(12),
        }
    }
}

message! {
    /// UBX-NAV-DOP (0x01 0x04): dilutions of precision.
    NavDop = "ubx_nav_dop" {
        itow_ms: u32, "ms", "GPS time of week of the epoch.";
        gdop: f64, "1", "Geometric.";
        pdop: f64, "1", "Position.";
        tdop: f64, "1", "Time.";
        vdop: f64, "1", "Vertical.";
        hdop: f64, "1", "Horizontal.";
        ndop: f64, "1", "Northing.";
        edop: f64, "1", "Easting.";
    }
}

impl NavDop {
    pub(super) fn read(b: Bytes<'_>) -> Self {
        Self {
            itow_ms: b.u32(0),
            gdop: dop(b.u16(4)),
            pdop: dop(b.u16(6)),
            tdop: dop(b.u16(8)),
            vdop: dop(b.u16(10)),
            hdop: dop(b.u16(12)),
            ndop: dop(b.u16(14)),
            edop: dop(b.u16(16)),
        }
    }
}

//! Who it is, where it is and how it moves.

use super::Origin;
use crate::vendor::num::Bytes;
use crate::vendor::view::{Text, message};

message! {
    /// HEARTBEAT (0): that it is there, and in which state.
    Heartbeat = "mavlink_heartbeat" {
        system_id: u8, "1", "Sending system.";
        component_id: u8, "1", "Sending component.";
        vehicle_type: u8, "1", "MAV_TYPE.";
        autopilot: u8, "1", "MAV_AUTOPILOT.";
        base_mode: u8, "1", "MAV_MODE_FLAG, a bit each; 128 armed.";
        custom_mode: u32, "1", "The autopilot's own mode.";
        system_status: u8, "1", "MAV_STATE: 3 standby, 4 active, 5 critical, 6 emergency.";
    }
}

impl Heartbeat {
    pub(super) fn read(from: Origin, b: Bytes<'_>) -> Self {
        Self {
            system_id: from.system,
            component_id: from.component,
            vehicle_type: b.u8(4),
            autopilot: b.u8(5),
            base_mode: b.u8(6),
            custom_mode: b.u32(0),
            system_status: b.u8(7),
        }
    }
}

message! {
    /// SYSTEM_TIME (2): its clocks.
    SystemTime = "mavlink_system_time" {
        system_id: u8, "1", "Sending system.";
        component_id: u8, "1", "Sending component.";
        unix_us: Option<u64>, "us", "UTC since 1970, if it knows it.";
        boot_ms: u32, "ms", "Time since the system booted.";
    }
}

impl SystemTime {
    pub(super) fn read(from: Origin, b: Bytes<'_>) -> Self {
        Self {
            system_id: from.system,
            component_id: from.component,
            unix_us: Some(b.u64(0)).filter(|value| *value != 0),
            boot_ms: b.u32(8),
        }
    }
}

message! {
    /// GPS_RAW_INT (24): what the receiver says, not the fused position.
    GpsRawInt = "mavlink_gps_raw_int" {
        system_id: u8, "1", "Sending system.";
        component_id: u8, "1", "Sending component.";
        time_us: u64, "us", "Time since 1970 or since boot: the sender decides.";
        fix_type: u8, "1", "GPS_FIX_TYPE: 0 no receiver, 1 none, 2 2D, 3 3D, 4 differential, 5 float, 6 fixed.";
        lat_deg: f64, "deg", "Latitude.";
        lon_deg: f64, "deg", "Longitude.";
        altitude_msl_m: f64, "m", "Altitude above mean sea level.";
        hdop: Option<f64>, "1", "Horizontal dilution of precision.";
        vdop: Option<f64>, "1", "Vertical dilution of precision.";
        ground_speed_m_s: Option<f64>, "m/s", "Speed over ground.";
        course_deg: Option<f64>, "deg", "Course over ground.";
        satellites: Option<u8>, "1", "Satellites visible.";
    }
}

impl GpsRawInt {
    pub(super) fn read(from: Origin, b: Bytes<'_>) -> Self {
        Self {
            system_id: from.system,
            component_id: from.component,
            time_us: b.u64(0),
            fix_type: b.u8(28),
            lat_deg: f64::from(b.i32(8)) / 1e7,
            lon_deg: f64::from(b.i32(12)) / 1e7,
            altitude_msl_m: f64::from(b.i32(16)) / 1e3,
            hdop: Some(b.u16(20)).filter(|value| *value != u16::MAX).map(|value| f64::from(value) / 1e2),
            vdop: Some(b.u16(22)).filter(|value| *value != u16::MAX).map(|value| f64::from(value) / 1e2),
            ground_speed_m_s: Some(b.u16(24))
                .filter(|value| *value != u16::MAX)
                .map(|value| f64::from(value) / 1e2),
            course_deg: Some(b.u16(26))
                .filter(|value| *value != u16::MAX)
                .map(|value| f64::from(value) / 1e2),
            satellites: Some(b.u8(29)).filter(|value| *value != u8::MAX),
        }
    }
}

message! {
    /// ATTITUDE (30): attitude as angles.
    Attitude = "mavlink_attitude" {
        system_id: u8, "1", "Sending system.";
        component_id: u8, "1", "Sending component.";
        boot_ms: u32, "ms", "Time since the system booted.";
        roll_rad: f32, "rad", "Roll.";
        pitch_rad: f32, "rad", "Pitch.";
        yaw_rad: f32, "rad", "Yaw.";
        roll_rate_rad_s: f32, "rad/s", "Roll rate.";
        pitch_rate_rad_s: f32, "rad/s", "Pitch rate.";
        yaw_rate_rad_s: f32, "rad/s", "Yaw rate.";
    }
}

impl Attitude {
    pub(super) fn read(from: Origin, b: Bytes<'_>) -> Self {
        Self {
            system_id: from.system,
            component_id: from.component,
            boot_ms: b.u32(0),
            roll_rad: b.f32(4),
            pitch_rad: b.f32(8),
            yaw_rad: b.f32(12),
            roll_rate_rad_s: b.f32(16),
            pitch_rate_rad_s: b.f32(20),
            yaw_rate_rad_s: b.f32(24),
        }
    }
}

message! {
    /// ATTITUDE_QUATERNION (31): attitude as a quaternion.
    AttitudeQuaternion = "mavlink_attitude_quaternion" {
        system_id: u8, "1", "Sending system.";
        component_id: u8, "1", "Sending component.";
        boot_ms: u32, "ms", "Time since the system booted.";
        q_w: f32, "1", "Quaternion, w.";
        q_x: f32, "1", "Quaternion, x.";
        q_y: f32, "1", "Quaternion, y.";
        q_z: f32, "1", "Quaternion, z.";
        roll_rate_rad_s: f32, "rad/s", "Roll rate.";
        pitch_rate_rad_s: f32, "rad/s", "Pitch rate.";
        yaw_rate_rad_s: f32, "rad/s", "Yaw rate.";
    }
}

impl AttitudeQuaternion {
    pub(super) fn read(from: Origin, b: Bytes<'_>) -> Self {
        Self {
            system_id: from.system,
            component_id: from.component,
            boot_ms: b.u32(0),
            q_w: b.f32(4),
            q_x: b.f32(8),
            q_y: b.f32(12),
            q_z: b.f32(16),
            roll_rate_rad_s: b.f32(20),
            pitch_rate_rad_s: b.f32(24),
            yaw_rate_rad_s: b.f32(28),
        }
    }
}

message! {
    /// LOCAL_POSITION_NED (32): fused position against a local origin.
    LocalPositionNed = "mavlink_local_position_ned" {
        system_id: u8, "1", "Sending system.";
        component_id: u8, "1", "Sending component.";
        boot_ms: u32, "ms", "Time since the system booted.";
        north_m: f32, "m", "To the north.";
        east_m: f32, "m", "To the east.";
        down_m: f32, "m", "Downwards.";
        velocity_north_m_s: f32, "m/s", "Velocity to the north.";
        velocity_east_m_s: f32, "m/s", "Velocity to the east.";
        velocity_down_m_s: f32, "m/s", "Velocity downwards.";
    }
}

impl LocalPositionNed {
    pub(super) fn read(from: Origin, b: Bytes<'_>) -> Self {
        Self {
            system_id: from.system,
            component_id: from.component,
            boot_ms: b.u32(0),
            north_m: b.f32(4),
            east_m: b.f32(8),
            down_m: b.f32(12),
            velocity_north_m_s: b.f32(16),
            velocity_east_m_s: b.f32(20),
            velocity_down_m_s: b.f32(24),
        }
    }
}

message! {
    /// GLOBAL_POSITION_INT (33): fused position.
    GlobalPositionInt = "mavlink_global_position_int" {
        system_id: u8, "1", "Sending system.";
        component_id: u8, "1", "Sending component.";
        boot_ms: u32, "ms", "Time since the system booted.";
        lat_deg: f64, "deg", "Latitude.";
        lon_deg: f64, "deg", "Longitude.";
        altitude_msl_m: f64, "m", "Altitude above mean sea level.";
        altitude_home_m: f64, "m", "Altitude above home.";
        velocity_north_m_s: f64, "m/s", "Velocity to the north.";
        velocity_east_m_s: f64, "m/s", "Velocity to the east.";
        velocity_down_m_s: f64, "m/s", "Velocity downwards.";
        heading_deg: Option<f64>, "deg", "Heading.";
    }
}

impl GlobalPositionInt {
    pub(super) fn read(from: Origin, b: Bytes<'_>) -> Self {
        Self {
            system_id: from.system,
            component_id: from.component,
            boot_ms: b.u32(0),
            lat_deg: f64::from(b.i32(4)) / 1e7,
            lon_deg: f64::from(b.i32(8)) / 1e7,
            altitude_msl_m: f64::from(b.i32(12)) / 1e3,
            altitude_home_m: f64::from(b.i32(16)) / 1e3,
            velocity_north_m_s: f64::from(b.i16(20)) / 1e2,
            velocity_east_m_s: f64::from(b.i16(22)) / 1e2,
            velocity_down_m_s: f64::from(b.i16(24)) / 1e2,
            heading_deg: Some(b.u16(26))
                .filter(|value| *value != u16::MAX)
                .map(|value| f64::from(value) / 1e2),
        }
    }
}

message! {
    /// VFR_HUD (74): what a pilot looks at.
    VfrHud = "mavlink_vfr_hud" {
        system_id: u8, "1", "Sending system.";
        component_id: u8, "1", "Sending component.";
        air_speed_m_s: f32, "m/s", "Indicated or calibrated air speed.";
        ground_speed_m_s: f32, "m/s", "Speed over ground.";
        heading_deg: i16, "deg", "Heading.";
        throttle_percent: u16, "%", "Throttle.";
        altitude_msl_m: f32, "m", "Altitude above mean sea level.";
        climb_m_s: f32, "m/s", "Climb rate.";
    }
}

impl VfrHud {
    pub(super) fn read(from: Origin, b: Bytes<'_>) -> Self {
        Self {
            system_id: from.system,
            component_id: from.component,
            air_speed_m_s: b.f32(0),
            ground_speed_m_s: b.f32(4),
            heading_deg: b.i16(16),
            throttle_percent: b.u16(18),
            altitude_msl_m: b.f32(8),
            climb_m_s: b.f32(12),
        }
    }
}

message! {
    /// STATUSTEXT (253): a line for people.
    Statustext = "mavlink_statustext" {
        system_id: u8, "1", "Sending system.";
        component_id: u8, "1", "Sending component.";
        severity: u8, "1", "MAV_SEVERITY: 0 emergency … 7 debug.";
        text: Text<50>, "1", "Text.";
    }
}

impl Statustext {
    pub(super) fn read(from: Origin, b: Bytes<'_>) -> Self {
        Self {
            system_id: from.system,
            component_id: from.component,
            severity: b.u8(0),
            text: Text::new(b.slice(1, 50)),
        }
    }
}

//! What its sensors measure.

use super::Origin;
use crate::vendor::num::Bytes;
use crate::vendor::view::message;

/// m/s² of standard gravity: accelerations are sent in thousandths of it.
const G: f64 = 9.806_65;

message! {
    /// SCALED_IMU (26): inertial sensors, scaled.
    ScaledImu = "mavlink_scaled_imu" {
        system_id: u8, "1", "Sending system.";
        component_id: u8, "1", "Sending component.";
        boot_ms: u32, "ms", "Time since the system booted.";
        acceleration_x_m_s2: f64, "m/s2", "Acceleration, x.";
        acceleration_y_m_s2: f64, "m/s2", "Acceleration, y.";
        acceleration_z_m_s2: f64, "m/s2", "Acceleration, z.";
        rate_x_rad_s: f64, "rad/s", "Angular speed, x.";
        rate_y_rad_s: f64, "rad/s", "Angular speed, y.";
        rate_z_rad_s: f64, "rad/s", "Angular speed, z.";
        field_x_ut: f64, "uT", "Magnetic field, x.";
        field_y_ut: f64, "uT", "Magnetic field, y.";
        field_z_ut: f64, "uT", "Magnetic field, z.";
        temperature_cel: Option<f64>, "Cel", "Temperature, if the sensor has one.";
    }
}

impl ScaledImu {
    pub(super) fn read(from: Origin, b: Bytes<'_>) -> Self {
        Self {
            system_id: from.system,
            component_id: from.component,
            boot_ms: b.u32(0),
            acceleration_x_m_s2: f64::from(b.i16(4)) * 0.001 * G,
            acceleration_y_m_s2: f64::from(b.i16(6)) * 0.001 * G,
            acceleration_z_m_s2: f64::from(b.i16(8)) * 0.001 * G,
            rate_x_rad_s: f64::from(b.i16(10)) / 1e3,
            rate_y_rad_s: f64::from(b.i16(12)) / 1e3,
            rate_z_rad_s: f64::from(b.i16(14)) / 1e3,
            field_x_ut: f64::from(b.i16(16)) / 10.0,
            field_y_ut: f64::from(b.i16(18)) / 10.0,
            field_z_ut: f64::from(b.i16(20)) / 10.0,
            temperature_cel: Some(b.i16(22)).filter(|value| *value != 0).map(|value| f64::from(value) / 1e2),
        }
    }
}

message! {
    /// RAW_IMU (27): inertial sensors as they count.
    RawImu = "mavlink_raw_imu" {
        system_id: u8, "1", "Sending system.";
        component_id: u8, "1", "Sending component.";
        time_us: u64, "us", "Time since 1970 or since boot: the sender decides.";
        acceleration_x_count: i16, "1", "Acceleration, x, in counts of the sensor.";
        acceleration_y_count: i16, "1", "Acceleration, y, in counts of the sensor.";
        acceleration_z_count: i16, "1", "Acceleration, z, in counts of the sensor.";
        rate_x_count: i16, "1", "Angular speed, x, in counts of the sensor.";
        rate_y_count: i16, "1", "Angular speed, y, in counts of the sensor.";
        rate_z_count: i16, "1", "Angular speed, z, in counts of the sensor.";
        field_x_count: i16, "1", "Magnetic field, x, in counts of the sensor.";
        field_y_count: i16, "1", "Magnetic field, y, in counts of the sensor.";
        field_z_count: i16, "1", "Magnetic field, z, in counts of the sensor.";
        sensor_id: u8, "1", "Which one.";
        temperature_cel: Option<f64>, "Cel", "Temperature, if the sensor has one.";
    }
}

impl RawImu {
    pub(super) fn read(from: Origin, b: Bytes<'_>) -> Self {
        Self {
            system_id: from.system,
            component_id: from.component,
            time_us: b.u64(0),
            acceleration_x_count: b.i16(8),
            acceleration_y_count: b.i16(10),
            acceleration_z_count: b.i16(12),
            rate_x_count: b.i16(14),
            rate_y_count: b.i16(16),
            rate_z_count: b.i16(18),
            field_x_count: b.i16(20),
            field_y_count: b.i16(22),
            field_z_count: b.i16(24),
            sensor_id: b.u8(26),
            temperature_cel: Some(b.i16(27)).filter(|value| *value != 0).map(|value| f64::from(value) / 1e2),
        }
    }
}

message! {
    /// SCALED_PRESSURE (29): pressure.
    ScaledPressure = "mavlink_scaled_pressure" {
        system_id: u8, "1", "Sending system.";
        component_id: u8, "1", "Sending component.";
        boot_ms: u32, "ms", "Time since the system booted.";
        pressure_hpa: f32, "hPa", "Absolute pressure.";
        differential_hpa: f32, "hPa", "Differential pressure.";
        temperature_cel: f64, "Cel", "Temperature of the absolute sensor.";
        differential_cel: Option<f64>, "Cel", "Temperature of the differential sensor, if it has one.";
    }
}

impl ScaledPressure {
    pub(super) fn read(from: Origin, b: Bytes<'_>) -> Self {
        Self {
            system_id: from.system,
            component_id: from.component,
            boot_ms: b.u32(0),
            pressure_hpa: b.f32(4),
            differential_hpa: b.f32(8),
            temperature_cel: f64::from(b.i16(12)) / 1e2,
            differential_cel: Some(b.i16(14)).filter(|value| *value != 0).map(|value| f64::from(value) / 1e2),
        }
    }
}

message! {
    /// HIGHRES_IMU (105): all inertial sensors in SI units.
    HighresImu = "mavlink_highres_imu" {
        system_id: u8, "1", "Sending system.";
        component_id: u8, "1", "Sending component.";
        time_us: u64, "us", "Time since 1970 or since boot: the sender decides.";
        acceleration_x_m_s2: f32, "m/s2", "Acceleration, x.";
        acceleration_y_m_s2: f32, "m/s2", "Acceleration, y.";
        acceleration_z_m_s2: f32, "m/s2", "Acceleration, z.";
        rate_x_rad_s: f32, "rad/s", "Angular speed, x.";
        rate_y_rad_s: f32, "rad/s", "Angular speed, y.";
        rate_z_rad_s: f32, "rad/s", "Angular speed, z.";
        field_x_gauss: f32, "G", "Magnetic field, x.";
        field_y_gauss: f32, "G", "Magnetic field, y.";
        field_z_gauss: f32, "G", "Magnetic field, z.";
        pressure_hpa: f32, "hPa", "Absolute pressure.";
        differential_hpa: f32, "hPa", "Differential pressure.";
        pressure_altitude_m: f32, "m", "Altitude by pressure.";
        temperature_cel: f32, "Cel", "Temperature.";
        fields_updated: u16, "1", "Fields that are new, a bit each.";
        sensor_id: u8, "1", "Which one.";
    }
}

impl HighresImu {
    pub(super) fn read(from: Origin, b: Bytes<'_>) -> Self {
        Self {
            system_id: from.system,
            component_id: from.component,
            time_us: b.u64(0),
            acceleration_x_m_s2: b.f32(8),
            acceleration_y_m_s2: b.f32(12),
            acceleration_z_m_s2: b.f32(16),
            rate_x_rad_s: b.f32(20),
            rate_y_rad_s: b.f32(24),
            rate_z_rad_s: b.f32(28),
            field_x_gauss: b.f32(32),
            field_y_gauss: b.f32(36),
            field_z_gauss: b.f32(40),
            pressure_hpa: b.f32(44),
            differential_hpa: b.f32(48),
            pressure_altitude_m: b.f32(52),
            temperature_cel: b.f32(56),
            fields_updated: b.u16(60),
            sensor_id: b.u8(62),
        }
    }
}

message! {
    /// SCALED_IMU2 (116): inertial sensors of the second unit, scaled.
    ScaledImu2 = "mavlink_scaled_imu2" {
        system_id: u8, "1", "Sending system.";
        component_id: u8, "1", "Sending component.";
        boot_ms: u32, "ms", "Time since the system booted.";
        acceleration_x_m_s2: f64, "m/s2", "Acceleration, x.";
        acceleration_y_m_s2: f64, "m/s2", "Acceleration, y.";
        acceleration_z_m_s2: f64, "m/s2", "Acceleration, z.";
        rate_x_rad_s: f64, "rad/s", "Angular speed, x.";
        rate_y_rad_s: f64, "rad/s", "Angular speed, y.";
        rate_z_rad_s: f64, "rad/s", "Angular speed, z.";
        field_x_ut: f64, "uT", "Magnetic field, x.";
        field_y_ut: f64, "uT", "Magnetic field, y.";
        field_z_ut: f64, "uT", "Magnetic field, z.";
        temperature_cel: Option<f64>, "Cel", "Temperature, if the sensor has one.";
    }
}

impl ScaledImu2 {
    pub(super) fn read(from: Origin, b: Bytes<'_>) -> Self {
        Self {
            system_id: from.system,
            component_id: from.component,
            boot_ms: b.u32(0),
            acceleration_x_m_s2: f64::from(b.i16(4)) * 0.001 * G,
            acceleration_y_m_s2: f64::from(b.i16(6)) * 0.001 * G,
            acceleration_z_m_s2: f64::from(b.i16(8)) * 0.001 * G,
            rate_x_rad_s: f64::from(b.i16(10)) / 1e3,
            rate_y_rad_s: f64::from(b.i16(12)) / 1e3,
            rate_z_rad_s: f64::from(b.i16(14)) / 1e3,
            field_x_ut: f64::from(b.i16(16)) / 10.0,
            field_y_ut: f64::from(b.i16(18)) / 10.0,
            field_z_ut: f64::from(b.i16(20)) / 10.0,
            temperature_cel: Some(b.i16(22)).filter(|value| *value != 0).map(|value| f64::from(value) / 1e2),
        }
    }
}

message! {
    /// SCALED_IMU3 (129): inertial sensors of the third unit, scaled.
    ScaledImu3 = "mavlink_scaled_imu3" {
        system_id: u8, "1", "Sending system.";
        component_id: u8, "1", "Sending component.";
        boot_ms: u32, "ms", "Time since the system booted.";
        acceleration_x_m_s2: f64, "m/s2", "Acceleration, x.";
        acceleration_y_m_s2: f64, "m/s2", "Acceleration, y.";
        acceleration_z_m_s2: f64, "m/s2", "Acceleration, z.";
        rate_x_rad_s: f64, "rad/s", "Angular speed, x.";
        rate_y_rad_s: f64, "rad/s", "Angular speed, y.";
        rate_z_rad_s: f64, "rad/s", "Angular speed, z.";
        field_x_ut: f64, "uT", "Magnetic field, x.";
        field_y_ut: f64, "uT", "Magnetic field, y.";
        field_z_ut: f64, "uT", "Magnetic field, z.";
        temperature_cel: Option<f64>, "Cel", "Temperature, if the sensor has one.";
    }
}

impl ScaledImu3 {
    pub(super) fn read(from: Origin, b: Bytes<'_>) -> Self {
        Self {
            system_id: from.system,
            component_id: from.component,
            boot_ms: b.u32(0),
            acceleration_x_m_s2: f64::from(b.i16(4)) * 0.001 * G,
            acceleration_y_m_s2: f64::from(b.i16(6)) * 0.001 * G,
            acceleration_z_m_s2: f64::from(b.i16(8)) * 0.001 * G,
            rate_x_rad_s: f64::from(b.i16(10)) / 1e3,
            rate_y_rad_s: f64::from(b.i16(12)) / 1e3,
            rate_z_rad_s: f64::from(b.i16(14)) / 1e3,
            field_x_ut: f64::from(b.i16(16)) / 10.0,
            field_y_ut: f64::from(b.i16(18)) / 10.0,
            field_z_ut: f64::from(b.i16(20)) / 10.0,
            temperature_cel: Some(b.i16(22)).filter(|value| *value != 0).map(|value| f64::from(value) / 1e2),
        }
    }
}

message! {
    /// DISTANCE_SENSOR (132): a range finder.
    DistanceSensor = "mavlink_distance_sensor" {
        system_id: u8, "1", "Sending system.";
        component_id: u8, "1", "Sending component.";
        boot_ms: u32, "ms", "Time since the system booted.";
        sensor_id: u8, "1", "Which one.";
        orientation: u8, "1", "MAV_SENSOR_ORIENTATION.";
        distance_m: f64, "m", "Distance.";
        distance_min_m: f64, "m", "Least it can tell.";
        distance_max_m: f64, "m", "Greatest it can tell.";
        quality_percent: Option<u8>, "%", "Quality of the signal.";
    }
}

impl DistanceSensor {
    pub(super) fn read(from: Origin, b: Bytes<'_>) -> Self {
        Self {
            system_id: from.system,
            component_id: from.component,
            boot_ms: b.u32(0),
            sensor_id: b.u8(11),
            orientation: b.u8(12),
            distance_m: f64::from(b.u16(8)) / 1e2,
            distance_min_m: f64::from(b.u16(4)) / 1e2,
            distance_max_m: f64::from(b.u16(6)) / 1e2,
            quality_percent: Some(b.u8(38)).filter(|value| *value != 0),
        }
    }
}

message! {
    /// SCALED_PRESSURE2 (137): pressure of the second sensor.
    ScaledPressure2 = "mavlink_scaled_pressure2" {
        system_id: u8, "1", "Sending system.";
        component_id: u8, "1", "Sending component.";
        boot_ms: u32, "ms", "Time since the system booted.";
        pressure_hpa: f32, "hPa", "Absolute pressure.";
        differential_hpa: f32, "hPa", "Differential pressure.";
        temperature_cel: f64, "Cel", "Temperature of the absolute sensor.";
        differential_cel: Option<f64>, "Cel", "Temperature of the differential sensor, if it has one.";
    }
}

impl ScaledPressure2 {
    pub(super) fn read(from: Origin, b: Bytes<'_>) -> Self {
        Self {
            system_id: from.system,
            component_id: from.component,
            boot_ms: b.u32(0),
            pressure_hpa: b.f32(4),
            differential_hpa: b.f32(8),
            temperature_cel: f64::from(b.i16(12)) / 1e2,
            differential_cel: Some(b.i16(14)).filter(|value| *value != 0).map(|value| f64::from(value) / 1e2),
        }
    }
}

message! {
    /// VIBRATION (241): vibration levels.
    Vibration = "mavlink_vibration" {
        system_id: u8, "1", "Sending system.";
        component_id: u8, "1", "Sending component.";
        time_us: u64, "us", "Time since 1970 or since boot: the sender decides.";
        vibration_x_m_s2: f32, "m/s2", "Level, x.";
        vibration_y_m_s2: f32, "m/s2", "Level, y.";
        vibration_z_m_s2: f32, "m/s2", "Level, z.";
        clipping_0: u32, "1", "Clipped samples of the first accelerometer.";
        clipping_1: u32, "1", "Of the second.";
        clipping_2: u32, "1", "Of the third.";
    }
}

impl Vibration {
    pub(super) fn read(from: Origin, b: Bytes<'_>) -> Self {
        Self {
            system_id: from.system,
            component_id: from.component,
            time_us: b.u64(0),
            vibration_x_m_s2: b.f32(8),
            vibration_y_m_s2: b.f32(12),
            vibration_z_m_s2: b.f32(16),
            clipping_0: b.u32(20),
            clipping_1: b.u32(24),
            clipping_2: b.u32(28),
        }
    }
}

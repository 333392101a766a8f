//! What is scored, and what the prototype took for it: bytes a row of the body at the two efforts.

/// One line of the table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line {
    pub(super) stream: &'static str,
    pub(super) batch: &'static str,
    /// Batches the recording gives in full; with another number the targets say nothing.
    pub(super) batches: usize,
    pub(super) wire: f64,
    pub(super) metered: f64,
}

const fn line(stream: &'static str, batch: &'static str, batches: usize, wire: f64, metered: f64) -> Line {
    Line { stream, batch, batches, wire, metered }
}

/// All of them.
pub(super) const LINES: [Line; 25] = [
    line("can_j1939", "r1000", 10, 4.1, 4.09),
    line("can_j1939", "r10000", 2, 3.33, 3.29),
    line("can_j1939", "t1", 35, 5.79, 5.8),
    line("can_j1939", "t10", 7, 3.65, 3.63),
    line("gopro_karma_accl", "r1000", 2, 4.58, 4.54),
    line("gopro_karma_accl", "r60", 20, 8.49, 8.5),
    line("gopro_karma_accl", "t1", 12, 5.39, 5.38),
    line("gopro_karma_accl", "t10", 2, 4.56, 4.54),
    line("gopro_karma_attitude", "r10", 4, 30.52, 30.52),
    line("gopro_karma_gps", "r10", 4, 17.77, 17.77),
    line("gopro_karma_gyro", "r1000", 4, 4.32, 4.29),
    line("gopro_karma_gyro", "r60", 40, 7.69, 7.68),
    line("gopro_karma_gyro", "t1", 12, 4.74, 4.73),
    line("gopro_karma_gyro", "t10", 2, 4.17, 4.13),
    line("gopro_karma_imu4hz", "r10", 4, 21.48, 21.48),
    line("gps_aircraft_1hz", "r10", 50, 14.62, 14.62),
    line("gps_aircraft_1hz", "r60", 8, 8.96, 8.96),
    line("gps_aircraft_1hz_raw", "r1000", 14, 6.74, 6.73),
    line("gps_aircraft_1hz_raw", "t1", 334, 23.7, 23.69),
    line("gps_aircraft_1hz_raw", "t10", 34, 7.41, 7.4),
    line("seattle_temp_hourly", "r1000", 8, 0.59, 0.59),
    line("seattle_temp_hourly", "r60", 73, 1.81, 1.81),
    line("surfrad_1min", "r10", 72, 25.53, 25.53),
    line("surfrad_1min", "r1000", 1, 6.67, 6.67),
    line("surfrad_1min", "r60", 12, 13.07, 13.07),
];

//! The recordings of `data/demo`, as players play them.

use std::io;
use std::path::Path;

/// What is played: each recording goes round and round.
#[derive(Debug, Clone, PartialEq)]
pub struct Recordings {
    /// Acceleration x, y, z, m/s2; angular rate x, y, z, rad/s.
    pub imu: Vec<[f32; 6]>,
    /// Position cycles.
    pub cycles: Vec<Cycle>,
    /// Whole pictures.
    pub pictures: Vec<Vec<u8>>,
    /// The slow sensor's rows as CSV, its header first: temperature (Cel), humidity (%), wind (m/s), pressure (hPa).
    pub env: String,
}

impl Recordings {
    /// Reads them.
    ///
    /// # Errors
    /// What the system says, or what is no recording.
    pub fn read(data: &Path) -> io::Result<Self> {
        Ok(Self {
            imu: read_imu(&data.join("imu.csv"))?,
            cycles: read_cycles(&data.join("gps.nmea"))?,
            pictures: read_pictures(&data.join("camera"))?,
            env: std::fs::read_to_string(data.join("env.csv"))?,
        })
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

fn read_imu(path: &Path) -> io::Result<Vec<[f32; 6]>> {
    let text = std::fs::read_to_string(path)?;
    text.lines()
        .skip(1)
        .map(|line| {
            let values: Vec<f32> = line.split(',').filter_map(|v| v.parse().ok()).collect();
            values.try_into().map_err(|_| invalid("an IMU row needs six numbers"))
        })
        .collect()
}

/// One second of the receiver: its sentences, and the time and place its RMC names.
#[derive(Debug, Clone, PartialEq)]
pub struct Cycle {
    /// The sentences.
    pub sentences: Vec<u8>,
    /// Its time, ns since 1970.
    pub utc_ns: i64,
    /// Latitude, degrees.
    pub lat: f64,
    /// Longitude, degrees.
    pub lon: f64,
}

impl Cycle {
    /// The same second at another place, degrees: position and checksum of its RMC and GGA are written anew.
    #[must_use]
    pub fn moved_to(&self, lat: f64, lon: f64) -> Self {
        let text = String::from_utf8_lossy(&self.sentences);
        let mut moved = Self { sentences: Vec::new(), lat, lon, ..*self };
        for line in text.lines() {
            let line = match line.get(3..6) {
                Some("RMC") => placed(line, 3, lat, lon),
                Some("GGA") => placed(line, 2, lat, lon),
                _ => line.to_owned(),
            };
            // What a receiver says has six decimals of a minute, and that is what was said.
            if let Some((_, lat, lon)) = line.starts_with("$GPRMC").then(|| read_rmc(&line)).flatten() {
                (moved.lat, moved.lon) = (lat, lon);
            }
            moved.sentences.extend_from_slice(line.as_bytes());
            moved.sentences.extend_from_slice(b"\r\n");
        }
        moved
    }
}

/// A sentence with another position from its field `at` on.
fn placed(line: &str, at: usize, lat: f64, lon: f64) -> String {
    let body = line.trim_start_matches('$').split('*').next().unwrap_or_default();
    let mut fields: Vec<String> = body.split(',').map(str::to_owned).collect();
    let position = [
        minutes(lat, 2),
        if lat < 0.0 { "S" } else { "N" }.to_owned(),
        minutes(lon, 3),
        if lon < 0.0 { "W" } else { "E" }.to_owned(),
    ];
    for (field, value) in fields.iter_mut().skip(at).zip(position) {
        *field = value;
    }
    let body = fields.join(",");
    let check = body.bytes().fold(0, |check, byte| check ^ byte);
    format!("${body}*{check:02X}")
}

/// Degrees as `ddmm.mmmmmm`.
fn minutes(degrees: f64, digits: usize) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "at most 180 degrees, in millionths of a minute")]
    let millionths = (degrees.abs() * 60.0e6).round() as i64;
    let (whole, rest) = (millionths / 60_000_000, millionths % 60_000_000);
    format!("{whole:0digits$}{:02}.{:06}", rest / 1_000_000, rest % 1_000_000)
}

fn read_cycles(path: &Path) -> io::Result<Vec<Cycle>> {
    let text = std::fs::read_to_string(path)?;
    let mut cycles = Vec::new();
    let mut sentences = Vec::new();
    let mut fix = None;
    for line in text.lines() {
        sentences.extend_from_slice(line.as_bytes());
        sentences.extend_from_slice(b"\r\n");
        if line.starts_with("$GPRMC") {
            fix = read_rmc(line);
        }
        // The recording's cycle ends with GGA.
        if line.starts_with("$GPGGA") {
            if let Some((utc_ns, lat, lon)) = fix.take() {
                cycles.push(Cycle { sentences: std::mem::take(&mut sentences), utc_ns, lat, lon });
            }
            sentences.clear();
        }
    }
    if cycles.is_empty() { Err(invalid("no position cycle in the recording")) } else { Ok(cycles) }
}

/// (UTC ns, lat, lon) of an RMC sentence, read on its own and not by the agent's decoder.
fn read_rmc(line: &str) -> Option<(i64, f64, f64)> {
    let fields: Vec<&str> = line.split(',').collect();
    let (time, date) = (fields.get(1)?, fields.get(9)?);
    let two = |text: &str, at: usize| text.get(at..at + 2)?.parse::<i64>().ok();
    let (day, month, year) = (two(date, 0)?, two(date, 2)?, 2000 + two(date, 4)?);
    let seconds = two(time, 0)? * 3600 + two(time, 2)? * 60 + two(time, 4)?;
    let degrees = |value: &str, digits: usize, negative: bool| -> Option<f64> {
        let whole: f64 = value.get(..digits)?.parse().ok()?;
        let minutes: f64 = value.get(digits..)?.parse().ok()?;
        Some((whole + minutes / 60.0) * if negative { -1.0 } else { 1.0 })
    };
    let lat = degrees(fields.get(3)?, 2, *fields.get(4)? == "S")?;
    let lon = degrees(fields.get(5)?, 3, *fields.get(6)? == "W")?;
    Some(((days_from_civil(year, month, day) * 86_400 + seconds) * 1_000_000_000, lat, lon))
}

/// Days since 1970-01-01 (Howard Hinnant's `days_from_civil`).
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let doy = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    era * 146_097 + doe - 719_468
}

fn read_pictures(dir: &Path) -> io::Result<Vec<Vec<u8>>> {
    let mut paths = std::fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    paths.iter().map(std::fs::read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted_from_1970() {
        assert_eq!(days_from_civil(1970, 1, 1), 0);
        assert_eq!(days_from_civil(2017, 3, 31), 17_256);
        assert_eq!(days_from_civil(2000, 2, 29), 11_016);
    }

    #[test]
    fn a_sentence_names_its_time_and_place() {
        let (utc, lat, lon) =
            read_rmc("$GPRMC,110124,A,5505.330990,N,03858.587325,E,152.6,86.2,310317,8.9,E,D*2E").unwrap();
        assert_eq!(utc, (17_256 * 86_400 + 11 * 3600 + 60 + 24) * 1_000_000_000);
        assert!((lat - 55.088_849_833).abs() < 1e-8 && (lon - 38.976_455_417).abs() < 1e-8);
    }

    #[test]
    fn a_moved_cycle_names_its_new_place_and_is_whole() {
        let line = "$GPRMC,110124,A,5505.330990,N,03858.587325,E,152.6,86.2,310317,8.9,E,D*2E";
        let gga = "$GPGGA,110124,5505.330990,N,03858.587325,E,2,09,0.9,2177.0,M,14.0,M,,*7D";
        let (utc_ns, lat, lon) = read_rmc(line).unwrap();
        let cycle = Cycle { sentences: format!("{line}\r\n{gga}\r\n").into_bytes(), utc_ns, lat, lon };
        assert_eq!(cycle.moved_to(lat, lon), cycle);
        let moved = cycle.moved_to(-12.5, -171.25);
        assert_eq!((moved.lat, moved.lon, moved.utc_ns), (-12.5, -171.25, utc_ns));
        let text = String::from_utf8(moved.sentences).unwrap();
        assert!(text.contains("$GPRMC,110124,A,1230.000000,S,17115.000000,W,152.6"), "{text}");
        assert!(text.contains("$GPGGA,110124,1230.000000,S,17115.000000,W,2,09"), "{text}");
    }
}

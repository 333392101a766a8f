//! Players: what a site's sensors would say, played from recordings, each on the medium it really uses.
//!
//! Every player writes down what it emitted, in a form that [`crate::truth`] can compare with the lake.

use crate::pty::Line;
use crate::ticks::Pace;
use headwater_core::id::Sha256;
use headwater_shims::link::{
    Caps, Field, FieldList, FieldType, Flags, Header, Hello, HelloBody, Identity, LinkDecoder, LinkType,
    Pong, RAW_BYTES_MAX, SampleWriter, StreamDescriptor, T2Point, Value, WIRE_BYTES_MAX, encode, schema_crc,
};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Sensor rate of the microcontroller, Hz.
pub const IMU_HZ: u32 = 200;
/// Position cycles of the receiver per second.
pub const GPS_HZ: u32 = 5;
/// Pictures per second.
pub const CAMERA_HZ: u32 = 5;

/// What was put on the wire, by stream; shared with the players.
#[derive(Debug, Default)]
pub struct Emitted {
    /// IMU rows by their own counter: the six values as bits.
    pub imu: BTreeMap<u32, [u32; 6]>,
    /// Position cycles by the receiver's time, ns since 1970.
    pub gps: BTreeMap<i64, CyclePlayed>,
    /// Whole pictures by file name.
    pub camera: BTreeMap<String, Sha256>,
    /// Pictures that were broken on purpose.
    pub camera_broken: u64,
    /// Link frames damaged on purpose (their rows are among `imu`).
    pub imu_damaged: u64,
}

/// A position cycle that was played.
#[derive(Debug, Clone, PartialEq)]
pub struct CyclePlayed {
    /// How often: the recording is played in a circle.
    pub times: u64,
    /// Latitude its RMC names, degrees.
    pub lat: f64,
    /// Longitude its RMC names, degrees.
    pub lon: f64,
    /// The sentences as they went out.
    pub sentences: Vec<u8>,
}

/// Running players; dropping it stops them.
#[derive(Debug)]
pub struct Players {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    emitted: Arc<Mutex<Emitted>>,
    /// Device path of the microcontroller's line.
    pub imu_port: PathBuf,
    /// Device path of the receiver's line.
    pub gps_port: PathBuf,
}

/// What goes wrong on purpose.
#[derive(Debug, Clone, Copy)]
pub struct Mishaps {
    /// One broken picture after this many.
    pub broken_picture_at: Option<u32>,
    /// One burst of noise on the microcontroller's line after this many rows.
    pub noise_at: Option<u32>,
}

impl Players {
    /// Starts all players; pictures go to `camera_dir`.
    ///
    /// # Errors
    /// What the system says about terminals or the recordings.
    pub fn start(data: &Path, camera_dir: &Path, mishaps: Mishaps) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let emitted = Arc::new(Mutex::new(Emitted::default()));
        let (imu, gps) = (Line::open()?, Line::open()?);
        let (imu_port, gps_port) = (imu.path().to_owned(), gps.path().to_owned());
        let rows = read_imu(&data.join("imu.csv"))?;
        let cycles = read_cycles(&data.join("gps.nmea"))?;
        let pictures = read_pictures(&data.join("camera"))?;
        let camera_dir = camera_dir.to_owned();
        let shared = || (Arc::clone(&stop), Arc::clone(&emitted));
        let mut threads = Vec::new();
        let (stopped, out) = shared();
        threads.push(std::thread::spawn(move || play_imu(imu, &rows, mishaps.noise_at, &stopped, &out)));
        let (stopped, out) = shared();
        threads.push(std::thread::spawn(move || play_gps(gps, &cycles, &stopped, &out)));
        let (stopped, out) = shared();
        threads.push(std::thread::spawn(move || {
            play_camera(&camera_dir, &pictures, mishaps.broken_picture_at, &stopped, &out)
        }));
        Ok(Self { stop, threads, emitted, imu_port, gps_port })
    }

    /// Rows emitted so far: IMU, positions, pictures.
    #[must_use]
    pub fn counts(&self) -> (u64, u64, u64) {
        let emitted = self.emitted.lock().unwrap_or_else(PoisonError::into_inner);
        (emitted.imu.len() as u64, emitted.gps.values().map(|c| c.times).sum(), emitted.camera.len() as u64)
    }

    /// Stops all players and gives what they emitted.
    #[must_use]
    pub fn stop(mut self) -> Emitted {
        self.halt();
        std::mem::take(&mut *self.emitted.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn halt(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            assert!(thread.join().is_ok(), "a player panicked: what was emitted is not known");
        }
    }
}

impl Drop for Players {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
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
#[derive(Debug)]
struct Cycle {
    sentences: Vec<u8>,
    utc_ns: i64,
    lat: f64,
    lon: f64,
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

const IMU_FIELDS: &[Field<'static>] = &[
    Field { field_type: FieldType::U32, scale10: 0, name: "n", unit: "1" },
    Field { field_type: FieldType::F32, scale10: 0, name: "accel_x", unit: "m/s2" },
    Field { field_type: FieldType::F32, scale10: 0, name: "accel_y", unit: "m/s2" },
    Field { field_type: FieldType::F32, scale10: 0, name: "accel_z", unit: "m/s2" },
    Field { field_type: FieldType::F32, scale10: 0, name: "gyro_x", unit: "rad/s" },
    Field { field_type: FieldType::F32, scale10: 0, name: "gyro_y", unit: "rad/s" },
    Field { field_type: FieldType::F32, scale10: 0, name: "gyro_z", unit: "rad/s" },
];

/// A microcontroller on a serial line: says HELLO until it is pinged, answers pings, sends samples.
#[derive(Debug)]
struct Mcu {
    line: Line,
    decoder: LinkDecoder<RAW_BYTES_MAX>,
    pinged: bool,
    row: u32,
}

impl Mcu {
    fn descriptor(&self) -> StreamDescriptor<'static> {
        let period_us = 1_000_000 / IMU_HZ;
        StreamDescriptor {
            stream: 0,
            next_seq: self.row,
            kind: "imu",
            period_us,
            fields: FieldList::new(IMU_FIELDS),
        }
    }

    fn t_us(&self) -> u64 {
        u64::from(self.row) * u64::from(1_000_000 / IMU_HZ)
    }

    fn frame(&self, link_type: LinkType, seq: u16, flags: Flags, payload: &[u8]) -> Vec<u8> {
        let mut wire = [0; WIRE_BYTES_MAX];
        let header = Header { link_type, flags, seq, t_us: self.t_us() };
        let n = encode(&mut wire, header, payload).expect("every payload of this device fits a frame");
        wire[..n].to_vec()
    }

    fn hello(&mut self) {
        let stream = self.descriptor();
        let crc = schema_crc(&[stream]).expect("one small descriptor");
        let identity = Identity {
            caps: Caps::NONE,
            t2_point: T2Point::FirstByte,
            boot_nonce: 0x4845_4144,
            max_rx: 64,
            tick_ns: 1_000,
            clock_ppm: 50,
            schema_crc: crc,
            uid: "demo-imu",
            firmware: "1.0.0",
        };
        let mut payload = [0; RAW_BYTES_MAX];
        for (index, body) in (0..).zip([HelloBody::Identity(identity), HelloBody::Stream(stream)]) {
            let n = Hello { index, total: 2, body }.encode(&mut payload).expect("a hello fits a frame");
            let bytes = self.frame(LinkType::Hello, index.into(), Flags::NONE, &payload[..n]);
            self.line.put(&bytes);
        }
    }

    fn listen(&mut self) {
        let mut pongs = Vec::new();
        let mut hello = false;
        for byte in self.line.take() {
            if let Some(Ok(frame)) = self.decoder.push(byte) {
                match frame.header.link_type {
                    LinkType::Ping => pongs.push((frame.header.t_us, frame.header.seq)),
                    LinkType::HelloReq => hello = true,
                    _ => {}
                }
            }
        }
        for (t1_us, seq) in pongs {
            self.pinged = true;
            let crc = schema_crc(&[self.descriptor()]).expect("one small descriptor");
            let pong =
                Pong { t1_us, t2_us: self.t_us(), boot_nonce: 0x4845_4144, schema_crc: crc, dropped: 0 };
            let mut payload = [0; 64];
            let n = pong.encode(&mut payload).expect("a pong fits a frame");
            let bytes = self.frame(LinkType::Pong, seq, Flags::NONE, &payload[..n]);
            self.line.put(&bytes);
        }
        if hello {
            self.hello();
        }
    }

    fn sample(&mut self, values: &[f32; 6]) -> Vec<u8> {
        let mut payload = [0; 64];
        let mut writer = SampleWriter::new(&mut payload, 0, 0).expect("room for a row");
        let mut row = vec![Value::U32(self.row)];
        row.extend(values.iter().map(|v| Value::F32(*v)));
        writer.push_row(&row).expect("room for a row");
        let n = writer.finish().expect("one row was pushed");
        let flags = if self.row == 0 { Flags::FIRST_SINCE_BOOT } else { Flags::NONE };
        let [low, high, ..] = self.row.to_le_bytes();
        self.frame(LinkType::Sample, u16::from_le_bytes([low, high]), flags, &payload[..n])
    }
}

fn play_imu(
    line: Line,
    rows: &[[f32; 6]],
    noise_at: Option<u32>,
    stop: &AtomicBool,
    emitted: &Mutex<Emitted>,
) {
    let mut mcu = Mcu { line, decoder: LinkDecoder::new(), pinged: false, row: 0 };
    let mut pace = Pace::new(Duration::from_secs(1) / IMU_HZ);
    mcu.line.put(&[0]);
    for values in rows.iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        pace.tick();
        mcu.listen();
        if !mcu.pinged && mcu.row.is_multiple_of(2 * IMU_HZ) {
            mcu.hello();
        }
        let mut bytes = mcu.sample(values);
        let damaged = noise_at == Some(mcu.row);
        if damaged {
            // A burst across one whole frame: its check fails, its number is missing, the next one is whole.
            bytes.iter_mut().enumerate().filter(|(at, _)| at % 3 == 1).for_each(|(_, byte)| *byte ^= 0x5a);
            bytes.retain(|byte| *byte != 0);
            bytes.extend_from_slice(&[0xff, 0x13, 0x37, 0x00]);
        }
        {
            let mut emitted = emitted.lock().unwrap_or_else(PoisonError::into_inner);
            emitted.imu.insert(mcu.row, values.map(f32::to_bits));
            emitted.imu_damaged += u64::from(damaged);
        }
        mcu.line.put(&bytes);
        mcu.row += 1;
    }
}

fn play_gps(mut line: Line, cycles: &[Cycle], stop: &AtomicBool, emitted: &Mutex<Emitted>) {
    let mut pace = Pace::new(Duration::from_secs(1) / GPS_HZ);
    for cycle in cycles.iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        pace.tick();
        {
            let mut emitted = emitted.lock().unwrap_or_else(PoisonError::into_inner);
            let first = || CyclePlayed {
                times: 0,
                lat: cycle.lat,
                lon: cycle.lon,
                sentences: cycle.sentences.clone(),
            };
            emitted.gps.entry(cycle.utc_ns).or_insert_with(first).times += 1;
        }
        line.put(&cycle.sentences);
        line.take();
    }
}

fn play_camera(
    dir: &Path,
    pictures: &[Vec<u8>],
    broken_at: Option<u32>,
    stop: &AtomicBool,
    emitted: &Mutex<Emitted>,
) {
    let mut pace = Pace::new(Duration::from_secs(1) / CAMERA_HZ);
    for (n, picture) in (0_u32..).zip(pictures.iter().cycle()) {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        pace.tick();
        let name = format!("frame-{n:06}.jpg");
        let broken = broken_at == Some(n);
        let bytes = if broken { &picture[..picture.len() / 2] } else { &picture[..] };
        // Write aside and rename, as careful cameras do; the agent must also bear careless ones.
        let aside = dir.join(format!(".{name}.part"));
        let placed = std::fs::write(&aside, bytes).and_then(|()| std::fs::rename(&aside, dir.join(&name)));
        let mut emitted = emitted.lock().unwrap_or_else(PoisonError::into_inner);
        match placed {
            Ok(()) if broken => emitted.camera_broken += 1,
            Ok(()) => drop(emitted.camera.insert(name, Sha256::of(bytes))),
            Err(_) => return,
        }
    }
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
}

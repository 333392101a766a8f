//! Players: what a site's sensors would say, played from recordings, each on the medium it really uses.
//!
//! Every player writes down what it emitted, in a form that [`crate::truth`] can compare with the lake.

use crate::pty::Line;
use crate::recordings::{Cycle, Recordings};
use crate::ticks::{Moment, Pace};
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

/// How often each sensor speaks, Hz.
#[derive(Debug, Clone, Copy)]
pub struct Rates {
    /// Samples of the microcontroller.
    pub imu: u32,
    /// Position cycles of the receiver.
    pub gps: u32,
    /// Pictures.
    pub camera: u32,
}

impl Default for Rates {
    fn default() -> Self {
        Self { imu: IMU_HZ, gps: GPS_HZ, camera: CAMERA_HZ }
    }
}

/// What was put on the wire, by stream; shared with the players.
#[derive(Debug, Default)]
pub struct Emitted {
    /// IMU rows by their own counter: the six values as bits.
    pub imu: BTreeMap<u32, [u32; 6]>,
    /// When each was.
    pub imu_at: BTreeMap<u32, Moment>,
    /// Position cycles by the receiver's time, ns since 1970.
    pub gps: BTreeMap<i64, CyclePlayed>,
    /// Whole pictures by file name.
    pub camera: BTreeMap<String, Sha256>,
    /// When each was taken.
    pub camera_at: BTreeMap<String, Moment>,
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
    /// When, each time.
    pub at: Vec<Moment>,
}

/// Running players; dropping it stops them.
#[derive(Debug)]
pub struct Players {
    stop: Arc<AtomicBool>,
    camera: Option<JoinHandle<()>>,
    camera_runs: Arc<AtomicBool>,
    camera_stop: Arc<AtomicBool>,
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
        let players = Self::play(Recordings::read(data)?, Rates::default(), camera_dir, mishaps)?;
        players.start_camera();
        Ok(players)
    }

    /// Starts microcontroller and receiver; the camera waits for [`Self::start_camera`].
    ///
    /// # Errors
    /// What the system says about terminals.
    pub fn play(
        recordings: Recordings,
        rates: Rates,
        camera_dir: &Path,
        mishaps: Mishaps,
    ) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (camera_runs, camera_stop) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let emitted = Arc::new(Mutex::new(Emitted::default()));
        let (imu, gps) = (Line::open()?, Line::open()?);
        let (imu_port, gps_port) = (imu.path().to_owned(), gps.path().to_owned());
        let Recordings { imu: rows, cycles, pictures, .. } = recordings;
        let camera_dir = camera_dir.to_owned();
        let shared = || (Arc::clone(&stop), Arc::clone(&emitted));
        let mut threads = Vec::new();
        let (stopped, out) = shared();
        threads.push(std::thread::spawn(move || {
            play_imu(imu, (&rows, rates.imu), mishaps.noise_at, &stopped, &out)
        }));
        let (stopped, out) = shared();
        threads.push(std::thread::spawn(move || play_gps(gps, (&cycles, rates.gps), &stopped, &out)));
        let (runs, stopped, out) = (Arc::clone(&camera_runs), Arc::clone(&camera_stop), Arc::clone(&emitted));
        let broken_at = mishaps.broken_picture_at;
        let camera = std::thread::spawn(move || {
            let mut pace = Pace::new(Duration::from_secs(1) / rates.camera);
            while !runs.load(Ordering::Relaxed) && !stopped.load(Ordering::Relaxed) {
                pace.tick();
            }
            play_camera(&camera_dir, (&pictures, rates.camera), broken_at, &stopped, &out);
        });
        let camera = Some(camera);
        Ok(Self { stop, camera, camera_runs, camera_stop, threads, emitted, imu_port, gps_port })
    }

    /// Lets the camera take pictures.
    pub fn start_camera(&self) {
        self.camera_runs.store(true, Ordering::Relaxed);
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

    /// Ends the camera alone: the others go on, as on a site, and every picture has samples after it.
    pub fn stop_camera(&mut self) {
        self.camera_stop.store(true, Ordering::Relaxed);
        if let Some(camera) = self.camera.take() {
            assert!(camera.join().is_ok(), "the camera's player panicked: what was emitted is not known");
        }
    }

    fn halt(&mut self) {
        self.stop_camera();
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            assert!(thread.join().is_ok(), "a player panicked: what was emitted is not known");
        }
    }
}

impl Drop for Players {
    fn drop(&mut self) {
        self.camera_stop.store(true, Ordering::Relaxed);
        self.stop.store(true, Ordering::Relaxed);
    }
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
    period_us: u32,
}

impl Mcu {
    fn descriptor(&self) -> StreamDescriptor<'static> {
        StreamDescriptor {
            stream: 0,
            next_seq: self.row,
            kind: "imu",
            period_us: self.period_us,
            fields: FieldList::new(IMU_FIELDS),
        }
    }

    fn t_us(&self) -> u64 {
        u64::from(self.row) * u64::from(self.period_us)
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
    (rows, hz): (&[[f32; 6]], u32),
    noise_at: Option<u32>,
    stop: &AtomicBool,
    emitted: &Mutex<Emitted>,
) {
    let period_us = 1_000_000 / hz;
    let mut mcu = Mcu { line, decoder: LinkDecoder::new(), pinged: false, row: 0, period_us };
    let mut pace = Pace::new(Duration::from_secs(1) / hz);
    mcu.line.put(&[0]);
    for values in rows.iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        pace.tick();
        mcu.listen();
        if !mcu.pinged && mcu.row.is_multiple_of(2 * hz) {
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
            emitted.imu_at.insert(mcu.row, Moment::now());
            emitted.imu_damaged += u64::from(damaged);
        }
        mcu.line.put(&bytes);
        mcu.row += 1;
    }
}

fn play_gps(mut line: Line, (cycles, hz): (&[Cycle], u32), stop: &AtomicBool, emitted: &Mutex<Emitted>) {
    let mut pace = Pace::new(Duration::from_secs(1) / hz);
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
                at: Vec::new(),
            };
            let played = emitted.gps.entry(cycle.utc_ns).or_insert_with(first);
            played.times += 1;
            played.at.push(Moment::now());
        }
        line.put(&cycle.sentences);
        line.take();
    }
}

fn play_camera(
    dir: &Path,
    (pictures, hz): (&[Vec<u8>], u32),
    broken_at: Option<u32>,
    stop: &AtomicBool,
    emitted: &Mutex<Emitted>,
) {
    let mut pace = Pace::new(Duration::from_secs(1) / hz);
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
        let at = Moment::now();
        let placed = std::fs::write(&aside, bytes).and_then(|()| std::fs::rename(&aside, dir.join(&name)));
        let mut emitted = emitted.lock().unwrap_or_else(PoisonError::into_inner);
        match placed {
            Ok(()) if broken => emitted.camera_broken += 1,
            Ok(()) => {
                emitted.camera_at.insert(name.clone(), at);
                emitted.camera.insert(name, Sha256::of(bytes));
            }
            Err(_) => return,
        }
    }
}

//! A simulated car whose hours are clean: what its aligned table holds, row by row, before anything is spoilt.

use arrow_array::{
    ArrayRef, BooleanArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray, StructArray,
    TimestampMicrosecondArray,
};
use arrow_schema::{Field, Fields};
use headwater_align::gate::Seen;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) const S: i64 = 1_000_000_000;
/// Frames a second.
pub(crate) const FRAMES_HZ: i64 = 2;
/// Samples of the IMU a second.
pub(crate) const IMU_HZ: i64 = 100;
/// The collector's time: after all of it.
pub(crate) const NOW_NS: i64 = 1_800_000_000 * S;

/// Numbers from a seed: SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
#[derive(Debug, Clone)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In [0, 1).
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(crate) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + self.unit() * (high - low)
    }

    /// Normal, mean 0 and standard deviation 1 (Box, Muller, Ann. Math. Stat. 29, 1958).
    pub(crate) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    pub(crate) fn chance(&mut self, p: f64) -> bool {
        self.unit() < p
    }
}

/// A source: numbers, distance, flag.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Source {
    pub(crate) seq: Option<(i64, i64)>,
    pub(crate) dt_ns: i64,
    pub(crate) flag: i32,
}

/// A row of `aligned.drive`.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) ts_ns: i64,
    pub(crate) err_ns: i64,
    pub(crate) seq: i64,
    pub(crate) key: Option<String>,
    pub(crate) grade: &'static str,
    pub(crate) provisional: bool,
    pub(crate) picture: Option<String>,
    pub(crate) width: i64,
    /// Acceleration x, y, z, m/s2; angular rate x, y, z, rad/s.
    pub(crate) motion: [Option<f64>; 6],
    pub(crate) motion_src: Source,
    /// Latitude, longitude, degrees; speed, m/s.
    pub(crate) place: [Option<f64>; 3],
    pub(crate) place_src: Source,
    /// Temperature, Cel.
    pub(crate) air: Option<f64>,
    pub(crate) air_src: Source,
}

/// What kind of hour it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hour {
    City,
    Highway,
    Parked,
}

/// Rows of so many seconds of one device.
pub(crate) fn drive(seed: u64, hour: Hour, seconds: i64) -> Vec<Row> {
    let dice = &mut Dice(seed);
    let start_ns = NOW_NS - 86_400 * S + (dice.unit() * 3_600.0) as i64 * S;
    let (mut lat, mut lon) = (dice.between(46.0, 47.5), dice.between(7.0, 12.0));
    let (mut speed, mut wanted, mut heading, mut turn) =
        (0.0_f64, 0.0_f64, dice.between(0.0, std::f64::consts::TAU), 0.0_f64);
    let (slope, bias) =
        (dice.normal() * 0.15, [dice.normal() * 0.05, dice.normal() * 0.05, dice.normal() * 0.03]);
    let (mut air, bound_ns) = (dice.between(8.0, 28.0), dice.between(1e6, 60e6) as i64);
    let (mut tunnel, mut fixes, mut gap) = (0, [lat, lon, 0.0], 0);
    let mut rows = Vec::new();
    for n in 0..seconds * FRAMES_HZ {
        let step = 1.0 / FRAMES_HZ as f64;
        if n % (8 * FRAMES_HZ) == 0 {
            (wanted, turn) = match hour {
                Hour::Parked => (0.0, 0.0),
                Hour::City => (
                    dice.between(0.0, 15.0) * f64::from(u8::from(!dice.chance(0.2))),
                    dice.between(-0.35, 0.35),
                ),
                Hour::Highway => (dice.between(22.0, 36.0), dice.between(-0.1, 0.1)),
            };
        }
        let pull = ((wanted - speed) * 0.3).clamp(-3.0, 2.0);
        speed = (speed + pull * step).max(0.0);
        let yaw = turn * (speed / 5.0).min(1.0);
        heading += yaw * step;
        let north = speed * heading.cos() * step / 111_195.0;
        lat += north;
        lon += speed * heading.sin() * step / (111_195.0 * lat.to_radians().cos());
        let rough = 0.03 + 0.3 * (speed / 10.0).min(1.5);
        // A pothole now and then.
        let bump = if speed > 3.0 && dice.chance(0.002) { dice.normal() * 2.5 } else { 0.0 };
        let grid = |value: f64, size: f64| (value / size).round() * size;
        let accel = |value: f64| Some(grid(value, 9.806_65 / 4_096.0));
        let gyro = |value: f64| Some(grid(value, 1.0 / 3_755.0));
        let motion = [
            accel(pull + slope + bias[0] + dice.normal() * rough),
            accel(speed * yaw + bias[1] + dice.normal() * rough),
            accel(9.806_65 + bias[2] + bump + dice.normal() * rough),
            gyro(dice.normal() * rough * 0.04),
            gyro(dice.normal() * rough * 0.04),
            gyro(yaw + dice.normal() * rough * 0.04),
        ];
        if n % FRAMES_HZ == 0 {
            let metre = 1.0 / 111_195.0;
            fixes = [
                grid(lat + dice.normal() * 0.8 * metre, 1e-7),
                grid(lon + dice.normal() * 0.8 * metre, 1e-7),
                (speed + dice.normal() * 0.1).max(0.0),
            ];
            if tunnel == 0 && dice.chance(0.0006) {
                tunnel = (dice.unit() * 20.0) as i64;
            }
            tunnel = (tunnel - 1).max(0);
        }
        if n % (10 * FRAMES_HZ) == 0 {
            air += dice.normal() * 0.05;
        }
        if gap == 0 && dice.chance(0.0005) {
            gap = (dice.unit() * 8.0) as i64;
        }
        gap = (gap - 1).max(0);
        // Frames that are lost, with their numbers.
        if dice.chance(0.001) {
            continue;
        }
        let imu_seq = n * IMU_HZ / FRAMES_HZ;
        let found = |seq: (i64, i64), dt_ns: i64| Source {
            seq: Some(seq),
            dt_ns,
            flag: if gap > 0 { 512 } else { 0 },
        };
        let nothing = Source { seq: None, dt_ns: 0, flag: 1 };
        let has_fix = tunnel == 0;
        rows.push(Row {
            ts_ns: start_ns + n * S / FRAMES_HZ + (dice.normal() * 1e6) as i64,
            err_ns: bound_ns + (dice.unit() * 1e6) as i64,
            seq: n,
            key: None,
            grade: if dice.chance(0.98) { "guaranteed" } else { "estimated" },
            provisional: dice.chance(0.002),
            picture: Some(format!("{seed:x}-{n}")),
            width: 854,
            motion,
            motion_src: found((imu_seq, imu_seq + 1), (dice.unit() * 5e6) as i64),
            place: fixes.map(|value| has_fix.then_some(value)),
            place_src: if has_fix {
                found((n / FRAMES_HZ, n / FRAMES_HZ), -(n % FRAMES_HZ) * S / FRAMES_HZ)
            } else {
                nothing
            },
            air: Some(grid(air, 0.01)),
            air_src: found((n / 20, n / 20), -(n % 20) * S / FRAMES_HZ),
        });
    }
    rows
}

/// Rows of a device as they lie in the table.
pub(crate) fn batch(device: &str, rows: &[Row]) -> RecordBatch {
    let n = rows.len();
    let long = |of: &dyn Fn(&Row) -> i64| -> ArrayRef {
        Arc::new(rows.iter().map(|row| Some(of(row))).collect::<Int64Array>())
    };
    let number = |of: &dyn Fn(&Row) -> Option<f64>| -> ArrayRef {
        Arc::new(rows.iter().map(of).collect::<Float64Array>())
    };
    let keys: Vec<String> = rows
        .iter()
        .map(|row| row.key.clone().unwrap_or_else(|| format!("e1/camera/front/{}", row.seq)))
        .collect();
    let mut columns: Vec<(String, ArrayRef)> = vec![
        ("device".to_owned(), Arc::new(StringArray::from(vec![device; n]))),
        (
            "ts".to_owned(),
            Arc::new(
                rows.iter()
                    .map(|row| Some(row.ts_ns / 1_000))
                    .collect::<TimestampMicrosecondArray>()
                    .with_timezone("UTC"),
            ),
        ),
        ("ts_ns".to_owned(), long(&|row| row.ts_ns)),
        ("ts_err_ns".to_owned(), long(&|row| row.err_ns)),
        ("grade".to_owned(), Arc::new(rows.iter().map(|row| Some(row.grade)).collect::<StringArray>())),
        ("row_key".to_owned(), Arc::new(StringArray::from(keys))),
        (
            "provisional".to_owned(),
            Arc::new(rows.iter().map(|row| Some(row.provisional)).collect::<BooleanArray>()),
        ),
        (
            "image_hash".to_owned(),
            Arc::new(rows.iter().map(|row| row.picture.as_deref()).collect::<StringArray>()),
        ),
        ("width".to_owned(), long(&|row| row.width)),
    ];
    for (at, name) in ["accel_x", "accel_y", "accel_z", "gyro_x", "gyro_y", "gyro_z"].iter().enumerate() {
        columns.push((
            format!("motion_{name}"),
            number(&|row| row.motion[at].filter(|_| row.motion_src.seq.is_some())),
        ));
    }
    columns.push(("motion_src".to_owned(), sources(rows, |row| row.motion_src)));
    for (at, name) in ["lat", "lon", "speed"].iter().enumerate() {
        columns.push((
            format!("place_{name}"),
            number(&|row| row.place[at].filter(|_| row.place_src.seq.is_some())),
        ));
    }
    columns.push(("place_src".to_owned(), sources(rows, |row| row.place_src)));
    columns.push(("air_t".to_owned(), number(&|row| row.air.filter(|_| row.air_src.seq.is_some()))));
    columns.push(("air_src".to_owned(), sources(rows, |row| row.air_src)));
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)))
        .unwrap()
}

fn sources(rows: &[Row], of: impl Fn(&Row) -> Source) -> ArrayRef {
    let long = |pick: &dyn Fn(Source) -> Option<i64>| -> ArrayRef {
        Arc::new(rows.iter().map(|row| pick(of(row))).collect::<Int64Array>())
    };
    let named = |text: &'static str| -> ArrayRef {
        Arc::new(rows.iter().map(|row| of(row).seq.map(|_| text)).collect::<StringArray>())
    };
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("stream", named("s")),
        ("epoch", named("e1")),
        ("seq_lo", long(&|of| of.seq.map(|seq| seq.0))),
        ("seq_hi", long(&|of| of.seq.map(|seq| seq.1))),
        ("dt_ns", long(&|of| of.seq.map(|_| of.dt_ns))),
        ("err_ns", long(&|of| of.seq.map(|_| 1_000_000))),
        (
            "n",
            Arc::new(rows.iter().map(|row| Some(i32::from(of(row).seq.is_some()))).collect::<Int32Array>()),
        ),
        ("flag", Arc::new(rows.iter().map(|row| Some(of(row).flag)).collect::<Int32Array>())),
    ];
    let fields: Fields =
        columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true)).collect();
    Arc::new(StructArray::new(fields, columns.into_iter().map(|(_, column)| column).collect(), None))
}

/// Pictures that are looked at, as the collector does: eight, evenly.
pub(crate) fn looks(
    rows: &[Row],
    mut of: impl FnMut(usize) -> Result<Seen, String>,
) -> BTreeMap<usize, Result<Seen, String>> {
    let step = rows.len().div_ceil(8).max(1);
    let named = rows.iter().enumerate().step_by(step).filter(|(_, row)| row.picture.is_some());
    named.map(|(at, _)| (at, of(at))).collect()
}

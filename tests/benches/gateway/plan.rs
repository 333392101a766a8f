//! The three reference gateways: which recordings they play, at which rates.

use crate::wire::stream::Stream;
use anyhow::{Context, Result};
use headwater_agent::batch::PackedBlob;
use headwater_core::batch::Column;
use headwater_core::sample::Blob;
use headwater_core::wire::blob::BlobCodec;
use std::path::Path;

/// Host jitter of stamps, µs.
const JITTER_US: i64 = 50;

/// A stream of a gateway.
pub(super) struct Played {
    pub(super) name: &'static str,
    pub(super) names: Vec<String>,
    pub(super) fields: Vec<Column>,
    pub(super) rows_per_s: f64,
}

pub(super) struct Gateway {
    pub(super) name: &'static str,
    pub(super) streams: Vec<Played>,
    pub(super) pictures_per_s: usize,
}

pub(super) fn gateways(data: &Path) -> Result<Vec<Gateway>> {
    let read = |name: &str| Stream::read(&data.join(format!("{name}.csv")));
    let (accl, gyro) = (read("gopro_karma_accl")?, read("gopro_karma_gyro")?);
    let imu_rows = accl.t_ns.len().min(gyro.t_ns.len());
    let imu = Played {
        name: "imu",
        names: ["accel_x", "accel_y", "accel_z", "gyro_x", "gyro_y", "gyro_z"].map(str::to_owned).to_vec(),
        fields: accl.fields.iter().chain(&gyro.fields).map(|field| field.slice(0..imu_rows)).collect(),
        rows_per_s: 250.0,
    };
    let played = |name, stream: Stream, rows_per_s| Played {
        name,
        names: stream.names,
        fields: stream.fields,
        rows_per_s,
    };
    let can = read("can_j1939")?;
    let span_ns = can.t_ns.last().zip(can.t_ns.first()).map_or(1, |(last, first)| last - first);
    let can_rate = can.t_ns.len() as f64 * 1e9 / span_ns as f64;
    Ok(vec![
        Gateway {
            name: "environment station",
            streams: vec![
                played("radiation", read("surfrad_1min")?, 1.0 / 60.0),
                played("air", read("seattle_temp_hourly")?, 0.1),
            ],
            pictures_per_s: 0,
        },
        Gateway {
            name: "vehicle",
            streams: vec![imu, played("gps", read("gps_aircraft_1hz")?, 10.0)],
            pictures_per_s: 5,
        },
        Gateway { name: "CAN logger", streams: vec![played("can", can, can_rate)], pictures_per_s: 0 },
    ])
}

/// Pictures as they are and as Lepton, packed once.
#[derive(Default)]
pub(super) struct Pictures(Vec<(Blob, Option<PackedBlob>)>);

impl Pictures {
    /// With `pack` also as Lepton, which takes a moment for each.
    pub(super) fn read(folder: &Path, pack: bool) -> Result<Self> {
        let mut paths: Vec<_> = std::fs::read_dir(folder)
            .with_context(|| format!("failed to list {}", folder.display()))?
            .map(|entry| Ok(entry?.path()))
            .collect::<std::io::Result<_>>()?;
        paths.sort();
        let read = |path: &std::path::PathBuf| {
            let bytes = std::fs::read(path)?;
            let packed = if pack { BlobCodec::Lepton.pack(&bytes) } else { None };
            let packed = packed.map(|payload| PackedBlob { codec: BlobCodec::Lepton, payload });
            Ok((Blob { mime: "image/jpeg".into(), bytes: bytes.into() }, packed))
        };
        Ok(Self(paths.iter().map(read).collect::<std::io::Result<_>>()?))
    }

    pub(super) fn at(&self, n: usize) -> Option<&(Blob, Option<PackedBlob>)> {
        self.0.get(n % self.0.len().max(1))
    }
}

/// A small generator: jitter need not be random, only irregular.
fn jitter_us(n: u64) -> i64 {
    let mixed = (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ n).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 33;
    // Of two draws the sum: a triangle, as near to a host's wakeups as two lines of code come.
    let draw = |bits: u64| i64::try_from(bits % 64).unwrap_or(0) - 32;
    (draw(mixed) + draw(mixed >> 8)) * JITTER_US / 32
}

/// Boot time of row `row`, µs: a regular grid with the jitter of a quiet host.
pub(super) fn stamp_us(row: usize, rows_per_s: f64) -> i64 {
    #[expect(clippy::cast_possible_truncation, reason = "microseconds of some hours")]
    let grid = (row as f64 * 1e6 / rows_per_s) as i64;
    10_000_000 + grid + jitter_us(row as u64)
}

//! First light: bytes a row, then the whole path at a site's rates, then as fast as it goes.

use crate::figure::Sheet;
use anyhow::{Context, Result, ensure};
use headwater_core::batch::{
    Column, Effort, Limits, Rows, Section, StreamRef, Values, decode_batch, encode_batch,
};
use headwater_core::id::{BootOrdinal, Seq, StreamId};
use headwater_core::schema::Fingerprint;
use headwater_core::time::{ClockDomain, StampKind};
use headwater_core::wire::ENVELOPE_BYTES;
use headwater_lake::{Lake, TableName};
use headwater_tests::fleet::{Broker, Fleet};
use headwater_tests::players::{Mishaps, Players};
use headwater_tests::status::AgentStatus;
use headwater_tests::ticks::{now, unix_nanos, wait_until};
use headwater_tests::truth::Table;
use headwater_tests::world::{Ports, World};
use serde_json::json;
use std::path::Path;
use std::time::Duration;

const NAME: &str = "first-light";
/// Commit cadence of the run, ms.
const COMMIT_INTERVAL_MS: u64 = 1_000;
/// How long the site plays.
const SITE_SECONDS: u64 = 20;
/// How long the flood lasts.
const FLOOD_SECONDS: u64 = 15;

pub(crate) fn measure(data: &Path, sheet: &mut Sheet) -> Result<()> {
    bytes_per_row(data, sheet)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    site(data, sheet, &runtime)?;
    flood(data, sheet, &runtime)
}

/// A CSV of numbers, by column.
fn columns(path: &Path) -> Result<(Vec<String>, Vec<Vec<f64>>)> {
    let text = std::fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))?;
    let mut lines = text.lines();
    let names: Vec<String> = lines.next().unwrap_or_default().split(',').map(str::to_owned).collect();
    let mut columns = vec![Vec::new(); names.len()];
    for line in lines {
        for (column, value) in columns.iter_mut().zip(line.split(',')) {
            column.push(value.parse().with_context(|| format!("{value:?} in {}", path.display()))?);
        }
    }
    Ok((names, columns))
}

/// Ten seconds of each numeric stream as one message, beside the same rows as JSON lines with zstd -3.
fn bytes_per_row(data: &Path, sheet: &mut Sheet) -> Result<()> {
    for (file, period_us, rows, single) in
        [("imu.csv", 5_000_i64, 2_000_usize, true), ("env.csv", 500_000, 20, false)]
    {
        let (names, columns) = columns(&data.join(file))?;
        let n = rows.min(columns[0].len());
        let t: Vec<i64> = (0..n as i64).map(|i| 50_000_000 + i * period_us).collect();
        let fields: Vec<Column> = columns
            .iter()
            .map(|column| {
                let values = &column[..n];
                let values = if single {
                    // The recording's values are singles printed in full.
                    #[expect(clippy::cast_possible_truncation, reason = "exact for values that were singles")]
                    let singles = values.iter().map(|x| *x as f32).collect();
                    Values::F32(singles)
                } else {
                    Values::F64(values.to_vec())
                };
                Column { values, valid: None }
            })
            .collect();
        let section = Section::Rows(Rows {
            stream: StreamRef::Id(StreamId(1)),
            fingerprint: Fingerprint(1),
            boot_ordinal: BootOrdinal(1),
            first_seq: Seq(1_000),
            time_exp: 3,
            stamp_kind: StampKind::Arrival,
            domain: ClockDomain::BOOT,
            lat_lo: vec![0; n],
            lat_hi: vec![20_000_000; n],
            t: t.clone(),
            fields,
        });
        let body = encode_batch(std::slice::from_ref(&section), Effort::Wire);
        let back = decode_batch(&body, &Limits::V1)?;
        let (Section::Rows(ours), Some(read)) = (&section, back.rows().next()) else {
            anyhow::bail!("no rows")
        };
        ensure!(ours.same_bits(read), "{file} does not decode to itself");
        let lines: String = (0..n)
            .map(|row| {
                let mut object = serde_json::Map::new();
                object.insert("t_ns".into(), json!(t[row] * 1_000));
                object.insert("seq".into(), json!(1_000 + row));
                names
                    .iter()
                    .zip(&columns)
                    .for_each(|(name, column)| drop(object.insert(name.clone(), json!(column[row]))));
                format!("{}\n", serde_json::Value::Object(object))
            })
            .collect();
        let json_zstd = zstd::bulk::compress(lines.as_bytes(), 3)?.len();
        let per_row = |bytes: usize| bytes as f64 / n as f64;
        sheet.add(
            NAME,
            json!({"stream": file, "rows": n}),
            "bytes per row on the wire, envelope included",
            per_row(body.len() + ENVELOPE_BYTES),
            "B/row",
            json!({"json_zstd3": per_row(json_zstd), "json": per_row(lines.len())}),
        );
    }
    Ok(())
}

struct Site {
    world: World,
    fleet: Fleet,
    players: Players,
    _dir: tempfile::TempDir,
}

fn start(data: &Path, flood: bool) -> Result<Site> {
    let dir = tempfile::tempdir()?;
    let world = World::create(dir.path(), COMMIT_INTERVAL_MS)?;
    let calm = Mishaps { broken_picture_at: None, noise_at: None };
    let players = Players::start(data, &world.path("camera"), calm)?;
    let ports = Ports { imu: players.imu_port.clone(), gps: players.gps_port.clone() };
    let program = std::env::current_exe()?;
    if flood {
        world.flood_file()?;
    }
    let mut fleet = Fleet::start(&world, &ports, &program, data, Broker::Embedded)?;
    let status = world.path("status.json");
    let flowing = wait_until(Duration::from_secs(60), || {
        fleet.check().is_ok() && AgentStatus::read(&status).is_some_and(|s| s.acked_rows() > 0)
    });
    ensure!(flowing, "nothing was committed within a minute");
    Ok(Site { world, fleet, players, _dir: dir })
}

/// A site at its own rates: latency, device writes, memory.
fn site(data: &Path, sheet: &mut Sheet, runtime: &tokio::runtime::Runtime) -> Result<()> {
    let mut site = start(data, false)?;
    let location = site.world.path("lake").display().to_string();
    let end = now() + Duration::from_secs(SITE_SECONDS);
    let status = site.world.path("status.json");
    let payload = || AgentStatus::read(&status).map(|s| s.payload_bytes()).unwrap_or_default();
    let (written_before, payload_before) = (site.fleet.agent().written_bytes(), payload());
    let mut latencies = Latencies::default();
    while now() < end {
        site.fleet.check()?;
        runtime.block_on(latencies.look(&location))?;
        std::thread::sleep(Duration::from_millis(10));
    }
    let (written, payload) = (site.fleet.agent().written_bytes(), payload());
    let emitted = site.players.stop();
    let rss = site.fleet.stop()?;
    let case = json!({"seconds": SITE_SECONDS, "imu_hz": 200, "gps_hz": 5, "camera_fps": 5,
        "linger_ms": site.world.linger_ms, "commit_interval_ms": COMMIT_INTERVAL_MS});
    for (metric, share) in
        [("capture to readable commit, p50", 0.5), ("capture to readable commit, p99", 0.99)]
    {
        let value = latencies.quantile(share).context("no rows were committed while measuring")?;
        sheet.add(NAME, case.clone(), metric, value, "ms", json!({"rows": latencies.ms.len()}));
    }
    sheet.add(
        NAME,
        case.clone(),
        "agent memory at most",
        rss as f64 / f64::from(1 << 20),
        "MiB",
        json!({"bar_mib": 24}),
    );
    if let (Some(before), Some(after)) = (written_before, written) {
        let (device, payload) = ((after - before) as f64, (payload - payload_before) as f64);
        sheet.add(
            NAME,
            case,
            "device writes per payload byte",
            device / payload.max(1.0),
            "x",
            json!({"device_bytes_per_s": device / SITE_SECONDS as f64, "payload_bytes_per_s": payload / SITE_SECONDS as f64, "pictures": emitted.camera.len()}),
        );
    }
    Ok(())
}

/// Age of each IMU row when its commit could first be read.
#[derive(Debug, Default)]
struct Latencies {
    ms: Vec<f64>,
    seen: Option<String>,
    newest: i64,
}

impl Latencies {
    async fn look(&mut self, location: &str) -> Result<()> {
        let lake = Lake::open(location).await?;
        let commit = lake.resolve("main").await?;
        let at = unix_nanos();
        if self.seen.as_deref() == Some(commit.as_str()) {
            return Ok(());
        }
        let first = self.seen.replace(commit.to_string()).is_none();
        let Some(table) = Table::read_columns(&lake, &commit, "raw.imu", &["seq", "ts_ns"]).await? else {
            return Ok(());
        };
        let newest = self.newest;
        for (seq, ts) in table.integers("seq")?.into_iter().zip(table.integers("ts_ns")?) {
            let (Some(seq), Some(ts)) = (seq, ts) else { continue };
            if seq > newest && !first {
                self.ms.push((at - ts) as f64 / 1e6);
            }
            self.newest = self.newest.max(seq);
        }
        Ok(())
    }

    fn quantile(&mut self, share: f64) -> Option<f64> {
        self.ms.sort_by(f64::total_cmp);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of a length is one of its indices"
        )]
        let at = ((self.ms.len().saturating_sub(1)) as f64 * share) as usize;
        self.ms.get(at).copied()
    }
}

/// A source that never pauses: what is captured and committed per second, what is shed is recorded.
fn flood(data: &Path, sheet: &mut Sheet, runtime: &tokio::runtime::Runtime) -> Result<()> {
    let mut site = start(data, true)?;
    let location = site.world.path("lake").display().to_string();
    let status = site.world.path("status.json");
    let flood = |s: &AgentStatus| s.next_seq("flood").unwrap_or_default();
    let running =
        wait_until(Duration::from_secs(30), || AgentStatus::read(&status).is_some_and(|s| flood(&s) > 0));
    ensure!(running, "the flood did not start");
    let began = now();
    let first = AgentStatus::read(&status).map(|s| flood(&s)).unwrap_or_default();
    while began.elapsed() < Duration::from_secs(FLOOD_SECONDS) {
        site.fleet.check()?;
        std::thread::sleep(Duration::from_millis(100));
    }
    let captured = AgentStatus::read(&status).map(|s| flood(&s)).unwrap_or_default() - first;
    let capture_seconds = began.elapsed().as_secs_f64();
    drop(site.players.stop());
    site.world.silence_slow_sensor()?;
    let drained = site.fleet.wait_drained(Duration::from_secs(180), || false)?;
    ensure!(drained, "the flood was not committed within three minutes");
    let commit_seconds = began.elapsed().as_secs_f64();
    let rss = site.fleet.stop()?;
    let rows = runtime.block_on(async {
        let lake = Lake::open(&location).await?;
        let commit = lake.resolve("main").await?;
        let table = TableName::new("raw.flood")?;
        let rows = lake.tables(&commit).await?.get(&table).map(|entry| entry.rows).unwrap_or_default();
        anyhow::Ok(rows)
    })?;
    let case = json!({"fields": 6, "source": "exec csv", "commit_interval_ms": COMMIT_INTERVAL_MS});
    let shed = captured.saturating_sub(rows);
    sheet.add(
        NAME,
        case.clone(),
        "rows captured per second",
        (captured - shed.min(captured)) as f64 / capture_seconds,
        "rows/s",
        json!({"shed_rows": shed}),
    );
    sheet.add(
        NAME,
        case.clone(),
        "rows committed per second",
        rows as f64 / commit_seconds,
        "rows/s",
        json!({"values_per_s": rows as f64 * 6.0 / commit_seconds}),
    );
    sheet.add(
        NAME,
        case,
        "agent memory at most, flooded",
        rss as f64 / f64::from(1 << 20),
        "MiB",
        json!({"bar_mib": 24}),
    );
    Ok(())
}

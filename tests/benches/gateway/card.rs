//! What a gateway costs at home: bytes a day on its card, CPU, memory, each gateway in a process of its own.

use super::NAME;
use super::plan::{Pictures, gateways};
use super::play::{Pace, Player};
use crate::figure::Sheet;
use crate::spool::meter::{Meter, memory_bytes};
use anyhow::{Context, Result, ensure};
use headwater_agent::stamp::SLAB_MS_MAX;
use headwater_core::batch::Effort;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// The word that makes this binary a gateway that is measured.
const WORD: &str = "--gateway-child";
/// Intervals between syncs: the default, and what `sync_interval_ms = 10000` saves.
const SYNCS_MS: [u64; 2] = [1_000, 10_000];
/// Linger of the batches, as on a metered link.
const LINGER_MS: u64 = 10_000;
/// Seconds played of a gateway with cameras and fast sensors.
const SECONDS: u64 = 600;
/// Seconds played where there is a row in ten seconds.
const SECONDS_SLOW: u64 = 6 * 3_600;
/// Rows per second below which a gateway is slow.
const SLOW_ROWS_PER_S: f64 = 1.0;
const SECONDS_PER_DAY: f64 = 86_400.0;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Task {
    gateway: String,
    data: PathBuf,
    camera: PathBuf,
    dir: PathBuf,
    sync_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
struct Report {
    seconds: u64,
    cpu_s: f64,
    io_bytes: u64,
    device_bytes: Option<u64>,
    background_bytes_per_s: Option<u64>,
    wall_s: f64,
    rss_peak_bytes: u64,
    rows: u64,
    syncs: u64,
    messages: u64,
    message_bytes: u64,
    payload_bytes: u64,
}

impl Report {
    fn per_day(&self, n: f64) -> f64 {
        n * SECONDS_PER_DAY / self.seconds.max(1) as f64
    }

    fn gb_per_day(&self, bytes: u64) -> f64 {
        self.per_day(bytes as f64) / 1e9
    }
}

/// What a power cut may take: rows in a slab that is still open, and slabs that wait for their sync.
fn loss_window_s(sync_ms: u64) -> f64 {
    (SLAB_MS_MAX + sync_ms) as f64 / 1e3
}

/// Does a gateway's work if the command line asks for it.
pub(crate) fn dispatch() -> Option<ExitCode> {
    let mut args = std::env::args().skip(1);
    if args.next()? != WORD {
        return None;
    }
    Some(match args.next().context("no task").and_then(|task| answer(&task)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    })
}

fn answer(task: &str) -> Result<()> {
    let task: Task = serde_json::from_str(task).context("the task is not understood")?;
    let gateways = gateways(&task.data)?;
    let gateway = gateways.iter().find(|gateway| gateway.name == task.gateway);
    let gateway = gateway.with_context(|| format!("no gateway is called {}", task.gateway))?;
    let pictures =
        if gateway.pictures_per_s > 0 { Pictures::read(&task.camera, false)? } else { Pictures::default() };
    let rows_per_s: f64 = gateway.streams.iter().map(|stream| stream.rows_per_s).sum();
    let seconds = if rows_per_s < SLOW_ROWS_PER_S { SECONDS_SLOW } else { SECONDS };
    let pace = Pace { sync_ms: task.sync_ms, linger_ms: LINGER_MS, effort: Effort::Metered };
    let mut player = Player::open(gateway, &pictures, pace, &task.dir)?;
    let meter = Meter::start(&task.dir)?;
    let done = player.play(seconds)?;
    let spent = meter.stop(done.payload_bytes, done.syncs)?;
    let (rss_peak_bytes, _) = memory_bytes()?;
    let report = Report {
        seconds,
        cpu_s: spent.cpu_s,
        io_bytes: spent.io_bytes,
        device_bytes: spent.device_bytes,
        background_bytes_per_s: spent.background_bytes_per_s,
        wall_s: spent.wall_s,
        rss_peak_bytes,
        rows: done.rows,
        syncs: done.syncs,
        messages: done.messages,
        message_bytes: done.message_bytes,
        payload_bytes: done.payload_bytes,
    };
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

pub(super) fn measure(data: &Path, camera: &Path, dir: Option<&Path>, sheet: &mut Sheet) -> Result<()> {
    let program = std::env::current_exe()?;
    let home = dir.or(program.parent()).context("this program lies nowhere")?;
    for gateway in gateways(data)? {
        for sync_ms in SYNCS_MS {
            let scratch = tempfile::Builder::new().prefix("measure-gateway-").tempdir_in(home)?;
            let task = Task {
                gateway: gateway.name.to_owned(),
                data: data.to_owned(),
                camera: camera.to_owned(),
                dir: scratch.path().to_owned(),
                sync_ms,
            };
            let said = Command::new(&program).arg(WORD).arg(serde_json::to_string(&task)?).output()?;
            let complaint = String::from_utf8_lossy(&said.stderr);
            ensure!(said.status.success(), "the {} failed: {}", gateway.name, complaint.trim());
            tell(&task, &serde_json::from_slice(&said.stdout)?, sheet);
        }
    }
    Ok(())
}

fn tell(task: &Task, report: &Report, sheet: &mut Sheet) {
    let case = json!({"gateway": task.gateway, "sync_s": task.sync_ms as f64 / 1e3,
        "played_s": report.seconds});
    let card = report.device_bytes.unwrap_or(report.io_bytes);
    let beside = json!({
        "process_write_gb": report.gb_per_day(report.io_bytes),
        "payload_mb": report.gb_per_day(report.payload_bytes) * 1e3,
        "bytes_per_payload_byte": card as f64 / report.payload_bytes.max(1) as f64,
        "syncs_per_day": report.per_day(report.syncs as f64).round(),
        "loss_window_s": loss_window_s(task.sync_ms),
        "others_mb": report.background_bytes_per_s.map_or(0.0, |bytes| bytes as f64 * report.wall_s / 1e6),
    });
    sheet.add(NAME, case.clone(), "card (block device)", report.gb_per_day(card), "GB/day", beside);
    let beside = json!({"rows_per_day": report.per_day(report.rows as f64).round(),
        "messages_per_day": report.per_day(report.messages as f64).round(),
        "up_mb_per_day": report.gb_per_day(report.message_bytes) * 1e3,
        "run": "stamp, spool, batch, sign; no sources, TLS, broker"});
    sheet.add(NAME, case.clone(), "CPU", report.per_day(report.cpu_s), "s/day", beside);
    let beside = json!({"run": "as above, recordings included"});
    sheet.add(NAME, case, "RSS at most", report.rss_peak_bytes as f64 / f64::from(1 << 20), "MiB", beside);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_extrapolated_from_what_was_played() {
        let report = Report { seconds: 600, cpu_s: 2.0, ..Report::default() };
        assert!((report.per_day(report.cpu_s) - 288.0).abs() < 1e-9);
        assert!((report.gb_per_day(1_000_000_000) - 144.0).abs() < 1e-9);
        assert!((loss_window_s(1_000) - 2.0).abs() < 1e-9);
    }

    #[test]
    fn a_gateway_plays_through_the_agents_path() {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("data");
        let pictures = Pictures::read(&data.join("demo/camera"), false).unwrap();
        for gateway in gateways(&data.join("streams")).unwrap() {
            let dir = tempfile::tempdir().unwrap();
            let pace = Pace { sync_ms: 1_000, linger_ms: LINGER_MS, effort: Effort::Wire };
            let mut player = Player::open(&gateway, &pictures, pace, dir.path()).unwrap();
            let done = player.play(30).unwrap();
            let least: f64 = gateway.streams.iter().map(|stream| stream.rows_per_s * 30.0).sum();
            assert!(done.rows as f64 >= least.floor(), "{}: {done:?}", gateway.name);
            assert!(done.syncs > 0 && done.syncs <= 2 * 30 + 5, "{}: {done:?}", gateway.name);
            assert!(done.messages > 0 && done.payload_bytes > 0, "{}: {done:?}", gateway.name);
        }
    }
}

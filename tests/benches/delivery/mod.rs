//! Delivery on loopback, by the processes that a user runs: agent → mosquitto → collector, until *landed*, that is
//! until the collector's signed ack says *durable*.
//!
//! A spool is filled beforehand, so that nothing but delivery is measured. Beside it stands a bare MQTT client in the
//! same run: QoS 1, a hundred in flight, the same sizes through the same broker to a subscriber that only counts. It
//! signs nothing, keeps nothing and syncs nothing, which is what the ratio is about.

mod bare;
mod child;
mod client;
mod fill;
mod stage;
mod watch;

pub(crate) use child::dispatch;

use crate::figure::Sheet;
use crate::spool::size::shown;
use anyhow::{Context, Result};
use bare::Bare;
use fill::{Filled, fill, stream_id};
use headwater_tests::proxy::{Conditions, Cuts, Mode, Proxy};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use stage::{Cpu, LINGER_MS, SYNC_INTERVAL_MS, Stage};
use std::path::{Path, PathBuf};
use std::time::Duration;
use watch::{AckWatch, Seen};

const NAME: &str = "delivery";
/// Payload of a case of throughput, MB, if nothing is said.
const MB_USUAL: u64 = 200;
/// Backlog of the drain, if nothing is said.
const BACKLOG_USUAL: u64 = 256_000_000;
/// Longest wait for a case.
const LIMIT: Duration = Duration::from_secs(1_800);
/// Most payload through the bad link: each cut doubles the gateway's back-off, so many cuts are many minutes.
const WIRE_BYTES_MAX: u64 = 8_000_000;
/// Pace of the bad link, bytes/s each way: a good cellular one.
const WIRE_RATE: u64 = 4_000_000;
/// Chances in a thousand that a piece as large as a payload takes its connection with it.
const LOSSES: [u64; 3] = [0, 10, 50];
/// Links that are narrower than loopback, bytes/s each way: 10, 100 and 400 Mbit/s.
const PACED_RATES: [u64; 3] = [1_250_000, 12_500_000, 50_000_000];
/// Time on the way through them, each way.
const PACED_DELAY: Duration = Duration::from_millis(10);
/// Seconds a paced link is busy for, so that start and end weigh little.
const PACED_SECONDS: u64 = 8;
/// The same cuts in every run.
const SEED: u64 = 0x6465_6c69_7665_7279;
/// Live rows before the drain, and after it, so that percentiles stand on some.
const LIVE_ROWS_MIN: u64 = 100;
const MIB: f64 = (1_u64 << 20) as f64;

/// What is delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Payload {
    /// Rows with a field of 1 KiB: many to a message.
    Rows1Ki,
    /// Blobs of 64 KiB: one part each.
    Blobs64Ki,
    /// Blobs of 200 000 bytes: a picture, in parts.
    Blobs200k,
}

impl Payload {
    const ALL: [Self; 3] = [Self::Rows1Ki, Self::Blobs64Ki, Self::Blobs200k];

    fn bytes(self) -> usize {
        match self {
            Self::Rows1Ki => 1 << 10,
            Self::Blobs64Ki => 64 << 10,
            Self::Blobs200k => 200_000,
        }
    }

    fn is_blob(self) -> bool {
        self != Self::Rows1Ki
    }

    fn told(self) -> &'static str {
        match self {
            Self::Rows1Ki => "rows of 1 KiB",
            Self::Blobs64Ki => "blobs of 64 KiB",
            Self::Blobs200k => "blobs of 200 kB",
        }
    }
}

/// What the command line says.
#[derive(Debug)]
pub(crate) struct Options {
    /// Where spools, logs and the lake are made; below the program's own folder if nothing is said.
    pub(crate) dir: Option<PathBuf>,
    /// Payload of each case of throughput, MB.
    pub(crate) mb: Option<u64>,
    /// Backlog to drain, bytes.
    pub(crate) backlog: Option<u64>,
}

pub(crate) fn measure(options: &Options, sheet: &mut Sheet) -> Result<()> {
    let home = match &options.dir {
        Some(dir) => dir.clone(),
        None => std::env::current_exe()?.parent().context("this program lies nowhere")?.to_owned(),
    };
    let bytes = options.mb.unwrap_or(MB_USUAL) * 1_000_000;
    // What is small on purpose is small everywhere.
    let backlog = options.backlog.unwrap_or(if options.mb.is_some() { bytes } else { BACKLOG_USUAL });
    let cases = Payload::ALL.len() * 2 + PACED_RATES.len() + 1 + LOSSES.len();
    let progress = ProgressBar::new(cases as u64);
    progress.set_style(ProgressStyle::with_template("{elapsed_precise} {bar:30} {pos}/{len} {msg}")?);
    progress.enable_steady_tick(Duration::from_millis(250));
    let mut bench = Bench { home, progress, sheet };
    for payload in Payload::ALL {
        for tls in [false, true] {
            bench.throughput(payload, tls, bytes)?;
        }
    }
    for rate in PACED_RATES {
        bench.paced(rate, bytes)?;
    }
    bench.drain(backlog)?;
    for per_thousand in LOSSES {
        bench.wire(bytes.min(WIRE_BYTES_MAX), per_thousand)?;
    }
    bench.progress.finish_and_clear();
    Ok(())
}

struct Bench<'a> {
    home: PathBuf,
    progress: ProgressBar,
    sheet: &'a mut Sheet,
}

/// What a drain of a spool took.
struct Drained {
    seconds: f64,
    cpu: Cpu,
    last: Seen,
}

impl Bench<'_> {
    fn begin(&mut self, what: String) {
        self.progress.set_message(what);
    }

    fn throughput(&mut self, payload: Payload, tls: bool, bytes: u64) -> Result<()> {
        let link = if tls { "mTLS" } else { "plain" };
        self.begin(format!("{} over {link}", payload.told()));
        let mut stage = Stage::new(&self.home, tls)?;
        let filled = fill(&stage.world.path("spool"), payload, bytes)?;
        stage.start_collector()?;
        let watch = AckWatch::start(&stage.door("gateway"))?;
        stage.start_agent(None, None)?;
        let ours = drain(&mut stage, &watch, filled)?;
        let rss = stage.stop()?;
        drop((watch, stage));
        let bare = bare::run(&self.home, tls, payload.bytes(), filled.rows, None)?;
        let gb = filled.payload_bytes as f64 / 1e9;
        let case = json!({"payload": payload.told(), "link": link, "mb": filled.payload_bytes / 1_000_000});
        let mb_per_s = gb * 1e3 / ours.seconds.max(1e-9);
        self.sheet.add(
            NAME,
            case.clone(),
            "agent → mosquitto → landed",
            mb_per_s,
            "MB/s",
            json!({"bare_client": bare.mb_per_s, "ratio": mb_per_s / bare.mb_per_s}),
        );
        let Bare { publisher_s_per_gb, broker_s_per_gb, subscriber_s_per_gb, .. } = bare;
        for (metric, cpu, name, beside) in [
            ("CPU of the agent", ours.cpu.agent, "bare_publisher", publisher_s_per_gb),
            ("CPU of mosquitto", ours.cpu.broker, "for_bare_client", broker_s_per_gb),
            ("CPU of the collector", ours.cpu.collector, "bare_subscriber", subscriber_s_per_gb),
        ] {
            self.sheet.add(NAME, case.clone(), metric, cpu / gb, "s/GB", json!({ name: beside }));
        }
        self.memory(case, rss);
        self.progress.inc(1);
        Ok(())
    }

    /// The same on a link that a field site may have: what is left of it for payload.
    fn paced(&mut self, rate: u64, bytes: u64) -> Result<()> {
        let payload = Payload::Blobs64Ki;
        self.begin(format!("{} on a link of {}/s", payload.told(), shown(rate)));
        let link = Conditions { rate: Some(rate), delay: Some(PACED_DELAY), cuts: None };
        let mut stage = Stage::new(&self.home, true)?;
        let filled = fill(&stage.world.path("spool"), payload, bytes.min(rate * PACED_SECONDS))?;
        stage.start_collector()?;
        let watch = AckWatch::start(&stage.door("gateway"))?;
        let proxy = Proxy::start(&stage.world.broker, SEED)?;
        proxy.set(Mode::Open(link));
        stage.start_agent(Some(&proxy), None)?;
        let ours = drain(&mut stage, &watch, filled)?;
        let rss = stage.stop()?;
        drop((proxy, watch, stage));
        let bare = bare::run(&self.home, true, payload.bytes(), filled.rows, Some(link))?;
        let case = json!({"payload": payload.told(), "link": "mTLS", "mb": filled.payload_bytes / 1_000_000,
            "rate_mb_per_s": rate as f64 / 1e6, "delay_ms": PACED_DELAY.as_secs_f64() * 1e3});
        let mb_per_s = filled.payload_bytes as f64 / 1e6 / ours.seconds.max(1e-9);
        let beside = json!({"bare_client": bare.mb_per_s, "ratio": mb_per_s / bare.mb_per_s});
        self.sheet.add(NAME, case.clone(), "agent → link → mosquitto → landed", mb_per_s, "MB/s", beside);
        self.memory(case, rss);
        self.progress.inc(1);
        Ok(())
    }

    fn memory(&mut self, case: Value, rss: u64) {
        self.sheet.add(NAME, case, "agent memory at most", rss as f64 / MIB, "MiB", json!({}));
    }

    /// A backlog goes out while a sensor speaks: how old its rows are when they are landed.
    fn drain(&mut self, bytes: u64) -> Result<()> {
        self.begin(format!("{} of backlog beside live rows", shown(bytes)));
        let mut stage = Stage::new(&self.home, true)?;
        let spool = stage.world.path("spool");
        let filled = fill(&spool, Payload::Blobs200k, bytes)?;
        stage.start_collector()?;
        let watch = AckWatch::start(&stage.door("gateway"))?;
        let noted = stage.world.path("live.noted");
        stage.start_agent(None, Some(&noted))?;
        let drained = drain(&mut stage, &watch, filled)?;
        stage.wait(LIMIT, "live rows", |_| Ok(notes(&noted).len() as u64 >= LIVE_ROWS_MIN))?;
        std::fs::write(noted.with_extension("stop"), "")?;
        stage.wait(LIMIT, "end of live rows", |stage| {
            let status = headwater_tests::status::AgentStatus::read(&stage.world.path("status.json"));
            Ok(status.is_some_and(|status| status.is_drained()))
        })?;
        let rss = stage.stop()?;
        let live = stream_id(&spool, "live")?.context("no live rows were captured")?;
        let acks = watch.acks();
        let (mut during, mut after) = (Vec::new(), Vec::new());
        for (seq, captured_ns) in (0..).zip(notes(&noted)) {
            // The last may have come after the sensor was stopped.
            let Some(ack) = acks.iter().find(|seen| seen.covers(live, seq)) else { continue };
            let age_ms = (ack.utc_ns - captured_ns) as f64 / 1e6;
            if captured_ns <= drained.last.utc_ns { during.push(age_ms) } else { after.push(age_ms) }
        }
        let case = json!({"backlog": shown(filled.payload_bytes), "link": "mTLS", "live_hz": child::LIVE_HZ,
            "linger_ms": LINGER_MS, "sync_interval_ms": SYNC_INTERVAL_MS});
        for (metric, share) in [
            ("capture to landed beside the backlog, p50", 0.5),
            ("capture to landed beside the backlog, p99", 0.99),
        ] {
            let (Some(value), rows) = (quantile(&mut during, share), during.len()) else {
                continue;
            };
            let beside = json!({"without_backlog": quantile(&mut after, share), "rows": rows});
            self.sheet.add(NAME, case.clone(), metric, value, "ms", beside);
        }
        let mb_per_s = filled.payload_bytes as f64 / 1e6 / drained.seconds.max(1e-9);
        let beside = json!({"mb_per_s": mb_per_s});
        self.sheet.add(NAME, case.clone(), "time to catch up", drained.seconds, "s", beside);
        self.memory(case, rss);
        self.progress.inc(1);
        Ok(())
    }

    /// Bytes on the TCP connections over bytes of payload, on a link that takes connections with it.
    fn wire(&mut self, bytes: u64, per_thousand: u64) -> Result<()> {
        let payload = Payload::Blobs64Ki;
        self.begin(format!("bytes on the wire at {} % loss", per_thousand as f64 / 10.0));
        let mut stage = Stage::new(&self.home, true)?;
        let filled = fill(&stage.world.path("spool"), payload, bytes)?;
        stage.start_collector()?;
        let watch = AckWatch::start(&stage.door("gateway"))?;
        let proxy = Proxy::start(&stage.world.broker, SEED)?;
        let piece_bytes = payload.bytes() as u64;
        let cuts = (per_thousand > 0).then_some(Cuts::Chance { piece_bytes, per_thousand });
        proxy.set(Mode::Open(Conditions { rate: Some(WIRE_RATE), delay: None, cuts }));
        stage.start_agent(Some(&proxy), None)?;
        let drained = drain(&mut stage, &watch, filled)?;
        let counts = proxy.counts();
        let rss = stage.stop()?;
        let case = json!({"payload": payload.told(), "link": "mTLS", "mb": filled.payload_bytes / 1_000_000,
            "rate_mb_per_s": WIRE_RATE / 1_000_000, "loss_percent": per_thousand as f64 / 10.0,
            "loss": "connection cut"});
        let over = |bytes: u64| bytes as f64 / filled.payload_bytes as f64;
        let both = over(counts.up_bytes + counts.down_bytes);
        let beside = json!({"up": over(counts.up_bytes), "down": over(counts.down_bytes), "cuts": counts.cuts,
            "connections": counts.connections, "seconds": drained.seconds});
        self.sheet.add(NAME, case.clone(), "bytes on the wire per payload byte", both, "x", beside);
        self.memory(case, rss);
        self.progress.inc(1);
        Ok(())
    }
}

/// Waits until all of it is landed: from the collector's answer to the hello to the ack that covers the last row.
fn drain(stage: &mut Stage, watch: &AckWatch, filled: Filled) -> Result<Drained> {
    let mut first = None;
    stage.wait(LIMIT, "first ack", |_| {
        first = watch.first()?;
        Ok(first.is_some())
    })?;
    let before = stage.cpu();
    let mut last = None;
    stage.wait(LIMIT, "last ack", |_| {
        last = watch.durable(filled.stream, filled.rows)?;
        Ok(last.is_some())
    })?;
    let cpu = stage.cpu() - before;
    let (first, last) = first.zip(last).context("no acks")?;
    Ok(Drained { seconds: last.at.duration_since(first.at).as_secs_f64(), cpu, last })
}

/// Times at which the live sensor spoke, in order.
fn notes(noted: &Path) -> Vec<i64> {
    let text = std::fs::read_to_string(noted).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

/// The least value that a share of them does not exceed.
fn quantile(values: &mut [f64], share: f64) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a length")]
    let at = (values.len() as f64 * share).ceil() as usize;
    values.get(at.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_seen() {
        let mut values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(quantile(&mut values, 0.5), Some(50.0));
        assert_eq!(quantile(&mut values, 0.99), Some(99.0));
        assert_eq!(quantile(&mut values[..1], 0.99), Some(1.0));
        assert_eq!(quantile(&mut [], 0.5), None);
    }

    #[test]
    fn a_spool_is_filled_with_what_was_asked_for() {
        for payload in Payload::ALL {
            let dir = tempfile::tempdir().unwrap();
            let filled = fill(dir.path(), payload, 1_000_000).unwrap();
            assert_eq!(filled.rows, 1_000_000_u64.div_ceil(payload.bytes() as u64));
            assert!((1_000_000..1_000_000 + payload.bytes() as u64).contains(&filled.payload_bytes));
            assert_eq!(stream_id(dir.path(), "measured").unwrap(), Some(filled.stream));
            assert_eq!(stream_id(dir.path(), "live").unwrap(), None);
        }
    }
}

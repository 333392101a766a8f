//! A whole fleet that lost its broker and comes back at once: what the collector needs for it, and how long it takes.
//!
//! One process plays all devices, each with its own key and certificate and a connection of its own; batches
//! are real and signed. Broker and collector are processes, as in the scenarios. The broker is mosquitto, if
//! there is one, else the embedded broker, which takes 1000 connections.

mod device;
mod link;
mod site;

use crate::figure::Sheet;
use anyhow::{Context, Result, ensure};
use device::{Counts, Device, Plan};
use headwater_tests::ticks::{now, wait_until};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use site::Site;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;

const NAME: &str = "fleet";
/// Longest wait for the fleet to be on line and quiet, before the outage.
const ONLINE_LIMIT: Duration = Duration::from_secs(600);
/// Longest wait for all to be caught up.
const CAUGHT_UP_LIMIT: Duration = Duration::from_secs(1_800);
/// How long the broker is gone.
const OUTAGE: Duration = Duration::from_secs(5);
/// Longest wait for the last commit.
const COMMIT_LIMIT: Duration = Duration::from_secs(300);

/// What to measure.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    /// Devices.
    pub(crate) devices: usize,
    /// Messages each has to send after the outage.
    pub(crate) messages: u64,
    /// Kilobytes of each message, about.
    pub(crate) kilobytes: usize,
    /// Receivers, each a process; more than one share the fleet by shards.
    pub(crate) receivers: usize,
}

pub(crate) fn measure(options: Options, sheet: &mut Sheet) -> Result<()> {
    raise_files(options.devices)?;
    let bar = ProgressBar::new(options.devices as u64);
    bar.set_style(ProgressStyle::with_template("{msg:32} {wide_bar} {pos}/{len} {elapsed}")?);
    bar.set_message("certificates");
    let mut site = Site::new(options.receivers)?;
    if site.broker_name() == "embedded" && options.devices > 900 {
        anyhow::bail!(
            "no mosquitto found, and the embedded broker takes 1000 connections: install mosquitto, or use --devices 900"
        );
    }
    let plan = Arc::new(Plan::new(options.messages, options.kilobytes)?);
    let counts = Arc::new(Counts::default());
    let mut devices = Vec::with_capacity(options.devices);
    for n in 0..options.devices {
        devices.push(site.device(&format!("pi-{n}"))?);
        bar.inc(1);
    }
    site.start()?;
    site.check()?;
    let rss_idle = site.collector_rss();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    // Messages each device has, of those of the plan: one before the outage, all after it.
    let (have_tx, have) = watch::channel(1_u64);
    let caught_up = Arc::new(AtomicU64::new(0));
    for identity in devices {
        let device = Device::new(identity, site.broker(), Arc::clone(&plan), Arc::clone(&counts));
        runtime.spawn(device.run(have.clone(), Arc::clone(&caught_up)));
    }
    let all = options.devices as u64;
    let wait = |site: &mut Site, what: &'static str, limit, bar: &ProgressBar| -> Result<Duration> {
        let (start, mut trouble) = (now(), None);
        bar.set_message(what);
        let done = wait_until(limit, || {
            trouble = site.check().err();
            let n = caught_up.load(Ordering::SeqCst);
            bar.set_position(n);
            trouble.is_some() || n >= all
        });
        if let Some(error) = trouble {
            return Err(error.into());
        }
        let n = caught_up.load(Ordering::SeqCst);
        ensure!(done, "{what}: {n} of {all} devices after {} s", limit.as_secs());
        Ok(start.elapsed())
    };
    let online = wait(&mut site, "on line", ONLINE_LIMIT, &bar)?;
    let before = counts.take();
    let rss_before = site.collector_rss();
    site.kill_broker()?;
    caught_up.store(0, Ordering::SeqCst);
    have_tx.send_replace(options.messages);
    bar.set_message("outage");
    std::thread::sleep(OUTAGE);
    site.start_broker()?;
    let took = wait(&mut site, "catching up", CAUGHT_UP_LIMIT, &bar)?;
    let after = counts.take();
    let gauges = site.gauges().context("the collector's metrics cannot be read")?;
    bar.set_message("commit");
    let rows = runtime.block_on(site.rows_committed(all * plan.rows(), COMMIT_LIMIT))?;
    bar.finish_and_clear();
    let rss = site.collector_rss();
    runtime.shutdown_background();
    site.stop()?;

    let case = json!({ "devices": options.devices, "messages": options.messages, "kB": options.kilobytes, "receivers": options.receivers, "broker": site.broker_name() });
    let mut add =
        |metric, value: f64, unit, beside| sheet.add(NAME, case.clone(), metric, value, unit, beside);
    let per_device = |n: u64| n as f64 / all as f64;
    let mib = |bytes: f64| bytes / f64::from(1 << 20);
    add("first time on line", online.as_secs_f64(), "s", json!({}));
    add(
        "all caught up after the outage",
        took.as_secs_f64(),
        "s",
        json!({ "MB/s": after.bytes as f64 / 1e6 / took.as_secs_f64() }),
    );
    add(
        "memory of a collector, greatest",
        mib(rss as f64),
        "MiB",
        json!({
            "before the outage": mib(rss_before as f64),
            "without devices": mib(rss_idle as f64),
            "kB a device on line": rss_before.saturating_sub(rss_idle) as f64 / 1e3 / all as f64,
        }),
    );
    add("landing queue, greatest", mib(gauges.landing_peak), "MiB", json!({}));
    add("staging, greatest", mib(gauges.staging_peak), "MiB", json!({}));
    add(
        "credit out, greatest",
        mib(gauges.credit_peak),
        "MiB",
        json!({ "limit": mib(gauges.credit_limit), "late": mib(gauges.late), "unasked": mib(gauges.unasked) }),
    );
    add("acks a device", per_device(after.acks), "", json!({ "before the outage": per_device(before.acks) }));
    add(
        "hellos a device",
        per_device(after.hellos),
        "",
        json!({ "before the outage": per_device(before.hellos), "for lack of credit": after.stalls }),
    );
    add("messages sent twice", per_device(after.resent), "a device", json!({}));
    let expected = all * plan.rows();
    add("rows lost", expected.saturating_sub(rows) as f64, "", json!({ "rows": expected }));
    add("rows double", rows.saturating_sub(expected) as f64, "", json!({}));
    ensure!(rows == expected, "the lake holds {rows} rows of {expected}");
    Ok(())
}

/// Each device is a file here, and another one in the broker.
fn raise_files(devices: usize) -> Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let needed = devices as u64 + 512;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    ensure!(
        limit.maximum.is_none_or(|maximum| maximum >= needed),
        "{devices} devices need {needed} open files, and the hard limit is {:?}; raise it: ulimit -Hn {needed}",
        limit.maximum
    );
    setrlimit(Resource::Nofile, Rlimit { current: Some(needed), maximum: limit.maximum })?;
    Ok(())
}

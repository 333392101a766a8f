//! A commit's cost at the beginning of a history and far into it. It must not grow: a site that has run for a year commits
//! as a new one does.

use super::bed::{self, CADENCE_LOCAL_S, CADENCE_REMOTE_S, mean, quantile, request};
use super::{Bench, NAME, verdict};
use crate::cpu::cpu_time;
use anyhow::{Context, Result};
use headwater_lake::{Lake, LakeWriter, RefName};
use headwater_tests::lakes::{Counted, Meter};
use headwater_tests::ticks::now;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// Commits a point of the history is measured over: several merges of manifests fall into it; fewer for show.
const WINDOW: u64 = 50;
const WINDOW_QUICK: u64 = 10;
/// Most that a late commit may cost, of an early one.
const FLAT_MAX: f64 = 1.2;
/// Waves of writes and the ref entry.
const ROUNDS_MAX: f64 = 2.0;
/// What a request to a distant store takes.
const LATENCY: Duration = Duration::from_millis(30);
/// Histories of many tables are shorter by this: they write ten times as much.
const MANY_SHORTER: u64 = 10;
const YEAR_S: f64 = 365.0 * 86_400.0;

/// What commits around one point of a history took.
struct Window {
    /// The first of them, from 1.
    from: u64,
    ms: Vec<f64>,
    /// Processor time of all threads, which says the same on a busy machine.
    cpu_ms: Vec<f64>,
    rounds: Vec<f64>,
    /// Bytes a commit that are not rows.
    metadata_bytes: f64,
}

impl Window {
    fn at(from: u64) -> Self {
        Self { from, ms: Vec::new(), cpu_ms: Vec::new(), rounds: Vec::new(), metadata_bytes: 0.0 }
    }
}

/// Local disk with 2 and 20 tables, then a distant store. Gives the long local history for whoever needs one.
pub(super) fn measure(bench: &mut Bench<'_>, commits: u64) -> Result<Lake> {
    let many = (commits / MANY_SHORTER).max(2 * bench.scale(WINDOW, WINDOW_QUICK));
    let lake = local(bench, 2, commits)?;
    local(bench, 20, many)?;
    remote(bench, 2, commits)?;
    remote(bench, 20, many)?;
    Ok(lake)
}

/// The first commit, powers of ten, and the last ones.
fn points(commits: u64, window: u64) -> Vec<u64> {
    let mut points: Vec<u64> = [1, 100, 1_000, 10_000, 100_000, 1_000_000]
        .into_iter()
        .filter(|point| point + window < commits)
        .collect();
    points.push(commits.saturating_sub(window).max(1));
    points.dedup();
    points
}

fn local(bench: &mut Bench<'_>, tables: usize, commits: u64) -> Result<Lake> {
    let folder = bench.folder(&format!("flat-{tables}"));
    let lake = bench.runtime.block_on(bed::local(&folder))?;
    let mut writer = lake.writer(RefName::main(), "measure".to_owned());
    let windows = history(bench, &mut writer, tables, commits, None)?;
    report(bench, "local disk, synced", tables, &windows);
    Ok(lake)
}

fn remote(bench: &mut Bench<'_>, tables: usize, commits: u64) -> Result<()> {
    let (meter, lake) = bench.runtime.block_on(bed::metered())?;
    let mut writer = lake.writer(RefName::main(), "measure".to_owned());
    let windows = history(bench, &mut writer, tables, commits, Some(&meter))?;
    report(bench, "memory, 30 ms a request", tables, &windows);
    let last = windows.last().context("a history has commits")?;
    let case = json!({"store": "memory, 30 ms a request", "tables": tables, "commit": last.from});
    // Each commit is held to it, those that merge manifests too.
    let (rounds, most) = (mean(&last.rounds), quantile(&last.rounds, 1.0));
    let beside = json!({"bar": ROUNDS_MAX, "verdict": verdict(most <= ROUNDS_MAX),
        "most": most, "iceberg_client": 4 * tables});
    bench.sheet.add(NAME, case, "round trips a commit", rounds, "", beside);
    Ok(())
}

fn history(
    bench: &Bench<'_>,
    writer: &mut LakeWriter,
    tables: usize,
    commits: u64,
    meter: Option<&Arc<Meter>>,
) -> Result<Vec<Window>> {
    let width = bench.scale(WINDOW, WINDOW_QUICK);
    let mut windows: Vec<Window> = Vec::new();
    let mut open = points(commits, width).into_iter().peekable();
    for n in 1..=commits {
        if n.is_multiple_of(100) {
            let store = if meter.is_some() { "a distant store" } else { "local disk" };
            bench.bar.set_message(format!("commit {n} of {commits}, {tables} tables, {store}"));
        }
        if open.next_if_eq(&n).is_some() {
            windows.push(Window::at(n));
        }
        let window = windows.last_mut().filter(|window| n < window.from + width);
        if let Some(meter) = meter {
            meter.set_latency(if window.is_some() { LATENCY } else { Duration::ZERO });
            meter.take();
        }
        let request = request(&bench.recording, tables, n)?;
        let (began, spent) = (now(), cpu_time()?);
        bench.runtime.block_on(writer.commit(request))?;
        let (ms, cpu_ms) = (began.elapsed().as_secs_f64() * 1e3, (cpu_time()? - spent).as_secs_f64() * 1e3);
        let counted = meter.map_or_else(Counted::default, |meter| meter.take());
        if let Some(window) = window {
            window.ms.push(ms);
            window.cpu_ms.push(cpu_ms);
            window.rounds.push(counted.rounds as f64);
            window.metadata_bytes += counted.metadata_bytes() as f64 / width as f64;
        }
    }
    Ok(windows)
}

fn report(bench: &mut Bench<'_>, store: &str, tables: usize, windows: &[Window]) {
    let case = |from: u64| json!({"store": store, "tables": tables, "commit": from});
    for window in windows {
        let ms = mean(&window.ms);
        let beside = json!({"p50": quantile(&window.ms, 0.5), "p99": quantile(&window.ms, 0.99), "commits_per_s": 1e3 / ms,
            "cpu_ms": mean(&window.cpu_ms)});
        bench.sheet.add(NAME, case(window.from), "a commit", ms, "ms", beside);
        if window.metadata_bytes > 0.0 {
            let beside = json!({"objects_are": "manifests, lists, metadata, commit, ref entry"});
            bench.sheet.add(
                NAME,
                case(window.from),
                "metadata a commit",
                window.metadata_bytes / 1e3,
                "kB",
                beside,
            );
        }
    }
    let (Some(first), Some(last)) = (windows.first(), windows.last()) else { return };
    let ratio = mean(&last.ms) / mean(&first.ms);
    let early = windows.iter().find(|window| window.from == 100).unwrap_or(first);
    let beside = json!({"bar": FLAT_MAX, "verdict": verdict(ratio <= FLAT_MAX),
        "against_commit_100": mean(&last.ms) / mean(&early.ms), "p50": quantile(&last.ms, 0.5) / quantile(&first.ms, 0.5),
        "cpu": mean(&last.cpu_ms) / mean(&first.cpu_ms)});
    bench.sheet.add(NAME, case(last.from), "cost late over cost early", ratio, "x", beside);
    year(bench, case(last.from), windows);
}

/// What a commit would cost after a year at the default cadences, if each decade of commits adds what the last one did.
fn year(bench: &mut Bench<'_>, case: Value, windows: &[Window]) {
    let [.., before, last] = windows else { return };
    let decades = (last.from as f64 / before.from as f64).log10().max(0.1);
    let slope = (mean(&last.ms) - mean(&before.ms)) / decades;
    for cadence_s in [CADENCE_LOCAL_S, CADENCE_REMOTE_S] {
        let commits = YEAR_S / cadence_s as f64;
        let ms = mean(&last.ms) + slope * (commits / last.from as f64).log10();
        let mut case = case.clone();
        case["cadence_s"] = json!(cadence_s);
        let mut beside = json!({"commits": commits, "ms_a_decade": slope,
            "busy_s_a_day": ms / 1e3 * 86_400.0 / cadence_s as f64});
        if last.metadata_bytes > 0.0 {
            beside["metadata_GB"] = json!(last.metadata_bytes * commits / 1e9);
        }
        bench.sheet.add(NAME, case, "a commit after a year, modelled", ms, "ms", beside);
    }
}

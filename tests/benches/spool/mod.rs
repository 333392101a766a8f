//! The spool beside embedded databases: throughput, CPU, device writes, memory, room, and opening after a kill.
//!
//! Every store gets the same incompressible pieces and makes the same number of payload bytes durable at each
//! commit, in a process of its own. The device's figures are the block device's own, so anything else that
//! writes there counts too: `--dir` on a quiet file system gives them exactly.

mod child;
mod launch;
pub(crate) mod meter;
pub(crate) mod size;
mod store;
mod task;
mod verdict;
mod workload;

pub(crate) use child::dispatch;

use crate::figure::Sheet;
use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use launch::{Launcher, Outcome};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;
use task::{Job, Report, StoreKind, Task};
use verdict::{DRAINED, FASTEST, MEMORY, OPEN, OPEN_LOST, Target, WRITES, WRITES_GROUP_BYTES_MIN};
use workload::{RECORD_BYTES, Workload};

const NAME: &str = "spool";
/// Payload bytes of a durable commit: the product's own bound, and one little above the least that the target
/// for device writes speaks of (three slabs, one picture).
const GROUPS: [u64; 2] = [1 << 20, 192 << 10];
/// Passes of an append; the best counts.
const PASSES: u64 = 5;
const MIB: f64 = (1_u64 << 20) as f64;

/// What the command line says.
#[derive(Debug)]
pub(crate) struct Options {
    /// Where stores are made; below the program's own folder if nothing is said.
    pub(crate) dir: Option<PathBuf>,
    /// Backlogs to fill, bytes.
    pub(crate) backlog: Vec<u64>,
    /// Everything small: proves that it runs.
    pub(crate) quick: bool,
}

/// How much is written.
#[derive(Debug, Clone)]
struct Sizes {
    append: u64,
    /// For groups so small that syncs take most of the time, and for records, of which rivals take few.
    append_slow: u64,
    /// Passes over an append, the stores taking turns: what else the machine does hits them alike.
    passes: u64,
    depth: u64,
    turnover: u64,
    backlog: Vec<u64>,
}

impl Sizes {
    fn of(options: &Options) -> Self {
        let backlog = |usual: &[u64]| {
            if options.backlog.is_empty() { usual.to_vec() } else { options.backlog.clone() }
        };
        if options.quick {
            let (append, append_slow, depth, turnover) = (16 << 20, 4 << 20, 16 << 20, 16 << 20);
            Self { append, append_slow, passes: 1, depth, turnover, backlog: backlog(&[32 << 20]) }
        } else {
            let (append, append_slow, depth, turnover) = (128 << 20, 32 << 20, 64 << 20, 256 << 20);
            let backlog = backlog(&[1_000_000_000, 10_000_000_000]);
            Self { append, append_slow, passes: PASSES, depth, turnover, backlog }
        }
    }

    fn append(&self, workload: Workload, group: u64) -> u64 {
        let slow = workload == Workload::Records || group < 1 << 20;
        if slow { self.append_slow } else { self.append }
    }

    fn cases(&self) -> u64 {
        let appends = (Workload::ALL.len() * GROUPS.len()) as u64 * self.passes;
        let backlogs = self.backlog.len() as u64;
        StoreKind::ALL.len() as u64 * (appends + QUEUED.len() as u64 + 2 * backlogs) + backlogs
    }
}

/// Workloads of the queue: a store that leaks does it with large values first.
const QUEUED: [Workload; 2] = [Workload::Slabs, Workload::Images];

pub(crate) fn measure(options: &Options, sheet: &mut Sheet) -> Result<()> {
    let home = match &options.dir {
        Some(dir) => dir.clone(),
        None => std::env::current_exe()?.parent().context("this program lies nowhere")?.to_owned(),
    };
    let scratch = tempfile::Builder::new()
        .prefix("measure-spool-")
        .tempdir_in(&home)
        .with_context(|| format!("failed to make a folder in {}", home.display()))?;
    let sizes = Sizes::of(options);
    let progress = ProgressBar::new(sizes.cases());
    progress.set_style(ProgressStyle::with_template("{elapsed_precise} {bar:30} {pos}/{len} {msg}")?);
    progress.enable_steady_tick(Duration::from_millis(250));
    let mut bench = Bench {
        launcher: Launcher::new(scratch.path())?,
        scratch: scratch.path().to_owned(),
        progress,
        sheet,
        verdicts: Vec::new(),
    };
    bench.about(options);
    for workload in Workload::ALL {
        for group in GROUPS {
            bench.append(workload, group, &sizes)?;
        }
    }
    for workload in QUEUED {
        bench.queue(workload, sizes.depth, sizes.turnover)?;
    }
    for bytes in &sizes.backlog {
        bench.backlog(*bytes)?;
    }
    bench.progress.finish_and_clear();
    bench.judge();
    Ok(())
}

/// A verdict with its case, told at the end.
type Judged = (Target, Value, f64);
/// What each store made of a case, the spool first.
type Outcomes = Vec<(StoreKind, Outcome)>;

struct Bench<'a> {
    launcher: Launcher,
    scratch: PathBuf,
    progress: ProgressBar,
    sheet: &'a mut Sheet,
    verdicts: Vec<Judged>,
}

impl Bench<'_> {
    /// What a reader of the figures should know.
    fn about(&mut self, options: &Options) {
        let device = meter::device_of(&self.scratch);
        let case = json!({
            "place": options.dir.as_deref().unwrap_or(Path::new("beside the program")).display().to_string(),
            "device": if device.is_some() { "block device, all writers" } else { "not identifiable" },
            "open": if drop_caches() { "cold: page cache dropped" } else { "warm: not root" },
        });
        let beside = json!({"sqlite": "WAL, synchronous=FULL", "redb": "immediate", "sled": "flush + fdatasync",
            "spool": "sync of the group, index as the product has it"});
        self.sheet.add(NAME, case, "durable commits, bytes", GROUPS[0] as f64, "B", beside);
    }

    fn one(&self, store: StoreKind, workload: Workload, group_bytes: u64, job: Job) -> Result<Outcome> {
        self.progress.set_message(format!("{} {}: {job:?}", store.as_str(), workload.told()));
        let dir = self.store_dir(store);
        let outcome = self.launcher.run(&Task { store, workload, dir, job, group_bytes });
        self.progress.inc(1);
        outcome
    }

    fn store_dir(&self, store: StoreKind) -> PathBuf {
        self.scratch.join(store.as_str())
    }

    fn clean(&self, store: StoreKind) -> Result<()> {
        let dir = self.store_dir(store);
        if dir.exists() {
            std::fs::remove_dir_all(&dir).with_context(|| format!("failed to clear {}", dir.display()))?;
        }
        Ok(())
    }

    /// The same job by all stores, each cleared away after it.
    fn all(&self, workload: Workload, group: u64, job: Job) -> Result<Outcomes> {
        let one = |store| {
            let outcome = self.one(store, workload, group, job)?;
            self.clean(store)?;
            Ok((store, outcome))
        };
        StoreKind::ALL.into_iter().map(one).collect()
    }

    /// A figure of the spool with the others beside it.
    fn tell(
        &mut self,
        case: &Value,
        metric: &'static str,
        unit: &'static str,
        outcomes: &Outcomes,
        figure: impl Fn(&Report) -> Option<f64>,
    ) {
        let ours = outcomes.iter().find(|(store, _)| *store == StoreKind::Spool);
        let Some(value) = ours.and_then(|(_, outcome)| outcome.report()).and_then(&figure) else { return };
        let rivals = outcomes.iter().filter(|(store, _)| *store != StoreKind::Spool);
        let beside: Map<String, Value> =
            rivals.map(|(store, outcome)| (store.as_str().to_owned(), outcome.shown(&figure))).collect();
        self.sheet.add(NAME, case.clone(), metric, value, unit, beside.into());
    }

    fn append(&mut self, workload: Workload, group: u64, sizes: &Sizes) -> Result<()> {
        let bytes = sizes.append(workload, group);
        // Once is enough for what is left, and reading back takes rivals long.
        let drain = group == GROUPS[0];
        let mut outcomes = self.all(workload, group, Job::Append { bytes, drain })?;
        for _ in 1..sizes.passes {
            let again = self.all(workload, group, Job::Append { bytes, drain: false })?;
            let pairs = outcomes.into_iter().zip(again);
            outcomes = pairs.map(|((store, best), (_, next))| (store, best.better(next))).collect();
        }
        let case = json!({"what": workload.told(), "commit": size::shown(group), "bytes": size::shown(bytes),
            "best_of": sizes.passes});
        self.tell(&case, "append + sync", "MB/s", &outcomes, |r| Some(r.spent.mb_per_s()));
        if workload == Workload::Records {
            let rate = |r: &Report| Some(r.spent.mb_per_s() * 1e6 / RECORD_BYTES as f64);
            self.tell(&case, "append + sync, records", "1/s", &outcomes, rate);
        }
        self.tell(&case, "CPU", "s/GB", &outcomes, |r| Some(r.spent.cpu_s_per_gb()));
        self.tell_writes(&case, &outcomes);
        self.tell(&case, "RSS at most", "MiB", &outcomes, |r| Some(r.rss_peak_bytes as f64 / MIB));
        self.tell_drain(&case, &outcomes);
        self.judge_append(workload, group, &case, &outcomes);
        Ok(())
    }

    fn tell_writes(&mut self, case: &Value, outcomes: &Outcomes) {
        let device = |r: &Report| r.spent.device_ratio();
        self.tell(case, "block device bytes per payload byte", "x", outcomes, device);
        let flushes = |r: &Report| r.spent.flushes_per_commit();
        self.tell(case, "block device flushes per commit", "", outcomes, flushes);
        let others = |r: &Report| Some(r.spent.background_bytes_per_s? as f64 / 1e6);
        self.tell(case, "block device, others before", "MB/s", outcomes, others);
        let io = |r: &Report| Some(r.spent.io_ratio());
        self.tell(case, "process write_bytes per payload byte", "x", outcomes, io);
    }

    fn tell_drain(&mut self, case: &Value, outcomes: &Outcomes) {
        let rate = |r: &Report| r.drain.map(|drain| drain.mb_per_s());
        self.tell(case, "drain: read + delete", "MB/s", outcomes, rate);
        let left = |r: &Report| Some(r.drained_bytes? as f64 / 1e6);
        self.tell(case, "disk after full drain", "MB", outcomes, left);
    }

    fn judge_append(&mut self, workload: Workload, group: u64, case: &Value, outcomes: &Outcomes) {
        let report = |kind| {
            outcomes.iter().find(|(store, _)| *store == kind).and_then(|(_, outcome)| outcome.report())
        };
        let Some(ours) = report(StoreKind::Spool) else { return };
        if group >= WRITES_GROUP_BYTES_MIN {
            // Where no device can be told, the process's own account stands in.
            let ratio = ours.spent.device_ratio().unwrap_or(ours.spent.io_ratio());
            self.verdicts.push((WRITES, case.clone(), ratio));
        }
        if let Some(segments) = ours.drained_segments {
            self.verdicts.push((DRAINED, case.clone(), segments as f64));
        }
        let rates = StoreKind::RIVALS.into_iter().filter_map(report).map(|r| r.spent.mb_per_s());
        let fastest = rates.fold(f64::NAN, f64::max);
        if workload != Workload::Records {
            self.verdicts.push((FASTEST, case.clone(), ours.spent.mb_per_s() / fastest));
        }
    }

    fn queue(&mut self, workload: Workload, depth: u64, turnover: u64) -> Result<()> {
        let outcomes = self.all(workload, GROUPS[0], Job::Fifo { depth, turnover })?;
        let case = json!({"what": format!("queue of {}", workload.told()), "depth": size::shown(depth),
            "turnover": size::shown(turnover)});
        self.tell(&case, "append + delete oldest", "MB/s", &outcomes, |r| Some(r.spent.mb_per_s()));
        self.tell_writes(&case, &outcomes);
        let peak = |r: &Report| Some(r.disk_peak_bytes as f64 / 1e6);
        self.tell(&case, "disk at most", "MB", &outcomes, peak);
        self.tell_drain(&case, &outcomes);
        self.tell(&case, "RSS at most", "MiB", &outcomes, |r| Some(r.rss_peak_bytes as f64 / MIB));
        if let Some(segments) = outcomes.iter().find_map(|(_, o)| o.report()?.drained_segments) {
            self.verdicts.push((DRAINED, case, segments as f64));
        }
        Ok(())
    }

    /// Fills, kills, opens; and for the spool opens once more without its index.
    fn backlog(&mut self, bytes: u64) -> Result<()> {
        let (mut filled, mut opened, mut lost) = (Outcomes::new(), Outcomes::new(), Outcomes::new());
        for store in StoreKind::ALL {
            let (workload, group) = (Workload::Slabs, GROUPS[0]);
            let fill = self.one(store, workload, group, Job::Fill { bytes })?;
            let there = fill.report().is_some();
            let open = |why: &Outcome| match why {
                Outcome::Done(_) => {
                    drop_caches();
                    self.one(store, workload, group, Job::Open)
                }
                other => {
                    self.progress.inc(1);
                    Ok(other.clone())
                }
            };
            opened.push((store, open(&fill)?));
            if store == StoreKind::Spool && there {
                std::fs::remove_dir_all(self.store_dir(store).join("idx"))?;
                lost.push((store, open(&fill)?));
            }
            filled.push((store, fill));
            self.clean(store)?;
        }
        let case = json!({"what": "slabs of 64 KiB", "backlog": size::shown(bytes)});
        self.tell_backlog(&case, &filled, &opened, &lost);
        Ok(())
    }

    fn tell_backlog(&mut self, case: &Value, filled: &Outcomes, opened: &Outcomes, lost: &Outcomes) {
        let memory = |r: &Report| Some(r.rss_peak_bytes as f64 / MIB);
        let anon = |r: &Report| Some(r.rss_anon_bytes as f64 / MIB);
        self.tell(case, "fill", "MB/s", filled, |r| Some(r.spent.mb_per_s()));
        self.tell(case, "CPU of the fill", "s/GB", filled, |r| Some(r.spent.cpu_s_per_gb()));
        self.tell(case, "disk", "MB", filled, |r| Some(r.disk_bytes as f64 / 1e6));
        self.tell(case, "RSS at most, filling", "MiB", filled, memory);
        self.tell(case, "RSS without files, filled", "MiB", filled, anon);
        self.tell(case, "open after kill -9", "s", opened, |r| r.open_s);
        self.tell(case, "… until the oldest is read", "s", opened, |r| r.first_read_s);
        self.tell(case, "RSS at most, opened", "MiB", opened, memory);
        self.tell(case, "RSS without files, opened", "MiB", opened, anon);
        self.tell(case, "open after kill -9, index lost", "s", lost, |r| r.open_s);
        self.tell(case, "RSS at most, opened, index lost", "MiB", lost, memory);
        let ours = |outcomes: &Outcomes| outcomes.first().and_then(|(_, outcome)| outcome.report().cloned());
        let (Some(filled), Some(opened), Some(lost)) = (ours(filled), ours(opened), ours(lost)) else {
            return;
        };
        let most = filled.rss_peak_bytes.max(opened.rss_peak_bytes).max(lost.rss_peak_bytes);
        self.verdicts.push((MEMORY, case.clone(), most as f64 / MIB));
        for (target, report) in [(OPEN, opened), (OPEN_LOST, lost)] {
            self.verdicts.push((target, case.clone(), report.open_s.unwrap_or(f64::NAN)));
        }
    }

    fn judge(&mut self) {
        for (target, case, value) in std::mem::take(&mut self.verdicts) {
            self.sheet.add(NAME, case, target.what, value, target.unit, target.beside(value));
        }
    }
}

/// Empties the page cache, so that opening finds nothing in memory; false unless root may do that here.
fn drop_caches() -> bool {
    let synced = std::process::Command::new("sync").status().is_ok_and(|status| status.success());
    synced
        && std::fs::OpenOptions::new().write(true).open("/proc/sys/vm/drop_caches").is_ok_and(|mut file| {
            use std::io::Write as _;
            file.write_all(b"3").is_ok()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_groups_are_judged_for_device_writes_and_hold_whole_pieces() {
        assert!(GROUPS.iter().all(|group| *group >= WRITES_GROUP_BYTES_MIN));
        for workload in Workload::ALL {
            let piece = workload.piece_bytes() as u64;
            assert_eq!(GROUPS[1].div_ceil(piece), if workload == Workload::Images { 1 } else { 3 });
        }
    }

    #[test]
    fn quick_is_small_and_named_backlogs_win() {
        let options = |quick, backlog: &[u64]| Options { dir: None, backlog: backlog.to_vec(), quick };
        let sizes = Sizes::of(&options(true, &[]));
        assert!(sizes.append <= 16 << 20 && sizes.backlog.iter().all(|bytes| *bytes <= 32 << 20));
        assert_eq!(Sizes::of(&options(false, &[])).backlog, [1_000_000_000, 10_000_000_000]);
        assert_eq!(Sizes::of(&options(true, &[7])).backlog, [7]);
    }
}

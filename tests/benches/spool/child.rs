//! The measuring child: one store, one job, one line of JSON, so that memory and CPU are nobody else's.

use super::meter::{Meter, disk_bytes, memory_bytes};
use super::store::{Store, open};
use super::task::{Job, Report, Spent, StoreKind, Task};
use anyhow::{Context, Result, ensure};
use headwater_tests::ticks::now;
use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

/// The word that makes this binary a measuring child.
pub(super) const WORD: &str = "--spool-child";

/// Does a child's work if the command line asks for it.
pub(crate) fn dispatch() -> Option<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    if args.next()? != WORD {
        return None;
    }
    // A run that is ended must not leave a child that fills the disk.
    let told = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    if let Err(error) = told {
        eprintln!("measuring child will not notice the end of its run: {error}");
    }
    Some(match args.next().context("no task").and_then(answer) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    })
}

fn answer(task: OsString) -> Result<()> {
    let task = task.into_string().ok().context("the task is no text")?;
    let task: Task = serde_json::from_str(&task).context("the task is not understood")?;
    let report = match task.job {
        Job::Append { bytes, drain } => append(&task, bytes, drain)?,
        Job::Fifo { depth, turnover } => fifo(&task, depth, turnover)?,
        Job::Fill { bytes } => fill(&task, bytes)?,
        Job::Open => reopen(&task)?,
    };
    say(&report)
}

fn say(report: &Report) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(report)?)?;
    Ok(out.flush()?)
}

/// A store with its group that grows until it is committed.
struct Queue<'a> {
    task: &'a Task,
    store: Box<dyn Store>,
    group: u64,
    bytes: u64,
    commits: u64,
}

impl<'a> Queue<'a> {
    fn open(task: &'a Task) -> Result<Self> {
        Ok(Self { task, store: open(task)?, group: 0, bytes: 0, commits: 0 })
    }

    /// Counts a piece; true if the group is full.
    fn count(&mut self) -> bool {
        self.bytes += self.task.workload.piece_bytes() as u64;
        self.group += self.task.workload.piece_bytes() as u64;
        self.group >= self.task.group_bytes
    }

    fn commit(&mut self) -> Result<()> {
        if std::mem::take(&mut self.group) > 0 {
            self.store.commit()?;
            self.commits += 1;
        }
        Ok(())
    }

    fn fill(&mut self, bytes: u64) -> Result<()> {
        while self.bytes < bytes {
            self.store.append()?;
            if self.count() {
                self.commit()?;
            }
        }
        self.commit()
    }

    fn restart_count(&mut self) {
        (self.bytes, self.commits) = (0, 0);
    }
}

/// Memory and room at the end of a stretch of work.
fn report(task: &Task, spent: Spent, disk_peak: u64) -> Result<Report> {
    let (rss_peak_bytes, rss_anon_bytes) = memory_bytes()?;
    let disk_bytes = disk_bytes(&task.dir);
    Ok(Report {
        spent,
        rss_peak_bytes,
        rss_anon_bytes,
        disk_bytes,
        disk_peak_bytes: disk_peak.max(disk_bytes),
        ..Report::default()
    })
}

fn append(task: &Task, bytes: u64, drain: bool) -> Result<Report> {
    let mut queue = Queue::open(task)?;
    let meter = Meter::start(&task.dir)?;
    queue.fill(bytes)?;
    let spent = meter.stop(queue.bytes, queue.commits)?;
    let report = report(task, spent, 0)?;
    if drain { drained(queue, report) } else { Ok(report) }
}

/// Reads and deletes everything, in groups, and closes the store.
fn drained(mut queue: Queue<'_>, report: Report) -> Result<Report> {
    queue.restart_count();
    let meter = Meter::start(&queue.task.dir)?;
    while let Some(bytes) = queue.store.read_next()? {
        ensure!(bytes == queue.task.workload.piece_bytes() as u64, "a piece of {bytes} bytes was read");
        queue.store.delete_oldest()?;
        if queue.count() {
            queue.commit()?;
        }
    }
    queue.commit()?;
    let spent = meter.stop(queue.bytes, queue.commits)?;
    let segments = queue.store.segments();
    let dir = queue.task.dir.clone();
    // Closed, so that each store could tidy up.
    drop(queue);
    Ok(Report {
        drain: Some(spent),
        drained_bytes: Some(disk_bytes(&dir)),
        drained_segments: segments,
        ..report
    })
}

fn fifo(task: &Task, depth: u64, turnover: u64) -> Result<Report> {
    let mut queue = Queue::open(task)?;
    queue.fill(depth)?;
    queue.restart_count();
    let mut disk_peak = disk_bytes(&task.dir);
    let meter = Meter::start(&task.dir)?;
    while queue.bytes < turnover {
        queue.store.append()?;
        queue.store.delete_oldest()?;
        if queue.count() {
            queue.commit()?;
            disk_peak = disk_peak.max(disk_bytes(&task.dir));
        }
    }
    queue.commit()?;
    let spent = meter.stop(queue.bytes, queue.commits)?;
    let report = report(task, spent, disk_peak)?;
    // What is left is deleted unread: reading was measured elsewhere.
    for _ in 0..depth.div_ceil(task.workload.piece_bytes() as u64) {
        queue.store.delete_oldest()?;
        if queue.count() {
            queue.commit()?;
        }
    }
    queue.commit()?;
    let segments = queue.store.segments();
    drop(queue);
    Ok(Report { drained_bytes: Some(disk_bytes(&task.dir)), drained_segments: segments, ..report })
}

/// Never ends by itself: the parent reads the line and kills.
fn fill(task: &Task, bytes: u64) -> Result<Report> {
    let mut queue = Queue::open(task)?;
    let meter = Meter::start(&task.dir)?;
    queue.fill(bytes)?;
    let spent = meter.stop(queue.bytes, queue.commits)?;
    // A group under way, which the kill tears.
    queue.store.append()?;
    say(&report(task, spent, 0)?)?;
    loop {
        std::thread::sleep(Duration::from_secs(60));
    }
}

fn reopen(task: &Task) -> Result<Report> {
    let start = now();
    let mut store = open(task)?;
    let open_s = start.elapsed().as_secs_f64();
    let bytes = store.read_next()?.context("the backlog is gone")?;
    let first_read_s = start.elapsed().as_secs_f64() - open_s;
    ensure!(bytes == task.workload.piece_bytes() as u64, "the oldest piece has {bytes} bytes");
    let found = report(task, Spent::default(), 0)?;
    if task.store != StoreKind::Spool {
        // Nothing is measured any more; closing a large store could take minutes.
        std::mem::forget(store);
    }
    Ok(Report { open_s: Some(open_s), first_read_s: Some(first_read_s), ..found })
}

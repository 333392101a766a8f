//! The demo's second gateway: it has no battery, wakes in 1970, and hears the right time later. Its rows are shown beside what
//! a stamper by wall clock would have written.

use crate::console::Console;
use crate::report::utc;
use anyhow::{Context, Result};
use headwater_core::time::UtcNanos;
use headwater_lake::Lake;
use headwater_tests::clockless::{CLOCKLESS, FalseClock, WITNESS_LATENCY_MS, Witnessed};
use headwater_tests::procs::Proc;
use headwater_tests::status::AgentStatus;
use headwater_tests::ticks::{now, wait_until};
use headwater_tests::truth::Table;
use headwater_tests::world::{World, role_args};
use serde_json::json;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long its wall clock is false.
const FALSE_FOR: Duration = Duration::from_secs(12);
/// Longest wait until its last row is committed.
const DRAIN_LIMIT: Duration = Duration::from_secs(60);
/// Longest orderly stop.
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// Rows shown.
const SHOWN: usize = 8;

/// The gateway, running.
#[derive(Debug)]
pub(crate) struct Clockless {
    world: World,
    agent: Proc,
    clock: FalseClock,
    /// When its wall clock is put right; none once it was.
    false_until: Option<Instant>,
}

impl Clockless {
    /// Starts it; none without a compiler to make its wall clock false with.
    pub(crate) fn start(world: &World, program: &Path, console: &Console) -> Result<Option<Self>> {
        let clock = match FalseClock::of_1970(&world.path("clockless")) {
            Ok(clock) => clock,
            Err(error) => {
                console.say(&format!("  {CLOCKLESS}    left out: its clock cannot be made ({error})"));
                return Ok(None);
            }
        };
        let config = world.write_clockless(program)?;
        let args = role_args("agent", "run", &config);
        let log = world.path("logs/clockless.log");
        let agent = Proc::new("clockless", program.to_owned(), args, log).in_own_group();
        let mut agent =
            clock.environment().into_iter().fold(agent, |agent, (key, value)| agent.with_env(key, value));
        agent.start().context("failed to start the gateway of 1970")?;
        console.say(&format!(
            "  {CLOCKLESS}    a second gateway without a battery: its wall clock wakes in 1970, right after {} s",
            FALSE_FOR.as_secs()
        ));
        let false_until = Some(now() + FALSE_FOR);
        Ok(Some(Self { world: world.clone(), agent, clock, false_until }))
    }

    /// Puts its wall clock right once it is time. An error with its last words if it ended by itself.
    pub(crate) fn check(&mut self) -> Result<()> {
        if self.false_until.is_some_and(|until| now() >= until) {
            self.clock.put_right().context("failed to put the clock of 1970 right")?;
            self.false_until = None;
        }
        Ok(self.agent.check()?)
    }

    /// Silences its source, waits until every row is acknowledged, and stops it; `false` if that did not come about.
    pub(crate) fn finish(&mut self) -> Result<bool> {
        std::fs::write(self.world.path("clockless.stop"), "")?;
        let status = self.world.path("clockless/status.json");
        let mut trouble = Ok(());
        let drained = wait_until(DRAIN_LIMIT, || {
            trouble = self.agent.check();
            trouble.is_err() || AgentStatus::read(&status).is_some_and(|status| status.is_drained())
        });
        trouble?;
        self.agent.stop(STOP_LIMIT)?;
        Ok(drained)
    }
}

/// What the lake has of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Testimony {
    rows: Vec<Witnessed>,
    grades: Vec<String>,
    aligned: Vec<Aligned>,
}

/// A row of `aligned.wake`.
#[derive(Debug, Clone, Copy)]
struct Aligned {
    /// The witness' own row.
    witnessed: Witnessed,
    /// What time it was at the beat before it; none if none was near.
    beat: Option<UtcNanos>,
}

impl Testimony {
    pub(crate) async fn read(location: &str) -> Result<Self> {
        let lake = Lake::open(location).await?;
        let commit = lake.resolve("main").await?;
        let Some(table) = Table::read(&lake, &commit, "raw.witness").await? else {
            return Ok(Self::default());
        };
        let column = |name: &str| table.integers(name);
        let (seq, ts, err) = (column("seq")?, column("ts_ns")?, column("ts_err_ns")?);
        let (wall, truth, grades) = (column("wall_ns")?, column("true_ns")?, table.texts("grade")?);
        let (stamp, seen) = (column("boot_ns")?, column("seen_b_ns")?);
        let row = |at: usize| {
            let witnessed = Witnessed {
                seq: seq[at]?,
                ts: UtcNanos(ts[at]?),
                err_ns: err[at]?,
                wall: UtcNanos(wall[at]?),
                truth: UtcNanos(truth[at]?),
                delay_ns: stamp[at]?.saturating_sub(seen[at]?),
            };
            Some((witnessed, grades[at].clone()?))
        };
        let mut rows: Vec<(Witnessed, String)> = (0..seq.len()).filter_map(row).collect();
        rows.sort_by_key(|(row, _)| row.seq);
        let (rows, grades): (Vec<Witnessed>, Vec<String>) = rows.into_iter().unzip();
        let aligned = match Table::read(&lake, &commit, "aligned.wake").await? {
            Some(table) => aligned(&table, &rows)?,
            None => Vec::new(),
        };
        Ok(Self { rows, grades, aligned })
    }

    fn aligned_on_time(&self) -> impl Iterator<Item = &Aligned> {
        self.aligned.iter().filter(|row| row.witnessed.is_on_time())
    }

    fn on_time(&self) -> impl Iterator<Item = &Witnessed> {
        self.rows.iter().filter(|row| row.is_on_time())
    }

    /// True if it has rows of 1970, and every row that came within its declared latency holds the truth within its bound;
    /// and so have its aligned ones.
    pub(crate) fn is_right(&self) -> bool {
        let aligned = || self.aligned_on_time().map(|row| &row.witnessed);
        self.on_time().any(Witnessed::is_of_1970)
            && self.on_time().all(Witnessed::is_within)
            && aligned().any(Witnessed::is_of_1970)
            && aligned().all(Witnessed::is_within)
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        json!({
            "rows": self.rows.len(),
            "rows_of_1970": self.rows.iter().filter(|row| row.is_of_1970()).count(),
            "rows_on_time": self.on_time().count(),
            "rows_within_bound": self.on_time().filter(|row| row.is_within()).count(),
            "off_ns_max": self.on_time().map(|row| row.off_ns().saturating_abs()).max(),
            "bound_ns_max": self.on_time().map(|row| row.err_ns).max(),
            "aligned_rows": self.aligned.len(),
            "aligned_rows_within_bound": self.aligned_on_time().filter(|row| row.witnessed.is_within()).count(),
        })
    }

    pub(crate) fn print(&self) {
        println!("\n{CLOCKLESS} woke in 1970; its wall clock was right {} s later:", FALSE_FOR.as_secs());
        println!(
            "  {:>4}  {:<24} {:>11} {:>10}  {:<14} its wall clock",
            "seq", "resolved, UTC", "bound", "off", "grade"
        );
        let step = self.rows.len().div_ceil(SHOWN).max(1);
        let shown = self.rows.iter().zip(&self.grades).step_by(step);
        for (row, grade) in shown.filter(|(row, _)| row.is_on_time()) {
            println!(
                "  {:>4}  {:<24} {:>8.1} ms {:>+7.1} ms  {grade:<14} {}",
                row.seq,
                utc(row.ts.0),
                ms(row.err_ns),
                ms(row.off_ns()),
                utc(row.wall.0)
            );
        }
        let (all, on_time) = (self.rows.len(), self.on_time().count());
        let within = self.on_time().filter(|row| row.is_within()).count();
        let false_rows = self.rows.iter().filter(|row| row.is_of_1970()).count();
        println!(
            "  {within} of {on_time} rows hold the true time within their bound; a stamper by wall clock had put {false_rows} \
             into 1970"
        );
        let (all_aligned, right) = (
            self.aligned_on_time().count(),
            self.aligned_on_time().filter(|row| row.witnessed.is_within()).count(),
        );
        println!(
            "\n  aligned with the beat before each (aligned.wake): {right} of {all_aligned} rows hold the true time"
        );
        println!(
            "  {:>4}  {:<24} {:>11} {:>10}  the beat, by true time",
            "seq", "resolved, UTC", "bound", "off"
        );
        let step = self.aligned.len().div_ceil(SHOWN).max(1);
        for row in self.aligned.iter().step_by(step).filter(|row| row.witnessed.is_on_time()) {
            let Aligned { witnessed, beat } = row;
            let beat = beat.map_or_else(
                || "none near".to_owned(),
                |beat| format!("{:.1} ms before", ms(witnessed.truth.since(beat))),
            );
            println!(
                "  {:>4}  {:<24} {:>8.1} ms {:>+7.1} ms  {beat}",
                witnessed.seq,
                utc(witnessed.ts.0),
                ms(witnessed.err_ns),
                ms(witnessed.off_ns()),
            );
        }
        if on_time < all {
            println!(
                "  {} more were not at the agent within the {WITNESS_LATENCY_MS} ms their source declares: this machine was busy",
                all - on_time
            );
        }
    }
}

/// Rows of the table, each with the witness' row it was made from.
fn aligned(table: &Table, rows: &[Witnessed]) -> Result<Vec<Aligned>> {
    let (ts, err) = (table.integers("ts_ns")?, table.integers("ts_err_ns")?);
    let (truth, beat) = (table.integers("true_ns")?, table.integers("beat_true_ns")?);
    let mut found: Vec<Aligned> = (0..ts.len())
        .filter_map(|at| {
            let truth = UtcNanos(truth[at]?);
            let raw = rows.iter().find(|row| row.truth == truth)?;
            let witnessed = Witnessed { ts: UtcNanos(ts[at]?), err_ns: err[at]?, ..*raw };
            Some(Aligned { witnessed, beat: beat[at].map(UtcNanos) })
        })
        .collect();
    found.sort_by_key(|row| row.witnessed.seq);
    Ok(found)
}

fn ms(ns: i64) -> f64 {
    ns as f64 / 1e6
}

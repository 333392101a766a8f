//! `cargo measure world`: as many simulated worlds as asked for, and how much simulated time a second buys.

use crate::figure::Sheet;
use anyhow::{Result, ensure};
use clap::Args;
use headwater_tests::simulated::{Plan, Scale, Soak, happen, report};
use headwater_tests::ticks::now;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use std::time::Duration;

/// Worlds of a run without `--seeds`.
const SEEDS: u64 = 10_000;
const SEEDS_OF_WEEKS: u64 = 20;

/// Which worlds.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Options {
    /// `world`: how many worlds (default: 10000, or 20 of weeks). `time`: how many device-days (default: 1200).
    #[arg(long, value_name = "N")]
    pub(crate) seeds: Option<u64>,
    /// `world`, `time`: the first seed.
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub(crate) from: u64,
    /// `world`: worlds of weeks, most of them without a link, instead of minutes.
    #[arg(long)]
    weeks: bool,
    /// `world`: tell what happens in each, with the log of its agents and its collector (`RUST_LOG`).
    #[arg(long)]
    trace: bool,
}

pub(crate) fn measure(options: Options, sheet: &mut Sheet) -> Result<()> {
    let scale = if options.weeks { Scale::Weeks } else { Scale::Minutes };
    let seeds = options.seeds.unwrap_or(if options.weeks { SEEDS_OF_WEEKS } else { SEEDS });
    if options.trace {
        return trace(options.from, seeds, scale);
    }
    let progress = ProgressBar::new(seeds);
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} worlds, {per_sec}, {eta} left")?;
    progress.set_style(style);
    progress.enable_steady_tick(Duration::from_secs(1));
    let soak = Soak { from: options.from, seeds, scale, mutant: None };
    let began = now();
    let tally = soak.run(|done| {
        progress.set_position(done);
        true
    });
    let took_s = began.elapsed().as_secs_f64().max(1e-9);
    progress.finish_and_clear();
    for failure in &tally.failures {
        eprintln!("{}", report(failure, scale));
    }
    let hours = tally.lasted_ms as f64 / 3_600_000.0;
    let case = json!({"worlds": tally.worlds, "from": options.from, "weeks": options.weeks});
    let beside = json!({
        "simulated hours": hours, "s": took_s, "messages": tally.messages, "rows captured": tally.captured,
        "rows evicted": tally.evicted, "commits": tally.commits, "longest s after the last fault": tally.settled_ms_max / 1_000,
        "% of what may be sent": tally.fullest, "failed": tally.failures.len(),
    });
    sheet.add("world", case.clone(), "worlds a second", tally.worlds as f64 / took_s, "1/s", beside);
    sheet.add("world", case, "time of a simulated hour", 1_000.0 * took_s / hours.max(1e-9), "ms", json!({}));
    if !tally.failures.is_empty() {
        sheet.print();
    }
    ensure!(
        tally.failures.is_empty(),
        "{} of {} worlds failed; see above",
        tally.failures.len(),
        tally.worlds
    );
    Ok(())
}

fn trace(from: u64, seeds: u64, scale: Scale) -> Result<()> {
    let mut failed = 0_u64;
    // What the agents and the collector have to say, in the order of the world.
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    let log = tracing_subscriber::fmt().without_time().with_ansi(false).with_env_filter(filter);
    log.with_writer(std::io::stderr).init();
    for seed in (from..).take(usize::try_from(seeds).unwrap_or(usize::MAX)) {
        let plan = Plan::of(seed, scale);
        eprintln!("{plan}");
        let outcome = happen(&plan, None, true);
        eprintln!("{outcome:#?}");
        failed += u64::from(!outcome.violations.is_empty());
    }
    ensure!(failed == 0, "{failed} worlds failed; see above");
    Ok(())
}

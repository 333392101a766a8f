//! `cargo measure time`: simulated clocks whose truth is known, and what is said of them: coverage, bounds, errors and
//! violations, beside a wall clock as it is, and beside bounds from the past alone; then how fast it is said.

mod amended;
mod fleet;
mod speed;
mod tally;

use crate::figure::Sheet;
use anyhow::{Result, ensure};
use fleet::Mix;
use headwater_core::time::track::Params;
use headwater_sim::clocks::SimulatedDevice;
use headwater_sim::clocks::judge::judge;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use std::time::Duration;
use tally::Tally;

pub(super) const NAME: &str = "time";
/// Device-days of a run without `--seeds`.
const SEEDS: u64 = 1_200;
/// A question each 61 s: no multiple of any source's beat.
const STEP_NS: i64 = 61_000_000_000;

pub(crate) fn measure(seeds: Option<u64>, from: u64, sheet: &mut Sheet) -> Result<()> {
    let seeds = seeds.unwrap_or(SEEDS).max(1);
    let mixes = fleet::mixes();
    let of_mix = seeds.div_ceil(mixes.len() as u64);
    let progress = ProgressBar::new(of_mix * mixes.len() as u64);
    progress.set_style(ProgressStyle::with_template("{bar:30} {pos}/{len} device-days, {eta} left: {msg}")?);
    progress.enable_steady_tick(Duration::from_secs(1));
    let mut false_promises = 0;
    let mut uncovered = 0;
    for mix in &mixes {
        progress.set_message(mix.name);
        let tally = days(mix, from..from + of_mix, &progress);
        false_promises += tally.false_promises();
        uncovered += tally.uncovered();
        tally.print(mix, of_mix, sheet);
    }
    progress.finish_and_clear();
    amended::measure(of_mix.min(20), from, sheet);
    speed::measure(sheet)?;
    let case = json!({"device-days": of_mix * mixes.len() as u64, "from": from});
    let beside = json!({"target": 0, "questions without an interval": uncovered});
    sheet.add(NAME, case, "guaranteed within f, and false", false_promises as f64, "1", beside);
    ensure!(false_promises == 0, "{false_promises} guaranteed intervals within f miss the truth");
    ensure!(uncovered == 0, "{uncovered} questions got no interval");
    Ok(())
}

fn days(mix: &Mix, seeds: std::ops::Range<u64>, progress: &ProgressBar) -> Tally {
    let params = Params { f: mix.f, ..Params::default() };
    let mut tally = Tally::default();
    for seed in seeds {
        judge(&SimulatedDevice::new(seed, &mix.plan), &params, STEP_NS, |judged| tally.add(&judged));
        progress.inc(1);
    }
    tally
}

//! Our decoding of GPS receivers' logs beside gpsd's own: sentences by the agent, frames by the shims.
//!
//! A folder holds `NAME.log` and `NAME.log.chk`, as gpsd's `test/daemon` does. Values are matched by time, not by line:
//! gpsd repeats a report and merges the sentences of an epoch. Not compared: its estimates of error, what it models or
//! works out itself (geoid, magnetic variation, `xdop`, `ydop`), device and status.

mod compare;
mod ours;
mod truth;

use crate::figure::Sheet;
use anyhow::{Context, Result, ensure};
use compare::{Excuse, Score, compare};
use serde_json::json;
use std::path::{Path, PathBuf};
use truth::Truth;

const NAME: &str = "gps";
/// Least share of compared values that are equal, percent.
const EQUAL_PERCENT_MIN: f64 = 99.5;
/// Differences that are printed of each log.
const SHOWN_MAX: usize = 5;

/// Differences with a reason.
const EXCUSES: &[Excuse] = &[
    ("ac12_binary.log", "lat", ROUNDED),
    ("ac12_binary.log", "lon", ROUNDED),
    ("hemi.log", "speed", MOVED),
    ("tcp-test.log", "lat", ROUNDED),
    ("tcp-test.log", "lon", ROUNDED),
    ("udp-test.log", "lat", ROUNDED),
    ("udp-test.log", "lon", ROUNDED),
    ("ublox-8-time.log", "gdop", BEFORE),
    ("ublox-8-time.log", "pdop", BEFORE),
    ("ublox-8-time.log", "tdop", BEFORE),
    ("ublox-8-time.log", "vdop", BEFORE),
    ("ublox-8-time.log", "hdop", BEFORE),
];
const ROUNDED: &str = "gpsd keeps the epoch's last position, of RMC, which has a digit less than that of GGA";
const MOVED: &str = "gpsd reports before the epoch's VTG, with a speed of its own from two positions";
const BEFORE: &str =
    "gpsd reports satellites before the epoch's NAV-DOP: its dilutions are those of the epoch before";

pub(crate) fn measure(data: &Path, sheet: &mut Sheet) -> Result<()> {
    let mut logs: Vec<PathBuf> = std::fs::read_dir(data)
        .with_context(|| format!("no folder of logs at {}: name one by --data", data.display()))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|ext| ext == "log"))
        .collect();
    logs.sort();
    let mut total = Score::default();
    let mut measured = 0_u64;
    for path in &logs {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Ok(reports) = std::fs::read(path.with_extension("log.chk")) else { continue };
        measured += 1;
        let ours = ours::decode(&std::fs::read(path)?);
        let score = compare(&name, &ours, &Truth::read(&String::from_utf8_lossy(&reports)), EXCUSES);
        tell(&name, &ours, &score, sheet);
        total.add(&score);
    }
    ensure!(measured > 0, "{} holds no pair of .log and .log.chk", data.display());
    let percent = 100.0 * total.equal as f64 / (total.compared.max(1)) as f64;
    let beside = json!({
        "logs": measured, "compared": total.compared, "differ": total.differ.len(),
        "explained": total.explained.values().sum::<u64>(), "unmatched": total.alone, "rolled_over": total.rolled, "target": EQUAL_PERCENT_MIN,
    });
    sheet.add(NAME, json!({"log": "all"}), "values_equal", percent, "%", beside);
    for (why, count) in &total.explained {
        sheet.add(NAME, json!({"why": why}), "values_explained", *count as f64, "1", json!({}));
    }
    ensure!(
        percent >= EQUAL_PERCENT_MIN,
        "{percent:.2} % of the values are gpsd's, wanted {EQUAL_PERCENT_MIN} %"
    );
    ensure!(total.differ.is_empty(), "{} values differ without a reason", total.differ.len());
    Ok(())
}

fn tell(name: &str, ours: &ours::Ours, score: &Score, sheet: &mut Sheet) {
    for (field, place, ours, theirs) in score.differ.iter().take(SHOWN_MAX) {
        eprintln!("{name}: {field} at {place:?} is {ours}, gpsd's {theirs:?}");
    }
    let beside = json!({
        "compared": score.compared, "differ": score.differ.len(),
        "explained": score.explained.values().sum::<u64>(),
        "unmatched": score.alone, "rolled_over": score.rolled,
        "sentences": ours.sentences, "sentences_damaged": ours.sentences_damaged, "fixes": ours.fixes,
        "proprietary": ours.proprietary, "frames": ours.frames.frames, "frame_errors": ours.frames.errors(),
        "messages": ours.messages,
    });
    sheet.add(NAME, json!({"log": name}), "values_equal", score.equal as f64, "1", beside);
}

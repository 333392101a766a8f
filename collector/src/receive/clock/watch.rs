//! Asks this host every 16 s who keeps its clock and how well, and says so when that changes.

use super::chrony::{
    CONFIG_FILES, CONFIG_FOLDERS, MAX_CLOCK_ERROR_PPM_DEFAULT, Tracking, max_clock_error_ppm,
};
use super::host::{OwnClock, QualitySource, Word};
use super::kernel_word;
use crate::telemetry;
use headwater_core::ports::Clock;
use std::path::PathBuf;
use std::process::Stdio;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

/// Between two askings, ms: chrony's own shortest poll of a server.
const ASK_EVERY_MS: u64 = 16_000;
/// How long chronyc may take, ms; it answers in a few.
const ANSWER_MS: u64 = 2_000;

/// Asks until cancelled.
pub async fn run<C: Clock>(source: QualitySource, alarm_ns: i64, clock: C, cancel: CancellationToken) {
    loop {
        let due = clock.boot().plus_ms(ASK_EVERY_MS);
        tokio::select! {
            () = cancel.cancelled() => return,
            () = clock.sleep_until(due) => {}
        }
        ask(&source, alarm_ns, &clock, false).await;
    }
}

/// Asks once; `anew` says what it is even if nothing changed.
pub async fn ask<C: Clock>(source: &QualitySource, alarm_ns: i64, clock: &C, anew: bool) {
    let word = match chrony(clock).await {
        Some(word) => word,
        None => Word::Kernel(kernel_word()),
    };
    let (own, before) = source.heard(&word, clock.read());
    let differs = |a: &OwnClock, b: &OwnClock| {
        (a.grade, a.synchronised, a.source, a.bound_ns > alarm_ns)
            != (b.grade, b.synchronised, b.source, b.bound_ns > alarm_ns)
    };
    telemetry::own_clock(&own, alarm_ns, anew || differs(&own, &before));
}

/// What chrony says, if it is there and answers.
async fn chrony<C: Clock>(clock: &C) -> Option<Word> {
    let mut command = Command::new("chronyc");
    command.args(["-c", "tracking"]).stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let output = tokio::select! {
        output = command.output() => output.ok()?,
        () = clock.sleep_until(clock.boot().plus_ms(ANSWER_MS)) => return None,
    };
    let line = String::from_utf8(output.stdout).ok().filter(|_| output.status.success())?;
    Some(Word::Chrony(Tracking::parse(&line)?, max_clock_error()))
}

/// The setting as the files say; those that cannot be read say nothing.
fn max_clock_error() -> f64 {
    let in_folder = |folder: &&str| {
        let entries = std::fs::read_dir(folder).into_iter().flatten();
        let mut files: Vec<PathBuf> =
            entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
        files.sort();
        files
    };
    let fragments = CONFIG_FOLDERS.iter().flat_map(in_folder);
    let files = CONFIG_FILES.iter().map(PathBuf::from).chain(fragments);
    let mut said = files.filter_map(|file| max_clock_error_ppm(&std::fs::read_to_string(file).ok()?));
    said.next_back().unwrap_or(MAX_CLOCK_ERROR_PPM_DEFAULT)
}

//! `[commit]`: when a group of rows closes; `[lake.compact]`: what is done beside commits.

use super::read::{Mistakes, Section};
use crate::ingest::{CLOCK_WAIT_MS, CompactSettings, GROUP_BYTES_MAX, GROUP_ROWS_MAX};
use headwater_lake::CompactPolicy;

/// Default of `commit.interval_ms` for a lake on disk.
const COMMIT_INTERVAL_MS: u64 = 10_000;
/// The same for a lake in an object store, where every request of a commit is paid for.
const COMMIT_INTERVAL_BUCKET_MS: u64 = 30_000;

/// `[commit]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitSettings {
    /// `commit.interval_ms`: longest a row waits for its commit.
    pub interval_ms: u64,
    /// `commit.bytes`: landed bytes that close a group before that.
    pub bytes: usize,
    /// `commit.rows`: rows that do.
    pub rows: usize,
    /// `commit.clock_wait_ms`: how long rows of a boot without any clock wait for one.
    pub clock_wait_ms: u64,
}

impl Default for CommitSettings {
    fn default() -> Self {
        Self {
            interval_ms: COMMIT_INTERVAL_MS,
            bytes: GROUP_BYTES_MAX,
            rows: GROUP_ROWS_MAX,
            clock_wait_ms: CLOCK_WAIT_MS,
        }
    }
}

fn size(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

pub(super) fn read_commit(root: &mut Section, in_bucket: bool, mistakes: &mut Mistakes) -> CommitSettings {
    let mut settings = CommitSettings::default();
    if in_bucket {
        settings.interval_ms = COMMIT_INTERVAL_BUCKET_MS;
    }
    let Some(mut table) = root.section("commit", mistakes) else { return settings };
    if let Some(ms) = table.number("interval_ms", 100..=3_600_000, "milliseconds", mistakes) {
        settings.interval_ms = ms;
    }
    // Decoded rows take some eight times their landed bytes, so more than this is more than a host should spare.
    if let Some(bytes) = table.number("bytes", 65_536..=1_073_741_824, "bytes", mistakes) {
        settings.bytes = size(bytes);
    }
    if let Some(rows) = table.number("rows", 1_000..=50_000_000, "rows", mistakes) {
        settings.rows = size(rows);
    }
    if let Some(ms) = table.number("clock_wait_ms", 0..=3_600_000, "milliseconds", mistakes) {
        settings.clock_wait_ms = ms;
    }
    table.finish(mistakes);
    settings
}

pub(super) fn read_compact(lake: &mut Section, mistakes: &mut Mistakes) -> CompactSettings {
    let mut settings = CompactSettings::default();
    let Some(mut table) = lake.section("compact", mistakes) else { return settings };
    if let Some(enabled) = table.flag("enabled", mistakes) {
        settings.enabled = enabled;
    }
    if let Some(correct) = table.flag("correct", mistakes) {
        settings.correct = correct;
    }
    let policy = &mut settings.policy;
    let inputs_max = i64::try_from(CompactPolicy::default().inputs_max).unwrap_or(i64::MAX);
    if let Some(files) = table.number("fan_in", 2..=inputs_max, "files", mistakes) {
        policy.fan_in = size(files);
    }
    if let Some(mib) = table.number("full_mib", 1..=1_024, "MiB", mistakes) {
        policy.full_bytes = mib << 20;
    }
    if let Some(mib) = table.number("round_mib", 16..=1_048_576, "MiB", mistakes) {
        policy.round_bytes_max = mib << 20;
    }
    if let Some(s) = table.number("close_after_s", 0..=2_592_000, "seconds", mistakes) {
        policy.close_after_us = i64::try_from(s).unwrap_or(i64::MAX).saturating_mul(1_000_000);
    }
    if let Some(commits) = table.number("every_commits", 1..=100_000, "commits", mistakes) {
        settings.every_commits = u32::try_from(commits).unwrap_or(u32::MAX);
    }
    table.finish(mistakes);
    settings
}

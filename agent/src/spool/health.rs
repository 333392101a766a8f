//! How the disk is: which degraded modes the spool is in, and since when. Pure; each mode is left by itself.

use headwater_core::ports::SpoolError;
use std::collections::VecDeque;
use std::fmt;
use std::io::ErrorKind;
use std::time::Duration;

/// A way in which the spool works worse than it should. Capture goes on in all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DegradedMode {
    /// The budget or the disk is full and nothing of less worth is left to evict.
    DiskFull,
    /// The file system is mounted read-only, as a kernel does after errors.
    ReadOnly,
    /// The disk fails.
    IoErrors,
    /// Syncs take so long that the card is likely worn out.
    SlowCard,
}

impl DegradedMode {
    /// All modes.
    pub const ALL: [Self; 4] = [Self::DiskFull, Self::ReadOnly, Self::IoErrors, Self::SlowCard];

    /// Name in the status.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DiskFull => "disk_full",
            Self::ReadOnly => "read_only",
            Self::IoErrors => "io_errors",
            Self::SlowCard => "slow_card",
        }
    }

    fn of(error: &SpoolError) -> Option<Self> {
        match error {
            SpoolError::Full { .. } => Some(Self::DiskFull),
            SpoolError::Io { source, .. } if source.kind() == ErrorKind::ReadOnlyFilesystem => {
                Some(Self::ReadOnly)
            }
            SpoolError::Io { .. } => Some(Self::IoErrors),
            _ => None,
        }
    }
}

impl fmt::Display for DegradedMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Syncs that the percentiles are of: about a minute at the default interval.
const SYNCS_KEPT: usize = 64;
/// Syncs without which a percentile says nothing.
const SYNCS_MIN: usize = 8;
/// 99th percentile of a sync above which a card counts as failing: sound ones stay below 200 ms, and capture's queue
/// holds eight seconds.
const SLOW_SYNC: Duration = Duration::from_secs(2);
/// A mode of refusals is left after this long without one: appends come seldom on some gateways, and a mode should
/// be seen by a person who looks once.
const CALM: Duration = Duration::from_secs(10);

/// What the spool's thread has seen of its disk. Time is the time since it started.
#[derive(Debug, Clone, Default)]
pub struct Health {
    syncs: VecDeque<Duration>,
    entered: [Option<Duration>; 4],
    seen: [Duration; 4],
    failed: u64,
}

/// How the disk is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HealthReport {
    /// Modes the spool is in, and for how long.
    pub degraded: Vec<(DegradedMode, Duration)>,
    /// Median of the last syncs.
    pub sync_p50: Duration,
    /// 99th percentile of the last syncs.
    pub sync_p99: Duration,
    /// Syncs and appends that failed since the start.
    pub failures: u64,
}

impl Health {
    /// A sync with something to do succeeded after `took`: the disk takes and keeps what is written.
    pub fn synced(&mut self, now: Duration, took: Duration) {
        if self.syncs.len() >= SYNCS_KEPT {
            self.syncs.pop_front();
        }
        self.syncs.push_back(took);
        self.leave(DegradedMode::ReadOnly);
        self.leave(DegradedMode::IoErrors);
        let p99 = self.percentile(99);
        if self.syncs.len() >= SYNCS_MIN && p99 >= SLOW_SYNC {
            self.enter(DegradedMode::SlowCard, now);
        } else if p99 < SLOW_SYNC / 2 {
            self.leave(DegradedMode::SlowCard);
        }
    }

    /// Something was refused.
    pub fn failed(&mut self, now: Duration, error: &SpoolError) {
        if let Some(mode) = DegradedMode::of(error) {
            self.failed = self.failed.saturating_add(1);
            self.enter(mode, now);
        }
    }

    /// Something was taken, and refusals lie behind us.
    pub fn took(&mut self, now: Duration) {
        let full = slot(DegradedMode::DiskFull);
        if self.seen.get(full).is_some_and(|seen| now.saturating_sub(*seen) >= CALM) {
            self.leave(DegradedMode::DiskFull);
        }
    }

    /// How it is now.
    #[must_use]
    pub fn report(&self, now: Duration) -> HealthReport {
        let since = |mode: DegradedMode| {
            let entered = self.entered.get(slot(mode)).copied().flatten()?;
            Some((mode, now.saturating_sub(entered)))
        };
        HealthReport {
            degraded: DegradedMode::ALL.into_iter().filter_map(since).collect(),
            sync_p50: self.percentile(50),
            sync_p99: self.percentile(99),
            failures: self.failed,
        }
    }

    fn percentile(&self, percent: usize) -> Duration {
        let mut sorted: Vec<Duration> = self.syncs.iter().copied().collect();
        sorted.sort_unstable();
        let at = sorted.len().saturating_mul(percent) / 100;
        sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
    }

    fn enter(&mut self, mode: DegradedMode, now: Duration) {
        if let Some(seen) = self.seen.get_mut(slot(mode)) {
            *seen = now;
        }
        if let Some(entered) = self.entered.get_mut(slot(mode)).filter(|entered| entered.is_none()) {
            *entered = Some(now);
            tracing::error!(mode = mode.as_str(), "spool is degraded; capture goes on");
        }
    }

    fn leave(&mut self, mode: DegradedMode) {
        if let Some(entered) = self.entered.get_mut(slot(mode))
            && entered.take().is_some()
        {
            tracing::warn!(mode = mode.as_str(), "spool is not degraded any more");
        }
    }
}

fn slot(mode: DegradedMode) -> usize {
    DegradedMode::ALL.into_iter().position(|known| known == mode).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    fn at(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    fn io(kind: ErrorKind) -> SpoolError {
        SpoolError::Io { what: "sync", source: kind.into() }
    }

    fn modes(health: &Health) -> Vec<DegradedMode> {
        health.report(at(100)).degraded.into_iter().map(|(mode, _)| mode).collect()
    }

    #[test]
    fn errors_are_told_apart_and_a_sync_ends_them() {
        let mut health = Health::default();
        health.failed(at(1), &io(ErrorKind::ReadOnlyFilesystem));
        health.failed(at(2), &io(ErrorKind::ReadOnlyFilesystem));
        assert_eq!(health.report(at(5)).degraded, [(DegradedMode::ReadOnly, at(4))]);
        health.failed(at(2), &SpoolError::Io { what: "sync", source: io::Error::from_raw_os_error(5) });
        assert_eq!(modes(&health), [DegradedMode::ReadOnly, DegradedMode::IoErrors]);
        health.failed(at(2), &SpoolError::Unknown(headwater_core::id::StreamId(1)));
        assert_eq!(health.report(at(5)).failures, 3, "a mistake of ours says nothing of the disk");
        health.synced(at(6), Duration::from_millis(20));
        assert_eq!(modes(&health), []);
    }

    #[test]
    fn full_is_left_when_nothing_was_refused_for_a_while() {
        let mut health = Health::default();
        health.failed(at(1), &SpoolError::Full { used: 1, budget: 1 });
        health.took(at(5));
        assert_eq!(modes(&health), [DegradedMode::DiskFull]);
        health.took(at(11));
        assert_eq!(modes(&health), []);
    }

    #[test]
    fn a_card_is_slow_by_its_worst_syncs_and_recovers() {
        let mut health = Health::default();
        (0..7).for_each(|n| health.synced(at(n), at(3)));
        assert_eq!(modes(&health), [], "too few to say");
        health.synced(at(8), at(3));
        assert_eq!(modes(&health), [DegradedMode::SlowCard]);
        assert_eq!(health.report(at(9)).sync_p50, at(3));
        (0..80).for_each(|n| health.synced(at(10 + n), Duration::from_millis(30)));
        assert_eq!(modes(&health), []);
    }
}

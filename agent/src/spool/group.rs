//! When to sync: one `fdatasync` for many slabs, within the loss window that was promised.

use headwater_core::ports::SpoolLane;
use std::time::Duration;

/// The loss window of lanes telemetry and media: whichever bound is reached first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyncPolicy {
    /// Longest a slab waits for its sync. Each sync costs about 25 KiB of device writes.
    pub interval: Duration,
    /// Bytes after which a sync is due at once.
    pub bytes: u64,
}

/// What waits for a sync. Time is the time since the thread started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupCommit {
    policy: SyncPolicy,
    due_at: Option<Duration>,
    bytes: u64,
}

impl GroupCommit {
    /// Nothing waits.
    #[must_use]
    pub fn new(policy: SyncPolicy) -> Self {
        Self { policy, due_at: None, bytes: 0 }
    }

    /// A slab was written. Those of lane `control` are due at once, and take the others along.
    pub fn appended(&mut self, now: Duration, lane: SpoolLane, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
        let urgent = lane == SpoolLane::Control || self.bytes >= self.policy.bytes;
        let at = if urgent { now } else { now.saturating_add(self.policy.interval) };
        self.due_at = Some(self.due_at.map_or(at, |due| due.min(at)));
    }

    /// When the next sync is due, if anything waits for one.
    #[must_use]
    pub fn due_at(&self) -> Option<Duration> {
        self.due_at
    }

    /// True if the sync should happen now.
    #[must_use]
    pub fn is_due(&self, now: Duration) -> bool {
        self.due_at.is_some_and(|due| due <= now)
    }

    /// Everything is durable.
    pub fn synced(&mut self) {
        *self = Self::new(self.policy);
    }

    /// The sync failed: what waits goes on waiting, and is tried again after one interval, so that a
    /// dead disk is not hammered.
    pub fn failed(&mut self, now: Duration) {
        self.due_at = Some(now.saturating_add(self.policy.interval.max(RETRY_MIN)));
    }
}

/// Shortest pause after a failed sync, whatever the interval.
const RETRY_MIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: SyncPolicy = SyncPolicy { interval: Duration::from_millis(1000), bytes: 1000 };

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn the_oldest_slab_sets_the_deadline() {
        let mut group = GroupCommit::new(POLICY);
        assert_eq!(group.due_at(), None);
        group.appended(at(5), SpoolLane::Telemetry, 10);
        group.appended(at(900), SpoolLane::Media, 10);
        assert!(!group.is_due(at(1004)));
        assert!(group.is_due(at(1005)));
        group.synced();
        assert!(!group.is_due(at(9999)));
    }

    #[test]
    fn bytes_and_lane_control_do_not_wait() {
        let mut group = GroupCommit::new(POLICY);
        group.appended(at(0), SpoolLane::Telemetry, 600);
        assert!(!group.is_due(at(1)));
        group.appended(at(1), SpoolLane::Telemetry, 400);
        assert!(group.is_due(at(1)));
        group.synced();
        group.appended(at(2), SpoolLane::Telemetry, 1);
        group.appended(at(3), SpoolLane::Control, 1);
        assert_eq!(group.due_at(), Some(at(3)));
    }

    #[test]
    fn a_failed_sync_is_tried_again_later_and_not_before() {
        let mut group = GroupCommit::new(POLICY);
        group.appended(at(0), SpoolLane::Control, 1);
        group.failed(at(10));
        assert!(!group.is_due(at(1009)));
        assert!(group.is_due(at(1010)));
    }
}

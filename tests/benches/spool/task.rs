//! What a measuring child is asked for, and what it answers: one line of JSON each way.

use super::workload::Workload;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A store that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StoreKind {
    /// The agent's spool.
    Spool,
    /// SQLite in WAL mode, synchronous=FULL.
    Sqlite,
    /// redb, immediate durability.
    Redb,
    /// sled, flush and fdatasync.
    Sled,
}

impl StoreKind {
    pub(super) const ALL: [Self; 4] = [Self::Spool, Self::Sqlite, Self::Redb, Self::Sled];
    pub(super) const RIVALS: [Self; 3] = [Self::Sqlite, Self::Redb, Self::Sled];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Spool => "spool",
            Self::Sqlite => "sqlite",
            Self::Redb => "redb",
            Self::Sled => "sled",
        }
    }
}

/// What to do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Job {
    /// Append `bytes`; then, if so asked, read and delete everything.
    Append { bytes: u64, drain: bool },
    /// Fill to `depth`, then append one and delete the oldest until `turnover` bytes went through; then drain.
    Fifo { depth: u64, turnover: u64 },
    /// Fill with `bytes`, leave something unsynced, say so and wait to be killed.
    Fill { bytes: u64 },
    /// Open what a killed process left, and read the oldest.
    Open,
}

/// One child's work.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Task {
    pub(super) store: StoreKind,
    pub(super) workload: Workload,
    pub(super) dir: PathBuf,
    pub(super) job: Job,
    /// Payload bytes of one durable commit.
    pub(super) group_bytes: u64,
}

/// What a stretch of work took.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Spent {
    pub(crate) payload_bytes: u64,
    pub(crate) commits: u64,
    /// Until the last commit returned.
    pub(crate) wall_s: f64,
    pub(crate) cpu_s: f64,
    /// `write_bytes` of the process, once everything is written back.
    pub(crate) io_bytes: u64,
    /// Sectors that the block device took meanwhile, from anyone.
    pub(crate) device_bytes: Option<u64>,
    /// Times it was told to flush its cache, which is what a sync waits for.
    pub(crate) device_flushes: Option<u64>,
    /// What the device took per second before, with this process idle.
    pub(crate) background_bytes_per_s: Option<u64>,
}

impl Spent {
    /// Of two passes over the same work the better of each figure: what else the machine does only adds.
    pub(super) fn better(self, other: Self) -> Self {
        Self {
            wall_s: self.wall_s.min(other.wall_s),
            cpu_s: self.cpu_s.min(other.cpu_s),
            io_bytes: self.io_bytes.min(other.io_bytes),
            device_bytes: self.device_bytes.min(other.device_bytes),
            device_flushes: self.device_flushes.min(other.device_flushes),
            ..self
        }
    }

    pub(super) fn mb_per_s(&self) -> f64 {
        self.payload_bytes as f64 / 1e6 / self.wall_s.max(1e-9)
    }

    pub(super) fn cpu_s_per_gb(&self) -> f64 {
        self.cpu_s * 1e9 / self.payload_bytes.max(1) as f64
    }

    pub(super) fn flushes_per_commit(&self) -> Option<f64> {
        self.device_flushes.map(|flushes| flushes as f64 / self.commits.max(1) as f64)
    }

    pub(super) fn io_ratio(&self) -> f64 {
        self.io_bytes as f64 / self.payload_bytes.max(1) as f64
    }

    pub(super) fn device_ratio(&self) -> Option<f64> {
        self.device_bytes.map(|bytes| bytes as f64 / self.payload_bytes.max(1) as f64)
    }
}

/// What a child found.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Report {
    /// Appending, or the turnover of a queue.
    pub(super) spent: Spent,
    /// Reading and deleting everything.
    pub(super) drain: Option<Spent>,
    /// Greatest resident memory up to the end of `spent`, program text included.
    pub(super) rss_peak_bytes: u64,
    /// Resident memory that is no file's, at that time.
    pub(super) rss_anon_bytes: u64,
    /// Bytes on disk at the end of `spent`, and at most until then.
    pub(super) disk_bytes: u64,
    pub(super) disk_peak_bytes: u64,
    /// Bytes on disk after the drain, closed.
    pub(super) drained_bytes: Option<u64>,
    /// Segment files after the drain.
    pub(super) drained_segments: Option<u64>,
    pub(super) open_s: Option<f64>,
    /// From there until the oldest was read.
    pub(super) first_read_s: Option<f64>,
}

impl Report {
    /// Of two passes the better times and counts of bytes, and the greater memory and room.
    pub(super) fn better(self, other: &Self) -> Self {
        Self {
            spent: self.spent.better(other.spent),
            drain: self.drain.or(other.drain),
            rss_peak_bytes: self.rss_peak_bytes.max(other.rss_peak_bytes),
            rss_anon_bytes: self.rss_anon_bytes.max(other.rss_anon_bytes),
            disk_bytes: self.disk_bytes.max(other.disk_bytes),
            disk_peak_bytes: self.disk_peak_bytes.max(other.disk_peak_bytes),
            drained_bytes: self.drained_bytes.or(other.drained_bytes),
            drained_segments: self.drained_segments.or(other.drained_segments),
            open_s: self.open_s.or(other.open_s),
            first_read_s: self.first_read_s.or(other.first_read_s),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_and_reports_survive_their_line() {
        let task = Task {
            store: StoreKind::Redb,
            workload: Workload::Images,
            dir: "/x y".into(),
            job: Job::Fifo { depth: 1, turnover: 2 },
            group_bytes: 3,
        };
        let line = serde_json::to_string(&task).unwrap();
        let back: Task = serde_json::from_str(&line).unwrap();
        assert_eq!((back.store, back.job, back.dir), (task.store, task.job, task.dir));
        let report = Report { open_s: Some(0.25), ..Report::default() };
        let line = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&line).unwrap(), report);
    }

    #[test]
    fn of_two_passes_the_better_figures_and_the_greater_memory_count() {
        let spent = |wall_s, cpu_s, device| Spent {
            wall_s,
            cpu_s,
            device_bytes: Some(device),
            payload_bytes: 10,
            ..Spent::default()
        };
        let first = Report { spent: spent(1.0, 4.0, 30), rss_peak_bytes: 5, ..Report::default() };
        let second = Report {
            spent: spent(2.0, 3.0, 20),
            rss_peak_bytes: 9,
            drained_segments: Some(1),
            ..Report::default()
        };
        let both = first.better(&second);
        assert_eq!(both.spent, spent(1.0, 3.0, 20));
        assert_eq!((both.rss_peak_bytes, both.drained_segments), (9, Some(1)));
    }

    #[test]
    fn ratios_are_per_payload_byte() {
        let spent = Spent { payload_bytes: 2_000_000, wall_s: 0.5, cpu_s: 0.01, ..Spent::default() };
        assert!((spent.mb_per_s() - 4.0).abs() < 1e-9);
        assert!((spent.cpu_s_per_gb() - 5.0).abs() < 1e-9);
        assert_eq!(spent.device_ratio(), None);
    }
}

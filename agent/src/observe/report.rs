//! What sources of time tell the observer.

use super::chrony::Tracking;
use crate::stamp::track::TimeSource;
use headwater_core::time::{BootNanos, UtcNanos};

/// Something a source said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// chronyd answered.
    Chrony {
        /// What.
        tracking: Tracking,
        /// When it was asked: its answer may be as old.
        asked: BootNanos,
        /// It is configured to bound its own clock.
        guaranteed: bool,
    },
    /// A pulse per second.
    Pulse {
        /// Whose, such as `/dev/pps0`.
        from: String,
        /// What the wall clock showed then.
        wall: UtcNanos,
        /// Its second, if the source knows it.
        utc: Option<UtcNanos>,
    },
    /// A GPS receiver's sentences named a time that had come when they did.
    Sentence {
        /// Whose: a stream, or gpsd's device.
        from: String,
        /// When they arrived.
        at: Arrival,
        /// The time.
        utc: UtcNanos,
    },
    /// A hardware clock was read.
    Hardware {
        /// Its name.
        from: String,
        /// The wall clock before.
        before: UtcNanos,
        /// What it showed.
        shown: UtcNanos,
        /// The wall clock after.
        after: UtcNanos,
        /// It counts TAI.
        tai: bool,
    },
    /// A source was asked and said nothing of use.
    Silent {
        /// Which.
        source: TimeSource,
        /// Why, for a person.
        why: String,
        /// The configuration names it: its silence is worth a word though it never spoke.
        wanted: bool,
    },
    /// Something of a source cannot be used.
    Refused {
        /// Which.
        source: TimeSource,
        /// Why, for a person.
        why: String,
    },
}

/// When something arrived, by the clock that whoever saw it reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// Boot time.
    Boot(BootNanos),
    /// The wall clock.
    Wall(UtcNanos),
}

//! One device's side of the pool.

use headwater_core::time::BootNanos;
use headwater_core::wire::{Sent, WaitReason};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Queue {
    Small,
    Large,
}

/// What came of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// There is news for the device.
    Granted,
    /// It needs nothing, or has to wait for its quota.
    Passed,
    /// The pool has no room; the head stays the head.
    NoRoom,
}

/// What one device of one epoch was granted since its hello.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) granted: u64,
    pub(super) received: u64,
    pub(super) written_off: u64,
    /// The device's largest message, bytes.
    pub(super) message_max: u64,
    /// Its largest message since the hello, bytes.
    pub(super) largest: u64,
    /// How far ahead it is granted when nobody waits.
    pub(super) window: u64,
    pub(super) granted_at: BootNanos,
    pub(super) reviewed_at: BootNanos,
    pub(super) received_then: u64,
    /// Send time of the newest message counted (what the broker brings again counts once), or of the hello.
    pub(super) newest: Sent,
    pub(super) small: bool,
    pub(super) large: bool,
    pub(super) over: Option<WaitReason>,
    pub(super) told_at: Option<BootNanos>,
}

impl Account {
    pub(super) fn charged(&self) -> u64 {
        self.granted.saturating_sub(self.received.max(self.written_off))
    }

    /// What the device itself has left.
    pub(super) fn left(&self) -> u64 {
        self.granted.saturating_sub(self.received)
    }

    pub(super) fn waits(&self) -> bool {
        (self.large || self.over.is_some()) && self.left() < self.message_max
    }
}

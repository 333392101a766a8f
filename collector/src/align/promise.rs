//! A stream's promise, what tells a column complete before its next sample is there.

use headwater_core::id::{BootOrdinal, Seq};
use headwater_core::time::BootNanos;

/// A stream's word that every sample with event time before `promise_b` has a seq below `next_seq`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Promise {
    /// Boot of the promise.
    pub boot: BootOrdinal,
    /// Next seq to be given.
    pub next_seq: Seq,
    /// Before when nothing more comes.
    pub promise_b: BootNanos,
}

impl Promise {
    /// True if this one says more than `other`.
    #[must_use]
    pub fn is_after(&self, other: &Promise) -> bool {
        (self.boot, self.promise_b, self.next_seq) > (other.boot, other.promise_b, other.next_seq)
    }
}

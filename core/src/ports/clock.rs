//! The one clock: it tells time and waits for it.

use crate::time::{BootNanos, ClockReading};
use std::future::Future;

/// Tells and waits for time. Nobody else reads a clock.
pub trait Clock: Clone + Send + Sync + 'static {
    /// `CLOCK_BOOTTIME` now. Never goes back within a boot; counts through suspend.
    fn boot(&self) -> BootNanos;

    /// One bracketed read of boot time and UTC. UTC is evidence, never truth: it may step at any time
    /// and a step does not move [`Clock::boot`].
    fn read(&self) -> ClockReading;

    /// Completes at or after `at`. Dropping the future costs nothing.
    fn sleep_until(&self, at: BootNanos) -> impl Future<Output = ()> + Send;
}

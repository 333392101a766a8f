//! The one place of this package that reads a clock: players keep a pace, waits have an end.

use std::time::{Duration, Instant};

/// Now, on the monotonic clock.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "players and waits of real processes live in real time")]
pub fn now() -> Instant {
    Instant::now()
}

/// Waits, in a task: for players that live in real time.
#[expect(clippy::disallowed_methods, reason = "players and waits of real processes live in real time")]
pub async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}

/// Seconds since 1970.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "certificates are issued for the present")]
pub fn unix_seconds() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Nanoseconds since 1970.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "latency is measured against the wall clock that stamps")]
pub fn unix_nanos() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// An instant on the boot line and in UTC: when a player did something, for whoever judges times later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// Nanoseconds since the host woke.
    pub boot_ns: i64,
    /// Nanoseconds since 1970.
    pub utc_ns: i64,
}

impl Moment {
    /// Now, asked of the kernel itself, past any library that stands before it.
    #[must_use]
    pub fn now() -> Self {
        use rustix::time::{ClockId, clock_gettime};
        let ns = |id| {
            let at = clock_gettime(id);
            at.tv_sec.saturating_mul(1_000_000_000).saturating_add(at.tv_nsec)
        };
        Self { boot_ns: ns(ClockId::Boottime), utc_ns: ns(ClockId::Realtime) }
    }
}

/// A steady beat that never drifts: the n-th tick is due n periods after the start.
#[derive(Debug)]
pub struct Pace {
    start: Instant,
    period: Duration,
    n: u32,
}

impl Pace {
    /// Starts now.
    #[must_use]
    pub fn new(period: Duration) -> Self {
        Self { start: now(), period, n: 0 }
    }

    /// Blocks until the next tick is due; ticks missed are caught up at once.
    pub fn tick(&mut self) {
        let due = self.start + self.period * self.n;
        self.n += 1;
        if let Some(wait) = due.checked_duration_since(now()) {
            std::thread::sleep(wait);
        }
    }
}

/// Asks `done` every 50 ms until it says so or `limit` has passed; `false` if it never did.
pub fn wait_until(limit: Duration, mut done: impl FnMut() -> bool) -> bool {
    let end = now() + limit;
    loop {
        if done() {
            return true;
        }
        if now() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

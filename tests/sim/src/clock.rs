//! A clock that tests turn by hand: boot time follows tokio's paused time, UTC is moved apart from it.
//!
//! Under `#[tokio::test(start_paused = true)]` an hour of boot time costs nothing, and a step of UTC
//! shows that nobody took it for truth.

use headwater_core::ports::Clock;
use headwater_core::time::{BootNanos, ClockReading, UtcNanos};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// A simulated gateway's clocks. Clones share one time.
#[derive(Debug, Clone)]
pub struct SimClock {
    started: Instant,
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Boot time when the clock was made, ns.
    boot_ns: AtomicI64,
    /// UTC − boot time, ns.
    offset: Mutex<i64>,
    /// Half the width of a bracketed read, ns.
    bracket_ns: AtomicI64,
}

impl SimClock {
    /// A clock that shows `boot` and `utc` now. Must be made inside a tokio runtime.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the fake clock stands on tokio's paused time")]
    pub fn new(boot: BootNanos, utc: UtcNanos) -> Self {
        Self {
            started: Instant::now(),
            inner: Arc::new(Inner {
                boot_ns: AtomicI64::new(boot.0),
                offset: Mutex::new(utc.0.saturating_sub(boot.0)),
                bracket_ns: AtomicI64::new(100),
            }),
        }
    }

    /// A gateway 10 s after power-on in November 2023.
    #[must_use]
    pub fn start() -> Self {
        Self::new(BootNanos(10_000_000_000), UtcNanos(1_700_000_000_000_000_000))
    }

    /// Moves UTC by `ns` (back if negative); boot time stays.
    pub fn step_utc(&self, ns: i64) {
        let mut offset = self.inner.offset.lock().unwrap_or_else(PoisonError::into_inner);
        *offset = offset.saturating_add(ns);
    }

    /// Makes UTC show `utc` now; boot time stays.
    pub fn set_utc(&self, utc: UtcNanos) {
        let boot = self.boot();
        *self.inner.offset.lock().unwrap_or_else(PoisonError::into_inner) = utc.0.saturating_sub(boot.0);
    }

    /// UTC now, as [`Clock::read`] shows it.
    #[must_use]
    pub fn utc(&self) -> UtcNanos {
        let offset = *self.inner.offset.lock().unwrap_or_else(PoisonError::into_inner);
        UtcNanos(self.boot().0.saturating_add(offset))
    }

    /// Suspends: boot time and UTC go on by `ns` at once.
    pub fn suspend(&self, ns: i64) {
        self.inner.boot_ns.fetch_add(ns.max(0), Ordering::SeqCst);
    }

    /// Sets half the width of a bracketed read, ns.
    pub fn set_bracket_ns(&self, ns: i64) {
        self.inner.bracket_ns.store(ns.max(0), Ordering::SeqCst);
    }
}

impl Clock for SimClock {
    #[expect(clippy::disallowed_methods, reason = "the fake clock stands on tokio's paused time")]
    fn boot(&self) -> BootNanos {
        let elapsed = Instant::now().saturating_duration_since(self.started).as_nanos();
        let elapsed = i64::try_from(elapsed).unwrap_or(i64::MAX);
        BootNanos(self.inner.boot_ns.load(Ordering::SeqCst).saturating_add(elapsed))
    }

    fn read(&self) -> ClockReading {
        let (boot, bracket) = (self.boot(), self.inner.bracket_ns.load(Ordering::SeqCst));
        ClockReading {
            b1: boot,
            real: self.utc().plus_ns(bracket),
            b2: boot.plus_ns(bracket * 2),
            raw_ns: boot.0,
        }
    }

    #[expect(clippy::disallowed_methods, reason = "the fake clock stands on tokio's paused time")]
    async fn sleep_until(&self, at: BootNanos) {
        loop {
            let left = at.since(self.boot());
            let Ok(left) = u64::try_from(left) else { return };
            if left == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_nanos(left)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_step_of_utc_does_not_move_boot_time() {
        let clock = SimClock::start();
        let before = clock.read();
        clock.step_utc(-3_600_000_000_000);
        let after = clock.read();
        assert_eq!(before.b1, after.b1);
        assert_eq!(after.real.since(before.real), -3_600_000_000_000);
        assert!(after.b1 <= after.b2);
    }

    #[tokio::test(start_paused = true)]
    async fn wakes_at_or_after_the_time_asked_for_and_at_once_for_the_past() {
        let clock = SimClock::start();
        let at = clock.boot().plus_ms(3_600_000);
        clock.sleep_until(at).await;
        assert!(clock.boot() >= at);
        clock.sleep_until(BootNanos(0)).await;
    }
}

//! How long to wait before a source is tried again.

use headwater_core::time::BootNanos;

/// First wait, ms: a replugged cable is back soon.
const FIRST_MS: u64 = 250;
/// Longest wait, ms: a port that was away for a day is found within this.
const LONGEST_MS: u64 = 10_000;
/// Working for this long makes the next failure a first one again, ns.
const STEADY_NS: i64 = 10_000_000_000;

/// Doubles from 250 ms to 10 s.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    tries: u32,
    up_since: Option<BootNanos>,
}

impl Backoff {
    /// It works since `now`.
    pub(super) fn up(&mut self, now: BootNanos) {
        self.up_since = Some(now);
    }

    /// It failed; gives how long to wait, ms, and how often it failed in a row.
    pub(super) fn failed(&mut self, now: BootNanos) -> (u64, u32) {
        if self.up_since.take().is_some_and(|since| now.since(since) >= STEADY_NS) {
            self.tries = 0;
        }
        let wait = FIRST_MS.saturating_mul(1 << self.tries.min(6)).min(LONGEST_MS);
        self.tries = self.tries.saturating_add(1);
        (wait, self.tries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_and_starts_over_after_it_worked() {
        let mut backoff = Backoff::default();
        let waits: Vec<u64> = (0..8).map(|_| backoff.failed(BootNanos(0)).0).collect();
        assert_eq!(waits, [250, 500, 1000, 2000, 4000, 8000, 10_000, 10_000]);
        backoff.up(BootNanos(0));
        assert_eq!(backoff.failed(BootNanos(1)).0, 10_000, "a short while is no recovery");
        backoff.up(BootNanos(0));
        assert_eq!(backoff.failed(BootNanos(STEADY_NS)), (250, 1));
    }
}

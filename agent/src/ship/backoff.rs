//! Spreads reconnects in time, so that a fleet does not come back at once after an outage.

use headwater_core::time::{BootNanos, NS_PER_S};

/// Longest wait between two tries.
const WAIT_NS_MAX: i64 = 300 * NS_PER_S;
/// Ceiling of the first wait.
const WAIT_NS_START: i64 = NS_PER_S;
/// Least wait after a refusal that will not mend itself (credentials, taken over): two gateways with
/// one identity must not fight every second.
const WAIT_NS_LASTING: i64 = 60 * NS_PER_S;
/// A session this old counts as healthy and forgets earlier failures.
const HEALTHY_NS: i64 = 60 * NS_PER_S;

/// A small seeded generator (SplitMix64): spreads times, guards nothing.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// Starts from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in 0..=`max`; 0 for a negative one.
    pub fn up_to(&mut self, max: i64) -> i64 {
        let Ok(bound) = u64::try_from(max) else { return 0 };
        i64::try_from(self.next_u64() % bound.saturating_add(1)).unwrap_or(0)
    }
}

/// Full jitter: wait rand(0, min(300 s, 1 s × 2^n)) after the n-th failure in a row.
#[derive(Debug)]
pub struct Backoff {
    rng: Rng,
    failures: u32,
    connected_at: Option<BootNanos>,
}

impl Backoff {
    /// Without failures yet.
    #[must_use]
    pub fn new(rng: Rng) -> Self {
        Self { rng, failures: 0, connected_at: None }
    }

    /// A connection stands.
    pub fn connected(&mut self, now: BootNanos) {
        self.connected_at = Some(now);
    }

    /// It is over, or did not come about: when to try again. `transient` false = trying soon cannot help.
    pub fn retry_at(&mut self, now: BootNanos, transient: bool) -> BootNanos {
        if self.connected_at.take().is_some_and(|at| now.since(at) >= HEALTHY_NS) {
            self.failures = 0;
        }
        let ceiling = WAIT_NS_START
            .checked_shl(self.failures.min(30))
            .map_or(WAIT_NS_MAX, |wait| wait.clamp(WAIT_NS_START, WAIT_NS_MAX));
        self.failures = self.failures.saturating_add(1);
        let wait = if transient {
            self.rng.up_to(ceiling)
        } else {
            WAIT_NS_LASTING.saturating_add(self.rng.up_to(WAIT_NS_MAX - WAIT_NS_LASTING))
        };
        now.plus_ns(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_stay_in_their_bounds_and_use_them() {
        let mut longest = 0;
        for seed in 0..200 {
            let mut backoff = Backoff::new(Rng::new(seed));
            for n in 0..20_u32 {
                let wait = backoff.retry_at(BootNanos(0), true).0;
                let ceiling = (NS_PER_S << n.min(20)).min(WAIT_NS_MAX);
                assert!((0..=ceiling).contains(&wait), "failure {n}: {wait}");
                longest = longest.max(wait);
            }
            let lasting = backoff.retry_at(BootNanos(0), false).0;
            assert!((WAIT_NS_LASTING..=WAIT_NS_MAX).contains(&lasting));
        }
        assert!(longest > 290 * NS_PER_S, "the whole range is used");
    }

    #[test]
    fn only_a_healthy_minute_forgets_failures() {
        let waits_after = |session_s: i64| {
            (0..100).map(move |seed| {
                let mut backoff = Backoff::new(Rng::new(seed));
                for _ in 0..10 {
                    backoff.retry_at(BootNanos(0), true);
                }
                backoff.connected(BootNanos(0));
                let lost = BootNanos(session_s * NS_PER_S);
                backoff.retry_at(lost, true).since(lost)
            })
        };
        assert!(waits_after(59).any(|wait| wait > NS_PER_S));
        assert!(waits_after(60).all(|wait| wait <= NS_PER_S));
    }
}

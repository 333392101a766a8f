//! Spreads reconnects in time, so that a fleet does not come back at once after an outage, and keeps them few
//! where trying again cannot help.

use headwater_core::ports::Cause;
use headwater_core::time::{BootNanos, NS_PER_S};
use std::collections::VecDeque;

/// Longest wait between two tries.
const WAIT_NS_MAX: i64 = 300 * NS_PER_S;
/// Ceiling of the first wait.
const WAIT_NS_START: i64 = NS_PER_S;
/// Least wait after a refusal that will not mend itself soon (credentials, quota).
const WAIT_NS_LASTING: i64 = 60 * NS_PER_S;
/// Least wait after somebody took our identity over: two gateways with one must not fight every second.
const WAIT_NS_FIGHT: i64 = 120 * NS_PER_S;
/// Least wait where a quick try is likely to end the same way (closed under a message, no trust).
const WAIT_NS_DOUBT: i64 = 5 * NS_PER_S;
/// Most tries of an hour, whatever happens. Failures alone stay far below it (half a minute apart on average once
/// their ceiling is reached), and so do links that live a minute each.
pub(crate) const TRIES_PER_HOUR_MAX: usize = 120;
const HOUR_NS: i64 = 3_600 * NS_PER_S;
/// A gateway up for less than this came up with its whole site.
const YOUNG_NS: i64 = 300 * NS_PER_S;
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

/// Full jitter: wait rand(0, min(300 s, 1 s × 2^n)) after the n-th failure in a row; longer by cause.
#[derive(Debug)]
pub struct Backoff {
    rng: Rng,
    /// Width over which a fleet is spread that lost its broker or its power at once, ns.
    spread_ns: i64,
    failures: u32,
    /// Refusals in a row that will not mend themselves.
    lasting: usize,
    connected_at: Option<BootNanos>,
    /// Tries of the last hour, the oldest first.
    tries: VecDeque<BootNanos>,
}

impl Backoff {
    /// Without failures yet.
    #[must_use]
    pub fn new(rng: Rng, spread_s: u16) -> Self {
        let spread_ns = i64::from(spread_s).saturating_mul(NS_PER_S);
        Self { rng, spread_ns, failures: 0, lasting: 0, connected_at: None, tries: VecDeque::new() }
    }

    /// When to try for the first time: at once, unless the gateway has just come up.
    pub fn first_at(&mut self, now: BootNanos) -> BootNanos {
        let wait = if now.0 < YOUNG_NS { self.rng.up_to(self.spread_ns) } else { 0 };
        self.try_at(now.plus_ns(wait))
    }

    /// A connection stands.
    pub fn connected(&mut self, now: BootNanos) {
        self.connected_at = Some(now);
    }

    /// It is over, or did not come about: when to try again, with `alternatives` other brokers to turn to.
    pub fn retry_at(&mut self, now: BootNanos, cause: Cause, alternatives: usize) -> BootNanos {
        if self.connected_at.take().is_some_and(|at| now.since(at) >= HEALTHY_NS) {
            (self.failures, self.lasting) = (0, 0);
        }
        let ceiling = WAIT_NS_START
            .checked_shl(self.failures.min(30))
            .map_or(WAIT_NS_MAX, |wait| wait.clamp(WAIT_NS_START, WAIT_NS_MAX));
        self.failures = self.failures.saturating_add(1);
        let lasts =
            matches!(cause, Cause::Busy | Cause::NotAuthorized | Cause::ProtocolRefused | Cause::UseAnother);
        self.lasting = if lasts { self.lasting.saturating_add(1) } else { 0 };
        let jitter = self.rng.up_to(ceiling);
        let wait = match cause {
            Cause::Transient | Cause::TooLarge => jitter,
            Cause::BrokerAway => jitter.saturating_add(self.rng.up_to(self.spread_ns)),
            Cause::ClosedOnPublish | Cause::Untrusted => WAIT_NS_DOUBT.saturating_add(jitter),
            Cause::TakenOver => self.between(WAIT_NS_FIGHT),
            // Another broker may say something else; when all said it, they are left alone.
            _ if self.lasting <= alternatives => jitter,
            _ => self.between(WAIT_NS_LASTING),
        };
        self.try_at(now.plus_ns(wait))
    }

    /// True if the end that was told last is the first after a healthy link, or of all.
    pub(super) fn is_fresh(&self) -> bool {
        self.failures <= 1
    }

    fn between(&mut self, least: i64) -> i64 {
        least.saturating_add(self.rng.up_to(WAIT_NS_MAX.saturating_sub(least)))
    }

    /// Counts a try, later if the hour before it is full.
    fn try_at(&mut self, at: BootNanos) -> BootNanos {
        let free_at = match self.tries.front() {
            Some(oldest) if self.tries.len() >= TRIES_PER_HOUR_MAX => oldest.plus_ns(HOUR_NS),
            _ => at,
        };
        let at = at.max(free_at);
        self.tries.push_back(at);
        if self.tries.len() > TRIES_PER_HOUR_MAX {
            self.tries.pop_front();
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{ProptestConfig, any, prop_assert, proptest};

    const CAUSES: [Cause; 10] = [
        Cause::Transient,
        Cause::BrokerAway,
        Cause::Busy,
        Cause::UseAnother,
        Cause::NotAuthorized,
        Cause::TakenOver,
        Cause::ProtocolRefused,
        Cause::ClosedOnPublish,
        Cause::TooLarge,
        Cause::Untrusted,
    ];

    fn wait(backoff: &mut Backoff, cause: Cause) -> i64 {
        backoff.retry_at(BootNanos(0), cause, 0).0
    }

    #[test]
    fn waits_stay_in_their_bounds_and_use_them() {
        let mut longest = 0;
        for seed in 0..200 {
            let mut backoff = Backoff::new(Rng::new(seed), 0);
            for n in 0..20_u32 {
                let wait = wait(&mut backoff, Cause::Transient);
                let ceiling = (NS_PER_S << n.min(20)).min(WAIT_NS_MAX);
                assert!((0..=ceiling).contains(&wait), "failure {n}: {wait}");
                longest = longest.max(wait);
            }
        }
        assert!(longest > 290 * NS_PER_S, "the whole range is used");
    }

    #[test]
    fn each_cause_waits_as_long_as_it_takes() {
        for seed in 0..200 {
            for (cause, least, most) in [
                (Cause::Transient, 0, 1),
                (Cause::TooLarge, 0, 1),
                (Cause::BrokerAway, 0, 31),
                (Cause::ClosedOnPublish, 5, 6),
                (Cause::Untrusted, 5, 6),
                (Cause::Busy, 60, 300),
                (Cause::UseAnother, 60, 300),
                (Cause::NotAuthorized, 60, 300),
                (Cause::ProtocolRefused, 60, 300),
                (Cause::TakenOver, 120, 300),
            ] {
                let wait = wait(&mut Backoff::new(Rng::new(seed), 30), cause);
                assert!((least * NS_PER_S..=most * NS_PER_S).contains(&wait), "{cause:?}: {wait}");
            }
        }
    }

    #[test]
    fn a_fleet_is_spread_after_its_broker_went_and_after_a_power_cut() {
        let spread = |backoff: &mut dyn FnMut(&mut Backoff) -> i64| {
            let waits: Vec<i64> =
                (0..1_000).map(|seed| backoff(&mut Backoff::new(Rng::new(seed), 30))).collect();
            waits.iter().filter(|wait| **wait > 15 * NS_PER_S).count()
        };
        let outage = spread(&mut |backoff| wait(backoff, Cause::BrokerAway));
        let power = spread(&mut |backoff| backoff.first_at(BootNanos(0)).0);
        assert!((400..600).contains(&outage) && (400..600).contains(&power), "{outage} {power}");
        assert_eq!(
            spread(&mut |backoff| backoff.first_at(BootNanos(YOUNG_NS)).0 - YOUNG_NS),
            0,
            "a mere restart"
        );
    }

    #[test]
    fn other_brokers_are_asked_soon_and_all_of_them_only_once() {
        for seed in 0..100 {
            let mut backoff = Backoff::new(Rng::new(seed), 30);
            let mut waits = [0; 3].map(|_| backoff.retry_at(BootNanos(0), Cause::UseAnother, 2).0 / NS_PER_S);
            assert!(waits[0] <= 1 && waits[1] <= 2 && waits[2] >= 60, "{waits:?}");
            waits.sort_unstable();
        }
    }

    #[test]
    fn only_a_healthy_minute_forgets_failures() {
        let waits_after = |session_s: i64| {
            (0..100).map(move |seed| {
                let mut backoff = Backoff::new(Rng::new(seed), 0);
                for _ in 0..10 {
                    wait(&mut backoff, Cause::Transient);
                }
                backoff.connected(BootNanos(0));
                let lost = BootNanos(session_s * NS_PER_S);
                backoff.retry_at(lost, Cause::Transient, 0).since(lost)
            })
        };
        assert!(waits_after(59).any(|wait| wait > NS_PER_S));
        assert!(waits_after(60).all(|wait| wait <= NS_PER_S));
    }

    /// Tries of the busiest hour, if the n-th ends after `ends[n]` with its cause.
    fn busiest_hour(seed: u64, ends: &[(i64, Cause)], alternatives: usize) -> usize {
        let mut backoff = Backoff::new(Rng::new(seed), 30);
        let mut tries = vec![backoff.first_at(BootNanos(0))];
        for (lived_ns, cause) in ends {
            let at = *tries.last().unwrap();
            if *lived_ns > 0 {
                backoff.connected(at);
            }
            tries.push(backoff.retry_at(at.plus_ns(*lived_ns), *cause, alternatives));
        }
        let in_hour_from =
            |from: &BootNanos| tries.iter().filter(|at| (0..HOUR_NS).contains(&at.since(*from))).count();
        tries.iter().map(in_hour_from).max().unwrap_or(0)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn reconnects_of_an_hour_are_bounded_whatever_happens(
            seed in any::<u64>(),
            alternatives in 0_usize..4,
            ends in proptest::collection::vec((0_i64..90 * NS_PER_S, proptest::sample::select(CAUSES.to_vec())), 400),
        ) {
            prop_assert!(busiest_hour(seed, &ends, alternatives) <= TRIES_PER_HOUR_MAX);
        }

        #[test]
        fn no_hot_loop_at_a_broker_that_refuses_for_good(
            seed in any::<u64>(),
            cause in proptest::sample::select(vec![Cause::Busy, Cause::NotAuthorized, Cause::TakenOver, Cause::UseAnother]),
            lives_ns in 0_i64..NS_PER_S,
        ) {
            prop_assert!(busiest_hour(seed, &[(lives_ns, cause); 100], 0) <= 61);
        }

        #[test]
        fn no_hot_loop_at_a_broker_that_closes_on_every_publish(seed in any::<u64>(), lives_ns in 1_i64..120 * NS_PER_S) {
            prop_assert!(busiest_hour(seed, &[(lives_ns, Cause::ClosedOnPublish); 200], 0) <= 61);
        }
    }
}

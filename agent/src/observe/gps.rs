//! What is common to all that comes from GPS receivers: dates that may be believed, and which second a pulse is.

use headwater_core::time::{BootNanos, NS_PER_MS, NS_PER_S, UtcNanos};

/// No date of a receiver lies before this, ns: when the source of this program was last looked after. It need not be
/// moved often, since the week counter of GPS leads astray by whole multiples of 1024 weeks.
const RELEASED: UtcNanos = UtcNanos(1_793_491_200 * NS_PER_S);
/// 1024 weeks, ns: after so long the counter starts anew.
const ROLLOVER_NS: i64 = 1_024 * 7 * 86_400 * NS_PER_S;
/// Longest delay of a sentence behind the pulse of its second for which the two can be told to belong together, ns.
const SENTENCE_DELAY_NS_MAX: i64 = 900 * NS_PER_MS;
/// Longest time from a sentence to a pulse that is still counted from it, ns.
const COUNT_NS_MAX: i64 = 5 * NS_PER_S;
/// Largest half width with which a clock can tell one second from the next, ns.
const NUMBERING_HALF_NS_MAX: i64 = 400 * NS_PER_MS;
/// Assumed rate of a crystal that nobody measured, as one over: 200 ppm.
const RATE_ONE_IN: i64 = 5_000;

/// Whether a receiver's date may be right: not before `floor`, what is certainly past, and not a rollover ahead.
pub(super) fn is_plausible(utc: UtcNanos, floor: UtcNanos) -> bool {
    utc >= RELEASED.max(floor) && utc < RELEASED.plus_ns(ROLLOVER_NS)
}

/// UTC at a boot time, to within `half_ns`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Anchor {
    pub(super) at: BootNanos,
    pub(super) utc: UtcNanos,
    pub(super) half_ns: i64,
}

impl Anchor {
    /// The same at another boot time; as much wider as a crystal nobody measured may run away.
    pub(super) fn carried_to(&self, at: BootNanos) -> Self {
        let away = at.since(self.at);
        let half_ns = self.half_ns.saturating_add(away.saturating_abs() / RATE_ONE_IN).saturating_add(1);
        Self { at, utc: self.utc.plus_ns(away), half_ns }
    }

    /// Which whole second came at its boot time, as a pulse of at most `latency_ns` says that one did.
    pub(super) fn second(&self, latency_ns: i64) -> Option<UtcNanos> {
        if self.half_ns > NUMBERING_HALF_NS_MAX {
            return None;
        }
        let half_second = NS_PER_S / 2;
        let second = self.utc.plus_ns(half_second).0.div_euclid(NS_PER_S).saturating_mul(NS_PER_S);
        let off = self.utc.0.saturating_sub(second).saturating_abs();
        (off <= self.half_ns.saturating_add(latency_ns).saturating_add(NS_PER_MS)).then_some(UtcNanos(second))
    }
}

/// The last sentence that named a whole second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sentence {
    pub(super) at: BootNanos,
    pub(super) utc: UtcNanos,
}

impl Sentence {
    /// Which second a pulse at `pulse` is, if this sentence came within 0.9 s after the pulse of its own.
    pub(super) fn second_of(&self, pulse: BootNanos) -> Option<UtcNanos> {
        let after = pulse.since(self.at);
        if self.utc.0.rem_euclid(NS_PER_S) != 0 || !(-SENTENCE_DELAY_NS_MAX..=COUNT_NS_MAX).contains(&after) {
            return None;
        }
        // Rounded up: a pulse before its sentence is of the same second.
        let seconds = after.saturating_add(NS_PER_S - 1).div_euclid(NS_PER_S);
        let delay = seconds.saturating_mul(NS_PER_S).saturating_sub(after);
        (0..=SENTENCE_DELAY_NS_MAX)
            .contains(&delay)
            .then(|| self.utc.plus_ns(seconds.saturating_mul(NS_PER_S)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: i64 = 1_800_000_000;

    #[test]
    fn gps_week_rollover_is_refused() {
        let past = UtcNanos(0);
        let at = |s: i64| UtcNanos(s * NS_PER_S);
        assert!(is_plausible(at(NOW), past));
        assert!(!is_plausible(UtcNanos(NOW * NS_PER_S - ROLLOVER_NS), past), "a rollover behind");
        assert!(!is_plausible(UtcNanos(NOW * NS_PER_S + ROLLOVER_NS), past), "a rollover ahead");
        assert!(!is_plausible(at(315_964_800), past), "the week counter's zero, 1980");
        assert!(!is_plausible(at(NOW), at(NOW + 1)), "before what is certainly past");
        assert!(!is_plausible(UtcNanos(i64::MIN), past) && !is_plausible(UtcNanos(i64::MAX), past));
    }

    #[test]
    fn a_clock_that_is_off_by_too_much_numbers_no_second() {
        let anchor = |utc: i64, half_ns| Anchor { at: BootNanos(0), utc: UtcNanos(utc), half_ns };
        assert_eq!(anchor(NS_PER_S + 3_000_000, 5_000_000).second(0), Some(UtcNanos(NS_PER_S)));
        assert_eq!(anchor(NS_PER_S - 3_000_000, 5_000_000).second(0), Some(UtcNanos(NS_PER_S)));
        assert_eq!(anchor(NS_PER_S, 500_000_000).second(0), None);
        assert_eq!(anchor(NS_PER_S + 300_000_000, 5_000_000).second(1_000), None, "no second came then");
        assert_eq!(anchor(i64::MAX, 5).second(1), None);
        let late = anchor(0, 0).carried_to(BootNanos(10_000_000_000_000));
        assert_eq!((late.utc.0, late.half_ns), (10_000_000_000_000, 2_000_000_001));
    }

    proptest! {
        /// Pulses are numbered right from sentences that are up to 0.9 s late, whatever the phase.
        #[test]
        fn a_sentence_numbers_the_pulses_around_it(delay in 1_i64..900_000_000, nth in 0_i64..5, boot in 0_i64..1_000_000_000_000) {
            let second = NOW * NS_PER_S;
            let sentence = Sentence { at: BootNanos(boot + delay), utc: UtcNanos(second) };
            let pulse = BootNanos(boot + nth * NS_PER_S);
            if let Some(found) = sentence.second_of(pulse) {
                prop_assert_eq!(found.0, second + nth * NS_PER_S);
            } else {
                prop_assert!(pulse.since(sentence.at) > COUNT_NS_MAX);
            }
        }

        #[test]
        fn nothing_panics(at: i64, utc: i64, half_ns: i64, pulse: i64, latency: i64) {
            let anchor = Anchor { at: BootNanos(at), utc: UtcNanos(utc), half_ns };
            anchor.carried_to(BootNanos(pulse)).second(latency);
            Sentence { at: BootNanos(at), utc: UtcNanos(utc) }.second_of(BootNanos(pulse));
        }
    }
}

//! When the backlog will be gone, judged by how fast it shrinks.

use headwater_core::time::{BootNanos, NS_PER_S};
use std::collections::VecDeque;

/// Sizes are compared over this long.
const SPAN_NS: i64 = 60 * NS_PER_S;
/// Least time over which a pace is believed.
const SPAN_NS_MIN: i64 = 10 * NS_PER_S;
/// A backlog that did not shrink for this long with a link will not be caught up.
const NEVER_NS: i64 = 300 * NS_PER_S;
/// Time between two sizes that are kept.
const STEP_NS: i64 = 5 * NS_PER_S;

/// How catching up goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pace {
    /// Nothing waits.
    #[default]
    CaughtUp,
    /// Too early to say.
    Unknown,
    /// In about this many seconds.
    InSeconds(u64),
    /// The link carries less than is captured: rules, rate or coverage must change, or the spool will evict.
    Never,
}

/// Sizes of the backlog of late, while a link stands.
#[derive(Debug, Default)]
pub(super) struct CatchUp {
    seen: VecDeque<(BootNanos, u64)>,
    /// Since when it has not been smaller.
    stuck: Option<(BootNanos, u64)>,
}

impl CatchUp {
    /// The link is gone: what was seen says nothing of the next one.
    pub(super) fn unlinked(&mut self) {
        *self = Self::default();
    }

    /// When the next size is wanted.
    pub(super) fn due_at(&self) -> Option<BootNanos> {
        self.seen.back().map(|(at, _)| at.plus_ns(STEP_NS))
    }

    /// The backlog holds `bytes` now.
    pub(super) fn saw(&mut self, now: BootNanos, bytes: u64) -> Pace {
        while self.seen.front().is_some_and(|(at, _)| now.since(*at) > SPAN_NS) {
            self.seen.pop_front();
        }
        self.seen.push_back((now, bytes));
        if bytes == 0 {
            self.stuck = None;
            return Pace::CaughtUp;
        }
        if self.stuck.is_none_or(|(_, least)| bytes < least) {
            self.stuck = Some((now, bytes));
        }
        if self.stuck.is_some_and(|(since, _)| now.since(since) >= NEVER_NS) {
            return Pace::Never;
        }
        let Some((then, before)) = self.seen.front().copied() else { return Pace::Unknown };
        let (took_ns, gone) = (now.since(then), before.saturating_sub(bytes));
        if took_ns < SPAN_NS_MIN || gone == 0 {
            return Pace::Unknown;
        }
        let seconds = u128::from(bytes).saturating_mul(u128::from(took_ns.unsigned_abs()))
            / u128::from(gone)
            / 1_000_000_000;
        Pace::InSeconds(u64::try_from(seconds).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: i64) -> BootNanos {
        BootNanos(seconds * NS_PER_S)
    }

    #[test]
    fn a_steady_drain_tells_its_end() {
        let mut catch_up = CatchUp::default();
        assert_eq!(catch_up.saw(s(0), 1_000_000), Pace::Unknown);
        for t in (5..=100).step_by(5) {
            let left = 1_000_000 - 5_000 * u64::try_from(t).unwrap();
            let pace = catch_up.saw(s(t), left);
            if t >= 10 {
                let Pace::InSeconds(eta) = pace else { panic!("{pace:?} at {t}") };
                assert!(eta.abs_diff(left / 5_000) <= 1, "{eta} at {t}");
            }
        }
        assert_eq!(catch_up.saw(s(200), 0), Pace::CaughtUp);
    }

    #[test]
    fn a_backlog_that_grows_is_never_caught_up_and_a_pause_is_not_taken_for_it() {
        let mut catch_up = CatchUp::default();
        let mut last = Pace::Unknown;
        for t in (0..=400).step_by(5) {
            last = catch_up.saw(s(t), 1_000 + u64::try_from(t).unwrap());
            assert_eq!(last == Pace::Never, t >= 300, "{t}");
        }
        assert_eq!(last, Pace::Never);
        assert_ne!(catch_up.saw(s(405), 10), Pace::Never, "it shrinks again");
        catch_up.unlinked();
        assert_eq!(catch_up.saw(s(9_000), 10), Pace::Unknown);
    }
}

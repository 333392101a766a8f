//! One look at all the kernel says of time, and what two of them tell apart: the wall clock was set, or not.
//!
//! The kernel slews BOOTTIME and REALTIME alike, and both go on through a suspend, so their difference changes only when
//! someone sets the wall clock, or by a leap second. It is known to half a bracket, a tenth of a microsecond.

use crate::clock::KernelSync;
use crate::stamp::track::{Claim, TimeSource};
use headwater_core::time::{BootNanos, ClockReading, Grade, NS_PER_MS, UtcNanos};

/// Rounding of the two clocks against each other, ns: each cuts its fraction of a nanosecond off on its own.
const ROUNDING_NS: i64 = 50;

/// Half width claimed for a kernel that says it is synchronised, ns, beside its own `maxerror`: timesyncd writes that as
/// zero, so its word is taken for no better than its own accuracy constant (NTP_ACCURACY_SEC).
const KERNEL_HALF_NS: i64 = 200 * NS_PER_MS;
/// Longest way of a word about the wall clock, from the instant it tells to the observer, ns.
pub(super) const WORD_AGE_NS_MAX: i64 = 10_000_000_000;

/// One look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// The narrowest of five brackets.
    pub reading: ClockReading,
    /// BOOTTIME less MONOTONIC: time spent suspended, ns.
    pub asleep_ns: i64,
    /// What the kernel says of its synchronisation.
    pub kernel: KernelSync,
    /// systemd-timesyncd has synchronised the wall clock in this boot.
    pub timesyncd: bool,
}

/// Wall clock less boot time, ns: somewhere from `lo` to `hi`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Offset {
    pub(super) lo: i64,
    pub(super) hi: i64,
}

impl Offset {
    pub(super) fn of(reading: &ClockReading) -> Self {
        let at = |boot: BootNanos| reading.real.0.saturating_sub(boot.0);
        Self { lo: at(reading.b2), hi: at(reading.b1) }
    }

    fn mid(self) -> i64 {
        self.lo.saturating_add(self.hi.saturating_sub(self.lo) / 2)
    }

    /// By how much `later` is another offset; 0 if it may be the same.
    fn change(self, later: Self) -> i64 {
        let apart = later.lo.saturating_sub(self.hi).max(self.lo.saturating_sub(later.hi));
        if apart > ROUNDING_NS { later.mid().saturating_sub(self.mid()) } else { 0 }
    }

    /// The part common to both, else `later`: they are the same but for rounding.
    fn narrowed(self, later: Self) -> Self {
        let both = Self { lo: self.lo.max(later.lo), hi: self.hi.min(later.hi) };
        if both.lo <= both.hi { both } else { later }
    }
}

/// Boot time of an instant of the wall clock: from `lo` to `hi`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BootSpan {
    pub(super) lo: BootNanos,
    pub(super) hi: BootNanos,
}

/// The wall clock against boot time, since it was last set.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wall {
    offset: Offset,
    /// It was not set between this look and the newest.
    since: BootNanos,
    /// As it was when a step was last told of.
    told: Offset,
}

impl Wall {
    pub(super) fn new(look: &Look) -> Self {
        let offset = Offset::of(&look.reading);
        Self { offset, since: look.reading.b1, told: offset }
    }

    /// Takes another look. By how much the clock was set since the last one, ns.
    pub(super) fn look(&mut self, look: &Look) -> Option<i64> {
        let now = Offset::of(&look.reading);
        let step = self.offset.change(now);
        if step == 0 {
            self.offset = self.offset.narrowed(now);
            return None;
        }
        (self.offset, self.since) = (now, look.reading.b1);
        Some(step)
    }

    /// Wall clock now less the one last told of, ns.
    pub(super) fn untold_ns(&self) -> i64 {
        self.told.change(self.offset)
    }

    pub(super) fn told(&mut self) {
        self.told = self.offset;
    }

    /// Boot time of `wall`, which the wall clock showed just before the newest look, at `now`; none if it was set since.
    pub(super) fn boot_of(&self, wall: UtcNanos, now: BootNanos) -> Option<BootSpan> {
        let at = |offset: i64| BootNanos(wall.0.saturating_sub(offset));
        let span = BootSpan { lo: at(self.offset.hi), hi: at(self.offset.lo) };
        (self.since <= span.lo && span.lo <= now).then_some(span)
    }

    /// The same for a word that may have been under way for [`WORD_AGE_NS_MAX`]. Where the clock was set back, an instant
    /// before that and one after it show alike; so shortly after a step no word is believed.
    pub(super) fn boot_of_word(&self, wall: UtcNanos, now: BootNanos) -> Option<BootSpan> {
        let settled = now.since(self.since) >= WORD_AGE_NS_MAX;
        self.boot_of(wall, now).filter(|span| settled && now.since(span.lo) <= WORD_AGE_NS_MAX)
    }

    /// What the wall clock shows at `boot`, if it is not set.
    pub(super) fn at(&self, boot: BootNanos) -> UtcNanos {
        UtcNanos(boot.0.saturating_add(self.offset.mid()))
    }
}

/// What the kernel's word is worth.
pub(super) fn kernel_claim(look: &Look) -> Claim {
    let Look { reading, kernel, timesyncd, .. } = look;
    let source = if *timesyncd { TimeSource::Timesyncd } else { TimeSource::Kernel };
    let tai = kernel.tai_s.map_or_else(|| "unset".to_owned(), |s| s.to_string());
    let detail = format!(
        "status {:#x} maxerror_us {} esterror_us {} tai {tai} leap {}",
        kernel.status,
        kernel.max_error_us,
        kernel.est_error_us,
        kernel.leap.as_str()
    );
    let error = kernel.max_error_us.max(0).saturating_mul(1_000);
    let half = KERNEL_HALF_NS.saturating_add(error).saturating_add(reading.b2.since(reading.b1));
    Claim::new(source, kernel.synced.then_some(half), Grade::Estimated, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn look(b1: i64, offset: i64, width: i64, inside: i64) -> Look {
        let reading = ClockReading {
            b1: BootNanos(b1),
            real: UtcNanos(b1 + inside + offset),
            b2: BootNanos(b1 + width),
            raw_ns: b1,
        };
        Look { reading, asleep_ns: 0, kernel: KernelSync::UNKNOWN, timesyncd: false }
    }

    proptest! {
        #[test]
        fn what_the_wall_clock_showed_is_found_again(
            offset in -4_000_000_000_000_000_000_i64..4_000_000_000_000_000_000,
            looks in proptest::collection::vec((1_i64..5_000, 0_i64..5_000), 1..20),
            ago in 0_i64..1_000_000,
        ) {
            let mut wall = Wall::new(&look(0, offset, 1, 0));
            let mut now = 0;
            for (width, inside) in looks {
                now += 1_000_000;
                prop_assert_eq!(wall.look(&look(now, offset, width, inside.min(width))), None);
            }
            let truth = now - ago;
            let span = wall.boot_of(UtcNanos(truth + offset), BootNanos(now + 5_000)).unwrap();
            prop_assert!(span.lo.0 <= truth && truth <= span.hi.0);
            prop_assert_eq!(wall.untold_ns(), 0);
        }

        #[test]
        fn a_step_beyond_the_brackets_is_always_seen(step in 11_000_i64..i64::MAX / 4, back: bool, width in 1_i64..5_000) {
            let step = if back { -step } else { step };
            let mut wall = Wall::new(&look(1_000, 77, width, width / 2));
            prop_assert!(wall.look(&look(2_000_000, 77 + step, width, width)).is_some());
            let seen = wall.untold_ns();
            prop_assert!((seen - step).abs() <= width, "{seen} for {step}");
            // Before it the clock was another one, and what it showed then tells nothing now.
            let (before, now) = (UtcNanos(1_500_000 + 77), BootNanos(2_000_000 + width));
            prop_assert_eq!(wall.boot_of_word(before, now), None);
            prop_assert_eq!(wall.boot_of_word(before, BootNanos(WORD_AGE_NS_MAX + 3_000_000)), None);
            wall.told();
            prop_assert_eq!(wall.untold_ns(), 0);
        }
    }
}

//! The time certificates are checked at: never before what is certain, and the collector's where it is known.
//!
//! A gateway wakes up in 1970, or in 2090 after a bad battery. Two things are certain of the present: our own
//! certificates had been issued, and a collector that promises its time (grade *guaranteed*) signed a reply to a
//! message we just sent. The *floor* is the latest of these, kept over restarts. The wall clock counts only between
//! the floor and the end of our own certificate; beyond that end it is as likely wrong, and the floor is used:
//! whether our certificate has really ended is for the broker to say, whose clock is right.

use super::exchange::ClockExchange;
use headwater_core::time::{BootNanos, Grade, UtcNanos};
use std::sync::{Arc, Mutex, PoisonError};

/// Shared by all that check certificates; cheap to clone.
#[derive(Debug, Clone)]
pub struct CertTime {
    inner: Arc<Mutex<Known>>,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    floor: UtcNanos,
    /// End of our own certificates.
    until: UtcNanos,
    /// The collector's lower bound of UTC at a boot time of this boot.
    collector: Option<(BootNanos, UtcNanos)>,
}

impl CertTime {
    /// It is at least `floor`, and our own certificates end at `until`.
    #[must_use]
    pub fn new(floor: UtcNanos, until: UtcNanos) -> Self {
        Self { inner: Arc::new(Mutex::new(Known { floor, until, collector: None })) }
    }

    /// Our certificates were renewed.
    pub fn renewed(&self, floor: UtcNanos, until: UtcNanos) {
        self.with(|known| {
            known.floor = known.floor.max(floor);
            known.until = until;
        });
    }

    /// Takes an exchange with a collector: one that guarantees its time promises that it was no earlier than its T3, less
    /// its bound, when it signed. Gives the floor then; whoever only estimates raises none.
    pub fn exchanged(&self, exchange: &ClockExchange) -> Option<UtcNanos> {
        let least = exchange.t3.plus_ns(exchange.e_c_ns.saturating_neg());
        (exchange.grade == Grade::Guaranteed).then(|| self.promised(exchange.t4, least))
    }

    /// A collector promised that it was at least `utc` at `at`. Gives the floor. A promise beyond the end of our own
    /// certificates raises it to that end only: later than that nothing could be shipped anyway.
    pub fn promised(&self, at: BootNanos, utc: UtcNanos) -> UtcNanos {
        self.with(|known| {
            // Later than that no certificate of a broker could be believed any more, until a restart.
            let utc = utc.min(known.until);
            let later = known.collector.is_none_or(|(then, was)| was.plus_ns(at.since(then)) < utc);
            if later {
                known.collector = Some((at, utc));
            }
            known.floor = known.floor.max(utc.min(known.until));
            known.floor
        })
    }

    /// The time to check certificates at, when the wall clock shows `real` at boot time `boot`.
    #[must_use]
    pub fn at(&self, boot: BootNanos, real: UtcNanos) -> UtcNanos {
        self.with(|known| match known.collector {
            Some((then, utc)) => utc.plus_ns(boot.since(then)).max(known.floor),
            None if real > known.until => known.floor,
            None => real.max(known.floor),
        })
    }

    /// UTC at boot time `boot`, when the wall clock shows `real`: the collector's, else the wall clock's while nothing speaks
    /// against it.
    #[must_use]
    pub fn wall(&self, boot: BootNanos, real: UtcNanos) -> Option<UtcNanos> {
        self.with(|known| match known.collector {
            Some((then, utc)) => Some(utc.plus_ns(boot.since(then))),
            None => Some(real).filter(|real| (known.floor..=known.until).contains(real)),
        })
    }

    /// What is certain to be past.
    #[must_use]
    pub fn floor(&self) -> UtcNanos {
        self.with(|known| known.floor)
    }

    fn with<T>(&self, f: impl FnOnce(&mut Known) -> T) -> T {
        f(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl From<UtcNanos> for CertTime {
    /// A floor without an end.
    fn from(floor: UtcNanos) -> Self {
        Self::new(floor, UtcNanos(i64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_core::time::NS_PER_S;

    const DAY: i64 = 86_400 * NS_PER_S;
    const ISSUED: UtcNanos = UtcNanos(20_000 * DAY);
    const ENDS: UtcNanos = UtcNanos(20_730 * DAY);
    const IN_1970: UtcNanos = UtcNanos(7 * NS_PER_S);
    const IN_2090: UtcNanos = UtcNanos(43_900 * DAY);

    fn boot(s: i64) -> BootNanos {
        BootNanos(s * NS_PER_S)
    }

    #[test]
    fn a_clock_of_1970_is_lifted_to_the_floor_and_a_right_one_counts() {
        let time = CertTime::new(ISSUED, ENDS);
        assert_eq!(time.at(boot(5), IN_1970), ISSUED);
        let right = UtcNanos(20_100 * DAY);
        assert_eq!(time.at(boot(5), right), right);
        assert_eq!(time.floor(), ISSUED, "the wall clock raises no floor");
    }

    #[test]
    fn a_clock_of_2090_makes_nothing_expire() {
        let time = CertTime::new(ISSUED, ENDS);
        assert_eq!(time.at(boot(5), IN_2090), ISSUED);
        assert_eq!(time.floor(), ISSUED);
    }

    #[test]
    fn the_collectors_promise_wins_over_any_wall_clock_and_goes_on_with_boot_time() {
        let time = CertTime::new(ISSUED, ENDS);
        let told = UtcNanos(20_300 * DAY);
        assert_eq!(time.promised(boot(100), told), told);
        for real in [IN_1970, IN_2090, UtcNanos(20_100 * DAY)] {
            assert_eq!(time.at(boot(160), real), told.plus_ns(60 * NS_PER_S));
        }
        // A looser promise later takes nothing back.
        time.promised(boot(200), told);
        assert_eq!(time.at(boot(200), IN_1970), told.plus_ns(100 * NS_PER_S));
        assert_eq!(time.floor(), told);
    }

    #[test]
    fn time_floor_guaranteed_only() {
        let time = CertTime::new(ISSUED, ENDS);
        let told = UtcNanos(20_300 * DAY);
        let exchange = |grade| ClockExchange {
            boot_ordinal: headwater_core::id::BootOrdinal(1),
            t1: boot(99),
            t2: told,
            t3: told,
            t4: boot(100),
            e_c_ns: NS_PER_S,
            grade,
            source_id: 1,
        };
        for grade in [Grade::Estimated, Grade::OrderingOnly] {
            assert_eq!(time.exchanged(&exchange(grade)), None);
            assert_eq!(time.floor(), ISSUED, "a false future of such a source would lock the gateway out");
        }
        let least = told.plus_ns(-NS_PER_S);
        assert_eq!(time.exchanged(&exchange(Grade::Guaranteed)), Some(least));
        assert_eq!(time.floor(), least);
    }

    #[test]
    fn a_promise_beyond_our_own_end_cannot_lock_us_out() {
        let time = CertTime::new(ISSUED, ENDS);
        assert_eq!(time.promised(boot(1), IN_2090), ENDS);
        let renewed = UtcNanos(20_500 * DAY);
        time.renewed(renewed, UtcNanos(21_230 * DAY));
        assert_eq!(time.floor(), ENDS);
    }
}

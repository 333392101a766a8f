//! Clock exchanges that ride on messages and acks: T1 of what we sent, T2 and T3 of the collector, T4 of its arrival.

use headwater_core::id::BootOrdinal;
use headwater_core::time::{BootNanos, Grade, NS_PER_S, UtcNanos};
use headwater_core::wire::{ClockReply, Sent};
use std::collections::BTreeSet;

/// Most send times remembered; the oldest are forgotten, and their replies unused.
const T1_MAX: usize = 4096;
/// Probes, and windows of the best exchange, at the start of a link.
const QUICK_N: u32 = 8;
/// Their distance.
const QUICK_NS: i64 = 16 * NS_PER_S;
/// Their distance later.
const SLOW_NS: i64 = 64 * NS_PER_S;

/// One exchange, for a row of `hw/clock`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockExchange {
    /// Boot of `t1` and `t4`.
    pub boot_ordinal: BootOrdinal,
    /// Boot time at hand-over.
    pub t1: BootNanos,
    /// Collector's UTC at arrival.
    pub t2: UtcNanos,
    /// Collector's UTC when the ack was built.
    pub t3: UtcNanos,
    /// Boot time when the ack came.
    pub t4: BootNanos,
    /// The collector's own bound, ns.
    pub e_c_ns: i64,
    /// Grade of its clock.
    pub grade: Grade,
    /// Which clock answered.
    pub source_id: u64,
}

impl ClockExchange {
    /// Time on the way, both ways, ns.
    #[must_use]
    pub fn rtt_ns(&self) -> i64 {
        self.t4.since(self.t1).saturating_sub(self.t3.since(self.t2))
    }
}

/// Send times not yet answered, the best exchange of the current window, and when to probe.
#[derive(Debug)]
pub(super) struct Exchanges {
    boot_ordinal: BootOrdinal,
    sent: BTreeSet<i64>,
    best: Option<ClockExchange>,
    window_ends: Option<BootNanos>,
    windows: u32,
    probe_at: Option<BootNanos>,
    probes: u32,
}

impl Exchanges {
    pub(super) fn new(boot_ordinal: BootOrdinal) -> Self {
        Self {
            boot_ordinal,
            sent: BTreeSet::new(),
            best: None,
            window_ends: None,
            windows: 0,
            probe_at: None,
            probes: 0,
        }
    }

    /// A hello was answered on a new link: probe soon.
    pub(super) fn linked(&mut self, now: BootNanos) {
        (self.probes, self.windows) = (0, 0);
        self.probe_at = Some(now.plus_ns(QUICK_NS));
    }

    pub(super) fn unlinked(&mut self) {
        self.probe_at = None;
    }

    /// A message was handed over at `t1`.
    pub(super) fn sent(&mut self, t1: BootNanos) {
        self.sent.insert(t1.0);
        if self.sent.len() > T1_MAX {
            self.sent.pop_first();
        }
    }

    pub(super) fn probe_at(&self) -> Option<BootNanos> {
        self.probe_at
    }

    pub(super) fn probed(&mut self, now: BootNanos) {
        self.probes = self.probes.saturating_add(1);
        self.probe_at = Some(now.plus_ns(if self.probes < QUICK_N { QUICK_NS } else { SLOW_NS }));
    }

    /// Takes a reply that came at `t4`: used only for a T1 we sent and did not use yet.
    pub(super) fn reply(&mut self, reply: &ClockReply, t4: BootNanos) -> Option<ClockExchange> {
        let ours = reply.t1.boot_ordinal == self.boot_ordinal.0 && self.sent.remove(&reply.t1.ns);
        if ours {
            let Sent { ns, .. } = reply.t1;
            let exchange = ClockExchange {
                boot_ordinal: self.boot_ordinal,
                t1: BootNanos(ns),
                t2: UtcNanos(reply.t2_ns),
                t3: UtcNanos(reply.t3_ns),
                t4,
                e_c_ns: reply.e_c_ns,
                grade: reply.grade,
                source_id: reply.source_id,
            };
            // A source that changes is another clock: both are worth keeping, so the old one goes out.
            let other = self.best.is_some_and(|best| best.source_id != exchange.source_id);
            if other {
                return self.best.replace(exchange);
            }
            if self.best.is_none_or(|best| exchange.rtt_ns() < best.rtt_ns()) {
                self.best = Some(exchange);
            }
        }
        self.due(t4)
    }

    /// The best exchange of a window that is over; the first of a process at once.
    pub(super) fn due(&mut self, now: BootNanos) -> Option<ClockExchange> {
        if self.best.is_none() || self.window_ends.is_some_and(|end| now < end) {
            return None;
        }
        self.windows = self.windows.saturating_add(1);
        self.window_ends = Some(now.plus_ns(if self.windows <= QUICK_N { QUICK_NS } else { SLOW_NS }));
        self.best.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(t1: i64, delay: i64) -> ClockReply {
        ClockReply {
            t1: Sent { boot_ordinal: 4, ns: t1 },
            t2_ns: 1_000 + t1 + delay,
            t3_ns: 1_010 + t1 + delay,
            e_c_ns: 5,
            grade: Grade::Estimated,
            source_id: 9,
        }
    }

    #[test]
    fn only_a_send_time_of_ours_counts_and_only_once() {
        let mut exchanges = Exchanges::new(BootOrdinal(4));
        exchanges.sent(BootNanos(100));
        assert_eq!(exchanges.reply(&reply(101, 0), BootNanos(200)), None, "never sent");
        let other_boot = ClockReply { t1: Sent { boot_ordinal: 5, ns: 100 }, ..reply(100, 0) };
        assert_eq!(exchanges.reply(&other_boot, BootNanos(200)), None);
        let first = exchanges.reply(&reply(100, 0), BootNanos(200)).unwrap();
        assert_eq!((first.t1, first.t4, first.rtt_ns()), (BootNanos(100), BootNanos(200), 90));
        assert_eq!(exchanges.reply(&reply(100, 0), BootNanos(20 * NS_PER_S)), None, "used already");
    }

    #[test]
    fn the_quickest_exchange_of_a_window_is_kept() {
        let mut exchanges = Exchanges::new(BootOrdinal(4));
        exchanges.sent(BootNanos(0));
        assert!(exchanges.reply(&reply(0, 0), BootNanos(50)).is_some(), "the first goes at once");
        for (t1, took) in [(1_000, 500), (2_000, 80), (3_000, 300)] {
            exchanges.sent(BootNanos(t1));
            assert_eq!(exchanges.reply(&reply(t1, 0), BootNanos(t1 + took)), None);
        }
        assert_eq!(exchanges.due(BootNanos(QUICK_NS + 50)).map(|best| best.t1), Some(BootNanos(2_000)));
        assert_eq!(exchanges.due(BootNanos(QUICK_NS + 60)), None);
    }

    #[test]
    fn probes_are_quick_at_first_and_rare_later() {
        let mut exchanges = Exchanges::new(BootOrdinal(4));
        assert_eq!(exchanges.probe_at(), None);
        exchanges.linked(BootNanos(0));
        let mut at = Vec::new();
        for _ in 0..10 {
            let due = exchanges.probe_at().unwrap();
            at.push(due.0 / NS_PER_S);
            exchanges.probed(due);
        }
        assert_eq!(at, [16, 32, 48, 64, 80, 96, 112, 128, 192, 256]);
    }
}

//! Clock exchanges that ride on messages and acks: T1 of what we sent, T2 and T3 of the collector, T4 of its arrival.
//!
//! What bounds UTC here is causal: a message was sent before it was received, an answer received after it was sent. So
//! queueing widens an exchange and never falsifies it. What could falsify one is a clock of the collector that steps
//! between T2 and T3; such a reply claims more time at the collector than passed here, and is not used.

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
/// Longest a probe that is due waits for a quiet moment of the link.
pub(super) const PROBE_PATIENCE_NS: i64 = 8 * NS_PER_S;
/// Both clocks of an exchange may run up to 50 ppm apart from the truth, each its own way.
const RATES_PPB: i64 = 100_000;

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

    /// True if no pair of clocks that run as they should can have given these stamps: the answer before the question,
    /// or more time between T2 and T3 than between T1 and T4 around them.
    fn is_absurd(&self) -> bool {
        let around = self.t4.since(self.t1);
        let drift = i128::from(around) * i128::from(RATES_PPB) / i128::from(NS_PER_S) + 1;
        self.t3 < self.t2 || self.e_c_ns < 0 || i128::from(self.rtt_ns()) < -drift
    }

    /// What makes one exchange better than another: what it promises, then the width of what it leaves open, ns.
    fn rank(&self) -> (std::cmp::Reverse<Grade>, i64) {
        (std::cmp::Reverse(self.grade), self.rtt_ns().saturating_add(self.e_c_ns.saturating_mul(2)))
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
    /// Fewest bytes in flight seen since the last probe.
    quietest: usize,
    absurd: u64,
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
            quietest: usize::MAX,
            absurd: 0,
        }
    }

    /// A hello was answered on a new link: probe soon.
    pub(super) fn linked(&mut self, now: BootNanos) {
        (self.probes, self.windows) = (0, 0);
        self.quietest = usize::MAX;
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

    /// So many bytes are in flight.
    pub(super) fn in_flight(&mut self, bytes: usize) {
        self.quietest = self.quietest.min(bytes);
    }

    /// True if a probe should go now: it is due, and the link as quiet as it has been since the last one, or patience is
    /// over. Behind a full pipe an exchange would measure the pipe.
    pub(super) fn probe_due(&self, now: BootNanos, bytes_in_flight: usize) -> bool {
        self.probe_at.is_some_and(|at| {
            now >= at && (bytes_in_flight <= self.quietest || now.since(at) >= PROBE_PATIENCE_NS)
        })
    }

    /// When to ask again whether a probe should go.
    pub(super) fn probe_at(&self, bytes_in_flight: usize) -> Option<BootNanos> {
        let quiet = bytes_in_flight <= self.quietest;
        self.probe_at.map(|at| if quiet { at } else { at.plus_ns(PROBE_PATIENCE_NS) })
    }

    /// Replies that no clocks that run as they should can have given.
    pub(super) fn absurd(&self) -> u64 {
        self.absurd
    }

    pub(super) fn probed(&mut self, now: BootNanos) {
        self.quietest = usize::MAX;
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
            if exchange.is_absurd() {
                self.absurd = self.absurd.saturating_add(1);
                return self.due(t4);
            }
            // A source that changes is another clock: both are worth keeping, so the old one goes out.
            let other = self.best.is_some_and(|best| best.source_id != exchange.source_id);
            if other {
                return self.best.replace(exchange);
            }
            if self.best.is_none_or(|best| exchange.rank() < best.rank()) {
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
        assert_eq!(exchanges.probe_at(0), None);
        exchanges.linked(BootNanos(0));
        let mut at = Vec::new();
        for _ in 0..10 {
            let due = exchanges.probe_at(0).unwrap();
            at.push(due.0 / NS_PER_S);
            exchanges.probed(due);
        }
        assert_eq!(at, [16, 32, 48, 64, 80, 96, 112, 128, 192, 256]);
    }

    #[test]
    fn a_probe_waits_for_a_moment_as_quiet_as_any_and_not_for_ever() {
        let mut exchanges = Exchanges::new(BootOrdinal(4));
        exchanges.linked(BootNanos(0));
        let s = |n: i64| BootNanos(n * NS_PER_S);
        [90_000, 20_000, 70_000].into_iter().for_each(|bytes| exchanges.in_flight(bytes));
        assert!(!exchanges.probe_due(s(15), 0), "not due yet");
        assert!(!exchanges.probe_due(s(16), 70_000), "it was quieter before");
        assert_eq!(exchanges.probe_at(70_000), Some(s(24)));
        assert!(exchanges.probe_due(s(17), 20_000));
        assert!(exchanges.probe_due(s(24), 90_000), "patience is over");
        exchanges.probed(s(24));
        exchanges.in_flight(50_000);
        assert!(exchanges.probe_due(s(40), 50_000), "what counts is the time since the last one");
    }

    /// A clock of the collector that steps between T2 and T3 would make the best exchange of all: a negative round trip.
    #[test]
    fn a_reply_that_claims_more_time_than_passed_here_is_not_used() {
        let mut exchanges = Exchanges::new(BootOrdinal(4));
        let honest = reply(100, 0);
        let stepped = ClockReply { t3_ns: honest.t3_ns + 500_000_000, ..honest };
        let back = ClockReply { t3_ns: honest.t2_ns - 1, ..honest };
        let bound = ClockReply { e_c_ns: -1, ..honest };
        for (n, lie) in [stepped, back, bound].into_iter().enumerate() {
            exchanges.sent(BootNanos(100));
            assert_eq!(exchanges.reply(&lie, BootNanos(400)), None);
            assert_eq!(exchanges.absurd(), n as u64 + 1);
        }
        // Within what crystals may differ: 100 ns in a millisecond.
        exchanges.sent(BootNanos(100));
        let hurried = ClockReply { t3_ns: honest.t2_ns + 1_000_050, ..honest };
        assert!(exchanges.reply(&hurried, BootNanos(1_000_100)).is_some());
    }

    #[test]
    fn a_better_promise_beats_a_shorter_way() {
        let mut exchanges = Exchanges::new(BootOrdinal(4));
        exchanges.sent(BootNanos(0));
        assert!(exchanges.reply(&reply(0, 0), BootNanos(50)).is_some(), "the first goes at once");
        for (t1, took, grade, e_c_ns) in [
            (1_000, 80, Grade::Estimated, 5),
            (2_000, 900, Grade::Guaranteed, 5),
            (3_000, 100, Grade::Guaranteed, 5_000),
        ] {
            exchanges.sent(BootNanos(t1));
            let reply = ClockReply { grade, e_c_ns, ..reply(t1, 0) };
            assert_eq!(exchanges.reply(&reply, BootNanos(t1 + took)), None);
        }
        assert_eq!(exchanges.due(BootNanos(QUICK_NS + 50)).map(|best| best.t1), Some(BootNanos(2_000)));
    }
}

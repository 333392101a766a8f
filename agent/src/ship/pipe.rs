//! The pipe to the broker: what was handed over and not yet PUBACKed, and how much of it may be.
//!
//! A slow link with a large window livelocks (pings wait behind data) and delays alarms, so the window
//! starts at one message, grows by one per round trip, and stays below rate × keepalive / 3.

use headwater_core::ports::SPAN_MAX;
use headwater_core::time::{BootNanos, NS_PER_S};
use std::collections::BTreeMap;
use std::ops::Range;

/// Most bytes un-PUBACKed, unless the settings say less.
pub(super) const WINDOW_BYTES_MAX: usize = 4 << 20;
/// Ceiling of the first pause after a broker's quota was used up, and of the longest.
const HOLD_NS_START: i64 = NS_PER_S;
const HOLD_NS_MAX: i64 = 60 * NS_PER_S;
/// Least time without a PUBACK before the link counts as dead: faster than two keepalives.
const STALL_NS_MIN: i64 = 20 * NS_PER_S;
/// Rate assumed for a link that never told: a bad cellular one, bytes/s.
const RATE_UNKNOWN: u64 = 10_000;
/// Slowest rate believed, bytes/s, so that a stall is found in bounded time.
const RATE_MIN: u64 = 1_000;

/// What a message carried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Freight {
    /// Nothing that is waited for here (hello, declaration, probe).
    Control,
    /// A batch.
    Batch(u64),
    /// A byte range of a blob.
    Part(u64, Range<u64>),
}

#[derive(Debug)]
struct Piped {
    bytes: usize,
    at: BootNanos,
    delivered: u64,
    freight: Freight,
}

#[derive(Debug)]
pub(super) struct Pipe {
    window: usize,
    step: usize,
    keepalive_s: u64,
    flying: BTreeMap<u64, Piped>,
    bytes: usize,
    next: u64,
    delivered: u64,
    /// Bytes/s of late.
    rate: Option<u64>,
    /// Smoothed time from hand-over to PUBACK, ns.
    rtt_ns: i64,
    progress: BootNanos,
    /// Most publishes between the oldest un-PUBACKed and the newest.
    span_max: u64,
    window_max: usize,
    /// Until when only control passes, and how long the last such pause was.
    held: Option<(BootNanos, i64)>,
}

impl Pipe {
    pub(super) fn new(message_bytes_max: usize, keepalive_s: u64) -> Self {
        Self {
            window: message_bytes_max,
            step: message_bytes_max,
            keepalive_s,
            flying: BTreeMap::new(),
            bytes: 0,
            next: 0,
            delivered: 0,
            rate: None,
            rtt_ns: 0,
            progress: BootNanos(0),
            span_max: SPAN_MAX,
            window_max: WINDOW_BYTES_MAX,
            held: None,
        }
    }

    pub(super) fn with_window_max(self, bytes: usize) -> Self {
        Self { window_max: bytes, ..self }
    }

    /// What the link says of its span.
    pub(super) fn limit_span(&mut self, span: u64) {
        self.span_max = span.max(1);
    }

    /// Messages of at most so many bytes from now on.
    pub(super) fn limit_step(&mut self, message_bytes_max: usize) {
        self.step = message_bytes_max.max(1);
        self.window = self.window.clamp(self.step, self.ceiling());
    }

    /// The broker refused message `n`: it is out of the pipe, and no measure of anything.
    pub(super) fn refused(&mut self, now: BootNanos, n: u64) -> Option<(Freight, usize)> {
        let piped = self.flying.remove(&n)?;
        self.bytes = self.bytes.saturating_sub(piped.bytes);
        self.progress = now;
        Some((piped.freight, piped.bytes))
    }

    /// Halves the window and lets only control pass for a while, doubled each time in a row.
    pub(super) fn hold(&mut self, now: BootNanos) {
        self.window = (self.window / 2).max(self.step);
        let running = self.held.is_some_and(|(until, _)| now < until);
        if !running {
            let pause = self.held.map_or(HOLD_NS_START, |(_, last)| last.saturating_mul(2).min(HOLD_NS_MAX));
            self.held = Some((now.plus_ns(pause), pause));
        }
    }

    /// Until when only control passes.
    pub(super) fn held_until(&self) -> Option<BootNanos> {
        self.held.map(|(until, _)| until)
    }

    /// True while only control passes.
    pub(super) fn is_held(&self, now: BootNanos) -> bool {
        self.held_until().is_some_and(|until| now < until)
    }

    /// A new link: counts from 0.
    pub(super) fn opened(&mut self, now: BootNanos, message_bytes_max: usize) {
        self.step = message_bytes_max.max(1);
        self.window = self.window.clamp(self.step, self.ceiling());
        self.next = 0;
        self.delivered = 0;
        self.progress = now;
    }

    /// The link is gone: what was in it may or may not have arrived.
    pub(super) fn closed(&mut self) -> Vec<Freight> {
        self.window = (self.window / 2).max(self.step);
        self.bytes = 0;
        std::mem::take(&mut self.flying).into_values().map(|piped| piped.freight).collect()
    }

    /// True if there is room in span at all.
    pub(super) fn has_span(&self) -> bool {
        self.flying
            .first_key_value()
            .is_none_or(|(oldest, _)| self.next.saturating_sub(*oldest) < self.span_max)
    }

    /// True if a message of `bytes` fits now. An empty pipe takes any; `reserve` bytes come on top of the window.
    pub(super) fn has_room(&self, bytes: usize, reserve: usize) -> bool {
        self.has_span()
            && (self.flying.is_empty()
                || self.bytes.saturating_add(bytes) <= self.window.saturating_add(reserve))
    }

    /// Takes a message; gives its number on this link.
    pub(super) fn hand_over(&mut self, now: BootNanos, bytes: usize, freight: Freight) -> u64 {
        if self.flying.is_empty() {
            self.progress = now;
        }
        let n = self.next;
        self.flying.insert(n, Piped { bytes, at: now, delivered: self.delivered, freight });
        self.bytes = self.bytes.saturating_add(bytes);
        self.next = self.next.saturating_add(1);
        n
    }

    /// The broker took message `n`; `None` if it was not waited for.
    pub(super) fn acked(&mut self, now: BootNanos, n: u64) -> Option<Freight> {
        let limited = self.bytes.saturating_add(self.step) > self.window;
        let piped = self.flying.remove(&n)?;
        self.bytes = self.bytes.saturating_sub(piped.bytes);
        self.delivered = self.delivered.saturating_add(piped.bytes as u64);
        self.progress = now;
        let took = now.since(piped.at).max(1);
        self.rtt_ns =
            if self.rtt_ns == 0 { took } else { (self.rtt_ns.saturating_mul(7)).saturating_add(took) / 8 };
        let moved = self.delivered.saturating_sub(piped.delivered);
        let took = u64::try_from(took).unwrap_or(1);
        let rate = u128::from(moved) * 1_000_000_000 / u128::from(took);
        let rate = u64::try_from(rate).unwrap_or(u64::MAX);
        // Quick to believe more, slow to believe less: a lone small message says little about the link.
        self.rate = Some(match self.rate {
            Some(old) if rate < old => old - (old - rate) / 16,
            Some(old) => old.saturating_add((rate - old) / 2),
            None => rate,
        });
        // What it took after a pause ends the series of pauses.
        if self.held.is_some_and(|(until, _)| now >= until && piped.at >= until) {
            self.held = None;
        }
        if limited {
            let grow = self.step.saturating_mul(piped.bytes) / self.window.max(1);
            self.window = self.window.saturating_add(grow);
        }
        self.window = self.window.clamp(self.step, self.ceiling());
        Some(piped.freight)
    }

    fn ceiling(&self) -> usize {
        let by_rate = self.rate.map_or(self.window_max, |rate| {
            usize::try_from(rate.saturating_mul(self.keepalive_s) / 3).unwrap_or(usize::MAX)
        });
        by_rate.min(self.window_max).max(self.step)
    }

    /// When the link counts as dead, unless a PUBACK comes.
    pub(super) fn stalls_at(&self) -> Option<BootNanos> {
        if self.flying.is_empty() {
            return None;
        }
        let rate = self.rate.unwrap_or(RATE_UNKNOWN).max(RATE_MIN);
        let drain_s = i64::try_from((self.bytes as u64) / rate).unwrap_or(i64::MAX);
        let patience = STALL_NS_MIN.max(self.rtt_ns.saturating_mul(4));
        Some(self.progress.plus_ns(patience.saturating_add(drain_s.saturating_mul(NS_PER_S))))
    }

    /// Bytes/s of late, if any were seen.
    pub(super) fn rate(&self) -> Option<u64> {
        self.rate
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.flying.is_empty()
    }

    #[cfg(test)]
    pub(super) fn window(&self) -> usize {
        self.window
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KB: usize = 1024;

    fn ms(ms: u64) -> BootNanos {
        BootNanos(0).plus_ms(ms)
    }

    #[test]
    fn starts_with_one_message_and_grows_by_one_per_round_trip() {
        let mut pipe = Pipe::new(96 * KB, 60);
        pipe.opened(ms(0), 96 * KB);
        let mut now = 0;
        let mut per_trip = Vec::new();
        for _ in 0..5 {
            let mut sent = Vec::new();
            while pipe.has_room(96 * KB, 0) {
                sent.push(pipe.hand_over(ms(now), 96 * KB, Freight::Control));
            }
            per_trip.push(sent.len());
            now += 50;
            sent.into_iter().for_each(|n| assert!(pipe.acked(ms(now), n).is_some()));
        }
        assert_eq!(per_trip[0], 1);
        assert!(per_trip.windows(2).all(|w| w[1] <= w[0] + 1) && per_trip[4] >= 3, "{per_trip:?}");
        assert!(pipe.acked(ms(now), 0).is_none(), "a second PUBACK frees nothing");
        let before = pipe.window();
        assert!(pipe.closed().is_empty());
        assert!(pipe.window() <= before / 2 + 1);
    }

    #[test]
    fn the_span_holds_although_younger_messages_were_acked() {
        let mut pipe = Pipe::new(96 * KB, 60);
        pipe.opened(ms(0), 96 * KB);
        for n in 0..SPAN_MAX {
            assert!(pipe.has_room(1, 0));
            pipe.hand_over(ms(0), 1, Freight::Batch(n));
            if n > 0 {
                assert_eq!(pipe.acked(ms(1), n), Some(Freight::Batch(n)));
            }
        }
        assert!(!pipe.has_room(1, 0), "the oldest is still out");
        assert_eq!(pipe.acked(ms(2), 0), Some(Freight::Batch(0)));
        assert!(pipe.has_room(1, 0));
    }

    #[test]
    fn a_slow_link_keeps_its_window_below_a_third_of_a_keepalive() {
        let mut pipe = Pipe::new(8 * KB, 6);
        pipe.opened(ms(0), 8 * KB);
        let (mut now, mut queue) = (0_u64, std::collections::VecDeque::new());
        for _ in 0..300 {
            while pipe.has_room(8 * KB, 0) {
                queue.push_back(pipe.hand_over(ms(now), 8 * KB, Freight::Control));
            }
            // 20 KB/s: a message each 410 ms.
            now += 410;
            let n = queue.pop_front().unwrap();
            pipe.acked(ms(now), n);
        }
        assert!(pipe.bytes() <= 20_000 * 6 / 3 + 8 * KB, "{} in flight", pipe.bytes());
    }

    #[test]
    fn silence_is_found_in_bounded_time() {
        let mut pipe = Pipe::new(96 * KB, 60);
        pipe.opened(ms(0), 96 * KB);
        assert_eq!(pipe.stalls_at(), None);
        pipe.hand_over(ms(0), 96 * KB, Freight::Control);
        let at = pipe.stalls_at().unwrap();
        assert!(at >= ms(20_000) && at <= ms(40_000), "{at:?}");
    }
}

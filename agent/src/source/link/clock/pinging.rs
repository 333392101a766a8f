//! When to ask a board for its time, and which answers were asked for: one question under way, each answer once.

use super::super::super::framing::{Decoded, Notice};
use crate::telemetry::Counter;
use headwater_core::time::BootNanos;

/// Between questions, ms, once a clock is known.
const SLOW_MS: u64 = 1_000;
/// Between questions while it is new, ms.
const QUICK_MS: u64 = 100;
/// Questions come early by up to this share of their distance, spread evenly: asked each full second, an adapter whose
/// 16 ms timer ran in step would hold every answer for as long.
const SPREAD_SHARE: u64 = 16;
/// The golden ratio, parts of 2^16: its multiples are spread evenly however many there are.
const SPREAD_STEP: u16 = 40_503;
/// How long a clock is new after its first answer, ms.
const QUICK_FOR_MS: u64 = 3_000;
/// An answer is waited for this long, ms: one that was queued for longer bounds nothing worth a row.
const PATIENCE_MS: u64 = 1_000;

/// A question under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asked {
    seq: u16,
    /// Boot time before it was written.
    pub(super) t1: BootNanos,
    /// Its bytes on the wire.
    pub(super) bytes: usize,
}

/// Why an answer gives no exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// Nobody asked, or it was answered already, or too late.
    Unasked,
    /// Its times cannot be.
    Impossible,
}

/// The schedule.
#[derive(Debug)]
pub(super) struct Pinging {
    seq: u16,
    asked: Option<Asked>,
    ask_at: BootNanos,
    quick_until: Option<BootNanos>,
}

impl Default for Pinging {
    fn default() -> Self {
        Self { seq: 0, asked: None, ask_at: BootNanos(i64::MIN), quick_until: None }
    }
}

impl Pinging {
    /// Another clock: what is under way is of the old one.
    pub(super) fn begin(&mut self, now: BootNanos) {
        (self.asked, self.quick_until, self.ask_at) = (None, None, now);
    }

    /// When [`Pinging::ask`] has something to do.
    pub(super) fn ask_at(&self) -> BootNanos {
        let patient = self.asked.map(|asked| asked.t1.plus_ms(PATIENCE_MS));
        patient.map_or(self.ask_at, |until| self.ask_at.max(until))
    }

    /// A question, if it is time for one: seq and t1 in µs as its header says them.
    pub(super) fn ask(&mut self, now: BootNanos, bytes: usize, out: &mut Decoded) -> Option<(u16, u64)> {
        if now < self.ask_at() {
            return None;
        }
        if self.asked.take().is_some() {
            out.notices.push(Notice::Count(Counter::PingsUnanswered, 1));
        }
        self.seq = self.seq.wrapping_add(1);
        self.asked = Some(Asked { seq: self.seq, t1: now, bytes });
        let quick = self.quick_until.is_some_and(|until| now < until);
        let usual_ms = if quick { QUICK_MS } else { SLOW_MS };
        let share = u64::from(self.seq.wrapping_mul(SPREAD_STEP));
        let early_ns = (usual_ms * 1_000_000 / SPREAD_SHARE).saturating_mul(share) >> 16;
        self.ask_at = now.plus_ms(usual_ms).plus_ns(i64::try_from(early_ns).unwrap_or(0).saturating_neg());
        Some((self.seq, t_us(now)))
    }

    /// The question that this answers; it is answered then.
    pub(super) fn answered(&mut self, seq: u16, t1_us: u64) -> Result<Asked, Refused> {
        self.asked.take_if(|asked| asked.seq == seq && t_us(asked.t1) == t1_us).ok_or(Refused::Unasked)
    }

    /// An exchange was made: the first of a clock begins its quick time.
    pub(super) fn met(&mut self, at: BootNanos) {
        if self.quick_until.is_none() {
            self.quick_until = Some(at.plus_ms(QUICK_FOR_MS));
            self.ask_at = at.plus_ms(QUICK_MS);
        }
    }
}

fn t_us(at: BootNanos) -> u64 {
    u64::try_from(at.0.div_euclid(1_000)).unwrap_or(0)
}

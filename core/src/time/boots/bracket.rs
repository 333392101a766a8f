//! Between which moments a stretch without a clock of its own must lie.

use super::WIDE_NS;
use crate::id::BootOrdinal;
use crate::time::cone::drift_by_ns;
use crate::time::span::Span;
use crate::time::statement::Receipt;
use crate::time::track::{Params, Placed, Track};
use crate::time::{BootNanos, UtcNanos, clamp_i64};
use std::sync::Arc;

/// An unbroken stretch of a boot, and what is known of it from outside.
#[derive(Debug)]
struct Stretch {
    boot: BootOrdinal,
    start: i64,
    /// Latest moment known of it.
    last: i64,
    rho_ppb: i64,
    receipt: Option<Receipt>,
    /// UTC at `start` is no earlier.
    floor: i128,
    /// UTC at `last` is no later.
    ceiling: i128,
}

/// The stretches of all boots, in order.
#[derive(Debug)]
pub(super) struct Brackets(Vec<Stretch>);

impl Brackets {
    pub(super) fn of<'a>(
        params: &Params,
        boots: impl Iterator<Item = (BootOrdinal, Arc<Track>, &'a [Receipt], Option<BootNanos>)>,
    ) -> Self {
        let mut stretches = Vec::new();
        // What the clocks of each stretch say of its start and its last moment.
        let mut known: Vec<(Span, Span)> = Vec::new();
        for (boot, track, receipts, last) in boots {
            for (from, to) in track.stretches() {
                // A boot line starts at 0.
                let start = from.map_or(0, |from| from.0);
                let within = |at: i64| from.is_none_or(|from| from.0 <= at) && to.is_none_or(|to| at <= to.0);
                let last = last.map_or(start, |last| last.0.min(to.map_or(i64::MAX, |to| to.0))).max(start);
                let receipt = receipts.iter().copied().find(|receipt| within(receipt.at.0));
                let (floor, ceiling) = (i128::from(params.floor.0), i128::from(i64::MAX));
                let said = |at: i64| track.place(BootNanos(at)).span;
                let both = (said(start), said(last));
                let closed = both.0.is_closed() && both.1.is_closed();
                known.push(if closed { both } else { (Span::OPEN, Span::OPEN) });
                stretches.push(Stretch {
                    boot,
                    start,
                    last,
                    rho_ppb: track.rho_ppb(),
                    receipt,
                    floor,
                    ceiling,
                });
            }
        }
        let mut floor = i128::from(params.floor.0);
        for (stretch, (_, last)) in stretches.iter_mut().zip(&known) {
            stretch.floor = floor;
            floor += stretch.length();
            if last.is_closed() {
                floor = floor.max(i128::from(last.lo));
            }
        }
        let mut ceiling = i128::from(i64::MAX);
        for (stretch, (start, _)) in stretches.iter_mut().zip(&known).rev() {
            let received = stretch.receipt.map(|receipt| stretch.above(receipt, stretch.last));
            stretch.ceiling = ceiling.min(received.unwrap_or(ceiling));
            ceiling = stretch.ceiling - stretch.length();
            if start.is_closed() {
                ceiling = ceiling.min(i128::from(start.hi));
            }
        }
        Self(stretches)
    }

    /// What is open in a boot's own answer is closed by its bracket. Such an answer promises order only.
    pub(super) fn narrow(&self, boot: BootOrdinal, b: BootNanos, placed: Placed) -> Placed {
        let mine = self.0.iter().filter(|stretch| stretch.boot == boot);
        let stretch =
            mine.rev().find(|stretch| stretch.start <= b.0).or(self.0.iter().find(|s| s.boot == boot));
        let Some(stretch) = stretch else { return placed };
        let lo = stretch.floor_at(b.0);
        let mut hi = stretch.ceiling_at(b.0);
        if hi >= i128::from(i64::MAX) && placed.span.hi == i64::MAX {
            hi = lo.max(i128::from(placed.span.lo)) + i128::from(WIDE_NS);
        }
        let span = placed.span.meet(Span { lo: clamp_i64(lo), hi: clamp_i64(hi) });
        let conflict = placed.conflict || span.is_empty();
        let span = span.upright();
        Placed { span, ts: span.middle(), conflict, ..placed }
    }

    /// From the start of a boot to the receipt of what it sent.
    pub(super) fn whole(&self, boot: BootOrdinal, received: UtcNanos) -> Span {
        let floor = self.0.iter().find(|stretch| stretch.boot == boot).map(|stretch| stretch.floor);
        Span { lo: floor.map_or(i64::MIN, clamp_i64), hi: received.0 }.upright()
    }
}

impl Stretch {
    /// How much UTC passed in it, at least.
    fn length(&self) -> i128 {
        let passed = i128::from(self.last) - i128::from(self.start);
        passed - drift_by_ns(passed, self.rho_ppb)
    }

    fn floor_at(&self, b: i64) -> i128 {
        let passed = (i128::from(b) - i128::from(self.start)).max(0);
        self.floor + passed - drift_by_ns(passed, self.rho_ppb)
    }

    fn ceiling_at(&self, b: i64) -> i128 {
        if self.ceiling >= i128::from(i64::MAX) {
            return self.ceiling;
        }
        let left = i128::from(self.last) - i128::from(b);
        self.ceiling - left + drift_by_ns(left, self.rho_ppb)
    }

    /// What a receipt says of UTC at `b`: no later than this.
    fn above(&self, receipt: Receipt, b: i64) -> i128 {
        let distance = i128::from(b) - i128::from(receipt.at.0);
        i128::from(receipt.received.0) + distance + drift_by_ns(distance, self.rho_ppb)
    }
}

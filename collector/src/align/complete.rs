//! Whether a row is final: nothing can still come that would change what its columns match (pure).
//!
//! For each stream a column reads two held samples are looked for, one surely before all that matters to the row and one
//! surely after it; every seq between them must be held or declared missing. A promise of the stream can stand for the
//! later one. So coverage is a set of stretches and no watermark: live rows are final while a backlog is drained.
//!
//! A column that takes one sample on a side is decided by the nearest that holds a value, and by the one beyond it that
//! is farther off than the two can be told apart: it says whether the match is ambiguous. A window is decided by its edges.

use super::buffer::Buffer;
use super::need::{Need, NeedKind};
use super::promise::Promise;
use crate::dedup::{Ledger, StreamKey};
use headwater_core::id::BootOrdinal;
use headwater_core::time::clamp_i64;
use headwater_core::time::cone::drift_ns;
use std::ops::Range;

/// The instant of a row, as one stream sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Its boot and event time, ns, if it is of the stream's own gateway and epoch; else only UTC tells the two apart.
    pub own: Option<(BootOrdinal, i64)>,
    /// Half width of the event, ns.
    pub half_ns: i64,
    /// UTC, ns.
    pub ts_ns: i64,
}

/// One stream as far as it is known.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// Whose.
    pub key: &'a StreamKey,
    /// Its samples, settled.
    pub samples: &'a Buffer,
    /// Its newest promise, and the UTC of that as far as it can be told, ns.
    pub promise: Option<(Promise, Option<i64>)>,
    /// Which of its seqs are held, and which declared missing.
    pub ledger: &'a Ledger,
    /// A sample may be this much earlier than one of a lower seq, ns.
    pub max_out_of_order_ns: i64,
}

/// A moment with the column's offset taken out, and how far apart samples must be to be told from one another, ns.
#[derive(Debug, Clone, Copy)]
struct Seen {
    own: Option<(BootOrdinal, i64)>,
    ts_ns: i64,
    apart: i64,
    /// The same and the disorder of seqs.
    sigma: i64,
}

impl Known<'_> {
    /// True if nothing can still come that matters to the row.
    #[must_use]
    pub fn covers(&self, moment: &Moment, need: &Need) -> bool {
        let seen = self.seen(moment, need);
        let Some(end) = self.end(seen, need) else { return false };
        let from = self.start(seen, need).map_or(0, |seq| seq.saturating_add(1));
        from >= end || self.ledger.accounts_for(self.key, from..end)
    }

    /// True if every sample up to the instant is held or recorded as missing, from the stream's first on.
    #[must_use]
    pub fn covers_all_before(&self, moment: &Moment) -> bool {
        let need =
            Need { kind: NeedKind::Stretch, back_ns: 0, forward_ns: 0, offset_ns: 0, takes_nulls: true };
        let end = self.end(self.seen(moment, &need), &need);
        end.is_some_and(|end| self.ledger.accounts_for(self.key, 0..end))
    }

    /// True if the row may need samples that were let go.
    #[must_use]
    pub fn reaches_below(&self, moment: &Moment, need: &Need) -> bool {
        let Some(dropped) = self.samples.dropped() else { return false };
        let seen = self.seen(moment, need);
        let below = need.back_ns.max(0).saturating_add(seen.sigma);
        seen.ts_ns.saturating_sub(below) <= dropped.ts_ns
    }

    /// Places of the samples that the row's match, its flags and its fallback are made of, and some beside.
    #[must_use]
    pub fn slice(&self, moment: &Moment, need: &Need) -> Range<usize> {
        let seen = self.seen(moment, need);
        let low = self.below(seen, need.back_ns.max(0).saturating_add(seen.sigma));
        let nearest = self.nearest_below(seen, need);
        let low = nearest.map_or(low, |nearest| low.min(self.apart_below(nearest, seen)));
        // One of nulls is no candidate, and tells where what is missing ends.
        let below = |takes_nulls| self.samples.newest_below(low, takes_nulls);
        let first = below(false).or_else(|| below(true)).unwrap_or(low);

        let ahead = need.forward_ns.max(0).saturating_add(seen.apart).saturating_add(seen.sigma);
        let high = self.above(seen, ahead);
        let high = self.beyond_nearest(seen, need).map_or(high, |beyond| high.max(beyond));
        let last = self.samples.oldest_from(high, false).unwrap_or(high);
        first..last.saturating_add(1).min(self.samples.len())
    }

    /// `sigma` is that of two distances of one boot and the disorder; of two boots, and two gateways, estimates decide:
    /// their errors may be wider than any boot.
    fn seen(&self, moment: &Moment, need: &Need) -> Seen {
        let drift = clamp_i64(drift_ns(need.reach_ns().into()));
        let half = moment.half_ns.saturating_add(self.samples.half_max_ns()).saturating_add(drift);
        let own = moment.own.map(|(boot, event_ns)| (boot, event_ns.saturating_sub(need.offset_ns)));
        let apart = if own.is_some() { half.saturating_mul(2) } else { 0 };
        Seen {
            own,
            ts_ns: moment.ts_ns.saturating_sub(need.offset_ns),
            apart,
            sigma: apart.saturating_add(self.max_out_of_order_ns),
        }
    }

    /// Number of samples that lie, with all before them, more than `back` before the instant.
    fn below(&self, seen: Seen, back: i64) -> usize {
        let utc = || self.samples.before_utc(seen.ts_ns.saturating_sub(back));
        let Some((boot, event_ns)) = seen.own else { return utc() };
        let lo = event_ns.saturating_sub(back);
        let same = self.samples.upto(boot, lo.saturating_sub(1));
        let first = self.samples.upto(boot, i64::MIN);
        // Of an earlier boot by UTC: a stretch may reach into it.
        if same > first { same } else { first.min(utc()) }
    }

    /// First sample that lies, with all after it, more than `ahead` after the instant.
    fn above(&self, seen: Seen, ahead: i64) -> usize {
        let utc = || self.samples.after_utc(seen.ts_ns.saturating_add(ahead));
        let Some((boot, event_ns)) = seen.own else { return utc() };
        let at = self.samples.upto(boot, event_ns.saturating_add(ahead));
        match self.samples.place(at) {
            Some(place) if place.boot != boot => at.max(utc()),
            _ => at,
        }
    }

    /// Seq of the newest sample before all that matters.
    fn start(&self, seen: Seen, need: &Need) -> Option<u64> {
        let back = need.back_ns.saturating_add(seen.sigma);
        let found = match need.kind {
            NeedKind::Stretch => self.samples.newest_below(self.below(seen, back), need.takes_nulls),
            NeedKind::Before | NeedKind::Around => self
                .nearest_below(seen, need)
                .and_then(|at| self.samples.newest_below(self.apart_below(at, seen), need.takes_nulls)),
        };
        let found = found.and_then(|at| self.samples.place(at)).map(|place| place.seq);
        found.max(self.samples.dropped().map(|dropped| dropped.seq))
    }

    /// The newest sample surely before the instant that holds a value.
    fn nearest_below(&self, seen: Seen, need: &Need) -> Option<usize> {
        let at = match seen.own {
            Some((boot, event_ns)) => {
                self.samples.upto(boot, event_ns.saturating_sub(seen.sigma).saturating_sub(1))
            }
            None => self.samples.before_utc(seen.ts_ns.saturating_sub(seen.sigma)),
        };
        self.samples.newest_below(at, need.takes_nulls)
    }

    /// Number of samples surely before one, in order.
    fn apart_below(&self, at: usize, seen: Seen) -> usize {
        let Some(place) = self.samples.place(at) else { return 0 };
        let lo = place.event_ns.saturating_sub(seen.sigma).saturating_sub(1);
        self.samples.upto(place.boot, lo).min(at)
    }

    /// The first seq after all that matters.
    fn end(&self, seen: Seen, need: &Need) -> Option<u64> {
        let ahead = need.forward_ns.saturating_add(seen.apart).saturating_add(seen.sigma);
        let far = match (need.kind, seen.own) {
            // A later boot follows in order, however near it may be.
            (NeedKind::Before, Some((boot, event_ns))) => {
                self.samples.upto(boot, event_ns.saturating_add(ahead))
            }
            _ => self.above(seen, ahead),
        };
        let near = if need.kind == NeedKind::Around { self.beyond_nearest(seen, need) } else { None };
        let held = near.unwrap_or(far).min(far);
        let held = self.samples.place(held).map(|place| place.seq);

        let is_after = |boot: BootOrdinal, event_ns: i64, ts_ns: Option<i64>| match seen.own {
            Some((own, event)) if own == boot => event_ns > event.saturating_add(ahead),
            Some((own, _)) if boot < own => false,
            Some(_) if need.kind == NeedKind::Before => true,
            _ => ts_ns.is_some_and(|ts_ns| ts_ns > seen.ts_ns.saturating_add(ahead)),
        };
        // A promise holds whatever the disorder of seqs.
        let slack = self.max_out_of_order_ns;
        let promised = self.promise.filter(|(promise, ts)| {
            let (b, ts) = (promise.promise_b.0.saturating_add(slack), ts.map(|ts| ts.saturating_add(slack)));
            is_after(promise.boot, b, ts)
        });
        let promised = promised.map(|(promise, _)| promise.next_seq.0);
        held.into_iter().chain(promised).min()
    }

    /// The first sample surely after the nearest one that holds a value.
    fn beyond_nearest(&self, seen: Seen, need: &Need) -> Option<usize> {
        let at = match seen.own {
            Some((boot, event_ns)) => self.samples.upto(boot, event_ns.saturating_add(seen.sigma)),
            None => self.samples.after_utc(seen.ts_ns.saturating_add(seen.sigma)),
        };
        let nearest = self.samples.place(self.samples.oldest_from(at, need.takes_nulls)?)?;
        let beyond = self.samples.upto(nearest.boot, nearest.event_ns.saturating_add(seen.sigma));
        (beyond < self.samples.len()).then_some(beyond)
    }
}

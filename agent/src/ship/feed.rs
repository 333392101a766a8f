//! What of a spool lane is read next: the fresh end of it, or what waited for a link.
//!
//! A lane is read at two places at once. *Live* follows the end of the spool. When the slab it comes to is
//! older than the live window, live jumps ahead, and what it left out becomes *backlog*, which is read beside it:
//! a gateway that was away for days shows the present at once. Reading a place twice is harmless: rows that were
//! taken or acked are passed over.

use headwater_core::id::BootOrdinal;
use headwater_core::ports::{Cursor, Position, SERIES_PER_LANE, SlabTime, SpooledSlab};
use headwater_core::time::BootNanos;

/// Stretches of backlog told apart; beyond it the oldest two become one, read again where they are apart.
const SPANS_MAX: usize = 8;
/// Bytes read forward before the next older stretch, newest first: a segment.
pub(super) const STRETCH_BYTES: u64 = 8 << 20;

/// Which backlog goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BacklogOrder {
    /// In the order it was captured.
    #[default]
    Oldest,
    /// The newest stretch first, each from its start.
    Newest,
}

/// Beyond the end of every series: nothing is read of one that stands here.
const PARKED: Position = Position { segno: u64::MAX, offset: u64::MAX };

/// From a place up to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) from: Cursor,
    pub(super) until: Cursor,
}

impl Stretch {
    /// The same, without the series that have nothing in it.
    fn parked(mut self) -> Self {
        for series in 0..SERIES_PER_LANE {
            if self.from.at(series) >= self.until.at(series) {
                self.from = self.from.moved(series, PARKED);
            }
        }
        self
    }
}

/// What the backlog needs next.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "one at a time, on its way between two calls")]
pub(super) enum Need {
    /// Slabs from here on.
    Read(Cursor),
    /// The start of the newest part of this stretch.
    Split(Stretch),
}

/// Where reading a lane stands.
#[derive(Debug, Default)]
pub(super) struct Feed {
    order: BacklogOrder,
    live: Cursor,
    /// There may be more at the live end.
    live_more: bool,
    /// In the order of time.
    waiting: Vec<Stretch>,
    /// What is read of them now.
    reading: Option<Stretch>,
    /// The last read of backlog failed: tried again with the next news.
    held_up: bool,
}

impl Feed {
    pub(super) fn new(order: BacklogOrder) -> Self {
        Self { order, live_more: true, ..Self::default() }
    }

    /// Everything is read again from the start.
    pub(super) fn rewind(&mut self) {
        *self = Self::new(self.order);
    }

    /// Everything before live is read again.
    pub(super) fn again(&mut self) {
        self.reading = None;
        self.waiting = vec![Stretch { from: Cursor::default(), until: self.live }];
    }

    /// Something was spooled, or a failed read is worth another try.
    pub(super) fn news(&mut self) {
        self.live_more = true;
        self.held_up = false;
    }

    /// Reading failed: nothing more until there is news or it is worth another try.
    pub(super) fn failed(&mut self) {
        self.live_more = false;
        self.held_up = true;
    }

    /// From where live is to be read, if there may be something.
    pub(super) fn live(&self) -> Option<Cursor> {
        self.live_more.then_some(self.live)
    }

    /// How far live was read.
    pub(super) fn live_at(&self) -> Cursor {
        self.live
    }

    /// If what live came to is older than the window: since when rows count as live now.
    pub(super) fn is_stale(
        slabs: &[SpooledSlab],
        boot: BootOrdinal,
        now: BootNanos,
        window_ns: i64,
    ) -> Option<SlabTime> {
        let found = slabs.first()?.slab.time()?;
        // Jumping to half the window leaves room before the next jump.
        let half = (boot, now.plus_ns(-window_ns / 2));
        (found < (boot, now.plus_ns(-window_ns))).then_some(half)
    }

    /// Live goes on at `to`; what it left out waits. False if that is not ahead, so that it must be read on.
    pub(super) fn jump(&mut self, to: Cursor) -> bool {
        let to = to.max(&self.live);
        if to == self.live {
            return false;
        }
        let left_out = Stretch { from: self.live, until: to };
        self.live = to;
        match self.waiting.last_mut() {
            Some(last) if last.until == left_out.from => last.until = left_out.until,
            _ => self.waiting.push(left_out),
        }
        if self.waiting.len() > SPANS_MAX {
            let oldest = self.waiting.remove(0);
            if let Some(next) = self.waiting.first_mut() {
                next.from = oldest.from;
            }
        }
        true
    }

    /// Live was read.
    pub(super) fn took_live(&mut self, slabs: &[SpooledSlab]) {
        self.live_more = !slabs.is_empty();
        if let Some(last) = slabs.last() {
            self.live = last.next;
        }
    }

    /// What the backlog needs next; `None` if nothing waits.
    pub(super) fn backlog(&mut self) -> Option<Need> {
        if self.held_up {
            return None;
        }
        if let Some(reading) = self.reading {
            return Some(Need::Read(reading.from));
        }
        match self.order {
            BacklogOrder::Oldest if !self.waiting.is_empty() => {
                let stretch = self.waiting.remove(0).parked();
                self.reading = Some(stretch);
                Some(Need::Read(stretch.from))
            }
            BacklogOrder::Oldest => None,
            BacklogOrder::Newest => self.waiting.last().copied().map(Need::Split),
        }
    }

    /// The newest part of the newest stretch starts at `at`.
    pub(super) fn split(&mut self, at: Cursor) {
        let Some(newest) = self.waiting.pop() else { return };
        let at = at.max(&newest.from);
        if at == newest.from || at == newest.until {
            self.reading = Some(newest.parked());
        } else {
            self.waiting.push(Stretch { from: newest.from, until: at });
            self.reading = Some(Stretch { from: at, until: newest.until }.parked());
        }
    }

    /// Backlog was read: what of it lies in the stretch, the rest being live's. A series that reached its end in the
    /// stretch is read no further; a read that gives nothing ends the stretch.
    pub(super) fn took_backlog(&mut self, slabs: Vec<SpooledSlab>) -> Vec<SpooledSlab> {
        let Some(reading) = self.reading else { return Vec::new() };
        let (mut at, until) = (reading.from, reading.until);
        let any = !slabs.is_empty();
        let mut ended = Vec::new();
        let mut inside = Vec::with_capacity(slabs.len());
        for slab in slabs {
            let moved = slab.next.series_moved(&at);
            at = slab.next;
            match moved {
                Some(series) if slab.next.at(series) > until.at(series) => ended.push(series),
                _ => inside.push(slab),
            }
        }
        let from = ended.into_iter().fold(at, |at, series| at.moved(series, PARKED));
        self.reading = any.then_some(Stretch { from, until });
        inside
    }

    /// Everything that waits, to be summed up.
    pub(super) fn stretches(&self) -> impl Iterator<Item = Stretch> {
        self.waiting.iter().chain(&self.reading).copied()
    }

    /// True if backlog waits.
    pub(super) fn has_backlog(&self) -> bool {
        self.reading.is_some() || !self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ship::tests::fixture::{EPOCH, scalar_rows};
    use headwater_core::ports::Slab;
    use proptest::prelude::*;

    fn at(offset: u64) -> Cursor {
        Cursor::default().moved(0, Position { segno: 0, offset })
    }

    /// Where the one series is read from.
    fn from(need: Option<Need>) -> u64 {
        match need {
            Some(Need::Read(from)) => from.at(0).offset,
            other => panic!("{other:?}"),
        }
    }

    /// A lane of one series: slab `n` lies from offset `n` to `n + 1`.
    fn slabs(range: std::ops::Range<u64>) -> Vec<SpooledSlab> {
        range
            .map(|n| SpooledSlab {
                epoch: EPOCH,
                slab: Slab { rows: scalar_rows(1, n..n + 1), blob: None, arrived: None },
                older_schema: None,
                next: at(n + 1),
            })
            .collect()
    }

    #[test]
    fn what_live_leaves_out_waits_and_ends_where_live_began() {
        let mut feed = Feed::new(BacklogOrder::Oldest);
        assert_eq!((feed.live(), feed.backlog()), (Some(at(0)), None));
        assert!(feed.jump(at(90)));
        assert!(!feed.jump(at(40)), "never back");
        assert_eq!(feed.live(), Some(at(90)));
        assert_eq!(from(feed.backlog()), 0);
        assert_eq!(feed.took_backlog(slabs(0..60)).len(), 60);
        assert_eq!(from(feed.backlog()), 60);
        // A read goes past the border: those are live's, and nothing more is read.
        assert_eq!(feed.took_backlog(slabs(60..100)).len(), 30);
        assert_eq!(from(feed.backlog()), u64::MAX);
        assert!(feed.took_backlog(Vec::new()).is_empty());
        assert_eq!(feed.backlog(), None);
        assert!(!feed.has_backlog());
    }

    #[test]
    fn newest_first_goes_back_by_stretches() {
        let mut feed = Feed::new(BacklogOrder::Newest);
        feed.jump(at(50));
        let whole = Stretch { from: at(0), until: at(50) };
        assert_eq!(feed.backlog(), Some(Need::Split(whole)));
        feed.split(at(30));
        assert_eq!(from(feed.backlog()), 30);
        assert_eq!(feed.took_backlog(slabs(30..55)).len(), 20);
        assert!(feed.took_backlog(Vec::new()).is_empty());
        assert_eq!(feed.backlog(), Some(Need::Split(Stretch { from: at(0), until: at(30) })));
        // While that goes on, live falls behind again: the newest is first.
        feed.jump(at(80));
        feed.split(at(60));
        assert_eq!(from(feed.backlog()), 60);
    }

    /// Slab `n` of a lane of two series: the even ones lie in one, the odd ones in the other, both at offset `n`.
    fn read_two(after: Cursor, end: u64, limit: usize) -> Vec<SpooledSlab> {
        let mut at = after;
        let mut out = Vec::new();
        for slab in slabs(0..end) {
            let n = slab.next.at(0).offset - 1;
            let series = usize::try_from(n % 2).unwrap();
            let place = Position { segno: 0, offset: n };
            if place >= after.at(series) && out.len() < limit {
                at = at.moved(series, Position { segno: 0, offset: n + 1 });
                out.push(SpooledSlab { next: at, ..slab });
            }
        }
        out
    }

    /// A read of small pieces met only slabs of a series that had reached its end, and gave up what the other had left.
    #[test]
    fn a_stretch_is_read_to_the_end_of_each_of_its_series() {
        let two = |even: u64, odd: u64| {
            let place = |offset| Position { segno: 0, offset };
            Cursor::default().moved(0, place(even)).moved(1, place(odd))
        };
        for limit in [1, 2, 3, 50] {
            let mut feed = Feed::new(BacklogOrder::Newest);
            feed.jump(two(200, 201));
            assert!(matches!(feed.backlog(), Some(Need::Split(_))));
            // One series goes back further than the other, and the next stretch ends askew.
            feed.split(two(20, 101));
            let mut seen = std::collections::BTreeSet::new();
            let mut turns = 0;
            while let Some(need) = feed.backlog() {
                turns += 1;
                assert!(turns < 2_000, "it ends");
                match need {
                    Need::Split(stretch) => feed.split(stretch.from),
                    Need::Read(after) => {
                        let took = feed.took_backlog(read_two(after, 260, limit));
                        seen.extend(took.iter().map(|slab| slab.slab.rows.first_seq.0));
                    }
                }
            }
            assert_eq!(seen, (0..200).collect(), "limit {limit}");
        }
    }

    #[test]
    fn a_failed_read_waits_for_news() {
        let mut feed = Feed::new(BacklogOrder::Oldest);
        feed.jump(at(9));
        feed.failed();
        assert_eq!((feed.live(), feed.backlog()), (None, None));
        feed.news();
        assert!(feed.live().is_some() && feed.backlog().is_some());
    }

    proptest! {
        /// Whatever live skips and in whatever order backlog is read: every slab comes, at least once.
        #[test]
        fn nothing_is_left_out(
            order in prop_oneof![Just(BacklogOrder::Oldest), Just(BacklogOrder::Newest)],
            jumps in proptest::collection::vec((1_u64..40, 1_u64..20), 1..20),
            back in 1_u64..30,
        ) {
            let mut feed = Feed::new(order);
            let mut seen = std::collections::BTreeSet::new();
            let mut end = 0_u64;
            let mut note = |slabs: &[SpooledSlab]| {
                slabs.iter().for_each(|slab| { seen.insert(slab.next.at(0).offset - 1); });
            };
            for (skip, read) in jumps {
                feed.jump(at(end + skip));
                end += skip + read;
                let from = feed.live_at().at(0).offset;
                let fresh = slabs(from..end);
                note(&fresh);
                feed.took_live(&fresh);
                if let Some(need) = feed.backlog() {
                    match need {
                        Need::Split(s) => feed.split(at(s.until.at(0).offset.saturating_sub(back))),
                        Need::Read(from) => {
                            let from = from.at(0).offset;
                            let took = feed.took_backlog(slabs(from..from.saturating_add(back).min(end)));
                            note(&took);
                        }
                    }
                }
            }
            let mut turns = 0;
            while let Some(need) = feed.backlog() {
                turns += 1;
                prop_assert!(turns < 10_000, "it ends");
                match need {
                    Need::Split(s) => feed.split(at(s.until.at(0).offset.saturating_sub(back))),
                    Need::Read(from) => {
                        let from = from.at(0).offset;
                        let took = feed.took_backlog(slabs(from..from.saturating_add(back).min(end)));
                        note(&took);
                    }
                }
            }
            prop_assert_eq!(seen.len() as u64, end);
        }
    }
}

//! Matching: for each instant the samples on either side, as rows of the store. Integers only.

use super::cursor::{NONE, group_end, group_start, seek};
use super::lines::{Lines, Relation};
use super::spine::Left;
use super::store::{Lane, Store, View};
use crate::recipe::Duplicates;
use std::ops::Range;

/// Samples about each instant of a chunk, as rows of the store or [`NONE`].
#[derive(Debug, Default)]
pub(super) struct Bracket {
    /// Before it, or at it unless `at` stands on the other side.
    pub(super) prev: Vec<u32>,
    /// After it.
    pub(super) next: Vec<u32>,
    /// The one before `prev` on its line.
    pub(super) before: Vec<u32>,
    /// The one after `next` on its line.
    pub(super) after: Vec<u32>,
}

/// Where a sample at the very instant stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    /// In `prev`.
    Prev,
    /// In `next`.
    Next,
}

/// How to bracket.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ask {
    pub(super) at: At,
    pub(super) duplicates: Duplicates,
    /// Whether `before` and `after` are wanted too.
    pub(super) outer: bool,
}

/// The samples about each instant of `left`.
pub(super) fn bracket(store: &Store, lines: &Lines, left: &Left<'_>, ask: Ask) -> Bracket {
    let outer = if ask.outer { left.len } else { 0 };
    let mut out = Bracket {
        prev: vec![NONE; left.len],
        next: vec![NONE; left.len],
        before: vec![NONE; outer],
        after: vec![NONE; outer],
    };
    for (line, rows) in left.stretches() {
        match store.lanes.as_slice() {
            [] => {}
            [lane] => one_lane(store, lines, left, line, lane, rows, ask, &mut out),
            lanes => many_lanes(store, lines, left, line, lanes, rows, ask, &mut out),
        }
    }
    out
}

#[expect(clippy::too_many_arguments, reason = "one caller; the parts of one look-up")]
fn one_lane(
    store: &Store,
    lines: &Lines,
    left: &Left<'_>,
    line: u32,
    lane: &Lane,
    rows: Range<usize>,
    ask: Ask,
    out: &mut Bracket,
) {
    match lines.relation(line, lane.line) {
        Relation::Same => search(store.by_event(lane), &left.events()[rows.clone()], rows, ask, out),
        Relation::Utc => search(store.by_ts(lane), &left.times()[rows.clone()], rows, ask, out),
        Relation::Before => all_before(store.by_event(lane), rows, ask, out),
        Relation::After => all_after(store.by_event(lane), rows, ask, out),
    }
}

fn search(view: View<'_>, instants: &[i64], rows: Range<usize>, ask: Ask, out: &mut Bracket) {
    match (ask.at, ask.duplicates) {
        (At::Prev, Duplicates::Last) => walk::<true, true>(view, instants, rows, ask.outer, out),
        (At::Prev, Duplicates::First) => walk::<true, false>(view, instants, rows, ask.outer, out),
        (At::Next, Duplicates::Last) => walk::<false, true>(view, instants, rows, ask.outer, out),
        (At::Next, Duplicates::First) => walk::<false, false>(view, instants, rows, ask.outer, out),
    }
}

/// One walk of two pointers. `UPPER`: a sample at the instant is before it; `LAST`: of equal times the last counts.
fn walk<const UPPER: bool, const LAST: bool>(
    view: View<'_>,
    instants: &[i64],
    rows: Range<usize>,
    outer: bool,
    out: &mut Bracket,
) {
    let keys = view.keys;
    let mut place = 0;
    let (prev, next) = (&mut out.prev[rows.clone()], &mut out.next[rows.clone()]);
    for ((t, prev), next) in instants.iter().zip(prev).zip(next) {
        place = seek::<UPPER>(keys, *t, place);
        if let Some(last) = place.checked_sub(1) {
            *prev = view.row(if LAST { last } else { group_start(keys, last) });
        }
        if place < keys.len() {
            *next = view.row(if LAST { group_end(keys, place) } else { place });
        }
    }
    if outer {
        walk_outer::<UPPER, LAST>(view, instants, rows, out);
    }
}

fn walk_outer<const UPPER: bool, const LAST: bool>(
    view: View<'_>,
    instants: &[i64],
    rows: Range<usize>,
    out: &mut Bracket,
) {
    let keys = view.keys;
    let mut place = 0;
    let (before, after) = (&mut out.before[rows.clone()], &mut out.after[rows]);
    for ((t, before), after) in instants.iter().zip(before).zip(after) {
        place = seek::<UPPER>(keys, *t, place);
        if let Some(last) = place.checked_sub(1)
            && let Some(farther) = group_start(keys, last).checked_sub(1)
        {
            *before = view.row(if LAST { farther } else { group_start(keys, farther) });
        }
        if place < keys.len() {
            let farther = group_end(keys, place) + 1;
            if farther < keys.len() {
                *after = view.row(if LAST { group_end(keys, farther) } else { farther });
            }
        }
    }
}

/// The lane is of an earlier boot: its last sample is the newest before.
fn all_before(view: View<'_>, rows: Range<usize>, ask: Ask, out: &mut Bracket) {
    let ends = |place: usize| match ask.duplicates {
        Duplicates::Last => view.row(place),
        Duplicates::First => view.row(group_start(view.keys, place)),
    };
    let Some(last) = view.keys.len().checked_sub(1) else { return };
    out.prev[rows.clone()].fill(ends(last));
    if ask.outer
        && let Some(farther) = group_start(view.keys, last).checked_sub(1)
    {
        out.before[rows].fill(ends(farther));
    }
}

/// The lane is of a later boot: its first sample is the oldest after.
fn all_after(view: View<'_>, rows: Range<usize>, ask: Ask, out: &mut Bracket) {
    let ends = |place: usize| match ask.duplicates {
        Duplicates::Last => view.row(group_end(view.keys, place)),
        Duplicates::First => view.row(place),
    };
    if view.keys.is_empty() {
        return;
    }
    out.next[rows.clone()].fill(ends(0));
    let farther = group_end(view.keys, 0) + 1;
    if ask.outer && farther < view.keys.len() {
        out.after[rows].fill(ends(farther));
    }
}

/// Looks each lane up by itself. Within an installation the latest boot gives `prev`, the earliest `next`; between
/// installations resolved time decides, and between equals their order.
#[expect(clippy::too_many_arguments, reason = "one caller; the parts of one look-up")]
fn many_lanes(
    store: &Store,
    lines: &Lines,
    left: &Left<'_>,
    line: u32,
    lanes: &[Lane],
    rows: Range<usize>,
    ask: Ask,
    out: &mut Bracket,
) {
    let mut order: Vec<&Lane> = lanes.iter().collect();
    order.sort_by_key(|lane| (lines.chain(lane.line), lines.get(lane.line).map(|line| line.boot)));
    let part = Left { stamps: left.stamps, start: left.start + rows.start, len: rows.len() };
    for installation in order.chunk_by(|a, b| lines.chain(a.line) == lines.chain(b.line)) {
        let mut found = blank(rows.len(), ask.outer);
        for lane in relevant(store, lines, line, installation, part.times()) {
            let mut of_lane = blank(rows.len(), ask.outer);
            one_lane(store, lines, &part, line, lane, 0..rows.len(), ask, &mut of_lane);
            for place in 0..rows.len() {
                // Boots come in order: a later one with a sample before the instant takes over.
                if of_lane.prev[place] != NONE {
                    found.take_prev(place, &of_lane, place);
                }
                if found.next[place] == NONE {
                    found.take_next(place, &of_lane, place);
                }
            }
        }
        let last = ask.duplicates == Duplicates::Last;
        let ts_ns = |row: u32| store.stamps.ts_ns[row as usize];
        for (place, to) in rows.clone().enumerate() {
            let (here, there) = (found.prev[place], out.prev[to]);
            let later = |here, there| ts_ns(here) > ts_ns(there) || (ts_ns(here) == ts_ns(there) && last);
            if here != NONE && (there == NONE || later(here, there)) {
                out.take_prev(to, &found, place);
            }
            let (here, there) = (found.next[place], out.next[to]);
            let earlier = |here, there| ts_ns(here) < ts_ns(there) || (ts_ns(here) == ts_ns(there) && last);
            if here != NONE && (there == NONE || earlier(here, there)) {
                out.take_next(to, &found, place);
            }
        }
    }
}

/// The lanes of one installation, by boot, that can decide for these instants: with thousands of boots, a few.
fn relevant<'a>(store: &Store, lines: &Lines, line: u32, lanes: &[&'a Lane], times: &[i64]) -> Vec<&'a Lane> {
    let related = |lane: &&Lane| lines.relation(line, lane.line);
    if lanes.iter().any(|lane| related(lane) != Relation::Utc) {
        let here = lanes.iter().filter(|lane| related(lane) == Relation::Same);
        let below = lanes.iter().rfind(|lane| related(lane) == Relation::Before);
        let above = lanes.iter().find(|lane| related(lane) == Relation::After);
        return below.into_iter().chain(here).chain(above).copied().collect();
    }
    let (Some(from), Some(to)) = (times.iter().min(), times.iter().max()) else { return Vec::new() };
    let first = |lane: &Lane| store.by_ts(lane).keys.first().copied().unwrap_or(i64::MAX);
    let last = |lane: &Lane| store.by_ts(lane).keys.last().copied().unwrap_or(i64::MIN);
    // All instants have a sample of `floor` before them, and one of `ceiling` after them.
    let floor = lanes.iter().rposition(|lane| first(lane) <= *from && first(lane) < i64::MAX).unwrap_or(0);
    let ceiling = lanes.iter().position(|lane| last(lane) > *to).unwrap_or(lanes.len());
    let decides = |(place, lane): &(usize, &&Lane)| {
        (*place >= floor && first(lane) <= *to) || (*place <= ceiling && last(lane) >= *from)
    };
    lanes.iter().enumerate().filter(decides).map(|(_, lane)| *lane).collect()
}

fn blank(rows: usize, outer: bool) -> Bracket {
    let outer = if outer { rows } else { 0 };
    Bracket {
        prev: vec![NONE; rows],
        next: vec![NONE; rows],
        before: vec![NONE; outer],
        after: vec![NONE; outer],
    }
}

impl Bracket {
    fn take_prev(&mut self, to: usize, from: &Self, place: usize) {
        self.prev[to] = from.prev[place];
        if let (Some(to), Some(from)) = (self.before.get_mut(to), from.before.get(place)) {
            *to = *from;
        }
    }

    fn take_next(&mut self, to: usize, from: &Self, place: usize) {
        self.next[to] = from.next[place];
        if let (Some(to), Some(from)) = (self.after.get_mut(to), from.after.get(place)) {
            *to = *from;
        }
    }
}

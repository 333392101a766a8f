//! Windows: the samples in [t + from, t + to) of each row, and those that may lie on either side of an edge.

use super::cursor::{NONE, seek};
use super::flag;
use super::lines::Relation;
use super::matching::{Found, Match, Scene, missing_after, used};
use super::metric::{Distance, Instant, LOOK_NS, distance};
use super::store::{Lane, Mark, View};
use crate::recipe::{Fallback, Mode};
use headwater_core::id::BootOrdinal;
use std::ops::Range;

/// Samples looked at on each side of an edge, to see whether they straddle it: a quarter of a second of the fastest IMUs.
pub const EDGE_SAMPLES_MAX: usize = 256;

/// Rows of the store that a window holds, in total order.
#[derive(Debug, Clone, Copy)]
pub(super) enum Held<'a> {
    /// One stretch.
    Stretch(usize, usize),
    /// One by one.
    Listed(&'a [u32]),
}

impl Held<'_> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Stretch(from, to) => to - from,
            Self::Listed(rows) => rows.len(),
        }
    }

    pub(super) fn get(&self, place: usize) -> usize {
        match self {
            Self::Stretch(from, _) => from + place,
            Self::Listed(rows) => rows[place] as usize,
        }
    }

    /// The first `n`.
    pub(super) fn first(self, n: usize) -> Self {
        match self {
            Self::Stretch(from, to) => Self::Stretch(from, to.min(from.saturating_add(n))),
            Self::Listed(rows) => Self::Listed(&rows[..rows.len().min(n)]),
        }
    }
}

/// The bounds of a column's windows, ns from the instant.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) from_ns: i64,
    pub(super) to_ns: i64,
    /// Fewer samples are no match.
    pub(super) min_count: u32,
    /// More samples are cut.
    pub(super) max_items: usize,
}

/// Windows of a chunk: matches, and how many samples straddle an edge.
#[derive(Debug, Default)]
pub(super) struct Windows {
    pub(super) matches: Match,
    pub(super) edge_n: Vec<i32>,
}

/// What one lane adds to a window.
struct Part<'a> {
    view: View<'a>,
    line: u32,
    /// Compared in event time.
    same: bool,
    places: Range<usize>,
}

/// Finds each row's window and hands it on, in order; `Held` is empty where the window has no match but a count.
pub(super) fn windows(
    scene: &Scene<'_>,
    bounds: Bounds,
    mut each: impl FnMut(Held<'_>, Instant, bool),
) -> Windows {
    let mut out =
        Windows { matches: Match::with_capacity(scene.left.len), edge_n: Vec::with_capacity(scene.left.len) };
    let mut listed = Vec::new();
    for (line, rows) in scene.left.stretches() {
        let mut lanes = lanes_near(scene, bounds, line, rows.clone());
        for place in rows {
            one(scene, bounds, place, &mut lanes, &mut listed, &mut out, &mut each);
        }
    }
    out
}

/// Lanes that can hold, or straddle, the windows of rows of one line; each with its guesses.
fn lanes_near<'a>(scene: &Scene<'a>, bounds: Bounds, line: u32, rows: Range<usize>) -> Vec<Near<'a>> {
    let times = &scene.left.times()[rows];
    let (from, to) = (times.iter().min().copied().unwrap_or(0), times.iter().max().copied().unwrap_or(0));
    let from = from.saturating_add(bounds.from_ns).saturating_sub(LOOK_NS);
    let to = to.saturating_add(bounds.to_ns.max(0)).saturating_add(LOOK_NS);
    let near = |lane: &Lane| {
        let keys = scene.store.by_ts(lane).keys;
        keys.first().is_some_and(|first| *first <= to) && keys.last().is_some_and(|last| *last >= from)
    };
    // Of those that ended before, the newest: what is missing after it may lie in the window.
    let ended = |lane: &&Lane| scene.store.by_ts(lane).keys.last().copied().filter(|last| *last < from);
    let newest = |lane: &&Lane| (ended(lane), rank(scene, lane.line));
    let newest = scene
        .store
        .lanes
        .iter()
        .filter(|lane| ended(lane).is_some())
        .max_by_key(newest)
        .map(|lane| lane.line);
    let mut lanes = Vec::new();
    for lane in &scene.store.lanes {
        let same = scene.lines.relation(line, lane.line) == Relation::Same;
        if same || near(lane) || newest == Some(lane.line) {
            let view = if same { scene.store.by_event(lane) } else { scene.store.by_ts(lane) };
            lanes.push(Near { view, line: lane.line, same, guess: (0, 0) });
        }
    }
    lanes
}

/// A lane, and where the last window stood in it.
struct Near<'a> {
    view: View<'a>,
    line: u32,
    same: bool,
    guess: (usize, usize),
}

fn one(
    scene: &Scene<'_>,
    bounds: Bounds,
    place: usize,
    lanes: &mut [Near<'_>],
    listed: &mut Vec<u32>,
    out: &mut Windows,
    each: &mut impl FnMut(Held<'_>, Instant, bool),
) {
    let at = scene.left.instant(place);
    let parts = parts(bounds, at, lanes);
    let edge_n =
        parts.iter().map(|part| straddling(scene, bounds, at, part)).fold(0_i32, i32::saturating_add);
    let held = match parts.as_slice() {
        [part] if part.view.is_plain() => Held::Stretch(part.places.start, part.places.end),
        parts => {
            in_order(scene, parts, listed);
            Held::Listed(listed)
        }
    };
    let mut found = judged(scene, bounds, at, held, edge_n);
    if has_gap(scene, bounds, at, &parts) {
        found.flag |= flag::GAP_INSIDE;
    }
    if found.lo == NONE && matches!(scene.column.fallback, Fallback::Const(_)) {
        found.flag |= flag::FALLBACK;
    }
    let unknown = scene.mode == Mode::Certain && edge_n > 0;
    each(if unknown { Held::Stretch(0, 0) } else { held }, at, !unknown);
    out.matches.push(found);
    out.edge_n.push(edge_n);
}

fn parts<'a>(bounds: Bounds, at: Instant, lanes: &mut [Near<'a>]) -> Vec<Part<'a>> {
    let mut parts = Vec::with_capacity(lanes.len());
    for lane in lanes {
        let t = if lane.same { at.event_ns } else { at.ts_ns };
        let from = seek::<false>(lane.view.keys, t.saturating_add(bounds.from_ns), lane.guess.0);
        let to = seek::<false>(lane.view.keys, t.saturating_add(bounds.to_ns), lane.guess.1);
        lane.guess = (from, to);
        parts.push(Part { view: lane.view, line: lane.line, same: lane.same, places: from..to.max(from) });
    }
    parts
}

/// Rows of several lanes in total order: within an installation by boot and event, between them by resolved time.
fn in_order(scene: &Scene<'_>, parts: &[Part<'_>], rows: &mut Vec<u32>) {
    rows.clear();
    let mut filled: Vec<&Part<'_>> = parts.iter().filter(|part| !part.places.is_empty()).collect();
    filled.sort_by_key(|part| rank(scene, part.line));
    let mut chains: Vec<Vec<u32>> = Vec::new();
    for chain in filled.chunk_by(|a, b| scene.lines.chain(a.line) == scene.lines.chain(b.line)) {
        let mut of_chain = Vec::new();
        for part in chain {
            let start = of_chain.len();
            of_chain.extend(part.places.clone().map(|place| part.view.row(place)));
            // Within a line rows come by event, whatever order their resolved times have.
            of_chain[start..].sort_unstable();
        }
        chains.push(of_chain);
    }
    if let [one] = chains.as_mut_slice() {
        rows.append(one);
        return;
    }
    let mut heads = vec![0; chains.len()];
    let ts_ns = |row: u32| scene.store.stamps.ts_ns[row as usize];
    while let Some((chain, row)) = chains
        .iter()
        .zip(&heads)
        .enumerate()
        .filter_map(|(chain, (rows, head))| Some((chain, *rows.get(*head)?)))
        .min_by_key(|(chain, row)| (ts_ns(*row), *chain))
    {
        heads[chain] += 1;
        rows.push(row);
    }
}

fn judged(scene: &Scene<'_>, bounds: Bounds, at: Instant, held: Held<'_>, edge_n: i32) -> Found {
    let mut flags = if edge_n > 0 { flag::STRADDLES } else { 0 };
    let enough = held.len() >= (bounds.min_count as usize).max(1);
    if !enough {
        flags |= flag::NONE;
    }
    if !enough || (scene.mode == Mode::Certain && edge_n > 0) {
        return Found::nothing(flags);
    }
    if held.len() > bounds.max_items {
        flags |= flag::CAPPED;
    }
    let held = held.first(bounds.max_items);
    let row = |place: usize| super::cursor::row(held.get(place));
    let last = row(held.len() - 1);
    let chain = |row: u32| scene.lines.chain(scene.store.stamps.line[row as usize]);
    // One epoch names the source: of a window over two installations the later's samples are named.
    let first = (0..held.len()).map(row).find(|row| chain(*row) == chain(last)).unwrap_or(last);
    let far = |row: u32| distance(at, scene.store.instant(row));
    let near = nearer(far(first), far(last));
    flags |= used(scene, at, [row(0), last]);
    let n = i32::try_from(held.len()).unwrap_or(i32::MAX);
    Found { lo: first, hi: last, weight: 0.0, gap_ns: 0, near, n, flag: flags }
}

fn nearer(first: Distance, last: Distance) -> Distance {
    if first.length() <= last.length() { first } else { last }
}

/// Samples of a lane that may lie on either side of an edge: those near it, until one surely does not.
fn straddling(scene: &Scene<'_>, bounds: Bounds, at: Instant, part: &Part<'_>) -> i32 {
    let Range { start, end } = part.places.clone();
    let far = |place: usize| distance(at, scene.store.instant(part.view.row(place)));
    let lower_in = |place: &usize| {
        let far = far(*place);
        far.dt_ns.saturating_sub(bounds.from_ns) < far.sigma_ns
    };
    let upper_in = |place: &usize| {
        let far = far(*place);
        far.dt_ns.saturating_add(far.sigma_ns) >= bounds.to_ns
    };
    let lower_out = |place: &usize| {
        let far = far(*place);
        far.dt_ns.saturating_add(far.sigma_ns) >= bounds.from_ns
            && far.dt_ns >= bounds.from_ns.saturating_sub(LOOK_NS)
    };
    let upper_out = |place: &usize| {
        let far = far(*place);
        far.dt_ns.saturating_sub(far.sigma_ns) < bounds.to_ns && far.dt_ns <= scene.ahead_ns
    };
    let most = EDGE_SAMPLES_MAX;
    let low = (start..end).take(most).take_while(lower_in).count();
    let high = (start + low..end).rev().take(most).take_while(upper_in).count();
    let below = (0..start).rev().take(most).take_while(lower_out).count();
    let above = (end..part.view.keys.len()).take(most).take_while(upper_out).count();
    i32::try_from(low + high + below + above).unwrap_or(i32::MAX)
}

/// Order of a line among those of an entity.
fn rank(scene: &Scene<'_>, line: u32) -> (Option<u32>, Option<BootOrdinal>) {
    (scene.lines.chain(line), scene.lines.get(line).map(|line| line.boot))
}

/// True if samples in the window, or between it and its neighbours, are recorded as missing: on lines with samples in it,
/// and the row's own; without any on the one that was heard last.
fn has_gap(scene: &Scene<'_>, bounds: Bounds, at: Instant, parts: &[Part<'_>]) -> bool {
    let concerned = |part: &&Part<'_>| (part.same && part.places.start > 0) || !part.places.is_empty();
    if parts.iter().any(|part| concerned(&part)) {
        return parts.iter().filter(concerned).any(|part| has_gap_on(scene, bounds, at, part));
    }
    let before = |part: &&Part<'_>| {
        let row = part.view.row(part.places.start.checked_sub(1)?);
        Some(scene.store.stamps.ts_ns[row as usize])
    };
    let newest = parts.iter().filter(|part| before(part).is_some());
    let newest = newest.max_by_key(|part| (before(part), rank(scene, part.line)));
    newest.is_some_and(|part| has_gap_on(scene, bounds, at, part))
}

/// Skipped samples bound what is looked at as others do: what is missing beyond them lies beyond the window.
fn has_gap_on(scene: &Scene<'_>, bounds: Bounds, at: Instant, part: &Part<'_>) -> bool {
    let Range { start, end } = part.places.clone();
    let mark = |place: usize| {
        let row = (place < part.view.keys.len()).then(|| part.view.row(place))?;
        Some((part.view.keys[place], scene.store.stamps.seq[row as usize]))
    };
    let t = if part.same { at.event_ns } else { at.ts_ns };
    let skipped = scene.store.skipped(part.line);
    let about = |bound_ns: i64| {
        skipped.map_or((None, None), |skipped| skipped.about(part.same, t.saturating_add(bound_ns)))
    };
    let ((low, inner), (inside, high)) = (about(bounds.from_ns), about(bounds.to_ns));
    let seen = |(key, _): &Mark| key.saturating_sub(t) <= scene.ahead_ns;
    let before = latest(start.checked_sub(1).and_then(mark), low);
    let held = if start < end { mark(start) } else { None };
    let first = before.or_else(|| earliest(held, inner.filter(|_| held.is_some())));
    let after = earliest(mark(end), high).filter(seen);
    let last = after.or_else(|| latest(end.checked_sub(1).and_then(mark), inside));
    let (Some((_, first)), Some((_, last))) = (first, last) else { return false };
    missing_after(scene, part.line, first, Some(last))
        || (after.is_none() && missing_after(scene, part.line, last, None))
}

fn latest(one: Option<Mark>, other: Option<Mark>) -> Option<Mark> {
    one.into_iter().chain(other).max()
}

fn earliest(one: Option<Mark>, other: Option<Mark>) -> Option<Mark> {
    one.into_iter().chain(other).min()
}

//! What a column found for each row of a chunk: samples by row of the store, and what stands in its source struct.

use super::bracket::{Ask, At, Bracket, bracket};
use super::cursor::NONE;
use super::flag;
use super::gaps::Gaps;
use super::lines::{Lines, Relation};
use super::metric::{Distance, Instant, LOOK_NS, distance};
use super::spine::Left;
use super::store::{Skipped, Store};
use crate::recipe::{Between, Column, Fallback, Method, Mode, Tie};
use headwater_core::time::Grade;

/// One entry a row of the chunk, in each list that is filled.
#[derive(Debug, Default)]
pub(super) struct Match {
    /// The sample, or the earlier of two, or the first of a window; [`NONE`] without a match.
    pub(super) lo: Vec<u32>,
    /// The sample, or the later of two, or the last of a window.
    pub(super) hi: Vec<u32>,
    /// Of an interpolation: share of the later, 0 at the earlier; and the time between both, ns.
    pub(super) weight: Vec<f64>,
    pub(super) gap_ns: Vec<i64>,
    /// Distance to the nearer, and its uncertainty.
    pub(super) near: Vec<Distance>,
    pub(super) n: Vec<i32>,
    pub(super) flag: Vec<i32>,
}

/// What decisions are made from.
#[derive(Clone, Copy)]
pub(super) struct Scene<'a> {
    pub(super) place: usize,
    pub(super) column: &'a Column,
    pub(super) mode: Mode,
    pub(super) store: &'a Store,
    pub(super) lines: &'a Lines,
    pub(super) left: Left<'a>,
    pub(super) gaps: &'a dyn Gaps,
    pub(super) ahead_ns: i64,
}

/// What one row found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    pub(super) lo: u32,
    pub(super) hi: u32,
    pub(super) weight: f64,
    pub(super) gap_ns: i64,
    pub(super) near: Distance,
    pub(super) n: i32,
    pub(super) flag: i32,
}

const NOWHERE: Distance = Distance { dt_ns: 0, sigma_ns: 0 };

impl Found {
    pub(super) fn nothing(flag: i32) -> Self {
        Self { lo: NONE, hi: NONE, weight: 0.0, gap_ns: 0, near: NOWHERE, n: 0, flag }
    }

    fn sample(row: u32, near: Distance, flag: i32) -> Self {
        Self { lo: row, hi: row, weight: 0.0, gap_ns: 0, near, n: 1, flag }
    }
}

impl Match {
    pub(super) fn with_capacity(rows: usize) -> Self {
        Self {
            lo: Vec::with_capacity(rows),
            hi: Vec::with_capacity(rows),
            weight: Vec::with_capacity(rows),
            gap_ns: Vec::with_capacity(rows),
            near: Vec::with_capacity(rows),
            n: Vec::with_capacity(rows),
            flag: Vec::with_capacity(rows),
        }
    }

    pub(super) fn push(&mut self, found: Found) {
        self.lo.push(found.lo);
        self.hi.push(found.hi);
        self.weight.push(found.weight);
        self.gap_ns.push(found.gap_ns);
        self.near.push(found.near);
        self.n.push(found.n);
        self.flag.push(found.flag);
    }
}

/// Matches a column of a method that looks for samples at or about the instant.
pub(super) fn matched(scene: &Scene<'_>) -> Match {
    let method = &scene.column.method;
    let at = if matches!(method, Method::Next { .. }) { At::Next } else { At::Prev };
    let extrapolates = between(method).is_some_and(|between| between.extrapolate_ns > 0);
    let outer = extrapolates || matches!(method, Method::Nearest { .. });
    let ask = Ask { at, duplicates: scene.column.duplicates, outer };
    let mut bracket = bracket(scene.store, scene.lines, &scene.left, ask);
    let mut out = Match::with_capacity(scene.left.len);
    for place in 0..scene.left.len {
        let row = Row::new(scene, &mut bracket, place);
        let mut found = match method {
            Method::Previous { tolerance_ns } => row.one_sided(*tolerance_ns, row.prev, row.next),
            Method::Next { tolerance_ns } => row.one_sided(*tolerance_ns, row.next, row.prev),
            Method::Nearest { tolerance_ns } => row.nearest(*tolerance_ns),
            Method::Linear(between) | Method::Slerp(between) | Method::Geodesic { between, .. } => {
                row.between(*between)
            }
            Method::Window { .. } | Method::List { .. } => Found::nothing(flag::NONE),
        };
        found.flag |= row.gap_inside();
        out.push(row.completed(found));
    }
    out
}

fn between(method: &Method) -> Option<Between> {
    match method {
        Method::Linear(between) | Method::Slerp(between) | Method::Geodesic { between, .. } => Some(*between),
        _ => None,
    }
}

/// A neighbour and how far it is.
#[derive(Debug, Clone, Copy)]
struct Neighbour {
    row: u32,
    far: Distance,
}

/// One row with its neighbours.
struct Row<'a> {
    scene: &'a Scene<'a>,
    at: Instant,
    prev: Option<Neighbour>,
    next: Option<Neighbour>,
    before: Option<Neighbour>,
    after: Option<Neighbour>,
}

/// Whether a distance keeps a limit.
struct Within {
    /// By its estimate.
    point: bool,
    /// For every value within the uncertainty.
    surely: bool,
    /// The uncertainty spans the limit.
    unsure: bool,
}

fn within(length_ns: i64, sigma_ns: i64, limit_ns: i64) -> Within {
    let point = length_ns <= limit_ns;
    let surely = length_ns.saturating_add(sigma_ns) <= limit_ns;
    let possibly = length_ns.saturating_sub(sigma_ns) <= limit_ns;
    Within { point, surely, unsure: if point { !surely } else { possibly } }
}

impl<'a> Row<'a> {
    fn new(scene: &'a Scene<'a>, bracket: &mut Bracket, place: usize) -> Self {
        let at = scene.left.instant(place);
        let neighbour = |rows: &[u32]| {
            let row = rows.get(place).copied().filter(|row| *row != NONE)?;
            Some(Neighbour { row, far: distance(at, scene.store.instant(row)) })
        };
        // What lies beyond is not waited for, so it is not looked at either.
        let seen = |rows: &[u32]| neighbour(rows).filter(|next| next.far.dt_ns <= scene.ahead_ns);
        Self {
            scene,
            at,
            prev: neighbour(&bracket.prev),
            next: seen(&bracket.next),
            before: neighbour(&bracket.before),
            after: seen(&bracket.after),
        }
    }

    fn is_certain(&self) -> bool {
        self.scene.mode == Mode::Certain
    }

    /// `previous` and `next`: the sample on the side asked for, and the other side's, which could be right instead.
    fn one_sided(&self, tolerance_ns: i64, here: Option<Neighbour>, there: Option<Neighbour>) -> Found {
        // The other could truly lie on this side, or this one on the other.
        let crosses =
            |other: Neighbour| other.far.length() <= LOOK_NS && other.far.length() <= other.far.sigma_ns;
        let rival = there.is_some_and(crosses);
        let Some(here) = here else {
            return Found::nothing(flag::NONE | if rival { flag::AMBIGUOUS } else { 0 });
        };
        let forward = matches!(self.scene.column.method, Method::Next { .. });
        let on_side = if forward { here.far.dt_ns } else { here.far.dt_ns.saturating_neg() };
        let leaves = on_side < here.far.sigma_ns;
        self.judged(here, tolerance_ns, rival || leaves)
    }

    fn nearest(&self, tolerance_ns: i64) -> Found {
        let favoured = |a: Neighbour, b: Neighbour| match self.scene.column.tie {
            Tie::Previous => a.far.length() <= b.far.length(),
            Tie::Next => a.far.length() < b.far.length(),
        };
        let first = match (self.prev, self.next) {
            (Some(prev), Some(next)) => favoured(prev, next),
            (prev, _) => prev.is_some(),
        };
        // Each rival, and whether it lies before the match.
        let (here, rivals) = if first {
            (self.prev, [(self.next, false), (self.before, true)])
        } else {
            (self.next, [(self.prev, true), (self.after, false)])
        };
        let Some(here) = here else { return Found::nothing(flag::NONE) };
        let farthest = here.far.length().saturating_add(here.far.sigma_ns);
        let could_be = |(rival, earlier): &(Option<Neighbour>, bool)| {
            rival.is_some_and(|rival| {
                let nearest = rival.far.length().saturating_sub(rival.far.sigma_ns);
                let wins_ties = *earlier == (self.scene.column.tie == Tie::Previous);
                let seen = rival.far.length() <= tolerance_ns.saturating_add(LOOK_NS);
                seen && (nearest < farthest || (nearest == farthest && wins_ties))
            })
        };
        let rival = rivals.iter().any(could_be);
        self.judged(here, tolerance_ns, rival)
    }

    /// The sample if it keeps the tolerance, in the mode asked for.
    fn judged(&self, here: Neighbour, tolerance_ns: i64, rival: bool) -> Found {
        let kept = within(here.far.length(), here.far.sigma_ns, tolerance_ns);
        let ambiguous = rival || kept.unsure;
        let mut flags = if ambiguous { flag::AMBIGUOUS } else { 0 };
        let keeps = if self.is_certain() { kept.surely } else { kept.point };
        if !keeps {
            flags |= flag::BEYOND;
        }
        if !keeps || (self.is_certain() && ambiguous) {
            return Found::nothing(flags);
        }
        Found::sample(here.row, here.far, flags)
    }

    /// Between the neighbours; a sample at the very instant is the value.
    fn between(&self, between: Between) -> Found {
        let Some(prev) = self.prev else { return Found::nothing(flag::NONE) };
        let sure = |neighbour: Neighbour| neighbour.far.length() >= neighbour.far.sigma_ns;
        if prev.far.dt_ns == 0 {
            let flags = if sure(prev) { 0 } else { flag::AMBIGUOUS };
            if self.is_certain() && flags != 0 {
                return Found::nothing(flags);
            }
            return Found::sample(prev.row, prev.far, flags);
        }
        let Some(next) = self.next else { return self.beyond(between, prev, flag::GAP_WIDE) };
        let mut flags = if sure(prev) && sure(next) { 0 } else { flag::AMBIGUOUS };
        // By its own clock a neighbour of another boot may lie on the wrong side; and what is not of one installation is
        // not named by one epoch.
        if prev.far.dt_ns > 0 || next.far.dt_ns < 0 || !self.is_one_installation(prev.row, next.row) {
            return Found::nothing(flags | flag::GAP_WIDE);
        }
        let gap_ns = next.far.dt_ns.saturating_sub(prev.far.dt_ns);
        let kept = within(gap_ns, prev.far.sigma_ns.saturating_add(next.far.sigma_ns), between.max_gap_ns);
        if kept.unsure {
            flags |= flag::AMBIGUOUS;
        }
        let keeps = if self.is_certain() { kept.surely } else { kept.point };
        if !keeps {
            return self.beyond(between, prev, flags | flag::GAP_WIDE);
        }
        if self.is_certain() && flags != 0 {
            return Found::nothing(flags);
        }
        let near = if prev.far.length() <= next.far.length() { prev.far } else { next.far };
        let weight = share(prev.far.length(), gap_ns);
        Found { lo: prev.row, hi: next.row, weight, gap_ns, near, n: 2, flag: flags }
    }

    /// Beyond the last sample of a stretch, on the line through its last two.
    fn beyond(&self, between: Between, last: Neighbour, flags: i32) -> Found {
        let Some(before) = self.before.filter(|_| between.extrapolate_ns > 0) else {
            return Found::nothing(flags);
        };
        let gap_ns = last.far.dt_ns.saturating_sub(before.far.dt_ns);
        let kept = within(last.far.length(), last.far.sigma_ns, between.extrapolate_ns);
        let keeps = if self.is_certain() { kept.surely } else { kept.point };
        let sensible = gap_ns > 0 && gap_ns <= between.max_gap_ns && last.far.dt_ns <= 0;
        let ambiguous = kept.unsure || last.far.length() < last.far.sigma_ns;
        if !keeps || !sensible || (self.is_certain() && ambiguous) {
            return Found::nothing(flags);
        }
        let mut flags = flags & !flag::GAP_WIDE | flag::EXTRAPOLATED;
        if ambiguous {
            flags |= flag::AMBIGUOUS;
        }
        let weight = share(before.far.length(), gap_ns);
        Found { lo: before.row, hi: last.row, weight, gap_ns, near: last.far, n: 2, flag: flags }
    }

    fn is_one_installation(&self, a: u32, b: u32) -> bool {
        let chain = |row: u32| self.scene.lines.chain(self.scene.store.stamps.line[row as usize]);
        chain(a) == chain(b)
    }

    /// The fallback, and what the samples used say of themselves.
    fn completed(&self, mut found: Found) -> Found {
        if found.lo == NONE {
            match &self.scene.column.fallback {
                Fallback::Locf { max_age_ns } => found = self.carried(*max_age_ns, found),
                Fallback::Const(_) => found.flag |= flag::FALLBACK,
                Fallback::Null | Fallback::Drop => {}
            }
        }
        if found.lo != NONE {
            found.flag |= used(self.scene, self.at, [found.lo, found.hi]);
        }
        found
    }

    /// The newest sample before, up to an age.
    fn carried(&self, max_age_ns: i64, found: Found) -> Found {
        let Some(last) = self.prev.filter(|last| last.far.dt_ns <= 0) else { return found };
        let kept = within(last.far.length(), last.far.sigma_ns, max_age_ns);
        let keeps = if self.is_certain() { kept.surely } else { kept.point };
        if !keeps {
            return found;
        }
        Found::sample(last.row, last.far, found.flag | flag::FALLBACK)
    }

    /// [`flag::GAP_INSIDE`] if samples between the neighbours are recorded as missing.
    fn gap_inside(&self) -> i32 {
        let rows = (self.prev.map(|prev| prev.row), self.next.map(|next| next.row));
        let upto = rows.0.and_then(|prev| self.skipped_after(prev));
        if gap_between(self.scene, rows.0, rows.1, upto) { flag::GAP_INSIDE } else { 0 }
    }

    /// Seq of the first skipped sample beyond all that matters, in the installation of `prev`.
    fn skipped_after(&self, prev: u32) -> Option<u64> {
        let beyond_ns = match &self.scene.column.method {
            Method::Next { tolerance_ns } | Method::Nearest { tolerance_ns } => *tolerance_ns,
            Method::Linear(between) | Method::Slerp(between) | Method::Geodesic { between, .. } => {
                between.max_gap_ns.max(between.extrapolate_ns)
            }
            Method::Previous { .. } | Method::Window { .. } | Method::List { .. } => 0,
        };
        let Scene { store, lines, .. } = self.scene;
        let chain = lines.chain(store.stamps.line[prev as usize]);
        let of_chain = store.skipped_lines().filter(|(line, _)| lines.chain(*line) == chain);
        let first = |(line, skipped): (u32, &Skipped)| {
            let after =
                |same, time: i64| skipped.about(same, time.saturating_add(beyond_ns).saturating_add(1)).1;
            let (mark, from_ns) = match lines.relation(self.at.line, line) {
                Relation::Same => (after(true, self.at.event_ns), self.at.event_ns),
                Relation::Before => (None, 0),
                Relation::After if beyond_ns == 0 => (skipped.first(), self.at.ts_ns),
                Relation::After | Relation::Utc => (after(false, self.at.ts_ns), self.at.ts_ns),
            };
            let (key, seq) = mark?;
            Some((lines.get(line).map(|line| line.boot), key, seq, key.saturating_sub(from_ns)))
        };
        // What lies beyond is not waited for.
        let found = of_chain.filter_map(first).min();
        found.filter(|(.., dt_ns)| *dt_ns <= self.scene.ahead_ns).map(|(_, _, seq, _)| seq)
    }
}

/// Integer distances to a share, in one division.
#[expect(clippy::cast_precision_loss, reason = "differences beyond 2^53 ns, 104 days, are rounded once")]
pub(super) fn share(part_ns: i64, whole_ns: i64) -> f64 {
    part_ns as f64 / whole_ns as f64
}

/// Flags of the samples a row used.
pub(super) fn used(scene: &Scene<'_>, at: Instant, rows: [u32; 2]) -> i32 {
    let stamps = &scene.store.stamps;
    let lines = rows.map(|row| stamps.line[row as usize]);
    let mut flags = 0;
    if lines[0] != lines[1] || lines.iter().any(|line| scene.lines.crosses_boot(at.line, *line)) {
        flags |= flag::CROSS_BOOT;
    }
    if rows.iter().any(|row| stamps.grade[*row as usize] == Grade::OrderingOnly) {
        flags |= flag::LOW_GRADE;
    }
    flags
}

/// True if seqs between two samples are recorded as missing; of those only below `upto`, a sample that was skipped. Without
/// a later one in sight only the very next seq is asked for: what is missing after it may lie anywhere.
pub(super) fn gap_between(
    scene: &Scene<'_>,
    prev: Option<u32>,
    next: Option<u32>,
    upto: Option<u64>,
) -> bool {
    let Some(prev) = prev else { return false };
    let stamps = &scene.store.stamps;
    let (line, seq) = (stamps.line[prev as usize], stamps.seq[prev as usize]);
    let same = |next: &u32| scene.lines.chain(stamps.line[*next as usize]) == scene.lines.chain(line);
    let next = next.filter(same).map(|next| stamps.seq[next as usize]);
    let upto = upto.filter(|upto| *upto > seq);
    missing_after(scene, line, seq, next.into_iter().chain(upto).min())
}

/// True if seqs after `seq` and before `next` are recorded as missing; without a next one, if the very next is.
pub(super) fn missing_after(scene: &Scene<'_>, line: u32, seq: u64, next: Option<u64>) -> bool {
    let from = seq.saturating_add(1);
    let to = next.unwrap_or(from.saturating_add(1));
    let Some(line) = scene.lines.get(line).filter(|_| from < to) else { return false };
    scene.gaps.any(scene.place, line, from..to)
}

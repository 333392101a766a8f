//! Which samples a row takes, by the method of the column.

use super::*;

impl View<'_> {
    pub(super) fn column(&self, cells: &mut Cells) -> bool {
        let all: Vec<usize> = (0..self.samples.len()).collect();
        if let Method::Window { from_ns, to_ns, .. } | Method::List { from_ns, to_ns, .. } =
            self.column.method
        {
            return self.window(cells, from_ns, to_ns);
        }
        let at_is_next = matches!(self.column.method, Method::Next { .. });
        let is_before = |s: &&usize| match self.order(**s) {
            Ordering::Less => true,
            Ordering::Equal => !at_is_next,
            Ordering::Greater => false,
        };
        let before: Vec<usize> = all.iter().filter(is_before).copied().collect();
        let after: Vec<usize> = all.iter().filter(|s| !is_before(s)).copied().collect();
        let on = match self.column.method {
            Method::Next { tolerance_ns } | Method::Nearest { tolerance_ns } => tolerance_ns,
            Method::Linear(b) | Method::Slerp(b) | Method::Geodesic { between: b, .. } => b.max_gap_ns,
            _ => 0,
        };
        let prev = self.extreme(&before, true);
        let next = self.extreme(&after, false);
        let (outer_prev, outer_next) =
            (prev.and_then(|s| self.farther(s, true)), next.and_then(|s| self.farther(s, false)));
        let (next, outer_next) = (self.seen(next, on), self.seen(outer_next, on));
        let (mut found, mut flags) = match self.column.method {
            Method::Previous { tolerance_ns } => self.one_sided(prev, next, tolerance_ns, -1),
            Method::Next { tolerance_ns } => self.one_sided(next, prev, tolerance_ns, 1),
            Method::Nearest { tolerance_ns } => {
                self.nearest([outer_prev, prev, next, outer_next], tolerance_ns)
            }
            Method::Linear(b) | Method::Slerp(b) | Method::Geodesic { between: b, .. } => {
                self.between(outer_prev, prev, next, b)
            }
            _ => unreachable!(),
        };
        if self.gap(prev, next, self.skipped_beyond(prev, on)) {
            flags |= flag::GAP_INSIDE;
        }
        let matched = found.is_some();
        if let (None, Fallback::Locf { max_age_ns }) = (&found, &self.column.fallback) {
            let carried = prev.filter(|s| {
                let far = self.far(*s);
                let age = far.dt.abs() + if self.is_certain() { far.sigma } else { 0 };
                far.dt <= 0 && age <= *max_age_ns
            });
            if let Some(s) = carried {
                found = Some(self.single(s));
                flags |= flag::FALLBACK;
            }
        }
        if found.is_none() && matches!(self.column.fallback, Fallback::Const(_)) {
            flags |= flag::FALLBACK;
        }
        flags |= found.map_or(0, |found| self.used(found.lo, found.hi));
        self.source(cells, found, flags);
        self.values(cells, found);
        matched || found.is_some()
    }

    pub(super) fn single(&self, s: usize) -> Found {
        Found { lo: s, hi: s, w: 0.0, gap: 0, near: self.far(s), n: 1 }
    }

    /// Whether a length keeps a limit: by estimate, surely, possibly.
    pub(super) fn limit(length: i64, sigma: i64, limit: i64) -> (bool, bool, bool) {
        (length <= limit, length + sigma <= limit, length - sigma <= limit)
    }

    pub(super) fn judged(&self, s: usize, tolerance: i64, rival: bool) -> (Option<Found>, i32) {
        let far = self.far(s);
        let (point, surely, possibly) = Self::limit(far.dt.abs(), far.sigma, tolerance);
        let ambiguous = rival || (point && !surely) || (!point && possibly);
        let ok = if self.is_certain() { surely } else { point };
        let flags = (if ambiguous { flag::AMBIGUOUS } else { 0 }) | (if ok { 0 } else { flag::BEYOND });
        let matches = ok && !(self.is_certain() && ambiguous);
        (matches.then(|| self.single(s)), flags)
    }

    pub(super) fn one_sided(
        &self,
        here: Option<usize>,
        there: Option<usize>,
        tolerance: i64,
        sign: i64,
    ) -> (Option<Found>, i32) {
        // Could the neighbour on the other side truly lie on this one?
        let rival = there.is_some_and(|s| {
            let far = self.far(s);
            far.dt.abs() <= LOOK_NS && far.dt.abs() - far.sigma <= 0
        });
        let Some(s) = here else { return (None, flag::NONE | if rival { flag::AMBIGUOUS } else { 0 }) };
        let leaves = sign * self.far(s).dt - self.far(s).sigma < 0;
        self.judged(s, tolerance, rival || leaves)
    }

    pub(super) fn nearest(&self, row: [Option<usize>; 4], tolerance: i64) -> (Option<Found>, i32) {
        let length = |s: usize| self.far(s).dt.abs();
        let here = match (row[1], row[2]) {
            (Some(a), Some(b)) if length(a) == length(b) => {
                Some(if self.column.tie == Tie::Previous { 1 } else { 2 })
            }
            (Some(a), Some(b)) => Some(if length(a) < length(b) { 1 } else { 2 }),
            (Some(_), None) => Some(1),
            (None, Some(_)) => Some(2),
            (None, None) => None,
        };
        let Some(here) = here else { return (None, flag::NONE) };
        let s = row[here].unwrap();
        let rival = [here - 1, here + 1].into_iter().any(|other| {
            let Some(o) = row.get(other).copied().flatten() else { return false };
            let (nearest, farthest) = (length(o) - self.far(o).sigma, length(s) + self.far(s).sigma);
            let tie_is_theirs = (other < here) == (self.column.tie == Tie::Previous);
            length(o) <= tolerance + LOOK_NS && (nearest < farthest || (nearest == farthest && tie_is_theirs))
        });
        self.judged(s, tolerance, rival)
    }

    pub(super) fn between(
        &self,
        outer: Option<usize>,
        prev: Option<usize>,
        next: Option<usize>,
        b: Between,
    ) -> (Option<Found>, i32) {
        let Some(p) = prev else { return (None, flag::NONE) };
        let unsure = |s: usize| self.far(s).dt.abs() < self.far(s).sigma;
        if self.far(p).dt == 0 {
            let flags = if unsure(p) { flag::AMBIGUOUS } else { 0 };
            return ((!self.is_certain() || flags == 0).then(|| self.single(p)), flags);
        }
        let mut flags = 0;
        if let Some(n) = next {
            if unsure(p) || unsure(n) {
                flags |= flag::AMBIGUOUS;
            }
            let (dp, dn) = (self.far(p).dt, self.far(n).dt);
            if dp > 0 || dn < 0 || self.chain(self.samples[p].line) != self.chain(self.samples[n].line) {
                return (None, flags | flag::GAP_WIDE);
            }
            let (point, surely, possibly) =
                Self::limit(dn - dp, self.far(p).sigma + self.far(n).sigma, b.max_gap_ns);
            if (point && !surely) || (!point && possibly) {
                flags |= flag::AMBIGUOUS;
            }
            if if self.is_certain() { surely } else { point } {
                if self.is_certain() && flags != 0 {
                    return (None, flags);
                }
                let near = if -dp <= dn { self.far(p) } else { self.far(n) };
                let w = (-dp) as f64 / (dn - dp) as f64;
                return (Some(Found { lo: p, hi: n, w, gap: dn - dp, near, n: 2 }), flags);
            }
        }
        if b.extrapolate_ns > 0
            && let Some(o) = outer
        {
            let (far, gap) = (self.far(p), self.far(p).dt - self.far(o).dt);
            let (point, surely, possibly) = Self::limit(far.dt.abs(), far.sigma, b.extrapolate_ns);
            let ambiguous = (point && !surely) || (!point && possibly) || unsure(p);
            let ok = if self.is_certain() { surely && !ambiguous } else { point };
            if ok && gap > 0 && gap <= b.max_gap_ns && far.dt <= 0 {
                let w = self.far(o).dt.abs() as f64 / gap as f64;
                let more = if ambiguous { flag::AMBIGUOUS } else { 0 };
                return (
                    Some(Found { lo: o, hi: p, w, gap, near: far, n: 2 }),
                    flags | more | flag::EXTRAPOLATED,
                );
            }
        }
        (None, flags | flag::GAP_WIDE)
    }

    pub(super) fn used(&self, lo: usize, hi: usize) -> i32 {
        let lines = [self.samples[lo].line, self.samples[hi].line];
        let other_boot = |line: &usize| {
            self.at.line.is_some_and(|at| at != *line && self.chain(at).0 == self.chain(*line).0)
        };
        let cross = lines[0] != lines[1] || lines.iter().any(other_boot);
        let low = [lo, hi].iter().any(|s| self.samples[*s].grade == Grade::OrderingOnly);
        (if cross { flag::CROSS_BOOT } else { 0 }) | (if low { flag::LOW_GRADE } else { 0 })
    }

    /// The first skipped sample of the installation of `prev` behind all that a row may be made of.
    pub(super) fn skipped_beyond(&self, prev: Option<usize>, on: i64) -> Option<u64> {
        let beyond = match &self.column.method {
            Method::Previous { .. } | Method::Window { .. } | Method::List { .. } => 0,
            Method::Next { tolerance_ns } | Method::Nearest { tolerance_ns } => *tolerance_ns,
            Method::Linear(b) | Method::Slerp(b) | Method::Geodesic { between: b, .. } => {
                b.max_gap_ns.max(b.extrapolate_ns)
            }
        };
        let chain = self.chain(self.samples[prev?].line);
        let mut found = Vec::new();
        for sample in self.skipped.iter().filter(|sample| self.chain(sample.line) == chain) {
            let boot = self.world.lines[sample.line].boot.0;
            let own = self.at.line.filter(|line| self.chain(*line) == chain);
            let later = own.is_some_and(|line| boot > self.world.lines[line].boot.0);
            let (is_after, key) = match own {
                Some(line) if line == sample.line => (sample.event > self.at.event + beyond, sample.event),
                Some(_) if later && beyond == 0 => (true, sample.event),
                Some(_) => (later && sample.ts > self.at.ts + beyond, sample.ts),
                None => (sample.ts > self.at.ts + beyond, sample.ts),
            };
            let dt =
                if self.at.line == Some(sample.line) { key - self.at.event } else { sample.ts - self.at.ts };
            if is_after {
                found.push((boot, key, sample.seq, dt));
            }
        }
        found.into_iter().min().filter(|(.., dt)| *dt <= on + LOOK_NS).map(|(_, _, seq, _)| seq)
    }

    pub(super) fn gap(&self, prev: Option<usize>, next: Option<usize>, skipped: Option<u64>) -> bool {
        let Some(p) = prev else { return false };
        let seq = self.samples[p].seq;
        let next = next.filter(|n| self.chain(self.samples[*n].line) == self.chain(self.samples[p].line));
        let next = next.map(|n| self.samples[n].seq).into_iter();
        let to = next.chain(skipped.filter(|skipped| *skipped > seq)).min();
        self.missing(self.samples[p].line, seq, to)
    }

    /// Whether seqs between two are missing, or of one alone the very next.
    pub(super) fn missing(&self, line: usize, seq: u64, to: Option<u64>) -> bool {
        let line = &self.world.lines[line];
        (seq + 1..to.unwrap_or(seq + 2)).any(|seq| self.world.missing.any(self.place, line, seq..seq + 1))
    }
}

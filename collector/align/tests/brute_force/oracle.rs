//! The rules of alignment, row by row over all samples, in the plainest words there are.

use crate::cell::{Cell, Cells};
use crate::world::{Sample, World};
use headwater_align::engine::{Gaps, LOOK_NS, flag};
use headwater_align::recipe::*;
use headwater_core::time::Grade;
use std::cmp::Ordering;

/// A row's instant: a sample, or a point of a grid.
#[derive(Debug, Clone)]
struct At {
    line: Option<usize>,
    event: i64,
    half: i64,
    ts: i64,
    err: i64,
}

/// All rows, and how many were dropped, passed over, of low grade and too wide.
pub(crate) fn rows(world: &World) -> (Vec<Cells>, [u64; 4]) {
    let mut counts = [0; 4];
    let mut out = Vec::new();
    for (at, mut cells) in spine(world, &mut counts) {
        let mut keeps = true;
        for place in 0..world.recipe.columns.len() {
            let view = View::new(world, place, &at);
            let found = view.column(&mut cells);
            keeps &= found || view.column.fallback != Fallback::Drop;
        }
        if keeps {
            out.push(cells);
        } else {
            counts[0] += 1;
        }
    }
    (out, counts)
}

fn spine(world: &World, counts: &mut [u64; 4]) -> Vec<(At, Cells)> {
    let spine = &world.recipe.spine;
    let good = |sample: &Sample, counts: &mut [u64; 4]| {
        if sample.grade < spine.min_grade {
            counts[2] += 1;
        } else if spine.max_err_ns.is_some_and(|max| sample.err > max) {
            counts[3] += 1;
        } else {
            return true;
        }
        false
    };
    let named = |sample: &Sample, stream: &str| {
        let line = &world.lines[sample.line];
        let at = At {
            line: Some(sample.line),
            event: sample.event,
            half: sample.half,
            ts: sample.ts,
            err: sample.err,
        };
        let key = format!("{}/{stream}/{}", line.epoch, sample.seq);
        (at.clone(), identity(line.device.as_str(), &at, sample.grade, key))
    };
    match &spine.source {
        SpineSource::Stream { select, .. } => {
            let mut rows = Vec::new();
            for sample in world.spine[0].iter().filter(|sample| good(sample, counts)) {
                let mut row = named(sample, "spine");
                if !select.is_empty() {
                    row.1.insert("k".to_owned(), sample.values[0].clone());
                }
                rows.push(row);
            }
            rows
        }
        SpineSource::Event { when, select, .. } => {
            let Constant::Number(wanted) = when.value else { panic!("numbers only here") };
            let meets = |sample: &Sample| {
                let Cell::Int(x) = sample.values[0] else { return false };
                let order = (x as f64).partial_cmp(&wanted).unwrap();
                match when.op {
                    CompareOp::Eq => order == Ordering::Equal,
                    CompareOp::Ne => order != Ordering::Equal,
                    CompareOp::Lt => order == Ordering::Less,
                    CompareOp::Le => order != Ordering::Greater,
                    CompareOp::Gt => order == Ordering::Greater,
                    CompareOp::Ge => order != Ordering::Less,
                }
            };
            let mut rows = Vec::new();
            for (place, sample) in world.spine[0].iter().enumerate() {
                if !meets(sample) || (place > 0 && meets(&world.spine[0][place - 1])) {
                    counts[1] += 1;
                } else if good(sample, counts) {
                    let mut row = named(sample, "spine");
                    if !select.is_empty() {
                        row.1.insert("k".to_owned(), sample.values[0].clone());
                    }
                    rows.push(row);
                }
            }
            rows
        }
        SpineSource::Union { streams } => {
            let mut all: Vec<(usize, &Sample)> = Vec::new();
            for (place, samples) in world.spine.iter().enumerate() {
                all.extend(
                    samples.iter().filter(|sample| good(sample, counts)).map(|sample| (place, sample)),
                );
            }
            all.sort_by_key(|(place, s)| (s.ts, world.lines[s.line].clone(), s.event, *place, s.seq));
            let mut kept: Vec<(usize, &Sample)> = Vec::new();
            for (place, sample) in all {
                let one = kept.last().is_some_and(|(_, last)| {
                    last.ts == sample.ts && (last.line != sample.line || last.event == sample.event)
                });
                if one {
                    counts[1] += 1;
                } else {
                    kept.push((place, sample));
                }
            }
            kept.into_iter().map(|(place, sample)| named(sample, streams[place].as_str())).collect()
        }
        SpineSource::Grid { period_ns, phase_ns, epoch_ns } => {
            let seen = world.columns.iter().flatten().filter(|s| s.grade >= spine.min_grade).map(|s| s.ts);
            let (Some(first), Some(last)) = (seen.clone().min(), seen.max()) else { return Vec::new() };
            let origin = epoch_ns + phase_ns;
            let mut n = (first - origin).div_euclid(*period_ns) - 1;
            let mut rows = Vec::new();
            while origin + n * period_ns <= last {
                let ts = origin + n * period_ns;
                if ts >= first {
                    let at = At { line: None, event: 0, half: 0, ts, err: 0 };
                    rows.push((at.clone(), identity("entity", &at, Grade::Guaranteed, format!("grid/{n}"))));
                }
                n += 1;
            }
            rows
        }
    }
}

fn identity(device: &str, at: &At, grade: Grade, key: String) -> Cells {
    Cells::from([
        ("device".to_owned(), Cell::Text(device.to_owned())),
        ("ts".to_owned(), Cell::Int(at.ts.div_euclid(1000))),
        ("ts_ns".to_owned(), Cell::Int(at.ts)),
        ("ts_err_ns".to_owned(), Cell::Int(at.err)),
        ("grade".to_owned(), Cell::Text(grade.as_str().to_owned())),
        ("row_key".to_owned(), Cell::Text(key)),
    ])
}

/// Samples of a column as one row sees them.
struct View<'a> {
    world: &'a World,
    column: &'a Column,
    place: usize,
    at: &'a At,
    /// Candidates, shifted, in the order fed.
    samples: Vec<Sample>,
    /// What is no candidate for want of a value.
    skipped: Vec<Sample>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Far {
    dt: i64,
    sigma: i64,
}

#[derive(Debug, Clone, Copy)]
struct Found {
    lo: usize,
    hi: usize,
    w: f64,
    gap: i64,
    near: Far,
    n: i64,
}

impl<'a> View<'a> {
    fn new(world: &'a World, place: usize, at: &'a At) -> Self {
        let column = &world.recipe.columns[place];
        let some = |sample: &&Sample| {
            column.nulls == Nulls::Take
                || sample.values[..column.select.len()].iter().any(|v| *v != Cell::Null)
        };
        let shifted = |sample: &Sample| Sample {
            event: sample.event + column.offset_ns,
            ts: sample.ts + column.offset_ns,
            ..sample.clone()
        };
        let (samples, skipped): (Vec<&Sample>, Vec<&Sample>) = world.columns[place].iter().partition(some);
        let shift = |samples: Vec<&Sample>| samples.into_iter().map(shifted).collect();
        Self { world, column, place, at, samples: shift(samples), skipped: shift(skipped) }
    }

    fn is_certain(&self) -> bool {
        self.world.recipe.mode == Mode::Certain
    }

    fn same_line(&self, s: usize) -> bool {
        self.at.line == Some(self.samples[s].line)
    }

    fn chain(&self, line: usize) -> (&str, u64) {
        (self.world.lines[line].device.as_str(), self.world.lines[line].epoch.0)
    }

    fn same_chain(&self, s: usize) -> bool {
        self.at.line.is_some_and(|line| self.chain(line) == self.chain(self.samples[s].line))
    }

    fn boot(&self, s: usize) -> u32 {
        self.world.lines[self.samples[s].line].boot.0
    }

    fn far(&self, s: usize) -> Far {
        let sample = &self.samples[s];
        if self.same_line(s) {
            let dt = sample.event - self.at.event;
            // 50 ppm, rounded up.
            Far { dt, sigma: self.at.half + sample.half + (dt.abs() * 50_000 + 999_999_999) / 1_000_000_000 }
        } else {
            Far { dt: sample.ts - self.at.ts, sigma: self.at.err + sample.err }
        }
    }

    /// How the sample lies to the instant: boots of one installation by number, one line by event, others by UTC.
    fn order(&self, s: usize) -> Ordering {
        if self.same_line(s) {
            self.samples[s].event.cmp(&self.at.event)
        } else if self.same_chain(s) {
            let boot = self.world.lines[self.at.line.unwrap()].boot.0;
            self.boot(s).cmp(&boot)
        } else {
            self.samples[s].ts.cmp(&self.at.ts)
        }
    }

    /// What a sample is ordered by among those of its line.
    fn key(&self, s: usize) -> i64 {
        if self.same_chain(s) { self.samples[s].event } else { self.samples[s].ts }
    }

    fn of_group(&self, mut group: Vec<usize>) -> Option<usize> {
        group.sort_unstable();
        if self.column.duplicates == Duplicates::Last {
            group.last().copied()
        } else {
            group.first().copied()
        }
    }

    /// The last of a set of samples, or the first.
    fn extreme(&self, set: &[usize], last: bool) -> Option<usize> {
        let pick = |keys: Vec<i64>| if last { keys.into_iter().max() } else { keys.into_iter().min() };
        let mut best: Option<usize> = None;
        let mut chains: Vec<(&str, u64)> = set.iter().map(|s| self.chain(self.samples[*s].line)).collect();
        chains.sort_unstable();
        chains.dedup();
        for chain in chains {
            let of_chain: Vec<usize> =
                set.iter().copied().filter(|s| self.chain(self.samples[*s].line) == chain).collect();
            let boot = pick(of_chain.iter().map(|s| i64::from(self.boot(*s))).collect())?;
            let of_boot: Vec<usize> =
                of_chain.into_iter().filter(|s| i64::from(self.boot(*s)) == boot).collect();
            let key = pick(of_boot.iter().map(|s| self.key(*s)).collect())?;
            let found = self.of_group(of_boot.into_iter().filter(|s| self.key(*s) == key).collect())?;
            let ts = self.samples[found].ts;
            let takes_over = best.is_none_or(|best: usize| {
                let known = self.samples[best].ts;
                let better = if last { ts > known } else { ts < known };
                better || (ts == known && self.column.duplicates == Duplicates::Last)
            });
            if takes_over {
                best = Some(found);
            }
        }
        best
    }

    /// The sample of the next group on the line of `s`, away from the instant.
    fn farther(&self, s: usize, last: bool) -> Option<usize> {
        let on_line: Vec<usize> = (0..self.samples.len())
            .filter(|o| self.samples[*o].line == self.samples[s].line)
            .filter(|o| if last { self.key(*o) < self.key(s) } else { self.key(*o) > self.key(s) })
            .collect();
        self.extreme(&on_line, last)
    }

    fn seen(&self, s: Option<usize>, on: i64) -> Option<usize> {
        s.filter(|s| self.far(*s).dt <= on + LOOK_NS)
    }

    fn column(&self, cells: &mut Cells) -> bool {
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

    fn single(&self, s: usize) -> Found {
        Found { lo: s, hi: s, w: 0.0, gap: 0, near: self.far(s), n: 1 }
    }

    /// Whether a length keeps a limit: by estimate, surely, possibly.
    fn limit(length: i64, sigma: i64, limit: i64) -> (bool, bool, bool) {
        (length <= limit, length + sigma <= limit, length - sigma <= limit)
    }

    fn judged(&self, s: usize, tolerance: i64, rival: bool) -> (Option<Found>, i32) {
        let far = self.far(s);
        let (point, surely, possibly) = Self::limit(far.dt.abs(), far.sigma, tolerance);
        let ambiguous = rival || (point && !surely) || (!point && possibly);
        let ok = if self.is_certain() { surely } else { point };
        let flags = (if ambiguous { flag::AMBIGUOUS } else { 0 }) | (if ok { 0 } else { flag::BEYOND });
        let matches = ok && !(self.is_certain() && ambiguous);
        (matches.then(|| self.single(s)), flags)
    }

    fn one_sided(
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

    fn nearest(&self, row: [Option<usize>; 4], tolerance: i64) -> (Option<Found>, i32) {
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

    fn between(
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

    fn used(&self, lo: usize, hi: usize) -> i32 {
        let lines = [self.samples[lo].line, self.samples[hi].line];
        let other_boot = |line: &usize| {
            self.at.line.is_some_and(|at| at != *line && self.chain(at).0 == self.chain(*line).0)
        };
        let cross = lines[0] != lines[1] || lines.iter().any(other_boot);
        let low = [lo, hi].iter().any(|s| self.samples[*s].grade == Grade::OrderingOnly);
        (if cross { flag::CROSS_BOOT } else { 0 }) | (if low { flag::LOW_GRADE } else { 0 })
    }

    /// The first skipped sample of the installation of `prev` behind all that a row may be made of.
    fn skipped_beyond(&self, prev: Option<usize>, on: i64) -> Option<u64> {
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

    fn gap(&self, prev: Option<usize>, next: Option<usize>, skipped: Option<u64>) -> bool {
        let Some(p) = prev else { return false };
        let seq = self.samples[p].seq;
        let next = next.filter(|n| self.chain(self.samples[*n].line) == self.chain(self.samples[p].line));
        let next = next.map(|n| self.samples[n].seq).into_iter();
        let to = next.chain(skipped.filter(|skipped| *skipped > seq)).min();
        self.missing(self.samples[p].line, seq, to)
    }

    /// Whether seqs between two are missing, or of one alone the very next.
    fn missing(&self, line: usize, seq: u64, to: Option<u64>) -> bool {
        let line = &self.world.lines[line];
        (seq + 1..to.unwrap_or(seq + 2)).any(|seq| self.world.missing.any(self.place, line, seq..seq + 1))
    }

    fn source(&self, cells: &mut Cells, found: Option<Found>, flags: i32) {
        let name = format!("{}_src", self.column.name);
        let mut put = |member: &str, cell: Option<Cell>| {
            cells.insert(format!("{name}.{member}"), cell.unwrap_or(Cell::Null))
        };
        let seq = |s: usize| Cell::Int(self.samples[s].seq as i64);
        put("stream", found.map(|_| Cell::Text(self.column.stream.to_string())));
        put("epoch", found.map(|f| Cell::Text(self.world.lines[self.samples[f.hi].line].epoch.to_string())));
        put("seq_lo", found.map(|f| seq(f.lo)));
        put("seq_hi", found.map(|f| seq(f.hi)));
        put("dt_ns", found.map(|f| Cell::Int(f.near.dt)));
        put("err_ns", found.map(|f| Cell::Int(f.near.sigma)));
        put("n", Some(Cell::Int(found.map_or(0, |f| f.n))));
        put("flag", Some(Cell::Int(flags.into())));
    }

    fn place_of(&self, field: &str) -> Option<usize> {
        self.world.fields[self.place].iter().position(|(name, _)| name == field)
    }

    /// A field of a sample as a number, in the wanted unit.
    fn number(&self, s: usize, field: usize) -> Option<f64> {
        let x = match self.samples[s].values[field] {
            Cell::Bits(bits) => f64::from_bits(bits),
            Cell::Int(x) => x as f64,
            _ => return None,
        };
        Some(if self.is_kelvin(field) { (x * 20.0 + 5463.0) / 20.0 } else { x })
    }

    fn is_kelvin(&self, field: usize) -> bool {
        field == 0 && !self.column.units.is_empty()
    }

    /// A field of a sample as it is put out.
    fn plain(&self, s: usize, field: usize) -> Cell {
        match &self.samples[s].values[field] {
            Cell::Bits(_) => self.number(s, field).map_or(Cell::Null, Cell::float),
            other => other.clone(),
        }
    }

    fn constant(&self, field: usize, float: bool) -> Option<Cell> {
        let Fallback::Const(constants) = &self.column.fallback else { return None };
        let name = self.column.select[field].clone();
        let Some(Constant::Number(x)) = constants.get(&name) else { return None };
        let float = float || self.world.fields[self.place][field].1 != arrow_schema::DataType::Int64;
        Some(if float { Cell::float(*x) } else { Cell::Int(*x as i64) })
    }

    fn values(&self, cells: &mut Cells, found: Option<Found>) {
        let computed = !matches!(
            self.column.method,
            Method::Previous { .. } | Method::Next { .. } | Method::Nearest { .. }
        );
        for field in 0..self.column.select.len() {
            let name = format!("{}_{}", self.column.name, self.column.select[field]);
            let (mut value, rate) = match found {
                None => (Cell::Null, None),
                Some(found) if !computed => (self.plain(found.lo, field), None),
                Some(found) => self.computed(found, field),
            };
            let kind = &self.world.fields[self.place][field].1;
            if self.column.uncertainty && *kind != arrow_schema::DataType::Utf8 {
                let u = found
                    .filter(|_| value != Cell::Null)
                    .and_then(|found| self.uncertainty(found, field, rate, computed));
                cells.insert(format!("{name}_u"), u.map_or(Cell::Null, Cell::Near));
            }
            if found.is_none()
                && let Some(constant) = self.constant(field, computed)
            {
                value = constant;
            }
            cells.insert(name, value);
        }
    }

    fn uncertainty(&self, found: Found, field: usize, rate: Option<f64>, computed: bool) -> Option<f64> {
        let name = match (&self.column.method, field) {
            (Method::Geodesic { .. }, 0 | 1) => "eph".to_owned(),
            (Method::Geodesic { .. }, _) => "epv".to_owned(),
            _ => format!("{}_u", self.column.select[field]),
        };
        let own = |s: usize| {
            let place = self.place_of(&name)?;
            let Cell::Bits(bits) = self.samples[s].values[place] else { return None };
            Some(f64::from_bits(bits).abs())
        };
        let own = match (own(found.lo), own(found.hi)) {
            (Some(a), Some(b)) => Some(a.max(b)),
            (a, b) => a.or(b),
        };
        if !computed {
            return own;
        }
        Some(rate.unwrap_or(0.0) * found.near.sigma as f64 + own.unwrap_or(0.0))
    }

    /// An interpolated value, and its change per ns.
    fn computed(&self, found: Found, field: usize) -> (Cell, Option<f64>) {
        let per_ns = |change: f64| if found.gap > 0 { change / found.gap as f64 } else { 0.0 };
        match &self.column.method {
            Method::Slerp(_) => {
                let q = |s: usize| {
                    let q: Option<Vec<f64>> = (0..4).map(|field| self.number(s, field)).collect();
                    let q = q?;
                    let norm = q.iter().map(|x| x * x).sum::<f64>().sqrt();
                    (norm > 0.0).then(|| q.iter().map(|x| x / norm).collect::<Vec<f64>>())
                };
                let (Some(a), Some(mut b)) = (q(found.lo), q(found.hi)) else { return (Cell::Null, None) };
                if found.lo == found.hi {
                    return (Cell::Near(a[field]), Some(0.0));
                }
                let mut cosine: f64 = (0..4).map(|i| a[i] * b[i]).sum();
                if cosine < 0.0 {
                    b.iter_mut().for_each(|x| *x = -*x);
                    cosine = -cosine;
                }
                let angle = cosine.min(1.0).acos();
                let value = if angle < 1e-6 {
                    a[field]
                } else {
                    ((1.0 - found.w) * angle).sin() / angle.sin() * a[field]
                        + (found.w * angle).sin() / angle.sin() * b[field]
                };
                (Cell::Near(value), Some(per_ns(2.0 * angle)))
            }
            Method::Geodesic { .. } if field < 2 => {
                let at = |s: usize| Some((self.number(s, 0)?.to_radians(), self.number(s, 1)?.to_radians()));
                let (Some(a), Some(b)) = (at(found.lo), at(found.hi)) else { return (Cell::Null, None) };
                if found.lo == found.hi {
                    return (self.number(found.lo, field).map_or(Cell::Null, Cell::float), Some(0.0));
                }
                // Haversine, and the intermediate point by it.
                let h = ((b.0 - a.0) / 2.0).sin().powi(2)
                    + a.0.cos() * b.0.cos() * ((b.1 - a.1) / 2.0).sin().powi(2);
                let d = 2.0 * h.sqrt().min(1.0).asin();
                if d < 1e-9 {
                    return (Cell::Near(self.number(found.lo, field).unwrap()), Some(per_ns(0.0)));
                }
                let (fa, fb) = (((1.0 - found.w) * d).sin() / d.sin(), (found.w * d).sin() / d.sin());
                let x = fa * a.0.cos() * a.1.cos() + fb * b.0.cos() * b.1.cos();
                let y = fa * a.0.cos() * a.1.sin() + fb * b.0.cos() * b.1.sin();
                let z = fa * a.0.sin() + fb * b.0.sin();
                let value = if field == 0 { z.atan2(x.hypot(y)) } else { y.atan2(x) };
                (Cell::Near(value.to_degrees()), Some(per_ns(d * 6_371_008.8)))
            }
            _ => {
                let (Some(a), Some(b)) = (self.number(found.lo, field), self.number(found.hi, field)) else {
                    return (Cell::Null, None);
                };
                let value = if found.lo == found.hi { a } else { a + found.w * (b - a) };
                (Cell::float(value), Some(per_ns((b - a).abs())))
            }
        }
    }
}

/// Windows and lists.
impl View<'_> {
    fn window(&self, cells: &mut Cells, from: i64, to: i64) -> bool {
        let inside = |s: &usize| (from..to).contains(&self.far(*s).dt);
        let held = self.total_order((0..self.samples.len()).filter(inside).collect());
        let (edges, gap) = self.lanes(from, to);
        let min_count = match &self.column.method {
            Method::Window { min_count, .. } => *min_count as usize,
            _ => 1,
        };
        let unknown = self.is_certain() && edges > 0;
        let mut flags =
            (if edges > 0 { flag::STRADDLES } else { 0 }) | (if gap { flag::GAP_INSIDE } else { 0 });
        let enough = held.len() >= min_count.max(1);
        if !enough {
            flags |= flag::NONE;
        }
        let matched = enough && !unknown;
        let cap = match self.column.method {
            Method::List { max_items, .. } => max_items as usize,
            _ => usize::MAX,
        };
        let kept = &held[..held.len().min(cap)];
        let mut found = None;
        if matched {
            let last = *kept.last().unwrap();
            let chain = |s: usize| self.chain(self.samples[s].line);
            let first = kept.iter().copied().find(|s| chain(*s) == chain(last)).unwrap();
            let near = if self.far(first).dt.abs() <= self.far(last).dt.abs() { first } else { last };
            found = Some(Found {
                lo: first,
                hi: last,
                w: 0.0,
                gap: 0,
                near: self.far(near),
                n: kept.len() as i64,
            });
            flags |= self.used(kept[0], last);
            if held.len() > cap {
                flags |= flag::CAPPED;
            }
        } else if matches!(self.column.fallback, Fallback::Const(_)) {
            flags |= flag::FALLBACK;
        }
        self.source(cells, found, flags);
        if self.column.uncertainty {
            cells.insert(format!("{}_edge_n", self.column.name), Cell::Int(edges));
        }
        match &self.column.method {
            Method::List { .. } => self.list(cells, kept, matched),
            Method::Window { stats, .. } => {
                for field in 0..self.column.select.len() {
                    let fields: Vec<usize> = held
                        .iter()
                        .copied()
                        .filter(|s| self.samples[*s].values[field] != Cell::Null)
                        .collect();
                    for stat in stats {
                        let value = self.stat(*stat, field, &fields, min_count.max(1), unknown, matched);
                        let name = format!("{stat:?}").to_lowercase();
                        cells.insert(
                            format!("{}_{}_{name}", self.column.name, self.column.select[field]),
                            value,
                        );
                    }
                }
            }
            _ => unreachable!(),
        }
        matched
    }

    fn list(&self, cells: &mut Cells, kept: &[usize], matched: bool) {
        for field in 0..self.column.select.len() {
            let items = kept.iter().map(|s| self.plain(*s, field)).collect();
            let name = format!("{}_{}", self.column.name, self.column.select[field]);
            cells.insert(name, if matched { Cell::List(items) } else { Cell::Null });
        }
        let dt = kept.iter().map(|s| Cell::Int(self.far(*s).dt)).collect();
        cells
            .insert(format!("{}_dt_ns", self.column.name), if matched { Cell::List(dt) } else { Cell::Null });
    }

    fn stat(
        &self,
        stat: WindowStat,
        field: usize,
        held: &[usize],
        least: usize,
        unknown: bool,
        matched: bool,
    ) -> Cell {
        if stat == WindowStat::Count {
            return if unknown { Cell::Null } else { Cell::Int(held.len() as i64) };
        }
        let float =
            matches!(stat, WindowStat::Mean | WindowStat::Std | WindowStat::Sum) || self.is_kelvin(field);
        if !matched && let Some(constant) = self.constant(field, float) {
            return constant;
        }
        if unknown || held.len() < least {
            return Cell::Null;
        }
        let numbers: Vec<f64> = held.iter().map(|s| self.number(*s, field).unwrap()).collect();
        let n = numbers.len() as f64;
        let mean = neumaier(&numbers) / n;
        // Whole numbers are compared as such.
        let whole = |s: usize| if let Cell::Int(x) = self.samples[s].values[field] { x } else { 0 };
        let less = |a: usize, b: usize| match self
            .number(a, field)
            .unwrap()
            .partial_cmp(&self.number(b, field).unwrap())
        {
            Some(Ordering::Equal) => whole(a) < whole(b),
            order => order == Some(Ordering::Less),
        };
        let is_nan = |s: &&usize| self.number(**s, field).unwrap().is_nan();
        let extreme = |better: &dyn Fn(usize, usize) -> bool| {
            let nan = held.iter().find(is_nan).copied();
            let best = held.iter().copied().reduce(|best, s| if better(s, best) { s } else { best });
            self.plain(nan.or(best).unwrap(), field)
        };
        match stat {
            WindowStat::Mean => Cell::float(mean),
            WindowStat::Sum => Cell::float(neumaier(&numbers)),
            WindowStat::Std if numbers.len() < 2 => Cell::Null,
            WindowStat::Std => {
                let squares: Vec<f64> = numbers.iter().map(|x| (x - mean) * (x - mean)).collect();
                Cell::float((neumaier(&squares) / (n - 1.0)).sqrt())
            }
            WindowStat::Min => extreme(&|a, b| less(a, b)),
            WindowStat::Max => extreme(&|a, b| less(b, a)),
            WindowStat::First => self.plain(held[0], field),
            WindowStat::Last => self.plain(held[held.len() - 1], field),
            WindowStat::Count => unreachable!(),
        }
    }

    /// Installations merged by resolved time; within one by boot and event.
    fn total_order(&self, set: Vec<usize>) -> Vec<usize> {
        let mut chains: Vec<Vec<usize>> = Vec::new();
        let mut set = set;
        set.sort_by_key(|s| (self.chain(self.samples[*s].line), self.boot(*s), *s));
        for s in set {
            match chains.last_mut() {
                Some(last) if self.chain(self.samples[last[0]].line) == self.chain(self.samples[s].line) => {
                    last.push(s)
                }
                _ => chains.push(vec![s]),
            }
        }
        let mut out = Vec::new();
        while let Some(best) = (0..chains.len())
            .filter(|c| !chains[*c].is_empty())
            .min_by_key(|c| (self.samples[chains[*c][0]].ts, *c))
        {
            out.push(chains[best].remove(0));
        }
        out
    }

    /// Samples that straddle an edge, and whether some are recorded as missing, line by line.
    fn lanes(&self, from: i64, to: i64) -> (i64, bool) {
        let (mut edges, mut said) = (0, Vec::new());
        let mut lines: Vec<usize> = self.samples.iter().map(|s| s.line).collect();
        lines.sort_unstable();
        lines.dedup();
        let ahead = to.max(0) + LOOK_NS;
        for line in lines {
            let mut lane: Vec<usize> =
                (0..self.samples.len()).filter(|s| self.samples[*s].line == line).collect();
            let same = self.at.line == Some(line);
            if !same {
                lane.sort_by_key(|s| (self.samples[*s].ts, *s));
            }
            let dt = |s: &usize| self.far(*s).dt;
            let sigma = |s: &usize| self.far(*s).sigma;
            let below: Vec<usize> = lane.iter().copied().filter(|s| dt(s) < from).collect();
            let held: Vec<usize> = lane.iter().copied().filter(|s| (from..to).contains(&dt(s))).collect();
            let above: Vec<usize> = lane.iter().copied().filter(|s| dt(s) >= to).collect();
            let low = held.iter().take_while(|s| dt(s) - sigma(s) < from).count();
            let high = held[low..].iter().rev().take_while(|s| dt(s) + sigma(s) >= to).count();
            let out_low = below
                .iter()
                .rev()
                .take_while(|s| dt(s) + sigma(s) >= from && dt(s) >= from - LOOK_NS)
                .count();
            let out_high = above.iter().take_while(|s| dt(s) - sigma(s) < to && dt(s) <= ahead).count();
            edges += (low + high + out_low + out_high) as i64;
            // Skipped ones say what is there, as others do.
            let mut all: Vec<(i64, u64)> = lane.iter().map(|s| (dt(s), self.samples[*s].seq)).collect();
            let of_line = self.skipped.iter().filter(|s| s.line == line);
            let key = |s: &Sample| if same { s.event - self.at.event } else { s.ts - self.at.ts };
            all.extend(of_line.map(|s| (key(s), s.seq)));
            all.sort_unstable();
            let first = all.iter().rfind(|(dt, _)| *dt < from);
            let first = first.or_else(|| all.iter().find(|(dt, _)| *dt >= from && *dt < to)).copied();
            let after = all.iter().find(|(dt, _)| *dt >= to && *dt <= ahead).copied();
            let last = after.or_else(|| all.iter().rfind(|(dt, _)| *dt < to).copied());
            let heard = !below.is_empty() || !held.is_empty();
            if let (true, Some((_, first)), Some((_, last))) = (heard, first, last) {
                let has_gap = self.missing(line, first, Some(last))
                    || (after.is_none() && self.missing(line, last, None));
                let concerned = same || !held.is_empty();
                let rank = below.last().map(|s| (self.samples[*s].ts, self.world.lines[line].clone()));
                said.push((concerned, rank, has_gap));
            }
        }
        let gap = if said.iter().any(|(concerned, ..)| *concerned) {
            said.iter().any(|(concerned, _, has_gap)| *concerned && *has_gap)
        } else {
            let newest =
                said.iter().filter(|(_, rank, _)| rank.is_some()).max_by_key(|(_, rank, _)| rank.clone());
            newest.is_some_and(|(.., has_gap)| *has_gap)
        };
        (edges, gap)
    }
}

/// As Neumaier wrote it.
fn neumaier(values: &[f64]) -> f64 {
    let (mut sum, mut c) = (0.0_f64, 0.0);
    for x in values {
        let t = sum + x;
        c += if sum.abs() >= x.abs() { (sum - t) + x } else { (x - t) + sum };
        sum = t;
    }
    if (sum + c).is_nan() { sum } else { sum + c }
}

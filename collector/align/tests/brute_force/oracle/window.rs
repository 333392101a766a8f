//! Windows and lists.

use super::*;

impl View<'_> {
    pub(super) fn window(&self, cells: &mut Cells, from: i64, to: i64) -> bool {
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

    pub(super) fn list(&self, cells: &mut Cells, kept: &[usize], matched: bool) {
        for field in 0..self.column.select.len() {
            let items = kept.iter().map(|s| self.plain(*s, field)).collect();
            let name = format!("{}_{}", self.column.name, self.column.select[field]);
            cells.insert(name, if matched { Cell::List(items) } else { Cell::Null });
        }
        let dt = kept.iter().map(|s| Cell::Int(self.far(*s).dt)).collect();
        cells
            .insert(format!("{}_dt_ns", self.column.name), if matched { Cell::List(dt) } else { Cell::Null });
    }

    pub(super) fn stat(
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
    pub(super) fn total_order(&self, set: Vec<usize>) -> Vec<usize> {
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
    pub(super) fn lanes(&self, from: i64, to: i64) -> (i64, bool) {
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

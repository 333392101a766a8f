//! Distances and orders, as one row sees the samples of a column.

use super::*;

impl<'a> View<'a> {
    pub(super) fn new(world: &'a World, place: usize, at: &'a At) -> Self {
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

    pub(super) fn is_certain(&self) -> bool {
        self.world.recipe.mode == Mode::Certain
    }

    pub(super) fn same_line(&self, s: usize) -> bool {
        self.at.line == Some(self.samples[s].line)
    }

    pub(super) fn chain(&self, line: usize) -> (&str, u64) {
        (self.world.lines[line].device.as_str(), self.world.lines[line].epoch.0)
    }

    pub(super) fn same_chain(&self, s: usize) -> bool {
        self.at.line.is_some_and(|line| self.chain(line) == self.chain(self.samples[s].line))
    }

    pub(super) fn boot(&self, s: usize) -> u32 {
        self.world.lines[self.samples[s].line].boot.0
    }

    pub(super) fn far(&self, s: usize) -> Far {
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
    pub(super) fn order(&self, s: usize) -> Ordering {
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
    pub(super) fn key(&self, s: usize) -> i64 {
        if self.same_chain(s) { self.samples[s].event } else { self.samples[s].ts }
    }

    pub(super) fn of_group(&self, mut group: Vec<usize>) -> Option<usize> {
        group.sort_unstable();
        if self.column.duplicates == Duplicates::Last {
            group.last().copied()
        } else {
            group.first().copied()
        }
    }

    /// The last of a set of samples, or the first.
    pub(super) fn extreme(&self, set: &[usize], last: bool) -> Option<usize> {
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
    pub(super) fn farther(&self, s: usize, last: bool) -> Option<usize> {
        let on_line: Vec<usize> = (0..self.samples.len())
            .filter(|o| self.samples[*o].line == self.samples[s].line)
            .filter(|o| if last { self.key(*o) < self.key(s) } else { self.key(*o) > self.key(s) })
            .collect();
        self.extreme(&on_line, last)
    }

    pub(super) fn seen(&self, s: Option<usize>, on: i64) -> Option<usize> {
        s.filter(|s| self.far(*s).dt <= on + LOOK_NS)
    }
}

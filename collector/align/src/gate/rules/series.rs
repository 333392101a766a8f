//! Values as a series: what stays, steps, spikes or rustles.

use super::{Measure, Scoped};
use crate::gate::frame::{Cell, Column, Frame, Missing, Names};
use crate::gate::stats::{median, sum};

/// The epoch (by a number of ours) and the first and last number of what a value came from.
pub(super) type Sample = (u32, i64, i64);

/// Which samples the rows' values came from; none where a row has no source.
pub(super) struct Source(Vec<Option<Sample>>);

impl Source {
    pub(super) fn of(&self, row: usize) -> Option<Sample> {
        self.0.get(row).copied().flatten()
    }
}

/// The source of an aligned column; none for columns of the spine and of raw tables.
pub(super) fn source(frame: &Frame, column: &str) -> Option<Source> {
    let group = frame.group_of(column)?;
    let member = |name: &str| frame.column(&format!("{group}_src.{name}")).ok();
    let (epoch, seq_lo, seq_hi) = (member("epoch")?, member("seq_lo")?, member("seq_hi")?);
    let mut names = Names::default();
    let of = |row: usize| {
        Some((names.of(epoch.text(row).unwrap_or_default()), seq_lo.integer(row)?, seq_hi.integer(row)?))
    };
    Some(Source((0..frame.len()).map(of).collect()))
}

/// Samples of the lines in the order of time: rows that share a sample with the one before are left out, so that an as-of
/// column of a slow stream does not look stuck.
fn samples(at: &Scoped<'_>, column: &str) -> Vec<Vec<usize>> {
    let source = source(at.frame, column);
    let mut lines = at.frame.lines(at.rows);
    if let Some(source) = source {
        for line in &mut lines {
            let mut before = None;
            line.retain(|&row| {
                let of = source.of(row);
                let is_new = of.is_none() || of != before;
                before = of;
                is_new
            });
        }
    }
    lines
}

/// Runs of samples alike in all columns.
pub(super) fn stuck(at: &Scoped<'_>, columns: &[String], rows: u64) -> Vec<Measure> {
    let read: Result<Vec<Column>, Missing> = columns.iter().map(|name| at.frame.column(name)).collect();
    let read = match read {
        Ok(read) => read,
        Err(missing) => return vec![missing.into()],
    };
    let lines = samples(at, columns.first().map_or("", String::as_str));
    let key = |row: usize| read.iter().map(|column| column.cell(row)).collect::<Option<Vec<Cell>>>();
    let (offending, longest) = runs(&lines, rows, key);
    vec![Measure::share(&columns.join(", "), offending, at.rows.len()).with("longest", longest)]
}

/// Rows in runs of `rows` or more alike, and the longest run; what has no key ends a run.
pub(super) fn runs<K: PartialEq>(
    lines: &[Vec<usize>],
    rows: u64,
    key: impl Fn(usize) -> Option<K>,
) -> (Vec<usize>, u64) {
    let (mut offending, mut longest) = (Vec::new(), 0);
    for line in lines {
        let mut run: Vec<usize> = Vec::new();
        let mut of: Option<K> = None;
        let mut close = |run: &mut Vec<usize>| {
            longest = longest.max(run.len() as u64);
            if run.len() as u64 >= rows {
                offending.append(run);
            }
            run.clear();
        };
        for &row in line {
            let found = key(row);
            if found.is_none() || found != of {
                close(&mut run);
            }
            if found.is_some() {
                run.push(row);
            }
            of = found;
        }
        close(&mut run);
    }
    offending.sort_unstable();
    (offending, longest)
}

/// Samples with a finite value, and their times.
fn values(at: &Scoped<'_>, name: &str, column: &Column) -> Vec<Vec<(usize, i64, f64)>> {
    let lines = samples(at, name).into_iter();
    let time = |row: usize| at.frame.ts_ns.as_ref().and_then(|ts| ts.integer(row)).unwrap_or(0);
    let finite = |row: usize| column.number(row).filter(|value| value.is_finite());
    lines
        .map(|line| line.into_iter().filter_map(|row| Some((row, time(row), finite(row)?))).collect())
        .collect()
}

fn is_number(name: &str, column: &Column) -> Result<(), Measure> {
    match column {
        Column::Integer(_) | Column::Number(_) => Ok(()),
        other => {
            Err(Measure::unjudged(name, format!("column {name} is {}, where numbers belong", other.kind())))
        }
    }
}

pub(super) fn step(at: &Scoped<'_>, columns: &[String], max: f64, per_s: bool) -> Vec<Measure> {
    at.each(columns, |name, column| {
        if let Err(unjudged) = is_number(name, column) {
            return unjudged;
        }
        let (mut offending, mut greatest) = (Vec::new(), 0.0_f64);
        for line in values(at, name, column) {
            for two in line.windows(2) {
                let &[(_, before_ns, before), (row, now_ns, now)] = two else { continue };
                let seconds = now_ns.saturating_sub(before_ns) as f64 / 1e9;
                let size = (now - before).abs();
                // Two samples at one time: any step of a rate is too steep.
                let size = if per_s { size / seconds.max(f64::MIN_POSITIVE) } else { size };
                let size = if size.is_nan() { 0.0 } else { size };
                greatest = greatest.max(size);
                if size > max {
                    offending.push(row);
                }
            }
        }
        offending.sort_unstable();
        Measure::share(name, offending, at.rows.len()).with("greatest", greatest)
    })
}

/// Samples on each side of the one looked at.
const NEIGHBOURS: usize = 2;

pub(super) fn spike(at: &Scoped<'_>, columns: &[String], max: f64) -> Vec<Measure> {
    at.each(columns, |name, column| {
        if let Err(unjudged) = is_number(name, column) {
            return unjudged;
        }
        let (mut offending, mut farthest) = (Vec::new(), 0.0_f64);
        for line in values(at, name, column) {
            for (place, &(row, _, value)) in line.iter().enumerate() {
                let around = line.iter().skip(place.saturating_sub(NEIGHBOURS));
                let width = NEIGHBOURS + 1 + place.min(NEIGHBOURS);
                let around: Vec<f64> = around.take(width).map(|(_, _, value)| *value).collect();
                let distance = median(around).map_or(0.0, |middle| (value - middle).abs());
                farthest = farthest.max(distance);
                if distance > max {
                    offending.push(row);
                }
            }
        }
        offending.sort_unstable();
        Measure::share(name, offending, at.rows.len()).with("farthest", farthest)
    })
}

/// Fewest differences a piece is judged by.
const DIFFERENCES_MIN: usize = 20;

/// √(Σ (x_i+1 - x_i)² / 2n): a slow trend hardly counts (von Neumann et al., Ann. Math. Stat. 12, 1941). In pieces the least and
/// the greatest are given as two measures, so that both limits look at the worst.
pub(super) fn noise(at: &Scoped<'_>, columns: &[String], span_ns: Option<i64>) -> Vec<Measure> {
    let mut found = Vec::new();
    for name in columns {
        let column = match at.frame.column(name) {
            Ok(column) => column,
            Err(Missing(why)) => {
                found.push(Measure::unjudged(name, why));
                continue;
            }
        };
        if let Err(unjudged) = is_number(name, &column) {
            found.push(unjudged);
            continue;
        }
        let mut pieces: Vec<f64> = Vec::new();
        for line in values(at, name, &column) {
            let from = line.first().map_or(0, |(_, at, _)| *at);
            let piece = |at: i64| span_ns.map_or(0, |span| at.saturating_sub(from).div_euclid(span.max(1)));
            let mut squares: Vec<f64> = Vec::new();
            let mut open = 0;
            let mut close = |squares: &mut Vec<f64>| {
                if squares.len() >= DIFFERENCES_MIN {
                    pieces.push((sum(squares) / (2 * squares.len()) as f64).sqrt());
                }
                squares.clear();
            };
            for two in line.windows(2) {
                let &[(_, _, before), (_, time, now)] = two else { continue };
                if piece(time) != open {
                    close(&mut squares);
                    open = piece(time);
                }
                squares.push((now - before) * (now - before));
            }
            close(&mut squares);
        }
        let least = pieces.iter().copied().min_by(f64::total_cmp);
        let greatest = pieces.iter().copied().max_by(f64::total_cmp);
        found.push(Measure::value(name, greatest).with("pieces", pieces.len()));
        if span_ns.is_some() {
            found.push(Measure::value(&format!("{name} (quietest)"), least));
        }
    }
    found
}

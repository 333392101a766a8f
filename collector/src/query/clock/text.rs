//! A gateway's clock for a terminal: what it is worth now, where that comes from, and how it came about.

use super::history::{Boot, History, Point, Wall};
use super::words::{duration, float, ppm, time_of_day, utc};
use crate::query::table::draw;
use headwater_core::id::BootOrdinal;
use headwater_core::time::{BootNanos, Grade};
use serde_json::{Map, Value, json};
use std::fmt::Write;

/// Columns of the picture of bounds.
const SPARKS: usize = 60;
/// Rows of the table of bounds over time.
const ROWS: usize = 12;
/// Events told one by one.
const EVENTS: usize = 20;

/// What one boot was like, in one look: for text and JSON alike.
pub(super) struct Look<'a> {
    pub(super) history: &'a History,
    pub(super) boot: BootOrdinal,
    pub(super) known: &'a Boot,
    pub(super) points: Vec<Point>,
    pub(super) wall: Vec<Wall>,
}

impl<'a> Look<'a> {
    pub(super) fn new(history: &'a History, boot: BootOrdinal, points: usize) -> Option<Self> {
        let known = history.boots.get(&boot)?;
        Some(Self { history, boot, known, points: history.points(boot, points), wall: history.wall(boot) })
    }

    /// The whole page.
    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        self.head(&mut out).and_then(|()| self.body(&mut out)).expect("writing to a string cannot fail");
        out
    }

    fn head(&self, out: &mut String) -> std::fmt::Result {
        let History { device, epoch, boots, .. } = self.history;
        writeln!(out, "device   {device}, epoch {epoch}, boot {} ({} known)", self.boot.0, boots.len())?;
        if let (Some(first), Some(last)) = (self.points.first(), self.points.last()) {
            let lasted = duration(last.at.since(first.at));
            writeln!(out, "heard    {} to {} UTC, {lasted}", utc(first.ts), utc(last.ts))?;
            writeln!(
                out,
                "clock    {}, within ±{} at its last row",
                last.grade.as_str(),
                duration(last.err_ns)
            )?;
        }
        match self.history.drift_ppb(self.boot) {
            Some((ppb, span)) => writeln!(out, "drift    {} over {}", ppm(ppb), duration(span))?,
            None => writeln!(out, "drift    not known yet: it takes ten minutes with a clock")?,
        }
        match self.wall.last() {
            Some(wall) => writeln!(
                out,
                "wall     its own wall clock was {} off (±{}) at {}",
                duration(wall.offset_ns),
                duration(wall.err_ns),
                time_of_day(wall.ts)
            )?,
            None => writeln!(out, "wall     no reading of its own wall clock")?,
        }
        for (n, (name, source)) in self.known.sources.iter().enumerate() {
            let best = source.best.map_or("bounds nothing", Grade::as_str);
            writeln!(out, "{:<8} {name}: {} rows, {best}", if n == 0 { "sources" } else { "" }, source.rows)?;
        }
        Ok(())
    }

    fn body(&self, out: &mut String) -> std::fmt::Result {
        for (n, event) in self.known.events.iter().take(EVENTS).enumerate() {
            let moved = event.step_ns.map(|step| format!(" by {}", duration(step))).unwrap_or_default();
            let when = self.utc_at(event.at).map_or_else(|| duration(event.at.0), |at| time_of_day(at.ts));
            writeln!(out, "{:<8} {when} {}{moved}", if n == 0 { "events" } else { "" }, event.what)?;
        }
        if self.known.events.len() > EVENTS {
            writeln!(out, "         and {} more; --json has them", self.known.events.len() - EVENTS)?;
        }
        let mut bounds: Vec<i64> = self.points.iter().map(|point| point.err_ns).collect();
        bounds.sort_unstable();
        if let (Some(least), Some(median), Some(greatest)) =
            (bounds.first(), bounds.get(bounds.len() / 2), bounds.last())
        {
            writeln!(out, "bound    {}", sparks(&self.points))?;
            writeln!(out, "grade    {}", grades(&self.points))?;
            let [least, median, greatest] = [least, median, greatest].map(|ns| duration(*ns));
            writeln!(
                out,
                "         least {least}, median {median}, greatest {greatest}; heights are logarithmic"
            )?;
        }
        let step = self.points.len().div_ceil(ROWS).max(1);
        let mut rows: Vec<Map<String, Value>> =
            self.points.iter().step_by(step).map(|point| self.row(point)).collect();
        if let Some(last) = self.points.last().filter(|_| !(self.points.len() - 1).is_multiple_of(step)) {
            rows.push(self.row(last));
        }
        let columns = ["time (UTC)", "since boot", "bound", "grade", "wall clock off by"].map(str::to_owned);
        writeln!(out, "{}", draw(&columns, &rows))
    }

    fn row(&self, point: &Point) -> Map<String, Value> {
        // The wall clock is read each minute or so: its newest reading by then.
        let wall = self.wall.iter().rev().find(|wall| wall.at <= point.at);
        let row = json!({
            "time (UTC)": utc(point.ts),
            "since boot": since(point.at),
            "bound": format!("±{}", duration(point.err_ns)),
            "grade": point.grade.as_str(),
            "wall clock off by": wall.map(|wall| duration(wall.offset_ns)),
        });
        row.as_object().cloned().unwrap_or_default()
    }

    fn utc_at(&self, at: BootNanos) -> Option<&Point> {
        self.points.iter().rev().find(|point| point.at <= at).or(self.points.first())
    }
}

/// Boot time as hours, minutes and seconds.
fn since(at: BootNanos) -> String {
    let s = at.0.div_euclid(headwater_core::time::NS_PER_S);
    format!("{}:{:02}:{:02}", s / 3_600, s / 60 % 60, s % 60)
}

/// Points thinned to the columns there are, the worst of each.
fn columns(points: &[Point]) -> Vec<Point> {
    let size = points.len().div_ceil(SPARKS).max(1);
    points.chunks(size).filter_map(|chunk| chunk.iter().max_by_key(|point| point.err_ns).copied()).collect()
}

/// Bounds as heights on a logarithmic scale between their extremes.
fn sparks(points: &[Point]) -> String {
    const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let columns = columns(points);
    let log = |point: &Point| float(point.err_ns.max(1)).log10();
    let low = columns.iter().map(log).fold(f64::INFINITY, f64::min);
    let high = columns.iter().map(log).fold(f64::NEG_INFINITY, f64::max);
    let height = |point: &Point| {
        let part = if high - low < 0.01 { 0.0 } else { (log(point) - low) / (high - low) };
        // The last height whose threshold is reached; a float as an index would need a cast.
        let places = HEIGHTS.iter().zip([0.0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875]);
        places.filter(|(_, least)| part >= *least).map(|(height, _)| *height).next_back().unwrap_or('▁')
    };
    columns.iter().map(height).collect()
}

/// g, e or o under each of them.
fn grades(points: &[Point]) -> String {
    let letters = columns(points).into_iter().map(|point| match point.grade {
        Grade::Guaranteed => 'g',
        Grade::Estimated => 'e',
        Grade::OrderingOnly => 'o',
    });
    letters.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_core::time::UtcNanos;

    fn point(err_ns: i64, grade: Grade) -> Point {
        Point { at: BootNanos(0), ts: UtcNanos(0), err_ns, grade }
    }

    #[test]
    fn bounds_stand_as_high_as_their_logarithm() {
        let points: Vec<Point> =
            [1_000, 10_000, 100_000, 1_000_000].map(|err| point(err, Grade::Guaranteed)).to_vec();
        assert_eq!(sparks(&points), "▁▃▆█");
        assert_eq!(grades(&[point(1, Grade::OrderingOnly), point(1, Grade::Estimated)]), "oe");
        assert_eq!(sparks(&[point(5, Grade::Estimated)]), "▁");
        assert_eq!(sparks(&vec![point(0, Grade::Estimated); 200]).chars().count(), 50);
    }
}

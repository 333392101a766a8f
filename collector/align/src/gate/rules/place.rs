//! Places: fences, and how fast one gets from one to the next.

use super::series::{Sample, source};
use super::{Fence, Measure, Scoped};
use crate::gate::frame::{Column, Missing};

/// Mean radius of the earth, m (IUGG): a fence and a speed limit need no ellipsoid.
const EARTH_M: f64 = 6_371_008.8;

/// Great-circle distance by the haversine formula, m; degrees in.
fn distance_m(a: (f64, f64), b: (f64, f64)) -> f64 {
    let (lat_a, lat_b) = (a.0.to_radians(), b.0.to_radians());
    let half = |x: f64| (x / 2.0).sin() * (x / 2.0).sin();
    let h = half(lat_b - lat_a) + lat_a.cos() * lat_b.cos() * half((b.1 - a.1).to_radians());
    2.0 * EARTH_M * h.min(1.0).sqrt().asin()
}

/// Even-odd rule (Shimrat, CACM 5, 1962); a point on an edge may fall on either side.
fn within(corners: &[(f64, f64)], (lat, lon): (f64, f64)) -> bool {
    let next = corners.iter().cycle().skip(1);
    let crossings = corners.iter().zip(next).filter(|&(&(lat_a, lon_a), &(lat_b, lon_b))| {
        (lat_a > lat) != (lat_b > lat) && lon < (lon_b - lon_a) * (lat - lat_a) / (lat_b - lat_a) + lon_a
    });
    crossings.count() % 2 == 1
}

fn columns(at: &Scoped<'_>, (lat, lon): (&str, &str)) -> Result<(Column, Column), Missing> {
    Ok((at.frame.column(lat)?, at.frame.column(lon)?))
}

/// None without both; a value that is no place on earth is kept, and is nowhere.
fn place((lat, lon): &(Column, Column), row: usize) -> Option<(f64, f64)> {
    Some((lat.number(row)?, lon.number(row)?))
}

fn is_on_earth((lat, lon): (f64, f64)) -> bool {
    (-90.0..=90.0).contains(&lat) && (-180.0..=180.0).contains(&lon)
}

/// A row without a place is no offence here; one with an impossible place is.
pub(super) fn fence(at: &Scoped<'_>, names: (&str, &str), fence: &Fence, inside: bool) -> Measure {
    let columns = match columns(at, names) {
        Ok(columns) => columns,
        Err(missing) => return missing.into(),
    };
    let is_bad = |row: &usize| {
        place(&columns, *row).is_some_and(|found| {
            let is_in = match fence {
                Fence::Circle { lat, lon, radius_m } => distance_m((*lat, *lon), found) <= *radius_m,
                Fence::Polygon(corners) => within(corners, found),
            };
            !is_on_earth(found) || is_in != inside
        })
    };
    Measure::share("", at.rows.iter().copied().filter(is_bad).collect(), at.rows.len())
}

/// Between fixes that are two samples; rows that share a fix say nothing of speed.
pub(super) fn speed(at: &Scoped<'_>, names: (&str, &str), max_m_s: f64) -> Measure {
    let columns = match columns(at, names) {
        Ok(columns) => columns,
        Err(missing) => return missing.into(),
    };
    let Some(ts) = &at.frame.ts_ns else { return Measure::unjudged("", "there is no column ts_ns") };
    let source = source(at.frame, names.0);
    let group = at.frame.group_of(names.0);
    let shift = group.and_then(|group| at.frame.column(&format!("{group}_src.dt_ns")).ok());
    let (mut offending, mut fastest) = (Vec::new(), 0.0_f64);
    for line in at.frame.lines(at.rows) {
        let mut before: Option<(Option<Sample>, i64, (f64, f64))> = None;
        for row in line {
            let (Some(found), Some(row_ns)) = (place(&columns, row), ts.integer(row)) else { continue };
            let of = source.as_ref().and_then(|source| source.of(row));
            // An as-of fix is as old as its source; between two neighbours it is the row's own.
            let is_sample = of.as_ref().is_some_and(|(_, lo, hi)| lo == hi);
            let shift =
                shift.as_ref().and_then(|shift| shift.integer(row)).filter(|_| is_sample).unwrap_or(0);
            let now_ns = row_ns.saturating_add(shift);
            if let Some((was, then_ns, from)) = &before {
                if is_sample && *was == of {
                    continue;
                }
                let seconds = now_ns.saturating_sub(*then_ns) as f64 / 1e9;
                let metres = distance_m(*from, found);
                // A fix's own resolution (1e-7 degrees are a centimetre) makes no speed.
                let speed = if metres < 0.05 { 0.0 } else { metres / seconds.max(1e-3) };
                fastest = fastest.max(speed);
                if speed > max_m_s || !speed.is_finite() || !is_on_earth(found) {
                    offending.push(row);
                }
            }
            before = Some((of, now_ns, found));
        }
    }
    offending.sort_unstable();
    Measure::share("", offending, at.rows.len()).with("fastest_m_s", fastest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_and_fences() {
        // A degree of latitude on this sphere.
        assert!((distance_m((0.0, 0.0), (1.0, 0.0)) - EARTH_M.to_radians()).abs() < 1e-3);
        assert!(
            (distance_m((10.0, 179.5), (10.0, -179.5)) - distance_m((10.0, 0.0), (10.0, 1.0))).abs() < 1e-3
        );
        assert!((distance_m((90.0, 0.0), (-90.0, 50.0)) - EARTH_M * std::f64::consts::PI).abs() < 1e-3);
        let square = [(0.0, 0.0), (0.0, 2.0), (2.0, 2.0), (2.0, 0.0)];
        assert!(within(&square, (1.0, 1.0)) && !within(&square, (1.0, 3.0)) && !within(&square, (-1.0, 1.0)));
        let notched = [(0.0, 0.0), (0.0, 4.0), (4.0, 4.0), (1.0, 2.0), (4.0, 0.0)];
        assert!(!within(&notched, (3.0, 2.0)) && within(&notched, (0.5, 2.0)));
    }
}

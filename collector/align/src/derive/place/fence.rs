//! Whether a fix lies within a polygon on the globe.
//!
//! Edges are straight in longitude and latitude, as RFC 7946 §3.1.1 has it, and go the shorter way round: a ring over the
//! antimeridian is one ring, whether its corners jump from 179 to -179 or go on to 181. A ring that goes once round the
//! globe holds a pole: the one on the side with the smaller area.

use crate::derive::Ring;
use libm::{cos, sin};

/// A longitude difference as the shorter way round, in [-180, 180).
fn shorter(degrees: f64) -> f64 {
    let turned = (degrees + 180.0) % 360.0;
    if turned < 0.0 { turned + 180.0 } else { turned - 180.0 }
}

fn edges(ring: &Ring) -> impl Iterator<Item = ((f64, f64), (f64, f64))> + '_ {
    let next = ring.iter().cycle().skip(1);
    ring.iter().copied().zip(next.copied()).take(ring.len())
}

/// Longitudes of the first edge that could go either way round: half a turn, away from the poles.
#[must_use]
pub fn halfway(ring: &Ring) -> Option<(f64, f64)> {
    let is_polar = |a: f64, b: f64| a == b && a.abs() == 90.0;
    edges(ring)
        .find(|((from, a), (to, b))| shorter(to - from) == -180.0 && !is_polar(*a, *b))
        .map(|((from, _), (to, _))| (from, to))
}

/// True if the fix (degrees) lies within the outer ring and in none of the holes. A fix on an edge lies on one side of
/// it: of two polygons that share the edge, in one.
#[must_use]
pub fn contains(polygon: &[Ring], lat: f64, lon: f64) -> bool {
    let Some((outer, holes)) = polygon.split_first() else { return false };
    within(outer, lat, lon) && !holes.iter().any(|hole| within(hole, lat, lon))
}

/// Crossings of the meridian from the fix to the north pole are counted: an odd number parts the two.
fn within(ring: &Ring, lat: f64, lon: f64) -> bool {
    let crossings = edges(ring).filter(|(from, to)| {
        let start = shorter(from.0 - lon);
        let end = start + shorter(to.0 - from.0);
        if (start < 0.0) == (end < 0.0) {
            return false;
        }
        let at = from.1 + (to.1 - from.1) * (start / (start - end));
        at > lat
    });
    (crossings.count() % 2 == 1) != holds_north_pole(ring)
}

/// A ring that goes once round holds the north pole if the area north of it is the smaller: the integral of the sine of
/// latitude over longitude is positive.
fn holds_north_pole(ring: &Ring) -> bool {
    let turns: f64 = edges(ring).map(|(from, to)| shorter(to.0 - from.0)).sum();
    if turns.abs() < 180.0 {
        return false;
    }
    let mean_sine: f64 =
        edges(ring).map(|(from, to)| sine_between(from.1, to.1) * shorter(to.0 - from.0)).sum();
    mean_sine * turns.signum() > 0.0
}

/// Mean of the sine along a straight edge between two latitudes, degrees.
fn sine_between(from: f64, to: f64) -> f64 {
    let (from, to) = (from.to_radians(), to.to_radians());
    if (to - from).abs() < 1e-9 { sin((from + to) / 2.0) } else { (cos(from) - cos(to)) / (to - from) }
}

//! Interpolation on spheres: orientations as unit quaternions, positions on the earth.
//!
//! Transcendental functions come from `libm`, so that every platform gives the same bits (L2).

use crate::earth::{self, SPHERE_M, turned};
use crate::recipe::EarthModel;

/// Below this angle, rad, slerp is a normalised lerp: their difference is below the last bit there.
const NLERP_RAD: f64 = 1e-6;

/// A unit quaternion of the same direction; `None` for one without.
fn unit(q: [f64; 4]) -> Option<[f64; 4]> {
    // Scaled first, so that squares neither overflow nor vanish.
    let most = q.iter().fold(0.0_f64, |most, x| most.max(x.abs()));
    if !(most > 0.0 && most.is_finite()) || q.iter().any(|x| x.is_nan()) {
        return None;
    }
    let q = q.map(|x| x / most);
    let norm = libm::sqrt(dot(q, q));
    Some(q.map(|x| x / norm))
}

fn dot(a: [f64; 4], b: [f64; 4]) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2] + a[3] * b[3]
}

/// Orientation at `w` of the way from `a` to `b` along the shorter arc, and the rotation between both, rad. Shoemake,
/// Animating Rotation with Quaternion Curves (SIGGRAPH 1985).
pub(super) fn slerp(a: [f64; 4], b: [f64; 4], w: f64) -> Option<([f64; 4], f64)> {
    let (a, b) = (unit(a)?, unit(b)?);
    // q and -q are one orientation: the nearer of both gives the shorter arc.
    let cosine = dot(a, b);
    let b = if cosine < 0.0 { b.map(|x| -x) } else { b };
    let sum = [0, 1, 2, 3].map(|i| a[i] + b[i]);
    let difference = [0, 1, 2, 3].map(|i| b[i] - a[i]);
    // Half the angle from both chords: exact where the cosine is 1 to the last bit.
    let angle = 2.0 * libm::atan2(libm::sqrt(dot(difference, difference)), libm::sqrt(dot(sum, sum)));
    let (to_a, to_b) = if angle < NLERP_RAD {
        (1.0 - w, w)
    } else {
        let sine = libm::sin(angle);
        (libm::sin((1.0 - w) * angle) / sine, libm::sin(w * angle) / sine)
    };
    let q = unit([0, 1, 2, 3].map(|i| to_a * a[i] + to_b * b[i]))?;
    Some((q, 2.0 * angle))
}

/// The orientation itself, normalised.
pub(super) fn orientation(q: [f64; 4]) -> Option<[f64; 4]> {
    unit(q)
}

/// Latitude and longitude, deg.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Position {
    pub(super) lat: f64,
    pub(super) lon: f64,
}

impl Position {
    fn is_on_earth(self) -> bool {
        self.lat.abs() <= 90.0 && self.lon.is_finite()
    }
}

/// The position at `w` of the way from `a` to `b` along the shortest line, and the distance of both, m. `None` for what
/// is on no earth, and for near antipodes, between which no line is the shortest one.
pub(super) fn geodesic(model: EarthModel, a: Position, b: Position, w: f64) -> Option<(Position, f64)> {
    if !a.is_on_earth() || !b.is_on_earth() {
        return None;
    }
    if a == b {
        return Some((a, 0.0));
    }
    match model {
        EarthModel::Wgs84 => along_ellipsoid(a, b, w),
        EarthModel::GreatCircle => great_circle(a, b, w),
    }
}

fn great_circle(a: Position, b: Position, w: f64) -> Option<(Position, f64)> {
    let vector = |at: Position| {
        let (sin_lat, cos_lat) = libm::sincos(at.lat.to_radians());
        let (sin_lon, cos_lon) = libm::sincos(turned(at.lon).to_radians());
        [cos_lat * cos_lon, cos_lat * sin_lon, sin_lat, 0.0]
    };
    let (a, b) = (vector(a), vector(b));
    let sum = [0, 1, 2, 3].map(|i| a[i] + b[i]);
    let difference = [0, 1, 2, 3].map(|i| b[i] - a[i]);
    let (across, along) = (libm::sqrt(dot(difference, difference)), libm::sqrt(dot(sum, sum)));
    if along < 1e-9 {
        return None;
    }
    let angle = 2.0 * libm::atan2(across, along);
    let (to_a, to_b) = if angle < 1e-12 {
        (1.0 - w, w)
    } else {
        let sine = libm::sin(angle);
        (libm::sin((1.0 - w) * angle) / sine, libm::sin(w * angle) / sine)
    };
    let v = [0, 1, 2].map(|i| to_a * a[i] + to_b * b[i]);
    let lat = libm::atan2(v[2], libm::sqrt(v[0] * v[0] + v[1] * v[1])).to_degrees();
    Some((Position { lat, lon: turned(libm::atan2(v[1], v[0]).to_degrees()) }, angle * SPHERE_M))
}

/// The same along the ellipsoid.
fn along_ellipsoid(a: Position, b: Position, w: f64) -> Option<(Position, f64)> {
    let line = earth::on_ellipsoid(a.lat, b.lat, turned(b.lon - a.lon))?;
    let (lat, turn) = line.point(line.length_m * w);
    Some((Position { lat, lon: turned(a.lon + turn) }, line.length_m))
}

#[cfg(test)]
mod tests;

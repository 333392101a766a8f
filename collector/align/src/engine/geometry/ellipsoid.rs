//! Shortest lines on the WGS 84 ellipsoid: T. Vincenty, Direct and Inverse Solutions of Geodesics on the Ellipsoid with
//! Application of Nested Equations, Survey Review XXIII, 176 (1975).
//!
//! Good to a tenth of a millimetre; it does not converge between near antipodes, where no interpolation of fixes has any
//! business. Libraries of Karney's method take sine and cosine from the platform, whose last bits differ (L2).

use super::{Position, turned};
use libm::{atan, atan2, cos, sin, sincos, sqrt, tan};

/// Equatorial radius, m.
const A: f64 = 6_378_137.0;
/// Flattening.
const F: f64 = 1.0 / 298.257_223_563;
/// Polar radius, m.
const B: f64 = A * (1.0 - F);
/// Iterations until the longitude stands still: eight suffice but near antipodes.
const ITERATIONS_MAX: u32 = 100;
/// Standing still, rad: a hundredth of a micrometre.
const STILL: f64 = 1e-15;

/// A line from a point: sine and cosine of its reduced latitude and azimuth there.
struct Start {
    sin_u: f64,
    cos_u: f64,
    sin_az: f64,
    cos_az: f64,
}

/// Position at `w` of the shortest line, and its whole length, m.
pub(super) fn between(a: Position, b: Position, w: f64) -> Option<(Position, f64)> {
    let (start, length) = inverse(a, b)?;
    let (lat, turn) = direct(&start, length * w);
    Some((Position { lat, lon: turned(a.lon + turn) }, length))
}

/// Sine and cosine of the reduced latitude.
fn reduced(lat: f64) -> (f64, f64) {
    if lat.abs() == 90.0 {
        return (lat.signum(), 0.0);
    }
    sincos(atan((1.0 - F) * tan(lat.to_radians())))
}

/// Coefficients A and B of the series in u² (Helmert's expansion parameter would do as well).
fn series(u_sq: f64) -> (f64, f64) {
    (
        1.0 + u_sq / 16384.0 * (4096.0 + u_sq * (-768.0 + u_sq * (320.0 - 175.0 * u_sq))),
        u_sq / 1024.0 * (256.0 + u_sq * (-128.0 + u_sq * (74.0 - 47.0 * u_sq))),
    )
}

fn u_squared(cos_sq_alpha: f64) -> f64 {
    cos_sq_alpha * (A * A - B * B) / (B * B)
}

fn delta_sigma(b: f64, sin_sigma: f64, cos_sigma: f64, cos_2m: f64) -> f64 {
    let square = 2.0 * cos_2m * cos_2m - 1.0;
    let cubic = b / 6.0 * cos_2m * (4.0 * sin_sigma * sin_sigma - 3.0) * (4.0 * cos_2m * cos_2m - 3.0);
    b * sin_sigma * (cos_2m + b / 4.0 * (cos_sigma * square - cubic))
}

fn longitude_term(cos_sq_alpha: f64) -> f64 {
    F / 16.0 * cos_sq_alpha * (4.0 + F * (4.0 - 3.0 * cos_sq_alpha))
}

fn inverse(a: Position, b: Position) -> Option<(Start, f64)> {
    let l = turned(b.lon - a.lon).to_radians();
    let ((sin_u1, cos_u1), (sin_u2, cos_u2)) = (reduced(a.lat), reduced(b.lat));
    let mut lambda = l;
    for _ in 0..ITERATIONS_MAX {
        let (sin_l, cos_l) = sincos(lambda);
        let (east, north) = (cos_u2 * sin_l, cos_u1 * sin_u2 - sin_u1 * cos_u2 * cos_l);
        let sin_sigma = sqrt(east * east + north * north);
        let cos_sigma = sin_u1 * sin_u2 + cos_u1 * cos_u2 * cos_l;
        if sin_sigma == 0.0 {
            let at = Start { sin_u: sin_u1, cos_u: cos_u1, sin_az: 0.0, cos_az: 1.0 };
            // One point, or opposite ones.
            return (cos_sigma > 0.0).then_some((at, 0.0));
        }
        let sigma = atan2(sin_sigma, cos_sigma);
        let sin_alpha = cos_u1 * cos_u2 * sin_l / sin_sigma;
        let cos_sq_alpha = 1.0 - sin_alpha * sin_alpha;
        // On the equator there is no middle.
        let cos_2m = if cos_sq_alpha > 0.0 { cos_sigma - 2.0 * sin_u1 * sin_u2 / cos_sq_alpha } else { 0.0 };
        let c = longitude_term(cos_sq_alpha);
        let inner = cos_2m + c * cos_sigma * (2.0 * cos_2m * cos_2m - 1.0);
        let next = l + (1.0 - c) * F * sin_alpha * (sigma + c * sin_sigma * inner);
        if next.abs() > std::f64::consts::PI {
            return None;
        }
        let moved = (next - lambda).abs();
        lambda = next;
        if moved <= STILL {
            let (big_a, big_b) = series(u_squared(cos_sq_alpha));
            let length = B * big_a * (sigma - delta_sigma(big_b, sin_sigma, cos_sigma, cos_2m));
            let azimuth = atan2(east, north);
            let (sin_az, cos_az) = sincos(azimuth);
            return Some((Start { sin_u: sin_u1, cos_u: cos_u1, sin_az, cos_az }, length));
        }
    }
    None
}

/// Latitude and turn of longitude, deg, after `length` m.
fn direct(start: &Start, length: f64) -> (f64, f64) {
    let Start { sin_u, cos_u, sin_az, cos_az } = *start;
    let sigma1 = atan2(sin_u, cos_u * cos_az);
    let sin_alpha = cos_u * sin_az;
    let cos_sq_alpha = 1.0 - sin_alpha * sin_alpha;
    let (big_a, big_b) = series(u_squared(cos_sq_alpha));
    let plain = length / (B * big_a);
    let mut sigma = plain;
    for _ in 0..ITERATIONS_MAX {
        let cos_2m = cos(2.0 * sigma1 + sigma);
        let next = plain + delta_sigma(big_b, sin(sigma), cos(sigma), cos_2m);
        let moved = (next - sigma).abs();
        sigma = next;
        if moved <= STILL {
            break;
        }
    }
    let (sin_s, cos_s) = sincos(sigma);
    let cos_2m = cos(2.0 * sigma1 + sigma);
    let across = sin_u * sin_s - cos_u * cos_s * cos_az;
    let lat = atan2(
        sin_u * cos_s + cos_u * sin_s * cos_az,
        (1.0 - F) * sqrt(sin_alpha * sin_alpha + across * across),
    );
    let lambda = atan2(sin_s * sin_az, cos_u * cos_s - sin_u * sin_s * cos_az);
    let c = longitude_term(cos_sq_alpha);
    let inner = cos_2m + c * cos_s * (2.0 * cos_2m * cos_2m - 1.0);
    let turn = lambda - (1.0 - c) * F * sin_alpha * (sigma + c * sin_s * inner);
    (lat.to_degrees(), turn.to_degrees())
}

//! The shortest way between two fixes: its length, and the azimuth at its end.
//!
//! On the ellipsoid by T. Vincenty, Direct and Inverse Solutions of Geodesics on the Ellipsoid with Application of Nested
//! Equations, Survey Review XXIII, 176 (1975): good to a tenth of a millimetre. It finds none between near antipodes, and
//! nothing that moves gets there between two rows. Sines are libm's (L2).

use super::super::place::Degrees;
use crate::recipe::EarthModel;
use libm::{atan, atan2, sincos, sqrt, tan};

/// Equatorial radius of WGS 84, m.
const EQUATOR_M: f64 = 6_378_137.0;
/// Its flattening.
const FLATTENING: f64 = 1.0 / 298.257_223_563;
/// Its polar radius, m.
const POLE_M: f64 = EQUATOR_M * (1.0 - FLATTENING);
/// Mean radius of the sphere, m (IUGG).
const SPHERE_M: f64 = 6_371_008.8;
/// Steps until the longitude stands still; below ten but near antipodes.
const STEPS_MAX: u32 = 100;
/// Standing still, rad: a hundredth of a micrometre.
const STILL: f64 = 1e-15;

/// A way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Way {
    /// m.
    pub(super) length_m: f64,
    /// Degrees clockwise from north at its end, in [0, 360); nothing without a length.
    pub(super) heading_deg: Option<f64>,
}

/// What both figures share: sines and cosines of (reduced) latitudes and of the difference of longitude.
struct Triangle {
    sin_u: (f64, f64),
    /// Sine and cosine of the angle between both.
    sin_sigma: f64,
    cos_sigma: f64,
    /// Parts of the azimuth at the end.
    east: f64,
    north: f64,
    /// Sine of the azimuth at the equator.
    sin_alpha: f64,
}

impl Triangle {
    fn of(sin_u: (f64, f64), cos_u: (f64, f64), lambda: f64) -> Self {
        let (sin_l, cos_l) = sincos(lambda);
        let (across, along) = (cos_u.1 * sin_l, cos_u.0 * sin_u.1 - sin_u.0 * cos_u.1 * cos_l);
        let sin_sigma = sqrt(across * across + along * along);
        let cos_sigma = sin_u.0 * sin_u.1 + cos_u.0 * cos_u.1 * cos_l;
        let (east, north) = (cos_u.0 * sin_l, cos_u.0 * sin_u.1 * cos_l - sin_u.0 * cos_u.1);
        let sin_alpha = if sin_sigma > 0.0 { cos_u.0 * cos_u.1 * sin_l / sin_sigma } else { 0.0 };
        Self { sin_u, sin_sigma, cos_sigma, east, north, sin_alpha }
    }

    fn way(&self, length_m: f64) -> Way {
        let degrees = atan2(self.east, self.north).to_degrees();
        let turned = if degrees < 0.0 { degrees + 360.0 } else { degrees };
        // -1e-20 + 360 is 360.
        let heading_deg = if turned >= 360.0 { 0.0 } else { turned };
        Way { length_m, heading_deg: (length_m > 0.0).then_some(heading_deg) }
    }
}

/// The way from one fix to another; `None` between near antipodes.
pub(super) fn way(model: EarthModel, from: Degrees, to: Degrees) -> Option<Way> {
    let turned = to.1 - from.1;
    let shorter = if turned >= 180.0 {
        turned - 360.0
    } else if turned < -180.0 {
        turned + 360.0
    } else {
        turned
    };
    if from.0 == to.0 && shorter == 0.0 {
        return Some(Way { length_m: 0.0, heading_deg: None });
    }
    match model {
        EarthModel::Wgs84 => on_ellipsoid(from.0, to.0, shorter.to_radians()),
        EarthModel::GreatCircle => {
            let (a, b) = (sincos(from.0.to_radians()), sincos(to.0.to_radians()));
            let triangle = Triangle::of((a.0, b.0), (a.1, b.1), shorter.to_radians());
            Some(triangle.way(SPHERE_M * atan2(triangle.sin_sigma, triangle.cos_sigma)))
        }
    }
}

/// Sine and cosine of the reduced latitude.
fn reduced(lat: f64) -> (f64, f64) {
    if lat.abs() == 90.0 {
        return (lat.signum(), 0.0);
    }
    sincos(atan((1.0 - FLATTENING) * tan(lat.to_radians())))
}

fn on_ellipsoid(from_lat: f64, to_lat: f64, turn: f64) -> Option<Way> {
    let (a, b) = (reduced(from_lat), reduced(to_lat));
    let mut lambda = turn;
    for _ in 0..STEPS_MAX {
        let triangle = Triangle::of((a.0, b.0), (a.1, b.1), lambda);
        if triangle.sin_sigma == 0.0 {
            return (triangle.cos_sigma > 0.0).then(|| triangle.way(0.0));
        }
        let next = turn + longitude_term(&triangle);
        if next.abs() > std::f64::consts::PI {
            return None;
        }
        let moved = (next - lambda).abs();
        lambda = next;
        if moved <= STILL {
            return Some(triangle.way(length(&triangle)));
        }
    }
    None
}

/// Square of the cosine of the azimuth at the equator, and the cosine of twice the angle from there to the middle.
fn middle(triangle: &Triangle) -> (f64, f64) {
    let square = 1.0 - triangle.sin_alpha * triangle.sin_alpha;
    // On the equator there is no middle.
    let cos_2m = if square > 0.0 {
        triangle.cos_sigma - 2.0 * triangle.sin_u.0 * triangle.sin_u.1 / square
    } else {
        0.0
    };
    (square, cos_2m)
}

fn longitude_term(triangle: &Triangle) -> f64 {
    let (square, cos_2m) = middle(triangle);
    let c = FLATTENING / 16.0 * square * (4.0 + FLATTENING * (4.0 - 3.0 * square));
    let sigma = atan2(triangle.sin_sigma, triangle.cos_sigma);
    let inner = cos_2m + c * triangle.cos_sigma * (2.0 * cos_2m * cos_2m - 1.0);
    (1.0 - c) * FLATTENING * triangle.sin_alpha * (sigma + c * triangle.sin_sigma * inner)
}

fn length(triangle: &Triangle) -> f64 {
    let (square, cos_2m) = middle(triangle);
    let u = square * (EQUATOR_M * EQUATOR_M - POLE_M * POLE_M) / (POLE_M * POLE_M);
    let a = 1.0 + u / 16384.0 * (4096.0 + u * (-768.0 + u * (320.0 - 175.0 * u)));
    let b = u / 1024.0 * (256.0 + u * (-128.0 + u * (74.0 - 47.0 * u)));
    let (sin, cos) = (triangle.sin_sigma, triangle.cos_sigma);
    let cubic = b / 6.0 * cos_2m * (4.0 * sin * sin - 3.0) * (4.0 * cos_2m * cos_2m - 3.0);
    let delta = b * sin * (cos_2m + b / 4.0 * (cos * (2.0 * cos_2m * cos_2m - 1.0) - cubic));
    POLE_M * a * (atan2(sin, cos) - delta)
}

//! Shortest lines on the earth, of one implementation for positions between fixes and for ways from fix to fix.
//!
//! On the WGS 84 ellipsoid by T. Vincenty, Direct and Inverse Solutions of Geodesics on the Ellipsoid with Application of
//! Nested Equations, Survey Review XXIII, 176 (1975): good to a tenth of a millimetre. It does not converge between near
//! antipodes, where no interpolation of fixes has any business. Libraries of Karney's method take sine and cosine from the
//! platform, whose last bits differ; here they are libm's (L2).

use libm::{atan, atan2, cos, sin, sincos, sqrt, tan};

/// Equatorial radius of WGS 84, m.
const EQUATOR_M: f64 = 6_378_137.0;
/// Its flattening.
const FLATTENING: f64 = 1.0 / 298.257_223_563;
/// Its polar radius, m.
const POLE_M: f64 = EQUATOR_M * (1.0 - FLATTENING);
/// Mean radius of a spherical earth, m (IUGG).
pub(crate) const SPHERE_M: f64 = 6_371_008.8;
/// Iterations until the longitude stands still: ten suffice but near antipodes.
const ITERATIONS_MAX: u32 = 100;
/// Standing still, rad: a hundredth of a micrometre.
const STILL: f64 = 1e-15;

/// A longitude, or a difference of two, in [-180, 180).
pub(crate) fn turned(lon: f64) -> f64 {
    let lon = libm::fmod(lon, 360.0);
    if lon >= 180.0 {
        lon - 360.0
    } else if lon < -180.0 {
        lon + 360.0
    } else {
        lon
    }
}

/// The triangle of two points and the pole, on a sphere whose latitudes may be reduced ones.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Triangle {
    sin_u: (f64, f64),
    cos_u: (f64, f64),
    sin_sigma: f64,
    cos_sigma: f64,
    /// Parts of the azimuth at the first point.
    from: Azimuth,
    /// And at the second.
    to: Azimuth,
    /// Sine of the azimuth at the equator.
    sin_alpha: f64,
}

/// A direction, not normed.
#[derive(Debug, Clone, Copy)]
struct Azimuth {
    east: f64,
    north: f64,
}

impl Triangle {
    fn of(a: (f64, f64), b: (f64, f64), lambda: f64) -> Self {
        let ((sin_a, cos_a), (sin_b, cos_b)) = (a, b);
        let (sin_l, cos_l) = sincos(lambda);
        let from = Azimuth { east: cos_b * sin_l, north: cos_a * sin_b - sin_a * cos_b * cos_l };
        let to = Azimuth { east: cos_a * sin_l, north: cos_a * sin_b * cos_l - sin_a * cos_b };
        let sin_sigma = sqrt(from.east * from.east + from.north * from.north);
        let cos_sigma = sin_a * sin_b + cos_a * cos_b * cos_l;
        let sin_alpha = if sin_sigma > 0.0 { cos_a * cos_b * sin_l / sin_sigma } else { 0.0 };
        Self { sin_u: (sin_a, sin_b), cos_u: (cos_a, cos_b), sin_sigma, cos_sigma, from, to, sin_alpha }
    }

    /// The angle between both points, rad.
    fn sigma(&self) -> f64 {
        atan2(self.sin_sigma, self.cos_sigma)
    }

    /// Square of the cosine of the azimuth at the equator, and the cosine of twice the angle from there to the middle.
    fn middle(&self) -> (f64, f64) {
        let square = 1.0 - self.sin_alpha * self.sin_alpha;
        // On the equator there is no middle.
        let cos_2m =
            if square > 0.0 { self.cos_sigma - 2.0 * self.sin_u.0 * self.sin_u.1 / square } else { 0.0 };
        (square, cos_2m)
    }

    /// Azimuth at the second point, degrees clockwise from north in [0, 360).
    fn heading_deg(&self) -> f64 {
        let degrees = atan2(self.to.east, self.to.north).to_degrees();
        let turned = if degrees < 0.0 { degrees + 360.0 } else { degrees };
        // -1e-20 + 360 is 360.
        if turned >= 360.0 { 0.0 } else { turned }
    }
}

/// A line between two points.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line {
    pub(crate) length_m: f64,
    triangle: Triangle,
}

impl Line {
    /// Azimuth at its end, degrees clockwise from north in [0, 360); nothing without a length.
    pub(crate) fn heading_deg(&self) -> Option<f64> {
        (self.length_m > 0.0).then(|| self.triangle.heading_deg())
    }

    /// Latitude and turn of longitude, degrees, of the point `along_m` from its beginning: Vincenty's direct solution.
    pub(crate) fn point(&self, along_m: f64) -> (f64, f64) {
        let (sin_u, cos_u) = (self.triangle.sin_u.0, self.triangle.cos_u.0);
        let (sin_az, cos_az) = if self.triangle.sin_sigma > 0.0 {
            sincos(atan2(self.triangle.from.east, self.triangle.from.north))
        } else {
            (0.0, 1.0)
        };
        let sigma1 = atan2(sin_u, cos_u * cos_az);
        let sin_alpha = cos_u * sin_az;
        let cos_sq_alpha = 1.0 - sin_alpha * sin_alpha;
        let (big_a, big_b) = series(u_squared(cos_sq_alpha));
        let plain = along_m / (POLE_M * big_a);
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
            (1.0 - FLATTENING) * sqrt(sin_alpha * sin_alpha + across * across),
        );
        let lambda = atan2(sin_s * sin_az, cos_u * cos_s - sin_u * sin_s * cos_az);
        let c = longitude_coefficient(cos_sq_alpha);
        let inner = cos_2m + c * cos_s * (2.0 * cos_2m * cos_2m - 1.0);
        let turn = lambda - (1.0 - c) * FLATTENING * sin_alpha * (sigma + c * sin_s * inner);
        (lat.to_degrees(), turn.to_degrees())
    }
}

/// The line between points of these latitudes and difference of longitude, degrees, on the ellipsoid: Vincenty's inverse
/// solution. `None` between near antipodes.
pub(crate) fn on_ellipsoid(from_lat: f64, to_lat: f64, turn: f64) -> Option<Line> {
    let turn = turn.to_radians();
    let (a, b) = (reduced(from_lat), reduced(to_lat));
    let mut lambda = turn;
    for _ in 0..ITERATIONS_MAX {
        let triangle = Triangle::of(a, b, lambda);
        if triangle.sin_sigma == 0.0 {
            // One point, or opposite ones.
            return (triangle.cos_sigma > 0.0).then_some(Line { length_m: 0.0, triangle });
        }
        let (cos_sq_alpha, cos_2m) = triangle.middle();
        let c = longitude_coefficient(cos_sq_alpha);
        let inner = cos_2m + c * triangle.cos_sigma * (2.0 * cos_2m * cos_2m - 1.0);
        let bent = triangle.sigma() + c * triangle.sin_sigma * inner;
        let next = turn + (1.0 - c) * FLATTENING * triangle.sin_alpha * bent;
        if next.abs() > std::f64::consts::PI {
            return None;
        }
        let moved = (next - lambda).abs();
        lambda = next;
        if moved <= STILL {
            let (big_a, big_b) = series(u_squared(cos_sq_alpha));
            let delta = delta_sigma(big_b, triangle.sin_sigma, triangle.cos_sigma, cos_2m);
            return Some(Line { length_m: POLE_M * big_a * (triangle.sigma() - delta), triangle });
        }
    }
    None
}

/// The same on the sphere of [`SPHERE_M`].
pub(crate) fn on_sphere(from_lat: f64, to_lat: f64, turn: f64) -> Line {
    let (a, b) = (sincos(from_lat.to_radians()), sincos(to_lat.to_radians()));
    let triangle = Triangle::of(a, b, turn.to_radians());
    Line { length_m: SPHERE_M * triangle.sigma(), triangle }
}

/// Sine and cosine of the reduced latitude.
fn reduced(lat: f64) -> (f64, f64) {
    if lat.abs() == 90.0 {
        return (lat.signum(), 0.0);
    }
    sincos(atan((1.0 - FLATTENING) * tan(lat.to_radians())))
}

/// Coefficients A and B of the series in u² (Helmert's expansion parameter would do as well).
fn series(u_sq: f64) -> (f64, f64) {
    (
        1.0 + u_sq / 16384.0 * (4096.0 + u_sq * (-768.0 + u_sq * (320.0 - 175.0 * u_sq))),
        u_sq / 1024.0 * (256.0 + u_sq * (-128.0 + u_sq * (74.0 - 47.0 * u_sq))),
    )
}

fn u_squared(cos_sq_alpha: f64) -> f64 {
    cos_sq_alpha * (EQUATOR_M * EQUATOR_M - POLE_M * POLE_M) / (POLE_M * POLE_M)
}

fn delta_sigma(b: f64, sin_sigma: f64, cos_sigma: f64, cos_2m: f64) -> f64 {
    let square = 2.0 * cos_2m * cos_2m - 1.0;
    let cubic = b / 6.0 * cos_2m * (4.0 * sin_sigma * sin_sigma - 3.0) * (4.0 * cos_2m * cos_2m - 3.0);
    b * sin_sigma * (cos_2m + b / 4.0 * (cos_sigma * square - cubic))
}

fn longitude_coefficient(cos_sq_alpha: f64) -> f64 {
    FLATTENING / 16.0 * cos_sq_alpha * (4.0 + FLATTENING * (4.0 - 3.0 * cos_sq_alpha))
}

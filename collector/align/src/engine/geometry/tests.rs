//! Closed forms and golden values of other libraries (`tests/conformance/geometry.py` makes the table).

use super::*;
use std::f64::consts::{FRAC_1_SQRT_2, PI};

/// Of pyproj's position, deg: a millimetre.
const NEAR_DEG: f64 = 1e-8;
/// Of pyproj's distance, m.
const NEAR_M: f64 = 1e-3;

fn apart(a: f64, b: f64) -> f64 {
    turned(a - b).abs()
}

fn golden(kind: &str) -> Vec<Vec<f64>> {
    let lines = include_str!("golden.tsv").lines().map(|line| line.split('\t').collect::<Vec<_>>());
    lines
        .filter(|line| line[0] == kind)
        .map(|line| line[1..].iter().map(|x| x.parse().unwrap()).collect())
        .collect()
}

fn check_geodesics(model: EarthModel, kind: &str) {
    let cases = golden(kind);
    assert_eq!(cases.len(), 76);
    for case in cases {
        let at = |place: usize| Position { lat: case[place], lon: case[place + 1] };
        let (a, b, w, expected, length) = (at(0), at(2), case[4], at(5), case[7]);
        let (found, found_length) = geodesic(model, a, b, w).unwrap();
        assert!((found_length - length).abs() < NEAR_M, "{a:?} {b:?}: {found_length} m, pyproj {length}");
        let shrunk = expected.lat.to_radians().cos();
        let off = (found.lat - expected.lat).abs().max(apart(found.lon, expected.lon) * shrunk);
        assert!(off < NEAR_DEG, "{a:?} {b:?} {w}: {found:?}, pyproj {expected:?}");
    }
}

#[test]
fn geodesics_on_the_ellipsoid_are_pyprojs() {
    check_geodesics(EarthModel::Wgs84, "wgs84");
}

#[test]
fn great_circles_are_pyprojs() {
    check_geodesics(EarthModel::GreatCircle, "great_circle");
}

#[test]
fn geodesic_antimeridian_and_poles() {
    let at = |lat: f64, lon: f64| Position { lat, lon };
    for model in [EarthModel::Wgs84, EarthModel::GreatCircle] {
        let (middle, _) = geodesic(model, at(10.0, 179.0), at(10.0, -179.0), 0.5).unwrap();
        assert!(apart(middle.lon, 180.0) < 1e-9 && middle.lat > 10.0, "{model:?} {middle:?}");
        // Over the pole, not around it.
        let (pole, length) = geodesic(model, at(89.0, 0.0), at(89.0, 180.0), 0.5).unwrap();
        assert!((pole.lat - 90.0).abs() < 1e-6 && length < 224_000.0, "{model:?} {pole:?} {length}");
        let (same, still) = geodesic(model, at(-90.0, 5.0), at(-90.0, 5.0), 0.3).unwrap();
        assert_eq!((same, still), (at(-90.0, 5.0), 0.0));
        assert_eq!(geodesic(model, at(90.1, 0.0), at(0.0, 0.0), 0.5), None, "{model:?}");
        assert_eq!(geodesic(model, at(f64::NAN, 0.0), at(0.0, 0.0), 0.5), None, "{model:?}");
        assert_eq!(geodesic(model, at(0.0, 0.0), at(0.0, 180.0), 0.5), None, "{model:?}: opposite");
        // Beyond the second point.
        let (on, _) = geodesic(model, at(0.0, 0.0), at(0.0, 1.0), 1.5).unwrap();
        assert!((on.lon - 1.5).abs() < 1e-9 && on.lat.abs() < 1e-12, "{model:?} {on:?}");
    }
}

#[test]
fn slerps_are_scipys() {
    let cases = golden("slerp");
    assert_eq!(cases.len(), 60);
    for case in cases {
        let q = |place: usize| [case[place], case[place + 1], case[place + 2], case[place + 3]];
        let (found, angle) = slerp(q(0), q(4), case[8]).unwrap();
        // One orientation has two signs.
        let cosine = dot(found, q(9)).abs();
        assert!((cosine - 1.0).abs() < 1e-12, "{:?} {:?}: {found:?}, scipy {:?}", q(0), q(4), q(9));
        assert!((angle - case[13]).abs() < 1e-7, "{angle}, scipy {}", case[13]);
    }
}

#[test]
fn slerp_shorter_arc() {
    let about_z = |angle: f64| [(angle / 2.0).cos(), 0.0, 0.0, (angle / 2.0).sin()];
    let near = |a: [f64; 4], b: [f64; 4]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-12);
    let (quarter, angle) = slerp(about_z(0.0), about_z(PI / 2.0), 0.5).unwrap();
    assert!(near(quarter, about_z(PI / 4.0)) && (angle - PI / 2.0).abs() < 1e-12);
    // The same orientations, written with the other sign: still the short way.
    let (same, angle) = slerp(about_z(0.0), about_z(PI / 2.0).map(|x| -x), 0.5).unwrap();
    assert!(near(same, about_z(PI / 4.0)) && (angle - PI / 2.0).abs() < 1e-12);
    // From 10° to 350° through 0°.
    let (through, _) = slerp(about_z(PI / 18.0), about_z(35.0 * PI / 18.0), 0.5).unwrap();
    assert!(near(through, about_z(0.0)) || near(through, about_z(0.0).map(|x| -x)));
    // Tiny angles do not lose their direction.
    let (tiny, angle) = slerp(about_z(0.0), about_z(1e-9), 0.5).unwrap();
    assert!((tiny[3] - 2.5e-10).abs() < 1e-20 && (angle - 1e-9).abs() < 1e-18);
    assert_eq!(slerp([0.0; 4], about_z(0.0), 0.5), None);
    assert_eq!(slerp([f64::NAN, 0.0, 0.0, 1.0], about_z(0.0), 0.5), None);
    // Squares of these overflow, and vanish.
    for size in [3e300, 3e-300] {
        assert!(near(orientation([0.0, size, 0.0, size]).unwrap(), [0.0, FRAC_1_SQRT_2, 0.0, FRAC_1_SQRT_2]));
    }
}

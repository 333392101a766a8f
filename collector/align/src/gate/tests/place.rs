//! Fences and speed.

use super::*;

#[test]
fn fences_and_speed() {
    let at = |lat: Vec<f64>, lon: f64| {
        let n = lat.len();
        rows(n).with("lat", lat).with("lon", vec![lon; n])
    };
    let circle =
        "check = \"geofence\"\nlat = \"lat\"\nlon = \"lon\"\ncircle = { lat = 47, lon = 8, radius_m = 1000 }";
    check(circle, at(vec![47.0, 47.008], 8.0), at(vec![47.0, 47.01], 8.0));
    check(&format!("{circle}\ninside = false"), at(vec![48.0], 8.0), at(vec![47.0], 8.0));
    let polygon =
        "check = \"geofence\"\nlat = \"lat\"\nlon = \"lon\"\npolygon = [[46, 7], [46, 9], [48, 9], [48, 7]]";
    check(polygon, at(vec![47.0], 8.0), at(vec![47.0], 9.5));
    // Latitude and longitude exchanged, and a place that is none.
    check(polygon, at(vec![47.0], 8.0), at(vec![8.0], 47.0));
    check(&format!("{polygon}\ninside = false"), at(vec![0.0], 0.0), at(vec![147.0], 8.0));
    let speed = "check = \"speed\"\nlat = \"place_lat\"\nlon = \"place_lon\"\nmax = 60";
    let fixes = |lat: Vec<f64>, of: &[Of]| {
        let n = lat.len();
        rows(n).with("place_lat", lat).with("place_lon", vec![8.0; n]).source("place", of)
    };
    let fresh = [(Some(1), 0, 0), (Some(2), 0, 0), (Some(3), 0, 0)];
    // 55 m a second; then 111 m.
    check(speed, fixes(vec![47.0, 47.0005, 47.001], &fresh), fixes(vec![47.0, 47.001, 47.002], &fresh));
    // A fix every two seconds, used twice: no jump.
    let held = [(Some(1), 0, 0), (Some(1), -S, 0), (Some(2), 0, 0)];
    assert_eq!(find(speed, fixes(vec![47.0, 47.0, 47.001], &held)).verdict, Verdict::Pass);
}

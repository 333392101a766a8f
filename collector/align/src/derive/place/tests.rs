//! Cells and hashes of other libraries; fences over the antimeridian and around poles.

use super::*;
use crate::derive::reference::section;
use crate::derive::{Fence, Ring};
use arrow_array::{Array, ArrayRef, Float64Array};
use headwater_core::id::Sha256;
use proptest::prelude::*;
use std::sync::Arc;

#[test]
fn cells_and_hashes_are_those_of_other_libraries() {
    for place in section("places").as_array().unwrap() {
        let fix = on_globe(place["lat"].as_f64().unwrap(), place["lon"].as_f64().unwrap());
        for (resolution, wanted) in place["h3"].as_object().unwrap() {
            let found = cells(&[fix], resolution.parse().unwrap());
            assert_eq!(found.value(0), wanted.as_str().unwrap(), "{place}");
        }
        // The other library takes 180 for the end of the last cell, we for the beginning of the first.
        for (length, wanted) in place["geohash"].as_object().unwrap().iter().filter(|_| place["lon"] != 180.0)
        {
            let found = geohashes(&[fix], length.parse().unwrap());
            assert_eq!(found.value(0), wanted.as_str().unwrap(), "{place}");
        }
    }
}

#[test]
fn known_geohashes() {
    // Wikipedia's examples.
    assert_eq!(geohash(57.64911, 10.40744, 11), "u4pruydqqvj");
    assert_eq!(geohash(42.605, -5.603, 5), "ezs42");
}

#[test]
fn fixes_beyond_the_globe_are_none() {
    let column = |values: Vec<Option<f64>>| Arc::new(Float64Array::from(values)) as ArrayRef;
    let rows = RecordBatch::try_from_iter_with_nullable([
        ("lat", column(vec![Some(1.0), None, Some(90.1), Some(f64::NAN), Some(-90.0), Some(1.0)]), true),
        ("lon", column(vec![Some(181.0), Some(0.0), Some(0.0), Some(0.0), Some(-180.0), Some(541.0)]), true),
    ])
    .unwrap();
    let fix = Fix { lat: "lat".to_owned(), lon: "lon".to_owned() };
    assert_eq!(fixes(&rows, &fix), [Some((1.0, -179.0)), None, None, None, Some((-90.0, -180.0)), None]);
    assert_eq!(cells(&fixes(&rows, &fix), 3).null_count(), 4);
}

fn ring(corners: &[(f64, f64)]) -> Ring {
    corners.to_vec()
}

#[test]
fn a_plain_polygon_is_shapelys() {
    let fences = section("fences");
    let pair = |value: &serde_json::Value| (value[0].as_f64().unwrap(), value[1].as_f64().unwrap());
    let corners: Ring = fences["corners"].as_array().unwrap().iter().map(pair).collect();
    let points = fences["points"].as_array().unwrap().iter().map(pair);
    for ((lon, lat), inside) in points.zip(fences["inside"].as_array().unwrap()) {
        assert_eq!(
            contains(std::slice::from_ref(&corners), lat, lon),
            inside.as_bool().unwrap(),
            "{lat} {lon}"
        );
    }
}

#[test]
fn the_antimeridian_parts_nothing() {
    // As corners that jump, and as corners that go on.
    for east in [(-179.0, 179.0), (181.0, 179.0), (-179.0, -181.0)] {
        let fiji = [ring(&[(east.1, -1.0), (east.0, -1.0), (east.0, 2.0), (east.1, 2.0)])];
        for (lat, lon, wanted) in [
            (0.0, 179.5, true),
            (0.0, -179.5, true),
            (0.0, -180.0, true),
            (0.0, 178.9, false),
            (0.0, -178.9, false),
            (0.0, 0.0, false),
            (2.1, 180.0, false),
            (-1.1, -179.9, false),
        ] {
            assert_eq!(contains(&fiji, lat, lon), wanted, "{lat} {lon} {east:?}");
        }
    }
}

#[test]
fn a_ring_around_a_pole_holds_it() {
    let around = |lat: f64| ring(&[(0.0, lat), (90.0, lat), (179.0, lat), (-90.0, lat)]);
    let mut turned = around(60.0);
    turned.reverse();
    for arctic in [around(60.0), turned] {
        let arctic = [arctic];
        assert!(
            contains(&arctic, 90.0, 0.0) && contains(&arctic, 75.0, -170.0) && contains(&arctic, 60.1, 33.0)
        );
        assert!(
            !contains(&arctic, 59.9, 33.0)
                && !contains(&arctic, -90.0, 0.0)
                && !contains(&arctic, -75.0, 10.0)
        );
    }
    let antarctic = [around(-60.0)];
    assert!(
        contains(&antarctic, -90.0, 17.0)
            && contains(&antarctic, -60.1, 179.9)
            && !contains(&antarctic, 90.0, 0.0)
    );
    // As maps draw it: down to the pole along the antimeridian.
    let drawn = [ring(&[
        (-180.0, -90.0),
        (180.0, -90.0),
        (180.0, -60.0),
        (90.0, -65.0),
        (0.0, -70.0),
        (-90.0, -65.0),
        (-180.0, -60.0),
    ])];
    assert!(contains(&drawn, -89.0, 10.0) && contains(&drawn, -71.0, 0.0) && !contains(&drawn, -69.0, 0.0));
    assert!(contains(&drawn, -90.0, 0.0) && !contains(&drawn, 80.0, 0.0));
    assert_eq!(halfway(&drawn[0]), None);
    assert_eq!(halfway(&ring(&[(0.0, 0.0), (180.0, 0.0), (90.0, 10.0)])), Some((0.0, 180.0)));
}

#[test]
fn holes_are_outside_and_shared_edges_belong_to_one() {
    let square = |a: f64, b: f64| ring(&[(a, a), (b, a), (b, b), (a, b)]);
    let holed = [square(0.0, 10.0), square(4.0, 6.0)];
    assert!(contains(&holed, 1.0, 1.0) && !contains(&holed, 5.0, 5.0) && !contains(&holed, 11.0, 5.0));
    let (west, east) = (
        [ring(&[(0.0, 0.0), (5.0, 0.0), (5.0, 9.0), (0.0, 9.0)])],
        [ring(&[(5.0, 0.0), (9.0, 0.0), (9.0, 9.0), (5.0, 9.0)])],
    );
    for lat in [0.5, 3.0, 8.99] {
        assert_eq!(u8::from(contains(&west, lat, 5.0)) + u8::from(contains(&east, lat, 5.0)), 1);
    }
}

#[test]
fn the_first_fence_counts() {
    let square = |name: &str, size: f64| Fence {
        name: name.to_owned(),
        polygons: vec![vec![ring(&[(0.0, 0.0), (size, 0.0), (size, size), (0.0, size)])]],
    };
    let fences = Fences { sha256: Sha256::of(b""), fences: vec![square("yard", 1.0), square("town", 10.0)] };
    let zones = zones(&[Some((0.5, 0.5)), Some((5.0, 5.0)), Some((20.0, 5.0)), None], &fences);
    assert_eq!(zones.iter().collect::<Vec<_>>(), [Some("yard"), Some("town"), None, None]);
}

proptest! {
    #[test]
    fn turning_the_globe_turns_the_fence(
        corners in prop::collection::vec((-40f64..40.0, -60f64..60.0), 3..9), lat in -70f64..70.0, lon in -50f64..50.0, turn in -180f64..180.0,
    ) {
        // In eighths of a degree all sums are exact, so the answer must be the same bit for bit.
        let eighth = |x: f64| (x * 8.0).round() / 8.0;
        let wrap = |x: f64| (x + 180.0).rem_euclid(360.0) - 180.0;
        let there: Ring = corners.iter().map(|(lon, lat)| (eighth(*lon), *lat)).collect();
        let turned: Ring = there.iter().map(|(lon, lat)| (wrap(lon + eighth(turn)), *lat)).collect();
        let (lon, away) = (eighth(lon), wrap(eighth(lon) + eighth(turn)));
        prop_assert_eq!(contains(&[turned], lat, away), contains(&[there], lat, lon));
    }

    #[test]
    fn a_fix_is_within_its_own_geohash(lat in -90f64..90.0, lon in -180f64..180.0, length in 1u8..12) {
        let (short, long) = (geohash(lat, lon, length), geohash(lat, lon, length + 1));
        prop_assert!(long.starts_with(&short) && short.len() == usize::from(length));
    }
}

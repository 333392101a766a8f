//! Speed, distance and heading of a row since the row before it that had a fix.

mod way;

use super::MotionFeature;
use super::numbers::canonical;
use super::place::Degrees;
use crate::recipe::EarthModel;
use arrow_array::Float64Array;
use std::collections::BTreeMap;
use way::way;

/// The last fix of each device.
pub(super) type Last = BTreeMap<String, (i64, Degrees)>;

/// A row as far as its motion goes.
pub(super) struct Place<'a> {
    pub(super) device: &'a str,
    /// UTC, ns.
    pub(super) ts_ns: i64,
    pub(super) fix: Option<Degrees>,
}

/// What is asked of a motion.
pub(super) struct Asked {
    pub(super) feature: MotionFeature,
    pub(super) max_gap_ns: i64,
    pub(super) model: EarthModel,
}

/// The feature of every row. Null without a fix, without one before it, where that is older than `max_gap` or not older at
/// all, and between near antipodes; heading also where nothing moved.
pub(super) fn motions<'a>(
    places: impl Iterator<Item = Place<'a>>,
    asked: &Asked,
    last: &mut Last,
) -> Float64Array {
    let one = |place: Place<'_>| {
        let fix = place.fix?;
        let (before_ns, before) = last.insert(place.device.to_owned(), (place.ts_ns, fix))?;
        let apart_ns = place.ts_ns.checked_sub(before_ns).filter(|ns| (1..=asked.max_gap_ns).contains(ns))?;
        let way = way(asked.model, before, fix)?;
        #[expect(clippy::cast_precision_loss, reason = "a gap, far below 2^53 ns")]
        let seconds = apart_ns as f64 / 1e9;
        let value = match asked.feature {
            MotionFeature::Speed => way.length_m / seconds,
            MotionFeature::Distance => way.length_m,
            MotionFeature::Heading => way.heading_deg()?,
        };
        Some(canonical(value))
    };
    places.map(one).collect()
}

/// Distance of two fixes on the ellipsoid, m; the farthest there is between near antipodes.
pub(super) fn distance_m(from: Degrees, to: Degrees) -> f64 {
    way(EarthModel::Wgs84, from, to).map_or(f64::MAX, |way| way.length_m)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::derive::reference::section;
    use proptest::prelude::*;

    #[test]
    fn ways_are_those_of_pyproj() {
        for case in section("ways").as_array().unwrap() {
            let at = |key: &str| (case[key][0].as_f64().unwrap(), case[key][1].as_f64().unwrap());
            for (name, model) in [("wgs84", EarthModel::Wgs84), ("great_circle", EarthModel::GreatCircle)] {
                let wanted = case[name]["distance"].as_f64().unwrap();
                let Some(found) = way(model, at("from"), at("to")) else {
                    assert!(wanted > 19_900_000.0, "{case}");
                    continue;
                };
                assert!((found.length_m - wanted).abs() < 1e-4, "{case} {found:?}");
                let Some(heading) = found.heading_deg() else {
                    assert_eq!(wanted, 0.0);
                    continue;
                };
                let off =
                    (heading - case[name]["heading"].as_f64().unwrap() + 540.0).rem_euclid(360.0) - 180.0;
                // A tenth of a millimetre across the way.
                assert!(off.to_radians().abs() * wanted.min(1e6) < 1e-3, "{case} {found:?}");
                assert!((0.0..360.0).contains(&heading));
            }
        }
    }

    fn asked(feature: MotionFeature) -> Asked {
        Asked { feature, max_gap_ns: 2_000_000_000, model: EarthModel::Wgs84 }
    }

    #[test]
    fn gaps_standstill_and_devices_are_kept_apart() {
        let rows = [
            ("a", 0, Some((0.0, 179.9999))),
            ("b", 500_000_000, Some((10.0, 10.0))),
            ("a", 1_000_000_000, None),
            ("a", 2_000_000_000, Some((0.0, -179.9999))),
            ("a", 3_000_000_000, Some((0.0, -179.9999))),
            ("a", 9_000_000_000, Some((0.0, -179.0))),
            ("a", 9_000_000_000, Some((0.0, -178.0))),
        ];
        let of = |feature| {
            let places = rows.iter().map(|(device, ts_ns, fix)| Place { device, ts_ns: *ts_ns, fix: *fix });
            motions(places, &asked(feature), &mut Last::new()).iter().collect::<Vec<_>>()
        };
        let metres = 6_378_137.0 * 0.0002_f64.to_radians();
        let speeds = of(MotionFeature::Speed);
        assert!((speeds[3].unwrap() - metres / 2.0).abs() < 1e-6, "{speeds:?}");
        assert_eq!(speeds[4], Some(0.0));
        assert_eq!([speeds[0], speeds[1], speeds[2], speeds[5], speeds[6]], [None; 5]);
        assert_eq!(of(MotionFeature::Heading)[3..5], [Some(90.0), None]);
    }

    proptest! {
        #[test]
        fn a_way_back_is_as_long(lat in -89f64..89.0, lon in -180f64..180.0, north in -0.5f64..0.5, east in -0.5f64..0.5) {
            for model in [EarthModel::Wgs84, EarthModel::GreatCircle] {
                let there = way(model, (lat, lon), (lat + north, lon + east)).unwrap();
                let back = way(model, (lat + north, lon + east), (lat, lon)).unwrap();
                prop_assert!((there.length_m - back.length_m).abs() < 1e-6);
            }
        }
    }
}

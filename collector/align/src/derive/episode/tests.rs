//! Rows cut by each rule, and what a late one may change.

use super::*;
use crate::derive::{Fix, Split};
use proptest::prelude::*;

fn rules() -> Episodes {
    Episodes {
        gap_ns: None,
        begin: None,
        within: None,
        trip: None,
        duration_max_ns: None,
        splits: Vec::new(),
        salt: String::new(),
    }
}

const PLAIN: Row<'_> = Row { device: "d", ts_ns: 0, key: "", begin: false, within: true, fix: None };

/// First seconds of the episodes and places in them, `-` outside.
fn cut(rules: &Episodes, rows: &[Row<'_>]) -> String {
    let mut cutter = Cutter::default();
    let keys: Vec<String> = rows.iter().map(|row| row.ts_ns.to_string()).collect();
    let places = rows.iter().zip(&keys).map(|(row, key)| cutter.place(rules, Row { key, ..*row }));
    let shown = places.map(|place| {
        place.map_or("-".to_owned(), |place| format!("{}.{}", place.id.trim_start_matches("d/"), place.index))
    });
    shown.collect::<Vec<_>>().join(" ")
}

fn at(seconds: &[i64]) -> Vec<Row<'static>> {
    seconds.iter().map(|ts_ns| Row { ts_ns: *ts_ns, ..PLAIN }).collect()
}

#[test]
fn a_gap_cuts_and_its_limit_does_not() {
    let rules = Episodes { gap_ns: Some(10), ..rules() };
    assert_eq!(cut(&rules, &at(&[0, 10, 20, 31, 32, 5])), "0.0 0.1 0.2 31.0 31.1 5.0");
}

#[test]
fn an_episode_does_not_outlast_its_limit() {
    let rules = Episodes { duration_max_ns: Some(10), ..rules() };
    assert_eq!(cut(&rules, &at(&[0, 5, 10, 11, 21, 22])), "0.0 0.1 0.2 11.0 11.1 22.0");
}

#[test]
fn an_event_begins_one_where_it_becomes_true() {
    let rules = Episodes { begin: Some("x".parse().unwrap()), ..rules() };
    let rows: Vec<Row<'_>> = at(&[0, 1, 2, 3, 4, 5])
        .into_iter()
        .zip([false, true, true, false, true, true])
        .map(|(row, begin)| Row { begin, ..row })
        .collect();
    assert_eq!(cut(&rules, &rows), "0.0 1.0 1.1 1.2 4.0 4.1");
}

#[test]
fn outside_the_condition_there_is_none() {
    let rules = Episodes { within: Some("x".parse().unwrap()), ..rules() };
    let rows: Vec<Row<'_>> = at(&[0, 1, 2, 3, 4])
        .into_iter()
        .zip([false, true, true, false, true])
        .map(|(row, within)| Row { within, ..row })
        .collect();
    assert_eq!(cut(&rules, &rows), "- 1.0 1.1 - 4.0");
}

#[test]
fn a_trip_ends_where_a_stay_has_lasted_and_the_next_begins_where_it_is_left() {
    let fix = Fix { lat: String::new(), lon: String::new() };
    let rules = Episodes { trip: Some(Trip { fix, radius_m: 50.0, rest_ns: 3 }), ..rules() };
    // 0.001 degrees of latitude are 111 m, a tenth of it is noise. Across the antimeridian all the same.
    let fixes = [
        Some((0.0, 179.9999)),
        Some((0.001, -179.9999)),
        Some((0.002, 179.9999)),
        None,
        Some((0.0021, -179.9999)),
        Some((0.0019, 180.0 - 0.0001)),
        None,
        Some((0.002, 179.9999)),
        Some((0.004, 179.9999)),
        Some((0.005, 179.9999)),
    ];
    let rows: Vec<Row<'_>> = (0..).zip(fixes).map(|(ts_ns, fix)| Row { ts_ns, fix, ..PLAIN }).collect();
    assert_eq!(cut(&rules, &rows), "0.0 0.1 0.2 0.3 0.4 - - - 8.0 8.1");
}

#[test]
fn devices_do_not_see_each_other() {
    let rules = Episodes { gap_ns: Some(10), ..rules() };
    let mut cutter = Cutter::default();
    let mut place = |device, ts_ns, key| cutter.place(&rules, Row { device, ts_ns, key, ..PLAIN }).unwrap();
    assert_eq!(place("a", 0, "k").id, "a/k");
    assert_eq!(place("b", 500, "k").id, "b/k");
    assert_eq!(place("a", 5, "l"), Place { id: "a/k".to_owned(), index: 1 });
}

#[test]
fn splits_are_these_for_ever() {
    let split_of = |salt: &str, id: &str| {
        let splits = [("test", 1000), ("train", 8000), ("val", 1000)];
        let splits = splits.map(|(name, share)| Split { name: name.to_owned(), share }).to_vec();
        split(&Episodes { splits, salt: salt.to_owned(), ..rules() }, id).unwrap().to_owned()
    };
    // python3 -c 'import hashlib; print(int.from_bytes(hashlib.sha256(b"\nd/1").digest()[:8], "big") * 10000 >> 64)'
    let drawn: Vec<String> =
        ["d/1", "d/2", "d/3", "d/4", "d/5", "d/6"].iter().map(|id| split_of("", id)).collect();
    assert_eq!(drawn, ["train", "train", "train", "train", "val", "test"]);
    let many: Vec<String> = (0..20_000).map(|n| split_of("s", &format!("veh/{n}"))).collect();
    let share = |name: &str| many.iter().filter(|split| *split == name).count() as f64 / 20_000.0;
    // Six standard deviations of a binomial.
    assert!((share("train") - 0.8).abs() < 0.017 && (share("val") - 0.1).abs() < 0.013, "{}", share("train"));
    assert_eq!(split(&rules(), "d/1"), None);
}

proptest! {
    #[test]
    fn a_late_row_changes_its_own_stretch_only(
        gaps in prop::collection::vec(1i64..20, 2..60), late in 0usize..60
    ) {
        let rules = Episodes { gap_ns: Some(10), ..rules() };
        let times: Vec<i64> = gaps.iter().scan(0, |now, gap| { *now += gap; Some(*now) }).collect();
        let late = late % times.len();
        let without: Vec<i64> = times.iter().enumerate().filter(|(place, _)| *place != late).map(|(_, time)| *time).collect();
        let ids = |times: &[i64]| -> Vec<(i64, String)> {
            let mut cutter = Cutter::default();
            let id = |time: &i64| (*time, cutter.place(&rules, Row { ts_ns: *time, key: &time.to_string(), ..PLAIN }).unwrap().id);
            times.iter().map(id).collect()
        };
        let (before, after) = (ids(&without), ids(&times));
        // From the first cut behind the late row on, and before it, ids are the same.
        let next_cut = times[late..].windows(2).find(|two| two[1] - two[0] > 10).map_or(i64::MAX, |two| two[1]);
        for (time, id) in &before {
            if *time < times[late] || *time >= next_cut {
                prop_assert!(after.contains(&(*time, id.clone())), "{} {}", time, id);
            }
        }
    }

    #[test]
    fn places_count_from_zero_without_a_hole(times in prop::collection::vec(0i64..500, 1..80), gap in 1i64..30) {
        let rules = Episodes { gap_ns: Some(gap), duration_max_ns: Some(100), ..rules() };
        let mut cutter = Cutter::default();
        let mut counts: BTreeMap<String, i64> = BTreeMap::new();
        for (n, time) in times.iter().enumerate() {
            let place = cutter.place(&rules, Row { ts_ns: *time, key: &n.to_string(), ..PLAIN }).unwrap();
            let count = counts.entry(place.id).or_default();
            prop_assert_eq!(*count, place.index);
            *count += 1;
        }
    }
}

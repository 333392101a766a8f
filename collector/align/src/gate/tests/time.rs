//! When: order, range, bounds, distances, rates and freshness.

use super::*;
use arrow_array::Int64Array;
use std::sync::Arc;

#[test]
fn time_order_wants_intervals_that_can_follow_each_other_within_a_boot() {
    let of = |back_ns: i64, grade: &'static str, boots: Option<Vec<Option<i64>>>| {
        let mut rows = rows(3);
        rows.ts_ns[2] -= back_ns;
        rows.grade = vec![grade; 3];
        let none = BTreeMap::new();
        let context = Context { boots: boots.as_deref(), ..context(&none) };
        judge(&set("check = \"time_order\""), &[rows.batch()], &context).unwrap().remove(0).verdict
    };
    let (one, two) = (|| Some(vec![Some(4); 3]), || Some(vec![Some(4), Some(4), Some(5)]));
    for grade in ["guaranteed", "estimated", "ordering_only"] {
        assert_eq!(of(0, grade, one()), Verdict::Pass);
        assert_eq!(of(50 * S, grade, one()), Verdict::Fail, "{grade}: within a boot the order is known");
        assert_eq!(of(S + 500_000, grade, one()), Verdict::Pass, "{grade}: middles may cross");
        assert_eq!(of(50 * S, grade, two()), Verdict::Pass, "{grade}: a boot has a track of its own");
    }
    // Of rows whose boot nobody knows promises are held against each other, and nothing else.
    assert_eq!(of(50 * S, "guaranteed", None), Verdict::Fail);
    assert_eq!(of(50 * S, "estimated", None), Verdict::Pass);
    // Raw tables name the boot.
    let raw = |boots: [i64; 3]| {
        let mut rows = rows(3);
        rows.ts_ns[2] -= 50 * S;
        rows.more.push(("boot_ordinal".to_owned(), Arc::new(Int64Array::from(boots.to_vec()))));
        rows
    };
    check("check = \"time_order\"", raw([1, 1, 2]), raw([1, 1, 1]));
}

#[test]
fn times_that_cannot_be() {
    let mut late = rows(3);
    late.ts_ns[1] = NOW + 2 * 86_400 * S;
    check("check = \"time_range\"", rows(3), late);
    let mut early = rows(3);
    early.ts_ns[1] = 86_400 * S;
    check("check = \"time_range\"", rows(3), early);
    let mut wide = rows(3);
    wide.ts_ns[1] = NOW + 2 * 86_400 * S;
    wide.err_ns[1] = 3 * 86_400 * S;
    assert_eq!(find("check = \"time_range\"", wide).verdict, Verdict::Pass, "its own bound says so");
    let earliest = "check = \"time_range\"\nearliest = \"2100-01-01T00:00:00+01:00\"";
    assert_eq!(find(earliest, rows(1)).verdict, Verdict::Fail);
}

#[test]
fn bounds_that_cannot_be_or_are_too_wide() {
    let of = |err_ns: i64, grade: &'static str| {
        let mut rows = rows(2);
        (rows.err_ns[1], rows.grade[1]) = (err_ns, grade);
        rows
    };
    let keys = "check = \"time_error\"\nmax = \"250ms\"\nmin_grade = \"estimated\"";
    for bad in [of(-1, "guaranteed"), of(250_000_001, "estimated"), of(1, "ordering_only"), of(1, "splendid")]
    {
        check(keys, of(250_000_000, "guaranteed"), bad);
    }
    check("check = \"time_error\"", of(i64::MAX, "ordering_only"), of(i64::MAX, "estimated"));
}

#[test]
fn intervals_between_neighbours() {
    let keys = "check = \"interval\"\nmin = \"500ms\"\nmax = \"1500ms\"";
    for shift in [6 * S / 10, -6 * S / 10] {
        let mut bad = rows(5);
        bad.ts_ns[4] += shift;
        check(keys, rows(5), bad);
    }
    // Lines of a device are told apart.
    let mut two = rows(4);
    two.key[2] = "e1/rear/0".to_owned();
    two.key[3] = "e1/rear/1".to_owned();
    two.ts_ns[2] = two.ts_ns[0] + 1;
    two.ts_ns[3] = two.ts_ns[1] + 1;
    assert_eq!(find(keys, two).verdict, Verdict::Pass);
}

#[test]
fn counts_rates_and_freshness() {
    check("check = \"rows\"\nfail_below = 2\nfail_above = 3", rows(3), rows(4));
    let double = |n| {
        let mut rows = rows(n);
        rows.ts_ns =
            rows.ts_ns.iter().enumerate().map(|(row, ts)| ts + i64::try_from(row).unwrap() * S).collect();
        rows
    };
    let rate = "check = \"rate\"\nfail_below = 0.9\nfail_above = 1.1";
    check(rate, rows(20), double(20));
    let mut gap = rows(20);
    gap.ts_ns.iter_mut().skip(10).for_each(|ts| *ts += 100 * S);
    assert_eq!(find(rate, gap).verdict, Verdict::Pass, "a gap is another rule's business");
    assert_eq!(find(rate, double(9)).verdict, Verdict::Pass, "too few rows to tell");
    let of_group = |step: i64| {
        let of: Vec<Of> = (0..20).map(|row| (Some(row * step), 0, 0)).collect();
        rows(20).source("imu", &of)
    };
    check("check = \"rate\"\ncolumn = \"imu\"\nfail_below = 90", of_group(100), of_group(50));
    check("check = \"freshness\"\nfail_above = 1000", rows(2), {
        let mut old = rows(2);
        old.ts_ns.iter_mut().for_each(|ts| *ts -= 100 * S);
        old
    });
}

//! What is there: columns, values, sources, rows that are no copies.

use super::*;
use serde_json::json;
use std::collections::BTreeMap;

#[test]
fn schema_wants_columns_of_a_type() {
    let keys = "check = \"schema\"\ncolumns = { x = \"number\", ts_ns = \"number\", ts = \"timestamp\" }\nrequired = [\"x\"]";
    let good = || rows(2).with("x", vec![1.0, 2.0]);
    check(keys, good(), rows(2));
    check(keys, good(), rows(2).text("x", vec![Some("1"), Some("2")]));
    let failed = check(keys, good(), rows(2).with("x", vec![Some(1.0), None]));
    assert_eq!(failed.evidence["row_keys"], json!(["e1/cam/1"]));
}

#[test]
fn null_counts_what_is_missing() {
    let some =
        |missing: usize| -> Vec<Option<f64>> { (0..10).map(|row| (row >= missing).then_some(1.0)).collect() };
    let keys = "check = \"null\"\ncolumns = [\"x\"]\nwarn_percent = 10\nfail_percent = 20";
    check(keys, rows(10).with("x", some(1)), rows(10).with("x", some(3)));
    assert_eq!(find(keys, rows(10).with("x", some(2))).verdict, Verdict::Warn);
}

#[test]
fn gaps_and_sources_are_held_against_limits() {
    let sources = |bad: usize, with: Of| -> Vec<Of> {
        (0..20)
            .map(|row| if row < bad { with } else { (Some(i64::try_from(row).unwrap()), -5_000_000, 0) })
            .collect()
    };
    let of = |bad, with| rows(20).source("place", &sources(bad, with));
    let gap = "check = \"gap\"\nfail_percent = 10";
    check(gap, of(2, (Some(1), 0, 512)), of(3, (Some(1), 0, 512 | 8)));
    // 95 % of frames have a fix within 100 ms.
    let covered = "check = \"coverage\"\ncolumns = [\"place\"]\nwithin = \"100ms\"\nfail_below_percent = 95";
    for bad in [
        (None, 0, 1),
        (Some(1), 0, 2),
        (Some(1), 0, 4),
        (Some(1), -100_000_001, 0),
        (Some(1), 100_000_001, 8),
    ] {
        check(covered, of(1, bad), of(2, bad));
    }
    check("check = \"coverage\"\nmax_err = \"1us\"", of(0, (None, 0, 1)), of(1, (None, 0, 1)));
    assert_eq!(find("check = \"coverage\"\nmax_err = \"999ns\"", of(0, (None, 0, 1))).verdict, Verdict::Fail);
    // A table without groups has nothing to offend; one that is named must be there.
    assert_eq!(find("check = \"coverage\"", rows(3)).verdict, Verdict::Pass);
    assert_eq!(find(covered, rows(3)).verdict, Verdict::Fail);
    assert_eq!(find(&format!("{covered}\noptional = true"), rows(3)).verdict, Verdict::Pass);
}

#[test]
fn duplicates_by_key_by_columns_and_of_what_is_published() {
    let mut twice = rows(3);
    twice.key[2] = twice.key[0].clone();
    check("check = \"duplicate\"", rows(3), twice);
    let keys = "check = \"duplicate\"\ncolumns = [\"ts_ns\", \"x\"]";
    let mut again = rows(3).with("x", vec![1.0, 1.0, 1.0]);
    again.ts_ns[2] = again.ts_ns[1];
    check(keys, rows(3).with("x", vec![1.0, 1.0, 1.0]), again);
    let none = BTreeMap::new();
    let known = Context { known: Some(&[false, true, false]), ..context(&none) };
    let found = judge(&set("check = \"duplicate\""), &[rows(3).batch()], &known).unwrap().remove(0);
    assert_eq!((found.verdict, &found.evidence["row_keys"]), (Verdict::Fail, &json!(["e1/cam/1"])));
    // What one device has, another may have, too.
    let mut two = rows(2);
    two.device[1] = "pi-2";
    two.key[1] = two.key[0].clone();
    assert_eq!(find("check = \"duplicate\"", two).verdict, Verdict::Pass);
}

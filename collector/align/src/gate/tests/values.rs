//! Values as a heap and as a series.

use super::*;
use serde_json::json;
use std::collections::BTreeMap;

#[test]
fn range_refuses_what_lies_outside_or_is_no_number() {
    let keys = "check = \"range\"\ncolumns = [\"x\"]\nmin = -1\nmax = 1";
    for bad in [1.5, -1.5, f64::NAN, f64::INFINITY] {
        check(
            keys,
            rows(3).with("x", vec![Some(1.0), None, Some(-1.0)]),
            rows(3).with("x", spoilt(3, 1, bad)),
        );
    }
    let found = find(keys, rows(3).with("x", spoilt(3, 1, 7.0)));
    assert_eq!(found.evidence["devices"]["pi-1"]["found"]["x"]["greatest"], json!(7.0));
    let words = find(keys, rows(1).text("x", vec![Some("a")]));
    assert!(words.evidence.to_string().contains("is text, where numbers belong"));
}

#[test]
fn stuck_values_and_samples_that_are_used_twice() {
    let keys = "check = \"stuck\"\ncolumns = [\"air_t\"]\nrows = 4";
    let held = by(12, |row| if (3.0..7.0).contains(&row) { 5.0 } else { noise(row) });
    let failed =
        check(keys, rows(12).with("air_t", by(12, |row| (row / 3.0).floor())), rows(12).with("air_t", held));
    assert_eq!(failed.evidence["offending"], json!(4));
    // Six rows of one sample are one sample.
    let slow: Vec<Of> = (0..12).map(|row| (Some(row / 6), 0, 0)).collect();
    let held = rows(12).with("air_t", by(12, |row| (row / 6.0).floor())).source("air", &slow);
    assert_eq!(find(keys, held).verdict, Verdict::Pass);
    let fast: Vec<Of> = (0..12).map(|row| (Some(row), 0, 0)).collect();
    assert_eq!(find(keys, rows(12).with("air_t", vec![1.0; 12]).source("air", &fast)).verdict, Verdict::Fail);
    // A null ends a run; together two columns are stuck only if both are.
    let holed: Vec<Option<f64>> = (0..7).map(|row| (row != 3).then_some(1.0)).collect();
    assert_eq!(find(keys, rows(7).with("air_t", holed)).verdict, Verdict::Pass);
    let both = "check = \"stuck\"\ncolumns = [\"x\", \"y\"]\nrows = 4";
    check(
        both,
        rows(9).with("x", vec![1.0; 9]).with("y", by(9, noise)),
        rows(9).with("x", vec![1.0; 9]).with("y", vec![0.0; 9]),
    );
}

#[test]
fn steps_and_spikes() {
    let step = "check = \"step\"\ncolumns = [\"x\"]\nmax = 2";
    check(step, rows(9).with("x", by(9, |row| row)), rows(9).with("x", spoilt(9, 4, 3.0)));
    let rate = "check = \"step\"\ncolumns = [\"x\"]\nmax = 2\nper_second = true";
    let mut close = rows(3).with("x", vec![0.0, 1.0, 2.0]);
    close.ts_ns[2] = close.ts_ns[1] + S / 10;
    check(rate, rows(3).with("x", vec![0.0, 1.9, 3.8]), close);
    let spike = "check = \"spike\"\ncolumns = [\"x\"]\nmax = 3";
    let failed =
        check(spike, rows(20).with("x", by(20, |row| row * 2.0)), rows(20).with("x", spoilt(20, 9, 4.0)));
    assert_eq!(failed.evidence["row_keys"], json!(["e1/cam/9"]), "only the spike itself");
}

#[test]
fn rails_repeat() {
    let keys = "check = \"saturation\"\ncolumns = [\"x\"]\nrows = 5";
    let railed = by(100, |row| (noise(row) * 10.0).clamp(-3.0, 3.0));
    check(keys, rows(100).with("x", by(100, noise)), rows(100).with("x", railed));
    assert_eq!(
        find(keys, rows(100).with("x", vec![1.0; 100])).verdict,
        Verdict::Pass,
        "stuck is another rule's business"
    );
    assert_eq!(
        find(keys, rows(49).with("x", by(49, |row| (row % 2.0).floor()))).verdict,
        Verdict::Pass,
        "too few"
    );
}

#[test]
fn noise_within_bounds_piece_by_piece() {
    let keys = "check = \"noise\"\ncolumns = [\"x\"]\nfail_below = 0.1\nfail_above = 0.5";
    let loud = by(100, |row| noise(row) * 10.0);
    check(keys, rows(100).with("x", by(100, |row| noise(row) + row * 0.01)), rows(100).with("x", loud));
    check(keys, rows(100).with("x", by(100, noise)), rows(100).with("x", by(100, |row| row)));
    // A burst of half a minute drowns in ten minutes, but not in its own piece.
    let burst = || by(600, |row| noise(row) * if (300.0..330.0).contains(&row) { 3.0 } else { 1.0 });
    assert_eq!(find(keys, rows(600).with("x", burst())).verdict, Verdict::Pass);
    let pieces = format!("{keys}\nspan = \"30s\"");
    check(&pieces, rows(600).with("x", by(600, noise)), rows(600).with("x", burst()));
    let hush = by(600, |row| noise(row) * if (300.0..360.0).contains(&row) { 0.0 } else { 1.0 });
    assert_eq!(find(&pieces, rows(600).with("x", hush)).verdict, Verdict::Fail);
}

#[test]
fn variety_and_drift() {
    let keys = "check = \"distinct\"\ncolumns = [\"x\"]\nfail_below = 20";
    check(
        keys,
        rows(100).with("x", by(100, noise)),
        rows(100).with("x", by(100, |row| (noise(row) * 4.0).round())),
    );
    let mut references = BTreeMap::new();
    references.insert("good".to_owned(), rows(500).with("x", by(500, noise)).batch());
    for (method, most) in [("psi", 0.25), ("ks", 0.2)] {
        let keys = format!(
            "check = \"drift\"\ncolumns = [\"x\"]\nreference = \"good\"\nmethod = \"{method}\"\nfail_above = {most}"
        );
        let found = |shift: f64| {
            let rows = rows(300).with("x", by(300, |row| noise(row + 1_000.0) + shift));
            judge(&set(&keys), &[rows.batch()], &context(&references)).unwrap().remove(0)
        };
        assert_eq!(found(0.0).verdict, Verdict::Pass, "{:#}", found(0.0).evidence);
        assert_eq!(found(0.4).verdict, Verdict::Fail);
        assert_eq!(
            find(&keys, rows(300).with("x", by(300, noise))).verdict,
            Verdict::Fail,
            "no such reference"
        );
    }
}

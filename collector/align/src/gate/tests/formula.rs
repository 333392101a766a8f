//! Formulas: read and judged.

use super::*;
use serde_json::json;

#[test]
fn formulas_for_rows_and_for_the_window() {
    let of = |text: &str| format!("check = \"expression\"\nmin_rows = 1\nexpect = \"{text}\"");
    let x = |values: Vec<Option<f64>>| rows(values.len()).with("x", values);
    check(&of("x > 0 and x < 10"), x(vec![Some(1.0), None]), x(vec![Some(1.0), Some(10.0)]));
    check(&format!("{}\nnulls = \"fail\"", of("x > 0")), x(vec![Some(1.0)]), x(vec![Some(1.0), None]));
    check(
        &of("mean(x) = 2 and count() = 3 and count(x) = 2"),
        x(vec![Some(1.0), None, Some(3.0)]),
        x(vec![Some(1.0), None, Some(4.0)]),
    );
    check(&of("share(x > 1) <= 0.5"), x(vec![Some(1.0), Some(3.0)]), x(vec![Some(2.0), Some(3.0)]));
    check(
        &of("max(x) - min(x) < 5 and max(x, 3) < 9"),
        x(vec![Some(1.0), Some(5.9)]),
        x(vec![Some(1.0), Some(6.1)]),
    );
    check(
        &of("abs(x - median(x)) <= 2"),
        x(vec![Some(1.0), Some(2.0), Some(4.0)]),
        x(vec![Some(1.0), Some(2.0), Some(5.0)]),
    );
    check(
        &of("distinct(x) > 1 and std(x) > 0 and sum(x) > 0"),
        x(vec![Some(1.0), Some(2.0)]),
        x(vec![Some(1.0), Some(1.0)]),
    );
    check(&of("not provisional"), rows(1), Rows { provisional: vec![true], ..rows(1) });
    check(&of("device = 'pi-1'"), rows(1), Rows { device: vec!["pi-2"], ..rows(1) });
    check(
        &of("place_src.flag = 0"),
        rows(1).source("place", &[(Some(1), 0, 0)]),
        rows(1).source("place", &[(Some(1), 0, 8)]),
    );
    let xy = |y: fn(f64) -> f64| rows(9).with("x", by(9, |row| row)).with("y", by(9, y));
    check(&of("corr(x, y) > 0.9"), xy(|row| 2.0 * row), xy(|row| -row));
    let failed = find(&of("mean(x) > 2"), x(vec![Some(1.0)]));
    assert_eq!(failed.evidence["devices"]["pi-1"]["found"]["rows"]["holds"], json!(false));
    assert_eq!(failed.evidence["row_keys"], json!([]), "no row is worse than another");
    // What does not fit the columns does not pass, and says where.
    for (text, words) in [("y > 0", "y"), ("device > 5", "device"), ("mean(device) > 5", "device")] {
        let found = find(&of(text), x(vec![Some(1.0)]));
        assert_eq!(found.verdict, Verdict::Fail, "{text}");
        assert!(found.evidence.to_string().contains(words), "{:#}", found.evidence);
    }
}

#[test]
fn formulas_are_checked_when_they_are_read() {
    for (text, at) in [
        ("x > ", 4),
        ("'a' + 1 > 0", 0),
        ("x and x > 1", 6),
        ("x + 1", 0),
        ("mean(x > 1) > 0", 0),
        ("1 < corr(x)", 4),
        ("share(x) > 0 and x > 1 and (x", 27),
        ("true and mean(y, z) > 1", 9),
        ("true and mean(y", 9),
        ("median(sum(x)) > 1", 7),
    ] {
        let error = Formula::truth(text).expect_err(text);
        assert!(error.at.abs_diff(at) <= 2, "{text}: {error}");
    }
    for text in [
        "a",
        "not a",
        "length(a) > 1",
        "has_bits(a.b, 2)",
        "a = 'x' and is_null(c)",
        "null",
        "min(a, b) > min(a)",
        "'mean(' = a",
        "share(a) > 0.5",
    ] {
        assert!(Formula::truth(text).is_ok(), "{text}: {:?}", Formula::truth(text));
    }
}

//! How a window is judged: devices, policies, evidence, layouts.

use super::*;
use arrow_array::builder::StringDictionaryBuilder;
use arrow_array::types::Int32Type;
use arrow_array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

#[test]
fn each_device_is_judged_for_itself() {
    let mut two = rows(4).with("x", vec![1.0, 9.0, 1.0, 1.0]);
    two.device = vec!["pi-1", "pi-2", "pi-1", "pi-2"];
    let keys = "check = \"range\"\ncolumns = [\"x\"]\nmax = 5";
    let batch = two.batch();
    let none = BTreeMap::new();
    let judged = |keys: &str| judge(&set(keys), std::slice::from_ref(&batch), &context(&none)).unwrap();
    let found = judged(keys);
    assert_eq!(
        found[0].devices,
        BTreeMap::from([("pi-1".to_owned(), Verdict::Pass), ("pi-2".to_owned(), Verdict::Fail)])
    );
    let held = Held::of(&found);
    assert_eq!((held.all, held.devices), (None, BTreeMap::from([("pi-2".to_owned(), Policy::Quarantine)])));
    let whole = judged(&format!("{keys}\nscope = \"window\"\npolicy = \"hold\""));
    assert_eq!(Held::of(&whole), Held { all: Some(Policy::Hold), devices: BTreeMap::new() });
    let warned = judged(&format!("{keys}\npolicy = \"warn\""));
    assert_eq!((warned[0].verdict, Held::of(&warned)), (Verdict::Warn, Held::default()));
    let others = judged(&format!("{keys}\ndevices = [\"pi-1\", \"cam-*\"]"));
    assert_eq!((others[0].verdict, others[0].devices.len()), (Verdict::Pass, 1));
    let some = judged(&format!("{keys}\nwhere = \"x < 5\""));
    assert_eq!((some[0].verdict, &some[0].evidence["rows"]), (Verdict::Pass, &json!(3)));
    assert_eq!(judged(&format!("{keys}\nwhere = \"zz < 5\""))[0].verdict, Verdict::Fail, "no such column");
    assert_eq!(judged(&format!("{keys}\nmin_rows = 3"))[0].verdict, Verdict::Pass, "too few to say");
}

#[test]
fn evidence_is_bounded() {
    let n = 2_000;
    let mut many = rows(n).with("x", vec![9.0; n]);
    let names: Vec<&'static str> =
        (0..n).map(|row| &*Box::leak(format!("pi-{row}").into_boxed_str())).collect();
    many.device = names;
    let found = find("check = \"range\"\ncolumns = [\"x\"]\nmax = 5", many);
    assert_eq!(found.devices.len(), n);
    assert_eq!(found.evidence["devices"].as_object().unwrap().len(), DEVICES_NAMED_MAX);
    assert_eq!((&found.evidence["offending"], &found.evidence["devices_all"]), (&json!(n), &json!(n)));
    assert!(found.evidence.to_string().len() < 8_192, "{}", found.evidence.to_string().len());
}

#[test]
fn other_layouts_and_no_rows() {
    let mut devices = StringDictionaryBuilder::<Int32Type>::new();
    devices.append_value("pi-1");
    let batch = RecordBatch::try_from_iter(vec![
        ("device", Arc::new(devices.finish()) as ArrayRef),
        ("x", Arc::new(Int32Array::from(vec![7])) as ArrayRef),
        ("stream", Arc::new(StringArray::from(vec!["imu"])) as ArrayRef),
        ("epoch", Arc::new(StringArray::from(vec!["e1"])) as ArrayRef),
        ("seq", Arc::new(Int64Array::from(vec![3])) as ArrayRef),
    ])
    .unwrap();
    let none = BTreeMap::new();
    let keys = "check = \"range\"\ncolumns = [\"x\"]\nmax = 5";
    let found = judge(&set(keys), &[batch.clone(), batch], &context(&none)).unwrap().remove(0);
    assert_eq!(
        (found.verdict, &found.evidence["row_keys"]),
        (Verdict::Fail, &json!(["e1/imu/3", "e1/imu/3"]))
    );
    assert_eq!(found.devices.keys().collect::<Vec<_>>(), ["pi-1"]);
    let empty = judge(&set(keys), &[], &context(&none)).unwrap().remove(0);
    assert_eq!(empty.verdict, Verdict::Pass);
}

/// A share or a statistic of a handful of rows is chance: no rule of that kind holds a device back for one row.
#[test]
fn no_ratio_and_no_statistic_fails_on_a_handful_of_rows() {
    let bad = |n: usize| rows(n).with("x", vec![None; n]).source("place", &vec![(None, 0, 1); n]);
    for (keys, least) in [
        ("check = \"null\"\ncolumns = [\"x\"]\nfail_percent = 5", 20),
        ("check = \"null\"\ncolumns = [\"x\"]\nfail_percent = 0.1", 20),
        ("check = \"null\"\ncolumns = [\"x\"]\nfail_percent = 30", 4),
        ("check = \"coverage\"\ncolumns = [\"place\"]\nfail_below_percent = 90", 10),
        ("check = \"expression\"\nnulls = \"fail\"\nexpect = \"mean(x) > 0\"", 10),
        ("check = \"expression\"\nnulls = \"fail\"\nexpect = \"x > 0\"", 1),
        ("check = \"null\"\ncolumns = [\"x\"]", 1),
        ("check = \"null\"\ncolumns = [\"x\"]\nfail_percent = 5\nmin_rows = 2", 2),
    ] {
        assert_eq!(find(keys, bad(least - 1)).verdict, Verdict::Pass, "{keys}: {} rows", least - 1);
        assert_eq!(find(keys, bad(least)).verdict, Verdict::Fail, "{keys}: {least} rows");
    }
    // As many as it takes for one row not to be too many.
    let one = |n: usize| {
        rows(n).with("x", (0..n).map(|row| (row != 1).then_some(1.0)).collect::<Vec<Option<f64>>>())
    };
    for percent in [5, 10, 25, 50, 99] {
        let keys = format!("check = \"null\"\ncolumns = [\"x\"]\nfail_percent = {percent}");
        (2..40).for_each(|n| assert_eq!(find(&keys, one(n)).verdict, Verdict::Pass, "{percent} % of {n}"));
    }
    let thresholds = Thresholds { unmatched_warn: 50, unmatched_fail: 80, gap_warn: 10, gap_fail: 100 };
    let builtin = builtin(&thresholds).unwrap();
    let least = |name: &str| builtin.rules.iter().find(|rule| rule.name == name).unwrap().min_rows;
    assert_eq!(
        (least("modality_coverage"), least("gap_ratio")),
        (2, 1),
        "the collector's own percents count"
    );
}

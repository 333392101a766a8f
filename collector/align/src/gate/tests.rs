//! Every check with rows that pass and rows that do not.

use super::*;
use crate::picture::LumaStats;
use arrow_array::builder::StringDictionaryBuilder;
use arrow_array::types::Int32Type;
use arrow_array::{
    ArrayRef, BooleanArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray, StructArray,
    TimestampMicrosecondArray,
};
use arrow_schema::{Field, Fields};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

const S: i64 = 1_000_000_000;
const NOW: i64 = 1_800_000_000 * S;

/// A row a second before now, of one device, oldest first.
fn times(n: usize) -> Vec<i64> {
    (0..n).map(|row| NOW - 1_000 * S + i64::try_from(row).unwrap() * S).collect()
}

/// Seq, distance and flag of a source.
type Of = (Option<i64>, i64, i32);

struct Rows {
    device: Vec<&'static str>,
    ts_ns: Vec<i64>,
    err_ns: Vec<i64>,
    grade: Vec<&'static str>,
    key: Vec<String>,
    provisional: Vec<bool>,
    more: Vec<(String, ArrayRef)>,
}

/// Good rows.
fn rows(n: usize) -> Rows {
    Rows {
        device: vec!["pi-1"; n],
        ts_ns: times(n),
        err_ns: vec![1_000_000; n],
        grade: vec!["estimated"; n],
        key: (0..n).map(|row| format!("e1/cam/{row}")).collect(),
        provisional: vec![false; n],
        more: Vec::new(),
    }
}

impl Rows {
    fn with(mut self, name: &str, column: impl Into<Float64Array>) -> Self {
        self.more.push((name.to_owned(), Arc::new(column.into())));
        self
    }

    fn text(mut self, name: &str, texts: Vec<Option<&str>>) -> Self {
        self.more.push((name.to_owned(), Arc::new(StringArray::from(texts))));
        self
    }

    /// Sources of a column group: seq, dt and flag by row.
    fn source(mut self, group: &str, of: &[Of]) -> Self {
        let long = |pick: &dyn Fn(&Of) -> Option<i64>| -> ArrayRef {
            Arc::new(of.iter().map(pick).collect::<Int64Array>())
        };
        let fields = ["epoch", "seq_lo", "seq_hi", "dt_ns", "err_ns", "flag"];
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec!["e1"; of.len()])),
            long(&|of| of.0),
            long(&|of| of.0),
            long(&|of| of.0.map(|_| of.1)),
            long(&|of| of.0.map(|_| 1_000)),
            Arc::new(of.iter().map(|of| Some(of.2)).collect::<Int32Array>()),
        ];
        let fields: Fields = fields
            .iter()
            .zip(&columns)
            .map(|(name, column)| Field::new(*name, column.data_type().clone(), true))
            .collect();
        self.more.push((format!("{group}_src"), Arc::new(StructArray::new(fields, columns, None))));
        self
    }

    fn batch(self) -> RecordBatch {
        let ts = self.ts_ns.iter().map(|ns| ns / 1_000).collect::<Vec<i64>>();
        let mut columns: Vec<(String, ArrayRef)> = vec![
            ("device".to_owned(), Arc::new(StringArray::from(self.device))),
            ("ts".to_owned(), Arc::new(TimestampMicrosecondArray::from(ts).with_timezone("UTC"))),
            ("ts_ns".to_owned(), Arc::new(Int64Array::from(self.ts_ns))),
            ("ts_err_ns".to_owned(), Arc::new(Int64Array::from(self.err_ns))),
            ("grade".to_owned(), Arc::new(StringArray::from(self.grade))),
            ("row_key".to_owned(), Arc::new(StringArray::from(self.key))),
            ("provisional".to_owned(), Arc::new(BooleanArray::from(self.provisional))),
        ];
        columns.extend(self.more);
        RecordBatch::try_from_iter_with_nullable(
            columns.into_iter().map(|(name, column)| (name, column, true)),
        )
        .unwrap()
    }
}

fn set(keys: &str) -> RuleSet {
    RuleSet::parse(&format!("headwater_gate = 1\nname = \"t\"\n[[rule]]\nname = \"r\"\n{keys}\n")).unwrap()
}

fn context(references: &BTreeMap<String, RecordBatch>) -> Context<'_> {
    Context { now_ns: NOW, known: None, looks: None, references }
}

fn find(keys: &str, rows: Rows) -> Finding {
    let none = BTreeMap::new();
    judge(&set(keys), &[rows.batch()], &context(&none)).unwrap().remove(0)
}

/// One rule on rows that are good and on rows that are not.
fn check(keys: &str, good: Rows, bad: Rows) -> Finding {
    let passed = find(keys, good);
    assert_eq!(passed.verdict, Verdict::Pass, "{keys}: {:#}", passed.evidence);
    let failed = find(keys, bad);
    assert_eq!(
        (failed.verdict, failed.rule.as_str()),
        (Verdict::Fail, "t.r"),
        "{keys}: {:#}",
        failed.evidence
    );
    assert_eq!(failed.evidence_digest().len(), 64);
    failed
}

/// A column by row number.
fn by(n: usize, of: impl Fn(f64) -> f64) -> Vec<f64> {
    (0..n).map(|row| of(f64::from(u32::try_from(row).unwrap()))).collect()
}

/// Reproducible noise in [-0.5, 0.5).
fn noise(row: f64) -> f64 {
    let x = (row * 12.9898).sin() * 43_758.545_3;
    x - x.floor() - 0.5
}

fn spoilt(n: usize, at: usize, value: f64) -> Vec<f64> {
    let mut values = by(n, noise);
    values[at] = value;
    values
}

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

#[test]
fn time_order_wants_intervals_that_can_follow_each_other() {
    let mut back = rows(3);
    back.ts_ns[2] -= 50 * S;
    check("check = \"time_order\"", rows(3), back);
    let mut crossed = rows(3);
    crossed.ts_ns[2] = crossed.ts_ns[1] - 500_000;
    assert_eq!(find("check = \"time_order\"", crossed).verdict, Verdict::Pass, "middles may cross");
    let mut unsure = rows(3);
    unsure.ts_ns[2] -= 50 * S;
    unsure.grade[2] = "ordering_only";
    assert_eq!(find("check = \"time_order\"", unsure).verdict, Verdict::Pass);
    let mut within = rows(3).with("boot_ordinal", vec![1.0; 3]);
    within.more[0].1 = Arc::new(Int64Array::from(vec![1, 1, 1]));
    within.ts_ns[2] -= 50 * S;
    within.grade[2] = "ordering_only";
    assert_eq!(
        find("check = \"time_order\"", within).verdict,
        Verdict::Fail,
        "within a boot the order is known"
    );
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
fn pictures_by_what_their_rows_say() {
    let keys = "check = \"image\"\nlooks = 0";
    let good = || rows(2).text("image_hash", vec![Some("a"), Some("b")]).with("width", vec![640.0, 640.0]);
    check(keys, good(), rows(2).text("image_hash", vec![Some("a"), None]).with("width", vec![640.0; 2]));
    check(
        keys,
        good(),
        rows(2).text("image_hash", vec![Some("a"), Some("b")]).with("width", vec![640.0, 0.0]),
    );
    assert_eq!(find(keys, rows(2)).verdict, Verdict::Pass, "a table without pictures");
}

fn seen(mean: f64, std: f64, sharpness: f64, pixels: u8) -> Result<Seen, String> {
    Ok(Seen { width: 640, height: 480, stats: LumaStats { mean, std, sharpness }, pixels: [pixels; 32] })
}

#[test]
fn pictures_by_what_was_seen() {
    let keys = "check = \"image\"\nmin_sharpness = 10";
    let verdict = |keys: &str, width: f64, looks: Vec<Result<Seen, String>>| {
        let n = looks.len();
        let hashes: Vec<String> = (0..n).map(|row| format!("h{row}")).collect();
        let rows = rows(n)
            .text("image_hash", hashes.iter().map(|hash| Some(hash.as_str())).collect())
            .with("width", vec![width; n]);
        let (none, looks) = (BTreeMap::new(), looks.into_iter().enumerate().collect());
        let context = Context { looks: Some(&looks), ..context(&none) };
        judge(&set(keys), &[rows.batch()], &context).unwrap().remove(0)
    };
    let good = || seen(100.0, 40.0, 50.0, 1);
    assert_eq!(verdict(keys, 640.0, vec![good(), good()]).verdict, Verdict::Pass);
    for (bad, why) in [
        (seen(2.0, 40.0, 50.0, 1), "too dark"),
        (seen(254.0, 40.0, 50.0, 1), "too bright"),
        (seen(100.0, 0.5, 50.0, 1), "without contrast"),
        (seen(100.0, 40.0, 5.0, 1), "not sharp"),
        (Err("picture is broken: it ends".to_owned()), "it ends"),
    ] {
        let found = verdict(keys, 640.0, vec![good(), bad]);
        assert_eq!(found.verdict, Verdict::Fail);
        assert!(found.evidence.to_string().contains(why), "{:#}", found.evidence);
    }
    assert!(verdict(keys, 320.0, vec![good()]).evidence.to_string().contains("of another size"));
    let frozen = "check = \"frozen\"\nrows = 3";
    let run = |pixels: [u8; 3]| pixels.map(|pixels| seen(100.0, 40.0, 50.0, pixels)).to_vec();
    assert_eq!(verdict(frozen, 640.0, run([1, 2, 2])).verdict, Verdict::Pass);
    assert_eq!(
        verdict(frozen, 640.0, run([2, 2, 2])).verdict,
        Verdict::Fail,
        "encoded anew, the same pixels"
    );
}

#[test]
fn a_frame_that_repeats_is_frozen() {
    let hashes = |texts: [&'static str; 5]| rows(5).text("image_hash", texts.map(Some).to_vec());
    let keys = "check = \"frozen\"\nrows = 3";
    check(keys, hashes(["a", "b", "b", "a", "b"]), hashes(["a", "b", "b", "b", "c"]));
    assert_eq!(find(keys, rows(3)).verdict, Verdict::Fail, "without pictures it cannot be told");
}

#[test]
fn look_tells_a_picture_from_bytes() {
    let mut jpeg = Vec::new();
    let grey: Vec<u8> = (0..64 * 64).map(|n| u8::try_from(n / 64 * 3).unwrap()).collect();
    jpeg_encoder::Encoder::new(&mut jpeg, 90).encode(&grey, 64, 64, jpeg_encoder::ColorType::Luma).unwrap();
    let found = look(&jpeg).unwrap();
    assert_eq!((found.width, found.height), (64, 64));
    assert!((found.stats.mean - 94.5).abs() < 2.0, "{found:?}");
    assert!(look(b"<html>").is_err());
}

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

#[test]
fn formulas_for_rows_and_for_the_window() {
    let of = |text: &str| format!("check = \"expression\"\nexpect = \"{text}\"");
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

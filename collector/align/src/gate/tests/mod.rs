//! Every check with rows that pass and rows that do not.

use super::*;
use arrow_array::{
    ArrayRef, BooleanArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray, StructArray,
    TimestampMicrosecondArray,
};
use arrow_schema::{Field, Fields};
use std::collections::BTreeMap;
use std::sync::Arc;

mod bad_input;
mod formula;
mod image;
mod place;
mod shape;
mod time;
mod values;
mod window;

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
    Context { now_ns: NOW, known: None, looks: None, boots: None, references }
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

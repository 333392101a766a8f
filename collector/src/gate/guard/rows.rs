//! Rules on aligned rows as they are stored: what a merge brings was made elsewhere, so only its columns can be asked.
//!
//! They are those of the gate that stored rows can tell: `schema`, `time_range`, `error_bound`, `provisional`,
//! `modality_coverage`, `gap_ratio`, and `duplicates` ([`super::keys`]). The order of a boot and pictures were judged where
//! the rows were made; a stored row names neither its boot nor holds its picture.

use crate::gate::settings::GateLimits;
use crate::gate::{Judged, Verdict};
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use arrow_array::{Array, BooleanArray, Int32Array, Int64Array, RecordBatch, StringArray};
use headwater_align::engine::flag;
use headwater_core::time::{NS_PER_S, UtcNanos};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// 2020-01-01T00:00:00Z: no gateway of ours captured before it.
const EARLIEST_NS: i64 = 1_577_836_800 * NS_PER_S;
/// A resolved time this far beyond the present is wrong whatever its bound says: a day.
const AHEAD_NS_MAX: i64 = 86_400 * NS_PER_S;
/// Offending rows named in an evidence; the count says how many there are.
pub(super) const NAMED_MAX: usize = 5;
/// Name of the grade whose bound says nothing.
const ORDERING_ONLY: &str = "ordering_only";
/// How columns are named that tell where a value came from.
const SOURCE: &str = "_src";

/// Rows that offend a rule.
#[derive(Debug, Default)]
pub(super) struct Offenders {
    pub(super) count: u64,
    some: Vec<String>,
}

impl Offenders {
    pub(super) fn add(&mut self, key: &str) {
        self.count = self.count.saturating_add(1);
        if self.some.len() < NAMED_MAX {
            self.some.push(key.to_owned());
        }
    }

    pub(super) fn judged(self, gate: &'static str, at_worst: Verdict, rows: u64) -> Judged {
        let verdict = if self.count == 0 { Verdict::Pass } else { at_worst };
        let evidence = json!({"rows": rows, "offending": self.count, "row_keys": self.some});
        Judged::whole(gate, verdict, evidence)
    }
}

/// What is counted of one column of a recipe.
#[derive(Debug, Default)]
struct Column {
    unmatched: u64,
    gaps: u64,
}

/// Rows of one table, judged batch by batch.
#[derive(Debug)]
pub(super) struct StoredRows {
    now: UtcNanos,
    pub(super) rows: u64,
    /// Earliest and latest, UTC ns.
    pub(super) span: Option<(i64, i64)>,
    /// Columns that are missing or of another type, by name.
    misshapen: BTreeMap<&'static str, &'static str>,
    nulls: Offenders,
    range: Offenders,
    bound: Offenders,
    provisional: Offenders,
    columns: BTreeMap<String, Column>,
}

/// The columns that every aligned table has.
struct Stamped<'a> {
    device: &'a StringArray,
    ts_ns: &'a Int64Array,
    err_ns: &'a Int64Array,
    grade: &'a StringArray,
    row_key: &'a StringArray,
    provisional: &'a BooleanArray,
}

impl StoredRows {
    /// Nothing yet; `now` is the present, UTC.
    pub(super) fn new(now: UtcNanos) -> Self {
        Self {
            now,
            rows: 0,
            span: None,
            misshapen: BTreeMap::new(),
            nulls: Offenders::default(),
            range: Offenders::default(),
            bound: Offenders::default(),
            provisional: Offenders::default(),
            columns: BTreeMap::new(),
        }
    }

    /// Looks at a batch of them.
    pub(super) fn add(&mut self, batch: &RecordBatch) {
        self.rows = self.rows.saturating_add(batch.num_rows() as u64);
        let Some(stamped) = self.stamped(batch) else { return };
        for row in 0..batch.num_rows() {
            self.stamp(&stamped, row);
        }
        for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
            let Some(name) = field.name().strip_suffix(SOURCE) else { continue };
            let Some(source) = column.as_struct_opt() else { continue };
            let flags = source.column_by_name("flag").and_then(|flag| flag.as_primitive_opt::<Int32Type>());
            let seq = source.column_by_name("seq_lo").and_then(|seq| seq.as_primitive_opt::<Int64Type>());
            if let (Some(flags), Some(seq)) = (flags, seq) {
                let counted = self.columns.entry(name.to_owned()).or_default();
                counted.add(source, flags, seq);
            }
        }
    }

    fn stamped<'a>(&mut self, batch: &'a RecordBatch) -> Option<Stamped<'a>> {
        let text = |name| batch.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
        let long =
            |name| batch.column_by_name(name).and_then(|column| column.as_primitive_opt::<Int64Type>());
        let provisional = batch.column_by_name("provisional").and_then(|column| column.as_boolean_opt());
        let found = [
            ("device", "text", text("device").is_some()),
            ("ts_ns", "long", long("ts_ns").is_some()),
            ("ts_err_ns", "long", long("ts_err_ns").is_some()),
            ("grade", "text", text("grade").is_some()),
            ("row_key", "text", text("row_key").is_some()),
            ("provisional", "boolean", provisional.is_some()),
        ];
        self.misshapen.extend(found.iter().filter(|(.., fits)| !fits).map(|(name, kind, _)| (*name, *kind)));
        Some(Stamped {
            device: text("device")?,
            ts_ns: long("ts_ns")?,
            err_ns: long("ts_err_ns")?,
            grade: text("grade")?,
            row_key: text("row_key")?,
            provisional: provisional?,
        })
    }

    fn stamp(&mut self, stamped: &Stamped<'_>, row: usize) {
        let Stamped { device, ts_ns, err_ns, grade, row_key, provisional } = stamped;
        let columns: [&dyn Array; 6] = [device, ts_ns, err_ns, grade, row_key, provisional];
        let key = if row_key.is_null(row) { "null" } else { row_key.value(row) };
        if columns.iter().any(|column| column.is_null(row)) {
            self.nulls.add(key);
            return;
        }
        let (at, err) = (ts_ns.value(row), err_ns.value(row));
        self.span = Some(self.span.map_or((at, at), |(first, last)| (first.min(at), last.max(at))));
        let ahead = self.now.0.saturating_add(AHEAD_NS_MAX).saturating_add(err.max(0));
        if !(EARLIEST_NS..=ahead).contains(&at) {
            self.range.add(key);
        }
        if err < 0 || (grade.value(row) != ORDERING_ONLY && err == i64::MAX) {
            self.bound.add(key);
        }
        if provisional.value(row) {
            self.provisional.add(key);
        }
    }

    /// The verdicts.
    pub(super) fn judged(self, limits: &GateLimits) -> Vec<Judged> {
        let rows = self.rows;
        let share = |gate, bad: fn(&Column) -> u64, limits| share(gate, &self.columns, rows, bad, limits);
        let coverage = (limits.unmatched_warn_percent, limits.unmatched_fail_percent);
        let gaps = (limits.gap_warn_percent, limits.gap_fail_percent);
        let shares = [
            share("modality_coverage", |column| column.unmatched, coverage),
            share("gap_ratio", |column| column.gaps, gaps),
        ];
        let mut schema = self.nulls.judged("schema", Verdict::Fail, rows);
        if !self.misshapen.is_empty() {
            schema.verdict = Verdict::Fail;
            let needed: Map<String, Value> =
                self.misshapen.iter().map(|(name, kind)| ((*name).to_owned(), json!(kind))).collect();
            schema.evidence = json!({"rows": rows, "needs": needed});
        }
        let mut judged = vec![
            schema,
            self.range.judged("time_range", Verdict::Fail, rows),
            self.bound.judged("error_bound", Verdict::Fail, rows),
            self.provisional.judged("provisional", Verdict::Warn, rows),
        ];
        judged.extend(shares);
        judged
    }
}

impl Column {
    fn add(&mut self, source: &dyn Array, flags: &Int32Array, seq: &Int64Array) {
        for row in 0..source.len() {
            let flags = if source.is_null(row) || flags.is_null(row) { flag::NONE } else { flags.value(row) };
            let unmatched = source.is_null(row)
                || seq.is_null(row)
                || flags & (flag::NONE | flag::BEYOND | flag::GAP_WIDE) != 0;
            self.unmatched = self.unmatched.saturating_add(unmatched.into());
            self.gaps = self.gaps.saturating_add((flags & flag::GAP_INSIDE != 0).into());
        }
    }
}

fn share(
    gate: &'static str,
    columns: &BTreeMap<String, Column>,
    rows: u64,
    bad: fn(&Column) -> u64,
    (warn, fail): (u64, u64),
) -> Judged {
    let above = |bad: u64, percent: u64| bad.saturating_mul(100) > rows.saturating_mul(percent);
    let found = |bad: u64| match (above(bad, fail), above(bad, warn)) {
        (true, _) => Verdict::Fail,
        (false, true) => Verdict::Warn,
        (false, false) => Verdict::Pass,
    };
    let verdict = columns.values().map(|column| found(bad(column))).max().unwrap_or(Verdict::Pass);
    let told: Map<String, Value> =
        columns.iter().map(|(name, column)| (name.clone(), bad(column).into())).collect();
    let evidence = json!({"rows": rows, "columns": told, "warn_percent": warn, "fail_percent": fail});
    Judged::whole(gate, verdict, evidence)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{ArrayRef, StructArray};
    use arrow_schema::{DataType, Field};
    use std::sync::Arc;

    const NOW: UtcNanos = UtcNanos(1_700_000_000 * NS_PER_S);

    struct Columns {
        device: Vec<Option<&'static str>>,
        ts_ns: Vec<i64>,
        err_ns: Vec<i64>,
        grade: Vec<&'static str>,
        provisional: Vec<bool>,
        flag: Vec<i32>,
    }

    fn good() -> Columns {
        Columns {
            device: vec![Some("pi-1"); 4],
            ts_ns: (0..4).map(|n| NOW.0 - n).collect(),
            err_ns: vec![1_000; 4],
            grade: vec!["estimated"; 4],
            provisional: vec![false; 4],
            flag: vec![0; 4],
        }
    }

    fn batch(columns: Columns) -> RecordBatch {
        let keys: Vec<String> = (0..columns.ts_ns.len()).map(|n| format!("e/cam/{n}")).collect();
        let n = i64::try_from(keys.len()).unwrap();
        let flag: ArrayRef = Arc::new(Int32Array::from(columns.flag));
        let seq: ArrayRef = Arc::new(Int64Array::from_iter_values(0..n));
        let source = StructArray::from(vec![
            (Arc::new(Field::new("seq_lo", DataType::Int64, true)), seq),
            (Arc::new(Field::new("flag", DataType::Int32, true)), flag),
        ]);
        RecordBatch::try_from_iter([
            ("device", Arc::new(StringArray::from(columns.device)) as ArrayRef),
            ("ts_ns", Arc::new(Int64Array::from(columns.ts_ns))),
            ("ts_err_ns", Arc::new(Int64Array::from(columns.err_ns))),
            ("grade", Arc::new(StringArray::from(columns.grade))),
            ("row_key", Arc::new(StringArray::from(keys))),
            ("provisional", Arc::new(BooleanArray::from(columns.provisional))),
            ("motion_src", Arc::new(source)),
        ])
        .unwrap()
    }

    /// The rules that are not content once `spoil` has been at four good rows.
    fn check(limits: GateLimits, spoil: impl Fn(&mut Columns)) -> Vec<(String, Verdict)> {
        let mut columns = good();
        spoil(&mut columns);
        let mut rows = StoredRows::new(NOW);
        rows.add(&batch(columns));
        assert_eq!(rows.rows, 4);
        let judged = rows.judged(&limits);
        assert_eq!(judged.len(), 6);
        let bad = judged.into_iter().filter(|judged| judged.verdict != Verdict::Pass);
        bad.map(|judged| (judged.gate.into_owned(), judged.verdict)).collect()
    }

    #[test]
    fn each_rule_finds_its_own_fault_and_no_other() {
        let check = |spoil: fn(&mut Columns)| check(GateLimits::default(), spoil);
        let found = |gate: &str, verdict| vec![(gate.to_owned(), verdict)];
        assert_eq!(check(|_| {}), []);
        assert_eq!(check(|rows| rows.device[2] = None), found("schema", Verdict::Fail));
        assert_eq!(
            check(|rows| rows.ts_ns[0] = NOW.0 + 2 * AHEAD_NS_MAX),
            found("time_range", Verdict::Fail)
        );
        assert_eq!(check(|rows| rows.ts_ns[1] = 0), found("time_range", Verdict::Fail));
        assert_eq!(check(|rows| rows.err_ns[3] = -1), found("error_bound", Verdict::Fail));
        assert_eq!(check(|rows| rows.err_ns[3] = i64::MAX), found("error_bound", Verdict::Fail));
        assert_eq!(
            check(|rows| (rows.err_ns[3], rows.grade[3]) = (i64::MAX, ORDERING_ONLY)),
            [],
            "who knows no bound says so by its grade"
        );
        assert_eq!(check(|rows| rows.provisional[0] = true), found("provisional", Verdict::Warn));
        assert_eq!(
            check(|rows| rows.flag = vec![flag::BEYOND; 4]),
            found("modality_coverage", Verdict::Warn)
        );
        assert_eq!(check(|rows| rows.flag[0] = flag::GAP_INSIDE), found("gap_ratio", Verdict::Warn));
    }

    #[test]
    fn limits_of_the_fleet_decide() {
        let strict = GateLimits { unmatched_fail_percent: 40, ..GateLimits::default() };
        let half = |rows: &mut Columns| rows.flag = vec![flag::NONE, flag::NONE, 0, 0];
        assert_eq!(check(strict, half), [("modality_coverage".to_owned(), Verdict::Fail)]);
        assert_eq!(check(GateLimits::default(), half), [], "half is not more than half");
    }

    #[test]
    fn a_table_of_another_shape_fails_and_says_what_it_needs() {
        let whole = batch(good());
        let mut rows = StoredRows::new(NOW);
        rows.add(&whole.project(&[0, 1, 2, 3, 4]).unwrap());
        let schema = rows.judged(&GateLimits::default()).remove(0);
        assert_eq!(
            (schema.verdict, &schema.evidence["needs"]),
            (Verdict::Fail, &json!({"provisional": "boolean"}))
        );
        assert_eq!(schema.evidence["rows"], 4);
    }
}

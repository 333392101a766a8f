//! A small lake of captures with its ledger, for tests of versions.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use futures::TryStreamExt;
use headwater_lake::{
    By, ColumnSpec, ColumnType, CommitId, CommitKind, CommitRequest, Committed, CoverageEntry, Lake, RefName,
    ScanOptions, TableAppend, TableSpec,
};

use crate::common::{NOON_US, name, ts};

pub(crate) const RAW: &str = "raw.imu";
pub(crate) const LEDGER: &str = "ops.ledger";
pub(crate) const NOTES: &str = "ops.notes";
pub(crate) const ALIGNED: &str = "aligned.drive";

pub(crate) fn branch(name: &str) -> RefName {
    RefName::new(name).unwrap()
}

pub(crate) fn by(time_us: i64) -> By {
    By { author: "anna".to_owned(), message: None, time_us }
}

pub(crate) fn imu_spec(more: &[&str]) -> TableSpec {
    let mut columns = vec![
        ColumnSpec::required("device", ColumnType::String),
        ColumnSpec::required("epoch", ColumnType::String),
        ColumnSpec::required("stream", ColumnType::String),
        ColumnSpec::required("seq", ColumnType::Long),
        ColumnSpec::required("ts", ColumnType::Timestamptz),
        ColumnSpec::optional("x", ColumnType::Double),
    ];
    columns.extend(more.iter().map(|name| ColumnSpec::optional(*name, ColumnType::Double)));
    TableSpec::new(name(RAW), columns, &["device", "ts", "seq"])
}

pub(crate) fn texts(text: &str, n: usize) -> ArrayRef {
    Arc::new(StringArray::from(vec![text; n]))
}

fn longs(values: Vec<i64>) -> ArrayRef {
    Arc::new(Int64Array::from(values))
}

/// Samples of one device; x is `value` + seq.
pub(crate) fn imu(device: &str, seqs: Range<i64>, value: f64) -> RecordBatch {
    let seqs: Vec<i64> = seqs.collect();
    let n = seqs.len();
    RecordBatch::try_from_iter([
        ("device", texts(device, n)),
        ("epoch", texts("e1", n)),
        ("stream", texts("imu", n)),
        ("ts", ts(seqs.iter().map(|seq| NOON_US + seq * 1000).collect())),
        (
            "x",
            Arc::new(Float64Array::from_iter_values(seqs.iter().map(|seq| value + *seq as f64))) as ArrayRef,
        ),
        ("seq", longs(seqs)),
    ])
    .unwrap()
}

fn ledger_spec() -> TableSpec {
    let long = |name: &str| ColumnSpec::optional(name, ColumnType::Long);
    let text = |name: &str| ColumnSpec::optional(name, ColumnType::String);
    let columns = vec![
        ColumnSpec::required("ts", ColumnType::Timestamptz),
        ColumnSpec::required("ts_ns", ColumnType::Long),
        ColumnSpec::required("device", ColumnType::String),
        text("epoch"),
        text("stream"),
        long("seq_lo"),
        long("seq_hi"),
        long("rows"),
        text("kind"),
        text("state"),
    ];
    TableSpec::new(name(LEDGER), columns, &["device", "ts"])
}

fn ledger(device: &str, seqs: &Range<i64>, time_us: i64) -> RecordBatch {
    RecordBatch::try_from_iter([
        ("ts", ts(vec![time_us])),
        ("ts_ns", longs(vec![time_us * 1000])),
        ("device", texts(device, 1)),
        ("epoch", texts("e1", 1)),
        ("stream", texts("imu", 1)),
        ("seq_lo", longs(vec![seqs.start])),
        ("seq_hi", longs(vec![seqs.end - 1])),
        ("rows", longs(vec![seqs.end - seqs.start])),
        ("kind", texts("imu", 1)),
        ("state", texts("held", 1)),
    ])
    .unwrap()
}

fn note_spec() -> TableSpec {
    let columns = vec![
        ColumnSpec::required("ts", ColumnType::Timestamptz),
        ColumnSpec::required("text", ColumnType::String),
    ];
    TableSpec::new(name(NOTES), columns, &["ts"])
}

pub(crate) fn note(text: &str, time_us: i64) -> TableAppend {
    let rows = RecordBatch::try_from_iter([("ts", ts(vec![time_us])), ("text", texts(text, 1))]).unwrap();
    TableAppend { spec: note_spec(), batches: vec![rows] }
}

/// Captures, their ledger row and a note: what one ingest commit brings.
pub(crate) fn capture(device: &str, seqs: Range<i64>, value: f64, time_us: i64) -> CommitRequest {
    let text = format!("{device} {}..{}", seqs.start, seqs.end);
    let rows = ledger(device, &seqs, time_us);
    CommitRequest {
        message: text.clone(),
        time_us,
        appends: vec![
            TableAppend { spec: imu_spec(&[]), batches: vec![imu(device, seqs, value)] },
            TableAppend { spec: ledger_spec(), batches: vec![rows] },
            note(&text, time_us),
        ],
        ..CommitRequest::default()
    }
}

/// Aligned rows with the coverage that says which spine rows are done, as the aligner stores it.
pub(crate) async fn aligned(
    lake: &Lake,
    device: &str,
    done: Range<u64>,
    rows: i64,
    time_us: i64,
) -> CommitRequest {
    let stored = format!(
        r#"{{"v":1,"recipe_id":"r1","streams":[{{"device":"{device}","epoch":"e1","stream":"cam","done":[[{},{}]]}}]}}"#,
        done.start, done.end
    );
    let digest = ring::digest::digest(&ring::digest::SHA256, stored.as_bytes());
    let hash: String = digest.as_ref().iter().map(|b| format!("{b:02x}")).collect();
    lake.put_state(&hash, stored.into()).await.unwrap();
    let columns = vec![
        ColumnSpec::required("device", ColumnType::String),
        ColumnSpec::required("ts", ColumnType::Timestamptz),
        ColumnSpec::required("row_key", ColumnType::Long),
    ];
    let n = usize::try_from(rows).unwrap();
    let batch = RecordBatch::try_from_iter([
        ("device", texts(device, n)),
        ("ts", ts((0..rows).map(|row| NOON_US + row).collect())),
        ("row_key", longs((0..rows).map(|row| time_us + row).collect())),
    ])
    .unwrap();
    CommitRequest {
        kind: CommitKind::Align,
        message: format!("{rows} rows of {ALIGNED}"),
        time_us,
        appends: vec![TableAppend {
            spec: TableSpec::new(name(ALIGNED), columns, &["device", "ts"]),
            batches: vec![batch],
        }],
        coverage: BTreeMap::from([("drive".to_owned(), CoverageEntry { recipe_id: "r1".to_owned(), hash })]),
        ..CommitRequest::default()
    }
}

pub(crate) async fn commit(lake: &Lake, on: &str, request: CommitRequest) -> Committed {
    lake.writer(branch(on), "ingest".to_owned()).commit(request).await.unwrap()
}

pub(crate) async fn tip(lake: &Lake, on: &str) -> CommitId {
    lake.head(&branch(on)).await.unwrap().unwrap().commit.unwrap()
}

pub(crate) async fn rows(lake: &Lake, spec: &str, table: &str) -> Vec<RecordBatch> {
    let id = lake.resolve(spec).await.unwrap();
    if !lake.tables(&id).await.unwrap().contains_key(&name(table)) {
        return Vec::new();
    }
    lake.scan(&id, &name(table), ScanOptions::default()).await.unwrap().try_collect().await.unwrap()
}

pub(crate) async fn n_rows(lake: &Lake, spec: &str, table: &str) -> usize {
    rows(lake, spec, table).await.iter().map(RecordBatch::num_rows).sum()
}

/// Values by key; a key that is there twice fails the test.
pub(crate) async fn samples(lake: &Lake, spec: &str) -> BTreeMap<(String, i64), f64> {
    let mut found = BTreeMap::new();
    for batch in rows(lake, spec, RAW).await {
        let device = batch.column_by_name("device").unwrap().as_string::<i32>();
        let seq = batch.column_by_name("seq").unwrap().as_primitive::<Int64Type>();
        let x = batch.column_by_name("x").unwrap().as_primitive::<arrow_array::types::Float64Type>();
        for row in 0..batch.num_rows() {
            let key = (device.value(row).to_owned(), seq.value(row));
            assert!(found.insert(key.clone(), x.value(row)).is_none(), "{key:?} is there twice in {spec}");
        }
    }
    found
}

/// What the ledger says of each sample: the newest row's state.
pub(crate) async fn states(lake: &Lake, spec: &str) -> BTreeMap<(String, i64), String> {
    let mut newest: BTreeMap<(String, i64), (i64, String)> = BTreeMap::new();
    for batch in rows(lake, spec, LEDGER).await {
        let long = |name: &str| batch.column_by_name(name).unwrap().as_primitive::<Int64Type>().clone();
        let text = |name: &str| batch.column_by_name(name).unwrap().as_string::<i32>().clone();
        let (device, state) = (text("device"), text("state"));
        let (lo, hi, at, rows) = (long("seq_lo"), long("seq_hi"), long("ts_ns"), long("rows"));
        for row in 0..batch.num_rows() {
            assert_eq!(rows.value(row), hi.value(row) - lo.value(row) + 1);
            assert!(!text("kind").is_null(row));
            for seq in lo.value(row)..=hi.value(row) {
                let told =
                    newest.entry((device.value(row).to_owned(), seq)).or_insert((i64::MIN, String::new()));
                if at.value(row) > told.0 {
                    *told = (at.value(row), state.value(row).to_owned());
                }
            }
        }
    }
    newest.into_iter().map(|(key, (_, state))| (key, state)).collect()
}

/// C4: what the ledger holds is what the table has, and every other sample it knows was withdrawn.
pub(crate) async fn assert_books(lake: &Lake, spec: &str) {
    let held: BTreeSet<(String, i64)> = states(lake, spec)
        .await
        .into_iter()
        .filter(|(_, state)| state == "held")
        .map(|(key, _)| key)
        .collect();
    let there: BTreeSet<(String, i64)> = samples(lake, spec).await.into_keys().collect();
    assert_eq!(held, there, "{spec}");
}

pub(crate) async fn notes(lake: &Lake, spec: &str) -> Vec<String> {
    let mut found = Vec::new();
    for batch in rows(lake, spec, NOTES).await {
        let text = batch.column_by_name("text").unwrap().as_string::<i32>();
        found.extend((0..batch.num_rows()).map(|row| text.value(row).to_owned()));
    }
    found.sort();
    found
}

//! The rows of the model: numbers, in tables of as few columns as a table may have.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray};
use futures::TryStreamExt;
use headwater_lake::{
    ColumnSpec, ColumnType, CommitId, CommitRequest, Lake, ScanOptions, TableAppend, TableName, TableSpec,
    UTC,
};

/// 2026-11-23T23:59:50Z: a case that is long enough crosses midnight.
pub(super) const START_US: i64 = 1_795_478_390_000_000;

/// Rows of each table, sorted.
pub(super) type Contents = BTreeMap<TableName, Vec<i64>>;

pub(super) fn name(table: &str) -> TableName {
    TableName::new(table).unwrap()
}

fn spec(table: &str, wide: bool) -> TableSpec {
    let mut columns = vec![
        ColumnSpec::required("ts", ColumnType::Timestamptz),
        ColumnSpec::required("seq", ColumnType::Long),
    ];
    if wide {
        columns.push(ColumnSpec::optional("more", ColumnType::Long));
    }
    TableSpec::new(name(table), columns, &["ts", "seq"])
}

fn batch(seqs: &[i64], time_us: i64, wide: bool) -> RecordBatch {
    let ts = TimestampMicrosecondArray::from_iter_values(seqs.iter().map(|seq| time_us + seq));
    let seq: ArrayRef = Arc::new(Int64Array::from(seqs.to_vec()));
    let mut columns: Vec<(&str, ArrayRef)> =
        vec![("ts", Arc::new(ts.with_timezone(UTC))), ("seq", Arc::clone(&seq))];
    if wide {
        columns.push(("more", seq));
    }
    RecordBatch::try_from_iter(columns).unwrap()
}

/// A commit of `seqs` to `raw.m` and of the first of them to `ops.sums`, and what a ref holds after it.
pub(super) fn request(seqs: &[i64], time_us: i64, wide: bool) -> CommitRequest {
    let first = [seqs[0]];
    let appends = vec![
        TableAppend { spec: spec("raw.m", wide), batches: vec![batch(seqs, time_us, wide)] },
        TableAppend { spec: spec("ops.sums", false), batches: vec![batch(&first, time_us, false)] },
    ];
    CommitRequest { message: format!("{seqs:?}"), time_us, appends, ..CommitRequest::default() }
}

/// `contents` after [`request`].
pub(super) fn after(contents: &Contents, seqs: &[i64]) -> Contents {
    let mut contents = contents.clone();
    contents.entry(name("raw.m")).or_default().extend(seqs);
    contents.entry(name("ops.sums")).or_default().push(seqs[0]);
    contents.values_mut().for_each(|rows| rows.sort_unstable());
    contents
}

/// What a commit holds, read row by row.
pub(super) async fn read(lake: &Lake, id: &CommitId) -> Contents {
    let mut contents = Contents::new();
    for (table, entry) in lake.tables(id).await.unwrap() {
        let options = ScanOptions { columns: Some(vec!["seq".to_owned()]), ..ScanOptions::default() };
        let batches: Vec<RecordBatch> =
            lake.scan(id, &table, options).await.unwrap().try_collect().await.unwrap();
        let mut rows: Vec<i64> = batches
            .iter()
            .flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec())
            .collect();
        rows.sort_unstable();
        assert_eq!(entry.rows, rows.len() as u64, "{table} of {id} counts its rows wrong");
        if !rows.is_empty() {
            contents.insert(table, rows);
        }
    }
    contents
}

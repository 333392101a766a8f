//! Rows and declarations that the tests and examples of the lake share.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Float32Array, Int32Array, Int64Array, RecordBatch, StringArray,
    StructArray, TimestampMicrosecondArray,
};
use arrow_schema::{DataType, Field, Fields};
use futures::TryStreamExt;
use headwater_lake::{
    ColumnSpec, ColumnType, CommitId, CommitRequest, Lake, ScanOptions, TableAppend, TableName, TableSpec,
    UTC,
};

/// 2026-11-23T12:00:00Z.
pub(crate) const NOON_US: i64 = 1_795_435_200_000_000;

pub(crate) const DAY_US: i64 = 86_400_000_000;

pub(crate) fn name(table: &str) -> TableName {
    TableName::new(table).expect("test names are good")
}

pub(crate) fn imu() -> TableSpec {
    let src = ColumnType::Struct(vec![
        ColumnSpec::optional("stream", ColumnType::String),
        ColumnSpec::optional("dt_ns", ColumnType::Long),
    ]);
    let columns = vec![
        ColumnSpec::required("device", ColumnType::String),
        ColumnSpec::required("seq", ColumnType::Long),
        ColumnSpec::required("ts", ColumnType::Timestamptz),
        ColumnSpec::optional("ax", ColumnType::Float).with_doc("acceleration along x, m/s2"),
        ColumnSpec::optional("n", ColumnType::Int),
        ColumnSpec::optional("late", ColumnType::Boolean),
        ColumnSpec::optional("payload", ColumnType::Binary),
        ColumnSpec::optional("x_src", src),
    ];
    TableSpec::new(name("raw.imu"), columns, &["device", "ts", "seq"])
}

pub(crate) fn ledger() -> TableSpec {
    let columns = vec![
        ColumnSpec::required("ts", ColumnType::Timestamptz),
        ColumnSpec::required("device", ColumnType::String),
        ColumnSpec::optional("seq_hi", ColumnType::Long),
    ];
    TableSpec::new(name("ops.ledger"), columns, &["device", "ts"])
}

pub(crate) fn ts(us: Vec<i64>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from(us).with_timezone(UTC))
}

/// `rows` samples from `first`, a millisecond apart from `start_us`, with nulls and NaN among them.
pub(crate) fn imu_rows(first: i64, rows: i64, start_us: i64) -> RecordBatch {
    let seqs: Vec<i64> = (first..first + rows).collect();
    let ax: Vec<Option<f32>> = seqs
        .iter()
        .map(|&seq| match seq % 7 {
            0 => None,
            1 => Some(f32::NAN),
            2 => Some(-0.0),
            3 => Some(f32::INFINITY),
            _ => Some(9.81 + seq as f32 / 1000.0),
        })
        .collect();
    let payload: Vec<Option<Vec<u8>>> =
        seqs.iter().map(|&seq| (seq % 3 != 0).then(|| seq.to_le_bytes().to_vec())).collect();
    let members: Fields =
        vec![Field::new("stream", DataType::Utf8, true), Field::new("dt_ns", DataType::Int64, true)].into();
    let src = StructArray::new(
        members,
        vec![
            Arc::new(StringArray::from_iter(seqs.iter().map(|&seq| (seq % 2 == 0).then_some("gps")))),
            Arc::new(Int64Array::from_iter(seqs.iter().map(|&seq| Some(-seq)))),
        ],
        Some(seqs.iter().map(|&seq| seq % 5 != 0).collect::<Vec<bool>>().into()),
    );
    let columns: Vec<(&str, ArrayRef)> = vec![
        (
            "device",
            Arc::new(StringArray::from_iter_values(seqs.iter().map(|seq| format!("dev-{}", seq % 2)))),
        ),
        ("seq", Arc::new(Int64Array::from(seqs.clone()))),
        ("ts", ts(seqs.iter().map(|seq| start_us + (seq - first) * 1000).collect())),
        ("ax", Arc::new(Float32Array::from(ax))),
        (
            "n",
            Arc::new(Int32Array::from_iter(
                seqs.iter()
                    .map(|&seq| (seq % 4 != 0).then(|| i32::try_from(seq).expect("test rows are few"))),
            )),
        ),
        (
            "late",
            Arc::new(BooleanArray::from_iter(seqs.iter().map(|&seq| (seq % 6 != 0).then_some(seq % 2 == 0)))),
        ),
        ("payload", Arc::new(BinaryArray::from_iter(payload))),
        ("x_src", Arc::new(src)),
    ];
    RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, array)| (name, array, !matches!(name, "device" | "seq" | "ts"))),
    )
    .expect("columns are of one length")
}

pub(crate) fn ledger_rows(seq_hi: i64, us: i64) -> RecordBatch {
    RecordBatch::try_from_iter(vec![
        ("ts", ts(vec![us])),
        ("device", Arc::new(StringArray::from(vec!["dev-0"])) as ArrayRef),
        ("seq_hi", Arc::new(Int64Array::from(vec![seq_hi]))),
    ])
    .expect("columns are of one length")
}

/// `rows` samples and a ledger row that counts them.
pub(crate) fn both(first: i64, rows: i64, us: i64) -> CommitRequest {
    CommitRequest {
        message: format!("rows {first}..{}", first + rows),
        time_us: us,
        appends: vec![
            TableAppend { spec: imu(), batches: vec![imu_rows(first, rows, us)] },
            TableAppend { spec: ledger(), batches: vec![ledger_rows(first + rows, us)] },
        ],
        ..CommitRequest::default()
    }
}

pub(crate) async fn read(lake: &Lake, id: &CommitId, table: &str) -> Vec<RecordBatch> {
    let rows = lake.scan(id, &name(table), ScanOptions::default()).await.expect("the table is there");
    rows.try_collect().await.expect("its rows can be read")
}

pub(crate) async fn count(lake: &Lake, id: &CommitId, table: &str) -> usize {
    read(lake, id, table).await.iter().map(RecordBatch::num_rows).sum()
}

//! Corrections of time, as better clock tracks bring them: one device's rows move by a millisecond.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics, in its helpers too")]

use crate::day::KINDS;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray};
use headwater_lake::{CommitKind, CommitRequest, Derive, Lake, LakeWriter, RewriteTable, StopFlag, UTC};
use headwater_tests::lakes::small;
use std::collections::BTreeSet;
use std::sync::Arc;

/// How far they move.
pub(crate) const SHIFT_NS: i64 = 1_000_000;
const DAY_NS: i64 = 86_400_000_000_000;

/// Moves a device's rows that came before a time.
#[derive(Debug)]
struct Shift {
    device: String,
    /// Number of the correction: rows that have it are right already.
    track: i64,
}

impl Derive for Shift {
    fn reads(&self) -> &[&'static str] {
        &["device"]
    }

    fn derive(&self, rows: &RecordBatch) -> Result<Option<RecordBatch>, String> {
        let column = |name: &str| rows.column_by_name(name).ok_or(format!("{name} is not there"));
        let devices =
            arrow_cast::cast(column("device")?, &arrow_schema::DataType::Utf8).map_err(|e| e.to_string())?;
        let devices = devices.as_string::<i32>();
        let (times, tracks) =
            (column("ts_ns")?.as_primitive::<Int64Type>(), column("track")?.as_primitive::<Int64Type>());
        let mine = |row: usize| devices.value(row) == self.device && tracks.value(row) < self.track;
        if !(0..rows.num_rows()).any(mine) {
            return Ok(None);
        }
        let ns = |row: usize| times.value(row) + if mine(row) { SHIFT_NS } else { 0 };
        let all = || 0..rows.num_rows();
        let ts = TimestampMicrosecondArray::from_iter_values(all().map(|row| ns(row).div_euclid(1_000)));
        let ts_ns: ArrayRef = Arc::new(Int64Array::from_iter_values(all().map(ns)));
        let track = Int64Array::from_iter_values(
            all().map(|row| if mine(row) { self.track } else { tracks.value(row) }),
        );
        let columns: Vec<(&str, ArrayRef)> =
            vec![("ts", Arc::new(ts.with_timezone(UTC))), ("ts_ns", ts_ns), ("track", Arc::new(track))];
        RecordBatch::try_from_iter(columns).map(Some).map_err(|e| e.to_string())
    }

    fn rewritten(&self, before: &RecordBatch, after: &RecordBatch) {
        assert_eq!(before.num_rows(), after.num_rows(), "a correction took rows away");
    }
}

/// Corrects all rows that a device has on `main`, in every table.
pub(crate) async fn correct(
    lake: &Lake,
    writer: &mut LakeWriter,
    device: u32,
    track: i64,
    now_us: i64,
) -> u64 {
    let head = lake.resolve("main").await.unwrap();
    let today = i32::try_from(now_us.div_euclid(DAY_NS / 1_000)).unwrap();
    let tables: Vec<RewriteTable> = KINDS
        .iter()
        .map(|kind| RewriteTable {
            table: small(kind).name,
            days: (today - 2..=today).collect::<BTreeSet<i32>>(),
            whole: BTreeSet::new(),
            derive: Arc::new(Shift { device: format!("gw-{device:05}"), track }),
        })
        .collect();
    let prepared = lake.prepare_rewrite(&head, &tables, &StopFlag::default()).await.unwrap();
    let rows = prepared.done.rows;
    let request = CommitRequest { kind: CommitKind::Resolve, time_us: now_us, ..CommitRequest::default() };
    writer.rewrite(prepared, &request).await.unwrap();
    rows
}

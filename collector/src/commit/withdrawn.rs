//! Which samples of `ops.ledger` are withdrawn: known, taken out of the tables, and not to be taken in again by
//! themselves. The newest row of a sample is its state.

use super::read::ScannedRows;
use super::tables::Ops;
use crate::dedup::{Ledger, StreamKey};
use futures::TryStreamExt;
use headwater_lake::{CommitId, Compare, Condition, Lake, LakeError, ScanOptions};
use std::cmp::Reverse;
use std::ops::Range;

struct Row {
    ts_ns: i64,
    withdrawn: bool,
    key: StreamKey,
    seqs: Range<u64>,
}

/// Runs of withdrawn seqs at a commit. Where nothing was ever withdrawn it reads no more than the table's bounds; else the
/// ledger's runs of the streams concerned.
///
/// # Errors
/// When the table cannot be read.
pub(crate) async fn withdrawn(
    lake: &Lake,
    head: &CommitId,
) -> Result<Vec<(StreamKey, Range<u64>)>, LakeError> {
    if !lake.tables(head).await?.contains_key(&Ops::Ledger.table()) {
        return Ok(Vec::new());
    }
    let mut rows = Vec::new();
    scan(lake, head, Compare::Equal, |row| rows.push(row)).await?;
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let mut concerned = Ledger::default();
    rows.iter().for_each(|row| concerned.hold(&row.key, row.seqs.clone()));
    scan(lake, head, Compare::NotEqual, |row| {
        if !concerned.sort(&row.key, row.seqs.clone()).known.is_empty() {
            rows.push(row);
        }
    })
    .await?;
    Ok(newest(rows))
}

fn newest(mut rows: Vec<Row>) -> Vec<(StreamKey, Range<u64>)> {
    rows.sort_by_key(|row| (Reverse(row.ts_ns), !row.withdrawn));
    let mut told = Ledger::default();
    let mut out = Vec::new();
    for row in rows {
        for run in told.sort(&row.key, row.seqs.clone()).new {
            if row.withdrawn {
                out.push((row.key.clone(), run));
            }
        }
        told.hold(&row.key, row.seqs);
    }
    out
}

async fn scan(
    lake: &Lake,
    head: &CommitId,
    compare: Compare,
    mut take: impl FnMut(Row),
) -> Result<(), LakeError> {
    let columns = ["device", "epoch", "stream", "seq_lo", "seq_hi", "state", "ts_ns"];
    let condition = Condition { column: "state".to_owned(), compare, value: "withdrawn".to_owned() };
    let options = ScanOptions {
        columns: Some(columns.map(str::to_owned).to_vec()),
        conditions: vec![condition],
        ..ScanOptions::default()
    };
    let mut batches = lake.scan(head, &Ops::Ledger.table(), options).await?;
    while let Some(batch) = batches.try_next().await? {
        let rows = ScannedRows(&batch);
        (0..rows.len()).filter_map(|row| read(rows, row)).for_each(&mut take);
    }
    Ok(())
}

fn read(rows: ScannedRows<'_>, row: usize) -> Option<Row> {
    let key = StreamKey {
        device: rows.text("device", row)?.parse().ok()?,
        epoch: rows.text("epoch", row)?.parse().ok()?,
        stream: rows.text("stream", row)?.parse().ok()?,
    };
    let seqs = rows.count("seq_lo", row)?..rows.count("seq_hi", row)?.saturating_add(1);
    let withdrawn = rows.text("state", row)? == "withdrawn";
    Some(Row { ts_ns: rows.long("ts_ns", row)?, withdrawn, key, seqs })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_row_of_a_sample_is_its_state() {
        let key = StreamKey {
            device: "pi-1".parse().unwrap(),
            epoch: headwater_core::id::Epoch(1),
            stream: "imu".parse().unwrap(),
        };
        let row = |ts_ns, withdrawn, seqs| Row { ts_ns, withdrawn, key: key.clone(), seqs };
        let rows = vec![row(1, false, 0..10), row(5, true, 2..8), row(7, false, 4..5), row(5, false, 6..7)];
        let runs: Vec<Range<u64>> = newest(rows).into_iter().map(|(_, run)| run).collect();
        assert_eq!(runs, [2..4, 5..8], "at one instant the one that withdrew");
    }
}

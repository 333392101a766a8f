//! What the fleet captured, and what a commit shows of it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics, in its helpers too")]

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int64Type};
use futures::TryStreamExt;
use headwater_lake::{CommitId, Lake, ScanOptions, TableName};
use headwater_tests::lakes::Key;

/// Rows of a table in order: device, seq and event time.
pub(crate) type Rows = Vec<(u32, i64, i64)>;

/// What one table shows at one commit; two of the same digest hold the same rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Digest {
    rows: u64,
    sum: u64,
}

fn mixed(mut x: u64) -> u64 {
    // The finaliser of splitmix64: a sum of these changes whenever a row does.
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Reads a table's rows, and checks of each that its value is the one that was captured.
pub(crate) async fn rows(lake: &Lake, id: &CommitId, table: &TableName) -> (Rows, Digest) {
    let columns = ["device", "seq", "ts_ns", "value"].map(str::to_owned).to_vec();
    let options = ScanOptions { columns: Some(columns), ..ScanOptions::default() };
    let batches: Vec<RecordBatch> = lake.scan(id, table, options).await.unwrap().try_collect().await.unwrap();
    let (mut rows, mut digest) = (Rows::new(), Digest::default());
    for batch in &batches {
        let column = |name: &str| batch.column_by_name(name).unwrap();
        let (devices, seqs) = (column("device"), column("seq").as_primitive::<Int64Type>());
        let (times, values) =
            (column("ts_ns").as_primitive::<Int64Type>(), column("value").as_primitive::<Float32Type>());
        let devices = arrow_cast::cast(devices, &arrow_schema::DataType::Utf8).unwrap();
        let devices = devices.as_string::<i32>();
        for row in 0..batch.num_rows() {
            let device: u32 = devices.value(row).trim_start_matches("gw-").parse().unwrap();
            let seq = seqs.value(row);
            #[expect(clippy::cast_precision_loss, reason = "as it was written")]
            let wanted = seq as f32;
            assert_eq!(values.value(row).to_bits(), wanted.to_bits(), "{table} {device}/{seq} changed");
            rows.push((device, seq, times.value(row)));
            let one =
                mixed(u64::from(device)) ^ mixed(seq.cast_unsigned()) ^ times.value(row).cast_unsigned();
            digest = Digest { rows: digest.rows + 1, sum: digest.sum.wrapping_add(mixed(one)) };
        }
    }
    rows.sort_unstable();
    (rows, digest)
}

/// Every captured row, once.
pub(crate) fn assert_all(table: &TableName, found: &Rows, captured: &[Key]) {
    let mut wanted: Rows = captured.iter().map(|key| (key.device, key.seq, key.at_ns)).collect();
    wanted.sort_unstable();
    let double = found.windows(2).find(|pair| (pair[0].0, pair[0].1) == (pair[1].0, pair[1].1));
    assert_eq!(double, None, "{table} holds a row twice");
    assert_eq!(found.len(), wanted.len(), "{table} holds {} rows of {}", found.len(), wanted.len());
    let other = found.iter().zip(&wanted).find(|(found, wanted)| found != wanted);
    assert_eq!(other, None, "{table} holds other rows than were captured");
}

//! Rows of `ops.ledger` for samples that leave a ref or come back. A sample that left is *withdrawn*: known, not in the
//! table, and not taken in again by itself; one that came back is *held* again. The newest row of a sample is its state.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{
    Array, ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, UInt32Array,
    new_null_array,
};
use arrow_select::concat::concat_batches;
use arrow_select::take::take_record_batch;
use iceberg::spec::{PrimitiveLiteral, TableMetadata};

use super::files::Files;
use super::keys::{Keys, Whose, devices, text_at};
use super::rows;
use crate::error::LakeError;
use crate::names::TableName;
use crate::store::LakeStore;
use crate::table::{TS, UTC};

/// The table.
pub(super) const LEDGER: &str = "ops.ledger";

const HELD: &str = "held";
const WITHDRAWN: &str = "withdrawn";

/// Columns without which a table of that name is somebody else's.
const NEEDED: [&str; 8] = ["device", "epoch", "stream", "seq_lo", "seq_hi", "state", TS, "ts_ns"];

/// A row on its way: of which it is a copy, for which seqs, in which state.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    /// Place in the rows read; none for a sample the ledger never had.
    of: Option<u32>,
    whose: Whose,
    lo: u64,
    end: u64,
    state: &'static str,
}

/// What is read of a ledger row to decide.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    whose: Whose,
    lo: u64,
    end: u64,
    withdrawn: bool,
    ts_ns: i64,
}

/// Whether a table has the columns of a ledger.
pub(super) fn is_ledger(metadata: &TableMetadata) -> bool {
    NEEDED.iter().all(|name| metadata.current_schema().field_by_name(name).is_some())
}

/// Rows to be appended so that every sample of `leave` is withdrawn and every one of `come` held; those that are so
/// already are left out. `files` are the ledger's. Reads only files that can say something of these samples.
pub(super) async fn moved(
    store: &LakeStore,
    metadata: &TableMetadata,
    files: &Files,
    leave: &Keys,
    come: &Keys,
    time_us: i64,
) -> Result<Option<RecordBatch>, LakeError> {
    if leave.is_empty() && come.is_empty() {
        return Ok(None);
    }
    let table = TableName::new(LEDGER)?;
    let wrong = |e: arrow_schema::ArrowError| LakeError::corrupt(LEDGER, e);
    let mut batches = Vec::new();
    for live in files.values().filter(|live| live.is_data()) {
        if may_tell(metadata, live, leave, come) {
            batches.extend(rows::read(store, &table, metadata, live, None).await?);
        }
    }
    let Some(first) = batches.first() else {
        // Nothing is known of them: only a ledger with rows can tell what its rows look like.
        return Ok(None);
    };
    let all = concat_batches(&first.schema(), &batches).map_err(wrong)?;
    let known = known(&all);
    let entries = decide(&known, leave, come);
    if entries.is_empty() {
        return Ok(None);
    }
    let newest = known.iter().map(|known| known.ts_ns).max().unwrap_or(i64::MIN);
    rendered(&all, &entries, time_us.saturating_mul(1000).max(newest.saturating_add(1)))
        .map(Some)
        .map_err(wrong)
}

/// Samples that only come back are in question only where something was ever withdrawn.
fn may_tell(metadata: &TableMetadata, live: &super::files::LiveFile, leave: &Keys, come: &Keys) -> bool {
    let bounds = |name: &str| {
        let id = metadata.current_schema().field_id_by_name(name)?;
        let text = |datum: Option<&iceberg::spec::Datum>| match datum?.literal() {
            PrimitiveLiteral::String(text) => Some(text.clone()),
            _ => None,
        };
        text(live.file.lower_bounds().get(&id)).zip(text(live.file.upper_bounds().get(&id)))
    };
    let all_held = bounds("state").is_some_and(|(lo, hi)| lo == HELD && hi == HELD);
    if leave.is_empty() && all_held {
        return false;
    }
    let Some((lo, hi)) = bounds("device") else { return true };
    let within = |device: &&str| lo.as_str() <= *device && *device <= hi.as_str();
    devices(leave).iter().any(within) || devices(come).iter().any(within)
}

fn known(rows: &RecordBatch) -> Vec<Known> {
    let column = |name: &str| rows.column_by_name(name).map(AsRef::as_ref);
    let text = |name: &str, row: usize| column(name).map_or("", |column: &dyn Array| text_at(column, row));
    let long = |name: &str, row: usize| -> Option<i64> {
        let column = column(name)?.as_primitive_opt::<Int64Type>()?;
        column.is_valid(row).then(|| column.value(row))
    };
    (0..rows.num_rows())
        .map(|row| {
            let seq = |name: &str| long(name, row).map(i64::cast_unsigned);
            // A row without seqs covers none.
            let (lo, hi) = seq("seq_lo").zip(seq("seq_hi")).map_or((0, None), |(lo, hi)| (lo, Some(hi)));
            Known {
                whose: ["device", "epoch", "stream"].map(|name| text(name, row).to_owned()),
                lo,
                end: hi.map_or(lo, |hi| hi.saturating_add(1)),
                withdrawn: text("state", row) == WITHDRAWN,
                ts_ns: long("ts_ns", row).unwrap_or(i64::MIN),
            }
        })
        .collect()
}

/// The newest row of each sample is its state; of two at one instant the one that withdrew.
fn decide(known: &[Known], leave: &Keys, come: &Keys) -> Vec<Entry> {
    let mut order: Vec<(u32, &Known)> = (0..).zip(known).collect();
    order.sort_by_key(|(place, known)| (std::cmp::Reverse(known.ts_ns), !known.withdrawn, *place));
    let mut told = Keys::default();
    let mut entries = Vec::new();
    for (place, row) in order {
        let mut of_row = Vec::new();
        for (wanted, state, is_so) in [(leave, WITHDRAWN, row.withdrawn), (come, HELD, !row.withdrawn)] {
            for run in wanted.present_in(&row.whose, row.lo..row.end) {
                for fresh in told.missing_in(&row.whose, run) {
                    of_row.push(fresh.clone());
                    if !is_so {
                        let (lo, end) = (fresh.start, fresh.end);
                        entries.push(Entry { of: Some(place), whose: row.whose.clone(), lo, end, state });
                    }
                }
            }
        }
        of_row.into_iter().for_each(|run| told.insert(&row.whose, run));
    }
    // A sample the ledger never had is told all the same: it must not come in twice, or be lost without a trace. One
    // that comes and is not in a file that was read was never withdrawn.
    for (whose, run) in leave.without(&told).runs() {
        entries.push(Entry { of: None, whose: whose.clone(), lo: run.start, end: run.end, state: WITHDRAWN });
    }
    entries.sort_by(|a, b| (&a.whose, a.lo).cmp(&(&b.whose, b.lo)));
    entries
}

/// The entries as rows: copies of those they follow, with their own seqs, state and time.
fn rendered(
    rows: &RecordBatch,
    entries: &[Entry],
    ts_ns: i64,
) -> Result<RecordBatch, arrow_schema::ArrowError> {
    let places = UInt32Array::from_iter(entries.iter().map(|entry| Some(entry.of.unwrap_or(0))));
    let copied = take_record_batch(rows, &places)?;
    let n = entries.len();
    let longs = |of: &dyn Fn(&Entry) -> i64| {
        Arc::new(Int64Array::from_iter_values(entries.iter().map(of))) as ArrayRef
    };
    let texts = |of: &dyn Fn(&Entry) -> String| {
        Arc::new(StringArray::from_iter_values(entries.iter().map(of))) as ArrayRef
    };
    let columns = copied
        .schema()
        .fields()
        .iter()
        .zip(copied.columns())
        .map(|(field, column)| match field.name().as_str() {
            "seq_lo" => longs(&|entry| entry.lo.cast_signed()),
            "seq_hi" => longs(&|entry| entry.end.saturating_sub(1).cast_signed()),
            "rows" => longs(&|entry| (entry.end - entry.lo).cast_signed()),
            "state" => texts(&|entry| entry.state.to_owned()),
            "device" => texts(&|entry| entry.whose[0].clone()),
            "epoch" => texts(&|entry| entry.whose[1].clone()),
            "stream" => texts(&|entry| entry.whose[2].clone()),
            "ts_ns" => longs(&|_| ts_ns),
            TS => {
                let at = TimestampMicrosecondArray::from(vec![ts_ns.div_euclid(1000); n]);
                Arc::new(at.with_timezone(UTC)) as ArrayRef
            }
            // Bytes of a part of a run are not known.
            "bytes" => new_null_array(column.data_type(), n),
            _ => Arc::clone(column),
        })
        .collect();
    RecordBatch::try_new(copied.schema(), columns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ops::Range;

    fn whose() -> Whose {
        ["pi".to_owned(), "e".to_owned(), "imu".to_owned()]
    }

    fn row(seqs: Range<u64>, withdrawn: bool, ts_ns: i64) -> Known {
        Known { whose: whose(), lo: seqs.start, end: seqs.end, withdrawn, ts_ns }
    }

    fn keys(run: Range<u64>) -> Keys {
        let mut keys = Keys::default();
        keys.insert(&whose(), run);
        keys
    }

    fn told(
        known: &[Known],
        leave: Range<u64>,
        come: Range<u64>,
    ) -> Vec<(Option<u32>, u64, u64, &'static str)> {
        let entries = decide(known, &keys(leave), &keys(come));
        entries.into_iter().map(|e| (e.of, e.lo, e.end, e.state)).collect()
    }

    #[test]
    fn what_leaves_is_withdrawn_by_the_rows_that_held_it() {
        let known = [row(0..10, false, 1), row(10..20, false, 2)];
        assert_eq!(told(&known, 5..15, 0..0), [(Some(0), 5, 10, WITHDRAWN), (Some(1), 10, 15, WITHDRAWN)]);
        let twice = [row(0..10, false, 1), row(5..10, true, 2)];
        assert_eq!(told(&twice, 0..10, 0..0), [(Some(0), 0, 5, WITHDRAWN)], "once is enough");
        assert_eq!(told(&known, 15..25, 0..0), [(Some(1), 15, 20, WITHDRAWN), (None, 20, 25, WITHDRAWN)]);
    }

    #[test]
    fn what_comes_back_is_held_by_the_newest_row() {
        let known = [row(0..10, false, 1), row(0..10, true, 5), row(0..3, false, 9)];
        assert_eq!(told(&known, 0..0, 0..10), [(Some(1), 3, 10, HELD)]);
        assert!(told(&known[..1], 0..0, 0..10).is_empty(), "never withdrawn");
        assert_eq!(told(&known, 0..2, 2..4), [(Some(2), 0, 2, WITHDRAWN), (Some(1), 3, 4, HELD)]);
    }
}

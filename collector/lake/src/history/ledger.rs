//! Rows of `ops.ledger` for samples that leave a ref or come back. A sample that left is *withdrawn*: known, not in the
//! table, and not taken in again by itself; one that came back is *held* again. The newest row of a sample is its state.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{
    Array, ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, UInt32Array,
    new_null_array,
};
use arrow_select::concat::concat_batches;
use arrow_select::take::take_record_batch;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};
use iceberg::expr::{Predicate, Reference};
use iceberg::spec::{Datum, PrimitiveLiteral, TableMetadata};

use super::files::{Files, LiveFile};
use super::keys::{Keys, TEXTS, Whose, devices, text_at};
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

/// Ledger files read at once.
const READS_MAX: usize = 8;

/// Devices that a condition on rows names; of more, their seqs alone decide what is fetched.
const DEVICES_NAMED_MAX: usize = 100;

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
/// already are left out. `files` are the ledger's. Of them only those are read whose bounds let them tell of these samples:
/// the commits that brought them, and the compacted files of their days.
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
    let wrong = |e: arrow_schema::ArrowError| LakeError::corrupt(LEDGER, e);
    let told = |live: &&LiveFile| live.is_data() && Bounds::of(metadata, live).may_tell(leave, come);
    let telling: Vec<&LiveFile> = files.values().filter(told).collect();
    let condition = about(leave, come);
    let mut batches = read(store, metadata, &telling, condition.as_ref()).await?;
    if batches.iter().all(|batch| batch.num_rows() == 0) && !leave.is_empty() {
        // Nothing is known of them: only a row of those devices can tell what their rows look like.
        let of_devices =
            |live: &&LiveFile| live.is_data() && Bounds::of(metadata, live).anywhere().may_tell(leave, come);
        let smallest = files.values().filter(of_devices).min_by_key(|live| live.file.record_count());
        batches = read(store, metadata, &Vec::from_iter(smallest), None).await?;
    }
    let Some(first) = batches.first() else { return Ok(None) };
    let all = concat_batches(&first.schema(), &batches).map_err(wrong)?;
    let known = known(&all);
    let entries = decide(&known, leave, come);
    if entries.is_empty() || all.num_rows() == 0 {
        return Ok(None);
    }
    let newest = known.iter().map(|known| known.ts_ns).max().unwrap_or(i64::MIN);
    rendered(&all, &entries, time_us.saturating_mul(1000).max(newest.saturating_add(1)))
        .map(Some)
        .map_err(wrong)
}

/// Rows of these files that meet `condition`, in the order of the files.
async fn read(
    store: &LakeStore,
    metadata: &TableMetadata,
    files: &[&LiveFile],
    condition: Option<&Predicate>,
) -> Result<Vec<RecordBatch>, LakeError> {
    let table = TableName::new(LEDGER)?;
    let table = &table;
    let reads: Vec<BoxFuture<'_, Result<Vec<RecordBatch>, LakeError>>> = files
        .iter()
        .map(|live| rows::read_where(store, table, metadata, live, None, condition).boxed())
        .collect();
    let found: Vec<_> = futures::stream::iter(reads).buffered(READS_MAX).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}

/// What a row must meet to tell of these samples, as far as one condition can say: the row groups of a day's file that hold
/// other seqs are not fetched.
fn about(leave: &Keys, come: &Keys) -> Option<Predicate> {
    let runs = || leave.runs().chain(come.runs()).map(|(_, run)| run);
    let (least, beyond) = (runs().map(|run| run.start).min()?, runs().map(|run| run.end).max()?);
    // Beyond the greatest long nothing compares as a seq does.
    let (least, beyond) = (i64::try_from(least).ok()?, i64::try_from(beyond).ok()?);
    let reaches = Reference::new("seq_hi").greater_than_or_equal_to(Datum::long(least));
    let seqs = Reference::new("seq_lo").less_than(Datum::long(beyond)).and(reaches);
    let of: BTreeSet<&str> = devices(leave).union(&devices(come)).copied().collect();
    if of.len() > DEVICES_NAMED_MAX {
        return Some(seqs);
    }
    Some(seqs.and(Reference::new("device").is_in(of.into_iter().map(Datum::string))))
}

/// What the manifest says of a ledger file.
#[derive(Debug)]
struct Bounds {
    /// Least and greatest device, epoch and stream.
    texts: [Option<(String, String)>; 3],
    /// From the least first seq to the greatest last one.
    seqs: Option<Range<u64>>,
    all_held: bool,
}

impl Bounds {
    fn of(metadata: &TableMetadata, live: &LiveFile) -> Bounds {
        let least =
            |name: &str| live.file.lower_bounds().get(&metadata.current_schema().field_id_by_name(name)?);
        let greatest =
            |name: &str| live.file.upper_bounds().get(&metadata.current_schema().field_id_by_name(name)?);
        let text = |datum: Option<&Datum>| match datum?.literal() {
            PrimitiveLiteral::String(text) => Some(text.clone()),
            _ => None,
        };
        let seq = |datum: Option<&Datum>| match datum?.literal() {
            PrimitiveLiteral::Long(seq) => u64::try_from(*seq).ok(),
            _ => None,
        };
        let texts = |name: &str| text(least(name)).zip(text(greatest(name)));
        let seqs = seq(least("seq_lo")).zip(seq(greatest("seq_hi")));
        Bounds {
            texts: TEXTS.map(texts),
            seqs: seqs.map(|(lo, hi)| lo..hi.saturating_add(1)),
            all_held: texts("state").is_some_and(|(lo, hi)| lo == HELD && hi == HELD),
        }
    }

    /// The same devices, any of their samples.
    fn anywhere(self) -> Bounds {
        let [device, ..] = self.texts;
        Bounds { texts: [device, None, None], seqs: None, ..self }
    }

    /// Samples that only come back are in question only where something was ever withdrawn.
    fn may_tell(&self, leave: &Keys, come: &Keys) -> bool {
        if leave.is_empty() && self.all_held {
            return false;
        }
        leave.meets(&self.texts, self.seqs.as_ref()) || come.meets(&self.texts, self.seqs.as_ref())
    }
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

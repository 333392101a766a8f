//! A window: aligned rows that became final together, on their way to the gate and the table.

use super::buffer::Place;
use super::derived::chain::Tails;
use crate::dedup::StreamKey;
use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, BooleanArray, RecordBatch};
use arrow_schema::{ArrowError, Field, Schema};
use headwater_align::derive::CommandFailure;
use headwater_core::id::{DeviceId, Epoch};
use headwater_core::time::Grade;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Stream that a grid's rows are counted under.
pub const GRID_STREAM: &str = "grid";

/// Identity and time of an aligned row; its values stand in the window's batches.
#[derive(Debug, Clone, PartialEq)]
pub struct AlignedRow {
    /// Spine stream; of a grid [`GRID_STREAM`].
    pub key: StreamKey,
    /// Seq of the spine sample, or number of the grid's point: [`grid_seq`].
    pub seq: u64,
    /// Place of the spine sample; none for a grid.
    pub place: Option<Place>,
    /// Device, or site, as it stands in the row.
    pub device: String,
    /// `<epoch>/<stream>/<seq>` or `grid/<index>`: the row's stable identity within its device or site.
    pub row_key: String,
    /// UTC, ns.
    pub ts_ns: i64,
    /// Its half width, ns.
    pub err_ns: i64,
    /// Its grade.
    pub grade: Grade,
    /// Emitted after the idle timeout, before all columns were complete.
    pub provisional: bool,
}

/// Rows of one recipe that became final together.
#[derive(Debug, Clone, Default)]
pub struct AlignedWindow {
    /// The rows as they go to the table.
    pub batches: Vec<RecordBatch>,
    /// Who they are, in the order of the batches.
    pub rows: Vec<AlignedRow>,
    /// Spine rows that give no row: for their grade, error or stamp, for want of a match, or as no event; done all the
    /// same.
    pub left_out: Vec<(StreamKey, u64)>,
    /// Rows of the table whose place these take, or that shall be no more: device and row key.
    pub replaced: Vec<(String, String)>,
    /// UTC of the earliest and latest of those, ns.
    pub replaced_ts: Option<(i64, i64)>,
    /// Of those the rows that were final and were done again: device and row key.
    pub redone: Vec<(String, String)>,
    /// Rows done again that are as they were.
    pub same: Vec<(StreamKey, u64)>,
    /// What became of those done again, by device or site.
    pub recount: BTreeMap<String, Recount>,
    /// Where the devices' chains end once these rows are in the table.
    pub tails: Tails,
    /// What programs could not do.
    pub failures: Vec<CommandFailure>,
    /// Rows that wait for a program's answer: not written, and not done. With each, whether it is provisional.
    pub unanswered: Vec<(StreamKey, u64, bool)>,
}

/// What became of rows that were done again for late data or better times.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recount {
    /// Other values or sources.
    pub values: u64,
    /// Only other times.
    pub times: u64,
    /// As they were.
    pub same: u64,
}

impl AlignedWindow {
    /// True without anything to commit: neither rows, nor a word on them.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.left_out.is_empty() && self.failures.is_empty()
    }

    /// Takes out rows that wait for a program's answer, each named by device and row key; those they would have replaced
    /// stay in the table.
    pub fn set_aside(&mut self, held: &BTreeSet<(String, String)>) {
        let is_held = |row: &AlignedRow| held.contains(&(row.device.clone(), row.row_key.clone()));
        let (aside, rows) = std::mem::take(&mut self.rows).into_iter().partition::<Vec<_>, _>(is_held);
        self.rows = rows;
        self.unanswered.extend(aside.into_iter().map(|row| (row.key, row.seq, row.provisional)));
        self.replaced.retain(|named| !held.contains(named));
        self.redone.retain(|named| !held.contains(named));
    }

    /// What became of those done again, of all devices.
    #[must_use]
    pub fn recounted(&self) -> Recount {
        self.recount.values().fold(Recount::default(), |sum, one| Recount {
            values: sum.values.saturating_add(one.values),
            times: sum.times.saturating_add(one.times),
            same: sum.same.saturating_add(one.same),
        })
    }

    /// The rows of these devices or sites, taken out. What gives no row stays: nothing of it can be judged.
    ///
    /// # Errors
    /// When batches and rows are not of one length, which only a bug brings about.
    pub fn part(&mut self, devices: &BTreeSet<String>) -> Result<Self, ArrowError> {
        let mut theirs = Self { replaced_ts: self.replaced_ts, ..Self::default() };
        let mut masks = self.rows.iter().map(|row| devices.contains(&row.device));
        for batch in std::mem::take(&mut self.batches) {
            let mask: BooleanArray = masks.by_ref().take(batch.num_rows()).map(Some).collect();
            let rest = arrow_select::filter::filter_record_batch(&batch, &not(&mask))?;
            let taken = arrow_select::filter::filter_record_batch(&batch, &mask)?;
            self.batches.extend((rest.num_rows() > 0).then_some(rest));
            theirs.batches.extend((taken.num_rows() > 0).then_some(taken));
        }
        drop(masks);
        let is_theirs = |device: &String| devices.contains(device);
        let rows = std::mem::take(&mut self.rows);
        (theirs.rows, self.rows) = rows.into_iter().partition(|row| is_theirs(&row.device));
        let replaced = std::mem::take(&mut self.replaced);
        (theirs.replaced, self.replaced) = replaced.into_iter().partition(|(device, _)| is_theirs(device));
        let redone = std::mem::take(&mut self.redone);
        (theirs.redone, self.redone) = redone.into_iter().partition(|(device, _)| is_theirs(device));
        let recount = std::mem::take(&mut self.recount);
        (theirs.recount, self.recount) = recount.into_iter().partition(|(device, _)| is_theirs(device));
        let tails = std::mem::take(&mut self.tails);
        (theirs.tails, self.tails) = tails.into_iter().partition(|(device, _)| is_theirs(device));
        Ok(theirs)
    }

    /// Notes that a row of the table gives way.
    pub fn replaces(&mut self, device: String, row_key: String, ts_ns: i64) {
        self.replaced.push((device, row_key));
        let (lo, hi) = self.replaced_ts.unwrap_or((ts_ns, ts_ns));
        self.replaced_ts = Some((lo.min(ts_ns), hi.max(ts_ns)));
    }

    /// Adds rows of the engine, all provisional or none.
    ///
    /// # Errors
    /// When they have not the columns every aligned row has, which only a bug brings about.
    pub fn push(
        &mut self,
        rows: &RecordBatch,
        who: Vec<AlignedRow>,
        provisional: bool,
    ) -> Result<(), ArrowError> {
        let flags = BooleanArray::from(vec![provisional; rows.num_rows()]);
        let place = rows.schema_ref().index_of("row_key")?.saturating_add(1);
        let mut fields: Vec<Arc<Field>> = rows.schema_ref().fields().iter().cloned().collect();
        let mut columns = rows.columns().to_vec();
        fields.insert(place, Arc::new(Field::new("provisional", flags.data_type().clone(), false)));
        columns.insert(place, Arc::new(flags));
        self.batches.push(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?);
        self.rows.extend(who);
        Ok(())
    }
}

fn not(mask: &BooleanArray) -> BooleanArray {
    mask.iter().map(|theirs| theirs.map(|theirs| !theirs)).collect()
}

/// Number of a grid's point as a seq: points before the origin come first.
#[must_use]
pub fn grid_seq(index: i64) -> u64 {
    index.cast_unsigned() ^ (1 << 63)
}

/// The point that [`grid_seq`] numbers.
#[must_use]
pub fn grid_index(seq: u64) -> i64 {
    (seq ^ (1 << 63)).cast_signed()
}

/// The key a grid's rows of an entity are counted under.
#[must_use]
pub fn grid_key(device: &DeviceId) -> Option<StreamKey> {
    Some(StreamKey { device: device.clone(), epoch: Epoch(0), stream: GRID_STREAM.parse().ok()? })
}

/// The row key of a spine sample.
#[must_use]
pub fn row_key(key: &StreamKey, seq: u64) -> String {
    if key.stream.as_str() == GRID_STREAM && key.epoch == Epoch(0) {
        return format!("{GRID_STREAM}/{}", grid_index(seq));
    }
    format!("{}/{}/{seq}", key.epoch, key.stream)
}

/// The spine stream and seq, or the grid's point, that a row key names; `device` is the one that its rows are counted under.
#[must_use]
pub fn named_by(device: &DeviceId, row_key: &str) -> Option<(StreamKey, u64)> {
    let (source, number) = row_key.rsplit_once('/')?;
    if source == GRID_STREAM {
        return Some((grid_key(device)?, grid_seq(number.parse().ok()?)));
    }
    let (epoch, stream) = source.split_once('/')?;
    let key = StreamKey { device: device.clone(), epoch: epoch.parse().ok()?, stream: stream.parse().ok()? };
    Some((key, number.parse().ok()?))
}

/// Device, row key, UTC and its half width, ns, and grade.
pub type Told = (String, String, i64, i64, Grade);

/// What the rows of the engine say of themselves.
///
/// # Errors
/// When a column is missing or of another type, which only a bug brings about.
pub fn told(rows: &RecordBatch) -> Result<Vec<Told>, ArrowError> {
    let missing =
        |name: &str| ArrowError::SchemaError(format!("aligned rows have no column {name} of its type"));
    let text = |name: &str| {
        let column = rows.column_by_name(name).ok_or_else(|| missing(name))?;
        arrow_cast::cast(column.as_ref(), &arrow_schema::DataType::Utf8)
    };
    let long = |name: &str| {
        let column = rows.column_by_name(name).ok_or_else(|| missing(name))?;
        column.as_primitive_opt::<Int64Type>().ok_or_else(|| missing(name))
    };
    if rows.column_by_name("ts").is_none_or(|ts| ts.as_primitive_opt::<TimestampMicrosecondType>().is_none())
    {
        return Err(missing("ts"));
    }
    let (device, key, grade) = (text("device")?, text("row_key")?, text("grade")?);
    let (device, key, grade) = (device.as_string::<i32>(), key.as_string::<i32>(), grade.as_string::<i32>());
    let (ts, err) = (long("ts_ns")?, long("ts_err_ns")?);
    let named = |name: &str| {
        let grades = [Grade::Guaranteed, Grade::Estimated, Grade::OrderingOnly];
        grades.into_iter().find(|grade| grade.as_str() == name).ok_or_else(|| missing("grade"))
    };
    (0..rows.num_rows())
        .map(|row| {
            let (device, key) = (device.value(row).to_owned(), key.value(row).to_owned());
            Ok((device, key, ts.value(row), err.value(row), named(grade.value(row))?))
        })
        .collect()
}

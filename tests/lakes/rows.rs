//! Rows as the collector writes them: its own declarations, the drone's recorded motion as values.

use anyhow::{Context, Result};
use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Float32Array, Int64Array, RecordBatch, StringArray, StructArray,
    TimestampMicrosecondArray,
};
use arrow_schema::{DataType, Field, Schema};
use headwater_collector::commit::tables::{Ops, RAW_SORT, blob, long, properties, raw_columns, text};
use headwater_lake::{ColumnSpec, ColumnType, TableName, TableSpec, UTC};
use std::path::Path;
use std::sync::Arc;

/// Fields of `raw.imu`, as the demo declares them.
const IMU: [&str; 6] = ["accel_x", "accel_y", "accel_z", "gyro_x", "gyro_y", "gyro_z"];

/// What tells one row from all others, and when it was captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Number of the device.
    pub device: u32,
    /// Its number in the device's one stream of the table.
    pub seq: i64,
    /// Event time, UTC ns.
    pub at_ns: i64,
}

/// Recorded values, column by column, played in a loop.
#[derive(Debug, Clone)]
pub struct Recording {
    columns: Vec<Vec<f32>>,
}

impl Recording {
    /// Reads the demo's `imu.csv` from `folder`.
    ///
    /// # Errors
    /// When it is not there or holds something else than numbers.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("imu.csv");
        let csv =
            std::fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
        let mut columns = vec![Vec::new(); IMU.len()];
        for line in csv.lines().skip(1) {
            for (column, value) in columns.iter_mut().zip(line.split(',')) {
                column.push(value.parse().with_context(|| format!("{value:?} in {}", path.display()))?);
            }
        }
        anyhow::ensure!(columns.iter().all(|column| !column.is_empty()), "{} is empty", path.display());
        Ok(Self { columns })
    }

    fn value(&self, column: usize, key: &Key) -> f32 {
        let values = &self.columns[column % self.columns.len()];
        // Devices play it from different places.
        let at = key.seq.unsigned_abs().wrapping_add(u64::from(key.device) * 131);
        let at = usize::try_from(at % values.len() as u64).unwrap_or_default();
        // No two sensors are calibrated alike: else a fleet would hold as few different values as one recording.
        let gain = f32::from(u16::try_from(key.device % 1_000).unwrap_or_default()) * 1e-4;
        values.get(at).copied().unwrap_or_default() * (1.0 + gain)
    }
}

fn table(kind: &str) -> TableName {
    TableName::new(format!("raw.{kind}")).expect("kinds of measurements are lower-case words")
}

fn raw(kind: &str, fields: impl IntoIterator<Item = ColumnSpec>) -> TableSpec {
    let columns = raw_columns().into_iter().chain(fields).collect();
    TableSpec {
        properties: properties([("hw.kind", kind.to_owned())]),
        ..TableSpec::new(table(kind), columns, &RAW_SORT)
    }
}

/// `raw.<kind>` with the six fields of the IMU.
#[must_use]
pub fn imu(kind: &str) -> TableSpec {
    raw(kind, IMU.map(|field| ColumnSpec::optional(field, ColumnType::Float).with_unit("m/s2")))
}

/// `raw.<kind>` with one field, for what is only counted.
#[must_use]
pub fn small(kind: &str) -> TableSpec {
    raw(kind, [ColumnSpec::optional("value", ColumnType::Float)])
}

/// `raw.image`.
#[must_use]
pub fn image() -> TableSpec {
    let fields = [blob("image"), text("hash"), text("mime"), long("size")];
    TableSpec { blob_columns: vec![vec!["image".to_owned(), "bytes".to_owned()]], ..raw("image", fields) }
}

/// `ops.ledger`.
#[must_use]
pub fn ledger() -> TableSpec {
    Ops::Ledger.spec()
}

fn same(value: i64, n: usize) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(std::iter::repeat_n(value, n)))
}

fn words(value: &str, n: usize) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(std::iter::repeat_n(value, n)))
}

fn device(key: &Key) -> String {
    format!("gw-{:05}", key.device)
}

fn longs(keys: &[Key], value: impl Fn(&Key) -> i64) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(keys.iter().map(value)))
}

fn texts(keys: &[Key], value: impl Fn(&Key) -> String) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(keys.iter().map(value)))
}

fn micros(keys: &[Key]) -> ArrayRef {
    let micros = keys.iter().map(|key| key.at_ns.div_euclid(1_000));
    Arc::new(TimestampMicrosecondArray::from_iter_values(micros).with_timezone(UTC))
}

fn common(stream: &str, keys: &[Key]) -> Vec<(&'static str, ArrayRef)> {
    let n = keys.len();
    // Arrival jitters by some tens of µs; a hash of the seq is as good as dice and the same in every run.
    let jitter = |key: &Key| key.seq.wrapping_mul(0x9e37_79b9).rem_euclid(50_000);
    vec![
        ("device", texts(keys, device)),
        ("stream", words(stream, n)),
        ("epoch", texts(keys, |key| format!("{:016x}", u64::from(key.device) * 0x9e37_79b9_7f4a))),
        ("seq", longs(keys, |key| key.seq)),
        ("boot_ordinal", same(3, n)),
        ("boot_ns", longs(keys, |key| key.at_ns - 1_795_000_000_000_000_000 + jitter(key))),
        ("lat_lo_ns", same(0, n)),
        ("lat_hi_ns", same(20_000_000, n)),
        ("stamp_kind", words("arrival", n)),
        ("domain", words("boot", n)),
        ("ts", micros(keys)),
        ("ts_ns", longs(keys, |key| key.at_ns)),
        ("ts_err_ns", same(12_000_000, n)),
        ("grade", words("guaranteed", n)),
        ("track", same(7, n)),
        ("schema_fp", same(0x1234_5678, n)),
        ("late", Arc::new(BooleanArray::from(vec![false; n]))),
    ]
}

fn batch(columns: Vec<(&'static str, ArrayRef)>) -> Result<RecordBatch> {
    let (fields, arrays): (Vec<Field>, Vec<ArrayRef>) = columns
        .into_iter()
        .map(|(name, array)| (Field::new(name, array.data_type().clone(), true), array))
        .unzip();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?)
}

/// Rows of [`imu`].
///
/// # Errors
/// Never: columns are of one length.
pub fn imu_batch(recording: &Recording, keys: &[Key]) -> Result<RecordBatch> {
    let mut columns = common("imu", keys);
    for (at, name) in IMU.into_iter().enumerate() {
        let values = Float32Array::from_iter_values(keys.iter().map(|key| recording.value(at, key)));
        columns.push((name, Arc::new(values)));
    }
    batch(columns)
}

/// Rows of [`small`]: the value is the seq, so that a row that was changed shows.
///
/// # Errors
/// Never: columns are of one length.
pub fn small_batch(stream: &str, keys: &[Key]) -> Result<RecordBatch> {
    let mut columns = common(stream, keys);
    #[expect(clippy::cast_precision_loss, reason = "a value to look at, not to count with")]
    let values = Float32Array::from_iter_values(keys.iter().map(|key| key.seq as f32));
    columns.push(("value", Arc::new(values)));
    batch(columns)
}

/// Rows of [`image`], one picture each.
///
/// # Errors
/// When there are not as many pictures as keys.
pub fn image_batch(keys: &[Key], pictures: &[&[u8]]) -> Result<RecordBatch> {
    let members = [("bytes", DataType::Binary), ("path", DataType::Utf8)];
    let members: Vec<Field> = members.into_iter().map(|(name, kind)| Field::new(name, kind, true)).collect();
    let path = StringArray::new_null(pictures.len());
    let bytes = BinaryArray::from_iter_values(pictures.iter().copied());
    let image = StructArray::try_new(members.into(), vec![Arc::new(bytes), Arc::new(path)], None)?;
    let mut columns = common("camera/front", keys);
    columns.push(("image", Arc::new(image)));
    columns.push(("mime", words("image/jpeg", keys.len())));
    let sizes = pictures.iter().map(|picture| i64::try_from(picture.len()).unwrap_or(i64::MAX));
    columns.push(("size", Arc::new(Int64Array::from_iter_values(sizes))));
    batch(columns)
}

/// A row of [`ledger`] for each run `(first key, last key)`, with all that aligning reads of it.
///
/// # Errors
/// Never: columns are of one length.
pub fn ledger_runs(stream: &str, kind: &str, runs: &[(Key, Key)]) -> Result<RecordBatch> {
    let counted: Vec<(Key, i64)> =
        runs.iter().map(|(first, last)| (*first, last.seq - first.seq + 1)).collect();
    let rows = ledger_batch(stream, kind, &counted)?;
    let last: ArrayRef = Arc::new(Int64Array::from_iter_values(runs.iter().map(|(_, last)| last.at_ns)));
    let columns = rows
        .schema()
        .fields()
        .iter()
        .zip(rows.columns())
        .map(|(field, column)| (field.name().clone(), Arc::clone(column)))
        .chain([("t_max_ns".to_owned(), last)])
        .collect::<Vec<_>>();
    Ok(RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, column)| (name, column, true)),
    )?)
}

/// A row of [`ledger`] for each run `(first key, rows)`.
///
/// # Errors
/// Never: columns are of one length.
pub fn ledger_batch(stream: &str, kind: &str, runs: &[(Key, i64)]) -> Result<RecordBatch> {
    let keys: Vec<Key> = runs.iter().map(|(key, _)| *key).collect();
    let rows = |f: &dyn Fn(&Key, i64) -> i64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(runs.iter().map(|(key, rows)| f(key, *rows))))
    };
    let n = runs.len();
    batch(vec![
        ("ts", micros(&keys)),
        ("ts_ns", longs(&keys, |key| key.at_ns)),
        ("ts_err_ns", same(1_000_000, n)),
        ("device", texts(&keys, device)),
        ("epoch", texts(&keys, |key| format!("{:016x}", u64::from(key.device) * 0x9e37_79b9_7f4a))),
        ("stream", words(stream, n)),
        ("seq_lo", longs(&keys, |key| key.seq)),
        ("seq_hi", rows(&|key, rows| key.seq + rows - 1)),
        ("rows", rows(&|_, rows| rows)),
        ("kind", words(kind, n)),
        ("schema_fp", same(0x1234_5678, n)),
        ("t_min_ns", longs(&keys, |key| key.at_ns)),
        ("state", words("held", n)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_rows_of_their_tables() {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/demo");
        let recording = Recording::read(&data).unwrap();
        let keys: Vec<Key> = (0..5).map(|seq| Key { device: 1, seq, at_ns: seq * 5_000_000 }).collect();
        let pictures: Vec<&[u8]> = vec![b"jpeg"; 5];
        for (spec, batch) in [
            (imu("imu"), imu_batch(&recording, &keys).unwrap()),
            (small("s1"), small_batch("s1", &keys).unwrap()),
            (image(), image_batch(&keys, &pictures).unwrap()),
            (ledger(), ledger_batch("imu", "imu", &[(keys[0], 5)]).unwrap()),
            (ledger(), ledger_runs("imu", "imu", &[(keys[0], keys[4])]).unwrap()),
        ] {
            spec.check().unwrap();
            let declared = spec.arrow_schema();
            for field in batch.schema().fields() {
                let column = declared.field_with_name(field.name()).unwrap();
                assert_eq!(column.data_type(), field.data_type(), "{}.{}", spec.name, field.name());
            }
            let missing = spec.columns.iter().filter(|column| column.required);
            assert!(missing.into_iter().all(|column| batch.column_by_name(&column.name).is_some()));
        }
    }
}

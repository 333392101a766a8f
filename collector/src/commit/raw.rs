//! Sections as Arrow: the columns of `raw.<kind>` from runs of decoded rows, column by column: all runs of a declaration
//! become one batch.

use super::cells::Cell;
use super::columns::{Stretch, scaled};
use super::kinds::Kinds;
use super::tables::INLINE_BLOB_BYTES_MAX;
use crate::dedup::StreamKey;
use crate::resolve::Resolved;
use arrow_array::builder::StringBuilder;
use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Int64Array, RecordBatch, StringArray, StructArray,
    TimestampMicrosecondArray,
};
use arrow_buffer::NullBuffer;
use arrow_schema::{ArrowError, DataType, Field, Schema as ArrowSchema};
use headwater_core::batch::{Column, Rows, Values};
use headwater_core::id::Sha256;
use headwater_core::sample::{BlobRef, Value};
use headwater_core::schema::{Conversion, Logical, Schema};
use headwater_lake::{ColumnType, TableSpec, UTC};
use std::collections::HashMap;
use std::sync::Arc;

/// Where the bytes of an object are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoredBlob {
    /// In the row.
    Inline(Arc<[u8]>),
    /// In the lake, at a path below its root.
    Path(String),
}

/// Objects of a group by digest of their original bytes.
pub type StoredBlobs = HashMap<Sha256, StoredBlob>;

/// A run of rows ready for its table.
#[derive(Debug)]
pub struct RawRows<'a> {
    /// Whose.
    pub key: &'a StreamKey,
    /// The rows.
    pub rows: &'a Rows,
    /// Time of each.
    pub resolved: &'a [Resolved],
    /// Clock track used.
    pub track: i64,
    /// Which came later than the allowed lateness.
    pub late: Vec<bool>,
}

/// True if a picture of this size stays inside its row.
#[must_use]
pub fn is_inline(bytes: usize) -> bool {
    bytes <= INLINE_BLOB_BYTES_MAX
}

/// The first value a section may not hold, as "field x holds 300, not a u8". What passes here fits its column.
///
/// The decoder has checked what holds for every value (types, lengths of text and bytes); here is what a field adds.
#[must_use]
pub fn misfit(rows: &Rows, schema: &Schema) -> Option<String> {
    if !rows.follows(schema) {
        return Some("columns are not those of the declaration".to_owned());
    }
    rows.fields.iter().zip(&schema.fields).find_map(|(column, field)| {
        let name = field.logical.name();
        match (&column.values, &field.logical) {
            (Values::I64(values), logical) => {
                let (low, high) = logical.integer_range()?;
                if (low, high) == (i64::MIN, i64::MAX) {
                    return None;
                }
                let mut valid = values.iter().enumerate().filter(|(row, _)| column.is_valid(*row));
                let (_, found) = valid.find(|(_, n)| !(low..=high).contains(*n))?;
                Some(format!("field {} holds {found}, which no {name} can be", field.name))
            }
            (Values::Bytes(values), Logical::Fixed(_) | Logical::Blob) => {
                let wanted = match field.logical {
                    Logical::Fixed(n) => usize::try_from(n).unwrap_or(usize::MAX),
                    _ => BlobRef::BYTES,
                };
                let mut valid = values.iter().enumerate().filter(|(row, _)| column.is_valid(*row));
                let (_, found) = valid.find(|(_, bytes)| bytes.len() != wanted)?;
                Some(format!("field {} holds {} bytes, a {name} has {wanted}", field.name, found.len()))
            }
            _ => None,
        }
    })
}

/// The first integer that its column's unit makes too large, as text.
#[must_use]
pub fn overflow(rows: &Rows, schema: &Schema, kinds: &Kinds) -> Option<String> {
    rows.fields.iter().zip(&schema.fields).find_map(|(column, field)| {
        let by = kinds.conversion(&schema.kind, field).filter(Conversion::is_integral)?;
        let known = kinds.column(&schema.kind, &field.name)?;
        let (Values::I64(values), ColumnType::Long) = (&column.values, &known.column_type) else {
            return None;
        };
        let mut valid = values.iter().enumerate().filter(|(row, _)| column.is_valid(*row));
        let (_, found) = valid.find(|(_, n)| by.apply_integer(**n).is_none())?;
        Some(format!("field {} holds {found} {}, too much for {}", field.name, field.unit, known.unit))
    })
}

/// Runs of one declaration as a record batch of `spec`, one run behind the other.
///
/// # Errors
/// When rows, times and declaration disagree in length or type, which only a bug does.
pub fn batch(
    runs: &[RawRows<'_>],
    schema: &Schema,
    spec: &TableSpec,
    kinds: &Kinds,
    blobs: &StoredBlobs,
) -> Result<RecordBatch, ArrowError> {
    let mut fields: Vec<Field> = Vec::with_capacity(spec.columns.len());
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(spec.columns.len());
    let mut add = |name: &str, array: ArrayRef| {
        fields.push(Field::new(name, array.data_type().clone(), true));
        columns.push(array);
    };
    for (name, array) in common(runs) {
        add(name, array);
    }
    for (place, field) in schema.fields.iter().enumerate() {
        let Some(known) = kinds.column(&schema.kind, &field.name) else {
            return Err(ArrowError::SchemaError(format!("field {} was never admitted", field.name)));
        };
        let parts = runs.iter().map(|run| run.rows.fields.get(place));
        let Some(parts) = parts.collect::<Option<Vec<_>>>() else {
            return Err(ArrowError::SchemaError(format!("field {} is not in every run", field.name)));
        };
        if field.logical == Logical::Blob {
            let references: Vec<_> = parts.into_iter().flat_map(references).collect();
            add(&known.column, objects(&references, &known.column_type, blobs)?);
            let own = |name: &str| schema.fields.iter().any(|field| field.name.as_str() == name);
            if !own("hash") {
                let hash = references.iter().map(|r| r.map(|r| r.sha256.to_string()));
                add("hash", Arc::new(StringArray::from_iter(hash)));
            }
            if !own("size") {
                let size = references.iter().map(|r| r.map(|r| i64::try_from(r.len).unwrap_or(i64::MAX)));
                add("size", Arc::new(Int64Array::from_iter(size)));
            }
        } else {
            let stretch = Stretch { columns: parts, logical: &field.logical };
            let array = match kinds.conversion(&schema.kind, field) {
                Some(by) => stretch.converted(&known.column_type, &by)?,
                None => stretch.array(&known.column_type)?,
            };
            add(&known.column, array);
        }
    }
    RecordBatch::try_new(Arc::new(ArrowSchema::new(fields)), columns)
}

/// The columns that rows of every kind have.
fn common(runs: &[RawRows<'_>]) -> Vec<(&'static str, ArrayRef)> {
    let each = |value: fn(&RawRows<'_>) -> i64| -> ArrayRef {
        let values = runs.iter().flat_map(|run| std::iter::repeat_n(value(run), run.rows.len()));
        Arc::new(Int64Array::from_iter_values(values))
    };
    let text = |text: &dyn Fn(&RawRows<'_>) -> String| -> ArrayRef {
        let mut builder = StringBuilder::new();
        for run in runs {
            let text = text(run);
            (0..run.rows.len()).for_each(|_| builder.append_value(&text));
        }
        Arc::new(builder.finish())
    };
    let longs = |values: &mut dyn Iterator<Item = i64>| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(values))
    };
    let resolved = || runs.iter().flat_map(|run| run.resolved);
    let seqs = runs.iter().flat_map(|run| run.rows.seqs());
    let stamps =
        runs.iter().flat_map(|run| (0..run.rows.len()).map(|row| run.rows.t_ns(row).unwrap_or_default()));
    let ts = TimestampMicrosecondArray::from_iter_values(resolved().map(|r| r.ts.micros()));
    let mut grades = StringBuilder::new();
    resolved().for_each(|r| grades.append_value(r.grade.as_str()));
    let late: Vec<bool> = runs.iter().flat_map(|run| run.late.iter().copied()).collect();
    vec![
        ("device", text(&|run| run.key.device.to_string())),
        ("stream", text(&|run| run.key.stream.to_string())),
        ("epoch", text(&|run| run.key.epoch.to_string())),
        ("seq", longs(&mut seqs.map(|seq| i64::try_from(seq).unwrap_or(i64::MAX)))),
        ("boot_ordinal", each(|run| run.rows.boot_ordinal.0.into())),
        ("boot_ns", longs(&mut { stamps })),
        ("lat_lo_ns", longs(&mut runs.iter().flat_map(|run| run.rows.lat_lo.iter().copied()))),
        ("lat_hi_ns", longs(&mut runs.iter().flat_map(|run| run.rows.lat_hi.iter().copied()))),
        ("stamp_kind", text(&|run| run.rows.stamp_kind.as_str().to_owned())),
        ("domain", text(&|run| run.rows.domain.to_string())),
        ("ts", Arc::new(ts.with_timezone(UTC))),
        ("ts_ns", longs(&mut resolved().map(|r| r.ts.0))),
        ("ts_err_ns", longs(&mut resolved().map(|r| r.err_ns))),
        ("grade", Arc::new(grades.finish())),
        ("track", each(|run| run.track)),
        ("schema_fp", each(|run| run.rows.fingerprint.0.into())),
        ("late", Arc::new(BooleanArray::from(late))),
    ]
}

/// The objects a blob column refers to.
#[must_use]
pub fn references(column: &Column) -> Vec<Option<BlobRef>> {
    (0..column.len())
        .map(|row| match (&column.values, column.is_valid(row)) {
            (Values::Bytes(values), true) => values.get(row).and_then(|bytes| BlobRef::from_bytes(bytes)),
            _ => None,
        })
        .collect()
}

fn objects(
    references: &[Option<BlobRef>],
    column_type: &ColumnType,
    blobs: &StoredBlobs,
) -> Result<ArrayRef, ArrowError> {
    let DataType::Struct(fields) = column_type.arrow() else {
        return Err(ArrowError::SchemaError("a blob column is no struct".to_owned()));
    };
    let stored: Vec<Option<&StoredBlob>> =
        references.iter().map(|reference| blobs.get(&reference.as_ref()?.sha256)).collect();
    let bytes = BinaryArray::from_iter(stored.iter().map(|blob| match blob {
        Some(StoredBlob::Inline(bytes)) => Some(bytes.as_ref()),
        _ => None,
    }));
    let path = StringArray::from_iter(stored.iter().map(|blob| match blob {
        Some(StoredBlob::Path(path)) => Some(path.as_str()),
        _ => None,
    }));
    let valid = NullBuffer::from_iter(stored.iter().map(Option::is_some));
    let columns: Vec<ArrayRef> = vec![Arc::new(bytes), Arc::new(path)];
    Ok(Arc::new(StructArray::try_new(fields, columns, Some(valid))?))
}

/// A value of [`cell`] in the unit of its column.
#[must_use]
pub fn converted(cell: Cell, by: &Conversion) -> Cell {
    match cell {
        Cell::Long(n) => by.apply_integer(n).into(),
        Cell::Float(x) => by.apply(x.into()).into(),
        Cell::Double(x) => by.apply(x).into(),
        other => other,
    }
}

/// One value as its column holds it. An object is not asked for here.
#[must_use]
pub fn cell(value: &Value, logical: &Logical) -> Cell {
    match (value, logical) {
        (Value::Null, _) => Cell::Null,
        (Value::I64(n), Logical::Bool) => (*n != 0).into(),
        (Value::I64(n), Logical::U64) => Cell::Decimal(i128::from(n.cast_unsigned())),
        (Value::I64(n), Logical::Scaled { .. }) => scaled(*n, logical).into(),
        (Value::I64(n), Logical::Enum(names)) => {
            usize::try_from(*n).ok().and_then(|n| names.get(n)).map(String::as_str).into()
        }
        (Value::I64(n), _) => (*n).into(),
        (Value::F64(x), _) => (*x).into(),
        (Value::F32(x), _) => (*x).into(),
        (Value::Bytes(bytes), _) => bytes.clone().into(),
        (Value::Utf8(text), _) => text.as_str().into(),
    }
}

//! Sections as Arrow: the columns of `raw.<kind>` from a run of decoded rows, column by column and without copies of
//! single values.

use super::cells::Cell;
use super::kinds::Kinds;
use super::tables::INLINE_BLOB_BYTES_MAX;
use crate::dedup::StreamKey;
use crate::resolve::Resolved;
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Decimal128Array, Float32Array, Float64Array, Int32Array,
    Int64Array, RecordBatch, StringArray, StructArray, TimestampMicrosecondArray,
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
    /// Declaration they follow.
    pub schema: &'a Schema,
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

impl RawRows<'_> {
    /// The rows as a record batch of `spec`.
    ///
    /// # Errors
    /// When rows, times and declaration disagree in length or type, which only a bug does.
    pub fn batch(
        &self,
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
        for (name, array) in self.common() {
            add(name, array);
        }
        for (column, field) in self.rows.fields.iter().zip(&self.schema.fields) {
            let Some(known) = kinds.column(&self.schema.kind, &field.name) else {
                return Err(ArrowError::SchemaError(format!("field {} was never admitted", field.name)));
            };
            if field.logical == Logical::Blob {
                let references = references(column);
                add(&known.column, objects(&references, &known.column_type, blobs)?);
                let own = |name: &str| self.schema.fields.iter().any(|field| field.name.as_str() == name);
                if !own("hash") {
                    let hash = references.iter().map(|r| r.map(|r| r.sha256.to_string()));
                    add("hash", Arc::new(StringArray::from_iter(hash)));
                }
                if !own("size") {
                    let size = references.iter().map(|r| r.map(|r| i64::try_from(r.len).unwrap_or(i64::MAX)));
                    add("size", Arc::new(Int64Array::from_iter(size)));
                }
            } else {
                let array = match kinds.conversion(&self.schema.kind, field) {
                    Some(by) => converted_array(column, &field.logical, &known.column_type, &by)?,
                    None => field_array(column, &field.logical, &known.column_type)?,
                };
                add(&known.column, array);
            }
        }
        RecordBatch::try_new(Arc::new(ArrowSchema::new(fields)), columns)
    }

    fn common(&self) -> Vec<(&'static str, ArrayRef)> {
        let (rows, n) = (self.rows, self.rows.len());
        let text = |text: &str| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(std::iter::repeat_n(text, n)))
        };
        let same =
            |n_ns: i64| -> ArrayRef { Arc::new(Int64Array::from_iter_values(std::iter::repeat_n(n_ns, n))) };
        let longs = |values: &mut dyn Iterator<Item = i64>| -> ArrayRef {
            Arc::new(Int64Array::from_iter_values(values))
        };
        let ts = TimestampMicrosecondArray::from_iter_values(self.resolved.iter().map(|r| r.ts.micros()));
        let grades = StringArray::from_iter_values(self.resolved.iter().map(|r| r.grade.as_str()));
        vec![
            ("device", text(self.key.device.as_str())),
            ("stream", text(self.key.stream.as_str())),
            ("epoch", text(&self.key.epoch.to_string())),
            ("seq", longs(&mut rows.seqs().map(|seq| i64::try_from(seq).unwrap_or(i64::MAX)))),
            ("boot_ordinal", same(rows.boot_ordinal.0.into())),
            ("boot_ns", longs(&mut (0..n).map(|row| rows.t_ns(row).unwrap_or_default()))),
            ("lat_lo_ns", longs(&mut rows.lat_lo.iter().copied())),
            ("lat_hi_ns", longs(&mut rows.lat_hi.iter().copied())),
            ("stamp_kind", text(rows.stamp_kind.as_str())),
            ("domain", text(&rows.domain.to_string())),
            ("ts", Arc::new(ts.with_timezone(UTC))),
            ("ts_ns", longs(&mut self.resolved.iter().map(|r| r.ts.0))),
            ("ts_err_ns", longs(&mut self.resolved.iter().map(|r| r.err_ns))),
            ("grade", Arc::new(grades)),
            ("track", same(self.track)),
            ("schema_fp", same(rows.fingerprint.0.into())),
            ("late", Arc::new(BooleanArray::from(self.late.clone()))),
        ]
    }
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

fn field_array(column: &Column, logical: &Logical, target: &ColumnType) -> Result<ArrayRef, ArrowError> {
    let valid = |row: usize| column.is_valid(row);
    let each = |row: usize| valid(row).then_some(row);
    let n = column.len();
    Ok(match (&column.values, target) {
        (Values::I64(v), ColumnType::Boolean) => Arc::new(BooleanArray::from_iter(
            (0..n).map(|row| each(row).and_then(|row| v.get(row)).map(|x| *x != 0)),
        )),
        (Values::I64(v), ColumnType::Int) => Arc::new(Int32Array::from_iter(
            // Out of range was refused at admission.
            (0..n).map(|row| each(row).and_then(|row| v.get(row)).and_then(|x| i32::try_from(*x).ok())),
        )),
        (Values::I64(v), ColumnType::Long) => {
            Arc::new(Int64Array::from_iter((0..n).map(|row| each(row).and_then(|row| v.get(row).copied()))))
        }
        (Values::I64(v), ColumnType::Decimal { precision, scale }) => {
            let whole = |x: &i64| i128::from(x.cast_unsigned());
            let array =
                Decimal128Array::from_iter((0..n).map(|row| each(row).and_then(|row| v.get(row)).map(whole)));
            Arc::new(array.with_precision_and_scale(*precision, *scale)?)
        }
        (Values::I64(v), ColumnType::Double) => {
            let value = |x: &i64| scaled(*x, logical);
            Arc::new(Float64Array::from_iter(
                (0..n).map(|row| each(row).and_then(|row| v.get(row)).map(value)),
            ))
        }
        (Values::I64(v), ColumnType::String) => {
            let Logical::Enum(names) = logical else { return Err(mismatch(logical, target)) };
            let name = |x: &i64| usize::try_from(*x).ok().and_then(|x| names.get(x));
            Arc::new(StringArray::from_iter(
                (0..n).map(|row| each(row).and_then(|row| v.get(row)).and_then(name)),
            ))
        }
        (Values::F32(v), ColumnType::Float) => {
            Arc::new(Float32Array::from_iter((0..n).map(|row| each(row).and_then(|row| v.get(row).copied()))))
        }
        (Values::F32(v), ColumnType::Double) => Arc::new(Float64Array::from_iter(
            (0..n).map(|row| each(row).and_then(|row| v.get(row)).map(|x| f64::from(*x))),
        )),
        (Values::F64(v), ColumnType::Double) => {
            Arc::new(Float64Array::from_iter((0..n).map(|row| each(row).and_then(|row| v.get(row).copied()))))
        }
        (Values::Utf8(v), ColumnType::String) => {
            Arc::new(StringArray::from_iter((0..n).map(|row| each(row).and_then(|row| v.get(row)))))
        }
        (Values::Bytes(v), ColumnType::Binary) => {
            Arc::new(BinaryArray::from_iter((0..n).map(|row| each(row).and_then(|row| v.get(row)))))
        }
        _ => return Err(mismatch(logical, target)),
    })
}

/// The same in the unit of the column.
fn converted_array(
    column: &Column,
    logical: &Logical,
    target: &ColumnType,
    by: &Conversion,
) -> Result<ArrayRef, ArrowError> {
    fn each<T, U>(column: &Column, v: &[T], convert: impl Fn(&T) -> Option<U>) -> Vec<Option<U>> {
        let valid = |row: usize| column.is_valid(row).then(|| v.get(row)).flatten();
        (0..column.len()).map(|row| valid(row).and_then(&convert)).collect()
    }
    let doubles = |values: Vec<Option<f64>>| -> ArrayRef { Arc::new(Float64Array::from(values)) };
    Ok(match (&column.values, target) {
        // What overflows was refused at admission.
        (Values::I64(v), ColumnType::Long) => {
            Arc::new(Int64Array::from(each(column, v, |x| by.apply_integer(*x))))
        }
        (Values::I64(v), ColumnType::Double) => {
            doubles(each(column, v, |x| Some(by.apply(scaled(*x, logical)))))
        }
        (Values::F32(v), ColumnType::Double) => doubles(each(column, v, |x| Some(by.apply(f64::from(*x))))),
        (Values::F64(v), ColumnType::Double) => doubles(each(column, v, |x| Some(by.apply(*x)))),
        _ => return Err(mismatch(logical, target)),
    })
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

/// raw × num / den + offset, exact in integers up to the one division.
fn scaled(raw: i64, logical: &Logical) -> f64 {
    match logical {
        Logical::Scaled { num, den, offset } => {
            (i128::from(raw) * i128::from(*num)) as f64 / *den as f64 + *offset as f64
        }
        _ => raw as f64,
    }
}

fn mismatch(logical: &Logical, target: &ColumnType) -> ArrowError {
    ArrowError::SchemaError(format!("a {} field does not fit a {target:?} column", logical.name()))
}

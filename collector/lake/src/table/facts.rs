//! What a manifest says of a data file: sizes, counts and bounds by column, taken from the file's own footer.

use std::collections::HashMap;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field};
use iceberg::spec::{
    DataContentType, DataFileBuilder, DataFileFormat, Datum, PrimitiveType, Schema, Struct, Type,
};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::statistics::Statistics;

/// NaNs by field id: readers must know of them, for no bound does.
pub(super) type NanCounts = HashMap<i32, u64>;

/// Adds the NaNs of a column, or of what lies in it, to `counts`.
pub(super) fn count_nans(field: &Field, array: &ArrayRef, counts: &mut NanCounts) {
    let found = match array.data_type() {
        DataType::Float32 => {
            let values = array.as_primitive::<Float32Type>();
            // Most files have none, and looking at bare values is quick; what lies under a null is looked at twice.
            match values.values().iter().any(|x| x.is_nan()) {
                true => values.iter().flatten().filter(|x| x.is_nan()).count(),
                false => 0,
            }
        }
        DataType::Float64 => {
            let values = array.as_primitive::<Float64Type>();
            match values.values().iter().any(|x| x.is_nan()) {
                true => values.iter().flatten().filter(|x| x.is_nan()).count(),
                false => 0,
            }
        }
        DataType::Struct(members) => {
            for (member, column) in members.iter().zip(array.as_struct().columns()) {
                count_nans(member, column, counts);
            }
            return;
        }
        DataType::List(element) => {
            let list = array.as_list::<i32>();
            let (first, last) = (list.value_offsets().first(), list.value_offsets().last());
            if let (Some(Ok(first)), Some(Ok(last))) =
                (first.map(|n| usize::try_from(*n)), last.map(|n| usize::try_from(*n)))
            {
                count_nans(element, &list.values().slice(first, last - first), counts);
            }
            return;
        }
        _ => return,
    };
    let id = field.metadata().get(PARQUET_FIELD_ID_META_KEY).and_then(|id| id.parse().ok());
    if let Some(id) = id {
        *counts.entry(id).or_default() += found as u64;
    }
}

/// NaNs of all columns.
pub(super) fn nans(rows: &RecordBatch, counts: &mut NanCounts) {
    for (field, column) in rows.schema_ref().fields().iter().zip(rows.columns()) {
        count_nans(field, column, counts);
    }
}

/// The entry of a file of `bytes`, but for its place, partition and order.
pub(super) fn data_file(
    schema: &Schema,
    metadata: &ParquetMetaData,
    bytes: u64,
    nans: NanCounts,
) -> iceberg::Result<DataFileBuilder> {
    let unsigned = |n: i64| u64::try_from(n).unwrap_or_default();
    let (mut sizes, mut values, mut nulls) = (HashMap::new(), HashMap::new(), HashMap::new());
    let (mut lower, mut upper) = (HashMap::new(), HashMap::new());
    for chunk in metadata.row_groups().iter().flat_map(|group| group.columns()) {
        let info = chunk.column_descr().self_type().get_basic_info();
        if !info.has_id() {
            continue;
        }
        let id = info.id();
        *sizes.entry(id).or_insert(0) += unsigned(chunk.compressed_size());
        *values.entry(id).or_insert(0) += unsigned(chunk.num_values());
        let Some(statistics) = chunk.statistics() else { continue };
        if let Some(count) = statistics.null_count_opt() {
            *nulls.entry(id).or_insert(0) += count;
        }
        let Some(Type::Primitive(kind)) = schema.field_by_id(id).map(|field| field.field_type.as_ref())
        else {
            continue;
        };
        // What was cut short to fit the footer is no bound that every reader may rely on.
        if let Some(min) = statistics.min_bytes_opt().filter(|_| statistics.min_is_exact()) {
            let min = bound(kind, statistics, min)?;
            lower
                .entry(id)
                .and_modify(|known: &mut Datum| {
                    if *known > min {
                        *known = min.clone()
                    }
                })
                .or_insert(min);
        }
        if let Some(max) = statistics.max_bytes_opt().filter(|_| statistics.max_is_exact()) {
            let max = bound(kind, statistics, max)?;
            upper
                .entry(id)
                .and_modify(|known: &mut Datum| {
                    if *known < max {
                        *known = max.clone()
                    }
                })
                .or_insert(max);
        }
    }
    let mut builder = DataFileBuilder::default();
    builder
        .content(DataContentType::Data)
        .file_format(DataFileFormat::Parquet)
        .partition(Struct::empty())
        .record_count(unsigned(metadata.file_metadata().num_rows()))
        .file_size_in_bytes(bytes)
        .column_sizes(sizes)
        .value_counts(values)
        .null_value_counts(nulls)
        .nan_value_counts(nans)
        .lower_bounds(lower)
        .upper_bounds(upper)
        .split_offsets(Some(metadata.row_groups().iter().filter_map(|group| group.file_offset()).collect()));
    Ok(builder)
}

/// A value of a footer's statistics in Iceberg's form, which differs in small decimals alone: Parquet keeps those as
/// little-endian integers.
fn bound(kind: &PrimitiveType, statistics: &Statistics, bytes: &[u8]) -> iceberg::Result<Datum> {
    match (kind, statistics) {
        (PrimitiveType::Decimal { .. }, Statistics::Int32(_) | Statistics::Int64(_)) => {
            let turned: Vec<u8> = bytes.iter().rev().copied().collect();
            Datum::try_from_bytes(&turned, kind.clone())
        }
        _ => Datum::try_from_bytes(bytes, kind.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::TableName;
    use crate::store::Stage;
    use crate::table::{
        ColumnSpec, ColumnType, EncodedFile, Level, Shape, TS, TableSpec, create, encode_file,
    };
    use arrow_array::{
        BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int32Array,
        Int64Array, ListArray, StringArray, StructArray, TimestampMicrosecondArray,
    };
    use iceberg::spec::DataFile;
    use iceberg::writer::file_writer::{FileWriter, FileWriterBuilder, ParquetWriterBuilder};
    use std::sync::Arc;
    use uuid::Uuid;

    fn decimal(values: Vec<Option<i128>>, precision: u8) -> ArrayRef {
        Arc::new(Decimal128Array::from(values).with_precision_and_scale(precision, 0).unwrap())
    }

    /// A column of every type, with nulls and NaNs where they may be.
    fn columns() -> Vec<(ColumnSpec, ArrayRef)> {
        let o = |name: &str, kind| ColumnSpec::optional(name, kind);
        let of = |precision| ColumnType::Decimal { precision, scale: 0 };
        let member: ArrayRef = Arc::new(Float64Array::from(vec![Some(f64::NAN), None, Some(2.5)]));
        let members = vec![o("m", ColumnType::Double)];
        let DataType::Struct(fields) = ColumnType::Struct(members.clone()).arrow() else { unreachable!() };
        let floats = [Some(vec![Some(f32::NAN), Some(1.0)]), None, Some(vec![None])];
        let list = ListArray::from_iter_primitive::<Float32Type, _, _>(floats);
        let list = ListArray::try_new(
            Arc::new(Field::new("element", DataType::Float32, true)),
            list.offsets().clone(),
            Arc::clone(list.values()),
            list.nulls().cloned(),
        );
        let long_text = "x".repeat(100);
        vec![
            (
                ColumnSpec::required(TS, ColumnType::Timestamptz),
                Arc::new(TimestampMicrosecondArray::from(vec![5, 6, 7]).with_timezone("+00:00")),
            ),
            (
                o("flag", ColumnType::Boolean),
                Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])),
            ),
            (o("int", ColumnType::Int), Arc::new(Int32Array::from(vec![Some(-3), None, Some(9)]))),
            (o("long", ColumnType::Long), Arc::new(Int64Array::from(vec![i64::MIN, 0, i64::MAX]))),
            (
                o("float", ColumnType::Float),
                Arc::new(Float32Array::from(vec![Some(f32::NAN), None, Some(-0.5)])),
            ),
            (o("double", ColumnType::Double), Arc::new(Float64Array::from(vec![f64::NAN, f64::NAN, 1e300]))),
            (o("small", of(9)), decimal(vec![Some(-5), None, Some(700)], 9)),
            (o("middle", of(18)), decimal(vec![Some(-5), Some(1 << 40), None], 18)),
            (o("large", of(20)), decimal(vec![Some(i128::from(u64::MAX)), Some(-1), None], 20)),
            (o("date", ColumnType::Date), Arc::new(Date32Array::from(vec![20_780, -1, 3]))),
            (o("text", ColumnType::String), Arc::new(StringArray::from(vec![Some("b"), None, Some("äa")]))),
            (
                o("long_text", ColumnType::String),
                Arc::new(StringArray::from(vec![long_text.as_str(), "", "y"])),
            ),
            (o("bytes", ColumnType::Binary), Arc::new(BinaryArray::from(vec![b"z".as_ref(), b"\0", b""]))),
            (o("none", ColumnType::Long), Arc::new(Int64Array::from(vec![None, None, None]))),
            (
                o("struct", ColumnType::Struct(members)),
                Arc::new(StructArray::try_new(fields, vec![member], None).unwrap()),
            ),
            (o("list", ColumnType::List(Box::new(ColumnType::Float))), Arc::new(list.unwrap())),
        ]
    }

    async fn icebergs_own(shape: &Shape, rows: &RecordBatch) -> DataFile {
        let builder =
            ParquetWriterBuilder::new(shape.properties.clone(), Arc::clone(shape.metadata.current_schema()));
        let mut writer = builder.build(Stage::default().output("rows")).await.unwrap();
        writer.write(rows).await.unwrap();
        let mut built = writer.close().await.unwrap();
        built.pop().unwrap().partition_spec_id(0).build().unwrap()
    }

    #[tokio::test]
    async fn a_file_is_described_as_icebergs_own_writer_would() {
        let (specs, arrays): (Vec<ColumnSpec>, Vec<ArrayRef>) = columns().into_iter().unzip();
        let spec = TableSpec::new(TableName::new("raw.all").unwrap(), specs, &[TS]);
        let metadata = create("memory:///lake", &spec, Uuid::nil()).unwrap().draft;
        let shape = Shape::new(spec, metadata).unwrap();
        let batch =
            RecordBatch::try_from_iter(shape.target.fields().iter().map(|f| f.name()).zip(arrays)).unwrap();
        let rows = super::super::conform(&shape.spec, &shape.target, &batch).unwrap();
        let EncodedFile { data_file: ours, .. } = encode_file(&shape, 0, Level::Commit, &rows).unwrap();
        let theirs = icebergs_own(&shape, &rows).await;
        assert_eq!(ours.record_count(), theirs.record_count());
        assert_eq!(ours.value_counts(), theirs.value_counts());
        assert_eq!(ours.null_value_counts(), theirs.null_value_counts());
        assert_eq!(ours.nan_value_counts(), theirs.nan_value_counts());
        assert_eq!(ours.lower_bounds(), theirs.lower_bounds());
        assert_eq!(ours.upper_bounds(), theirs.upper_bounds());
        assert_eq!(ours.column_sizes(), theirs.column_sizes());
        assert_eq!(ours.file_size_in_bytes(), theirs.file_size_in_bytes());
        assert_eq!(ours.split_offsets(), theirs.split_offsets());
    }
}

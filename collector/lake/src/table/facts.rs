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

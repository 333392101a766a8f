//! Rows as Parquet files with all the settings Iceberg's own writer leaves at unfit defaults.
//!
//! Nothing random or timed goes into a file: the same rows give the same bytes (L2), and the file's name begins with
//! their hash. What makes the name unique stands behind it.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{DataType, Field};
use bytes::Bytes;
use iceberg::arrow::schema_to_arrow_schema;
use iceberg::spec::{DataFile, Literal, Struct, TableMetadata};
use iceberg::writer::file_writer::{FileWriter, FileWriterBuilder, ParquetWriterBuilder};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;
use uuid::Uuid;

use super::{TableSpec, rows};
use crate::error::LakeError;
use crate::names::sha256_hex;
use crate::store::Stage;

/// Rows of a row group: small enough to skip within a day, large enough for the encodings to pay.
const ROW_GROUP_ROWS_MAX: usize = 256 * 1024;

/// Bytes of a row group in tables with blobs, where rows say nothing about size.
const BLOB_ROW_GROUP_BYTES_MAX: usize = 16 << 20;

/// Bytes in memory that go into one file; on disk it is usually a third of that or less.
const FILE_MEMORY_BYTES_MAX: usize = 256 << 20;

/// Bytes handed to the Parquet writer at once: a row group is closed between two such slices.
const SLICE_BYTES_MAX: usize = 4 << 20;

/// A data file, built and named but not yet stored.
#[derive(Debug, Clone)]
pub(crate) struct EncodedFile {
    /// Its entry for a manifest.
    pub(crate) data_file: DataFile,
    /// Its bytes.
    pub(crate) bytes: Bytes,
}

/// Encodes `batches` for the table whose next metadata is `draft`: one file or more per UTC day. Runs long on the CPU.
pub(crate) fn encode(
    spec: &TableSpec,
    draft: &TableMetadata,
    batches: &[RecordBatch],
) -> Result<Vec<EncodedFile>, LakeError> {
    let fail = || LakeError::iceberg(format!("encode rows of {}", spec.name));
    let schema = draft.current_schema();
    let target = Arc::new(schema_to_arrow_schema(schema).map_err(fail())?);
    let sort: Vec<String> = draft
        .default_sort_order()
        .fields
        .iter()
        .filter_map(|field| schema.name_by_field_id(field.source_id).map(str::to_owned))
        .collect();
    let properties = properties(spec, target.fields(), &sort);

    let aligned = rows::align(spec, &target, batches)?;
    let mut files = Vec::new();
    for (day, part) in rows::by_day(spec, &sort, &aligned)? {
        let rows_max = rows_within(&part, FILE_MEMORY_BYTES_MAX);
        for from in (0..part.num_rows()).step_by(rows_max) {
            let slice = part.slice(from, rows_max.min(part.num_rows() - from));
            files.push(futures::executor::block_on(encode_file(spec, draft, &properties, day, &slice))?);
        }
    }
    Ok(files)
}

async fn encode_file(
    spec: &TableSpec,
    draft: &TableMetadata,
    properties: &WriterProperties,
    day: i32,
    rows: &RecordBatch,
) -> Result<EncodedFile, LakeError> {
    let fail = || LakeError::iceberg(format!("encode rows of {}", spec.name));
    let stage = Stage::default();
    let schema = Arc::clone(draft.current_schema());
    let mut writer = ParquetWriterBuilder::new(properties.clone(), Arc::clone(&schema))
        .build(stage.output("rows"))
        .await
        .map_err(fail())?;
    let step =
        if spec.blob_columns.is_empty() { rows.num_rows() } else { rows_within(rows, SLICE_BYTES_MAX) };
    for from in (0..rows.num_rows()).step_by(step.max(1)) {
        writer.write(&rows.slice(from, step.min(rows.num_rows() - from))).await.map_err(fail())?;
    }
    let mut built = writer.close().await.map_err(fail())?;
    let (Some(mut data_file), Some((_, bytes))) = (built.pop(), stage.take().pop_first()) else {
        return Err(LakeError::corrupt(&spec.name, "the encoder gave no file for rows it was given"));
    };

    let partition = Struct::from_iter([Some(Literal::date(day))]);
    let folder = draft.default_partition_spec().partition_to_path(&partition, schema);
    let unique = Uuid::new_v4().simple().to_string();
    let name = format!("{}-{}.parquet", &sha256_hex(&bytes)[..32], &unique[..12]);
    let data_file = data_file
        .file_path(format!("{}/data/{folder}/{name}", draft.location()))
        .partition(partition)
        .partition_spec_id(draft.default_partition_spec_id())
        .sort_order_id(i32::try_from(draft.default_sort_order_id()).unwrap_or_default())
        .build()
        .map_err(|e| LakeError::corrupt(&spec.name, e))?;
    Ok(EncodedFile { data_file, bytes })
}

/// How many rows of this batch, on average, stay within `bytes` of memory; at least one.
fn rows_within(rows: &RecordBatch, bytes: usize) -> usize {
    let all = rows.get_array_memory_size().max(1);
    let count = u128::from(rows.num_rows() as u64) * u128::from(bytes as u64) / u128::from(all as u64);
    usize::try_from(count).unwrap_or(usize::MAX).clamp(1, rows.num_rows().max(1))
}

/// How rows of these columns are written.
pub(crate) fn properties(spec: &TableSpec, fields: &[Arc<Field>], sort: &[String]) -> WriterProperties {
    let level = ZstdLevel::try_new(3).expect("3 is a level of zstd");
    let mut builder = WriterProperties::builder()
        .set_created_by("headwater".to_owned())
        .set_compression(Compression::ZSTD(level))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS_MAX));
    if !spec.blob_columns.is_empty() {
        builder = builder.set_max_row_group_bytes(Some(BLOB_ROW_GROUP_BYTES_MAX));
    }
    let mut leaves = 0;
    let mut sorting: Vec<(usize, SortingColumn)> = Vec::new();
    for field in fields {
        if let Some(place) = sort.iter().position(|name| name == field.name()) {
            sorting.push((place, SortingColumn { column_idx: leaves, descending: false, nulls_first: true }));
        }
        builder = column(spec, builder, vec![field.name().clone()], field.data_type(), &mut leaves);
    }
    sorting.sort_by_key(|(place, _)| *place);
    builder.set_sorting_columns(Some(sorting.into_iter().map(|(_, column)| column).collect())).build()
}

/// Settings of the leaves below `path`. The path is kept in parts: as one dotted text it would match nothing.
fn column(
    spec: &TableSpec,
    builder: WriterPropertiesBuilder,
    path: Vec<String>,
    data_type: &DataType,
    leaves: &mut i32,
) -> WriterPropertiesBuilder {
    match data_type {
        DataType::Struct(members) => members.iter().fold(builder, |builder, member| {
            let mut path = path.clone();
            path.push(member.name().clone());
            column(spec, builder, path, member.data_type(), leaves)
        }),
        DataType::List(element) => {
            let mut path = path;
            path.extend(["list".to_owned(), element.name().clone()]);
            column(spec, builder, path, element.data_type(), leaves)
        }
        leaf => {
            *leaves += 1;
            let is_blob = spec.blob_columns.contains(&path);
            let path = ColumnPath::from(path);
            match leaf {
                _ if is_blob => builder
                    .set_column_compression(path.clone(), Compression::UNCOMPRESSED)
                    .set_column_dictionary_enabled(path.clone(), false)
                    .set_column_statistics_enabled(path, EnabledStatistics::None),
                DataType::Int32 | DataType::Int64 | DataType::Timestamp(..) | DataType::Date32 => builder
                    .set_column_dictionary_enabled(path.clone(), false)
                    .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED),
                DataType::Float32 | DataType::Float64 => builder
                    .set_column_dictionary_enabled(path.clone(), false)
                    .set_column_encoding(path, Encoding::BYTE_STREAM_SPLIT),
                DataType::Utf8 => builder.set_column_dictionary_enabled(path, true),
                DataType::LargeBinary | DataType::Boolean => {
                    builder.set_column_dictionary_enabled(path, false)
                }
                _ => builder,
            }
        }
    }
}

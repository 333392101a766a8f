//! How columns lie in Parquet: what Iceberg's own writer leaves at unfit defaults.

use std::sync::Arc;

use arrow_schema::{DataType, Field};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;

use super::TableSpec;

/// Rows of a row group: small enough to skip within a day, large enough for the encodings to pay.
const ROW_GROUP_ROWS_MAX: usize = 256 * 1024;

/// Bytes of a row group, whatever its rows: a merge holds one of each of its inputs.
const ROW_GROUP_BYTES_MAX: usize = 32 << 20;

/// Bytes of a row group in tables with blobs, where rows say nothing about size: some dozens of pictures. Readers that
/// know nothing of pages read the blobs of a whole group for one of them.
const BLOB_ROW_GROUP_BYTES_MAX: usize = 4 << 20;

/// Bytes of a data page before compression: what one seek fetches and unpacks.
const PAGE_BYTES: usize = 1 << 20;

/// Settings for the columns `fields` of a table sorted by `sort`.
pub(crate) fn properties(spec: &TableSpec, fields: &[Arc<Field>], sort: &[String]) -> WriterProperties {
    let level = ZstdLevel::try_new(3).expect("3 is a level of zstd");
    let mut builder = WriterProperties::builder()
        .set_created_by("headwater".to_owned())
        .set_compression(Compression::ZSTD(level))
        .set_data_page_size_limit(PAGE_BYTES)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS_MAX))
        .set_max_row_group_bytes(Some(match spec.blob_columns.is_empty() {
            true => ROW_GROUP_BYTES_MAX,
            false => BLOB_ROW_GROUP_BYTES_MAX,
        }));
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

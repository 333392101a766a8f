//! Blobs that rows name: read from the one small column that holds their paths.

use arrow_array::Array;
use arrow_array::cast::AsArray;
use futures::TryStreamExt;
use iceberg::arrow::ArrowFileReader;
use iceberg::io::FileMetadata;
use iceberg::spec::{DataFile, Schema, Type};
use parquet::arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask};
use parquet::schema::types::SchemaDescriptor;

use crate::error::LakeError;
use crate::store::LakeStore;

/// The member that holds a blob's path, beside `bytes` for what is small.
const PATH: &str = "path";
const BYTES: &str = "bytes";

/// A column `struct<bytes, path>` by the field id of its path.
#[derive(Debug, Clone, Copy)]
pub(super) struct BlobColumn(i32);

impl BlobColumn {
    /// True unless the file's statistics show that no row has a path.
    pub(super) fn is_named_in(self, file: &DataFile) -> bool {
        match (file.value_counts().get(&self.0), file.null_value_counts().get(&self.0)) {
            (Some(values), Some(nulls)) => values > nulls,
            _ => true,
        }
    }
}

/// The columns of a schema whose rows may name blobs.
pub(super) fn columns(schema: &Schema) -> Vec<BlobColumn> {
    let path_of = |field_type: &Type| match field_type {
        Type::Struct(members) if members.field_by_name(BYTES).is_some() => {
            members.field_by_name(PATH).map(|path| BlobColumn(path.id))
        }
        _ => None,
    };
    schema.as_struct().fields().iter().filter_map(|field| path_of(&field.field_type)).collect()
}

/// Paths that rows of a data file of `bytes` bytes name.
pub(super) async fn named_in(store: &LakeStore, key: &str, bytes: u64) -> Result<Vec<String>, LakeError> {
    let fail = || LakeError::iceberg(format!("read {key}"));
    let corrupt = |e: parquet::errors::ParquetError| LakeError::corrupt(key, e);
    let input = store.file_io().new_input(store.url(key)).map_err(fail())?;
    let reader = ArrowFileReader::new(FileMetadata { size: bytes }, input.reader().await.map_err(fail())?);
    let builder = ParquetRecordBatchStreamBuilder::new(reader).await.map_err(corrupt)?;
    let leaves = path_leaves(builder.parquet_schema());
    if leaves.is_empty() {
        return Ok(Vec::new());
    }
    let mask = ProjectionMask::leaves(builder.parquet_schema(), leaves);
    let mut rows = builder.with_projection(mask).build().map_err(corrupt)?;
    let mut paths = Vec::new();
    while let Some(batch) = rows.try_next().await.map_err(corrupt)? {
        for column in batch.columns() {
            let Some(holder) = column.as_struct_opt() else { continue };
            let Some(path) = holder.column_by_name(PATH).and_then(|path| path.as_string_opt::<i32>()) else {
                continue;
            };
            let valid = (0..path.len()).filter(|row| holder.is_valid(*row) && path.is_valid(*row));
            paths.extend(valid.map(|row| path.value(row).to_owned()));
        }
    }
    paths.sort_unstable();
    paths.dedup();
    Ok(paths)
}

fn path_leaves(schema: &SchemaDescriptor) -> Vec<usize> {
    let parts = |leaf: usize| schema.column(leaf).path().parts().to_vec();
    let all: Vec<Vec<String>> = (0..schema.num_columns()).map(parts).collect();
    let has_bytes =
        |holder: &str| all.iter().any(|parts| parts.len() == 2 && parts[0] == holder && parts[1] == BYTES);
    let names_blobs = |parts: &[String]| parts.len() == 2 && parts[1] == PATH && has_bytes(&parts[0]);
    all.iter().enumerate().filter(|(_, parts)| names_blobs(parts)).map(|(leaf, _)| leaf).collect()
}

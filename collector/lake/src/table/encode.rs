//! Rows as Parquet files with all the settings Iceberg's own writer leaves at unfit defaults.
//!
//! Nothing random or timed goes into a file: the same rows give the same bytes (L2), and the file's name begins with
//! their hash. What makes the name unique stands behind it, then how often its rows were compacted.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch};
use bytes::Bytes;
use iceberg::spec::{DataFile, Literal, Struct};
use iceberg::writer::CurrentFileStatus;
use iceberg::writer::file_writer::{FileWriter, FileWriterBuilder, ParquetWriter, ParquetWriterBuilder};
use uuid::Uuid;

use super::{Level, Shape, rows};
use crate::error::LakeError;
use crate::names::sha256_hex;
use crate::store::Stage;

/// Bytes in memory that go into one file; on disk it is usually a third of that or less.
const FILE_MEMORY_BYTES_MAX: usize = 256 << 20;

/// Bytes handed to the Parquet writer at once where rows hold blobs: a row group is closed between two such slices.
const SLICE_BYTES_MAX: usize = 4 << 20;

/// Rows handed to it at once elsewhere, for the same reason.
const SLICE_ROWS_MAX: usize = 64 * 1024;

/// A data file, built and named but not yet stored.
#[derive(Debug, Clone)]
pub(crate) struct EncodedFile {
    /// Its entry for a manifest.
    pub(crate) data_file: DataFile,
    /// Its bytes.
    pub(crate) bytes: Bytes,
}

/// Encodes `batches` for the table: one file or more per UTC day. Runs long on the CPU.
pub(crate) fn encode(shape: &Shape, batches: &[RecordBatch]) -> Result<Vec<EncodedFile>, LakeError> {
    let aligned = rows::align(&shape.spec, &shape.target, batches)?;
    let mut files = Vec::new();
    for (day, part) in rows::by_day(&shape.spec, &shape.sort, &aligned)? {
        let rows_max = rows_within(&part, FILE_MEMORY_BYTES_MAX);
        for from in (0..part.num_rows()).step_by(rows_max) {
            let slice = part.slice(from, rows_max.min(part.num_rows() - from));
            files.push(futures::executor::block_on(encode_file(shape, day, Level::Commit, &slice))?);
        }
    }
    Ok(files)
}

/// Encodes sorted rows of one day as one file.
pub(crate) async fn encode_file(
    shape: &Shape,
    day: i32,
    level: Level,
    rows: &RecordBatch,
) -> Result<EncodedFile, LakeError> {
    let mut file = FileEncoder::begin(shape, day, level).await?;
    let step = match shape.spec.blob_columns.is_empty() {
        true => SLICE_ROWS_MAX,
        false => rows_within(rows, SLICE_BYTES_MAX),
    };
    for from in (0..rows.num_rows()).step_by(step) {
        file.write(&rows.slice(from, step.min(rows.num_rows() - from))).await?;
    }
    file.finish().await
}

/// How many rows of this batch, on average, stay within `bytes` of memory; at least one.
pub(crate) fn rows_within(rows: &RecordBatch, bytes: usize) -> usize {
    // A slice shares buffers with its siblings; only its own part of them counts.
    let of = |column: &ArrayRef| {
        column.to_data().get_slice_memory_size().unwrap_or_else(|_| column.get_array_memory_size())
    };
    let all = rows.columns().iter().map(of).sum::<usize>().max(1);
    let count = u128::from(rows.num_rows() as u64) * u128::from(bytes as u64) / u128::from(all as u64);
    usize::try_from(count).unwrap_or(usize::MAX).clamp(1, rows.num_rows().max(1))
}

/// One data file while its rows come in, in memory.
pub(crate) struct FileEncoder<'a> {
    shape: &'a Shape,
    day: i32,
    level: Level,
    stage: Stage,
    writer: ParquetWriter,
}

impl<'a> FileEncoder<'a> {
    /// Begins a file of one UTC day, counted from 1970.
    pub(crate) async fn begin(
        shape: &'a Shape,
        day: i32,
        level: Level,
    ) -> Result<FileEncoder<'a>, LakeError> {
        let stage = Stage::default();
        let schema = Arc::clone(shape.metadata.current_schema());
        let writer = ParquetWriterBuilder::new(shape.properties.clone(), schema)
            .build(stage.output("rows"))
            .await
            .map_err(LakeError::iceberg(format!("encode rows of {}", shape.spec.name)))?;
        Ok(FileEncoder { shape, day, level, stage, writer })
    }

    /// Takes rows in the table's own columns, in the order they shall have.
    pub(crate) async fn write(&mut self, rows: &RecordBatch) -> Result<(), LakeError> {
        let name = &self.shape.spec.name;
        self.writer.write(rows).await.map_err(LakeError::iceberg(format!("encode rows of {name}")))
    }

    /// About how many bytes it has by now.
    pub(crate) fn bytes(&self) -> usize {
        self.writer.current_written_size()
    }

    /// The file, with a name of its own.
    pub(crate) async fn finish(self) -> Result<EncodedFile, LakeError> {
        let Shape { spec, metadata, .. } = self.shape;
        let built = self.writer.close().await;
        let mut built = built.map_err(LakeError::iceberg(format!("encode rows of {}", spec.name)))?;
        let (Some(mut data_file), Some((_, bytes))) = (built.pop(), self.stage.take().pop_first()) else {
            return Err(LakeError::corrupt(&spec.name, "the encoder gave no file for rows it was given"));
        };
        let partition = Struct::from_iter([Some(Literal::date(self.day))]);
        let by = metadata.default_partition_spec();
        let folder = by.partition_to_path(&partition, Arc::clone(metadata.current_schema()));
        let unique = Uuid::new_v4().simple().to_string();
        let name = format!("{}-{}-{}.parquet", &sha256_hex(&bytes)[..32], &unique[..12], self.level);
        let data_file = data_file
            .file_path(format!("{}/data/{folder}/{name}", metadata.location()))
            .partition(partition)
            .partition_spec_id(by.spec_id())
            .sort_order_id(i32::try_from(metadata.default_sort_order_id()).unwrap_or_default())
            .build()
            .map_err(|e| LakeError::corrupt(&spec.name, e))?;
        Ok(EncodedFile { data_file, bytes })
    }
}

//! Rows as Parquet files with all the settings Iceberg's own writer leaves at unfit defaults.
//!
//! Nothing random or timed goes into a file: the same rows give the same bytes (L2), and the file's name begins with
//! their hash. What makes the name unique stands behind it, then how often its rows were compacted.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field};
use bytes::Bytes;
use iceberg::spec::{DataFile, Literal, Struct};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::errors::ParquetError;
use parquet::file::writer::SerializedFileWriter;
use uuid::Uuid;

use super::facts::{self, NanCounts};
use super::{Level, Shape, TableError, parallel, rows};
use crate::error::LakeError;
use crate::names::sha256_hex;

/// Bytes in memory that go into one file; on disk it is usually a third of that or less.
const FILE_MEMORY_BYTES_MAX: usize = 256 << 20;

/// Bytes handed to the Parquet writer at once where rows hold blobs: a row group is closed between two such slices.
const SLICE_BYTES_MAX: usize = 4 << 20;

/// Rows handed to it at once elsewhere, for the same reason.
pub(crate) const SLICE_ROWS_MAX: usize = 64 * 1024;

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
            files.push(encode_file(shape, day, Level::Commit, &slice)?);
        }
    }
    Ok(files)
}

/// Encodes sorted rows of one day as one file.
pub(crate) fn encode_file(
    shape: &Shape,
    day: i32,
    level: Level,
    rows: &RecordBatch,
) -> Result<EncodedFile, LakeError> {
    let mut file = FileEncoder::begin(shape, day, level)?;
    let step = match shape.spec.blob_columns.is_empty() {
        true => SLICE_ROWS_MAX,
        false => rows_within(rows, SLICE_BYTES_MAX),
    };
    for from in (0..rows.num_rows()).step_by(step) {
        file.write(&rows.slice(from, step.min(rows.num_rows() - from)))?;
    }
    file.finish()
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

/// One data file while its rows come in, in memory. Columns are encoded beside each other by all cores.
pub(crate) struct FileEncoder<'a> {
    shape: &'a Shape,
    day: i32,
    level: Level,
    writer: SerializedFileWriter<Vec<u8>>,
    factory: ArrowRowGroupWriterFactory,
    group: Option<Group>,
    nans: NanCounts,
}

/// A row group that is not full yet.
struct Group {
    /// Leaf by leaf.
    columns: Vec<ArrowColumnWriter>,
    rows: usize,
}

impl Group {
    /// About how many bytes it has by now.
    fn bytes(&self) -> usize {
        self.columns.iter().map(ArrowColumnWriter::get_estimated_total_bytes).sum()
    }
}

impl<'a> FileEncoder<'a> {
    /// Begins a file of one UTC day, counted from 1970.
    pub(crate) fn begin(shape: &'a Shape, day: i32, level: Level) -> Result<FileEncoder<'a>, LakeError> {
        let properties = Some(shape.properties.clone());
        let writer = ArrowWriter::try_new(Vec::new(), Arc::clone(&shape.target), properties);
        let (writer, factory) =
            writer.and_then(ArrowWriter::into_serialized_writer).map_err(failed(shape))?;
        Ok(FileEncoder { shape, day, level, writer, factory, group: None, nans: NanCounts::new() })
    }

    /// Takes rows in the table's own columns, in the order they shall have.
    pub(crate) fn write(&mut self, rows: &RecordBatch) -> Result<(), LakeError> {
        facts::nans(rows, &mut self.nans);
        let mut rest = rows.clone();
        while rest.num_rows() > 0 {
            let n = self.room()?.min(rest.num_rows());
            self.encode(&rest.slice(0, n))?;
            rest = rest.slice(n, rest.num_rows() - n);
            if self.group.as_ref().is_some_and(|group| self.is_full(group)) {
                self.close_group()?;
            }
        }
        Ok(())
    }

    fn is_full(&self, group: &Group) -> bool {
        let properties = &self.shape.properties;
        properties.max_row_group_row_count().is_some_and(|max| group.rows >= max)
            || properties.max_row_group_bytes().is_some_and(|max| group.bytes() >= max)
    }

    /// Rows that the row group takes yet, by their number and by the bytes its rows have had so far; at least one, in a
    /// new group if need be.
    fn room(&mut self) -> Result<usize, LakeError> {
        let properties = &self.shape.properties;
        let rows_max = properties.max_row_group_row_count().unwrap_or(usize::MAX);
        let Some(group) = &self.group else { return Ok(rows_max) };
        let left = properties.max_row_group_bytes().unwrap_or(usize::MAX).saturating_sub(group.bytes());
        let row_bytes = (group.bytes() / group.rows.max(1)).max(1);
        let room = (rows_max - group.rows.min(rows_max)).min(left / row_bytes);
        if room == 0 {
            self.close_group()?;
            return Ok(rows_max);
        }
        Ok(room)
    }

    fn encode(&mut self, rows: &RecordBatch) -> Result<(), LakeError> {
        let fail = failed(self.shape);
        let group = match &mut self.group {
            Some(group) => group,
            empty => {
                let place = self.writer.flushed_row_groups().len();
                let columns = self.factory.create_column_writers(place).map_err(&fail)?;
                empty.insert(Group { columns, rows: 0 })
            }
        };
        group.rows += rows.num_rows();
        let mut writers = group.columns.as_mut_slice();
        let mut columns = Vec::with_capacity(rows.num_columns());
        for (field, column) in self.shape.target.fields().iter().zip(rows.columns()) {
            let (own, others) = writers.split_at_mut(leaves(field.data_type()).min(writers.len()));
            writers = others;
            columns.push((field, column, own));
        }
        let encode = |(field, column, writers): (&Arc<Field>, &ArrayRef, &mut [ArrowColumnWriter])| {
            let leaves = compute_leaves(field, column)?;
            leaves.iter().zip(writers).try_for_each(|(leaf, writer)| writer.write(leaf))
        };
        parallel::map(rows.num_rows(), columns, encode).map_err(&fail)?;
        Ok(())
    }

    fn close_group(&mut self) -> Result<(), LakeError> {
        let fail = failed(self.shape);
        let Some(group) = self.group.take() else { return Ok(()) };
        let chunks = parallel::map(group.rows, group.columns, ArrowColumnWriter::close).map_err(&fail)?;
        let mut out = self.writer.next_row_group().map_err(&fail)?;
        for chunk in chunks {
            chunk.append_to_row_group(&mut out).map_err(&fail)?;
        }
        out.close().map_err(&fail)?;
        Ok(())
    }

    /// About how many bytes it has by now.
    pub(crate) fn bytes(&self) -> usize {
        self.writer.bytes_written() + self.group.as_ref().map_or(0, Group::bytes)
    }

    /// The bytes of the file alone.
    pub(crate) fn into_bytes(mut self) -> Result<Bytes, LakeError> {
        self.close_group()?;
        self.writer.finish().map_err(failed(self.shape))?;
        Ok(Bytes::from(std::mem::take(self.writer.inner_mut())))
    }

    /// The file, with a name of its own.
    pub(crate) fn finish(mut self) -> Result<EncodedFile, LakeError> {
        self.close_group()?;
        let Shape { spec, metadata, .. } = self.shape;
        let footer = self.writer.finish().map_err(failed(self.shape))?;
        if footer.file_metadata().num_rows() == 0 {
            return Err(LakeError::corrupt(&spec.name, "a file was finished that no rows were given to"));
        }
        let bytes = Bytes::from(std::mem::take(self.writer.inner_mut()));
        let partition = Struct::from_iter([Some(Literal::date(self.day))]);
        let by = metadata.default_partition_spec();
        let folder = by.partition_to_path(&partition, Arc::clone(metadata.current_schema()));
        let unique = Uuid::new_v4().simple().to_string();
        let name = format!("{}-{}-{}.parquet", &sha256_hex(&bytes)[..32], &unique[..12], self.level);
        let data_file = facts::data_file(metadata.current_schema(), &footer, bytes.len() as u64, self.nans)
            .map_err(LakeError::iceberg(format!("describe a file of {}", spec.name)))?
            .file_path(format!("{}/data/{folder}/{name}", metadata.location()))
            .partition(partition)
            .partition_spec_id(by.spec_id())
            .sort_order_id(i32::try_from(metadata.default_sort_order_id()).unwrap_or_default())
            .build()
            .map_err(|e| LakeError::corrupt(&spec.name, e))?;
        Ok(EncodedFile { data_file, bytes })
    }
}

/// Columns of a file that a column of a table becomes.
fn leaves(data_type: &DataType) -> usize {
    match data_type {
        DataType::Struct(members) => members.iter().map(|member| leaves(member.data_type())).sum(),
        DataType::List(element) => leaves(element.data_type()),
        _ => 1,
    }
}

fn failed(shape: &Shape) -> impl Fn(ParquetError) -> LakeError + use<> {
    let table = shape.spec.name.clone();
    move |e| {
        let (table, column) = (table.clone(), "*".to_owned());
        LakeError::Table(TableError::Arrow { table, column, reason: format!("encode rows: {e}") })
    }
}

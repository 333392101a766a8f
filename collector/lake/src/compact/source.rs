//! One data file as a stream of rows in the table's order: deletes applied, columns as the table has them now, and sorted
//! here if its writer did not.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_ord::sort::{SortColumn, SortOptions, lexsort_to_indices};
use arrow_select::concat::concat_batches;
use arrow_select::take::take_record_batch;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use iceberg::Runtime;
use iceberg::arrow::ArrowReaderBuilder;
use iceberg::scan::{FileScanTask, FileScanTaskDeleteFile};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::files::{Listed, TableFiles};
use crate::error::LakeError;
use crate::store::LakeStore;
use crate::table::{Shape, TableError, conform, failed};

/// Rows as they are read.
pub(crate) type Rows = BoxStream<'static, Result<RecordBatch, LakeError>>;

/// Bytes on disk that a batch of rows stands for: blobs are as large in memory, other columns some times larger.
const BATCH_BYTES: u64 = 1 << 20;

/// Rows of a batch at most.
const BATCH_ROWS_MAX: u64 = 8_192;

/// Bytes of unsorted rows in memory while they are sorted; what is sorted is held as Parquet, as large as the file.
const SORT_BYTES_MAX: usize = 64 << 20;

/// Rows of a data file in the order of the table. A file that is not sorted gives several streams, each in order.
pub(crate) async fn sorted(
    store: &LakeStore,
    shape: &Arc<Shape>,
    files: &TableFiles,
    file: &Listed,
) -> Result<Vec<Rows>, LakeError> {
    let rows = read(store, shape, file, files.deletes_of(&file.path), None)?;
    if is_sorted(shape, file) { Ok(vec![rows]) } else { runs(shape, file, rows).await }
}

/// Rows of a data file as they lie in it; `columns` by name in any order, or all.
pub(crate) fn read(
    store: &LakeStore,
    shape: &Arc<Shape>,
    file: &Listed,
    deletes: Vec<FileScanTaskDeleteFile>,
    columns: Option<&[&str]>,
) -> Result<Rows, LakeError> {
    let name = shape.spec.name.clone();
    let fail = || LakeError::iceberg(format!("read rows of {name}"));
    let schema = Arc::clone(shape.metadata.current_schema());
    // In the table's own order: another one puts the names of some columns on the values of others.
    let fields = schema.as_struct().fields().iter();
    let wanted = fields.filter(|field| columns.is_none_or(|columns| columns.contains(&field.name.as_str())));
    let field_ids: Vec<i32> = wanted.map(|field| field.id).collect();
    let task = FileScanTask::builder()
        .with_file_size_in_bytes(file.bytes)
        .with_start(0)
        .with_length(file.bytes)
        .with_record_count(Some(file.rows))
        .with_data_file_path(file.path.clone())
        .with_data_file_format(file.format)
        .with_schema(schema)
        .with_project_field_ids(field_ids)
        .with_deletes(deletes)
        .with_case_sensitive(true)
        .build();
    let reader = ArrowReaderBuilder::new(store.file_io(), Runtime::try_current().map_err(fail())?)
        .with_batch_size(batch_rows(file))
        .with_data_file_concurrency_limit(1)
        .build();
    let read = reader.read(stream::once(futures::future::ready(Ok(task))).boxed()).map_err(fail())?;
    let rows = read.stream().map_err(move |e| LakeError::iceberg(format!("read rows of {name}"))(e));
    if columns.is_some() {
        return Ok(rows.boxed());
    }
    let shape = Arc::clone(shape);
    Ok(rows.map(move |batch| Ok(conform(&shape.spec, &shape.target, &batch?)?)).boxed())
}

fn batch_rows(file: &Listed) -> usize {
    let rows = BATCH_BYTES.saturating_mul(file.rows) / file.bytes.max(1);
    usize::try_from(rows.clamp(1, BATCH_ROWS_MAX)).unwrap_or(1)
}

/// Our own files are, and say so; what a foreign file claims of its order leaves ties open.
fn is_sorted(shape: &Shape, file: &Listed) -> bool {
    let name = file.path.rsplit('/').next().unwrap_or_default().as_bytes();
    let ours = name.len() > 33 && name[32] == b'-' && name[..32].iter().all(u8::is_ascii_hexdigit);
    ours && file.sort_order == i32::try_from(shape.metadata.default_sort_order_id()).ok()
}

/// The rows in runs that are sorted each, held in memory as Parquet but for the last.
async fn runs(shape: &Arc<Shape>, file: &Listed, mut rows: Rows) -> Result<Vec<Rows>, LakeError> {
    let mut out: Vec<Rows> = Vec::new();
    let mut held: Vec<RecordBatch> = Vec::new();
    let mut bytes = 0;
    loop {
        let batch = rows.try_next().await?;
        bytes += batch.as_ref().map_or(0, RecordBatch::get_array_memory_size);
        let last = batch.is_none();
        held.extend(batch);
        if last && out.is_empty() {
            let sorted = sort(shape, &std::mem::take(&mut held))?;
            out.push(stream::iter(slices(&sorted, batch_rows(file)).map(Ok).collect::<Vec<_>>()).boxed());
        } else if (last || bytes >= SORT_BYTES_MAX) && !held.is_empty() {
            let sorted = sort(shape, &std::mem::take(&mut held))?;
            out.push(shelved(shape, &sorted, batch_rows(file))?);
            bytes = 0;
        }
        if last {
            return Ok(out);
        }
    }
}

fn slices(rows: &RecordBatch, step: usize) -> impl Iterator<Item = RecordBatch> + '_ {
    (0..rows.num_rows()).step_by(step).map(move |from| rows.slice(from, step.min(rows.num_rows() - from)))
}

/// Rows by the table's order, ties by all other plain columns.
pub(crate) fn sort(shape: &Shape, batches: &[RecordBatch]) -> Result<RecordBatch, LakeError> {
    let fail = |e| LakeError::Table(failed(&shape.spec, "*", e));
    let rows = concat_batches(&shape.target, batches).map_err(fail)?;
    let options = Some(SortOptions { descending: false, nulls_first: true });
    let keys: Vec<SortColumn> = super::order::names(shape)
        .filter_map(|name| rows.column_by_name(name))
        .map(|column| SortColumn { values: Arc::clone(column), options })
        .collect();
    let order = lexsort_to_indices(&keys, None).map_err(fail)?;
    take_record_batch(&rows, &order).map_err(fail)
}

/// A sorted run as Parquet in memory, read as it is wanted.
fn shelved(shape: &Arc<Shape>, rows: &RecordBatch, step: usize) -> Result<Rows, LakeError> {
    let bad = |e: parquet::errors::ParquetError| {
        let (table, column) = (shape.spec.name.clone(), "*".to_owned());
        LakeError::Table(TableError::Arrow { table, column, reason: format!("set a run of rows aside: {e}") })
    };
    let mut bytes = Vec::new();
    let writer = ArrowWriter::try_new(&mut bytes, rows.schema(), Some(shape.properties.clone()));
    let mut writer = writer.map_err(bad)?;
    for slice in slices(rows, step) {
        writer.write(&slice).map_err(bad)?;
    }
    writer.close().map_err(bad)?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes)).map_err(bad)?;
    let reader = reader.with_batch_size(step).build().map_err(bad)?;
    let shape = Arc::clone(shape);
    let conformed = move |batch: Result<RecordBatch, arrow_schema::ArrowError>| {
        let batch = batch.map_err(|e| LakeError::Table(failed(&shape.spec, "*", e)))?;
        Ok(conform(&shape.spec, &shape.target, &batch)?)
    };
    Ok(stream::iter(reader.map(conformed)).boxed())
}

//! Rows of single files of a table, apart from any snapshot.

use std::sync::Arc;

use arrow_array::RecordBatch;
use futures::{StreamExt, TryStreamExt};
use iceberg::Runtime;
use iceberg::arrow::ArrowReaderBuilder;
use iceberg::expr::{Bind, Predicate};
use iceberg::scan::FileScanTask;
use iceberg::spec::TableMetadata;

use super::files::LiveFile;
use crate::error::LakeError;
use crate::names::TableName;
use crate::store::LakeStore;

/// The rows of a data file in the table's current columns, or in those of `columns` that the table has. Deletes are not
/// applied. Columns come in the table's order.
pub(super) async fn read(
    store: &LakeStore,
    table: &TableName,
    metadata: &TableMetadata,
    file: &LiveFile,
    columns: Option<&[&str]>,
) -> Result<Vec<RecordBatch>, LakeError> {
    read_where(store, table, metadata, file, columns, None).await
}

/// The same, of rows that meet `condition`; row groups whose bounds exclude it are not fetched.
pub(super) async fn read_where(
    store: &LakeStore,
    table: &TableName,
    metadata: &TableMetadata,
    file: &LiveFile,
    columns: Option<&[&str]>,
    condition: Option<&Predicate>,
) -> Result<Vec<RecordBatch>, LakeError> {
    let fail = || LakeError::iceberg(format!("read a file of {table}"));
    let schema = Arc::clone(metadata.current_schema());
    let asked = |name: &str| columns.is_none_or(|columns| columns.contains(&name));
    let ids: Vec<i32> =
        schema.as_struct().fields().iter().filter(|field| asked(&field.name)).map(|field| field.id).collect();
    let condition = condition.map(|condition| condition.bind(Arc::clone(&schema), true)).transpose();
    let condition = condition.map_err(fail())?;
    let task = FileScanTask::builder()
        .with_file_size_in_bytes(file.file.file_size_in_bytes())
        .with_start(0)
        .with_length(file.file.file_size_in_bytes())
        .with_record_count(Some(file.file.record_count()))
        .with_data_file_path(file.file.file_path().to_owned())
        .with_data_file_format(file.file.file_format())
        .with_schema(schema)
        .with_project_field_ids(ids)
        .with_predicate(condition)
        .with_case_sensitive(true)
        .build();
    let runtime = Runtime::try_current().map_err(fail())?;
    let reader =
        ArrowReaderBuilder::new(store.file_io(), runtime).with_row_group_filtering_enabled(true).build();
    let tasks = futures::stream::once(futures::future::ready(Ok(task))).boxed();
    let rows = reader.read(tasks).map_err(fail())?.stream();
    rows.try_collect().await.map_err(fail())
}

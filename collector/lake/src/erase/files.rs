//! Files that hold rows to be erased: found by their bounds, read one at a time, rewritten once however many branches
//! and tries need them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_select::filter::filter_record_batch;
use futures::{StreamExt, TryStreamExt};
use iceberg::arrow::ArrowReaderBuilder;
use iceberg::expr::Reference;
use iceberg::scan::FileScanTask;
use iceberg::spec::{DataFile, Datum, TableMetadata};
use iceberg::table::Table;
use iceberg::{Runtime, TableIdent};

use super::scope::{DEVICE, Erasure, Scope};
use super::{Erased, TellErase};
use crate::error::LakeError;
use crate::lake::Lake;
use crate::names::{CommitId, TableName};
use crate::repo::TableEntry;
use crate::table;

/// What a file becomes.
#[derive(Debug, Clone)]
pub(super) struct Rewritten {
    /// Rows that went.
    pub(super) rows: u64,
    /// Files that hold the rest; none where nothing is left.
    pub(super) added: Vec<DataFile>,
}

/// Files looked at so far, by location.
#[derive(Debug, Default)]
pub(super) struct Files {
    counted: HashMap<String, u64>,
    rewritten: HashMap<String, Rewritten>,
    looked_at: u64,
    known: u64,
}

impl Files {
    /// Rows and files that an erasure takes of a commit, by table.
    pub(super) async fn count(
        &mut self,
        lake: &Lake,
        id: &CommitId,
        erasure: &Erasure,
        tell: TellErase<'_>,
    ) -> Result<BTreeMap<TableName, Erased>, LakeError> {
        let mut counts = BTreeMap::new();
        for (name, entry) in lake.tables(id).await? {
            let metadata = metadata(lake, &name, &entry).await?;
            let Some(scope) = scope(erasure, &name, &metadata) else { continue };
            let mut erased = Erased::default();
            let tasks = candidates(lake, &name, &entry, metadata, erasure).await?;
            self.known += tasks.len() as u64;
            for task in tasks {
                let path = task.data_file_path.clone();
                let rows = match self.counted.get(&path) {
                    Some(rows) => *rows,
                    None => self.count_file(lake, &name, task, scope, erasure).await?,
                };
                self.counted.insert(path, rows);
                self.looked_at += 1;
                tell(self.looked_at, self.known);
                if rows > 0 {
                    erased.rows += rows;
                    erased.files += 1;
                }
            }
            if erased.files > 0 {
                counts.insert(name, erased);
            }
        }
        Ok(counts)
    }

    async fn count_file(
        &self,
        lake: &Lake,
        name: &TableName,
        task: FileScanTask,
        scope: Scope,
        erasure: &Erasure,
    ) -> Result<u64, LakeError> {
        let mut rows = 0;
        let mut batches = read(lake, name, task)?;
        while let Some(batch) = batches.try_next().await.map_err(failed(name))? {
            rows += erasure.matches(scope, &batch).true_count() as u64;
        }
        Ok(rows)
    }

    /// The files of a table that hold such rows, each with what it becomes. What it becomes is in the store already.
    pub(super) async fn rewrite(
        &mut self,
        lake: &Lake,
        name: &TableName,
        entry: &TableEntry,
        metadata: &Arc<TableMetadata>,
        erasure: &Erasure,
        tell: TellErase<'_>,
    ) -> Result<BTreeMap<String, Rewritten>, LakeError> {
        let mut found = BTreeMap::new();
        let Some(scope) = scope(erasure, name, metadata) else { return Ok(found) };
        let tasks = candidates(lake, name, entry, TableMetadata::clone(metadata), erasure).await?;
        self.known += tasks.len() as u64;
        for task in tasks {
            let path = task.data_file_path.clone();
            if !self.rewritten.contains_key(&path) {
                let rewritten = rewrite_file(lake, name, metadata, task, scope, erasure).await?;
                self.rewritten.insert(path.clone(), rewritten);
            }
            self.looked_at += 1;
            tell(self.looked_at, self.known);
            if let Some(rewritten) = self.rewritten.get(&path).filter(|rewritten| rewritten.rows > 0) {
                found.insert(path, rewritten.clone());
            }
        }
        Ok(found)
    }
}

/// One file without the rows: in memory at once, which the writer's bound on a file keeps small.
async fn rewrite_file(
    lake: &Lake,
    name: &TableName,
    metadata: &Arc<TableMetadata>,
    task: FileScanTask,
    scope: Scope,
    erasure: &Erasure,
) -> Result<Rewritten, LakeError> {
    let mut kept: Vec<RecordBatch> = Vec::new();
    let mut rows = 0;
    let mut batches = read(lake, name, task)?;
    while let Some(batch) = batches.try_next().await.map_err(failed(name))? {
        let goes = erasure.matches(scope, &batch);
        rows += goes.true_count() as u64;
        let stays = goes.iter().map(|goes| Some(goes != Some(true))).collect();
        kept.push(filter_record_batch(&batch, &stays).map_err(|e| LakeError::corrupt(name, e))?);
    }
    if rows == 0 || kept.iter().all(|batch| batch.num_rows() == 0) {
        return Ok(Rewritten { rows, added: Vec::new() });
    }
    let shape = table::Shape::stored(name, metadata)?;
    let encoded = tokio::task::spawn_blocking(move || table::encode(&shape, &kept))
        .await
        .map_err(|source| LakeError::Task { task: "the encoder", source })??;
    let objects = encoded.iter().map(|file| (file.data_file.file_path().to_owned(), file.bytes.clone()));
    lake.store().create_all(objects.collect()).await?;
    Ok(Rewritten { rows, added: encoded.into_iter().map(|file| file.data_file).collect() })
}

fn scope(erasure: &Erasure, name: &TableName, metadata: &TableMetadata) -> Option<Scope> {
    let fields = metadata.current_schema().as_struct();
    erasure.scope(name, |column| fields.field_by_name(column).is_some())
}

async fn metadata(lake: &Lake, name: &TableName, entry: &TableEntry) -> Result<TableMetadata, LakeError> {
    let read = TableMetadata::read_from(&lake.store().file_io(), &entry.metadata_location).await;
    read.map_err(LakeError::iceberg(format!("read metadata of {name}")))
}

/// Files that may hold rows of the device, each to be read whole.
async fn candidates(
    lake: &Lake,
    name: &TableName,
    entry: &TableEntry,
    metadata: TableMetadata,
    erasure: &Erasure,
) -> Result<Vec<FileScanTask>, LakeError> {
    let fail = || LakeError::iceberg(format!("plan the files of {name}"));
    let Some(snapshot_id) = entry.snapshot_id else { return Ok(Vec::new()) };
    let table = Table::builder()
        .file_io(lake.store().file_io())
        .metadata(metadata)
        .metadata_location(entry.metadata_location.clone())
        .identifier(TableIdent::from_strs([name.namespace(), name.table()]).map_err(fail())?)
        .readonly(true)
        .runtime(Runtime::try_current().map_err(fail())?)
        .build()
        .map_err(fail())?;
    let of_device = Reference::new(DEVICE).equal_to(Datum::string(&erasure.device));
    let scan = table.scan().snapshot_id(snapshot_id).with_filter(of_device).build().map_err(fail())?;
    let tasks = scan.plan_files().await.map_err(fail())?;
    let mut tasks: Vec<FileScanTask> = tasks.try_collect().await.map_err(fail())?;
    for task in &mut tasks {
        // The filter chose the file; what stays of it must be read too.
        task.predicate = None;
    }
    Ok(tasks)
}

fn read(
    lake: &Lake,
    name: &TableName,
    task: FileScanTask,
) -> Result<iceberg::scan::ArrowRecordBatchStream, LakeError> {
    let fail = || LakeError::iceberg(format!("read rows of {name}"));
    let runtime = Runtime::try_current().map_err(fail())?;
    let reader = ArrowReaderBuilder::new(lake.store().file_io(), runtime).build();
    let one = futures::stream::once(futures::future::ready(Ok(task))).boxed();
    Ok(reader.read(one).map_err(fail())?.stream())
}

fn failed(name: &TableName) -> impl FnOnce(iceberg::Error) -> LakeError + use<> {
    LakeError::iceberg(format!("read rows of {name}"))
}

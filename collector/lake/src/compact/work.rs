//! The long part of a compaction: reads, merges, encodes and stores, and moves nothing. What it stores is an orphan until a
//! commit names it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::files::TableFiles;
use super::merge::Merge;
use super::replace::Replacement;
use super::source;
use super::tiers::Group;
use crate::error::LakeError;
use crate::lake::Lake;
use crate::repo::TableEntry;
use crate::table::{EncodedFile, FileEncoder, Level, Shape};

/// A table as it was when its groups were chosen.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    pub(crate) entry: TableEntry,
    pub(crate) shape: Arc<Shape>,
    pub(crate) files: Arc<TableFiles>,
}

/// Tells long work to end early.
#[derive(Debug, Clone, Default)]
pub struct StopFlag(Arc<AtomicBool>);

impl StopFlag {
    /// Work that holds this flag ends at its next batch of rows.
    pub fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was told.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn check(&self, task: &'static str) -> Result<(), LakeError> {
        if self.is_stopped() { Err(LakeError::Stopped { task }) } else { Ok(()) }
    }
}

/// Merges a group into new files, which are stored. On the blocking pool: it is work for the CPU.
pub(crate) async fn merge(
    lake: &Lake,
    subject: &Subject,
    group: &Group,
    file_bytes: u64,
    stop: &StopFlag,
) -> Result<Replacement, LakeError> {
    let (lake, subject, group, stop) = (lake.clone(), subject.clone(), group.clone(), stop.clone());
    let handle = tokio::runtime::Handle::current();
    let run = move || handle.block_on(merge_here(&lake, &subject, &group, file_bytes, &stop));
    let joined = tokio::task::spawn_blocking(run).await;
    joined.map_err(|source| LakeError::Task { task: "a merge of files", source })?
}

async fn merge_here(
    lake: &Lake,
    subject: &Subject,
    group: &Group,
    file_bytes: u64,
    stop: &StopFlag,
) -> Result<Replacement, LakeError> {
    let Subject { entry, shape, files } = subject;
    let mut inputs = Vec::new();
    let (mut rows_in, mut bytes_in) = (0, 0);
    for path in &group.inputs {
        let Some(file) = files.data.get(path) else {
            return Err(LakeError::corrupt(path, "a file chosen to be merged is not in its own list"));
        };
        rows_in += file.rows;
        bytes_in += file.bytes;
        inputs.extend(source::sorted(lake.store(), shape, files, file).await?);
    }
    let paths: BTreeSet<String> = group.inputs.iter().cloned().collect();
    let deletes = files.deletes_touching(&paths);
    let mut merge = Merge::open(shape, inputs).await?;
    let mut out =
        Rolling { lake, shape, day: group.day, level: group.level, file_bytes, file: None, done: Vec::new() };
    let mut rows_out = 0;
    while let Some(rows) = merge.next().await? {
        stop.check("compaction")?;
        rows_out += rows.num_rows() as u64;
        out.write(&rows).await?;
    }
    let added = out.finish().await?;
    if rows_out > rows_in || (deletes.is_empty() && rows_out != rows_in) {
        let reason =
            format!("its files hold {rows_in} rows and {rows_out} came out of them: nothing is changed");
        return Err(LakeError::corrupt(&group.table, reason));
    }
    Ok(Replacement { table_uuid: entry.uuid, day: group.day, inputs: paths, deletes, added, bytes_in })
}

/// Files of one day that follow each other in order, each stored as soon as it is full.
struct Rolling<'a> {
    lake: &'a Lake,
    shape: &'a Shape,
    day: i32,
    level: Level,
    file_bytes: u64,
    file: Option<FileEncoder<'a>>,
    done: Vec<iceberg::spec::DataFile>,
}

impl Rolling<'_> {
    async fn write(&mut self, rows: &arrow_array::RecordBatch) -> Result<(), LakeError> {
        let mut file = match self.file.take() {
            Some(file) => file,
            None => FileEncoder::begin(self.shape, self.day, self.level)?,
        };
        file.write(rows)?;
        if file.bytes() as u64 >= self.file_bytes {
            self.store(file.finish()?).await
        } else {
            self.file = Some(file);
            Ok(())
        }
    }

    async fn finish(mut self) -> Result<Vec<iceberg::spec::DataFile>, LakeError> {
        if let Some(file) = self.file.take() {
            self.store(file.finish()?).await?;
        }
        Ok(self.done)
    }

    async fn store(&mut self, file: EncodedFile) -> Result<(), LakeError> {
        let url = file.data_file.file_path().to_owned();
        self.lake.store().create_all(vec![(url, file.bytes)]).await?;
        self.done.push(file.data_file);
        Ok(())
    }
}

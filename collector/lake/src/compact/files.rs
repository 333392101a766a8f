//! The files of a table by day, and which of them delete files take rows from. Manifests never change, so each is read
//! once and kept: a look costs what is new.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use futures::{StreamExt, TryStreamExt, stream};
use iceberg::scan::FileScanTaskDeleteFile;
use iceberg::spec::{
    DataContentType, DataFileFormat, Literal, ManifestContentType, ManifestFile, PrimitiveLiteral,
    TableMetadata, Transform,
};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::tiers::FileFacts;
use crate::error::LakeError;
use crate::names::TableName;
use crate::store::LakeStore;
use crate::table::{Level, TS, TableState, has_live, read_manifest};

/// Manifests read at once.
const READS_MAX: usize = 8;

/// A live file of one manifest.
#[derive(Debug, Clone)]
pub(crate) struct Listed {
    pub(crate) path: String,
    pub(crate) content: DataContentType,
    pub(crate) format: DataFileFormat,
    /// Day since 1970, if it is partitioned as our tables are.
    pub(crate) day: Option<i32>,
    pub(crate) spec_id: i32,
    pub(crate) bytes: u64,
    pub(crate) rows: u64,
    /// Data sequence number: deletes of a greater one (equality) or of this one and greater (position) apply.
    pub(crate) number: i64,
    pub(crate) sort_order: Option<i32>,
    /// Of an equality delete.
    pub(crate) equality_ids: Option<Vec<i32>>,
    /// The one file that a position delete is about, if it says.
    about: Option<String>,
}

/// Manifests and position deletes read so far, by path.
#[derive(Debug, Clone, Default)]
pub(crate) struct FileIndex {
    manifests: HashMap<String, Arc<Vec<Listed>>>,
    deletes: HashMap<String, Arc<BTreeSet<String>>>,
}

/// All live files of a table.
#[derive(Debug, Clone, Default)]
pub(crate) struct TableFiles {
    /// Data files by path.
    pub(crate) data: BTreeMap<String, Listed>,
    /// Delete files by path, with the data files each takes rows from.
    pub(crate) deletes: BTreeMap<String, (Listed, Arc<BTreeSet<String>>)>,
}

/// Why a table is left as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Foreign {
    /// It is not partitioned by the day of `ts`.
    Partition,
    /// A delete is of a form that this build does not apply.
    Deletes,
}

impl Foreign {
    /// For people.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Foreign::Partition => "it is not partitioned by the day of `ts`",
            Foreign::Deletes => "its delete files are of a form that this build does not apply",
        }
    }
}

impl FileIndex {
    /// The live files of a table.
    pub(crate) async fn of(
        &mut self,
        store: &LakeStore,
        name: &TableName,
        state: &TableState,
    ) -> Result<TableFiles, LakeError> {
        let new: Vec<ManifestFile> = state
            .manifests
            .iter()
            .filter(|file| has_live(file) && !self.manifests.contains_key(&file.manifest_path))
            .cloned()
            .collect();
        let reads = new.into_iter().map(|file| async move {
            let listed = listed(&read_manifest(store, name, &file).await?, &file);
            Ok::<_, LakeError>((file.manifest_path, Arc::new(listed)))
        });
        let read: Vec<_> = stream::iter(reads).buffer_unordered(READS_MAX).try_collect().await?;
        self.manifests.extend(read);

        let mut files = TableFiles::default();
        let mut deletes = Vec::new();
        for file in state.manifests.iter().filter(|file| has_live(file)) {
            let Some(listed) = self.manifests.get(&file.manifest_path) else { continue };
            for listed in listed.iter().cloned() {
                match file.content {
                    ManifestContentType::Data => drop(files.data.insert(listed.path.clone(), listed)),
                    ManifestContentType::Deletes => deletes.push(listed),
                }
            }
        }
        for delete in deletes {
            let paths = self.taken_from(store, &delete, &files).await?;
            files.deletes.insert(delete.path.clone(), (delete, paths));
        }
        Ok(files)
    }

    /// The data files a delete takes rows from.
    async fn taken_from(
        &mut self,
        store: &LakeStore,
        delete: &Listed,
        files: &TableFiles,
    ) -> Result<Arc<BTreeSet<String>>, LakeError> {
        if delete.content == DataContentType::EqualityDeletes {
            let hit = |file: &&Listed| file.number < delete.number && same_partition(delete, file);
            return Ok(Arc::new(files.data.values().filter(hit).map(|file| file.path.clone()).collect()));
        }
        if let Some(path) = &delete.about {
            return Ok(Arc::new(BTreeSet::from([path.clone()])));
        }
        if let Some(known) = self.deletes.get(&delete.path) {
            return Ok(Arc::clone(known));
        }
        let paths = Arc::new(paths_in(store, delete).await?);
        self.deletes.insert(delete.path.clone(), Arc::clone(&paths));
        Ok(paths)
    }

    /// Manifests it keeps.
    #[cfg(test)]
    pub(crate) fn known(&self) -> usize {
        self.manifests.len()
    }

    /// Forgets what no table of `states` lists any more.
    pub(crate) fn forget_others<'a>(&mut self, states: impl Iterator<Item = &'a TableState>) {
        let listed: HashSet<&str> =
            states.flat_map(|state| state.manifests.iter().map(|file| file.manifest_path.as_str())).collect();
        self.manifests.retain(|path, _| listed.contains(path.as_str()));
        let deletes: HashSet<&str> = self
            .manifests
            .values()
            .flat_map(|files| files.iter())
            .filter(|file| file.content == DataContentType::PositionDeletes)
            .map(|file| file.path.as_str())
            .collect();
        self.deletes.retain(|path, _| deletes.contains(path.as_str()));
    }
}

/// An equality delete without a partition means the whole table.
fn same_partition(delete: &Listed, file: &Listed) -> bool {
    delete.day.is_none() || (delete.spec_id, delete.day) == (file.spec_id, file.day)
}

impl TableFiles {
    /// Delete files that take rows from `path`.
    pub(crate) fn deletes_of(&self, path: &str) -> Vec<FileScanTaskDeleteFile> {
        let hits = self.deletes.values().filter(|(_, paths)| paths.contains(path));
        hits.map(|(delete, _)| {
            FileScanTaskDeleteFile::builder()
                .with_file_path(delete.path.clone())
                .with_file_size_in_bytes(delete.bytes)
                .with_file_type(delete.content)
                .with_partition_spec_id(delete.spec_id)
                .with_equality_ids(delete.equality_ids.clone())
                .build()
        })
        .collect()
    }

    /// Paths of the delete files that take rows from any of `paths`.
    pub(crate) fn deletes_touching(&self, paths: &BTreeSet<String>) -> BTreeSet<String> {
        let hits = self.deletes.iter().filter(|(_, (_, from))| !from.is_disjoint(paths));
        hits.map(|(path, _)| path.clone()).collect()
    }

    /// Delete files that no file needs once `removed` are gone.
    pub(crate) fn deletes_done(&self, removed: &BTreeSet<String>) -> BTreeSet<String> {
        let needed = |paths: &BTreeSet<String>| {
            paths.iter().any(|path| self.data.contains_key(path) && !removed.contains(path))
        };
        let done = self.deletes.iter().filter(|(_, (_, paths))| !needed(paths));
        done.map(|(path, _)| path.clone()).collect()
    }

    /// Files of the default spec by day, as the planner wants them. Others cannot be merged with them.
    pub(crate) fn by_day(&self, metadata: &TableMetadata) -> BTreeMap<i32, Vec<FileFacts>> {
        let spec_id = metadata.default_partition_spec_id();
        let dirty: HashSet<&String> = self.deletes.values().flat_map(|(_, paths)| paths.iter()).collect();
        let mut days: BTreeMap<i32, Vec<FileFacts>> = BTreeMap::new();
        for file in self.data.values().filter(|file| file.spec_id == spec_id) {
            let Some(day) = file.day else { continue };
            days.entry(day).or_default().push(FileFacts {
                path: file.path.clone(),
                level: Level::of_path(&file.path),
                bytes: file.bytes,
                number: file.number,
                has_deletes: dirty.contains(&file.path),
            });
        }
        days
    }

    /// Whether it can be compacted at all.
    pub(crate) fn foreign(&self, metadata: &TableMetadata) -> Option<Foreign> {
        let schema = metadata.current_schema();
        let by_day = match metadata.default_partition_spec().fields() {
            [field] => {
                field.transform == Transform::Day && schema.field_id_by_name(TS) == Some(field.source_id)
            }
            _ => false,
        };
        let unknown = |file: &Listed| {
            file.format != DataFileFormat::Parquet
                || (file.content == DataContentType::EqualityDeletes && file.equality_ids.is_none())
        };
        if !by_day {
            Some(Foreign::Partition)
        } else if self.deletes.values().any(|(file, _)| unknown(file)) {
            Some(Foreign::Deletes)
        } else {
            None
        }
    }
}

fn listed(manifest: &iceberg::spec::Manifest, file: &ManifestFile) -> Vec<Listed> {
    let live = manifest.entries().iter().filter(|entry| entry.is_alive());
    live.map(|entry| {
        let data = entry.data_file();
        let day = match data.partition().fields() {
            [Some(Literal::Primitive(PrimitiveLiteral::Int(day)))] => Some(*day),
            _ => None,
        };
        Listed {
            path: entry.file_path().to_owned(),
            content: data.content_type(),
            format: data.file_format(),
            day,
            spec_id: file.partition_spec_id,
            bytes: data.file_size_in_bytes(),
            rows: data.record_count(),
            number: entry.sequence_number().unwrap_or(file.sequence_number),
            sort_order: data.sort_order_id(),
            equality_ids: data.equality_ids(),
            about: data.referenced_data_file(),
        }
    })
    .collect()
}

/// The `file_path`s in a position-delete file.
async fn paths_in(store: &LakeStore, delete: &Listed) -> Result<BTreeSet<String>, LakeError> {
    let key = store.key_of(&delete.path)?;
    let bytes = store.read(&key).await?.ok_or_else(|| LakeError::corrupt(&key, "the delete file is gone"))?;
    let bad =
        |e: &dyn std::fmt::Display| LakeError::corrupt(&key, format!("it is no position-delete file: {e}"));
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(|e| bad(&e))?;
    let mask = ProjectionMask::columns(builder.parquet_schema(), ["file_path"]);
    let mut paths = BTreeSet::new();
    for batch in builder.with_projection(mask).build().map_err(|e| bad(&e))? {
        let batch = batch.map_err(|e| bad(&e))?;
        let column = batch.columns().first().and_then(|column| column.as_string_opt::<i32>());
        let column = column.ok_or_else(|| bad(&"it has no column file_path"))?;
        for path in column.iter().flatten() {
            if !paths.contains(path) {
                paths.insert(path.to_owned());
            }
        }
    }
    Ok(paths)
}

//! Manifests of a table's next state: files taken out of those that list them, small ones written together, foreign ones
//! carried. What comes, what goes and what stays of the manifests that are touched are listed in one new manifest.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};
use iceberg::spec::{
    DataContentType, DataFile, FormatVersion, Manifest, ManifestContentType, ManifestEntry, ManifestFile,
    ManifestWriter, ManifestWriterBuilder, SnapshotSummaryCollector, TableMetadata,
    UNASSIGNED_SEQUENCE_NUMBER,
};
use uuid::Uuid;

use super::super::TableError;
use super::fold::{self, Ladder};
use super::{Change, Context, TableState};
use crate::error::LakeError;
use crate::names::TableName;
use crate::store::{LakeStore, Stage};

/// Files one manifest lists at most: a few MB, that a reader parses in a fraction of a second.
const MANIFEST_FILES_MAX: usize = 8 << 10;

/// Manifests read at once: all that a merge takes, in one round trip.
const READS_MAX: usize = 128;

/// Manifests that are read ahead beside one commit's writes, in one round trip with them.
const AHEAD_MAX: usize = 64;

/// Manifests that one snapshot shares: those of one partition spec and content.
type Shelf = (i32, ManifestContentType);

fn shelf_of(manifest: &ManifestFile) -> Shelf {
    (manifest.partition_spec_id, manifest.content)
}

/// The manifest that lists new data files of the default spec. Sequence numbers are left to be inherited, so that it
/// can be linked on any base.
pub(crate) async fn manifest_of(
    store: &LakeStore,
    stage: &Stage,
    table: &TableName,
    draft: &TableMetadata,
    snapshot_id: i64,
    added: &[DataFile],
) -> Result<ManifestFile, LakeError> {
    let shelf = (draft.default_partition_spec_id(), ManifestContentType::Data);
    let mut writer = manifest_writer(stage, table, draft, snapshot_id, shelf)?;
    for file in added {
        let written = writer.add_file(file.clone(), UNASSIGNED_SEQUENCE_NUMBER);
        written.map_err(LakeError::iceberg(format!("write manifest of {table}")))?;
    }
    written(store, stage, table, writer).await
}

fn manifest_writer(
    stage: &Stage,
    table: &TableName,
    draft: &TableMetadata,
    snapshot_id: i64,
    (spec_id, content): Shelf,
) -> Result<ManifestWriter, LakeError> {
    let spec = draft.partition_spec_by_id(spec_id).ok_or_else(|| {
        LakeError::corrupt(table, format!("a manifest names partition spec {spec_id}, which is unknown"))
    })?;
    let url = format!("{}/metadata/{}-m.avro", draft.location(), Uuid::new_v4());
    let schema = Arc::clone(draft.current_schema());
    let builder =
        ManifestWriterBuilder::new(stage.output(&url), Some(snapshot_id), schema, spec.as_ref().clone());
    match (draft.format_version(), content) {
        (FormatVersion::V2, ManifestContentType::Data) => Ok(builder.build_v2_data()),
        (FormatVersion::V2, ManifestContentType::Deletes) => Ok(builder.build_v2_deletes()),
        (other, _) => {
            Err(LakeError::corrupt(table, format!("the table is of format {other:?}, this build writes v2")))
        }
    }
}

/// Ends a manifest on the stage, and keeps it in memory for the merge it will be part of.
async fn written(
    store: &LakeStore,
    stage: &Stage,
    table: &TableName,
    writer: ManifestWriter,
) -> Result<ManifestFile, LakeError> {
    let file = writer.write_manifest_file().await;
    let file = file.map_err(LakeError::iceberg(format!("write manifest of {table}")))?;
    if let Some(bytes) = stage.get(&file.manifest_path) {
        store.recent().keep(&file.manifest_path, bytes);
    }
    Ok(file)
}

/// Reads a manifest of the table, from memory if it is there.
pub(crate) async fn read(
    store: &LakeStore,
    table: &TableName,
    manifest: &ManifestFile,
) -> Result<Manifest, LakeError> {
    let failed = || LakeError::iceberg(format!("read manifest of {table}"));
    if manifest.key_metadata.is_some() {
        return manifest.load_manifest(&store.file_io()).await.map_err(failed());
    }
    let bytes = store.manifest(&manifest.manifest_path).await?;
    Manifest::parse_avro(&bytes).map_err(|e| {
        store.recent().forget(&manifest.manifest_path);
        failed()(e)
    })
}

/// Reads the manifests at these places, all at once.
async fn read_at(
    context: &Context<'_>,
    manifests: &[ManifestFile],
    places: impl IntoIterator<Item = usize>,
) -> Result<BTreeMap<usize, Manifest>, LakeError> {
    let reads: Vec<BoxFuture<'_, Result<(usize, Manifest), LakeError>>> = places
        .into_iter()
        .filter_map(|place| Some((place, manifests.get(place)?)))
        .map(|(place, file)| {
            async move { Ok((place, read(context.store, context.table, file).await?)) }.boxed()
        })
        .collect();
    futures::stream::iter(reads).buffer_unordered(READS_MAX).try_collect().await
}

/// Reads what the next merges of these tables will want and memory does not have: beside the writes of a commit, so that
/// none waits for it. What cannot be read now is read by the merge, which then says why not.
pub(crate) async fn read_ahead(store: &LakeStore, states: impl Iterator<Item = (&TableName, &TableState)>) {
    let is_kept = |manifest: &ManifestFile| store.recent().holds(&manifest.manifest_path);
    let mut wanted = Vec::new();
    for (table, state) in states {
        for shelf in shelves(&state.manifests) {
            let ladder = Ladder::of(on_shelf(&state.manifests, shelf));
            let ahead = ladder.wanted(fold::small_max(table), is_kept);
            wanted.extend(ahead.into_iter().map(|manifest| manifest.manifest_path.clone()));
        }
    }
    wanted.truncate(AHEAD_MAX);
    let reads = wanted.into_iter().map(|url| async move {
        if let Err(error) = store.manifest(&url).await {
            tracing::debug!(url, %error, "a manifest was not read ahead");
        }
    });
    futures::future::join_all(reads).await;
}

fn shelves(manifests: &[ManifestFile]) -> BTreeSet<(i32, bool)> {
    let deletes = |manifest: &ManifestFile| manifest.content == ManifestContentType::Deletes;
    manifests.iter().map(|manifest| (manifest.partition_spec_id, deletes(manifest))).collect()
}

/// The manifests of a shelf with their places.
fn on_shelf(
    manifests: &[ManifestFile],
    (spec_id, deletes): (i32, bool),
) -> impl Iterator<Item = (usize, &ManifestFile)> {
    let content = content_of(deletes);
    manifests.iter().enumerate().filter(move |(_, manifest)| shelf_of(manifest) == (spec_id, content))
}

fn content_of(deletes: bool) -> ManifestContentType {
    if deletes { ManifestContentType::Deletes } else { ManifestContentType::Data }
}

/// The birth of an entry: snapshot, data sequence number and file sequence number, inherited where it leaves them out.
fn born(entry: &ManifestEntry, listed_in: &ManifestFile) -> (i64, i64, Option<i64>) {
    let snapshot_id = entry.snapshot_id().unwrap_or(listed_in.added_snapshot_id);
    let number = entry.sequence_number().unwrap_or(listed_in.sequence_number);
    (snapshot_id, number, entry.file_sequence_number.or(Some(listed_in.sequence_number)))
}

/// Whether it lists a file that is still there, as far as it says.
pub(crate) fn has_live(manifest: &ManifestFile) -> bool {
    manifest.added_files_count.is_none_or(|count| count > 0)
        || manifest.existing_files_count.is_none_or(|count| count > 0)
}

/// New manifests of one shelf in the making: one, or several where one would list too many files.
struct Writing<'a> {
    context: &'a Context<'a>,
    stage: &'a Stage,
    draft: &'a TableMetadata,
    shelf: Shelf,
    open: Option<(ManifestWriter, usize)>,
    done: Vec<ManifestFile>,
}

impl<'a> Writing<'a> {
    fn new(
        context: &'a Context<'a>,
        stage: &'a Stage,
        draft: &'a TableMetadata,
        shelf: Shelf,
    ) -> Writing<'a> {
        Writing { context, stage, draft, shelf, open: None, done: Vec::new() }
    }

    /// Writes one entry with `write`, in a new manifest if the last is full.
    async fn entry(
        &mut self,
        write: impl FnOnce(&mut ManifestWriter) -> iceberg::Result<()>,
    ) -> Result<(), LakeError> {
        if self.open.as_ref().is_some_and(|(_, entries)| *entries >= MANIFEST_FILES_MAX) {
            self.close().await?;
        }
        let Context { table, snapshot_id, .. } = self.context;
        let (mut writer, entries) = match self.open.take() {
            Some(open) => open,
            None => (manifest_writer(self.stage, table, self.draft, *snapshot_id, self.shelf)?, 0),
        };
        write(&mut writer).map_err(LakeError::iceberg(format!("write manifest of {table}")))?;
        self.open = Some((writer, entries + 1));
        Ok(())
    }

    /// Lists what is alive in a manifest that goes. Entries of files deleted by older snapshots have served their purpose.
    async fn carry(
        &mut self,
        file: &ManifestFile,
        manifest: &Manifest,
        removed: &BTreeSet<String>,
    ) -> Result<(), LakeError> {
        for entry in manifest.entries().iter().filter(|entry| entry.is_alive()) {
            let (snapshot_id, number, file_number) = born(entry, file);
            let data_file = entry.data_file().clone();
            let goes = removed.contains(entry.file_path());
            self.entry(|writer| match goes {
                true => writer.add_delete_file(data_file, number, file_number),
                false => writer.add_existing_file(data_file, snapshot_id, number, file_number),
            })
            .await?;
        }
        Ok(())
    }

    async fn add(&mut self, file: &DataFile) -> Result<(), LakeError> {
        let file = file.clone();
        self.entry(|writer| writer.add_file(file, UNASSIGNED_SEQUENCE_NUMBER)).await
    }

    async fn close(&mut self) -> Result<(), LakeError> {
        if let Some((writer, _)) = self.open.take() {
            self.done.push(written(self.context.store, self.stage, self.context.table, writer).await?);
        }
        Ok(())
    }

    async fn finish(mut self) -> Result<Vec<ManifestFile>, LakeError> {
        self.close().await?;
        Ok(self.done)
    }
}

/// The manifests after a change whose added files no manifest lists yet: per shelf one new manifest with what comes, what
/// goes, and what stays of the manifests that had it, small ones that are in memory among them. So a change that takes
/// files away writes no more objects than one that adds some, and is the merge of manifests by the way.
pub(super) async fn changed(
    context: &Context<'_>,
    stage: &Stage,
    draft: &TableMetadata,
    manifests: Vec<ManifestFile>,
    change: &Change,
    summary: &mut SnapshotSummaryCollector,
) -> Result<Vec<ManifestFile>, LakeError> {
    let mut read = holding(context, &manifests, &change.removed).await?;
    count_removed(draft, &manifests, &read, &change.removed, summary);
    let mut touched: BTreeSet<(i32, bool)> = BTreeSet::new();
    for file in read.keys().filter_map(|place| manifests.get(*place)) {
        touched.insert((file.partition_spec_id, file.content == ManifestContentType::Deletes));
    }
    let is_kept = |manifest: &ManifestFile| context.store.recent().holds(&manifest.manifest_path);
    for shelf in &touched {
        let others = on_shelf(&manifests, *shelf).filter(|(place, _)| !read.contains_key(place));
        let beside = Ladder::of(others).beside(is_kept);
        read.extend(read_at(context, &manifests, beside).await?);
    }
    let is_delete = |file: &DataFile| file.content_type() != DataContentType::Data;
    let home = draft.default_partition_spec_id();
    touched.extend(change.added.iter().map(|file| (home, is_delete(file))));

    let mut new = Vec::new();
    for (spec_id, deletes) in touched {
        let shelf = (spec_id, content_of(deletes));
        let mut writing = Writing::new(context, stage, draft, shelf);
        for (place, manifest) in &read {
            if let Some(file) = manifests.get(*place).filter(|file| shelf_of(file) == shelf) {
                writing.carry(file, manifest, &change.removed).await?;
            }
        }
        for file in change.added.iter().filter(|file| spec_id == home && is_delete(file) == deletes) {
            writing.add(file).await?;
        }
        new.extend(writing.finish().await?);
    }
    let stay = manifests.into_iter().enumerate().filter(|(place, _)| !read.contains_key(place));
    Ok(stay.map(|(_, manifest)| manifest).chain(new).collect())
}

/// The manifests that list one of `removed` (data files and delete files alike), by place. They are looked through from the
/// newest on and no further than needed, since what goes is mostly young; the first look takes some, each further one
/// twice as many, all at once.
async fn holding(
    context: &Context<'_>,
    manifests: &[ManifestFile],
    removed: &BTreeSet<String>,
) -> Result<BTreeMap<usize, Manifest>, LakeError> {
    let mut places: Vec<usize> = (0..manifests.len()).rev().collect();
    places.retain(|place| manifests.get(*place).is_some_and(has_live));
    let (mut holding, mut found, mut look) = (BTreeMap::new(), 0, 16);
    while found < removed.len() && !places.is_empty() {
        let further = places.split_off(look.min(places.len()));
        for (place, manifest) in read_at(context, manifests, places).await? {
            let alive = manifest.entries().iter().filter(|entry| entry.is_alive());
            let here = alive.filter(|entry| removed.contains(entry.file_path())).count();
            if here > 0 {
                found += here;
                holding.insert(place, manifest);
            }
        }
        (places, look) = (further, look * 2);
    }
    if found == removed.len() {
        Ok(holding)
    } else {
        let missing = removed.len().saturating_sub(found);
        Err(TableError::FilesGone { table: context.table.clone(), missing }.into())
    }
}

/// Tells the snapshot's summary what goes.
fn count_removed(
    draft: &TableMetadata,
    manifests: &[ManifestFile],
    holding: &BTreeMap<usize, Manifest>,
    removed: &BTreeSet<String>,
    summary: &mut SnapshotSummaryCollector,
) {
    for (file, manifest) in holding.iter().filter_map(|(place, m)| Some((manifests.get(*place)?, m))) {
        let spec = draft.partition_spec_by_id(file.partition_spec_id);
        let spec = spec.unwrap_or(draft.default_partition_spec());
        let alive = manifest.entries().iter().filter(|entry| entry.is_alive());
        for entry in alive.filter(|entry| removed.contains(entry.file_path())) {
            summary.remove_file(entry.data_file(), Arc::clone(draft.current_schema()), Arc::clone(spec));
        }
    }
}

/// Merges the small manifests of each shelf when there are too many. Those that only say what older snapshots deleted
/// have served their purpose and go.
pub(super) async fn merged(
    context: &Context<'_>,
    stage: &Stage,
    draft: &TableMetadata,
    mut manifests: Vec<ManifestFile>,
) -> Result<Vec<ManifestFile>, LakeError> {
    manifests.retain(|file| file.added_snapshot_id == context.snapshot_id || has_live(file));
    let is_kept = |manifest: &ManifestFile| context.store.recent().holds(&manifest.manifest_path);
    for shelf in shelves(&manifests) {
        // One made by this very change is not numbered yet.
        let old =
            on_shelf(&manifests, shelf).filter(|(_, file)| file.added_snapshot_id != context.snapshot_id);
        let due = Ladder::of(old).due(fold::small_max(context.table), is_kept);
        let Some(first) = due.iter().min().copied() else { continue };
        let read = read_at(context, &manifests, due).await?;
        let mut writing = Writing::new(context, stage, draft, (shelf.0, content_of(shelf.1)));
        for (place, manifest) in &read {
            if let Some(file) = manifests.get(*place) {
                writing.carry(file, manifest, &BTreeSet::new()).await?;
            }
        }
        let mut merged = writing.finish().await?;
        let mut next = Vec::with_capacity(manifests.len());
        for (place, manifest) in manifests.into_iter().enumerate() {
            if place == first {
                next.append(&mut merged);
            }
            if !read.contains_key(&place) {
                next.push(manifest);
            }
        }
        manifests = next;
    }
    Ok(manifests)
}

//! Manifests of a table's next state: files taken out of those that list them, small ones merged, foreign ones carried.

use std::collections::BTreeSet;
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
use super::Context;
use crate::error::LakeError;
use crate::names::TableName;
use crate::store::Stage;

/// Manifests of one partition spec and content a table may list before the newest are merged: a reader opens each.
const MANIFESTS_MAX: usize = 30;

/// A manifest of this size is left as it is, so that a merge never rewrites more than this and a handful of small ones.
const MANIFEST_BYTES_FULL: i64 = 8 << 20;

/// Manifests read at once.
const READS_MAX: usize = 8;

/// Manifests that one snapshot shares: those of one partition spec and content.
type Shelf = (i32, ManifestContentType);

/// The manifest that lists new data files of the default spec. Sequence numbers are left to be inherited, so that it
/// can be linked on any base.
pub(crate) async fn manifest_of(
    stage: &Stage,
    table: &TableName,
    draft: &TableMetadata,
    snapshot_id: i64,
    added: &[DataFile],
) -> Result<ManifestFile, LakeError> {
    let shelf = (draft.default_partition_spec_id(), ManifestContentType::Data);
    listing(stage, table, draft, snapshot_id, shelf, added.iter()).await
}

/// New files of the default spec as manifests: one per content, since a manifest holds only one.
pub(super) async fn manifests_of(
    stage: &Stage,
    table: &TableName,
    draft: &TableMetadata,
    snapshot_id: i64,
    added: &[DataFile],
) -> Result<Vec<ManifestFile>, LakeError> {
    let spec_id = draft.default_partition_spec_id();
    let mut manifests = Vec::new();
    for content in [ManifestContentType::Data, ManifestContentType::Deletes] {
        let is_data = content == ManifestContentType::Data;
        let fits = |file: &&DataFile| (file.content_type() == DataContentType::Data) == is_data;
        if added.iter().any(|file| fits(&file)) {
            let files = added.iter().filter(fits);
            manifests.push(listing(stage, table, draft, snapshot_id, (spec_id, content), files).await?);
        }
    }
    Ok(manifests)
}

async fn listing<'a>(
    stage: &Stage,
    table: &TableName,
    draft: &TableMetadata,
    snapshot_id: i64,
    shelf: Shelf,
    files: impl Iterator<Item = &'a DataFile>,
) -> Result<ManifestFile, LakeError> {
    let fail = || LakeError::iceberg(format!("write manifest of {table}"));
    let mut writer = manifest_writer(stage, table, draft, snapshot_id, shelf)?;
    for file in files {
        writer.add_file(file.clone(), UNASSIGNED_SEQUENCE_NUMBER).map_err(fail())?;
    }
    writer.write_manifest_file().await.map_err(fail())
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

/// Reads a manifest of the table.
pub(crate) async fn read(
    store: &crate::store::LakeStore,
    table: &TableName,
    manifest: &ManifestFile,
) -> Result<Manifest, LakeError> {
    let read = manifest.load_manifest(&store.file_io()).await;
    read.map_err(LakeError::iceberg(format!("read manifest of {table}")))
}

/// The birth of an entry: snapshot, data sequence number and file sequence number, inherited where it leaves them out.
fn born(entry: &ManifestEntry, listed_in: &ManifestFile) -> (i64, i64, Option<i64>) {
    let snapshot_id = entry.snapshot_id().unwrap_or(listed_in.added_snapshot_id);
    let number = entry.sequence_number().unwrap_or(listed_in.sequence_number);
    (snapshot_id, number, entry.file_sequence_number.or(Some(listed_in.sequence_number)))
}

/// The manifests without `removed` (data files and delete files alike); only those that list one of them are rewritten.
/// They are looked through from the newest on and no further than needed: what goes is mostly young.
pub(super) async fn without(
    context: &Context<'_>,
    stage: &Stage,
    draft: &TableMetadata,
    mut manifests: Vec<ManifestFile>,
    removed: &BTreeSet<String>,
    summary: &mut SnapshotSummaryCollector,
) -> Result<Vec<ManifestFile>, LakeError> {
    let mut found = 0;
    for file in manifests.iter_mut().rev().filter(|file| has_live(file)) {
        if found == removed.len() {
            break;
        }
        let manifest = read(context.store, context.table, file).await?;
        let here =
            manifest.entries().iter().filter(|entry| entry.is_alive() && removed.contains(entry.file_path()));
        let here = here.count();
        if here > 0 {
            *file = rewritten(context, stage, draft, file, &manifest, removed, summary).await?;
            found += here;
        }
    }
    if found == removed.len() {
        Ok(manifests)
    } else {
        let missing = removed.len().saturating_sub(found);
        Err(TableError::FilesGone { table: context.table.clone(), missing }.into())
    }
}

async fn rewritten(
    context: &Context<'_>,
    stage: &Stage,
    draft: &TableMetadata,
    file: &ManifestFile,
    manifest: &Manifest,
    removed: &BTreeSet<String>,
    summary: &mut SnapshotSummaryCollector,
) -> Result<ManifestFile, LakeError> {
    let fail = || LakeError::iceberg(format!("rewrite manifest of {}", context.table));
    let shelf = (file.partition_spec_id, file.content);
    let mut writer = manifest_writer(stage, context.table, draft, context.snapshot_id, shelf)?;
    let spec = draft.partition_spec_by_id(file.partition_spec_id).unwrap_or(draft.default_partition_spec());
    for entry in manifest.entries().iter().filter(|entry| entry.is_alive()) {
        let (snapshot_id, number, file_number) = born(entry, file);
        let data_file = entry.data_file().clone();
        if removed.contains(entry.file_path()) {
            summary.remove_file(&data_file, Arc::clone(draft.current_schema()), Arc::clone(spec));
            writer.add_delete_file(data_file, number, file_number).map_err(fail())?;
        } else {
            writer.add_existing_file(data_file, snapshot_id, number, file_number).map_err(fail())?;
        }
    }
    writer.write_manifest_file().await.map_err(fail())
}

/// Whether it lists a file that is still there, as far as it says.
pub(crate) fn has_live(manifest: &ManifestFile) -> bool {
    manifest.added_files_count.is_none_or(|count| count > 0)
        || manifest.existing_files_count.is_none_or(|count| count > 0)
}

/// Merges the newest manifests of each shelf when there are too many. Those that only say what older snapshots deleted
/// have served their purpose and go.
pub(super) async fn merged(
    context: &Context<'_>,
    stage: &Stage,
    draft: &TableMetadata,
    mut manifests: Vec<ManifestFile>,
) -> Result<Vec<ManifestFile>, LakeError> {
    manifests.retain(|file| file.added_snapshot_id == context.snapshot_id || has_live(file));
    let shelves: BTreeSet<(i32, bool)> = manifests
        .iter()
        .map(|file| (file.partition_spec_id, file.content == ManifestContentType::Deletes))
        .collect();
    for (spec_id, deletes) in shelves {
        let content = if deletes { ManifestContentType::Deletes } else { ManifestContentType::Data };
        manifests = merged_shelf(context, stage, draft, manifests, (spec_id, content)).await?;
    }
    Ok(manifests)
}

async fn merged_shelf(
    context: &Context<'_>,
    stage: &Stage,
    draft: &TableMetadata,
    manifests: Vec<ManifestFile>,
    shelf: Shelf,
) -> Result<Vec<ManifestFile>, LakeError> {
    let Some(run) = run_to_merge(&manifests, shelf, context.snapshot_id) else { return Ok(manifests) };
    let fail = || LakeError::iceberg(format!("merge manifests of {}", context.table));
    let reads: Vec<BoxFuture<'_, _>> = run
        .iter()
        .map(|&place| {
            let file = manifests[place].clone();
            let read =
                async move { Ok::<_, LakeError>((read(context.store, context.table, &file).await?, file)) };
            read.boxed()
        })
        .collect();
    let found: Vec<(Manifest, ManifestFile)> =
        futures::stream::iter(reads).buffered(READS_MAX).try_collect().await?;
    let mut writer = manifest_writer(stage, context.table, draft, context.snapshot_id, shelf)?;
    for (manifest, file) in &found {
        // Entries of files deleted by older snapshots have served their purpose.
        for entry in manifest.entries().iter().filter(|entry| entry.is_alive()) {
            let (snapshot_id, number, file_number) = born(entry, file);
            let data_file = entry.data_file().clone();
            writer.add_existing_file(data_file, snapshot_id, number, file_number).map_err(fail())?;
        }
    }
    let one = writer.write_manifest_file().await.map_err(fail())?;
    let first = run.first().copied().unwrap_or(0);
    let mut kept = Vec::with_capacity(manifests.len());
    for (place, manifest) in manifests.into_iter().enumerate() {
        if place == first {
            kept.push(one.clone());
        } else if !run.contains(&place) {
            kept.push(manifest);
        }
    }
    Ok(kept)
}

/// Places of the manifests to be merged, if there are too many. A run grows backwards while the next one is no larger
/// than twice all newer ones together, so each entry is rewritten a logarithmic number of times and a commit's cost does
/// not grow.
fn run_to_merge(manifests: &[ManifestFile], shelf: Shelf, snapshot_id: i64) -> Option<BTreeSet<usize>> {
    let mergeable = |m: &ManifestFile| {
        (m.partition_spec_id, m.content) == shelf
            && m.manifest_length < MANIFEST_BYTES_FULL
            // One made by this very change (files removed) has its bytes still on the stage.
            && m.added_snapshot_id != snapshot_id
    };
    if manifests.iter().filter(|m| mergeable(m)).count() < MANIFESTS_MAX {
        return None;
    }
    let mut run: BTreeSet<usize> = BTreeSet::new();
    let mut bytes = 0;
    for (place, manifest) in manifests.iter().enumerate().rev().filter(|(_, m)| mergeable(m)) {
        if run.len() >= 2 && manifest.manifest_length > 2 * bytes {
            break;
        }
        run.insert(place);
        bytes += manifest.manifest_length;
        if bytes >= MANIFEST_BYTES_FULL {
            break;
        }
    }
    Some(run)
}

//! The snapshot producer: a table's next state from its last one and a change, as files to be written.
//!
//! Iceberg's own transaction knows appends only, never merges manifests and writes as it goes. This one builds
//! everything in memory, keeps metadata bounded (manifests merged, snapshots trimmed), and is run again on another base
//! when a commit lost a race: data files and their manifest stay, only what links them is rebuilt.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};
use iceberg::MetadataLocation;
use iceberg::spec::{
    DataFile, FormatVersion, MAIN_BRANCH, Manifest, ManifestContentType, ManifestFile, ManifestList,
    ManifestListWriter, ManifestWriter, ManifestWriterBuilder, Operation, Snapshot, SnapshotSummaryCollector,
    Summary, TableMetadata, UNASSIGNED_SEQUENCE_NUMBER,
};
use uuid::Uuid;

use super::{Drafted, TableError, TableSpec, evolve};
use crate::error::LakeError;
use crate::names::TableName;
use crate::repo::TableEntry;
use crate::store::{LakeStore, Stage};

/// Manifests a table may list before the newest are merged: a reader opens each of them.
const MANIFESTS_MAX: usize = 30;

/// A manifest of this size is left as it is, so that a merge never rewrites more than this and a handful of small ones.
const MANIFEST_BYTES_FULL: i64 = 8 << 20;

/// Snapshots a table keeps; older states stay reachable through older commits.
pub(crate) const SNAPSHOTS_MAX: usize = 20;

/// Manifests read at once while merging.
const READS_MAX: usize = 8;

/// A table as a commit has it, with what the next commit needs in memory.
#[derive(Debug, Clone)]
pub(crate) struct TableState {
    pub(crate) entry: TableEntry,
    pub(crate) metadata: Arc<TableMetadata>,
    pub(crate) manifests: Vec<ManifestFile>,
}

/// What is to change.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    /// Files that come in, in the order of their manifest.
    pub(crate) added: Vec<DataFile>,
    /// The manifest that lists them, if any.
    pub(crate) added_manifest: Option<ManifestFile>,
    /// URLs of files that go. One that is not there is a conflict.
    pub(crate) removed: BTreeSet<String>,
    /// What readers are told it is.
    pub(crate) operation: Operation,
}

/// Whom and when a snapshot is made for.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    pub(crate) store: &'a LakeStore,
    pub(crate) table: &'a TableName,
    pub(crate) snapshot_id: i64,
    pub(crate) time_us: i64,
    /// Further words for the snapshot's summary.
    pub(crate) summary: &'a BTreeMap<String, String>,
}

/// The next state and the files that make it, by URL.
#[derive(Debug)]
pub(crate) struct Built {
    pub(crate) state: TableState,
    pub(crate) files: BTreeMap<String, Bytes>,
}

/// Reads the state a commit's entry names.
pub(crate) async fn load(
    store: &LakeStore,
    table: &TableName,
    entry: &TableEntry,
) -> Result<TableState, LakeError> {
    let metadata = TableMetadata::read_from(&store.file_io(), &entry.metadata_location)
        .await
        .map_err(LakeError::iceberg(format!("read metadata of {table}")))?;
    let manifests = match metadata.current_snapshot() {
        None => Vec::new(),
        Some(snapshot) => {
            let key = store.key_of(snapshot.manifest_list())?;
            let bytes = store
                .read(&key)
                .await?
                .ok_or_else(|| LakeError::corrupt(&key, "the manifest list is gone"))?;
            ManifestList::parse_with_version(&bytes, metadata.format_version())
                .map_err(LakeError::iceberg(format!("read manifest list of {table}")))?
                .consume_entries()
                .into_iter()
                .collect()
        }
    };
    Ok(TableState { entry: entry.clone(), metadata: Arc::new(metadata), manifests })
}

/// A snapshot id: random, positive.
pub(crate) fn snapshot_id() -> i64 {
    i64::try_from(Uuid::new_v4().as_u64_pair().0 >> 1).expect("63 bits are a positive i64")
}

/// The manifest that lists new files. Sequence numbers are left to be inherited, so that it can be linked on any base.
pub(crate) async fn manifest_of(
    stage: &Stage,
    table: &TableName,
    draft: &TableMetadata,
    snapshot_id: i64,
    added: &[DataFile],
) -> Result<ManifestFile, LakeError> {
    let fail = || LakeError::iceberg(format!("write manifest of {table}"));
    let mut writer = manifest_writer(stage, table, draft, snapshot_id, draft.default_partition_spec_id())?;
    for file in added {
        writer.add_file(file.clone(), UNASSIGNED_SEQUENCE_NUMBER).map_err(fail())?;
    }
    writer.write_manifest_file().await.map_err(fail())
}

fn manifest_writer(
    stage: &Stage,
    table: &TableName,
    draft: &TableMetadata,
    snapshot_id: i64,
    spec_id: i32,
) -> Result<ManifestWriter, LakeError> {
    let spec = draft.partition_spec_by_id(spec_id).ok_or_else(|| {
        LakeError::corrupt(table, format!("a manifest names partition spec {spec_id}, which is unknown"))
    })?;
    let url = format!("{}/metadata/{}-m.avro", draft.location(), Uuid::new_v4());
    let schema = Arc::clone(draft.current_schema());
    let builder =
        ManifestWriterBuilder::new(stage.output(&url), Some(snapshot_id), schema, spec.as_ref().clone());
    match draft.format_version() {
        FormatVersion::V2 => Ok(builder.build_v2_data()),
        other => {
            Err(LakeError::corrupt(table, format!("the table is of format {other:?}, this build writes v2")))
        }
    }
}

/// Builds the state after `change` on `base`; `drafted` holds schema and properties it shall have.
pub(crate) async fn produce(
    context: &Context<'_>,
    drafted: Drafted,
    base: Option<&TableState>,
    change: &Change,
) -> Result<Built, LakeError> {
    let fail = || LakeError::iceberg(format!("build snapshot of {}", context.table));
    let Drafted { builder, draft } = drafted;
    let stage = Stage::default();
    let mut summary = SnapshotSummaryCollector::default();
    let spec = draft.default_partition_spec();
    for file in &change.added {
        summary.add_file(file, Arc::clone(draft.current_schema()), Arc::clone(spec));
    }

    let mut manifests = base.map_or_else(Vec::new, |base| base.manifests.clone());
    if !change.removed.is_empty() {
        manifests = without(context, &stage, &draft, manifests, &change.removed, &mut summary).await?;
    }
    manifests = merged(context, &stage, &draft, manifests).await?;
    manifests.extend(change.added_manifest.clone());

    let parent = base.and_then(|base| base.metadata.current_snapshot());
    let sequence_number = draft.next_sequence_number();
    let list_url =
        format!("{}/metadata/snap-{}-{}.avro", draft.location(), context.snapshot_id, Uuid::new_v4());
    let parent_id = parent.map(|parent| parent.snapshot_id());
    let output = stage.output(&list_url).writer().await.map_err(fail())?;
    let mut list = ManifestListWriter::v2(output, context.snapshot_id, parent_id, sequence_number);
    list.add_manifests(manifests.iter().cloned()).map_err(fail())?;
    list.close().await.map_err(fail())?;
    for manifest in &mut manifests {
        for number in [&mut manifest.sequence_number, &mut manifest.min_sequence_number] {
            if *number == UNASSIGNED_SEQUENCE_NUMBER {
                *number = sequence_number;
            }
        }
    }

    let mut words: HashMap<String, String> =
        context.summary.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    words.extend(summary.build());
    let totals = carry_totals(&mut words, parent.map(|parent| parent.summary()), context.table)?;
    // A clock that stepped back must not make a snapshot older than its parent: readers refuse that.
    let time_ms =
        context.time_us.div_euclid(1000).max(base.map_or(i64::MIN, |base| base.metadata.last_updated_ms()));
    let snapshot = Snapshot::builder()
        .with_snapshot_id(context.snapshot_id)
        .with_parent_snapshot_id(parent_id)
        .with_sequence_number(sequence_number)
        .with_timestamp_ms(time_ms)
        .with_manifest_list(list_url)
        .with_summary(Summary { operation: change.operation.clone(), additional_properties: words })
        .with_schema_id(draft.current_schema_id())
        .build();
    // Only the oldest go: a hole would make readers forget everything before it.
    let mut kept: Vec<(i64, i64)> =
        draft.snapshots().map(|s| (s.sequence_number(), s.snapshot_id())).collect();
    kept.sort_unstable();
    let trimmed: Vec<i64> =
        kept.iter().take((kept.len() + 1).saturating_sub(SNAPSHOTS_MAX)).map(|(_, id)| *id).collect();
    let metadata = builder
        .set_branch_snapshot(snapshot, MAIN_BRANCH)
        .map_err(fail())?
        .remove_snapshots(&trimmed)
        .build()
        .map_err(fail())?
        .metadata;

    let location = match base {
        None => MetadataLocation::new_with_metadata(metadata.location(), &metadata),
        Some(base) => {
            let last = MetadataLocation::from_str(&base.entry.metadata_location).map_err(fail())?;
            last.with_next_version().with_new_metadata(&metadata)
        }
    };
    let metadata_location = location.to_string();
    let json = serde_json::to_vec(&metadata).map_err(|e| LakeError::corrupt(context.table, e))?;
    let mut files = stage.take();
    files.insert(metadata_location.clone(), Bytes::from(json));
    let entry = TableEntry {
        uuid: metadata.uuid(),
        metadata_location,
        snapshot_id: Some(context.snapshot_id),
        schema_id: metadata.current_schema_id(),
        sequence_number,
        rows: totals.rows,
        bytes: totals.bytes,
    };
    Ok(Built { state: TableState { entry, metadata: Arc::new(metadata), manifests }, files })
}

/// Builds the state after `change` on `base`, in the same shape.
pub(crate) async fn change(
    context: &Context<'_>,
    base: &TableState,
    change: &Change,
) -> Result<Built, LakeError> {
    let same = TableSpec::new(context.table.clone(), Vec::new(), &[]);
    let drafted = evolve(&base.metadata, &base.entry.metadata_location, &same)?;
    produce(context, drafted, Some(base), change).await
}

async fn read(context: &Context<'_>, manifest: &ManifestFile) -> Result<Manifest, LakeError> {
    let read = manifest.load_manifest(&context.store.file_io()).await;
    read.map_err(LakeError::iceberg(format!("read manifest of {}", context.table)))
}

/// The manifests without `removed`; only those that list one of them are rewritten.
async fn without(
    context: &Context<'_>,
    stage: &Stage,
    draft: &TableMetadata,
    manifests: Vec<ManifestFile>,
    removed: &BTreeSet<String>,
    summary: &mut SnapshotSummaryCollector,
) -> Result<Vec<ManifestFile>, LakeError> {
    let fail = || LakeError::iceberg(format!("rewrite manifest of {}", context.table));
    let mut found = 0;
    let mut kept = Vec::with_capacity(manifests.len());
    for file in manifests {
        if file.content != ManifestContentType::Data {
            kept.push(file);
            continue;
        }
        let manifest = read(context, &file).await?;
        if !manifest.entries().iter().any(|entry| entry.is_alive() && removed.contains(entry.file_path())) {
            kept.push(file);
            continue;
        }
        let mut writer =
            manifest_writer(stage, context.table, draft, context.snapshot_id, file.partition_spec_id)?;
        let spec =
            draft.partition_spec_by_id(file.partition_spec_id).unwrap_or(draft.default_partition_spec());
        for entry in manifest.entries().iter().filter(|entry| entry.is_alive()) {
            let sequence_number = entry.sequence_number().unwrap_or(file.sequence_number);
            let file_number = entry.file_sequence_number.or(Some(file.sequence_number));
            let data_file = entry.data_file().clone();
            if removed.contains(entry.file_path()) {
                found += 1;
                summary.remove_file(&data_file, Arc::clone(draft.current_schema()), Arc::clone(spec));
                writer.add_delete_file(data_file, sequence_number, file_number).map_err(fail())?;
            } else {
                let born = entry.snapshot_id().unwrap_or(file.added_snapshot_id);
                writer.add_existing_file(data_file, born, sequence_number, file_number).map_err(fail())?;
            }
        }
        kept.push(writer.write_manifest_file().await.map_err(fail())?);
    }
    if found == removed.len() {
        Ok(kept)
    } else {
        Err(TableError::FilesGone { table: context.table.clone(), missing: removed.len() - found }.into())
    }
}

/// Merges the newest manifests when there are too many. A run grows backwards while the next one is no larger than all
/// newer ones together, so each entry is rewritten a logarithmic number of times and a commit's cost does not grow.
async fn merged(
    context: &Context<'_>,
    stage: &Stage,
    draft: &TableMetadata,
    manifests: Vec<ManifestFile>,
) -> Result<Vec<ManifestFile>, LakeError> {
    let spec_id = draft.default_partition_spec_id();
    let mergeable = |m: &ManifestFile| {
        m.content == ManifestContentType::Data
            && m.partition_spec_id == spec_id
            && m.manifest_length < MANIFEST_BYTES_FULL
            // One made by this very change (files removed) has its bytes still on the stage.
            && m.added_snapshot_id != context.snapshot_id
    };
    if manifests.iter().filter(|m| mergeable(m)).count() < MANIFESTS_MAX {
        return Ok(manifests);
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

    let fail = || LakeError::iceberg(format!("merge manifests of {}", context.table));
    let reads: Vec<BoxFuture<'_, _>> = run
        .iter()
        .map(|&place| {
            let file = manifests[place].clone();
            async move { Ok::<_, LakeError>((read(context, &file).await?, file)) }.boxed()
        })
        .collect();
    let found: Vec<(Manifest, ManifestFile)> =
        futures::stream::iter(reads).buffered(READS_MAX).try_collect().await?;
    let mut writer = manifest_writer(stage, context.table, draft, context.snapshot_id, spec_id)?;
    for (manifest, file) in &found {
        // Entries of files deleted by older snapshots have served their purpose.
        for entry in manifest.entries().iter().filter(|entry| entry.is_alive()) {
            let born = entry.snapshot_id().unwrap_or(file.added_snapshot_id);
            let sequence_number = entry.sequence_number().unwrap_or(file.sequence_number);
            let file_number = entry.file_sequence_number.or(Some(file.sequence_number));
            writer
                .add_existing_file(entry.data_file().clone(), born, sequence_number, file_number)
                .map_err(fail())?;
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

struct Totals {
    rows: u64,
    bytes: u64,
}

/// Carries the `total-*` counters from the parent: readers show them, and nobody adds them up again.
fn carry_totals(
    words: &mut HashMap<String, String>,
    parent: Option<&Summary>,
    table: &TableName,
) -> Result<Totals, LakeError> {
    let number = |word: Option<&String>| match word {
        None => Ok(0u64),
        Some(text) => {
            text.parse::<u64>().map_err(|e| LakeError::corrupt(table, format!("counter {text:?}: {e}")))
        }
    };
    let mut totals = HashMap::new();
    for (total, added, removed) in [
        ("total-records", "added-records", "deleted-records"),
        ("total-files-size", "added-files-size", "removed-files-size"),
        ("total-data-files", "added-data-files", "deleted-data-files"),
        ("total-delete-files", "added-delete-files", "removed-delete-files"),
        ("total-position-deletes", "added-position-deletes", "removed-position-deletes"),
        ("total-equality-deletes", "added-equality-deletes", "removed-equality-deletes"),
    ] {
        let before = number(parent.and_then(|parent| parent.additional_properties.get(total)))?;
        let after = (before + number(words.get(added))?).saturating_sub(number(words.get(removed))?);
        words.insert(total.to_owned(), after.to_string());
        totals.insert(total, after);
    }
    Ok(Totals { rows: totals["total-records"], bytes: totals["total-files-size"] })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::RefName;
    use crate::table::{ColumnSpec, ColumnType, TS, UTC};
    use crate::{CommitRequest, Lake, TableAppend, testing};
    use arrow_array::{ArrayRef, RecordBatch, TimestampMicrosecondArray};

    fn spec() -> TableSpec {
        let columns = vec![ColumnSpec::required(TS, ColumnType::Timestamptz)];
        TableSpec::new(TableName::new("raw.imu").unwrap(), columns, &[TS])
    }

    /// Forty commits of one row each, so that one merge has happened.
    async fn forty() -> (Lake, TableState) {
        let lake = testing::memory().await.unwrap();
        let mut writer = lake.writer(RefName::main(), "test".to_owned());
        for n in 0..40 {
            let ts: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![n]).with_timezone(UTC));
            let batches = vec![RecordBatch::try_from_iter([(TS, ts)]).unwrap()];
            let appends = vec![TableAppend { spec: spec(), batches }];
            writer.commit(CommitRequest { time_us: n, appends, ..CommitRequest::default() }).await.unwrap();
        }
        let tables = lake.tables(&lake.resolve("main").await.unwrap()).await.unwrap();
        let name = spec().name;
        let state = load(lake.store(), &name, &tables[&name]).await.unwrap();
        (lake, state)
    }

    async fn replace(lake: &Lake, base: &TableState, removed: BTreeSet<String>) -> Result<Built, LakeError> {
        let (name, summary) = (spec().name, BTreeMap::new());
        let context = Context {
            store: lake.store(),
            table: &name,
            snapshot_id: snapshot_id(),
            time_us: 0,
            summary: &summary,
        };
        let drafted = evolve(&base.metadata, &base.entry.metadata_location, &spec())?;
        let change =
            Change { added: Vec::new(), added_manifest: None, removed, operation: Operation::Delete };
        produce(&context, drafted, Some(base), &change).await
    }

    async fn alive(lake: &Lake, state: &TableState) -> BTreeMap<String, (i64, i64)> {
        let mut found = BTreeMap::new();
        for file in &state.manifests {
            for entry in file.load_manifest(&lake.store().file_io()).await.unwrap().entries() {
                if entry.is_alive() {
                    let born = (entry.snapshot_id().unwrap(), entry.sequence_number().unwrap());
                    found.insert(entry.file_path().to_owned(), born);
                }
            }
        }
        found
    }

    #[tokio::test]
    async fn removing_files_keeps_the_birth_of_the_others_and_the_totals() {
        let (lake, base) = forty().await;
        assert!(base.manifests.len() < 15, "{}", base.manifests.len());
        let before = alive(&lake, &base).await;
        let sequence_numbers: BTreeSet<i64> = before.values().map(|(_, number)| *number).collect();
        assert_eq!(sequence_numbers, (1..=40).collect(), "a merge keeps each file's own number");

        let gone: BTreeSet<String> = before.keys().step_by(3).cloned().collect();
        let built = replace(&lake, &base, gone.clone()).await.unwrap();
        lake.store().create_all(built.files.into_iter().collect()).await.unwrap();
        let state = load(lake.store(), &spec().name, &built.state.entry).await.unwrap();
        assert_eq!(state.manifests, built.state.manifests);
        let mut expected = before.clone();
        expected.retain(|path, _| !gone.contains(path));
        assert_eq!(alive(&lake, &state).await, expected);
        assert_eq!(state.entry.rows, 26);
        assert!(state.entry.bytes < base.entry.bytes);

        let twice = replace(&lake, &state, gone).await.unwrap_err().to_string();
        assert_eq!(twice, "change raw.imu: 14 of the files to be replaced are no longer in it");
    }
}

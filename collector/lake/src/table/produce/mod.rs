//! The snapshot producer: a table's next state from its last one and a change, as files to be written.
//!
//! Iceberg's own transaction knows appends only, never merges manifests and writes as it goes. This one builds
//! everything in memory, keeps metadata bounded (manifests merged, snapshots trimmed), and is run again on another base
//! when a commit lost a race: data files and their manifest stay, only what links them is rebuilt.

mod fold;
mod manifests;
mod totals;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use iceberg::MetadataLocation;
use iceberg::spec::{
    DataFile, MAIN_BRANCH, ManifestFile, ManifestList, ManifestListWriter, Operation, Snapshot,
    SnapshotSummaryCollector, Summary, TableMetadata, TableMetadataBuilder, UNASSIGNED_SEQUENCE_NUMBER,
};
use uuid::Uuid;

use self::manifests::{changed, merged};
pub(crate) use self::manifests::{has_live, manifest_of, read as read_manifest, read_ahead};
use self::totals::carry_totals;
use super::{Drafted, TableSpec, evolve};
use crate::error::LakeError;
use crate::names::TableName;
use crate::repo::TableEntry;
use crate::store::{LakeStore, Stage};

/// Snapshots a table keeps; older states stay reachable through older commits.
pub(crate) const SNAPSHOTS_MAX: usize = 20;

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
    /// Files of the default partition spec that come in, in the order of their manifest.
    pub(crate) added: Vec<DataFile>,
    /// The manifest that lists them, if it is made already: good for a change that removes nothing. Otherwise they are
    /// listed anew on every base, beside what is removed.
    pub(crate) added_manifest: Option<ManifestFile>,
    /// URLs of files that go, data files and delete files alike. One that is not there is a conflict.
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
    let made = change.added_manifest.as_ref().filter(|_| change.removed.is_empty());
    if made.is_none() {
        manifests = changed(context, &stage, &draft, manifests, change, &mut summary).await?;
    }
    manifests = merged(context, &stage, &draft, manifests).await?;
    manifests.extend(made.cloned());

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
    let metadata = next_metadata(builder, &draft, snapshot).map_err(fail())?;

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

/// Adds the snapshot and lets go of what history would pile up in a metadata file: old snapshots, and schemas that none
/// of those left was written with. Older states stay reachable through the metadata files of older commits.
fn next_metadata(
    builder: TableMetadataBuilder,
    draft: &TableMetadata,
    snapshot: Snapshot,
) -> iceberg::Result<TableMetadata> {
    let current = draft.current_schema_id();
    // Only the oldest go: a hole would make readers forget everything before it.
    let mut kept: Vec<(i64, i64, Option<i32>)> =
        draft.snapshots().map(|s| (s.sequence_number(), s.snapshot_id(), s.schema_id())).collect();
    kept.sort_unstable();
    let over = (kept.len() + 1).saturating_sub(SNAPSHOTS_MAX);
    let trimmed: Vec<i64> = kept.drain(..over).map(|(_, id, _)| id).collect();
    let named: BTreeSet<i32> = kept.iter().filter_map(|(_, _, schema)| *schema).collect();
    let unused: Vec<i32> = draft
        .schemas_iter()
        .map(|schema| schema.schema_id())
        .filter(|id| *id != current && !named.contains(id))
        .collect();
    let builder = builder.set_branch_snapshot(snapshot, MAIN_BRANCH)?.remove_snapshots(&trimmed);
    let builder = if unused.is_empty() { builder } else { builder.remove_schemas(&unused)? };
    Ok(builder.build()?.metadata)
}

#[cfg(test)]
mod tests;

//! A table's next metadata out of its base and updates that were judged.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use iceberg::spec::{Snapshot, Summary, TableMetadata, TableMetadataBuilder};
use iceberg::{MetadataLocation, TableUpdate};

use super::files::{Listed, Totals};
use super::schema::is_ours;
use super::{ForeignError, schema};
use crate::error::LakeError;
use crate::names::TableName;
use crate::repo::TableEntry;
use crate::table::{Built, SNAPSHOTS_MAX, TableState, with_field_ids};

/// Applies `updates` on `base`, whose metadata lies at `base_location`; none for a table that is new.
pub(super) fn apply(
    table: &TableName,
    base: &TableMetadata,
    base_location: Option<&str>,
    updates: Vec<TableUpdate>,
) -> Result<TableMetadata, LakeError> {
    let wrong = |e: iceberg::Error| ForeignError::Body { table: table.to_string(), reason: e.to_string() };
    let mut builder = base.clone().into_builder(base_location.map(str::to_owned));
    for update in updates {
        let update = match update {
            TableUpdate::AddSchema { schema } => {
                let schema = schema::with_docs(base.current_schema(), &schema).map_err(wrong)?;
                TableUpdate::AddSchema { schema }
            }
            other => other,
        };
        builder = update.apply(builder).map_err(wrong)?;
    }
    let mut draft = finish(table, builder.clone())?;
    if base_location.is_some() {
        schema::check(table, base, &draft)?;
    }
    if is_ours(base) && draft.current_schema_id() != base.current_schema_id() {
        let drafted = with_field_ids(builder, draft.current_schema(), table)?;
        (builder, draft) = (drafted.builder, TableMetadata::clone(&drafted.draft));
    }
    let superfluous = superfluous(&draft);
    if superfluous.is_empty() {
        return Ok(draft);
    }
    finish(table, builder.remove_snapshots(&superfluous))
}

fn finish(table: &TableName, builder: TableMetadataBuilder) -> Result<TableMetadata, LakeError> {
    let wrong = |e: iceberg::Error| ForeignError::Body { table: table.to_string(), reason: e.to_string() };
    let metadata = builder.build().map_err(wrong)?.metadata;
    for snapshot in metadata.snapshots() {
        if let Some(id) = snapshot.schema_id().filter(|id| metadata.schema_by_id(*id).is_none()) {
            let reason = format!("snapshot {} names schema {id}, which is unknown", snapshot.snapshot_id());
            return Err(ForeignError::Body { table: table.to_string(), reason }.into());
        }
    }
    Ok(metadata)
}

/// The oldest snapshots beyond those a table keeps. Only a prefix: a hole would make readers forget what is before it.
fn superfluous(metadata: &TableMetadata) -> Vec<i64> {
    let mut by_age: Vec<(i64, i64)> =
        metadata.snapshots().map(|s| (s.sequence_number(), s.snapshot_id())).collect();
    by_age.sort_unstable();
    let ids = by_age.iter().map(|(_, id)| *id).take(by_age.len().saturating_sub(SNAPSHOTS_MAX));
    ids.take_while(|id| Some(*id) != metadata.current_snapshot_id()).collect()
}

/// The same snapshot with our words beside its own, with totals that hold, and not older than `not_before_ms`: a client
/// whose clock is behind must not make a snapshot older than its parent, which readers refuse.
pub(super) fn annotated(
    snapshot: &Snapshot,
    totals: &Totals,
    words: &BTreeMap<String, String>,
    not_before_ms: i64,
) -> Snapshot {
    let mut all = snapshot.summary().additional_properties.clone();
    all.extend(words.iter().map(|(k, v)| (k.clone(), v.clone())));
    all.extend(totals.words().map(|(k, v)| (k.to_owned(), v.to_string())));
    let summary = Summary { operation: snapshot.summary().operation.clone(), additional_properties: all };
    Snapshot::builder()
        .with_snapshot_id(snapshot.snapshot_id())
        .with_parent_snapshot_id(snapshot.parent_snapshot_id())
        .with_sequence_number(snapshot.sequence_number())
        .with_timestamp_ms(snapshot.timestamp_ms().max(not_before_ms))
        .with_manifest_list(snapshot.manifest_list().to_owned())
        .with_summary(summary)
        .schema_id_opt(snapshot.schema_id())
        .build()
}

/// The state and its metadata file, under a name of ours.
pub(super) fn built(
    table: &TableName,
    metadata: TableMetadata,
    base_location: Option<&str>,
    listed: Listed,
) -> Result<Built, LakeError> {
    let location = match base_location {
        None => MetadataLocation::new_with_metadata(metadata.location(), &metadata),
        Some(last) => MetadataLocation::from_str(last)
            .map_err(LakeError::iceberg(format!("name metadata of {table}")))?
            .with_next_version()
            .with_new_metadata(&metadata),
    };
    let metadata_location = location.to_string();
    let json = serde_json::to_vec(&metadata).map_err(|e| LakeError::corrupt(table, e))?;
    let entry = TableEntry {
        uuid: metadata.uuid(),
        metadata_location: metadata_location.clone(),
        snapshot_id: metadata.current_snapshot_id(),
        schema_id: metadata.current_schema_id(),
        sequence_number: metadata.last_sequence_number(),
        rows: listed.totals.records,
        bytes: listed.totals.bytes,
    };
    let state = TableState { entry, metadata: Arc::new(metadata), manifests: listed.manifests };
    Ok(Built { state, files: BTreeMap::from([(metadata_location, Bytes::from(json))]) })
}

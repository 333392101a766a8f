//! What a foreign client may do to a table, decided from its base and the updates alone.
//!
//! Branches are the lake's, not the table's, so a client sees one table ref, `main`. History belongs to commits, so
//! snapshots are not taken out; and where things lie is the lake's to say.

use std::collections::HashMap;

use iceberg::TableUpdate;
use iceberg::spec::{MAIN_BRANCH, Snapshot, SnapshotReference, TableMetadata};

use super::ForeignError;
use super::request::{check_format, is_two};
use super::schema::is_ours;
use crate::names::TableName;

/// How far a client's clock may be ahead, in ms: a snapshot from next year would make every later one look old.
const AHEAD_MS_MAX: i64 = 600_000;

/// Properties that say where files go, whether they are deleted, or what the lake itself keeps.
const KEPT_PROPERTIES: [&str; 11] = [
    "gc.enabled",
    "write.data.path",
    "write.folder-storage.path",
    "write.location-provider.impl",
    "write.metadata.compression-codec",
    "write.metadata.delete-after-commit.enabled",
    "write.metadata.path",
    "write.metadata.previous-versions-max",
    "write.object-storage.enabled",
    "write.object-storage.path",
    "write.py-location-provider.impl",
];

/// Updates that may be applied, and the snapshots among them.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) updates: Vec<TableUpdate>,
    pub(super) snapshots: Vec<Snapshot>,
}

/// Judges `updates` on `base`; `now_ms` is UTC.
pub(super) fn check(
    table: &TableName,
    base: &TableMetadata,
    updates: &[TableUpdate],
    now_ms: i64,
) -> Result<Checked, ForeignError> {
    let judge = Judge { table, base, now_ms };
    let mut kept = Vec::with_capacity(updates.len());
    let mut snapshots: Vec<Snapshot> = Vec::new();
    for update in updates {
        match update {
            TableUpdate::AddSnapshot { snapshot } => {
                judge.snapshot(snapshot, &snapshots)?;
                snapshots.push(snapshot.clone());
            }
            TableUpdate::SetSnapshotRef { ref_name, reference } => judge.table_ref(ref_name, reference)?,
            TableUpdate::SetProperties { updates } => judge.properties(updates)?,
            TableUpdate::RemoveProperties { removals } => judge.removals(removals)?,
            TableUpdate::UpgradeFormatVersion { format_version } => {
                check_format(table, is_two(*format_version), &format!("{format_version:?}"))?;
            }
            TableUpdate::AssignUuid { uuid } if *uuid == base.uuid() => {}
            TableUpdate::SetLocation { location } if location.trim_end_matches('/') == base.location() => {}
            TableUpdate::AddSpec { .. } | TableUpdate::SetDefaultSpec { .. } if is_ours(base) => {
                return judge.refuse("tables that devices write stay partitioned by the day of ts");
            }
            TableUpdate::AddSortOrder { .. } | TableUpdate::SetDefaultSortOrder { .. } if is_ours(base) => {
                return judge.refuse("tables that devices write keep their sort order");
            }
            TableUpdate::AddSchema { .. }
            | TableUpdate::SetCurrentSchema { .. }
            | TableUpdate::AddSpec { .. }
            | TableUpdate::SetDefaultSpec { .. }
            | TableUpdate::AddSortOrder { .. }
            | TableUpdate::SetDefaultSortOrder { .. } => {}
            // Advisory, and engines write them with every commit: taken without an error and not kept.
            TableUpdate::SetStatistics { .. }
            | TableUpdate::RemoveStatistics { .. }
            | TableUpdate::SetPartitionStatistics { .. }
            | TableUpdate::RemovePartitionStatistics { .. } => continue,
            other => return judge.refuse(forbidden(other)),
        }
        kept.push(update.clone());
    }
    Ok(Checked { updates: kept, snapshots })
}

/// Why an update is never taken.
fn forbidden(update: &TableUpdate) -> &'static str {
    match update {
        TableUpdate::SetLocation { .. } => "a table stays where it is; make a new one and copy the rows",
        TableUpdate::AssignUuid { .. } => "a table keeps its id",
        TableUpdate::RemoveSnapshots { .. } => {
            "snapshots are not removed by clients: other commits name them; history ends by the lake's own retention"
        }
        TableUpdate::RemoveSnapshotRef { .. } => {
            "the table ref main stays; to empty a table delete its rows, to start anew drop it"
        }
        TableUpdate::RemovePartitionSpecs { .. } | TableUpdate::RemoveSchemas { .. } => {
            "older schemas and partition specs stay: files of older commits are read with them"
        }
        TableUpdate::AddEncryptionKey { .. } | TableUpdate::RemoveEncryptionKey { .. } => {
            "tables of a lake are not encrypted by clients; encrypt the store"
        }
        _ => "this build does not know what the update does",
    }
}

struct Judge<'a> {
    table: &'a TableName,
    base: &'a TableMetadata,
    now_ms: i64,
}

impl Judge<'_> {
    fn refuse<T>(&self, reason: impl Into<String>) -> Result<T, ForeignError> {
        Err(ForeignError::Refused { table: self.table.clone(), reason: reason.into() })
    }

    fn stale<T>(&self, reason: String) -> Result<T, ForeignError> {
        Err(ForeignError::Stale { table: self.table.clone(), reason })
    }

    /// A snapshot follows the current one or one that came with it: else what lies between would be lost.
    fn snapshot(&self, snapshot: &Snapshot, before: &[Snapshot]) -> Result<(), ForeignError> {
        let parent = snapshot.parent_snapshot_id();
        let follows = parent == self.base.current_snapshot_id()
            || before.iter().any(|earlier| Some(earlier.snapshot_id()) == parent);
        if !follows {
            return self
                .stale(format!("snapshot {} does not follow the current one", snapshot.snapshot_id()));
        }
        if snapshot.sequence_number() <= self.base.last_sequence_number() {
            let number = snapshot.sequence_number();
            return self.stale(format!("sequence number {number} is given already"));
        }
        if snapshot.timestamp_ms() > self.now_ms.saturating_add(AHEAD_MS_MAX) {
            let ahead_s = snapshot.timestamp_ms().saturating_sub(self.now_ms) / 1000;
            return self
                .refuse(format!("the client's clock is {ahead_s} s ahead of the lake's; set it right"));
        }
        Ok(())
    }

    fn table_ref(&self, name: &str, reference: &SnapshotReference) -> Result<(), ForeignError> {
        if name == MAIN_BRANCH && reference.is_branch() {
            return Ok(());
        }
        self.refuse(format!(
            "branches and tags are the lake's, not the table's, so the table ref {name} cannot be set; `headwater branch` makes \
             a branch of every table at once"
        ))
    }

    fn properties(&self, updates: &HashMap<String, String>) -> Result<(), ForeignError> {
        // Saying what is so already is no change.
        let changed = updates.iter().filter(|(key, value)| self.base.properties().get(*key) != Some(value));
        for (key, _) in changed {
            self.property(key)?;
        }
        Ok(())
    }

    fn removals(&self, removals: &[String]) -> Result<(), ForeignError> {
        removals
            .iter()
            .filter(|key| self.base.properties().contains_key(*key))
            .try_for_each(|key| self.property(key))
    }

    fn property(&self, key: &str) -> Result<(), ForeignError> {
        match is_kept(key) {
            true => self.refuse(format!("the property {key} is kept by the lake; leave it as it is")),
            false => Ok(()),
        }
    }
}

/// True for a property clients leave alone.
pub(super) fn is_kept(key: &str) -> bool {
    key.starts_with("hw.") || key.starts_with("encryption.") || KEPT_PROPERTIES.contains(&key)
}

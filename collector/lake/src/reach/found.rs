//! What a walk tells of: objects that are needed, and what is not as it should be.

use iceberg::spec::{DataFile, Manifest, ManifestFile, TableMetadata};

use crate::error::LakeError;
use crate::names::{CommitId, TableName};
use crate::repo::{CommitObject, TableEntry};

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Kind {
    /// An entry of a ref's log.
    RefEntry,
    /// A tag.
    Tag,
    /// A commit object.
    Commit,
    /// A ledger checkpoint or align coverage.
    State,
    /// A table's `metadata.json`.
    Metadata,
    /// A manifest list.
    ManifestList,
    /// A manifest.
    Manifest,
    /// A data file.
    Data,
    /// A file of position or equality deletes, or of statistics.
    Extra,
    /// A content-addressed large object.
    Blob,
    /// A thinned day.
    History,
    /// A leftover of a write that was cut short.
    Staging,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Damage {
    pub(crate) kind: Kind,
    pub(crate) key: String,
    /// True if it is not there at all.
    pub(crate) missing: bool,
    /// True if a newer build wrote it.
    pub(crate) newer: bool,
    pub(crate) reason: String,
    pub(crate) commit: Option<CommitId>,
    pub(crate) table: Option<TableName>,
}

impl Damage {
    pub(crate) fn missing(
        kind: Kind,
        key: String,
        commit: Option<&CommitId>,
        table: Option<&TableName>,
    ) -> Damage {
        Damage {
            kind,
            key,
            missing: true,
            newer: false,
            reason: "it is not there".to_owned(),
            commit: commit.cloned(),
            table: table.cloned(),
        }
    }

    pub(crate) fn bad(
        kind: Kind,
        key: String,
        reason: impl std::fmt::Display,
        commit: Option<&CommitId>,
        table: Option<&TableName>,
    ) -> Damage {
        Damage { missing: false, reason: reason.to_string(), ..Damage::missing(kind, key, commit, table) }
    }

    /// What an error says of the object, or the error itself where it says something of the store.
    pub(crate) fn of(
        error: LakeError,
        kind: Kind,
        key: String,
        commit: Option<&CommitId>,
        table: Option<&TableName>,
    ) -> Result<Damage, LakeError> {
        let newer = matches!(error, LakeError::Newer { .. });
        match error {
            LakeError::Corrupt { reason, .. } => Ok(Damage::bad(kind, key, reason, commit, table)),
            LakeError::Newer { found, known, .. } => {
                let reason = format!("its form is {found}, this build knows {known}");
                Ok(Damage { newer, ..Damage::bad(kind, key, reason, commit, table) })
            }
            other => Err(other),
        }
    }
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.key, self.reason)
    }
}

/// An object some commit needs.
#[derive(Debug)]
pub(crate) enum Found<'a> {
    /// A commit, which was read and hashes to its id.
    Commit(&'a CommitObject),
    /// A state object.
    State(&'a CommitId),
    /// A `metadata.json`. A walk that is not thorough tells only of those it had to read.
    Metadata(&'a CommitId, &'a TableName, &'a TableEntry, &'a TableMetadata),
    /// A manifest list with what it lists.
    List(&'a CommitId, &'a TableName, &'a TableEntry, &'a [ManifestFile]),
    /// A manifest with what it holds.
    Manifest(&'a CommitId, &'a TableName, &'a ManifestFile, &'a Manifest),
    /// A data file, or a file of deletes.
    File(&'a CommitId, &'a TableName, &'a DataFile),
    /// A statistics file.
    Statistics,
    /// A blob.
    Blob(&'a CommitId, &'a TableName),
}

/// Who is told what a walk finds.
pub(crate) trait Visitor: Send {
    /// An object that is needed, under its key. Each is told once.
    fn found(&mut self, key: &str, what: &Found<'_>) -> Result<(), LakeError>;

    /// Something that is not as it should be. An error ends the walk.
    fn damaged(&mut self, damage: Damage) -> Result<(), LakeError>;

    /// Commits done so far.
    fn walked(&mut self, commits: usize);
}

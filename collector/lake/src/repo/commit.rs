//! The commit object: one immutable file that pins every table, so that one ref write publishes them all or none.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::LakeError;
use crate::names::{CommitId, TableName};
use crate::repo::canonical;

/// Version of the commit object's form.
pub const COMMIT_VERSION: u32 = 1;

/// What a commit was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CommitKind {
    /// New captures.
    #[default]
    Ingest,
    /// Corrected times.
    Resolve,
    /// Aligned rows.
    Align,
    /// The same rows in fewer files.
    Compact,
    /// Two lines of history joined, or a cherry-pick.
    Merge,
    /// One commit's change taken back.
    Revert,
    /// Derived tables set back.
    Rollback,
    /// Every table set back.
    Reset,
    /// Only declarations changed.
    Schema,
    /// Written by a client of the REST catalog.
    Foreign,
    /// Days beyond a table's retention left it.
    Retention,
    /// Rows erased for good: nothing below it is history any more.
    Erase,
    /// What was damaged left, named in the message.
    Repair,
}

impl CommitKind {
    /// The word used on disk.
    pub fn as_str(self) -> &'static str {
        match self {
            CommitKind::Ingest => "ingest",
            CommitKind::Resolve => "resolve",
            CommitKind::Align => "align",
            CommitKind::Compact => "compact",
            CommitKind::Merge => "merge",
            CommitKind::Revert => "revert",
            CommitKind::Rollback => "rollback",
            CommitKind::Reset => "reset",
            CommitKind::Schema => "schema",
            CommitKind::Foreign => "foreign",
            CommitKind::Retention => "retention",
            CommitKind::Erase => "erase",
            CommitKind::Repair => "repair",
        }
    }
}

/// Where one table stands in a commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableEntry {
    /// The table's own id; the same name re-created has another.
    pub uuid: Uuid,
    /// Absolute location of the `metadata.json`, readable by any Iceberg client.
    pub metadata_location: String,
    /// Current snapshot; none for a table without rows yet.
    pub snapshot_id: Option<i64>,
    /// Current schema.
    pub schema_id: i32,
    /// Last sequence number.
    pub sequence_number: i64,
    /// Rows in the table.
    pub rows: u64,
    /// Bytes of its live data files.
    pub bytes: u64,
}

/// A position in a landing log: record number and byte offset, stored as `[n, offset]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(from = "[u64; 2]", into = "[u64; 2]")]
pub struct LandingPosition {
    /// Number of the log segment.
    pub n: u64,
    /// Byte offset within it.
    pub offset: u64,
}

impl From<[u64; 2]> for LandingPosition {
    fn from([n, offset]: [u64; 2]) -> Self {
        LandingPosition { n, offset }
    }
}

impl From<LandingPosition> for [u64; 2] {
    fn from(at: LandingPosition) -> Self {
        [at.n, at.offset]
    }
}

/// How far one receiver incarnation's landing log is in the lake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LandingCursor {
    /// Everything before this is in the `raw` tables, the ledger and the gaps.
    pub data: LandingPosition,
    /// Everything before this is in the tables that group longer; trails `data`.
    pub ops: LandingPosition,
}

impl LandingCursor {
    /// The later of two cursors, part by part: cursors never go back.
    #[must_use]
    pub fn max(self, other: LandingCursor) -> LandingCursor {
        LandingCursor { data: self.data.max(other.data), ops: self.ops.max(other.ops) }
    }
}

/// Figures of the change a commit made.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CommitStats {
    /// Rows added; filled in by the writer.
    pub rows: u64,
    /// Bytes of the added data files; filled in by the writer.
    pub bytes: u64,
    /// Distinct devices.
    pub devices: u64,
    /// Rows beyond the allowed lateness.
    pub late_rows: u64,
    /// Earliest event time, UTC ns.
    pub t_min_ns: Option<i64>,
    /// Latest event time, UTC ns.
    pub t_max_ns: Option<i64>,
    /// Watermark when the group closed, UTC ns.
    pub watermark_ns: Option<i64>,
}

/// One gate's judgement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateSummary {
    /// The gate.
    pub name: String,
    /// Its version.
    pub version: String,
    /// `pass`, `warn` or `fail`.
    pub verdict: String,
    /// SHA-256 of the evidence, hex.
    pub evidence_digest: String,
}

/// A content-addressed ledger checkpoint and the commit it describes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerCheckpoint {
    /// Hex SHA-256 of the checkpoint under `_repo/state/sha256`.
    pub hash: String,
    /// The ancestor as of which it holds.
    pub commit: CommitId,
}

/// What the aligner has finished for one recipe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoverageEntry {
    /// Hash of the recipe.
    pub recipe_id: String,
    /// Hex SHA-256 of the coverage object under `_repo/state/sha256`.
    pub hash: String,
}

/// Versions of the software that made the rows.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Software {
    /// The collector's version.
    pub collector: String,
    /// The agents' versions, sorted.
    pub agents: Vec<String>,
}

/// What a commit was made from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Lineage {
    /// Inputs in the caller's words: landing ranges, table snapshots.
    pub inputs: Vec<String>,
    /// Recipe id to hash.
    pub recipes: BTreeMap<String, String>,
    /// Device to clock-track version.
    pub clock_tracks: BTreeMap<String, u64>,
    /// Software versions.
    pub software: Software,
    /// Hex SHA-256 of the configuration in force.
    pub config_hash: String,
    /// Programs that columns were made by, as canonical JSON (hashes, arguments, version), by `<recipe>.<column>`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub commands: BTreeMap<String, String>,
}

/// One commit as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitObject {
    /// Hex SHA-256 of the canonical JSON of all other members. Written beside them so that a file names itself.
    pub id: CommitId,
    /// [`COMMIT_VERSION`].
    pub v: u32,
    /// Commits this one follows; the first is the line it is on.
    pub parents: Vec<CommitId>,
    /// What it was for.
    pub kind: CommitKind,
    /// Who made it.
    pub author: String,
    /// Why, for people.
    pub message: String,
    /// When, UTC µs.
    pub time_us: i64,
    /// Every table of the lake, whether touched or not.
    pub tables: BTreeMap<TableName, TableEntry>,
    /// Figures of the change.
    pub stats: CommitStats,
    /// Verdicts it was published under.
    pub gates: Vec<GateSummary>,
    /// Newest ledger checkpoint.
    pub ledger_checkpoint: Option<LedgerCheckpoint>,
    /// Align coverage by recipe name.
    pub coverage: BTreeMap<String, CoverageEntry>,
    /// Recipes that a rollback holds: name to the recipe's hash. A recipe goes on once it is released, or is another.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub held: BTreeMap<String, String>,
    /// Landing cursors by `<receiver>/<incarnation>`.
    pub landing: BTreeMap<String, LandingCursor>,
    /// What it was made from.
    pub lineage: Lineage,
}

impl CommitObject {
    /// Canonical bytes with the id inside, as stored.
    ///
    /// # Errors
    /// [`LakeError::Corrupt`] if a member has no canonical form, which no member of this type lacks.
    pub fn to_bytes(&self) -> Result<Vec<u8>, LakeError> {
        canonical::to_bytes(self).map_err(|reason| LakeError::corrupt("commit object", reason))
    }

    /// Sets `id` from the other members.
    ///
    /// # Errors
    /// As [`CommitObject::to_bytes`].
    pub fn seal(mut self) -> Result<CommitObject, LakeError> {
        self.id = self.computed_id()?;
        Ok(self)
    }

    /// Reads a stored commit and checks that it hashes to the id it claims.
    ///
    /// # Errors
    /// [`LakeError::Corrupt`] when the bytes are no commit or hash to another id, [`LakeError::Newer`] when a newer build
    /// wrote them.
    pub fn from_bytes(path: &str, bytes: &[u8]) -> Result<CommitObject, LakeError> {
        let commit: CommitObject = canonical::read_versioned(path, bytes, COMMIT_VERSION)?;
        let found = canonical::id_of(bytes).map_err(|reason| LakeError::corrupt(path, reason))?;
        if found != commit.id {
            return Err(LakeError::corrupt(
                path,
                format!("it claims id {} but hashes to {found}", commit.id),
            ));
        }
        Ok(commit)
    }

    fn computed_id(&self) -> Result<CommitId, LakeError> {
        let bytes = self.to_bytes()?;
        canonical::id_of(&bytes).map_err(|reason| LakeError::corrupt("commit object", reason))
    }
}

//! The repository: immutable commit objects and the create-only log that moves refs between them.

mod canonical;
mod commit;

pub use commit::{
    COMMIT_VERSION, CommitKind, CommitObject, CommitStats, CoverageEntry, GateSummary, LandingCursor,
    LandingPosition, LedgerCheckpoint, Lineage, Software, TableEntry,
};
pub use refs::{Head, RefOp};

mod refs {
    //! Skeleton of the ref log.
    use crate::names::CommitId;
    use serde::{Deserialize, Serialize};
    use uuid::Uuid;

    /// What a ref entry did.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    #[non_exhaustive]
    pub enum RefOp {
        /// A commit on top.
        Commit,
        /// The ref was made.
        Create,
        /// Moved forward.
        Ff,
        /// Derived tables set back.
        Rollback,
        /// All tables set back.
        Reset,
        /// The ref was deleted.
        Delete,
    }

    /// The newest entry of a ref's log.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Head {
        /// Number of the entry, from 1, gapless.
        pub seq: u64,
        /// The commit it names; none after a delete.
        pub commit: Option<CommitId>,
        /// What it did.
        pub op: RefOp,
        /// Who wrote it.
        pub writer: String,
        /// The write it came from.
        pub write_id: Uuid,
        /// When, UTC µs.
        pub time_us: i64,
    }
}

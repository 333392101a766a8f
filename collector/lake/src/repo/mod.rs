//! The repository: immutable commit objects and the create-only log that moves refs between them.
#![doc = include_str!("FORMAT.md")]

pub(crate) mod canonical;
mod commit;
pub(crate) mod format;
mod refs;

pub use commit::{
    COMMIT_VERSION, CommitKind, CommitObject, CommitStats, CoverageEntry, GateSummary, LandingCursor,
    LandingPosition, LedgerCheckpoint, Lineage, Software, TableEntry,
};
pub use refs::{
    Head, Pruned, PublishError, REFLOG_AGE_US_MIN, REFLOG_KEPT_MIN, RefOp, RefStore, RefUpdate, Tag,
};
pub(crate) use refs::{
    ObjectStoreRefs, entry_key, heads_folder, is_single_use, seq_of, tag_key, tags_folder,
};

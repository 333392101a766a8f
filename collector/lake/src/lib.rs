//! A versioned lake: Iceberg tables under one create-only ref log.
//!
//! ```text
//! rows ─▶ LakeWriter ─▶ data files, manifests, metadata, commit object ─▶ one ref entry ─▶ visible
//!           table/            store/  (one parallel wave, all or stop)      repo/
//! ```
//! A commit pins every table; a ref moves from commit to commit by one create-only write. So readers see the old state
//! or the new one, across all tables, and never something between.

mod branches;
mod budget;
mod compact;
mod error;
mod foreign;
mod lake;
mod names;
mod protect;
mod repo;
mod revision;
mod rewrite;
mod scan;
mod store;
mod table;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod writer;

pub use compact::{
    CompactPolicy, CompactScope, Compacted, Compactor, DueMerge, Overtaken, Prepared, StopFlag, Survey,
};
pub use error::{CommitError, LakeError};
pub use foreign::{ForeignEdit, ForeignError, ForeignRequest, TableChange, TableCreate, TableDocument};
pub use lake::{BatchStream, Lake, ScanOptions};
pub use names::{CommitId, NAME_BYTES_MAX, NameError, RefName, TableName};
pub use protect::{Protected, Protection, RefPattern};
pub use repo::{
    COMMIT_VERSION, CommitKind, CommitObject, CommitStats, CoverageEntry, GateSummary, Head, LandingCursor,
    LandingPosition, LedgerCheckpoint, Lineage, Pruned, PublishError, REFLOG_AGE_US_MIN, REFLOG_KEPT_MIN,
    RefOp, RefStore, RefUpdate, Software, TableEntry, Tag,
};
pub use rewrite::{DERIVED_COLUMNS, Derive, PreparedRewrite, RewriteTable, Rewritten};
pub use store::{Service, Trouble, TroubleKind};
pub use table::{ColumnSpec, ColumnType, TS, TableError, TableSpec, UTC};
pub use writer::{CommitRequest, Committed, LakeWriter, TableAppend};

//! A versioned lake: Iceberg tables under one create-only ref log.
//!
//! ```text
//! rows ─▶ LakeWriter ─▶ data files, manifests, metadata, commit object ─▶ one ref entry ─▶ visible
//!           table/            store/  (one parallel wave, all or stop)      repo/
//! ```
//! A commit pins every table; a ref moves from commit to commit by one create-only write. So readers see the old state
//! or the new one, across all tables, and never something between.

mod branches;
mod check;
mod erase;
mod error;
mod foreign;
mod gc;
mod lake;
mod names;
mod protect;
mod reach;
mod repo;
mod revision;
mod scan;
mod store;
mod table;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod writer;

pub use check::{
    CheckOptions, CheckProgress, CheckReport, FINDINGS_MAX, Finding, Problem, Repair, RepairReport, Severity,
    TellCheck,
};
pub use erase::{
    Dropped, ErasePreview, EraseReport, Erased, Erasure, RetentionReport, RetentionRule, TablePattern,
    TellErase,
};
pub use error::{CommitError, LakeError};
pub use foreign::{ForeignEdit, ForeignError, ForeignRequest, TableChange, TableCreate, TableDocument};
pub use gc::{
    CLOCK_SKEW_US_MAX, GRACE_US, GRACE_US_MIN, GcOptions, GcProgress, GcReport, SETTLE, Settle, Tally, Tell,
};
pub use lake::{BatchStream, Lake, ScanOptions};
pub use names::{CommitId, NAME_BYTES_MAX, NameError, RefName, TableName};
pub use protect::{Protected, Protection, RefPattern};
pub use reach::{Keep, Kind, REFLOG_US_MIN};
pub use repo::{
    COMMIT_VERSION, CommitKind, CommitObject, CommitStats, CoverageEntry, GateSummary, Head, LandingCursor,
    LandingPosition, LedgerCheckpoint, Lineage, Pruned, PublishError, REFLOG_AGE_US_MIN, REFLOG_KEPT_MIN,
    RefOp, RefStore, RefUpdate, Software, TableEntry, Tag,
};
pub use store::{Service, Trouble, TroubleKind};
pub use table::{ColumnSpec, ColumnType, TS, TableError, TableSpec, UTC};
pub use writer::{CommitRequest, Committed, LakeWriter, TableAppend};

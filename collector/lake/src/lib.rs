//! A versioned lake: Iceberg tables under one create-only ref log.
//!
//! ```text
//! rows ─▶ LakeWriter ─▶ data files, manifests, metadata, commit object ─▶ one ref entry ─▶ visible
//!           table/            store/  (one parallel wave, all or stop)      repo/
//! ```
//! A commit pins every table; a ref moves from commit to commit by one create-only write. So readers see the old state
//! or the new one, across all tables, and never something between.

mod adopt;
mod branches;
mod budget;
mod check;
mod compact;
mod copying;
mod erase;
mod error;
mod events;
mod files;
mod foreign;
mod gc;
mod history;
mod lake;
mod moves;
mod names;
mod parquet_sink;
mod protect;
mod reach;
mod remake;
mod repo;
mod revision;
mod rewrite;
mod scan;
mod store;
mod table;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod writer;

pub use adopt::{Adopt, AdoptTables, CoverageMove};
pub use check::{
    CheckOptions, CheckProgress, CheckReport, FINDINGS_MAX, Finding, Problem, Repair, RepairReport, Severity,
    TellCheck,
};
pub use compact::{
    CompactPolicy, CompactScope, Compacted, Compactor, DueMerge, Overtaken, Prepared, StopFlag, Survey,
};
pub use copying::{Copied, CopyError, CopyProgress};
pub use erase::{
    Dropped, ErasePreview, EraseReport, Erased, Erasure, RetentionReport, RetentionRule, TablePattern,
    TellErase,
};
pub use error::{CommitError, LakeError};
pub use events::{Event, EventTables, LOG_READS_MAX};
pub use files::{CommitFile, FileRole};
pub use foreign::{ForeignEdit, ForeignError, ForeignRequest, TableChange, TableCreate, TableDocument};
pub use gc::{
    CLOCK_SKEW_US_MAX, GRACE_US, GRACE_US_MIN, GcOptions, GcProgress, GcReport, SETTLE, Settle, Tally, Tell,
};
pub use history::{
    By, CommitDiff, ConflictReport, FileChange, Joined, Leaving, LogEntry, MergeOptions, Merged, Picked,
    RollbackOptions, SchemaDiff, Strategies, Strategy, TableConflict, TableDiff,
};
pub use lake::{BatchStream, Lake, ScanOptions};
pub use moves::ulid;
pub use names::{CommitId, NAME_BYTES_MAX, NameError, RefName, TableName};
pub use parquet_sink::ParquetSink;
pub use protect::{Protected, Protection, ProtectionChange, RefPattern, RefPatterns, Warrant};
pub use reach::{Keep, Kind, REFLOG_US_MIN};
pub use remake::{Remade, StoredFile};
pub use repo::{
    COMMIT_VERSION, CommitKind, CommitObject, CommitStats, CoverageEntry, GateSummary, Head, LandingCursor,
    LandingPosition, LedgerCheckpoint, Lineage, Pruned, PublishError, REFLOG_AGE_US_MIN, REFLOG_KEPT_MIN,
    RefOp, RefStore, RefUpdate, Software, TableEntry, Tag,
};
pub use rewrite::{DERIVED_COLUMNS, Derive, PreparedRewrite, RemoveRows, RewriteTable, Rewritten};
pub use scan::{Compare, Condition};
pub use store::{ManifestsKept, Service, Trouble, TroubleKind};
pub use table::{ColumnSpec, ColumnType, TS, TableError, TableSpec, UTC};
pub use writer::{CommitRequest, Committed, LakeWriter, TableAppend};

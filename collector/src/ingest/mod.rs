//! Ingest: from the landing log to the lake, one commit per group, and a replay where a crash was.
//!
//! ```text
//! landing log ─► fold (decode, dedup, admit) ─► group ─► build (resolve, columns) ─► one commit ─► mark
//!                   │ waits: rows without their blob, sections without their declaration, rows without any clock
//!                   └─► quarantine, with a gap record, and back once what was wrong is put right
//!                                                                        └─► align ─► gate ─► a commit of its own,
//!                                                                            or wap/<id>, judged beside ingest
//! ```
//! Everything up to the commit is pure and in memory. The commit carries the landing cursors, so whatever a crash takes
//! is read again from them, and the ledger makes the overlap harmless (D1). Raw rows never wait for a recipe.
//!
//! One task ingests into a branch; a second one on the same branch would need its rows checked against the other's.

mod aligning;
mod aside;
mod audit;
mod build;
mod candidate;
mod chaining;
mod commit;
mod compacting;
mod correcting;
mod cursors;
mod demand;
mod deriving;
mod feeding;
mod fold;
mod follow;
mod group;
mod held;
mod patience;
mod pictures;
mod port;
mod rebuilding;
mod recounting;
pub mod rehearsal;
mod replaying;
mod requeue;
mod restore;
mod sidestream;
mod staging;
mod task;
mod timing;
mod turn;
mod upkeep;
mod waiting;

pub(crate) use candidate::removal;
pub use compacting::{CompactReport, CompactSettings};
pub use cursors::{from_commit, landing_key};
pub use demand::{Beyond, HOLD_MS_MAX, NamePattern, TimeDemand};
pub use held::{Held, held};
pub use patience::{CLOCK_WAIT_BYTES_MAX, CLOCK_WAIT_MS};
pub use port::LandingSource;
pub use rebuilding::{Piece as RebuiltPiece, RebuildError, Rebuilder, Rebuilding, Rebuilt, Unanswered};
pub use requeue::{Answer, Request, ask};
pub use task::{GROUP_BYTES_MAX, GROUP_ROWS_MAX, IngestDeps, IngestError, IngestSettings, run};
pub use timing::{DeviceClock, FleetClocks, StreamBeyond};
pub use turn::IngestTurn;
pub use waiting::{HALF_WAIT_NS_MAX, UNDECLARED_WAIT_NS_MAX, WAITING_BYTES_MAX, WAITING_ITEMS_MAX};

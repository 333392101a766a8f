//! The spool: keeps every slab through power loss until the collector has it.
//!
//! Payload lies in append-only segment files, which are the truth; a small index beside them may be
//! lost at any time. [`DiskSpool`] is the [`headwater_core::ports::Spool`], [`SpoolHandle`] is how the
//! other stages reach it: one thread owns the spool, since every call of it may wait for the disk.
//!
#![doc = include_str!("FORMAT.md")]

mod adopt;
pub mod disk;
mod disk_spool;
mod evict;
pub mod frame;
mod gaps;
mod group;
mod handle;
mod health;
mod ident;
pub mod index;
mod lock;
mod neighbours;
pub mod payload;
mod read;
mod recover;
mod room;
mod salvage;
pub mod scan;
mod seek;
mod series;
pub mod series_id;
mod sled_index;
mod survey;
mod task;
mod vanished;
mod write;

pub use disk_spool::{DiskSpool, Settings};
pub use gaps::{GAPS_HELD_MAX, GapList, LostRows};
pub use group::{GroupCommit, SyncPolicy};
pub use handle::{QueueFull, SpoolHandle};
pub use health::{DegradedMode, Health, HealthReport};
pub use ident::{SpoolIdentity, identity_of, reserve_domains};
pub use lock::{LockError, SpoolLock};
pub use recover::Opened;
pub(crate) use salvage::{gap_rows, is_gap_rows};
pub use sled_index::SledIndex;
pub use task::TaskSettings;

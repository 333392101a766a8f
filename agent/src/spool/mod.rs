//! The spool: keeps every slab through power loss until the collector has it.
//!
//! Payload lies in append-only segment files, which are the truth; a small index beside them may be
//! lost at any time.

mod gaps;
mod group;
mod handle;
mod task;

pub use gaps::{GAPS_HELD_MAX, GapList, LostRows};
pub use group::{GroupCommit, SyncPolicy};
pub use handle::{QueueFull, SpoolHandle};
pub use task::TaskSettings;

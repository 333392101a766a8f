//! The ref log: a ref moves by creating its next entry, so of two racing writers exactly one wins (C1).
//!
//! An entry's file name is `u64::MAX - seq` in twenty digits, which puts the newest first in any sorted listing. The log
//! is the reflog: nothing in it is overwritten, and a deleted ref continues its numbering when it is made again.

mod entry;
mod log;
mod newest;
mod prune;
#[cfg(test)]
mod tests;

use std::fmt::Debug;

use async_trait::async_trait;
use object_store::Error as StoreError;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::LakeError;
use crate::names::{CommitId, RefName};

pub use entry::Tag;
pub(crate) use entry::{entry_key, heads_folder, is_single_use, seq_of, tag_key, tags_folder};
pub(crate) use log::ObjectStoreRefs;
pub use prune::{Pruned, REFLOG_AGE_US_MIN, REFLOG_KEPT_MIN};

/// Entries and tags read at once: a thousand branches in some sixty round trips.
const READS_MAX: usize = 32;

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

/// One entry of a ref's log; the newest is the ref's head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Number of the entry, from 1, gapless.
    pub seq: u64,
    /// The commit it names; none after a delete.
    pub commit: Option<CommitId>,
    /// The commit named before.
    pub prev_commit: Option<CommitId>,
    /// What it did.
    pub op: RefOp,
    /// Who wrote it.
    pub writer: String,
    /// The write it came from.
    pub write_id: Uuid,
    /// When, UTC µs.
    pub time_us: i64,
    /// Why, for people.
    pub reason: String,
}

/// A move to be published. Publishing the same value again is the same write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefUpdate {
    /// The commit to name; none deletes.
    pub commit: Option<CommitId>,
    /// What it does.
    pub op: RefOp,
    /// Who writes it.
    pub writer: String,
    /// Fresh for each move: by it a writer recognises its own entry after a lost response.
    pub write_id: Uuid,
    /// Now, UTC µs.
    pub time_us: i64,
    /// Why, for people.
    pub reason: String,
}

/// A move was not published, or nobody knows.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// Another writer's entry has the number. When the log below it was pruned while this writer slept, it is the newest
    /// entry, with a higher number.
    #[error("publish ref entry: entry {} by {} is there already", .0.seq, .0.writer)]
    Conflict(Box<Head>),
    /// The store did not say whether the entry was written: publish the same update on the same head again, never another.
    #[error("publish ref entry {seq} of {name}: the store did not say whether it was written")]
    Unknown {
        /// The ref.
        name: RefName,
        /// The entry.
        seq: u64,
        /// The store's last answer.
        #[source]
        source: StoreError,
    },
    /// Nothing was written.
    #[error("publish ref entry")]
    Failed(#[source] LakeError),
}

/// Where refs live. The one place of a lake that needs more than put and get.
#[async_trait]
pub trait RefStore: Debug + Send + Sync {
    /// The newest entry; none if the ref never was. After a delete its `commit` is none.
    async fn head(&self, name: &RefName) -> Result<Option<Head>, LakeError>;

    /// Moves the ref from `expect` by one entry. On `Ok` the entry is durable and the log below it was there, so it is the
    /// head however old `expect` was. Idempotent for one `update.write_id`; dropping the future leaves the outcome unknown.
    async fn publish(
        &self,
        name: &RefName,
        expect: Option<&Head>,
        update: &RefUpdate,
    ) -> Result<Head, PublishError>;

    /// Entries newest first, at most `limit`.
    async fn history(&self, name: &RefName, limit: usize) -> Result<Vec<Head>, LakeError>;

    /// The entry of that number; none if it is not there: not yet, or no more.
    async fn entry(&self, name: &RefName, seq: u64) -> Result<Option<Head>, LakeError>;

    /// All refs that are not deleted, with their heads, by name.
    async fn list(&self) -> Result<Vec<(RefName, Head)>, LakeError>;

    /// Names `commit` for ever. Setting a tag again to the same commit is fine.
    async fn tag(
        &self,
        name: &RefName,
        commit: &CommitId,
        author: &str,
        time_us: i64,
    ) -> Result<(), LakeError>;

    /// The commit a tag names.
    async fn tagged(&self, name: &RefName) -> Result<Option<CommitId>, LakeError>;

    /// All tags, by name. There is no way to remove one here: what people cite must stay, and only an erasure may take it.
    async fn tags(&self) -> Result<Vec<Tag>, LakeError>;

    /// Removes entries from the old end of a ref's log that are older than `older_than_us` (UTC µs) both by the time
    /// they carry and by the store's. At least the newest `keep_newest`, [`REFLOG_KEPT_MIN`], and all that are younger than
    /// [`REFLOG_AGE_US_MIN`] against the head stay. One after the other in ascending order, so it may be ended at any point.
    async fn prune(&self, name: &RefName, keep_newest: u64, older_than_us: i64) -> Result<Pruned, LakeError>;
}

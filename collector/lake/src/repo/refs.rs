//! The ref log: a ref moves by creating its next entry, so of two racing writers exactly one wins (C1).
//!
//! An entry's file name is `u64::MAX - seq` in twenty digits, which puts the newest first in any sorted listing. The log
//! is the reflog: nothing in it is overwritten, and a deleted ref continues its numbering when it is made again.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::Error as StoreError;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::LakeError;
use crate::names::{CommitId, RefName};
use crate::repo::canonical;
use crate::store::LakeStore;

/// Version of a ref entry's form.
const ENTRY_VERSION: u32 = 1;

/// Times one publish sends its entry before it reports the outcome as unknown.
const PUBLISH_TRIES_MAX: u32 = 4;

/// Entries looked up one by one beyond the last known head before the whole log is listed instead.
const PROBES_MAX: u64 = 32;

/// Entries read at once.
const READS_MAX: usize = 16;

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
    /// Another writer's entry has the number.
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

    /// Moves the ref from `expect` by one entry. On `Ok` the entry is durable. Idempotent for one `update.write_id`;
    /// dropping the future leaves the outcome unknown.
    async fn publish(
        &self,
        name: &RefName,
        expect: Option<&Head>,
        update: &RefUpdate,
    ) -> Result<Head, PublishError>;

    /// Entries newest first, at most `limit`.
    async fn history(&self, name: &RefName, limit: usize) -> Result<Vec<Head>, LakeError>;

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
}

/// Refs as objects beside the tables.
#[derive(Debug)]
pub(crate) struct ObjectStoreRefs {
    store: LakeStore,
    /// Highest entry seen per ref: logs are gapless, so a head is found by looking on from it.
    seen: Mutex<HashMap<RefName, u64>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    v: u32,
    seq: u64,
    r#ref: RefName,
    commit: Option<CommitId>,
    prev_commit: Option<CommitId>,
    op: RefOp,
    writer: String,
    write_id: Uuid,
    time_us: i64,
    reason: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Tag {
    v: u32,
    tag: RefName,
    commit: CommitId,
    author: String,
    time_us: i64,
}

impl ObjectStoreRefs {
    pub(crate) fn new(store: LakeStore) -> ObjectStoreRefs {
        ObjectStoreRefs { store, seen: Mutex::default() }
    }

    fn saw(&self, name: &RefName, seq: u64) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let highest = seen.entry(name.clone()).or_insert(seq);
        *highest = seq.max(*highest);
    }

    fn last_seen(&self, name: &RefName) -> Option<u64> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).get(name).copied()
    }

    async fn read(&self, name: &RefName, seq: u64) -> Result<Option<Head>, LakeError> {
        let key = entry_key(name, seq);
        let Some(bytes) = self.store.read(&key).await? else { return Ok(None) };
        let entry: Entry = serde_json::from_slice(&bytes).map_err(|e| LakeError::corrupt(&key, e))?;
        if entry.v != ENTRY_VERSION || entry.seq != seq || &entry.r#ref != name {
            let reason = format!("it says it is form {}, entry {} of {}", entry.v, entry.seq, entry.r#ref);
            return Err(LakeError::corrupt(&key, reason));
        }
        Ok(Some(Head {
            seq,
            commit: entry.commit,
            prev_commit: entry.prev_commit,
            op: entry.op,
            writer: entry.writer,
            write_id: entry.write_id,
            time_us: entry.time_us,
            reason: entry.reason,
        }))
    }

    /// Numbers of all entries, newest first. A local disk lists in no order, so they are sorted here.
    async fn listed(&self, name: &RefName) -> Result<Vec<u64>, LakeError> {
        let names = self.store.names_in(&log_key(name)).await?;
        let mut seqs: Vec<u64> = names.iter().filter_map(|file| seq_of(file)).collect();
        seqs.sort_unstable_by(|a, b| b.cmp(a));
        Ok(seqs)
    }

    /// The entry, which a listing or an earlier read has shown to exist.
    async fn existing(&self, name: &RefName, seq: u64) -> Result<Head, LakeError> {
        let found = self.read(name, seq).await?;
        found.ok_or_else(|| LakeError::corrupt(entry_key(name, seq), "the entry was there and is gone"))
    }
}

#[async_trait]
impl RefStore for ObjectStoreRefs {
    async fn head(&self, name: &RefName) -> Result<Option<Head>, LakeError> {
        // An entry that was pruned since says nothing; then the log is listed.
        if let Some(from) = self.last_seen(name)
            && let Some(mut newest) = self.read(name, from).await?
        {
            for seq in from + 1..=from + PROBES_MAX {
                match self.read(name, seq).await? {
                    Some(head) => newest = head,
                    None => {
                        self.saw(name, newest.seq);
                        return Ok(Some(newest));
                    }
                }
            }
        }
        let Some(&seq) = self.listed(name).await?.first() else { return Ok(None) };
        let head = self.existing(name, seq).await?;
        self.saw(name, seq);
        Ok(Some(head))
    }

    async fn publish(
        &self,
        name: &RefName,
        expect: Option<&Head>,
        update: &RefUpdate,
    ) -> Result<Head, PublishError> {
        let seq = expect.map_or(1, |head| head.seq + 1);
        let key = entry_key(name, seq);
        let entry = Entry {
            v: ENTRY_VERSION,
            seq,
            r#ref: name.clone(),
            commit: update.commit.clone(),
            prev_commit: expect.and_then(|head| head.commit.clone()),
            op: update.op,
            writer: update.writer.clone(),
            write_id: update.write_id,
            time_us: update.time_us,
            reason: update.reason.clone(),
        };
        let bytes = canonical::to_bytes(&entry)
            .map_err(|reason| PublishError::Failed(LakeError::corrupt(&key, reason)))?;
        let bytes = Bytes::from(bytes);
        let won = Head {
            seq,
            commit: entry.commit,
            prev_commit: entry.prev_commit,
            op: entry.op,
            writer: entry.writer,
            write_id: entry.write_id,
            time_us: entry.time_us,
            reason: entry.reason,
        };

        let mut sent_in_doubt = false;
        let mut tries = 0;
        loop {
            tries += 1;
            let answer = match self.store.create_raw(&key, bytes.clone()).await {
                Ok(()) => {
                    self.saw(name, seq);
                    return Ok(won);
                }
                // The store refused before it did anything.
                Err(
                    e @ (StoreError::PermissionDenied { .. }
                    | StoreError::Unauthenticated { .. }
                    | StoreError::NotSupported { .. }
                    | StoreError::NotImplemented { .. }
                    | StoreError::InvalidPath { .. }),
                ) if !sent_in_doubt => return Err(PublishError::Failed(LakeError::store("write", &key, e))),
                // "Exists" may mean oneself (a lost response), another, or nobody (a 409 without an object); anything
                // else may have been applied. The entry itself knows.
                Err(e) => e,
            };
            let exists = matches!(
                answer,
                StoreError::AlreadyExists { .. }
                    | StoreError::Precondition { .. }
                    | StoreError::NotModified { .. }
            );
            sent_in_doubt |= !exists;
            match self.read(name, seq).await {
                Ok(Some(head)) if head.write_id == update.write_id => {
                    self.saw(name, seq);
                    return Ok(head);
                }
                Ok(Some(head)) => {
                    self.saw(name, seq);
                    return Err(PublishError::Conflict(Box::new(head)));
                }
                // Not there is no proof that it will not be: only the same entry may be sent again.
                Ok(None) | Err(_) => {
                    tracing::warn!(%name, seq, tries, error = %answer, "ref write has no clear outcome");
                    if tries >= PUBLISH_TRIES_MAX {
                        return Err(PublishError::Unknown { name: name.clone(), seq, source: answer });
                    }
                }
            }
        }
    }

    async fn history(&self, name: &RefName, limit: usize) -> Result<Vec<Head>, LakeError> {
        let mut seqs = self.listed(name).await?;
        seqs.truncate(limit);
        let reads: Vec<BoxFuture<'_, _>> =
            seqs.into_iter().map(|seq| self.existing(name, seq).boxed()).collect();
        futures::stream::iter(reads).buffered(READS_MAX).try_collect().await
    }

    async fn list(&self) -> Result<Vec<(RefName, Head)>, LakeError> {
        let mut refs = Vec::new();
        for key in self.store.folders_in(HEADS).await? {
            let Ok(name) = RefName::from_key(&key) else { continue };
            if let Some(head) = self.head(&name).await?.filter(|head| head.commit.is_some()) {
                refs.push((name, head));
            }
        }
        refs.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(refs)
    }

    async fn tag(
        &self,
        name: &RefName,
        commit: &CommitId,
        author: &str,
        time_us: i64,
    ) -> Result<(), LakeError> {
        let key = tag_key(name);
        let tag = Tag {
            v: ENTRY_VERSION,
            tag: name.clone(),
            commit: commit.clone(),
            author: author.to_owned(),
            time_us,
        };
        let bytes = canonical::to_bytes(&tag).map_err(|reason| LakeError::corrupt(&key, reason))?;
        let written = self.store.create(&key, Bytes::from(bytes)).await;
        // Read back whatever the answer was: what is there counts.
        match (self.tagged(name).await?, written) {
            (Some(found), _) if &found == commit => Ok(()),
            (Some(_), _) => Err(LakeError::TagExists { name: name.clone() }),
            (None, Err(e)) => Err(e),
            (None, Ok(_)) => Err(LakeError::corrupt(&key, "the tag was written and is not there")),
        }
    }

    async fn tagged(&self, name: &RefName) -> Result<Option<CommitId>, LakeError> {
        let key = tag_key(name);
        let Some(bytes) = self.store.read(&key).await? else { return Ok(None) };
        let tag: Tag = serde_json::from_slice(&bytes).map_err(|e| LakeError::corrupt(&key, e))?;
        Ok(Some(tag.commit))
    }
}

const HEADS: &str = "_repo/refs/heads";

fn log_key(name: &RefName) -> String {
    format!("{HEADS}/{}", name.key())
}

pub(crate) fn entry_key(name: &RefName, seq: u64) -> String {
    format!("{}/{:020}.json", log_key(name), u64::MAX - seq)
}

/// The folder of all ref logs.
pub(crate) fn heads_folder() -> &'static str {
    HEADS
}

/// The folder of all tags.
pub(crate) fn tags_folder() -> &'static str {
    "_repo/refs/tags"
}

pub(crate) fn tag_key(name: &RefName) -> String {
    format!("_repo/refs/tags/{}.json", name.key())
}

pub(crate) fn seq_of(file: &str) -> Option<u64> {
    let digits = file.strip_suffix(".json")?;
    let reversed: u64 = digits.parse().ok().filter(|_| digits.len() == 20)?;
    Some(u64::MAX - reversed)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::memory::InMemory;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{Fault, FaultStore};

    fn update(n: usize) -> RefUpdate {
        RefUpdate {
            commit: (!n.is_multiple_of(7)).then(|| CommitId::digest_of(&n.to_le_bytes())),
            op: if n.is_multiple_of(7) { RefOp::Delete } else { RefOp::Commit },
            writer: format!("w{n}"),
            write_id: Uuid::new_v4(),
            time_us: 0,
            reason: String::new(),
        }
    }

    fn fault(kind: u8) -> Fault {
        let key = "heads".to_owned();
        match kind {
            0 => Fault::DropResponse { key, times: 1 },
            1 => Fault::ExistsAfterOwn { key, times: 1 },
            2 => Fault::ConflictWithoutObject { key, times: 2 },
            3 => Fault::FailWrite(1),
            _ => Fault::None,
        }
    }

    #[test]
    fn keys_sort_newest_first() {
        let main = RefName::main();
        assert_eq!(entry_key(&main, 1), "_repo/refs/heads/main/18446744073709551614.json");
        assert!(entry_key(&main, 10) < entry_key(&main, 9));
        assert_eq!(seq_of("18446744073709551614.json"), Some(1));
        assert_eq!(seq_of("18446744073709551614.json#1"), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Against a plain list: whoever knows the head wins, whoever does not is told the entry that beat it, whatever
        /// the store answers; and every reader, fresh or old, sees the same log.
        #[test]
        fn refs_behave_like_a_list(steps in proptest::collection::vec((0usize..50, 0u8..8, 0usize..3), 1..60)) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let faults = Arc::new(FaultStore::new(Arc::new(InMemory::new())));
                let store = LakeStore::new("memory:///lake", Arc::clone(&faults) as Arc<dyn object_store::ObjectStore>);
                let clients: Vec<ObjectStoreRefs> = (0..3).map(|_| ObjectStoreRefs::new(store.clone())).collect();
                let main = RefName::main();
                let mut model: Vec<Head> = Vec::new();
                for (n, (behind, kind, client)) in steps.into_iter().enumerate() {
                    // Mostly the head is known; now and then it is that of some entries ago.
                    let known = model.len().saturating_sub(if behind < 10 { behind } else { 0 });
                    let expect = model[..known].last().cloned();
                    let update = update(n);
                    faults.set(fault(kind));
                    let answer = clients[client].publish(&main, expect.as_ref(), &update).await;
                    faults.set(Fault::None);
                    match answer {
                        Ok(head) => {
                            prop_assert_eq!(known, model.len());
                            prop_assert_eq!((head.seq, &head.commit), (known as u64 + 1, &update.commit));
                            model.push(head);
                        }
                        Err(PublishError::Conflict(head)) => prop_assert_eq!(&*head, &model[known]),
                        Err(e) => panic!("{e}"),
                    }
                    let seen = clients[(client + 1) % 3].head(&main).await.unwrap();
                    prop_assert_eq!(seen.as_ref(), model.last());
                }
                let fresh = ObjectStoreRefs::new(store);
                let mut history = fresh.history(&main, usize::MAX).await.unwrap();
                history.reverse();
                prop_assert_eq!(history, model);
                Ok(())
            })?;
        }
    }
}

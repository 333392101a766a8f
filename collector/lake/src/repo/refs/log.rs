//! The ref log over an object store.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::Error as StoreError;

use super::entry::{self, HEADS, TAGS, Tag, entry_key, log_key, seq_of, tag_key};
use super::prune::FLOOR;
use super::{Head, Pruned, PublishError, READS_MAX, RefStore, RefUpdate};
use crate::error::LakeError;
use crate::names::{CommitId, RefName};
use crate::store::LakeStore;

/// Times one publish sends its entry before it reports the outcome as unknown.
const PUBLISH_TRIES_MAX: u32 = 4;

/// Refs whose heads are kept in memory; beyond it all are forgotten, which costs a listing each.
const HEADS_KEPT_MAX: usize = 10_000;

/// Refs as objects beside the tables.
#[derive(Debug)]
pub(crate) struct ObjectStoreRefs {
    pub(super) store: LakeStore,
    /// Highest entry seen per ref: logs are gapless, so a head is found by looking on from it.
    seen: Mutex<HashMap<RefName, Head>>,
}

/// What one sending of an entry came to.
enum Sent {
    /// The entry is there and is ours.
    There(Head),
    /// Another's is there.
    Lost(Box<Head>),
    /// The store refused before it did anything.
    Refused(StoreError),
    /// Nobody knows.
    Doubt(StoreError),
}

impl ObjectStoreRefs {
    pub(crate) fn new(store: LakeStore) -> ObjectStoreRefs {
        ObjectStoreRefs { store, seen: Mutex::default() }
    }

    fn seen(&self) -> MutexGuard<'_, HashMap<RefName, Head>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn saw(&self, name: &RefName, head: &Head) {
        let mut seen = self.seen();
        if seen.get(name).is_some_and(|known| known.seq >= head.seq) {
            return;
        }
        if seen.len() >= HEADS_KEPT_MAX {
            seen.clear();
        }
        seen.insert(name.clone(), head.clone());
    }

    pub(super) fn last_seen(&self, name: &RefName) -> Option<Head> {
        self.seen().get(name).cloned()
    }

    pub(super) fn forget(&self, name: &RefName) {
        self.seen().remove(name);
    }

    pub(super) async fn read(&self, name: &RefName, seq: u64) -> Result<Option<Head>, LakeError> {
        let bytes = self.store.read(&entry_key(name, seq)).await?;
        bytes.map(|bytes| entry::read(name, seq, &bytes)).transpose()
    }

    /// Numbers of all entries, newest first. A local disk lists in no order, so they are sorted here.
    pub(super) async fn listed(&self, name: &RefName) -> Result<Vec<u64>, LakeError> {
        let names = self.store.names_in(&log_key(name)).await?;
        let mut seqs: Vec<u64> = names.iter().filter_map(|file| seq_of(file)).collect();
        seqs.sort_unstable_by(|a, b| b.cmp(a));
        Ok(seqs)
    }

    /// The entry, which a listing or an earlier read has shown to exist.
    pub(super) async fn existing(&self, name: &RefName, seq: u64) -> Result<Head, LakeError> {
        let found = self.read(name, seq).await?;
        found.ok_or_else(|| LakeError::corrupt(entry_key(name, seq), "the entry was there and is gone"))
    }

    /// Sends the entry once and finds out what the answer means: "exists" may be oneself (a lost response), another, or
    /// nobody (a 409 without an object); an error may have been applied. The entry itself knows.
    async fn send(&self, name: &RefName, ours: &Head, bytes: Bytes) -> Sent {
        let answer = match self.store.create_raw(&entry_key(name, ours.seq), bytes).await {
            Ok(()) => return Sent::There(ours.clone()),
            Err(
                e @ (StoreError::PermissionDenied { .. }
                | StoreError::Unauthenticated { .. }
                | StoreError::NotSupported { .. }
                | StoreError::NotImplemented { .. }
                | StoreError::InvalidPath { .. }),
            ) => return Sent::Refused(e),
            Err(e) => e,
        };
        match self.read(name, ours.seq).await {
            Ok(Some(head)) if head.write_id == ours.write_id => Sent::There(head),
            Ok(Some(head)) => Sent::Lost(Box::new(head)),
            // Not there is no proof that it will not be: only the same entry may be sent again.
            Ok(None) | Err(_) => Sent::Doubt(answer),
        }
    }

    /// The newest entry if `expect` has been pruned, so that a create right above it says nothing; none while it stands.
    async fn overtaken(&self, name: &RefName, expect: Option<&Head>) -> Result<Option<Head>, LakeError> {
        if let Some(expect) = expect
            && self.store.exists(&entry_key(name, expect.seq)).await?
        {
            return Ok(None);
        }
        let next = expect.map_or(1, |head| head.seq + 1);
        Ok(self.newest_listed(name).await?.filter(|head| head.seq > next))
    }

    /// Whether an entry is a link of the log: the one above it, if any, was put on it.
    pub(super) async fn is_linked(&self, name: &RefName, entry: &Head) -> Result<bool, LakeError> {
        let above = self.store.read(&entry_key(name, entry.seq + 1)).await?;
        above.map_or(Ok(false), |bytes| entry::follows(name, entry, &bytes))
    }

    /// Takes back an entry that was written below the head of a pruned log. Says false if it is a link of that log: an
    /// answer that was long lost.
    async fn take_back(&self, name: &RefName, ours: &Head) -> Result<bool, LakeError> {
        if self.is_linked(name, ours).await? {
            return Ok(false);
        }
        if let Err(error) = self.store.delete(&entry_key(name, ours.seq)).await {
            tracing::warn!(%name, seq = ours.seq, %error, "an entry that never counted stays until the log is pruned");
        }
        Ok(true)
    }
}

#[async_trait]
impl RefStore for ObjectStoreRefs {
    async fn head(&self, name: &RefName) -> Result<Option<Head>, LakeError> {
        self.newest(name).await
    }

    async fn publish(
        &self,
        name: &RefName,
        expect: Option<&Head>,
        update: &RefUpdate,
    ) -> Result<Head, PublishError> {
        let (ours, bytes) = entry::next(name, expect, update).map_err(PublishError::Failed)?;
        let unknown = |source| PublishError::Unknown { name: name.clone(), seq: ours.seq, source };
        let mut in_doubt = false;
        let mut tries = 0;
        loop {
            tries += 1;
            // One round trip: whether the log still reaches down to what was expected is asked beside the write.
            let (sent, overtaken) =
                futures::join!(self.send(name, &ours, bytes.clone()), self.overtaken(name, expect));
            let doubt = match (sent, overtaken) {
                (Sent::There(head), Ok(None)) => {
                    self.saw(name, &head);
                    return Ok(head);
                }
                (Sent::There(head), Ok(Some(newest))) => match self.take_back(name, &head).await {
                    Ok(false) => return Ok(head),
                    Ok(true) => {
                        self.saw(name, &newest);
                        return Err(PublishError::Conflict(Box::new(newest)));
                    }
                    Err(e) => StoreError::Generic { store: "lake", source: Box::new(e) },
                },
                (Sent::Lost(head), _) => {
                    self.saw(name, &head);
                    return Err(PublishError::Conflict(head));
                }
                (Sent::Refused(e), _) if !in_doubt => {
                    let key = entry_key(name, ours.seq);
                    return Err(PublishError::Failed(self.store.failed("write", &key, e)));
                }
                (Sent::Refused(e) | Sent::Doubt(e), _) => e,
                (Sent::There(_), Err(e)) => StoreError::Generic { store: "lake", source: Box::new(e) },
            };
            in_doubt = true;
            tracing::warn!(%name, seq = ours.seq, tries, error = %doubt, "ref write has no clear outcome");
            if tries >= PUBLISH_TRIES_MAX {
                return Err(unknown(doubt));
            }
        }
    }

    async fn history(&self, name: &RefName, limit: usize) -> Result<Vec<Head>, LakeError> {
        let Some(head) = self.newest(name).await?.filter(|_| limit > 0) else { return Ok(Vec::new()) };
        // Gapless from the head down to where it was pruned: no listing is needed.
        let below = (1..head.seq).rev().take(limit - 1);
        let reads = futures::stream::iter(below).map(|seq| self.read(name, seq)).buffered(READS_MAX);
        let older = reads.try_take_while(|entry| futures::future::ready(Ok(entry.is_some())));
        let older: Vec<Option<Head>> = older.try_collect().await?;
        Ok(std::iter::once(head).chain(older.into_iter().flatten()).collect())
    }

    async fn entry(&self, name: &RefName, seq: u64) -> Result<Option<Head>, LakeError> {
        self.read(name, seq).await
    }

    async fn list(&self) -> Result<Vec<(RefName, Head)>, LakeError> {
        let folders = self.store.folders_in(HEADS).await?;
        let names = folders.iter().filter_map(|key| RefName::from_key(key).ok());
        let reads: Vec<BoxFuture<'_, Result<_, LakeError>>> = names
            .map(|name| async move { Ok(self.newest(&name).await?.map(|head| (name, head))) }.boxed())
            .collect();
        let refs: Vec<Option<(RefName, Head)>> =
            futures::stream::iter(reads).buffer_unordered(READS_MAX).try_collect().await?;
        let mut refs: Vec<(RefName, Head)> =
            refs.into_iter().flatten().filter(|(_, head)| head.commit.is_some()).collect();
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
        let tag = Tag { name: name.clone(), commit: commit.clone(), author: author.to_owned(), time_us };
        let key = tag_key(name);
        let written = self.store.create(&key, tag.to_bytes()?).await;
        // Read back whatever the answer was: what is there counts.
        match (self.tagged(name).await?, written) {
            (Some(found), _) if &found == commit => Ok(()),
            (Some(_), _) => Err(LakeError::TagExists { name: name.clone() }),
            (None, Err(e)) => Err(e),
            (None, Ok(_)) => Err(LakeError::corrupt(&key, "the tag was written and is not there")),
        }
    }

    async fn tagged(&self, name: &RefName) -> Result<Option<CommitId>, LakeError> {
        let Some(bytes) = self.store.read(&tag_key(name)).await? else { return Ok(None) };
        Ok(Some(Tag::read(name, &bytes)?.commit))
    }

    async fn tags(&self) -> Result<Vec<Tag>, LakeError> {
        let files = self.store.names_in(TAGS).await?;
        let names = files.iter().filter_map(|file| RefName::from_key(file.strip_suffix(".json")?).ok());
        let reads: Vec<BoxFuture<'_, Result<_, LakeError>>> = names
            .map(|name| {
                async move {
                    let bytes = self.store.read(&tag_key(&name)).await?;
                    bytes.map(|bytes| Tag::read(&name, &bytes)).transpose()
                }
                .boxed()
            })
            .collect();
        let tags: Vec<Option<Tag>> =
            futures::stream::iter(reads).buffer_unordered(READS_MAX).try_collect().await?;
        let mut tags: Vec<Tag> = tags.into_iter().flatten().collect();
        tags.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(tags)
    }

    async fn prune(&self, name: &RefName, keep_newest: u64, older_than_us: i64) -> Result<Pruned, LakeError> {
        self.pruned(name, keep_newest, older_than_us, FLOOR).await
    }
}

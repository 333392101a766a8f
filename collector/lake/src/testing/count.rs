//! What a verb costs at the store: requests by verb and kind of object, and how many round trips follow one another.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::list::{PaginatedListOptions, PaginatedListResult, PaginatedListStore};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// What was asked of the store. A multipart upload is one `Put`; `Head` is a read of no bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// PUT.
    Put,
    /// GET.
    Get,
    /// HEAD.
    Head,
    /// LIST, one page.
    List,
    /// DELETE.
    Delete,
}

/// Kinds of objects of a lake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyClass {
    /// Entries of ref logs.
    Ref,
    /// Tags.
    Tag,
    /// Commit objects.
    Commit,
    /// Ledger checkpoints, coverage and other things of `_repo`.
    Repo,
    /// Data files of tables.
    Data,
    /// Manifests and manifest lists.
    Manifest,
    /// `metadata.json` of tables.
    Metadata,
    /// Blobs.
    Blob,
    /// Anything else.
    Other,
}

impl KeyClass {
    /// The kind of a key, wherever the lake's folder begins in it.
    pub fn of(key: &str) -> KeyClass {
        let has = |part: &str| key.contains(part);
        if has("_repo/refs/heads") {
            KeyClass::Ref
        } else if has("_repo/refs/tags") {
            KeyClass::Tag
        } else if has("_repo/commits/") {
            KeyClass::Commit
        } else if has("_repo/") {
            KeyClass::Repo
        } else if has("blobs/sha256/") {
            KeyClass::Blob
        } else if key.ends_with(".metadata.json") {
            KeyClass::Metadata
        } else if key.ends_with(".avro") {
            KeyClass::Manifest
        } else if has("/data/") {
            KeyClass::Data
        } else {
            KeyClass::Other
        }
    }
}

/// Objects of one page of a listing or one request to delete, as S3 has it.
const PAGE: usize = 1000;

/// Requests to delete that are under way at once, as `object_store` has it for S3.
const DELETES_AT_ONCE: usize = 20;

/// What was counted since the last reset.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Requests {
    /// Requests by verb and kind of object.
    pub by_kind: BTreeMap<(Verb, KeyClass), u64>,
    /// Bytes written by kind of object.
    pub bytes_put: BTreeMap<KeyClass, u64>,
    /// Bytes of whole reads asked for; ranges count as what they span.
    pub bytes_got: u64,
    /// Round trips one after the other: a request that began after another's answer is one deeper than it. On a store
    /// whose latency rules, the time of a verb is this many round trips.
    pub waves: u64,
    /// Most requests that were on their way at once.
    pub at_once: u64,
}

impl Requests {
    /// All requests.
    pub fn total(&self) -> u64 {
        self.by_kind.values().sum()
    }

    /// Requests of one verb.
    pub fn of(&self, verb: Verb) -> u64 {
        self.by_kind.iter().filter(|((v, _), _)| *v == verb).map(|(_, count)| count).sum()
    }
}

#[derive(Debug, Default)]
struct State {
    seen: Requests,
    /// The deepest request that was answered.
    answered: u64,
    pending: u64,
    /// Grows with each reset: what began before it says nothing after it.
    round: u64,
}

/// Decorates a store with counters, and with the latency of a far one.
#[derive(Debug)]
pub struct CountingStore {
    below: Arc<dyn ObjectStore>,
    state: Arc<Mutex<State>>,
    latency: Option<Duration>,
}

impl CountingStore {
    /// Counts what is asked of `below`.
    pub fn new(below: Arc<dyn ObjectStore>) -> CountingStore {
        CountingStore { below, state: Arc::default(), latency: None }
    }

    /// As [`CountingStore::new`], with every request taking `latency` longer (30 ms is an object store in the region).
    pub fn with_latency(below: Arc<dyn ObjectStore>, latency: Duration) -> CountingStore {
        CountingStore { below, state: Arc::default(), latency: Some(latency) }
    }

    /// What was counted since the last reset.
    pub fn requests(&self) -> Requests {
        lock(&self.state).seen.clone()
    }

    /// Counts from zero, and gives what there was.
    pub fn reset(&self) -> Requests {
        let mut state = lock(&self.state);
        let round = state.round + 1;
        std::mem::replace(&mut *state, State { round, ..State::default() }).seen
    }

    /// Begins a request: counts it, and lets those that were begun beside it begin too.
    async fn begin(&self, verb: Verb, key: Option<&Path>) -> Pending {
        let pending = Pending::new(&self.state, verb, key);
        match self.latency {
            Some(latency) => wait(latency).await,
            None => tokio::task::yield_now().await,
        }
        pending
    }
}

#[expect(clippy::disallowed_methods, reason = "a fake that is far away on purpose")]
async fn wait(latency: Duration) {
    tokio::time::sleep(latency).await;
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A request on its way; answered when it is dropped.
#[derive(Debug)]
struct Pending {
    state: Arc<Mutex<State>>,
    depth: u64,
    round: u64,
}

impl Pending {
    fn new(state: &Arc<Mutex<State>>, verb: Verb, key: Option<&Path>) -> Pending {
        let mut held = lock(state);
        let class = key.map_or(KeyClass::Other, |key| KeyClass::of(key.as_ref()));
        *held.seen.by_kind.entry((verb, class)).or_default() += 1;
        let depth = held.answered + 1;
        held.pending += 1;
        held.seen.at_once = held.seen.at_once.max(held.pending);
        held.seen.waves = held.seen.waves.max(depth);
        Pending { state: Arc::clone(state), depth, round: held.round }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        if state.round == self.round {
            state.answered = state.answered.max(self.depth);
            state.pending = state.pending.saturating_sub(1);
        }
    }
}

impl fmt::Display for CountingStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CountingStore({})", self.below)
    }
}

#[async_trait]
impl ObjectStore for CountingStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let _pending = self.begin(Verb::Put, Some(location)).await;
        let bytes = payload.content_length() as u64;
        *lock(&self.state).seen.bytes_put.entry(KeyClass::of(location.as_ref())).or_default() += bytes;
        self.below.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let _pending = self.begin(Verb::Put, Some(location)).await;
        self.below.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let verb = if options.head { Verb::Head } else { Verb::Get };
        let _pending = self.begin(verb, Some(location)).await;
        let got = self.below.get_opts(location, options).await?;
        if verb == Verb::Get {
            lock(&self.state).seen.bytes_got += got.range.end - got.range.start;
        }
        Ok(got)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let _pending = self.begin(Verb::Get, Some(location)).await;
        let spanned = ranges.iter().map(|range| range.end.saturating_sub(range.start)).sum::<u64>();
        lock(&self.state).seen.bytes_got += spanned;
        self.below.get_ranges(location, ranges).await
    }

    /// As stores do that delete many with one request.
    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let (state, below, latency) = (Arc::clone(&self.state), Arc::clone(&self.below), self.latency);
        let deleted = locations.chunks(PAGE).map(move |paths| {
            let (state, below) = (Arc::clone(&state), Arc::clone(&below));
            async move {
                let first = paths.iter().find_map(|path| path.as_ref().ok());
                let _pending = Pending::new(&state, Verb::Delete, first);
                if let Some(latency) = latency {
                    wait(latency).await;
                }
                let answers: Vec<Result<Path>> =
                    below.delete_stream(futures::stream::iter(paths).boxed()).collect().await;
                futures::stream::iter(answers)
            }
        });
        deleted.buffered(DELETES_AT_ONCE).flatten().boxed()
    }

    /// As stores do that list page by page.
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (state, latency, prefix) = (Arc::clone(&self.state), self.latency, prefix.cloned());
        let below = self.below.list(prefix.as_ref());
        let ask = move || {
            let pending = Pending::new(&state, Verb::List, prefix.as_ref());
            async move {
                if let Some(latency) = latency {
                    wait(latency).await;
                }
                drop(pending);
            }
        };
        let first = ask();
        let more = below.chunks(PAGE).enumerate().then(move |(at, page)| {
            let asked = (at > 0).then(&ask);
            async move {
                if let Some(asked) = asked {
                    asked.await;
                }
                futures::stream::iter(page)
            }
        });
        futures::stream::once(async move {
            first.await;
            more.flatten()
        })
        .flatten()
        .boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let _pending = self.begin(Verb::List, prefix).await;
        self.below.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let _pending = self.begin(Verb::Put, Some(to)).await;
        self.below.copy_opts(from, to, options).await
    }
}

/// Pages as the clouds give them: sorted, one request each.
#[async_trait]
impl PaginatedListStore for CountingStore {
    async fn list_paginated(
        &self,
        prefix: Option<&str>,
        opts: PaginatedListOptions,
    ) -> Result<PaginatedListResult> {
        let folder = prefix.map(|prefix| Path::parse(prefix.trim_end_matches('/'))).transpose()?;
        let _pending = self.begin(Verb::List, folder.as_ref()).await;
        let mut objects: Vec<ObjectMeta> = self.below.list(folder.as_ref()).try_collect().await?;
        objects.sort_by(|a, b| a.location.cmp(&b.location));
        objects.truncate(opts.max_keys.unwrap_or(1000));
        let result = ListResult { common_prefixes: Vec::new(), objects, extensions: Default::default() };
        Ok(PaginatedListResult { result, page_token: None })
    }
}

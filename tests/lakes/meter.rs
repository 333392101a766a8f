//! A store that counts what is asked of it and answers as late as a distant one does.
//!
//! *Rounds* are what a caller waits for: requests that begin before any other has ended go together, and one that begins
//! after an end is the next round. At equal latency that is the number of round trips, whatever the machine is busy with.

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What an object of a lake is, by its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Rows as Parquet.
    Data,
    /// Lists of data files.
    Manifest,
    /// Lists of manifests.
    List,
    /// A table's `metadata.json`.
    Metadata,
    /// Commit objects.
    Commit,
    /// Entries of ref logs, and tags.
    Ref,
    /// Everything else: checkpoints, blobs, the format.
    Other,
}

impl Class {
    /// All of them, in the order a commit writes them.
    pub const ALL: [Self; 7] =
        [Self::Data, Self::Manifest, Self::List, Self::Metadata, Self::Commit, Self::Ref, Self::Other];

    /// The class of a key.
    #[must_use]
    pub fn of(key: &str) -> Self {
        let file = key.rsplit('/').next().unwrap_or(key);
        if key.starts_with("_repo/commits/") {
            Self::Commit
        } else if key.starts_with("_repo/refs/") {
            Self::Ref
        } else if key.contains("/data/") {
            Self::Data
        } else if file.ends_with(".metadata.json") {
            Self::Metadata
        } else if file.starts_with("snap-") {
            Self::List
        } else if file.ends_with(".avro") {
            Self::Manifest
        } else {
            Self::Other
        }
    }

    /// The word of tables.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Manifest => "manifest",
            Self::List => "list",
            Self::Metadata => "metadata",
            Self::Commit => "commit",
            Self::Ref => "ref",
            Self::Other => "other",
        }
    }
}

/// What was asked of a store since it was last looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counted {
    /// Objects and bytes written, by class.
    pub puts: BTreeMap<Class, (u64, u64)>,
    /// Reads.
    pub gets: u64,
    /// Listings.
    pub lists: u64,
    /// Objects deleted.
    pub deletes: u64,
    /// Round trips waited for, one after the other.
    pub rounds: u64,
}

impl Counted {
    /// Objects written.
    #[must_use]
    pub fn objects(&self) -> u64 {
        self.puts.values().map(|(objects, _)| objects).sum()
    }

    /// Bytes written that are not rows.
    #[must_use]
    pub fn metadata_bytes(&self) -> u64 {
        let not_rows = self.puts.iter().filter(|(class, _)| **class != Class::Data);
        not_rows.map(|(_, (_, bytes))| bytes).sum()
    }
}

#[derive(Debug, Default)]
struct State {
    counted: Counted,
    latency: Duration,
    /// Highest round any ended request was in.
    ended: u64,
}

/// Counts what passes to the store below.
#[derive(Debug)]
pub struct Meter {
    below: Arc<dyn ObjectStore>,
    state: Mutex<State>,
}

impl Meter {
    /// A meter over `below`, without latency.
    #[must_use]
    pub fn new(below: Arc<dyn ObjectStore>) -> Self {
        Self { below, state: Mutex::default() }
    }

    /// How long each request takes at least, from now on.
    pub fn set_latency(&self, latency: Duration) {
        self.lock().latency = latency;
    }

    /// What was counted since the last call.
    pub fn take(&self) -> Counted {
        let mut state = self.lock();
        state.ended = 0;
        std::mem::take(&mut state.counted)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request with `count`, waits as long as it travels, and gives the round it is in.
    async fn begin(&self, count: impl FnOnce(&mut Counted)) -> u64 {
        let (round, latency) = {
            let mut state = self.lock();
            count(&mut state.counted);
            (state.ended + 1, state.latency)
        };
        if !latency.is_zero() {
            crate::ticks::pause(latency).await;
        }
        round
    }

    fn end(&self, round: u64) {
        let mut state = self.lock();
        state.ended = state.ended.max(round);
        state.counted.rounds = state.ended;
    }
}

impl fmt::Display for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Meter({})", self.below)
    }
}

#[async_trait]
impl ObjectStore for Meter {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let (class, bytes) = (Class::of(location.as_ref()), payload.content_length() as u64);
        let put = |counted: &mut Counted| {
            let (objects, sum) = counted.puts.entry(class).or_default();
            *objects += 1;
            *sum += bytes;
        };
        let round = self.begin(put).await;
        let done = self.below.put_opts(location, payload, options).await;
        self.end(round);
        done
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let class = Class::of(location.as_ref());
        let round = self.begin(|counted| counted.puts.entry(class).or_default().0 += 1).await;
        let done = self.below.put_multipart_opts(location, options).await;
        self.end(round);
        done
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let round = self.begin(|counted| counted.gets += 1).await;
        let done = self.below.get_opts(location, options).await;
        self.end(round);
        done
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let round = self.begin(|counted| counted.gets += 1).await;
        let done = self.below.get_ranges(location, ranges).await;
        self.end(round);
        done
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        // One request takes a thousand keys; what is counted is the call.
        self.lock().counted.deletes += 1;
        self.below.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.lock().counted.lists += 1;
        self.below.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let round = self.begin(|counted| counted.lists += 1).await;
        let done = self.below.list_with_delimiter(prefix).await;
        self.end(round);
        done
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.below.copy_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::ObjectStoreExt;
    use object_store::memory::InMemory;

    #[test]
    fn a_key_says_what_it_is() {
        for (key, class) in [
            ("_repo/commits/ab/abc.json", Class::Commit),
            ("_repo/refs/heads/main/1.json", Class::Ref),
            ("t/raw/imu-1/data/ts_day=2026-11-23/a.parquet", Class::Data),
            ("t/raw/imu-1/metadata/00001-x.metadata.json", Class::Metadata),
            ("t/raw/imu-1/metadata/snap-1-x.avro", Class::List),
            ("t/raw/imu-1/metadata/x-m.avro", Class::Manifest),
            ("_repo/format.json", Class::Other),
        ] {
            assert_eq!(Class::of(key), class, "{key}");
        }
    }

    #[tokio::test]
    async fn what_goes_together_is_one_round() {
        let meter = Meter::new(Arc::new(InMemory::new()));
        meter.set_latency(Duration::from_millis(1));
        let put = async |n: u32| {
            let key = Path::from(format!("k{n}"));
            meter.put(&key, PutPayload::from_static(b"abc")).await.unwrap();
        };
        futures::future::join_all((0..5).map(&put)).await;
        put(9).await;
        let counted = meter.take();
        assert_eq!((counted.rounds, counted.objects(), counted.metadata_bytes()), (2, 6, 18));
        assert_eq!(meter.take(), Counted::default());
    }
}

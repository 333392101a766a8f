//! A store that fails on cue: the world between a writer and its lake, with the failures object stores really have.

mod upload;

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use tokio::sync::Notify;

use upload::FaultUpload;

/// What goes wrong. Operations are counted from 1 since the fault was set; deletes and the ends of multipart uploads count
/// as writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// The n-th write fails and is not applied; everything else works.
    FailWrite(u64),
    /// The n-th read fails; everything else works.
    FailRead(u64),
    /// The n-th delete fails and is not applied; everything else works.
    FailDelete(u64),
    /// The n-th listing fails; everything else works.
    FailList(u64),
    /// Power goes just before the n-th write: neither it nor anything after it happens.
    CrashBefore(u64),
    /// Power goes just after the n-th write: it is applied, its answer is lost, and nothing after it happens.
    CrashAfter(u64),
    /// Power goes just before the n-th operation of any kind.
    CrashAt(u64),
    /// Writes to keys that contain `key` are applied and answered with an error, `times` times.
    DropResponse {
        /// Part of the key.
        key: String,
        /// How often.
        times: u64,
    },
    /// Writes to keys that contain `key` are applied and then answered as already existing, as when the store's client
    /// repeats a write whose first answer was lost; `times` times.
    ExistsAfterOwn {
        /// Part of the key.
        key: String,
        /// How often.
        times: u64,
    },
    /// Writes to keys that contain `key` are answered as conflicting and not applied (a 409 without an object), `times` times.
    ConflictWithoutObject {
        /// Part of the key.
        key: String,
        /// How often.
        times: u64,
    },
    /// Anything asked of keys that contain `key` is refused with 503 and not applied, `times` times.
    SlowDown {
        /// Part of the key.
        key: String,
        /// How often.
        times: u64,
    },
    /// Writes to keys that contain `key` are applied, but neither the answer nor any read of the key gets through
    /// until the fault is changed.
    Unreachable {
        /// Part of the key.
        key: String,
    },
    /// Anything asked of keys that contain `key` takes this much longer.
    Slow {
        /// Part of the key.
        key: String,
        /// How much.
        delay: Duration,
    },
    /// Reads of keys that contain `key` wait until the fault is changed.
    HeldRead {
        /// Part of the key.
        key: String,
    },
    /// Reads of keys that contain `key` give the first half and end as if that were all.
    TruncatedRead {
        /// Part of the key.
        key: String,
    },
    /// Reads of keys that contain `key` have a bit flipped in their middle.
    CorruptRead {
        /// Part of the key.
        key: String,
    },
    /// Of each multipart upload no more than this many parts get through, and no end.
    TornMultipart(u64),
    /// Listings do not show what was written since.
    ListLag,
    /// The disk is full from the n-th write on: none is applied.
    FullFrom(u64),
}

impl Fault {
    /// Whether it hits a write or a read of the key; one with a number of times is used up by it.
    fn hits(&mut self, path: &Path, write: bool) -> bool {
        let on = |key: &String| path.as_ref().contains(key.as_str());
        let hit = match self {
            Fault::DropResponse { key, times }
            | Fault::ExistsAfterOwn { key, times }
            | Fault::ConflictWithoutObject { key, times } => write && *times > 0 && on(key),
            Fault::SlowDown { key, times } => *times > 0 && on(key),
            Fault::Unreachable { key } => on(key),
            Fault::TruncatedRead { key } | Fault::CorruptRead { key } => !write && on(key),
            _ => false,
        };
        if let Fault::DropResponse { times, .. }
        | Fault::ExistsAfterOwn { times, .. }
        | Fault::ConflictWithoutObject { times, .. }
        | Fault::SlowDown { times, .. } = self
        {
            *times -= u64::from(hit);
        }
        hit
    }
}

/// Decorates a store with one fault at a time.
#[derive(Debug)]
pub struct FaultStore {
    below: Arc<dyn ObjectStore>,
    state: Arc<Mutex<State>>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    fault: Option<Fault>,
    counts: Counts,
    dead: bool,
    written: Vec<Path>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    all: u64,
    writes: u64,
    reads: u64,
    deletes: u64,
    lists: u64,
}

/// What to do with one write.
enum Write {
    Pass,
    Refuse(Error),
    ApplyThen(Error),
}

/// What to do with the bytes of one read.
#[derive(Clone, Copy)]
enum Read {
    Pass,
    Truncate,
    Corrupt,
}

impl State {
    /// Counts an operation; an error if power is gone or goes now.
    fn begin(&mut self) -> Result<()> {
        if self.dead {
            return Err(lost("power is gone"));
        }
        self.counts.all += 1;
        if self.fault == Some(Fault::CrashAt(self.counts.all)) {
            self.dead = true;
            return Err(lost("power is gone"));
        }
        Ok(())
    }

    fn write(&mut self, path: &Path) -> Write {
        if let Err(e) = self.begin() {
            return Write::Refuse(e);
        }
        self.counts.writes += 1;
        let n = self.counts.writes;
        let hit = self.fault.as_mut().is_some_and(|fault| fault.hits(path, true));
        let answer = match &self.fault {
            None => Write::Pass,
            Some(Fault::FailWrite(at)) if *at == n => Write::Refuse(lost("write failed")),
            Some(Fault::CrashBefore(at)) if *at == n => {
                self.dead = true;
                Write::Refuse(lost("power is gone"))
            }
            Some(Fault::CrashAfter(at)) if *at == n => {
                self.dead = true;
                Write::ApplyThen(lost("power is gone"))
            }
            Some(Fault::FullFrom(from)) if n >= *from => Write::Refuse(full()),
            Some(fault) if hit => match fault {
                Fault::DropResponse { .. } => Write::ApplyThen(lost("the answer was lost")),
                Fault::ExistsAfterOwn { .. } => Write::ApplyThen(exists(path)),
                Fault::ConflictWithoutObject { .. } => Write::Refuse(exists(path)),
                Fault::SlowDown { .. } => Write::Refuse(slow_down()),
                Fault::Unreachable { .. } => Write::ApplyThen(lost("no route")),
                _ => Write::Pass,
            },
            Some(_) => Write::Pass,
        };
        if !matches!(answer, Write::Refuse(_)) {
            self.written.push(path.clone());
        }
        answer
    }

    fn delete(&mut self, path: &Path) -> Write {
        self.counts.deletes += 1;
        if self.fault == Some(Fault::FailDelete(self.counts.deletes)) {
            return Write::Refuse(lost("delete failed"));
        }
        self.write(path)
    }

    fn read(&mut self, path: &Path) -> Result<Read> {
        self.begin()?;
        self.counts.reads += 1;
        let n = self.counts.reads;
        let hit = self.fault.as_mut().is_some_and(|fault| fault.hits(path, false));
        match &self.fault {
            Some(Fault::FailRead(at)) if *at == n => Err(lost("read failed")),
            Some(fault) if hit => match fault {
                Fault::Unreachable { .. } => Err(lost("no route")),
                Fault::SlowDown { .. } => Err(slow_down()),
                Fault::TruncatedRead { .. } => Ok(Read::Truncate),
                Fault::CorruptRead { .. } => Ok(Read::Corrupt),
                _ => Ok(Read::Pass),
            },
            _ => Ok(Read::Pass),
        }
    }

    /// Counts a listing; gives the keys it must not show.
    fn list(&mut self) -> Result<Vec<Path>> {
        self.begin()?;
        self.counts.lists += 1;
        match &self.fault {
            Some(Fault::FailList(at)) if *at == self.counts.lists => Err(lost("list failed")),
            Some(Fault::ListLag) => Ok(self.written.clone()),
            _ => Ok(Vec::new()),
        }
    }

    fn holds(&self, path: &Path) -> bool {
        matches!(&self.fault, Some(Fault::HeldRead { key }) if path.as_ref().contains(key.as_str()))
    }

    fn delay(&self, path: &Path) -> Option<Duration> {
        match &self.fault {
            Some(Fault::Slow { key, delay }) if path.as_ref().contains(key.as_str()) => Some(*delay),
            _ => None,
        }
    }
}

impl FaultStore {
    /// A store over `below` in which nothing goes wrong yet.
    pub fn new(below: Arc<dyn ObjectStore>) -> FaultStore {
        FaultStore { below, state: Arc::default(), changed: Notify::new() }
    }

    /// Sets the next fault, counts from zero and ends a crash.
    pub fn set(&self, fault: Fault) {
        *self.lock() = State { fault: Some(fault), ..State::default() };
        self.changed.notify_waiters();
    }

    /// Writes and deletes since the fault was set.
    pub fn writes(&self) -> u64 {
        self.lock().counts.writes
    }

    /// Operations of any kind since the fault was set.
    pub fn operations(&self) -> u64 {
        self.lock().counts.all
    }

    /// Whether power has gone.
    pub fn is_dead(&self) -> bool {
        self.lock().dead
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    #[expect(clippy::disallowed_methods, reason = "a fake that is slow on purpose")]
    async fn wait(&self, path: &Path) {
        let delay = self.lock().delay(path);
        if let Some(delay) = delay {
            tokio::time::sleep(delay).await;
        }
    }

    async fn wait_to_read(&self, path: &Path) {
        self.wait(path).await;
        loop {
            // Made before the look, so that a change between the two wakes it.
            let changed = self.changed.notified();
            if !self.lock().holds(path) {
                return;
            }
            changed.await;
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn lost(what: &str) -> Error {
    Error::Generic { store: "fault", source: what.into() }
}

fn slow_down() -> Error {
    Error::Generic { store: "fault", source: "503 Service Unavailable: SlowDown".into() }
}

fn full() -> Error {
    let source = Box::new(std::io::Error::from(std::io::ErrorKind::StorageFull));
    Error::Generic { store: "fault", source }
}

fn exists(path: &Path) -> Error {
    Error::AlreadyExists { path: path.to_string(), source: "409".into() }
}

fn flipped(bytes: &Bytes) -> Bytes {
    let mut bytes = bytes.to_vec();
    let middle = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(middle) {
        *byte ^= 1;
    }
    Bytes::from(bytes)
}

fn changed(bytes: Bytes, how: Read) -> Bytes {
    match how {
        Read::Pass => bytes,
        Read::Truncate => bytes.slice(..bytes.len() / 2),
        Read::Corrupt => flipped(&bytes),
    }
}

impl fmt::Display for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultStore({})", self.below)
    }
}

#[async_trait]
impl ObjectStore for FaultStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.wait(location).await;
        let answer = self.lock().write(location);
        match answer {
            Write::Pass => self.below.put_opts(location, payload, options).await,
            Write::Refuse(e) => Err(e),
            Write::ApplyThen(e) => {
                self.below.put_opts(location, payload, options).await?;
                Err(e)
            }
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.wait(location).await;
        let answer = self.lock().write(location);
        match answer {
            Write::Pass => {
                let below = self.below.put_multipart_opts(location, options).await?;
                Ok(Box::new(FaultUpload::new(below, Arc::clone(&self.state), location.clone())))
            }
            Write::Refuse(e) | Write::ApplyThen(e) => Err(e),
        }
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.wait_to_read(location).await;
        let how = self.lock().read(location)?;
        let got = self.below.get_opts(location, options).await?;
        if matches!(how, Read::Pass) {
            return Ok(got);
        }
        let (meta, range, attributes, extensions) =
            (got.meta.clone(), got.range.clone(), got.attributes.clone(), got.extensions.clone());
        let bytes = changed(got.bytes().await?, how);
        let payload = GetResultPayload::Stream(futures::stream::once(async { Ok(bytes) }).boxed());
        Ok(GetResult { payload, meta, range, attributes, extensions })
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.wait_to_read(location).await;
        let how = self.lock().read(location)?;
        let all = self.below.get_ranges(location, ranges).await?;
        Ok(all.into_iter().map(|bytes| changed(bytes, how)).collect())
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let (state, below) = (Arc::clone(&self.state), Arc::clone(&self.below));
        let deleted = locations.and_then(move |path| {
            let (state, below) = (Arc::clone(&state), Arc::clone(&below));
            async move {
                let answer = lock(&state).delete(&path);
                match answer {
                    Write::Pass => below.delete(&path).await?,
                    Write::Refuse(e) => return Err(e),
                    Write::ApplyThen(e) => {
                        below.delete(&path).await?;
                        return Err(e);
                    }
                }
                Ok(path)
            }
        });
        deleted.boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.lock().list() {
            Ok(hidden) => {
                let shown = move |meta: &ObjectMeta| !hidden.contains(&meta.location);
                self.below.list(prefix).try_filter(move |meta| futures::future::ready(shown(meta))).boxed()
            }
            Err(e) => futures::stream::once(futures::future::ready(Err(e))).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let hidden = self.lock().list()?;
        let mut listed = self.below.list_with_delimiter(prefix).await?;
        listed.objects.retain(|meta| !hidden.contains(&meta.location));
        Ok(listed)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.lock().read(from)?;
        self.below.copy_opts(from, to, options).await
    }
}

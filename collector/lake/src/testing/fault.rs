//! A store that fails on cue: the world between a writer and its lake, with the failures object stores really have.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// What goes wrong. Writes are counted from 1 since the fault was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// The n-th write fails and is not applied; everything else works.
    FailWrite(u64),
    /// Power goes just before the n-th write: neither it nor anything after it happens.
    CrashBefore(u64),
    /// Power goes just after the n-th write: it is applied, its answer is lost, and nothing after it happens.
    CrashAfter(u64),
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
    /// Writes to keys that contain `key` are applied, but neither the answer nor any read of the key gets through
    /// until the fault is changed.
    Unreachable {
        /// Part of the key.
        key: String,
    },
}

/// Decorates a store with one fault at a time.
#[derive(Debug)]
pub struct FaultStore {
    below: Arc<dyn ObjectStore>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    fault: Fault,
    writes: u64,
    dead: bool,
}

/// What to do with one write.
enum Write {
    Pass,
    Refuse(Error),
    ApplyThen(Error),
}

impl FaultStore {
    /// A store over `below` in which nothing goes wrong yet.
    pub fn new(below: Arc<dyn ObjectStore>) -> FaultStore {
        FaultStore { below, state: Mutex::new(State { fault: Fault::None, writes: 0, dead: false }) }
    }

    /// Sets the next fault, counts from zero and ends a crash.
    pub fn set(&self, fault: Fault) {
        *self.lock() = State { fault, writes: 0, dead: false };
    }

    /// Writes since the fault was set.
    pub fn writes(&self) -> u64 {
        self.lock().writes
    }

    /// Whether power has gone.
    pub fn is_dead(&self) -> bool {
        self.lock().dead
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, path: &Path) -> Write {
        let mut state = self.lock();
        if state.dead {
            return Write::Refuse(lost("power is gone"));
        }
        state.writes += 1;
        let writes = state.writes;
        let mut dies = false;
        let answer = match &mut state.fault {
            Fault::FailWrite(n) if *n == writes => Write::Refuse(lost("write failed")),
            Fault::CrashBefore(n) if *n == writes => {
                dies = true;
                Write::Refuse(lost("power is gone"))
            }
            Fault::CrashAfter(n) if *n == writes => {
                dies = true;
                Write::ApplyThen(lost("power is gone"))
            }
            Fault::DropResponse { key, times } if *times > 0 && path.as_ref().contains(key.as_str()) => {
                *times -= 1;
                Write::ApplyThen(lost("the answer was lost"))
            }
            Fault::ExistsAfterOwn { key, times } if *times > 0 && path.as_ref().contains(key.as_str()) => {
                *times -= 1;
                Write::ApplyThen(exists(path))
            }
            Fault::ConflictWithoutObject { key, times }
                if *times > 0 && path.as_ref().contains(key.as_str()) =>
            {
                *times -= 1;
                Write::Refuse(exists(path))
            }
            Fault::Unreachable { key } if path.as_ref().contains(key.as_str()) => {
                Write::ApplyThen(lost("no route"))
            }
            _ => Write::Pass,
        };
        state.dead |= dies;
        answer
    }

    fn read(&self, path: Option<&Path>) -> Result<()> {
        let state = self.lock();
        match &state.fault {
            _ if state.dead => Err(lost("power is gone")),
            Fault::Unreachable { key } if path.is_some_and(|path| path.as_ref().contains(key.as_str())) => {
                Err(lost("no route"))
            }
            _ => Ok(()),
        }
    }
}

fn lost(what: &str) -> Error {
    Error::Generic { store: "fault", source: what.into() }
}

fn exists(path: &Path) -> Error {
    Error::AlreadyExists { path: path.to_string(), source: "409".into() }
}

impl fmt::Display for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultStore({})", self.below)
    }
}

#[async_trait]
impl ObjectStore for FaultStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        match self.write(location) {
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
        match self.write(location) {
            Write::Pass => self.below.put_multipart_opts(location, options).await,
            Write::Refuse(e) | Write::ApplyThen(e) => Err(e),
        }
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.read(Some(location))?;
        self.below.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.read(Some(location))?;
        self.below.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.below.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.read(None) {
            Ok(()) => self.below.list(prefix),
            Err(e) => futures::stream::once(futures::future::ready(Err(e))).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.read(None)?;
        self.below.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.read(Some(from))?;
        self.below.copy_opts(from, to, options).await
    }
}

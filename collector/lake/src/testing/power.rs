//! A disk whose cache is lost with the power: what was written and not yet answered may be there afterwards or not.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// A disk with a cache over it. A write shows at once; when it is answered it is synced, unless the disk lies.
#[derive(Debug)]
pub struct PowerStore {
    cache: InMemory,
    state: Mutex<State>,
    lies: bool,
}

#[derive(Debug, Default)]
struct State {
    synced: BTreeMap<Path, Bytes>,
    cached: BTreeMap<Path, Bytes>,
    steps: u64,
    dies_at: Option<u64>,
}

impl PowerStore {
    /// A disk that answers a write when it is synced, as local stores with fsync do.
    pub fn new() -> PowerStore {
        PowerStore { cache: InMemory::new(), state: Mutex::default(), lies: false }
    }

    /// A disk that answers before it has synced: what no lake survives.
    pub fn lying() -> PowerStore {
        PowerStore { lies: true, ..PowerStore::new() }
    }

    /// Lets power go at the n-th step from now; a write has two, showing and being synced.
    pub fn die_at(&self, step: u64) {
        let mut state = self.lock();
        (state.steps, state.dies_at) = (0, Some(step));
    }

    /// Whether power has gone.
    pub fn is_dead(&self) -> bool {
        self.lock().is_dead()
    }

    /// The disk after the power came back: all that was synced, and of the rest what `keeps` says yes to.
    ///
    /// # Errors
    /// Never in practice: memory takes all writes.
    pub async fn after_power_loss(
        &self,
        mut keeps: impl FnMut(&Path) -> bool,
    ) -> Result<Arc<dyn ObjectStore>> {
        let kept: Vec<(Path, Bytes)> = {
            let state = self.lock();
            let rest = state.cached.iter().filter(|(path, _)| keeps(path));
            state.synced.iter().chain(rest).map(|(path, bytes)| (path.clone(), bytes.clone())).collect()
        };
        let disk = InMemory::new();
        for (path, bytes) in kept {
            disk.put(&path, PutPayload::from(bytes)).await?;
        }
        Ok(Arc::new(disk))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One step of a write; an error if power is gone or goes now. Others get their turn first.
    async fn step(&self, apply: impl FnOnce(&mut State)) -> Result<()> {
        tokio::task::yield_now().await;
        let mut state = self.lock();
        state.steps += 1;
        if state.is_dead() {
            return Err(gone());
        }
        apply(&mut state);
        Ok(())
    }
}

impl Default for PowerStore {
    fn default() -> PowerStore {
        PowerStore::new()
    }
}

impl State {
    fn is_dead(&self) -> bool {
        self.dies_at.is_some_and(|at| self.steps >= at)
    }
}

fn gone() -> Error {
    Error::Generic { store: "disk", source: "power is gone".into() }
}

impl fmt::Display for PowerStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PowerStore")
    }
}

#[async_trait]
impl ObjectStore for PowerStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let bytes = Bytes::from(payload.clone());
        self.step(|_| {}).await?;
        let put = self.cache.put_opts(location, payload, options).await?;
        self.lock().cached.insert(location.clone(), bytes.clone());
        if !self.lies {
            self.step(|state| {
                state.cached.remove(location);
                state.synced.insert(location.clone(), bytes);
            })
            .await?;
        }
        Ok(put)
    }

    async fn put_multipart_opts(
        &self,
        _location: &Path,
        _options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let (operation, implementer) = ("put_multipart".to_owned(), "PowerStore".to_owned());
        Err(Error::NotImplemented { operation, implementer })
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        if self.is_dead() { Err(gone()) } else { self.cache.get_opts(location, options).await }
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let implementer = "PowerStore".to_owned();
        let refused = Error::NotImplemented { operation: "delete".to_owned(), implementer };
        locations.take(0).chain(futures::stream::once(futures::future::ready(Err(refused)))).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.is_dead() {
            true => futures::stream::once(futures::future::ready(Err(gone()))).boxed(),
            false => self.cache.list(prefix),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        if self.is_dead() { Err(gone()) } else { self.cache.list_with_delimiter(prefix).await }
    }

    async fn copy_opts(&self, _from: &Path, _to: &Path, _options: CopyOptions) -> Result<()> {
        let (operation, implementer) = ("copy".to_owned(), "PowerStore".to_owned());
        Err(Error::NotImplemented { operation, implementer })
    }
}

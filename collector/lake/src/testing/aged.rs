//! A store whose clock the test holds, and whose power goes after so many operations: for what depends on age.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// Decorates a store with a clock of the test's own.
#[derive(Debug)]
pub struct AgedStore {
    below: Arc<dyn ObjectStore>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    now_us: i64,
    stored: HashMap<Path, i64>,
    left: u64,
    done: u64,
}

impl AgedStore {
    /// A store over `below` in which it is `now_us`, UTC µs, until told otherwise.
    pub fn new(below: Arc<dyn ObjectStore>, now_us: i64) -> AgedStore {
        let state = State { now_us, stored: HashMap::new(), left: u64::MAX, done: 0 };
        AgedStore { below, state: Arc::new(Mutex::new(state)) }
    }

    /// Sets its clock.
    pub fn set_now(&self, now_us: i64) {
        lock(&self.state).now_us = now_us;
    }

    /// Lets power go after so many more operations of any kind; counts from zero.
    pub fn power_for(&self, operations: u64) {
        let mut state = lock(&self.state);
        (state.left, state.done) = (operations, 0);
    }

    /// Operations since then.
    pub fn operations(&self) -> u64 {
        lock(&self.state).done
    }

    fn step(&self) -> Result<()> {
        step(&self.state)
    }

    fn aged(&self, meta: ObjectMeta) -> ObjectMeta {
        aged(&self.state, meta)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn step(state: &Mutex<State>) -> Result<()> {
    let mut state = lock(state);
    state.done += 1;
    if state.left == 0 {
        return Err(Error::Generic { store: "aged", source: "power is gone".into() });
    }
    state.left -= 1;
    Ok(())
}

fn aged(state: &Mutex<State>, meta: ObjectMeta) -> ObjectMeta {
    let stored_us = lock(state).stored.get(&meta.location).copied().unwrap_or(0);
    let at = SystemTime::UNIX_EPOCH + Duration::from_micros(u64::try_from(stored_us).unwrap_or(0));
    ObjectMeta { last_modified: at.into(), ..meta }
}

impl fmt::Display for AgedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AgedStore({})", self.below)
    }
}

#[async_trait]
impl ObjectStore for AgedStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.step()?;
        let put = self.below.put_opts(location, payload, options).await?;
        let mut state = lock(&self.state);
        let now_us = state.now_us;
        state.stored.insert(location.clone(), now_us);
        Ok(put)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.step()?;
        let upload = self.below.put_multipart_opts(location, options).await?;
        let mut state = lock(&self.state);
        let now_us = state.now_us;
        state.stored.insert(location.clone(), now_us);
        Ok(upload)
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.step()?;
        let got = self.below.get_opts(location, options).await?;
        let meta = self.aged(got.meta.clone());
        Ok(GetResult { meta, ..got })
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.step()?;
        self.below.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let state = Arc::clone(&self.state);
        let counted = locations.map(move |path| step(&state).and(path)).boxed();
        self.below.delete_stream(counted)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let state = Arc::clone(&self.state);
        match self.step() {
            Ok(()) => self.below.list(prefix).map(move |meta| meta.map(|meta| aged(&state, meta))).boxed(),
            Err(e) => futures::stream::once(futures::future::ready(Err(e))).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.step()?;
        let mut listed = self.below.list_with_delimiter(prefix).await?;
        listed.objects = listed.objects.into_iter().map(|meta| self.aged(meta)).collect();
        Ok(listed)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.step()?;
        self.below.copy_opts(from, to, options).await
    }
}

//! The one way to bytes: data, metadata, refs and blobs all go through one object store below one root.
//!
//! Everything is written with [`PutMode::Create`]: nothing in a lake is ever overwritten, so a collision is a bug or,
//! for content-addressed objects, a copy that is already there.

#[cfg(feature = "cloud")]
mod cloud;
#[cfg(test)]
mod contract;
mod newest;
mod place;
mod recent;
mod stage;
mod storage;
mod sweep;
mod trouble;
mod write;

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};
use iceberg::io::FileIO;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use uuid::Uuid;

use crate::budget;
use crate::error::LakeError;

pub(crate) use newest::Pages;
pub(crate) use place::Place;
pub use place::Service;
pub use recent::ManifestsKept;
pub(crate) use stage::Stage;
pub(crate) use sweep::Listed;
pub use trouble::{Trouble, TroubleKind};

/// Writes of one wave that are in flight at once: a commit to twenty tables, four objects each, is still one round trip.
const WAVE_WRITES_MAX: usize = 128;

/// Most bytes of one object read whole (metadata, manifests, commits): far above what a bounded table has, far below memory.
const WHOLE_READ_BYTES_MAX: u64 = 256 << 20;

/// What a create-only write met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Created {
    /// Written now.
    New,
    /// Something was there already.
    Existing,
}

/// A live object store with its root URL. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct LakeStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    /// URL of the root without a slash at the end: what Iceberg locations begin with.
    location: String,
    /// Names this live store in the process registry.
    instance: Uuid,
    /// Whose store it is.
    service: Service,
    objects: Arc<dyn ObjectStore>,
    /// The same store where it gives listings page by page, with the lake's folder in it.
    pages: Option<Pages>,
    /// The folder, on a local disk.
    root: Option<PathBuf>,
    /// Manifests in memory.
    recent: recent::Recent,
}

impl Drop for Inner {
    fn drop(&mut self) {
        storage::forget(self.instance);
    }
}

impl LakeStore {
    /// A store over `objects` whose keys are below `location`.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn new(location: &str, objects: Arc<dyn ObjectStore>) -> LakeStore {
        LakeStore::over(location.to_owned(), Service::S3, objects, None, None)
    }

    /// The same of a store that also lists page by page.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn paged(location: &str, objects: Arc<dyn ObjectStore>, pages: Pages) -> LakeStore {
        LakeStore::over(location.to_owned(), Service::S3, objects, Some(pages), None)
    }

    fn over(
        location: String,
        service: Service,
        objects: Arc<dyn ObjectStore>,
        pages: Option<Pages>,
        root: Option<PathBuf>,
    ) -> LakeStore {
        let location = location.trim_end_matches('/').to_owned();
        let (instance, recent) = (Uuid::new_v4(), recent::Recent::default());
        let inner = Arc::new(Inner { location, instance, service, objects, pages, root, recent });
        storage::register(inner.instance, &inner);
        LakeStore { inner }
    }

    /// The store at `location`, in any of the forms of [`Place`]; `create` makes a folder. A bucket must be there.
    pub(crate) async fn open(location: &str, create: bool) -> Result<LakeStore, LakeError> {
        match Place::parse(location)? {
            Place::Disk(path) => LakeStore::disk(location, path, create).await,
            #[cfg(feature = "cloud")]
            Place::Bucket { .. } => {
                let env: Vec<(String, String)> = std::env::vars_os()
                    .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
                    .collect();
                LakeStore::in_bucket(location, &env)
            }
            #[cfg(not(feature = "cloud"))]
            Place::Bucket { .. } => Err(LakeError::Location {
                location: location.to_owned(),
                reason:
                    "this build reaches disks only: build headwater-lake with the cargo feature `s3`, `gcs` \
                         or `azure`"
                        .to_owned(),
            }),
        }
    }

    /// The store in a bucket; `env` stands for the environment.
    #[cfg(feature = "cloud")]
    pub(crate) fn in_bucket(location: &str, env: &[(String, String)]) -> Result<LakeStore, LakeError> {
        let Place::Bucket { service, bucket, account, prefix } = Place::parse(location)? else {
            let reason = "it names no bucket".to_owned();
            return Err(LakeError::Location { location: location.to_owned(), reason });
        };
        let cloud = cloud::open(location, service, &bucket, account.as_deref(), env)?;
        let pages = Some(Pages::new(cloud.pages, &prefix));
        if prefix.is_empty() {
            return Ok(LakeStore::over(cloud.url, service, cloud.objects, pages, None));
        }
        let url = format!("{}/{prefix}", cloud.url);
        let objects = object_store::prefix::PrefixStore::new(cloud.objects, prefix);
        Ok(LakeStore::over(url, service, Arc::new(objects), pages, None))
    }

    async fn disk(location: &str, path: PathBuf, create: bool) -> Result<LakeStore, LakeError> {
        let refuse = |reason: String| LakeError::Location { location: location.to_owned(), reason };
        if create {
            tokio::fs::create_dir_all(&path)
                .await
                .map_err(|e| refuse(format!("the folder cannot be made: {e}")))?;
        }
        let path = match tokio::fs::canonicalize(&path).await {
            Ok(path) => path,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(LakeError::NotALake { location: location.to_owned() });
            }
            Err(e) => return Err(refuse(format!("the folder cannot be opened: {e}"))),
        };
        let text = path.to_str().ok_or_else(|| refuse("the path is not UTF-8".to_owned()))?;
        if let Some(sign) = text.chars().find(|c| matches!(c, '%' | '#' | '?') || c.is_control()) {
            return Err(refuse(format!(
                "the path holds {sign:?}, which readers of Iceberg tables take for part of a URL"
            )));
        }
        // Syncing file and folder makes a returned write durable, as object stores promise.
        let disk = LocalFileSystem::new_with_prefix(&path)
            .map_err(|e| refuse(format!("the folder cannot be opened: {e}")))?
            .with_fsync(true);
        let url = format!("file://{text}");
        Ok(LakeStore::over(url, Service::Disk, Arc::new(disk), None, Some(path)))
    }

    /// Root URL, without a slash at the end.
    pub(crate) fn location(&self) -> &str {
        &self.inner.location
    }

    /// The live store, for what is read or copied as a stream.
    pub(crate) fn objects(&self) -> &Arc<dyn ObjectStore> {
        &self.inner.objects
    }

    /// The URL of a key.
    pub(crate) fn url(&self, key: &str) -> String {
        format!("{}/{key}", self.inner.location)
    }

    /// Iceberg's view of this store.
    pub(crate) fn file_io(&self) -> FileIO {
        storage::file_io(&self.inner)
    }

    /// Writes `bytes` under `key` unless something is there.
    pub(crate) async fn create(&self, key: &str, bytes: Bytes) -> Result<Created, LakeError> {
        match self.create_raw(key, bytes).await {
            Ok(()) => Ok(Created::New),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(Created::Existing),
            Err(e) => Err(self.failed("write", key, e)),
        }
    }

    /// As [`LakeStore::create`], with the store's own answer: the ref log must tell all of them apart.
    pub(crate) async fn create_raw(&self, key: &str, bytes: Bytes) -> object_store::Result<()> {
        write::create(&self.inner, key, bytes).await
    }

    /// Writes a wave of new objects, named by URL, at once; on success every one of them is durable. Names in a wave carry a hash or a
    /// uuid, so meeting an existing object means that a lost response was repeated by the store's client.
    pub(crate) async fn create_all(&self, objects: Vec<(String, Bytes)>) -> Result<u64, LakeError> {
        let count = objects.len() as u64;
        let writes: Vec<BoxFuture<'_, _>> = objects
            .into_iter()
            .map(|(url, bytes)| {
                let write = async move {
                    let key = self.key_of(&url)?;
                    let _in_flight = budget::WRITES.take(bytes.len()).await;
                    self.create(&key, bytes).await
                };
                write.boxed()
            })
            .collect();
        futures::stream::iter(writes)
            .buffer_unordered(WAVE_WRITES_MAX)
            .try_for_each(|_| futures::future::ready(Ok(())))
            .await?;
        Ok(count)
    }

    /// Reads an object whole; none if it is not there.
    pub(crate) async fn read(&self, key: &str) -> Result<Option<Bytes>, LakeError> {
        self.inner.read(key).await.map_err(|e| self.failed("read", key, e))
    }

    /// Manifests in memory, by URL.
    pub(crate) fn recent(&self) -> &recent::Recent {
        &self.inner.recent
    }

    /// The bytes of the manifest at `url`, from memory if they are there.
    pub(crate) async fn manifest(&self, url: &str) -> Result<Bytes, LakeError> {
        if let Some(bytes) = self.recent().get(url) {
            return Ok(bytes);
        }
        let key = self.key_of(url)?;
        let bytes = self.read(&key).await?;
        let bytes = bytes.ok_or_else(|| LakeError::corrupt(&key, "the manifest is gone"))?;
        self.recent().keep(url, bytes.clone());
        Ok(bytes)
    }

    /// True if there is such an object.
    pub(crate) async fn exists(&self, key: &str) -> Result<bool, LakeError> {
        let fail = |e| self.failed("look for", key, e);
        match self.inner.objects.head(&parse(key).map_err(fail)?).await {
            Ok(_) => Ok(true),
            Err(e) if trouble::is_absent(&e) => Ok(false),
            Err(error) => Err(fail(error)),
        }
    }

    /// File names directly below a folder key, in no order.
    pub(crate) async fn names_in(&self, folder: &str) -> Result<Vec<String>, LakeError> {
        let fail = |e| self.failed("list", folder, e);
        let listed = self
            .inner
            .objects
            .list_with_delimiter(Some(&parse(folder).map_err(fail)?))
            .await
            .map_err(fail)?;
        Ok(listed.objects.iter().filter_map(|o| o.location.filename().map(str::to_owned)).collect())
    }

    /// File names directly below a folder key with the store's time of each, UTC µs; in no order.
    pub(crate) async fn files_in(&self, folder: &str) -> Result<Vec<(String, i64)>, LakeError> {
        let fail = |e| self.failed("list", folder, e);
        let folder = parse(folder).map_err(fail)?;
        let listed = self.inner.objects.list_with_delimiter(Some(&folder)).await.map_err(fail)?;
        let file = |object: object_store::ObjectMeta| {
            Some((object.location.filename()?.to_owned(), object.last_modified.timestamp_micros()))
        };
        Ok(listed.objects.into_iter().filter_map(file).collect())
    }

    /// Removes an object; one that is not there is fine.
    pub(crate) async fn delete(&self, key: &str) -> Result<(), LakeError> {
        let fail = |e| self.failed("delete", key, e);
        match self.inner.objects.delete(&parse(key).map_err(fail)?).await {
            Ok(()) => Ok(()),
            Err(e) if trouble::is_absent(&e) => Ok(()),
            Err(e) => Err(fail(e)),
        }
    }

    /// Names of the folders directly below a folder key, in no order.
    pub(crate) async fn folders_in(&self, folder: &str) -> Result<Vec<String>, LakeError> {
        let fail = |e| self.failed("list", folder, e);
        let listed = self
            .inner
            .objects
            .list_with_delimiter(Some(&parse(folder).map_err(fail)?))
            .await
            .map_err(fail)?;
        Ok(listed.common_prefixes.iter().filter_map(|p| p.filename().map(str::to_owned)).collect())
    }

    /// A store's failure, in words that name the fix where there is one.
    pub(crate) fn failed(&self, action: &'static str, key: &str, source: object_store::Error) -> LakeError {
        match Trouble::of(self.inner.service, &source) {
            None => LakeError::store(action, key, source),
            Some(trouble) => {
                LakeError::Trouble { action, url: self.url(key), trouble, source: Box::new(source) }
            }
        }
    }

    /// Whether a disk refused a write for having no room or not being writable.
    pub(crate) fn is_full(&self, error: &object_store::Error) -> bool {
        let trouble = Trouble::of(self.inner.service, error);
        trouble.is_some_and(|trouble| matches!(trouble.kind, TroubleKind::Full | TroubleKind::ReadOnly))
    }

    /// The key behind a URL of this lake.
    pub(crate) fn key_of(&self, url: &str) -> Result<String, LakeError> {
        self.inner.key_of(url).map(str::to_owned).ok_or_else(|| LakeError::Location {
            location: url.to_owned(),
            reason: format!("it is outside the lake at {}", self.inner.location),
        })
    }
}

impl Inner {
    /// The key behind `url`, or none if it is outside the root.
    fn key_of<'a>(&self, url: &'a str) -> Option<&'a str> {
        let key = url.strip_prefix(self.location.as_str())?.strip_prefix('/')?;
        let inside = !key.is_empty() && key.split('/').all(|part| !matches!(part, "" | "." | ".."));
        inside.then_some(key)
    }

    async fn read(&self, key: &str) -> object_store::Result<Option<Bytes>> {
        let got = match self.objects.get(&parse(key)?).await {
            Ok(got) => got,
            Err(e) if trouble::is_absent(&e) => return Ok(None),
            Err(e) => return Err(e),
        };
        if got.meta.size > WHOLE_READ_BYTES_MAX {
            let reason = format!(
                "{key} has {} bytes, more than {WHOLE_READ_BYTES_MAX} to be read whole",
                got.meta.size
            );
            return Err(object_store::Error::Generic { store: "lake", source: reason.into() });
        }
        let size = got.meta.size;
        let bytes = got.bytes().await?;
        if bytes.len() as u64 != size {
            let reason = format!("{key} came short: {} bytes of {size}", bytes.len());
            return Err(object_store::Error::Generic { store: "lake", source: reason.into() });
        }
        Ok(Some(bytes))
    }
}

/// A key as the store's path, unchanged: `Path::from` would escape signs and so rename silently.
fn parse(key: &str) -> object_store::Result<Path> {
    Path::parse(key).map_err(|source| object_store::Error::InvalidPath { source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;

    #[test]
    fn locations_outside_the_root_are_refused() {
        let store = LakeStore::new("memory:///lake/", Arc::new(InMemory::new()));
        assert_eq!(store.key_of("memory:///lake/t/a").unwrap(), "t/a");
        for outside in [
            "memory:///lake",
            "memory:///lake/",
            "memory:///lakes/t",
            "/lake/t",
            "memory:///lake/../x",
            "memory:///lake//x",
        ] {
            assert!(store.key_of(outside).is_err(), "{outside}");
        }
    }
}

//! The one way to bytes: data, metadata, refs and blobs all go through one object store below one root.
//!
//! Everything is written with [`PutMode::Create`]: nothing in a lake is ever overwritten, so a collision is a bug or,
//! for content-addressed objects, a copy that is already there.

mod stage;
mod storage;
mod sweep;

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};
use iceberg::io::FileIO;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use uuid::Uuid;

use crate::error::LakeError;

pub(crate) use stage::Stage;
pub(crate) use sweep::Listed;

/// Writes of one wave that are in flight at once: enough to hide an object store's latency, few enough that a wave of
/// large files does not open hundreds of connections.
const WAVE_WRITES_MAX: usize = 16;

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
    objects: Arc<dyn ObjectStore>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        storage::forget(self.instance);
    }
}

impl LakeStore {
    /// A store over `objects` whose keys are below `location`.
    pub(crate) fn new(location: &str, objects: Arc<dyn ObjectStore>) -> LakeStore {
        let inner = Arc::new(Inner {
            location: location.trim_end_matches('/').to_owned(),
            instance: Uuid::new_v4(),
            objects,
        });
        storage::register(inner.instance, &inner);
        LakeStore { inner }
    }

    /// The store on local disk for `file:///abs`, `/abs` or a relative path; `create` makes the folder.
    pub(crate) async fn local(location: &str, create: bool) -> Result<LakeStore, LakeError> {
        let refuse = |reason: String| LakeError::Location { location: location.to_owned(), reason };
        let path = local_path(location)?;
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
        Ok(LakeStore::new(&format!("file://{text}"), Arc::new(disk)))
    }

    /// Root URL, without a slash at the end.
    pub(crate) fn location(&self) -> &str {
        &self.inner.location
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
            Err(e) => Err(LakeError::store("write", key, e)),
        }
    }

    /// As [`LakeStore::create`], with the store's own answer: the ref log must tell all of them apart.
    pub(crate) async fn create_raw(&self, key: &str, bytes: Bytes) -> object_store::Result<()> {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        self.inner.objects.put_opts(&parse(key)?, PutPayload::from(bytes), options).await.map(|_| ())
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
        self.inner.read(key).await.map_err(|e| LakeError::store("read", key, e))
    }

    /// True if there is such an object.
    pub(crate) async fn exists(&self, key: &str) -> Result<bool, LakeError> {
        let fail = |e| LakeError::store("look for", key, e);
        match self.inner.objects.head(&parse(key).map_err(fail)?).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(fail(error)),
        }
    }

    /// File names directly below a folder key, in no order.
    pub(crate) async fn names_in(&self, folder: &str) -> Result<Vec<String>, LakeError> {
        let fail = |e| LakeError::store("list", folder, e);
        let listed = self
            .inner
            .objects
            .list_with_delimiter(Some(&parse(folder).map_err(fail)?))
            .await
            .map_err(fail)?;
        Ok(listed.objects.iter().filter_map(|o| o.location.filename().map(str::to_owned)).collect())
    }

    /// Names of the folders directly below a folder key, in no order.
    pub(crate) async fn folders_in(&self, folder: &str) -> Result<Vec<String>, LakeError> {
        let fail = |e| LakeError::store("list", folder, e);
        let listed = self
            .inner
            .objects
            .list_with_delimiter(Some(&parse(folder).map_err(fail)?))
            .await
            .map_err(fail)?;
        Ok(listed.common_prefixes.iter().filter_map(|p| p.filename().map(str::to_owned)).collect())
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
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(e) => return Err(e),
        };
        if got.meta.size > WHOLE_READ_BYTES_MAX {
            let reason = format!(
                "{key} has {} bytes, more than {WHOLE_READ_BYTES_MAX} to be read whole",
                got.meta.size
            );
            return Err(object_store::Error::Generic { store: "lake", source: reason.into() });
        }
        got.bytes().await.map(Some)
    }
}

/// A key as the store's path, unchanged: `Path::from` would escape signs and so rename silently.
fn parse(key: &str) -> object_store::Result<Path> {
    Path::parse(key).map_err(|source| object_store::Error::InvalidPath { source })
}

fn local_path(location: &str) -> Result<PathBuf, LakeError> {
    let refuse =
        |reason: &str| LakeError::Location { location: location.to_owned(), reason: reason.to_owned() };
    if let Some(rest) = location.strip_prefix("file://") {
        return if rest.starts_with('/') {
            Ok(PathBuf::from(rest))
        } else {
            Err(refuse("a file URL has three slashes, as in `file:///var/lib/headwater/lake`"))
        };
    }
    if location.contains("://") {
        return Err(refuse(
            "this build writes to local disk only: give `file:///abs`, `/abs` or a relative path",
        ));
    }
    if location.is_empty() {
        return Err(refuse("it is empty: give `file:///abs`, `/abs` or a relative path"));
    }
    std::path::absolute(location).map_err(|_| refuse("the working directory is gone"))
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

    #[test]
    fn other_schemes_say_what_to_give_instead() {
        let text = local_path("s3://bucket/lake").unwrap_err().to_string();
        assert!(text.contains("file:///abs"), "{text}");
        assert!(local_path("file://host/lake").is_err());
    }
}

//! Iceberg's storage trait over the lake's object store, so that scans read through the same stack the writer uses.
//!
//! Iceberg wants its storage serialisable, and a live store is not. So the value holds the lake's URL and the number of
//! the live store in this process's registry; a value that was carried to another process fails loudly.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use iceberg::io::{
    FileIO, FileIOBuilder, FileMetadata, FileRead, FileWrite, InputFile, OutputFile, Storage, StorageConfig,
    StorageFactory,
};
use iceberg::{Error, ErrorKind, Result};
use object_store::ObjectStoreExt;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::write::{self, Growing};
use super::{Inner, parse};

static LIVE: LazyLock<Mutex<HashMap<Uuid, Weak<Inner>>>> = LazyLock::new(Mutex::default);

fn live() -> MutexGuard<'static, HashMap<Uuid, Weak<Inner>>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn register(instance: Uuid, inner: &Arc<Inner>) {
    live().insert(instance, Arc::downgrade(inner));
}

pub(super) fn forget(instance: Uuid) {
    live().remove(&instance);
}

pub(super) fn file_io(inner: &Arc<Inner>) -> FileIO {
    let storage = LakeStorage {
        location: inner.location.clone(),
        instance: inner.instance,
        held: Some(Arc::clone(inner)),
    };
    FileIOBuilder::new(Arc::new(LakeStorageFactory { storage })).build()
}

/// Hands out the one storage it was made with.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct LakeStorageFactory {
    storage: LakeStorage,
}

#[typetag::serde(name = "HeadwaterLakeStorageFactory")]
impl StorageFactory for LakeStorageFactory {
    fn build(&self, _config: &StorageConfig) -> Result<Arc<dyn Storage>> {
        self.storage.inner()?;
        Ok(Arc::new(self.storage.clone()))
    }
}

/// Which live store to use; holds it while it stays in the process.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct LakeStorage {
    location: String,
    instance: Uuid,
    #[serde(skip)]
    held: Option<Arc<Inner>>,
}

impl LakeStorage {
    fn inner(&self) -> Result<Arc<Inner>> {
        let held = self.held.as_ref().map(Arc::clone);
        held.or_else(|| live().get(&self.instance).and_then(Weak::upgrade)).ok_or_else(|| {
            let text = format!("the lake at {} is not open in this process", self.location);
            Error::new(ErrorKind::PreconditionFailed, text)
        })
    }

    fn at<'a>(&self, url: &'a str) -> Result<(Arc<Inner>, &'a str)> {
        let inner = self.inner()?;
        let key = inner.key_of(url).ok_or_else(|| {
            let text = format!("{url} is outside the lake at {}", self.location);
            Error::new(ErrorKind::DataInvalid, text)
        })?;
        Ok((inner, key))
    }
}

fn failed(verb: &str, url: &str, source: object_store::Error) -> Error {
    Error::new(ErrorKind::Unexpected, format!("failed to {verb} {url}")).with_source(source)
}

fn refused(what: &str) -> Error {
    Error::new(ErrorKind::FeatureUnsupported, format!("{what}: only the lake's garbage collector deletes"))
}

#[async_trait]
#[typetag::serde(name = "HeadwaterLakeStorage")]
impl Storage for LakeStorage {
    async fn exists(&self, path: &str) -> Result<bool> {
        let (inner, key) = self.at(path)?;
        match inner.objects.head(&parse(key).map_err(|e| failed("look at", path, e))?).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(e) => Err(failed("look at", path, e)),
        }
    }

    async fn metadata(&self, path: &str) -> Result<FileMetadata> {
        let (inner, key) = self.at(path)?;
        let key = parse(key).map_err(|e| failed("look at", path, e))?;
        let meta = inner.objects.head(&key).await.map_err(|e| failed("look at", path, e))?;
        Ok(FileMetadata { size: meta.size })
    }

    async fn read(&self, path: &str) -> Result<Bytes> {
        let (inner, key) = self.at(path)?;
        let found = inner.read(key).await.map_err(|e| failed("read", path, e))?;
        found.ok_or_else(|| Error::new(ErrorKind::DataInvalid, format!("{path} is not there")))
    }

    async fn reader(&self, path: &str) -> Result<Box<dyn FileRead>> {
        let (inner, key) = self.at(path)?;
        let key = parse(key).map_err(|e| failed("read", path, e))?;
        Ok(Box::new(LakeRead { inner, key }))
    }

    async fn write(&self, path: &str, bytes: Bytes) -> Result<()> {
        let (inner, key) = self.at(path)?;
        write::create(&inner, key, bytes).await.map_err(|e| failed("write", path, e))
    }

    async fn writer(&self, path: &str) -> Result<Box<dyn FileWrite>> {
        let (inner, key) = self.at(path)?;
        let growing = Growing::new(key.to_owned());
        Ok(Box::new(LakeWrite { inner, growing }))
    }

    async fn delete(&self, path: &str) -> Result<()> {
        Err(refused(path))
    }

    async fn delete_prefix(&self, path: &str) -> Result<()> {
        Err(refused(path))
    }

    async fn delete_stream(&self, _paths: BoxStream<'static, String>) -> Result<()> {
        Err(refused("a list of paths"))
    }

    fn new_input(&self, path: &str) -> Result<InputFile> {
        self.at(path)?;
        Ok(InputFile::new(Arc::new(self.clone()), path.to_owned()))
    }

    fn new_output(&self, path: &str) -> Result<OutputFile> {
        self.at(path)?;
        Ok(OutputFile::new(Arc::new(self.clone()), path.to_owned()))
    }
}

struct LakeRead {
    inner: Arc<Inner>,
    key: object_store::path::Path,
}

#[async_trait]
impl FileRead for LakeRead {
    async fn read(&self, range: Range<u64>) -> Result<Bytes> {
        let bytes = self.inner.objects.get_range(&self.key, range.clone()).await;
        let bytes = bytes.map_err(|e| failed("read", self.key.as_ref(), e))?;
        // A decoder of half an answer may find half the rows and be content.
        if bytes.len() as u64 == range.end.saturating_sub(range.start) {
            Ok(bytes)
        } else {
            let text = format!("{} came short: {} bytes of {range:?}", self.key, bytes.len());
            Err(Error::new(ErrorKind::Unexpected, text))
        }
    }
}

struct LakeWrite {
    inner: Arc<Inner>,
    growing: Growing,
}

#[async_trait]
impl FileWrite for LakeWrite {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        let pushed = self.growing.push(&self.inner, bytes).await;
        pushed.map_err(|e| failed("write", self.growing.key(), e))
    }

    async fn close(&mut self) -> Result<()> {
        let finished = self.growing.finish(&self.inner).await;
        finished.map_err(|e| failed("write", self.growing.key(), e))
    }
}

//! A drawer for files that are built but not yet written, so that a whole commit can go out in one parallel wave.
//!
//! Iceberg's writers want a place to write to; this one keeps the bytes in memory under the URL they will have.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::stream::BoxStream;
use iceberg::io::{FileMetadata, FileRead, FileWrite, InputFile, OutputFile, Storage};
use iceberg::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

type Files = Arc<Mutex<BTreeMap<String, Bytes>>>;

/// Files built in memory, by URL.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Stage {
    #[serde(skip)]
    files: Files,
}

impl Stage {
    /// A place to write the file that will have this URL.
    pub(crate) fn output(&self, url: &str) -> OutputFile {
        OutputFile::new(Arc::new(self.clone()), url.to_owned())
    }

    /// The bytes written under a URL.
    pub(crate) fn get(&self, url: &str) -> Option<Bytes> {
        lock(&self.files).get(url).cloned()
    }

    /// Everything written so far, leaving the drawer empty.
    pub(crate) fn take(&self) -> BTreeMap<String, Bytes> {
        std::mem::take(&mut *lock(&self.files))
    }
}

fn lock(files: &Files) -> MutexGuard<'_, BTreeMap<String, Bytes>> {
    // Nothing panics while it is held, and a map of finished files is whole in any case.
    files.lock().unwrap_or_else(PoisonError::into_inner)
}

fn write_only() -> Error {
    Error::new(ErrorKind::FeatureUnsupported, "a staged file can only be written")
}

#[async_trait]
#[typetag::serde(name = "HeadwaterStage")]
impl Storage for Stage {
    async fn exists(&self, path: &str) -> Result<bool> {
        Ok(lock(&self.files).contains_key(path))
    }

    async fn metadata(&self, _path: &str) -> Result<FileMetadata> {
        Err(write_only())
    }

    async fn read(&self, _path: &str) -> Result<Bytes> {
        Err(write_only())
    }

    async fn reader(&self, _path: &str) -> Result<Box<dyn FileRead>> {
        Err(write_only())
    }

    async fn write(&self, path: &str, bytes: Bytes) -> Result<()> {
        lock(&self.files).insert(path.to_owned(), bytes);
        Ok(())
    }

    async fn writer(&self, path: &str) -> Result<Box<dyn FileWrite>> {
        Ok(Box::new(StagedWrite {
            files: Arc::clone(&self.files),
            path: path.to_owned(),
            bytes: BytesMut::new(),
        }))
    }

    async fn delete(&self, path: &str) -> Result<()> {
        lock(&self.files).remove(path);
        Ok(())
    }

    async fn delete_prefix(&self, _path: &str) -> Result<()> {
        Err(write_only())
    }

    async fn delete_stream(&self, _paths: BoxStream<'static, String>) -> Result<()> {
        Err(write_only())
    }

    fn new_input(&self, _path: &str) -> Result<InputFile> {
        Err(write_only())
    }

    fn new_output(&self, path: &str) -> Result<OutputFile> {
        Ok(self.output(path))
    }
}

struct StagedWrite {
    files: Files,
    path: String,
    bytes: BytesMut,
}

#[async_trait]
impl FileWrite for StagedWrite {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.bytes.extend_from_slice(&bytes);
        Ok(())
    }

    async fn close(&mut self) -> Result<()> {
        let bytes = std::mem::take(&mut self.bytes).freeze();
        lock(&self.files).insert(std::mem::take(&mut self.path), bytes);
        Ok(())
    }
}

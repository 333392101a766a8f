//! The lake as its users hold it: open, look up, read.

use std::collections::BTreeMap;

use arrow_array::RecordBatch;
use bytes::Bytes;
use futures::stream::BoxStream;

use crate::error::LakeError;
use crate::names::{CommitId, RefName, TableName};
use crate::repo::{CommitObject, Head, TableEntry};
use crate::writer::LakeWriter;

/// Rows as they are read, in batches.
pub type BatchStream = BoxStream<'static, Result<RecordBatch, LakeError>>;

/// What to read of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScanOptions {
    /// Columns in this order; none means all.
    pub columns: Option<Vec<String>>,
    /// At most this many rows.
    pub limit: Option<usize>,
    /// Only rows of this device; the table must have a `device` column.
    pub device: Option<String>,
}

/// A versioned lake: Iceberg tables under one create-only ref log. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Lake {
    location: String,
}

impl Lake {
    /// Makes a lake at `location` (`file:///abs`, `/abs`, or a relative path), or opens the one that is there.
    ///
    /// # Errors
    /// When the location cannot be used or written.
    pub async fn init(location: &str) -> Result<Lake, LakeError> {
        Lake::open(location).await
    }

    /// Opens the lake at `location`.
    ///
    /// # Errors
    /// [`LakeError::NotALake`] when there is none.
    pub async fn open(location: &str) -> Result<Lake, LakeError> {
        Err(LakeError::NotALake { location: location.to_owned() })
    }

    /// Absolute URL of the lake's root, without a slash at the end.
    pub fn location(&self) -> &str {
        &self.location
    }

    /// The newest entry of a ref's log; none if the ref never was.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn head(&self, name: &RefName) -> Result<Option<Head>, LakeError> {
        unfinished(name.as_str())
    }

    /// The commit a revision names: a branch (`main`), a tag, a full commit id or a unique beginning of one (six digits
    /// or more), `<ref>@<id>`, and any of these with `~n` for its n-th first parent.
    ///
    /// # Errors
    /// [`LakeError::UnknownRevision`], [`LakeError::AmbiguousRevision`], or when the store fails.
    pub async fn resolve(&self, spec: &str) -> Result<CommitId, LakeError> {
        unfinished(spec)
    }

    /// Reads a commit and checks it against its id.
    ///
    /// # Errors
    /// When it is not there, not whole, or the store fails.
    pub async fn commit_object(&self, id: &CommitId) -> Result<CommitObject, LakeError> {
        unfinished(id.as_str())
    }

    /// Commits from `spec` back along first parents, newest first, at most `limit`.
    ///
    /// # Errors
    /// As [`Lake::resolve`] and [`Lake::commit_object`].
    pub async fn log(&self, spec: &str, limit: usize) -> Result<Vec<CommitObject>, LakeError> {
        unfinished(&format!("{spec} {limit}"))
    }

    /// The tables of a commit.
    ///
    /// # Errors
    /// As [`Lake::commit_object`].
    pub async fn tables(&self, id: &CommitId) -> Result<BTreeMap<TableName, TableEntry>, LakeError> {
        Ok(self.commit_object(id).await?.tables)
    }

    /// Reads rows of one table as of a commit. Order is that of the files; within a file, the table's sort order.
    ///
    /// # Errors
    /// [`LakeError::UnknownTable`], an unknown column, or when the store fails.
    pub async fn scan(
        &self,
        id: &CommitId,
        table: &TableName,
        options: ScanOptions,
    ) -> Result<BatchStream, LakeError> {
        unfinished(&format!("{id} {table} {options:?}"))
    }

    /// Stores `bytes` under their SHA-256 and gives the path below the root. Existing is fine.
    ///
    /// # Errors
    /// [`LakeError::BlobDigest`] when the bytes hash to something else; when the store fails.
    pub async fn put_blob(&self, sha256_hex: &str, bytes: Bytes) -> Result<String, LakeError> {
        unfinished(&format!("{sha256_hex} {}", bytes.len()))
    }

    /// A writer that commits to `name`. Hold one per ref: it keeps the base state in memory.
    pub fn writer(&self, name: RefName, author: String) -> LakeWriter {
        LakeWriter::new(self.clone(), name, author)
    }
}

fn unfinished<T>(what: &str) -> Result<T, LakeError> {
    Err(LakeError::corrupt(what, "not yet there"))
}

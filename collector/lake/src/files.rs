//! What a commit consists of, file by file, for those who copy, check or export it.

use std::collections::BTreeSet;

use futures::TryStreamExt;
use iceberg::spec::{Literal, ManifestContentType, PrimitiveLiteral};
use object_store::ObjectStoreExt;
use ring::digest::{Context, SHA256};

use crate::error::LakeError;
use crate::lake::Lake;
use crate::names::{CommitId, TableName};
use crate::revision::commit_key;
use crate::table::{self, TableState};

/// What a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum FileRole {
    /// The commit object.
    Commit,
    /// A table's metadata.
    Metadata,
    /// The list of a snapshot's manifests.
    ManifestList,
    /// A list of data files.
    Manifest,
    /// Rows.
    Data,
    /// Positions or values of deleted rows, as other engines write them.
    Deletes,
    /// Ledger checkpoints and align coverage.
    State,
    /// A large object beside the tables.
    Blob,
}

impl FileRole {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            FileRole::Commit => "commit",
            FileRole::Metadata => "metadata",
            FileRole::ManifestList => "manifest_list",
            FileRole::Manifest => "manifest",
            FileRole::Data => "data",
            FileRole::Deletes => "deletes",
            FileRole::State => "state",
            FileRole::Blob => "blob",
        }
    }
}

/// One file of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitFile {
    /// What it is for.
    pub role: FileRole,
    /// Absolute location.
    pub location: String,
    /// The table it belongs to.
    pub table: Option<TableName>,
    /// Size as the manifest says it, bytes; none where none does.
    pub bytes: Option<u64>,
    /// Rows, for data files.
    pub rows: Option<u64>,
    /// Day of its rows, days since 1970.
    pub day: Option<i32>,
}

impl Lake {
    /// The data files of a table as of a commit, and what marks rows of them as deleted; in order of their names.
    ///
    /// # Errors
    /// [`LakeError::UnknownTable`], or when the store fails.
    pub async fn table_files(&self, id: &CommitId, name: &TableName) -> Result<Vec<CommitFile>, LakeError> {
        let tables = self.tables(id).await?;
        let entry = tables
            .get(name)
            .ok_or_else(|| LakeError::UnknownTable { table: name.clone(), commit: id.clone() })?;
        let state = table::load(self.store(), name, entry).await?;
        self.data_files(name, &state).await
    }

    /// UTC days (since 1970) of which a table has rows as of a commit.
    ///
    /// # Errors
    /// As [`Lake::table_files`].
    pub async fn days(&self, id: &CommitId, name: &TableName) -> Result<BTreeSet<i32>, LakeError> {
        let files = self.table_files(id, name).await?;
        Ok(files.iter().filter(|file| file.role == FileRole::Data).filter_map(|file| file.day).collect())
    }

    /// Every file that reading the commit may need, apart from large objects: those of `only`, or of all its tables.
    ///
    /// # Errors
    /// As [`Lake::table_files`].
    pub async fn commit_files(
        &self,
        id: &CommitId,
        only: Option<&TableName>,
    ) -> Result<Vec<CommitFile>, LakeError> {
        let commit = self.commit_object(id).await?;
        if let Some(table) = only.filter(|only| !commit.tables.contains_key(*only)) {
            return Err(LakeError::UnknownTable { table: table.clone(), commit: id.clone() });
        }
        let plain = |role, location, table: Option<&TableName>| CommitFile {
            role,
            location,
            table: table.cloned(),
            bytes: None,
            rows: None,
            day: None,
        };
        let mut files = vec![plain(FileRole::Commit, self.store().url(&commit_key(id)), None)];
        let states = commit.ledger_checkpoint.iter().map(|checkpoint| &checkpoint.hash);
        let states = states.chain(commit.coverage.values().map(|entry| &entry.hash));
        for hash in states.filter(|_| only.is_none()) {
            let key = format!("_repo/state/sha256/{}/{hash}", hash.get(..2).unwrap_or_default());
            files.push(plain(FileRole::State, self.store().url(&key), None));
        }
        for (name, entry) in commit.tables.iter().filter(|(name, _)| only.is_none_or(|only| only == *name)) {
            let state = table::load(self.store(), name, entry).await?;
            files.push(plain(FileRole::Metadata, entry.metadata_location.clone(), Some(name)));
            if let Some(snapshot) = state.metadata.current_snapshot() {
                files.push(plain(FileRole::ManifestList, snapshot.manifest_list().to_owned(), Some(name)));
            }
            for manifest in &state.manifests {
                let bytes = u64::try_from(manifest.manifest_length).ok();
                let file = plain(FileRole::Manifest, manifest.manifest_path.clone(), Some(name));
                files.push(CommitFile { bytes, ..file });
            }
            files.extend(self.data_files(name, &state).await?);
        }
        Ok(files)
    }

    async fn data_files(&self, name: &TableName, state: &TableState) -> Result<Vec<CommitFile>, LakeError> {
        let mut files = Vec::new();
        for manifest in &state.manifests {
            let role = match manifest.content {
                ManifestContentType::Data => FileRole::Data,
                ManifestContentType::Deletes => FileRole::Deletes,
            };
            let read = manifest.load_manifest(&self.store().file_io()).await;
            let read = read.map_err(LakeError::iceberg(format!("read manifest of {name}")))?;
            for entry in read.entries().iter().filter(|entry| entry.is_alive()) {
                let file = entry.data_file();
                let day = match file.partition().iter().next().flatten() {
                    Some(Literal::Primitive(PrimitiveLiteral::Int(day))) => Some(*day),
                    _ => None,
                };
                files.push(CommitFile {
                    role,
                    location: file.file_path().to_owned(),
                    table: Some(name.clone()),
                    bytes: Some(file.file_size_in_bytes()),
                    rows: Some(file.record_count()),
                    day,
                });
            }
        }
        files.sort_by(|a, b| (a.role, &a.location).cmp(&(b.role, &b.location)));
        Ok(files)
    }

    /// Size and hex SHA-256 of a file of this lake, read as a stream.
    ///
    /// # Errors
    /// [`LakeError::Location`] outside the lake; when it is not there or the store fails.
    pub async fn checksum(&self, location: &str) -> Result<(u64, String), LakeError> {
        let key = self.store().key_of(location)?;
        let fail = |e| LakeError::store("read", &key, e);
        let path = object_store::path::Path::parse(&key)
            .map_err(|source| fail(object_store::Error::InvalidPath { source }))?;
        let mut parts = self.store().objects().get(&path).await.map_err(fail)?.into_stream();
        let (mut bytes, mut digest) = (0, Context::new(&SHA256));
        while let Some(part) = parts.try_next().await.map_err(fail)? {
            bytes += part.len() as u64;
            digest.update(&part);
        }
        Ok((bytes, digest.finish().as_ref().iter().map(|b| format!("{b:02x}")).collect()))
    }
}

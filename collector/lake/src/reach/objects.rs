//! From commits to every object they need, level by level: commits, metadata, lists, manifests, files, blobs.
//!
//! A chunk of commits is taken at a time and each level of it is read in parallel, so memory holds one chunk and the
//! numbers of what was seen. A manifest or file that many commits share is looked at once.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use iceberg::spec::{
    FormatVersion, Manifest, ManifestContentType, ManifestFile, ManifestList, TableMetadata,
};
use uuid::Uuid;

use super::KeySet;
use super::blobs;
use super::found::{Damage, Found, Kind, Visitor};
use crate::error::LakeError;
use crate::lake::Lake;
use crate::names::{CommitId, TableName};
use crate::repo::{CommitObject, TableEntry};
use crate::revision::commit_key;
use crate::store::LakeStore;

/// Commits taken at a time: each brings a few tables, so this is what fills the reads of a level.
const CHUNK_COMMITS: usize = 64;

/// Objects of a level read at once.
const READS_MAX: usize = 16;

/// Manifests taken at a time: each may hold some thousand files.
const CHUNK_MANIFESTS: usize = 64;

/// Manifest lists known from newer metadata and not used yet: beyond so many they are read from their own again.
const LISTS_MAX: usize = 100_000;

/// Newest Iceberg table format this build reads.
const TABLE_FORMAT_MAX: u32 = 2;

/// Walks commits and remembers what it has seen.
#[derive(Debug)]
pub(crate) struct Walker<'a> {
    lake: &'a Lake,
    seen: KeySet,
    /// Manifest lists by table and snapshot, known from metadata that was read.
    lists: HashMap<(Uuid, i64), (String, FormatVersion)>,
    /// Reads every `metadata.json`, also where the list is known without.
    thorough: bool,
    commits: usize,
}

/// A table of a commit on its way down the levels.
#[derive(Debug, Clone)]
struct Pinned {
    commit: Arc<CommitObject>,
    table: TableName,
    entry: TableEntry,
}

impl<'a> Walker<'a> {
    pub(crate) fn new(lake: &'a Lake, thorough: bool) -> Walker<'a> {
        Walker { lake, seen: KeySet::default(), lists: HashMap::new(), thorough, commits: 0 }
    }

    /// Every key seen.
    pub(crate) fn seen(&self) -> &KeySet {
        &self.seen
    }

    /// Walks `commits`, which were not walked before; newest first is cheapest.
    pub(crate) async fn walk(
        &mut self,
        commits: &[CommitId],
        visitor: &mut dyn Visitor,
    ) -> Result<(), LakeError> {
        for chunk in commits.chunks(CHUNK_COMMITS) {
            let pinned = self.commits(chunk, visitor).await?;
            let lists = self.metadata(pinned, visitor).await?;
            let manifests = self.lists(lists, visitor).await?;
            for manifests in manifests.chunks(CHUNK_MANIFESTS) {
                self.manifests(manifests, visitor).await?;
            }
            self.commits += chunk.len();
            visitor.walked(self.commits);
        }
        Ok(())
    }

    fn store(&self) -> &'a LakeStore {
        self.lake.store()
    }

    async fn commits(
        &mut self,
        ids: &[CommitId],
        visitor: &mut dyn Visitor,
    ) -> Result<Vec<Pinned>, LakeError> {
        let lake = self.lake;
        let read = |id: CommitId| async move { (id.clone(), lake.commit_object(&id).await) }.boxed();
        let mut pinned = Vec::new();
        let todo: Vec<CommitId> =
            ids.iter().filter(|id| !self.seen.contains(&commit_key(id))).cloned().collect();
        for (id, commit) in in_parallel(todo, read).await {
            let key = commit_key(&id);
            let commit = match commit {
                Ok(commit) => Arc::new(commit),
                Err(LakeError::UnknownRevision { .. }) => {
                    visitor.damaged(Damage::missing(Kind::Commit, key, Some(&id), None))?;
                    continue;
                }
                Err(e) => {
                    visitor.damaged(Damage::of(e, Kind::Commit, key, Some(&id), None)?)?;
                    continue;
                }
            };
            self.seen.insert(&key);
            visitor.found(&key, &Found::Commit(&commit))?;
            let checkpoint = commit.ledger_checkpoint.as_ref().map(|checkpoint| &checkpoint.hash);
            for hash in commit.coverage.values().map(|coverage| &coverage.hash).chain(checkpoint) {
                let key = format!("_repo/state/sha256/{}/{hash}", hash.get(..2).unwrap_or(""));
                if self.seen.insert(&key) {
                    visitor.found(&key, &Found::State(&commit.id))?;
                }
            }
            for (table, entry) in &commit.tables {
                let (commit, table) = (Arc::clone(&commit), table.clone());
                pinned.push(Pinned { commit, table, entry: entry.clone() });
            }
        }
        Ok(pinned)
    }

    /// Tables whose manifest list is not walked yet, with that list.
    async fn metadata(
        &mut self,
        pinned: Vec<Pinned>,
        visitor: &mut dyn Visitor,
    ) -> Result<Vec<(Pinned, String, FormatVersion)>, LakeError> {
        let mut fresh = Vec::new();
        for table in pinned {
            let key = self.key_of(&table, Kind::Metadata, &table.entry.metadata_location, visitor)?;
            let Some(key) = key.filter(|key| self.seen.insert(key)) else { continue };
            fresh.push((table, key));
        }
        let mut lists = Vec::new();
        // The newest first: what it says of older snapshots saves reading the metadata of those.
        fresh.sort_by_key(|(table, _)| std::cmp::Reverse(table.entry.sequence_number));
        let mut by_table: BTreeMap<Uuid, Vec<(Pinned, String)>> = BTreeMap::new();
        for (table, key) in fresh {
            by_table.entry(table.entry.uuid).or_default().push((table, key));
        }
        while !by_table.is_empty() {
            let mut round = Vec::new();
            for tables in by_table.values_mut() {
                // One of each table, and then those it did not know the list of.
                while let Some((table, key)) = next_unknown(tables, &self.lists, self.thorough, &mut lists) {
                    round.push((table, key));
                    if !self.thorough {
                        break;
                    }
                }
            }
            by_table.retain(|_, tables| !tables.is_empty());
            let store = self.store();
            let read = |(table, key): (Pinned, String)| {
                async move {
                    let metadata = read_metadata(store, &key).await;
                    (table, key, metadata)
                }
                .boxed()
            };
            for (table, key, metadata) in in_parallel(round, read).await {
                let metadata = match metadata {
                    Ok(Some(metadata)) => metadata,
                    Ok(None) => {
                        let (commit, table) = (Some(&table.commit.id), Some(&table.table));
                        visitor.damaged(Damage::missing(Kind::Metadata, key, commit, table))?;
                        continue;
                    }
                    Err(e) => {
                        let (commit, table) = (Some(&table.commit.id), Some(&table.table));
                        visitor.damaged(Damage::of(e, Kind::Metadata, key, commit, table)?)?;
                        continue;
                    }
                };
                let found = Found::Metadata(&table.commit.id, &table.table, &table.entry, &metadata);
                visitor.found(&key, &found)?;
                self.statistics(&table, &metadata, visitor)?;
                self.note_lists(&metadata);
                let Some(snapshot_id) = table.entry.snapshot_id else { continue };
                match metadata.snapshot_by_id(snapshot_id) {
                    Some(snapshot) => {
                        let list = snapshot.manifest_list().to_owned();
                        lists.push((table, list, metadata.format_version()));
                    }
                    None => {
                        let reason =
                            format!("the commit pins snapshot {snapshot_id}, which it does not have");
                        let (commit, table) = (Some(&table.commit.id), Some(&table.table));
                        visitor.damaged(Damage::bad(Kind::Metadata, key, reason, commit, table))?;
                    }
                }
            }
        }
        Ok(lists)
    }

    fn note_lists(&mut self, metadata: &TableMetadata) {
        if self.lists.len() >= LISTS_MAX {
            self.lists.clear();
        }
        for snapshot in metadata.snapshots() {
            let list = (snapshot.manifest_list().to_owned(), metadata.format_version());
            self.lists.insert((metadata.uuid(), snapshot.snapshot_id()), list);
        }
    }

    fn statistics(
        &mut self,
        table: &Pinned,
        metadata: &TableMetadata,
        visitor: &mut dyn Visitor,
    ) -> Result<(), LakeError> {
        let files = metadata.statistics_iter().map(|file| &file.statistics_path);
        let files = files.chain(metadata.partition_statistics_iter().map(|file| &file.statistics_path));
        for location in files {
            let key = self.key_of(table, Kind::Extra, location, visitor)?;
            if let Some(key) = key.filter(|key| self.seen.insert(key)) {
                visitor.found(&key, &Found::Statistics)?;
            }
        }
        Ok(())
    }

    async fn lists(
        &mut self,
        lists: Vec<(Pinned, String, FormatVersion)>,
        visitor: &mut dyn Visitor,
    ) -> Result<Vec<(Pinned, ManifestFile, String)>, LakeError> {
        let mut fresh = Vec::new();
        for (table, location, version) in lists {
            let key = self.key_of(&table, Kind::ManifestList, &location, visitor)?;
            let Some(key) = key.filter(|key| self.seen.insert(key)) else { continue };
            fresh.push((table, key, version));
        }
        let store = self.store();
        let read = |(table, key, version): (Pinned, String, FormatVersion)| {
            async move {
                let bytes = store.read(&key).await;
                (table, key, version, bytes)
            }
            .boxed()
        };
        let mut manifests = Vec::new();
        for (table, key, version, bytes) in in_parallel(fresh, read).await {
            let (commit, name) = (Some(&table.commit.id), Some(&table.table));
            let Some(bytes) = bytes? else {
                visitor.damaged(Damage::missing(Kind::ManifestList, key, commit, name))?;
                continue;
            };
            let files: Vec<ManifestFile> = match ManifestList::parse_with_version(&bytes, version) {
                Ok(list) => list.consume_entries().into_iter().collect(),
                Err(e) => {
                    visitor.damaged(Damage::bad(Kind::ManifestList, key, e, commit, name))?;
                    continue;
                }
            };
            visitor.found(&key, &Found::List(&table.commit.id, &table.table, &table.entry, &files))?;
            for file in files {
                let key = self.key_of(&table, Kind::Manifest, &file.manifest_path, visitor)?;
                if let Some(key) = key.filter(|key| self.seen.insert(key)) {
                    manifests.push((table.clone(), file, key));
                }
            }
        }
        Ok(manifests)
    }

    async fn manifests(
        &mut self,
        manifests: &[(Pinned, ManifestFile, String)],
        visitor: &mut dyn Visitor,
    ) -> Result<(), LakeError> {
        let store = self.store();
        let read = |(table, file, key): (Pinned, ManifestFile, String)| {
            async move {
                let manifest = read_manifest(store, &key).await;
                (table, file, key, manifest)
            }
            .boxed()
        };
        let mut named = Vec::new();
        for (table, file, key, manifest) in in_parallel(manifests.to_vec(), read).await {
            let (commit, name) = (&table.commit.id, &table.table);
            let manifest = match manifest {
                Ok(Some(manifest)) => manifest,
                Ok(None) => {
                    visitor.damaged(Damage::missing(Kind::Manifest, key, Some(commit), Some(name)))?;
                    continue;
                }
                Err(e) => {
                    visitor.damaged(Damage::of(e, Kind::Manifest, key, Some(commit), Some(name))?)?;
                    continue;
                }
            };
            visitor.found(&key, &Found::Manifest(commit, name, &file, &manifest))?;
            let blobs = blobs::columns(manifest.metadata().schema());
            for entry in manifest.entries().iter().filter(|entry| entry.is_alive()) {
                let data_file = entry.data_file();
                let kind = if file.content == ManifestContentType::Data { Kind::Data } else { Kind::Extra };
                let key = self.key_of(&table, kind, data_file.file_path(), visitor)?;
                let Some(key) = key.filter(|key| self.seen.insert(key)) else { continue };
                visitor.found(&key, &Found::File(commit, name, data_file))?;
                if kind == Kind::Data && blobs.iter().any(|column| column.is_named_in(data_file)) {
                    named.push((table.clone(), key, data_file.file_size_in_bytes()));
                }
            }
        }
        self.blobs(named, visitor).await
    }

    async fn blobs(
        &mut self,
        files: Vec<(Pinned, String, u64)>,
        visitor: &mut dyn Visitor,
    ) -> Result<(), LakeError> {
        let store = self.store();
        let read = |(table, key, bytes): (Pinned, String, u64)| {
            async move {
                let paths = blobs::named_in(store, &key, bytes).await;
                (table, key, paths)
            }
            .boxed()
        };
        for (table, key, paths) in in_parallel(files, read).await {
            let (commit, name) = (&table.commit.id, &table.table);
            let paths = match paths {
                Ok(paths) => paths,
                Err(e) if self.store().exists(&key).await? => {
                    visitor.damaged(Damage::bad(Kind::Data, key, e, Some(commit), Some(name)))?;
                    continue;
                }
                // Whoever looks after files tells that it is missing.
                Err(e) => {
                    visitor.damaged(Damage {
                        missing: true,
                        ..Damage::bad(Kind::Data, key, e, Some(commit), Some(name))
                    })?;
                    continue;
                }
            };
            for path in paths {
                let blob = path
                    .strip_prefix(self.store().location())
                    .map_or(path.as_str(), |key| key.trim_start_matches('/'));
                // A path of another kind is the capture's own and names nothing of the lake's.
                if blob.starts_with("blobs/") && self.seen.insert(blob) {
                    visitor.found(blob, &Found::Blob(commit, name))?;
                }
            }
        }
        Ok(())
    }

    /// The key of a location, or damage if it lies outside the lake.
    fn key_of(
        &self,
        table: &Pinned,
        kind: Kind,
        location: &str,
        visitor: &mut dyn Visitor,
    ) -> Result<Option<String>, LakeError> {
        match self.store().key_of(location) {
            Ok(key) => Ok(Some(key)),
            Err(_) => {
                let reason = format!("it is outside the lake at {}", self.store().location());
                let (commit, name) = (Some(&table.commit.id), Some(&table.table));
                visitor.damaged(Damage::bad(kind, location.to_owned(), reason, commit, name))?;
                Ok(None)
            }
        }
    }
}

/// The next table whose metadata must be read; those before it whose list is known go on `lists`.
fn next_unknown(
    tables: &mut Vec<(Pinned, String)>,
    known: &HashMap<(Uuid, i64), (String, FormatVersion)>,
    thorough: bool,
    lists: &mut Vec<(Pinned, String, FormatVersion)>,
) -> Option<(Pinned, String)> {
    while !tables.is_empty() {
        let (table, key) = tables.remove(0);
        let list = table.entry.snapshot_id.and_then(|id| known.get(&(table.entry.uuid, id)));
        match list {
            Some((list, version)) if !thorough => lists.push((table, list.clone(), *version)),
            _ => return Some((table, key)),
        }
    }
    None
}

async fn read_metadata(store: &LakeStore, key: &str) -> Result<Option<TableMetadata>, LakeError> {
    let Some(bytes) = store.read(key).await? else { return Ok(None) };
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "kebab-case")]
    struct Form {
        format_version: u32,
    }
    let form: Form = serde_json::from_slice(&bytes).map_err(|e| LakeError::corrupt(key, e))?;
    if form.format_version > TABLE_FORMAT_MAX {
        let (found, known) = (form.format_version, TABLE_FORMAT_MAX);
        return Err(LakeError::Newer { path: key.to_owned(), found, known });
    }
    serde_json::from_slice(&bytes).map(Some).map_err(|e| LakeError::corrupt(key, e))
}

async fn read_manifest(store: &LakeStore, key: &str) -> Result<Option<Manifest>, LakeError> {
    let Some(bytes) = store.read(key).await? else { return Ok(None) };
    Manifest::parse_avro(&bytes).map(Some).map_err(|e| LakeError::corrupt(key, e))
}

/// Runs `read` on every item, a bounded number at once, and gives the answers in order.
async fn in_parallel<'f, T, R>(items: Vec<T>, read: impl Fn(T) -> BoxFuture<'f, R>) -> Vec<R> {
    let reads: Vec<BoxFuture<'f, R>> = items.into_iter().map(read).collect();
    futures::stream::iter(reads).buffered(READS_MAX).collect().await
}

//! A state of the lake as one request sees it: which commit a prefix means, and what it has.

use super::Catalog;
use super::failure::Failure;
use super::prefix::Target;
use crate::telemetry;
use headwater_lake::{CommitId, CommitObject, RefName, TableDocument, TableEntry, TableName};
use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};

/// Branches named in an answer that says there is no such one.
const NAMED_MAX: usize = 20;

impl Catalog {
    /// What a warehouse means: a branch, a tag, or a commit that is pinned now.
    pub(in crate::serve) async fn target(&self, warehouse: &str) -> Result<Target, Failure> {
        let warehouse = warehouse.trim();
        if warehouse.is_empty() {
            return Ok(Target::Branch(self.branch.clone()));
        }
        if let Ok(name) = RefName::new(warehouse) {
            if self.lake.head(&name).await?.is_some_and(|head| head.commit.is_some()) || name == self.branch {
                return Ok(Target::Branch(name));
            }
            if self.lake.refs().tagged(&name).await?.is_some() {
                return Ok(Target::Tag(name));
            }
        }
        match self.lake.resolve(warehouse).await {
            Ok(id) => Ok(Target::Commit(id)),
            Err(error) => {
                let mut failure = Failure::from(error);
                if failure.kind == "NoSuchWarehouseException" {
                    failure.message = self.no_such(warehouse).await?;
                }
                Err(failure)
            }
        }
    }

    async fn no_such(&self, warehouse: &str) -> Result<String, Failure> {
        let refs = self.lake.refs().list().await?;
        let names: Vec<&str> = refs.iter().map(|(name, _)| name.as_str()).take(NAMED_MAX).collect();
        Ok(format!(
            "there is no branch, tag or commit {warehouse:?} (a warehouse is a ref, such as main, exp/x or main~2); branches \
             are: {}",
            names.join(", ")
        ))
    }

    /// The commit a target means now; none for the configured branch of a lake without a commit.
    pub(super) async fn commit_of(&self, target: &Target) -> Result<Option<Arc<CommitObject>>, Failure> {
        let id = match target {
            Target::Branch(name) => self.lake.head(name).await?.and_then(|head| head.commit),
            Target::Tag(name) => self.lake.refs().tagged(name).await?,
            Target::Commit(id) => Some(id.clone()),
        };
        match id {
            Some(id) => self.commit(&id).await.map(Some),
            None if *target == Target::Branch(self.branch.clone()) => Ok(None),
            None => Err(Failure::no_namespace(format!("{target} is not there any more"))),
        }
    }

    async fn commit(&self, id: &CommitId) -> Result<Arc<CommitObject>, Failure> {
        if let Some(held) = self.commits.lock().unwrap_or_else(PoisonError::into_inner).get(id) {
            return Ok(held);
        }
        let commit = Arc::new(self.lake.commit_object(id).await?);
        self.keep_commit(Arc::clone(&commit));
        Ok(commit)
    }

    /// Keeps a commit in memory: it never changes.
    pub(super) fn keep_commit(&self, commit: Arc<CommitObject>) {
        // A little more than its names and locations take.
        let bytes = 1024 + 512 * commit.tables.len();
        self.commits.lock().unwrap_or_else(PoisonError::into_inner).put(commit.id.clone(), commit, bytes);
    }

    /// Metadata of a table, from memory if it was read before: a location's content never changes.
    pub(super) async fn document(&self, entry: &TableEntry) -> Result<Arc<TableDocument>, Failure> {
        let location = &entry.metadata_location;
        let held = self.metadata.lock().unwrap_or_else(PoisonError::into_inner).get(location);
        telemetry::catalog_metadata(held.is_some());
        if let Some(held) = held {
            return Ok(held);
        }
        let document = Arc::new(self.lake.table_document(entry).await?);
        let mut cache = self.metadata.lock().unwrap_or_else(PoisonError::into_inner);
        cache.put(location.clone(), Arc::clone(&document), document.json.len() + location.len());
        telemetry::catalog_metadata_bytes(cache.bytes());
        Ok(document)
    }
}

/// The table's entry in a commit.
pub(super) fn entry<'a>(
    commit: Option<&'a CommitObject>,
    table: &TableName,
    target: &Target,
) -> Result<&'a TableEntry, Failure> {
    let found = commit.and_then(|commit| commit.tables.get(table));
    found.ok_or_else(|| Failure::no_table(format!("{target} has no table {table}")))
}

/// Namespaces that have tables.
pub(super) fn namespaces(commit: Option<&CommitObject>) -> BTreeSet<String> {
    let tables = commit.iter().flat_map(|commit| commit.tables.keys());
    tables.map(|table| table.namespace().to_owned()).collect()
}

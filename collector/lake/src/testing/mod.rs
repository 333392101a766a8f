//! Fakes for tests of the lake and of those who use it: lakes in memory and stores that fail on cue.

mod aged;
mod count;
mod fault;
#[cfg(feature = "s3")]
mod moto;
mod power;
mod rewrite;

use std::sync::Arc;

use iceberg::spec::{ManifestList, TableMetadata};
use object_store::ObjectStore;
use object_store::list::PaginatedListStore;
use object_store::memory::InMemory;

use crate::error::LakeError;
use crate::lake::Lake;
use crate::names::CommitId;
use crate::store::{LakeStore, Pages};

pub use aged::AgedStore;
pub use count::{CountingStore, KeyClass, Requests, Verb};
pub use fault::{Fault, FaultStore};
#[cfg(feature = "s3")]
pub use moto::Moto;
pub use power::PowerStore;
pub use rewrite::rewrite;

/// A lake in memory that is gone with its last clone.
///
/// # Errors
/// Never in practice: memory takes all writes.
pub async fn memory() -> Result<Lake, LakeError> {
    init_on(Arc::new(InMemory::new())).await
}

/// Makes or opens a lake on any store, under the URL `memory:///lake`.
///
/// # Errors
/// As [`Lake::init`].
pub async fn init_on(store: Arc<dyn ObjectStore>) -> Result<Lake, LakeError> {
    Lake::init_on(LakeStore::new("memory:///lake", store)).await
}

/// Opens the lake on any store, under the URL `memory:///lake`.
///
/// # Errors
/// As [`Lake::open`].
pub async fn open_on(store: Arc<dyn ObjectStore>) -> Result<Lake, LakeError> {
    Lake::open_on(LakeStore::new("memory:///lake", store)).await
}

/// Keys that a commit needs and that are not there, found without the walk that is under test. Files are looked for,
/// not read.
///
/// # Errors
/// When the commit or its metadata cannot be read.
pub async fn missing(lake: &Lake, id: &CommitId) -> Result<Vec<String>, LakeError> {
    let store = lake.store();
    let mut gone = Vec::new();
    for entry in lake.tables(id).await?.into_values() {
        let fail = || LakeError::iceberg(format!("read {}", entry.metadata_location));
        let metadata =
            TableMetadata::read_from(&store.file_io(), &entry.metadata_location).await.map_err(fail())?;
        let Some(snapshot) = entry.snapshot_id.and_then(|id| metadata.snapshot_by_id(id)) else { continue };
        let key = store.key_of(snapshot.manifest_list())?;
        let Some(list) = store.read(&key).await? else {
            gone.push(key);
            continue;
        };
        let list = ManifestList::parse_with_version(&list, metadata.format_version()).map_err(fail())?;
        for manifest in list.entries() {
            let manifest = manifest.load_manifest(&store.file_io()).await.map_err(fail())?;
            for entry in manifest.entries().iter().filter(|entry| entry.is_alive()) {
                let key = store.key_of(entry.file_path())?;
                if !store.exists(&key).await? {
                    gone.push(key);
                }
            }
        }
    }
    Ok(gone)
}

/// Makes or opens a lake on a counting store that lists page by page, as the clouds do.
///
/// # Errors
/// As [`Lake::init`].
pub async fn init_counted(store: Arc<CountingStore>) -> Result<Lake, LakeError> {
    Lake::init_on(counted(store)).await
}

pub(crate) fn counted(store: Arc<CountingStore>) -> LakeStore {
    let pages = Pages::new(Arc::clone(&store) as Arc<dyn PaginatedListStore>, "");
    LakeStore::paged("memory:///lake", store, pages)
}

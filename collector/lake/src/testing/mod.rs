//! Fakes for tests of the lake and of those who use it: lakes in memory and stores that fail on cue.

mod count;
mod fault;
#[cfg(feature = "s3")]
mod moto;
mod power;

use std::sync::Arc;

use object_store::ObjectStore;
use object_store::list::PaginatedListStore;
use object_store::memory::InMemory;

use crate::error::LakeError;
use crate::lake::Lake;
use crate::store::{LakeStore, Pages};

pub use count::{CountingStore, KeyClass, Requests, Verb};
pub use fault::{Fault, FaultStore};
#[cfg(feature = "s3")]
pub use moto::Moto;
pub use power::PowerStore;

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

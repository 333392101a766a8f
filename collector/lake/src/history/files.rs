//! Live files of a table, and what two states of it differ in. Taken from manifests, never from snapshots: those are
//! trimmed. Manifests that both states list are not read, so a difference costs what changed.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};
use iceberg::spec::{DataContentType, DataFile, ManifestFile};

use crate::error::LakeError;
use crate::names::TableName;
use crate::store::LakeStore;
use crate::table::{TableState, read_manifest};

/// Manifests read at once.
const READS_MAX: usize = 8;

/// Files looked for at once.
const LOOKS_MAX: usize = 16;

/// One live file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LiveFile {
    pub(super) file: DataFile,
    /// The partition spec it was written with.
    pub(super) spec_id: i32,
}

impl LiveFile {
    pub(super) fn is_data(&self) -> bool {
        self.file.content_type() == DataContentType::Data
    }
}

/// Files by URL.
pub(crate) type Files = BTreeMap<String, LiveFile>;

/// What a state has that another has not.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Delta {
    pub(super) added: Files,
    pub(super) removed: Files,
}

impl Delta {
    pub(super) fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty()
    }

    pub(super) fn removed_urls(&self) -> BTreeSet<String> {
        self.removed.keys().cloned().collect()
    }
}

/// All live files of a state. Reads every manifest.
pub(super) async fn live(
    store: &LakeStore,
    table: &TableName,
    state: Option<&TableState>,
) -> Result<Files, LakeError> {
    let manifests: Vec<&ManifestFile> = state.into_iter().flat_map(|state| &state.manifests).collect();
    listed(store, table, manifests).await
}

/// What changed from one state to another; a table that is not there has no files.
pub(super) async fn delta(
    store: &LakeStore,
    table: &TableName,
    from: Option<&TableState>,
    to: Option<&TableState>,
) -> Result<Delta, LakeError> {
    let paths = |state: Option<&TableState>| -> BTreeSet<String> {
        state
            .into_iter()
            .flat_map(|state| &state.manifests)
            .map(|manifest| manifest.manifest_path.clone())
            .collect()
    };
    let (of_from, of_to) = (paths(from), paths(to));
    let only = |state: Option<&'_ TableState>, other: &BTreeSet<String>| -> Vec<ManifestFile> {
        let all = state.into_iter().flat_map(|state| &state.manifests);
        all.filter(|manifest| !other.contains(&manifest.manifest_path)).cloned().collect()
    };
    let (from, to) = (only(from, &of_to), only(to, &of_from));
    let mut removed = listed(store, table, from.iter().collect()).await?;
    let mut added = listed(store, table, to.iter().collect()).await?;
    added.retain(|url, _| removed.remove(url).is_none());
    Ok(Delta { added, removed })
}

async fn listed(
    store: &LakeStore,
    table: &TableName,
    manifests: Vec<&ManifestFile>,
) -> Result<Files, LakeError> {
    let reads: Vec<BoxFuture<'_, Result<Files, LakeError>>> = manifests
        .into_iter()
        .map(|listed| {
            async move {
                let manifest = read_manifest(store, table, listed).await?;
                let alive = manifest.entries().iter().filter(|entry| entry.is_alive());
                Ok(alive
                    .map(|entry| {
                        let file =
                            LiveFile { file: entry.data_file().clone(), spec_id: listed.partition_spec_id };
                        (entry.file_path().to_owned(), file)
                    })
                    .collect())
            }
            .boxed()
        })
        .collect();
    let found: Vec<Files> = futures::stream::iter(reads).buffered(READS_MAX).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}

/// Those of `urls` whose object is not in the store any more.
pub(super) async fn gone(
    store: &LakeStore,
    urls: impl IntoIterator<Item = String>,
) -> Result<Vec<String>, LakeError> {
    let looks: Vec<BoxFuture<'_, Result<Option<String>, LakeError>>> = urls
        .into_iter()
        .map(|url| {
            async move {
                let there = store.exists(&store.key_of(&url)?).await?;
                Ok((!there).then_some(url))
            }
            .boxed()
        })
        .collect();
    let found: Vec<Option<String>> =
        futures::stream::iter(looks).buffer_unordered(LOOKS_MAX).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}

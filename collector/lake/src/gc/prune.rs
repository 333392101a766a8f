//! Old ends of ref logs: entries that protect nothing any more.

use futures::TryStreamExt;

use crate::error::LakeError;
use crate::lake::Lake;
use crate::names::RefName;
use crate::repo::{heads_folder, seq_of};
use crate::store::LakeStore;

/// Newest entries of a log that always stay: a slow writer's create must never land below a pruned head.
const ENTRIES_KEPT: usize = 100;

/// Entries deleted with one call.
const BATCH_ENTRIES: usize = 1000;

/// Keys of all ref entries that the store took before `before_us` and that are not among a log's newest, the oldest of
/// a log first.
pub(super) async fn old_entries(lake: &Lake, before_us: i64) -> Result<Vec<String>, LakeError> {
    let mut old = Vec::new();
    for key in lake.store().folders_in(heads_folder()).await? {
        if RefName::from_key(&key).is_err() {
            continue;
        }
        let mut entries = Vec::new();
        let mut listed = lake.store().list(&format!("{}/{key}", heads_folder()));
        while let Some(entry) = listed.try_next().await? {
            if let Some(seq) = entry.key.rsplit('/').next().and_then(seq_of) {
                entries.push((seq, entry));
            }
        }
        entries.sort_by_key(|(seq, _)| *seq);
        let most = entries.len().saturating_sub(ENTRIES_KEPT);
        // Up to the first young one: a log is pruned from its old end only.
        let ends = entries.into_iter().take(most).take_while(|(_, entry)| entry.stored_us < before_us);
        old.extend(ends.map(|(_, entry)| entry.key));
    }
    Ok(old)
}

/// Deletes them, in order.
pub(super) async fn prune(store: &LakeStore, entries: &[String]) -> Result<u64, LakeError> {
    for batch in entries.chunks(BATCH_ENTRIES) {
        store.delete_all(batch).await?;
    }
    Ok(entries.len() as u64)
}

//! Old ends of ref logs: entries that protect nothing any more.

use futures::TryStreamExt;

use crate::error::LakeError;
use crate::lake::Lake;
use crate::names::RefName;
use crate::repo::{entry_key, heads_folder, seq_of};

/// Newest entries of a log that always stay: a slow writer's create must never land below a pruned head.
const ENTRIES_KEPT: usize = 100;

/// Folders of refs that are made once, under an id no other ever gets: their logs may go as a whole.
const SINGLE_USE: [&str; 2] = ["wap/", "quarantine/"];

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

/// Prunes all logs, and takes away those of single-use refs that were deleted before `before_us`; how many entries.
pub(super) async fn prune(lake: &Lake, before_us: i64) -> Result<u64, LakeError> {
    let mut gone = 0;
    for key in lake.store().folders_in(heads_folder()).await? {
        let Ok(name) = RefName::from_key(&key) else { continue };
        gone += lake.prune_ref_log(&name, ENTRIES_KEPT as u64, before_us).await?.entries;
        if SINGLE_USE.iter().any(|folder| name.as_str().starts_with(folder)) {
            gone += take_away(lake, &name, before_us).await?;
        }
    }
    Ok(gone)
}

/// Deletes the log of a ref that was deleted before `before_us`, the oldest entry first, so that what is left is a log
/// wherever this ends.
async fn take_away(lake: &Lake, name: &RefName, before_us: i64) -> Result<u64, LakeError> {
    let head = lake.head(name).await?;
    let Some(head) = head.filter(|head| head.commit.is_none() && head.time_us < before_us) else {
        return Ok(0);
    };
    let mut seqs = Vec::new();
    for file in lake.store().names_in(&format!("{}/{}", heads_folder(), name.key())).await? {
        seqs.extend(seq_of(&file).filter(|seq| *seq <= head.seq));
    }
    seqs.sort_unstable();
    for seq in &seqs {
        lake.store().delete(&entry_key(name, *seq)).await?;
    }
    Ok(seqs.len() as u64)
}

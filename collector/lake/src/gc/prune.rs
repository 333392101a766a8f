//! Old ends of ref logs: entries that protect nothing any more.

use futures::{FutureExt, TryStreamExt};

use crate::error::LakeError;
use crate::lake::Lake;
use crate::names::RefName;
use crate::reach::each_ref;
use crate::repo::{entry_key, heads_folder, is_single_use, seq_of};

/// Newest entries of a log that always stay: a slow writer's create must never land below a pruned head.
const ENTRIES_KEPT: usize = 100;

/// Keys of all ref entries that the store took before `before_us` and that are not among a log's newest, the oldest of
/// a log first.
pub(super) async fn old_entries(lake: &Lake, before_us: i64) -> Result<Vec<String>, LakeError> {
    let old = each_ref(lake, |name| old_of(lake, name, before_us).boxed()).await?;
    Ok(old.into_iter().flatten().collect())
}

async fn old_of(lake: &Lake, name: RefName, before_us: i64) -> Result<Vec<String>, LakeError> {
    let mut entries = Vec::new();
    let mut listed = lake.store().list(&format!("{}/{}", heads_folder(), name.key()));
    while let Some(entry) = listed.try_next().await? {
        if let Some(seq) = entry.key.rsplit('/').next().and_then(seq_of) {
            entries.push((seq, entry));
        }
    }
    entries.sort_by_key(|(seq, _)| *seq);
    let most = entries.len().saturating_sub(ENTRIES_KEPT);
    // Up to the first young one: a log is pruned from its old end only.
    let ends = entries.into_iter().take(most).take_while(|(_, entry)| entry.stored_us < before_us);
    Ok(ends.map(|(_, entry)| entry.key).collect())
}

/// Prunes all logs, some at once, each from its old end; takes away those of single-use refs that were deleted before
/// `before_us`. Gives how many entries went.
pub(super) async fn prune(lake: &Lake, before_us: i64) -> Result<u64, LakeError> {
    let gone = each_ref(lake, |name| {
        async move {
            let mut gone = lake.prune_ref_log(&name, ENTRIES_KEPT as u64, before_us).await?.entries;
            if is_single_use(&name) {
                gone += take_away(lake, &name, before_us).await?;
            }
            Ok(gone)
        }
        .boxed()
    });
    Ok(gone.await?.into_iter().sum())
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

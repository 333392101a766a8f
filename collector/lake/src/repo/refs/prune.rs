//! Shortening a ref's log without ever letting a writer that slept win below its head.

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};

use super::entry::{entry_key, log_key, seq_of};
use super::{Head, ObjectStoreRefs, READS_MAX};
use crate::error::LakeError;
use crate::names::RefName;

/// Newest entries that always stay, whatever the caller says.
pub const REFLOG_KEPT_MIN: u64 = 100;

/// Entries younger than this against the head's own time always stay, in µs: a day, far above the ten minutes for which
/// a writer trusts what it knows of a head.
pub const REFLOG_AGE_US_MIN: i64 = 24 * 3600 * 1_000_000;

/// What stays whatever the caller says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Floor {
    pub(super) kept: u64,
    pub(super) age_us: i64,
}

pub(super) const FLOOR: Floor = Floor { kept: REFLOG_KEPT_MIN, age_us: REFLOG_AGE_US_MIN };

/// What a pruning did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pruned {
    /// Entries removed from the old end.
    pub entries: u64,
    /// Entries removed that never counted: writes of sleepers below the pruned part.
    pub orphans: u64,
}

impl ObjectStoreRefs {
    /// Removes the oldest entries one after the other; see [`RefStore::prune`](super::RefStore::prune).
    pub(super) async fn pruned(
        &self,
        name: &RefName,
        keep_newest: u64,
        older_than_us: i64,
        floor: Floor,
    ) -> Result<Pruned, LakeError> {
        let Some(head) = self.newest_listed(name).await? else { return Ok(Pruned::default()) };
        let mut stored: Vec<(u64, i64)> = self
            .store
            .files_in(&log_key(name))
            .await?
            .into_iter()
            .filter_map(|(file, stored_us)| Some((seq_of(&file)?, stored_us)))
            .filter(|(seq, _)| *seq <= head.seq)
            .collect();
        stored.sort_unstable();
        let run = run_to_the_top(&stored);
        let (orphans, mut log) = stored.split_at(run);
        let mut done = Pruned::default();
        for (seq, _) in orphans {
            self.store.delete(&entry_key(name, *seq)).await?;
            done.orphans += 1;
        }

        // One may lie right below the log and look like its beginning.
        if let [(lowest, _), rest @ ..] = log
            && *lowest < head.seq
            && !self.is_linked(name, &self.existing(name, *lowest).await?).await?
        {
            self.store.delete(&entry_key(name, *lowest)).await?;
            done.orphans += 1;
            log = rest;
        }

        let last = head.seq.saturating_sub(keep_newest.max(floor.kept));
        let young_us = head.time_us.saturating_sub(floor.age_us);
        let old = log.iter().take_while(|(seq, us)| *seq <= last && *us < older_than_us).map(|(seq, _)| *seq);
        let reads: Vec<BoxFuture<'_, Result<Head, LakeError>>> =
            old.map(|seq| self.existing(name, seq).boxed()).collect();
        let mut entries = futures::stream::iter(reads).buffered(READS_MAX);
        while let Some(entry) = entries.try_next().await? {
            if entry.time_us >= older_than_us.min(young_us) {
                break;
            }
            // Awaited one by one: two at once could leave an entry whose successor is gone.
            self.store.delete(&entry_key(name, entry.seq)).await?;
            done.entries += 1;
        }
        Ok(done)
    }
}

/// Where in ascending numbers the gapless run up to the last one begins.
fn run_to_the_top(stored: &[(u64, i64)]) -> usize {
    let breaks = stored.windows(2).rposition(|pair| pair[0].0.checked_add(1) != Some(pair[1].0));
    breaks.map_or(0, |at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_run_ends_at_the_highest_gap() {
        let run = |seqs: &[u64]| run_to_the_top(&seqs.iter().map(|seq| (*seq, 0)).collect::<Vec<_>>());
        assert_eq!(run(&[]), 0);
        assert_eq!(run(&[7]), 0);
        assert_eq!(run(&[3, 4, 5]), 0);
        assert_eq!(run(&[1, 3, 4, 9, 10]), 3);
        assert_eq!(run(&[1, 2, 9]), 2);
    }
}

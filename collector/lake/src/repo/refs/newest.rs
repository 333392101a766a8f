//! Finding a ref's head with few requests, however long its log.
//!
//! Two facts carry it. A log is gapless from its oldest entry to its head, so any entry leads up to the head. And
//! entries are pruned one by one in ascending order, so an entry that is *still* there proves that the one above it was
//! not pruned: if that one was missing a moment ago, it never was.

use super::entry::{entry_key, log_key, seq_of};
use super::{Head, ObjectStoreRefs};
use crate::error::LakeError;
use crate::names::RefName;

impl ObjectStoreRefs {
    /// The newest entry: from the one last seen, two small requests; else one page of a listing and a read.
    pub(super) async fn newest(&self, name: &RefName) -> Result<Option<Head>, LakeError> {
        if let Some(seen) = self.last_seen(name)
            && let Some(head) = self.climb(name, seen).await?
        {
            return Ok(Some(head));
        }
        self.newest_listed(name).await
    }

    /// The newest entry, whatever was seen before.
    pub(super) async fn newest_listed(&self, name: &RefName) -> Result<Option<Head>, LakeError> {
        let names = self.store.first_names_in(&log_key(name)).await?;
        let (first, second) = (names.first.as_deref(), names.second.as_deref());
        if first.is_none() {
            return Ok(None);
        }
        // Neighbours in the log at the head of the listing: the store sorts. Anything else (a foreign file, an orphan,
        // a store that lists in no order) is settled by the numbers themselves.
        let sorted = match (first.and_then(seq_of), second) {
            (Some(first), None) => Some(first),
            (Some(first), Some(second)) => Some(first).filter(|_| seq_of(second) == first.checked_sub(1)),
            (None, _) => None,
        };
        let highest = match sorted {
            Some(first) => Some(first),
            None => self.listed(name).await?.first().copied(),
        };
        let Some(highest) = highest else { return Ok(None) };
        let found = self.existing(name, highest).await?;
        self.saw(name, &found);
        Ok(Some(found))
    }

    /// From an entry that was there to the head; none if that entry has been pruned since.
    async fn climb(&self, name: &RefName, seen: Head) -> Result<Option<Head>, LakeError> {
        let start = seen.seq;
        let mut low = seen;
        let mut missing = loop {
            // One step, one more, then as far as it has come: nearly always nothing or one entry is new.
            let next = low.seq + (low.seq - start).max(1);
            match self.read(name, next).await? {
                Some(higher) => low = higher,
                None => break next,
            }
        };
        while missing - low.seq > 1 {
            let middle = low.seq + (missing - low.seq) / 2;
            match self.read(name, middle).await? {
                Some(higher) => low = higher,
                None => missing = middle,
            }
        }
        // Asked last: see above.
        if !self.store.exists(&entry_key(name, low.seq)).await? {
            self.forget(name);
            return Ok(None);
        }
        self.saw(name, &low);
        Ok(Some(low))
    }
}

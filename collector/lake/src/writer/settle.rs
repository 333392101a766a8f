//! Whether a commit came to be, when the log no longer says so.

use std::collections::{BTreeSet, VecDeque};

use crate::error::LakeError;
use crate::lake::Lake;
use crate::names::CommitId;

/// Commits looked at: a year of one every half minute.
const COMMITS_MAX: usize = 1 << 20;

/// True if `id` is `head` or one of its ancestors. Asked only by a writer that slept through the pruning of its own entry.
pub(super) async fn is_behind(lake: &Lake, id: &CommitId, head: &CommitId) -> Result<bool, LakeError> {
    let mut seen = BTreeSet::from([head.clone()]);
    let mut next = VecDeque::from([head.clone()]);
    while let Some(at) = next.pop_front() {
        if &at == id {
            return Ok(true);
        }
        if seen.len() > COMMITS_MAX {
            return Err(LakeError::corrupt(at, format!("more than {COMMITS_MAX} commits lie above {id}")));
        }
        for parent in lake.commit_object(&at).await?.parents {
            if seen.insert(parent.clone()) {
                next.push_back(parent);
            }
        }
    }
    Ok(false)
}

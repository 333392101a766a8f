//! What became of a commit, when the log no longer says so.

use std::collections::{BTreeSet, VecDeque};

use crate::error::LakeError;
use crate::history::walk::{self, Below};
use crate::lake::Lake;
use crate::names::CommitId;
use crate::repo::CommitObject;

/// Commits looked at: a year of one every half minute.
const COMMITS_MAX: usize = 1 << 20;

/// What history tells of a commit that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// The head is it, or stands on it.
    There,
    /// It never was part of the line.
    Lost,
    /// The days it would be in were thinned, or are no longer kept.
    Untold,
}

/// Looks for `sent` below `head`, across thinned days. Asked only by a writer that slept through the pruning of its own
/// entry.
pub(super) async fn fate(lake: &Lake, sent: &CommitObject, head: &CommitId) -> Result<Fate, LakeError> {
    if &sent.id == head {
        return Ok(Fate::There);
    }
    // What it was put on cannot stand on it, so nothing below needs a look.
    let mut seen: BTreeSet<CommitId> = sent.parents.iter().cloned().chain([head.clone()]).collect();
    let mut next = VecDeque::from([lake.commit_object(head).await?]);
    let mut fate = Fate::Lost;
    while let Some(child) = next.pop_front() {
        if seen.len() > COMMITS_MAX {
            let reason = format!("more than {COMMITS_MAX} commits lie above {}", sent.id);
            return Err(LakeError::corrupt(child.id, reason));
        }
        for parent in &child.parents {
            if parent == &sent.id {
                return Ok(Fate::There);
            }
            if !seen.insert(parent.clone()) {
                continue;
            }
            let (below, gap) = match walk::below(lake, &child, parent).await? {
                Below::Parent(commit) => (Some(commit), None),
                Below::Thinned(commit) => {
                    let gap = commit.time_us..=child.time_us;
                    (Some(commit).filter(|commit| seen.insert(commit.id.clone())), Some(gap))
                }
                Below::Ends => (None, Some(i64::MIN..=child.time_us)),
            };
            if below.as_ref().is_some_and(|commit| commit.id == sent.id) {
                return Ok(Fate::There);
            }
            // It may be among those that are gone.
            if gap.is_some_and(|gap| gap.contains(&sent.time_us)) {
                fate = Fate::Untold;
            }
            next.extend(below);
        }
    }
    Ok(fate)
}

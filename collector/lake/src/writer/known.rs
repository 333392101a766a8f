//! What a writer knows of the ref it commits to. Whoever dedups against what it knows must not land on rows it has not
//! seen: such a commit is refused before anything is written, and its writer reads what came.

use crate::error::LakeError;
use crate::lake::Lake;
use crate::names::CommitId;
use crate::repo::{CommitKind, CommitObject};

/// Commits read on the way from a head back to the one that is known. A writer that is further behind reads the branch
/// anew, which costs no more.
const COMMITS_MAX: usize = 1_000;

/// Whether a commit may have brought or taken rows, so that who does not know it knows too little.
fn tells(kind: CommitKind, aligned: bool) -> bool {
    match kind {
        // The same rows in other files, at other times, or under other columns.
        CommitKind::Compact | CommitKind::Resolve | CommitKind::Schema => false,
        CommitKind::Align => aligned,
        _ => true,
    }
}

/// Refuses what would land on commits beyond `known` that bring or take rows; of aligned rows only if `aligned`.
pub(super) async fn check(
    lake: &Lake,
    base: Option<&CommitObject>,
    known: &CommitId,
    aligned: bool,
) -> Result<(), LakeError> {
    let Some(base) = base else { return Ok(()) };
    if is_overtaken(lake, base, known, aligned).await? {
        return Err(LakeError::Overtaken { known: known.clone(), found: base.id.clone() });
    }
    Ok(())
}

async fn is_overtaken(
    lake: &Lake,
    head: &CommitObject,
    known: &CommitId,
    aligned: bool,
) -> Result<bool, LakeError> {
    let mut commit = head.clone();
    for _ in 0..COMMITS_MAX {
        if &commit.id == known {
            return Ok(false);
        }
        let Some(parent) = commit.parents.first().filter(|_| !tells(commit.kind, aligned)) else {
            return Ok(true);
        };
        // Mostly one compaction of one's own is all that came: it need not be read what it follows.
        if parent == known {
            return Ok(false);
        }
        commit = match lake.commit_object(parent).await {
            Ok(commit) => commit,
            // No longer kept: much has come since.
            Err(LakeError::UnknownRevision { .. }) => return Ok(true),
            Err(e) => return Err(e),
        };
    }
    Ok(true)
}

impl Lake {
    /// Whether commits that bring or take rows came after `known` on the way to `head`: aligned rows count only if
    /// `aligned`. Reads the commits between the two, none if they are the same.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn is_overtaken(
        &self,
        known: &CommitId,
        head: &CommitId,
        aligned: bool,
    ) -> Result<bool, LakeError> {
        if known == head {
            return Ok(false);
        }
        is_overtaken(self, &self.commit_object(head).await?, known, aligned).await
    }
}

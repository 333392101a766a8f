//! What all verbs have in common: who does it, on which branch, and how a plan is carried through.

use std::collections::BTreeSet;

use crate::error::{CommitError, LakeError};
use crate::lake::Lake;
use crate::names::{CommitId, RefName, TableName};
use crate::repo::CommitObject;
use crate::writer::{Base, Committed, Plan};

/// Who does something, when and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct By {
    /// Who.
    pub author: String,
    /// Why, for people; none lets the verb say what it did.
    pub message: Option<String>,
    /// Now, UTC µs.
    pub time_us: i64,
}

/// Publishes what `plan` drafts on `name`; none if there was nothing to do. An outcome that stays unknown is the
/// caller's: the same verb may be said again, it finds out what is there.
pub(super) async fn carry_out(
    lake: &Lake,
    name: &RefName,
    by: &By,
    plan: &mut dyn Plan,
) -> Result<Option<Committed>, CommitError> {
    let mut writer = lake.writer(name.clone(), by.author.clone());
    match writer.publish(plan).await {
        Err(CommitError::Unknown { .. }) => match writer.settle().await? {
            Some(committed) => Ok(Some(committed)),
            // Another writer won: nothing of it is visible, and it may be tried on top of theirs.
            None => writer.publish(plan).await,
        },
        answer => answer,
    }
}

/// The head's commit: verbs work on branches that are there.
pub(super) fn tip<'a>(base: &'a Base, name: &RefName) -> Result<&'a CommitObject, LakeError> {
    base.commit.as_ref().ok_or_else(|| LakeError::UnknownRevision { spec: name.to_string() })
}

/// Names of all tables of some commits.
pub(super) fn names<'a>(commits: impl IntoIterator<Item = Option<&'a CommitObject>>) -> BTreeSet<TableName> {
    commits.into_iter().flatten().flat_map(|commit| commit.tables.keys().cloned()).collect()
}

/// A commit's first parent; none for the first commit of all.
pub(super) async fn first_parent(
    lake: &Lake,
    commit: &CommitObject,
) -> Result<Option<CommitObject>, LakeError> {
    let Some(parent) = commit.parents.first() else { return Ok(None) };
    match super::walk::kept(lake, parent).await? {
        Some(parent) => {
            lake.ensure_not_condemned(&parent.id).await?;
            Ok(Some(parent))
        }
        None => Err(LakeError::HistoryEnds { commit: commit.id.clone() }),
    }
}

/// Captures: never taken back silently.
pub(super) const RAW: &str = "raw";
/// Books of what happened: they only grow.
pub(super) const OPS: &str = "ops";
/// What recipes make of captures.
pub(super) const ALIGNED: &str = "aligned";

/// The recipe whose rows a table holds.
pub(super) fn recipe_of(table: &TableName) -> Option<&str> {
    (table.namespace() == ALIGNED).then(|| table.table())
}

/// `id` and its message's first line, for messages about it.
pub(super) fn described(commit: &CommitObject) -> String {
    let line = commit.message.lines().next().unwrap_or_default();
    if line.is_empty() { commit.id.short().to_owned() } else { format!("{} ({line})", commit.id.short()) }
}

/// A commit that a verb was told to work on.
pub(super) async fn named(lake: &Lake, id: &CommitId) -> Result<CommitObject, LakeError> {
    let commit = lake.commit_object(id).await?;
    // What it names may come back by this verb, so it must not be on its way out.
    lake.ensure_not_condemned(id).await?;
    Ok(commit)
}

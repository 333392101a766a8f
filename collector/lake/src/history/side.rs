//! What one side did to a table since the base. Net from manifests; without compactions by walking the side's commits.

use super::files::{Delta, delta, gone};
use super::three_way::SideChange;
use crate::error::LakeError;
use crate::lake::Lake;
use crate::names::TableName;
use crate::repo::{CommitKind, CommitObject, TableEntry};
use crate::table::{self, TableState};

/// The net change of a side.
pub(super) async fn net(
    lake: &Lake,
    table: &TableName,
    base: Option<&TableState>,
    side: &TableState,
) -> Result<SideChange, LakeError> {
    Ok(SideChange { net: delta(lake.store(), table, base, Some(side)).await?, plain: None })
}

/// How the commits of one side changed a table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Ways {
    /// Files were put together.
    compacted: bool,
    /// Files of another line came as they are: by a merge, a pick or an adoption.
    took_over: bool,
}

impl Ways {
    /// Of a side's commits since `base`, newest first.
    pub(super) fn of(line: &[CommitObject], base: &CommitObject, table: &TableName) -> Ways {
        let (mut ways, mut before) = (Ways::default(), base.tables.get(table));
        for commit in line.iter().rev() {
            let after = commit.tables.get(table);
            if after != before {
                ways.compacted |= commit.kind == CommitKind::Compact;
                ways.took_over |= commit.kind == CommitKind::Merge
                    || commit.lineage.inputs.iter().any(|input| input.starts_with("candidate "));
            }
            before = after;
        }
        ways
    }

    /// Whether two sides may hold the same rows in files of other names.
    pub(super) fn may_share(self, other: Ways) -> bool {
        (self.took_over || other.took_over) && (self.compacted || other.compacted)
    }
}

/// Adds the change without compactions: the files other commits wrote, where they are still there. Reads two states for
/// each commit of `line`, the side's since `base`, newest first, that changed the table.
pub(super) async fn unfold(
    lake: &Lake,
    table: &TableName,
    base: &CommitObject,
    line: &[CommitObject],
    change: &mut SideChange,
) -> Result<(), LakeError> {
    let mut before = base.tables.get(table).cloned();
    let mut plain = Delta::default();
    for commit in line.iter().rev() {
        let after = commit.tables.get(table).cloned();
        if after == before {
            continue;
        }
        if commit.kind != CommitKind::Compact {
            let step = step(lake, table, before.as_ref(), after.as_ref()).await?;
            if !take(&mut plain, step, change) {
                return Ok(());
            }
        }
        before = after;
    }
    // A folded-away file may have been collected, if its commits are no longer kept in full.
    if gone(lake.store(), plain.added.keys().cloned()).await?.is_empty() {
        change.plain = Some(plain);
    }
    Ok(())
}

/// Takes one commit's change up; false if it rewrote what a compaction made, which cannot be told apart any more.
fn take(plain: &mut Delta, step: Delta, change: &SideChange) -> bool {
    for (url, file) in step.removed {
        if plain.added.remove(&url).is_some() {
            continue;
        }
        // Of the base, unless the side made it itself.
        if !change.net.removed.contains_key(&url) {
            return false;
        }
        plain.removed.insert(url, file);
    }
    for (url, file) in step.added {
        if plain.removed.remove(&url).is_none() {
            plain.added.insert(url, file);
        }
    }
    true
}

async fn step(
    lake: &Lake,
    table: &TableName,
    before: Option<&TableEntry>,
    after: Option<&TableEntry>,
) -> Result<Delta, LakeError> {
    let (before, after) = (state(lake, table, before).await?, state(lake, table, after).await?);
    delta(lake.store(), table, before.as_ref(), after.as_ref()).await
}

/// The state an entry names.
pub(super) async fn state(
    lake: &Lake,
    table: &TableName,
    entry: Option<&TableEntry>,
) -> Result<Option<TableState>, LakeError> {
    match entry {
        Some(entry) => table::load(lake.store(), table, entry).await.map(Some),
        None => Ok(None),
    }
}

/// The state of a table in a commit.
pub(super) async fn state_in(
    lake: &Lake,
    table: &TableName,
    commit: Option<&CommitObject>,
) -> Result<Option<TableState>, LakeError> {
    state(lake, table, commit.and_then(|commit| commit.tables.get(table))).await
}

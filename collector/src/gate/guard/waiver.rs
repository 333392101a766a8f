//! Waiving a join that the gate holds: a person merges it all the same, and the lake says who and why.
//!
//! ```text
//! head of main ─► wap/<id> ─► aligned rows of the join, where main aligned since ─► the join itself ─► main moves on
//! ```
//! A plain merge takes, of a table that a recipe went on with on both sides, that side whose coverage holds the other's, and
//! rows that no coverage tells of would be left out in silence. So what the join added to such tables is put in first.

use super::TRIES_MAX;
use super::verdicts::{BASE, FOR};
use crate::commit::cells::TableRows;
use crate::commit::tables::Ops;
use crate::gate::waive::{WaiveError, Waiver, coverage};
use crate::gate::{GATE_VERSION, WAP};
use headwater_core::id::Sha256;
use headwater_lake::{
    Adopt, AdoptTables, By, CommitError, CommitId, CommitKind, CommitObject, CommitRequest, Committed,
    CoverageEntry, CoverageMove, Lake, LakeError, MergeOptions, Merged, RefName, Strategies, Strategy,
    TableName, Warrant,
};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

/// Where aligned tables are.
const ALIGNED: &str = "aligned";

/// Whether the head of a candidate is a join with its verdicts, and not a window of one recipe's rows.
#[must_use]
pub fn is_join(tip: &CommitObject) -> bool {
    tip.lineage.inputs.iter().any(|input| input.starts_with(FOR))
}

/// Merges the held join under `name` into `target`, with a row of `ops.verdicts` for each of its tables that says who
/// waived it, and takes the quarantine ref away. What came to `target` since is joined with it.
///
/// # Errors
/// [`WaiveError`]; of a conflict the report is in it.
pub async fn waive_join(
    lake: &Lake,
    name: &RefName,
    tip: &CommitObject,
    target: &RefName,
    waiver: &Waiver,
) -> Result<Committed, WaiveError> {
    // A person answers for it by name, which stands in for a verdict.
    let lake = &lake.acting(Warrant::Judged);
    let time_us = waiver.now.micros();
    let evidence = json!({"reason": waiver.reason}).to_string();
    let tables: BTreeSet<&str> =
        tip.gates.iter().filter_map(|gate| gate.name.split_once('/')).map(|(table, _)| table).collect();
    let mut out = TableRows::new(Ops::Verdicts.spec());
    for table in tables {
        out.push(vec![
            ("ts", time_us.into()),
            ("ts_ns", waiver.now.0.into()),
            // A person's host; nothing is aligned by it.
            ("ts_err_ns", i64::MAX.into()),
            ("candidate", tip.id.to_string().into()),
            ("ref", name.to_string().into()),
            ("table", table.into()),
            ("gate", "waiver".into()),
            ("gate_version", GATE_VERSION.into()),
            ("verdict", "pass".into()),
            ("evidence_digest", Sha256::of(evidence.as_bytes()).to_string().into()),
            ("evidence", evidence.as_str().into()),
            ("published_as", target.to_string().into()),
            ("waived_by", waiver.by.as_str().into()),
        ]);
    }
    let message = format!("waived by {}: {}", waiver.by, waiver.reason);
    let request = CommitRequest {
        kind: CommitKind::Align,
        message: message.clone(),
        time_us,
        appends: vec![out.to_append()?],
        gates: tip.gates.clone(),
        lineage: tip.lineage.clone(),
        ..CommitRequest::default()
    };
    let noted = lake.writer(name.clone(), waiver.by.clone()).commit(request).await?;
    let base = base_of(tip).ok_or_else(|| WaiveError::NoCandidate {
        name: name.clone(),
        reason: "its verdicts do not say on what it was made",
    })?;
    let waived = Waived {
        lake,
        name,
        target,
        base: lake.commit_object(&base).await?,
        tip: noted.commit,
        by: By { author: waiver.by.clone(), message: Some(message), time_us },
    };
    let published = waived.publish().await?;
    lake.drop_ref(name, None, &waiver.by, time_us, "waived").await?;
    Ok(published)
}

/// The commit of the protected ref that the join was made on.
fn base_of(tip: &CommitObject) -> Option<CommitId> {
    let named = tip.lineage.inputs.iter().find_map(|input| input.strip_prefix(BASE));
    named.and_then(|id| CommitId::new(id).ok())
}

/// A join with its waiver, on its way.
struct Waived<'a> {
    lake: &'a Lake,
    name: &'a RefName,
    target: &'a RefName,
    /// What the ref was when the join was made.
    base: CommitObject,
    /// The join with its verdicts and the waiver.
    tip: CommitObject,
    by: By,
}

impl Waived<'_> {
    /// Stages it on the ref's head and moves the ref on, anew whenever others moved it meanwhile.
    async fn publish(&self) -> Result<Committed, WaiveError> {
        let (lake, By { author, time_us, .. }) = (self.lake, &self.by);
        for _ in 0..TRIES_MAX {
            let head = lake.resolve(self.target.as_str()).await?;
            let staged = RefName::unique_below(WAP, *time_us).map_err(LakeError::from)?;
            lake.branch(&staged, &head, author, *time_us).await?;
            let joined = self.stage(&head, &staged).await;
            if let Err(error) = lake.drop_ref(&staged, None, author, *time_us, "its join was waived").await {
                tracing::warn!(name = %staged, %error, "a staging branch stays: `headwater branch -d` takes it away");
            }
            let onward = MergeOptions { ff_only: true, ..MergeOptions::default() };
            match lake.merge(self.target, &joined?, &onward, &self.by).await {
                Ok(Merged::FastForward(done)) => return Ok(*done),
                Ok(_) => return Err(self.wrong("all of it is there already")),
                Err(CommitError::Failed { source: LakeError::NotFastForward { .. }, .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(WaiveError::Moving { name: self.target.clone() })
    }

    /// Makes the join on a branch at `head`.
    async fn stage(&self, head: &CommitId, staged: &RefName) -> Result<CommitId, WaiveError> {
        let here = self.lake.commit_object(head).await?;
        let moved = self.moved(&here);
        let mut options = MergeOptions::default();
        if !moved.is_empty() {
            let coverage = self.coverage(&moved, &here).await?;
            let request = Adopt {
                candidate: self.tip.id.clone(),
                fork: self.base.id.clone(),
                tables: AdoptTables::Namespace(ALIGNED.to_owned()),
                coverage,
                message: format!("aligned rows of {}", self.name),
                time_us: self.by.time_us,
            };
            self.lake.writer(staged.clone(), self.by.author.clone()).adopt(request).await?;
            // They are in; captures and the books follow by the join itself.
            let tables = moved.into_iter().map(|table| (table, Strategy::Ours)).collect();
            options.strategies = Strategies { tables, ..Strategies::default() };
        }
        match self.lake.merge(staged, &self.tip.id, &options, &self.by).await? {
            Merged::FastForward(done) | Merged::Commit { committed: done, .. } => Ok(done.id),
            _ => Err(self.wrong("all of it is there already")),
        }
    }

    /// Aligned tables that both the join and the ref changed since it was made.
    fn moved(&self, here: &CommitObject) -> Vec<TableName> {
        let (base, tip) = (&self.base.tables, &self.tip.tables);
        let aligned = tip.keys().filter(|name| name.namespace() == ALIGNED);
        let both = aligned.filter(|name| {
            let (before, mine, theirs) = (base.get(*name), here.tables.get(*name), tip.get(*name));
            before != theirs && before != mine && mine != theirs
        });
        both.cloned().collect()
    }

    /// What the ref's recipes have finished with the rows of the join.
    async fn coverage(
        &self,
        moved: &[TableName],
        here: &CommitObject,
    ) -> Result<BTreeMap<String, CoverageMove>, WaiveError> {
        let mut moves = BTreeMap::new();
        for recipe in moved.iter().map(TableName::table) {
            let of = |commit: &CommitObject| commit.coverage.get(recipe).cloned();
            let (before, mine, theirs) = (of(&self.base), of(here), of(&self.tip));
            let Some(theirs) = theirs.filter(|theirs| before.as_ref() != Some(theirs)) else { continue };
            if mine.as_ref().is_some_and(|mine| mine.recipe_id != theirs.recipe_id) {
                let (name, target, recipe) = (self.name.clone(), self.target.clone(), recipe.to_owned());
                return Err(WaiveError::OtherRecipe { name, target, recipe });
            }
            let rows = coverage(self.lake, Some(&theirs)).await?;
            let rows = rows.minus(&coverage(self.lake, before.as_ref()).await?);
            let mut done = coverage(self.lake, mine.as_ref()).await?;
            let shared = rows.shared_with(&done);
            if shared > 0 {
                let (name, target) = (self.name.clone(), self.target.clone());
                return Err(WaiveError::Published { name, target, rows: shared });
            }
            done.union_with(&rows);
            let stored = done.to_bytes(&theirs.recipe_id)?;
            let hash = Sha256::of(&stored).to_string();
            self.lake.put_state(&hash, stored.into()).await?;
            let to = CoverageEntry { recipe_id: theirs.recipe_id, hash };
            moves.insert(recipe.to_owned(), CoverageMove { from: mine, to });
        }
        Ok(moves)
    }

    fn wrong(&self, reason: &'static str) -> WaiveError {
        WaiveError::NoCandidate { name: self.name.clone(), reason }
    }
}

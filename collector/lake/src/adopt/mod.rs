//! Adopting a candidate: what a staging branch added since it was made goes onto the branch it was made from, whole and
//! in one commit, without a row being written twice.
//!
//! If the branch has not moved, its ref moves on to the candidate (fast-forward). Else a table that only the candidate
//! touched is pointed at as it is, and one that both touched gets the candidate's files appended, if they only appended.

mod files;

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use iceberg::spec::{DataFile, Operation};

use self::files::{added_files, drafted_like};
use crate::error::{CommitError, LakeError};
use crate::history::walk;
use crate::lake::Lake;
use crate::names::{CommitId, TableName};
use crate::repo::{CommitKind, CommitObject, CoverageEntry, RefOp, TableEntry};
use crate::table::{self, Change, Context};
use crate::writer::{Base, Committed, Draft, Drafting, LakeWriter, Plan};

/// Which tables of a candidate are adopted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdoptTables {
    /// All it touched; the branch moves on to the candidate if it stood still.
    All,
    /// Only those of one namespace; the candidate is not published by it.
    Namespace(String),
}

/// Align coverage of one recipe, before and after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoverageMove {
    /// What the branch must say: whoever moved it meanwhile may have taken in the same rows.
    pub from: Option<CoverageEntry>,
    /// What it says then.
    pub to: CoverageEntry,
}

/// A candidate to be adopted.
#[derive(Debug, Clone)]
pub struct Adopt {
    /// Head of the staging branch.
    pub candidate: CommitId,
    /// The commit at which it was made.
    pub fork: CommitId,
    /// What of it.
    pub tables: AdoptTables,
    /// Align coverage by recipe name.
    pub coverage: BTreeMap<String, CoverageMove>,
    /// Why, for people.
    pub message: String,
    /// Now, UTC µs.
    pub time_us: i64,
}

impl LakeWriter {
    /// Publishes what a candidate added since its fork; see [`Adopt`]. None if it added nothing of that.
    ///
    /// # Errors
    /// As [`LakeWriter::commit`]; [`LakeError::CoverageMoved`] when another writer moved the coverage,
    /// [`LakeError::Diverged`] when both sides changed a table in a way that does not add up, [`LakeError::Overturned`]
    /// when captures left the branch meanwhile.
    pub async fn adopt(&mut self, request: Adopt) -> Result<Option<Committed>, CommitError> {
        let mut plan = Adopting { request, sides: None };
        self.publish(&mut plan).await
    }
}

/// The plan of [`LakeWriter::adopt`].
#[derive(Debug)]
struct Adopting {
    request: Adopt,
    /// Candidate and fork, once read.
    sides: Option<(CommitObject, CommitObject)>,
}

impl Adopting {
    /// The candidate with its tables that are to be adopted, and the commit it was made at.
    async fn sides(&mut self, lake: &Lake) -> Result<(CommitObject, CommitObject), LakeError> {
        if let Some(sides) = &self.sides {
            return Ok(sides.clone());
        }
        let candidate = lake.commit_object(&self.request.candidate).await?;
        let fork = lake.commit_object(&self.request.fork).await?;
        let sides = (candidate, fork);
        self.sides = Some(sides.clone());
        Ok(sides)
    }

    fn wants(&self, name: &TableName) -> bool {
        match &self.request.tables {
            AdoptTables::All => true,
            AdoptTables::Namespace(namespace) => name.namespace() == namespace,
        }
    }

    fn check_coverage(&self, base: &Base) -> Result<(), LakeError> {
        let now = base.commit.as_ref().map(|commit| &commit.coverage);
        let moved = self.request.coverage.iter().find(|(recipe, coverage)| {
            now.and_then(|now| now.get(recipe.as_str())) != coverage.from.as_ref()
        });
        match moved {
            Some((recipe, _)) => Err(LakeError::CoverageMoved { recipe: recipe.clone() }),
            None => Ok(()),
        }
    }

    /// True if the candidate itself is what the branch shall be.
    fn is_forward(&self, base: &Base, candidate: &CommitObject) -> bool {
        let moves = &self.request.coverage;
        self.request.tables == AdoptTables::All
            && base.commit.as_ref().is_some_and(|commit| commit.id == self.request.fork)
            && moves.iter().all(|(recipe, coverage)| candidate.coverage.get(recipe) == Some(&coverage.to))
    }
}

#[async_trait]
impl Plan for Adopting {
    fn time_us(&self) -> i64 {
        self.request.time_us
    }

    async fn draft(
        &mut self,
        lake: &Lake,
        author: &str,
        base: &mut Base,
    ) -> Result<Option<Draft>, LakeError> {
        self.check_coverage(base)?;
        let (candidate, fork) = self.sides(lake).await?;
        if let Some(base) = &base.commit {
            still_stands(lake, &base.id, &fork.id).await?;
        }
        if self.is_forward(base, &candidate) {
            let (states, objects) = (BTreeMap::new(), Vec::new());
            return Ok(Some(Draft { commit: candidate, states, objects, op: RefOp::Ff }));
        }
        let touched: Vec<(&TableName, &TableEntry)> = candidate
            .tables
            .iter()
            .filter(|(name, entry)| self.wants(name) && fork.tables.get(*name) != Some(*entry))
            .collect();
        if touched.is_empty() && self.request.coverage.is_empty() {
            return Ok(None);
        }
        let mut drafting = Drafting::on(lake, author, base, candidate.kind, self.request.time_us);
        let mut stats = candidate.stats.clone();
        (stats.rows, stats.bytes) = (0, 0);
        for (name, entry) in touched {
            let before = fork.tables.get(name);
            stats.rows += entry.rows.saturating_sub(before.map_or(0, |before| before.rows));
            stats.bytes += entry.bytes.saturating_sub(before.map_or(0, |before| before.bytes));
            let here = base.commit.as_ref().and_then(|commit| commit.tables.get(name));
            if here == Some(entry) {
                continue;
            }
            if here == before {
                drafting.point(name, Some(entry.clone()));
            } else {
                append(lake, base, &mut drafting, name, Sides { candidate: entry, fork: before }).await?;
            }
        }
        let coverage = self.request.coverage.iter().map(|(recipe, to)| (recipe.clone(), to.to.clone()));
        drafting.set_coverage(&coverage.collect());
        let commit = &mut drafting.commit;
        commit.message.clone_from(&self.request.message);
        commit.stats = stats;
        commit.gates = candidate.gates;
        commit.lineage = candidate.lineage;
        commit.lineage.inputs.push(format!("candidate {}", candidate.id));
        drafting.seal(lake, RefOp::Commit).map(Some)
    }
}

/// Refuses a candidate whose captures a person may have taken out meanwhile: an erasure, a reset or a repair between
/// where it was made and the branch's head, or a fork that is no longer on the branch's line.
async fn still_stands(lake: &Lake, head: &CommitId, fork: &CommitId) -> Result<(), LakeError> {
    let since = walk::first_parents_until(lake, head, fork).await?;
    let Some(since) = since else { return Err(LakeError::Overturned { commit: fork.clone(), by: None }) };
    let takes_out = |kind| matches!(kind, CommitKind::Erase | CommitKind::Reset | CommitKind::Repair);
    match since.into_iter().find(|commit| takes_out(commit.kind)) {
        Some(commit) => Err(LakeError::Overturned { commit: commit.id, by: Some(commit.kind) }),
        None => Ok(()),
    }
}

/// One table on the candidate and where it was made.
#[derive(Debug, Clone, Copy)]
struct Sides<'a> {
    candidate: &'a TableEntry,
    fork: Option<&'a TableEntry>,
}

/// Appends the files the candidate added to a table that moved on meanwhile.
async fn append(
    lake: &Lake,
    base: &mut Base,
    drafting: &mut Drafting,
    name: &TableName,
    sides: Sides<'_>,
) -> Result<(), LakeError> {
    base.need(lake, name).await?;
    let diverged = |reason: &str| LakeError::Diverged { table: name.clone(), reason: reason.to_owned() };
    let here = base.tables.get(name).ok_or_else(|| diverged("the branch has dropped it"))?;
    if here.entry.uuid != sides.candidate.uuid {
        return Err(diverged("both sides made a table of that name"));
    }
    let state = table::load(lake.store(), name, sides.candidate).await?;
    let fork = match sides.fork {
        Some(entry) => Some(table::load(lake.store(), name, entry).await?),
        None => None,
    };
    let added: Vec<DataFile> = added_files(lake, name, &state, fork.as_ref(), here).await?;
    if added.is_empty() {
        return Ok(());
    }
    let drafted = drafted_like(name, here, &state.metadata)?;
    let change =
        Change { added, added_manifest: None, removed: BTreeSet::new(), operation: Operation::Append };
    let context = Context {
        store: lake.store(),
        table: name,
        snapshot_id: table::snapshot_id(),
        time_us: drafting.commit.time_us,
        summary: &drafting.summary().clone(),
    };
    let built = table::produce(&context, drafted, Some(here), &change).await?;
    drafting.put(name, built);
    Ok(())
}

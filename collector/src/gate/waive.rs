//! Waiving: a person publishes a quarantined candidate all the same, and the lake says who and why.

use super::guard::{is_join, waive_join};
use super::rules::GATE_VERSION;
use crate::align::coverage::{Coverage, CoverageError};
use crate::commit::cells::TableRows;
use crate::commit::tables::Ops;
use headwater_core::id::Sha256;
use headwater_core::time::UtcNanos;
use headwater_lake::{
    Adopt, AdoptTables, CommitError, CommitId, CommitKind, CommitObject, CommitRequest, Committed,
    CoverageEntry, CoverageMove, Lake, LakeError, PublishError, RefName, Warrant,
};
use serde_json::json;
use std::collections::BTreeMap;

/// Why a candidate was not waived; nothing was published then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WaiveError {
    /// The lake.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// The commit did not happen.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// A staging branch could not be made, or the quarantine ref not taken away; then the rows are published.
    #[error("make or take away a branch of the waiver")]
    Publish(#[from] PublishError),
    /// Stored coverage.
    #[error(transparent)]
    Coverage(#[from] CoverageError),
    /// What is under the ref is no candidate of the gate.
    #[error("{name} is no candidate of the gate: {reason}; `headwater gate list` shows those there are")]
    NoCandidate {
        /// The ref.
        name: RefName,
        /// What is missing.
        reason: &'static str,
    },
    /// Its rows are in the branch already.
    #[error(
        "{rows} of the rows of {name} are in {target} already; take it away with `headwater branch --delete {name}`"
    )]
    Published {
        /// The ref.
        name: RefName,
        /// Where.
        target: RefName,
        /// How many.
        rows: u64,
    },
    /// The recipe's table on the branch is of another version of the recipe.
    #[error(
        "{name} was aligned by another version of recipe {recipe} than {target} holds; it cannot be published there"
    )]
    OtherRecipe {
        /// The ref.
        name: RefName,
        /// Where.
        target: RefName,
        /// The recipe.
        recipe: String,
    },
    /// Others kept moving the branch.
    #[error("{name} kept moving while the join was staged on it; say it again when fewer write to it")]
    Moving {
        /// The branch.
        name: RefName,
    },
    /// Laying out its row.
    #[error("lay out the waiver")]
    Arrow(#[from] arrow_schema::ArrowError),
}

/// Who waives, why and when.
#[derive(Debug, Clone)]
pub struct Waiver {
    /// The person.
    pub by: String,
    /// Their reason.
    pub reason: String,
    /// Now, UTC.
    pub now: UtcNanos,
}

/// The commit a candidate was made at, and the rows it would publish.
///
/// # Errors
/// When its commits or coverage cannot be read; [`LakeError::UnknownRevision`] when they are gone.
pub async fn rows_of(lake: &Lake, tip: &CommitObject) -> Result<(CommitObject, Coverage), CandidateError> {
    let mut fork = tip.clone();
    let gone = || LakeError::UnknownRevision { spec: format!("{}~", tip.id) };
    // Commits the gate made since the fork: rows, verdicts, and a waiver that did not get further.
    while fork.lineage.recipes == tip.lineage.recipes && fork.coverage == tip.coverage {
        let parent = fork.parents.first().cloned().ok_or_else(gone)?;
        fork = lake.commit_object(&parent).await?;
    }
    let mut rows = Coverage::default();
    for recipe in tip.lineage.recipes.keys() {
        let after = coverage(lake, tip.coverage.get(recipe)).await?;
        rows.union_with(&after.minus(&coverage(lake, fork.coverage.get(recipe)).await?));
    }
    Ok((fork, rows))
}

/// Candidates that cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CandidateError {
    /// The lake.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// Stored coverage.
    #[error(transparent)]
    Coverage(#[from] CoverageError),
}

impl From<CandidateError> for WaiveError {
    fn from(error: CandidateError) -> Self {
        match error {
            CandidateError::Lake(error) => Self::Lake(error),
            CandidateError::Coverage(error) => Self::Coverage(error),
        }
    }
}

pub(super) async fn coverage(lake: &Lake, entry: Option<&CoverageEntry>) -> Result<Coverage, CandidateError> {
    let Some(entry) = entry else { return Ok(Coverage::default()) };
    let path = format!("state {}", entry.hash);
    let gone = || LakeError::Corrupt { path, reason: "a commit names it and it is gone".to_owned() };
    let bytes = lake.state(&entry.hash).await?.ok_or_else(gone)?;
    Ok(Coverage::from_bytes(&bytes)?)
}

/// Publishes the candidate under `name` to `target`, with a row of `ops.verdicts` that says who waived it, and takes the
/// quarantine ref away.
///
/// # Errors
/// [`WaiveError`].
pub async fn waive(
    lake: &Lake,
    name: &RefName,
    target: &RefName,
    waiver: &Waiver,
) -> Result<Committed, WaiveError> {
    let wrong = |reason| WaiveError::NoCandidate { name: name.clone(), reason };
    let head = lake.head(name).await?.and_then(|head| head.commit);
    let tip = lake.commit_object(&head.ok_or_else(|| wrong("there is no such ref"))?).await?;
    if is_join(&tip) {
        return waive_join(lake, name, &tip, target, waiver).await;
    }
    let mut recipes = tip.lineage.recipes.iter();
    let (Some((recipe, recipe_id)), None) = (recipes.next(), recipes.next()) else {
        return Err(wrong("its commit names no recipe"));
    };
    let (fork, rows) = rows_of(lake, &tip).await?;
    if rows.count() == 0 {
        return Err(wrong("it adds no rows"));
    }
    let here = lake.commit_object(&lake.resolve(target.as_str()).await?).await?;
    let from = here.coverage.get(recipe).cloned();
    if from.as_ref().is_some_and(|from| from.recipe_id != *recipe_id) {
        let (name, target, recipe) = (name.clone(), target.clone(), recipe.clone());
        return Err(WaiveError::OtherRecipe { name, target, recipe });
    }
    let mut done = coverage(lake, from.as_ref()).await?;
    let fresh = rows.minus(&done).count();
    if fresh < rows.count() {
        let (name, target, rows) = (name.clone(), target.clone(), rows.count().saturating_sub(fresh));
        return Err(WaiveError::Published { name, target, rows });
    }
    done.union_with(&rows);
    let stored = done.to_bytes(recipe_id)?;
    let to = CoverageEntry { recipe_id: recipe_id.clone(), hash: Sha256::of(&stored).to_string() };
    lake.put_state(&to.hash, stored.into()).await?;

    let noted = note(lake, name, &tip, target, waiver, rows.count()).await?;
    let request = Adopt {
        candidate: noted,
        fork: fork.id,
        tables: AdoptTables::All,
        coverage: BTreeMap::from([(recipe.clone(), CoverageMove { from, to })]),
        message: format!(
            "{} rows of aligned.{recipe}, waived by {}: {}",
            rows.count(),
            waiver.by,
            waiver.reason
        ),
        time_us: waiver.now.micros(),
    };
    // A person answers for it by name, which stands in for a verdict.
    let lake = &lake.acting(Warrant::Judged);
    let mut writer = lake.writer(target.clone(), waiver.by.clone());
    let published = writer.adopt(request).await?.ok_or_else(|| wrong("it adds no rows"))?;
    lake.drop_ref(name, None, &waiver.by, waiver.now.micros(), "waived").await?;
    Ok(published)
}

/// Commits the waiver to the candidate, so that it is published with it.
async fn note(
    lake: &Lake,
    name: &RefName,
    tip: &CommitObject,
    target: &RefName,
    waiver: &Waiver,
    rows: u64,
) -> Result<CommitId, WaiveError> {
    let recipe = tip.lineage.recipes.iter().next();
    let evidence = json!({"reason": waiver.reason}).to_string();
    let mut out = TableRows::new(Ops::Verdicts.spec());
    out.push(vec![
        ("ts", waiver.now.micros().into()),
        ("ts_ns", waiver.now.0.into()),
        // A person's host; nothing is aligned by it.
        ("ts_err_ns", i64::MAX.into()),
        ("candidate", tip.id.to_string().into()),
        ("ref", name.to_string().into()),
        ("table", recipe.map(|(recipe, _)| format!("aligned.{recipe}")).into()),
        ("recipe_id", recipe.map(|(_, id)| id.clone()).into()),
        ("gate", "waiver".into()),
        ("gate_version", GATE_VERSION.into()),
        ("verdict", "pass".into()),
        ("t_min_ns", tip.stats.t_min_ns.into()),
        ("t_max_ns", tip.stats.t_max_ns.into()),
        ("rows", rows.into()),
        ("evidence_digest", Sha256::of(evidence.as_bytes()).to_string().into()),
        ("evidence", evidence.into()),
        ("published_as", target.to_string().into()),
        ("waived_by", waiver.by.as_str().into()),
    ]);
    let request = CommitRequest {
        kind: CommitKind::Align,
        message: format!("waived by {}", waiver.by),
        time_us: waiver.now.micros(),
        appends: vec![out.to_append()?],
        gates: tip.gates.clone(),
        stats: tip.stats.clone(),
        lineage: tip.lineage.clone(),
        ..CommitRequest::default()
    };
    Ok(lake.writer(name.clone(), waiver.by.clone()).commit(request).await?.id)
}

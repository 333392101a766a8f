//! The guard before protected refs: what a merge or cherry-pick would make is staged, judged, and published or set aside, so
//! that no aligned row comes to a protected ref without a passing verdict (G1).
//!
//! ```text
//! head of main ─► wap/<id> ─► merge there ─► aligned tables that differ: rules, hooks ─► verdicts ─┐
//!        ▲  main moved meanwhile: staged anew; the same tables are not judged twice                │
//!        └──────────────────────────────────────────────────────────────── pass: main moves on ◄───┤
//!                                                                          fail: quarantine/<id> ◄─┘
//! ```
//! Only aligned tables are asked: captures were admitted before. Whatever happens in between, the protected ref is as it
//! was, and at most a staging branch is left.

mod judging;
mod keys;
mod stored;
mod verdicts;
mod waiver;

pub use stored::{StoredGateError, store_settings, stored_settings};
pub use waiver::{is_join, waive_join};

use self::judging::Rows;
use super::hook::{Question, ask};
use super::settings::GateSettings;
use super::{Judged, QUARANTINE, Verdict, WAP, worst};
use headwater_core::id::KindName;
use headwater_core::ports::Clock;
use headwater_lake::{
    By, CommitError, CommitId, CommitObject, Lake, LakeError, MergeOptions, Merged, NameError, PublishError,
    RefName, TableEntry, TableName, Warrant,
};
use std::collections::BTreeMap;

/// Times a candidate is staged because the ref moved on: at a commit every ten seconds and judging that takes one, the
/// second is nearly always the last.
const TRIES_MAX: u32 = 8;

/// What is to come to the ref.
#[derive(Debug, Clone)]
pub enum Join {
    /// All of a line.
    Merge {
        /// Its tip.
        from: CommitId,
        /// How.
        options: MergeOptions,
    },
    /// What one commit did.
    Pick(CommitId),
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Passage {
    /// All of it was there.
    UpToDate,
    /// It was published.
    Published {
        /// The ref's head: the join, or its verdicts on top.
        tip: CommitId,
        /// What joining made; of a cherry-pick, nothing is told.
        merged: Option<Merged>,
        /// Verdicts, worst of each table.
        verdicts: BTreeMap<TableName, Verdict>,
    },
    /// The gate holds it.
    Quarantined {
        /// Where it can be looked at.
        name: RefName,
        /// What failed, as table and gate.
        failed: Vec<(TableName, String)>,
    },
}

/// Why nothing came of it; the ref is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GuardError {
    /// Joining.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The lake.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// A ref of its own could not be made or taken away.
    #[error("make or take away its staging branch")]
    Publish(#[from] PublishError),
    /// A name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Rows or verdicts could not be laid out.
    #[error("lay out its rows or verdicts")]
    Arrow(#[from] arrow_schema::ArrowError),
    /// Others kept moving the ref.
    #[error("{name} moved {TRIES_MAX} times while the gate judged; say it again when fewer write to it")]
    Moving {
        /// The ref.
        name: RefName,
    },
}

/// The guard of one ref.
#[derive(Debug)]
pub struct Guard<'a, C> {
    /// The lake; the guard moves refs by its own right.
    pub lake: &'a Lake,
    /// The protected ref.
    pub into: &'a RefName,
    /// How aligned rows are judged.
    pub gate: &'a GateSettings,
    /// Who joins, and why.
    pub by: &'a By,
    /// Times hooks.
    pub clock: C,
}

/// One aligned table that a join changes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Touched {
    before: Option<TableEntry>,
    after: TableEntry,
}

/// Aligned tables with what is said of them: valid for the same tables on any head.
#[derive(Debug, Default)]
struct Judgement {
    tables: BTreeMap<TableName, Touched>,
    judged: BTreeMap<TableName, JudgedTable>,
}

/// What is said of one table.
#[derive(Debug)]
struct JudgedTable {
    rows: u64,
    span: Option<(i64, i64)>,
    recipe_id: String,
    judged: Vec<Judged>,
}

/// How one try ended.
enum Tried {
    Done(Passage),
    /// The ref moved on meanwhile.
    Moved,
}

impl<C: Clock> Guard<'_, C> {
    /// Joins, judges and publishes; see the module.
    ///
    /// # Errors
    /// [`GuardError`]; of a conflict the report is in it, as from a merge that nobody judges.
    pub async fn join(&self, join: &Join) -> Result<Passage, GuardError> {
        let lake = self.lake.acting(Warrant::Judged);
        let mut known = Judgement::default();
        for _ in 0..TRIES_MAX {
            let head = lake.head(self.into).await?.and_then(|head| head.commit);
            let head = head.ok_or_else(|| LakeError::UnknownRevision { spec: self.into.to_string() })?;
            let staged = RefName::unique_below(WAP, self.by.time_us)?;
            lake.branch(&staged, &head, &self.by.author, self.by.time_us).await?;
            let tried = self.attempt(&lake, join, (&head, &staged), &mut known).await;
            // It has served its purpose, whatever came of it; one that stays is seen by `headwater gate list`.
            let reason = "its join was judged";
            if let Err(error) = lake.drop_ref(&staged, None, &self.by.author, self.by.time_us, reason).await {
                tracing::warn!(name = %staged, %error, "a staging branch stays: `headwater branch -d` takes it away");
            }
            if let Tried::Done(passage) = tried? {
                return Ok(passage);
            }
            tracing::info!(name = %self.into, "the ref moved on while the gate judged, staging anew");
        }
        Err(GuardError::Moving { name: self.into.clone() })
    }

    async fn attempt(
        &self,
        lake: &Lake,
        join: &Join,
        (head, staged): (&CommitId, &RefName),
        known: &mut Judgement,
    ) -> Result<Tried, GuardError> {
        let Some((joined, merged)) = self.stage(lake, join, staged).await? else {
            return Ok(Tried::Done(Passage::UpToDate));
        };
        let base = lake.commit_object(head).await?;
        let tables = touched(&base, &joined);
        if known.tables != tables {
            let mut judged = BTreeMap::new();
            for name in tables.keys() {
                judged.insert(name.clone(), self.judge(lake, name, &base, &joined, staged).await?);
            }
            *known = Judgement { tables, judged };
        }
        let tip = match known.judged.is_empty() {
            true => joined.id.clone(),
            false => self.note(lake, known, &base, &joined, staged).await?,
        };
        let failed = known.failed();
        if !failed.is_empty() {
            let id = staged.as_str().rsplit('/').next().unwrap_or_default();
            let name = RefName::new(format!("{QUARANTINE}/{id}"))?;
            lake.branch(&name, &tip, &self.by.author, self.by.time_us).await?;
            metrics::counter!("headwater_gate_quarantined_total").increment(1);
            return Ok(Tried::Done(Passage::Quarantined { name, failed }));
        }
        let onward = MergeOptions { ff_only: true, ..MergeOptions::default() };
        match lake.merge(self.into, &tip, &onward, self.by).await {
            Ok(_) => {
                let verdict =
                    |(name, table): (&TableName, &JudgedTable)| (name.clone(), worst(&table.judged));
                let verdicts = known.judged.iter().map(verdict).collect();
                Ok(Tried::Done(Passage::Published { tip, merged, verdicts }))
            }
            Err(CommitError::Failed { source: LakeError::NotFastForward { .. }, .. }) => Ok(Tried::Moved),
            Err(error) => Err(error.into()),
        }
    }

    /// Joins on the staging branch; none if there is nothing to do.
    async fn stage(
        &self,
        lake: &Lake,
        join: &Join,
        staged: &RefName,
    ) -> Result<Option<(CommitObject, Option<Merged>)>, GuardError> {
        match join {
            Join::Merge { from, options } => {
                // People read which branch it was for, not the one it was staged on.
                let message = self.by.message.clone();
                let message = message.unwrap_or_else(|| format!("merge {} into {}", from.short(), self.into));
                let by = By { message: Some(message), ..self.by.clone() };
                let merged = lake.merge(staged, from, options, &by).await?;
                let commit = match &merged {
                    Merged::FastForward(done) | Merged::Commit { committed: done, .. } => done.commit.clone(),
                    _ => return Ok(None),
                };
                Ok(Some((commit, Some(merged))))
            }
            Join::Pick(commit) => {
                let picked = lake.cherry_pick(staged, commit, self.by).await?;
                Ok(picked.map(|picked| (picked.committed.commit, None)))
            }
        }
    }

    async fn judge(
        &self,
        lake: &Lake,
        name: &TableName,
        base: &CommitObject,
        joined: &CommitObject,
        staged: &RefName,
    ) -> Result<JudgedTable, GuardError> {
        let Rows { count: n, span, mut judged } = self.by_rules(lake, name, (&base.id, &joined.id)).await?;
        let recipe_id = joined.coverage.get(name.table()).map(|entry| entry.recipe_id.clone());
        let recipe_id = recipe_id.unwrap_or_default();
        // What the rules refuse needs nobody's time, and rows that only went are no hook's business.
        if worst(&judged) != Verdict::Fail && n > 0 {
            let recipe: Option<KindName> = name.table().parse().ok();
            let question = Question {
                lake: lake.location().to_owned(),
                rest_url: self.gate.rest_url.clone(),
                branch: staged.to_string(),
                candidate: joined.id.to_string(),
                target: self.into.to_string(),
                fork: base.id.to_string(),
                recipe: (name.table().to_owned(), recipe_id.clone()),
                table: name.to_string(),
                rows: n,
                t_ns: span,
                gates: judged.iter().map(|judged| (judged.gate.to_string(), judged.verdict)).collect(),
            };
            let concerns = |recipe: &Option<KindName>, hook: &super::Hook| {
                recipe.as_ref().map_or(hook.recipes.is_empty(), |recipe| hook.concerns(recipe))
            };
            for hook in self.gate.hooks.iter().filter(|hook| concerns(&recipe, hook)) {
                judged.push(ask(hook, &question, &self.clock).await);
            }
        }
        Ok(JudgedTable { rows: n, span, recipe_id, judged })
    }
}

impl Judgement {
    fn failed(&self) -> Vec<(TableName, String)> {
        let of = |(name, table): (&TableName, &JudgedTable)| -> Vec<(TableName, String)> {
            let failed = table.judged.iter().filter(|judged| judged.verdict == Verdict::Fail);
            failed.map(|judged| (name.clone(), judged.gate.to_string())).collect()
        };
        self.judged.iter().flat_map(of).collect()
    }
}

/// Aligned tables that the join changes or makes.
fn touched(base: &CommitObject, joined: &CommitObject) -> BTreeMap<TableName, Touched> {
    let aligned = joined.tables.iter().filter(|(name, _)| name.namespace() == "aligned");
    aligned
        .filter(|(name, after)| base.tables.get(*name) != Some(*after))
        .map(|(name, after)| {
            let before = base.tables.get(name).cloned();
            (name.clone(), Touched { before, after: after.clone() })
        })
        .collect()
}

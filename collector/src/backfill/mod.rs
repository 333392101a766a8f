//! Backfill: the history of a lake aligned by a recipe on a branch of its own, where a merge and its gate find it.
//!
//! ```text
//! raw tables of a commit ─► plan: units (day or part of one, device or site), in order
//!        └─► jobs beside each other: a unit's rows, held against the table ─► in order ─► commits on the branch
//!                                                     each says how many units are done, so the next run goes on there
//! ```
//! A unit's rows depend on nothing but the raw tables and the recipe, and commits are cut by rows and never by time: any
//! number of jobs gives the same commits with the same files. Motion and episodes rest on the rows before: jobs leave them
//! out, and they are made as units are handed out in order, from the first one on, however many are done already. Rows that stand in the table as they are stay; others give
//! way in the commit that brings their successors.

mod mark;
mod plan;
mod publish;
mod unit;

use self::mark::Mark;
pub(crate) use self::plan::{DAY_US, days};
use self::plan::{Unit, plan};
use self::publish::{Publisher, Table};
use self::unit::{Held, Made, UnitRows, compare, compute};
use crate::align::coverage::CoverageError;
use crate::align::derived::chain::Tails;
use crate::align::layout::table_name;
use crate::ingest::{RebuildError, Rebuilder, Rebuilt, Unanswered};
use headwater_align::recipe::Recipe;
use headwater_core::ports::Clock;
use headwater_lake::{
    CommitError, CommitId, CommitKind, CommitObject, Lake, LakeError, NameError, PublishError, RefName,
};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::task::{JoinError, JoinSet};

/// Commits looked back through for the mark of an earlier run: what came since that told nothing of rows, compactions above
/// all.
const LOOK_BACK_MAX: usize = 1_000;

/// What to align where.
#[derive(Debug, Clone)]
pub struct Backfill {
    /// By what.
    pub recipe: Recipe,
    /// On which branch; made where it is not.
    pub on: RefName,
    /// Where the branch begins, if it is made; one that is there must have begun there.
    pub from: Option<CommitId>,
    /// Rows of days from that of this UTC on, µs.
    pub since_us: Option<i64>,
    /// Up to that of this UTC, not included unless it lies within a day, µs.
    pub until_us: Option<i64>,
    /// Units made beside each other, at least one.
    pub jobs: usize,
    /// Who commits.
    pub author: String,
    /// How much is done at once.
    pub sizes: Sizes,
}

/// How much is done at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Rows of a unit, about: each job holds as many, some 30 MB, and as many again wait for their turn.
    pub unit_rows: u64,
    /// Rows of a commit: a file of some tens of MB for each of its days, and what a killed run loses at most.
    pub commit_rows: usize,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { unit_rows: 65_536, commit_rows: 262_144 }
    }
}

/// What became of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The branch.
    pub branch: String,
    /// The table.
    pub table: String,
    /// The recipe's id.
    pub recipe_id: String,
    /// The commit whose raw tables were aligned.
    pub source: String,
    /// The branch's head.
    pub head: String,
    /// Units of the whole.
    pub units: usize,
    /// Of them, done by earlier runs.
    pub units_before: usize,
    /// Days of the whole.
    pub days: usize,
    /// Devices or sites of it.
    pub entities: usize,
    /// Rows made by this run.
    pub rows: u64,
    /// Of them, not in the table before.
    pub rows_new: u64,
    /// In place of others.
    pub rows_changed: u64,
    /// As they stood there.
    pub rows_same: u64,
    /// Rows that are no more: their sample gives none.
    pub rows_gone: u64,
    /// Spine samples that give no row.
    pub left_out: u64,
    /// Rows that are not final at that commit; the collector writes them when they are.
    pub open: u64,
    /// Rows for which programs gave no value.
    pub unanswered: Vec<Unanswered>,
    /// Commits made by this run.
    pub commits: u64,
    /// The table was begun anew: another version of the recipe had made it.
    pub anew: bool,
    /// The branch had a table of that name.
    pub was_there: bool,
}

/// What is told while it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Told {
    /// What there is to do.
    Begun {
        /// The branch.
        branch: String,
        /// The table.
        table: String,
        /// The recipe's id.
        recipe_id: String,
        /// The commit whose raw tables are aligned.
        source: String,
        /// Units of the whole.
        units: usize,
        /// Done by earlier runs.
        units_done: usize,
    },
    /// A unit's rows are made, not committed yet.
    Made {
        /// Its first day.
        day: i32,
        /// Device or site.
        entity: String,
        /// How many.
        rows: u64,
    },
    /// What was made is committed.
    Committed {
        /// The commit.
        commit: String,
        /// Rows it brought.
        rows: u64,
        /// Units done by now.
        units_done: usize,
    },
    /// All is done.
    Done(Report),
}

/// Why it did not get through. What was committed stays, and the next run goes on there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackfillError {
    /// The lake.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// A commit.
    #[error(transparent)]
    Commit(Box<CommitError>),
    /// The branch.
    #[error("make the branch")]
    Branch(#[from] PublishError),
    /// Rows could not be made.
    #[error(transparent)]
    Rebuild(#[from] RebuildError),
    /// Stored coverage.
    #[error(transparent)]
    Coverage(#[from] CoverageError),
    /// A name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Rows could not be laid out, which only a bug brings about.
    #[error("lay out aligned rows")]
    Arrow(#[from] arrow_schema::ArrowError),
    /// A branch of that name is about something else.
    #[error(
        "branch {on} is there and did not begin at {from}; leave --from out to go on with it as it is, bring it up to date \
         first (headwater merge {from} --on {on}), or name another branch"
    )]
    Elsewhere {
        /// The branch.
        on: RefName,
        /// Where it was to begin.
        from: String,
    },
    /// Somebody else commits to the branch.
    #[error("somebody else committed to {on} meanwhile; say it again, it goes on where it stood")]
    Overtaken {
        /// The branch.
        on: RefName,
    },
    /// Motion and episodes of rows rest on those before them.
    #[error(
        "recipe {recipe} has motion or episodes, which the rows behind a stretch rest on: leave --until out"
    )]
    Chained {
        /// The recipe.
        recipe: String,
    },
    /// What was aligned is not known.
    #[error(
        "what recipe {recipe} has aligned on {on} is not known: its record is gone from the lake; `headwater lake check` says \
         more"
    )]
    NoRecord {
        /// The recipe.
        recipe: String,
        /// The branch.
        on: RefName,
    },
    /// A job broke down, which only a bug brings about.
    #[error("a job broke down")]
    Job(#[from] JoinError),
}

impl From<CommitError> for BackfillError {
    fn from(error: CommitError) -> Self {
        Self::Commit(Box::new(error))
    }
}

/// Aligns; `tell` hears how it gets on.
///
/// # Errors
/// [`BackfillError`].
pub async fn run<C: Clock>(
    lake: &Lake,
    asked: &Backfill,
    clock: &C,
    mut tell: impl FnMut(&Told),
) -> Result<Report, BackfillError> {
    lake.protection().await?.check(&asked.on).map_err(LakeError::from)?;
    let tip = branch(lake, asked, clock).await?;
    let span = asked.span();
    let (unit_rows, name) = (asked.sizes.unit_rows.max(1), table_name(&asked.recipe)?);
    let id = asked.recipe.id();
    let mark = Mark::newest(lake, &tip, LOOK_BACK_MAX).await?;
    let mark = mark.filter(|mark| mark.is_of(&id, span, unit_rows));
    let source = mark.as_ref().map_or(&tip.id, |mark| &mark.source).clone();
    if asked.from.as_ref().is_some_and(|from| *from != source && *from != tip.id) {
        let from = asked.from.as_ref().map_or("", |from| from.short()).to_owned();
        return Err(BackfillError::Elsewhere { on: asked.on.clone(), from });
    }
    let rebuilder = Arc::new(Rebuilder::open(lake, &source, asked.recipe.clone()).await?);
    let is_chained = rebuilder.is_chained();
    if is_chained && asked.until_us.is_some() {
        return Err(BackfillError::Chained { recipe: asked.recipe.name.to_string() });
    }
    let units = plan(&rebuilder, span, unit_rows);
    let done = mark.map_or(0, |mark| mark.done.min(units.len()));
    let held = Held::read(lake, &tip, &asked.recipe, &asked.on).await?;
    let spec = rebuilder.layout().map_err(RebuildError::from)?.spec.clone();
    let table = Table { name, spec, id, span, unit_rows, commit_rows: asked.sizes.commit_rows };
    let mut report = Report {
        branch: asked.on.to_string(),
        table: table.name.to_string(),
        recipe_id: table.id.clone(),
        source: source.to_string(),
        head: tip.id.to_string(),
        units: units.len(),
        units_before: done,
        days: units.iter().map(Unit::day).collect::<std::collections::BTreeSet<_>>().len(),
        entities: units.iter().map(|unit| &unit.entity).collect::<std::collections::BTreeSet<_>>().len(),
        anew: held.is_other,
        was_there: tip.tables.contains_key(&table.name),
        ..Report::default()
    };
    tell(&Told::Begun {
        branch: report.branch.clone(),
        table: report.table.clone(),
        recipe_id: report.recipe_id.clone(),
        source: report.source.clone(),
        units: units.len(),
        units_done: done,
    });
    let mut publisher =
        Publisher::new(lake, asked, table, (source, tip.id.clone()), (done, units.len()), &held);
    // Of a chain every unit is made; those before what is asked for only tell how it goes on.
    let mut all = if is_chained { plan(&rebuilder, (i64::MIN, span.0), unit_rows) } else { Vec::new() };
    let to_publish = all.len().saturating_add(done);
    let first = if is_chained && done < units.len() { 0 } else { to_publish };
    let held = Arc::new(held);
    all.extend(units);
    let mut tails = Tails::new();
    let mut jobs = Jobs {
        lake: lake.clone(),
        tip: tip.id.clone(),
        rebuilder: Arc::clone(&rebuilder),
        held: Arc::clone(&held),
        units: all,
        jobs: asked.jobs.max(1),
        begun: first,
        taken: first,
        running: JoinSet::new(),
        ready: BTreeMap::new(),
    };
    while let Some((place, unit, made)) = jobs.next().await? {
        let rows = match made {
            Made::Rows(rows) => *rows,
            Made::Unchained(piece, told) => {
                let (piece, unanswered) = rebuilder.chained(piece, &mut tails).await?;
                if place < to_publish {
                    continue;
                }
                let rows = told.rows.saturating_sub(unanswered);
                let told = Rebuilt { rows, open: told.open.saturating_add(unanswered), ..told };
                compare(lake, &tip.id, &held, &unit, (piece, told)).await?
            }
        };
        tell(&Told::Made { day: unit.day(), entity: unit.entity.clone(), rows: rows.told.rows });
        report.add(&rows);
        publisher.take(rows)?;
        if publisher.is_full() {
            publisher.flush(clock, &mut tell).await?;
        }
    }
    publisher.end(clock, &mut tell).await?;
    report.unanswered = rebuilder.unanswered();
    (report.commits, report.head) = (publisher.commits, publisher.tip.to_string());
    tell(&Told::Done(report.clone()));
    Ok(report)
}

/// The head of the branch, which is made where it is not.
async fn branch<C: Clock>(lake: &Lake, asked: &Backfill, clock: &C) -> Result<CommitObject, BackfillError> {
    let head = lake.head(&asked.on).await?.and_then(|head| head.commit);
    let id = match head {
        Some(id) => id,
        None => {
            let from = match &asked.from {
                Some(from) => from.clone(),
                None => lake.resolve(RefName::main().as_str()).await?,
            };
            lake.branch(&asked.on, &from, &asked.author, clock.read().real.micros()).await?;
            from
        }
    };
    Ok(lake.commit_object(&id).await?)
}

impl Backfill {
    /// Its days as UTC µs, whole ones: rows that other clocks moved across a day's end are found on both sides of it.
    fn span(&self) -> (i64, i64) {
        let floor = |us: i64| us.div_euclid(plan::DAY_US).saturating_mul(plan::DAY_US);
        let from = self.since_us.map_or(i64::MIN, floor);
        let to = self.until_us.map_or(i64::MAX, |us| floor(us.saturating_add(plan::DAY_US - 1)));
        (from, to)
    }
}

impl Report {
    fn add(&mut self, unit: &UnitRows) {
        let Rebuilt { rows, left_out, open } = unit.told;
        for (sum, one) in [
            (&mut self.rows, rows),
            (&mut self.left_out, left_out),
            (&mut self.open, open),
            (&mut self.rows_new, unit.new),
            (&mut self.rows_changed, unit.changed),
            (&mut self.rows_same, unit.same),
            (&mut self.rows_gone, unit.gone),
        ] {
            *sum = sum.saturating_add(one);
        }
    }
}

/// Units under way: at most so many at once, and handed out in order.
struct Jobs {
    lake: Lake,
    tip: CommitId,
    rebuilder: Arc<Rebuilder>,
    held: Arc<Held>,
    units: Vec<Unit>,
    jobs: usize,
    begun: usize,
    taken: usize,
    running: JoinSet<Result<(usize, Made), BackfillError>>,
    ready: BTreeMap<usize, Made>,
}

impl Jobs {
    /// The next unit in order, once its rows are made; none at the end. A slow one holds back at most as many others, made
    /// already, as there are jobs: that bounds memory.
    async fn next(&mut self) -> Result<Option<(usize, Unit, Made)>, BackfillError> {
        let ahead_max = self.jobs.saturating_mul(2);
        loop {
            while self.begun < self.units.len()
                && self.running.len() < self.jobs
                && self.begun.saturating_sub(self.taken) < ahead_max
            {
                self.begin();
            }
            if let Some(made) = self.ready.remove(&self.taken) {
                let place = self.taken;
                self.taken = place.saturating_add(1);
                return Ok(self.units.get(place).map(|unit| (place, unit.clone(), made)));
            }
            let Some(made) = self.running.join_next().await else { return Ok(None) };
            let (place, made) = made??;
            self.ready.insert(place, made);
        }
    }

    fn begin(&mut self) {
        let Some(unit) = self.units.get(self.begun).cloned() else { return };
        let (lake, tip, place) = (self.lake.clone(), self.tip.clone(), self.begun);
        let (rebuilder, held) = (Arc::clone(&self.rebuilder), Arc::clone(&self.held));
        self.running.spawn(async move {
            let made = compute(&lake, &tip, &rebuilder, &held, &unit).await?;
            Ok((place, made))
        });
        self.begun = self.begun.saturating_add(1);
    }
}

/// True for commits that bring or take no rows, so that what was aligned before them is still as it was.
fn tells_nothing(kind: CommitKind) -> bool {
    matches!(kind, CommitKind::Compact | CommitKind::Schema)
}

//! Units become commits on the branch: rows, what is done, and how far it got, together.

use super::mark::Mark;
use super::unit::{Held, UnitRows};
use super::{Backfill, BackfillError, Told};
use crate::align::coverage::Coverage;
use crate::ingest::removal;
use arrow_array::RecordBatch;
use headwater_core::id::Sha256;
use headwater_core::ports::Clock;
use headwater_lake::{
    CommitError, CommitId, CommitKind, CommitRequest, CommitStats, CoverageEntry, Lake, LakeError,
    LakeWriter, Lineage, RefName, Software, TableAppend, TableName, TableSpec,
};
use std::collections::{BTreeMap, BTreeSet};

/// Bytes of a commit in memory, whatever its rows.
const COMMIT_BYTES: usize = 256 << 20;

/// Where rows go.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: TableName,
    pub(super) spec: TableSpec,
    /// The recipe's id.
    pub(super) id: String,
    /// UTC µs.
    pub(super) span: (i64, i64),
    pub(super) unit_rows: u64,
    pub(super) commit_rows: usize,
}

/// Commits to the branch.
#[derive(Debug)]
pub(super) struct Publisher {
    lake: Lake,
    writer: LakeWriter,
    recipe: String,
    table: Table,
    source: CommitId,
    /// The branch's head, as this run made it.
    pub(super) tip: CommitId,
    /// Units done, and of how many.
    units: (usize, usize),
    /// All that is done with what is pending.
    coverage: Coverage,
    /// The table of another version goes with the first commit.
    anew: bool,
    pending: Pending,
    /// Commits made.
    pub(super) commits: u64,
}

/// What the next commit brings.
#[derive(Debug, Default)]
struct Pending {
    batches: Vec<RecordBatch>,
    rows: usize,
    bytes: usize,
    /// Rows made, written or not.
    made: usize,
    span: Option<(i64, i64)>,
    replaced: Vec<(String, String)>,
    replaced_ts: Option<(i64, i64)>,
    /// Rows were done that were not before.
    covers: bool,
    devices: BTreeSet<String>,
}

impl Publisher {
    pub(super) fn new(
        lake: &Lake,
        asked: &Backfill,
        table: Table,
        (source, tip): (CommitId, CommitId),
        units: (usize, usize),
        held: &Held,
    ) -> Self {
        Self {
            lake: lake.clone(),
            writer: lake.writer(asked.on.clone(), asked.author.clone()),
            recipe: asked.recipe.name.to_string(),
            table,
            source,
            tip,
            units,
            coverage: held.coverage.clone(),
            anew: held.is_other,
            pending: Pending::default(),
            commits: 0,
        }
    }

    /// Takes the next unit of the plan.
    pub(super) fn take(&mut self, unit: UnitRows) -> Result<(), BackfillError> {
        let pending = &mut self.pending;
        for row in &unit.rows {
            pending.covers |= !self.coverage.contains(&row.key, row.seq);
            self.coverage.finish(&row.key, row.seq);
            let (lo, hi) = pending.span.unwrap_or((row.ts_ns, row.ts_ns));
            pending.span = Some((lo.min(row.ts_ns), hi.max(row.ts_ns)));
            if !pending.devices.contains(&row.device) {
                pending.devices.insert(row.device.clone());
            }
        }
        for (key, seq) in &unit.left_out {
            pending.covers |= !self.coverage.contains(key, *seq);
            self.coverage.finish(key, *seq);
        }
        pending.made = pending.made.saturating_add(unit.rows.len());
        for batch in unit.batches {
            pending.rows = pending.rows.saturating_add(batch.num_rows());
            pending.bytes = pending.bytes.saturating_add(batch.get_array_memory_size());
            pending.batches.push(batch);
        }
        pending.replaced.extend(unit.replaced);
        pending.replaced_ts = match (pending.replaced_ts, unit.replaced_ts) {
            (Some((a, b)), Some((c, d))) => Some((a.min(c), b.max(d))),
            (one, other) => one.or(other),
        };
        self.units.0 = self.units.0.saturating_add(1);
        Ok(())
    }

    /// True if what is pending is to be committed.
    pub(super) fn is_full(&self) -> bool {
        self.pending.made >= self.table.commit_rows || self.pending.bytes >= COMMIT_BYTES
    }

    /// Commits the rest, if it changes anything.
    pub(super) async fn end<C: Clock>(
        &mut self,
        clock: &C,
        tell: &mut impl FnMut(&Told),
    ) -> Result<(), BackfillError> {
        let pending = &self.pending;
        let changes = pending.rows > 0 || !pending.replaced.is_empty() || pending.covers || self.anew;
        match changes || (self.commits > 0 && pending.made > 0) {
            true => self.flush(clock, tell).await,
            false => Ok(()),
        }
    }

    /// Commits what is pending.
    pub(super) async fn flush<C: Clock>(
        &mut self,
        clock: &C,
        tell: &mut impl FnMut(&Told),
    ) -> Result<(), BackfillError> {
        let pending = std::mem::take(&mut self.pending);
        let stored = self.coverage.to_bytes(&self.table.id)?;
        let hash = Sha256::of(&stored).to_string();
        self.lake.put_state(&hash, stored.into()).await?;
        let request = self.request(&pending, hash, clock.read().real.micros());
        let removal = match self.anew {
            true => None,
            false => {
                let (gone, ts) = (&pending.replaced, pending.replaced_ts);
                removal(&self.lake, &self.tip, &self.table.name, gone, ts).await?
            }
        };
        let sent = match removal {
            Some(removal) => self.writer.rewrite(removal, &request).await,
            None => self.writer.commit(request).await.map(Some),
        };
        let on = self.writer.name().clone();
        let Some(committed) = sent.map_err(|error| said(error, &on))? else { return Ok(()) };
        self.anew = false;
        self.tip = committed.id.clone();
        self.commits = self.commits.saturating_add(1);
        tell(&Told::Committed {
            commit: committed.id.to_string(),
            rows: committed.rows,
            units_done: self.units.0,
        });
        Ok(())
    }

    fn request(&self, pending: &Pending, hash: String, time_us: i64) -> CommitRequest {
        let (t_min_ns, t_max_ns) = pending.span.unzip();
        let mark = Mark::new(
            (&self.table.id, self.table.span, self.table.unit_rows),
            self.source.clone(),
            self.units,
        );
        let append = || TableAppend { spec: self.table.spec.clone(), batches: pending.batches.clone() };
        let replaced = match pending.replaced.len() {
            0 => String::new(),
            n => format!(", {n} in place of others"),
        };
        let (done, of) = self.units;
        CommitRequest {
            kind: CommitKind::Align,
            message: format!("{} rows of {}{replaced}, {done} of {of} parts", pending.rows, self.table.name),
            time_us,
            appends: (pending.rows > 0).then(append).into_iter().collect(),
            stats: CommitStats {
                t_min_ns,
                t_max_ns,
                devices: pending.devices.len() as u64,
                ..CommitStats::default()
            },
            lineage: Lineage {
                inputs: vec![format!("commit {}", self.source), mark.to_input()],
                recipes: BTreeMap::from([(self.recipe.clone(), self.table.id.clone())]),
                software: Software { collector: env!("CARGO_PKG_VERSION").to_owned(), agents: Vec::new() },
                ..Lineage::default()
            },
            coverage: BTreeMap::from([(
                self.recipe.clone(),
                CoverageEntry { recipe_id: self.table.id.clone(), hash },
            )]),
            known: Some(self.tip.clone()),
            anew: self.anew.then(|| self.table.name.clone()).into_iter().collect(),
            ..CommitRequest::default()
        }
    }
}

/// Somebody else's commit is told as what it is.
fn said(error: CommitError, on: &RefName) -> BackfillError {
    match error {
        CommitError::Failed { source: LakeError::Overtaken { .. }, .. } => {
            BackfillError::Overtaken { on: on.clone() }
        }
        error => error.into(),
    }
}

//! A candidate: a window of aligned rows with what the rules say of it, and the commits it may become.

use super::aligning::{AlignError, input};
use crate::align::aligner::Aligner;
use crate::align::coverage::Coverage;
use crate::align::layout::table_name;
use crate::align::window::{AlignedRow, AlignedWindow};
use crate::commit::cells::TableRows;
use crate::commit::tables::Ops;
use crate::gate::{Asked, Judged, Verdict, held, judge, worst};
use arrow_array::RecordBatch;
use headwater_align::derive::CommandFailure;
use headwater_align::gate::{Policy, RuleSet};
use headwater_core::id::{KindName, Sha256};
use headwater_core::time::{NS_PER_S, UtcNanos};
use headwater_lake::{
    CommitId, CommitKind, CommitRequest, CommitStats, CoverageEntry, GateSummary, Lake, LakeError, Lineage,
    PreparedRewrite, RefName, RemoveRows, Software, StopFlag, TableAppend, TableName,
};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

/// What the rows of one table are judged by.
#[derive(Debug, Clone)]
pub(super) struct TableRules<'a> {
    pub(super) sets: Vec<&'a RuleSet>,
    /// The table at refs that rules compare with.
    pub(super) references: &'a References,
}

/// Rows to compare with, by ref.
pub(super) type References = BTreeMap<String, RecordBatch>;

/// Rows of an aligned table at a commit that others take the place of, taken out; none if there are none. `replaced` is
/// device and row key of each, and the earliest and latest of their times, UTC ns.
///
/// # Errors
/// When the lake cannot be read or written.
pub(crate) async fn removal(
    lake: &Lake,
    at: &CommitId,
    table: &TableName,
    replaced: &[(String, String)],
    replaced_ts: Option<(i64, i64)>,
) -> Result<Option<PreparedRewrite>, LakeError> {
    if replaced.is_empty() || !lake.tables(at).await?.contains_key(table) {
        return Ok(None);
    }
    let day = |ts_ns: i64| i32::try_from(ts_ns.div_euclid(NS_PER_DAY)).unwrap_or_default();
    let around = |(lo, hi): (i64, i64)| (day(lo).saturating_sub(1)..=day(hi).saturating_add(1)).collect();
    let mut asked = RemoveRows {
        table: table.clone(),
        days: replaced_ts.map(around),
        by: vec!["device".to_owned(), "row_key".to_owned()],
        rows: replaced.iter().map(|(device, key)| vec![device.clone(), key.clone()]).collect(),
    };
    let mut found = lake.prepare_removal(at, &asked, &StopFlag::default()).await?;
    let wanted = asked.rows.len() as u64;
    if found.done.removed < wanted && asked.days.is_some() {
        // Better clock tracks may have moved a row by years since it was written.
        asked.days = None;
        found = lake.prepare_removal(at, &asked, &StopFlag::default()).await?;
    }
    if found.done.removed < wanted {
        let missing = wanted.saturating_sub(found.done.removed);
        metrics::counter!("headwater_align_replaced_missing_total").increment(missing);
    }
    Ok((!found.is_empty()).then_some(found))
}

const NS_PER_DAY: i64 = 86_400 * NS_PER_S;

/// Aligned rows on their way to the gate.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) recipe: KindName,
    pub(super) recipe_id: String,
    pub(super) table: TableName,
    pub(super) window: AlignedWindow,
    pub(super) judged: Vec<Judged>,
    /// Whether the spine's picture is among its values.
    pub(super) picture: bool,
    /// The coverage once it is published, and its stored form.
    pub(super) done: Coverage,
    pub(super) entry: CoverageEntry,
    /// What its programs' columns rest on, by column.
    pub(super) commands: BTreeMap<String, String>,
    stored: Vec<u8>,
    rows: Option<TableAppend>,
    /// The commit it was aligned from.
    pub(super) head: CommitId,
    pub(super) now: UtcNanos,
    half_ns: i64,
}

impl Candidate {
    /// Lays a window out and judges it by the rules; `made` is the commit it was aligned from, the collector's UTC and
    /// its half width, ns.
    pub(super) fn new(
        aligner: &mut Aligner,
        window: AlignedWindow,
        rules: &TableRules<'_>,
        made: (CommitId, UtcNanos, i64),
    ) -> Result<Self, AlignError> {
        let (head, now, half_ns) = made;
        let spec = aligner.layout()?.spec.clone();
        let aligner = &*aligner;
        let recipe = aligner.recipe();
        let rows = match window.rows.is_empty() {
            true => None,
            false => Some(TableAppend { spec, batches: window.batches.clone() }),
        };
        // A row that is done again is none that is there twice.
        let again: BTreeSet<(&str, &str)> =
            window.redone.iter().map(|(device, key)| (device.as_str(), key.as_str())).collect();
        let is_known = |row: &AlignedRow| {
            aligner.is_settled(&row.key, row.seq)
                && !again.contains(&(row.device.as_str(), row.row_key.as_str()))
        };
        let known: Vec<bool> = window.rows.iter().map(is_known).collect();
        let boots: Vec<Option<i64>> =
            window.rows.iter().map(|row| row.place.map(|place| place.boot.0.into())).collect();
        let mut judged = judge(
            &rules.sets,
            &Asked {
                batches: rows.as_ref().map_or(&[], |rows: &TableAppend| rows.batches.as_slice()),
                known: Some(&known),
                now,
                boots: Some(&boots),
                references: rules.references,
            },
        )?;
        judged.extend(window.failures.iter().map(|failure| unanswered(failure, &window)));
        let done = aligner.covered_with(&window);
        let stored = done.to_bytes(aligner.id())?;
        let hash = Sha256::of(&stored).to_string();
        Ok(Self {
            recipe: recipe.name.clone(),
            recipe_id: aligner.id().to_owned(),
            table: table_name(recipe)?,
            judged,
            picture: recipe.spine.source.select().iter().any(|field| field.as_str() == "image"),
            window,
            done,
            entry: CoverageEntry { recipe_id: aligner.id().to_owned(), hash },
            commands: BTreeMap::new(),
            stored,
            rows,
            head,
            now,
            half_ns,
        })
    }

    /// The worst verdict so far.
    pub(super) fn verdict(&self) -> Verdict {
        worst(&self.judged)
    }

    /// Its rows as they are laid out.
    pub(super) fn batches(&self) -> &[RecordBatch] {
        self.rows.as_ref().map_or(&[], |rows| rows.batches.as_slice())
    }

    /// True if its rows, once they fail, are set aside rather than judged again later.
    pub(super) fn is_set_aside(&self) -> bool {
        let held = held(&self.judged);
        held.all.into_iter().chain(held.devices.into_values()).any(|policy| policy == Policy::Quarantine)
    }

    /// Devices whose rows stay back while those of others may go on; empty if that is nobody, or everybody.
    pub(super) fn bad_devices(&self) -> BTreeSet<String> {
        let held = held(&self.judged);
        let is_good = |row: &AlignedRow| !held.devices.contains_key(&row.device);
        match held.all.is_none() && self.window.rows.iter().any(is_good) {
            true => held.devices.into_keys().collect(),
            false => BTreeSet::new(),
        }
    }

    /// Earliest and latest row, UTC ns.
    pub(super) fn span(&self) -> Option<(i64, i64)> {
        let times = || self.window.rows.iter().map(|row| row.ts_ns);
        times().min().zip(times().max())
    }

    /// Stores the coverage that a commit will name.
    pub(super) async fn store_coverage(&self, lake: &Lake) -> Result<(), LakeError> {
        lake.put_state(&self.entry.hash, self.stored.clone().into()).await.map(|_| ())
    }

    /// Rows of the table at a commit that these take the place of, taken out; none if there are none.
    pub(super) async fn removal(
        &self,
        lake: &Lake,
        at: &CommitId,
    ) -> Result<Option<PreparedRewrite>, LakeError> {
        removal(lake, at, &self.table, &self.window.replaced, self.window.replaced_ts).await
    }

    /// Whose rows are held back by which rules, for short: the same rows are judged again and again.
    pub(super) fn complaint(&self) -> Sha256 {
        let failed = self.judged.iter().filter(|judged| judged.verdict == Verdict::Fail);
        let rules = failed.map(|judged| format!("{} {}", judged.gate, judged.version));
        let rows = self.window.rows.iter().map(|row| format!("{} {}", row.device, row.row_key));
        Sha256::of(rules.chain(rows).collect::<Vec<_>>().join("\n").as_bytes())
    }

    /// Tells people that rows are held back.
    pub(super) fn told_failed(&self) {
        metrics::counter!("headwater_gate_failed_total").increment(1);
        let failed: Vec<&str> = self
            .judged
            .iter()
            .filter(|judged| judged.verdict == Verdict::Fail)
            .map(|judged| judged.gate.as_ref())
            .collect();
        tracing::error!(
            recipe = %self.recipe, rows = self.window.rows.len(), ?failed,
            "aligned rows held back by the gate, see ops.verdicts; raw rows go on"
        );
    }

    /// Rows and verdicts in one commit to `branch`; of a failed one the verdicts alone.
    pub(super) fn inline(&self, branch: &RefName) -> Result<CommitRequest, AlignError> {
        let passed = self.verdict() != Verdict::Fail;
        let rows = self.rows.iter().filter(|_| passed).cloned();
        let verdicts = self.verdicts(&self.head, branch, branch)?;
        let mut request = self.request(rows.chain([verdicts]).collect());
        // What was taken back or brought in since would make them wrong.
        request.known = Some(self.head.clone());
        if passed {
            request.coverage = self.coverage();
        }
        Ok(request)
    }

    /// Its rows and coverage, for the staging branch.
    pub(super) fn staged(&self) -> CommitRequest {
        let request = self.request(self.rows.iter().cloned().collect());
        CommitRequest { coverage: self.coverage(), ..request }
    }

    /// The verdicts on what was `staged`, for the staging branch too; it shall go to `target`.
    pub(super) fn audited(
        &self,
        staged: &CommitId,
        branch: &RefName,
        target: &RefName,
    ) -> Result<CommitRequest, AlignError> {
        Ok(self.request(vec![self.verdicts(staged, branch, target)?]))
    }

    /// What a commit that publishes or refuses it says.
    pub(super) fn message(&self) -> String {
        let (rows, table) = (self.window.rows.len(), &self.table);
        match self.verdict() {
            Verdict::Fail => format!("{rows} rows of {table} held back by the gate"),
            _ => {
                let again = self.window.recounted();
                let changed = again.values.saturating_add(again.times);
                let replaced = match (self.window.replaced.len(), changed) {
                    (0, _) => String::new(),
                    (replaced, 0) => format!(", {replaced} in place of provisional ones"),
                    (_, changed) => format!(
                        ", {changed} changed ({} in values, {} only in times) of {} done again",
                        again.values,
                        again.times,
                        changed.saturating_add(again.same)
                    ),
                };
                format!("{rows} rows of {table}, {} left out{replaced}", self.window.left_out.len())
            }
        }
    }

    fn coverage(&self) -> BTreeMap<String, CoverageEntry> {
        BTreeMap::from([(self.recipe.to_string(), self.entry.clone())])
    }

    fn request(&self, appends: Vec<TableAppend>) -> CommitRequest {
        let (t_min_ns, t_max_ns) = self.span().unzip();
        let named =
            |(column, rests): (&String, &String)| (format!("{}.{column}", self.recipe), rests.clone());
        CommitRequest {
            kind: CommitKind::Align,
            message: self.message(),
            time_us: self.now.micros(),
            appends,
            gates: self.judged.iter().map(summary).collect(),
            stats: CommitStats { t_min_ns, t_max_ns, ..CommitStats::default() },
            lineage: Lineage {
                inputs: vec![input(&self.head)],
                recipes: BTreeMap::from([(self.recipe.to_string(), self.recipe_id.clone())]),
                software: Software { collector: env!("CARGO_PKG_VERSION").to_owned(), agents: Vec::new() },
                commands: self.commands.iter().map(named).collect(),
                ..Lineage::default()
            },
            ..CommitRequest::default()
        }
    }

    fn verdicts(
        &self,
        candidate: &CommitId,
        branch: &RefName,
        target: &RefName,
    ) -> Result<TableAppend, AlignError> {
        let mut out = TableRows::new(Ops::Verdicts.spec());
        let (t_min_ns, t_max_ns) = self.span().unzip();
        let published = (self.verdict() != Verdict::Fail).then(|| target.to_string());
        for judged in &self.judged {
            let mut cells = super::group::event(self.now, self.half_ns, None);
            cells.extend([
                ("candidate", candidate.to_string().into()),
                ("ref", branch.to_string().into()),
                ("table", self.table.to_string().into()),
                ("recipe_id", self.recipe_id.as_str().into()),
                ("gate", judged.gate.as_ref().into()),
                ("gate_version", judged.version.as_ref().into()),
                ("verdict", judged.verdict.as_str().into()),
                ("t_min_ns", t_min_ns.into()),
                ("t_max_ns", t_max_ns.into()),
                ("rows", (self.window.rows.len() as u64).into()),
                ("evidence", judged.evidence.to_string().into()),
                ("evidence_digest", judged.evidence_digest().into()),
                ("published_as", published.clone().into()),
            ]);
            out.push(cells);
        }
        Ok(out.to_append()?)
    }
}

/// The word on rows that a program gave no answer for: no reason to hold the others back.
fn unanswered(failure: &CommandFailure, window: &AlignedWindow) -> Judged {
    let evidence = json!({
        "column": failure.column, "rows": failure.rows, "why": failure.why, "held": window.unanswered.len(),
    });
    Judged::whole("command", Verdict::Warn, evidence)
}

fn summary(judged: &Judged) -> GateSummary {
    GateSummary {
        name: judged.gate.to_string(),
        version: judged.version.to_string(),
        verdict: judged.verdict.as_str().to_owned(),
        evidence_digest: judged.evidence_digest(),
    }
}

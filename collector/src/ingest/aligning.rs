//! Aligning beside ingest: feeds committed rows to the recipes, and publishes what the gate passes, in commits of its own.
//!
//! Nothing in here can stop raw rows: an error leaves a recipe behind, to be filled again from the raw tables (R15).

use super::build::events;
use super::commit::Committer;
use super::group::Group;
use crate::align::aligner::{Aligner, place};
use crate::align::asof::Instant;
use crate::align::coverage::{Coverage, CoverageError};
use crate::align::recipe::Recipe;
use crate::align::window::{AlignedWindow, FieldTypes, table_name, table_rows};
use crate::align::{StreamKinds, restore};
use crate::commit::cells::{Cell, TableRows};
use crate::commit::kinds::Kinds;
use crate::commit::raw::{cell, converted, references};
use crate::commit::tables::Ops;
use crate::gate::{GATE_VERSION, Judged, Verdict, judge, worst};
use crate::resolve::Resolved;
use arrow_schema::ArrowError;
use headwater_core::batch::Rows;
use headwater_core::id::{FieldName, Sha256};
use headwater_core::ports::Clock;
use headwater_core::schema::{Conversion, Logical, Schema};
use headwater_core::time::{BootNanos, UtcNanos};
use headwater_lake::{
    CommitId, CommitKind, CommitObject, CommitRequest, CommitStats, CoverageEntry, GateSummary, Lake,
    LakeError, Lineage, NameError, Software, TableName,
};
use std::collections::BTreeMap;

/// Windows of one recipe published in one round: a long backlog must not keep raw rows waiting.
const WINDOWS_PER_ROUND_MAX: usize = 4;

/// Why a recipe did not get on.
#[derive(Debug, thiserror::Error)]
pub(super) enum AlignError {
    #[error("read or write the lake")]
    Lake(#[from] LakeError),
    #[error("read or write the align coverage")]
    Coverage(#[from] CoverageError),
    #[error("lay out aligned rows")]
    Arrow(#[from] ArrowError),
    #[error("name the aligned table")]
    Name(#[from] NameError),
}

/// All recipes at work.
#[derive(Debug, Default)]
pub(super) struct Aligning {
    aligners: Vec<Aligner>,
    kinds_of: StreamKinds,
}

impl Aligning {
    /// The recipes, each from the coverage that the head stores for it.
    pub(super) async fn start(
        recipes: Vec<Recipe>,
        lake: &Lake,
        head: Option<&CommitObject>,
    ) -> Result<Self, AlignError> {
        let mut aligners = Vec::new();
        for recipe in recipes {
            let entry = head.and_then(|head| head.coverage.get(recipe.name.as_str()));
            let coverage = match entry {
                Some(entry) if entry.recipe_id != recipe.id() => {
                    metrics::gauge!("headwater_align_recipe_held", "recipe" => recipe.name.to_string())
                        .set(1.0);
                    tracing::error!(
                        recipe = %recipe.name, stored = entry.recipe_id, found = recipe.id(),
                        "recipe has changed since its table was begun and is held: give the new one another name"
                    );
                    continue;
                }
                Some(entry) => {
                    let stored = lake.state(&entry.hash).await?;
                    stored.map(|bytes| Coverage::from_bytes(&bytes)).transpose()?.unwrap_or_default()
                }
                None => Coverage::default(),
            };
            let mut aligner = Aligner::new(recipe, coverage);
            if head.is_some() {
                aligner.fall_behind();
            }
            aligners.push(aligner);
        }
        Ok(Self { aligners, kinds_of: StreamKinds::new() })
    }

    /// True if rows wait or must be fetched.
    pub(super) fn has_work(&self) -> bool {
        self.aligners.iter().any(|aligner| aligner.is_behind() || aligner.waiting() > 0)
    }

    /// Gives a committed group to the recipes. One that is behind will find it in the raw tables.
    pub(super) fn feed(&mut self, group: &Group, resolved: &[Vec<Resolved>], kinds: &Kinds, now: BootNanos) {
        for held in &group.rows {
            let of_stream = self.kinds_of.entry(held.key.stream.clone()).or_default();
            of_stream.insert(held.schema.kind.clone());
        }
        for aligner in self.aligners.iter_mut().filter(|aligner| !aligner.is_behind()) {
            feed(aligner, group, resolved, kinds, now);
        }
    }

    /// Publishes what is final.
    pub(super) async fn round<C: Clock>(
        &mut self,
        committer: &mut Committer<C>,
        kinds: &Kinds,
        head: &CommitId,
    ) {
        for aligner in &mut self.aligners {
            if let Err(error) = align(aligner, committer, kinds, &mut self.kinds_of, head).await {
                metrics::counter!("headwater_align_errors_total").increment(1);
                let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                tracing::error!(recipe = %aligner.recipe().name, %error, cause, "aligning put off, raw rows go on");
                aligner.fall_behind();
            }
        }
    }
}

async fn align<C: Clock>(
    aligner: &mut Aligner,
    committer: &mut Committer<C>,
    kinds: &Kinds,
    kinds_of: &mut StreamKinds,
    head: &CommitId,
) -> Result<(), AlignError> {
    for _ in 0..WINDOWS_PER_ROUND_MAX {
        let now = committer.clock.boot();
        if aligner.is_behind() {
            let mut fresh = aligner.emptied();
            let found = restore(&mut fresh, &committer.lake, head, kinds, now).await?;
            for (stream, kinds) in found {
                kinds_of.entry(stream).or_default().extend(kinds);
            }
            *aligner = fresh;
        }
        let window = aligner.step(now);
        if window.is_empty() {
            return Ok(());
        }
        publish(aligner, window, committer, &types(aligner.recipe(), kinds, kinds_of), head).await?;
        if !aligner.is_behind() {
            return Ok(());
        }
    }
    Ok(())
}

async fn publish<C: Clock>(
    aligner: &mut Aligner,
    window: AlignedWindow,
    committer: &mut Committer<C>,
    types: &FieldTypes,
    head: &CommitId,
) -> Result<(), AlignError> {
    let now = committer.clock.read().real;
    let recipe = aligner.recipe();
    let judged = judge(aligner, &window, now, &crate::gate::GateLimits::default());
    let verdict = worst(&judged);
    let table = table_name(recipe)?;
    let mut appends = Vec::new();
    let mut coverage = BTreeMap::new();
    let done = aligner.covered_with(&window);
    if verdict == Verdict::Fail {
        metrics::counter!("headwater_gate_failed_total").increment(1);
        let failed: Vec<&str> = judged
            .iter()
            .filter(|judged| judged.verdict == Verdict::Fail)
            .map(|judged| judged.gate.as_ref())
            .collect();
        tracing::error!(
            recipe = %recipe.name, rows = window.rows.len(), ?failed,
            "aligned rows held back by the gate, see ops.verdicts; raw rows go on"
        );
    } else {
        if !window.rows.is_empty() {
            appends.push(table_rows(recipe, types, &window.rows)?.to_append()?);
        }
        let stored = done.to_bytes(aligner.id())?;
        let hash = Sha256::of(&stored).to_string();
        committer.lake.put_state(&hash, stored.into()).await?;
        coverage.insert(recipe.name.to_string(), CoverageEntry { recipe_id: aligner.id().to_owned(), hash });
    }
    let verdicts = verdicts(aligner, &window, &judged, &table, committer, head, now);
    appends.push(verdicts.to_append()?);
    let times = || window.rows.iter().map(|row| row.at.ts_ns);
    let request = CommitRequest {
        kind: CommitKind::Align,
        message: match verdict {
            Verdict::Fail => format!("{} rows of {table} held back by the gate", window.rows.len()),
            _ => format!("{} rows of {table}, {} left out", window.rows.len(), window.left_out.len()),
        },
        time_us: now.micros(),
        appends,
        coverage,
        gates: judged.iter().map(summary).collect(),
        stats: CommitStats { t_min_ns: times().min(), t_max_ns: times().max(), ..CommitStats::default() },
        lineage: Lineage {
            inputs: vec![format!("commit {head}")],
            recipes: BTreeMap::from([(recipe.name.to_string(), aligner.id().to_owned())]),
            software: Software { collector: env!("CARGO_PKG_VERSION").to_owned(), agents: Vec::new() },
            ..Lineage::default()
        },
        ..CommitRequest::default()
    };
    committer.commit_once(request).await?;
    if verdict != Verdict::Fail {
        metrics::counter!("headwater_align_rows_total").increment(window.rows.len() as u64);
        metrics::counter!("headwater_align_rows_left_out_total").increment(window.left_out.len() as u64);
        aligner.finish(done);
    }
    Ok(())
}

fn summary(judged: &Judged) -> GateSummary {
    GateSummary {
        name: judged.gate.to_string(),
        version: GATE_VERSION.to_owned(),
        verdict: judged.verdict.as_str().to_owned(),
        evidence_digest: judged.evidence_digest(),
    }
}

fn verdicts<C: Clock>(
    aligner: &Aligner,
    window: &AlignedWindow,
    judged: &[Judged],
    table: &TableName,
    committer: &Committer<C>,
    head: &CommitId,
    now: UtcNanos,
) -> TableRows {
    let mut out = TableRows::new(Ops::Verdicts.spec());
    let times = || window.rows.iter().map(|row| row.at.ts_ns);
    let published = (worst(judged) != Verdict::Fail).then(|| committer.branch().to_string());
    for judged in judged {
        let mut cells = super::group::event(now, committer.half_ns, None);
        cells.extend([
            ("candidate", head.to_string().into()),
            ("ref", committer.branch().to_string().into()),
            ("table", table.to_string().into()),
            ("recipe_id", aligner.id().into()),
            ("gate", judged.gate.as_ref().into()),
            ("gate_version", GATE_VERSION.into()),
            ("verdict", judged.verdict.as_str().into()),
            ("t_min_ns", times().min().into()),
            ("t_max_ns", times().max().into()),
            ("rows", (window.rows.len() as u64).into()),
            ("evidence", judged.evidence.to_string().into()),
            ("evidence_digest", judged.evidence_digest().into()),
            ("published_as", published.clone().into()),
        ]);
        out.push(cells);
    }
    out
}

fn types(recipe: &Recipe, kinds: &Kinds, kinds_of: &StreamKinds) -> FieldTypes {
    let columns = recipe.columns.iter().map(|column| (&column.stream, &column.select));
    let mut types = FieldTypes::new();
    for (stream, select) in columns.chain([(&recipe.spine, &recipe.spine_select)]) {
        for field in select {
            let of = kinds_of.get(stream).into_iter().flatten();
            if let Some(column) = of.filter_map(|kind| kinds.column(kind, field)).next() {
                types.insert((stream.clone(), field.clone()), column.column_type.clone());
            }
        }
    }
    types
}

fn feed(aligner: &mut Aligner, group: &Group, resolved: &[Vec<Resolved>], kinds: &Kinds, now: BootNanos) {
    for recorded in group.gaps.iter().filter(|recorded| !recorded.closed) {
        let key = crate::dedup::StreamKey {
            device: recorded.device.clone(),
            epoch: recorded.epoch,
            stream: recorded.gap.stream.clone(),
        };
        if aligner.uses(&key.stream) {
            let gap = &recorded.gap;
            let seqs = gap.seq_first.0..gap.seq_last.0.saturating_add(1);
            aligner.declare_gap(&key, seqs, gap.stride.into(), gap.phase.into());
        }
    }
    for (key, (promise, _)) in &group.promises {
        if aligner.uses(&key.stream) {
            aligner.promise(key, *promise);
        }
    }
    let recipe = aligner.recipe().clone();
    for (held, resolved) in group.rows.iter().zip(resolved) {
        if !aligner.uses(&held.key.stream) {
            continue;
        }
        let (rows, schema) = (&held.rows, &held.schema);
        aligner.hold(&held.key, rows.seqs());
        let spine = picks(schema, kinds, &recipe.spine_select);
        let picks: Vec<Vec<Option<Pick>>> =
            recipe.columns.iter().map(|column| picks(schema, kinds, &column.select)).collect();
        for (row, (event, resolved)) in events(held).into_iter().zip(resolved).enumerate() {
            let seq = rows.first_seq.0.saturating_add(row as u64);
            let Some(place) = place(rows.boot_ordinal, rows.domain, event.event.0, seq) else {
                metrics::counter!("headwater_align_device_domain_rows_total").increment(1);
                continue;
            };
            let at = Instant {
                place,
                half_ns: event.half_ns,
                ts_ns: resolved.ts.0,
                err_ns: resolved.err_ns,
                grade: resolved.grade,
            };
            aligner.add_sample(&held.key, at, |column| {
                picks.get(column).map(|fields| values(schema, rows, row, fields)).unwrap_or_default()
            });
            if held.key.stream == recipe.spine {
                aligner.add_spine(&held.key, at, values(schema, rows, row, &spine), now);
            }
        }
    }
}

/// Where a selected field lies in a declaration, and how its values become those of its column.
type Pick = (usize, Option<Conversion>);

fn picks(schema: &Schema, kinds: &Kinds, select: &[FieldName]) -> Vec<Option<Pick>> {
    let pick = |name: &FieldName| {
        let place = schema.fields.iter().position(|field| field.name == *name)?;
        let by = schema.fields.get(place).and_then(|field| kinds.conversion(&schema.kind, field));
        Some((place, by))
    };
    select.iter().map(pick).collect()
}

fn values(schema: &Schema, rows: &Rows, row: usize, picks: &[Option<Pick>]) -> Vec<Cell> {
    let value = |pick: &Option<Pick>| -> Option<Cell> {
        let (place, by) = (*pick)?;
        let (column, logical) = (rows.fields.get(place)?, &schema.fields.get(place)?.logical);
        if *logical == Logical::Blob {
            let reference = references(column).get(row).copied().flatten()?;
            return Some(reference.sha256.to_string().into());
        }
        let value = cell(&column.value(row), logical);
        Some(match by {
            Some(by) => converted(value, &by),
            None => value,
        })
    };
    picks.iter().map(|pick| value(pick).unwrap_or(Cell::Null)).collect()
}

//! `headwater recipe dry-run`: the rows a recipe would give at a commit, counted and shown, and not written.

use super::tally::Tally;
use crate::align::{Scope, check_beside};
use crate::ingest::{Rebuilder, Unanswered};
use crate::query::QueryError;
use crate::query::outgoing::Span;
use crate::query::rows::row_values;
use crate::query::show::{Printer, object, time};
use headwater_align::recipe::Recipe;
use headwater_lake::{CommitId, Lake};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value, json};
use std::io::Write;

/// What is tried where.
pub(super) struct Trial<'a> {
    /// As it was named.
    pub(super) spec: &'a str,
    pub(super) recipe: Recipe,
    pub(super) lake: &'a Lake,
    pub(super) at: &'a CommitId,
    pub(super) span: Span,
    /// First rows shown.
    pub(super) shown: usize,
}

/// Answers the verb.
pub(super) async fn dry_run<W: Write>(trial: Trial<'_>, printer: &mut Printer<W>) -> Result<(), QueryError> {
    let Trial { spec, recipe, lake, at, span, shown } = trial;
    check_beside(&recipe).map_err(|source| QueryError::Recipe { recipe: spec.to_owned(), source })?;
    let (name, id) = (recipe.name.to_string(), recipe.id());
    let scope = match (span.from_us, span.to_us) {
        (None, None) => None,
        (from, to) => Some(Scope::span((from.unwrap_or(i64::MIN), to.unwrap_or(i64::MAX)))),
    };
    let bar = ProgressBar::new_spinner().with_message(format!("trying {name}"));
    if let Ok(style) = ProgressStyle::with_template("{msg} {spinner} {pos} rows {elapsed}") {
        bar.set_style(style);
    }
    let rebuilder = Rebuilder::open(lake, at, recipe).await?;
    let mut rebuilding = rebuilder.begin(scope);
    let (mut tally, mut first) = (Tally::default(), Vec::new());
    while let Some(piece) = rebuilding.next().await? {
        for batch in &piece.batches {
            let left = shown.saturating_sub(first.len());
            first.extend(row_values(&batch.slice(0, left.min(batch.num_rows())))?);
            tally.add(batch);
            bar.inc(batch.num_rows() as u64);
        }
    }
    bar.finish_and_clear();
    let told = rebuilding.told();
    let entities: Vec<Map<String, Value>> = tally
        .entities
        .iter()
        .map(|(entity, of)| {
            let utc = |ns: i64| time(ns.div_euclid(1_000));
            object(json!({"entity": entity, "rows": of.rows, "from": utc(of.t_ns.0), "to": utc(of.t_ns.1)}))
        })
        .collect();
    if printer.json {
        let all = json!({
            "recipe": name, "id": id, "commit": at.to_string(), "rows": told.rows, "left_out": told.left_out,
            "open": told.open, "entities": entities, "columns": tally.columns(), "values": tally.nulls(),
            "unanswered": rebuilder.unanswered(), "first": first,
        });
        return Ok(writeln!(printer.out, "{all}")?);
    }
    let columns: Vec<_> = tally.columns().into_iter().map(object).collect();
    let nulls: Vec<_> = tally.nulls().into_iter().map(object).collect();
    printer.list(&["entity", "rows", "from", "to"], &entities, "it gives no rows")?;
    let names = ["column", "match_ratio", "ambiguous", "gaps", "median_dt_ns", "median_err_ns", "err_max_ns"];
    printer.list(&names, &columns, "it has no columns beside the spine's")?;
    printer.list(&["value", "nulls", "null_ratio"], &nulls, "no values")?;
    for row in &first {
        writeln!(printer.out, "{}", Value::Object(row.clone()))?;
    }
    for Unanswered { column, rows, why } in rebuilder.unanswered() {
        writeln!(printer.out, "column {column}: its program gave no value for {rows} rows: {why}")?;
    }
    writeln!(
        printer.out,
        "{} rows of aligned.{name} at {}, {} samples give none, {} are not final yet; nothing was written",
        told.rows,
        at.short(),
        told.left_out,
        told.open
    )?;
    Ok(())
}

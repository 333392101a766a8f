//! `headwater reproduce`: the aligned tables of a commit made anew from its raw tables, and held against each other.

use super::digest::{Days, Partition};
use crate::ingest::Rebuilder;
use crate::query::QueryError;
use crate::query::show::{Printer, resolve};
use chrono::{Days as ChronoDays, NaiveDate};
use futures::TryStreamExt;
use headwater_align::recipe::Recipe;
use headwater_lake::{CommitId, Lake, LakeError, ScanOptions, TableName};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use std::io::Write;

/// Differing rows named per day.
const NAMED_MAX: usize = 5;

/// Answers the verb.
pub(super) async fn reproduce<W: Write>(
    lake: &Lake,
    printer: &mut Printer<W>,
    spec: &str,
    table: Option<String>,
) -> Result<(), QueryError> {
    let unknown = || LakeError::UnknownRevision { spec: spec.to_owned() };
    let commit = resolve(lake, spec).await?.ok_or_else(unknown)?;
    let tables = lake.tables(&commit).await?;
    let mut asked: Vec<TableName> =
        tables.keys().filter(|name| name.namespace() == "aligned").cloned().collect();
    if let Some(table) = table {
        let known = asked.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        asked.retain(|name| name.as_str() == table);
        if asked.is_empty() {
            return Err(QueryError::NoTable { table, commit: commit.short().to_owned(), known });
        }
    }
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{msg} {spinner} {pos} rows made anew {elapsed}") {
        bar.set_style(style);
    }
    let (mut shown, mut all_same) = (Vec::new(), true);
    for table in &asked {
        bar.set_message(table.to_string());
        let (partitions, beyond) = one(lake, &commit, table, &bar).await?;
        all_same &= partitions.iter().all(|one| one.differing.is_empty());
        shown.extend(partitions.iter().map(|partition| {
            json!({
                "table": table.to_string(),
                "day": day(partition.day),
                "rows": partition.rows,
                "stored": partition.stored.to_string(),
                "anew": partition.anew.to_string(),
                "same": partition.differing.is_empty(),
                "differing": partition.differing.len(),
                "row_keys": partition.differing.iter().take(NAMED_MAX).collect::<Vec<_>>(),
                "not_aligned_yet": beyond,
            })
        }));
    }
    bar.finish_and_clear();
    let out = &mut printer.out;
    if printer.json {
        let report = json!({"commit": commit.to_string(), "same": all_same, "partitions": shown});
        serde_json::to_writer(&mut *out, &report).map_err(std::io::Error::from)?;
        writeln!(out)?;
    } else {
        for one in &shown {
            let word = if one["same"] == true { "same" } else { "DIFFERS" };
            let text = |name: &str| one[name].as_str().unwrap_or_default().to_owned();
            let digest: String = text("stored").chars().take(16).collect();
            writeln!(out, "{word:<8}{}  {}  {:>9} rows  {digest}", text("day"), text("table"), one["rows"])?;
            if one["same"] != true {
                writeln!(out, "        {} rows differ, such as {}", one["differing"], one["row_keys"])?;
            }
        }
        if shown.is_empty() {
            writeln!(out, "no aligned rows in {}", commit.short())?;
        }
    }
    out.flush()?;
    if all_same { Ok(()) } else { Err(QueryError::NotReproduced) }
}

/// One table: its days beside those made anew, and how many rows are not aligned yet.
async fn one(
    lake: &Lake,
    commit: &CommitId,
    table: &TableName,
    bar: &ProgressBar,
) -> Result<(Vec<Partition>, usize), QueryError> {
    let mut properties = lake.table_properties(commit, table).await?;
    let text = properties.remove("hw.recipe-json");
    let no_recipe = |reason: String| QueryError::TableRecipe { table: table.to_string(), reason };
    let text = text.ok_or_else(|| no_recipe("it has no property hw.recipe-json".to_owned()))?;
    let recipe = Recipe::from_canonical(&text).map_err(|error| no_recipe(error.to_string()))?;
    let column = |error: arrow_schema::ArrowError| QueryError::Column {
        column: table.to_string(),
        reason: error.to_string(),
    };
    let mut stored = Days::default();
    let mut batches = lake.scan(commit, table, ScanOptions::default()).await?;
    while let Some(batch) = batches.try_next().await? {
        stored.add(&batch).map_err(column)?;
    }
    let mut anew = Days::default();
    let rebuilder = Rebuilder::open(lake, commit, recipe).await?;
    let mut rebuilding = rebuilder.begin(None);
    while let Some(piece) = rebuilding.next().await? {
        bar.inc(piece.rows.len() as u64);
        for rows in &piece.batches {
            anew.add(rows).map_err(column)?;
        }
    }
    Ok((stored.compare(&anew), anew.beyond(&stored)))
}

fn day(day: i64) -> String {
    let since = u64::try_from(day).ok().map(ChronoDays::new);
    let date = since.and_then(|since| NaiveDate::default().checked_add_days(since));
    date.map_or_else(|| format!("day {day}"), |date| date.to_string())
}

//! `headwater reproduce`: the aligned tables of a commit made anew from its raw tables, and held against each other: rows by
//! digest, files byte for byte.

use super::digest::{Days, Partition};
use super::files::{FileTold, Made};
use crate::align::Scope;
use crate::backfill::{DAY_US, days};
use crate::ingest::Rebuilder;
use crate::query::QueryError;
use crate::query::show::{Printer, resolve};
use chrono::{Days as ChronoDays, NaiveDate};
use headwater_align::recipe::Recipe;
use headwater_lake::{CommitFile, CommitId, FileRole, Lake, LakeError, TableName};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;

/// Differing rows named per day.
const NAMED_MAX: usize = 5;
/// Hex digits of a digest that people are shown.
const DIGITS: usize = 16;

/// What was found of one table.
#[derive(Debug, Default)]
struct Found {
    partitions: Vec<Partition>,
    files: Vec<(i32, FileTold)>,
    /// Rows that are final and not in the table yet.
    beyond: usize,
}

impl Found {
    fn is_same(&self) -> bool {
        self.partitions.iter().all(|one| one.differing.is_empty())
            && self.files.iter().all(|(_, file)| file.difference.is_none())
    }
}

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
    let (mut partitions, mut files, mut all_same) = (Vec::new(), Vec::new(), true);
    for table in &asked {
        bar.set_message(table.to_string());
        let found = one(lake, &commit, table, &bar).await?;
        all_same &= found.is_same();
        partitions.extend(found.partitions.iter().map(|day| partition(table, day, found.beyond)));
        files.extend(found.files.iter().map(|(of, told)| file(table, *of, told)));
    }
    bar.finish_and_clear();
    let out = &mut printer.out;
    if printer.json {
        let report = json!({
            "commit": commit.to_string(), "same": all_same, "partitions": partitions, "files": files,
        });
        serde_json::to_writer(&mut *out, &report).map_err(std::io::Error::from)?;
        writeln!(out)?;
    } else {
        words(out, &partitions, &files)?;
        if partitions.is_empty() {
            writeln!(out, "no aligned rows in {}", commit.short())?;
        }
    }
    out.flush()?;
    if all_same { Ok(()) } else { Err(QueryError::NotReproduced) }
}

fn partition(table: &TableName, of: &Partition, beyond: usize) -> Value {
    json!({
        "table": table.to_string(),
        "day": day(of.day),
        "rows": of.rows,
        "stored": of.stored.to_string(),
        "anew": of.anew.to_string(),
        "same": of.differing.is_empty(),
        "differing": of.differing.len(),
        "row_keys": of.differing.iter().take(NAMED_MAX).collect::<Vec<_>>(),
        "not_aligned_yet": beyond,
    })
}

fn file(table: &TableName, of: i32, told: &FileTold) -> Value {
    json!({
        "table": table.to_string(),
        "day": day(of.into()),
        "file": told.name,
        "rows": told.rows,
        "provisional": told.provisional,
        "stored": told.stored,
        "anew": told.anew,
        "same": told.difference.is_none(),
        "difference": told.difference,
    })
}

/// Days, and below each table's days its files, each with a digest of what is stored.
fn words<W: Write>(out: &mut W, partitions: &[Value], files: &[Value]) -> Result<(), QueryError> {
    let text = |one: &Value, name: &str| one[name].as_str().unwrap_or_default().to_owned();
    let short = |one: &Value, name: &str| text(one, name).chars().take(DIGITS).collect::<String>();
    let word = |one: &Value| if one["same"] == true { "same" } else { "DIFFERS" };
    for one in partitions {
        let (day, table, rows) = (text(one, "day"), text(one, "table"), &one["rows"]);
        writeln!(out, "{:<8}{day}  {table}  {rows:>9} rows  {}", word(one), short(one, "stored"))?;
        if one["same"] != true {
            writeln!(out, "        {} rows differ, such as {}", one["differing"], one["row_keys"])?;
        }
    }
    for one in files {
        let (day, table, rows) = (text(one, "day"), text(one, "table"), &one["rows"]);
        let (name, stored) = (text(one, "file"), short(one, "stored"));
        writeln!(out, "{:<8}{day}  {table}  {rows:>9} rows  {stored}  bytes of {name}", word(one))?;
        if one["provisional"] != 0 {
            writeln!(
                out,
                "        {} of them are not final and were taken as they stand",
                one["provisional"]
            )?;
        }
        if one["same"] != true {
            writeln!(out, "        made anew {}: {}", short(one, "anew"), one["difference"])?;
        }
    }
    Ok(())
}

/// One table, a day at a time: that is what is in memory at once.
async fn one(
    lake: &Lake,
    commit: &CommitId,
    table: &TableName,
    bar: &ProgressBar,
) -> Result<Found, QueryError> {
    let mut properties = lake.table_properties(commit, table).await?;
    let text = properties.remove("hw.recipe-json");
    let no_recipe = |reason: String| QueryError::TableRecipe { table: table.to_string(), reason };
    let text = text.ok_or_else(|| no_recipe("it has no property hw.recipe-json".to_owned()))?;
    let recipe = Recipe::from_canonical(&text).map_err(|error| no_recipe(error.to_string()))?;
    let column = |error: arrow_schema::ArrowError| QueryError::Column {
        column: table.to_string(),
        reason: error.to_string(),
    };
    let rebuilder = Rebuilder::open(lake, commit, recipe).await?;
    let mut by_day: BTreeMap<i32, Vec<CommitFile>> = BTreeMap::new();
    for file in lake.table_files(commit, table).await? {
        if let Some(day) = file.day.filter(|_| file.role == FileRole::Data) {
            by_day.entry(day).or_default().push(file);
        }
    }
    for day in days(&rebuilder) {
        by_day.entry(day).or_default();
    }
    let mut found = Found::default();
    for (day, files) in by_day {
        let start = i64::from(day).saturating_mul(DAY_US);
        let scope = Scope::span((start, start.saturating_add(DAY_US)));
        let (mut made, mut anew, mut stored) = (Made::default(), Days::default(), Days::default());
        let mut rebuilding = rebuilder.begin(Some(scope));
        while let Some(piece) = rebuilding.next().await? {
            bar.inc(piece.rows.len() as u64);
            for rows in &piece.batches {
                anew.add(rows).map_err(column)?;
                made.add(rows)?;
            }
        }
        for file in files {
            let (told, file) = made.compare(lake, (commit, table), &file).await?;
            stored.add(&file.rows).map_err(column)?;
            found.files.push((day, told));
        }
        found.beyond = found.beyond.saturating_add(anew.beyond(&stored));
        found.partitions.extend(stored.compare(&anew));
    }
    Ok(found)
}

fn day(day: i64) -> String {
    let since = u64::try_from(day).ok().map(ChronoDays::new);
    let date = since.and_then(|since| NaiveDate::default().checked_add_days(since));
    date.map_or_else(|| format!("day {day}"), |date| date.to_string())
}

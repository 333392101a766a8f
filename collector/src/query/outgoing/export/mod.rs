//! `headwater export`: rows of a commit as files for other tools, a day at a time, so that memory stays bounded.

mod card;
mod folder;
mod forms;
mod pictures;
pub(in crate::query) mod span;

use self::folder::Folder;
use self::forms::Form;
use self::span::{Moment, Span, condition};
use super::Asked;
use super::progress::{COUNTED, bar};
use crate::query::cli::now;
use crate::query::show::time;
use crate::query::{QueryError, days};
use clap::ValueEnum;
use futures::TryStreamExt;
use headwater_lake::{CommitId, Condition, FileRole, Lake, LakeError, ScanOptions, TableName};
use serde_json::{Value, json};
use std::io::Write;
use std::path::PathBuf;

/// What files an export makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::query) enum Format {
    /// A Parquet file per day.
    Parquet,
    /// A CSV file per day; bytes as base64.
    Csv,
    /// A file of JSON lines per day; bytes as base64.
    Jsonl,
    /// Pictures as files, <device>/<stream>/<time>.jpg, and metadata.jsonl.
    Images,
    /// A folder that Hugging Face `datasets.load_dataset` opens.
    Huggingface,
}

#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["table", "all"])))]
pub(in crate::query) struct ExportArgs {
    /// Table, such as raw.imu.
    table: Option<String>,
    /// Every table.
    #[arg(long)]
    all: bool,
    /// Branch, tag or commit.
    #[arg(long, default_value = "main")]
    at: String,
    /// Only rows from then on: RFC 3339, a day, or so long ago, such as -2h.
    #[arg(long, allow_hyphen_values = true, value_name = "MOMENT")]
    from: Option<Moment>,
    /// Only rows before then.
    #[arg(long, allow_hyphen_values = true, value_name = "MOMENT")]
    to: Option<Moment>,
    /// Only rows of this device.
    #[arg(long)]
    device: Option<String>,
    /// Only rows that meet this, such as accel_x>=9.5; may be repeated.
    #[arg(long = "where", value_name = "CONDITION", value_parser = condition)]
    conditions: Vec<Condition>,
    /// Form of the files.
    #[arg(long, value_enum, default_value = "parquet")]
    format: Format,
    /// Folder to make.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Replaces the folder if there is one.
    #[arg(long)]
    force: bool,
}

pub(super) async fn run<W: Write>(
    lake: &Lake,
    args: &ExportArgs,
    asked: &mut Asked<'_, W>,
) -> Result<(), QueryError> {
    let id = lake.resolve(&args.at).await?;
    let tables = chosen(lake, &id, args).await?;
    let span = Span::new(args.from, args.to, now().micros());
    let mut folder = Folder::begin(&args.out, args.force)?;
    let mut exported = Vec::new();
    let mut rows = 0_u64;
    for table in &tables {
        let prefix = if args.all { format!("{table}/") } else { String::new() };
        let found = export(lake, &id, table, args, span, (&mut folder, &prefix)).await?;
        rows = rows.saturating_add(found);
        let entry = lake.tables(&id).await?.remove(table);
        exported.push(json!({
            "table": table.to_string(),
            "rows": found,
            "metadata_location": entry.as_ref().map(|entry| entry.metadata_location.clone()),
            "snapshot_id": entry.and_then(|entry| entry.snapshot_id),
        }));
    }
    let conditions: Vec<String> = args
        .conditions
        .iter()
        .map(|condition| format!("{} {:?} {}", condition.column, condition.compare, condition.value))
        .collect();
    let manifest = folder.finish(json!({
        "v": 1,
        "made_by": concat!("headwater ", env!("CARGO_PKG_VERSION")),
        "lake": lake.location(),
        "repo_id": lake.repo_id(),
        "commit": id,
        "format": args.format.to_possible_value().map(|value| value.get_name().to_owned()),
        "from": span.from_us.map(time),
        "to": span.to_us.map(time),
        "device": args.device,
        "where": conditions,
        "tables": exported,
    }))?;
    match asked.json {
        true => writeln!(asked.out, "{manifest}")?,
        false => {
            let files = manifest["files"].as_array().map_or(0, Vec::len);
            writeln!(asked.out, "{rows} rows of {} in {files} files: {}", id.short(), args.out.display())?;
        }
    }
    Ok(())
}

async fn chosen(lake: &Lake, id: &CommitId, args: &ExportArgs) -> Result<Vec<TableName>, QueryError> {
    let known = lake.tables(id).await?;
    let Some(table) = &args.table else {
        if matches!(args.format, Format::Images | Format::Huggingface) {
            return Err(QueryError::OneTable);
        }
        return Ok(known.into_keys().collect());
    };
    let name = TableName::new(table.as_str()).map_err(|_| QueryError::TableName(table.clone()))?;
    if known.contains_key(&name) {
        return Ok(vec![name]);
    }
    let known: Vec<String> = known.keys().map(ToString::to_string).collect();
    Err(QueryError::NoTable { table: table.clone(), commit: id.short().to_owned(), known: known.join(", ") })
}

/// Exports one table into a folder, below a prefix; gives the rows.
async fn export(
    lake: &Lake,
    id: &CommitId,
    table: &TableName,
    args: &ExportArgs,
    span: Span,
    (folder, prefix): (&mut Folder, &str),
) -> Result<u64, QueryError> {
    let columns = lake.columns(id, table).await?;
    let mut form = Form::begin(args.format, table, &columns, folder, prefix)?;
    let files = lake.table_files(id, table).await?;
    let data = || files.iter().filter(|file| file.role == FileRole::Data);
    let bar = bar(data().filter_map(|file| file.rows).sum(), "exporting", COUNTED);
    let mut rows = 0_u64;
    for day in data().filter_map(|file| file.day).collect::<std::collections::BTreeSet<i32>>() {
        let Some(Span { from_us, to_us }) = span.within_day(day) else { continue };
        let options = ScanOptions {
            device: args.device.clone(),
            from_us,
            to_us,
            conditions: args.conditions.clone(),
            in_order: true,
            ..ScanOptions::default()
        };
        let mut batches = lake.scan(id, table, options).await?;
        while let Some(batch) = batches.try_next().await? {
            rows = rows.saturating_add(batch.num_rows() as u64);
            bar.inc(batch.num_rows() as u64);
            for batch in pictures::whole(lake, &columns, batch).await? {
                form.write(folder, &days::text(day), &batch)?;
            }
        }
        form.end_day(folder)?;
    }
    form.finish(folder, lake, id, rows)?;
    bar.finish_and_clear();
    Ok(rows)
}

impl From<headwater_lake::NameError> for QueryError {
    fn from(error: headwater_lake::NameError) -> Self {
        Self::Lake(LakeError::from(error))
    }
}

/// A JSON text of one line.
fn line(value: &Value) -> String {
    format!("{value}\n")
}

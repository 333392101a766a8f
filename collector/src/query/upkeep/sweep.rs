//! `headwater gc` and `headwater expire`.

use super::super::QueryError;
use super::super::show::{Printer, object};
use super::{author, bytes, settings};
use crate::receive::clock::SystemClock;
use crate::upkeep::ByClock;
use clap::Args;
use headwater_lake::{GcOptions, GcProgress, Lake, RefName, RetentionRule, TablePattern};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

/// Of `gc`.
#[derive(Debug, Args)]
pub(in super::super) struct GcArgs {
    /// Only tells what would be deleted.
    #[arg(long)]
    dry_run: bool,
    /// The collector's configuration, for what it keeps; otherwise the defaults hold.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How long to wait for slow writers before deleting, s. Shorter than a writer builds on a head it knows (600) is for
    /// a lake nobody writes to.
    #[arg(long, value_name = "SECONDS")]
    settle: Option<u64>,
}

/// Of `expire`.
#[derive(Debug, Args)]
pub(in super::super) struct ExpireArgs {
    /// The collector's configuration, for its [[lake.retention]] rules.
    #[arg(long, value_name = "FILE", required_unless_present = "table")]
    config: Option<PathBuf>,
    /// One rule instead: this table, or namespace.*
    #[arg(long, value_name = "TABLE", requires = "keep_days", conflicts_with = "config")]
    table: Option<String>,
    /// Whole days before today that stay.
    #[arg(long, value_name = "DAYS", requires = "table", value_parser = clap::value_parser!(u32).range(1..))]
    keep_days: Option<u32>,
    /// The branch that is moved.
    #[arg(long, alias = "branch", default_value = "main", value_name = "BRANCH")]
    on: String,
    /// Only tells what would leave.
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn gc<W: Write>(
    lake: &Lake,
    args: &GcArgs,
    now_us: i64,
    printer: &mut Printer<W>,
) -> Result<(), QueryError> {
    let settings = settings(args.config.as_deref())?;
    let options = GcOptions {
        keep: settings.keep,
        grace_us: settings.grace_us,
        settle: args.settle.map_or(settings.settle, Duration::from_secs),
        dry_run: args.dry_run,
        ..GcOptions::new(now_us, author())
    };
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{msg} {bar:30} {human_pos}/{human_len} {eta}") {
        bar.set_style(style);
    }
    let settling = ByClock(SystemClock);
    let report = lake.collect_garbage(&options, &settling, &mut |progress| show(&bar, progress)).await;
    bar.finish_and_clear();
    let report = report?;
    if printer.json {
        let report = serde_json::to_value(&report).map_err(std::io::Error::from)?;
        writeln!(printer.out, "{report}")?;
        return Ok(());
    }
    let rows: Vec<_> = report
        .deleted
        .iter()
        .map(|(kind, tally)| {
            object(json!({ "what": kind, "objects": tally.objects, "bytes": bytes(tally.bytes) }))
        })
        .collect();
    let none = if args.dry_run { "nothing would be deleted" } else { "nothing was to be deleted" };
    printer.list(&["what", "objects", "bytes"], &rows, none)?;
    let total = report.total();
    let (would, thinned) = if args.dry_run { ("would free", "would be") } else { ("freed", "were") };
    writeln!(
        printer.out,
        "{would} {} in {} objects; {} days of history {thinned} thinned; {} commits and {} objects are kept; {} in {} \
         objects are unreachable but young; {} ref entries pruned{}",
        bytes(total.bytes),
        total.objects,
        report.days_thinned,
        report.commits_kept,
        report.objects_kept,
        bytes(report.young.bytes),
        report.young.objects,
        report.entries_pruned,
        if report.more { "; there is more, run it again" } else { "" }
    )?;
    Ok(())
}

fn show(bar: &ProgressBar, progress: GcProgress) {
    match progress {
        GcProgress::Marking(done, all) => at(bar, "marking commits", done, all),
        GcProgress::Listing(done) => at(bar, "listing objects", done, done),
        GcProgress::Settling => at(bar, "waiting for slow writers", 0, 0),
        GcProgress::Sweeping(done, all) => at(bar, "deleting", done, all),
        _ => at(bar, "reading refs", 0, 0),
    }
}

fn at(bar: &ProgressBar, what: &'static str, done: u64, all: u64) {
    bar.set_message(what);
    bar.set_length(all);
    bar.set_position(done);
}

pub(super) async fn expire<W: Write>(
    lake: &Lake,
    args: &ExpireArgs,
    now_us: i64,
    printer: &mut Printer<W>,
) -> Result<(), QueryError> {
    let rules = match (&args.table, args.keep_days) {
        (Some(table), Some(keep_days)) => {
            let tables: TablePattern = table.parse().map_err(headwater_lake::LakeError::from)?;
            vec![RetentionRule { tables, keep_days }]
        }
        _ => settings(args.config.as_deref())?.retention,
    };
    let branch = RefName::new(args.on.clone()).map_err(headwater_lake::LakeError::from)?;
    let report = lake.expire(&branch, &rules, &author(), now_us, args.dry_run).await?;
    if printer.json {
        let report = serde_json::to_value(&report).map_err(std::io::Error::from)?;
        writeln!(printer.out, "{report}")?;
        return Ok(());
    }
    let rows: Vec<_> = report
        .tables
        .iter()
        .map(|(table, dropped)| {
            let size = bytes(dropped.bytes);
            object(json!({ "table": table, "rows": dropped.rows, "files": dropped.files, "bytes": size }))
        })
        .collect();
    printer.list(&["table", "rows", "files", "bytes"], &rows, "no day is old enough")?;
    if let Some(commit) = &report.commit {
        writeln!(printer.out, "they left {branch} with commit {commit}")?;
    }
    Ok(())
}

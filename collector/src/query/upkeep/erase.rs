//! `headwater erase`.

use super::super::QueryError;
use super::super::show::{Printer, object};
use super::author;
use crate::query::confirm::confirm;
use chrono::{DateTime, NaiveDate, NaiveTime};
use clap::Args;
use headwater_lake::{Erasure, Lake};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use std::io::Write;

/// Of `erase`.
#[derive(Debug, Args)]
pub(in super::super) struct EraseArgs {
    /// Whose rows.
    #[arg(long)]
    device: String,
    /// Only of this stream, and aligned rows made from it.
    #[arg(long)]
    stream: Option<String>,
    /// Only captured at or after this: a day, or a time such as 2026-03-01T08:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = time)]
    from: Option<i64>,
    /// Only captured before this.
    #[arg(long, value_name = "TIME", value_parser = time)]
    to: Option<i64>,
    /// Why; it stands in the commits and the audit record for ever.
    #[arg(long)]
    reason: String,
    /// Deletes tags whose commits hold such rows.
    #[arg(long)]
    drop_tags: bool,
    /// Forgets that the rows ever were: what the device still holds would be taken in anew.
    #[arg(long, conflicts_with_all = ["stream", "from", "to"])]
    forget: bool,
    /// Does not ask.
    #[arg(long)]
    yes: bool,
    /// Only counts.
    #[arg(long)]
    dry_run: bool,
}

/// µs since 1970 of a day or a time.
fn time(text: &str) -> Result<i64, String> {
    if let Ok(day) = text.parse::<NaiveDate>() {
        return Ok(day.and_time(NaiveTime::MIN).and_utc().timestamp_micros());
    }
    DateTime::parse_from_rfc3339(text)
        .map(|time| time.timestamp_micros())
        .map_err(|_| "write a day (2026-03-01) or a time with its zone (2026-03-01T08:00:00Z)".to_owned())
}

pub(super) async fn run<W: Write>(
    lake: &Lake,
    args: &EraseArgs,
    now_us: i64,
    printer: &mut Printer<W>,
) -> Result<(), QueryError> {
    let erasure = Erasure {
        device: args.device.clone(),
        stream: args.stream.clone(),
        from_us: args.from,
        to_us: args.to,
        forget: args.forget,
        reason: args.reason.clone(),
    };
    let bar = ProgressBar::new(0).with_message("counting");
    if let Ok(style) = ProgressStyle::with_template("{msg} {bar:30} {human_pos}/{human_len} files {eta}") {
        bar.set_style(style);
    }
    let mut show = |done, all| {
        bar.set_length(all);
        bar.set_position(done);
    };
    let preview = lake.preview_erase(&erasure, &mut show).await?;
    if args.dry_run && printer.json {
        let preview = serde_json::to_value(&preview).map_err(std::io::Error::from)?;
        writeln!(printer.out, "{preview}")?;
        return Ok(());
    }
    let counts = preview.branches.iter().flat_map(|(branch, tables)| {
        tables.iter().map(move |(table, erased)| {
            object(json!({ "branch": branch, "table": table, "rows": erased.rows, "files": erased.files }))
        })
    });
    let counts: Vec<_> = counts.collect();
    bar.suspend(|| -> Result<(), QueryError> {
        if !printer.json {
            printer.list(&["branch", "table", "rows", "files"], &counts, "no branch holds such rows")?;
            for (tag, rows) in &preview.tags {
                let fate = if args.drop_tags { "is deleted" } else { "stands against it (--drop-tags)" };
                writeln!(printer.out, "tag {tag} holds {rows} of them and {fate}")?;
            }
            printer.out.flush()?;
        }
        Ok(())
    })?;
    if args.dry_run {
        return Ok(());
    }
    let question = format!(
        "Erase {} rows of {} on {} branches for good? Their history before now ends with it.",
        preview.rows(),
        args.device,
        preview.branches.len()
    );
    bar.suspend(|| confirm(&question, args.yes))?;
    bar.set_message("erasing");
    let report = lake.erase(&erasure, args.drop_tags, &author(), now_us, &mut show).await;
    bar.finish_and_clear();
    let report = report?;
    if printer.json {
        let report = serde_json::to_value(&report).map_err(std::io::Error::from)?;
        writeln!(printer.out, "{report}")?;
        return Ok(());
    }
    for (branch, commit) in &report.commits {
        writeln!(printer.out, "{branch} {commit}")?;
    }
    writeln!(
        printer.out,
        "audit record _repo/audit/erasure-{}.json; `headwater gc` deletes the old files after the grace time",
        report.id
    )?;
    Ok(())
}

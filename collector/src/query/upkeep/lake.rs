//! `headwater lake init|check|repair|tables`.

use super::super::QueryError;
use super::super::show::{Printer, object};
use super::{author, bytes, settings};
use crate::query::confirm::confirm;
use clap::Subcommand;
use headwater_lake::{CheckOptions, CheckProgress, CheckReport, Lake, Repair};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use std::io::Write;
use std::path::PathBuf;

/// Of `lake`.
#[derive(Debug, Subcommand)]
pub(in super::super) enum LakeVerb {
    /// Makes a lake, or says that one is there.
    #[command(after_help = "Example:\n  headwater --lake /var/lib/headwater/lake lake init")]
    Init,
    /// Checks everything that refs, tags and history reach; changes nothing.
    ///
    /// Exit code 1 if anything needed is lost or wrong; the lines say what, and what `repair` would do.
    #[command(
        after_help = "Examples:\n  headwater lake check\n  headwater lake check --checksums --json | jq '.findings[]'"
    )]
    Check {
        /// Reads every file and holds it against its name: data files, blobs, state.
        #[arg(long)]
        checksums: bool,
        /// The collector's configuration, for how long it keeps history; otherwise the defaults hold.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Mends what a check finds, as far as that is safe.
    ///
    /// A branch whose head cannot be read is set to its newest whole commit; files that are lost leave by a commit that
    /// names them and their rows; leftovers of broken writes are deleted. Says what it will do and asks. Exit code 1 if
    /// something is left.
    #[command(
        after_help = "Examples:\n  headwater lake repair --dry-run\n  headwater lake repair --checksums --yes"
    )]
    Repair {
        /// Only tells what would be done.
        #[arg(long)]
        dry_run: bool,
        /// Does not ask.
        #[arg(long)]
        yes: bool,
        /// Reads every file first, to find those whose bytes are wrong.
        #[arg(long)]
        checksums: bool,
        /// The collector's configuration, for how long it keeps history; otherwise the defaults hold.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Tables of a commit and their metadata locations, as `headwater tables`.
    Tables {
        /// Branch, tag or commit.
        #[arg(default_value = "main")]
        at: String,
    },
}

pub(super) async fn run<W: Write>(
    verb: LakeVerb,
    place: &str,
    now_us: i64,
    printer: &mut Printer<W>,
) -> Result<(), QueryError> {
    match verb {
        LakeVerb::Init => {
            let lake = Lake::init(place).await?;
            match printer.json {
                true => writeln!(
                    printer.out,
                    "{}",
                    json!({ "lake": lake.location(), "repo_id": lake.repo_id() })
                )?,
                false => writeln!(printer.out, "lake {} at {}", lake.repo_id(), lake.location())?,
            }
            Ok(())
        }
        LakeVerb::Tables { at } => printer.tables(&Lake::open(place).await?, &at).await,
        LakeVerb::Check { checksums, config } => {
            let lake = Lake::open(place).await?;
            let options = CheckOptions { now_us, keep: settings(config.as_deref())?.keep, checksums };
            let report = check(&lake, &options).await?;
            tell(&report, printer)?;
            if report.is_sound() { Ok(()) } else { Err(QueryError::Damaged) }
        }
        LakeVerb::Repair { dry_run, yes, checksums, config } => {
            let lake = Lake::open(place).await?;
            let options = CheckOptions { now_us, keep: settings(config.as_deref())?.keep, checksums };
            repair(&lake, &options, dry_run, yes, printer).await
        }
    }
}

async fn check(lake: &Lake, options: &CheckOptions) -> Result<CheckReport, QueryError> {
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{msg} {bar:30} {human_pos}/{human_len} {eta}") {
        bar.set_style(style);
    }
    let mut show = |progress| {
        let (what, done, all) = match progress {
            CheckProgress::Walking(done, all) => ("walking commits", done, all),
            CheckProgress::Reading(done, all) => ("reading bytes", done, all),
            CheckProgress::Listing(done) => ("listing objects", done, done),
            _ => ("checking", 0, 0),
        };
        bar.set_message(what);
        bar.set_length(all);
        bar.set_position(done);
    };
    let report = lake.check(options, &mut show).await;
    bar.finish_and_clear();
    Ok(report?)
}

fn tell<W: Write>(report: &CheckReport, printer: &mut Printer<W>) -> Result<(), QueryError> {
    if printer.json {
        let report = serde_json::to_value(report).map_err(std::io::Error::from)?;
        writeln!(printer.out, "{report}")?;
        return Ok(());
    }
    let rows: Vec<_> = report
        .findings
        .iter()
        .map(|finding| {
            object(json!({
                "severity": finding.severity,
                "problem": finding.problem,
                "what": finding.kind,
                "key": finding.key,
                "reason": finding.reason,
                "repair": finding.repair.unwrap_or("-"),
            }))
        })
        .collect();
    printer.list(&["severity", "problem", "what", "key", "reason", "repair"], &rows, "nothing is wrong")?;
    if report.findings_left_out > 0 {
        writeln!(printer.out, "and {} more", report.findings_left_out)?;
    }
    for (kind, tally) in &report.reachable {
        let kind = serde_json::to_value(kind).map_err(std::io::Error::from)?;
        writeln!(printer.out, "{:<14} {:>9} objects {:>12}", word(&kind), tally.objects, bytes(tally.bytes))?;
    }
    writeln!(
        printer.out,
        "{} refs, {} tags; {} objects ({}) that nothing needs{}",
        report.refs,
        report.tags,
        report.orphans.objects,
        bytes(report.orphans.bytes),
        match report.leftovers.objects {
            0 => String::new(),
            count => format!("; {count} leftovers of broken writes"),
        }
    )?;
    Ok(())
}

fn word(value: &serde_json::Value) -> String {
    value.as_str().unwrap_or("").replace('_', " ")
}

async fn repair<W: Write>(
    lake: &Lake,
    options: &CheckOptions,
    dry_run: bool,
    yes: bool,
    printer: &mut Printer<W>,
) -> Result<(), QueryError> {
    let report = check(lake, options).await?;
    let plan = lake.plan_repair(&report).await?;
    if dry_run && printer.json {
        let plan = serde_json::to_value(&plan).map_err(std::io::Error::from)?;
        writeln!(printer.out, "{plan}")?;
        return Ok(());
    }
    if plan.is_empty() {
        tell(&report, printer)?;
        return if report.is_sound() { Ok(()) } else { Err(QueryError::Damaged) };
    }
    for repair in &plan {
        eprintln!("{}", words(repair));
    }
    if dry_run {
        return Ok(());
    }
    confirm("Do this?", yes)?;
    let done = lake.repair(&plan, &report, &author(), options.now_us).await?;
    if printer.json {
        let done = serde_json::to_value(&done).map_err(std::io::Error::from)?;
        writeln!(printer.out, "{done}")?;
    } else {
        for (_, made) in &done.done {
            writeln!(printer.out, "{made}")?;
        }
        writeln!(printer.out, "{} done, {} findings are beyond mending", done.done.len(), done.left.len())?;
    }
    if done.left.iter().all(|finding| finding.severity == headwater_lake::Severity::Note) {
        Ok(())
    } else {
        Err(QueryError::Damaged)
    }
}

fn words(repair: &Repair) -> String {
    match repair {
        Repair::SetBack { name, from, to, entries } => format!(
            "{name}: its head {} cannot be read; set it to {}, its newest whole commit, {entries} entries back. What the \
             landing logs still hold is taken in again",
            from.short(),
            to.short()
        ),
        Repair::DropFiles { name, files, rows } => {
            let count: usize = files.values().map(std::collections::BTreeSet::len).sum();
            format!(
                "{name}: {count} files with {rows} rows are lost; a commit without them, which names them"
            )
        }
        Repair::Leftovers(tally) => format!("delete {} leftovers of broken writes", tally.objects),
        other => format!("{other:?}"),
    }
}

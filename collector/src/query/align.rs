//! `headwater align`: history aligned by a recipe on a branch, told as it gets on.

use super::QueryError;
use super::cli::now;
use super::outgoing::Moment;
use super::recipe::source;
use super::versions::author;
use crate::align::check_beside;
use crate::backfill::{Backfill, Report, Sizes, Told, run};
use crate::ingest::Unanswered;
use crate::receive::clock::SystemClock;
use headwater_lake::{Lake, RefName};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use std::io::Write;

/// What is asked on the command line.
#[derive(Debug, clap::Args)]
pub(super) struct AlignArgs {
    /// The recipe's file, or NAME@REF: the one that made aligned.NAME there.
    recipe: String,
    /// The branch to write to, made where it is not. A protected one is refused: what was aligned is merged, which the gate
    /// judges.
    #[arg(long, value_name = "BRANCH")]
    on: String,
    /// Where the branch begins if it is made: branch, tag or commit; main if left out.
    #[arg(long, visible_alias = "at", value_name = "REF")]
    from: Option<String>,
    /// Only days from then on, whole ones: RFC 3339, a day, or so long ago, such as -30d.
    #[arg(long, allow_hyphen_values = true, value_name = "TIME")]
    since: Option<Moment>,
    /// Only days up to then; a day of which a part is asked for is done whole.
    #[arg(long, allow_hyphen_values = true, value_name = "TIME")]
    until: Option<Moment>,
    /// Parts made beside each other; as many as there are cores if left out.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=JOBS_MAX))]
    jobs: Option<u16>,
}

/// More jobs than that only wait for disk and memory.
const JOBS_MAX: i64 = 256;

/// Answers the verb.
pub(super) fn align<W: Write>(
    args: AlignArgs,
    place: &str,
    json: bool,
    mut out: W,
) -> Result<(), QueryError> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let jobs = args.jobs.map_or(cores, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(jobs)
        .enable_all()
        .build()
        .map_err(|error| QueryError::Start(error.to_string()))?;
    runtime.block_on(async {
        let recipe = source::read(&args.recipe, place).await?;
        check_beside(&recipe).map_err(|source| QueryError::Recipe { recipe: args.recipe.clone(), source })?;
        let lake = Lake::open(place).await?;
        let from = match &args.from {
            Some(from) => Some(lake.resolve(from).await?),
            None => None,
        };
        let now_us = now().micros();
        let asked = Backfill {
            recipe,
            on: RefName::new(args.on.as_str()).map_err(headwater_lake::LakeError::from)?,
            from,
            since_us: args.since.map(|moment| moment.micros(now_us)),
            until_us: args.until.map(|moment| moment.micros(now_us)),
            jobs,
            author: author(),
            sizes: Sizes::default(),
        };
        let mut teller = Teller { bar: ProgressBar::hidden(), json, out: &mut out, failed: None };
        let done = run(&lake, &asked, &SystemClock, |told| teller.tell(told)).await;
        teller.bar.finish_and_clear();
        if let Some(error) = teller.failed {
            return Err(error.into());
        }
        let report = done.map_err(|error| QueryError::Backfill(Box::new(error)))?;
        if !json {
            words(&report, &mut out)?;
        }
        Ok(out.flush()?)
    })
}

/// A bar for people, lines for scripts.
struct Teller<'a, W: Write> {
    bar: ProgressBar,
    json: bool,
    out: &'a mut W,
    failed: Option<std::io::Error>,
}

impl<W: Write> Teller<'_, W> {
    fn tell(&mut self, told: &Told) {
        match told {
            Told::Begun { units, units_done, table, .. } => {
                // It is drawn on standard error, and only if that is a terminal.
                self.bar = ProgressBar::new(*units as u64).with_message(format!("aligning {table}"));
                let style = "{msg} {bar:30} {pos}/{len} parts {prefix} {eta}";
                if let Ok(style) = ProgressStyle::with_template(style) {
                    self.bar.set_style(style);
                }
                self.bar.set_position(*units_done as u64);
                self.bar.reset_eta();
            }
            Told::Made { day, entity, .. } => {
                self.bar.set_prefix(format!("{} {entity}", super::days::text(*day)));
                self.bar.inc(1);
            }
            _ => {}
        }
        // One line for each part would be too many; commits say how far it got.
        if self.json && !matches!(told, Told::Made { .. }) {
            let mut line = json!(told);
            if let (Told::Done(report), Some(line)) = (told, line.as_object_mut()) {
                line.insert("next".to_owned(), json!(next(report)));
            }
            let written = writeln!(self.out, "{line}").and_then(|()| self.out.flush());
            self.failed = self.failed.take().or(written.err());
        }
    }
}

/// What brings the rows to main.
fn next(report: &Report) -> String {
    match report.was_there {
        // Both sides may have gone on with the table since: the one that was aligned anew is meant.
        true => format!("headwater merge {} --strategy {}=theirs", report.branch, report.table),
        false => format!("headwater merge {}", report.branch),
    }
}

fn words<W: Write>(report: &Report, out: &mut W) -> Result<(), QueryError> {
    let Report { branch, table, units, units_before, days, entities, .. } = report;
    let done = units.saturating_sub(*units_before);
    match (done, *units_before) {
        (0, 0) => writeln!(out, "{table} on {branch}: there is nothing to align in that time")?,
        (0, _) => writeln!(out, "{table} on {branch}: all {units} parts were done already")?,
        (_, 0) => {
            writeln!(out, "{table} on {branch}: {days} days of {entities} devices or sites, {units} parts")?
        }
        (_, before) => writeln!(
            out,
            "{table} on {branch}: {days} days of {entities} devices or sites; went on after {before} of {units} parts"
        )?,
    }
    let Report { rows, rows_new, rows_changed, rows_same, rows_gone, left_out, open, commits, .. } = report;
    if done > 0 {
        writeln!(
            out,
            "{rows} rows in {commits} commits: {rows_new} new, {rows_changed} changed, {rows_same} as they were, {rows_gone} no more; {left_out} samples give no row"
        )?;
    }
    for Unanswered { column, rows, why } in &report.unanswered {
        writeln!(out, "column {column}: its program gave no value for {rows} rows: {why}")?;
    }
    if *open > 0 && !report.unanswered.is_empty() {
        writeln!(
            out,
            "{open} rows wait for a program or are not final yet: the collector writes them once it runs this recipe"
        )?;
    } else if *open > 0 {
        writeln!(out, "{open} rows are not final yet: the collector writes them once it runs this recipe")?;
    }
    if report.anew {
        writeln!(out, "{table} was made by another version of the recipe and was begun anew")?;
    }
    Ok(writeln!(out, "next: {}", next(report))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_say_what_was_done_and_what_is_next() {
        let told = |report: &Report| {
            let mut out = Vec::new();
            words(report, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        let report = Report {
            branch: "re".to_owned(),
            table: "aligned.drive".to_owned(),
            units: 4,
            days: 2,
            entities: 1,
            rows: 7,
            rows_new: 7,
            commits: 1,
            ..Report::default()
        };
        let text = told(&report);
        assert!(text.contains("2 days of 1 devices or sites, 4 parts\n7 rows in 1 commits: 7 new"), "{text}");
        assert!(text.ends_with("next: headwater merge re\n"), "{text}");
        let again = Report { units_before: 4, was_there: true, ..report };
        let text = told(&again);
        assert!(text.starts_with("aligned.drive on re: all 4 parts were done already\nnext: "), "{text}");
        assert!(text.contains("--strategy aligned.drive=theirs"), "{text}");
        let broken =
            Unanswered { column: "label".to_owned(), rows: 3, why: "it ended with code 1".to_owned() };
        let text = told(&Report { open: 3, unanswered: vec![broken], ..again });
        assert!(
            text.contains("column label: its program gave no value for 3 rows: it ended with code 1\n"),
            "{text}"
        );
        assert!(text.contains("3 rows wait for a program"), "{text}");
    }
}

//! `headwater compact`: merges small files now, where the collector does not do it by itself or not soon enough.

use super::QueryError;
use super::show::{Printer, object};
use chrono::NaiveDate;
use clap::Subcommand;
use headwater_lake::{
    CompactPolicy, CompactScope, Compacted, DueMerge, Lake, LakeError, Overtaken, RefName, StopFlag, Survey,
    TableName, Warrant,
};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value, json};
use std::io::Write;

/// Who a compaction says it is by.
const AUTHOR: &str = "headwater compact";

/// Verbs that write the same rows into other files.
#[derive(Debug, Subcommand)]
pub(super) enum CompactVerb {
    /// Merges small files of a branch into large ones.
    ///
    /// The collector does so by itself ([lake.compact] in its configuration); this is for lakes that nobody ingests into,
    /// and for a day that shall be compact now. Rows stay as they are, and older commits keep their own files. It may run
    /// beside the collector: what the other merged first is left out. Rounds follow each other until nothing is due; each
    /// is one commit.
    #[command(
        after_help = "Examples:\n  headwater compact --dry-run\n  headwater compact raw.imu --day 2026-11-23\n  headwater compact --on exp/7 --json | jq .commits"
    )]
    Compact {
        /// Only this table, such as raw.imu.
        table: Option<String>,
        /// The branch that is moved.
        #[arg(long, alias = "at", default_value = "main", value_name = "BRANCH")]
        on: String,
        /// Only this day (UTC), merged as if it were over.
        #[arg(long, value_name = "YYYY-MM-DD")]
        day: Option<NaiveDate>,
        /// Shows what is due and does nothing.
        #[arg(long)]
        dry_run: bool,
    },
}

/// What all rounds together did.
#[derive(Debug, Default)]
struct Sum {
    commits: Vec<String>,
    files_in: usize,
    files_out: usize,
    bytes_in: u64,
    bytes_out: u64,
    dropped: Vec<(TableName, i32, Overtaken)>,
}

impl Sum {
    fn add(&mut self, done: Compacted) {
        self.files_in += done.files_in;
        self.files_out += done.files_out;
        self.bytes_in += done.bytes_in;
        if let Some(committed) = done.committed {
            self.bytes_out += committed.bytes;
            self.commits.push(committed.id.to_string());
        }
        self.dropped.extend(done.dropped);
    }
}

/// Runs a verb; `now_us` is the present.
pub(super) async fn run<W: Write>(
    verb: CompactVerb,
    lake: &Lake,
    printer: &mut Printer<W>,
    now_us: i64,
) -> Result<(), QueryError> {
    let CompactVerb::Compact { table, on, day, dry_run } = verb;
    let scope =
        CompactScope { table: table.map(|table| named(&table)).transpose()?, day: day.and_then(day_of) };
    let branch = RefName::new(on).map_err(LakeError::from)?;
    let policy = CompactPolicy::default();
    let mut compactor = lake.compactor();
    // The same rows in other files: upkeep, which no protection holds up.
    let mut writer = lake.acting(Warrant::Upkeep).writer(branch.clone(), AUTHOR.to_owned());
    let (mut sum, mut left_alone) = (Sum::default(), Map::new());
    loop {
        let head = lake.head(&branch).await?.and_then(|head| head.commit);
        let head = head.ok_or_else(|| LakeError::UnknownRevision { spec: branch.to_string() })?;
        let survey = compactor.survey(&head, &policy, &scope, now_us).await?;
        for (table, why) in &survey.left_alone {
            left_alone.insert(table.to_string(), json!(why));
        }
        if dry_run {
            return printer.due(&survey);
        }
        if survey.is_empty() {
            break;
        }
        let bar = ProgressBar::new(0).with_message("compacting");
        if let Ok(style) = ProgressStyle::with_template("{msg} {bar:30} {pos}/{len} merges {eta}") {
            bar.set_style(style);
        }
        let progress = |done: usize, all: usize| {
            bar.set_length(all as u64);
            bar.set_position(done as u64);
        };
        let prepared = lake.prepare_compaction(survey, &policy, &StopFlag::default(), progress).await?;
        bar.finish_and_clear();
        let done = writer.compact(prepared, now_us).await?;
        // Overtaken in everything: whoever does it goes on doing it.
        let over = done.committed.is_none();
        sum.add(done);
        if over {
            break;
        }
    }
    printer.compacted(&sum, left_alone)
}

fn named(table: &str) -> Result<TableName, QueryError> {
    TableName::new(table).map_err(|_| QueryError::TableName(table.to_owned()))
}

fn day_of(date: NaiveDate) -> Option<i32> {
    i32::try_from(date.signed_duration_since(NaiveDate::default()).num_days()).ok()
}

fn date_of(day: i32) -> String {
    let date = NaiveDate::default().checked_add_signed(chrono::TimeDelta::days(day.into()));
    date.map_or_else(|| day.to_string(), |date| date.to_string())
}

fn row(merge: &DueMerge, when: &str) -> Map<String, Value> {
    object(json!({
        "table": merge.table.as_str(), "day": date_of(merge.day), "files": merge.files, "bytes": merge.bytes,
        "into": merge.step, "when": when,
    }))
}

impl<W: Write> Printer<W> {
    fn due(&mut self, survey: &Survey) -> Result<(), QueryError> {
        let mut rows: Vec<_> = survey.due().iter().map(|merge| row(merge, "now")).collect();
        rows.extend(survey.later().iter().map(|merge| row(merge, "later")));
        self.list(&["table", "day", "files", "bytes", "into", "when"], &rows, "nothing is due to be merged")
    }

    fn compacted(&mut self, sum: &Sum, left_alone: Map<String, Value>) -> Result<(), QueryError> {
        let Sum { commits, files_in, files_out, bytes_in, bytes_out, dropped } = sum;
        if self.json {
            let dropped: Vec<Value> = dropped
                .iter()
                .map(|(table, day, why)| {
                    json!({"table": table.as_str(), "day": date_of(*day), "reason": why.as_str()})
                })
                .collect();
            let all = json!({
                "commits": commits, "files_in": files_in, "files_out": files_out, "bytes_in": bytes_in,
                "bytes_out": bytes_out, "dropped": dropped, "left_alone": left_alone,
            });
            writeln!(self.out, "{all}")?;
            return Ok(());
        }
        match commits.len() {
            0 => writeln!(self.out, "nothing is due to be merged")?,
            n => writeln!(
                self.out,
                "{files_in} files into {files_out}, {bytes_in} bytes into {bytes_out}, in {n} commits"
            )?,
        }
        for (table, day, why) in dropped {
            let day = date_of(*day);
            writeln!(self.out, "{table} {day}: somebody else was first ({})", why.as_str())?;
        }
        for (table, why) in left_alone {
            writeln!(self.out, "{table} is left as it is: {}", why.as_str().unwrap_or_default())?;
        }
        Ok(())
    }
}

//! `headwater gate test | explain | schema`: rules tried on rows that are there, and in words.

use super::progress::{COUNTED, bar};
use super::{Asked, Moment, Span};
use crate::gate::boots::boots;
use crate::gate::looking::{look_at, references};
use crate::gate::{GateLimits, builtin_rules};
use crate::query::QueryError;
use crate::query::cli::now;
use crate::query::show::{Printer, object};
use arrow_array::{Array, RecordBatch, UInt64Array};
use clap::Subcommand;
use futures::TryStreamExt;
use headwater_align::gate::{Context, Finding, RuleSet, Verdict, checks, judge};
use headwater_lake::{CommitId, Lake, ScanOptions, TableName};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

/// Most rows that are judged at once: they are in memory, some hundred bytes each.
const ROWS_MAX: usize = 2_000_000;

#[derive(Debug, Subcommand)]
pub(in crate::query) enum RulesVerb {
    /// Judges rows of a commit by rules, and says what each found.
    ///
    /// Nothing is written. Exit code 1 if a rule fails, so that it can stand in scripts and CI.
    #[command(
        after_help = "Examples:\n  headwater gate test gates/drive.toml --at main --from -1h\n  headwater gate test gates/drive.toml --at main --window 10min   # as the gate sees them: how many windows would stay back\n  headwater gate test --at v1 --json | jq '.[] | select(.verdict == \"fail\") | .evidence'   # the built-in rules alone\n  headwater gate test gates/imu.toml --table raw.imu --device pi-1 --from -10min"
    )]
    Test(TestArgs),
    /// Says in words what rules ask; without a file the built-in ones, and which checks there are.
    #[command(
        after_help = "Examples:\n  headwater gate explain gates/drive.toml\n  headwater gate explain --json | jq -r .canonical"
    )]
    Explain {
        /// Files of rules.
        rules: Vec<PathBuf>,
    },
    /// The JSON Schema of files of rules, for editors.
    #[command(
        after_help = "Example:\n  headwater gate schema > gate.schema.json   # \"#:schema ./gate.schema.json\" on the first line of a file of rules"
    )]
    Schema,
}

#[derive(Debug, clap::Args)]
pub(in crate::query) struct TestArgs {
    /// Files of rules; none: the built-in ones.
    rules: Vec<PathBuf>,
    /// Branch, tag or commit.
    #[arg(long, default_value = "main")]
    at: String,
    /// Only this table, whatever the rules say they judge.
    #[arg(long)]
    table: Option<String>,
    /// Only rows from then on: RFC 3339, a day, or so long ago, such as -2h.
    #[arg(long, allow_hyphen_values = true, value_name = "MOMENT")]
    from: Option<Moment>,
    /// Only rows before then.
    #[arg(long, allow_hyphen_values = true, value_name = "MOMENT")]
    to: Option<Moment>,
    /// Only rows of this device.
    #[arg(long)]
    device: Option<String>,
    /// Judges pieces of so long each, as the gate does with what becomes final together, such as 10min.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    window: Option<i64>,
}

fn duration(text: &str) -> Result<i64, String> {
    let found = headwater_align::recipe::duration::parse(text).filter(|ns| *ns > 0);
    found.ok_or_else(|| {
        format!("{text:?} is no duration: write a number and ms, s, min, h or d, such as 10min")
    })
}

pub(super) async fn run<W: Write>(verb: &RulesVerb, asked: &mut Asked<'_, W>) -> Result<(), QueryError> {
    match verb {
        RulesVerb::Test(args) => test(args, asked).await,
        RulesVerb::Explain { rules } => explain(rules, asked),
        RulesVerb::Schema => Ok(writeln!(asked.out, "{:#}", RuleSet::json_schema())?),
    }
}

fn read(files: &[PathBuf]) -> Result<Vec<RuleSet>, QueryError> {
    if files.is_empty() {
        return Ok(vec![builtin_rules(&GateLimits::default())]);
    }
    let read = |file: &PathBuf| {
        let text = std::fs::read_to_string(file)
            .map_err(|source| QueryError::RulesFile { file: file.clone(), source })?;
        RuleSet::parse(&text).map_err(|source| QueryError::Rules { file: file.clone(), source })
    };
    files.iter().map(read).collect()
}

fn explain<W: Write>(files: &[PathBuf], asked: &mut Asked<'_, W>) -> Result<(), QueryError> {
    let sets = read(files)?;
    if asked.json {
        for set in &sets {
            let told = json!({"name": set.name, "id": set.id(), "canonical": set.canonical(), "explained": set.explain()});
            writeln!(asked.out, "{told}")?;
        }
        return Ok(());
    }
    for set in &sets {
        writeln!(asked.out, "{}", set.explain())?;
    }
    if files.is_empty() {
        writeln!(asked.out, "Checks there are:\n\n{}", checks())?;
    }
    Ok(())
}

/// Tables of the commit that rules judge.
async fn tables(
    lake: &Lake,
    at: &CommitId,
    args: &TestArgs,
    sets: &[RuleSet],
) -> Result<Vec<TableName>, QueryError> {
    let known = lake.tables(at).await?;
    let names = || known.keys().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if let Some(table) = &args.table {
        let name = TableName::new(table.as_str()).map_err(|_| QueryError::TableName(table.clone()))?;
        return match known.contains_key(&name) {
            true => Ok(vec![name]),
            false => Err(QueryError::NoTable {
                table: table.clone(),
                commit: at.short().to_owned(),
                known: names(),
            }),
        };
    }
    let judged = |name: &TableName| sets.iter().any(|set| set.concerns(&name.to_string()));
    let found: Vec<TableName> = known.keys().filter(|name| judged(name)).cloned().collect();
    if found.is_empty() {
        let patterns = sets.iter().flat_map(|set| set.tables.iter().map(|pattern| pattern.0.clone()));
        let (wanted, commit) = (patterns.collect::<Vec<_>>().join(", "), at.short().to_owned());
        return Err(QueryError::NothingToJudge { wanted, commit, known: names() });
    }
    Ok(found)
}

async fn rows(
    lake: &Lake,
    at: &CommitId,
    table: &TableName,
    args: &TestArgs,
) -> Result<Vec<RecordBatch>, QueryError> {
    let span = Span::new(args.from, args.to, now().micros());
    // Pictures are read one by one, and only some.
    let columns = lake.columns(at, table).await?.into_iter().map(|column| column.name);
    let columns =
        columns.filter(|name| !(table.namespace() == "raw" && matches!(name.as_str(), "image" | "payload")));
    let options = ScanOptions {
        columns: Some(columns.collect()),
        device: args.device.clone(),
        from_us: span.from_us,
        to_us: span.to_us,
        in_order: true,
        ..ScanOptions::default()
    };
    let mut batches = lake.scan(at, table, options).await?;
    let (mut found, mut count) = (Vec::new(), 0_usize);
    while let Some(batch) = batches.try_next().await? {
        count = count.saturating_add(batch.num_rows());
        if count > ROWS_MAX {
            return Err(QueryError::TooManyRows { table: table.to_string(), most: ROWS_MAX });
        }
        found.push(batch);
    }
    Ok(found)
}

/// Rows as pieces of so long each by their time; one piece without a length.
fn windows(batches: &[RecordBatch], window_ns: Option<i64>) -> Result<Vec<RecordBatch>, QueryError> {
    let Some(first) = batches.first() else { return Ok(Vec::new()) };
    let wrong = |error: arrow_schema::ArrowError| QueryError::Look(error.into());
    let all = arrow_select::concat::concat_batches(&first.schema(), batches).map_err(wrong)?;
    let times =
        all.column_by_name("ts_ns").map(|column| column.as_any().downcast_ref::<arrow_array::Int64Array>());
    let (Some(window_ns), Some(Some(times))) = (window_ns, times) else { return Ok(vec![all]) };
    let mut pieces: BTreeMap<i64, Vec<u64>> = BTreeMap::new();
    for (row, time) in times.iter().enumerate() {
        pieces.entry(time.unwrap_or(0).div_euclid(window_ns.max(1))).or_default().push(row as u64);
    }
    let take = |places: Vec<u64>| {
        arrow_select::take::take_record_batch(&all, &UInt64Array::from(places)).map_err(wrong)
    };
    pieces.into_values().map(take).collect()
}

async fn test<W: Write>(args: &TestArgs, asked: &mut Asked<'_, W>) -> Result<(), QueryError> {
    let sets = read(&args.rules)?;
    let lake = Lake::open(asked.lake).await?;
    let at = lake.resolve(&args.at).await?;
    let mut told = Vec::new();
    for table in tables(&lake, &at, args, &sets).await? {
        let concerned: Vec<&RuleSet> =
            sets.iter().filter(|set| args.table.is_some() || set.concerns(&table.to_string())).collect();
        let references = references(&lake, &concerned, &table).await?;
        let pieces = windows(&rows(&lake, &at, &table, args).await?, args.window)?;
        let bar = bar(pieces.len() as u64, "judging", COUNTED);
        let mut summary = Summary::default();
        for piece in &pieces {
            let looks = look_at(&lake, &at, &concerned, std::slice::from_ref(piece)).await?;
            let boots = boots(&lake, &at, &concerned, std::slice::from_ref(piece)).await?;
            let (now_ns, looks, boots) = (now().0, Some(&looks), Some(boots.as_slice()));
            let context = Context { now_ns, known: None, looks, boots, references: &references };
            for set in &concerned {
                let found = judge(set, std::slice::from_ref(piece), &context);
                summary.add(found.map_err(|error| QueryError::Look(error.into()))?);
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        told.extend(summary.rows(&table));
    }
    let failed = told.iter().filter(|row| row.get("verdict").and_then(Value::as_str) == Some("fail")).count();
    let mut columns = vec!["table", "rule", "verdict", "rows", "offending", "devices", "evidence"];
    if args.window.is_some() {
        columns.insert(3, "windows");
    }
    let mut printer = Printer { out: &mut asked.out, json: asked.json };
    if !asked.json {
        told.iter_mut().for_each(shorten);
    }
    printer.list(&columns, &told, "there are no rows to judge")?;
    if failed > 0 { Err(QueryError::GateFailed(failed)) } else { Ok(()) }
}

/// Findings of one table, by rule.
#[derive(Default)]
struct Summary {
    rules: Vec<Finding>,
    /// Windows by verdict, in the order of the rules.
    windows: Vec<[usize; 3]>,
}

impl Summary {
    /// Keeps the worst finding of each rule, the first of equal ones.
    fn add(&mut self, found: Vec<Finding>) {
        for finding in found {
            let place = self
                .rules
                .iter()
                .position(|known| known.rule == finding.rule && known.version == finding.version);
            let place = place.unwrap_or(self.rules.len());
            if self.windows.len() <= place {
                self.windows.push([0; 3]);
            }
            if let Some(count) =
                self.windows.get_mut(place).and_then(|counts| counts.get_mut(finding.verdict as usize))
            {
                *count = count.saturating_add(1);
            }
            match self.rules.get_mut(place) {
                None => self.rules.push(finding),
                Some(known) if known.verdict < finding.verdict => *known = finding,
                Some(_) => {}
            }
        }
    }

    fn rows(self, table: &TableName) -> Vec<Map<String, Value>> {
        let told = self.rules.into_iter().zip(self.windows).map(|(finding, [pass, warn, fail])| {
            let bad: Vec<&str> = finding
                .devices
                .iter()
                .filter(|(_, verdict)| **verdict > Verdict::Pass)
                .map(|(device, _)| device.as_str())
                .collect();
            object(json!({
                "table": table.to_string(),
                "rule": finding.rule,
                "version": finding.version,
                "verdict": finding.verdict.as_str(),
                "policy": finding.policy.as_str(),
                "windows": {"pass": pass, "warn": warn, "fail": fail},
                "rows": finding.evidence["rows"],
                "offending": finding.evidence["offending"],
                "devices": bad,
                "evidence": finding.evidence,
            }))
        });
        told.collect()
    }
}

/// What a person wants to see of a row first: counts of windows, the devices, where to look.
fn shorten(row: &mut Map<String, Value>) {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if let Some(Value::Object(windows)) = row.get("windows") {
        let n = |verdict: &str| windows.get(verdict).map_or_else(String::new, ToString::to_string);
        let short = format!("{} pass, {} warn, {} fail", n("pass"), n("warn"), n("fail"));
        row.insert("windows".to_owned(), short.into());
    }
    if let Some(Value::Array(devices)) = row.get("devices") {
        let names = devices.iter().map(text).collect::<Vec<_>>().join(", ");
        row.insert("devices".to_owned(), names.into());
    }
    let keys = row.get("evidence").and_then(|evidence| evidence.get("row_keys")).and_then(Value::as_array);
    let keys = keys.map(|keys| keys.iter().map(text).collect::<Vec<_>>()).unwrap_or_default();
    let short = match keys.as_slice() {
        [] => row.get("evidence").map_or_else(String::new, worst),
        keys => keys.join(" "),
    };
    row.insert("evidence".to_owned(), short.into());
}

/// The numbers of the worst device or of the window, where no row can be named.
fn worst(evidence: &Value) -> String {
    let of = |found: &Value| found.get("found").map_or_else(String::new, ToString::to_string);
    match evidence.get("devices").and_then(Value::as_object) {
        Some(devices) => {
            let bad = devices.values().find(|found| found["verdict"] != "pass");
            bad.map_or_else(String::new, of)
        }
        None => evidence.get("window").map_or_else(String::new, of),
    }
}

//! What alignment costs: raw rows of a lake to aligned ones on a branch ([`history`]), one row that comes late ([`late`]), and
//! as-of joins of ten million rows, ours beside polars, pandas and DuckDB, each engine its own
//! process, rounds interleaved, output in memory as Arrow, written as Arrow IPC, and as Parquet.
//!
//! Only joining and writing are counted, processor time of all threads; polars' streaming engine reads, joins and writes at
//! once and is counted whole. A run fails on wrong counts or sums, never on a ratio; the ratios are judged in words.

mod history;
mod late;
mod ours;

use crate::figure::Sheet;
use crate::lake::python;
use anyhow::{Context, Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

const NAME: &str = "align";
/// First word of a child that joins.
const CHILD: &str = "align-join";
/// Rows per second of processor time that ours must reach, of polars'.
const SPEED_MIN: f64 = 1.2;
/// Peak memory that ours may take, of polars', where rows are written as they come.
const MEMORY_MAX: f64 = 0.25;
/// Threads each engine may use; ours uses one.
const THREADS: &str = "2";

/// What the unkeyed join of ten million rows must give, from every engine.
const COUNTS: [u64; 3] = [10_000_000, 9_999_998, 5_000_084];
const SUMS: [f64; 3] = [-2_085.921_064, 4_764.159_381, 10_373.847_24];

/// Where, and whether only for show.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) dir: Option<PathBuf>,
    /// Folder of the recordings.
    pub(crate) data: PathBuf,
    pub(crate) quick: bool,
    /// Only these parts.
    pub(crate) parts: Vec<Part>,
}

/// A part of the measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Part {
    /// As-of joins beside other engines.
    Joins,
    /// Columns the others do not have in this form.
    Columns,
    /// From a lake's raw rows to committed aligned ones.
    History,
    /// One row that comes too late for the rows it belongs to.
    Late,
}

/// Becomes a joining child if the command line says so.
pub(crate) fn dispatch() -> Option<ExitCode> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (first, rest) = words.split_first()?;
    if first != CHILD {
        return None;
    }
    Some(match ours::main(rest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    })
}

/// One engine at one case.
#[derive(Debug, Clone)]
struct Racer {
    name: String,
    /// Words after the program: engine or method, and which columns.
    engine: &'static str,
    method: &'static str,
    columns: &'static str,
}

#[derive(Debug, Clone, Default)]
struct Runs {
    cpu_s: Vec<f64>,
    peak_mb: Vec<f64>,
    answer: Value,
}

struct Bench<'a> {
    sheet: &'a mut Sheet,
    python: PathBuf,
    home: tempfile::TempDir,
    rounds: usize,
    rows: u64,
    bar: ProgressBar,
}

pub(crate) fn measure(options: &Options, sheet: &mut Sheet) -> Result<()> {
    let Some(python) = python::python() else {
        python::without("as-of joins beside other engines");
        return Ok(());
    };
    let above = match &options.dir {
        Some(dir) => dir.clone(),
        None => std::env::current_exe()?.parent().context("this program lies nowhere")?.to_owned(),
    };
    let bar = ProgressBar::new_spinner();
    bar.set_style(ProgressStyle::with_template("{elapsed_precise} {spinner} {msg}")?);
    bar.enable_steady_tick(Duration::from_millis(250));
    let (rows, rounds) = if options.quick { (100_000, 1) } else { (10_000_000, 5) };
    let home = tempfile::tempdir_in(above)?;
    let mut bench = Bench { sheet, python, home, rounds, rows, bar };
    let wanted = |part| options.parts.is_empty() || options.parts.contains(&part);
    if wanted(Part::History) {
        history::measure(&mut bench, &options.data, options.quick)?;
    }
    if wanted(Part::Late) {
        late::measure(&mut bench, options.quick)?;
    }
    if wanted(Part::Joins) || wanted(Part::Columns) {
        bench.bar.set_message(format!("{rows} rows to join"));
        bench.python(&["inputs.py", &bench.folder()?, &rows.to_string()])?;
    }
    if wanted(Part::Joins) {
        for keys in ["one_key", "keys"] {
            for output in ["memory", "ipc", "parquet"] {
                bench.race(keys, output)?;
            }
        }
    }
    if wanted(Part::Columns) {
        for method in ["linear", "window", "slerp"] {
            bench.alone(method)?;
        }
    }
    bench.bar.finish_and_clear();
    Ok(())
}

impl Bench<'_> {
    fn folder(&self) -> Result<String> {
        Ok(self.home.path().to_str().context("the folder is not UTF-8")?.to_owned())
    }

    /// All engines at one case, in turn, so that a busy machine is busy for all.
    fn race(&mut self, keys: &str, output: &str) -> Result<()> {
        let theirs = |engine: &'static str| Racer {
            name: engine.to_owned(),
            engine,
            method: "previous",
            columns: "values",
        };
        let ours = |columns: &'static str| Racer {
            name: format!("ours, {columns}"),
            engine: "ours",
            method: "previous",
            columns,
        };
        let mut racers =
            vec![ours("values"), ours("lineage"), theirs("polars"), theirs("pandas"), theirs("duckdb")];
        if output != "memory" {
            racers.push(theirs("polars_lazy"));
        }
        let mut runs = vec![Runs::default(); racers.len()];
        for round in 0..self.rounds {
            for (racer, runs) in racers.iter().zip(&mut runs) {
                self.bar.set_message(format!(
                    "{keys}, {output}, round {} of {}: {}",
                    round + 1,
                    self.rounds,
                    racer.name
                ));
                self.run(racer, keys, output, runs)?;
            }
        }
        self.check(keys, &racers, &runs)?;
        let polars = racers.iter().position(|racer| racer.engine == "polars").context("polars takes part")?;
        let (cpu_s, peak_mb) = (median(&runs[polars].cpu_s), median(&runs[polars].peak_mb));
        for (racer, runs) in racers.iter().zip(&runs) {
            self.put(keys, output, racer, runs, cpu_s, peak_mb);
        }
        Ok(())
    }

    fn put(&mut self, keys: &str, output: &str, racer: &Racer, runs: &Runs, polars_s: f64, polars_mb: f64) {
        let (spent, peak) = (median(&runs.cpu_s), median(&runs.peak_mb));
        let case = json!({"engine": racer.name, "keys": keys, "output": output});
        let mut speed = json!({"cpu_s": spent, "least": least(&runs.cpu_s), "most": most(&runs.cpu_s), "of_polars": polars_s / spent});
        let mut memory = json!({"of_polars": peak / polars_mb});
        if racer.engine == "ours" && racer.columns == "values" {
            speed["verdict"] = json!(verdict(polars_s / spent >= SPEED_MIN));
            if output != "memory" {
                memory["verdict"] = json!(verdict(peak / polars_mb <= MEMORY_MAX));
            }
        }
        self.sheet.add(NAME, case.clone(), "left rows per CPU-s", self.rows as f64 / spent / 1e6, "M", speed);
        self.sheet.add(NAME, case, "peak memory", peak, "MB", memory);
    }

    /// Columns that the others do not have in this form.
    fn alone(&mut self, method: &'static str) -> Result<()> {
        for columns in ["values", "lineage"] {
            let racer = Racer { name: format!("ours, {columns}"), engine: "ours", method, columns };
            let mut runs = Runs::default();
            for _ in 0..self.rounds {
                self.bar.set_message(format!("{method}, {columns}"));
                self.run(&racer, "one_key", "memory", &mut runs)?;
            }
            let spent = median(&runs.cpu_s);
            let case = json!({"engine": racer.name, "method": method});
            let beside = json!({"cpu_s": spent, "least": least(&runs.cpu_s), "most": most(&runs.cpu_s)});
            self.sheet.add(NAME, case, "left rows per CPU-s", self.rows as f64 / spent / 1e6, "M", beside);
        }
        Ok(())
    }

    fn run(&self, racer: &Racer, keys: &str, output: &str, runs: &mut Runs) -> Result<()> {
        let folder = self.folder()?;
        let file = format!("{folder}/joined.{output}");
        let answer = if racer.engine == "ours" {
            let program = std::env::current_exe()?;
            let words = [CHILD, &folder, keys, racer.method, racer.columns, output, &file];
            answer(Command::new(program).args(words), &racer.name)?
        } else {
            self.python(&["join.py", racer.engine, &folder, keys, output, &file, THREADS])?
        };
        if output != "memory" {
            std::fs::remove_file(&file).with_context(|| format!("{} wrote no {file}", racer.name))?;
        }
        runs.cpu_s.push(python::number(&answer, "cpu_s")?);
        runs.peak_mb.push(python::number(&answer, "peak_mb")?);
        runs.answer = answer;
        Ok(())
    }

    fn python(&self, words: &[&str]) -> Result<Value> {
        let (script, words) = words.split_first().context("a script is named")?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/align").join(script);
        let mut command = Command::new(&self.python);
        // Before polars is imported.
        command.arg(&script).args(words).env("POLARS_MAX_THREADS", THREADS);
        answer(&mut command, &script.display().to_string())
    }

    /// Every engine gave the same, and for the full size what was written down.
    fn check(&self, keys: &str, racers: &[Racer], runs: &[Runs]) -> Result<()> {
        let first = &runs.first().context("someone ran")?.answer;
        for (racer, runs) in racers.iter().zip(runs) {
            let same = first["rows"] == runs.answer["rows"] && first["counts"] == runs.answer["counts"];
            let sums = numbers(&first["sums"]).into_iter().zip(numbers(&runs.answer["sums"]));
            let near = sums.clone().count() == 3 && sums.clone().all(|(a, b)| (a - b).abs() < 1e-4);
            ensure!(same && near, "{} joins otherwise than ours: {} and {first}", racer.name, runs.answer);
        }
        if keys == "one_key" && self.rows == 10_000_000 {
            let counted =
                numbers(&first["counts"]).into_iter().zip(COUNTS).all(|(given, count)| given == count as f64);
            let summed =
                numbers(&first["sums"]).into_iter().zip(SUMS).all(|(given, sum)| (given - sum).abs() < 1e-4);
            ensure!(counted && summed, "not what was written down: {first}");
        }
        Ok(())
    }
}

fn answer(command: &mut Command, who: &str) -> Result<Value> {
    let done = command.stdin(Stdio::null()).output().with_context(|| format!("failed to start {who}"))?;
    ensure!(done.status.success(), "{who} failed: {}", String::from_utf8_lossy(&done.stderr));
    serde_json::from_slice(&done.stdout).with_context(|| format!("{who} printed no JSON"))
}

fn numbers(list: &Value) -> Vec<f64> {
    list.as_array().into_iter().flatten().filter_map(Value::as_f64).collect()
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

fn most(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}

fn verdict(met: bool) -> &'static str {
    if met { "pass" } else { "fail" }
}

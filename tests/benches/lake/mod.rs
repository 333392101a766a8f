//! What the lake costs: commits at the start of a history and far into it, PUTs a day, ingest, verbs of history, and what
//! readers of other makes get out of it. One run, one table; what a user would pick instead stands beside each figure.
//!
//! Bars are judged here, in the words `pass` and `fail`, so that a run can be read without the design beside it.

mod bed;
mod flat;
mod gc;
mod head;
mod images;
mod ingest;
mod puts;
pub(crate) mod python;
mod readers;
mod today;
mod verbs;

use crate::figure::Sheet;
use anyhow::{Context, Result};
use clap::Args;
use headwater_tests::lakes::Recording;
use indicatif::{ProgressBar, ProgressStyle};
use std::path::PathBuf;
use std::time::Duration;

const NAME: &str = "lake";

/// How much of it.
#[derive(Debug, Clone, Args)]
#[group(id = "lake")]
pub(crate) struct Options {
    /// `lake`: commits of the long history (default: 10000; 300 with --quick). A hundred thousand take an hour.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(10..=10_000_000))]
    commits: Option<u64>,
    /// `lake`: branches beside it (default: 1000; 50 with --quick).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    branches: Option<u64>,
    /// `lake`: entries of the log whose head is looked up (default: 100000; 2000 with --quick).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    entries: Option<u64>,
    /// `lake`: files that garbage collection finds (default: 100000; 1000 with --quick).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    garbage: Option<u64>,
    /// `lake`: only these parts.
    #[arg(long, value_enum, value_name = "PART", value_delimiter = ',')]
    parts: Vec<Part>,
}

/// A part of the measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Cost of a commit, early and late; verbs of history on the same lake.
    Commits,
    /// Looking a head up in a long log.
    Head,
    /// PUTs a day.
    Puts,
    /// Small batches folded into commits, beside pyarrow.
    Ingest,
    /// DuckDB on our tables, beside plain Parquet.
    Readers,
    /// One picture out of many.
    Images,
    /// DuckDB on a day that is not over, beside the same rows compacted.
    Today,
    /// Collecting garbage.
    Gc,
}

/// Where, and whether only for show.
#[derive(Debug)]
pub(crate) struct Place {
    /// Folder of the recordings.
    pub(crate) data: PathBuf,
    /// Where lakes are made; beside the program if nothing is said.
    pub(crate) dir: Option<PathBuf>,
    /// Everything small.
    pub(crate) quick: bool,
}

/// What all parts share.
struct Bench<'a> {
    sheet: &'a mut Sheet,
    recording: Recording,
    data: PathBuf,
    /// Gone with the run.
    home: tempfile::TempDir,
    quick: bool,
    runtime: tokio::runtime::Runtime,
    bar: ProgressBar,
}

impl Bench<'_> {
    /// The usual number, or the one for show.
    fn scale<T>(&self, usual: T, quick: T) -> T {
        if self.quick { quick } else { usual }
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }
}

/// A bar that was met or not.
fn verdict(met: bool) -> &'static str {
    if met { "pass" } else { "fail" }
}

pub(crate) fn measure(place: &Place, options: &Options, sheet: &mut Sheet) -> Result<()> {
    let above = match &place.dir {
        Some(dir) => dir.clone(),
        None => std::env::current_exe()?.parent().context("this program lies nowhere")?.to_owned(),
    };
    std::fs::create_dir_all(&above).with_context(|| format!("failed to make {}", above.display()))?;
    let bar = ProgressBar::new_spinner();
    bar.set_style(ProgressStyle::with_template("{elapsed_precise} {spinner} {msg}")?);
    bar.enable_steady_tick(Duration::from_millis(250));
    let mut bench = Bench {
        sheet,
        recording: Recording::read(&place.data)?,
        data: place.data.clone(),
        home: tempfile::Builder::new().prefix("measure-lake-").tempdir_in(above)?,
        quick: place.quick,
        runtime: tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?,
        bar,
    };
    let wanted = |part| options.parts.is_empty() || options.parts.contains(&part);
    let commits = options.commits.unwrap_or(bench.scale(10_000, 300));
    let branches = options.branches.unwrap_or(bench.scale(1_000, 50));
    if wanted(Part::Commits) {
        let lake = flat::measure(&mut bench, commits)?;
        verbs::measure(&mut bench, &lake, commits, branches)?;
    }
    if wanted(Part::Head) {
        let entries = options.entries.unwrap_or(bench.scale(100_000, 2_000));
        head::measure(&mut bench, entries)?;
    }
    if wanted(Part::Puts) {
        puts::measure(&mut bench)?;
    }
    if wanted(Part::Ingest) {
        ingest::measure(&mut bench)?;
    }
    if wanted(Part::Readers) {
        readers::measure(&mut bench)?;
    }
    if wanted(Part::Images) {
        images::measure(&mut bench)?;
    }
    if wanted(Part::Today) {
        today::measure(&mut bench)?;
    }
    if wanted(Part::Gc) {
        let files = options.garbage.unwrap_or(bench.scale(100_000, 1_000));
        gc::measure(&mut bench, files)?;
    }
    bench.bar.finish_and_clear();
    Ok(())
}

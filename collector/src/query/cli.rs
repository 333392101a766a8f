//! The `headwater` command line: words to questions, errors to exit codes.

use super::QueryError;
use super::align::{AlignArgs, align};
use super::clock::Asked as AskedClock;
use super::compact::{self, CompactVerb};
use super::outgoing::{self, Asked, OutgoingVerb};
use super::provenance::{self, ProvenanceVerb};
use super::recipe::{self, RecipeVerb};
use super::scan::ScanArgs;
use super::serving::{self, ServingVerb};
use super::show::Printer;
use super::upkeep::{self, UpkeepVerb};
use super::versions::VersionsVerb;
use crate::config;
use crate::import::{ImportError, ImportOptions, import};
use crate::pki::cli::PkiVerb;
use crate::verify::{VerifyError, VerifyOptions, verify};
use clap::{Parser, Subcommand};
use headwater_core::time::{NS_PER_S, UtcNanos};
use headwater_lake::Lake;
use indicatif::{ProgressBar, ProgressStyle};
use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// A Headwater lake at the command line: reads it, keeps its versions, looks after it and serves it; imports cards; makes a
/// fleet's certificates.
#[derive(Debug, Parser)]
#[command(
    name = "headwater",
    version,
    after_help = "Examples:\n  headwater --lake target/demo/lake log\n  headwater --lake target/demo/lake scan aligned.drive --at main --limit 5 --json\n  headwater --lake s/lake views --at main > views.sql   # duckdb -init views.sql\n  headwater pki init --dir pki --tenant acme"
)]
struct Args {
    /// Where the lake lies: a folder, or an s3://, gs:// or az:// URL (credentials come from the environment).
    #[arg(long, global = true, env = "HEADWATER_LAKE", default_value = "lake", value_name = "PLACE")]
    lake: String,
    /// Print JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    #[command(flatten)]
    Versions(VersionsVerb),
    /// One commit: what it holds, where it came from.
    Show {
        /// Branch, tag or commit (a unique beginning is enough).
        commit: String,
    },
    /// Tables of a commit and their metadata locations.
    Tables {
        /// Branch, tag or commit.
        #[arg(long, default_value = "main")]
        at: String,
    },
    /// Devices that said hello.
    Devices {
        /// Branch, tag or commit.
        #[arg(long, default_value = "main")]
        at: String,
    },
    /// Runs of captures that will never arrive, and why.
    Gaps {
        /// Branch, tag or commit.
        #[arg(long, default_value = "main")]
        at: String,
    },
    /// What gateways' clocks are worth: the fleet's, worst first, or one over time.
    ///
    /// Of one device: how sure its times are and why, how far its own wall clock was off, how fast its crystal runs, what
    /// stepped. All with what is known by the commit, so later evidence makes earlier times surer.
    #[command(
        after_help = "Examples:\n  headwater clock\n  headwater clock pi-1\n  headwater clock pi-1 --svg pi-1.svg\n  headwater clock pi-1 --boot 3 --json | jq .drift_ppb"
    )]
    Clock {
        /// Whose; left out: everybody's.
        device: Option<String>,
        /// Branch, tag or commit.
        #[arg(long, default_value = "main")]
        at: String,
        /// Which boot; the newest if left out.
        #[arg(long, value_name = "N")]
        boot: Option<u32>,
        /// Draws it too.
        #[arg(long, value_name = "FILE")]
        svg: Option<PathBuf>,
    },
    #[command(flatten)]
    Provenance(ProvenanceVerb),
    /// Aligns history by a recipe, on a branch.
    ///
    /// Rows that the table has already are held against those made anew: what is the same stays, what differs gives way. A
    /// table that another version of the recipe made is begun anew. Days and devices are done beside each other, committed in
    /// order, and a run that was ended goes on where its last commit left off. With --json one line per event.
    #[command(
        after_help = "Examples:\n  headwater align drive.toml --on realign\n  headwater align drive@main --on late --since 2026-11-01 --until 2026-11-08 --jobs 4\n  headwater align drive.toml --on realign --from v1 --json | jq -r 'select(.event == \"done\").next'\nThen:\n  headwater diff main realign\n  headwater merge realign        # the gate judges it"
    )]
    Align(AlignArgs),
    #[command(flatten)]
    Compaction(CompactVerb),
    /// Rows that were set aside, by device, stream and reason.
    Quarantine {
        /// Branch, tag or commit.
        #[arg(long, default_value = "main")]
        at: String,
    },
    /// Rows of a table.
    #[command(
        after_help = "Examples:\n  headwater scan raw.imu --from -10min --device pi-1\n  headwater scan raw.imu --at v1 --where 'accel_x>=9.5' --columns ts,accel_x --format csv --limit 0 > imu.csv\n  headwater scan aligned.drive --from 2026-11-28T10:00:00Z --to 2026-11-28T11:00:00Z --json"
    )]
    Scan(ScanArgs),
    /// SQL that shows a commit as DuckDB views.
    Views {
        /// Branch, tag or commit.
        #[arg(long, default_value = "main")]
        at: String,
        /// Folder below which DuckDB's avro, httpfs and iceberg extension files lie, such as a Python
        /// environment's site-packages with DuckDB's extension wheels; otherwise the installed one is loaded.
        #[arg(long, value_name = "DIR")]
        duckdb_extensions: Option<PathBuf>,
    },
    /// Takes exported cards into the lake of a collector, whether it runs or not.
    ///
    /// What is in the lake already is left out, so importing twice is harmless. Messages signed by the gateway are
    /// checked as if they had come over the link; others are signed with the collector's key, which `ops.batches`
    /// names. Exit code 1 if anything was refused or a file is not whole.
    #[command(
        after_help = "Examples:\n  headwater import --config collector.toml pi-1.hwx\n  headwater import --config collector.toml --json cards/*.hwx | jq .rows\nMake exports on the gateway, or from its card:\n  headwater-agent spool export --root /mnt/card --out pi-1.hwx"
    )]
    Import {
        /// Files made by `headwater-agent spool export --format messages`.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// The collector's configuration: its lake, landing logs, recipes and keys.
        #[arg(long, default_value = "collector.toml", value_name = "FILE")]
        config: PathBuf,
        /// How long to wait for the running collector to commit, s.
        #[arg(long, default_value_t = 60, value_name = "SECONDS")]
        wait: u64,
    },
    /// Checks that the messages of a commit are what their devices signed.
    ///
    /// Holds each message that the commit notes in ops.batches against the landing log and the certificate of its
    /// device. What was trimmed from the log is checked by digest. Exit code 1 if anything is bad.
    #[command(
        after_help = "Examples:\n  headwater verify main --config collector.toml\n  headwater verify 4f1e22c0 --config collector.toml --all --json | jq .bad"
    )]
    Verify {
        /// Branch, tag or commit (a unique beginning is enough).
        #[arg(default_value = "main")]
        commit: String,
        /// The collector's configuration: its lake, landing logs and the fleet's root.
        #[arg(long, default_value = "collector.toml", value_name = "FILE")]
        config: PathBuf,
        /// Every message up to the commit, not only those it brought.
        #[arg(long)]
        all: bool,
    },
    #[command(flatten)]
    Outgoing(OutgoingVerb),
    #[command(flatten)]
    Recipe(RecipeVerb),
    /// Looking after the lake.
    #[command(flatten)]
    Upkeep(UpkeepVerb),
    #[command(flatten)]
    Serving(ServingVerb),
    /// Certificates of the fleet: makes, renews, revokes and lists them.
    Pki {
        #[command(subcommand)]
        verb: PkiVerb,
    },
}

/// Runs the command line `args` (the program's name first).
#[must_use]
pub fn main(args: Vec<OsString>) -> ExitCode {
    let args = match Args::try_parse_from(args) {
        Ok(args) => args,
        Err(error) => {
            // Help and version go to standard output with code 0, mistakes to standard error with 2.
            drop(error.print());
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        // `headwater … | head` closes our output early: that is no failure.
        Err(QueryError::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("headwater: {}", chain(&error));
            ExitCode::from(error.exit_code())
        }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

fn run(args: Args) -> Result<(), QueryError> {
    if let Verb::Pki { verb } = &args.verb {
        return Ok(crate::pki::cli::run(verb, args.json, now(), &mut std::io::stdout().lock())?);
    }
    if let Verb::Align(asked) = args.verb {
        return align(asked, &args.lake, args.json, std::io::stdout().lock());
    }
    if let Verb::Serving(verb) = &args.verb {
        return serving::run(verb, &args.lake, args.json, &mut std::io::stdout().lock());
    }
    if let Verb::Import { files, config, wait } = &args.verb {
        return take_in(config, ImportOptions { files: files.clone(), wait_s: *wait }, args.json);
    }
    if let Verb::Verify { commit, config, all } = &args.verb {
        return check(config, &VerifyOptions { commit: commit.clone(), all: *all }, args.json);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| QueryError::Start(error.to_string()))?;
    if let Verb::Outgoing(verb) = args.verb {
        let (out, json) = (std::io::stdout().lock(), args.json);
        return runtime.block_on(outgoing::run::<Args, _>(verb, Asked { lake: &args.lake, json, out }));
    }
    runtime.block_on(async {
        let mut printer = Printer { out: std::io::stdout().lock(), json: args.json };
        if let Verb::Upkeep(verb) = args.verb {
            upkeep::run(verb, &args.lake, now().0.div_euclid(1000), &mut printer).await?;
            printer.out.flush()?;
            return Ok(());
        }
        if let Verb::Recipe(verb) = args.verb {
            recipe::run(verb, &args.lake, &mut printer).await?;
            printer.out.flush()?;
            return Ok(());
        }
        let lake = Lake::open(&args.lake).await?;
        match args.verb {
            Verb::Versions(verb) => printer.versions(&lake, verb).await?,
            Verb::Show { commit } => printer.commit(&lake, &commit).await?,
            Verb::Tables { at } => printer.tables(&lake, &at).await?,
            Verb::Devices { at } => printer.devices(&lake, &at).await?,
            Verb::Gaps { at } => printer.gaps(&lake, &at).await?,
            Verb::Clock { device, at, boot, svg } => {
                printer.clock(&lake, &at, &AskedClock { device, boot, svg }).await?
            }
            Verb::Quarantine { at } => printer.quarantine(&lake, &at).await?,
            Verb::Provenance(verb) => provenance::run(verb, &lake, &mut printer).await?,
            Verb::Scan(args) => printer.scan(&lake, &args).await?,
            Verb::Compaction(verb) => compact::run(verb, &lake, &mut printer, now().micros()).await?,
            Verb::Views { at, duckdb_extensions } => {
                printer.views(&lake, &at, duckdb_extensions.as_deref()).await?
            }
            Verb::Align(_)
            | Verb::Import { .. }
            | Verb::Verify { .. }
            | Verb::Pki { .. }
            | Verb::Outgoing(_)
            | Verb::Recipe(_)
            | Verb::Serving(_)
            | Verb::Upkeep(_) => {}
        }
        printer.out.flush()?;
        Ok(())
    })
}

fn take_in(file: &Path, options: ImportOptions, json: bool) -> Result<(), QueryError> {
    let settings =
        config::load(file).map_err(|source| ImportError::Config { path: file.to_owned(), source })?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| QueryError::Start(error.to_string()))?;
    let size = |file: &PathBuf| std::fs::metadata(file).map_or(0, |meta| meta.len());
    let bar = ProgressBar::new(options.files.iter().map(size).sum()).with_message("importing");
    if let Ok(style) = ProgressStyle::with_template("{msg} {bar:30} {bytes}/{total_bytes} {eta}") {
        bar.set_style(style);
    }
    let report = runtime.block_on(import(&settings, &options, |bytes| bar.inc(bytes)))?;
    bar.finish_and_clear();
    let mut out = std::io::stdout().lock();
    match json {
        true => {
            serde_json::to_writer(&mut out, &report).map_err(std::io::Error::from)?;
            writeln!(out)?;
        }
        false => write!(out, "{report}")?,
    }
    if report.is_clean() { Ok(()) } else { Err(QueryError::Incomplete) }
}

fn check(file: &Path, options: &VerifyOptions, json: bool) -> Result<(), QueryError> {
    let settings =
        config::load(file).map_err(|source| VerifyError::Config { path: file.to_owned(), source })?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| QueryError::Start(error.to_string()))?;
    let bar = ProgressBar::new(0).with_message("verifying");
    if let Ok(style) = ProgressStyle::with_template("{msg} {bar:30} {pos}/{len} messages {eta}") {
        bar.set_style(style);
    }
    let report = runtime.block_on(verify(&settings, options, now(), |all, done| {
        bar.set_length(all);
        bar.inc(done);
    }))?;
    bar.finish_and_clear();
    let mut out = std::io::stdout().lock();
    match json {
        true => {
            serde_json::to_writer(&mut out, &report).map_err(std::io::Error::from)?;
            writeln!(out)?;
        }
        false => write!(out, "{report}")?,
    }
    if report.is_sound() { Ok(()) } else { Err(QueryError::Unsound) }
}

#[expect(clippy::disallowed_methods, reason = "a command for people issues certificates for the present")]
pub(super) fn now() -> UtcNanos {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    UtcNanos(i64::try_from(since.as_secs()).unwrap_or(0).saturating_mul(NS_PER_S))
}

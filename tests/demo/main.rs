//! `cargo demo`: real recordings travel the whole way on this machine, and the result is judged.
//!
//! The binary starts itself again as broker, collector and agent, so they are separate processes, and
//! plays a microcontroller, a receiver, a camera and a slow sensor to the agent; a second agent wakes in 1970, and a third
//! has a sensor with a fault. At the end it reads the lake back, compares it with what was played and when, makes the last
//! commits anew, and says how to open it.

mod alignment;
mod bad;
mod clockless;
mod console;
mod drive;
mod faults;
mod report;
mod reproduced;
mod run;
mod sheet;
mod spool_disk;
mod svg;
mod verbs;

use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Plays real sensor, GPS and camera recordings through agent, broker and collector into a lake.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "cargo demo",
    bin_name = "cargo demo",
    after_help = "Examples:\n  cargo demo                       30 seconds, then the figures\n  cargo demo --for 2m --chaos      kills agent, broker and collector in turn; root cuts power too\n  cargo demo --recipe drive.toml   aligns by your recipe, checked first\n  cargo demo --fault 'black camera'   what the third gateway has; --fault list says what there is\n  cargo demo --keep --dir /tmp/hw  stays up; add your own source to its agent.toml\n  cargo demo --json | tail -1      figures as one line of JSON"
)]
pub(crate) struct Args {
    /// How long to play: 45, 45s or 2m.
    #[arg(long = "for", default_value = "30s", value_parser = parse_duration, value_name = "TIME")]
    pub(crate) play: Duration,
    /// Where to put the run (made new; default: target/demo).
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// What is aligned: a recipe in place of tests/demo/drive.toml; see `headwater recipe --help`.
    #[arg(long, value_name = "FILE")]
    pub(crate) recipe: Option<PathBuf>,
    /// What aligned rows are judged by: gate rules in place of tests/demo/gate.toml.
    #[arg(long, value_name = "FILE")]
    pub(crate) rules: Option<PathBuf>,
    /// What is wrong with the third gateway; "list" says what there is.
    #[arg(long, value_name = "NAME", default_value = faults::DEFAULT)]
    pub(crate) fault: String,
    /// Stay up after playing, until Ctrl-C.
    #[arg(long)]
    pub(crate) keep: bool,
    /// Kill -9 agent, broker and collector in turn while playing; for root, also cut the power of the spool's disk.
    #[arg(long)]
    pub(crate) chaos: bool,
    /// Print the figures as one last line of JSON; progress goes to standard error.
    #[arg(long)]
    pub(crate) json: bool,
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.strip_suffix('m') {
        Some(number) => (number, 60),
        None => (text.strip_suffix('s').unwrap_or(text), 1),
    };
    match number.parse::<u64>() {
        Ok(n) if n > 0 && n <= 86_400 => Ok(Duration::from_secs(n * unit)),
        _ => Err("expected seconds or minutes, such as 45s or 2m".to_owned()),
    }
}

fn main() -> ExitCode {
    if let Some(code) = headwater_tests::roles::dispatch() {
        return code;
    }
    // The alias ends in `--`, so `cargo demo -- --chaos` arrives with one too many.
    let mut words: Vec<_> = std::env::args_os().collect();
    if words.get(1).is_some_and(|word| word == "--") {
        words.remove(1);
    }
    let args = Args::parse_from(words);
    if args.fault == "list" {
        print!("{}", faults::list());
        return ExitCode::SUCCESS;
    }
    match run::run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("demo failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

//! `fuzz`: runs targets for as long as asked and says what it found.

use anyhow::{Result, bail};
use clap::Parser;
use headwater_fuzz::driver::{Bounds, quiet_panics, run};
use headwater_fuzz::probe::Probe;
use headwater_fuzz::targets::ALL;
use std::path::PathBuf;

/// Feeds hostile bytes to every decoder.
#[derive(Debug, Parser)]
#[command(
    after_help = "Examples:\n  fuzz                              a minute of each target\n  fuzz --target sections --runs 10000000 --seconds 3600\n  fuzz --target sections --input crash-sections   one input again"
)]
struct Args {
    /// Only these; all if none is named.
    #[arg(long)]
    target: Vec<String>,
    /// Most executions of each.
    #[arg(long, default_value_t = u64::MAX)]
    runs: u64,
    /// Most seconds of each.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Seed of the mutator.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Runs this input alone.
    #[arg(long)]
    input: Option<PathBuf>,
    /// Only writes the seeds of each target, to a folder of its name in this one: a corpus for libFuzzer.
    #[arg(long)]
    seeds: Option<PathBuf>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    if let Some(name) = args.target.iter().find(|name| ALL.iter().all(|target| target.name != **name)) {
        let names: Vec<_> = ALL.iter().map(|target| target.name).collect();
        bail!("no target {name}; there are {}", names.join(", "));
    }
    let chosen = ALL.iter().filter(|t| args.target.is_empty() || args.target.iter().any(|n| n == t.name));
    if args.input.is_none() {
        quiet_panics();
    }
    let mut found = 0;
    for target in chosen {
        if let Some(folder) = &args.seeds {
            let folder = folder.join(target.name);
            std::fs::create_dir_all(&folder)?;
            for (at, seed) in (target.seeds)().iter().enumerate() {
                std::fs::write(folder.join(format!("{at:05}")), seed)?;
            }
            continue;
        }
        if let Some(path) = &args.input {
            let mut probe = Probe::default();
            (target.run)(&std::fs::read(path)?, &mut probe);
            println!("{}: {:.3} ms, {} bytes held", target.name, probe.cpu_ns as f64 / 1e6, probe.bytes);
            continue;
        }
        let bounds = Bounds { runs: args.runs, seconds: args.seconds, seed: args.seed };
        let report = run(target, bounds, Probe::default());
        println!(
            "{:<18} {:>10} runs {:>5} s {:>5} outcomes {:>8.3} ms {:>9} B {} caught",
            target.name,
            report.runs,
            report.seconds,
            report.outcomes,
            report.cpu_ns as f64 / 1e6,
            report.bytes,
            report.caught
        );
        if let Some((input, why)) = report.finding {
            found += 1;
            let path = format!("crash-{}", target.name);
            std::fs::write(&path, &input)?;
            println!("! {}: {why}; the {} bytes are in {path}", target.name, input.len());
        }
    }
    if found > 0 {
        bail!("{found} targets broke a promise");
    }
    Ok(())
}

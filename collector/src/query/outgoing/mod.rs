//! What leaves the lake: events, exports, copies; and what people decide about candidates of the gate.

mod complete;
mod copy;
mod export;
mod gate;
mod gate_rules;
mod progress;
mod watch;

use super::QueryError;
use clap::{CommandFactory, Subcommand, ValueEnum};
use headwater_lake::Lake;
use std::io::Write;
use std::path::PathBuf;

pub(super) use complete::{CompleteArgs, script};
pub(super) use export::span::{Moment, Span, condition};

/// Verbs of this area.
#[derive(Debug, Subcommand)]
pub(super) enum OutgoingVerb {
    /// Events of a branch, one JSON line for each entry of its log.
    ///
    /// Needs no collector: it reads the log in the store. A reader that gives the last `seq` it has seen misses nothing
    /// and sees nothing twice.
    #[command(
        after_help = "Examples:\n  headwater watch --follow\n  headwater watch main --since 1042 --follow | while read -r event; do …; done\n  headwater watch --since 4f1e22c0 --kind align\n  headwater watch quarantine/01j9x…"
    )]
    Watch(watch::WatchArgs),
    /// Candidates the gate holds: lists them, says why, publishes one all the same; and the rules it judges by: tries and
    /// explains them.
    Gate {
        #[command(subcommand)]
        verb: gate::GateVerb,
    },
    /// Writes tables of a commit into a folder, in a form other tools read.
    ///
    /// The folder is there whole or not at all. Its manifest.json names the commit, the filters and a SHA-256 per file:
    /// the same commit and filters give the same files.
    #[command(
        after_help = "Examples:\n  headwater export aligned.drive --format parquet --out drive\n  headwater export raw.image --format images --from 2026-11-28T10:00:00Z --to 2026-11-28T11:00:00Z --out frames\n  headwater export raw.image --at v1 --format huggingface --out dataset   # datasets.load_dataset(\"dataset\")\n  headwater export --all --from -2h --format csv --out recent"
    )]
    Export(export::ExportArgs),
    /// Every file a commit consists of, with size and SHA-256, for other tools to copy or check.
    #[command(
        after_help = "Examples:\n  headwater export-manifest --at v1 > v1.json\n  headwater export-manifest raw.imu --no-checksums | jq -r '.files[].location'"
    )]
    ExportManifest(copy::ManifestArgs),
    /// Copies a lake, or one branch of it, to another folder.
    ///
    /// Iceberg names files by absolute location, so a lake cannot be moved by copying its folder: this writes the
    /// locations anew. Commits get new ids and name the ones they were. Run again, it goes on where it ended.
    #[command(
        after_help = "Examples:\n  headwater clone /var/lib/headwater/lake /mnt/backup/lake\n  headwater clone lake laptop-lake --ref main"
    )]
    Clone(copy::CloneArgs),
    /// Prints the completion script of a shell.
    #[command(
        after_help = "Install:\n  headwater completions bash > /usr/share/bash-completion/completions/headwater   # or ~/.local/share/bash-completion/completions/headwater\n  headwater completions zsh  > /usr/share/zsh/site-functions/_headwater\n  headwater completions fish > /usr/share/fish/vendor_completions.d/headwater.fish"
    )]
    Completions {
        /// Which.
        shell: Shell,
    },
    /// What may stand at the end of a command line; called by the completion scripts.
    #[command(name = "__complete", hide = true)]
    Complete(CompleteArgs),
}

/// Shells with a completion script.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Shell {
    /// GNU bash.
    Bash,
    /// zsh.
    Zsh,
    /// fish.
    Fish,
}

/// What every verb is given.
pub(super) struct Asked<'a, W: Write> {
    /// `--lake`.
    pub(super) lake: &'a str,
    /// `--json`.
    pub(super) json: bool,
    /// Where answers go.
    pub(super) out: W,
}

/// Runs a verb.
pub(super) async fn run<A: CommandFactory, W: Write>(
    verb: OutgoingVerb,
    mut asked: Asked<'_, W>,
) -> Result<(), QueryError> {
    match verb {
        OutgoingVerb::Watch(args) => watch::run(&Lake::open(asked.lake).await?, &args, &mut asked.out).await,
        OutgoingVerb::Gate { verb: gate::GateVerb::Rules(verb) } => gate_rules::run(&verb, &mut asked).await,
        OutgoingVerb::Gate { verb } => gate::run(&Lake::open(asked.lake).await?, &verb, &mut asked).await,
        OutgoingVerb::Export(args) => export::run(&Lake::open(asked.lake).await?, &args, &mut asked).await,
        OutgoingVerb::ExportManifest(args) => {
            copy::manifest(&Lake::open(asked.lake).await?, &args, &mut asked.out).await
        }
        OutgoingVerb::Clone(args) => copy::clone(&args, &mut asked).await,
        OutgoingVerb::Completions { shell } => Ok(asked.out.write_all(script(shell).as_bytes())?),
        OutgoingVerb::Complete(args) => complete::run::<A, W>(&args, &mut asked).await,
    }
}

/// A folder that is being made: it has another name until it is whole.
pub(super) fn temporary(out: &std::path::Path) -> PathBuf {
    let mut name = out.file_name().map(std::ffi::OsStr::to_owned).unwrap_or_default();
    name.push(".part");
    out.with_file_name(name)
}

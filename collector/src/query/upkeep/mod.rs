//! Upkeep of the lake by hand: `headwater lake`, `gc`, `expire` and `erase`.

mod erase;
mod lake;
mod sweep;

use super::QueryError;
use super::show::Printer;
use crate::config::{self, UpkeepSettings};
use clap::Subcommand;
use headwater_lake::Lake;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Verbs that look after the lake.
#[derive(Debug, Subcommand)]
pub(super) enum UpkeepVerb {
    /// The lake itself: makes one, checks it, mends it, lists its tables.
    Lake {
        #[command(subcommand)]
        verb: lake::LakeVerb,
    },
    /// Thins history and deletes what no kept commit needs.
    ///
    /// Unreachable objects younger than the grace time stay, for writers at work. A run waits a while between choosing and
    /// deleting (15 min); nothing else has to. The collector does the same once a day ([lake.gc]).
    #[command(
        after_help = "Examples:\n  headwater gc --dry-run\n  headwater gc --config collector.toml --json"
    )]
    Gc(sweep::GcArgs),
    /// Lets days older than their table's retention leave a branch, in one commit.
    ///
    /// Nothing is rewritten and history still has them; the space is free when history has run out. What a device sends
    /// again of it stays known and is not taken in anew.
    #[command(
        after_help = "Examples:\n  headwater expire --table raw.image --keep-days 30 --dry-run\n  headwater expire --config collector.toml"
    )]
    Expire(sweep::ExpireArgs),
    /// Erases a device's rows for good, from every branch and from history.
    ///
    /// Every branch gets a commit without them, below which no branch has history any more; files, old commits and blobs
    /// nobody else names are deleted by the next `gc` after the grace time. Counts first and asks. The ledger goes on
    /// knowing the keys unless --forget, so that nothing comes back by itself. An audit record stays. Landing logs keep
    /// messages until they are trimmed, and exports are yours to delete.
    #[command(
        after_help = "Examples:\n  headwater erase --device pi-1 --reason 'customer left, ticket 812'\n  headwater erase --device pi-1 --stream camera/front --from 2026-03-01 --to 2026-03-02 --reason 'bystanders' --yes"
    )]
    Erase(erase::EraseArgs),
}

/// Runs a verb. `now_us` is UTC, µs.
pub(super) async fn run<W: Write>(
    verb: UpkeepVerb,
    place: &str,
    now_us: i64,
    printer: &mut Printer<W>,
) -> Result<(), QueryError> {
    match verb {
        UpkeepVerb::Lake { verb } => lake::run(verb, place, now_us, printer).await,
        UpkeepVerb::Gc(args) => sweep::gc(&Lake::open(place).await?, &args, now_us, printer).await,
        UpkeepVerb::Expire(args) => sweep::expire(&Lake::open(place).await?, &args, now_us, printer).await,
        UpkeepVerb::Erase(args) => erase::run(&Lake::open(place).await?, &args, now_us, printer).await,
    }
}

/// Settings of the collector's file, or the defaults.
fn settings(file: Option<&Path>) -> Result<UpkeepSettings, QueryError> {
    match file {
        None => Ok(UpkeepSettings::default()),
        Some(file) => config::load(file)
            .map(|settings| settings.upkeep)
            .map_err(|source| QueryError::Config { file: PathBuf::from(file), source }),
    }
}

/// The author of what a person does here.
fn author() -> String {
    let user = std::env::var("USER").unwrap_or_else(|_| "somebody".to_owned());
    format!("{user} with headwater {}", env!("CARGO_PKG_VERSION"))
}

/// A count of bytes as people read it.
fn bytes(count: u64) -> String {
    indicatif::BinaryBytes(count).to_string()
}

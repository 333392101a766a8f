//! `headwater lineage` and `headwater reproduce`: where an aligned row came from, and whether it can be made again.

mod digest;
mod files;
mod reproduce;
mod row;

use super::QueryError;
use super::show::Printer;
use clap::Subcommand;
use headwater_lake::Lake;
use std::io::Write;

/// Verbs about the origin of rows.
#[derive(Debug, Subcommand)]
pub(super) enum ProvenanceVerb {
    /// Where a row came from, or a commit.
    ///
    /// Of an aligned row: the samples of its spine and of each column, each with its distance in time, its uncertainty and
    /// what is to be known of it, and the landed messages that brought them. Of a commit: what it was made from, by which
    /// recipes, gates, clock tracks and software.
    #[command(
        after_help = "Examples:\n  headwater lineage aligned.drive 0000000000000007/camera/front/12\n  headwater lineage aligned.drive main\n  headwater lineage aligned.drive 0000000000000007/camera/front/12 --device pi-1 --json | jq .columns"
    )]
    Lineage {
        /// The table, such as aligned.drive.
        table: String,
        /// A row key, or a branch, tag or commit.
        what: String,
        /// Whose row, where several devices have one of that key.
        #[arg(long)]
        device: Option<String>,
        /// Where to look for the row: branch, tag or commit.
        #[arg(long, default_value = "main")]
        at: String,
    },
    /// Makes the aligned rows of a commit again from its raw tables, and compares.
    ///
    /// Each day of each aligned table gives one digest, over its final rows in order; it does not depend on how the rows
    /// lie in files. Then each data file is made again, with the columns, order and cuts that are on record, and the SHA-256
    /// of its bytes compared; of one that differs the first difference is named. Provisional rows cannot be made again and
    /// are taken as they stand, and rows that only a later alignment will write are counted beside. Exit code 1 if anything
    /// differs.
    #[command(
        after_help = "Examples:\n  headwater reproduce main\n  headwater reproduce v1 --table aligned.drive --json | jq '.files[] | select(.same | not) | .difference'"
    )]
    Reproduce {
        /// Branch, tag or commit.
        #[arg(default_value = "main")]
        commit: String,
        /// Only this table.
        #[arg(long)]
        table: Option<String>,
    },
}

/// Runs a verb.
pub(super) async fn run<W: Write>(
    verb: ProvenanceVerb,
    lake: &Lake,
    printer: &mut Printer<W>,
) -> Result<(), QueryError> {
    match verb {
        ProvenanceVerb::Lineage { table, what, device, at } => {
            row::lineage(lake, printer, &row::Asked { table, what, device, at }).await
        }
        ProvenanceVerb::Reproduce { commit, table } => {
            reproduce::reproduce(lake, printer, &commit, table).await
        }
    }
}

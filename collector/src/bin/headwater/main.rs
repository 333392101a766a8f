//! The `headwater` binary: the command line of [`headwater_collector::query`].

use std::process::ExitCode;

fn main() -> ExitCode {
    headwater_collector::query::cli::main(std::env::args_os().collect())
}

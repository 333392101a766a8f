//! The `headwater-agent` binary: the command line of [`headwater_agent::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    headwater_agent::cli::main(std::env::args_os())
}

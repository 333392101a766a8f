//! The collector service; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    headwater_collector::cli::main(std::env::args_os().collect())
}

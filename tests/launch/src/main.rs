//! First word of `cargo demo`: says what comes and how long it takes, then builds and becomes the demo.
//!
//! Cargo builds all of a package before its binary can say anything. This package needs nothing but the
//! standard library, so it speaks within seconds, on a machine where the rest takes minutes.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let is_built = std::env::current_exe().is_ok_and(|exe| exe.with_file_name("demo").exists());
    if is_built {
        eprintln!("cargo demo: bringing the build up to date, then playing.");
    } else {
        eprintln!(
            "cargo demo: building agent, broker and collector first. That takes 4 to 8 minutes on two cores, once;\n\
             after that the demo starts within seconds. It then plays real recordings through all of them."
        );
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(&cargo);
    // What cargo told this program about itself would look like a changed setting to crates that watch it.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            build.env_remove(&name);
        }
    }
    let error = build
        .args(["run", "--locked", "--package", "headwater-tests", "--bin", "demo", "--"])
        .args(std::env::args_os().skip(1))
        .exec();
    eprintln!("cargo demo: failed to start {}: {error}", cargo.display());
    ExitCode::FAILURE
}

//! `headwater-agent selftest`, printed.

use super::say;
use crate::selftest::{self, Check};
use anyhow::{Context, Result};
use std::path::Path;

/// True if all checks are well.
pub(super) fn selftest(parent: Option<&Path>, json: bool) -> Result<bool> {
    let usual = std::env::temp_dir();
    let parent = parent.unwrap_or(&usual);
    let report = selftest::run(parent).with_context(|| {
        format!("no folder can be made in {}; name one that is writable with --dir", parent.display())
    })?;
    if json {
        say(serde_json::to_string(&report)?)?;
        return Ok(report.ok);
    }
    say(format_args!("headwater-agent {} for {}, {} bit", report.version, report.arch, report.pointer_bits))?;
    for Check { name, ok, told, took_ms } in &report.checks {
        let mark = if *ok { " " } else { "!" };
        say(format_args!("{mark} {name:<8}{took_ms:>6} ms  {told}"))?;
    }
    say(if report.ok { "all is well" } else { "this build does not work on this machine" })?;
    Ok(report.ok)
}

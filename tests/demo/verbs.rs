//! The `headwater` and `headwater-collector` commands, as the demo uses them: this binary in another role.

use anyhow::{Context, Result, bail};
use headwater_tests::roles::ROLE;
use std::path::Path;
use std::process::{Command, Output};

/// What a `headwater` command on the lake says.
pub(crate) fn headwater(lake: &Path, words: &[&str]) -> Result<Output> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args([ROLE, "headwater", "--lake"]).arg(lake).args(words);
    command.output().with_context(|| format!("failed to run headwater {}", words.join(" ")))
}

/// Its standard output; an error with its own words if it refuses.
pub(crate) fn told(lake: &Path, words: &[&str]) -> Result<String> {
    let done = headwater(lake, words)?;
    if !done.status.success() {
        bail!("headwater {} failed: {}", words.join(" "), String::from_utf8_lossy(&done.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// An error with the collector's words if it would not start with this configuration.
pub(crate) fn check_collector(config: &Path) -> Result<()> {
    let done = Command::new(std::env::current_exe()?)
        .args([ROLE, "collector", "check", "--config"])
        .arg(config)
        .output()
        .context("failed to run headwater-collector check")?;
    match done.status.success() {
        true => Ok(()),
        false => bail!("{}", String::from_utf8_lossy(&done.stderr).trim()),
    }
}

//! Other people's readers and writers, as children of this process: pyarrow and DuckDB in Python.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Python with pyarrow, DuckDB and pyiceberg: `HEADWATER_PYTHON`, or the environment that `tests/run` makes.
pub(crate) fn python() -> Option<PathBuf> {
    let named = std::env::var_os("HEADWATER_PYTHON").map(PathBuf::from);
    let made = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/venv/bin/python");
    let beside = std::env::current_exe().ok().and_then(|program| {
        let target = program.parent()?.parent()?;
        Some(target.join("venv/bin/python"))
    });
    named.into_iter().chain(beside).chain([made]).find(|path| path.exists())
}

/// Says on stderr that a comparison is left out, and why.
pub(crate) fn without(what: &str) {
    eprintln!(
        "left out: {what}. It needs Python with tests/conformance/requirements.txt: run `tests/run tools-python`, or name one in HEADWATER_PYTHON"
    );
}

/// Runs a script of this folder and reads the JSON it prints. It is killed by nobody: what it does is bounded by its input.
pub(super) fn run<S: AsRef<OsStr>>(python: &Path, script: &str, args: &[S]) -> Result<Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let done = Command::new(python)
        .arg(folder.join("benches/lake").join(script))
        .args(args)
        .env("PYTHONPATH", folder.join("conformance"))
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("failed to start {}", python.display()))?;
    if !done.status.success() {
        bail!("{script} failed: {}", String::from_utf8_lossy(&done.stderr));
    }
    serde_json::from_slice(&done.stdout).with_context(|| format!("{script} printed no JSON"))
}

/// A number of the answer.
pub(crate) fn number(answer: &Value, name: &str) -> Result<f64> {
    answer.get(name).and_then(Value::as_f64).with_context(|| format!("the script says nothing of {name}"))
}

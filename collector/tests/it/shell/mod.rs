//! The command line as its tests use it.

use serde_json::Value;
use std::process::{Command, Output, Stdio};

/// The `headwater` command on a lake of its own folder, by anna, without a terminal.
pub(crate) struct Shell {
    dir: tempfile::TempDir,
}

impl Shell {
    pub(crate) fn new() -> Shell {
        Shell { dir: tempfile::tempdir().unwrap() }
    }

    /// Where its lake is, or shall be.
    pub(crate) fn lake(&self) -> &str {
        self.dir.path().to_str().unwrap()
    }

    pub(crate) fn run(&self, words: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_headwater"))
            .env("HEADWATER_LAKE", self.dir.path())
            .env("HEADWATER_AUTHOR", "anna")
            .args(words)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// What it printed; anything on standard error is a failure.
    pub(crate) fn ok(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(output.status.success() && output.stderr.is_empty(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn json(&self, words: &[&str]) -> Value {
        let words: Vec<&str> = words.iter().copied().chain(["--json"]).collect();
        serde_json::from_str(&self.ok(&words)).unwrap_or_else(|e| panic!("{words:?}: {e}"))
    }

    /// What it said on standard error, with this exit code.
    pub(crate) fn fails(&self, code: i32, words: &[&str]) -> String {
        let output = self.run(words);
        assert_eq!(output.status.code(), Some(code), "{words:?}: {output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    /// Rows of a table in a commit.
    pub(crate) fn rows(&self, table: &str, at: &str) -> u64 {
        let tables = self.json(&["tables", "--at", at]);
        let found = tables.as_array().unwrap().iter().find(|row| row["name"] == table);
        found.map_or(0, |row| row["rows"].as_u64().unwrap())
    }
}

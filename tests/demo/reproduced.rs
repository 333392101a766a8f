//! The last commits with aligned rows, made anew from their raw rows by `headwater reproduce` and compared.

use crate::verbs;
use anyhow::{Context, Result};
use headwater_lake::{CommitObject, Lake};
use serde_json::{Value, json};
use std::path::Path;

/// Commits made anew: each reads all captures once more.
const COMMITS: usize = 2;

/// What `headwater reproduce` says of one commit.
#[derive(Debug)]
pub(crate) struct Reproduced {
    commit: String,
    same: bool,
    rows: u64,
    tables: Vec<String>,
    /// Its words where something differs.
    said: String,
}

impl Reproduced {
    /// Makes the last commits with aligned rows anew.
    pub(crate) async fn read(lake: &Path) -> Result<Vec<Self>> {
        let opened = Lake::open(&lake.display().to_string()).await?;
        let log = opened.log("main", usize::MAX).await?;
        let changed = log.windows(2).filter(|pair| aligned(&pair[0]) != aligned(&pair[1]));
        let commits: Vec<String> = changed.map(|pair| pair[0].id.to_string()).take(COMMITS).collect();
        commits.into_iter().map(|commit| Self::of(lake, commit)).collect()
    }

    fn of(lake: &Path, commit: String) -> Result<Self> {
        let done = verbs::headwater(lake, &["--json", "reproduce", &commit])?;
        let report: Value = serde_json::from_slice(&done.stdout).with_context(|| {
            format!("headwater reproduce says no JSON: {}", String::from_utf8_lossy(&done.stderr).trim())
        })?;
        let partitions = || report["partitions"].as_array().into_iter().flatten();
        let mut tables: Vec<String> =
            partitions().filter_map(|one| one["table"].as_str().map(str::to_owned)).collect();
        tables.dedup();
        Ok(Self {
            rows: partitions().filter_map(|one| one["rows"].as_u64()).sum(),
            same: done.status.success() && report["same"] == true,
            tables,
            said: report.to_string(),
            commit,
        })
    }

    /// True if it came out the same, and there was something to compare.
    pub(crate) fn is_right(&self) -> bool {
        self.same && self.rows > 0
    }

    pub(crate) fn json(&self) -> Value {
        json!({"commit": self.commit, "same": self.same, "rows": self.rows, "tables": self.tables})
    }

    pub(crate) fn print(&self) {
        let id = self.commit.get(..12).unwrap_or(&self.commit);
        match self.same {
            true => {
                println!("  {id}  {} rows of {}: byte for byte the same", self.rows, self.tables.join(", "))
            }
            false => println!("  {id}  DIFFERS: {}", self.said),
        }
    }
}

/// What a commit says of its aligned tables.
fn aligned(commit: &CommitObject) -> Vec<String> {
    let tables = commit.tables.iter().filter(|(name, _)| name.namespace() == "aligned");
    tables.map(|(name, entry)| format!("{name} {entry:?}")).collect()
}

//! The audit log: every change asked for over HTTP, made or refused, as one line of JSON that is never changed again.
//!
//! A change is taken only while its line can be written. The file is turned at a bound and a few old ones are kept, so
//! it cannot fill a disk; the commits themselves say who made them for as long as they are kept.

use serde::Serialize;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Bytes of one file: some two hundred thousand changes.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// Files kept, the newest included: a year of one change every three minutes, in half a gigabyte.
const FILES_MAX: u32 = 8;

/// One change that was asked for.
#[derive(Debug, Clone, Serialize)]
pub struct AuditEntry {
    /// When, UTC µs.
    pub time_us: i64,
    /// Name of the token, or `local`.
    pub who: String,
    /// The program that asked, in its own words.
    pub agent: String,
    /// What was asked for, such as `commit` or `drop`.
    pub op: String,
    /// The branch, tag or commit.
    pub r#ref: String,
    /// Tables meant.
    pub tables: Vec<String>,
    /// What became of it.
    pub result: AuditResult,
    /// HTTP status answered.
    pub status: u16,
    /// The commit made.
    pub commit: Option<String>,
    /// Why not.
    pub error: Option<String>,
}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditResult {
    /// A commit was made.
    Committed,
    /// Nothing was to be done: it had been made before.
    Unchanged,
    /// A rule, a role or a requirement said no.
    Refused,
    /// Something broke; nothing was done.
    Failed,
    /// Nobody knows yet whether it was made.
    Unknown,
}

impl AuditResult {
    /// Its name in the log and as a metric's label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::Unchanged => "unchanged",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }
}

/// Where entries go.
#[derive(Debug, Default)]
pub struct AuditLog {
    file: Option<Mutex<Rotating>>,
}

#[derive(Debug)]
struct Rotating {
    path: PathBuf,
    bytes_max: u64,
    open: Option<(File, u64)>,
}

impl AuditLog {
    /// Entries go to `path`, and to the program's own log.
    #[must_use]
    pub fn in_file(path: &Path) -> Self {
        Self::bounded(path, FILE_BYTES_MAX)
    }

    fn bounded(path: &Path, bytes_max: u64) -> Self {
        Self { file: Some(Mutex::new(Rotating { path: path.to_owned(), bytes_max, open: None })) }
    }

    /// Makes sure that an entry can be written. Blocks for as long as opening a file takes.
    ///
    /// # Errors
    /// When it cannot.
    pub fn ready(&self) -> std::io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        file.lock().unwrap_or_else(PoisonError::into_inner).opened().map(|_| ())
    }

    /// Writes an entry and syncs it.
    ///
    /// # Errors
    /// When it is not written.
    pub fn append(&self, entry: &AuditEntry) -> std::io::Result<()> {
        let mut line = serde_json::to_string(entry)?;
        tracing::info!(
            who = entry.who,
            op = entry.op,
            name = entry.r#ref,
            result = entry.result.as_str(),
            commit = entry.commit,
            error = entry.error,
            "change asked for over http"
        );
        let Some(file) = &self.file else { return Ok(()) };
        line.push('\n');
        file.lock().unwrap_or_else(PoisonError::into_inner).append(line.as_bytes())
    }
}

impl Rotating {
    fn opened(&mut self) -> std::io::Result<&mut (File, u64)> {
        if self.open.is_none() {
            let file = OpenOptions::new().create(true).append(true).open(&self.path)?;
            let bytes = file.metadata()?.len();
            self.open = Some((file, bytes));
        }
        self.open.as_mut().ok_or_else(|| std::io::Error::other("it was opened just now"))
    }

    fn append(&mut self, line: &[u8]) -> std::io::Result<()> {
        let bytes_max = self.bytes_max;
        if self.opened()?.1 >= bytes_max {
            self.turn()?;
        }
        let (file, bytes) = self.opened()?;
        let written = file.write_all(line).and_then(|()| file.sync_data());
        *bytes = bytes.saturating_add(line.len() as u64);
        if written.is_err() {
            // What was half written is not added to: the next entry opens the file anew.
            self.open = None;
        }
        written
    }

    /// `audit.jsonl` becomes `audit.jsonl.1`, that `.2`, and so on; the last is gone.
    fn turn(&mut self) -> std::io::Result<()> {
        self.open = None;
        let numbered = |n: u32| match n {
            0 => self.path.clone(),
            n => PathBuf::from(format!("{}.{n}", self.path.display())),
        };
        for n in (0..FILES_MAX.saturating_sub(1)).rev() {
            match std::fs::rename(numbered(n), numbered(n.saturating_add(1))) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(op: &str) -> AuditEntry {
        AuditEntry {
            time_us: 1,
            who: "alice".into(),
            agent: "test".into(),
            op: op.into(),
            r#ref: "exp/a".into(),
            tables: vec!["raw.imu".into()],
            result: AuditResult::Committed,
            status: 200,
            commit: Some("00".into()),
            error: None,
        }
    }

    #[test]
    fn entries_are_appended_and_the_file_is_turned_at_its_bound() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let log = AuditLog::bounded(&path, 600);
        for n in 0..40 {
            log.append(&entry(&format!("op{n}"))).unwrap();
        }
        let mut files: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        assert_eq!(files.len(), FILES_MAX as usize);
        let newest = std::fs::read_to_string(&path).unwrap();
        let last: serde_json::Value = serde_json::from_str(newest.lines().last().unwrap()).unwrap();
        assert_eq!((last["op"].as_str(), last["result"].as_str()), (Some("op39"), Some("committed")));
        // Another process goes on where this one left.
        AuditLog::bounded(&path, 1 << 20).append(&entry("op40")).unwrap();
        assert!(std::fs::read_to_string(&path).unwrap().starts_with(&newest));
    }

    #[test]
    fn a_log_that_cannot_be_written_says_so_beforehand() {
        let folder = tempfile::tempdir().unwrap();
        let log = AuditLog::in_file(&folder.path().join("missing/audit.jsonl"));
        assert!(log.ready().is_err());
        AuditLog::default().ready().unwrap();
    }
}

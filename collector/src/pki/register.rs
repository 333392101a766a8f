//! The register: every certificate a CA issued, one JSON object a line, so that it can be revoked by name.

use super::PkiError;
use super::files;
use headwater_core::time::UtcNanos;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Name of the file in the CA's folder.
const FILE: &str = "issued.jsonl";

/// What a certificate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A gateway's.
    Device,
    /// A collector's.
    Collector,
    /// A CA below ours.
    Intermediate,
}

/// One certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issued {
    /// Serial number, lower-case hex.
    pub serial: String,
    /// Its CN.
    pub name: String,
    /// What it is.
    pub role: Role,
    /// `tls`, `sign` or `ca`.
    pub key_use: String,
    /// Names and addresses of a server.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// Start of validity, s since 1970.
    pub not_before_s: i64,
    /// End of validity, s since 1970.
    pub not_after_s: i64,
    /// When it was issued, s since 1970.
    pub issued_s: i64,
}

impl Issued {
    /// True if it is valid at `now`, as far as dates go.
    #[must_use]
    pub fn is_current(&self, now: UtcNanos) -> bool {
        let now_s = now.0.div_euclid(headwater_core::time::NS_PER_S);
        self.not_before_s <= now_s && now_s < self.not_after_s
    }
}

/// Every certificate issued in `dir`, oldest first.
///
/// # Errors
/// [`PkiError`] names the file, and the line that cannot be read.
pub fn issued(dir: &Path) -> Result<Vec<Issued>, PkiError> {
    let path = dir.join(FILE);
    let text = files::read_if_there(&path)?.unwrap_or_default();
    let entry = |(at, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|error| PkiError::Content {
            path: path.clone(),
            reason: format!("line {}: {error}", at.saturating_add(1)),
        })
    };
    // An unterminated last line was never handed out; the next entry takes its place.
    let whole = text.rfind('\n').and_then(|end| text.get(..end)).unwrap_or_default();
    whole.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).map(entry).collect()
}

/// Adds a certificate. To be called before it is handed out: one that is not here cannot be revoked by name.
pub(super) fn note(dir: &Path, entry: &Issued) -> Result<(), PkiError> {
    let line = serde_json::to_string(entry)
        .map_err(|error| PkiError::Content { path: dir.join(FILE), reason: error.to_string() })?;
    files::append(&dir.join(FILE), &line)
}

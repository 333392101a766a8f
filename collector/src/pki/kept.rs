//! What was granted for tokens, kept beside them: whoever did not get the answer asks again and gets the same.
//!
//! A file is written before the register, the register before the token is used up, and that before the answer. So a
//! crash or a lost answer anywhere leaves something that the same token with the same keys picks up, and nobody else.

use super::enroll::Granted;
use super::register::Issued;
use super::token::Token;
use super::{PkiError, files};
use headwater_core::id::{DeviceId, Sha256};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Folder in that of the CA.
const FOLDER: &str = "granted";

/// Which grant: of this token, for these keys of this name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GrantId {
    token: String,
    keys: String,
}

impl GrantId {
    /// That of a token for public keys, as their requests have them.
    pub(super) fn new(token: &str, name: &DeviceId, tls: &[u8], sign: &[u8]) -> Self {
        let name = name.as_str().as_bytes();
        let keys = Sha256::of(&[name, b"\n", tls, b"\n", sign].concat()).to_string();
        Self { token: token.to_owned(), keys }
    }

    /// As a token notes it.
    pub(super) fn keys(&self) -> &str {
        &self.keys
    }

    fn file(&self, dir: &Path) -> PathBuf {
        dir.join(FOLDER).join(format!("{}-{}.json", self.token, self.keys))
    }
}

/// A grant with what the register says of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) granted: Granted,
    pub(super) certificates: Vec<Issued>,
}

/// The grant that is kept, if there is one.
pub(super) fn read(dir: &Path, id: &GrantId) -> Result<Option<Kept>, PkiError> {
    let path = id.file(dir);
    files::read_if_there(&path)?
        .map(|text| {
            serde_json::from_str(&text).map_err(|error| PkiError::Content { path, reason: error.to_string() })
        })
        .transpose()
}

/// Keeps a grant.
pub(super) fn write(dir: &Path, id: &GrantId, kept: &Kept) -> Result<(), PkiError> {
    files::make_dir(&dir.join(FOLDER))?;
    let path = id.file(dir);
    let text = serde_json::to_string(kept)
        .map_err(|error| PkiError::Content { path: path.clone(), reason: error.to_string() })?;
    files::write_secret(&path, &text)
}

/// Forgets the grants of tokens that are no more.
pub(super) fn forget_all_but(dir: &Path, tokens: &[Token]) -> Result<(), PkiError> {
    let folder = dir.join(FOLDER);
    let failed = |source| PkiError::File { what: "clear", path: folder.clone(), source };
    let entries = match std::fs::read_dir(&folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(failed)?,
    };
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let of = name.to_string_lossy().split('-').next().unwrap_or_default().to_owned();
        if !tokens.iter().any(|token| token.id == of) {
            std::fs::remove_file(entry.path()).map_err(failed)?;
        }
    }
    Ok(())
}

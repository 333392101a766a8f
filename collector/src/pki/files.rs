//! Files of certificates and keys: written whole or not at all, and keys for their owner alone.

use super::PkiError;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Name of the file whose lock orders those who write in a CA's folder.
const LOCK: &str = ".lock";

pub(super) fn make_dir(dir: &Path) -> Result<(), PkiError> {
    if fs::metadata(dir).is_ok_and(|found| !found.is_dir()) {
        let reason = "it is a file; name a folder".to_owned();
        return Err(PkiError::Content { path: dir.to_owned(), reason });
    }
    fs::create_dir_all(dir).map_err(|source| PkiError::File { what: "create", path: dir.to_owned(), source })
}

pub(super) fn read(path: &Path) -> Result<String, PkiError> {
    fs::read_to_string(path).map_err(|source| PkiError::File { what: "read", path: path.to_owned(), source })
}

/// The same; `None` if there is no such file.
pub(super) fn read_if_there(path: &Path) -> Result<Option<String>, PkiError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(PkiError::File { what: "read", path: path.to_owned(), source }),
    }
}

pub(super) fn write_public(path: &Path, text: &str) -> Result<(), PkiError> {
    replace(path, text, 0o644)
}

/// A file that only its owner may read, from its first byte on.
pub(super) fn write_secret(path: &Path, text: &str) -> Result<(), PkiError> {
    replace(path, text, 0o600)
}

/// Adds a line to a file that only grows, and syncs it. An unterminated last line, which a power cut may leave, goes:
/// nobody was given what it says.
pub(super) fn append(path: &Path, line: &str) -> Result<(), PkiError> {
    let failed = |source| PkiError::File { what: "write", path: path.to_owned(), source };
    let mut file =
        OpenOptions::new().read(true).append(true).create(true).mode(0o644).open(path).map_err(failed)?;
    let mut there = Vec::new();
    file.read_to_end(&mut there).map_err(failed)?;
    let whole = there.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end.saturating_add(1));
    if whole < there.len() {
        file.set_len(whole as u64).map_err(failed)?;
    }
    file.write_all(format!("{line}\n").as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
}

/// Readers see the old file or the new one, also after a power cut.
fn replace(path: &Path, text: &str, mode: u32) -> Result<(), PkiError> {
    let failed = |source| PkiError::File { what: "write", path: path.to_owned(), source };
    let fresh = path.with_extension(match path.extension().and_then(|extension| extension.to_str()) {
        Some(extension) => format!("{extension}.new"),
        None => "new".to_owned(),
    });
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&fresh).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&fresh, path).map_err(failed)?;
    match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) => File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed),
        None => Ok(()),
    }
}

/// Held while a CA's folder is changed: a command and the enrolment service may be at it at once.
#[derive(Debug)]
pub(super) struct Held(#[expect(dead_code, reason = "closing it frees the lock")] File);

/// Waits for the lock of a CA's folder.
pub(super) fn lock(dir: &Path) -> Result<Held, PkiError> {
    let path = dir.join(LOCK);
    let failed = |source| PkiError::File { what: "lock", path: path.clone(), source };
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(failed)?;
    file.lock().map_err(failed)?;
    Ok(Held(file))
}

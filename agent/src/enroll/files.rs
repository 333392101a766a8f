//! Replacing keys and certificates: all of them or none, also when the power goes in between.
//!
//! New files are written as `<file>.next` and synced; then a mark says that they are complete; then each takes its
//! place; then the mark goes. Whoever finds the mark finishes the work, and without it the old files are still whole.

use crate::config::IdentityFiles;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};

/// A file to be, and whether only its owner may read it.
pub(super) struct Fresh<'a> {
    pub(super) path: &'a Path,
    pub(super) text: &'a str,
    pub(super) secret: bool,
}

/// Replaces files, with `mark` to tell that all are written.
pub(super) fn replace(files: &[Fresh<'_>], mark: &Path) -> io::Result<()> {
    for file in files {
        write(&with(file.path, ".next"), file.text, file.secret, file.path)?;
    }
    write(mark, "", true, mark)?;
    sync_folders(files.iter().map(|file| file.path).chain([mark]))?;
    let paths: Vec<PathBuf> = files.iter().map(|file| file.path.to_owned()).collect();
    finish(&paths, mark)
}

/// Finishes a replacement that a power cut interrupted. What cannot be done now is tried again at the next load.
pub fn finish_replacing(files: &IdentityFiles) {
    let mark = mark_of(files);
    if mark.exists()
        && let Err(error) = finish(&files.all(), &mark)
    {
        tracing::warn!(%error, "renewed certificates cannot take their place yet");
    }
}

/// The mark of a gateway's files.
pub(super) fn mark_of(files: &IdentityFiles) -> PathBuf {
    with(&files.sign_cert, ".renewed")
}

fn finish(paths: &[PathBuf], mark: &Path) -> io::Result<()> {
    for path in paths {
        match fs::rename(with(path, ".next"), path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    sync_folders(paths.iter().map(PathBuf::as_path))?;
    fs::remove_file(mark)?;
    sync_folders([mark].into_iter())
}

/// A new file beside its place, of the owner of what it replaces, else of its folder: a person enrols as root, and the
/// agent that reads the files is not.
fn write(path: &Path, text: &str, secret: bool, place: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mode = if secret { 0o600 } else { 0o644 };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())?;
    let folder = place.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let owner = fs::metadata(place).or_else(|_| fs::metadata(folder))?;
    let ours = file.metadata()?;
    if (owner.uid(), owner.gid()) != (ours.uid(), ours.gid()) {
        chown(path, Some(owner.uid()), Some(owner.gid()))?;
    }
    file.sync_all()
}

fn sync_folders<'a>(paths: impl Iterator<Item = &'a Path>) -> io::Result<()> {
    let mut folders: Vec<&Path> = paths.filter_map(Path::parent).collect();
    folders.sort_unstable();
    folders.dedup();
    for folder in folders {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

fn with(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn identity(dir: &Path) -> IdentityFiles {
        let at = |name: &str| dir.join(name);
        IdentityFiles {
            ca: at("ca.pem"),
            tls_cert: at("tls.pem"),
            tls_key: at("tls.key"),
            sign_cert: at("sign.pem"),
            sign_key: at("sign.key"),
            crl: None,
            renew: None,
        }
    }

    fn read_all(files: &IdentityFiles) -> Vec<String> {
        files.all().iter().map(|path| fs::read_to_string(path).unwrap()).collect()
    }

    #[test]
    fn a_cut_at_any_step_leaves_all_old_or_all_new() {
        let dir = tempfile::tempdir().unwrap();
        let files = identity(dir.path());
        let paths = files.all();
        let mark = mark_of(&files);
        let fresh: Vec<Fresh<'_>> =
            paths.iter().map(|path| Fresh { path, text: "new", secret: true }).collect();
        // Steps: each .next, the mark, each rename. Cut after each.
        for cut in 0..=2 * paths.len() + 1 {
            for path in &paths {
                fs::write(path, "old").unwrap();
                drop(fs::remove_file(with(path, ".next")));
            }
            drop(fs::remove_file(&mark));
            for path in paths.iter().take(cut) {
                write(&with(path, ".next"), "new", true, path).unwrap();
            }
            if cut > paths.len() {
                write(&mark, "", true, &mark).unwrap();
            }
            for path in paths.iter().take(cut.saturating_sub(paths.len() + 1)) {
                fs::rename(with(path, ".next"), path).unwrap();
            }
            finish_replacing(&files);
            let wanted = if cut > paths.len() { "new" } else { "old" };
            assert!(read_all(&files).iter().all(|text| text == wanted), "cut {cut}: {:?}", read_all(&files));
            assert!(!mark.exists());
        }
        replace(&fresh, &mark).unwrap();
        assert!(read_all(&files).iter().all(|text| text == "new"));
        assert!(paths.iter().all(|path| fs::metadata(path).unwrap().permissions().mode() & 0o777 == 0o600));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), paths.len());
    }
}

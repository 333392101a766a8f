//! Replacing keys and certificates: all of them or none, also when the power goes in between.
//!
//! New files are written as `<file>.next` and synced; then a mark takes its place that names each with its SHA-256;
//! then each takes its place; then the mark goes. Whoever finds the mark finishes the work, and without it the old files
//! are still whole. What the mark does not name, such as the `ca.pem.next` of an enrolment that was cut short, or names
//! with other content, is no part of it and takes nobody's place.

use crate::config::IdentityFiles;
use headwater_core::id::Sha256;
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

/// Replaces files, with `mark` to tell that all are written. An earlier replacement that is complete comes first.
pub(super) fn replace(files: &[Fresh<'_>], mark: &Path) -> io::Result<()> {
    finish(mark)?;
    for file in files {
        write(&with(file.path, ".next"), file.text, file.secret, file.path)?;
    }
    sync_folders(files.iter().map(|file| file.path))?;
    let named: String = files.iter().map(|file| format!("{}\n", Named::line(file))).collect();
    write_whole(mark, &format!("{named}{END}\n"))?;
    finish(mark)
}

/// Finishes a replacement that a power cut interrupted. What cannot be done now is tried again at the next load.
pub fn finish_replacing(files: &IdentityFiles) {
    if let Err(error) = finish(&mark_of(files)) {
        tracing::warn!(%error, "renewed certificates cannot take their place yet");
    }
}

/// The mark of a gateway's files.
pub(super) fn mark_of(files: &IdentityFiles) -> PathBuf {
    with(&files.sign_cert, ".renewed")
}

/// Last line of a whole mark.
const END: &str = "complete";

/// A line of the mark.
struct Named {
    sha256: String,
    path: PathBuf,
}

impl Named {
    fn line(file: &Fresh<'_>) -> String {
        let path: String =
            file.path.as_os_str().as_encoded_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{} {path}", Sha256::of(file.text.as_bytes()))
    }

    fn read(line: &str) -> Option<Self> {
        use std::os::unix::ffi::OsStringExt;
        let (sha256, path) = line.split_once(' ')?;
        let byte = |at: usize| u8::from_str_radix(path.get(at..at.checked_add(2)?)?, 16).ok();
        let path = (0..path.len()).step_by(2).map(byte).collect::<Option<Vec<u8>>>()?;
        Some(Self { sha256: sha256.to_owned(), path: OsString::from_vec(path).into() })
    }

    fn is(&self, path: &Path) -> io::Result<bool> {
        match fs::read(path) {
            Ok(bytes) => Ok(Sha256::of(&bytes).to_string() == self.sha256),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// What a mark names; `None` if it is not whole: then it says nothing.
fn named(text: &str) -> Option<Vec<Named>> {
    text.strip_suffix('\n')?.strip_suffix(END)?.lines().map(Named::read).collect()
}

/// Puts what the mark names in its place. Two processes may be at it at once: each step is done by whoever comes first.
fn finish(mark: &Path) -> io::Result<()> {
    let text = match fs::read_to_string(mark) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        // Bytes that are no text are no whole mark either.
        Err(error) if error.kind() == io::ErrorKind::InvalidData => String::new(),
        text => text?,
    };
    let files = named(&text).unwrap_or_default();
    // All or nothing: first see that each is here or in its place already.
    for file in &files {
        if !file.is(&with(&file.path, ".next"))? && !file.is(&file.path)? {
            tracing::warn!(file = %file.path.display(), "a replacement is not whole any more; files stay as they are");
            return forget(mark);
        }
    }
    for file in &files {
        let next = with(&file.path, ".next");
        if file.is(&next)? {
            match fs::rename(&next, &file.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    sync_folders(files.iter().map(|file| file.path.as_path()))?;
    forget(mark)
}

fn forget(mark: &Path) -> io::Result<()> {
    match fs::remove_file(mark) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    sync_folders([mark].into_iter())
}

/// Writes a file that only its owner may read, so that it is the old one or the whole new one.
pub(super) fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let fresh = with(path, ".new");
    write(&fresh, text, true, path)?;
    fs::rename(&fresh, path)?;
    sync_folders([path].into_iter())
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

    fn all_fresh<'a>(paths: &'a [PathBuf], text: &'a str) -> Vec<Fresh<'a>> {
        paths.iter().map(|path| Fresh { path, text, secret: true }).collect()
    }

    fn mark_text(files: &[Fresh<'_>]) -> String {
        let named: String = files.iter().map(|file| format!("{}\n", Named::line(file))).collect();
        format!("{named}{END}\n")
    }

    #[test]
    fn a_cut_at_any_step_leaves_all_old_or_all_new() {
        let dir = tempfile::tempdir().unwrap();
        let files = identity(dir.path());
        let paths = files.all();
        let mark = mark_of(&files);
        let fresh = all_fresh(&paths, "new");
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
                write(&mark, &mark_text(&fresh), true, &mark).unwrap();
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

    /// An enrolment into another fleet was cut before its mark and left a `ca.pem.next`; a later renewal, which brings
    /// no CA, was cut after its own. Whoever finished it put the other fleet's CA in its place.
    #[test]
    fn a_stale_ca_of_an_enrolment_cut_short_never_takes_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let files = identity(dir.path());
        let paths = files.all();
        let mark = mark_of(&files);
        let renewed: Vec<PathBuf> = paths.iter().filter(|path| **path != files.ca).cloned().collect();
        let fresh = all_fresh(&renewed, "renewed");
        for cut in 0..=2 * renewed.len() + 1 {
            drop(fs::remove_file(&mark));
            for path in &paths {
                fs::write(path, "old").unwrap();
                // Of the enrolment, cut before its mark.
                fs::write(with(path, ".next"), "another fleet's").unwrap();
            }
            for path in renewed.iter().take(cut) {
                write(&with(path, ".next"), "renewed", true, path).unwrap();
            }
            if cut > renewed.len() {
                write(&mark, &mark_text(&fresh), true, &mark).unwrap();
            }
            for path in renewed.iter().take(cut.saturating_sub(renewed.len() + 1)) {
                fs::rename(with(path, ".next"), path).unwrap();
            }
            finish_replacing(&files);
            let wanted = if cut > renewed.len() { "renewed" } else { "old" };
            let texts = read_all(&files);
            assert_eq!(texts[0], "old", "cut {cut}: the roots stay");
            assert!(texts[1..].iter().all(|text| text == wanted), "cut {cut}: {texts:?}");
            // The next one is whole whatever lies about.
            replace(&all_fresh(&renewed, "later"), &mark).unwrap();
            assert_eq!(read_all(&files)[0], "old", "cut {cut}");
            assert!(read_all(&files)[1..].iter().all(|text| text == "later"), "cut {cut}");
        }
    }

    /// A rotation of the CA cut after its mark, and before anyone finished it a renewal begins and is cut, too.
    #[test]
    fn a_replacement_begun_over_one_that_is_complete_finishes_that_first() {
        let dir = tempfile::tempdir().unwrap();
        let files = identity(dir.path());
        let paths = files.all();
        let mark = mark_of(&files);
        let renewed: Vec<PathBuf> = paths.iter().filter(|path| **path != files.ca).cloned().collect();
        for done in 0..=paths.len() {
            for path in &paths {
                fs::write(path, "old").unwrap();
                write(&with(path, ".next"), "rotated", true, path).unwrap();
            }
            write(&mark, &mark_text(&all_fresh(&paths, "rotated")), true, &mark).unwrap();
            for path in paths.iter().take(done) {
                fs::rename(with(path, ".next"), path).unwrap();
            }
            replace(&all_fresh(&renewed, "renewed"), &mark).unwrap();
            let texts = read_all(&files);
            assert_eq!(texts[0], "rotated", "after {done} renames");
            assert!(texts[1..].iter().all(|text| text == "renewed"), "after {done} renames: {texts:?}");
        }
    }

    #[test]
    fn a_mark_that_is_torn_or_names_what_is_gone_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let files = identity(dir.path());
        let paths = files.all();
        let mark = mark_of(&files);
        let whole = mark_text(&all_fresh(&paths, "new"));
        let prepare = || {
            for path in &paths {
                fs::write(path, "old").unwrap();
                fs::write(with(path, ".next"), "new").unwrap();
            }
        };
        for cut in 0..whole.len() {
            prepare();
            fs::write(&mark, &whole[..cut]).unwrap();
            finish_replacing(&files);
            assert!(read_all(&files).iter().all(|text| text == "old"), "cut at {cut}");
            assert!(!mark.exists(), "cut at {cut}");
        }
        for path in &paths {
            prepare();
            fs::write(with(path, ".next"), "of a later try").unwrap();
            fs::write(&mark, &whole).unwrap();
            finish_replacing(&files);
            assert!(read_all(&files).iter().all(|text| text == "old"), "{} is another", path.display());
        }
        fs::write(&mark, [0xff, 0xfe]).unwrap();
        finish_replacing(&files);
        assert!(!mark.exists());
    }
}

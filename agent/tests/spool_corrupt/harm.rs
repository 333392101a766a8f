//! Ways to hurt a file.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// One way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Harm {
    Empty,
    Half,
    FlipStart,
    FlipMiddle,
    FlipEnd,
    Longer,
    Delete,
    Swap,
    Folder,
}

impl Harm {
    pub(crate) const ALL: [Harm; 9] = [
        Self::Empty,
        Self::Half,
        Self::FlipStart,
        Self::FlipMiddle,
        Self::FlipEnd,
        Self::Longer,
        Self::Delete,
        Self::Swap,
        Self::Folder,
    ];

    /// Hurts `file` of the spool in `dir`; gives the files hurt, or none if this way does not apply.
    pub(crate) fn does(self, dir: &Path, file: &Path, all: &[PathBuf]) -> Option<Vec<PathBuf>> {
        let path = dir.join(file);
        let len = fs::metadata(&path).unwrap().len();
        let cut = |len: u64| fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(len).unwrap();
        match self {
            Self::Empty => cut(0),
            Self::Half => cut(len / 2),
            Self::FlipStart | Self::FlipMiddle | Self::FlipEnd if len == 0 => return None,
            Self::FlipStart => flip(&path, 0),
            Self::FlipMiddle => flip(&path, len / 2),
            Self::FlipEnd => flip(&path, len - 1),
            Self::Longer => {
                let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
                file.write_all_at(&[0x5a; 777], len).unwrap();
            }
            Self::Delete => fs::remove_file(&path).unwrap(),
            Self::Swap => {
                let other = all.iter().find(|other| {
                    let like = other.parent() == file.parent() && other.extension() == file.extension();
                    *other != file && like && dir.join(other).exists()
                })?;
                let held = dir.join("held");
                fs::rename(&path, &held).unwrap();
                fs::rename(dir.join(other), &path).unwrap();
                fs::rename(&held, dir.join(other)).unwrap();
                return Some(vec![file.to_owned(), other.clone()]);
            }
            Self::Folder => {
                fs::remove_file(&path).unwrap();
                fs::create_dir(&path).unwrap();
                fs::write(path.join("inside"), "anything").unwrap();
            }
        }
        Some(vec![file.to_owned()])
    }
}

/// Flips all bits of four bytes around `at`.
fn flip(path: &Path, at: u64) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let from = at.saturating_sub(3);
    let mut bytes = vec![0; (file.metadata().unwrap().len() - from).min(4) as usize];
    file.read_exact_at(&mut bytes, from).unwrap();
    bytes.iter_mut().for_each(|byte| *byte = !*byte);
    file.write_all_at(&bytes, from).unwrap();
}

/// Files below a folder, relative to it.
pub(crate) fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path)
            } else {
                files.push(path.strip_prefix(dir).unwrap().to_owned())
            }
        }
    }
    files.sort();
    files
}

/// Copies a folder with all in it.
pub(crate) fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_tree(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

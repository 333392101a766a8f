//! An initial file system for Linux: a cpio archive of the kind `newc`, as Documentation/driver-api/early-userspace/
//! buffer-format.rst of the kernel describes it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const DEVICE: u32 = 0o020_000;

/// An archive in the making.
#[derive(Debug, Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    names: BTreeSet<String>,
}

impl Archive {
    /// A file under `name`, without a slash in front; folders above it come by themselves.
    pub(super) fn file(&mut self, name: &str, mode: u32, content: Vec<u8>) {
        self.above(name);
        if self.names.insert(name.to_owned()) {
            self.entry(name, FILE | mode, &content, [0, 0]);
        }
    }

    /// A program of this host with the libraries it names.
    pub(super) fn program(&mut self, name: &str, from: &Path) {
        self.file(name, 0o755, std::fs::read(from).unwrap());
        for library in libraries(from) {
            let place = library.to_str().unwrap().trim_start_matches('/').to_owned();
            self.file(&place, 0o755, std::fs::read(&library).unwrap());
        }
    }

    /// A folder of this host with its files.
    pub(super) fn folder(&mut self, name: &str, from: &Path) {
        for entry in std::fs::read_dir(from).unwrap() {
            let path = entry.unwrap().path();
            let inside = format!("{name}/{}", path.file_name().unwrap().to_str().unwrap());
            if path.is_dir() {
                self.folder(&inside, &path);
            } else {
                self.file(&inside, 0o600, std::fs::read(&path).unwrap());
            }
        }
    }

    /// The whole, with the console the first process needs.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.above("dev/console");
        self.entry("dev/console", DEVICE | 0o600, &[], [5, 1]);
        self.entry("TRAILER!!!", 0, &[], [0, 0]);
        self.bytes
    }

    fn above(&mut self, name: &str) {
        for (at, _) in name.match_indices('/') {
            if self.names.insert(name[..at].to_owned()) {
                self.entry(&name[..at], FOLDER | 0o755, &[], [0, 0]);
            }
        }
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8], device: [u32; 2]) {
        let size = u32::try_from(content.len()).unwrap();
        let number = u32::try_from(self.names.len()).unwrap();
        let name_size = u32::try_from(name.len() + 1).unwrap();
        // ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
        let fields = [number, mode, 0, 0, 1, 0, size, 0, 0, device[0], device[1], name_size, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// The shared libraries of a program, the loader among them; none of a static one.
fn libraries(program: &Path) -> Vec<PathBuf> {
    let listed = Command::new("ldd").arg(program).output().unwrap();
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    text.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect()
}

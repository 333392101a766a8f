//! Serial ports of this machine, by names that last, without those that are not ours to open.

use crate::source::port_info::{PortKind, port_kind};
use crate::source::sys::SysTree;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Most ports that are listened to.
pub const PORTS_MAX: usize = 16;
/// How names of ports begin, those with a plug first.
const NAMES: [&str; 6] = ["ttyUSB", "ttyACM", "ttyAMA", "ttymxc", "ttyTHS", "ttyS"];
/// Folders with lasting names, the best first.
const LASTING: [&str; 3] = ["/dev/serial/by-id", "/dev/headwater", "/dev/serial/by-path"];

/// A port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// By its most lasting name.
    pub path: PathBuf,
    /// The kernel's name.
    pub tty: String,
    /// What it is.
    pub kind: PortKind,
    /// Why nobody may listen to it.
    pub barred: Option<String>,
}

/// All of them, at most [`PORTS_MAX`]. `taken` are device files that others read.
#[must_use]
pub fn candidates(tree: &SysTree, taken: &[String]) -> Vec<Candidate> {
    let consoles = consoles(tree);
    let lasting = lasting(tree);
    let taken: BTreeSet<PathBuf> = taken.iter().map(|path| real(tree, Path::new(path))).collect();
    let devices = tree.names("/dev");
    let mut found = Vec::new();
    for tty in NAMES.iter().flat_map(|like| devices.iter().filter(move |name| is_port(name, like))) {
        let device = Path::new("/dev").join(tty);
        if !has_hardware(tree, tty) || found.len() >= PORTS_MAX {
            continue;
        }
        let barred = if consoles.contains(tty) {
            Some("it is the console: free it with raspi-config, Interface Options, Serial Port".to_owned())
        } else if taken.contains(&real(tree, &device)) {
            Some("gpsd reads it".to_owned())
        } else {
            None
        };
        let path = lasting.get(&real(tree, &device)).cloned().unwrap_or_else(|| device.clone());
        let kind = port_kind(&tree.path(&device), &tree.path("/sys"));
        found.push(Candidate { path, tty: tty.clone(), kind, barred });
    }
    found
}

fn is_port(name: &str, like: &str) -> bool {
    name.strip_prefix(like).is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

/// The driver of PC ports names some that are not there: their type is 0.
fn has_hardware(tree: &SysTree, tty: &str) -> bool {
    !tty.starts_with("ttyS") || tree.text(format!("/sys/class/tty/{tty}/type")).as_deref() != Some("0")
}

/// Ports on which the kernel talks to people.
fn consoles(tree: &SysTree) -> BTreeSet<String> {
    let text = tree.text("/sys/class/tty/console/active").unwrap_or_default();
    text.split_ascii_whitespace().map(str::to_owned).collect()
}

fn real(tree: &SysTree, path: &Path) -> PathBuf {
    let path = tree.path(path);
    fs::canonicalize(&path).unwrap_or(path)
}

/// The most lasting name of each device file.
fn lasting(tree: &SysTree) -> BTreeMap<PathBuf, PathBuf> {
    let mut best = BTreeMap::new();
    for folder in LASTING {
        for name in tree.names(folder) {
            let path = Path::new(folder).join(name);
            best.entry(real(tree, &path)).or_insert(path);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn ports_have_lasting_names_and_consoles_are_left_alone() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        for folder in
            ["dev/serial/by-id", "sys/class/tty/console", "sys/class/tty/ttyS1", "sys/class/tty/ttyS0"]
        {
            fs::create_dir_all(at(folder)).unwrap();
        }
        for tty in ["ttyUSB0", "ttyUSB1", "ttyACM0", "ttyAMA0", "ttyS0", "ttyS1", "tty1", "ttyprintk"] {
            fs::write(at("dev").join(tty), "").unwrap();
        }
        symlink("../../ttyUSB1", at("dev/serial/by-id/usb-FTDI_FT232R-if00-port0")).unwrap();
        fs::write(at("sys/class/tty/console/active"), "tty1 ttyAMA0\n").unwrap();
        fs::write(at("sys/class/tty/ttyS0/type"), "4\n").unwrap();
        fs::write(at("sys/class/tty/ttyS1/type"), "0\n").unwrap();
        let found = candidates(&SysTree::at(root.path()), &["/dev/ttyACM0".to_owned()]);
        let found: Vec<_> = found
            .iter()
            .map(|port| (port.tty.as_str(), port.path.to_str().unwrap(), port.barred.is_some()))
            .collect();
        assert_eq!(
            found,
            [
                ("ttyUSB0", "/dev/ttyUSB0", false),
                ("ttyUSB1", "/dev/serial/by-id/usb-FTDI_FT232R-if00-port0", false),
                ("ttyACM0", "/dev/ttyACM0", true),
                ("ttyAMA0", "/dev/ttyAMA0", true),
                ("ttyS0", "/dev/ttyS0", false),
            ]
        );
    }

    #[test]
    fn ports_are_bounded() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("dev")).unwrap();
        for n in 0..PORTS_MAX + 5 {
            fs::write(root.path().join(format!("dev/ttyUSB{n}")), "").unwrap();
        }
        assert_eq!(candidates(&SysTree::at(root.path()), &[]).len(), PORTS_MAX);
    }
}

//! The files in which the kernel tells of devices: `/sys` and `/proc`, or a folder that stands for `/`.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Most bytes read of a file: sysfs gives a page at most, `/proc/stat` of many cores some ten KiB.
pub const FILE_BYTES_MAX: u64 = 64 << 10;
/// Most names taken of a folder: a chip has some hundred files at most.
pub const ENTRIES_MAX: usize = 1_024;

/// A root under which `sys/` and `proc/` lie. Reads may block for as long as a driver likes.
#[derive(Debug, Clone)]
pub struct SysTree {
    root: PathBuf,
}

/// Room of a file system, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// All of it.
    pub total: u64,
    /// What anybody but root may still take.
    pub free: u64,
}

impl SysTree {
    /// The tree below `root`.
    #[must_use]
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// This machine's.
    #[must_use]
    pub fn gateway() -> Self {
        Self::at("/")
    }

    /// Where `path` lies.
    #[must_use]
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// What a file says, without blanks around it, cut after [`FILE_BYTES_MAX`] bytes; bytes that are no text become `�`.
    ///
    /// # Errors
    /// What the system, or the driver behind the file, says.
    pub fn read(&self, path: impl AsRef<Path>) -> io::Result<String> {
        let mut bytes = Vec::new();
        File::open(self.path(path))?.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    /// The same, where a file that cannot be read says nothing.
    #[must_use]
    pub fn text(&self, path: impl AsRef<Path>) -> Option<String> {
        self.read(path).ok()
    }

    /// Names in a folder, sorted; none if it is not there. At most [`ENTRIES_MAX`].
    #[must_use]
    pub fn names(&self, path: impl AsRef<Path>) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path(path)) else { return Vec::new() };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<String> = names.take(ENTRIES_MAX).collect();
        names.sort();
        names
    }

    /// Whether there is such a file or folder.
    #[must_use]
    pub fn has(&self, path: impl AsRef<Path>) -> bool {
        self.path(path).exists()
    }

    /// Name of the hardware that a class or bus device belongs to, such as `1-0076` (address 0x76 on I²C bus 1): where its
    /// `device` leads, else the folder in which the device itself really lies.
    #[must_use]
    pub fn owner(&self, path: impl AsRef<Path>) -> Option<String> {
        let path = self.path(path);
        let name = |path: &Path| path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
        if let Ok(owner) = fs::canonicalize(path.join("device")) {
            return name(&owner);
        }
        if !path.symlink_metadata().is_ok_and(|found| found.is_symlink()) {
            return None;
        }
        name(fs::canonicalize(&path).ok()?.parent()?)
    }

    /// Room of the file system that holds `path`.
    #[must_use]
    pub fn room(&self, path: impl AsRef<Path>) -> Option<Room> {
        let found = rustix::fs::statvfs(self.path(path)).ok()?;
        let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        Some(Room { total: bytes(found.f_blocks), free: bytes(found.f_bavail) })
    }
}

/// A decimal number as the kernel prints it: a sign, digits and a point, and nothing else.
pub(super) fn decimal(text: &str) -> Option<f64> {
    /// Nanos of a 64-bit number: no driver prints more.
    const DIGITS_MAX: usize = 32;
    let text = text.trim();
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let plain = digits.len() <= DIGITS_MAX && digits.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    text.parse().ok().filter(|_| plain)
}

/// A name that can be part of a stream's: `a-z 0-9 . _ -`.
pub(super) fn stream_part(text: &str) -> String {
    let plain = |c: char| match c.to_ascii_lowercase() {
        c if c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c) => c,
        _ => '-',
    };
    text.trim().chars().map(plain).take(NAME_CHARS_MAX).collect()
}

/// A name that can be part of a field's: `a-z 0-9 _`, no two `_` in a row and none at the ends.
pub(super) fn field_part(text: &str) -> String {
    let mut name = String::new();
    for c in text.chars().map(|c| c.to_ascii_lowercase()) {
        let plain = c.is_ascii_lowercase() || c.is_ascii_digit();
        if plain {
            name.push(c);
        } else if !name.is_empty() && !name.ends_with('_') {
            name.push('_');
        }
        if name.len() >= NAME_CHARS_MAX {
            break;
        }
    }
    name.trim_end_matches('_').to_owned()
}

/// Longest part of a name that is taken from the kernel: two of them and what is ours fit a field's 63 bytes.
const NAME_CHARS_MAX: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn numbers_of_the_kernel_are_read_and_nothing_else() {
        assert_eq!(decimal("23.450000000\n"), Some(23.45));
        assert_eq!(decimal("-12"), Some(-12.0));
        for bad in ["", "-", ".", "1e3", "nan", "inf", "0x10", "1 2", "1.2.3", "12 dB"] {
            assert_eq!(decimal(bad), None, "{bad}");
        }
    }

    #[test]
    fn names_become_names_of_ours() {
        assert_eq!(stream_part("soc:firmware"), "soc-firmware");
        assert_eq!(stream_part("BME280 "), "bme280");
        assert_eq!(field_part("Package id 0"), "package_id_0");
        assert_eq!(field_part("+3.3V (VCC)"), "3_3v_vcc");
        assert_eq!(field_part("°"), "");
    }

    #[test]
    fn a_device_is_named_after_its_hardware_whatever_its_number() {
        let root = tempfile::tempdir().unwrap();
        let chip = root.path().join("sys/devices/platform/i2c-1/1-0076");
        fs::create_dir_all(chip.join("iio:device3")).unwrap();
        fs::create_dir_all(root.path().join("sys/bus/iio/devices")).unwrap();
        symlink(chip.join("iio:device3"), root.path().join("sys/bus/iio/devices/iio:device3")).unwrap();
        let tree = SysTree::at(root.path());
        assert_eq!(tree.owner("/sys/bus/iio/devices/iio:device3").as_deref(), Some("1-0076"));
        assert_eq!(tree.owner("/sys/devices/platform/i2c-1/1-0076"), None, "no link, and no `device`");
        let hwmon = root.path().join("sys/devices/virtual/hwmon/hwmon7");
        fs::create_dir_all(&hwmon).unwrap();
        symlink(&chip, hwmon.join("device")).unwrap();
        assert_eq!(tree.owner("/sys/devices/virtual/hwmon/hwmon7").as_deref(), Some("1-0076"));
        assert_eq!(tree.owner("/sys/class/hwmon/hwmon9"), None);
        assert!(tree.room("/").is_some_and(|room| room.total >= room.free));
    }

    #[test]
    fn files_are_read_up_to_their_bound() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("proc")).unwrap();
        fs::write(root.path().join("proc/flood"), vec![b'x'; 200_000]).unwrap();
        let tree = SysTree::at(root.path());
        assert_eq!(tree.text("/proc/flood").map(|text| text.len()), Some(65_536));
        assert_eq!(tree.text("/proc/nothing"), None);
        assert!(tree.names("/proc/nothing").is_empty());
        for n in 0..ENTRIES_MAX + 10 {
            fs::write(root.path().join(format!("proc/{n}")), "").unwrap();
        }
        assert_eq!(tree.names("/proc").len(), ENTRIES_MAX);
    }

    proptest! {
        #[test]
        fn names_follow_their_rules(text in "\\PC{0,80}") {
            let stream = stream_part(&text);
            prop_assert!(stream.is_empty() || stream.parse::<headwater_core::id::StreamName>().is_ok(), "{stream}");
            let field = format!("x_{}", field_part(&text));
            prop_assert!(field.trim_end_matches('_').parse::<headwater_core::id::FieldName>().is_ok(), "{field}");
            decimal(&text);
        }
    }
}

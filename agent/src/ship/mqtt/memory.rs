//! What is known of brokers over restarts: a small JSON file, of which nothing but speed depends.
//!
//! ```json
//! {"last_good": "mqtts://b:8883", "brokers": {"mqtts://b:8883": {"mqtt": "3.1.1", "connects_since_5": 12}}}
//! ```

use headwater_mqtt::{Version, VersionsKnown};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// Largest file read, bytes; ours has a line for each broker of the configuration.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// The file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Memory {
    /// The broker that had us connected last.
    pub(super) last_good: Option<String>,
    /// By URL.
    pub(super) brokers: BTreeMap<String, Remembered>,
}

/// One broker.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Remembered {
    mqtt: String,
    connects_since_5: u32,
}

impl Remembered {
    pub(super) fn new(version: Version, connects_since_5: u32) -> Self {
        Self { mqtt: version.to_string(), connects_since_5 }
    }

    fn version(&self) -> Option<Version> {
        [Version::V5, Version::V311].into_iter().find(|version| version.to_string() == self.mqtt)
    }

    pub(super) fn known(&self) -> VersionsKnown {
        VersionsKnown::new(self.version(), self.connects_since_5)
    }
}

impl Memory {
    /// Reads the file; one that is missing or damaged is as good as an empty one.
    pub(super) fn read(file: &Path) -> Self {
        let small = std::fs::metadata(file).is_ok_and(|found| found.len() <= FILE_BYTES_MAX);
        let text = if small { std::fs::read(file).unwrap_or_default() } else { Vec::new() };
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Writes it so that a reader sees the old one or the new one.
    pub(super) fn write(&self, file: &Path) -> io::Result<()> {
        let fresh = file.with_extension("json.new");
        std::fs::write(&fresh, serde_json::to_vec(self).map_err(io::Error::other)?)?;
        std::fs::rename(&fresh, file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_back_and_damage_is_no_harm() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("uplink.json");
        assert_eq!(Memory::read(&file), Memory::default());
        let memory = Memory {
            last_good: Some("mqtts://b:8883".into()),
            brokers: [("mqtts://b:8883".into(), Remembered::new(Version::V311, 12))].into(),
        };
        memory.write(&file).unwrap();
        assert_eq!(Memory::read(&file), memory);
        assert_eq!(memory.brokers["mqtts://b:8883"].version(), Some(Version::V311));
        std::fs::write(&file, b"{\"last_good\": 7").unwrap();
        assert_eq!(Memory::read(&file), Memory::default());
    }
}

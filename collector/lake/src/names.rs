//! Names of refs, tables and commits as types, so that a bad one is refused at the rim and never becomes a path.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest accepted ref or table name in bytes: keys stay far below the 255 bytes a file name may have.
pub const NAME_BYTES_MAX: usize = 160;

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// The ref name breaks the rule.
    #[error(
        "ref name {name:?} is not made of lower-case segments `[a-z0-9][a-z0-9._-]*` joined by `/`, e.g. `main` or `wap/01j9x`"
    )]
    Ref {
        /// What was given.
        name: String,
    },
    /// The table name breaks the rule.
    #[error("table name {name:?} is not `<namespace>.<table>` in lower case, e.g. `raw.imu`")]
    Table {
        /// What was given.
        name: String,
    },
    /// The text is not a commit id.
    #[error("{name:?} is not a commit id: 64 lower-case hex digits")]
    Commit {
        /// What was given.
        name: String,
    },
    /// The pattern of ref names breaks the rule.
    #[error(
        "{pattern:?} is no pattern of ref names: a name in which `*` stands for signs within a segment, and `**` at the end for all that follows, e.g. `release/*`"
    )]
    Pattern {
        /// What was given.
        pattern: String,
    },
    /// The text is not a SHA-256 in hex.
    #[error("{name:?} is not a SHA-256: 64 lower-case hex digits")]
    Sha256 {
        /// What was given.
        name: String,
    },
}

fn is_segment(segment: &str) -> bool {
    let head = segment.as_bytes().first();
    head.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        && segment
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-'))
}

pub(crate) fn is_sha256_hex(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

macro_rules! text_type {
    ($name:ident) => {
        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(name: String) -> Result<Self, NameError> {
                $name::new(name)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(name: &str) -> Result<Self, NameError> {
                $name::new(name)
            }
        }
    };
}

/// A branch or tag: lower-case segments joined by `/`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RefName(String);

impl RefName {
    /// Checks and keeps `name`.
    ///
    /// # Errors
    /// [`NameError::Ref`] when a segment is empty, upper-case or holds other signs.
    pub fn new(name: impl Into<String>) -> Result<RefName, NameError> {
        let name = name.into();
        if name.len() <= NAME_BYTES_MAX && name.split('/').all(is_segment) {
            Ok(RefName(name))
        } else {
            Err(NameError::Ref { name })
        }
    }

    /// The ref every lake starts with.
    pub fn main() -> RefName {
        RefName("main".to_owned())
    }

    /// The flat key in the store: `/` becomes `+`, so that `wap` and `wap/x` never clash as folder and file.
    pub fn key(&self) -> String {
        self.0.replace('/', "+")
    }

    /// The name behind a key of the store.
    pub(crate) fn from_key(key: &str) -> Result<RefName, NameError> {
        RefName::new(key.replace('+', "/"))
    }
}

text_type!(RefName);

/// A table: `<namespace>.<table>`, e.g. `raw.imu`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TableName(String);

impl TableName {
    /// Checks and keeps `name`.
    ///
    /// # Errors
    /// [`NameError::Table`] unless it is two lower-case parts joined by one dot.
    pub fn new(name: impl Into<String>) -> Result<TableName, NameError> {
        let name = name.into();
        let parts: Vec<&str> = name.split('.').collect();
        if name.len() <= NAME_BYTES_MAX && parts.len() == 2 && parts.iter().all(|part| is_segment(part)) {
            Ok(TableName(name))
        } else {
            Err(NameError::Table { name })
        }
    }

    /// The part before the dot.
    pub fn namespace(&self) -> &str {
        self.0.split_once('.').map_or("", |(namespace, _)| namespace)
    }

    /// The part after the dot.
    pub fn table(&self) -> &str {
        self.0.split_once('.').map_or("", |(_, table)| table)
    }
}

text_type!(TableName);

/// A commit: hex SHA-256 of its canonical JSON without `id`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CommitId(String);

impl CommitId {
    /// Checks and keeps a full id.
    ///
    /// # Errors
    /// [`NameError::Commit`] unless it is 64 lower-case hex digits.
    pub fn new(name: impl Into<String>) -> Result<CommitId, NameError> {
        let name = name.into();
        if is_sha256_hex(&name) { Ok(CommitId(name)) } else { Err(NameError::Commit { name }) }
    }

    /// The first twelve digits, for people.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }

    pub(crate) fn digest_of(bytes: &[u8]) -> CommitId {
        CommitId(sha256_hex(bytes))
    }
}

text_type!(CommitId);

/// Lower-case hex SHA-256 of `bytes`.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parsed_once_and_strictly() {
        for good in ["main", "wap/01j9x", "a.b_c-d/0"] {
            let name = RefName::new(good).unwrap();
            assert_eq!(RefName::from_key(&name.key()).unwrap(), name);
        }
        for bad in [
            "", "Main", "a//b", "/a", "a/", ".x", "a b", "a~1", "a@b", "a+b", "ä", "..", "../main", "a/../b",
            "a/..", "a\\b", "a%2fb", "a\0b", "main/", "a\nb", "-a",
        ] {
            assert!(RefName::new(bad).is_err(), "{bad}");
        }
        assert!(RefName::new("a".repeat(NAME_BYTES_MAX)).is_ok());
        assert!(RefName::new("a".repeat(NAME_BYTES_MAX + 1)).is_err());
        assert_eq!(TableName::new("raw.imu").unwrap().table(), "imu");
        for bad in ["raw", "raw.", ".imu", "raw.a.b", "Raw.imu", "raw/imu"] {
            assert!(TableName::new(bad).is_err(), "{bad}");
        }
        assert!(CommitId::new("00").is_err());
    }
}

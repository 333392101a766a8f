//! A set of keys that takes 16 bytes a key: a lake of millions of files is marked in tens of megabytes.

use std::collections::HashSet;

/// Keys by the first 128 bits of their SHA-256. Two keys that fell together would only keep one file too many.
#[derive(Debug, Default)]
pub(crate) struct KeySet(HashSet<u128>);

/// The number a key stands under.
pub(crate) fn number_of(key: &str) -> u128 {
    let digest = ring::digest::digest(&ring::digest::SHA256, key.as_bytes());
    digest.as_ref().iter().take(16).fold(0, |number, byte| number << 8 | u128::from(*byte))
}

impl KeySet {
    /// True if the key is new.
    pub(crate) fn insert(&mut self, key: &str) -> bool {
        self.0.insert(number_of(key))
    }

    pub(crate) fn contains(&self, key: &str) -> bool {
        self.0.contains(&number_of(key))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

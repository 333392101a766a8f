//! A set of keys that takes 16 bytes a key: a lake of millions of files is marked in tens of megabytes.

use std::collections::HashSet;

use bytes::Bytes;
use serde::Serialize;

use crate::error::LakeError;
use crate::repo::canonical;
use crate::store::LakeStore;

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

    fn add_number(&mut self, number: u128) {
        self.0.insert(number);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Where a repair notes what is lost for good, so that it is not missed again.
const LOST: &str = "_repo/audit/lost";

#[derive(Serialize)]
struct Lost<'a> {
    v: u32,
    key: &'a str,
    time_us: i64,
}

/// Notes an object as lost: the collector and the check no longer stop at it.
pub(crate) async fn give_up(store: &LakeStore, key: &str, time_us: i64) -> Result<(), LakeError> {
    let note = format!("{LOST}/{:032x}.json", number_of(key));
    let bytes = canonical::to_bytes(&Lost { v: 1, key, time_us });
    let bytes = bytes.map_err(|reason| LakeError::corrupt(&note, reason))?;
    store.create(&note, Bytes::from(bytes)).await.map(|_| ())
}

/// Everything noted as lost.
pub(crate) async fn lost(store: &LakeStore) -> Result<KeySet, LakeError> {
    let mut keys = KeySet::default();
    for name in store.names_in(LOST).await? {
        let number = name.strip_suffix(".json").and_then(|digits| u128::from_str_radix(digits, 16).ok());
        if let Some(number) = number {
            keys.add_number(number);
        }
    }
    Ok(keys)
}

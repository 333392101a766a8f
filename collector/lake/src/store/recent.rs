//! Manifests that this process wrote or read lately. They are named by a uuid and never change, so what is here is what the
//! store holds: who merges manifests of its own making reads nothing, and a commit stays two round trips.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// Bytes of manifests kept per open lake: thirty small ones of each of two hundred tables, or a hundred thousand files.
const KEPT_BYTES_MAX: usize = 64 << 20;

/// A larger manifest is read again when it is wanted: it would drive out too many others.
const ONE_BYTES_MAX: usize = 8 << 20;

/// What is kept of manifests, for figures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ManifestsKept {
    /// Manifests in memory.
    pub count: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Manifests that were forgotten for others or never kept because of their size, since the lake was opened.
    pub forgotten: u64,
}

/// The manifests, by URL; the one used longest ago goes first.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    by_url: HashMap<String, (u64, Bytes)>,
    by_use: BTreeMap<u64, String>,
    /// Grows with every use.
    uses: u64,
    bytes: usize,
    forgotten: u64,
}

impl Recent {
    /// Keeps the bytes of the manifest at `url`, if they are few enough.
    pub(crate) fn keep(&self, url: &str, bytes: Bytes) {
        self.lock().keep(url, bytes, ONE_BYTES_MAX, KEPT_BYTES_MAX);
    }

    /// The manifest at `url`, which counts as a use.
    pub(crate) fn get(&self, url: &str) -> Option<Bytes> {
        self.lock().get(url)
    }

    /// Lets go of bytes that turned out to be none of a manifest: the store is asked again next time.
    pub(crate) fn forget(&self, url: &str) {
        self.lock().forget(url);
    }

    /// Whether the manifest at `url` is here. Asking is no use of it.
    pub(crate) fn holds(&self, url: &str) -> bool {
        self.lock().by_url.contains_key(url)
    }

    pub(crate) fn kept(&self) -> ManifestsKept {
        let state = self.lock();
        ManifestsKept { count: state.by_url.len(), bytes: state.bytes, forgotten: state.forgotten }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held; at worst something is read again.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn keep(&mut self, url: &str, bytes: Bytes, one_max: usize, all_max: usize) {
        if bytes.len() > one_max {
            self.forgotten += 1;
            return;
        }
        if self.by_url.contains_key(url) {
            return;
        }
        self.uses += 1;
        self.bytes += bytes.len();
        self.by_use.insert(self.uses, url.to_owned());
        self.by_url.insert(url.to_owned(), (self.uses, bytes));
        while self.bytes > all_max {
            let Some((_, oldest)) = self.by_use.pop_first() else { break };
            if let Some((_, bytes)) = self.by_url.remove(&oldest) {
                self.bytes -= bytes.len();
                self.forgotten += 1;
            }
        }
    }

    fn forget(&mut self, url: &str) {
        if let Some((used, bytes)) = self.by_url.remove(url) {
            self.by_use.remove(&used);
            self.bytes -= bytes.len();
        }
    }

    fn get(&mut self, url: &str) -> Option<Bytes> {
        let (used, bytes) = self.by_url.get_mut(url)?;
        self.uses += 1;
        if let Some(url) = self.by_use.remove(used) {
            self.by_use.insert(self.uses, url);
        }
        *used = self.uses;
        Some(bytes.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_used_longest_ago_goes_first_and_a_large_one_never_comes() {
        let mut state = State::default();
        let bytes = |n: usize| Bytes::from(vec![0; n]);
        for url in ["a", "b", "c"] {
            state.keep(url, bytes(10), 20, 30);
        }
        assert_eq!(state.get("a"), Some(bytes(10)));
        state.keep("c", bytes(10), 20, 30);
        assert_eq!((state.bytes, state.forgotten), (30, 0), "the same again is nothing new");
        state.keep("d", bytes(20), 20, 30);
        assert_eq!((state.bytes, state.forgotten), (30, 2), "b and c went for it");
        assert!(state.get("b").is_none() && state.get("c").is_none() && state.get("a").is_some());
        state.keep("e", bytes(21), 20, 30);
        assert!(state.get("e").is_none() && state.by_use.len() == 2);
        assert_eq!((state.bytes, state.forgotten), (30, 3));
        state.forget("a");
        state.forget("x");
        assert_eq!((state.bytes, state.by_use.len(), state.by_url.len()), (20, 1, 1));
    }
}

//! Answers kept in memory by what never changes under its name, bounded by bytes; the one used longest ago goes first.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::Arc;

/// Values by key.
#[derive(Debug)]
pub(super) struct Cache<K, V> {
    bytes_max: usize,
    bytes: usize,
    turn: u64,
    held: HashMap<K, Held<V>>,
    by_turn: BTreeMap<u64, K>,
}

#[derive(Debug)]
struct Held<V> {
    value: Arc<V>,
    bytes: usize,
    turn: u64,
}

impl<K: Clone + Eq + Hash, V> Cache<K, V> {
    /// An empty one that holds at most `bytes_max`.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, bytes: 0, turn: 0, held: HashMap::new(), by_turn: BTreeMap::new() }
    }

    /// The value of `key`, which is the newest used then.
    pub(super) fn get(&mut self, key: &K) -> Option<Arc<V>> {
        let turn = self.next_turn();
        let held = self.held.get_mut(key)?;
        self.by_turn.remove(&held.turn);
        held.turn = turn;
        self.by_turn.insert(turn, key.clone());
        Some(Arc::clone(&held.value))
    }

    /// Keeps a value that takes `bytes`; one larger than a quarter of the cache is not kept, so that it moves nothing out.
    pub(super) fn put(&mut self, key: K, value: Arc<V>, bytes: usize) {
        if bytes > self.bytes_max / 4 {
            return;
        }
        let turn = self.next_turn();
        if let Some(old) = self.held.insert(key.clone(), Held { value, bytes, turn }) {
            self.by_turn.remove(&old.turn);
            self.bytes = self.bytes.saturating_sub(old.bytes);
        }
        self.by_turn.insert(turn, key);
        self.bytes = self.bytes.saturating_add(bytes);
        while self.bytes > self.bytes_max
            && let Some((_, oldest)) = self.by_turn.pop_first()
        {
            if let Some(gone) = self.held.remove(&oldest) {
                self.bytes = self.bytes.saturating_sub(gone.bytes);
            }
        }
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn next_turn(&mut self) -> u64 {
        self.turn = self.turn.saturating_add(1);
        self.turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against a plain list, newest last.
        #[test]
        fn a_cache_keeps_the_newest_that_fit(steps in proptest::collection::vec((0u8..12, 1usize..40, any::<bool>()), 0..80)) {
            let mut cache = Cache::new(100);
            let mut model: Vec<(u8, usize)> = Vec::new();
            for (key, bytes, put) in steps {
                let known = model.iter().position(|(known, _)| *known == key);
                if put && bytes <= 25 {
                    known.map(|at| model.remove(at));
                    model.push((key, bytes));
                    while model.iter().map(|(_, bytes)| bytes).sum::<usize>() > 100 {
                        model.remove(0);
                    }
                    cache.put(key, Arc::new(bytes), bytes);
                } else if put {
                    cache.put(key, Arc::new(bytes), bytes);
                } else {
                    prop_assert_eq!(cache.get(&key).map(|value| *value), known.map(|at| model[at].1));
                    if let Some(at) = known {
                        let used = model.remove(at);
                        model.push(used);
                    }
                }
                prop_assert_eq!(cache.bytes(), model.iter().map(|(_, bytes)| bytes).sum::<usize>());
                prop_assert_eq!(cache.held.len(), cache.by_turn.len());
            }
        }
    }
}

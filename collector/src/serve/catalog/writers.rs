//! One writer per branch: changes of a branch queue here instead of racing each other at the store, and each finds the
//! state of the last one in memory.

use headwater_lake::{Lake, LakeWriter, RefName};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Branches whose state is kept in memory: a branch per person and some.
const WRITERS_MAX: usize = 64;

/// A branch's writer, for one change at a time.
pub(super) type Writer = Arc<tokio::sync::Mutex<LakeWriter>>;

/// Writers by branch.
#[derive(Debug, Default)]
pub(super) struct Writers {
    held: Mutex<HashMap<RefName, Writer>>,
}

impl Writers {
    /// The writer of a branch.
    pub(super) fn of(&self, lake: &Lake, name: &RefName) -> Writer {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.len() >= WRITERS_MAX && !held.contains_key(name) {
            // Those nobody holds; what they know is read again when it is needed.
            held.retain(|_, writer| Arc::strong_count(writer) > 1);
        }
        let new = || Arc::new(tokio::sync::Mutex::new(lake.writer(name.clone(), "rest".to_owned())));
        Arc::clone(held.entry(name.clone()).or_insert_with(new))
    }
}

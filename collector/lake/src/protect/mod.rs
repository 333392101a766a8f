//! Protected refs: nobody moves them directly, whichever client they use.
//!
//! What is protected is stored in the lake, so the command line, the catalog and every other user of this crate obey the
//! same list. Whoever holds the store's credentials can still write any object past it: it guards against mistakes.
//!
//! ```text
//! handle ── acting(warrant) ──▶ verb ──▶ plan ──▶ writer: head read, and with it what is protected ──▶ ref entry
//!                                                    own warrant on a protected ref: `LakeError::Protected`
//! ```
//! A writer learns what is protected whenever it reads the ref's head, so a commit costs no request more, and a ref that
//! is protected while a write is under way may still take that one.

mod pattern;
mod stored;

pub use pattern::{RefPattern, RefPatterns};
pub(crate) use stored::{Known, overridden};
pub use stored::{Protection, ProtectionChange};

use crate::names::RefName;

/// By what right a handle moves refs. It says what its user is, and keeps honest programs honest; it is no secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Warrant {
    /// A person's or program's own change: refused on protected refs.
    #[default]
    Own,
    /// Ingest: admitted rows, the collector's books, and aligned rows its gate has passed.
    Ingest,
    /// The lake's upkeep: the same rows in other files, what retention or an erasure takes, repairs.
    Upkeep,
    /// A change the gate has passed, or that a person waived by name.
    Judged,
    /// A person who said that protection shall not count; the ref log says so, too.
    Override,
}

/// A direct move of a protected ref.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "move {name}: it is protected (pattern {pattern}). Work on a branch of your own (headwater branch NAME {name}) and merge it, \
     which the gate judges; where that is no way, say --override, or lift it (headwater branch --unprotect '{pattern}')"
)]
pub struct Protected {
    /// The ref.
    pub name: RefName,
    /// The pattern that protects it.
    pub pattern: RefPattern,
}

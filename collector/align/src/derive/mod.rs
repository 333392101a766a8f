//! What is made of samples before they are matched, and of aligned rows after it.
//!
//! ```text
//! samples ─► prepare ─► matching ─► aligned rows ─► derived columns ─► episodes ─► split
//! ```
//! Both halves are pure: files, pictures and the answers of commands come in through [`port`]s, raw is never written.
//!
//! | module | holds |
//! |---|---|
//! | `model` | the declarations, checked |
//! | [`keys`] | their TOML keys, from which the JSON schema is made |
//! | [`parse`] | TOML to declarations, every mistake with its path |
//! | [`canonical`] | declarations to canonical JSON |
//! | [`place`] | geohash, H3 cells, fences |
//! | [`port`] | what comes in from outside |

pub mod canonical;
pub mod keys;
mod model;
pub mod parse;
pub mod place;
pub mod port;

pub use model::*;

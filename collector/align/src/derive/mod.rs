//! What is made of samples before they are matched, and of aligned rows after it.
//!
//! ```text
//! samples ─► prepare ─► matching ─► aligned rows ─► derived columns ─► episodes ─► split
//! ```
//! Both halves are pure: files, pictures and the answers of commands come in through [`port`]s, raw is never written.
//!
//! | module | holds |
//! |---|---|
//! | `columns` | which columns each reads and gives |
//! | `model` | the declarations, checked |
//! | [`keys`] | their TOML keys, from which the JSON schema is made |
//! | [`parse`] | TOML to declarations, every mistake with its path |
//! | [`canonical`] | declarations to canonical JSON |
//! | [`prepare`] | outliers, smoothing, resampling of samples |
//! | [`command`] | rows to a program and back, as Arrow IPC |
//! | [`place`] | geohash, H3 cells, fences |
//! | [`port`] | what comes in from outside |
//! | `stages` | what of it a row alone decides, and what the rows before it |

mod apply;
mod band;
pub mod canonical;
mod columns;
pub mod command;
mod episode;
mod image;
pub mod keys;
mod list;
mod model;
mod motion;
mod numbers;
mod output;
pub mod parse;
pub mod place;
pub mod port;
pub mod prepare;
#[cfg(test)]
mod reference;
mod stages;

pub use apply::{CommandFailure, DeriveError, DerivedRows, Deriver, Memory, apply};
pub use columns::{EPISODE_ID, EPISODE_INDEX, EPISODE_SPLIT};
pub use model::*;
pub use output::{DERIVED_KEY, UNIT_KEY, derived_schema};
pub use prepare::{PrepareError, Prepared, Reach, Span, prepare, prepared_schema, reach};
pub use stages::{Stages, stages};

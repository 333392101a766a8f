//! Align: which rows of a recipe are final, and the samples they are made of; `headwater-align` makes the rows.
//!
//! ```text
//! rows of commits, or of raw tables ─► pieces ─► buffers (columns, sorted) ─► final? ─► engine ─► window ─► gate
//! ```
//! A spine row is written once every column is known to be complete around it (coverage), or, after the idle timeout,
//! with `provisional = true`; its final row replaces a provisional one. Values, matches and finality depend on what was
//! captured and never on the order of arrival (L2).
//!
//! | module | holds |
//! |---|---|
//! | [`source`] | what a recipe reads, and what of it is declared |
//! | [`raw_rows`] | rows of raw tables as stamps and values |
//! | [`buffer`] | samples of one stream in memory |
//! | [`need`] | how far around an instant a column must be complete |
//! | [`complete`] | whether it is |
//! | [`aligner`] | one recipe over all devices |
//! | [`layout`] | the engine's plan and the table |
//! | [`Promise`] | a stream's word that nothing earlier comes |
//! | [`aside`] | rows beyond the allowed lateness, on their way to a table of their own |
//! | [`late`] | which final rows are done again, and for what stretch of time |
//! | [`derived`] | what is derived of aligned rows, in three stages |
//! | [`window`] | aligned rows on their way to the table |
//! | [`feature`] | programs as columns: their files, and the process |
//! | [`change`] | what differs between a stored row and the same made again |
//! | [`coverage`] | which spine rows are done, as a commit stores it |
//! | [`Scope`] | a part of history that is aligned by itself |

pub mod aligner;
pub mod aside;
mod beside;
pub mod buffer;
pub mod change;
mod clocks;
pub mod complete;
pub mod coverage;
pub mod derived;
mod entity;
pub mod feature;
pub mod late;
pub mod layout;
pub mod need;
mod promise;
pub mod raw_rows;
mod restore;
mod scope;
pub mod source;
pub mod window;

use headwater_core::id::{KindName, StreamName};
use std::collections::{BTreeMap, BTreeSet};

pub use beside::check_beside;
pub use promise::Promise;
pub(crate) use restore::{Books, Filling, fill, restore};
pub use scope::Scope;

/// Kinds by stream: a stream has one, but two devices may give one name to two kinds.
pub type StreamKinds = BTreeMap<StreamName, BTreeSet<KindName>>;

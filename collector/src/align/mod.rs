//! Align: brings streams onto the instants of a spine, as a recipe says.
//!
//! First form: an image stream as spine, columns by `method = "previous"` with a tolerance. A spine row is emitted once,
//! when every column is known to be complete up to its event time (coverage), or, after the idle timeout, with
//! `provisional = true`; a provisional row is not replaced later. Values, matches and finality depend on what was
//! captured and never on the order of arrival (L2).
//!
//! | module | holds |
//! |---|---|
//! | [`online`] | what of a recipe (`headwater_align::recipe`) can be done beside ingest; the rest is refused at start |
//! | [`asof`] | one column of one device: samples in order, the match, what is covered |
//! | [`aligner`] | one recipe over all devices |
//! | [`Promise`] | a stream's word that nothing earlier comes |
//! | [`window`] | aligned rows and their table |
//! | [`feature`] | programs as columns: their files, and the process |
//! | [`coverage`] | which spine rows are done, as a commit stores it |

pub mod aligner;
pub mod asof;
pub mod coverage;
pub mod feature;
pub mod online;
mod promise;
mod restore;
pub mod window;

pub use promise::Promise;
pub(crate) use restore::{StreamKinds, restore};

//! Alignment: streams brought onto the instants of a spine, as a recipe declares it, and judged before they are published.
//!
//! ```text
//! recipe (TOML) ─► Recipe ─┐
//! raw rows of an entity ───┴─► matching (integers) ─► gather (typed) ─► derive ─► aligned rows ─► gate rules
//! ```
//! Nothing here waits, reads a clock or knows a lake: Arrow goes in and Arrow comes out, and the same inputs give the
//! same bytes whatever the order of arrival (L2).
//!
//! | module | holds |
//! |---|---|
//! | [`recipe`] | the declaration |
//! | [`derive`] | what is made of samples before matching, and of aligned rows after it |
//! | [`expr`] | formulas over the columns of a row |
//! | [`gate`] | rules that judge rows before they are published |
//! | [`json`] | canonical JSON |
//! | [`picture`] | JPEG and PNG decoded within bounds |
//! | [`sql`] | a recipe as a query for other engines |
//! | [`sample`] | samples of one stream of one entity, their stamps as columns |
//! | [`engine`] | samples to aligned rows |

pub mod derive;
mod earth;
pub mod engine;
pub mod expr;
pub mod gate;
pub mod json;
pub mod picture;
pub mod recipe;
pub mod sample;
pub mod sql;

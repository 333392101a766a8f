//! Recipes: what an aligned table is made of, as TOML; checked whole, with every mistake named at once.
//!
//! | module | holds |
//! |---|---|
//! | `model` | a checked recipe as types |
//! | `keys` | every key with its shape and meaning; the reader and the JSON schema are made of it |
//! | [`schema`], `explain`, [`diff`] | the language for editors, a recipe in words, two recipes beside each other |
//! | `read` | TOML to model, collecting mistakes |
//! | `canonical`, `kept` | model to canonical JSON, and the id; and back |
//! | [`declared`], `check` | what the fleet declares, and a recipe held against it |

mod canonical;
mod check;
pub mod declared;
pub mod diff;
pub mod duration;
mod explain;
mod kept;
pub mod keys;
mod mistake;
mod model;
pub mod nearest;
mod outputs;
mod reach;
mod read;
pub mod reader;
pub mod schema;

pub use check::Findings;
pub use explain::{Explanation, Section};
pub use mistake::{Mistake, RecipeError};
pub use model::*;
pub use outputs::{Holds, OutputColumn, ROW_COLUMNS};
pub use read::{COLUMN_REACH_MAX_NS, RECIPE_COLUMNS_MAX};

#[cfg(test)]
pub(crate) mod tests;

//! Recipes: what an aligned table is made of.

pub mod duration;
pub mod keys;
mod mistake;
mod model;
pub mod nearest;
pub mod reader;

pub use mistake::{Mistake, RecipeError};
pub use model::*;

//! Recipes: what an aligned table is made of.

mod model;

pub use model::*;

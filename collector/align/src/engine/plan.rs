//! What a recipe makes of the declared fields: output columns and their types, settled once.

use super::error::PlanError;
use crate::recipe::Recipe;
use arrow_schema::{Schema, SchemaRef};
use std::sync::Arc;

/// Key of an Arrow field's metadata that holds its UCUM unit.
pub const UNIT_KEY: &str = "unit";

/// Fields as they will be fed, units in their metadata ([`UNIT_KEY`]).
///
/// The selected fields stand first, in the order of `select`; their names make the output names, so a caller may give
/// `image_hash` for the selected `image`. Further fields are not put out: `<field>_u` is a sample's own uncertainty of
/// `<field>` in its unit, `eph` and `epv` those of a position in m, and an event's condition may name any.
#[derive(Debug, Clone)]
pub struct Inputs {
    /// Of the spine; empty for a grid and a union.
    pub spine: SchemaRef,
    /// Of each column of the recipe, in order.
    pub columns: Vec<SchemaRef>,
}

/// Which groups of columns are put out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// `device`, `ts`, `ts_ns`, `ts_err_ns`, `grade`, `row_key`; without it `ts_ns` only.
    pub identity: bool,
    /// `<name>_src`.
    pub lineage: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { identity: true, lineage: true }
    }
}

/// A recipe and its fields, ready to run for any number of entities.
#[derive(Debug, Clone)]
pub struct Plan {
    recipe: Recipe,
    options: Options,
    schema: SchemaRef,
}

impl Plan {
    /// Settles a recipe for fields.
    ///
    /// # Errors
    /// What of the recipe the fields cannot bear.
    pub fn new(recipe: &Recipe, inputs: &Inputs, options: Options) -> Result<Self, PlanError> {
        if inputs.columns.len() != recipe.columns.len() {
            return Err(PlanError::Columns { recipe: recipe.columns.len(), inputs: inputs.columns.len() });
        }
        Ok(Self { recipe: recipe.clone(), options, schema: Arc::new(Schema::empty()) })
    }

    /// The recipe.
    #[must_use]
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// Which groups of columns are put out.
    #[must_use]
    pub fn options(&self) -> Options {
        self.options
    }

    /// Schema of the aligned rows.
    #[must_use]
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }
}

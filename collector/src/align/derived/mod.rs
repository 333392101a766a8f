//! What is derived of aligned rows, settled for the fields that are declared.
//!
//! ```text
//! rows of the engine ─► own (pictures, programs) ─► chain (motion, episodes) ─► after (programs) ─► rows of the table
//! ```
//! The first and the last stage are of each row alone. The chain goes through the final rows of one device in the order of
//! their times: [`chain`] says what it remembers, and `ingest/chaining` what becomes of rows that come between others.

pub mod chain;
#[cfg(test)]
mod tests;

use arrow_array::{RecordBatch, StringArray, cast::AsArray};
use arrow_schema::{ArrowError, DataType, Schema, SchemaRef};
use headwater_align::derive::port::{Commands, NoCommands, NoPictures, Pictures};
use headwater_align::derive::{
    Derivation, DeriveError, Derived, DerivedRows, Deriver, Episodes, Memory, Stages, derived_schema, stages,
};
use headwater_align::recipe::{Recipe, RecipeError};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Columns of identity that the chain rests on.
const IDENTITY: [&str; 3] = ["device", "ts_ns", "row_key"];

/// What a recipe derives of its rows.
#[derive(Debug, Clone)]
pub struct Derives {
    stages: Stages,
    episodes: Option<Episodes>,
    /// Columns of a whole row, in the order of the table.
    schema: SchemaRef,
}

impl Derives {
    /// What `recipe` derives of rows with the columns of `rows`; none if that is nothing. Columns whose inputs nobody has
    /// declared yet are left out, like those inputs are.
    ///
    /// # Errors
    /// What does not fit the columns, with its path in the recipe.
    pub fn new(recipe: &Recipe, rows: &Schema) -> Result<Option<Self>, RecipeError> {
        let mut names: BTreeSet<String> = rows.fields().iter().map(|field| field.name().clone()).collect();
        let is_there = |names: &BTreeSet<String>, column: &str| {
            names.contains(column) || names.contains(&format!("{column}_hash"))
        };
        let mut derived: Vec<Derived> = Vec::new();
        for one in &recipe.derived {
            if one.inputs().iter().all(|(_, column)| is_there(&names, column)) {
                names.extend(one.outputs());
                derived.push(one.clone());
            }
        }
        let episodes = recipe.episodes.clone();
        let episodes = episodes.filter(|of| of.inputs().iter().all(|(_, column)| names.contains(*column)));
        if derived.is_empty() && episodes.is_none() {
            return Ok(None);
        }
        let schema = derived_schema(&derived, episodes.as_ref(), rows).map_err(RecipeError)?;
        let stages = stages(&derived, episodes.as_ref()).map_err(RecipeError)?;
        Ok(Some(Self { stages, episodes, schema }))
    }

    /// Columns of a whole row.
    #[must_use]
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// True if rows rest on those before them.
    #[must_use]
    pub fn is_chained(&self) -> bool {
        !self.stages.chain.is_empty() || self.episodes.is_some()
    }

    /// True if something is taken of pictures or asked of programs, which takes its time.
    #[must_use]
    pub fn is_slow(&self) -> bool {
        let is_slow = |one: &Derived| matches!(one.by, Derivation::Picture { .. } | Derivation::Command(_));
        self.stages.own.iter().chain(&self.stages.after).any(is_slow)
    }

    /// Its programs' columns.
    pub fn commands(&self) -> impl Iterator<Item = &Derived> {
        let all = self.stages.own.iter().chain(&self.stages.after);
        all.filter(|one| matches!(one.by, Derivation::Command(_)))
    }

    /// The columns that are of a row alone.
    ///
    /// # Errors
    /// [`DeriveError`].
    pub fn own(
        &self,
        rows: RecordBatch,
        pictures: &dyn Pictures,
        commands: &mut dyn Commands,
    ) -> Result<DerivedRows, DeriveError> {
        Deriver::new(&self.stages.own, None).apply(rows, pictures, commands)
    }

    /// True if something is made of the chain's columns by programs.
    #[must_use]
    pub fn has_after(&self) -> bool {
        !self.stages.after.is_empty()
    }

    /// The columns that programs make of the chain's.
    ///
    /// # Errors
    /// [`DeriveError`].
    pub fn after(&self, rows: RecordBatch, commands: &mut dyn Commands) -> Result<DerivedRows, DeriveError> {
        Deriver::new(&self.stages.after, None).apply(rows, &NoPictures, commands)
    }

    /// Columns that the chain reads.
    #[must_use]
    pub fn chain_inputs(&self) -> BTreeSet<String> {
        let made = self.chain_outputs();
        let derived = self.stages.chain.iter().flat_map(Derived::inputs).map(|(_, column)| column.to_owned());
        let episodes = self.episodes.iter().flat_map(Episodes::inputs).map(|(_, column)| column.to_owned());
        let all = IDENTITY.iter().map(|name| (*name).to_owned()).chain(derived).chain(episodes);
        all.filter(|name| !made.contains(name)).collect()
    }

    /// Columns that it gives.
    #[must_use]
    pub fn chain_outputs(&self) -> Vec<String> {
        let derived = self.stages.chain.iter().flat_map(Derived::outputs);
        let episodes = self.episodes.iter().flat_map(Episodes::outputs).map(str::to_owned);
        derived.chain(episodes).collect()
    }

    /// Columns that are made of rows once the chain has been.
    #[must_use]
    pub fn after_outputs(&self) -> Vec<String> {
        self.stages.after.iter().flat_map(Derived::outputs).collect()
    }

    /// The chain's columns of rows of one device that follow those in `memory`; of `rows` only [`Self::chain_inputs`] are
    /// looked at. Gives what is remembered after them.
    ///
    /// # Errors
    /// [`DeriveError`].
    pub fn link(&self, rows: &RecordBatch, memory: Memory) -> Result<(RecordBatch, Memory), DeriveError> {
        let inputs = self.chain_inputs();
        let places = rows.schema_ref().fields().iter().enumerate();
        let places: Vec<usize> =
            places.filter(|(_, field)| inputs.contains(field.name())).map(|(place, _)| place).collect();
        let mut deriver = Deriver::resume(&self.stages.chain, self.episodes.as_ref(), memory);
        let made = deriver.apply(rows.project(&places)?, &NoPictures, &mut NoCommands)?.rows;
        let outputs: Vec<usize> = (places.len()..made.num_columns()).collect();
        Ok((made.project(&outputs)?, deriver.into_memory()))
    }

    /// How far back motion looks, ns; none if episodes rest on every row of the device.
    #[must_use]
    pub fn chain_reach_ns(&self) -> Option<i64> {
        let gap = |one: &Derived| match one.by {
            Derivation::Motion { max_gap_ns, .. } => max_gap_ns,
            _ => 0,
        };
        let all = self.stages.chain.iter().map(gap).fold(0_i64, i64::saturating_add);
        self.episodes.is_none().then_some(all)
    }

    /// Digests of the pictures that a row names, of which something is taken.
    #[must_use]
    pub fn pictures_of(&self, rows: &RecordBatch) -> BTreeSet<String> {
        let mut digests = BTreeSet::new();
        for one in &self.stages.own {
            let Derivation::Picture { column, .. } = &one.by else { continue };
            let named = [column.clone(), format!("{column}_hash")];
            let found = named.iter().filter_map(|name| rows.column_by_name(name));
            let texts = found.filter_map(|column| column.as_string_opt::<i32>()).next();
            digests.extend(texts.into_iter().flat_map(StringArray::iter).flatten().map(str::to_owned));
        }
        digests
    }

    /// Rows with everything derived, as they lie in the table.
    ///
    /// # Errors
    /// A column that is not there, which only a bug brings about.
    pub fn laid_out(&self, rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let column = |name: &String| {
            let missing = || ArrowError::SchemaError(format!("derived rows have no column {name}"));
            rows.column_by_name(name).cloned().ok_or_else(missing)
        };
        let columns =
            self.schema.fields().iter().map(|field| column(field.name())).collect::<Result<_, _>>()?;
        let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)
    }
}

/// A batch with more columns behind its own.
///
/// # Errors
/// When they are not of one length, which only a bug brings about.
pub fn beside(rows: &RecordBatch, more: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let fields = rows.schema_ref().fields().iter().chain(more.schema_ref().fields()).cloned();
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let columns = rows.columns().iter().chain(more.columns()).cloned().collect();
    let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    RecordBatch::try_new_with_options(schema, columns, &options)
}

/// The same rows without some columns.
///
/// # Errors
/// As [`beside`].
pub fn without(rows: &RecordBatch, names: &[String]) -> Result<RecordBatch, ArrowError> {
    let places = rows.schema_ref().fields().iter().enumerate();
    let places: Vec<usize> =
        places.filter(|(_, field)| !names.contains(field.name())).map(|(place, _)| place).collect();
    rows.project(&places)
}

/// Values as `of`; a table may hold them in another form of the same type.
///
/// # Errors
/// A type that is not another form of it.
pub fn as_type(column: &arrow_array::ArrayRef, of: &DataType) -> Result<arrow_array::ArrayRef, ArrowError> {
    if column.data_type() == of {
        return Ok(Arc::clone(column));
    }
    arrow_cast::cast(column.as_ref(), of)
}

//! Aligned rows to the same rows with everything derived behind them.

use super::command::{COMMAND_NONE, answer, request};
use super::episode::{Cutter, Row, split};
use super::motion::{Asked, Last, Place, motions};
use super::place::{Degrees, cells, fixes, geohashes, zones};
use super::port::{Commands, Pictures};
use super::{Command, Derivation, Derived, Episodes, OnFailure, PictureFeature};
use super::{band, derived_schema, image, list, numbers};
use crate::expr::{Expr, ExprError};
use crate::recipe::{Mistake, Recipe, RecipeError};
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{
    Array, ArrayRef, BooleanArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
};
use arrow_schema::{ArrowError, SchemaRef};
use arrow_select::filter::filter_record_batch;
use headwater_core::schema::conversion;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Rows with everything derived.
#[derive(Debug, Clone)]
pub struct DerivedRows {
    /// Those that go on.
    pub rows: RecordBatch,
    /// Those that a command gave no value for, where the recipe says `on_failure = "hold"`.
    pub held: RecordBatch,
    /// What commands could not do.
    pub failures: Vec<CommandFailure>,
}

/// A command that gave no answer for some rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandFailure {
    /// The derived column.
    pub column: String,
    /// Rows without a value.
    pub rows: usize,
    /// Why, with the causes below.
    pub why: String,
}

/// Why nothing could be derived.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeriveError {
    /// The rows are not what the recipe reads.
    #[error("rows do not fit what is derived of them")]
    Columns(#[source] RecipeError),
    /// A formula does not fit; [`DeriveError::Columns`] comes first.
    #[error("failed to evaluate a formula")]
    Formula(#[from] ExprError),
    /// A picture cannot be read now: its rows are derived again later, nothing is made up.
    #[error("failed to read a picture of {column}: {why}")]
    Picture {
        /// Its column.
        column: String,
        /// What the port said.
        why: String,
    },
    /// Arrow refused.
    #[error("arrow refused a derived column")]
    Arrow(#[from] ArrowError),
}

/// Derives everything a recipe asks of rows that are all there: each device's from its first, in the order of the spine.
///
/// # Errors
/// Rows that do not fit, or pictures that cannot be read now. What a command cannot do is no error: see [`DerivedRows`].
pub fn apply(
    recipe: &Recipe,
    rows: RecordBatch,
    pictures: &dyn Pictures,
    commands: &mut dyn Commands,
) -> Result<DerivedRows, DeriveError> {
    Deriver::new(&recipe.derived, recipe.episodes.as_ref()).apply(rows, pictures, commands)
}

/// Derives batch by batch.
///
/// Most columns depend on their own row alone. Motion also needs the last row of its device that had a fix, within its
/// `max_gap`; episodes need every row of the device since the last cut. A deriver remembers both, so batches that follow each
/// other give what the whole gives; after a restart, or when rows are made anew, it is fed from a cut on (or from the
/// device's first row).
#[derive(Debug, Clone)]
pub struct Deriver<'a> {
    derived: &'a [Derived],
    episodes: Option<&'a Episodes>,
    memory: Memory,
}

/// What a deriver remembers of the rows before. Two that are equal give the same from here on.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Memory {
    /// By place of the derived column.
    last: BTreeMap<usize, Last>,
    cutter: Cutter,
}

impl<'a> Deriver<'a> {
    /// One that has seen no rows.
    #[must_use]
    pub fn new(derived: &'a [Derived], episodes: Option<&'a Episodes>) -> Self {
        Self::resume(derived, episodes, Memory::default())
    }

    /// One that has seen what `memory` is of; the declarations are those it was made with.
    #[must_use]
    pub fn resume(derived: &'a [Derived], episodes: Option<&'a Episodes>, memory: Memory) -> Self {
        Self { derived, episodes, memory }
    }

    /// What it remembers.
    #[must_use]
    pub fn into_memory(self) -> Memory {
        self.memory
    }

    /// Derives of rows that follow those before.
    ///
    /// # Errors
    /// See [`apply`]. Nothing is remembered of rows that gave an error.
    pub fn apply(
        &mut self,
        rows: RecordBatch,
        pictures: &dyn Pictures,
        commands: &mut dyn Commands,
    ) -> Result<DerivedRows, DeriveError> {
        let schema = derived_schema(self.derived, self.episodes, rows.schema_ref())
            .map_err(|mistakes: Vec<Mistake>| DeriveError::Columns(RecipeError(mistakes)))?;
        let before = self.memory.clone();
        let made = self.make(rows, &schema, pictures, commands);
        if made.is_err() {
            self.memory = before;
        }
        made
    }

    fn make(
        &mut self,
        rows: RecordBatch,
        schema: &SchemaRef,
        pictures: &dyn Pictures,
        commands: &mut dyn Commands,
    ) -> Result<DerivedRows, DeriveError> {
        let mut work =
            Work { schema, rows, pictures: BTreeMap::new(), failures: Vec::new(), held: Vec::new() };
        for (place, derived) in self.derived.iter().enumerate() {
            let columns = match &derived.by {
                Derivation::Picture { column, feature } => {
                    vec![work.picture(self.derived, column, feature, pictures)?]
                }
                Derivation::Command(command) => work.command(derived, command, commands)?,
                Derivation::Motion { fix, feature, max_gap_ns, model } => {
                    let asked = Asked { feature: *feature, max_gap_ns: *max_gap_ns, model: *model };
                    let fixes = fixes(&work.rows, fix);
                    let places =
                        identity(&work.rows, &fixes).map(|(device, ts_ns, fix)| Place { device, ts_ns, fix });
                    vec![Arc::new(motions(places, &asked, self.memory.last.entry(place).or_default()))
                        as ArrayRef]
                }
                other => vec![plain(other, derived.unit.as_deref(), &work.rows)?],
            };
            work.extend(columns)?;
        }
        if let Some(episodes) = self.episodes {
            let columns = self.episodes_of(episodes, &work.rows)?;
            work.extend(columns)?;
        }
        work.finish()
    }

    fn episodes_of(&mut self, episodes: &Episodes, rows: &RecordBatch) -> Result<Vec<ArrayRef>, DeriveError> {
        let holds = |formula: &Option<Expr>| match formula {
            Some(formula) => formula.evaluate(rows).map(|values| values.as_boolean_opt().cloned()),
            None => Ok(None),
        };
        let (begin, within) = (holds(&episodes.begin)?, holds(&episodes.within)?);
        // A formula that is null everywhere has no truths: it holds nowhere.
        let within_nowhere = episodes.within.is_some() && within.is_none();
        let is_true = |values: &Option<BooleanArray>, row: usize| {
            values.as_ref().map(|values| values.is_valid(row) && values.value(row))
        };
        let fixes =
            episodes.trip.as_ref().map_or_else(|| vec![None; rows.num_rows()], |trip| fixes(rows, &trip.fix));
        let keys = rows.column_by_name("row_key").and_then(|keys| keys.as_string_opt::<i32>());
        let places = identity(rows, &fixes).enumerate().map(|(row, (device, ts_ns, fix))| {
            let key = keys.map_or("", |keys| keys.value(row));
            let begin = is_true(&begin, row).unwrap_or(false);
            let within = is_true(&within, row).unwrap_or(!within_nowhere);
            self.memory.cutter.place(episodes, Row { device, ts_ns, key, begin, within, fix })
        });
        let places: Vec<_> = places.collect();
        let ids: StringArray =
            places.iter().map(|place| place.as_ref().map(|place| place.id.as_str())).collect();
        let indices: Int64Array =
            places.iter().map(|place| place.as_ref().map(|place| place.index)).collect();
        let mut columns: Vec<ArrayRef> = vec![Arc::new(ids), Arc::new(indices)];
        if !episodes.splits.is_empty() {
            let mut known: BTreeMap<&str, Option<&str>> = BTreeMap::new();
            let splits = places.iter().map(|place| {
                let id = place.as_ref()?.id.as_str();
                *known.entry(id).or_insert_with(|| split(episodes, id))
            });
            columns.push(Arc::new(splits.collect::<StringArray>()));
        }
        Ok(columns)
    }
}

/// Device, UTC in ns and fix of every row.
fn identity<'a>(
    rows: &'a RecordBatch,
    fixes: &'a [Option<Degrees>],
) -> impl Iterator<Item = (&'a str, i64, Option<Degrees>)> {
    let devices = rows.column_by_name("device").and_then(|column| column.as_string_opt::<i32>());
    let times = rows.column_by_name("ts_ns").and_then(|column| column.as_primitive_opt::<Int64Type>());
    fixes.iter().enumerate().map(move |(row, fix)| {
        let device = devices.map_or("", |devices| devices.value(row));
        (device, times.map_or(0, |times| times.value(row)), *fix)
    })
}

/// Columns that depend on their own row alone, and on nothing outside.
fn plain(by: &Derivation, unit: Option<&str>, rows: &RecordBatch) -> Result<ArrayRef, DeriveError> {
    let column = |name: &str| rows.column_by_name(name).cloned();
    let nothing = || -> ArrayRef { Arc::new(Float64Array::new_null(rows.num_rows())) };
    Ok(match by {
        Derivation::Expression { formula } => formula.evaluate(rows)?,
        Derivation::Convert { column: name, from } => {
            let numbers = column(name).as_ref().and_then(numbers::floats);
            match (numbers, unit.and_then(|unit| conversion(from, unit))) {
                (Some(numbers), Some(conversion)) => {
                    Arc::new(numbers.unary::<_, arrow_array::types::Float64Type>(|x| {
                        numbers::canonical(conversion.apply(x))
                    }))
                }
                _ => nothing(),
            }
        }
        Derivation::List { column: name, stat } => {
            column(name).map_or_else(nothing, |list| list::stats(&list, *stat))
        }
        Derivation::Band(band) => {
            let times = match &band.sampling {
                super::Sampling::Times(times) => column(times),
                super::Sampling::Rate(_) => None,
            };
            column(&band.column).map_or_else(nothing, |list| band::power(band, &list, times.as_ref()))
        }
        Derivation::Geohash { fix, length } => Arc::new(geohashes(&fixes(rows, fix), *length)),
        Derivation::H3 { fix, resolution } => Arc::new(cells(&fixes(rows, fix), *resolution)),
        Derivation::Geofence { fix, fences } => Arc::new(zones(&fixes(rows, fix), fences)),
        Derivation::Picture { .. } | Derivation::Motion { .. } | Derivation::Command(_) => nothing(),
    })
}

/// Rows as they grow by a column at a time.
struct Work<'a> {
    schema: &'a SchemaRef,
    rows: RecordBatch,
    /// Features that were taken when their column was first asked, by column and feature.
    pictures: BTreeMap<(String, String), ArrayRef>,
    failures: Vec<CommandFailure>,
    /// One mask a command that holds rows back.
    held: Vec<BooleanArray>,
}

impl Work<'_> {
    fn extend(&mut self, columns: Vec<ArrayRef>) -> Result<(), DeriveError> {
        let mut all = self.rows.columns().to_vec();
        all.extend(columns);
        let places: Vec<usize> = (0..all.len()).collect();
        let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(self.rows.num_rows()));
        let schema = Arc::new(self.schema.project(&places)?);
        self.rows = RecordBatch::try_new_with_options(schema, all, &options)?;
        Ok(())
    }

    /// A picture is read and decoded once for all features that are taken of its column.
    fn picture(
        &mut self,
        derived: &[Derived],
        column: &str,
        feature: &PictureFeature,
        pictures: &dyn Pictures,
    ) -> Result<ArrayRef, DeriveError> {
        let key = |feature: &PictureFeature| (column.to_owned(), format!("{feature:?}"));
        if let Some(taken) = self.pictures.get(&key(feature)) {
            return Ok(Arc::clone(taken));
        }
        let wanted = derived.iter().filter_map(|derived| match &derived.by {
            Derivation::Picture { column: of, feature } if of == column => Some(feature),
            _ => None,
        });
        let wanted: Vec<&PictureFeature> = wanted.collect();
        let of = image::column_of(&self.rows, column).cloned();
        let of = of.unwrap_or_else(|| Arc::new(StringArray::new_null(self.rows.num_rows())));
        let taken = image::features(&of, &wanted, pictures)
            .map_err(|why| DeriveError::Picture { column: column.to_owned(), why })?;
        self.pictures.extend(wanted.into_iter().map(key).zip(taken));
        let none = || arrow_array::new_null_array(&image::type_of(feature), self.rows.num_rows());
        Ok(self.pictures.get(&key(feature)).map_or_else(none, Arc::clone))
    }

    /// Value and flag of every row, some rows at a time.
    fn command(
        &mut self,
        derived: &Derived,
        command: &Command,
        commands: &mut dyn Commands,
    ) -> Result<Vec<ArrayRef>, DeriveError> {
        let rows = self.rows.num_rows();
        let step = (command.batch_rows_max as usize).max(1);
        let mut parts: Vec<ArrayRef> = Vec::new();
        let mut failed = vec![false; rows];
        for start in (0..rows).step_by(step) {
            let some = self.rows.slice(start, step.min(rows - start));
            match ask(command, &some, commands) {
                Ok(part) => parts.push(part),
                Err(why) => {
                    failed.iter_mut().skip(start).take(some.num_rows()).for_each(|failed| *failed = true);
                    parts.push(arrow_array::new_null_array(&command.output.arrow(), some.num_rows()));
                    self.fail(derived.name.as_str(), some.num_rows(), why);
                }
            }
        }
        let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
        let values = match parts.is_empty() {
            true => arrow_array::new_empty_array(&command.output.arrow()),
            false => arrow_select::concat::concat(&parts)?,
        };
        if command.on_failure == OnFailure::Hold {
            self.held.push(failed.iter().map(|failed| Some(*failed)).collect());
        }
        let flags = failed.iter().map(|failed| if *failed { COMMAND_NONE } else { 0 });
        Ok(vec![values, Arc::new(Int32Array::from_iter_values(flags))])
    }

    /// Equal reasons are counted together: a program that is not there fails for every batch.
    fn fail(&mut self, column: &str, rows: usize, why: String) {
        match self.failures.last_mut() {
            Some(last) if last.column == column && last.why == why => {
                last.rows = last.rows.saturating_add(rows)
            }
            _ => self.failures.push(CommandFailure { column: column.to_owned(), rows, why }),
        }
    }

    fn finish(self) -> Result<DerivedRows, DeriveError> {
        let is_held = |row: usize| self.held.iter().any(|held| held.value(row));
        let held: BooleanArray = (0..self.rows.num_rows()).map(|row| Some(is_held(row))).collect();
        if held.true_count() == 0 {
            let none = self.rows.slice(0, 0);
            return Ok(DerivedRows { rows: self.rows, held: none, failures: self.failures });
        }
        let rows: BooleanArray = held.iter().map(|held| held.map(|held| !held)).collect();
        Ok(DerivedRows {
            rows: filter_record_batch(&self.rows, &rows)?,
            held: filter_record_batch(&self.rows, &held)?,
            failures: self.failures,
        })
    }
}

fn ask(command: &Command, rows: &RecordBatch, commands: &mut dyn Commands) -> Result<ArrayRef, String> {
    let request = request(command, rows).map_err(|error| format!("its input cannot be written: {error}"))?;
    let bytes = commands.run(command, &request)?;
    answer(command, &bytes, rows.num_rows()).map_err(|error| causes(&error))
}

/// An error with the causes below it.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(below) = cause {
        text.push_str(": ");
        text.push_str(&below.to_string());
        cause = below.source();
    }
    text
}

#[cfg(test)]
mod tests;

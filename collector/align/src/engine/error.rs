//! What a recipe and its fields, or samples and their plan, can disagree about.

use arrow_schema::{ArrowError, DataType};

/// Why no plan can be made of a recipe and the fields it is given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// One schema a column is needed.
    #[error("the recipe has {recipe} columns, the inputs {inputs}")]
    Columns {
        /// Of the recipe.
        recipe: usize,
        /// Of the inputs.
        inputs: usize,
    },
    /// The selected fields stand first, in order.
    #[error("column {column:?} selects {selected} fields, its input has {given}")]
    Fields {
        /// Its name; `spine` for the spine.
        column: String,
        /// Fields selected.
        selected: usize,
        /// Fields given.
        given: usize,
    },
    /// The method computes, and the field is no number.
    #[error("column {column:?} needs numbers for its method, {field:?} is {given}")]
    NotANumber {
        /// Its name.
        column: String,
        /// The field.
        field: String,
        /// Its type.
        given: DataType,
    },
    /// A method takes a fixed number of fields.
    #[error("column {column:?} selects {selected} fields, its method takes {wanted}")]
    Arity {
        /// Its name.
        column: String,
        /// Fields selected.
        selected: usize,
        /// What it takes.
        wanted: &'static str,
    },
    /// UCUM does not convert, or the field has no unit.
    #[error("column {column:?} wants {field:?} in {wanted}, which its unit {given:?} is not converted to")]
    Unit {
        /// Its name.
        column: String,
        /// The field.
        field: String,
        /// Unit wanted.
        wanted: String,
        /// Unit declared.
        given: String,
    },
    /// Windows and lists have no newest earlier value.
    #[error("column {column:?} is a window: fallback may be null, drop or const, not locf")]
    WindowLocf {
        /// Its name.
        column: String,
    },
    /// A constant is not of the field's type.
    #[error("column {column:?}: the constant of {field:?} does not fit {given}")]
    Constant {
        /// Its name.
        column: String,
        /// The field.
        field: String,
        /// Type of the output column.
        given: DataType,
    },
    /// The condition of an event spine names a field that is not there, or compares it with what it cannot be.
    #[error("the event compares {field:?}, which the spine does not have as {wanted}")]
    Condition {
        /// The field.
        field: String,
        /// What the constant asks for.
        wanted: &'static str,
    },
    /// Two output columns have one name.
    #[error("two output columns are called {name:?}")]
    Twice {
        /// The name.
        name: String,
    },
}

/// Why samples cannot be aligned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AlignError {
    /// Samples must come in order on each line.
    #[error("samples of {of:?} are not in order: row {row} lies before the one it follows on its line")]
    Unsorted {
        /// Column; `spine` for the spine.
        of: String,
        /// First row at fault, in the samples given.
        row: usize,
    },
    /// All columns of stamps, and values, have one length.
    #[error("stamps of {of:?} and their values differ in length")]
    Ragged {
        /// Column; `spine` for the spine.
        of: String,
    },
    /// A sample names a line that was not given.
    #[error("a sample of {of:?} is on line {line}, of {known} known")]
    Line {
        /// Column; `spine` for the spine.
        of: String,
        /// The line.
        line: u32,
        /// Lines given.
        known: usize,
    },
    /// A list of lines must go on where the known one ended.
    #[error("the lines given do not begin with those known")]
    Lines,
    /// The recipe has no such column or spine stream.
    #[error("the recipe has no place {place} for samples of {of}")]
    Place {
        /// What was fed.
        of: &'static str,
        /// The place.
        place: usize,
    },
    /// Values are not of the schema that was planned for.
    #[error("values of {of:?} are not of the schema planned for")]
    Schema {
        /// Column; `spine` for the spine.
        of: String,
    },
    /// More samples of one stream at once than can be indexed.
    #[error("more than {max} samples of {of:?} are held at once: complete rows in between")]
    TooMany {
        /// Column; `spine` for the spine.
        of: String,
        /// The bound.
        max: usize,
    },
    /// A grid would be longer than anyone wants.
    #[error(
        "a grid from {first_ns} to {last_ns} ns has more than {max} points: raise min_grade, or align fewer days at once"
    )]
    Grid {
        /// First sample.
        first_ns: i64,
        /// Last sample.
        last_ns: i64,
        /// The bound.
        max: u64,
    },
    /// One row's values are beyond what a column can hold.
    #[error("a single row's values do not fit a column")]
    TooLarge,
    /// Arrow refused.
    #[error("failed to gather values")]
    Arrow(#[from] ArrowError),
}

//! Tables: what makes a plain Iceberg v2 table out of declared columns and Arrow batches.

mod encode;
mod facts;
mod level;
mod parallel;
mod produce;
mod rows;
mod schema;
mod settings;
mod shape;
mod sorting;
mod spec;
mod unite;

use crate::compact::Overtaken;
use crate::names::TableName;

pub(crate) use encode::{EncodedFile, FileEncoder, SLICE_ROWS_MAX, encode, encode_file, rows_within};
pub(crate) use level::Level;
pub(crate) use produce::{
    Built, Change, Context, SNAPSHOTS_MAX, TableState, change, has_live, load, manifest_of, produce,
    read_ahead, read_manifest, snapshot_id,
};
pub(crate) use rows::{DAY_US, by_day, conform, failed};
pub(crate) use schema::{Drafted, FIELD_IDS, columns, create, evolve, kept, with_field_ids};
pub(crate) use settings::properties;
pub(crate) use shape::Shape;
pub(crate) use spec::unit_of;
pub use spec::{ColumnSpec, ColumnType, TS, TableSpec, UTC};
pub(crate) use unite::unite;

/// Rows or a declaration do not fit their table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// The declaration is wrong by itself.
    #[error("declare {table}.{column}: {reason}")]
    Declaration {
        /// The table.
        table: TableName,
        /// The column.
        column: String,
        /// What is wrong.
        reason: String,
    },
    /// The declaration does not follow from what the table has.
    #[error("evolve {table}.{column}: {reason}")]
    Evolution {
        /// The table.
        table: TableName,
        /// The column.
        column: String,
        /// What is not allowed, and what is.
        reason: String,
    },
    /// A batch brings another type than declared.
    #[error("write {table}.{column}: expected {expected}, the batch brings {found}")]
    ColumnType {
        /// The table.
        table: TableName,
        /// The column.
        column: String,
        /// The Arrow type the declaration asks for.
        expected: String,
        /// The Arrow type in the batch.
        found: String,
    },
    /// A batch brings a column nobody declared.
    #[error("write {table}.{column}: the batch brings it but the declaration does not")]
    UndeclaredColumn {
        /// The table.
        table: TableName,
        /// The column.
        column: String,
    },
    /// A required column is missing or null.
    #[error("write {table}.{column}: it is required, the batch leaves it null in {nulls} rows")]
    RequiredNull {
        /// The table.
        table: TableName,
        /// The column.
        column: String,
        /// How many rows.
        nulls: usize,
    },
    /// Arrow could not bring the values into the table's form.
    #[error("write {table}.{column}: {reason}")]
    Arrow {
        /// The table.
        table: TableName,
        /// The column, or `*`.
        column: String,
        /// Arrow's words.
        reason: String,
    },
    /// Rows cannot be written anew.
    #[error("rewrite {table}: {reason}")]
    Rewrite {
        /// The table.
        table: TableName,
        /// What stands against it.
        reason: String,
    },
    /// Somebody else changed what was to be replaced.
    #[error("rewrite {table}: it was overtaken ({}); prepare it again", .why.as_str())]
    Overtaken {
        /// The table.
        table: TableName,
        /// By what.
        why: Overtaken,
    },
    /// Files the change wants to remove are not in the table: someone else replaced them.
    #[error("change {table}: {missing} of the files to be replaced are no longer in it")]
    FilesGone {
        /// The table.
        table: TableName,
        /// How many.
        missing: usize,
    },
}

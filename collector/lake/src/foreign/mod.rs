//! Writes of other people's tools: what an Iceberg REST client asks of tables, judged and linked as a commit of ours.
//!
//! ```text
//! body ─▶ TableChange ─▶ requirements on the head ─▶ rules ─▶ files ─▶ next metadata ─▶ one commit of kind foreign
//!          (request)         (may be a 409)         (pure)  (inside,      (pure)            (the writer's loop)
//!                                                            there)
//! ```
//! The client has written data files, manifests and manifest lists into the table's own folder before it asks. It is
//! never believed about where they lie: a commit names nothing outside that folder and nothing that is not there.

mod apply;
mod create;
mod document;
mod files;
mod plan;
mod request;
mod rules;
mod schema;

use crate::names::TableName;

pub use document::TableDocument;
pub use request::{ForeignEdit, ForeignRequest, TableChange, TableCreate};

/// Why a foreign client's change was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ForeignError {
    /// The body is not what the protocol has.
    #[error("read change of {table}: {reason}")]
    Body {
        /// The table, or what is known of it.
        table: String,
        /// What is wrong.
        reason: String,
    },
    /// What the client took for granted no longer holds: it reads the table again and tries anew.
    #[error("change {table}: {reason}; load the table again and retry")]
    Stale {
        /// The table.
        table: TableName,
        /// Which requirement failed.
        reason: String,
    },
    /// The branch is not there, or has been deleted meanwhile.
    #[error("commit to a branch that is not there; `headwater branch` makes one")]
    NoBranch,
    /// The table is not there.
    #[error("change {table}: there is no such table on this ref")]
    NoTable {
        /// The table.
        table: TableName,
    },
    /// The table is there already.
    #[error("create {table}: it exists on this ref")]
    TableExists {
        /// The table.
        table: TableName,
    },
    /// The change is well formed and not allowed.
    #[error("change {table}: {reason}")]
    Refused {
        /// The table.
        table: TableName,
        /// Which rule, and what to do instead.
        reason: String,
    },
    /// A file lies where the table's files do not.
    #[error(
        "change {table}: {path} lies outside the table's folder {folder}; files of a table are written below it"
    )]
    Escape {
        /// The table.
        table: TableName,
        /// The file named.
        path: String,
        /// Where its files belong.
        folder: String,
    },
    /// A file is named that is not there.
    #[error(
        "change {table}: {path} is not in the lake's store; the client must write to the same store the lake lies in, before it \
         commits"
    )]
    MissingFile {
        /// The table.
        table: TableName,
        /// The file named.
        path: String,
    },
}

#[cfg(test)]
mod tests;

//! Why tables could not be joined, and what to do with those that cannot.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::names::TableName;

/// One table that cannot be changed as asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableConflict {
    /// The table.
    pub table: TableName,
    /// What stands against it, and what would help.
    pub reason: String,
    /// The files it is about, by URL; empty where it is about the table as a whole.
    pub files: Vec<String>,
}

/// Everything that stands against a verb. Nothing was changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ConflictReport {
    /// The verb: `merge`, `revert`, `cherry-pick`.
    pub verb: String,
    /// The tables, by name.
    pub conflicts: Vec<TableConflict>,
}

impl fmt::Display for ConflictReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.conflicts.len();
        write!(f, "{}: {n} {} in conflict", self.verb, if n == 1 { "table is" } else { "tables are" })?;
        for (place, conflict) in self.conflicts.iter().enumerate() {
            let before = if place == 0 { ": " } else { "; " };
            write!(f, "{before}{} ({})", conflict.table, conflict.reason)?;
        }
        Ok(())
    }
}

/// Whose state a table takes that would be in conflict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// The branch that is merged into keeps its table.
    Ours,
    /// The branch takes the other side's table.
    Theirs,
}

/// What to do with tables in conflict.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Strategies {
    /// For tables not named below; none reports the conflict.
    pub all: Option<Strategy>,
    /// By table.
    pub tables: BTreeMap<TableName, Strategy>,
}

impl Strategies {
    /// What to do with `table`, if it is in conflict.
    #[must_use]
    pub fn of(&self, table: &TableName) -> Option<Strategy> {
        self.tables.get(table).copied().or(self.all)
    }
}

//! What two commits differ in, table by table and file by file.

use std::collections::BTreeSet;

use iceberg::spec::DataContentType;
use serde::Serialize;

use super::files::{Files, delta};
use crate::error::LakeError;
use crate::lake::Lake;
use crate::names::{CommitId, TableName};
use crate::repo::{CommitObject, TableEntry};
use crate::table::{self, ColumnSpec, TableState};

/// What two commits differ in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CommitDiff {
    /// The older, or left, commit; none is before there was any.
    pub from: Option<CommitId>,
    /// The newer, or right, commit.
    pub to: CommitId,
    /// Tables that differ, by name.
    pub tables: Vec<TableDiff>,
    /// Recipes whose coverage differs.
    pub coverage: Vec<String>,
}

/// What one table differs in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableDiff {
    /// The table.
    pub table: TableName,
    /// It is only in `to`.
    pub created: bool,
    /// It is only in `from`.
    pub dropped: bool,
    /// Rows of the table before and after.
    pub rows: [u64; 2],
    /// Rows in files that came.
    pub rows_added: u64,
    /// Rows in files that went. A compaction takes and brings the same rows.
    pub rows_removed: u64,
    /// Bytes in files that came.
    pub bytes_added: u64,
    /// Bytes in files that went.
    pub bytes_removed: u64,
    /// Files that came.
    pub files_added: Vec<FileChange>,
    /// Files that went.
    pub files_removed: Vec<FileChange>,
    /// Columns that differ.
    pub schema: SchemaDiff,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileChange {
    /// Its URL.
    pub path: String,
    /// `data`, `position_deletes` or `equality_deletes`.
    pub content: &'static str,
    /// Rows in it.
    pub rows: u64,
    /// Its size.
    pub bytes: u64,
}

/// Columns of a table that differ; each in a declaration's words.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SchemaDiff {
    /// Columns that came.
    pub added: Vec<String>,
    /// Columns that went.
    pub removed: Vec<String>,
    /// Columns whose type or text changed: before, after.
    pub changed: Vec<[String; 2]>,
}

impl SchemaDiff {
    /// True if the columns are the same.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

impl Lake {
    /// What `to` differs in from `from`; with none, all that `to` holds. Reads the metadata of tables that differ and
    /// the manifests that only one side lists.
    ///
    /// # Errors
    /// As [`Lake::commit_object`], and when metadata cannot be read.
    pub async fn diff(&self, from: Option<&CommitId>, to: &CommitId) -> Result<CommitDiff, LakeError> {
        let older = match from {
            Some(id) => Some(self.commit_object(id).await?),
            None => None,
        };
        diff(self, older.as_ref(), &self.commit_object(to).await?).await
    }
}

pub(super) async fn diff(
    lake: &Lake,
    from: Option<&CommitObject>,
    to: &CommitObject,
) -> Result<CommitDiff, LakeError> {
    let entry = |commit: Option<&CommitObject>, name: &TableName| -> Option<TableEntry> {
        commit.and_then(|commit| commit.tables.get(name)).cloned()
    };
    let names: BTreeSet<&TableName> =
        from.into_iter().chain([to]).flat_map(|commit| commit.tables.keys()).collect();
    let mut tables = Vec::new();
    for name in names {
        let (before, after) = (entry(from, name), entry(Some(to), name));
        if before != after {
            tables.push(table_diff(lake, name, before.as_ref(), after.as_ref()).await?);
        }
    }
    let covered =
        |commit: Option<&CommitObject>| commit.map(|commit| commit.coverage.clone()).unwrap_or_default();
    let (before, after) = (covered(from), covered(Some(to)));
    let recipes: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let coverage =
        recipes.into_iter().filter(|recipe| before.get(*recipe) != after.get(*recipe)).cloned().collect();
    Ok(CommitDiff { from: from.map(|commit| commit.id.clone()), to: to.id.clone(), tables, coverage })
}

async fn table_diff(
    lake: &Lake,
    name: &TableName,
    before: Option<&TableEntry>,
    after: Option<&TableEntry>,
) -> Result<TableDiff, LakeError> {
    let old = state(lake, name, before).await?;
    let new = state(lake, name, after).await?;
    let delta = delta(lake.store(), name, old.as_ref(), new.as_ref()).await?;
    let rows = |files: &Files| files.values().filter(|f| f.is_data()).map(|f| f.file.record_count()).sum();
    let bytes = |files: &Files| files.values().map(|f| f.file.file_size_in_bytes()).sum();
    let columns = |state: &Option<TableState>| {
        state.as_ref().map(|state| table::columns(&state.metadata)).unwrap_or_default()
    };
    Ok(TableDiff {
        table: name.clone(),
        created: before.is_none(),
        dropped: after.is_none(),
        rows: [before.map_or(0, |entry| entry.rows), after.map_or(0, |entry| entry.rows)],
        rows_added: rows(&delta.added),
        rows_removed: rows(&delta.removed),
        bytes_added: bytes(&delta.added),
        bytes_removed: bytes(&delta.removed),
        files_added: changes(&delta.added),
        files_removed: changes(&delta.removed),
        schema: schema_diff(&columns(&old), &columns(&new)),
    })
}

async fn state(
    lake: &Lake,
    name: &TableName,
    entry: Option<&TableEntry>,
) -> Result<Option<TableState>, LakeError> {
    match entry {
        Some(entry) => table::load(lake.store(), name, entry).await.map(Some),
        None => Ok(None),
    }
}

fn changes(files: &Files) -> Vec<FileChange> {
    files
        .iter()
        .map(|(path, live)| FileChange {
            path: path.clone(),
            content: match live.file.content_type() {
                DataContentType::Data => "data",
                DataContentType::PositionDeletes => "position_deletes",
                DataContentType::EqualityDeletes => "equality_deletes",
            },
            rows: live.file.record_count(),
            bytes: live.file.file_size_in_bytes(),
        })
        .collect()
}

fn schema_diff(old: &[ColumnSpec], new: &[ColumnSpec]) -> SchemaDiff {
    let find = |columns: &[ColumnSpec], name: &str| columns.iter().find(|c| c.name == name).cloned();
    let mut diff = SchemaDiff::default();
    for column in new {
        match find(old, &column.name) {
            None => diff.added.push(words(column)),
            Some(before) if &before != column => diff.changed.push([words(&before), words(column)]),
            Some(_) => {}
        }
    }
    diff.removed = old.iter().filter(|c| find(new, &c.name).is_none()).map(words).collect();
    diff
}

fn words(column: &ColumnSpec) -> String {
    let required = if column.required { ", required" } else { "" };
    let doc = column.doc.as_deref().map(|doc| format!(", {doc:?}")).unwrap_or_default();
    format!("{} {}{required}{doc}", column.name, column.column_type.arrow())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::ColumnType;

    #[test]
    fn columns_are_told_as_a_declaration_would_write_them() {
        let old = [ColumnSpec::optional("x", ColumnType::Int), ColumnSpec::optional("y", ColumnType::Float)];
        let new = [
            ColumnSpec::optional("x", ColumnType::Long),
            ColumnSpec::required("z", ColumnType::String).with_doc("a name"),
        ];
        let diff = schema_diff(&old, &new);
        assert_eq!(diff.added, ["z Utf8, required, \"a name\""]);
        assert_eq!(diff.removed, ["y Float32"]);
        assert_eq!(diff.changed, [["x Int32".to_owned(), "x Int64".to_owned()]]);
        assert!(schema_diff(&new, &new).is_empty());
    }
}

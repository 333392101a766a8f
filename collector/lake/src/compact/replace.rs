//! Files that take the place of others, linked on whatever base there is by then: the common part of compaction and of
//! correcting commits.

use std::collections::BTreeSet;

use iceberg::spec::{DataFile, Operation};
use uuid::Uuid;

use super::files::FileIndex;
use crate::error::LakeError;
use crate::lake::Lake;
use crate::names::TableName;
use crate::table::{self, Change, Context, kept};
use crate::writer::{Base, Drafting};

/// Data files that hold the rows of others, stored and ready to be linked.
#[derive(Debug, Clone)]
pub(crate) struct Replacement {
    pub(crate) table_uuid: Uuid,
    /// Days it takes files of, for people.
    pub(crate) day: i32,
    pub(crate) inputs: BTreeSet<String>,
    /// Delete files that were applied.
    pub(crate) deletes: BTreeSet<String>,
    pub(crate) added: Vec<DataFile>,
    pub(crate) bytes_in: u64,
}

/// Why a replacement no longer fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Overtaken {
    /// The table is gone, or made anew.
    TableGone,
    /// A file to be replaced is gone: somebody else replaced it.
    FilesGone,
    /// Somebody deleted rows of a file to be replaced; they would come back.
    DeletesSince,
}

impl Overtaken {
    /// For people and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Overtaken::TableGone => "table_gone",
            Overtaken::FilesGone => "files_gone",
            Overtaken::DeletesSince => "deletes_since",
        }
    }
}

/// Says of each replacement of one table whether it still fits `base`.
pub(crate) async fn check(
    lake: &Lake,
    base: &mut Base,
    index: &mut FileIndex,
    name: &TableName,
    replacements: &[Replacement],
) -> Result<Vec<Result<(), Overtaken>>, LakeError> {
    base.need(lake, name).await?;
    let Some(state) = base.tables.get(name) else {
        return Ok(vec![Err(Overtaken::TableGone); replacements.len()]);
    };
    let files = index.of(lake.store(), name, state).await?;
    let fits = |one: &Replacement| {
        if one.table_uuid != state.entry.uuid {
            Err(Overtaken::TableGone)
        } else if !one.inputs.iter().all(|path| files.data.contains_key(path)) {
            Err(Overtaken::FilesGone)
        } else if !files.deletes_touching(&one.inputs).is_subset(&one.deletes) {
            Err(Overtaken::DeletesSince)
        } else {
            Ok(())
        }
    };
    Ok(replacements.iter().map(fits).collect())
}

/// Links replacements that fit into the commit; gives the bytes of the files they bring.
pub(crate) async fn link(
    lake: &Lake,
    base: &Base,
    index: &mut FileIndex,
    drafting: &mut Drafting,
    name: &TableName,
    replacements: &[&Replacement],
    operation: Operation,
) -> Result<u64, LakeError> {
    let Some(state) = base.tables.get(name) else {
        return Err(LakeError::corrupt(name, "it is gone between a check and its use"));
    };
    let files = index.of(lake.store(), name, state).await?;
    let mut removed: BTreeSet<String> =
        replacements.iter().flat_map(|one| one.inputs.iter().cloned()).collect();
    // Deletes that nothing needs any more go with the files they were about.
    removed.extend(files.deletes_done(&removed));
    let change = Change {
        added: replacements.iter().flat_map(|one| one.added.iter().cloned()).collect(),
        added_manifest: None,
        removed,
        operation,
    };
    let context = Context {
        store: lake.store(),
        table: name,
        snapshot_id: table::snapshot_id(),
        time_us: drafting.commit.time_us,
        summary: drafting.summary(),
    };
    let drafted = kept(&state.metadata, &state.entry.metadata_location);
    let built = table::produce(&context, drafted, Some(state), &change).await?;
    let bytes = change.added.iter().map(|file| file.file_size_in_bytes()).sum();
    drafting.put(name, built);
    Ok(bytes)
}

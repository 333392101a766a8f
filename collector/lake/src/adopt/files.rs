//! What a candidate added to a table, read from the manifests in which it differs from its fork.

use std::collections::{BTreeMap, BTreeSet};

use iceberg::spec::{DataFile, ManifestContentType, ManifestFile, TableMetadata};

use crate::error::LakeError;
use crate::lake::Lake;
use crate::names::TableName;
use crate::table::{self, Drafted, TableSpec, TableState};

/// Files of `candidate` that are neither in `fork` nor in `here`, in order of their names: part of a candidate may have
/// been adopted before.
///
/// # Errors
/// [`LakeError::Diverged`] if it did more than append.
pub(super) async fn added_files(
    lake: &Lake,
    name: &TableName,
    candidate: &TableState,
    fork: Option<&TableState>,
    here: &TableState,
) -> Result<Vec<DataFile>, LakeError> {
    let old = fork.map(|fork| fork.manifests.as_slice()).unwrap_or_default();
    let paths = |manifests: &[ManifestFile]| -> BTreeSet<String> {
        manifests.iter().map(|manifest| manifest.manifest_path.clone()).collect()
    };
    let (new_paths, old_paths) = (paths(&candidate.manifests), paths(old));
    let is_new = |m: &&ManifestFile| !old_paths.contains(&m.manifest_path);
    let mut added = BTreeMap::new();
    for manifest in candidate.manifests.iter().filter(is_new) {
        added.extend(alive(lake, name, manifest).await?);
    }
    for manifest in old.iter().filter(|m| !new_paths.contains(&m.manifest_path)) {
        for path in alive(lake, name, manifest).await?.into_keys() {
            if added.remove(&path).is_none() {
                let reason = format!("the candidate removed {path}, and only appended files can be adopted");
                return Err(LakeError::Diverged { table: name.clone(), reason });
            }
        }
    }
    for manifest in here.manifests.iter().filter(is_new) {
        for path in alive(lake, name, manifest).await?.into_keys() {
            added.remove(&path);
        }
    }
    Ok(added.into_values().collect())
}

async fn alive(
    lake: &Lake,
    name: &TableName,
    manifest: &ManifestFile,
) -> Result<BTreeMap<String, DataFile>, LakeError> {
    if manifest.content != ManifestContentType::Data {
        let reason = "the candidate or the branch brings delete files, which cannot be adopted".to_owned();
        return Err(LakeError::Diverged { table: name.clone(), reason });
    }
    let read = table::read_manifest(lake.store(), name, manifest).await?;
    let entries = read.entries().iter().filter(|entry| entry.is_alive());
    Ok(entries.map(|entry| (entry.file_path().to_owned(), entry.data_file().clone())).collect())
}

/// The next metadata of `here`, with the columns the candidate added. Files name columns by id, so every column of the
/// candidate must keep its id.
pub(super) fn drafted_like(
    name: &TableName,
    here: &TableState,
    candidate: &TableMetadata,
) -> Result<Drafted, LakeError> {
    let mut spec = TableSpec::new(name.clone(), table::columns(candidate), &[]);
    spec.properties = BTreeMap::new();
    let drafted = table::evolve(&here.metadata, &here.entry.metadata_location, &spec)?;
    let schema = drafted.draft.current_schema();
    let fields = candidate.current_schema().as_struct().fields();
    match fields.iter().find(|field| schema.as_struct().field_by_id(field.id) != Some(*field)) {
        None => Ok(drafted),
        Some(field) => {
            let reason = format!("both sides changed its columns; {} is another one on each", field.name);
            Err(LakeError::Diverged { table: name.clone(), reason })
        }
    }
}

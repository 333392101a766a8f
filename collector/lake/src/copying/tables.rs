//! One table's files in a copy: what names locations is written anew, what does not is copied.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use iceberg::spec::{
    DataFile, FormatVersion, ManifestContentType, ManifestFile, ManifestList, ManifestListWriter,
    ManifestStatus, ManifestWriterBuilder, Snapshot, TableMetadata, UNASSIGNED_SEQUENCE_NUMBER,
    deserialize_data_file_from_json, serialize_data_file_to_json,
};
use object_store::buffered::BufWriter;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde_json::Value;
use tokio::io::AsyncWriteExt;

use super::CopyProgress;
use crate::error::LakeError;
use crate::lake::Lake;
use crate::store::{Created, Stage};

/// Tables of a copy, with what is known to be there.
pub(super) struct Tables<'a> {
    from: &'a Lake,
    to: &'a Lake,
    done: BTreeSet<String>,
}

impl<'a> Tables<'a> {
    pub(super) fn new(from: &'a Lake, to: &'a Lake) -> Tables<'a> {
        Tables { from, to, done: BTreeSet::new() }
    }

    /// The location that stands for one of the source.
    fn moved(&self, location: &str) -> Result<(String, String), LakeError> {
        let key = self.from.store().key_of(location)?;
        Ok((self.to.store().url(&key), key))
    }

    /// True if the file is in the copy, whole: everything is written last of what it names.
    async fn is_there(&mut self, key: &str) -> Result<bool, LakeError> {
        if self.done.contains(key) {
            return Ok(true);
        }
        let there = self.to.store().exists(key).await?;
        if there {
            self.done.insert(key.to_owned());
        }
        Ok(there)
    }

    async fn write(&mut self, key: &str, bytes: Bytes, progress: &mut CopyProgress) -> Result<(), LakeError> {
        progress.bytes += bytes.len() as u64;
        let written = self.to.store().create(key, bytes).await?;
        progress.files += u64::from(written == Created::New);
        self.done.insert(key.to_owned());
        Ok(())
    }

    /// Copies a `metadata.json` with all its current snapshot needs; gives its new location. Older snapshots that it
    /// lists come with the commits that name them, or not at all: what was erased may be in them.
    pub(super) async fn metadata(
        &mut self,
        location: &str,
        progress: &mut CopyProgress,
    ) -> Result<String, LakeError> {
        let (moved, key) = self.moved(location)?;
        if self.is_there(&key).await? {
            return Ok(moved);
        }
        let bytes = self.from.store().read(&key).await?;
        let bytes = bytes.ok_or_else(|| LakeError::corrupt(&key, "a commit names it and it is gone"))?;
        let metadata: TableMetadata =
            serde_json::from_slice(&bytes).map_err(|e| LakeError::corrupt(&key, e))?;
        if metadata.format_version() != FormatVersion::V2 {
            return Err(LakeError::corrupt(&key, "it is not of Iceberg format 2, which this build copies"));
        }
        if let Some(snapshot) = metadata.current_snapshot() {
            self.snapshot(&metadata, snapshot, progress).await?;
        }
        let mut json: Value = serde_json::from_slice(&bytes).map_err(|e| LakeError::corrupt(&key, e))?;
        relocate(&mut json, self.from.location(), self.to.location());
        let bytes = serde_json::to_vec(&json).map_err(|e| LakeError::corrupt(&key, e))?;
        self.write(&key, bytes.into(), progress).await?;
        Ok(moved)
    }

    async fn snapshot(
        &mut self,
        metadata: &TableMetadata,
        snapshot: &Snapshot,
        progress: &mut CopyProgress,
    ) -> Result<(), LakeError> {
        let (moved, key) = self.moved(snapshot.manifest_list())?;
        if self.is_there(&key).await? {
            return Ok(());
        }
        let bytes = self.from.store().read(&key).await?;
        let bytes = bytes.ok_or_else(|| LakeError::corrupt(&key, "the manifest list is gone"))?;
        let fail = || LakeError::iceberg(format!("copy {key}"));
        let list = ManifestList::parse_with_version(&bytes, metadata.format_version()).map_err(fail())?;
        let mut manifests = Vec::new();
        for manifest in list.consume_entries() {
            manifests.push(self.manifest(metadata, &manifest, progress).await?);
        }
        let stage = Stage::default();
        let output = stage.output(&moved).writer().await.map_err(fail())?;
        let parent = snapshot.parent_snapshot_id();
        let mut writer =
            ManifestListWriter::v2(output, snapshot.snapshot_id(), parent, snapshot.sequence_number());
        writer.add_manifests(manifests.into_iter()).map_err(fail())?;
        writer.close().await.map_err(fail())?;
        for (_, bytes) in stage.take() {
            self.write(&key, bytes, progress).await?;
        }
        Ok(())
    }

    /// Copies a manifest and the files in it.
    async fn manifest(
        &mut self,
        metadata: &TableMetadata,
        file: &ManifestFile,
        progress: &mut CopyProgress,
    ) -> Result<ManifestFile, LakeError> {
        let (moved, key) = self.moved(&file.manifest_path)?;
        if file.content != ManifestContentType::Data {
            let reason = "it lists deletes by another engine, whose files name locations too; run `headwater compact` \
                          first, which applies them";
            return Err(LakeError::corrupt(&key, reason));
        }
        if self.is_there(&key).await? {
            let bytes = self.to.store().read(&key).await?.map_or(0, |bytes| bytes.len());
            return Ok(relocated(file, moved, bytes));
        }
        if !self.from.store().exists(&key).await? {
            return Err(LakeError::corrupt(&key, "the manifest is gone"));
        }
        let fail = || LakeError::iceberg(format!("copy {key}"));
        let manifest = file.load_manifest(&self.from.store().file_io()).await.map_err(fail())?;
        let spec = metadata.partition_spec_by_id(file.partition_spec_id).cloned();
        let spec = spec.ok_or_else(|| LakeError::corrupt(&key, "its partition spec is unknown"))?;
        let schema = Arc::clone(manifest.metadata().schema());
        let kind = spec.partition_type(&schema).map_err(fail())?;
        let stage = Stage::default();
        let mut writer = ManifestWriterBuilder::new(
            stage.output(&moved),
            Some(file.added_snapshot_id),
            Arc::clone(&schema),
            spec.as_ref().clone(),
        )
        .build_v2_data();
        for entry in manifest.entries() {
            let rename = |data: &DataFile| -> Result<DataFile, LakeError> {
                let json =
                    serialize_data_file_to_json(data.clone(), &kind, FormatVersion::V2).map_err(fail())?;
                let mut json: Value = serde_json::from_str(&json).map_err(|e| LakeError::corrupt(&key, e))?;
                relocate(&mut json, self.from.location(), self.to.location());
                deserialize_data_file_from_json(&json.to_string(), file.partition_spec_id, &kind, &schema)
                    .map_err(fail())
            };
            let data = rename(entry.data_file())?;
            let number = entry.sequence_number().unwrap_or(file.sequence_number);
            let file_number = entry.file_sequence_number.or(Some(file.sequence_number));
            match entry.status() {
                ManifestStatus::Added => writer.add_file(data, UNASSIGNED_SEQUENCE_NUMBER),
                ManifestStatus::Existing => {
                    let born = entry.snapshot_id().unwrap_or(file.added_snapshot_id);
                    writer.add_existing_file(data, born, number, file_number)
                }
                ManifestStatus::Deleted => writer.add_delete_file(data, number, file_number),
            }
            .map_err(fail())?;
        }
        for entry in manifest.entries().iter().filter(|entry| entry.is_alive()) {
            let (_, data_key) = self.moved(entry.file_path())?;
            if self.done.insert(data_key.clone()) {
                copy_file(self.from, self.to, &data_key, progress).await?;
            }
        }
        let written = writer.write_manifest_file().await.map_err(fail())?;
        for (_, bytes) in stage.take() {
            self.write(&key, bytes, progress).await?;
        }
        let bytes = usize::try_from(written.manifest_length).unwrap_or_default();
        Ok(relocated(file, moved, bytes))
    }
}

fn relocated(file: &ManifestFile, location: String, bytes: usize) -> ManifestFile {
    let manifest_length = i64::try_from(bytes).unwrap_or(i64::MAX);
    ManifestFile { manifest_path: location, manifest_length, ..file.clone() }
}

/// Puts the new root in place of the old in every text that is a location below it.
fn relocate(json: &mut Value, from: &str, to: &str) {
    match json {
        Value::String(text) => {
            if let Some(rest) = text.strip_prefix(from).filter(|rest| rest.starts_with('/')) {
                *text = format!("{to}{rest}");
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| relocate(value, from, to)),
        Value::Object(members) => members.values_mut().for_each(|value| relocate(value, from, to)),
        _ => {}
    }
}

/// Copies a file as it is, as a stream, unless one of its size is there.
pub(super) async fn copy_file(
    from: &Lake,
    to: &Lake,
    key: &str,
    progress: &mut CopyProgress,
) -> Result<(), LakeError> {
    let fail = |e| LakeError::store("copy", key, e);
    let path = Path::parse(key).map_err(|source| fail(object_store::Error::InvalidPath { source }))?;
    let got = from.store().objects().get(&path).await.map_err(fail)?;
    let size = got.meta.size;
    match to.store().objects().head(&path).await {
        Ok(there) if there.size == size => return Ok(()),
        Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
        Err(e) => return Err(fail(e)),
    }
    let mut parts = got.into_stream();
    let target: Arc<dyn ObjectStore> = Arc::clone(to.store().objects());
    let mut writer = BufWriter::new(target, path);
    while let Some(part) = parts.try_next().await.map_err(fail)? {
        writer.put(part).await.map_err(fail)?;
    }
    let io =
        |source: std::io::Error| fail(object_store::Error::Generic { store: "lake", source: source.into() });
    writer.shutdown().await.map_err(io)?;
    progress.files += 1;
    progress.bytes += size;
    Ok(())
}

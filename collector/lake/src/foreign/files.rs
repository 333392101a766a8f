//! Files a client says it wrote: all below the table's own folder, all there, and counted anew.
//!
//! Only manifests that the base does not list are read, so a commit costs what it changes and not what the table holds.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};
use iceberg::spec::{
    DataContentType, DataFileFormat, FormatVersion, Manifest, ManifestContentType, ManifestFile,
    ManifestList, ManifestStatus, Snapshot, Summary,
};

use super::ForeignError;
use crate::error::LakeError;
use crate::names::TableName;
use crate::store::LakeStore;

/// Files one commit of a client may add: each is looked for in the store, and a hundred thousand take a minute there.
const ADDED_FILES_MAX: usize = 100_000;

/// Manifests read, and files looked for, at once.
const READS_MAX: usize = 16;

/// What a table holds, as a snapshot's summary tells it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) records: u64,
    pub(super) bytes: u64,
    data_files: u64,
    delete_files: u64,
    position_deletes: u64,
    equality_deletes: u64,
}

impl Totals {
    /// As a parent's summary has them.
    pub(super) fn of(summary: &Summary) -> Totals {
        let number = |word: &str| {
            summary.additional_properties.get(word).and_then(|text| text.parse().ok()).unwrap_or_default()
        };
        Totals {
            records: number("total-records"),
            bytes: number("total-files-size"),
            data_files: number("total-data-files"),
            delete_files: number("total-delete-files"),
            position_deletes: number("total-position-deletes"),
            equality_deletes: number("total-equality-deletes"),
        }
    }

    /// As a summary shall have them.
    pub(super) fn words(&self) -> [(&'static str, u64); 6] {
        [
            ("total-records", self.records),
            ("total-files-size", self.bytes),
            ("total-data-files", self.data_files),
            ("total-delete-files", self.delete_files),
            ("total-position-deletes", self.position_deletes),
            ("total-equality-deletes", self.equality_deletes),
        ]
    }

    /// What manifests count themselves.
    fn recount(&mut self, manifests: &[ManifestFile]) {
        let files = |m: &ManifestFile| {
            u64::from(m.added_files_count.unwrap_or(0)) + u64::from(m.existing_files_count.unwrap_or(0))
        };
        let rows = |m: &ManifestFile| m.added_rows_count.unwrap_or(0) + m.existing_rows_count.unwrap_or(0);
        let of = |content| manifests.iter().filter(move |m| m.content == content);
        self.records = of(ManifestContentType::Data).map(rows).sum();
        self.data_files = of(ManifestContentType::Data).map(files).sum();
        self.delete_files = of(ManifestContentType::Deletes).map(files).sum();
    }

    /// What they do not count: sizes, and rows deleted by position or by value.
    fn step(&mut self, manifest: &Manifest, snapshot_id: i64) {
        for entry in manifest.entries().iter().filter(|entry| entry.snapshot_id() == Some(snapshot_id)) {
            let apply = |total: u64, by: u64| match entry.status() {
                ManifestStatus::Added => total.saturating_add(by),
                ManifestStatus::Deleted => total.saturating_sub(by),
                ManifestStatus::Existing => total,
            };
            self.bytes = apply(self.bytes, entry.file_size_in_bytes());
            match entry.content_type() {
                DataContentType::Data => {}
                DataContentType::PositionDeletes => {
                    self.position_deletes = apply(self.position_deletes, entry.record_count());
                }
                DataContentType::EqualityDeletes => {
                    self.equality_deletes = apply(self.equality_deletes, entry.record_count());
                }
            }
        }
    }
}

/// What a snapshot lists, proven.
#[derive(Debug, Clone)]
pub(super) struct Listed {
    pub(super) manifests: Vec<ManifestFile>,
    pub(super) totals: Totals,
}

/// Proves snapshots of one table; what was read is kept, since a lost race asks again.
#[derive(Debug, Default)]
pub(super) struct Prover {
    lists: BTreeMap<String, Vec<ManifestFile>>,
    manifests: BTreeMap<String, Manifest>,
    /// Files known to be there.
    present: BTreeSet<String>,
}

impl Prover {
    /// Reads what `snapshot` lists beyond `before`, which is proven already.
    pub(super) async fn prove(
        &mut self,
        store: &LakeStore,
        table: &TableName,
        folder: &str,
        before: &Listed,
        snapshot: &Snapshot,
    ) -> Result<Listed, LakeError> {
        let url = snapshot.manifest_list();
        inside(table, folder, url)?;
        if !self.lists.contains_key(url) {
            let list = read_list(store, table, url).await?;
            self.lists.insert(url.to_owned(), list);
        }
        let manifests = self.lists.get(url).cloned().unwrap_or_default();
        let known: BTreeSet<&str> = before.manifests.iter().map(|m| m.manifest_path.as_str()).collect();
        let new: Vec<ManifestFile> =
            manifests.iter().filter(|m| !known.contains(m.manifest_path.as_str())).cloned().collect();
        self.read_manifests(store, table, folder, &new).await?;
        self.look_for_files(store, table, folder, &new).await?;

        let mut totals = before.totals;
        totals.recount(&manifests);
        for manifest in new.iter().filter_map(|m| self.manifests.get(&m.manifest_path)) {
            totals.step(manifest, snapshot.snapshot_id());
        }
        Ok(Listed { manifests, totals })
    }

    async fn read_manifests(
        &mut self,
        store: &LakeStore,
        table: &TableName,
        folder: &str,
        new: &[ManifestFile],
    ) -> Result<(), LakeError> {
        new.iter().try_for_each(|manifest| inside(table, folder, &manifest.manifest_path))?;
        let reads: Vec<BoxFuture<'_, _>> = new
            .iter()
            .filter(|manifest| !self.manifests.contains_key(&manifest.manifest_path))
            .map(|manifest| read_manifest(store, table, manifest).boxed())
            .collect();
        let read: Vec<(String, Manifest)> =
            futures::stream::iter(reads).buffer_unordered(READS_MAX).try_collect().await?;
        self.manifests.extend(read);
        Ok(())
    }

    async fn look_for_files(
        &mut self,
        store: &LakeStore,
        table: &TableName,
        folder: &str,
        new: &[ManifestFile],
    ) -> Result<(), LakeError> {
        let mut added: BTreeSet<&str> = BTreeSet::new();
        let read = new.iter().filter_map(|manifest| self.manifests.get(&manifest.manifest_path));
        for entry in read.flat_map(Manifest::entries) {
            inside(table, folder, entry.file_path())?;
            if entry.status() != ManifestStatus::Added || self.present.contains(entry.file_path()) {
                continue;
            }
            if entry.file_format() != DataFileFormat::Parquet {
                let reason = format!(
                    "{} is not a Parquet file, which alone every reader of a lake knows; set write.format.default=parquet",
                    entry.file_path()
                );
                return Err(ForeignError::Refused { table: table.clone(), reason }.into());
            }
            added.insert(entry.file_path());
        }
        if added.len() > ADDED_FILES_MAX {
            let reason = format!(
                "it adds {} files at once, {ADDED_FILES_MAX} are the most; write larger files or several commits",
                added.len()
            );
            return Err(ForeignError::Refused { table: table.clone(), reason }.into());
        }
        let looks: Vec<BoxFuture<'_, _>> =
            added.into_iter().map(|path| look_for(store, table, path).boxed()).collect();
        let present: Vec<String> =
            futures::stream::iter(looks).buffer_unordered(READS_MAX).try_collect().await?;
        self.present.extend(present);
        Ok(())
    }
}

async fn read_list(store: &LakeStore, table: &TableName, url: &str) -> Result<Vec<ManifestFile>, LakeError> {
    let bytes = store.read(&store.key_of(url)?).await?;
    let bytes = bytes.ok_or_else(|| missing(table, url))?;
    let list = ManifestList::parse_with_version(&bytes, FormatVersion::V2)
        .map_err(|e| unreadable(table, url, &e))?;
    Ok(list.consume_entries().into_iter().collect())
}

async fn read_manifest(
    store: &LakeStore,
    table: &TableName,
    manifest: &ManifestFile,
) -> Result<(String, Manifest), LakeError> {
    let url = &manifest.manifest_path;
    if !store.exists(&store.key_of(url)?).await? {
        return Err(missing(table, url).into());
    }
    let read = manifest.load_manifest(&store.file_io()).await.map_err(|e| unreadable(table, url, &e))?;
    Ok((url.clone(), read))
}

async fn look_for(store: &LakeStore, table: &TableName, url: &str) -> Result<String, LakeError> {
    match store.exists(&store.key_of(url)?).await? {
        true => Ok(url.to_owned()),
        false => Err(missing(table, url).into()),
    }
}

fn missing(table: &TableName, path: &str) -> ForeignError {
    ForeignError::MissingFile { table: table.clone(), path: path.to_owned() }
}

fn unreadable(table: &TableName, path: &str, error: &iceberg::Error) -> ForeignError {
    ForeignError::Body { table: table.to_string(), reason: format!("{path} cannot be read: {error}") }
}

/// Refuses a path that is not below `folder`.
pub(super) fn inside(table: &TableName, folder: &str, path: &str) -> Result<(), ForeignError> {
    let below = path.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/'));
    let is_inside = below.is_some_and(|below| {
        !below.is_empty() && below.split('/').all(|part| !matches!(part, "" | "." | ".."))
    });
    match is_inside {
        true => Ok(()),
        false => Err(ForeignError::Escape {
            table: table.clone(),
            path: path.to_owned(),
            folder: folder.to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_leaves_the_folder_is_refused() {
        let table = TableName::new("raw.imu").unwrap();
        let folder = "file:///lake/t/raw/imu-0a1b2c3d";
        inside(&table, folder, "file:///lake/t/raw/imu-0a1b2c3d/data/ts_day=2026-01-01/a.parquet").unwrap();
        for path in [
            "file:///lake/t/raw/imu-0a1b2c3d",
            "file:///lake/t/raw/imu-0a1b2c3d/",
            "file:///lake/t/raw/imu-0a1b2c3d/../gps/a.parquet",
            "file:///lake/t/raw/imu-0a1b2c3d//a.parquet",
            "file:///lake/t/raw/imu-0a1b2c3d-more/a.parquet",
            "file:///lake/_repo/refs/heads/main/1.json",
            "/lake/t/raw/imu-0a1b2c3d/a.parquet",
            "s3://other/a.parquet",
        ] {
            let refused = inside(&table, folder, path).unwrap_err();
            assert!(matches!(refused, ForeignError::Escape { .. }), "{path}");
        }
    }
}

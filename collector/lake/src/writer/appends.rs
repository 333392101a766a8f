//! The rows of one commit on their way to files: encoded once, and again only if the table under them changed shape.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};
use iceberg::spec::{DataFile, ManifestFile, Operation, SchemaRef, TableMetadata};
use uuid::Uuid;

use super::TableAppend;
use super::base::Base;
use super::plan::Drafting;
use crate::budget;
use crate::error::LakeError;
use crate::lake::Lake;
use crate::names::TableName;
use crate::store::{LakeStore, Stage};
use crate::table::{self, Built, Change, Context, EncodedFile, Shape, TableError, TableState};

/// Tables encoded at once: it is work for the CPU. What they hold in memory is bounded in bytes.
const ENCODERS_MAX: usize = 4;

/// All appends of a commit that have rows.
#[derive(Debug)]
pub(super) struct Appends {
    tables: Vec<Append>,
}

/// One table's rows.
#[derive(Debug)]
pub(super) struct Append {
    /// Shared with the encoder: there may be thousands of batches.
    append: Arc<TableAppend>,
    /// Id the table gets if this commit makes it.
    uuid: Uuid,
    /// It is made even if there is one.
    is_anew: bool,
    encoded: Option<Encoded>,
}

/// Files that leave a table with the commit that brings rows for it, and those with what stays of them.
#[derive(Debug)]
pub(super) struct Removal {
    pub(super) removed: BTreeSet<String>,
    pub(super) added: Vec<DataFile>,
}

/// Rows as files, valid for one table in one shape.
#[derive(Debug)]
pub(super) struct Encoded {
    location: String,
    schema: SchemaRef,
    files: Vec<EncodedFile>,
    manifest: ManifestFile,
    snapshot_id: i64,
    manifest_bytes: BTreeMap<String, Bytes>,
    written: bool,
}

impl Encoded {
    fn fits(&self, draft: &TableMetadata) -> bool {
        self.location == draft.location()
            && self.schema.schema_id() == draft.current_schema_id()
            && self.schema.as_struct() == draft.current_schema().as_struct()
    }
}

impl Appends {
    /// Of rows for tables; those in `anew` are made again, whatever is there.
    pub(super) fn new(appends: Vec<TableAppend>, anew: &BTreeSet<TableName>) -> Result<Appends, LakeError> {
        let mut seen = BTreeSet::new();
        let mut tables = Vec::new();
        for append in appends {
            append.spec.check()?;
            if !seen.insert(append.spec.name.clone()) {
                let reason = "the table is given twice in one commit; put its batches together".to_owned();
                let (table, column) = (append.spec.name, "*".to_owned());
                return Err(TableError::Declaration { table, column, reason }.into());
            }
            if append.batches.iter().any(|batch| batch.num_rows() > 0) {
                let is_anew = anew.contains(&append.spec.name);
                tables.push(Append {
                    append: Arc::new(append),
                    uuid: Uuid::new_v4(),
                    is_anew,
                    encoded: None,
                });
            }
        }
        Ok(Appends { tables })
    }

    /// Encodes what is not yet encoded for the tables as `base` has them.
    pub(super) async fn prepare(&mut self, lake: &Lake, base: &mut Base) -> Result<(), LakeError> {
        let mut todo = Vec::new();
        base.need_all(lake, self.tables.iter().map(|table| &table.append.spec.name)).await?;
        for (place, table) in self.tables.iter_mut().enumerate() {
            let draft = table.draft(lake, base)?.draft;
            if !table.encoded.as_ref().is_some_and(|encoded| encoded.fits(&draft)) {
                todo.push((place, Arc::clone(&table.append), draft));
            }
        }
        let encoders: Vec<BoxFuture<'_, _>> = todo
            .into_iter()
            .map(|(place, append, draft)| {
                async move { Ok::<_, LakeError>((place, encode(lake.store(), append, draft).await?)) }.boxed()
            })
            .collect();
        let encoded: Vec<(usize, Encoded)> =
            futures::stream::iter(encoders).buffer_unordered(ENCODERS_MAX).try_collect().await?;
        for (place, encoded) in encoded {
            self.tables[place].encoded = Some(encoded);
        }
        Ok(())
    }

    /// Objects that are encoded and not yet in the store, by URL.
    pub(super) fn unwritten(&self) -> Vec<(String, Bytes)> {
        let encoded =
            self.tables.iter().filter_map(|table| table.encoded.as_ref()).filter(|encoded| !encoded.written);
        encoded
            .flat_map(|encoded| {
                let files = encoded
                    .files
                    .iter()
                    .map(|file| (file.data_file.file_path().to_owned(), file.bytes.clone()));
                files.chain(encoded.manifest_bytes.iter().map(|(url, bytes)| (url.clone(), bytes.clone())))
            })
            .collect()
    }

    /// True if there are rows for a table.
    pub(super) fn has_rows_for(&self, table: &TableName) -> bool {
        self.tables.iter().any(|append| append.append.spec.name == *table)
    }

    /// Links what is encoded into the commit, and gives the rows and bytes added; `removals` go along.
    pub(super) async fn link(
        &self,
        lake: &Lake,
        base: &Base,
        drafting: &mut Drafting,
        removals: &BTreeMap<TableName, Removal>,
    ) -> Result<(u64, u64), LakeError> {
        for (url, bytes) in self.unwritten() {
            drafting.object(url, bytes);
        }
        let (mut rows, mut bytes) = (0, 0);
        let (summary, time_us) = (drafting.summary().clone(), drafting.commit.time_us);
        let mut builds: Vec<BoxFuture<'_, Result<(&TableName, Built), LakeError>>> = Vec::new();
        for append in &self.tables {
            let name = &append.append.spec.name;
            let Some(encoded) = append.encoded.as_ref() else {
                return Err(LakeError::corrupt(name, "its rows were not encoded before they were linked"));
            };
            let new = encoded.files.iter().map(|file| file.data_file.clone());
            let change = match removals.get(name) {
                None => Change {
                    added: new.collect(),
                    added_manifest: Some(encoded.manifest.clone()),
                    removed: BTreeSet::new(),
                    operation: Operation::Append,
                },
                Some(removal) => Change {
                    added: new.chain(removal.added.iter().cloned()).collect(),
                    added_manifest: None,
                    removed: removal.removed.clone(),
                    operation: Operation::Overwrite,
                },
            };
            // What stays of files whose other rows went is not new.
            rows += encoded.files.iter().map(|file| file.data_file.record_count()).sum::<u64>();
            bytes += change.added.iter().map(|file| file.file_size_in_bytes()).sum::<u64>();
            let drafted = append.draft(lake, base)?;
            let snapshot_id = encoded.snapshot_id;
            let context =
                Context { store: lake.store(), table: name, snapshot_id, time_us, summary: &summary };
            let build = async move {
                Ok((name, table::produce(&context, drafted, append.before(base), &change).await?))
            };
            builds.push(build.boxed());
        }
        // What one has to read it reads beside the others.
        for (name, built) in futures::future::try_join_all(builds).await? {
            drafting.put(name, built);
        }
        Ok((rows, bytes))
    }

    /// Marks everything encoded as stored.
    pub(super) fn written(&mut self) {
        for encoded in self.tables.iter_mut().filter_map(|table| table.encoded.as_mut()) {
            encoded.written = true;
        }
    }
}

impl Append {
    /// The table it is appended to; none if this commit makes it.
    fn before<'a>(&self, base: &'a Base) -> Option<&'a TableState> {
        base.tables.get(&self.append.spec.name).filter(|_| !self.is_anew)
    }

    /// The table's next metadata on `base`, without the snapshot.
    pub(super) fn draft(&self, lake: &Lake, base: &Base) -> Result<table::Drafted, LakeError> {
        let spec = &self.append.spec;
        match self.before(base) {
            Some(state) => table::evolve(&state.metadata, &state.entry.metadata_location, spec),
            None => table::create(lake.location(), spec, self.uuid),
        }
    }
}

async fn encode(
    store: &LakeStore,
    append: Arc<TableAppend>,
    draft: Arc<TableMetadata>,
) -> Result<Encoded, LakeError> {
    let name = append.spec.name.clone();
    let shape = Arc::clone(&draft);
    let in_memory = append.batches.iter().map(|batch| batch.get_array_memory_size()).sum();
    let _encoding = budget::ENCODING.take(in_memory).await;
    let encoding = move || table::encode(&Shape::new(append.spec.clone(), shape)?, &append.batches);
    let files = tokio::task::spawn_blocking(encoding)
        .await
        .map_err(|source| LakeError::Task { task: "the encoder", source })??;
    let stage = Stage::default();
    let snapshot_id = table::snapshot_id();
    let added: Vec<_> = files.iter().map(|file| file.data_file.clone()).collect();
    let manifest = table::manifest_of(store, &stage, &name, &draft, snapshot_id, &added).await?;
    Ok(Encoded {
        location: draft.location().to_owned(),
        schema: Arc::clone(draft.current_schema()),
        files,
        manifest,
        snapshot_id,
        manifest_bytes: stage.take(),
        written: false,
    })
}

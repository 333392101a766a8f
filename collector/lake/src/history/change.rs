//! A table's next state from files that come and go, put into a commit that is being drafted.

use std::collections::{BTreeMap, BTreeSet};

use arrow_array::RecordBatch;
use arrow_select::filter::filter_record_batch;
use iceberg::spec::Operation;

use super::files::{Delta, Files};
use super::keys::{self, Keys};
use super::report::TableConflict;
use super::rows;
use crate::error::LakeError;
use crate::lake::Lake;
use crate::names::TableName;
use crate::table::{self, Change, Context, Drafted, EncodedFile, TableState};
use crate::writer::Drafting;

/// What becomes of one table.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It stays.
    Keep,
    /// It points at a state that is stored already; none drops the table.
    Point(Option<TableState>),
    /// Files come and go on top of a state.
    Change(Box<Changed>),
}

/// A state with files that come and go.
#[derive(Debug)]
pub(super) struct Changed {
    pub(super) onto: Option<TableState>,
    pub(super) drafted: Drafted,
    pub(super) delta: Delta,
    /// Files written anew.
    pub(super) encoded: Vec<EncodedFile>,
    /// Rows left out of them, because their key was there.
    pub(super) dropped: u64,
}

impl Changed {
    pub(super) fn new(onto: Option<TableState>, drafted: Drafted, delta: Delta) -> Changed {
        Changed { onto, drafted, delta, encoded: Vec::new(), dropped: 0 }
    }

    /// True if neither rows nor columns change.
    fn is_empty(&self) -> bool {
        let columns = self.onto.as_ref().map(|onto| onto.metadata.current_schema().as_struct());
        let same = columns == Some(self.drafted.draft.current_schema().as_struct());
        same && self.delta.is_empty() && self.encoded.is_empty()
    }

    /// Leaves out of the files that come the rows whose key is among `known`; only files that hold such a row are
    /// written anew. `theirs` reads the files. Gives the keys that are left.
    pub(super) async fn drop_known(
        &mut self,
        lake: &Lake,
        name: &TableName,
        theirs: &TableState,
        known: &Keys,
    ) -> Result<Keys, LakeError> {
        let mut left = Keys::default();
        for (url, live) in self.delta.added.clone() {
            let one: Files = BTreeMap::from([(url.clone(), live.clone())]);
            let of_file = keys::of_files(lake.store(), name, &theirs.metadata, &one).await?;
            left.union_with(&of_file.without(known));
            let twice = of_file.within(known);
            if twice.is_empty() {
                continue;
            }
            self.delta.added.remove(&url);
            let batches = rows::read(lake.store(), name, &theirs.metadata, &live, None).await?;
            let mut kept = Vec::new();
            for batch in batches {
                let keep = keys::rows_without(&batch, known);
                let wrong = |e: arrow_schema::ArrowError| LakeError::corrupt(&url, e);
                let batch_kept = filter_record_batch(&batch, &keep).map_err(wrong)?;
                self.dropped += (batch.num_rows() - batch_kept.num_rows()) as u64;
                kept.push(batch_kept);
            }
            self.append(name, kept).await?;
        }
        Ok(left)
    }

    /// Adds rows as files of their own.
    pub(super) async fn append(
        &mut self,
        name: &TableName,
        batches: Vec<RecordBatch>,
    ) -> Result<(), LakeError> {
        if batches.iter().all(|batch| batch.num_rows() == 0) {
            return Ok(());
        }
        let draft = std::sync::Arc::clone(&self.drafted.draft);
        let shape = table::Shape::stored(name, &draft)?;
        let encoded = tokio::task::spawn_blocking(move || table::encode(&shape, &batches))
            .await
            .map_err(|source| LakeError::Task { task: "the encoder", source })??;
        self.encoded.extend(encoded);
        Ok(())
    }
}

/// Files that cannot be added by a manifest of ours.
pub(super) fn unfit(name: &TableName, drafted: &Drafted, delta: &Delta) -> Option<TableConflict> {
    let spec_id = drafted.draft.default_partition_spec_id();
    let odd = |files: &Files, is_odd: &dyn Fn(&super::files::LiveFile) -> bool| -> Vec<String> {
        files.iter().filter(|(_, live)| is_odd(live)).map(|(url, _)| url.clone()).collect()
    };
    let mut files = odd(&delta.added, &|live| !live.is_data() || live.spec_id != spec_id);
    files.extend(odd(&delta.removed, &|live| !live.is_data()));
    (!files.is_empty()).then(|| TableConflict {
        table: name.clone(),
        reason:
            "it brings delete files or files of another partition spec; compact the table on that side first"
                .to_owned(),
        files,
    })
}

/// Puts the outcomes into the commit. True if anything differs from the base.
pub(super) async fn put(
    lake: &Lake,
    drafting: &mut Drafting,
    outcomes: BTreeMap<TableName, Outcome>,
) -> Result<bool, LakeError> {
    let mut any = false;
    for (name, outcome) in outcomes {
        match outcome {
            Outcome::Keep => {}
            Outcome::Point(state) => {
                let entry = state.map(|state| state.entry);
                any |= drafting.commit.tables.get(&name) != entry.as_ref();
                drafting.point(&name, entry);
            }
            Outcome::Change(changed) if changed.is_empty() => {
                let entry = changed.onto.map(|state| state.entry);
                any |= drafting.commit.tables.get(&name) != entry.as_ref();
                drafting.point(&name, entry);
            }
            Outcome::Change(changed) => {
                any = true;
                produce(lake, drafting, &name, *changed).await?;
            }
        }
    }
    Ok(any)
}

async fn produce(
    lake: &Lake,
    drafting: &mut Drafting,
    name: &TableName,
    changed: Changed,
) -> Result<(), LakeError> {
    let Changed { onto, drafted, delta, encoded, .. } = changed;
    let snapshot_id = table::snapshot_id();
    let mut added: Vec<_> = delta.added.values().map(|live| live.file.clone()).collect();
    added.extend(encoded.iter().map(|file| file.data_file.clone()));
    let removed: BTreeSet<String> = delta.removed_urls();
    let operation = match (added.is_empty(), removed.is_empty()) {
        (_, true) => Operation::Append,
        (true, false) => Operation::Delete,
        (false, false) => Operation::Overwrite,
    };
    let summary = drafting.summary().clone();
    let context = Context {
        store: lake.store(),
        table: name,
        snapshot_id,
        time_us: drafting.commit.time_us,
        summary: &summary,
    };
    let stats = &mut drafting.commit.stats;
    stats.rows += added.iter().map(|file| file.record_count()).sum::<u64>();
    stats.bytes += added.iter().map(|file| file.file_size_in_bytes()).sum::<u64>();
    let change = Change { added, added_manifest: None, removed, operation };
    let built = table::produce(&context, drafted, onto.as_ref(), &change).await?;
    for file in encoded {
        drafting.object(file.data_file.file_path().to_owned(), file.bytes);
    }
    drafting.put(name, built);
    Ok(())
}

/// A state's metadata as it is, to be followed by a snapshot.
pub(super) fn unchanged(state: &TableState) -> Drafted {
    let metadata = std::sync::Arc::clone(&state.metadata);
    let location = state.entry.metadata_location.clone();
    let builder = iceberg::spec::TableMetadata::clone(&metadata).into_builder(Some(location));
    Drafted { builder, draft: metadata }
}

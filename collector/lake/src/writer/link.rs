//! Linking: everything of a commit that depends on the base it lands on, built in memory and cheap to build again.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use iceberg::spec::Operation;

use super::CommitRequest;
use super::appends::Appends;
use super::base::Base;
use crate::error::LakeError;
use crate::lake::Lake;
use crate::names::{CommitId, TableName};
use crate::repo::{COMMIT_VERSION, CommitObject, CommitStats};
use crate::revision;
use crate::table::{self, Change, Context, TableState};

/// A commit ready to be stored.
#[derive(Debug)]
pub(super) struct Linked {
    pub(super) commit: CommitObject,
    pub(super) states: BTreeMap<TableName, TableState>,
    /// Objects by URL: manifest lists, merged manifests, metadata, the commit.
    pub(super) objects: Vec<(String, Bytes)>,
}

pub(super) async fn link(
    lake: &Lake,
    author: &str,
    request: &CommitRequest,
    base: &Base,
    appends: &Appends<'_>,
) -> Result<Linked, LakeError> {
    let parent = base.commit.as_ref();
    let mut summary = BTreeMap::from([
        ("hw.repo".to_owned(), lake.repo_id().to_string()),
        ("hw.commit-kind".to_owned(), request.kind.as_str().to_owned()),
    ]);
    if let Some(parent) = parent {
        summary.insert("hw.parent".to_owned(), parent.id.to_string());
    }

    let mut stats = CommitStats { rows: 0, bytes: 0, ..request.stats.clone() };
    let mut tables = parent.map(|parent| parent.tables.clone()).unwrap_or_default();
    let mut states = BTreeMap::new();
    let mut objects = Vec::new();
    for append in &appends.tables {
        let name = &append.append.spec.name;
        let Some(encoded) = append.encoded.as_ref() else {
            return Err(LakeError::corrupt(name, "its rows were not encoded before they were linked"));
        };
        let change = Change {
            added: encoded.files.iter().map(|file| file.data_file.clone()).collect(),
            added_manifest: Some(encoded.manifest.clone()),
            removed: BTreeSet::new(),
            operation: Operation::Append,
        };
        let context = Context {
            store: lake.store(),
            table: name,
            snapshot_id: encoded.snapshot_id,
            time_us: request.time_us,
            summary: &summary,
        };
        let drafted = append.draft(lake, base)?;
        let built = table::produce(&context, drafted, base.tables.get(name), &change).await?;
        stats.rows += change.added.iter().map(|file| file.record_count()).sum::<u64>();
        stats.bytes += change.added.iter().map(|file| file.file_size_in_bytes()).sum::<u64>();
        tables.insert(name.clone(), built.state.entry.clone());
        objects.extend(built.files);
        states.insert(name.clone(), built.state);
    }

    let mut landing = parent.map(|parent| parent.landing.clone()).unwrap_or_default();
    for (incarnation, cursor) in &request.landing {
        let highest = landing.entry(incarnation.clone()).or_default();
        *highest = highest.max(*cursor);
    }
    let mut coverage = parent.map(|parent| parent.coverage.clone()).unwrap_or_default();
    coverage.extend(request.coverage.clone());
    let commit = CommitObject {
        id: CommitId::digest_of(b""),
        v: COMMIT_VERSION,
        parents: parent.map(|parent| parent.id.clone()).into_iter().collect(),
        kind: request.kind,
        author: author.to_owned(),
        message: request.message.clone(),
        time_us: request.time_us,
        tables,
        stats,
        gates: request.gates.clone(),
        ledger_checkpoint: request
            .ledger_checkpoint
            .clone()
            .or_else(|| parent.and_then(|parent| parent.ledger_checkpoint.clone())),
        coverage,
        landing,
        lineage: request.lineage.clone(),
    }
    .seal()?;
    objects.push((lake.store().url(&revision::commit_key(&commit.id)), Bytes::from(commit.to_bytes()?)));
    Ok(Linked { commit, states, objects })
}

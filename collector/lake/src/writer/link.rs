//! Linking: everything of an appending commit that depends on the base it lands on, built in memory and cheap to build
//! again.

use std::collections::BTreeSet;

use async_trait::async_trait;
use iceberg::spec::Operation;

use super::CommitRequest;
use super::appends::Appends;
use super::base::Base;
use super::plan::{Draft, Drafting, Plan};
use crate::error::LakeError;
use crate::lake::Lake;
use crate::repo::{CommitStats, RefOp};
use crate::table::{self, Change, Context};

/// The plan of [`LakeWriter::commit`](super::LakeWriter::commit): rows on top of whatever is there.
#[derive(Debug)]
pub(super) struct Appending<'a> {
    request: &'a CommitRequest,
    appends: Appends<'a>,
}

impl<'a> Appending<'a> {
    pub(super) fn new(request: &'a CommitRequest) -> Result<Appending<'a>, LakeError> {
        Ok(Appending { request, appends: Appends::new(&request.appends)? })
    }
}

#[async_trait]
impl Plan for Appending<'_> {
    fn time_us(&self) -> i64 {
        self.request.time_us
    }

    async fn draft(
        &mut self,
        lake: &Lake,
        author: &str,
        base: &mut Base,
    ) -> Result<Option<Draft>, LakeError> {
        let request = self.request;
        if let Some(known) = &request.known {
            let aligned = !request.coverage.is_empty();
            super::known::check(lake, base.commit.as_ref(), known, aligned).await?;
        }
        self.appends.prepare(lake, base).await?;
        let mut drafting = Drafting::on(lake, author, base, request.kind, request.time_us);
        for (url, bytes) in self.appends.unwritten() {
            drafting.object(url, bytes);
        }
        let mut stats = CommitStats { rows: 0, bytes: 0, ..request.stats.clone() };
        for append in &self.appends.tables {
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
                summary: drafting.summary(),
            };
            let drafted = append.draft(lake, base)?;
            let built = table::produce(&context, drafted, base.tables.get(name), &change).await?;
            stats.rows += change.added.iter().map(|file| file.record_count()).sum::<u64>();
            stats.bytes += change.added.iter().map(|file| file.file_size_in_bytes()).sum::<u64>();
            drafting.put(name, built);
        }
        drafting.raise_landing(&request.landing);
        drafting.set_coverage(&request.coverage);
        drafting.set_ledger_checkpoint(request.ledger_checkpoint.as_ref());
        let commit = &mut drafting.commit;
        commit.message.clone_from(&request.message);
        commit.stats = stats;
        commit.gates.clone_from(&request.gates);
        commit.lineage.clone_from(&request.lineage);
        drafting.seal(lake, RefOp::Commit).map(Some)
    }

    fn stored(&mut self) {
        self.appends.written();
    }
}

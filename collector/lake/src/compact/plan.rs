//! A compaction as a commit: merged files take the place of theirs, in all tables at once. Appends that came meanwhile do
//! not matter; a group whose files somebody else took is dropped, and the others go on.

use std::collections::BTreeMap;

use async_trait::async_trait;
use iceberg::spec::Operation;

use super::files::FileIndex;
use super::replace::{Overtaken, Replacement, check, link};
use crate::error::LakeError;
use crate::lake::Lake;
use crate::names::TableName;
use crate::repo::{CommitKind, CommitStats, RefOp};
use crate::writer::{Base, Draft, Drafting, Plan};

/// The plan of [`LakeWriter::compact`](crate::LakeWriter::compact).
#[derive(Debug)]
pub(super) struct Compacting {
    pub(super) time_us: i64,
    pub(super) tables: BTreeMap<TableName, Vec<Replacement>>,
    pub(super) index: FileIndex,
    /// Groups of the last draft that no longer fit.
    pub(super) dropped: Vec<(TableName, i32, Overtaken)>,
    /// Files of the last draft: taken away, put in their place; and bytes of the former.
    pub(super) files: (usize, usize),
    pub(super) bytes_in: u64,
}

#[async_trait]
impl Plan for Compacting {
    fn time_us(&self) -> i64 {
        self.time_us
    }

    async fn draft(
        &mut self,
        lake: &Lake,
        author: &str,
        base: &mut Base,
    ) -> Result<Option<Draft>, LakeError> {
        (self.dropped, self.files, self.bytes_in) = (Vec::new(), (0, 0), 0);
        let mut drafting = Drafting::on(lake, author, base, CommitKind::Compact, self.time_us);
        let (mut tables, mut bytes) = (0, 0);
        base.need_all(lake, self.tables.keys()).await?;
        for (name, all) in &self.tables {
            let fits = check(lake, base, &mut self.index, name, all).await?;
            let mut fitting = Vec::new();
            for (one, fits) in all.iter().zip(fits) {
                match fits {
                    Ok(()) => fitting.push(one),
                    Err(why) => self.dropped.push((name.clone(), one.day, why)),
                }
            }
            if fitting.is_empty() {
                continue;
            }
            bytes +=
                link(lake, base, &mut self.index, &mut drafting, name, &fitting, Operation::Replace).await?;
            tables += 1;
            self.files.0 += fitting.iter().map(|one| one.inputs.len()).sum::<usize>();
            self.files.1 += fitting.iter().map(|one| one.added.len()).sum::<usize>();
            self.bytes_in += fitting.iter().map(|one| one.bytes_in).sum::<u64>();
        }
        if tables == 0 {
            return Ok(None);
        }
        let (from, into) = self.files;
        drafting.commit.message = format!("{from} files of {tables} tables into {into}");
        // No row is added; the bytes are those written again.
        drafting.commit.stats = CommitStats { rows: 0, bytes, ..CommitStats::default() };
        drafting.seal(lake, RefOp::Commit).map(Some)
    }
}

//! Taking rows out of a lake: by age (retention), and for good (erasure).
//!
//! Both are commits that only leave things out. Retention drops whole files of old days; history then runs out by itself.
//! An erasure rewrites the files that hold the rows, on every branch, and its commit ends that line of history: what is
//! below it is garbage at once, so that the collector takes the old files after its grace time.

mod erasing;
mod files;
mod retention;
mod scope;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::Serialize;
use uuid::Uuid;

use self::erasing::Erasing;
use self::files::Files;
pub use self::retention::{Dropped, RetentionReport, RetentionRule, TablePattern};
pub use self::scope::Erasure;
use crate::error::LakeError;
use crate::lake::Lake;
use crate::names::{CommitId, RefName, TableName};
use crate::protect::Warrant;
use crate::reach::tags_of;
use crate::repo::{canonical, tag_key};

/// Rounds over all branches: each looks for those made meanwhile. More than this many and somebody keeps making them.
const ROUNDS_MAX: u32 = 10;

/// Rows and files of one table that an erasure concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Erased {
    /// Rows that go.
    pub rows: u64,
    /// Files that hold them.
    pub files: u64,
}

/// What an erasure would take.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct ErasePreview {
    /// By branch and table.
    pub branches: BTreeMap<RefName, BTreeMap<TableName, Erased>>,
    /// Tags whose commits hold such rows, with how many.
    pub tags: BTreeMap<RefName, u64>,
}

impl ErasePreview {
    /// The rows of the branch that has most.
    pub fn rows(&self) -> u64 {
        let rows = |tables: &BTreeMap<TableName, Erased>| tables.values().map(|erased| erased.rows).sum();
        self.branches.values().map(rows).max().unwrap_or(0)
    }
}

/// What an erasure did: also what `_repo/audit/erasure-<id>.json` keeps for ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EraseReport {
    /// Version of the form.
    pub v: u32,
    /// The erasure's own id.
    pub id: Uuid,
    /// What was asked for.
    pub erasure: Erasure,
    /// Who asked.
    pub author: String,
    /// When, UTC µs.
    pub time_us: i64,
    /// The commit that ends each branch's history.
    pub commits: BTreeMap<RefName, CommitId>,
    /// Rows that went, by branch and table.
    pub rows: BTreeMap<RefName, BTreeMap<TableName, u64>>,
    /// Tags that were deleted, and what they named.
    pub tags: BTreeMap<RefName, CommitId>,
}

/// Told about files done, of those known.
pub type TellErase<'a> = &'a mut (dyn FnMut(u64, u64) + Send);

impl Lake {
    /// Counts what an erasure would take, on every branch and tag. Changes nothing.
    ///
    /// # Errors
    /// [`LakeError::Erasure`] when it is not well formed; when the store fails.
    pub async fn preview_erase(
        &self,
        erasure: &Erasure,
        tell: TellErase<'_>,
    ) -> Result<ErasePreview, LakeError> {
        erasure.check()?;
        let mut files = Files::default();
        let mut preview = ErasePreview::default();
        for (name, head) in self.refs().list().await? {
            let Some(id) = head.commit else { continue };
            preview.branches.insert(name, files.count(self, &id, erasure, &mut *tell).await?);
        }
        for (name, id) in tags_of(self).await? {
            let counted = files.count(self, &id, erasure, &mut *tell).await?;
            let rows: u64 = counted.values().map(|erased| erased.rows).sum();
            if rows > 0 {
                preview.tags.insert(name, rows);
            }
        }
        Ok(preview)
    }

    /// Erases: a commit without the rows on every branch, below which no branch has history any more. Tags whose commits
    /// hold such rows are deleted if `drop_tags` says so. The old files go with the next runs of the collector.
    ///
    /// # Errors
    /// [`LakeError::Erasure`] when a tag stands against it or it is not well formed; when the store fails. What was done
    /// until then stands, and doing it again ends it.
    pub async fn erase(
        &self,
        erasure: &Erasure,
        drop_tags: bool,
        author: &str,
        time_us: i64,
        tell: TellErase<'_>,
    ) -> Result<EraseReport, LakeError> {
        let preview = self.preview_erase(erasure, &mut *tell).await?;
        if !drop_tags && !preview.tags.is_empty() {
            let names: Vec<&str> = preview.tags.keys().map(RefName::as_str).collect();
            let reason = format!(
                "tags hold such rows and never move: {}; give --drop-tags to delete them with it",
                names.join(", ")
            );
            return Err(LakeError::Erasure { reason });
        }
        let mut report = EraseReport {
            v: 1,
            id: Uuid::new_v4(),
            erasure: erasure.clone(),
            author: author.to_owned(),
            time_us,
            commits: BTreeMap::new(),
            rows: BTreeMap::new(),
            tags: BTreeMap::new(),
        };
        // Before anything goes, so that a torn erasure can be told from none.
        self.note(&format!("erasure-{}.begun", report.id), &report).await?;
        let mut files = Files::default();
        let mut done = BTreeSet::new();
        for round in 0.. {
            let heads = self.refs().list().await?;
            let new: Vec<RefName> =
                heads.into_iter().map(|(name, _)| name).filter(|name| !done.contains(name)).collect();
            if new.is_empty() {
                break;
            }
            if round == ROUNDS_MAX {
                let reason =
                    "branches keep being made while it runs; stop what makes them and erase again".to_owned();
                return Err(LakeError::Erasure { reason });
            }
            for name in new {
                let mut plan = Erasing::new(erasure, report.id, time_us, &mut files, &mut *tell);
                let made = self
                    .acting(Warrant::Upkeep)
                    .writer(name.clone(), author.to_owned())
                    .publish(&mut plan)
                    .await;
                let rows = plan.rows();
                if let Some(made) = made.map_err(LakeError::from_commit)? {
                    report.commits.insert(name.clone(), made.id);
                    report.rows.insert(name.clone(), rows);
                }
                done.insert(name);
            }
        }
        for (name, id) in tags_of(self).await? {
            if preview.tags.contains_key(&name) {
                report.tags.insert(name, id);
            }
        }
        self.note(&format!("erasure-{}", report.id), &report).await?;
        let keys: Vec<String> = report.tags.keys().map(tag_key).collect();
        self.store().delete_all(&keys).await?;
        Ok(report)
    }

    async fn note(&self, name: &str, report: &EraseReport) -> Result<(), LakeError> {
        let key = format!("_repo/audit/{name}.json");
        let bytes = canonical::to_bytes(report).map_err(|reason| LakeError::corrupt(&key, reason))?;
        self.store().create(&key, Bytes::from(bytes)).await.map(|_| ())
    }
}

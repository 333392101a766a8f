//! Mending: what can be done safely about what a check found. Nothing is ever overwritten or silently left out: each
//! mending is a new ref entry or a new commit that says what is lost.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use async_trait::async_trait;
use iceberg::spec::{ManifestContentType, Operation};
use uuid::Uuid;

use super::{CheckReport, Finding, Problem};
use crate::error::LakeError;
use crate::gc::{Tally, remove_leftovers};
use crate::lake::Lake;
use crate::names::{CommitId, RefName, TableName};
use crate::protect::Warrant;
use crate::reach::{Kind, Walker, give_up};
use crate::repo::{CommitKind, Head, PublishError, RefOp, RefUpdate};
use crate::revision::commit_key;
use crate::table::{self, Change, Context};
use crate::writer::{Base, Draft, Drafting, Plan};

/// What is done about a problem, in words for the report.
pub(super) fn what_for(problem: Problem, kind: Kind) -> Option<&'static str> {
    match (problem, kind) {
        (Problem::Missing | Problem::Unreadable | Problem::WrongSize, Kind::Data) => {
            Some("a commit without the file on every branch that has it, which names the rows that are lost")
        }
        (
            Problem::Missing | Problem::Unreadable,
            Kind::Commit | Kind::Metadata | Kind::ManifestList | Kind::Manifest,
        ) => Some("where a head needs it: the branch is set to its newest whole commit"),
        _ => None,
    }
}

/// One thing to be mended.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Repair {
    /// A branch whose head cannot be read is set to its newest whole commit.
    SetBack {
        /// The branch.
        name: RefName,
        /// Its head, which cannot be read.
        from: CommitId,
        /// The newest commit of its log that is whole.
        to: CommitId,
        /// Ref entries between them.
        entries: u64,
    },
    /// Files that are lost leave a branch's tables.
    DropFiles {
        /// The branch.
        name: RefName,
        /// Keys of lost files by table.
        files: BTreeMap<TableName, BTreeSet<String>>,
        /// Rows that were in them.
        rows: u64,
    },
    /// Leftovers of writes that were cut short are deleted.
    Leftovers(Tally),
}

/// What was mended.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct RepairReport {
    /// What was done, with the commit or entry that says so.
    pub done: Vec<(Repair, String)>,
    /// Findings nothing can be done about here.
    pub left: Vec<Finding>,
}

/// Age of leftovers that a repair takes, µs: a day is longer than any write.
const LEFTOVER_US: i64 = 24 * 3_600_000_000;

/// Ref entries looked back through for a whole commit.
const ENTRIES_MAX: usize = 10_000;

impl Lake {
    /// What could be mended of a check's findings; changes nothing.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn plan_repair(&self, report: &CheckReport) -> Result<Vec<Repair>, LakeError> {
        let mut plan = Vec::new();
        let lost: HashSet<&str> = report
            .findings
            .iter()
            .filter(|finding| finding.kind == Kind::Data && finding.repair.is_some())
            .map(|finding| finding.key.as_str())
            .collect();
        for (name, head) in self.refs().list().await? {
            let Some(from) = head.commit.clone() else { continue };
            if self.is_whole(&from).await? {
                plan.extend(self.plan_drop(&name, &from, &lost).await?);
            } else if let Some((to, entries)) = self.newest_whole(&name, &head).await? {
                plan.push(Repair::SetBack { name, from, to, entries });
            }
        }
        if report.leftovers.objects > 0 {
            plan.push(Repair::Leftovers(report.leftovers));
        }
        Ok(plan)
    }

    /// Mends as planned. `author` and `time_us`, UTC µs, are written into what it makes.
    ///
    /// # Errors
    /// When the store fails or a ref moved meanwhile; what was done until then stands.
    pub async fn repair(
        &self,
        plan: &[Repair],
        report: &CheckReport,
        author: &str,
        time_us: i64,
    ) -> Result<RepairReport, LakeError> {
        let mut done = Vec::new();
        for repair in plan {
            let made = match repair {
                Repair::SetBack { name, from, to, entries } => {
                    self.give_up_entries(name, *entries, time_us).await?;
                    self.set_back(name, from, to, author, time_us).await?
                }
                Repair::DropFiles { name, files, rows } => {
                    for key in files.values().flatten() {
                        give_up(self.store(), key, time_us).await?;
                    }
                    let mut dropping = Dropping { files, rows: *rows, time_us };
                    let mut writer = self.acting(Warrant::Upkeep).writer(name.clone(), author.to_owned());
                    let made = writer.publish(&mut dropping).await.map_err(LakeError::from_commit)?;
                    made.map_or_else(|| "nothing was left to do".to_owned(), |made| made.id.to_string())
                }
                Repair::Leftovers(_) => {
                    let removed = remove_leftovers(self.store(), time_us - LEFTOVER_US).await?;
                    format!("{} deleted, younger ones left", removed.objects)
                }
            };
            done.push((repair.clone(), made));
        }
        let left = report.findings.iter().filter(|finding| finding.repair.is_none()).cloned().collect();
        Ok(RepairReport { done, left })
    }

    /// True if everything but the files themselves can be read from `commit`.
    async fn is_whole(&self, id: &CommitId) -> Result<bool, LakeError> {
        struct Whole(bool);
        impl crate::reach::Visitor for Whole {
            fn found(&mut self, _: &str, _: &crate::reach::Found<'_>) -> Result<(), LakeError> {
                Ok(())
            }
            fn damaged(&mut self, damage: crate::reach::Damage) -> Result<(), LakeError> {
                self.0 &= matches!(damage.kind, Kind::Data | Kind::Blob | Kind::Extra);
                Ok(())
            }
            fn walked(&mut self, _: usize) {}
        }
        let mut whole = Whole(true);
        Walker::new(self, true).walk(std::slice::from_ref(id), &mut whole).await?;
        Ok(whole.0)
    }

    async fn newest_whole(&self, name: &RefName, head: &Head) -> Result<Option<(CommitId, u64)>, LakeError> {
        for entry in self.refs().history(name, ENTRIES_MAX).await?.iter().skip(1) {
            if let Some(id) = &entry.commit
                && self.is_whole(id).await?
            {
                return Ok(Some((id.clone(), head.seq - entry.seq)));
            }
        }
        Ok(None)
    }

    async fn plan_drop(
        &self,
        name: &RefName,
        head: &CommitId,
        lost: &HashSet<&str>,
    ) -> Result<Option<Repair>, LakeError> {
        let (mut files, mut rows) = (BTreeMap::new(), 0);
        if lost.is_empty() {
            return Ok(None);
        }
        for (table, entry) in self.tables(head).await? {
            let state = table::load(self.store(), &table, &entry).await?;
            for manifest in state.manifests.iter().filter(|file| file.content == ManifestContentType::Data) {
                let read = manifest.load_manifest(&self.store().file_io()).await;
                let read = read.map_err(LakeError::iceberg(format!("read manifest of {table}")))?;
                for entry in read.entries().iter().filter(|entry| entry.is_alive()) {
                    let key = self.store().key_of(entry.file_path())?;
                    if lost.contains(key.as_str()) {
                        rows += entry.record_count();
                        files.entry(table.clone()).or_insert_with(BTreeSet::new).insert(key);
                    }
                }
            }
        }
        Ok((!files.is_empty()).then(|| Repair::DropFiles { name: name.clone(), files, rows }))
    }

    /// Notes as lost what the newest entries of a log named and cannot be read.
    async fn give_up_entries(&self, name: &RefName, entries: u64, time_us: i64) -> Result<(), LakeError> {
        let limit = usize::try_from(entries).unwrap_or(usize::MAX);
        for entry in self.refs().history(name, limit).await? {
            if let Some(id) = &entry.commit
                && !self.is_whole(id).await?
            {
                give_up(self.store(), &commit_key(id), time_us).await?;
            }
        }
        Ok(())
    }

    async fn set_back(
        &self,
        name: &RefName,
        from: &CommitId,
        to: &CommitId,
        author: &str,
        time_us: i64,
    ) -> Result<String, LakeError> {
        let head = self.head(name).await?;
        if head.as_ref().and_then(|head| head.commit.as_ref()) != Some(from) {
            return Err(LakeError::corrupt(name, "it moved meanwhile; check it again"));
        }
        let update = RefUpdate {
            commit: Some(to.clone()),
            op: RefOp::Reset,
            writer: author.to_owned(),
            write_id: Uuid::new_v4(),
            time_us,
            reason: format!("repair: {} cannot be read, set back to {}", from.short(), to.short()),
        };
        match self.refs().publish(name, head.as_ref(), &update).await {
            Ok(head) => Ok(format!(
                "entry {} of {name}; restart a collector that writes to it: it takes in again what its landing log still has",
                head.seq
            )),
            Err(PublishError::Failed(e)) => Err(e),
            Err(other) => Err(LakeError::corrupt(name, other)),
        }
    }
}

/// The plan of a commit without lost files.
struct Dropping<'a> {
    files: &'a BTreeMap<TableName, BTreeSet<String>>,
    rows: u64,
    time_us: i64,
}

#[async_trait]
impl Plan for Dropping<'_> {
    fn time_us(&self) -> i64 {
        self.time_us
    }

    async fn draft(
        &mut self,
        lake: &Lake,
        author: &str,
        base: &mut Base,
    ) -> Result<Option<Draft>, LakeError> {
        let mut drafting = Drafting::on(lake, author, base, CommitKind::Repair, self.time_us);
        let mut message = format!("{} rows are lost with their files:", self.rows);
        for (name, keys) in self.files {
            base.need(lake, name).await?;
            let Some(state) = base.tables.get(name) else { continue };
            message.push_str(&format!(" {name} {};", keys.iter().cloned().collect::<Vec<_>>().join(" ")));
            let change = Change {
                added: Vec::new(),
                added_manifest: None,
                removed: keys.iter().map(|key| lake.store().url(key)).collect(),
                operation: Operation::Delete,
            };
            let context = Context {
                store: lake.store(),
                table: name,
                snapshot_id: table::snapshot_id(),
                time_us: self.time_us,
                summary: drafting.summary(),
            };
            let built = table::change(&context, state, &change).await?;
            drafting.put(name, built);
        }
        drafting.commit.message = message;
        drafting.seal(lake, RefOp::Commit).map(Some)
    }
}

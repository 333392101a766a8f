//! The check of a whole lake: refs, history and everything they need, without changing anything.
//!
//! All objects are listed once, then everything reachable is walked and held against the listing; what nobody named is
//! garbage. With checksums every file is read as well: commits hash to their ids and state objects and blobs to theirs in
//! any case where they are read, data files to the beginning of their name.

mod files;
mod refs;
mod repair;

use std::collections::{BTreeMap, HashMap, HashSet};

use futures::TryStreamExt;
use iceberg::spec::ManifestContentType;

pub use self::repair::{Repair, RepairReport};
use crate::error::LakeError;
use crate::gc::{Tally, leftovers};
use crate::lake::Lake;
use crate::names::{CommitId, TableName};
use crate::reach::{Damage, Found, Keep, KeySet, Kind, Visitor, Walker, lost, number_of, survey};

/// Findings kept in full: far beyond what a person reads. The rest is counted.
pub const FINDINGS_MAX: usize = 10_000;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Severity {
    /// Known: a repair noted it as lost.
    Note,
    /// Something disagrees, and everything can still be read.
    Warning,
    /// Something that is needed cannot be read.
    Error,
}

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Problem {
    /// An object that is needed is not there.
    Missing,
    /// An object cannot be read as what it is, or does not hash to its name.
    Unreadable,
    /// A newer build wrote it.
    Newer,
    /// An object has another size than its manifest says.
    WrongSize,
    /// A manifest, list or commit counts other rows than there are.
    WrongCount,
    /// A ref log lacks an entry between others.
    LogGap,
    /// A ref entry names another predecessor than the entry before it.
    LogBroken,
    /// A commit's entry of a table disagrees with the table's metadata.
    WrongEntry,
}

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong.
    pub problem: Problem,
    /// What kind of object it is.
    pub kind: Kind,
    /// Its key below the root.
    pub key: String,
    /// What exactly does not hold.
    pub reason: String,
    /// The newest commit that needs it.
    pub commit: Option<CommitId>,
    /// The table it belongs to.
    pub table: Option<TableName>,
    /// What `headwater lake repair` does about it; none where it cannot.
    pub repair: Option<&'static str>,
}

/// What to check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckOptions {
    /// Now, UTC µs.
    pub now_us: i64,
    /// How long history is kept: what is older may be gone.
    pub keep: Keep,
    /// Reads every file and holds it against its name.
    pub checksums: bool,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct CheckReport {
    /// What is wrong, the worst first, at most [`FINDINGS_MAX`].
    pub findings: Vec<Finding>,
    /// Findings beyond that.
    pub findings_left_out: u64,
    /// Refs that are not deleted.
    pub refs: u64,
    /// Tags.
    pub tags: u64,
    /// What is reachable, by kind.
    pub reachable: BTreeMap<Kind, Tally>,
    /// What nothing needs: young, or for the collector of garbage.
    pub orphans: Tally,
    /// Leftovers of writes that were cut short.
    pub leftovers: Tally,
}

impl CheckReport {
    /// True if nothing needed is lost or wrong.
    pub fn is_sound(&self) -> bool {
        self.findings_left_out == 0 && self.findings.iter().all(|finding| finding.severity == Severity::Note)
    }
}

/// Where a check is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CheckProgress {
    /// Objects listed.
    Listing(u64),
    /// Commits walked, of all.
    Walking(u64, u64),
    /// Bytes of files read, of all.
    Reading(u64, u64),
}

/// Told where a check is.
pub type TellCheck<'a> = &'a mut (dyn FnMut(CheckProgress) + Send);

impl Lake {
    /// Checks everything that refs, tags and history reach. Changes nothing, and may run beside writers.
    ///
    /// # Errors
    /// When the store fails; what is wrong with the lake is in the report.
    pub async fn check(&self, options: &CheckOptions, tell: TellCheck<'_>) -> Result<CheckReport, LakeError> {
        options.keep.check()?;
        let mut checking = Checking::new(options.checksums, lost(self.store()).await?);
        checking.list(self, &mut *tell).await?;
        refs::check(self, options, &mut checking).await?;
        let lines = match survey(self, &options.keep, options.now_us, options.now_us).await {
            Ok(lines) => lines,
            Err(LakeError::Corrupt { path, reason }) => {
                let damage = Damage::bad(Kind::RefEntry, path, reason, None, None);
                checking.damaged(damage)?;
                return checking.done(self, options).await;
            }
            Err(other) => return Err(other),
        };
        checking.report.refs = lines.heads.len() as u64;
        checking.report.tags = lines.tags.len() as u64;
        for damage in lines.damage {
            checking.damaged(damage)?;
        }
        let mut walker = Walker::new(self, true);
        // Chunk by chunk, so that what is to be read of a chunk is read before the next adds to it.
        for chunk in lines.live.chunks(256) {
            walker.walk(chunk, &mut checking).await?;
            tell(CheckProgress::Walking(checking.walked as u64, lines.live.len() as u64));
            files::missing_for_sure(self, &mut checking).await?;
            if options.checksums {
                files::read(self, &mut checking, &mut *tell).await?;
            }
        }
        checking.done(self, options).await
    }
}

/// A needed object that is to be looked at more closely.
#[derive(Debug, Clone)]
struct Needed {
    key: String,
    kind: Kind,
    commit: Option<CommitId>,
    table: Option<TableName>,
    /// Bytes and rows its manifest says it has.
    says: Option<(u64, u64)>,
}

/// The state of a check.
#[derive(Debug)]
struct Checking {
    report: CheckReport,
    /// Every object there is: its size, and whether something needs it.
    there: HashMap<u128, (u64, bool)>,
    /// Needed, and not in the listing: it may have come since.
    absent: Vec<Needed>,
    /// To be read.
    to_read: Vec<Needed>,
    told: HashSet<(Problem, String)>,
    /// What the first commit that pins a metadata says of it.
    entries: HashMap<u128, u128>,
    /// What a repair gave up.
    lost: KeySet,
    checksums: bool,
    walked: usize,
    read_bytes: u64,
}

impl Checking {
    fn new(checksums: bool, lost: KeySet) -> Checking {
        Checking {
            report: CheckReport::default(),
            there: HashMap::new(),
            absent: Vec::new(),
            to_read: Vec::new(),
            told: HashSet::new(),
            entries: HashMap::new(),
            lost,
            checksums,
            walked: 0,
            read_bytes: 0,
        }
    }

    async fn list(&mut self, lake: &Lake, tell: TellCheck<'_>) -> Result<(), LakeError> {
        for place in ["t", "blobs", "_repo/state", "_repo/commits"] {
            let mut objects = lake.store().list(place);
            while let Some(object) = objects.try_next().await? {
                self.there.insert(number_of(&object.key), (object.size, false));
                if self.there.len().is_multiple_of(1000) {
                    tell(CheckProgress::Listing(self.there.len() as u64));
                }
            }
        }
        Ok(())
    }

    fn tell(&mut self, finding: Finding) {
        if !self.told.insert((finding.problem, finding.key.clone())) {
            return;
        }
        if self.report.findings.len() < FINDINGS_MAX {
            self.report.findings.push(finding);
        } else {
            self.report.findings_left_out += 1;
        }
    }

    fn wrong(&mut self, problem: Problem, severity: Severity, needed: Needed, reason: String) {
        let given_up = self.lost.contains(&needed.key);
        let severity = if given_up { Severity::Note } else { severity };
        let repair = if given_up { None } else { repair::what_for(problem, needed.kind) };
        let Needed { key, kind, commit, table, .. } = needed;
        self.tell(Finding { severity, problem, kind, key, reason, commit, table, repair });
    }

    /// Notes that something is needed, and holds it against the listing.
    fn need(&mut self, needed: Needed) {
        let found = self.there.get_mut(&number_of(&needed.key));
        let Some((size, used)) = found else {
            self.absent.push(needed);
            return;
        };
        *used = true;
        let size = *size;
        self.report.reachable.entry(needed.kind).or_default().add(size);
        if let Some((says, _)) = needed.says
            && says != size
        {
            let reason = format!("it has {size} bytes, its manifest says {says}");
            self.wrong(Problem::WrongSize, Severity::Error, needed, reason);
            return;
        }
        if self.checksums && matches!(needed.kind, Kind::Data | Kind::Blob | Kind::State) {
            self.to_read.push(needed);
        }
    }

    async fn done(mut self, lake: &Lake, options: &CheckOptions) -> Result<CheckReport, LakeError> {
        for (size, used) in self.there.values() {
            if !used {
                self.report.orphans.add(*size);
            }
        }
        self.report.leftovers = leftovers(lake.store(), options.now_us).await?;
        let order =
            |finding: &Finding| (std::cmp::Reverse(finding.severity), finding.kind, finding.key.clone());
        self.report.findings.sort_by_key(order);
        Ok(self.report)
    }
}

fn needed(key: &str, kind: Kind, commit: &CommitId, table: Option<&TableName>) -> Needed {
    Needed { key: key.to_owned(), kind, commit: Some(commit.clone()), table: table.cloned(), says: None }
}

impl Visitor for Checking {
    fn found(&mut self, key: &str, what: &Found<'_>) -> Result<(), LakeError> {
        match what {
            Found::Commit(commit) => {
                let this = needed(key, Kind::Commit, &commit.id, None);
                for (table, entry) in &commit.tables {
                    let says = number_of(&format!("{entry:?}"));
                    let first = *self.entries.entry(number_of(&entry.metadata_location)).or_insert(says);
                    if first != says {
                        let reason =
                            format!("it says of {table} what no other commit with the same metadata says");
                        let this = Needed { table: Some(table.clone()), ..this.clone() };
                        self.wrong(Problem::WrongEntry, Severity::Error, this, reason);
                    }
                }
                self.need(this);
            }
            Found::State(commit) => self.need(needed(key, Kind::State, commit, None)),
            Found::Blob(commit, table) => self.need(needed(key, Kind::Blob, commit, Some(table))),
            Found::Metadata(commit, table, entry, metadata) => {
                let this = needed(key, Kind::Metadata, commit, Some(table));
                let now = (metadata.uuid(), metadata.current_snapshot_id(), metadata.current_schema_id());
                if now != (entry.uuid, entry.snapshot_id, entry.schema_id) {
                    let reason = format!(
                        "it is table {}, snapshot {:?}, schema {}; the commit says {}, {:?}, {}",
                        now.0, now.1, now.2, entry.uuid, entry.snapshot_id, entry.schema_id
                    );
                    self.wrong(Problem::WrongEntry, Severity::Error, this.clone(), reason);
                }
                self.need(this);
            }
            Found::List(commit, table, entry, files) => {
                let this = needed(key, Kind::ManifestList, commit, Some(table));
                let rows: u64 = files
                    .iter()
                    .filter(|file| file.content == ManifestContentType::Data)
                    .map(|file| file.added_rows_count.unwrap_or(0) + file.existing_rows_count.unwrap_or(0))
                    .sum();
                if rows != entry.rows {
                    let reason = format!("it lists {rows} rows, the commit says {}", entry.rows);
                    self.wrong(Problem::WrongCount, Severity::Warning, this.clone(), reason);
                }
                self.need(this);
            }
            Found::Manifest(commit, table, file, manifest) => {
                let this = needed(key, Kind::Manifest, commit, Some(table));
                let rows: u64 = manifest
                    .entries()
                    .iter()
                    .filter(|entry| entry.is_alive())
                    .map(|entry| entry.record_count())
                    .sum();
                let says = file.added_rows_count.unwrap_or(0) + file.existing_rows_count.unwrap_or(0);
                if rows != says {
                    let reason = format!("its files hold {rows} rows, its list says {says}");
                    self.wrong(Problem::WrongCount, Severity::Warning, this.clone(), reason);
                }
                self.need(this);
            }
            Found::File(commit, table, file) => {
                let kind = match file.content_type() {
                    iceberg::spec::DataContentType::Data => Kind::Data,
                    _ => Kind::Extra,
                };
                let says = Some((file.file_size_in_bytes(), file.record_count()));
                self.need(Needed { says, ..needed(key, kind, commit, Some(table)) });
            }
            Found::Statistics => {
                let this =
                    Needed { key: key.to_owned(), kind: Kind::Extra, commit: None, table: None, says: None };
                self.need(this);
            }
        }
        Ok(())
    }

    fn damaged(&mut self, damage: Damage) -> Result<(), LakeError> {
        // Of a file that is not there the listing knows; it is told once.
        let problem = match &damage {
            Damage { newer: true, .. } => Problem::Newer,
            Damage { missing: true, .. } => Problem::Missing,
            _ => Problem::Unreadable,
        };
        if let Some((_, used)) = self.there.get_mut(&number_of(&damage.key)) {
            *used = true;
        }
        let Damage { kind, key, reason, commit, table, .. } = damage;
        self.wrong(problem, Severity::Error, Needed { key, kind, commit, table, says: None }, reason);
        Ok(())
    }

    fn walked(&mut self, commits: usize) {
        self.walked = commits;
    }
}

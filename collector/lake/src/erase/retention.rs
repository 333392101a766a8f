//! Retention: whole days leave a table when they are old enough. Files go, nothing is rewritten.
//!
//! The ledger goes on knowing the rows that left, so what a device sends again stays known and is not taken in anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use async_trait::async_trait;
use iceberg::spec::{
    DataFile, Literal, ManifestContentType, Operation, PrimitiveLiteral, TableMetadata, Transform,
};
use serde::Serialize;

use crate::error::LakeError;
use crate::lake::Lake;
use crate::names::{CommitId, NameError, RefName, TableName};
use crate::protect::Warrant;
use crate::reach::DAY_US;
use crate::repo::{CommitKind, RefOp};
use crate::table::{self, Change, Context, TS};
use crate::writer::{Base, Draft, Drafting, Plan};

/// Tables whose newest rows are state, however old they are: what a restarted collector goes on from.
const NEVER: [&str; 5] = ["ops.ledger", "ops.schemas", "ops.devices", "ops.gaps", "ops.corrections"];

/// One table, or all of a namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum TablePattern {
    /// Every table of the namespace that no rule names: `raw.*`.
    Namespace(String),
    /// One table: `raw.image`.
    Table(TableName),
}

impl FromStr for TablePattern {
    type Err = NameError;

    fn from_str(text: &str) -> Result<TablePattern, NameError> {
        match text.strip_suffix(".*") {
            // The rest of the name is checked as any other.
            Some(namespace) => TableName::new(format!("{namespace}.x"))
                .map(|name| TablePattern::Namespace(name.namespace().to_owned())),
            None => TableName::new(text).map(TablePattern::Table),
        }
    }
}

impl fmt::Display for TablePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TablePattern::Namespace(namespace) => write!(f, "{namespace}.*"),
            TablePattern::Table(table) => write!(f, "{table}"),
        }
    }
}

/// How long a table keeps its days.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetentionRule {
    /// Which.
    pub tables: TablePattern,
    /// Whole days before today that stay.
    pub keep_days: u32,
}

impl RetentionRule {
    /// Makes sure that the rule takes nothing a restart needs.
    ///
    /// # Errors
    /// [`LakeError::Keep`] for tables whose old rows are state.
    pub fn check(&self) -> Result<(), LakeError> {
        match &self.tables {
            TablePattern::Table(table) if NEVER.contains(&table.as_str()) => Err(LakeError::Keep {
                reason: format!("{table} cannot expire: its rows are what the collector goes on from"),
            }),
            _ => Ok(()),
        }
    }
}

/// What left one table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Dropped {
    /// Files.
    pub files: u64,
    /// Rows in them.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What retention did, or would do.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct RetentionReport {
    /// The commit; none if nothing was old enough, or nothing was to be changed.
    pub commit: Option<CommitId>,
    /// What left, by table.
    pub tables: BTreeMap<TableName, Dropped>,
}

impl Lake {
    /// Drops the days of a branch's tables that are older than their rules allow, in one commit. `now_us`, UTC µs, says
    /// what today is.
    ///
    /// # Errors
    /// [`LakeError::Keep`] for a rule that cannot be; when the store fails.
    pub async fn expire(
        &self,
        name: &RefName,
        rules: &[RetentionRule],
        author: &str,
        now_us: i64,
        dry_run: bool,
    ) -> Result<RetentionReport, LakeError> {
        for rule in rules {
            rule.check()?;
        }
        let mut plan = Expiring { rules, now_us, dry_run, dropped: BTreeMap::new() };
        let made =
            self.acting(Warrant::Upkeep).writer(name.clone(), author.to_owned()).publish(&mut plan).await;
        let made = made.map_err(LakeError::from_commit)?;
        Ok(RetentionReport { commit: made.map(|made| made.id), tables: plan.dropped })
    }
}

struct Expiring<'a> {
    rules: &'a [RetentionRule],
    now_us: i64,
    dry_run: bool,
    dropped: BTreeMap<TableName, Dropped>,
}

impl Expiring<'_> {
    /// The first day that stays of a table; none if all do.
    fn first_day(&self, table: &TableName) -> Option<i64> {
        if NEVER.contains(&table.as_str()) {
            return None;
        }
        let named = |rule: &&RetentionRule| rule.tables == TablePattern::Table(table.clone());
        let within =
            |rule: &&RetentionRule| rule.tables == TablePattern::Namespace(table.namespace().to_owned());
        let rule = self.rules.iter().find(named).or_else(|| self.rules.iter().find(within))?;
        Some(self.now_us.div_euclid(DAY_US) - i64::from(rule.keep_days))
    }
}

#[async_trait]
impl Plan for Expiring<'_> {
    fn time_us(&self) -> i64 {
        self.now_us
    }

    async fn draft(
        &mut self,
        lake: &Lake,
        author: &str,
        base: &mut Base,
    ) -> Result<Option<Draft>, LakeError> {
        let Some(parent) = base.commit.clone() else { return Ok(None) };
        let mut drafting = Drafting::on(lake, author, base, CommitKind::Retention, self.now_us);
        self.dropped.clear();
        for name in parent.tables.keys() {
            let Some(first_day) = self.first_day(name) else { continue };
            base.need(lake, name).await?;
            let Some(state) = base.tables.get(name) else { continue };
            let (mut removed, mut dropped) = (BTreeSet::new(), Dropped::default());
            for manifest in state.manifests.iter().filter(|file| file.content == ManifestContentType::Data) {
                let read = manifest.load_manifest(&lake.store().file_io()).await;
                let read = read.map_err(LakeError::iceberg(format!("read manifest of {name}")))?;
                for entry in read.entries().iter().filter(|entry| entry.is_alive()) {
                    let file = entry.data_file();
                    let day = day_of(&state.metadata, manifest.partition_spec_id, file);
                    if day.is_some_and(|day| day < first_day) && removed.insert(file.file_path().to_owned()) {
                        dropped.files += 1;
                        dropped.rows += file.record_count();
                        dropped.bytes += file.file_size_in_bytes();
                    }
                }
            }
            if removed.is_empty() {
                continue;
            }
            self.dropped.insert(name.clone(), dropped);
            if self.dry_run {
                continue;
            }
            let context = Context {
                store: lake.store(),
                table: name,
                snapshot_id: table::snapshot_id(),
                time_us: self.now_us,
                summary: drafting.summary(),
            };
            let change =
                Change { added: Vec::new(), added_manifest: None, removed, operation: Operation::Delete };
            let built = table::change(&context, state, &change).await?;
            drafting.put(name, built);
        }
        if self.dry_run || self.dropped.is_empty() {
            return Ok(None);
        }
        let left = self.dropped.iter().map(|(table, dropped)| format!("{} rows of {table}", dropped.rows));
        drafting.commit.message = format!("retention: {} left", left.collect::<Vec<_>>().join(", "));
        drafting.seal(lake, RefOp::Commit).map(Some)
    }
}

/// The day a file's rows are of; none where its partition does not say.
fn day_of(metadata: &TableMetadata, spec_id: i32, file: &DataFile) -> Option<i64> {
    let ts = metadata.current_schema().field_id_by_name(TS)?;
    let spec = metadata.partition_spec_by_id(spec_id)?;
    let place =
        spec.fields().iter().position(|field| field.source_id == ts && field.transform == Transform::Day)?;
    match file.partition().fields().get(place)? {
        Some(Literal::Primitive(PrimitiveLiteral::Int(day))) => Some(i64::from(*day)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_that_names_a_table_wins() {
        let rule = |tables: &str, keep_days| RetentionRule { tables: tables.parse().unwrap(), keep_days };
        let rules = [rule("raw.*", 100), rule("raw.image", 30), rule("ops.*", 10)];
        let plan =
            Expiring { rules: &rules, now_us: 1000 * DAY_US + 5, dry_run: true, dropped: BTreeMap::new() };
        let first = |table: &str| plan.first_day(&TableName::new(table).unwrap());
        assert_eq!(first("raw.image"), Some(970));
        assert_eq!(first("raw.imu"), Some(900));
        assert_eq!(first("ops.clock"), Some(990));
        assert_eq!((first("ops.ledger"), first("aligned.drive")), (None, None));
        assert!(rule("ops.ledger", 1).check().is_err());
        for bad in ["raw", "*", "raw.*.x", "Raw.*"] {
            assert!(bad.parse::<TablePattern>().is_err(), "{bad}");
        }
    }
}

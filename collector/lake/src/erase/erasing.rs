//! The plan of an erasing commit on one branch.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use iceberg::spec::{DataFile, Operation};
use uuid::Uuid;

use super::TellErase;
use super::files::Files;
use super::scope::Erasure;
use crate::error::LakeError;
use crate::lake::Lake;
use crate::names::TableName;
use crate::repo::{CommitKind, RefOp};
use crate::table::{self, Change, Context};
use crate::writer::{Base, Draft, Drafting, Plan};

pub(super) struct Erasing<'a> {
    erasure: &'a Erasure,
    id: Uuid,
    time_us: i64,
    files: &'a mut Files,
    tell: TellErase<'a>,
    rows: BTreeMap<TableName, u64>,
}

impl<'a> Erasing<'a> {
    pub(super) fn new(
        erasure: &'a Erasure,
        id: Uuid,
        time_us: i64,
        files: &'a mut Files,
        tell: TellErase<'a>,
    ) -> Erasing<'a> {
        Erasing { erasure, id, time_us, files, tell, rows: BTreeMap::new() }
    }

    /// Rows that the last draft took, by table.
    pub(super) fn rows(&self) -> BTreeMap<TableName, u64> {
        self.rows.clone()
    }
}

#[async_trait]
impl Plan for Erasing<'_> {
    fn time_us(&self) -> i64 {
        self.time_us
    }

    async fn draft(
        &mut self,
        lake: &Lake,
        author: &str,
        base: &mut Base,
    ) -> Result<Option<Draft>, LakeError> {
        let Some(parent) = base.commit.clone() else { return Ok(None) };
        let mut drafting = Drafting::on(lake, author, base, CommitKind::Erase, self.time_us);
        self.rows.clear();
        base.need_all(lake, parent.tables.keys()).await?;
        for name in parent.tables.keys() {
            let Some(state) = base.tables.get(name) else { continue };
            let tell = &mut *self.tell;
            let found =
                self.files.rewrite(lake, name, &state.entry, &state.metadata, self.erasure, tell).await?;
            if found.is_empty() {
                continue;
            }
            self.rows.insert(name.clone(), found.values().map(|rewritten| rewritten.rows).sum());
            let added: Vec<DataFile> =
                found.values().flat_map(|rewritten| rewritten.added.iter().cloned()).collect();
            let removed: BTreeSet<String> = found.into_keys().collect();
            let operation = if added.is_empty() { Operation::Delete } else { Operation::Overwrite };
            let context = Context {
                store: lake.store(),
                table: name,
                snapshot_id: table::snapshot_id(),
                time_us: self.time_us,
                summary: drafting.summary(),
            };
            let change = Change { added, added_manifest: None, removed, operation };
            let built = table::change(&context, state, &change).await?;
            drafting.put(name, built);
        }
        let commit = &mut drafting.commit;
        commit.message = self.message();
        commit.lineage.inputs.push(format!("erasure:{}", self.id));
        if self.erasure.forget {
            // It knows of the keys; without it the ledger is read from its table.
            commit.ledger_checkpoint = None;
        }
        drafting.seal(lake, RefOp::Commit).map(Some)
    }
}

impl Erasing<'_> {
    fn message(&self) -> String {
        let Erasure { device, stream, reason, .. } = self.erasure;
        let stream = stream.as_ref().map_or_else(String::new, |stream| format!(", stream {stream}"));
        let rows: Vec<String> = self.rows.iter().map(|(table, rows)| format!("{rows} of {table}")).collect();
        let rows = if rows.is_empty() { "none were here".to_owned() } else { rows.join(", ") };
        format!("erase rows of {device}{stream}: {rows}; {reason}")
    }
}

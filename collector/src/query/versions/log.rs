//! `headwater log`: lines of history, with what machines did by themselves told hour by hour.

use super::super::QueryError;
use super::super::show::{Printer, object, resolve, time};
use super::busy;
use super::graph::Lanes;
use headwater_lake::{CommitId, CommitKind, Lake, LogEntry};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::io::Write;

/// Commits looked at for one line of a folded log.
const COMMITS_PER_LINE: usize = 10;

/// One hour, µs.
const HOUR_US: i64 = 3_600_000_000;

impl<W: Write> Printer<W> {
    /// Commits of a branch, newest first.
    pub(super) async fn history(
        &mut self,
        lake: &Lake,
        spec: &str,
        limit: usize,
        all: bool,
    ) -> Result<(), QueryError> {
        let fold = !all && !self.json;
        let wanted = if fold { limit.saturating_mul(COMMITS_PER_LINE) } else { limit };
        let bar = busy("reading history");
        let entries = match resolve(lake, spec).await? {
            Some(id) => lake.history(id.as_str(), wanted).await?,
            None => Vec::new(),
        };
        bar.finish_and_clear();
        let mut lanes = Lanes::default();
        let groups = if fold { folded(&entries) } else { entries.iter().map(std::slice::from_ref).collect() };
        let rows: Vec<Map<String, Value>> =
            groups.into_iter().take(limit).map(|group| line(group, &mut lanes)).collect();
        self.list(&["", "commit", "time", "kind", "rows", "refs", "message"], &rows, "no commits yet")?;
        if let Some(ends) = entries.iter().find(|entry| !entry.missing.is_empty()).filter(|_| !self.json) {
            writeln!(self.out, "before {} history is no longer kept in full", ends.commit.id.short())?;
        }
        Ok(())
    }
}

/// What collectors commit by themselves.
fn is_machine(entry: &LogEntry) -> bool {
    let kind = entry.commit.kind;
    let by_itself =
        matches!(kind, CommitKind::Ingest | CommitKind::Compact | CommitKind::Align | CommitKind::Resolve);
    // A merge of two such lines, and whatever a ref points at, stands by itself.
    by_itself && entry.commit.parents.len() < 2
}

/// Runs of machine commits of one hour that follow each other; a commit that a ref points at begins a run.
fn folded(entries: &[LogEntry]) -> Vec<&[LogEntry]> {
    entries.chunk_by(joins).collect()
}

fn joins(newer: &LogEntry, older: &LogEntry) -> bool {
    let hour = |entry: &LogEntry| entry.commit.time_us.div_euclid(HOUR_US);
    is_machine(newer)
        && is_machine(older)
        && older.refs.is_empty()
        && hour(newer) == hour(older)
        && newer.commit.parents.first() == Some(&older.commit.id)
}

fn line(group: &[LogEntry], lanes: &mut Lanes) -> Map<String, Value> {
    let (Some(newest), Some(oldest)) = (group.first(), group.last()) else { return Map::new() };
    let commit = &newest.commit;
    let refs: Vec<&str> = newest.refs.iter().map(headwater_lake::RefName::as_str).collect();
    let drawn = lanes.draw(&commit.id, &oldest.commit.parents);
    let rows: u64 = group.iter().map(|entry| entry.commit.stats.rows).sum();
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    group.iter().for_each(|entry| *kinds.entry(entry.commit.kind.as_str()).or_default() += 1);
    let (kind, message) = match kinds.iter().next() {
        Some((kind, _)) if group.len() == 1 => ((*kind).to_owned(), commit.message.clone()),
        _ => {
            let counted: Vec<String> = kinds.iter().map(|(kind, n)| format!("{n} {kind}")).collect();
            (
                format!("{} commits", group.len()),
                format!("{}, back to {}", counted.join(", "), oldest.commit.id.short()),
            )
        }
    };
    let parents: Vec<&str> = oldest.commit.parents.iter().map(CommitId::as_str).collect();
    object(json!({
        "": drawn,
        "commit": commit.id.short(),
        "id": commit.id,
        "time": time(commit.time_us),
        "kind": kind,
        "author": commit.author,
        "rows": rows,
        "tables": commit.tables.len(),
        "parents": parents,
        "refs": refs.join(", "),
        "message": message,
    }))
}

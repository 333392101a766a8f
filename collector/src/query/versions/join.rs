//! The verbs that bring lines together: merge and cherry-pick; before a protected branch the gate judges what they make.

use super::super::QueryError;
use super::super::show::Printer;
use super::{busy, commits};
use crate::config;
use crate::gate::guard::{Guard, GuardError, Join, Passage, stored_settings};
use crate::gate::{GateSettings, Verdict};
use crate::pipeline::gate_settings;
use crate::receive::clock::SystemClock;
use headwater_lake::{By, CommitId, Lake, MergeOptions, Merged, RefName, TableName};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

/// Where it goes, by whom, and how it is judged there.
pub(super) struct To<'a> {
    pub(super) lake: &'a Lake,
    pub(super) branch: RefName,
    pub(super) config: Option<PathBuf>,
    pub(super) by: By,
}

/// What passed the gate: the branch's head, and verdicts by table.
struct Passed {
    tip: CommitId,
    merged: Option<Merged>,
    verdicts: BTreeMap<TableName, Verdict>,
}

impl To<'_> {
    /// The gate's settings, if the branch is protected: those of the configuration that was named, else the lake's own.
    async fn gate(&self) -> Result<Option<GateSettings>, QueryError> {
        let protection = self.lake.protection().await?;
        if protection.check(&self.branch).is_ok() {
            return Ok(None);
        }
        let Some(file) = &self.config else { return Ok(Some(stored_settings(&protection)?)) };
        let settings =
            config::load(file).map_err(|source| QueryError::Config { file: file.clone(), source })?;
        gate_settings(&settings).map(Some).map_err(|error| QueryError::Gate(Box::new(error)))
    }

    /// Has the gate judge and publish; none if all of it was there.
    async fn guarded(&self, gate: &GateSettings, join: Join) -> Result<Option<Passed>, QueryError> {
        let (lake, into, by) = (self.lake, &self.branch, &self.by);
        let bar = busy("judging");
        let passage = Guard { lake, into, gate, by, clock: SystemClock }.join(&join).await;
        bar.finish_and_clear();
        match passage {
            Ok(Passage::UpToDate) => Ok(None),
            Ok(Passage::Published { tip, merged, verdicts }) => Ok(Some(Passed { tip, merged, verdicts })),
            Ok(Passage::Quarantined { name, failed }) => {
                let failed: Vec<String> =
                    failed.iter().map(|(table, gate)| format!("{gate} of {table}")).collect();
                let id = name.as_str().rsplit('/').next().unwrap_or_default().to_owned();
                let (branch, failed) = (into.to_string(), failed.join(", "));
                Err(QueryError::HeldByGate { branch, id, failed })
            }
            // Told as from a merge that nobody judges.
            Err(GuardError::Commit(error)) => Err(error.into()),
            Err(error) => Err(QueryError::Guard(Box::new(error))),
        }
    }
}

impl<W: Write> Printer<W> {
    pub(super) async fn merge(
        &mut self,
        to: &To<'_>,
        from: &str,
        options: &MergeOptions,
    ) -> Result<(), QueryError> {
        let theirs = to.lake.resolve(from).await?;
        let branch = &to.branch;
        if let Some(gate) = to.gate().await? {
            let join = Join::Merge { from: theirs.clone(), options: options.clone() };
            let passed = to.guarded(&gate, join).await;
            let Some(Passed { tip, merged, verdicts }) = self.or_conflicts(passed)? else {
                return self.merged(branch, from, &theirs, &Merged::UpToDate);
            };
            let joined = match merged {
                Some(Merged::Commit { joined, .. }) => joined,
                _ => Vec::new(),
            };
            let value = json!({
                "did": "merge", "branch": branch, "id": tip, "joined": joined, "gate": words(&verdicts),
            });
            let text = format!("merged {from} into {branch}: {}{}", tip.short(), told(&verdicts));
            return self.told(value, &text);
        }
        let bar = busy("merging");
        let merged = to.lake.merge(branch, &theirs, options, &to.by).await;
        bar.finish_and_clear();
        let merged = self.or_report(merged)?;
        self.merged(branch, from, &theirs, &merged)
    }

    fn merged(
        &mut self,
        into: &RefName,
        from: &str,
        theirs: &CommitId,
        merged: &Merged,
    ) -> Result<(), QueryError> {
        match merged {
            Merged::UpToDate => self.told(
                json!({"did": "nothing", "branch": into, "id": theirs}),
                &format!("{into} has all of {from} already"),
            ),
            Merged::FastForward(done) => self.told(
                json!({"did": "fast-forward", "branch": into, "id": done.id}),
                &format!("{into} moved on to {}", done.id.short()),
            ),
            Merged::Commit { committed, joined } => {
                let known: u64 = joined.iter().map(|table| table.known_rows).sum();
                let text = format!(
                    "merged {from} into {into}: {}, {} tables changed on both sides, {known} captures were known",
                    committed.id.short(),
                    joined.len()
                );
                self.told(
                    json!({"did": "merge", "branch": into, "id": committed.id, "joined": joined}),
                    &text,
                )
            }
            _ => Ok(()),
        }
    }

    pub(super) async fn cherry_pick(&mut self, to: &To<'_>, words: &[String]) -> Result<(), QueryError> {
        let branch = &to.branch;
        let gate = to.gate().await?;
        for commit in commits(to.lake, words, false).await? {
            if let Some(gate) = &gate {
                let passed = to.guarded(gate, Join::Pick(commit.clone())).await;
                match self.or_conflicts(passed)? {
                    Some(passed) => self.picked(branch, &commit, &passed)?,
                    None => self.did("cherry-pick", branch, &commit, None, "all of it is there already")?,
                }
                continue;
            }
            let bar = busy("picking");
            let done = to.lake.cherry_pick(branch, &commit, &to.by).await;
            bar.finish_and_clear();
            let done = self.or_report(done)?.map(|picked| picked.committed);
            self.did("cherry-pick", branch, &commit, done.as_ref(), "all of it is there already")?;
        }
        Ok(())
    }

    fn picked(&mut self, branch: &RefName, of: &CommitId, passed: &Passed) -> Result<(), QueryError> {
        let Passed { tip, verdicts, .. } = passed;
        let value =
            json!({"did": "cherry-pick", "branch": branch, "of": of, "id": tip, "gate": words(verdicts)});
        let text = format!("{branch} is at {}: picked {}{}", tip.short(), of.short(), told(verdicts));
        self.told(value, &text)
    }

    /// A conflict is told whole where scripts read.
    fn or_conflicts<T>(&mut self, answer: Result<T, QueryError>) -> Result<T, QueryError> {
        match answer {
            Err(QueryError::Commit(error)) => self.or_report::<T>(Err(*error)),
            answer => answer,
        }
    }
}

fn words(verdicts: &BTreeMap<TableName, Verdict>) -> BTreeMap<&TableName, &'static str> {
    verdicts.iter().map(|(table, verdict)| (table, verdict.as_str())).collect()
}

fn told(verdicts: &BTreeMap<TableName, Verdict>) -> String {
    let each: Vec<String> =
        verdicts.iter().map(|(table, verdict)| format!("{table} {}", verdict.as_str())).collect();
    match each.is_empty() {
        true => ", no aligned table changed".to_owned(),
        false => format!(", judged: {}", each.join(", ")),
    }
}

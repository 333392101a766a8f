//! What the gate holds, since when and by which rules: candidates set aside under `quarantine/`, those that are being judged
//! under `wap/`, and rows that wait for the next turn, of which only the verdicts on their branch tell.

use super::waive::{CandidateError, coverage, rows_of};
use super::{QUARANTINE, WAP};
use crate::align::coverage::Coverage;
use crate::commit::read::ScannedRows;
use crate::commit::tables::Ops;
use futures::TryStreamExt;
use headwater_lake::{CommitId, Compare, Condition, Lake, LakeError, RefName, ScanOptions};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// One verdict as the lake keeps it.
#[derive(Debug, Clone, PartialEq)]
pub struct Said {
    /// When, UTC µs.
    pub ts_us: i64,
    /// The candidate: what was judged, or from what it was aligned.
    pub candidate: String,
    /// The ref it was judged for or on.
    pub name: String,
    /// The table.
    pub table: String,
    /// The rule or hook, and its version.
    pub gate: (String, String),
    /// pass, warn or fail.
    pub verdict: String,
    /// Rows judged.
    pub rows: Option<u64>,
    /// Earliest and latest of them, UTC ns.
    pub span_ns: Option<(i64, i64)>,
    /// The numbers behind it.
    pub evidence: Value,
    /// Where they went; none if they stayed.
    pub published_as: Option<String>,
    /// Who waived.
    pub waived_by: Option<String>,
}

/// Why rows are not on their branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeldState {
    /// They are being judged, or whoever judged them went away.
    Judging,
    /// They were set aside for a person.
    Quarantined,
    /// They are judged again at the next turn, or when the rules change.
    Waiting,
}

impl HeldState {
    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Judging => "judging",
            Self::Quarantined => "quarantined",
            Self::Waiting => "waiting",
        }
    }
}

/// Rows the gate holds.
#[derive(Debug, Clone, PartialEq)]
pub struct HeldRows {
    /// The ref, or the candidate's commit where there is none.
    pub id: String,
    /// Why.
    pub state: HeldState,
    /// Recipes whose rows they are; tables, of a join.
    pub recipes: Vec<String>,
    /// How many; none if that is not known yet.
    pub rows: Option<u64>,
    /// Since when, UTC µs.
    pub since_us: i64,
    /// The verdicts that failed.
    pub failed: Vec<Said>,
    /// Where they or the verdicts on them lie.
    pub commit: CommitId,
}

/// Verdicts at a commit; only those with this word if one is given.
///
/// # Errors
/// When the lake cannot be read.
pub async fn verdicts(lake: &Lake, at: &CommitId, word: Option<&str>) -> Result<Vec<Said>, LakeError> {
    let table = Ops::Verdicts.table();
    let mut found = Vec::new();
    if !lake.tables(at).await?.contains_key(&table) {
        return Ok(found);
    }
    let condition = |word: &str| Condition {
        column: "verdict".to_owned(),
        compare: Compare::Equal,
        value: word.to_owned(),
    };
    let conditions = word.map(condition).into_iter().collect();
    let mut batches = lake.scan(at, &table, ScanOptions { conditions, ..ScanOptions::default() }).await?;
    while let Some(batch) = batches.try_next().await? {
        let rows = ScannedRows(&batch);
        found.extend((0..rows.len()).map(|at| said(&rows, at)));
    }
    found.sort_by_key(|said| said.ts_us);
    Ok(found)
}

fn said(rows: &ScannedRows<'_>, at: usize) -> Said {
    let text = |name| rows.text(name, at).unwrap_or_default();
    let evidence = text("evidence");
    Said {
        ts_us: rows.long("ts_ns", at).unwrap_or_default().div_euclid(1_000),
        candidate: text("candidate"),
        name: text("ref"),
        table: text("table"),
        gate: (text("gate"), text("gate_version")),
        verdict: text("verdict"),
        rows: rows.long("rows", at).and_then(|rows| u64::try_from(rows).ok()),
        span_ns: rows.long("t_min_ns", at).zip(rows.long("t_max_ns", at)),
        // What a hook said may be no JSON.
        evidence: serde_json::from_str(&evidence).unwrap_or(Value::String(evidence)),
        published_as: rows.text("published_as", at),
        waived_by: rows.text("waived_by", at),
    }
}

impl Said {
    /// Keys of some of the rows that offend.
    #[must_use]
    pub fn row_keys(&self) -> Vec<&str> {
        self.evidence["row_keys"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// True if it was said of the candidate with this id, on whichever of its refs.
    #[must_use]
    pub fn is_of(&self, id: &str) -> bool {
        self.name.rsplit_once('/').is_some_and(|(_, last)| last == id)
    }
}

/// The id of a candidate: the last part of its ref.
#[must_use]
pub fn id_of(name: &RefName) -> &str {
    name.as_str().rsplit('/').next().unwrap_or_default()
}

/// All that the gate of the branch at `head` holds, the oldest first.
///
/// # Errors
/// When the lake cannot be read.
pub async fn held(lake: &Lake, head: Option<&CommitId>) -> Result<Vec<HeldRows>, CandidateError> {
    let (mut found, mut ids) = (Vec::new(), BTreeSet::new());
    for (folder, state) in [(WAP, HeldState::Judging), (QUARANTINE, HeldState::Quarantined)] {
        for (name, ref_head) in lake.refs_below(folder).await? {
            let Some(commit) = ref_head.commit else { continue };
            let tip = lake.commit_object(&commit).await?;
            let id = id_of(&name).to_owned();
            let mut failed = verdicts(lake, &commit, Some("fail")).await?;
            failed.retain(|said| said.is_of(&id));
            let mut recipes: Vec<String> = tip.lineage.recipes.keys().cloned().collect();
            if recipes.is_empty() {
                let tables: BTreeSet<&String> = failed.iter().map(|said| &said.table).collect();
                recipes = tables.into_iter().cloned().collect();
            }
            found.push(HeldRows {
                id: name.to_string(),
                state,
                recipes,
                // Made by somebody else, or not whole: it is shown all the same.
                rows: rows_of(lake, &tip).await.ok().map(|(_, rows)| rows.count()),
                since_us: ref_head.time_us,
                failed,
                commit,
            });
            ids.insert(id);
        }
    }
    if let Some(head) = head {
        found.extend(waiting(lake, head, &ids).await?);
    }
    found.sort_by_key(|held| held.since_us);
    Ok(found)
}

/// Which rows were judged: their table, their span, UTC ns, and how many.
type Rows = (String, Option<(i64, i64)>, Option<u64>);

/// Rows that failed and are on no ref: those whose verdicts stand on the branch, and that are not there now.
async fn waiting(
    lake: &Lake,
    head: &CommitId,
    ids: &BTreeSet<String>,
) -> Result<Vec<HeldRows>, CandidateError> {
    let said = verdicts(lake, head, None).await?;
    let commit = lake.commit_object(head).await?;
    let mut done: BTreeMap<String, Coverage> = BTreeMap::new();
    for (recipe, entry) in &commit.coverage {
        done.insert(format!("aligned.{recipe}"), coverage(lake, Some(entry)).await?);
    }
    let mut groups: BTreeMap<Rows, Vec<Said>> = BTreeMap::new();
    for one in said.iter().filter(|one| one.verdict == "fail" && one.published_as.is_none()) {
        if !ids.iter().any(|id| one.is_of(id)) {
            groups.entry((one.table.clone(), one.span_ns, one.rows)).or_default().push(one.clone());
        }
    }
    let mut found = Vec::new();
    for ((table, span_ns, rows), failed) in groups {
        let none = Coverage::default();
        let is_there = match failed.iter().flat_map(Said::row_keys).find_map(sample) {
            Some(sample) => is_done(done.get(&table).unwrap_or(&none), sample),
            // No row is worse than another: were all of that time published since?
            None => said.iter().any(|later| {
                let spans = later.span_ns.zip(span_ns);
                later.table == table
                    && later.published_as.is_some()
                    && failed.iter().all(|failed| failed.ts_us <= later.ts_us)
                    && spans.is_some_and(|(of, held)| of.0 <= held.0 && held.1 <= of.1)
            }),
        };
        let (false, Some(first), Some(last)) = (is_there, failed.first(), failed.last()) else { continue };
        found.push(HeldRows {
            id: last.candidate.clone(),
            state: HeldState::Waiting,
            recipes: vec![table.trim_start_matches("aligned.").to_owned()],
            rows,
            since_us: first.ts_us,
            commit: head.clone(),
            failed: newest(&failed),
        });
    }
    Ok(found)
}

/// The newest verdict of each rule.
fn newest(failed: &[Said]) -> Vec<Said> {
    let by_gate: BTreeMap<&str, &Said> = failed.iter().map(|said| (said.gate.0.as_str(), said)).collect();
    by_gate.into_values().cloned().collect()
}

/// Epoch, stream and seq of a row key; none of a grid's.
fn sample(key: &str) -> Option<(&str, &str, u64)> {
    let (epoch, rest) = key.split_once('/')?;
    let (stream, seq) = rest.rsplit_once('/')?;
    Some((epoch, stream, seq.parse().ok()?))
}

/// Rows of a site bear its name, so the device is not asked for: an epoch is one installation's.
fn is_done(done: &Coverage, (epoch, stream, seq): (&str, &str, u64)) -> bool {
    done.done().any(|(key, rows)| {
        key.stream.as_str() == stream && key.epoch.to_string() == epoch && rows.contains(seq)
    })
}

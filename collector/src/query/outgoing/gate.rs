//! `headwater gate`: candidates the gate holds, why, and a person's word against it.

use super::Asked;
use crate::gate::guard::is_join;
use crate::gate::held::{HeldState, Said, held, id_of, verdicts};
use crate::gate::waive::{WaiveError, Waiver, rows_of, waive};
use crate::query::cli::now;
use crate::query::confirm::confirm;
use crate::query::show::{Printer, object, time};
use crate::query::{QueryError, row_values};
use clap::Subcommand;
use futures::TryStreamExt;
use headwater_lake::{
    CommitId, CommitObject, Compare, Condition, Head, Lake, LakeError, RefName, ScanOptions, TableName,
};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::io::Write;

/// Offending rows shown: each is a look into the candidate's table.
const OFFENDERS_MAX: usize = 20;
/// Columns of those that come first.
const FIRST: [&str; 4] = ["gate", "device", "ts", "row_key"];
/// Fewest digits of a commit id that mean one.
const SPEC_MIN: usize = 6;

#[derive(Debug, Subcommand)]
pub(in crate::query) enum GateVerb {
    /// What the gate holds, since when, and by which rules: set aside, being judged, or waiting to be judged again.
    #[command(
        after_help = "Examples:\n  headwater gate list\n  headwater gate list --json | jq -r '.[] | .since + \" \" + .failed'"
    )]
    List {
        /// The branch whose rows may be waiting.
        #[arg(long, default_value = "main", value_name = "BRANCH")]
        on: String,
    },
    /// Verdicts on a candidate, with their evidence and rows that offend.
    #[command(
        after_help = "Example:\n  headwater gate show 01j9x3zq --json | jq '.[] | select(.verdict == \"fail\") | .evidence, .offenders'"
    )]
    Show {
        /// quarantine/<id>, wap/<id>, or a beginning of the id; of what waits the beginning of the commit that list names.
        candidate: String,
        /// The branch whose rows may be waiting.
        #[arg(long, default_value = "main", value_name = "BRANCH")]
        on: String,
    },
    /// Publishes a quarantined candidate all the same; ops.verdicts keeps who and why.
    #[command(after_help = "Example:\n  headwater gate waive 01j9x3zq --reason 'night drive, dark is right'")]
    Waive {
        /// quarantine/<id> or a beginning of the id.
        candidate: String,
        /// Why, for those who read the history.
        #[arg(long)]
        reason: String,
        /// Who waives.
        #[arg(long, env = "USER", value_name = "NAME")]
        by: String,
        /// The branch it goes to.
        #[arg(long, alias = "to", default_value = "main", value_name = "BRANCH")]
        on: String,
        /// Does not ask.
        #[arg(long, short)]
        yes: bool,
    },
    #[command(flatten)]
    Rules(super::gate_rules::RulesVerb),
}

pub(super) async fn run<W: Write>(
    lake: &Lake,
    verb: &GateVerb,
    asked: &mut Asked<'_, W>,
) -> Result<(), QueryError> {
    match verb {
        GateVerb::Rules(verb) => super::gate_rules::run(verb, asked).await,
        GateVerb::List { on } => list(lake, on, asked).await,
        GateVerb::Show { candidate, on } => show(lake, candidate, on, asked).await,
        GateVerb::Waive { candidate, reason, by, on, yes } => {
            let name = find(lake, candidate, &["quarantine"]).await?.0;
            let target = RefName::new(on.as_str()).map_err(LakeError::from)?;
            let held = tip(lake, &name).await?;
            // A held merge is published as the merge it is; how many rows that brings depends on what came since.
            let rows = match is_join(&held) {
                true => None,
                false => Some(rows_of(lake, &held).await.map_err(WaiveError::from)?.1.count()),
            };
            let what = rows.map_or_else(|| "what was joined in".to_owned(), |rows| format!("{rows} rows of"));
            confirm(&format!("Publish {what} {name} to {target} against the gate?"), *yes)?;
            let waiver = Waiver { by: by.clone(), reason: reason.clone(), now: now() };
            let done = waive(lake, &name, &target, &waiver).await?;
            match asked.json {
                true => writeln!(asked.out, "{}", json!({"commit": done.id, "rows": rows, "ref": target}))?,
                false => {
                    let what = rows.map_or_else(|| name.to_string(), |rows| format!("{rows} rows"));
                    writeln!(asked.out, "{what} published to {target} as {}", done.id.short())?;
                }
            }
            Ok(())
        }
    }
}

async fn list<W: Write>(lake: &Lake, on: &str, asked: &mut Asked<'_, W>) -> Result<(), QueryError> {
    let branch = RefName::new(on).map_err(LakeError::from)?;
    let head = lake.head(&branch).await?.and_then(|head| head.commit);
    let mut rows = Vec::new();
    for one in held(lake, head.as_ref()).await.map_err(WaiveError::from)? {
        let failed: Vec<&str> = one.failed.iter().map(|said| said.gate.0.as_str()).collect();
        let mut row = object(json!({
            "candidate": one.id,
            "state": one.state.as_str(),
            "recipe": one.recipes.join(", "),
            "rows": one.rows,
            "since": time(one.since_us),
            "failed": failed.join(", "),
            "commit": one.commit,
        }));
        if asked.json {
            row.insert("rules".to_owned(), one.failed.iter().map(told).collect());
        } else if one.state == HeldState::Waiting {
            row.insert("candidate".to_owned(), one.id.get(..12).unwrap_or(&one.id).into());
        }
        rows.push(row);
    }
    let mut printer = Printer { out: &mut asked.out, json: asked.json };
    let columns = ["candidate", "state", "recipe", "rows", "since", "failed"];
    printer.list(&columns, &rows, "nothing is held by the gate")
}

/// A verdict with its evidence, for scripts.
fn told(said: &Said) -> Value {
    json!({
        "gate": said.gate.0, "gate_version": said.gate.1, "table": said.table, "verdict": said.verdict,
        "rows": said.rows, "time": time(said.ts_us), "ref": said.name, "candidate": said.candidate,
        "from": said.span_ns.map(|(from, _)| time(from.div_euclid(1_000))),
        "to": said.span_ns.map(|(_, to)| time(to.div_euclid(1_000))),
        "evidence": said.evidence, "published_as": said.published_as, "waived_by": said.waived_by,
    })
}

async fn show<W: Write>(
    lake: &Lake,
    spec: &str,
    on: &str,
    asked: &mut Asked<'_, W>,
) -> Result<(), QueryError> {
    // The commit where the verdicts stand, and whether the rows are there, too.
    let (at, mut said, has_rows) = match find(lake, spec, &["quarantine", "wap"]).await {
        Ok((name, _)) => {
            let tip = tip(lake, &name).await?;
            let mut said = verdicts(lake, &tip.id, None).await?;
            // On whichever of its refs it was judged or waived.
            said.retain(|said| said.is_of(id_of(&name)));
            (tip.id, said, true)
        }
        Err(unknown) => {
            // Rows that wait for a turn are on no ref.
            let at = lake.resolve(on).await?;
            let mut said = verdicts(lake, &at, None).await?;
            said.retain(|said| spec.len() >= SPEC_MIN && said.candidate.starts_with(spec));
            if said.is_empty() {
                return Err(unknown);
            }
            (at, said, false)
        }
    };
    said.sort_by(|a, b| (&a.verdict, &a.gate).cmp(&(&b.verdict, &b.gate)));
    let (mut rows, mut offenders) = (Vec::new(), Vec::new());
    for said in &said {
        let mut row = object(told(said));
        if said.verdict == "fail" && has_rows && offenders.len() < OFFENDERS_MAX {
            let some = offending(lake, &at, said, OFFENDERS_MAX.saturating_sub(offenders.len())).await?;
            row.insert("offenders".to_owned(), some.iter().cloned().map(Value::Object).collect());
            offenders.extend(some.into_iter().map(|mut row| {
                row.insert("gate".to_owned(), said.gate.0.clone().into());
                row
            }));
        }
        rows.push(row);
    }
    let mut printer = Printer { out: &mut asked.out, json: asked.json };
    printer.list(
        &["gate", "verdict", "rows", "evidence", "waived_by"],
        &rows,
        "it has not been judged yet",
    )?;
    if !asked.json && !offenders.is_empty() {
        let columns: Vec<&str> = offenders
            .iter()
            .flat_map(Map::keys)
            .map(String::as_str)
            .filter(|name| !FIRST.contains(name))
            .collect::<BTreeSet<&str>>()
            .into_iter()
            .collect();
        printer.list(&[&FIRST[..], columns.as_slice()].concat(), &offenders, "")?;
    }
    Ok(())
}

/// Rows that a verdict names, with the columns its rule looked at.
async fn offending(
    lake: &Lake,
    at: &CommitId,
    said: &Said,
    most: usize,
) -> Result<Vec<Map<String, Value>>, QueryError> {
    let Ok(table) = TableName::new(said.table.as_str()) else { return Ok(Vec::new()) };
    if !lake.tables(at).await?.contains_key(&table) {
        return Ok(Vec::new());
    }
    let known = lake.columns(at, &table).await?;
    let text = said.evidence.to_string();
    let is_looked_at = |name: &str| {
        ["device", "ts", "row_key"].contains(&name)
            || text.contains(&format!("\"{name}\":"))
            || text.contains(&format!("\"{name}."))
    };
    let columns: Vec<String> =
        known.iter().map(|column| column.name.clone()).filter(|name| is_looked_at(name)).collect();
    let mut found = Vec::new();
    for key in said.row_keys().into_iter().take(most) {
        let condition =
            Condition { column: "row_key".to_owned(), compare: Compare::Equal, value: key.to_owned() };
        let options = ScanOptions {
            columns: Some(columns.clone()),
            limit: Some(1),
            from_us: said.span_ns.map(|(from, _)| from.div_euclid(1_000)),
            to_us: said.span_ns.map(|(_, to)| to.div_euclid(1_000).saturating_add(1)),
            conditions: vec![condition],
            ..ScanOptions::default()
        };
        let mut batches = lake.scan(at, &table, options).await?;
        while let Some(batch) = batches.try_next().await? {
            found.extend(row_values(&batch)?);
        }
    }
    Ok(found)
}

async fn tip(lake: &Lake, name: &RefName) -> Result<CommitObject, QueryError> {
    Ok(lake.commit_object(&lake.resolve(name.as_str()).await?).await?)
}

/// The one candidate that `spec` means.
async fn find(lake: &Lake, spec: &str, folders: &[&str]) -> Result<(RefName, Head), QueryError> {
    let mut found = Vec::new();
    let mut known = Vec::new();
    for folder in folders {
        for (name, head) in lake.refs_below(folder).await? {
            let id = name.as_str().rsplit('/').next().unwrap_or_default();
            known.push(name.to_string());
            if name.as_str() == spec || (!spec.is_empty() && id.starts_with(&spec.to_lowercase())) {
                found.push((name, head));
            }
        }
    }
    match (found.len(), found.pop()) {
        (1, Some(one)) => Ok(one),
        (n, _) => Err(QueryError::Candidate {
            asked: spec.to_owned(),
            found: if n == 0 { "none" } else { "more than one" },
            known: if known.is_empty() { "none".to_owned() } else { known.join(", ") },
        }),
    }
}

//! `headwater gate`: candidates the gate holds, why, and a person's word against it.

use super::Asked;
use crate::gate::guard::is_join;
use crate::gate::waive::{WaiveError, Waiver, rows_of, waive};
use crate::query::cli::now;
use crate::query::confirm::confirm;
use crate::query::show::{Printer, object, time};
use crate::query::{QueryError, row_values};
use clap::Subcommand;
use futures::TryStreamExt;
use headwater_lake::{CommitObject, Head, Lake, LakeError, RefName, ScanOptions, TableName};
use serde_json::{Map, Value, json};
use std::io::Write;

#[derive(Debug, Subcommand)]
pub(in crate::query) enum GateVerb {
    /// Candidates that are being judged or were quarantined.
    List,
    /// Verdicts on a candidate, with their evidence.
    #[command(
        after_help = "Example:\n  headwater gate show 01j9x3zq --json | jq '.[] | select(.verdict == \"fail\") | .evidence'"
    )]
    Show {
        /// quarantine/<id>, wap/<id>, or a beginning of the id.
        candidate: String,
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
        GateVerb::List => list(lake, asked).await,
        GateVerb::Show { candidate } => show(lake, candidate, asked).await,
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

async fn list<W: Write>(lake: &Lake, asked: &mut Asked<'_, W>) -> Result<(), QueryError> {
    let mut rows = Vec::new();
    for folder in ["wap", "quarantine"] {
        for (name, head) in lake.refs_below(folder).await? {
            let tip = tip(lake, &name).await?;
            let count = match rows_of(lake, &tip).await {
                Ok((_, rows)) => json!(rows.count()),
                // Made by somebody else, or not whole: it is shown all the same.
                Err(_) => Value::Null,
            };
            let failed: Vec<&str> = tip
                .gates
                .iter()
                .filter(|gate| gate.verdict == "fail")
                .map(|gate| gate.name.as_str())
                .collect();
            rows.push(object(json!({
                "candidate": name.to_string(),
                "recipe": tip.lineage.recipes.keys().cloned().collect::<Vec<_>>().join(", "),
                "rows": count,
                "time": time(head.time_us),
                "failed": failed.join(", "),
                "commit": tip.id,
            })));
        }
    }
    let mut printer = Printer { out: &mut asked.out, json: asked.json };
    let columns = ["candidate", "recipe", "rows", "time", "failed"];
    printer.list(&columns, &rows, "nothing is held by the gate")
}

async fn show<W: Write>(lake: &Lake, spec: &str, asked: &mut Asked<'_, W>) -> Result<(), QueryError> {
    let (name, _) = find(lake, spec, &["quarantine", "wap"]).await?;
    let tip = tip(lake, &name).await?;
    let id = name.as_str().rsplit('/').next().unwrap_or_default().to_owned();
    let verdicts = TableName::new("ops.verdicts").map_err(LakeError::from)?;
    let mut rows: Vec<Map<String, Value>> = Vec::new();
    if lake.tables(&tip.id).await?.contains_key(&verdicts) {
        let mut batches = lake.scan(&tip.id, &verdicts, ScanOptions::default()).await?;
        while let Some(batch) = batches.try_next().await? {
            rows.extend(row_values(&batch)?);
        }
    }
    // On whichever of its refs it was judged or waived.
    rows.retain(|row| {
        row.get("ref").and_then(Value::as_str).is_some_and(|name| name.ends_with(&format!("/{id}")))
    });
    if asked.json {
        for row in &mut rows {
            let evidence =
                row.get("evidence").and_then(Value::as_str).and_then(|text| serde_json::from_str(text).ok());
            if let Some(evidence) = evidence {
                row.insert("evidence".to_owned(), evidence);
            }
        }
    }
    rows.sort_by_key(|row| row.get("verdict").map(ToString::to_string));
    let mut printer = Printer { out: &mut asked.out, json: asked.json };
    printer.list(&["gate", "verdict", "rows", "evidence", "waived_by"], &rows, "it has not been judged yet")
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

//! Waiving a join that the gate holds: a person merges it all the same, and the lake says who and why.

use super::verdicts::FOR;
use crate::commit::cells::TableRows;
use crate::commit::tables::Ops;
use crate::gate::GATE_VERSION;
use crate::gate::waive::{WaiveError, Waiver};
use headwater_core::id::Sha256;
use headwater_lake::{
    By, CommitKind, CommitObject, CommitRequest, Committed, Lake, MergeOptions, Merged, RefName, Warrant,
};
use serde_json::json;
use std::collections::BTreeSet;

/// Whether the head of a candidate is a join with its verdicts, and not a window of one recipe's rows.
#[must_use]
pub fn is_join(tip: &CommitObject) -> bool {
    tip.lineage.inputs.iter().any(|input| input.starts_with(FOR))
}

/// Merges the held join under `name` into `target`, with a row of `ops.verdicts` for each of its tables that says who
/// waived it, and takes the quarantine ref away. What came to `target` since is joined with it.
///
/// # Errors
/// [`WaiveError`]; of a conflict the report is in it.
pub async fn waive_join(
    lake: &Lake,
    name: &RefName,
    tip: &CommitObject,
    target: &RefName,
    waiver: &Waiver,
) -> Result<Committed, WaiveError> {
    // A person answers for it by name, which stands in for a verdict.
    let lake = &lake.acting(Warrant::Judged);
    let time_us = waiver.now.micros();
    let evidence = json!({"reason": waiver.reason}).to_string();
    let tables: BTreeSet<&str> =
        tip.gates.iter().filter_map(|gate| gate.name.split_once('/')).map(|(table, _)| table).collect();
    let mut out = TableRows::new(Ops::Verdicts.spec());
    for table in tables {
        out.push(vec![
            ("ts", time_us.into()),
            ("ts_ns", waiver.now.0.into()),
            // A person's host; nothing is aligned by it.
            ("ts_err_ns", i64::MAX.into()),
            ("candidate", tip.id.to_string().into()),
            ("ref", name.to_string().into()),
            ("table", table.into()),
            ("gate", "waiver".into()),
            ("gate_version", GATE_VERSION.into()),
            ("verdict", "pass".into()),
            ("evidence_digest", Sha256::of(evidence.as_bytes()).to_string().into()),
            ("evidence", evidence.as_str().into()),
            ("published_as", target.to_string().into()),
            ("waived_by", waiver.by.as_str().into()),
        ]);
    }
    let message = format!("waived by {}: {}", waiver.by, waiver.reason);
    let request = CommitRequest {
        kind: CommitKind::Align,
        message: message.clone(),
        time_us,
        appends: vec![out.to_append()?],
        gates: tip.gates.clone(),
        lineage: tip.lineage.clone(),
        ..CommitRequest::default()
    };
    let noted = lake.writer(name.clone(), waiver.by.clone()).commit(request).await?;
    let by = By { author: waiver.by.clone(), message: Some(message), time_us };
    let published = match lake.merge(target, &noted.id, &MergeOptions::default(), &by).await? {
        Merged::FastForward(done) | Merged::Commit { committed: done, .. } => *done,
        _ => {
            let reason = "all of it is there already";
            return Err(WaiveError::NoCandidate { name: name.clone(), reason });
        }
    };
    lake.drop_ref(name, None, &waiver.by, time_us, "waived").await?;
    Ok(published)
}

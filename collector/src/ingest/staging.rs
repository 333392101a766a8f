//! Staging branches and quarantined candidates as they lie in the lake: what an earlier life left, and how much is kept.

use super::aligning::AlignError;
use crate::align::coverage::Coverage;
use headwater_align::recipe::Recipe;
use headwater_core::id::KindName;
use headwater_lake::{CommitObject, Lake, PublishError, RefName};

pub(super) use crate::gate::{QUARANTINE, WAP};

/// Takes away the staging branches that ingest for `receiver` left behind: nobody judges them any more, and what they
/// hold was either published or will be aligned anew. Those of others stay.
pub(super) async fn expire(lake: &Lake, receiver: &str, time_us: i64) -> Result<(), PublishError> {
    let authors = [format!("headwater-collector {receiver}"), format!("headwater import for {receiver}")];
    for (name, head) in lake.refs_below(WAP).await.map_err(PublishError::Failed)? {
        if !authors.contains(&head.writer) {
            continue;
        }
        metrics::counter!("headwater_gate_expired_total").increment(1);
        tracing::warn!(branch = %name, "staging branch of an earlier life expired; its rows are aligned anew");
        let time_us = time_us.max(head.time_us);
        lake.drop_ref(
            &name,
            head.commit.as_ref(),
            &head.writer,
            time_us,
            "its audit ended with its collector",
        )
        .await?;
    }
    Ok(())
}

/// The rows that quarantined candidates of a recipe hold: they are not judged again and again.
pub(super) async fn held_back(lake: &Lake, recipe: &Recipe, recipe_id: &str) -> Result<Coverage, AlignError> {
    let mut held = Coverage::default();
    for (_, head) in lake.refs_below(QUARANTINE).await? {
        let Some(id) = head.commit else { continue };
        let tip = lake.commit_object(&id).await?;
        if is_of(&tip, &recipe.name, Some(recipe_id)) {
            held.union_with(&crate::gate::waive::rows_of(lake, &tip).await?.1);
        }
    }
    Ok(held)
}

/// Takes away all but the newest quarantined candidates of a recipe.
pub(super) async fn keep_newest(
    lake: &Lake,
    recipe: &KindName,
    keep: usize,
    author: &str,
    time_us: i64,
) -> Result<(), PublishError> {
    let mut ours: Vec<RefName> = Vec::new();
    for (name, head) in lake.refs_below(QUARANTINE).await.map_err(PublishError::Failed)? {
        let Some(id) = head.commit else { continue };
        let tip = lake.commit_object(&id).await.map_err(PublishError::Failed)?;
        if is_of(&tip, recipe, None) {
            ours.push(name);
        }
    }
    // Names are in order of time.
    let surplus = ours.len().saturating_sub(keep);
    for name in ours.iter().take(surplus) {
        tracing::warn!(candidate = %name, keep, "oldest quarantined candidate goes, see gate.keep");
        lake.drop_ref(name, None, author, time_us, "beyond gate.keep").await?;
    }
    Ok(())
}

fn is_of(tip: &CommitObject, recipe: &KindName, recipe_id: Option<&str>) -> bool {
    let found = tip.lineage.recipes.get(recipe.as_str());
    found.is_some_and(|found| recipe_id.is_none_or(|id| id == found))
}

//! Revisions as people write them: `main`, a tag, a commit id or its beginning, `main@<id>`, `main~2`.

use crate::error::LakeError;
use crate::lake::Lake;
use crate::names::{CommitId, RefName};

/// Fewest digits of an abbreviated commit id: two choose the folder, and fewer than four are seldom meant.
const PREFIX_DIGITS_MIN: usize = 4;

/// Most generations `~n` walks back: each is one read.
const GENERATIONS_MAX: usize = 1_000_000;

pub(crate) fn commit_key(id: &CommitId) -> String {
    format!("_repo/commits/{}/{id}.json", &id.as_str()[..2])
}

pub(crate) async fn resolve(lake: &Lake, spec: &str) -> Result<CommitId, LakeError> {
    let unknown = || LakeError::UnknownRevision { spec: spec.to_owned() };
    let (start, generations) = match spec.split_once('~') {
        None => (spec, 0),
        Some((start, "")) => (start, 1),
        Some((start, count)) => {
            (start, count.parse().ok().filter(|n| *n <= GENERATIONS_MAX).ok_or_else(unknown)?)
        }
    };
    let mut id = match start.split_once('@') {
        Some((name, id)) => {
            // The ref says whose history is meant; the commit itself is what is pinned.
            by_name(lake, name).await?.ok_or_else(unknown)?;
            by_id(lake, id, spec).await?.ok_or_else(unknown)?
        }
        None => match by_name(lake, start).await? {
            Some(id) => id,
            None => by_id(lake, start, spec).await?.ok_or_else(unknown)?,
        },
    };
    for _ in 0..generations {
        let commit = lake.commit_object(&id).await?;
        id = commit.parents.into_iter().next().ok_or_else(unknown)?;
    }
    Ok(id)
}

/// A branch, or else a tag.
async fn by_name(lake: &Lake, name: &str) -> Result<Option<CommitId>, LakeError> {
    let Ok(name) = RefName::new(name) else { return Ok(None) };
    match lake.head(&name).await?.and_then(|head| head.commit) {
        Some(id) => Ok(Some(id)),
        None => lake.refs().tagged(&name).await,
    }
}

async fn by_id(lake: &Lake, digits: &str, spec: &str) -> Result<Option<CommitId>, LakeError> {
    if let Ok(id) = CommitId::new(digits) {
        return lake.commit_object(&id).await.map(|commit| Some(commit.id));
    }
    let hex = digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if !hex || !(PREFIX_DIGITS_MIN..64).contains(&digits.len()) {
        return Ok(None);
    }
    let names = lake.store().names_in(&format!("_repo/commits/{}", &digits[..2])).await?;
    let mut found =
        names.iter().filter_map(|name| name.strip_suffix(".json")).filter(|id| id.starts_with(digits));
    match (found.next(), found.next()) {
        (None, _) => Ok(None),
        (Some(id), None) => Ok(Some(CommitId::new(id)?)),
        (Some(_), Some(_)) => Err(LakeError::AmbiguousRevision { spec: spec.to_owned() }),
    }
}

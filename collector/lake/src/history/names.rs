//! Which refs point at which commits.

use std::collections::BTreeMap;

use crate::error::LakeError;
use crate::lake::Lake;
use crate::names::{CommitId, RefName};

/// Branch heads and tags by the commit they name.
pub(super) async fn pointing(lake: &Lake) -> Result<BTreeMap<CommitId, Vec<RefName>>, LakeError> {
    let mut found: BTreeMap<CommitId, Vec<RefName>> = BTreeMap::new();
    for (name, head) in lake.refs().list().await? {
        if let Some(commit) = head.commit {
            found.entry(commit).or_default().push(name);
        }
    }
    for tag in lake.tags().await? {
        found.entry(tag.commit).or_default().push(tag.name);
    }
    Ok(found)
}

//! Which refs point at which commits.

use std::collections::BTreeMap;

use crate::error::LakeError;
use crate::lake::Lake;
use crate::names::{CommitId, RefName};

/// Tags with the commits they name, by name. One read per tag.
pub(super) async fn tags(lake: &Lake) -> Result<BTreeMap<RefName, CommitId>, LakeError> {
    let mut found = BTreeMap::new();
    for file in lake.store().names_in("_repo/refs/tags").await? {
        let Some(Ok(name)) = file.strip_suffix(".json").map(RefName::from_key) else { continue };
        if let Some(commit) = lake.refs().tagged(&name).await? {
            found.insert(name, commit);
        }
    }
    Ok(found)
}

impl Lake {
    /// Tags with the commits they name, by name.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn tag_names(&self) -> Result<BTreeMap<RefName, CommitId>, LakeError> {
        tags(self).await
    }
}

/// Branch heads and tags by the commit they name.
pub(super) async fn pointing(lake: &Lake) -> Result<BTreeMap<CommitId, Vec<RefName>>, LakeError> {
    let mut found: BTreeMap<CommitId, Vec<RefName>> = BTreeMap::new();
    for (name, head) in lake.refs().list().await? {
        if let Some(commit) = head.commit {
            found.entry(commit).or_default().push(name);
        }
    }
    for (name, commit) in tags(lake).await? {
        found.entry(commit).or_default().push(name);
    }
    Ok(found)
}

//! `format.json`: what makes a folder a lake, and keeps an older build's hands off a newer one.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::LakeError;
use crate::repo::canonical;
use crate::store::LakeStore;

const KEY: &str = "_repo/format.json";

/// Layout this build reads and writes.
const LAYOUT: u32 = 1;

/// Features this build knows; a lake that needs another is refused.
const FEATURES: [&str; 0] = [];

#[derive(Debug, Serialize, Deserialize)]
struct Format {
    repo_id: Uuid,
    layout: u32,
    hash: String,
    features: Vec<String>,
}

/// Makes the store a lake unless it is one, and gives its id.
pub(crate) async fn init(store: &LakeStore) -> Result<Uuid, LakeError> {
    let format =
        Format { repo_id: Uuid::new_v4(), layout: LAYOUT, hash: "sha256".to_owned(), features: Vec::new() };
    let bytes = canonical::to_bytes(&format).map_err(|reason| LakeError::corrupt(KEY, reason))?;
    store.create(KEY, Bytes::from(bytes)).await.map_err(|e| match e {
        known @ LakeError::Trouble { .. } => known,
        e => LakeError::Location {
            location: store.location().to_owned(),
            reason: format!(
                "the first file cannot be made ({}); a lake needs write permission and, on disk, a file system with hard links",
                std::error::Error::source(&e).map_or_else(|| e.to_string(), ToString::to_string)
            ),
        },
    })?;
    open(store).await
}

/// Checks that the store is a lake this build understands, and gives its id.
pub(crate) async fn open(store: &LakeStore) -> Result<Uuid, LakeError> {
    let location = store.location().to_owned();
    let Some(bytes) = store.read(KEY).await? else { return Err(LakeError::NotALake { location }) };
    let format: Format = serde_json::from_slice(&bytes).map_err(|e| LakeError::corrupt(KEY, e))?;
    let refuse = |reason: String| Err(LakeError::Format { location: location.clone(), reason });
    if format.layout != LAYOUT {
        return refuse(format!(
            "its layout is {}, this build knows {LAYOUT}; use the build that made it",
            format.layout
        ));
    }
    if format.hash != "sha256" {
        return refuse(format!("it names objects by {}, this build by sha256", format.hash));
    }
    if let Some(feature) = format.features.iter().find(|feature| !FEATURES.contains(&feature.as_str())) {
        return refuse(format!("it needs the feature {feature:?}, which this build does not have"));
    }
    Ok(format.repo_id)
}

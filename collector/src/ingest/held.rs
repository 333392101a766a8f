//! What the lake holds at the head of a branch, for those who want to know before they land anything.

use super::IngestSettings;
use super::fold::Folder;
use super::restore::restore;
use crate::dedup::Ledger;
use crate::registry::Registry;
use headwater_lake::{Lake, LakeError};

/// Held seqs, gaps and declarations.
#[derive(Debug)]
pub struct Held {
    /// Seqs that are in the lake, or will never be.
    pub ledger: Ledger,
    /// Streams that were declared.
    pub registry: Registry,
}

/// Reads what the head of the settings' branch holds.
///
/// # Errors
/// When the lake cannot be read.
pub async fn held(lake: &Lake, settings: &IngestSettings) -> Result<Held, LakeError> {
    let registry = Registry::new();
    let mut folder = Folder::new(settings.clone(), registry.clone());
    restore(&mut folder, lake, &settings.branch).await?;
    Ok(Held { ledger: folder.ledger, registry })
}

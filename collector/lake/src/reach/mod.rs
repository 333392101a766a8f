//! What a lake still needs: from its refs to every object that any kept commit names.
//!
//! ```text
//! branch heads, tags, young ref entries ─▶ lines of history (thinned) ─▶ commits ─▶ metadata ─▶ lists ─▶ manifests ─▶ files ─▶ blobs
//!                      lines.rs                 history.rs                              objects.rs                        blobs.rs
//! ```
//! The collector of garbage, the check and the clone all walk this one way. A commit keeps the one snapshot of each table
//! that it names; older snapshots that a `metadata.json` still lists belong to older commits and live as long as those.

mod blobs;
mod found;
mod history;
mod keys;
mod lines;
mod objects;
mod shelf;

pub use found::Kind;
pub(crate) use found::{Damage, Found, Visitor};
pub(crate) use keys::{KeySet, give_up, lost, number_of};
pub(crate) use lines::{Lines, each_ref, survey, tags_of};
pub(crate) use objects::Walker;
pub(crate) use shelf::{DAY_US, HOUR_US};

use crate::error::LakeError;

/// How long history is kept. All times in µs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// Every commit of the last so long is kept.
    pub full_us: i64,
    /// Older than that the last commit of each hour is kept, for so long; then only branch points and tags.
    pub hourly_us: i64,
    /// Ref entries younger than this keep what they name, so that whatever was a head lately can be had back.
    pub reflog_us: i64,
}

/// Least [`Keep::reflog_us`], 24 h: a writer with an old head must never create an entry below a pruned one.
pub const REFLOG_US_MIN: i64 = DAY_US;

impl Default for Keep {
    /// 7 d in full and in the ref log, hours for a year.
    fn default() -> Keep {
        Keep { full_us: 7 * DAY_US, hourly_us: 365 * DAY_US, reflog_us: 7 * DAY_US }
    }
}

impl Keep {
    pub(crate) fn check(&self) -> Result<(), LakeError> {
        let wrong = |reason: &str| Err(LakeError::Keep { reason: reason.to_owned() });
        if self.reflog_us < REFLOG_US_MIN {
            return wrong(
                "the ref log must be kept for 24 h at least, or a slow writer could be overtaken unseen",
            );
        }
        if self.full_us < 0 || self.hourly_us < self.full_us {
            return wrong("hours must be kept at least as long as full history");
        }
        Ok(())
    }
}

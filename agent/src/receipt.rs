//! Receipts: how a source learns that what it gave out is on disk.
//!
//! Only a source that keeps the original until then needs them: a folder of pictures.

/// What became of an event a source gave out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Number of the event, counted per source from 0.
    pub event: u64,
    /// It is on disk. Otherwise it was shed, and a gap record says so.
    pub captured: bool,
}

//! Cuts wire batches out of spooled slabs, at ship time, so that what lies on disk stays cheap to write.
//!
//! ```text
//! spool ─ SpooledSlab ─► Batcher ─┬─ SealedBatch   encoded, decoded again and compared (A1)
//!                                 ├─ SealedBlob    an object, cut into parts when it is sent
//!                                 └─ Withheld      rows this version cannot send; they stay in the spool
//! ```
//! A batch has no id and the cut is arbitrary: the collector knows samples, so the same slabs cut
//! otherwise after a restart double nothing (D1).

mod batcher;
mod seal;
mod sealed;
#[cfg(test)]
mod tests;

pub use batcher::{BatchSettings, BatchStats, Batcher, PackedBlob};
pub use sealed::{Hold, Sealed, SealedBatch, SealedBlob, Withheld, WithheldWhy};

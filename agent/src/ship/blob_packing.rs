//! Packs blobs before they are sealed: JPEGs as Lepton where bytes are paid for, others by zstd, within a share
//! of one core.
//!
//! Packing takes milliseconds to a quarter of a second, so it runs on a thread for blocking work, and what
//! it used is taken from a budget that refills with time. On a gateway that is slow or busy the budget
//! runs out and blobs go as they are: capture and shipping come first.

use crate::batch::PackedBlob;
use headwater_core::ports::Clock;
use headwater_core::sample::Blob;
use headwater_core::time::{BootNanos, NS_PER_S};
use headwater_core::wire::blob::{BLOB_CODECS_BASELINE, BlobCodec};
use std::sync::Arc;

/// Share of time that packing may take, in percent of one core.
const SHARE_PERCENT: i64 = 25;
/// Most that is saved up, ns: a burst of pictures after a quiet time is packed, then it is every fourth.
const SAVED_NS_MAX: i64 = NS_PER_S;
/// Below this many bytes the header is most of an object.
const BYTES_MIN: usize = 512;

/// Time that packing may still take.
#[derive(Debug)]
struct Budget {
    left_ns: i64,
    at: BootNanos,
}

impl Budget {
    fn refill(&mut self, now: BootNanos) {
        let earned = now.since(self.at).max(0).saturating_mul(SHARE_PERCENT) / 100;
        self.left_ns = self.left_ns.saturating_add(earned).min(SAVED_NS_MAX);
        self.at = now;
    }

    fn allows(&mut self, now: BootNanos) -> bool {
        self.refill(now);
        self.left_ns > 0
    }

    fn spend(&mut self, ns: i64) {
        self.left_ns = self.left_ns.saturating_sub(ns.max(0));
    }
}

/// What was packed and what it saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct PackingStats {
    /// Blobs packed.
    pub(super) packed: u64,
    /// Bytes they take less than their originals.
    pub(super) bytes_saved: u64,
    /// Blobs that went as they are because the budget was used up.
    pub(super) over_budget: u64,
}

/// Which blobs are packed, and the time left for it.
#[derive(Debug)]
pub(super) struct BlobPacking {
    lepton: bool,
    announced: u8,
    budget: Budget,
    pub(super) stats: PackingStats,
}

impl BlobPacking {
    pub(super) fn new(lepton: bool, now: BootNanos) -> Self {
        let budget = Budget { left_ns: SAVED_NS_MAX, at: now };
        Self { lepton, announced: BLOB_CODECS_BASELINE, budget, stats: PackingStats::default() }
    }

    /// What the collector can read changed.
    pub(super) fn announce(&mut self, blobs: u8) {
        self.announced = blobs;
    }

    fn codec(&mut self, bytes: &[u8], now: BootNanos) -> Option<BlobCodec> {
        let codec = BlobCodec::made_for(bytes);
        let wanted = match codec {
            BlobCodec::Raw => false,
            BlobCodec::Zstd => true,
            BlobCodec::Lepton => self.lepton,
        };
        if !wanted || bytes.len() < BYTES_MIN || !codec.is_in(self.announced) {
            return None;
        }
        if !self.budget.allows(now) {
            self.stats.over_budget = self.stats.over_budget.saturating_add(1);
            return None;
        }
        Some(codec)
    }

    /// The blob in the form that suits it; `None` = as it is.
    pub(super) async fn pack<C: Clock>(&mut self, clock: &C, blob: &Blob) -> Option<PackedBlob> {
        let began = clock.boot();
        let codec = self.codec(&blob.bytes, began)?;
        let bytes = Arc::clone(&blob.bytes);
        let packed = tokio::task::spawn_blocking(move || codec.pack(&bytes)).await;
        self.budget.spend(clock.boot().since(began));
        let payload = match packed {
            Ok(packed) => packed?,
            Err(error) => {
                tracing::error!(%error, ?codec, "packing a blob failed; it goes as it is");
                return None;
            }
        };
        self.stats.packed = self.stats.packed.saturating_add(1);
        let saved = blob.bytes.len().saturating_sub(payload.len());
        self.stats.bytes_saved = self.stats.bytes_saved.saturating_add(saved as u64);
        Some(PackedBlob { codec, payload })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_core::wire::blob::BLOB_CODECS_SUPPORTED;
    use headwater_sim::clock::SimClock;

    fn text(bytes: usize) -> Blob {
        let bytes: Vec<u8> = b"0123456789abcdef".iter().copied().cycle().take(bytes).collect();
        Blob { mime: "text/plain".into(), bytes: bytes.into() }
    }

    #[test]
    fn a_share_of_time_is_spent_and_no_more() {
        let mut budget = Budget { left_ns: SAVED_NS_MAX, at: BootNanos(0) };
        budget.refill(BootNanos(0).plus_ms(3_600_000));
        assert_eq!(budget.left_ns, SAVED_NS_MAX, "an hour of rest saves up a second");
        budget.spend(3 * SAVED_NS_MAX);
        assert!(!budget.allows(BootNanos(0).plus_ms(3_608_000)), "in debt for eight seconds");
        assert!(budget.allows(BootNanos(0).plus_ms(3_608_100)));
        budget.spend(-5);
        assert!(budget.left_ns > 0);
    }

    #[tokio::test]
    async fn only_what_was_announced_and_pays_is_packed() {
        let clock = SimClock::start();
        let mut packing = BlobPacking::new(true, clock.boot());
        assert_eq!(packing.pack(&clock, &text(10_000)).await, None, "nothing was announced yet");
        packing.announce(BLOB_CODECS_SUPPORTED);
        let packed = packing.pack(&clock, &text(10_000)).await.unwrap();
        assert_eq!(packed.codec, BlobCodec::Zstd);
        assert_eq!(packing.stats.bytes_saved, 10_000 - packed.payload.len() as u64);
        assert_eq!(packing.pack(&clock, &text(100)).await, None, "too small");
        let noise: Vec<u8> = (0..9_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
        let png = [b"\x89PNG\r\n\x1a\n".to_vec(), noise].concat();
        let png = Blob { mime: "image/png".into(), bytes: png.into() };
        assert_eq!(packing.pack(&clock, &png).await, None);
        packing.budget.spend(2 * SAVED_NS_MAX);
        assert_eq!(packing.pack(&clock, &text(10_000)).await, None);
        assert_eq!((packing.stats.packed, packing.stats.over_budget), (1, 1));
    }
}

//! What is stored: incompressible bytes in the shapes that sensors give them.

use serde::{Deserialize, Serialize};
use std::ops::Range;

/// One shape of data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Workload {
    /// Records of 100 bytes. The spool takes them by the slab, as its stamp stage hands them over; the other
    /// stores take one key each, in the same transactions.
    Records,
    /// Slabs of 64 KiB: 1024 rows of eight doubles for the spool, one value for the others.
    Slabs,
    /// Pictures of 200 000 bytes: a row with a blob, or one value.
    Images,
}

/// Bytes of a record.
pub(super) const RECORD_BYTES: usize = 100;
/// Records in a slab: about the 64 KiB at which the stamp stage closes one, and three reach the smaller group.
const RECORDS_PER_PIECE: usize = 656;
/// Bytes of a slab.
const SLAB_BYTES: usize = 64 * 1024;
/// Bytes of a picture.
const IMAGE_BYTES: usize = 200_000;
/// Random bytes that all pieces are cut from: small beside the memory that is measured, longer than a picture.
const POOL_BYTES: usize = 1 << 20;

impl Workload {
    pub(crate) const ALL: [Self; 3] = [Self::Records, Self::Slabs, Self::Images];

    pub(super) fn told(self) -> &'static str {
        match self {
            Self::Records => "records of 100 B",
            Self::Slabs => "slabs of 64 KiB",
            Self::Images => "images of 200 kB",
        }
    }

    /// Bytes of a piece: what is appended at once.
    pub(super) fn piece_bytes(self) -> usize {
        match self {
            Self::Records => RECORD_BYTES * RECORDS_PER_PIECE,
            Self::Slabs => SLAB_BYTES,
            Self::Images => IMAGE_BYTES,
        }
    }

    /// Keys of a piece in a store of keys and values.
    pub(super) fn keys_per_piece(self) -> u64 {
        match self {
            Self::Records => RECORDS_PER_PIECE as u64,
            Self::Slabs | Self::Images => 1,
        }
    }

    /// Keys of piece `n`.
    pub(super) fn keys(self, n: u64) -> Range<u64> {
        n * self.keys_per_piece()..(n + 1) * self.keys_per_piece()
    }

    /// Bytes of one value.
    pub(super) fn value_bytes(self) -> usize {
        if self == Self::Records { RECORD_BYTES } else { self.piece_bytes() }
    }
}

/// Random bytes, the same in every run.
#[derive(Debug)]
pub(super) struct Pool(Vec<u8>);

impl Pool {
    pub(super) fn new() -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let words = (0..POOL_BYTES / 8).flat_map(|_| {
            // xorshift64*: full period, and nothing that a compressor finds.
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes()
        });
        Self(words.collect())
    }

    /// The bytes of piece `n`: neighbours differ, so that no store can share anything between them.
    pub(super) fn piece(&self, workload: Workload, n: u64) -> &[u8] {
        let len = workload.piece_bytes();
        let places = (self.0.len() - len) as u64;
        let at = usize::try_from(n.wrapping_mul(8 * 8_209) % places).unwrap_or(0);
        self.0.get(at..at + len).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_of_their_size_differ_and_do_not_pack() {
        let pool = Pool::new();
        for workload in Workload::ALL {
            let (a, b) = (pool.piece(workload, 0), pool.piece(workload, 1));
            assert_eq!(a.len(), workload.piece_bytes());
            assert_ne!(a, b);
            assert!(zstd::bulk::compress(a, 3).unwrap().len() >= a.len());
            assert_eq!(workload.keys(3).count() * workload.value_bytes(), workload.piece_bytes());
        }
    }
}

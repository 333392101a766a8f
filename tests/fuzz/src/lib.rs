//! Hostile bytes for every decoder of ours.
//!
//! A [`Target`] reads one input and checks what must hold of it; its seeds are made by code from the golden
//! files. The same targets are run three ways:
//!
//! ```text
//! cargo test -p headwater-fuzz                                       some seconds, part of tests/run
//! cargo run --profile fuzz -p headwater-fuzz -- --runs 10000000      as long as you like; --target NAME
//! HEADWATER_TARGET=sections cargo +nightly fuzz run --fuzz-dir libfuzzer any seeds/sections
//!                                                                    in tests/fuzz: led by coverage, with
//!                                                                    AddressSanitizer; `--seeds seeds` made
//!                                                                    the folder
//! ```
//!
//! What must hold for any input of at most [`INPUT_BYTES_MAX`]: no panic and no overflow; at most
//! [`CPU_NS_MAX`] of decoding; at most [`DECODED_BYTES_MAX`] allocated at once; and what was decoded, encoded
//! again, decodes to the same.

pub mod alloc;
pub mod corpus;
pub mod driver;
pub mod mutate;
pub mod probe;
pub mod targets;

use probe::Probe;

/// Longest input: the largest message that is accepted.
pub const INPUT_BYTES_MAX: usize = headwater_core::wire::MESSAGE_BYTES_ACCEPTED_MAX;
/// Most CPU time a decoder may take for one input, ns.
pub const CPU_NS_MAX: u64 = 50_000_000;
/// Most bytes a decoder may hold at once beside its input: the small region unpacked; each value as the owned
/// text it becomes, its row's validity and a pass that spreads valid rows; the bytes of all texts, which an
/// allocator rounds up; and 1 MiB for all else.
pub const DECODED_BYTES_MAX: usize = {
    let limits = headwater_core::batch::Limits::V1;
    limits.small_raw_bytes_max
        + limits.values_max * (2 * size_of::<String>() + 1)
        + limits.decoded_bytes_max
        + (1 << 20)
};

/// One decoder under fire.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Name on the command line.
    pub name: &'static str,
    /// Feeds one input to it. The number tells kinds of outcome apart, so that inputs with a new one are kept.
    pub run: fn(&[u8], &mut Probe) -> u64,
    /// Inputs to start from.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// A hash as text that [`outcome`] tells from another.
#[must_use]
pub fn letters(hash: u64) -> String {
    hash.to_le_bytes().iter().flat_map(|byte| [byte & 15, byte >> 4]).map(|n| char::from(b'a' + n)).collect()
}

/// Hashes what happened: texts without their digits.
#[must_use]
pub fn outcome(parts: &[&dyn std::fmt::Debug]) -> u64 {
    use std::fmt::Write;
    struct Hash(u64);
    impl Write for Hash {
        fn write_str(&mut self, text: &str) -> std::fmt::Result {
            for byte in text.bytes().filter(|byte| !byte.is_ascii_digit()) {
                self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
            Ok(())
        }
    }
    let mut hash = Hash(0xcbf2_9ce4_8422_2325);
    for part in parts {
        write!(hash, "{part:?}|").expect("a hash takes all");
    }
    hash.0
}

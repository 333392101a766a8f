//! Makes batches: contexts and scratch are kept, so that a small batch costs little.

use super::Effort;
use super::body::{STORED, ZSTD, ZSTD_BLOCK};
use super::codec::choose::Picker;
use super::codec::{CODECS_BASELINE, CODECS_SPOOL, CODECS_SUPPORTED};
use super::pack::{Packer, bare_block};
use super::section::{Section, encode_section};
use crate::wire::Capabilities;
use crate::wire::blob::{BLOB_CODECS_BASELINE, BLOB_CODECS_SUPPORTED};
use crate::wire::primitives::put_uv;

/// zstd level of messages; 19 is 10 to 150 times dearer for under 2 %.
const ZSTD_LEVEL_WIRE: i32 = 3;
/// zstd level of slabs and of trials.
const ZSTD_LEVEL_FAST: i32 = 1;
/// Slabs are packed from this size on: below it the frame header eats the gain.
const ZSTD_SPOOL_BYTES_MIN: usize = 512;

/// What the reader of a batch has said it can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announced {
    /// Column codecs, bit n = codec n.
    pub codecs: u32,
    /// Ways of packing, bit n.
    pub packings: u8,
    /// Forms of blobs, bit n.
    pub blobs: u8,
}

impl Announced {
    /// What every reader of version 1 can, and all that may be assumed before one was heard.
    pub const BASELINE: Self = Self { codecs: CODECS_BASELINE, packings: 0b11, blobs: BLOB_CODECS_BASELINE };
    /// What this version reads.
    pub const OURS: Self =
        Self { codecs: CODECS_SUPPORTED, packings: super::PACKINGS_SUPPORTED, blobs: BLOB_CODECS_SUPPORTED };
    /// What slabs are written with: their reader is the agent that wrote them, or an older one of its kind.
    pub const SPOOL: Self = Self { codecs: CODECS_SPOOL, packings: 0b11, blobs: BLOB_CODECS_BASELINE };

    /// What both this version and the other side can; the baseline can always be read.
    #[must_use]
    pub fn by(capabilities: &Capabilities) -> Self {
        Self {
            codecs: capabilities.codecs & CODECS_SUPPORTED | CODECS_BASELINE,
            packings: capabilities.packings & super::PACKINGS_SUPPORTED | 0b11,
            blobs: capabilities.blob_codecs & BLOB_CODECS_SUPPORTED | BLOB_CODECS_BASELINE,
        }
    }
}

/// Makes batches of one effort for one reader.
#[derive(Debug)]
pub struct Encoder {
    effort: Effort,
    announced: Announced,
    trial: Packer,
    packer: Packer,
}

impl Encoder {
    /// Uses only what `announced` allows.
    #[must_use]
    pub fn new(effort: Effort, announced: Announced) -> Self {
        let level = if effort == Effort::Spool { ZSTD_LEVEL_FAST } else { ZSTD_LEVEL_WIRE };
        Self { effort, announced, trial: Packer::new(ZSTD_LEVEL_FAST), packer: Packer::new(level) }
    }

    /// From now on takes as much pains as `effort` asks.
    pub fn set_effort(&mut self, effort: Effort) {
        if self.effort != effort {
            *self = Self::new(effort, self.announced);
        }
    }

    /// From now on uses what `announced` allows.
    pub fn announce(&mut self, announced: Announced) {
        self.announced = announced;
    }

    /// The body of a batch message, or of a slab. Equal sections give equal bytes, whatever came before.
    #[must_use]
    pub fn encode(&mut self, sections: &[Section]) -> Vec<u8> {
        let mut small = Vec::new();
        let mut dense = Vec::new();
        let written = sections.iter().filter(|section| !matches!(section, Section::Refused(_)));
        put_uv(&mut small, written.clone().count() as u64);
        for section in written {
            let mut picker = Picker {
                packer: &mut self.trial,
                effort: self.effort,
                codecs: self.announced.codecs,
                rows: 0,
            };
            let Some(bytes) = encode_section(section, &mut picker, &mut self.packer) else { continue };
            put_uv(&mut small, bytes.small.len() as u64);
            put_uv(&mut small, bytes.dense.len() as u64);
            small.extend_from_slice(&bytes.small);
            dense.extend_from_slice(&bytes.dense);
        }
        self.framed(&small, &dense)
    }

    fn framed(&mut self, small: &[u8], dense: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(small.len().saturating_add(dense.len()).saturating_add(16));
        let worth = self.effort != Effort::Spool || small.len() >= ZSTD_SPOOL_BYTES_MIN;
        if let Some(frame) = worth.then(|| self.packer.pack(small)).flatten() {
            let block =
                bare_block(frame, small.len()).filter(|_| self.announced.packings >> ZSTD_BLOCK & 1 == 1);
            let packed = block.unwrap_or(frame);
            if packed.len().saturating_add(3) < small.len() {
                out.push(if block.is_some() { ZSTD_BLOCK } else { ZSTD });
                put_uv(&mut out, small.len() as u64);
                let to_the_end = block.is_some() && dense.is_empty();
                put_uv(&mut out, if to_the_end { 0 } else { packed.len() as u64 });
                out.extend_from_slice(packed);
                out.extend_from_slice(dense);
                return out;
            }
        }
        out.push(STORED);
        put_uv(&mut out, small.len() as u64);
        out.extend_from_slice(small);
        out.extend_from_slice(dense);
        out
    }
}

/// The body of a batch message for a reader like this version, or of a slab.
///
/// Makes an [`Encoder`] of its own: whoever makes many keeps one.
#[must_use]
pub fn encode_batch(sections: &[Section], effort: Effort) -> Vec<u8> {
    let announced = if effort == Effort::Spool { Announced::SPOOL } else { Announced::OURS };
    Encoder::new(effort, announced).encode(sections)
}

//! The small region in one zstd frame, with contexts that are made once.

use std::cell::RefCell;
use zstd::zstd_safe::{
    CCtx, CParameter, DCtx, compress_bound, find_frame_compressed_size, get_frame_content_size,
};

/// Magic number of zstd frames.
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Bytes before a block.
const BLOCK_HEADER: usize = 3;

/// A zstd context of one level, made at its first use, and the room it writes to.
pub(super) struct Packer {
    level: i32,
    context: Option<CCtx<'static>>,
    out: Vec<u8>,
}

impl std::fmt::Debug for Packer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packer").finish_non_exhaustive()
    }
}

impl Packer {
    pub(super) fn new(level: i32) -> Self {
        Self { level, context: None, out: Vec::new() }
    }

    /// One frame of `bytes`, or `None` if zstd could not. What was packed before does not matter.
    pub(super) fn pack(&mut self, bytes: &[u8]) -> Option<&[u8]> {
        let context = match &mut self.context {
            Some(context) => context,
            empty => empty.insert(context(self.level)?),
        };
        self.out.clear();
        self.out.reserve(compress_bound(bytes.len()));
        context.compress2(&mut self.out, bytes).ok()?;
        Some(&self.out)
    }

    pub(super) fn packed_len(&mut self, bytes: &[u8]) -> Option<usize> {
        self.pack(bytes).map(<[u8]>::len)
    }
}

fn context(level: i32) -> Option<CCtx<'static>> {
    let mut context = CCtx::try_create()?;
    context.set_parameter(CParameter::CompressionLevel(level)).ok()?;
    context.set_parameter(CParameter::ContentSizeFlag(true)).ok()?;
    context.set_parameter(CParameter::ChecksumFlag(false)).ok()?;
    Some(context)
}

/// The header zstd writes for a frame of known size that is its own window.
fn frame_header(raw_len: usize) -> Vec<u8> {
    let mut header = MAGIC.to_vec();
    let size = (raw_len as u64).to_le_bytes();
    match raw_len {
        0..256 => header.extend_from_slice(&[0x20, size[0]]),
        256..65_792 => {
            header.push(0x60);
            let less = (raw_len as u64).wrapping_sub(256).to_le_bytes();
            header.extend_from_slice(&less[..2]);
        }
        _ => {
            header.push(0xa0);
            header.extend_from_slice(&size[..4]);
        }
    }
    header
}

/// Header of a last compressed block.
fn block_header(len: usize) -> [u8; BLOCK_HEADER] {
    let [a, b, c, ..] = (len << 3 | 0b101).to_le_bytes();
    [a, b, c]
}

/// What is left of a frame without all that its size says: the content of its only block.
pub(super) fn bare_block(frame: &[u8], raw_len: usize) -> Option<&[u8]> {
    let rest = frame.strip_prefix(frame_header(raw_len).as_slice())?;
    let (header, block) = rest.split_first_chunk::<BLOCK_HEADER>()?;
    (*header == block_header(block.len()) && !block.is_empty()).then_some(block)
}

/// Unpacks the content of a block into exactly `raw_len` bytes.
pub(super) fn unpack_block(block: &[u8], raw_len: usize) -> Option<Vec<u8>> {
    if block.len() >= 1 << 21 {
        return None;
    }
    let mut frame = frame_header(raw_len);
    frame.extend_from_slice(&block_header(block.len()));
    frame.extend_from_slice(block);
    unpack(&frame, raw_len)
}

thread_local! {
    /// A context takes 100 KiB to make and is reset by each use.
    static CONTEXT: RefCell<Option<DCtx<'static>>> = const { RefCell::new(None) };
}

/// Unpacks one frame into exactly `raw_len` bytes.
pub(super) fn unpack(frame: &[u8], raw_len: usize) -> Option<Vec<u8>> {
    let one_frame = find_frame_compressed_size(frame).is_ok_and(|n| n == frame.len());
    if get_frame_content_size(frame).ok().flatten() != Some(raw_len as u64) || !one_frame {
        return None;
    }
    let mut out = Vec::with_capacity(raw_len);
    CONTEXT.with_borrow_mut(|context| {
        let context = match context {
            Some(context) => context,
            empty => empty.insert(DCtx::try_create()?),
        };
        // Never more than the capacity, which is `raw_len` or what the allocator rounds it up to.
        context.decompress(&mut out, frame).ok()
    })?;
    (out.len() == raw_len).then_some(out)
}

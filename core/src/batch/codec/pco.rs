//! Codec 15: pco, through its wrapped API with our own count of rows, bounded before it allocates.
//!
//! No input is known to make it panic; should one, it is a damaged column like any other.

use super::{CodecError, Source};
use crate::wire::primitives::put_uv;
use pco::data_types::Number;
use pco::metadata::{DeltaEncoding, Mode};
use pco::wrapped::{FileCompressor, FileDecompressor, guarantee};
use pco::{ChunkConfig, DeltaSpec, ModeSpec, PagingSpec};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Below this many rows the description of a chunk outweighs what it saves.
pub(super) const ROWS_MIN: usize = 16;
/// Major version of the format; older ones were never written by us.
const MAJOR: u8 = 4;
/// Low nibble after the version: a dictionary, whose claimed length pco allocates before it reads it.
const MODE_DICT: u8 = 4;
/// Widest look-back window an encoder picks (2^15 values).
const WINDOW_LOG_MAX: u32 = 15;

/// Appends the payload; `false` (and no change) if pco could not, or picked a form we refuse to read.
pub(super) fn encode<T: Number>(
    out: &mut Vec<u8>,
    values: &[T],
    level: usize,
    mode: ModeSpec,
    delta: DeltaSpec,
) -> bool {
    let start = out.len();
    let done = catch_unwind(AssertUnwindSafe(|| try_encode(out, values, level, mode, delta))).ok().flatten();
    if done.is_none() {
        out.truncate(start);
    }
    done.is_some()
}

fn try_encode<T: Number>(
    out: &mut Vec<u8>,
    values: &[T],
    level: usize,
    mode: ModeSpec,
    delta: DeltaSpec,
) -> Option<()> {
    let config = ChunkConfig::default()
        .with_compression_level(level)
        .with_mode_spec(mode)
        .with_delta_spec(delta)
        .with_paging_spec(PagingSpec::Exact(vec![values.len()]));
    let file = FileCompressor::default();
    let mut chunk = file.chunk_compressor(values, &config).ok()?;
    if matches!(chunk.meta().mode, Mode::Dict(_)) {
        return None;
    }
    file.write_header(&mut *out).ok()?;
    chunk.write_meta(&mut *out).ok()?;
    chunk.write_page(0, &mut *out).ok()?;
    Some(())
}

/// Appends the length a reader finds in the small region.
pub(super) fn put_len(small: &mut Vec<u8>, dense: &[u8]) {
    put_uv(small, dense.len() as u64);
}

/// Reads `rows` values: the length from the small region, the bytes from the dense one.
pub(super) fn decode<T: Number + Default>(
    source: &mut Source<'_>,
    rows: usize,
) -> Result<Vec<T>, CodecError> {
    let longest = guarantee::header_size().saturating_add(guarantee::chunk_size::<T::L>(rows));
    let length = source.small.len(source.dense.remaining().min(longest))?;
    let bytes = source.dense.take(length)?;
    let values = catch_unwind(|| read(bytes, rows)).ok().flatten();
    values.ok_or(CodecError::Pco { rows, bytes: length })
}

fn read<T: Number + Default>(bytes: &[u8], rows: usize) -> Option<Vec<T>> {
    let [major, _, mode, ..] = bytes else { return None };
    if *major != MAJOR || mode & 0x0f == MODE_DICT {
        return None;
    }
    let (file, rest) = FileDecompressor::new(bytes).ok()?;
    let (mut chunk, rest) = file.chunk_decompressor::<T, _>(rest).ok()?;
    if let DeltaEncoding::Lookback { config, .. } = &chunk.meta().delta_encoding
        && (config.window_n_log > WINDOW_LOG_MAX || config.state_n_log > config.window_n_log)
    {
        return None;
    }
    let mut values = vec![T::default(); rows];
    let mut page = chunk.page_decompressor(rest, rows).ok()?;
    let progress = page.read(&mut values).ok()?;
    (progress.n_processed == rows && progress.finished && page.into_src().is_empty()).then_some(values)
}

//! Codec 15: pco, through its wrapped API with our own count of rows, bounded before it allocates.
//!
//! No input is known to make it panic; should one, it is a damaged column like any other.

use super::{CodecError, Limits, Source};
use crate::wire::primitives::put_uv;
use pco::data_types::Number;
use pco::metadata::{ChunkMeta, DeltaEncoding, Mode};
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

/// Binary logarithm of pco's largest table.
const STATES_LOG_MAX: u32 = 14;

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
    let mut states = 0;
    let limit = source.pco_states_left;
    let read = catch_unwind(AssertUnwindSafe(|| read(bytes, rows, limit, &mut states))).ok().flatten();
    source.pco_states_left = limit.saturating_sub(states);
    if states > limit {
        return Err(CodecError::PcoTables { limit: Limits::V1.pco_states_max });
    }
    read.ok_or(CodecError::Pco { rows, bytes: length })
}

/// States of the tables that were built to read a chunk: how many of them a column asks for has nothing to
/// do with its rows or its bytes.
fn states(meta: &ChunkMeta) -> usize {
    let tables = &meta.per_latent_var;
    let each = [tables.delta.as_ref(), Some(&tables.primary), tables.secondary.as_ref()];
    each.into_iter().flatten().map(|table| 1_usize << table.ans_size_log.min(STATES_LOG_MAX)).sum()
}

/// `built` is set even where nothing is read; above `limit` the values are not looked at.
fn read<T: Number + Default>(bytes: &[u8], rows: usize, limit: usize, built: &mut usize) -> Option<Vec<T>> {
    let [major, _, mode, ..] = bytes else { return None };
    if limit == 0 {
        *built = 1;
        return None;
    }
    if *major != MAJOR || mode & 0x0f == MODE_DICT {
        return None;
    }
    let (file, rest) = FileDecompressor::new(bytes).ok()?;
    let (mut chunk, rest) = file.chunk_decompressor::<T, _>(rest).ok()?;
    *built = states(chunk.meta());
    if *built > limit {
        return None;
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::primitives::Reader;

    /// A column of `f32` in 27 bytes whose two bins ask for a table of 2^14 states.
    pub(super) fn greedy() -> Vec<u8> {
        let mut plain = Vec::new();
        assert!(encode(&mut plain, &[1.0_f32; 16], 4, ModeSpec::Classic, DeltaSpec::NoOp));
        let mut out = plain[..2].to_vec();
        let mut bits: Vec<bool> = Vec::new();
        let mut put = |value: u64, n: u32| bits.extend((0..n).map(|at| value >> at & 1 == 1));
        // Mode, delta encoding, size of the table, bins; each bin: weight − 1, lower bound, offset bits.
        [(0, 4), (0, 4), (14, 4), (2, 15)].iter().for_each(|(value, n)| put(*value, *n));
        [((1 << 14) - 2, 14), (7, 32), (0, 6), (0, 14), (9, 32), (0, 6)]
            .iter()
            .for_each(|(v, n)| put(*v, *n));
        while !bits.len().is_multiple_of(8) {
            bits.push(false);
        }
        bits.extend([false; 64]);
        out.extend(
            bits.chunks(8).map(|byte| byte.iter().rev().fold(0_u8, |all, bit| all << 1 | u8::from(*bit))),
        );
        out
    }

    #[test]
    fn tables_of_a_message_have_a_limit_of_their_own() {
        // 4096 columns of one row, 27 bytes each: what a table costs is in none of these numbers.
        let body = greedy();
        let mut small = Vec::new();
        put_len(&mut small, &body);
        let mut left = 3 << 14;
        for round in 0..5 {
            let mut source =
                Source { small: Reader::new(&small), dense: Reader::new(&body), pco_states_left: left };
            let read = decode::<f32>(&mut source, 1);
            assert_eq!(matches!(read, Err(CodecError::PcoTables { .. })), round >= 3, "{round}: {read:?}");
            assert!(read.is_ok() || round >= 3, "{read:?}");
            left = source.pco_states_left;
        }
        assert_eq!(left, 0);
    }
}

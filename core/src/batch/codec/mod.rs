//! How one column becomes bytes: tag and payload. One file per family of codecs, [`choose`] picks.

pub(super) mod bits;
pub(super) mod choose;
mod decimal;
mod dict;
mod floats;
mod ints;
mod keyed;
mod nullable;
mod pco;
mod ratio;
mod residual;
#[cfg(test)]
mod tests;
mod text;

use super::Limits;
use super::column::{Column, Values};
use crate::wire::primitives::{PrimitiveError, Reader};

/// Bitmap of the codecs this version decodes (bit n = codec n), announced in hello and ack.
pub const CODECS_SUPPORTED: u32 = 0xffff;
/// The codecs every reader of version 1 has; all that may be used before a peer's bitmap is heard.
pub const CODECS_BASELINE: u32 = 0b1_1000_1111;
/// What slabs on disk use: read back by the agent itself.
pub(super) const CODECS_SPOOL: u32 =
    CODECS_BASELINE | 1 << DECIMAL | 1 << DECIMAL_DELTA | 1 << DECIMAL_DELTA2 | 1 << PATCHED | 1 << RATIO;

pub(super) const CONST: u8 = 0;
pub(super) const PLAIN: u8 = 1;
pub(super) const DELTA: u8 = 2;
pub(super) const DELTA2: u8 = 3;
pub(super) const EQUAL_LENGTHS: u8 = 1;
pub(super) const LENGTHS: u8 = 2;
pub(super) const DECIMAL: u8 = 4;
pub(super) const DECIMAL_DELTA: u8 = 5;
pub(super) const DECIMAL_DELTA2: u8 = 6;
pub(super) const RAW: u8 = 7;
pub(super) const NULLABLE: u8 = 8;
pub(super) const KEYED: u8 = 9;
pub(super) const PLANES: u8 = 10;
pub(super) const PATCHED: u8 = 11;
pub(super) const DICT: u8 = 12;
pub(super) const RATIO: u8 = 13;
/// Integers: adaptive residuals; bytes and text: values that end in a zero byte.
pub(super) const RESIDUAL: u8 = 14;
pub(super) const TERMINATED: u8 = 14;
pub(super) const PCO: u8 = 15;

pub(super) const T_I64: u8 = 0;
pub(super) const T_F64: u8 = 1;
pub(super) const T_F32: u8 = 2;
pub(super) const T_BYTES: u8 = 3;
pub(super) const T_UTF8: u8 = 4;

/// A column that could not be decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The payload is malformed.
    #[error("column payload is malformed")]
    Primitive(#[from] PrimitiveError),
    /// A codec this version does not know.
    #[error("column uses unknown codec {codec} for type {physical}")]
    UnknownCodec {
        /// Type code.
        physical: u8,
        /// Codec code.
        codec: u8,
    },
    /// More rows than the payload can hold.
    #[error("column claims {claimed} rows but {held} bytes follow")]
    Rows {
        /// Claimed.
        claimed: usize,
        /// Bytes left.
        held: usize,
    },
    /// Valid rows and validity disagree.
    #[error("column says {claimed} valid rows, its validity says {found}")]
    Validity {
        /// Claimed.
        claimed: usize,
        /// Found.
        found: usize,
    },
    /// Decoded bytes and text would exceed the message's limit.
    #[error("column decodes to more than {limit} bytes")]
    DecodedBytes {
        /// Limit.
        limit: usize,
    },
    /// pco columns would make the decoder build more than the message's limit.
    #[error("pco tables of a message hold more than {limit} states")]
    PcoTables {
        /// Limit.
        limit: usize,
    },
    /// A pco payload is damaged, of a form we never write, or of another length than its rows.
    #[error("pco payload of {bytes} bytes does not hold {rows} rows")]
    Pco {
        /// Rows of the column.
        rows: usize,
        /// Bytes of the payload.
        bytes: usize,
    },
}

/// What a text or bytes value is counted with beside its bytes: a million values of one letter, which a few
/// hundred bytes can claim, take an allocator longer than their letters.
pub(super) const VALUE_BYTES_LEAST: usize = 48;

/// Bytes of text and byte values a message may still decode to.
#[derive(Debug)]
pub(crate) struct ByteBudget {
    left: usize,
    /// States of pco tables that may still be built.
    pub(crate) pco_states_left: usize,
    limits: Limits,
}

impl ByteBudget {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { left: limits.decoded_bytes_max, pco_states_left: limits.pco_states_max, limits }
    }

    /// Spends for `values` values of `bytes` bytes together.
    fn spend(&mut self, values: usize, bytes: usize) -> Result<(), CodecError> {
        self.left = self
            .left
            .checked_sub(values.saturating_mul(VALUE_BYTES_LEAST).saturating_add(bytes))
            .ok_or(CodecError::DecodedBytes { limit: self.limits.decoded_bytes_max })?;
        Ok(())
    }
}

/// The two regions a section's columns are read from.
#[derive(Debug)]
pub(super) struct Source<'a> {
    /// Tags and payloads, unpacked.
    pub(super) small: Reader<'a>,
    /// Payloads that pack no further: codecs 14 (integers) and 15.
    pub(super) dense: Reader<'a>,
    /// States of pco tables that may still be built for the message.
    pub(super) pco_states_left: usize,
}

/// The integer columns before one, which codec 9 may group by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Earlier<'a> {
    /// t, lat_lo, lat_hi.
    pub(super) stamps: [&'a [i64]; 3],
    /// The fields before it.
    pub(super) fields: &'a [Column],
}

impl<'a> Earlier<'a> {
    /// No column at all.
    pub(super) const NONE: Earlier<'static> = Earlier { stamps: [&[]; 3], fields: &[] };

    /// The column at `place`, if it is integers without nulls.
    fn get(&self, place: usize) -> Option<&'a [i64]> {
        match place.checked_sub(self.stamps.len()) {
            None => self.stamps.get(place).copied(),
            Some(field) => match self.fields.get(field) {
                Some(Column { values: Values::I64(values), valid: None }) => Some(values),
                _ => None,
            },
        }
    }

    fn len(&self) -> usize {
        self.stamps.len().saturating_add(self.fields.len())
    }
}

pub(super) fn type_code(values: &Values) -> u8 {
    match values {
        Values::I64(_) => T_I64,
        Values::F64(_) => T_F64,
        Values::F32(_) => T_F32,
        Values::Bytes(_) => T_BYTES,
        Values::Utf8(_) => T_UTF8,
    }
}

fn constant<T: PartialEq + Copy>(mut values: impl Iterator<Item = T>) -> Option<T> {
    let first = values.next()?;
    values.all(|x| x == first).then_some(first)
}

/// Each row takes at least `bytes_each` bytes, so a claim beyond the payload is refused unread.
fn require(reader: &Reader<'_>, rows: usize, bytes_each: usize) -> Result<(), CodecError> {
    let held = reader.remaining();
    if rows.saturating_mul(bytes_each) > held {
        return Err(CodecError::Rows { claimed: rows, held });
    }
    Ok(())
}

/// Reads one column of `rows` rows.
pub(super) fn decode_column(
    source: &mut Source<'_>,
    rows: usize,
    earlier: Earlier<'_>,
    budget: &mut ByteBudget,
) -> Result<Column, CodecError> {
    let tag = source.small.u8()?;
    let (physical, codec) = (tag >> 4, tag & 0x0f);
    source.pco_states_left = budget.pco_states_left;
    let column = match (physical, codec) {
        (_, NULLABLE) => nullable::decode(source, physical, rows, budget),
        (T_BYTES, KEYED) => keyed::decode(&mut source.small, rows, earlier, budget)
            .map(|values| Column { values: Values::Bytes(values), valid: None }),
        _ => {
            decode_values(source, physical, codec, rows, budget).map(|values| Column { values, valid: None })
        }
    };
    // A refused column has cost what it has cost.
    budget.pco_states_left = source.pco_states_left;
    column
}

/// The codecs a column is written with, outermost first; what cannot be read any more is left out.
pub(super) fn codec_chain(mut column: Reader<'_>, rows: usize) -> Vec<u8> {
    let mut chain = Vec::new();
    let Ok(tag) = column.u8() else { return chain };
    let mut codec = tag & 0x0f;
    chain.push(codec);
    // Nullable around patched around ratio around one of integers: no chain is longer.
    while chain.len() < 4
        && let Some(inner) = inner_codec(tag >> 4, codec, &mut column, rows)
    {
        codec = inner;
        chain.push(codec);
    }
    chain
}

fn inner_codec(physical: u8, codec: u8, column: &mut Reader<'_>, rows: usize) -> Option<u8> {
    let is_float = matches!(physical, T_F64 | T_F32);
    match codec {
        NULLABLE => nullable::skip_head(column, rows)?,
        PATCHED if is_float => {
            floats::skip_exceptions(column, if physical == T_F64 { 8 } else { 4 })?;
        }
        RATIO if is_float => drop(column.uv().ok()?),
        _ => return None,
    }
    column.u8().ok().map(|tag| tag & 0x0f)
}

/// What a codec is called in the format's tables.
#[must_use]
pub fn codec_name(physical: u8, codec: u8) -> Option<&'static str> {
    let is_float = matches!(physical, T_F64 | T_F32);
    let is_text = matches!(physical, T_BYTES | T_UTF8);
    Some(match codec {
        _ if physical > T_UTF8 => return None,
        CONST => "const",
        EQUAL_LENGTHS if is_text => "equal_lengths",
        LENGTHS if is_text => "lengths",
        PLAIN if physical == T_I64 => "plain",
        DELTA if physical == T_I64 => "delta",
        DELTA2 if physical == T_I64 => "delta2",
        DECIMAL if is_float => "decimal",
        DECIMAL_DELTA if is_float => "decimal_delta",
        DECIMAL_DELTA2 if is_float => "decimal_delta2",
        RAW if !is_text => "raw",
        NULLABLE => "nullable",
        KEYED if physical == T_BYTES => "keyed",
        PLANES if is_float => "planes",
        PATCHED if is_float => "patched",
        DICT if physical == T_I64 => "dict",
        RATIO if is_float => "ratio",
        RESIDUAL if physical == T_I64 => "residual",
        TERMINATED if is_text => "terminated",
        PCO if !is_text => "pco",
        _ => return None,
    })
}

/// What a type code is called.
#[must_use]
pub fn type_name(physical: u8) -> Option<&'static str> {
    ["i64", "f64", "f32", "bytes", "utf8"].get(usize::from(physical)).copied()
}

fn decode_values(
    source: &mut Source<'_>,
    physical: u8,
    codec: u8,
    rows: usize,
    budget: &mut ByteBudget,
) -> Result<Values, CodecError> {
    match physical {
        T_I64 => ints::decode(source, codec, rows).map(Values::I64),
        T_F64 => floats::decode(source, codec, rows).map(Values::F64),
        T_F32 => floats::decode(source, codec, rows).map(Values::F32),
        T_BYTES => text::decode(&mut source.small, physical, codec, rows, budget, |x| Ok(x.to_vec()))
            .map(Values::Bytes),
        T_UTF8 => text::decode(&mut source.small, physical, codec, rows, budget, |x| {
            std::str::from_utf8(x).map(str::to_owned).map_err(|_| PrimitiveError::Utf8)
        })
        .map(Values::Utf8),
        physical => Err(CodecError::UnknownCodec { physical, codec }),
    }
}

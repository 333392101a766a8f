//! Which codec a column gets: the one that will take the fewest bytes of the message.
//!
//! What a payload costs once the whole small region is packed cannot be known column by column. Short
//! ones are packed on trial, long ones judged by a piece from their middle; payloads of the dense
//! region cost what they are. The bytes depend on the rows, the effort and the announced codecs alone.

use super::{Earlier, PCO, floats, ints, keyed, nullable, pco, text};
use crate::batch::Effort;
use crate::batch::column::{Column, Values};
use crate::batch::pack::Packer;
use ::pco::data_types::Number;
use ::pco::{DeltaSpec, ModeSpec};

/// Up to this many rows a trial packing is allowed at any length.
pub(in crate::batch) const TRIAL_ROWS_MAX: usize = 256;
/// Above that, up to this many bytes, or a piece of that length.
const TRIAL_BYTES_MAX: usize = 4096;
/// Payloads this short cost what they are.
const FLAT_BYTES_MAX: usize = 96;
/// What zstd adds to a payload packed alone, and not to one among others.
const FRAME_BYTES: usize = 12;

/// A column written one way.
#[derive(Debug, Clone)]
pub(in crate::batch) struct Coded {
    pub(in crate::batch) codec: u8,
    /// Payload without the tag.
    pub(in crate::batch) small: Vec<u8>,
    /// Payload of the dense region.
    pub(in crate::batch) dense: Vec<u8>,
    /// Bytes of a message this is expected to take.
    pub(in crate::batch) cost: usize,
}

/// The best way without a dense payload, and the best with one if there is any.
#[derive(Debug, Clone, Default)]
pub(in crate::batch) struct Choice {
    pub(in crate::batch) small: Option<Coded>,
    pub(in crate::batch) mixed: Option<Coded>,
}

impl Choice {
    /// Expected bytes of the better way.
    pub(super) fn cost(&self) -> usize {
        let of = |coded: &Option<Coded>| coded.as_ref().map_or(usize::MAX, |coded| coded.cost);
        of(&self.small).min(of(&self.mixed))
    }

    /// True if the way with a dense payload is expected to take less.
    pub(in crate::batch) fn prefers_mixed(&self) -> bool {
        match (&self.small, &self.mixed) {
            (Some(small), Some(mixed)) => mixed.cost < small.cost,
            (small, _) => small.is_none(),
        }
    }

    /// The way asked for, or the other if there is but one.
    pub(in crate::batch) fn pick(&self, mixed: bool) -> Option<&Coded> {
        let (first, second) = if mixed { (&self.mixed, &self.small) } else { (&self.small, &self.mixed) };
        first.as_ref().or(second.as_ref())
    }
}

/// What is allowed, and the means to judge.
#[derive(Debug)]
pub(in crate::batch) struct Picker<'a> {
    pub(in crate::batch) packer: &'a mut Packer,
    pub(in crate::batch) effort: Effort,
    pub(in crate::batch) codecs: u32,
    pub(in crate::batch) rows: usize,
}

impl Picker<'_> {
    /// The ways to write `column`; `earlier` are the columns before it.
    pub(in crate::batch) fn column(&mut self, column: &Column, earlier: Earlier<'_>) -> Choice {
        if let Some(valid) = column.valid.as_ref().filter(|valid| valid.contains(&false)) {
            return nullable::choose(self, &column.values, valid);
        }
        let mut choice = self.values(&column.values);
        if let Values::Bytes(values) = &column.values
            && self.may(super::KEYED)
            && choice.small.as_ref().is_some_and(|small| small.codec != super::CONST)
        {
            let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
            keyed::consider(self, &mut choice, &values, earlier);
        }
        choice
    }

    /// The ways to write values that are all there.
    pub(super) fn values(&mut self, values: &Values) -> Choice {
        match values {
            Values::I64(v) => self.integers(v),
            Values::F64(v) => floats::choose(self, v),
            Values::F32(v) => floats::choose(self, v),
            Values::Bytes(v) => text::choose(self, &v.iter().map(Vec::as_slice).collect::<Vec<_>>()),
            Values::Utf8(v) => text::choose(self, &v.iter().map(String::as_bytes).collect::<Vec<_>>()),
        }
    }

    /// The ways to write integers.
    pub(in crate::batch) fn integers(&mut self, values: &[i64]) -> Choice {
        ints::choose(self, values, self.codecs)
    }

    pub(super) fn codecs(&self) -> u32 {
        self.codecs
    }

    pub(super) fn may(&self, codec: u8) -> bool {
        self.codecs >> codec & 1 == 1
    }

    pub(super) fn may_pco(&self, rows: usize) -> bool {
        self.may(PCO) && self.effort != Effort::Spool && rows >= pco::ROWS_MIN
    }

    /// True if plain length decides, without trial or statistics.
    pub(super) fn by_length(&self) -> bool {
        self.effort == Effort::Spool || self.codecs & !super::CODECS_BASELINE == 0
    }

    /// True if payloads of that length may be packed on trial.
    pub(super) fn may_try(&self, bytes: usize) -> bool {
        !self.by_length() && (self.rows <= TRIAL_ROWS_MAX || bytes <= TRIAL_BYTES_MAX)
    }

    /// Bytes of the message these are expected to take once packed.
    pub(super) fn cost(&mut self, bytes: &[u8]) -> usize {
        if self.by_length() || bytes.len() <= FLAT_BYTES_MAX {
            return bytes.len();
        }
        let whole = self.may_try(bytes.len());
        let from = (bytes.len() / 2).saturating_sub(TRIAL_BYTES_MAX / 2);
        let tried = bytes.get(from..from.saturating_add(TRIAL_BYTES_MAX)).filter(|_| !whole).unwrap_or(bytes);
        let packed = self.packer.packed_len(tried).unwrap_or(usize::MAX).saturating_sub(FRAME_BYTES);
        packed.min(tried.len()).saturating_mul(bytes.len()) / tried.len().max(1)
    }

    /// Bits the bytes take by their frequencies, each distinct one counted with a byte for its code.
    pub(super) fn entropy_bits(&self, bytes: &[u8]) -> u64 {
        let mut counts = [0_u32; 256];
        for byte in bytes {
            if let Some(count) = counts.get_mut(usize::from(*byte)) {
                *count = count.wrapping_add(1);
            }
        }
        let n = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let mut bits = 0_u64;
        for count in counts.iter().filter(|count| **count > 0) {
            bits = bits.wrapping_add(u64::from(*count).wrapping_mul((lg(n).wrapping_sub(lg(*count))).into()));
            bits = bits.wrapping_add(8 << LG_BITS);
        }
        bits >> LG_BITS
    }

    /// Keeps a payload of the small region if it is the best of its kind so far.
    pub(super) fn add_small(&mut self, choice: &mut Choice, codec: u8, small: Vec<u8>) {
        let cost = self.cost(&small);
        if choice.small.as_ref().is_none_or(|best| cost < best.cost) {
            choice.small = Some(Coded { codec, small, dense: Vec::new(), cost });
        }
    }

    /// Keeps a payload with bytes in the dense region likewise.
    pub(super) fn add_dense(&mut self, choice: &mut Choice, codec: u8, small: Vec<u8>, dense: Vec<u8>) {
        let cost = dense.len().saturating_add(small.len());
        if choice.mixed.as_ref().is_none_or(|best| cost < best.cost) {
            choice.mixed = Some(Coded { codec, small, dense, cost });
        }
    }

    /// Tries pco.
    pub(super) fn add_pco<T: Number>(
        &mut self,
        choice: &mut Choice,
        values: &[T],
        mode: ModeSpec,
        delta: DeltaSpec,
    ) {
        let mut dense = Vec::new();
        if pco::encode(&mut dense, values, self.effort.pco_level(), mode, delta) {
            let mut small = Vec::with_capacity(3);
            pco::put_len(&mut small, &dense);
            self.add_dense(choice, PCO, small, dense);
        }
    }
}

/// Fraction bits of [`lg`].
const LG_BITS: u32 = 8;

/// Binary logarithm in 1/256, by straight lines between powers of two.
fn lg(x: u32) -> u32 {
    let whole = x.max(1).ilog2();
    // The bits after the leading one.
    let aligned = x.max(1) << (31_u32.wrapping_sub(whole));
    (whole << LG_BITS) | (aligned << 1) >> (32 - LG_BITS)
}

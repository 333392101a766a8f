//! Recorded gaps, as far as the engine asks for them.

use crate::sample::Line;
use std::ops::Range;

/// Knows which seqs of a column's stream are recorded as missing.
pub trait Gaps {
    /// True if some seq in `seqs` of the column's stream, in the epoch of `line`, is recorded as missing. Asked only where seqs
    /// are not contiguous.
    fn any(&self, column: usize, line: &Line, seqs: Range<u64>) -> bool;
}

/// Nothing is recorded as missing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoGaps;

impl Gaps for NoGaps {
    fn any(&self, _column: usize, _line: &Line, _seqs: Range<u64>) -> bool {
        false
    }
}

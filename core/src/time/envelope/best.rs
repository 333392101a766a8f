//! The few smallest numbers of a window that slides along a list.

/// Most numbers kept: f + 1 for f = 2.
pub(super) const K: usize = super::super::cone::FALSE_MAX + 1;
/// Stands for "no number": larger than all, and still far from the end of the type when a slope is added.
pub(super) const NONE: i128 = i128::MAX / 4;

/// The up to [`K`] smallest numbers seen, ascending.
#[derive(Debug, Clone, Copy)]
pub(super) struct Best([i128; K]);

impl Best {
    const EMPTY: Best = Best([NONE; K]);

    fn add(&mut self, mut value: i128) {
        for kept in &mut self.0 {
            if value < *kept {
                std::mem::swap(kept, &mut value);
            }
        }
    }

    fn merged(mut self, other: &Best) -> Self {
        other.0.iter().for_each(|value| self.add(*value));
        self
    }

    /// All of them larger by `by`.
    pub(super) fn moved(self, by: i128) -> Self {
        Self(self.0.map(|value| if value == NONE { NONE } else { value + by }))
    }

    pub(super) fn least(&self) -> Option<i128> {
        Some(self.0[0]).filter(|value| *value != NONE)
    }
}

impl From<Best> for [i128; K] {
    fn from(best: Best) -> Self {
        best.0
    }
}

/// The `rank`-th smallest (from 1) of two ascending lists, the first raised by `rise`, the second by `fall`:
/// the least over i + j = rank of the larger of the i-th and the j-th.
#[inline]
pub(super) fn ranked(past: &[i128; K], rise: i128, future: &[i128; K], fall: i128, rank: usize) -> i128 {
    let (a, b) = (past.map(|value| value + rise), future.map(|value| value + fall));
    match rank {
        0 | 1 => a[0].min(b[0]),
        2 => a[0].max(b[0]).min(a[1]).min(b[1]),
        _ => a[0].max(b[1]).min(a[1].max(b[0])).min(a[2]).min(b[2]),
    }
}

/// The best of every window of `width` neighbours of a list.
#[derive(Debug)]
pub(super) struct Windows {
    values: usize,
    width: usize,
    /// Best from the start of the block up to and with a place.
    prefix: Vec<Best>,
    /// Best from a place to the end of its block.
    suffix: Vec<Best>,
}

impl Windows {
    pub(super) fn new(values: Vec<i128>, width: usize, rank: usize) -> Self {
        let width = width.max(1);
        let keep = |best: &Best| {
            let mut kept = *best;
            kept.0.iter_mut().skip(rank).for_each(|value| *value = NONE);
            kept
        };
        let (mut prefix, mut suffix) = (Vec::with_capacity(values.len()), vec![Best::EMPTY; values.len()]);
        let mut best = Best::EMPTY;
        for (place, value) in values.iter().enumerate() {
            if place % width == 0 {
                best = Best::EMPTY;
            }
            best.add(*value);
            prefix.push(keep(&best));
        }
        for (place, value) in values.iter().enumerate().rev() {
            if place + 1 == values.len() || (place + 1) % width == 0 {
                best = Best::EMPTY;
            }
            best.add(*value);
            suffix[place] = keep(&best);
        }
        Self { values: values.len(), width, prefix, suffix }
    }

    /// The best of the up to `width` numbers before place `end`.
    pub(super) fn ending(&self, end: usize) -> Best {
        self.between(end.saturating_sub(self.width), end.min(self.values))
    }

    /// The best of the up to `width` numbers from place `start` on.
    pub(super) fn starting(&self, start: usize) -> Best {
        self.between(start, start.saturating_add(self.width).min(self.values))
    }

    /// At most `width` neighbours lie in one block or in two.
    fn between(&self, from: usize, to: usize) -> Best {
        if from >= to {
            return Best::EMPTY;
        }
        let last = to - 1;
        if from.is_multiple_of(self.width) {
            return self.prefix[last];
        }
        if from / self.width == last / self.width {
            // Shorter than `width`, and not from the start of the list: it goes to the end of it.
            return self.suffix[from];
        }
        self.suffix[from].merged(&self.prefix[last])
    }
}

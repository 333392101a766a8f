//! The rules of alignment, row by row over all samples, in the plainest words there are.

mod matching;
mod spine;
mod values;
mod view;
mod window;

use crate::cell::{Cell, Cells};
use crate::world::{Sample, World};
use headwater_align::engine::{Gaps, LOOK_NS, flag};
use headwater_align::recipe::*;
use headwater_core::time::Grade;
use spine::spine;
use std::cmp::Ordering;

/// A row's instant: a sample, or a point of a grid.
#[derive(Debug, Clone)]
struct At {
    line: Option<usize>,
    event: i64,
    half: i64,
    ts: i64,
    err: i64,
}

/// All rows, and how many were dropped, passed over, of low grade and too wide.
pub(crate) fn rows(world: &World) -> (Vec<Cells>, [u64; 4]) {
    let mut counts = [0; 4];
    let mut out = Vec::new();
    for (at, mut cells) in spine(world, &mut counts) {
        let mut keeps = true;
        for place in 0..world.recipe.columns.len() {
            let view = View::new(world, place, &at);
            let found = view.column(&mut cells);
            keeps &= found || view.column.fallback != Fallback::Drop;
        }
        if keeps {
            out.push(cells);
        } else {
            counts[0] += 1;
        }
    }
    (out, counts)
}

/// Samples of a column as one row sees them.
struct View<'a> {
    world: &'a World,
    column: &'a Column,
    place: usize,
    at: &'a At,
    /// Candidates, shifted, in the order fed.
    samples: Vec<Sample>,
    /// What is no candidate for want of a value.
    skipped: Vec<Sample>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Far {
    dt: i64,
    sigma: i64,
}

#[derive(Debug, Clone, Copy)]
struct Found {
    lo: usize,
    hi: usize,
    w: f64,
    gap: i64,
    near: Far,
    n: i64,
}

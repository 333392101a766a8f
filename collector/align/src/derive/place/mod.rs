//! Where a row is, as keys: geohash, H3 cell, fence.

mod fence;

pub use fence::{contains, halfway};

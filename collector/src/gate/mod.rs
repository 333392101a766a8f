//! Gate: no aligned row is published without a passing verdict (G1).
//!
//! Pure checks over a window of aligned rows, each with a verdict and the numbers behind it. They judge `aligned.*` only:
//! raw rows were admitted before, and go on whatever is found here (R15).

mod rules;

pub use rules::{GATE_VERSION, Judged, Verdict, judge, worst};

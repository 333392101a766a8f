//! Where stretches of rows begin and end.

use super::Fix;
use crate::expr::Expr;

/// How rows are cut into episodes. Every rule that is given cuts.
#[derive(Debug, Clone, PartialEq)]
pub struct Episodes {
    /// Rows farther apart are of two episodes, ns, > 0.
    pub gap_ns: Option<i64>,
    /// A row where it becomes true begins an episode.
    pub begin: Option<Expr>,
    /// Rows where it is not true are of no episode.
    pub within: Option<Expr>,
    /// Trips between stays.
    pub trip: Option<Trip>,
    /// A longer one is cut, ns, > 0.
    pub duration_max_ns: Option<i64>,
    /// Shares of episodes by name, in file order; empty: no split column.
    pub splits: Vec<Split>,
    /// Mixed into the hash that chooses a split.
    pub salt: String,
}

/// Rows that stay within `radius_m` for `rest_ns` end a trip; the first that leaves begins the next.
#[derive(Debug, Clone, PartialEq)]
pub struct Trip {
    /// Where rows are.
    pub fix: Fix,
    /// Radius of a stay, m, > 0.
    pub radius_m: f64,
    /// How long a stay lasts at least, ns, > 0.
    pub rest_ns: i64,
}

/// A share of the episodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// Its name, such as `train`.
    pub name: String,
    /// Of 10 000; all of a recipe add up to it.
    pub share: u32,
}

/// What the shares of a recipe's splits add up to.
pub const SPLIT_SHARES: u32 = 10_000;

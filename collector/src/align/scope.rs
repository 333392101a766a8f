//! A part of history that is aligned by itself: the rows of one device or site within a stretch of time.
//!
//! Rows of two parts never depend on each other, so parts can be made beside each other and in any order, and give the rows
//! that the whole would (L2). Samples beyond the stretch are read as far as its rows reach.

use headwater_align::recipe::{Entity, Recipe};
use headwater_core::id::DeviceId;
use std::collections::BTreeSet;

/// Which rows are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// Of this device or site; of all without it.
    pub entity: Option<String>,
    /// With a time from here on, UTC µs.
    pub from_us: i64,
    /// Up to here, not included, UTC µs.
    pub to_us: i64,
}

impl Scope {
    /// All of a stretch of time.
    #[must_use]
    pub fn span((from_us, to_us): (i64, i64)) -> Self {
        Self { entity: None, from_us, to_us }
    }

    /// True if a row of that time, UTC ns, is made.
    #[must_use]
    pub fn holds(&self, ts_ns: i64) -> bool {
        (self.from_ns()..=self.last_ns()).contains(&ts_ns)
    }

    /// The first instant, UTC ns.
    #[must_use]
    pub fn from_ns(&self) -> i64 {
        self.from_us.saturating_mul(1_000)
    }

    /// The last instant, UTC ns.
    #[must_use]
    pub fn last_ns(&self) -> i64 {
        self.to_us.saturating_mul(1_000).saturating_sub(1)
    }

    /// The devices whose samples its rows may read; none if that is all.
    #[must_use]
    pub fn devices(&self, recipe: &Recipe) -> Option<BTreeSet<DeviceId>> {
        let entity = self.entity.as_ref()?;
        Some(match &recipe.entity {
            Entity::Device => entity.parse().into_iter().collect(),
            Entity::Site { sites } => sites.get(entity).into_iter().flatten().cloned().collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretch_holds_its_beginning_and_not_its_end() {
        let scope = Scope::span((1, 3));
        assert_eq!([999, 1_000, 2_999, 3_000].map(|ns| scope.holds(ns)), [false, true, true, false]);
        let all = Scope::span((i64::MIN, i64::MAX));
        assert!(all.holds(i64::MIN) && all.holds(0) && all.holds(i64::MAX - 1));
    }
}

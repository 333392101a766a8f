//! Learns a clock's frequency from what sources said of it.
//!
//! Of each stretch of time the observation of least width is kept (an exchange with a short round trip, a close pulse), and
//! the median of the slopes between those that lie far apart is taken (Theil 1950, Sen 1968): up to 29 % of them may lie.
//! Integers only, so that the result is the same everywhere and whatever the order of arrival.

use super::statement::Constraint;

/// Observations kept: their pairs cost 64²/2 divisions.
const BLOCKS: usize = 64;
/// Fewer observations teach nothing.
const OBSERVATIONS_MIN: usize = 16;
/// Nor does a shorter time, ns: 5 ms of noise over it are 1.4 ppm.
const SPAN_MIN_NS: i64 = 3_600_000_000_000;

/// A guess of U at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Observation {
    /// Local time, ns.
    pub at: i64,
    /// U there, ns.
    pub utc: i64,
    /// How far apart its bounds were, ns.
    pub width: i64,
}

impl Observation {
    /// The middle of a constraint that bounds U from both sides.
    #[must_use]
    pub fn of(constraint: &Constraint) -> Option<Self> {
        let claims = constraint.claims(0);
        let (upper, lower) = (claims.upper?.point, claims.lower?.point);
        let middle = |a: i64, b: i64| i64::midpoint(a, b);
        let width =
            upper.utc.0.saturating_sub(upper.at.0).saturating_sub(lower.utc.0.saturating_sub(lower.at.0));
        Some(Self { at: middle(upper.at.0, lower.at.0), utc: middle(upper.utc.0, lower.utc.0), width })
    }
}

/// The deviation of U's rate from 1 in ppb, within ± `rho_ppb`; none if the observations, sorted, are too few or too close.
#[must_use]
pub fn frequency_ppb(observations: &[Observation], rho_ppb: i64) -> Option<i64> {
    let (first, last) = (observations.first()?, observations.last()?);
    let span = last.at.saturating_sub(first.at);
    if observations.len() < OBSERVATIONS_MIN || span < SPAN_MIN_NS {
        return None;
    }
    let block = span / i64::try_from(BLOCKS).ok()? + 1;
    let mut kept: Vec<Observation> = Vec::with_capacity(BLOCKS);
    let mut current = None;
    for one in observations {
        let place = one.at.saturating_sub(first.at) / block;
        match kept.last_mut().filter(|_| current == Some(place)) {
            Some(best) if one.width < best.width => *best = *one,
            Some(_) => {}
            None => {
                kept.push(*one);
                current = Some(place);
            }
        }
    }
    let mut slopes = Vec::with_capacity(kept.len() * kept.len() / 2);
    for (place, a) in kept.iter().enumerate() {
        for b in kept.iter().skip(place + 1).filter(|b| b.at.saturating_sub(a.at) > span / 4) {
            let run = i128::from(b.at) - i128::from(a.at);
            let rise = i128::from(b.utc) - i128::from(a.utc) - run;
            slopes.push(super::clamp_i64((rise * 1_000_000_000).div_euclid(run)));
        }
    }
    let middle = slopes.len() / 2;
    (!slopes.is_empty())
        .then(|| *slopes.select_nth_unstable(middle).1)
        .map(|phi| phi.clamp(-rho_ppb, rho_ppb))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const S: i64 = 1_000_000_000;

    proptest! {
        #[test]
        fn the_frequency_is_found_among_noise_and_lies(
            ppb in -50_000_i64..=50_000, noise in proptest::collection::vec(-5_000_000_i64..5_000_000, 300), lies in proptest::collection::vec(0_usize..300, 0..15)
        ) {
            let mut observations: Vec<Observation> = noise.iter().zip(0_i64..).map(|(off, n)| {
                let at = n * 64 * S;
                Observation { at, utc: at + n * 64 * ppb + off, width: off.abs() * 2 + 40_000_000 }
            }).collect();
            for place in lies {
                observations[place].utc += 80_000_000;
            }
            let found = frequency_ppb(&observations, 50_000).unwrap();
            // 5 ms over a quarter of five hours are 1.1 ppm; the median is far better.
            prop_assert!((found - ppb).abs() < 700, "{found} for {ppb}");
        }
    }

    #[test]
    fn an_hour_is_needed() {
        let observations: Vec<Observation> =
            (0..50).map(|n| Observation { at: n * 64 * S, utc: n * 64 * S, width: 1 }).collect();
        assert_eq!(frequency_ppb(&observations, 50_000), None);
        assert_eq!(frequency_ppb(&[], 50_000), None);
    }
}

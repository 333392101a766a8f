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
/// Nor do fewer sharp ones.
const KEPT_MIN: usize = 8;
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

/// What was learned of a clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Learned {
    /// Deviation of U's rate from 1, ppb.
    pub phi_ppb: i64,
    /// By how much four of five slopes over a sixteenth of the time differ from it at most, ppb: temperature, wander and
    /// what noise is left.
    pub spread_ppb: i64,
    /// What a sharp observation may be off by, over the whole time, ppb.
    pub doubt_ppb: i64,
}

/// The frequency within ± `rho_ppb`; none if the observations, sorted, are too few or too close.
#[must_use]
pub fn learn(observations: &[Observation], rho_ppb: i64) -> Option<Learned> {
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
    // Round trips through a queue say next to nothing beside those that met none.
    let mut widths: Vec<i64> = kept.iter().map(|one| one.width).collect();
    let sharp = share_of(&mut widths, 200)?;
    kept.retain(|one| one.width <= sharp.saturating_mul(4));
    let doubt = (i128::from(sharp.max(0)) * 1_000_000_000).div_euclid(i128::from(span));
    if kept.len() < KEPT_MIN || doubt > i128::from(rho_ppb / 2) {
        return None;
    }
    let slope = |a: &Observation, b: &Observation| {
        let run = i128::from(b.at) - i128::from(a.at);
        let rise = i128::from(b.utc) - i128::from(a.utc) - run;
        super::clamp_i64((rise * 1_000_000_000).div_euclid(run.max(1)))
    };
    let mut slopes = Vec::with_capacity(kept.len() * kept.len() / 2);
    let mut near = Vec::with_capacity(kept.len());
    for (place, a) in kept.iter().enumerate() {
        let rest = kept.get(place + 1..).unwrap_or_default();
        let apart = |b: &&Observation, least: i64| b.at.saturating_sub(a.at) > least;
        slopes.extend(rest.iter().filter(|b| apart(b, span / 4)).map(|b| slope(a, b)));
        near.extend(rest.iter().find(|b| apart(b, span / 16)).map(|b| slope(a, b)));
    }
    let phi_ppb = share_of(&mut slopes, 500)?.clamp(-rho_ppb, rho_ppb);
    let mut spread: Vec<i64> =
        near.iter().map(|slope| slope.saturating_sub(phi_ppb).saturating_abs()).collect();
    let spread_ppb = share_of(&mut spread, 800)?;
    Some(Learned { phi_ppb, spread_ppb, doubt_ppb: super::clamp_i64(doubt) })
}

/// The value that `permille` of a thousand lie below.
fn share_of(values: &mut [i64], permille: usize) -> Option<i64> {
    let place = values.len() * permille / 1_000;
    (!values.is_empty()).then(|| *values.select_nth_unstable(place).1)
}

/// The rate that is left beside a learned frequency, ppb: at least `least`, twice the spread and the
/// doubt, and no more than was known before.
#[must_use]
pub fn residual_ppb(learned: Learned, least: i64, rho_ppb: i64) -> i64 {
    learned.spread_ppb.saturating_mul(2).max(learned.doubt_ppb).max(least).min(rho_ppb).max(1)
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
            let found = learn(&observations, 50_000).unwrap().phi_ppb;
            // 5 ms over a quarter of five hours are 1.1 ppm; the median is far better.
            prop_assert!((found - ppb).abs() < 700, "{found} for {ppb}");
        }
    }

    #[test]
    fn what_wanders_leaves_a_wide_residual() {
        let swing = |at: i64, ppm: i64| (at / S) * (at / S) / 86_400 * ppm * 1_000;
        let clock = |ppm: i64| -> Vec<Observation> {
            let at = |n: i64| n * 64 * S;
            (0..1_350).map(|n| Observation { at: at(n), utc: at(n) + swing(at(n), ppm), width: 1 }).collect()
        };
        // The rate grows by twice as many ppm over the day.
        let still = learn(&clock(0), 50_000).unwrap();
        assert_eq!((still.phi_ppb, residual_ppb(still, 8_000, 50_000)), (0, 8_000));
        let swinging = learn(&clock(15), 50_000).unwrap();
        assert!((14_000..16_000).contains(&swinging.phi_ppb), "{swinging:?}");
        assert!(residual_ppb(swinging, 8_000, 50_000) >= 15_000, "{swinging:?}");
    }

    #[test]
    fn an_hour_is_needed() {
        let observations: Vec<Observation> =
            (0..50).map(|n| Observation { at: n * 64 * S, utc: n * 64 * S, width: 1 }).collect();
        assert_eq!(learn(&observations, 50_000), None);
        assert_eq!(learn(&[], 50_000), None);
    }
}

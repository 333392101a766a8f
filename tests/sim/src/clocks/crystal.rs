//! The truth: how UTC passes along one boot's line.

use super::chance::{Chance, whole};
use crate::disk::Dice;
use headwater_core::time::NS_PER_S;

/// What kind of crystal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CrystalSpec {
    /// Deviation at room temperature, ppb.
    pub ppb: i64,
    /// Swing of a day's temperature, ppb to each side.
    pub daily_ppb: i64,
    /// Random wander stays within this, ppb to each side.
    pub wander_ppb: i64,
    /// Deviation that fades after power-on (time constant 10 min), ppb.
    pub warm_up_ppb: i64,
}

impl CrystalSpec {
    /// A Pi's: +23 ± 3 ppm over a day.
    pub const PI: CrystalSpec =
        CrystalSpec { ppb: 23_000, daily_ppb: 2_000, wander_ppb: 1_000, warm_up_ppb: 0 };

    /// Some crystal within a datasheet of ± 50 ppm, by chance.
    #[must_use]
    pub fn any(dice: &mut Dice) -> Self {
        Self {
            ppb: dice.between(-40_000, 40_000),
            daily_ppb: dice.between(0, 4_000),
            wander_ppb: dice.between(0, 3_000),
            warm_up_ppb: dice.between(-3_000, 3_000),
        }
    }
}

/// The rate changes this often, ns.
const STEP_NS: i64 = 10 * NS_PER_S;

/// UTC along one boot's line.
#[derive(Debug, Clone)]
pub struct Crystal {
    start_utc: i64,
    /// UTC − boot time − `start_utc` at every step, in 1e-9 ns.
    drift: Vec<i128>,
    /// Of the step before, ppb.
    rates: Vec<i64>,
}

impl Crystal {
    /// A crystal of a boot that begins at `start_utc` and is followed for `length_ns`.
    #[must_use]
    pub fn new(dice: &mut Dice, spec: CrystalSpec, start_utc: i64, length_ns: i64) -> Self {
        let steps = length_ns / STEP_NS + 2;
        let phase = dice.unit() * std::f64::consts::TAU;
        let (mut wander, mut sum) = (0.0, 0_i128);
        let (mut drift, mut rates) = (vec![0], Vec::new());
        let limit = spec.wander_ppb as f64;
        for step in 0..steps {
            let seconds = (step * STEP_NS / NS_PER_S) as f64;
            wander = (wander + dice.signed() * limit / 30.0).clamp(-limit, limit);
            let daily = spec.daily_ppb as f64 * (seconds * std::f64::consts::TAU / 86_400.0 + phase).sin();
            let warm = spec.warm_up_ppb as f64 * (-seconds / 600.0).exp();
            let rate = spec.ppb + whole(daily + warm + wander);
            sum += i128::from(rate) * i128::from(STEP_NS);
            drift.push(sum);
            rates.push(rate);
        }
        Self { start_utc, drift, rates }
    }

    /// UTC at boot time `b`, ns. Beyond what was followed the last rate goes on.
    #[must_use]
    pub fn utc(&self, b: i64) -> i64 {
        let step = usize::try_from(b.div_euclid(STEP_NS)).unwrap_or(0).min(self.rates.len() - 1);
        let from = i64::try_from(step).unwrap_or(0) * STEP_NS;
        let scaled = self.drift[step] + i128::from(self.rates[step]) * i128::from(b - from);
        self.start_utc + b + i64::try_from(scaled.div_euclid(1_000_000_000)).unwrap_or(0)
    }

    /// Boot time at UTC `utc`, ns: the inverse, to a nanosecond.
    #[must_use]
    pub fn boot(&self, utc: i64) -> i64 {
        let mut b = utc - self.start_utc;
        for _ in 0..4 {
            b += utc - self.utc(b);
        }
        b
    }

    /// Largest deviation it ever has, ppb.
    #[must_use]
    pub fn worst_ppb(&self) -> i64 {
        self.rates.iter().map(|rate| rate.abs()).max().unwrap_or(0)
    }
}

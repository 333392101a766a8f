//! Power of a signal within a band of frequencies.

mod fft;

use super::list::{items, mean, sum};
use super::numbers::canonical;
use super::{Band, Sampling, Taper};
use arrow_array::{Array, ArrayRef, Float64Array};
use fft::Fft;
use std::collections::BTreeMap;
use std::f64::consts::TAU;
use std::sync::Arc;

/// Samples whose distance differs from the mean one by more than this share of it are no even series.
const UNEVEN: f64 = 0.5;

/// The band's power of every row: the sum of the one-sided periodogram (scipy.signal.periodogram, detrend `constant`,
/// scaling `density`) over its lines in [lo, hi), times their distance. Over all lines, without a taper, it is the variance
/// of the list (n, not n - 1).
///
/// Null where the list is null, has fewer than two items, holds a null or a number that is not finite, or where its times
/// are not even: a sample is missing, and the transform would not know.
pub(super) fn power(band: &Band, column: &ArrayRef, times: Option<&ArrayRef>) -> ArrayRef {
    let times = times.map(items);
    let mut plans: BTreeMap<usize, Plan> = BTreeMap::new();
    let row = |(row, list): (usize, Option<Float64Array>)| {
        let values = dense(list.as_ref())?;
        let rate_hz = match (&band.sampling, &times) {
            (Sampling::Rate(rate_hz), _) => *rate_hz,
            (Sampling::Times(_), times) => rate(&dense(times.as_ref()?.get(row)?.as_ref())?, values.len())?,
        };
        let plan = plans.entry(values.len()).or_insert_with(|| Plan::new(values.len(), band.taper));
        Some(canonical(plan.power(&values, rate_hz, (band.lo_hz, band.hi_hz))))
    };
    Arc::new(items(column).into_iter().enumerate().map(row).collect::<Float64Array>())
}

/// At least two numbers, all there.
fn dense(list: Option<&Float64Array>) -> Option<Vec<f64>> {
    let list = list.filter(|list| list.null_count() == 0 && list.len() >= 2)?;
    let values = list.values().to_vec();
    values.iter().all(|x| x.is_finite()).then_some(values)
}

/// Samples a second of even times in ns.
#[expect(clippy::cast_precision_loss, reason = "items of a list")]
fn rate(times: &[f64], n: usize) -> Option<f64> {
    if times.len() != n {
        return None;
    }
    let apart = (times.last()? - times.first()?) / (n - 1) as f64;
    let is_even = |two: &[f64]| match two {
        [a, b] => ((b - a) - apart).abs() <= UNEVEN * apart,
        _ => false,
    };
    (apart > 0.0 && times.windows(2).all(is_even)).then_some(1e9 / apart)
}

/// What lists of one length need.
struct Plan {
    fft: Fft,
    weights: Vec<f64>,
    energy: f64,
}

impl Plan {
    #[expect(clippy::cast_precision_loss, reason = "items of a list")]
    fn new(n: usize, taper: Taper) -> Self {
        let weight = |k: usize| match taper {
            Taper::None => 1.0,
            Taper::Hann => 0.5 - 0.5 * libm::cos(TAU * (k as f64 / n as f64)),
        };
        let weights: Vec<f64> = (0..n).map(weight).collect();
        let energy = sum(weights.iter().map(|w| w * w));
        Self { fft: Fft::new(n), weights, energy }
    }

    #[expect(clippy::cast_precision_loss, reason = "items of a list")]
    fn power(&self, values: &[f64], rate_hz: f64, (lo_hz, hi_hz): (f64, f64)) -> f64 {
        let n = values.len();
        let middle = mean(values);
        let tapered: Vec<f64> = values.iter().zip(&self.weights).map(|(x, w)| (x - middle) * w).collect();
        let lines = self.fft.transform(&tapered);
        let line_hz = rate_hz / n as f64;
        let inside = lines.iter().enumerate().take(n / 2 + 1).filter(|(k, _)| {
            let hz = *k as f64 * line_hz;
            hz >= lo_hz && hz < hi_hz
        });
        let densities = inside.map(|(k, line)| {
            // A line and its mirror image; the mean and, of an even length, the last have none.
            let sides = if k == 0 || 2 * k == n { 1.0 } else { 2.0 };
            sides * line.norm()
        });
        sum(densities) / (self.energy * n as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::derive::reference::{agree, floats, section};
    use arrow_array::ListArray;
    use arrow_array::cast::AsArray;
    use arrow_array::types::{Float64Type, Int64Type};

    fn list(rows: Vec<Option<Vec<Option<f64>>>>) -> ArrayRef {
        Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>(rows))
    }

    fn band(sampling: Sampling, lo_hz: f64, hi_hz: f64, taper: Taper) -> Band {
        Band { column: "x".to_owned(), sampling, lo_hz, hi_hz, taper }
    }

    fn values(array: &ArrayRef) -> Vec<Option<f64>> {
        array.as_primitive::<Float64Type>().iter().collect()
    }

    #[test]
    fn power_is_scipys() {
        for case in section("bands").as_array().unwrap() {
            let column = list(vec![Some(floats(&case["values"]))]);
            let n = case["values"].as_array().unwrap().len();
            for of in case["bands"].as_array().unwrap().iter().filter(|_| n > 1) {
                let taper = if of["taper"] == "hann" { Taper::Hann } else { Taper::None };
                let number = |value: &serde_json::Value| value.as_f64().unwrap();
                let band =
                    band(Sampling::Rate(number(&case["rate"])), number(&of["lo"]), number(&of["hi"]), taper);
                let found = values(&power(&band, &column, None))[0];
                assert!(agree(found, of["power"].as_f64(), 1e-12), "{n} {of}: {found:?}");
            }
        }
    }

    #[test]
    fn all_lines_together_are_the_variance() {
        let x = [3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0];
        let middle = mean(&x);
        let variance = x.iter().map(|x| (x - middle) * (x - middle)).sum::<f64>() / 7.0;
        let column = list(vec![Some(x.iter().map(|x| Some(*x)).collect())]);
        let found = values(&power(&band(Sampling::Rate(1.0), 0.0, 9.0, Taper::None), &column, None));
        assert!(agree(found[0], Some(variance), 1e-15));
    }

    #[test]
    fn what_is_no_even_series_is_null() {
        let column = list(vec![
            Some(vec![Some(1.0), Some(2.0), Some(4.0)]),
            Some(vec![Some(1.0), None, Some(4.0)]),
            Some(vec![Some(1.0), Some(f64::NAN), Some(4.0)]),
            Some(vec![Some(1.0)]),
            Some(vec![]),
            None,
            Some(vec![Some(1.0), Some(2.0), Some(4.0)]),
            Some(vec![Some(1.0), Some(2.0), Some(4.0)]),
            Some(vec![Some(1.0), Some(2.0), Some(4.0)]),
        ]);
        let even = || Some(vec![Some(-10_000_000), Some(0), Some(10_000_000)]);
        let times: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(vec![
            even(),
            even(),
            even(),
            Some(vec![Some(0)]),
            Some(vec![]),
            None,
            // One is missing; too few; all at once.
            Some(vec![Some(0), Some(10), Some(100)]),
            Some(vec![Some(0), Some(10)]),
            Some(vec![Some(0), Some(0), Some(0)]),
        ]));
        let timed = band(Sampling::Times("t".to_owned()), 0.0, 60.0, Taper::None);
        let found = values(&power(&timed, &column, Some(&times)));
        let rated = values(&power(&band(Sampling::Rate(100.0), 0.0, 60.0, Taper::None), &column, None));
        assert!(found[0].is_some() && found[0] == rated[0]);
        assert_eq!(found[1..], [None; 8]);
        assert_eq!(rated[1..6], [None; 5]);
    }
}

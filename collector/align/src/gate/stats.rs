//! Statistics of rules. Sums in the order of rows, with Neumaier's compensation, so that they are the same everywhere.

use arrow_array::{Array, Float64Array};

/// Neumaier, Z. angew. Math. Mech. 54 (1974).
pub(super) fn sum(values: &[f64]) -> f64 {
    let (mut sum, mut lost) = (0.0_f64, 0.0_f64);
    for &value in values {
        let next = sum + value;
        lost += if sum.abs() >= value.abs() { (sum - next) + value } else { (value - next) + sum };
        sum = next;
    }
    // An infinite sum has lost nothing that can be told.
    if sum.is_finite() { sum + lost } else { sum }
}

pub(super) fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| sum(values) / values.len() as f64)
}

/// The least; NaN if there is one: no bound is met by what is no number.
pub(super) fn min(values: &[f64]) -> Option<f64> {
    values.iter().copied().reduce(|a, b| if a.is_nan() || b.is_nan() { f64::NAN } else { a.min(b) })
}

/// The greatest; NaN if there is one.
pub(super) fn max(values: &[f64]) -> Option<f64> {
    values.iter().copied().reduce(|a, b| if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) })
}

/// Sample standard deviation (n - 1); none below two.
pub(super) fn std(values: &[f64]) -> Option<f64> {
    let middle = mean(values)?;
    let squares: Vec<f64> = values.iter().map(|value| (value - middle) * (value - middle)).collect();
    (values.len() > 1).then(|| (sum(&squares) / (values.len() - 1) as f64).sqrt())
}

/// Of an even number the mean of the two in the middle.
pub(super) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    let upper = values.get(half).copied()?;
    Some(if values.len() % 2 == 1 { upper } else { (values.get(half.checked_sub(1)?)? + upper) / 2.0 })
}

/// Pearson's, over rows where both are there; none if one of them does not vary, NaN with a value that is none.
pub(super) fn correlation(a: &Float64Array, b: &Float64Array) -> Option<f64> {
    let both = (0..a.len().min(b.len())).filter(|&row| a.is_valid(row) && b.is_valid(row));
    let (x, y): (Vec<f64>, Vec<f64>) = both.map(|row| (a.value(row), b.value(row))).unzip();
    let (mean_x, mean_y) = (mean(&x)?, mean(&y)?);
    let of = |terms: &mut dyn Iterator<Item = f64>| sum(&terms.collect::<Vec<f64>>());
    let xy = of(&mut x.iter().zip(&y).map(|(x, y)| (x - mean_x) * (y - mean_y)));
    let xx = of(&mut x.iter().map(|x| (x - mean_x) * (x - mean_x)));
    let yy = of(&mut y.iter().map(|y| (y - mean_y) * (y - mean_y)));
    (xx != 0.0 && yy != 0.0).then(|| xy / (xx.sqrt() * yy.sqrt()))
}

/// Bins of [`psi`].
const BINS: usize = 10;
/// Share that an empty bin counts as: log of zero is no number.
const SHARE_MIN: f64 = 1e-4;

/// Population stability index: Σ (p - q) ln(p / q) over ten bins of equal share of the reference (Lewis, An Introduction to
/// Credit Scoring, 1994). Below 0.1 alike, above 0.25 shifted, by custom.
pub(super) fn psi(reference: &[f64], found: &[f64]) -> Option<f64> {
    if reference.is_empty() || found.is_empty() {
        return None;
    }
    let mut sorted = reference.to_vec();
    sorted.sort_by(f64::total_cmp);
    let mut edges: Vec<f64> =
        (1..BINS).filter_map(|bin| sorted.get(bin * sorted.len() / BINS).copied()).collect();
    // Values that are often alike make fewer bins.
    edges.dedup();
    let shares = |values: &[f64]| {
        let mut counts = vec![0_usize; edges.len() + 1];
        for value in values {
            if let Some(count) = counts.get_mut(edges.partition_point(|edge| edge <= value)) {
                *count += 1;
            }
        }
        counts
            .into_iter()
            .map(|count| (count as f64 / values.len() as f64).max(SHARE_MIN))
            .collect::<Vec<f64>>()
    };
    let terms: Vec<f64> =
        shares(reference).iter().zip(shares(found)).map(|(q, p)| (p - q) * (p / q).ln()).collect();
    Some(sum(&terms))
}

/// The two-sample Kolmogorov-Smirnov statistic: sup |F(x) - G(x)|.
pub(super) fn ks(reference: &[f64], found: &[f64]) -> Option<f64> {
    if reference.is_empty() || found.is_empty() {
        return None;
    }
    let (mut a, mut b) = (reference.to_vec(), found.to_vec());
    a.sort_by(f64::total_cmp);
    b.sort_by(f64::total_cmp);
    let (mut i, mut j, mut most) = (0_usize, 0_usize, 0.0_f64);
    while let (Some(&x), Some(&y)) = (a.get(i), b.get(j)) {
        let at = if x.total_cmp(&y).is_le() { x } else { y };
        i += a.iter().skip(i).take_while(|value| value.total_cmp(&at).is_le()).count();
        j += b.iter().skip(j).take_while(|value| value.total_cmp(&at).is_le()).count();
        most = most.max((i as f64 / a.len() as f64 - j as f64 / b.len() as f64).abs());
    }
    Some(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: Option<f64>, wanted: f64) {
        assert!(found.is_some_and(|found| (found - wanted).abs() < 1e-12), "{found:?} is not {wanted}");
    }

    #[test]
    fn small_cases_by_hand() {
        near(Some(sum(&[1e16, 1.0, -1e16])), 1.0);
        near(mean(&[1.0, 2.0]), 1.5);
        near(std(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]), (32.0_f64 / 7.0).sqrt());
        near(median(vec![3.0, 1.0, 2.0]), 2.0);
        near(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!((mean(&[]), std(&[1.0]), median(Vec::new())), (None, None, None));
        assert_eq!((min(&[2.0, -1.0]), max(&[2.0, -1.0]), min(&[])), (Some(-1.0), Some(2.0), None));
        for at in 0..3 {
            let mut values = [1.0, 2.0, 3.0];
            values[at] = f64::NAN;
            let odd = correlation(&values.to_vec().into(), &vec![1.0, 2.0, 4.0].into());
            for found in [min(&values), max(&values), mean(&values), std(&values), odd] {
                assert!(found.unwrap().is_nan(), "no bound is met by what is no number");
            }
        }
        near(correlation(&vec![1.0, 2.0, 3.0].into(), &vec![-2.0, -4.0, -6.0].into()), -1.0);
        assert_eq!(correlation(&vec![1.0, 1.0].into(), &vec![1.0, 2.0].into()), None);
    }

    #[test]
    fn distances_of_distributions() {
        let ramp: Vec<f64> = (0..100).map(f64::from).collect();
        near(psi(&ramp, &ramp), 0.0);
        near(ks(&ramp, &ramp), 0.0);
        let shifted: Vec<f64> = ramp.iter().map(|x| x + 50.0).collect();
        near(ks(&ramp, &shifted), 0.5);
        near(ks(&[1.0, 2.0], &[3.0]), 1.0);
        // scipy.stats.ks_2samp([1, 2, 3, 4], [2.5, 3.5, 5, 6]).statistic
        near(ks(&[1.0, 2.0, 3.0, 4.0], &[2.5, 3.5, 5.0, 6.0]), 0.5);
        assert!(psi(&ramp, &shifted).is_some_and(|psi| psi > 1.0));
        // Half of it below the middle, half above: (0.9 - 0.5) ln(0.9 / 0.5) - (0.1 - 0.5) … over two values.
        let (two, skewed) = ([vec![0.0; 5], vec![1.0; 5]].concat(), [vec![0.0; 9], vec![1.0; 1]].concat());
        near(psi(&two, &skewed), 0.4 * (0.9_f64 / 0.5).ln() - 0.4 * (0.1_f64 / 0.5).ln());
        assert_eq!((psi(&[], &ramp), ks(&ramp, &[])), (None, None));
    }
}

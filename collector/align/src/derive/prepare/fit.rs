//! Least squares by polynomials, at any times.

/// The value at `at` of the polynomial of `order` that fits best; `None` if fewer distinct times than its coefficients.
///
/// By polynomials orthogonal over the times (Forsythe 1957, "Generation and use of orthogonal polynomials for data-fitting
/// with a digital computer", J. SIAM 5:74-88): no normal equations, so high orders keep their digits. Even times give
/// Savitzky and Golay's coefficients (1964); uneven ones, as of a real sensor, the fit itself.
pub(super) fn polynomial_at(times: &[i64], values: &[f64], order: usize, at: i64) -> Option<f64> {
    let distinct = times.chunk_by(|a, b| a == b).count();
    if distinct <= order {
        return None;
    }
    let places = scaled(times, at);
    // P(k-1), P(k) over the times and at 0, where `at` lies.
    let mut before = vec![0.0; places.len()];
    let mut now = vec![1.0; places.len()];
    let (mut before_at, mut now_at) = (0.0, 1.0);
    let (mut norm_before, mut fitted) = (1.0, 0.0);
    for k in 0..=order {
        let norm = sum(now.iter().map(|p| p * p));
        let weight = sum(now.iter().zip(values).map(|(p, y)| p * y)) / norm;
        fitted += weight * now_at;
        if k == order {
            break;
        }
        let alpha = sum(now.iter().zip(&places).map(|(p, x)| x * p * p)) / norm;
        let beta = if k == 0 { 0.0 } else { norm / norm_before };
        let next =
            now.iter().zip(&before).zip(&places).map(|((p, q), x)| (x - alpha) * p - beta * q).collect();
        let next_at = (0.0 - alpha) * now_at - beta * before_at;
        (before, now) = (now, next);
        (before_at, now_at) = (now_at, next_at);
        norm_before = norm;
    }
    Some(fitted)
}

fn sum(terms: impl Iterator<Item = f64>) -> f64 {
    terms.fold(0.0, |sum, term| sum + term)
}

/// Times as distances from `at` in the largest of them, within [-1, 1].
#[expect(clippy::cast_precision_loss, reason = "times of one run, far below 2^53 ns apart")]
fn scaled(times: &[i64], at: i64) -> Vec<f64> {
    let apart: Vec<i64> = times.iter().map(|time| time.saturating_sub(at)).collect();
    let largest = apart.iter().map(|ns| ns.saturating_abs()).max().unwrap_or(0).max(1);
    apart.into_iter().map(|ns| ns as f64 / largest as f64).collect()
}

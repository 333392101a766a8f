//! Floats that are integers over a power of ten: which power, and what does not fit it.

use super::floats::Real;
use super::ratio::{Lowered, lower, sample};

/// Powers of ten by place.
pub(super) const POWERS: [u32; 9] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];

/// The place of a power of ten, if it is one of the nine.
pub(super) fn place(divisor: u32) -> Option<u8> {
    POWERS.iter().zip(0_u8..).find(|(power, _)| **power == divisor).map(|(_, place)| place)
}

/// The smallest place at which all values are decimals; else the one with the fewest exceptions, if
/// those are few. Exact: each integer reads back to the bits it came from.
pub(super) fn find<T: Real>(values: &[T], exceptions_max: usize) -> Option<Lowered> {
    let probes = sample(values);
    let mut fallback: Option<Lowered> = None;
    for divisor in POWERS.iter().take(T::DECIMALS) {
        let mut misses = probes.iter().filter(|x| T::over(**x, f64::from(*divisor)).is_none());
        if misses.nth(probes.len() / 8).is_some() {
            continue;
        }
        let Some(found) = lower(values, *divisor, exceptions_max) else { continue };
        let exact = found.strays == 0;
        if fallback.as_ref().is_none_or(|best| found.exceptions.len() < best.exceptions.len()) {
            fallback = Some(found);
        }
        if exact {
            break;
        }
    }
    fallback
}

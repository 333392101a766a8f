//! Two-pointer kernels over sorted integers: where an instant falls among the keys of a lane.

/// No row.
pub(super) const NONE: u32 = u32::MAX;
/// Samples of one stream held at once; a row index is 32 bits, one value of which says *none*.
pub(super) const ROWS_MAX: usize = 1 << 31;

/// Steps a cursor walks before it leaps.
const WALK: usize = 8;

/// A row index; what is held is bounded by [`ROWS_MAX`].
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "what is held is bounded by ROWS_MAX")]
pub(super) fn row(place: usize) -> u32 {
    debug_assert!(place <= ROWS_MAX, "{place} rows are held");
    place as u32
}

/// Number of keys that lie before `t`: `< t`, or with `UPPER` `<= t`. `from` is a guess, such as the answer for the
/// instant before; any guess gives the same answer, a near one at once.
#[inline]
pub(super) fn seek<const UPPER: bool>(keys: &[i64], t: i64, from: usize) -> usize {
    let before = |key: i64| if UPPER { key <= t } else { key < t };
    let mut place = from.min(keys.len());
    if place > 0 && !before(keys[place - 1]) {
        return leap_back::<UPPER>(keys, t, place);
    }
    for _ in 0..WALK {
        match keys.get(place) {
            Some(key) if before(*key) => place += 1,
            _ => return place,
        }
    }
    leap::<UPPER>(keys, t, place)
}

#[cold]
fn leap<const UPPER: bool>(keys: &[i64], t: i64, from: usize) -> usize {
    let before = |key: &i64| if UPPER { *key <= t } else { *key < t };
    let mut step = WALK;
    while keys.get(from + step).is_some_and(before) {
        step *= 2;
    }
    let end = keys.len().min(from + step);
    from + keys[from..end].partition_point(before)
}

#[cold]
fn leap_back<const UPPER: bool>(keys: &[i64], t: i64, from: usize) -> usize {
    let before = |key: &i64| if UPPER { *key <= t } else { *key < t };
    let mut step = WALK;
    while step < from && !before(&keys[from - step]) {
        step *= 2;
    }
    let start = from.saturating_sub(step);
    start + keys[start..from].partition_point(before)
}

/// First place of the keys equal to the one at `place`.
#[inline]
pub(super) fn group_start(keys: &[i64], place: usize) -> usize {
    let key = keys[place];
    if place == 0 || keys[place - 1] != key {
        return place;
    }
    leap_back::<false>(keys, key, place)
}

/// Last place of the keys equal to the one at `place`.
#[inline]
pub(super) fn group_end(keys: &[i64], place: usize) -> usize {
    let key = keys[place];
    if keys.get(place + 1) != Some(&key) {
        return place;
    }
    leap::<true>(keys, key, place) - 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        #[test]
        fn any_guess_finds_the_place(
            mut keys in prop::collection::vec(-40_i64..40, 0..120), t in -45_i64..45, from in 0_usize..130
        ) {
            keys.sort_unstable();
            let below = keys.iter().filter(|key| **key < t).count();
            let up_to = keys.iter().filter(|key| **key <= t).count();
            prop_assert_eq!(seek::<false>(&keys, t, from), below);
            prop_assert_eq!(seek::<true>(&keys, t, from), up_to);
            for place in 0..keys.len() {
                let equal = |key: &&i64| **key == keys[place];
                let first = keys.iter().take_while(|key| !equal(key)).count();
                prop_assert_eq!(group_start(&keys, place), first);
                prop_assert_eq!(group_end(&keys, place), first + keys.iter().filter(equal).count() - 1);
            }
        }
    }
}

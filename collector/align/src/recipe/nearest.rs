//! The known name that somebody who wrote another one may have meant.

/// Names at most this far from what was written are offered.
const SLIPS_MAX: usize = 3;

/// `; did you mean "x"?` for the nearest of `known`, or nothing.
#[must_use]
pub fn hint<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(written, known).map(|name| format!("; did you mean {name:?}?")).unwrap_or_default()
}

/// The nearest of `known`, if it is within a third of the name's length and [`SLIPS_MAX`] slips.
#[must_use]
pub fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let within = (written.chars().count().max(3) / 3).min(SLIPS_MAX);
    let close = known.into_iter().map(|name| (slips(written, name), name));
    close.filter(|(slips, _)| *slips <= within).min().map(|(_, name)| name)
}

/// Letters put in, left out, exchanged, or swapped with their neighbour (optimal string alignment distance).
fn slips(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(128).collect(), b.chars().take(128).collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let above = |up: usize, left: usize| {
                rows.get((i + 1).wrapping_sub(up))
                    .and_then(|row| row.get((j + 1).wrapping_sub(left)))
                    .copied()
            };
            let left = row.last().copied().unwrap_or(usize::MAX - 1) + 1;
            let mut best = left
                .min(above(1, 0).unwrap_or(usize::MAX - 1) + 1)
                .min(above(1, 1).unwrap_or(usize::MAX - 1) + usize::from(x != y));
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x);
            if let Some(before) = above(2, 2).filter(|_| swapped) {
                best = best.min(before + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows.last().and_then(|row| row.last()).copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_counted() {
        for (a, b, n) in [
            ("", "", 0),
            ("", "abc", 3),
            ("tolerance", "tolerence", 1),
            ("fro", "for", 1),
            ("stream", "steram", 1),
            ("kitten", "sitting", 3),
            ("max_gap", "maxgap", 1),
        ] {
            assert_eq!((slips(a, b), slips(b, a)), (n, n), "{a} {b}");
        }
    }

    #[test]
    fn only_what_is_near_is_offered() {
        let known = ["tolerance", "max_gap", "method", "unit"];
        assert_eq!(nearest("tolerence", known), Some("tolerance"));
        assert_eq!(nearest("units", known), Some("unit"));
        assert_eq!(nearest("colour", known), None);
        assert_eq!(hint("maxgap", known), "; did you mean \"max_gap\"?");
        assert_eq!(hint("x", known), "");
    }
}

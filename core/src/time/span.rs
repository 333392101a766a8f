//! An interval of UTC that may be open on either side, and how several sources' intervals become one.

/// U lies in [lo, hi], ns. `i64::MIN` and `i64::MAX` mean that nothing is known on that side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Span {
    /// Not earlier than this.
    pub lo: i64,
    /// Not later than this.
    pub hi: i64,
}

impl Span {
    /// Nothing is known.
    pub const OPEN: Span = Span { lo: i64::MIN, hi: i64::MAX };

    /// True if both sides are known.
    #[must_use]
    pub fn is_closed(self) -> bool {
        self.lo != i64::MIN && self.hi != i64::MAX
    }

    /// True if the sides contradict each other.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.lo > self.hi
    }

    /// What both say.
    #[must_use]
    pub fn meet(self, other: Self) -> Self {
        Self { lo: self.lo.max(other.lo), hi: self.hi.min(other.hi) }
    }

    /// The least interval that holds both; an empty one counts with its sides exchanged.
    #[must_use]
    pub fn hull(self, other: Self) -> Self {
        let (a, b) = (self.upright(), other.upright());
        Self { lo: a.lo.min(b.lo), hi: a.hi.max(b.hi) }
    }

    /// With the smaller side first.
    #[must_use]
    pub fn upright(self) -> Self {
        Self { lo: self.lo.min(self.hi), hi: self.lo.max(self.hi) }
    }

    /// Wider by `ns` on each side that is known.
    #[must_use]
    pub fn widened(self, ns: i64) -> Self {
        let lo = if self.lo == i64::MIN { self.lo } else { self.lo.saturating_sub(ns) };
        let hi = if self.hi == i64::MAX { self.hi } else { self.hi.saturating_add(ns) };
        Self { lo, hi }
    }

    /// The middle, rounded down. Of an open interval its known side; 0 if there is none.
    #[must_use]
    pub fn middle(self) -> i64 {
        match (self.lo == i64::MIN, self.hi == i64::MAX) {
            (true, true) => 0,
            (true, false) => self.hi,
            (false, true) => self.lo,
            (false, false) => {
                let width = i128::from(self.hi) - i128::from(self.lo);
                super::clamp_i64(i128::from(self.lo) + width.div_euclid(2))
            }
        }
    }
}

/// What the sources say together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Their interval.
    pub span: Span,
    /// They contradict one another and no majority stands out: `span` is the hull of them all.
    pub conflict: bool,
    /// Sources that a majority overruled.
    pub outvoted: usize,
}

/// One interval of several sources', each true unless its source lies.
///
/// All agree: their intersection. Otherwise let n sources speak and at most ⌊(n−1)/2⌋ of them lie: the truth lies where at
/// least n − ⌊(n−1)/2⌋ agree (Marzullo 1984). Is that one stretch, and n ≥ 3, it is the answer; are they several, or is n = 2,
/// nobody can tell who is right. A source whose own interval is empty contradicts itself: it agrees with nobody.
#[must_use]
pub fn agree(spans: &[Span]) -> Verdict {
    let meet = spans.iter().fold(Span::OPEN, |met, span| met.meet(*span));
    if !meet.is_empty() {
        return Verdict { span: meet, conflict: false, outvoted: 0 };
    }
    let speaking: Vec<Span> = spans.iter().copied().filter(|span| *span != Span::OPEN).collect();
    let hull = || speaking.iter().map(|span| span.upright()).reduce(Span::hull).unwrap_or(Span::OPEN);
    if speaking.len() < 3 {
        return Verdict { span: hull(), conflict: true, outvoted: 0 };
    }
    let needed = speaking.len() - (speaking.len() - 1) / 2;
    let honest: Vec<Span> = speaking.iter().copied().filter(|span| !span.is_empty()).collect();
    let mut stretches = covered(&honest, needed);
    match (stretches.pop(), stretches.is_empty()) {
        (Some(span), true) => {
            let outvoted = speaking.len() - honest.iter().filter(|one| !one.meet(span).is_empty()).count();
            Verdict { span, conflict: false, outvoted }
        }
        _ => Verdict { span: hull(), conflict: true, outvoted: 0 },
    }
}

/// The stretches that at least `needed` of `spans` cover, ascending.
fn covered(spans: &[Span], needed: usize) -> Vec<Span> {
    let mut edges: Vec<(i64, bool)> =
        spans.iter().flat_map(|span| [(span.lo, false), (span.hi, true)]).collect();
    // At one place intervals open before others close: touching is agreeing.
    edges.sort_unstable();
    let (mut depth, mut from, mut out) = (0_usize, None, Vec::new());
    for (at, closes) in edges {
        if closes {
            if depth == needed
                && let Some(lo) = from.take()
            {
                out.push(Span { lo, hi: at });
            }
            depth = depth.saturating_sub(1);
        } else {
            depth += 1;
            if depth == needed {
                from = Some(at);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn span(lo: i64, hi: i64) -> Span {
        Span { lo, hi }
    }

    #[test]
    fn sources_that_agree_narrow_each_other() {
        let verdict = agree(&[span(0, 100), span(50, 200), span(40, i64::MAX)]);
        assert_eq!(verdict, Verdict { span: span(50, 100), conflict: false, outvoted: 0 });
    }

    #[test]
    fn two_that_disagree_are_a_conflict_and_a_third_decides() {
        let two = agree(&[span(0, 10), span(80, 90)]);
        assert_eq!((two.span, two.conflict), (span(0, 90), true));
        let three = agree(&[span(0, 10), span(80, 90), span(5, 20)]);
        assert_eq!((three.span, three.conflict, three.outvoted), (span(5, 10), false, 1));
    }

    #[test]
    fn a_third_that_agrees_with_both_decides_nothing() {
        // A lower bound alone is true of either.
        let verdict = agree(&[span(0, 10), span(80, 90), span(-100, i64::MAX)]);
        assert!(verdict.conflict);
        assert_eq!(verdict.span, span(-100, i64::MAX));
    }

    #[test]
    fn one_that_contradicts_itself_agrees_with_nobody() {
        let verdict = agree(&[span(10, 0)]);
        assert_eq!((verdict.span, verdict.conflict), (span(0, 10), true));
        let verdict = agree(&[span(50, 40), span(0, 10), span(8, 20)]);
        assert_eq!(verdict, Verdict { span: span(8, 10), conflict: false, outvoted: 1 });
        assert!(agree(&[span(50, 40), span(0, 10), Span::OPEN]).conflict, "who says nothing is no witness");
    }

    proptest! {
        #[test]
        fn truth_survives_any_minority_of_liars(
            honest in proptest::collection::vec((0_i64..50, 0_i64..50), 2..6), lies in proptest::collection::vec((-200_i64..200, 0_i64..100), 0..5)
        ) {
            let lies = &lies[..lies.len().min((honest.len() - 1).min(4))];
            let mut spans: Vec<Span> = honest.iter().map(|(below, above)| span(-below, *above)).collect();
            spans.extend(lies.iter().map(|(lo, width)| span(*lo, lo + width)));
            let verdict = agree(&spans);
            // Liars that are not found out narrow the intersection; found out, they do no harm.
            let all_meet = !spans.iter().fold(Span::OPEN, |m, s| m.meet(*s)).is_empty();
            prop_assert!(all_meet || (verdict.span.lo <= 0 && 0 <= verdict.span.hi), "{spans:?} {verdict:?}");
        }
    }
}

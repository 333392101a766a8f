//! The fast envelope against its definition, point by point.

use super::super::cone::{FALSE_MAX, RHO_PPB, WINDOW, lower_at, upper_at};
use super::super::{BootNanos, UtcNanos};
use super::*;
use proptest::prelude::*;

const MS: i64 = 1_000_000;

fn points(list: &[(i64, i64)]) -> Vec<Point> {
    let point = |(at, off): &(i64, i64)| Point {
        at: BootNanos(at * MS),
        utc: UtcNanos(1_700_000_000_000 * MS + at * MS + off * 10_000),
    };
    let mut points: Vec<Point> = list.iter().map(point).collect();
    points.sort_unstable();
    points.dedup();
    points
}

/// By definition: w points on each side, all values sorted, the (f+1)-th taken.
fn brute(upper: &[Point], lower: &[Point], b: BootNanos, shape: Shape) -> Span {
    let used = |points: &[Point]| {
        let split = points.iter().filter(|p| p.at <= b).count();
        points[split.saturating_sub(shape.window)..(split + shape.window).min(points.len())].to_vec()
    };
    let mut highs: Vec<i128> = used(upper).iter().map(|p| upper_at(*p, b, shape.rate)).collect();
    let mut lows: Vec<i128> = used(lower).iter().map(|p| lower_at(*p, b, shape.rate)).collect();
    highs.sort_unstable();
    lows.sort_unstable_by(|x, y| y.cmp(x));
    let pick = |values: &[i128]| values.get(shape.f).or(values.last()).copied();
    Span { lo: pick(&lows).map_or(i64::MIN, clamp_i64), hi: pick(&highs).map_or(i64::MAX, clamp_i64) }
}

fn place(envelope: &Envelope, b: i64) -> Span {
    let gap = envelope.gap_of(b);
    envelope.gaps.get(gap).map_or(Span::OPEN, |gap| envelope.plain(gap, b))
}

fn lists() -> impl Strategy<Value = Vec<(i64, i64)>> {
    proptest::collection::vec((0_i64..4_000, -50_i64..50), 0..120)
}

proptest! {
    #[test]
    fn cone_matches_brute_force(
        upper in lists(), lower in lists(), f in 0..=FALSE_MAX, window in 1_usize..=WINDOW,
        phi in -60_000_i64..60_000, rho in 1_i64..6_000_000, asked in proptest::collection::vec(-100_i64..4_100, 1..40)
    ) {
        // An order statistic needs as many points as it skips in each window.
        let window = window.max(f + 1);
        let shape = Shape { rate: Rate { phi_ppb: phi, rho_ppb: rho }, f, window };
        let (upper, lower) = (points(&upper), points(&lower));
        let envelope = Envelope::new(&upper, &lower, &[], shape);
        for b in asked.iter().map(|ms| ms * MS + 7).chain(upper.iter().map(|p| p.at.0)) {
            prop_assert_eq!(place(&envelope, b), brute(&upper, &lower, BootNanos(b), shape), "at {}", b);
        }
    }

    #[test]
    fn the_cursor_gives_what_the_search_gives(upper in lists(), lower in lists(), asked in proptest::collection::vec(-100_i64..4_100, 1..80)) {
        let shape = Shape { rate: Rate::datasheet(RHO_PPB), f: FALSE_MAX, window: WINDOW };
        let envelope = Envelope::new(&points(&upper), &points(&lower), &[], shape);
        let mut cursor = Cursor::default();
        for b in asked {
            let b = BootNanos(b * MS);
            prop_assert_eq!(envelope.at_cursor(&mut cursor, b), envelope.at(b));
        }
    }

    #[test]
    fn lines_are_exact_to_the_nanosecond_where_cones_cross(upper in lists(), lower in lists(), from in 0_i64..4_000, phi in -60_000_i64..60_000) {
        let shape = Shape { rate: Rate { phi_ppb: phi, rho_ppb: 8_000 }, f: FALSE_MAX, window: WINDOW };
        let envelope = Envelope::new(&points(&upper), &points(&lower), &[], shape);
        let mut cursor = Cursor::default();
        for step in 0..400 {
            let b = BootNanos(from * MS + step * 104_729 + step % 3);
            prop_assert_eq!(envelope.at_cursor(&mut cursor, b), envelope.at(b));
        }
    }

    #[test]
    fn bounds_never_go_back_where_they_do_not_contradict(
        upper in lists(), lower in lists(), mut asked in proptest::collection::vec(-100_i64..4_100, 1..80)
    ) {
        let shape = Shape { rate: Rate::datasheet(RHO_PPB), f: 1, window: 3 };
        let envelope = Envelope::new(&points(&upper), &points(&lower), &[], shape);
        if envelope.contradictions_permille() > 0 {
            return Ok(());
        }
        asked.sort_unstable();
        let spans: Vec<Span> = asked.iter().map(|b| envelope.at(BootNanos(b * MS))).collect();
        for pair in spans.windows(2) {
            prop_assert!(pair[0].lo <= pair[1].lo && pair[0].hi <= pair[1].hi);
        }
    }

    #[test]
    fn late_never_wider_than_online(upper in lists(), lower in lists(), cut in 0_i64..4_000) {
        let shape = Shape { rate: Rate::datasheet(RHO_PPB), f: FALSE_MAX, window: WINDOW };
        let (upper, lower) = (points(&upper), points(&lower));
        let online = |points: &[Point]| points.iter().copied().filter(|p| p.at.0 <= cut * MS).collect::<Vec<_>>();
        let (past_upper, past_lower) = (online(&upper), online(&lower));
        // With fewer points than may be false, what is used grows with what is there.
        if past_upper.len() <= FALSE_MAX || past_lower.len() <= FALSE_MAX {
            return Ok(());
        }
        let b = cut * MS;
        let late = place(&Envelope::new(&upper, &lower, &[], shape), b);
        let then = place(&Envelope::new(&past_upper, &past_lower, &[], shape), b);
        prop_assert!(late.lo >= then.lo && late.hi <= then.hi);
    }
}

#[test]
fn a_hard_slew_is_paid_for_inside_and_across() {
    let toll = Toll { from: BootNanos(1_000 * MS), to: BootNanos(2_000 * MS), ns: 5 * MS };
    let all = points(&[(0, 0), (500, 0), (900, 0)]);
    let shape = Shape { rate: Rate::datasheet(RHO_PPB), f: FALSE_MAX, window: WINDOW };
    let free = Envelope::new(&all, &all, &[], shape);
    let paid = Envelope::new(&all, &all, &[toll], shape);
    let extra = |ms: i64| paid.at(BootNanos(ms * MS)).hi - free.at(BootNanos(ms * MS)).hi;
    assert_eq!(extra(950), 0, "before it nothing changes");
    // The closure takes back what an upper bound after it says of an earlier moment.
    assert!(extra(1_100) >= 5 * MS && extra(1_900) >= 5 * MS);
    assert_eq!(extra(2_500), 5 * MS, "and what crosses it pays once");
}

#[test]
fn distant_and_wide_bounds_are_exact_too() {
    let day = 86_400_000;
    let upper = points(&[(0, 0), (1, 1), (2, 2)]);
    let far = points(&[(3 * day, 9_000_000), (3 * day + 1, 9_000_000), (3 * day + 2, -9_000_000_000)]);
    let shape = Shape { rate: Rate::datasheet(6_000_000), f: FALSE_MAX, window: WINDOW };
    let all: Vec<Point> = upper.into_iter().chain(far).collect();
    let envelope = Envelope::new(&all, &all, &[], shape);
    for b in [-day, day, 2 * day, 30 * day].map(|ms| ms * MS + 1) {
        assert_eq!(place(&envelope, b), brute(&all, &all, BootNanos(b), shape));
    }
}

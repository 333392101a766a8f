//! Matching when nobody asks where values came from: one walk, distances alone.
//!
//! The same matches as [`matched`](super::matching::matched) in mode `point`; a property test holds the two together.

use super::cursor::{NONE, row};
use super::lines::Relation;
use super::matching::{Match, Scene, share};
use super::metric::LOOK_NS;
use super::store::View;
use crate::recipe::{Duplicates, Fallback, Method, Mode};

/// The matches without their sources, if this column of this chunk is of the plain kind: one boot line, the last of equal
/// times, and no fallback that needs a sample.
pub(super) fn quick(scene: &Scene<'_>) -> Option<Match> {
    let column = scene.column;
    let plain = scene.mode == Mode::Point
        && column.duplicates == Duplicates::Last
        && !matches!(column.fallback, Fallback::Locf { .. })
        && !column.uncertainty;
    let [lane] = scene.store.lanes.as_slice() else { return None };
    if !plain {
        return None;
    }
    let mut out = Match::default();
    for (line, rows) in scene.left.stretches() {
        let (view, instants) = match scene.lines.relation(line, lane.line) {
            Relation::Same => (scene.store.by_event(lane), scene.left.events()),
            Relation::Utc => (scene.store.by_ts(lane), scene.left.times()),
            Relation::Before | Relation::After => return None,
        };
        if !view.is_plain() {
            return None;
        }
        match &column.method {
            Method::Previous { tolerance_ns } => previous(view, &instants[rows], *tolerance_ns, &mut out),
            Method::Linear(between) if between.extrapolate_ns == 0 => {
                linear(view, &instants[rows], between.max_gap_ns, &mut out);
            }
            _ => return None,
        }
    }
    Some(out)
}

/// Number of keys at or before `t`, from a place that is not beyond it.
#[inline]
fn walk(keys: &[i64], t: i64, place: usize) -> usize {
    super::cursor::seek::<true>(keys, t, place)
}

/// a - b where b <= a: exact as u64 wherever both lie.
#[inline]
fn ahead_of(a: i64, b: i64) -> u64 {
    a.wrapping_sub(b).cast_unsigned()
}

fn previous(view: View<'_>, instants: &[i64], tolerance_ns: i64, out: &mut Match) {
    let tolerance = tolerance_ns.max(0).cast_unsigned();
    let keys = view.keys;
    let mut place = 0;
    out.lo.extend(instants.iter().map(|t| {
        place = walk(keys, *t, place);
        let last = place.wrapping_sub(1);
        match keys.get(last) {
            Some(key) if ahead_of(*t, *key) <= tolerance => row(last),
            _ => NONE,
        }
    }));
}

fn linear(view: View<'_>, instants: &[i64], max_gap_ns: i64, out: &mut Match) {
    let keys = view.keys;
    let mut place = 0;
    for t in instants {
        place = walk(keys, *t, place);
        let (lo, hi, weight) = between(keys, *t, place, max_gap_ns);
        out.lo.push(lo);
        out.hi.push(hi);
        out.weight.push(weight);
    }
}

fn between(keys: &[i64], t: i64, place: usize, max_gap_ns: i64) -> (u32, u32, f64) {
    let nothing = (NONE, NONE, 0.0);
    let Some(last) = place.checked_sub(1) else { return nothing };
    if keys[last] == t {
        return (row(last), row(last), 0.0);
    }
    let Some(next) = keys.get(place) else { return nothing };
    let (behind, on) = (t.saturating_sub(keys[last]), next.saturating_sub(t));
    let gap = behind.saturating_add(on);
    if gap > max_gap_ns || on > max_gap_ns.saturating_add(LOOK_NS) {
        return nothing;
    }
    // Of equal times the last counts.
    (row(last), row(super::cursor::group_end(keys, place)), share(behind, gap))
}

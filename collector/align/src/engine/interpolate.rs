//! Values between two samples: numbers, orientations, positions; and how uncertain they are for the time they stand at.

use super::cursor::NONE;
use super::gather::computed;
use super::geometry::{Position, geodesic, orientation, slerp};
use super::matching::Match;
use super::plan::FieldPlan;
use super::prepare::canonical;
use super::stats::as_numbers;
use super::store::Store;
use crate::recipe::EarthModel;
use arrow_array::{Array, Float64Array};
use arrow_buffer::NullBuffer;

/// Interpolated values, and for each the change per ns at that place, in units of its uncertainty.
#[derive(Debug)]
pub(super) struct Interpolated {
    pub(super) values: Float64Array,
    /// Change per ns, never negative.
    pub(super) rate: Vec<f64>,
}

fn number<'a>(store: &'a Store, field: &FieldPlan) -> Option<&'a Float64Array> {
    store.fields.get(field.number).and_then(as_numbers)
}

fn null(rows: usize) -> Interpolated {
    Interpolated { values: Float64Array::new_null(rows), rate: vec![0.0; rows] }
}

/// a + w·(b − a), in that order; a sample hit exactly, or carried on, is its value.
pub(super) fn linear(store: &Store, field: &FieldPlan, found: &Match) -> Interpolated {
    let Some(numbers) = number(store, field) else { return null(found.lo.len()) };
    let values = computed([numbers, numbers], [&found.lo, &found.hi], |place, a, b| {
        if found.lo[place] == found.hi[place] { a } else { a + found.weight[place] * (b - a) }
    });
    let rise = computed([numbers, numbers], [&found.lo, &found.hi], |_, a, b| (b - a).abs());
    let rate = rise.values().iter().zip(&found.gap_ns).map(|(rise, gap_ns)| per_ns(*rise, *gap_ns)).collect();
    Interpolated { values, rate }
}

#[expect(clippy::cast_precision_loss, reason = "gaps beyond 2^53 ns, 104 days, are rounded once")]
fn per_ns(change: f64, gap_ns: i64) -> f64 {
    if gap_ns > 0 { change / gap_ns as f64 } else { 0.0 }
}

/// Calls `between` for rows with two samples, `at` for those with one, `None` for others; each gives N values and a change.
fn by_row<const N: usize>(
    fields: [&Float64Array; N],
    found: &Match,
    at: impl Fn([f64; N]) -> Option<[f64; N]>,
    between: impl Fn([f64; N], [f64; N], f64) -> Option<([f64; N], f64)>,
) -> [Interpolated; N] {
    let rows = found.lo.len();
    let mut values = [(); N].map(|()| vec![None; rows]);
    let mut rate = vec![0.0; rows];
    let whole = |row: u32| {
        let row = row as usize;
        fields.iter().all(|field| field.is_valid(row)).then(|| fields.map(|field| field.value(row)))
    };
    for place in 0..rows {
        let (lo, hi) = (found.lo[place], found.hi[place]);
        if lo == NONE {
            continue;
        }
        let result = match (whole(lo), whole(hi)) {
            (Some(a), Some(_)) if lo == hi => at(a).map(|value| (value, 0.0)),
            (Some(a), Some(b)) => between(a, b, found.weight[place]),
            _ => None,
        };
        if let Some((result, change)) = result {
            for (values, x) in values.iter_mut().zip(result) {
                values[place] = Some(canonical(x));
            }
            rate[place] = per_ns(change, found.gap_ns[place]);
        }
    }
    values.map(|values| Interpolated { values: Float64Array::from(values), rate: rate.clone() })
}

/// Orientations along the shorter arc; the change is the rotation, rad.
pub(super) fn rotations(store: &Store, fields: &[FieldPlan], found: &Match) -> Vec<Interpolated> {
    let numbers: Vec<&Float64Array> = fields.iter().filter_map(|field| number(store, field)).collect();
    let Ok(numbers) = <[&Float64Array; 4]>::try_from(numbers) else {
        return fields.iter().map(|_| null(found.lo.len())).collect();
    };
    by_row(numbers, found, orientation, slerp).into()
}

/// Positions along the shortest line, altitude by time; the change of a position is the distance, m.
pub(super) fn positions(
    store: &Store,
    model: EarthModel,
    fields: &[FieldPlan],
    found: &Match,
) -> Vec<Interpolated> {
    let numbers: Vec<&Float64Array> =
        fields.iter().take(2).filter_map(|field| number(store, field)).collect();
    let Ok(numbers) = <[&Float64Array; 2]>::try_from(numbers) else {
        return fields.iter().map(|_| null(found.lo.len())).collect();
    };
    let between = |[lat, lon]: [f64; 2], [to_lat, to_lon]: [f64; 2], w: f64| {
        let (at, length) = geodesic(model, Position { lat, lon }, Position { lat: to_lat, lon: to_lon }, w)?;
        Some(([at.lat, at.lon], length))
    };
    let mut out: Vec<Interpolated> = by_row(numbers, found, Some, between).into();
    out.extend(fields.iter().skip(2).map(|field| linear(store, field, found)));
    out
}

/// |change per ns| · sigma + the samples' own uncertainty, the larger of both; null without a match.
pub(super) fn uncertainty(
    store: &Store,
    field: &FieldPlan,
    found: &Match,
    rate: Option<&[f64]>,
) -> Float64Array {
    let own = field.sigma.and_then(|sigma| store.fields.get(sigma)).and_then(as_numbers);
    let own_at =
        |row: u32| own.filter(|own| own.is_valid(row as usize)).map(|own| own.value(row as usize).abs());
    let of_row = |place: usize| {
        let (lo, hi) = (found.lo[place], found.hi[place]);
        if lo == NONE {
            return None;
        }
        let own = own_at(lo).into_iter().chain(own_at(hi)).reduce(f64::max);
        #[expect(clippy::cast_precision_loss, reason = "an uncertainty of days is rounded once")]
        let of_time = rate.map(|rate| rate[place] * found.near[place].sigma_ns as f64);
        match (of_time, own) {
            (None, own) => own,
            (Some(of_time), own) => Some(of_time + own.unwrap_or(0.0)),
        }
    };
    let values: Vec<Option<f64>> = (0..found.lo.len()).map(|place| of_row(place).map(canonical)).collect();
    Float64Array::from(values)
}

/// Nulls where either a row has no match or the value is null.
pub(super) fn only_where(array: Float64Array, values: &dyn Array) -> Float64Array {
    let nulls = NullBuffer::union(array.nulls(), values.nulls());
    Float64Array::new(array.values().clone(), nulls)
}

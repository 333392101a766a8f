//! Columns of output that one column of the recipe makes for a chunk.

use super::cursor::{NONE, row};
use super::gather::{CHUNK_BYTES_MAX, Trouble, gather, with_constant};
use super::interpolate::{Interpolated, linear, only_where, positions, rotations, uncertainty};
use super::matching::{Match, Scene, matched};
use super::metric::distance;
use super::output::{has_edges, list_item, source};
use super::plan::{ColumnPlan, Options};
use super::stats::{self, Values, as_numbers};
use super::window::{Bounds, Held, Windows, windows};
use crate::recipe::{Method, WindowStat};
use arrow_array::builder::{Int32Builder, Int64Builder};
use arrow_array::{Array, ArrayRef, Float64Array, Int32Array, Int64Array, ListArray};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use std::sync::Arc;

/// Columns of output, and which rows matched.
pub(super) struct Made {
    pub(super) columns: Vec<ArrayRef>,
    /// [`NONE`] where nothing matched.
    pub(super) lo: Vec<u32>,
}

/// Makes a column's output for the rows of the scene.
pub(super) fn made(scene: &Scene<'_>, plan: &ColumnPlan, options: Options) -> Result<Made, Trouble> {
    let (found, mut columns) = match &scene.column.method {
        Method::Window { from_ns, to_ns, stats, min_count } => {
            let bounds =
                Bounds { from_ns: *from_ns, to_ns: *to_ns, min_count: *min_count, max_items: usize::MAX };
            window_stats(scene, plan, bounds, stats)?
        }
        Method::List { from_ns, to_ns, max_items } => {
            let max_items = *max_items as usize;
            let bounds = Bounds { from_ns: *from_ns, to_ns: *to_ns, min_count: 1, max_items };
            lists(scene, plan, bounds)?
        }
        _ => {
            let found = matched(scene);
            let columns = values(scene, plan, &found)?;
            (found, columns.0.into_iter().chain(columns.1).collect::<Vec<_>>())
        }
    };
    let uncertain = columns.split_off(columns.len() - uncertain_columns(scene, plan));
    if options.lineage {
        columns.push(Arc::new(source(scene.column, scene.store, scene.lines, &found)));
    }
    columns.extend(uncertain);
    Ok(Made { columns, lo: found.lo })
}

/// How many columns of uncertainties follow the source.
fn uncertain_columns(scene: &Scene<'_>, plan: &ColumnPlan) -> usize {
    let is_window = super::plan::is_window(&scene.column.method);
    if !scene.column.uncertainty || is_window {
        return 0;
    }
    let is_number = |place: &usize| super::prepare::is_number(plan.input.field(*place).data_type());
    (0..plan.fields.len()).filter(is_number).count()
}

/// Values of matches and of interpolations, and their uncertainties.
fn values(
    scene: &Scene<'_>,
    plan: &ColumnPlan,
    found: &Match,
) -> Result<(Vec<ArrayRef>, Vec<ArrayRef>), Trouble> {
    let store = scene.store;
    let interpolated: Option<Vec<Interpolated>> = match &scene.column.method {
        Method::Linear(_) => Some(plan.fields.iter().map(|field| linear(store, field, found)).collect()),
        Method::Slerp(_) => Some(rotations(store, &plan.fields, found)),
        Method::Geodesic { model, .. } => Some(positions(store, *model, &plan.fields, found)),
        _ => None,
    };
    let (mut values, mut uncertain) = (Vec::new(), Vec::new());
    for (place, field) in plan.fields.iter().enumerate() {
        let of = interpolated.as_ref().and_then(|fields| fields.get(place));
        let value: ArrayRef = match of {
            Some(of) => Arc::new(of.values.clone()),
            None => gather_held(scene, field.value, &found.lo)?,
        };
        if scene.column.uncertainty && super::prepare::is_number(plan.input.field(place).data_type()) {
            let sigma = uncertainty(store, field, found, of.map(|of| of.rate.as_slice()));
            uncertain.push(Arc::new(only_where(sigma, value.as_ref())) as ArrayRef);
        }
        values.push(match field.constants.first() {
            Some(Some(constant)) => with_constant(value, constant, &found.lo)?,
            _ => value,
        });
    }
    Ok((values, uncertain))
}

/// Rows of a held field.
fn gather_held(scene: &Scene<'_>, field: usize, rows: &[u32]) -> Result<ArrayRef, Trouble> {
    gather(&scene.store.fields[field], rows)
}

/// One statistic of one field, row by row.
enum Column {
    Number(Vec<Option<f64>>),
    Row(Vec<u32>),
    Count(Int64Builder),
}

fn window_stats(
    scene: &Scene<'_>,
    plan: &ColumnPlan,
    bounds: Bounds,
    wanted: &[WindowStat],
) -> Result<(Match, Vec<ArrayRef>), Trouble> {
    let rows = scene.left.len;
    let fresh = |stat: &WindowStat| match stat {
        WindowStat::Mean | WindowStat::Std | WindowStat::Sum => Column::Number(Vec::with_capacity(rows)),
        WindowStat::Count => Column::Count(Int64Builder::with_capacity(rows)),
        _ => Column::Row(Vec::with_capacity(rows)),
    };
    let mut columns: Vec<Vec<Column>> =
        plan.fields.iter().map(|_| wanted.iter().map(fresh).collect()).collect();
    let least = (bounds.min_count as usize).max(1);
    let Windows { matches, edge_n } = windows(scene, bounds, |held, _, is_known| {
        for (field, columns) in plan.fields.iter().zip(&mut columns) {
            let arrays = (scene.store.fields.get(field.value), scene.store.fields.get(field.number));
            one_field(arrays, held, least, is_known, wanted, columns);
        }
    });
    let mut out = Vec::new();
    for (field, columns) in plan.fields.iter().zip(columns) {
        for (column, constant) in columns.into_iter().zip(&field.constants) {
            let array: ArrayRef = match column {
                Column::Number(values) => Arc::new(Float64Array::from(values)),
                Column::Row(rows) => gather_held(scene, field.value, &rows)?,
                Column::Count(mut counts) => Arc::new(counts.finish()),
            };
            out.push(match constant {
                Some(constant) => with_constant(array, constant, &matches.lo)?,
                None => array,
            });
        }
    }
    if has_edges(scene.column) {
        out.push(Arc::new(Int32Array::from(edge_n)));
    }
    Ok((matches, out))
}

/// The statistics of one field in one window.
fn one_field(
    (array, numbers): (Option<&ArrayRef>, Option<&ArrayRef>),
    held: Held<'_>,
    least: usize,
    is_known: bool,
    wanted: &[WindowStat],
    columns: &mut [Column],
) {
    let n = array.map_or(0, |array| stats::count(array, held));
    let numbers = numbers.and_then(as_numbers);
    let enough = is_known && n >= least;
    let values = numbers.filter(|_| enough).map(|numbers| Values { numbers, held });
    // Once for mean and deviation.
    let needs = |stat: WindowStat| wanted.contains(&stat);
    let sum = values.filter(|_| needs(WindowStat::Mean) || needs(WindowStat::Sum) || needs(WindowStat::Std));
    let sum = sum.map(|values| values.sum());
    #[expect(clippy::cast_precision_loss, reason = "counts of samples held are below 2^31")]
    let mean = sum.map(|sum| sum / n as f64);
    for (stat, column) in wanted.iter().zip(columns) {
        match column {
            Column::Count(counts) => {
                counts.append_option(is_known.then_some(i64::try_from(n).unwrap_or(i64::MAX)))
            }
            Column::Number(out) => out.push(
                match stat {
                    WindowStat::Sum => sum,
                    WindowStat::Mean => mean,
                    _ => values.zip(mean).and_then(|(values, mean)| deviation(values, mean, n)),
                }
                .map(super::prepare::canonical),
            ),
            Column::Row(out) => out.push(match array.filter(|_| enough) {
                None => NONE,
                Some(array) => chosen(*stat, array, numbers, held),
            }),
        }
    }
}

/// Of a sample: n − 1.
#[expect(clippy::cast_precision_loss, reason = "counts of samples held are below 2^31")]
fn deviation(values: Values<'_>, mean: f64, n: usize) -> Option<f64> {
    (n >= 2).then(|| libm::sqrt(values.squares(mean) / (n - 1) as f64))
}

fn chosen(stat: WindowStat, array: &ArrayRef, numbers: Option<&Float64Array>, held: Held<'_>) -> u32 {
    match (stat, numbers) {
        (WindowStat::First, _) => stats::first(array, held),
        (WindowStat::Last, _) => stats::last(array, held),
        (WindowStat::Max, Some(numbers)) => stats::extreme::<true>(array, numbers, held),
        (_, Some(numbers)) => stats::extreme::<false>(array, numbers, held),
        _ => NONE,
    }
}

fn lists(scene: &Scene<'_>, plan: &ColumnPlan, bounds: Bounds) -> Result<(Match, Vec<ArrayRef>), Trouble> {
    let most = CHUNK_BYTES_MAX / 8;
    let (mut rows, mut lengths, mut dt_ns) = (Vec::new(), Vec::with_capacity(scene.left.len), Vec::new());
    let mut too_large = false;
    let Windows { matches, edge_n } = windows(scene, bounds, |held, at, _| {
        let held = held.first(bounds.max_items);
        too_large |= (rows.len() + held.len()) as u64 > most && scene.left.len > 1;
        if too_large {
            return;
        }
        lengths.push(held.len());
        for place in 0..held.len() {
            let row = row(held.get(place));
            rows.push(row);
            dt_ns.push(distance(at, scene.store.instant(row)).dt_ns);
        }
    });
    if too_large {
        return Err(Trouble::TooLarge);
    }
    let offsets = OffsetBuffer::from_lengths(lengths.iter().copied());
    let valid = NullBuffer::from_iter(matches.lo.iter().map(|lo| *lo != NONE));
    let list = |items: ArrayRef| {
        let item = list_item(items.data_type());
        ListArray::try_new(item, offsets.clone(), items, Some(valid.clone()))
    };
    let mut out: Vec<ArrayRef> = Vec::new();
    for field in &plan.fields {
        out.push(Arc::new(list(gather_held(scene, field.value, &rows)?)?));
    }
    out.push(Arc::new(list(Arc::new(Int64Array::from(dt_ns)))?));
    if has_edges(scene.column) {
        let mut edges = Int32Builder::with_capacity(edge_n.len());
        edges.append_slice(&edge_n);
        out.push(Arc::new(edges.finish()));
    }
    Ok((matches, out))
}

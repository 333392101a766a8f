//! What the engine does at the edges: extremes of integers, repeats, giants, thousands of boots, bounded memory.
#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test of small numbers: a wrong one must panic"
)]

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int32Type};
use arrow_array::{Array, ArrayRef, Float64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use headwater_align::engine::{
    AlignError, Entity, Inputs, NoGaps, Options, Plan, PlanError, Run, align, flag,
};
use headwater_align::recipe::{
    Between, Column, Duplicates, Fallback, LatePolicy, Method, Mode, Nulls, Output, Recipe, Spine,
    SpineSource, Tie, Watermark, WindowStat,
};
use headwater_align::sample::{Line, Samples, Stamps};
use headwater_core::id::{BootOrdinal, Epoch};
use headwater_core::time::Grade;
use std::collections::BTreeMap;
use std::sync::Arc;

fn schema(fields: &[(&str, DataType)]) -> SchemaRef {
    let field = |(name, kind): &(&str, DataType)| Field::new(*name, kind.clone(), true);
    Arc::new(Schema::new(fields.iter().map(field).collect::<Vec<_>>()))
}

fn line(boot: u32) -> Line {
    Line { device: "d".parse().unwrap(), epoch: Epoch(1), boot: BootOrdinal(boot) }
}

/// Samples at (line, instant); resolved time is the instant.
fn at(times: &[(u32, i64)], values: ArrayRef) -> Samples {
    let n = times.len();
    let stamps = Stamps {
        line: times.iter().map(|(line, _)| *line).collect(),
        event_ns: times.iter().map(|(_, t)| *t).collect(),
        half_ns: vec![0; n],
        ts_ns: times.iter().map(|(_, t)| *t).collect(),
        err_ns: vec![0; n],
        grade: vec![Grade::Guaranteed; n],
        seq: (0..n as u64).collect(),
    };
    let values = RecordBatch::try_new(schema(&[("v", values.data_type().clone())]), vec![values]).unwrap();
    Samples { stamps, values }
}

fn numbers(times: &[i64], values: &[f64]) -> Samples {
    let times: Vec<(u32, i64)> = times.iter().map(|t| (0, *t)).collect();
    at(&times, Arc::new(Float64Array::from(values.to_vec())))
}

fn instants(times: &[i64]) -> Samples {
    numbers(times, &vec![0.0; times.len()])
}

fn recipe(method: Method) -> Recipe {
    let column = Column {
        name: "c".parse().unwrap(),
        stream: "right".parse().unwrap(),
        device: None,
        select: vec!["v".parse().unwrap()],
        method,
        offset_ns: 0,
        duplicates: Duplicates::Last,
        tie: Tie::Previous,
        nulls: Nulls::Skip,
        fallback: Fallback::Null,
        units: BTreeMap::new(),
        uncertainty: false,
        prepare: Vec::new(),
    };
    let source = SpineSource::Stream { stream: "left".parse().unwrap(), at: None, select: Vec::new() };
    Recipe {
        name: "edges".parse().unwrap(),
        doc: None,
        spine: Spine { source, min_grade: Grade::Estimated, max_err_ns: None },
        entity: headwater_align::recipe::Entity::Device,
        mode: Mode::Point,
        derived: Vec::new(),
        episodes: None,
        columns: vec![column],
        watermark: Watermark {
            max_out_of_order_ns: 0,
            idle_timeout_ns: 0,
            allowed_lateness_ns: 0,
            late: LatePolicy::Recommit,
        },
        output: Output { sort: Vec::new() },
    }
}

fn plan(recipe: &Recipe, kind: DataType) -> Plan {
    let inputs = Inputs { spine: schema(&[("v", DataType::Float64)]), columns: vec![schema(&[("v", kind)])] };
    Plan::new(recipe, &inputs, Options::default()).unwrap()
}

fn joined(method: Method, left: Samples, right: Samples) -> Vec<RecordBatch> {
    let lines = vec![line(0)];
    let entity = Entity { name: "d".to_owned(), lines, spine: vec![left], columns: vec![right] };
    align(&plan(&recipe(method), DataType::Float64), entity, &NoGaps).unwrap().batches
}

fn column(batches: &[RecordBatch], name: &str) -> Vec<Option<f64>> {
    let values = |batch: &RecordBatch| {
        batch.column_by_name(name).unwrap().as_primitive::<Float64Type>().iter().collect::<Vec<_>>()
    };
    batches.iter().flat_map(values).collect()
}

fn flags(batches: &[RecordBatch]) -> Vec<i32> {
    let flags = |batch: &RecordBatch| {
        let source =
            Arc::clone(batch.column_by_name("c_src").unwrap().as_struct().column_by_name("flag").unwrap());
        source.as_primitive::<Int32Type>().values().to_vec()
    };
    batches.iter().flat_map(flags).collect()
}

#[test]
fn window_half_open() {
    let stats = vec![WindowStat::Sum];
    let method = Method::Window { from_ns: -10, to_ns: 5, stats, min_count: 0 };
    let right = numbers(&[89, 90, 104, 105], &[1.0, 2.0, 4.0, 8.0]);
    assert_eq!(column(&joined(method, instants(&[100]), right), "c_v_sum"), [Some(6.0)]);
}

#[test]
fn linear_exact_on_linear() {
    let times: Vec<i64> = (0..200).map(|i| i * 1_000).collect();
    let values: Vec<f64> = times.iter().map(|t| *t as f64 * 0.5 - 3.0).collect();
    let left: Vec<i64> = (0..190_000).step_by(125).collect();
    let between = Between { max_gap_ns: 1_000, extrapolate_ns: 0 };
    let found = column(&joined(Method::Linear(between), instants(&left), numbers(&times, &values)), "c_v");
    for (t, value) in left.iter().zip(found) {
        assert_eq!(value, Some(*t as f64 * 0.5 - 3.0));
    }
}

#[test]
fn align_out_of_tolerance_is_inert_and_time_shifts_change_nothing() {
    let (left, right) = ([0, 10, 30, 55], [2_i64, 9, 31, 50]);
    let values = [1.0, 2.0, 3.0, 4.0];
    let method = || Method::Nearest { tolerance_ns: 3 };
    let plain = column(&joined(method(), instants(&left), numbers(&right, &values)), "c_v");
    assert_eq!(plain, [Some(1.0), Some(2.0), Some(3.0), None]);
    // A sample beyond the tolerance of every row.
    let more = column(
        &joined(method(), instants(&left), numbers(&[2, 9, 20, 31, 50], &[1.0, 2.0, 9.0, 3.0, 4.0])),
        "c_v",
    );
    assert_eq!(more, plain);
    for shift in [-1_000_000_007, 1_700_000_000_000_000_000] {
        let moved = |times: &[i64]| times.iter().map(|t| t + shift).collect::<Vec<_>>();
        let found = joined(method(), instants(&moved(&left)), numbers(&moved(&right), &values));
        assert_eq!(column(&found, "c_v"), plain);
    }
}

#[test]
fn integers_at_their_ends_saturate() {
    let ends = [i64::MIN, i64::MIN + 1, -1, 0, i64::MAX - 1, i64::MAX];
    let between = Between { max_gap_ns: i64::MAX, extrapolate_ns: i64::MAX };
    let methods = [
        Method::Previous { tolerance_ns: i64::MAX },
        Method::Next { tolerance_ns: i64::MAX },
        Method::Nearest { tolerance_ns: i64::MAX },
        Method::Linear(between),
        Method::Window { from_ns: i64::MIN, to_ns: i64::MAX, stats: vec![WindowStat::Mean], min_count: 0 },
        Method::List { from_ns: i64::MIN, to_ns: i64::MAX, max_items: u32::MAX },
    ];
    for method in methods {
        for mode in [Mode::Point, Mode::Certain] {
            let mut recipe = recipe(method.clone());
            recipe.mode = mode;
            recipe.columns[0].offset_ns = i64::MIN;
            let mut right = numbers(&ends, &[1.0, f64::NAN, f64::INFINITY, -0.0, 5.0, 6.0]);
            right.stamps.half_ns = vec![i64::MAX; ends.len()];
            right.stamps.err_ns = vec![i64::MAX; ends.len()];
            right.stamps.seq = vec![0, 1, 2, 3, u64::MAX - 1, u64::MAX];
            let mut left = instants(&ends);
            left.stamps.half_ns = vec![i64::MAX; ends.len()];
            let plan = plan(&recipe, DataType::Float64);
            let mut run = Run::new(&plan, "d".to_owned());
            run.lines(vec![line(0)]).unwrap();
            run.feed_spine(0, left).unwrap();
            run.feed(0, right).unwrap();
            let early: usize =
                run.complete(i64::MAX, &NoGaps).unwrap().iter().map(RecordBatch::num_rows).sum();
            let rest = run.finish(&NoGaps).unwrap();
            let late: usize = rest.batches.iter().map(RecordBatch::num_rows).sum();
            assert_eq!(early + late, ends.len(), "{:?}", recipe.columns[0].method);
        }
    }
}

#[test]
fn streams_without_samples_give_rows_without_values() {
    let found = joined(Method::Previous { tolerance_ns: 5 }, instants(&[1, 2]), instants(&[]));
    assert_eq!((column(&found, "c_v"), flags(&found)), (vec![None, None], vec![flag::NONE; 2]));
    assert!(joined(Method::Previous { tolerance_ns: 5 }, instants(&[]), instants(&[1])).is_empty());
}

#[test]
fn a_million_equal_times_cost_no_more_than_others() {
    // Quadratic, this would take minutes.
    let n = 300_000;
    let right = numbers(&vec![7; n], &(0..n).map(|i| i as f64).collect::<Vec<_>>());
    for duplicates in [Duplicates::Last, Duplicates::First] {
        let mut recipe = recipe(Method::Nearest { tolerance_ns: 100 });
        recipe.columns[0].duplicates = duplicates;
        let left = instants(&vec![8; 20_000]);
        let entity = Entity {
            name: "d".to_owned(),
            lines: vec![line(0)],
            spine: vec![left],
            columns: vec![right.clone()],
        };
        let found = align(&plan(&recipe, DataType::Float64), entity, &NoGaps).unwrap().batches;
        let expected = if duplicates == Duplicates::Last { (n - 1) as f64 } else { 0.0 };
        assert!(column(&found, "c_v").iter().all(|value| *value == Some(expected)));
    }
}

#[test]
fn thousands_of_boots_cost_no_more_than_one() {
    let boots = 5_000_u32;
    let times: Vec<(u32, i64)> = (0..boots).map(|boot| (boot, i64::from(boot) * 1_000)).collect();
    let values: Vec<f64> = (0..boots).map(f64::from).collect();
    let right = at(&times, Arc::new(Float64Array::from(values)));
    let left: Vec<(u32, i64)> = (0..boots).map(|boot| (boot, i64::from(boot) * 1_000 - 1)).collect();
    let left = at(&left, Arc::new(Float64Array::from(vec![0.0; boots as usize])));
    let lines = (0..boots).map(line).collect();
    let entity = Entity { name: "d".to_owned(), lines, spine: vec![left], columns: vec![right] };
    let recipe = recipe(Method::Previous { tolerance_ns: 10_000 });
    let found = align(&plan(&recipe, DataType::Float64), entity, &NoGaps).unwrap().batches;
    // Just before the sample of its own boot: the one of the boot before.
    let values = column(&found, "c_v");
    assert_eq!((values[0], values[1], values[4_999]), (None, Some(0.0), Some(4_998.0)));
    assert!(flags(&found)[1..].iter().all(|flags| flags & flag::CROSS_BOOT != 0));
}

#[test]
fn a_row_of_64_mb_meets_many_rows() {
    let giant: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(40_000_000)]));
    let entity = Entity {
        name: "d".to_owned(),
        lines: vec![line(0)],
        spine: vec![instants(&[1, 2, 3])],
        columns: vec![at(&[(0, 0)], giant)],
    };
    let recipe = recipe(Method::Previous { tolerance_ns: 10 });
    let found = align(&plan(&recipe, DataType::Utf8), entity, &NoGaps).unwrap();
    assert_eq!((found.counts.rows, found.batches.len()), (3, 3));
}

#[test]
fn a_long_run_holds_what_its_rows_can_need() {
    let recipe = recipe(Method::Linear(Between { max_gap_ns: 1_000_000_000, extrapolate_ns: 0 }));
    let plan = plan(&recipe, DataType::Float64);
    let mut run = Run::new(&plan, "d".to_owned());
    run.lines(vec![line(0)]).unwrap();
    let (mut most, mut rows) = (0, 0);
    for minute in 0..200_i64 {
        let times: Vec<i64> = (0..600).map(|i| (minute * 600 + i) * 100_000_000).collect();
        run.feed_spine(0, instants(&times)).unwrap();
        run.feed(0, instants(&times)).unwrap();
        let batches = run.complete(times[599], &NoGaps).unwrap();
        rows += batches.iter().map(RecordBatch::num_rows).sum::<usize>();
        most = most.max(run.held());
    }
    rows += run.finish(&NoGaps).unwrap().counts.rows as usize - rows;
    // A minute that came, and what lies within the look-out of ten seconds and the gap.
    assert!(rows == 120_000 && most < 1_500, "{rows} rows, {most} samples held");
}

#[test]
fn a_grid_too_long_is_refused_and_a_boot_of_1970_does_not_stretch_it() {
    let mut recipe = recipe(Method::Previous { tolerance_ns: 10 });
    recipe.spine.source = SpineSource::Grid { period_ns: 1, phase_ns: 0, epoch_ns: 0 };
    let plan = plan(&recipe, DataType::Float64);
    let entity = |grade: Grade| {
        let mut right = numbers(&[0, 1_700_000_000_000_000_000, 1_700_000_000_000_000_004], &[1.0, 2.0, 3.0]);
        right.stamps.grade[0] = grade;
        Entity { name: "d".to_owned(), lines: vec![line(0)], spine: Vec::new(), columns: vec![right] }
    };
    assert!(matches!(align(&plan, entity(Grade::Estimated), &NoGaps), Err(AlignError::Grid { .. })));
    assert_eq!(align(&plan, entity(Grade::OrderingOnly), &NoGaps).unwrap().counts.rows, 5);
}

#[test]
fn mistakes_are_told() {
    let recipe_of = recipe(Method::Slerp(Between { max_gap_ns: 1, extrapolate_ns: 0 }));
    let inputs = Inputs { spine: schema(&[]), columns: vec![schema(&[("v", DataType::Float64)])] };
    assert!(matches!(Plan::new(&recipe_of, &inputs, Options::default()), Err(PlanError::Arity { .. })));
    let recipe = recipe(Method::Linear(Between { max_gap_ns: 1, extrapolate_ns: 0 }));
    let text = Inputs { columns: vec![schema(&[("v", DataType::Utf8)])], ..inputs };
    assert!(matches!(Plan::new(&recipe, &text, Options::default()), Err(PlanError::NotANumber { .. })));
    let plan = plan(&recipe, DataType::Float64);
    let mut run = Run::new(&plan, "d".to_owned());
    assert!(matches!(run.feed(0, instants(&[1])), Err(AlignError::Line { line: 0, known: 0, .. })));
    run.lines(vec![line(0)]).unwrap();
    assert!(matches!(run.lines(vec![line(1)]), Err(AlignError::Lines)));
    assert!(matches!(run.feed(0, instants(&[2, 1])), Err(AlignError::Unsorted { row: 1, .. })));
    assert!(matches!(run.feed(7, instants(&[1])), Err(AlignError::Place { place: 7, .. })));
    let mut ragged = instants(&[1, 2]);
    ragged.stamps.seq.pop();
    assert!(matches!(run.feed(0, ragged), Err(AlignError::Ragged { .. })));
    let text: ArrayRef = Arc::new(StringArray::from(vec!["a"]));
    assert!(matches!(run.feed(0, at(&[(0, 5)], text)), Err(AlignError::Schema { .. })));
}

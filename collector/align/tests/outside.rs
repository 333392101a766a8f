//! Writes what the engine makes of real recordings, for other people's engines to check: `tests/conformance/outside.py`.
#![expect(clippy::unwrap_used, reason = "a test over committed data: what is amiss with it is a failed test")]

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{Array, Float64Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use headwater_align::engine::{Entity, Inputs, NoGaps, Options, Plan, align};
use headwater_align::recipe::{
    Between, Column, Duplicates, Fallback, LatePolicy, Method, Mode, Nulls, Output, Recipe, Spine,
    SpineSource, Tie, Watermark,
};
use headwater_align::sample::{Line, Samples, Stamps};
use headwater_core::id::{BootOrdinal, Epoch};
use headwater_core::time::Grade;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

/// Times and one number of a recording; rows of `only`, if named by its first column.
fn read(file: &str, column: usize, only: Option<&str>) -> (Vec<i64>, Vec<f64>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/streams").join(file);
    let text = std::fs::read_to_string(path).unwrap();
    let mut rows: Vec<(i64, f64)> = Vec::new();
    for line in text.lines().skip(1) {
        let cells: Vec<&str> = line.split(',').collect();
        if only.is_none_or(|only| cells[1] == only) {
            rows.push((cells[0].parse().unwrap(), cells[column].parse().unwrap()));
        }
    }
    rows.sort_by_key(|(ts, _)| *ts);
    rows.into_iter().unzip()
}

fn samples(times: &[i64], values: &[f64]) -> Samples {
    let n = times.len();
    let stamps = Stamps {
        line: vec![0; n],
        event_ns: times.to_vec(),
        half_ns: vec![0; n],
        ts_ns: times.to_vec(),
        err_ns: vec![0; n],
        grade: vec![Grade::Guaranteed; n],
        seq: (0..n as u64).collect(),
    };
    let values = RecordBatch::try_new(schema(), vec![Arc::new(Float64Array::from(values.to_vec()))]).unwrap();
    Samples { stamps, values }
}

fn schema() -> Arc<Schema> {
    Arc::new(Schema::new(vec![Field::new("v", DataType::Float64, true)]))
}

fn recipe(method: Method) -> Recipe {
    let column = Column {
        name: "r".parse().unwrap(),
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
    };
    Recipe {
        name: "outside".parse().unwrap(),
        doc: None,
        spine: Spine {
            source: SpineSource::Stream { stream: "left".parse().unwrap(), at: None, select: Vec::new() },
            min_grade: Grade::Estimated,
            max_err_ns: None,
        },
        entity: headwater_align::recipe::Entity::Device,
        mode: Mode::Point,
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

/// One line a row: case, instant, seq of the match, value.
fn told(
    case: &str,
    left: &(Vec<i64>, Vec<f64>),
    right: &(Vec<i64>, Vec<f64>),
    method: Method,
    out: &mut String,
) {
    let inputs = Inputs { spine: schema(), columns: vec![schema()] };
    let plan = Plan::new(&recipe(method), &inputs, Options::default()).unwrap();
    let line = Line { device: "recorder".parse().unwrap(), epoch: Epoch(1), boot: BootOrdinal(0) };
    let entity = Entity {
        name: "recorder".to_owned(),
        lines: vec![line],
        spine: vec![samples(&left.0, &left.1)],
        columns: vec![samples(&right.0, &right.1)],
    };
    for batch in align(&plan, entity, &NoGaps).unwrap().batches {
        let column = |name: &str| Arc::clone(batch.column_by_name(name).unwrap());
        let ts = column("ts_ns");
        let (ts, value) = (ts.as_primitive::<Int64Type>(), column("r_v"));
        let value = value.as_primitive::<Float64Type>();
        let source = column("r_src");
        let seq = source.as_struct().column_by_name("seq_lo").unwrap().as_primitive::<Int64Type>().clone();
        for row in 0..batch.num_rows() {
            let seq = if seq.is_valid(row) { seq.value(row) } else { -1 };
            let value = if value.is_valid(row) { value.value(row) } else { f64::NAN };
            writeln!(out, "{case}\t{}\t{seq}\t{value:?}", ts.value(row)).unwrap();
        }
    }
}

#[test]
#[ignore = "run by `tests/run outside`, which has other engines check what it writes"]
fn real_recordings_for_other_engines() {
    let folder = std::env::var("HEADWATER_ALIGN_OUTSIDE").expect("HEADWATER_ALIGN_OUTSIDE names a folder");
    let folder = Path::new(&folder);
    std::fs::create_dir_all(folder).unwrap();
    let accl = read("gopro_karma_accl.csv", 1, None);
    let gyro = read("gopro_karma_gyro.csv", 1, None);
    let bus = read("can_j1939.csv", 1, None);
    let engine = read("can_j1939.csv", 1, Some("9"));
    let pairs = [("camera", &accl, &gyro), ("bus", &bus, &engine), ("repeats", &engine, &bus)];
    let mut out = String::new();
    for (name, left, right) in pairs {
        for tolerance_ns in [500_000, 20_000_000] {
            let case = |method: &str| format!("{name}/{method}/{tolerance_ns}");
            told(&case("previous"), left, right, Method::Previous { tolerance_ns }, &mut out);
            told(&case("next"), left, right, Method::Next { tolerance_ns }, &mut out);
            told(&case("nearest"), left, right, Method::Nearest { tolerance_ns }, &mut out);
            let between = Between { max_gap_ns: tolerance_ns, extrapolate_ns: 0 };
            told(&case("linear"), left, right, Method::Linear(between), &mut out);
        }
        for (side, (times, values)) in [("left", left), ("right", right)] {
            let mut text = String::new();
            for (t, v) in times.iter().zip(values) {
                writeln!(text, "{t}\t{v:?}").unwrap();
            }
            std::fs::write(folder.join(format!("{name}.{side}.tsv")), text).unwrap();
        }
    }
    std::fs::write(folder.join("ours.tsv"), out).unwrap();
}

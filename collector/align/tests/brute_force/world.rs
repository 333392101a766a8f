//! Random entities and recipes, small and nasty: equal times, nulls, several boots, installations and devices, wide
//! uncertainties, holes.

use crate::cell::Cell;
use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use headwater_align::engine::{Entity, Gaps, Inputs, UNIT_KEY};
use headwater_align::recipe::*;
use headwater_align::sample::{Line, Samples, Stamps};
use headwater_core::id::{BootOrdinal, Epoch};
use headwater_core::time::Grade;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

/// splitmix64.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    pub(crate) fn below(&mut self, n: i64) -> i64 {
        (self.next() % n.unsigned_abs().max(1)) as i64
    }
    pub(crate) fn one_in(&mut self, n: i64) -> bool {
        self.below(n) == 0
    }
    pub(crate) fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as i64) as usize].clone()
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Sample {
    pub(crate) line: usize,
    pub(crate) event: i64,
    pub(crate) half: i64,
    pub(crate) ts: i64,
    pub(crate) err: i64,
    pub(crate) grade: Grade,
    pub(crate) seq: u64,
    pub(crate) values: Vec<Cell>,
}

#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) recipe: Recipe,
    pub(crate) lines: Vec<Line>,
    /// UTC of each line's boot.
    pub(crate) base: Vec<i64>,
    pub(crate) spine: Vec<Vec<Sample>>,
    pub(crate) columns: Vec<Vec<Sample>>,
    /// Fields of each column, with type.
    pub(crate) fields: Vec<Vec<(String, DataType)>>,
    pub(crate) missing: Missing,
}

/// Recorded gaps, as single seqs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Missing(pub(crate) BTreeSet<(usize, Epoch, u64)>);

impl Gaps for Missing {
    fn any(&self, column: usize, line: &Line, seqs: Range<u64>) -> bool {
        self.0.range((column, line.epoch, seqs.start)..(column, line.epoch, seqs.end)).next().is_some()
    }
}

/// What a test wants of its worlds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wish {
    /// Resolved times may go back on a line.
    pub(crate) jitter: bool,
    /// Which methods.
    pub(crate) family: Family,
    /// Steps of time of seconds, so that what is looked at ends within the world.
    pub(crate) slow: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    Samples,
    Between,
    Windows,
}

pub(crate) fn world(seed: u64, wish: Wish) -> World {
    let dice = &mut Dice(seed);
    let unit = if wish.slow { 1_000_000_000 } else { dice.pick(&[1, 1, 30_000, 1_000_000_000]) };
    let lines = lines(dice);
    // A boot ends before the next one begins; but resolved times may say otherwise.
    let between = if wish.jitter || !wish.slow { 60 } else { 160 };
    let base: Vec<i64> =
        lines.iter().map(|line| (i64::from(line.boot.0) * between + dice.below(30)) * unit).collect();
    let columns = 1 + usize::from(dice.one_in(3));
    let mut world = World {
        recipe: recipe(dice, unit),
        lines,
        base,
        spine: Vec::new(),
        columns: Vec::new(),
        fields: Vec::new(),
        missing: Missing::default(),
    };
    for place in 0..columns {
        let (column, fields) = column(dice, wish.family, place, unit);
        let n = dice.below(40);
        let mut samples = samples(dice, &world, n, unit, wish);
        if !dice.one_in(3) {
            hole(dice, &mut samples, &world.lines, place, &mut world.missing);
        }
        for sample in &mut samples {
            sample.values = fields.iter().map(|(name, kind)| value(dice, name, kind, &column)).collect();
        }
        world.recipe.columns.push(column);
        world.columns.push(samples);
        world.fields.push(fields);
    }
    let streams = match &world.recipe.spine.source {
        SpineSource::Grid { .. } => 0,
        SpineSource::Union { streams } => streams.len(),
        _ => 1,
    };
    for _ in 0..streams {
        let n = dice.below(25);
        let mut samples = samples(dice, &world, n, unit, wish);
        for sample in &mut samples {
            sample.values = vec![if dice.one_in(5) { Cell::Null } else { Cell::Int(dice.below(4)) }];
        }
        world.spine.push(samples);
    }
    world
}

fn lines(dice: &mut Dice) -> Vec<Line> {
    let n = dice.pick(&[1, 1, 1, 2, 3, 5]);
    let mut known = BTreeSet::new();
    let mut lines = Vec::new();
    for _ in 0..n {
        let line = Line {
            device: dice.pick(&["a", "a", "b"]).parse().unwrap(),
            epoch: Epoch(0),
            boot: BootOrdinal(dice.below(3) as u32),
        };
        // Epochs are random, so two devices share none.
        let epoch = Epoch(dice.below(2) as u64 + if line.device.as_str() == "b" { 7 } else { 1 });
        let line = Line { epoch, ..line };
        if known.insert(line.clone()) {
            lines.push(line);
        }
    }
    lines
}

fn samples(dice: &mut Dice, world: &World, n: i64, unit: i64, wish: Wish) -> Vec<Sample> {
    let (halves, errors) = (dice.pick(&[1, 1, 4, 12]), dice.pick(&[1, 1, 8, 40]));
    let span = dice.pick(&[20, 60, 120]);
    let mut samples: Vec<Sample> = (0..n)
        .map(|_| {
            let line = dice.below(world.lines.len() as i64) as usize;
            let event = dice.below(span) * unit;
            let half = dice.below(halves) * unit;
            let jitter = if wish.jitter && dice.one_in(3) { (dice.below(7) - 3) * unit } else { 0 };
            let grade =
                dice.pick(&[Grade::Guaranteed, Grade::Guaranteed, Grade::Estimated, Grade::OrderingOnly]);
            let err = half + dice.below(errors) * unit;
            Sample {
                line,
                event,
                half,
                ts: world.base[line] + event + jitter,
                err,
                grade,
                seq: 0,
                values: Vec::new(),
            }
        })
        .collect();
    // As a collector sorts them: by installation, boot and event, and between installations by time. What order two
    // lines come in does not matter to the engine; that of a line does.
    samples.sort_by_key(|sample| (sample.line, sample.event));
    let mut next: BTreeMap<(String, Epoch), u64> = BTreeMap::new();
    let mut by_boot: Vec<usize> = (0..samples.len()).collect();
    by_boot.sort_by_key(|place| (world.lines[samples[*place].line].clone(), *place));
    for place in by_boot {
        let line = &world.lines[samples[place].line];
        let seq = next.entry((line.device.to_string(), line.epoch)).or_insert(0);
        samples[place].seq = *seq;
        *seq += 1;
    }
    samples.sort_by_key(|sample| (sample.ts, sample.line));
    // Jitter may have put a line out of order: back to its events, at the places it has.
    for line in 0..world.lines.len() {
        let places: Vec<usize> = (0..samples.len()).filter(|place| samples[*place].line == line).collect();
        let mut of_line: Vec<Sample> = places.iter().map(|place| samples[*place].clone()).collect();
        of_line.sort_by_key(|sample| sample.seq);
        for (place, sample) in places.into_iter().zip(of_line) {
            samples[place] = sample;
        }
    }
    samples
}

/// Takes samples away; of most it is recorded that they are missing.
fn hole(dice: &mut Dice, samples: &mut Vec<Sample>, lines: &[Line], column: usize, missing: &mut Missing) {
    samples.retain(|sample| {
        let lost = dice.one_in(5);
        if lost && !dice.one_in(3) {
            missing.0.insert((column, lines[sample.line].epoch, sample.seq));
        }
        !lost
    });
}

fn recipe(dice: &mut Dice, unit: i64) -> Recipe {
    let select: Vec<_> = if dice.one_in(2) { vec!["k".parse().unwrap()] } else { Vec::new() };
    let source = match dice.below(6) {
        0 => SpineSource::Grid {
            period_ns: (1 + dice.below(12)) * unit,
            phase_ns: dice.below(2) * unit,
            epoch_ns: (dice.below(100) - 50) * unit,
        },
        1 => SpineSource::Union { streams: vec!["p".parse().unwrap(), "q".parse().unwrap()] },
        2 => SpineSource::Event {
            stream: "spine".parse().unwrap(),
            when: Condition {
                field: "k".parse().unwrap(),
                op: dice.pick(&[
                    CompareOp::Eq,
                    CompareOp::Ne,
                    CompareOp::Lt,
                    CompareOp::Le,
                    CompareOp::Gt,
                    CompareOp::Ge,
                ]),
                value: Constant::Number(dice.below(4) as f64),
            },
            select,
        },
        _ => SpineSource::Stream { stream: "spine".parse().unwrap(), at: None, select },
    };
    Recipe {
        name: "test".parse().unwrap(),
        doc: None,
        spine: Spine {
            source,
            min_grade: dice.pick(&[Grade::OrderingOnly, Grade::Estimated]),
            max_err_ns: dice.pick(&[None, Some(20 * unit)]),
        },
        entity: headwater_align::recipe::Entity::Device,
        mode: dice.pick(&[Mode::Point, Mode::Certain]),
        columns: Vec::new(),
        watermark: Watermark {
            max_out_of_order_ns: 0,
            idle_timeout_ns: 0,
            allowed_lateness_ns: 0,
            late: LatePolicy::Recommit,
        },
        output: Output { sort: Vec::new() },
    }
}

fn column(dice: &mut Dice, family: Family, place: usize, unit: i64) -> (Column, Vec<(String, DataType)>) {
    let tolerance_ns = dice.pick(&[0, 2, 5, 12, 500]) * unit;
    let extrapolate = dice.pick(&[0, 0, 4, 30]) * unit;
    let between = Between { max_gap_ns: dice.pick(&[1, 6, 15, 400]) * unit, extrapolate_ns: extrapolate };
    let from_ns = (dice.below(30) - 20) * unit;
    let to_ns = from_ns + (1 + dice.below(25)) * unit;
    let all = [
        WindowStat::Mean,
        WindowStat::Min,
        WindowStat::Max,
        WindowStat::Std,
        WindowStat::Sum,
        WindowStat::Count,
        WindowStat::First,
        WindowStat::Last,
    ];
    let method = match (family, dice.below(3)) {
        (Family::Samples, 0) => Method::Previous { tolerance_ns },
        (Family::Samples, 1) => Method::Next { tolerance_ns },
        (Family::Samples, _) => Method::Nearest { tolerance_ns },
        (Family::Between, 0) => Method::Linear(between),
        (Family::Between, 1) => Method::Slerp(between),
        (Family::Between, _) => Method::Geodesic { between, model: EarthModel::GreatCircle, datum: None },
        (Family::Windows, 0) => Method::List { from_ns, to_ns, max_items: 1 + dice.below(6) as u32 },
        (Family::Windows, _) => {
            let stats = all.into_iter().filter(|_| dice.one_in(2)).collect();
            Method::Window { from_ns, to_ns, stats, min_count: dice.below(3) as u32 }
        }
    };
    let fields: Vec<(&str, DataType)> = match &method {
        Method::Slerp(_) => ["qw", "qx", "qy", "qz"].map(|name| (name, DataType::Float64)).to_vec(),
        Method::Geodesic { .. } => {
            vec![("lat", DataType::Float64), ("lon", DataType::Float64), ("alt", DataType::Float64)]
        }
        Method::Linear(_) | Method::Window { .. } => vec![("x", DataType::Float64), ("k", DataType::Int64)],
        _ => vec![("x", DataType::Float64), ("k", DataType::Int64), ("s", DataType::Utf8)],
    };
    let select = fields.iter().map(|(name, _)| name.parse().unwrap()).collect();
    let uncertainty = dice.one_in(2);
    let mut fields: Vec<(String, DataType)> = fields.into_iter().map(|(n, t)| (n.to_owned(), t)).collect();
    if uncertainty && dice.one_in(2) {
        let own: &[&str] = if matches!(method, Method::Geodesic { .. }) { &["eph", "epv"] } else { &["x_u"] };
        fields.extend(own.iter().map(|name| ((*name).to_owned(), DataType::Float64)));
    }
    let fallback = match dice.below(5) {
        0 => Fallback::Drop,
        1 if family != Family::Windows => Fallback::Locf { max_age_ns: dice.pick(&[3, 40, 900]) * unit },
        2 if !matches!(method, Method::List { .. }) => Fallback::Const(BTreeMap::from([
            (fields[0].0.parse().unwrap(), Constant::Number(-7.5)),
            (fields[1].0.parse().unwrap(), Constant::Number(-3.0)),
        ])),
        _ => Fallback::Null,
    };
    let kelvin = fields[0].0 == "x" && dice.one_in(3);
    let column = Column {
        name: format!("c{place}").parse().unwrap(),
        stream: format!("stream{place}").parse().unwrap(),
        device: None,
        select,
        method,
        offset_ns: dice.pick(&[0, 0, 3, -3]) * unit,
        duplicates: dice.pick(&[Duplicates::Last, Duplicates::First]),
        tie: dice.pick(&[Tie::Previous, Tie::Next]),
        nulls: dice.pick(&[Nulls::Skip, Nulls::Take]),
        fallback,
        units: if kelvin {
            BTreeMap::from([("x".parse().unwrap(), "K".to_owned())])
        } else {
            BTreeMap::new()
        },
        uncertainty,
    };
    (column, fields)
}

fn value(dice: &mut Dice, name: &str, kind: &DataType, column: &Column) -> Cell {
    if dice.one_in(6) {
        return Cell::Null;
    }
    match (name, kind) {
        ("lat", _) => Cell::float((dice.below(1_700) - 850) as f64 / 10.0),
        ("lon", _) => Cell::float((dice.below(7_200) - 3_600) as f64 / 10.0),
        (_, DataType::Int64) => {
            Cell::Int(if dice.one_in(9) { i64::MAX - dice.below(3) } else { dice.below(50) - 25 })
        }
        (_, DataType::Utf8) => Cell::Text(format!("s{}", dice.below(9))),
        // Odd values where bits are compared; the geometry's are for their own tests.
        _ if !matches!(column.method, Method::Slerp(_) | Method::Geodesic { .. }) && dice.one_in(9) => {
            Cell::Bits(dice.pick(&[
                f64::NAN.to_bits(),
                0xfff8_0000_0000_0007,
                f64::INFINITY.to_bits(),
                (-0.0_f64).to_bits(),
            ]))
        }
        _ => Cell::float((dice.below(2_000) - 1_000) as f64 / 64.0 + 0.001),
    }
}

fn schema_of(fields: &[(String, DataType)]) -> SchemaRef {
    let field = |(name, kind): &(String, DataType)| {
        let unit = BTreeMap::from([(UNIT_KEY.to_owned(), if name == "x" { "Cel" } else { "1" }.to_owned())]);
        Field::new(name, kind.clone(), true).with_metadata(unit.into_iter().collect())
    };
    Arc::new(Schema::new(fields.iter().map(field).collect::<Vec<_>>()))
}

fn spine_fields(world: &World) -> Vec<(String, DataType)> {
    match &world.recipe.spine.source {
        SpineSource::Grid { .. } | SpineSource::Union { .. } => Vec::new(),
        _ => vec![("k".to_owned(), DataType::Int64)],
    }
}

pub(crate) fn inputs(world: &World) -> Inputs {
    Inputs {
        spine: schema_of(&spine_fields(world)),
        columns: world.fields.iter().map(|fields| schema_of(fields)).collect(),
    }
}

pub(crate) fn as_samples(samples: &[Sample], fields: &[(String, DataType)]) -> Samples {
    let of = |place: usize| samples.iter().map(move |sample| &sample.values[place]);
    let array = |(place, (_, kind)): (usize, &(String, DataType))| -> ArrayRef {
        match kind {
            DataType::Int64 => Arc::new(
                of(place)
                    .map(|cell| if let Cell::Int(x) = cell { Some(*x) } else { None })
                    .collect::<Int64Array>(),
            ),
            DataType::Utf8 => Arc::new(
                of(place)
                    .map(|cell| if let Cell::Text(x) = cell { Some(x.as_str()) } else { None })
                    .collect::<StringArray>(),
            ),
            _ => Arc::new(
                of(place)
                    .map(|cell| if let Cell::Bits(x) = cell { Some(f64::from_bits(*x)) } else { None })
                    .collect::<Float64Array>(),
            ),
        }
    };
    let arrays: Vec<ArrayRef> = fields.iter().enumerate().map(array).collect();
    let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(samples.len()));
    let values = RecordBatch::try_new_with_options(schema_of(fields), arrays, &options).unwrap();
    let stamps = Stamps {
        line: samples.iter().map(|sample| sample.line as u32).collect(),
        event_ns: samples.iter().map(|sample| sample.event).collect(),
        half_ns: samples.iter().map(|sample| sample.half).collect(),
        ts_ns: samples.iter().map(|sample| sample.ts).collect(),
        err_ns: samples.iter().map(|sample| sample.err).collect(),
        grade: samples.iter().map(|sample| sample.grade).collect(),
        seq: samples.iter().map(|sample| sample.seq).collect(),
    };
    Samples { stamps, values }
}

pub(crate) fn spine_samples(world: &World, samples: &[Sample]) -> Samples {
    as_samples(samples, &spine_fields(world))
}

pub(crate) fn entity(world: &World) -> Entity {
    Entity {
        name: "entity".to_owned(),
        lines: world.lines.clone(),
        spine: world.spine.iter().map(|samples| spine_samples(world, samples)).collect(),
        columns: world.columns.iter().zip(&world.fields).map(|(s, fields)| as_samples(s, fields)).collect(),
    }
}

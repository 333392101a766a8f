//! Our side of the as-of joins: one process, one thread, what is fed and what is written in chunks.
//!
//! Prints one line of JSON: CPU seconds of matching, gathering and writing (reading is not counted, as for the others),
//! peak memory of the process, rows, and counts and sums that must be those of every engine.

use crate::cpu::cpu_time;
use anyhow::{Context, Result, bail};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int32Type, Int64Type};
use arrow_array::{Array, ArrayRef, Float64Array, RecordBatch};
use arrow_ipc::writer::FileWriter;
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use headwater_align::engine::{Inputs, NoGaps, Options, Plan, Run};
use headwater_align::recipe::{
    Between, Column, Duplicates, Entity, Fallback, LatePolicy, Method, Mode, Nulls, Output, Recipe, Spine,
    SpineSource, Tie, Watermark, WindowStat,
};
use headwater_align::sample::{Line, Samples, Stamps};
use headwater_core::id::{BootOrdinal, Epoch};
use headwater_core::time::Grade;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Rows read, and fed, at a time.
const BLOCK_ROWS: usize = 1 << 14;
/// The same with keys: each key has a hundredth of it.
const KEYED_BLOCK_ROWS: usize = 1 << 18;
const KEYS: usize = 100;

/// One case, as the words of a command line.
#[derive(Debug)]
struct Case {
    keyed: bool,
    method: String,
    lineage: bool,
    output: String,
}

/// Runs a case: `FOLDER one_key|keys METHOD values|lineage memory|ipc|parquet FILE`.
pub(crate) fn main(words: &[String]) -> Result<()> {
    let [folder, keys, method, columns, output, file] = words else {
        bail!("six words are needed, not {words:?}")
    };
    let case = Case {
        keyed: keys == "keys",
        method: method.clone(),
        lineage: columns == "lineage",
        output: output.clone(),
    };
    let plan = plan(&case)?;
    let mut sink = Sink::new(&case.output, Path::new(file), plan.schema())?;
    let mut streams = Streams::open(Path::new(folder), &case)?;
    let mut cpu = Duration::ZERO;
    if case.keyed {
        keyed(&plan, &mut streams, &mut sink, &mut cpu)?
    } else {
        one_key(&plan, &mut streams, &mut sink, &mut cpu)?
    }
    let began = cpu_time()?;
    sink.close()?;
    cpu += cpu_time()? - began;
    // What checking costs is no part of it.
    cpu = cpu.saturating_sub(sink.checking);
    let tally = sink.tally();
    let answer = serde_json::json!({
        "cpu_s": cpu.as_secs_f64(), "peak_mb": peak_mb()?, "rows": tally.rows, "counts": tally.counts, "sums": tally.sums,
    });
    println!("{answer}");
    Ok(())
}

fn one_key(plan: &Plan, streams: &mut Streams, sink: &mut Sink, cpu: &mut Duration) -> Result<()> {
    let mut run = Run::new(plan, "key".to_owned());
    run.lines(vec![line(0)?])?;
    while let Some(left) = streams.left.block()? {
        let upto = left.last();
        let mut rights = Vec::new();
        for (place, right) in streams.rights.iter_mut().enumerate() {
            for block in right.upto(upto)? {
                rights.push((place, block.samples(0)?));
            }
        }
        let left = left.samples(0)?;
        let began = cpu_time()?;
        run.feed_spine(0, left)?;
        for (place, samples) in rights {
            run.feed(place, samples)?;
        }
        sink.take(run.complete(upto, &NoGaps)?)?;
        *cpu += cpu_time()? - began;
    }
    for (place, right) in streams.rights.iter_mut().enumerate() {
        for block in right.upto(i64::MAX)? {
            run.feed(place, block.samples(0)?)?;
        }
    }
    let began = cpu_time()?;
    sink.take(run.finish(&NoGaps)?.batches)?;
    *cpu += cpu_time()? - began;
    Ok(())
}

/// Each key is an entity; blocks are sorted by key first, which is counted.
fn keyed(plan: &Plan, streams: &mut Streams, sink: &mut Sink, cpu: &mut Duration) -> Result<()> {
    let mut runs = Vec::new();
    for key in 0..KEYS {
        let mut run = Run::new(plan, format!("key{key}"));
        run.lines(vec![line(key as u64)?])?;
        runs.push(run);
    }
    while let Some(left) = streams.left.block()? {
        let upto = left.last();
        let mut rights = Vec::new();
        for (place, right) in streams.rights.iter_mut().enumerate() {
            rights.extend(right.upto(upto)?.into_iter().map(|block| (place, block)));
        }
        let began = cpu_time()?;
        for (key, samples) in left.by_key()?.into_iter().enumerate() {
            runs[key].feed_spine(0, samples)?;
        }
        for (place, block) in rights {
            for (key, samples) in block.by_key()?.into_iter().enumerate() {
                runs[key].feed(place, samples)?;
            }
        }
        for run in &mut runs {
            sink.take(run.complete(upto, &NoGaps)?)?;
        }
        *cpu += cpu_time()? - began;
    }
    for (place, right) in streams.rights.iter_mut().enumerate() {
        for block in right.upto(i64::MAX)? {
            for (key, samples) in block.by_key()?.into_iter().enumerate() {
                runs[key].feed(place, samples)?;
            }
        }
    }
    let began = cpu_time()?;
    for run in runs {
        sink.take(run.finish(&NoGaps)?.batches)?;
    }
    *cpu += cpu_time()? - began;
    Ok(())
}

fn line(epoch: u64) -> Result<Line> {
    Ok(Line { device: "bench".parse()?, epoch: Epoch(epoch), boot: BootOrdinal(0) })
}

fn plan(case: &Case) -> Result<Plan> {
    let between = Between { max_gap_ns: 5_000_000_000, extrapolate_ns: 0 };
    let (method, select): (Method, &[&str]) = match case.method.as_str() {
        "previous" => (Method::Previous { tolerance_ns: 500_000_000 }, &["v"]),
        "linear" => (Method::Linear(between), &["v"]),
        "slerp" => (Method::Slerp(between), &["w", "x", "y", "z"]),
        "window" => {
            let stats = vec![WindowStat::Mean];
            (Method::Window { from_ns: -500_000_000, to_ns: 0, stats, min_count: 1 }, &["v"])
        }
        other => bail!("no such method: {other}"),
    };
    let rights = if case.method == "previous" { 3 } else { 1 };
    let column = |place: usize| -> Result<Column> {
        Ok(Column {
            name: format!("r{place}").parse()?,
            stream: format!("right{place}").parse()?,
            device: None,
            select: select.iter().map(|field| field.parse()).collect::<Result<_, _>>()?,
            method: method.clone(),
            offset_ns: 0,
            duplicates: Duplicates::Last,
            tie: Tie::Previous,
            nulls: Nulls::Skip,
            fallback: Fallback::Null,
            units: Default::default(),
            uncertainty: false,
            prepare: Vec::new(),
        })
    };
    let recipe = Recipe {
        name: "bench".parse()?,
        doc: None,
        spine: Spine {
            source: SpineSource::Stream { stream: "left".parse()?, at: None, select: vec!["v".parse()?] },
            min_grade: Grade::OrderingOnly,
            max_err_ns: None,
        },
        entity: Entity::Device,
        mode: Mode::Point,
        columns: (0..rights).map(column).collect::<Result<_>>()?,
        watermark: Watermark {
            max_out_of_order_ns: 0,
            idle_timeout_ns: 0,
            allowed_lateness_ns: 0,
            late: LatePolicy::Recommit,
        },
        output: Output { sort: Vec::new() },
        derived: Vec::new(),
        episodes: None,
    };
    let inputs = Inputs { spine: schema(&["v"]), columns: vec![schema(select); rights] };
    Ok(Plan::new(&recipe, &inputs, Options { identity: case.lineage, lineage: case.lineage })?)
}

fn schema(fields: &[&str]) -> SchemaRef {
    Arc::new(Schema::new(fields.iter().map(|f| Field::new(*f, DataType::Float64, true)).collect::<Vec<_>>()))
}

/// Streams as they are read.
struct Streams {
    left: Reader,
    rights: Vec<Reader>,
}

impl Streams {
    fn open(folder: &Path, case: &Case) -> Result<Self> {
        let rights = if case.method == "previous" { 3 } else { 1 };
        let block = if case.keyed { KEYED_BLOCK_ROWS } else { BLOCK_ROWS };
        let fields = if case.method == "slerp" { 4 } else { 1 };
        let open = |name: &str, fields| Reader::open(&folder.join(format!("{name}.parquet")), block, fields);
        let rights =
            (0..rights).map(|place| open(&format!("right{place}"), fields)).collect::<Result<_>>()?;
        Ok(Self { left: open("left", 1)?, rights })
    }
}

struct Reader {
    parquet: ParquetRecordBatchReader,
    rest: Option<Block>,
    seq: u64,
    fields: usize,
}

/// Rows of a stream.
#[derive(Clone)]
struct Block {
    rows: RecordBatch,
    seq: u64,
    fields: usize,
}

impl Reader {
    fn open(path: &Path, block: usize, fields: usize) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("failed to open {}", path.display()))?;
        let parquet = ParquetRecordBatchReaderBuilder::try_new(file)?.with_batch_size(block).build()?;
        Ok(Self { parquet, rest: None, seq: 0, fields })
    }

    fn block(&mut self) -> Result<Option<Block>> {
        if let Some(rest) = self.rest.take() {
            return Ok(Some(rest));
        }
        let Some(rows) = self.parquet.next().transpose()? else { return Ok(None) };
        let block = Block { seq: self.seq, fields: self.fields, rows };
        self.seq += block.rows.num_rows() as u64;
        Ok(Some(block))
    }

    /// Blocks of rows at or before an instant.
    fn upto(&mut self, upto: i64) -> Result<Vec<Block>> {
        let mut blocks = Vec::new();
        while let Some(block) = self.block()? {
            let n = block.times().partition_point(|t| *t <= upto);
            let whole = block.rows.num_rows();
            if n > 0 {
                blocks.push(Block { rows: block.rows.slice(0, n), ..block.clone() });
            }
            if n < whole {
                self.rest =
                    Some(Block { rows: block.rows.slice(n, whole - n), seq: block.seq + n as u64, ..block });
                break;
            }
        }
        Ok(blocks)
    }
}

impl Block {
    fn times(&self) -> &[i64] {
        self.rows.column(0).as_primitive::<Int64Type>().values()
    }

    fn last(&self) -> i64 {
        self.times().last().copied().unwrap_or(i64::MIN)
    }

    fn samples(&self, line: u32) -> Result<Samples> {
        let n = self.rows.num_rows();
        let stamps = stamps(line, self.times().to_vec(), (self.seq..).take(n).collect());
        let v = self.rows.column(1);
        Ok(Samples { stamps, values: values(v, self.fields)? })
    }

    /// Rows by key, in order: counted, then put where they belong.
    fn by_key(&self) -> Result<Vec<Samples>> {
        let keys = self.rows.column(2).as_primitive::<Int32Type>().values();
        let (times, v) = (self.times(), self.rows.column(1).as_primitive::<Float64Type>().values());
        let mut counts = vec![0_usize; KEYS];
        keys.iter().for_each(|key| counts[slot(*key)] += 1);
        let mut parts: Vec<(Vec<i64>, Vec<f64>, Vec<u64>)> = counts
            .iter()
            .map(|n| (Vec::with_capacity(*n), Vec::with_capacity(*n), Vec::with_capacity(*n)))
            .collect();
        for (seq, ((key, t), v)) in (self.seq..).zip(keys.iter().zip(times).zip(v)) {
            let (times, values, seqs) = &mut parts[slot(*key)];
            times.push(*t);
            values.push(*v);
            seqs.push(seq);
        }
        let part = |(times, v, seq)| {
            let v: ArrayRef = Arc::new(Float64Array::from(v));
            Ok(Samples { stamps: stamps(0, times, seq), values: values(&v, self.fields)? })
        };
        parts.into_iter().map(part).collect()
    }
}

/// A key as a place; keys are below [`KEYS`].
fn slot(key: i32) -> usize {
    usize::try_from(key).unwrap_or(0)
}

fn stamps(line: u32, t: Vec<i64>, seq: Vec<u64>) -> Stamps {
    let n = t.len();
    Stamps {
        line: vec![line; n],
        event_ns: t.clone(),
        half_ns: vec![0; n],
        ts_ns: t,
        err_ns: vec![0; n],
        grade: vec![Grade::Guaranteed; n],
        seq,
    }
}

/// One field, or a quaternion made of it.
fn values(v: &ArrayRef, fields: usize) -> Result<RecordBatch> {
    if fields == 1 {
        return Ok(RecordBatch::try_new(schema(&["v"]), vec![Arc::clone(v)])?);
    }
    let v = v.as_primitive::<Float64Type>();
    let part =
        |scale: f64, shift: f64| -> ArrayRef { Arc::new(v.unary::<_, Float64Type>(|x| x * scale + shift)) };
    Ok(RecordBatch::try_new(
        schema(&["w", "x", "y", "z"]),
        vec![part(0.1, 1.0), part(0.2, 0.0), part(-0.1, 0.1), part(0.3, 0.2)],
    )?)
}

/// Where rows go, and what is counted of them.
struct Sink {
    to: To,
    kept: Vec<RecordBatch>,
    tally: Tally,
    checking: Duration,
}

enum To {
    Memory,
    Ipc(Box<FileWriter<std::io::BufWriter<File>>>),
    Parquet(Box<ArrowWriter<File>>),
    Closed,
}

#[derive(Debug, Default)]
struct Tally {
    rows: usize,
    counts: Vec<usize>,
    sums: Vec<f64>,
}

impl Sink {
    fn new(output: &str, file: &Path, schema: &SchemaRef) -> Result<Self> {
        let to = match output {
            "memory" => To::Memory,
            "ipc" => {
                let file = std::io::BufWriter::with_capacity(1 << 20, File::create(file)?);
                To::Ipc(Box::new(FileWriter::try_new(file, schema)?))
            }
            _ => {
                let zstd = Compression::ZSTD(ZstdLevel::try_new(3)?);
                // As the lake writes numbers: no dictionary, since each is tried and given up; deltas for times.
                let properties = WriterProperties::builder()
                    .set_compression(zstd)
                    .set_dictionary_enabled(false)
                    .set_column_encoding("ts_ns".into(), Encoding::DELTA_BINARY_PACKED)
                    .set_statistics_enabled(EnabledStatistics::Chunk)
                    .set_max_row_group_row_count(Some(1 << 17));
                let writer =
                    ArrowWriter::try_new(File::create(file)?, Arc::clone(schema), Some(properties.build()))?;
                To::Parquet(Box::new(writer))
            }
        };
        Ok(Self { to, kept: Vec::new(), tally: Tally::default(), checking: Duration::ZERO })
    }

    fn take(&mut self, batches: Vec<RecordBatch>) -> Result<()> {
        for batch in batches {
            match &mut self.to {
                To::Memory => {
                    self.kept.push(batch);
                    continue;
                }
                To::Ipc(writer) => writer.write(&batch)?,
                To::Parquet(writer) => writer.write(&batch)?,
                To::Closed => bail!("rows after the end"),
            }
            let began = cpu_time()?;
            self.tally.add(&batch);
            self.checking += cpu_time()? - began;
        }
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        match std::mem::replace(&mut self.to, To::Closed) {
            To::Memory | To::Closed => {}
            To::Ipc(mut writer) => writer.finish()?,
            To::Parquet(writer) => drop(writer.close()?),
        }
        Ok(())
    }

    fn tally(mut self) -> Tally {
        self.kept.iter().for_each(|batch| self.tally.add(batch));
        self.tally
    }
}

impl Tally {
    /// Counts and sums of the joined values.
    fn add(&mut self, batch: &RecordBatch) {
        self.rows += batch.num_rows();
        let joined = batch
            .schema()
            .fields()
            .iter()
            .zip(batch.columns())
            .filter(|(field, array)| field.name().starts_with('r') && *array.data_type() == DataType::Float64)
            .map(|(_, array)| Arc::clone(array))
            .collect::<Vec<_>>();
        self.counts.resize(joined.len(), 0);
        self.sums.resize(joined.len(), 0.0);
        for (place, array) in joined.iter().enumerate() {
            let array = array.as_primitive::<Float64Type>();
            self.counts[place] += array.len() - array.null_count();
            self.sums[place] += array.iter().flatten().sum::<f64>();
        }
    }
}

fn peak_mb() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: f64 =
        line.and_then(|rest| rest.trim().strip_suffix(" kB")?.trim().parse().ok()).context("no VmHWM")?;
    Ok(kib / 1e3)
}

//! The wire format's sizes and speeds on recorded streams, each batch decoded and compared bit for bit.

mod lines;
mod memory;
pub(crate) mod rivals;
pub(crate) mod stream;

use crate::figure::Sheet;
use anyhow::{Result, ensure};
use headwater_core::batch::{Announced, Effort, Encoder, Limits, Rows, Section, decode_batch};
use headwater_core::wire::ENVELOPE_BYTES;
use headwater_tests::ticks::now;
use lines::{LINES, Line};
use serde_json::{Map, Value, json};
use std::path::Path;
use std::time::Duration;
use stream::{Stream, raw_bytes};

const NAME: &str = "wire";
/// What the prototype's framing of one section took, so that bodies compare.
const PROTOTYPE_BYTES: usize = 116;
/// Passes over a line's batches: the fastest counts.
const PASSES: usize = 5;

pub(crate) fn measure(data: &Path, sheet: &mut Sheet) -> Result<()> {
    memory::measure(data, sheet)?;
    let mut ratios = [Vec::new(), Vec::new()];
    let mut measured = 0;
    for line in &LINES {
        let path = data.join(format!("{}.csv", line.stream));
        if !path.exists() {
            continue;
        }
        let stream = Stream::read(&path)?;
        let sections: Vec<Section> =
            stream.cut(line.batch)?.into_iter().map(|range| stream.section(range)).collect();
        if sections.is_empty() {
            continue;
        }
        measured += 1;
        let full = sections.len() == line.batches;
        let rivals = rivals(&sections, &stream.names)?;
        let [wire, metered] = &mut ratios;
        spool(line, &sections, sheet)?;
        sized(line, Effort::Wire, line.wire, full, &sections, &rivals, wire, sheet)?;
        sized(line, Effort::Metered, line.metered, full, &sections, &rivals, metered, sheet)?;
    }
    ensure!(measured > 0, "{} holds none of the recordings", data.display());
    for (effort, ratios) in [Effort::Wire, Effort::Metered].into_iter().zip(&ratios) {
        if !ratios.is_empty() {
            let mean = (ratios.iter().map(|ratio: &f64| ratio.ln()).sum::<f64>() / ratios.len() as f64).exp();
            let missed = ratios.iter().filter(|ratio| **ratio > 1.0).count();
            let beside = json!({"lines": ratios.len(), "lines_above": missed, "target": 0.98});
            sheet.add(NAME, json!({"effort": told(effort)}), "body_against_prototype", mean, "x", beside);
        }
    }
    Ok(())
}

fn told(effort: Effort) -> &'static str {
    match effort {
        Effort::Spool => "spool",
        Effort::Wire => "wire",
        Effort::Metered => "metered",
    }
}

/// What one effort makes of all batches of a line.
struct Run {
    body_bytes: usize,
    encode_mb_s: f64,
    decode_mb_s: f64,
}

fn rows_of(sections: &[Section]) -> impl Iterator<Item = &Rows> {
    sections.iter().filter_map(|section| if let Section::Rows(rows) = section { Some(rows) } else { None })
}

fn run(effort: Effort, sections: &[Section]) -> Result<Run> {
    let announced = if effort == Effort::Spool { Announced::SPOOL } else { Announced::OURS };
    let mut encoder = Encoder::new(effort, announced);
    let (mut encode, mut decode) = (Duration::MAX, Duration::MAX);
    let mut body_bytes = 0;
    for _ in 0..PASSES {
        let start = now();
        let bodies: Vec<Vec<u8>> =
            sections.iter().map(|section| encoder.encode(std::slice::from_ref(section))).collect();
        encode = encode.min(start.elapsed());
        let start = now();
        let back =
            bodies.iter().map(|body| decode_batch(body, &Limits::V1)).collect::<Result<Vec<_>, _>>()?;
        decode = decode.min(start.elapsed());
        for (batch, rows) in back.iter().zip(rows_of(sections)) {
            ensure!(
                batch.rows().next().is_some_and(|read| read.same_bits(rows)),
                "a batch reads back changed"
            );
        }
        body_bytes = bodies.iter().map(Vec::len).sum();
    }
    let megabytes = rows_of(sections).map(raw_bytes).sum::<usize>() as f64 / 1e6;
    Ok(Run {
        body_bytes,
        encode_mb_s: megabytes / encode.as_secs_f64(),
        decode_mb_s: megabytes / decode.as_secs_f64(),
    })
}

/// Sizes of all batches in other formats, summed by name.
fn rivals(sections: &[Section], names: &[String]) -> Result<Vec<(&'static str, usize)>> {
    let mut sums: Vec<(&'static str, usize)> = Vec::new();
    for rows in rows_of(sections) {
        for (at, (name, bytes)) in rivals::sizes(rows, names)?.into_iter().enumerate() {
            match sums.get_mut(at) {
                Some((_, sum)) => *sum += bytes,
                None => sums.push((name, bytes)),
            }
        }
    }
    Ok(sums)
}

fn case(line: &Line, effort: Effort) -> Value {
    json!({"stream": line.stream, "batch": line.batch, "effort": told(effort)})
}

fn speeds(line: &Line, effort: Effort, run: &Run, rows: usize, sheet: &mut Sheet) {
    let beside = json!({"rows_per_batch": rows});
    sheet.add(NAME, case(line, effort), "encode", run.encode_mb_s, "MB/s", beside.clone());
    sheet.add(NAME, case(line, effort), "decode", run.decode_mb_s, "MB/s", beside);
}

fn spool(line: &Line, sections: &[Section], sheet: &mut Sheet) -> Result<()> {
    let rows: usize = rows_of(sections).map(Rows::len).sum();
    let run = run(Effort::Spool, sections)?;
    let per_row = run.body_bytes as f64 / rows as f64;
    sheet.add(NAME, case(line, Effort::Spool), "bytes_per_row", per_row, "B/row", json!({}));
    speeds(line, Effort::Spool, &run, rows / sections.len(), sheet);
    Ok(())
}

#[expect(clippy::too_many_arguments, reason = "one line of the table, taken apart once")]
fn sized(
    line: &Line,
    effort: Effort,
    target: f64,
    full: bool,
    sections: &[Section],
    rivals: &[(&'static str, usize)],
    ratios: &mut Vec<f64>,
    sheet: &mut Sheet,
) -> Result<()> {
    let rows: usize = rows_of(sections).map(Rows::len).sum();
    let per_row = |bytes: usize| bytes as f64 / rows as f64;
    let run = run(effort, sections)?;
    let framing = ENVELOPE_BYTES * sections.len();
    let mut beside: Map<String, Value> =
        rivals.iter().map(|(name, bytes)| ((*name).to_owned(), json!(per_row(*bytes)))).collect();
    beside.insert("raw".to_owned(), json!(per_row(rows_of(sections).map(raw_bytes).sum())));
    let whole = run.body_bytes + framing;
    sheet.add(NAME, case(line, effort), "bytes_per_row", per_row(whole), "B/row", beside.into());
    let body = per_row(whole.saturating_sub(PROTOTYPE_BYTES * sections.len()));
    let mut beside = Map::new();
    beside.insert("batches".to_owned(), json!(sections.len()));
    if full {
        beside.insert("target".to_owned(), json!(target));
        ratios.push(body / target);
    }
    sheet.add(NAME, case(line, effort), "bytes_per_row_body", body, "B/row", beside.into());
    speeds(line, effort, &run, rows / sections.len(), sheet);
    Ok(())
}

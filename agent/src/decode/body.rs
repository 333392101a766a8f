//! Batch bodies: packing, sections, and how each column is written.

use super::Known;
use super::item::{Item, Values};
use headwater_core::batch::{
    Column, ColumnLayout, Limits, Refused, Rows, Section, SectionLayout, StreamRef, codec_name, explain,
    type_name,
};
use headwater_core::sample;
use headwater_core::schema::Schema;
use headwater_core::time::stamp_unit_ns;
use serde_json::Value;

/// Bytes of a text or bytes value that are told; their number is told besides.
const VALUE_BYTES_TOLD: usize = 64;
/// Columns before the schema's fields.
const STAMPS: [&str; 3] = ["t", "lat_lo", "lat_hi"];

pub(super) fn tell(what: &str, body: &[u8], values: Values, known: &Known) -> Item {
    let item = Item::new(what).fact("bytes", body.len());
    let layout = match explain(body, &Limits::V1) {
        Ok(layout) => layout,
        Err(error) => return item.damaged(with_sources(&error)),
    };
    let packing = match layout.packing {
        0 => "stored",
        1 => "zstd",
        _ => "zstd block",
    };
    let mut item = item
        .fact("packing", packing)
        .fact("packed_bytes", layout.packed_bytes)
        .fact("small_bytes", layout.small_bytes)
        .fact("dense_bytes", layout.dense_bytes)
        .fact("sections", layout.sections.len());
    if let Some(damage) = &layout.damage {
        item = item.damaged(with_sources(damage));
    }
    item.holds(layout.sections.iter().map(|section| section_item(section, values, known)))
}

/// An error and what is below it, in one line.
pub(super) fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}

fn stream(stream: &StreamRef, known: &Known) -> String {
    match stream {
        StreamRef::Id(id) => known.stream(*id),
        StreamRef::Name(name) => name.to_string(),
    }
}

fn section_item(layout: &SectionLayout, values: Values, known: &Known) -> Item {
    let place = |item: Item| {
        item.fact("at", layout.small.start)
            .fact("small_bytes", layout.small.len())
            .fact("dense_bytes", layout.dense.len())
    };
    match &layout.section {
        Section::Rows(rows) => {
            let schema = known.schema(rows.fingerprint);
            let mut item = rows_item(place(Item::new("rows")), rows, schema, known);
            if schema.is_some_and(|schema| !rows.follows(schema)) {
                item = item.damaged("columns are not those of the schema");
            }
            let columns = layout.columns.iter().enumerate();
            item.holds(columns.map(|(at, column)| {
                let item = column_item(at, column, schema);
                let head = values.of(rows.len());
                match (at, at.checked_sub(STAMPS.len()).and_then(|field| rows.fields.get(field))) {
                    (0, _) => item.fact("values", first(&rows.t, head)),
                    (1, _) => item.fact("values", first(&rows.lat_lo, head)),
                    (2, _) => item.fact("values", first(&rows.lat_hi, head)),
                    (_, Some(column)) => item.fact("values", told(column, head)),
                    (_, None) => item,
                }
            }))
        }
        Section::Heartbeat(beat) => place(Item::new("heartbeat"))
            .fact("stream", stream(&beat.stream, known))
            .fact("boot", beat.boot_ordinal.0)
            .fact("next_seq", beat.next_seq.0)
            .fact("promise_b_ns", beat.promise_b.0),
        Section::Refused(refused) => {
            let item = refused_item(place(Item::new("refused")), refused, known);
            item.holds(layout.columns.iter().enumerate().map(|(at, column)| {
                let item = column_item(at, column, None);
                if column.sound { item } else { item.damaged(with_sources(&refused.why)) }
            }))
        }
    }
}

fn rows_item(item: Item, rows: &Rows, schema: Option<&Schema>, known: &Known) -> Item {
    let unit = stamp_unit_ns(rows.time_exp).unwrap_or(1);
    let ends = [rows.t.iter().min(), rows.t.iter().max()];
    let [first_ns, last_ns] = ends.map(|t| t.map_or(0, |t| t.saturating_mul(unit)));
    let kind = schema.map(|schema| schema.kind.to_string());
    item.fact("stream", stream(&rows.stream, known))
        .fact("boot", rows.boot_ordinal.0)
        .fact("rows", rows.len())
        .fact("seq_first", rows.first_seq.0)
        .fact("seq_last", rows.seqs().end.saturating_sub(1))
        .told("schema", rows.fingerprint)
        .fact("kind", kind.map_or_else(|| Value::from("not declared here"), Value::from))
        .fact("stamps", rows.stamp_kind.as_str())
        .told("clock", rows.domain)
        .fact("unit_ns", unit)
        .fact("t_first_ns", first_ns)
        .fact("t_last_ns", last_ns)
}

fn refused_item(mut item: Item, refused: &Refused, known: &Known) -> Item {
    if let Some(of) = &refused.stream {
        item = item.fact("stream", stream(of, known));
    }
    if let Some(seqs) = &refused.seqs {
        item = item.fact("seq_first", seqs.start).fact("seq_last", seqs.end.saturating_sub(1));
    }
    item.damaged(with_sources(&refused.why))
}

fn column_item(at: usize, column: &ColumnLayout, schema: Option<&Schema>) -> Item {
    let name = match at.checked_sub(STAMPS.len()) {
        None => STAMPS.get(at).map(|name| (*name).to_owned()),
        Some(field) => schema.and_then(|s| s.fields.get(field)).map(|field| field.name.to_string()),
    };
    let item = Item::new(name.unwrap_or_else(|| format!("column {at}")));
    let physical =
        type_name(column.physical).map_or_else(|| format!("type {}", column.physical), str::to_owned);
    item.fact("type", physical)
        .fact("codec", codecs(column))
        .fact("bytes", column.small.len().saturating_add(column.dense.len()))
}

/// `nullable(ratio(delta))`, outermost first.
fn codecs(column: &ColumnLayout) -> String {
    const INTEGERS: u8 = 0;
    let mut physical = column.physical;
    let mut names = Vec::new();
    for codec in &column.codecs {
        let name = codec_name(physical, *codec);
        names.push(name.map_or_else(|| format!("unknown codec {codec}"), str::to_owned));
        // What a ratio wraps is a codec of integers.
        if name == Some("ratio") {
            physical = INTEGERS;
        }
    }
    let depth = names.len().saturating_sub(1);
    names.join("(") + &")".repeat(depth)
}

fn first(values: &[i64], n: usize) -> Vec<Value> {
    values.iter().take(n).map(|value| Value::from(*value)).collect()
}

fn told(column: &Column, n: usize) -> Vec<Value> {
    (0..n).map(|row| value(&column.value(row))).collect()
}

fn value(value: &sample::Value) -> Value {
    match value {
        sample::Value::Null => Value::Null,
        sample::Value::I64(n) => Value::from(*n),
        sample::Value::F64(x) => float(*x, || format!("{x} f64:{:016x}", x.to_bits())),
        sample::Value::F32(x) => {
            // The shortest decimal that is this single, not the longer one of the double it becomes.
            let shortest = x.to_string().parse().unwrap_or(f64::from(*x));
            float(shortest, || format!("{x} f32:{:08x}", x.to_bits()))
        }
        sample::Value::Utf8(text) => {
            let cut = headwater_core::gap::truncated(text, VALUE_BYTES_TOLD);
            Value::from(if cut.len() < text.len() { format!("{cut}… ({} bytes)", text.len()) } else { cut })
        }
        sample::Value::Bytes(bytes) => {
            let hex: String = bytes.iter().take(VALUE_BYTES_TOLD).map(|byte| format!("{byte:02x}")).collect();
            let cut = bytes.len() > VALUE_BYTES_TOLD;
            Value::from(if cut { format!("{hex}… ({} bytes)", bytes.len()) } else { hex })
        }
    }
}

/// JSON has no NaN, no infinity and no −0: these are told with their bits.
fn float(x: f64, bits: impl Fn() -> String) -> Value {
    let plain = x.is_finite() && !(x == 0.0 && x.is_sign_negative());
    if plain { Value::from(x) } else { Value::from(bits()) }
}

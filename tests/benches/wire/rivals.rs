//! The same rows in other people's formats.

use anyhow::Result;
use arrow_array::{ArrayRef, BinaryArray, Float32Array, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{IpcWriteOptions, StreamWriter};
use headwater_core::batch::{Column, Rows, Values};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use pco::ChunkConfig;
use pco::standalone::simple_compress;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Sizes of a batch, by name.
pub(super) fn sizes(rows: &Rows, names: &[String]) -> Result<Vec<(&'static str, usize)>> {
    let lines = json_lines(rows, names);
    let table = table(rows, names)?;
    Ok(vec![
        ("json_lz4", lz4_flex::block::compress_prepend_size(lines.as_bytes()).len()),
        ("json_zstd3", zstd::bulk::compress(lines.as_bytes(), 3)?.len()),
        ("arrow_ipc_zstd", arrow_ipc(&table)?),
        ("parquet_zstd3", parquet(&table)?),
        ("pco8", pco8(rows)?),
    ])
}

/// One object a row: names, seq and stamp in ns; bytes as hex, what is no number as null.
pub(crate) fn json_lines(rows: &Rows, names: &[String]) -> String {
    let mut out = String::new();
    for row in 0..rows.len() {
        let mut object = Map::new();
        object.insert("t_ns".to_owned(), json!(rows.t.get(row)));
        object.insert("seq".to_owned(), json!(rows.first_seq.0 + row as u64));
        for (name, field) in names.iter().zip(&rows.fields) {
            object.insert(name.clone(), cell(field, row));
        }
        out.push_str(&Value::Object(object).to_string());
        out.push('\n');
    }
    out
}

fn cell(field: &Column, row: usize) -> Value {
    match &field.values {
        Values::I64(v) => json!(v.get(row)),
        Values::F64(v) => json!(v.get(row)),
        // The shortest text of a single, not of the double it becomes.
        Values::F32(v) => {
            v.get(row).and_then(|x| x.to_string().parse::<f64>().ok()).map_or(Value::Null, |x| json!(x))
        }
        Values::Utf8(v) => json!(v.get(row)),
        Values::Bytes(v) => {
            let mut hex = String::new();
            for byte in v.get(row).into_iter().flatten() {
                hex.push_str(&format!("{byte:02x}"));
            }
            Value::String(hex)
        }
    }
}

fn table(rows: &Rows, names: &[String]) -> Result<RecordBatch> {
    let mut columns: Vec<(&str, ArrayRef)> = vec![("ts", Arc::new(Int64Array::from(rows.t.clone())))];
    for (name, field) in names.iter().zip(&rows.fields) {
        let array: ArrayRef = match &field.values {
            Values::I64(v) => Arc::new(Int64Array::from(v.clone())),
            Values::F64(v) => Arc::new(Float64Array::from(v.clone())),
            Values::F32(v) => Arc::new(Float32Array::from(v.clone())),
            Values::Bytes(v) => Arc::new(BinaryArray::from_iter_values(v)),
            Values::Utf8(v) => Arc::new(StringArray::from_iter_values(v)),
        };
        columns.push((name, array));
    }
    Ok(RecordBatch::try_from_iter(columns)?)
}

fn arrow_ipc(table: &RecordBatch) -> Result<usize> {
    let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::ZSTD))?;
    let mut writer = StreamWriter::try_new_with_options(Vec::new(), &table.schema(), options)?;
    writer.write(table)?;
    Ok(writer.into_inner()?.len())
}

fn parquet(table: &RecordBatch) -> Result<usize> {
    let properties =
        WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?)).build();
    let mut out = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut out, table.schema(), Some(properties))?;
    writer.write(table)?;
    writer.close()?;
    Ok(out.len())
}

/// Each column of numbers by pco at level 8, text and bytes by zstd 3.
fn pco8(rows: &Rows) -> Result<usize> {
    let config = ChunkConfig::default().with_compression_level(8);
    let joined = |values: &[&[u8]]| -> Result<usize> {
        let mut bytes: Vec<u8> = values.iter().map(|x| u8::try_from(x.len()).unwrap_or(u8::MAX)).collect();
        values.iter().for_each(|x| bytes.extend_from_slice(x));
        Ok(zstd::bulk::compress(&bytes, 3)?.len())
    };
    let mut total = simple_compress(&rows.t, &config)?.len();
    for field in &rows.fields {
        total += match &field.values {
            Values::I64(v) => simple_compress(v, &config)?.len(),
            Values::F64(v) => simple_compress(v, &config)?.len(),
            Values::F32(v) => simple_compress(v, &config)?.len(),
            Values::Bytes(v) => joined(&v.iter().map(Vec::as_slice).collect::<Vec<_>>())?,
            Values::Utf8(v) => joined(&v.iter().map(String::as_bytes).collect::<Vec<_>>())?,
        };
    }
    Ok(total)
}

//! Inputs to start from, made by code out of the golden files.

use headwater_core::batch::{
    Announced, Column, ColumnLayout, Effort, Encoder, Limits, Rows, Section, StreamRef, Values, decode_batch,
    explain,
};
use headwater_core::id::{BootOrdinal, Seq, StreamId};
use headwater_core::sample::Value;
use headwater_core::schema::Fingerprint;
use headwater_core::time::{ClockDomain, StampKind};
use headwater_core::wire::primitives::{Reader, put_uv};
use headwater_core::wire::{Envelope, MessageKind};
use std::path::Path;
use std::sync::LazyLock;

/// The files of a golden folder whose names end with `ext`, in order of name.
#[must_use]
pub fn golden(folder: &str, ext: &str) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden").join(folder);
    let mut paths: Vec<_> = std::fs::read_dir(&dir)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == ext))
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "no golden files in {}", dir.display());
    paths.iter().filter_map(|path| std::fs::read(path).ok()).collect()
}

/// Bodies of the golden messages of one kind.
#[must_use]
pub fn bodies(kind: MessageKind) -> Vec<Vec<u8>> {
    golden("wire/v1", "hw")
        .iter()
        .filter_map(|message| Envelope::parse(message).ok())
        .filter(|envelope| envelope.kind == kind)
        .map(|envelope| envelope.body.to_vec())
        .collect()
}

/// The two regions of a body, unpacked.
#[must_use]
pub fn regions(body: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut reader = Reader::new(body);
    let packing = reader.u8().ok()?;
    let raw_len = reader.len(Limits::V1.small_raw_bytes_max).ok()?;
    let small = match packing {
        0 => reader.take(raw_len).ok()?.to_vec(),
        1 => {
            let n = reader.len(reader.remaining()).ok()?;
            zstd::bulk::Decompressor::new().ok()?.decompress(reader.take(n).ok()?, raw_len).ok()?
        }
        _ => return None,
    };
    Some((small, reader.take_rest().to_vec()))
}

/// Bodies of every golden batch, and of each of its sections by itself for each reader and effort.
#[must_use]
pub fn batches() -> &'static [Vec<u8>] {
    static BATCHES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(made_batches);
    &BATCHES
}

fn made_batches() -> Vec<Vec<u8>> {
    let mut all = bodies(MessageKind::Batch);
    for body in all.clone() {
        let Ok(batch) = decode_batch(&body, &Limits::V1) else { continue };
        for section in batch.sections {
            let section = match section {
                Section::Rows(rows) if rows.len() > 300 => Section::Rows(rows.slice(0..300)),
                section => section,
            };
            for announced in readers() {
                all.push(Encoder::new(Effort::Metered, announced).encode(std::slice::from_ref(&section)));
            }
        }
    }
    all.sort();
    all.dedup();
    all
}

/// One that reads all, and for each codec one that reads it beside the baseline; none reads bare blocks.
fn readers() -> impl Iterator<Item = Announced> {
    let with = |codecs| Announced { codecs, ..Announced::BASELINE };
    let base = Announced::BASELINE.codecs;
    [with(0xffff), with(base)]
        .into_iter()
        .chain((4..16).filter(|n| *n != 7 && *n != 8).map(move |n| with(base | 1 << n)))
}

/// A column as it is written: its layout, its payload after the tag, its bytes in the dense region.
pub type Written = (ColumnLayout, usize, Vec<u8>, Vec<u8>);

/// Every column of the bodies in [`batches`], and of made-up ones with holes.
#[must_use]
pub fn columns() -> &'static [Written] {
    static COLUMNS: LazyLock<Vec<Written>> = LazyLock::new(written_columns);
    &COLUMNS
}

fn written_columns() -> Vec<Written> {
    let mut bodies = batches().to_vec();
    for announced in readers() {
        bodies.push(Encoder::new(Effort::Metered, announced).encode(&[Section::Rows(made_up())]));
    }
    for body in bodies.clone() {
        let Ok(batch) = decode_batch(&body, &Limits::V1) else { continue };
        for rows in batch.rows() {
            let holes = Rows { fields: rows.fields.iter().map(with_holes).collect(), ..rows.clone() };
            for announced in readers() {
                bodies.push(Encoder::new(Effort::Metered, announced).encode(&[Section::Rows(holes.clone())]));
            }
        }
    }
    let mut found = Vec::new();
    for body in &bodies {
        let (Some((small, dense)), Ok(layout)) = (regions(body), explain(body, &Limits::V1)) else {
            continue;
        };
        for section in layout.sections {
            let Section::Rows(rows) = &section.section else { continue };
            for column in &section.columns {
                let at =
                    |range: &std::ops::Range<usize>, start: usize| range.start + start..range.end + start;
                let payload = small[at(&column.small, section.small.start)].get(1..).unwrap_or_default();
                let dense = &dense[at(&column.dense, section.dense.start)];
                found.push((column.clone(), rows.len(), payload.to_vec(), dense.to_vec()));
            }
        }
    }
    found.sort_by(|a, b| (&a.2, &a.3).cmp(&(&b.2, &b.3)));
    found.dedup_by(|a, b| (&a.0.codecs, &a.2, &a.3) == (&b.0.codecs, &b.2, &b.3));
    found
}

/// A column of `f32` by pco, one row, that makes a decoder build its largest table.
const GREEDY: [u8; 27] = [
    0x4, 0x1, 0x0, 0x2e, 0x0, 0xf0, 0xff, 0xf, 0x0, 0x0, 0x0, 0x0, 0x0, 0x20, 0x1, 0x0, 0x0, 0x0, 0x0, 0x0,
    0x0, 0x0, 0x0, 0x0, 0x0, 0x0, 0x0,
];

/// Bodies of hardly more than their limits allow, made to cost as much as a reader can be made to pay.
#[must_use]
pub fn bombs() -> Vec<Vec<u8>> {
    // Fields, rows, then for each field its bytes in the small and in the dense region.
    let column = |tag: u8, payload: &[u8]| [&[tag], payload].concat();
    let of = |fields: usize, rows: usize, column: Vec<u8>, dense: &[u8]| {
        bomb(rows, &vec![column; fields], &dense.repeat(fields))
    };
    let long = {
        let rows = 200_000;
        let mut payload = vec![0, 0, 0];
        payload.extend(vec![0; rows - 1]);
        put_uv(&mut payload, 65_000);
        payload.extend(vec![1; 65_000]);
        bomb(rows, &[column(0x39, &payload)], &[])
    };
    let runs = |n: u8, inner: &[u8]| {
        [
            &[n, 1],
            &[0, 256 - u16::from(n), u16::from(n)].iter().flat_map(|n| uv(*n)).collect::<Vec<_>>()[..],
            inner,
        ]
        .concat()
    };
    let mut all = vec![
        long,
        of(4_090, 64, column(0x40, b"\x0ffifteen letters"), &[]),
        of(4_090, 255, column(0x40, b"\x0ffifteen letters"), &[]),
        of(4_090, 256, column(0x48, &runs(100, b"\x40\x0ffifteen letters")), &[]),
        of(4_000, 86, column(0x4e, &[0; 86]), &[]),
        of(4_000, 86, column(0x4e, b"x\0".repeat(86).as_slice()), &[]),
        of(4_000, 86, column(0x42, &[0; 86]), &[]),
        of(4_090, 250, column(0x01, &[0; 250]), &[]),
        of(
            4_090,
            250,
            column(0x1d, &[0x81, 0x01, 3].iter().copied().chain([2; 250]).collect::<Vec<_>>()),
            &[],
        ),
        // One key is shared by all rows, so one length: an empty value each.
        of(4_000, 250, column(0x39, &[1, 0, 1]), &[]),
        of(4_000, 250, column(0x2a, &[0; 1_000]), &[]),
        of(4_090, 1, column(0x2f, &[27]), &GREEDY),
    ];
    all.push(packed(250, &section(1, 4_090, &[0x00, 0].repeat(4_090), 0).repeat(250), &[]));
    // Greedy columns in many sections, each of which is refused by itself.
    all.push(sections(250, 1, &column(0x2f, &[27]), &GREEDY));
    all
}

fn uv(n: u16) -> Vec<u8> {
    let mut out = Vec::new();
    put_uv(&mut out, n.into());
    out
}

fn bomb(rows: usize, columns: &[Vec<u8>], dense: &[u8]) -> Vec<u8> {
    packed(1, &section(rows, columns.len(), &columns.concat(), dense.len()), dense)
}

fn sections(n: usize, rows: usize, column: &[u8], dense: &[u8]) -> Vec<u8> {
    // A second column of no type refuses each.
    let one = section(rows, 17, &[column.repeat(16), vec![0xff]].concat(), dense.len() * 16);
    packed(n, &one.repeat(n), &dense.repeat(n * 16))
}

fn section(rows: usize, fields: usize, columns: &[u8], dense: usize) -> Vec<u8> {
    let mut section = vec![0, 1, 0x78, 0x56, 0x34, 0x12, 3, 5];
    put_uv(&mut section, rows as u64);
    section.extend_from_slice(&[3, 0, 0]);
    put_uv(&mut section, fields as u64 + 3);
    section.extend_from_slice(&[0; 6]);
    section.extend_from_slice(columns);
    let mut out = Vec::new();
    put_uv(&mut out, section.len() as u64);
    put_uv(&mut out, dense as u64);
    out.extend_from_slice(&section);
    out
}

fn packed(n: usize, sections: &[u8], dense: &[u8]) -> Vec<u8> {
    let mut small = Vec::new();
    put_uv(&mut small, n as u64);
    small.extend_from_slice(sections);
    let frame = zstd::bulk::compress(&small, 3).expect("zstd packs anything");
    let mut body = vec![1];
    put_uv(&mut body, small.len() as u64);
    put_uv(&mut body, frame.len() as u64);
    body.extend_from_slice(&frame);
    body.extend_from_slice(dense);
    assert!(body.len() <= crate::INPUT_BYTES_MAX, "{} bytes are no message", body.len());
    body
}

/// A column of each shape some codec is for.
fn made_up() -> Rows {
    const N: i64 = 200;
    let ramp = |by: f64| (0..N).map(|i| (i * 70_001 + i * i / 90) as f64 / by).collect::<Vec<_>>();
    let wave = |by: f64| (0..N).map(|i| (i * i * 7 % 1_009) as f64 / by).collect::<Vec<_>>();
    let floats = |values: Vec<f64>| Column { values: Values::F64(values), valid: None };
    #[expect(clippy::cast_possible_truncation, reason = "singles are wanted")]
    let singles = |values: Vec<f64>| Column {
        values: Values::F32(values.into_iter().map(|x| x as f32).collect()),
        valid: None,
    };
    let patch = |mut values: Vec<f64>| {
        values.iter_mut().step_by(41).for_each(|x| *x = -0.0);
        values
    };
    let ids: Vec<i64> = (0..N).map(|i| [9, 70_000, 2_015][usize::try_from(i * i % 3).unwrap_or(0)]).collect();
    let frame = |(i, id): (u8, &i64)| vec![i / 9; if *id == 9 { 3 } else { 8 }];
    let frames = (0..200_u8).zip(&ids).map(frame).collect();
    let texts =
        (0..N).map(|i| format!("$GPGGA,{},{}", i * i, "y".repeat(usize::try_from(i % 5).unwrap_or(0))));
    let fields = vec![
        Column::integers(ids.clone()),
        Column { values: Values::Bytes(frames), valid: None },
        floats(ramp(100.0)),
        floats(patch(ramp(10.0))),
        floats(wave(100.0)),
        floats(wave(418.0)),
        floats(patch(wave(418.0))),
        floats(wave(3.0).into_iter().map(f64::sqrt).collect()),
        singles(ramp(1_000.0)),
        singles(wave(10.0)),
        singles(patch(wave(418.0))),
        singles(wave(3.0).into_iter().map(f64::sqrt).collect()),
        Column { values: Values::Utf8(texts.collect()), valid: None },
        Column::integers((0..N).map(|i| i * i * i % 70_001).collect()),
    ];
    let n = ids.len();
    Rows {
        stream: StreamRef::Id(StreamId(1)),
        fingerprint: Fingerprint(1),
        boot_ordinal: BootOrdinal(1),
        first_seq: Seq(0),
        time_exp: 3,
        stamp_kind: StampKind::Instant,
        domain: ClockDomain::BOOT,
        t: (0..N).map(|i| i * 5_000 + i % 3).collect(),
        lat_lo: vec![0; n],
        lat_hi: vec![20; n],
        fields,
    }
}

fn with_holes(column: &Column) -> Column {
    let mut holed = Column::new(column.physical());
    for row in 0..column.len() {
        let value = if row % 5 == 3 { Value::Null } else { column.value(row) };
        assert!(holed.push(&value), "a column takes its own values");
    }
    holed
}

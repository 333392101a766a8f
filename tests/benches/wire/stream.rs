//! Recorded streams as CSV: `name:type` headers, stamps in ns first; and how they are cut into batches.

use anyhow::{Context, Result, bail};
use headwater_core::batch::{Column, Rows, Section, StreamRef, Values};
use headwater_core::id::{BootOrdinal, Seq, StreamId};
use headwater_core::schema::Fingerprint;
use headwater_core::time::{ClockDomain, StampKind};
use std::ops::Range;
use std::path::Path;

/// One recording.
#[derive(Debug)]
pub(crate) struct Stream {
    /// Of the fields, without the stamp's.
    pub(crate) names: Vec<String>,
    pub(crate) t_ns: Vec<i64>,
    pub(crate) fields: Vec<Column>,
}

impl Stream {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))?;
        // Sentences hold commas.
        let raw = path.file_stem().is_some_and(|stem| stem.to_string_lossy().ends_with("_raw"));
        let separator = if raw { '\t' } else { ',' };
        let mut lines = text.lines();
        let mut names = Vec::new();
        let mut fields = Vec::new();
        for head in lines.next().unwrap_or_default().split(separator).skip(1) {
            let (name, kind) =
                head.split_once(':').with_context(|| format!("column {head:?} has no type"))?;
            names.push(name.to_owned());
            let values = match kind {
                "i64" => Values::I64(Vec::new()),
                "f64" => Values::F64(Vec::new()),
                "f32" => Values::F32(Vec::new()),
                "hex" => Values::Bytes(Vec::new()),
                "str" => Values::Utf8(Vec::new()),
                kind => bail!("column {name} has unknown type {kind}"),
            };
            fields.push(Column { values, valid: None });
        }
        let mut t_ns = Vec::new();
        for line in lines {
            let mut cells = line.split(separator);
            let stamp = cells.next().unwrap_or_default();
            t_ns.push(stamp.parse().with_context(|| format!("stamp {stamp:?}"))?);
            for (field, cell) in fields.iter_mut().zip(cells) {
                push(&mut field.values, cell).with_context(|| format!("value {cell:?}"))?;
            }
        }
        Ok(Self { names, t_ns, fields })
    }

    /// The rows `range` as the only section of a batch. A stamp stays in ns.
    pub(super) fn section(&self, range: Range<usize>) -> Section {
        let n = range.len();
        Section::Rows(Rows {
            stream: StreamRef::Id(StreamId(1)),
            fingerprint: Fingerprint(0x1234_5678),
            boot_ordinal: BootOrdinal(3),
            first_seq: Seq(range.start as u64),
            time_exp: 0,
            stamp_kind: StampKind::Instant,
            domain: ClockDomain::BOOT,
            t: self.t_ns.get(range.clone()).unwrap_or_default().to_vec(),
            lat_lo: vec![0; n],
            lat_hi: vec![20_000_000; n],
            fields: self.fields.iter().map(|field| field.slice(range.clone())).collect(),
        })
    }

    /// Ranges of the batches to score: `rN` blocks of N rows, `tN` windows of N s; an incomplete tail is
    /// dropped, and of 16 and more only the second half counts.
    pub(super) fn cut(&self, batch: &str) -> Result<Vec<Range<usize>>> {
        let (form, n) = batch.split_at(1);
        let n: usize = n.parse().with_context(|| format!("batch {batch:?}"))?;
        let rows = self.t_ns.len();
        let mut cuts = Vec::new();
        if form == "r" {
            cuts.extend((0..rows / n).map(|block| block * n..(block + 1) * n));
        } else {
            let window_ns = i64::try_from(n)? * 1_000_000_000;
            let mut start = 0;
            while let Some(first) = self.t_ns.get(start) {
                let rest = self.t_ns.iter().skip(start);
                let end = start + rest.take_while(|t| **t < first + window_ns).count();
                cuts.push(start..end);
                start = end;
            }
            if cuts.len() > 2 {
                cuts.pop();
            }
        }
        if cuts.len() >= 16 {
            cuts.drain(..cuts.len() / 2);
        }
        cuts.truncate(400);
        Ok(cuts)
    }
}

/// A missing value is NaN.
fn push(values: &mut Values, cell: &str) -> Result<()> {
    match values {
        Values::I64(v) => v.push(cell.parse()?),
        Values::F64(v) => v.push(if cell.is_empty() { f64::NAN } else { cell.parse()? }),
        Values::F32(v) => v.push(if cell.is_empty() { f32::NAN } else { cell.parse()? }),
        Values::Bytes(v) => v.push(
            (0..cell.len() / 2)
                .map(|at| Ok(u8::from_str_radix(cell.get(2 * at..2 * at + 2).unwrap_or_default(), 16)?))
                .collect::<Result<_>>()?,
        ),
        Values::Utf8(v) => v.push(cell.to_owned()),
    }
    Ok(())
}

/// Bytes of the values as an array holds them; text and bytes with one for their length.
pub(super) fn raw_bytes(rows: &Rows) -> usize {
    let field = |column: &Column| match &column.values {
        Values::I64(v) => v.len() * 8,
        Values::F64(v) => v.len() * 8,
        Values::F32(v) => v.len() * 4,
        Values::Bytes(v) => v.iter().map(|x| x.len() + 1).sum(),
        Values::Utf8(v) => v.iter().map(|x| x.len() + 1).sum(),
    };
    rows.len() * 8 + rows.fields.iter().map(field).sum::<usize>()
}

/// The same of a section.
pub(super) fn raw_bytes_of(section: &Section) -> usize {
    if let Section::Rows(rows) = section { raw_bytes(rows) } else { 0 }
}

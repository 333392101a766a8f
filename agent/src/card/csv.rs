//! `export --format csv`: a table per stream and its pictures as files, for a look without a collector.

use super::CardError;
use super::clocks::Clocks;
use super::export::DraftFile;
use super::ls::{check_stream, utc_text};
use super::segment::Frame;
use super::survey::Card;
use super::when::Select;
use crate::spool::disk::RealDisk;
use crate::spool::payload::Declared;
use headwater_core::batch::Rows;
use headwater_core::id::{Epoch, StreamId, StreamName};
use headwater_core::ports::{Disk, Slab};
use headwater_core::sample::{Blob, Value};
use headwater_core::schema::{Field, Fingerprint, Logical};
use headwater_core::time::{BootNanos, ClockDomain};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Columns before the schema's fields. `utc` is what the gateway believed, `t_ns` what it knew.
const STAMPS: &str = "epoch,boot,seq,clock,t_ns,lat_lo_ns,lat_hi_ns,stamp,utc";

/// What was written.
#[derive(Debug, Serialize)]
pub struct CsvReport {
    /// The folder.
    pub dir: PathBuf,
    /// Rows by file.
    pub files: BTreeMap<String, u64>,
    /// Blobs written as files.
    pub blobs: u64,
    /// Stretches that could not be read and are left out; `fsck` names them.
    pub damaged: u64,
    /// Rows whose names and types are not on the card.
    pub undeclared: u64,
}

/// A table under way. A stream that changed its schema goes on in another file.
struct Table {
    declared: Declared,
    name: String,
    file: DraftFile,
    rows: u64,
}

/// Writes the rows of `select` below `dir`, which must not hold an export yet. `seen` is told of the bytes gone through.
///
/// # Errors
/// [`CardError::Write`]; tables that were not finished are not left behind.
pub fn export_csv(
    card: &Card,
    select: &Select,
    dir: &Path,
    mut seen: impl FnMut(u64),
) -> Result<CsvReport, CardError> {
    check_stream(card, select)?;
    let clocks = Clocks::read(card);
    select.check(&clocks, card.boots())?;
    let failed = |source| CardError::Write { path: dir.to_owned(), source };
    RealDisk.create_dir_all(dir).map_err(failed)?;
    let mut out = Tables { clocks, dir, tables: BTreeMap::new(), blobs: 0, undeclared: 0 };
    let names = card.names();
    let mut damaged = card.unreadable.len() as u64;
    for segment in &card.segments {
        let Some(header) = segment.header else {
            damaged = damaged.saturating_add(1);
            continue;
        };
        let at = (header.epoch, header.boot_ordinal);
        let mut stopped: Option<CardError> = None;
        let scanned = segment.go_through(|_, head, frame| {
            let named = names.get(&(header.epoch, head.meta.stream)).map(|(name, _)| name);
            let skip = !select.wants_stream(named) || !select.overlaps(&out.clocks, at, head.meta.times);
            if skip || stopped.is_some() {
                return;
            }
            match frame {
                Frame::Slab(slab) => {
                    let declared = segment.declared.get(&head.meta.stream);
                    stopped = out.slab(header.epoch, declared, &slab, select).map_err(failed).err();
                }
                Frame::Misfit => damaged = damaged.saturating_add(1),
                _ => {}
            }
        });
        if let Some(error) = stopped {
            return Err(error);
        }
        match scanned {
            Ok(found) => {
                let tail = found.tail.filter(|_| !card.in_use).map_or(0, |_| 1);
                damaged = damaged.saturating_add(found.holes.len() as u64).saturating_add(tail);
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(_) => damaged = damaged.saturating_add(1),
        }
        seen(segment.len);
    }
    let (blobs, undeclared) = (out.blobs, out.undeclared);
    let mut files = BTreeMap::new();
    for table in out.tables.into_values() {
        table.file.finish().map_err(failed)?;
        files.insert(table.name, table.rows);
    }
    Ok(CsvReport { dir: dir.to_owned(), files, blobs, damaged, undeclared })
}

struct Tables<'a> {
    clocks: Clocks,
    dir: &'a Path,
    tables: BTreeMap<(Epoch, StreamId, Fingerprint), Table>,
    blobs: u64,
    undeclared: u64,
}

impl Tables<'_> {
    fn slab(
        &mut self,
        epoch: Epoch,
        declared: Option<&Declared>,
        slab: &Slab,
        select: &Select,
    ) -> std::io::Result<()> {
        let rows = &slab.rows;
        let declared = declared.filter(|declared| declared.schema.fingerprint() == rows.fingerprint);
        let Some(declared) = declared.filter(|declared| rows.follows(&declared.schema)) else {
            self.undeclared = self.undeclared.saturating_add(rows.len() as u64);
            return Ok(());
        };
        let key = (epoch, declared.id, rows.fingerprint);
        if !self.tables.contains_key(&key) {
            let table = self.begin(declared)?;
            self.tables.insert(key, table);
        }
        for row in 0..rows.len() {
            let boot = rows.domain == ClockDomain::BOOT;
            let at = rows.t_ns(row).filter(|_| boot).map(|ns| (BootNanos(ns), BootNanos(ns)));
            if !select.overlaps(&self.clocks, (epoch, rows.boot_ordinal), at) {
                continue;
            }
            let picture = match &slab.blob {
                Some(blob) => Some(self.picture(epoch, &declared.name, rows, blob)?),
                None => None,
            };
            let utc = at
                .and_then(|(at, _)| Some(at.0.saturating_add(self.clocks.offset(epoch, rows.boot_ordinal)?)));
            let Some(table) = self.tables.get_mut(&key) else { continue };
            let line = line(epoch, rows, row, utc, picture.as_deref(), &table.declared.schema.fields);
            table.file.write_all(line.as_bytes())?;
            table.rows = table.rows.saturating_add(1);
        }
        Ok(())
    }

    fn begin(&self, declared: &Declared) -> std::io::Result<Table> {
        let base = plain(declared.name.as_str());
        let taken = |name: &String| self.tables.values().any(|table| table.name == *name);
        let numbered = (2_u32..).map(|n| format!("{base}.{n}.csv"));
        let name = std::iter::once(format!("{base}.csv")).chain(numbered).find(|name| !taken(name));
        let name = name.unwrap_or_default();
        let mut file = DraftFile::create(&self.dir.join(&name))?;
        let fields = declared.schema.fields.iter().map(|field| match field.unit.as_str() {
            "1" => quoted(field.name.as_str()),
            unit => quoted(&format!("{} [{unit}]", field.name)),
        });
        writeln!(file, "{}", std::iter::once(STAMPS.to_owned()).chain(fields).collect::<Vec<_>>().join(","))?;
        Ok(Table { declared: declared.clone(), name, file, rows: 0 })
    }

    /// Writes the blob of a row; gives its name below the folder.
    fn picture(
        &mut self,
        epoch: Epoch,
        name: &StreamName,
        rows: &Rows,
        blob: &Blob,
    ) -> std::io::Result<String> {
        let folder = plain(name.as_str());
        RealDisk.create_dir_all(&self.dir.join(&folder))?;
        // Seqs begin anew with each life of a spool.
        let name = format!("{folder}/{epoch}-{:010}.{}", rows.first_seq.0, extension(&blob.mime));
        let path = self.dir.join(&name);
        // A slab that was written twice after a failed sync.
        if !path.exists() {
            let mut file = DraftFile::create(&path)?;
            file.write_all(&blob.bytes)?;
            file.finish()?;
            self.blobs = self.blobs.saturating_add(1);
        }
        Ok(name)
    }
}

/// A name that is one file's.
fn plain(stream: &str) -> String {
    stream.replace('/', "+")
}

fn extension(mime: &str) -> &'static str {
    match mime {
        "image/jpeg" => "jpg",
        "image/png" => "png",
        _ => "bin",
    }
}

fn line(
    epoch: Epoch,
    rows: &Rows,
    row: usize,
    utc: Option<i64>,
    picture: Option<&str>,
    fields: &[Field],
) -> String {
    let latency = |column: &[i64]| column.get(row).copied().unwrap_or(0).to_string();
    let mut cells = vec![
        epoch.to_string(),
        rows.boot_ordinal.0.to_string(),
        rows.first_seq.0.saturating_add(row as u64).to_string(),
        rows.domain.to_string(),
        rows.t_ns(row).map(|ns| ns.to_string()).unwrap_or_default(),
        latency(&rows.lat_lo),
        latency(&rows.lat_hi),
        rows.stamp_kind.as_str().to_owned(),
        utc.map(utc_text).unwrap_or_default(),
    ];
    for (field, column) in fields.iter().zip(&rows.fields) {
        cells.push(cell(&field.logical, column.value(row), picture));
    }
    let mut line = cells.join(",");
    line.push('\n');
    line
}

fn cell(logical: &Logical, value: Value, picture: Option<&str>) -> String {
    match (value, logical) {
        (Value::Null, _) => String::new(),
        (Value::I64(n), Logical::Bool) => (n != 0).to_string(),
        (Value::I64(n), Logical::U64) => n.cast_unsigned().to_string(),
        (Value::I64(n), Logical::Enum(names)) => usize::try_from(n)
            .ok()
            .and_then(|n| names.get(n))
            .map_or_else(|| n.to_string(), |name| quoted(name)),
        #[expect(clippy::cast_precision_loss, reason = "as a float column of the lake would have it")]
        (Value::I64(n), Logical::Scaled { num, den, offset }) => {
            (n as f64 * *num as f64 / *den as f64 + *offset as f64).to_string()
        }
        (Value::I64(n), _) => n.to_string(),
        (Value::F64(x), _) => x.to_string(),
        (Value::F32(x), _) => x.to_string(),
        (Value::Utf8(text), _) => quoted(&text),
        (Value::Bytes(_), Logical::Blob) => picture.map(quoted).unwrap_or_default(),
        (Value::Bytes(bytes), _) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

/// As RFC 4180 has it.
fn quoted(text: &str) -> String {
    if text.contains(['"', ',', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

impl Display for CsvReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, rows) in &self.files {
            writeln!(f, "{rows} rows in {}", self.dir.join(name).display())?;
        }
        if self.files.is_empty() {
            writeln!(f, "no rows are meant")?;
        }
        if self.blobs > 0 {
            writeln!(f, "{} pictures and other blobs beside them", self.blobs)?;
        }
        if self.damaged > 0 {
            writeln!(
                f,
                "! {} stretches could not be read and are left out; `spool fsck` names them",
                self.damaged
            )?;
        }
        if self.undeclared > 0 {
            writeln!(
                f,
                "! {} rows are left out: names and types of their fields are not on this card",
                self.undeclared
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_written_as_spreadsheets_read_them() {
        assert_eq!(quoted("plain"), "plain");
        assert_eq!(quoted("a,\"b\"\n"), "\"a,\"\"b\"\"\n\"");
        let scaled = Logical::Scaled { num: 1, den: 100, offset: -40 };
        let colours = Logical::Enum(vec!["red".into(), "green, light".into()]);
        for (logical, value, expected) in [
            (&Logical::Bool, Value::I64(1), "true"),
            (&Logical::U64, Value::I64(-1), "18446744073709551615"),
            (&scaled, Value::I64(4_250), "2.5"),
            (&colours, Value::I64(1), "\"green, light\""),
            (&colours, Value::I64(9), "9"),
            (&Logical::F32, Value::F32(0.1), "0.1"),
            (&Logical::Bytes, Value::Bytes(vec![0, 255]), "00ff"),
            (&Logical::Blob, Value::Bytes(vec![0; 40]), "camera/1.jpg"),
            (&Logical::Utf8, Value::Null, ""),
        ] {
            assert_eq!(cell(logical, value, Some("camera/1.jpg")), expected);
        }
    }
}

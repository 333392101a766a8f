//! `export --format messages`: the rows of a card as a file that `headwater import` takes in as if it had received it.

use super::CardError;
use super::clocks::Clocks;
use super::ls::check_stream;
use super::messages::{Made, MessageMaker};
use super::segment::Frame;
use super::survey::Card;
use super::when::Select;
use crate::spool::disk::RealDisk;
use headwater_core::batch::StreamRef;
use headwater_core::export::{ExportWriter, Origin};
use headwater_core::id::{BootId, DevicePath, Seq, StreamName};
use headwater_core::ports::{Disk, DiskFile};
use headwater_core::wire::{
    Capabilities, Hello, HelloStream, Lane, MESSAGE_BYTES_SENT_MAX, MessageKind, SigningKey,
};
use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt::{self, Display};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Name and version in exports.
const SOFTWARE: &str = concat!("headwater-agent ", env!("CARGO_PKG_VERSION"));
/// Bytes collected between two writes.
const WRITE_BYTES: usize = 1 << 20;

/// The gateway's own key and the chain that proves it.
#[derive(Debug, Clone)]
pub struct MessageSigner {
    /// Signs.
    pub key: Arc<SigningKey>,
    /// Leaf first, DER.
    pub chain: Vec<Vec<u8>>,
    /// A random number for the hello.
    pub nonce: [u8; 16],
}

/// What was exported.
#[derive(Debug, Serialize)]
pub struct ExportReport {
    /// The file.
    pub file: PathBuf,
    /// Whose card it is.
    pub device: String,
    /// Signed by its own key.
    pub signed: bool,
    /// Messages.
    pub messages: u64,
    /// Rows.
    pub rows: u64,
    /// Blobs.
    pub blobs: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Stretches that could not be read and are left out; `fsck` names them.
    pub damaged: u64,
    /// Rows that no message can hold.
    pub withheld: u64,
    /// Rows whose declaration is not on the card; the collector may know it.
    pub undeclared: u64,
}

/// Writes the rows of `select` to `out`, whole slabs at a time, and all of Headwater's own streams with them: control
/// first, so that clocks are known before what they time. `seen` is told of the bytes gone through.
///
/// # Errors
/// [`CardError::Write`]; nothing is left in `out`'s place then.
pub fn export_messages(
    card: &Card,
    select: &Select,
    device: &DevicePath,
    signer: Option<MessageSigner>,
    out: &Path,
    mut seen: impl FnMut(u64),
) -> Result<ExportReport, CardError> {
    check_stream(card, select)?;
    let clocks =
        if select.since.is_some() || select.until.is_some() { Clocks::read(card) } else { Clocks::default() };
    select.check(&clocks, card.boots())?;
    let failed = |source| CardError::Write { path: out.to_owned(), source };
    let mut draft = DraftFile::create(out).map_err(failed)?;
    let origin = Origin { device: device.clone(), software: SOFTWARE.to_owned(), signed: signer.is_some() };
    let mut writer = ExportWriter::new(&mut draft, &origin).map_err(failed)?;
    let mut maker = MessageMaker::new(device.clone(), signer.clone());
    if let Some(signer) = &signer {
        put(&mut writer, vec![hello(card, signer, &maker)?]).map_err(failed)?;
    }
    let (mut damaged, mut undeclared) = (card.unreadable.len() as u64, 0_u64);
    let names = card.names();
    for segment in &card.segments {
        let Some(header) = segment.header else {
            damaged = damaged.saturating_add(1);
            continue;
        };
        let (epoch, boot) = (header.epoch, header.boot_ordinal);
        let wanted: BTreeSet<_> = segment
            .summary
            .streams
            .iter()
            .filter(|(id, part)| {
                let name = names.get(&(epoch, **id)).map(|(name, _)| name);
                explains(name)
                    || select.wants_stream(name) && select.overlaps(&clocks, (epoch, boot), part.times)
            })
            .map(|(id, _)| *id)
            .collect();
        if !wanted.is_empty() {
            put(&mut writer, maker.turn((epoch, boot), header.series.lane)?).map_err(failed)?;
            let mut stopped: Option<CardError> = None;
            let scanned = segment.go_through(|_, head, frame| {
                if stopped.is_some() || !wanted.contains(&head.meta.stream) {
                    return;
                }
                let made = match frame {
                    Frame::Declared(declared) => {
                        maker.declare(epoch, &declared).map(|made| made.into_iter().collect())
                    }
                    Frame::Slab(slab)
                        if explains(names.get(&(epoch, head.meta.stream)).map(|(name, _)| name))
                            || select.overlaps(&clocks, (epoch, boot), head.meta.times) =>
                    {
                        if let StreamRef::Id(id) = slab.rows.stream
                            && !maker.knows(epoch, id, slab.rows.fingerprint)
                        {
                            undeclared = undeclared.saturating_add(slab.rows.len() as u64);
                        }
                        maker.push(epoch, slab, head.meta.times)
                    }
                    Frame::Misfit => {
                        damaged = damaged.saturating_add(1);
                        Ok(Vec::new())
                    }
                    _ => Ok(Vec::new()),
                };
                let written = made.and_then(|made| put(&mut writer, made).map_err(failed));
                stopped = written.err();
            });
            if let Some(error) = stopped {
                return Err(error);
            }
            match scanned {
                Ok(found) => {
                    let tail = found.tail.filter(|_| !card.in_use).map_or(0, |_| 1);
                    damaged = damaged.saturating_add(found.holes.len() as u64).saturating_add(tail);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(_) => damaged = damaged.saturating_add(1),
            }
        }
        seen(segment.len);
    }
    put(&mut writer, maker.flush()?).map_err(failed)?;
    let totals = writer.totals();
    writer.finish().map_err(failed)?;
    let bytes = draft.finish().map_err(failed)?;
    Ok(ExportReport {
        file: out.to_owned(),
        device: device.to_string(),
        signed: signer.is_some(),
        messages: totals.messages,
        rows: totals.rows,
        blobs: totals.blobs,
        bytes,
        damaged,
        withheld: maker.withheld,
        undeclared,
    })
}

/// Clock and gap rows go along whatever is meant: without them the rest is timed worse, and its holes have no reason.
fn explains(name: Option<&StreamName>) -> bool {
    name.is_some_and(|name| name.as_str().starts_with("hw/"))
}

fn put<W: Write>(writer: &mut ExportWriter<W>, made: Vec<Made>) -> io::Result<()> {
    made.iter().try_for_each(|made| writer.add(&made.exported, made.rows, made.blobs))
}

/// The hello with which the gateway would have begun: it carries the chain of its key.
fn hello(card: &Card, signer: &MessageSigner, maker: &MessageMaker) -> Result<Made, CardError> {
    let newest = card.boots().max_by_key(|(_, boot)| *boot);
    let epoch =
        card.identity.epoch.or(newest.map(|(epoch, _)| epoch)).unwrap_or(headwater_core::id::Epoch(0));
    let (boot_ordinal, boot_id) = match card.identity.boot {
        Some(boot) => boot,
        None => (newest.map_or(headwater_core::id::BootOrdinal(0), |(_, boot)| boot), BootId([0; 16])),
    };
    let next = card.next_seqs();
    let streams = next.iter().filter(|((of, _), _)| *of == epoch).map(|((_, id), next_seq)| {
        let held = card.segments.iter().filter(|segment| segment.summary.epoch == epoch);
        let oldest = held.filter_map(|segment| segment.summary.streams.get(id)?.seqs.iter().next());
        let oldest = oldest.map(|range| range.start).min().unwrap_or(*next_seq);
        HelloStream { id: *id, next_seq: Seq(*next_seq), oldest_held: Seq(oldest), unacked: Vec::new() }
    });
    let hello = Hello {
        boot_ordinal,
        boot_id,
        capabilities: Capabilities::ours(SOFTWARE),
        message_bytes_max: MESSAGE_BYTES_SENT_MAX as u64,
        streams: streams.collect(),
        chain: signer.chain.clone(),
        nonce: signer.nonce,
    };
    maker.message(MessageKind::Hello, epoch, Lane::Control, hello.to_body(), (0, 0))
}

/// A file that takes its name only once it is whole and synced.
#[derive(Debug)]
pub(super) struct DraftFile {
    file: <RealDisk as Disk>::File,
    draft: PathBuf,
    path: PathBuf,
    at: u64,
    buffer: Vec<u8>,
    done: bool,
}

impl DraftFile {
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        if path.exists() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".part");
        let draft = path.with_file_name(name);
        // Left by a run that was ended.
        match RealDisk.unlink(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = RealDisk.create(&draft)?;
        Ok(Self { file, draft, path: path.to_owned(), at: 0, buffer: Vec::new(), done: false })
    }

    fn write_out(&mut self) -> io::Result<()> {
        self.file.write_at(&self.buffer, self.at)?;
        self.at = self.at.saturating_add(self.buffer.len() as u64);
        self.buffer.clear();
        Ok(())
    }

    /// Makes it durable under its name; gives its length.
    pub(super) fn finish(mut self) -> io::Result<u64> {
        self.write_out()?;
        self.file.sync()?;
        RealDisk.rename(&self.draft, &self.path)?;
        self.done = true;
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        RealDisk.sync_dir(folder.unwrap_or(Path::new(".")))?;
        Ok(self.at)
    }
}

impl Write for DraftFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= WRITE_BYTES {
            self.write_out()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.write_out()
    }
}

impl Drop for DraftFile {
    fn drop(&mut self) {
        if !self.done
            && let Err(error) = RealDisk.unlink(&self.draft)
        {
            tracing::debug!(%error, "half an export stays beside its place");
        }
    }
}

impl Display for ExportReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} rows and {} blobs of {} in {} messages, {}, written to {}",
            self.rows,
            self.blobs,
            self.device,
            self.messages,
            crate::status::bytes(self.bytes),
            self.file.display()
        )?;
        match self.signed {
            true => writeln!(f, "signed by the gateway's own key")?,
            false => writeln!(f, "not signed: whoever imports it signs it, and the lake says so")?,
        }
        if self.damaged > 0 {
            writeln!(
                f,
                "! {} stretches could not be read and are left out; `spool fsck` names them",
                self.damaged
            )?;
        }
        if self.withheld > 0 {
            writeln!(f, "! {} rows fit no message and are left out; `--format csv` has them", self.withheld)?;
        }
        if self.undeclared > 0 {
            writeln!(
                f,
                "! {} rows are not declared on this card; the collector may know them",
                self.undeclared
            )?;
        }
        writeln!(f, "next: headwater import --config collector.toml {}", self.file.display())
    }
}

//! Reads an export record by record, believes no length before it is checked, and says how far it was sound.

use super::{
    Exported, HEAD_BYTES, HEADER_BYTES, KIND_END, KIND_MESSAGE, KIND_ORIGIN, KIND_UNSIGNED, MAGIC, Origin,
    PAYLOAD_BYTES_MAX, SOFTWARE_BYTES_MAX, Totals, VERSION, crc,
};
use crate::id::{DevicePath, Epoch, NAME_BYTES_MAX};
use crate::wire::primitives::{PrimitiveError, Reader};
use crate::wire::{Lane, MessageKind, Sent};
use ring::digest;
use std::io::{self, Read};

/// Why an export cannot be read on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The medium failed.
    #[error("failed to read the export")]
    Io(#[source] io::Error),
    /// Another file.
    #[error("file is no export of a spool; make one with `headwater-agent spool export --format messages`")]
    NotExport,
    /// Of another version.
    #[error("export has version {0}, this program reads version {VERSION}; upgrade it")]
    Version(u16),
    /// It ends without an end record.
    #[error("export is cut short after {records} records; copy it again")]
    Cut {
        /// Sound records before the cut.
        records: u64,
    },
    /// A record does not fit its sum, or holds what none can.
    #[error("record {record} of the export is damaged; copy it again")]
    Damaged {
        /// Its number.
        record: u64,
    },
    /// Sound, and not where it may be.
    #[error("record {record} of the export is out of place: {what}")]
    Place {
        /// Its number.
        record: u64,
        /// What is wrong.
        what: &'static str,
    },
}

impl From<PrimitiveError> for Misread {
    fn from(_: PrimitiveError) -> Self {
        Self
    }
}

/// A payload whose sum is right and whose content is not.
struct Misread;

/// An export being read.
pub struct ExportReader<R> {
    input: R,
    hash: digest::Context,
    number: u64,
    origin: Origin,
    seen: u64,
    bytes: u64,
    totals: Option<Totals>,
}

impl<R: Read> ExportReader<R> {
    /// Reads header and origin.
    ///
    /// # Errors
    /// [`ExportError`] names the first check that failed.
    pub fn open(mut input: R) -> Result<Self, ExportError> {
        let mut header = [0; HEADER_BYTES];
        let got = fill(&mut input, &mut header).map_err(ExportError::Io)?;
        let (checked, sum) = header.split_at(HEADER_BYTES.saturating_sub(4));
        let (magic, rest) = checked.split_at(MAGIC.len());
        if got < HEADER_BYTES || magic != MAGIC {
            return Err(ExportError::NotExport);
        }
        if crc32c::crc32c(checked).to_le_bytes() != sum {
            return Err(ExportError::Damaged { record: 0 });
        }
        let version = rest.first_chunk::<2>().map_or(0, |bytes| u16::from_le_bytes(*bytes));
        if version != VERSION {
            return Err(ExportError::Version(version));
        }
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(&header);
        let nobody = DevicePath {
            tenant: "none".parse().map_err(|_| ExportError::NotExport)?,
            device: "none".parse().map_err(|_| ExportError::NotExport)?,
        };
        let origin = Origin { device: nobody, software: String::new(), signed: false };
        let bytes = HEADER_BYTES as u64;
        let mut reader = Self { input, hash, number: 0, origin, seen: 0, bytes, totals: None };
        let (kind, payload) = reader.record()?;
        if kind != KIND_ORIGIN {
            return Err(ExportError::Place { record: 0, what: "an export begins with its origin" });
        }
        reader.origin = read_origin(&payload).map_err(|_| ExportError::Damaged { record: 0 })?;
        Ok(reader)
    }

    /// Whose it is.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Bytes read so far, for a progress bar.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.bytes
    }

    /// What the end said; `None` before it was reached.
    #[must_use]
    pub fn totals(&self) -> Option<Totals> {
        self.totals
    }

    /// The next message; `None` at the end of a sound export.
    ///
    /// # Errors
    /// [`ExportError`]: nothing more can be read, and what was read before is sound.
    pub fn next_message(&mut self) -> Result<Option<Exported>, ExportError> {
        if self.totals.is_some() {
            return Ok(None);
        }
        let record = self.number;
        let before = self.hash.clone();
        let (kind, payload) = self.record()?;
        let place = |what| ExportError::Place { record, what };
        let damaged = |_: Misread| ExportError::Damaged { record };
        match kind {
            KIND_MESSAGE if self.origin.signed => {
                self.seen = self.seen.saturating_add(1);
                read_message(&payload).map(Some).map_err(damaged)
            }
            KIND_UNSIGNED if !self.origin.signed => {
                self.seen = self.seen.saturating_add(1);
                read_unsigned(&payload).map(Some).map_err(damaged)
            }
            KIND_MESSAGE => Err(place("a signed message in an export that is not signed")),
            KIND_UNSIGNED => Err(place("an unsigned message in a signed export")),
            KIND_END => {
                let (totals, sum) = read_end(&payload).map_err(damaged)?;
                if sum != before.finish().as_ref() || totals.messages != self.seen {
                    return Err(ExportError::Damaged { record });
                }
                let mut more = [0; 1];
                if fill(&mut self.input, &mut more).map_err(ExportError::Io)? > 0 {
                    return Err(place("bytes behind the end"));
                }
                self.totals = Some(totals);
                Ok(None)
            }
            KIND_ORIGIN => Err(place("a second origin")),
            _ => Err(place("a kind this version does not know; upgrade this program")),
        }
    }

    /// A whole record whose sum is right.
    fn record(&mut self) -> Result<(u8, Vec<u8>), ExportError> {
        let record = self.number;
        let mut head = [0; HEAD_BYTES];
        if fill(&mut self.input, &mut head).map_err(ExportError::Io)? < HEAD_BYTES {
            return Err(ExportError::Cut { records: record });
        }
        let [kind, l0, l1, l2, l3, sum @ ..] = head;
        let length = u32::from_le_bytes([l0, l1, l2, l3]);
        let n = usize::try_from(length).ok().filter(|n| *n <= PAYLOAD_BYTES_MAX);
        let mut payload = vec![0; n.ok_or(ExportError::Damaged { record })?];
        if fill(&mut self.input, &mut payload).map_err(ExportError::Io)? < payload.len() {
            return Err(ExportError::Cut { records: record });
        }
        if crc(record, kind, length, &payload).to_le_bytes() != sum {
            return Err(ExportError::Damaged { record });
        }
        self.hash.update(&head);
        self.hash.update(&payload);
        self.number = record.saturating_add(1);
        self.bytes = self.bytes.saturating_add((HEAD_BYTES as u64).saturating_add(u64::from(length)));
        Ok((kind, payload))
    }
}

impl<R> std::fmt::Debug for ExportReader<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ExportReader({}, record {})", self.origin.device, self.number)
    }
}

/// Fills `buf` as far as the input reaches; gives how far.
fn fill(input: &mut impl Read, buf: &mut [u8]) -> io::Result<usize> {
    let mut at = 0_usize;
    while let Some(room) = buf.get_mut(at..).filter(|room| !room.is_empty()) {
        match input.read(room) {
            Ok(0) => break,
            Ok(n) => at = at.saturating_add(n),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(at)
}

fn lane(digit: u8) -> Result<Lane, Misread> {
    Lane::ALL.into_iter().find(|lane| lane.digit() == digit).ok_or(Misread)
}

fn read_origin(payload: &[u8]) -> Result<Origin, Misread> {
    let mut reader = Reader::new(payload);
    let tenant = reader.text(NAME_BYTES_MAX)?.parse().map_err(|_| Misread)?;
    let device = reader.text(NAME_BYTES_MAX)?.parse().map_err(|_| Misread)?;
    let software = reader.text(SOFTWARE_BYTES_MAX)?.to_owned();
    let signed = match reader.u8()? {
        0 => false,
        1 => true,
        _ => return Err(Misread),
    };
    reader.finish()?;
    Ok(Origin { device: DevicePath { tenant, device }, software, signed })
}

fn read_message(payload: &[u8]) -> Result<Exported, Misread> {
    let (digit, message) = payload.split_first().ok_or(Misread)?;
    Ok(Exported::Message { lane: lane(*digit)?, message: message.to_vec() })
}

fn read_unsigned(payload: &[u8]) -> Result<Exported, Misread> {
    let mut reader = Reader::new(payload);
    let lane = lane(reader.u8()?)?;
    let kind = MessageKind::from_code(reader.u8()?).ok_or(Misread)?;
    let epoch = Epoch(reader.u64()?);
    let sent = Sent { boot_ordinal: reader.u32()?, ns: reader.i64()? };
    Ok(Exported::Unsigned { lane, kind, epoch, sent, body: reader.take_rest().to_vec() })
}

fn read_end(payload: &[u8]) -> Result<(Totals, [u8; 32]), Misread> {
    let mut reader = Reader::new(payload);
    let totals = Totals { messages: reader.uv()?, rows: reader.uv()?, blobs: reader.uv()? };
    let sum = reader.array()?;
    reader.finish()?;
    Ok((totals, sum))
}

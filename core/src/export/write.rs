//! Writes an export record by record, so that a card larger than memory can be carried away.

use super::{
    Exported, HEADER_BYTES, KIND_END, KIND_MESSAGE, KIND_ORIGIN, KIND_UNSIGNED, MAGIC, Origin,
    SOFTWARE_BYTES_MAX, Totals, VERSION, crc,
};
use crate::wire::primitives::{put_bytes, put_uv};
use ring::digest;
use std::io::{self, Write};

/// An export under way. Without [`ExportWriter::finish`] it reads back as cut short.
pub struct ExportWriter<W> {
    out: W,
    hash: digest::Context,
    number: u64,
    totals: Totals,
}

impl<W: Write> ExportWriter<W> {
    /// Begins an export.
    ///
    /// # Errors
    /// What `out` says.
    pub fn new(out: W, origin: &Origin) -> io::Result<Self> {
        let hash = digest::Context::new(&digest::SHA256);
        let mut writer = Self { out, hash, number: 0, totals: Totals::default() };
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.extend_from_slice(&MAGIC);
        header.extend_from_slice(&VERSION.to_le_bytes());
        header.extend_from_slice(&[0; 2]);
        header.extend_from_slice(&crc32c::crc32c(&header).to_le_bytes());
        writer.put(&header)?;
        let mut payload = Vec::new();
        put_bytes(&mut payload, origin.device.tenant.as_str().as_bytes());
        put_bytes(&mut payload, origin.device.device.as_str().as_bytes());
        put_bytes(&mut payload, crate::gap::truncated(&origin.software, SOFTWARE_BYTES_MAX).as_bytes());
        payload.push(u8::from(origin.signed));
        writer.record(KIND_ORIGIN, &payload)?;
        Ok(writer)
    }

    /// Adds a message that stands for `rows` rows and `blobs` finished blobs.
    ///
    /// # Errors
    /// What the writer below says.
    pub fn add(&mut self, exported: &Exported, rows: u64, blobs: u64) -> io::Result<()> {
        let mut payload;
        let kind = match exported {
            Exported::Message { lane, message } => {
                payload = vec![lane.digit()];
                payload.extend_from_slice(message);
                KIND_MESSAGE
            }
            Exported::Unsigned { lane, kind, epoch, sent, body } => {
                payload = vec![lane.digit(), kind.code()];
                payload.extend_from_slice(&epoch.0.to_le_bytes());
                payload.extend_from_slice(&sent.to_bytes());
                payload.extend_from_slice(body);
                KIND_UNSIGNED
            }
        };
        let totals = &mut self.totals;
        totals.messages = totals.messages.saturating_add(1);
        totals.rows = totals.rows.saturating_add(rows);
        totals.blobs = totals.blobs.saturating_add(blobs);
        self.record(kind, &payload)
    }

    /// What was added so far.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Ends the export and gives the writer below back; making it durable is its owner's.
    ///
    /// # Errors
    /// What the writer below says.
    pub fn finish(mut self) -> io::Result<W> {
        let Totals { messages, rows, blobs } = self.totals;
        let mut payload = Vec::new();
        [messages, rows, blobs].into_iter().for_each(|n| put_uv(&mut payload, n));
        payload.extend_from_slice(self.hash.clone().finish().as_ref());
        self.record(KIND_END, &payload)?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn record(&mut self, kind: u8, payload: &[u8]) -> io::Result<()> {
        let length = u32::try_from(payload.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let mut head = vec![kind];
        head.extend_from_slice(&length.to_le_bytes());
        head.extend_from_slice(&crc(self.number, kind, length, payload).to_le_bytes());
        self.number = self.number.saturating_add(1);
        self.put(&head)?;
        self.put(payload)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.out.write_all(bytes)
    }
}

impl<W> std::fmt::Debug for ExportWriter<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ExportWriter({:?})", self.totals)
    }
}

//! A serial port: opened again whenever it vanished, read without pause, written to rarely.

use super::arrival::Reads;
use super::backoff::Backoff;
use super::framing::{Decoded, Decoder};
use super::port_info::port_kind;
use crate::config::{Characters, Parity};
use crate::telemetry::{SourceDown, SourceUp};
use headwater_core::id::StreamName;
use headwater_core::ports::{Clock, Source, SourceError, SourceEvent};
use headwater_core::time::BootNanos;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio_serial::{ClearBuffer, SerialPort, SerialStream, StopBits};

/// Bytes taken at once: the kernel's own buffer.
const READ_BYTES: usize = 4_096;
/// Boards and adapters send garbage just after opening, ms.
const QUIET_MS: u64 = 200;

/// Opens a byte stream in both directions.
pub trait OpenPort: Send {
    /// The stream.
    type Port: AsyncRead + AsyncWrite + Send + Unpin;
    /// Opens it. Dropping the future costs nothing.
    ///
    /// # Errors
    /// What the system says.
    fn open(&mut self) -> impl Future<Output = io::Result<Self::Port>> + Send;
    /// Its name, for a person.
    fn name(&self) -> String;
    /// How long it may hold bytes back before they can be read, ns; asked once it is open.
    fn hold_ns(&self) -> i64 {
        0
    }
}

/// A serial port of this machine, USB adapters and pseudo terminals among them.
#[derive(Debug, Clone)]
pub struct TtyPort<C> {
    /// Device file.
    pub path: PathBuf,
    /// Baud rate.
    pub baud: u32,
    /// What surrounds each byte.
    pub characters: Characters,
    /// For the pause after opening.
    pub clock: C,
}

impl<C: Clock> OpenPort for TtyPort<C> {
    type Port = SerialStream;

    async fn open(&mut self) -> io::Result<SerialStream> {
        let line = tokio_serial::new(self.path.to_string_lossy(), self.baud)
            .parity(match self.characters.parity {
                Parity::None => tokio_serial::Parity::None,
                Parity::Even => tokio_serial::Parity::Even,
                Parity::Odd => tokio_serial::Parity::Odd,
            })
            .stop_bits(if self.characters.two_stop_bits { StopBits::Two } else { StopBits::One });
        let stream = SerialStream::open(&line).map_err(|error| advised(error.into()))?;
        // What waited in the buffers is older than any latency bound of ours.
        self.clock.sleep_until(self.clock.boot().plus_ms(QUIET_MS)).await;
        stream.clear(ClearBuffer::All)?;
        Ok(stream)
    }

    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn hold_ns(&self) -> i64 {
        let kind = port_kind(&self.path, Path::new("/sys"));
        tracing::debug!(port = %self.path.display(), kind = kind.as_str(), hold_ns = kind.hold_ns(self.baud), "port");
        kind.hold_ns(self.baud)
    }
}

/// The same error, with what to do about it where that is known.
fn advised(error: io::Error) -> io::Error {
    let advice = match error.kind() {
        io::ErrorKind::NotFound => "is it plugged in? `ls /dev/serial/by-id` lists what is",
        io::ErrorKind::PermissionDenied => "let the agent's user into the group that owns it, mostly dialout",
        io::ErrorKind::ResourceBusy => "another program has it open: `fuser` names it",
        _ => return error,
    };
    io::Error::new(error.kind(), format!("{error}; {advice}"))
}

/// Both directions of an open port.
type Halves<P> = (ReadHalf<P>, WriteHalf<P>);

/// The source.
#[derive(Debug)]
pub struct SerialSource<C, O: OpenPort> {
    clock: C,
    opener: O,
    stream: StreamName,
    decoder: Decoder,
    port: Option<Halves<O::Port>>,
    open_at: Option<BootNanos>,
    backoff: Backoff,
    decoded: Decoded,
    reads: Reads,
    outbox: Vec<u8>,
    buffer: Vec<u8>,
}

impl<C: Clock, O: OpenPort> SerialSource<C, O> {
    /// A port that is opened with the first [`Source::next`].
    pub fn new(clock: C, opener: O, stream: StreamName, decoder: Decoder) -> Self {
        Self {
            clock,
            opener,
            stream,
            decoder,
            port: None,
            open_at: None,
            backoff: Backoff::default(),
            decoded: Decoded::default(),
            reads: Reads::default(),
            outbox: Vec::new(),
            buffer: vec![0; READ_BYTES],
        }
    }

    async fn open(&mut self) {
        if let Some(at) = self.open_at {
            self.clock.sleep_until(at).await;
        }
        match self.opener.open().await {
            Ok(port) => {
                let now = self.clock.boot();
                self.port = Some(tokio::io::split(port));
                self.outbox.clear();
                self.reads.opened(now);
                self.decoder.port(self.opener.hold_ns());
                self.decoder.reopened(now, &mut self.decoded);
                self.backoff.up(now);
                SourceUp { stream: &self.stream, what: &self.opener.name() }.emit();
            }
            Err(error) => self.down(&error.to_string()),
        }
    }

    fn down(&mut self, why: &str) {
        self.port = None;
        let now = self.clock.boot();
        let (retry_ms, tries) = self.backoff.failed(now);
        self.open_at = Some(now.plus_ms(retry_ms));
        let why = format!("{}: {why}", self.opener.name());
        SourceDown { stream: &self.stream, why: &why, retry_ms, tries }.emit();
    }
}

impl<C: Clock, O: OpenPort> Source for SerialSource<C, O> {
    async fn next(&mut self) -> Result<SourceEvent, SourceError> {
        loop {
            self.decoded.tell(&self.stream);
            if let Some(event) = self.decoded.events.pop_front() {
                return Ok(event);
            }
            let Some((reader, writer)) = &mut self.port else {
                self.open().await;
                continue;
            };
            // While the device does not take what we said, there is no use in saying more.
            let deadline = if self.outbox.is_empty() {
                self.decoder.poll(self.clock.boot(), &mut self.outbox, &mut self.decoded);
                self.decoder.deadline()
            } else {
                None
            };
            if !self.decoded.events.is_empty() {
                continue;
            }
            let due = async {
                match deadline {
                    Some(at) => self.clock.sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let waited_from = self.clock.boot();
            let failed = tokio::select! {
                // What we say is short, and its time was read just now.
                biased;
                written = writer.write(&self.outbox), if !self.outbox.is_empty() => match written {
                    Ok(bytes) => {
                        self.outbox.drain(..bytes.min(self.outbox.len()));
                        None
                    }
                    Err(error) => Some(error.to_string()),
                },
                read = reader.read(&mut self.buffer) => match read {
                    Ok(0) => Some("the port is gone".to_owned()),
                    Ok(bytes) => {
                        let read = self.reads.read(waited_from, self.clock.boot(), bytes < READ_BYTES);
                        let bytes = self.buffer.get(..bytes).unwrap_or_default();
                        self.decoder.push(bytes, read, &mut self.decoded);
                        None
                    }
                    Err(error) => Some(error.to_string()),
                },
                // There was nothing to read before this.
                () = due => {
                    self.reads.looked(self.clock.boot());
                    None
                }
            };
            if let Some(why) = failed {
                self.down(&why);
            }
        }
    }
}

#[cfg(test)]
mod tests;

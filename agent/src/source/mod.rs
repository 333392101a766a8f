//! Sources: adapters that read serial ports, receivers, cameras and programs, on real bytes.
//!
//! Each is a pure decoder ([`link`], [`nmea`], [`lines`], [`image`]) and a thin shell that waits for a
//! port, a folder or a program, opens it again when it vanished, and never gives up.

mod backoff;
pub mod camera_command;
pub mod camera_dir;
mod child;
pub mod exec;
pub mod framing;
pub mod image;
pub mod lines;
pub mod link;
pub mod nmea;
pub mod preview;
pub mod serial;

use crate::config::{Framing, SourceKind, SourceSettings};
use crate::receipt::Receipt;
use camera_command::CameraCommandSource;
use camera_dir::CameraDirSource;
use child::Program;
use exec::ExecSource;
use framing::Decoder;
use headwater_core::ports::{Clock, Source, SourceError, SourceEvent};
use lines::LineDecoder;
use link::LinkDecoding;
use nmea::NmeaDecoding;
use serial::{SerialSource, TtyPort};
use tokio::sync::mpsc;

/// Receipts that may wait for a source: more than it ever has in flight.
pub const RECEIPTS_MAX: usize = 64;

/// Any of the adapters.
#[derive(Debug)]
pub enum AnySource<C: Clock> {
    /// A serial port.
    Serial(Box<SerialSource<C, TtyPort<C>>>),
    /// A folder of pictures.
    CameraDir(Box<CameraDirSource<C>>),
    /// A program that films.
    CameraCommand(Box<CameraCommandSource<C>>),
    /// A program that prints.
    Exec(Box<ExecSource<C>>),
}

impl<C: Clock> AnySource<C> {
    /// The source of `settings`, and where it wants its receipts. Nothing is opened before the first
    /// [`Source::next`].
    pub fn new(settings: &SourceSettings, clock: C) -> (Self, Option<mpsc::Sender<Receipt>>) {
        let (stream, latency) = (settings.stream.clone(), settings.latency);
        match &settings.kind {
            SourceKind::Serial { port, baud, framing } => {
                let decoder = match framing {
                    Framing::Link => Decoder::Link(Box::new(LinkDecoding::new(stream.clone(), latency))),
                    Framing::Nmea => Decoder::Nmea(Box::new(NmeaDecoding::new(stream.clone(), latency))),
                    Framing::Lines(lines) => {
                        Decoder::Lines(LineDecoder::of_port(stream.clone(), latency, lines.clone()))
                    }
                };
                let opener = TtyPort { path: port.clone(), baud: *baud, clock: clock.clone() };
                (Self::Serial(Box::new(SerialSource::new(clock, opener, stream, decoder))), None)
            }
            SourceKind::CameraDir { dir, after } => {
                let (source, receipts) = CameraDirSource::new(clock, stream, latency, dir.clone(), *after);
                (Self::CameraDir(Box::new(source)), Some(receipts))
            }
            SourceKind::CameraCommand { command } => {
                let program = Program::new(clock.clone(), stream.clone(), command.clone());
                let source = CameraCommandSource::new(clock, program, stream, latency);
                (Self::CameraCommand(Box::new(source)), None)
            }
            SourceKind::Exec { command, once, lines } => {
                let program = Program::new(clock.clone(), stream.clone(), command.clone());
                let lines = LineDecoder::of_program(stream.clone(), latency, lines.clone());
                (Self::Exec(Box::new(ExecSource::new(clock, stream, program, lines, *once))), None)
            }
        }
    }

    /// Ends what the source started, politely. Dropping it ends it too, at once.
    pub async fn close(&mut self) {
        match self {
            Self::CameraCommand(source) => source.close().await,
            Self::Exec(source) => source.close().await,
            Self::CameraDir(source) => source.close().await,
            Self::Serial(_) => {}
        }
    }
}

impl<C: Clock> Source for AnySource<C> {
    async fn next(&mut self) -> Result<SourceEvent, SourceError> {
        match self {
            Self::Serial(source) => source.next().await,
            Self::CameraDir(source) => source.next().await,
            Self::CameraCommand(source) => source.next().await,
            Self::Exec(source) => source.next().await,
        }
    }
}

#[cfg(test)]
mod tests;

//! Sources: adapters that read serial ports, receivers, cameras and programs, on real bytes.
//!
//! Each is a pure decoder ([`link`], [`nmea`], [`vendor`], [`lines`], [`image`]) and a thin shell that waits for a
//! port, a folder or a program, opens it again when it vanished, and never gives up.

pub mod arrival;
mod backoff;
pub mod camera_command;
pub mod camera_dir;
mod child;
pub mod exec;
pub mod frame_stamp;
pub mod framing;
pub mod gpsd;
pub mod image;
pub mod lines;
pub mod link;
pub mod nmea;
pub mod port_info;
pub mod preview;
pub mod serial;
pub mod sys;
pub mod vendor;

use crate::clock::asleep_ns;
use crate::config::{Framing, SerialLine, SourceKind, SourceSettings};
use crate::domains::DomainNumbers;
use crate::receipt::Receipt;
use arrival::{Arrivals, ReadAt, WireTime};
use camera_command::CameraCommandSource;
use camera_dir::CameraDirSource;
use child::Program;
pub use child::STAMPS_PLACE;
use exec::ExecSource;
use framing::Decoder;
use gpsd::GpsdSource;
use headwater_core::ports::{Clock, Source, SourceError, SourceEvent};
use headwater_core::time::NS_PER_MS;
use lines::LineDecoder;
use link::{ClockUse, LinkDecoding};
use nmea::NmeaDecoding;
use serial::{SerialSource, TtyPort};
use sys::{SysSource, SysTree};
use tokio::sync::mpsc;
use vendor::{VendorDecoding, VendorProtocol};

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
    /// What the kernel tells in files.
    Sys(Box<SysSource<C>>),
    /// Receivers behind gpsd.
    Gpsd(Box<GpsdSource<C>>),
}

impl<C: Clock> AnySource<C> {
    /// The source of `settings`, and where it wants its receipts. Nothing is opened before the first
    /// [`Source::next`]. Clocks of attached devices are named by `numbers`.
    pub fn new(
        settings: &SourceSettings,
        clock: C,
        numbers: &DomainNumbers,
    ) -> (Self, Option<mpsc::Sender<Receipt>>) {
        let stream = settings.stream.clone();
        let arrivals = arrivals(settings);
        match &settings.kind {
            SourceKind::Serial { line, framing } => {
                let decoder = match framing {
                    Framing::Link { device_clock } => {
                        let numbers = device_clock.then(|| numbers.clone());
                        let uses = ClockUse { numbers, wire: arrivals.wire };
                        Decoder::Link(Box::new(LinkDecoding::new(stream.clone(), arrivals, uses)))
                    }
                    Framing::Nmea => Decoder::Nmea(Box::new(NmeaDecoding::new(stream.clone(), arrivals))),
                    Framing::Lines(lines) => {
                        Decoder::Lines(LineDecoder::of_port(stream.clone(), arrivals, lines.clone()))
                    }
                    Framing::Vendor(protocol) => {
                        let vendor = VendorDecoding::new(stream.clone(), arrivals, protocol.clone());
                        Decoder::Vendor(Box::new(vendor))
                    }
                };
                let SerialLine { port, baud, characters, .. } = line.clone();
                let opener = TtyPort { path: port, baud, characters, clock: clock.clone() };
                (Self::Serial(Box::new(SerialSource::new(clock, opener, stream, decoder))), None)
            }
            SourceKind::CameraDir { dir, after } => {
                // A file that was closed is seen at once; nothing but the program before it delays it.
                let latency = arrivals.latency(ReadAt::prompt(clock.boot()), 0, 0);
                let (source, receipts) = CameraDirSource::new(clock, stream, latency, dir.clone(), *after);
                (Self::CameraDir(Box::new(source)), Some(receipts))
            }
            SourceKind::CameraCommand { command, stamps } => {
                let program = Program::new(clock.clone(), stream.clone(), command.clone());
                let clocks = (clock, asleep_ns as fn() -> i64);
                let source = CameraCommandSource::new(clocks, program, stream, arrivals, *stamps);
                (Self::CameraCommand(Box::new(source)), None)
            }
            SourceKind::Exec { command, once, lines } => {
                let program = Program::new(clock.clone(), stream.clone(), command.clone());
                let lines = LineDecoder::of_program(stream.clone(), arrivals, lines.clone());
                (Self::Exec(Box::new(ExecSource::new(clock, stream, program, lines, *once))), None)
            }
            SourceKind::Sys { what, every } => {
                let of = (what.clone(), *every);
                let source = SysSource::new(clock, SysTree::gateway(), (stream, arrivals), of);
                (Self::Sys(Box::new(source)), None)
            }
            SourceKind::Gpsd(gpsd) => {
                (Self::Gpsd(Box::new(GpsdSource::new(clock, (stream, arrivals), gpsd.clone()))), None)
            }
        }
    }

    /// Ends what the source started, politely. Dropping it ends it too, at once.
    pub async fn close(&mut self) {
        match self {
            Self::CameraCommand(source) => source.close().await,
            Self::Exec(source) => source.close().await,
            Self::CameraDir(source) => source.close().await,
            Self::Serial(_) | Self::Sys(_) | Self::Gpsd(_) => {}
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
            Self::Sys(source) => source.next().await,
            Self::Gpsd(source) => source.next().await,
        }
    }
}

/// Delays before a source's first byte that are seen in practice, rounded up. A bound that is too wide costs precision,
/// one too narrow costs truth.
fn device_ms(kind: &SourceKind) -> i64 {
    match kind {
        // A board sends what it took at once.
        SourceKind::Serial { framing: Framing::Link { .. }, .. } => 1,
        // Receivers report a fix 10 to 700 ms after its second.
        SourceKind::Serial { framing: Framing::Nmea, .. } => 1_000,
        SourceKind::Serial { framing: Framing::Lines(_), .. } => 100,
        SourceKind::Serial { framing: Framing::Vendor(protocol), .. } => protocol_ms(protocol),
        // A program may take a picture long before it closes the file.
        SourceKind::CameraDir { .. } => 2_000,
        SourceKind::CameraCommand { .. } => 500,
        SourceKind::Exec { .. } => 1_000,
        SourceKind::Sys { what, .. } => sys::device_ms(what),
        // As receivers that are read without it; it tells what they say at once.
        SourceKind::Gpsd(_) => 1_000,
    }
}

/// The same for devices that speak a protocol of their own.
fn protocol_ms(protocol: &VendorProtocol) -> i64 {
    match protocol {
        // Sticks are sent every 7 to 14 ms.
        VendorProtocol::Sbus => 20,
        VendorProtocol::Mavlink | VendorProtocol::Frames(_) => 100,
        // As receivers that speak NMEA; meters measure once a second and answer with that.
        VendorProtocol::Ubx
        | VendorProtocol::Vedirect
        | VendorProtocol::Modbus(..)
        | VendorProtocol::Sds011 => 1_000,
        // Plantower sensors send every 2.3 s at the slowest, carbon dioxide is measured every 2 s.
        VendorProtocol::Pms5003 => 2_300,
        VendorProtocol::Mhz19(_) | VendorProtocol::Scd30(_) | VendorProtocol::Senseair(_) => 2_000,
    }
}

fn arrivals(settings: &SourceSettings) -> Arrivals {
    let device_ns = device_ms(&settings.kind).saturating_mul(NS_PER_MS);
    let wire = match &settings.kind {
        SourceKind::Serial { line: SerialLine { baud, paced, .. }, .. } => {
            WireTime { baud: *baud, paced: *paced }
        }
        _ => WireTime::NONE,
    };
    Arrivals { declared: settings.delay, device_ns, wire, hold_ns: 0 }
}

#[cfg(test)]
mod tests;

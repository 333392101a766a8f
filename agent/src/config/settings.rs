//! What the agent works with once the configuration was checked: nothing in here can be wrong.

use super::clock::ClockSettings;
use crate::enroll::HttpsUrl;
use crate::ship::mqtt::{BrokerUrl, ProfileLimits, Proxy, Versions};
use crate::ship::policy::LinkRules;
use crate::ship::{BacklogOrder, RetainUntil};
use crate::source::arrival::Declared;
use crate::source::vendor::VendorProtocol;
use headwater_core::id::{DevicePath, StreamName};
use headwater_core::ports::{EvictFirst, SpoolLane, StreamClass};
use headwater_core::schema::Schema;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// A checked configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Who we are.
    pub device: DevicePath,
    /// Certificates and keys.
    pub identity: IdentityFiles,
    /// Where to send, and how.
    pub uplink: UplinkSettings,
    /// The spool.
    pub spool: SpoolSettings,
    /// Longest time rows wait for company in a message.
    pub linger: Duration,
    /// The same on a link that its rules call metered.
    pub metered_linger: Duration,
    /// Bytes of every link are paid for.
    pub metered: bool,
    /// Rows younger than this are live, older ones backlog.
    pub live_window: Duration,
    /// Which backlog goes first.
    pub backlog_order: BacklogOrder,
    /// What links may cost, by interface; the first that fits is in force.
    pub links: Vec<LinkRules>,
    /// Which sources of time are asked.
    pub clock: ClockSettings,
    /// JPEGs travel as Lepton.
    pub lepton: bool,
    /// Where status is written.
    pub status_file: PathBuf,
    /// What is captured.
    pub sources: Vec<SourceSettings>,
}

/// PEM files.
#[derive(Debug, Clone)]
pub struct IdentityFiles {
    /// The fleet's roots.
    pub ca: PathBuf,
    /// TLS certificate.
    pub tls_cert: PathBuf,
    /// TLS key.
    pub tls_key: PathBuf,
    /// Signing certificate and intermediates.
    pub sign_cert: PathBuf,
    /// Signing key.
    pub sign_key: PathBuf,
    /// Revocation lists of collectors.
    pub crl: Option<PathBuf>,
    /// Where certificates are renewed.
    pub renew: Option<HttpsUrl>,
}

impl IdentityFiles {
    /// Every file that is read.
    #[must_use]
    pub fn all(&self) -> Vec<PathBuf> {
        let Self { ca, tls_cert, tls_key, sign_cert, sign_key, crl, .. } = self.clone();
        [ca, tls_cert, tls_key, sign_cert, sign_key].into_iter().chain(crl).collect()
    }
}

/// The way to the brokers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UplinkSettings {
    /// Brokers in order of preference; never empty.
    pub brokers: Vec<BrokerUrl>,
    /// Versions of MQTT.
    pub versions: Versions,
    /// Sizes, counts and keepalive: the profile's, with what was set.
    pub limits: ProfileLimits,
    /// ALPN name, if set.
    pub alpn: Option<String>,
    /// Proxy, with the credentials of its URL.
    pub proxy: Option<Proxy>,
    /// File with the proxy's credentials.
    pub proxy_credentials: Option<PathBuf>,
    /// Network interface.
    pub interface: Option<String>,
}

impl UplinkSettings {
    /// The brokers for people.
    #[must_use]
    pub fn told(&self) -> String {
        self.brokers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }
}

/// The spool's place and bounds.
#[derive(Debug, Clone)]
pub struct SpoolSettings {
    /// Folder.
    pub dir: PathBuf,
    /// Most bytes it may take.
    pub bytes_max: u64,
    /// Bytes of the file system left to others.
    pub free_bytes_min: u64,
    /// Longest time appended slabs stay unsynced.
    pub sync_interval: Duration,
    /// What the collector must have said before captures may go.
    pub retain_until: RetainUntil,
}

/// What the configuration says of the streams of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retention {
    /// It is synced and shipped at once.
    pub alarm: bool,
    /// What its rows are worth; by modality if not said.
    pub class: Option<StreamClass>,
    /// Which rows go first.
    pub evict_first: EvictFirst,
    /// Bytes of it that eviction leaves.
    pub keep_bytes_min: u64,
    /// With which lane it is kept and shipped, if not by what it holds.
    pub lane: Option<SpoolLane>,
}

/// Small pictures of a camera's frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviewSettings {
    /// Their stream.
    pub stream: StreamName,
    /// Longer side, pixels.
    pub side: u16,
}

/// One source.
#[derive(Debug, Clone)]
pub struct SourceSettings {
    /// Its stream; a device with several streams hangs them below this name.
    pub stream: StreamName,
    /// How its captures are kept.
    pub retention: Retention,
    /// Previews of its pictures.
    pub preview: Option<PreviewSettings>,
    /// How much earlier than its arrival an event is, as far as it was said.
    pub delay: Declared,
    /// What it is.
    pub kind: SourceKind,
}

/// Kinds of source.
#[derive(Debug, Clone)]
pub enum SourceKind {
    /// A serial port.
    Serial {
        /// The line.
        line: SerialLine,
        /// What the bytes are.
        framing: Framing,
    },
    /// A folder in which pictures appear.
    CameraDir {
        /// Folder.
        dir: PathBuf,
        /// What becomes of a captured picture.
        after: After,
    },
    /// A program whose output is MJPEG.
    CameraCommand {
        /// Program.
        command: CommandLine,
        /// What it says of its frames beside them.
        stamps: Option<FrameStamps>,
    },
    /// A program that prints lines.
    Exec {
        /// Program.
        command: CommandLine,
        /// Not started again when it ends.
        once: bool,
        /// What a line holds.
        lines: LineSettings,
    },
    /// What the kernel tells in files.
    Sys {
        /// Of what.
        what: SysWhat,
        /// From one look to the next.
        every: Duration,
    },
    /// Receivers behind gpsd.
    Gpsd(GpsdSettings),
}

impl SourceKind {
    /// Name in the configuration.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Serial { .. } => "serial",
            Self::CameraDir { .. } => "camera_dir",
            Self::CameraCommand { .. } => "camera_command",
            Self::Exec { .. } => "exec",
            Self::Sys { what, .. } => what.as_str(),
            Self::Gpsd(_) => "gpsd",
        }
    }
}

/// What the kernel tells of in files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SysWhat {
    /// Industrial I/O: chips on I²C and SPI.
    Iio,
    /// Hardware monitoring.
    Hwmon,
    /// Thermometers on a 1-Wire bus.
    W1,
    /// This machine.
    Host {
        /// A folder on the disk whose room is told.
        dir: PathBuf,
    },
}

impl SysWhat {
    /// Name in the configuration.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Iio => "iio",
            Self::Hwmon => "hwmon",
            Self::W1 => "w1",
            Self::Host { .. } => "host",
        }
    }
}

/// A gpsd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpsdSettings {
    /// Where it listens.
    pub at: SocketAddr,
    /// The receiver that is captured; the first that tells of itself if none is named.
    pub receiver: Option<String>,
    /// Stream of what its satellites are like.
    pub sky: StreamName,
}

/// A serial line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SerialLine {
    /// Device file.
    pub port: PathBuf,
    /// Baud rate.
    pub baud: u32,
    /// A real UART at that rate lies between.
    pub paced: bool,
    /// What surrounds each byte.
    pub characters: Characters,
}

/// What surrounds each byte on a serial line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Characters {
    /// Parity.
    pub parity: Parity,
    /// Two stop bits, not one.
    pub two_stop_bits: bool,
}

impl Characters {
    /// No parity and one stop bit, as nearly all lines have it.
    pub const PLAIN: Self = Self { parity: Parity::None, two_stop_bits: false };
}

/// Parity of a serial line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parity {
    /// None.
    None,
    /// Even.
    Even,
    /// Odd.
    Odd,
}

/// Who says when a program's frames were exposed, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameStamps {
    /// `rpicam-vid --metadata`.
    Rpicam,
    /// `v4l2-ctl --verbose`.
    V4l2Ctl,
}

/// What the bytes of a serial port are.
#[derive(Debug, Clone)]
pub enum Framing {
    /// Link frames of a board that runs `headwater-shims`.
    Link {
        /// Its samples are stamped by its own clock; else by their arrival.
        device_clock: bool,
    },
    /// Sentences of a GPS receiver.
    Nmea,
    /// Lines of declared fields.
    Lines(LineSettings),
    /// Frames of a vendor's protocol.
    Vendor(VendorProtocol),
}

/// What becomes of a captured picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// It is removed.
    Delete,
    /// It is moved to `done/`.
    Keep,
}

/// A program and its arguments; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine {
    /// Program.
    pub program: String,
    /// Arguments.
    pub args: Vec<String>,
}

/// Lines of declared fields.
#[derive(Debug, Clone)]
pub struct LineSettings {
    /// The stream's schema.
    pub schema: Schema,
    /// How a line holds them.
    pub format: LineFormat,
}

/// How a line holds its fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineFormat {
    /// In order, with this byte between them.
    Csv(u8),
    /// As an object.
    Json,
}

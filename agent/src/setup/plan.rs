//! From findings to a configuration: what is offered, and its text. Pure.

use super::findings::{Findings, FoundCamera, FoundGpsd, FoundPort, FoundSensors, Heard};
use crate::config::{GPSD_DEFAULT, Settings, SourceKind};
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Devices named in a comment; the rest is counted.
const NAMED_MAX: usize = 6;
/// Characters of what a device or the system says, in a comment.
const LINE_CHARS_MAX: usize = 200;

/// Who the gateway is and where it sends to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Basis {
    /// O of the certificates.
    pub tenant: String,
    /// CN.
    pub name: String,
    /// Folder of certificates and keys.
    pub identity: PathBuf,
    /// Where certificates are renewed, if they renew themselves.
    pub renew: Option<String>,
    /// Brokers, the first is the one to use first.
    pub brokers: Vec<String>,
    /// The spool's folder, if not the usual one.
    pub spool: Option<PathBuf>,
}

/// What a configuration captures already.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Captured {
    streams: BTreeSet<String>,
    what: BTreeSet<What>,
}

/// What a source reads, to tell whether two read the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Port(PathBuf),
    Kernel(&'static str),
    Gpsd,
    PiCamera,
    Camera(PathBuf),
}

impl Captured {
    /// What `settings` capture. `real` follows links, so that a port is known by any of its names.
    pub fn by(settings: &Settings, real: &dyn Fn(&Path) -> PathBuf) -> Self {
        let mut captured = Self::default();
        for source in &settings.sources {
            captured.streams.insert(source.stream.to_string());
            captured.what.extend(match &source.kind {
                SourceKind::Serial { line, .. } => vec![What::Port(real(&line.port))],
                SourceKind::Sys { what, .. } => vec![What::Kernel(what.as_str())],
                SourceKind::Gpsd(_) => vec![What::Gpsd],
                SourceKind::CameraCommand { command, .. } | SourceKind::Exec { command, .. } => {
                    let words = std::iter::once(&command.program).chain(&command.args);
                    words.flat_map(|word| cameras_in(word, real)).collect()
                }
                SourceKind::CameraDir { .. } => Vec::new(),
            });
        }
        captured
    }
}

/// Cameras a command names.
fn cameras_in(word: &str, real: &dyn Fn(&Path) -> PathBuf) -> Vec<What> {
    let of = |word: &str| {
        let program = Path::new(word).file_name().and_then(|name| name.to_str()).unwrap_or_default();
        match program {
            "rpicam-vid" | "libcamera-vid" => Some(What::PiCamera),
            _ if word.starts_with("/dev/v") => Some(What::Camera(real(Path::new(word)))),
            _ => None,
        }
    };
    word.split_ascii_whitespace().filter_map(of).collect()
}

/// One source that could be captured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Offer {
    /// Its stream.
    pub stream: String,
    /// What it is, for a person.
    pub told: String,
    /// Its text in the configuration.
    #[serde(skip)]
    pub text: String,
    /// It works as it is; else a person must fill something in, and the text is a comment.
    pub ready: bool,
}

/// What there is to capture and `captured` does not yet. `real` follows links.
#[must_use]
pub fn offers(findings: &Findings, captured: &Captured, real: &dyn Fn(&Path) -> PathBuf) -> Vec<Offer> {
    let mut making = Making { taken: captured.streams.clone(), offers: Vec::new() };
    let has = |what: &What| captured.what.contains(what);
    if let Some(gpsd) = findings.gpsd.as_ref().filter(|_| !has(&What::Gpsd)) {
        making.gpsd(gpsd);
    }
    for port in findings.ports.iter().filter(|port| !has(&What::Port(real(&port.path)))) {
        making.port(port);
    }
    for camera in &findings.cameras {
        match camera {
            FoundCamera::Pi { program } if !has(&What::PiCamera) => making.pi_camera(program.as_deref()),
            FoundCamera::Usb { device, name, tool } if !has(&What::Camera(real(device))) => {
                making.usb_camera(device, name, *tool);
            }
            FoundCamera::Pi { .. } | FoundCamera::Usb { .. } => {}
        }
    }
    for sensors in findings.sensors.iter().filter(|sensors| !has(&What::Kernel(sensors.source))) {
        making.sensors(sensors);
    }
    making.offers
}

/// Offers as they are made, and names that are taken.
struct Making {
    taken: BTreeSet<String>,
    offers: Vec<Offer>,
}

impl Making {
    /// `base`, or the first free one of `base2`, `base3` and so on.
    fn stream(&mut self, base: &str) -> String {
        let free = |name: &String| !self.taken.contains(name);
        let name = std::iter::once(base.to_owned())
            .chain((2_u32..).map(|n| format!("{base}{n}")))
            .find(free)
            .unwrap_or_default();
        self.taken.insert(name.clone());
        name
    }

    fn offer(&mut self, stream: String, told: String, keys: &[(&str, String)], ready: bool) {
        let mark = if ready { "" } else { "# " };
        let mut text = format!("# {told}\n{mark}[[source]]\n");
        for (key, value) in keys {
            text.push_str(&format!("{mark}{key} = {value}\n"));
        }
        self.offers.push(Offer { stream, told, text, ready });
    }

    fn gpsd(&mut self, gpsd: &FoundGpsd) {
        let stream = self.stream("gps");
        let told =
            format!("GPS receivers behind gpsd {} at {}: {}", gpsd.release, gpsd.at, listed(&gpsd.receivers));
        let mut keys = vec![("type", quoted("gpsd")), ("stream", quoted(&stream))];
        if gpsd.at != GPSD_DEFAULT {
            keys.push(("address", quoted(&gpsd.at.to_string())));
        }
        self.offer(stream, told, &keys, true);
    }

    fn port(&mut self, port: &FoundPort) {
        let (base, baud, framing) = match &port.heard {
            Heard::Link { baud } => ("board", *baud, "link"),
            Heard::Nmea { baud } => ("gps", *baud, "nmea"),
            Heard::Protocol { baud, framing } => (stream_of(framing), *baud, *framing),
            Heard::Numbers { baud, .. } => ("numbers", *baud, "lines"),
            _ => return,
        };
        let stream = self.stream(base);
        let at = format!("at {} ({}), {baud} baud", port.tty, port.kind);
        let mut keys = vec![
            ("type", quoted("serial")),
            ("stream", quoted(&stream)),
            ("port", quoted(&port.path.to_string_lossy())),
            ("baud", baud.to_string()),
            ("framing", quoted(framing)),
        ];
        let told = match &port.heard {
            Heard::Numbers { columns, separator, .. } => {
                let fields: Vec<String> =
                    (1..=*columns).map(|n| format!("{{ name = \"field{n}\", unit = \"1\" }}")).collect();
                keys.push(("kind", quoted("numbers")));
                if *separator != ',' {
                    keys.push(("separator", quoted(&separator.to_string())));
                }
                keys.push(("fields", format!("[ {} ]", fields.join(", "))));
                format!(
                    "Lines of {columns} numbers {at}: say what they are and in which unit, then take the # away"
                )
            }
            Heard::Link { .. } => {
                format!("A board that speaks the link protocol {at}: it says its fields and units itself")
            }
            Heard::Protocol { framing, .. } => format!("A device that speaks {framing} {at}"),
            _ => format!("A GPS receiver {at}"),
        };
        self.offer(stream, told, &keys, framing != "lines");
    }

    fn pi_camera(&mut self, program: Option<&str>) {
        let stream = self.stream("camera/pi");
        let installed = program.is_some();
        let told = match installed {
            true => "The Raspberry Pi's camera, five pictures a second".to_owned(),
            false => {
                "The Raspberry Pi's camera: `sudo apt install rpicam-apps`, then take the # away".to_owned()
            }
        };
        let program = program.unwrap_or("rpicam-vid");
        let words = [
            program,
            "-t",
            "0",
            "--codec",
            "mjpeg",
            "--framerate",
            "5",
            "--width",
            "1280",
            "--height",
            "720",
            "--flush",
            "-o",
            "-",
            "--metadata",
            "{stamps}",
        ];
        self.camera(stream, told, &words, "rpicam", installed);
    }

    fn usb_camera(&mut self, device: &Path, name: &str, tool: bool) {
        let stream = self.stream("camera/usb");
        let told = match tool {
            true => format!("Camera {}", one_line(name)),
            false => format!("Camera {}: `sudo apt install v4l-utils`, then take the # away", one_line(name)),
        };
        let device = device.to_string_lossy();
        // A name that a shell would take apart is given as an argument of its own.
        let script = "exec v4l2-ctl -d \"$0\" --set-fmt-video=width=1280,height=720,pixelformat=MJPG --set-parm=5 \
                      --stream-mmap --stream-to=- --verbose 2> \"$1\"";
        self.camera(stream, told, &["sh", "-c", script, &*device, "{stamps}"], "v4l2-ctl", tool);
    }

    fn camera(&mut self, stream: String, told: String, words: &[&str], stamps: &str, ready: bool) {
        let command: Vec<String> = words.iter().map(|word| quoted(word)).collect();
        let keys = [
            ("type", quoted("camera_command")),
            ("stream", quoted(&stream)),
            ("command", format!("[{}]", command.join(", "))),
            ("stamps", quoted(stamps)),
            ("class", quoted("thin")),
        ];
        self.offer(stream, told, &keys, ready);
    }

    fn sensors(&mut self, sensors: &FoundSensors) {
        let (base, told) = match sensors.source {
            "host" => {
                ("host", "How this machine is: heat, supply, load, memory, disk, card, links".to_owned())
            }
            "w1" => ("w1", format!("1-Wire thermometers: {}", named(sensors))),
            "hwmon" => ("hwmon", format!("Hardware monitoring: {}", named(sensors))),
            source => (source, format!("Sensors on I²C and SPI: {}", named(sensors))),
        };
        let stream = self.stream(base);
        let keys = [("type", quoted(sensors.source)), ("stream", quoted(&stream)), ("every", quoted("10s"))];
        self.offer(stream, told, &keys, true);
    }
}

/// What the stream of a device is called that speaks a protocol of its own.
fn stream_of(framing: &str) -> &'static str {
    match framing {
        "ubx" => "gps",
        "pms5003" | "sds011" => "particulate",
        "mavlink" => "autopilot",
        "vedirect" => "power",
        _ => "device",
    }
}

fn named(sensors: &FoundSensors) -> String {
    listed(&sensors.devices.iter().map(|device| device.name.clone()).collect::<Vec<_>>())
}

fn listed(names: &[String]) -> String {
    let shown: Vec<String> = names.iter().take(NAMED_MAX).map(|name| one_line(name)).collect();
    match names.len().saturating_sub(NAMED_MAX) {
        _ if names.is_empty() => "none yet".to_owned(),
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// What a device calls itself may hold anything; in a comment it must not end the line.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LINE_CHARS_MAX).collect()
}

/// A TOML string.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// A whole configuration.
#[must_use]
pub fn compose(basis: &Basis, findings: &Findings, chosen: &[Offer]) -> String {
    let Basis { tenant, name, identity, renew, brokers, spool } = basis;
    let file = |file: &str| quoted(&identity.join(file).to_string_lossy());
    let mut text = format!(
        "# Written by `headwater-agent setup`: what was found on this gateway. `headwater-agent check` tells every mistake,\n\
         # `headwater-agent test` shows a reading of each source.\n\n\
         [device]\ntenant = {}   # O of the certificates\nname = {}   # CN\n\n\
         [identity]   # PEM; `headwater-agent enroll` gets them\nca = {}\ntls_cert = {}\ntls_key = {}\nsign_cert = {}\nsign_key = {}\n",
        quoted(tenant),
        quoted(name),
        file("ca.pem"),
        file("tls.pem"),
        file("tls.key"),
        file("sign.pem"),
        file("sign.key"),
    );
    if let Some(renew) = renew {
        text.push_str(&format!("renew = {}   # they renew themselves\n", quoted(renew)));
    }
    text.push_str("\n[uplink]\n");
    match brokers.as_slice() {
        [one] => text.push_str(&format!("broker = {}\n", quoted(one))),
        several => {
            let several: Vec<String> = several.iter().map(|broker| quoted(broker)).collect();
            text.push_str(&format!(
                "brokers = [{}]   # tried in this order from the last good one on\n",
                several.join(", ")
            ));
        }
    }
    if let Some(spool) = spool {
        text.push_str(&format!("\n[spool]\ndir = {}\n", quoted(&spool.to_string_lossy())));
    }
    text.push_str(&unused(findings));
    sources(&mut text, chosen);
    text
}

/// A configuration with more sources behind all that stands in it.
#[must_use]
pub fn extend(before: &str, chosen: &[Offer]) -> String {
    let mut text = before.trim_end().to_owned();
    text.push('\n');
    sources(&mut text, chosen);
    text
}

fn sources(text: &mut String, chosen: &[Offer]) {
    for offer in chosen {
        text.push('\n');
        text.push_str(&offer.text);
    }
}

/// Ports from which no source was made, and why.
fn unused(findings: &Findings) -> String {
    let of = |port: &FoundPort| {
        let why = match &port.heard {
            Heard::Link { .. } | Heard::Nmea { .. } | Heard::Protocol { .. } | Heard::Numbers { .. } => {
                return None;
            }
            Heard::Text { baud } => format!("text at {baud} baud that is no line of numbers"),
            Heard::Noise => "bytes that make no sense at the usual rates".to_owned(),
            Heard::Silence => "nothing is sent there by itself".to_owned(),
            Heard::NotListened { why } => format!("not listened to: {why}"),
            Heard::Failed { why } => format!("not opened: {why}"),
        };
        Some(format!("# {}: {}\n", port.path.display(), one_line(&why)))
    };
    let lines: String = findings.ports.iter().filter_map(of).collect();
    if lines.is_empty() { lines } else { format!("\n# Ports without a source:\n{lines}") }
}

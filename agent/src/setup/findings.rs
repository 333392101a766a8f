//! What was found on a gateway, for people, programs and the plan.

use crate::source::sys::FoundDevice;
use serde::Serialize;
use std::net::SocketAddr;
use std::path::PathBuf;

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct Findings {
    /// The host's name, if it can be a device's.
    pub host: Option<String>,
    /// Serial ports.
    pub ports: Vec<FoundPort>,
    /// Cameras.
    pub cameras: Vec<FoundCamera>,
    /// Sensors of the kernel, and the machine itself.
    pub sensors: Vec<FoundSensors>,
    /// gpsd, if it answers.
    pub gpsd: Option<FoundGpsd>,
}

/// A serial port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FoundPort {
    /// By the name that lasts longest.
    pub path: PathBuf,
    /// The kernel's name, such as `ttyUSB0`.
    pub tty: String,
    /// What kind of port it is, for a person.
    pub kind: &'static str,
    /// What is at its other end.
    pub heard: Heard,
}

/// What was heard on a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "heard", rename_all = "snake_case")]
pub enum Heard {
    /// Frames of the link protocol.
    Link {
        /// At which rate.
        baud: u32,
    },
    /// Sentences of a GPS receiver.
    Nmea {
        /// At which rate.
        baud: u32,
    },
    /// Frames of a device's own protocol.
    Protocol {
        /// At which rate.
        baud: u32,
        /// Its word in the configuration, such as `ubx`.
        framing: &'static str,
    },
    /// Lines with as many numbers each.
    Numbers {
        /// At which rate.
        baud: u32,
        /// How many.
        columns: usize,
        /// What stands between them.
        separator: char,
    },
    /// Lines of something else.
    Text {
        /// At which rate.
        baud: u32,
    },
    /// Bytes that make no sense at any rate that was tried.
    Noise,
    /// Nothing.
    Silence,
    /// Nobody listened.
    NotListened {
        /// Why.
        why: String,
    },
    /// It could not be opened.
    Failed {
        /// Why, and what to do.
        why: String,
    },
}

/// A camera.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "camera", rename_all = "snake_case")]
pub enum FoundCamera {
    /// On a Raspberry Pi's camera connector.
    Pi {
        /// The program that films, if it is installed.
        program: Option<String>,
    },
    /// Any other.
    Usb {
        /// Device file.
        device: PathBuf,
        /// What it calls itself.
        name: String,
        /// `v4l2-ctl` is installed.
        tool: bool,
    },
}

/// Sensors of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FoundSensors {
    /// Type of their source: `iio`, `hwmon`, `w1` or `host`.
    pub source: &'static str,
    /// Each of them.
    pub devices: Vec<FoundDevice>,
}

/// A gpsd that answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FoundGpsd {
    /// Where.
    pub at: SocketAddr,
    /// Its release.
    pub release: String,
    /// Device files of its receivers: nobody else may read them.
    pub receivers: Vec<String>,
}

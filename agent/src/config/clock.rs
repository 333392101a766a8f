//! `[clock]`: which sources of time are asked, and what is declared of them.

use super::mistake::{Mistake, Mistakes};
use super::raw::RawClock;
use super::value;
use headwater_core::time::NS_PER_MS;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// Where gpsd listens if nobody says otherwise.
pub const GPSD_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 2947);
/// Largest declared rate, ppb: 1 %, above any oscillator.
const RHO_PPB_MAX: i64 = 10_000_000;

/// Whether a source is used, and which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pick<T> {
    /// It is not.
    Off,
    /// Whatever is there.
    Auto,
    /// This one: that it is missing is worth a word.
    This(T),
}

/// `[clock]`, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClockSettings {
    /// chronyd.
    pub chrony: ChronySettings,
    /// Whether timesyncd's word is heard; else it is the kernel's.
    pub timesyncd: bool,
    /// Where gpsd listens.
    pub gpsd: Pick<SocketAddr>,
    /// Pulses.
    pub pps: PpsSettings,
    /// Whether sentences of our own receivers tell the time.
    pub gps_serial: bool,
    /// Hardware clocks.
    pub ptp: PtpSettings,
    /// What smeared leap seconds may add, ns.
    pub smear_ns: i64,
    /// Most by which this board's crystal is off, ppb; none if nobody declared it.
    pub rho_ppb: Option<i64>,
}

/// chronyd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChronySettings {
    /// Its address or socket, for `chronyc -h`.
    pub daemon: Pick<String>,
    /// The configuration it runs with.
    pub conf: Option<PathBuf>,
}

/// Pulses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PpsSettings {
    /// The device.
    pub device: Pick<PathBuf>,
    /// The second is at the falling edge.
    pub clear_edge: bool,
    /// Most time from the second to its stamp, ns.
    pub latency_ns: Option<i64>,
}

/// What a hardware clock counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PtpScale {
    /// UTC if it is a host's, else TAI.
    Auto,
    /// TAI, as ptp4l keeps it.
    Tai,
    /// UTC.
    Utc,
}

/// Hardware clocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PtpSettings {
    /// The device.
    pub device: Pick<PathBuf>,
    /// What it counts.
    pub scale: PtpScale,
    /// Half width claimed for it, ns.
    pub half_ns: i64,
}

fn pick<T>(
    text: Option<&str>,
    path: &str,
    expected: &str,
    read: impl Fn(&str) -> Option<T>,
    mistakes: &mut Mistakes,
) -> Option<Pick<T>> {
    match text {
        None | Some("auto") => Some(Pick::Auto),
        Some("off") => Some(Pick::Off),
        Some(text) => {
            let read = read(text).map(Pick::This);
            if read.is_none() {
                mistakes.push(Mistake::new(path, expected, format!("{text:?}")));
            }
            read
        }
    }
}

fn switch(text: Option<&str>, path: &str, mistakes: &mut Mistakes) -> Option<bool> {
    value::word(text, &[("auto", true), ("off", false)], Some(true), path, mistakes)
}

fn device(text: &str) -> Option<PathBuf> {
    text.starts_with("/dev/").then(|| PathBuf::from(text))
}

/// Checks the table.
pub(super) fn clock(raw: &RawClock, folder: &Path, mistakes: &mut Mistakes) -> Option<ClockSettings> {
    let address = |text: &str| {
        let plain = !text.is_empty() && !text.starts_with('-') && !text.contains(char::is_whitespace);
        plain.then(|| text.to_owned())
    };
    let expected = "\"auto\", \"off\", or the address or socket of chronyd";
    let chrony = pick(raw.chrony.as_deref(), "clock.chrony", expected, address, mistakes);
    let timesyncd = switch(raw.timesyncd.as_deref(), "clock.timesyncd", mistakes);
    // gpsd stamps with the wall clock of its own host: another host's would be taken for ours.
    let expected = "\"auto\", \"off\", or a gpsd on this host such as \"127.0.0.1:2947\"";
    let loopback = |text: &str| text.parse::<SocketAddr>().ok().filter(|at| at.ip().is_loopback());
    let gpsd = pick(raw.gpsd.as_deref(), "clock.gpsd", expected, loopback, mistakes);
    let expected = "\"auto\", \"off\", or a device such as \"/dev/pps0\"";
    let pps = pick(raw.pps.as_deref(), "clock.pps", expected, device, mistakes);
    let edges = [("assert", false), ("clear", true)];
    let clear_edge = value::word(raw.pps_edge.as_deref(), &edges, Some(false), "clock.pps_edge", mistakes);
    let latency = raw
        .pps_latency_us
        .map(|us| value::number::<i64>(Some(us), us, 0..=500_000, "clock.pps_latency_us", mistakes));
    let gps_serial = switch(raw.gps_serial.as_deref(), "clock.gps_serial", mistakes);
    let expected = "\"auto\", \"off\", or a device such as \"/dev/ptp0\"";
    let ptp = pick(raw.ptp.as_deref(), "clock.ptp", expected, device, mistakes);
    let scales = [("auto", PtpScale::Auto), ("tai", PtpScale::Tai), ("utc", PtpScale::Utc)];
    let scale =
        value::word(raw.ptp_scale.as_deref(), &scales, Some(PtpScale::Auto), "clock.ptp_scale", mistakes);
    let ptp_us: Option<i64> =
        value::number(raw.ptp_error_us, 100_000, 1..=10_000_000, "clock.ptp_error_us", mistakes);
    let smear_ms: Option<i64> = value::number(raw.smear_ms, 0, 0..=1_000, "clock.smear_ms", mistakes);
    let rho = raw
        .rho_ppb
        .map(|ppb| value::number::<i64>(Some(ppb), ppb, 1..=RHO_PPB_MAX, "clock.rho_ppb", mistakes));
    let us = |us: i64| us.saturating_mul(1_000);
    Some(ClockSettings {
        chrony: ChronySettings {
            daemon: chrony?,
            conf: raw.chrony_conf.as_ref().map(|file| folder.join(file)),
        },
        timesyncd: timesyncd?,
        gpsd: gpsd?,
        pps: PpsSettings {
            device: pps?,
            clear_edge: clear_edge?,
            latency_ns: match latency {
                Some(latency) => Some(us(latency?)),
                None => None,
            },
        },
        gps_serial: gps_serial?,
        ptp: PtpSettings { device: ptp?, scale: scale?, half_ns: us(ptp_us?) },
        smear_ns: smear_ms?.saturating_mul(NS_PER_MS),
        rho_ppb: match rho {
            Some(rho) => Some(rho?),
            None => None,
        },
    })
}

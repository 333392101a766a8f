//! Pulse devices (`/dev/pps*`) and hardware clocks (`/dev/ptp*`): found, opened and asked now and then.

use super::ioctl::{self, Between, Pulse};
use super::report::Report;
use crate::config::{Pick, PpsSettings, PtpScale, PtpSettings};
use crate::stamp::track::{self, TimeSource};
use headwater_core::ports::Clock;
use headwater_core::time::BootNanos;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use tokio::sync::{mpsc, watch};

/// Between two questions for the newest pulse, ms.
const PULSE_MS: u64 = 1_000;
/// Between two looks for devices that were not there, ms.
const FIND_MS: u64 = 30_000;
/// Most devices of a kind that are used.
const DEVICES_MAX: usize = 4;
/// Names of hardware clocks that show a host's UTC, as their drivers give them.
const HOST_CLOCKS: [&str; 3] = ["KVM", "hyperv", "vmw"];

/// Devices whose names begin like this, in order.
pub(super) fn named_like(beginning: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir("/dev") else { return Vec::new() };
    let names = entries.flatten().map(|entry| entry.path());
    let like = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.strip_prefix(beginning).is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    };
    let mut found: Vec<PathBuf> = names.filter(like).collect();
    found.sort();
    found.truncate(DEVICES_MAX);
    found
}

/// Pulse devices that are to be used.
pub(super) fn pulse_devices(settings: &PpsSettings) -> Vec<PathBuf> {
    match &settings.device {
        Pick::Off => Vec::new(),
        Pick::Auto => named_like("pps"),
        Pick::This(device) => vec![device.clone()],
    }
}

/// Why a device cannot be opened, and what to do.
pub(super) fn told(device: &Path, error: &io::Error) -> String {
    let mend = match error.kind() {
        io::ErrorKind::PermissionDenied => "; let the agent's user read it, with a rule for udev",
        io::ErrorKind::NotFound => "; load its driver, or correct [clock]",
        _ => "",
    };
    format!("{}: {error}{mend}", device.display())
}

/// Asks pulse devices until nobody listens.
pub(super) async fn pulses<C: Clock>(clock: C, settings: PpsSettings, out: mpsc::Sender<Report>) {
    let wanted = matches!(settings.device, Pick::This(_));
    let mut open: BTreeMap<PathBuf, Option<u32>> = BTreeMap::new();
    let mut find_at = BootNanos(i64::MIN);
    loop {
        let now = clock.boot();
        if now >= find_at {
            find_at = now.plus_ms(FIND_MS);
            for device in pulse_devices(&settings) {
                open.entry(device).or_default();
            }
        }
        let mut failed = Vec::new();
        for (device, last) in &mut open {
            let (path, clear) = (device.clone(), settings.clear_edge);
            let asked = tokio::task::spawn_blocking(move || ioctl::newest_pulse(&File::open(path)?, clear));
            let report = match asked.await.unwrap_or_else(|error| Err(io::Error::other(error))) {
                // The first one seen may be of any time before.
                Ok(Some(Pulse { n, wall })) if last.replace(n).is_some_and(|last| last != n) => {
                    Report::Pulse { from: device.display().to_string(), wall, utc: None }
                }
                Ok(_) => continue,
                Err(error) => {
                    failed.push(device.clone());
                    Report::Silent { source: TimeSource::GpsPps, why: told(device, &error), wanted }
                }
            };
            if out.send(report).await.is_err() {
                return;
            }
        }
        // They are tried again when devices are looked for.
        open.retain(|device, _| !failed.contains(device));
        let wait_ms = if open.is_empty() { FIND_MS } else { PULSE_MS };
        clock.sleep_until(clock.boot().plus_ms(wait_ms)).await;
    }
}

/// A hardware clock that is to be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hardware {
    pub(super) device: PathBuf,
    pub(super) name: String,
    pub(super) tai: bool,
}

/// What its driver calls it.
pub(super) fn clock_name(device: &Path) -> String {
    let place = Path::new("/sys/class/ptp").join(device.file_name().unwrap_or_default()).join("clock_name");
    std::fs::read_to_string(place).map(|name| name.trim().to_owned()).unwrap_or_default()
}

/// Clocks to be used: a host's are by themselves, others only if named, since one that nobody disciplines shows anything.
pub(super) fn hardware_clocks(settings: &PtpSettings) -> Vec<Hardware> {
    let of = |device: PathBuf| {
        let name = clock_name(&device);
        let host = HOST_CLOCKS.iter().any(|known| name.contains(known));
        let tai = match settings.scale {
            PtpScale::Auto => !host,
            PtpScale::Tai => true,
            PtpScale::Utc => false,
        };
        (host, Hardware { device, name, tai })
    };
    match &settings.device {
        Pick::Off => Vec::new(),
        Pick::Auto => {
            let found = named_like("ptp").into_iter().map(of);
            found.filter(|(host, _)| *host).map(|(_, clock)| clock).collect()
        }
        Pick::This(device) => vec![of(device.clone()).1],
    }
}

/// Reads hardware clocks in the rhythm of samples until nobody listens.
pub(super) async fn hardware<C: Clock>(
    clock: C,
    settings: PtpSettings,
    settling: watch::Receiver<BootNanos>,
    out: mpsc::Sender<Report>,
) {
    loop {
        for Hardware { device, name, tai } in hardware_clocks(&settings) {
            let path = device.clone();
            let read = tokio::task::spawn_blocking(move || ioctl::hardware_clock(&File::open(path)?));
            let report = match read.await.unwrap_or_else(|error| Err(io::Error::other(error))) {
                Ok(Between { before, shown, after }) => Report::Hardware {
                    from: format!("{} ({name})", device.display()),
                    before,
                    shown,
                    after,
                    tai,
                },
                Err(error) => {
                    let wanted = matches!(settings.device, Pick::This(_));
                    Report::Silent { source: TimeSource::Ptp, why: told(&device, &error), wanted }
                }
            };
            if out.send(report).await.is_err() {
                return;
            }
        }
        let next = track::next_sample(*settling.borrow(), clock.boot());
        clock.sleep_until(next).await;
    }
}

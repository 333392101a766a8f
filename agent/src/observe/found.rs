//! Which sources of time there are here, and what each may claim: for `headwater-agent check`.

use super::kernel::{GatewayKernel, Kernel};
use super::look::kernel_claim;
use super::report::Report;
use super::{chronyc, devices, ioctl};
use crate::clock::BootClock;
use crate::config::{ClockSettings, Framing, GPSD_DEFAULT, Pick, SourceKind, SourceSettings};
use crate::gpsd::Connection;
use crate::stamp::track::TimeSource;
use headwater_core::ports::Clock;
use headwater_core::time::{Grade, NS_PER_MS};
use std::fs::File;
use std::net::SocketAddr;

/// What was found of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// For a person.
    pub told: String,
    /// The configuration names it, and it cannot be used.
    pub is_problem: bool,
}

fn found(source: TimeSource, told: impl std::fmt::Display) -> Found {
    Found { told: format!("{}: {told}", source.as_str()), is_problem: false }
}

/// Looks for all of them, and asks each once.
pub async fn find(settings: &ClockSettings, sources: &[SourceSettings]) -> Vec<Found> {
    let mut all = vec![kernel(settings)];
    all.extend(chrony(settings).await);
    all.extend(gpsd(settings).await);
    all.extend(pulses(settings));
    all.extend(receivers(settings, sources));
    all.extend(hardware(settings));
    all.push(found(
        TimeSource::CollectorExchange,
        "with each ack; guaranteed if the collector's [clock] has a bound",
    ));
    all
}

fn kernel(settings: &ClockSettings) -> Found {
    let claim = kernel_claim(&GatewayKernel::new(BootClock, settings.timesyncd).look());
    match claim.half_ns {
        Some(half) => found(claim.source, format_args!("synchronised, estimated ± {} ms", half / NS_PER_MS)),
        None => found(claim.source, "not synchronised; claims nothing"),
    }
}

async fn chrony(settings: &ClockSettings) -> Option<Found> {
    let source = TimeSource::Chrony;
    let wanted = matches!(settings.chrony.daemon, Pick::This(_));
    if settings.chrony.daemon == Pick::Off {
        return Some(found(source, "switched off"));
    }
    match chronyc::ask(&settings.chrony, BootClock.boot()).await {
        Ok(Report::Chrony { tracking, guaranteed, .. }) => {
            let claim = tracking.claim(0, 0, guaranteed);
            let may = match (claim.half_ns, claim.grade) {
                (Some(half), Grade::Guaranteed) => format!("guaranteed ± {} µs", half / 1_000),
                (Some(half), _) => format!(
                    "estimated ± {} µs; for a guarantee put `maxclockerror 50` into its configuration",
                    half / 1_000
                ),
                (None, _) => "claims nothing".to_owned(),
            };
            Some(found(source, format_args!("{}; {may}", claim.detail)))
        }
        Ok(_) => None,
        Err(chronyc::NoAnswer::NoProgram) if !wanted => None,
        Err(chronyc::NoAnswer::NoProgram) => {
            Some(Found { is_problem: true, ..found(source, "there is no program chronyc: install chrony") })
        }
        Err(chronyc::NoAnswer::Silent(why)) => Some(Found { is_problem: wanted, ..found(source, why) }),
    }
}

async fn gpsd(settings: &ClockSettings) -> Option<Found> {
    let (at, wanted): (SocketAddr, bool) = match settings.gpsd {
        Pick::Off => return None,
        Pick::Auto => (GPSD_DEFAULT, false),
        Pick::This(at) => (at, true),
    };
    match Connection::open(BootClock, at).await {
        Ok(gpsd) => {
            let told = format!("gpsd {} at {at}; {}", gpsd.release, pulse_grade(settings));
            Some(found(TimeSource::GpsPps, told))
        }
        Err(_) if !wanted => None,
        Err(why) => {
            let told = format!("gpsd at {at}: {why}; start it, or correct clock.gpsd");
            Some(Found { is_problem: true, ..found(TimeSource::GpsPps, told) })
        }
    }
}

fn pulse_grade(settings: &ClockSettings) -> String {
    match settings.pps.latency_ns {
        Some(ns) => format!("pulses are guaranteed to come within {} µs", ns / 1_000),
        None => "pulses are estimated; for a guarantee declare clock.pps_latency_us".to_owned(),
    }
}

fn pulses(settings: &ClockSettings) -> Vec<Found> {
    let wanted = matches!(settings.pps.device, Pick::This(_));
    let of = |device: std::path::PathBuf| {
        let asked = File::open(&device).and_then(|file| ioctl::newest_pulse(&file, settings.pps.clear_edge));
        match asked {
            Ok(newest) => {
                let seen = newest.map_or("no pulse yet".to_owned(), |pulse| format!("{} pulses", pulse.n));
                let told = format!("{} ({seen}); {}", device.display(), pulse_grade(settings));
                found(TimeSource::GpsPps, told)
            }
            Err(error) => {
                let told = devices::told(&device, &error);
                Found { is_problem: wanted, ..found(TimeSource::GpsPps, told) }
            }
        }
    };
    devices::pulse_devices(&settings.pps).into_iter().map(of).collect()
}

fn receivers(settings: &ClockSettings, sources: &[SourceSettings]) -> Vec<Found> {
    let nmea = |kind: &SourceKind| matches!(kind, SourceKind::Serial { framing: Framing::Nmea, .. });
    let streams = sources.iter().filter(|source| settings.gps_serial && nmea(&source.kind));
    streams
        .map(|source| {
            found(
                TimeSource::GpsSerial,
                format_args!("sentences of {}; a guaranteed lower bound, and no upper one", source.stream),
            )
        })
        .collect()
}

fn hardware(settings: &ClockSettings) -> Vec<Found> {
    let source = TimeSource::Ptp;
    let wanted = matches!(settings.ptp.device, Pick::This(_));
    let used = devices::hardware_clocks(&settings.ptp);
    let mut all: Vec<Found> = used
        .iter()
        .map(|clock| {
            let (device, name) = (clock.device.display(), &clock.name);
            match File::open(&clock.device).and_then(|file| ioctl::hardware_clock(&file)) {
                Ok(_) => {
                    let scale = if clock.tai { "TAI" } else { "UTC" };
                    let ms = settings.ptp.half_ns / NS_PER_MS;
                    found(source, format_args!("{device} ({name}) shows {scale}; estimated ± {ms} ms"))
                }
                Err(error) => {
                    Found { is_problem: wanted, ..found(source, devices::told(&clock.device, &error)) }
                }
            }
        })
        .collect();
    if settings.ptp.device == Pick::Auto {
        let others = devices::named_like("ptp").into_iter();
        let others = others.filter(|device| !used.iter().any(|clock| clock.device == *device));
        all.extend(others.map(|device| {
            let name = devices::clock_name(&device);
            let device = device.display();
            found(
                source,
                format_args!("{device} ({name}) is not used; if ptp4l disciplines it, name it in clock.ptp"),
            )
        }));
    }
    all
}

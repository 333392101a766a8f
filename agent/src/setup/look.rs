//! Looks for what files tell of: sensors, the machine itself, cameras, the host's name.

use super::findings::{Findings, FoundCamera, FoundSensors};
use crate::config::SysWhat;
use crate::source::sys::{SysTree, find};
use headwater_core::id::DeviceId;
use headwater_core::ports::Clock;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const VIDEO: &str = "/sys/class/video4linux";
/// What a Raspberry Pi's camera connector is called by its drivers, if a sensor is at it.
const PI_CAMERAS: [&str; 2] = ["unicam", "rp1-cfe"];
/// Video devices that are no cameras: coders, scalers.
const NO_CAMERAS: [&str; 6] = ["bcm2835-codec", "bcm2835-isp", "rpivid", "rpi-hevc", "pispbe", "hantro"];
/// Programs that film from a Pi's camera and say when each frame was exposed.
const PI_PROGRAMS: [&str; 2] = ["rpicam-vid", "libcamera-vid"];
/// Chips whose values the source `host` tells too.
const OF_HOST: [&str; 2] = ["cpu_thermal", "rpi_volt"];

/// Looks at all of it; ports and gpsd are left to whoever may wait for them. Blocks while thermometers convert. `programs` are
/// the folders in which programs are.
#[must_use]
pub fn look<C: Clock>(tree: &SysTree, programs: &[PathBuf], clock: &C) -> Findings {
    let kinds = [SysWhat::Iio, SysWhat::Hwmon, SysWhat::W1, SysWhat::Host { dir: "/".into() }];
    let sensors = kinds.into_iter().filter_map(|what| {
        let (source, devices) = (what.as_str(), find(what.clone(), tree, clock.clone()));
        let of_host = |name: &str| OF_HOST.iter().any(|chip| name.starts_with(chip));
        let told_elsewhere = what == SysWhat::Hwmon && devices.iter().all(|device| of_host(&device.name));
        (!devices.is_empty() && !told_elsewhere).then_some(FoundSensors { source, devices })
    });
    Findings {
        host: tree
            .text("/proc/sys/kernel/hostname")
            .map(|name| name.to_lowercase())
            .filter(|name| name.parse::<DeviceId>().is_ok()),
        sensors: sensors.collect(),
        cameras: cameras(tree, programs),
        ..Findings::default()
    }
}

fn cameras(tree: &SysTree, programs: &[PathBuf]) -> Vec<FoundCamera> {
    let (mut found, mut pi) = (Vec::new(), false);
    for video in tree.names(VIDEO).into_iter().filter(|name| name.starts_with("video")) {
        let name = tree.text(format!("{VIDEO}/{video}/name")).unwrap_or_default();
        let like = |names: &[&str]| names.iter().any(|known| name.starts_with(known));
        if like(&PI_CAMERAS) {
            pi = true;
        } else if !like(&NO_CAMERAS)
            && tree.text(format!("{VIDEO}/{video}/index")).is_none_or(|index| index == "0")
        {
            let device = lasting_video(tree, &video);
            let tool = program(tree, programs, "v4l2-ctl");
            found.push(FoundCamera::Usb { device, name, tool });
        }
    }
    if pi {
        let program =
            PI_PROGRAMS.iter().find(|name| program(tree, programs, name)).map(|name| (*name).to_owned());
        found.insert(0, FoundCamera::Pi { program });
    }
    found
}

/// Its name below `/dev/v4l/by-id`, which lasts, else the kernel's.
fn lasting_video(tree: &SysTree, video: &str) -> PathBuf {
    let (folder, device) = (Path::new("/dev/v4l/by-id"), Path::new("/dev").join(video));
    let real = |path: &Path| fs::canonicalize(tree.path(path)).ok();
    let wanted = real(&device);
    let mut names = tree.names(folder).into_iter().map(|name| folder.join(name));
    names.find(|path| wanted.is_some() && real(path) == wanted).unwrap_or(device)
}

/// Whether one of the folders has a program of this name.
fn program(tree: &SysTree, programs: &[PathBuf], name: &str) -> bool {
    programs.iter().any(|folder| {
        let found = fs::metadata(tree.path(folder).join(name));
        found.is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    })
}

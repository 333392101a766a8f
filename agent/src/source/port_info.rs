//! What the kernel tells of a serial port: whether a UART, a USB adapter or nobody at all holds its bytes back.

use std::fs;
use std::path::Path;

const MS: i64 = 1_000_000;
/// A full-speed USB host asks each device once a frame.
const USB_POLL_NS: i64 = MS;
/// What FTDI adapters wait for more bytes unless told otherwise (`latency_timer`).
const FTDI_TIMER_NS: i64 = 16 * MS;
/// Adapters that publish no timer, and a board's own USB stack: no data sheet promises less than FTDI's.
const UNKNOWN_HOLD_NS: i64 = 17 * MS;
/// A UART interrupts when its FIFO is half full or idle for four characters: at most this many wait in it (PL011 has 32,
/// the 16550 has 16).
const FIFO_BYTES: usize = 36;

/// What kind of port it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortKind {
    /// A UART of this machine.
    Uart,
    /// A USB adapter with a UART behind it; how long it waits for more bytes, ns, if it says so.
    UsbSerial {
        /// Its timer, ns.
        timer_ns: Option<i64>,
    },
    /// A board that is a USB device itself, or an adapter that behaves like one (CDC-ACM).
    UsbCdc,
    /// No line at all.
    Pseudo,
    /// The kernel does not tell.
    Unknown,
}

impl PortKind {
    /// How long bytes may be held back between line and kernel at `baud`, ns.
    #[must_use]
    pub fn hold_ns(self, baud: u32) -> i64 {
        match self {
            Self::Uart => {
                let wire = super::arrival::WireTime { baud, paced: false };
                wire.most_ns(FIFO_BYTES)
            }
            Self::UsbSerial { timer_ns: Some(timer) } => timer.saturating_add(USB_POLL_NS),
            Self::UsbSerial { timer_ns: None } | Self::UsbCdc | Self::Unknown => UNKNOWN_HOLD_NS,
            Self::Pseudo => 0,
        }
    }

    /// Name for people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Uart => "uart",
            Self::UsbSerial { .. } => "usb serial adapter",
            Self::UsbCdc => "usb cdc",
            Self::Pseudo => "pseudo terminal",
            Self::Unknown => "unknown",
        }
    }
}

/// Looks `port` up below `sys` (`/sys`). Links such as `/dev/serial/by-id/…` are followed.
#[must_use]
pub fn port_kind(port: &Path, sys: &Path) -> PortKind {
    let device = fs::canonicalize(port).unwrap_or_else(|_| port.to_path_buf());
    if device.starts_with("/dev/pts") {
        return PortKind::Pseudo;
    }
    let Some(name) = device.file_name().and_then(|name| name.to_str()) else { return PortKind::Unknown };
    let about = sys.join("class/tty").join(name).join("device");
    let driver = fs::canonicalize(about.join("driver")).ok();
    let driver = driver.as_deref().and_then(Path::file_name).and_then(|name| name.to_str());
    match (driver, name) {
        (Some("cdc_acm"), _) => PortKind::UsbCdc,
        (Some("ftdi_sio"), _) => {
            PortKind::UsbSerial { timer_ns: Some(timer_ns(&about).unwrap_or(FTDI_TIMER_NS)) }
        }
        (Some(driver), name) if name.starts_with("ttyUSB") || is_usb_serial(driver) => {
            PortKind::UsbSerial { timer_ns: timer_ns(&about) }
        }
        (Some(_), name)
            if ["ttyS", "ttyAMA", "ttyO", "ttymxc", "ttyTHS"].iter().any(|p| name.starts_with(p)) =>
        {
            PortKind::Uart
        }
        _ => PortKind::Unknown,
    }
}

/// Drivers of adapters, as the kernel names them.
fn is_usb_serial(driver: &str) -> bool {
    ["cp210x", "ch341", "ch341-uart", "pl2303", "xr_serial"].contains(&driver)
}

/// `latency_timer` of an adapter, written in ms.
fn timer_ns(about: &Path) -> Option<i64> {
    let text = fs::read_to_string(about.join("latency_timer")).ok()?;
    let ms: i64 = text.trim().parse().ok()?;
    (0..=255).contains(&ms).then(|| ms * MS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A piece of sysfs as Linux 6.1 shows it.
    fn sysfs(tty: &str, driver: &str, timer: Option<&str>) -> tempfile::TempDir {
        let sys = tempfile::tempdir().unwrap();
        let device = sys.path().join("devices").join(tty);
        let drivers = sys.path().join("bus/usb-serial/drivers").join(driver);
        fs::create_dir_all(&device).unwrap();
        fs::create_dir_all(&drivers).unwrap();
        symlink(&drivers, device.join("driver")).unwrap();
        if let Some(timer) = timer {
            fs::write(device.join("latency_timer"), timer).unwrap();
        }
        let class = sys.path().join("class/tty").join(tty);
        fs::create_dir_all(&class).unwrap();
        symlink(&device, class.join("device")).unwrap();
        sys
    }

    #[test]
    fn adapters_and_uarts_are_told_apart_by_their_driver() {
        let kind = |tty: &str, driver: &str, timer| {
            let sys = sysfs(tty, driver, timer);
            port_kind(&Path::new("/dev").join(tty), sys.path())
        };
        let usb = |timer_ns| PortKind::UsbSerial { timer_ns };
        assert_eq!(kind("ttyUSB0", "ftdi_sio", Some("1\n")), usb(Some(MS)));
        assert_eq!(kind("ttyUSB0", "ftdi_sio", None), usb(Some(16 * MS)));
        assert_eq!(kind("ttyUSB1", "cp210x", None), usb(None));
        assert_eq!(kind("ttyUSB1", "ftdi_sio", Some("nonsense")), usb(Some(16 * MS)));
        assert_eq!(kind("ttyACM0", "cdc_acm", None), PortKind::UsbCdc);
        assert_eq!(kind("ttyAMA0", "uart-pl011", None), PortKind::Uart);
        assert_eq!(kind("ttyS0", "serial8250", None), PortKind::Uart);
        assert_eq!(port_kind(Path::new("/dev/ttyX9"), Path::new("/nowhere")), PortKind::Unknown);
    }

    #[test]
    fn a_slow_adapter_is_seen_through_its_lasting_name() {
        let sys = sysfs("ttyUSB7", "ftdi_sio", Some("16"));
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().join("ttyUSB7");
        fs::write(&real, "").unwrap();
        let by_id = dir.path().join("usb-FTDI_FT232R-if00-port0");
        symlink(&real, &by_id).unwrap();
        let kind = port_kind(&by_id, sys.path());
        assert_eq!(kind.hold_ns(115_200), 17 * MS);
        assert!(PortKind::Uart.hold_ns(115_200) < 4 * MS);
        assert_eq!(PortKind::Pseudo.hold_ns(9_600), 0);
    }
}

//! Findings to text against files that stay, and probing on pseudo terminals and a folder that stands for `/`.

use super::*;
use crate::clock::BootClock;
use crate::config;
use crate::config::GPSD_DEFAULT;
use crate::source::sys::{FoundDevice, SysTree};
use headwater_core::ports::Clock;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio_serial::{SerialPort, SerialStream};

fn basis() -> Basis {
    Basis {
        tenant: "acme".into(),
        name: "pi-7".into(),
        identity: "/var/lib/headwater/pki".into(),
        renew: Some("https://hq.example:8443".into()),
        brokers: vec!["mqtts://hq.example:8883".into()],
        spool: None,
    }
}

fn port(tty: &str, heard: Heard) -> FoundPort {
    FoundPort { path: Path::new("/dev").join(tty), tty: tty.into(), kind: "usb serial adapter", heard }
}

fn sensors(source: &'static str, names: &[&str]) -> FoundSensors {
    let devices = names.iter().map(|name| FoundDevice { name: (*name).into(), fields: vec![] });
    FoundSensors { source, devices: devices.collect() }
}

/// A Pi with all there is.
fn full() -> Findings {
    Findings {
        host: Some("pi-7".into()),
        ports: vec![
            port("serial/by-id/usb-FTDI_FT232R-if00-port0", Heard::Link { baud: 115_200 }),
            port("ttyUSB1", Heard::Nmea { baud: 9_600 }),
            port("ttyUSB2", Heard::Numbers { baud: 57_600, columns: 3, separator: ';' }),
            port("ttyUSB3", Heard::Link { baud: 230_400 }),
            port("ttyUSB6", Heard::Protocol { baud: 9_600, framing: "ubx" }),
            port("ttyUSB7", Heard::Protocol { baud: 19_200, framing: "vedirect" }),
            port("ttyUSB4", Heard::Text { baud: 9_600 }),
            port("ttyUSB5", Heard::Failed { why: "Permission denied\nlet the user into dialout".into() }),
            port("ttyS0", Heard::Silence),
            port("ttyAMA0", Heard::NotListened { why: "it is the console".into() }),
        ],
        cameras: vec![
            FoundCamera::Pi { program: Some("rpicam-vid".into()) },
            FoundCamera::Usb {
                device: "/dev/v4l/by-id/usb-046d_C270-video-index0".into(),
                name: "C270 \"HD\"\nWEBCAM".into(),
                tool: false,
            },
        ],
        sensors: vec![
            sensors("iio", &["bme280.1-0076", "mpu6050.1-0068"]),
            sensors("hwmon", &["ina219.1-0040"]),
            sensors("w1", &["28-1", "28-2", "28-3", "28-4", "28-5", "28-6", "28-7", "28-8"]),
            sensors("host", &["", "wlan0"]),
        ],
        gpsd: Some(FoundGpsd {
            at: GPSD_DEFAULT,
            release: "3.22".into(),
            receivers: vec!["/dev/ttyACM0".into()],
        }),
    }
}

fn as_is(path: &Path) -> PathBuf {
    path.to_path_buf()
}

fn golden(name: &str, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/setup").join(name);
    if std::env::var_os("HEADWATER_GOLDEN_WRITE").is_some() {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, text).unwrap();
    }
    assert_eq!(text, fs::read_to_string(&file).unwrap(), "{name}");
}

#[test]
fn each_set_of_findings_gives_its_text_and_the_text_is_a_configuration() {
    let none = Findings::default();
    let old = Findings {
        cameras: vec![FoundCamera::Pi { program: None }],
        sensors: vec![sensors("host", &[""])],
        ..none.clone()
    };
    let elsewhere = Basis {
        renew: None,
        brokers: vec!["mqtts://a.example:8883".into(), "mqtts://b.example:8883".into()],
        spool: Some("/mnt/spool \"1\"".into()),
        ..basis()
    };
    for (name, basis, findings, active) in [
        ("full.toml", basis(), full(), 11),
        ("nothing.toml", basis(), none, 0),
        ("no_programs.toml", elsewhere, old, 1),
    ] {
        let offers = offers(&findings, &Captured::default(), &as_is);
        let text = compose(&basis, &findings, &offers);
        golden(name, &text);
        let settings = config::parse_text(&text).unwrap_or_else(|mistakes| panic!("{name}: {mistakes}"));
        assert_eq!(settings.sources.len(), active, "{name}");
        assert_eq!(offers.iter().filter(|offer| offer.ready).count(), active, "{name}");
    }
}

/// Those that a person must fill in, too, are right once the `#` is gone.
#[test]
fn what_is_a_comment_is_a_source_without_its_mark() {
    for offer in offers(&full(), &Captured::default(), &as_is).into_iter().filter(|offer| !offer.ready) {
        let lines: Vec<&str> =
            offer.text.lines().skip(1).map(|line| line.strip_prefix("# ").unwrap()).collect();
        let offer = Offer { text: lines.join("\n"), ready: true, ..offer };
        let text = compose(&basis(), &Findings::default(), std::slice::from_ref(&offer));
        let settings =
            config::parse_text(&text).unwrap_or_else(|mistakes| panic!("{}: {mistakes}", offer.told));
        assert_eq!(settings.sources.len(), 1);
    }
}

#[test]
fn what_is_captured_already_is_not_offered_again_and_names_stay_apart() {
    let text = compose(&basis(), &full(), &offers(&full(), &Captured::default(), &as_is));
    let settings = config::parse_text(&text).unwrap();
    let again = offers(&full(), &Captured::by(&settings, &as_is), &as_is);
    let left: Vec<&str> = again.iter().map(|offer| offer.stream.as_str()).collect();
    assert_eq!(left, ["numbers", "camera/usb"], "only what was a comment");
    let more = Findings { ports: vec![port("ttyUSB9", Heard::Nmea { baud: 4_800 })], ..Findings::default() };
    let chosen = offers(&more, &Captured::by(&settings, &as_is), &as_is);
    assert_eq!(chosen[0].stream, "gps4");
    let longer = extend(&text, &chosen);
    assert!(longer.starts_with(text.trim_end()), "nothing of what stood there is changed");
    assert_eq!(config::parse_text(&longer).unwrap().sources.len(), settings.sources.len() + 1);
}

/// A port by another name is the same port.
#[test]
fn links_are_followed() {
    let real = |path: &Path| match path.to_str() {
        Some("/dev/serial/by-id/x") => PathBuf::from("/dev/ttyUSB0"),
        _ => path.to_path_buf(),
    };
    let one = Findings { ports: vec![port("ttyUSB0", Heard::Link { baud: 115_200 })], ..Findings::default() };
    let text = compose(&basis(), &one, &offers(&one, &Captured::default(), &as_is))
        .replace("/dev/ttyUSB0", "/dev/serial/by-id/x");
    let captured = Captured::by(&config::parse_text(&text).unwrap(), &real);
    assert_eq!(offers(&one, &captured, &real), []);
}

/// Something that talks at the far end of a pseudo terminal, and a link to the near end below `root`.
fn talker(root: &Path, tty: &str, text: Vec<u8>) -> impl Future<Output = ()> + use<> {
    let (mut far, near) = SerialStream::pair().unwrap();
    symlink(near.name().unwrap(), root.join("dev").join(tty)).unwrap();
    async move {
        // Held open, so that the far end never sees a hang-up.
        let _near = near;
        let mut beat = tokio::time::interval(Duration::from_millis(50));
        loop {
            beat.tick().await;
            if !text.is_empty() && far.write_all(&text).await.is_err() {
                tokio::task::yield_now().await;
            }
        }
    }
}

#[tokio::test]
async fn ports_are_known_by_what_they_say_and_are_told_nothing() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("dev")).unwrap();
    let tree = SysTree::at(root.path());
    let sentence = |body: &str| {
        let sum = body.bytes().fold(0_u8, |sum, byte| sum ^ byte);
        format!("${body}*{sum:02X}\r\n")
    };
    let receiver = sentence("GPRMC,081411.000,A,5541.1956,N,03737.2877,E,0.52,301.26,260514,,,A");
    let talk = async {
        let all = (
            talker(root.path(), "ttyUSB0", receiver.into_bytes()),
            talker(root.path(), "ttyUSB1", b"1.5;2.5\r\n".to_vec()),
            talker(root.path(), "ttyUSB2", Vec::new()),
            talker(root.path(), "ttyUSB3", headwater_sim_hello()),
        );
        tokio::join!(all.0, all.1, all.2, all.3);
    };
    let probing = async {
        // The links are there once the talkers are.
        while !root.path().join("dev/ttyUSB3").exists() {
            tokio::task::yield_now().await;
        }
        symlink("/dev/none-such", root.path().join("dev/ttyUSB4")).unwrap();
        let ports = candidates(&tree, &[]);
        probe_all(&Ttys { clock: BootClock }, &BootClock, &tree, ports, true).await
    };
    let found = tokio::select! {
        () = talk => panic!("talkers never stop"),
        found = tokio::time::timeout(Duration::from_secs(60), probing) => found.expect("in time"),
    };
    let heard: Vec<&Heard> = found.iter().map(|port| &port.heard).collect();
    assert_eq!(*heard[0], Heard::Nmea { baud: 115_200 });
    assert_eq!(*heard[1], Heard::Numbers { baud: 115_200, columns: 2, separator: ';' });
    assert_eq!(*heard[2], Heard::Silence);
    assert_eq!(*heard[3], Heard::Link { baud: 115_200 });
    assert!(matches!(heard[4], Heard::Failed { why } if why.contains("plugged in")), "{:?}", heard[4]);
    assert_eq!(found[0].path, Path::new("/dev/ttyUSB0"), "as it is called on the gateway");
}

/// What a board says of itself until somebody asks it the time.
fn headwater_sim_hello() -> Vec<u8> {
    use headwater_shims::link::FieldType;
    use headwater_sim::device::{SimDevice, SimField, SimStream};
    let stream = SimStream {
        kind: "imu".into(),
        period_us: 5_000,
        fields: vec![SimField::new("x", "m/s2", FieldType::I64)],
    };
    let mut out = vec![0];
    SimDevice::new(vec![stream], 1).poll(1, &mut out).unwrap();
    assert!(out.len() > 20, "a board introduces itself at once");
    out
}

#[tokio::test]
async fn nobody_listens_where_nobody_may() {
    let root = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        fs::create_dir_all(root.path().join(path).parent().unwrap()).unwrap();
        fs::write(root.path().join(path), text).unwrap();
    };
    write("dev/ttyUSB0", "no terminal");
    write("dev/ttyACM0", "no terminal");
    let tree = SysTree::at(root.path());
    let ports = candidates(&tree, &["/dev/ttyUSB0".to_owned()]);
    let found = probe_all(&Ttys { clock: BootClock }, &BootClock, &tree, ports, false).await;
    let why: Vec<&Heard> = found.iter().map(|port| &port.heard).collect();
    let barred = |why: &str| Heard::NotListened { why: why.to_owned() };
    assert_eq!(why, [&barred("gpsd reads it"), &barred("--no-probe")]);
}

#[tokio::test]
async fn gpsd_names_its_receivers() {
    use tokio::io::AsyncReadExt;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let serve = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"{\"class\":\"VERSION\",\"release\":\"3.25\"}\r\n").await.unwrap();
        let mut asked = [0; 10];
        stream.read_exact(&mut asked).await.unwrap();
        assert_eq!(&asked, b"?DEVICES;\n");
        stream
            .write_all(
                b"{\"class\":\"DEVICES\",\"devices\":[{\"class\":\"DEVICE\",\"path\":\"/dev/ttyACM0\"}]}\r\n",
            )
            .await
            .unwrap();
    };
    let (found, ()) = tokio::join!(ask_gpsd(&BootClock, at), serve);
    assert_eq!(found, Some(FoundGpsd { at, release: "3.25".into(), receivers: vec!["/dev/ttyACM0".into()] }));
    drop(listener);
    assert_eq!(ask_gpsd(&BootClock, at).await, None);
}

#[test]
fn a_folder_that_stands_for_a_pi_is_looked_through() {
    let root = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        fs::create_dir_all(root.path().join(path).parent().unwrap()).unwrap();
        fs::write(root.path().join(path), text).unwrap();
    };
    let video = "sys/class/video4linux";
    write("proc/sys/kernel/hostname", "PI-7\n");
    write("proc/stat", "cpu  1 2 3 4\n");
    write("sys/class/hwmon/hwmon0/name", "cpu_thermal\n");
    write("sys/class/hwmon/hwmon0/temp1_input", "48000\n");
    write("sys/bus/w1/devices/28-0001/temperature", "21500\n");
    write(&format!("{video}/video0/name"), "unicam-image\n");
    write(&format!("{video}/video10/name"), "bcm2835-codec-decode\n");
    write(&format!("{video}/video1/name"), "C270 HD WEBCAM\n");
    write(&format!("{video}/video1/index"), "0\n");
    write(&format!("{video}/video2/name"), "C270 HD WEBCAM\n");
    write(&format!("{video}/video2/index"), "1\n");
    write("dev/video1", "");
    fs::create_dir_all(root.path().join("dev/v4l/by-id")).unwrap();
    symlink("../../video1", root.path().join("dev/v4l/by-id/usb-C270-video-index0")).unwrap();
    write("usr/bin/rpicam-vid", "");
    write("usr/bin/v4l2-ctl", "");
    let programs = [PathBuf::from("/usr/bin")];
    let tree = SysTree::at(root.path());
    let cameras = look(&tree, &programs, &BootClock).cameras;
    assert_eq!(cameras[0], FoundCamera::Pi { program: None }, "a file that is no program");
    use std::os::unix::fs::PermissionsExt;
    for program in ["usr/bin/rpicam-vid", "usr/bin/v4l2-ctl"] {
        fs::set_permissions(root.path().join(program), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let found = look(&tree, &programs, &BootClock);
    assert_eq!(found.host.as_deref(), Some("pi-7"));
    let usb = FoundCamera::Usb {
        device: "/dev/v4l/by-id/usb-C270-video-index0".into(),
        name: "C270 HD WEBCAM".into(),
        tool: true,
    };
    assert_eq!(found.cameras, [FoundCamera::Pi { program: Some("rpicam-vid".into()) }, usb]);
    let sources: Vec<&str> = found.sensors.iter().map(|sensors| sensors.source).collect();
    assert_eq!(sources, ["w1", "host"], "the host tells its own heat");
    assert!(BootClock.boot().0 > 0);
}

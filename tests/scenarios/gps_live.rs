//! A GPS receiver on a wire, gpsd, and the agent: gpsd's own `gpsfake` plays sentences of now into a pseudo-terminal, a real
//! gpsd reads them, the agent asks gpsd.
//!
//! Needs gpsd and gpsfake (packages gpsd, gpsd-tools); says so if it is skipped:
//!   cargo test -p headwater-tests --test scenarios gps_live -- --nocapture

use crate::other_host::tool;
use crate::site::{Plan, Site};
use headwater_tests::procs::Proc;
use headwater_tests::ticks::unix_seconds;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(120);
/// Between two lines, s. Eight of them are a second of the log, so that the log falls behind true time and never leads it.
const LINE_S: &str = "0.15";

fn sentence(out: &mut String, body: &str) {
    let sum = body.bytes().fold(0_u8, |sum, byte| sum ^ byte);
    writeln!(out, "${body}*{sum:02X}\r").unwrap();
}

/// Two minutes of a receiver with a fix, from the present second on.
fn log_of_now() -> String {
    let mut log = String::new();
    let start = unix_seconds();
    for second in start..start + 120 {
        let date = Command::new("date").args(["-u", "-d", &format!("@{second}"), "+%H%M%S %d%m%y"]).output();
        let date = String::from_utf8(date.unwrap().stdout).unwrap();
        let (time, day) = date.trim().split_once(' ').unwrap();
        sentence(&mut log, &format!("GPRMC,{time}.00,A,5541.1955,N,03737.2872,E,0.60,301.29,{day},,,A"));
        sentence(&mut log, &format!("GPGGA,{time}.00,5541.1956,N,03737.2877,E,1,08,1.2,66.2,M,14.5,M,,"));
        sentence(&mut log, "GPGSA,A,3,01,02,03,04,05,06,07,08,,,,,1.8,1.2,1.3");
        for _ in 0..5 {
            sentence(&mut log, "GPGSV,3,1,12,01,40,083,46,02,17,308,41,12,07,344,39,14,22,228,45");
        }
    }
    log
}

/// gpsfake as nobody: as root it hangs.
fn gpsfake(dir: &Path, port: u16) -> Proc {
    let log = dir.join("now.nmea");
    fs::write(&log, log_of_now()).unwrap();
    for path in [dir, &log] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let port = port.to_string();
    let play = ["gpsfake", "-1", "-p", "-s", "4800", "-c", LINE_S, "-P", &port];
    let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    let mut words: Vec<OsString> = nobody.into_iter().chain(play).map(Into::into).collect();
    words.push(log.into_os_string());
    Proc::new("gpsfake", "setpriv".into(), words, dir.join("gpsfake.log"))
}

#[test]
fn sentences_through_gpsd_bound_the_clock_from_below() {
    let (Some(_), Some(_), Some(_)) = (tool("gpsd"), tool("gpsfake"), tool("setpriv")) else {
        eprintln!("SKIPPED gps_live: there is no gpsd, gpsfake or setpriv; install gpsd and gpsd-tools");
        return;
    };
    if fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) != 0) {
        eprintln!("SKIPPED gps_live: only root may become nobody, as gpsfake wants");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let clock = format!("[clock]\nchrony = \"off\"\ngpsd = \"127.0.0.1:{port}\"\n");
    let mut receiver = gpsfake(dir.path(), port);
    receiver.start().unwrap();
    let mut site = Site::start(&Plan { clock, ..Plan::default() });
    let heard = |site: &Site| -> Option<serde_json::Value> {
        let status = site.status()?.json().clone();
        let sources = status["clock"]["sources"].as_array()?.clone();
        sources.into_iter().find(|source| source["source"] == "gps_serial" && source["offset_ns"].is_i64())
    };
    let edges =
        |site: &Site| site.status().and_then(|s| s.json()["counters"]["clock_edges"].as_u64()).unwrap_or(0);
    let mut offsets = Vec::new();
    for n in 1..4 {
        site.wait(LIMIT, "a sentence", |site| edges(site) >= n && heard(site).is_some());
        let source = heard(&site).unwrap();
        assert_eq!(source["grade"], "guaranteed", "{source}");
        assert!(source["half_ns"].is_null(), "no upper bound: {source}");
        offsets.push(source["offset_ns"].as_i64().unwrap());
    }
    // The wall clock is right here: what sentences name had come when they did.
    for offset in &offsets {
        assert!((-120_000_000_000..=1_000_000).contains(offset), "{offsets:?}\n{}", receiver.last_words());
    }
    println!("gps_live: UTC is at least the wall clock less {offsets:?} ns by sentences");
    site.finish(LIMIT);
}

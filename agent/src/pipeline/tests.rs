//! The whole agent on a real disk without a network: what it captured is there after it ended.

use super::*;
use crate::config;
use crate::status::AgentStatus;
use headwater_core::ports::{Cursor, Spool, SpoolLane};
use headwater_core::time::BootNanos;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

const CONFIG: &str = r#"
[device]
tenant = "acme"
name = "pi-1"
[identity]
ca = "ca.pem"
tls_cert = "tls.pem"
tls_key = "tls.key"
sign_cert = "sign.pem"
sign_key = "sign.key"
[uplink]
broker = "mqtts://127.0.0.1:1"
[spool]
dir = "spool"
sync_interval_ms = 20
[[source]]
type = "exec"
stream = "count"
kind = "count"
command = ["sh", "-c", "i=0; while [ $i -lt 500 ]; do echo $i; i=$((i+1)); done; exec sleep 600"]
fields = [ { name = "n", type = "i64", unit = "1" } ]
[[source]]
type = "camera_dir"
stream = "camera/front"
dir = "camera"
"#;

/// What a service manager hears until the agent says that it drains.
fn heard_until_stopping(manager: &UnixDatagram) -> Vec<String> {
    manager.set_read_timeout(Some(Duration::from_secs(90))).unwrap();
    let mut words: Vec<String> = Vec::new();
    while words.last().is_none_or(|word| word != "STOPPING=1") {
        let mut bytes = [0; 1024];
        let len = manager.recv(&mut bytes).unwrap();
        let text = String::from_utf8(bytes[..len].to_vec()).unwrap();
        let (word, line) = text.split_once('\n').unwrap();
        assert!(line.starts_with("STATUS=no link to mqtts://127.0.0.1:1, "), "{line}");
        words.push(word.to_owned());
    }
    words
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_drains() {
    let dir = tempfile::tempdir().unwrap();
    let (camera, file) = (dir.path().join("camera"), dir.path().join("agent.toml"));
    std::fs::create_dir(&camera).unwrap();
    for n in 0..6 {
        std::fs::write(camera.join(format!("{n}.jpg")), crate::source::image::small_jpeg()).unwrap();
    }
    std::fs::write(camera.join("half.jpg"), &crate::source::image::small_jpeg()[..30]).unwrap();
    std::fs::write(&file, CONFIG).unwrap();
    for pem in ["ca.pem", "tls.pem", "tls.key", "sign.pem", "sign.key"] {
        std::fs::write(dir.path().join(pem), "no certificate").unwrap();
    }
    let settings = config::load(&file).unwrap();
    let status_file = settings.status_file.clone();
    let cancel = CancellationToken::new();
    let tasks = TaskTracker::new();
    let manager = UnixDatagram::bind(dir.path().join("notify")).unwrap();
    let heard = std::thread::spawn(move || heard_until_stopping(&manager));
    let told = ServiceManager::at(dir.path().join("notify").as_os_str()).unwrap();
    let agent = tasks.spawn(run_under(settings, told, cancel.clone()));
    // The status file says when all is captured; it is what a person would wait for too.
    let clock = BootClock;
    let captured = async {
        loop {
            let status = AgentStatus::read(&status_file).ok();
            let next_seq = |name: &str| {
                status.as_ref()?.streams.iter().find(|s| s.name == name).map(|stream| stream.next_seq)
            };
            if next_seq("count") >= Some(500) && next_seq("camera/front") >= Some(7) {
                break status.unwrap();
            }
            clock.sleep_until(clock.boot().plus_ms(20)).await;
        }
    };
    let status = tokio::time::timeout(Duration::from_secs(60), captured).await.expect("captured in time");
    assert!(!status.link.connected);
    assert!(
        status.link.last_error.is_some_and(|why| why.contains("no certificate")),
        "capture goes on without"
    );
    cancel.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(30), agent).await.expect("ends in time");
    ended.unwrap().unwrap();
    assert_eq!(
        std::fs::read_dir(&camera).unwrap().count(),
        0,
        "captured pictures and the broken one are gone"
    );
    let quarantine = std::fs::read_dir(dir.path().join("spool/quarantine/sources")).unwrap();
    assert_eq!(quarantine.count(), 1, "the broken one with its reason");
    assert_eq!(AgentStatus::read(&status_file).unwrap().state, "stopping");
    let words = heard.join().unwrap();
    assert_eq!(words[0], "READY=1");
    assert!(words[1..words.len() - 1].iter().all(|word| word == "WATCHDOG=1"), "{words:?}");

    let boot_id = status::boot_id().unwrap();
    let (mut spool, opened) =
        DiskSpool::open(RealDisk, &dir.path().join("spool"), boot_id, crate::spool::Settings::default())
            .unwrap();
    assert!(!opened.new_epoch);
    let mut rows = 0;
    for lane in SpoolLane::ALL {
        let mut at = Cursor::default();
        loop {
            let slabs = spool.read(lane, at, 1 << 20).unwrap();
            let Some(last) = slabs.last() else { break };
            at = last.next;
            for slab in &slabs {
                let oldest = BootNanos(slab.slab.rows.t_ns(0).unwrap());
                assert!(oldest <= clock.boot());
                if lane != SpoolLane::Control {
                    rows += slab.slab.rows.len();
                }
            }
        }
    }
    assert_eq!(rows, 506);
}

#[tokio::test(start_paused = true)]
async fn shutdown_names_the_late() {
    let tasks = Tasks::default();
    let done = tasks.spawn("stamp", async {});
    let stuck = tasks.spawn("source camera/front", std::future::pending());
    done.await.unwrap();
    assert_eq!(tasks.late(), "source camera/front");
    stuck.abort();
}

//! A gateway with a kernel of its own, so that its real wall clock can be set: it boots in 1970 without a network, captures,
//! is set right by a real chronyd, captures, is set two days ahead by hand and back by chronyd. Every step is the kernel's
//! (`TFD_TIMER_CANCEL_ON_SET`), none is simulated. Every row must hold the truth within its bound.
//!
//!   tests/run vm

use crate::machine::{Machine, Parts};
use crate::other_host::tool;
use crate::setup::program;
use crate::wrong_clocks::{Row, raw_rows};
use headwater_tests::fleet::mosquitto_program;
use headwater_tests::procs::Proc;
use headwater_tests::ticks::{Pace, now, unix_nanos, unix_seconds, wait_until};
use headwater_tests::world::{DEVICE, TENANT, World, role_args};
use serde_json::Value;
use std::io::Write;
use std::net::{TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(180);
const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(30);
const DAY_S: i64 = 86_400;
/// What is said before anybody listens; the first of it may be torn.
const NOTHING: i64 = 0;
const SOME_UTC_NS: i64 = 1_700_000_000_000_000_000;
/// Every row is in the spool within this.
const QUIET: Duration = Duration::from_secs(3);
/// No row may claim less than nothing: once chrony has settled, bounds are far below this, ns.
const SAYS_NOTHING_NS: i64 = 1_000_000_000;
/// A truth goes through a serial line, a pipe and two schedulers, one of them emulated on a busy machine.
const TRUTH_LATENCY_MS: i64 = 1_000;
/// Half of that is part of every row's bound; the rest is the clock's.
const TRUTH_HALF_NS: i64 = TRUTH_LATENCY_MS * 1_000_000 / 2;
/// The swiftest truth of some seconds takes no longer.
const SWIFT_NS: i64 = 50_000_000;
const SOME_SECONDS_ROWS: usize = 40;

/// Says true UTC ten times a second into the machine, and nothings until somebody listens.
struct Truth {
    heard: Arc<AtomicBool>,
    over: Arc<AtomicBool>,
}

impl Truth {
    fn start(mut line: UnixStream) -> Self {
        let truth = Self { heard: Arc::default(), over: Arc::default() };
        let (heard, over) = (Arc::clone(&truth.heard), Arc::clone(&truth.over));
        std::thread::spawn(move || {
            let mut pace = Pace::new(Duration::from_millis(100));
            while !over.load(Ordering::Relaxed) {
                pace.tick();
                let utc = if heard.load(Ordering::Relaxed) { unix_nanos() } else { NOTHING };
                if line.write_all(format!("{utc}\n").as_bytes()).is_err() {
                    // The machine is gone; whoever waits for its rows says so.
                    break;
                }
            }
        });
        truth
    }

    fn begin(&self) {
        self.heard.store(true, Ordering::Relaxed);
    }

    fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// A chronyd that serves this host's time on a loopback port and leaves its clock alone.
fn serve_time(daemon: &Path, dir: &Path) -> (Proc, u16) {
    let home = dir.join("chrony");
    std::fs::create_dir(&home).unwrap();
    std::fs::set_permissions(&home, std::fs::Permissions::from_mode(0o700)).unwrap();
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let text = format!(
        "local stratum 8\nallow all\nbindaddress 127.0.0.1\nport {port}\ncmdport 0\npidfile {0}/pid\nbindcmdaddress {0}/socket\n",
        home.display()
    );
    let conf = home.join("chrony.conf");
    std::fs::write(&conf, text).unwrap();
    let args = ["-x", "-d", "-F", "0", "-u", "root", "-f"].map(Into::into);
    let args = args.into_iter().chain([conf.into_os_string()]).collect();
    let mut server = Proc::new("chronyd", daemon.to_owned(), args, dir.join("chronyd.log"));
    server.start().unwrap();
    (server, port)
}

fn write_agent(world: &World) {
    let port = world.broker.rsplit(':').next().unwrap();
    let text = format!(
        r#"[device]
tenant = "{TENANT}"
name = "{DEVICE}"
[identity]
ca = "ca.pem"
tls_cert = "tls.pem"
tls_key = "tls.key"
sign_cert = "sign.pem"
sign_key = "sign.key"
[uplink]
broker = "mqtts://localhost:{port}"
keepalive_s = 10
[spool]
dir = "/data/spool"
max_bytes = "64MiB"
[batch]
linger_ms = 200
[status]
file = "/data/status.json"
[clock]
gpsd = "off"
chrony_conf = "/etc/chrony.conf"

[[source]]
type = "exec"
stream = "count"
kind = "count"
command = ["cat", "/dev/ttyS1"]
format = "csv"
latency_ms = {TRUTH_LATENCY_MS}
fields = [ {{ name = "utc", type = "i64", unit = "ns" }} ]
"#
    );
    std::fs::write(world.path("gateway/agent.toml"), text).unwrap();
}

/// Waits until the machine's status says so.
fn wait(machine: &mut Machine, what: &str, mut done: impl FnMut(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    let came = wait_until(LIMIT, || {
        machine.check();
        last = serde_json::from_str(&machine.tell("status")).unwrap_or_default();
        done(&last)
    });
    if !came {
        machine.tell("look");
    }
    assert!(came, "no {what}: {last:#}\n{}", machine.words());
    last
}

fn count(status: &Value) -> Option<&Value> {
    status["streams"].as_array()?.iter().find(|stream| stream["name"] == "count")
}

fn rows(status: &Value) -> u64 {
    count(status).and_then(|count| count["next_seq"].as_u64()).unwrap_or(0)
}

fn steps(status: &Value) -> u64 {
    status["clock"]["steps"].as_u64().unwrap_or(0)
}

fn more(machine: &mut Machine, n: u64) {
    let before = rows(&wait(machine, "stream", |status| count(status).is_some()));
    wait(machine, "more rows", |status| rows(status) >= before + n);
}

#[test]
fn a_gateway_boots_in_1970_and_is_set_right_by_steps_of_its_real_clock() {
    let parts = match (Parts::find(), tool("chronyd")) {
        (Ok(parts), Some(daemon)) => (parts, daemon),
        (Err(why), _) => return eprintln!("SKIPPED real_steps: {why}; `tests/run vm` has all it needs"),
        (_, None) => return eprintln!("SKIPPED real_steps: there is no chronyd; `tests/run vm` installs it"),
    };
    let (parts, daemon) = parts;
    let dir = tempfile::tempdir().unwrap();
    let world = World::create(dir.path(), 1_000).unwrap();
    let (mut server, port) = serve_time(&daemon, dir.path());
    write_agent(&world);
    let log = |name: &str| world.path(&format!("logs/{name}.log"));
    let mosquitto = vec!["-c".into(), world.write_mosquitto().unwrap().into_os_string()];
    let mut broker = Proc::new("broker", mosquitto_program(), mosquitto, log("broker"));
    broker.start().unwrap();
    assert!(wait_until(START_LIMIT, || TcpStream::connect(&world.broker).is_ok()));
    let args = role_args("collector", "run", &world.write_collector().unwrap());
    let mut collector = Proc::new("collector", program(), args, log("collector"));
    collector.start().unwrap();

    // A step of any size at any time; nothing is slewed meanwhile.
    let conf =
        format!("server 10.0.2.2 port {port} iburst minpoll 0 maxpoll 2\nmakestep 0.1 -1\nrtcsync\nport 0\n");
    let gateway = world.path("gateway");
    let mut machine = Machine::start(&parts, dir.path(), "1970-01-01T00:10:00", &program(), &gateway, &conf);
    // What comes before somebody reads the line waits in it, or is lost.
    let truth = Truth::start(machine.truth());
    more(&mut machine, 3);
    truth.begin();

    // In 1970, with nobody to ask.
    more(&mut machine, 50);
    machine.tell("network up");
    machine.tell("chrony");
    let settled = |least: u64| {
        move |status: &Value| {
            let sources = status["clock"]["sources"].as_array();
            let of =
                |name: &str| sources?.iter().find(|source| source["source"] == name)?["half_ns"].as_i64();
            steps(status) >= least && of("chrony").is_some_and(|half| half < SAYS_NOTHING_NS)
        }
    };
    wait(&mut machine, "step by chrony and its word", settled(1));
    more(&mut machine, 50);
    machine.tell(&format!("date {}", unix_seconds() + 2 * DAY_S));
    wait(&mut machine, "step by hand and another by chrony", settled(3));
    more(&mut machine, 50);
    truth.end();
    // What the line held when the truth ended still comes.
    let mut quiet: Option<(u64, Instant)> = None;
    let last = wait(&mut machine, "end of the backlog", |status| {
        let held = count(status).and_then(|count| count["held_rows"].as_u64());
        let since = quiet.filter(|(before, _)| *before == rows(status) && held == Some(0));
        quiet = Some(since.unwrap_or_else(|| (rows(status), now())));
        since.is_some_and(|(_, since)| since.elapsed() > QUIET)
    });
    machine.tell("network down");
    drop(machine);
    for proc in [&mut collector, &mut broker, &mut server] {
        assert!(proc.stop(STOP_LIMIT).unwrap(), "{}", proc.last_words());
    }

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (mut rows, grades, events) = runtime.block_on(raw_rows(&world.path("lake").display().to_string()));
    assert_eq!(rows.len() as u64, self::rows(&last), "{last:#}");
    assert!(events >= 3, "{events} events");
    rows.retain(|_, row| row.utc > SOME_UTC_NS);
    assert!(rows.len() > 150, "{}", rows.len());
    assert!(grades.iter().all(|grade| grade == "guaranteed" || grade == "estimated"), "{grades:?}");
    let late = |row: &Row| row.ts + TRUTH_HALF_NS - row.utc;
    let clock = |row: &Row| row.err - TRUTH_HALF_NS;
    for (seq, row) in &rows {
        assert!((row.ts - row.utc).abs() <= row.err, "row {seq} is outside of its bound: {row:?}");
        assert!(clock(row) < SAYS_NOTHING_NS, "a bound that says nothing: {row:?}");
        // Nothing arrives before it is sent, whatever the line's delay may excuse.
        assert!(late(row) >= -clock(row), "row {seq} came {} ns before it was sent: {row:?}", -late(row));
    }
    let all: Vec<Row> = rows.into_values().collect();
    for some in all.chunks_exact(SOME_SECONDS_ROWS) {
        let swift = some.iter().map(|row| late(row) - clock(row)).min().unwrap();
        assert!(swift < SWIFT_NS, "{swift} ns late at best: {some:?}");
    }
    let greatest = all.iter().map(clock).max().unwrap_or(0);
    let earliest = all.iter().map(late).min().unwrap_or(0);
    println!(
        "real steps: {} rows in one boot, {} steps of its clock, each row within its bound; greatest bound of the clock {:.1} ms; the truth's least delay by it {:.1} ms",
        all.len(),
        steps(&last),
        greatest as f64 / 1e6,
        earliest as f64 / 1e6
    );
}

//! The agent's ARM64 package on a kernel of its own: it reads a board on its serial port, ships over TLS to a collector here,
//! loses power with rows it could not ship yet, boots again and ships them. The lake must hold what the board sent.
//!
//!   cross/prove aarch64

use crate::machine::arm::{ArmMachine, ArmParts};
use crate::setup::program;
use headwater_shims::link::{FieldType, Value as LinkValue};
use headwater_sim::device::{SimDevice, SimField, SimStream};
use headwater_tests::fleet::mosquitto_program;
use headwater_tests::procs::Proc;
use headwater_tests::ticks::{now, unix_nanos, wait_until};
use headwater_tests::truth::Table;
use headwater_tests::world::{DEVICE, TENANT, World, role_args};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(240);
const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// Between two samples.
const PERIOD: Duration = Duration::from_millis(20);
/// Rows seen before anything is broken, and held when the power goes.
const SOME_ROWS: u64 = 150;
/// Every row told of this long ago is on disk: the agent syncs each second.
const SYNCED: Duration = Duration::from_secs(4);
/// The status says so twice, this far apart: nothing comes any more.
const QUIET: Duration = Duration::from_secs(4);
/// Two clocks read within this were read at once, ns.
const SAME_INSTANT_NS: i64 = 100_000;
/// Name of the board's stream and of its kind.
const STREAM: &str = "count";

/// A board at a socket, as an emulator shows one: what is sent while nobody reads is lost.
struct Board {
    over: Arc<AtomicBool>,
    sent: Arc<Mutex<BTreeMap<i64, i64>>>,
    thread: Option<JoinHandle<()>>,
}

impl Board {
    fn start(socket: &Path) -> Self {
        let listener = UnixListener::bind(socket).unwrap();
        listener.set_nonblocking(true).unwrap();
        let (over, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(BTreeMap::new())));
        let (until, truth) = (Arc::clone(&over), Arc::clone(&sent));
        let thread = std::thread::spawn(move || play(&listener, &until, &truth));
        Self { over, sent, thread: Some(thread) }
    }

    /// What it sampled: UTC by number.
    fn end(mut self) -> BTreeMap<i64, i64> {
        self.over.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
        self.sent.lock().unwrap().clone()
    }
}

/// Who reads the board's port at the moment, and what it has not taken yet.
#[derive(Default)]
struct Port {
    peer: Option<UnixStream>,
    waiting: Vec<u8>,
    /// Somebody has said something. Before that an emulator takes bytes for a machine that is still booting, and hands
    /// them out much later.
    is_greeted: bool,
}

impl Port {
    fn heard(&mut self) -> Vec<u8> {
        let mut bytes = [0; 256];
        match self.peer.as_mut().map(|peer| peer.read(&mut bytes)) {
            Some(Ok(0)) => self.lost(),
            Some(Ok(n)) => {
                self.is_greeted = true;
                return bytes[..n].to_vec();
            }
            Some(Err(error)) if error.kind() != ErrorKind::WouldBlock => self.lost(),
            _ => {}
        }
        Vec::new()
    }

    fn push(&mut self) {
        let Some(peer) = self.peer.as_mut() else { return self.waiting.clear() };
        match peer.write(&self.waiting) {
            Ok(n) => drop(self.waiting.drain(..n)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => self.lost(),
        }
    }

    fn lost(&mut self) {
        *self = Self::default();
    }
}

/// UTC and the board's time of one instant; a thread that was put aside between the two looks again.
fn at_once(device_us: impl Fn() -> u64) -> (i64, u64) {
    loop {
        let (before, t_us, after) = (unix_nanos(), device_us(), unix_nanos());
        if (0..SAME_INSTANT_NS).contains(&(after - before)) {
            return (before, t_us);
        }
    }
}

/// Samples at a steady beat and answers pings, until it is over.
fn play(listener: &UnixListener, over: &AtomicBool, sent: &Mutex<BTreeMap<i64, i64>>) {
    let stream = SimStream {
        kind: STREAM.into(),
        period_us: u32::try_from(PERIOD.as_micros()).unwrap(),
        fields: vec![SimField::new("n", "1", FieldType::U32), SimField::new("utc", "ns", FieldType::I64)],
    };
    let mut device = SimDevice::new(vec![stream], 7);
    let (start, mut port, mut n) = (now(), Port::default(), 0_u32);
    let device_us = || u64::try_from(start.elapsed().as_micros()).unwrap();
    while !over.load(Ordering::Relaxed) {
        if let Ok((peer, _)) = listener.accept() {
            peer.set_nonblocking(true).unwrap();
            port = Port { peer: Some(peer), ..Port::default() };
        }
        let heard = port.heard();
        device.receive(&heard, device_us(), &mut port.waiting).unwrap();
        device.poll(device_us(), &mut port.waiting).unwrap();
        if start.elapsed() >= PERIOD * n {
            let (utc, t_us) = at_once(device_us);
            sent.lock().unwrap().insert(i64::from(n), utc);
            if port.is_greeted && port.waiting.is_empty() {
                let row = vec![LinkValue::U32(n), LinkValue::I64(utc)];
                device.sample(0, &[row], t_us, 0, &mut port.waiting).unwrap();
            } else {
                // As firmware does: it never waits, it drops and says so.
                device.drop_rows(0, 1);
            }
            n += 1;
        }
        port.push();
        // The board's processor sleeps between interrupts.
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn write_agent(world: &World, folder: &Path) {
    for file in ["ca.pem", "tls.pem", "tls.key", "sign.pem", "sign.key"] {
        std::fs::copy(world.path("gateway").join(file), folder.join(file)).unwrap();
    }
    let port = world.broker.rsplit(':').next().unwrap();
    let text = format!(
        r#"[device]
tenant = "{TENANT}"
name = "{DEVICE}"
[identity]
ca = "/var/lib/headwater/ca.pem"
tls_cert = "/var/lib/headwater/tls.pem"
tls_key = "/var/lib/headwater/tls.key"
sign_cert = "/var/lib/headwater/sign.pem"
sign_key = "/var/lib/headwater/sign.key"
[uplink]
broker = "mqtts://localhost:{port}"
keepalive_s = 10
[spool]
dir = "/var/lib/headwater/spool"
max_bytes = "24MiB"
min_free = "1MiB"
[batch]
linger_ms = 200
[status]
file = "/run/headwater/status.json"
[clock]
gpsd = "off"

[[source]]
type = "serial"
stream = "{STREAM}"
port = "/dev/ttyS0"
baud = 115200
framing = "link"
"#
    );
    std::fs::write(folder.join("agent.toml"), text).unwrap();
}

fn status(machine: &mut ArmMachine) -> Value {
    machine.check();
    serde_json::from_str(&machine.tell("status")).unwrap_or_default()
}

fn wait(machine: &mut ArmMachine, what: &str, mut done: impl FnMut(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    let came = wait_until(LIMIT, || {
        last = status(machine);
        done(&last)
    });
    if !came {
        machine.tell("look");
    }
    assert!(came, "no {what}: {last:#}\n{}", machine.words());
    last
}

fn of_stream(status: &Value, what: &str) -> u64 {
    let streams = status["streams"].as_array();
    let found = streams.and_then(|all| all.iter().find(|stream| stream["name"] == STREAM));
    found.and_then(|stream| stream[what].as_u64()).unwrap_or(0)
}

/// A row of the lake.
#[derive(Debug, Clone, Copy)]
struct Row {
    seq: i64,
    boot: i64,
    utc: i64,
    ts: i64,
    err: i64,
}

/// Rows by the board's number, each once.
async fn lake_rows(location: &str) -> BTreeMap<i64, Row> {
    let lake = headwater_lake::Lake::open(location).await.unwrap();
    let commit = lake.resolve("main").await.unwrap();
    let table = Table::read(&lake, &commit, &format!("raw.{STREAM}")).await.unwrap().unwrap();
    let column =
        |name: &str| -> Vec<i64> { table.integers(name).unwrap().into_iter().map(Option::unwrap).collect() };
    let (numbers, seq, boot) = (column("n"), column("seq"), column("boot_ordinal"));
    let (utc, ts, err) = (column("utc"), column("ts_ns"), column("ts_err_ns"));
    let mut rows = BTreeMap::new();
    for (at, n) in numbers.into_iter().enumerate() {
        let row = Row { seq: seq[at], boot: boot[at], utc: utc[at], ts: ts[at], err: err[at] };
        assert!(rows.insert(n, row).is_none(), "sample {n} is there twice: {row:?}");
    }
    rows
}

fn parts(dir: &Path) -> Result<ArmParts, String> {
    let deb =
        std::env::var_os("HEADWATER_ARM_DEB").ok_or("HEADWATER_ARM_DEB names no package of the agent")?;
    ArmParts::of(Path::new(&deb), dir)
}

#[test]
fn arm_gateway_loses_power_and_nothing_it_had_synced() {
    let dir = tempfile::tempdir().unwrap();
    let parts = match parts(dir.path()) {
        Ok(parts) => parts,
        Err(why) if std::env::var_os("HEADWATER_REQUIRE_EMULATORS").is_some() => panic!("{why}"),
        Err(why) => return eprintln!("SKIPPED arm_gateway: {why}; `cross/prove aarch64` has all it needs"),
    };
    let world = World::create(dir.path(), 1_000).unwrap();
    let (folder, disk, socket) = (world.path("state"), world.path("disk"), world.path("board"));
    std::fs::create_dir(&folder).unwrap();
    write_agent(&world, &folder);
    parts.disk(&folder, &disk).unwrap();
    let log = |name: &str| world.path(&format!("logs/{name}.log"));
    let mosquitto = vec!["-c".into(), world.write_mosquitto().unwrap().into_os_string()];
    let mut broker = Proc::new("broker", mosquitto_program(), mosquitto, log("broker"));
    broker.start().unwrap();
    assert!(wait_until(START_LIMIT, || TcpStream::connect(&world.broker).is_ok()));
    let args = role_args("collector", "run", &world.write_collector().unwrap());
    let mut collector = Proc::new("collector", program(), args, log("collector"));
    collector.start().unwrap();

    let board = Board::start(&socket);
    let mut machine = ArmMachine::start(&parts, dir.path(), &disk, &socket);
    wait(&mut machine, "rows that were acknowledged", |status| of_stream(status, "acked_rows") >= SOME_ROWS);
    println!("memory in the machine: {} (KiB)", machine.tell("memory"));
    // The link is gone; what comes now is held. Then the power is gone.
    assert!(broker.stop(STOP_LIMIT).unwrap(), "{}", broker.last_words());
    let before = of_stream(&status(&mut machine), "next_seq");
    let held = wait(&mut machine, "rows that are held", |status| {
        of_stream(status, "next_seq") >= before + SOME_ROWS && of_stream(status, "held_rows") >= SOME_ROWS
    });
    let durable = of_stream(&held, "next_seq");
    let told = now();
    wait(&mut machine, "a sync", |_| told.elapsed() >= SYNCED);
    let off = unix_nanos();
    machine.cut();

    broker.start().unwrap();
    let mut machine = ArmMachine::start(&parts, dir.path(), &disk, &socket);
    let after =
        of_stream(&wait(&mut machine, "the stream", |status| of_stream(status, "next_seq") > 0), "next_seq");
    wait(&mut machine, "rows of the second boot", |status| {
        of_stream(status, "next_seq") >= after + SOME_ROWS
    });
    let truth = board.end();
    let mut quiet: Option<(u64, Instant)> = None;
    let last = wait(&mut machine, "end of the backlog", |status| {
        let (rows, held) = (of_stream(status, "next_seq"), of_stream(status, "held_rows"));
        let since = quiet.filter(|(before, _)| *before == rows && held == 0);
        quiet = Some(since.unwrap_or_else(|| (rows, now())));
        since.is_some_and(|(_, since)| since.elapsed() > QUIET)
    });
    drop(machine);
    for proc in [&mut collector, &mut broker] {
        assert!(proc.stop(STOP_LIMIT).unwrap(), "{}", proc.last_words());
    }

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let rows = runtime.block_on(lake_rows(&world.path("lake").display().to_string()));
    for (n, row) in &rows {
        assert_eq!(Some(&row.utc), truth.get(n), "sample {n} is not as it was sent: {row:?}");
        assert!((row.ts - row.utc).abs() <= row.err, "sample {n} is outside of its bound: {row:?}");
    }
    let mut seqs: Vec<i64> = rows.values().map(|row| row.seq).collect();
    seqs.sort_unstable();
    let synced: Vec<i64> = (0..i64::try_from(durable).unwrap()).collect();
    assert_eq!(&seqs[..synced.len()], synced, "every row that was on disk came: {last:#}");
    // What is missing is one stretch: from the last sync before the power went to the second start.
    let numbers: Vec<i64> = rows.keys().copied().collect();
    let holes: Vec<(i64, i64)> =
        numbers.windows(2).filter(|pair| pair[1] != pair[0] + 1).map(|pair| (pair[0], pair[1])).collect();
    let [(from, to)] = holes[..] else { panic!("one stretch is missing, not {holes:?}") };
    let boots: Vec<i64> = [from, to].iter().map(|n| rows[n].boot).collect();
    assert_eq!(boots[1], boots[0] + 1, "it is between the boots");
    let lost_ns = off - truth[&(from + 1)];
    assert!(lost_ns < i64::try_from(SYNCED.as_nanos()).unwrap(), "{lost_ns} ns of synced samples are gone");
    println!(
        "arm gateway: {} rows in two boots, each as it was sent and within its bound; the power cut took {:.0} ms of samples",
        rows.len(),
        lost_ns as f64 / 1e6
    );
}

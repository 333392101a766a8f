//! Demo firmware on an emulated Cortex-M3: the host's end of its serial line, with nothing between but a socket.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use headwater_shims::link::{
    COMMAND_IDENTIFY, COMMAND_RESET, Config, FieldType, Flags, Header, Hello, HelloBody, KEY_PERIOD_US, Knob,
    LinkDecoder, LinkType, Log, Pong, RAW_BYTES_MAX, Reply, ReplyCode, RequestData, STREAM_DEVICE, Sample,
    Value, encode,
};
use headwater_shims::rx::{LinkStreamState, Missing};

use crate::common::{have, here, run, skipped};

/// Far beyond what a busy machine needs.
const PATIENCE: Duration = Duration::from_secs(240);

/// Pongs until the exchange counts as proven.
const PONGS: usize = 300;

#[expect(clippy::disallowed_methods, reason = "a real emulator runs in real time")]
fn now() -> Instant {
    Instant::now()
}

/// A running emulator; ended when dropped.
struct Emulator {
    child: Child,
    socket: PathBuf,
}

impl Drop for Emulator {
    fn drop(&mut self) {
        for ended in [self.child.kill(), self.child.wait().map(|_| ())] {
            if let Err(error) = ended {
                eprintln!("the emulator does not end: {error}");
            }
        }
        if let Err(error) = std::fs::remove_file(&self.socket) {
            eprintln!("{}: {error}", self.socket.display());
        }
    }
}

/// A frame as the host keeps it.
#[derive(Debug, Clone)]
struct Got {
    header: Header,
    payload: Vec<u8>,
    /// When it was read, microseconds of the host.
    at_us: u64,
}

/// The host's end.
struct Host {
    line: UnixStream,
    decoder: LinkDecoder<RAW_BYTES_MAX>,
    started: Instant,
    unread: std::collections::VecDeque<Got>,
    sent: u16,
    /// Checksum and other errors so far.
    bad: u64,
    _emulator: Emulator,
}

impl Host {
    /// Starts an emulator that comes to a socket of ours with the board's serial line.
    fn start(name: &str, emulator: impl FnOnce(&Path) -> Command) -> Self {
        let socket = std::env::temp_dir().join(format!("headwater-{name}-{}", std::process::id()));
        let listener = UnixListener::bind(&socket).expect("a free name");
        let child = emulator(&socket).stdin(Stdio::null()).spawn().expect("the emulator starts");
        let mut emulator = Emulator { child, socket };
        listener.set_nonblocking(true).expect("a listener");
        let started = now();
        let line = loop {
            match listener.accept() {
                Ok((line, _)) => break line,
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
            let ended = emulator.child.try_wait().expect("our child");
            assert!(ended.is_none() && started.elapsed() < PATIENCE, "the emulator does not come: {ended:?}");
        };
        line.set_nonblocking(false).expect("a socket");
        line.set_read_timeout(Some(Duration::from_millis(100))).expect("a socket");
        let decoder = LinkDecoder::new();
        Self { line, decoder, started, unread: [].into(), sent: 0, bad: 0, _emulator: emulator }
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).expect("not for ever")
    }

    fn say(&mut self, link_type: LinkType, payload: &[u8]) -> u64 {
        self.sent = self.sent.wrapping_add(1);
        let mut wire = [0; 128];
        let t_us = self.now_us();
        let header = Header { link_type, flags: Flags::NONE, seq: self.sent, t_us };
        // A delimiter first, as a sender does when it starts; later it is idle.
        let n = encode(&mut wire[1..], header, payload).expect("short");
        self.line.write_all(&wire[..=n]).expect("the emulator reads");
        t_us
    }

    /// The next frame, or none for a tenth of a second.
    fn hear(&mut self) -> Option<Got> {
        assert!(self.started.elapsed() < PATIENCE, "the board is silent: {:?}", self.decoder.stats());
        if self.unread.is_empty() {
            let mut bytes = [0; 1024];
            let read = match self.line.read(&mut bytes) {
                Ok(0) => panic!("the emulator has ended"),
                Ok(read) => read,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return None;
                }
                Err(error) => panic!("{error}"),
            };
            let at_us = self.now_us();
            for byte in &bytes[..read] {
                match self.decoder.push(*byte) {
                    None => {}
                    Some(Ok(frame)) => self.unread.push_back(Got {
                        header: frame.header,
                        payload: frame.payload.to_vec(),
                        at_us,
                    }),
                    Some(Err(_)) => self.bad += 1,
                }
            }
        }
        self.unread.pop_front()
    }

    /// The next frame of a type; others are given to `other`.
    fn wait_for(&mut self, link_type: LinkType, mut other: impl FnMut(&Got)) -> Got {
        loop {
            let Some(got) = self.hear() else { continue };
            other(&got);
            if got.header.link_type == link_type {
                return got;
            }
        }
    }

    /// Asks until the answer comes.
    fn request(
        &mut self,
        link_type: LinkType,
        token: u16,
        payload: &[u8],
        mut other: impl FnMut(&Got),
    ) -> (Got, Reply) {
        loop {
            self.say(link_type, payload);
            for _ in 0..50 {
                let Some(got) = self.hear() else { continue };
                other(&got);
                if got.header.link_type == LinkType::Reply {
                    let reply = Reply::parse(&got.payload).expect("valid");
                    if reply.token == token {
                        return (got, reply);
                    }
                }
            }
        }
    }

    /// Takes in one whole HELLO: the nonce, and `next_seq` and period of the only stream.
    fn hello(&mut self) -> (u32, u32, u32) {
        let mut nonce = None;
        loop {
            let got = self.wait_for(LinkType::Hello, |_| {});
            match Hello::parse(&got.payload).expect("valid").body {
                HelloBody::Identity(identity) => nonce = Some(identity.boot_nonce),
                HelloBody::Stream(stream) => {
                    assert_eq!(stream.kind, "ramp");
                    let types: Vec<_> = stream.fields.iter().map(|field| field.field_type).collect();
                    assert_eq!(types, [FieldType::U32, FieldType::I16]);
                    if let Some(nonce) = nonce {
                        return (nonce, stream.next_seq, stream.period_us);
                    }
                }
            }
        }
    }
}

/// What the samples must add up to.
struct Samples {
    state: LinkStreamState,
    last: Option<u32>,
    seen: u32,
    missing: u32,
    owned_up: u32,
}

impl Samples {
    fn new() -> Self {
        let mut state = LinkStreamState::new(10_000);
        state.restart();
        Self { state, last: None, seen: 0, missing: 0, owned_up: 0 }
    }

    fn take(&mut self, got: &Got) {
        if got.header.link_type != LinkType::Sample {
            return;
        }
        let sample = Sample::parse(&got.payload).expect("valid");
        let first = got.header.flags.contains(Flags::FIRST_SINCE_BOOT);
        let step = self.state.sample(got.header.seq, got.header.t_us, first, sample.count());
        if let Missing::Samples(missing) = step.missing {
            self.missing += missing;
        }
        self.owned_up += u32::from(got.header.flags.contains(Flags::DROPPED_BEFORE));
        for row in sample.rows(&[FieldType::U32, FieldType::I16]).expect("two fields") {
            let mut values = row.values();
            let Some(Value::U32(count)) = values.next() else { panic!("{row:?}") };
            assert!(self.last.is_none_or(|last| count > last), "counts go up");
            self.last = Some(count);
            self.seen += 1;
        }
    }
}

fn config(nonce: u32, token: u16, value: i32) -> Vec<u8> {
    let mut out = [0; 12];
    let config = Config { boot_nonce: nonce, token, stream: 0, key: KEY_PERIOD_US, value };
    config.encode(&mut out).expect("12 bytes");
    out.to_vec()
}

fn command(nonce: u32, token: u16, command: u8) -> Vec<u8> {
    let mut out = [0; 32];
    let args = RequestData::default();
    let asked =
        headwater_shims::link::Command { boot_nonce: nonce, token, stream: STREAM_DEVICE, command, args };
    let n = asked.encode(&mut out).expect("room");
    out[..n].to_vec()
}

/// What differs between boards.
struct Traits {
    name: &'static str,
    /// Its emulated clock follows the host's.
    timed: bool,
    /// Its line takes no more than a real one, so that a queue can fill.
    paced: bool,
}

/// All that a board must do: HELLO, clock exchange, requests, owning up to drops, restart.
fn prove(board: &Traits, host: &mut Host) {
    let name = board.name;
    let mut samples = Samples::new();
    let (nonce, _, period_us) = host.hello();
    assert_eq!(period_us, 10_000);

    // Clock exchange: with d the device's time and h the host's, h - d is at least t1 - t2 and at most t4 - t3.
    let (mut lo, mut hi, mut rtts) = (i64::MIN, i64::MAX, Vec::new());
    let us = |t: u64| i64::try_from(t).expect("not for ever");
    for _ in 0..PONGS {
        // Without a pause, exchanges would fill a real line and a small chip's time, and crowd samples out.
        for _ in 0..if board.paced { 3 } else { 0 } {
            host.wait_for(LinkType::Sample, |got| samples.take(got));
        }
        let t1 = host.say(LinkType::Ping, &[]);
        let got = host.wait_for(LinkType::Pong, |got| samples.take(got));
        let pong = Pong::parse(&got.payload).expect("valid");
        assert_eq!((pong.t1_us, pong.boot_nonce, pong.dropped), (t1, nonce, 0));
        assert!(pong.t2_us <= got.header.t_us, "{pong:?}");
        lo = lo.max(us(t1) - us(pong.t2_us));
        hi = hi.min(us(got.at_us) - us(got.header.t_us));
        rtts.push(us(got.at_us) - us(t1) - (us(got.header.t_us) - us(pong.t2_us)));
    }
    // The emulated clock follows the host's; both are cut to whole microseconds.
    assert!(!board.timed || lo <= hi + 2, "no clock offset fits all exchanges: {lo} to {hi}");
    rtts.sort_unstable();
    let times = format!("rtt p50 {} us, offset bound {} us wide, ", rtts[PONGS / 2], hi.saturating_sub(lo));
    let times = if board.timed { times } else { String::new() };
    println!("{name}: {PONGS} pongs, {times}{} samples", samples.seen);
    assert_eq!((host.bad, samples.missing, samples.owned_up), (0, 0, 0), "no damage, no gap");

    // A CONFIG takes effect, is dated, and is described anew.
    let (got, reply) = host.request(LinkType::Config, 7, &config(nonce, 7, 20_000), |got| samples.take(got));
    assert_eq!((reply.code, reply.value()), (ReplyCode::Ok, Some(20_000)));
    let (_, next_seq, period_us) = host.hello();
    assert_eq!(period_us, 20_000);
    assert!(next_seq >= samples.seen && got.header.t_us > 0);
    let (_, reply) = host.request(LinkType::Config, 8, &config(nonce, 8, 1), |_| {});
    assert_eq!((reply.code, reply.value()), (ReplyCode::BadValue, Some(20_000)));
    // A repeat is answered by the same REPLY; it would be refused if it ran again.
    let mut lines = 0;
    let (first, _) = host.request(LinkType::Command, 9, &command(nonce, 9, COMMAND_IDENTIFY), |got| {
        lines += u32::from(got.header.link_type == LinkType::Log);
    });
    let (again, _) = host.request(LinkType::Command, 9, &command(nonce, 9, COMMAND_IDENTIFY), |got| {
        lines += u32::from(got.header.link_type == LinkType::Log && Log::parse(&got.payload).is_ok());
    });
    assert_eq!((first.header, first.payload), (again.header, again.payload));
    assert_eq!(lines, 1, "identified once");

    // Drops are owned up to: those of a full queue, or those that a test build is told to make.
    if board.paced {
        let (_, reply) = host.request(LinkType::Config, 20, &config(nonce, 20, 500), |_| {});
        assert_eq!(reply.code, ReplyCode::Ok);
    } else {
        let mut knob = [0; 10];
        Knob { drop_every: 4, ..Knob::default() }.encode(&mut knob).expect("10 bytes");
        host.say(LinkType::Knob, &knob);
    }
    let mut samples = Samples::new();
    while samples.owned_up < 5 {
        if let Some(got) = host.hear() {
            samples.take(&got);
        }
    }
    assert!(samples.missing >= 4, "{} missing", samples.missing);
    assert_eq!(host.bad, 0);

    // After a restart everything begins anew, under another nonce.
    let (_, reply) = host.request(LinkType::Command, 10, &command(nonce, 10, COMMAND_RESET), |_| {});
    assert_eq!(reply.code, ReplyCode::Ok);
    let (again, _, period_us) = loop {
        let hello = host.hello();
        if hello.0 != nonce {
            break hello;
        }
    };
    assert_eq!(period_us, 10_000, "nothing is stored");
    host.say(LinkType::Config, &config(nonce, 11, 20_000));
    let (_, reply) = host.request(LinkType::Config, 12, &config(again, 12, 20_000), |got| {
        let stale = got.header.link_type == LinkType::Reply
            && Reply::parse(&got.payload).is_ok_and(|r| r.token == 11);
        assert!(!stale, "what was meant for the boot before does not act");
    });
    assert_eq!(reply.value(), Some(20_000));
}

#[test]
fn mcu_c_over_a_socket() {
    if !all_there(&[("arm-none-eabi-gcc", "gcc-arm-none-eabi"), ("qemu-system-arm", "qemu-system-arm")]) {
        return;
    }
    let program = built("mps2-an385-c");
    let board = Traits { name: "mps2-an385-c", timed: true, paced: false };
    let mut host = Host::start(board.name, |socket| {
        let mut command = Command::new("qemu-system-arm");
        command
            .args(["-M", "mps2-an385", "-display", "none", "-monitor", "none", "-kernel"])
            .arg(&program)
            .args(["-device", "loader,addr=0x2000fff8,data=0x5eed0001,data-len=4"])
            .args(["-chardev", &format!("socket,id=u0,path={}", socket.display())])
            .args(["-serial", "chardev:u0"]);
        command
    });
    prove(&board, &mut host);
    std::fs::remove_file(&program).expect("just built");
}

#[test]
fn avr_over_a_socket() {
    if !all_there(&[("avr-gcc", "gcc-avr avr-libc"), ("gcc", "gcc")]) {
        return;
    }
    if !Path::new("/usr/include/simavr/sim_avr.h").exists() {
        return skipped("no simavr: install libsimavr-dev libelf-dev");
    }
    let (program, emulator) = (built("atmega328p"), built("avr-pty"));
    let board = Traits { name: "atmega328p", timed: false, paced: true };
    let mut host = Host::start(board.name, |socket| {
        let mut command = Command::new(&emulator);
        command.arg(&program).arg("0x5eed01").arg(socket);
        command
    });
    prove(&board, &mut host);
    for built in [program, emulator] {
        std::fs::remove_file(built).expect("just built");
    }
}

fn all_there(tools: &[(&str, &str)]) -> bool {
    let missing = tools.iter().find(|(tool, _)| !have(tool));
    if let Some((tool, package)) = missing {
        skipped(&format!("no `{tool}`: install {package}"));
    }
    missing.is_none()
}

/// Runs a board's build script.
fn built(board: &str) -> PathBuf {
    let program = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{board}-{}", std::process::id()));
    run(Command::new(here().join("boards").join(board).join("build")).arg(&program));
    program
}

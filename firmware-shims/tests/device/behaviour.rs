//! What a device does, seen from the host's end of the line.

use headwater_shims::device::{
    Device, DeviceSpec, HELLO_EVERY_US, HELLO_GAP_US, LOG_BURST, LOG_EVERY_US, Request, StreamSpec, Wish,
};
use headwater_shims::link::{
    BuildError, COMMAND_IDENTIFY, Caps, Command, Config, Field, FieldType, Flags, Header, Hello, HelloBody,
    Identity, KEY_PERIOD_US, Knob, LinkDecoder, LinkType, Log, LogLevel, Pong, RAW_BYTES_MAX, Reply,
    ReplyCode, RequestData, STREAM_DEVICE, Sample, SchemaCrc, T2Point, Value, WIRE_BYTES_MAX, encode,
};
use headwater_shims::rx::{LinkStreamState, Missing};
use headwater_shims::tx::{Offered, TxQueue};

const NONCE: u32 = 77;
const SPEC: DeviceSpec<'static, 2> = DeviceSpec {
    caps: Caps::CONFIG,
    t2_point: T2Point::FirstByte,
    tick_ns: 1_000,
    clock_ppm: 50,
    uid: "board-1",
    firmware: "1.0.0",
    streams: [
        StreamSpec {
            kind: "climate",
            period_us: 10_000,
            fields: &[Field { field_type: FieldType::I16, scale10: -2, name: "temperature", unit: "Cel" }],
        },
        StreamSpec {
            kind: "imu",
            period_us: 4_000,
            fields: &[
                Field { field_type: FieldType::I16, scale10: -3, name: "ax", unit: "m/s2" },
                Field { field_type: FieldType::F32, scale10: 0, name: "gx", unit: "rad/s" },
            ],
        },
    ],
};

type Board<const TX: usize> = Device<'static, 2, 64, TX>;

fn board<const TX: usize>() -> Board<TX> {
    Device::new(&SPEC, NONCE).expect("a spec that fits")
}

/// A frame as the host keeps it.
type Got = (Header, Vec<u8>);

/// The host's end: frames of everything that leaves now; there must be no damage.
fn hear<const TX: usize>(device: &mut Board<TX>, t: u64) -> Vec<Got> {
    let mut host = LinkDecoder::<RAW_BYTES_MAX>::new();
    assert!(host.push(0).is_none());
    let mut got = Vec::new();
    while let Some(byte) = device.next_byte(t) {
        if let Some(frame) = host.push(byte) {
            let frame = frame.expect("no damage");
            got.push((frame.header, frame.payload.to_vec()));
        }
    }
    got
}

fn types(got: &[Got]) -> Vec<LinkType> {
    got.iter().map(|(header, _)| header.link_type).collect()
}

fn tell<const TX: usize>(device: &mut Board<TX>, wire: &[u8], t: u64) -> Option<Request> {
    let mut asked = None;
    for byte in wire {
        asked = device.receive(*byte, t).or(asked);
    }
    asked
}

/// A host frame with the delimiter a sender starts with.
fn frame(link_type: LinkType, seq: u16, t_us: u64, payload: &[u8]) -> Vec<u8> {
    let mut out = [0; WIRE_BYTES_MAX];
    let n = encode(&mut out, Header { link_type, flags: Flags::NONE, seq, t_us }, payload).expect("fits");
    [&[0], &out[..n]].concat()
}

fn config(nonce: u32, token: u16, stream: u8, value: i32) -> Vec<u8> {
    let mut out = [0; 16];
    let config = Config { boot_nonce: nonce, token, stream, key: KEY_PERIOD_US, value };
    let n = config.encode(&mut out).expect("room");
    frame(LinkType::Config, token, 0, &out[..n])
}

fn command(token: u16) -> Vec<u8> {
    let mut out = [0; 32];
    let args = RequestData::new(&[1, 2, 3]).expect("short");
    let asked = Command { boot_nonce: NONCE, token, stream: STREAM_DEVICE, command: COMMAND_IDENTIFY, args };
    let n = asked.encode(&mut out).expect("room");
    frame(LinkType::Command, token, 0, &out[..n])
}

/// Says HELLO and lets it go.
fn greeted<const TX: usize>() -> Board<TX> {
    let mut device = board();
    while device.deadline_us().is_some_and(|at| at == 0) {
        device.poll(0);
        hear(&mut device, 0);
    }
    device
}

fn hellos(got: &[Got]) -> Vec<Hello<'_>> {
    let hellos = got.iter().filter(|(header, _)| header.link_type == LinkType::Hello);
    hellos.map(|(_, payload)| Hello::parse(payload).expect("valid")).collect()
}

fn identity<'a>(hello: &Hello<'a>) -> Identity<'a> {
    let HelloBody::Identity(identity) = hello.body else { panic!("{hello:?}") };
    identity
}

#[test]
fn hello_comes_at_boot_when_asked_and_every_two_seconds_until_the_first_ping() {
    let mut device = board::<512>();
    device.poll(5);
    let got = hear(&mut device, 5);
    let said = hellos(&got);
    assert_eq!(
        said.iter().map(|hello| (hello.index, hello.total)).collect::<Vec<_>>(),
        [(0, 3), (1, 3), (2, 3)]
    );
    // The host sums the descriptors up to what the identity claims.
    let mut crc = SchemaCrc::new();
    for hello in &said[1..] {
        let HelloBody::Stream(stream) = hello.body else { panic!("{hello:?}") };
        crc.push(&stream).expect("valid");
    }
    let identity = identity(&said[0]);
    assert_eq!((identity.schema_crc, identity.boot_nonce, identity.max_rx), (crc.value(), NONCE, 64));
    assert!(got[0].0.flags.contains(Flags::FIRST_SINCE_BOOT));
    assert_eq!(got.iter().map(|(header, _)| header.seq).collect::<Vec<_>>(), [0, 1, 2]);

    assert_eq!(device.deadline_us(), Some(5 + HELLO_EVERY_US));
    device.poll(5 + HELLO_EVERY_US - 1);
    assert!(hear(&mut device, 0).is_empty());
    device.poll(5 + HELLO_EVERY_US);
    assert_eq!(hear(&mut device, 0).len(), 3);

    tell(&mut device, &frame(LinkType::Ping, 9, 1, &[]), 3_000_000);
    assert_eq!(types(&hear(&mut device, 0)), [LinkType::Pong]);
    assert_eq!(device.deadline_us(), None, "the host is there");
    // A host that asks over and over gets one each 100 ms, and no more.
    tell(&mut device, &frame(LinkType::HelloReq, 9, 1, &[]), 4_000_000);
    device.poll(4_000_000);
    assert_eq!(hear(&mut device, 0).len(), 3);
    for t in 0..10 {
        tell(&mut device, &frame(LinkType::HelloReq, 9, 1, &[]), 4_000_000 + t * 9_000);
        device.poll(4_000_000 + t * 9_000);
    }
    assert!(hear(&mut device, 0).is_empty());
    device.poll(4_000_000 + HELLO_GAP_US);
    assert_eq!(hear(&mut device, 0).len(), 3);
}

#[test]
fn the_first_byte_ever_is_a_delimiter_even_before_a_pong() {
    let mut device = board::<512>();
    tell(&mut device, &frame(LinkType::Ping, 9, 1, &[]), 1);
    assert_eq!(device.next_byte(2), Some(0));
    assert_eq!(types(&hear(&mut device, 3)), [LinkType::Pong]);
}

#[test]
fn pong_jumps_the_queue_and_carries_the_time_it_leaves() {
    let mut device = greeted::<512>();
    for t in 0..3 {
        device.sample(0, t, &[Value::I16(1)]).expect("valid");
    }
    assert!(device.next_byte(10).is_some(), "inside the first sample");
    let ping = frame(LinkType::Ping, 0x0203, 555, &[]);
    device.receive(ping[0], 99);
    for (at, byte) in (100..).zip(&ping[1..]) {
        device.receive(*byte, at);
    }
    let mut got = Vec::new();
    let mut host = LinkDecoder::<RAW_BYTES_MAX>::new();
    let mut t = 1_000;
    while let Some(byte) = device.next_byte(t) {
        if let Some(Ok(frame)) = host.push(byte) {
            got.push((frame.header, frame.payload.to_vec()));
        }
        t += 1;
    }
    // The host joined inside the first sample.
    assert_eq!(types(&got), [LinkType::Pong, LinkType::Sample, LinkType::Sample]);
    let (header, payload) = &got[0];
    let pong = Pong::parse(payload).expect("valid");
    assert_eq!((header.seq, pong.t1_us, pong.t2_us), (0x0203, 555, 100), "t2 is the ping's first byte");
    // 20 bytes of the sample were left, less the one that had gone.
    assert_eq!(header.t_us, 1_000 + 21, "t3 is when its first byte leaves");
    assert_eq!(pong.dropped, 0);

    // A ping that nobody waits for any more is answered by the newest pong only.
    tell(&mut device, &frame(LinkType::Ping, 1, 1, &[]), 2_000);
    tell(&mut device, &frame(LinkType::Ping, 2, 2, &[]), 2_001);
    let got = hear(&mut device, 2_002);
    assert_eq!((got.len(), got[0].0.seq, device.pongs_replaced()), (1, 2, 1));
}

#[test]
fn t3_moves_on_until_the_first_byte_leaves() {
    let mut device = greeted::<512>();
    tell(&mut device, &frame(LinkType::Ping, 1, 1, &[]), 50);
    assert_eq!(device.chunk(60).len(), 40);
    assert_eq!(device.chunk(70).len(), 40, "nothing has left: a full UART");
    let mut wire = device.chunk(80)[..1].to_vec();
    device.sent(1);
    wire.extend_from_slice(device.chunk(90));
    device.sent(39);
    let mut host = LinkDecoder::<RAW_BYTES_MAX>::new();
    host.push(0);
    let mut t3 = None;
    for byte in wire {
        if let Some(frame) = host.push(byte) {
            t3 = Some(frame.expect("whole").header.t_us);
        }
    }
    assert_eq!(t3, Some(80));
    assert!(device.is_idle());
}

#[test]
fn tx_drops_and_counts() {
    let mut device = greeted::<128>();
    let mut host = LinkStreamState::new(10_000);
    host.restart();
    let (mut offered, mut arrived, mut missing) = (0_u32, 0_u32, 0_u32);
    let mut t = 0;
    // Across a turn of the 16-bit numbers: the line takes one frame of every three.
    while offered < 70_000 {
        let mut dropped = 0;
        for _ in 0..9 {
            t += 10_000;
            let rows = [[Value::I16(1)], [Value::I16(2)], [Value::I16(3)]];
            match device.samples(0, t, 10_000, &rows).expect("valid") {
                Offered::Queued => {}
                Offered::Dropped => dropped += 1,
            }
            offered += 3;
        }
        assert!(dropped > 0, "the queue holds four of these frames");
        for (header, payload) in hear(&mut device, t) {
            let count = Sample::parse(&payload).expect("valid").count();
            let first = header.flags.contains(Flags::FIRST_SINCE_BOOT);
            let step = host.sample(header.seq, header.t_us, first, count);
            assert!(!step.restarted);
            let gap = match step.missing {
                Missing::None => 0,
                Missing::Samples(gap) => gap,
                Missing::Unsettled(_) => panic!("{step:?}"),
            };
            assert_eq!(gap != 0, header.flags.contains(Flags::DROPPED_BEFORE), "the device owns up to it");
            missing += gap;
            arrived += u32::from(count);
        }
    }
    let counted = u32::from(device.dropped());
    // Those after the last frame are not seen yet: HELLO's next_seq tells.
    let next = device.next_seq(0).expect("a stream");
    assert_eq!(next, offered);
    assert_eq!(device.stats().samples_dropped * 3, offered - arrived);
    assert_eq!(counted, device.stats().samples_dropped & 0xFFFF);
    let unseen = offered - arrived - missing;
    assert!(unseen <= 27, "{unseen}");
    tell(&mut device, &frame(LinkType::Ping, 1, 1, &[]), t);
    let got = hear(&mut device, t);
    assert_eq!(u32::from(Pong::parse(&got[0].1).expect("valid").dropped), counted, "PONG says so too");
}

#[test]
fn a_hello_is_never_starved_by_samples_of_a_full_line() {
    let mut device = board::<140>();
    let mut seen = Vec::new();
    // Before each byte that leaves, more samples are offered than the line takes.
    for t in 0..4_000 {
        device.poll(t);
        device.sample(1, t, &[Value::I16(1), Value::F32(0.5)]).expect("valid");
        if let Some(byte) = device.next_byte(t) {
            seen.push(byte);
        }
    }
    let mut host = LinkDecoder::<RAW_BYTES_MAX>::new();
    let mut got = Vec::new();
    for byte in seen {
        if let Some(frame) = host.push(byte) {
            got.push(frame.expect("no damage").header.link_type);
        }
    }
    assert_eq!(got.iter().filter(|kind| **kind == LinkType::Hello).count(), 3);
    assert!(got.iter().filter(|kind| **kind == LinkType::Sample).count() > 100);
}

#[test]
fn command_runs_once() {
    let mut device = greeted::<512>();
    let request = tell(&mut device, &command(5), 100).expect("to be done");
    assert_eq!(request.stream, STREAM_DEVICE);
    let Wish::Command { command: COMMAND_IDENTIFY, args } = request.wish else { panic!("{request:?}") };
    assert_eq!(args.as_bytes(), [1, 2, 3]);
    // While it is being done, nothing else is begun, and a repeat is not done again.
    assert_eq!(tell(&mut device, &command(5), 110), None);
    assert_eq!(tell(&mut device, &command(6), 120), None);
    assert!(hear(&mut device, 130).is_empty(), "no answer yet");
    device.reply(ReplyCode::Ok, &[9], 140).expect("open");
    assert_eq!(device.reply(ReplyCode::Ok, &[9], 141), Err(BuildError::NoRequest));
    let answer = hear(&mut device, 150);
    let reply = Reply::parse(&answer[0].1).expect("valid");
    assert_eq!((reply.token, reply.code, reply.data.as_bytes()), (5, ReplyCode::Ok, &[9][..]));
    assert_eq!(answer[0].0.t_us, 140, "when it took effect");

    // The REPLY was lost: the repeat gets the same one, and runs nothing.
    for _ in 0..3 {
        assert_eq!(tell(&mut device, &command(5), 200), None);
        assert_eq!(hear(&mut device, 210), answer);
    }
    // An old nonce never acts and gets no answer.
    assert_eq!(tell(&mut device, &config(NONCE - 1, 7, 0, 1), 300), None);
    assert!(hear(&mut device, 310).is_empty());
    // Another token does.
    assert!(tell(&mut device, &command(6), 400).is_some());
    let stats = device.stats();
    assert_eq!((stats.requests_repeated, stats.requests_ignored, stats.requests_stale), (4, 1, 1));
}

#[test]
fn a_request_for_no_stream_is_answered_without_the_firmware() {
    let mut device = greeted::<512>();
    assert_eq!(tell(&mut device, &config(NONCE, 3, 2, 1), 10), None);
    let got = hear(&mut device, 20);
    let reply = Reply::parse(&got[0].1).expect("valid");
    assert_eq!((reply.token, reply.code, reply.value()), (3, ReplyCode::Unknown, None));
}

#[test]
fn config_change_is_dated() {
    let mut device = greeted::<512>();
    let sample = |device: &mut Board<512>, t| device.sample(0, t, &[Value::I16(1)]).expect("valid");
    sample(&mut device, 10_000);
    let asked = tell(&mut device, &config(NONCE, 1, 0, 20_000), 11_000).expect("to be done");
    assert_eq!(asked, Request { stream: 0, wish: Wish::Config { key: KEY_PERIOD_US, value: 20_000 } });
    sample(&mut device, 20_000);
    device.reply_value(ReplyCode::Ok, 20_000, 20_500).expect("open");
    device.set_period_us(0, 20_000).expect("a stream");
    sample(&mut device, 40_000);
    device.poll(HELLO_GAP_US);
    let got = hear(&mut device, HELLO_GAP_US);
    let (sample, hello) = (LinkType::Sample, LinkType::Hello);
    assert_eq!(types(&got), [sample, sample, LinkType::Reply, sample, hello, hello, hello]);
    assert_eq!((got[2].0.t_us, Reply::parse(&got[2].1).expect("valid").value()), (20_500, Some(20_000)));
    let said = hellos(&got);
    let HelloBody::Stream(stream) = said[1].body else { panic!("{said:?}") };
    assert_eq!((stream.period_us, stream.next_seq), (20_000, 3));
    let before = hear(
        &mut {
            let mut fresh = board::<512>();
            fresh.poll(0);
            fresh
        },
        0,
    );
    assert_ne!(identity(&said[0]).schema_crc, identity(&hellos(&before)[0]).schema_crc);
}

#[test]
fn config_returns_after_reset() {
    // The device's half of it: a restart keeps nothing and says so by its nonce.
    let mut device = greeted::<512>();
    tell(&mut device, &config(NONCE, 1, 0, 20_000), 10).expect("to be done");
    device.reply_value(ReplyCode::Ok, 20_000, 11).expect("open");
    device.set_period_us(0, 20_000).expect("a stream");

    // Power is cut: all that was in RAM is gone.
    let mut device = Board::<512>::new(&SPEC, NONCE + 1).expect("fits");
    device.poll(0);
    let got = hear(&mut device, 0);
    let said = hellos(&got);
    assert_eq!(identity(&said[0]).boot_nonce, NONCE + 1);
    let HelloBody::Stream(stream) = said[1].body else { panic!("{said:?}") };
    assert_eq!(stream.period_us, 10_000, "nothing is stored");
    // What was queued for the boot before does not act; the same token in this boot does.
    assert_eq!(tell(&mut device, &config(NONCE, 1, 0, 20_000), 20), None);
    assert!(hear(&mut device, 20).is_empty());
    assert!(tell(&mut device, &config(NONCE + 1, 1, 0, 20_000), 30).is_some());
}

#[test]
fn another_description_is_told_and_a_bad_one_changes_nothing() {
    static WIDE: StreamSpec<'static> = StreamSpec {
        kind: "climate",
        period_us: 10_000,
        fields: &[Field { field_type: FieldType::I32, scale10: -4, name: "temperature", unit: "Cel" }],
    };
    static LONG: StreamSpec<'static> = StreamSpec {
        kind: "a kind that is so long that the HELLO frame of its stream can not be held by a queue of this size, ever, not even when nothing else is in it",
        period_us: 1,
        fields: &[],
    };
    let mut device = greeted::<160>();
    assert_eq!(device.describe(0, &LONG), Err(BuildError::QueueTooSmall));
    assert_eq!(device.deadline_us(), Some(HELLO_EVERY_US), "nothing to tell");
    assert_eq!(device.sample(0, 1, &[Value::I16(1)]), Ok(Offered::Queued));
    device.describe(0, &WIDE).expect("fits");
    assert_eq!(device.sample(0, 2, &[Value::I16(1)]), Err(BuildError::ValueType));
    assert_eq!(device.sample(0, 2, &[Value::I32(1)]), Ok(Offered::Queued));
    assert_eq!(device.describe(2, &WIDE), Err(BuildError::UnknownStream));
    assert_eq!(device.deadline_us(), Some(HELLO_GAP_US));
}

#[test]
fn mistakes_of_the_firmware_are_refused_and_number_nothing() {
    let mut device = greeted::<160>();
    assert_eq!(device.sample(2, 0, &[Value::I16(1)]), Err(BuildError::UnknownStream));
    assert_eq!(device.sample(0, 0, &[]), Err(BuildError::ValueType));
    assert_eq!(device.sample(1, 0, &[Value::F32(1.0), Value::I16(1)]), Err(BuildError::ValueType));
    assert_eq!(device.samples::<[Value; 1]>(0, 0, 0, &[]), Err(BuildError::NoRows));
    assert_eq!(device.samples(0, 0, 0, &[[Value::I16(1)]; 100]), Err(BuildError::NoRoom), "200 bytes in 160");
    assert_eq!(device.packed_samples(0, 0, 0, 2, &[1, 2, 3]), Err(BuildError::RowBytes));
    assert_eq!(device.reply(ReplyCode::Ok, &[0; 17], 0), Err(BuildError::DataTooLong));
    assert_eq!((device.next_seq(0), device.next_seq(1), device.dropped()), (Some(0), Some(0), 0));
    assert_eq!(Device::<2, 39, 512>::new(&SPEC, 1).map(|_| ()), Err(BuildError::MaxRx));
    assert_eq!(Device::<2, 64, 52>::new(&SPEC, 1).map(|_| ()), Err(BuildError::QueueTooSmall));
}

#[test]
fn log_lines_are_limited_cut_and_counted() {
    let mut device = greeted::<2_048>();
    for _ in 0..20 {
        device.log(LogLevel::Warn, &"ü".repeat(40), 1_000);
    }
    let got = hear(&mut device, 1_000);
    assert_eq!(got.len(), usize::from(LOG_BURST));
    assert_eq!(Log::parse(&got[0].1).expect("valid").text, "ü".repeat(32));
    assert_eq!(device.stats().logs_limited, 20 - u32::from(LOG_BURST));
    assert_eq!(device.log(LogLevel::Info, "later", 1_000 + LOG_EVERY_US - 1), Offered::Dropped);
    assert_eq!(device.log(LogLevel::Info, "later", 1_000 + LOG_EVERY_US), Offered::Queued);
    assert_eq!(device.log(LogLevel::Info, "later", 1_000 + LOG_EVERY_US), Offered::Dropped);
    device.reset_counters();
    assert_eq!(device.stats().logs_limited, 0);
}

#[test]
fn hostile_bytes_change_counters_only() {
    let mut device = greeted::<512>();
    let frames = [
        frame(LinkType::Ping, 1, 1, &[1]),
        frame(LinkType::HelloReq, 1, 1, &[1]),
        frame(LinkType::Config, 1, 1, &[0; 11]),
        frame(LinkType::Command, 1, 1, &[0; 25]),
        frame(LinkType::Sample, 1, 1, &[0, 1, 0, 0, 1]),
        frame(LinkType::Reply, 1, 1, &[0, 0, 0]),
        frame(LinkType::Knob, 1, 1, &[0; 9]),
        frame(LinkType::Unknown(0x42), 1, 1, &[]),
    ];
    for bytes in &frames {
        assert_eq!(tell(&mut device, bytes, 1), None);
    }
    assert!(hear(&mut device, 2).is_empty());
    assert_eq!(device.stats().frames_refused, 7);
    assert_eq!(device.link_stats().unknown_frames, 1);
    // A lying length, an endless frame, and then a good one.
    tell(&mut device, &[0xFF, 1, 2, 0], 1);
    tell(&mut device, &[0x55; 5_000], 1);
    tell(&mut device, &frame(LinkType::Ping, 4, 1, &[]), 1);
    assert_eq!(types(&hear(&mut device, 2)), [LinkType::Pong]);
    let stats = device.link_stats();
    assert_eq!((stats.errors(), stats.accounted_bytes()), (2, stats.bytes));
}

#[test]
fn knob_lets_a_test_build_lie() {
    let mut device = greeted::<512>();
    let mut out = [0; 10];
    let knob = Knob { ppm: 6_000, drop_every: 3, corrupt_every: 2, stall_ms: 50 };
    knob.encode(&mut out).expect("10 bytes");
    tell(&mut device, &frame(LinkType::Knob, 1, 1, &out), 1_000_000);
    for n in 0..6 {
        let offered = device.sample(0, 2_000_000 + n, &[Value::I16(1)]).expect("valid");
        assert_eq!(offered == Offered::Dropped, n == 2 || n == 5);
    }
    assert_eq!(device.next_byte(1_040_000), None, "stalled");
    let mut host = LinkDecoder::<RAW_BYTES_MAX>::new();
    host.push(0);
    let mut times = Vec::new();
    while let Some(byte) = device.next_byte(1_060_000) {
        if let Some(Ok(frame)) = host.push(byte) {
            times.push(frame.header.t_us);
        }
    }
    assert_eq!(host.stats().checksum_errors, 2, "every second of four");
    assert_eq!(times, [2_006_000, 2_006_003]);
}

#[test]
fn a_bare_queue_keeps_order_and_counts() {
    let mut queue = TxQueue::<64>::new();
    let header = |seq| Header { link_type: LinkType::Unknown(0x42), flags: Flags::NONE, seq, t_us: 0 };
    assert_eq!(queue.offer(header(0), &[1; 10]), Offered::Queued);
    assert_eq!(queue.offer(header(1), &[2; 10]), Offered::Queued);
    assert_eq!(queue.offer(header(2), &[3; 10]), Offered::Dropped);
    assert_eq!(queue.offer_reply(header(3), &[4; 3]), Offered::Queued);
    assert_eq!(queue.offer_reply(header(4), &[5; 3]), Offered::Dropped, "its slot is taken");
    let mut host = LinkDecoder::<RAW_BYTES_MAX>::new();
    let mut seen = Vec::new();
    while !queue.is_empty() {
        let chunk = queue.chunk(0).to_vec();
        queue.sent(chunk.len());
        // A ring's end may cut a frame.
        assert!(!chunk.is_empty() && chunk[..chunk.len() - 1].iter().all(|byte| *byte != 0));
        for byte in chunk {
            if let Some(frame) = host.push(byte) {
                seen.push(frame.expect("no damage").header.seq);
            }
        }
    }
    assert_eq!((seen, queue.dropped()), (vec![0, 1, 3], 1));
}

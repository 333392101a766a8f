//! Fixes link protocol v1 for ever: every vector is encoded byte for byte and decoded to its text.
//!
//! `tests/golden/link/v1/NAME.bin` holds bytes of the wire, `NAME.txt` what they mean. The C side
//! makes and reads the same files. A vector, once committed, is never changed. To add one, extend
//! [`vectors`] and run once with `HEADWATER_GOLDEN_NEW=1`, which writes missing files only.

mod common;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use headwater_shims::cobs;
use headwater_shims::crc::crc16;
use headwater_shims::link::{
    Caps, Command, Config, Field, FieldList, FieldType, Flags, Header, Hello, HelloBody, HelloReq, Identity,
    Knob, LinkDecoder, LinkError, LinkFrame, LinkType, Log, LogLevel, Ping, Pong, RAW_BYTES_MAX, Reply,
    ReplyCode, RequestData, STREAM_DEVICE, Sample, SampleWriter, StreamDescriptor, T2Point, Value,
    WIRE_BYTES_MAX, encode, schema_crc,
};

const EVERY_FIELD: &[Field<'static>] = &[
    field(FieldType::U8, 0, "u8", "1"),
    field(FieldType::I8, 0, "i8", "Cel"),
    field(FieldType::U16, -3, "u16", "V"),
    field(FieldType::I16, -2, "i16", "m/s2"),
    field(FieldType::U32, 0, "u32", "Pa"),
    field(FieldType::I32, -7, "i32", "deg"),
    field(FieldType::U64, 3, "u64", "J"),
    field(FieldType::I64, -128, "i64", "ns"),
    field(FieldType::F32, 127, "f32", "lx"),
    field(FieldType::F64, 0, "größe", "m"),
];
const CLIMATE_FIELDS: &[Field<'static>] =
    &[field(FieldType::I16, -2, "temperature", "Cel"), field(FieldType::U16, -2, "humidity", "%")];
const CLIMATE: StreamDescriptor<'static> = StreamDescriptor {
    stream: 0,
    next_seq: 0,
    kind: "climate",
    period_us: 10_000,
    fields: FieldList::new(CLIMATE_FIELDS),
};
const EVERY: StreamDescriptor<'static> = StreamDescriptor {
    stream: 7,
    next_seq: 0x0001_0203,
    kind: "every",
    period_us: 0,
    fields: FieldList::new(EVERY_FIELD),
};

const fn field(field_type: FieldType, scale10: i8, name: &'static str, unit: &'static str) -> Field<'static> {
    Field { field_type, scale10, name, unit }
}

/// What a vector's bytes are.
enum Form {
    /// One stuffed block of raw bytes with its delimiter, no frame.
    Cobs,
    /// One link frame.
    Frame,
    /// A stretch of line with damage in it.
    Line,
}

struct Vector {
    name: String,
    form: Form,
    bytes: Vec<u8>,
}

fn frame(code: u8, flags: Flags, seq: u16, t_us: u64, payload: &[u8]) -> Vec<u8> {
    let header = Header { link_type: LinkType::from_code(code), flags, seq, t_us };
    let mut out = [0; WIRE_BYTES_MAX];
    let n = encode(&mut out, header, payload).expect("WIRE_BYTES_MAX suffices");
    out[..n].to_vec()
}

fn sample(stream: u8, dt_us: u16, rows: &[Vec<Value>]) -> Vec<u8> {
    let mut out = [0; 1024];
    let mut writer = SampleWriter::new(&mut out, stream, dt_us).expect("room");
    for row in rows {
        writer.push_row(row).expect("room");
    }
    let n = writer.finish().expect("rows");
    out[..n].to_vec()
}

fn hello(index: u8, total: u8, body: HelloBody<'_>) -> Vec<u8> {
    let mut out = [0; 1024];
    let n = Hello { index, total, body }.encode(&mut out).expect("valid");
    out[..n].to_vec()
}

fn log(level: LogLevel, text: &str) -> Vec<u8> {
    let mut out = [0; 80];
    let n = Log { level, text }.encode(&mut out).expect("valid");
    out[..n].to_vec()
}

fn identity() -> HelloBody<'static> {
    HelloBody::Identity(Identity {
        caps: Caps::CONFIG | Caps::COMMAND,
        t2_point: T2Point::Delimiter,
        boot_nonce: 0xDEAD_BEEF,
        max_rx: 64,
        tick_ns: 1_000,
        clock_ppm: 50,
        schema_crc: schema_crc(&[CLIMATE, EVERY]).expect("valid"),
        uid: "mps2-an385-0001",
        firmware: "1.2.3",
    })
}

fn pong() -> Vec<u8> {
    let mut out = [0; 24];
    let pong = Pong {
        t1_us: 0x0102_0304_0506_0708,
        t2_us: 1_500_000,
        boot_nonce: 0xDEAD_BEEF,
        schema_crc: 0x1234,
        dropped: 65_535,
    };
    pong.encode(&mut out).expect("24 bytes");
    out.to_vec()
}

/// Every vector, made by the code under test.
fn vectors() -> Vec<Vector> {
    let mut all = Vec::new();
    for len in [0, 1, 253, 254, 255, 508, 509] {
        let zero = vec![0; len];
        let none: Vec<u8> = (1..=255).cycle().take(len).collect();
        let mixed: Vec<u8> = (0..=255u8).cycle().map(|i| i.wrapping_mul(i)).take(len).collect();
        for (what, raw) in [("zeros", zero), ("no_zeros", none), ("mixed", mixed)] {
            let mut out = [0; 600];
            let n = cobs::encode(&raw, &mut out).expect("room");
            all.push(Vector {
                name: format!("cobs_{len:03}_{what}"),
                form: Form::Cobs,
                bytes: out[..n].to_vec(),
            });
        }
    }

    let climate = |n: i16| {
        let humidity = u16::try_from(4_500 + n).expect("positive");
        vec![Value::I16(-150 + n), Value::U16(humidity)]
    };
    let every = |low: bool| {
        vec![
            Value::U8(if low { 0 } else { u8::MAX }),
            Value::I8(if low { i8::MIN } else { i8::MAX }),
            Value::U16(if low { 0 } else { u16::MAX }),
            Value::I16(if low { i16::MIN } else { i16::MAX }),
            Value::U32(if low { 0 } else { u32::MAX }),
            Value::I32(if low { i32::MIN } else { i32::MAX }),
            Value::U64(if low { 0 } else { u64::MAX }),
            Value::I64(if low { i64::MIN } else { i64::MAX }),
            Value::F32(if low { -0.0 } else { f32::INFINITY }),
            Value::F64(if low { -1.5 } else { f64::MIN_POSITIVE }),
        ]
    };
    let first = Flags::FIRST_SINCE_BOOT;
    let dropped = Flags::DROPPED_BEFORE | Flags::ENQUEUE_TIME;
    let many: Vec<_> = (0..20).map(climate).collect();
    let frames = [
        ("ping", frame(0x10, Flags::NONE, 0x0102, 0x0102_0304_0506_0708, &[])),
        ("ping_zero", frame(0x10, Flags::NONE, 0, 0, &[])),
        ("pong", frame(0x11, Flags::NONE, 0x0102, 1_500_321, &pong())),
        ("hello_req", frame(0x12, Flags::NONE, 3, 77, &[])),
        ("hello_identity", frame(0x03, first, 0, 1_500, &hello(0, 3, identity()))),
        (
            "hello_stream_climate",
            frame(0x03, Flags::NONE, 1, 1_600, &hello(1, 3, HelloBody::Stream(CLIMATE))),
        ),
        ("hello_stream_every", frame(0x03, Flags::NONE, 2, 1_700, &hello(2, 3, HelloBody::Stream(EVERY)))),
        ("sample_one", frame(0x01, first, 0, 20_000, &sample(0, 0, &[climate(0)]))),
        ("sample_many", frame(0x01, dropped, 65_530, u64::MAX, &sample(0, 10_000, &many))),
        ("sample_every", frame(0x01, Flags::NONE, 9, 1 << 32, &sample(7, 1, &[every(true), every(false)]))),
        ("log", frame(0x02, Flags::NONE, 4, 99, &log(LogLevel::Warn, "sensor answers late"))),
        ("log_empty", frame(0x02, Flags::NONE, 5, 99, &log(LogLevel::Error, ""))),
        ("log_longest", frame(0x02, Flags::NONE, 6, 99, &log(LogLevel::Unknown(9), &"ü".repeat(32)))),
        ("unknown_type", frame(0x42, Flags::from_bits(0xF8), 1, 2, &[0, 1, 0, 255])),
        ("largest", frame(0x42, Flags::NONE, 1, 2, &[0x55; 1010])),
    ];
    let frames = frames.into_iter().chain(requests());
    all.extend(frames.map(|(name, bytes)| Vector { name: name.to_owned(), form: Form::Frame, bytes }));
    all.push(Vector { name: "line_with_damage".to_owned(), form: Form::Line, bytes: damaged_line() });
    all
}

/// What a host asks of a device, and the answers.
fn requests() -> [(&'static str, Vec<u8>); 8] {
    const BOOT: u32 = 0xDEAD_BEEF;
    let sixteen: Vec<u8> = (0..16).map(|i| i * 17).collect();
    let data = |bytes: &[u8]| RequestData::new(bytes).expect("short");
    let host = |code, seq, encode: &dyn Fn(&mut [u8]) -> usize| {
        let mut payload = [0; 32];
        let n = encode(&mut payload);
        frame(code, Flags::NONE, seq, 123_456_789, &payload[..n])
    };
    let config = |seq, token, stream, key, value| {
        let config = Config { boot_nonce: BOOT, token, stream, key, value };
        host(0x13, seq, &|out| config.encode(out).expect("room"))
    };
    let command = |seq, token, stream, command, args: &[u8]| {
        let command = Command { boot_nonce: BOOT, token, stream, command, args: data(args) };
        host(0x14, seq, &|out| command.encode(out).expect("room"))
    };
    let reply = |seq, token, code, bytes: &[u8]| {
        let mut payload = [0; 32];
        let n = Reply { token, code, data: data(bytes) }.encode(&mut payload).expect("room");
        frame(0x15, Flags::NONE, seq, 2_000_000, &payload[..n])
    };
    let knob = Knob { ppm: -6_000, drop_every: 3, corrupt_every: 500, stall_ms: 1_500 };
    [
        ("config_period", config(11, 0x0A0B, 0, 2, 20_000)),
        ("config_own_key", config(12, 0, STREAM_DEVICE, 128, i32::MIN)),
        ("command_reset", command(13, 65_535, STREAM_DEVICE, 1, &[])),
        ("command_longest", command(14, 1, 1, 200, &sixteen)),
        ("reply_value", reply(7, 0x0A0B, ReplyCode::Ok, &20_000_i32.to_le_bytes())),
        ("reply_unknown", reply(8, 0, ReplyCode::Unknown, &[])),
        ("reply_longest", reply(9, 1, ReplyCode::Other(250), &sixteen)),
        ("knob", host(0x7E, 15, &|out| knob.encode(out).expect("room"))),
    ]
}

/// One of everything that can go wrong, between frames that must all arrive.
fn damaged_line() -> Vec<u8> {
    let good = |seq| frame(0x10, Flags::NONE, seq, 5, &[]);
    let mut line = good(1)[6..].to_vec(); // joined inside a frame: hunted away
    line.extend(good(2));
    line.extend([0, 0]); // idle
    let mut flipped = good(3);
    flipped[1] ^= 0x01; // checksum
    line.extend(flipped);
    line.extend(good(4));
    line.extend([5, 1, 2, 0]); // ends inside a block
    line.extend([4, 1, 2, 3, 0]); // too short
    line.extend([0xFF; 1200]); // oversize
    line.push(0);
    let mut trailing = vec![0];
    trailing.extend([0x21; 252]);
    let mut full = frame(0x42, Flags::NONE, 5, 5, &trailing);
    assert_eq!(full.len() - full.iter().rposition(|b| *b == 0xFF).expect("a full block"), 256);
    full.insert(full.len() - 1, 1); // a trailing block: not canonical, but accepted
    line.extend(full);
    line.extend(good(6));
    line.extend(&good(7)[..9]); // cut off
    line
}

/// What bytes of a vector mean, from the bytes alone.
fn describe(form: &Form, bytes: &[u8]) -> String {
    let mut text = String::new();
    match form {
        Form::Cobs => {
            let (last, stuffed) = bytes.split_last().expect("a delimiter");
            assert_eq!(*last, cobs::DELIMITER);
            let mut raw = vec![0; stuffed.len()];
            let n = cobs::decode(stuffed, &mut raw).expect("valid");
            writeln!(text, "raw bytes: {n}").expect("string");
            hex(&mut text, &raw[..n]);
        }
        Form::Frame => {
            let mut decoder = LinkDecoder::<RAW_BYTES_MAX>::new();
            assert!(decoder.push(0).is_none());
            let (last, rest) = bytes.split_last().expect("a delimiter");
            for byte in rest {
                assert!(decoder.push(*byte).is_none());
            }
            let frame = decoder.push(*last).expect("whole").expect("valid");
            describe_frame(&mut text, &frame);
        }
        Form::Line => {
            let mut decoder = LinkDecoder::<RAW_BYTES_MAX>::new();
            for (at, byte) in bytes.iter().enumerate() {
                match decoder.push(*byte) {
                    None => {}
                    Some(Ok(frame)) => writeln!(
                        text,
                        "byte {at}: type {:#04x} seq {} with {} payload bytes",
                        frame.header.link_type.code(),
                        frame.header.seq,
                        frame.payload.len()
                    )
                    .expect("string"),
                    Some(Err(error)) => {
                        let why = match error {
                            LinkError::Stuffing => "stuffing",
                            LinkError::TooShort { .. } => "too short",
                            LinkError::Oversize => "oversize",
                            LinkError::Checksum { .. } => "checksum",
                            _ => "new error",
                        };
                        writeln!(text, "byte {at}: rejected, {why}").expect("string");
                    }
                }
            }
            let stats = decoder.stats();
            line(&mut text, "bytes", stats.bytes);
            line(&mut text, "hunted_bytes", stats.hunted_bytes);
            line(&mut text, "frame_bytes", stats.frame_bytes);
            line(&mut text, "rejected_bytes", stats.rejected_bytes);
            line(&mut text, "idle_bytes", stats.idle_bytes);
            line(&mut text, "pending_bytes", stats.pending_bytes);
            line(&mut text, "frames", stats.frames);
            line(&mut text, "unknown_frames", stats.unknown_frames);
            line(&mut text, "stuffing_errors", stats.stuffing_errors);
            line(&mut text, "short_errors", stats.short_errors);
            line(&mut text, "oversize_errors", stats.oversize_errors);
            line(&mut text, "checksum_errors", stats.checksum_errors);
        }
    }
    text
}

fn describe_frame(text: &mut String, frame: &LinkFrame<'_>) {
    let Header { link_type, flags, seq, t_us } = frame.header;
    let body = [&frame.header.to_bytes()[..], frame.payload].concat();
    writeln!(text, "type: {:#04x}", link_type.code()).expect("string");
    writeln!(text, "flags: {:#04x}\nseq: {seq}\nt_us: {t_us}", flags.bits()).expect("string");
    writeln!(text, "crc: {:#06x}", crc16(&body)).expect("string");
    writeln!(text, "payload bytes: {}", frame.payload.len()).expect("string");
    hex(text, frame.payload);
    match link_type {
        LinkType::Ping => assert_eq!(Ping::parse(frame.payload), Ok(Ping)),
        LinkType::HelloReq => assert_eq!(HelloReq::parse(frame.payload), Ok(HelloReq)),
        LinkType::Pong => {
            let pong = Pong::parse(frame.payload).expect("valid");
            line(text, "t1_us", pong.t1_us);
            line(text, "t2_us", pong.t2_us);
            line(text, "boot_nonce", pong.boot_nonce);
            line(text, "schema_crc", pong.schema_crc);
            line(text, "dropped", pong.dropped);
        }
        LinkType::Log => {
            let log = Log::parse(frame.payload).expect("valid");
            line(text, "level", log.level.code());
            line(text, "text", log.text);
        }
        LinkType::Config => {
            let config = Config::parse(frame.payload).expect("valid");
            line(text, "boot_nonce", config.boot_nonce);
            line(text, "token", config.token);
            line(text, "stream", config.stream);
            line(text, "key", config.key);
            line(text, "value", config.value);
        }
        LinkType::Command => {
            let command = Command::parse(frame.payload).expect("valid");
            line(text, "boot_nonce", command.boot_nonce);
            line(text, "token", command.token);
            line(text, "stream", command.stream);
            line(text, "command", command.command);
            line(text, "argument bytes", command.args.as_bytes().len());
        }
        LinkType::Reply => {
            let reply = Reply::parse(frame.payload).expect("valid");
            line(text, "token", reply.token);
            line(text, "result", reply.code.code());
            line(text, "data bytes", reply.data.as_bytes().len());
            line(text, "value", reply.value().map_or("none".to_owned(), |value| value.to_string()));
        }
        LinkType::Knob => {
            let knob = Knob::parse(frame.payload).expect("valid");
            line(text, "ppm", knob.ppm);
            line(text, "drop_every", knob.drop_every);
            line(text, "corrupt_every", knob.corrupt_every);
            line(text, "stall_ms", knob.stall_ms);
        }
        LinkType::Hello => describe_hello(text, &Hello::parse(frame.payload).expect("valid")),
        LinkType::Sample => describe_sample(text, &Sample::parse(frame.payload).expect("valid")),
        _ => {}
    }
}

fn describe_hello(text: &mut String, hello: &Hello<'_>) {
    line(text, "index", hello.index);
    line(text, "total", hello.total);
    match &hello.body {
        HelloBody::Identity(identity) => {
            line(text, "caps", identity.caps.bits());
            line(text, "t2_point", identity.t2_point.code());
            line(text, "boot_nonce", identity.boot_nonce);
            line(text, "max_rx", identity.max_rx);
            line(text, "tick_ns", identity.tick_ns);
            line(text, "clock_ppm", identity.clock_ppm);
            line(text, "schema_crc", identity.schema_crc);
            line(text, "uid", identity.uid);
            line(text, "firmware", identity.firmware);
        }
        HelloBody::Stream(stream) => {
            line(text, "stream", stream.stream);
            line(text, "next_seq", stream.next_seq);
            line(text, "kind", stream.kind);
            line(text, "period_us", stream.period_us);
            for field in &stream.fields {
                let code = field.field_type.code();
                let rest = format!("{code:#04x} 10^{} {} [{}]", field.scale10, field.name, field.unit);
                line(text, "field", rest);
            }
        }
    }
}

/// Written out name by name, not by `Debug`: a text must not change because a type's code does.
fn line(text: &mut String, name: &str, value: impl std::fmt::Display) {
    writeln!(text, "{name}: {value}").expect("string");
}

fn describe_sample(text: &mut String, sample: &Sample<'_>) {
    let fields = match sample.stream() {
        0 => CLIMATE.fields,
        _ => EVERY.fields,
    };
    let types: Vec<_> = fields.iter().map(|field| field.field_type).collect();
    writeln!(text, "stream: {}\ncount: {}\ndt_us: {}", sample.stream(), sample.count(), sample.dt_us())
        .expect("string");
    for row in sample.rows(&types).expect("fits") {
        let values: Vec<_> = row.values().collect();
        writeln!(text, "row {} at +{} us: {values:?}", row.index, row.offset_us).expect("string");
    }
}

fn hex(text: &mut String, bytes: &[u8]) {
    for line in bytes.chunks(32) {
        let line: Vec<_> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(text, "  {}", line.join(" ")).expect("string");
    }
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/link/v1")
}

#[test]
fn link_golden_rust() {
    let folder = folder();
    let add = std::env::var_os("HEADWATER_GOLDEN_NEW").is_some();
    let mut named = BTreeSet::new();
    for Vector { name, form, bytes } in vectors() {
        let (bin, txt) = (folder.join(format!("{name}.bin")), folder.join(format!("{name}.txt")));
        if add && !bin.exists() {
            fs::write(&bin, &bytes).expect("the folder can be written");
            fs::write(&txt, describe(&form, &bytes)).expect("the folder can be written");
        }
        let golden = fs::read(&bin).unwrap_or_else(|error| panic!("{name}.bin: {error}"));
        assert_eq!(bytes, golden, "{name}: encoding has changed");
        let meaning = fs::read_to_string(&txt).unwrap_or_else(|error| panic!("{name}.txt: {error}"));
        assert_eq!(describe(&form, &golden), meaning, "{name}: decoding has changed");
        named.extend([format!("{name}.bin"), format!("{name}.txt")]);
    }
    let found: BTreeSet<_> = fs::read_dir(folder)
        .expect("the folder is there")
        .map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(found, named, "a golden file that no test reads, or a missing one");
}

/// The C side makes every vector from typed values of its own, and reads every one.
#[test]
fn link_golden_c() {
    let Some(mut c) = common::Helper::start() else { return };
    let folder = folder();
    for Vector { name, form, .. } in vectors() {
        let golden = fs::read(folder.join(format!("{name}.bin"))).expect("link_golden_rust has seen it");
        let meaning = fs::read_to_string(folder.join(format!("{name}.txt"))).expect("as well");
        let hex = common::hex(&golden);
        let (made, read) = match form {
            Form::Cobs => {
                let mut raw = vec![0; golden.len()];
                let n = cobs::decode(&golden[..golden.len() - 1], &mut raw).expect("valid");
                (Some(c.ask(&format!("cobs {}", common::hex(&raw[..n])))), c.ask(&format!("uncobs {hex}")))
            }
            Form::Frame => (Some(c.ask(&format!("vector {name}"))), c.ask(&format!("describe {hex}"))),
            // Damage is not made by an encoder.
            Form::Line => (None, c.ask(&format!("decode {RAW_BYTES_MAX} {hex}"))),
        };
        assert!(made.is_none_or(|made| made == [hex.as_str()]), "{name}: C makes other bytes");
        let read = read.iter().fold(String::new(), |text, line| text + line + "\n");
        // Of a frame's payload, a device need not know what only hosts read.
        let same = if matches!(form, Form::Frame) { meaning.starts_with(&read) } else { meaning == read };
        assert!(same && !read.is_empty(), "{name}: C reads\n{read}instead of\n{meaning}");
    }
    assert_eq!(c.ask("crc 313233343536373839"), [0x29B1.to_string()]);
}

/// Bytes written down by hand from the drawing, so that encoder and decoder cannot be wrong together.
#[test]
fn a_ping_is_what_the_drawing_says() {
    let raw = [0x10, 0, 2, 1, 8, 7, 6, 5, 4, 3, 2, 1];
    let [low, high] = crc16(&raw).to_le_bytes();
    let wire = [2, 0x10, 13, 2, 1, 8, 7, 6, 5, 4, 3, 2, 1, low, high, 0];
    assert_eq!(frame(0x10, Flags::NONE, 0x0102, 0x0102_0304_0506_0708, &[]), wire);
}

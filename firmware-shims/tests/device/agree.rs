//! `c_and_rust_agree`: random frames, damaged lines and whole lives of a device give the same bytes and counters.

use headwater_shims::device::{Device, DeviceSpec, StreamSpec};
use headwater_shims::link::{
    Caps, Command, Config, Field, FieldType, Flags, Header, Knob, LinkDecoder, LinkError, LinkType,
    RAW_BYTES_MAX, RequestData, T2Point, WIRE_BYTES_MAX, encode,
};
use headwater_shims::tx::Offered;
use headwater_shims::uart::RxRing;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::common::{Helper, hex};
use crate::script::{Step, code, device_line, link_stats, stream_line};

const NONCE: u32 = 0xB007_0001;

fn wire(code: u8, flags: u8, seq: u16, t_us: u64, payload: &[u8]) -> Vec<u8> {
    let header = Header { link_type: LinkType::from_code(code), flags: Flags::from_bits(flags), seq, t_us };
    let mut out = [0; WIRE_BYTES_MAX];
    let n = encode(&mut out, header, payload).expect("payload within its limit");
    out[..n].to_vec()
}

/// Runs `check` on many inputs of `strategy` with one helper, which is not built anew for each.
fn all<S: Strategy>(cases: u32, strategy: &S, check: impl Fn(&mut Helper, S::Value)) {
    let Some(helper) = Helper::start() else { return };
    let helper = std::cell::RefCell::new(helper);
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let outcome = TestRunner::new(config).run(strategy, |input| {
        check(&mut helper.borrow_mut(), input);
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

/// Bytes with many zeros and long stretches without one.
fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        vec(any::<u8>(), 0..80),
        vec(1u8..=255, 220..300),
        vec(prop_oneof![Just(0u8), any::<u8>()], 0..600),
    ]
}

#[test]
fn c_and_rust_agree_on_frames() {
    let frames = (any::<(u8, u8, u16, u64)>(), payload(), 0usize..1100);
    all(512, &frames, |c, ((code, flags, seq, t_us), payload, room)| {
        let header =
            Header { link_type: LinkType::from_code(code), flags: Flags::from_bits(flags), seq, t_us };
        let mut out = vec![0; room];
        let ours = encode(&mut out, header, &payload).map_or_else(|_| "-".to_owned(), |n| hex(&out[..n]));
        let theirs = c.ask(&format!("frame {room} {code} {flags} {seq} {t_us} {}", hex(&payload)));
        assert_eq!(theirs, [ours], "into {room} bytes");
        // And the other way: what C wrote is read by Rust.
        let theirs = c.ask(&format!("frame 2000 {code} {flags} {seq} {t_us} {}", hex(&payload)));
        assert_eq!(theirs, [hex(&wire(code, flags, seq, t_us, &payload))]);
    });
}

fn decoded<const N: usize>(bytes: &[u8]) -> Vec<String> {
    let mut decoder = LinkDecoder::<N>::new();
    let mut lines = Vec::new();
    for (at, byte) in bytes.iter().enumerate() {
        let why = match decoder.push(*byte) {
            None => continue,
            Some(Ok(frame)) => {
                let (code, seq) = (frame.header.link_type.code(), frame.header.seq);
                let len = frame.payload.len();
                lines.push(format!("byte {at}: type {code:#04x} seq {seq} with {len} payload bytes"));
                continue;
            }
            Some(Err(LinkError::Stuffing)) => "stuffing",
            Some(Err(LinkError::TooShort { .. })) => "too short",
            Some(Err(LinkError::Oversize)) => "oversize",
            Some(Err(LinkError::Checksum { .. })) => "checksum",
            Some(Err(error)) => panic!("{error}"),
        };
        lines.push(format!("byte {at}: rejected, {why}"));
    }
    lines.extend(link_stats(decoder.stats()));
    lines
}

/// A piece of line: a frame, a damaged one, or noise.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let frame = || {
        (any::<(u8, u8, u16, u64)>(), vec(any::<u8>(), 0..60))
            .prop_map(|((code, flags, seq, t), payload)| wire(code, flags, seq, t, &payload))
    };
    prop_oneof![
        4 => frame(),
        1 => (frame(), any::<prop::sample::Index>(), 0u8..8).prop_map(|(mut frame, at, bit)| {
            let at = at.index(frame.len());
            frame[at] ^= 1 << bit;
            frame
        }),
        1 => (frame(), any::<prop::sample::Index>()).prop_map(|(frame, at)| frame[at.index(frame.len())..].to_vec()),
        1 => vec(any::<u8>(), 0..40),
        1 => vec(1u8..=255, 200..1300),
        1 => Just(vec![0, 0]),
        1 => (1u8..=255, 1usize..4).prop_map(|(byte, n)| [vec![byte; n], vec![0]].concat()),
    ]
}

#[test]
fn c_and_rust_agree_on_damaged_lines() {
    all(256, &vec(piece(), 1..12), |c, pieces| {
        let line = pieces.concat();
        assert_eq!(c.ask(&format!("decode {RAW_BYTES_MAX} {}", hex(&line))), decoded::<RAW_BYTES_MAX>(&line));
        assert_eq!(c.ask(&format!("decode 40 {}", hex(&line))), decoded::<40>(&line));
    });
}

/// A stream that owns its texts.
#[derive(Debug, Clone)]
struct Stream {
    kind: String,
    period_us: u32,
    fields: Vec<(FieldType, i8, String, String)>,
}

impl Stream {
    fn fields(&self) -> Vec<Field<'_>> {
        self.fields
            .iter()
            .map(|(field_type, scale10, name, unit)| Field {
                field_type: *field_type,
                scale10: *scale10,
                name,
                unit,
            })
            .collect()
    }
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![4 => "[a-z0-9/_]{0,10}", 1 => "[äß°µ]{0,6}", 1 => "[a-z]{40,90}"]
}

fn stream() -> impl Strategy<Value = Stream> {
    let field = (prop::sample::select(FieldType::ALL.to_vec()), any::<i8>(), text(), text());
    (text(), any::<u32>(), vec(field, 0..5)).prop_map(|(kind, period_us, fields)| Stream {
        kind,
        period_us,
        fields,
    })
}

/// What a host says, well or badly.
fn said() -> impl Strategy<Value = Vec<u8>> {
    let frame = |code: u8, payload: Vec<u8>, seq: u16, t: u64| wire(code, 0, seq, t, &payload);
    let nonce = prop_oneof![6 => Just(NONCE), 1 => any::<u32>()];
    let stream = prop_oneof![0u8..4, Just(255u8)];
    let config = (nonce.clone(), 0u16..4, stream.clone(), 0u8..6, any::<i32>()).prop_map(
        move |(boot_nonce, token, stream, key, value)| {
            let mut out = [0; 16];
            let n = Config { boot_nonce, token, stream, key, value }.encode(&mut out).expect("room");
            frame(0x13, out[..n].to_vec(), token, 9)
        },
    );
    let command = (nonce, 0u16..4, stream, any::<u8>(), vec(any::<u8>(), 0..=16)).prop_map(
        move |(boot_nonce, token, stream, command, args)| {
            let args = RequestData::new(&args).expect("at most 16");
            let mut out = [0; 32];
            let n = Command { boot_nonce, token, stream, command, args }.encode(&mut out).expect("room");
            frame(0x14, out[..n].to_vec(), token, 9)
        },
    );
    let knob = (-200_000i32..200_000, 0u16..5, 0u16..5, 0u16..400).prop_map(
        move |(ppm, drop_every, corrupt_every, stall_ms)| {
            let mut out = [0; 16];
            let n = Knob { ppm, drop_every, corrupt_every, stall_ms }.encode(&mut out).expect("room");
            frame(0x7E, out[..n].to_vec(), 1, 9)
        },
    );
    let any_type = prop_oneof![0u8..0x16, Just(0x7Eu8), any::<u8>()];
    prop_oneof![
        5 => any::<(u16, u64)>().prop_map(move |(seq, t)| frame(0x10, vec![], seq, t)),
        3 => Just(wire(0x12, 0, 1, 2, &[])),
        4 => config,
        4 => command,
        1 => knob,
        1 => (any_type, vec(any::<u8>(), 0..30)).prop_map(move |(code, payload)| frame(code, payload, 3, 4)),
        2 => piece(),
    ]
}

#[derive(Debug, Clone)]
enum Plan {
    Hear(Vec<u8>),
    Poll,
    Sample { stream: u8, dt: u16, count: u8, wrong: bool, seed: u8 },
    Log { level: u8, text: String },
    Out { most: usize },
    Chunk { most: usize },
    Reply { code: u8, data: Vec<u8> },
    Period { stream: u8, period_us: u32 },
    Redescribe { stream: u8, spec: prop::sample::Index },
    Reset,
    Stats,
}

fn plan() -> impl Strategy<Value = (u64, Plan)> {
    let later = prop_oneof![6 => 0u64..3_000, 2 => 0u64..300_000, 1 => 0u64..5_000_000, 1 => 0u64..(1 << 33)];
    let sample = (
        0u8..4,
        any::<u16>(),
        prop_oneof![4 => 1u8..6, 1 => any::<u8>()],
        prop::bool::weighted(0.1),
        any::<u8>(),
    );
    let plan = prop_oneof![
        6 => said().prop_map(Plan::Hear),
        5 => Just(Plan::Poll),
        8 => sample.prop_map(|(stream, dt, count, wrong, seed)| Plan::Sample { stream, dt, count, wrong, seed }),
        2 => (any::<u8>(), prop_oneof!["[a-zäß€]{0,20}", "[a-z€]{50,70}"]).prop_map(|(level, text)| Plan::Log { level, text }),
        6 => (0usize..200).prop_map(|most| Plan::Out { most }),
        6 => (0usize..200).prop_map(|most| Plan::Chunk { most }),
        4 => (0u8..6, vec(any::<u8>(), 0..18)).prop_map(|(code, data)| Plan::Reply { code, data }),
        1 => (0u8..4, any::<u32>()).prop_map(|(stream, period_us)| Plan::Period { stream, period_us }),
        1 => (0u8..4, any::<prop::sample::Index>()).prop_map(|(stream, spec)| Plan::Redescribe { stream, spec }),
        1 => Just(Plan::Reset),
        2 => Just(Plan::Stats),
    ];
    (later, plan)
}

/// The life of a device with two streams; `TX` makes the queue tight or wide.
fn live<const TX: usize>(c: &mut Helper, life: &Life) -> usize {
    let fields: Vec<Vec<Field<'_>>> = life.streams.iter().map(Stream::fields).collect();
    let all: Vec<StreamSpec<'_>> = life
        .streams
        .iter()
        .zip(&fields)
        .map(|(stream, fields)| StreamSpec { kind: &stream.kind, period_us: stream.period_us, fields })
        .collect();
    let spec = DeviceSpec {
        caps: Caps::CONFIG | Caps::COMMAND,
        t2_point: if life.delimiter { T2Point::Delimiter } else { T2Point::FirstByte },
        tick_ns: 1_000,
        clock_ppm: 50,
        uid: "agree-1",
        firmware: "1.0.0",
        streams: [all[0], all[1]],
    };
    c.ask("streams");
    for spec in &all {
        c.ask(&stream_line(spec));
    }
    let made = Device::<2, 64, TX>::new(&spec, NONCE);
    let begun = c.ask(&device_line(&spec, NONCE, 64, TX));
    let mut device = match made {
        Ok(device) => device,
        Err(error) => {
            assert_eq!(begun, [code(Err(error))]);
            return 0;
        }
    };
    assert_eq!(begun, [code(Ok(Offered::Queued))]);
    let mut described = [0, 1];
    let (mut t, mut bytes, mut steps) = (0_u64, 0, Vec::new());
    for (later, plan) in life.plans.iter().cloned().chain([(0, Plan::Out { most: 5_000 }), (0, Plan::Stats)])
    {
        t += later;
        let step = match plan {
            Plan::Hear(bytes) => Step::In { t, bytes },
            Plan::Poll => Step::Poll { t },
            Plan::Sample { stream, dt, count, wrong, seed } => {
                let spec = described.get(usize::from(stream)).map_or(&all[0], |at| &all[*at]);
                let row: usize = spec.fields.iter().map(|field| usize::from(field.field_type.width())).sum();
                let len = row * usize::from(count) + usize::from(wrong);
                let rows = (0..len).map(|at| seed.wrapping_mul(at.to_le_bytes()[0])).collect();
                Step::Sample { stream, t, dt, count, rows }
            }
            Plan::Log { level, text } => Step::Log { level, t, text },
            Plan::Out { most } => Step::Out { t, most },
            Plan::Chunk { most } => Step::Chunk { t, most },
            Plan::Reply { code, data } => Step::Reply { code, t, data },
            Plan::Period { stream, period_us } => Step::Period { stream, period_us },
            Plan::Redescribe { stream, spec } => Step::Redescribe { stream, spec: spec.index(all.len()) },
            Plan::Reset => Step::Reset,
            Plan::Stats => Step::Stats,
        };
        let ours = step.take(&mut device, &all);
        match &step {
            Step::Redescribe { stream, spec } if ours == ["0"] => described[usize::from(*stream)] = *spec,
            Step::Out { .. } | Step::Chunk { .. } => bytes += ours[0].trim_matches('-').len() / 2,
            _ => {}
        }
        steps.push((step, ours));
    }
    let lines: Vec<String> = steps.iter().map(|(step, _)| step.line()).collect();
    for ((step, ours), theirs) in steps.iter().zip(c.ask_all(&lines)) {
        assert_eq!(theirs, *ours, "{step:?} of {steps:?}");
    }
    bytes
}

#[derive(Debug, Clone)]
struct Life {
    streams: Vec<Stream>,
    delimiter: bool,
    plans: Vec<(u64, Plan)>,
}

#[test]
fn c_and_rust_agree() {
    let lives = (vec(stream(), 4), any::<bool>(), vec(plan(), 1..60))
        .prop_map(|(streams, delimiter, plans)| Life { streams, delimiter, plans });
    let sent = std::cell::Cell::new(0_usize);
    all(128, &lives, |c, life| {
        for bytes in [live::<130>(c, &life), live::<260>(c, &life), live::<1_500>(c, &life)] {
            sent.set(sent.get() + bytes);
        }
    });
    println!("{} bytes of devices compared", sent.get());
    assert!(Helper::start().is_none() || sent.get() > 50_000, "only {} bytes were sent", sent.get());
}

#[test]
fn c_and_rust_agree_on_the_receive_ring() {
    let steps = vec(
        prop_oneof![3 => (prop_oneof![Just(0u8), any::<u8>()], any::<u32>()).prop_map(Some), 2 => Just(None)],
        1..200,
    );
    all(128, &steps, |c, steps| {
        let mut ring = RxRing::<16, 4>::new();
        let (mut lines, mut ours) = (vec!["ring 16".to_owned()], vec![vec![]]);
        for step in steps {
            if let Some((byte, counter)) = step {
                ring.push(byte, counter);
                lines.push(format!("push {byte} {counter}"));
                ours.push(vec![]);
                continue;
            }
            lines.push("pop".to_owned());
            ours.push(vec![match ring.pop() {
                None => format!("none overruns {}", ring.overruns()),
                Some((byte, Some(counter))) => format!("{byte} at {counter}"),
                Some((byte, None)) => byte.to_string(),
            }]);
        }
        assert_eq!(c.ask_all(&lines), ours);
    });
}

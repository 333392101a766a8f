//! Frames in, rows, counts and questions out; on no clock but the test's.

use super::*;
use crate::source::arrival::Declared;
use crate::telemetry::Counter;
use headwater_core::sample::Value;
use headwater_core::schema::Field;
use headwater_shims::vendor::mavlink::MavlinkMessage;
use headwater_shims::vendor::mhz19::Mhz19Reading;
use headwater_shims::vendor::modbus::{ReadFunction, ReadRequest, RegisterMap, Rtu};
use headwater_shims::vendor::nmea::Proprietary;
use headwater_shims::vendor::pms::PmsReading;
use headwater_shims::vendor::sbus::SbusFrame;
use headwater_shims::vendor::scd30::Scd30Reading;
use headwater_shims::vendor::sds011::Sds011Reading;
use headwater_shims::vendor::senseair::SenseairReading;
use headwater_shims::vendor::spec::{ByteOrder, Raw, Slot, SpecField};
use headwater_shims::vendor::ubx::UbxMessage;
use headwater_shims::vendor::vedirect::VeDirectBlock;
use headwater_shims::vendor::{Field as VendorField, Value as VendorValue, sum};

const DUST: [u8; 10] = [0xAA, 0xC0, 0xD4, 0x04, 0x3A, 0x0A, 0xA1, 0x60, 0x1D, 0xAB];

fn decoding(protocol: VendorProtocol) -> VendorDecoding {
    let arrivals = Arrivals::of_program(Declared::default(), 1_000_000_000);
    VendorDecoding::new("dev".parse().unwrap(), arrivals, protocol)
}

fn push(decoding: &mut VendorDecoding, bytes: &[u8], at: i64, out: &mut Decoded) {
    decoding.push(bytes, ReadAt::prompt(BootNanos(at)), out);
}

/// Streams and rows, as text.
fn rows(out: &Decoded) -> Vec<String> {
    let row = |event: &SourceEvent| match event {
        SourceEvent::Stream { name, schema } => format!("stream {name} of {}", schema.kind),
        SourceEvent::Reading { stream, reading } => format!("{stream} {:?}", reading.values),
        SourceEvent::Lost { stream, rows, .. } => format!("lost {rows} of {stream}"),
        other => panic!("{other:?}"),
    };
    out.events.iter().map(row).collect()
}

#[test]
fn frames_of_a_sensor_become_rows_of_its_stream() {
    let (mut dust, mut out) = (decoding(VendorProtocol::Sds011), Decoded::default());
    push(&mut dust, &[&[7, 0xAA], DUST.as_slice(), &DUST[..4]].concat(), 5, &mut out);
    push(&mut dust, &DUST[4..], 6, &mut out);
    let row = format!("dev {:?}", [Value::F64(123.6), Value::F64(261.8), Value::I64(41_312)]);
    assert_eq!(rows(&out), ["stream dev of sds011".to_owned(), row.clone(), row]);
    assert_eq!(out.notices, [Notice::Noise(2)]);
}

#[test]
fn each_kind_of_a_receiver_has_a_stream_of_its_own() {
    let log = include_bytes!("../../../../tests/data/gpsd/ublox-8-time.ubx");
    let (mut gps, mut out) = (decoding(VendorProtocol::Ubx), Decoded::default());
    for piece in log.chunks(100) {
        push(&mut gps, piece, 1, &mut out);
    }
    let rows = rows(&out);
    for kind in ["ubx_nav_sol", "ubx_nav_dop", "ubx_nav_timegps", "ubx_nav_svinfo"] {
        assert_eq!(rows.iter().filter(|row| **row == format!("stream dev/{kind} of {kind}")).count(), 1);
        assert!(rows.iter().any(|row| row.starts_with(&format!("dev/{kind} "))), "{kind}");
    }
}

#[test]
fn a_damaged_frame_is_counted_and_its_row_is_a_gap() {
    let (mut dust, mut out) = (decoding(VendorProtocol::Sds011), Decoded::default());
    let mut damaged = DUST;
    damaged[4] ^= 1;
    push(&mut dust, &[DUST, damaged, DUST].concat(), 5, &mut out);
    assert_eq!(rows(&out)[2], "lost 1 of dev");
    assert_eq!(out.notices, [Notice::LinkError, Notice::Noise(10)]);
    // What a port sends before its first whole frame was never anybody's row.
    let (mut dust, mut out) = (decoding(VendorProtocol::Sds011), Decoded::default());
    push(&mut dust, &[damaged, DUST].concat(), 5, &mut out);
    assert_eq!(rows(&out).len(), 2);
}

#[test]
fn a_frame_that_stays_open_is_cut_and_what_lies_in_it_is_found() {
    let (mut gps, mut out) = (decoding(VendorProtocol::Ubx), Decoded::default());
    // A header in noise claims 3840 bytes; the receiver then says one thing and falls silent.
    let poll = [0xB5, 0x62, 0x06, 0x01, 0x02, 0x00, 0x01, 0x07, 0x11, 0x3A];
    push(&mut gps, &[&[0xB5, 0x62, 1, 7, 0, 15], poll.as_slice()].concat(), 0, &mut out);
    assert_eq!(gps.deadline(), Some(BootNanos(500_000_000)));
    gps.poll(BootNanos(499_999_999), &mut Vec::new(), &mut out);
    assert_eq!(gps.seen.frames, 0);
    gps.poll(BootNanos(500_000_000), &mut Vec::new(), &mut out);
    assert_eq!((gps.seen.frames, gps.deadline()), (1, None));
    assert_eq!(out.notices, [Notice::LinkError, Notice::Noise(6)]);
}

#[test]
fn the_latency_of_a_frame_is_that_of_its_bytes_and_those_behind() {
    let mut dust = decoding(VendorProtocol::Sds011);
    dust.arrivals.wire = super::super::arrival::WireTime { baud: 9_600, paced: true };
    let mut out = Decoded::default();
    push(&mut dust, &[DUST, DUST].concat(), 0, &mut out);
    let least: Vec<u32> = out
        .events
        .iter()
        .filter_map(|event| match event {
            SourceEvent::Reading { reading, .. } => Some(reading.latency.lo_ns),
            _ => None,
        })
        .collect();
    // 20 and 10 bytes of 1.04 ms, 4 % faster at most.
    assert_eq!(least, [19_900_000, 9_900_000]);
}

fn meter(start: u16, kind: &str) -> ModbusRead {
    let slot = Slot { order: ByteOrder::Big, scale: 0.1, ..Slot::new(0, Raw::U16) };
    let field = SpecField { name: "voltage".to_owned(), unit: "V".to_owned(), slot };
    ModbusRead {
        request: ReadRequest { unit: 3, function: ReadFunction::InputRegisters, start, count: 1 },
        map: RegisterMap { kind: kind.to_owned(), fields: vec![field] },
    }
}

fn answer(bytes: &[u8]) -> Vec<u8> {
    [bytes, &sum::crc16_modbus(bytes).to_le_bytes()].concat()
}

fn ms(ms: u64) -> BootNanos {
    BootNanos(0).plus_ms(ms)
}

/// Asks at `at`, ms, and gives what was asked.
fn asked(decoding: &mut VendorDecoding, at: u64, out: &mut Decoded) -> Vec<u8> {
    let mut outbox = Vec::new();
    decoding.poll(ms(at), &mut outbox, out);
    outbox
}

#[test]
fn a_round_of_questions_keeps_its_beat() {
    let reads = vec![meter(0, "grid"), meter(7, "solar")];
    let requests: Vec<_> = reads.iter().map(|read| Rtu(read.request).request().to_vec()).collect();
    let mut bus = decoding(VendorProtocol::Modbus(reads, 1_000));
    let mut out = Decoded::default();
    bus.reopened(ms(10), &mut out);
    assert_eq!(asked(&mut bus, 10, &mut out), requests[0]);
    assert_eq!(asked(&mut bus, 11, &mut out), [] as [u8; 0], "one question at a time");
    push(&mut bus, &answer(&[3, 4, 2, 0x08, 0xFC]), ms(20).0, &mut out);
    assert_eq!(bus.deadline(), Some(ms(50)), "silence lies between");
    assert_eq!(asked(&mut bus, 50, &mut out), requests[1]);
    push(&mut bus, &answer(&[3, 4, 2, 0, 100]), ms(60).0, &mut out);
    assert_eq!(bus.deadline(), Some(ms(1_010)));
    assert_eq!(asked(&mut bus, 1_010, &mut out), requests[0]);
    let expected = [
        "stream dev/grid of grid",
        "dev/grid [F64(230.0)]",
        "stream dev/solar of solar",
        "dev/solar [F64(10.0)]",
    ];
    assert_eq!(rows(&out), expected);
    assert_eq!(out.notices, []);
}

#[test]
fn a_silent_device_is_a_trouble_until_it_answers() {
    let mut bus = decoding(VendorProtocol::Modbus(vec![meter(0, "grid")], 1_000));
    let mut out = Decoded::default();
    bus.reopened(ms(0), &mut out);
    for second in 0..4 {
        assert_eq!(asked(&mut bus, second * 1_000, &mut out).len(), 8, "{second}");
    }
    let misses = out.notices.iter().filter(|n| matches!(n, Notice::Count(Counter::PollsUnanswered, 1)));
    assert_eq!(misses.count(), 3);
    let troubles: Vec<_> = out.notices.iter().filter(|n| matches!(n, Notice::Trouble(_))).collect();
    assert!(matches!(troubles[..], [Notice::Trouble(Some(why))] if why.contains("does not answer")));
    // Half an answer, late, belongs to no later question.
    push(&mut bus, &answer(&[3, 4, 2, 0, 1])[..4], ms(3_900).0, &mut out);
    assert_eq!(asked(&mut bus, 4_100, &mut out).len(), 8);
    push(&mut bus, &answer(&[3, 4, 2, 0x08, 0xFC]), ms(4_120).0, &mut out);
    assert_eq!(rows(&out)[1], "dev [F64(230.0)]");
    assert_eq!(out.notices.last(), Some(&Notice::Trouble(None)));
}

#[test]
fn a_refusal_says_what_to_change() {
    let mut bus = decoding(VendorProtocol::Modbus(vec![meter(7, "grid")], 1_000));
    let mut out = Decoded::default();
    bus.reopened(ms(0), &mut out);
    assert_eq!(asked(&mut bus, 0, &mut out).len(), 8);
    push(&mut bus, &answer(&[3, 0x84, 2]), ms(20).0, &mut out);
    let [Notice::Trouble(Some(why))] = out.notices.as_slice() else { panic!("{:?}", out.notices) };
    let told =
        "device has no such register: check start and count against its manual (device 3, 1 from address 7)";
    assert_eq!(why, told);
}

/// A message of any kind, with nothing in it.
struct Empty(&'static str, &'static [VendorField<'static>]);

impl Message for Empty {
    fn kind(&self) -> &str {
        self.0
    }
    fn field(&self, at: usize) -> Option<VendorField<'_>> {
        self.1.get(at).copied()
    }
    fn value(&self, _: usize) -> VendorValue<'_> {
        VendorValue::F64(f64::NAN)
    }
}

/// Names, units and types of every message there is make a schema: no device is found to be none only when it speaks.
#[test]
fn every_kind_makes_a_stream() {
    let mut kinds: Vec<_> = [UbxMessage::KINDS, MavlinkMessage::KINDS, Proprietary::KINDS].concat();
    kinds.extend([
        (PmsReading::KIND, PmsReading::FIELDS),
        (Sds011Reading::KIND, Sds011Reading::FIELDS),
        (Mhz19Reading::KIND, Mhz19Reading::FIELDS),
        (Scd30Reading::KIND, Scd30Reading::FIELDS),
        (SenseairReading::KIND, SenseairReading::FIELDS),
        (SbusFrame::KIND, SbusFrame::FIELDS),
        (VeDirectBlock::KIND, VeDirectBlock::FIELDS),
    ]);
    assert!(kinds.len() >= 55, "{}", kinds.len());
    for (kind, fields) in kinds {
        let (mut streams, mut out) = (Streams::new("dev".parse().unwrap(), false), Decoded::default());
        let latency = headwater_core::time::Latency { lo_ns: 0, hi_ns: 1 };
        streams.message(&Empty(kind, fields), (BootNanos(0), latency), &mut out);
        let Some(SourceEvent::Stream { schema, .. }) = out.events.front() else { panic!("{kind}") };
        assert_eq!((schema.kind.as_str(), schema.fields.len()), (kind, fields.len()));
        for Field { name, unit, .. } in &schema.fields {
            assert_eq!(headwater_core::schema::check_unit(unit), Ok(()), "{kind}.{name}");
        }
    }
}

#[test]
fn unknown_as_nan_is_missing_where_that_may_be() {
    let field =
        |nullable| VendorField { name: "x", form: headwater_shims::vendor::Form::F64, nullable, unit: "1" };
    let fields: &'static [VendorField<'static>] = Box::leak(Box::new([field(true), field(false)]));
    let (mut streams, mut out) = (Streams::new("dev".parse().unwrap(), true), Decoded::default());
    let latency = headwater_core::time::Latency { lo_ns: 0, hi_ns: 1 };
    // Two fields of one name are no schema, and that is said, not hidden behind rows.
    streams.message(&Empty("odd", fields), (BootNanos(0), latency), &mut out);
    assert!(out.events.is_empty());
    let one: &'static [VendorField<'static>] = Box::leak(Box::new([field(true)]));
    streams.message(&Empty("even", one), (BootNanos(0), latency), &mut out);
    assert_eq!(rows(&out), ["stream dev of even", "dev [Null]"]);
}

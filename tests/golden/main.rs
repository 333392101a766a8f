//! Golden files of the wire: each message of each version decodes for ever, and the pure parts encode
//! to the same bytes.
//!
//! `wire/v1/NAME.hw` is a message signed with a fixed key, `NAME.txt` what it says. Files are added and
//! never rewritten; `HEADWATER_GOLDEN_NEW=1` writes the ones that are missing. Those whose name starts with
//! `best` or `zstd` hold what an encoder chose or a library packed: they decode for ever, and a later
//! version may encode the same rows to other bytes.
#![expect(
    clippy::unwrap_used,
    clippy::single_range_in_vec_init,
    reason = "helpers of tests: a failure is a failed test"
)]

use headwater_core::batch::{
    Announced, Column, Effort, Encoder, Heartbeat, Limits, Rows, Section, StreamRef, Values, decode_batch,
};
use headwater_core::gap::{GapCause, GapRecord};
use headwater_core::id::{
    BootId, BootOrdinal, DevicePath, Epoch, IncarnationId, ObjectId, Seq, Sha256, StreamId,
};
use headwater_core::sample::{BlobRef, Value};
use headwater_core::schema::{Fingerprint, builtin};
use headwater_core::time::{BootNanos, ClockDomain, Grade, StampKind};
use headwater_core::wire::object::{BlobObject, Part, object_id};
use headwater_core::wire::{
    Ack, AckStream, Capabilities, ClockReply, CreditWait, Declaration, Envelope, Hello, HelloStream,
    MessageKind, Missing, Refusal, RefusalReason, Refused, Sent, SigningKey, Unsigned, WaitReason,
};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/wire/v1")
}

fn device() -> DevicePath {
    DevicePath { tenant: "acme".parse().unwrap(), device: "pi-1".parse().unwrap() }
}

/// A fixed Ed25519 key in PKCS#8 (seed of one repeated byte): for these files only.
fn key(seed: u8) -> SigningKey {
    let mut der = vec![0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    der.extend_from_slice(&[seed; 32]);
    SigningKey::from_pkcs8(&der).unwrap()
}

fn rows(first_seq: u64, fields: Vec<Column>) -> Rows {
    let n = fields.first().map_or(2, Column::len);
    Rows {
        stream: StreamRef::Id(StreamId(1)),
        fingerprint: Fingerprint(0x1234_5678),
        boot_ordinal: BootOrdinal(3),
        first_seq: Seq(first_seq),
        time_exp: 3,
        stamp_kind: StampKind::Arrival,
        domain: ClockDomain::BOOT,
        t: (0..i64::try_from(n).unwrap()).map(|i| 7_000_000 + i * 5_000).collect(),
        lat_lo: vec![0; n],
        lat_hi: vec![20_000_000; n],
        fields,
    }
}

fn column(values: Values) -> Column {
    Column { values, valid: None }
}

fn nullable(values: &[Option<i64>]) -> Column {
    let mut column = Column::integers(Vec::new());
    for value in values {
        assert!(column.push(&value.map_or(Value::Null, Value::I64)));
    }
    column
}

fn gaps() -> Rows {
    let schema = builtin::gaps();
    let mut fields: Vec<Column> = schema.fields.iter().map(|f| Column::new(f.logical.physical())).collect();
    for (i, cause) in (0..).zip(GapCause::ALL) {
        let record = GapRecord {
            stream: "camera/front".parse().unwrap(),
            boot_ordinal: BootOrdinal(3),
            seq_first: Seq(i * 10),
            seq_last: Seq(i * 10 + 3),
            cause: *cause,
            stride: 0,
            phase: 0,
            rows: 4,
            bytes: 99,
            b_first: BootNanos(1_000),
            b_last: BootNanos(2_000),
            policy_version: 0,
            note: "golden".to_owned(),
        };
        for (field, value) in fields.iter_mut().zip(record.to_values()) {
            assert!(field.push(&value));
        }
    }
    Rows {
        fingerprint: schema.fingerprint(),
        stream: StreamRef::Name(builtin::GAPS_STREAM.parse().unwrap()),
        ..rows(0, fields)
    }
}

/// Every message, by name: kind and body.
fn messages() -> Vec<(&'static str, MessageKind, Vec<u8>)> {
    let stored = |sections: &[Section]| Encoder::new(Effort::Spool, Announced::BASELINE).encode(sections);
    let one = |fields: Vec<Column>| stored(&[Section::Rows(rows(5, fields))]);
    let floats = vec![
        f64::NAN,
        f64::from_bits(0x7ff8_0000_dead_beef),
        f64::INFINITY,
        -0.0,
        f64::MIN_POSITIVE / 4.0,
        1.5,
    ];
    let blob_bytes = b"not really a picture";
    let blob = BlobObject {
        stream: StreamId(2),
        seq: Seq(9),
        reference: BlobRef::to(blob_bytes),
        mime: "image/jpeg",
        bytes: blob_bytes.into(),
    }
    .to_bytes();
    let part =
        Part { object: object_id(&blob), total_len: blob.len() as u64, offset: 0, bytes: &blob }.to_body();
    let hello = Hello {
        boot_ordinal: BootOrdinal(3),
        boot_id: BootId([0xab; 16]),
        capabilities: Capabilities {
            major: 1,
            codecs: 0x18f,
            packings: 3,
            blob_codecs: 1,
            software: "golden".into(),
        },
        message_bytes_max: 98_304,
        streams: vec![HelloStream {
            id: StreamId(1),
            next_seq: Seq(100),
            oldest_held: Seq(40),
            unacked: vec![40..60, 80..100],
        }],
        chain: vec![vec![0x30, 1, 2, 3], vec![0x30, 4]],
        nonce: [0x11; 16],
    };
    let mut ack = Ack::new(IncarnationId([0x22; 16]), 7);
    ack.nonce = Some([0x11; 16]);
    ack.capabilities = Some(hello.capabilities.clone());
    ack.streams = vec![AckStream {
        id: StreamId(1),
        durable_upto: Seq(60),
        committed_upto: Seq(50),
        durable: vec![80..90],
        committed: vec![],
    }];
    ack.missing =
        vec![Missing { object: ObjectId([0x33; 16]), total_len: 1_000, ranges: vec![10..20, 500..1_000] }];
    ack.refused = vec![Refused {
        stream: StreamId(1),
        seq_lo: Seq(1),
        seq_hi: Seq(2),
        refusal: Refusal { reason: RefusalReason::SchemaMismatch, text: "field x is text".into() },
    }];
    ack.credit = Some(1 << 20);
    ack.commit = Some(Sha256([0x44; 32]));
    ack.clock = Some(ClockReply {
        t1: Sent { boot_ordinal: 3, ns: 5 },
        t2_ns: 6,
        t3_ns: 7,
        e_c_ns: 8,
        grade: Grade::Guaranteed,
        source_id: 9,
    });
    ack.need_schema = vec![(StreamId(1), Fingerprint(0x1234_5678))];
    ack.chain = Some(vec![vec![0x30, 9]]);
    let mut need_hello = Ack::new(IncarnationId([0x23; 16]), 1);
    need_hello.need_hello = true;
    let mut waits = Ack::new(IncarnationId([0x23; 16]), 2);
    waits.credit = Some(98_304);
    waits.wait = Some(CreditWait { reason: WaitReason::DeviceQuota, for_ms: 120_000 });
    let mut shut_out = Ack::new(IncarnationId([0x24; 16]), 2);
    shut_out.revoked = Some("certificate 07 is revoked: key_compromise".to_owned());
    shut_out.revocations = vec![vec![0x30, 1, 2], vec![]];
    let beat = Heartbeat {
        stream: StreamRef::Id(StreamId(1)),
        boot_ordinal: BootOrdinal(3),
        next_seq: Seq(11),
        promise_b: BootNanos(-9),
    };
    vec![
        ("envelope_min", MessageKind::Probe, vec![]),
        ("i64_const", MessageKind::Batch, one(vec![Column::integers(vec![-7; 4])])),
        ("i64_plain", MessageKind::Batch, one(vec![Column::integers(vec![3, -40, 2, 90])])),
        (
            "i64_delta",
            MessageKind::Batch,
            one(vec![Column::integers(vec![100_000, 100_003, 100_001, 100_009, 100_010])]),
        ),
        (
            "i64_delta2",
            MessageKind::Batch,
            one(vec![Column::integers((0..9).map(|i| i * 1_000_003).collect())]),
        ),
        (
            "i64_extremes",
            MessageKind::Batch,
            one(vec![Column::integers(vec![i64::MIN, i64::MAX, 0, i64::MAX, 1 << 62, -(1 << 61)])]),
        ),
        ("f64_const", MessageKind::Batch, one(vec![column(Values::F64(vec![-0.0; 3]))])),
        ("f64_raw", MessageKind::Batch, one(vec![column(Values::F64(floats))])),
        ("f32_const", MessageKind::Batch, one(vec![column(Values::F32(vec![2.5; 3]))])),
        ("f32_raw", MessageKind::Batch, one(vec![column(Values::F32(vec![f32::NAN, -0.0, 1.0e-42, 3.0]))])),
        ("bytes_const", MessageKind::Batch, one(vec![column(Values::Bytes(vec![vec![1, 2]; 3]))])),
        ("bytes_equal", MessageKind::Batch, one(vec![column(Values::Bytes(vec![vec![1, 2], vec![3, 4]]))])),
        (
            "bytes_lengths",
            MessageKind::Batch,
            one(vec![column(Values::Bytes(vec![vec![], vec![1], vec![2, 3, 4]]))]),
        ),
        ("utf8_const", MessageKind::Batch, one(vec![column(Values::Utf8(vec!["é".into(); 2]))])),
        ("utf8_equal", MessageKind::Batch, one(vec![column(Values::Utf8(vec!["ab".into(), "cd".into()]))])),
        (
            "utf8_lengths",
            MessageKind::Batch,
            one(vec![column(Values::Utf8(vec![String::new(), "x".into(), "yz".into()]))]),
        ),
        ("nullable_bitmap", MessageKind::Batch, one(vec![nullable(&[Some(1), None, Some(-5), None, None])])),
        (
            "nullable_runs",
            MessageKind::Batch,
            one(vec![nullable(&[[Some(4); 40].as_slice(), &[None; 40]].concat())]),
        ),
        ("nullable_all_null", MessageKind::Batch, one(vec![nullable(&[None, None, None])])),
        ("one_row", MessageKind::Batch, one(vec![Column::integers(vec![1]), column(Values::F64(vec![0.5]))])),
        (
            "two_streams_and_heartbeat",
            MessageKind::Batch,
            stored(&[
                Section::Rows(rows(5, vec![Column::integers(vec![1, 2, 4])])),
                Section::Rows(Rows {
                    stream: StreamRef::Id(StreamId(2)),
                    ..rows(0, vec![column(Values::F32(vec![1.0, 2.0]))])
                }),
                Section::Heartbeat(beat),
            ]),
        ),
        ("gaps_every_reason_inline_name", MessageKind::Batch, stored(&[Section::Rows(gaps())])),
        (
            "zstd_256_rows",
            MessageKind::Batch,
            Encoder::new(Effort::Wire, Announced::BASELINE)
                .encode(&[Section::Rows(rows(0, vec![Column::integers((0..256).map(|i| i % 7).collect())]))]),
        ),
        (
            "declaration",
            MessageKind::Declaration,
            Declaration {
                stream: StreamId(2),
                name: "camera/front".parse().unwrap(),
                schema: builtin::image(),
            }
            .to_body(),
        ),
        ("hello", MessageKind::Hello, hello.to_body()),
        ("ack_of_hello", MessageKind::Ack, ack.to_body()),
        ("need_hello", MessageKind::Ack, need_hello.to_body()),
        ("ack_waits", MessageKind::Ack, waits.to_body()),
        ("shut_out", MessageKind::Ack, shut_out.to_body()),
        ("part_of_blob", MessageKind::Part, part),
        ("status", MessageKind::Status, br#"{"online":true}"#.to_vec()),
    ]
}

/// A wave with noise: what sensors count.
fn counts(n: i64) -> impl Iterator<Item = i64> {
    let noise = |i: i64| {
        let mixed = i.wrapping_mul(0x9e37_79b9).wrapping_mul(0x85eb_ca6b) ^ i.wrapping_mul(0x1656_67b1) >> 9;
        (mixed >> 13).rem_euclid(90)
    };
    (0..n).map(move |i| noise(i) + (i % 50) * (50 - i % 50))
}

/// Messages written with one codec beside those of the baseline, by name: codec, way of packing, fields.
fn chosen() -> Vec<(&'static str, u32, Vec<Column>)> {
    let over = |by: f64| counts(60).map(|x| x as f64 / by).collect::<Vec<_>>();
    let mut holes = over(10.0);
    (0..60).step_by(7).for_each(|i| holes[i] = f64::NAN);
    (holes[1], holes[2], holes[3]) = (-0.0, f64::from_bits(0x7ff8_0000_dead_beef), f64::NEG_INFINITY);
    let near_one = (0..60_u32).map(|i| f32::from_bits(0x3f80_0000 + (i * 7_919 % 101) * 977)).collect();
    let kinds = [9, 0x0cf0_0400, 0x18fe_f100, 2_015];
    let ids: Vec<i64> =
        counts(120).map(|x| kinds[usize::try_from((x * x / 7).rem_euclid(4)).unwrap()]).collect();
    let frames = ids.iter().zip(0_u8..).map(|(id, i)| match id {
        9 => vec![i, 0xff],
        2_015 => vec![7; usize::from(i) % 3],
        _ => vec![1, 2, i / 8, i.wrapping_mul(3), 0, 0, 0xff, 0xff],
    });
    let lines = (0..40).map(|i| format!("$GPGGA,{:06},{}", i * 1_000, "x".repeat(i % 4))).collect();
    let odd = counts(3_000).zip(0..).map(|(x, i)| x * 1_000_003 + i % 3).collect();
    vec![
        ("best_f64_decimal", 1 << 4 | 1 << 5 | 1 << 6, vec![column(Values::F64(over(100.0)))]),
        ("best_f64_ratio", 1 << 13, vec![column(Values::F64(over(418.0)))]),
        ("best_f64_patched", 1 << 4 | 1 << 5 | 1 << 6 | 1 << 11, vec![column(Values::F64(holes))]),
        ("best_f32_planes", 1 << 10, vec![column(Values::F32(near_one))]),
        (
            "best_bytes_keyed",
            1 << 9,
            vec![Column::integers(ids.clone()), column(Values::Bytes(frames.collect()))],
        ),
        ("best_i64_dict", 1 << 12, vec![Column::integers(ids)]),
        ("best_i64_residual", 1 << 14, vec![Column::integers(counts(300).collect())]),
        ("best_utf8_terminated", 1 << 14, vec![column(Values::Utf8(lines))]),
        ("best_i64_pco", 1 << 15, vec![Column::integers(odd)]),
        (
            "best_all",
            0xffff,
            vec![Column::integers(counts(300).collect()), column(Values::F64(over(3_755.0).repeat(5)))],
        ),
    ]
}

fn chosen_messages() -> Vec<(&'static str, MessageKind, Vec<u8>)> {
    chosen()
        .into_iter()
        .map(|(name, codecs, fields)| {
            let sections = [Section::Rows(rows(5, fields))];
            let baseline = Announced::BASELINE;
            let packings = if name == "best_all" { Announced::OURS.packings } else { baseline.packings };
            let announced = Announced { codecs: baseline.codecs | codecs, packings, ..baseline };
            let body = Encoder::new(Effort::Metered, announced).encode(&sections);
            let plain = Encoder::new(Effort::Metered, baseline).encode(&sections);
            assert!(body.len() < plain.len(), "{name}: {} B, {} B without it", body.len(), plain.len());
            (name, MessageKind::Batch, body)
        })
        .collect()
}

fn describe(message: &[u8]) -> String {
    let envelope = Envelope::parse(message).expect("golden messages have whole envelopes");
    let mut out = String::new();
    writeln!(out, "kind {} epoch {} tag {:04x}", envelope.kind.as_str(), envelope.epoch, envelope.device_tag)
        .unwrap();
    writeln!(out, "sent {:?} key {} body {} B", envelope.sent, envelope.key_id, envelope.body.len()).unwrap();
    match envelope.kind {
        MessageKind::Batch => {
            for section in decode_batch(envelope.body, &Limits::V1).expect("golden batches decode").sections {
                describe_section(&mut out, &section);
            }
        }
        MessageKind::Declaration => {
            writeln!(out, "{:?}", Declaration::from_body(envelope.body).unwrap()).unwrap()
        }
        MessageKind::Hello => writeln!(out, "{:#?}", Hello::from_body(envelope.body).unwrap()).unwrap(),
        MessageKind::Ack => {
            // A record younger than a golden is told only where it is.
            let ack = format!("{:#?}", Ack::from_body(envelope.body).unwrap());
            writeln!(out, "{}", ack.replace("    wait: None,\n", "")).unwrap();
        }
        MessageKind::Part => {
            let part = Part::from_body(envelope.body).unwrap();
            writeln!(
                out,
                "object {} {}+{} of {}",
                part.object,
                part.offset,
                part.bytes.len(),
                part.total_len
            )
            .unwrap();
            writeln!(out, "{:?}", BlobObject::from_bytes(part.bytes).unwrap()).unwrap();
        }
        MessageKind::Status => writeln!(out, "{}", String::from_utf8_lossy(envelope.body)).unwrap(),
        _ => {}
    }
    out
}

fn describe_section(out: &mut String, section: &Section) {
    match section {
        Section::Rows(rows) => {
            writeln!(
                out,
                "rows {:?} fp {} boot {} seqs {:?} exp {} {} {}",
                rows.stream,
                rows.fingerprint,
                rows.boot_ordinal.0,
                rows.seqs(),
                rows.time_exp,
                rows.stamp_kind.as_str(),
                rows.domain
            )
            .unwrap();
            for row in 0..rows.len() {
                let values: Vec<String> = rows.fields.iter().map(|column| text(&column.value(row))).collect();
                writeln!(
                    out,
                    "  {} [{}, {}] {}",
                    rows.t[row],
                    rows.lat_lo[row],
                    rows.lat_hi[row],
                    values.join(" ")
                )
                .unwrap();
            }
        }
        other => writeln!(out, "{other:?}").unwrap(),
    }
}

/// Floats as bits, so that NaN payloads and -0.0 show.
fn text(value: &Value) -> String {
    match value {
        Value::F64(x) => format!("f64:{:016x}", x.to_bits()),
        Value::F32(x) => format!("f32:{:08x}", x.to_bits()),
        other => format!("{other:?}"),
    }
}

const SENT: Sent = Sent { boot_ordinal: 3, ns: 123_456_789 };

#[test]
fn messages_of_version_1_encode_to_the_same_bytes() {
    let write_new = std::env::var_os("HEADWATER_GOLDEN_NEW").is_some();
    for (name, kind, body) in messages().into_iter().chain(chosen_messages()) {
        let message =
            Unsigned::new(kind, &device(), Epoch(0x0123_4567_89ab_cdef), &body).unwrap().sign(SENT, &key(7));
        let path = folder().join(format!("{name}.hw"));
        if write_new && !path.exists() {
            fs::write(&path, &message).unwrap();
            fs::write(path.with_extension("txt"), describe(&message)).unwrap();
        }
        let golden = fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        // zstd's bytes may change with its version; what they unpack to may not.
        if !name.starts_with("zstd") && !name.starts_with("best") {
            assert_eq!(golden, message, "{name} encodes to other bytes: this would need a new version");
        }
    }
}

#[test]
fn goldens_forever() {
    let mut seen = 0;
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "hw") {
            let message = fs::read(&path).unwrap();
            let text = fs::read_to_string(path.with_extension("txt")).unwrap();
            assert_eq!(describe(&message), text, "{}", path.display());
            Envelope::parse(&message).unwrap().verify(&key(7).verifying_key().unwrap()).unwrap();
            seen += 1;
        }
    }
    assert!(seen >= messages().len(), "{seen} golden messages");
}

#[test]
fn every_signed_byte_range_is_covered() {
    let verifying = key(7).verifying_key().unwrap();
    for (name, _, _) in messages() {
        let golden = fs::read(folder().join(format!("{name}.hw"))).unwrap();
        let n = golden.len();
        // header, body, sent, key id, signature: one byte of each, with the checksum mended.
        for at in [6, 9, 20.min(n - 89), n - 88, n - 80, n - 70, n - 10] {
            let mut other = golden.clone();
            other[at] ^= 0x40;
            let crc = crc32c_of(&other[..n - 4]);
            other[n - 4..].copy_from_slice(&crc);
            let refused =
                Envelope::parse(&other).map_err(|_| ()).and_then(|e| e.verify(&verifying).map_err(|_| ()));
            assert_eq!(refused, Err(()), "{name}, byte {at}");
        }
    }
}

/// CRC-32C, bit by bit: independent of the crate the product uses.
fn crc32c_of(bytes: &[u8]) -> [u8; 4] {
    let mut crc = !0_u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    (!crc).to_le_bytes()
}

//! Golden exports: every file of every version reads for ever, and what was read is written to the same bytes.
//!
//! `tests/golden/export/v1/NAME.hwx` is an export, `NAME.txt` what it holds. Files are added and never rewritten;
//! `HEADWATER_GOLDEN_NEW=1` writes those that are missing.
#![expect(clippy::unwrap_used, reason = "helpers of tests: a failure is a failed test")]

use headwater_core::batch::{Column, Effort, Rows, Section, StreamRef, encode_batch};
use headwater_core::export::{ExportReader, ExportWriter, Exported, Origin, Totals};
use headwater_core::id::{BootId, BootOrdinal, DevicePath, Epoch, Seq, Sha256, StreamId};
use headwater_core::sample::BlobRef;
use headwater_core::schema::builtin;
use headwater_core::time::{ClockDomain, StampKind};
use headwater_core::wire::object::{BlobObject, Part, object_id};
use headwater_core::wire::{
    Capabilities, Declaration, Envelope, Hello, Lane, MessageKind, Sent, SigningKey, Unsigned,
};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

const EPOCH: Epoch = Epoch(0x0123_4567_89ab_cdef);
const SENT: Sent = Sent { boot_ordinal: 3, ns: 7_000_000_000 };

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/export/v1").join(name)
}

fn device() -> DevicePath {
    DevicePath { tenant: "acme".parse().unwrap(), device: "pi-1".parse().unwrap() }
}

/// A fixed key: for these files only.
fn key() -> SigningKey {
    let mut der = vec![0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    der.extend_from_slice(&[7; 32]);
    SigningKey::from_pkcs8(&der).unwrap()
}

/// One message of every kind that an export has: kind, lane, body, rows, blobs.
fn messages() -> Vec<(MessageKind, Lane, Vec<u8>, u64, u64)> {
    let hello = Hello {
        boot_ordinal: BootOrdinal(3),
        boot_id: BootId([5; 16]),
        capabilities: Capabilities::ours("headwater-agent 0.1.0"),
        message_bytes_max: 98_304,
        streams: Vec::new(),
        chain: vec![vec![0x30, 0x82, 1, 2]],
        nonce: [9; 16],
    };
    let stream = StreamId(2);
    let schema = builtin::image();
    let fingerprint = schema.fingerprint();
    let declaration = Declaration { stream, name: "camera/front".parse().unwrap(), schema };
    let rows = Rows {
        stream: StreamRef::Id(stream),
        fingerprint,
        boot_ordinal: BootOrdinal(3),
        first_seq: Seq(40),
        time_exp: 3,
        stamp_kind: StampKind::Arrival,
        domain: ClockDomain::BOOT,
        t: vec![6_999_000, 7_000_000],
        lat_lo: vec![0; 2],
        lat_hi: vec![1_000_000; 2],
        fields: vec![Column::integers(vec![640, 480])],
    };
    let picture = b"no picture, but bytes of one";
    let object = BlobObject {
        stream,
        seq: Seq(40),
        reference: BlobRef::to(picture),
        mime: "image/jpeg",
        bytes: picture[..].into(),
    }
    .to_bytes();
    let part = Part { object: object_id(&object), total_len: object.len() as u64, offset: 0, bytes: &object };
    vec![
        (MessageKind::Hello, Lane::Control, hello.to_body(), 0, 0),
        (MessageKind::Declaration, Lane::Control, declaration.to_body(), 0, 0),
        (MessageKind::Part, Lane::BacklogMedia, part.to_body(), 0, 1),
        (MessageKind::Batch, Lane::BacklogMedia, encode_batch(&[Section::Rows(rows)], Effort::Spool), 2, 0),
    ]
}

fn made(signed: bool) -> Vec<u8> {
    let origin = Origin { device: device(), software: "headwater-agent 0.1.0".into(), signed };
    let mut writer = ExportWriter::new(Vec::new(), &origin).unwrap();
    for (kind, lane, body, rows, blobs) in messages() {
        let exported = match signed {
            true => {
                let unsigned = Unsigned::new(kind, &device(), EPOCH, &body).unwrap();
                Exported::Message { lane, message: unsigned.sign(SENT, &key()) }
            }
            false if kind == MessageKind::Hello => continue,
            false => Exported::Unsigned { lane, kind, epoch: EPOCH, sent: SENT, body },
        };
        writer.add(&exported, rows, blobs).unwrap();
    }
    writer.finish().unwrap()
}

/// What an export holds, as text; and the export again, written from what was read.
fn told(bytes: &[u8]) -> (String, Vec<u8>) {
    let mut reader = ExportReader::open(bytes).unwrap();
    let origin = reader.origin().clone();
    let mut text = format!("{origin:?}\n");
    let mut read = Vec::new();
    while let Some(message) = reader.next_message().unwrap() {
        let (lane, kind, epoch, sent, body) = match &message {
            Exported::Message { lane, message } => {
                let envelope = Envelope::parse(message).unwrap();
                envelope.check_device(&origin.device).unwrap();
                envelope.verify(&key().verifying_key().unwrap()).unwrap();
                (*lane, envelope.kind, envelope.epoch, envelope.sent, envelope.body.to_vec())
            }
            Exported::Unsigned { lane, kind, epoch, sent, body } => {
                (*lane, *kind, *epoch, *sent, body.clone())
            }
        };
        let (kind, digest) = (kind.as_str(), Sha256::of(&body));
        writeln!(text, "{lane:?} {kind} of epoch {epoch}, {sent:?}, body of {} B {digest}", body.len())
            .unwrap();
        read.push(message);
    }
    let totals = reader.totals().unwrap();
    writeln!(text, "{totals:?}").unwrap();
    let mut writer = ExportWriter::new(Vec::new(), &origin).unwrap();
    for (at, message) in read.iter().enumerate() {
        let Totals { rows, blobs, .. } = totals;
        let all = if at == 0 { (rows, blobs) } else { (0, 0) };
        writer.add(message, all.0, all.1).unwrap();
    }
    (text, writer.finish().unwrap())
}

#[test]
fn every_golden_export_reads_and_writes_back() {
    if std::env::var_os("HEADWATER_GOLDEN_NEW").is_some() {
        fs::create_dir_all(golden("")).unwrap();
        for (name, signed) in [("signed", true), ("unsigned", false)] {
            let (file, text) = (golden(&format!("{name}.hwx")), golden(&format!("{name}.txt")));
            if !file.exists() {
                fs::write(&file, made(signed)).unwrap();
                fs::write(text, told(&made(signed)).0).unwrap();
            }
        }
    }
    let mut seen = 0;
    for entry in fs::read_dir(golden("")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "hwx") {
            let bytes = fs::read(&path).unwrap();
            let (text, again) = told(&bytes);
            let expected = fs::read_to_string(path.with_extension("txt")).unwrap();
            assert_eq!(text, expected, "{}", path.display());
            assert_eq!(again, bytes, "{}", path.display());
            seen += 1;
        }
    }
    assert!(seen >= 2, "golden exports are missing");
}

//! An export reads back, and no cut or flip of it passes for a whole one.

use super::*;

fn origin(signed: bool) -> Origin {
    let device = DevicePath { tenant: "acme".parse().unwrap(), device: "pi-1".parse().unwrap() };
    Origin { device, software: "headwater-agent test".into(), signed }
}

fn messages(signed: bool) -> Vec<Exported> {
    let sent = Sent { boot_ordinal: 3, ns: 77 };
    let one = |lane, body: &[u8]| match signed {
        true => Exported::Message { lane, message: body.to_vec() },
        false => {
            Exported::Unsigned { lane, kind: MessageKind::Batch, epoch: Epoch(5), sent, body: body.to_vec() }
        }
    };
    vec![one(Lane::Control, b"first"), one(Lane::BacklogMedia, b""), one(Lane::LiveTelemetry, &[7; 300])]
}

fn written(signed: bool) -> Vec<u8> {
    let mut writer = ExportWriter::new(Vec::new(), &origin(signed)).unwrap();
    messages(signed).iter().for_each(|message| writer.add(message, 10, 1).unwrap());
    writer.finish().unwrap()
}

/// What could be read, and whether all of it.
fn read(bytes: &[u8]) -> (Vec<Exported>, Result<Totals, ExportError>) {
    let mut found = Vec::new();
    let mut reader = match ExportReader::open(bytes) {
        Ok(reader) => reader,
        Err(error) => return (found, Err(error)),
    };
    loop {
        match reader.next_message() {
            Ok(Some(message)) => found.push(message),
            Ok(None) => return (found, Ok(reader.totals().unwrap())),
            Err(error) => return (found, Err(error)),
        }
    }
}

#[test]
fn reads_back_signed_and_unsigned() {
    for signed in [true, false] {
        let bytes = written(signed);
        let reader = ExportReader::open(bytes.as_slice()).unwrap();
        assert_eq!(*reader.origin(), origin(signed));
        let (found, totals) = read(&bytes);
        assert_eq!(found, messages(signed));
        assert_eq!(totals.unwrap(), Totals { messages: 3, rows: 30, blobs: 3 });
    }
}

#[test]
fn every_cut_is_seen_and_keeps_what_is_before_it() {
    let bytes = written(true);
    for cut in 0..bytes.len() {
        let (found, totals) = read(&bytes[..cut]);
        assert!(matches!(totals, Err(ExportError::Cut { .. } | ExportError::NotExport)), "cut at {cut}");
        assert_eq!(found, messages(true)[..found.len()], "cut at {cut}");
    }
    let (found, totals) = read(&[bytes.as_slice(), b"x"].concat());
    assert_eq!(found.len(), 3);
    assert!(matches!(totals, Err(ExportError::Place { .. })));
}

#[test]
fn every_flipped_bit_is_seen_and_keeps_what_is_before_it() {
    let bytes = written(false);
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut bad = bytes.clone();
            bad[at] ^= 1 << bit;
            let (found, totals) = read(&bad);
            assert!(totals.is_err(), "byte {at} bit {bit}");
            assert_eq!(found, messages(false)[..found.len()], "byte {at} bit {bit}");
        }
    }
}

#[test]
fn records_can_be_neither_moved_nor_left_out() {
    let bytes = written(true);
    // The second and the third message, by their lengths.
    let first = bytes.len() - (9 + 35) - (9 + 301) - (9 + 1);
    let without = [&bytes[..first], &bytes[first + 10..]].concat();
    let (found, totals) = read(&without);
    assert_eq!(found.len(), 1);
    assert!(matches!(totals, Err(ExportError::Damaged { record: 2 })));
}

#[test]
fn another_version_and_another_file_are_refused_by_name() {
    let mut bytes = written(true);
    bytes[8] = 2;
    let sum = crc32c::crc32c(&bytes[..12]).to_le_bytes();
    bytes[12..16].copy_from_slice(&sum);
    assert!(matches!(read(&bytes).1, Err(ExportError::Version(2))));
    assert!(matches!(read(b"HWSEGMNT and so on").1, Err(ExportError::NotExport)));
}

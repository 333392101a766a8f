//! The golden segment: this build writes it byte for byte, and every build reads it.
#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "test code: small numbers, loud failures"
)]

#[expect(dead_code, reason = "shared by the tests of the spool; each uses its part")]
mod spool_world;

use headwater_agent::spool::DiskSpool;
use headwater_agent::spool::disk::RealDisk;
use headwater_agent::spool::frame::{
    FrameKind, HEAD_BYTES, HEADER_BYTES, Place, SegmentHeader, frame_bytes, read_head,
};
use headwater_agent::spool::payload::{StreamTable, Summary, read_declaration, read_slab};
use headwater_agent::spool::series_id::SeriesId;
use headwater_core::id::Epoch;
use headwater_core::ports::{Spool, SpoolLane};
use headwater_sim::disk::SimDisk;
use spool_world::*;
use std::fmt::Write;
use std::path::{Path, PathBuf};

fn golden(version: &str, name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/segment").join(version).join(name)
}

/// A sealed segment of lane telemetry: two streams, a hole, a blob.
fn written() -> (SimDisk, PathBuf, Epoch) {
    let (disk, index) = (SimDisk::new(), MemIndex::default());
    let (mut spool, opened) = open(&disk, 1, &index);
    let imu = declare(&mut spool, "imu", SpoolLane::Telemetry);
    let still = declare(&mut spool, "camera/still", SpoolLane::Telemetry);
    spool.append(slab(imu, 0, 3)).unwrap();
    spool.sync().unwrap();
    spool.skip(imu, 2).unwrap();
    spool.append(slab(imu, 5, 1)).unwrap();
    spool.append(blob_slab(still, 0, 8)).unwrap();
    spool.sync().unwrap();
    drop(spool);
    let path = segments(&disk, SpoolLane::Telemetry).pop().unwrap();
    // Opening seals what the last life left unsealed.
    drop(open(&disk, 1, &index));
    (disk, path, opened.epoch)
}

/// The segment as a person reads it.
fn told(bytes: &[u8]) -> String {
    let mut out = String::new();
    let header = SegmentHeader::from_bytes(bytes).expect("a sound header");
    let SegmentHeader { series, segno, epoch, boot_ordinal, boot_id } = header;
    let of = if series == SeriesId::plain(series.lane) && bytes[8] == 1 {
        format!("lane: {:?}", series.lane)
    } else {
        format!("series: {}", series.dir_name())
    };
    writeln!(
        out,
        "SegmentHeader {{ {of}, segno: {segno}, epoch: {epoch:?}, boot_ordinal: {boot_ordinal:?}, boot_id: {boot_id:?} }}"
    )
    .unwrap();
    let mut offset = HEADER_BYTES;
    while (offset as usize) < bytes.len() {
        let place = Place { segno: header.segno, offset };
        let head = read_head(&bytes[offset as usize..], place).expect("a sound frame header");
        let from = offset as usize + HEAD_BYTES;
        let payload = &bytes[from..from + head.len];
        assert!(head.holds(place, payload));
        writeln!(out, "\n{offset}: {:?}, {} B, durable {}", head.meta, head.len, head.durable).unwrap();
        match head.meta.kind {
            FrameKind::Table if bytes[8] == 1 => {
                let table = StreamTable::from_bytes(payload).unwrap();
                let next_segno = SpoolLane::ALL.map(|lane| table.next_segno[&SeriesId::plain(lane)]);
                writeln!(out, "{:#?}", plain::StreamTable { next_segno, streams: &table.streams })
            }
            FrameKind::Table => writeln!(out, "{:#?}", StreamTable::from_bytes(payload).unwrap()),
            FrameKind::Stream => writeln!(out, "{:#?}", read_declaration(payload).unwrap()),
            FrameKind::Slab => writeln!(out, "{:#?}", read_slab(payload).unwrap()),
            FrameKind::Footer => {
                let (summary, len) = payload.split_last_chunk::<8>().unwrap();
                assert_eq!(u64::from_le_bytes(*len), frame_bytes(head.len));
                writeln!(out, "{:#?}", Summary::from_bytes(summary).unwrap())
            }
        }
        .unwrap();
        offset += frame_bytes(head.len);
    }
    out
}

/// The stream table of version 1, as its golden tells it.
mod plain {
    use headwater_agent::spool::payload::TableEntry;
    use headwater_core::id::StreamId;
    use std::collections::BTreeMap;

    #[derive(Debug)]
    #[expect(dead_code, reason = "it is only printed")]
    pub(crate) struct StreamTable<'a> {
        pub(crate) next_segno: [u64; 3],
        pub(crate) streams: &'a BTreeMap<StreamId, TableEntry>,
    }
}

#[test]
fn golden_segment() {
    let (disk, path, epoch) = written();
    let bytes = disk.bytes(&path).unwrap();
    if std::env::var_os("HEADWATER_BLESS").is_some() {
        std::fs::create_dir_all(golden("v2", "")).unwrap();
        std::fs::write(golden("v2", "telemetry.seg"), &bytes).unwrap();
        std::fs::write(golden("v2", "telemetry.txt"), told(&bytes)).unwrap();
    }
    let kept = std::fs::read(golden("v2", "telemetry.seg")).unwrap();
    assert_eq!(bytes, kept, "segments are written otherwise: this would need a new version");
    for version in ["v1", "v2"] {
        let kept = std::fs::read(golden(version, "telemetry.seg")).unwrap();
        assert_eq!(told(&kept), std::fs::read_to_string(golden(version, "telemetry.txt")).unwrap());

        // And through the spool itself, footer or not.
        for cut in [0, 1] {
            let after = disk.crash(0);
            after.edit(&path, |data| {
                data.clone_from(&kept);
                data.truncate(kept.len() - cut);
            });
            let (mut spool, opened) = open(&after, 2, &MemIndex::default());
            assert_eq!((opened.epoch, opened.scanned), (epoch, cut as u64), "{version}");
            let seqs: Vec<_> =
                read_all(&mut spool, SpoolLane::Telemetry).into_iter().map(|s| s.slab.rows.seqs()).collect();
            assert_eq!(seqs, [0..3, 5..6, 0..1]);
        }
    }
}

/// A card that version 1 wrote: its folders have the names of lanes, and it goes on where it stood.
#[test]
fn a_spool_of_version_1_goes_on() {
    let (disk, path, epoch) = written();
    let card = tempfile::tempdir().unwrap();
    let lane = card.path().join("seg/telemetry");
    std::fs::create_dir_all(&lane).unwrap();
    std::fs::copy(golden("v1", "telemetry.seg"), lane.join(path.file_name().unwrap())).unwrap();
    for file in ["epoch", "boot"] {
        std::fs::write(card.path().join(file), disk.bytes(&Path::new(DIR).join(file)).unwrap()).unwrap();
    }
    let (mut spool, opened) = DiskSpool::open(RealDisk, card.path(), boot(2), SMALL).unwrap();
    assert_eq!((opened.epoch, opened.segments), (epoch, 1));
    let imu = declare(&mut spool, "imu", SpoolLane::Telemetry);
    assert_eq!(next_seq(&spool, imu), 6);
    assert_eq!(read_all(&mut spool, SpoolLane::Telemetry).len(), 3);
}

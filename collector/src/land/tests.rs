//! The landing log torn at every byte, synced in groups and read by others.

use super::*;
use crate::receive::testkit::{Ca, EPOCH, number_rows, path};
use headwater_core::id::{Seq, StreamId};
use headwater_core::ports::{Disk, DiskFile};
use headwater_core::sample::BlobRef;
use headwater_core::time::UtcNanos;
use headwater_core::wire::object::BlobObject;
use headwater_sim::disk::SimDisk;
use std::path::Path;

const NOW: UtcNanos = UtcNanos(1_790_000_000_000_000_000);

fn incarnation(n: u8) -> IncarnationId {
    IncarnationId([n; 16])
}

fn log(dir: &Path, n: u8) -> Log<StdDisk> {
    Log::create(StdDisk, dir, "hq", incarnation(n), n.into(), NOW).unwrap()
}

/// `n` different messages of one device.
fn messages(n: u64) -> Vec<LandRecord> {
    let device = Ca::new().device("pi-1");
    (0..n)
        .map(|at| {
            LandRecord::Message(MessageRecord {
                device: device.path.clone(),
                lane: Lane::LiveTelemetry,
                key_serial: "0badcafe".into(),
                received: NOW.plus_ns(i64::try_from(at).unwrap()),
                message: device.batch(vec![number_rows(1, at, 1)]).into(),
            })
        })
        .collect()
}

fn bytes(record: &LandRecord) -> Vec<u8> {
    match record {
        LandRecord::Message(record) => record.message.to_vec(),
        LandRecord::Blob(record) => record.bytes.to_vec(),
    }
}

fn landed_bytes(landed: &Landed) -> Vec<u8> {
    match landed {
        Landed::Message(message) => message.message.to_vec(),
        Landed::Blob(blob) => blob.bytes.to_vec(),
    }
}

fn read_all(dir: &Path) -> Vec<Landed> {
    LandingReader::new(StdDisk, dir).next_after(&LandingCursors::new(), usize::MAX).unwrap()
}

fn segment(dir: &Path, n: u64) -> PathBuf {
    log::segment_path(&dir.join("hq").join(incarnation(1).to_string()), n)
}

#[test]
fn what_is_landed_reads_back_with_its_place_and_time() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = log(folder.path(), 1);
    let mut group = messages(3);
    let LandRecord::Message(part) = group[0].clone() else { panic!("a message") };
    let blob = BlobObject {
        stream: StreamId(2),
        seq: Seq(1),
        reference: BlobRef::to(b"x"),
        mime: "image/png",
        bytes: b"x".into(),
    }
    .to_bytes();
    let object = headwater_core::wire::object::object_id(&blob);
    group.push(LandRecord::Blob(BlobRecord { part, epoch: EPOCH, object, bytes: blob.into() }));
    let spans = log.append(&group, NOW).unwrap();
    let landed = read_all(folder.path());
    assert_eq!(landed.len(), 4);
    for ((landed, record), span) in landed.iter().zip(&group).zip(&spans) {
        assert_eq!(landed_bytes(landed), bytes(record));
        assert_eq!((landed.position(), landed.end()), (span.position, span.end));
    }
    let Landed::Message(message) = &landed[2] else { panic!("a message") };
    assert_eq!((&message.device, message.epoch, message.kind), (&path("pi-1"), EPOCH, MessageKind::Batch));
    assert_eq!((message.received, message.key_serial.as_str()), (NOW.plus_ns(2), "0badcafe"));
    let Landed::Blob(blob) = &landed[3] else { panic!("a blob") };
    assert_eq!((blob.object, blob.epoch), (object, EPOCH));
    assert_eq!(log.end(), spans[3].end);
}

#[test]
fn cursors_go_on_across_segments_and_incarnations_oldest_first() {
    let folder = tempfile::tempdir().unwrap();
    let group = messages(12);
    // The younger one's id sorts first: the generation decides, not the name.
    let mut older = Log::create(StdDisk, folder.path(), "hq", incarnation(9), 1, NOW)
        .unwrap()
        .with_segment_bytes_max(300);
    let mut younger = Log::create(StdDisk, folder.path(), "hq", incarnation(1), 2, NOW)
        .unwrap()
        .with_segment_bytes_max(300);
    for record in &group[..8] {
        older.append(std::slice::from_ref(record), NOW).unwrap();
    }
    for record in &group[8..] {
        younger.append(std::slice::from_ref(record), NOW).unwrap();
    }
    assert!(older.end().segment >= 2);
    let mut reader = LandingReader::new(StdDisk, folder.path());
    assert_eq!(reader.incarnations().unwrap(), vec![incarnation(9), incarnation(1)]);
    assert_eq!(reader.next_generation().unwrap(), 3);
    let mut cursors = LandingCursors::new();
    let mut seen = Vec::new();
    loop {
        let landed = reader.next_after(&cursors, 1).unwrap();
        let Some(first) = landed.first() else { break };
        assert_eq!(landed.len(), 1, "at least one, and not more than asked for");
        cursors.insert(first.end().incarnation, first.end());
        seen.push(landed_bytes(first));
    }
    assert_eq!(seen, group.iter().map(bytes).collect::<Vec<_>>());
    assert!(is_below(&cursors, &older.end()) && is_below(&cursors, &younger.end()));
    assert_eq!(reader.read_from(LandingPosition::start_of(incarnation(9)), usize::MAX).unwrap().len(), 8);
    assert_eq!(reader.damage(), Damage::default());
}

#[test]
fn a_log_torn_at_any_byte_keeps_every_earlier_record() {
    let folder = tempfile::tempdir().unwrap();
    let group = messages(3);
    let spans = log(folder.path(), 1).append(&group, NOW).unwrap();
    let path = segment(folder.path(), 0);
    let whole = std::fs::read(&path).unwrap();
    for cut in 0..=whole.len() {
        std::fs::write(&path, &whole[..cut]).unwrap();
        let kept = spans.iter().filter(|span| span.end.offset <= cut as u64).count();
        assert_eq!(read_all(folder.path()).len(), kept, "cut at {cut}");
        // The same length, the rest lost as zeros: how a file system may bring back a torn tail.
        let mut zeroed = whole[..cut].to_vec();
        zeroed.resize(whole.len(), 0);
        std::fs::write(&path, &zeroed).unwrap();
        let landed = read_all(folder.path());
        assert!(landed.len() >= kept, "zeroed from {cut}");
        assert!(landed.iter().zip(&group).all(|(landed, record)| landed_bytes(landed) == bytes(record)));
    }
}

#[test]
fn a_rotten_record_is_stepped_over_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let group = messages(4);
    let mut log = log(folder.path(), 1);
    let spans = log.append(&group, NOW).unwrap();
    let path = segment(folder.path(), 0);
    let whole = std::fs::read(&path).unwrap();
    let range =
        usize::try_from(spans[1].position.offset).unwrap() + 8..usize::try_from(spans[1].end.offset).unwrap();
    for at in range {
        let mut rotten = whole.clone();
        rotten[at] ^= 1;
        std::fs::write(&path, &rotten).unwrap();
        let mut reader = LandingReader::new(StdDisk, folder.path());
        let landed = reader.next_after(&LandingCursors::new(), usize::MAX).unwrap();
        let kept: Vec<Vec<u8>> = landed.iter().map(landed_bytes).collect();
        assert_eq!(kept, [0, 2, 3].map(|n: usize| bytes(&group[n])));
        assert_eq!(reader.damage(), Damage { records: 1, segments: 0 });
    }
}

#[test]
fn of_the_live_log_only_what_is_synced_is_given_out() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = log(folder.path(), 1);
    let (tx, live) = watch::channel(log.end());
    let mut reader = LandingReader::new(StdDisk, folder.path()).with_live(live);
    let group = messages(3);
    let spans = log.append(&group, NOW).unwrap();
    assert!(reader.next_after(&LandingCursors::new(), usize::MAX).unwrap().is_empty());
    tx.send_replace(spans[1].end);
    assert_eq!(reader.next_after(&LandingCursors::new(), usize::MAX).unwrap().len(), 2);
    tx.send_replace(log.end());
    let cursors = LandingCursors::from([(incarnation(1), spans[1].end)]);
    assert_eq!(reader.next_after(&cursors, usize::MAX).unwrap().len(), 1);
}

/// A collector killed between write and sync leaves records in the system's cache only. Its successor reads
/// and acks them, so a power cut after that must find them.
#[test]
fn what_a_killed_writer_left_is_durable_before_it_is_read() {
    let disk = SimDisk::new();
    let root = Path::new("/landing");
    let log = Log::create(disk.clone(), root, "hq", incarnation(1), 1, NOW).unwrap();
    let written: Vec<u8> = messages(3).iter().flat_map(LandRecord::to_bytes).collect();
    let path = log::segment_path(&root.join("hq").join(incarnation(1).to_string()), 0);
    disk.open(&path).unwrap().write_at(&written, log.end().offset).unwrap();
    let read = |disk: &SimDisk| {
        let mut reader = LandingReader::new(disk.clone(), root);
        reader.next_after(&LandingCursors::new(), usize::MAX).unwrap().len()
    };
    let found = read(&disk);
    assert!((0..20).any(|seed| read(&disk.crash(seed)) < found), "a power cut may take them");
    LandingReader::new(disk.clone(), root).make_durable().unwrap();
    assert!((0..20).all(|seed| read(&disk.crash(seed)) == found));
}

#[test]
fn strangers_beside_the_logs_are_left_alone_and_newer_versions_refused() {
    let folder = tempfile::tempdir().unwrap();
    assert!(read_all(&folder.path().join("nothing")).is_empty());
    log(folder.path(), 1).append(&messages(1), NOW).unwrap();
    std::fs::write(folder.path().join("README"), "hands off").unwrap();
    std::fs::create_dir_all(folder.path().join("hq/lost+found")).unwrap();
    assert_eq!(read_all(folder.path()).len(), 1);
    let path = segment(folder.path(), 0);
    let mut newer = std::fs::read(&path).unwrap();
    newer[4] = 3;
    std::fs::write(&path, &newer).unwrap();
    let refused = LandingReader::new(StdDisk, folder.path()).next_after(&LandingCursors::new(), 1);
    assert!(matches!(refused, Err(LandError::Foreign { .. })));
    assert!(matches!(
        Log::create(StdDisk, folder.path(), "hq", incarnation(1), 1, NOW),
        Err(LandError::Io { .. })
    ));
}

/// A disk whose syncs fail while `failing` is above zero, each taking one off.
#[derive(Debug, Clone, Default)]
pub(crate) struct FaultDisk {
    pub(crate) failing: Arc<std::sync::atomic::AtomicU32>,
}

pub(crate) struct FaultFile(StdFile, FaultDisk);

impl Disk for FaultDisk {
    type File = FaultFile;
    fn create(&self, path: &Path) -> io::Result<FaultFile> {
        StdDisk.create(path).map(|file| FaultFile(file, self.clone()))
    }
    fn open(&self, path: &Path) -> io::Result<FaultFile> {
        StdDisk.open(path).map(|file| FaultFile(file, self.clone()))
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        StdDisk.create_dir_all(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        StdDisk.rename(from, to)
    }
    fn unlink(&self, path: &Path) -> io::Result<()> {
        StdDisk.unlink(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        StdDisk.sync_dir(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        StdDisk.list(path)
    }
    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        StdDisk.free_bytes(path)
    }
}

impl DiskFile for FaultFile {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_at(buf, offset)
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_at(bytes, offset)
    }
    fn truncate(&self, len: u64) -> io::Result<()> {
        self.0.truncate(len)
    }
    fn sync(&self) -> io::Result<()> {
        use std::sync::atomic::Ordering::SeqCst;
        let taken = self.1.failing.fetch_update(SeqCst, SeqCst, |n| n.checked_sub(1));
        if taken.is_ok() { Err(io::Error::other("injected")) } else { self.0.sync() }
    }
}

#[test]
fn a_failed_sync_writes_the_group_again_to_another_segment() {
    use std::sync::atomic::Ordering::SeqCst;
    let folder = tempfile::tempdir().unwrap();
    let disk = FaultDisk::default();
    let mut log = Log::create(disk.clone(), folder.path(), "hq", incarnation(1), 1, NOW).unwrap();
    let group = messages(4);
    log.append(&group[..1], NOW).unwrap();
    disk.failing.store(1, SeqCst);
    let spans = log.append(&group[1..3], NOW).unwrap();
    assert!(spans.iter().all(|span| span.position.segment == 1));
    // What is acked lies where it was said to lie; a reader may meet the group twice.
    let mut reader = LandingReader::new(StdDisk, folder.path());
    for (span, record) in spans.iter().zip(&group[1..3]) {
        let landed = reader.read_from(span.position, 1).unwrap();
        assert_eq!((landed_bytes(&landed[0]), landed[0].end()), (bytes(record), span.end));
    }
    assert_eq!(read_all(folder.path()).len(), 5);
    // A disk that goes on failing ends it, and nothing more is promised.
    disk.failing.store(9, SeqCst);
    let end = log.end();
    assert!(matches!(log.append(&group[3..], NOW), Err(LandError::Io { .. })));
    assert_eq!(log.end(), end);
    assert_eq!(read_all(folder.path()).len(), 5, "what was given up is not read as landed");
}

/// The golden segments: written by this build the newest has the same bytes, and every build reads all of them.
#[test]
fn golden_segment() {
    use headwater_core::wire::{Sent, SigningKey, Unsigned};
    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/landing");
    let golden = goldens.join(format!("v{}", log::VERSION));
    let folder = tempfile::tempdir().unwrap();
    let mut seed = vec![0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    seed.extend_from_slice(&[7; 32]);
    let key = SigningKey::from_pkcs8(&seed).unwrap();
    let record = |kind, lane, body: &[u8], sent: i64| MessageRecord {
        device: path("pi-1"),
        lane,
        key_serial: "0badcafe".into(),
        received: NOW.plus_ns(sent),
        message: Unsigned::new(kind, &path("pi-1"), EPOCH, body)
            .unwrap()
            .sign(Sent { boot_ordinal: 3, ns: sent }, &key)
            .into(),
    };
    let blob = BlobObject {
        stream: StreamId(2),
        seq: Seq(1),
        reference: BlobRef::to(b"not a picture"),
        mime: "image/jpeg",
        bytes: b"not a picture".into(),
    }
    .to_bytes();
    let object = headwater_core::wire::object::object_id(&blob);
    let part =
        headwater_core::wire::object::Part { object, total_len: blob.len() as u64, offset: 0, bytes: &blob }
            .to_body();
    let group = [
        LandRecord::Message(record(MessageKind::Probe, Lane::Control, &[], 1)),
        LandRecord::Message(record(MessageKind::Batch, Lane::BacklogTelemetry, b"a body, not read here", 2)),
        LandRecord::Blob(BlobRecord {
            part: record(MessageKind::Part, Lane::LiveMedia, &part, 3),
            epoch: EPOCH,
            object,
            bytes: blob.into(),
        }),
    ];
    log(folder.path(), 1).append(&group, NOW).unwrap();
    let written = std::fs::read(segment(folder.path(), 0)).unwrap();
    let list =
        || -> String { read_all(folder.path()).iter().map(|landed| format!("{}\n", told(landed))).collect() };
    if std::env::var_os("HEADWATER_BLESS").is_some() {
        std::fs::create_dir_all(&golden).unwrap();
        std::fs::write(golden.join("segment.bin"), &written).unwrap();
        std::fs::write(golden.join("segment.txt"), list()).unwrap();
    }
    assert_eq!(written, std::fs::read(golden.join("segment.bin")).unwrap());
    for version in log::VERSION_MIN..=log::VERSION {
        let golden = goldens.join(format!("v{version}"));
        std::fs::copy(golden.join("segment.bin"), segment(folder.path(), 0)).unwrap();
        assert_eq!(list(), std::fs::read_to_string(golden.join("segment.txt")).unwrap());
    }
}

fn told(landed: &Landed) -> String {
    let at = |position: LandingPosition| format!("{}:{}", position.segment, position.offset);
    let place = format!("{}..{}", at(landed.position()), at(landed.end()));
    match landed {
        Landed::Message(m) => format!(
            "{place} {} of {} epoch {} lane {} sent {}/{} received {} key {} serial {} digest {} ({} bytes)",
            m.kind.as_str(),
            m.device,
            m.epoch,
            m.lane.digit(),
            m.sent.boot_ordinal,
            m.sent.ns,
            m.received.0,
            m.key_id,
            m.key_serial,
            m.digest,
            m.message.len()
        ),
        Landed::Blob(b) => format!(
            "{place} blob {} of {} epoch {} received {} serial {} ({} bytes, part {} bytes)",
            b.object,
            b.device,
            b.epoch,
            b.received.0,
            b.key_serial,
            b.bytes.len(),
            b.part.len()
        ),
    }
}

/// A power cut left garbage where the header of a segment was being written, and no collector started on it again.
#[test]
fn a_header_that_a_power_cut_turned_to_garbage_holds_up_nobody() {
    let folder = tempfile::tempdir().unwrap();
    log(folder.path(), 1).append(&messages(2), NOW).unwrap();
    drop(log(folder.path(), 2));
    let path = folder.path().join("hq").join(incarnation(2).to_string()).join("00000000.log");
    let whole = std::fs::read(&path).unwrap();
    for from in 0..whole.len() {
        let garbage = whole.iter().enumerate().map(|(at, byte)| if at < from { *byte } else { !byte });
        std::fs::write(&path, garbage.collect::<Vec<u8>>()).unwrap();
        assert_eq!(read_all(folder.path()).len(), 2, "garbage from {from}");
        let reader = LandingReader::new(StdDisk, folder.path());
        assert_eq!(reader.incarnations().unwrap(), [incarnation(1)]);
        assert!(reader.next_generation().unwrap() > 1);
    }
}

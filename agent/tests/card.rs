//! Spools as strangers find them: copied, damaged in several ways, on media that cannot be written.
#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "helpers of tests: a failure is a failed test, and numbers are small"
)]

#[expect(dead_code, reason = "shared by the tests of the spool; each uses its part")]
mod spool_world;

use headwater_agent::card::{
    Card, CardError, FsckReport, Select, Severity, When, drop_rows, export_csv, export_messages, fsck, ls,
    repair, stat,
};
use headwater_agent::spool::disk::RealDisk;
use headwater_agent::spool::{DiskSpool, Settings, SpoolLock};
use headwater_agent::stamp::{SlabBuilder, Stamper};
use headwater_core::batch::{Limits, decode_batch};
use headwater_core::export::{ExportReader, Exported};
use headwater_core::gap::{GapCause, GapRecord};
use headwater_core::id::{BootOrdinal, DevicePath, Seq, StreamId, StreamName};
use headwater_core::interval::IntervalSet;
use headwater_core::ports::{Spool, SpoolLane};
use headwater_core::sample::{Reading, Value};
use headwater_core::schema::{Logical, Schema, builtin};
use headwater_core::time::{BootNanos, ClockDomain, Latency, StampKind};
use headwater_core::wire::{Declaration, MessageKind};
use spool_world::{blob_slab, boot, declare, gap_slab, gaps_schema, slab};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const NOW: BootNanos = BootNanos(9_000_000_000);

fn open(dir: &Path) -> DiskSpool<RealDisk> {
    let settings = Settings { segment_bytes: 4096, free_bytes_min: 0, ..Settings::default() };
    DiskSpool::open(RealDisk, dir, boot(1), settings).unwrap().0
}

/// 200 rows of `imu` in several segments, ten pictures, and a gap of five seqs with its record.
fn spool(dir: &Path) {
    let mut spool = open(dir);
    let imu = declare(&mut spool, "imu", SpoolLane::Telemetry);
    let camera = declare(&mut spool, "camera/front", SpoolLane::Media);
    let gaps = spool.declare(&"hw/gaps".parse().unwrap(), &gaps_schema(), SpoolLane::Control.into()).unwrap();
    for first in (0..100).step_by(10) {
        spool.append(slab(imu, first, 10)).unwrap();
        spool.sync().unwrap();
    }
    spool.skip(imu, 5).unwrap();
    let gap = GapRecord {
        stream: "imu".parse().unwrap(),
        boot_ordinal: BootOrdinal(1),
        seq_first: Seq(100),
        seq_last: Seq(104),
        cause: GapCause::Overrun,
        stride: 0,
        phase: 0,
        rows: 5,
        bytes: 0,
        b_first: BootNanos(0),
        b_last: BootNanos(0),
        policy_version: 0,
        note: String::new(),
    };
    spool.append(gap_slab(gaps, 0, &gap)).unwrap();
    spool.sync().unwrap();
    for first in (105..205).step_by(10) {
        spool.append(slab(imu, first, 10)).unwrap();
        spool.sync().unwrap();
    }
    for seq in 0..10 {
        spool.append(blob_slab(camera, seq, 3_000)).unwrap();
        spool.sync().unwrap();
    }
}

/// Segments of a lane, oldest first, wherever its series lie.
fn segments(dir: &Path, lane: &str) -> Vec<PathBuf> {
    let series = fs::read_dir(dir.join("seg")).unwrap().map(|entry| entry.unwrap().path());
    let of_lane = series.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(lane));
    let mut files: Vec<PathBuf> =
        of_lane.flat_map(|path| fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path())).collect();
    files.sort();
    files
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x40;
    fs::write(path, bytes).unwrap();
}

fn look(dir: &Path) -> Card {
    Card::open(dir, |_| ()).unwrap()
}

fn check(dir: &Path) -> FsckReport {
    fsck(&look(dir), |_| ())
}

/// Every file below a folder with its bytes.
fn everything(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(everything(&path)),
            false => found.push((path.clone(), fs::read(&path).unwrap())),
        }
    }
    found.sort();
    found
}

fn device() -> DevicePath {
    DevicePath { tenant: "acme".parse().unwrap(), device: "pi-1".parse().unwrap() }
}

/// Rows by stream that an export brings, and its blobs.
fn exported(file: &Path) -> (Vec<(StreamId, IntervalSet)>, u64) {
    let mut reader = ExportReader::open(fs::File::open(file).unwrap()).unwrap();
    let mut held: std::collections::BTreeMap<StreamId, IntervalSet> = std::collections::BTreeMap::new();
    let mut declared = std::collections::BTreeSet::new();
    while let Some(message) = reader.next_message().unwrap() {
        let Exported::Unsigned { kind, body, .. } = message else { panic!("unsigned") };
        match kind {
            MessageKind::Declaration => {
                declared.insert(Declaration::from_body(&body).unwrap().stream);
            }
            MessageKind::Batch => {
                for rows in decode_batch(&body, &Limits::V1).unwrap().rows() {
                    let headwater_core::batch::StreamRef::Id(id) = rows.stream else { panic!("an id") };
                    assert!(declared.contains(&id), "rows come after their declaration");
                    held.entry(id).or_default().insert(rows.seqs());
                }
            }
            MessageKind::Part => {}
            other => panic!("{other:?} in an unsigned export"),
        }
    }
    (held.into_iter().collect(), reader.totals().unwrap().blobs)
}

#[test]
fn looking_changes_nothing_and_needs_no_index() {
    let dir = tempfile::tempdir().unwrap();
    spool(dir.path());
    fs::remove_dir_all(dir.path().join("idx")).unwrap();
    let before = everything(dir.path());
    let card = look(dir.path());
    let listing = ls(&card, &Select::default(), true).unwrap();
    let imu = listing.streams.iter().find(|line| line.stream == "imu").unwrap();
    assert_eq!((imu.rows, imu.seqs.as_slice()), (200, &[(0, 99), (105, 204)][..]));
    assert_eq!(imu.b_ns, Some((1_000_000, 1_204_000)));
    assert!(listing.to_string().contains("camera/front"), "{listing}");
    let found = stat(&card, &dir.path().join("status.json"), None, NOW);
    assert_eq!(found.streams["camera/front"].rows, 10);
    assert!(found.agent.is_none() && found.to_string().contains("no agent runs"), "{found}");
    let report = check(dir.path());
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.rows, 211);
    assert!(!dir.path().join("idx").exists());
    assert_eq!(everything(dir.path()), before);
}

#[test]
fn rows_are_chosen_by_stream_and_by_boot_time() {
    let dir = tempfile::tempdir().unwrap();
    spool(dir.path());
    let card = look(dir.path());
    let select = Select { stream: "imu".parse().ok(), ..Select::default() };
    let listing = ls(&card, &select, false).unwrap();
    assert_eq!(listing.streams.len(), 1);
    let since = Some(When::Boot(BootOrdinal(2), BootNanos(0)));
    assert!(ls(&card, &Select { since, ..select.clone() }, false).unwrap().streams.is_empty());
    let refused = ls(&card, &Select { stream: "ium".parse().ok(), ..Select::default() }, false).unwrap_err();
    assert!(refused.to_string().contains("it holds camera/front, hw/gaps, imu"), "{refused}");
    let utc = Some("2026-11-28".parse().unwrap());
    let refused = ls(&card, &Select { since: utc, ..Select::default() }, false).unwrap_err();
    assert!(refused.to_string().contains("1:SECONDS"), "{refused}");
    let nothing = Card::open(&dir.path().join("seg"), |_| ()).unwrap_err();
    assert!(matches!(nothing, CardError::NoSpool { .. }));
}

#[test]
fn a_torn_tail_is_cut_by_repair_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    spool(dir.path());
    let last = segments(dir.path(), "telemetry").pop().unwrap();
    let mut bytes = fs::read(&last).unwrap();
    bytes.extend_from_slice(b"half a frame");
    fs::write(&last, &bytes).unwrap();
    let report = check(dir.path());
    assert_eq!(report.worst(), Some(Severity::Torn), "{report}");

    let repaired = repair(dir.path(), boot(1), |_| ()).unwrap();
    assert!(repaired.repaired() && repaired.after.is_clean() && !repaired.new_epoch, "{repaired}");
    assert!(repaired.kept.iter().any(|file| file.contains("tail-")), "{repaired}");
    let kept = everything(&dir.path().join("quarantine"));
    assert!(kept.iter().any(|(_, bytes)| bytes == b"half a frame"));
    assert!(!repair(dir.path(), boot(1), |_| ()).unwrap().repaired());
}

#[test]
fn rot_in_a_slab_is_named_with_its_rows() {
    let dir = tempfile::tempdir().unwrap();
    spool(dir.path());
    let first = segments(dir.path(), "telemetry").remove(0);
    let len = fs::read(&first).unwrap().len();
    flip(&first, len / 2);
    let report = check(dir.path());
    assert_eq!(report.worst(), Some(Severity::Damage));
    let text = report.to_string();
    assert!(text.contains("do not fit their sum") && text.contains("footer names 10 rows"), "{text}");
    // What reads is exported, and what does not is told.
    let out = dir.path().join("card.hwx");
    let made = export_messages(&look(dir.path()), &Select::default(), &device(), None, &out, |_| ()).unwrap();
    assert_eq!((made.rows, made.blobs, made.damaged), (201, 10, 1), "{made}");
}

#[test]
fn damaged_headers_missing_identity_and_unexplained_holes_are_found() {
    let dir = tempfile::tempdir().unwrap();
    spool(dir.path());
    let telemetry = segments(dir.path(), "telemetry");
    flip(&telemetry[1], 20);
    fs::remove_file(dir.path().join("epoch")).unwrap();
    // The record of the gap is lost with its segment, and nothing says it was freed.
    for segment in segments(dir.path(), "control") {
        let bytes = fs::read(&segment).unwrap();
        fs::write(&segment, &bytes[..bytes.len().min(64)]).unwrap();
    }
    let report = check(dir.path());
    let text = report.to_string();
    for expected in ["header is damaged", "epoch: is missing", "stream table is damaged"] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    assert!(text.contains("imu (epoch"), "{text}");
    let repaired = repair(dir.path(), boot(1), |_| ()).unwrap();
    assert!(repaired.new_epoch && repaired.set_aside > 0, "{repaired}");
}

#[test]
fn a_hole_without_a_reason_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = open(dir.path());
    let imu = declare(&mut spool, "imu", SpoolLane::Telemetry);
    spool.append(slab(imu, 0, 10)).unwrap();
    spool.skip(imu, 5).unwrap();
    spool.append(slab(imu, 15, 10)).unwrap();
    spool.sync().unwrap();
    drop(spool);
    let report = check(dir.path());
    assert!(report.is_clean() && report.to_string().contains("the next start records them"), "{report}");
    // Sealed by the next start, its segment tells of it.
    drop(open(dir.path()));
    let report = check(dir.path());
    assert!(report.is_clean() && report.to_string().contains("recorded as overrun"), "{report}");
}

#[test]
fn export_brings_every_row_and_blob_declared_first() {
    let dir = tempfile::tempdir().unwrap();
    spool(dir.path());
    let out = dir.path().join("card.hwx");
    let card = look(dir.path());
    let made = export_messages(&card, &Select::default(), &device(), None, &out, |_| ()).unwrap();
    assert_eq!((made.rows, made.blobs, made.damaged, made.withheld, made.undeclared), (211, 10, 0, 0, 0));
    let (held, blobs) = exported(&out);
    assert_eq!(blobs, 10);
    let rows: Vec<u64> = held.iter().map(|(_, seqs)| seqs.count()).collect();
    assert_eq!(rows, [200, 10, 1]);
    assert!(!dir.path().join("card.hwx.part").exists());
    let again = export_messages(&card, &Select::default(), &device(), None, &out, |_| ()).unwrap_err();
    assert!(again.to_string().contains("--out"), "nothing is overwritten: {again}");
    let one = dir.path().join("one.hwx");
    let until = Some(When::Boot(BootOrdinal(1), BootNanos(1_050_000)));
    let select = Select { stream: "imu".parse().ok(), since: None, until };
    let some = export_messages(&card, &select, &device(), None, &one, |_| ()).unwrap();
    assert_eq!(some.rows, 51, "the gap record goes along");
}

#[test]
fn csv_has_a_table_per_stream_and_its_pictures() {
    let dir = tempfile::tempdir().unwrap();
    spool(dir.path());
    let out = dir.path().join("look");
    let report = export_csv(&look(dir.path()), &Select::default(), &out, |_| ()).unwrap();
    assert_eq!(report.files["imu.csv"], 200);
    assert_eq!((report.files["camera+front.csv"], report.blobs), (10, 10), "{report}");
    let table = fs::read_to_string(out.join("imu.csv")).unwrap();
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines[0], "epoch,boot,seq,clock,t_ns,lat_lo_ns,lat_hi_ns,stamp,utc,x,note");
    assert!(lines[1].contains(",1,0,boot,1000000,0,0,instant,,0,"), "{}", lines[1]);
    assert_eq!(lines.len(), 201);
    let pictures = fs::read_dir(out.join("camera+front")).unwrap().count();
    assert_eq!(pictures, 10);
}

#[test]
fn dropping_records_why_before_it_lets_go() {
    let dir = tempfile::tempdir().unwrap();
    spool(dir.path());
    let imu = "imu".parse().unwrap();
    let before = Some(When::Boot(BootOrdinal(1), BootNanos(1_050_000)));
    let asked = drop_rows(dir.path(), &imu, before, false, (boot(1), NOW)).unwrap();
    assert!(!asked.dropped && asked.rows == 50, "{asked}");
    let done = drop_rows(dir.path(), &imu, before, true, (boot(1), NOW)).unwrap();
    assert!(done.dropped && done.seqs == [(0, 49)], "{done}");
    assert_eq!(drop_rows(dir.path(), &imu, before, true, (boot(1), NOW)).unwrap().rows, 0);

    let mut spool = open(dir.path());
    let state = spool.streams().into_iter().find(|state| state.name == imu).unwrap();
    assert_eq!(state.held.iter().next(), Some(50..100), "what is left is still held");
    let control = spool_world::read_all(&mut spool, SpoolLane::Control);
    let told = control.iter().any(|slab| {
        let rows = &slab.slab.rows;
        (0..rows.len()).any(|row| {
            let values: Vec<_> = rows.fields.iter().map(|column| column.value(row)).collect();
            GapRecord::from_values(&values).is_some_and(|gap| {
                gap.cause == GapCause::EvictedOperator && (gap.seq_first.0, gap.seq_last.0) == (0, 49)
            })
        })
    });
    assert!(told, "the gap record waits to be shipped");
    drop(spool);
    let rest = drop_rows(dir.path(), &imu, None, true, (boot(1), NOW)).unwrap();
    assert!(rest.rows == 150 && rest.freed_bytes > 0, "{rest}");
    let own = drop_rows(dir.path(), &"hw/gaps".parse().unwrap(), None, true, (boot(1), NOW)).unwrap_err();
    assert!(matches!(own, CardError::OwnStream { .. }));
    assert!(check(dir.path()).is_clean());
}

#[test]
fn what_an_agent_holds_is_looked_at_and_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    spool(dir.path());
    let held = SpoolLock::take(dir.path()).unwrap();
    let report = check(dir.path());
    assert!(report.is_clean() && report.to_string().contains("an agent holds this spool"), "{report}");
    assert!(matches!(repair(dir.path(), boot(1), |_| ()), Err(CardError::Lock(_))));
    let drop_it = drop_rows(dir.path(), &"imu".parse().unwrap(), None, true, (boot(1), NOW));
    assert!(matches!(drop_it, Err(CardError::Lock(_))));
    drop(held);
}

#[test]
fn the_command_has_the_exit_codes_it_promises() {
    let dir = tempfile::tempdir().unwrap();
    spool(dir.path());
    let run = |args: &[&str]| {
        let dir = dir.path().to_str().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_headwater-agent"));
        let out = command.arg("spool").args(args).args(["--dir", dir]).output().unwrap();
        (
            out.status.code().unwrap(),
            String::from_utf8(out.stdout).unwrap(),
            String::from_utf8(out.stderr).unwrap(),
        )
    };
    assert_eq!(run(&["fsck"]).0, 0);
    let (code, listed, _) = run(&["ls", "--json"]);
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!((code, listed["streams"].as_array().unwrap().len()), (0, 3));
    assert_eq!(run(&["stat"]).0, 0);
    let last = segments(dir.path(), "telemetry").pop().unwrap();
    let mut bytes = fs::read(&last).unwrap();
    bytes.extend_from_slice(&[0; 100]);
    fs::write(&last, bytes).unwrap();
    assert_eq!(run(&["fsck"]).0, 2);
    assert_eq!(run(&["fsck", "--repair"]).0, 1);
    assert_eq!(run(&["fsck"]).0, 0);
    let out = dir.path().join("card.hwx");
    let export = ["export", "--out", out.to_str().unwrap(), "--config", "/nowhere/agent.toml"];
    let (code, _, error) = run(&export);
    assert!(code == 1 && error.contains("--device TENANT/DEVICE"), "{error}");
    let (code, said, error) = run(&[&export[..], &["--device", "acme/pi-1"]].concat());
    assert!(code == 0 && said.contains("211 rows") && error.contains("not signed"), "{said} {error}");
    let (code, _, error) = run(&["ls", "--since", "tomorrow"]);
    assert!(code == 2 && error.contains("write a UTC time"), "{error}");
    for verb in ["ls", "stat", "fsck", "export", "drop"] {
        let mut help = Command::new(env!("CARGO_BIN_EXE_headwater-agent"));
        let help = help.args(["spool", verb, "--help"]).output().unwrap();
        assert!(String::from_utf8(help.stdout).unwrap().contains("Examples:"), "{verb}");
    }
}

/// The form of clock rows of agents before edges and events.
fn old_clock() -> Schema {
    let mut schema = builtin::clock();
    schema.fields.truncate(16);
    for (name, codes) in [("row_kind", 4), ("source", 9)] {
        let field = schema.fields.iter_mut().find(|field| field.name.as_str() == name).unwrap();
        let Logical::Enum(names) = &mut field.logical else { panic!("{name}") };
        names.truncate(codes);
    }
    schema
}

/// One reading of the wall clock, as an agent of any age writes it.
fn sample(schema: &Schema, b1: i64, real: i64, source: i64) -> Vec<Value> {
    let field = |name: &str| match name {
        "row_kind" => Value::I64(1),
        "b1" | "b2" => Value::I64(b1),
        "real" => Value::I64(real),
        "source" => Value::I64(source),
        "grade" => Value::I64(0),
        _ => Value::Null,
    };
    schema.fields.iter().map(|of| field(of.name.as_str())).collect()
}

#[test]
fn clock_rows_of_older_agents_are_understood() {
    const HOUR: i64 = 3_600_000_000_000;
    for (schema, ptp) in [(old_clock(), None), (builtin::clock(), Some(9))] {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = open(dir.path());
        let name: StreamName = builtin::CLOCK_STREAM.parse().unwrap();
        let id = spool.declare(&name, &schema, SpoolLane::Control.into()).unwrap();
        let mut stamper = Stamper::new(BootOrdinal(1));
        stamper.declare(&name, id, schema.clone(), Seq(0));
        let mut builder = SlabBuilder::default();
        // A hardware clock shows what it likes; it is not what the gateway believed.
        for (n, source, real) in
            [(1, Some(1), HOUR), (2, ptp, 77 * HOUR)].into_iter().filter_map(|(n, s, r)| Some((n, s?, r)))
        {
            let (t, values) = (BootNanos(n), sample(&schema, n, real + n, source));
            let (latency, kind, domain) = (Latency::NONE, StampKind::Instant, ClockDomain::BOOT);
            let reading = Reading { t, latency, kind, domain, values, blob: None };
            let (sample, _) = stamper.stamp(&name, reading, BootNanos(0)).unwrap();
            builder.push(&sample, &schema, schema.fingerprint(), t);
        }
        for slab in builder.finish() {
            spool.append(slab).unwrap();
        }
        spool.sync().unwrap();
        drop(spool);
        let listing = ls(&look(dir.path()), &Select::default(), false).unwrap();
        let first = listing.streams[0].utc_ns.unwrap().0;
        assert_eq!(first, HOUR + 1, "{} fields", schema.fields.len());
    }
}

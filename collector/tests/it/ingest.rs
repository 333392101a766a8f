//! Ingest end to end: what a gateway sent is what the lake holds, bit for bit and once, whatever happens on the way.

use crate::ingest_world;

use headwater_align::recipe::Recipe;
use headwater_collector::commit::cells::Cell;
use headwater_collector::ingest::landing_key;
use headwater_collector::land::LandingPosition;
use headwater_core::batch::{Section, StreamRef};
use headwater_core::gap::{GapCause, GapRecord};
use headwater_core::id::{BootOrdinal, IncarnationId, Seq, Sha256};
use headwater_core::ports::Clock;
use headwater_core::sample::Value;
use headwater_core::schema::{Logical, builtin};
use headwater_core::time::{BootNanos, NS_PER_MS, NS_PER_S};
use headwater_lake::testing::{self, Fault, FaultStore};
use headwater_lake::{CommitKind, Lake, RefName};
use ingest_world::*;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

const RECIPE: &str = r#"
headwater_recipe = 1
name = "drive"
[spine]
stream = "camera/front"
select = ["image", "name", "width", "height"]
[[column]]
name = "motion"
stream = "imu"
select = ["n", "accel_x", "mode", "note"]
method = "previous"
tolerance = "50ms"
"#;

fn recipe() -> Recipe {
    Recipe::parse(RECIPE).unwrap()
}

/// The rows of `raw.imu` as they must be: once each, with the values and the stamp that were sent.
async fn assert_imu(lake: &Lake, rows: std::ops::Range<u64>) {
    let mut found: BTreeMap<i64, BTreeMap<String, Cell>> = BTreeMap::new();
    for row in table(lake, "raw.imu").await {
        assert!(found.insert(long(&row, "seq"), row).is_none(), "a row is there twice");
    }
    assert_eq!(found.len() as u64, rows.end - rows.start);
    for seq in rows {
        let row = &found[&i64::try_from(seq).unwrap()];
        let sent = imu_values(seq);
        assert_eq!(Value::I64(long(row, "n")), sent[0]);
        let (Cell::Float(x), Value::F32(wanted)) = (&row["accel_x"], &sent[1]) else { panic!("floats") };
        assert_eq!(x.to_bits(), wanted.to_bits(), "seq {seq}");
        assert_eq!(text(row, "mode"), if seq % 2 == 0 { "idle" } else { "run" });
        let note = if seq % 5 == 0 { Cell::Text(format!("note {seq}")) } else { Cell::Null };
        assert_eq!(row["note"], note);
        assert_eq!(long(row, "boot_ns"), imu_at(seq));
        let (ts, err) = (long(row, "ts_ns"), long(row, "ts_err_ns"));
        let truth = START + imu_at(seq) - 1_000_000;
        assert!((ts - truth).abs() <= err, "seq {seq}: {ts} ± {err}, truth {truth}");
        assert_eq!(long(row, "ts"), ts.div_euclid(1_000));
    }
}

async fn assert_frames(lake: &Lake, frames: std::ops::Range<u64>) {
    let rows = table(lake, "raw.image").await;
    assert_eq!(rows.len() as u64, frames.end - frames.start);
    for row in rows {
        let seq = long(&row, "seq").cast_unsigned();
        assert!(frames.contains(&seq));
        assert_eq!(row["image.bytes"], Cell::Bytes(picture(seq)));
        assert_eq!(text(&row, "hash"), Sha256::of(&picture(seq)).to_string());
        assert_eq!((long(&row, "size"), long(&row, "width")), (600, 640));
    }
}

/// The ledger counts what the tables hold, no more and no less.
async fn assert_ledger(lake: &Lake) {
    let mut by_ledger: BTreeMap<String, i64> = BTreeMap::new();
    for row in table(lake, "ops.ledger").await {
        assert_eq!(long(&row, "rows"), long(&row, "seq_hi") - long(&row, "seq_lo") + 1);
        *by_ledger.entry(text(&row, "stream")).or_default() += long(&row, "rows");
    }
    let imu = table(lake, "raw.imu").await.len();
    let frames = table(lake, "raw.image").await.len();
    assert_eq!(by_ledger.get("imu").copied().unwrap_or(0), i64::try_from(imu).unwrap());
    assert_eq!(by_ledger.get("camera/front").copied().unwrap_or(0), i64::try_from(frames).unwrap());
}

/// Aligned rows as the raw tables say they must be: a brute force over what was sent.
async fn assert_aligned(lake: &Lake, frames: std::ops::Range<u64>, imu: std::ops::Range<u64>) {
    let mut rows = table(lake, "aligned.drive").await;
    rows.sort_by_key(|row| text(row, "row_key"));
    assert_eq!(rows.len() as u64, frames.end - frames.start);
    for row in rows {
        let key = text(&row, "row_key");
        let seq: u64 = key.rsplit('/').next().unwrap().parse().unwrap();
        let at = frame_at(seq);
        let wanted = imu.clone().filter(|n| imu_at(*n) <= at && at - imu_at(*n) <= 50 * NS_PER_MS).max();
        let wanted = wanted.map(|n| (n.cast_signed(), imu_at(n) - at));
        let found = match (&row["motion_src.seq_lo"], &row["motion_src.dt_ns"]) {
            (Cell::Long(seq), Cell::Long(dt)) => Some((*seq, *dt)),
            (Cell::Null, Cell::Null) => None,
            other => panic!("{other:?}"),
        };
        assert_eq!(found, wanted, "{key}");
        assert_eq!(row["motion_n"], wanted.map_or(Cell::Null, |(n, _)| Cell::Long(n)));
        assert_eq!(text(&row, "name"), format!("{seq:04}.jpg"));
        assert_eq!(text(&row, "image_hash"), Sha256::of(&picture(seq)).to_string());
        assert_eq!(row["provisional"], Cell::Bool(false));
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_is_what_the_lake_holds() {
    let lake = testing::memory().await.unwrap();
    let records = ten_seconds(&Gateway::new("pi-1", 7));
    let mark = live(&lake, &MemoryLog::of(&records), &[recipe()]).await;
    assert_imu(&lake, 0..1000).await;
    assert_frames(&lake, 0..40).await;
    assert_ledger(&lake).await;
    assert_aligned(&lake, 0..40, 0..1000).await;

    let messages = records.iter().filter(|record| matches!(record, Record::Message(_))).count();
    assert_eq!(table(&lake, "ops.batches").await.len(), messages);
    assert_eq!(table(&lake, "ops.schemas").await.len(), 4);
    assert_eq!(table(&lake, "ops.devices").await.len(), 1);
    let clock = table(&lake, "ops.clock").await;
    let of_kind = |kind: &str| clock.iter().filter(|row| text(row, "row_kind") == kind).count();
    assert_eq!(
        (of_kind("exchange"), of_kind("heartbeat")),
        (12 + 1, 2),
        "twelve of the agent's, one half of ours"
    );
    let grades: Vec<String> = table(&lake, "raw.imu").await.iter().map(|row| text(row, "grade")).collect();
    assert!(grades.iter().all(|grade| grade == "guaranteed"));

    // Raw and ops in one commit, aligned rows in one of their own with their verdicts.
    let log = lake.log("main", 10).await.unwrap();
    assert_eq!(log.iter().map(|c| c.kind).collect::<Vec<_>>(), [CommitKind::Align, CommitKind::Ingest]);
    assert!(log[0].gates.iter().all(|gate| gate.verdict == "pass"));
    assert_eq!(log[0].lineage.recipes["drive"], recipe().id());
    assert_eq!(mark.commit.map(|id| id.to_string()), Some(log[1].id.to_string()));
    let key = landing_key("hq", IncarnationId([1; 16]));
    assert_eq!(log[1].landing[&key].data, log[1].landing[&key].ops, "nothing waits");
}

#[tokio::test(start_paused = true)]
async fn a_second_life_finds_nothing_to_do() {
    let lake = testing::memory().await.unwrap();
    let log = MemoryLog::of(&ten_seconds(&Gateway::new("pi-1", 7)));
    live(&lake, &log, &[recipe()]).await;
    let before = head(&lake).await;
    let mark = live(&lake, &log, &[recipe()]).await;
    assert_eq!(head(&lake).await, before, "nothing new, no commit");
    assert_eq!(mark.cursors.len(), 1, "the receiver is told of the head at the start");
}

#[tokio::test(start_paused = true)]
async fn killed_at_every_write_the_next_life_makes_it_whole() {
    let records = seconds(&Gateway::new("pi-1", 7), 2);
    let log = MemoryLog::of(&records);
    let mut kills = 0;
    let faults = [(Fault::CrashBefore as fn(u64) -> Fault, 1), (Fault::CrashAfter, 2), (Fault::FailWrite, 3)];
    for (fault, first) in faults {
        // Every third write of each kind of fault, shifted, so that together they meet every write.
        for n in (first..).step_by(3) {
            let disk: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
            let store = Arc::new(FaultStore::new(Arc::clone(&disk)));
            let lake = testing::init_on(Arc::clone(&store) as Arc<dyn ObjectStore>).await.unwrap();
            live(&lake, &MemoryLog::of(&records[..22]), &[recipe()]).await;
            store.set(fault(n));
            live(&lake, &log, &[recipe()]).await;
            let writes = store.writes();
            let lake = testing::open_on(disk).await.unwrap();
            live(&lake, &log, &[recipe()]).await;
            assert_imu(&lake, 0..200).await;
            assert_frames(&lake, 0..8).await;
            assert_ledger(&lake).await;
            assert_aligned(&lake, 0..8, 0..200).await;
            kills += 1;
            if n > writes {
                break;
            }
        }
    }
    assert!(kills > 20, "{kills}");
}

#[derive(Debug, Clone)]
struct Plan {
    order: Vec<prop::sample::Index>,
    twice: Vec<prop::sample::Index>,
    lives: Vec<prop::sample::Index>,
    incarnations: usize,
}

fn plan() -> impl Strategy<Value = Plan> {
    let index = || proptest::collection::vec(any::<prop::sample::Index>(), 0..40);
    (index(), index(), proptest::collection::vec(any::<prop::sample::Index>(), 0..4), 1_usize..3)
        .prop_map(|(order, twice, lives, incarnations)| Plan { order, twice, lives, incarnations })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, failure_persistence: None, max_shrink_iters: 40, ..ProptestConfig::default() })]
    #[test]
    fn each_row_is_there_once_whatever_the_order_the_copies_and_the_restarts(plan in plan()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let gateway = Gateway::new("pi-1", 7);
            let mut records = ten_seconds(&gateway);
            // Swaps put declarations behind rows, blobs before and after theirs, old before new.
            for (place, with) in plan.order.iter().enumerate() {
                let (a, b) = ((place * 7) % records.len(), with.index(records.len()));
                records.swap(a, b);
            }
            for again in &plan.twice {
                let copy = records[again.index(records.len())].clone();
                records.push(copy);
            }
            let share = records.len().div_ceil(plan.incarnations);
            let mut log = MemoryLog { incarnations: records.chunks(share).map(<[Record]>::to_vec).collect() };
            // A heartbeat before its declaration says nothing: the gateway says it again.
            let again = [gateway.heartbeat(IMU, 1000, imu_at(1010)), gateway.heartbeat(CAMERA, 40, frame_at(41))];
            log.incarnations.push(vec![gateway.batch(&again, imu_at(1010))]);
            // A life may end before the first clock row came: order is all that is known then, and enough to align.
            let any_grade = RECIPE.replace("select = [\"image\"", "min_grade = \"ordering_only\"\nselect = [\"image\"");
            let recipe = || Recipe::parse(&any_grade).unwrap();
            let lake = testing::memory().await.unwrap();
            let mut lives: Vec<usize> = plan.lives.iter().map(|at| at.index(records.len())).collect();
            lives.sort_unstable();
            for upto in lives {
                // A collector that lived while the log was only so long.
                let mut left = upto;
                let mut short = log.clone();
                for records in &mut short.incarnations {
                    let keep = left.min(records.len());
                    records.truncate(keep);
                    left -= keep;
                }
                live(&lake, &short, &[recipe()]).await;
                assert_ledger(&lake).await;
            }
            live(&lake, &log, &[recipe()]).await;
            assert_frames(&lake, 0..40).await;
            assert_ledger(&lake).await;
            assert_aligned(&lake, 0..40, 0..1000).await;
            let imu = table(&lake, "raw.imu").await;
            assert_eq!(imu.len(), 1000);
            let quarantined = table(&lake, "ops.quarantine").await;
            assert!(quarantined.is_empty(), "{quarantined:?}");
            let commit = head(&lake).await.unwrap();
            let landing = lake.commit_object(&commit).await.unwrap().landing;
            assert!(landing.values().all(|cursor| cursor.data == cursor.ops), "something waits for ever: {landing:?}");
        });
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_key_with_other_content_is_kept_aside() {
    let lake = testing::memory().await.unwrap();
    let gateway = Gateway::new("pi-1", 7);
    let mut records = gateway.declarations();
    records.push(gateway.batch(&[gateway.imu(0..20)], imu_at(20)));
    let Section::Rows(mut other) = gateway.imu(10..15) else { unreachable!() };
    other.t[2] += 1;
    records.push(gateway.batch(&[Section::Rows(other), gateway.imu(15..25)], imu_at(25)));
    live(&lake, &MemoryLog::of(&records), &[]).await;
    assert_eq!(table(&lake, "raw.imu").await.len(), 25);
    let aside = table(&lake, "ops.quarantine").await;
    assert_eq!(aside.len(), 1);
    assert_eq!((text(&aside[0], "reason"), long(&aside[0], "seq_lo")), ("content_conflict".to_owned(), 12));
    assert!(matches!(&aside[0]["payload.bytes"], Cell::Bytes(bytes) if !bytes.is_empty()));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_admitted_is_set_aside_with_a_gap_and_the_rest_goes_on() {
    let lake = testing::memory().await.unwrap();
    let gateway = Gateway::new("pi-1", 7);
    let mut records = gateway.declarations();
    let Section::Rows(mut wrong) = gateway.imu(5..10) else { unreachable!() };
    wrong.fields[0] = headwater_core::batch::Column::integers(vec![-1, 2, 3, 4, 5]);
    records.push(gateway.batch(&[gateway.imu(0..5), Section::Rows(wrong), gateway.imu(10..15)], imu_at(15)));
    // A second gateway that calls accel_x text.
    let other = Gateway::new("pi-2", 9);
    let mut schema = imu_schema();
    schema.fields[1].logical = Logical::Utf8;
    records.push(other.declare(IMU, "imu", schema.clone()));
    let rows = other.rows(
        IMU,
        &schema,
        0,
        &[(imu_at(0), vec![Value::I64(1), Value::Utf8("x".into()), Value::I64(0), Value::Null])],
    );
    records.push(other.batch(&[Section::Rows(rows)], imu_at(1)));
    records.push(gateway.message(headwater_core::wire::MessageKind::Batch, b"\xff\xff\xff", imu_at(16)));
    live(&lake, &MemoryLog::of(&records), &[]).await;

    assert_eq!(table(&lake, "raw.imu").await.len(), 10);
    let mut aside: Vec<String> =
        table(&lake, "ops.quarantine").await.iter().map(|row| text(row, "detail")).collect();
    aside.sort();
    assert_eq!(aside.len(), 3, "{aside:?}");
    assert!(aside.iter().any(|d| d.contains("field n holds -1, which no u32 can be")), "{aside:?}");
    assert!(aside.iter().any(|d| d.contains("field accel_x of kind imu is String")), "{aside:?}");
    let gaps = table(&lake, "ops.gaps").await;
    let mut missing: Vec<(String, i64, i64, String)> = gaps
        .iter()
        .map(|row| (text(row, "device"), long(row, "seq_lo"), long(row, "seq_hi"), text(row, "reason")))
        .collect();
    missing.sort();
    assert_eq!(
        missing,
        [("pi-1".to_owned(), 5, 9, "rejected".to_owned()), ("pi-2".to_owned(), 0, 0, "rejected".to_owned())]
    );
    let states: Vec<String> =
        table(&lake, "ops.schemas").await.iter().map(|row| text(row, "state")).collect();
    assert_eq!(states.iter().filter(|state| *state == "refused").count(), 1);

    // A replay adds none of it again.
    live(&lake, &MemoryLog::of(&records), &[]).await;
    assert_eq!(table(&lake, "ops.quarantine").await.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_row_waits_for_its_blob_and_the_cursor_waits_with_it() {
    let lake = testing::memory().await.unwrap();
    let gateway = Gateway::new("pi-1", 7);
    let mut records = gateway.declarations();
    let (row, blob) = gateway.frame(0, &picture(0));
    records.push(gateway.batch(&[row], frame_at(0)));
    records.push(gateway.batch(&[gateway.imu(0..20)], imu_at(20)));
    let waiting = MemoryLog::of(&records);
    let mark = live(&lake, &waiting, &[]).await;
    assert_eq!((table(&lake, "raw.image").await.len(), table(&lake, "raw.imu").await.len()), (0, 20));
    assert_eq!(data_offset(&lake).await, 64 + 4 * 100, "a restart reads again from the row that waits");
    let end =
        |n: u64| LandingPosition { incarnation: IncarnationId([1; 16]), segment: 0, offset: 64 + n * 100 };
    assert!(!mark.holds(&end(5)), "the row that waits is not committed");
    assert!(mark.holds(&end(6)), "and holds back nobody else's");
    let batches = table(&lake, "ops.batches").await.len();

    records.push(blob);
    let mark = live(&lake, &MemoryLog::of(&records), &[]).await;
    assert_frames(&lake, 0..1).await;
    assert_eq!(table(&lake, "raw.imu").await.len(), 20, "read again, and known");
    assert_eq!(table(&lake, "ops.batches").await.len(), batches, "a replay notes no message twice");
    assert_eq!(data_offset(&lake).await, 64 + 7 * 100);
    assert!(mark.holds(&end(5)) && mark.holds(&end(7)) && mark.waiting.is_empty());
}

/// From where a restart reads the landing log again.
async fn data_offset(lake: &Lake) -> u64 {
    let landing = lake.landing_cursors_max(&RefName::main()).await.unwrap();
    landing[&landing_key("hq", IncarnationId([1; 16]))].data.offset
}

/// Row `seq` of `hw/clock` from a gateway that woke in 1970: the opening row of its boot, or a sample that its kernel
/// vouches nothing for.
fn clock_of_1970(gateway: &Gateway, seq: u64, row_kind: i64) -> Section {
    let schema = builtin::clock();
    let at = 10 * NS_PER_S;
    let given = [("row_kind", row_kind), ("b1", at), ("real", 7 * NS_PER_S), ("b2", at + 200), ("raw", at)];
    let given = given.into_iter().chain([("source", row_kind), ("grade", 0)]);
    let mut values = vec![Value::Null; schema.fields.len()];
    for (name, n) in given {
        values[schema.fields.iter().position(|f| f.name.as_str() == name).unwrap()] = Value::I64(n);
    }
    Section::Rows(gateway.rows(CLOCK, &schema, seq, &[(at, values)]))
}

/// Its wall clock bounds nothing: rows lie between the earliest day there was such a gateway and their receipt.
#[tokio::test(start_paused = true)]
async fn rows_captured_under_a_clock_of_1970_are_placed_by_their_receipt_and_say_how_little_is_known() {
    let lake = testing::memory().await.unwrap();
    let gateway = Gateway::new("pi-1", 7);
    let mut records = gateway.declarations();
    records.push(gateway.hello());
    records.push(gateway.batch(&[clock_of_1970(&gateway, 0, 0), clock_of_1970(&gateway, 1, 1)], imu_at(0)));
    for first in [0, 20, 40, 60, 80] {
        records.push(gateway.batch(&[gateway.imu(first..first + 20)], imu_at(first + 20)));
    }
    live(&lake, &MemoryLog::of(&records), &[]).await;
    // All there, in order, and the truth within the bounds.
    assert_imu(&lake, 0..100).await;
    let year = 365 * 86_400 * NS_PER_S;
    let rows = table(&lake, "raw.imu").await;
    for row in &rows {
        let (ts, err) = (long(row, "ts_ns"), long(row, "ts_err_ns"));
        assert_eq!(text(row, "grade"), "ordering_only");
        assert!(err > year && ts - err > 49 * year && ts + err < START + imu_at(120), "{ts} ± {err}");
    }
    let noted = table(&lake, "ops.clock").await;
    // Segments are computed; what a gateway said has another kind.
    let said = noted.iter().filter(|row| text(row, "row_kind") != "segment");
    let reals: Vec<&Cell> = said.map(|row| &row["real_ns"]).filter(|cell| **cell != Cell::Null).collect();
    assert_eq!(reals, [&Cell::Long(7 * NS_PER_S); 2], "what it showed is kept as it was");
    assert!(table(&lake, "ops.quarantine").await.is_empty());
}

/// A gap record of the first camera row, as a section of `hw/gaps`.
fn frame_is_missing(gateway: &Gateway) -> Section {
    let gap = GapRecord {
        stream: "camera/front".parse().unwrap(),
        boot_ordinal: BootOrdinal(1),
        seq_first: Seq(0),
        seq_last: Seq(0),
        cause: GapCause::EvictedDiskFull,
        stride: 0,
        phase: 0,
        rows: 1,
        bytes: 600,
        b_first: BootNanos(frame_at(0)),
        b_last: BootNanos(frame_at(0)),
        policy_version: 0,
        note: "card is full".to_owned(),
    };
    Section::Rows(gateway.rows(GAPS, &builtin::gaps(), 0, &[(frame_at(1), gap.to_values())]))
}

/// The gateway sends nothing more of a row that a gap record explains, so whatever half of it came waits for nothing.
#[tokio::test(start_paused = true)]
async fn halves_of_an_explained_row_hold_no_cursor_back_in_any_order() {
    let gateway = Gateway::new("pi-1", 7);
    let (row, blob) = gateway.frame(0, &picture(0));
    let row = gateway.batch(&[row], frame_at(0));
    let gap = gateway.batch(&[frame_is_missing(&gateway)], frame_at(1));
    let orders = [vec![&gap, &row], vec![&blob, &gap], vec![&blob, &gap, &row], vec![&row, &gap, &blob]];
    for order in orders {
        let lake = testing::memory().await.unwrap();
        let mut records = gateway.declarations();
        records.extend(order.iter().map(|record| (*record).clone()));
        let kinds: Vec<bool> = order.iter().map(|record| std::ptr::eq(*record, &row)).collect();
        let mark = live(&lake, &MemoryLog::of(&records), &[]).await;
        assert!(mark.waiting.is_empty(), "{kinds:?}");
        assert_eq!(data_offset(&lake).await, 64 + 100 * records.len() as u64, "{kinds:?}");
        let rows = table(&lake, "raw.image").await.len();
        assert_eq!(rows, usize::from(kinds.contains(&true)), "data wins over a gap: {kinds:?}");
        if order.iter().any(|record| std::ptr::eq(*record, &blob)) {
            let sha256 = Sha256::of(&picture(0)).to_string();
            assert_eq!(lake.blob(&sha256).await.unwrap().unwrap().to_vec(), picture(0), "kept by its digest");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_row_whose_blob_was_evicted_goes_in_without_it() {
    let lake = testing::memory().await.unwrap();
    let gateway = Gateway::new("pi-1", 7);
    let mut records = gateway.declarations();
    let (row, _) = gateway.frame(0, &picture(0));
    records.push(gateway.batch(&[row], frame_at(0)));
    records.push(gateway.batch(&[frame_is_missing(&gateway)], frame_at(1)));
    live(&lake, &MemoryLog::of(&records), &[]).await;
    let rows = table(&lake, "raw.image").await;
    assert_eq!(rows.len(), 1);
    assert_eq!((&rows[0]["image.bytes"], &rows[0]["image.path"]), (&Cell::Null, &Cell::Null));
    let gaps = table(&lake, "ops.gaps").await;
    assert_eq!(
        (text(&gaps[0], "reason"), text(&gaps[0], "cause")),
        ("evicted".to_owned(), "disk_full".to_owned())
    );
}

#[tokio::test(start_paused = true)]
async fn a_large_picture_is_an_object_of_its_own() {
    let lake = testing::memory().await.unwrap();
    let gateway = Gateway::new("pi-1", 7);
    let mut records = gateway.declarations();
    let big: Vec<u8> = (0..(4_usize << 20) + 1).map(|i| u8::try_from(i % 251).unwrap()).collect();
    let (row, blob) = gateway.frame(0, &big);
    records.extend([blob, gateway.batch(&[row], frame_at(0))]);
    live(&lake, &MemoryLog::of(&records), &[]).await;
    let rows = table(&lake, "raw.image").await;
    assert_eq!(rows[0]["image.bytes"], Cell::Null);
    assert!(text(&rows[0], "image.path").contains(&text(&rows[0], "hash")));
    assert_eq!(lake.blob(&text(&rows[0], "hash")).await.unwrap().unwrap().to_vec(), big);
}

#[tokio::test(start_paused = true)]
async fn rows_that_came_before_their_declaration_are_not_lost() {
    let lake = testing::memory().await.unwrap();
    let gateway = Gateway::new("pi-1", 7);
    let early = vec![gateway.batch(&[gateway.imu(0..20)], imu_at(20))];
    live(&lake, &MemoryLog::of(&early), &[]).await;
    assert_eq!(table(&lake, "raw.imu").await.len(), 0);
    let mut all = early;
    all.extend(gateway.declarations());
    live(&lake, &MemoryLog::of(&all), &[]).await;
    assert_imu_values(&lake, 20).await;
}

async fn assert_imu_values(lake: &Lake, n: usize) {
    let rows = table(lake, "raw.imu").await;
    assert_eq!(rows.len(), n);
    assert!(rows.iter().all(|row| long(row, "n") == long(row, "seq")));
}

#[tokio::test(start_paused = true)]
async fn a_failing_gate_holds_aligned_rows_back_and_raw_goes_on() {
    let lake = testing::memory().await.unwrap();
    let gateway = Gateway::new("pi-1", 7);
    let mut records = gateway.declarations();
    for n in 0..4 {
        records.push(gateway.batch(&[gateway.exchange(n, n.cast_signed() * NS_PER_S)], imu_at(n)));
    }
    let (row, blob) = gateway.frame_of(0, &picture(0), 0);
    records.extend([gateway.batch(&[row], frame_at(0)), blob]);
    records.push(gateway.batch(&[gateway.imu(0..20)], imu_at(20)));
    records.push(gateway.batch(&[gateway.heartbeat(IMU, 20, imu_at(20))], imu_at(20)));
    live(&lake, &MemoryLog::of(&records), &[recipe()]).await;
    assert_eq!((table(&lake, "raw.image").await.len(), table(&lake, "raw.imu").await.len()), (1, 20));
    assert_eq!(table(&lake, "aligned.drive").await.len(), 0);
    let verdicts = table(&lake, "ops.verdicts").await;
    let failed: Vec<String> =
        verdicts.iter().filter(|row| text(row, "verdict") == "fail").map(|row| text(row, "gate")).collect();
    assert_eq!(failed, ["image_whole"]);
    assert!(verdicts.iter().all(|row| row["published_as"] == Cell::Null));
}

#[tokio::test(start_paused = true)]
async fn a_changed_recipe_under_an_old_name_is_held() {
    let lake = testing::memory().await.unwrap();
    let records = ten_seconds(&Gateway::new("pi-1", 7));
    live(&lake, &MemoryLog::of(&records), &[recipe()]).await;
    let changed = Recipe::parse(&RECIPE.replace("50ms", "60ms")).unwrap();
    let mut more = records.clone();
    let gateway = Gateway::new("pi-1", 7);
    more.push(gateway.batch(&[gateway.imu(1000..1020)], imu_at(1020)));
    live(&lake, &MemoryLog::of(&more), &[changed]).await;
    assert_eq!(table(&lake, "raw.imu").await.len(), 1020);
    assert_aligned(&lake, 0..40, 0..1000).await;
}

#[tokio::test(start_paused = true)]
async fn a_recipe_added_later_aligns_what_is_there() {
    let lake = testing::memory().await.unwrap();
    let log = MemoryLog::of(&ten_seconds(&Gateway::new("pi-1", 7)));
    live(&lake, &log, &[]).await;
    assert_eq!(table(&lake, "aligned.drive").await.len(), 0);
    live(&lake, &log, &[recipe()]).await;
    assert_aligned(&lake, 0..40, 0..1000).await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_may_be_named_when_the_id_table_is_lost() {
    let lake = testing::memory().await.unwrap();
    let gateway = Gateway::new("pi-1", 7);
    let mut records = gateway.declarations();
    let Section::Rows(mut rows) = gateway.imu(0..5) else { unreachable!() };
    rows.stream = StreamRef::Name("imu".parse().unwrap());
    records.push(gateway.batch(&[Section::Rows(rows), gateway.imu(0..7)], imu_at(7)));
    live(&lake, &MemoryLog::of(&records), &[]).await;
    assert_imu_values(&lake, 7).await;
    assert_eq!(
        table(&lake, "ops.quarantine").await.len(),
        0,
        "the same rows under a name and an id are the same"
    );
}

#[tokio::test(start_paused = true)]
async fn a_group_is_committed_within_its_interval_and_the_receiver_is_told() {
    let lake = testing::memory().await.unwrap();
    let (mut running, task) = Running::start(&lake, Vec::new());
    let gateway = Gateway::new("pi-1", 7);
    let driver = async {
        running.land(&gateway.declarations());
        running.land(&[gateway.batch(&[gateway.imu(0..20)], imu_at(20))]);
        let landed_at = running.clock.boot();
        running.marks.changed().await.unwrap();
        while running.marks.borrow_and_update().cursors.is_empty() {
            running.marks.changed().await.unwrap();
        }
        let waited = running.clock.boot().since(landed_at);
        assert!((9 * NS_PER_S..=11 * NS_PER_S).contains(&waited), "{waited}");
        assert_imu_values(&lake, 20).await;
        // What was read is committed at the end, however young.
        running.land(&[gateway.batch(&[gateway.imu(20..30)], imu_at(30))]);
        running.cancel.cancel();
    };
    let (done, ()) = tokio::join!(task, driver);
    done.unwrap();
    assert_imu_values(&lake, 30).await;
}

#[tokio::test(start_paused = true)]
async fn silence_ends_in_a_provisional_row_and_a_heartbeat_in_a_final_one() {
    let lake = testing::memory().await.unwrap();
    let (running, task) = Running::start(&lake, vec![recipe()]);
    let gateway = Gateway::new("pi-1", 7);
    let driver = async {
        let mut records = gateway.declarations();
        for n in 0..4 {
            records.push(gateway.batch(&[gateway.exchange(n, n.cast_signed() * NS_PER_S)], imu_at(n)));
        }
        for seq in 0..2 {
            let (row, blob) = gateway.frame(seq, &picture(seq));
            records.extend([gateway.batch(&[row], frame_at(seq)), blob]);
        }
        // Frame 0 lies at 3 ms, frame 1 at 253 ms. The sensor says that nothing more comes before 100 ms.
        records.push(gateway.batch(&[gateway.imu(0..1), gateway.heartbeat(IMU, 1, imu_at(10))], imu_at(1)));
        running.land(&records);
        let minute = |n: u64| running.clock.boot().plus_ms(n * 60_000);
        running.clock.sleep_until(minute(1)).await;
        let rows = table(&lake, "aligned.drive").await;
        assert_eq!(rows.len(), 1, "frame 1 still waits");
        assert_eq!(
            (text(&rows[0], "name"), &rows[0]["provisional"]),
            ("0000.jpg".to_owned(), &Cell::Bool(false))
        );
        assert_eq!(rows[0]["motion_n"], Cell::Long(0));
        running.clock.sleep_until(minute(10)).await;
        let rows = table(&lake, "aligned.drive").await;
        let late = rows.iter().find(|row| text(row, "name") == "0001.jpg").unwrap();
        assert_eq!((rows.len(), &late["provisional"]), (2, &Cell::Bool(true)));
        assert_eq!(late["motion_n"], Cell::Null, "beyond 50 ms");
        running.cancel.cancel();
    };
    let (done, ()) = tokio::join!(task, driver);
    done.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_lake_that_does_not_answer_is_asked_until_it_does() {
    let disk: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let store = Arc::new(FaultStore::new(disk));
    let lake = testing::init_on(Arc::clone(&store) as Arc<dyn ObjectStore>).await.unwrap();
    let (mut running, task) = Running::start(&lake, Vec::new());
    let gateway = Gateway::new("pi-1", 7);
    let driver = async {
        running.marks.changed().await.unwrap();
        running.marks.borrow_and_update();
        // The ref entry is written, but neither its answer nor any read of it gets through for a minute.
        store.set(Fault::Unreachable { key: "refs/heads".to_owned() });
        running.land(&gateway.declarations());
        running.land(&[gateway.batch(&[gateway.imu(0..20)], imu_at(20))]);
        running.clock.sleep_until(running.clock.boot().plus_ms(60_000)).await;
        assert!(running.marks.borrow().commit.is_none(), "nothing is said while the outcome is unknown (S1)");
        store.set(Fault::None);
        running.marks.changed().await.unwrap();
        assert!(running.marks.borrow().commit.is_some());
        running.cancel.cancel();
    };
    let (done, ()) = tokio::join!(task, driver);
    done.unwrap();
    assert_imu_values(&lake, 20).await;
    assert_eq!(lake.log("main", 10).await.unwrap().len(), 1);
}

/// Ten seconds in which IMU rows 400..420 are first recorded as missing, and come after all in a later life.
#[tokio::test(start_paused = true)]
async fn late_rows_change_the_aligned_rows_they_reach_and_no_others() {
    let lake = testing::memory().await.unwrap();
    let gateway = Gateway::new("pi-1", 7);
    let late = imu_at(420);
    let mut records = ten_seconds(&gateway);
    let is_late = |record: &Record| match record {
        Record::Message(message) => {
            let whole = gateway.batch(&[gateway.imu(400..420)], imu_at(500));
            matches!(whole, Record::Message(whole) if whole.message == message.message)
        }
        Record::Blob(_) => false,
    };
    let at = records.iter().position(is_late).unwrap();
    let held_back = records.remove(at);
    let gap = GapRecord {
        stream: "imu".parse().unwrap(),
        cause: GapCause::EvictedDiskFull,
        stride: 0,
        phase: 0,
        seq_first: Seq(400),
        seq_last: Seq(419),
        rows: 20,
        bytes: 400,
        policy_version: 0,
        boot_ordinal: gateway.boot,
        b_first: BootNanos(imu_at(400)),
        b_last: BootNanos(imu_at(419)),
        note: String::new(),
    };
    let said = Section::Rows(gateway.rows(GAPS, &builtin::gaps(), 0, &[(late, gap.to_values())]));
    records.push(gateway.batch(&[said], late));
    live(&lake, &MemoryLog::of(&records), &[recipe()]).await;
    let before = head(&lake).await.unwrap();
    let rows = table(&lake, "aligned.drive").await;
    // Frame 16 lies 3 ms after row 400, and takes row 399 while that is missing; no other frame lies in the gap.
    assert_eq!(rows.len(), 40);
    let flagged = |rows: &[BTreeMap<String, Cell>]| {
        let gap = |row: &&BTreeMap<String, Cell>| matches!(row["motion_src.flag"], Cell::Long(flag) if flag & 512 != 0);
        rows.iter().filter(gap).count()
    };
    let flagged_before = flagged(&rows);

    let mut more = records.clone();
    more.push(held_back);
    live(&lake, &MemoryLog::of(&more), &[recipe()]).await;
    assert_imu(&lake, 0..1000).await;
    assert_aligned(&lake, 0..40, 0..1000).await;
    let rows = table(&lake, "aligned.drive").await;
    assert_eq!((flagged_before, flagged(&rows)), (1, 0));
    let mut commit = lake.commit_object(&head(&lake).await.unwrap()).await.unwrap();
    while commit.kind.as_str() != "align" {
        commit = lake.commit_object(&commit.parents[0]).await.unwrap();
    }
    assert_ne!(commit.id, before);
    assert!(commit.message.contains("1 changed (1 in values, 0 only in times)"), "{}", commit.message);

    // Made anew from the raw tables the rows are the same, to the last bit.
    let head = head(&lake).await.unwrap();
    let rebuilder = headwater_collector::ingest::Rebuilder::open(&lake, &head, recipe()).await.unwrap();
    let (mut rebuilding, mut batches) = (rebuilder.begin(None), Vec::new());
    while let Some(piece) = rebuilding.next().await.unwrap() {
        batches.extend(piece.batches);
    }
    let anew: usize = batches.iter().map(arrow_array::RecordBatch::num_rows).sum();
    assert_eq!((rebuilding.told().rows, anew), (40, 40));
    let keys = |batch: &arrow_array::RecordBatch| {
        let keys = arrow_cast::cast(batch.column_by_name("row_key").unwrap(), &arrow_schema::DataType::Utf8)
            .unwrap();
        let seqs = batch.column_by_name("motion_n").unwrap();
        (0..batch.num_rows())
            .map(|at| {
                let shown = |column: &dyn arrow_array::Array| {
                    arrow_cast::display::array_value_to_string(column, at).unwrap()
                };
                (shown(keys.as_ref()), shown(seqs.as_ref()))
            })
            .collect::<Vec<_>>()
    };
    let mut made: Vec<(String, String)> = batches.iter().flat_map(keys).collect();
    let stored = |row: &BTreeMap<String, Cell>| match &row["motion_n"] {
        Cell::Long(n) => (text(row, "row_key"), n.to_string()),
        _ => (text(row, "row_key"), String::new()),
    };
    let mut stored: Vec<(String, String)> = rows.iter().map(stored).collect();
    made.sort();
    stored.sort();
    assert_eq!(made, stored);
}

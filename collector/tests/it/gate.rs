//! Write, audit, publish: no aligned row is on the branch without a verdict, and raw rows never wait for one.

#![expect(clippy::disallowed_methods, reason = "hooks are programs, so these tests wait by the real clock")]

use crate::ingest_world;

use headwater_align::recipe::Recipe;
use headwater_collector::commit::cells::Cell;
use headwater_collector::gate::waive::{WaiveError, Waiver, waive};
use headwater_collector::gate::{GateMode, GateSettings, Hook, HookCall, RuleSet};
use headwater_collector::ingest::IngestSettings;
use headwater_core::time::UtcNanos;
use headwater_lake::testing::{self, Fault, FaultStore};
use headwater_lake::{CommitKind, Lake, RefName, RefOp};
use ingest_world::*;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Frames of ten seconds.
const ROWS: usize = 40;

fn recipes() -> Vec<Recipe> {
    vec![drive(&["image", "name"])]
}

/// Branch mode with one shell script as hook.
fn gated(script: &str) -> IngestSettings {
    let words = ["sh", "-c", script].map(str::to_owned).to_vec();
    let hook = Hook {
        name: "check".to_owned(),
        recipes: Vec::new(),
        timeout_ms: 20_000,
        call: HookCall::Command(words),
    };
    let gate = GateSettings { mode: GateMode::Branch, hooks: vec![hook], ..GateSettings::default() };
    IngestSettings { gate, interval_ms: 100, ..settings() }
}

async fn refs(lake: &Lake, folder: &str) -> Vec<RefName> {
    lake.refs_below(folder).await.unwrap().into_iter().map(|(name, _)| name).collect()
}

async fn keys(lake: &Lake) -> Vec<String> {
    let mut keys: Vec<String> =
        table(lake, "aligned.drive").await.iter().map(|row| text(row, "row_key")).collect();
    keys.sort();
    keys
}

/// Gates with their verdicts on the branch.
async fn verdicts(lake: &Lake) -> BTreeSet<(String, String)> {
    let rows = table(lake, "ops.verdicts").await;
    rows.iter().map(|row| (text(row, "gate"), text(row, "verdict"))).collect()
}

#[tokio::test]
async fn a_passing_candidate_is_published_whole_with_its_verdicts() {
    let records = ten_seconds(&Gateway::new("pi-1", 7));
    let (plain, lake) = (testing::memory().await.unwrap(), testing::memory().await.unwrap());
    live(&plain, &MemoryLog::of(&records), &recipes()).await;
    live_as(&lake, &MemoryLog::of(&records), &recipes(), gated("echo '{\"seen\": 1}'")).await;
    assert_eq!(keys(&lake).await, keys(&plain).await, "as inline");
    let verdict = table(&lake, "ops.verdicts").await;
    let hook = verdict.iter().find(|row| text(row, "gate") == "check").unwrap();
    assert_eq!((text(hook, "verdict"), text(hook, "evidence")), ("pass".into(), "{\"seen\":1}".into()));
    assert!(text(hook, "ref").starts_with("wap/"));
    assert_eq!(text(hook, "published_as"), "main");
    assert_eq!((refs(&lake, "wap").await, refs(&lake, "quarantine").await), (vec![], vec![]));
    let head = lake.head(&RefName::main()).await.unwrap().unwrap();
    assert_eq!(head.op, RefOp::Ff, "the branch stood still meanwhile");
    let commit = lake.commit_object(&head.commit.unwrap()).await.unwrap();
    assert_eq!((commit.kind, commit.gates.len()), (CommitKind::Align, 11));
    assert!(commit.coverage.contains_key("drive"));
    // Another life finds nothing to do.
    let entries = lake.refs().history(&RefName::main(), usize::MAX).await.unwrap().len();
    live_as(&lake, &MemoryLog::of(&records), &recipes(), gated("exit 1")).await;
    assert_eq!(lake.refs().history(&RefName::main(), usize::MAX).await.unwrap().len(), entries);
}

/// A set of one rule: no picture twice in a row, three times.
fn film_runs(policy: &str) -> RuleSet {
    let text = format!(
        "headwater_gate = 1\nname = \"drive\"\n[[rule]]\nname = \"film_runs\"\ncheck = \"frozen\"\nrows = 3\npolicy = \"{policy}\"\n"
    );
    RuleSet::parse(&text).unwrap()
}

/// One gateway whose camera is frozen, beside one that is well.
fn one_bad() -> MemoryLog {
    let mut records = ten_seconds(&Gateway::new("pi-1", 7));
    records.extend(seconds_of(&Gateway::new("pi-2", 8), 10, |_| (picture(3), 640)));
    MemoryLog::of(&records)
}

async fn devices(lake: &Lake, name: &str) -> BTreeSet<String> {
    table(lake, name).await.iter().map(|row| text(row, "device")).collect()
}

#[tokio::test]
async fn a_bad_device_stays_back_while_the_others_publish() {
    for (mode, policy, aside) in [
        (GateMode::Inline, "quarantine", 0),
        (GateMode::Branch, "quarantine", 1),
        (GateMode::Branch, "hold", 0),
    ] {
        let lake = testing::memory().await.unwrap();
        let gate = GateSettings { mode, rules: vec![film_runs(policy)], ..GateSettings::default() };
        let settings = IngestSettings { gate, interval_ms: 100, ..settings() };
        live_as(&lake, &one_bad(), &recipes(), settings.clone()).await;
        let both = BTreeSet::from(["pi-1".to_owned(), "pi-2".to_owned()]);
        assert_eq!(devices(&lake, "raw.image").await, both, "raw rows never wait");
        assert_eq!(devices(&lake, "aligned.drive").await, BTreeSet::from(["pi-1".to_owned()]), "{mode:?}");
        assert_eq!(keys(&lake).await.len(), ROWS);
        let found = table(&lake, "ops.verdicts").await;
        let rule: Vec<_> = found.iter().filter(|row| text(row, "gate") == "drive.film_runs").collect();
        let id = film_runs(policy).id();
        assert!(rule.iter().all(|row| text(row, "gate_version") == id));
        let said = |verdict: &str| rule.iter().filter(|row| text(row, "verdict") == verdict).count();
        assert!(said("pass") >= 1 && said("fail") >= 1, "{rule:#?}");
        let failed = rule.iter().find(|row| text(row, "verdict") == "fail").unwrap();
        assert!(text(failed, "evidence").contains("\"pi-2\""));
        assert_eq!((refs(&lake, "wap").await.len(), refs(&lake, "quarantine").await.len()), (0, aside));
        // Another life aligns nothing twice, and still holds it back.
        live_as(&lake, &one_bad(), &recipes(), settings).await;
        assert_eq!((keys(&lake).await.len(), refs(&lake, "quarantine").await.len()), (ROWS, aside));
        assert_eq!(devices(&lake, "aligned.drive").await.len(), 1);
    }
}

/// A rule is mended while the collector runs: what it held back is judged anew and published, without another start. Until
/// then the same rows are held back by the same rule again at each turn, which is said once.
#[tokio::test(start_paused = true)]
async fn rows_held_back_are_judged_again_at_turns_and_when_the_rules_change() {
    for mode in [GateMode::Inline, GateMode::Branch] {
        let lake = testing::memory().await.unwrap();
        let rules = vec![film_runs("hold")];
        let (sender, newer) = watch::channel(rules.clone());
        let gate = GateSettings { mode, rules, newer: Some(newer), ..GateSettings::default() };
        let settings = IngestSettings { gate, interval_ms: 5_000, ..settings() };
        let (running, ingest) = Running::start_as(&lake, recipes(), settings);
        let task = tokio::spawn(ingest);
        running.land(&one_bad().incarnations[0]);
        let said = || async {
            let found = table(&lake, "ops.verdicts").await;
            let of_rule = found.iter().filter(|row| text(row, "gate") == "drive.film_runs");
            of_rule.filter(|row| text(row, "verdict") == "fail").count()
        };
        until("the others", || async { keys(&lake).await.len() == ROWS && said().await == 1 }).await;
        // Four turns, each twice as far as the one before.
        running.clock_forward(16 * 60).await;
        until("the others", || async { keys(&lake).await.len() == ROWS }).await;
        assert_eq!(said().await, 1, "{mode:?}: the same rows, held back by the same rule");
        assert!(refs(&lake, "wap").await.len() <= 1, "{mode:?}");
        sender.send_replace(vec![film_runs("warn")]);
        until("the bad one", || async { keys(&lake).await.len() == 2 * ROWS }).await;
        assert_eq!(devices(&lake, "aligned.drive").await.len(), 2, "{mode:?}");
        running.cancel.cancel();
        task.await.unwrap().unwrap();
        assert_eq!((refs(&lake, "wap").await, refs(&lake, "quarantine").await), (vec![], vec![]));
    }
}

/// Frames of a real recording; `cut` leaves only their beginning, with a whole header.
fn film(seq: u64, cut: usize) -> (Vec<u8>, i64) {
    let file = format!("{}/../tests/data/demo/camera/{:04}.jpg", env!("CARGO_MANIFEST_DIR"), seq % 30 + 1);
    let mut bytes = std::fs::read(file).unwrap();
    bytes.truncate(cut);
    (bytes, 854)
}

#[tokio::test]
async fn a_camera_whose_pictures_do_not_decode_stays_back_alone() {
    let mut records = seconds_of(&Gateway::new("pi-1", 7), 10, |seq| film(seq, usize::MAX));
    records.extend(seconds_of(&Gateway::new("pi-2", 8), 10, |seq| film(seq, 2_000)));
    let rules =
        "headwater_gate = 1\nname = \"drive\"\n[[rule]]\nname = \"pictures\"\ncheck = \"image\"\nlooks = 2\n";
    let rules = vec![RuleSet::parse(rules).unwrap()];
    let gate = GateSettings { mode: GateMode::Branch, rules, ..GateSettings::default() };
    let lake = testing::memory().await.unwrap();
    let settings = IngestSettings { gate, interval_ms: 100, ..settings() };
    live_as(&lake, &MemoryLog::of(&records), &recipes(), settings).await;
    assert_eq!(devices(&lake, "aligned.drive").await, BTreeSet::from(["pi-1".to_owned()]));
    assert_eq!(keys(&lake).await.len(), ROWS);
    assert_eq!((refs(&lake, "wap").await.len(), refs(&lake, "quarantine").await.len()), (0, 1));
    let found = table(&lake, "ops.verdicts").await;
    let failed = found.iter().find(|row| text(row, "verdict") == "fail").unwrap();
    assert_eq!(text(failed, "gate"), "drive.pictures");
    assert!(text(failed, "evidence").contains("picture is broken"));
}

/// A camera that sends pages instead of pictures, and one whose pictures claim four gigapixels: they stay back, their captures
/// are kept, and the others' rows go on.
#[tokio::test]
async fn poisoned_pictures_of_one_device_hold_no_other_back() {
    let bomb = |seq: u64| {
        let (mut bytes, width) = film(seq, usize::MAX);
        let frame = bytes.windows(2).position(|two| matches!(two, [0xff, 0xc0 | 0xc2])).unwrap();
        bytes[frame + 5..frame + 9].copy_from_slice(&[0xff, 0xdc, 0xff, 0xdc]);
        (bytes, width)
    };
    let mut records = seconds_of(&Gateway::new("pi-1", 7), 10, |seq| film(seq, usize::MAX));
    records.extend(seconds_of(&Gateway::new("pi-2", 8), 10, |_| (b"<html>not found</html>".to_vec(), 854)));
    records.extend(seconds_of(&Gateway::new("pi-3", 9), 10, bomb));
    let gate = GateSettings { mode: GateMode::Branch, ..GateSettings::default() };
    let lake = testing::memory().await.unwrap();
    let settings = IngestSettings { gate, interval_ms: 100, ..settings() };
    live_as(&lake, &MemoryLog::of(&records), &recipes(), settings).await;
    assert_eq!(devices(&lake, "aligned.drive").await, BTreeSet::from(["pi-1".to_owned()]));
    assert_eq!((keys(&lake).await.len(), devices(&lake, "raw.image").await.len()), (ROWS, 3));
    assert_eq!((refs(&lake, "wap").await.len(), refs(&lake, "quarantine").await.len()), (0, 1));
    let found = verdicts(&lake).await;
    let said = |verdict: &str| found.contains(&("image_header".to_owned(), verdict.to_owned()));
    assert!(said("pass") && said("fail"), "{found:?}");
}

#[tokio::test]
async fn a_rule_that_only_warns_holds_nobody_back() {
    let lake = testing::memory().await.unwrap();
    let gate = GateSettings { rules: vec![film_runs("warn")], ..GateSettings::default() };
    live_as(&lake, &one_bad(), &recipes(), IngestSettings { gate, ..settings() }).await;
    assert_eq!(keys(&lake).await.len(), 2 * ROWS);
    assert!(verdicts(&lake).await.contains(&("drive.film_runs".to_owned(), "warn".to_owned())));
}

#[tokio::test]
async fn wap_gate_blocks() {
    let lake = testing::memory().await.unwrap();
    let records = ten_seconds(&Gateway::new("pi-1", 7));
    live_as(&lake, &MemoryLog::of(&records), &recipes(), gated("echo too dark; exit 1")).await;
    assert_eq!((table(&lake, "raw.imu").await.len(), table(&lake, "raw.image").await.len()), (1_000, ROWS));
    assert!(keys(&lake).await.is_empty(), "the branch keeps its old aligned rows");
    let main = lake.commit_object(&head(&lake).await.unwrap()).await.unwrap();
    assert!(main.coverage.is_empty(), "coverage does not move");
    assert!(verdicts(&lake).await.contains(&("check".to_owned(), "fail".to_owned())));
    assert!(table(&lake, "ops.verdicts").await.iter().all(|row| row["published_as"] == Cell::Null));
    assert!(refs(&lake, "wap").await.is_empty());
    let aside = refs(&lake, "quarantine").await;
    assert_eq!(aside.len(), 1);
    let candidate = lake.resolve(aside[0].as_str()).await.unwrap();
    assert_eq!(lake.tables(&candidate).await.unwrap()[&"aligned.drive".parse().unwrap()].rows, ROWS as u64);
    // Later rows go on, with another verdict; those in quarantine are not judged again.
    let gateway = Gateway::new("pi-1", 7);
    let mut more = MemoryLog::of(&records);
    let (row, blob) = gateway.frame(40, &picture(40));
    let beat = [gateway.heartbeat(IMU, 1_020, imu_at(1_100)), gateway.heartbeat(CAMERA, 41, frame_at(50))];
    let sent = imu_at(1_020);
    more.incarnations.push(vec![
        gateway.batch(&[gateway.imu(1_000..1_020)], sent),
        gateway.batch(&[row], sent),
        blob,
        gateway.batch(&beat, sent),
    ]);
    live_as(&lake, &more, &recipes(), gated("exit 0")).await;
    assert_eq!(keys(&lake).await.len(), 1);
    assert_eq!(refs(&lake, "quarantine").await, aside);
}

#[tokio::test]
async fn pictures_that_are_none_are_held_back_before_any_hook_is_asked() {
    let lake = testing::memory().await.unwrap();
    let gateway = Gateway::new("pi-1", 7);
    let mut records = ten_seconds(&gateway);
    let sent = imu_at(1_020);
    // Says 640 by 480, and is no picture at all.
    let (row, blob) = gateway.frame(40, b"<html>not found</html>");
    let beat = [gateway.heartbeat(IMU, 1_020, imu_at(1_100)), gateway.heartbeat(CAMERA, 41, frame_at(50))];
    records.extend([
        gateway.batch(&[gateway.imu(1_000..1_020)], sent),
        gateway.batch(&[row], sent),
        blob,
        gateway.batch(&beat, sent),
    ]);
    // Alone in its window, so that it is among those looked at.
    live_as(&lake, &MemoryLog::of(&records[..records.len() - 4]), &recipes(), gated("exit 0")).await;
    live_as(&lake, &MemoryLog::of(&records), &recipes(), gated("touch /no/such/folder/asked; exit 0")).await;
    assert_eq!(keys(&lake).await.len(), ROWS);
    let found = verdicts(&lake).await;
    assert!(found.contains(&("image_header".into(), "fail".into())), "{found:?}");
    let rows = table(&lake, "ops.verdicts").await;
    assert_eq!(
        rows.iter().filter(|row| text(row, "gate") == "check").count(),
        1,
        "the hook was asked of the first"
    );
    assert_eq!(refs(&lake, "quarantine").await.len(), 1);
}

#[tokio::test]
async fn a_waiver_publishes_what_was_held_back_and_says_who() {
    let lake = testing::memory().await.unwrap();
    let records = ten_seconds(&Gateway::new("pi-1", 7));
    live_as(&lake, &MemoryLog::of(&records), &recipes(), gated("exit 1")).await;
    let aside = refs(&lake, "quarantine").await.remove(0);
    let waiver = Waiver {
        by: "ada".to_owned(),
        reason: "night is meant".to_owned(),
        now: UtcNanos(START + 1_000_000),
    };
    let done = waive(&lake, &aside, &RefName::main(), &waiver).await.unwrap();
    assert_eq!(keys(&lake).await.len(), ROWS);
    assert!(done.commit.message.contains("waived by ada: night is meant"), "{}", done.commit.message);
    let rows = table(&lake, "ops.verdicts").await;
    let waived: Vec<_> = rows.iter().filter(|row| row["waived_by"] != Cell::Null).collect();
    assert_eq!(waived.len(), 1);
    assert_eq!(
        (text(waived[0], "waived_by"), text(waived[0], "published_as")),
        ("ada".into(), "main".into())
    );
    assert_eq!(
        rows.iter().filter(|row| text(row, "gate") == "check").count(),
        1,
        "no verdict is there twice"
    );
    assert!(refs(&lake, "quarantine").await.is_empty());
    let again = waive(&lake, &aside, &RefName::main(), &waiver).await.unwrap_err();
    assert!(matches!(again, WaiveError::NoCandidate { .. }), "{again}");
    // The collector knows them as done.
    live_as(&lake, &MemoryLog::of(&records), &recipes(), gated("exit 0")).await;
    assert_eq!(keys(&lake).await.len(), ROWS);
}

/// Looks until it is so; what is awaited comes from other tasks and programs.
async fn until<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    for _ in 0..600 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{what} did not come about");
}

/// A hook that says it has begun, and then waits until it is let go on.
fn waiting(dir: &Path) -> String {
    let (begun, go) = (dir.join("begun"), dir.join("go"));
    format!("touch {}; while [ ! -e {} ]; do sleep 0.05; done", begun.display(), go.display())
}

#[tokio::test]
async fn raw_never_waits() {
    let dir = tempfile::tempdir().unwrap();
    let lake = testing::memory().await.unwrap();
    let gateway = Gateway::new("pi-1", 7);
    let (running, ingest) = Running::start_as(&lake, recipes(), gated(&waiting(dir.path())));
    let task = tokio::spawn(ingest);
    running.land(&ten_seconds(&gateway));
    until("the audit", || async { dir.path().join("begun").exists() }).await;
    assert_eq!(refs(&lake, "wap").await.len(), 1);
    for n in 0..3_u64 {
        let first = 1_000 + n * 20;
        running.land(&[gateway.batch(&[gateway.imu(first..first + 20)], imu_at(first + 20))]);
        let rows = 1_020 + usize::try_from(n).unwrap() * 20;
        until("a raw commit", || async { table(&lake, "raw.imu").await.len() == rows }).await;
    }
    assert!(keys(&lake).await.is_empty());
    let told = running.marks.borrow().commit;
    assert!(told.is_some(), "receivers are told of raw commits meanwhile");
    std::fs::write(dir.path().join("go"), "").unwrap();
    until("publication", || async { keys(&lake).await.len() == ROWS }).await;
    let main = lake.commit_object(&head(&lake).await.unwrap()).await.unwrap();
    assert_eq!(table(&lake, "raw.imu").await.len(), 1_060);
    assert_eq!(main.parents.len(), 1, "the branch had moved: relinked on its head");
    until("the staging branch to go", || async { refs(&lake, "wap").await.is_empty() }).await;
    running.cancel.cancel();
    task.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_life_that_ends_in_an_audit_leaves_nothing_published_and_the_next_one_begins_anew() {
    let dir = tempfile::tempdir().unwrap();
    let lake = testing::memory().await.unwrap();
    let records = ten_seconds(&Gateway::new("pi-1", 7));
    let (running, ingest) = Running::start_as(&lake, recipes(), gated(&waiting(dir.path())));
    let task = tokio::spawn(ingest);
    running.land(&records);
    until("the audit", || async { dir.path().join("begun").exists() }).await;
    // As a crash does it.
    task.abort();
    drop(task.await);
    let left = refs(&lake, "wap").await;
    assert_eq!((left.len(), keys(&lake).await.len()), (1, 0));
    // Somebody else's staging branch is nobody's business.
    let theirs = RefName::new("wap/mine").unwrap();
    lake.branch(&theirs, &head(&lake).await.unwrap(), "ada", 0).await.unwrap();
    live_as(&lake, &MemoryLog::of(&records), &recipes(), gated("exit 0")).await;
    assert_eq!(keys(&lake).await.len(), ROWS);
    assert_eq!(refs(&lake, "wap").await, [theirs]);
    let tombstone = lake.head(&left[0]).await.unwrap().unwrap();
    assert_eq!(tombstone.op, RefOp::Delete);
}

#[tokio::test]
async fn only_so_many_quarantined_candidates_are_kept() {
    let lake = testing::memory().await.unwrap();
    let gateway = Gateway::new("pi-1", 7);
    let mut log = MemoryLog::of(&ten_seconds(&gateway));
    let mut settings = gated("exit 1");
    settings.gate.keep = 2;
    for round in 0..4_u64 {
        live_as(&lake, &log, &recipes(), settings.clone()).await;
        let (frame, imu) = (40 + round, 1_000 + round * 25);
        let sent = imu_at(imu + 25);
        let (row, blob) = gateway.frame(frame, &picture(frame));
        let beat = [
            gateway.heartbeat(IMU, imu + 25, imu_at(imu + 60)),
            gateway.heartbeat(CAMERA, frame + 1, frame_at(frame + 9)),
        ];
        log.incarnations.push(vec![
            gateway.batch(&[gateway.imu(imu..imu + 25)], sent),
            gateway.batch(&[row], sent),
            blob,
            gateway.batch(&beat, sent),
        ]);
    }
    assert_eq!(refs(&lake, "quarantine").await.len(), 2);
}

/// Killed at every write from the staging branch to its end, the next life makes it whole: each row once, and nothing on
/// the branch that did not pass.
#[tokio::test]
async fn killed_at_every_step_of_the_gate() {
    for (script, passes) in [("exit 0", true), ("exit 1", false)] {
        let records = ten_seconds(&Gateway::new("pi-1", 7));
        // Without recipes first, so that only the gate's own writes are counted.
        let raw: Arc<InMemory> = Arc::new(InMemory::new());
        let lake = testing::init_on(Arc::clone(&raw) as Arc<dyn ObjectStore>).await.unwrap();
        live(&lake, &MemoryLog::of(&records), &[]).await;
        for n in 1.. {
            let disk: Arc<dyn ObjectStore> = Arc::new(raw.fork());
            let store = Arc::new(FaultStore::new(Arc::clone(&disk)));
            let lake = testing::open_on(Arc::clone(&store) as Arc<dyn ObjectStore>).await.unwrap();
            store.set(Fault::CrashAfter(n));
            let (log, recipes) = (MemoryLog::of(&records), recipes());
            let one_life = live_as(&lake, &log, &recipes, gated(script));
            drop(tokio::time::timeout(Duration::from_secs(60), one_life).await);
            let (writes, is_dead) = (store.writes(), store.is_dead());

            let lake = testing::open_on(disk).await.unwrap();
            let found = keys(&lake).await.len();
            assert!(found == 0 || (passes && found == ROWS), "write {n}: {found} rows");
            live_as(&lake, &log, &recipes, gated(script)).await;
            assert_eq!(keys(&lake).await.len(), if passes { ROWS } else { 0 }, "write {n}");
            assert!(refs(&lake, "wap").await.is_empty(), "write {n}");
            let aside = refs(&lake, "quarantine").await.len();
            assert_eq!(aside, usize::from(!passes), "write {n}");
            assert_eq!(verdicts(&lake).await.contains(&("check".into(), "fail".into())), !passes);
            if !is_dead {
                assert!(writes > 8, "{writes} writes from staging to publication");
                break;
            }
        }
    }
}

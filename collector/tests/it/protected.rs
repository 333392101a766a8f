//! Protected branches: every verb of the command line that moves a ref obeys what the lake protects, and what joins come
//! to them passes the gate first.

use crate::ingest_world;
use crate::shell;

use futures::TryStreamExt;
use headwater_align::recipe::Recipe;
use headwater_collector::commit::cells::Cell;
use headwater_collector::gate::guard::{Guard, GuardError, Join, Passage};
use headwater_collector::gate::waive::{Waiver, waive};
use headwater_collector::gate::{GateSettings, Hook, HookCall, RuleSet, Verdict};
use headwater_core::time::UtcNanos;
use headwater_lake::{
    By, CommitError, CommitId, CommitKind, CommitRequest, Lake, LakeError, MergeOptions, ProtectionChange,
    RefName, RefOp, RefPatterns, ScanOptions, TableAppend, TableName, TableSpec, Warrant, testing,
};
use ingest_world::*;
use serde_json::json;
use shell::Shell;

fn recipes() -> [Recipe; 1] {
    [drive(&["name"])]
}

fn name(text: &str) -> RefName {
    RefName::new(text).unwrap()
}

fn aligned() -> TableName {
    TableName::new("aligned.drive").unwrap()
}

/// An hour later than all that a simulated gateway does.
fn by(n: i64) -> By {
    By { author: "anna".to_owned(), message: None, time_us: START / 1_000 + 3_600_000_000 + n }
}

async fn tip(lake: &Lake, at: &str) -> CommitId {
    lake.resolve(at).await.unwrap()
}

/// Another gateway's captures and frames, aligned on a branch at main's head.
async fn aligned_on(lake: &Lake, branch: &str, gateway: &str, epoch: u64) {
    lake.branch(&name(branch), &tip(lake, "main").await, "anna", by(0).time_us).await.unwrap();
    let mut theirs = settings();
    theirs.branch = name(branch);
    let log = MemoryLog { incarnations: vec![Vec::new(), ten_seconds(&Gateway::new(gateway, epoch))] };
    live_as(lake, &log, &recipes(), theirs).await;
}

/// A branch at main's head on which all aligned rows of it stand once more.
async fn twice_on(lake: &Lake, branch: &str) {
    let head = tip(lake, "main").await;
    lake.branch(&name(branch), &head, "anna", by(0).time_us).await.unwrap();
    let spec = TableSpec::new(
        aligned(),
        lake.columns(&head, &aligned()).await.unwrap(),
        &["device", "ts", "row_key"],
    );
    let rows = lake.scan(&head, &aligned(), ScanOptions::default()).await.unwrap();
    let request = CommitRequest {
        kind: CommitKind::Foreign,
        message: "rows once more".to_owned(),
        time_us: by(1).time_us,
        appends: vec![TableAppend { spec, batches: rows.try_collect().await.unwrap() }],
        ..CommitRequest::default()
    };
    lake.writer(name(branch), "bob".to_owned()).commit(request).await.unwrap();
}

async fn protect(lake: &Lake) {
    let change = ProtectionChange { protect: RefPatterns::of(&["main"]), ..ProtectionChange::default() };
    lake.protect(&change, "anna", by(2).time_us).await.unwrap();
}

/// Ten seconds of a gateway on `main`, aligned, in memory; `exp` has those of another.
async fn world() -> Lake {
    let lake = testing::memory().await.unwrap();
    live(&lake, &MemoryLog::of(&ten_seconds(&Gateway::new("pi-1", 7))), &recipes()).await;
    aligned_on(&lake, "exp", "pi-2", 9).await;
    protect(&lake).await;
    lake
}

fn hook(script: &str) -> GateSettings {
    let words = ["sh", "-c", script].map(str::to_owned).to_vec();
    let call = HookCall::Command(words);
    let hook = Hook { name: "check".to_owned(), recipes: Vec::new(), timeout_ms: 20_000, call };
    GateSettings { hooks: vec![hook], ..GateSettings::default() }
}

async fn merge(lake: &Lake, from: &str, gate: &GateSettings) -> Result<Passage, GuardError> {
    let join = Join::Merge { from: tip(lake, from).await, options: MergeOptions::default() };
    let (into, by) = (RefName::main(), by(5));
    Guard { lake, into: &into, gate, by: &by, clock: clock() }.join(&join).await
}

async fn refs(lake: &Lake, folder: &str) -> Vec<RefName> {
    lake.refs_below(folder).await.unwrap().into_iter().map(|(name, _)| name).collect()
}

#[tokio::test(start_paused = true)]
async fn a_merge_that_passes_is_published_with_its_verdicts() {
    let lake = world().await;
    let Passage::Published { tip, verdicts, .. } =
        merge(&lake, "exp", &GateSettings::default()).await.unwrap()
    else {
        panic!("it was held")
    };
    assert_eq!(lake.resolve("main").await.unwrap(), tip);
    assert_eq!(lake.head(&RefName::main()).await.unwrap().unwrap().op, RefOp::Ff);
    let worst = verdicts[&aligned()];
    assert!(worst != Verdict::Fail, "{verdicts:?}");
    let rows = table(&lake, "aligned.drive").await;
    assert_eq!(rows.len(), 80, "forty frames of each gateway");
    let judged = table(&lake, "ops.verdicts").await;
    let ours: Vec<_> = judged.iter().filter(|row| text(row, "ref").starts_with("wap/")).collect();
    assert_eq!(ours.len(), 9, "every built-in rule");
    assert!(ours.iter().all(|row| row["rows"] == Cell::Long(40) && text(row, "published_as") == "main"));
    assert_eq!((refs(&lake, "wap").await, refs(&lake, "quarantine").await), (vec![], vec![]));
    assert_eq!(merge(&lake, "exp", &GateSettings::default()).await.unwrap(), Passage::UpToDate);
}

#[tokio::test(start_paused = true)]
async fn rows_that_would_be_there_twice_are_held_and_main_stays() {
    let lake = world().await;
    twice_on(&lake, "bad").await;
    let before = tip(&lake, "main").await;
    let Passage::Quarantined { name: held, failed } =
        merge(&lake, "bad", &GateSettings::default()).await.unwrap()
    else {
        panic!("it was published")
    };
    assert_eq!(failed, [(aligned(), "duplicates".to_owned())]);
    assert_eq!(tip(&lake, "main").await, before);
    assert_eq!((refs(&lake, "wap").await, refs(&lake, "quarantine").await), (vec![], vec![held]));
    // A pick of the same commit is the same rows.
    let (into, by, gate) = (RefName::main(), by(6), GateSettings::default());
    let guard = Guard { lake: &lake, into: &into, gate: &gate, by: &by, clock: clock() };
    let picked = guard.join(&Join::Pick(tip(&lake, "bad").await)).await.unwrap();
    assert!(matches!(picked, Passage::Quarantined { .. }), "{picked:?}");
}

#[tokio::test(start_paused = true)]
async fn a_join_without_aligned_rows_needs_no_verdict_and_a_conflict_is_told_as_ever() {
    let lake = world().await;
    lake.branch(&name("raw"), &tip(&lake, "main").await, "anna", by(0).time_us).await.unwrap();
    let mut theirs = settings();
    theirs.branch = name("raw");
    let log = MemoryLog { incarnations: vec![Vec::new(), ten_seconds(&Gateway::new("pi-3", 11))] };
    live_as(&lake, &log, &[], theirs).await;
    let gate = hook("exit 1");
    let Passage::Published { verdicts, .. } = merge(&lake, "raw", &gate).await.unwrap() else {
        panic!("it was held")
    };
    assert!(verdicts.is_empty());
    // Both sides align now.
    live(
        &lake,
        &MemoryLog { incarnations: vec![Vec::new(), Vec::new(), ten_seconds(&Gateway::new("pi-4", 12))] },
        &recipes(),
    )
    .await;
    let error = merge(&lake, "exp", &gate).await.unwrap_err();
    assert!(
        matches!(&error, GuardError::Commit(CommitError::Failed { source: LakeError::Conflicts(_), .. })),
        "{error:?}"
    );
    assert!(refs(&lake, "wap").await.is_empty());
}

fn rules(text: &str) -> GateSettings {
    let text = format!("headwater_gate = 1\nname = \"mine\"\n[[rule]]\nname = \"r\"\n{text}\n");
    GateSettings { rules: vec![RuleSet::parse(&text).unwrap()], ..GateSettings::default() }
}

/// Files of rules judge a merge as they judge rows beside ingest: one judge, with the versions of its rules.
#[tokio::test(start_paused = true)]
async fn files_of_rules_judge_a_merge_too() {
    let lake = world().await;
    let met =
        rules("check = \"rows\"\nfail_below = 40\nfail_above = 40\nwarn_above = 39\ndevices = [\"pi-2\"]");
    let Passage::Quarantined { name: held, failed } =
        merge(&lake, "exp", &rules("check = \"expression\"\nexpect = \"device = 'pi-1'\"")).await.unwrap()
    else {
        panic!("it was published")
    };
    assert_eq!(failed, [(aligned(), "mine.r".to_owned())]);
    let tip = lake.commit_object(&tip(&lake, held.as_str()).await).await.unwrap();
    let id = rules("check = \"expression\"\nexpect = \"device = 'pi-1'\"").rules[0].id();
    let gate = tip.gates.iter().find(|gate| gate.name == "aligned.drive/mine.r").unwrap();
    assert_eq!((gate.verdict.as_str(), &gate.version), ("fail", &id));
    // The forty rows that come are judged, not those that are there; a warning publishes.
    let passage = merge(&lake, "exp", &met).await.unwrap();
    let Passage::Published { verdicts, .. } = passage else { panic!("{passage:?}") };
    assert_eq!(verdicts[&aligned()], Verdict::Warn);
}

async fn rows_of(lake: &Lake, device: &str) -> usize {
    table(lake, "aligned.drive").await.iter().filter(|row| text(row, "device") == device).count()
}

/// Main aligned on while the join was held. By coverage alone main has all that the join has, or neither has; either way
/// what a person waived must be there afterwards, once.
#[tokio::test(start_paused = true)]
async fn a_waived_join_loses_no_aligned_rows_though_main_aligned_since() {
    for from in ["bad", "exp"] {
        let lake = world().await;
        twice_on(&lake, "bad").await;
        let Passage::Quarantined { name: held, .. } = merge(&lake, from, &hook("exit 1")).await.unwrap()
        else {
            panic!("it was published")
        };
        let log =
            MemoryLog { incarnations: vec![Vec::new(), Vec::new(), ten_seconds(&Gateway::new("pi-4", 12))] };
        live(&lake, &log, &recipes()).await;
        assert_eq!(table(&lake, "aligned.drive").await.len(), 80, "of pi-1 and pi-4");
        let now = UtcNanos(by(9).time_us * 1_000);
        let waiver = Waiver { by: "carl".to_owned(), reason: "they are meant".to_owned(), now };
        waive(&lake, &held, &RefName::main(), &waiver).await.unwrap();
        let found =
            [rows_of(&lake, "pi-1").await, rows_of(&lake, "pi-2").await, rows_of(&lake, "pi-4").await];
        let wanted = if from == "bad" { [80, 0, 40] } else { [40, 40, 40] };
        assert_eq!(found, wanted, "{from}");
        assert_eq!((refs(&lake, "wap").await, refs(&lake, "quarantine").await), (vec![], vec![]));
        let captures = if from == "bad" { 2_000 } else { 3_000 };
        assert_eq!(table(&lake, "raw.imu").await.len(), captures, "with their captures");
        // Coverage tells of them: another life aligns none of them twice.
        live(&lake, &log, &recipes()).await;
        assert_eq!(table(&lake, "aligned.drive").await.len(), wanted.iter().sum::<usize>(), "{from}");
        // Said again there is nothing to waive.
        assert!(waive(&lake, &held, &RefName::main(), &waiver).await.is_err());
    }
}

/// The hook is told where the candidate lies and decides; captures that come meanwhile stage it anew, and rows that were
/// judged are not judged again.
#[tokio::test]
async fn main_may_move_on_while_a_hook_judges() {
    let lake = world().await;
    let dir = tempfile::tempdir().unwrap();
    let path = |file: &str| dir.path().join(file).to_str().unwrap().to_owned();
    let made = std::process::Command::new("mkfifo").args([path("asked"), path("go")]).status().unwrap();
    assert!(made.success());
    let script = format!(
        "cat > {}; echo once >> {}; echo > {}; cat {} > /dev/null",
        path("question"),
        path("times"),
        path("asked"),
        path("go")
    );
    let gate = hook(&script);
    let (asked, go) = (path("asked"), path("go"));
    let meanwhile = async {
        tokio::task::spawn_blocking(move || std::fs::read(asked)).await.unwrap().unwrap();
        let log =
            MemoryLog { incarnations: vec![Vec::new(), Vec::new(), ten_seconds(&Gateway::new("pi-5", 13))] };
        live(&lake, &log, &[]).await;
        tokio::task::spawn_blocking(move || std::fs::File::options().write(true).open(go))
            .await
            .unwrap()
            .unwrap();
        tip(&lake, "main").await
    };
    let (passage, moved) = futures::join!(merge(&lake, "exp", &gate), meanwhile);
    let Passage::Published { tip, .. } = passage.unwrap() else { panic!("it was held") };
    let line: Vec<CommitId> =
        lake.log(tip.as_str(), 10).await.unwrap().into_iter().map(|commit| commit.id).collect();
    assert!(line.contains(&moved), "on top of what came");
    assert_eq!(std::fs::read_to_string(path("times")).unwrap(), "once\n");
    let question: serde_json::Value =
        serde_json::from_slice(&std::fs::read(path("question")).unwrap()).unwrap();
    assert_eq!(
        (&question["target"], &question["table"], &question["rows"]),
        (&json!("main"), &json!("aligned.drive"), &json!(40))
    );
    assert_eq!(table(&lake, "aligned.drive").await.len(), 80);
}

/// What a shell sees: refusals by their own exit code, held merges, and a person's word against the gate.
#[tokio::test(start_paused = true)]
async fn every_verb_at_the_command_line() {
    let shell = Shell::new();
    let lake = Lake::init(shell.lake()).await.unwrap();
    live(&lake, &MemoryLog::of(&ten_seconds(&Gateway::new("pi-1", 7))), &recipes()).await;
    aligned_on(&lake, "exp", "pi-2", 9).await;
    twice_on(&lake, "bad").await;
    let said = shell.json(&["branch", "--protect", "main", "--protect", "release/*", "-m", "trained on"]);
    assert_eq!(said["protected"], json!(["main", "release/*"]));
    let listed = shell.json(&["branch", "--protected"]);
    assert_eq!((&listed[0]["by"], &listed[0]["reason"]), (&json!("anna"), &json!("trained on")));
    let branches = shell.json(&["branch"]);
    let main = branches.as_array().unwrap().iter().find(|row| row["branch"] == "main").unwrap();
    assert_eq!(main["protected"], json!(true));

    let before = tip(&lake, "main").await;
    for words in [
        &["revert", "main"][..],
        &["rollback", "main~1"],
        &["rollback", "main~1", "--all", "--yes"],
        &["reset", "main~1", "--yes"],
        &["release", "drive"],
        &["branch", "-d", "main", "--yes"],
        &["branch", "release/1", "exp"],
    ] {
        let text = shell.fails(5, words);
        assert!(text.contains("is protected (pattern") && text.contains("--override"), "{words:?}: {text}");
    }
    let text = shell.fails(6, &["merge", "bad"]);
    let id = text.split("gate show ").nth(1).unwrap().split('`').next().unwrap();
    assert!(text.contains("duplicates of aligned.drive"), "{text}");
    assert!(shell.ok(&["gate", "show", id]).contains("duplicates"));
    assert!(shell.ok(&["gate", "list"]).contains(&format!("quarantine/{id}")));
    let picked = shell.fails(6, &["cherry-pick", "bad"]);
    assert!(picked.contains("holds it"), "{picked}");
    assert_eq!(tip(&lake, "main").await, before, "nothing of all that moved it");

    // A person's word against the gate; then what passes comes, and upkeep goes on.
    shell.ok(&["gate", "waive", id, "--reason", "they were to be there twice", "--by", "carl", "--yes"]);
    assert_eq!(shell.rows("aligned.drive", "main"), 80);
    let rows = table(&lake, "ops.verdicts").await;
    let waived: Vec<_> = rows.iter().filter(|row| row["waived_by"] != Cell::Null).collect();
    assert_eq!((waived.len(), ingest_world::text(waived[0], "gate").as_str()), (1, "waiver"));
    // What was waived stands in no coverage: it is not left behind without a word.
    assert!(shell.fails(3, &["merge", "exp"]).contains("--strategy aligned.drive=ours or =theirs"));
    let merged = shell.json(&["merge", "exp", "--strategy", "aligned.drive=theirs"]);
    assert_eq!((&merged["did"], merged["gate"]["aligned.drive"].is_string()), (&json!("merge"), true));
    assert_eq!(shell.rows("raw.imu", "main"), 2000);
    shell.ok(&["compact"]);
    shell.ok(&["branch", "release/1", "main"]);
    // And against the protection.
    shell.ok(&["rollback", "main~3", "--override"]);
    let moves = shell.json(&["reflog", "main", "--limit", "1"]);
    assert!(moves[0]["reason"].as_str().unwrap().starts_with("over protection main: "), "{moves}");
    shell.ok(&["branch", "--unprotect", "main"]);
    shell.ok(&["branch", "-d", "main", "--yes"]);
    assert!(shell.fails(1, &["branch", "--unprotect", "main"]).contains("there are: release/*"));
    assert_eq!(lake.acting(Warrant::Own).protection().await.unwrap().seq, 2);
}

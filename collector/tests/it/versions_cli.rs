//! `headwater log diff branch tag merge revert cherry-pick rollback reset release reflog`: what people see, what scripts
//! read, and that nothing is taken out of sight without being asked for.

use crate::ingest_world;
use crate::shell;

use headwater_lake::{Lake, RefName};
use ingest_world::*;
use serde_json::Value;
use shell::Shell;

/// Ten seconds of a gateway on main in two lives, and a branch `exp` at the first.
async fn lake() -> (Shell, Lake) {
    let shell = Shell::new();
    let lake = Lake::init(shell.lake()).await.unwrap();
    let records = ten_seconds(&Gateway::new("pi-1", 7));
    let recipe = [drive(&["name"])];
    live(&lake, &MemoryLog::of(&records[..60]), &recipe).await;
    assert_eq!(shell.json(&["branch", "exp"])["branch"], "exp");
    live(&lake, &MemoryLog::of(&records), &recipe).await;
    (shell, lake)
}

/// A log of a receiver's second life: cursors of the first say nothing of it.
fn another_log(records: Vec<Record>) -> MemoryLog {
    MemoryLog { incarnations: vec![Vec::new(), records] }
}

#[tokio::test(start_paused = true)]
async fn a_story_of_a_branch() {
    let (shell, lake) = lake().await;
    let branches = shell.json(&["branch"]);
    let names: Vec<&str> =
        branches.as_array().unwrap().iter().map(|row| row["branch"].as_str().unwrap()).collect();
    assert_eq!(names, ["exp", "main"]);
    shell.ok(&["tag", "before", "exp"]);
    assert_eq!(shell.json(&["tag"])[0]["tag"], "before");
    assert!(shell.fails(1, &["tag", "before", "main"]).contains("tags never move"));

    let diff = shell.json(&["diff", "exp..main"]);
    let imu = diff["tables"].as_array().unwrap().iter().find(|table| table["table"] == "raw.imu").unwrap();
    assert_eq!(imu["rows_added"].as_u64().unwrap(), 1000 - shell.rows("raw.imu", "exp"));
    let text = shell.ok(&["diff", "exp", "--files"]);
    assert!(text.contains("raw.imu") && text.contains("+ raw.imu "), "{text}");

    // Another gateway's rows on the branch, then both lines as one.
    let mut theirs = settings();
    theirs.branch = RefName::new("exp").unwrap();
    let other = ten_seconds(&Gateway::new("pi-2", 9));
    live_as(&lake, &another_log(other), &[], theirs).await;
    let merged = shell.json(&["merge", "exp", "-m", "both gateways"]);
    assert_eq!(merged["did"], "merge");
    assert_eq!(shell.rows("raw.imu", "main"), 2000);
    assert_eq!(shell.json(&["merge", "exp"])["did"], "nothing");
    assert_eq!(shell.json(&["merge", "main", "--on", "exp", "--ff-only"])["did"], "fast-forward");

    let log = shell.ok(&["log"]);
    assert!(log.contains("both gateways") && log.contains("* |") && log.contains("exp, main"), "{log}");
    assert!(log.contains(" align") && log.contains("ingest, back to"), "machine commits are folded: {log}");
    let all = shell.json(&["log", "--limit", "100"]);
    assert_eq!(all[0]["parents"].as_array().unwrap().len(), 2);
    assert_eq!(all[0]["author"], "anna");
    assert!(shell.ok(&["log", "--all"]).lines().count() > log.lines().count());

    let undone = shell.json(&["revert", "main"]);
    assert_eq!(undone["did"], "revert");
    assert_eq!(shell.rows("raw.imu", "main"), 1000);
    let shown = shell.ok(&["show", "main"]);
    assert!(shown.contains("changes") && shown.contains("raw.imu"), "{shown}");
    let moves = shell.json(&["reflog", "main", "--limit", "2"]);
    assert_eq!((&moves[0]["by"], &moves[0]["did"]), (&"anna".into(), &"commit".into()));
    assert!(shell.ok(&["reflog", "exp"]).contains("fast-forward"));
}

#[tokio::test(start_paused = true)]
async fn what_takes_captures_away_is_counted_and_asked_for() {
    let (shell, _lake) = lake().await;
    let (all, first) = (shell.rows("raw.imu", "main"), shell.rows("raw.imu", "exp"));
    let leaving = shell.json(&["reset", "exp", "--dry-run"]);
    assert_eq!(leaving["leaving"]["tables"]["raw.imu"].as_u64().unwrap(), all - first);
    for words in [&["reset", "exp"][..], &["rollback", "exp", "--all"], &["branch", "-d", "exp"]] {
        let text = shell.fails(1, words);
        assert!(text.contains("not confirmed") && text.contains("--yes"), "{text}");
    }
    assert!(shell.fails(1, &["reset", "exp"]).contains("captures leave main"));
    assert_eq!(shell.rows("raw.imu", "main"), all, "nothing was changed");

    let text = shell.ok(&["rollback", "exp"]);
    assert!(text.contains("recipe drive is held") && text.contains("headwater release drive"), "{text}");
    assert_eq!(shell.rows("raw.imu", "main"), all, "captures stay");
    assert_eq!(shell.json(&["release", "drive"])["did"], "release");
    assert_eq!(shell.json(&["release", "drive"])["did"], "nothing");

    shell.ok(&["reset", "exp", "--yes"]);
    assert_eq!(shell.rows("raw.imu", "main"), first);
    // The range of what was reset away, oldest first.
    shell.ok(&["cherry-pick", "exp..main~3"]);
    assert_eq!(shell.rows("raw.imu", "main"), all);

    let gone = shell.ok(&["branch", "-d", "exp", "--yes"]);
    assert!(gone.contains("headwater branch exp"), "{gone}");
    assert!(shell.fails(1, &["log", "exp"]).contains("no such ref"));
    assert!(shell.ok(&["reflog", "exp"]).contains("delete"));
}

#[tokio::test(start_paused = true)]
async fn a_conflict_has_its_own_exit_code_and_is_told_whole() {
    let (shell, lake) = lake().await;
    // Both lines align the same frames, in their own way.
    let mut theirs = settings();
    theirs.branch = RefName::new("exp").unwrap();
    let records = ten_seconds(&Gateway::new("pi-3", 9));
    live_as(&lake, &another_log(records), &[drive(&["name"])], theirs).await;
    let before = shell.json(&["show", "main"])["id"].clone();
    let text = shell.fails(3, &["merge", "exp"]);
    assert!(text.contains("aligned.drive") && text.contains("--strategy aligned.drive=ours"), "{text}");
    let output = shell.run(&["merge", "exp", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&report["verb"], &report["conflicts"][0]["table"]),
        (&"merge".into(), &"aligned.drive".into())
    );
    assert_eq!(shell.json(&["show", "main"])["id"], before);
    shell.ok(&["merge", "exp", "--strategy", "aligned.drive=theirs"]);
    assert_eq!(shell.rows("raw.imu", "main"), 2000);
}

#[tokio::test(start_paused = true)]
async fn mistakes_are_told_with_what_to_do() {
    let (shell, _lake) = lake().await;
    for (words, told) in [
        (&["branch", "exp"][..], "exists already"),
        (&["branch", "../x"], "lower-case segments"),
        (&["branch", "main@4f"], "lower-case segments"),
        (&["merge", "nowhere"], "no such ref"),
        (&["merge", "exp", "--into", "nowhere"], "no such ref"),
        (&["merge", "exp", "--strategy", "mine"], "write ours, theirs"),
        (&["revert", "main~99"], "no such ref"),
        (&["cherry-pick", "main..exp"], "range"),
        (&["rollback", "main", "--on", "exp"], "no commit of its history"),
        (&["reflog", "nowhere"], "no such ref"),
        (&["diff", "main", "nowhere"], "no such ref"),
    ] {
        let text = shell.fails(1, words);
        assert!(text.contains(told) && text.lines().count() == 1, "{words:?}: {text}");
    }
    for words in [&["branch", "-d"][..], &["revert"], &["merge"], &["merge", "exp", "--no-ff", "--ff-only"]] {
        assert!(shell.fails(2, words).contains("--help"), "{words:?}");
    }
    for verb in [
        "log",
        "diff",
        "branch",
        "tag",
        "merge",
        "revert",
        "cherry-pick",
        "rollback",
        "reset",
        "release",
        "reflog",
    ] {
        assert!(shell.ok(&[verb, "--help"]).contains("Examples:"), "{verb}");
    }
}

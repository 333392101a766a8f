//! What leaves the lake by the `headwater` command: events, rows, exports, copies, completions, and waivers of the gate.

use crate::ingest_world;

use headwater_collector::gate::{GateMode, GateSettings, Hook, HookCall, RuleSet};
use headwater_collector::ingest::IngestSettings;
use headwater_lake::{Lake, RefName};
use ingest_world::*;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

struct World {
    dir: tempfile::TempDir,
}

impl World {
    /// Ten seconds of one gateway, aligned.
    async fn new() -> Self {
        Self::with(settings()).await
    }

    async fn with(settings: IngestSettings) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let lake = Lake::init(dir.path().join("lake").to_str().unwrap()).await.unwrap();
        let log = MemoryLog::of(&ten_seconds(&Gateway::new("pi-1", 7)));
        live_as(&lake, &log, &[drive(&["image", "name"])], settings).await;
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    async fn lake(&self) -> Lake {
        Lake::open(self.path("lake").to_str().unwrap()).await.unwrap()
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_headwater"));
        command.env("HEADWATER_LAKE", "lake").current_dir(self.dir.path()).args(words);
        command.stdin(Stdio::null());
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    fn ok(&self, words: &[&str]) -> String {
        let found = self.run(words);
        let err = String::from_utf8(found.stderr).unwrap();
        assert_eq!((found.status.code(), err.as_str()), (Some(0), ""), "{words:?}");
        String::from_utf8(found.stdout).unwrap()
    }

    fn refused(&self, words: &[&str]) -> String {
        let found = self.run(words);
        assert_eq!(found.status.code(), Some(1), "{words:?}");
        String::from_utf8(found.stderr).unwrap()
    }

    fn json(&self, words: &[&str]) -> Value {
        let words: Vec<&str> = words.iter().copied().chain(["--json"]).collect();
        serde_json::from_str(&self.ok(&words)).unwrap()
    }
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn events_are_told_from_any_number_or_commit_and_go_on() {
    let world = World::new().await;
    let all = lines(&world.ok(&["watch"]));
    let seqs: Vec<u64> = all.iter().map(|event| event["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
    assert!(seqs.len() >= 2);
    assert_eq!(all[0]["tables"]["raw.imu"], 1_000);
    assert_eq!(all[1]["parent"], all[0]["commit"]);
    let first = all[0]["commit"].as_str().unwrap();
    assert_eq!(lines(&world.ok(&["watch", "main", "--since", &first[..12]])), all[1..]);
    assert_eq!(lines(&world.ok(&["watch", "main", "--since", "1"])), all[1..]);
    let aligned = lines(&world.ok(&["watch", "--kind", "align"]));
    assert!(!aligned.is_empty() && aligned.iter().all(|event| event["kind"] == "align"));
    assert!(world.refused(&["watch", "nix"]).contains("headwater branch"));

    // Followed, it tells of a commit that comes while it waits.
    let since = seqs.len().to_string();
    let words = ["watch", "--since", since.as_str(), "--follow"];
    let mut child = world.command(&words).stdout(Stdio::piped()).spawn().unwrap();
    let lake = world.lake().await;
    let request = headwater_lake::CommitRequest { time_us: 1, ..headwater_lake::CommitRequest::default() };
    let done = lake.writer(RefName::main(), "test".to_owned()).commit(request).await.unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let event: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&event["commit"], &event["seq"]), (&json!(done.id), &json!(seqs.len() + 1)));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test]
async fn a_scan_takes_a_span_a_device_and_conditions() {
    let world = World::new().await;
    let rows = |words: &[&str]| {
        let words: Vec<&str> =
            ["scan", "raw.imu", "--limit", "0", "--format", "json"].iter().chain(words).copied().collect();
        lines(&world.ok(&words))
    };
    assert_eq!(rows(&[]).len(), 1_000);
    assert_eq!(rows(&["--where", "seq>=990", "--where", "mode=run"]).len(), 5);
    // The hundred samples of one second; boot time 10 s is 22:13:30.
    let span = ["--from", "2023-11-14T22:13:31Z", "--to", "2023-11-14T22:13:32Z"];
    assert!((99..=101).contains(&rows(&span).len()), "{}", rows(&span).len());
    assert_eq!((rows(&["--from", "-1h"]).len(), rows(&["--device", "nobody"]).len()), (0, 0));
    let text =
        world.ok(&["scan", "raw.imu", "--columns", "seq,device", "--where", "seq<2", "--format", "csv"]);
    assert_eq!(text, "device,seq\npi-1,0\npi-1,1\n");
    assert!(world.ok(&["scan", "raw.imu", "--limit", "2"]).contains("boot_ordinal"));
    assert!(world.refused(&["scan", "raw.imu", "--where", "nix=1"]).contains("no such column"));
    let mistyped = world.run(&["scan", "raw.imu", "--from", "yesterday"]);
    assert_eq!(mistyped.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&mistyped.stderr).contains("RFC 3339"));
}

fn hash(path: &Path) -> String {
    let digest = digest(&SHA256, &std::fs::read(path).unwrap());
    digest.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

/// The manifest, after every file in it was checked.
fn checked(folder: &Path) -> Value {
    let manifest: Value =
        serde_json::from_slice(&std::fs::read(folder.join("manifest.json")).unwrap()).unwrap();
    for file in manifest["files"].as_array().unwrap() {
        let path = folder.join(file["path"].as_str().unwrap());
        assert_eq!(file["sha256"], hash(&path), "{}", path.display());
        assert_eq!(file["bytes"].as_u64().unwrap(), path.metadata().unwrap().len());
    }
    assert!(!folder.join(".headwater-part").exists());
    manifest
}

#[tokio::test]
async fn an_export_is_whole_reproducible_and_overwrites_nothing() {
    let world = World::new().await;
    for format in ["parquet", "csv", "jsonl"] {
        let (one, two) = (format!("{format}-1"), format!("{format}-2"));
        world.ok(&["export", "raw.imu", "--format", format, "--out", &one]);
        world.ok(&["export", "raw.imu", "--format", format, "--out", &two]);
        let (first, second) = (checked(&world.path(&one)), checked(&world.path(&two)));
        assert_eq!(first, second, "the same commit gives the same files");
        assert_eq!(first["files"][0]["path"], format!("2023-11-14.{format}"));
        assert_eq!((&first["files"][0]["rows"], &first["tables"][0]["rows"]), (&json!(1_000), &json!(1_000)));
        assert_eq!(first["commit"], world.json(&["show", "main"])["id"]);
    }
    let text = std::fs::read_to_string(world.path("csv-1/2023-11-14.csv")).unwrap();
    assert_eq!(text.lines().count(), 1_001);
    let refused = world.refused(&["export", "raw.imu", "--out", "csv-1"]);
    assert!(refused.contains("--force"), "{refused}");
    world.ok(&["export", "raw.imu", "--where", "seq<10", "--format", "csv", "--out", "csv-1", "--force"]);
    assert_eq!(checked(&world.path("csv-1"))["tables"][0]["rows"], 10);
    // What an interrupted one left is cleared away.
    std::fs::create_dir(world.path("later.part")).unwrap();
    std::fs::write(world.path("later.part/.headwater-part"), "").unwrap();
    std::fs::write(world.path("later.part/rest"), "").unwrap();
    let report = world.json(&["export", "--all", "--format", "parquet", "--out", "later"]);
    assert_eq!(report, checked(&world.path("later")));
    assert!(world.path("later/raw.image/2023-11-14.parquet").exists() && !world.path("later.part").exists());
    assert!(world.refused(&["export", "raw.imu", "--out", "no/such/folder"]).contains("mkdir -p"));
    assert!(world.refused(&["export", "raw.nix", "--out", "x"]).contains("raw.imu"));
    assert!(world.refused(&["export", "--all", "--format", "images", "--out", "x"]).contains("one table"));
}

#[tokio::test]
async fn pictures_are_files_by_device_stream_and_time() {
    let world = World::new().await;
    world.ok(&["export", "raw.image", "--format", "images", "--where", "seq<8", "--out", "frames"]);
    let folder = world.path("frames");
    checked(&folder);
    let entries = lines(&std::fs::read_to_string(folder.join("metadata.jsonl")).unwrap());
    assert_eq!(entries.len(), 8);
    for entry in &entries {
        let name = entry["file_name"].as_str().unwrap();
        assert!(name.starts_with("pi-1/camera/front/20231114T2213") && name.ends_with("Z.jpg"), "{name}");
        assert_eq!((&entry["sha256"], &entry["hash"]), (&json!(hash(&folder.join(name))), &entry["sha256"]));
        let seq = entry["seq"].as_u64().unwrap();
        assert_eq!(std::fs::read(folder.join(name)).unwrap(), picture(seq));
    }
    assert!(world.refused(&["export", "raw.imu", "--format", "images", "--out", "x"]).contains("raw.image"));
}

#[tokio::test]
async fn a_hugging_face_folder_has_its_card_and_its_split() {
    let world = World::new().await;
    world.ok(&["export", "raw.image", "--format", "huggingface", "--out", "dataset"]);
    let manifest = checked(&world.path("dataset"));
    let paths: Vec<&str> =
        manifest["files"].as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["README.md", "data/train-2023-11-14.parquet"]);
    let card = std::fs::read_to_string(world.path("dataset/README.md")).unwrap();
    for words in [
        "path: data/train-*.parquet",
        "- name: image\n    dtype: image",
        "40 rows of commit",
        "load_dataset(",
    ] {
        assert!(card.contains(words), "{words:?} is not in\n{card}");
    }
}

#[tokio::test]
async fn a_manifest_names_every_file_of_a_commit() {
    let world = World::new().await;
    let manifest: Value = serde_json::from_str(&world.ok(&["export-manifest"])).unwrap();
    let mut roles: BTreeMap<String, usize> = BTreeMap::new();
    for file in manifest["files"].as_array().unwrap() {
        *roles.entry(file["role"].as_str().unwrap().to_owned()).or_default() += 1;
        let path = file["location"].as_str().unwrap().strip_prefix("file://").unwrap();
        assert_eq!(file["sha256"], hash(Path::new(path)), "{path}");
    }
    for role in ["commit", "data", "manifest", "manifest_list", "metadata", "state"] {
        assert!(roles.contains_key(role), "{role} is not in {roles:?}");
    }
    let one: Value =
        serde_json::from_str(&world.ok(&["export-manifest", "raw.imu", "--no-checksums"])).unwrap();
    assert!(one["files"].as_array().unwrap().iter().all(|file| file["sha256"].is_null()));
}

#[tokio::test]
async fn a_clone_reads_without_its_source() {
    let world = World::new().await;
    let report = world.json(&["clone", "lake", "copy"]);
    assert!(report["commits"].as_u64().unwrap() >= 2);
    let again = world.json(&["clone", "lake", "copy"]);
    assert_eq!((&again["files"], &again["refs"]), (&json!(0), &report["refs"]));
    assert!(world.refused(&["clone", "lake", "lake"]).contains("another folder"));
    std::fs::rename(world.path("lake"), world.path("gone")).unwrap();
    let rows = world.ok(&["--lake", "copy", "scan", "raw.image", "--limit", "0", "--format", "json"]);
    assert_eq!(rows.lines().count(), 40);
    assert!(world.ok(&["--lake", "copy", "tables"]).contains("/copy/"));
}

#[tokio::test]
async fn a_person_sees_what_the_gate_holds_and_may_waive_it() {
    let words = ["sh", "-c", "echo '{\"mean\": 3}'; exit 1"].map(str::to_owned).to_vec();
    let (name, call) = ("dark".to_owned(), HookCall::Command(words));
    let hook = Hook { name, recipes: Vec::new(), timeout_ms: 20_000, call };
    let gate = GateSettings { mode: GateMode::Branch, hooks: vec![hook], ..GateSettings::default() };
    let world = World::with(IngestSettings { gate, ..settings() }).await;
    let held = world.json(&["gate", "list"]);
    assert_eq!(
        (&held[0]["failed"], &held[0]["rows"], &held[0]["recipe"]),
        (&json!("dark"), &json!(40), &json!("drive"))
    );
    let candidate = held[0]["candidate"].as_str().unwrap();
    let id = candidate.strip_prefix("quarantine/").unwrap();
    let verdicts = world.json(&["gate", "show", &id[..14]]);
    let failed: Vec<&Value> =
        verdicts.as_array().unwrap().iter().filter(|row| row["verdict"] == "fail").collect();
    assert_eq!(
        (failed.len(), &failed[0]["gate"], &failed[0]["evidence"]),
        (1, &json!("dark"), &json!({"mean": 3}))
    );
    let told = lines(&world.ok(&["watch", candidate]));
    assert_eq!(told[0]["op"], "create");

    let words = ["gate", "waive", id, "--reason", "night is meant", "--by", "ada"];
    assert!(world.refused(&words).contains("--yes"));
    assert!(
        world.refused(&["gate", "waive", "zz", "--reason", "x", "--by", "ada", "--yes"]).contains(candidate)
    );
    let said = world.ok(&[&words[..], &["--yes"]].concat());
    assert!(said.starts_with("40 rows published to main"), "{said}");
    assert_eq!(world.ok(&["scan", "aligned.drive", "--limit", "0", "--format", "json"]).lines().count(), 40);
    assert_eq!(world.json(&["gate", "list"]), json!([]));
}

/// Whether rows were set aside or wait for a turn: a person sees how many, since when, by which rule, and which of them.
#[tokio::test]
async fn held_rows_are_listed_with_their_rules_and_shown_row_by_row() {
    for (mode, policy, state) in
        [(GateMode::Inline, "hold", "waiting"), (GateMode::Branch, "quarantine", "quarantined")]
    {
        let text = format!(
            "headwater_gate = 1\nname = \"t\"\n[[rule]]\nname = \"low\"\ncheck = \"range\"\ncolumns = [\"motion_n\"]\nmax = 100\npolicy = \"{policy}\"\n"
        );
        let gate =
            GateSettings { mode, rules: vec![RuleSet::parse(&text).unwrap()], ..GateSettings::default() };
        let world = World::with(IngestSettings { gate, ..settings() }).await;
        let held = world.json(&["gate", "list"]);
        let only = &held.as_array().unwrap()[..];
        assert_eq!(only.len(), 1, "{held:#}");
        assert_eq!(
            (&only[0]["state"], &only[0]["rows"], &only[0]["failed"], &only[0]["recipe"]),
            (&json!(state), &json!(40), &json!("t.low"), &json!("drive"))
        );
        assert!(only[0]["since"].as_str().unwrap().starts_with("2023-11-14T"), "{held:#}");
        let rule = &only[0]["rules"][0];
        assert_eq!(
            (&rule["gate"], rule["evidence"]["row_keys"].as_array().unwrap().len()),
            (&json!("t.low"), 5)
        );
        assert_eq!(rule["gate_version"], RuleSet::parse(&text).unwrap().id());
        let listed = world.ok(&["gate", "list"]);
        assert!(listed.contains(state) && listed.contains("t.low"), "{listed}");

        let candidate = only[0]["candidate"].as_str().unwrap();
        let id = candidate.strip_prefix("quarantine/").unwrap_or(&candidate[..12]);
        let shown = world.json(&["gate", "show", id]);
        let failed: Vec<&Value> =
            shown.as_array().unwrap().iter().filter(|row| row["verdict"] == "fail").collect();
        assert_eq!((failed.len(), &failed[0]["gate"]), (1, &json!("t.low")));
        let offenders = failed[0]["offenders"].as_array().map(Vec::as_slice).unwrap_or_default();
        // Rows that wait are nowhere but in the raw tables they are made of.
        assert_eq!(offenders.len(), if state == "waiting" { 0 } else { 5 }, "{shown:#}");
        assert!(
            offenders.iter().all(|row| row["motion_n"].as_i64().unwrap() > 100 && row["device"] == "pi-1")
        );
        let text = world.ok(&["gate", "show", id]);
        assert!(text.contains("t.low") && text.contains("motion_n") || state == "waiting", "{text}");
    }
}

#[tokio::test]
async fn rules_are_tried_on_rows_that_are_there() {
    let world = World::new().await;
    let rules = |name: &str, body: &str| {
        let text = format!("headwater_gate = 1\nname = \"t\"\n[[rule]]\nname = \"r\"\n{body}");
        std::fs::write(world.path(name), text).unwrap();
    };
    let builtin = world.json(&["gate", "test"]);
    let verdicts: Vec<&str> =
        builtin.as_array().unwrap().iter().map(|row| row["verdict"].as_str().unwrap()).collect();
    assert_eq!((verdicts.len(), verdicts.contains(&"fail")), (9, false), "{builtin:#}");
    rules("some.toml", "check = \"rows\"\nfail_below = 10\n");
    let told = world.json(&["gate", "test", "some.toml"]);
    assert_eq!(
        (&told[0]["table"], &told[0]["rule"], &told[0]["verdict"], &told[0]["rows"]),
        (&json!("aligned.drive"), &json!("t.r"), &json!("pass"), &json!(40))
    );
    let said = world.ok(&["gate", "test", "some.toml"]);
    assert!(said.contains("aligned.drive") && said.contains("pass"), "{said}");
    // In pieces of a second there are four each.
    let pieces = ["gate", "test", "some.toml", "--window", "1s"];
    assert!(world.refused(&pieces).contains("1 of the rules above fail"));
    let found = world.run(&[&pieces[..], &["--json"]].concat());
    let told: Value = serde_json::from_slice(&found.stdout).unwrap();
    assert!(told[0]["windows"]["fail"].as_u64().unwrap() >= 10, "{told:#}");
    // Their pictures have a header and nothing else.
    rules("pictures.toml", "check = \"image\"\n");
    let found = world.run(&["gate", "test", "pictures.toml", "--json"]);
    let told: Value = serde_json::from_slice(&found.stdout).unwrap();
    assert_eq!((found.status.code(), &told[0]["offending"]), (Some(1), &json!(8)), "{told:#}");
    assert!(told[0]["evidence"].to_string().contains("picture is broken"), "{told:#}");
    // Rules of raw tables, and comparison with another ref.
    rules("raw.toml", "check = \"stuck\"\ncolumns = [\"n\"]\nrows = 3\n");
    assert!(
        world.refused(&["gate", "test", "raw.toml"]).contains("fail"),
        "aligned.drive has no such column"
    );
    assert_eq!(world.json(&["gate", "test", "raw.toml", "--table", "raw.imu"])[0]["rows"], 1_000);
    rules("drift.toml", "check = \"drift\"\ncolumns = [\"n\"]\nreference = \"main\"\nfail_above = 0.01\n");
    assert_eq!(world.json(&["gate", "test", "drift.toml", "--table", "raw.imu"])[0]["verdict"], "pass");
    // Mistakes name the fix.
    rules("wrong.toml", "check = \"rowz\"\n");
    assert!(world.refused(&["gate", "test", "wrong.toml"]).contains("did you mean \"rows\"?"));
    assert!(world.refused(&["gate", "test", "none.toml"]).contains("failed to read gate rules none.toml"));
    assert!(world.refused(&["gate", "test", "some.toml", "--table", "raw.x"]).contains("raw.imu"));
    let explained = world.ok(&["gate", "explain", "some.toml"]);
    assert!(explained.contains("fails   below 10"), "{explained}");
    assert!(world.ok(&["gate", "explain"]).contains("time_order"));
    assert_eq!(world.json(&["gate", "explain", "some.toml"])["name"], "t");
    assert!(world.json(&["gate", "schema"])["properties"]["rule"].is_object());
}

#[tokio::test]
async fn completion_knows_verbs_options_refs_tables_and_devices() {
    let world = World::new().await;
    let lake = world.lake().await;
    let head = lake.resolve("main").await.unwrap();
    lake.branch(&RefName::new("exp/left").unwrap(), &head, "test", 1).await.unwrap();
    lake.refs().tag(&RefName::new("v1").unwrap(), &head, "test", 1).await.unwrap();
    let complete = |words: &[&str]| {
        let found = world.ok(&[&["__complete", "--"], words].concat());
        found.lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(complete(&["wat"]), ["watch"]);
    assert!(
        complete(&[""]).contains(&"export".to_owned()) && !complete(&[""]).contains(&"__complete".to_owned())
    );
    assert_eq!(complete(&["scan", "raw.im"]), ["raw.image", "raw.imu"]);
    assert_eq!(complete(&["scan", "raw.imu", "--at", "exp"]), ["exp/left"]);
    assert_eq!(complete(&["scan", "raw.imu", "--at=v"]), ["--at=v1"]);
    assert_eq!(complete(&["log", "ma"]), ["main"]);
    assert_eq!(complete(&["log", &head.as_str()[..5]]), [head.short()]);
    assert_eq!(complete(&["export", "raw.imu", "--format", "hug"]), ["huggingface"]);
    assert_eq!(complete(&["scan", "raw.imu", "--device", ""]), ["pi-1"]);
    assert_eq!(complete(&["scan", "--fr"]), ["--from"]);
    assert_eq!(complete(&["gate", "wa"]), ["waive"]);
    assert_eq!(complete(&["clone", "la"]), ["lake/"]);
    assert!(complete(&["--lake", "nowhere", "log", ""]).is_empty(), "a lake that is not there has no refs");
}

#[tokio::test]
async fn bash_completes_by_the_printed_script() {
    let world = World::new().await;
    let script = world.ok(&["completions", "bash"]);
    std::fs::write(world.path("headwater.bash"), &script).unwrap();
    let checked = Command::new("bash").arg("-n").arg(world.path("headwater.bash")).output().unwrap();
    assert!(checked.status.success(), "{checked:?}");
    let program = Path::new(env!("CARGO_BIN_EXE_headwater"));
    let ask = |words: &[&str]| {
        let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
        let line = format!(
            "source headwater.bash; COMP_WORDS=({} {}); COMP_CWORD={}; _headwater; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            program.display(),
            quoted.join(" "),
            words.len(),
        );
        let found = Command::new("bash")
            .args(["--norc", "-c", &line])
            .env("HEADWATER_LAKE", "lake")
            .current_dir(world.dir.path())
            .output()
            .unwrap();
        assert!(found.status.success(), "{found:?}");
        String::from_utf8(found.stdout).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(ask(&["scan", "raw.imu", "--at", "ma"]), ["main"]);
    assert_eq!(ask(&["scan", "raw.im"]), ["raw.image", "raw.imu"]);
    // As bash divides `--at=ma`.
    assert_eq!(ask(&["scan", "raw.imu", "--at", "=", "ma"]), ["main"]);
    assert_eq!(ask(&["expo"]), ["export", "export-manifest"]);
    for (shell, words) in [("zsh", "#compdef headwater"), ("fish", "complete --command headwater")] {
        assert!(world.ok(&["completions", shell]).contains(words));
        // Checked by the shell itself where there is one.
        let file = world.path(shell);
        std::fs::write(&file, world.ok(&["completions", shell])).unwrap();
        if let Ok(checked) = Command::new(shell).arg("-n").arg(&file).output() {
            assert!(checked.status.success(), "{checked:?}");
        }
    }
}

/// Leaves exports of every form where `HEADWATER_EXPORTS` says, for other people's readers.
#[tokio::test]
#[ignore = "leaves exports for other readers: `tests/run exports` runs it"]
async fn exports_for_other_readers() {
    let place = PathBuf::from(std::env::var_os("HEADWATER_EXPORTS").unwrap());
    std::fs::create_dir_all(&place).unwrap();
    let world = World::new().await;
    for (table, format) in [
        ("raw.imu", "parquet"),
        ("raw.imu", "csv"),
        ("raw.imu", "jsonl"),
        ("raw.image", "images"),
        ("raw.image", "huggingface"),
        ("aligned.drive", "huggingface"),
    ] {
        let out = place.join(format!("{table}-{format}"));
        world.ok(&["export", table, "--format", format, "--force", "--out", out.to_str().unwrap()]);
    }
}

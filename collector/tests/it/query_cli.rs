//! The `headwater` command line on a small lake: what people see, what scripts read, and how mistakes are told.

use crate::ingest_world;

use headwater_collector::ingest::IngestSettings;
use headwater_core::batch::Section;
use headwater_core::gap::{GapCause, GapRecord};
use headwater_core::id::{BootOrdinal, Seq};
use headwater_core::sample::Value as Sampled;
use headwater_core::schema::{Logical, builtin};
use headwater_core::time::BootNanos;
use headwater_lake::{Lake, RefName};
use ingest_world::*;
use serde_json::Value;
use std::process::{Command, Stdio};

/// What the command printed, and how it ended.
#[derive(Debug)]
struct Output {
    code: Option<i32>,
    out: String,
    err: String,
}

struct TestLake {
    dir: tempfile::TempDir,
    /// The branch's commits, newest first.
    commits: Vec<String>,
}

impl TestLake {
    /// A lake without a commit.
    async fn empty() -> (Self, Lake) {
        let dir = tempfile::tempdir().unwrap();
        let lake = Lake::init(dir.path().join("lake").to_str().unwrap()).await.unwrap();
        (Self { dir, commits: Vec::new() }, lake)
    }

    /// Ten seconds of one gateway, and a second commit with a gap record.
    async fn full() -> Self {
        let (mut made, lake) = Self::empty().await;
        let gateway = Gateway::new("pi-1", 7);
        let mut log = MemoryLog::of(&ten_seconds(&gateway));
        live(&lake, &log, &[drive(&["image", "name"])]).await;
        log.incarnations.push(vec![gateway.batch(&[shed(&gateway)], imu_at(1_100))]);
        live(&lake, &log, &[drive(&["image", "name"])]).await;
        let commits = lake.log("main", usize::MAX).await.unwrap();
        made.commits = commits.into_iter().map(|commit| commit.id.to_string()).collect();
        assert!(made.commits.len() >= 2);
        lake.branch(
            &RefName::new("kept/first").unwrap(),
            &made.first().parse().unwrap(),
            "test",
            1_700_000_000_000_000,
        )
        .await
        .unwrap();
        made
    }

    /// The first commit that holds rows.
    fn first(&self) -> &str {
        self.commits.last().unwrap()
    }

    fn run(&self, words: &[&str]) -> Output {
        let output = Command::new(env!("CARGO_BIN_EXE_headwater"))
            .env_remove("HEADWATER_LAKE")
            .arg("--lake")
            .arg(self.dir.path().join("lake"))
            .args(words)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        Output {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// What it prints if all is well.
    fn ok(&self, words: &[&str]) -> String {
        let found = self.run(words);
        assert_eq!((found.code, found.err.as_str()), (Some(0), ""), "{words:?}: {found:?}");
        found.out
    }

    /// Its one JSON document.
    fn json(&self, words: &[&str]) -> Value {
        let words: Vec<&str> = words.iter().copied().chain(["--json"]).collect();
        serde_json::from_str(&self.ok(&words)).unwrap_or_else(|e| panic!("{words:?}: {e}"))
    }

    /// What it says if it cannot: one line on standard error, nothing on standard output.
    fn refused(&self, words: &[&str]) -> String {
        let found = self.run(words);
        assert_eq!((found.code, found.out.as_str()), (Some(1), ""), "{words:?}: {found:?}");
        assert!(
            found.err.starts_with("headwater: ") && found.err.lines().count() == 1,
            "{words:?}: {found:?}"
        );
        found.err
    }
}

/// Rows 1000 to 1099 of the IMU were shed, as a section of `hw/gaps`.
fn shed(gateway: &Gateway) -> Section {
    let gap = GapRecord {
        stream: "imu".parse().unwrap(),
        boot_ordinal: BootOrdinal(1),
        seq_first: Seq(1_000),
        seq_last: Seq(1_099),
        cause: GapCause::EvictedDiskFull,
        stride: 0,
        phase: 0,
        rows: 100,
        bytes: 2_000,
        b_first: BootNanos(imu_at(1_000)),
        b_last: BootNanos(imu_at(1_099)),
        policy_version: 0,
        note: "card is full".to_owned(),
    };
    Section::Rows(gateway.rows(GAPS, &builtin::gaps(), 0, &[(imu_at(1_100), gap.to_values())]))
}

fn assert_words(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word:?} is not in\n{text}");
    }
}

fn names(tables: &Value) -> Vec<&str> {
    tables.as_array().unwrap().iter().map(|table| table["name"].as_str().unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn log_and_show_tell_the_history() {
    let lake = TestLake::full().await;
    let text = lake.ok(&["log"]);
    assert_words(&text, &["commit", "kind", "rows", "message"]);
    lake.commits.iter().for_each(|id| assert_words(&text, &[&id[..12]]));

    let log = lake.json(&["log"]);
    let ids: Vec<&str> =
        log.as_array().unwrap().iter().map(|commit| commit["id"].as_str().unwrap()).collect();
    assert_eq!(ids, lake.commits, "newest first");
    let newest = lake.json(&["log", "--limit", "1"]);
    assert_eq!(newest.as_array().map(Vec::len), Some(1));
    assert_eq!(newest[0]["id"], lake.commits[0].as_str());
    let branch = lake.json(&["log", "kept/first"]);
    assert_eq!(branch[0]["id"], lake.first(), "another branch is another history");

    let text = lake.ok(&["show", &lake.first()[..12]]);
    let id = format!("commit   {}", lake.first());
    assert_words(&text, &[&id, "kind     ", "time     20", "parents ", "landing ", "raw.imu", "1000"]);
    let shown = lake.json(&["show", lake.first()]);
    assert_eq!((&shown["id"], &shown["tables"]["raw.imu"]["rows"]), (&lake.first().into(), &1_000.into()));
    assert_eq!(lake.json(&["show", "main~1"])["id"], lake.commits[1].as_str());
}

#[tokio::test(start_paused = true)]
async fn tables_devices_and_gaps_are_those_of_the_ref() {
    let lake = TestLake::full().await;
    let (now, first) = (lake.json(&["tables"]), lake.json(&["tables", "--at", "kept/first"]));
    for name in ["raw.imu", "raw.image", "ops.ledger", "ops.devices"] {
        assert!(names(&now).contains(&name) && names(&first).contains(&name), "{name}: {first}");
    }
    assert!(names(&now).contains(&"ops.gaps") && names(&now).contains(&"aligned.drive"), "{now}");
    for table in now.as_array().unwrap() {
        let location = table["metadata_location"].as_str().unwrap();
        let path = location.strip_prefix("file://").unwrap();
        assert!(std::path::Path::new(path).is_file(), "{location}");
    }
    assert_words(&lake.ok(&["tables"]), &["name", "rows", "metadata_location", "raw.imu", "file://"]);

    let devices = lake.json(&["devices"]);
    assert_eq!(devices.as_array().map(Vec::len), Some(1));
    assert_eq!(
        (&devices[0]["device"], &devices[0]["agent_version"]),
        (&"pi-1".into(), &"headwater-agent 0.1.0".into())
    );
    assert_words(&lake.ok(&["devices", "--at", "main"]), &["device", "agent_version", "pi-1"]);

    let gaps = lake.json(&["gaps"]);
    assert_eq!(gaps.as_array().map(Vec::len), Some(1), "{gaps}");
    let (lo, hi) = (&gaps[0]["seq_lo"], &gaps[0]["seq_hi"]);
    assert_eq!(
        (&gaps[0]["stream"], lo, hi, &gaps[0]["rows"]),
        (&"imu".into(), &1_000.into(), &1_099.into(), &100.into())
    );
    assert_words(&lake.ok(&["gaps"]), &["imu", "1000", "1099", "card is full"]);
    assert_words(&lake.ok(&["gaps", "--at", "kept/first"]), &["no gaps: every capture is accounted for"]);
    assert_eq!(lake.json(&["gaps", "--at", "kept/first"]), Value::Array(Vec::new()));
}

#[tokio::test(start_paused = true)]
async fn scan_prints_rows_for_people_and_a_line_each_for_scripts() {
    let lake = TestLake::full().await;
    let text = lake.ok(&["scan", "raw.imu", "--at", "main", "--limit", "3", "--columns", "seq,accel_x,mode"]);
    assert_words(&text, &["seq", "accel_x", "mode", "idle"]);
    assert!(!text.contains("device"), "only the columns asked for: {text}");

    let lines = |words: &[&str]| -> Vec<Value> {
        lake.ok(words).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let rows = lines(&["scan", "raw.imu", "--at", lake.first(), "--limit", "5000", "--json"]);
    let mut seqs: Vec<u64> = rows.iter().map(|row| row["seq"].as_u64().unwrap()).collect();
    seqs.sort_unstable();
    assert_eq!(seqs, (0..1_000).collect::<Vec<_>>(), "every row once");
    let seventeenth = rows.iter().find(|row| row["seq"] == 17).unwrap();
    assert_eq!(seventeenth["accel_x"], "NaN", "what JSON has no number for is text");
    assert_eq!(
        (&rows[0]["device"], rows[0]["note"].is_null()),
        (&"pi-1".into(), rows[0]["seq"].as_u64().unwrap() % 5 != 0)
    );
    assert!(
        rows[0]["ts"].as_str().unwrap().ends_with('Z') && rows[0]["ts_err_ns"].is_number(),
        "{}",
        rows[0]
    );

    let frames = lines(&["scan", "raw.image", "--limit", "2", "--json"]);
    assert_eq!(
        (frames.len(), &frames[0]["image"]["bytes"]["bytes"]),
        (2, &600.into()),
        "bytes are shown by their number"
    );
    assert_eq!(lines(&["scan", "raw.imu", "--json"]).len(), 20, "a bound unless told otherwise");
    assert_eq!(lines(&["scan", "raw.imu", "--limit", "0", "--json"]).len(), 1_000, "no bound");
    assert_eq!(lines(&["scan", "aligned.drive", "--limit", "100", "--json"]).len(), 40);
}

#[tokio::test(start_paused = true)]
async fn views_name_every_table_of_the_ref() {
    let lake = TestLake::full().await;
    let sql = lake.ok(&["views", "--at", "main"]);
    assert_words(
        &sql,
        &[&format!("-- Views over commit {}", lake.commits[0]), "CREATE SCHEMA IF NOT EXISTS \"raw\";"],
    );
    for table in lake.json(&["tables"]).as_array().unwrap() {
        let (namespace, name) = table["name"].as_str().unwrap().split_once('.').unwrap();
        let location = table["metadata_location"].as_str().unwrap();
        let view = format!("VIEW \"{namespace}\".\"{name}\" AS SELECT * FROM iceberg_scan('{location}');");
        assert_words(&sql, &[&view]);
    }
    let folder = lake.dir.path().join("extensions");
    let words = ["views", "--at", "kept/first", "--duckdb-extensions", folder.to_str().unwrap()];
    assert_words(&lake.refused(&words), &["avro.duckdb_extension is not below", "--duckdb-extensions"]);
    std::fs::create_dir_all(folder.join("wheel")).unwrap();
    for name in ["avro", "httpfs", "iceberg"] {
        std::fs::write(folder.join(format!("wheel/{name}.duckdb_extension")), "").unwrap();
    }
    let first = lake.ok(&words);
    assert_words(&first, &[lake.first(), "LOAD '", "/wheel/iceberg.duckdb_extension';"]);
    assert!(!first.contains("INSTALL"), "{first}");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_there_is_an_error_that_names_the_fix() {
    let lake = TestLake::full().await;
    assert_words(
        &lake.refused(&["scan", "raw.nothing"]),
        &["has no table raw.nothing", "raw.imu", "raw.image"],
    );
    assert_words(&lake.refused(&["scan", "imu"]), &["\"imu\"", "namespace.table"]);
    assert_words(&lake.refused(&["scan", "raw.imu", "--columns", "seq,acel"]), &["acel"]);
    for words in [
        &["log", "nowhere"][..],
        &["show", "nowhere"],
        &["show", "main~99"],
        &["tables", "--at", "nowhere"],
        &["devices", "--at", "nowhere"],
        &["gaps", "--at", "nowhere"],
        &["scan", "raw.imu", "--at", "nowhere"],
        &["views", "--at", "nowhere"],
    ] {
        let error = lake.refused(words);
        assert_words(&error, &["no such ref, tag or commit", words[words.len() - 1]]);
    }
    for words in [&["lgo"][..], &["scan"], &["show"], &["log", "--limit", "many"]] {
        let found = lake.run(words);
        assert_eq!((found.code, found.out.as_str()), (Some(2), ""), "{words:?}: {found:?}");
        assert_words(&found.err, &["--help"]);
    }
    assert_words(&lake.ok(&["--help"]), &["Examples:", "log", "views", "headwater --lake"]);
}

#[tokio::test(start_paused = true)]
async fn a_lake_without_a_commit_says_so_and_a_folder_without_a_lake_is_an_error() {
    let (lake, _) = TestLake::empty().await;
    assert_eq!(lake.ok(&["log"]), "no commits yet\n");
    assert_eq!(lake.json(&["log"]), Value::Array(Vec::new()));
    assert_words(&lake.refused(&["log", "nowhere"]), &["nowhere"]);

    let nothing = TestLake { dir: tempfile::tempdir().unwrap(), commits: Vec::new() };
    assert_words(&nothing.refused(&["log"]), &["open lake at", "name an existing lake (--lake)"]);
}

#[tokio::test(start_paused = true)]
async fn what_was_set_aside_is_counted_by_device_stream_and_reason_until_it_is_released() {
    let (made, lake) = TestLake::empty().await;
    assert_words(&made.ok(&["quarantine"]), &["nothing lies in quarantine"]);
    let (fleet, other) = (Gateway::new("pi-1", 7), Gateway::new("pi-2", 9));
    let mut schema = imu_schema();
    schema.fields[0].logical = Logical::F64;
    let mut records = fleet.declarations();
    records.push(other.declare(IMU, "imu", schema.clone()));
    for seq in 0..3 {
        let values = vec![Sampled::F64(1.0), Sampled::F32(0.0), Sampled::I64(0), Sampled::Null];
        let rows = other.rows(
            IMU,
            &schema,
            seq * 2,
            &[(imu_at(seq * 2), values.clone()), (imu_at(seq * 2 + 1), values)],
        );
        records.push(other.batch(&[Section::Rows(rows)], imu_at(seq * 2 + 1)));
    }
    let log = MemoryLog::of(&records);
    live(&lake, &log, &[]).await;
    let found = made.json(&["quarantine"]);
    assert_eq!(found.as_array().map(Vec::len), Some(1), "{found}");
    let row = &found[0];
    assert_eq!(
        (&row["device"], &row["stream"], &row["reason"]),
        (&"pi-2".into(), &"imu".into(), &"schema".into())
    );
    assert_eq!((&row["held"], &row["rows"], &row["released"]), (&3.into(), &6.into(), &0.into()));
    assert_words(&made.ok(&["quarantine"]), &["pi-2", "imu", "schema", "field n of kind imu is Double"]);

    // The operator's word, as it is typed.
    let config = made.dir.path().join("collector.toml");
    std::fs::write(&config, COLLECTOR).unwrap();
    let requeue = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_headwater-collector"));
        command.args(["requeue", "--config"]).arg(&config).args(words).output().unwrap()
    };
    let refused = requeue(&["--rename", "n=n_double"]);
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && told.contains("add --device or --stream"), "{told}");
    let asked = requeue(&["--device", "pi-2", "--reason", "schema", "--rename", "n=n_double"]);
    let told = String::from_utf8(asked.stdout).unwrap();
    assert!(asked.status.success() && told.contains("the collector answers within 10 s"), "{told}");
    let settings = IngestSettings { requests: Some(made.dir.path().join("landing")), ..settings() };
    live_as(&lake, &log, &[], settings).await;
    let found = made.json(&["quarantine"]);
    let row = &found[0];
    assert_eq!((&row["held"], &row["rows"], &row["released"]), (&0.into(), &0.into(), &3.into()));
    assert_eq!(table(&lake, "raw.imu").await.len(), 6);
}

/// As README's.
const COLLECTOR: &str = r#"
[tenant]
name = "acme"
[identity]
ca = "pki/ca.pem"
tls_cert = "pki/tls.pem"
tls_key = "pki/tls.key"
sign_cert = "pki/sign.pem"
sign_key = "pki/sign.key"
[mqtt]
broker = "mqtts://broker.example:8883"
client_id = "collector-1"
[landing]
dir = "landing"
[lake]
location = "lake"
branch = "main"
"#;

#[tokio::test(start_paused = true)]
async fn clocks_are_told_of_the_fleet_and_of_one_over_time() {
    let made = TestLake::full().await;
    let fleet = made.ok(&["clock"]);
    assert!(
        fleet.contains("pi-1") && fleet.contains("guaranteed") && fleet.contains("collector_exchange"),
        "{fleet}"
    );
    let fleet = made.json(&["clock"]);
    assert_eq!((&fleet[0]["device"], &fleet[0]["boot"]), (&"pi-1".into(), &1.into()));

    let page = made.ok(&["clock", "pi-1"]);
    for part in [
        "clock    guaranteed, within ±",
        "drift    not known yet",
        "collector_exchange: ",
        "bound    ",
        "wall clock off by",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let one = made.json(&["clock", "pi-1", "--boot", "1"]);
    let points = one["points"].as_array().unwrap();
    assert!(points.len() > 100);
    let at = |point: &Value, name: &str| point[name].as_i64().unwrap();
    for point in points {
        let off = (at(point, "ts_ns") - START - at(point, "b_ns")).abs();
        assert!(off <= at(point, "err_ns"), "{point}");
    }
    assert!(points.windows(2).all(|pair| at(&pair[0], "ts_ns") < at(&pair[1], "ts_ns")));
    assert_eq!(one["sources"]["collector_exchange"]["grade"], "guaranteed");
}

#[tokio::test(start_paused = true)]
async fn a_clock_is_drawn_as_one_file_that_needs_nothing_else() {
    let made = TestLake::full().await;
    let file = made.dir.path().join("pi-1.svg");
    let said = made.ok(&["clock", "pi-1", "--svg", file.to_str().unwrap()]);
    assert!(said.contains("picture  "), "{said}");
    let svg = std::fs::read_to_string(&file).unwrap();
    assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"));
    assert!(
        svg.contains("prefers-color-scheme:dark") && svg.contains("<text") && svg.contains("Clock of pi-1")
    );
    assert!(
        !svg.contains("href") && !svg.contains("url(") && !svg.contains("NaN") && !svg.contains("inf"),
        "{svg}"
    );
    assert_eq!(svg.matches("http").count(), 1, "the namespace and nothing else");
}

#[tokio::test(start_paused = true)]
async fn likely_mistakes_about_clocks_name_their_cure() {
    let made = TestLake::full().await;
    let missing = made.dir.path().join("no/such/clock.svg");
    for (words, part) in [
        (&["clock", "pi-9"][..], "no device pi-9 in this commit; known are: pi-1"),
        (&["clock", "Pi 9"], "is no device's name"),
        (&["clock", "pi-1", "--boot", "8"], "nothing is known of boot 8 of pi-1; known are: 1"),
        (&["clock", "pi-1", "--svg", missing.to_str().unwrap()], "make it first (mkdir -p "),
        (&["clock", "--svg", "fleet.svg"], "--svg needs a device"),
    ] {
        let said = made.refused(words);
        assert!(said.contains(part), "{said}");
    }
    let (empty, _lake) = TestLake::empty().await;
    assert!(empty.ok(&["clock"]).contains("no clock rows yet"));
    assert!(empty.refused(&["clock", "pi-1"]).contains("known are: none yet"));
}

#[tokio::test]
async fn files_are_merged_on_demand_and_a_day_as_if_it_were_over() {
    let (made, lake) = TestLake::empty().await;
    let gateway = Gateway::new("pi-1", 7);
    let mut log = MemoryLog::of(&ten_seconds(&gateway));
    live(&lake, &log, &[]).await;
    for n in 10..13 {
        log.incarnations
            .push(vec![gateway.batch(&[gateway.imu(n * 100..n * 100 + 100)], imu_at(n * 100 + 100))]);
        live(&lake, &log, &[]).await;
    }
    let due: Value =
        serde_json::from_str(&made.run(&["compact", "--dry-run", "--day", "2023-11-14", "--json"]).out)
            .unwrap();
    let imu = due.as_array().unwrap().iter().find(|row| row["table"] == "raw.imu").unwrap();
    assert_eq!((&imu["files"], &imu["into"], &imu["when"]), (&4.into(), &"day".into(), &"now".into()));
    let before = table(&lake, "raw.imu").await.len();

    let said = made.run(&["compact", "raw.imu", "--day", "2023-11-14"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.starts_with("4 files into 1, "), "{}", said.out);
    assert_eq!(table(&lake, "raw.imu").await.len(), before);
    let again: Value = serde_json::from_str(&made.run(&["compact", "raw.imu", "--json"]).out).unwrap();
    assert_eq!((&again["files_in"], &again["commits"]), (&0.into(), &Value::Array(Vec::new())));
    for (args, words) in [
        (&["compact", "raw"][..], "write namespace.table"),
        (&["compact", "raw.none"], "it has none of that name"),
        (&["compact", "--at", "nowhere"], "no such ref"),
        (&["compact", "--day", "yesterday"], "--day"),
    ] {
        let said = made.run(args);
        assert_ne!(said.code, Some(0), "{args:?}");
        assert!(said.err.contains(words), "{args:?}: {}", said.err);
    }
}

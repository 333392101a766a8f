//! A gateway dies before it ever reached its broker, and its card is carried to the collector.

use crate::agent_cli::{CAMERA, Gateway, ROOM};
use crate::setup::{Output, program, run_role};
use headwater_tests::procs::Proc;
use headwater_tests::status::AgentStatus;
use headwater_tests::ticks::wait_until;
use headwater_tests::world::{World, role_args};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// Longest wait for an agent of a debug build to capture a handful of rows, on a busy machine.
const CAPTURE_LIMIT: Duration = Duration::from_secs(90);
const PICTURES: u64 = 3;

fn headwater(world: &World, words: &[&str]) -> Output {
    let lake = world.path("lake");
    let mut all = vec!["--lake", lake.to_str().unwrap()];
    all.extend(words);
    run_role("headwater", &all)
}

/// Rows of a table by seq.
fn rows(world: &World, table: &str) -> BTreeMap<u64, Value> {
    let scanned = headwater(world, &["scan", table, "--json", "--limit", "100000"]);
    assert!(scanned.success, "{scanned:?}");
    let rows: Vec<Value> = match serde_json::from_str::<Value>(&scanned.out) {
        Ok(Value::Array(rows)) => rows,
        _ => scanned.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
    };
    let count = rows.len();
    let by_seq: BTreeMap<u64, Value> =
        rows.into_iter().map(|row| (row["seq"].as_u64().unwrap(), row)).collect();
    assert_eq!(by_seq.len(), count, "each row of {table} once");
    by_seq
}

/// Captures rows and pictures without a broker, and is killed.
fn a_dead_gateway(gateway: &Gateway) -> std::path::PathBuf {
    let world = &gateway.world;
    let config = gateway.config(&format!("{ROOM}{CAMERA}"));
    let args = role_args("agent", "run", &config);
    let mut agent = Proc::new("agent", program(), args, world.path("logs/agent.log")).in_own_group();
    agent.start().unwrap();
    let picture = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/demo/camera/0001.jpg");
    for n in 0..PICTURES {
        let draft = world.path("draft.jpg");
        let mut bytes = fs::read(&picture).unwrap();
        // Another picture each time: what follows a JPEG's end is no part of it.
        bytes.extend_from_slice(&n.to_le_bytes());
        fs::write(&draft, bytes).unwrap();
        fs::rename(&draft, world.path(&format!("camera/{n}.jpg"))).unwrap();
    }
    let status = world.path("status.json");
    let captured = wait_until(CAPTURE_LIMIT, || {
        AgentStatus::read(&status).is_some_and(|status| {
            status.next_seq("env/room").unwrap_or(0) >= 15
                && status.next_seq("camera/front").unwrap_or(0) >= PICTURES
        })
    });
    assert!(captured, "{}", agent.last_words());
    // The lock ends with the process, however it ends.
    let second = run_role("agent", &["run", "--config", config.to_str().unwrap()]);
    assert!(second.err.contains("in use by another process"), "two agents on one spool: {second:?}");
    let stat = run_role("agent", &["spool", "stat", "--config", config.to_str().unwrap(), "--json"]);
    let stat: Value = serde_json::from_str(&stat.out).unwrap();
    assert!(stat["agent"]["written_bytes"].as_u64().unwrap() > 0, "{stat}");
    assert!(stat["agent"]["loss_ms"].as_u64().unwrap() <= 100, "{stat}");
    agent.kill().unwrap();
    config
}

#[test]
fn the_card_of_a_dead_gateway_reaches_the_lake_once() {
    let gateway = Gateway::new();
    let world = &gateway.world;
    let config = a_dead_gateway(&gateway);
    let config = config.to_str().unwrap();
    let spool = |words: &[&str]| {
        let mut all = vec!["spool"];
        all.extend(words);
        all.extend(["--config", config]);
        run_role("agent", &all)
    };
    let checked = spool(&["fsck", "--json"]);
    let checked_report: Value = serde_json::from_str(&checked.out).unwrap();
    let damage = checked_report["findings"].as_array().unwrap().iter().filter(|f| f["severity"] == "damage");
    assert_eq!(damage.count(), 0, "{checked:?}");

    // Its rows as a person sees them, to hold the lake against.
    let look = world.path("look");
    let csv = spool(&["export", "--out", look.to_str().unwrap()]);
    assert_eq!(csv.code, Some(0), "{csv:?}");
    let table = fs::read_to_string(look.join("env+room.csv")).unwrap();
    let truth: BTreeMap<u64, (f64, f64)> = table
        .lines()
        .skip(1)
        .map(|line| {
            let cells: Vec<&str> = line.split(',').collect();
            (cells[2].parse().unwrap(), (cells[9].parse().unwrap(), cells[10].parse().unwrap()))
        })
        .collect();
    assert!(truth.len() >= 15, "{table}");

    let file = world.path("pi.hwx");
    let file = file.to_str().unwrap();
    let exported = spool(&["export", "--out", file, "--json"]);
    assert_eq!(exported.code, Some(0), "{exported:?}");
    let exported: Value = serde_json::from_str(&exported.out).unwrap();
    assert_eq!((exported["signed"].as_bool(), exported["blobs"].as_u64()), (Some(true), Some(PICTURES)));

    let collector = world.write_collector().unwrap();
    let import = |file: &str| {
        let words = ["import", "--config", collector.to_str().unwrap(), "--json", file];
        let done = headwater(world, &words);
        (done.code, serde_json::from_str::<Value>(&done.out).unwrap_or_else(|_| panic!("{done:?}")))
    };
    let (code, first) = import(file);
    assert_eq!((code, first["state"].as_str()), (Some(0), Some("committed")), "{first}");
    assert_eq!(first["rows"]["new"], exported["rows"], "{first}");
    let lake: BTreeMap<u64, (f64, f64)> = rows(world, "raw.env")
        .into_iter()
        .map(|(seq, row)| (seq, (row["temperature"].as_f64().unwrap(), row["humidity"].as_f64().unwrap())))
        .collect();
    assert_eq!(lake, truth);
    assert_eq!(rows(world, "raw.image").len() as u64, PICTURES);

    let (code, again) = import(file);
    assert_eq!((code, again["state"].as_str()), (Some(0), Some("nothing_new")), "{again}");

    // The same card without its key: signed by the collector, and all of it known.
    let raw = world.path("raw.hwx");
    let raw = raw.to_str().unwrap();
    assert_eq!(spool(&["export", "--out", raw, "--unsigned"]).code, Some(0));
    let (code, again) = import(raw);
    assert_eq!((code, again["rows"]["known"].clone()), (Some(0), exported["rows"].clone()), "{again}");
    assert_eq!(rows(world, "raw.env").len(), truth.len());
}

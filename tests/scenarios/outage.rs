//! An outage longer than the spool is deep: pictures are thinned and then dropped, numbers stay, and the lake knows of
//! every row that is missing, and why.

use crate::agent_cli::{CAMERA, Gateway, ROOM};
use crate::setup::{Output, program, run_role};
use headwater_tests::procs::Proc;
use headwater_tests::status::AgentStatus;
use headwater_tests::ticks::wait_until;
use headwater_tests::world::{World, role_args};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// Longest wait for a step of debug builds on a busy machine.
const STEP_LIMIT: Duration = Duration::from_secs(180);
/// Pictures of a quarter of a mebibyte, half as many again as the budget of 64 MiB holds.
const PICTURES: u64 = 384;
const PICTURE_BYTES: usize = 256 << 10;

/// Another picture each time, and hard to compress: what follows a JPEG's end is no part of it.
fn picture(n: u64) -> Vec<u8> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/demo/camera/0001.jpg");
    let mut bytes = fs::read(file).unwrap();
    let mut state = n + 1;
    while bytes.len() < PICTURE_BYTES {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes
}

fn headwater(world: &World, words: &[&str]) -> Output {
    let lake = world.path("lake");
    let mut all = vec!["--lake", lake.to_str().unwrap()];
    all.extend(words);
    run_role("headwater", &all)
}

/// Rows of a table; none before there is one.
fn rows(world: &World, table: &str, columns: &str) -> Vec<Value> {
    let words = ["scan", table, "--columns", columns, "--json", "--limit", "100000"];
    headwater(world, &words).out.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn seqs(world: &World, table: &str) -> BTreeSet<u64> {
    rows(world, table, "seq").iter().filter_map(|row| row["seq"].as_u64()).collect()
}

/// Seqs of a stream that gap records account for, and the causes they give.
fn told(world: &World, stream: &str) -> (BTreeSet<u64>, BTreeSet<String>) {
    let gaps = rows(world, "ops.gaps", "stream,seq_lo,seq_hi,stride,phase,cause");
    let (mut told, mut causes) = (BTreeSet::new(), BTreeSet::new());
    for gap in gaps.iter().filter(|gap| gap["stream"] == stream) {
        let number = |key: &str| gap[key].as_u64().unwrap_or(0);
        let (first, last, stride, phase) =
            (number("seq_lo"), number("seq_hi"), number("stride"), number("phase"));
        told.extend((first..=last).filter(|seq| stride < 2 || (seq - first) % stride != phase % stride));
        causes.insert(gap["cause"].as_str().unwrap_or_default().to_owned());
    }
    (told, causes)
}

#[test]
fn an_outage_longer_than_the_spool_is_told_row_by_row() {
    let gateway = Gateway::new();
    let world = &gateway.world;
    let config = gateway.config(&format!("{ROOM}{CAMERA}"));
    let collector_toml = world.write_collector().unwrap();
    let start = |name, role, verb, config: &Path| {
        let log = world.path(&format!("logs/{name}.log"));
        let mut proc = Proc::new(name, program(), role_args(role, verb, config), log).in_own_group();
        proc.start().unwrap();
        proc
    };
    let mut agent = start("agent", "agent", "run", &config);
    let status = || AgentStatus::read(&world.path("status.json"));
    let mut offered = 0;
    let captured = wait_until(STEP_LIMIT, || {
        let seen = status().and_then(|status| status.next_seq("camera/front")).unwrap_or(0);
        // A few at a time: the folder is not the spool.
        while offered < PICTURES && offered < seen + 32 {
            let draft = world.path("draft.jpg");
            fs::write(&draft, picture(offered)).unwrap();
            fs::rename(&draft, world.path(&format!("camera/{offered:04}.jpg"))).unwrap();
            offered += 1;
        }
        seen >= PICTURES
    });
    assert!(captured, "{}", agent.last_words());
    let evicted = wait_until(STEP_LIMIT, || {
        status().is_some_and(|status| status.json()["spool"]["evicted_rows"].as_u64() > Some(10))
    });
    let spool = status().unwrap().json()["spool"].clone();
    assert!(evicted && spool["bytes"].as_u64() <= Some(64 << 20), "{spool}");
    let words = run_role("agent", &["status", "--config", config.to_str().unwrap()]);
    assert!(words.out.contains("made way"), "{words:?}");

    let mut broker = start("broker", "collector", "broker", &collector_toml);
    let mut collector = start("collector", "collector", "run", &collector_toml);
    let mut state = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let all = wait_until(STEP_LIMIT, || {
        let (gaps, causes) = told(world, "camera/front");
        state = (seqs(world, "raw.image"), gaps, causes);
        (0..PICTURES).all(|seq| state.0.contains(&seq) || state.1.contains(&seq))
    });
    let (pictures, gaps, causes) = state;
    assert!(all, "{} here, {} told; {}", pictures.len(), gaps.len(), agent.last_words());
    assert!(pictures.is_disjoint(&gaps), "a row that is here is told as missing");
    assert!(pictures.len() > 120 && gaps.len() > 40, "{} here, {} told", pictures.len(), gaps.len());
    assert!(causes.contains("thinned"), "{causes:?}");
    // Numbers are worth more than pictures: none of them is missing.
    let shown = headwater(world, &["gaps"]);
    assert!(shown.out.contains("thinned") && shown.out.contains("camera/front"), "{shown:?}");
    let rooms = seqs(world, "raw.env");
    assert!(rooms.len() > 10 && (0..rooms.len() as u64).all(|seq| rooms.contains(&seq)), "{rooms:?}");
    assert!(told(world, "env/room").0.is_empty());
    for (proc, limit) in [(&mut agent, 30), (&mut collector, 30), (&mut broker, 5)] {
        assert!(proc.stop(Duration::from_secs(limit)).unwrap(), "{}", proc.last_words());
    }
}

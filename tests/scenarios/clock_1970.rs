//! A gateway that wakes in 1970: it captures, gets through mTLS to its broker, and its rows come out with the time of
//! day that the collector's clock gives them.

use crate::site::{Plan, Site};
use headwater_tests::ticks::unix_seconds;
use headwater_tests::truth::Table;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Longest wait for a step of debug builds on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// A library that turns the wall clock of whoever loads it back to a minute after 1970. Made by the linker's own
/// compiler driver, which every Rust toolchain on Linux needs.
fn clock_of_1970(dir: &Path) -> std::path::PathBuf {
    let library = dir.join("clock_1970.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/clock_1970.c");
    let made = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror"])
        .arg(format!("-DBEHIND_S={}L", unix_seconds() - 60))
        .arg("-o")
        .args([&library, &source])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    library
}

#[test]
fn a_gateway_in_1970_ships_over_mtls_and_its_rows_are_of_today() {
    let dir = tempfile::tempdir().unwrap();
    let began = unix_seconds();
    let mut site = Site::start(&Plan { preload: Some(clock_of_1970(dir.path())), ..Plan::default() });
    site.take_picture(50_000);
    site.wait(LIMIT, "picture in the lake", |site| site.stream("camera/front").is_some_and(|c| c.1 == 1));
    site.raise_alarm(LIMIT);
    assert!(site.link("acks_rejected") == 0 && site.link("reconnects") == 0, "{}", site.words());
    let lake = site.world.path("lake").display().to_string();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (times, gateway) = runtime.block_on(async {
        let lake = headwater_lake::Lake::open(&lake).await.unwrap();
        let commit = lake.resolve("main").await.unwrap();
        let rows = Table::read(&lake, &commit, "raw.count").await.unwrap().unwrap();
        let clock = Table::read(&lake, &commit, "ops.clock").await.unwrap();
        (rows.integers("ts_ns").unwrap(), clock.map_or(0, |clock| clock.rows()))
    });
    let today = began - 60..unix_seconds() + 60;
    assert!(!times.is_empty() && gateway > 0);
    for time in times {
        let seconds = time.unwrap() / 1_000_000_000;
        assert!(today.contains(&seconds), "a row of {seconds} s, while it is {today:?}");
    }
    site.finish(LIMIT);
}

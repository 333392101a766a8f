//! Gateways whose wall clock is wrong, and which start again under another one: rows come out with the time of day that the
//! collector's clock gives them, and no capture waits.

use crate::site::{Plan, Site};
use headwater_tests::ticks::unix_seconds;
use headwater_tests::truth::Table;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Longest wait for a step of debug builds on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);
const NS_PER_S: i64 = 1_000_000_000;
const DAY_S: i64 = 86_400;

/// A library that gives whoever loads it false clocks, see its source. Made by the linker's own compiler driver, which
/// every Rust toolchain on Linux needs.
pub(crate) fn false_clock(dir: &Path, behind_s: i64) -> PathBuf {
    let library = dir.join("false_clock.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/false_clock.c");
    let made = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror"])
        .arg(format!("-DBEHIND_S={behind_s}L"))
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
    let behind = began - 60;
    let mut site = Site::start(&Plan { preload: Some(false_clock(dir.path(), behind)), ..Plan::default() });
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
        let seconds = time.unwrap() / NS_PER_S;
        assert!(today.contains(&seconds), "a row of {seconds} s, while it is {today:?}");
    }
    site.finish(LIMIT);
}

/// The clocks of a gateway that a test sets: files the library looks at.
struct Clocks {
    shifts: File,
    boot_id: PathBuf,
    boots: u32,
}

impl Clocks {
    fn create(dir: &Path) -> Self {
        let path = dir.join("clock");
        std::fs::write(&path, [0; 16]).unwrap();
        let shifts = File::options().write(true).open(path).unwrap();
        let mut clocks = Self { shifts, boot_id: dir.join("boot_id"), boots: 0 };
        clocks.boot(0);
        clocks
    }

    /// Makes the wall clock show true time and `by_s` seconds.
    fn set_wall(&self, by_s: i64) {
        self.shifts.write_all_at(&(by_s * NS_PER_S).to_ne_bytes(), 0).unwrap();
    }

    /// Another boot: its line begins at 20 s, with this wall clock.
    fn boot(&mut self, wall_by_s: i64) {
        self.boots += 1;
        std::fs::write(&self.boot_id, format!("00000000-0000-4000-8000-{:012}\n", self.boots)).unwrap();
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
        let up_s: i64 = uptime.split('.').next().unwrap().parse().unwrap();
        self.shifts.write_all_at(&((20 - up_s) * NS_PER_S).to_ne_bytes(), 8).unwrap();
        self.set_wall(wall_by_s);
    }
}

/// Prints true UTC ten times a second, by a program that is not lied to.
pub(crate) const TRUE_TIME: &str = r#"
[[source]]
type = "exec"
stream = "count"
kind = "count"
command = ["sh", "-c", "while [ ! -e DIR/stop ] && env -u LD_PRELOAD date +%s%N; do sleep 0.1; done"]
format = "csv"
once = true
fields = [ { name = "utc", type = "i64", unit = "ns" } ]
"#;

/// One row: boot, boot time, true UTC, resolved UTC and its bound.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    pub(crate) boot: i64,
    pub(crate) boot_ns: i64,
    pub(crate) utc: i64,
    pub(crate) ts: i64,
    pub(crate) err: i64,
}

pub(crate) async fn raw_rows(location: &str) -> (BTreeMap<i64, Row>, Vec<String>, u64) {
    let lake = headwater_lake::Lake::open(location).await.unwrap();
    let commit = lake.resolve("main").await.unwrap();
    let table = Table::read(&lake, &commit, "raw.count").await.unwrap().unwrap();
    let column =
        |name: &str| -> Vec<i64> { table.integers(name).unwrap().into_iter().map(Option::unwrap).collect() };
    let (seq, boot, boot_ns) = (column("seq"), column("boot_ordinal"), column("boot_ns"));
    let (utc, ts, err) = (column("utc"), column("ts_ns"), column("ts_err_ns"));
    let row = |n: usize| Row { boot: boot[n], boot_ns: boot_ns[n], utc: utc[n], ts: ts[n], err: err[n] };
    let rows = (0..seq.len()).map(|n| (seq[n], row(n))).collect();
    let grades = table.texts("grade").unwrap().into_iter().flatten().collect();
    let clock = Table::read(&lake, &commit, "ops.clock").await.unwrap().unwrap();
    let kinds = clock.texts("row_kind").unwrap();
    let events = kinds.iter().filter(|kind| kind.as_deref() == Some("event")).count() as u64;
    (rows, grades, events)
}

#[test]
fn two_boots_wrong_wall_clock() {
    let dir = tempfile::tempdir().unwrap();
    let mut clocks = Clocks::create(dir.path());
    let since_1970 = unix_seconds() - 60;
    clocks.set_wall(-since_1970);
    let plan = Plan {
        preload: Some(false_clock(dir.path(), 0)),
        env: vec![
            ("HEADWATER_CLOCK", dir.path().join("clock")),
            ("HEADWATER_BOOT_ID", clocks.boot_id.clone()),
        ],
        sources: TRUE_TIME,
        ..Plan::default()
    };
    let mut site = Site::start(&plan);
    let more = |site: &mut Site, n: u64| {
        let before = site.stream("count").map_or(0, |count| count.1);
        site.wait(LIMIT, "more rows", |site| site.stream("count").is_some_and(|count| count.1 >= before + n));
    };
    more(&mut site, 30);
    // Steps back and forth while it captures: two days ahead, before that again, and right at last.
    for (n, by_s) in (1..).zip([2 * DAY_S, -3 * DAY_S, 0]) {
        clocks.set_wall(by_s);
        site.wait(LIMIT, "a step", |site| site.clock("steps") >= n);
        more(&mut site, 10);
    }
    for by_s in [2 * DAY_S, -400 * DAY_S] {
        site.reboot(|| clocks.boot(by_s));
        more(&mut site, 30);
    }
    let captured = site.drain(LIMIT, &["count"])["count"];
    site.stop();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let lake = site.world.path("lake").display().to_string();
    let (rows, grades, events) = runtime.block_on(raw_rows(&lake));
    assert_eq!(rows.len() as u64, captured);
    assert!(events >= 3, "{events} events");
    assert!(grades.iter().all(|grade| grade == "guaranteed" || grade == "estimated"), "{grades:?}");
    let boots: std::collections::BTreeSet<i64> = rows.values().map(|row| row.boot).collect();
    assert_eq!(boots.len(), 3, "{boots:?}");
    for (seq, row) in &rows {
        let off = (row.ts - row.utc).abs();
        assert!(off <= row.err, "row {seq} is off by {off} ns: {row:?}");
        assert!(row.err < 60 * NS_PER_S, "a bound that says nothing: {row:?}");
    }
    let all: Vec<Row> = rows.into_values().collect();
    for pair in all.windows(2).filter(|pair| pair[0].boot == pair[1].boot) {
        assert!(pair[0].ts <= pair[1].ts, "resolved time goes back: {pair:?}");
        // The time between two prints, which capture kept: it never waited for a clock.
        let (told, kept) = (pair[1].utc - pair[0].utc, pair[1].boot_ns - pair[0].boot_ns);
        assert!((told - kept).abs() < 5 * NS_PER_S, "{pair:?}");
    }
}

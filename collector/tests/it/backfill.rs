//! Backfill: history aligned on a branch gives the rows the collector gives, whatever the number of jobs and however often
//! it is killed, and comes to `main` through the gate only.

use crate::ingest_world;
use crate::shell;

use arrow_array::{Int64Array, RecordBatch};
use futures::TryStreamExt;
use headwater_align::recipe::Recipe;
use headwater_collector::backfill::{Backfill, BackfillError, Report, Sizes, Told, run};
use headwater_collector::commit::cells::Cell;
use headwater_core::batch::Section;
use headwater_core::gap::{GapCause, GapRecord};
use headwater_core::id::Seq;
use headwater_core::schema::builtin;
use headwater_core::time::BootNanos;
use headwater_lake::{
    CommitKind, CommitRequest, FileRole, Lake, ProtectionChange, RefName, RefPatterns, ScanOptions,
    TableAppend, TableName, TableSpec, testing,
};
use ingest_world::*;
use shell::Shell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Rows by device and key, every cell of them as text: no NaN equals another.
type Rows = BTreeMap<(String, String), BTreeMap<String, String>>;

/// So many frames cut a day into 1024 parts, and lie on both sides of where one of them ends.
const SECONDS: u64 = 130;
const SMALL: Sizes = Sizes { unit_rows: 1, commit_rows: 100 };

fn recipe(name: &str, spine: &str, columns: &str) -> Recipe {
    Recipe::parse(&format!("headwater_recipe = 1\nname = '{name}'\n[spine]\n{spine}\n{columns}")).unwrap()
}

/// Motion and episodes: each row's rest on the rows before it.
const CHAIN: &str = "
[[derive]]
name = 'lat'
unit = 'deg'
expression = 'motion_n / 1e4'
[[derive]]
name = 'speed'
motion = { lat = 'lat', lon = 'lat', feature = 'speed', max_gap = '400ms' }
[episode]
gap = '1s'
begin = 'motion_n > 300 and motion_n < 320'
";

/// One of each kind of spine, with each kind of need.
fn recipes() -> Vec<Recipe> {
    let motion = "[[column]]\nname = 'motion'\nstream = 'imu'\nselect = ['accel_x']\n";
    let frames = "stream = 'camera/front'\nselect = ['name']";
    vec![
        recipe("lines", frames, &format!("{motion}method = 'linear'\nmax_gap = '50ms'")),
        recipe("near", frames, &format!("{motion}method = 'nearest'\ntolerance = '20ms'")),
        recipe(
            "windows",
            frames,
            &format!(
                "{motion}method = 'window'\nwindow = {{ from = '-1s', to = '1s' }}\nstats = ['mean', 'count']"
            ),
        ),
        recipe(
            "ticks",
            "grid = { period = '200ms' }",
            &format!("{motion}method = 'previous'\ntolerance = '50ms'"),
        ),
        recipe(
            "both",
            "union = ['camera/front', 'imu']",
            "[[column]]\nname = 'm'\nstream = 'imu'\nselect = ['n']\nmethod = 'previous'\ntolerance = '50ms'",
        ),
        recipe(
            "starts",
            "event = { stream = 'imu', where = \"mode = 'run'\" }",
            &format!("{motion}method = 'next'\ntolerance = '50ms'"),
        ),
        chain(),
    ]
}

fn chain() -> Recipe {
    let motion = "[[column]]\nname = 'motion'\nstream = 'imu'\nselect = ['n']\nmethod = 'previous'\ntolerance = '50ms'";
    recipe("chain", "stream = 'camera/front'\nselect = ['name']", &format!("{motion}{CHAIN}"))
}

fn by_key(rows: Vec<BTreeMap<String, Cell>>) -> Rows {
    let count = rows.len();
    let words = |row: BTreeMap<String, Cell>| row.into_iter().map(|(name, cell)| (name, format!("{cell:?}")));
    let keyed: Rows = rows
        .into_iter()
        .map(|row| ((text(&row, "device"), text(&row, "row_key")), words(row).collect()))
        .collect();
    assert_eq!(keyed.len(), count, "a row is there twice");
    keyed
}

fn finals(rows: Rows) -> Rows {
    rows.into_iter().filter(|(_, row)| row["provisional"] == "Bool(false)").collect()
}

fn asked(recipe: Recipe, on: &str) -> Backfill {
    Backfill {
        recipe,
        on: RefName::new(on).unwrap(),
        from: None,
        since_us: None,
        until_us: None,
        jobs: 3,
        author: "anna".to_owned(),
        sizes: SMALL,
    }
}

async fn backfill(lake: &Lake, asked: &Backfill) -> Report {
    run(lake, asked, &clock(), |_| {}).await.unwrap()
}

async fn fleet(seconds_of_each: u64) -> (Lake, MemoryLog) {
    let mut log = MemoryLog::default();
    for (name, epoch) in [("pi-1", 7), ("pi-2", 9), ("pi-3", 11)] {
        log.incarnations.push(seconds(&Gateway::new(name, epoch), seconds_of_each));
    }
    let lake = testing::memory().await.unwrap();
    live(&lake, &log, &[]).await;
    (lake, log)
}

/// Content of a table's data files: their checksums.
async fn files(lake: &Lake, at: &str, table: &str) -> BTreeSet<String> {
    let head = lake.resolve(at).await.unwrap();
    let mut found = BTreeSet::new();
    for file in lake.table_files(&head, &TableName::new(table).unwrap()).await.unwrap() {
        assert_eq!(file.role, FileRole::Data);
        found.insert(lake.checksum(&file.location).await.unwrap().1);
    }
    found
}

#[tokio::test(start_paused = true)]
async fn a_backfilled_table_has_the_rows_that_the_collector_gives() {
    let (lake, log) = fleet(SECONDS).await;
    let online = testing::memory().await.unwrap();
    live(&online, &log, &recipes()).await;
    for recipe in recipes() {
        let table_name = format!("aligned.{}", recipe.name);
        let report = backfill(&lake, &asked(recipe.clone(), "re")).await;
        let (made, wanted) = (
            by_key(table_at(&lake, "re", &table_name).await),
            finals(by_key(table(&online, &table_name).await)),
        );
        assert!(made.len() > 100, "{table_name} has {} rows", made.len());
        assert!(report.units > 3, "{report:?}");
        for (key, row) in &wanted {
            assert_eq!(made.get(key), Some(row), "{table_name}: {key:?}");
        }
        // What the collector had not got to yet is more, and never other.
        let more: Vec<_> = made.keys().filter(|key| !wanted.contains_key(*key)).collect();
        assert!(more.is_empty(), "{table_name} has more: {more:?}");
        assert_eq!((report.rows, report.rows_new), (made.len() as u64, made.len() as u64), "{report:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn any_number_of_jobs_gives_the_same_files() {
    let (lake, _) = fleet(SECONDS).await;
    let recipe = recipes().remove(0);
    let mut found = Vec::new();
    for jobs in [1, 4] {
        let on = format!("jobs{jobs}");
        let report = backfill(&lake, &Backfill { jobs, ..asked(recipe.clone(), &on) }).await;
        assert!(report.commits > 2, "{report:?}");
        found.push(files(&lake, &on, "aligned.lines").await);
    }
    assert_eq!(found[0], found[1]);
}

#[tokio::test(start_paused = true)]
async fn a_killed_run_goes_on_where_its_last_commit_left_off() {
    goes_on(recipes().remove(0)).await;
}

#[tokio::test(start_paused = true)]
async fn what_rests_on_rows_of_a_killed_run_goes_on_as_if_it_had_not_been() {
    goes_on(chain()).await;
}

/// A run that is killed at its first commit, and the next, give what one run gives.
async fn goes_on(recipe: Recipe) {
    let (lake, _) = fleet(SECONDS).await;
    let table_name = format!("aligned.{}", recipe.name);
    let whole = backfill(&lake, &asked(recipe.clone(), "whole")).await;
    let (killed, mut life) = (asked(recipe.clone(), "killed"), tokio::task::JoinSet::new());
    let theirs = lake.clone();
    let job = killed.clone();
    life.spawn(async move {
        run(&theirs, &job, &clock(), |told| {
            assert!(!matches!(told, Told::Committed { .. }), "killed");
        })
        .await
    });
    assert!(life.join_next().await.unwrap().unwrap_err().is_panic());
    let rest = backfill(&lake, &killed).await;
    assert!(rest.units_before > 0 && rest.units_before < rest.units, "{rest:?}");
    assert!(rest.rows < whole.rows && rest.source == whole.source, "{rest:?}");
    assert_eq!(
        by_key(table_at(&lake, "killed", &table_name).await),
        by_key(table_at(&lake, "whole", &table_name).await)
    );
    // All is done: nothing is made, and nothing committed. Of the last parts none may have given a row to commit.
    let again = backfill(&lake, &killed).await;
    assert_eq!((again.rows, again.commits), (0, 0), "{again:?}");
    assert!(again.units_before > rest.units_before, "{again:?}");
    assert_eq!(again.head, rest.head);
}

#[tokio::test(start_paused = true)]
async fn a_chain_is_aligned_to_its_end() {
    let (lake, _) = fleet(SECONDS).await;
    let until_us = Some(START / 1_000 + 10_000_000);
    let error =
        run(&lake, &Backfill { until_us, ..asked(chain(), "re") }, &clock(), |_| {}).await.unwrap_err();
    assert!(matches!(error, BackfillError::Chained { .. }), "{error}");
    assert!(error.to_string().contains("leave --until out"), "{error}");
    // From a day on: what lies before it is gone through for its sake.
    let since_us = Some(START / 1_000);
    let since = backfill(&lake, &Backfill { since_us, ..asked(chain(), "since") }).await;
    assert_eq!(since.rows, backfill(&lake, &asked(chain(), "all")).await.rows);
}

#[tokio::test(start_paused = true)]
async fn rows_that_stand_as_they_are_stay_and_late_ones_are_put_right() {
    let gateway = Gateway::new("pi-1", 7);
    let whole = ten_seconds(&gateway);
    // Rows 400..420 come only after they were recorded as missing, and the recipe lets late rows be.
    let Record::Message(late) = gateway.batch(&[gateway.imu(400..420)], imu_at(500)) else { panic!() };
    let is_late = |record: &Record| matches!(record, Record::Message(found) if found.message == late.message);
    let at = whole.iter().position(is_late).unwrap();
    let mut first = whole.clone();
    let held_back = first.remove(at);
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
    let said = Section::Rows(gateway.rows(GAPS, &builtin::gaps(), 0, &[(imu_at(420), gap.to_values())]));
    first.push(gateway.batch(&[said], imu_at(420)));
    let drive = recipe(
        "drive",
        "stream = 'camera/front'",
        "[[column]]\nname = 'motion'\nstream = 'imu'\nselect = ['n']\nmethod = 'previous'\ntolerance = '50ms'\n[late]\npolicy = 'drop_and_count'",
    );
    let lake = testing::memory().await.unwrap();
    live(&lake, &MemoryLog::of(&first), std::slice::from_ref(&drive)).await;
    first.push(held_back);
    live(&lake, &MemoryLog::of(&first), std::slice::from_ref(&drive)).await;

    let report = backfill(&lake, &asked(drive.clone(), "fix")).await;
    let told = (report.rows, report.rows_new, report.rows_changed, report.rows_same, report.rows_gone);
    assert_eq!(told, (40, 0, 1, 39, 0), "{report:?}");
    let fixed = by_key(table_at(&lake, "fix", "aligned.drive").await);
    let before = by_key(table(&lake, "aligned.drive").await);
    let changed: Vec<_> = fixed.iter().filter(|(key, row)| before[*key] != **row).collect();
    assert_eq!((fixed.len(), changed.len()), (40, 1));
    assert_eq!(changed[0].1["motion_n"], "Long(400)", "frame 16 lies 3 ms after it");
    // Said again without anything new, it leaves the branch alone.
    let again = backfill(&lake, &Backfill { since_us: Some(0), ..asked(drive, "fix") }).await;
    assert_eq!((again.rows_same, again.commits), (40, 0), "{again:?}");
}

#[tokio::test(start_paused = true)]
async fn another_version_of_a_recipe_begins_its_table_anew() {
    let lake = testing::memory().await.unwrap();
    live(&lake, &MemoryLog::of(&ten_seconds(&Gateway::new("pi-1", 7))), &[drive(&["name"])]).await;
    let newer = recipe(
        "drive",
        "stream = 'camera/front'",
        "[[column]]\nname = 'speed'\nstream = 'imu'\nselect = ['accel_x']\nmethod = 'linear'\nmax_gap = '50ms'",
    );
    let report = backfill(&lake, &asked(newer.clone(), "re")).await;
    assert!(report.anew && report.was_there && report.rows_new == 40, "{report:?}");
    let rows = table_at(&lake, "re", "aligned.drive").await;
    assert_eq!(rows.len(), 40);
    assert!(rows.iter().all(|row| row.contains_key("speed_accel_x") && !row.contains_key("motion_n")));
    let head = lake.resolve("re").await.unwrap();
    let properties = lake.properties(&head, &TableName::new("aligned.drive").unwrap()).await.unwrap();
    assert_eq!(properties["hw.recipe"], newer.id());
    assert_eq!(table(&lake, "aligned.drive").await.len(), 40, "main has its own");
}

#[tokio::test(start_paused = true)]
async fn a_protected_branch_and_a_branch_from_elsewhere_are_refused() {
    let (lake, _) = fleet(5).await;
    let protect = ProtectionChange { protect: RefPatterns::of(&["main"]), ..ProtectionChange::default() };
    lake.protect(&protect, "anna", 1).await.unwrap();
    let recipe = recipes().remove(0);
    let refused = run(&lake, &asked(recipe.clone(), "main"), &clock(), |_| {}).await.unwrap_err();
    assert!(refused.to_string().contains("it is protected"), "{refused}");
    let first = lake.log("main", 100).await.unwrap().pop().unwrap().id;
    let from_first = Backfill { from: Some(first), ..asked(recipe.clone(), "re") };
    backfill(&lake, &asked(recipe, "re")).await;
    let refused = run(&lake, &from_first, &clock(), |_| {}).await;
    // A world of one commit has nothing older.
    match lake.log("main", 100).await.unwrap().len() {
        1 => assert!(refused.is_ok()),
        _ => assert!(matches!(refused.unwrap_err(), BackfillError::Elsewhere { .. })),
    }
}

const FRAMES: &str = "headwater_recipe = 1\nname = 'frames'\n[spine]\nstream = 'camera/front'\nselect = ['name']\n[[column]]\nname = 'motion'\nstream = 'imu'\nselect = ['n']\nmethod = 'previous'\ntolerance = '50ms'\n";

/// A lake of ten seconds without recipes, protected, and a command line at it.
async fn at_a_shell() -> Shell {
    let shell = Shell::new();
    let lake = Lake::init(shell.lake()).await.unwrap();
    live(&lake, &MemoryLog::of(&ten_seconds(&Gateway::new("pi-1", 7))), &[]).await;
    let protect = ProtectionChange { protect: RefPatterns::of(&["main"]), ..ProtectionChange::default() };
    lake.protect(&protect, "anna", START / 1_000 + 1).await.unwrap();
    shell
}

fn written(shell: &Shell, name: &str, text: &str) -> String {
    let path = format!("{}-{name}", shell.lake());
    std::fs::write(&path, text).unwrap();
    path
}

#[tokio::test(start_paused = true)]
async fn at_the_command_line_history_is_aligned_and_comes_to_main_through_the_gate() {
    let shell = at_a_shell().await;
    let file = written(&shell, "frames.toml", FRAMES);
    let dry = shell.json(&["recipe", "dry-run", &file, "--at", "main", "--rows", "2"]);
    assert_eq!((&dry["rows"], &dry["entities"][0]["entity"]), (&40.into(), &"pi-1".into()), "{dry}");
    let motion = &dry["columns"][0];
    assert_eq!((&motion["column"], &motion["match_ratio"]), (&"motion".into(), &1.0.into()), "{dry}");
    assert_eq!(motion["median_dt_ns"], 3_000_000, "a frame lies 3 ms after a row: {dry}");
    assert_eq!(dry["first"].as_array().unwrap().len(), 2);
    let nulls = dry["values"].as_array().unwrap().iter().find(|value| value["value"] == "motion_n").unwrap();
    assert_eq!(nulls["null_ratio"], 0.0);
    assert!(shell.ok(&["recipe", "dry-run", &file]).contains("40 rows of aligned.frames at"));
    let none = shell.json(&["recipe", "dry-run", &file, "--since", "2024-01-01"]);
    assert_eq!((&none["rows"], &none["first"]), (&0.into(), &serde_json::json!([])));
    assert_eq!(shell.rows("aligned.frames", "main"), 0, "nothing was written");

    let said = shell.fails(5, &["align", &file, "--on", "main"]);
    assert!(said.contains("main") && said.contains("it is protected"), "{said}");
    let said = shell.ok(&["align", &file, "--on", "re", "--jobs", "2"]);
    assert!(
        said.contains("40 rows in 1 commits: 40 new") && said.ends_with("next: headwater merge re\n"),
        "{said}"
    );
    let lines = shell.ok(&["align", &file, "--on", "re", "--json"]);
    let lines: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let events: Vec<&str> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["begun", "done"], "{lines:?}");
    assert_eq!(lines[1]["units_before"], lines[1]["units"]);
    assert!(shell.ok(&["merge", "re"]).contains("judged: aligned.frames"));
    assert_eq!(shell.rows("aligned.frames", "main"), 40);
    // Made again from the merged lake, it is the same, to the bytes of its file.
    let told = shell.json(&["reproduce", "main"]);
    let [file] = told["files"].as_array().unwrap().as_slice() else { panic!("{told}") };
    assert_eq!((&file["same"], &file["rows"], &file["stored"]), (&true.into(), &40.into(), &file["anew"]));
    assert!(shell.ok(&["reproduce", "main"]).contains("bytes of"));
}

#[tokio::test(start_paused = true)]
async fn a_table_that_was_changed_is_told_by_file_row_and_column() {
    let shell = at_a_shell().await;
    let file = written(&shell, "changed.toml", FRAMES);
    shell.ok(&["align", &file, "--on", "re"]);
    let lake = Lake::open(shell.lake()).await.unwrap();
    let (head, table) = (lake.resolve("re").await.unwrap(), TableName::new("aligned.frames").unwrap());
    let rows: Vec<RecordBatch> =
        lake.scan(&head, &table, ScanOptions::default()).await.unwrap().try_collect().await.unwrap();
    let rows = arrow_select::concat::concat_batches(&rows[0].schema(), &rows).unwrap();
    let place = rows.schema().index_of("motion_n").unwrap();
    let wrong: Int64Array =
        (0..rows.num_rows()).map(|row| Some(if row == 7 { -1 } else { 25 * row as i64 })).collect();
    let mut columns = rows.columns().to_vec();
    columns[place] = Arc::new(wrong);
    let changed = RecordBatch::try_new(rows.schema(), columns).unwrap();
    let mut spec = TableSpec::new(
        table.clone(),
        lake.columns(&head, &table).await.unwrap(),
        &["device", "ts", "row_key"],
    );
    spec.properties = lake.properties(&head, &table).await.unwrap();
    spec.properties.retain(|name, _| name.starts_with("hw.recipe"));
    let request = CommitRequest {
        kind: CommitKind::Foreign,
        message: "somebody knows better".to_owned(),
        time_us: START / 1_000 + 9,
        appends: vec![TableAppend { spec, batches: vec![changed] }],
        anew: BTreeSet::from([table]),
        ..CommitRequest::default()
    };
    lake.writer(RefName::new("re").unwrap(), "bob".to_owned()).commit(request).await.unwrap();
    let output = shell.run(&["reproduce", "re", "--json"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&told["same"], &told["partitions"][0]["differing"]), (&false.into(), &1.into()), "{told}");
    let difference = &told["files"][0]["difference"];
    assert_eq!((&difference["row"], &difference["column"]), (&7.into(), &"motion_n".into()), "{told}");
    assert_eq!((&difference["stored"], &difference["anew"]), (&"-1".into(), &"175".into()), "{told}");
}

#[tokio::test(start_paused = true)]
async fn files_of_commits_and_of_compactions_are_made_again_byte_for_byte() {
    let shell = Shell::new();
    let lake = Lake::init(shell.lake()).await.unwrap();
    live(&lake, &MemoryLog::of(&seconds(&Gateway::new("pi-1", 7), SECONDS)), &[]).await;
    let report = backfill(&lake, &asked(recipes().remove(0), "re")).await;
    assert!(report.commits > 1, "{report:?}");
    let files = |told: &serde_json::Value| told["files"].as_array().unwrap().len();
    let before = shell.json(&["reproduce", "re"]);
    assert_eq!(files(&before), usize::try_from(report.commits).unwrap(), "{before}");
    shell.ok(&["compact", "aligned.lines", "--on", "re", "--day", "2023-11-14"]);
    let after = shell.json(&["reproduce", "re"]);
    assert_eq!((files(&after), &after["same"]), (1, &true.into()), "{after}");
    assert_eq!(after["partitions"], before["partitions"], "rows are the same");
}

#[tokio::test(start_paused = true)]
async fn what_the_gate_fails_does_not_come_to_main() {
    let shell = at_a_shell().await;
    // Nothing is within a nanosecond, which the lake's limits do not take.
    let file = written(&shell, "far.toml", &FRAMES.replace("50ms", "1ns").replace("frames", "far"));
    let lake = Lake::open(shell.lake()).await.unwrap();
    let gate = headwater_collector::gate::GateSettings {
        limits: headwater_collector::gate::GateLimits {
            unmatched_fail_percent: 50,
            ..headwater_collector::gate::GateLimits::default()
        },
        ..headwater_collector::gate::GateSettings::default()
    };
    headwater_collector::gate::guard::store_settings(&lake, None, &gate, "c", START / 1_000 + 2)
        .await
        .unwrap();
    shell.ok(&["align", &file, "--on", "re"]);
    let said = shell.fails(6, &["merge", "re"]);
    assert!(said.contains("modality_coverage"), "{said}");
    assert_eq!(shell.rows("aligned.far", "main"), 0);
}

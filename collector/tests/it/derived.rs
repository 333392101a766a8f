//! Recipes that prepare, derive, cut into episodes and ask programs, beside ingest: the rows are those that are made anew
//! from the raw tables, whatever came late, and what a program cannot do touches nothing else.

use crate::ingest_world;

use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch};
use futures::TryStreamExt;
use headwater_align::recipe::Recipe;
use headwater_collector::backfill::{Backfill, Sizes};
use headwater_collector::commit::cells::Cell;
use headwater_collector::ingest::Rebuilder;
use headwater_collector::pipeline::load_recipes;
use headwater_core::batch::Section;
use headwater_core::gap::{GapCause, GapRecord};
use headwater_core::id::Seq;
use headwater_core::schema::builtin;
use headwater_core::time::BootNanos;
use headwater_lake::{Lake, RefName, ScanOptions, TableName, testing};
use ingest_world::*;
use std::collections::BTreeMap;
use std::path::Path;

const HEAD: &str = r#"
headwater_recipe = 1
name = "drive"
[spine]
stream = "camera/front"
select = ["image"]
[[column]]
name = "motion"
stream = "imu"
select = ["n"]
method = "previous"
tolerance = "50ms"
"#;

/// Samples smoothed and made even before they are matched.
const PREPARED: &str = r#"
[[column]]
name = "smooth"
stream = "imu"
select = ["accel_x"]
method = "list"
window = { from = "-60ms", to = "40ms" }
max_items = 50
prepare = [{ step = "median", samples = 5, max_gap = "50ms" }, { step = "resample", period = "7ms", max_gap = "50ms" }]
[[column]]
name = "level"
stream = "imu"
select = ["n"]
method = "linear"
max_gap = "40ms"
prepare = [{ step = "savitzky_golay", samples = 5, order = 2, max_gap = "50ms" }]
[[derive]]
name = "rms"
list = { column = "smooth_accel_x", stat = "rms" }
"#;

/// Motion and episodes, and what formulas make of both.
const CHAIN: &str = r#"
[[derive]]
name = "lat"
unit = "deg"
expression = "motion_n * motion_n / 1e6"
[[derive]]
name = "lon"
unit = "deg"
expression = "motion_n / 1e4"
[[derive]]
name = "speed"
version = 3
motion = { lat = "lat", lon = "lon", feature = "speed", max_gap = "400ms" }
[[derive]]
name = "is_fast"
expression = "speed > 10"
[episode]
gap = "1s"
begin = "motion_n > 300 and coalesce(is_fast, true)"
split = { train = 0.5, test = 0.5 }
"#;

const PICTURES: &str = r#"
[[derive]]
name = "light"
picture = { column = "image", feature = "brightness" }
[[derive]]
name = "look"
picture = { column = "image", feature = "hash" }
"#;

fn command(on_failure: &str) -> String {
    format!(
        r#"
[[derive]]
name = "twice"
expression = "motion_n * 2.5"
[[derive]]
name = "echo"
command = {{ program = "bin/echo", version = "7", inputs = ["twice"], output = "float64", on_failure = "{on_failure}" }}
"#
    )
}

/// A recipe as a collector loads it, with its program beside it.
fn load(folder: &Path, text: &str, program: &str) -> Recipe {
    use std::os::unix::fs::PermissionsExt;
    let bin = folder.join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    std::fs::write(bin.join("echo"), program).unwrap();
    std::fs::set_permissions(bin.join("echo"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = folder.join("drive.toml");
    std::fs::write(&path, text).unwrap();
    load_recipes(&[path]).unwrap().remove(0)
}

const ECHO: &str = "#!/bin/sh\nexec cat\n";

/// Real pictures, of the demo.
fn photo(seq: u64) -> (Vec<u8>, i64) {
    let file = format!("{}/../tests/data/demo/camera/{:04}.jpg", env!("CARGO_MANIFEST_DIR"), seq % 30 + 1);
    (std::fs::read(file).unwrap(), 854)
}

/// Every value of rows by row key, in words; floats are told to their last bit.
fn add(rows: &RecordBatch, told: &mut BTreeMap<String, BTreeMap<String, String>>) {
    let keys =
        arrow_cast::cast(rows.column_by_name("row_key").unwrap(), &arrow_schema::DataType::Utf8).unwrap();
    let keys = keys.as_string::<i32>();
    for row in 0..rows.num_rows() {
        let value = |column: &dyn Array| arrow_cast::display::array_value_to_string(column, row).unwrap();
        let schema = rows.schema();
        let values = schema.fields().iter().zip(rows.columns());
        let values = values.map(|(field, column)| (field.name().clone(), value(column.as_ref()))).collect();
        assert!(told.insert(keys.value(row).to_owned(), values).is_none(), "a row is there twice");
    }
}

type Told = BTreeMap<String, BTreeMap<String, String>>;

/// The final rows of the table.
async fn stored(lake: &Lake) -> Told {
    let (head, name) = (head(lake).await.unwrap(), TableName::new("aligned.drive").unwrap());
    let mut told = Told::new();
    let mut batches = lake.scan(&head, &name, ScanOptions::default()).await.unwrap();
    while let Some(batch) = batches.try_next().await.unwrap() {
        add(&batch, &mut told);
    }
    told.retain(|_, row| row["provisional"] == "false");
    told
}

/// The same made anew from the raw tables.
async fn anew(lake: &Lake, recipe: &Recipe) -> Told {
    let (head, mut told) = (head(lake).await.unwrap(), Told::new());
    let rebuilder = Rebuilder::open(lake, &head, recipe.clone()).await.unwrap();
    let mut rebuilding = rebuilder.begin(None);
    while let Some(piece) = rebuilding.next().await.unwrap() {
        piece.batches.iter().for_each(|batch| add(batch, &mut told));
    }
    told
}

fn column<'a>(rows: &'a Told, name: &str) -> Vec<&'a str> {
    let mut rows: Vec<&BTreeMap<String, String>> = rows.values().collect();
    rows.sort_by_key(|row| row["ts_ns"].parse::<i64>().unwrap());
    rows.iter().map(|row| row[name].as_str()).collect()
}

/// A record that says that rows of a stream were lost.
fn lost(gateway: &Gateway, stream: &str, seqs: (u64, u64), at: (i64, i64)) -> Record {
    let gap = GapRecord {
        stream: stream.parse().unwrap(),
        cause: GapCause::EvictedDiskFull,
        stride: 0,
        phase: 0,
        seq_first: Seq(seqs.0),
        seq_last: Seq(seqs.1),
        rows: seqs.1 - seqs.0 + 1,
        bytes: 400,
        policy_version: 0,
        boot_ordinal: gateway.boot,
        b_first: BootNanos(at.0),
        b_last: BootNanos(at.1),
        note: String::new(),
    };
    let rows = gateway.rows(GAPS, &builtin::gaps(), 0, &[(at.1, gap.to_values())]);
    gateway.batch(&[Section::Rows(rows)], at.1)
}

/// Takes the record out that is `wanted`.
fn take(records: &mut Vec<Record>, wanted: &Record) -> Record {
    let bytes = |record: &Record| match record {
        Record::Message(message) => std::sync::Arc::clone(&message.message),
        Record::Blob(blob) => std::sync::Arc::clone(&blob.bytes),
    };
    let at = records.iter().position(|record| bytes(record) == bytes(wanted)).unwrap();
    records.remove(at)
}

#[tokio::test(start_paused = true)]
async fn rows_with_everything_derived_are_those_made_anew() {
    let (lake, folder) = (testing::memory().await.unwrap(), tempfile::tempdir().unwrap());
    let text = format!("{HEAD}{PREPARED}{PICTURES}{}{CHAIN}", command("hold"));
    let recipe = load(folder.path(), &text, ECHO);
    let gateway = Gateway::new("pi-1", 7);
    let records = seconds_of(&gateway, 5, photo);
    live(&lake, &MemoryLog::of(&records), std::slice::from_ref(&recipe)).await;

    let rows = stored(&lake).await;
    assert_eq!(rows.len(), 20);
    assert_eq!(rows, anew(&lake, &recipe).await);
    let (twice, echo) = (column(&rows, "twice"), column(&rows, "echo"));
    assert_eq!(twice, echo);
    // A value between two smoothed ones rests on five samples about each.
    let sources = |row: &BTreeMap<String, String>| row["level_src"].clone();
    let some = rows.values().find(|row| row["motion_n"] == "400").unwrap();
    let of = sources(some);
    assert!(of.contains("seq_lo: 398") && of.contains("seq_hi: 403"), "{of}");
    assert!((some["level_n"].parse::<f64>().unwrap() - 400.3).abs() < 0.01, "{}", some["level_n"]);
    assert!(column(&rows, "rms").iter().all(|rms| rms.parse::<f64>().is_ok_and(|rms| rms > 0.1)));
    assert!(column(&rows, "light").iter().all(|light| (0.01..1.0).contains(&light.parse::<f64>().unwrap())));
    assert!(column(&rows, "look").iter().all(|look| look.len() == 16));
    let episodes = column(&rows, "episode_id");
    assert_eq!(episodes[0], "pi-1/0000000000000007/camera/front/0");
    let distinct: std::collections::BTreeSet<&str> = episodes.iter().copied().collect();
    assert_eq!(distinct.len(), 2, "{episodes:?}");
    assert_eq!((column(&rows, "speed")[0], column(&rows, "episode_index")[1]), ("", "1"));

    // What the columns are, and what the program was, is beside them.
    let head = head(&lake).await.unwrap();
    let table = TableName::new("aligned.drive").unwrap();
    let properties = lake.table_properties(&head, &table).await.unwrap();
    let derived: serde_json::Value = serde_json::from_str(&properties["hw.derived"]).unwrap();
    assert_eq!((&derived["speed"]["version"], &derived["light"]["version"]), (&"3".into(), &"1".into()));
    let mut commit = lake.commit_object(&head).await.unwrap();
    while commit.kind.as_str() != "align" {
        commit = lake.commit_object(&commit.parents[0]).await.unwrap();
    }
    let made_by: serde_json::Value = serde_json::from_str(&commit.lineage.commands["drive.echo"]).unwrap();
    let sha256 = headwater_core::id::Sha256::of(ECHO.as_bytes()).to_string();
    assert_eq!(made_by["found_sha256"], sha256);
    assert_eq!((&made_by["version"], &made_by["program_sha256"]), (&"7".into(), &sha256.into()));
}

#[tokio::test(start_paused = true)]
async fn a_late_row_changes_the_chain_behind_it_and_no_ids_of_other_episodes() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = load(folder.path(), &format!("{HEAD}{CHAIN}"), ECHO);
    let gateway = Gateway::new("pi-1", 7);
    let all = ten_seconds(&gateway);
    for (seq, wanted) in [(8_u64, 1), (0, 13)] {
        let lake = testing::memory().await.unwrap();
        let mut records = all.clone();
        let (row, blob) = gateway.frame(seq, &picture(seq));
        let held_back = take(&mut records, &gateway.batch(&[row], imu_at((seq / 4) * 100 + 100)));
        let blob = take(&mut records, &blob);
        records.push(lost(&gateway, "camera/front", (seq, seq), (frame_at(seq), frame_at(seq))));
        live(&lake, &MemoryLog::of(&records), std::slice::from_ref(&recipe)).await;
        let before = stored(&lake).await;
        assert_eq!(before.len(), 39);
        assert_eq!(before, anew(&lake, &recipe).await);

        records.extend([held_back, blob]);
        // The samples about it were let go: the next life reads them again, as this one would after the idle timeout.
        for _ in 0..2 {
            live(&lake, &MemoryLog::of(&records), std::slice::from_ref(&recipe)).await;
        }
        let after = stored(&lake).await;
        assert_eq!(after.len(), 40);
        assert_eq!(after, anew(&lake, &recipe).await);
        let whole = testing::memory().await.unwrap();
        live(&whole, &MemoryLog::of(&all), std::slice::from_ref(&recipe)).await;
        let times = ["ts", "ts_ns", "ts_err_ns", "grade"];
        let same = |rows: &Told| -> Told {
            let mut rows = rows.clone();
            rows.values_mut().for_each(|row| row.retain(|name, _| !times.contains(&name.as_str())));
            rows
        };
        assert_eq!(same(&after), same(&stored(&whole).await), "seq {seq}");
        let id = |rows: &Told, key: &String| rows.get(key).map(|row| row["episode_id"].clone());
        let changed = after.keys().filter(|key| id(&before, key) != id(&after, key)).count();
        assert_eq!(changed, wanted, "seq {seq}: rows that are of another episode now");
    }
}

#[tokio::test(start_paused = true)]
async fn late_samples_change_what_was_smoothed_over_them() {
    let (lake, folder) = (testing::memory().await.unwrap(), tempfile::tempdir().unwrap());
    let recipe = load(folder.path(), &format!("{HEAD}{PREPARED}{CHAIN}"), ECHO);
    let gateway = Gateway::new("pi-1", 7);
    let mut records = ten_seconds(&gateway);
    let late = take(&mut records, &gateway.batch(&[gateway.imu(400..420)], imu_at(500)));
    records.push(lost(&gateway, "imu", (400, 419), (imu_at(400), imu_at(419))));
    live(&lake, &MemoryLog::of(&records), std::slice::from_ref(&recipe)).await;
    let before = stored(&lake).await;
    assert_eq!(before, anew(&lake, &recipe).await);
    records.push(late);
    live(&lake, &MemoryLog::of(&records), std::slice::from_ref(&recipe)).await;
    let after = stored(&lake).await;
    assert_eq!((before.len(), after.len()), (40, 40));
    assert_eq!(after, anew(&lake, &recipe).await);
    let differs = |name: &str| after.iter().filter(|(key, row)| before[*key][name] != row[name]).count();
    // Frame 16 alone is near enough, and frame 17 moves from it.
    assert_eq!((differs("level_n"), differs("speed")), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_program_that_fails_holds_its_rows_back_and_raw_rows_and_others_go_on() {
    let (lake, folder) = (testing::memory().await.unwrap(), tempfile::tempdir().unwrap());
    let ready = folder.path().join("ready");
    let program =
        format!("#!/bin/sh\ntest -e {} || {{ echo no model >&2; exit 3; }}\nexec cat\n", ready.display());
    let held = load(folder.path(), &format!("{HEAD}{}", command("hold")), &program);
    let other = Recipe::parse(&HEAD.replace("drive", "plain")).unwrap();
    let records = ten_seconds(&Gateway::new("pi-1", 7));
    let log = MemoryLog::of(&records);
    live(&lake, &log, &[held.clone(), other.clone()]).await;
    assert_eq!(table(&lake, "raw.imu").await.len(), 1000);
    assert_eq!(table(&lake, "aligned.plain").await.len(), 40);
    assert!(table(&lake, "aligned.drive").await.is_empty());
    let verdicts = table(&lake, "ops.verdicts").await;
    let said = verdicts.iter().find(|row| text(row, "gate") == "command").unwrap();
    assert_eq!(text(said, "verdict"), "warn");
    let evidence: serde_json::Value = serde_json::from_str(&text(said, "evidence")).unwrap();
    assert_eq!((&evidence["column"], &evidence["held"]), (&"echo".into(), &40.into()));
    assert!(evidence["why"].as_str().unwrap().contains("exit status: 3: no model"), "{evidence}");

    // History aligned by hand says so too.
    let asked = Backfill {
        recipe: held.clone(),
        on: RefName::new("try").unwrap(),
        from: None,
        since_us: None,
        until_us: None,
        jobs: 1,
        author: "test".to_owned(),
        sizes: Sizes::default(),
    };
    let report = headwater_collector::backfill::run(&lake, &asked, &clock(), |_| {}).await.unwrap();
    let unanswered = report.unanswered.first().unwrap();
    assert_eq!((report.rows, report.open, unanswered.rows), (0, 40, 40), "{report:?}");
    assert!(unanswered.column == "echo" && unanswered.why.contains("no model"), "{report:?}");

    // Once it answers, the rows come.
    std::fs::write(&ready, "").unwrap();
    live(&lake, &log, &[held.clone(), other]).await;
    let rows = stored(&lake).await;
    assert_eq!(rows.len(), 40);
    assert_eq!(rows, anew(&lake, &held).await);
}

#[tokio::test(start_paused = true)]
async fn without_an_answer_a_column_may_be_null_and_say_so() {
    let (lake, folder) = (testing::memory().await.unwrap(), tempfile::tempdir().unwrap());
    let recipe = load(folder.path(), &format!("{HEAD}{}", command("null")), "#!/bin/sh\ncat >/dev/null\n");
    live(&lake, &MemoryLog::of(&ten_seconds(&Gateway::new("pi-1", 7))), &[recipe]).await;
    let rows = table(&lake, "aligned.drive").await;
    assert_eq!(rows.len(), 40);
    assert!(rows.iter().all(|row| row["echo"] == Cell::Null && long(row, "echo_flag") == 1));
}

/// Waits on a thread of its own until the other end of a pipe with a name is opened.
async fn at_pipe(path: std::path::PathBuf, writes: bool) {
    let open = move || match writes {
        true => std::fs::write(&path, "go").map(|()| String::new()),
        false => std::fs::read_to_string(&path),
    };
    tokio::task::spawn_blocking(open).await.unwrap().unwrap();
}

#[tokio::test]
async fn raw_rows_are_committed_while_a_program_takes_its_time() {
    let (lake, folder) = (testing::memory().await.unwrap(), tempfile::tempdir().unwrap());
    let (started, go) = (folder.path().join("started"), folder.path().join("go"));
    for pipe in [&started, &go] {
        assert!(std::process::Command::new("mkfifo").arg(pipe).status().unwrap().success());
    }
    let (once, from) = (folder.path().join("once"), go.display());
    let program = format!(
        "#!/bin/sh\ntest -e {0} || {{ touch {0}; echo on > {1}; cat {from} > /dev/null; }}\nexec cat\n",
        once.display(),
        started.display()
    );
    let recipe = load(folder.path(), &format!("{HEAD}{}{CHAIN}", command("hold")), &program);
    let settings = headwater_collector::ingest::IngestSettings { interval_ms: 20, ..settings() };
    let (mut running, task) = Running::start_as(&lake, vec![recipe.clone()], settings);
    let records = ten_seconds(&Gateway::new("pi-1", 7));
    let (first, second) = records.split_at(records.len() / 2);
    let driver = async {
        running.land(first);
        at_pipe(started, false).await;
        let before = head(&lake).await.unwrap();
        running.land(second);
        while table(&lake, "raw.imu").await.len() < 1000 {
            running.marks.changed().await.unwrap();
        }
        assert_ne!(head(&lake).await.unwrap(), before);
        assert!(table(&lake, "aligned.drive").await.is_empty(), "the program has not answered yet");
        at_pipe(go, true).await;
        running.cancel.cancel();
    };
    let (done, ()) = tokio::join!(task, driver);
    done.unwrap();
    // What the end did not leave the time for, the next life does.
    live(&lake, &MemoryLog::of(&records), std::slice::from_ref(&recipe)).await;
    let rows = stored(&lake).await;
    assert_eq!(rows.len(), 40);
    assert_eq!(rows, anew(&lake, &recipe).await);
}

/// The example of the documentation, with the samples about each frame as its input.
#[tokio::test(start_paused = true)]
async fn the_documented_python_program_is_a_column_like_any_other() {
    let named = std::env::var("HEADWATER_PYTHON").ok();
    let python = named.clone().unwrap_or_else(|| "python3".to_owned());
    let asked = std::process::Command::new(&python).args(["-c", "import pyarrow"]).output();
    if !asked.is_ok_and(|asked| asked.status.success()) {
        assert!(named.is_none(), "HEADWATER_PYTHON={python} has no pyarrow");
        eprintln!("SKIPPED: no Python with pyarrow; set HEADWATER_PYTHON to one (tests/run does)");
        return;
    }
    let (lake, folder) = (testing::memory().await.unwrap(), tempfile::tempdir().unwrap());
    let script = include_str!("../../../tests/data/features/embed.py");
    std::fs::write(folder.path().join("embed.py"), script).unwrap();
    std::fs::write(folder.path().join("weights.txt"), "1 0\n0.5 -1\n").unwrap();
    let embedding = format!(
        r#"
[[derive]]
name = "embedding"
command = {{ program = "{python}", args = ["{{file:script}}", "{{file:weights}}"], version = "1", inputs = ["smooth_accel_x"],
  files = {{ script = "embed.py", weights = "weights.txt" }}, output = "list<float32, 2>", on_failure = "hold" }}
"#
    );
    let recipe = load(folder.path(), &format!("{HEAD}{PREPARED}{embedding}"), ECHO);
    let records = seconds(&Gateway::new("pi-1", 7), 2);
    live(&lake, &MemoryLog::of(&records), std::slice::from_ref(&recipe)).await;
    let rows = stored(&lake).await;
    assert_eq!(rows.len(), 8);
    assert_eq!(rows, anew(&lake, &recipe).await);
    for row in rows.values() {
        // The root mean square is the second feature; the second row of weights takes it from half the mean.
        let embedded: Vec<f64> =
            row["embedding"].trim_matches(['[', ']']).split(", ").map(|x| x.parse().unwrap()).collect();
        let rms: f64 = row["rms"].parse().unwrap();
        assert!((embedded[0] * 0.5 - rms - embedded[1]).abs() < 1e-4, "{row:?}");
    }
}

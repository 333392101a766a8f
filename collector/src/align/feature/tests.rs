//! Programs that answer, fail, hang, flood and eat memory; and one of the documentation, in Python.

use super::*;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type, Int32Type};
use arrow_array::{Array, ArrayRef, ListArray, RecordBatch, StringArray};
use headwater_align::derive::{apply, port::NoPictures};
use headwater_align::recipe::Recipe;
use headwater_core::id::FieldName;
use headwater_sim::clock::SimClock;
use std::sync::Arc;

const LIMITS: Limits =
    Limits { timeout_ns: 60_000_000_000, output_bytes_max: 1 << 20, memory_bytes_max: 1 << 30 };

fn shell(script: &str, request: &[u8], limits: Limits) -> Result<Vec<u8>, FeatureError> {
    let args = ["-c".to_owned(), script.to_owned()];
    run(Path::new("/bin/sh"), &args, request, limits, &SimClock::start())
}

fn said(script: &str, limits: Limits) -> String {
    shell(script, b"x", limits).unwrap_err().to_string()
}

#[test]
fn what_goes_in_comes_out() {
    let request: Vec<u8> = (0..300_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    assert_eq!(shell("cat", &request, LIMITS).unwrap(), request);
    // One that reads nothing and one that says much on the side do not hang.
    assert_eq!(shell("exec <&-; printf ok", &request, LIMITS).unwrap(), b"ok");
    assert_eq!(
        shell("cat >/dev/null; head -c 3000000 /dev/zero >&2; printf ok", &request, LIMITS).unwrap(),
        b"ok"
    );
}

#[test]
fn a_failure_says_what_the_program_said_last() {
    assert_eq!(
        said("echo first >&2; echo 'no such model' >&2; exit 3", LIMITS),
        "it ended with exit status: 3: first | no such model"
    );
    assert!(said("kill -9 $$", LIMITS).starts_with("it ended with signal: 9"));
    let flood = Limits { output_bytes_max: 1000, ..LIMITS };
    assert_eq!(
        said("cat /dev/zero", flood),
        "it wrote more than 1000 bytes; raise output_mib_max or lower batch_rows_max"
    );
    assert_eq!(shell("head -c 1000 /dev/zero", b"", flood).unwrap().len(), 1000);
    let missing = run(Path::new("/no/such/program"), &[], b"", LIMITS, &SimClock::start()).unwrap_err();
    assert!(missing.to_string().starts_with("failed to run /no/such/program: No such file"), "{missing}");
}

/// True once a process is gone, or waits for init to take note of it.
fn is_gone(pid: &str) -> bool {
    (0..200_000).any(|_| {
        std::thread::yield_now();
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        state.is_empty() || state.contains(") Z ") || state.contains(") X ")
    })
}

#[test]
fn a_late_one_is_ended_with_all_it_started() {
    let dir = tempfile::tempdir().unwrap();
    let pids = dir.path().join("pids");
    let script = format!("echo loading >&2; sleep 1000 & echo $! >> {}; wait", pids.display());
    let late = Limits { timeout_ns: 300_000_000, ..LIMITS };
    assert_eq!(said(&script, late), "it was not done within 300ms: loading");
    // One that leaves something behind is done when its output is closed, and that is ended too.
    let script = format!("sleep 1000 >/dev/null 2>&1 & echo $! >> {}; printf ok", pids.display());
    assert_eq!(shell(&script, b"", LIMITS).unwrap(), b"ok");
    let started = std::fs::read_to_string(&pids).unwrap();
    assert_eq!(started.lines().count(), 2);
    assert!(started.lines().all(is_gone), "{started}");
    // One whose child keeps the output open is late, though it has ended itself.
    assert!(said("sleep 1000 & printf ok", late).starts_with("it was not done within 300ms"));
}

#[test]
fn memory_is_bounded_by_the_kernel() {
    let small = Limits { memory_bytes_max: 64 << 20, ..LIMITS };
    // Started before its bound is set, a program has it when it reads its input.
    let hungry = "read line; exec head -c 300000000 /dev/zero | tail -c 299999999 | wc -c";
    let found = shell(hungry, b"go\n", small);
    assert!(
        found.as_ref().is_err() || found.as_ref().is_ok_and(|out| out.trim_ascii() != b"299999999"),
        "{found:?}"
    );
    assert_eq!(shell(hungry, b"go\n", LIMITS).unwrap().trim_ascii(), b"299999999");
}

/// A folder with a recipe's files.
fn folder(script: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("bin")).unwrap();
    write(&dir.path().join("bin/embed"), script);
    write(&dir.path().join("weights.txt"), "2 0.5\n");
    dir
}

fn write(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn recipe(program: &str, args: &str) -> String {
    format!(
        "headwater_recipe = 1\nname = 'r'\n[spine]\nstream = 'cam'\n[[column]]\nname = 'm'\nstream = 'imu'\n\
         select = ['x']\nmethod = 'list'\nwindow = {{ from = '-1s', to = '0s' }}\nmax_items = 100\n\
         [[derive]]\nname = 'embedding'\ncommand = {{ program = '{program}', args = [{args}], version = '1', \
         inputs = ['m_x'], output = 'list<float32, 2>', files = {{ weights = 'weights.txt' }} }}\n"
    )
}

#[test]
fn a_recipe_rests_on_what_its_files_hold_and_not_where_they_lie() {
    let (one, other) = (folder("#!/bin/sh\ncat\n"), folder("#!/bin/sh\ncat\n"));
    let read = |dir: &tempfile::TempDir| {
        Recipe::parse_with(&recipe("bin/embed", "'{file:weights}'"), &RecipeFiles::beside(dir.path()))
    };
    let (first, second) = (read(&one).unwrap(), read(&other).unwrap());
    assert_eq!(first.id(), second.id());
    let runner =
        CommandRunner::new(&first.derived, RecipeFiles::beside(one.path()), SimClock::start()).unwrap();
    let Derivation::Command(command) = &first.derived[0].by else { panic!("a command") };
    assert_eq!(runner.arguments(command), [one.path().join("weights.txt").to_string_lossy()]);
    let lineage = runner.lineage(command);
    assert_eq!(lineage["program_sha256"], lineage["found_sha256"]);
    assert_eq!(lineage["files"]["weights"], Sha256::of(b"2 0.5\n").to_string());
    // Another model is another recipe, and a runner for the old one refuses it.
    write(&one.path().join("weights.txt"), "3 0.5\n");
    assert_ne!(read(&one).unwrap().id(), second.id());
    let changed =
        CommandRunner::new(&first.derived, RecipeFiles::beside(one.path()), SimClock::start()).unwrap_err();
    assert!(changed.to_string().contains("weights.txt has changed since the recipe was read"), "{changed}");
    let missing = Recipe::parse_with(&recipe("bin/embed", ""), &RecipeFiles::beside(Path::new("/nowhere")))
        .unwrap_err();
    assert!(missing.to_string().contains("bin/embed cannot be hashed: No such file"), "{missing}");
}

#[test]
fn a_rooted_recipe_finds_its_files_from_anywhere_and_keeps_its_id() {
    let dir = folder("#!/bin/sh\ncat\n");
    let files = RecipeFiles::beside(dir.path());
    let mut recipe = Recipe::parse_with(&recipe("bin/embed", "'{file:weights}'"), &files).unwrap();
    let id = recipe.id();
    files.root(&mut recipe).unwrap();
    assert_eq!(recipe.id(), id);
    let elsewhere = RecipeFiles::beside(Path::new("/nowhere"));
    let runner = CommandRunner::new(&recipe.derived, elsewhere, SimClock::start()).unwrap();
    let Derivation::Command(command) = &recipe.derived[0].by else { panic!("a command") };
    assert_eq!(runner.arguments(command), [dir.path().join("weights.txt").to_string_lossy()]);
}

#[test]
fn programs_are_looked_up_where_path_says() {
    let dir = folder("#!/bin/sh\ncat\n");
    let files = RecipeFiles::beside(dir.path()).searching(dir.path().join("bin").into());
    assert_eq!(files.program("embed").unwrap(), dir.path().join("bin/embed"));
    assert!(files.program("weights.txt").unwrap_err().to_string().starts_with("weights.txt is no program"));
    assert_eq!(files.read("weights.txt", 5).unwrap_err(), "it holds more than 5 bytes");
    assert_eq!(files.read("weights.txt", 6).unwrap(), b"2 0.5\n");
}

/// Rows with a list of numbers each.
fn rows(lists: &[Option<Vec<f64>>]) -> RecordBatch {
    let lists =
        lists.iter().map(|list| list.as_ref().map(|list| list.iter().map(|x| Some(*x)).collect::<Vec<_>>()));
    let devices: StringArray = lists.clone().map(|_| Some("d")).collect();
    let list = ListArray::from_iter_primitive::<Float64Type, _, _>(lists);
    RecordBatch::try_from_iter([
        ("device", Arc::new(devices) as ArrayRef),
        ("m_x", Arc::new(list) as ArrayRef),
    ])
    .unwrap()
}

#[test]
fn a_program_that_prints_words_gives_nulls_with_a_flag() {
    let dir = folder("#!/bin/sh\ncat >/dev/null; echo loading the model\n");
    let files = RecipeFiles::beside(dir.path());
    let recipe = Recipe::parse_with(&recipe("bin/embed", ""), &files).unwrap();
    let mut runner = CommandRunner::new(&recipe.derived, files, SimClock::start()).unwrap();
    let given = rows(&[Some(vec![1.0]), None]);
    let derived = apply(&recipe, given.clone(), &NoPictures, &mut runner).unwrap();
    assert_eq!(derived.rows.project(&[0, 1]).unwrap().columns(), given.columns());
    assert_eq!(derived.rows.column_by_name("embedding").unwrap().null_count(), 2);
    assert_eq!(
        derived.rows.column_by_name("embedding_flag").unwrap().as_primitive::<Int32Type>().values(),
        &[1, 1]
    );
    assert!(
        derived.failures[0].why.contains("is something printed on standard output?"),
        "{:?}",
        derived.failures
    );
    assert_eq!(recipe.derived[0].name, "embedding".parse::<FieldName>().unwrap());
}

/// The example of the documentation.
const EXAMPLE: &str = include_str!("../../../../tests/data/features/embed.py");

/// A Python that has pyarrow: the first one PATH finds, if it has; `HEADWATER_PYTHON` must.
fn python() -> Option<String> {
    let named = std::env::var("HEADWATER_PYTHON").ok();
    let name = named.clone().unwrap_or_else(|| "python3".to_owned());
    let asked = std::process::Command::new(&name).args(["-c", "import pyarrow"]).output();
    let has = asked.is_ok_and(|asked| asked.status.success());
    assert!(has || named.is_none(), "HEADWATER_PYTHON={name} has no pyarrow");
    has.then_some(name)
}

#[test]
fn the_documented_python_program_embeds_lists() {
    let Some(python) = python() else {
        eprintln!("SKIPPED: no Python with pyarrow; set HEADWATER_PYTHON to one (tests/run does)");
        return;
    };
    let dir = folder("");
    write(&dir.path().join("embed.py"), EXAMPLE);
    write(&dir.path().join("weights.txt"), "1 0\n0.5 -1\n");
    let text = recipe(&python, "'{file:script}', '{file:weights}'")
        .replace("files = { ", "files = { script = 'embed.py', ");
    let files = RecipeFiles::beside(dir.path());
    let recipe = Recipe::parse_with(&text, &files).unwrap();
    let mut runner = CommandRunner::new(&recipe.derived, files, SimClock::start()).unwrap();
    let given = rows(&[Some(vec![3.0, 5.0]), None, Some(vec![-4.0]), Some(vec![])]);
    let derived = apply(&recipe, given, &NoPictures, &mut runner).unwrap();
    assert!(derived.failures.is_empty(), "{:?}", derived.failures);
    let embeddings = derived.rows.column_by_name("embedding").unwrap().as_list::<i32>();
    let lists: Vec<Option<Vec<f32>>> = embeddings
        .iter()
        .map(|list| list.map(|list| list.as_primitive::<Float32Type>().values().to_vec()))
        .collect();
    // Mean and root mean square, times the two rows of weights.
    let first = vec![4.0, -2.123_105_6];
    assert_eq!(lists, [Some(first), None, Some(vec![-4.0, -6.0]), None]);
}

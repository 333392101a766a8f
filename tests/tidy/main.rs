//! Tests of shape: what lies where, who may depend on whom, and that no test file is forgotten.
#![expect(clippy::unwrap_used, reason = "helpers of tests: a failure is a failed test")]

use headwater_align::derive::port::Files;
use headwater_align::recipe::Recipe;
use headwater_core::id::Sha256;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path.as_ref()).unwrap_or_else(|e| panic!("{}: {e}", path.as_ref().display()))
}

const MEMBERS: [&str; 11] = [
    "core",
    "core/mqtt",
    "agent",
    "collector",
    "collector/align",
    "collector/lake",
    "firmware-shims",
    "tests",
    "tests/fuzz",
    "tests/launch",
    "tests/sim",
];

/// The lines of a manifest's section that say something.
fn section(manifest: &str, section: &str) -> Vec<String> {
    let head = format!("[{section}]");
    let lines = manifest.lines().skip_while(|line| line.trim() != head).skip(1);
    let lines = lines.take_while(|line| !line.starts_with('['));
    lines.filter(|line| !line.trim().is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
}

/// Section of a manifest as its keys.
fn keys(manifest: &str, section: &str) -> BTreeSet<String> {
    manifest
        .lines()
        .skip_while(|line| line.trim() != format!("[{section}]"))
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split(['=', '.']).next())
        .map(|key| key.trim().to_owned())
        .filter(|key| !key.is_empty() && !key.starts_with('#'))
        .collect()
}

#[test]
fn no_forgotten_tests() {
    let tests = root().join("tests");
    let manifest = read(tests.join("Cargo.toml"));
    let roots: Vec<PathBuf> = manifest
        .lines()
        .filter_map(|line| line.strip_prefix("path = \""))
        .map(|path| tests.join(path.trim_end_matches('"')))
        .collect();
    let mut reachable = BTreeSet::new();
    let mut open: Vec<PathBuf> = roots;
    while let Some(file) = open.pop() {
        let text = read(&file);
        let dir = file.parent().unwrap();
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        for (at, line) in lines.iter().enumerate() {
            let name = line
                .strip_prefix("pub(crate) ")
                .or(line.strip_prefix("pub "))
                .unwrap_or(line)
                .strip_prefix("mod ")
                .and_then(|m| m.strip_suffix(';'));
            let Some(name) = name else { continue };
            let written = at
                .checked_sub(1)
                .and_then(|b| lines[b].strip_prefix("#[path = \""))
                .map(|p| p.trim_end_matches("\"]"));
            let stem = file.file_stem().unwrap().to_string_lossy().into_owned();
            let candidates = match written {
                Some(path) => vec![dir.join(path)],
                None => vec![
                    dir.join(format!("{name}.rs")),
                    dir.join(name).join("mod.rs"),
                    dir.join(&stem).join(format!("{name}.rs")),
                ],
            };
            open.extend(candidates.into_iter().filter(|path| path.exists()));
        }
        reachable.insert(file);
    }
    let forgotten: Vec<_> = rust_files(&tests)
        .into_iter()
        .filter(|f| !["fuzz", "launch", "sim"].iter().any(|package| f.starts_with(tests.join(package))))
        .filter(|f| !reachable.contains(f))
        .collect();
    assert!(forgotten.is_empty(), "compiled by no target: {forgotten:?}");
}

#[test]
fn every_golden_folder_is_read_by_a_test() {
    let golden = root().join("tests/golden");
    let mut sources = String::new();
    for member in MEMBERS {
        rust_files(&root().join(member)).iter().for_each(|file| sources.push_str(&read(file)));
    }
    for entry in fs::read_dir(&golden).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            assert!(sources.contains(&format!("golden/{name}")), "tests/golden/{name} is read by no test");
        }
    }
}

#[test]
fn layering_of_crates() {
    let ours = |member: &str, section: &str| -> BTreeSet<String> {
        keys(&read(root().join(member).join("Cargo.toml")), section)
    };
    for line in section(&read(root().join("firmware-shims/Cargo.toml")), "dependencies") {
        assert!(line.contains("optional = true"), "the shims stand alone by default: {line}");
    }
    for banned in ["tokio", "rumqttc", "sled", "object_store"] {
        assert!(!ours("core", "dependencies").contains(banned), "core must not use {banned}");
    }
    let headwater = |member: &str| -> BTreeSet<String> {
        ours(member, "dependencies").into_iter().filter(|d| d.starts_with("headwater-")).collect()
    };
    let set = |names: &[&str]| -> BTreeSet<String> { names.iter().map(|n| (*n).to_owned()).collect() };
    assert_eq!(headwater("core"), set(&[]));
    assert_eq!(headwater("agent"), set(&["headwater-core", "headwater-mqtt", "headwater-shims"]));
    assert_eq!(
        headwater("collector"),
        set(&["headwater-align", "headwater-core", "headwater-lake", "headwater-mqtt"])
    );
    assert_eq!(headwater("collector/align"), set(&["headwater-core"]));
    assert_eq!(headwater("core/mqtt"), set(&["headwater-core"]));
    assert!(headwater("collector/lake").is_subset(&set(&["headwater-core"])));
    assert!(headwater("collector/align").is_subset(&set(&["headwater-core"])));
    for banned in ["tokio", "headwater-lake", "iceberg", "parquet"] {
        assert!(
            !ours("collector/align", "dependencies").contains(banned),
            "alignment is pure, without {banned}"
        );
    }
    assert!(headwater("tests/sim").is_subset(&set(&["headwater-core", "headwater-shims"])));
    for member in ["agent", "core", "core/mqtt", "collector/lake", "firmware-shims"] {
        assert!(!ours(member, "dependencies").contains("rumqttd"), "{member} needs no broker");
    }
    assert!(!ours("collector", "dependencies").contains("sled"));
    for banned in ["tokio", "iceberg", "parquet", "object_store"] {
        assert!(
            !ours("collector/align", "dependencies").contains(banned),
            "aligning is pure, without {banned}"
        );
    }
}

#[test]
fn core_is_pure() {
    for file in rust_files(&root().join("core/src")) {
        let text = read(&file);
        let code: String =
            text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
        for banned in
            ["tokio", "std::fs", "std::net", "SystemTime", "time::Instant", "std::env", "std::process"]
        {
            assert!(!code.contains(banned), "{} uses {banned}", file.display());
        }
    }
}

#[test]
fn stages_do_not_import_stages() {
    let check = |crate_dir: &str, stages: &[&str], allowed: &[(&str, &str)]| {
        for stage in stages {
            for file in rust_files(&root().join(crate_dir).join("src").join(stage)) {
                let text = read(&file);
                for other in stages.iter().filter(|other| other != &stage) {
                    let imports = text.contains(&format!("crate::{other}::"));
                    let may = allowed.contains(&(*stage, *other));
                    assert!(!imports || may, "{} imports stage {other}", file.display());
                }
            }
        }
    };
    // Hand-off types live with the stage that makes them: ship takes sealed batches and reads the spool's handle.
    check(
        "agent",
        &["source", "stamp", "spool", "batch", "ship", "observe"],
        &[
            ("stamp", "spool"),
            ("ship", "spool"),
            ("ship", "batch"),
            ("stamp", "ship"),
            // Rows of the clock are the stamp stage's form; exchanges are ship's.
            ("observe", "stamp"),
            ("observe", "ship"),
        ],
    );
    // `ingest` drives what follows the landing log; the rest take hand-off types of their neighbours.
    check(
        "collector",
        &["receive", "land", "ingest", "dedup", "resolve", "align", "gate", "commit", "query", "serve"],
        COLLECTOR_EDGES,
    );
}

/// Who may take types of whom in the collector.
const COLLECTOR_EDGES: &[(&str, &str)] = &[
    // The log's adapter fulfils the receiver's port, and the receiver reads it back at start.
    ("land", "receive"),
    ("receive", "land"),
    ("serve", "land"),
    // Pages show the fleet's credit.
    ("serve", "receive"),
    // And the fleet's clocks.
    ("serve", "ingest"),
    // `ingest` drives all that follows the log.
    ("ingest", "receive"),
    ("ingest", "land"),
    ("ingest", "dedup"),
    ("ingest", "resolve"),
    ("ingest", "commit"),
    ("ingest", "align"),
    ("ingest", "gate"),
    // Alignment and gate work on rows as `commit` writes them, keyed as `dedup` keys them.
    ("align", "dedup"),
    ("align", "resolve"),
    ("align", "commit"),
    ("gate", "align"),
    ("gate", "dedup"),
    ("gate", "commit"),
    // What people ask of clocks is answered by the resolver, from rows as `commit` writes them.
    ("query", "commit"),
    ("query", "resolve"),
    // Recipes are read with the files that lie beside them.
    ("query", "align"),
    // A person waives what the gate holds.
    ("query", "gate"),
    // Recipes are checked with the files they name.
    ("query", "align"),
    // `headwater serve` serves a lake without a collector, by its clock.
    ("query", "serve"),
    ("query", "receive"),
    // Aligned rows are made again the way ingest makes them.
    ("query", "ingest"),
    ("commit", "dedup"),
    ("commit", "resolve"),
];

/// Files that write or rename without the disk port, and why they may.
const PLAIN_WRITES: &[(&str, &str)] = &[
    ("agent/src/spool/disk.rs", "the port's adapter"),
    ("collector/src/land/disk.rs", "the port's adapter"),
    (
        "agent/src/source/camera_dir.rs",
        "moves a picture that is already captured; a lost move captures it again",
    ),
    ("agent/src/spool/sled_index.rs", "sets a damaged index aside; it is rebuilt from the segments"),
    ("agent/src/quarantine.rs", "set aside bytes may be lost"),
    ("agent/src/status.rs", "written anew each second"),
    ("agent/src/ship/mqtt/memory.rs", "a hint: lost or damaged it costs one connection more"),
    ("agent/src/pipeline.rs", "a probe whether the folder can be written"),
    ("collector/src/pki/files.rs", "certificates and keys, synced with their folder, beside no spool or log"),
    ("collector/src/query/clock/mod.rs", "a picture for people; a torn one is drawn again"),
    (
        "collector/src/query/outgoing/export/folder.rs",
        "a folder for other tools: its files are synced, it gets its name last, and the lake can give it again",
    ),
    ("collector/src/serve/audit.rs", "turns its own old files; the newest is appended and synced"),
    ("agent/src/enroll/files.rs", "certificates and keys, synced with their folders, all or none"),
    ("agent/src/selftest/index.rs", "tears an index of its own on purpose"),
];

#[test]
fn files_are_written_through_the_disk_port() {
    for member in ["agent", "collector", "collector/lake"] {
        for file in rust_files(&root().join(member).join("src")) {
            let name = file.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
            let text = read(&file);
            let product = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            let writes = ["fs::write(", "fs::rename("].iter().any(|call| product.contains(call));
            let is_test = name.contains("tests") || name.contains("testing");
            let may = is_test || PLAIN_WRITES.iter().any(|(path, _)| *path == name);
            assert!(!writes || may, "{name} writes past the disk port, which syncs file and folder");
        }
    }
}

#[test]
fn lints_inherited_and_versions_in_one_place() {
    for member in MEMBERS {
        let manifest = read(root().join(member).join("Cargo.toml"));
        assert!(manifest.contains("[lints]\nworkspace = true"), "{member} does not inherit the lints");
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let lines = manifest
                .lines()
                .skip_while(|line| line.trim() != format!("[{section}]"))
                .skip(1)
                .take_while(|line| !line.starts_with('['));
            for line in lines.filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
                assert!(
                    line.contains("workspace = true"),
                    "{member}: {line}: versions stand in the workspace table"
                );
            }
        }
    }
}

#[test]
fn every_module_says_why() {
    for member in MEMBERS {
        for file in rust_files(&root().join(member)) {
            let text = read(&file);
            let first = text.lines().next().unwrap_or_default();
            assert!(
                first.starts_with("//!") || first.starts_with("#![doc = include_str!("),
                "{} does not open with //!",
                file.display()
            );
        }
    }
}

#[test]
fn no_abort_profile() {
    let manifest = read(root().join("Cargo.toml"));
    let settings: String =
        manifest.lines().filter(|line| !line.trim_start().starts_with('#')).collect::<Vec<_>>().join("\n");
    assert!(!settings.contains("panic = \"abort\""));
    assert_eq!(settings.matches("panic = \"unwind\"").count(), 2, "release and edge say unwind");
}

/// A file of any name that a recipe in the README may name: fences, a script, weights.
struct AnyFile;

impl Files for AnyFile {
    fn read(&self, _: &str, _: u64) -> Result<Vec<u8>, String> {
        let ring = "[[[8,48],[9,48],[9,49],[8,49],[8,48]]]";
        let geometry = format!("{{\"type\":\"Polygon\",\"coordinates\":{ring}}}");
        let fence =
            format!("{{\"type\":\"Feature\",\"properties\":{{\"name\":\"yard\"}},\"geometry\":{geometry}}}");
        Ok(format!("{{\"type\":\"FeatureCollection\",\"features\":[{fence}]}}").into_bytes())
    }

    fn sha256(&self, path: &str) -> Result<Sha256, String> {
        Ok(Sha256::of(path.as_bytes()))
    }
}

/// A recipe is whole, or parts to be added to one that has places.
fn readme_recipe(block: &str) {
    let column =
        "name = 'place'\nstream = 'gps'\nselect = ['lat', 'lon']\nmethod = 'geodesic'\nmax_gap = '3s'\n";
    let head = format!("headwater_recipe = 1\nname = 'r'\n[spine]\nstream = 's'\n[[column]]\n{column}");
    let whole = block.contains("headwater_recipe");
    let parsed = Recipe::parse_with(&format!("{}{block}", if whole { "" } else { &head }), &AnyFile);
    if let Err(error) = parsed {
        panic!("README's recipe does not parse: {error}\n{block}");
    }
}

#[test]
fn readme_and_samples() {
    let readme = read(root().join("README.md"));
    let blocks: Vec<&str> =
        readme.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(!blocks.is_empty(), "README shows a configuration");
    let least = read(root().join("tests/golden/collector_config/valid/least.toml"));
    for block in blocks {
        if block.contains("headwater_gate") {
            let rules = headwater_collector::gate::RuleSet::parse(block).map(|_| ());
            assert_eq!(rules, Ok(()), "README's rules do not parse:\n{block}");
            continue;
        }
        let collector = |text: &str| headwater_collector::config::parse_text(text).map(|_| ());
        if block.contains("[[column]]") {
            readme_recipe(block);
            continue;
        }
        let parsed = match (block.contains("[device]"), block.contains("[tenant]")) {
            (true, _) => headwater_agent::config::parse_text(block).map(|_| ()).map_err(|e| e.to_string()),
            (false, true) => collector(block).map_err(|e| e.to_string()),
            // A part of it, as one adds it to what is there.
            (false, false) => collector(&format!("{least}\n{block}")).map_err(|e| e.to_string()),
        };
        assert_eq!(parsed, Ok(()), "README's configuration does not parse:\n{block}");
    }
    use headwater_tests::world::{MOSQUITTO_ACL, MOSQUITTO_SETTINGS};
    for lines in [MOSQUITTO_SETTINGS, MOSQUITTO_ACL] {
        assert!(
            readme.contains(lines),
            "README shows mosquitto's settings as the scenarios use them:\n{lines}"
        );
    }
    for command in ["cargo demo", "tests/run"] {
        assert!(readme.contains(command), "README names {command}");
    }
    for path in ["ARCHITECTURE.md", "CHANGELOG.md", "LICENSE", "tests/run", ".ci/run"] {
        assert!(root().join(path).exists(), "{path} is missing");
    }
}

/// The unit and the packages, as far as their sources show it; `cross/package` looks into what comes of them.
#[test]
fn the_unit_waits_for_nothing_and_packages_need_no_library() {
    let cross = root().join("cross");
    let unit = read(cross.join("headwater-agent.service"));
    let settings: Vec<&str> = unit.lines().filter(|line| !line.starts_with('#')).collect();
    for wrong in
        ["DynamicUser", "network-online", "time-sync", "PrivateDevices", "ProtectClock", "PrivateTmp"]
    {
        assert!(!settings.iter().any(|line| line.contains(wrong)), "{wrong} in the unit");
    }
    for needed in [
        "Type=notify",
        "WatchdogSec=",
        "Restart=always",
        "StartLimitIntervalSec=0",
        "User=headwater",
        "MemoryMax=",
    ] {
        assert!(settings.iter().any(|line| line.starts_with(needed)), "the unit lacks {needed}");
    }
    let manifest = read(root().join("agent/Cargo.toml"));
    let depends = manifest.lines().find(|line| line.starts_with("depends = ")).unwrap();
    assert!(!depends.contains("libc") && !depends.contains("$auto"), "{depends}");
    for script in ["scripts/postinst", "scripts/postrm", "scripts-armv7/preinst", "scripts-armv7/postinst"] {
        let text = read(cross.join("deb").join(script));
        assert!(text.contains("#DEBHELPER#"), "cargo-deb needs its mark in {script}");
    }
}

/// Sizes on record are of targets there are, below the ceilings that `cross/size` holds builds against.
#[test]
fn sizes_on_record_are_below_their_ceilings() {
    let text = read(root().join("cross/size.md"));
    let (_, rows) = text.split_once("|---|---|---|---|---|\n").unwrap();
    for row in rows.lines() {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        assert!(["aarch64", "armv7", "armv6", "x86_64"].contains(&cells[0]), "{row}");
        let bytes = |cell: usize| cells[cell].parse::<u64>().unwrap_or_else(|e| panic!("{row}: {e}"));
        assert!(bytes(1) < 5 << 20 && bytes(2) < bytes(1) && bytes(3) < 5 << 19, "{row}");
    }
}

//! `headwater recipe`: recipes checked against a lake, told, compared with those it keeps, and written as SQL.

use crate::ingest_world;

use headwater_align::recipe::Recipe;
use headwater_lake::Lake;
use ingest_world::*;
use serde_json::Value;
use std::process::{Command, Stdio};

const DRIVE: &str = r#"
headwater_recipe = 1
name = "drive"
doc = "frames with the motion before"
[spine]
stream = "camera/front"
select = ["image", "name"]
[[column]]
name = "motion"
stream = "imu"
select = ["n"]
method = "previous"
tolerance = "50ms"
"#;

/// Ten seconds of one gateway with their aligned rows, and a folder for recipes beside it.
struct Here {
    dir: tempfile::TempDir,
}

impl Here {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let lake = Lake::init(dir.path().join("lake").to_str().unwrap()).await.unwrap();
        let log = MemoryLog::of(&ten_seconds(&Gateway::new("pi-1", 7)));
        live(&lake, &log, &[Recipe::parse(DRIVE).unwrap()]).await;
        let here = Self { dir };
        here.write("drive.toml", DRIVE);
        here
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.dir.path().join(name), text).unwrap();
    }

    /// Exit code, standard output and standard error.
    fn run(&self, words: &[&str]) -> (Option<i32>, String, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_headwater"))
            .env_remove("HEADWATER_LAKE")
            .current_dir(self.dir.path())
            .arg("recipe")
            .args(words)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    }

    fn ok(&self, words: &[&str]) -> String {
        let (code, out, err) = self.run(words);
        assert_eq!((code, err.as_str()), (Some(0), ""), "{words:?}: {out}");
        out
    }

    fn json(&self, words: &[&str]) -> Value {
        let words: Vec<&str> = words.iter().copied().chain(["--json"]).collect();
        serde_json::from_str(&self.ok(&words)).unwrap()
    }

    fn refused(&self, words: &[&str]) -> (String, String) {
        let (code, out, err) = self.run(words);
        assert_eq!(code, Some(1), "{words:?}: {out}{err}");
        (out, err)
    }
}

#[tokio::test]
async fn a_recipe_is_checked_told_and_compared_with_the_lakes() {
    let here = Here::new().await;
    let id = Recipe::parse(DRIVE).unwrap().id();

    let fine = here.ok(&["check", "drive.toml", "--at", "main"]);
    assert!(fine.contains("is a recipe: aligned.drive") && fine.contains(&id), "{fine}");
    assert_eq!(here.json(&["check", "drive@main"])["id"], id.as_str());
    assert!(here.ok(&["explain", "drive.toml"]).contains("frames with the motion before"));
    let told = here.json(&["explain", "drive@main"]);
    assert_eq!(told["sections"][0]["title"], "aligned.drive: one row per sample of camera/front");
    assert_eq!(here.ok(&["canonical", "drive@main"]), here.ok(&["canonical", "drive.toml"]));
    let listed = here.json(&["list"]);
    assert_eq!((&listed[0]["recipe"], &listed[0]["id"]), (&"drive".into(), &id.as_str().into()));

    assert!(here.ok(&["diff", "drive@main", "drive.toml"]).starts_with("The same recipe"));
    here.write("new.toml", &DRIVE.replace("50ms", "100ms"));
    let changed = here.ok(&["diff", "drive@main", "new.toml"]);
    assert!(
        changed.starts_with("~ column motion.tolerance: 50ms -> 100ms\nChanges values. Another id"),
        "{changed}"
    );
    let changes = here.json(&["diff", "drive@main", "new.toml"]);
    assert_eq!(changes["changes"][0]["touches"], "values");

    let schema: Value = serde_json::from_str(&here.ok(&["schema"])).unwrap();
    assert_eq!(schema["title"], "Headwater recipe");
}

#[tokio::test]
async fn mistakes_are_told_with_their_place_and_what_was_meant() {
    let here = Here::new().await;
    here.write("bad.toml", &DRIVE.replace("tolerance", "tolerence").replace("[spine]", "[spin]"));
    let (out, err) = here.refused(&["check", "bad.toml"]);
    for said in [
        "mistake spin: unknown key; did you mean \"spine\"?",
        "mistake spine: missing",
        "mistake column[0].tolerence: unknown key; did you mean \"tolerance\"?",
    ] {
        assert!(out.contains(said), "{said}: {out}");
    }
    assert!(err.contains("the lines above say where and why"), "{err}");
    let (out, _) = here.refused(&["check", "bad.toml", "--json"]);
    let found: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&found["id"], &found["mistakes"][0]["path"]), (&Value::Null, &"spin".into()));

    here.write("unknown.toml", &DRIVE.replace("\"imu\"", "\"imo\"").replace("\"name\"]", "\"nam\"]"));
    let (out, _) = here.refused(&["check", "unknown.toml", "--at", "main"]);
    assert!(out.contains("column[0].stream: no device declares imo; did you mean \"imu\"?"), "{out}");
    assert!(out.contains("spine.select[1]: camera/front has no field nam; did you mean \"name\"?"), "{out}");
    here.ok(&["check", "unknown.toml"]);

    here.write(
        "stamp.toml",
        &DRIVE.replace("select = [\"image\"", "at = \"window_end\"\nselect = [\"image\""),
    );
    let (out, _) = here.refused(&["check", "stamp.toml", "--at", "main"]);
    assert!(out.contains("spine.at: camera/front is stamped at"), "{out}");

    for (words, said) in [
        (["explain", "missing.toml"], "of one that is in the lake say NAME@REF"),
        (["explain", "bad.toml"], "did you mean \"tolerance\"?"),
        (["explain", "walk@main"], "no recipe made aligned.walk at main; `headwater recipe list --at main`"),
        (["check", "drive@nowhere"], "nowhere"),
    ] {
        let (_, err) = here.refused(&words);
        assert!(err.contains(said), "{words:?}: {err}");
    }
}

#[tokio::test]
async fn a_recipe_is_written_as_sql_over_the_lakes_tables() {
    let here = Here::new().await;
    for dialect in ["duckdb", "spark", "trino"] {
        let sql = here.ok(&["sql", "drive@main", "--dialect", dialect]);
        assert!(sql.contains("-- aligned.drive by recipe") && sql.contains("WHERE stream = 'imu'"), "{sql}");
    }
    here.write(
        "slerp.toml",
        &DRIVE
            .replace("[\"n\"]", "[\"n\", \"n2\", \"n3\", \"n4\"]")
            .replace("previous", "slerp")
            .replace("tolerance", "max_gap"),
    );
    let (_, err) = here.refused(&["sql", "slerp.toml", "--dialect", "duckdb"]);
    assert!(
        err.contains("column[0].method: cannot be said in SQL") && err.contains("imu has no field n2"),
        "{err}"
    );
}

//! A lake with the rows of some recipes, and the same recipes as SQL, for DuckDB to be held against the collector
//! (tests/conformance/recipes.py).

use crate::ingest_world;
use headwater_align::recipe::Recipe;
use headwater_lake::Lake;
use ingest_world::*;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;

fn headwater(lake: &Path, words: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_headwater"))
        .env("HEADWATER_LAKE", lake)
        .args(words)
        .output()
        .unwrap();
    assert!(output.status.success(), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Two gateways whose motion samples are stamped to the microsecond.
#[tokio::test(start_paused = true)]
#[ignore = "a step of tests/run: tests/run recipes"]
async fn a_lake_and_queries_for_another_engine() {
    let to = PathBuf::from(std::env::var_os("HEADWATER_RECIPE_LAKE").unwrap());
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/conformance/recipes/lake");
    let read = |entry: std::io::Result<std::fs::DirEntry>| {
        Recipe::parse(&std::fs::read_to_string(entry.unwrap().path()).unwrap()).unwrap()
    };
    let recipes: Vec<Recipe> = std::fs::read_dir(from).unwrap().map(read).collect();
    let place = to.join("lake");
    let lake = Lake::init(place.to_str().unwrap()).await.unwrap();
    let mut records = ten_seconds(&Gateway::new("pi-1", 7));
    records.extend(ten_seconds(&Gateway::new("pi-2", 8)));
    live(&lake, &MemoryLog::of(&records), &recipes).await;

    let tables: Value = serde_json::from_str(&headwater(&place, &["tables", "--json"])).unwrap();
    let location = |row: &Value| (row["name"].as_str().unwrap().to_owned(), row["metadata_location"].clone());
    let locations: Map<String, Value> = tables.as_array().unwrap().iter().map(location).collect();
    let names: Vec<String> = recipes.iter().map(|recipe| recipe.name.to_string()).collect();
    for name in &names {
        assert!(locations.contains_key(&format!("aligned.{name}")), "{name} has no rows");
        let spec = format!("{name}@main");
        let sql = headwater(&place, &["recipe", "sql", &spec, "--dialect", "duckdb"]);
        std::fs::write(to.join(format!("{name}.sql")), sql).unwrap();
    }
    std::fs::write(to.join("lake.json"), json!({"recipes": names, "tables": locations}).to_string()).unwrap();
}

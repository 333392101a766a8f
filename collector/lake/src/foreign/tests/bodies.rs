//! Bodies as real clients sent them parse and apply: recorded once, they must be taken for ever.
//!
//! Ids, places and numbers of the recording become those of the table at hand, and the files a body names are written.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::client::{NOW_MS, request, with_branch, write_snapshot};
use crate::foreign::{ForeignEdit, TableChange, TableCreate};
use crate::lake::Lake;
use crate::names::TableName;
use crate::table::{TableState, load};

fn recorded() -> Vec<(String, Value)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/rest_body/v1");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let read = |file: &PathBuf| {
        let value: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        (file.file_stem().unwrap().to_string_lossy().into_owned(), value)
    };
    files.iter().map(read).collect()
}

/// Replaces a text wherever it stands.
fn replace(value: &mut Value, from: &str, to: &str) {
    match value {
        Value::String(text) => *text = text.replace(from, to),
        Value::Array(items) => items.iter_mut().for_each(|item| replace(item, from, to)),
        Value::Object(members) => members.values_mut().for_each(|member| replace(member, from, to)),
        _ => {}
    }
}

fn name(change: &Value) -> TableName {
    let identifier = &change["identifier"];
    let namespace = identifier["namespace"][0].as_str().unwrap();
    TableName::new(format!("{namespace}.{}", identifier["name"].as_str().unwrap())).unwrap()
}

/// Makes a recorded change one of the table as it is here.
fn adapt(change: &mut Value, state: Option<&TableState>) {
    let current = state.and_then(|state| state.entry.snapshot_id);
    let mut number = state.map_or(1, |state| state.metadata.next_sequence_number());
    if let Some(state) = state {
        let list = change["updates"]
            .as_array()
            .unwrap()
            .iter()
            .find_map(|u| u["snapshot"]["manifest-list"].as_str());
        if let Some(folder) =
            list.and_then(|list| list.split_once("/metadata/")).map(|(folder, _)| folder.to_owned())
        {
            replace(change, &folder, state.metadata.location());
        }
        for requirement in change["requirements"].as_array_mut().unwrap() {
            match requirement["type"].as_str().unwrap() {
                "assert-table-uuid" => requirement["uuid"] = json!(state.entry.uuid),
                "assert-ref-snapshot-id" => requirement["snapshot-id"] = json!(current),
                "assert-current-schema-id" => {
                    requirement["current-schema-id"] = json!(state.metadata.current_schema_id());
                }
                other => panic!("{other}"),
            }
        }
    }
    let mut parent = current;
    for update in change["updates"].as_array_mut().unwrap() {
        if let Some(snapshot) = update.get_mut("snapshot") {
            snapshot["parent-snapshot-id"] = json!(parent);
            snapshot["sequence-number"] = json!(number);
            snapshot["timestamp-ms"] = json!(NOW_MS);
            snapshot["schema-id"] = json!(state.map_or(0, |state| state.metadata.current_schema_id()));
            parent = snapshot["snapshot-id"].as_i64();
            number += 1;
        }
        // The table here has other columns: the recorded one is added to them.
        if let (Some(state), Some(schema)) = (state, update.get("schema").cloned()) {
            let mut here = serde_json::to_value(state.metadata.current_schema()).unwrap();
            let mut added = schema["fields"].as_array().unwrap().last().unwrap().clone();
            added["id"] = json!(state.metadata.last_column_id() + 1);
            here["fields"].as_array_mut().unwrap().push(added);
            here["schema-id"] = json!(1);
            update["schema"] = here;
        }
        if update["action"] == "set-current-schema" && state.is_some() && update["schema-id"] != -1 {
            update["schema-id"] = json!(1);
        }
    }
}

/// Writes the files of every snapshot a change brings.
async fn write_files(
    lake: &Lake,
    change: &Value,
    metadata: &iceberg::spec::TableMetadata,
    state: Option<&TableState>,
) {
    let manifests = state.map_or_else(Vec::new, |state| state.manifests.clone());
    for snapshot in change["updates"].as_array().unwrap().iter().filter_map(|update| update.get("snapshot")) {
        let (id, number) =
            (snapshot["snapshot-id"].as_i64().unwrap(), snapshot["sequence-number"].as_i64().unwrap());
        let list = snapshot["manifest-list"].as_str().unwrap();
        let data = format!("{}/data/{id}.parquet", metadata.location());
        let manifest = format!("{}/metadata/{id}-m0.avro", metadata.location());
        write_snapshot(lake, (metadata, &manifests), (id, number), list, &manifest, (&data, 3, true)).await;
    }
}

#[tokio::test]
async fn rest_body_goldens() {
    let bodies = recorded();
    assert!(bodies.len() >= 15, "{}", bodies.len());
    for (file, golden) in bodies {
        let (lake, mut writer) = with_branch().await;
        let mut body = golden["body"].clone();
        replace(&mut body, "file:///lake", lake.location());
        if body.get("updates").is_none() && body.get("table-changes").is_none() {
            let table = TableName::new(format!("mine.{}", body["name"].as_str().unwrap())).unwrap();
            let create = TableCreate::parse(table.clone(), body).unwrap_or_else(|e| panic!("{file}: {e}"));
            let edits = vec![ForeignEdit::Create(Box::new(create))];
            let made = writer.apply(&request(edits)).await.unwrap_or_else(|e| panic!("{file}: {e:?}"));
            assert_eq!(made.unwrap().commit.tables[&table].rows, 0, "{file}");
            continue;
        }
        let mut changes = match body.get("table-changes") {
            Some(changes) => changes.as_array().unwrap().clone(),
            None => vec![body],
        };
        let tables = lake.tables(&lake.resolve("exp/a").await.unwrap()).await.unwrap();
        let mut edits = Vec::new();
        let mut snapshots = Vec::new();
        for change in &mut changes {
            let table = name(change);
            let state = match tables.get(&table) {
                Some(entry) => Some(load(lake.store(), &table, entry).await.unwrap()),
                None => None,
            };
            adapt(change, state.as_ref());
            let parsed =
                TableChange::parse(table.clone(), change.clone()).unwrap_or_else(|e| panic!("{file}: {e}"));
            let metadata = match &state {
                Some(state) => iceberg::spec::TableMetadata::clone(&state.metadata),
                None => {
                    super::super::create::from_updates(lake.location(), &table, &parsed.updates).unwrap().0
                }
            };
            write_files(&lake, change, &metadata, state.as_ref()).await;
            let mut added = change["updates"]
                .as_array()
                .unwrap()
                .iter()
                .filter_map(|u| u["snapshot"]["snapshot-id"].as_i64());
            snapshots.push((table, added.next_back()));
            edits.push(ForeignEdit::Change(parsed));
        }
        let made = writer.apply(&request(edits)).await.unwrap_or_else(|e| panic!("{file}: {e:?}")).unwrap();
        for (table, snapshot) in snapshots {
            let entry = &made.commit.tables[&table];
            assert_ne!(Some(entry), tables.get(&table), "{file}: {table} changed");
            assert!(snapshot.is_none() || entry.snapshot_id == snapshot, "{file}: {table}");
        }
    }
}

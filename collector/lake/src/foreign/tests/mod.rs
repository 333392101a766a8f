//! Foreign changes against a lake in memory, by a client that writes real manifests.

mod bodies;
mod client;

use std::sync::Arc;

use client::{Client, NOW_MS, with_branch, with_branch_on, write_files};
use iceberg::spec::{DataContentType, ManifestContentType};
use object_store::memory::InMemory;
use serde_json::json;

use super::*;
use crate::error::{CommitError, LakeError};
use crate::names::RefName;
use crate::repo::CommitKind;
use crate::testing::{Fault, FaultStore, init_on, open_on};

/// What a client does to the fields of a schema.
type Edit<'a> = &'a dyn Fn(&mut Vec<serde_json::Value>);

fn reason<T: std::fmt::Debug>(result: Result<T, CommitError>) -> ForeignError {
    match result.unwrap_err() {
        CommitError::Failed { source: LakeError::Foreign(foreign), .. } => foreign,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_append_is_a_commit_with_totals_that_hold() {
    let (lake, mut writer) = with_branch().await;
    let client = Client::of(&lake, "raw.imu").await;
    let body = client.append(7, 1000).await;
    let made = writer.apply(&client.request(body)).await.unwrap().unwrap();
    assert_eq!(
        (made.commit.kind, made.commit.author.as_str(), made.rows),
        (CommitKind::Foreign, "rest/test", 1000)
    );
    let state = Client::of(&lake, "raw.imu").await.state;
    let summary = &state.metadata.current_snapshot().unwrap().summary().additional_properties;
    assert_eq!(state.entry.rows, client.state.entry.rows + 1000);
    assert_eq!(state.entry.bytes, client.state.entry.bytes + 4096);
    assert_eq!(summary["total-records"], state.entry.rows.to_string());
    assert_eq!(summary["hw.commit-kind"], "foreign");
    assert_eq!(summary["hw.parent"], made.commit.parents[0].to_string());
    // Only the branch has it.
    let main = lake.tables(&lake.resolve("main").await.unwrap()).await.unwrap();
    assert_eq!(main[&client.table], client.state.entry);
}

#[tokio::test]
async fn the_lost_answer_of_a_commit_is_no_conflict() {
    let (lake, mut writer) = with_branch().await;
    let client = Client::of(&lake, "raw.imu").await;
    let body = client.append(7, 1).await;
    writer.apply(&client.request(body.clone())).await.unwrap().unwrap();
    assert!(writer.apply(&client.request(body)).await.unwrap().is_none(), "it is there already");
    // Another one on the same base is stale.
    let other = client.append(8, 1).await;
    assert!(matches!(reason(writer.apply(&client.request(other)).await), ForeignError::Stale { .. }));
    let mut unasserted = client.append(9, 1).await;
    unasserted["requirements"] = json!([]);
    let refused = reason(writer.apply(&client.request(unasserted)).await);
    assert!(matches!(&refused, ForeignError::Stale { reason, .. } if reason.contains("follow")), "{refused}");
}

#[tokio::test]
async fn a_ref_that_moved_for_another_table_is_no_conflict() {
    let (lake, mut writer) = with_branch().await;
    let imu = Client::of(&lake, "raw.imu").await;
    let body = imu.append(7, 1).await;
    let other = Client::of(&lake, "ops.ledger").await;
    let mut second = lake.writer(RefName::new("exp/a").unwrap(), "other".to_owned());
    second.apply(&other.request(other.append(8, 1).await)).await.unwrap().unwrap();
    writer.apply(&imu.request(body)).await.unwrap().unwrap();
    let after = lake.tables(&lake.resolve("exp/a").await.unwrap()).await.unwrap();
    assert_eq!(after[&imu.table].snapshot_id, Some(7));
    assert_eq!(after[&other.table].snapshot_id, Some(8));
}

#[tokio::test]
async fn our_own_writer_goes_on_where_a_client_stopped() {
    let (lake, mut writer) = with_branch().await;
    let client = Client::of(&lake, "raw.imu").await;
    writer.apply(&client.request(client.append(7, 1000).await)).await.unwrap().unwrap();
    client::commit_rows(&lake, "exp/a", 5).await;
    let state = Client::of(&lake, "raw.imu").await.state;
    assert_eq!(state.entry.rows, client.state.entry.rows + 1005);
    assert_eq!(state.metadata.current_snapshot().unwrap().parent_snapshot_id(), Some(7));
}

#[tokio::test]
async fn position_deletes_are_counted_and_carried_through_our_own_commits() {
    let (lake, mut writer) = with_branch().await;
    let client = Client::of(&lake, "raw.imu").await;
    let (list, manifest) = (client.url("deletes-7.avro"), client.url("deletes-7-m0.avro"));
    let data = format!("{}/data/7-deletes.parquet", client.folder());
    let base = (&*client.state.metadata, client.state.manifests.as_slice());
    let numbers = (7, client.state.metadata.next_sequence_number());
    let file = (DataContentType::PositionDeletes, data.as_str(), 4, true);
    write_files(&lake, base, numbers, &list, &manifest, file).await;
    let mut body = client.append(7, 1).await;
    body["updates"][0]["snapshot"]["manifest-list"] = json!(list);
    writer.apply(&client.request(body)).await.unwrap().unwrap();
    for _ in 0..40 {
        client::commit_rows(&lake, "exp/a", 1).await;
    }
    let state = Client::of(&lake, "raw.imu").await.state;
    let summary = &state.metadata.current_snapshot().unwrap().summary().additional_properties;
    let told = |word: &str| summary[word].as_str();
    assert_eq!((told("total-position-deletes"), told("total-delete-files")), ("4", "1"));
    assert_eq!(
        state.entry.rows,
        client.state.entry.rows + 40,
        "deleted positions are rows of files all the same"
    );
    let deletes = state.manifests.iter().filter(|m| m.content == ManifestContentType::Deletes);
    assert_eq!(deletes.map(|m| m.manifest_path.as_str()).collect::<Vec<_>>(), [manifest.as_str()]);
}

#[tokio::test]
async fn a_crash_at_any_write_leaves_all_of_a_change_or_nothing_and_a_retry_makes_it_once() {
    let mut crashes = 0;
    for (write, after) in (1..100).flat_map(|write| [(write, false), (write, true)]) {
        let faults = Arc::new(FaultStore::new(Arc::new(InMemory::new())));
        let store = || Arc::clone(&faults) as Arc<dyn object_store::ObjectStore>;
        let (lake, mut writer) = with_branch_on(init_on(store()).await.unwrap()).await;
        let (imu, ledger) = (Client::of(&lake, "raw.imu").await, Client::of(&lake, "ops.ledger").await);
        let bodies = [(&imu, imu.append(7, 5).await), (&ledger, ledger.append(8, 5).await)];
        let edits = bodies.iter().flat_map(|(client, body)| client.request(body.clone()).edits).collect();
        let request = client::request(edits);
        faults.set(if after { Fault::CrashAfter(write) } else { Fault::CrashBefore(write) });
        let outcome = writer.apply(&request).await;
        let crashed = faults.is_dead();
        faults.set(Fault::None);

        let lake = open_on(store()).await.unwrap();
        let tables = lake.tables(&lake.resolve("exp/a").await.unwrap()).await.unwrap();
        let is_new = |client: &Client| tables[&client.table] != client.state.entry;
        assert_eq!(is_new(&imu), is_new(&ledger), "write {write}: both or none");
        assert!(outcome.is_err() || is_new(&imu), "write {write}: what was acknowledged is there");
        let mut again = lake.writer(RefName::new("exp/a").unwrap(), "rest".to_owned());
        again.apply(&request).await.unwrap();
        let state = Client::of(&lake, "raw.imu").await.state;
        assert_eq!(state.entry.rows, imu.state.entry.rows + 5, "write {write}: once");
        assert_eq!(lake.log("exp/a", 10).await.unwrap().len(), 2, "write {write}");
        if !crashed {
            assert!(crashes >= 8, "{crashes}");
            return;
        }
        crashes += 1;
    }
    panic!("it never went through");
}

#[tokio::test]
async fn files_outside_the_folder_or_missing_are_refused() {
    let (lake, mut writer) = with_branch().await;
    let head = lake.head(writer.name()).await.unwrap();
    let client = Client::of(&lake, "raw.imu").await;
    let other = Client::of(&lake, "ops.ledger").await;
    let elsewhere = format!("{}/data/x.parquet", other.folder());
    let escapes = [
        client.append_with(11, &format!("{}/metadata/l.avro", other.folder()), None, None, true).await,
        client
            .append_with(
                12,
                &client.url("l12.avro"),
                Some(&format!("{}/metadata/m.avro", other.folder())),
                None,
                true,
            )
            .await,
        client.append_with(13, &client.url("l13.avro"), None, Some(&elsewhere), true).await,
        client.append_with(14, &client.url("l14.avro"), None, Some("s3://elsewhere/x.parquet"), false).await,
    ];
    for body in escapes {
        let refused = reason(writer.apply(&client.request(body)).await);
        assert!(matches!(refused, ForeignError::Escape { .. }), "{refused}");
    }
    let lost = format!("{}/data/lost.parquet", client.folder());
    let body = client.append_with(15, &client.url("l15.avro"), None, Some(&lost), false).await;
    let refused = reason(writer.apply(&client.request(body)).await);
    assert!(matches!(&refused, ForeignError::MissingFile { path, .. } if *path == lost), "{refused}");
    let mut body = client.append(16, 1).await;
    body["updates"][0]["snapshot"]["manifest-list"] = json!(client.url("never-written.avro"));
    assert!(matches!(reason(writer.apply(&client.request(body)).await), ForeignError::MissingFile { .. }));
    assert_eq!(lake.head(writer.name()).await.unwrap(), head, "nothing was committed");
}

#[tokio::test]
async fn what_is_the_lakes_is_not_the_clients() {
    let (lake, mut writer) = with_branch().await;
    let client = Client::of(&lake, "raw.imu").await;
    let current = client.state.entry.snapshot_id;
    let v3 = json!({"action": "upgrade-format-version", "format-version": 3});
    let refused = [
        (json!({"action": "set-location", "location": "memory:///lake/t/x"}), "stays where it is"),
        (json!({"action": "assign-uuid", "uuid": "00000000-0000-4000-8000-000000000000"}), "keeps its id"),
        (json!({"action": "remove-snapshots", "snapshot-ids": [current]}), "retention"),
        (json!({"action": "remove-snapshot-ref", "ref-name": "main"}), "stays"),
        (
            json!({"action": "set-snapshot-ref", "ref-name": "b", "type": "branch", "snapshot-id": current}),
            "headwater branch",
        ),
        (
            json!({"action": "set-snapshot-ref", "ref-name": "main", "type": "tag", "snapshot-id": current}),
            "table ref",
        ),
        (v3, "format 2"),
        (json!({"action": "set-properties", "updates": {"gc.enabled": "true"}}), "gc.enabled"),
        (json!({"action": "remove-properties", "removals": ["hw.field-ids"]}), "hw.field-ids"),
        (json!({"action": "set-properties", "updates": {"write.data.path": "s3://x"}}), "write.data.path"),
        (json!({"action": "add-spec", "spec": {"spec-id": 1, "fields": []}}), "partitioned by the day"),
        (json!({"action": "remove-schemas", "schema-ids": [0]}), "older schemas"),
    ];
    for (update, word) in refused {
        let body = json!({"requirements": [], "updates": [update]});
        let refused = reason(writer.apply(&client.request(body)).await);
        assert!(
            matches!(refused, ForeignError::Refused { .. }) && refused.to_string().contains(word),
            "{refused}"
        );
    }
    // Saying what is so is no change, statistics are not kept, and the lake's own words stay.
    let body = json!({"requirements": [], "updates": [
        {"action": "set-location", "location": client.folder()},
        {"action": "assign-uuid", "uuid": client.state.entry.uuid},
        {"action": "upgrade-format-version", "format-version": 2},
        {"action": "set-properties", "updates": {"gc.enabled": "false", "mine": "1"}},
        {"action": "remove-statistics", "snapshot-id": 1},
    ]});
    writer.apply(&client.request(body)).await.unwrap().unwrap();
    let after = Client::of(&lake, "raw.imu").await.state;
    assert_eq!(after.metadata.properties()["mine"], "1");
    assert_eq!(after.entry.snapshot_id, current);
    let mut ahead = Client::of(&lake, "raw.imu").await.append(17, 1).await;
    ahead["updates"][0]["snapshot"]["timestamp-ms"] = json!(NOW_MS + 3_600_000);
    let refused = reason(writer.apply(&client.request(ahead)).await).to_string();
    assert!(refused.contains("3600 s ahead"), "{refused}");
}

#[tokio::test]
async fn columns_only_grow_and_keep_their_texts() {
    let (lake, mut writer) = with_branch().await;
    let client = Client::of(&lake, "raw.imu").await;
    let schema = serde_json::to_value(client.state.metadata.current_schema()).unwrap();
    let change = |edit: &dyn Fn(&mut Vec<serde_json::Value>)| {
        let mut schema = schema.clone();
        schema["schema-id"] = json!(7);
        edit(schema["fields"].as_array_mut().unwrap());
        let updates = json!([{"action": "add-schema", "schema": schema}, {"action": "set-current-schema", "schema-id": -1}]);
        client.request(json!({"requirements": [], "updates": updates}))
    };
    let next = client.state.metadata.last_column_id() + 1;
    let wrong: [(&str, Edit); 6] = [
        ("only grow", &|fields| drop(fields.pop())),
        ("keep their names", &|fields| fields[0]["name"] = json!("dev")),
        ("only widen", &|fields| fields[0]["type"] = json!("long")),
        ("must go on to", &|fields| fields[0]["required"] = json!(false)),
        ("must be optional", &|fields| {
            fields.push(json!({"id": next, "name": "q", "required": true, "type": "int"}))
        }),
        ("new ids", &|fields| fields.push(json!({"id": 0, "name": "q", "required": false, "type": "int"}))),
    ];
    for (word, edit) in wrong {
        let refused = reason(writer.apply(&change(edit)).await).to_string();
        assert!(refused.contains(word), "{word}: {refused}");
    }
    let text = |fields: &mut Vec<serde_json::Value>| {
        fields.push(json!({"id": next, "name": "q", "required": false, "type": "double"}));
        for field in fields {
            field.as_object_mut().unwrap().remove("doc");
        }
    };
    writer.apply(&change(&text)).await.unwrap().unwrap();
    let after = Client::of(&lake, "raw.imu").await.state;
    let column = after.metadata.current_schema().field_by_name("x").unwrap();
    assert_eq!(column.doc.as_deref(), Some("unit: m/s2"), "a client that drops texts drops no unit");
    assert!(after.metadata.properties()["hw.field-ids"].contains("\"q\""));
    client::commit_rows(&lake, "exp/a", 1).await;
}

#[tokio::test]
async fn snapshots_of_clients_are_trimmed_like_ours() {
    let (lake, mut writer) = with_branch().await;
    for n in 0..30 {
        let client = Client::of(&lake, "raw.imu").await;
        writer.apply(&client.request(client.append(100 + n, 1).await)).await.unwrap().unwrap();
    }
    let state = Client::of(&lake, "raw.imu").await.state;
    assert_eq!(state.metadata.snapshots().len(), crate::table::SNAPSHOTS_MAX);
    assert_eq!(state.metadata.history().last().map(|log| log.snapshot_id), Some(129));
    assert!(state.metadata.metadata_log().len() <= 5);
}

#[tokio::test]
async fn a_branch_that_is_not_there_is_not_made() {
    let (lake, _) = with_branch().await;
    let client = Client::of(&lake, "raw.imu").await;
    let mut nowhere = lake.writer(RefName::new("exp/gone").unwrap(), "rest".to_owned());
    assert_eq!(
        reason(nowhere.apply(&client.request(client.append(7, 1).await)).await),
        ForeignError::NoBranch
    );
    assert!(lake.head(nowhere.name()).await.unwrap().is_none());
}

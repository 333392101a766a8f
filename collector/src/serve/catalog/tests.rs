//! The catalog over a real socket, against a lake in memory.

use super::*;
use crate::serve::LakePages;
use crate::serve::access::{Role, Token, TokenText};
use arrow_array::{ArrayRef, RecordBatch, TimestampMicrosecondArray};
use headwater_lake::testing::{Fault, FaultStore, init_on};
use headwater_lake::{
    ColumnSpec, ColumnType, CommitRequest, ProtectionChange, RefPatterns, TS, TableAppend, TableName,
    TableSpec, UTC,
};
use object_store::memory::InMemory;
use serde_json::{Value, json};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const NOW_US: i64 = 1_795_435_200_000_000;

struct Served {
    at: SocketAddr,
    lake: Lake,
    store: Arc<FaultStore>,
    audit: std::path::PathBuf,
    tasks: TaskTracker,
    _folder: tempfile::TempDir,
}

struct Answered {
    status: u16,
    head: String,
    body: Value,
}

impl Answered {
    /// Type and message of an error.
    fn error(&self) -> (&str, &str) {
        let error = &self.body["error"];
        (error["type"].as_str().unwrap_or_default(), error["message"].as_str().unwrap_or_default())
    }
}

/// A lake with `raw.imu` on `main`, `exp/a` of it and the tag `v1`, served.
async fn served(tokens: Vec<Token>) -> Served {
    let store = Arc::new(FaultStore::new(Arc::new(InMemory::new())));
    let lake = init_on(Arc::clone(&store) as Arc<dyn object_store::ObjectStore>).await.unwrap();
    let ts: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![NOW_US; 3]).with_timezone(UTC));
    let batches = vec![RecordBatch::try_from_iter([(TS, ts)]).unwrap()];
    let columns = vec![ColumnSpec::required(TS, ColumnType::Timestamptz)];
    let spec = TableSpec::new(TableName::new("raw.imu").unwrap(), columns, &[TS]);
    let mut writer = lake.writer(RefName::main(), "test".into());
    for n in 0..2 {
        let appends = vec![TableAppend { spec: spec.clone(), batches: batches.clone() }];
        writer
            .commit(CommitRequest { time_us: NOW_US + n, appends, ..CommitRequest::default() })
            .await
            .unwrap();
    }
    let head = lake.resolve("main").await.unwrap();
    lake.branch(&RefName::new("exp/a").unwrap(), &head, "test", NOW_US).await.unwrap();
    lake.refs().tag(&RefName::new("v1").unwrap(), &head, "test", NOW_US).await.unwrap();

    let folder = tempfile::tempdir().unwrap();
    let audit = folder.path().join("audit.jsonl");
    let access = Access { tokens, tenant: Some("acme".into()), ..Access::default() };
    let tasks = TaskTracker::new();
    let pages = LakePages::new(CatalogSettings {
        lake: lake.clone(),
        branch: RefName::main(),
        access,
        audit: AuditLog::in_file(&audit),
        now: Arc::new(|| NOW_US),
        tasks: tasks.clone(),
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tasks.spawn(async move { axum::serve(listener, pages.router()).await.unwrap() });
    Served { at, lake, store, audit, tasks, _folder: folder }
}

impl Served {
    async fn ask(&self, line: &str, headers: &str, body: &str) -> Answered {
        let mut stream = TcpStream::connect(self.at).await.unwrap();
        let text = format!(
            "{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nuser-agent: test/1\r\ncontent-length: {}\r\n{headers}\r\n{body}",
            body.len()
        );
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answered { status, head: head.to_owned(), body: serde_json::from_str(body).unwrap_or(Value::Null) }
    }

    async fn get(&self, path: &str) -> Answered {
        self.ask(&format!("GET {path}"), "", "").await
    }

    async fn post(&self, path: &str, body: &Value) -> Answered {
        self.ask(&format!("POST {path}"), "", &body.to_string()).await
    }

    fn audited(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.audit).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn properties(value: &str) -> Value {
    json!({"requirements": [], "updates": [{"action": "set-properties", "updates": {"mine": value}}]})
}

const IMU: &str = "namespaces/raw/tables/imu";

#[tokio::test]
async fn a_warehouse_is_a_ref() {
    let served = served(Vec::new()).await;
    let first = served.lake.log("main", 10).await.unwrap().pop().unwrap().id;
    for (warehouse, prefix) in [
        ("", "b.main".to_owned()),
        ("main", "b.main".to_owned()),
        ("exp%2Fa", "b.exp+a".to_owned()),
        ("v1", "t.v1".to_owned()),
        ("main~1", format!("c.{first}")),
        (&format!("main@{}", first.short()), format!("c.{first}")),
    ] {
        let answer = served.get(&format!("/v1/config?warehouse={warehouse}")).await;
        assert_eq!(answer.body["overrides"]["prefix"], prefix, "{warehouse}");
        let table = served.get(&format!("/v1/{prefix}/{IMU}")).await;
        let rows = if prefix.starts_with('c') { "3" } else { "6" };
        let metadata = &table.body["metadata"];
        let is_current = |snapshot: &&Value| snapshot["snapshot-id"] == metadata["current-snapshot-id"];
        let current = metadata["snapshots"].as_array().unwrap().iter().find(is_current).unwrap();
        assert_eq!(current["summary"]["total-records"], rows, "{warehouse}");
    }
    let answer = served.get("/v1/config?warehouse=exp/zzz").await;
    assert_eq!(answer.status, 404);
    let (kind, message) = answer.error();
    assert!(kind == "NoSuchWarehouseException" && message.contains("exp/a, main"), "{message}");
    let answer = served.get("/v1/main/namespaces").await;
    assert!(answer.error().1.contains("config?warehouse"), "{}", answer.error().1);
}

#[tokio::test]
async fn what_there_is_is_listed_and_what_is_not_is_said() {
    let served = served(Vec::new()).await;
    assert_eq!(served.get("/v1/b.main/namespaces").await.body, json!({"namespaces": [["raw"]]}));
    assert_eq!(served.get("/v1/b.main/namespaces?parent=raw").await.body, json!({"namespaces": []}));
    let tables = served.get("/v1/b.main/namespaces/raw/tables").await.body;
    assert_eq!(tables, json!({"identifiers": [{"namespace": ["raw"], "name": "imu"}]}));
    assert_eq!(served.get("/v1/b.main/namespaces/raw/views").await.body, json!({"identifiers": []}));
    for (line, status) in [
        ("HEAD /v1/b.main/namespaces/raw", 204),
        ("HEAD /v1/b.main/namespaces/raw/tables/imu", 204),
        ("HEAD /v1/b.main/namespaces/raw/tables/gps", 404),
        ("HEAD /v1/b.main/namespaces/raw/views/v", 404),
        ("POST /v1/b.main/namespaces/raw/tables/imu/metrics", 204),
    ] {
        assert_eq!(served.ask(line, "", "").await.status, status, "{line}");
    }
    for (path, kind) in [
        ("/v1/b.main/namespaces/nope", "NoSuchNamespaceException"),
        ("/v1/b.main/namespaces/a%1Fb/tables", "NoSuchNamespaceException"),
        ("/v1/b.main/namespaces/raw/tables/Imu", "NoSuchTableException"),
        ("/v1/b.exp+gone/namespaces", "NoSuchNamespaceException"),
        ("/v1/b.main/functions", "NoSuchEndpointException"),
    ] {
        let answer = served.get(path).await;
        assert_eq!((answer.status, answer.error().0), (404, kind), "{path}");
    }
    // The same copy is not sent twice.
    let answer = served.get(&format!("/v1/b.main/{IMU}")).await;
    let tag = answer.head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap().to_owned();
    let again = served.ask(&format!("GET /v1/b.main/{IMU}"), &format!("if-none-match: {tag}\r\n"), "").await;
    assert_eq!(again.status, 304);
    let refs = served.get("/api/v1/refs").await.body;
    assert_eq!(
        (refs["branches"][1]["name"].as_str(), refs["branches"][1]["protected"].as_bool()),
        (Some("main"), Some(true))
    );
    assert_eq!((&refs["tags"][0]["name"], refs["tags"][0]["commit"].is_string()), (&json!("v1"), true));
    assert_eq!(served.get("/api/v1/log?at=main&limit=1").await.body["commits"].as_array().unwrap().len(), 1);
    assert_eq!(served.get("/api/v1/commit?at=v1").await.body["kind"], "ingest");
}

/// What the lake protects counts here at once, whatever this server was told when it started.
#[tokio::test]
async fn rest_ref_protected_in_the_lake() {
    let served = served(Vec::new()).await;
    assert_eq!(served.post(&format!("/v1/b.exp+a/{IMU}"), &properties("1")).await.status, 200);
    let protect = RefPatterns::of(&["exp/*"]);
    let change = ProtectionChange { protect, ..ProtectionChange::default() };
    served.lake.protect(&change, "anna", 1).await.unwrap();
    let head = served.lake.resolve("exp/a").await.unwrap();
    let answer = served.post(&format!("/v1/b.exp+a/{IMU}"), &properties("2")).await;
    let (kind, message) = answer.error();
    assert_eq!((answer.status, kind), (403, "ForbiddenException"), "{message}");
    assert!(message.contains("exp/a is protected"), "{message}");
    let refs = served.get("/api/v1/refs").await.body;
    assert_eq!(
        (&refs["branches"][0]["name"], &refs["branches"][0]["protected"]),
        (&json!("exp/a"), &json!(true))
    );
    assert_eq!(served.lake.resolve("exp/a").await.unwrap(), head);
}

#[tokio::test]
async fn rest_protected_ref() {
    let served = served(Vec::new()).await;
    let first = served.lake.log("main", 10).await.unwrap().pop().unwrap().id;
    let before = served.lake.head(&RefName::main()).await.unwrap();
    for (prefix, word) in [
        ("b.main".to_owned(), "headwater branch exp/local main"),
        ("t.v1".to_owned(), "headwater branch exp/my-change v1"),
        (format!("c.{first}"), "headwater branch exp/my-change"),
    ] {
        let answer = served.post(&format!("/v1/{prefix}/{IMU}"), &properties("1")).await;
        let (kind, message) = answer.error();
        assert_eq!((answer.status, kind), (403, "ForbiddenException"), "{message}");
        assert!(message.contains(word), "{message}");
        let change =
            json!({"identifier": {"namespace": ["raw"], "name": "imu"}, "requirements": [], "updates": []});
        let both = json!({"table-changes": [change]});
        assert_eq!(served.post(&format!("/v1/{prefix}/transactions/commit"), &both).await.status, 403);
        assert_eq!(served.ask(&format!("DELETE /v1/{prefix}/{IMU}"), "", "").await.status, 403);
    }
    assert_eq!(served.lake.head(&RefName::main()).await.unwrap(), before);
    // An unprotected branch takes it, and both are written down.
    let answer = served.post(&format!("/v1/b.exp+a/{IMU}"), &properties("1")).await;
    assert_eq!((answer.status, &answer.body["metadata"]["properties"]["mine"]), (200, &json!("1")));
    let audited = served.audited();
    assert_eq!(audited.len(), 10);
    let refused = audited.iter().filter(|entry| entry["result"] == "refused").count();
    assert_eq!(refused, 9);
    let last = audited.last().unwrap();
    let head = served.lake.resolve("exp/a").await.unwrap();
    assert_eq!((last["ref"].as_str(), last["commit"].as_str()), (Some("exp/a"), Some(head.as_str())));
    assert_eq!((last["who"].as_str(), last["agent"].as_str()), (Some("local"), Some("test/1")));
    let commit = served.lake.commit_object(&head).await.unwrap();
    assert_eq!((commit.author.as_str(), commit.message.as_str()), ("rest/local", "properties raw.imu"));
}

#[tokio::test]
async fn tables_are_made_changed_and_dropped() {
    let served = served(Vec::new()).await;
    let schema = json!({"type": "struct", "schema-id": 0, "fields": [
        {"id": 1, "name": "id", "required": false, "type": "long"}
    ]});
    let create = |name: &str, staged: bool| json!({"name": name, "schema": schema, "stage-create": staged});
    let path = "/v1/b.exp+a/namespaces/mine";
    assert_eq!(served.post("/v1/b.exp+a/namespaces", &json!({"namespace": ["mine"]})).await.status, 200);
    assert_eq!(served.post("/v1/b.exp+a/namespaces", &json!({"namespace": ["mine"]})).await.status, 409);
    assert_eq!(served.get(&format!("{path}/tables")).await.body, json!({"identifiers": []}));
    let staged = served.post(&format!("{path}/tables"), &create("t", true)).await;
    assert_eq!(staged.body.get("metadata-location"), None);
    assert_eq!(served.get(&format!("{path}/tables/t")).await.status, 404);
    let made = served.post(&format!("{path}/tables"), &create("t", false)).await;
    let location = made.body["metadata"]["location"].as_str().unwrap().to_owned();
    assert!(location.starts_with("memory:///lake/t/mine/t-"), "{location}");
    let again = served.post(&format!("{path}/tables"), &create("t", false)).await;
    assert_eq!((again.status, again.error().0), (409, "AlreadyExistsException"));
    let rename = json!({"source": {"namespace": ["mine"], "name": "t"}, "destination": {"namespace": ["mine"], "name": "u"}});
    let renamed = served.post("/v1/b.exp+a/tables/rename", &rename).await;
    assert_eq!((renamed.status, renamed.error().0), (406, "UnsupportedOperationException"));
    let stale = json!({"requirements": [{"type": "assert-current-schema-id", "current-schema-id": 9}], "updates": []});
    let stale = served.post(&format!("{path}/tables/t"), &stale).await;
    assert_eq!((stale.status, stale.error().0), (409, "CommitFailedException"));
    let bad = served.post(&format!("{path}/tables/t"), &json!({"updates": [{"action": "fly"}]})).await;
    assert_eq!((bad.status, bad.error().0), (400, "BadRequestException"));
    assert_eq!(served.ask(&format!("DELETE {path}"), "", "").await.status, 409);
    assert_eq!(served.ask(&format!("DELETE {path}/tables/t?purgeRequested=true"), "", "").await.status, 204);
    assert_eq!(served.get(&format!("{path}/tables/t")).await.status, 404);
    assert_eq!(served.ask(&format!("DELETE {path}"), "", "").await.status, 204);
    assert_eq!(served.get(path).await.status, 404);
}

#[tokio::test]
async fn tokens_open_what_they_are_for() {
    let token = |name: &str, role, refs: &[&str]| {
        let text = TokenText::random("acme").unwrap();
        let token = Token { name: name.into(), role, refs: RefPatterns::of(refs), sha256: text.sha256() };
        (format!("authorization: Bearer {}\r\n", text.secret()), token, text.secret().to_owned())
    };
    let (reader, reader_token, secret) = token("r", Role::Reader, &["*"]);
    let (writer, writer_token, _) = token("w", Role::Writer, &["exp/*"]);
    let served = served(vec![reader_token, writer_token]).await;
    let body = properties("1").to_string();
    let line = format!("POST /v1/b.exp+a/{IMU}");
    let nobody = served.ask(&line, "", &body).await;
    assert_eq!((nobody.status, nobody.error().0), (401, "NotAuthorizedException"));
    assert!(nobody.head.contains("www-authenticate: Bearer"));
    let other = TokenText::random("umbrella").unwrap();
    let other = served.ask(&line, &format!("authorization: Bearer {}\r\n", other.secret()), &body).await;
    assert!(other.status == 401 && other.error().1.contains("tenant umbrella"), "{}", other.error().1);
    let refused = served.ask(&line, &reader, &body).await;
    assert!(refused.status == 403 && refused.error().1.contains("reader's"), "{}", refused.error().1);
    assert_eq!(served.ask(&line, &writer, &body).await.status, 200);
    let elsewhere = served.ask("GET /v1/config?warehouse=main", &writer, "").await;
    assert!(elsewhere.status == 403 && elsewhere.error().1.contains("exp/*"), "{}", elsewhere.error().1);
    assert_eq!(served.ask("GET /v1/config?warehouse=main", &reader, "").await.status, 200);
    let refs = served.ask("GET /api/v1/refs", &writer, "").await.body;
    assert_eq!(refs["branches"].as_array().unwrap().len(), 1, "others are not even named");
    let who: Vec<Value> = served.audited().iter().map(|entry| entry["who"].clone()).collect();
    assert_eq!(who, [json!("-"), json!("-"), json!("r"), json!("w")]);
    // Clients that exchange a credential get it back.
    let form = "content-type: application/x-www-form-urlencoded\r\n";
    let exchange = |secret: &str| format!("grant_type=client_credentials&client_id=x&client_secret={secret}");
    let given = served.ask("POST /v1/oauth/tokens", form, &exchange(&secret)).await;
    assert_eq!(given.body["access_token"], json!(secret));
    let wrong = served.ask("POST /v1/oauth/tokens", form, &exchange("hw..00")).await;
    assert_eq!((wrong.status, &wrong.body["error"]), (401, &json!("invalid_client")));
}

#[tokio::test]
async fn a_store_that_loses_answers_is_seen_through_and_one_that_is_away_is_said() {
    let served = served(Vec::new()).await;
    let path = format!("/v1/b.exp+a/{IMU}");
    served.store.set(Fault::DropResponse { key: "refs/heads".into(), times: 1 });
    assert_eq!(served.post(&path, &properties("1")).await.status, 200);
    served.store.set(Fault::FailWrite(1));
    let away = served.post(&path, &properties("2")).await;
    assert_eq!((away.status, away.error().0), (503, "ServiceUnavailableException"), "{}", away.error().1);
    assert!(away.head.contains("retry-after"));
    served.store.set(Fault::None);
    let results: Vec<Value> = served.audited().iter().map(|entry| entry["result"].clone()).collect();
    assert_eq!(results, [json!("committed"), json!("failed")]);
    assert_eq!(served.post(&path, &properties("3")).await.status, 200);
    assert_eq!(served.lake.log("exp/a", 10).await.unwrap().len(), 4);
}

#[test]
fn an_outcome_nobody_knows_is_no_conflict() {
    let unknown = headwater_lake::CommitError::Unknown { name: RefName::main(), seq: 7 };
    let failure = Failure::from(unknown);
    assert_eq!((failure.status.as_u16(), failure.kind), (500, "CommitStateUnknownException"));
    assert!(failure.message.contains("delete no files"), "{}", failure.message);
}

#[tokio::test]
async fn a_change_that_cannot_be_written_down_is_not_made() {
    let served = served(Vec::new()).await;
    std::fs::create_dir(&served.audit).unwrap();
    let before = served.lake.resolve("exp/a").await.unwrap();
    let answer = served.post(&format!("/v1/b.exp+a/{IMU}"), &properties("1")).await;
    assert!(answer.status == 503 && answer.error().1.contains("http.audit"), "{}", answer.error().1);
    assert_eq!(served.lake.resolve("exp/a").await.unwrap(), before);
    assert_eq!(served.get(&format!("/v1/b.exp+a/{IMU}")).await.status, 200, "reading goes on");
    assert!(!served.tasks.is_closed());
}

//! Webhooks that are away, refuse, hang and come back: each event at least once, in order, and none forgotten.

#![expect(clippy::disallowed_methods, reason = "endpoints and webhooks of a test end with its runtime")]

use super::*;
use crate::land::StdDisk;
use crate::outbound::{Poster, Secret};
use headwater_core::ports::Clock;
use headwater_lake::{CommitRequest, Lake, RefName, testing};
use headwater_sim::clock::SimClock;
use std::path::Path;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// What an endpoint got, and how it answers.
#[derive(Clone, Default)]
struct Endpoint {
    got: Arc<Mutex<Vec<(String, Value)>>>,
    /// Answers still to be refused.
    refuse: Arc<Mutex<u32>>,
}

impl Endpoint {
    async fn serve(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/events", listener.local_addr().unwrap());
        let this = self.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = Vec::new();
                let body = loop {
                    let mut chunk = [0; 4096];
                    let n = stream.read(&mut chunk).await.unwrap();
                    request.extend_from_slice(&chunk[..n]);
                    let text = String::from_utf8_lossy(&request).into_owned();
                    let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                    if let Ok(value) = serde_json::from_str::<Value>(body) {
                        let id = head.lines().find_map(|line| line.strip_prefix("webhook-id: ")).unwrap();
                        break (id.to_owned(), value);
                    }
                };
                let refused = {
                    let mut left = this.refuse.lock().unwrap();
                    let refused = *left > 0;
                    *left = left.saturating_sub(1);
                    refused
                };
                // It may have acted on what it then says it refused: that is why deliveries have an id.
                this.got.lock().unwrap().push(body);
                let status = if refused { "503 Busy" } else { "204 No Content" };
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        url
    }

    fn seqs(&self) -> Vec<u64> {
        self.got.lock().unwrap().iter().map(|(_, event)| event["seq"].as_u64().unwrap()).collect()
    }
}

fn webhook(lake: &Lake, dir: &Path, url: &str, kinds: &[&str], refs: &[&str]) -> Webhook<StdDisk, SimClock> {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let settings = WebhookSettings {
        name: "ops".to_owned(),
        url: url.parse().unwrap(),
        secret: None,
        kinds: words(kinds),
        refs: words(refs),
        poster: Poster::new(None).unwrap(),
    };
    Webhook::new(settings, lake.clone(), CursorFile::new(StdDisk, dir, "ops"), SimClock::start())
}

async fn commits(lake: &Lake, n: i64) {
    let mut writer = lake.writer(RefName::main(), "test".to_owned());
    for time_us in 0..n {
        writer.commit(CommitRequest { time_us, ..CommitRequest::default() }).await.unwrap();
    }
}

/// Lives until the endpoint has seen `n` deliveries.
async fn live(webhook: Webhook<StdDisk, SimClock>, endpoint: &Endpoint, n: usize) {
    let cancel = CancellationToken::new();
    let task = tokio::spawn(webhook.run(cancel.clone()));
    let clock = SimClock::start();
    for _ in 0..600 {
        if endpoint.got.lock().unwrap().len() >= n {
            break;
        }
        clock.sleep_until(clock.boot().plus_ms(50)).await;
    }
    // A moment more shows what comes too often.
    clock.sleep_until(clock.boot().plus_ms(100)).await;
    cancel.cancel();
    task.await.unwrap();
}

#[tokio::test]
async fn each_event_comes_once_in_order_through_refusals_and_restarts() {
    let (lake, dir) = (testing::memory().await.unwrap(), tempfile::tempdir().unwrap());
    commits(&lake, 2).await;
    let endpoint = Endpoint::default();
    let url = endpoint.serve().await;
    let hook = || webhook(&lake, dir.path(), &url, &[], &["main"]);
    // New, it is told of what comes.
    live(hook(), &endpoint, 0).await;
    assert!(endpoint.seqs().is_empty());
    commits(&lake, 3).await;
    *endpoint.refuse.lock().unwrap() = 1;
    live(hook(), &endpoint, 4).await;
    assert_eq!(endpoint.seqs(), [3, 3, 4, 5], "what was refused comes again, before what follows");
    commits(&lake, 1).await;
    live(hook(), &endpoint, 5).await;
    assert_eq!(endpoint.seqs(), [3, 3, 4, 5, 6]);
    let got = endpoint.got.lock().unwrap().clone();
    assert_eq!(got[0].0, got[1].0, "a repetition has the same id");
    assert_eq!(got[1].0, format!("{}.main.3", lake.repo_id()));
    assert_eq!((got[2].1["ref"].as_str(), got[2].1["kind"].as_str()), (Some("main"), Some("ingest")));
    assert!(got[2].1["time"].as_str().unwrap().starts_with("1970-01-01T00:00:00"));
}

#[tokio::test]
async fn patterns_and_kinds_choose_and_the_end_of_a_ref_is_told() {
    let (lake, dir) = (testing::memory().await.unwrap(), tempfile::tempdir().unwrap());
    commits(&lake, 1).await;
    let head = lake.resolve("main").await.unwrap();
    let endpoint = Endpoint::default();
    let url = endpoint.serve().await;
    let hook = || webhook(&lake, dir.path(), &url, &["ingest", "delete"], &["quarantine/*"]);
    live(hook(), &endpoint, 0).await;
    let name = RefName::new("quarantine/1").unwrap();
    lake.branch(&name, &head, "test", 1).await.unwrap();
    commits(&lake, 1).await;
    live(hook(), &endpoint, 1).await;
    lake.drop_ref(&name, None, "test", 2, "done").await.unwrap();
    live(hook(), &endpoint, 2).await;
    let ops: Vec<String> = endpoint
        .got
        .lock()
        .unwrap()
        .iter()
        .map(|(_, event)| event["op"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(ops, ["create", "delete"]);
}

#[tokio::test]
async fn a_dead_endpoint_keeps_its_events_until_it_lives() {
    let (lake, dir) = (testing::memory().await.unwrap(), tempfile::tempdir().unwrap());
    let endpoint = Endpoint::default();
    live(webhook(&lake, dir.path(), "http://127.0.0.1:1/", &[], &["main"]), &endpoint, 0).await;
    commits(&lake, 4).await;
    live(webhook(&lake, dir.path(), "http://127.0.0.1:1/", &[], &["main"]), &endpoint, 0).await;
    let url = endpoint.serve().await;
    live(webhook(&lake, dir.path(), &url, &[], &["main"]), &endpoint, 4).await;
    assert_eq!(endpoint.seqs(), [1, 2, 3, 4]);
}

#[test]
fn a_cursor_that_cannot_be_read_is_not_taken_for_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let file = CursorFile::new(StdDisk, dir.path(), "ops");
    assert_eq!(file.load().unwrap(), None);
    let mut cursors = Cursors::default();
    cursors.refs.insert(RefName::main(), 7);
    file.store(&cursors).unwrap();
    file.store(&cursors).unwrap();
    assert_eq!(file.load().unwrap().unwrap().refs, cursors.refs);
    std::fs::write(dir.path().join("ops.json"), "{").unwrap();
    assert!(file.load().is_err());
    assert!(Secret::read(&dir.path().join("ops.json")).is_err());
}

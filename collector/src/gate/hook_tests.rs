//! Hooks that pass, fail, hang, crash, babble and flood, as programs and as endpoints.

#![expect(clippy::disallowed_methods, reason = "endpoints of a test end with its runtime")]

use super::super::settings::{Hook, HookCall, WebhookCall};
use super::*;
use crate::outbound::{Poster, Secret};
use headwater_sim::clock::SimClock;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

fn question() -> Question {
    Question {
        lake: "file:///lake".to_owned(),
        rest_url: Some("http://127.0.0.1:9464".to_owned()),
        branch: "wap/01".to_owned(),
        candidate: "ab".repeat(32),
        target: "main".to_owned(),
        fork: "cd".repeat(32),
        recipe: ("drive".to_owned(), "id".to_owned()),
        table: "aligned.drive".to_owned(),
        rows: 3,
        t_ns: Some((1, 2)),
        gates: vec![("schema".to_owned(), Verdict::Pass)],
    }
}

fn hook(call: HookCall, timeout_ms: u64) -> Hook {
    Hook { name: "check".to_owned(), recipes: Vec::new(), timeout_ms, call }
}

async fn shell(script: &str, timeout_ms: u64) -> Judged {
    let words = ["sh", "-c", script].map(str::to_owned).to_vec();
    ask(&hook(HookCall::Command(words), timeout_ms), &question(), &SimClock::start()).await
}

const MINUTE_MS: u64 = 60_000;

#[tokio::test]
async fn the_exit_code_is_the_verdict_and_the_output_its_evidence() {
    let passed = shell("cat >/dev/null; echo '{\"rows\": 3}'", MINUTE_MS).await;
    assert_eq!((passed.gate.as_ref(), passed.verdict), ("check", Verdict::Pass));
    assert_eq!(passed.evidence, json!({"rows": 3}));
    let failed = shell("echo too few; exit 1", MINUTE_MS).await;
    assert_eq!(
        (failed.verdict, failed.evidence),
        (Verdict::Fail, json!({"text": "too few", "truncated": false}))
    );
    assert_eq!(shell("exit 0", MINUTE_MS).await.evidence, Value::Null);
}

#[tokio::test]
async fn the_question_comes_by_input_and_environment() {
    let script = "printf '{\"e\": \"%s %s %s %s\", \"q\": ' $HEADWATER_LAKE $HEADWATER_REF ${#HEADWATER_COMMIT} $HEADWATER_REST_URL; cat; echo '}'";
    let seen = shell(script, MINUTE_MS).await.evidence;
    assert_eq!(seen["e"], "file:///lake wap/01 64 http://127.0.0.1:9464");
    assert_eq!(seen["q"], question().to_json());
}

#[tokio::test]
async fn crashes_and_what_cannot_start_never_pass() {
    let crashed = shell("echo boom >&2; exit 7", MINUTE_MS).await;
    assert_eq!((crashed.verdict, crashed.evidence["tries"].as_u64()), (Verdict::Fail, Some(3)));
    assert!(crashed.evidence["error"].as_str().unwrap().contains("boom"), "{crashed:?}");
    let killed = shell("kill -9 $$", MINUTE_MS).await;
    assert!(killed.evidence["error"].as_str().unwrap().contains("signal"), "{killed:?}");
    let call = HookCall::Command(vec!["/no/such/program".to_owned()]);
    let missing = ask(&hook(call, MINUTE_MS), &question(), &SimClock::start()).await;
    assert!(missing.evidence["error"].as_str().unwrap().contains("cannot be started"), "{missing:?}");
}

/// Looks at a process before it counts as alive: some seconds of them.
const LOOKS_MAX: u32 = 200_000;

/// What it started is ended with it: the file its child would write never comes.
#[tokio::test]
async fn a_late_one_is_ended_with_all_it_started() {
    let dir = tempfile::tempdir().unwrap();
    let pids = dir.path().join("pids");
    let script = format!("sleep 1000 & echo $! >> {}; wait", pids.display());
    let late = shell(&script, 400).await;
    assert_eq!(late.verdict, Verdict::Fail);
    assert!(late.evidence["error"].as_str().unwrap().contains("within 400 ms"), "{late:?}");
    let started = std::fs::read_to_string(&pids).unwrap();
    assert_eq!(started.lines().count(), 3, "three tries");
    for pid in started.lines() {
        // Killed, it is gone once it was its turn, or waits for init to take note of it.
        let mut state = String::new();
        let is_gone = (0..LOOKS_MAX).any(|_| {
            std::thread::yield_now();
            state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            state.is_empty() || state.contains(") Z ") || state.contains(") X ")
        });
        assert!(is_gone, "{state}");
    }
}

#[tokio::test]
async fn garbage_is_kept_as_text_and_a_flood_is_cut() {
    let garbage = shell("head -c 100 /dev/urandom; exit 1", MINUTE_MS).await;
    assert_eq!(garbage.verdict, Verdict::Fail);
    assert!(garbage.evidence["text"].is_string());
    let flood = shell("head -c 5000000 /dev/zero | tr '\\0' x; exit 0", MINUTE_MS).await;
    assert_eq!((flood.verdict, flood.evidence["truncated"].as_bool()), (Verdict::Pass, Some(true)));
    assert_eq!(flood.evidence["text"].as_str().unwrap().len(), EVIDENCE_BYTES_MAX);
    // One that floods standard error and never reads its question does not hang either.
    let noisy = shell("exec <&-; head -c 5000000 /dev/zero >&2; exit 3", MINUTE_MS).await;
    assert_eq!(noisy.verdict, Verdict::Fail);
}

/// Answers each request with `answer` (a whole HTTP answer), or not at all if it is empty. Gives how often it was asked
/// and the last request.
async fn endpoint(answer: String) -> (String, Arc<AtomicU32>, tokio::sync::watch::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/gate?token=x", listener.local_addr().unwrap());
    let (asked, (tell, told)) = (Arc::new(AtomicU32::new(0)), tokio::sync::watch::channel(String::new()));
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            let mut request = Vec::new();
            while !request.ends_with(b"}") {
                let mut chunk = [0; 4096];
                let n = stream.read(&mut chunk).await.unwrap();
                request.extend_from_slice(&chunk[..n]);
            }
            tell.send_replace(String::from_utf8(request).unwrap());
            if answer.is_empty() {
                open.push(stream);
            } else {
                drop(stream.write_all(answer.as_bytes()).await);
            }
        }
    });
    (url, asked, told)
}

fn http(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

async fn webhook(answer: String, timeout_ms: u64) -> (Judged, u32) {
    let (url, asked, _) = endpoint(answer).await;
    let call = HookCall::Webhook(Box::new(WebhookCall {
        url: url.parse().unwrap(),
        secret: None,
        poster: Poster::new(None).unwrap(),
    }));
    let judged = ask(&hook(call, timeout_ms), &question(), &SimClock::start()).await;
    (judged, asked.load(Ordering::SeqCst))
}

#[tokio::test]
async fn an_endpoint_answers_with_its_verdict() {
    for (word, verdict) in [("pass", Verdict::Pass), ("warn", Verdict::Warn), ("fail", Verdict::Fail)] {
        let body = format!("{{\"verdict\": \"{word}\", \"evidence\": {{\"n\": 1}}}}");
        let (judged, asked) = webhook(http("200 OK", &body), MINUTE_MS).await;
        assert_eq!((judged.verdict, judged.evidence, asked), (verdict, json!({"n": 1}), 1));
    }
}

#[tokio::test]
async fn whatever_else_an_endpoint_does_never_passes() {
    let pass = "{\"verdict\": \"pass\"}";
    let long = format!("{{\"verdict\": \"pass\", \"evidence\": \"{}\"}}", "x".repeat(EVIDENCE_BYTES_MAX));
    for (answer, words) in [
        (http("500 Internal Server Error", pass), "answered 500"),
        (http("302 Found", pass), "answered 302"),
        (http("200 OK", "<html>"), "its answer is no"),
        (http("200 OK", "{\"verdict\": \"PASS!\"}"), "is no verdict"),
        (http("200 OK", ""), "its answer is no"),
        (http("200 OK", &long), "longer than 65536 bytes"),
        ("garbage\r\n\r\n".to_owned(), "post to http://127.0.0.1"),
    ] {
        let (judged, asked) = webhook(answer, MINUTE_MS).await;
        let error = judged.evidence["error"].as_str().unwrap().to_owned();
        assert_eq!((judged.verdict, asked), (Verdict::Fail, 3), "{error}");
        assert!(error.contains(words) && !error.contains("token"), "{error}");
    }
    let (judged, _) = webhook(String::new(), 300).await;
    assert!(judged.evidence["error"].as_str().unwrap().contains("within 300 ms"));
    let call = HookCall::Webhook(Box::new(WebhookCall {
        url: "http://127.0.0.1:1/".parse().unwrap(),
        secret: None,
        poster: Poster::new(None).unwrap(),
    }));
    let nobody = ask(&hook(call, MINUTE_MS), &question(), &SimClock::start()).await;
    assert!(nobody.evidence["error"].as_str().unwrap().contains("refused"), "{nobody:?}");
}

#[tokio::test]
async fn a_question_is_signed_so_that_the_endpoint_can_check_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secret");
    std::fs::write(&file, "0123456789abcdef").unwrap();
    let secret = Secret::read(&file).unwrap();
    let (url, _, told) = endpoint(http("200 OK", "{\"verdict\": \"pass\"}")).await;
    let call = HookCall::Webhook(Box::new(WebhookCall {
        url: url.parse().unwrap(),
        secret: Some(secret.clone()),
        poster: Poster::new(None).unwrap(),
    }));
    ask(&hook(call, MINUTE_MS), &question(), &SimClock::start()).await;
    let request = told.borrow().clone();
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let header = |name: &str| {
        let line = head.lines().find_map(|line| line.strip_prefix(&format!("{name}: "))).unwrap();
        line.to_owned()
    };
    let (id, unix_s) = (header("webhook-id"), header("webhook-timestamp").parse().unwrap());
    assert_eq!(id, format!("{}.check", question().candidate));
    assert_eq!(header("webhook-signature"), secret.sign(&id, unix_s, body.as_bytes()));
    assert_eq!(serde_json::from_str::<Value>(body).unwrap(), question().to_json());
}

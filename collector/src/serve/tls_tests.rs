//! HTTPS: the certificate of the files, a renewed one from the next connection on, and a spoiled one never.

use super::access::{Token, TokenText};
use super::*;
use crate::outbound::{Endpoint, Post, Poster};
use bytes::Bytes;
use headwater_lake::RefPatterns;
use std::path::Path;

fn certify(folder: &Path) -> TlsFiles {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let files = TlsFiles { cert: folder.join("tls.pem"), key: folder.join("tls.key"), more: None };
    std::fs::write(&files.cert, made.cert.pem()).unwrap();
    std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    files
}

/// Asks over HTTPS, trusting what is in `trusted` only beside the system's own.
async fn ask(port: u16, trusted: &Path) -> Result<u16, String> {
    let endpoint: Endpoint = format!("https://localhost:{port}/healthz").parse().unwrap();
    let post = Post { id: "1", unix_s: 0, body: Bytes::from("{}"), secret: None, answer_bytes_max: 1_000 };
    let answer = Poster::new(Some(trusted)).unwrap().post(&endpoint, post).await;
    answer.map(|answer| answer.status).map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_renewed_certificate_counts_and_a_spoiled_one_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let files = certify(folder.path());
    let keep = |name: &str| {
        let kept = folder.path().join(name);
        std::fs::copy(&files.cert, &kept).unwrap();
        kept
    };
    let first = keep("first.pem");
    let bound = bind("127.0.0.1:0".parse().unwrap(), &Access::default(), Some(&files)).await.unwrap();
    let url = bound.url().unwrap();
    assert!(url.starts_with("https://127.0.0.1:"), "{url}");
    let port = url.rsplit(':').next().unwrap().parse().unwrap();
    let cancel = CancellationToken::new();
    let router = Router::new().route("/healthz", get(|| async { "ok\n" }).post(|| async { "ok\n" }));
    let tasks = TaskTracker::new();
    let served = tasks.spawn(serve(bound, router, cancel.clone()));
    assert_eq!(ask(port, &first).await, Ok(200));

    certify(folder.path());
    let second = keep("second.pem");
    assert!(ask(port, &first).await.is_err(), "it shows another one now");
    assert_eq!(ask(port, &second).await, Ok(200));
    std::fs::write(&files.cert, "no certificate\n").unwrap();
    assert_eq!(ask(port, &second).await, Ok(200), "that of before stays");
    cancel.cancel();
    served.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_is_wrong_with_a_certificate_is_known_before_anything_starts() {
    let folder = tempfile::tempdir().unwrap();
    let files = certify(folder.path());
    std::fs::remove_file(&files.key).unwrap();
    let error = bind("127.0.0.1:0".parse().unwrap(), &Access::default(), Some(&files)).await.unwrap_err();
    assert!(matches!(&error, ServeError::Tls(_)) && error.to_string().contains("tls.key"), "{error}");
    // A certificate guards the way, not the lake: beyond loopback tokens are needed all the same.
    let files = certify(folder.path());
    let open = bind("0.0.0.0:0".parse().unwrap(), &Access::default(), Some(&files)).await.unwrap_err();
    assert!(matches!(open, ServeError::Unguarded { .. }));
    let text = TokenText::random("").unwrap();
    let (role, refs) = (access::Role::Reader, RefPatterns::of(&["*"]));
    let token = Token { name: "a".to_owned(), role, refs, sha256: text.sha256() };
    let guarded = Access { tokens: vec![token], ..Access::default() };
    bind("0.0.0.0:0".parse().unwrap(), &guarded, Some(&files)).await.unwrap();
}

//! `headwater-agent decode` on every golden file: what it tells is committed beside what it was told of.
#![expect(clippy::unwrap_used, reason = "helpers of tests: a failure is a failed test")]

use headwater_agent::decode::{INPUT_BYTES_MAX, Item, Values, decode, read_input};
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(path)
}

/// Golden files by name: messages and segments.
fn inputs() -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = ["wire/v1", "segment/v1"]
        .iter()
        .flat_map(|folder| fs::read_dir(golden(folder)).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "hw" || e == "seg"))
        .collect();
    paths.sort();
    assert!(paths.len() > 30);
    paths
}

fn text(items: &[Item]) -> String {
    items.iter().map(Item::to_string).collect()
}

/// The expected text is `golden/decode/NAME.txt`; `HEADWATER_BLESS=1` writes it.
fn check(name: &str, bytes: &[u8]) -> Vec<Item> {
    let items = decode(bytes, Values::First(3));
    let path = golden("decode").join(format!("{name}.txt"));
    if std::env::var_os("HEADWATER_BLESS").is_some() {
        fs::create_dir_all(golden("decode")).unwrap();
        fs::write(&path, text(&items)).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    assert_eq!(text(&items), expected, "{name}");
    items
}

fn run(args: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_headwater-agent"))
        .arg("decode")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn every_golden_file_is_told_as_expected_and_whole() {
    for path in inputs() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let items = check(&name, &fs::read(&path).unwrap());
        assert!(items.iter().all(|item| !item.is_damaged()), "{name}");
    }
}

#[test]
fn damage_is_told_where_it_is() {
    let segment = fs::read(golden("segment/v1/telemetry.seg")).unwrap();
    let message = fs::read(golden("wire/v1/i64_delta.hw")).unwrap();
    let flipped = |bytes: &[u8], at: usize| {
        let mut bytes = bytes.to_vec();
        bytes[at] ^= 0x10;
        bytes
    };
    let mut unknown = message[20..message.len() - 88].to_vec();
    // The tag of its last column, of eight bytes: an integer by codec 2 becomes one by codec 9, which integers
    // have not.
    let tag = unknown.len() - 8;
    assert_eq!(unknown[tag], 0x02);
    unknown[tag] = 0x09;
    let damaged: [(&str, Vec<u8>); 9] = [
        ("damaged_segment_cut_in_slab", segment[..400].to_vec()),
        ("damaged_segment_payload", flipped(&segment, 380)),
        ("damaged_segment_frame_header", flipped(&segment, 312)),
        ("damaged_segment_header", flipped(&segment, 9)),
        ("damaged_message_body", flipped(&message, 40)),
        ("damaged_message_cut", message[..message.len() - 30].to_vec()),
        ("damaged_message_kind", flipped(&message, 3)),
        ("damaged_body_unknown_codec", unknown),
        ("damaged_body_nonsense", b"nothing of ours".to_vec()),
    ];
    for (name, bytes) in damaged {
        assert!(check(name, &bytes).iter().any(Item::is_damaged), "{name}");
    }
}

#[test]
fn a_declaration_before_a_batch_names_its_stream() {
    let read = |name: &str| fs::read(golden("wire/v1").join(name)).unwrap();
    let both = [read("declaration.hw"), read("two_streams_and_heartbeat.hw")].concat();
    let told = text(&decode(&both, Values::First(0)));
    assert!(told.contains("stream 2 (camera/front)"), "{told}");
}

#[test]
fn standard_input_json_and_exit_codes() {
    for path in inputs() {
        let bytes = fs::read(&path).unwrap();
        let output = run(&["-", "--json"], &bytes);
        assert!(output.status.success(), "{}", path.display());
        let lines = String::from_utf8(output.stdout).unwrap();
        let documents: Vec<serde_json::Value> =
            lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(documents.iter().all(|document| document["what"].is_string()), "{lines}");
        assert_eq!(documents.len(), decode(&bytes, Values::All).len());
    }
    let file = golden("wire/v1/i64_delta.hw");
    let shown = run(&[file.to_str().unwrap(), "--rows", "all"], &[]);
    assert!(String::from_utf8(shown.stdout).unwrap().contains("[100000, 100003, 100001, 100009, 100010]"));
    let bytes = fs::read(&file).unwrap();
    let cut = run(&["-"], &bytes[..100]);
    assert_eq!(cut.status.code(), Some(1));
    assert!(String::from_utf8(cut.stdout).unwrap().contains('!'));
    let json = run(&["-", "--json"], &bytes[..100]);
    assert!(serde_json::from_slice::<serde_json::Value>(&json.stdout).unwrap()["damage"].is_array());
    assert_eq!(run(&["-"], &[]).status.code(), Some(1));
    assert_eq!(run(&["-", "--rows", "some"], &[]).status.code(), Some(2));
}

#[test]
fn input_has_a_bound_and_foreign_text_stays_in_its_line() {
    let endless = std::io::repeat(7).take(INPUT_BYTES_MAX + 9);
    assert_eq!(read_input(endless).unwrap_err().kind(), std::io::ErrorKind::FileTooLarge);
    let mut status = fs::read(golden("wire/v1/status.hw")).unwrap();
    status[21..25].copy_from_slice(b"\x1b[2J");
    let told = text(&decode(&status, Values::All));
    assert!(!told.contains('\x1b') && told.contains("\\u{1b}[2J"), "{told}");
    // Text columns as well: DEL and the CSI of eight bits are not escaped by JSON.
    let message = fs::read(golden("wire/v1/utf8_equal.hw")).unwrap();
    let mut body = message[20..message.len() - 88].to_vec();
    let at = body.windows(4).position(|four| four == b"abcd").unwrap();
    body[at..at + 4].copy_from_slice("\x7f!\u{9b}".as_bytes());
    let told = text(&decode(&body, Values::All));
    assert!(told.contains("\\u{7f}") && told.contains("\\u{9b}"), "{told}");
}

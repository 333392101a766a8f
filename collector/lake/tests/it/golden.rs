//! The commit object's bytes are a promise: an id computed by anyone, in any year, is the same.

use crate::common;

use std::collections::BTreeMap;

use common::{NOON_US, name};
use headwater_lake::{
    COMMIT_VERSION, CommitId, CommitKind, CommitObject, CommitStats, CoverageEntry, GateSummary,
    LandingCursor, LandingPosition, LedgerCheckpoint, Lineage, Software, TableEntry,
};
use uuid::Uuid;

const GOLDEN: &[u8] = include_bytes!("golden/commit-v1.json");

/// Also what other hands get: in Python, with `c` the parsed file without its member `id`,
/// `sha256(json.dumps(c, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()).hexdigest()`.
const ID: &str = "72e56856d7eea4e175a44031d91190fcb6f90de907b2d6863256b3cbf4025704";

fn commit() -> CommitObject {
    let zero = CommitId::new("0".repeat(64)).expect("64 digits");
    let entry = TableEntry {
        uuid: Uuid::from_u128(0x0123_4567_89ab_4cde_8f01_2345_6789_abcd),
        metadata_location: "file:///lake/t/raw/imu-01234567/metadata/00001-x.metadata.json".to_owned(),
        snapshot_id: Some(i64::MAX),
        schema_id: 2,
        sequence_number: 3,
        rows: u64::MAX,
        bytes: 0,
    };
    let empty = TableEntry { snapshot_id: None, ..entry.clone() };
    CommitObject {
        id: zero.clone(),
        v: COMMIT_VERSION,
        parents: vec![zero.clone()],
        kind: CommitKind::Ingest,
        author: "collector-1".to_owned(),
        message: "line\nwith \"quotes\", a tab\t, \u{1} and ünïcode 🌊".to_owned(),
        time_us: NOON_US,
        tables: BTreeMap::from([(name("raw.imu"), entry), (name("ops.ledger"), empty)]),
        stats: CommitStats {
            rows: 1,
            bytes: 2,
            devices: 3,
            late_rows: 4,
            t_min_ns: Some(-5),
            t_max_ns: None,
            watermark_ns: Some(6),
        },
        gates: vec![GateSummary {
            name: "rate".to_owned(),
            version: "1".to_owned(),
            verdict: "pass".to_owned(),
            evidence_digest: "e".repeat(64),
        }],
        ledger_checkpoint: Some(LedgerCheckpoint { hash: "c".repeat(64), commit: zero }),
        held: BTreeMap::new(),
        coverage: BTreeMap::from([(
            "fusion".to_owned(),
            CoverageEntry { recipe_id: "r".to_owned(), hash: "d".repeat(64) },
        )]),
        landing: BTreeMap::from([(
            "recv/01j".to_owned(),
            LandingCursor {
                data: LandingPosition { n: 7, offset: 8 },
                ops: LandingPosition { n: 7, offset: 0 },
            },
        )]),
        lineage: Lineage {
            inputs: vec!["landing".to_owned()],
            recipes: BTreeMap::from([("fusion".to_owned(), "r".to_owned())]),
            clock_tracks: BTreeMap::from([("dev-0".to_owned(), 9)]),
            software: Software { collector: "0.1.0".to_owned(), agents: vec!["0.1.0".to_owned()] },
            config_hash: "f".repeat(64),
            ..Lineage::default()
        },
    }
}

#[test]
fn the_golden_commit_has_its_bytes_and_its_id_for_ever() {
    let sealed = commit().seal().unwrap();
    assert_eq!(sealed.id.as_str(), ID);
    assert_eq!(
        String::from_utf8(sealed.to_bytes().unwrap()).unwrap(),
        String::from_utf8(GOLDEN.to_vec()).unwrap()
    );
    assert_eq!(CommitObject::from_bytes("golden", GOLDEN).unwrap(), sealed);
}

#[test]
fn a_changed_byte_is_noticed() {
    let text = String::from_utf8(GOLDEN.to_vec()).unwrap().replace("collector-1", "collector-2");
    let error = CommitObject::from_bytes("golden", text.as_bytes()).unwrap_err().to_string();
    assert!(error.contains("hashes to"), "{error}");
}

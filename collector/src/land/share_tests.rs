//! What receivers tell each other reads back, and a turn has one winner.

use super::*;
use crate::land::StdDisk;
use std::collections::HashSet;

fn board() -> (tempfile::TempDir, ShareBoard<StdDisk>) {
    let dir = tempfile::tempdir().unwrap();
    let board = ShareBoard::new(StdDisk, dir.path());
    (dir, board)
}

fn id(n: u8) -> IncarnationId {
    IncarnationId([n; 16])
}

fn at(n: u8, offset: u64) -> LandingPosition {
    LandingPosition { incarnation: id(n), segment: 3, offset }
}

#[test]
fn presence_ends_by_time_or_by_word() {
    let (_dir, board) = board();
    assert!(board.present(UtcNanos(0)).unwrap().is_empty());
    for n in [1, 2] {
        let presence = Presence { receiver: format!("hq-{n}"), expires: UtcNanos(100), end: at(n, 900) };
        board.say(&presence).unwrap();
        board.say(&presence).unwrap();
        assert_eq!(board.present(UtcNanos(99)).unwrap()[&id(n)], presence);
    }
    board.leave(id(1)).unwrap();
    board.leave(id(1)).unwrap();
    assert_eq!(board.present(UtcNanos(99)).unwrap().len(), 1);
    assert!(board.present(UtcNanos(100)).unwrap().is_empty());
}

#[test]
fn a_turn_has_one_winner_and_the_newest_counts() {
    let (_dir, board) = board();
    assert!(board.take_turn(7, 1, Some(id(1))).unwrap());
    assert!(!board.take_turn(7, 1, Some(id(2))).unwrap());
    assert_eq!(board.leases().unwrap(), BTreeMap::from([(7, Lease { turn: 1, holder: Some(id(1)) })]));
    assert!(board.take_turn(7, 2, None).unwrap());
    assert!(board.take_turn(7, 3, Some(id(2))).unwrap());
    assert_eq!(board.leases().unwrap()[&7], Lease { turn: 3, holder: Some(id(2)) });
    std::fs::write(board.root.join(".leases/07/00000004"), "{").unwrap();
    assert_eq!(board.leases().unwrap()[&7], Lease { turn: 4, holder: None }, "torn: nobody's");
}

#[test]
fn a_mark_reads_back() {
    let (_dir, board) = board();
    assert_eq!(board.mark().unwrap(), None);
    let mark = CommitMark {
        cursors: [(id(1), at(1, 64)), (id(2), at(2, 99))].into(),
        waiting: HashSet::from([at(1, 60), at(2, 98)]),
        commit: Some(Sha256([7; 32])),
        at: Some(UtcNanos(5)),
    };
    board.publish_mark(&mark).unwrap();
    board.publish_mark(&mark).unwrap();
    assert_eq!(board.mark().unwrap(), Some(mark));
}

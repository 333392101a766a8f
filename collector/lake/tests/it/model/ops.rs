//! What may happen, as values that proptest can make and shrink.

use headwater_lake::testing::Fault;
use proptest::prelude::{Just, Strategy, any, prop_oneof};

/// Branches a case may have: few, so that verbs meet.
const BRANCHES: usize = 3;
/// How far verbs look back.
const BACK: usize = 4;
/// Writers a case has.
pub(super) const WRITERS: usize = 3;

/// A verb; numbers choose among what there is.
#[derive(Debug, Clone)]
pub(super) enum Op {
    /// A writer appends to two tables of a branch.
    Commit {
        writer: usize,
        branch: usize,
        rows: i64,
        trouble: Trouble,
    },
    /// The same with a declaration that has one more column.
    Evolve {
        writer: usize,
        branch: usize,
    },
    /// All writers append to one branch at once.
    Race {
        branch: usize,
        trouble: Trouble,
    },
    /// A branch or tag is made at the head of another.
    Branch {
        from: usize,
        to: usize,
        trouble: Trouble,
    },
    Tag {
        from: usize,
        tag: usize,
    },
    /// A branch takes what another has.
    Merge {
        from: usize,
        into: usize,
        no_ff: bool,
        trouble: Trouble,
    },
    /// One of the last commits is undone.
    Revert {
        branch: usize,
        back: usize,
        trouble: Trouble,
    },
    /// One of the last commits of a branch comes to another.
    Pick {
        from: usize,
        back: usize,
        into: usize,
        trouble: Trouble,
    },
    /// A branch goes back to one of its last heads.
    SetBack {
        branch: usize,
        back: usize,
        all: bool,
        trouble: Trouble,
    },
    /// Every process ends and opens the lake anew.
    Reopen,
}

/// What goes wrong meanwhile.
#[derive(Debug, Clone)]
pub(super) struct Trouble(pub(super) Fault);

pub(super) fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (0..WRITERS, 0..BRANCHES, 1_i64..4, trouble())
            .prop_map(|(writer, branch, rows, trouble)| Op::Commit { writer, branch, rows, trouble }),
        1 => (0..WRITERS, 0..BRANCHES).prop_map(|(writer, branch)| Op::Evolve { writer, branch }),
        2 => (0..BRANCHES, trouble()).prop_map(|(branch, trouble)| Op::Race { branch, trouble }),
        3 => (0..BRANCHES, 0..BRANCHES, trouble())
            .prop_map(|(from, to, trouble)| Op::Branch { from, to, trouble }),
        1 => (0..BRANCHES, 0..BRANCHES).prop_map(|(from, tag)| Op::Tag { from, tag }),
        4 => (0..BRANCHES, 0..BRANCHES, any::<bool>(), trouble())
            .prop_map(|(from, into, no_ff, trouble)| Op::Merge { from, into, no_ff, trouble }),
        2 => (0..BRANCHES, 0..BACK, trouble())
            .prop_map(|(branch, back, trouble)| Op::Revert { branch, back, trouble }),
        1 => (0..BRANCHES, 0..BACK, 0..BRANCHES, trouble())
            .prop_map(|(from, back, into, trouble)| Op::Pick { from, back, into, trouble }),
        1 => (0..BRANCHES, 1..BACK, any::<bool>(), trouble())
            .prop_map(|(branch, back, all, trouble)| Op::SetBack { branch, back, all, trouble }),
        1 => Just(Op::Reopen),
    ]
}

/// A commit, and all branches at it.
pub(super) fn beginning() -> Vec<Op> {
    let calm = || Trouble(Fault::None);
    let branches = (1..BRANCHES).map(|to| Op::Branch { from: 0, to, trouble: calm() });
    let mut ops = vec![Op::Commit { writer: 0, branch: 0, rows: 1, trouble: calm() }];
    ops.extend(branches);
    ops
}

fn trouble() -> impl Strategy<Value = Trouble> {
    // A commit to two tables writes ten objects; a little beyond that hits nothing.
    let n = 1_u64..12;
    let times = 1_u64..4;
    let refs = || "_repo/refs/heads".to_owned();
    prop_oneof![
        4 => Just(Fault::None),
        1 => n.clone().prop_map(Fault::FailWrite),
        1 => n.clone().prop_map(Fault::CrashBefore),
        1 => n.prop_map(Fault::CrashAfter),
        1 => times.clone().prop_map(move |times| Fault::DropResponse { key: refs(), times }),
        1 => times.clone().prop_map(move |times| Fault::ExistsAfterOwn { key: refs(), times }),
        1 => times.clone().prop_map(move |times| Fault::ConflictWithoutObject { key: refs(), times }),
        1 => times.prop_map(|times| Fault::DropResponse { key: ".parquet".to_owned(), times }),
        1 => Just(Fault::Unreachable { key: refs() }),
    ]
    .prop_map(Trouble)
}

pub(super) fn branch_name(n: usize) -> &'static str {
    ["main", "dev/a", "wap/b"][n % BRANCHES]
}

pub(super) fn tag_name(n: usize) -> &'static str {
    ["v1", "v2", "v3"][n % BRANCHES]
}

//! Who else uses the lake meanwhile: readers that stay at a commit, and people with branches.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics, in its helpers too")]

use crate::day::{KINDS, request};
use crate::truth::{Digest, rows};
use headwater_lake::{CommitId, Lake, RefName};
use headwater_sim::disk::Dice;
use headwater_tests::lakes::{Key, small};

/// Devices of people's branches: none of the fleet's.
const EXPERIMENT: u32 = 90_000;

async fn digests(lake: &Lake, id: &CommitId) -> Vec<Digest> {
    let mut digests = Vec::new();
    for kind in KINDS {
        digests.push(rows(lake, id, &small(kind).name).await.1);
    }
    digests
}

/// Readers at commits of the past.
#[derive(Debug, Default)]
pub(crate) struct Readers {
    pinned: Vec<(CommitId, Vec<Digest>)>,
}

impl Readers {
    /// One more reads what is there now, and stays.
    pub(crate) async fn pin(&mut self, lake: &Lake) {
        let id = lake.resolve("main").await.unwrap();
        let digests = digests(lake, &id).await;
        self.pinned.push((id, digests));
    }

    /// One of them reads again; gives how many did.
    pub(crate) async fn look_again(&self, lake: &Lake, dice: &mut Dice) -> u64 {
        let at = dice.below(self.pinned.len());
        self.look(lake, at).await;
        1
    }

    pub(crate) async fn look_at_all(&self, lake: &Lake) -> u64 {
        for at in 0..self.pinned.len() {
            self.look(lake, at).await;
        }
        self.pinned.len() as u64
    }

    async fn look(&self, lake: &Lake, at: usize) {
        let (id, wanted) = &self.pinned[at];
        assert_eq!(&digests(lake, id).await, wanted, "{id} reads otherwise than it did");
    }
}

/// Branches with commits of their own, and tags on where they began.
#[derive(Debug, Default)]
pub(crate) struct Branches {
    made: Vec<Branch>,
}

#[derive(Debug)]
struct Branch {
    name: RefName,
    tag: RefName,
    from: CommitId,
    head: CommitId,
    digests: Vec<Digest>,
}

impl Branches {
    /// Makes a branch and a tag at `main`, and commits twice to the branch.
    pub(crate) async fn grow(&mut self, lake: &Lake, now_us: i64) {
        let n = self.made.len();
        let (name, tag) = (RefName::new(format!("exp/{n}")).unwrap(), RefName::new(format!("v{n}")).unwrap());
        let from = lake.resolve("main").await.unwrap();
        lake.branch(&name, &from, "someone", now_us).await.unwrap();
        lake.refs().tag(&tag, &from, "someone", now_us).await.unwrap();
        let mut writer = lake.writer(name.clone(), "someone".to_owned());
        for seq in 0..2 {
            let keys: Vec<Key> =
                (0..3).map(|at| Key { device: EXPERIMENT + at, seq, at_ns: now_us * 1_000 }).collect();
            writer.commit(request(&keys, now_us)).await.unwrap();
        }
        let head = lake.resolve(name.as_str()).await.unwrap();
        let digests = digests(lake, &head).await;
        self.made.push(Branch { name, tag, from, head, digests });
    }

    /// They are where they were, and hold what they held.
    pub(crate) async fn judge(&self, lake: &Lake) {
        for branch in &self.made {
            assert_eq!(lake.resolve(branch.name.as_str()).await.unwrap(), branch.head, "{}", branch.name);
            assert_eq!(lake.resolve(branch.tag.as_str()).await.unwrap(), branch.from, "{}", branch.tag);
            assert_eq!(digests(lake, &branch.head).await, branch.digests, "{} changed", branch.name);
        }
    }
}

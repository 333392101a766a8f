//! Shard leases: which of the 64 shards of a fleet this receiver takes. Pure.
//!
//! A lease is a turn of a shard, taken by creating a file that must not exist, and it holds while its holder says
//! that it lives. Whoever sees a newer turn than its own has lost the shard. Correctness depends on none
//! of this: two receivers of one shard land everything twice and the ledger sorts it out.
//!
//! ```text
//! free ──take──► held ──more than the fair share──► draining ──3 looks later──► given back (free)
//!   ▲              │                                    (not subscribed any more; still landed and acked)
//!   └── holder gone, or another's newer turn ◄──────────┘
//! ```

use crate::land::Lease;
use headwater_core::id::IncarnationId;
use std::collections::{BTreeMap, BTreeSet};

/// Shards of a fleet: a level of the topics.
pub const SHARDS: u8 = 64;
/// Looks between the last subscription to a shard and giving it back: messages under way are landed and acked.
const DRAIN_LOOKS: u32 = 3;

/// What is to be done about a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseStep {
    /// Take this turn of it.
    Take {
        /// Shard.
        shard: u8,
        /// Turn.
        turn: u64,
    },
    /// Give it back with this turn.
    GiveBack {
        /// Shard.
        shard: u8,
        /// Turn.
        turn: u64,
    },
}

/// This receiver's view of its leases.
#[derive(Debug)]
pub struct Leases {
    me: IncarnationId,
    held: BTreeSet<u8>,
    draining: BTreeMap<u8, u32>,
}

impl Leases {
    /// None held yet.
    #[must_use]
    pub fn new(me: IncarnationId) -> Self {
        Self { me, held: BTreeSet::new(), draining: BTreeMap::new() }
    }

    /// Shards this receiver answers for.
    #[must_use]
    pub fn held(&self) -> &BTreeSet<u8> {
        &self.held
    }

    /// Shards it subscribes to: those it is not about to give back.
    #[must_use]
    pub fn subscribed(&self) -> BTreeSet<u8> {
        self.held.iter().copied().filter(|shard| !self.draining.contains_key(shard)).collect()
    }

    /// Looks at the newest turns, with the receivers that live, and gives what is to be done. Called about once a
    /// second; a step that fails or is lost is planned again.
    pub fn look(&mut self, live: &BTreeSet<IncarnationId>, newest: &BTreeMap<u8, Lease>) -> Vec<LeaseStep> {
        let mine = |shard: &u8| newest.get(shard).is_some_and(|lease| lease.holder == Some(self.me));
        self.held = (0..SHARDS).filter(mine).collect();
        let held = &self.held;
        self.draining.retain(|shard, _| held.contains(shard));
        let receivers = live.len().saturating_add(usize::from(!live.contains(&self.me)));
        let fair = usize::from(SHARDS).div_ceil(receivers.max(1));
        let mut steps = Vec::new();
        for (shard, looks) in &mut self.draining {
            *looks = looks.saturating_add(1);
            if *looks >= DRAIN_LOOKS {
                steps.push(LeaseStep::GiveBack { shard: *shard, turn: next_turn(newest, *shard) });
            }
        }
        let kept = self.held.len().saturating_sub(self.draining.len());
        if kept > fair {
            let over = self.subscribed().into_iter().rev().take(kept.saturating_sub(fair));
            let over: Vec<u8> = over.collect();
            self.draining.extend(over.into_iter().map(|shard| (shard, 0)));
        }
        let first = self.me.0.first().copied().unwrap_or(0) % SHARDS;
        let free = (0..SHARDS).map(|n| first.wrapping_add(n) % SHARDS).filter(|shard| {
            newest.get(shard).is_none_or(|lease| {
                lease.holder.is_none_or(|holder| holder != self.me && !live.contains(&holder))
            })
        });
        let lacking = fair.saturating_sub(kept);
        steps.extend(
            free.take(lacking).map(|shard| LeaseStep::Take { shard, turn: next_turn(newest, shard) }),
        );
        steps
    }

    /// Everything is given back, at the end of a life.
    pub fn give_all_back(&mut self, newest: &BTreeMap<u8, Lease>) -> Vec<LeaseStep> {
        let held = std::mem::take(&mut self.held);
        held.into_iter().map(|shard| LeaseStep::GiveBack { shard, turn: next_turn(newest, shard) }).collect()
    }
}

fn next_turn(newest: &BTreeMap<u8, Lease>, shard: u8) -> u64 {
    newest.get(&shard).map_or(0, |lease| lease.turn).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(n: usize) -> IncarnationId {
        IncarnationId([u8::try_from(n * 37 % 251).unwrap(); 16])
    }

    #[derive(Default)]
    struct Store {
        newest: BTreeMap<u8, Lease>,
    }

    impl Store {
        fn step(&mut self, who: IncarnationId, step: LeaseStep) {
            let (shard, turn, holder) = match step {
                LeaseStep::Take { shard, turn } => (shard, turn, Some(who)),
                LeaseStep::GiveBack { shard, turn } => (shard, turn, None),
            };
            // Create-only: the first of a turn has it.
            if self.newest.get(&shard).is_none_or(|lease| lease.turn < turn) {
                self.newest.insert(shard, Lease { turn, holder });
            }
        }
    }

    proptest! {
        /// Receivers come and go; once they stay, every shard is somebody's and nobody has more than its share.
        #[test]
        fn shards_are_spread_over_those_who_live(
            lives in proptest::collection::vec(proptest::collection::vec(any::<bool>(), 5), 1..12),
            stale in any::<bool>(),
        ) {
            let mut store = Store::default();
            let mut leases: Vec<Option<Leases>> = (0..5).map(|_| None).collect();
            let mut last = Vec::new();
            for (round, mut alive) in lives.into_iter().chain([vec![true, false, true, true, false]]).enumerate() {
                alive[0] = true;
                for n in 0..5 {
                    match (alive[n], leases[n].is_some()) {
                        (true, false) => leases[n] = Some(Leases::new(id(n + 1 + round * 5))),
                        (false, true) => leases[n] = None,
                        _ => {}
                    }
                }
                let live: BTreeSet<_> = leases.iter().flatten().map(|leases| leases.me).collect();
                for _ in 0..12 {
                    let view = store.newest.clone();
                    for one in leases.iter_mut().flatten() {
                        // With a stale view several want the same turn.
                        let seen = if stale { view.clone() } else { store.newest.clone() };
                        let (me, steps) = (one.me, one.look(&live, &seen));
                        steps.into_iter().for_each(|step| store.step(me, step));
                    }
                }
                last = live.into_iter().collect();
            }
            let mut held: BTreeMap<IncarnationId, usize> = BTreeMap::new();
            for shard in 0..SHARDS {
                let holder = store.newest[&shard].holder.unwrap();
                prop_assert!(last.contains(&holder), "shard {shard} is a dead receiver's");
                *held.entry(holder).or_default() += 1;
            }
            prop_assert!(held.values().all(|n| *n <= 22), "{held:?}");
        }
    }

    #[test]
    fn a_shard_is_drained_before_it_is_given_back() {
        let (a, b) = (id(1), id(2));
        let mut leases = Leases::new(a);
        let newest: BTreeMap<u8, Lease> =
            (0..SHARDS).map(|n| (n, Lease { turn: 1, holder: Some(a) })).collect();
        assert!(leases.look(&[a].into(), &newest).is_empty());
        assert_eq!(leases.subscribed().len(), 64);
        let live = BTreeSet::from([a, b]);
        assert!(leases.look(&live, &newest).is_empty(), "first it listens no more");
        assert_eq!((leases.subscribed().len(), leases.held().len()), (32, 64));
        leases.look(&live, &newest);
        leases.look(&live, &newest);
        let steps = leases.look(&live, &newest);
        assert_eq!(steps.len(), 32);
        assert!(steps.contains(&LeaseStep::GiveBack { shard: 63, turn: 2 }));
        let lost: BTreeMap<u8, Lease> =
            (0..SHARDS).map(|n| (n, Lease { turn: 5, holder: Some(b) })).collect();
        leases.look(&live, &lost);
        assert!(leases.held().is_empty(), "a newer turn is another's");
    }
}

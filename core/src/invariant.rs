//! The promises of the system, by stable name, and the check that watches them.
//!
//! A broken invariant is a bug of ours, never of the world: it panics in tests and debug builds and
//! is counted in production, where capturing on is worth more than stopping.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! invariants {
    ($( $id:ident $text:literal ),* $(,)?) => {
        /// A promise; ids are stable, texts are in ARCHITECTURE.md too.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Invariant { $( #[doc = $text] $id, )* }
        impl Invariant {
            /// Every one.
            pub const ALL: &'static [Invariant] = &[ $( Self::$id, )* ];
            /// What is promised.
            #[must_use]
            pub fn text(self) -> &'static str {
                match self { $( Self::$id => $text, )* }
            }
        }
    };
}

invariants! {
    A1 "an acknowledged sample survives power loss and stays until the collector acked it, unless evicted with a gap record",
    A2 "(boot ordinal, boot time, seq) orders a stream even when wall time steps",
    A3 "capture never waits for network, TLS, certificate or clock",
    S1 "durable is acked only after the landing log is synced, committed only after the ref moved",
    D1 "a (device, epoch, stream, seq) is in the lake at most once",
    D2 "a missing seq is a recorded gap with a reason, never silence",
    T1 "true time lies inside the resolved interval for grade guaranteed",
    L1 "every aligned value names its source samples, distance in time and uncertainty",
    L2 "same inputs, recipe and version give the same final rows whatever the order of arrival",
    G1 "no raw row without passing admission, no aligned row on a protected ref without a passing verdict",
    C1 "a ref moves by create-only compare-and-set: of two racing writers exactly one wins",
    C2 "content is reachable before a ref names it",
    C3 "rollback is a new commit and deletes nothing",
    C4 "rollback never loses captures silently",
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

static BROKEN: [AtomicU64; 14] = [const { AtomicU64::new(0) }; 14];

/// How often `invariant` was found broken since the process started.
#[must_use]
pub fn broken(invariant: Invariant) -> u64 {
    BROKEN.get(invariant as usize).map_or(0, |count| count.load(Ordering::Relaxed))
}

/// Counts a broken invariant; panics in debug builds. Called by [`crate::check_invariant!`].
pub fn report(invariant: Invariant, detail: &str) {
    if let Some(count) = BROKEN.get(invariant as usize) {
        count.fetch_add(1, Ordering::Relaxed);
    }
    if cfg!(debug_assertions) {
        panic!("invariant {invariant} broken: {detail} ({})", invariant.text());
    }
}

/// Checks a promise: `check_invariant!(Invariant::D1, condition, "what was seen {x}")`.
#[macro_export]
macro_rules! check_invariant {
    ($invariant:expr, $condition:expr, $($detail:tt)+) => {
        if !$condition {
            $crate::invariant::report($invariant, &format!($($detail)+));
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_invariant_has_a_counter() {
        assert_eq!(BROKEN.len(), Invariant::ALL.len());
        check_invariant!(Invariant::A1, true, "never formatted");
        assert_eq!(broken(Invariant::A1), 0);
    }

    #[test]
    #[should_panic(expected = "invariant D1 broken: twice")]
    fn a_broken_invariant_stops_a_test() {
        check_invariant!(Invariant::D1, false, "twice");
    }
}

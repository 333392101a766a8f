//! When rows that a rule holds back are judged again: as soon as the rules are others, and at turns farther and farther
//! apart, since late data and better clocks change what there is to judge.

use headwater_core::id::Sha256;
use headwater_core::time::BootNanos;
use std::collections::BTreeSet;

/// First turn after rows were held back, ms: what was late by a commit or a few is there by then.
pub const AGAIN_MS_MIN: u64 = 60_000;
/// Longest between two turns, ms: each aligns all held rows anew.
pub const AGAIN_MS_MAX: u64 = 3_600_000;
/// Complaints remembered: one a held window. Beyond them some are told a second time.
const TOLD_MAX: usize = 1_024;

/// The turns of one recipe, and what was said at the last ones.
#[derive(Debug, Clone)]
pub struct Again {
    at: Option<BootNanos>,
    wait_ms: u64,
    told: BTreeSet<[u8; 32]>,
}

impl Default for Again {
    fn default() -> Self {
        Self { at: None, wait_ms: AGAIN_MS_MIN, told: BTreeSet::new() }
    }
}

impl Again {
    /// Notes that rows are held back.
    pub fn held(&mut self, now: BootNanos) {
        if self.at.is_none() {
            self.at = Some(now.plus_ms(self.wait_ms));
        }
    }

    /// True if rows are held back that a turn waits for.
    #[must_use]
    pub fn waits(&self) -> bool {
        self.at.is_some()
    }

    /// True once a turn has come; the next one is farther.
    pub fn take_turn(&mut self, now: BootNanos) -> bool {
        if self.at.is_none_or(|at| now < at) {
            return false;
        }
        self.at = None;
        self.wait_ms = self.wait_ms.saturating_mul(2).min(AGAIN_MS_MAX);
        true
    }

    /// The rules are others: what was said of held rows is no longer true.
    pub fn begin_anew(&mut self) {
        *self = Self::default();
    }

    /// True if the lake says already that these rows are held back by these rules.
    #[must_use]
    pub fn was_told(&self, complaint: &Sha256) -> bool {
        self.told.contains(&complaint.0)
    }

    /// Notes that the lake says so now.
    pub fn tell(&mut self, complaint: &Sha256) {
        if self.told.len() >= TOLD_MAX {
            self.told.clear();
        }
        self.told.insert(complaint.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_come_farther_and_farther_apart_until_the_rules_change() {
        let (mut again, mut now) = (Again::default(), BootNanos(5));
        assert!(!again.take_turn(now) && !again.waits(), "nothing is held back");
        let mut waits = Vec::new();
        for _ in 0..8 {
            let from = now;
            again.held(now);
            again.held(now.plus_ms(1));
            while !again.take_turn(now) {
                now = now.plus_ms(AGAIN_MS_MIN / 2);
            }
            waits.push((now.0 - from.0) / 60_000_000_000);
            assert!(!again.take_turn(now), "one turn each");
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        again.begin_anew();
        again.held(now);
        assert!(!again.take_turn(now) && again.take_turn(now.plus_ms(AGAIN_MS_MIN)));
    }

    #[test]
    fn the_same_rows_held_by_the_same_rules_are_told_once() {
        let mut again = Again::default();
        let of = |text: &str| Sha256::of(text.as_bytes());
        assert!(!again.was_told(&of("a")), "what could not be committed is told again");
        again.tell(&of("a"));
        assert!(again.was_told(&of("a")) && !again.was_told(&of("b")));
        again.begin_anew();
        assert!(!again.was_told(&of("a")));
        (0..=TOLD_MAX).for_each(|n| again.tell(&of(&n.to_string())));
        assert!(again.was_told(&of(&TOLD_MAX.to_string())));
        assert!(again.told.len() <= TOLD_MAX, "its memory is bounded");
    }
}

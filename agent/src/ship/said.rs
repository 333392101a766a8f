//! What was told in the log of late: an error that lasts for days is told each quarter of an hour, not each five seconds.
//! Logs lie on the same card as the captures.

use headwater_core::time::{BootNanos, NS_PER_S};
use std::collections::VecDeque;

/// Between two tellings of the same.
const AGAIN_NS: i64 = 900 * NS_PER_S;
/// Different texts remembered; more than these at once are told more often.
const TEXTS_MAX: usize = 16;

/// Texts told of late.
#[derive(Debug, Default)]
pub(super) struct Said {
    recent: VecDeque<(String, BootNanos)>,
}

impl Said {
    /// True if `text` is worth telling at `now`; then it counts as told.
    pub(super) fn is_news(&mut self, text: &str, now: BootNanos) -> bool {
        self.recent.retain(|(_, told)| now.since(*told) < AGAIN_NS);
        if self.recent.iter().any(|(known, _)| known == text) {
            return false;
        }
        if self.recent.len() >= TEXTS_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back((text.to_owned(), now));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: i64) -> BootNanos {
        BootNanos(s * NS_PER_S)
    }

    #[test]
    fn the_same_is_told_each_quarter_of_an_hour() {
        let mut said = Said::default();
        let told = (0..3_600).step_by(5).filter(|s| said.is_news("held", at(*s))).count();
        assert_eq!(told, 4);
        assert!(said.is_news("another", at(3_600)));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut said = Said::default();
        assert!((0..100).all(|n| said.is_news(&n.to_string(), at(0))));
        assert_eq!(said.recent.len(), TEXTS_MAX);
        assert!(said.is_news("0", at(1)) && !said.is_news("99", at(1)));
    }
}

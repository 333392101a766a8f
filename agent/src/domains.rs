//! Names for the clocks of attached devices: `device:N`, each used once in the life of a spool.
//!
//! A board that starts again is another clock, and so is the same board after the gateway started again: rows of two
//! clocks under one name would be mapped with each other's exchanges, silently and wrongly. So numbers are set aside
//! durably at start, in one write, and given from memory: no source ever waits for the disk (A3).

use headwater_core::time::ClockDomain;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// Numbers set aside at each start: a day of a board that starts again every five seconds, and a quarter of a million
/// starts of the agent. When they are used up rows are stamped by arrival until the agent starts again.
pub const RESERVED_AT_ONCE: u32 = 1 << 14;

/// Numbers that nobody had, shared by all sources.
#[derive(Debug, Clone)]
pub struct DomainNumbers(Arc<Mutex<Range<u32>>>);

impl DomainNumbers {
    /// Numbers from `first` on, which were set aside.
    #[must_use]
    pub fn from_reserved(first: u32) -> Self {
        let first = first.max(1);
        Self(Arc::new(Mutex::new(first..first.saturating_add(RESERVED_AT_ONCE))))
    }

    /// A name no clock had; `None` once all that were set aside are used.
    #[must_use]
    pub fn take(&self) -> Option<ClockDomain> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).next().map(ClockDomain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_given_once_and_end() {
        let numbers = DomainNumbers::from_reserved(0);
        let other = numbers.clone();
        assert_eq!((numbers.take(), other.take()), (Some(ClockDomain(1)), Some(ClockDomain(2))));
        for _ in 2..RESERVED_AT_ONCE {
            assert!(numbers.take().is_some_and(|domain| domain != ClockDomain::BOOT));
        }
        assert_eq!(other.take(), None);
    }
}

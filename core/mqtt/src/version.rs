//! Which version of MQTT a broker is asked in: 5 first, 3.1.1 if it does not speak 5, and then the one that worked.

use crate::packet::Version;
use headwater_core::ports::Cause;

/// After so many connections in 3.1.1 a broker is asked again whether it speaks 5 by now. A count, since clocks may
/// be wrong.
const RETRY_V5_AFTER: u32 = 50;

/// Which versions may be spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Versions {
    /// 5, else 3.1.1.
    #[default]
    Auto,
    /// This one only.
    Only(Version),
}

/// What one broker was found to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VersionsKnown {
    worked: Option<Version>,
    since_v5: u32,
}

impl VersionsKnown {
    /// Takes up what was known: the version that worked last, and connections since 5 was tried.
    #[must_use]
    pub fn new(worked: Option<Version>, since_v5: u32) -> Self {
        Self { worked, since_v5 }
    }

    /// The version that worked last; `None` before any did.
    #[must_use]
    pub fn worked(&self) -> Option<Version> {
        self.worked
    }

    /// Connections since 5 was last tried.
    #[must_use]
    pub fn since_v5(&self) -> u32 {
        self.since_v5
    }

    /// The version to try now, and the one to try at once if the broker does not speak it.
    #[must_use]
    pub fn plan(&self, versions: Versions) -> (Version, Option<Version>) {
        match (versions, self.worked) {
            (Versions::Only(version), _) => (version, None),
            (Versions::Auto, Some(Version::V311)) if self.since_v5 < RETRY_V5_AFTER => {
                (Version::V311, Some(Version::V5))
            }
            (Versions::Auto, _) => (Version::V5, Some(Version::V311)),
        }
    }

    /// A connection stands in `version`. True if that is worth writing down: news, or now and then the count, of
    /// which a restart may lose a few.
    pub fn connected(&mut self, version: Version, tried_v5: bool) -> bool {
        let news = self.worked.replace(version) != Some(version);
        self.since_v5 = if tried_v5 { 0 } else { self.since_v5.saturating_add(1) };
        news || self.since_v5.is_multiple_of(RETRY_V5_AFTER / 5)
    }
}

/// True if a broker that ended a try like this may speak another version: it says so, or it hung up at CONNECT
/// without a word.
#[must_use]
pub fn may_speak_another(cause: Cause, dialled: bool, answered: bool) -> bool {
    cause == Cause::ProtocolRefused || (dialled && !answered && cause == Cause::BrokerAway)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v5_is_first_and_what_worked_is_kept_until_v5_is_tried_again() {
        let mut known = VersionsKnown::default();
        assert_eq!(known.plan(Versions::Auto), (Version::V5, Some(Version::V311)));
        assert!(known.connected(Version::V311, true), "news");
        for _ in 0..RETRY_V5_AFTER {
            assert_eq!(known.plan(Versions::Auto), (Version::V311, Some(Version::V5)));
            known.connected(Version::V311, false);
        }
        assert_eq!(known.plan(Versions::Auto), (Version::V5, Some(Version::V311)));
        known.connected(Version::V311, true);
        assert_eq!(known.plan(Versions::Auto), (Version::V311, Some(Version::V5)));
        assert_eq!(known.plan(Versions::Only(Version::V5)), (Version::V5, None));
    }

    #[test]
    fn only_a_broker_that_says_so_or_hangs_up_at_connect_may_speak_another() {
        assert!(may_speak_another(Cause::ProtocolRefused, true, true));
        assert!(may_speak_another(Cause::BrokerAway, true, false));
        assert!(!may_speak_another(Cause::BrokerAway, true, true), "it took us, or said why not");
        assert!(!may_speak_another(Cause::BrokerAway, false, false), "it was not reached");
        assert!(!may_speak_another(Cause::NotAuthorized, true, true));
    }
}

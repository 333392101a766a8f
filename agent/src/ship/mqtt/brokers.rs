//! Which broker of the list comes next, in which version of MQTT, and what was learned of each.

use super::memory::{Memory, Remembered};
use super::packet::Version;
use super::url::BrokerUrl;
use headwater_core::ports::{Cause, LinkClosed};

/// After so many connections in 3.1.1 a broker is asked again whether it speaks 5 by now.
const RETRY_V5_AFTER: u32 = 50;
/// So many connections in a row that ended under a message larger than any taken look like a limit nobody told us:
/// 3.1.1 has no word for it, and one may be chance.
const SUSPECTS_MAX: u8 = 3;
/// Payloads are not cut below this, bytes: a hello and a declaration must pass.
pub(super) const PAYLOAD_BYTES_MIN: usize = 8 * 1024;

/// Which versions may be spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Versions {
    /// 5, else 3.1.1.
    #[default]
    Auto,
    /// This one only.
    Only(Version),
}

#[derive(Debug)]
struct Known {
    url: BrokerUrl,
    /// The version that worked last; `None` before any did.
    version: Option<Version>,
    /// Connections since 5 was last tried.
    since_v5: u32,
    payload_bytes_max: usize,
    suspects: u8,
}

/// A connection to be tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) url: BrokerUrl,
    pub(super) version: Version,
    /// Tried at once if the broker does not speak `version`.
    pub(super) instead: Option<Version>,
    /// Largest payload this broker was found to take, bytes.
    pub(super) payload_bytes_max: usize,
}

/// The list of brokers. Never empty.
#[derive(Debug)]
pub(super) struct Brokers {
    versions: Versions,
    known: Vec<Known>,
    current: usize,
    /// The current one had us connected.
    was_up: bool,
}

impl Brokers {
    /// Takes up where `memory` left off. `urls` is not empty.
    pub(super) fn new(urls: Vec<BrokerUrl>, versions: Versions, memory: &Memory) -> Self {
        let known: Vec<Known> = urls
            .into_iter()
            .map(|url| {
                let before = memory.brokers.get(&url.to_string());
                Known {
                    version: before.and_then(|before| before.version()),
                    since_v5: before.map_or(0, |before| before.connects_since_5),
                    payload_bytes_max: usize::MAX,
                    suspects: 0,
                    url,
                }
            })
            .collect();
        let last_good = memory.last_good.as_ref();
        let current = known.iter().position(|known| Some(&known.url.to_string()) == last_good).unwrap_or(0);
        Self { versions, known, current, was_up: false }
    }

    /// What is worth remembering over restarts.
    pub(super) fn memory(&self) -> Memory {
        let remembered = |known: &Known| {
            known.version.map(|version| (known.url.to_string(), Remembered::new(version, known.since_v5)))
        };
        Memory {
            last_good: self.known.get(self.current).map(|known| known.url.to_string()),
            brokers: self.known.iter().filter_map(remembered).collect(),
        }
    }

    /// The next connection to try.
    pub(super) fn plan(&self) -> Option<Plan> {
        let known = self.known.get(self.current)?;
        let (version, instead) = match (self.versions, known.version) {
            (Versions::Only(version), _) => (version, None),
            (Versions::Auto, Some(Version::V311)) if known.since_v5 < RETRY_V5_AFTER => {
                (Version::V311, Some(Version::V5))
            }
            (Versions::Auto, _) => (Version::V5, Some(Version::V311)),
        };
        let payload_bytes_max = known.payload_bytes_max;
        Some(Plan { url: known.url.clone(), version, instead, payload_bytes_max })
    }

    /// A connection stands in `version`. True if that is worth writing down.
    pub(super) fn connected(&mut self, version: Version, tried_v5: bool) -> bool {
        self.was_up = true;
        let Some(known) = self.known.get_mut(self.current) else { return false };
        let news = known.version.replace(version) != Some(version);
        known.since_v5 = if tried_v5 { 0 } else { known.since_v5.saturating_add(1) };
        // Its count is written too, but seldom: a restart may cost a few connections of it.
        news || known.since_v5.is_multiple_of(RETRY_V5_AFTER / 5)
    }

    /// It did not come about, or is over. `payload_bytes_max` is what went on it at most.
    pub(super) fn ended(&mut self, closed: &LinkClosed, payload_bytes_max: usize) {
        let was_up = std::mem::take(&mut self.was_up);
        let Some(known) = self.known.get_mut(self.current) else { return };
        match closed.cause {
            Cause::TooLarge => known.lower(payload_bytes_max),
            Cause::ClosedOnPublish => {
                known.suspects = known.suspects.saturating_add(1);
                if known.suspects >= SUSPECTS_MAX {
                    known.lower(payload_bytes_max);
                }
            }
            _ if was_up => known.suspects = 0,
            _ => {}
        }
        // One that had us up is tried again first. Who has our identity has it everywhere.
        let stay = (was_up && closed.cause != Cause::UseAnother) || closed.cause == Cause::TakenOver;
        if !stay {
            self.current = self.current.saturating_add(1).checked_rem(self.known.len()).unwrap_or(0);
        }
    }

    /// Brokers in the list.
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }
}

impl Known {
    fn lower(&mut self, found: usize) {
        self.suspects = 0;
        self.payload_bytes_max = (self.payload_bytes_max.min(found) / 2).max(PAYLOAD_BYTES_MIN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three(versions: Versions, memory: &Memory) -> Brokers {
        let urls = ["a", "b", "c"].map(|host| format!("mqtts://{host}").parse().unwrap());
        Brokers::new(urls.to_vec(), versions, memory)
    }

    fn host(brokers: &Brokers) -> String {
        brokers.plan().unwrap().url.host
    }

    fn end(brokers: &mut Brokers, cause: Cause) {
        brokers.ended(&LinkClosed::because(cause, "x"), 96 * 1024);
    }

    #[test]
    fn a_broker_that_fails_is_followed_by_the_next_and_a_good_one_is_tried_again() {
        let mut brokers = three(Versions::Auto, &Memory::default());
        assert_eq!(host(&brokers), "a");
        end(&mut brokers, Cause::Transient);
        assert_eq!(host(&brokers), "b");
        brokers.connected(Version::V5, true);
        end(&mut brokers, Cause::BrokerAway);
        assert_eq!(host(&brokers), "b", "it was good a moment ago");
        end(&mut brokers, Cause::BrokerAway);
        assert_eq!(host(&brokers), "c");
        brokers.connected(Version::V5, true);
        end(&mut brokers, Cause::UseAnother);
        assert_eq!(host(&brokers), "a", "round and round");
        end(&mut brokers, Cause::TakenOver);
        assert_eq!(host(&brokers), "a");
    }

    #[test]
    fn the_version_that_worked_is_remembered_over_restarts_and_5_retried_now_and_then() {
        let mut brokers = three(Versions::Auto, &Memory::default());
        let versions = |brokers: &Brokers| brokers.plan().map(|plan| (plan.version, plan.instead)).unwrap();
        assert_eq!(versions(&brokers), (Version::V5, Some(Version::V311)));
        assert!(brokers.connected(Version::V311, true), "news");
        let mut brokers = three(Versions::Auto, &brokers.memory());
        for _ in 0..RETRY_V5_AFTER {
            assert_eq!(versions(&brokers), (Version::V311, Some(Version::V5)));
            brokers.connected(Version::V311, false);
        }
        assert_eq!(versions(&brokers), (Version::V5, Some(Version::V311)));
        brokers.connected(Version::V311, true);
        assert_eq!(versions(&brokers), (Version::V311, Some(Version::V5)));
        let only = three(Versions::Only(Version::V5), &brokers.memory());
        assert_eq!(versions(&only), (Version::V5, None));
    }

    #[test]
    fn the_last_good_broker_is_the_first_after_a_restart() {
        let mut brokers = three(Versions::Auto, &Memory::default());
        end(&mut brokers, Cause::Transient);
        brokers.connected(Version::V5, true);
        let memory = brokers.memory();
        assert_eq!(host(&three(Versions::Auto, &memory)), "b");
    }

    #[test]
    fn poison_size_is_lowered_until_it_passes_but_not_for_one_cut() {
        let mut brokers = three(Versions::Auto, &Memory::default());
        let limit = |brokers: &Brokers| brokers.plan().unwrap().payload_bytes_max;
        let cut = |brokers: &mut Brokers, cause| {
            brokers.connected(Version::V311, false);
            end(brokers, cause);
        };
        for cause in
            [Cause::ClosedOnPublish, Cause::ClosedOnPublish, Cause::BrokerAway, Cause::ClosedOnPublish]
        {
            cut(&mut brokers, cause);
            assert_eq!(limit(&brokers), usize::MAX);
        }
        cut(&mut brokers, Cause::ClosedOnPublish);
        cut(&mut brokers, Cause::ClosedOnPublish);
        assert_eq!(limit(&brokers), 48 * 1024);
        cut(&mut brokers, Cause::TooLarge);
        assert_eq!(limit(&brokers), 24 * 1024, "the broker's own word needs no three times");
        for _ in 0..10 {
            cut(&mut brokers, Cause::TooLarge);
        }
        assert_eq!(limit(&brokers), PAYLOAD_BYTES_MIN);
    }
}

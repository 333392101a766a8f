//! Which broker of the list comes next, in which version of MQTT, and what was learned of each.

use super::memory::{Memory, Remembered};
use super::url::BrokerUrl;
use headwater_core::ports::{Cause, LinkClosed};
use headwater_mqtt::{Version, Versions, VersionsKnown};

/// So many connections in a row that ended under a message larger than any taken look like a limit nobody told us:
/// 3.1.1 has no word for it, and one may be chance.
const SUSPECTS_MAX: u8 = 3;
/// Payloads are not cut below this, bytes: a hello and a declaration must pass.
pub(super) const PAYLOAD_BYTES_MIN: usize = 8 * 1024;

#[derive(Debug, Clone)]
struct Known {
    url: BrokerUrl,
    spoken: VersionsKnown,
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
                    spoken: before.map(Remembered::known).unwrap_or_default(),
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
            let version = known.spoken.worked()?;
            Some((known.url.to_string(), Remembered::new(version, known.spoken.since_v5())))
        };
        Memory {
            last_good: self.known.get(self.current).map(|known| known.url.to_string()),
            brokers: self.known.iter().filter_map(remembered).collect(),
        }
    }

    /// The next connection to try.
    pub(super) fn plan(&self) -> Option<Plan> {
        let known = self.known.get(self.current)?;
        let (version, instead) = known.spoken.plan(self.versions);
        let payload_bytes_max = known.payload_bytes_max;
        Some(Plan { url: known.url.clone(), version, instead, payload_bytes_max })
    }

    /// A connection stands in `version`. True if that is worth writing down.
    pub(super) fn connected(&mut self, version: Version, tried_v5: bool) -> bool {
        self.was_up = true;
        let Some(known) = self.known.get_mut(self.current) else { return false };
        known.spoken.connected(version, tried_v5)
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

    /// Takes over what was learned of brokers of the same address, and which of them is the one to use.
    pub(super) fn succeed(&mut self, before: &Self) {
        for known in &mut self.known {
            if let Some(learned) = before.known.iter().find(|learned| learned.url == known.url) {
                *known = learned.clone();
            }
        }
        let current = before.known.get(before.current).map(|known| &known.url);
        if let Some(place) = self.known.iter().position(|known| Some(&known.url) == current) {
            (self.current, self.was_up) = (place, before.was_up);
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
    fn the_version_that_worked_is_remembered_over_restarts() {
        let mut brokers = three(Versions::Auto, &Memory::default());
        let versions = |brokers: &Brokers| brokers.plan().map(|plan| (plan.version, plan.instead)).unwrap();
        assert_eq!(versions(&brokers), (Version::V5, Some(Version::V311)));
        assert!(brokers.connected(Version::V311, true), "news");
        let brokers = three(Versions::Auto, &brokers.memory());
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

    /// A renewed certificate made a new uplink, which cut large messages into refusals once more.
    #[test]
    fn what_was_learned_outlives_a_renewed_certificate_by_address() {
        let mut before = three(Versions::Auto, &Memory::default());
        end(&mut before, Cause::Transient);
        before.connected(Version::V311, true);
        end(&mut before, Cause::TooLarge);
        before.connected(Version::V311, false);
        let mut after = three(Versions::Auto, &Memory::default());
        after.succeed(&before);
        assert_eq!(after.plan(), before.plan());
        let plan = after.plan().unwrap();
        assert_eq!(
            (plan.url.host.as_str(), plan.version, plan.payload_bytes_max),
            ("b", Version::V311, 48 * 1024)
        );
        // The link that stands while certificates change still ends as one that was up.
        end(&mut after, Cause::BrokerAway);
        assert_eq!(host(&after), "b");
        // Another list: what is not in it is forgotten, what is new begins anew.
        let urls = ["c", "b"].map(|host| format!("mqtts://{host}").parse().unwrap());
        let mut other = Brokers::new(urls.to_vec(), Versions::Auto, &Memory::default());
        other.succeed(&before);
        assert_eq!(host(&other), "b");
        end(&mut other, Cause::UseAnother);
        assert_eq!((host(&other), other.plan().unwrap().version), ("c".into(), Version::V5));
    }
}

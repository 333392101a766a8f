//! What a process does of the collector's work, and how much it takes from the fleet: `roles`, `mqtt.share`,
//! `[receive]` and `[quota]`.

use super::read::{Mistakes, Section};
use crate::receive::{Allowance, CREDIT_BYTES, CREDIT_BYTES_MIN, QuotaSettings};
use headwater_mqtt::{Version, Versions};
use std::collections::BTreeSet;

/// Most of `receive.credit_bytes`: beyond it a broker would keep more for us than a fleet can send in minutes.
const CREDIT_BYTES_MAX: i64 = 16 << 30;
/// Most of a quota.
const QUOTA_BYTES_MAX: i64 = 1 << 50;

/// A part of the collector's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Takes messages from the broker, lands and acks them.
    Receive,
    /// Commits what is landed to the lake; one process at a time.
    Ingest,
    /// Pages and metrics at `http.listen`.
    Serve,
}

impl Role {
    /// Every one.
    pub const ALL: [Role; 3] = [Self::Receive, Self::Ingest, Self::Serve];

    /// Name in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Receive => "receive",
            Self::Ingest => "ingest",
            Self::Serve => "serve",
        }
    }
}

/// How several receivers share a fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Share {
    /// One receiver takes everything.
    #[default]
    None,
    /// Each takes the shards it holds a lease of.
    Shards,
    /// The broker deals messages out to a group (`$share`).
    Group,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiveSettings {
    /// `roles`.
    pub roles: BTreeSet<Role>,
    /// `mqtt.share`.
    pub share: Share,
    /// `receive.credit_bytes`: what the whole fleet may have under way.
    pub credit_bytes: u64,
    /// `[quota]`.
    pub quotas: QuotaSettings,
}

impl ReceiveSettings {
    /// True if this process does that work.
    #[must_use]
    pub fn does(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }
}

pub(super) fn read_roles(root: &mut Section, mistakes: &mut Mistakes) -> BTreeSet<Role> {
    let mut roles = BTreeSet::new();
    for name in root.texts("roles", mistakes) {
        match Role::ALL.into_iter().find(|role| role.as_str() == name) {
            Some(role) => {
                roles.insert(role);
            }
            None => {
                let hint = "leave roles out to do all of it in one process";
                mistakes.add("roles", "\"receive\", \"ingest\" or \"serve\"", &format!("{name:?}"), hint);
            }
        }
    }
    if roles.is_empty() { Role::ALL.into() } else { roles }
}

pub(super) fn read_share(table: &mut Section, mistakes: &mut Mistakes) -> Share {
    match table.text("share", mistakes).as_deref() {
        None | Some("none") => Share::None,
        Some("shards") => Share::Shards,
        Some("group") => Share::Group,
        Some(other) => {
            let hint = "leave it out with one receiver; shards work with any broker, group needs $share";
            let expected = "\"none\", \"shards\" or \"group\"";
            mistakes.add(&table.path_of("share"), expected, &format!("{other:?}"), hint);
            Share::None
        }
    }
}

/// `mqtt.version`.
pub(super) fn read_versions(table: &mut Section, key: &'static str, mistakes: &mut Mistakes) -> Versions {
    match table.text(key, mistakes).as_deref() {
        None | Some("auto") => Versions::Auto,
        Some("5") => Versions::Only(Version::V5),
        Some("3.1.1") => Versions::Only(Version::V311),
        Some(other) => {
            let hint = "leave it out: 5 is tried first, and 3.1.1 if the broker has no 5";
            let expected = "\"auto\", \"5\" or \"3.1.1\"";
            mistakes.add(&table.path_of(key), expected, &format!("{other:?}"), hint);
            Versions::Auto
        }
    }
}

/// `broker.version`: the embedded broker has one version on its port.
pub(super) fn read_broker_version(table: &mut Section, mistakes: &mut Mistakes) -> Version {
    match table.text("version", mistakes).as_deref() {
        None | Some("5") => Version::V5,
        Some("3.1.1") => Version::V311,
        Some(other) => {
            let hint = "leave it out for 5; agents and collector speak both";
            mistakes.add(&table.path_of("version"), "\"5\" or \"3.1.1\"", &format!("{other:?}"), hint);
            Version::V5
        }
    }
}

pub(super) fn read_credit(root: &mut Section, mistakes: &mut Mistakes) -> u64 {
    let Some(mut table) = root.section("receive", mistakes) else { return CREDIT_BYTES };
    let least = i64::try_from(CREDIT_BYTES_MIN).unwrap_or(i64::MAX);
    let bytes = table.number("credit_bytes", least..=CREDIT_BYTES_MAX, "bytes", mistakes);
    table.finish(mistakes);
    bytes.unwrap_or(CREDIT_BYTES)
}

pub(super) fn read_quotas(root: &mut Section, mistakes: &mut Mistakes) -> QuotaSettings {
    let Some(mut table) = root.section("quota", mistakes) else { return QuotaSettings::default() };
    let mut bytes = |key| table.number(key, 1..=QUOTA_BYTES_MAX, "bytes", mistakes);
    let tenant =
        Allowance { bytes_per_s: bytes("tenant_bytes_per_s"), bytes_per_day: bytes("tenant_bytes_per_day") };
    let device =
        Allowance { bytes_per_s: bytes("device_bytes_per_s"), bytes_per_day: bytes("device_bytes_per_day") };
    table.finish(mistakes);
    QuotaSettings { tenant, device }
}

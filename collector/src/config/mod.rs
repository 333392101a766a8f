//! The collector's configuration: one TOML file, checked as a whole before anything starts.
//!
//! Every mistake is told at once, with its TOML path, what was expected and what to do. Relative paths are
//! relative to the file's folder.

mod clock;
mod compact;
mod gate;
mod http;
mod identity;
mod read;
mod receive;
mod signer;
mod upkeep;

pub use clock::ClockSettings;
pub use compact::CommitSettings;
pub use gate::{EventHook, EventSettings, GateSection, HookSection, HookWay};
pub use http::HttpSettings;
pub use identity::{Identity, IdentityError, Stamps, stamps};
pub use read::Mistake;
pub use receive::{ReceiveSettings, Role, Share};
pub use signer::{AckSigner, SignCommand};
pub use upkeep::UpkeepSettings;

use crate::ingest::{CompactSettings, TimeDemand};
use headwater_core::id::{Sha256, TenantId};
use headwater_lake::{Lake, LakeError, RefName, RefPatterns};
use headwater_mqtt::{Version, Versions};
use read::{Mistakes, Section};
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Default of `landing.sync_ms`: one sync per 30 ms is about the pace of a cheap disk.
const SYNC_MS: u64 = 30;
/// Default of `mqtt.keepalive_s`.
const KEEPALIVE_S: u64 = 60;

/// A broker's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerUrl {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// `mqtts`.
    pub tls: bool,
}

impl FromStr for BrokerUrl {
    type Err = ();

    /// `mqtts://host:port` (port 8883 if left out) or `mqtt://host:port` (1883).
    fn from_str(text: &str) -> Result<Self, ()> {
        let (tls, rest) = match text.split_once("://") {
            Some(("mqtts", rest)) => (true, rest),
            Some(("mqtt", rest)) => (false, rest),
            _ => return Err(()),
        };
        // An IPv6 address is written in brackets, as in any URL.
        let (host, port) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, port)) => (host, port.strip_prefix(':')),
            None => match rest.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (rest, None),
            },
        };
        let port = match port {
            Some(port) => port.parse().map_err(|_| ())?,
            None if tls => 8883,
            None => 1883,
        };
        if host.is_empty() || host.contains('/') || port == 0 {
            return Err(());
        }
        Ok(Self { host: host.to_owned(), port, tls })
    }
}

impl BrokerUrl {
    /// True if it is this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

/// Where the signing key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignKey {
    /// In a file.
    File(PathBuf),
    /// Behind a program: its name and arguments.
    Command(Vec<String>),
}

/// `[identity]`: PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityPaths {
    /// The fleet's root.
    pub ca: PathBuf,
    /// TLS certificate: client towards the broker, server of the embedded one.
    pub tls_cert: PathBuf,
    /// Its key.
    pub tls_key: PathBuf,
    /// Signing certificate and intermediates, leaf first.
    pub sign_cert: PathBuf,
    /// Its key (Ed25519, PKCS#8), or what signs with it.
    pub sign_key: SignKey,
    /// Revocation lists; unless told otherwise `ca.crl` beside `ca`, if there is one.
    pub crl: PathBuf,
    /// `identity.crl` was given, so the file must be there.
    pub crl_needed: bool,
}

impl IdentityPaths {
    /// Revocation lists of collectors and CAs, which devices are given: beside `crl`, if there is one.
    #[must_use]
    pub fn collectors_crl(&self) -> PathBuf {
        self.crl.with_file_name(crate::pki::COLLECTORS_LIST)
    }

    /// Every file that is read.
    #[must_use]
    pub fn all(&self) -> Vec<PathBuf> {
        let Self { ca, tls_cert, tls_key, sign_cert, sign_key, crl, .. } = self.clone();
        let key = match sign_key {
            SignKey::File(file) => Some(file),
            SignKey::Command(_) => None,
        };
        [ca, tls_cert, tls_key, sign_cert, crl, self.collectors_crl()].into_iter().chain(key).collect()
    }
}

/// `[broker]`, for the broker role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerSection {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// Plain MQTT; on loopback only.
    pub plain: bool,
    /// The version it speaks: 5 unless told otherwise.
    pub version: Version,
}

/// A valid configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `tenant.name`.
    pub tenant: TenantId,
    /// `[identity]`.
    pub identity: IdentityPaths,
    /// `mqtt.broker`.
    pub broker_url: BrokerUrl,
    /// `mqtt.client_id`: also this receiver's name and the folder of its landing logs.
    pub client_id: String,
    /// `mqtt.keepalive_s`.
    pub keepalive_s: u16,
    /// `mqtt.version`.
    pub versions: Versions,
    /// `roles`, `mqtt.share`, `[receive]` and `[quota]`.
    pub receive: ReceiveSettings,
    /// `[broker]`.
    pub broker: Option<BrokerSection>,
    /// `landing.dir`.
    pub landing_dir: PathBuf,
    /// `landing.sync_ms`: a group of records is synced at the latest after this.
    pub sync_ms: u64,
    /// `lake.location`: a path, or the URL of a bucket.
    pub lake: String,
    /// `lake.branch`.
    pub branch: RefName,
    /// `[lake.compact]`: what is done beside commits.
    pub compact: CompactSettings,
    /// `[commit]`: when a group of rows closes.
    pub commit: CommitSettings,
    /// `[lake.gc]` and `[[lake.retention]]`.
    pub upkeep: UpkeepSettings,
    /// `lake.protected`; none if nothing is said.
    pub protected: Option<RefPatterns>,
    /// `[clock]`: what this host's own UTC is worth.
    pub clock: ClockSettings,
    /// `[[time]]`: how well streams must be timed.
    pub time: Vec<TimeDemand>,
    /// `[gate]`: how aligned rows are judged.
    pub gate: GateSection,
    /// `[event]`: who is told of commits.
    pub event: EventSettings,
    /// `[http]`.
    pub http: Option<HttpSettings>,
    /// `recipes`: recipe files.
    pub recipes: Vec<PathBuf>,
    /// Hex SHA-256 of the file's text, for the lineage of commits.
    pub config_hash: String,
}

/// Every mistake of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistaken(pub Vec<Mistake>);

impl fmt::Display for Mistaken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, mistake) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{mistake}")?;
        }
        Ok(())
    }
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("failed to read configuration {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is not TOML.
    #[error("configuration is not valid TOML: {0}")]
    Toml(String),
    /// It is TOML and says something that cannot be.
    #[error("{0}")]
    Mistaken(Mistaken),
}

/// Reads and checks a configuration file.
///
/// # Errors
/// [`ConfigError`], with every mistake there is.
pub fn load(path: &Path) -> Result<Settings, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    parse(&text, path.parent().unwrap_or(Path::new("")))
}

/// Checks the text of a configuration; relative paths stay relative.
///
/// # Errors
/// [`ConfigError`], with every mistake there is.
pub fn parse_text(text: &str) -> Result<Settings, ConfigError> {
    parse(text, Path::new(""))
}

fn parse(text: &str, folder: &Path) -> Result<Settings, ConfigError> {
    let table: toml::Table =
        text.parse().map_err(|error: toml::de::Error| ConfigError::Toml(error.to_string()))?;
    let mut mistakes = Mistakes::default();
    let settings = read_settings(Section::root(table), folder, &mut mistakes);
    match settings {
        Some(settings) if mistakes.0.is_empty() => {
            Ok(Settings { config_hash: Sha256::of(text.as_bytes()).to_string(), ..settings })
        }
        _ => Err(ConfigError::Mistaken(Mistaken(mistakes.0))),
    }
}

/// `None` only if a mistake was added.
fn read_settings(mut root: Section, folder: &Path, mistakes: &mut Mistakes) -> Option<Settings> {
    let in_folder = |path: &String| folder.join(path);
    let mut recipes = root.texts("recipes", mistakes);
    let tenant = read_tenant(&mut root, mistakes);
    let identity = read_identity(&mut root, folder, mistakes);
    let mqtt = read_mqtt(&mut root, mistakes);
    let broker = read_broker(&mut root, mistakes);
    let roles = receive::read_roles(&mut root, mistakes);
    let credit_bytes = receive::read_credit(&mut root, mistakes);
    let quotas = receive::read_quotas(&mut root, mistakes);
    let landing = read_landing(&mut root, mistakes);
    let lake = read_lake(&mut root, mistakes);
    let in_bucket = lake.as_ref().is_some_and(|lake| lake.0.contains("://"));
    let commit = compact::read_commit(&mut root, in_bucket, mistakes);
    let clock = clock::read_clock(&mut root, mistakes);
    let time = clock::read_time(&mut root, mistakes);
    let gate = gate::read_gate(&mut root, folder, mistakes);
    let event = gate::read_event(&mut root, folder, mistakes);
    let http = http::read_http(&mut root, folder, &mut recipes, mistakes);
    root.finish(mistakes);
    let Mqtt { broker_url, client_id, keepalive_s, versions, share } = mqtt?;
    let (landing_dir, sync_ms) = landing?;
    let (lake, branch, protected, compact, upkeep) = lake?;
    Some(Settings {
        tenant: tenant?,
        identity: identity?,
        broker_url,
        client_id,
        keepalive_s,
        versions,
        receive: ReceiveSettings { roles, share, credit_bytes, quotas },
        broker,
        landing_dir: in_folder(&landing_dir),
        sync_ms,
        lake: if in_bucket { lake } else { in_folder(&lake).to_string_lossy().into_owned() },
        branch,
        compact,
        commit,
        upkeep,
        protected,
        clock,
        time,
        gate,
        event,
        http,
        recipes: recipes.iter().map(in_folder).collect(),
        config_hash: String::new(),
    })
}

fn read_tenant(root: &mut Section, mistakes: &mut Mistakes) -> Option<TenantId> {
    let mut table = root.needed_section("tenant", "name = \"…\", the O of your certificates", mistakes);
    let name = table.needed(
        "name",
        "1 to 64 characters of a-z 0-9 . _ -",
        "it is the O of your certificates",
        mistakes,
    );
    table.finish(mistakes);
    name
}

fn read_identity(root: &mut Section, folder: &Path, mistakes: &mut Mistakes) -> Option<IdentityPaths> {
    let hint = "made by `headwater pki issue --collector NAME --host HOST`";
    let hint_of_pair = hint;
    let mut table = root.needed_section("identity", hint, mistakes);
    let mut path =
        |key| table.needed::<String>(key, "a PEM file", hint, mistakes).map(|path| folder.join(path));
    let (ca, tls_cert, tls_key) = (path("ca"), path("tls_cert"), path("tls_key"));
    let sign_cert = path("sign_cert");
    let command = table.texts("sign_command", mistakes);
    let sign_key = match (command.is_empty(), table.text("sign_key", mistakes)) {
        (true, Some(file)) => Some(SignKey::File(folder.join(file))),
        (false, None) => Some(SignKey::Command(command)),
        _ if table.is_stand_in() => None,
        (no_command, _) => {
            let found = if no_command { "nothing" } else { "both" };
            let hint = "sign_command is a program that signs: [\"program\", \"argument\"]";
            mistakes.add(
                &table.path_of("sign_key"),
                "a PEM file, or sign_command",
                found,
                if no_command { hint_of_pair } else { hint },
            );
            None
        }
    };
    let crl = table.text("crl", mistakes).map(|path| folder.join(path));
    table.finish(mistakes);
    let ca = ca?;
    Some(IdentityPaths {
        crl_needed: crl.is_some(),
        crl: crl.unwrap_or_else(|| ca.with_file_name(crate::pki::ALL_LIST)),
        ca,
        tls_cert: tls_cert?,
        tls_key: tls_key?,
        sign_cert: sign_cert?,
        sign_key: sign_key?,
    })
}

/// `[mqtt]`.
struct Mqtt {
    broker_url: BrokerUrl,
    client_id: String,
    keepalive_s: u16,
    versions: Versions,
    share: Share,
}

fn read_mqtt(root: &mut Section, mistakes: &mut Mistakes) -> Option<Mqtt> {
    let mut table = root.needed_section("mqtt", "broker = \"mqtts://HOST:8883\"", mistakes);
    let expected = "mqtts://HOST:PORT";
    let url: Option<BrokerUrl> = table.needed("broker", expected, "mqtt:// is for loopback only", mistakes);
    if let Some(url) = url.as_ref().filter(|url| !url.tls && !url.is_loopback()) {
        let hint = "without TLS anyone on the way can read and drop what devices send";
        mistakes.add(
            &table.path_of("broker"),
            "mqtts:// beyond loopback",
            &format!("mqtt://{}", url.host),
            hint,
        );
    }
    let rule = "1 to 64 characters of a-z 0-9 . _ -";
    let hint = "two collectors must not share one";
    let client_id: Option<TenantId> = table.needed("client_id", rule, hint, mistakes);
    if client_id.as_ref().is_some_and(|name| name.as_str() == crate::land::IMPORTED) {
        let expected = "another name than that of imported logs";
        mistakes.add(&table.path_of("client_id"), expected, crate::land::IMPORTED, "such as \"collector-1\"");
    }
    let keepalive = table.number("keepalive_s", 5..=3600, "seconds", mistakes).unwrap_or(KEEPALIVE_S);
    let versions = receive::read_versions(&mut table, "version", mistakes);
    let share = receive::read_share(&mut table, mistakes);
    table.finish(mistakes);
    Some(Mqtt {
        broker_url: url?,
        client_id: client_id?.to_string(),
        keepalive_s: u16::try_from(keepalive).unwrap_or(u16::MAX),
        versions,
        share,
    })
}

fn read_broker(root: &mut Section, mistakes: &mut Mistakes) -> Option<BrokerSection> {
    let mut table = root.section("broker", mistakes)?;
    let listen: Option<SocketAddr> =
        table.needed("listen", "ADDRESS:PORT", "such as \"127.0.0.1:8883\"", mistakes);
    let plain = table.flag("plain", mistakes).unwrap_or(false);
    let version = receive::read_broker_version(&mut table, mistakes);
    if let Some(listen) = listen.filter(|listen| plain && !listen.ip().is_loopback()) {
        let hint = "take it out to use TLS, or listen on 127.0.0.1";
        mistakes.add(&table.path_of("plain"), "false beyond loopback", &format!("true on {listen}"), hint);
    }
    table.finish(mistakes);
    Some(BrokerSection { listen: listen?, plain, version })
}

fn read_landing(root: &mut Section, mistakes: &mut Mistakes) -> Option<(String, u64)> {
    let mut table = root.needed_section("landing", "dir = \"landing\"", mistakes);
    let dir = table.needed("dir", "a folder", "on a disk that keeps what it synced", mistakes);
    let sync_ms = table.number("sync_ms", 1..=1000, "milliseconds", mistakes).unwrap_or(SYNC_MS);
    table.finish(mistakes);
    Some((dir?, sync_ms))
}

fn read_lake(
    root: &mut Section,
    mistakes: &mut Mistakes,
) -> Option<(String, RefName, Option<RefPatterns>, CompactSettings, UpkeepSettings)> {
    let mut table = root.needed_section("lake", "location = \"lake\"", mistakes);
    let expected = "a folder, or a file://, s3://, gs:// or az:// URL";
    let location: Option<String> = table.needed("location", expected, "", mistakes);
    let location = location.and_then(|location| match Lake::check_location(&location) {
        Ok(()) => Some(location.strip_prefix("file://").map(str::to_owned).unwrap_or(location)),
        Err(wrong) => {
            let reason = match wrong {
                LakeError::Location { reason, .. } => reason,
                other => other.to_string(),
            };
            mistakes.add(&table.path_of("location"), expected, &format!("{location:?}"), &reason);
            None
        }
    });
    let name = table.text("branch", mistakes).unwrap_or_else(|| "main".into());
    let branch = RefName::new(&name).ok();
    if branch.is_none() {
        let expected = "a branch name: lower-case letters, digits and . _ -";
        mistakes.add(&table.path_of("branch"), expected, &format!("{name:?}"), "such as \"main\"");
    }
    let compact = compact::read_compact(&mut table, mistakes);
    let protected = http::read_protected(&mut table, mistakes);
    let upkeep = upkeep::read_upkeep(&mut table, mistakes);
    table.finish(mistakes);
    Some((location?, branch?, protected, compact, upkeep))
}

#[cfg(test)]
mod tests;

//! From the file as written to settings: one function per table, and every mistake is collected.

use super::mistake::{Mistake, Mistakes};
use super::raw::{RawBatch, RawConfig, RawDevice, RawIdentity, RawSpool};
use super::settings::{IdentityFiles, Settings, SpoolSettings};
use super::{clock, links, sources, uplink, value};
use crate::enroll::HttpsUrl;
use crate::ship::{BacklogOrder, RetainUntil};

use headwater_core::id::DevicePath;
use headwater_core::wire::blob::{BLOB_CODECS_SUPPORTED, BlobCodec};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Below this the spool could not hold its own segment files in hand (8 MiB each, three lanes).
const SPOOL_BYTES_MIN: u64 = 64 << 20;
const SPOOL_BYTES_DEFAULT: u64 = 4 << 30;
/// Room for logs and updates of the system, and for the spool's own quarantine and index.
const FREE_BYTES_DEFAULT: u64 = 256 << 20;
/// Company is worth more waiting where bytes are paid for.
const METERED_LINGER: Duration = Duration::from_secs(10);
const SPOOL_DIR_DEFAULT: &str = "/var/lib/headwater";

pub(super) type Readable<'a> = &'a dyn Fn(&Path) -> Result<(), String>;

/// Checks everything; `None` only with mistakes.
pub(super) fn settings(
    raw: &RawConfig,
    folder: &Path,
    readable: Readable<'_>,
    mistakes: &mut Mistakes,
) -> Option<Settings> {
    let device = device(&raw.device, mistakes);
    let identity = identity(&raw.identity, folder, readable, mistakes);
    let uplink = uplink::uplink(&raw.uplink, folder, readable, mistakes);
    let spool = spool(&raw.spool, folder, mistakes);
    let metered = raw.uplink.metered.unwrap_or(false);
    let linger = linger(&raw.batch, metered, mistakes);
    let lepton = lepton(&raw.batch, metered, mistakes);
    let clock = clock::clock(&raw.clock, folder, mistakes);
    let links = links::links(&raw.link, metered, mistakes);
    let live_window =
        value::number(raw.uplink.live_window_s, 30, 5..=86_400, "uplink.live_window_s", mistakes);
    let orders = [("oldest", BacklogOrder::Oldest), ("newest", BacklogOrder::Newest)];
    let backlog_order = value::word(
        raw.uplink.backlog_first.as_deref(),
        &orders,
        Some(BacklogOrder::Oldest),
        "uplink.backlog_first",
        mistakes,
    );
    let sources = sources::sources(&raw.source, folder, mistakes);
    let spool = spool?;
    let kept =
        sources.iter().flatten().map(|source| source.retention.keep_bytes_min).fold(0, u64::saturating_add);
    if kept > spool.bytes_max / 2 {
        let found = format!("{kept} bytes in all");
        let mistake =
            Mistake::new("source.keep_min", "at most half of spool.max_bytes for all sources", found);
        mistakes.push(mistake.hint("raise spool.max_bytes or lower keep_min"));
        return None;
    }
    let status_file = match &raw.status.file {
        Some(file) => folder.join(file),
        None => spool.dir.join("status.json"),
    };
    Some(Settings {
        device: device?,
        identity: identity?,
        uplink: uplink?,
        spool,
        linger: linger?,
        // Said in so many words, it holds on every link.
        metered_linger: if raw.batch.linger_ms.is_some() { linger? } else { METERED_LINGER },
        metered,
        lepton: lepton?,
        live_window: live_window.map(Duration::from_secs)?,
        backlog_order: backlog_order?,
        links: links?,
        clock: clock?,
        status_file,
        sources: sources?,
    })
}

fn device(raw: &RawDevice, mistakes: &mut Mistakes) -> Option<DevicePath> {
    let tenant = value::name(
        raw.tenant.as_deref(),
        "device.tenant",
        "the owner's name",
        "it is O of the certificates",
        mistakes,
    );
    let device = value::name(
        raw.name.as_deref(),
        "device.name",
        "this gateway's name",
        "it is CN of the certificates",
        mistakes,
    );
    Some(DevicePath { tenant: tenant?, device: device? })
}

fn identity(
    raw: &RawIdentity,
    folder: &Path,
    readable: Readable<'_>,
    mistakes: &mut Mistakes,
) -> Option<IdentityFiles> {
    let mut file = |value: Option<&str>, key: &str| -> Option<PathBuf> {
        let path = format!("identity.{key}");
        let Some(value) = value else {
            let hint = "`headwater pki issue` writes all five files";
            mistakes.push(Mistake::new(path, "a PEM file", "nothing").hint(hint));
            return None;
        };
        let file = folder.join(value);
        match readable(&file) {
            Ok(()) => Some(file),
            Err(error) => {
                let hint = "the agent's user must be able to read it";
                mistakes.push(
                    Mistake::new(path, "a readable PEM file", format!("{value:?}: {error}")).hint(hint),
                );
                None
            }
        }
    };
    let ca = file(raw.ca.as_deref(), "ca");
    let tls_cert = file(raw.tls_cert.as_deref(), "tls_cert");
    let tls_key = file(raw.tls_key.as_deref(), "tls_key");
    let sign_cert = file(raw.sign_cert.as_deref(), "sign_cert");
    let sign_key = file(raw.sign_key.as_deref(), "sign_key");
    let crl = raw.crl.as_deref().and_then(|crl| file(Some(crl), "crl"));
    let renew = match raw.renew.as_deref().map(HttpsUrl::parse) {
        Some(None) => {
            let found = format!("{:?}", raw.renew.as_deref().unwrap_or_default());
            let hint = "leave it out to renew certificates by hand";
            mistakes.push(Mistake::new("identity.renew", "https://HOST:PORT", found).hint(hint));
            None
        }
        renew => renew.flatten(),
    };
    Some(IdentityFiles {
        ca: ca?,
        tls_cert: tls_cert?,
        tls_key: tls_key?,
        sign_cert: sign_cert?,
        sign_key: sign_key?,
        crl,
        renew,
    })
}

fn spool(raw: &RawSpool, folder: &Path, mistakes: &mut Mistakes) -> Option<SpoolSettings> {
    let max_bytes = (SPOOL_BYTES_DEFAULT, SPOOL_BYTES_MIN, "a size of at least 64MiB");
    let bytes_max = value::size(raw.max_bytes.as_ref(), max_bytes, "spool.max_bytes", mistakes);
    let min_free = (FREE_BYTES_DEFAULT, 0, "a size");
    let free_bytes_min = value::size(raw.min_free.as_ref(), min_free, "spool.min_free", mistakes);
    let wears = [("normal", 1_000), ("gentle", 10_000)];
    let wear = value::word(raw.wear.as_deref(), &wears, Some(1_000), "spool.wear", mistakes);
    let interval = value::number(
        raw.sync_interval_ms,
        wear.unwrap_or(1_000),
        10..=60_000,
        "spool.sync_interval_ms",
        mistakes,
    );
    let levels = [("committed", RetainUntil::Committed), ("durable", RetainUntil::Durable)];
    let retain_until = value::word(
        raw.retain_until.as_deref(),
        &levels,
        Some(RetainUntil::Committed),
        "spool.retain_until",
        mistakes,
    );
    Some(SpoolSettings {
        dir: folder.join(raw.dir.as_deref().unwrap_or(SPOOL_DIR_DEFAULT)),
        bytes_max: bytes_max?,
        free_bytes_min: free_bytes_min?,
        sync_interval: wear.and(interval).map(Duration::from_millis)?,
        retain_until: retain_until?,
    })
}

fn linger(raw: &RawBatch, metered: bool, mistakes: &mut Mistakes) -> Option<Duration> {
    let default = if metered { METERED_LINGER } else { Duration::from_secs(1) };
    let default = i64::try_from(default.as_millis()).unwrap_or(i64::MAX);
    value::number(raw.linger_ms, default, 0..=60_000, "batch.linger_ms", mistakes).map(Duration::from_millis)
}

fn lepton(raw: &RawBatch, metered: bool, mistakes: &mut Mistakes) -> Option<bool> {
    let built = BlobCodec::Lepton.is_in(BLOB_CODECS_SUPPORTED);
    match raw.lepton.as_deref() {
        None | Some("metered") => Some(metered && built),
        Some("never") => Some(false),
        Some("always") if built => Some(true),
        Some("always") => {
            let mistake =
                Mistake::new("batch.lepton", "a build that has Lepton for \"always\"", "one without");
            mistakes.push(mistake.hint("build with `--features lepton`, or write \"metered\" or \"never\""));
            None
        }
        Some(other) => {
            let mistake =
                Mistake::new("batch.lepton", "\"metered\", \"always\" or \"never\"", format!("{other:?}"));
            mistakes.push(mistake);
            None
        }
    }
}

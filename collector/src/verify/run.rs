//! The shell of verify: rows of `ops.batches` in, the landing log beside them, a report out.

use super::judge::{Found, Noted, Verdict, judge};
use super::keys::Keys;
use crate::commit::read::ScannedRows;
use crate::commit::tables::Ops;
use crate::config::{Identity, Settings};
use crate::land::{LandError, Landed, LandedMessage, LandingPosition, LandingReader, StdDisk};
use futures::TryStreamExt;
use headwater_core::id::{DevicePath, IncarnationId, Sha256, TenantId, parse_hex};
use headwater_core::time::UtcNanos;
use headwater_lake::{CommitId, Lake, LakeError, ScanOptions, TableName};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Landed bytes read at once.
const READ_BYTES: usize = 8 << 20;
/// Messages told in full in a report; all are counted.
const TOLD_MAX: usize = 100;

/// What to verify.
#[derive(Debug, Clone)]
pub struct VerifyOptions {
    /// Branch, tag or commit.
    pub commit: String,
    /// Every message up to it, not only those that it brought.
    pub all: bool,
}

/// A message that was not verified, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Told {
    /// Whose.
    pub device: String,
    /// Its digest.
    pub digest: String,
    /// `incarnation/segment@offset` in the landing logs.
    pub place: String,
    /// What is wrong.
    pub why: String,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Which commit.
    pub commit: String,
    /// Messages it notes.
    pub messages: u64,
    /// The landed message is the one that was noted, and its device signed it.
    pub verified: u64,
    /// The message is trimmed; its device signed one of this digest.
    pub digest_only: u64,
    /// Trimmed, with nothing left to prove it.
    pub missing: u64,
    /// Not what its device signed, or not what was noted.
    pub bad: u64,
    /// Missing and bad ones, at most a hundred.
    pub told: Vec<Told>,
}

impl Report {
    /// True if nothing is bad.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.bad == 0
    }

    fn count(&mut self, noted: &Noted, verdict: Verdict) {
        let (count, why) = match verdict {
            Verdict::Verified => (&mut self.verified, None),
            Verdict::DigestOnly => (&mut self.digest_only, None),
            Verdict::Missing(why) => (&mut self.missing, Some(why)),
            Verdict::Bad(why) => (&mut self.bad, Some(why)),
        };
        *count = count.saturating_add(1);
        self.messages = self.messages.saturating_add(1);
        if let Some(why) = why.filter(|_| self.told.len() < TOLD_MAX) {
            let LandingPosition { incarnation, segment, offset } = noted.position;
            self.told.push(Told {
                device: noted.device.to_string(),
                digest: noted.digest.to_string(),
                place: format!("{incarnation}/{segment}@{offset}"),
                why,
            });
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "commit {}: {} messages, {} verified, {} by digest only, {} missing, {} bad",
            self.commit, self.messages, self.verified, self.digest_only, self.missing, self.bad
        )?;
        for Told { device, digest, place, why } in &self.told {
            writeln!(f, "! {device} {} at {place}: {why}", digest.get(..12).unwrap_or(digest))?;
        }
        Ok(())
    }
}

/// Why nothing could be verified.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The configuration.
    #[error("failed to read {path}")]
    Config {
        /// Which file.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: crate::config::ConfigError,
    },
    /// The fleet's root or our own chain.
    #[error("failed to read the fleet's certificates")]
    Identity(#[from] crate::config::IdentityError),
    /// The lake.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// The landing logs.
    #[error("failed to read the landing logs")]
    Land(#[from] LandError),
}

/// Verifies the messages of a commit of the collector with these settings. `seen` is told how many there are, then of
/// each batch that is done, for a progress bar.
///
/// # Errors
/// [`VerifyError`]; what is wrong with a message is in the report.
pub async fn verify(
    settings: &Settings,
    options: &VerifyOptions,
    now: UtcNanos,
    mut seen: impl FnMut(u64, u64),
) -> Result<Report, VerifyError> {
    let identity = Identity::load(&settings.identity, &settings.tenant, now)?;
    let lake = Lake::open(&settings.lake).await?;
    let id = lake.resolve(&options.commit).await?;
    let commit = lake.commit_object(&id).await?;
    let mut keys = Keys::new(identity.roots.clone());
    keys.add_collector(&identity.signer.serial, &identity.chain);
    read_keys(&lake, &id, &mut keys).await?;
    let before = match commit.parents.first().filter(|_| !options.all) {
        Some(parent) => places(&noted(&lake, parent, &settings.tenant).await?),
        None => BTreeSet::new(),
    };
    let mut messages = noted(&lake, &id, &settings.tenant).await?;
    messages.retain(|message| !before.contains(&place(&message.position)));
    messages.sort_by_key(|message| place(&message.position));
    seen(messages.len() as u64, 0);
    let mut report = Report { commit: id.to_string(), ..Report::default() };
    let mut reader = LandingReader::new(StdDisk, &settings.landing_dir);
    let mut left = messages.as_slice();
    while let Some(first) = left.first() {
        let read = read_after(&mut reader, first.position)?;
        let mut done = 0_usize;
        for noted in left {
            let here = read.messages.get(&place(&noted.position));
            if here.is_none() && noted.position != first.position && !read.covers(&noted.position) {
                break;
            }
            let found = match here {
                Some(message) => Found::Message(message),
                None if reader.holds(&noted.position)? => Found::Damaged,
                None => Found::Gone,
            };
            report.count(noted, judge(noted, &found, &keys));
            done = done.saturating_add(1);
        }
        left = left.get(done..).unwrap_or_default();
        seen(messages.len() as u64, done as u64);
    }
    Ok(report)
}

type Place = (IncarnationId, u64, u64);

fn place(position: &LandingPosition) -> Place {
    (position.incarnation, position.segment, position.offset)
}

fn places(messages: &[Noted]) -> BTreeSet<Place> {
    messages.iter().map(|message| place(&message.position)).collect()
}

/// Records from a place on.
struct Read {
    messages: BTreeMap<Place, LandedMessage>,
    /// Where the last of them ends.
    end: Option<LandingPosition>,
}

impl Read {
    /// True if what lies there would have been read.
    fn covers(&self, position: &LandingPosition) -> bool {
        self.end.is_some_and(|end| *position < end)
    }
}

fn read_after(reader: &mut LandingReader<StdDisk>, from: LandingPosition) -> Result<Read, LandError> {
    let landed = reader.read_from(from, READ_BYTES)?;
    let end = landed.last().map(Landed::end);
    let messages = landed.into_iter().filter_map(|landed| match landed {
        Landed::Message(message) => Some((place(&message.position), message)),
        Landed::Blob(_) => None,
    });
    Ok(Read { messages: messages.collect(), end })
}

async fn read_keys(lake: &Lake, id: &CommitId, keys: &mut Keys) -> Result<(), LakeError> {
    let columns = ["sign_serial", "sign_chain"];
    for_each(lake, id, &Ops::Devices.table(), &columns, |rows, row| {
        if let (Some(serial), Some(chain)) = (rows.text("sign_serial", row), rows.bytes("sign_chain", row)) {
            keys.add_device(&serial, &chain);
        }
    })
    .await
}

async fn noted(lake: &Lake, id: &CommitId, tenant: &TenantId) -> Result<Vec<Noted>, LakeError> {
    let columns = [
        "device",
        "digest",
        "key_serial",
        "signature",
        "received_ns",
        "incarnation",
        "landing_n",
        "landing_offset",
    ];
    let mut messages = Vec::new();
    for_each(lake, id, &Ops::Batches.table(), &columns, |rows, row| {
        messages.extend(noted_row(rows, row, tenant));
    })
    .await?;
    Ok(messages)
}

fn noted_row(rows: ScannedRows<'_>, row: usize, tenant: &TenantId) -> Option<Noted> {
    let device = rows.text("device", row)?.parse().ok()?;
    Some(Noted {
        device: DevicePath { tenant: tenant.clone(), device },
        digest: Sha256(parse_hex(rows.text("digest", row)?.as_bytes())?),
        signature: rows.bytes("signature", row)?,
        key_serial: rows.text("key_serial", row)?,
        received: UtcNanos(rows.long("received_ns", row)?),
        position: LandingPosition {
            incarnation: IncarnationId(parse_hex(rows.text("incarnation", row)?.as_bytes())?),
            segment: rows.count("landing_n", row)?,
            offset: rows.count("landing_offset", row)?,
        },
    })
}

async fn for_each(
    lake: &Lake,
    id: &CommitId,
    table: &TableName,
    columns: &[&str],
    mut take: impl FnMut(ScannedRows<'_>, usize),
) -> Result<(), LakeError> {
    if !lake.tables(id).await?.contains_key(table) {
        return Ok(());
    }
    let columns = Some(columns.iter().map(|column| (*column).to_owned()).collect());
    let mut batches = lake.scan(id, table, ScanOptions { columns, ..ScanOptions::default() }).await?;
    while let Some(batch) = batches.try_next().await? {
        let rows = ScannedRows(&batch);
        (0..rows.len()).for_each(|row| take(rows, row));
    }
    Ok(())
}

//! Revoking: certificates by serial or by their holder's name, and the lists that say so.
//!
//! `revoked.json` is what was decided; `ca.crl` and `collectors.crl` are made from it and signed by the CA. The first
//! names everything: collectors and brokers read it. The second names collectors and CAs only: it is small enough to
//! travel to every gateway in the answer to its hello.

use super::authority::{Authority, CA_DAYS, date};
use super::register::{Issued, Role, issued};
use super::{PkiError, files};
use headwater_core::time::{NS_PER_S, UtcNanos};
use rcgen::{
    CertificateRevocationListParams, KeyIdMethod, RevocationReason, RevokedCertParams, SerialNumber,
};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Everything that is revoked: for collectors, and for brokers (mosquitto's `crlfile`).
pub const ALL_LIST: &str = "ca.crl";
/// Revoked collectors and CAs: for gateways.
pub const COLLECTORS_LIST: &str = "collectors.crl";
/// Name of the file of decisions.
const FILE: &str = "revoked.json";
const DAY_S: i64 = 86_400;

/// Why a certificate is revoked (RFC 5280 section 5.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Reason {
    /// No reason given.
    #[default]
    Unspecified,
    /// Someone else may have the key: a stolen gateway or card.
    KeyCompromise,
    /// Someone else may have a CA's key.
    CaCompromise,
    /// It belongs to someone else now.
    AffiliationChanged,
    /// Replaced by a newer one.
    Superseded,
    /// Out of service.
    CessationOfOperation,
}

impl Reason {
    fn code(self) -> RevocationReason {
        match self {
            Self::Unspecified => RevocationReason::Unspecified,
            Self::KeyCompromise => RevocationReason::KeyCompromise,
            Self::CaCompromise => RevocationReason::CaCompromise,
            Self::AffiliationChanged => RevocationReason::AffiliationChanged,
            Self::Superseded => RevocationReason::Superseded,
            Self::CessationOfOperation => RevocationReason::CessationOfOperation,
        }
    }
}

/// One revoked certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Serial number, lower-case hex.
    pub serial: String,
    /// Its CN; empty if the register does not know it.
    pub name: String,
    /// What it is; unknown ones count as collectors, so that gateways hear of them too.
    pub role: Role,
    /// Why.
    pub reason: Reason,
    /// Since when, s since 1970.
    pub since_s: i64,
}

/// All that a CA revoked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Decisions {
    number: u64,
    revoked: Vec<Entry>,
}

/// Revokes what `who` names in the CA of `dir`: a serial number, or every certificate of a device, collector or
/// intermediate. Gives what is newly revoked.
///
/// # Errors
/// [`PkiError::Unknown`] if nothing is called so.
pub fn revoke(dir: &Path, who: &str, reason: Reason, now: UtcNanos) -> Result<Vec<Entry>, PkiError> {
    let authority = Authority::open(dir)?;
    let _held = files::lock(dir)?;
    let entries = named(&issued(dir)?, who)?;
    revoke_held(&authority, entries, reason, now)
}

/// The same for certificates of the register, while the folder's lock is held.
pub(super) fn revoke_held(
    authority: &Authority,
    entries: Vec<Entry>,
    reason: Reason,
    now: UtcNanos,
) -> Result<Vec<Entry>, PkiError> {
    let mut decisions = read(&authority.dir)?;
    let since_s = now.0.div_euclid(NS_PER_S);
    let mut new: Vec<Entry> = entries.into_iter().map(|entry| Entry { reason, since_s, ..entry }).collect();
    new.retain(|entry| decisions.revoked.iter().all(|known| known.serial != entry.serial));
    decisions.revoked.extend(new.iter().cloned());
    publish(authority, &mut decisions, now)?;
    Ok(new)
}

/// Everything revoked in `dir`, oldest first.
///
/// # Errors
/// [`PkiError`] names the file.
pub fn revoked(dir: &Path) -> Result<Vec<Entry>, PkiError> {
    Ok(read(dir)?.revoked)
}

pub(super) fn named(register: &[Issued], who: &str) -> Result<Vec<Entry>, PkiError> {
    let serial = who.replace(':', "").to_lowercase();
    let entry = |issued: &Issued| Entry {
        serial: issued.serial.clone(),
        name: issued.name.clone(),
        role: issued.role,
        reason: Reason::Unspecified,
        since_s: 0,
    };
    let known: Vec<Entry> =
        register.iter().filter(|issued| issued.name == who || issued.serial == serial).map(entry).collect();
    if !known.is_empty() {
        return Ok(known);
    }
    // Of a CA older than its register: the number alone.
    let is_serial =
        serial.len() >= 8 && serial.len().is_multiple_of(2) && serial.bytes().all(|b| b.is_ascii_hexdigit());
    if !is_serial {
        return Err(PkiError::Unknown(who.to_owned()));
    }
    Ok(vec![Entry {
        serial,
        name: String::new(),
        role: Role::Collector,
        reason: Reason::Unspecified,
        since_s: 0,
    }])
}

fn publish(authority: &Authority, decisions: &mut Decisions, now: UtcNanos) -> Result<(), PkiError> {
    decisions.number = decisions.number.saturating_add(1);
    let text = serde_json::to_string_pretty(decisions)
        .map_err(|error| PkiError::Content { path: authority.dir.join(FILE), reason: error.to_string() })?;
    let all = list(authority, decisions, now, |_| true)?;
    let collectors = list(authority, decisions, now, |role| role != Role::Device)?;
    files::write_secret(&authority.dir.join(FILE), &text)?;
    files::write_public(&authority.dir.join(COLLECTORS_LIST), &collectors)?;
    files::write_public(&authority.dir.join(ALL_LIST), &all)
}

fn list(
    authority: &Authority,
    decisions: &Decisions,
    now: UtcNanos,
    wanted: impl Fn(Role) -> bool,
) -> Result<String, PkiError> {
    let mut revoked_certs = Vec::new();
    for entry in decisions.revoked.iter().filter(|entry| wanted(entry.role)) {
        let (y, m, d) = date(entry.since_s)?;
        revoked_certs.push(RevokedCertParams {
            serial_number: SerialNumber::from_slice(&bytes(&entry.serial)),
            revocation_time: rcgen::date_time_ymd(y, m, d),
            // The code for "unspecified" is left out, as the RFC asks.
            reason_code: Some(entry.reason.code()).filter(|_| entry.reason != Reason::Unspecified),
            invalidity_date: None,
        });
    }
    let now_s = now.0.div_euclid(NS_PER_S);
    // A broker that finds its list outdated refuses everyone: there is a next list when something is revoked next.
    let until_s = now_s.saturating_add(i64::from(CA_DAYS).saturating_mul(DAY_S));
    let ((y, m, d), (next_y, next_m, next_d)) = (date(now_s)?, date(until_s)?);
    let params = CertificateRevocationListParams {
        this_update: rcgen::date_time_ymd(y, m, d),
        next_update: rcgen::date_time_ymd(next_y, next_m, next_d),
        crl_number: SerialNumber::from_slice(&decisions.number.to_be_bytes()),
        issuing_distribution_point: None,
        revoked_certs,
        key_identifier_method: KeyIdMethod::Sha256,
    };
    // Whoever reads it can prove it: the certificates between it and the root go along. Brokers step over them.
    Ok(format!("{}{}", authority.chain_pem, params.signed_by(&authority.issuer)?.pem()?))
}

fn read(dir: &Path) -> Result<Decisions, PkiError> {
    let path = dir.join(FILE);
    match files::read_if_there(&path)? {
        None => Ok(Decisions::default()),
        Some(text) => {
            serde_json::from_str(&text).map_err(|error| PkiError::Content { path, reason: error.to_string() })
        }
    }
}

/// A serial's bytes, as they stand in certificates.
fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        hex.bytes().map(|digit| char::from(digit).to_digit(16).map_or(0, |n| n.to_le_bytes()[0])).collect();
    digits.chunks(2).map(|pair| pair.iter().fold(0, |byte: u8, digit| byte << 4 | digit)).collect()
}

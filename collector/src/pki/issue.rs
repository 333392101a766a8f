//! Issuing and renewing pairs by a command: keys are made here and written beside their certificates.

use super::authority::{Authority, CA_DAYS, Leaf, SubjectKey, algorithm, ca_params, valid};
use super::register::{Role, issued};
use super::{PkiError, files};
use headwater_core::id::{DeviceId, TenantId};
use headwater_core::time::UtcNanos;
use headwater_core::wire::request::KeyUse;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use std::path::Path;

/// Validity of a leaf unless told otherwise, days: two years.
pub const LEAF_DAYS: u32 = 730;

/// Who gets certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A gateway.
    Device(String),
    /// A collector; `hosts` are the names and addresses its broker role answers to.
    Collector {
        /// Its name.
        name: String,
        /// DNS names or IP addresses.
        hosts: Vec<String>,
    },
}

impl Subject {
    fn parts(&self) -> (&str, Role, &[String]) {
        match self {
            Self::Device(name) => (name, Role::Device, &[]),
            Self::Collector { name, hosts } => (name, Role::Collector, hosts),
        }
    }
}

/// Makes `ca.pem` and `ca.key` in `dir`.
///
/// # Errors
/// [`PkiError::Exists`] if there is a CA already; never overwrites one.
pub fn init(dir: &Path, tenant: &str, now: UtcNanos) -> Result<(), PkiError> {
    let tenant: TenantId = tenant.parse()?;
    let (certificate, key) = (dir.join("ca.pem"), dir.join("ca.key"));
    if let Some(there) = [&certificate, &key].into_iter().find(|path| path.exists()) {
        return Err(PkiError::Exists(there.clone()));
    }
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = ca_params(&format!("Headwater fleet CA of {tenant}"), &tenant)?;
    valid(&mut params, now, CA_DAYS)?;
    let pem = params.self_signed(&pair)?.pem();
    files::make_dir(dir)?;
    files::write_secret(&key, &pair.serialize_pem())?;
    files::write_public(&certificate, &pem)
}

/// Makes a CA called `name` below the one in `dir`, into the folder `out`: ca.pem issuer.pem ca.key.
///
/// # Errors
/// [`PkiError`] names the file or name at fault.
pub fn intermediate(dir: &Path, name: &str, out: &Path, now: UtcNanos) -> Result<(), PkiError> {
    let name: DeviceId = name.parse()?;
    let authority = Authority::open(dir)?;
    if !authority.chain_pem.is_empty() {
        return Err(PkiError::Deep(dir.to_owned()));
    }
    let names = ["ca.pem", "issuer.pem", "ca.key"];
    if let Some(there) = names.iter().map(|name| out.join(name)).find(|path| path.exists()) {
        return Err(PkiError::Exists(there));
    }
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let held = files::lock(dir)?;
    let chain = authority.certify_ca(&name, &pair, now)?;
    drop(held);
    files::make_dir(out)?;
    files::write_secret(&out.join("ca.key"), &pair.serialize_pem())?;
    files::write_public(&out.join("issuer.pem"), &chain)?;
    files::write_public(&out.join("ca.pem"), &authority.root_pem)
}

/// Issues both pairs of `subject` with the CA in `dir`, into `out`: ca.pem tls.pem tls.key sign.pem sign.key.
///
/// # Errors
/// [`PkiError`] names the file or name at fault.
pub fn issue(dir: &Path, subject: &Subject, out: &Path, now: UtcNanos) -> Result<(), PkiError> {
    issue_for(dir, subject, out, LEAF_DAYS, now)
}

/// The same, valid for `days`.
///
/// # Errors
/// [`PkiError`] names the file or name at fault.
pub fn issue_for(
    dir: &Path,
    subject: &Subject,
    out: &Path,
    days: u32,
    now: UtcNanos,
) -> Result<(), PkiError> {
    write_pairs(dir, subject, out, days, now, |_| Ok(None))
}

/// Renews both pairs in `out`: certificates from `now` on, for new keys or for those there are. The old ones stay
/// valid beside them until they end or are revoked, so nothing that is under way is lost.
///
/// # Errors
/// [`PkiError`] names the file or name at fault.
pub fn renew(
    dir: &Path,
    subject: &Subject,
    out: &Path,
    days: u32,
    same_key: bool,
    now: UtcNanos,
) -> Result<(), PkiError> {
    super::authority::check(dir)?;
    let mut subject = subject.clone();
    if let Subject::Collector { name, hosts } = &mut subject
        && hosts.is_empty()
    {
        let before = issued(dir)?
            .into_iter()
            .rev()
            .find(|entry| entry.name == *name && entry.role == Role::Collector && entry.key_use == "tls");
        *hosts = before.map(|entry| entry.hosts).unwrap_or_default();
        if hosts.is_empty() {
            return Err(PkiError::NoHosts(name.clone()));
        }
    }
    let (name, role, _) = subject.parts();
    if !issued(dir)?.iter().any(|entry| entry.name == *name && entry.role == role) {
        // A mistyped name would be a new device.
        return Err(PkiError::Unknown(name.to_owned()));
    }
    write_pairs(dir, &subject, out, days, now, |key_use| {
        if !same_key {
            return Ok(None);
        }
        let path = out.join(format!("{}.key", stem(key_use)));
        let pair = KeyPair::from_pem(&files::read(&path)?)
            .map_err(|error| PkiError::Content { path: path.clone(), reason: error.to_string() })?;
        Ok(Some(pair))
    })
}

fn write_pairs(
    dir: &Path,
    subject: &Subject,
    out: &Path,
    days: u32,
    now: UtcNanos,
    key_of: impl Fn(KeyUse) -> Result<Option<KeyPair>, PkiError>,
) -> Result<(), PkiError> {
    let authority = Authority::open(dir)?;
    let (name, role, hosts) = subject.parts();
    let name: DeviceId = name.parse()?;
    files::make_dir(out)?;
    let _held = files::lock(dir)?;
    files::write_public(&out.join("ca.pem"), &authority.root_pem)?;
    for key_use in [KeyUse::Tls, KeyUse::Sign] {
        let known = key_of(key_use)?;
        let pair = match &known {
            Some(_) => None,
            None => Some(KeyPair::generate_for(algorithm(key_use))?),
        };
        let Some(key) = known.as_ref().or(pair.as_ref()) else { return Err(PkiError::Random) };
        let subject_key = SubjectKey::new(key_use, key.der_bytes().to_vec());
        let hosts = if key_use == KeyUse::Tls { hosts } else { &[] };
        let leaf = Leaf { name: &name, role, key_use, hosts, days };
        let pem = authority.certify(&leaf, &subject_key, now)?;
        let stem = stem(key_use);
        if let Some(pair) = &pair {
            files::write_secret(&out.join(format!("{stem}.key")), &pair.serialize_pem())?;
        }
        files::write_public(&out.join(format!("{stem}.pem")), &pem)?;
    }
    Ok(())
}

fn stem(key_use: KeyUse) -> &'static str {
    match key_use {
        KeyUse::Tls => "tls",
        KeyUse::Sign => "sign",
    }
}

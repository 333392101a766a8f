//! A certificate authority in a folder: the fleet's root, or an intermediate below it.
//!
//! `ca.pem` is the fleet's root, `ca.key` the key that signs here. An intermediate's folder has its own chain in
//! `issuer.pem` (its certificate first); without that file `ca.pem` itself is the issuer.

use super::register::{Issued, Role, note};
use super::{PkiError, files};
use headwater_core::id::{DeviceId, NameError, TenantId};
use headwater_core::time::{NS_PER_S, UtcNanos};
use headwater_core::wire::request::KeyUse;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PublicKeyData, SerialNumber, SignatureAlgorithm,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::path::{Path, PathBuf};

/// Validity of a CA, days: ten years.
pub(super) const CA_DAYS: u32 = 3_650;
/// Leaves are valid from this long ago, so that a clock a little behind accepts them.
const BACKDATED_DAYS: i64 = 1;
const DAY_S: i64 = 86_400;

/// A CA that can issue.
pub struct Authority {
    pub(super) dir: PathBuf,
    /// The fleet's root, PEM.
    pub(super) root_pem: String,
    /// Intermediates from the issuer up to below the root, PEM; empty at the root.
    pub(super) chain_pem: String,
    pub(super) tenant: TenantId,
    pub(super) issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Authority({})", self.dir.display())
    }
}

/// What a leaf is to be.
#[derive(Debug, Clone)]
pub(super) struct Leaf<'a> {
    pub(super) name: &'a DeviceId,
    pub(super) role: Role,
    pub(super) key_use: KeyUse,
    pub(super) hosts: &'a [String],
    pub(super) days: u32,
}

/// A subject's public key: DER comes from rcgen, the bits from a key pair or a request.
pub(super) struct SubjectKey {
    bits: Vec<u8>,
    algorithm: &'static SignatureAlgorithm,
}

impl SubjectKey {
    pub(super) fn new(key_use: KeyUse, bits: Vec<u8>) -> Self {
        Self { bits, algorithm: algorithm(key_use) }
    }
}

impl PublicKeyData for SubjectKey {
    fn der_bytes(&self) -> &[u8] {
        &self.bits
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.algorithm
    }
}

pub(super) fn algorithm(key_use: KeyUse) -> &'static SignatureAlgorithm {
    match key_use {
        KeyUse::Tls => &PKCS_ECDSA_P256_SHA256,
        KeyUse::Sign => &PKCS_ED25519,
    }
}

impl Authority {
    /// Opens the CA in `dir`.
    ///
    /// # Errors
    /// [`PkiError`] names the file at fault.
    pub fn open(dir: &Path) -> Result<Self, PkiError> {
        let (root_path, key_path, issuer_path) =
            (dir.join("ca.pem"), dir.join("ca.key"), dir.join("issuer.pem"));
        check(dir)?;
        let root_pem = files::read(&root_path)?;
        let chain_pem = files::read_if_there(&issuer_path)?.unwrap_or_default();
        let bad = |path: &Path, reason: String| PkiError::Ca { path: path.to_owned(), reason };
        let Some(key) = files::read_if_there(&key_path)? else {
            let reason = "its key is not here: this takes the machine that keeps it".to_owned();
            return Err(bad(&key_path, reason));
        };
        let key = KeyPair::from_pem(&key).map_err(|e| bad(&key_path, e.to_string()))?;
        let (path, pem) =
            if chain_pem.is_empty() { (&root_path, &root_pem) } else { (&issuer_path, &chain_pem) };
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|e| bad(path, e.to_string()))?;
        let tenant = headwater_core::wire::chain::organization(&der)
            .map_err(|e| bad(path, e.to_string()))?
            .parse()
            .map_err(|e: NameError| bad(path, e.to_string()))?;
        let issuer = Issuer::from_ca_cert_der(&der, key).map_err(|e| bad(path, e.to_string()))?;
        Ok(Self { dir: dir.to_owned(), root_pem, chain_pem, tenant, issuer })
    }

    /// Owner of the fleet.
    #[must_use]
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// The certificate of a leaf and all above it but the root, PEM; the register has it first.
    pub(super) fn certify(
        &self,
        leaf: &Leaf<'_>,
        key: &SubjectKey,
        now: UtcNanos,
    ) -> Result<String, PkiError> {
        let (pem, entry) = self.make(leaf, key, now)?;
        note(&self.dir, &entry)?;
        Ok(pem)
    }

    /// The same with the register's line for it, which must be noted before the certificate is handed out.
    pub(super) fn make(
        &self,
        leaf: &Leaf<'_>,
        key: &SubjectKey,
        now: UtcNanos,
    ) -> Result<(String, Issued), PkiError> {
        use ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
        let mut params = CertificateParams::new(leaf.hosts)?;
        params.distinguished_name.push(DnType::CommonName, leaf.name.as_str());
        params.distinguished_name.push(DnType::OrganizationName, self.tenant.as_str());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = match (leaf.role, leaf.key_use) {
            (Role::Collector, KeyUse::Tls) => vec![ServerAuth, ClientAuth],
            (Role::Collector, KeyUse::Sign) => vec![ServerAuth],
            _ => vec![ClientAuth],
        };
        let serial = serial()?;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        let (not_before_s, not_after_s) = valid(&mut params, now, leaf.days)?;
        let pem = params.signed_by(key, &self.issuer)?.pem();
        let key_use = if leaf.key_use == KeyUse::Tls { "tls" } else { "sign" };
        let validity = (not_before_s, not_after_s);
        let entry = entry(leaf.name, leaf.role, key_use, leaf.hosts, &serial, validity, now);
        Ok((format!("{pem}{}", self.chain_pem), entry))
    }

    /// The certificate of a CA below this one, with all above it but the root, PEM.
    pub(super) fn certify_ca(
        &self,
        name: &DeviceId,
        key: &KeyPair,
        now: UtcNanos,
    ) -> Result<String, PkiError> {
        let mut params = ca_params(&format!("Headwater CA {name} of {}", self.tenant), &self.tenant)?;
        // Leaves only below it: three certificates and a root are what a message and a gateway have room for.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let serial = serial()?;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        let (not_before_s, not_after_s) = valid(&mut params, now, CA_DAYS)?;
        let pem = params.signed_by(key, &self.issuer)?.pem();
        let entry = entry(name, Role::Intermediate, "ca", &[], &serial, (not_before_s, not_after_s), now);
        note(&self.dir, &entry)?;
        Ok(format!("{pem}{}", self.chain_pem))
    }
}

/// Tells a folder that holds no CA: a mistyped --dir would look like a CA that issued nothing.
pub(super) fn check(dir: &Path) -> Result<(), PkiError> {
    let path = dir.join("ca.pem");
    match files::read_if_there(&path)? {
        Some(_) => Ok(()),
        None => Err(PkiError::Ca { path, reason: "there is no such file".to_owned() }),
    }
}

/// A line of the register.
fn entry(
    name: &DeviceId,
    role: Role,
    key_use: &str,
    hosts: &[String],
    serial: &[u8],
    (not_before_s, not_after_s): (i64, i64),
    now: UtcNanos,
) -> Issued {
    Issued {
        serial: serial.iter().map(|byte| format!("{byte:02x}")).collect(),
        name: name.to_string(),
        role,
        key_use: key_use.to_owned(),
        hosts: hosts.to_vec(),
        not_before_s,
        not_after_s,
        issued_s: now.0.div_euclid(NS_PER_S),
    }
}

/// Parameters of a CA certificate.
pub(super) fn ca_params(common_name: &str, tenant: &TenantId) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.distinguished_name.push(DnType::OrganizationName, tenant.as_str());
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

/// Sets validity from a day before `now`, in whole days; gives both ends, s since 1970.
pub(super) fn valid(
    params: &mut CertificateParams,
    now: UtcNanos,
    days: u32,
) -> Result<(i64, i64), PkiError> {
    let today_s = now.0.div_euclid(NS_PER_S).div_euclid(DAY_S).saturating_mul(DAY_S);
    let from_s = today_s.saturating_sub(BACKDATED_DAYS.saturating_mul(DAY_S));
    let to_s = today_s.saturating_add(i64::from(days).saturating_mul(DAY_S));
    let ((y, m, d), (to_y, to_m, to_d)) = (date(from_s)?, date(to_s)?);
    params.not_before = rcgen::date_time_ymd(y, m, d);
    params.not_after = rcgen::date_time_ymd(to_y, to_m, to_d);
    Ok((from_s, to_s))
}

/// Year, month and day that `at_s` lies in, as rcgen takes them.
pub(super) fn date(at_s: i64) -> Result<(i32, u8, u8), PkiError> {
    use chrono::Datelike;
    let date = chrono::DateTime::from_timestamp(at_s, 0).ok_or(PkiError::Time(at_s))?.date_naive();
    let month = u8::try_from(date.month()).map_err(|_| PkiError::Time(at_s))?;
    let day = u8::try_from(date.day()).map_err(|_| PkiError::Time(at_s))?;
    Ok((date.year(), month, day))
}

/// A random serial number of 16 bytes, positive and without leading zeros. rcgen's own would be the key's, so that a
/// certificate renewed with the same key could not be told from its predecessor.
fn serial() -> Result<[u8; 16], PkiError> {
    let mut bytes = [0; 16];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes)
        .map_err(|_| PkiError::Random)?;
    let [first, ..] = &mut bytes;
    *first = *first & 0x3f | 0x40;
    Ok(bytes)
}

//! Certificate chains of signers: from leaf to the fleet's root, and whom they name.
//!
//! Path building and validity are webpki's; the subject's CN and O are read with x509-parser, since
//! webpki does not show them. A device's signing certificate carries the extended key usage
//! clientAuth, a collector's serverAuth, and neither carries both: so a device cannot sign acks.

use super::revocation::RevocationList;
use super::sign::{SignError, VerifyingKey};
use crate::id::{DeviceId, DevicePath, NameError, TenantId};
use crate::time::{NS_PER_S, UtcNanos};
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use std::sync::Arc;
use std::time::Duration;
use webpki::ring::{ECDSA_P256_SHA256, ED25519};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Who may have signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// A gateway: extended key usage clientAuth.
    Device,
    /// A collector: extended key usage serverAuth.
    Collector,
}

/// A chain that proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// No certificate at all.
    #[error("chain is empty")]
    Empty,
    /// A certificate that cannot be read.
    #[error("certificate cannot be read: {0}")]
    Malformed(String),
    /// No path to the fleet's root, or outside its validity.
    #[error("no valid path to the fleet's root: {0}")]
    Path(String),
    /// Not a certificate for this role.
    #[error("certificate is not for a {0:?}")]
    Role(Role),
    /// The key cannot sign messages.
    #[error("certificate holds no ed25519 key")]
    Key(#[from] SignError),
    /// CN or O is missing or no valid name.
    #[error("certificate names nobody valid")]
    Name(#[from] NameError),
    /// CN or O is missing.
    #[error("certificate has no {0}")]
    Missing(&'static str),
    /// It, or a CA above it, counts no more.
    #[error("certificate {serial} is revoked: {reason}")]
    Revoked {
        /// Serial number, lower-case hex.
        serial: String,
        /// Why.
        reason: &'static str,
    },
}

/// The fleet's roots, and what is known to be revoked below them.
#[derive(Debug, Clone)]
pub struct FleetRoots {
    anchors: Vec<TrustAnchor<'static>>,
    ders: Vec<Vec<u8>>,
    revocations: Arc<RevocationList>,
}

impl FleetRoots {
    /// Takes root certificates (DER).
    ///
    /// # Errors
    /// [`ChainError::Malformed`] if one is not a certificate, [`ChainError::Empty`] if there is none.
    pub fn new(roots: &[Vec<u8>]) -> Result<Self, ChainError> {
        if roots.is_empty() {
            return Err(ChainError::Empty);
        }
        let anchors = roots
            .iter()
            .map(|der| {
                anchor_from_trusted_cert(&CertificateDer::from(der.as_slice()))
                    .map(|anchor| anchor.to_owned())
                    .map_err(|error| ChainError::Malformed(error.to_string()))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { anchors, ders: roots.to_vec(), revocations: Arc::default() })
    }

    /// The root certificates, DER.
    #[must_use]
    pub fn ders(&self) -> &[Vec<u8>] {
        &self.ders
    }

    /// What is known to be revoked: [`verify_chain`] refuses it.
    #[must_use]
    pub fn revocations(&self) -> &RevocationList {
        &self.revocations
    }

    /// Takes over what a list revokes; what was known stays so. True if that is news.
    pub fn revoke(&mut self, list: &RevocationList) -> bool {
        let news = !self.revocations.covers(list);
        if news {
            Arc::make_mut(&mut self.revocations).extend(list);
        }
        news
    }
}

/// Whom a verified chain names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
    /// O and CN of the leaf.
    pub path: DevicePath,
    /// What it may sign.
    pub role: Role,
    /// Its key.
    pub key: VerifyingKey,
    /// Serial number, lower-case hex.
    pub serial: String,
    /// The CA below the root that issued it, by its name, which the root gave it; `None` if a root issued it.
    pub site: Option<String>,
    /// Start of validity.
    pub not_before: UtcNanos,
    /// End of validity.
    pub not_after: UtcNanos,
}

/// Verifies `chain` (leaf first, DER) at time `now` and reads whom it names.
///
/// # Errors
/// [`ChainError`] names the first check that failed.
pub fn verify_chain(
    chain: &[Vec<u8>],
    roots: &FleetRoots,
    role: Role,
    now: UtcNanos,
) -> Result<Signer, ChainError> {
    let (leaf, rest) = chain.split_first().ok_or(ChainError::Empty)?;
    let leaf_der = CertificateDer::from(leaf.as_slice());
    let intermediates: Vec<CertificateDer<'_>> =
        rest.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
    let end_entity =
        EndEntityCert::try_from(&leaf_der).map_err(|error| ChainError::Malformed(error.to_string()))?;
    let usage = match role {
        Role::Device => KeyUsage::client_auth(),
        Role::Collector => KeyUsage::server_auth(),
    };
    let seconds = u64::try_from(now.0.max(0) / NS_PER_S).unwrap_or(0);
    let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    end_entity
        .verify_for_usage(
            &[ECDSA_P256_SHA256, ED25519],
            &roots.anchors,
            &intermediates,
            now,
            usage,
            None,
            None,
        )
        .map_err(|error| ChainError::Path(error.to_string()))?;
    if let Some(revoked) = roots.revocations.find(chain) {
        return Err(ChainError::Revoked { serial: revoked.serial.clone(), reason: revoked.reason });
    }
    read_signer(leaf, roots, role)
}

/// [`verify_chain`] for who does not trust his clock to be late enough: a chain that holds up to the root and begins
/// after `now` proves that `now` is past, so it is verified as of its start.
///
/// # Errors
/// [`ChainError`] names the first check that failed.
pub fn verify_chain_or_later(
    chain: &[Vec<u8>],
    roots: &FleetRoots,
    role: Role,
    now: UtcNanos,
) -> Result<Signer, ChainError> {
    let start = chain.iter().filter_map(|der| not_before(der).ok()).max().unwrap_or(now);
    verify_chain(chain, roots, role, now.max(start))
}

/// Days before the end of a certificate at which people are told.
pub const EXPIRY_NOTICE_DAYS: [u32; 3] = [30, 7, 1];

/// The nearest of [`EXPIRY_NOTICE_DAYS`] that has begun at `now` for a certificate that ends at `not_after`; 0 once it has
/// ended, `None` while there is time.
#[must_use]
pub fn expiry_notice(not_after: UtcNanos, now: UtcNanos) -> Option<u32> {
    let left_s = not_after.0.saturating_sub(now.0) / NS_PER_S;
    if not_after < now {
        return Some(0);
    }
    EXPIRY_NOTICE_DAYS.into_iter().rev().find(|days| left_s <= i64::from(*days).saturating_mul(86_400))
}

/// The organisation (O) a certificate (DER) names.
///
/// # Errors
/// [`ChainError::Malformed`] or [`ChainError::Missing`].
pub fn organization(certificate: &[u8]) -> Result<String, ChainError> {
    let (_, certificate) =
        X509Certificate::from_der(certificate).map_err(|error| ChainError::Malformed(error.to_string()))?;
    let mut names = certificate.subject().iter_organization();
    let name = names.next().and_then(|o| o.as_str().ok()).ok_or(ChainError::Missing("O"))?;
    Ok(name.to_owned())
}

/// End of a certificate's validity (DER), not verified.
///
/// # Errors
/// [`ChainError::Malformed`].
pub fn not_after(certificate: &[u8]) -> Result<UtcNanos, ChainError> {
    let (_, certificate) =
        X509Certificate::from_der(certificate).map_err(|error| ChainError::Malformed(error.to_string()))?;
    Ok(UtcNanos(certificate.validity().not_after.timestamp().saturating_mul(NS_PER_S)))
}

/// Serial number of a certificate (DER), lower-case hex, not verified.
///
/// # Errors
/// [`ChainError::Malformed`].
pub fn serial(certificate: &[u8]) -> Result<String, ChainError> {
    let (_, certificate) =
        X509Certificate::from_der(certificate).map_err(|error| ChainError::Malformed(error.to_string()))?;
    Ok(serial_of(&certificate))
}

fn serial_of(certificate: &X509Certificate<'_>) -> String {
    certificate.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// True if a root itself signed it: by name and by key, since roots do not choose each other's names.
fn is_of_root(certificate: &X509Certificate<'_>, roots: &FleetRoots) -> bool {
    roots.ders.iter().filter_map(|der| X509Certificate::from_der(der).ok()).any(|(_, root)| {
        root.subject().as_raw() == certificate.issuer().as_raw()
            && certificate.verify_signature(Some(root.public_key())).is_ok()
    })
}

/// Start of a certificate's validity (DER), not verified: the present cannot be earlier for whoever holds it.
///
/// # Errors
/// [`ChainError::Malformed`].
pub fn not_before(certificate: &[u8]) -> Result<UtcNanos, ChainError> {
    let (_, certificate) =
        X509Certificate::from_der(certificate).map_err(|error| ChainError::Malformed(error.to_string()))?;
    Ok(UtcNanos(certificate.validity().not_before.timestamp().saturating_mul(NS_PER_S)))
}

fn read_signer(leaf: &[u8], roots: &FleetRoots, role: Role) -> Result<Signer, ChainError> {
    let malformed = |what: &str| ChainError::Malformed(what.to_owned());
    let (_, certificate) = X509Certificate::from_der(leaf).map_err(|error| malformed(&error.to_string()))?;
    let usage = certificate
        .extended_key_usage()
        .map_err(|error| malformed(&error.to_string()))?
        .map(|extension| (extension.value.client_auth, extension.value.server_auth));
    let wanted = match role {
        Role::Device => (true, false),
        Role::Collector => (false, true),
    };
    if usage != Some(wanted) {
        return Err(ChainError::Role(role));
    }
    let subject = certificate.subject();
    let cn =
        subject.iter_common_name().next().and_then(|cn| cn.as_str().ok()).ok_or(ChainError::Missing("CN"))?;
    let o =
        subject.iter_organization().next().and_then(|o| o.as_str().ok()).ok_or(ChainError::Missing("O"))?;
    let path = DevicePath { tenant: o.parse::<TenantId>()?, device: cn.parse::<DeviceId>()? };
    let key = VerifyingKey::from_raw(&certificate.public_key().subject_public_key.data)?;
    let utc = |seconds: i64| UtcNanos(seconds.saturating_mul(NS_PER_S));
    let validity = certificate.validity();
    Ok(Signer {
        path,
        role,
        key,
        serial: serial_of(&certificate),
        site: (!is_of_root(&certificate, roots)).then(|| certificate.issuer().to_string()),
        not_before: utc(validity.not_before.timestamp()),
        not_after: utc(validity.not_after.timestamp()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{
        BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
        PKCS_ED25519,
    };

    struct Ca {
        issuer: Issuer<'static, KeyPair>,
        der: Vec<u8>,
    }

    fn ca() -> Ca {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let der = params.self_signed(&key).unwrap().der().to_vec();
        Ca { issuer: Issuer::new(params, key), der }
    }

    fn leaf(ca: &Ca, cn: &str, usages: &[ExtendedKeyUsagePurpose]) -> (Vec<u8>, KeyPair) {
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.distinguished_name.push(DnType::CommonName, cn);
        params.distinguished_name.push(DnType::OrganizationName, "acme");
        params.extended_key_usages = usages.to_vec();
        (params.signed_by(&key, &ca.issuer).unwrap().der().to_vec(), key)
    }

    const NOW: UtcNanos = UtcNanos(1_790_000_000 * NS_PER_S);

    #[test]
    fn a_device_chain_names_its_device_and_key() {
        let ca = ca();
        let (der, key) = leaf(&ca, "pi-1", &[ExtendedKeyUsagePurpose::ClientAuth]);
        let roots = FleetRoots::new(std::slice::from_ref(&ca.der)).unwrap();
        let signer = verify_chain(&[der], &roots, Role::Device, NOW).unwrap();
        assert_eq!(signer.path.to_string(), "acme/pi-1");
        assert_eq!(signer.key.raw(), key.public_key_raw());
    }

    #[test]
    fn a_chain_that_begins_later_proves_the_clock_behind_and_no_more() {
        let ca = ca();
        let issue = |from: i32, to: i32| {
            let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
            let mut params = CertificateParams::new(vec![]).unwrap();
            params.distinguished_name.push(DnType::CommonName, "hq");
            params.distinguished_name.push(DnType::OrganizationName, "acme");
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            params.not_before = rcgen::date_time_ymd(from, 1, 1);
            params.not_after = rcgen::date_time_ymd(to, 1, 1);
            vec![params.signed_by(&key, &ca.issuer).unwrap().der().to_vec()]
        };
        let roots = FleetRoots::new(std::slice::from_ref(&ca.der)).unwrap();
        let at = |chain: &[Vec<u8>], now| verify_chain_or_later(chain, &roots, Role::Collector, now);
        assert!(at(&issue(2060, 2070), NOW).is_ok());
        assert!(verify_chain(&issue(2060, 2070), &roots, Role::Collector, NOW).is_err());
        assert!(at(&issue(2010, 2020), NOW).is_err(), "what has ended stays so");
        let foreign = super::tests::ca();
        let others = FleetRoots::new(std::slice::from_ref(&foreign.der)).unwrap();
        assert!(verify_chain_or_later(&issue(2060, 2070), &others, Role::Collector, NOW).is_err());
    }

    #[test]
    fn the_end_of_a_certificate_is_announced() {
        let end = UtcNanos(NOW.0 + 100 * 86_400 * NS_PER_S);
        let at = |days_left: i64| expiry_notice(end, UtcNanos(end.0 - days_left * 86_400 * NS_PER_S));
        let notices = [31, 30, 8, 7, 2, 1, 0, -1].map(at);
        assert_eq!(notices, [None, Some(30), Some(30), Some(7), Some(7), Some(1), Some(1), Some(0)]);
    }

    #[test]
    fn other_roots_roles_names_and_times_are_refused() {
        let (ca, other) = (ca(), ca());
        let roots = FleetRoots::new(std::slice::from_ref(&ca.der)).unwrap();
        let device = leaf(&ca, "pi-1", &[ExtendedKeyUsagePurpose::ClientAuth]).0;
        let collector = leaf(&ca, "hq", &[ExtendedKeyUsagePurpose::ServerAuth]).0;
        let both =
            leaf(&ca, "hq", &[ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth]).0;
        let check = |der: &Vec<u8>, role| verify_chain(std::slice::from_ref(der), &roots, role, NOW);
        assert!(check(&collector, Role::Collector).is_ok());
        assert!(check(&device, Role::Collector).is_err());
        assert!(check(&collector, Role::Device).is_err());
        assert_eq!(check(&both, Role::Device), Err(ChainError::Role(Role::Device)));
        let foreign = leaf(&other, "pi-1", &[ExtendedKeyUsagePurpose::ClientAuth]).0;
        assert!(matches!(check(&foreign, Role::Device), Err(ChainError::Path(_))));
        let nameless = leaf(&ca, "Not A Name", &[ExtendedKeyUsagePurpose::ClientAuth]).0;
        assert!(matches!(check(&nameless, Role::Device), Err(ChainError::Name(_))));
        let long_ago = verify_chain(&[device], &roots, Role::Device, UtcNanos(0));
        assert!(matches!(long_ago, Err(ChainError::Path(_))));
        assert_eq!(verify_chain(&[], &roots, Role::Device, NOW), Err(ChainError::Empty));
        assert!(verify_chain(&[vec![0x30, 0x03, 1, 2, 3]], &roots, Role::Device, NOW).is_err());
    }
}

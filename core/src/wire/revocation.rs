//! Revocation: which certificates of the fleet count no more, read from its CAs' lists.
//!
//! The lists are ordinary X.509 CRLs (RFC 5280 section 5), so brokers read the same file. Each is signed by the
//! CA that issued the certificates it names, and believed for nothing else: a list of an intermediate cannot
//! revoke what the root issued. A certificate once revoked stays so; time plays no part.

use crate::time::{NS_PER_S, UtcNanos};
use std::collections::BTreeMap;
use x509_parser::prelude::{CertificateRevocationList, FromDer, ReasonCode, X509Certificate};

/// Most lists that are read together: one for each CA of a fleet.
pub const REVOCATION_LISTS_MAX: usize = 16;
/// Most bytes of one list: some 150 000 certificates, and a second to read on a small gateway.
pub const REVOCATION_BYTES_MAX: usize = 8 << 20;
/// Most bytes of lists in one message: some hundred collectors, and the answer to a hello stays below its limit.
pub const REVOCATION_BYTES_SENT_MAX: usize = 8 * 1024;

/// Lists that prove nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RevocationError {
    /// Not a CRL.
    #[error("revocation list cannot be read: {0}")]
    Malformed(String),
    /// No CA of the fleet that we know of signed it.
    #[error("revocation list of {0:?} is signed by no CA known here")]
    Issuer(String),
    /// More or larger than is read.
    #[error("more than {limit} {what} of revocation lists")]
    Limit {
        /// Of what.
        what: &'static str,
        /// Limit.
        limit: usize,
    },
}

/// A certificate that counts no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoked {
    /// Its serial number, lower-case hex.
    pub serial: String,
    /// Since when, as the list says.
    pub since: UtcNanos,
    /// Why: the name of RFC 5280 section 5.3.1, such as `key_compromise`.
    pub reason: &'static str,
}

/// DER of a CA's subject, and the serial number as it stands in certificates.
type Key = (Vec<u8>, Vec<u8>);

/// The revoked certificates of a fleet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RevocationList {
    entries: BTreeMap<Key, Revoked>,
    /// Sum of the lists' numbers: grows with each one that a CA makes.
    number: u64,
}

impl RevocationList {
    /// Reads lists (DER) signed by `roots` or by CAs below them, of which `intermediates` may hold certificates
    /// (DER), in any order and with others among them.
    ///
    /// # Errors
    /// [`RevocationError`]; a list that cannot be believed is never skipped.
    pub fn read(
        lists: &[Vec<u8>],
        roots: &[Vec<u8>],
        intermediates: &[Vec<u8>],
    ) -> Result<Self, RevocationError> {
        if lists.len() > REVOCATION_LISTS_MAX {
            return Err(RevocationError::Limit { what: "pieces", limit: REVOCATION_LISTS_MAX });
        }
        let issuers = authorities(roots, intermediates);
        let mut out = Self::default();
        for der in lists {
            if der.len() > REVOCATION_BYTES_MAX {
                return Err(RevocationError::Limit { what: "bytes", limit: REVOCATION_BYTES_MAX });
            }
            out.add(der, &issuers)?;
        }
        Ok(out)
    }

    /// [`RevocationList::read`], but a list of an issuer that is not known here by name says nothing and harms nobody: it may
    /// be of another site of the fleet.
    ///
    /// # Errors
    /// As there, for every other fault.
    pub fn read_known(
        lists: &[Vec<u8>],
        roots: &[Vec<u8>],
        intermediates: &[Vec<u8>],
    ) -> Result<Self, RevocationError> {
        if lists.len() > REVOCATION_LISTS_MAX {
            return Err(RevocationError::Limit { what: "pieces", limit: REVOCATION_LISTS_MAX });
        }
        let mut out = Self::default();
        for list in lists {
            match Self::read(std::slice::from_ref(list), roots, intermediates) {
                Ok(read) => out.extend(&read),
                Err(RevocationError::Issuer(name))
                    if !authorities(roots, intermediates)
                        .iter()
                        .any(|ca| ca.subject().to_string() == name) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(out)
    }

    fn add(&mut self, der: &[u8], issuers: &[X509Certificate<'_>]) -> Result<(), RevocationError> {
        let malformed = |error: String| RevocationError::Malformed(error);
        let (rest, list) =
            CertificateRevocationList::from_der(der).map_err(|error| malformed(error.to_string()))?;
        if !rest.is_empty() {
            return Err(malformed("bytes follow it".to_owned()));
        }
        let name = list.issuer().as_raw();
        let signed = issuers.iter().any(|issuer| {
            issuer.subject().as_raw() == name && list.verify_signature(issuer.public_key()).is_ok()
        });
        if !signed {
            return Err(RevocationError::Issuer(list.issuer().to_string()));
        }
        let number = list.crl_number().map(|number| number.iter_u64_digits().next().unwrap_or(0));
        self.number = self.number.saturating_add(number.unwrap_or(0));
        for entry in list.iter_revoked_certificates() {
            let since = UtcNanos(entry.revocation_date.timestamp().saturating_mul(NS_PER_S));
            let reason = entry.reason_code().map_or(ReasonCode::Unspecified, |(_, reason)| reason);
            let revoked = Revoked { serial: hex(entry.raw_serial()), since, reason: reason_name(reason) };
            self.entries.insert((name.to_vec(), entry.raw_serial().to_vec()), revoked);
        }
        Ok(())
    }

    /// The first certificate (DER) of a chain that is revoked: the leaf itself, or a CA above it.
    #[must_use]
    pub fn find(&self, chain: &[Vec<u8>]) -> Option<&Revoked> {
        if self.entries.is_empty() {
            return None;
        }
        chain.iter().find_map(|der| {
            let (_, certificate) = X509Certificate::from_der(der).ok()?;
            let key = (certificate.issuer().as_raw().to_vec(), certificate.raw_serial().to_vec());
            self.entries.get(&key)
        })
    }

    /// Every revoked certificate.
    pub fn iter(&self) -> impl Iterator<Item = &Revoked> {
        self.entries.values()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True if none is revoked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Grows with each list that a CA makes; two of the same number say the same.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// True if all that `other` revokes is revoked here too.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        other.entries.keys().all(|key| self.entries.contains_key(key))
    }

    /// Takes over what `other` revokes.
    pub fn extend(&mut self, other: &Self) {
        self.number = self.number.max(other.number);
        for (key, revoked) in &other.entries {
            self.entries.entry(key.clone()).or_insert_with(|| revoked.clone());
        }
    }
}

/// The certificates of `roots`, and those of `others` that are CAs signed by one of them, however deep.
fn authorities<'a>(roots: &'a [Vec<u8>], others: &'a [Vec<u8>]) -> Vec<X509Certificate<'a>> {
    let parse = |der: &'a Vec<u8>| X509Certificate::from_der(der).ok().map(|(_, certificate)| certificate);
    let mut trusted: Vec<X509Certificate<'a>> = roots.iter().filter_map(parse).collect();
    let mut left: Vec<X509Certificate<'a>> =
        others.iter().filter_map(parse).filter(|certificate| certificate.is_ca()).collect();
    loop {
        let below = |certificate: &X509Certificate<'_>| {
            trusted.iter().any(|issuer| {
                issuer.subject().as_raw() == certificate.issuer().as_raw()
                    && certificate.verify_signature(Some(issuer.public_key())).is_ok()
            })
        };
        let (new, rest): (Vec<_>, Vec<_>) = left.into_iter().partition(below);
        if new.is_empty() {
            return trusted;
        }
        trusted.extend(new);
        left = rest;
    }
}

fn reason_name(reason: ReasonCode) -> &'static str {
    match reason {
        ReasonCode::KeyCompromise => "key_compromise",
        ReasonCode::CACompromise => "ca_compromise",
        ReasonCode::AffiliationChanged => "affiliation_changed",
        ReasonCode::Superseded => "superseded",
        ReasonCode::CessationOfOperation => "cessation_of_operation",
        ReasonCode::CertificateHold => "certificate_hold",
        ReasonCode::PrivilegeWithdrawn => "privilege_withdrawn",
        _ => "unspecified",
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{
        BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer,
        KeyIdMethod, KeyPair, KeyUsagePurpose, RevocationReason, RevokedCertParams, SerialNumber,
        date_time_ymd,
    };

    struct Ca {
        issuer: Issuer<'static, KeyPair>,
        der: Vec<u8>,
    }

    fn params(name: &str) -> CertificateParams {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
    }

    fn root(name: &str) -> Ca {
        let key = KeyPair::generate().unwrap();
        let der = params(name).self_signed(&key).unwrap().der().to_vec();
        Ca { issuer: Issuer::new(params(name), key), der }
    }

    impl Ca {
        fn below(&self, name: &str) -> Ca {
            let key = KeyPair::generate().unwrap();
            let der = params(name).signed_by(&key, &self.issuer).unwrap().der().to_vec();
            Ca { issuer: Issuer::new(params(name), key), der }
        }

        fn leaf(&self, serial: u8) -> Vec<u8> {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(vec![]).unwrap();
            params.serial_number = Some(SerialNumber::from_slice(&[serial]));
            params.signed_by(&key, &self.issuer).unwrap().der().to_vec()
        }

        fn list(&self, number: u64, serials: &[u8]) -> Vec<u8> {
            let revoked = |serial: &u8| RevokedCertParams {
                serial_number: SerialNumber::from_slice(&[*serial]),
                revocation_time: date_time_ymd(2026, 11, 28),
                reason_code: Some(RevocationReason::KeyCompromise),
                invalidity_date: None,
            };
            let params = CertificateRevocationListParams {
                this_update: date_time_ymd(2026, 11, 28),
                next_update: date_time_ymd(2036, 11, 28),
                crl_number: SerialNumber::from_slice(&number.to_be_bytes()),
                issuing_distribution_point: None,
                revoked_certs: serials.iter().map(revoked).collect(),
                key_identifier_method: KeyIdMethod::Sha256,
            };
            params.signed_by(&self.issuer).unwrap().der().to_vec()
        }
    }

    #[test]
    fn a_list_revokes_what_its_own_ca_issued_and_nothing_else() {
        let fleet = root("fleet");
        let site = fleet.below("site");
        let read = |lists: &[Vec<u8>]| {
            RevocationList::read(lists, std::slice::from_ref(&fleet.der), std::slice::from_ref(&site.der))
        };
        let list = read(&[fleet.list(3, &[7, 9])]).unwrap();
        assert_eq!((list.len(), list.number()), (2, 3));
        let found = list.find(&[fleet.leaf(7)]).unwrap();
        assert_eq!((found.serial.as_str(), found.reason), ("07", "key_compromise"));
        assert_eq!(found.since, UtcNanos(1_795_824_000 * NS_PER_S));
        assert!(list.find(&[fleet.leaf(8)]).is_none());
        assert!(list.find(&[site.leaf(7), site.der.clone()]).is_none(), "another CA's number 7");
        let both = read(&[fleet.list(3, &[]), site.list(1, &[7])]).unwrap();
        assert!(both.find(&[site.leaf(7)]).is_some());
        assert!(both.find(&[fleet.leaf(7)]).is_none());
    }

    #[test]
    fn a_revoked_ca_takes_all_it_issued_along() {
        let fleet = root("fleet");
        let site = fleet.below("site");
        let (_, certificate) = X509Certificate::from_der(&site.der).unwrap();
        let serial = certificate.raw_serial().to_vec();
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 11, 28),
            next_update: date_time_ymd(2036, 11, 28),
            crl_number: SerialNumber::from_slice(&[1]),
            issuing_distribution_point: None,
            revoked_certs: vec![RevokedCertParams {
                serial_number: SerialNumber::from_slice(&serial),
                revocation_time: date_time_ymd(2026, 11, 28),
                reason_code: None,
                invalidity_date: None,
            }],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let der = params.signed_by(&fleet.issuer).unwrap().der().to_vec();
        let list = RevocationList::read(&[der], std::slice::from_ref(&fleet.der), &[]).unwrap();
        assert!(list.find(&[site.leaf(1), site.der.clone()]).is_some());
        assert!(list.find(&[fleet.leaf(1)]).is_none());
    }

    #[test]
    fn strangers_and_noise_revoke_nothing() {
        let (fleet, other) = (root("fleet"), root("fleet"));
        let roots = std::slice::from_ref(&fleet.der);
        let forged = RevocationList::read(&[other.list(1, &[7])], roots, std::slice::from_ref(&other.der));
        assert!(matches!(forged, Err(RevocationError::Issuer(_))), "same name, other key: {forged:?}");
        let der = fleet.list(1, &[7]);
        for cut in 0..der.len() {
            assert!(RevocationList::read(&[der[..cut].to_vec()], roots, &[]).is_err());
        }
        let sound = RevocationList::read(std::slice::from_ref(&der), roots, &[]).unwrap();
        let mut flipped = der.clone();
        for at in 0..der.len() {
            flipped[at] ^= 1;
            // A few bytes beside the signed ones mean nothing.
            if let Ok(read) = RevocationList::read(std::slice::from_ref(&flipped), roots, &[]) {
                assert_eq!(read, sound, "byte {at}");
            }
            flipped[at] ^= 1;
        }
        let many = vec![der; REVOCATION_LISTS_MAX + 1];
        assert!(matches!(RevocationList::read(&many, roots, &[]), Err(RevocationError::Limit { .. })));
    }

    #[test]
    fn what_was_revoked_stays_so() {
        let fleet = root("fleet");
        let read = |number, serials: &[u8]| {
            let list = [fleet.list(number, serials)];
            RevocationList::read(&list, std::slice::from_ref(&fleet.der), &[]).unwrap()
        };
        let (mut known, older) = (read(2, &[1, 2]), read(1, &[3]));
        assert!(!older.covers(&known));
        known.extend(&older);
        assert_eq!((known.len(), known.number()), (3, 2));
        assert!(known.covers(&older));
    }
}

//! The desk: decides who gets certificates, and makes them. Knows nothing of HTTP.

use super::authority::{Authority, Leaf, SubjectKey};
use super::kept::{self, GrantId, Kept};
use super::register::{Issued, Role, issued, note};
use super::revoke::{COLLECTORS_LIST, Entry, Reason, revoke_held, revoked};
use super::token::{TokenRefusal, show};
use super::{PkiError, files};
use headwater_core::id::{DeviceId, Sha256, parse_hex};
use headwater_core::time::{NS_PER_S, UtcNanos};
use headwater_core::wire::chain::{ChainError, FleetRoots, Role as SignerRole, Signer, verify_chain};
use headwater_core::wire::request::{KeyUse, Requested, read_request};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// What a renewal signs begins with, so that the signature means nothing anywhere else.
const RENEW_CONTEXT: &str = "headwater renew 1\n";
/// Wrong tokens of one address in a minute: people mistype, guessers of 128 bits get nowhere at any rate.
const WRONG_PER_ADDRESS: u32 = 5;
/// And of all addresses.
const WRONG_IN_ALL: u32 = 100;
const WRONG_WINDOW_S: i64 = 60;
/// Addresses remembered for that.
const ADDRESSES_MAX: usize = 4_096;
/// Certificates a name may have issued in a day: a renewal takes two, and a gateway that renews in a loop is stopped.
const ISSUED_PER_DAY: usize = 16;
const DAY_S: i64 = 86_400;

/// What a new gateway is told beside its certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Brokers, the first is the one to use.
    pub brokers: Vec<String>,
    /// Validity of its certificates, days.
    pub days: u32,
}

/// Why someone gets no certificates.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnrollError {
    /// The token.
    #[error(transparent)]
    Token(#[from] TokenRefusal),
    /// Too many wrong tokens.
    #[error("too many wrong tokens; try again in a minute")]
    TooMany,
    /// Too many certificates.
    #[error(
        "{0} got {ISSUED_PER_DAY} certificates today; see why it asks for so many, and try again tomorrow"
    )]
    TooOften(DeviceId),
    /// The name is in use.
    #[error("{0} is enrolled already; enrol with --replace to take its place, or choose another --name")]
    Taken(DeviceId),
    /// A token for many names cannot shut out any of their gateways.
    #[error(
        "to take the place of {0} needs a token for that name alone: `headwater pki token create --name {0}`"
    )]
    TooWide(DeviceId),
    /// The name is a collector's or a CA's.
    #[error("{0} is the name of a collector or CA; choose another --name")]
    Reserved(DeviceId),
    /// The request is none.
    #[error("the request cannot be used: {0}")]
    Request(String),
    /// The certificate that asks for its renewal proves nothing.
    #[error("the certificate in use cannot be renewed ({0}); enrol with a new token")]
    Certificate(ChainError),
    /// It is revoked.
    #[error("the certificate in use is revoked; enrol with a new token")]
    Revoked,
    /// The register does not have it.
    #[error("the certificate in use is none that this CA issued to {0}; enrol with a new token")]
    Unknown(DeviceId),
    /// Files of the CA.
    #[error("the service cannot issue now; see its log")]
    Pki(#[from] PkiError),
}

/// A request for first certificates.
#[derive(Debug, Deserialize)]
pub struct EnrollRequest {
    token: String,
    name: String,
    tls_request: String,
    sign_request: String,
    #[serde(default)]
    replace: bool,
}

/// A request for renewed ones.
#[derive(Debug, Deserialize)]
pub struct RenewRequest {
    certificate: String,
    tls_request: String,
    sign_request: String,
    signature: String,
}

/// What is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Granted {
    /// The fleet's root, PEM.
    pub ca: String,
    /// TLS chain, PEM.
    pub tls_cert: String,
    /// Signing chain, PEM.
    pub sign_cert: String,
    /// Brokers.
    pub brokers: Vec<String>,
}

/// Gives certificates of the CA in its folder.
#[derive(Debug)]
pub struct Desk {
    dir: PathBuf,
    offer: Offer,
    wrong: Mutex<WrongTokens>,
}

impl Desk {
    /// A desk of the CA in `dir`.
    #[must_use]
    pub fn new(dir: &Path, offer: Offer) -> Self {
        Self { dir: dir.to_owned(), offer, wrong: Mutex::default() }
    }

    /// First certificates, for a token. The token is used up only if they are given; the same token with the same keys
    /// gets them again, for a gateway that did not hear the answer.
    ///
    /// # Errors
    /// [`EnrollError`].
    pub fn enroll(
        &self,
        from: IpAddr,
        request: &EnrollRequest,
        now: UtcNanos,
    ) -> Result<Granted, EnrollError> {
        let now_s = now.0.div_euclid(NS_PER_S);
        if !self.wrong.lock().unwrap_or_else(PoisonError::into_inner).may_try(from, now_s) {
            return Err(EnrollError::TooMany);
        }
        let name: DeviceId =
            request.name.parse().map_err(|error| EnrollError::Request(format!("name: {error}")))?;
        let keys = Keys::read(&request.tls_request, &request.sign_request, &name)?;
        let authority = Authority::open(&self.dir)?;
        let _held = files::lock(&self.dir)?;
        let refused = |refusal: TokenRefusal| {
            self.wrong.lock().unwrap_or_else(PoisonError::into_inner).note(from, now_s);
            EnrollError::from(refusal)
        };
        let shown = show(&self.dir, &request.token)?.map_err(refused)?;
        let grant = GrantId::new(shown.id(), &name, &keys.tls.public_key, &keys.sign.public_key);
        let kept = kept::read(&self.dir, &grant)?;
        let register = issued(&self.dir)?;
        let revoked = revoked(&self.dir)?;
        let is_revoked = |serial: &str| revoked.iter().any(|revoked| revoked.serial == *serial);
        if let Some(kept) = kept.as_ref().filter(|_| shown.was_used_for(&grant)) {
            return if kept.certificates.iter().any(|entry| is_revoked(&entry.serial)) {
                Err(EnrollError::Revoked)
            } else {
                Ok(kept.granted.clone())
            };
        }
        shown.admits(&name, now).map_err(refused)?;
        if register.iter().any(|entry| entry.name == name.as_str() && entry.role != Role::Device) {
            // Brokers give collectors rights by this name.
            return Err(EnrollError::Reserved(name));
        }
        // Of a try that was cut short: its own certificates stand in nobody's way.
        let ours = |serial: &str| {
            kept.iter().flat_map(|kept| &kept.certificates).any(|entry| entry.serial == *serial)
        };
        let before: Vec<&Issued> = register
            .iter()
            .filter(|entry| entry.name == name.as_str() && entry.is_current(now))
            .filter(|entry| !is_revoked(&entry.serial) && !ours(&entry.serial))
            .collect();
        if !before.is_empty() && !request.replace {
            return Err(EnrollError::Taken(name));
        }
        if !before.is_empty() && !shown.is_for_one_name() {
            return Err(EnrollError::TooWide(name));
        }
        let kept = match kept {
            Some(kept) if !kept.certificates.iter().any(|entry| is_revoked(&entry.serial)) => kept,
            _ => {
                let kept = self.make(&authority, &name, keys, now)?;
                kept::write(&self.dir, &grant, &kept)?;
                kept
            }
        };
        for entry in &kept.certificates {
            if register.iter().all(|known| known.serial != entry.serial) {
                note(&self.dir, entry)?;
            }
        }
        if !before.is_empty() {
            let entry = |issued: &&Issued| Entry {
                serial: issued.serial.clone(),
                name: issued.name.clone(),
                role: issued.role,
                reason: Reason::Superseded,
                since_s: now_s,
            };
            revoke_held(&authority, before.iter().map(entry).collect(), Reason::Superseded, now)?;
        }
        shown.consume(&self.dir, &name, &grant)?;
        Ok(kept.granted)
    }

    /// Renewed certificates, for a request signed with the key in use. Those in use stay valid beside them.
    ///
    /// # Errors
    /// [`EnrollError`].
    pub fn renew(&self, request: &RenewRequest, now: UtcNanos) -> Result<Granted, EnrollError> {
        let authority = Authority::open(&self.dir)?;
        let signer = Self::signer(&authority, request, now)?;
        let name = signer.path.device;
        let keys = Keys::read(&request.tls_request, &request.sign_request, &name)?;
        // From here on nobody revokes it unseen.
        let _held = files::lock(&self.dir)?;
        let mut register = issued(&self.dir)?;
        register.retain(|entry| entry.name == name.as_str());
        if !register.iter().any(|entry| entry.role == Role::Device && entry.serial == signer.serial) {
            return Err(EnrollError::Unknown(name));
        }
        if revoked(&self.dir)?.iter().any(|revoked| revoked.serial == signer.serial) {
            return Err(EnrollError::Revoked);
        }
        let since = now.0.div_euclid(NS_PER_S).saturating_sub(DAY_S);
        let today = register.iter().filter(|entry| entry.issued_s > since);
        if today.count() >= ISSUED_PER_DAY {
            return Err(EnrollError::TooOften(name));
        }
        let kept = self.make(&authority, &name, keys, now)?;
        kept.certificates.iter().try_for_each(|entry| note(&self.dir, entry))?;
        Ok(kept.granted)
    }

    /// The lists that gateways keep: of revoked collectors.
    ///
    /// # Errors
    /// [`PkiError`] names the file.
    pub fn collectors_list(&self) -> Result<String, PkiError> {
        Ok(files::read_if_there(&self.dir.join(COLLECTORS_LIST))?.unwrap_or_default())
    }

    /// Whose request it is. Only what our own CA issued counts: what another revoked is not known here.
    fn signer(authority: &Authority, request: &RenewRequest, now: UtcNanos) -> Result<Signer, EnrollError> {
        let unusable = |why: &str| EnrollError::Request(why.to_owned());
        let roots = FleetRoots::new(&certificates(&authority.root_pem)).map_err(EnrollError::Certificate)?;
        let leaf = certificates(&request.certificate).into_iter().take(1);
        let chain: Vec<Vec<u8>> = leaf.chain(certificates(&authority.chain_pem)).collect();
        let signer =
            verify_chain(&chain, &roots, SignerRole::Device, now).map_err(EnrollError::Certificate)?;
        let RenewRequest { certificate, tls_request, sign_request, signature } = request;
        let signature =
            parse_hex::<64>(signature.as_bytes()).ok_or_else(|| unusable("signature is no hex"))?;
        let signed = format!("{RENEW_CONTEXT}{tls_request}{sign_request}{certificate}");
        signer
            .key
            .verify(&Sha256::of(signed.as_bytes()), &signature)
            .map_err(|_| unusable("it is not signed by the certificate's key"))?;
        Ok(signer)
    }

    /// Certificates that the register does not have yet.
    fn make(
        &self,
        authority: &Authority,
        name: &DeviceId,
        keys: Keys,
        now: UtcNanos,
    ) -> Result<Kept, EnrollError> {
        let leaf = |key_use| Leaf { name, role: Role::Device, key_use, hosts: &[], days: self.offer.days };
        let make = |key_use, key: Requested| {
            authority.make(&leaf(key_use), &SubjectKey::new(key_use, key.public_key), now)
        };
        let (tls_cert, tls) = make(KeyUse::Tls, keys.tls)?;
        let (sign_cert, sign) = make(KeyUse::Sign, keys.sign)?;
        let brokers = self.offer.brokers.clone();
        let granted = Granted { ca: authority.root_pem.clone(), tls_cert, sign_cert, brokers };
        Ok(Kept { granted, certificates: vec![tls, sign] })
    }
}

/// The public keys of a request, both of the name it is for.
struct Keys {
    tls: Requested,
    sign: Requested,
}

impl Keys {
    fn read(tls: &str, sign: &str, name: &DeviceId) -> Result<Self, EnrollError> {
        let read = |pem: &str, key_use| {
            let wrong = |why: String| EnrollError::Request(why);
            let der = CertificateSigningRequestDer::from_pem_slice(pem.as_bytes())
                .map_err(|error| wrong(error.to_string()))?;
            let read = read_request(&der, key_use).map_err(|error| wrong(error.to_string()))?;
            if read.name == *name {
                Ok(read)
            } else {
                Err(wrong(format!("it names {}, not {name}", read.name)))
            }
        };
        Ok(Self { tls: read(tls, KeyUse::Tls)?, sign: read(sign, KeyUse::Sign)? })
    }
}

fn certificates(pem: &str) -> Vec<Vec<u8>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).flatten().map(|der| der.to_vec()).collect()
}

/// Counts wrong tokens by the minute.
#[derive(Debug, Default)]
struct WrongTokens {
    since_s: i64,
    in_all: u32,
    by_address: BTreeMap<IpAddr, u32>,
}

impl WrongTokens {
    fn may_try(&mut self, from: IpAddr, now_s: i64) -> bool {
        if now_s.saturating_sub(self.since_s) >= WRONG_WINDOW_S || now_s < self.since_s {
            *self = Self { since_s: now_s, ..Self::default() };
        }
        self.in_all < WRONG_IN_ALL && self.by_address.get(&from).is_none_or(|n| *n < WRONG_PER_ADDRESS)
    }

    fn note(&mut self, from: IpAddr, now_s: i64) {
        self.may_try(from, now_s);
        self.in_all = self.in_all.saturating_add(1);
        if self.by_address.len() < ADDRESSES_MAX || self.by_address.contains_key(&from) {
            let n = self.by_address.entry(from).or_default();
            *n = n.saturating_add(1);
        }
    }
}

#[cfg(test)]
#[path = "enroll_tests.rs"]
mod tests;

//! The collector's certificates and keys, read and checked against each other.

use super::{AckSigner, IdentityPaths, SignCommand, SignKey};
use headwater_core::id::TenantId;
use headwater_core::time::UtcNanos;
use headwater_core::wire::SigningKey;
use headwater_core::wire::chain::{ChainError, FleetRoots, Role, Signer, not_after, verify_chain};
use headwater_core::wire::revocation::{REVOCATION_BYTES_SENT_MAX, RevocationError, RevocationList};
use rustls::client::WebPkiServerVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why an identity cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// A PEM file that cannot be read.
    #[error("{path} is no PEM file of the expected kind: {why}")]
    Pem {
        /// Which file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The root or signing chain proves nothing.
    #[error("{path} cannot be used")]
    Chain {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: ChainError,
    },
    /// The signing key is not an Ed25519 key.
    #[error("{path} is not an Ed25519 key in PKCS#8 form")]
    Key {
        /// Which file.
        path: PathBuf,
    },
    /// Certificate and key are not a pair.
    #[error("{cert} and {key} are not a pair")]
    Pair {
        /// Certificate.
        cert: PathBuf,
        /// Key.
        key: PathBuf,
    },
    /// The certificate is another tenant's.
    #[error("{path} belongs to tenant {found}, the configuration says {expected}")]
    Tenant {
        /// Which file.
        path: PathBuf,
        /// Its O.
        found: TenantId,
        /// `tenant.name`.
        expected: TenantId,
    },
    /// The program that signs.
    #[error("identity.sign_command {program:?} does not sign: {why}")]
    Command {
        /// Which program.
        program: String,
        /// Why.
        why: String,
    },
    /// A revocation list that cannot be believed.
    #[error("{path} cannot be used; copy it anew from the CA's folder")]
    Revocations {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: RevocationError,
    },
    /// rustls does not take certificate and key.
    #[error("{path} cannot be used for TLS")]
    Tls {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
}

/// Everything the collector proves itself with.
#[derive(Debug)]
pub struct Identity {
    /// Roots that device chains must lead to.
    pub roots: FleetRoots,
    /// The same, DER.
    root_ders: Vec<Vec<u8>>,
    /// Signs acks.
    pub key: Arc<AckSigner>,
    /// Its chain, leaf first, DER.
    pub chain: Vec<Vec<u8>>,
    /// Whom the chain names.
    pub signer: Signer,
    /// End of validity of the TLS certificate.
    pub tls_not_after: UtcNanos,
    /// TLS towards the broker.
    pub tls: Arc<rustls::ClientConfig>,
    /// How the files were when they were read.
    pub stamps: Stamps,
    /// What the fleet's CAs revoked.
    pub revocations: RevocationList,
    /// The lists that devices are given (CRLs, DER): of collectors and CAs only.
    pub collector_lists: Vec<Vec<u8>>,
}

impl Identity {
    /// Reads and checks all files at time `now`.
    ///
    /// # Errors
    /// [`IdentityError`] names the first file that is wrong.
    pub fn load(paths: &IdentityPaths, tenant: &TenantId, now: UtcNanos) -> Result<Self, IdentityError> {
        let stamps = stamps(&paths.all());
        let ca = certificates(&paths.ca)?;
        let ders: Vec<Vec<u8>> = ca.iter().map(|der| der.to_vec()).collect();
        let wrong = |path: &Path| {
            let path = path.to_owned();
            move |source| IdentityError::Chain { path, source }
        };
        let roots = FleetRoots::new(&ders).map_err(wrong(&paths.ca))?;
        let chain: Vec<Vec<u8>> = certificates(&paths.sign_cert)?.iter().map(|der| der.to_vec()).collect();
        let signer = verify_chain(&chain, &roots, Role::Collector, now).map_err(wrong(&paths.sign_cert))?;
        if signer.path.tenant != *tenant {
            return Err(IdentityError::Tenant {
                path: paths.sign_cert.clone(),
                found: signer.path.tenant,
                expected: tenant.clone(),
            });
        }
        let key = Arc::new(ack_signer(paths, &signer)?);
        let lists = Lists::load(paths, &ders, &chain)?;
        let tls_chain = certificates(&paths.tls_cert)?;
        let tls_not_after = match tls_chain.first() {
            Some(leaf) => not_after(leaf).map_err(wrong(&paths.tls_cert))?,
            None => signer.not_after,
        };
        let tls = client_tls(&ca, &paths.tls_cert, &paths.tls_key, &lists.all)?;
        Ok(Self {
            roots,
            root_ders: ders,
            stamps,
            key,
            chain,
            signer,
            tls_not_after,
            tls: Arc::new(tls),
            revocations: lists.revocations,
            collector_lists: lists.collectors,
        })
    }

    /// What the lists kept in the file `kept` revoke; `None` if there is none.
    ///
    /// # Errors
    /// [`IdentityError`] if it is damaged.
    pub fn earlier_revocations(&self, kept: &Path) -> Result<Option<RevocationList>, IdentityError> {
        let Some((lists, mut issuers)) = revocation_lists(kept, false)? else { return Ok(None) };
        issuers.extend(self.chain.iter().skip(1).cloned());
        RevocationList::read(&lists, &self.root_ders, &issuers)
            .map(Some)
            .map_err(|source| IdentityError::Revocations { path: kept.to_owned(), source })
    }

    /// Why our own signing certificate counts no more, if so.
    #[must_use]
    pub fn own_revocation(&self) -> Option<String> {
        self.revocations
            .find(&self.chain)
            .map(|revoked| format!("certificate {} is revoked: {}", revoked.serial, revoked.reason))
    }
}

/// Size, time of change and number of each file: what tells that one changed.
pub type Stamps = Vec<Option<(u64, i64, i64, u64)>>;

/// The stamps of files; `None` for those that are not there.
#[must_use]
pub fn stamps(files: &[PathBuf]) -> Stamps {
    use std::os::unix::fs::MetadataExt;
    let stamp = |path: &PathBuf| {
        let meta = std::fs::metadata(path).ok()?;
        Some((meta.len(), meta.mtime(), meta.mtime_nsec(), meta.ino()))
    };
    files.iter().map(stamp).collect()
}

fn ack_signer(paths: &IdentityPaths, signer: &Signer) -> Result<AckSigner, IdentityError> {
    let path = match &paths.sign_key {
        SignKey::File(path) => path,
        SignKey::Command(words) => {
            return SignCommand::start(words, signer.key).map(AckSigner::Command).map_err(|why| {
                IdentityError::Command { program: words.first().cloned().unwrap_or_default(), why }
            });
        }
    };
    let key = SigningKey::from_pkcs8(private_key(path)?.secret_der())
        .map_err(|_| IdentityError::Key { path: path.clone() })?;
    if key.key_id() != signer.key.key_id() {
        return Err(IdentityError::Pair { cert: paths.sign_cert.clone(), key: path.clone() });
    }
    Ok(key.into())
}

/// What the files of revocation lists say.
struct Lists {
    revocations: RevocationList,
    /// DER of every list.
    all: Vec<Vec<u8>>,
    /// DER of those that devices are given.
    collectors: Vec<Vec<u8>>,
}

impl Lists {
    /// A file that need not be there may be missing; one that is there must be sound.
    fn load(paths: &IdentityPaths, roots: &[Vec<u8>], chain: &[Vec<u8>]) -> Result<Self, IdentityError> {
        let mut revocations = RevocationList::default();
        let mut read = |path: &Path, needed: bool| {
            let Some((lists, mut issuers)) = revocation_lists(path, needed)? else { return Ok(Vec::new()) };
            issuers.extend(chain.iter().skip(1).cloned());
            let read = RevocationList::read(&lists, roots, &issuers)
                .map_err(|source| IdentityError::Revocations { path: path.to_owned(), source })?;
            revocations.extend(&read);
            Ok(lists)
        };
        let all = read(&paths.crl, paths.crl_needed)?;
        let mut collectors = read(&paths.collectors_crl(), false)?;
        // Devices know no CAs but the roots and those of our chain, and refuse an answer with a list of another.
        let above = chain.get(1..).unwrap_or_default();
        collectors.retain(|list| match RevocationList::read(std::slice::from_ref(list), roots, above) {
            Ok(_) => true,
            Err(error) => {
                tracing::warn!(%error, "a revocation list of collectors is not sent to devices: they cannot prove it");
                false
            }
        });
        let bytes: usize = collectors.iter().map(Vec::len).sum();
        let collectors = if bytes <= REVOCATION_BYTES_SENT_MAX {
            collectors
        } else {
            tracing::error!(
                bytes,
                limit = REVOCATION_BYTES_SENT_MAX,
                "revocation lists of collectors are too long to send to devices; give devices the file"
            );
            Vec::new()
        };
        Ok(Self { revocations, all, collectors })
    }
}

/// The lists of a PEM file and the certificates that stand between them; `None` if there is no file and need be none.
#[expect(clippy::type_complexity, reason = "two lists of DER")]
fn revocation_lists(
    path: &Path,
    needed: bool,
) -> Result<Option<(Vec<Vec<u8>>, Vec<Vec<u8>>)>, IdentityError> {
    let pem = |why: String| IdentityError::Pem { path: path.to_owned(), why };
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !needed => return Ok(None),
        Err(error) => return Err(pem(error.to_string())),
    };
    let lists: Vec<Vec<u8>> = CertificateRevocationListDer::pem_slice_iter(&bytes)
        .map(|der| der.map(|der| der.to_vec()))
        .collect::<Result<_, _>>()
        .map_err(|error| pem(error.to_string()))?;
    let issuers = CertificateDer::pem_slice_iter(&bytes).flatten().map(|der| der.to_vec()).collect();
    if lists.is_empty() { Err(pem("it holds no revocation list".into())) } else { Ok(Some((lists, issuers))) }
}

/// TLS with a client certificate, trusting `ca` alone.
fn client_tls(
    ca: &[CertificateDer<'static>],
    cert: &Path,
    key: &Path,
    lists: &[Vec<u8>],
) -> Result<rustls::ClientConfig, IdentityError> {
    let tls = |source| IdentityError::Tls { path: cert.to_owned(), source };
    let mut roots = rustls::RootCertStore::empty();
    for der in ca {
        roots.add(der.clone()).map_err(tls)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    // A broker whose CA has no list here is as good as one that is on none.
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .with_crls(lists.iter().map(|der| CertificateRevocationListDer::from(der.clone())))
        .allow_unknown_revocation_status()
        .build()
        .map_err(|error| tls(rustls::Error::General(error.to_string())))?;
    rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| {
            let (chain, key) = (certificates(cert), private_key(key));
            let builder = builder.with_webpki_verifier(Arc::clone(&verifier));
            match (chain, key) {
                (Ok(chain), Ok(key)) => builder.with_client_auth_cert(chain, key),
                (Err(error), _) | (_, Err(error)) => Err(rustls::Error::General(error.to_string())),
            }
        })
        .map_err(tls)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let pem = |why: String| IdentityError::Pem { path: path.to_owned(), why };
    let found: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(path)
        .map_err(|error| pem(error.to_string()))?
        .collect::<Result<_, _>>()
        .map_err(|error| pem(error.to_string()))?;
    if found.is_empty() { Err(pem("it holds no certificate".into())) } else { Ok(found) }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, IdentityError> {
    PrivateKeyDer::from_pem_file(path)
        .map_err(|error| IdentityError::Pem { path: path.to_owned(), why: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::{COLLECTORS_LIST, Reason, Subject, init, intermediate, issue, revoke};
    use headwater_core::time::NS_PER_S;
    use std::fs;

    const NOW: UtcNanos = UtcNanos(1_790_000_000 * NS_PER_S);

    #[test]
    fn devices_are_given_only_lists_that_they_can_prove() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        init(dir.path(), "acme", NOW).unwrap();
        intermediate(dir.path(), "site", &at("site"), NOW).unwrap();
        let collector =
            |name: &str| Subject::Collector { name: name.into(), hosts: vec!["localhost".into()] };
        issue(dir.path(), &collector("hq"), &at("hq"), NOW).unwrap();
        issue(dir.path(), &collector("old"), &at("old"), NOW).unwrap();
        issue(&at("site"), &collector("yard"), &at("yard"), NOW).unwrap();
        revoke(dir.path(), "old", Reason::CessationOfOperation, NOW).unwrap();
        revoke(&at("site"), "yard", Reason::CessationOfOperation, NOW).unwrap();
        let list = |folder: &Path| fs::read_to_string(folder.join(COLLECTORS_LIST)).unwrap();
        let both = format!("{}{}", list(dir.path()), list(&at("site")));
        let hq = |name: &str| at("hq").join(name);
        fs::write(hq(COLLECTORS_LIST), both).unwrap();
        let paths = IdentityPaths {
            ca: hq("ca.pem"),
            tls_cert: hq("tls.pem"),
            tls_key: hq("tls.key"),
            sign_cert: hq("sign.pem"),
            sign_key: SignKey::File(hq("sign.key")),
            crl: hq("ca.crl"),
            crl_needed: false,
        };
        let identity = Identity::load(&paths, &"acme".parse().unwrap(), NOW).unwrap();
        assert_eq!(identity.revocations.len(), 4, "both pairs");
        assert_eq!(identity.collector_lists.len(), 1);
        let sent = RevocationList::read(&identity.collector_lists, &identity.root_ders, &[]).unwrap();
        assert_eq!(sent.len(), 2, "the root's");
    }
}

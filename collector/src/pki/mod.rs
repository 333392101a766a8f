//! The fleet's certificates: one CA, and for each device and collector a TLS pair and a signing pair.
//!
//! TLS keys are P-256, since cloud brokers accept them; signing keys are Ed25519. Roles stand in the
//! extended key usage of the signing certificate: clientAuth is a device, serverAuth a collector, and
//! none is both ([`headwater_core::wire::chain`]).

use headwater_core::id::{DeviceId, NameError, TenantId};
use headwater_core::time::{NS_PER_S, UtcNanos};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, SignatureAlgorithm,
};
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Validity of the CA, days: ten years.
const CA_DAYS: i64 = 3_650;
/// Validity of a leaf, days: two years.
const LEAF_DAYS: i64 = 730;
/// Leaves are valid from this long ago, so that a clock a little behind accepts them.
const BACKDATED_DAYS: i64 = 1;

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

/// Certificates that could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PkiError {
    /// A file.
    #[error("failed to {what} {path}")]
    File {
        /// What it was doing.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// There is a CA already.
    #[error("{0} exists already; a second CA would lock out every device of the first. Choose another --dir")]
    Exists(PathBuf),
    /// A name that cannot stand in a topic.
    #[error("the name cannot be used")]
    Name(#[from] NameError),
    /// The CA cannot be read or used.
    #[error("{path} is not a usable CA; run `headwater pki init` or check --dir: {reason}")]
    Ca {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Making a certificate failed.
    #[error("failed to make a certificate")]
    Make(#[from] rcgen::Error),
    /// A time outside what certificates can say.
    #[error("the present time {0} s cannot stand in a certificate")]
    Time(i64),
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
    let params = ca_params(&tenant, now)?;
    let pem = params.self_signed(&pair)?.pem();
    make_dir(dir)?;
    write_secret(&key, &pair.serialize_pem())?;
    write_public(&certificate, &pem)
}

fn ca_params(tenant: &TenantId, now: UtcNanos) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, format!("Headwater fleet CA of {tenant}"));
    params.distinguished_name.push(DnType::OrganizationName, tenant.as_str());
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid(&mut params, now, CA_DAYS)?;
    Ok(params)
}

/// Issues both pairs of `subject` with the CA in `dir`, into `out`: ca.pem tls.pem tls.key sign.pem sign.key.
///
/// # Errors
/// [`PkiError`] names the file or name at fault.
pub fn issue(dir: &Path, subject: &Subject, out: &Path, now: UtcNanos) -> Result<(), PkiError> {
    let (ca_path, key_path) = (dir.join("ca.pem"), dir.join("ca.key"));
    let (ca_pem, key_pem) = (read(&ca_path)?, read(&key_path)?);
    let bad_ca = |path: &Path, reason: String| PkiError::Ca { path: path.to_owned(), reason };
    let ca_key = KeyPair::from_pem(&key_pem).map_err(|e| bad_ca(&key_path, e.to_string()))?;
    let tenant = tenant_of(&ca_pem).map_err(|reason| bad_ca(&ca_path, reason))?;
    // The issuer's name and key are all a signature needs; both are those of ca.pem.
    let issuer = Issuer::new(ca_params(&tenant, now)?, ca_key);
    let (name, hosts, tls_usages, sign_usage) = match subject {
        Subject::Device(name) => {
            (name, Vec::new(), vec![ExtendedKeyUsagePurpose::ClientAuth], ExtendedKeyUsagePurpose::ClientAuth)
        }
        Subject::Collector { name, hosts } => (
            name,
            hosts.clone(),
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
            ExtendedKeyUsagePurpose::ServerAuth,
        ),
    };
    let name: DeviceId = name.parse()?;
    make_dir(out)?;
    write_public(&out.join("ca.pem"), &ca_pem)?;
    let leaf = |file: &str,
                algorithm: &'static SignatureAlgorithm,
                hosts: Vec<String>,
                usages|
     -> Result<(), PkiError> {
        let pair = KeyPair::generate_for(algorithm)?;
        let mut params = CertificateParams::new(hosts)?;
        params.distinguished_name.push(DnType::CommonName, name.as_str());
        params.distinguished_name.push(DnType::OrganizationName, tenant.as_str());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = usages;
        valid(&mut params, now, LEAF_DAYS)?;
        let pem = params.signed_by(&pair, &issuer)?.pem();
        write_secret(&out.join(format!("{file}.key")), &pair.serialize_pem())?;
        write_public(&out.join(format!("{file}.pem")), &pem)
    };
    leaf("tls", &PKCS_ECDSA_P256_SHA256, hosts, tls_usages)?;
    leaf("sign", &PKCS_ED25519, Vec::new(), vec![sign_usage])
}

fn valid(params: &mut CertificateParams, now: UtcNanos, days: i64) -> Result<(), PkiError> {
    const DAY_S: i64 = 86_400;
    let seconds = now.0.div_euclid(NS_PER_S);
    let at = |offset_days: i64| {
        let at = seconds.saturating_add(offset_days.saturating_mul(DAY_S));
        let date = chrono::DateTime::from_timestamp(at, 0).ok_or(PkiError::Time(at))?.date_naive();
        use chrono::Datelike;
        let month = u8::try_from(date.month()).map_err(|_| PkiError::Time(at))?;
        let day = u8::try_from(date.day()).map_err(|_| PkiError::Time(at))?;
        Ok::<_, PkiError>(rcgen::date_time_ymd(date.year(), month, day))
    };
    params.not_before = at(-BACKDATED_DAYS)?;
    params.not_after = at(days)?;
    Ok(())
}

/// The organisation of the CA certificate.
fn tenant_of(ca_pem: &str) -> Result<TenantId, String> {
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject;
    let der = CertificateDer::from_pem_slice(ca_pem.as_bytes()).map_err(|e| e.to_string())?;
    headwater_core::wire::chain::organization(&der)
        .map_err(|e| e.to_string())?
        .parse()
        .map_err(|e: NameError| e.to_string())
}

fn make_dir(dir: &Path) -> Result<(), PkiError> {
    fs::create_dir_all(dir).map_err(|source| PkiError::File { what: "create", path: dir.to_owned(), source })
}

fn read(path: &Path) -> Result<String, PkiError> {
    fs::read_to_string(path).map_err(|source| PkiError::File { what: "read", path: path.to_owned(), source })
}

fn write_public(path: &Path, text: &str) -> Result<(), PkiError> {
    fs::write(path, text).map_err(|source| PkiError::File { what: "write", path: path.to_owned(), source })
}

/// Writes a file that only its owner may read, from its first byte on.
fn write_secret(path: &Path, text: &str) -> Result<(), PkiError> {
    let failed = |source| PkiError::File { what: "write", path: path.to_owned(), source };
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_core::wire::SigningKey;
    use headwater_core::wire::chain::{FleetRoots, Role, verify_chain};
    use rustls_pki_types::pem::PemObject;
    use rustls_pki_types::{CertificateDer, PrivateKeyDer};
    use std::os::unix::fs::PermissionsExt;

    const NOW: UtcNanos = UtcNanos(1_790_000_000 * NS_PER_S);

    fn der(path: PathBuf) -> Vec<u8> {
        CertificateDer::from_pem_file(path).unwrap().to_vec()
    }

    #[test]
    fn issued_signing_pairs_verify_in_their_role_only() {
        let dir = tempfile::tempdir().unwrap();
        init(dir.path(), "acme", NOW).unwrap();
        let (pi, hq) = (dir.path().join("pi"), dir.path().join("hq"));
        issue(dir.path(), &Subject::Device("pi-1".into()), &pi, NOW).unwrap();
        let hosts = vec!["127.0.0.1".into(), "localhost".into()];
        issue(dir.path(), &Subject::Collector { name: "hq".into(), hosts }, &hq, NOW).unwrap();
        let roots = FleetRoots::new(&[der(pi.join("ca.pem"))]).unwrap();
        let device = verify_chain(&[der(pi.join("sign.pem"))], &roots, Role::Device, NOW).unwrap();
        assert_eq!(device.path.to_string(), "acme/pi-1");
        let key = PrivateKeyDer::from_pem_file(pi.join("sign.key")).unwrap();
        assert_eq!(SigningKey::from_pkcs8(key.secret_der()).unwrap().key_id(), device.key.key_id());
        assert!(verify_chain(&[der(hq.join("sign.pem"))], &roots, Role::Collector, NOW).is_ok());
        assert!(verify_chain(&[der(hq.join("sign.pem"))], &roots, Role::Device, NOW).is_err());
        assert!(verify_chain(&[der(pi.join("sign.pem"))], &roots, Role::Collector, NOW).is_err());
        for key in ["tls.key", "sign.key"] {
            assert_eq!(fs::metadata(pi.join(key)).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn a_second_ca_and_a_missing_one_are_explained() {
        let dir = tempfile::tempdir().unwrap();
        let missing = issue(dir.path(), &Subject::Device("pi-1".into()), dir.path(), NOW).unwrap_err();
        assert!(missing.to_string().contains("ca.pem"), "{missing}");
        init(dir.path(), "acme", NOW).unwrap();
        assert!(matches!(init(dir.path(), "acme", NOW), Err(PkiError::Exists(_))));
        assert!(matches!(
            issue(dir.path(), &Subject::Device("Pi 1".into()), dir.path(), NOW),
            Err(PkiError::Name(_))
        ));
        assert!(matches!(init(&dir.path().join("b"), "A/B", NOW), Err(PkiError::Name(_))));
    }
}

//! Enrolling and renewing: new keys, two requests, one POST, and files that fit together before they are written.

use super::files::{Fresh, mark_of, replace};
use super::http::{Answer, post};
use super::pending::{KeysError, PendingKeys, keys_for};
use super::pin::PinnedCa;
use super::token::Token;
use super::url::HttpsUrl;
use crate::config::{self, Identity, IdentityFiles, Mistakes};
use crate::ship::{CertTime, ServerTrust, tls};
use headwater_core::id::{DeviceId, DevicePath, NameError, Sha256, TenantId};
use headwater_core::time::UtcNanos;
use headwater_core::wire::SigningKey;
use headwater_core::wire::chain::{ChainError, FleetRoots, Role, Signer, verify_chain_or_later};
use headwater_core::wire::request::{KeyUse, NewKey, RequestError, new_key, pem, request};
use ring::rand::SystemRandom;
use rustls::ClientConfig;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a renewal signs begins with, so that the signature means nothing anywhere else.
const RENEW_CONTEXT: &str = "headwater renew 1\n";

/// Why there are no new certificates.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnrollError {
    /// The configuration there is cannot be kept.
    #[error("{file} cannot be kept: {why}; move it away, or name another --config")]
    Config {
        /// The file.
        file: PathBuf,
        /// Why.
        why: String,
    },
    /// The service could not be reached, or is not the fleet's.
    #[error("no answer of {url}: {why}{}", hint(why))]
    Reach {
        /// Where.
        url: HttpsUrl,
        /// Why. No source: renewals tell one line of text, and this belongs into it.
        why: io::Error,
    },
    /// The service says no.
    #[error("{url} refuses: {why}")]
    Refused {
        /// Where.
        url: HttpsUrl,
        /// HTTP status.
        status: u16,
        /// Its words.
        why: String,
    },
    /// The answer cannot be used.
    #[error("the answer of {url} cannot be used: {why}")]
    Answer {
        /// Where.
        url: HttpsUrl,
        /// Why.
        why: String,
    },
    /// A key could not be made.
    #[error("failed to make a key")]
    Key(#[from] RequestError),
    /// TLS cannot be set up.
    #[error("failed to set up TLS: {0}")]
    Tls(String),
    /// A file could not be written.
    #[error("failed to write {file}; {}", write_hint(source))]
    Write {
        /// The file, or the folder.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// What may help where a file could not be written.
fn write_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            "a file is in the way: name a folder with --dir, and a file in a folder with --config"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room, and say it again",
        io::ErrorKind::ReadOnlyFilesystem => "the file system is read-only",
        _ => "run as root, or as whoever may write there",
    }
}

/// What may help, from the words of the failure.
fn hint(error: &io::Error) -> &'static str {
    let text = error.to_string();
    if text.contains("UnknownIssuer") {
        "; it is not the service the token is for: check the address, or ask for a new token"
    } else if text.contains("NotValidForName") || text.contains("not valid for name") {
        "; its certificate has another name: use the host name it was issued for"
    } else if text.contains("Revoked") {
        "; its certificate is revoked"
    } else {
        "; check the address, and that `headwater pki serve` runs there"
    }
}

/// What to enrol.
#[derive(Debug)]
pub struct Enrolling<'a> {
    /// The service.
    pub url: &'a HttpsUrl,
    /// What admits us.
    pub token: &'a Token,
    /// Our name.
    pub name: DeviceId,
    /// Configuration: kept if there is one, else written.
    pub config: &'a Path,
    /// Folder for certificates and keys, if the configuration does not say.
    pub dir: &'a Path,
    /// The name is enrolled already, and this gateway takes its place.
    pub replace: bool,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Enrolled {
    /// `tenant/device`.
    pub device: String,
    /// End of the certificates, ns of UTC.
    pub ends_ns: i64,
    /// Where certificates and keys are.
    pub identity: PathBuf,
    /// The configuration, and whether it was written now.
    pub config: PathBuf,
    /// It was not there before.
    pub config_written: bool,
    /// Brokers, the first is the one to use.
    pub brokers: Vec<String>,
}

#[derive(Debug, Serialize)]
struct EnrollBody<'a> {
    token: &'a str,
    name: &'a str,
    tls_request: String,
    sign_request: String,
    replace: bool,
}

#[derive(Debug, Serialize)]
struct RenewBody<'a> {
    certificate: &'a str,
    tls_request: &'a str,
    sign_request: &'a str,
    signature: String,
}

#[derive(Debug, Deserialize)]
struct Granted {
    ca: String,
    tls_cert: String,
    sign_cert: String,
    #[serde(default)]
    brokers: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Refusal {
    error: String,
}

/// Keys with their requests.
pub(super) struct Keys {
    pub(super) tls: NewKey,
    pub(super) sign: NewKey,
}

impl Keys {
    pub(super) fn new(name: &DeviceId) -> Result<Self, RequestError> {
        let random = SystemRandom::new();
        Ok(Self { tls: new_key(KeyUse::Tls, name, &random)?, sign: new_key(KeyUse::Sign, name, &random)? })
    }

    /// Keys there are (PKCS#8 DER), with new requests for them.
    pub(super) fn of(name: &DeviceId, tls: Vec<u8>, sign: Vec<u8>) -> Result<Self, RequestError> {
        let random = SystemRandom::new();
        let key = |key_use, pkcs8: Vec<u8>| {
            let request = request(key_use, name, &pkcs8, &random)?;
            Ok::<_, RequestError>(NewKey { pkcs8, request })
        };
        Ok(Self { tls: key(KeyUse::Tls, tls)?, sign: key(KeyUse::Sign, sign)? })
    }

    fn requests(&self) -> (String, String) {
        let request = |key: &NewKey| pem("CERTIFICATE REQUEST", &key.request);
        (request(&self.tls), request(&self.sign))
    }
}

/// Gets this gateway's first certificates, or new ones in place of lost or revoked ones. May be called again with the
/// same token if an answer did not arrive.
///
/// # Errors
/// [`EnrollError`]; no certificates were written then, but by [`EnrollError::Write`].
pub fn enroll(enrolling: &Enrolling<'_>, now: UtcNanos) -> Result<Enrolled, EnrollError> {
    let Enrolling { url, token, name, config, dir, replace } = enrolling;
    let kept = kept_config(config, name)?;
    let wanted = kept.as_ref().map_or_else(|| files_in(dir), |(_, files)| files.clone());
    let pending = PendingKeys::beside(&wanted.sign_key);
    let keys = keys_for(&pending, token, name).map_err(|error| match error {
        KeysError::Make(error) => EnrollError::Key(error),
        KeysError::Keep(source) => EnrollError::Write { file: pending.file().to_path_buf(), source },
    })?;
    let (tls_request, sign_request) = keys.requests();
    let body = EnrollBody {
        token: token.as_str(),
        name: name.as_str(),
        tls_request,
        sign_request,
        replace: *replace,
    };
    let granted = ask(url, "/v1/enroll", &body, pinned_tls(token.ca)?)?;
    let unusable = |why: String| EnrollError::Answer { url: (*url).clone(), why };
    if certificates(&granted.ca).first().is_none_or(|ca| Sha256::of(ca).0 != token.ca) {
        return Err(unusable("its CA is not the one the token names".to_owned()));
    }
    let signer = proven(&granted, &keys, name, now).map_err(unusable)?;
    if let Some((tenant, _)) = kept.as_ref().filter(|(tenant, _)| *tenant != signer.path.tenant) {
        let why = format!("it says tenant {tenant}, the token is of {}", signer.path.tenant);
        return Err(EnrollError::Config { file: config.to_path_buf(), why });
    }
    let files = wanted;
    write_files(&granted, &keys, &files, true)?;
    if kept.is_none() {
        write_config(config, &signer.path, &files, url, &granted.brokers)?;
    }
    // Last, so that the same command finishes what could not be written.
    pending.forget().map_err(|source| EnrollError::Write { file: pending.file().to_path_buf(), source })?;
    Ok(Enrolled {
        device: signer.path.to_string(),
        ends_ns: signer.not_after.0,
        identity: files.sign_cert.parent().unwrap_or(dir).to_path_buf(),
        config: config.to_path_buf(),
        config_written: kept.is_none(),
        brokers: granted.brokers,
    })
}

/// Renews the certificates of `identity`, with new keys. The old ones stay valid until they end.
///
/// # Errors
/// [`EnrollError`].
pub fn renew(
    url: &HttpsUrl,
    files: &IdentityFiles,
    identity: &Identity,
    time: CertTime,
    now: UtcNanos,
) -> Result<Signer, EnrollError> {
    let name = &identity.signer.path.device;
    let keys = Keys::new(name)?;
    let (tls_request, sign_request) = keys.requests();
    let certificate: String = identity.sign_chain.iter().map(|der| pem("CERTIFICATE", der)).collect();
    let signed = format!("{RENEW_CONTEXT}{tls_request}{sign_request}{certificate}");
    let signature = identity.sign_key.sign(&Sha256::of(signed.as_bytes()));
    let body = RenewBody {
        certificate: &certificate,
        tls_request: &tls_request,
        sign_request: &sign_request,
        signature: signature.iter().map(|byte| format!("{byte:02x}")).collect(),
    };
    let trust = ServerTrust { time, revocations: identity.roots.revocations().clone() };
    let tls = tls::server_only_config(&identity.ca_pem, trust)
        .map_err(|error| EnrollError::Tls(error.to_string()))?;
    let granted = ask(url, "/v1/renew", &body, tls)?;
    let unusable = |why: String| EnrollError::Answer { url: url.clone(), why };
    let ca: Vec<Vec<u8>> = certificates(&granted.ca);
    if ca.iter().any(|der| !identity.roots.ders().contains(der)) {
        return Err(unusable("it names another CA than ours".to_owned()));
    }
    let signer = proven(&granted, &keys, name, now).map_err(unusable)?;
    if signer.path != identity.signer.path {
        return Err(unusable(format!("it is for {}", signer.path)));
    }
    write_files(&granted, &keys, files, false)?;
    Ok(signer)
}

fn ask(url: &HttpsUrl, path: &str, body: &impl Serialize, tls: ClientConfig) -> Result<Granted, EnrollError> {
    let unusable = |why: String| EnrollError::Answer { url: url.clone(), why };
    let body = serde_json::to_string(body).map_err(|error| unusable(error.to_string()))?;
    let Answer { status, body } =
        post(url, path, &body, tls).map_err(|why| EnrollError::Reach { url: url.clone(), why })?;
    if status == 200 {
        return serde_json::from_slice(&body).map_err(|error| unusable(error.to_string()));
    }
    let why = serde_json::from_slice::<Refusal>(&body)
        .map_or_else(|_| format!("HTTP status {status}"), |refusal| refusal.error);
    Err(EnrollError::Refused { url: url.clone(), status, why })
}

/// Whom the answer names, if certificates, keys and CA fit together.
fn proven(granted: &Granted, keys: &Keys, name: &DeviceId, now: UtcNanos) -> Result<Signer, String> {
    let told = |error: ChainError| error.to_string();
    let roots = FleetRoots::new(&certificates(&granted.ca)).map_err(told)?;
    let chain = certificates(&granted.sign_cert);
    let signer = verify_chain_or_later(&chain, &roots, Role::Device, now).map_err(told)?;
    let key = SigningKey::from_pkcs8(&keys.sign.pkcs8).map_err(|error| error.to_string())?;
    if key.verifying_key().ok() != Some(signer.key) || signer.path.device != *name {
        return Err("its certificates are for another key or name than ours".to_owned());
    }
    let key_pem = pem("PRIVATE KEY", &keys.tls.pkcs8);
    tls::client_config(granted.ca.as_bytes(), granted.tls_cert.as_bytes(), key_pem.as_bytes(), UtcNanos(0))
        .map_err(|error| error.to_string())?;
    Ok(signer)
}

/// The roots only `with_ca`: a renewal leaves them alone, for there may be more of them than the service names.
fn write_files(
    granted: &Granted,
    keys: &Keys,
    files: &IdentityFiles,
    with_ca: bool,
) -> Result<(), EnrollError> {
    let (tls_key, sign_key) = (pem("PRIVATE KEY", &keys.tls.pkcs8), pem("PRIVATE KEY", &keys.sign.pkcs8));
    let ca = with_ca.then_some((&files.ca, &granted.ca, false));
    let fresh = [
        (&files.tls_cert, &granted.tls_cert, false),
        (&files.tls_key, &tls_key, true),
        (&files.sign_cert, &granted.sign_cert, false),
        (&files.sign_key, &sign_key, true),
    ];
    let fresh: Vec<Fresh<'_>> =
        ca.into_iter().chain(fresh).map(|(path, text, secret)| Fresh { path, text, secret }).collect();
    let folder = files.sign_cert.parent().unwrap_or(Path::new(".")).to_path_buf();
    let failed = |source| EnrollError::Write { file: folder.clone(), source };
    for file in &fresh {
        std::fs::create_dir_all(file.path.parent().unwrap_or(Path::new("."))).map_err(failed)?;
    }
    replace(&fresh, &mark_of(files)).map_err(failed)
}

fn pinned_tls(ca: [u8; 32]) -> Result<ClientConfig, EnrollError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| EnrollError::Tls(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(PinnedCa { ca, provider }))
        .with_no_client_auth())
}

fn certificates(pem: &str) -> Vec<Vec<u8>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).flatten().map(|der| der.to_vec()).collect()
}

fn files_in(dir: &Path) -> IdentityFiles {
    IdentityFiles {
        ca: dir.join("ca.pem"),
        tls_cert: dir.join("tls.pem"),
        tls_key: dir.join("tls.key"),
        sign_cert: dir.join("sign.pem"),
        sign_key: dir.join("sign.key"),
        crl: None,
        renew: None,
    }
}

/// Tenant and files of the configuration there is; `None` if there is none, or one that says nothing, such as a package's.
fn kept_config(file: &Path, name: &DeviceId) -> Result<Option<(TenantId, IdentityFiles)>, EnrollError> {
    let wrong = |why: String| EnrollError::Config { file: file.to_path_buf(), why };
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(wrong(error.to_string())),
    };
    if text.parse::<toml::Table>().is_ok_and(|table| table.is_empty()) {
        return Ok(None);
    }
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // The files it names are what we are here for: they need not be there.
    let settings =
        config::read(&text, folder, &|_| Ok(())).map_err(|mistakes: Mistakes| wrong(mistakes.to_string()))?;
    if settings.device.device != *name {
        return Err(wrong(format!("it is {}'s, not {name}'s", settings.device.device)));
    }
    Ok(Some((settings.device.tenant, settings.identity)))
}

fn write_config(
    file: &Path,
    device: &DevicePath,
    files: &IdentityFiles,
    url: &HttpsUrl,
    brokers: &[String],
) -> Result<(), EnrollError> {
    let failed = |source| EnrollError::Write { file: file.to_path_buf(), source };
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let path = |path: &Path| {
        quoted(&std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf()).to_string_lossy())
    };
    let broker = brokers.first().map_or("mqtts://BROKER:8883", String::as_str);
    let text = format!(
        "# Written by `headwater-agent enroll`. Add a [[source]] for each sensor; `headwater-agent check` tells every mistake.\n\
         [device]\ntenant = {}\nname = {}\n\n[identity]\nca = {}\ntls_cert = {}\ntls_key = {}\nsign_cert = {}\nsign_key = {}\n\
         renew = {}\n\n[uplink]\nbroker = {}\n",
        quoted(device.tenant.as_str()),
        quoted(device.device.as_str()),
        path(&files.ca),
        path(&files.tls_cert),
        path(&files.tls_key),
        path(&files.sign_cert),
        path(&files.sign_key),
        quoted(&url.to_string()),
        quoted(broker),
    );
    put_config(file, &text).map_err(failed)
}

/// Puts a configuration in its place, whole or not at all, with the owner of what it replaces, else of its folder.
///
/// # Errors
/// What the system says.
pub(crate) fn put_config(file: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder)?;
    }
    let mut mark = file.as_os_str().to_owned();
    mark.push(".written");
    replace(&[Fresh { path: file, text, secret: false }], Path::new(&mark))
}

/// This host's name, if it can be a device's.
///
/// # Errors
/// [`NameError`] says what is wrong with it.
pub fn host_name() -> Result<DeviceId, NameError> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_lowercase().parse()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_names_its_cure_and_says_its_reason_once() {
        let url = HttpsUrl::parse("https://hq").unwrap();
        let reach = |why: &str| {
            let error = EnrollError::Reach { url: url.clone(), why: io::Error::other(why.to_owned()) };
            assert!(std::error::Error::source(&error).is_none(), "it would be said twice");
            error.to_string()
        };
        for (why, cure) in [
            ("invalid peer certificate: UnknownIssuer", "ask for a new token"),
            (
                "invalid peer certificate: certificate not valid for name \"10.0.0.1\"",
                "the host name it was issued for",
            ),
            ("Connection refused (os error 111)", "`headwater pki serve` runs there"),
        ] {
            let told = reach(why);
            assert!(told.contains(cure) && told.matches(why).count() == 1, "{told}");
        }
        let write = |kind: io::ErrorKind| {
            EnrollError::Write { file: "id/tls.key".into(), source: kind.into() }.to_string()
        };
        assert!(write(io::ErrorKind::NotADirectory).contains("--dir"));
        assert!(write(io::ErrorKind::PermissionDenied).contains("root"));
        assert!(write(io::ErrorKind::StorageFull).contains("room"));
    }

    #[test]
    fn a_configuration_that_says_nothing_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let (file, name) = (dir.path().join("agent.toml"), "pi-1".parse().unwrap());
        assert!(kept_config(&file, &name).unwrap().is_none());
        // What a package brings.
        std::fs::write(&file, include_str!("../../../cross/deb/agent.toml")).unwrap();
        assert!(kept_config(&file, &name).unwrap().is_none());
        std::fs::write(&file, "[device]\nname = \"pi-1\"\n").unwrap();
        assert!(kept_config(&file, &name).is_err(), "half a one is to be mended");
        std::fs::write(&file, "[device").unwrap();
        assert!(kept_config(&file, &name).is_err());
    }

    /// Certificates came, the configuration could not be written: the keys wait for the same command.
    #[test]
    fn a_folder_where_the_keys_belong_is_told_before_anyone_is_asked() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "x").unwrap();
        let token =
            Token::parse(&format!("hwt1-{}-{}-{}", "0".repeat(16), "a".repeat(32), "7".repeat(64))).unwrap();
        // Nobody listens at this address: whoever asked would say so.
        let enrolling = Enrolling {
            url: &HttpsUrl::parse("https://127.0.0.1:1").unwrap(),
            token: &token,
            name: "pi-1".parse().unwrap(),
            config: &dir.path().join("agent.toml"),
            dir: &file,
            replace: false,
        };
        let told = enroll(&enrolling, UtcNanos(0)).unwrap_err().to_string();
        assert!(told.contains("name a folder with --dir"), "{told}");
    }

    #[test]
    fn a_renewal_leaves_the_roots_alone() {
        let dir = tempfile::tempdir().unwrap();
        let files = files_in(dir.path());
        let keys = Keys::new(&"pi-1".parse().unwrap()).unwrap();
        let granted = |cert: &str| Granted {
            ca: "one".to_owned(),
            tls_cert: cert.to_owned(),
            sign_cert: cert.to_owned(),
            brokers: Vec::new(),
        };
        let read = |file: &Path| std::fs::read_to_string(file).unwrap();
        write_files(&granted("first"), &keys, &files, true).unwrap();
        assert_eq!(read(&files.ca), "one");
        std::fs::write(&files.ca, "one and another").unwrap();
        write_files(&granted("second"), &keys, &files, false).unwrap();
        assert_eq!(read(&files.ca), "one and another");
        assert_eq!(read(&files.sign_cert), "second");
    }
}

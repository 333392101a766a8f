//! Keys of an enrolment whose answer did not arrive: kept, so that the next try asks for the same keys, to which the
//! service gives the same certificates. With other keys the name would be taken, by nobody.

use super::client::Keys;
use super::files::write_whole;
use super::token::Token;
use headwater_core::id::{DeviceId, Sha256};
use headwater_core::wire::request::{RequestError, pem};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};

/// The file's content.
#[derive(Debug, Serialize, Deserialize)]
struct Pending {
    /// SHA-256 of the token, hex: for another one other keys are made.
    token_sha256: String,
    name: String,
    tls_key: String,
    sign_key: String,
}

/// Where the keys of a pending enrolment are.
#[derive(Debug)]
pub(super) struct PendingKeys {
    file: PathBuf,
}

impl PendingKeys {
    /// Beside the signing key to be.
    pub(super) fn beside(sign_key: &Path) -> Self {
        let mut file = sign_key.as_os_str().to_owned();
        file.push(".pending");
        Self { file: file.into() }
    }

    /// The keys of an earlier try with this token and name. A file that cannot be used is as good as none.
    pub(super) fn keys(&self, token: &Token, name: &DeviceId) -> Option<Keys> {
        let kept: Pending = serde_json::from_slice(&std::fs::read(&self.file).ok()?).ok()?;
        let der = |pem: &str| {
            PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).ok().map(|der| der.secret_pkcs8_der().to_vec())
        };
        let same = kept.token_sha256 == digest(token) && kept.name == name.as_str();
        let (tls, sign) = same.then_some((der(&kept.tls_key)?, der(&kept.sign_key)?))?;
        Keys::of(name, tls, sign).ok()
    }

    /// Keeps keys, synced, before anyone is asked to certify them.
    pub(super) fn keep(&self, token: &Token, name: &DeviceId, keys: &Keys) -> io::Result<()> {
        let kept = Pending {
            token_sha256: digest(token),
            name: name.to_string(),
            tls_key: pem("PRIVATE KEY", &keys.tls.pkcs8),
            sign_key: pem("PRIVATE KEY", &keys.sign.pkcs8),
        };
        if let Some(folder) = self.file.parent() {
            std::fs::create_dir_all(folder)?;
        }
        write_whole(&self.file, &serde_json::to_string(&kept).map_err(io::Error::other)?)
    }

    /// They took their place.
    pub(super) fn forget(&self) -> io::Result<()> {
        match std::fs::remove_file(&self.file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    pub(super) fn file(&self) -> &Path {
        &self.file
    }
}

fn digest(token: &Token) -> String {
    Sha256::of(token.as_str().as_bytes()).to_string()
}

/// Keys for a try: those of an earlier one, else new ones, which are kept first.
pub(super) fn keys_for(pending: &PendingKeys, token: &Token, name: &DeviceId) -> Result<Keys, KeysError> {
    if let Some(keys) = pending.keys(token, name) {
        return Ok(keys);
    }
    let keys = Keys::new(name)?;
    pending.keep(token, name, &keys)?;
    Ok(keys)
}

/// Why there are none.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeysError {
    #[error(transparent)]
    Make(#[from] RequestError),
    #[error(transparent)]
    Keep(#[from] io::Error),
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn token(secret: &str) -> Token {
        Token::parse(&format!("hwt1-{}-{}-{}", "0".repeat(16), secret.repeat(32), "7".repeat(64))).unwrap()
    }

    #[test]
    fn a_second_try_has_the_keys_of_the_first_and_another_token_or_name_has_others() {
        let dir = tempfile::tempdir().unwrap();
        let pending = PendingKeys::beside(&dir.path().join("new/sign.key"));
        let (pi, cam): (DeviceId, DeviceId) = ("pi-1".parse().unwrap(), "cam-1".parse().unwrap());
        let first = keys_for(&pending, &token("a"), &pi).unwrap();
        let mode = std::fs::metadata(pending.file()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "keys are for their owner alone");
        let again = keys_for(&pending, &token("a"), &pi).unwrap();
        assert_eq!((&again.tls.pkcs8, &again.sign.pkcs8), (&first.tls.pkcs8, &first.sign.pkcs8));
        assert!(
            !std::fs::read_to_string(pending.file()).unwrap().contains(&"a".repeat(32)),
            "no token in it"
        );
        assert!(pending.keys(&token("b"), &pi).is_none());
        assert!(pending.keys(&token("a"), &cam).is_none());
        let other = keys_for(&pending, &token("b"), &pi).unwrap();
        assert_ne!(other.sign.pkcs8, first.sign.pkcs8);
        // Cut short or damaged, it is none.
        let whole = std::fs::read(pending.file()).unwrap();
        for cut in [0, 1, whole.len() / 2, whole.len() - 1] {
            std::fs::write(pending.file(), &whole[..cut]).unwrap();
            assert!(pending.keys(&token("b"), &pi).is_none(), "cut at {cut}");
        }
        pending.forget().unwrap();
        pending.forget().unwrap();
        assert!(pending.keys(&token("b"), &pi).is_none());
    }
}

//! The shared secret of an endpoint and what it signs.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use std::fmt;
use std::path::{Path, PathBuf};

/// Fewest bytes of a secret: fewer can be guessed.
const SECRET_BYTES_MIN: usize = 16;
/// Most: it is a key, not a file that was named by mistake.
const SECRET_BYTES_MAX: usize = 4096;

/// Why a secret cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// The file cannot be read.
    #[error("read secret {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is too short, too long, or not base64 after `whsec_`.
    #[error(
        "secret {} has to be 16 to 4096 bytes, or whsec_ and base64; make one with `openssl rand -hex 32 > {}`",
        path.display(), path.display()
    )]
    Form {
        /// Which.
        path: PathBuf,
    },
}

/// A key shared with an endpoint.
#[derive(Clone)]
pub struct Secret(hmac::Key);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Secret {
    /// Reads a secret: the file's bytes without white space at its ends, or base64 after `whsec_`.
    ///
    /// # Errors
    /// [`SecretError`].
    pub fn read(path: &Path) -> Result<Self, SecretError> {
        let bytes =
            std::fs::read(path).map_err(|source| SecretError::Read { path: path.to_owned(), source })?;
        let trimmed = bytes.trim_ascii();
        let key = match trimmed.strip_prefix(b"whsec_") {
            Some(text) => STANDARD.decode(text).unwrap_or_default(),
            None => trimmed.to_vec(),
        };
        if !(SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&key.len()) {
            return Err(SecretError::Form { path: path.to_owned() });
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &key)))
    }

    /// `v1,` and the base64 of the HMAC-SHA256 over `<id>.<unix_s>.<body>`.
    #[must_use]
    pub fn sign(&self, id: &str, unix_s: i64, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(format!("{id}.{unix_s}.").as_bytes());
        context.update(body);
        format!("v1,{}", STANDARD.encode(context.sign()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the Standard Webhooks libraries.
    #[test]
    fn the_published_example_is_signed_as_published() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        std::fs::write(&path, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
        let secret = Secret::read(&path).unwrap();
        let body = br#"{"test": 2432232314}"#;
        assert_eq!(
            secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
        assert_eq!(format!("{secret:?}"), "Secret(…)");
    }

    #[test]
    fn what_is_no_secret_says_how_to_make_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        assert!(matches!(Secret::read(&path), Err(SecretError::Read { .. })));
        for bad in ["", "short", "whsec_!!!!", "   \n"] {
            std::fs::write(&path, bad).unwrap();
            let text = Secret::read(&path).unwrap_err().to_string();
            assert!(text.contains("openssl rand -hex 32"), "{text}");
        }
    }
}

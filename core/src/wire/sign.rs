//! Ed25519 keys as the wire uses them: they sign the digest of a message and nothing else.

use crate::id::{KeyId, Sha256};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use std::fmt;

/// A key or signature that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// Not an Ed25519 key in PKCS#8.
    #[error("key is not an Ed25519 key in PKCS#8 form")]
    Key,
    /// The signature does not fit message and key.
    #[error("signature does not fit the message")]
    Signature,
}

/// The private half; names itself by its [`KeyId`].
pub struct SigningKey {
    pair: Ed25519KeyPair,
    key_id: KeyId,
}

impl SigningKey {
    /// Reads a PKCS#8 private key (DER).
    ///
    /// # Errors
    /// [`SignError::Key`] if it is not Ed25519.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, SignError> {
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map_err(|_| SignError::Key)?;
        let key_id = KeyId(Sha256::of(pair.public_key().as_ref()).head());
        Ok(Self { pair, key_id })
    }

    /// Which key this is.
    #[must_use]
    pub fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// The public half.
    ///
    /// # Errors
    /// [`SignError::Key`] never, for a key that was read.
    pub fn verifying_key(&self) -> Result<VerifyingKey, SignError> {
        VerifyingKey::from_raw(self.pair.public_key().as_ref())
    }

    /// Signs a message's digest.
    #[must_use]
    pub fn sign(&self, digest: &Sha256) -> [u8; 64] {
        let mut out = [0; 64];
        for (to, from) in out.iter_mut().zip(self.pair.sign(&digest.0).as_ref()) {
            *to = *from;
        }
        out
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.key_id)
    }
}

/// The public half: 32 raw bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct VerifyingKey {
    raw: [u8; 32],
}

impl VerifyingKey {
    /// Takes raw bytes.
    ///
    /// # Errors
    /// [`SignError::Key`] unless there are 32.
    pub fn from_raw(raw: &[u8]) -> Result<Self, SignError> {
        raw.try_into().map(|raw| Self { raw }).map_err(|_| SignError::Key)
    }

    /// The raw bytes.
    #[must_use]
    pub fn raw(&self) -> &[u8; 32] {
        &self.raw
    }

    /// Which key this is.
    #[must_use]
    pub fn key_id(&self) -> KeyId {
        KeyId(Sha256::of(&self.raw).head())
    }

    /// Checks a signature over a message's digest.
    ///
    /// # Errors
    /// [`SignError::Signature`] if it does not fit.
    pub fn verify(&self, digest: &Sha256, signature: &[u8; 64]) -> Result<(), SignError> {
        UnparsedPublicKey::new(&ED25519, &self.raw)
            .verify(&digest.0, signature)
            .map_err(|_| SignError::Signature)
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyingKey({})", self.key_id())
    }
}

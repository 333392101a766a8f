//! New keys and certificate requests (PKCS#10, RFC 2986): what a gateway makes at enrolment and renewal.
//!
//! A key never leaves the machine that made it; the request proves that its sender holds it. The DER is written
//! here, since a gateway needs two fixed forms of it and no certificate library; it is read with x509-parser.

use super::sign::SignError;
use crate::id::DeviceId;
use ring::rand::SecureRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use x509_parser::prelude::{FromDer, X509CertificationRequest};

/// Most bytes of a request that is read; ours have some 250.
pub const REQUEST_BYTES_MAX: usize = 4 * 1024;

const OID_COMMON_NAME: &[u8] = &[0x06, 0x03, 0x55, 0x04, 0x03];
const OID_SUBJECT_ALT_NAME: &[u8] = &[0x06, 0x03, 0x55, 0x1d, 0x11];
const OID_ED25519: &[u8] = &[0x06, 0x03, 0x2b, 0x65, 0x70];
const OID_EC_PUBLIC_KEY: &[u8] = &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const OID_P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const OID_ECDSA_SHA256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const BIT_STRING: u8 = 0x03;
const UTF8_STRING: u8 = 0x0c;

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyUse {
    /// TLS: P-256, which cloud brokers accept.
    Tls,
    /// Signing messages: Ed25519.
    Sign,
}

/// A key or request that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The key could not be made or read.
    #[error("key cannot be made or read")]
    Key(#[from] SignError),
    /// Not a request.
    #[error("certificate request cannot be read: {0}")]
    Malformed(String),
    /// Its sender does not hold the key.
    #[error("certificate request is not signed by its own key")]
    Signature,
    /// A key of another kind.
    #[error("certificate request is for a key of another kind than {0:?} needs")]
    Use(KeyUse),
    /// CN is missing or no valid name.
    #[error("certificate request names nobody valid")]
    Name,
}

/// A new private key with its request.
pub struct NewKey {
    /// Private key, PKCS#8 DER.
    pub pkcs8: Vec<u8>,
    /// Request, DER.
    pub request: Vec<u8>,
}

impl std::fmt::Debug for NewKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NewKey")
    }
}

/// Makes a key of this use, and a request for a certificate of `name`.
///
/// # Errors
/// [`RequestError::Key`] if `random` gives nothing.
pub fn new_key(key_use: KeyUse, name: &DeviceId, random: &dyn SecureRandom) -> Result<NewKey, RequestError> {
    let pkcs8 = match key_use {
        KeyUse::Tls => EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, random),
        KeyUse::Sign => Ed25519KeyPair::generate_pkcs8(random),
    }
    .map_err(|_| SignError::Key)?
    .as_ref()
    .to_vec();
    let request = request(key_use, name, &pkcs8, random)?;
    Ok(NewKey { pkcs8, request })
}

/// A request for a certificate of `name` for a key there is (PKCS#8 DER).
///
/// # Errors
/// [`RequestError::Key`] if it is not a key of this use.
pub fn request(
    key_use: KeyUse,
    name: &DeviceId,
    pkcs8: &[u8],
    random: &dyn SecureRandom,
) -> Result<Vec<u8>, RequestError> {
    match key_use {
        KeyUse::Tls => {
            let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8, random)
                .map_err(|_| SignError::Key)?;
            let info = info(key_use, name, pair.public_key().as_ref());
            let signature = pair.sign(random, &info).map_err(|_| SignError::Key)?;
            Ok(signed(&info, &der(SEQUENCE, &[OID_ECDSA_SHA256]), signature.as_ref()))
        }
        KeyUse::Sign => {
            let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8).map_err(|_| SignError::Key)?;
            let info = info(key_use, name, pair.public_key().as_ref());
            let signature = pair.sign(&info);
            Ok(signed(&info, &der(SEQUENCE, &[OID_ED25519]), signature.as_ref()))
        }
    }
}

/// A certificate (RFC 5280) of a TLS key for `host`, signed by itself: both ends of a connection with ourselves, in
/// `headwater-agent selftest`. It is valid from 1970 on without an end, so that a clock that was never set does not matter.
///
/// # Errors
/// [`RequestError::Key`] if it is no P-256 key.
pub fn self_signed(host: &str, pkcs8: &[u8], random: &dyn SecureRandom) -> Result<Vec<u8>, RequestError> {
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8, random)
        .map_err(|_| SignError::Key)?;
    let algorithm = der(SEQUENCE, &[OID_ECDSA_SHA256]);
    let common_name = der(SEQUENCE, &[OID_COMMON_NAME, &der(UTF8_STRING, &[host.as_bytes()])]);
    let name = der(SEQUENCE, &[&der(SET, &[&common_name])]);
    // Section 4.1.2.5: years from 2050 on are GeneralizedTime, and 9999 has no end.
    let validity = der(SEQUENCE, &[&der(0x17, &[b"700101000000Z"]), &der(0x18, &[b"99991231235959Z"])]);
    let names = der(SEQUENCE, &[&der(0x82, &[host.as_bytes()])]);
    let extension = der(SEQUENCE, &[OID_SUBJECT_ALT_NAME, &der(0x04, &[&names])]);
    let extensions = der(0xa3, &[&der(SEQUENCE, &[&extension])]);
    let (version, serial) = (&[0xa0, 0x03, 0x02, 0x01, 0x02], &[0x02, 0x01, 0x01]);
    let key = key_info(KeyUse::Tls, pair.public_key().as_ref());
    let certificate = der(
        SEQUENCE,
        &[version.as_slice(), serial.as_slice(), &algorithm, &name, &validity, &name, &key, &extensions],
    );
    let signature = pair.sign(random, &certificate).map_err(|_| SignError::Key)?;
    Ok(signed(&certificate, &algorithm, signature.as_ref()))
}

/// A request that was read, its signature checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requested {
    /// Whom it names.
    pub name: DeviceId,
    /// The public key's bits: an uncompressed point, or 32 bytes.
    pub public_key: Vec<u8>,
}

/// Reads a request (DER) for a key of this use.
///
/// # Errors
/// [`RequestError`] names the first check that failed.
pub fn read_request(bytes: &[u8], key_use: KeyUse) -> Result<Requested, RequestError> {
    let malformed = |why: &str| RequestError::Malformed(why.to_owned());
    if bytes.len() > REQUEST_BYTES_MAX {
        return Err(malformed("it is too long"));
    }
    let (rest, request) =
        X509CertificationRequest::from_der(bytes).map_err(|error| malformed(&error.to_string()))?;
    if !rest.is_empty() {
        return Err(malformed("bytes follow it"));
    }
    request.verify_signature().map_err(|_| RequestError::Signature)?;
    let info = &request.certification_request_info;
    let public_key = info.subject_pki.subject_public_key.data.to_vec();
    if info.subject_pki.raw != key_info(key_use, &public_key) {
        return Err(RequestError::Use(key_use));
    }
    let name = info.subject.iter_common_name().next().and_then(|name| name.as_str().ok());
    let name = name.and_then(|name| name.parse().ok()).ok_or(RequestError::Name)?;
    Ok(Requested { name, public_key })
}

/// PEM (RFC 7468) of `der`, such as `pem("CERTIFICATE REQUEST", …)`.
#[must_use]
pub fn pem(label: &str, der: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in der.chunks(48) {
        for three in line.chunks(3) {
            let bits =
                three.iter().chain([&0, &0]).take(3).fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
            for place in 0..4_usize {
                let digit = bits >> (18_usize.saturating_sub(place.saturating_mul(6))) & 63;
                let digit = usize::try_from(digit).ok().and_then(|digit| DIGITS.get(digit)).copied();
                text.push(if place > three.len() { '=' } else { digit.map_or('=', char::from) });
            }
        }
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

/// `CertificationRequestInfo`: version 0, the name, the key, no attributes.
fn info(key_use: KeyUse, name: &DeviceId, public_key: &[u8]) -> Vec<u8> {
    let common_name = der(SEQUENCE, &[OID_COMMON_NAME, &der(UTF8_STRING, &[name.as_str().as_bytes()])]);
    let subject = der(SEQUENCE, &[&der(SET, &[&common_name])]);
    der(SEQUENCE, &[&[0x02, 0x01, 0x00], &subject, &key_info(key_use, public_key), &[0xa0, 0x00]])
}

/// `SubjectPublicKeyInfo`.
fn key_info(key_use: KeyUse, public_key: &[u8]) -> Vec<u8> {
    let algorithm = match key_use {
        KeyUse::Tls => der(SEQUENCE, &[OID_EC_PUBLIC_KEY, OID_P256]),
        KeyUse::Sign => der(SEQUENCE, &[OID_ED25519]),
    };
    der(SEQUENCE, &[&algorithm, &der(BIT_STRING, &[&[0], public_key])])
}

fn signed(info: &[u8], algorithm: &[u8], signature: &[u8]) -> Vec<u8> {
    der(SEQUENCE, &[info, algorithm, &der(BIT_STRING, &[&[0], signature])])
}

/// One DER element; requests are far below the 64 KiB that two length bytes can say.
fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length = parts.iter().map(|part| part.len()).sum::<usize>();
    let mut out = vec![tag];
    match u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes() {
        [0, low] if low < 0x80 => out.push(low),
        [0, low] => out.extend([0x81, low]),
        [high, low] => out.extend([0x82, high, low]),
    }
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::SigningKey;
    use ring::rand::SystemRandom;
    use rustls_pki_types::pem::PemObject;
    use rustls_pki_types::{CertificateSigningRequestDer, PrivateKeyDer};

    fn name() -> DeviceId {
        "pi-1".parse().unwrap()
    }

    #[test]
    fn requests_read_back_with_their_key_and_name() {
        for (key_use, bits) in [(KeyUse::Tls, 65), (KeyUse::Sign, 32)] {
            let new = new_key(key_use, &name(), &SystemRandom::new()).unwrap();
            let read = read_request(&new.request, key_use).unwrap();
            assert_eq!((read.name, read.public_key.len()), (name(), bits));
            let other = if key_use == KeyUse::Tls { KeyUse::Sign } else { KeyUse::Tls };
            assert_eq!(read_request(&new.request, other), Err(RequestError::Use(other)));
            let again = request(key_use, &name(), &new.pkcs8, &SystemRandom::new()).unwrap();
            assert_eq!(read_request(&again, key_use).unwrap().public_key, read.public_key);
        }
    }

    #[test]
    fn a_signing_key_is_one_of_ours() {
        let new = new_key(KeyUse::Sign, &name(), &SystemRandom::new()).unwrap();
        let key = SigningKey::from_pkcs8(&new.pkcs8).unwrap();
        let read = read_request(&new.request, KeyUse::Sign).unwrap();
        assert_eq!(key.verifying_key().unwrap().raw().as_slice(), read.public_key);
    }

    #[test]
    fn a_self_signed_certificate_names_its_host_and_holds_by_its_own_key() {
        let new = new_key(KeyUse::Tls, &name(), &SystemRandom::new()).unwrap();
        let bytes = self_signed("localhost", &new.pkcs8, &SystemRandom::new()).unwrap();
        let (rest, read) = x509_parser::parse_x509_certificate(&bytes).unwrap();
        assert!(rest.is_empty());
        read.verify_signature(None).unwrap();
        assert_eq!(read.validity().not_before.timestamp(), 0);
        assert_eq!(read.validity().not_after.timestamp(), 253_402_300_799);
        let names = &read.subject_alternative_name().unwrap().unwrap().value.general_names;
        assert_eq!(names.as_slice(), [x509_parser::extensions::GeneralName::DNSName("localhost")]);
        let signing = new_key(KeyUse::Sign, &name(), &SystemRandom::new()).unwrap();
        assert!(self_signed("localhost", &signing.pkcs8, &SystemRandom::new()).is_err());
    }

    #[test]
    fn damage_is_refused() {
        let new = new_key(KeyUse::Sign, &name(), &SystemRandom::new()).unwrap();
        let sound = read_request(&new.request, KeyUse::Sign).unwrap();
        for at in 0..new.request.len() {
            let mut other = new.request.clone();
            other[at] ^= 1;
            // A few bytes beside the signed ones mean nothing.
            if let Ok(read) = read_request(&other, KeyUse::Sign) {
                assert_eq!(read, sound, "byte {at}");
            }
            assert!(read_request(&new.request[..at], KeyUse::Sign).is_err(), "cut at {at}");
        }
        assert!(read_request(&vec![0x30; REQUEST_BYTES_MAX + 1], KeyUse::Sign).is_err());
    }

    #[test]
    fn pem_of_any_length_reads_back() {
        for length in 0..200_usize {
            let bytes: Vec<u8> = (0..length).map(|n| n.wrapping_mul(37).to_le_bytes()[0]).collect();
            let text = pem("CERTIFICATE REQUEST", &bytes);
            let read = CertificateSigningRequestDer::from_pem_slice(text.as_bytes()).unwrap();
            assert_eq!(read.as_ref(), bytes);
        }
        let new = new_key(KeyUse::Tls, &name(), &SystemRandom::new()).unwrap();
        assert!(PrivateKeyDer::from_pem_slice(pem("PRIVATE KEY", &new.pkcs8).as_bytes()).is_ok());
    }
}

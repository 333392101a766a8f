//! What a certificate says of itself, for people who look why another end is not trusted.

use super::chain::ChainError;
use crate::time::{NS_PER_S, UtcNanos};
use core::net::IpAddr;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::time::ASN1Time;

/// Names and dates, not verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFacts {
    /// DNS names and addresses it is for, else its subject's common name.
    pub names: Vec<String>,
    /// Start of validity.
    pub not_before: UtcNanos,
    /// End of validity.
    pub not_after: UtcNanos,
}

/// Reads a certificate (DER) without verifying it.
///
/// # Errors
/// [`ChainError::Malformed`].
pub fn certificate_facts(certificate: &[u8]) -> Result<CertificateFacts, ChainError> {
    let (_, certificate) =
        X509Certificate::from_der(certificate).map_err(|error| ChainError::Malformed(error.to_string()))?;
    let at = |time: ASN1Time| UtcNanos(time.timestamp().saturating_mul(NS_PER_S));
    let alternative = certificate.subject_alternative_name().ok().flatten();
    let mut names: Vec<String> = alternative
        .iter()
        .flat_map(|extension| &extension.value.general_names)
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            GeneralName::IPAddress(bytes) => address(bytes),
            _ => None,
        })
        .collect();
    if names.is_empty() {
        let common = certificate.subject().iter_common_name();
        names.extend(common.filter_map(|name| name.as_str().ok()).map(str::to_owned));
    }
    let validity = certificate.validity();
    Ok(CertificateFacts { names, not_before: at(validity.not_before), not_after: at(validity.not_after) })
}

fn address(bytes: &[u8]) -> Option<String> {
    let v4 = <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from);
    v4.or_else(|| <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)).map(|address| address.to_string())
}

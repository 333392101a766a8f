//! Certificate chains: what a hello carries, up to the fleet's root.

use crate::outcome;
use crate::probe::Probe;
use headwater_core::time::{NS_PER_S, UtcNanos};
use headwater_core::wire::chain::{FleetRoots, Role, verify_chain};
use headwater_core::wire::primitives::{Reader, put_bytes};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, PKCS_ED25519,
};
use std::sync::LazyLock;

const NOW: UtcNanos = UtcNanos(1_790_000_000 * NS_PER_S);

/// Roots, and the leaves of a device and a collector. Keys are fresh in each process: rcgen has no seed.
static FLEET: LazyLock<(FleetRoots, [Vec<u8>; 2])> =
    LazyLock::new(|| made().expect("rcgen makes certificates"));

fn made() -> Result<(FleetRoots, [Vec<u8>; 2]), rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec![])?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = params.self_signed(&key)?.der().to_vec();
    let issuer = Issuer::new(params, key);
    let leaf = |name: &str, usage| -> Result<Vec<u8>, rcgen::Error> {
        let key = KeyPair::generate_for(&PKCS_ED25519)?;
        let mut params = CertificateParams::new(vec![])?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.distinguished_name.push(DnType::OrganizationName, "acme");
        params.extended_key_usages = vec![usage];
        Ok(params.signed_by(&key, &issuer)?.der().to_vec())
    };
    let device = leaf("pi-1", ExtendedKeyUsagePurpose::ClientAuth)?;
    let collector = leaf("hq", ExtendedKeyUsagePurpose::ServerAuth)?;
    Ok((FleetRoots::new(&[root]).expect("a root of ours"), [device, collector]))
}

/// First byte: role; then certificates as in the record of a hello, without their count.
pub(super) fn run(input: &[u8], probe: &mut Probe) -> u64 {
    let (roots, leaves) = &*FLEET;
    let mut reader = Reader::new(input);
    let role = if reader.u8().unwrap_or(0) & 1 == 0 { Role::Device } else { Role::Collector };
    let mut chain = Vec::new();
    while chain.len() < 4
        && let Ok(certificate) = reader.bytes(8 * 1024)
    {
        chain.push(certificate.to_vec());
    }
    let verified = probe.decode(|| verify_chain(&chain, roots, role, NOW));
    if verified.is_ok() {
        assert!(chain.first().is_some_and(|leaf| leaves.contains(leaf)), "a forged certificate verifies");
    }
    outcome(&[&verified.map(|signer| signer.role).map_err(|error| error.to_string())])
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let (_, leaves) = &*FLEET;
    let mut all = Vec::new();
    for role in 0..2 {
        for leaf in leaves {
            let mut seed = vec![role];
            put_bytes(&mut seed, leaf);
            all.push(seed.clone());
            put_bytes(&mut seed, &leaves[0]);
            all.push(seed);
        }
    }
    all
}

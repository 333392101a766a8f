//! Who is who: one root, a few gateways and a collector, the same in every world. Keys and certificates follow from
//! fixed numbers, so that messages are byte for byte the same in each run of a seed.

use headwater_core::id::{DevicePath, TenantId};
use headwater_core::wire::SigningKey;
use headwater_core::wire::chain::FleetRoots;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use std::sync::{Arc, OnceLock};

/// Gateways there are certificates for: the most a plan has.
pub(super) const GATEWAYS_MAX: usize = 3;
const TENANT: &str = "acme";

/// A name with what it signs with.
pub(super) struct Signer {
    pub(super) path: DevicePath,
    pub(super) pkcs8: Vec<u8>,
    pub(super) chain: Vec<Vec<u8>>,
}

impl Signer {
    pub(super) fn key(&self) -> SigningKey {
        SigningKey::from_pkcs8(&self.pkcs8).expect("made by this file")
    }
}

pub(super) struct Fleet {
    pub(super) roots: FleetRoots,
    pub(super) gateways: Vec<Signer>,
    pub(super) collector: Signer,
}

pub(super) fn tenant() -> TenantId {
    TENANT.parse().expect("a valid name")
}

/// An Ed25519 key of a fixed number, in PKCS #8 (RFC 8410).
fn pkcs8(n: u8) -> Vec<u8> {
    let mut der =
        vec![0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
    der.extend_from_slice(&[n; 32]);
    der
}

fn params(serial: u8) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.serial_number = Some(vec![serial].into());
    params
}

/// The fleet; made once in a process.
pub(super) fn fleet() -> &'static Arc<Fleet> {
    static FLEET: OnceLock<Arc<Fleet>> = OnceLock::new();
    FLEET.get_or_init(|| Arc::new(make()))
}

fn make() -> Fleet {
    let key = |n: u8| KeyPair::try_from(pkcs8(n)).expect("a valid key");
    let mut of_root = params(1);
    of_root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = of_root.self_signed(&key(1)).expect("signs").der().to_vec();
    let issuer = Issuer::new(of_root, key(1));
    let signer = |n: u8, name: &str, usage: ExtendedKeyUsagePurpose| {
        let mut of_one = params(n);
        of_one.distinguished_name.push(DnType::CommonName, name);
        of_one.distinguished_name.push(DnType::OrganizationName, TENANT);
        of_one.extended_key_usages = vec![usage];
        let der = of_one.signed_by(&key(n), &issuer).expect("signs").der().to_vec();
        let path = DevicePath { tenant: tenant(), device: name.parse().expect("a valid name") };
        Signer { path, pkcs8: pkcs8(n), chain: vec![der] }
    };
    let numbers = (10_u8..).take(GATEWAYS_MAX);
    Fleet {
        roots: FleetRoots::new(&[root]).expect("a valid root"),
        gateways: numbers
            .map(|n| signer(n, &format!("pi-{n}"), ExtendedKeyUsagePurpose::ClientAuth))
            .collect(),
        collector: signer(2, "hq", ExtendedKeyUsagePurpose::ServerAuth),
    }
}

//! A root, devices with keys, and messages of theirs, for the tests of this stage.

use super::{Admission, Now};
use crate::registry::Registry;
use headwater_core::batch::{Column, Effort, Rows, Section, StreamRef, encode_batch};
use headwater_core::id::{BootId, BootOrdinal, DevicePath, Epoch, Seq, StreamId};
use headwater_core::schema::{Field, Logical, Modality, Schema};
use headwater_core::time::{BootNanos, ClockDomain, NS_PER_S, StampKind, UtcNanos};
use headwater_core::wire::chain::FleetRoots;
use headwater_core::wire::{
    Capabilities, Declaration, Hello, Lane, MessageKind, Sent, SigningKey, Topic, Unsigned,
};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ED25519,
};

pub(crate) const EPOCH: Epoch = Epoch(7);

pub(crate) fn now(ms: i64) -> Now {
    Now { boot: BootNanos(ms * 1_000_000), utc: UtcNanos(1_790_000_000 * NS_PER_S + ms * 1_000_000) }
}

pub(crate) fn path(device: &str) -> DevicePath {
    DevicePath { tenant: "acme".parse().unwrap(), device: device.parse().unwrap() }
}

pub(crate) struct Ca {
    issuer: Issuer<'static, KeyPair>,
    /// The root's.
    pub(crate) der: Vec<u8>,
    /// CAs from this one up to below the root.
    chain: Vec<Vec<u8>>,
}

impl Ca {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let der = params.self_signed(&key).unwrap().der().to_vec();
        Self { issuer: Issuer::new(params, key), der, chain: Vec::new() }
    }

    /// A CA of this name below this one.
    pub(crate) fn site(&self, name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let chain = vec![params.signed_by(&key, &self.issuer).unwrap().der().to_vec()];
        Self { issuer: Issuer::new(params, key), der: self.der.clone(), chain }
    }

    pub(crate) fn admission(&self) -> Admission {
        Admission {
            tenant: "acme".parse().unwrap(),
            roots: FleetRoots::new(std::slice::from_ref(&self.der)).unwrap(),
            registry: Registry::new(),
        }
    }

    /// A device of tenant `o`, valid to the year `until`.
    pub(crate) fn device_until(&self, cn: &str, o: &str, until: i32) -> Device {
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.distinguished_name.push(DnType::CommonName, cn);
        params.distinguished_name.push(DnType::OrganizationName, o);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        let der = params.signed_by(&key, &self.issuer).unwrap().der().to_vec();
        let key = SigningKey::from_pkcs8(key.serialized_der()).unwrap();
        let chain = [vec![der], self.chain.clone()].concat();
        Device { path: path(cn), key, chain, sent: std::cell::Cell::new(0) }
    }

    pub(crate) fn device(&self, cn: &str) -> Device {
        self.device_until(cn, "acme", 2090)
    }

    /// This CA's list in which these devices' certificates are revoked.
    pub(crate) fn revoke(&self, devices: &[&Device]) -> headwater_core::wire::revocation::RevocationList {
        let day = rcgen::date_time_ymd(2026, 11, 28);
        let entry = |device: &&Device| {
            let roots = FleetRoots::new(std::slice::from_ref(&self.der)).unwrap();
            let signer = headwater_core::wire::chain::verify_chain(
                &device.chain,
                &roots,
                headwater_core::wire::chain::Role::Device,
                now(0).utc,
            );
            let serial = signer.unwrap().serial;
            let bytes: Vec<u8> = (0..serial.len() / 2)
                .map(|n| u8::from_str_radix(&serial[2 * n..2 * n + 2], 16).unwrap())
                .collect();
            rcgen::RevokedCertParams {
                serial_number: rcgen::SerialNumber::from_slice(&bytes),
                revocation_time: day,
                reason_code: Some(rcgen::RevocationReason::KeyCompromise),
                invalidity_date: None,
            }
        };
        let params = rcgen::CertificateRevocationListParams {
            this_update: day,
            next_update: rcgen::date_time_ymd(2036, 11, 28),
            crl_number: rcgen::SerialNumber::from_slice(&[1]),
            issuing_distribution_point: None,
            revoked_certs: devices.iter().map(entry).collect(),
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        let der = params.signed_by(&self.issuer).unwrap().der().to_vec();
        let roots = std::slice::from_ref(&self.der);
        headwater_core::wire::revocation::RevocationList::read(&[der], roots, &self.chain).unwrap()
    }

    /// A collector's key and chain.
    pub(crate) fn collector(&self) -> (SigningKey, Vec<Vec<u8>>) {
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "hq");
        params.distinguished_name.push(DnType::OrganizationName, "acme");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let der = params.signed_by(&key, &self.issuer).unwrap().der().to_vec();
        (SigningKey::from_pkcs8(key.serialized_der()).unwrap(), vec![der])
    }
}

pub(crate) struct Device {
    pub(crate) path: DevicePath,
    pub(crate) key: SigningKey,
    pub(crate) chain: Vec<Vec<u8>>,
    pub(crate) sent: std::cell::Cell<i64>,
}

impl Device {
    pub(crate) fn owner(&self) -> (DevicePath, Epoch) {
        (self.path.clone(), EPOCH)
    }

    pub(crate) fn topic(&self) -> String {
        Topic::In { device: self.path.clone(), lane: Lane::LiveTelemetry }.to_string()
    }

    pub(crate) fn sign(&self, kind: MessageKind, body: &[u8]) -> Vec<u8> {
        self.sent.set(self.sent.get() + 1);
        self.sign_at(kind, body, self.sent.get())
    }

    pub(crate) fn sign_at(&self, kind: MessageKind, body: &[u8], sent: i64) -> Vec<u8> {
        let sent = Sent { boot_ordinal: 1, ns: sent };
        Unsigned::new(kind, &self.path, EPOCH, body).unwrap().sign(sent, &self.key)
    }

    pub(crate) fn hello_body(&self, nonce: u8) -> Vec<u8> {
        Hello {
            boot_ordinal: BootOrdinal(1),
            boot_id: BootId([2; 16]),
            capabilities: Capabilities::ours("test"),
            message_bytes_max: 98_304,
            streams: vec![],
            chain: self.chain.clone(),
            nonce: [nonce; 16],
        }
        .to_body()
    }

    pub(crate) fn hello(&self, nonce: u8) -> Vec<u8> {
        self.sign(MessageKind::Hello, &self.hello_body(nonce))
    }

    pub(crate) fn declaration(&self, stream: u16, name: &str, schema: &Schema) -> Vec<u8> {
        let declaration =
            Declaration { stream: StreamId(stream), name: name.parse().unwrap(), schema: schema.clone() };
        self.sign(MessageKind::Declaration, &declaration.to_body())
    }

    pub(crate) fn batch(&self, rows: Vec<Rows>) -> Vec<u8> {
        let sections: Vec<Section> = rows.into_iter().map(Section::Rows).collect();
        self.sign(MessageKind::Batch, &encode_batch(&sections, Effort::Wire))
    }
}

pub(crate) fn numbers() -> Schema {
    Schema {
        salt: 0,
        kind: "imu".parse().unwrap(),
        modality: Modality::Scalars,
        time_exp: 3,
        fields: vec![Field {
            name: "ax".parse().unwrap(),
            logical: Logical::I64,
            nullable: false,
            unit: "1".into(),
        }],
    }
}

pub(crate) fn rows(stream: u16, schema: &Schema, first: u64, fields: Vec<Column>) -> Rows {
    let n = fields.first().map_or(0, Column::len);
    Rows {
        stream: StreamRef::Id(StreamId(stream)),
        fingerprint: schema.fingerprint(),
        boot_ordinal: BootOrdinal(1),
        first_seq: Seq(first),
        time_exp: schema.time_exp,
        stamp_kind: StampKind::Arrival,
        domain: ClockDomain::BOOT,
        t: vec![5; n],
        lat_lo: vec![0; n],
        lat_hi: vec![9; n],
        fields,
    }
}

/// `n` rows of [`numbers`].
pub(crate) fn number_rows(stream: u16, first: u64, n: u64) -> Rows {
    let values = (0..n).map(|i| i64::try_from(first + i).unwrap()).collect();
    rows(stream, &numbers(), first, vec![Column::integers(values)])
}

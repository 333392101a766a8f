//! Certificates, rows and a spool in memory, for the tests of shipping.

use crate::ship::{ShipIdentity, ShipSpool};
use headwater_core::batch::{Column, Rows, StreamRef, Values};
use headwater_core::id::{BootId, BootOrdinal, DevicePath, Epoch, Seq, StreamId};
use headwater_core::interval::IntervalSet;
use headwater_core::ports::{
    Cursor, Position, Slab, SlabTime, SpoolError, SpoolLane, SpooledSlab, StreamState,
};
use headwater_core::sample::{Blob, BlobRef, Value};
use headwater_core::schema::{Field, Logical, Modality, Schema, builtin};
use headwater_core::time::{ClockDomain, StampKind, UtcNanos};
use headwater_core::wire::SigningKey;
use headwater_core::wire::chain::FleetRoots;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ED25519,
};
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

/// Inside every test certificate's validity (rcgen: 1975 to 4096).
pub(super) const UTC: UtcNanos = UtcNanos(1_790_000_000_000_000_000);
pub(in crate::ship) const EPOCH: Epoch = Epoch(0x0e0c);

pub(super) struct Fleet {
    issuer: Issuer<'static, KeyPair>,
    pub(super) roots: FleetRoots,
}

pub(super) struct Signer {
    pub(super) key: Arc<SigningKey>,
    pub(super) chain: Vec<Vec<u8>>,
}

impl Fleet {
    pub(super) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let der = params.self_signed(&key).unwrap().der().to_vec();
        Self { issuer: Issuer::new(params, key), roots: FleetRoots::new(&[der]).unwrap() }
    }

    fn signer(&self, tenant: &str, name: &str, usage: ExtendedKeyUsagePurpose) -> Signer {
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.distinguished_name.push(DnType::OrganizationName, tenant);
        params.extended_key_usages = vec![usage];
        let der = params.signed_by(&key, &self.issuer).unwrap().der().to_vec();
        let signing = SigningKey::from_pkcs8(&key.serialize_der()).unwrap();
        Signer { key: Arc::new(signing), chain: vec![der] }
    }

    pub(super) fn collector(&self) -> Signer {
        self.signer("acme", "hq", ExtendedKeyUsagePurpose::ServerAuth)
    }

    pub(super) fn other_tenants_collector(&self) -> Signer {
        self.signer("rival", "hq", ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A device's certificate must not sign acks.
    pub(super) fn device_signer(&self) -> Signer {
        self.signer("acme", "pi-2", ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// The fleet's list (CRL, DER) in which these certificates are revoked.
    pub(super) fn revocation_list(&self, number: u8, chains: &[&Vec<Vec<u8>>]) -> Vec<u8> {
        use headwater_core::wire::chain::{Role, verify_chain};
        let day = rcgen::date_time_ymd(2026, 11, 28);
        let entry = |chain: &&Vec<Vec<u8>>| {
            let roles = [Role::Collector, Role::Device];
            let signer = roles.iter().find_map(|role| verify_chain(chain, &self.roots, *role, UTC).ok());
            let serial = signer.unwrap().serial;
            let digits: Vec<u8> = (0..serial.len() / 2)
                .map(|n| u8::from_str_radix(&serial[2 * n..2 * n + 2], 16).unwrap())
                .collect();
            rcgen::RevokedCertParams {
                serial_number: rcgen::SerialNumber::from_slice(&digits),
                revocation_time: day,
                reason_code: Some(rcgen::RevocationReason::KeyCompromise),
                invalidity_date: None,
            }
        };
        let params = rcgen::CertificateRevocationListParams {
            this_update: day,
            next_update: rcgen::date_time_ymd(2036, 11, 28),
            crl_number: rcgen::SerialNumber::from_slice(&[number]),
            issuing_distribution_point: None,
            revoked_certs: chains.iter().map(entry).collect(),
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().der().to_vec()
    }

    pub(super) fn device(&self) -> ShipIdentity {
        let signer = self.signer("acme", "pi-1", ExtendedKeyUsagePurpose::ClientAuth);
        ShipIdentity {
            path: path(),
            epoch: EPOCH,
            boot_ordinal: BootOrdinal(3),
            boot_id: BootId([4; 16]),
            key: signer.key,
            chain: signer.chain,
            roots: self.roots.clone(),
            software: "headwater-agent test".into(),
        }
    }
}

pub(super) fn path() -> DevicePath {
    DevicePath { tenant: "acme".parse().unwrap(), device: "pi-1".parse().unwrap() }
}

pub(super) fn scalar_schema() -> Schema {
    let field = |name: &str, logical| Field {
        name: name.parse().unwrap(),
        logical,
        nullable: false,
        unit: "1".into(),
    };
    Schema {
        salt: 0,
        kind: "walk".parse().unwrap(),
        modality: Modality::Scalars,
        time_exp: 3,
        fields: vec![field("x", Logical::F64), field("n", Logical::I64)],
    }
}

/// Content follows from identity alone, so that a changed row is seen.
pub(in crate::ship) fn scalar_rows(stream: u16, seqs: std::ops::Range<u64>) -> Rows {
    let x = |seq: u64| (seq.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(stream)) as f64;
    Rows {
        stream: StreamRef::Id(StreamId(stream)),
        fingerprint: scalar_schema().fingerprint(),
        boot_ordinal: BootOrdinal(3),
        first_seq: Seq(seqs.start),
        time_exp: 3,
        stamp_kind: StampKind::Instant,
        domain: ClockDomain::BOOT,
        t: seqs.clone().map(|seq| seq as i64 * 4_000).collect(),
        lat_lo: seqs.clone().map(|_| 0).collect(),
        lat_hi: seqs.clone().map(|_| 1_000_000).collect(),
        fields: vec![
            Column { values: Values::F64(seqs.clone().map(x).collect()), valid: None },
            Column::integers(seqs.map(|seq| seq as i64).collect()),
        ],
    }
}

/// A picture's row and its bytes.
pub(super) fn picture(stream: u16, seq: u64, len: usize) -> Slab {
    let mut state = seq.wrapping_add(77);
    let bytes: Vec<u8> = (0..len)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .collect();
    let mut fields: Vec<Column> =
        builtin::image().fields.iter().map(|field| Column::new(field.logical.physical())).collect();
    let values = [
        BlobRef::to(&bytes).to_value(),
        Value::Utf8("image/jpeg".into()),
        Value::I64(64),
        Value::I64(48),
        Value::Null,
    ];
    for (column, value) in fields.iter_mut().zip(&values) {
        assert!(column.push(value));
    }
    let rows =
        Rows { fingerprint: builtin::image().fingerprint(), fields, ..scalar_rows(stream, seq..seq + 1) };
    Slab { rows, blob: Some(Blob { mime: "image/jpeg".into(), bytes: bytes.into() }), arrived: None }
}

#[derive(Debug)]
struct Inner {
    streams: Vec<StreamState>,
    slabs: Vec<(SpoolLane, Slab)>,
    read: u64,
    notes: std::collections::BTreeMap<&'static str, Vec<u8>>,
}

/// A spool in memory, honest about what may be trimmed.
#[derive(Debug, Clone)]
pub(super) struct ModelSpool {
    inner: Arc<Mutex<Inner>>,
    synced: watch::Sender<u64>,
}

impl ModelSpool {
    pub(super) fn new() -> Self {
        let inner = Inner { streams: Vec::new(), slabs: Vec::new(), read: 0, notes: Default::default() };
        Self { inner: Arc::new(Mutex::new(inner)), synced: watch::channel(0).0 }
    }

    pub(super) fn declare(&self, id: u16, name: &str, schema: Schema, lane: SpoolLane) {
        self.inner.lock().unwrap().streams.push(StreamState {
            id: StreamId(id),
            name: name.parse().unwrap(),
            schema,
            policy: lane.into(),
            next_seq: Seq(0),
            held: IntervalSet::new(),
            acked: IntervalSet::new(),
        });
    }

    /// Appends a durable slab.
    pub(super) fn append(&self, slab: Slab) {
        let mut inner = self.inner.lock().unwrap();
        let StreamRef::Id(id) = slab.rows.stream else { panic!("id") };
        let stream = inner.streams.iter_mut().find(|s| s.id == id).unwrap();
        stream.next_seq = Seq(slab.rows.seqs().end);
        stream.held.insert(slab.rows.seqs());
        let lane = stream.policy.lane;
        inner.slabs.push((lane, slab));
    }

    pub(super) fn sync(&self) {
        self.synced.send_modify(|n| *n += 1);
    }

    pub(super) fn states(&self) -> Vec<StreamState> {
        self.inner.lock().unwrap().streams.clone()
    }

    /// Rows not yet released.
    pub(super) fn rows_held(&self) -> u64 {
        self.inner.lock().unwrap().streams.iter().map(|s| s.held.count()).sum()
    }

    pub(super) fn acked(&self, id: u16) -> IntervalSet {
        let inner = self.inner.lock().unwrap();
        inner.streams.iter().find(|s| s.id == StreamId(id)).unwrap().acked.clone()
    }

    pub(super) fn reads(&self) -> u64 {
        self.inner.lock().unwrap().read
    }

    pub(super) fn read_now(&self, lane: SpoolLane, after: Cursor, limit: usize) -> Vec<SpooledSlab> {
        let mut inner = self.inner.lock().unwrap();
        let mut out = Vec::new();
        let mut bytes = 0;
        let skip = usize::try_from(after.at(0).offset).unwrap();
        for (at, (its, slab)) in inner.slabs.iter().enumerate().skip(skip) {
            let StreamRef::Id(id) = slab.rows.stream else { panic!("id") };
            let stream = inner.streams.iter().find(|s| s.id == id).unwrap();
            if *its != lane || stream.acked.covers(slab.rows.seqs()) {
                continue;
            }
            bytes += slab.rows.n_values() * 8 + slab.blob.as_ref().map_or(0, |b| b.bytes.len());
            let next = Cursor::default().moved(0, Position { segno: 0, offset: at as u64 + 1 });
            out.push(SpooledSlab { epoch: EPOCH, slab: slab.clone(), older_schema: None, next });
            if bytes >= limit {
                break;
            }
        }
        inner.read += out.len() as u64;
        out
    }

    pub(super) fn trim_now(&self, acked: Vec<(StreamId, IntervalSet)>) {
        let mut inner = self.inner.lock().unwrap();
        for (id, set) in acked {
            let stream = inner.streams.iter_mut().find(|s| s.id == id).unwrap();
            assert!(set.end() <= stream.next_seq.0, "never more than was given out");
            set.iter().for_each(|range| stream.held.remove(range));
            stream.acked.union_with(&set);
        }
    }
}

impl ShipSpool for ModelSpool {
    fn epoch(&self) -> Epoch {
        EPOCH
    }

    async fn read(
        &self,
        lane: SpoolLane,
        after: Cursor,
        limit_bytes: usize,
    ) -> Result<Vec<SpooledSlab>, SpoolError> {
        Ok(self.read_now(lane, after, limit_bytes))
    }

    async fn seek(&self, _: SpoolLane, since: SlabTime) -> Result<Cursor, SpoolError> {
        let inner = self.inner.lock().unwrap();
        let young = |slab: &Slab| slab.time().is_some_and(|time| time >= since);
        let at = inner.slabs.iter().position(|(_, slab)| young(slab)).unwrap_or(inner.slabs.len());
        Ok(Cursor::default().moved(0, Position { segno: 0, offset: at as u64 }))
    }

    async fn stretch_before(&self, _: SpoolLane, before: Cursor, n: u64) -> Result<Cursor, SpoolError> {
        let at = before.at(0).offset.saturating_sub(n.div_ceil(1 << 20));
        Ok(Cursor::default().moved(0, Position { segno: 0, offset: at }))
    }

    async fn bytes_between(&self, _: SpoolLane, from: Cursor, until: Cursor) -> Result<u64, SpoolError> {
        Ok(until.at(0).offset.saturating_sub(from.at(0).offset))
    }

    async fn note(&self, key: &'static str, value: Vec<u8>) -> Result<(), SpoolError> {
        self.inner.lock().unwrap().notes.insert(key, value);
        Ok(())
    }

    async fn noted(&self, key: &'static str) -> Result<Option<Vec<u8>>, SpoolError> {
        Ok(self.inner.lock().unwrap().notes.get(key).cloned())
    }

    async fn trim(&self, acked: Vec<(StreamId, IntervalSet)>) -> Result<(), SpoolError> {
        self.trim_now(acked);
        Ok(())
    }

    async fn streams(&self) -> Result<Vec<StreamState>, SpoolError> {
        Ok(self.states())
    }

    fn synced(&self) -> watch::Receiver<u64> {
        self.synced.subscribe()
    }
}

/// The later of two cursors of the spool above.
pub(super) fn further(a: Cursor, b: Cursor) -> Cursor {
    if a.at(0) < b.at(0) { b } else { a }
}

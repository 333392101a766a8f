//! Ack: the collector's signed word on what is durable, committed, missing or refused.

use super::envelope::Sent;
use super::hello::Capabilities;
use super::primitives::{PrimitiveError, Reader, put_bytes, put_uv};
use super::records::{
    self, RecordError, TAG_ACK_STREAM, TAG_CAPABILITIES, TAG_CLOCK_REPLY, TAG_COLLECTOR_CHAIN, TAG_COMMIT,
    TAG_CREDIT, TAG_CREDIT_WAIT, TAG_INCARNATION, TAG_MISSING, TAG_NEED_HELLO, TAG_NEED_SCHEMA,
    TAG_NONCE_ECHO, TAG_REFUSED, TAG_REVOCATIONS, TAG_REVOKED, WatermarkRanges, for_each, put_chain,
    put_ranges, put_record, read_chain, read_ranges, read_stream_id,
};
use super::revocation::{REVOCATION_BYTES_SENT_MAX, REVOCATION_LISTS_MAX};
use crate::gap::truncated;
use crate::id::{IncarnationId, ObjectId, STREAMS_MAX, Seq, Sha256, StreamId};
use crate::schema::Fingerprint;
use crate::time::Grade;

/// Most ranges beyond a watermark in one ack.
pub const RANGES_MAX: usize = records::RANGES_MAX;
/// Most missing ranges of one object in one ack.
pub const MISSING_RANGES_MAX: usize = records::RANGES_MAX;
/// Longest text of a refusal, bytes.
pub(super) const REFUSAL_BYTES_MAX: usize = 128;
/// Most entries of each repeated record that a reader keeps.
pub(super) const ENTRIES_MAX: usize = 1024;

/// Watermarks of one stream: every seq below is durable, or committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AckStream {
    /// Stream.
    pub id: StreamId,
    /// All seqs below are in a synced landing log.
    pub durable_upto: Seq,
    /// All seqs below are in a published commit.
    pub committed_upto: Seq,
    /// Durable beyond the watermark.
    pub durable: WatermarkRanges,
    /// Committed beyond the watermark.
    pub committed: WatermarkRanges,
}

/// Byte ranges of an object that did not arrive yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Object.
    pub object: ObjectId,
    /// Its length, bytes.
    pub total_len: u64,
    /// What to send again.
    pub ranges: WatermarkRanges,
}

/// Why rows or a message were refused; codes of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefusalReason {
    /// Section: re-encode with the announced codecs.
    UnknownCodec,
    /// Section: resend once, then give up.
    DecodeError,
    /// Section: halve the rows.
    Limit,
    /// Section: declare again.
    SchemaMismatch,
    /// Section: raise the salt and declare anew.
    FingerprintCollision,
    /// Section: inadmissible, kept in quarantine and acked.
    Quarantine,
    /// Message: not one of ours.
    NotHeadwater,
    /// Message: newer protocol.
    UnsupportedMajor,
    /// Message: unknown kind.
    UnknownKind,
    /// Message: damaged.
    BadCrc,
    /// Message: false signature.
    BadSignature,
}

impl RefusalReason {
    const ALL: [(RefusalReason, u8); 11] = [
        (Self::UnknownCodec, 1),
        (Self::DecodeError, 2),
        (Self::Limit, 3),
        (Self::SchemaMismatch, 4),
        (Self::FingerprintCollision, 5),
        (Self::Quarantine, 6),
        (Self::NotHeadwater, 16),
        (Self::UnsupportedMajor, 17),
        (Self::UnknownKind, 18),
        (Self::BadCrc, 19),
        (Self::BadSignature, 20),
    ];

    /// Wire code.
    #[must_use]
    pub fn code(self) -> u8 {
        Self::ALL.iter().find(|(reason, _)| *reason == self).map_or(0, |(_, code)| *code)
    }

    /// Reads a wire code.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.iter().find(|(_, c)| *c == code).map(|(reason, _)| *reason)
    }
}

/// A reason with its words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Code.
    pub reason: RefusalReason,
    /// At most 128 bytes, for a person.
    pub text: String,
}

/// Rows that will not be taken as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Stream.
    pub stream: StreamId,
    /// First seq.
    pub seq_lo: Seq,
    /// Last seq, inclusive.
    pub seq_hi: Seq,
    /// Why.
    pub refusal: Refusal,
}

/// Four-stamp exchange: T1 echoed, T2 and T3 of the collector (T4 is read on arrival).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockReply {
    /// When the agent handed the answered message over.
    pub t1: Sent,
    /// UTC when it arrived, ns.
    pub t2_ns: i64,
    /// UTC when this ack was built, ns.
    pub t3_ns: i64,
    /// The collector's own bound, ns.
    pub e_c_ns: i64,
    /// Grade of the collector's clock.
    pub grade: Grade,
    /// Which clock answered (replica and its boot).
    pub source_id: u64,
}

/// Why a device gets no more credit for now; codes of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WaitReason {
    /// The fleet's credit is given out: its turn comes.
    Turn,
    /// The device used up what it may send in this time.
    DeviceQuota,
    /// Its tenant did.
    TenantQuota,
}

impl WaitReason {
    /// Wire code.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Turn => 1,
            Self::DeviceQuota => 2,
            Self::TenantQuota => 3,
        }
    }

    /// Reads a wire code. A device does the same whatever the reason, so one it does not know is a turn.
    #[must_use]
    pub fn from_code(code: u8) -> Self {
        match code {
            2 => Self::DeviceQuota,
            3 => Self::TenantQuota,
            _ => Self::Turn,
        }
    }

    /// Name in metrics and status.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Turn => "turn",
            Self::DeviceQuota => "device_quota",
            Self::TenantQuota => "tenant_quota",
        }
    }
}

/// The device is known to wait for credit: it has no reason to say hello for the lack of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CreditWait {
    /// Why.
    pub reason: WaitReason,
    /// For how long nothing may be heard of it, ms; told again before that is over.
    pub for_ms: u32,
}

/// One ack. Watermarks are cumulative, so any lost ack heals with the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    /// Which life of which receiver speaks.
    pub incarnation: IncarnationId,
    /// Grows with every ack of an incarnation.
    pub counter: u64,
    /// The hello this answers.
    pub nonce: Option<[u8; 16]>,
    /// What the collector can read.
    pub capabilities: Option<Capabilities>,
    /// Watermarks.
    pub streams: Vec<AckStream>,
    /// Holes of objects.
    pub missing: Vec<Missing>,
    /// Refused rows.
    pub refused: Vec<Refused>,
    /// Bytes the device may have sent since its hello, absolute.
    pub credit: Option<u64>,
    /// The device waits for more of it.
    pub wait: Option<CreditWait>,
    /// Newest commit that holds rows of this device.
    pub commit: Option<Sha256>,
    /// Clock exchange.
    pub clock: Option<ClockReply>,
    /// Declarations asked for.
    pub need_schema: Vec<(StreamId, Fingerprint)>,
    /// Collector's signing chain, leaf first; with `nonce`.
    pub chain: Option<Vec<Vec<u8>>>,
    /// The receiver does not know this device's key: say hello.
    pub need_hello: bool,
    /// The device's certificate counts no more, and why: nothing it sends is taken. At most 128 bytes, for a person.
    pub revoked: Option<String>,
    /// The fleet's revocation lists (CRLs, DER) that name collectors; with `nonce`. Their CAs signed them, so
    /// whoever passes them on cannot forge them.
    pub revocations: Vec<Vec<u8>>,
}

impl Ack {
    /// An ack that says nothing yet.
    #[must_use]
    pub fn new(incarnation: IncarnationId, counter: u64) -> Self {
        Self {
            incarnation,
            counter,
            nonce: None,
            capabilities: None,
            streams: Vec::new(),
            missing: Vec::new(),
            refused: Vec::new(),
            credit: None,
            wait: None,
            commit: None,
            clock: None,
            need_schema: Vec::new(),
            chain: None,
            need_hello: false,
            revoked: None,
            revocations: Vec::new(),
        }
    }

    /// Body bytes.
    #[must_use]
    pub fn to_body(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut incarnation = self.incarnation.0.to_vec();
        incarnation.extend_from_slice(&self.counter.to_le_bytes());
        put_record(&mut out, TAG_INCARNATION, &incarnation);
        if let Some(nonce) = &self.nonce {
            put_record(&mut out, TAG_NONCE_ECHO, nonce);
        }
        if let Some(capabilities) = &self.capabilities {
            capabilities.put(&mut out);
        }
        for stream in &self.streams {
            let mut body = Vec::new();
            put_uv(&mut body, stream.id.0.into());
            put_uv(&mut body, stream.durable_upto.0);
            put_uv(&mut body, stream.committed_upto.0);
            put_ranges(&mut body, stream.durable_upto.0, &stream.durable);
            put_ranges(&mut body, stream.committed_upto.0, &stream.committed);
            put_record(&mut out, TAG_ACK_STREAM, &body);
        }
        for missing in &self.missing {
            let mut body = missing.object.0.to_vec();
            body.extend_from_slice(&missing.total_len.to_le_bytes());
            put_ranges(&mut body, 0, &missing.ranges);
            put_record(&mut out, TAG_MISSING, &body);
        }
        for refused in &self.refused {
            let mut body = Vec::new();
            put_uv(&mut body, refused.stream.0.into());
            put_uv(&mut body, refused.seq_lo.0);
            put_uv(&mut body, refused.seq_hi.0);
            body.push(refused.refusal.reason.code());
            put_bytes(&mut body, truncated(&refused.refusal.text, REFUSAL_BYTES_MAX).as_bytes());
            put_record(&mut out, TAG_REFUSED, &body);
        }
        if let Some(credit) = self.credit {
            put_record(&mut out, TAG_CREDIT, &credit.to_le_bytes());
        }
        if let Some(wait) = &self.wait {
            let mut body = vec![wait.reason.code()];
            body.extend_from_slice(&wait.for_ms.to_le_bytes());
            put_record(&mut out, TAG_CREDIT_WAIT, &body);
        }
        if let Some(commit) = &self.commit {
            put_record(&mut out, TAG_COMMIT, &commit.0);
        }
        if let Some(clock) = &self.clock {
            let mut body = clock.t1.to_bytes().to_vec();
            [clock.t2_ns, clock.t3_ns, clock.e_c_ns]
                .iter()
                .for_each(|n| body.extend_from_slice(&n.to_le_bytes()));
            body.push(clock.grade.code());
            body.extend_from_slice(&clock.source_id.to_le_bytes());
            put_record(&mut out, TAG_CLOCK_REPLY, &body);
        }
        for (stream, fingerprint) in &self.need_schema {
            let mut body = Vec::new();
            put_uv(&mut body, stream.0.into());
            body.extend_from_slice(&fingerprint.0.to_le_bytes());
            put_record(&mut out, TAG_NEED_SCHEMA, &body);
        }
        if let Some(chain) = &self.chain {
            put_chain(&mut out, TAG_COLLECTOR_CHAIN, chain);
        }
        if self.need_hello {
            put_record(&mut out, TAG_NEED_HELLO, &[]);
        }
        if let Some(why) = &self.revoked {
            put_record(&mut out, TAG_REVOKED, truncated(why, REFUSAL_BYTES_MAX).as_bytes());
        }
        if !self.revocations.is_empty() {
            let mut body = Vec::new();
            put_uv(&mut body, self.revocations.len() as u64);
            self.revocations.iter().for_each(|list| put_bytes(&mut body, list));
            put_record(&mut out, TAG_REVOCATIONS, &body);
        }
        out
    }

    /// Reads a body.
    ///
    /// # Errors
    /// [`RecordError`] if a record is malformed, above a limit, or the incarnation is missing.
    pub fn from_body(body: &[u8]) -> Result<Self, RecordError> {
        let mut ack = Ack::new(IncarnationId([0; 16]), 0);
        let mut named = false;
        for_each(body, |tag, mut record| {
            match tag {
                TAG_INCARNATION => {
                    ack.incarnation = IncarnationId(record.array()?);
                    ack.counter = record.u64()?;
                    named = true;
                }
                TAG_NONCE_ECHO => ack.nonce = Some(record.array()?),
                TAG_CAPABILITIES => ack.capabilities = Some(Capabilities::read(&mut record)?),
                TAG_ACK_STREAM => push(&mut ack.streams, read_stream(&mut record)?, STREAMS_MAX.into())?,
                TAG_MISSING => {
                    let object = ObjectId(record.array()?);
                    let total_len = record.u64()?;
                    let missing = Missing { object, total_len, ranges: read_ranges(&mut record, 0)? };
                    push(&mut ack.missing, missing, ENTRIES_MAX)?;
                }
                TAG_REFUSED => push(&mut ack.refused, read_refused(&mut record)?, ENTRIES_MAX)?,
                TAG_CREDIT => ack.credit = Some(record.u64()?),
                TAG_CREDIT_WAIT => {
                    let reason = WaitReason::from_code(record.u8()?);
                    ack.wait = Some(CreditWait { reason, for_ms: record.u32()? });
                }
                TAG_COMMIT => ack.commit = Some(Sha256(record.array()?)),
                TAG_CLOCK_REPLY => ack.clock = Some(read_clock(&mut record)?),
                TAG_NEED_SCHEMA => {
                    let asked = (read_stream_id(&mut record)?, Fingerprint(record.u32()?));
                    push(&mut ack.need_schema, asked, ENTRIES_MAX)?;
                }
                TAG_COLLECTOR_CHAIN => ack.chain = Some(read_chain(record.take_rest())?),
                TAG_NEED_HELLO => ack.need_hello = true,
                TAG_REVOKED => {
                    let text = record.take_rest();
                    ack.revoked = Some(truncated(&String::from_utf8_lossy(text), REFUSAL_BYTES_MAX));
                }
                TAG_REVOCATIONS => ack.revocations = read_revocations(record.take_rest())?,
                _ => {}
            }
            Ok(())
        })?;
        if named { Ok(ack) } else { Err(RecordError::Missing("incarnation")) }
    }
}

fn push<T>(list: &mut Vec<T>, entry: T, limit: usize) -> Result<(), RecordError> {
    if list.len() >= limit {
        return Err(RecordError::Limit { what: "entries of an ack", limit });
    }
    list.push(entry);
    Ok(())
}

fn read_stream(record: &mut Reader<'_>) -> Result<AckStream, RecordError> {
    let id = read_stream_id(record)?;
    let (durable_upto, committed_upto) = (record.uv()?, record.uv()?);
    Ok(AckStream {
        id,
        durable_upto: Seq(durable_upto),
        committed_upto: Seq(committed_upto),
        durable: read_ranges(record, durable_upto)?,
        committed: read_ranges(record, committed_upto)?,
    })
}

fn read_refused(record: &mut Reader<'_>) -> Result<Refused, RecordError> {
    let stream = read_stream_id(record)?;
    let (seq_lo, seq_hi) = (record.uv()?, record.uv()?);
    let code = record.u8()?;
    let reason = RefusalReason::from_code(code).ok_or(PrimitiveError::Range(code.into()))?;
    let text = record.text(REFUSAL_BYTES_MAX)?.to_owned();
    Ok(Refused { stream, seq_lo: Seq(seq_lo), seq_hi: Seq(seq_hi), refusal: Refusal { reason, text } })
}

fn read_revocations(body: &[u8]) -> Result<Vec<Vec<u8>>, RecordError> {
    if body.len() > REVOCATION_BYTES_SENT_MAX {
        let limit = REVOCATION_BYTES_SENT_MAX;
        return Err(RecordError::Limit { what: "bytes of revocation lists", limit });
    }
    let mut reader = Reader::new(body);
    let n = reader.len(REVOCATION_LISTS_MAX)?;
    (0..n).map(|_| Ok(reader.bytes(REVOCATION_BYTES_SENT_MAX)?.to_vec())).collect()
}

fn read_clock(record: &mut Reader<'_>) -> Result<ClockReply, RecordError> {
    let t1 = Sent { boot_ordinal: record.u32()?, ns: record.i64()? };
    let (t2_ns, t3_ns, e_c_ns) = (record.i64()?, record.i64()?, record.i64()?);
    let grade = record.u8()?;
    let grade = Grade::from_code(grade).ok_or(PrimitiveError::Range(grade.into()))?;
    Ok(ClockReply { t1, t2_ns, t3_ns, e_c_ns, grade, source_id: record.u64()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Ack {
        Ack {
            nonce: Some([1; 16]),
            capabilities: Some(Capabilities::ours("collector")),
            streams: vec![AckStream {
                id: StreamId(2),
                durable_upto: Seq(100),
                committed_upto: Seq(50),
                durable: vec![110..120, 200..201],
                committed: vec![60..70, 80..90],
            }],
            missing: vec![Missing {
                object: ObjectId([9; 16]),
                total_len: 1000,
                ranges: vec![0..10, 500..1000],
            }],
            refused: vec![Refused {
                stream: StreamId(3),
                seq_lo: Seq(1),
                seq_hi: Seq(4),
                refusal: Refusal { reason: RefusalReason::Quarantine, text: "not an image".into() },
            }],
            credit: Some(1 << 20),
            wait: Some(CreditWait { reason: WaitReason::DeviceQuota, for_ms: 60_000 }),
            commit: Some(Sha256([4; 32])),
            clock: Some(ClockReply {
                t1: Sent { boot_ordinal: 1, ns: 2 },
                t2_ns: 3,
                t3_ns: 4,
                e_c_ns: 5,
                grade: Grade::Estimated,
                source_id: 6,
            }),
            need_schema: vec![(StreamId(1), Fingerprint(7))],
            chain: Some(vec![vec![8; 99]]),
            need_hello: true,
            revoked: Some("certificate 07 is revoked: key_compromise".into()),
            revocations: vec![vec![1; 300], vec![2; 5]],
            ..Ack::new(IncarnationId([2; 16]), 77)
        }
    }

    #[test]
    fn an_ack_reads_back_and_needs_its_incarnation() {
        let ack = full();
        assert_eq!(Ack::from_body(&ack.to_body()), Ok(ack));
        assert_eq!(Ack::from_body(&[]), Err(RecordError::Missing("incarnation")));
        let empty = Ack::new(IncarnationId([2; 16]), 1);
        assert_eq!(Ack::from_body(&empty.to_body()), Ok(empty));
    }

    #[test]
    fn truncations_and_flips_never_panic() {
        let body = full().to_body();
        for at in 0..body.len() {
            drop(Ack::from_body(&body[..at]));
            for bit in 0..8 {
                let mut other = body.clone();
                other[at] ^= 1 << bit;
                drop(Ack::from_body(&other));
            }
        }
    }

    #[test]
    fn only_sixteen_ranges_travel() {
        let durable: Vec<_> = (0..30_u64).map(|i| 10 + i * 10..15 + i * 10).collect();
        let mut ack = Ack::new(IncarnationId([2; 16]), 1);
        ack.streams.push(AckStream {
            id: StreamId(1),
            durable_upto: Seq(5),
            committed_upto: Seq(0),
            durable,
            committed: vec![],
        });
        let back = Ack::from_body(&ack.to_body()).unwrap();
        assert_eq!(back.streams[0].durable.len(), RANGES_MAX);
        assert_eq!(back.streams[0].durable[..], ack.streams[0].durable[..16]);
    }
}

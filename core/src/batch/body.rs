//! A batch as bytes: all small columns of all sections in one zstd frame.

use super::codec::ByteBudget;
use super::section::{Rows, Section, decode_section, encode_section};
use super::{Effort, Limits};
use crate::wire::primitives::{PrimitiveError, Reader, put_uv};

const STORED: u8 = 0;
const ZSTD: u8 = 1;
/// zstd level of messages; 19 is 10 to 150 times dearer for under 2 %.
const ZSTD_LEVEL_WIRE: i32 = 3;
/// Slabs are packed at level 1, and only from this size on: below it the frame header eats the gain.
const ZSTD_SPOOL_BYTES_MIN: usize = 512;

/// A batch that could not be read at all. Single bad sections are [`Section::Refused`] instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// The framing is malformed.
    #[error("batch is malformed")]
    Primitive(#[from] PrimitiveError),
    /// A way of packing this version does not know.
    #[error("batch is packed by unknown method {0}")]
    Packing(u8),
    /// The unpacked size is above its limit.
    #[error("batch unpacks to {claimed} bytes, limit {limit}")]
    TooLarge {
        /// Claimed.
        claimed: u64,
        /// Limit.
        limit: usize,
    },
    /// The zstd frame is damaged or not of the size it claims.
    #[error("zstd frame does not unpack to {claimed} bytes")]
    Zstd {
        /// Claimed.
        claimed: usize,
    },
}

/// The sections of one message.
#[derive(Debug, Clone)]
pub struct Batch {
    /// In the order they stand.
    pub sections: Vec<Section>,
}

impl Batch {
    /// The sections that hold rows.
    pub fn rows(&self) -> impl Iterator<Item = &Rows> {
        self.sections.iter().filter_map(|section| match section {
            Section::Rows(rows) => Some(rows),
            _ => None,
        })
    }
}

/// The body of a batch message, or of a slab.
#[must_use]
pub fn encode_batch(sections: &[Section], effort: Effort) -> Vec<u8> {
    let mut small = Vec::new();
    let written = sections.iter().filter(|section| !matches!(section, Section::Refused(_)));
    put_uv(&mut small, written.clone().count() as u64);
    written.for_each(|section| encode_section(&mut small, section));

    let level = match effort {
        Effort::Wire => Some(ZSTD_LEVEL_WIRE),
        Effort::Spool => (small.len() >= ZSTD_SPOOL_BYTES_MIN).then_some(1),
    };
    let packed = level.and_then(|level| zstd::bulk::compress(&small, level).ok());
    let mut out = Vec::with_capacity(small.len().saturating_add(16));
    match packed.filter(|packed| packed.len().saturating_add(3) < small.len()) {
        Some(packed) => {
            out.push(ZSTD);
            put_uv(&mut out, small.len() as u64);
            put_uv(&mut out, packed.len() as u64);
            out.extend_from_slice(&packed);
        }
        None => {
            out.push(STORED);
            put_uv(&mut out, small.len() as u64);
            out.extend_from_slice(&small);
        }
    }
    out
}

/// Reads a batch within `limits`; a section that cannot be read is refused alone.
///
/// # Errors
/// [`BatchError`] if the framing itself is unreadable, before anything larger than the limits was allocated.
pub fn decode_batch(bytes: &[u8], limits: &Limits) -> Result<Batch, BatchError> {
    let mut reader = Reader::new(bytes);
    let packing = reader.u8()?;
    let claimed = reader.uv()?;
    let raw_len = usize::try_from(claimed)
        .ok()
        .filter(|n| *n <= limits.small_raw_bytes_max)
        .ok_or(BatchError::TooLarge { claimed, limit: limits.small_raw_bytes_max })?;
    let unpacked;
    let small = match packing {
        STORED => reader.take(raw_len)?,
        ZSTD => {
            let packed_len = reader.len(reader.remaining())?;
            unpacked = unpack(reader.take(packed_len)?, raw_len)?;
            &unpacked
        }
        packing => return Err(BatchError::Packing(packing)),
    };
    reader.finish()?;
    read_sections(small, limits)
}

fn unpack(packed: &[u8], raw_len: usize) -> Result<Vec<u8>, BatchError> {
    let refuse = || BatchError::Zstd { claimed: raw_len };
    let content = zstd::zstd_safe::get_frame_content_size(packed).ok().flatten();
    let one_frame = zstd::zstd_safe::find_frame_compressed_size(packed).is_ok_and(|n| n == packed.len());
    if content != Some(raw_len as u64) || !one_frame {
        return Err(refuse());
    }
    let mut out = vec![0; raw_len];
    let mut decompressor = zstd::bulk::Decompressor::new().map_err(|_| refuse())?;
    let found = decompressor.decompress_to_buffer(packed, &mut out).map_err(|_| refuse())?;
    if found == raw_len { Ok(out) } else { Err(refuse()) }
}

fn read_sections(small: &[u8], limits: &Limits) -> Result<Batch, BatchError> {
    let mut reader = Reader::new(small);
    let n = reader.len(limits.sections_max)?;
    let mut sections = Vec::with_capacity(n.min(reader.remaining()));
    let mut values_left = limits.values_max;
    let mut budget = ByteBudget::new(*limits);
    for _ in 0..n {
        let small_len = reader.len(reader.remaining())?;
        // Codec 15 lies in a region of its own; until it is switched on that region is empty.
        reader.len(0)?;
        sections.push(decode_section(reader.take(small_len)?, limits, &mut values_left, &mut budget));
    }
    reader.finish()?;
    Ok(Batch { sections })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{Column, Heartbeat, StreamRef, Values};
    use crate::id::{BootOrdinal, Seq, StreamId};
    use crate::schema::Fingerprint;
    use crate::time::{BootNanos, ClockDomain, StampKind};
    use proptest::prelude::*;

    fn rows(stream: u16, first_seq: u64, n: usize) -> Rows {
        let walk = |k: i64| (0..n as i64).map(|i| i * k % 97).collect::<Vec<_>>();
        Rows {
            stream: StreamRef::Id(StreamId(stream)),
            fingerprint: Fingerprint(0xdead_beef),
            boot_ordinal: BootOrdinal(2),
            first_seq: Seq(first_seq),
            time_exp: 3,
            stamp_kind: StampKind::Instant,
            domain: ClockDomain::BOOT,
            t: (0..n as i64).map(|i| 1_000_000 + i * 5_000).collect(),
            lat_lo: vec![0; n],
            lat_hi: vec![2_000_000; n],
            fields: vec![
                Column {
                    values: Values::F64(walk(7).iter().map(|x| *x as f64 / 8.0).collect()),
                    valid: None,
                },
                Column::integers(walk(13)),
                Column {
                    values: Values::Utf8(walk(3).iter().map(|x| format!("s{x}")).collect()),
                    valid: None,
                },
            ],
        }
    }

    fn beat() -> Section {
        Section::Heartbeat(Heartbeat {
            stream: StreamRef::Name("imu".parse().unwrap()),
            boot_ordinal: BootOrdinal(2),
            next_seq: Seq(77),
            promise_b: BootNanos(-5),
        })
    }

    #[test]
    fn sections_of_many_streams_share_one_frame_and_read_back() {
        for effort in [Effort::Wire, Effort::Spool] {
            let sections: Vec<Section> =
                (1..=20).map(|s| Section::Rows(rows(s, 10, 10))).chain([beat()]).collect();
            let bytes = encode_batch(&sections, effort);
            let batch = decode_batch(&bytes, &Limits::V1).unwrap();
            assert_eq!(batch.sections.len(), 21);
            assert!(batch.rows().zip(1..).all(|(back, s)| back.same_bits(&rows(s, 10, 10))));
            assert!(matches!(&batch.sections[20], Section::Heartbeat(b) if b.next_seq == Seq(77)));
            if effort == Effort::Wire {
                let alone: usize =
                    sections.iter().map(|s| encode_batch(std::slice::from_ref(s), effort).len()).sum();
                assert!(bytes.len() < alone / 3, "{} against {alone}", bytes.len());
            }
        }
    }

    #[test]
    fn joining_slabs_equals_the_whole_and_slicing_takes_it_apart() {
        let whole = rows(1, 0, 30);
        let mut joined = whole.slice(0..11);
        assert!(joined.join(&whole.slice(11..30)));
        assert!(joined.same_bits(&whole));
        assert!(!joined.join(&whole.slice(5..6)), "a hole or an overlap starts a new section");
    }

    #[test]
    fn an_unknown_codec_refuses_one_section_only() {
        let mut bad = Vec::new();
        encode_section(&mut bad, &Section::Rows(rows(2, 5, 4)));
        let mut small = Vec::new();
        put_uv(&mut small, 3);
        encode_section(&mut small, &Section::Rows(rows(1, 0, 4)));
        // The tag of the text column: type 4, codec 1 becomes codec 13.
        let tag = bad.iter().rposition(|b| *b == 0x41).unwrap();
        bad[tag] = 0x4d;
        small.extend_from_slice(&bad);
        encode_section(&mut small, &Section::Rows(rows(3, 0, 4)));
        let batch = read_sections(&small, &Limits::V1).unwrap();
        assert_eq!(batch.rows().count(), 2);
        let Section::Refused(refused) = &batch.sections[1] else { panic!("refused") };
        assert_eq!(refused.stream, Some(StreamRef::Id(StreamId(2))));
        assert_eq!(refused.seqs, Some(5..9));
    }

    #[test]
    fn bombs_are_refused_before_they_unpack() {
        let zeros = zstd::bulk::compress(&vec![0; 64 << 20], 3).unwrap();
        for claimed in [64_u64 << 20, 4 << 20, 1] {
            let mut body = vec![ZSTD];
            put_uv(&mut body, claimed);
            put_uv(&mut body, zeros.len() as u64);
            body.extend_from_slice(&zeros);
            assert!(matches!(
                decode_batch(&body, &Limits::V1),
                Err(BatchError::TooLarge { .. } | BatchError::Zstd { .. })
            ));
        }
    }

    #[test]
    fn four_billion_rows_are_a_named_refusal() {
        let mut section = vec![0, 1];
        section.extend_from_slice(&1_u32.to_le_bytes());
        put_uv(&mut section, 1);
        put_uv(&mut section, 0);
        put_uv(&mut section, 1 << 32);
        let mut small = Vec::new();
        put_uv(&mut small, 1);
        put_uv(&mut small, section.len() as u64);
        put_uv(&mut small, 0);
        small.extend_from_slice(&section);
        let batch = read_sections(&small, &Limits::V1).unwrap();
        let Section::Refused(refused) = &batch.sections[0] else { panic!("refused") };
        assert!(format!("{:?}", refused.why).contains("TooLong"));
    }

    proptest! {
        #[test]
        fn mutations_never_panic(flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4), cut in any::<prop::sample::Index>()) {
            let mut body = encode_batch(&[Section::Rows(rows(1, 0, 40)), beat()], Effort::Spool);
            for (at, byte) in flips {
                let at = at.index(body.len());
                body[at] ^= byte;
            }
            drop(decode_batch(&body, &Limits::V1));
            drop(decode_batch(&body[..cut.index(body.len())], &Limits::V1));
        }
    }
}

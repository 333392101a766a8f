//! A batch as bytes: all small columns of all sections in one zstd frame.

use super::Limits;
use super::codec::ByteBudget;
use super::pack::{unpack, unpack_block};
use super::section::{ColumnLayout, Rows, Section, decode_section};
use crate::wire::primitives::{PrimitiveError, Reader};
use std::borrow::Cow;
use std::ops::Range;

pub(super) const STORED: u8 = 0;
pub(super) const ZSTD: u8 = 1;
/// The content of a zstd frame's only block: all else the frame holds follows from the two lengths.
pub(super) const ZSTD_BLOCK: u8 = 3;
/// Bitmap of the ways of packing this version reads (bit n = way n), announced in hello and ack.
pub const PACKINGS_SUPPORTED: u8 = 1 << STORED | 1 << ZSTD | 1 << ZSTD_BLOCK;

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

/// Reads a batch within `limits`; a section that cannot be read is refused alone.
///
/// # Errors
/// [`BatchError`] if the framing itself is unreadable, before anything larger than the limits was allocated.
pub fn decode_batch(bytes: &[u8], limits: &Limits) -> Result<Batch, BatchError> {
    let regions = Regions::open(bytes, limits)?;
    read_sections(&regions.small, Reader::new(regions.dense), limits)
}

/// How a body is packed, and the two regions in it.
pub(super) struct Regions<'a> {
    pub(super) packing: u8,
    pub(super) packed_bytes: usize,
    pub(super) small: Cow<'a, [u8]>,
    pub(super) dense: &'a [u8],
}

impl<'a> Regions<'a> {
    pub(super) fn open(bytes: &'a [u8], limits: &Limits) -> Result<Self, BatchError> {
        let mut reader = Reader::new(bytes);
        let packing = reader.u8()?;
        let claimed = reader.uv()?;
        let raw_len = usize::try_from(claimed)
            .ok()
            .filter(|n| *n <= limits.small_raw_bytes_max)
            .ok_or(BatchError::TooLarge { claimed, limit: limits.small_raw_bytes_max })?;
        let (packed_bytes, small) = match packing {
            STORED => (raw_len, Cow::Borrowed(reader.take(raw_len)?)),
            ZSTD | ZSTD_BLOCK => {
                let packed_len = reader.len(reader.remaining())?;
                let packed = match packed_len {
                    // Nothing lies behind the region: its end is the body's.
                    0 if packing == ZSTD_BLOCK => reader.take_rest(),
                    n => reader.take(n)?,
                };
                let unpack = if packing == ZSTD { unpack } else { unpack_block };
                let unpacked = unpack(packed, raw_len).ok_or(BatchError::Zstd { claimed: raw_len })?;
                (packed.len(), Cow::Owned(unpacked))
            }
            packing => return Err(BatchError::Packing(packing)),
        };
        Ok(Self { packing, packed_bytes, small, dense: reader.take_rest() })
    }
}

fn read_sections(small: &[u8], dense: Reader<'_>, limits: &Limits) -> Result<Batch, BatchError> {
    let mut sections = Vec::new();
    visit_sections(small, dense, limits, &mut sections)?;
    Ok(Batch { sections })
}

/// Who takes what is read of a body.
pub(super) trait Visit {
    /// True to be told of each column.
    const COLUMNS: bool;
    /// A column of the section that [`Visit::section`] will end.
    fn column(&mut self, layout: ColumnLayout);
    /// A section, and where it lies in the small and in the dense region.
    fn section(&mut self, section: Section, small: Range<usize>, dense: Range<usize>);
}

impl Visit for Vec<Section> {
    const COLUMNS: bool = false;
    fn column(&mut self, _: ColumnLayout) {}
    fn section(&mut self, section: Section, _: Range<usize>, _: Range<usize>) {
        self.push(section);
    }
}

/// Reads every section in order.
pub(super) fn visit_sections<V: Visit>(
    small: &[u8],
    mut dense: Reader<'_>,
    limits: &Limits,
    visitor: &mut V,
) -> Result<(), BatchError> {
    let (small_all, dense_all) = (small.len(), dense.remaining());
    let mut reader = Reader::new(small);
    let n = reader.len(limits.sections_max)?;
    let mut values_left = limits.values_max;
    let mut budget = ByteBudget::new(*limits);
    for _ in 0..n {
        let small_len = reader.len(reader.remaining())?;
        let dense_len = reader.len(dense.remaining())?;
        let starts = (small_all.wrapping_sub(reader.remaining()), dense_all.wrapping_sub(dense.remaining()));
        let small = reader.take(small_len)?;
        let dense_bytes = dense.take(dense_len)?;
        let section = decode_section(small, dense_bytes, limits, &mut values_left, &mut budget, visitor);
        let ends = (small_all.wrapping_sub(reader.remaining()), dense_all.wrapping_sub(dense.remaining()));
        visitor.section(section, starts.0..ends.0, starts.1..ends.1);
    }
    reader.finish()?;
    dense.finish()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{Announced, Column, Effort, Encoder, Heartbeat, StreamRef, Values, encode_batch};
    use crate::id::{BootOrdinal, Seq, StreamId};
    use crate::schema::Fingerprint;
    use crate::time::{BootNanos, ClockDomain, StampKind};
    use crate::wire::primitives::put_uv;
    use proptest::prelude::*;

    /// One section with its lengths, by the baseline codecs and unpacked.
    fn plain_section(section: Section) -> Vec<u8> {
        let body = Encoder::new(Effort::Spool, Announced::BASELINE).encode(&[section]);
        assert_eq!(body[0], STORED);
        let mut reader = Reader::new(&body[1..]);
        reader.uv().unwrap();
        assert_eq!(reader.uv(), Ok(1));
        reader.take_rest().to_vec()
    }

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
        for effort in [Effort::Wire, Effort::Metered, Effort::Spool] {
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
        let mut bad = plain_section(Section::Rows(rows(2, 5, 4)));
        let mut small = Vec::new();
        put_uv(&mut small, 3);
        small.extend(plain_section(Section::Rows(rows(1, 0, 4))));
        // The tag of the text column: type 4, codec 1 becomes codec 13, which text has not.
        let tag = bad.iter().rposition(|b| *b == 0x41).unwrap();
        bad[tag] = 0x4d;
        small.extend_from_slice(&bad);
        small.extend(plain_section(Section::Rows(rows(3, 0, 4))));
        let batch = read_sections(&small, Reader::new(&[]), &Limits::V1).unwrap();
        assert_eq!(batch.rows().count(), 2);
        let Section::Refused(refused) = &batch.sections[1] else { panic!("refused") };
        assert_eq!(refused.stream, Some(StreamRef::Id(StreamId(2))));
        assert_eq!(refused.seqs, Some(5..9));
    }

    #[test]
    fn a_reader_gets_only_what_it_announced_and_equal_rows_give_equal_bytes() {
        let sections = [Section::Rows(rows(1, 0, 200)), beat()];
        let mut encoder = Encoder::new(Effort::Wire, Announced::BASELINE);
        let baseline = encoder.encode(&sections);
        assert_eq!(baseline[0], ZSTD);
        assert!(decode_batch(&baseline, &Limits::V1).is_ok());
        encoder.announce(Announced::OURS);
        let ours = encoder.encode(&sections);
        assert_eq!(ours[0], ZSTD_BLOCK);
        assert!(ours.len() < baseline.len() / 3 * 2, "{} and {}", ours.len(), baseline.len());
        drop(encoder.encode(&[Section::Rows(rows(4, 9, 1_000))]));
        assert_eq!(encoder.encode(&sections), ours);
        encoder.announce(Announced::BASELINE);
        assert_eq!(encoder.encode(&sections), baseline);
    }

    #[test]
    fn the_dense_region_is_read_whole() {
        let mut noisy = rows(1, 0, 400);
        let noise = |i: i64| ((i * i + 7 * i).wrapping_mul(0x1e37_79b9_7f4a_7c15) >> 43) % 500;
        noisy.fields[1] = Column::integers((0..400).map(noise).collect());
        let mut body = encode_batch(&[Section::Rows(noisy)], Effort::Wire);
        let cut = decode_batch(&body[..body.len() - 1], &Limits::V1);
        assert!(matches!(cut, Err(BatchError::Primitive(_))), "{} {:?} {cut:?}", body.len(), &body[..8]);
        body.push(0);
        assert!(matches!(decode_batch(&body, &Limits::V1), Err(BatchError::Primitive(_))));
    }

    #[test]
    fn bombs_are_refused_before_they_unpack() {
        let zeros = zstd::bulk::compress(&vec![0; 64 << 20], 3).unwrap();
        // A run of one byte, as long as a block may be and longer.
        let (packings, sizes) = ([ZSTD, ZSTD_BLOCK], [64_u64 << 20, 4 << 20, 128 << 10, 1]);
        for (packing, claimed) in packings.iter().flat_map(|p| sizes.map(|n| (*p, n))) {
            let mut body = vec![packing];
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
    fn a_million_columns_of_one_row_are_above_the_limit_of_values() {
        let wide = Rows { fields: vec![Column::integers(vec![7]); 4_000], ..rows(1, 0, 1) };
        let sections = |n| vec![Section::Rows(wide.clone()); n];
        let refused = |n| {
            let batch = decode_batch(&encode_batch(&sections(n), Effort::Wire), &Limits::V1).unwrap();
            n - batch.rows().count()
        };
        // 4003 columns count as 32 024 values: 32 times they fit, once more is refused alone.
        assert_eq!((refused(32), refused(33)), (0, 1));
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
        let batch = read_sections(&small, Reader::new(&[]), &Limits::V1).unwrap();
        let Section::Refused(refused) = &batch.sections[0] else { panic!("refused") };
        assert!(format!("{:?}", refused.why).contains("TooLong"));
    }

    proptest! {
        #[test]
        fn mutations_never_panic(flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4), cut in any::<prop::sample::Index>()) {
            for effort in [Effort::Spool, Effort::Wire, Effort::Metered] {
                let mut body = encode_batch(&[Section::Rows(rows(1, 0, 40)), beat()], effort);
                for (at, byte) in &flips {
                    let at = at.index(body.len());
                    body[at] ^= byte;
                }
                drop(decode_batch(&body, &Limits::V1));
                drop(decode_batch(&body[..cut.index(body.len())], &Limits::V1));
            }
        }
    }
}

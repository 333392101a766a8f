//! What a body is made of, byte by byte: for people and tools that look at one.

use super::body::{Regions, Visit, visit_sections};
use super::section::{ColumnLayout, Section};
use super::{BatchError, Limits};
use crate::wire::primitives::Reader;
use std::ops::Range;

/// How a body is packed and what lies in it. Sizes are bytes.
#[derive(Debug, Clone)]
pub struct Layout {
    /// Way of packing: 0 stored, 1 zstd frame, 3 bare zstd block.
    pub packing: u8,
    /// Of the small region as it stands in the body.
    pub packed_bytes: usize,
    /// Of the small region, unpacked.
    pub small_bytes: usize,
    /// Of the dense region.
    pub dense_bytes: usize,
    /// In the order they stand, as far as the framing between them is sound.
    pub sections: Vec<SectionLayout>,
    /// Why what follows them could not be read.
    pub damage: Option<BatchError>,
}

/// One section: what it says, and where.
#[derive(Debug, Clone)]
pub struct SectionLayout {
    /// Where it lies in the unpacked small region.
    pub small: Range<usize>,
    /// Where it lies in the dense region.
    pub dense: Range<usize>,
    /// What a decoder makes of it.
    pub section: Section,
    /// The columns that were reached: t, lat_lo, lat_hi, then the schema's fields.
    pub columns: Vec<ColumnLayout>,
}

/// Reads a body as [`super::decode_batch`] does, and also tells where everything lies. What a decoder would
/// refuse whole is told as far as it goes.
///
/// # Errors
/// [`BatchError`] if the two regions cannot be told apart.
pub fn explain(body: &[u8], limits: &Limits) -> Result<Layout, BatchError> {
    let regions = Regions::open(body, limits)?;
    let mut seen = Seen::default();
    let read = visit_sections(&regions.small, Reader::new(regions.dense), limits, &mut seen);
    Ok(Layout {
        packing: regions.packing,
        packed_bytes: regions.packed_bytes,
        small_bytes: regions.small.len(),
        dense_bytes: regions.dense.len(),
        sections: seen.sections,
        damage: read.err(),
    })
}

#[derive(Default)]
struct Seen {
    columns: Vec<ColumnLayout>,
    sections: Vec<SectionLayout>,
}

impl Visit for Seen {
    const COLUMNS: bool = true;

    fn column(&mut self, layout: ColumnLayout) {
        self.columns.push(layout);
    }

    fn section(&mut self, section: Section, small: Range<usize>, dense: Range<usize>) {
        let columns = std::mem::take(&mut self.columns);
        self.sections.push(SectionLayout { small, dense, section, columns });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{Column, Effort, Rows, StreamRef, Values, codec_name, decode_batch, encode_batch};
    use crate::id::{BootOrdinal, Seq, StreamId};
    use crate::schema::Fingerprint;
    use crate::time::{ClockDomain, StampKind};

    fn rows(n: i64) -> Rows {
        let at = |i: usize| i64::try_from(i).unwrap();
        let len = usize::try_from(n).unwrap();
        let quotients =
            (0..n).map(|i| if i % 9 == 4 { f64::NAN } else { (i * i % 71) as f64 / 10.0 }).collect();
        let holes = Column {
            values: Values::F64(
                (0..len).map(|i| if i % 3 == 0 { 0.0 } else { at(i) as f64 / 4.0 }).collect(),
            ),
            valid: Some((0..len).map(|i| i % 3 != 0).collect()),
        };
        Rows {
            stream: StreamRef::Id(StreamId(1)),
            fingerprint: Fingerprint(1),
            boot_ordinal: BootOrdinal(1),
            first_seq: Seq(0),
            time_exp: 3,
            stamp_kind: StampKind::Instant,
            domain: ClockDomain::BOOT,
            t: (0..n).map(|i| i * 5_000).collect(),
            lat_lo: vec![0; len],
            lat_hi: vec![9; len],
            fields: vec![
                Column { values: Values::F64(quotients), valid: None },
                holes,
                Column::integers((0..n).map(|i| (i * 7_919 + i * i) % 1_009).collect()),
            ],
        }
    }

    #[test]
    fn columns_lie_side_by_side_and_name_their_codecs() {
        for effort in [Effort::Spool, Effort::Wire, Effort::Metered] {
            let body = encode_batch(&[Section::Rows(rows(90)), Section::Rows(rows(1))], effort);
            let layout = explain(&body, &Limits::V1).unwrap();
            assert_eq!((layout.sections.len(), layout.damage), (2, None));
            for section in &layout.sections {
                assert_eq!(section.columns.len(), 6);
                let mut dense = 0;
                for pair in section.columns.windows(2) {
                    assert_eq!(pair[0].small.end, pair[1].small.start);
                    assert_eq!(pair[0].dense.end, pair[1].dense.start);
                }
                for column in &section.columns {
                    assert!(
                        column.sound
                            && column
                                .codecs
                                .iter()
                                .all(|c| codec_name(column.physical, *c).is_some()
                                    || codec_name(0, *c).is_some())
                    );
                    dense += column.dense.len();
                }
                assert_eq!(dense, section.dense.len());
            }
            let chains: Vec<_> = layout.sections[0].columns.iter().map(|c| c.codecs.clone()).collect();
            assert_eq!(chains[4][0], 8, "{chains:?}");
            assert!(chains[4].len() > 1, "{chains:?}");
        }
    }

    #[test]
    fn damage_is_told_where_it_is_and_cuts_never_panic() {
        for effort in [Effort::Spool, Effort::Wire] {
            let body = encode_batch(&[Section::Rows(rows(90))], effort);
            for cut in 0..body.len() {
                let told = explain(&body[..cut], &Limits::V1);
                let decoded = decode_batch(&body[..cut], &Limits::V1);
                assert_eq!(told.and_then(|l| l.damage.map_or(Ok(()), Err)).is_ok(), decoded.is_ok());
            }
        }
    }
}

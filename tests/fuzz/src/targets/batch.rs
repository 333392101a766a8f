//! Batch bodies: as they travel, and unpacked so that changes reach the sections.

use crate::corpus::{batches, bombs, regions};
use crate::outcome;
use crate::probe::Probe;
use headwater_core::batch::{
    Announced, Batch, BatchError, Effort, Encoder, Limits, Section, decode_batch, encode_batch, explain,
};
use headwater_core::wire::primitives::put_uv;

/// Values up to which an input is encoded again, at once and among the thorough ones.
const AGAIN_VALUES_MAX: [usize; 2] = [1_024, 16 * 1024];

pub(super) fn body(input: &[u8], probe: &mut Probe) -> u64 {
    let decoded = probe.decode(|| decode_batch(input, &Limits::V1));
    let told = if probe.thorough { Some(probe.decode(|| explain(input, &Limits::V1))) } else { None };
    if let Some(told) = told {
        let sound = told.as_ref().is_ok_and(|layout| layout.damage.is_none());
        assert_eq!(sound, decoded.is_ok(), "explain and decode disagree");
    }
    match decoded {
        Ok(batch) => again(&batch, probe),
        Err(error) => outcome(&[&error]),
    }
}

/// Encodes what was decoded and decodes it again; tells what there was.
pub(super) fn again(batch: &Batch, probe: &Probe) -> u64 {
    let mut kinds: Vec<String> = Vec::new();
    for section in &batch.sections {
        kinds.push(match section {
            Section::Rows(rows) => {
                let types: Vec<_> = rows.fields.iter().map(|f| (f.physical(), f.valid.is_some())).collect();
                format!("rows {types:?}")
            }
            Section::Heartbeat(_) => "beat".to_owned(),
            Section::Refused(refused) => format!("{:?}", refused.why),
        });
    }
    let values: usize = batch.rows().map(headwater_core::batch::Rows::n_values).sum();
    if values <= AGAIN_VALUES_MAX[usize::from(probe.thorough)] {
        same(batch, &encode_batch(&batch.sections, Effort::Spool));
        if probe.thorough {
            same(batch, &encode_batch(&batch.sections, Effort::Wire));
            same(batch, &Encoder::new(Effort::Metered, Announced::BASELINE).encode(&batch.sections));
        }
    }
    kinds.truncate(4);
    outcome(&[&kinds])
}

fn same(batch: &Batch, body: &[u8]) {
    let back = match decode_batch(body, &Limits::V1) {
        Ok(back) => back,
        // Long constants are short on the wire; what they stand for need not fit it.
        Err(BatchError::TooLarge { .. }) => return,
        Err(error) => panic!("what was decoded does not encode: {error}"),
    };
    let mut back = back.sections.iter();
    for section in &batch.sections {
        match section {
            Section::Refused(_) => {}
            Section::Rows(rows) => {
                let same = matches!(back.next(), Some(Section::Rows(other)) if other.same_bits(rows));
                assert!(same, "rows read back differently");
            }
            Section::Heartbeat(beat) => {
                assert!(matches!(back.next(), Some(Section::Heartbeat(other)) if other == beat));
            }
        }
    }
    assert!(back.next().is_none());
}

pub(super) fn body_seeds() -> Vec<Vec<u8>> {
    batches().iter().cloned().chain(bombs()).collect()
}

/// u16 length of the dense region, then the small and the dense region: all is stored, framing is right.
pub(super) fn sections(input: &[u8], probe: &mut Probe) -> u64 {
    let Some((head, rest)) = input.split_first_chunk::<2>() else { return 0 };
    let dense = usize::from(u16::from_le_bytes(*head)).min(rest.len());
    let small = &rest[..rest.len() - dense];
    let mut message = vec![0];
    put_uv(&mut message, small.len() as u64);
    message.extend_from_slice(rest);
    body(&message, probe)
}

pub(super) fn section_seeds() -> Vec<Vec<u8>> {
    let seed = |body: &Vec<u8>| {
        let (small, dense) = regions(body)?;
        let head = u16::try_from(dense.len()).ok()?.to_le_bytes();
        Some([&head[..], &small, &dense].concat())
    };
    batches().iter().filter_map(seed).collect()
}

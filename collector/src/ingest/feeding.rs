//! Gives committed rows to a recipe: the very columns that went to the raw tables.

use super::build::Built;
use super::group::Group;
use crate::align::StreamKinds;
use crate::align::aligner::{Aligner, Reading};
use crate::align::raw_rows::StampUnits;
use crate::commit::kinds::Kinds;
use crate::dedup::StreamKey;
use arrow_schema::ArrowError;
use headwater_core::id::KindName;
use headwater_core::time::stamp_unit_ns;

/// Units of the stamps of a group, by fingerprint of the declaration.
pub(super) fn units(group: &Group) -> StampUnits {
    let unit = |time_exp| stamp_unit_ns(time_exp).unwrap_or(1);
    group.rows.iter().map(|held| (i64::from(held.rows.fingerprint.0), unit(held.rows.time_exp))).collect()
}

/// Gives a committed group to a recipe: what its streams hold, lack and promise, and the rows of its raw tables.
pub(super) fn feed(
    aligner: &mut Aligner,
    (group, built): (&Group, &Built),
    (kinds, kinds_of): (&Kinds, &StreamKinds),
    with: Reading<'_>,
) -> Result<(), ArrowError> {
    aligner.learn(kinds, kinds_of);
    aligner.arriving(built.request.time_us);
    for recorded in group.gaps.iter().filter(|recorded| !recorded.closed) {
        let gap = &recorded.gap;
        let (device, stream) = (recorded.device.clone(), gap.stream.clone());
        let key = StreamKey { device, epoch: recorded.epoch, stream };
        if aligner.uses(&key.stream) {
            let seqs = gap.seq_first.0..gap.seq_last.0.saturating_add(1);
            aligner.declare_gap(&key, seqs, gap.stride.into(), gap.phase.into());
        }
    }
    for (key, (promise, _)) in &group.promises {
        if aligner.uses(&key.stream) {
            aligner.promise(key, *promise);
        }
    }
    for held in group.rows.iter().filter(|held| aligner.uses(&held.key.stream)).collect::<Vec<_>>() {
        aligner.hold(&held.key, held.rows.seqs());
    }
    for append in built.request.appends.iter().filter(|append| append.spec.name.namespace() == "raw") {
        let Ok(kind) = append.spec.name.table().parse::<KindName>() else { continue };
        for batch in &append.batches {
            aligner.take(&kind, batch, with)?;
        }
    }
    Ok(())
}

//! Gives committed rows to a recipe: what it selects of each declaration, in the types of its columns.

use super::build::events;
use super::group::Group;
use crate::align::StreamKinds;
use crate::align::aligner::{Aligner, place};
use crate::align::asof::Instant;
use crate::align::online::OnlineRecipe;
use crate::align::window::FieldTypes;
use crate::commit::cells::Cell;
use crate::commit::kinds::Kinds;
use crate::commit::raw::{cell, converted, references};
use crate::resolve::Resolved;
use headwater_core::batch::Rows;
use headwater_core::id::FieldName;
use headwater_core::schema::{Conversion, Logical, Schema};
use headwater_core::time::BootNanos;

/// Types of the recipe's columns, as far as they were declared.
pub(super) fn types(recipe: &OnlineRecipe, kinds: &Kinds, kinds_of: &StreamKinds) -> FieldTypes {
    let columns = recipe.columns.iter().map(|column| (&column.stream, &column.select));
    let mut types = FieldTypes::new();
    for (stream, select) in columns.chain([(&recipe.spine, &recipe.spine_select)]) {
        for field in select {
            let of = kinds_of.get(stream).into_iter().flatten();
            if let Some(column) = of.filter_map(|kind| kinds.column(kind, field)).next() {
                types.insert((stream.clone(), field.clone()), column.column_type.clone());
            }
        }
    }
    types
}

/// Gives a committed group to a recipe.
pub(super) fn feed(
    aligner: &mut Aligner,
    group: &Group,
    resolved: &[Vec<Resolved>],
    kinds: &Kinds,
    now: BootNanos,
) {
    for recorded in group.gaps.iter().filter(|recorded| !recorded.closed) {
        let key = crate::dedup::StreamKey {
            device: recorded.device.clone(),
            epoch: recorded.epoch,
            stream: recorded.gap.stream.clone(),
        };
        if aligner.uses(&key.stream) {
            let gap = &recorded.gap;
            let seqs = gap.seq_first.0..gap.seq_last.0.saturating_add(1);
            aligner.declare_gap(&key, seqs, gap.stride.into(), gap.phase.into());
        }
    }
    for (key, (promise, _)) in &group.promises {
        if aligner.uses(&key.stream) {
            aligner.promise(key, *promise);
        }
    }
    let recipe = aligner.recipe().clone();
    for (held, resolved) in group.rows.iter().zip(resolved) {
        if !aligner.uses(&held.key.stream) {
            continue;
        }
        let (rows, schema) = (&held.rows, &held.schema);
        aligner.hold(&held.key, rows.seqs());
        let spine = picks(schema, kinds, &recipe.spine_select);
        let picks: Vec<Vec<Option<Pick>>> =
            recipe.columns.iter().map(|column| picks(schema, kinds, &column.select)).collect();
        for (row, (event, resolved)) in events(held).into_iter().zip(resolved).enumerate() {
            let seq = rows.first_seq.0.saturating_add(row as u64);
            let Some(place) = place(rows.boot_ordinal, rows.domain, event.event.0, seq) else {
                metrics::counter!("headwater_align_device_domain_rows_total").increment(1);
                continue;
            };
            let at = Instant {
                place,
                half_ns: event.half_ns,
                ts_ns: resolved.ts.0,
                err_ns: resolved.err_ns,
                grade: resolved.grade,
            };
            aligner.add_sample(&held.key, at, |column| {
                picks.get(column).map(|fields| values(schema, rows, row, fields)).unwrap_or_default()
            });
            if held.key.stream == recipe.spine {
                aligner.add_spine(&held.key, at, values(schema, rows, row, &spine), now);
            }
        }
    }
}

/// Where a selected field lies in a declaration, and how its values become those of its column.
type Pick = (usize, Option<Conversion>);

fn picks(schema: &Schema, kinds: &Kinds, select: &[FieldName]) -> Vec<Option<Pick>> {
    let pick = |name: &FieldName| {
        let place = schema.fields.iter().position(|field| field.name == *name)?;
        let by = schema.fields.get(place).and_then(|field| kinds.conversion(&schema.kind, field));
        Some((place, by))
    };
    select.iter().map(pick).collect()
}

fn values(schema: &Schema, rows: &Rows, row: usize, picks: &[Option<Pick>]) -> Vec<Cell> {
    let value = |pick: &Option<Pick>| -> Option<Cell> {
        let (place, by) = (*pick)?;
        let (column, logical) = (rows.fields.get(place)?, &schema.fields.get(place)?.logical);
        if *logical == Logical::Blob {
            let reference = references(column).get(row).copied().flatten()?;
            return Some(reference.sha256.to_string().into());
        }
        let value = cell(&column.value(row), logical);
        Some(match by {
            Some(by) => converted(value, &by),
            None => value,
        })
    };
    picks.iter().map(|pick| value(pick).unwrap_or(Cell::Null)).collect()
}

//! From chosen rows to aligned ones: the engine is given what they reach, and its rows are told apart from the context they
//! needed.

use super::super::buffer::Buffer;
use super::super::entity::{LedgerGaps, Part, Spans, entity};
use super::super::layout::Layout;
use super::super::need::NeedKind;
use super::super::window::{AlignedRow, AlignedWindow, row_key, told};
use super::choose::Chosen;
use super::{Aligner, StepError, place_of};
use crate::dedup::{Ledger, StreamKey};
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use arrow_array::{Array, ArrayRef, BooleanArray, Int32Array, Int64Array, RecordBatch, StructArray};
use arrow_schema::ArrowError;
use headwater_align::derive::Span;
use headwater_align::engine::{align, flag};
use headwater_align::recipe::{Fallback, Method};
use headwater_align::sample::Line;
use headwater_core::id::StreamName;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

impl Aligner {
    /// Computes chosen rows into a window.
    pub(super) fn compute(
        &mut self,
        layout: &Layout,
        chosen: &Chosen,
        window: &mut AlignedWindow,
    ) -> Result<(), StepError> {
        if chosen.provisional && self.drops_undeclared(layout) {
            return Ok(());
        }
        let mut wanted = self.wanted(chosen);
        let (spine, columns) = (self.spine_parts(chosen), self.column_parts(chosen, layout));
        let given = entity(&chosen.entity, &spine, &columns, layout)
            .map_err(|source| StepError::Prepare { entity: chosen.entity.clone(), source })?;
        let (given, spans) = (given.entity, given.spans);
        let lines = given.lines.clone();
        let sources = (0..columns.len()).filter_map(|column| self.sources.get(layout.source_of(column)?));
        let gaps =
            LedgerGaps { ledger: &self.ledger, streams: sources.map(|source| &source.stream).collect() };
        let aligned = align(&layout.plan, given, &gaps)
            .map_err(|source| StepError::Engine { entity: chosen.entity.clone(), source })?;
        let mut replaced = Vec::new();
        for batch in &aligned.batches {
            let (rows, who) = self.ours(batch, chosen, &mut wanted)?;
            if who.is_empty() {
                continue;
            }
            let rows = self.with_settled_flags(&rows, layout)?;
            let rows = self.with_sources(&rows, layout, (&spans, &lines))?;
            for row in &who {
                let again = self.redo.contains(&row.key, row.seq);
                if again || self.coverage.is_provisional(&row.key, row.seq) {
                    replaced.push((row.device.clone(), row.row_key.clone(), row.ts_ns));
                }
                if again {
                    window.redone.push((row.device.clone(), row.row_key.clone()));
                }
            }
            window.push(&rows, who, chosen.provisional)?;
        }
        replaced.into_iter().for_each(|(device, key, ts)| window.replaces(device, key, ts));
        // No row came of these: for want of a match, or because they are no event.
        for (key, seq) in wanted.into_values() {
            match chosen.provisional {
                true => self.held.note_provisional(&key, seq),
                false => window.left_out.push((key, seq)),
            }
        }
        Ok(())
    }

    /// True if a column of which nothing is declared drops rows without a match.
    fn drops_undeclared(&self, layout: &Layout) -> bool {
        let columns = self.recipe.columns.iter().enumerate();
        let mut undeclared = columns.filter(|(place, _)| !layout.columns.contains(place));
        undeclared.any(|(_, column)| column.fallback == Fallback::Drop)
    }

    /// Rows that shall come of it, by device and row key.
    fn wanted(&self, chosen: &Chosen) -> BTreeMap<(String, String), (StreamKey, u64)> {
        let mut wanted = BTreeMap::new();
        for ((source, key), places) in &chosen.rows {
            let rows = self.buffers.get(*source).and_then(|buffers| buffers.get(key));
            for at in places {
                if let Some(seq) = rows.and_then(|rows| rows.stamps().seq.get(*at).copied()) {
                    wanted.insert((key.device.to_string(), row_key(key, seq)), (key.clone(), seq));
                }
            }
        }
        if let Some((key, points)) = &chosen.points {
            for seq in points {
                wanted.insert((chosen.entity.clone(), row_key(key, *seq)), (key.clone(), *seq));
            }
        }
        wanted
    }

    /// Spine samples by stream of the spine. An event needs the sample before it, and a row of a union those of the other
    /// streams.
    fn spine_parts<'a>(&'a self, chosen: &'a Chosen) -> Vec<Vec<Part<'a>>> {
        let mut spine: Vec<Vec<Part<'a>>> = vec![Vec::new(); self.spine_streams];
        for ((source, key), places) in &chosen.rows {
            let Some(samples) = self.buffers.get(*source).and_then(|buffers| buffers.get(key)) else {
                continue;
            };
            let before = usize::from(self.is_event());
            let mut ranges: Vec<Range<usize>> = Vec::new();
            for at in places {
                let (start, end) = (at.saturating_sub(before), at.saturating_add(1));
                match ranges.last_mut().filter(|last| last.end >= start) {
                    Some(last) => last.end = end,
                    None => ranges.push(start..end),
                }
            }
            if let Some(parts) = spine.get_mut(*source) {
                parts.push(Part { key, samples, places: ranges });
            }
        }
        spine
    }

    fn column_parts<'a>(&'a self, chosen: &'a Chosen, layout: &Layout) -> Vec<Vec<Part<'a>>> {
        let parts = |column: usize| -> Vec<Part<'a>> {
            let Some(source) = layout.source_of(column) else { return Vec::new() };
            let reached = chosen.reach.iter().filter(|((of, _), range)| *of == source && !range.is_empty());
            let part = |((_, key), range): (&'a (usize, StreamKey), &'a Range<usize>)| {
                let samples: &Buffer = self.buffers.get(source)?.get(key)?;
                Some(Part { key, samples, places: vec![range.clone()] })
            };
            reached.filter_map(part).collect()
        };
        (0..layout.columns.len()).map(parts).collect()
    }

    /// Of the engine's rows those that were wanted, which are taken out of `wanted`.
    fn ours(
        &self,
        batch: &RecordBatch,
        chosen: &Chosen,
        wanted: &mut BTreeMap<(String, String), (StreamKey, u64)>,
    ) -> Result<(RecordBatch, Vec<AlignedRow>), ArrowError> {
        let mut who = Vec::new();
        let mut mask = Vec::with_capacity(batch.num_rows());
        for (device, row_key, ts_ns, err_ns, grade) in told(batch)? {
            let named = (device, row_key);
            let found = wanted.remove(&named);
            mask.push(found.is_some());
            let Some((key, seq)) = found else { continue };
            let rows = |(source, of): &(usize, StreamKey)| {
                if *of == key { self.buffers.get(*source)?.get(of) } else { None }
            };
            let place = chosen.rows.keys().find_map(rows).and_then(|rows| place_of(rows, seq));
            let (device, row_key) = named;
            let provisional = chosen.provisional;
            who.push(AlignedRow { key, seq, place, device, row_key, ts_ns, err_ns, grade, provisional });
        }
        let all = mask.iter().all(|wanted| *wanted);
        let rows = match all {
            true => batch.clone(),
            false => arrow_select::filter::filter_record_batch(batch, &BooleanArray::from(mask))?,
        };
        Ok((rows, who))
    }

    /// The rows with the sources of prepared columns: all samples that a value was made of.
    fn with_sources(
        &self,
        rows: &RecordBatch,
        layout: &Layout,
        (spans, lines): (&[Option<Spans>], &[Line]),
    ) -> Result<RecordBatch, ArrowError> {
        let mut columns = rows.columns().to_vec();
        for (place, spans) in layout.columns.iter().zip(spans) {
            let (Some(column), Some(spans)) = (self.recipe.columns.get(*place), spans) else { continue };
            let at = rows.schema_ref().index_of(&format!("{}_src", column.name))?;
            let beyond = match column.method {
                Method::Window { .. } | Method::List { .. } => None,
                Method::Previous { .. } | Method::Next { .. } | Method::Nearest { .. } => Some(flag::BEYOND),
                _ => Some(flag::GAP_WIDE),
            };
            let made = Made { spans, lines, ledger: &self.ledger, stream: &column.stream, beyond };
            if let Some(slot) = columns.get_mut(at) {
                *slot = made.sources(slot)?;
            }
        }
        RecordBatch::try_new(rows.schema(), columns)
    }

    /// The rows with flags that do not depend on how long one waits: whether a column that looks ahead has *no* later
    /// sample, or one beyond its reach, only the end of all time tells. It is said to have one beyond.
    fn with_settled_flags(&self, rows: &RecordBatch, layout: &Layout) -> Result<RecordBatch, ArrowError> {
        let mut columns = rows.columns().to_vec();
        for place in &layout.columns {
            let Some(column) = self.recipe.columns.get(*place) else { continue };
            let looks_ahead = self
                .sources
                .get(place.saturating_add(self.spine_streams))
                .and_then(|source| source.need)
                .is_some_and(|need| need.kind == NeedKind::Around);
            let at = rows.schema_ref().index_of(&format!("{}_src", column.name));
            let (true, Ok(at)) = (looks_ahead, at) else { continue };
            let beyond = match column.method {
                Method::Next { .. } | Method::Nearest { .. } => flag::BEYOND,
                _ => flag::GAP_WIDE,
            };
            if let Some(slot) = columns.get_mut(at) {
                *slot = settled(slot, beyond)?;
            }
        }
        RecordBatch::try_new(rows.schema(), columns)
    }
}

/// What tells the sources of a prepared column.
struct Made<'a> {
    spans: &'a Spans,
    lines: &'a [Line],
    ledger: &'a Ledger,
    stream: &'a StreamName,
    /// What a row without a match says; none for a window, which may hold nothing.
    beyond: Option<i32>,
}

impl Made<'_> {
    /// True if some of the seqs are recorded as missing.
    fn has_gap(&self, span: Span, line: u32) -> bool {
        let line = usize::try_from(line).ok().and_then(|line| self.lines.get(line));
        line.is_some_and(|line| {
            let (device, epoch, stream) = (line.device.clone(), line.epoch, self.stream.clone());
            self.ledger
                .has_gap_in(&StreamKey { device, epoch, stream }, span.seq_lo..span.seq_hi.saturating_add(1))
        })
    }

    /// A source column that names all samples its values were made of. Flags say nothing of samples that no value rests on,
    /// for those are not prepared as they would be with all about them.
    fn sources(&self, column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
        let missing = |name: &str| ArrowError::SchemaError(format!("a source has no {name} of its type"));
        let sources = column.as_struct_opt().ok_or_else(|| missing("members"))?;
        let long = |name: &str| {
            let found = sources.column_by_name(name).and_then(|of| of.as_primitive_opt::<Int64Type>());
            found.ok_or_else(|| missing(name))
        };
        let epochs = sources.column_by_name("epoch").and_then(|of| of.as_string_opt::<i32>());
        let epochs = epochs.ok_or_else(|| missing("epoch"))?;
        let flags = sources.column_by_name("flag").and_then(|of| of.as_primitive_opt::<Int32Type>());
        let flags = flags.ok_or_else(|| missing("flag"))?;
        let (lo, hi) = (long("seq_lo")?, long("seq_hi")?);
        let (mut new_lo, mut new_hi, mut new_flags) = (Vec::new(), Vec::new(), Vec::new());
        for row in 0..sources.len() {
            let span = |seqs: &Int64Array| {
                let seq = u64::try_from(seqs.is_valid(row).then(|| seqs.value(row))?).ok()?;
                self.spans.get(epochs.is_valid(row).then(|| epochs.value(row))?.parse().ok()?, seq)
            };
            let kept = |seqs: &Int64Array| seqs.is_valid(row).then(|| seqs.value(row));
            let known = flags.is_valid(row).then(|| flags.value(row) & !flag::GAP_INSIDE);
            let Some(((first, line), (last, _))) = span(lo).zip(span(hi)) else {
                new_lo.push(kept(lo));
                new_hi.push(kept(hi));
                let none = flag::NONE | flag::BEYOND | flag::GAP_WIDE;
                new_flags.push(known.map(|flags| match self.beyond {
                    Some(beyond) if lo.is_null(row) && flags & none != 0 => flags & !none | beyond,
                    _ => flags,
                }));
                continue;
            };
            let whole = Span { seq_lo: first.seq_lo.min(last.seq_lo), seq_hi: last.seq_hi.max(first.seq_hi) };
            new_lo.push(i64::try_from(whole.seq_lo).ok());
            new_hi.push(i64::try_from(whole.seq_hi).ok());
            let gap = if self.has_gap(whole, line) { flag::GAP_INSIDE } else { 0 };
            new_flags.push(known.map(|flags| flags | gap));
        }
        let (fields, mut members, nulls) = sources.clone().into_parts();
        for (field, slot) in fields.iter().zip(&mut members) {
            match field.name().as_str() {
                "seq_lo" => *slot = Arc::new(Int64Array::from(std::mem::take(&mut new_lo))),
                "seq_hi" => *slot = Arc::new(Int64Array::from(std::mem::take(&mut new_hi))),
                "flag" => *slot = Arc::new(Int32Array::from(std::mem::take(&mut new_flags))),
                _ => {}
            }
        }
        Ok(Arc::new(StructArray::try_new(fields, members, nulls)?))
    }
}

/// A source column in which rows without a source say `beyond` instead of that there is no sample.
fn settled(column: &ArrayRef, beyond: i32) -> Result<ArrayRef, ArrowError> {
    let missing = |name: &str| ArrowError::SchemaError(format!("a source has no {name} of its type"));
    let sources = column.as_struct_opt().ok_or_else(|| missing("members"))?;
    let flags = sources.column_by_name("flag").and_then(|flags| flags.as_primitive_opt::<Int32Type>());
    let flags = flags.ok_or_else(|| missing("flag"))?;
    let seqs = sources.column_by_name("seq_lo").and_then(|seqs| seqs.as_primitive_opt::<Int64Type>());
    let seqs = seqs.ok_or_else(|| missing("seq_lo"))?;
    let is_none = |row: usize| flags.is_valid(row) && flags.value(row) & flag::NONE != 0 && seqs.is_null(row);
    if !(0..flags.len()).any(is_none) {
        return Ok(Arc::clone(column));
    }
    let value = |row: usize| match (flags.is_valid(row), is_none(row)) {
        (false, _) => None,
        (true, false) => Some(flags.value(row)),
        (true, true) => Some((flags.value(row) & !flag::NONE) | beyond),
    };
    let new: Int32Array = (0..flags.len()).map(value).collect();
    let (fields, mut members, nulls) = sources.clone().into_parts();
    if let Some(place) = fields.iter().position(|field| field.name() == "flag")
        && let Some(slot) = members.get_mut(place)
    {
        *slot = Arc::new(new);
    }
    Ok(Arc::new(StructArray::try_new(fields, members, nulls)?))
}

//! What the gate's rules say of the rows that a join brings to one aligned table: the same rules, judged by the same
//! engine, as beside ingest.
//!
//! ```text
//! rows that came ─► pieces ─► built-in rules, files of rules, pictures ─► one verdict a rule
//!                             with: keys that are there twice, boots of the raw rows, rows of reference refs
//! ```
//! A join may bring more than memory holds, so it is judged in pieces, as a backlog is beside ingest; what a rule found in
//! the worst of them is its verdict.

use super::keys::Doubled;
use super::{Guard, GuardError};
use crate::gate::boots::boots;
use crate::gate::looking::{LookError, look_at, references};
use crate::gate::{Judged, Verdict, builtin_rules, by};
use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use futures::TryStreamExt;
use headwater_align::gate::{Context, RuleSet};
use headwater_core::ports::Clock;
use headwater_lake::{CommitId, Lake, ScanOptions, TableName};
use std::collections::VecDeque;

/// Rows judged as one, some 100 MB; of fewer than twice as many all are judged as one.
const PIECE_ROWS: usize = 100_000;
/// Checks of which a piece knows less than the whole: the best of the pieces counts, as it is nearest to what all say.
const OF_THE_WHOLE: [&str; 2] = ["rows", "freshness"];

/// Rows that came, and what the rules say of them.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub(super) count: u64,
    /// Earliest and latest, UTC ns.
    pub(super) span: Option<(i64, i64)>,
    pub(super) judged: Vec<Judged>,
}

impl<C: Clock> Guard<'_, C> {
    /// Judges the rows that came to `table` from `base` to `joined`.
    pub(super) async fn by_rules(
        &self,
        lake: &Lake,
        table: &TableName,
        (base, joined): (&CommitId, &CommitId),
    ) -> Result<Rows, GuardError> {
        let (builtin, name) = (builtin_rules(&self.gate.limits), table.to_string());
        let own = self.gate.rules.iter().filter(|set| set.concerns(&name));
        let sets: Vec<&RuleSet> = std::iter::once(&builtin).chain(own).collect();
        let doubled = Doubled::find(lake, (base, joined), table).await?;
        let references = references(lake, &sets, table).await.map_err(of_looking)?;
        let now_ns = self.clock.read().real.0;
        let options = ScanOptions { in_order: true, ..ScanOptions::default() };
        let mut batches = lake.scan_added(base, joined, table, options).await?;
        let (mut rows, mut pieces, mut parts) = (Rows::default(), Pieces::default(), 0_usize);
        loop {
            let next = batches.try_next().await?;
            let is_end = next.is_none();
            let piece = match next {
                Some(batch) => {
                    rows.note(&batch);
                    pieces.add(batch)
                }
                // Of no rows at all the rules are asked, too, so that verdicts say that nothing came.
                None if parts == 0 || pieces.rows > 0 => Some(pieces.rest()),
                None => None,
            };
            if let Some(piece) = piece {
                let looks = look_at(lake, joined, &sets, &piece).await.map_err(of_looking)?;
                let known = doubled.of(&piece);
                let boots = boots(lake, joined, &sets, &piece).await.map_err(of_looking)?;
                let (known, looks, boots) = (Some(known.as_slice()), Some(&looks), Some(boots.as_slice()));
                let context = Context { now_ns, known, looks, boots, references: &references };
                let is_some = !piece.is_empty();
                // No rows are no shortage of rows: what only went is no rule's business but the built-in ones'.
                let asked = if is_some { sets.as_slice() } else { sets.get(..1).unwrap_or_default() };
                merge(&mut rows.judged, by(asked, |_| true, &piece, &context)?);
                parts = parts.saturating_add(1);
            }
            if is_end {
                break;
            }
        }
        if parts > 1 {
            for evidence in rows.judged.iter_mut().filter_map(|judged| judged.evidence.as_object_mut()) {
                evidence.insert("pieces".to_owned(), parts.into());
                evidence.insert("rows_all".to_owned(), rows.count.into());
            }
        }
        Ok(rows)
    }
}

fn of_looking(error: LookError) -> GuardError {
    match error {
        LookError::Lake(error) => GuardError::Lake(error),
        LookError::Arrow(error) => GuardError::Arrow(error),
    }
}

impl Rows {
    fn note(&mut self, batch: &RecordBatch) {
        self.count = self.count.saturating_add(batch.num_rows() as u64);
        let times = batch.column_by_name("ts_ns").and_then(|times| times.as_primitive_opt::<Int64Type>());
        for at in times.into_iter().flatten().flatten() {
            self.span = Some(self.span.map_or((at, at), |(first, last)| (first.min(at), last.max(at))));
        }
    }
}

/// Rows gathered until there are enough to judge; whole batches, so nothing is copied.
#[derive(Debug, Default)]
struct Pieces {
    held: VecDeque<RecordBatch>,
    rows: usize,
}

impl Pieces {
    /// Takes a batch in; gives a piece once another one would be left.
    fn add(&mut self, batch: RecordBatch) -> Option<Vec<RecordBatch>> {
        self.rows = self.rows.saturating_add(batch.num_rows());
        self.held.push_back(batch);
        if self.rows < PIECE_ROWS.saturating_mul(2) {
            return None;
        }
        let (mut piece, mut rows) = (Vec::new(), 0_usize);
        while let Some(batch) = self.held.pop_front_if(|_| rows < PIECE_ROWS) {
            rows = rows.saturating_add(batch.num_rows());
            piece.push(batch);
        }
        self.rows = self.rows.saturating_sub(rows);
        Some(piece)
    }

    fn rest(&mut self) -> Vec<RecordBatch> {
        self.rows = 0;
        std::mem::take(&mut self.held).into()
    }
}

/// Takes up what another piece says, rule by rule.
fn merge(all: &mut Vec<Judged>, piece: Vec<Judged>) {
    if all.is_empty() {
        *all = piece;
        return;
    }
    for (known, new) in all.iter_mut().zip(piece) {
        let of_whole = new.evidence["check"].as_str().is_some_and(|check| OF_THE_WHOLE.contains(&check));
        let pick = |a: Verdict, b: Verdict| if of_whole { a.min(b) } else { a.max(b) };
        for (device, verdict) in &new.devices {
            let entry = known.devices.entry(device.clone()).or_insert(*verdict);
            *entry = pick(*entry, *verdict);
        }
        let verdict = match known.devices.values().max() {
            Some(worst) => *worst,
            None => pick(known.verdict, new.verdict),
        };
        // The evidence is that of a piece that says what all say.
        if known.verdict != verdict && new.verdict == verdict {
            known.evidence = new.evidence;
        }
        known.verdict = verdict;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{ArrayRef, Int64Array};
    use serde_json::json;
    use std::sync::Arc;

    fn batch(rows: usize) -> RecordBatch {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![7; rows]));
        RecordBatch::try_from_iter([("ts_ns", column)]).unwrap()
    }

    #[test]
    fn a_large_join_is_judged_in_pieces_none_of_them_small() {
        let (mut pieces, mut given) = (Pieces::default(), Vec::new());
        let of = |piece: Vec<RecordBatch>| piece.iter().map(RecordBatch::num_rows).sum::<usize>();
        for _ in 0..71 {
            given.extend(pieces.add(batch(8_192)).map(of));
        }
        given.push(of(pieces.rest()));
        assert_eq!(given.iter().sum::<usize>(), 71 * 8_192);
        assert_eq!(given.len(), 5);
        assert!(given.iter().all(|rows| (PIECE_ROWS / 2..2 * PIECE_ROWS).contains(rows)), "{given:?}");
        let mut few = Pieces::default();
        assert!(few.add(batch(2 * PIECE_ROWS - 1)).is_none());
        assert_eq!(of(few.rest()), 2 * PIECE_ROWS - 1);
    }

    fn judged(check: &str, devices: &[(&str, Verdict)]) -> Judged {
        let verdict = devices.iter().map(|(_, verdict)| *verdict).max().unwrap();
        let devices = devices.iter().map(|(device, verdict)| ((*device).to_owned(), *verdict)).collect();
        let evidence = json!({"check": check, "of": format!("{devices:?}")});
        Judged { devices, ..Judged::whole("g", verdict, evidence) }
    }

    #[test]
    fn the_worst_piece_counts_but_where_only_all_of_it_can_say() {
        let (pass, fail) = (Verdict::Pass, Verdict::Fail);
        let mut all = vec![judged("range", &[("a", pass)]), judged("freshness", &[("a", fail)])];
        let later = vec![judged("range", &[("a", pass), ("b", fail)]), judged("freshness", &[("a", pass)])];
        let evidence = [later[0].evidence.clone(), later[1].evidence.clone()];
        merge(&mut all, later);
        assert_eq!([all[0].verdict, all[1].verdict], [fail, pass], "the newest row of all is fresh");
        assert_eq!([all[0].evidence.clone(), all[1].evidence.clone()], evidence);
        merge(&mut all, vec![judged("range", &[("b", pass)]), judged("freshness", &[("a", fail)])]);
        assert_eq!([all[0].verdict, all[1].verdict], [fail, pass]);
    }
}

//! Final rows that are done again: for samples that came after all, and for times that were corrected.

use super::super::aside::{LateRows, LateRun};
use super::super::late::LateSpans;
use super::super::raw_rows::Piece;
use super::Aligner;
use crate::dedup::StreamKey;
use headwater_align::recipe::{Entity, LatePolicy};
use headwater_core::id::DeviceId;
use headwater_core::time::NS_PER_S;
use std::collections::BTreeSet;

/// Added to what a sample reaches, ns: the uncertainties that make a match ambiguous.
const SLACK_NS: i64 = NS_PER_S;

impl Aligner {
    /// Notes that inputs of a device changed in a stretch of UTC, ns.
    pub fn mark(&mut self, device: &DeviceId, span: (i64, i64)) {
        self.late.add(device, span);
        // Its rows are read from the raw tables.
        self.behind = true;
    }

    /// At its first filling, marks what came though it was declared missing: an earlier life may have ended before it did
    /// its rows again. `runs` are held seqs of its columns, their UTC and when they came, ns. Rows that are as they should be
    /// stay.
    pub(in super::super) fn begin<'a>(
        &mut self,
        runs: impl Iterator<Item = (&'a StreamKey, (u64, u64), (i64, i64), i64)>,
    ) {
        if !std::mem::take(&mut self.begins) || self.recipe.watermark.late == LatePolicy::DropAndCount {
            return;
        }
        if self.coverage.done().next().is_none() {
            return;
        }
        for (key, (lo, hi), span, arrived_ns) in runs {
            let seqs = lo..hi.saturating_add(1);
            if !self.ledger.came_after_all(key, seqs.clone()) {
                continue;
            }
            let arrived_us = arrived_ns.div_euclid(1_000);
            // Of a run that is in part beyond, both are looked at: each row tells when it is read.
            if self.is_beyond(span.0, arrived_us) {
                let came = self.ledger.came_in(key, seqs);
                came.into_iter().for_each(|seqs| self.late_rows.add(key, seqs, arrived_us));
            }
            if !self.is_beyond(span.1, arrived_us) {
                self.late.add(&key.device, span);
            }
        }
    }

    /// True if a sample of that time, UTC ns, came later than the recipe allows, and goes to the table of late rows.
    fn is_beyond(&self, ts_ns: i64, arrived_us: i64) -> bool {
        let mark = &self.recipe.watermark;
        let lateness_ns = arrived_us.saturating_mul(1_000).saturating_sub(ts_ns);
        mark.late == LatePolicy::SideStream && lateness_ns > mark.allowed_lateness_ns
    }

    /// Says when the rows came that are taken in next, UTC µs.
    pub fn arriving(&mut self, utc_us: i64) {
        self.arriving_us = utc_us;
    }

    /// Samples for the table of late rows.
    #[must_use]
    pub fn late_rows(&self) -> &LateRows {
        &self.late_rows
    }

    /// Says that late rows are in the lake.
    pub fn late_written(&mut self, key: &StreamKey, runs: &[LateRun]) {
        self.late_rows.done(key, runs);
    }

    /// True if inputs changed.
    #[must_use]
    pub fn has_late(&self) -> bool {
        !self.late.is_empty()
    }

    /// Notes rows of columns that come after rows they could matter to were final: their seqs were declared missing, the
    /// stream's promise or its disorder says they should have come, or they are of an epoch that is over.
    pub(super) fn note_late(&mut self, piece: &Piece) {
        let columns = self.sources.iter().skip(self.spine_streams);
        if !columns.clone().any(|source| source.stream == piece.key.stream) {
            return;
        }
        let is_over = self.is_over(piece);
        let came = self.came_after_all.remove(&piece.key).unwrap_or_default();
        let promise = self.promises.get(&piece.key).filter(|promise| promise.boot == piece.boot);
        let late = |at: usize| {
            let (Some(seq), Some(event)) = (piece.stamps.seq.get(at), piece.stamps.event_ns.get(at)) else {
                return false;
            };
            let broken =
                promise.is_some_and(|promise| *event < promise.promise_b.0 && *seq >= promise.next_seq.0);
            is_over || broken || came.contains(*seq)
        };
        let stamps = piece.stamps.seq.iter().zip(&piece.stamps.ts_ns).enumerate();
        let found: Vec<(u64, i64)> =
            stamps.filter(|(at, _)| late(*at)).map(|(_, (seq, ts))| (*seq, *ts)).collect();
        if found.is_empty() {
            return;
        }
        metrics::counter!("headwater_align_late_samples_total").increment(found.len() as u64);
        if self.recipe.watermark.late == LatePolicy::DropAndCount {
            return;
        }
        for (seq, ts) in found {
            match self.is_beyond(ts, self.arriving_us) {
                true => self.late_rows.add(&piece.key, seq..seq.saturating_add(1), self.arriving_us),
                false => self.mark(&piece.key.device, (ts, ts)),
            }
        }
    }

    /// True if the gateway has begun another epoch since, which holds none of its rows back for this one.
    fn is_over(&self, piece: &Piece) -> bool {
        let newest = piece.stamps.ts_ns.iter().max().copied().unwrap_or(i64::MIN);
        let mut lines = self.newest.iter();
        lines.any(|((device, epoch, _), (_, ts))| {
            *device == piece.key.device && *epoch != piece.key.epoch && *ts > newest
        })
    }

    /// The stretches of final rows that late inputs reach, by device, ns; those farther back than the recipe allows are
    /// counted and forgotten.
    pub(in super::super) fn take_late(&mut self, utc_ns: Option<i64>) -> LateSpans {
        let late = std::mem::take(&mut self.late);
        let allowed = self.recipe.watermark.allowed_lateness_ns;
        let reach = self.sources.iter().filter_map(|source| source.need);
        let reach = reach.map(|need| need.reach_ns().saturating_add(need.offset_ns.saturating_abs())).max();
        let reach = reach.unwrap_or(0).saturating_add(SLACK_NS);
        let mut out = LateSpans::default();
        for (device, (lo, hi)) in late.iter() {
            if utc_ns.is_some_and(|utc| *hi < utc.saturating_sub(allowed)) {
                metrics::counter!("headwater_align_beyond_lateness_total").increment(1);
                tracing::warn!(
                    recipe = %self.recipe.name, %device,
                    "data came later than the recipe allows: its rows stay as they are, `headwater align` does them anew on a branch"
                );
                continue;
            }
            for device in self.meeting(device) {
                out.add(&device, (lo.saturating_sub(reach), hi.saturating_add(reach)));
            }
        }
        out
    }

    /// The devices whose rows read samples of a device.
    fn meeting(&self, device: &DeviceId) -> BTreeSet<DeviceId> {
        let mut all = BTreeSet::from([device.clone()]);
        if let Entity::Site { sites } = &self.recipe.entity {
            all.extend(sites.values().filter(|devices| devices.contains(device)).flatten().cloned());
        }
        all
    }

    /// Takes a final row up again; one that is not final is no matter.
    pub(in super::super) fn reopen(&mut self, key: &StreamKey, seq: u64) {
        if self.coverage.contains(key, seq) && !self.held.contains(key, seq) {
            self.redo.add(key, seq);
        }
    }

    /// Takes up the final points of a grid within a stretch of UTC, ns.
    pub(in super::super) fn reopen_points(&mut self, device: &DeviceId, span: (i64, i64)) {
        for (key, seq) in self.points_in(device, span) {
            self.reopen(&key, seq);
        }
    }

    /// Forgets what was to be done again: somebody else changed what is done.
    pub fn forget_late(&mut self) {
        self.late = LateSpans::default();
        self.redo = super::super::late::Redo::default();
    }
}

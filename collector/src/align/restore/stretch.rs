//! Which stretch of time one pass takes up: the oldest spine rows that are not done, and of the columns what they reach.

use super::super::aligner::{Aligner, SPINE_ROWS_PER_PASS};
use super::super::buffer::COLUMN_SAMPLES_MAX;
use super::super::scope::Scope;
use super::ledger::{LedgerRun, Runs};
use super::{Reader, Source};
use headwater_align::recipe::SpineSource;
use headwater_core::id::StreamName;
use headwater_core::time::NS_PER_S;
use headwater_lake::LakeError;
use std::collections::{BTreeSet, BinaryHeap};

/// Read on either side of what rows reach, to find the samples that tell it complete: ten minutes, or the nearest run of the
/// ledger beyond.
const MARGIN_NS: i64 = 600 * NS_PER_S;
/// The same, µs.
pub(super) const MARGIN_US: i64 = MARGIN_NS / 1_000;
/// Column samples read in one pass, of all streams: some 200 bytes each.
pub(super) const PASS_SAMPLES_MAX: usize = 4_000_000;
/// Of one stream: it must fit its buffer.
const STREAM_SAMPLES_MAX: u64 = (COLUMN_SAMPLES_MAX as u64 / 10) * 8;

/// A stretch of UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stretch {
    /// Spine rows from here, ns.
    pub(super) from_ns: i64,
    /// Up to here, ns.
    pub(super) to_ns: i64,
    /// More rows follow.
    pub(super) is_cut: bool,
    /// Some of them are not written at all.
    is_open: bool,
    /// How far they reach, errors included, ns.
    reach_ns: i64,
}

impl Stretch {
    /// Up to where the spine is read, exclusive, µs; none if it goes on. A row of a union needs to know of the other
    /// streams' samples at its instant, so of a part of history what follows it is read, too.
    pub(super) fn spine_end_us(&self, aligner: &Aligner, runs: &Runs) -> Option<i64> {
        let mut end_ns = self.to_ns;
        if aligner.scope().is_some() && matches!(aligner.recipe().spine.source, SpineSource::Union { .. }) {
            let (sources, spine) = aligner.sources();
            let of = sources.iter().take(spine).flat_map(|source| runs.of(&source.stream));
            end_ns = of.map(|(_, runs)| self.span_of(runs).1).fold(end_ns, i64::max);
        }
        (end_ns < i64::MAX).then(|| end_ns.div_euclid(1_000).saturating_add(1))
    }

    /// Not beyond what is asked for.
    fn within(mut self, scope: Option<&Scope>) -> Self {
        self.to_ns = scope.map_or(self.to_ns, |scope| self.to_ns.min(scope.last_ns()));
        self
    }

    /// The UTC of the samples to read of a stream, ns: what the rows reach, and on both sides enough to tell it complete.
    pub(super) fn span_of(&self, runs: &[LedgerRun]) -> (i64, i64) {
        let low = self.from_ns.saturating_sub(self.reach_ns);
        let high = self.to_ns.saturating_add(self.reach_ns);
        let before = runs.iter().filter(|run| run.t_ns.1 < low).max_by_key(|run| run.t_ns.1);
        let after = runs.iter().filter(|run| run.t_ns.0 > high).min_by_key(|run| run.t_ns.0);
        let from = before.map(|run| run.t_ns.0.max(run.t_ns.1.saturating_sub(MARGIN_NS)));
        let to = after.map(|run| run.t_ns.1.min(run.t_ns.0.saturating_add(MARGIN_NS)));
        let (from, to) = (from.unwrap_or(i64::MAX), to.unwrap_or(i64::MIN));
        (from.min(low.saturating_sub(MARGIN_NS)), to.max(high.saturating_add(MARGIN_NS)))
    }

    /// Ends earlier where the columns have more samples than one pass takes.
    fn bounded(mut self, aligner: &Aligner, runs: &Runs) -> Self {
        let (sources, spine) = aligner.sources();
        let streams: BTreeSet<&StreamName> =
            sources.iter().skip(spine).map(|source| &source.stream).collect();
        let low = self.from_ns.saturating_sub(self.reach_ns);
        let mut all: Vec<&LedgerRun> = Vec::new();
        for stream in streams {
            for (_, runs) in runs.of(stream) {
                let mut reached: Vec<&LedgerRun> = runs.iter().filter(|run| run.t_ns.1 >= low).collect();
                reached.sort_by_key(|run| run.t_ns);
                self.cut_at(&reached, low, STREAM_SAMPLES_MAX);
                all.extend(reached);
            }
        }
        all.sort_by_key(|run| run.t_ns);
        self.cut_at(&all, low, PASS_SAMPLES_MAX as u64);
        self
    }

    fn cut_at(&mut self, runs: &[&LedgerRun], low: i64, max: u64) {
        let mut samples = 0_u64;
        for run in runs {
            // Of a long run only what lies in the stretch counts.
            let (first, last) = (run.t_ns.0.max(low), run.t_ns.1);
            let width = i128::from(run.t_ns.1) - i128::from(run.t_ns.0) + 1;
            let part = (i128::from(last) - i128::from(first) + 1).max(0);
            let rows = i128::from(run.rows()) * part / width;
            let left = i128::from(max.saturating_sub(samples));
            if rows > left {
                let at = i128::from(first) + part * left / rows.max(1);
                let cut = headwater_core::time::clamp_i64(at).saturating_sub(self.reach_ns);
                let cut = cut.max(self.from_ns);
                self.is_cut |= cut < self.to_ns;
                self.to_ns = self.to_ns.min(cut);
                return;
            }
            samples = samples.saturating_add(u64::try_from(rows).unwrap_or(u64::MAX));
        }
    }
}

/// The oldest spine rows that are not done; none if all are.
pub(super) async fn spine_stretch(
    aligner: &Aligner,
    reader: &Reader<'_>,
    runs: &Runs,
) -> Result<Option<Stretch>, LakeError> {
    let found = match aligner.recipe().spine.source {
        SpineSource::Grid { .. } => grid_stretch(aligner, runs),
        _ => stream_stretch(aligner, reader).await?,
    };
    // Rows that are written provisionally alone are not worth another pass: what comes for them is late data.
    Ok(found
        .map(|stretch| stretch.within(aligner.scope()).bounded(aligner, runs))
        .filter(|stretch| stretch.is_open || !stretch.is_cut))
}

fn reach(aligner: &Aligner) -> i64 {
    let (sources, _) = aligner.sources();
    let needs = sources.iter().filter_map(|source| source.need);
    let reach = needs.map(|need| need.reach_ns().saturating_add(need.offset_ns.saturating_abs())).max();
    reach.unwrap_or(0).saturating_add(aligner.recipe().watermark.max_out_of_order_ns)
}

async fn stream_stretch(aligner: &Aligner, reader: &Reader<'_>) -> Result<Option<Stretch>, LakeError> {
    let (sources, spine) = aligner.sources();
    let streams: BTreeSet<&StreamName> = sources.iter().take(spine).map(|source| &source.stream).collect();
    // The oldest that wait; where none does, the newest that are written provisionally.
    let mut oldest: BinaryHeap<i64> = BinaryHeap::new();
    let mut newest: BinaryHeap<std::cmp::Reverse<i64>> = BinaryHeap::new();
    let (mut waiting, mut err_max) = (0_u64, 0_i64);
    let (from_us, to_us) = aligner.scope().map(|scope| (scope.from_us, scope.to_us)).unzip();
    for stream in streams {
        reader
            .read(stream, &[] as &[&Source], (from_us, to_us), |_, piece| {
                for (seq, ts) in piece.stamps.seq.iter().zip(&piece.stamps.ts_ns) {
                    if aligner.is_settled(&piece.key, *seq) {
                        continue;
                    }
                    if aligner.waits(&piece.key, *seq) {
                        waiting = waiting.saturating_add(1);
                        oldest.push(*ts);
                        if oldest.len() > SPINE_ROWS_PER_PASS {
                            oldest.pop();
                        }
                    } else {
                        newest.push(std::cmp::Reverse(*ts));
                        if newest.len() > SPINE_ROWS_PER_PASS {
                            newest.pop();
                        }
                    }
                }
                for (err, grade) in piece.stamps.err_ns.iter().zip(&piece.stamps.grade) {
                    // What is only ordered is matched by its boot.
                    if *grade > headwater_core::time::Grade::OrderingOnly {
                        err_max = err_max.max(*err);
                    }
                }
                Ok(())
            })
            .await?;
    }
    let is_cut = waiting > oldest.len() as u64;
    let oldest_is_empty = oldest.is_empty();
    let times: Vec<i64> = match oldest_is_empty {
        true => newest.into_iter().map(|std::cmp::Reverse(ts)| ts).collect(),
        false => oldest.into_vec(),
    };
    let reach_ns = reach(aligner).saturating_add(err_max);
    let Some((from_ns, last)) = times.iter().copied().min().zip(times.iter().copied().max()) else {
        return Ok(None);
    };
    // While rows are left the stretch ends at the last one taken; else it goes on, for rows that are still to come.
    let to_ns = if is_cut { last } else { i64::MAX };
    Ok(Some(Stretch { from_ns, to_ns, is_cut, is_open: !oldest_is_empty, reach_ns }))
}

/// A grid's points lie between the first and the last sample: those not done of the whole span of the ledger.
fn grid_stretch(aligner: &Aligner, runs: &Runs) -> Option<Stretch> {
    let (sources, _) = aligner.sources();
    let spans = sources.iter().flat_map(|source| runs.of(&source.stream)).flat_map(|(_, runs)| runs);
    let whole = spans.map(|run| run.t_ns).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))?;
    let scope = aligner.scope();
    let from = scope.map_or(whole.0, |scope| whole.0.max(scope.from_ns()));
    let to = scope.map_or(whole.1, |scope| whole.1.min(scope.last_ns()));
    let from_ns = aligner.first_open_point(from, to)?;
    Some(Stretch { from_ns, to_ns: i64::MAX, is_cut: false, is_open: true, reach_ns: reach(aligner) })
}

//! Makes bodies that fit: encodes, halves what is too large, and proves each body by reading it back.

use super::sealed::{Hold, Sealed, SealedBatch, Withheld, WithheldWhy};
use headwater_core::batch::{
    Announced, Effort, Encoder, Heartbeat, Limits, Rows, Section, StreamRef, decode_batch,
};
use headwater_core::id::{Epoch, Seq};
use headwater_core::time::{BootNanos, ClockDomain};

/// Joined rows of one stream, and where each slab starts in them.
#[derive(Debug, Clone)]
pub(super) struct Run {
    pub(super) rows: Rows,
    /// Row index at which each slab after the first starts, ascending.
    pub(super) cuts: Vec<usize>,
}

impl Run {
    /// Takes the first `rows` rows off.
    fn split_at(&self, rows: usize) -> (Run, Run) {
        let part = |range: std::ops::Range<usize>| Run {
            cuts: self
                .cuts
                .iter()
                .filter(|cut| **cut > range.start && **cut < range.end)
                .map(|cut| cut.saturating_sub(range.start))
                .collect(),
            rows: self.rows.slice(range),
        };
        (part(0..rows), part(rows..self.rows.len()))
    }

    fn slabs(&self) -> Vec<Run> {
        let mut slabs = Vec::new();
        let mut rest = self.clone();
        while let Some(cut) = rest.cuts.first().copied() {
            let (slab, more) = rest.split_at(cut);
            slabs.push(slab);
            rest = more;
        }
        slabs.push(rest);
        slabs
    }
}

/// How sections become bytes; a test hands in one that lies.
pub(super) type Encode = fn(&mut Encoder, &[Section]) -> Vec<u8>;

/// The encoder of `headwater-core`.
pub(super) const ENCODE: Encode = Encoder::encode;

/// Seals runs into bodies of at most `body_bytes_max`.
#[derive(Debug)]
pub(super) struct Sealer {
    pub(super) encode: Encode,
    /// Writes what the collector can read.
    pub(super) encoder: Encoder,
    /// Writes the baseline, once a body did not read back.
    pub(super) plain: Option<Encoder>,
    pub(super) announced: Announced,
    pub(super) limits: Limits,
    pub(super) body_bytes_max: usize,
    /// Bodies that did not read back.
    pub(super) codec_mismatches: u64,
    /// Times a set of rows was halved to fit.
    pub(super) halved: u64,
}

impl Sealer {
    /// Every row of `runs` comes out once, sealed or withheld.
    pub(super) fn seal(&mut self, epoch: Epoch, runs: Vec<Run>) -> Vec<Sealed> {
        let mut out = Vec::new();
        let mut todo = vec![runs];
        while let Some(runs) = todo.pop() {
            let n_rows: usize = runs.iter().map(|run| run.rows.len()).sum();
            if n_rows == 0 {
                continue;
            }
            let sections = sections(&runs);
            let values: usize = runs.iter().map(|run| run.rows.counted_values()).sum();
            let body = (sections.len() <= self.limits.sections_max && values <= self.limits.values_max)
                .then(|| (self.encode)(&mut self.encoder, &sections));
            match body {
                Some(body) if body.len() <= self.body_bytes_max => {
                    if self.reads_back(&body, &runs) {
                        let holds = runs.iter().filter_map(|run| Hold::of(&run.rows)).collect();
                        out.push(Sealed::Batch(SealedBatch { epoch, body, holds }));
                        continue;
                    }
                    self.codec_mismatches = self.codec_mismatches.saturating_add(1);
                    if let Some(body) = self.plainly(&sections, &runs) {
                        let holds = runs.iter().filter_map(|run| Hold::of(&run.rows)).collect();
                        out.push(Sealed::Batch(SealedBatch { epoch, body, holds }));
                        continue;
                    }
                    let slabs: Vec<Run> = runs.iter().flat_map(Run::slabs).collect();
                    if slabs.len() == 1 {
                        out.extend(withheld(&runs, WithheldWhy::Codec));
                    } else {
                        todo.extend(slabs.into_iter().rev().map(|slab| vec![slab]));
                    }
                }
                body if n_rows == 1 => {
                    let found = body.map_or(0, |body| body.len());
                    let why = WithheldWhy::RowTooLarge { found, limit: self.body_bytes_max };
                    out.extend(withheld(&runs, why));
                }
                _ => {
                    self.halved = self.halved.saturating_add(1);
                    let (first, second) = halves(runs, n_rows);
                    todo.push(second);
                    todo.push(first);
                }
            }
        }
        out
    }

    /// The same sections by the codecs that have least in them to go wrong, if that reads back and fits.
    fn plainly(&mut self, sections: &[Section], runs: &[Run]) -> Option<Vec<u8>> {
        if self.announced == Announced::BASELINE {
            return None;
        }
        let plain = self.plain.get_or_insert_with(|| Encoder::new(Effort::Wire, Announced::BASELINE));
        let body = (self.encode)(plain, sections);
        (body.len() <= self.body_bytes_max && self.reads_back(&body, runs)).then_some(body)
    }

    /// A1: the collector's *durable* trims the only other copy, so what is sent must be what was captured.
    fn reads_back(&self, body: &[u8], runs: &[Run]) -> bool {
        let Ok(batch) = decode_batch(body, &self.limits) else { return false };
        let mut rows = batch.rows();
        runs.iter().all(|run| rows.next().is_some_and(|back| back.same_bits(&run.rows)))
            && rows.next().is_none()
            && !batch.sections.iter().any(|section| matches!(section, Section::Refused(_)))
    }
}

fn withheld(runs: &[Run], why: WithheldWhy) -> Vec<Sealed> {
    runs.iter()
        .map(|run| Sealed::Withheld(Withheld { stream: run.rows.stream.clone(), seqs: run.rows.seqs(), why }))
        .collect()
}

/// At least one row on each side (`n_rows` ≥ 2).
fn halves(runs: Vec<Run>, n_rows: usize) -> (Vec<Run>, Vec<Run>) {
    let (mut first, mut second) = (Vec::new(), Vec::new());
    let mut left = n_rows / 2;
    for run in runs {
        let n = run.rows.len();
        if left >= n {
            first.push(run);
            left = left.saturating_sub(n);
        } else if left == 0 {
            second.push(run);
        } else {
            let (a, b) = run.split_at(left);
            first.push(a);
            second.push(b);
            left = 0;
        }
    }
    (first, second)
}

/// The runs as sections, and one heartbeat for each stream among them.
fn sections(runs: &[Run]) -> Vec<Section> {
    let rows = runs.iter().map(|run| Section::Rows(run.rows.clone()));
    let last_of_stream = runs
        .iter()
        .enumerate()
        .filter(|(at, run)| {
            !runs.iter().skip(at.saturating_add(1)).any(|later| later.rows.stream == run.rows.stream)
        })
        .filter_map(|(_, run)| heartbeat(&run.rows).map(Section::Heartbeat));
    rows.chain(last_of_stream).collect()
}

/// What the last rows of a stream promise: stamps grow, so no later sample's event time lies before
/// the last stamp less the greatest latency seen. Nothing is promised for another clock domain.
fn heartbeat(rows: &Rows) -> Option<Heartbeat> {
    if rows.domain != ClockDomain::BOOT || matches!(rows.stream, StreamRef::Name(_)) {
        return None;
    }
    let last = rows.t_ns(rows.len().checked_sub(1)?)?;
    let latency = rows.lat_hi.iter().copied().max().unwrap_or(0);
    Some(Heartbeat {
        stream: rows.stream.clone(),
        boot_ordinal: rows.boot_ordinal,
        next_seq: Seq(rows.seqs().end),
        promise_b: BootNanos(last.saturating_sub(latency)),
    })
}

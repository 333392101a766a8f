//! Fills an aligner from the lake: after a start, a rollback, or when rows it had let go are needed again.
//!
//! What it holds is a function of the raw tables, the ledger and the stored coverage alone, so a killed aligner goes on
//! where its last commit left off. One pass takes up a stretch of spine rows, the oldest first, and of the columns only
//! what those reach; both are bounded, and the rest follows in further passes.

mod ledger;
mod stretch;

use super::StreamKinds;
use super::aligner::{Aligner, Reading};
use super::buffer::Dropped;
use super::raw_rows::{DeviceClocks, Piece, STAMP_COLUMNS, pieces};
use super::source::Source;
use crate::commit::kinds::Kinds;
use crate::commit::tables::raw_table;
use crate::dedup::StreamKey;
use futures::TryStreamExt;
use headwater_align::recipe::SpineSource;
use headwater_core::id::{DeviceId, KindName, StreamName};
use headwater_core::time::BootNanos;
use headwater_lake::{CommitId, Lake, LakeError, ScanOptions};
pub(crate) use ledger::Books;
use ledger::Runs;
use std::collections::{BTreeMap, BTreeSet};
use stretch::{Stretch, spine_stretch};

/// What an aligner is filled with beside the lake.
#[derive(Clone, Copy)]
pub(crate) struct Filling<'a> {
    /// What the kinds' tables hold.
    pub(crate) kinds: &'a Kinds,
    /// Clocks of attached devices.
    pub(crate) clocks: &'a dyn DeviceClocks,
    /// Now, on the collector's own boot line.
    pub(crate) now: BootNanos,
    /// Now, UTC ns, to tell what comes too late; none looks at all of it.
    pub(crate) utc_ns: Option<i64>,
}

/// Fills `aligner` (empty, with its coverage) from the lake at `head`; gives the kinds of its streams.
///
/// # Errors
/// When a table cannot be read.
pub(crate) async fn restore(
    aligner: &mut Aligner,
    lake: &Lake,
    head: &CommitId,
    with: Filling<'_>,
) -> Result<StreamKinds, LakeError> {
    let books = Books::read(&aligner.streams(), lake, head).await?;
    fill(aligner, lake, head, &books, with).await?;
    Ok(books.kinds_of)
}

/// As [`restore`], with the books of `head` read before: those of the aligner's scope are told.
///
/// # Errors
/// When a table cannot be read.
pub(crate) async fn fill(
    aligner: &mut Aligner,
    lake: &Lake,
    head: &CommitId,
    books: &Books,
    with: Filling<'_>,
) -> Result<(), LakeError> {
    let runs = books.tell(aligner);
    aligner.learn(with.kinds, &books.kinds_of);
    let devices = aligner.scope().and_then(|scope| scope.devices(aligner.recipe()));
    let reader = Reader { lake, head, books, devices, with };
    aligner.begin(runs.all());
    if aligner.has_late() {
        reader.reopen(aligner).await?;
    }
    let Some(stretch) = spine_stretch(aligner, &reader, &runs).await? else {
        runs.newest().for_each(|(key, dropped)| aligner.let_go_below(key, dropped));
        return Ok(());
    };
    if stretch.is_cut {
        aligner.fall_behind();
        aligner.hold_samples(stretch::PASS_SAMPLES_MAX);
    }
    reader.fill_spine(aligner, &stretch, &runs).await?;
    reader.fill_columns(aligner, &stretch, &runs).await
}

/// Reads raw tables.
pub(super) struct Reader<'a> {
    pub(super) lake: &'a Lake,
    pub(super) head: &'a CommitId,
    books: &'a Books,
    /// Only of these; of all without it.
    devices: Option<BTreeSet<DeviceId>>,
    pub(super) with: Filling<'a>,
}

impl Reader<'_> {
    /// The rows of `stream` in a span of UTC µs, with these columns beside the stamps, piece by piece.
    pub(super) async fn read(
        &self,
        stream: &StreamName,
        sources: &[&Source],
        (from_us, to_us): (Option<i64>, Option<i64>),
        mut take: impl FnMut(&KindName, &Piece) -> Result<(), arrow_schema::ArrowError>,
    ) -> Result<(), LakeError> {
        // Of one device alone, files and row groups of others are passed over.
        let device = match self.devices.as_ref().map(|devices| (devices.len(), devices.first())) {
            Some((1, Some(device))) => Some(device.to_string()),
            _ => None,
        };
        for kind in self.books.kinds_of.get(stream).into_iter().flatten() {
            let mut names: Vec<String> = STAMP_COLUMNS.iter().map(|name| (*name).to_owned()).collect();
            let fields = sources.iter().flat_map(|source| &source.fields);
            for column in fields.filter_map(|field| field.columns.get(kind)) {
                if !names.contains(column) {
                    names.push(column.clone());
                }
            }
            let table = raw_table(kind)?;
            let options = ScanOptions {
                columns: Some(names),
                device: device.clone(),
                from_us,
                to_us,
                ..ScanOptions::default()
            };
            let mut batches = self.lake.scan(self.head, &table, options).await?;
            while let Some(batch) = batches.try_next().await? {
                let read = pieces(&batch, &self.books.units, self.with.clocks, |key| {
                    key.stream == *stream && self.reads(&key.device)
                });
                let corrupt = |error: arrow_schema::ArrowError| LakeError::Corrupt {
                    path: table.to_string(),
                    reason: format!("its rows cannot be read for aligning: {error}"),
                };
                for piece in read.map_err(corrupt)? {
                    take(kind, &piece).map_err(corrupt)?;
                }
            }
        }
        Ok(())
    }

    fn reads(&self, device: &DeviceId) -> bool {
        self.devices.as_ref().is_none_or(|devices| devices.contains(device))
    }

    /// Takes up the final rows that late inputs reach.
    async fn reopen(&self, aligner: &mut Aligner) -> Result<(), LakeError> {
        let late = aligner.take_late(self.with.utc_ns);
        let (sources, spine) = aligner.sources();
        let streams: BTreeSet<StreamName> =
            sources.iter().take(spine).map(|source| source.stream.clone()).collect();
        for (device, span) in late.iter() {
            if streams.is_empty() {
                aligner.reopen_points(device, *span);
            }
            let (from_us, to_us) = (span.0.div_euclid(1_000), span.1.div_euclid(1_000).saturating_add(1));
            for stream in &streams {
                let mut found = Vec::new();
                self.read(stream, &[], (Some(from_us), Some(to_us)), |_, piece| {
                    if piece.key.device == *device {
                        let rows = piece.stamps.seq.iter().zip(&piece.stamps.ts_ns);
                        let within = rows.filter(|(_, ts)| (span.0..=span.1).contains(*ts));
                        found.extend(within.map(|(seq, _)| (piece.key.clone(), *seq)));
                    }
                    Ok(())
                })
                .await?;
                found.iter().for_each(|(key, seq)| aligner.reopen(key, *seq));
            }
        }
        Ok(())
    }

    fn reading(&self) -> Reading<'_> {
        Reading { units: &self.books.units, clocks: self.with.clocks, now: self.with.now }
    }

    async fn fill_spine(
        &self,
        aligner: &mut Aligner,
        stretch: &Stretch,
        runs: &Runs,
    ) -> Result<(), LakeError> {
        let (sources, spine) = aligner.sources();
        let sources: Vec<Source> = sources.iter().take(spine).cloned().collect();
        let is_event = matches!(aligner.recipe().spine.source, SpineSource::Event { .. });
        let streams: BTreeSet<StreamName> = sources.iter().map(|source| source.stream.clone()).collect();
        let end_us = stretch.spine_end_us(aligner, runs);
        for stream in streams {
            let of: Vec<&Source> = sources.iter().filter(|source| source.stream == stream).collect();
            let from_us = stretch.from_ns.div_euclid(1_000).saturating_sub(if is_event {
                stretch::MARGIN_US
            } else {
                0
            });
            let span = (Some(from_us), end_us);
            let with = self.reading();
            self.read(&stream, &of, span, |kind, piece| {
                let seqs = &piece.stamps.seq;
                let open = |at: usize| seqs.get(at).is_some_and(|seq| !aligner.is_settled(&piece.key, *seq));
                let wanted: Vec<bool> = (0..seqs.len())
                    .map(|at| {
                        open(at)
                            || (is_event
                                && (at.saturating_add(1) == seqs.len() || open(at.saturating_add(1))))
                    })
                    .collect();
                match piece.filtered(&wanted)? {
                    Some(piece) => aligner.take_spine(kind, &piece, with.now),
                    None => Ok(()),
                }
            })
            .await?;
        }
        Ok(())
    }

    async fn fill_columns(
        &self,
        aligner: &mut Aligner,
        stretch: &Stretch,
        runs: &Runs,
    ) -> Result<(), LakeError> {
        let (sources, spine) = aligner.sources();
        let sources: Vec<Source> = sources.iter().skip(spine).cloned().collect();
        let streams: BTreeSet<StreamName> = sources.iter().map(|source| source.stream.clone()).collect();
        for stream in streams {
            let of: Vec<&Source> = sources.iter().filter(|source| source.stream == stream).collect();
            let spans: BTreeMap<&StreamKey, (i64, i64)> =
                runs.of(&stream).map(|(key, runs)| (key, stretch.span_of(runs))).collect();
            let lowest = spans.values().map(|span| span.0).min();
            let highest = spans.values().map(|span| span.1).max();
            let (Some(lowest), Some(highest)) = (lowest, highest) else { continue };
            let to_us = (highest < i64::MAX).then(|| highest.div_euclid(1_000).saturating_add(1));
            let with = self.reading();
            self.read(&stream, &of, (Some(lowest.div_euclid(1_000)), to_us), |kind, piece| {
                let Some((from, to)) = spans.get(&piece.key) else { return Ok(()) };
                let wanted: Vec<bool> =
                    piece.stamps.ts_ns.iter().map(|ts| (*from..=*to).contains(ts)).collect();
                match piece.filtered(&wanted)? {
                    Some(piece) => aligner.take_columns(kind, &piece, with.now),
                    None => Ok(()),
                }
            })
            .await?;
            for (key, (from, _)) in &spans {
                if let Some(seq) = runs.newest_below(key, *from) {
                    aligner.let_go_below(key, Dropped { seq, ts_ns: *from });
                }
            }
        }
        Ok(())
    }
}

//! Which rows are final now, which have waited too long, and which samples they reach.

use super::super::buffer::Buffer;
use super::super::complete::{Known, Moment};
use super::super::need::{Need, NeedKind};
use super::super::window::AlignedWindow;
use super::{Aligner, SPINE_ROWS_MAX};
use crate::dedup::StreamKey;
use headwater_align::recipe::{Entity, SpineSource};
use headwater_core::id::{DeviceId, Epoch};
use headwater_core::time::BootNanos;
use std::collections::BTreeMap;
use std::ops::Range;

/// Rows of one entity to be computed together.
#[derive(Debug, Clone, Default)]
pub(super) struct Chosen {
    /// Device or site.
    pub(super) entity: String,
    /// Emitted before all their columns are complete.
    pub(super) provisional: bool,
    /// Spine samples by source and stream, in order.
    pub(super) rows: BTreeMap<(usize, StreamKey), Vec<usize>>,
    /// Points of the grid, as seqs of its key.
    pub(super) points: Option<(StreamKey, Vec<u64>)>,
    /// Samples they reach, by source and stream.
    pub(super) reach: BTreeMap<(usize, StreamKey), Range<usize>>,
    /// They reach samples that were let go.
    pub(super) below: bool,
}

impl Chosen {
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.points.as_ref().is_none_or(|(_, points)| points.is_empty())
    }

    /// Notes that a row reaches these samples of a source.
    pub(super) fn reaches(&mut self, source: usize, key: &StreamKey, range: Range<usize>) {
        let known = self.reach.entry((source, key.clone())).or_insert_with(|| range.clone());
        *known = known.start.min(range.start)..known.end.max(range.end);
    }
}

/// Whether a row can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ripe {
    /// Nothing can change it any more.
    Final,
    /// It has waited too long.
    Idle,
    /// Not yet.
    Waits,
}

/// What a moment is to a stream: of the same epoch, or of another clock.
fn moment(spine: &StreamKey, at: usize, rows: &Buffer, of: &StreamKey) -> Option<Moment> {
    let (place, stamps) = (rows.place(at)?, rows.stamps());
    let same = spine.device == of.device && spine.epoch == of.epoch;
    Some(Moment {
        own: same.then_some((place.boot, place.event_ns)),
        half_ns: *stamps.half_ns.get(at)?,
        ts_ns: *stamps.ts_ns.get(at)?,
    })
}

/// True if the row lies before all that are not final yet.
fn follows(open: &BTreeMap<(DeviceId, Epoch), i64>, key: &StreamKey, rows: &Buffer, at: usize) -> bool {
    let first = open.get(&(key.device.clone(), key.epoch));
    first.is_none_or(|first| rows.stamps().ts_ns.get(at).is_some_and(|ts_ns| ts_ns < first))
}

impl Aligner {
    /// The rows of each entity that can be written now. Rows that never will are noted in `window`.
    pub(super) fn choose(&mut self, now: BootNanos, window: &mut AlignedWindow) -> Vec<Chosen> {
        let mut surplus = self.waiting().saturating_sub(SPINE_ROWS_MAX);
        if matches!(self.recipe.spine.source, SpineSource::Grid { .. }) {
            return self.choose_points(now, &mut surplus);
        }
        let mut chosen: BTreeMap<(String, bool), Chosen> = BTreeMap::new();
        let mut behind = false;
        let open = if self.is_chained { self.first_open() } else { BTreeMap::new() };
        for source in 0..self.spine_streams {
            for (key, rows) in self.buffers.get(source).into_iter().flatten() {
                let entity = self.entity_of(&key.device);
                for at in 0..rows.len() {
                    let Some(seq) = rows.stamps().seq.get(at).copied() else { continue };
                    let ts_ns = rows.stamps().ts_ns.get(at).copied().unwrap_or_default();
                    if self.is_settled(key, seq) || self.is_elsewhere(entity.as_deref(), ts_ns) {
                        continue;
                    }
                    let Some(entity) = entity.clone().filter(|_| !self.is_too_uncertain(rows, at)) else {
                        window.left_out.push((key.clone(), seq));
                        continue;
                    };
                    let mut reach = Chosen::default();
                    let complete =
                        self.is_complete(key, rows, at, &mut reach) && follows(&open, key, rows, at);
                    let provisional = match self.ripe(complete, now, rows.since(at), &mut surplus) {
                        Ripe::Waits => continue,
                        Ripe::Idle if self.is_provisional(key, seq) || self.redo.contains(key, seq) => {
                            continue;
                        }
                        ripe => ripe == Ripe::Idle,
                    };
                    if reach.below {
                        // The raw tables have what it needs.
                        behind = true;
                        continue;
                    }
                    let group = chosen.entry((entity.clone(), provisional)).or_insert_with(|| Chosen {
                        entity,
                        provisional,
                        ..Chosen::default()
                    });
                    group.rows.entry((source, key.clone())).or_default().push(at);
                    for ((source, key), range) in reach.reach {
                        group.reaches(source, &key, range);
                    }
                }
            }
        }
        self.behind |= behind;
        // Final ones first: they take the place of provisional ones of earlier windows.
        chosen.into_values().collect()
    }

    /// Of each gateway's installation the earliest row that is not final yet, UTC ns: where rows rest on those before them,
    /// none behind it is. Other installations hold nothing back.
    fn first_open(&self) -> BTreeMap<(DeviceId, Epoch), i64> {
        let mut open: BTreeMap<(DeviceId, Epoch), i64> = BTreeMap::new();
        for source in 0..self.spine_streams {
            for (key, rows) in self.buffers.get(source).into_iter().flatten() {
                for at in 0..rows.len() {
                    let stamps = rows.stamps();
                    let (Some(seq), Some(ts_ns)) = (stamps.seq.get(at), stamps.ts_ns.get(at)) else {
                        continue;
                    };
                    let is_none = self.is_settled(key, *seq) || self.is_too_uncertain(rows, at);
                    if is_none || self.entity_of(&key.device).is_none() {
                        continue;
                    }
                    let mut reach = Chosen::default();
                    let is_final = self.is_complete(key, rows, at, &mut reach)
                        && !reach.below
                        && self.is_chain_complete(key, rows, at);
                    if !is_final {
                        let first = open.entry((key.device.clone(), key.epoch)).or_insert(*ts_ns);
                        *first = (*first).min(*ts_ns);
                    }
                }
            }
        }
        open
    }

    /// True if no row of the spine can still come before this one, or one behind it is final, which was asked the same.
    fn is_chain_complete(&self, key: &StreamKey, rows: &Buffer, at: usize) -> bool {
        if rows.stamps().seq.get(at).is_some_and(|seq| self.coverage.is_done_beyond(key, *seq)) {
            return true;
        }
        (0..self.spine_streams).all(|source| {
            let of = self.buffers.get(source).into_iter().flat_map(BTreeMap::keys);
            let mut own = of.filter(|of| of.device == key.device && of.epoch == key.epoch);
            own.all(|of| {
                moment(key, at, rows, of)
                    .is_some_and(|moment| self.known(source, of).covers_all_before(&moment))
            })
        })
    }

    pub(super) fn ripe(&self, complete: bool, now: BootNanos, since: BootNanos, surplus: &mut usize) -> Ripe {
        if complete {
            return Ripe::Final;
        }
        if now.since(since) >= self.recipe.watermark.idle_timeout_ns {
            return Ripe::Idle;
        }
        if *surplus == 0 {
            return Ripe::Waits;
        }
        *surplus = surplus.saturating_sub(1);
        metrics::counter!("headwater_align_spine_overflow_total").increment(1);
        Ripe::Idle
    }

    fn is_too_uncertain(&self, rows: &Buffer, at: usize) -> bool {
        let (spine, stamps) = (&self.recipe.spine, rows.stamps());
        let wide = |max: i64| stamps.err_ns.get(at).is_some_and(|err| *err > max);
        stamps.grade.get(at).is_some_and(|grade| *grade < spine.min_grade)
            || spine.max_err_ns.is_some_and(wide)
    }

    /// True if nothing can still change the row; what it reaches is noted either way.
    fn is_complete(&self, key: &StreamKey, rows: &Buffer, at: usize, reach: &mut Chosen) -> bool {
        let mut complete = self.is_spine_complete(key, rows, at);
        for (place, of) in self.sources.iter().enumerate().skip(self.spine_streams) {
            let Some(need) = &of.need else { continue };
            let (keys, known) = self.keys_of(place, Some(key));
            complete &= known;
            for (of, counts) in keys {
                let Some(moment) = moment(key, at, rows, &of) else { continue };
                let known = self.known(place, &of);
                complete &= !counts || known.covers(&moment, need);
                reach.reaches(place, &of, known.slice(&moment, need));
                reach.below |= known.reaches_below(&moment, need);
            }
        }
        complete
    }

    /// True if the spine itself says all of the row: whether it is an event, and whether another stream of a union has the
    /// same instant.
    fn is_spine_complete(&self, key: &StreamKey, rows: &Buffer, at: usize) -> bool {
        match &self.recipe.spine.source {
            SpineSource::Stream { .. } | SpineSource::Grid { .. } => true,
            SpineSource::Event { .. } => {
                let seq = |at: usize| rows.stamps().seq.get(at).copied();
                let before = at.checked_sub(1).and_then(seq).map_or(0, |seq| seq.saturating_add(1));
                let Some(own) = seq(at) else { return false };
                self.ledger.accounts_for(key, before.min(own)..own)
            }
            SpineSource::Union { .. } => {
                const INSTANT: Need = Need {
                    kind: NeedKind::Stretch,
                    back_ns: 0,
                    forward_ns: 0,
                    offset_ns: 0,
                    takes_nulls: true,
                };
                // Its own stream too: of two rows of one instant both are final at once, or none is.
                (0..self.spine_streams).all(|other| {
                    // A stream the gateway never sent cannot have the instant.
                    let (keys, known) = self.keys_of(other, Some(key));
                    let covered = keys.iter().filter(|(_, counts)| *counts).all(|(of, _)| {
                        moment(key, at, rows, of)
                            .is_some_and(|moment| self.known(other, of).covers(&moment, &INSTANT))
                    });
                    !known || covered
                })
            }
        }
    }

    /// The streams that a row reads of a source: with each, whether it holds the row back. False beside them if one that
    /// should is not known at all. Other epochs of a gateway hold nothing back: what of them comes later is late.
    pub(super) fn keys_of(&self, source: usize, spine: Option<&StreamKey>) -> (Vec<(StreamKey, bool)>, bool) {
        let Some(of) = self.sources.get(source) else { return (Vec::new(), false) };
        let Some(buffers) = self.buffers.get(source) else { return (Vec::new(), false) };
        let devices: Vec<&DeviceId> = match (&self.recipe.entity, spine) {
            (Entity::Device, Some(spine)) => vec![&spine.device],
            (Entity::Site { sites }, Some(spine)) => {
                let site = sites.values().find(|devices| devices.contains(&spine.device));
                site.into_iter().flatten().collect()
            }
            (_, None) => Vec::new(),
        };
        let devices =
            devices.into_iter().filter(|device| of.device.as_ref().is_none_or(|only| only == *device));
        let (mut keys, mut any) = (Vec::new(), false);
        for device in devices {
            let own = spine.filter(|spine| spine.device == *device).map(|spine| StreamKey {
                device: device.clone(),
                epoch: spine.epoch,
                stream: of.stream.clone(),
            });
            let of_device: Vec<&StreamKey> = buffers.keys().filter(|key| key.device == *device).collect();
            let counts = own.clone().or_else(|| self.newest_of(source, &of_device));
            any |= counts.is_some();
            for key in of_device {
                if counts.as_ref() != Some(key) {
                    keys.push((key.clone(), false));
                }
            }
            keys.extend(counts.map(|key| (key, true)));
        }
        (keys, any)
    }

    /// Of the epochs of a gateway the one with the newest sample.
    pub(super) fn newest_of(&self, source: usize, keys: &[&StreamKey]) -> Option<StreamKey> {
        let buffers = self.buffers.get(source)?;
        let newest =
            |key: &&StreamKey| buffers.get(*key).and_then(|rows| rows.stamps().ts_ns.last().copied());
        keys.iter().copied().max_by_key(newest).cloned()
    }

    pub(super) fn known<'a>(&'a self, source: usize, key: &'a StreamKey) -> Known<'a> {
        let samples = self.buffers.get(source).and_then(|buffers| buffers.get(key)).unwrap_or(&self.empty);
        let promise = self.promises.get(key).map(|promise| {
            let line = (key.device.clone(), key.epoch, promise.boot);
            let ts = self
                .newest
                .get(&line)
                .map(|(event, ts)| ts.saturating_add(promise.promise_b.0.saturating_sub(*event)));
            (*promise, ts)
        });
        let max_out_of_order_ns = self.recipe.watermark.max_out_of_order_ns;
        Known { key, samples, promise, ledger: &self.ledger, max_out_of_order_ns }
    }
}

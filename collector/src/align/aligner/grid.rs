//! Points of a grid: between the first and the last sample of an entity, counted by their number.

use super::super::complete::Moment;
use super::super::window::{grid_index, grid_key, grid_seq};
use super::choose::{Chosen, Ripe};
use super::{Aligner, SPINE_ROWS_PER_PASS};
use crate::dedup::StreamKey;
use headwater_align::recipe::{Entity, SpineSource};
use headwater_core::id::DeviceId;
use headwater_core::time::BootNanos;
use std::collections::{BTreeMap, BTreeSet};

/// The instants of a grid.
#[derive(Debug, Clone, Copy)]
struct Grid {
    period_ns: i64,
    origin_ns: i64,
}

impl Grid {
    fn ts_ns(&self, index: i64) -> i64 {
        self.origin_ns.saturating_add(index.saturating_mul(self.period_ns))
    }

    /// The first point at or after a UTC, ns.
    fn from(&self, ts_ns: i64) -> i64 {
        let since = i128::from(ts_ns) - i128::from(self.origin_ns);
        let period = i128::from(self.period_ns.max(1));
        headwater_core::time::clamp_i64(-((-since).div_euclid(period)))
    }
}

impl Aligner {
    fn grid(&self) -> Option<Grid> {
        match &self.recipe.spine.source {
            SpineSource::Grid { period_ns, phase_ns, epoch_ns } => {
                Some(Grid { period_ns: *period_ns, origin_ns: epoch_ns.saturating_add(*phase_ns) })
            }
            _ => None,
        }
    }

    /// The points of each entity that can be written now.
    pub(super) fn choose_points(&mut self, now: BootNanos, surplus: &mut usize) -> Vec<Chosen> {
        let Some(grid) = self.grid() else { return Vec::new() };
        let (mut chosen, mut behind) = (Vec::new(), false);
        for (entity, devices) in self.entities() {
            let Some(key) = devices.first().and_then(grid_key) else { continue };
            let Some((first, last)) = self.span(&devices) else { continue };
            // Of a part of history, the points within it.
            let first = self.scope().map_or(first, |scope| first.max(scope.from_ns()));
            let mut groups: BTreeMap<bool, Chosen> = BTreeMap::new();
            // Where rows rest on those before them, none behind one that is not final is.
            let mut is_blocked = false;
            for index in grid.from(first).. {
                if grid.ts_ns(index) > last
                    || groups.values().map(points).sum::<usize>() >= SPINE_ROWS_PER_PASS
                {
                    break;
                }
                let seq = grid_seq(index);
                if self.is_elsewhere(Some(&entity), grid.ts_ns(index)) {
                    break;
                }
                if self.is_settled(&key, seq) {
                    continue;
                }
                let since = self.since.get(&(key.clone(), seq)).copied().unwrap_or(now);
                let since = *self.grid_since.entry((key.clone(), seq)).or_insert(since);
                let mut reach = Chosen::default();
                let complete = self.is_point_complete(&devices, grid.ts_ns(index), &mut reach) && !is_blocked;
                is_blocked = self.is_chained && (!complete || reach.below);
                let provisional = match self.ripe(complete, now, since, surplus) {
                    Ripe::Waits => continue,
                    Ripe::Idle if self.is_provisional(&key, seq) || self.redo.contains(&key, seq) => continue,
                    ripe => ripe == Ripe::Idle,
                };
                if reach.below {
                    behind = true;
                    continue;
                }
                let group = groups.entry(provisional).or_insert_with(|| Chosen {
                    entity: entity.clone(),
                    provisional,
                    points: Some((key.clone(), Vec::new())),
                    ..Chosen::default()
                });
                group.points.iter_mut().for_each(|(_, points)| points.push(seq));
                for ((source, key), range) in reach.reach {
                    group.reaches(source, &key, range);
                }
            }
            chosen.extend(groups.into_values().filter(|group| !group.is_empty()));
        }
        self.behind |= behind;
        chosen
    }

    /// UTC of the first point of a span that some entity has not done, ns.
    pub(in super::super) fn first_open_point(&self, from: i64, to: i64) -> Option<i64> {
        let grid = self.grid()?;
        let devices: BTreeSet<&DeviceId> = match &self.recipe.entity {
            Entity::Device => self.ledger.keys().map(|key| &key.device).collect(),
            Entity::Site { sites } => sites.values().filter_map(|devices| devices.first()).collect(),
        };
        let keys: Vec<StreamKey> = devices.into_iter().filter_map(grid_key).collect();
        let (first, last) = (grid.from(from), grid.from(to));
        // Done points are runs: each is stepped over whole.
        keys.iter()
            .filter_map(|key| {
                let open = self.coverage.first_open(key, grid_seq(first));
                let index = grid_index(open);
                (index <= last).then(|| grid.ts_ns(index))
            })
            .min()
    }

    /// The points of a device's grid within a stretch of UTC, ns.
    pub(super) fn points_in(&self, device: &DeviceId, (lo, hi): (i64, i64)) -> Vec<(StreamKey, u64)> {
        let Some(grid) = self.grid() else { return Vec::new() };
        let owner = match &self.recipe.entity {
            Entity::Device => Some(device),
            Entity::Site { sites } => {
                sites.values().find(|devices| devices.contains(device)).and_then(|devices| devices.first())
            }
        };
        let Some(key) = owner.and_then(grid_key) else { return Vec::new() };
        (grid.from(lo)..grid.from(hi.saturating_add(1))).map(|index| (key.clone(), grid_seq(index))).collect()
    }

    /// Entities with their devices, as far as samples of them are held.
    fn entities(&self) -> Vec<(String, Vec<DeviceId>)> {
        let held: BTreeSet<&DeviceId> =
            self.buffers.iter().flat_map(BTreeMap::keys).map(|key| &key.device).collect();
        match &self.recipe.entity {
            Entity::Device => {
                held.into_iter().map(|device| (device.to_string(), vec![device.clone()])).collect()
            }
            Entity::Site { sites } => {
                sites.iter().map(|(site, devices)| (site.clone(), devices.clone())).collect()
            }
        }
    }

    /// UTC of the first and the last sample held of these devices, ns.
    fn span(&self, devices: &[DeviceId]) -> Option<(i64, i64)> {
        let held = self.buffers.iter().flatten().filter(|(key, _)| devices.contains(&key.device));
        let spans = held.filter_map(|(_, rows)| {
            let ts = &rows.stamps().ts_ns;
            ts.iter().min().zip(ts.iter().max())
        });
        spans.map(|(lo, hi)| (*lo, *hi)).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }

    fn is_point_complete(&self, devices: &[DeviceId], ts_ns: i64, reach: &mut Chosen) -> bool {
        let moment = Moment { own: None, half_ns: 0, ts_ns };
        let mut complete = true;
        for (place, of) in self.sources.iter().enumerate() {
            let Some(need) = &of.need else { continue };
            let mut any = false;
            for device in
                devices.iter().filter(|device| of.device.as_ref().is_none_or(|only| only == *device))
            {
                let (keys, known) = self.keys_of_device(place, device);
                any |= known;
                for (key, counts) in keys {
                    let known = self.known(place, &key);
                    complete &= !counts || known.covers(&moment, need);
                    reach.reaches(place, &key, known.slice(&moment, need));
                    reach.below |= known.reaches_below(&moment, need);
                }
            }
            complete &= any;
        }
        complete
    }

    /// The streams of a source of one device, with whether each holds rows back; false beside them if there is none.
    fn keys_of_device(&self, source: usize, device: &DeviceId) -> (Vec<(StreamKey, bool)>, bool) {
        let Some(buffers) = self.buffers.get(source) else { return (Vec::new(), false) };
        let keys: Vec<&StreamKey> = buffers.keys().filter(|key| key.device == *device).collect();
        let counts = self.newest_of(source, &keys);
        let any = counts.is_some();
        (keys.into_iter().map(|key| (key.clone(), Some(key) == counts.as_ref())).collect(), any)
    }
}

fn points(group: &Chosen) -> usize {
    group.points.as_ref().map_or(0, |(_, points)| points.len())
}

//! Which parts history is aligned in: whole days of one device or site, or equal parts of a day where it has many rows
//! (pure).

use crate::align::Scope;
use crate::ingest::Rebuilder;
use headwater_align::recipe::{Entity, Recipe, SpineSource};
use headwater_core::id::{DeviceId, StreamName};
use std::collections::{BTreeMap, BTreeSet};

/// A UTC day, µs.
pub(crate) const DAY_US: i64 = 86_400_000_000;
/// Parts of a day at most, 84 s each: µs of a day are divisible by it.
const PARTS_MAX: u64 = 1_024;
/// Parts farther than this from every held sample are left out, µs: an hour, as far as rows may lie from where the ledger
/// has them.
const AROUND_US: i64 = 3_600_000_000;

/// A part of history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unit {
    /// Device or site.
    pub(super) entity: String,
    /// From here, UTC µs.
    pub(super) from_us: i64,
    /// Up to here, not included, UTC µs.
    pub(super) to_us: i64,
}

impl Unit {
    /// The day it lies in, since 1970.
    pub(super) fn day(&self) -> i32 {
        i32::try_from(self.from_us.div_euclid(DAY_US)).unwrap_or_default()
    }

    /// Its rows.
    pub(super) fn scope(&self) -> Scope {
        Scope { entity: Some(self.entity.clone()), from_us: self.from_us, to_us: self.to_us }
    }
}

/// Rows held of one entity, about, by day since 1970.
type RowsByDay = BTreeMap<i64, u64>;

/// Where rows of one entity lie.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Extent {
    days: RowsByDay,
    /// Stretches with samples, and [`AROUND_US`] about them: first instant to last, UTC µs, in order and apart.
    spans: Vec<(i64, i64)>,
}

impl Extent {
    fn add_span(&mut self, t_ns: (i64, i64)) {
        let us = |ns: i64| ns.div_euclid(1_000);
        self.spans.push((us(t_ns.0).saturating_sub(AROUND_US), us(t_ns.1).saturating_add(AROUND_US)));
        // Runs come by the thousand, one a commit, and touch each other.
        if self.spans.len().is_power_of_two() {
            self.settle();
        }
    }

    fn settle(&mut self) {
        self.spans.sort_unstable();
        let mut kept: Vec<(i64, i64)> = Vec::new();
        for (from, to) in self.spans.drain(..) {
            match kept.last_mut() {
                Some(last) if from <= last.1 => last.1 = last.1.max(to),
                _ => kept.push((from, to)),
            }
        }
        self.spans = kept;
    }

    /// True if samples lie in a stretch or about it; the spans are settled.
    fn touches(&self, from_us: i64, to_us: i64) -> bool {
        let next = self.spans.partition_point(|span| span.1 < from_us);
        self.spans.get(next).is_some_and(|span| span.0 < to_us)
    }
}

/// The units of a span of UTC, µs, of about so many rows each, by time and then by entity: the same for the same commit,
/// recipe and span.
pub(super) fn plan(rebuilder: &Rebuilder, span: (i64, i64), unit_rows: u64) -> Vec<Unit> {
    units(&entities(rebuilder), span, unit_rows)
}

/// Days since 1970 of which a recipe has rows, about.
pub(crate) fn days(rebuilder: &Rebuilder) -> BTreeSet<i32> {
    let all = entities(rebuilder);
    all.values().flat_map(|extent| extent.days.keys()).filter_map(|day| i32::try_from(*day).ok()).collect()
}

fn units(entities: &BTreeMap<String, Extent>, (from, to): (i64, i64), unit_rows: u64) -> Vec<Unit> {
    let within = |day: i64| {
        let start = day.saturating_mul(DAY_US);
        from <= start && start < to
    };
    let days: BTreeSet<i64> = entities.values().flat_map(|extent| extent.days.keys()).copied().collect();
    let mut units = Vec::new();
    for day in days.into_iter().filter(|day| within(*day)) {
        for (entity, extent) in entities {
            let Some(rows) = extent.days.get(&day) else { continue };
            let parts = rows.div_ceil(unit_rows).next_power_of_two().clamp(1, PARTS_MAX);
            let part_us = DAY_US / i64::try_from(parts).unwrap_or(1);
            let start = day.saturating_mul(DAY_US);
            let all = (0..i64::try_from(parts).unwrap_or(1)).map(|part| {
                let from_us = start.saturating_add(part.saturating_mul(part_us));
                Unit { entity: entity.clone(), from_us, to_us: from_us.saturating_add(part_us) }
            });
            units.extend(all.filter(|unit| extent.touches(unit.from_us, unit.to_us)));
        }
    }
    units.sort_by(|a, b| (a.day(), a.from_us, &a.entity).cmp(&(b.day(), b.from_us, &b.entity)));
    units
}

/// Days with rows, by entity: those of the spine's samples, or for a grid all between the first and the last sample.
fn entities(rebuilder: &Rebuilder) -> BTreeMap<String, Extent> {
    let recipe = rebuilder.recipe();
    let spine = spine_streams(recipe);
    let mut found: BTreeMap<String, Extent> = BTreeMap::new();
    for (key, rows, t_ns) in rebuilder.held() {
        let Some(entity) = entity_of(recipe, &key.device) else { continue };
        let extent = found.entry(entity).or_default();
        if spine.is_empty() {
            for ts in [t_ns.0, t_ns.1] {
                extent.days.entry(day_of(ts)).or_default();
            }
            extent.add_span(t_ns);
        } else if spine.contains(&key.stream) {
            spread(&mut extent.days, rows, t_ns);
            extent.add_span(t_ns);
        }
    }
    if let SpineSource::Grid { period_ns, .. } = &recipe.spine.source {
        let points = u64::try_from(DAY_US.saturating_mul(1_000) / (*period_ns).max(1)).unwrap_or(u64::MAX);
        for extent in found.values_mut() {
            let ends = extent.days.first_key_value().zip(extent.days.last_key_value());
            if let Some(((first, _), (last, _))) = ends {
                extent.days = (*first..=*last).map(|day| (day, points)).collect();
            }
            // Points are there between samples, too.
            let ends = extent
                .spans
                .iter()
                .map(|span| span.0)
                .min()
                .zip(extent.spans.iter().map(|span| span.1).max());
            extent.spans = ends.into_iter().collect();
        }
    }
    found.retain(|_, extent| !extent.days.is_empty());
    found.values_mut().for_each(Extent::settle);
    found
}

fn day_of(ts_ns: i64) -> i64 {
    ts_ns.div_euclid(DAY_US.saturating_mul(1_000))
}

/// Adds rows that lie evenly in a stretch of UTC, ns.
fn spread(days: &mut RowsByDay, rows: u64, (lo, hi): (i64, i64)) {
    let (first, last) = (day_of(lo), day_of(hi.max(lo)));
    let each = rows.div_ceil(u64::try_from(last.saturating_sub(first).saturating_add(1)).unwrap_or(1));
    for day in first..=last {
        let known = days.entry(day).or_default();
        *known = known.saturating_add(each);
    }
}

fn spine_streams(recipe: &Recipe) -> BTreeSet<StreamName> {
    let (sources, spine) = crate::align::source::sources(recipe);
    sources.into_iter().take(spine).map(|source| source.stream).collect()
}

fn entity_of(recipe: &Recipe, device: &DeviceId) -> Option<String> {
    match &recipe.entity {
        Entity::Device => Some(device.to_string()),
        Entity::Site { sites } => {
            sites.iter().find(|(_, devices)| devices.contains(device)).map(|(site, _)| site.clone())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(days: &[(i64, u64)]) -> RowsByDay {
        days.iter().copied().collect()
    }

    #[test]
    fn units_are_days_by_time_and_parts_of_days_with_many_rows() {
        let whole = |days: &[(i64, u64)]| Extent { days: of(days), spans: vec![(i64::MIN, i64::MAX)] };
        let entities = BTreeMap::from([
            ("a".to_owned(), whole(&[(3, 10), (4, 3 * 100)])),
            ("b".to_owned(), whole(&[(4, 1), (9, 0)])),
        ]);
        let told = |units: &[Unit]| -> Vec<(String, i64, i64)> {
            units.iter().map(|unit| (unit.entity.clone(), unit.from_us, unit.to_us - unit.from_us)).collect()
        };
        let quarter = DAY_US / 4;
        let all = units(&entities, (i64::MIN, i64::MAX), 100);
        let wanted: Vec<(String, i64, i64)> = [
            ("a", 3 * DAY_US, DAY_US),
            ("a", 4 * DAY_US, quarter),
            ("b", 4 * DAY_US, DAY_US),
            ("a", 4 * DAY_US + quarter, quarter),
            ("a", 4 * DAY_US + 2 * quarter, quarter),
            ("a", 4 * DAY_US + 3 * quarter, quarter),
            ("b", 9 * DAY_US, DAY_US),
        ]
        .map(|(entity, from, long)| (entity.to_owned(), from, long))
        .to_vec();
        assert_eq!(told(&all), wanted);
        assert_eq!(told(&units(&entities, (4 * DAY_US, 9 * DAY_US), 100)), wanted[1..6]);
        assert_eq!(DAY_US % i64::try_from(PARTS_MAX).unwrap(), 0);
    }

    #[test]
    fn parts_of_a_day_far_from_all_samples_are_left_out() {
        let mut extent = Extent { days: of(&[(4, 1_000)]), ..Extent::default() };
        let hour_ns = 3_600_000_000_000;
        let at = |hour: i64| 4 * DAY_US * 1_000 + hour * hour_ns;
        for t_ns in [(at(9), at(9) + 5), (at(20), at(21)), (at(9) + 7, at(9) + 90)] {
            extent.add_span(t_ns);
        }
        extent.settle();
        assert_eq!(extent.spans.len(), 2, "{extent:?}");
        let all = units(&BTreeMap::from([("a".to_owned(), extent)]), (i64::MIN, i64::MAX), 40);
        let hours: Vec<f64> = all.iter().map(|unit| (unit.from_us - 4 * DAY_US) as f64 / 3.6e9).collect();
        // 32 parts of three quarters of an hour.
        assert_eq!(hours, [7.5, 8.25, 9.0, 9.75, 18.75, 19.5, 20.25, 21.0, 21.75]);
    }

    #[test]
    fn rows_of_a_run_are_spread_over_its_days() {
        let mut days = RowsByDay::new();
        let day_ns = DAY_US * 1_000;
        spread(&mut days, 5, (day_ns - 1, day_ns));
        spread(&mut days, 7, (5, 5));
        assert_eq!(days, of(&[(0, 10), (1, 3)]));
    }
}

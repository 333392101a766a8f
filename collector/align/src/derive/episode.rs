//! Rows cut into episodes: contiguous stretches that are used as one training example, with ids that exports and splits
//! share.
//!
//! Rows come device by device or mixed, each device's in the order of the spine. Everything is decided from a row and those
//! before it, so an episode's rows can be written before it ends. An id is the device and the key of its first row: a late
//! row changes it only if it becomes the first, or if it parts or joins stretches, and then of this and the later rows up to
//! the next cut only. A split is chosen by the hash of the id alone, so it never depends on how many episodes there are.

use super::motion::distance_m;
use super::place::Degrees;
use super::{Episodes, SPLIT_SHARES, Trip};
use headwater_core::id::Sha256;
use std::collections::BTreeMap;

/// A row as far as its episode goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row<'a> {
    pub(super) device: &'a str,
    /// UTC, ns.
    pub(super) ts_ns: i64,
    pub(super) key: &'a str,
    /// Whether the condition that begins an episode holds.
    pub(super) begin: bool,
    /// Whether the condition that an episode stays within holds.
    pub(super) within: bool,
    pub(super) fix: Option<Degrees>,
}

/// Where a row lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) id: String,
    /// From 0.
    pub(super) index: i64,
}

/// What is known of a device's rows so far.
#[derive(Debug, Clone, Default, PartialEq)]
struct State {
    open: Option<Open>,
    /// UTC of the row before, ns.
    last_ns: Option<i64>,
    /// Whether `begin` held there.
    begun: bool,
    stay: Option<Stay>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Open {
    id: String,
    first_ns: i64,
    rows: i64,
}

/// Where a device has been for a while.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Stay {
    at: Degrees,
    since_ns: i64,
    is_rest: bool,
}

/// Cuts rows, any number of devices at once.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Cutter {
    states: BTreeMap<String, State>,
}

impl Cutter {
    /// The place of a row that follows those before; `None` outside of all episodes.
    pub(super) fn place(&mut self, rules: &Episodes, row: Row<'_>) -> Option<Place> {
        if !self.states.contains_key(row.device) {
            self.states.insert(row.device.to_owned(), State::default());
        }
        self.states.get_mut(row.device).and_then(|state| state.place(rules, row))
    }
}

impl State {
    fn place(&mut self, rules: &Episodes, row: Row<'_>) -> Option<Place> {
        let (left, is_rest) = rules.trip.as_ref().map_or((false, false), |trip| self.moved(trip, row));
        let rises = rules.begin.is_some() && row.begin && !self.begun;
        let is_far = |limit: Option<i64>, since: Option<i64>| match (limit, since) {
            (Some(limit_ns), Some(since_ns)) => {
                row.ts_ns.saturating_sub(since_ns).saturating_abs() > limit_ns
            }
            _ => false,
        };
        let is_cut = left
            || rises
            || is_far(rules.gap_ns, self.last_ns)
            || is_far(rules.duration_max_ns, self.open.as_ref().map(|open| open.first_ns));
        self.last_ns = Some(row.ts_ns);
        self.begun = row.begin;
        if !row.within || is_rest {
            self.open = None;
            return None;
        }
        let open = match self.open.take().filter(|_| !is_cut) {
            Some(open) => Open { rows: open.rows.saturating_add(1), ..open },
            None => Open { id: format!("{}/{}", row.device, row.key), first_ns: row.ts_ns, rows: 1 },
        };
        let place = Place { id: open.id.clone(), index: open.rows.saturating_sub(1) };
        self.open = Some(open);
        Some(place)
    }

    /// Whether the row leaves a rest, and whether it is at one. A row without a fix changes neither.
    fn moved(&mut self, trip: &Trip, row: Row<'_>) -> (bool, bool) {
        let was_rest = self.stay.is_some_and(|stay| stay.is_rest);
        let Some(fix) = row.fix else { return (false, was_rest) };
        let here = self.stay.filter(|stay| distance_m(stay.at, fix) <= trip.radius_m);
        let stay = match here {
            Some(stay) => {
                let rested = row.ts_ns.saturating_sub(stay.since_ns) >= trip.rest_ns;
                Stay { is_rest: stay.is_rest || rested, ..stay }
            }
            None => Stay { at: fix, since_ns: row.ts_ns, is_rest: false },
        };
        self.stay = Some(stay);
        (was_rest && here.is_none(), stay.is_rest)
    }
}

/// The split of an episode: the first 8 bytes of SHA-256 of `<salt>\n<id>`, big-endian, as a share of 2^64.
pub(super) fn split<'a>(rules: &'a Episodes, id: &str) -> Option<&'a str> {
    let digest = Sha256::of(format!("{}\n{id}", rules.salt).as_bytes());
    let head = digest.0.first_chunk::<8>().map_or(0, |head| u64::from_be_bytes(*head));
    let drawn = (u128::from(head) * u128::from(SPLIT_SHARES)) >> 64;
    let mut upto = 0_u128;
    rules.splits.iter().find_map(|split| {
        upto += u128::from(split.share);
        (drawn < upto).then_some(split.name.as_str())
    })
}

#[cfg(test)]
mod tests;

//! The clock tracks of all gateways.

use headwater_core::id::{BootOrdinal, DeviceId, Epoch};
use headwater_core::time::amend::{Amended, rows_to_amend};
use headwater_core::time::boots::{Boots, Heard, Query, Resolved};
use headwater_core::time::device::OnBoot;
use headwater_core::time::statement::{Receipt, Statement};
use headwater_core::time::track::{Params, Track};
use headwater_core::time::{BootNanos, ClockDomain, UtcNanos};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Whose boot line a statement is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Incoming<'a> {
    /// Gateway.
    pub device: &'a DeviceId,
    /// Life of its spool.
    pub epoch: Epoch,
    /// Boot.
    pub boot: BootOrdinal,
}

/// What is known of the clocks of all gateways.
#[derive(Debug, Clone, Default)]
pub struct ClockTracks {
    params: Params,
    epochs: BTreeMap<(DeviceId, Epoch), Boots>,
}

impl ClockTracks {
    /// Tracks made with other parameters than the usual ones.
    #[must_use]
    pub fn new(params: Params) -> Self {
        Self { params, epochs: BTreeMap::new() }
    }

    /// Takes a statement in. `received` is UTC of its receipt plus the collector's own bound, and `None` if the
    /// collector's clock is nothing to judge others by.
    pub fn observe(&mut self, whose: Incoming<'_>, statement: Statement, received: Option<UtcNanos>) {
        match self.boots_mut(whose).observe(whose.boot, statement, received) {
            Heard::Taken(0) | Heard::Known => {}
            Heard::Taken(forgotten) => {
                metrics::counter!("headwater_resolve_points_forgotten_total").increment(forgotten as u64);
            }
            Heard::TooEarly => refused("too_early"),
            Heard::TooLate => refused("too_late"),
            Heard::Full => refused("full"),
        }
    }

    /// Takes in that samples up to a stamp were received.
    pub fn receipt(&mut self, whose: Incoming<'_>, receipt: Receipt) {
        self.boots_mut(whose).receipt(whose.boot, receipt);
    }

    /// Id of the track that resolves a boot's samples now.
    #[must_use]
    pub fn track_id(&self, whose: Incoming<'_>) -> i64 {
        self.track(whose).id()
    }

    /// The track itself: its segments for `ops.clock`, its curve for a plot.
    #[must_use]
    pub fn track(&self, whose: Incoming<'_>) -> Arc<Track> {
        match self.boots(whose) {
            Some(boots) => boots.track(whose.boot),
            None => Boots::new(self.params.clone()).track(whose.boot),
        }
    }

    /// The latest moment of a boot that anyone spoke of.
    #[must_use]
    pub fn last(&self, whose: Incoming<'_>) -> Option<BootNanos> {
        self.boots(whose)?.last(whose.boot)
    }

    /// Places events of one boot, on the gateway's own clock. Answers stand in the order of the queries, and `ts` never
    /// goes back as `event` goes on.
    #[must_use]
    pub fn resolve(&self, whose: Incoming<'_>, queries: &[Query]) -> Vec<Resolved> {
        match self.boots(whose) {
            Some(boots) => boots.resolve(whose.boot, queries),
            None => Boots::new(self.params.clone()).resolve(whose.boot, queries),
        }
    }

    /// Places events of a clock that is not the gateway's own (an attached device), by its answers to pings; without any,
    /// only the bracket of the boot is known, from its start to the receipt of the samples.
    #[must_use]
    pub fn resolve_foreign(
        &self,
        whose: Incoming<'_>,
        domain: ClockDomain,
        received: UtcNanos,
        queries: &[Query],
    ) -> Vec<Resolved> {
        match self.boots(whose) {
            Some(boots) => boots.resolve_device(whose.boot, domain, received, queries),
            None => Boots::new(self.params.clone()).resolve_device(whose.boot, domain, received, queries),
        }
    }

    /// Places moments of an attached device's clock on the gateway's boot line; none if nothing is known of that clock.
    #[must_use]
    pub fn on_boot(&self, whose: Incoming<'_>, domain: ClockDomain, moments: &[i64]) -> Option<Vec<OnBoot>> {
        self.boots(whose)?.on_boot(whose.boot, domain, moments)
    }

    /// Which of the rows of one boot must be written anew: the grade rises, or the stored time lies outside what is known
    /// now. `rows` are the events with what was stored of them; places in it come back, and what they become.
    #[must_use]
    pub fn amend(
        &self,
        whose: Incoming<'_>,
        rows: &[(Query, Resolved)],
    ) -> (Vec<(usize, Resolved)>, Amended) {
        let queries: Vec<Query> = rows.iter().map(|(query, _)| *query).collect();
        let now = self.resolve(whose, &queries);
        let (places, counts) = rows_to_amend(rows.iter().map(|(_, stored)| stored).zip(&now));
        let become_ = |place: usize| Some((place, *now.get(place)?));
        (places.into_iter().filter_map(become_).collect(), counts)
    }

    /// The tracks of some gateways alone, for work beside ours.
    #[must_use]
    pub fn of(&self, owners: &BTreeSet<(DeviceId, Epoch)>) -> Self {
        let known = self.epochs.iter().filter(|(owner, _)| owners.contains(owner));
        let epochs = known.map(|(owner, boots)| (owner.clone(), boots.clone())).collect();
        Self { params: self.params.clone(), epochs }
    }

    fn boots(&self, whose: Incoming<'_>) -> Option<&Boots> {
        self.epochs.get(&(whose.device.clone(), whose.epoch))
    }

    fn boots_mut(&mut self, whose: Incoming<'_>) -> &mut Boots {
        let params = &self.params;
        let boots = self
            .epochs
            .entry((whose.device.clone(), whose.epoch))
            .or_insert_with(|| Boots::new(params.clone()));
        if boots.is_full_for(whose.boot) {
            metrics::counter!("headwater_resolve_boots_forgotten_total").increment(1);
        }
        boots
    }
}

fn refused(reason: &'static str) {
    metrics::counter!("headwater_resolve_statements_refused_total", "reason" => reason).increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_core::time::statement::Constraint;
    use headwater_core::time::{Grade, NS_PER_S};

    const S: i64 = NS_PER_S;
    const START: i64 = 1_700_000_000 * S;

    fn exchange(second: i64, grade: Grade) -> Statement {
        Statement::Constraint(Constraint::Exchange {
            sent: Some((BootNanos(second * S), UtcNanos(START + second * S + 20_000_000))),
            answered: Some((BootNanos(second * S + 40_000_000), UtcNanos(START + second * S + 20_000_000))),
            e_c_ns: 1_000_000,
            grade,
        })
    }

    fn whose(device: &DeviceId, boot: u32) -> Incoming<'_> {
        Incoming { device, epoch: Epoch(7), boot: BootOrdinal(boot) }
    }

    #[test]
    fn pre_sync_rows_are_amended_once_their_boot_met_a_clock() {
        let device: DeviceId = "pi-1".parse().unwrap();
        let mut tracks = ClockTracks::default();
        let receipt = Receipt { at: BootNanos(600 * S), received: UtcNanos(START + 700 * S) };
        tracks.receipt(whose(&device, 1), receipt);
        let queries: Vec<Query> =
            (0..600).map(|n| Query { event: BootNanos(n * S), half_ns: 1_000 }).collect();
        let stored = tracks.resolve(whose(&device, 1), &queries);
        assert!(stored.iter().all(|row| row.grade == Grade::OrderingOnly));
        let track = tracks.track_id(whose(&device, 1));
        for n in 0..8 {
            tracks.observe(whose(&device, 1), exchange(600 + n * 16, Grade::Guaranteed), None);
        }
        assert_ne!(tracks.track_id(whose(&device, 1)), track);
        let rows: Vec<(Query, Resolved)> = queries.iter().copied().zip(stored).collect();
        let (amended, counts) = tracks.amend(whose(&device, 1), &rows);
        assert_eq!((amended.len(), counts.rows, counts.risen + counts.moved), (600, 600, 600));
        for (place, now) in &amended {
            let truth = START + i64::try_from(*place).unwrap() * S;
            assert_eq!(now.grade, Grade::Guaranteed);
            assert!((now.ts.0 - truth).abs() <= now.err_ns && now.err_ns < 80_000_000, "{now:?}");
        }
        // Once amended, nothing is left to do, and more exchanges only shrink bounds.
        tracks.observe(whose(&device, 1), exchange(900, Grade::Guaranteed), None);
        let rows: Vec<(Query, Resolved)> =
            queries.iter().copied().zip(amended.iter().map(|(_, now)| *now)).collect();
        assert_eq!(tracks.amend(whose(&device, 1), &rows).0, []);
    }

    #[test]
    fn a_collector_without_a_clock_hands_out_no_guarantee() {
        let device: DeviceId = "pi-1".parse().unwrap();
        for (grade, expected) in [
            (Grade::Guaranteed, Grade::Guaranteed),
            (Grade::Estimated, Grade::Estimated),
            (Grade::OrderingOnly, Grade::OrderingOnly),
        ] {
            let mut tracks = ClockTracks::default();
            (0..8).for_each(|n| tracks.observe(whose(&device, 1), exchange(n * 16, grade), None));
            let query = Query { event: BootNanos(60 * S), half_ns: 0 };
            assert_eq!(tracks.resolve(whose(&device, 1), &[query])[0].grade, expected);
        }
    }
}

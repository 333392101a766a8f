//! Shares of the link between the lanes that carry data: weighted, so that none starves and none pays for being quiet.

use headwater_core::wire::Lane;

/// A lane's place here and its share of a full link, in parts of the sum.
const WEIGHTS: [(Lane, u64); 4] =
    [(Lane::LiveTelemetry, 60), (Lane::LiveMedia, 25), (Lane::BacklogTelemetry, 10), (Lane::BacklogMedia, 5)];
/// Bytes are counted this much finer before they are divided by a weight.
const FINE: u64 = 1_000;

/// Fair queueing by start time: the lane that has had the least for its weight is next.
#[derive(Debug, Default)]
pub(super) struct Shares {
    /// Bytes over weight each lane has had.
    had: [u64; WEIGHTS.len()],
    /// What the lane served last had before it: a lane that comes back starts here, having saved up nothing.
    now: u64,
    wanted: [bool; WEIGHTS.len()],
}

impl Shares {
    /// Of the lanes that have something to send, the one whose turn it is.
    pub(super) fn turn(&mut self, wants: impl Fn(Lane) -> bool) -> Option<Lane> {
        let mut next: Option<(u64, Lane)> = None;
        let places = self.had.iter_mut().zip(&mut self.wanted);
        for ((lane, _), (had, wanted)) in WEIGHTS.into_iter().zip(places) {
            if !std::mem::replace(wanted, wants(lane)) {
                *had = (*had).max(self.now);
            }
            if *wanted && next.is_none_or(|(least, _)| *had < least) {
                next = Some((*had, lane));
            }
        }
        next.map(|(_, lane)| lane)
    }

    /// A lane was given `bytes`.
    pub(super) fn gave(&mut self, lane: Lane, bytes: usize) {
        let places = WEIGHTS.into_iter().zip(&mut self.had);
        if let Some(((_, weight), had)) = places.into_iter().find(|((of, _), _)| *of == lane) {
            self.now = *had;
            *had = had.saturating_add((bytes as u64).saturating_mul(FINE) / weight);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DATA: [Lane; 4] =
        [Lane::LiveTelemetry, Lane::LiveMedia, Lane::BacklogTelemetry, Lane::BacklogMedia];

    fn serve(shares: &mut Shares, n: usize, bytes: usize, wants: impl Fn(Lane) -> bool) -> [usize; 4] {
        let mut had = [0; 4];
        for _ in 0..n {
            let Some(lane) = shares.turn(&wants) else { break };
            shares.gave(lane, bytes);
            had[DATA.iter().position(|of| *of == lane).unwrap()] += 1;
        }
        had
    }

    #[test]
    fn a_full_link_is_shared_by_weight() {
        let had = serve(&mut Shares::default(), 1000, 96_000, |_| true);
        for (got, want) in had.into_iter().zip([600_usize, 250, 100, 50]) {
            assert!(got.abs_diff(want) <= 2, "{had:?}");
        }
    }

    #[test]
    fn what_a_lane_does_not_use_goes_to_the_others() {
        let had = serve(&mut Shares::default(), 150, 1000, |lane| lane > Lane::LiveMedia);
        assert_eq!((had[0], had[1]), (0, 0));
        assert!(had[2].abs_diff(100) <= 1 && had[3].abs_diff(50) <= 1, "{had:?}");
    }

    #[test]
    fn a_quiet_lane_saves_up_nothing_and_owes_nothing() {
        let mut shares = Shares::default();
        serve(&mut shares, 1000, 1000, |lane| lane == Lane::BacklogMedia);
        // Live comes back: it has its share at once, but no more than that.
        let had =
            serve(&mut shares, 65, 1000, |lane| lane == Lane::LiveTelemetry || lane == Lane::BacklogMedia);
        assert!(had[0].abs_diff(60) <= 1 && had[3].abs_diff(5) <= 1, "{had:?}");
    }

    proptest! {
        /// A lane that always has something to send waits a bounded number of bytes for its turn.
        #[test]
        fn none_starves(sizes in proptest::collection::vec(1_usize..100_000, 300..400), lane in 0_usize..4) {
            let mut shares = Shares::default();
            let (mut waited, mut most) = (0, 0);
            for size in sizes {
                let turn = shares.turn(|_| true).unwrap();
                shares.gave(turn, size);
                waited = if turn == DATA[lane] { 0 } else { waited + size };
                most = most.max(waited);
            }
            // Its own last message over its share, and one message of each other lane.
            prop_assert!(most <= 100_000 * 20 + 4 * 100_000, "{}", most);
        }
    }
}

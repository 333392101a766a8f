//! What commits say of time beside their rows: computed clock segments, rows that a better track would change, rows that
//! are timed worse than their stream requires; and the fleet's clocks for pages and alarms.
//!
//! [`account`] only looks, since a failed commit is built again; [`Timing::committed`] takes in what went through.

mod corrections;
mod fleet;
mod segments;

pub use fleet::{DeviceClock, FleetClocks, StreamBeyond};

use super::IngestSettings;
use super::build::events;
use super::fold::Folder;
use super::group::HeldRows;
use crate::commit::cells::TableRows;
use crate::commit::read::ScannedRows;
use crate::commit::tables::Ops;
use crate::resolve::{ClockTracks, Resolved};
pub(super) use corrections::Key as CorrectionKey;
use corrections::{Corrections, Recheck};
use fleet::Fleet;
use headwater_core::time::UtcNanos;
use segments::{Segment, Segments};

/// State over commits.
#[derive(Debug, Default)]
pub(super) struct Timing {
    segments: Segments,
    corrections: Corrections,
    fleet: Fleet,
}

/// What one commit adds to `ops.*` about time, and what to remember once it is there.
#[derive(Debug)]
pub(super) struct Accounted {
    /// Rows of `ops.clock`: computed segments.
    pub(super) segments: Vec<Segment>,
    /// `ops.corrections`.
    pub(super) corrections: TableRows,
    /// `ops.verdicts`.
    pub(super) verdicts: TableRows,
    found: Recheck,
}

/// A group that was committed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Done<'a> {
    pub(super) rows: &'a [HeldRows],
    /// Parallel to the rows.
    pub(super) resolved: &'a [Vec<Resolved>],
    pub(super) settings: &'a IngestSettings,
    pub(super) now: UtcNanos,
}

/// Looks at the folder's group, resolved, and at what earlier commits hold.
pub(super) fn account(folder: &mut Folder, resolved: &[Vec<Resolved>], now: UtcNanos) -> Accounted {
    let Folder { tracks, group, timing, settings, .. } = folder;
    let segments = timing.segments.due(&group.rows, tracks);
    let found = timing.corrections.recheck(tracks);
    let mut corrections = TableRows::new(Ops::Corrections.spec());
    for change in &found.changes {
        let mut cells = super::group::event(now, settings.clock_half_ns, Some(change.device()));
        cells.extend(change.cells());
        corrections.push(cells);
    }
    let verdicts = fleet::verdicts(&group.rows, resolved, settings, now);
    Accounted { segments, corrections, verdicts, found }
}

impl Timing {
    /// The commit with this group is there.
    pub(super) fn committed(&mut self, done: Done<'_>, tracks: &mut ClockTracks, accounted: Accounted) {
        self.segments.told(&accounted.segments);
        self.corrections.apply(accounted.found);
        for (held, resolved) in done.rows.iter().zip(done.resolved) {
            self.corrections.committed(held, &events(held), resolved, tracks);
        }
        self.corrections.forget_settled(tracks);
        self.fleet.committed(done.rows, done.resolved, &done.settings.demands, done.now);
        let clocks = self.fleet.clocks(self.corrections.totals());
        done.settings.clocks.send_replace(clocks);
    }

    /// What is due for correction on days that `is_over` names.
    pub(super) fn due_on(&self, is_over: impl Fn(i64) -> bool) -> Vec<CorrectionKey> {
        self.corrections.due_on(is_over)
    }

    /// A correction of these begins, with the tracks as they are.
    pub(super) fn begin(&mut self, keys: &[CorrectionKey]) {
        self.corrections.begin(keys);
    }

    /// Rows of a key that stay due when the correction that was begun is done.
    pub(super) fn left_of(&self, key: &CorrectionKey) -> u64 {
        self.corrections.left_of(key)
    }

    /// A commit corrected these, with these tracks.
    pub(super) fn corrected(
        &mut self,
        keys: &[CorrectionKey],
        tracks: &ClockTracks,
        settings: &IngestSettings,
        now: UtcNanos,
    ) {
        self.corrections.corrected(keys, tracks, now.0);
        settings.clocks.send_replace(self.fleet.clocks(self.corrections.totals()));
    }

    /// Takes in a row of the ledger, at a start, of which `still` rows have the times it says.
    pub(super) fn restore_run(&mut self, rows: ScannedRows<'_>, row: usize, still: u64) {
        // Rows of `hw/` have no table whose time could be corrected.
        let _: Option<()> = self.corrections.restore_run(rows, row, still);
    }

    /// Takes in a row of `ops.corrections`, at a start.
    pub(super) fn restore_due(&mut self, rows: ScannedRows<'_>, row: usize) {
        let _: Option<()> = self.corrections.restore_due(rows, row);
    }
}

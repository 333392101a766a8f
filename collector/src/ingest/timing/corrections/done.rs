//! What is due on days that are over, and what a correcting commit leaves of it.

use super::{Corrections, Due, Key, NS_PER_DAY, Run, answers, key_of};
use crate::resolve::{ClockTracks, Incoming};
use std::collections::BTreeMap;

/// Streams, boots and days corrected in one commit: their rows are told of in one commit's ledger.
const KEYS_MAX: usize = 4_096;

impl Corrections {
    /// What is due on days that `is_over` names, oldest days first.
    pub(in crate::ingest) fn due_on(&self, is_over: impl Fn(i64) -> bool) -> Vec<Key> {
        let due = self.due.iter().filter(|(key, due)| due.rows > 0 && is_over(key.5));
        let mut keys: Vec<Key> = due.map(|(key, _)| key.clone()).collect();
        keys.sort_by(|a, b| (a.5, &a.4, a).cmp(&(b.5, &b.4, b)));
        keys.truncate(KEYS_MAX);
        keys
    }

    /// A correction of `keys` begins. Files take a while: what becomes due until they are written is not known to be
    /// corrected by it.
    pub(in crate::ingest) fn begin(&mut self, keys: &[Key]) {
        for key in keys {
            if let Some(due) = self.due.get_mut(key) {
                due.begun = due.settled;
            }
        }
    }

    /// Rows of `key` that the correction begun last leaves due: their runs are judged no more, so nobody finds them again.
    pub(in crate::ingest) fn left_of(&self, key: &Key) -> u64 {
        self.due.get(key).map_or(0, |due| due.settled.saturating_sub(due.begun))
    }

    /// A commit corrected the rows of `keys` with these tracks: what was due when it began is not any more, and runs that
    /// are still judged have the times their rows have now. Tracks may be better by then: all are judged again.
    pub(in crate::ingest) fn corrected(&mut self, keys: &[Key], tracks: &ClockTracks, told_ns: i64) {
        for key in keys {
            let left = self.left_of(key);
            self.due.insert(key.clone(), Due { rows: left, settled: left, told_ns, ..Due::default() });
            let boots = self.boots.get_mut(&(key.0.clone(), key.1));
            if let Some(of_boot) = boots.and_then(|boots| boots.get_mut(&key.2)) {
                of_boot.checked = None;
            }
        }
        let mut moved: BTreeMap<(String, i64), (u64, u64)> = BTreeMap::new();
        for ((device, epoch), boots) in &mut self.boots {
            for (boot, of_boot) in boots.iter_mut() {
                let whose = Incoming { device, epoch: *epoch, boot: *boot };
                let now = answers(&of_boot.runs, whose, tracks);
                for (run, new) in of_boot.runs.iter_mut().zip(now.chunks(2)) {
                    let (Some(lo), Some(hi)) = (new.first(), new.get(1)) else { continue };
                    if !keys.contains(&key_of(whose, run)) || run.changed([*lo, *hi]).is_none() {
                        continue;
                    }
                    let left = run.day;
                    for (end, at) in run.ends.iter_mut().zip([lo, hi]) {
                        end.ts = Some(at.ts);
                    }
                    run.grade = lo.grade.min(hi.grade);
                    run.track = tracks.track_id(whose);
                    run.day = lo.ts.0.div_euclid(NS_PER_DAY);
                    note_move(&mut moved, run, left);
                }
            }
        }
        for (day, (gone, come)) in moved {
            let rows = self.of_day.entry(day).or_default();
            *rows = rows.saturating_add(come).saturating_sub(gone);
        }
    }
}

fn note_move(moved: &mut BTreeMap<(String, i64), (u64, u64)>, run: &Run, left: i64) {
    if run.day != left {
        moved.entry((run.kind.clone(), left)).or_default().0 += run.rows;
        moved.entry((run.kind.clone(), run.day)).or_default().1 += run.rows;
    }
}

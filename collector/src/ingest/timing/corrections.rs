//! Rows whose time a better clock track would change: those whose grade would rise, and those whose old time lies
//! outside the new interval. A bound that merely shrinks changes nothing.
//!
//! Nothing is rewritten here: what is due stands in `ops.corrections`, newest row per (device, epoch, boot, stream, day), from
//! which the correcting commit is made. Runs of rows are judged by their ends, so a run counts whole if one end would
//! change; the correcting commit looks at each row. What is judged is bounded: runs of up to a minute, of the last hour or
//! without a grade yet.

use crate::commit::cells::Cell;
use crate::commit::read::ScannedRows;
use crate::ingest::group::HeldRows;
use crate::resolve::{Amendment, ClockTracks, Incoming, Query, Resolved, amendment};
use headwater_core::id::{BootOrdinal, DeviceId, Epoch, StreamName};
use headwater_core::time::{BootNanos, ClockDomain, Grade, NS_PER_S, UtcNanos};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

mod done;

/// Boot time that one run may span: rows of one commit interval join those of the next up to it.
const RUN_NS_MAX: i64 = 60 * NS_PER_S;
/// A graded run this far behind the newest of its boot is judged no more: constraints reach 20 points, some 21 minutes.
const SETTLED_NS: i64 = 3_600 * NS_PER_S;
/// Runs of one boot; beyond it the two oldest of a stream and day are judged as one.
const RUNS_MAX: usize = 1_024;
/// Boots of one epoch whose runs are kept; older ones keep what is due of them.
const BOOTS_MAX: usize = 8;
const NS_PER_DAY: i64 = 86_400 * NS_PER_S;

type Owner = (DeviceId, Epoch);

/// An end of a run: the event, and the time it was given. A run read back after a restart knows the time of its rows' stamps
/// only, and is judged by its grade.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct End {
    event: BootNanos,
    ts: Option<UtcNanos>,
    half_ns: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Run {
    stream: StreamName,
    kind: String,
    day: i64,
    rows: u64,
    grade: Grade,
    track: i64,
    ends: [End; 2],
}

impl Run {
    fn joins(&self, next: &Self) -> bool {
        (&self.stream, &self.kind, self.day, self.grade, self.ends[0].ts.is_some())
            == (&next.stream, &next.kind, next.day, next.grade, next.ends[0].ts.is_some())
    }

    fn join(&mut self, next: &Self) {
        self.rows += next.rows;
        self.track = next.track;
        for end in next.ends {
            if end.event < self.ends[0].event {
                self.ends[0] = end;
            }
            if end.event > self.ends[1].event {
                self.ends[1] = end;
            }
        }
    }

    fn span_with(&self, next: &Self) -> i64 {
        self.ends[1].event.max(next.ends[1].event).since(self.ends[0].event.min(next.ends[0].event))
    }

    /// What a new answer for its ends changes: how far, ns, and the grade it would get.
    fn changed(&self, new: [Resolved; 2]) -> Option<(&'static str, i64, Grade)> {
        let grade = new[0].grade.min(new[1].grade);
        let stored = |at: Resolved, ts| Resolved { ts, grade: self.grade, ..at };
        let moved = |(end, at): (&End, Resolved)| {
            end.ts.map(|ts| (amendment(&stored(at, ts), &at) == Amendment::Moves, at.ts.since(ts)))
        };
        let farthest = self
            .ends
            .iter()
            .zip(new)
            .filter_map(moved)
            .max_by_key(|(moves, by)| (*moves, by.saturating_abs()));
        let (moves, by) = farthest.unwrap_or_default();
        match (grade > self.grade, moves) {
            (true, _) => Some(("grade_rises", by, grade)),
            (false, true) => Some(("outside", by, grade)),
            (false, false) => None,
        }
    }
}

/// What is due of one stream, boot and day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Due {
    /// As told last.
    rows: u64,
    /// Rows of runs that are judged no more.
    settled: u64,
    /// Those of them that the correction begun last is made for.
    begun: u64,
    /// What an earlier life told, and when: it judged more closely than this one can, which knows the ledger only.
    floor: u64,
    told_ns: i64,
}

impl Due {
    fn with(self, open: u64) -> u64 {
        self.floor.max(self.settled.saturating_add(open))
    }
}

pub(in crate::ingest) type Key = (DeviceId, Epoch, BootOrdinal, StreamName, String, i64);

/// A row of `ops.corrections` to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    key: Key,
    rows: u64,
    rows_of_day: u64,
    seen: Option<Seen>,
    track: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    reason: &'static str,
    shift_ns: i64,
    old: (Grade, i64),
    new: Grade,
    b: (BootNanos, BootNanos),
    t: Option<(UtcNanos, UtcNanos)>,
}

impl Change {
    pub(super) fn device(&self) -> &DeviceId {
        &self.key.0
    }

    /// Its columns beyond those every row of `ops.*` has.
    pub(super) fn cells(&self) -> Vec<(&'static str, Cell)> {
        let (_, epoch, boot, stream, kind, day) = &self.key;
        let seen = self.seen.as_ref();
        vec![
            ("epoch", epoch.to_string().into()),
            ("boot_ordinal", boot.0.into()),
            ("stream", stream.to_string().into()),
            ("kind", kind.as_str().into()),
            ("day", (*day).into()),
            ("rows", self.rows.into()),
            ("rows_of_day", self.rows_of_day.into()),
            ("reason", seen.map(|seen| seen.reason).into()),
            ("grade_old", seen.map(|seen| seen.old.0.as_str()).into()),
            ("grade_new", seen.map(|seen| seen.new.as_str()).into()),
            ("track_old", seen.map(|seen| seen.old.1).into()),
            ("track_new", self.track.into()),
            ("b_lo_ns", seen.map(|seen| seen.b.0.0).into()),
            ("b_hi_ns", seen.map(|seen| seen.b.1.0).into()),
            ("t_min_ns", seen.and_then(|seen| seen.t).map(|t| t.0.0).into()),
            ("t_max_ns", seen.and_then(|seen| seen.t).map(|t| t.1.0).into()),
            ("shift_ns", seen.map(|seen| seen.shift_ns).into()),
        ]
    }
}

#[derive(Debug, Default)]
struct BootRuns {
    runs: VecDeque<Run>,
    checked: Option<i64>,
}

/// What a look at all runs found.
#[derive(Debug, Default)]
pub(super) struct Recheck {
    /// What is due otherwise than it was told last.
    pub(super) changes: Vec<Change>,
    checked: Vec<(Owner, BootOrdinal, i64)>,
}

/// Runs that may still change, and what is due.
#[derive(Debug, Default)]
pub(super) struct Corrections {
    boots: BTreeMap<Owner, BTreeMap<BootOrdinal, BootRuns>>,
    due: BTreeMap<Key, Due>,
    /// Rows in the lake by table and day: what a correcting commit has to write again with those due.
    of_day: BTreeMap<(String, i64), u64>,
}

/// What a correcting commit would have to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Totals {
    /// Rows to be changed.
    pub(super) rows: u64,
    /// Rows in the partitions they lie in: all of these are written again.
    pub(super) rows_of_days: u64,
}

impl Corrections {
    /// Judges the runs of epochs whose tracks changed.
    pub(super) fn recheck(&self, tracks: &mut ClockTracks) -> Recheck {
        let mut found = Recheck::default();
        for (owner, boots) in &self.boots {
            let whose = |boot: BootOrdinal| Incoming { device: &owner.0, epoch: owner.1, boot };
            let ids: Vec<(BootOrdinal, i64)> =
                boots.keys().map(|boot| (*boot, tracks.track_id(whose(*boot)))).collect();
            // A boot's bounds may rest on its neighbours: one that changed has all of them judged.
            if boots.values().zip(&ids).all(|(runs, (_, id))| runs.checked == Some(*id)) {
                continue;
            }
            for ((boot, id), runs) in ids.into_iter().zip(boots.values()) {
                found.changes.extend(self.recheck_boot(whose(boot), runs, id, tracks));
                found.checked.push((owner.clone(), boot, id));
            }
        }
        found
    }

    fn recheck_boot(
        &self,
        whose: Incoming<'_>,
        runs: &BootRuns,
        track: i64,
        tracks: &ClockTracks,
    ) -> Vec<Change> {
        let answers = answers(&runs.runs, whose, tracks);
        let mut now: BTreeMap<Key, (u64, Option<Seen>)> = BTreeMap::new();
        for (run, new) in runs.runs.iter().zip(answers.chunks(2)) {
            let (Some(lo), Some(hi)) = (new.first(), new.get(1)) else { continue };
            let key = key_of(whose, run);
            let entry = now.entry(key).or_default();
            if let Some((reason, shift_ns, grade)) = run.changed([*lo, *hi]) {
                entry.0 += run.rows;
                entry.1 = Some(merged(entry.1, run, reason, shift_ns, grade));
            }
        }
        let changed = now.into_iter().filter_map(|(key, (open, seen))| {
            let known = self.due.get(&key).copied().unwrap_or_default();
            let rows = known.with(open);
            let rows_of_day = self.of_day.get(&(key.4.clone(), key.5)).copied().unwrap_or(0);
            (rows != known.rows).then_some(Change { key, rows, rows_of_day, seen, track })
        });
        changed.collect()
    }

    /// What was judged is in the lake.
    pub(super) fn apply(&mut self, found: Recheck) {
        for (owner, boot, id) in found.checked {
            if let Some(runs) = self.boots.get_mut(&owner).and_then(|boots| boots.get_mut(&boot)) {
                runs.checked = Some(id);
            }
        }
        for change in found.changes {
            let due = self.due.entry(change.key).or_default();
            due.rows = change.rows;
        }
        metrics::gauge!("headwater_corrections_due_rows").set(as_f64(self.totals().rows));
        metrics::gauge!("headwater_corrections_rows_to_write").set(as_f64(self.totals().rows_of_days));
    }

    /// Rows are in the lake, with these times.
    pub(super) fn committed(
        &mut self,
        held: &HeldRows,
        events: &[Query],
        resolved: &[Resolved],
        tracks: &mut ClockTracks,
    ) {
        if held.key.stream.as_str().starts_with("hw/") || held.rows.domain != ClockDomain::BOOT {
            return;
        }
        let whose =
            Incoming { device: &held.key.device, epoch: held.key.epoch, boot: held.rows.boot_ordinal };
        let track = tracks.track_id(whose);
        // Rows of one run and message may lie in two days.
        let mut days: BTreeMap<i64, Vec<(End, Grade)>> = BTreeMap::new();
        for (query, at) in events.iter().zip(resolved) {
            let end = End { event: query.event, ts: Some(at.ts), half_ns: query.half_ns };
            days.entry(at.ts.0.div_euclid(NS_PER_DAY)).or_default().push((end, at.grade));
        }
        for (day, rows) in days {
            let ends = rows.iter().map(|(end, _)| *end);
            let (Some(first), Some(last), Some(grade)) = (
                ends.clone().min_by_key(|end| end.event),
                ends.max_by_key(|end| end.event),
                rows.iter().map(|(_, grade)| *grade).min(),
            ) else {
                continue;
            };
            self.add(
                whose,
                Run {
                    stream: held.key.stream.clone(),
                    kind: held.schema.kind.to_string(),
                    day,
                    rows: rows.len() as u64,
                    grade,
                    track,
                    ends: [first, last],
                },
            );
        }
        let boots = self.boots.entry((held.key.device.clone(), held.key.epoch)).or_default();
        if let Some(runs) = boots.get_mut(&held.rows.boot_ordinal) {
            runs.checked = Some(track);
        }
    }

    fn add(&mut self, whose: Incoming<'_>, run: Run) {
        *self.of_day.entry((run.kind.clone(), run.day)).or_default() += run.rows;
        let boots = self.boots.entry((whose.device.clone(), whose.epoch)).or_default();
        let runs = &mut boots.entry(whose.boot).or_default().runs;
        let last = runs.iter_mut().rev().take(64).find(|last| last.joins(&run));
        match last {
            Some(last) if last.span_with(&run) <= RUN_NS_MAX => last.join(&run),
            _ => runs.push_back(run),
        }
        if runs.len() > RUNS_MAX {
            merge_oldest(runs);
        }
    }

    /// Lets go of runs whose times no later constraint can change; what is due of them stays due.
    pub(super) fn forget_settled(&mut self, tracks: &ClockTracks) {
        let mut settled: Vec<(Key, u64)> = Vec::new();
        for ((device, epoch), boots) in &mut self.boots {
            let mut over: Vec<(BootOrdinal, VecDeque<Run>)> = Vec::new();
            while boots.len() > BOOTS_MAX
                && let Some((boot, of_boot)) = boots.pop_first()
            {
                over.push((boot, of_boot.runs));
            }
            for (boot, of_boot) in boots.iter_mut() {
                let newest = of_boot.runs.iter().map(|run| run.ends[1].event).max();
                let is_over = |run: &Run| {
                    run.grade > Grade::OrderingOnly
                        && newest.is_some_and(|newest| newest.since(run.ends[1].event) > SETTLED_NS)
                };
                if of_boot.runs.iter().any(is_over) {
                    let (old, young) = std::mem::take(&mut of_boot.runs).into_iter().partition(is_over);
                    of_boot.runs = young;
                    over.push((*boot, old));
                }
            }
            for (boot, runs) in over {
                let whose = Incoming { device, epoch: *epoch, boot };
                let answers = answers(&runs, whose, tracks);
                for (run, new) in runs.iter().zip(answers.chunks(2)) {
                    if let (Some(lo), Some(hi)) = (new.first(), new.get(1))
                        && run.changed([*lo, *hi]).is_some()
                    {
                        settled.push((key_of(whose, run), run.rows));
                    }
                }
            }
        }
        for (key, rows) in settled {
            let due = self.due.entry(key).or_default();
            due.settled = due.settled.saturating_add(rows);
        }
        self.boots.retain(|_, boots| boots.values().any(|boot| !boot.runs.is_empty()));
    }

    pub(super) fn totals(&self) -> Totals {
        let mut days = BTreeSet::new();
        let mut rows = 0;
        for (key, due) in self.due.iter().filter(|(_, due)| due.rows > 0) {
            rows += due.rows;
            days.insert((key.4.clone(), key.5));
        }
        let rows_of_days = days.iter().filter_map(|day| self.of_day.get(day)).sum();
        Totals { rows, rows_of_days }
    }

    /// `still` rows of the ledger row have the times it says; a later correction changed the others.
    pub(super) fn restore_run(&mut self, rows: ScannedRows<'_>, row: usize, still: u64) -> Option<()> {
        let stream: StreamName = rows.text("stream", row)?.parse().ok()?;
        let boot_line = rows.text("domain", row)? == ClockDomain::BOOT.to_string();
        if stream.as_str().starts_with("hw/") || !boot_line {
            return None;
        }
        let device: DeviceId = rows.text("device", row)?.parse().ok()?;
        let epoch = rows.text("epoch", row)?.parse().ok()?;
        let boot = BootOrdinal(u32::try_from(rows.long("boot_ordinal", row)?).ok()?);
        let grade = grade(&rows.text("grade_worst", row)?)?;
        let end = |name| Some(End { event: BootNanos(rows.long(name, row)?), ts: None, half_ns: 0 });
        let run = Run {
            stream,
            kind: rows.text("kind", row)?,
            day: rows.long("t_min_ns", row)?.div_euclid(NS_PER_DAY),
            rows: rows.count("rows", row)?.min(still),
            grade,
            track: rows.long("track", row)?,
            ends: [end("b_lo_ns")?, end("b_hi_ns")?],
        };
        self.add(Incoming { device: &device, epoch, boot }, run);
        Some(())
    }

    /// The newest row of a key counts, in whatever order they come.
    pub(super) fn restore_due(&mut self, rows: ScannedRows<'_>, row: usize) -> Option<()> {
        // Rows about aligned tables have no epoch, boot and stream, and end here.
        let key = (
            rows.text("device", row)?.parse().ok()?,
            rows.text("epoch", row)?.parse().ok()?,
            BootOrdinal(u32::try_from(rows.long("boot_ordinal", row)?).ok()?),
            rows.text("stream", row)?.parse().ok()?,
            rows.text("kind", row)?,
            rows.long("day", row)?,
        );
        let (told_ns, rows) = (rows.long("ts_ns", row)?, rows.count("rows", row)?);
        let due = self.due.entry(key).or_default();
        if told_ns >= due.told_ns {
            *due = Due { rows, floor: rows, told_ns, ..Due::default() };
        }
        Some(())
    }
}

fn grade(name: &str) -> Option<Grade> {
    [Grade::OrderingOnly, Grade::Estimated, Grade::Guaranteed]
        .into_iter()
        .find(|grade| grade.as_str() == name)
}

fn key_of(whose: Incoming<'_>, run: &Run) -> Key {
    (whose.device.clone(), whose.epoch, whose.boot, run.stream.clone(), run.kind.clone(), run.day)
}

/// Two answers a run: for its first event and for its last.
fn answers(runs: &VecDeque<Run>, whose: Incoming<'_>, tracks: &ClockTracks) -> Vec<Resolved> {
    let query = |end: &End| Query { event: end.event, half_ns: end.half_ns };
    let queries: Vec<Query> = runs.iter().flat_map(|run| run.ends.iter().map(query)).collect();
    tracks.resolve(whose, &queries)
}

/// Two runs of one stream and day become one: the oldest and the next like it.
fn merge_oldest(runs: &mut VecDeque<Run>) {
    let pair = (0..runs.len()).find_map(|at| {
        let run = runs.get(at)?;
        let next = runs.iter().skip(at + 1).position(|next| run.joins(next))?;
        Some((at, at + 1 + next))
    });
    metrics::counter!("headwater_corrections_runs_merged_total").increment(1);
    match pair {
        Some((at, next)) => {
            if let Some(next) = runs.remove(next)
                && let Some(run) = runs.get_mut(at)
            {
                run.join(&next);
            }
        }
        None => drop(runs.pop_front()),
    }
}

fn merged(before: Option<Seen>, run: &Run, reason: &'static str, shift_ns: i64, new: Grade) -> Seen {
    let [lo, hi] = run.ends;
    let b = (lo.event, hi.event);
    let t = lo.ts.zip(hi.ts);
    match before {
        None => Seen { reason, shift_ns, old: (run.grade, run.track), new, b, t },
        Some(seen) => Seen {
            reason: if seen.reason == "grade_rises" { seen.reason } else { reason },
            shift_ns: if shift_ns.saturating_abs() > seen.shift_ns.saturating_abs() {
                shift_ns
            } else {
                seen.shift_ns
            },
            old: (seen.old.0.min(run.grade), run.track),
            new: seen.new.max(new),
            b: (seen.b.0.min(b.0), seen.b.1.max(b.1)),
            t: seen.t.zip(t).map(|(seen, t)| (seen.0.min(t.0), seen.1.max(t.1))).or(seen.t).or(t),
        },
    }
}

/// Gauges are floats; 2^53 is beyond any lake's rows.
#[expect(clippy::cast_precision_loss, reason = "a gauge beyond 2^53 may round")]
fn as_f64(n: u64) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolve::{Constraint, Statement};

    const S: i64 = NS_PER_S;
    const UTC0: i64 = 1_790_000_000 * S;

    fn device() -> DeviceId {
        "pi-1".parse().unwrap()
    }

    fn whose(device: &DeviceId) -> Incoming<'_> {
        Incoming { device, epoch: Epoch(7), boot: BootOrdinal(1) }
    }

    /// Exchanges of 10 ms each way, each 16 s over these seconds.
    fn exchanges(tracks: &mut ClockTracks, seconds: std::ops::Range<i64>) {
        exchanges_of(tracks, seconds, Grade::Guaranteed);
    }

    fn exchanges_of(tracks: &mut ClockTracks, seconds: std::ops::Range<i64>, grade: Grade) {
        let device = device();
        for at in seconds.step_by(16).map(|s| s * S) {
            let (t1, t4) = (BootNanos(at), BootNanos(at + S / 50));
            let utc = UtcNanos(UTC0 + at + S / 100);
            tracks.observe(
                whose(&device),
                Statement::Constraint(Constraint::Exchange {
                    sent: Some((t1, utc)),
                    answered: Some((t4, utc)),
                    e_c_ns: 1_000,
                    grade,
                }),
                None,
            );
        }
    }

    /// Ten rows over a second, timed `off_ns` from the truth.
    fn run(at_s: i64, off_ns: i64, grade: Grade) -> Run {
        let end = |at: i64| End { event: BootNanos(at), ts: Some(UtcNanos(UTC0 + at + off_ns)), half_ns: 0 };
        Run {
            stream: "imu".parse().unwrap(),
            kind: "imu".to_owned(),
            day: (UTC0 + at_s * S).div_euclid(NS_PER_DAY),
            rows: 10,
            grade,
            track: 1,
            ends: [end(at_s * S), end(at_s * S + S)],
        }
    }

    fn told(corrections: &mut Corrections, tracks: &mut ClockTracks) -> Vec<(u64, &'static str)> {
        let found = corrections.recheck(tracks);
        let seen = |change: &Change| (change.rows, change.seen.map_or("", |seen| seen.reason));
        let told = found.changes.iter().map(seen).collect();
        corrections.apply(found);
        told
    }

    #[test]
    fn a_time_that_left_its_interval_is_due_and_one_that_did_not_is_not() {
        let (mut corrections, mut tracks, device) =
            (Corrections::default(), ClockTracks::default(), device());
        exchanges(&mut tracks, 0..200);
        for (at, off) in [(50, 0), (60, 500_000_000), (70, 5_000_000)] {
            corrections.add(whose(&device), run(at, off, Grade::Guaranteed));
        }
        // 60 s and 70 s joined the run before them? A run spans a minute at most, so all three are one, judged by its ends.
        assert_eq!(
            corrections
                .boots
                .values()
                .flat_map(|boots| boots.values())
                .map(|boot| boot.runs.len())
                .sum::<usize>(),
            1
        );
        assert_eq!(told(&mut corrections, &mut tracks), [], "its ends are where they were");

        let mut corrections = Corrections::default();
        corrections.add(whose(&device), run(60, 500_000_000, Grade::Guaranteed));
        assert_eq!(told(&mut corrections, &mut tracks), [(10, "outside")]);
        assert_eq!(told(&mut corrections, &mut tracks), [], "told once");
        assert_eq!(corrections.totals(), Totals { rows: 10, rows_of_days: 10 });
    }

    #[test]
    fn a_grade_that_rises_is_due_and_what_was_settled_stays_due() {
        let (mut corrections, mut tracks, device) =
            (Corrections::default(), ClockTracks::default(), device());
        corrections.add(whose(&device), run(10, 0, Grade::Estimated));
        assert_eq!(told(&mut corrections, &mut tracks), []);
        exchanges(&mut tracks, 0..8_000);
        assert_eq!(told(&mut corrections, &mut tracks), [(10, "grade_rises")]);
        // Two hours on it is judged no more, and due all the same; so are rows that come due later.
        corrections.add(whose(&device), run(7_300, 0, Grade::Guaranteed));
        corrections.forget_settled(&tracks);
        let left: usize =
            corrections.boots.values().flat_map(|boots| boots.values()).map(|boot| boot.runs.len()).sum();
        assert_eq!(left, 1);
        corrections.add(whose(&device), run(7_400, 0, Grade::Estimated));
        exchanges(&mut tracks, 8_000..8_016);
        assert_eq!(told(&mut corrections, &mut tracks), [(20, "grade_rises")]);
        assert_eq!(corrections.totals().rows_of_days, 30);
    }

    #[test]
    fn what_comes_due_while_a_correction_is_prepared_is_due_after_it() {
        let (mut corrections, mut tracks, device) =
            (Corrections::default(), ClockTracks::default(), device());
        corrections.add(whose(&device), run(60, 0, Grade::OrderingOnly));
        exchanges_of(&mut tracks, 0..200, Grade::Estimated);
        assert_eq!(told(&mut corrections, &mut tracks), [(10, "grade_rises")]);
        let keys = corrections.due_on(|_| true);
        corrections.begin(&keys);
        let begun = tracks.of(&BTreeSet::from([(device.clone(), Epoch(7))]));

        // A better track while files are written: the same rows are due, as was told.
        exchanges(&mut tracks, 200..800);
        assert_eq!(told(&mut corrections, &mut tracks), []);
        corrections.corrected(&keys, &begun, 1);
        assert_eq!(corrections.totals().rows, 0, "as the commit says");
        assert_eq!(told(&mut corrections, &mut tracks), [(10, "grade_rises")]);
        let keys = corrections.due_on(|_| true);
        corrections.begin(&keys);
        corrections.corrected(&keys, &tracks, 2);
        assert_eq!(told(&mut corrections, &mut tracks), []);
        assert_eq!(corrections.totals().rows, 0);
    }

    #[test]
    fn what_settles_while_a_correction_is_prepared_stays_due() {
        let (mut corrections, mut tracks, device) =
            (Corrections::default(), ClockTracks::default(), device());
        exchanges(&mut tracks, 0..8_000);
        corrections.add(whose(&device), run(10, 0, Grade::Estimated));
        corrections.add(whose(&device), run(7_300, 0, Grade::Guaranteed));
        assert_eq!(told(&mut corrections, &mut tracks), [(10, "grade_rises")]);
        corrections.forget_settled(&tracks);
        let keys = corrections.due_on(|_| true);
        corrections.begin(&keys);
        corrections.add(whose(&device), run(100, 0, Grade::Estimated));
        corrections.forget_settled(&tracks);
        assert_eq!(keys.iter().map(|key| corrections.left_of(key)).collect::<Vec<_>>(), [10]);
        corrections.corrected(&keys, &tracks, 1);
        assert_eq!(corrections.totals().rows, 10);

        assert_eq!(corrections.due_on(|_| true), keys);
        corrections.begin(&keys);
        corrections.corrected(&keys, &tracks, 2);
        assert_eq!(corrections.totals().rows, 0);
    }

    #[test]
    fn rows_are_counted_whatever_is_merged() {
        let (mut corrections, mut tracks, device) =
            (Corrections::default(), ClockTracks::default(), device());
        // Each of another minute, so that none joins the one before it.
        for n in 0..i64::try_from(RUNS_MAX).unwrap() + 200 {
            corrections.add(whose(&device), Run { day: 5, ..run(n * 70, 0, Grade::OrderingOnly) });
        }
        let runs = &corrections.boots[&(device.clone(), Epoch(7))][&BootOrdinal(1)].runs;
        assert_eq!(runs.len(), RUNS_MAX);
        let rows: u64 = runs.iter().map(|run| run.rows).sum();
        assert_eq!(rows, 10 * (RUNS_MAX as u64 + 200));
        exchanges(&mut tracks, 0..80_000);
        assert_eq!(told(&mut corrections, &mut tracks), [(rows, "grade_rises")]);
    }
}

//! Samples of one column as far as later rows can need them: stamps as integers, fields made ready, and by boot line the
//! keys that instants are looked up in.

use super::cursor::{ROWS_MAX, row};
use super::error::AlignError;
use super::lines::Lines;
use super::metric::Instant;
use super::plan::ColumnPlan;
use super::prepare::Preparation;
use crate::recipe::{Column, Nulls};
use crate::sample::{Samples, Stamps};
use arrow_array::{Array, ArrayRef, BooleanArray, new_empty_array};
use std::collections::BTreeMap;

/// Resolved time after which a boot is not held by its last spine row any more: an hour, far beyond what two tracks of one
/// boot differ by.
const OVER_NS: i64 = 3_600_000_000_000;

/// The samples held.
#[derive(Debug)]
pub(super) struct Store {
    name: String,
    offset_ns: i64,
    nulls: Nulls,
    pub(super) stamps: Stamps,
    /// Prepared fields, as many rows as stamps once settled.
    pub(super) fields: Vec<ArrayRef>,
    pending: Vec<Vec<ArrayRef>>,
    /// Samples that were skipped, by line.
    skipped: BTreeMap<u32, Skipped>,
    /// Newest event of each line.
    newest: BTreeMap<u32, i64>,
    pub(super) lanes: Vec<Lane>,
    stale: bool,
}

/// Samples of one line.
#[derive(Debug, Default)]
pub(super) struct Lane {
    pub(super) line: u32,
    /// Rows in the store; `None` if all of them.
    rows: Option<Vec<u32>>,
    event: Vec<i64>,
    ts: Vec<i64>,
    /// Rows by resolved time, where that is another order.
    by_ts: Option<Vec<u32>>,
}

/// Sorted keys and the rows they stand for.
#[derive(Debug, Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) keys: &'a [i64],
    rows: Option<&'a [u32]>,
}

impl View<'_> {
    /// The row of a place.
    #[inline]
    pub(super) fn row(&self, place: usize) -> u32 {
        match self.rows {
            None => row(place),
            Some(rows) => rows[place],
        }
    }

    /// True if places are rows.
    pub(super) fn is_plain(&self) -> bool {
        self.rows.is_none()
    }
}

impl Store {
    pub(super) fn new(column: &Column, plan: &ColumnPlan) -> Self {
        let empty = |preparation: &Preparation| new_empty_array(&preparation.gives(&plan.input));
        Self {
            name: column.name.to_string(),
            offset_ns: column.offset_ns,
            nulls: column.nulls,
            stamps: Stamps::default(),
            fields: plan.held.iter().map(empty).collect(),
            pending: Vec::new(),
            skipped: BTreeMap::new(),
            newest: BTreeMap::new(),
            lanes: Vec::new(),
            stale: true,
        }
    }

    /// Takes samples in.
    pub(super) fn feed(
        &mut self,
        plan: &ColumnPlan,
        samples: Samples,
        lines: &Lines,
    ) -> Result<(), AlignError> {
        let Samples { mut stamps, values } = samples;
        let offset_ns = self.offset_ns;
        let shift = |time: i64| time.saturating_add(offset_ns);
        check_stamps(&self.name, &stamps, values.num_rows(), lines)?;
        if values.schema_ref().fields() != plan.input.fields() {
            return Err(AlignError::Schema { of: self.name.clone() });
        }
        check_order(&self.name, &stamps, &mut self.newest)?;
        let schema = || AlignError::Schema { of: self.name.clone() };
        let mut fields: Vec<ArrayRef> = Vec::with_capacity(plan.held.len());
        for preparation in &plan.held {
            fields.push(preparation.apply(values.columns()).ok_or_else(schema)?);
        }
        if self.nulls == Nulls::Skip
            && let Some(keep) = some_value(&values.columns()[..plan.fields.len()])
        {
            for field in &mut fields {
                *field = arrow_select::filter::filter(field, &keep)?;
            }
            for row in keep.iter().enumerate().filter(|(_, keep)| *keep == Some(false)).map(|(row, _)| row) {
                let at = (shift(stamps.event_ns[row]), shift(stamps.ts_ns[row]), stamps.seq[row]);
                self.skipped.entry(stamps.line[row]).or_default().push(at);
            }
            stamps.keep(&keep);
        }
        if stamps.is_empty() {
            return Ok(());
        }
        if self.stamps.len() + stamps.len() > ROWS_MAX {
            return Err(AlignError::TooMany { of: self.name.clone(), max: ROWS_MAX });
        }
        if offset_ns != 0 {
            stamps.event_ns.iter_mut().for_each(|time| *time = shift(*time));
            stamps.ts_ns.iter_mut().for_each(|time| *time = shift(*time));
        }
        self.stamps.append(stamps);
        self.pending.push(fields);
        self.stale = true;
        Ok(())
    }

    /// Makes what was fed searchable.
    pub(super) fn settle(&mut self) -> Result<(), AlignError> {
        if !self.pending.is_empty() {
            let held = std::mem::take(&mut self.fields);
            let mut chunks = Vec::with_capacity(self.pending.len() + 1);
            if held.first().is_some_and(|field| !field.is_empty()) {
                chunks.push(held);
            }
            chunks.append(&mut self.pending);
            self.fields = joined(chunks)?;
        }
        if std::mem::take(&mut self.stale) {
            self.lanes = lanes(&self.stamps);
        }
        Ok(())
    }

    /// What a lane is looked up in by event time.
    pub(super) fn by_event<'a>(&'a self, lane: &'a Lane) -> View<'a> {
        match &lane.rows {
            None => View { keys: &self.stamps.event_ns, rows: None },
            Some(rows) => View { keys: &lane.event, rows: Some(rows) },
        }
    }

    /// What a lane is looked up in by resolved time.
    pub(super) fn by_ts<'a>(&'a self, lane: &'a Lane) -> View<'a> {
        match (&lane.by_ts, &lane.rows) {
            (Some(rows), _) => View { keys: &lane.ts, rows: Some(rows) },
            (None, Some(rows)) => View { keys: &lane.ts, rows: Some(rows) },
            (None, None) => View { keys: &self.stamps.ts_ns, rows: None },
        }
    }

    /// What was skipped of a line.
    pub(super) fn skipped(&self, line: u32) -> Option<&Skipped> {
        self.skipped.get(&line)
    }

    /// Lines of which samples were skipped.
    pub(super) fn skipped_lines(&self) -> impl Iterator<Item = (u32, &Skipped)> {
        self.skipped.iter().map(|(line, skipped)| (*line, skipped))
    }

    /// When a sample was.
    #[inline]
    pub(super) fn instant(&self, row: u32) -> Instant {
        let row = row as usize;
        Instant {
            line: self.stamps.line[row],
            event_ns: self.stamps.event_ns[row],
            half_ns: self.stamps.half_ns[row],
            ts_ns: self.stamps.ts_ns[row],
            err_ns: self.stamps.err_ns[row],
        }
    }

    /// Lets go of what no row at or after the floors can need. Lines that gave spine rows have a floor of their own, as
    /// long as they are not over.
    pub(super) fn let_go(&mut self, ts_ns: i64, event_ns: &BTreeMap<u32, i64>, behind_ns: i64) {
        let stamps = &self.stamps;
        let ts_ns = ts_ns.saturating_sub(behind_ns);
        let floor_of = |line: u32| event_ns.get(&line).map(|event| event.saturating_sub(behind_ns));
        for (line, skipped) in &mut self.skipped {
            skipped.let_go(ts_ns, floor_of(*line));
        }
        let is_old = |row: usize, floor: Option<i64>| {
            let is_over = stamps.ts_ns[row] < ts_ns.saturating_sub(OVER_NS);
            stamps.ts_ns[row] < ts_ns && (is_over || floor.is_none_or(|floor| stamps.event_ns[row] < floor))
        };
        if let [lane] = self.lanes.as_slice() {
            let floor = floor_of(lane.line);
            let old = (0..stamps.len()).take_while(|row| is_old(*row, floor)).count();
            let keep_from = two_groups_back(&stamps.event_ns, old);
            // Moving what stays is paid by what goes.
            if keep_from > 0 && keep_from * 2 >= stamps.len() {
                let stay = stamps.len() - keep_from;
                self.fields = self.fields.iter().map(|field| field.slice(keep_from, stay)).collect();
                self.stamps.drop_first(keep_from);
                self.stale = true;
            }
            return;
        }
        let mut kept: BTreeMap<u32, (u32, i64)> = BTreeMap::new();
        let mut keep = vec![true; stamps.len()];
        for row in (0..stamps.len()).rev().filter(|row| is_old(*row, floor_of(stamps.line[*row]))) {
            let event = stamps.event_ns[row];
            let (groups, last) = kept.entry(stamps.line[row]).or_insert((0, event));
            if *groups == 0 || *last != event {
                (*groups, *last) = (groups.saturating_add(1), event);
            }
            keep[row] = *groups <= 2;
        }
        let stay = keep.iter().filter(|keep| **keep).count();
        if stay * 2 > stamps.len() {
            return;
        }
        let keep = BooleanArray::from(keep);
        let filtered = self.fields.iter().map(|field| arrow_select::filter::filter(field, &keep));
        // What cannot be thinned is held on: memory, not truth.
        if let Ok(fields) = filtered.collect() {
            self.fields = fields;
            self.stamps.keep(&keep);
            self.stale = true;
        }
    }
}

/// Samples of nulls only that are no candidates. That they are there tells where something is missing: between a match and
/// what follows it, and not behind that.
#[derive(Debug, Default)]
pub(super) struct Skipped {
    event: Vec<i64>,
    ts: Vec<i64>,
    seq: Vec<u64>,
    ts_disordered: bool,
}

/// Key and seq of a sample that was skipped.
pub(super) type Mark = (i64, u64);

impl Skipped {
    fn push(&mut self, (event_ns, ts_ns, seq): (i64, i64, u64)) {
        self.ts_disordered |= self.ts.last().is_some_and(|last| ts_ns < *last);
        self.event.push(event_ns);
        self.ts.push(ts_ns);
        self.seq.push(seq);
    }

    /// The last before a time and the first at or after it: of event if `same` line, else of UTC.
    pub(super) fn about(&self, same: bool, time_ns: i64) -> (Option<Mark>, Option<Mark>) {
        let keys = if same { &self.event } else { &self.ts };
        let mark = |at: usize| Some((*keys.get(at)?, *self.seq.get(at)?));
        if same || !self.ts_disordered {
            let at = keys.partition_point(|key| *key < time_ns);
            return (at.checked_sub(1).and_then(mark), mark(at));
        }
        let before = (0..keys.len()).filter(|at| keys[*at] < time_ns).max_by_key(|at| (keys[*at], *at));
        let after = (0..keys.len()).filter(|at| keys[*at] >= time_ns).min_by_key(|at| (keys[*at], *at));
        (before.and_then(mark), after.and_then(mark))
    }

    /// The first of all, by its UTC.
    pub(super) fn first(&self) -> Option<Mark> {
        Some((*self.ts.first()?, *self.seq.first()?))
    }

    /// Lets go of what lies below the floors, but for the last of it.
    fn let_go(&mut self, ts_ns: i64, event_ns: Option<i64>) {
        let is_old = |at: &usize| {
            let is_over = self.ts[*at] < ts_ns.saturating_sub(OVER_NS);
            self.ts[*at] < ts_ns && (is_over || event_ns.is_none_or(|floor| self.event[*at] < floor))
        };
        let old = (0..self.ts.len()).take_while(is_old).count().saturating_sub(1);
        // Moving what stays is paid by what goes.
        if old > 0 && old.saturating_mul(2) >= self.ts.len() {
            self.event.drain(..old);
            self.ts.drain(..old);
            self.seq.drain(..old);
        }
    }
}

/// Where the two last groups of equal keys before `end` begin.
fn two_groups_back(keys: &[i64], end: usize) -> usize {
    let start = |end: usize| end.checked_sub(1).map_or(0, |last| super::cursor::group_start(keys, last));
    start(start(end))
}

/// Rows with any value among the selected; `None` if that is all of them.
fn some_value(selected: &[ArrayRef]) -> Option<BooleanArray> {
    if selected.is_empty() || selected.iter().any(|field| field.null_count() == 0) {
        return None;
    }
    let rows = selected.first().map_or(0, |field| field.len());
    let keep: BooleanArray =
        (0..rows).map(|row| Some(selected.iter().any(|field| field.is_valid(row)))).collect();
    (keep.true_count() < rows).then_some(keep)
}

pub(super) fn joined(chunks: Vec<Vec<ArrayRef>>) -> Result<Vec<ArrayRef>, AlignError> {
    if chunks.len() == 1 {
        return Ok(chunks.into_iter().next().unwrap_or_default());
    }
    let fields = chunks.first().map_or(0, Vec::len);
    let join = |field: usize| {
        let parts: Vec<&dyn Array> =
            chunks.iter().filter_map(|chunk| chunk.get(field)).map(AsRef::as_ref).collect();
        arrow_select::concat::concat(&parts)
    };
    (0..fields).map(join).collect::<Result<_, _>>().map_err(AlignError::from)
}

fn lanes(stamps: &Stamps) -> Vec<Lane> {
    let Some(first) = stamps.line.first() else { return Vec::new() };
    if stamps.line.iter().all(|line| line == first) {
        let mut lane = Lane { line: *first, ..Lane::default() };
        if !stamps.ts_ns.is_sorted() {
            let rows: Vec<u32> = (0..stamps.len()).map(row).collect();
            lane.sort_by_ts(rows, stamps);
        }
        return vec![lane];
    }
    let mut rows: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for (place, line) in stamps.line.iter().enumerate() {
        rows.entry(*line).or_default().push(row(place));
    }
    let lane = |(line, rows): (u32, Vec<u32>)| {
        let pick = |column: &[i64]| rows.iter().map(|row| column[*row as usize]).collect::<Vec<i64>>();
        let (event, ts) = (pick(&stamps.event_ns), pick(&stamps.ts_ns));
        let sorted = ts.is_sorted();
        let mut lane = Lane { line, event, ts, ..Lane::default() };
        if !sorted {
            lane.sort_by_ts(rows.clone(), stamps);
        }
        lane.rows = Some(rows);
        lane
    };
    rows.into_iter().map(lane).collect()
}

impl Lane {
    fn sort_by_ts(&mut self, mut rows: Vec<u32>, stamps: &Stamps) {
        rows.sort_by_key(|row| (stamps.ts_ns[*row as usize], *row));
        self.ts = rows.iter().map(|row| stamps.ts_ns[*row as usize]).collect();
        self.by_ts = Some(rows);
    }
}

/// Stamps have one length, as many as values, and name known lines.
pub(super) fn check_stamps(of: &str, stamps: &Stamps, rows: usize, lines: &Lines) -> Result<(), AlignError> {
    let lengths = [
        stamps.line.len(),
        stamps.event_ns.len(),
        stamps.half_ns.len(),
        stamps.err_ns.len(),
        stamps.seq.len(),
    ];
    if lengths.iter().any(|length| *length != stamps.len())
        || stamps.grade.len() != stamps.len()
        || rows != stamps.len()
    {
        return Err(AlignError::Ragged { of: of.to_owned() });
    }
    let known = lines.as_slice().len();
    match stamps.line.iter().find(|line| **line as usize >= known) {
        Some(line) => Err(AlignError::Line { of: of.to_owned(), line: *line, known }),
        None => Ok(()),
    }
}

/// Events never go back on their line.
pub(super) fn check_order(
    of: &str,
    stamps: &Stamps,
    newest: &mut BTreeMap<u32, i64>,
) -> Result<(), AlignError> {
    let (mut line, mut last) = (u32::MAX, i64::MIN);
    for (row, (at, event)) in stamps.line.iter().zip(&stamps.event_ns).enumerate() {
        if *at != line {
            if row > 0 {
                newest.insert(line, last);
            }
            (line, last) = (*at, newest.get(at).copied().unwrap_or(i64::MIN));
        }
        if *event < last {
            return Err(AlignError::Unsorted { of: of.to_owned(), row });
        }
        last = *event;
    }
    if !stamps.is_empty() {
        newest.insert(line, last);
    }
    Ok(())
}

//! Samples of one stream of one epoch in memory: stamps and values as columns, in the order that no wall clock can
//! disturb (boot, event time, seq).

use arrow_array::{Array, ArrayRef, new_null_array};
use arrow_buffer::BooleanBuffer;
use arrow_schema::ArrowError;
use headwater_align::sample::Stamps;
use headwater_core::id::BootOrdinal;
use headwater_core::time::BootNanos;
use std::sync::Arc;

/// Samples kept per column and stream: half an hour of a 250 Hz sensor. A spine row older than what was let go is
/// aligned from the raw tables instead.
pub const COLUMN_SAMPLES_MAX: usize = 500_000;

/// Values of the selected fields, in order of the selection; none where nobody has declared the field yet.
pub type Values = Vec<Option<ArrayRef>>;

/// A run of samples as it comes. `stamps.line` holds the boot ordinal.
#[derive(Debug, Clone)]
pub struct Run {
    /// When.
    pub stamps: Stamps,
    /// What.
    pub values: Values,
}

/// A place on the boot lines of an epoch; orders its samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Boot.
    pub boot: BootOrdinal,
    /// Event time, boot ns.
    pub event_ns: i64,
    /// Tie-break.
    pub seq: u64,
}

/// Samples of one stream of one epoch.
#[derive(Debug, Clone, Default)]
pub struct Buffer {
    /// How many of the fields, the first, make a sample one that holds a value.
    selected: usize,
    stamps: Stamps,
    values: Values,
    /// When each was taken in, on the collector's own boot line.
    since: Vec<BootNanos>,
    /// Per sample, the newest at or before it that holds a value, plus one; 0 is none.
    held_before: Vec<u32>,
    /// Per sample, the oldest at or after it that holds a value; the length is none.
    held_after: Vec<u32>,
    /// Greatest UTC up to each sample, and least from each on: two boots may overlap within their errors.
    ts_upto: Vec<i64>,
    ts_from: Vec<i64>,
    fresh: Vec<(Run, BootNanos)>,
    half_max_ns: i64,
    /// Below what nothing is held here, though it may be in the raw tables.
    dropped: Option<Dropped>,
}

/// An end of what is held: older samples were let go, or were not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dropped {
    /// The newest seq of them.
    pub seq: u64,
    /// They lie before this UTC, ns.
    pub ts_ns: i64,
}

impl Buffer {
    /// Without samples yet; those hold a value that have one in the first `selected` fields.
    #[must_use]
    pub fn new(selected: usize) -> Self {
        Self { selected, ..Self::default() }
    }

    /// Adds samples; [`Buffer::settle`] sorts them in.
    pub fn add(&mut self, run: Run, since: BootNanos) {
        if !run.stamps.is_empty() {
            let widest = run.stamps.half_ns.iter().copied().max().unwrap_or(0);
            self.half_max_ns = self.half_max_ns.max(widest);
            self.fresh.push((run, since));
        }
    }

    /// Sorts in what was added; a sample that came twice is kept once.
    ///
    /// # Errors
    /// When values of one field differ in type, which only a bug does.
    pub fn settle(&mut self) -> Result<(), ArrowError> {
        if self.fresh.is_empty() {
            return Ok(());
        }
        let mut runs = vec![(
            Run { stamps: std::mem::take(&mut self.stamps), values: std::mem::take(&mut self.values) },
            std::mem::take(&mut self.since),
        )];
        runs.extend(self.fresh.drain(..).map(|(run, since)| {
            let n = run.stamps.len();
            (run, vec![since; n])
        }));
        let mut stamps = Stamps::default();
        for (run, _) in &runs {
            extend(&mut stamps, &run.stamps);
        }
        let since: Vec<BootNanos> = runs.iter().flat_map(|(_, since)| since.iter().copied()).collect();
        let parts: Vec<(&Values, usize)> =
            runs.iter().map(|(run, _)| (&run.values, run.stamps.len())).collect();
        let values = concat(&parts)?;
        let place = |at: usize| (stamps.line[at], stamps.event_ns[at], stamps.seq[at]);
        let mut order: Vec<usize> = (0..stamps.len()).collect();
        if !order.is_sorted_by_key(|at| place(*at)) {
            order.sort_by_key(|at| place(*at));
        }
        order.dedup_by_key(|at| stamps.seq[*at]);
        self.keep(&stamps, &values, &since, &order)
    }

    /// Holds these of the samples, in this order.
    fn keep(
        &mut self,
        stamps: &Stamps,
        values: &Values,
        since: &[BootNanos],
        order: &[usize],
    ) -> Result<(), ArrowError> {
        let whole = order.len() == stamps.len() && order.iter().enumerate().all(|(at, of)| at == *of);
        self.values = if whole { values.clone() } else { take(values, order)? };
        self.stamps = if whole { stamps.clone() } else { pick(stamps, order) };
        self.since = order.iter().filter_map(|at| since.get(*at).copied()).collect();
        self.index();
        Ok(())
    }

    fn index(&mut self) {
        let n = self.stamps.len();
        let held = held(self.values.get(..self.selected).unwrap_or(&self.values), n);
        let place = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        let mut last = 0;
        self.held_before = (0..n)
            .map(|at| {
                if held.value(at) {
                    last = place(at).saturating_add(1);
                }
                last
            })
            .collect();
        let mut next = place(n);
        self.held_after = vec![0; n];
        let (mut least, mut greatest) = (i64::MAX, i64::MIN);
        self.ts_from = vec![0; n];
        for at in (0..n).rev() {
            if held.value(at) {
                next = place(at);
            }
            self.held_after[at] = next;
            least = least.min(self.stamps.ts_ns[at]);
            self.ts_from[at] = least;
        }
        self.ts_upto = self
            .stamps
            .ts_ns
            .iter()
            .map(|ts| {
                greatest = greatest.max(*ts);
                greatest
            })
            .collect();
    }

    /// Their stamps, in order; `line` holds the boot ordinal.
    #[must_use]
    pub fn stamps(&self) -> &Stamps {
        &self.stamps
    }

    /// Their values, in order.
    #[must_use]
    pub fn values(&self) -> &Values {
        &self.values
    }

    /// When a sample was taken in.
    #[must_use]
    pub fn since(&self, at: usize) -> BootNanos {
        self.since.get(at).copied().unwrap_or(BootNanos(0))
    }

    /// Says since when samples have been here: filling again must not put a timeout off.
    pub fn set_since(&mut self, of: impl Fn(u64) -> Option<BootNanos>) {
        for (since, seq) in self.since.iter_mut().zip(&self.stamps.seq) {
            *since = of(*seq).map_or(*since, |known| known.min(*since));
        }
    }

    /// Number of samples, settled ones.
    #[must_use]
    pub fn len(&self) -> usize {
        self.stamps.len()
    }

    /// True without samples.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.stamps.is_empty() && self.fresh.is_empty()
    }

    /// True if nothing was added since it was settled.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.fresh.is_empty()
    }

    /// Widest half width of a sample there was, ns.
    #[must_use]
    pub fn half_max_ns(&self) -> i64 {
        self.half_max_ns
    }

    /// Place of a sample.
    #[must_use]
    pub fn place(&self, at: usize) -> Option<Place> {
        let (boot, event_ns) = (*self.stamps.line.get(at)?, *self.stamps.event_ns.get(at)?);
        Some(Place { boot: BootOrdinal(boot), event_ns, seq: *self.stamps.seq.get(at)? })
    }

    /// Number of samples at or before a moment of a boot.
    #[must_use]
    pub fn upto(&self, boot: BootOrdinal, event_ns: i64) -> usize {
        partition(self.len(), |at| (self.stamps.line[at], self.stamps.event_ns[at]) <= (boot.0, event_ns))
    }

    /// Number of samples that lie, with all before them, before a UTC, ns.
    #[must_use]
    pub fn before_utc(&self, ts_ns: i64) -> usize {
        self.ts_upto.partition_point(|ts| *ts < ts_ns)
    }

    /// First sample that lies, with all after it, after a UTC, ns; the length if there is none.
    #[must_use]
    pub fn after_utc(&self, ts_ns: i64) -> usize {
        self.ts_from.partition_point(|ts| *ts <= ts_ns)
    }

    /// The newest sample below `end` that holds a value (any, if nulls count).
    #[must_use]
    pub fn newest_below(&self, end: usize, takes_nulls: bool) -> Option<usize> {
        let last = end.checked_sub(1)?;
        if takes_nulls {
            return (last < self.len()).then_some(last);
        }
        usize::try_from(*self.held_before.get(last)?).ok()?.checked_sub(1)
    }

    /// The oldest sample from `start` on that holds a value (any, if nulls count).
    #[must_use]
    pub fn oldest_from(&self, start: usize, takes_nulls: bool) -> Option<usize> {
        if takes_nulls {
            return (start < self.len()).then_some(start);
        }
        usize::try_from(*self.held_after.get(start)?).ok().filter(|at| *at < self.len())
    }

    /// What was let go: nothing can be said of instants whose need reaches below it.
    #[must_use]
    pub fn dropped(&self) -> Option<Dropped> {
        self.dropped
    }

    /// Notes that older samples are not held here.
    pub fn let_go_below(&mut self, dropped: Dropped) {
        self.dropped = Some(match self.dropped {
            Some(known) => Dropped { seq: known.seq.max(dropped.seq), ts_ns: known.ts_ns.max(dropped.ts_ns) },
            None => dropped,
        });
    }

    /// Lets the oldest go above `max`, but for the newest of them that holds a value: it says that the stream has values
    /// before what is held.
    ///
    /// # Errors
    /// As [`Buffer::settle`].
    pub fn trim(&mut self, max: usize) -> Result<(), ArrowError> {
        let Some(surplus) = self.len().checked_sub(max).filter(|surplus| *surplus > 0) else { return Ok(()) };
        self.let_go(surplus)
    }

    /// Lets the first `n` go, as [`Buffer::trim`] does.
    ///
    /// # Errors
    /// As [`Buffer::settle`].
    pub fn let_go(&mut self, n: usize) -> Result<(), ArrowError> {
        let anchor = self.newest_below(n, false);
        let last = n.checked_sub(1);
        if let Some((seq, ts_ns)) =
            last.and_then(|last| self.stamps.seq.get(last).zip(self.ts_upto.get(last)))
        {
            self.let_go_below(Dropped { seq: *seq, ts_ns: *ts_ns });
        }
        let order: Vec<usize> = anchor.into_iter().chain(n..self.len()).collect();
        self.retain(&order)
    }

    /// Holds only these, given in order.
    ///
    /// # Errors
    /// As [`Buffer::settle`].
    pub fn retain(&mut self, order: &[usize]) -> Result<(), ArrowError> {
        if order.len() == self.len() {
            return Ok(());
        }
        let (stamps, values, since) = (
            std::mem::take(&mut self.stamps),
            std::mem::take(&mut self.values),
            std::mem::take(&mut self.since),
        );
        self.keep(&stamps, &values, &since, order)
    }
}

/// The number of leading places of which `is_in` holds.
fn partition(n: usize, is_in: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, n);
    while low < high {
        let middle = usize::midpoint(low, high);
        if is_in(middle) {
            low = middle.saturating_add(1);
        } else {
            high = middle;
        }
    }
    low
}

/// Which samples hold a value in any field. Without fields every sample does: that it was there is all that is asked.
fn held(values: &[Option<ArrayRef>], n: usize) -> BooleanBuffer {
    let mut any: Option<BooleanBuffer> = None;
    for array in values.iter().flatten() {
        let valid = match array.logical_nulls() {
            Some(nulls) => nulls.inner().clone(),
            None => return BooleanBuffer::new_set(n),
        };
        any = Some(match any {
            Some(any) => &any | &valid,
            None => valid,
        });
    }
    any.unwrap_or_else(|| {
        if values.is_empty() { BooleanBuffer::new_set(n) } else { BooleanBuffer::new_unset(n) }
    })
}

/// Adds stamps at the end.
pub(super) fn extend(to: &mut Stamps, from: &Stamps) {
    to.line.extend_from_slice(&from.line);
    to.event_ns.extend_from_slice(&from.event_ns);
    to.half_ns.extend_from_slice(&from.half_ns);
    to.ts_ns.extend_from_slice(&from.ts_ns);
    to.err_ns.extend_from_slice(&from.err_ns);
    to.grade.extend_from_slice(&from.grade);
    to.seq.extend_from_slice(&from.seq);
}

/// The stamps at these places.
pub(super) fn pick(of: &Stamps, order: &[usize]) -> Stamps {
    fn at<T: Copy>(of: &[T], order: &[usize]) -> Vec<T> {
        order.iter().filter_map(|at| of.get(*at).copied()).collect()
    }
    Stamps {
        line: at(&of.line, order),
        event_ns: at(&of.event_ns, order),
        half_ns: at(&of.half_ns, order),
        ts_ns: at(&of.ts_ns, order),
        err_ns: at(&of.err_ns, order),
        grade: at(&of.grade, order),
        seq: at(&of.seq, order),
    }
}

/// The values at these places.
pub(super) fn take(values: &Values, order: &[usize]) -> Result<Values, ArrowError> {
    let places: arrow_array::UInt64Array = order.iter().map(|at| *at as u64).collect();
    let one = |array: &ArrayRef| arrow_select::take::take(array.as_ref(), &places, None);
    values.iter().map(|array| array.as_ref().map(one).transpose()).collect()
}

/// Values one after another; a field that some do not have is null there.
pub(super) fn concat(parts: &[(&Values, usize)]) -> Result<Values, ArrowError> {
    let fields = parts.iter().map(|(values, _)| values.len()).max().unwrap_or(0);
    let mut out = Vec::with_capacity(fields);
    for field in 0..fields {
        let of = |values: &Values| values.get(field).cloned().flatten();
        let Some(kind) =
            parts.iter().find_map(|(values, _)| of(values)).map(|array| array.data_type().clone())
        else {
            out.push(None);
            continue;
        };
        let arrays: Vec<ArrayRef> = parts
            .iter()
            .filter(|(_, n)| *n > 0)
            .map(|(values, n)| of(values).unwrap_or_else(|| new_null_array(&kind, *n)))
            .collect();
        let arrays: Vec<&dyn Array> = arrays.iter().map(Arc::as_ref).collect();
        out.push(Some(if arrays.is_empty() {
            new_null_array(&kind, 0)
        } else {
            arrow_select::concat::concat(&arrays)?
        }));
    }
    Ok(out)
}
